/* machine.c: measures the limits of this machine with the loops of kernels/peak_impl.h, and checks the kernels against
 * plain double loops. The only command file that looks below model.h: it is about the kernels, not about a model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/base.h"
#include "../kernels/kernels.h"
#include "../kernels/team.h"
#include "command.h"
#include "machine.h"

enum { BUFFER = 512 << 20, CHUNK = 1 << 20, FLOAT_ROUNDS = 1 << 20 };

struct machine {
    const gqa_kernels *kernels;
    gqa_team *team;
    int n_threads;
    uint8_t *buffer;
    double macs;          /* of one thread's loop */
    volatile double sink; /* keeps the loops alive */
};

static void touch(gqa_worker *w, void *arg) {
    machine *m = arg;
    for_units(u, w, BUFFER / CHUNK) memset(m->buffer + (size_t)u * CHUNK, u, CHUNK);
}

static void read_all(gqa_worker *w, void *arg) {
    machine *m = arg;
    for_units(u, w, BUFFER / CHUNK)
        m->sink = m->kernels->peak_read(m->buffer + (size_t)u * CHUNK, CHUNK);
}

static void multiply_floats(gqa_worker *w, void *arg) {
    machine *m = arg;
    for_units(u, w, m->n_threads) {
        double macs;
        m->sink = (double)m->kernels->peak_float(FLOAT_ROUNDS, &macs);
        if (u == 0) m->macs = macs;
    }
}

static void multiply_ints(gqa_worker *w, void *arg) {
    machine *m = arg;
    for_units(u, w, m->n_threads) {
        double macs;
        m->sink = (double)m->kernels->peak_int8(FLOAT_ROUNDS / 2, &macs);
        if (u == 0) m->macs = macs;
    }
}

machine *machine_new(int n_threads, const char *isa) {
    machine *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->kernels = gqa_kernels_find(isa);
    m->n_threads = n_threads;
    m->team = gqa_team_new(n_threads);
    m->buffer = gqa_pages_alloc(BUFFER, 1);
    if (!m->kernels || !m->team || !m->buffer) {
        machine_free(m);
        return NULL;
    }
    gqa_team_run(m->team, n_threads, touch, m);
    return m;
}

void machine_free(machine *m) {
    if (!m) return;
    gqa_team_free(m->team);
    if (m->buffer) gqa_pages_free(m->buffer, BUFFER);
    free(m);
}

static double best_rate(machine *m, int rounds, void (*work)(gqa_worker *, void *), double amount) {
    double best = 0;
    for (int i = 0; i < rounds; i++) {
        double start = seconds_now();
        gqa_team_run(m->team, m->n_threads, work, m);
        double rate = (amount > 0 ? amount : m->macs * m->n_threads) / (seconds_now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

void machine_measure(machine *m, int rounds, machine_limits *out) {
    out->n_threads = m->n_threads;
    out->read_bytes = best_rate(m, rounds, read_all, BUFFER);
    out->float_ops = best_rate(m, rounds, multiply_floats, 0);
    out->int8_ops = best_rate(m, rounds, multiply_ints, 0);
}

double machine_float_rate(int n_threads) {
    machine m = {.kernels = gqa_kernels_choose(NULL, NULL), .n_threads = n_threads ? n_threads : gqa_threads_default()};
    m.team = gqa_team_new(m.n_threads);
    double rate = m.team && m.kernels ? best_rate(&m, 3, multiply_floats, 0) : 0;
    gqa_team_free(m.team);
    return rate;
}

/* ---- self-check -------------------------------------------------------------------------------------------------- */

static float noise(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

static void *room(size_t size) { return aligned_alloc(64, (size + 63) & ~(size_t)63); }

/* y = x w^T for a matrix of that type and n columns against its dequantised weights and activations in double. */
static double check_product(const gqa_kernels *k, int type, int n) {
    enum { ROWS = 96, COLS = 768 };
    size_t panel = gqa_panel_bytes(type, COLS), worst_n = (size_t)n;
    float *w = room(sizeof(float) * ROWS * COLS), *x = room(sizeof(float) * COLS * worst_n), *y = room(sizeof(float) * ROWS * worst_n);
    uint8_t *raw = room(sizeof(float) * ROWS * COLS), *packed = room(panel * (ROWS / GQA_PANEL));
    void *acts = room(gqa_acts_bytes(COLS, n)), *scratch = room(gqa_matmul_scratch(COLS));
    double worst = -1;
    if (w && x && y && raw && packed && acts && scratch) {
        uint32_t state = 5;
        gqa_matrix m = {type, ROWS, COLS, raw, packed, panel};
        gqa_acts a;
        for (int i = 0; i < ROWS * COLS; i++) w[i] = noise(&state);
        for (int i = 0; i < COLS * n; i++) x[i] = noise(&state);
        gqa_quantize(type, w, raw, ROWS * COLS);
        gqa_dequantize(type, raw, w, ROWS * COLS);
        for (int p = 0; p < gqa_matrix_panels(&m); p++) gqa_pack_panel(&m, p, packed + (size_t)p * panel);
        gqa_acts_init(&a, acts, COLS, n);
        a.x = x, a.ldx = COLS;
        if (gqa_type_wants_q8(type)) {
            k->quantize_acts(&a, 0, n, 0, COLS);
            for (int i = 0; i < COLS * n; i++) x[i] = (float)a.q[i / COLS * a.kpad + i % COLS] * a.d[i / COLS * (a.kpad / 32) + i % COLS / 32];
        }
        for (int u = 0; u < gqa_matmul_units(&m); u++) k->matmul_unit(&m, &a, n, y, ROWS, u, scratch);
        for (int i = 0; i < n; i++)
            for (int r = 0; r < ROWS; r++) {
                double sum = 0, size = 0;
                for (int c = 0; c < COLS; c++) {
                    double t = (double)w[r * COLS + c] * (double)x[i * COLS + c];
                    sum += t, size += t * t;
                }
                double error = fabs(sum - (double)y[i * ROWS + r]) / sqrt(size);
                if (!(error <= worst)) worst = error;
            }
    }
    free(w), free(x), free(y), free(raw), free(packed), free(acts), free(scratch);
    return worst;
}

double machine_self_check(const char *isa, int weight_type, const char **what) {
    const gqa_kernels *k = gqa_kernels_find(isa);
    double decode = k ? check_product(k, weight_type, 1) : -1, prefill = k ? check_product(k, weight_type, 37) : -1;
    *what = decode > prefill ? "matrix times vector" : "matrix times matrix";
    return decode < 0 || prefill < 0 ? -1 : decode > prefill ? decode : prefill;
}
