/* threads.c: see threads.h. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_* */
#include "threads.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#else
#include <pthread.h>
#endif

#include "../base/base.h"

/* ---- how many ------------------------------------------------------------------------------- */

/* The first number in a file, or a default. */
static long number_in_file(const char *path, long otherwise) {
    long value = otherwise;
    FILE *f = fopen(path, "r");
    if (!f) return otherwise;
    if (fscanf(f, "%ld", &value) != 1) value = otherwise;
    fclose(f);
    return value;
}

/* CPUs' worth of time that the control group may use, rounded up; 0: no limit. */
static int cgroup_limit(void) {
    long quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!f) return 0;
    int n = fscanf(f, "%ld %ld", &quota, &period);
    fclose(f);
    return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

/* Threads of one core share its arithmetic units: a second one only slows the first. So cores are
 * counted, not CPUs. 0: unknown. */
static int allowed_cores(void) {
#ifdef __linux__
    cpu_set_t set;
    int cores = 0, limit = cgroup_limit();
    struct { long package, core; } seen[CPU_SETSIZE];
    if (sched_getaffinity(0, sizeof set, &set)) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[96];
        const char *topology = "/sys/devices/system/cpu/cpu%d/topology/%s";
        if (!CPU_ISSET(cpu, &set)) continue;
        snprintf(path, sizeof path, topology, cpu, "core_id");
        long core = number_in_file(path, cpu);
        snprintf(path, sizeof path, topology, cpu, "physical_package_id");
        long package = number_in_file(path, 0);
        int known = 0;
        for (int i = 0; i < cores; i++) known |= seen[i].package == package && seen[i].core == core;
        if (known) continue;
        seen[cores].package = package;
        seen[cores].core = core;
        cores++;
    }
    return limit > 0 ? min_int(cores, limit) : cores;
#else
    return 0;
#endif
}

int gqa_threads_default(void) {
    int n = allowed_cores();
    if (n < 1) n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return max_int(n, 1);
}

/* ---- starting them -------------------------------------------------------------------------- */

#ifdef _OPENMP

struct gqa_threads {
    gqa_run_parallel run;
    void *user;
};

gqa_threads *gqa_threads_new(int max, gqa_run_parallel run, void *user) {
    gqa_threads *t = malloc(sizeof *t);
    (void)max;
    if (t) *t = (gqa_threads){run, user};
    return t;
}

void gqa_threads_free(gqa_threads *t) { free(t); }

static void run_on_own(gqa_threads *t, int n, void (*fn)(void *arg, int thread), void *arg) {
    (void)t;
#pragma omp parallel num_threads(n)
    fn(arg, omp_get_thread_num());
}

#else

/* Helpers are started when first needed, and wait between runs. */
typedef struct thread_helper {
    pthread_t thread;
    gqa_threads *owner;
    int index;              /* 1 for the first: the calling thread is 0 */
    unsigned runs_seen;
} thread_helper;

struct gqa_threads {
    gqa_run_parallel run;
    void *user;
    pthread_mutex_t lock;   /* of all below */
    pthread_cond_t begin, end;
    unsigned runs;          /* begun */
    int n, running;         /* threads of this run; helpers still in it */
    void (*fn)(void *arg, int thread);
    void *arg;
    int quit;
    int n_helpers;
    thread_helper helpers[]; /* [max - 1] */
};

gqa_threads *gqa_threads_new(int max, gqa_run_parallel run, void *user) {
    gqa_threads *t = calloc(1, sizeof *t + (size_t)(max - 1) * sizeof t->helpers[0]);
    if (!t) return NULL;
    t->run = run;
    t->user = user;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->begin, NULL);
    pthread_cond_init(&t->end, NULL);
    return t;
}

void gqa_threads_free(gqa_threads *t) {
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    t->quit = 1;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->n_helpers; i++) pthread_join(t->helpers[i].thread, NULL);
    pthread_cond_destroy(&t->begin);
    pthread_cond_destroy(&t->end);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static void *thread_helper_main(void *arg) {
    thread_helper *me = arg;
    gqa_threads *t = me->owner;
    pthread_mutex_lock(&t->lock);
    while (!t->quit) {
        if (me->runs_seen == t->runs) {
            pthread_cond_wait(&t->begin, &t->lock);
            continue;
        }
        me->runs_seen = t->runs;
        if (me->index >= t->n) continue;
        pthread_mutex_unlock(&t->lock);
        t->fn(t->arg, me->index); /* no new run begins before this one has ended */
        pthread_mutex_lock(&t->lock);
        if (--t->running == 0) pthread_cond_signal(&t->end);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* Up to n helpers; without signals, which are for the program's threads. */
static void start_helpers(gqa_threads *t, int n) {
    sigset_t all, before;
    if (t->n_helpers >= n) return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; t->n_helpers < n; t->n_helpers++) {
        thread_helper *h = &t->helpers[t->n_helpers];
        *h = (thread_helper){.owner = t, .index = t->n_helpers + 1, .runs_seen = t->runs};
        if (pthread_create(&h->thread, NULL, thread_helper_main, h)) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void run_on_own(gqa_threads *t, int n, void (*fn)(void *arg, int thread), void *arg) {
    start_helpers(t, n - 1);
    pthread_mutex_lock(&t->lock);
    t->n = min_int(n, t->n_helpers + 1);
    t->running = t->n - 1;
    t->fn = fn;
    t->arg = arg;
    t->runs++;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    fn(arg, 0);
    pthread_mutex_lock(&t->lock);
    while (t->running) pthread_cond_wait(&t->end, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

#endif

void gqa_threads_run(gqa_threads *t, int n, void (*fn)(void *arg, int thread), void *arg) {
    if (n == 1) fn(arg, 0);
    else if (t->run) t->run(t->user, n, fn, arg);
    else run_on_own(t, n, fn, arg);
}
