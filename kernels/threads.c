/* threads.c: see threads.h. The helpers of a team wait in one loop: awake for some 50 microseconds,
 * in which the next token mostly comes, then asleep. One word holds the state,
 *
 *     | runs begun: 32 bits | seats, 0 between runs: 16 bits | helpers inside: 16 bits |
 *
 * and a helper takes its seat in a run by compare and swap: a run that ends before a sleeping
 * helper is awake does not wait for it.
 *
 * OpenMP starts the helpers, in one parallel region that lasts as long as the team, in which a
 * thread that sleeps has the calling thread's place. So nothing waits inside of OpenMP, whose
 * threads spin for milliseconds, taken from other programs and from the work itself; and no thread
 * of the program owns an OpenMP team, for which a forked child would wait for ever. OpenMP ends the
 * program when a thread cannot be started: it is only asked to when the system has just given
 * twice as many; else those that came are the helpers. */
#include "threads.h"

#include <stdatomic.h>
#include <stdlib.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "../base/base.h"

/* ---- how many ------------------------------------------------------------------------------- */

int gqa_threads_default(void) {
    int n = min_int(gqa_os_cores(), gqa_cgroup_cpus(""));
#ifdef _OPENMP
    n = min_int(n, min_int(omp_get_max_threads(), omp_get_thread_limit()));
#endif
    return max_int(n, 1);
}

int gqa_check_threads(int n, gqa_error *err) {
    if (n >= 0 && n <= 1024) return 0;
    return gqa_fail(err, GQA_ERR_ARGUMENT, "n_threads %d: expected 0 to 1024", n);
}

/* ---- helpers -------------------------------------------------------------------------------- */

typedef struct thread_helper {
    gqa_os_thread thread;
    gqa_threads *owner;
    int index;               /* 1 for the first: the calling thread is 0 */
} thread_helper;

struct gqa_threads {
    gqa_run_parallel run;
    void *user;
    int max;
    int spins;               /* before a waiting thread yields or sleeps */
    void (*fn)(void *arg, int thread);
    void *arg;
    long process;            /* in which the helpers were started: a forked child has none */
    int n_helpers;           /* -1: OpenMP has not yet said */
    _Alignas(8) _Atomic uint64_t state;
    atomic_int kept, asleep; /* helpers above `kept` end; those that wait for `monitor` */
    gqa_os_monitor monitor;
    int n_started;
    thread_helper started[]; /* [2 * max - 1] */
};

static uint64_t run_state(uint64_t run, uint64_t seats) { return run << 32 | seats << 16; }
static uint32_t run_in(uint64_t state) { return (uint32_t)(state >> 32); }
static int seats_in(uint64_t state) { return state >> 16 & 0xffff; }
static int inside_in(uint64_t state) { return state & 0xffff; }

gqa_threads *gqa_threads_new(int max, gqa_run_parallel run, void *user) {
    gqa_threads *t = calloc(1, sizeof *t + (2 * (size_t)max - 1) * sizeof t->started[0]);
    if (!t) return NULL;
    t->run = run;
    t->user = user;
    t->max = max;
    t->spins = max > gqa_threads_default() ? 50 : 4000;
    return t;
}

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void gqa_threads_wait(const gqa_threads *t, int round) {
    if (round < t->spins) pause_cpu();
    else if (round < t->spins + 1000) gqa_os_yield();
    else gqa_os_sleep(50);
}

static void wake_all(gqa_threads *t) {
    gqa_os_lock(&t->monitor);
    gqa_os_wake_all(&t->monitor);
    gqa_os_unlock(&t->monitor);
}

static int must_wait(gqa_threads *t, int index, uint32_t seen) {
    return run_in(atomic_load(&t->state)) == seen && index <= atomic_load(&t->kept);
}

static void wait_for_run(gqa_threads *t, int index, uint32_t seen) {
    for (int i = 0; i < t->spins; i++) {
        if (!must_wait(t, index, seen)) return;
        pause_cpu();
    }
    gqa_os_lock(&t->monitor);
    atomic_fetch_add(&t->asleep, 1);
    while (must_wait(t, index, seen)) gqa_os_wait(&t->monitor);
    atomic_fetch_sub(&t->asleep, 1);
    gqa_os_unlock(&t->monitor);
}

static void help(gqa_threads *t, int index) {
    uint32_t seen = 0;
#ifdef _OPENMP
    gqa_os_unbind_thread();
#endif
    while (index <= atomic_load(&t->kept)) {
        uint64_t state = atomic_load(&t->state);
        if (run_in(state) == seen) {
            wait_for_run(t, index, seen);
        } else if (index >= seats_in(state)) {
            seen = run_in(state);
        } else if (atomic_compare_exchange_weak(&t->state, &state, state + 1)) {
            seen = run_in(state);
            t->fn(t->arg, index);
            atomic_fetch_sub(&t->state, 1);
        }
    }
}

static void helper_main(void *arg) {
    const thread_helper *me = arg;
    help(me->owner, me->index);
}

/* As many threads as come, up to n. */
static void start_threads(gqa_threads *t, int n, void (*main)(void *arg)) {
    for (; t->n_started < n; t->n_started++) {
        thread_helper *h = &t->started[t->n_started];
        *h = (thread_helper){.owner = t, .index = t->n_started + 1};
        if (gqa_os_thread_start(&h->thread, main, h)) break;
    }
}

static void end_threads(gqa_threads *t, int kept) {
    atomic_store(&t->kept, kept);
    wake_all(t);
    while (t->n_started > kept) gqa_os_thread_join(&t->started[--t->n_started].thread);
}

#ifdef _OPENMP
/* Not where its threads would be other than those of a probe: bound, perhaps to CPUs that are not
 * there, with larger stacks, or short of the memory that malloc reserves in each. Nor in a static
 * program: OpenMP's threads end by themselves, by an unwinding that aborts once glibc's exit() has
 * taken the tables for it away. */
static int openmp_can_be_probed(void) {
#ifdef GQA_STATIC
    return 0;
#else
    if (getenv("OMP_STACKSIZE") || getenv("GOMP_STACKSIZE") || getenv("KMP_STACKSIZE")) return 0;
    if (gqa_os_memory_is_limited()) return 0;
    return omp_get_proc_bind() == omp_proc_bind_false;
#endif
}

static void hold_seat(gqa_threads *t) {
    gqa_os_lock(&t->monitor);
    t->n_helpers = omp_get_num_threads() - 1;
    gqa_os_wake_all(&t->monitor);
    while (atomic_load(&t->kept)) gqa_os_wait(&t->monitor);
    gqa_os_unlock(&t->monitor);
}

static void region_main(void *arg) {
    gqa_threads *t = ((thread_helper *)arg)->owner;
#pragma omp parallel num_threads(t->max)
    if (omp_get_thread_num() == 0) hold_seat(t);
    else help(t, omp_get_thread_num());
}

/* OpenMP's threads in place of those that were started to see whether they would be. */
static void start_region(gqa_threads *t) {
    end_threads(t, 0);
    atomic_store(&t->kept, t->max - 1);
    t->n_helpers = -1;
    start_threads(t, 1, region_main);
    if (!t->n_started) t->n_helpers = 0;
}
#endif

/* Starts the helpers if this process has not: those that are there take part in what runs. */
static void start_helpers(gqa_threads *t) {
    int wanted = t->max - 1, probed = wanted;
    if (t->process == gqa_os_process()) return;
    t->process = gqa_os_process();
    t->n_started = 0;
    atomic_store(&t->asleep, 0);
    atomic_store(&t->state, run_state(run_in(atomic_load(&t->state)), 0));
    gqa_os_monitor_init(&t->monitor);
#ifdef _OPENMP
    if (openmp_can_be_probed()) probed *= 2;
#endif
    atomic_store(&t->kept, probed);
    start_threads(t, probed, helper_main);
#ifdef _OPENMP
    if (probed > wanted && t->n_started == probed) {
        start_region(t);
        return;
    }
#endif
    if (t->n_started > wanted) end_threads(t, wanted);
    t->n_helpers = t->n_started;
}

int gqa_threads_count(gqa_threads *t) {
    if (t->run || t->max == 1) return t->max;
    start_helpers(t);
    gqa_os_lock(&t->monitor);
    while (t->n_helpers < 0) gqa_os_wait(&t->monitor);
    int n = t->n_helpers + 1;
    gqa_os_unlock(&t->monitor);
    return n;
}

void gqa_threads_free(gqa_threads *t) {
    if (t && t->process == gqa_os_process()) {
        end_threads(t, 0);
        gqa_os_monitor_free(&t->monitor);
    }
    free(t);
}

static void run_on_helpers(gqa_threads *t, int n, void (*fn)(void *arg, int thread), void *arg) {
    start_helpers(t);
    uint32_t run = run_in(atomic_load(&t->state)) + 1;
    t->fn = fn;
    t->arg = arg;
    atomic_store(&t->state, run_state(run, (uint64_t)n));
    if (atomic_load(&t->asleep)) wake_all(t);
    fn(arg, 0);
    atomic_fetch_and(&t->state, ~run_state(0, 0xffff));
    for (int i = 0; inside_in(atomic_load(&t->state)); i++) gqa_threads_wait(t, i);
}

void gqa_threads_run(gqa_threads *t, int n, void (*fn)(void *arg, int thread), void *arg) {
#ifdef _OPENMP
    if (!t->run && omp_in_parallel()) n = 1;  /* the program has set all threads to work */
#endif
    if (t->run && n > 1) t->run(t->user, n, fn, arg);
    else if (n > 1) run_on_helpers(t, n, fn, arg);
    else fn(arg, 0);
}
