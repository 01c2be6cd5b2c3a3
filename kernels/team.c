/* team.c: see team.h. The barrier is a counter of arrivals and a generation number; waiting threads spin a little, then
 * give their processor away, then sleep, so that a team larger than the machine still makes progress. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_* */
#include "team.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

struct gqa_team {
    int max_threads, n;
    int spins;                            /* before a waiting thread yields */
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int generation;
    _Alignas(64) atomic_int next_unit[2]; /* used in turn, so that one can be reset while the other is in use */
};

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int read_number(const char *path, long *a, long *b) {
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    int n = b ? fscanf(f, "%ld %ld", a, b) : fscanf(f, "%ld", a);
    fclose(f);
    return n;
}

/* Threads of one core share its arithmetic units: a second one only slows the first. A CPU counts when it is the lowest
 * allowed of its core. */
static int allowed_cores(void) {
#ifdef __linux__
    cpu_set_t set;
    int cores = 0;
    struct { long package, core; } seen[CPU_SETSIZE];
    if (sched_getaffinity(0, sizeof set, &set)) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[96];
        long package = 0, core = cpu;
        if (!CPU_ISSET(cpu, &set)) continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/core_id", cpu);
        read_number(path, &core, NULL);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
        read_number(path, &package, NULL);
        int known = 0;
        for (int i = 0; i < cores; i++) known |= seen[i].package == package && seen[i].core == core;
        if (!known) seen[cores].package = package, seen[cores++].core = core;
    }
    long quota, period;
    if (read_number("/sys/fs/cgroup/cpu.max", &quota, &period) == 2 && quota > 0 && period > 0) {
        int limit = (int)((quota + period - 1) / period);
        if (cores > limit) cores = limit;
    }
    return cores;
#else
    return 0;
#endif
}

int gqa_threads_default(void) {
    int n = allowed_cores();
    if (n < 1) n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n;
}

gqa_team *gqa_team_new(int max_threads) {
    gqa_team *t = aligned_alloc(64, (sizeof *t + 63) & ~(size_t)63);
    if (!t) return NULL;
    memset(t, 0, sizeof *t);
    t->max_threads = max_threads < 1 ? 1 : max_threads;
    t->spins = t->max_threads > gqa_threads_default() ? 50 : 4000;
    return t;
}

void gqa_team_free(gqa_team *team) { free(team); }

static void join(gqa_team *team, int id, void (*fn)(gqa_worker *w, void *arg), void *arg) {
    gqa_worker w = {.team = team, .id = id, .n = team->n};
    fn(&w, arg);
}

void gqa_team_run(gqa_team *team, int n_threads, void (*fn)(gqa_worker *w, void *arg), void *arg) {
    int n = n_threads < team->max_threads ? n_threads : team->max_threads;
    atomic_store(&team->next_unit[0], 0);
    atomic_store(&team->next_unit[1], 0);
    atomic_store(&team->arrived, 0);
    team->n = 1;
#ifdef _OPENMP
    if (n > 1) {
#pragma omp parallel num_threads(n)
        {
#pragma omp single
            team->n = omp_get_num_threads(); /* the system may give fewer; the implied barrier shows it to all */
            join(team, omp_get_thread_num(), fn, arg);
        }
        return;
    }
#endif
    (void)n;
    join(team, 0, fn, arg);
}

int gqa_unit_next(gqa_worker *w) {
    if (w->n == 1) return w->unit++;
    return atomic_fetch_add_explicit(&w->team->next_unit[w->phase & 1], 1, memory_order_relaxed);
}

int gqa_unit_first(gqa_worker *w) { return gqa_unit_next(w); }

static void wait_for(gqa_team *team, int generation) {
    for (int i = 0; atomic_load_explicit(&team->generation, memory_order_acquire) == generation; i++) {
        if (i < team->spins) pause_cpu();
        else if (i < team->spins + 1000) sched_yield();
        else nanosleep(&(struct timespec){0, 50000}, NULL);
    }
}

void gqa_barrier(gqa_worker *w) {
    gqa_team *team = w->team;
    w->unit = 0;
    w->phase++;
    if (w->n == 1) return;
    int generation = atomic_load_explicit(&team->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 < w->n) {
        wait_for(team, generation);
        return;
    }
    /* The last to arrive: nobody takes units now. The counter of the next phase was reset at the barrier before. */
    atomic_store_explicit(&team->next_unit[(w->phase + 1) & 1], 0, memory_order_relaxed);
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&team->generation, generation + 1, memory_order_release);
}
