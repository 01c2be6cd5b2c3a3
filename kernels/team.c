/* team.c: see team.h. One atomic word holds the state of the team,
 *
 *     | phase: 16 bits | units done: 24 bits | units handed out: 24 bits |
 *
 * and a thread that ends its units and takes others changes it once, by compare and swap. It takes a run of neighbours, its
 * share of half of what is left: long runs first, so that weights are read in long streams, single units at the end, so that
 * all threads end together (guided self-scheduling, Polychronopoulos & Kuck 1987). Whoever ends the last unit opens the next
 * phase in the same step; nobody has to arrive anywhere. Waiting threads spin a little, then give their
 * processor away, then sleep, so that a team larger than the machine still makes progress. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_* */
#include "team.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

struct gqa_team {
    int max_threads;
    int spins;                            /* before a waiting thread yields */
    _Alignas(64) _Atomic uint64_t state;
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

/* Threads of one core share its arithmetic units: a second one only slows the first. A CPU counts
 * when it is the lowest allowed of its core. */
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

void gqa_team_run(gqa_team *team, int n_threads, void (*fn)(gqa_worker *w, void *arg), void *arg) {
    int n = n_threads < team->max_threads ? n_threads : team->max_threads;
    atomic_store(&team->state, 0);
#ifdef _OPENMP
    if (n > 1) {
#pragma omp parallel num_threads(n)
        fn(&(gqa_worker){.team = team, .id = omp_get_thread_num(), .n = omp_get_num_threads()}, arg);
        return;
    }
#endif
    (void)n;
    fn(&(gqa_worker){.team = team, .id = 0, .n = 1}, arg);
}

static uint64_t state_of(unsigned phase, unsigned done, unsigned handed_out) {
    return (uint64_t)(phase & 0xffff) << 48 | (uint64_t)done << 24 | handed_out;
}
static unsigned phase_in(uint64_t state) { return (unsigned)(state >> 48); }
static unsigned done_in(uint64_t state) { return (unsigned)(state >> 24) & 0xffffff; }
static unsigned handed_out_in(uint64_t state) { return (unsigned)state & 0xffffff; }

static void wait_for_end(const gqa_worker *w) {
    gqa_team *team = w->team;
    for (int i = 0; phase_in(atomic_load_explicit(&team->state, memory_order_acquire)) == w->phase; i++) {
        if (i < team->spins) pause_cpu();
        else if (i < team->spins + 1000) sched_yield();
        else nanosleep(&(struct timespec){0, 50000}, NULL);
    }
}

/* Gives back the run of `finished` units and takes another, or sees the phase to its end and
 * returns -1. */
static int exchange(gqa_worker *w, unsigned finished) {
    unsigned n = (unsigned)w->n_units, done = 0, unit = 0, take = 0;
    uint64_t before = atomic_load_explicit(&w->team->state, memory_order_acquire), after;
    do {
        if (phase_in(before) != w->phase) break;
        done = done_in(before) + finished;
        unit = handed_out_in(before);
        take = unit < n ? (n - unit + 2 * (unsigned)w->n - 1) / (2 * (unsigned)w->n) : 0;
        if (done < n && unit < n) after = state_of(w->phase, done, unit + take);
        else if (done < n) after = state_of(w->phase, done, unit);
        else after = state_of(w->phase + 1, 0, 0);
    } while (!atomic_compare_exchange_weak_explicit(&w->team->state, &before, after, memory_order_acq_rel,
                                                    memory_order_acquire));
    if (phase_in(before) == w->phase) {
        if (done < n && unit < n) {
            w->begin = w->unit = (int)unit;
            w->end = (int)(unit + take);
            return w->unit;
        }
        if (done < n) wait_for_end(w);
    }
    w->phase = (w->phase + 1) & 0xffff;
    return -1;
}

int gqa_unit_first(gqa_worker *w, int n_units) {
    w->n_units = w->end = n_units;
    w->begin = w->unit = 0;
    if (w->n > 1) return exchange(w, 0);
    return n_units > 0 ? 0 : -1;
}

int gqa_unit_next(gqa_worker *w) {
    if (++w->unit < w->end) return w->unit;
    return w->n > 1 ? exchange(w, (unsigned)(w->end - w->begin)) : -1;
}
