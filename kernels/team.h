/* team.h: a team of threads that goes through a computation together. Every thread runs the same
 * function, a sequence of phases; a phase is a loop over units of work:
 *
 *     static void work(gqa_worker *me, void *arg) {
 *         for_units(u, me, n_units) compute(u);
 *         for_units(u, me, n_others) ...        // every compute(u) of the phase above is done
 *     }
 *     gqa_team_run(team, n_threads, work, arg);
 *
 * Every unit is given to exactly one thread, which gets its units in ascending order, and the loop
 * ends, for all threads, when all units are done. There is no barrier: a phase does not wait for
 * threads. One that was descheduled while it held no unit finds, when it comes back, that phases
 * have passed without it; their loops are empty for it until it has caught up.
 * (docs/performance.md, "A busy machine", has the numbers.) So code between the loops must not
 * depend on the phase that others are in: it may only read what no unit changes. A thread may also
 * return early; when the calling one (id 0) does, threads that have not begun yet never do.
 *
 * Units, not threads, decide which sums are formed, so results do not depend on the number of
 * threads, nor on whether they run at the same time. */
#ifndef GQA_TEAM_H
#define GQA_TEAM_H

#include "threads.h"

typedef struct gqa_team gqa_team;
typedef struct gqa_worker {
    gqa_team *team;
    int id, n;      /* this thread, of at most n */
    unsigned phase; /* the phase it is in, from 0; the rest is private to team.c as well */
    int n_units, begin, unit, end; /* it holds units begin..end-1, and works on `unit` */
} gqa_worker;

/* NULL: no memory. run: NULL, or how to run threads other than the library's (model.h). A team may
 * be used by one thread at a time. */
gqa_team *gqa_team_new(int max_threads, gqa_run_parallel run, void *user);
void gqa_team_free(gqa_team *team);
/* How many of max_threads the system gives. */
int gqa_team_threads(gqa_team *team);
/* Runs fn on min(n_threads, max_threads) threads, or fewer if the system gives fewer; returns when
 * all are done. fn goes through fewer than 65,536 phases. */
void gqa_team_run(gqa_team *team, int n_threads, void (*fn)(gqa_worker *me, void *arg), void *arg);

enum { GQA_MAX_UNITS = 1 << 24 };
/* Opens the next phase, of 0 <= n_units < GQA_MAX_UNITS units (every thread passes the same
 * number), and gives a unit to do, or -1 when the phase is over. */
int gqa_unit_first(gqa_worker *me, int n_units);
/* Its unit is done; gives the next one, or -1 when all units of the phase are done. Waits for those
 * that others hold: spins briefly, then yields, then sleeps. */
int gqa_unit_next(gqa_worker *me);
/* A phase: u takes each unit in turn that this thread is given. */
#define for_units(u, me, n) for (int u = gqa_unit_first(me, n); u >= 0; u = gqa_unit_next(me))

#endif
