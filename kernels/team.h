/* team.h: a team of threads that walks through a computation together. One OpenMP parallel region holds the whole
 * computation; inside it every thread runs the same code, takes units of work from a shared counter, and meets the
 * others at light spin barriers. Without OpenMP a team is one thread.
 *
 *     static void work(gqa_worker *w, void *arg) {
 *         for (int u = gqa_unit_first(w); u < n_units; u = gqa_unit_next(w)) compute(u);
 *         gqa_barrier(w);            // everybody's units are done; the counter is back at its start
 *         ...
 *     }
 *     gqa_team_run(team, n_threads, work, arg);
 *
 * Units, not threads, decide which sums are formed, so results do not depend on the number of threads. */
#ifndef GQA_TEAM_H
#define GQA_TEAM_H

typedef struct gqa_team gqa_team;
typedef struct gqa_worker {
    gqa_team *team;
    int id, n;      /* this thread, of how many */
    int unit;       /* private to team.c */
    int phase;
} gqa_worker;

/* Physical cores that the affinity mask (and a cgroup CPU quota, rounded up) allows; at least 1. */
int gqa_threads_default(void);

gqa_team *gqa_team_new(int max_threads);  /* NULL: no memory */
void gqa_team_free(gqa_team *team);
/* Runs fn on min(n_threads, max_threads) threads, or fewer if the system gives fewer; returns when all are done. */
void gqa_team_run(gqa_team *team, int n_threads, void (*fn)(gqa_worker *w, void *arg), void *arg);

/* Every unit 0, 1, 2, ... is handed to exactly one thread. After a loop over units comes a gqa_barrier. */
int gqa_unit_first(gqa_worker *w);
int gqa_unit_next(gqa_worker *w);
/* All threads have arrived. Spins briefly, then yields, then sleeps, so that it survives an oversubscribed machine. */
void gqa_barrier(gqa_worker *w);

#endif
