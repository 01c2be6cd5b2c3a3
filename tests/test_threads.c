/* test_threads.c: how many threads there are, also where the system, a quota or the environment
 * gives few of them; where they run; forked children. tests/test_threads.sh runs it in other
 * environments. */
#define _GNU_SOURCE /* sched_getaffinity, CPU_* */
#include "test.h"

#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../base/os.h"
#include "../kernels/team.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* ---- quotas --------------------------------------------------------------------------------- */

/* files: pairs of name and content, below a folder that stands for /. */
static const struct {
    const char *name;
    int cpus;
    const char *files[8];
} quotas[] = {
    {"no control groups", INT_MAX, {NULL}},
    {"v2, no limit", INT_MAX,
     {"proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/cpu.max", "max 100000\n"}},
    {"v2, the process's group", 3,
     {"proc/self/cgroup", "0::/a\n", "sys/fs/cgroup/a/cpu.max", "300000 100000\n"}},
    {"v2, the group above", 2,
     {"proc/self/cgroup", "0::/a b/c\n", "sys/fs/cgroup/a b/c/cpu.max", "max 100000\n",
      "sys/fs/cgroup/a b/cpu.max", "200000 100000\n"}},
    {"v2, the smaller of two", 2,
     {"proc/self/cgroup", "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max", "250000 100000\n",
      "sys/fs/cgroup/a/cpu.max", "400000 100000\n"}},
    {"v2, two groups above", 5,
     {"proc/self/cgroup", "0::/a/b/c\n", "sys/fs/cgroup/a/b/c/memory.max", "max\n",
      "sys/fs/cgroup/a/cpu.max", "500000 100000\n"}},
    {"v2, a container's own root", 4,
     {"proc/self/cgroup", "0::/\n", "sys/fs/cgroup/cpu.max", "400000 100000\n"}},
    {"v2, a container that sees the host's path", 4,
     {"proc/self/cgroup", "0::/docker/1f\n", "sys/fs/cgroup/cpu.max", "400000 100000\n"}},
    {"one and a half is one", 1,
     {"proc/self/cgroup", "0::/\n", "sys/fs/cgroup/cpu.max", "150000 100000\n"}},
    {"a half is one", 1,
     {"proc/self/cgroup", "0::/\n", "sys/fs/cgroup/cpu.max", "50000 100000\n"}},
    {"v2 beside v1", 2,
     {"proc/self/cgroup", "1:name=systemd:/x\n0::/a\n",
      "sys/fs/cgroup/unified/a/cpu.max", "200000 100000\n"}},
    {"v1, no limit", INT_MAX,
     {"proc/self/cgroup", "4:cpu,cpuacct:/x\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n",
      "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"}},
    {"v1, the process's group", 3,
     {"proc/self/cgroup", "5:cpuacct,cpu:/x\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "75000\n",
      "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "25000\n"}},
    {"v1, the group above", 2,
     {"proc/self/cgroup", "4:cpu:/x/y\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "200000\n",
      "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"}},
    {"v1, a container that sees the host's path", 1,
     {"proc/self/cgroup", "4:cpu:/docker/1f\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
    {"v1, another controller's group", INT_MAX,
     {"proc/self/cgroup", "3:cpuset:/x\n2:cpuacct:/x\n4:cpu:/y\n",
      "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "100000\n",
      "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"}},
    {"files that are damaged", INT_MAX,
     {"proc/self/cgroup", "\n:\n::\n0:\n0::\n4:cpu\n0::/a\n", "sys/fs/cgroup/cpu.max", "9 0\n",
      "sys/fs/cgroup/a/cpu.max", "-7 -1\n"}},
    {"a quota beyond int", INT_MAX,
     {"proc/self/cgroup", "0::/\n", "sys/fs/cgroup/cpu.max", "9000000000000000 1\n"}},
};

/* Writes a file and the folders above it. */
static void put_file(const char *root, const char *name, const char *text) {
    char path[TEST_PATH + 128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        test_mkdir(path);
        *p = '/';
    }
    FILE *f = fopen(path, "w");
    if (CHECK(f != NULL, "%s", path)) {
        fputs(text, f);
        fclose(f);
    }
}

static void check_quota(size_t i) {
    char root[TEST_PATH], command[TEST_PATH + 16];
    test_path(root, "threads-XXXXXX");
    if (!CHECK(mkdtemp(root) != NULL, "a folder")) return;
    for (int k = 0; quotas[i].files[k]; k += 2)
        put_file(root, quotas[i].files[k], quotas[i].files[k + 1]);
    int cpus = gqa_cgroup_cpus(root);
    CHECK(cpus == quotas[i].cpus, "%d CPUs, expected %d", cpus, quotas[i].cpus);
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK(system(command) == 0, "%s", command);
}

/* ---- teams ---------------------------------------------------------------------------------- */

enum { PHASES = 300, UNITS = 7 };

typedef struct use {
    atomic_int done, wrong;
    atomic_int came[64];
    cpu_set_t cpus[64];
} use;

static void do_phases(gqa_worker *me, void *arg) {
    use *u = arg;
    sched_getaffinity(0, sizeof u->cpus[me->id], &u->cpus[me->id]);
    atomic_store(&u->came[me->id], 1);
    for (int p = 0; p < PHASES; p++)
        for_units(unit, me, UNITS) {
            if (atomic_load(&u->done) / UNITS < p) atomic_fetch_add(&u->wrong, 1);
            atomic_fetch_add(&u->done, 1);
        }
}

/* Whether a run does every unit in its phase. */
static int works(gqa_team *team, int n) {
    use *u = calloc(1, sizeof *u);
    gqa_team_run(team, n, do_phases, u);
    int ok = atomic_load(&u->done) == PHASES * UNITS && atomic_load(&u->wrong) == 0;
    free(u);
    return ok;
}

/* Waits until both threads have begun: they run at the same time. */
static void do_meet(gqa_worker *me, void *arg) {
    use *u = arg;
    do_phases(me, u);
    for (int i = 0; i < 5000 && me->id == 0 && !atomic_load(&u->came[1]); i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

/* Runs a test in a child that has 60 seconds; its exit code, or -1. */
static int in_child(int (*fn)(void *arg), void *arg) {
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        _exit(fn(arg));
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int use_in_child(void *arg) {
    gqa_team *old = arg, *fresh = gqa_team_new(3, NULL, NULL);
    for (int i = 0; i < 3; i++)
        if (!works(old, 3) || !works(fresh, 3)) return 1;
    if (gqa_team_threads(old) != 3 || gqa_team_threads(fresh) != 3) return 2;
    gqa_team_free(old);
    gqa_team_free(fresh);
    return 0;
}

static long long memory_now(void) {
    long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lld", &pages) != 1) pages = 0;
    if (f) fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

/* 0: a team under the limit works; else what is wrong. */
static int use_limited(void) {
    gqa_team *team = gqa_team_new(8, NULL, NULL);
    if (!team) return 1;
    int n = gqa_team_threads(team);
    int ok = n >= 1 && n <= 8 && works(team, 8) && works(team, 2);
    gqa_team_free(team);
    return ok ? 100 + n : 2;
}

static int use_little_memory(void *arg) {
    const rlim_t bytes = (rlim_t)(memory_now() + *(const int *)arg * (4LL << 20));
    if (setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes})) return 3;
    return use_limited();
}

static int use_few_threads(void *arg) {
    const rlim_t n = (rlim_t)*(const int *)arg;
    if (geteuid() == 0 && setuid(65534)) return 3; /* root has no limit */
    if (setrlimit(RLIMIT_NPROC, &(struct rlimit){n, n})) return 4;
    return use_limited();
}

static void test_limits(void) {
    TEST("little memory: as many threads as fit") {
        int most = 0;
        for (int i = 1; i < 40; i++) { /* with nothing left the stack could not grow */
            int code = in_child(use_little_memory, &i);
            CHECK(code > 100 && code <= 108, "%d x 4 MB: %d", i, code);
            if (code > most) most = code;
        }
        CHECK(most == 108, "at most %d threads", most - 100);
    }
    TEST("ulimit -u: as many threads as it allows") {
        for (int i = 1; i < 24; i++) {
            int code = in_child(use_few_threads, &i);
            CHECK(code > 100 && code <= 100 + (i < 8 ? i : 8), "%d threads: %d", i, code);
        }
    }
}

static void test_teams(void) {
    TEST("the number of threads to use") {
        CHECK(gqa_threads_default() >= 1, "%d threads", gqa_threads_default());
        CHECK(gqa_threads_default() <= gqa_cgroup_cpus(""), "the quota");
    }
    TEST("as many threads as were asked for") {
        for (int n = 1; n <= 9; n++) {
            gqa_team *team = gqa_team_new(n, NULL, NULL);
            CHECK(works(team, n), "%d threads", n);
            CHECK(gqa_team_threads(team) == n, "%d of %d", gqa_team_threads(team), n);
            gqa_team_free(team);
        }
    }
    TEST("two threads may use two CPUs") {
        gqa_team *team = gqa_team_new(2, NULL, NULL);
        use *u = calloc(1, sizeof *u);
        cpu_set_t all;
        gqa_team_run(team, 2, do_meet, u);
        CHECK(atomic_load(&u->came[1]), "the second did not come");
        CPU_OR(&all, &u->cpus[0], &u->cpus[1]);
        int expected = gqa_threads_default() < 2 ? 1 : 2;
        CHECK(CPU_COUNT(&all) >= expected, "%d CPUs of %d", CPU_COUNT(&all), expected);
        free(u);
        gqa_team_free(team);
    }
    TEST("a team that was never used") {
        gqa_team *team = gqa_team_new(4, NULL, NULL);
        CHECK(team != NULL && gqa_team_threads(team) == 4, "no team of 4 threads");
        gqa_team_free(team);
    }
}

static void test_fork(void) {
    TEST("a forked child has threads of its own") {
        gqa_team *team = gqa_team_new(3, NULL, NULL), *later = gqa_team_new(3, NULL, NULL);
        CHECK(works(team, 3), "before");
        for (int i = 0; i < 5; i++) {
            int code = in_child(use_in_child, team);
            CHECK(code == 0, "the child: %d", code);
            code = in_child(use_in_child, later);
            CHECK(code == 0, "the child, with a team that was not used before: %d", code);
            CHECK(works(team, 3), "after");
        }
        gqa_team_free(team);
        gqa_team_free(later);
    }
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    for (size_t i = 0; i < sizeof quotas / sizeof quotas[0]; i++) {
        char name[100];
        snprintf(name, sizeof name, "quota: %s", quotas[i].name);
        TEST(name) check_quota(i);
    }
    test_teams();
    if (SANITIZED) {
        test_skip("forks and limits", "a program with sanitizers");
        return test_end();
    }
    test_limits();
    const char *emulator = getenv("EMULATOR");
    if (emulator && *emulator) test_skip("forks", "qemu's threads do not survive them");
    else test_fork();
    return test_end();
}
