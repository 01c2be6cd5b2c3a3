/* pthread_team.c: kernels/team.c with threads that ThreadSanitizer sees: it does not know how OpenMP's begin and end. Every run
 * uses all threads of the team, however small the work, so that small models show races too. Linked before the library, it
 * takes team.c's place (make tsan). */
#include "../kernels/team.h"

static void run_with_openmp(gqa_team *team, int n_threads, void (*fn)(gqa_worker *w, void *arg), void *arg);
#define gqa_team_run run_with_openmp
#include "../kernels/team.c"
#undef gqa_team_run

#include <pthread.h>

enum { MOST_THREADS = 64 };

typedef struct part {
    gqa_worker worker;
    void (*fn)(gqa_worker *w, void *arg);
    void *arg;
} part;

static void *run_part(void *arg) {
    part *p = arg;
    p->fn(&p->worker, p->arg);
    return NULL;
}

void gqa_team_run(gqa_team *team, int n_threads, void (*fn)(gqa_worker *w, void *arg), void *arg) {
    part parts[MOST_THREADS];
    pthread_t threads[MOST_THREADS];
    int n = team->max_threads < MOST_THREADS ? team->max_threads : MOST_THREADS, started = 1;
    (void)n_threads;
    (void)run_with_openmp;
    atomic_store(&team->state, 0);
    for (int i = 0; i < n; i++) parts[i] = (part){{.team = team, .id = i, .n = n}, fn, arg};
    while (started < n && !pthread_create(&threads[started], NULL, run_part, &parts[started])) started++;
    run_part(&parts[0]); /* those that could not be started are like threads that never come */
    for (int i = 1; i < started; i++) pthread_join(threads[i], NULL);
}
