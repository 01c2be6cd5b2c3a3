/* os_posix.c: os.h for Linux, macOS, the BSDs and others like them. */
#ifndef _WIN32
#ifdef __APPLE__
#define _DARWIN_C_SOURCE 1
#elif defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || defined(__DragonFly__)
#undef _POSIX_C_SOURCE /* the Makefile's, which hides all else there */
#else
#define _GNU_SOURCE /* sched_getaffinity, CPU_*, MAP_ANONYMOUS, madvise */
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base.h"

/* ---- memory --------------------------------------------------------------------------------- */

void *gqa_pages_alloc(size_t size, int huge) {
    if (size == 0) size = 1;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    if (huge) madvise(p, size, MADV_HUGEPAGE);
#else
    (void)huge;
#endif
    return p;
}

void gqa_pages_free(void *p, size_t size) {
    if (p) munmap(p, size ? size : 1);
}

double gqa_os_memory(void) {
#ifdef _SC_PHYS_PAGES
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
#else
    return -1;
#endif
}

double gqa_os_free_memory(void) {
    char line[128];
    double kib = -1;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && kib < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lf", &kib) != 1) kib = -1;
    if (f) fclose(f);
    return kib < 0 ? -1 : kib * 1024;
}

/* ---- files ---------------------------------------------------------------------------------- */

static uint64_t nanoseconds(struct timespec t) {
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int describe_file(int failed, const struct stat *st, gqa_file_info *info) {
    if (failed) return -1;
#ifdef __APPLE__
    uint64_t modified = nanoseconds(st->st_mtimespec), changed = nanoseconds(st->st_ctimespec);
#else
    uint64_t modified = nanoseconds(st->st_mtim), changed = nanoseconds(st->st_ctim);
#endif
    info->id = (gqa_file_id){(uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size,
                             modified, changed};
    info->kind = S_ISREG(st->st_mode)   ? GQA_FILE_REGULAR
                 : S_ISDIR(st->st_mode) ? GQA_FILE_FOLDER
                                        : GQA_FILE_OTHER;
    return 0;
}

int gqa_os_file_info(const char *path, gqa_file_info *info) {
    struct stat st;
    int failed = stat(path, &st);
    return describe_file(failed, &st, info);
}

int gqa_os_open_info(int fd, gqa_file_info *info) {
    struct stat st;
    int failed = fstat(fd, &st);
    return describe_file(failed, &st, info);
}

int gqa_os_stream_info(FILE *f, gqa_file_info *info) { return gqa_os_open_info(fileno(f), info); }
int gqa_os_exists(const char *path) { return !access(path, F_OK); }

size_t gqa_os_folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

FILE *gqa_os_fopen(const char *path, const char *mode) { return fopen(path, mode); }

int gqa_os_open(const char *path) {
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO without a writer would block */
}

int gqa_os_create(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

FILE *gqa_os_stream(int fd, const char *mode) { return fdopen(fd, mode); }
void gqa_os_close(int fd) { close(fd); }
int gqa_os_reader_is_gone(FILE *f, int error) {
    (void)f;
    return error == EPIPE;
}
int gqa_os_sync(FILE *f) { return fsync(fileno(f)); }
int gqa_os_replace(const char *from, const char *to) { return rename(from, to); }
int gqa_os_remove(const char *path) { return unlink(path); }

int gqa_os_link_target(const char *path, char *target, size_t capacity) {
    return (int)readlink(path, target, capacity);
}

void *gqa_os_map(int fd, size_t size) {
    /* Shared: of a file that is truncated, macOS gives a private mapping pages of its own. */
    void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

void gqa_os_unmap(void *p, size_t size) { munmap(p, size); }

void gqa_os_release(const void *p, size_t size) {
#ifdef __linux__
    madvise((void *)p, size, MADV_DONTNEED);
#else
    (void)p;
    (void)size;
#endif
}

/* ---- time ----------------------------------------------------------------------------------- */

double gqa_os_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t gqa_os_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return nanoseconds(t);
}

int gqa_os_local_time(struct tm *now) {
    time_t t = time(NULL);
    return localtime_r(&t, now) ? 0 : -1;
}

void gqa_os_sleep(int microseconds) {
    nanosleep(&(struct timespec){0, microseconds * 1000}, NULL);
}

void gqa_os_yield(void) { sched_yield(); }
long gqa_os_process(void) { return (long)getpid(); }

/* ---- cores ---------------------------------------------------------------------------------- */

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
            if (ids[i] >= 0 && ids[i] < CPU_SETSIZE) CPU_SET((unsigned)ids[i], set);
    }
#endif
    return 0;
}

/* 0: unknown. */
static int allowed_cores(void) {
    int cores = 0;
    cpu_set_t set;
    struct { long long package, core; } seen[CPU_SETSIZE];
    if (allowed_cpus(&set)) return 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[96];
        const char *topology = "/sys/devices/system/cpu/cpu%zu/topology/%s";
        long long core = (long long)cpu, package = 0;
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
    return cores;
}

void gqa_os_unbind_thread(void) {
    cpu_set_t set;
    if (!allowed_cpus(&set)) sched_setaffinity(0, sizeof set, &set);
}
#else
static int allowed_cores(void) {
    int cores = 0;
#ifdef __APPLE__ /* the fast ones: the others would be waited for */
    size_t size = sizeof cores;
    if (sysctlbyname("hw.perflevel0.physicalcpu", &cores, &size, NULL, 0) &&
        sysctlbyname("hw.physicalcpu", &cores, &size, NULL, 0)) cores = 0;
#endif
    return cores;
}

void gqa_os_unbind_thread(void) {}
#endif

int gqa_os_cores(void) {
    int n = allowed_cores();
    if (n < 1) n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n;
}

/* ---- threads -------------------------------------------------------------------------------- */

int gqa_os_memory_is_limited(void) {
    struct rlimit memory;
    return getrlimit(RLIMIT_AS, &memory) || memory.rlim_cur != RLIM_INFINITY;
}

static void *thread_main(void *arg) {
    const gqa_os_thread *t = arg;
    t->main(t->arg);
    return NULL;
}

/* Signals go to the caller's threads, but for those that a thread raises itself: blocked, they
 * would end the program whatever handler it has. */
int gqa_os_thread_start(gqa_os_thread *t, void (*main)(void *arg), void *arg) {
    static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP};
    sigset_t all, before;
    pthread_t thread;
    t->main = main;
    t->arg = arg;
    sigfillset(&all);
    for (size_t i = 0; i < array_length(own); i++) sigdelset(&all, own[i]);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) t->handle = (uintptr_t)thread;
    return failed;
}

void gqa_os_thread_join(gqa_os_thread *t) { pthread_join((pthread_t)t->handle, NULL); }

typedef struct monitor {
    pthread_mutex_t lock;
    pthread_cond_t wake;
} monitor;
_Static_assert(sizeof(monitor) <= sizeof(gqa_os_monitor), "gqa_os_monitor is too small");
_Static_assert(sizeof(pthread_t) <= sizeof(uintptr_t), "gqa_os_thread is too small");

static monitor *monitor_of(gqa_os_monitor *m) { return (monitor *)(void *)m->storage; }

void gqa_os_monitor_init(gqa_os_monitor *m) {
    pthread_mutex_init(&monitor_of(m)->lock, NULL);
    pthread_cond_init(&monitor_of(m)->wake, NULL);
}

void gqa_os_monitor_free(gqa_os_monitor *m) {
    pthread_cond_destroy(&monitor_of(m)->wake);
    pthread_mutex_destroy(&monitor_of(m)->lock);
}

void gqa_os_lock(gqa_os_monitor *m) { pthread_mutex_lock(&monitor_of(m)->lock); }
void gqa_os_unlock(gqa_os_monitor *m) { pthread_mutex_unlock(&monitor_of(m)->lock); }

void gqa_os_wait(gqa_os_monitor *m) {
    pthread_cond_wait(&monitor_of(m)->wake, &monitor_of(m)->lock);
}

void gqa_os_wake_all(gqa_os_monitor *m) { pthread_cond_broadcast(&monitor_of(m)->wake); }
#endif
