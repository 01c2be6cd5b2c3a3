/* test_team.c: every unit of a phase is done exactly once and before the next phase begins, with
 * threads that come late, leave early, come one after another, or were never given. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "../kernels/team.h"

enum { PHASES = 400, MAX_UNITS = 40, MAX_THREADS = 16 };

typedef struct walk {
    atomic_int done[PHASES][MAX_UNITS];
    atomic_int too_early;   /* units that began before all of the phase before were done */
    int sleeper, leaver;    /* threads: one sleeps now and then, one returns half-way; -1: none */
} walk;

static int units_in(int phase) {
    if (phase % 7 == 3) return 0;
    return phase % 5 == 0 ? 1 : phase * 11 % MAX_UNITS + 1;
}

static void sleep_ms(long ms) { nanosleep(&(struct timespec){0, ms * 1000000}, NULL); }

static void do_unit(walk *k, int phase, int unit) {
    for (int i = 0; phase > 0 && i < units_in(phase - 1); i++)
        if (atomic_load_explicit(&k->done[phase - 1][i], memory_order_relaxed) != 1)
            atomic_fetch_add(&k->too_early, 1);
    atomic_fetch_add_explicit(&k->done[phase][unit], 1, memory_order_relaxed);
}

static void step(gqa_worker *me, void *arg) {
    walk *k = arg;
    for (int p = 0; p < PHASES; p++) {
        if (me->id == k->sleeper && p % 50 == 20) sleep_ms(3);
        if (me->id == k->leaver && me->n > 1 && p == PHASES / 2) return;
        for_units(u, me, units_in(p)) {
            if (me->id == k->sleeper && u == 5 && p % 50 == 21) sleep_ms(2);
            do_unit(k, p, u);
        }
    }
}

/* Runs the walk; how many units were not done once, or began too early. */
static int walk_faults(gqa_team *team, int asked, int sleeper, int leaver) {
    walk *k = calloc(1, sizeof *k);
    k->sleeper = sleeper;
    k->leaver = leaver;
    gqa_team_run(team, asked, step, k);
    int faults = atomic_load(&k->too_early);
    for (int p = 0; p < PHASES; p++)
        for (int u = 0; u < MAX_UNITS; u++)
            faults += atomic_load(&k->done[p][u]) != (u < units_in(p));
    free(k);
    return faults;
}

/* ---- callbacks ------------------------------------------------------------------------------ */

typedef struct call {
    void (*fn)(void *arg, int thread);
    void *arg;
    int thread;
} call;

static void *do_call(void *arg) {
    call *c = arg;
    c->fn(c->arg, c->thread);
    return NULL;
}

/* *user counts the calls. */
static void run_on_pthreads(void *user, int n, void (*fn)(void *arg, int thread), void *arg) {
    pthread_t threads[MAX_THREADS];
    call calls[MAX_THREADS];
    for (int i = 0; i < n; i++) {
        calls[i] = (call){fn, arg, i};
        if (i > 0 && pthread_create(&threads[i], NULL, do_call, &calls[i])) abort();
    }
    do_call(&calls[0]);
    for (int i = 1; i < n; i++) pthread_join(threads[i], NULL);
    ++*(int *)user;
}

static void run_descending(void *user, int n, void (*fn)(void *arg, int thread), void *arg) {
    for (int i = n - 1; i >= 0; i--) fn(arg, i);
    ++*(int *)user;
}

/* ---- cases ---------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int threads, asked, sleeper, leaver;
} walks[] = {
    {"one thread", 1, 1, -1, -1},
    {"two threads", 2, 2, -1, -1},
    {"one of two is late", 2, 2, 1, -1},
    {"one of two is late, one leaves", 2, 2, 0, 1},
    {"more asked for than there are", 4, 9, 2, 3},
    {"more threads than cores", MAX_THREADS, MAX_THREADS, 7, 3},
    {"a team of none is one", 0, 3, -1, -1},
};
static const struct {
    const char *name;
    gqa_run_parallel run;
} ways[] = {
#ifdef _OPENMP
    {"OpenMP", NULL},
#else
    {"pthreads", NULL},
#endif
    {"a callback with threads", run_on_pthreads},
    {"a callback in descending order", run_descending},
};

static void check_walk(gqa_run_parallel run, int threads, int asked, int sleeper, int leaver) {
    int calls = 0;
    gqa_team *team = gqa_team_new(threads, run, &calls);
    if (!CHECK(team, "a team of %d", threads)) return;
    for (int again = 0; again < 3; again++) {
        int faults = walk_faults(team, asked, sleeper, leaver);
        CHECK(faults == 0, "%d threads of %d: %d faults", asked, threads, faults);
    }
    CHECK(calls == (run && threads > 1 ? 3 : 0), "the callback was called %d times", calls);
    gqa_team_free(team);
}

/* Unit 0 and unit 1 are in different hands at the same time, or this waits for ever. */
static void meet(gqa_worker *me, void *arg) {
    atomic_int *here = arg;
    for_units(u, me, 2) {
        atomic_fetch_add(here, 1);
        while (atomic_load(here) < 2) sleep_ms(1);
    }
}

typedef struct user {
    gqa_team *team;
    int faults;
} user;

static void *use_team(void *arg) {
    user *a = arg;
    for (int i = 0; i < 5; i++) a->faults += walk_faults(a->team, 2, i % 2, -1);
    return NULL;
}

static void test_walks(void) {
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++)
        for (size_t i = 0; i < sizeof walks / sizeof walks[0]; i++) {
            char name[100];
            snprintf(name, sizeof name, "%s: %s", ways[w].name, walks[i].name);
            TEST(name) {
                check_walk(ways[w].run, walks[i].threads, walks[i].asked, walks[i].sleeper,
                           walks[i].leaver);
            }
        }
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    test_walks();
    for (int w = 0; w < 2; w++) {
        char name[100];
        snprintf(name, sizeof name, "%s: threads run at the same time", ways[w].name);
        TEST(name) {
            int calls = 0;
            atomic_int here = 0;
            gqa_team *team = gqa_team_new(2, ways[w].run, &calls);
            gqa_team_run(team, 2, meet, &here);
            CHECK(atomic_load(&here) == 2, "%d units", atomic_load(&here));
            gqa_team_free(team);
        }
    }
    TEST("one team, used from one thread after another") {
        user a = {.team = gqa_team_new(2, NULL, NULL)};
        for (int i = 0; i < 3; i++) {
            pthread_t thread;
            use_team(&a);
            CHECK(!pthread_create(&thread, NULL, use_team, &a), "a thread");
            pthread_join(thread, NULL);
        }
        CHECK(a.faults == 0, "%d faults", a.faults);
        gqa_team_free(a.team);
    }
    TEST("two teams at the same time") {
        user a = {.team = gqa_team_new(2, NULL, NULL)}, b = {.team = gqa_team_new(2, NULL, NULL)};
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, use_team, &a), "a thread");
        use_team(&b);
        pthread_join(thread, NULL);
        CHECK(a.faults == 0 && b.faults == 0, "%d and %d faults", a.faults, b.faults);
        gqa_team_free(a.team);
        gqa_team_free(b.team);
    }
#ifdef _OPENMP
    TEST("teams inside a parallel region of the program") {
        user users[2] = {{0}};
        for (int i = 0; i < 2; i++) users[i].team = gqa_team_new(2, NULL, NULL);
#pragma omp parallel for num_threads(2)
        for (int i = 0; i < 2; i++) use_team(&users[i]);
        for (int i = 0; i < 2; i++) {
            CHECK(users[i].faults == 0, "%d faults", users[i].faults);
            gqa_team_free(users[i].team);
        }
    }
#endif
    return test_end();
}
