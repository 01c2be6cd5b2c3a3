/* threads.h: how many threads to use, and ways to start them: OpenMP, the system's own,
 * or a callback of the program (gqa_run_parallel). */
#ifndef GQA_THREADS_H
#define GQA_THREADS_H

#include "../model.h" /* for gqa_run_parallel */

/* Physical cores that the process may use by its affinity mask, its CPU quota and, in a build with
 * OpenMP, OMP_NUM_THREADS and OMP_THREAD_LIMIT; at least 1. */
int gqa_threads_default(void);
/* Whether n is a number of threads that may be asked for. 0, or GQA_ERR_ARGUMENT. */
int gqa_check_threads(int n, gqa_error *err);

typedef struct gqa_threads gqa_threads;

/* At most max threads, the calling one included. run: NULL, or the callback to use instead of
 * threads of the library. NULL: no memory. */
gqa_threads *gqa_threads_new(int max, gqa_run_parallel run, void *user);
void gqa_threads_free(gqa_threads *t);
/* How many there really are; the first call, or the first run, starts them. */
int gqa_threads_count(gqa_threads *t);

/* Calls fn(arg, i) for i < n <= max, each on a thread of its own, and returns when all have
 * returned. With a callback they may also run one after another, in any order. Without, a thread
 * that is not there, or not awake before fn(arg, 0) has returned, does not call it. */
void gqa_threads_run(gqa_threads *t, int n, void (*fn)(void *arg, int thread), void *arg);

/* One round, counted from 0, of waiting for something that is soon: spins, then yields, then
 * sleeps. */
void gqa_threads_wait(const gqa_threads *t, int round);

#endif
