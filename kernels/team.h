/* team.h: a team of threads that walks through a computation together. One OpenMP parallel region holds the whole
 * computation; inside it every thread runs the same code, a row of phases. A phase is a loop over units of work:
 *
 *     static void work(gqa_worker *me, void *arg) {
 *         for_units(u, me, n_units) compute(u);
 *         for_units(u, me, n_others) ...        // here every compute(u) of the phase above is done
 *     }
 *     gqa_team_run(team, n_threads, work, arg);
 *
 * Every unit is handed to exactly one thread, which gets its units in ascending order, and the loop ends, for all threads, when all units are done. It does not
 * wait for threads: one that the system took away while it held no unit finds, when it comes back, that phases have
 * passed without it; their loops are empty for it until it has caught up. So what stands between the loops must not
 * depend on the phase others are in: it may only read what no unit changes. A thread may also return early.
 *
 * Units, not threads, decide which sums are formed, so results do not depend on the number of threads. Without OpenMP a
 * team is one thread. */
#ifndef GQA_TEAM_H
#define GQA_TEAM_H

typedef struct gqa_team gqa_team;
typedef struct gqa_worker {
    gqa_team *team;
    int id, n;      /* this thread, of how many */
    unsigned phase; /* the phase it is in, from 0; the rest is private to team.c as well */
    int n_units, begin, unit, end; /* begin..end-1: the run of units it holds, unit: the one it works on */
} gqa_worker;

/* Physical cores that the affinity mask (and a cgroup CPU quota, rounded up) allows; at least 1. */
int gqa_threads_default(void);

gqa_team *gqa_team_new(int max_threads);  /* NULL: no memory */
void gqa_team_free(gqa_team *team);
/* Runs fn on min(n_threads, max_threads) threads, or fewer if the system gives fewer; returns
 * when all are done. */
void gqa_team_run(gqa_team *team, int n_threads, void (*fn)(gqa_worker *me, void *arg), void *arg);

/* Opens the next phase, of 0 <= n_units < 2^24 units (every thread passes the same number), and
 * gives a unit to do, or -1 when the phase is over. */
int gqa_unit_first(gqa_worker *w, int n_units);
/* The unit it had is done; the next one, or -1 when all units of the phase are done. Waits for
 * those that others hold: spins briefly, then yields, then sleeps. */
int gqa_unit_next(gqa_worker *w);
/* A phase: u takes each unit in turn that this thread is given. */
#define for_units(u, me, n) for (int u = gqa_unit_first(me, n); u >= 0; u = gqa_unit_next(me))

#endif
