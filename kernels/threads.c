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
#define _GNU_SOURCE /* sched_getaffinity, CPU_* */
#include "threads.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#include <sys/resource.h>
#endif

#include "../base/base.h"

/* ---- how many ------------------------------------------------------------------------------- */

/* Reads numbers[n] from a file; whether they are there. */
static int read_numbers(const char *path, int n, long long *numbers) {
    int got = 0;
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    while (got < n && fscanf(f, "%lld", &numbers[got]) == 1) got++;
    fclose(f);
    return got == n;
}

enum { GROUP_PATH = 4096 };

/* CPUs of the quota in a control group's folder, by v2's names or v1's; INT_MAX: no quota. */
static int group_quota(const char *folder) {
    char path[GROUP_PATH + 32];
    long long quota[2];  /* time, period */
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    int known = read_numbers(path, 2, quota);
    if (!known) {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
        known = read_numbers(path, 1, quota);
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        known = known && read_numbers(path, 1, quota + 1);
    }
    if (!known || quota[0] <= 0 || quota[1] <= 0) return INT_MAX;
    long long cpus = quota[0] / quota[1];
    return cpus < 1 ? 1 : cpus < INT_MAX ? (int)cpus : INT_MAX;
}

/* The smallest quota of a group and of all above it, below the folder ROOT/sys/fs/cgroupMOUNT. In a
 * container the group's path may be the host's: then the lower folders are not there. */
static int smallest_quota(const char *root, const char *mount, const char *group) {
    char folder[GROUP_PATH];
    int top = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s", root, mount);
    int end = top + snprintf(folder + top, sizeof folder - (size_t)top, "%s", group);
    int quota = INT_MAX;
    if (end >= GROUP_PATH) return quota;
    while (end >= top) {
        folder[end] = 0;
        quota = min_int(quota, group_quota(folder));
        do end--;
        while (end > top && folder[end] != '/');
    }
    return quota;
}

/* Whether "cpu" is in a list that ends in a colon: "cpuset:", "cpu,cpuacct:". */
static int names_cpu(const char *list) {
    for (;;) {
        size_t length = strcspn(list, ",:");
        if (length == 3 && !memcmp(list, "cpu", 3)) return 1;
        if (list[length] != ',') return 0;
        list += length + 1;
    }
}

int gqa_cgroup_cpus(const char *root) {
    char line[GROUP_PATH];
    int quota = INT_MAX;
    snprintf(line, sizeof line, "%s/proc/self/cgroup", root);
    FILE *f = fopen(line, "r");
    if (!f) return quota;
    while (fgets(line, sizeof line, f)) {  /* ID:CONTROLLERS:/GROUP; v2 names no controllers */
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        group++;
        group[strcspn(group, "\n")] = 0;
        if (controllers + 2 == group) {
            quota = min_int(quota, smallest_quota(root, "", group));
            quota = min_int(quota, smallest_quota(root, "/unified", group));
        } else if (names_cpu(controllers + 1)) {
            quota = min_int(quota, smallest_quota(root, "/cpu", group));
        }
    }
    fclose(f);
    return quota;
}

#ifdef __linux__
/* The CPUs that the calling thread may use. OpenMP binds the first thread of a program before main
 * if OMP_PROC_BIND or OMP_PLACES say so: then those of all its places. Nonzero: unknown. */
static int allowed_cpus(cpu_set_t *set) {
    if (sched_getaffinity(0, sizeof *set, set)) return -1;
#ifdef _OPENMP
    int places = omp_get_proc_bind() == omp_proc_bind_false ? 0 : omp_get_num_places();
    for (int place = 0; place < places; place++) {
        int ids[CPU_SETSIZE], n = omp_get_place_num_procs(place);
        if (n > CPU_SETSIZE) return -1;
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < n; i++)
            if (ids[i] < CPU_SETSIZE) CPU_SET(ids[i], set);
    }
#endif
    return 0;
}
#endif

/* Threads of one core share its arithmetic units: a second one only slows the first. So cores are
 * counted, not CPUs. 0: unknown. */
static int allowed_cores(void) {
    int cores = 0;
#ifdef __linux__
    cpu_set_t set;
    struct { long long package, core; } seen[CPU_SETSIZE];
    if (allowed_cpus(&set)) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[96];
        const char *topology = "/sys/devices/system/cpu/cpu%d/topology/%s";
        long long core = cpu, package = 0;
        if (!CPU_ISSET(cpu, &set)) continue;
        snprintf(path, sizeof path, topology, cpu, "core_id");
        read_numbers(path, 1, &core);
        snprintf(path, sizeof path, topology, cpu, "physical_package_id");
        read_numbers(path, 1, &package);
        int known = 0;
        for (int i = 0; i < cores; i++) known |= seen[i].package == package && seen[i].core == core;
        if (known) continue;
        seen[cores].package = package;
        seen[cores].core = core;
        cores++;
    }
#endif
    return cores;
}

int gqa_threads_default(void) {
    int n = allowed_cores();
    if (n < 1) n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    n = min_int(n, gqa_cgroup_cpus(""));
#ifdef _OPENMP
    n = min_int(n, min_int(omp_get_max_threads(), omp_get_thread_limit()));
#endif
    return max_int(n, 1);
}

/* ---- helpers -------------------------------------------------------------------------------- */

typedef struct thread_helper {
    pthread_t thread;
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
    pid_t process;           /* in which the helpers were started: a forked child has none */
    int n_helpers;           /* -1: OpenMP has not yet said */
    _Alignas(8) _Atomic uint64_t state;
    atomic_int kept, asleep; /* helpers above `kept` end; those that wait for `wake` */
    pthread_mutex_t lock;
    pthread_cond_t wake;
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
    else if (round < t->spins + 1000) sched_yield();
    else nanosleep(&(struct timespec){0, 50000}, NULL);
}

static void wake_all(gqa_threads *t) {
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

static int must_wait(gqa_threads *t, int index, uint32_t seen) {
    return run_in(atomic_load(&t->state)) == seen && index <= atomic_load(&t->kept);
}

static void wait_for_run(gqa_threads *t, int index, uint32_t seen) {
    for (int i = 0; i < t->spins; i++) {
        if (!must_wait(t, index, seen)) return;
        pause_cpu();
    }
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->asleep, 1);
    while (must_wait(t, index, seen)) pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->asleep, 1);
    pthread_mutex_unlock(&t->lock);
}

static void help(gqa_threads *t, int index) {
    uint32_t seen = 0;
#if defined(_OPENMP) && defined(__linux__)
    cpu_set_t set;  /* OpenMP may have bound the thread that started this one */
    if (!allowed_cpus(&set)) sched_setaffinity(0, sizeof set, &set);
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

static void *helper_main(void *arg) {
    const thread_helper *me = arg;
    help(me->owner, me->index);
    return NULL;
}

/* As many threads as come, up to n; without signals, which are for the program's threads. */
static void start_threads(gqa_threads *t, int n, void *(*main)(void *arg)) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; t->n_started < n; t->n_started++) {
        thread_helper *h = &t->started[t->n_started];
        *h = (thread_helper){.owner = t, .index = t->n_started + 1};
        if (pthread_create(&h->thread, NULL, main, h)) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void end_threads(gqa_threads *t, int kept) {
    atomic_store(&t->kept, kept);
    wake_all(t);
    while (t->n_started > kept) pthread_join(t->started[--t->n_started].thread, NULL);
}

#ifdef _OPENMP
/* Not where its threads would be other than those of a probe: bound, perhaps to CPUs that are not
 * there, with larger stacks, or short of the memory that malloc reserves in each. */
static int openmp_can_be_probed(void) {
    struct rlimit memory;
    if (getenv("OMP_STACKSIZE") || getenv("GOMP_STACKSIZE") || getenv("KMP_STACKSIZE")) return 0;
    if (getrlimit(RLIMIT_AS, &memory) || memory.rlim_cur != RLIM_INFINITY) return 0;
    return omp_get_proc_bind() == omp_proc_bind_false;
}

static void hold_seat(gqa_threads *t) {
    pthread_mutex_lock(&t->lock);
    t->n_helpers = omp_get_num_threads() - 1;
    pthread_cond_broadcast(&t->wake);
    while (atomic_load(&t->kept)) pthread_cond_wait(&t->wake, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static void *region_main(void *arg) {
    gqa_threads *t = ((thread_helper *)arg)->owner;
#pragma omp parallel num_threads(t->max)
    if (omp_get_thread_num() == 0) hold_seat(t);
    else help(t, omp_get_thread_num());
    return NULL;
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
    if (t->process == getpid()) return;
    t->process = getpid();
    t->n_started = 0;
    atomic_store(&t->asleep, 0);
    atomic_store(&t->state, run_state(run_in(atomic_load(&t->state)), 0));
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
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
    pthread_mutex_lock(&t->lock);
    while (t->n_helpers < 0) pthread_cond_wait(&t->wake, &t->lock);
    int n = t->n_helpers + 1;
    pthread_mutex_unlock(&t->lock);
    return n;
}

void gqa_threads_free(gqa_threads *t) {
    if (t && t->process == getpid()) {
        end_threads(t, 0);
        pthread_cond_destroy(&t->wake);
        pthread_mutex_destroy(&t->lock);
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
