/* test_team.c: every unit of a phase is done exactly once and before the next phase begins, with threads that come late,
 * leave early, or were never given. */
#include "test.h"

#include <stdatomic.h>
#include <time.h>

#include "../kernels/team.h"

enum { PHASES = 400, MOST_UNITS = 40 };

typedef struct walk {
    atomic_int done[PHASES][MOST_UNITS];
    atomic_int too_early;   /* units that began before all of the phase before were done */
    int sleeper, leaver;    /* ids of a thread that sleeps now and then, and of one that returns half-way; -1: none */
} walk;

static int units_in(int phase) { return phase % 7 == 3 ? 0 : phase % 5 == 0 ? 1 : phase * 11 % MOST_UNITS + 1; }

static void step(gqa_worker *w, void *arg) {
    walk *k = arg;
    for (int p = 0; p < PHASES; p++) {
        if (w->id == k->sleeper && p % 50 == 20) nanosleep(&(struct timespec){0, 3000000}, NULL);
        if (w->id == k->leaver && w->n > 1 && p == PHASES / 2) return;
        for_units(u, w, units_in(p)) {
            for (int i = 0; p > 0 && i < units_in(p - 1); i++)
                if (atomic_load_explicit(&k->done[p - 1][i], memory_order_relaxed) != 1) atomic_fetch_add(&k->too_early, 1);
            if (w->id == k->sleeper && u == 5 && p % 50 == 21) nanosleep(&(struct timespec){0, 2000000}, NULL);
            atomic_fetch_add_explicit(&k->done[p][u], 1, memory_order_relaxed);
        }
    }
}

static void check_walk(int threads, int asked, int sleeper, int leaver) {
    static walk k;
    gqa_team *team = gqa_team_new(threads);
    if (!team) {
        CHECK(0, "a team of %d", threads);
        return;
    }
    for (int again = 0; again < 3; again++) {
        memset(&k, 0, sizeof k);
        k.sleeper = sleeper, k.leaver = leaver;
        gqa_team_run(team, asked, step, &k);
        int wrong = 0;
        for (int p = 0; p < PHASES; p++)
            for (int u = 0; u < MOST_UNITS; u++) wrong += atomic_load(&k.done[p][u]) != (u < units_in(p));
        CHECK(wrong == 0, "%d threads of %d, %d late, %d leaves: %d units not done once", asked, threads, sleeper, leaver, wrong);
        CHECK(atomic_load(&k.too_early) == 0, "%d threads of %d: %d units began too early", asked, threads, atomic_load(&k.too_early));
    }
    gqa_team_free(team);
}

int main(void) {
    check_walk(1, 1, -1, -1);
    check_walk(2, 2, -1, -1);
    check_walk(2, 2, 1, -1);
    check_walk(2, 2, 0, 1);
    check_walk(4, 9, 2, 3);
    check_walk(16, 16, 7, 0);
    check_walk(0, 3, -1, -1);
    CHECK(gqa_threads_default() >= 1, "no threads");
    return test_end();
}
