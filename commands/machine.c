/* machine.c: measures the limits of this machine with the loops of kernels/peak_impl.h, and checks
 * the kernels against plain double loops. */
#include "machine.h"

#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "../base/random.h"
#include "../formats/formats.h"
#include "../kernels/kernels.h"
#include "../kernels/team.h"
#include "command.h"

enum { BUFFER = 512 << 20, CHUNK = 1 << 20, FLOAT_ROUNDS = 1 << 20 };

struct machine {
    const gqa_kernels *kernels;
    gqa_team *team;
    int n_threads, with_bf16;
    uint8_t *buffer;
    double macs;          /* of one thread's loop */
    volatile double sink; /* keeps the loops alive */
};

static void fill(gqa_worker *me, void *arg) {
    machine *m = arg;
    for_units(u, me, BUFFER / CHUNK) memset(m->buffer + u * CHUNK, u, CHUNK);
}

static void read_all(gqa_worker *me, void *arg) {
    machine *m = arg;
    for_units(u, me, BUFFER / CHUNK) m->sink = m->kernels->peak_read(m->buffer + u * CHUNK, CHUNK);
}

static void multiply_floats(gqa_worker *me, void *arg) {
    machine *m = arg;
    for_units(u, me, m->n_threads) {
        double macs;
        m->sink = (double)m->kernels->peak_float(FLOAT_ROUNDS, &macs);
        if (u == 0) m->macs = macs;
    }
}

static void multiply_ints(gqa_worker *me, void *arg) {
    machine *m = arg;
    for_units(u, me, m->n_threads) {
        double macs;
        m->sink = (double)m->kernels->peak_int8(FLOAT_ROUNDS / 2, &macs);
        if (u == 0) m->macs = macs;
    }
}

static void multiply_bf16(gqa_worker *me, void *arg) {
    machine *m = arg;
    for_units(u, me, m->n_threads) {
        double macs;
        m->sink = (double)m->kernels->peak_bf16(FLOAT_ROUNDS / 2, &macs);
        if (u == 0) m->macs = macs;
    }
}

machine *machine_new(int n_threads, const char *isa, int with_bf16) {
    machine *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->kernels = gqa_kernels_find(isa);
    m->n_threads = n_threads;
    m->team = gqa_team_new(n_threads, NULL, NULL);
    m->buffer = gqa_pages_alloc(BUFFER, 1);
    if (!m->kernels || !m->team || !m->buffer) {
        machine_free(m);
        return NULL;
    }
    m->n_threads = gqa_team_threads(m->team);
    m->with_bf16 = with_bf16 && gqa_kernels_have_bf16(m->kernels);
    gqa_team_run(m->team, n_threads, fill, m);
    return m;
}

void machine_free(machine *m) {
    if (!m) return;
    gqa_team_free(m->team);
    if (m->buffer) gqa_pages_free(m->buffer, BUFFER);
    free(m);
}

/* The best of some rounds, a second; amount: what a round does, 0: m->macs of each thread. */
static double best_rate(machine *m, int rounds, void (*work)(gqa_worker *, void *), double amount) {
    double best = 0;
    for (int i = 0; i < rounds; i++) {
        double start = seconds_now();
        gqa_team_run(m->team, m->n_threads, work, m);
        double seconds = seconds_now() - start;
        double rate = (amount > 0 ? amount : m->macs * m->n_threads) / seconds;
        if (rate > best) best = rate;
    }
    return best;
}

void machine_measure(machine *m, int rounds, machine_limits *out) {
    out->n_threads = m->n_threads;
    out->read_bytes = best_rate(m, rounds, read_all, BUFFER);
    out->float_ops = best_rate(m, rounds, multiply_floats, 0);
    out->int8_ops = best_rate(m, rounds, multiply_ints, 0);
    out->bf16_ops = m->with_bf16 ? best_rate(m, rounds, multiply_bf16, 0) : (double)NAN;
}

double machine_float_rate(int n_threads) {
    if (n_threads == 0) n_threads = gqa_threads_default();
    machine m = {.kernels = gqa_kernels_choose(NULL, NULL), .n_threads = n_threads};
    m.team = gqa_team_new(n_threads, NULL, NULL);
    if (m.team) m.n_threads = gqa_team_threads(m.team);
    double rate = m.team && m.kernels ? best_rate(&m, 3, multiply_floats, 0) : 0;
    gqa_team_free(m.team);
    return rate;
}

/* ---- self-check ----------------------------------------------------------------------------- */

enum { ROWS = 96, COLS = 768, PREFILL_TOKENS = 37 };

/* A product y = x w^T of a matrix with n columns, as the kernels take it. */
typedef struct product {
    gqa_matrix matrix;
    gqa_acts acts;
    float *w, *x, *y;         /* [ROWS, COLS], [n, COLS], [n, ROWS] */
    uint8_t *raw, *packed;
    void *acts_memory, *scratch;
    uint8_t *memory;          /* of all of these */
    size_t size;
} product;

/* A part of the memory, which begins at a multiple of 64 bytes; with no memory, counted only. */
static void *product_part(product *p, size_t size) {
    uint8_t *part = p->memory ? p->memory + p->size : NULL;
    p->size += round_up(size, 64);
    return part;
}

static void product_lay_out(product *p, int type, int n) {
    size_t floats = sizeof(float) * max_size(ROWS, (size_t)n) * COLS;
    size_t panel = gqa_panel_bytes(type, COLS);
    p->size = 0;
    p->w = product_part(p, floats);
    p->x = product_part(p, floats);
    p->y = product_part(p, floats);
    p->raw = product_part(p, floats);
    p->packed = product_part(p, panel * (ROWS / GQA_PANEL));
    p->acts_memory = product_part(p, gqa_acts_bytes(COLS, n));
    p->scratch = product_part(p, gqa_matmul_scratch(COLS));
    p->matrix = (gqa_matrix){type, ROWS, COLS, p->raw, p->packed, panel, 0};
}

static int product_alloc(product *p, int type, int n) {
    product_lay_out(p, type, n);
    p->memory = gqa_pages_alloc(p->size, 0);
    if (p->memory) product_lay_out(p, type, n);
    return p->memory != NULL;
}

/* Random weights and activations; w and x then hold the rounded values that the kernels see. */
static void product_fill(product *p, const gqa_kernels *k, int n) {
    uint64_t state = 5;
    gqa_random_values(p->matrix.type, 1, &state, p->w, p->raw, ROWS * COLS);
    gqa_random_uniform(p->x, (size_t)n * COLS, 1, &state);
    gqa_dequantize(p->matrix.type, p->raw, p->w, ROWS * COLS);
    uint8_t *panel = p->packed;
    for (int i = 0; i < gqa_matrix_panels(&p->matrix); i++, panel += p->matrix.panel_bytes)
        gqa_pack_panel(&p->matrix, i, panel, k->pack_codes);
    gqa_acts *a = &p->acts;
    gqa_acts_init(a, p->acts_memory, COLS, n);
    a->x = p->x;
    a->ldx = COLS;
    if (!gqa_type_wants_q8(p->matrix.type)) return;
    k->quantize_acts(a, 0, n, 0, COLS, 0);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < COLS; c++)
            p->x[i * COLS + c] = (float)a->q[i * a->kpad + c] * a->d[i * (a->kpad / 32) + c / 32];
}

/* The largest error of y against double loops, relative to the size of the sum. */
static double product_error(const product *p, int n) {
    double worst = -1;
    for (int i = 0; i < n; i++)
        for (int r = 0; r < ROWS; r++) {
            const float *w = p->w + r * COLS, *x = p->x + i * COLS;
            double sum = 0, squares = 0;
            for (int c = 0; c < COLS; c++) {
                double term = (double)w[c] * (double)x[c];
                sum += term;
                squares += term * term;
            }
            double error = fabs(sum - (double)p->y[i * ROWS + r]) / sqrt(squares);
            if (!(error <= worst)) worst = error; /* NaN is the worst */
        }
    return worst;
}

static double check_product(const gqa_kernels *k, int type, int n) {
    product p = {0};
    double worst = -1;
    if (product_alloc(&p, type, n)) {
        product_fill(&p, k, n);
        for (int u = 0; u < gqa_matmul_units(&p.matrix); u++)
            k->matmul_unit(&p.matrix, &p.acts, n, p.y, ROWS, u, p.scratch);
        worst = product_error(&p, n);
    }
    gqa_pages_free(p.memory, p.size);
    return worst;
}

double machine_self_check(const char *isa, int weight_type, const char **what) {
    const gqa_kernels *k = gqa_kernels_find(isa);
    if (!k) return -1;
    double decode = check_product(k, weight_type, 1);
    double prefill = check_product(k, weight_type, PREFILL_TOKENS);
    *what = decode > prefill ? "matrix times vector" : "matrix times matrix";
    if (decode < 0 || prefill < 0) return -1;
    return decode > prefill ? decode : prefill;
}
