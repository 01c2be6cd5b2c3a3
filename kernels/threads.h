/* threads.h: how many threads to use, and three ways to start them: OpenMP, pthreads where the
 * build has no OpenMP, or a callback of the program (gqa_run_parallel). */
#ifndef GQA_THREADS_H
#define GQA_THREADS_H

#include "../model.h" /* for gqa_run_parallel */

/* Physical cores that the affinity mask (and a cgroup CPU quota, rounded up) allows; at least 1. */
int gqa_threads_default(void);

typedef struct gqa_threads gqa_threads;

/* At most max threads, the calling one included. run: NULL, or the callback to use instead of
 * threads of the library. NULL: no memory. */
gqa_threads *gqa_threads_new(int max, gqa_run_parallel run, void *user);
void gqa_threads_free(gqa_threads *t);

/* Calls fn(arg, i) for i < n <= max, each on a thread of its own, and returns when all have
 * returned. With a callback they may also run one after another, in any order. If the system gives
 * fewer threads, some are not called; fn(arg, 0) always is. */
void gqa_threads_run(gqa_threads *t, int n, void (*fn)(void *arg, int thread), void *arg);

#endif
