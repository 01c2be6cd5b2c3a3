/* team.c: see team.h. One atomic word holds the state of the team,
 *
 *     | phase: 16 bits | units done: 24 bits | units handed out: 24 bits |
 *
 * and a thread that ends its units and takes others changes it once, by compare and swap. It takes
 * a run of neighbours, its share of half of what is left: long runs first, so that weights are read
 * in long streams, single units at the end, so that all threads end together (guided
 * self-scheduling, Polychronopoulos & Kuck 1987). The thread that ends the last unit opens the next
 * phase in the same step. Waiting threads spin a little, then yield, then sleep, so that a team
 * larger than the machine still makes progress. */
#include "team.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../base/base.h"

struct gqa_team {
    gqa_threads *threads;
    int max_threads;
    void *memory;            /* that the team is in, 64-byte aligned */
    _Alignas(64) _Atomic uint64_t state;
};

gqa_team *gqa_team_new(int max_threads, gqa_run_parallel run, void *user) {
    char *memory = calloc(1, sizeof(gqa_team) + 63);
    if (!memory) return NULL;
    gqa_team *team = (gqa_team *)(memory + (64 - (uintptr_t)memory % 64) % 64);
    team->memory = memory;
    team->max_threads = max_int(max_threads, 1);
    team->threads = gqa_threads_new(team->max_threads, run, user);
    if (team->threads) return team;
    free(memory);
    return NULL;
}

void gqa_team_free(gqa_team *team) {
    if (!team) return;
    gqa_threads_free(team->threads);
    free(team->memory);
}

int gqa_team_threads(gqa_team *team) { return gqa_threads_count(team->threads); }

typedef struct team_run {
    gqa_team *team;
    int n;
    void (*fn)(gqa_worker *me, void *arg);
    void *arg;
} team_run;

static void run_worker(void *arg, int thread) {
    const team_run *r = arg;
    r->fn(&(gqa_worker){.team = r->team, .id = thread, .n = r->n}, r->arg);
}

void gqa_team_run(gqa_team *team, int n_threads, void (*fn)(gqa_worker *me, void *arg), void *arg) {
    team_run r = {.team = team, .n = min_int(n_threads, team->max_threads), .fn = fn, .arg = arg};
#ifdef __SANITIZE_THREAD__
    r.n = team->max_threads; /* small tests show races too */
#endif
    atomic_store(&team->state, 0);
    gqa_threads_run(team->threads, max_int(r.n, 1), run_worker, &r);
}

static uint64_t state_of(unsigned phase, unsigned done, unsigned handed_out) {
    return (uint64_t)(phase & 0xffff) << 48 | (uint64_t)done << 24 | handed_out;
}
static unsigned phase_in(uint64_t state) { return (unsigned)(state >> 48); }
static unsigned done_in(uint64_t state) { return (unsigned)(state >> 24) & 0xffffff; }
static unsigned handed_out_in(uint64_t state) { return (unsigned)state & 0xffffff; }

static void wait_for_end(const gqa_worker *me) {
    gqa_team *team = me->team;
    for (int i = 0;; i++) {
        uint64_t state = atomic_load_explicit(&team->state, memory_order_acquire);
        if (phase_in(state) != me->phase) return;
        gqa_threads_wait(team->threads, i);
    }
}

/* Gives back the run of `finished` units and takes another, or sees the phase to its end and
 * returns -1. */
static int exchange(gqa_worker *me, unsigned finished) {
    _Atomic uint64_t *state = &me->team->state;
    const unsigned n = (unsigned)me->n_units, shares = 2 * (unsigned)me->n;
    unsigned done = 0, unit = 0, take = 0;
    uint64_t before = atomic_load_explicit(state, memory_order_acquire), after;
    do {
        if (phase_in(before) != me->phase) break;
        done = done_in(before) + finished;
        unit = handed_out_in(before);
        take = unit < n ? (n - unit + shares - 1) / shares : 0;
        if (done < n && unit < n) after = state_of(me->phase, done, unit + take);
        else if (done < n) after = state_of(me->phase, done, unit);
        else after = state_of(me->phase + 1, 0, 0);
    } while (!atomic_compare_exchange_weak_explicit(state, &before, after, memory_order_acq_rel,
                                                    memory_order_acquire));
    if (phase_in(before) == me->phase) {
        if (done < n && unit < n) {
            me->begin = me->unit = (int)unit;
            me->end = (int)(unit + take);
            return me->unit;
        }
        if (done < n) wait_for_end(me);
    }
    me->phase = (me->phase + 1) & 0xffff;
    return -1;
}

int gqa_unit_first(gqa_worker *me, int n_units) {
    me->n_units = me->end = n_units;
    me->begin = me->unit = 0;
    if (me->n > 1) return exchange(me, 0);
    return n_units > 0 ? 0 : -1;
}

int gqa_unit_next(gqa_worker *me) {
    if (++me->unit < me->end) return me->unit;
    return me->n > 1 ? exchange(me, (unsigned)(me->end - me->begin)) : -1;
}
