/* test_bf16.c: --fast-prefill: products of float weights in bf16, against double loops over numbers
 * rounded to it; and sessions that use them: in passes of more than 16 tokens, and in no others. */
#include "sessions.h"

#include "../formats/formats.h"

static const int types[] = {GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16};
enum { N_TYPES = 3 };

/* ---- products -------------------------------------------------------------------------------- */

typedef struct product {
    gqa_matrix w;
    gqa_acts acts;
    int n;
    float *values, *x, *y;   /* [rows, cols], [n, cols], [n, rows] */
    void *scratch, *blocks[8];
    size_t sizes[8];
    int n_blocks;
} product;

static void *take(product *p, size_t size) {
    void *block = gqa_pages_alloc(size, 0);
    if (!block) abort();
    memset(block, 0xff, size); /* NaN: what an earlier use may leave */
    p->sizes[p->n_blocks] = size;
    return p->blocks[p->n_blocks++] = block;
}

static product new_product(int type, int rows, int cols, int n) {
    const size_t n_w = (size_t)(rows * cols), n_x = (size_t)(n * cols);
    const size_t panel = gqa_panel_bytes(type, cols);
    uint64_t seed = 3;
    product p = {.n = n};
    uint8_t *raw = take(&p, n_w * sizeof(float));
    p.values = take(&p, n_w * sizeof(float));
    p.x = take(&p, n_x * sizeof(float));
    p.y = take(&p, sizeof(float) * (size_t)(n * rows));
    p.scratch = take(&p, gqa_matmul_scratch(cols));
    gqa_acts_init(&p.acts, take(&p, gqa_acts_bytes(cols, n)), cols, n);
    p.acts.x = p.x;
    p.acts.ldx = (size_t)cols;
    p.acts.bf16 = take(&p, sizeof(uint16_t) * p.acts.kpad * (size_t)n);
    gqa_random_values(type, 1, &seed, p.values, raw, n_w);
    gqa_dequantize(type, raw, p.values, n_w);
    for (size_t i = 0; i < n_x; i++) p.x[i] = test_random(&seed);
    p.w = (gqa_matrix){type, rows, cols, raw, NULL, panel};
    uint8_t *packed = take(&p, panel * (size_t)gqa_matrix_panels(&p.w));
    for (int i = 0; i < gqa_matrix_panels(&p.w); i++)
        gqa_pack_panel(&p.w, i, packed + (size_t)i * panel);
    p.w.packed = packed;
    return p;
}

static void free_product(product *p) {
    while (p->n_blocks--) gqa_pages_free(p->blocks[p->n_blocks], p->sizes[p->n_blocks]);
}

static void multiply(const gqa_kernels *k, product *p) {
    for (int u = 0; u < gqa_matmul_units(&p->w); u++)
        k->matmul_unit(&p->w, &p->acts, p->n, p->y, (size_t)p->w.rows, u, p->scratch);
}

static double as_bf16(float x) { return (double)gqa_bf16_to_f32(gqa_f32_to_bf16(x)); }

/* The largest error of y, relative to the size of the sums, of numbers rounded to bf16 or not. */
static double error_of(const product *p, int is_rounded) {
    const int rows = p->w.rows, cols = p->w.cols;
    double worst = 0;
    for (int i = 0; i < p->n; i++)
        for (int r = 0; r < rows; r++) {
            const float *w = p->values + r * cols, *x = p->x + i * cols;
            double sum = 0, size = 1e-30;
            for (int c = 0; c < cols; c++) {
                double term = is_rounded ? as_bf16(w[c]) * as_bf16(x[c])
                                         : (double)w[c] * (double)x[c];
                sum += term;
                size += term * term;
            }
            double error = fabs(sum - (double)p->y[i * rows + r]) / sqrt(size);
            worst = test_worse(worst, error);
        }
    return worst;
}

/* Activations in two parts, as attention makes them, and the half of a pair after an odd end. */
static void check_rounding(const gqa_kernels *k, product *p) {
    const int cols = p->w.cols, first = cols / 64 * 32;
    int wrong = 0;
    k->round_acts(&p->acts, 0, p->n, 0, first);
    for (int i = 0; i < p->n; i++) k->round_acts(&p->acts, i, i + 1, first, cols);
    for (int i = 0; i < p->n; i++) {
        const uint16_t *row = p->acts.bf16 + (size_t)i * p->acts.kpad;
        for (int c = 0; c < cols; c++) wrong += row[c] != gqa_f32_to_bf16(p->x[i * cols + c]);
        if (cols % 2) wrong += row[cols] != 0;
    }
    CHECK(!wrong, "%d activations are rounded otherwise", wrong);
}

static void check_product(const gqa_kernels *k, int type, int rows, int cols, int n) {
    product p = new_product(type, rows, cols, n);
    const size_t size = sizeof(float) * (size_t)(n * rows);
    const int is_many = n > GQA_DECODE_ORDER;
    uint16_t *bf16 = p.acts.bf16;
    float *f32 = malloc(size), *packed = malloc(size);
    check_rounding(k, &p);
    p.acts.bf16 = NULL;
    multiply(k, &p);
    memcpy(f32, p.y, size);
    CHECK(error_of(&p, 0) < 2e-5, "[%d, %d] x %d in f32: %g", rows, cols, n, error_of(&p, 0));
    p.acts.bf16 = bf16;
    multiply(k, &p);
    memcpy(packed, p.y, size);
    double error = error_of(&p, is_many);
    CHECK(error < 2e-5, "[%d, %d] x %d: error %g", rows, cols, n, error);
    int is_same = !memcmp(p.y, f32, size);
    CHECK(is_same == !is_many, "[%d, %d] x %d: %d", rows, cols, n, is_same);
    p.w.packed = NULL;
    multiply(k, &p);
    CHECK(!memcmp(p.y, packed, size), "[%d, %d] x %d, not repacked", rows, cols, n);
    free(f32);
    free(packed);
    free_product(&p);
}

/* Sums of columns are the same bits beside other columns. */
static void check_neighbours(const gqa_kernels *k, int type) {
    enum { ROWS = 40, COLS = 1100, N = 41, FEWER = 17 };
    product p = new_product(type, ROWS, COLS, N);
    float all[N * ROWS];
    k->round_acts(&p.acts, 0, N, 0, COLS);
    multiply(k, &p);
    memcpy(all, p.y, sizeof all);
    p.n = FEWER;
    for (int first = 0; first + FEWER <= N; first += 3) {
        multiply(k, &p);
        CHECK(!memcmp(p.y, all + first * ROWS, sizeof *all * FEWER * ROWS), "column %d", first);
        p.acts.x += 3 * COLS;
        p.acts.bf16 += 3 * p.acts.kpad;
    }
    free_product(&p);
}

/* What is not a number stays none, and large numbers become infinite as round to nearest has it. */
static void check_specials(const gqa_kernels *k) {
    product p = new_product(GQA_TYPE_F32, 16, 64, 17);
    static const uint32_t bits[] = {0x7fffffff, 0x7f800001, 0xffc00000, 0x7f7fffff, 0x7f7f7fff,
                                    0x80000000, 0x3f808000, 0x3f818000, 0xff800000};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) memcpy(p.x + i, bits + i, 4);
    k->round_acts(&p.acts, 0, 1, 0, 64);
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        uint16_t got = p.acts.bf16[i], want = gqa_f32_to_bf16(p.x[i]);
        int is_nan = isnan(p.x[i]) && isnan(gqa_bf16_to_f32(got));
        CHECK(is_nan || got == want, "%08x: %04x, expected %04x", bits[i], got, want);
    }
    free_product(&p);
}

static void check_products(const gqa_kernels *k, int type) {
    static const int rows[] = {1, 15, 16, 17, 64, 65, 130}, cols[] = {7, 33, 300, 64, 1};
    for (int i = 0; i < 14; i++) check_product(k, type, rows[i % 7], cols[i % 5], 15 + i);
    check_product(k, type, 33, 1025, 19); /* more columns than are unpacked at a time */
    check_product(k, type, 64, 2200, 60);
    check_neighbours(k, type);
}

static void check_sets(void) {
    const char *isas[8];
    int n = gqa_kernels_list(isas, 8), n_tested = 0;
    for (int i = 0; i < n; i++) {
        const gqa_kernels *k = gqa_kernels_find(isas[i]);
        char name[64];
        if (!gqa_kernels_have_bf16(k)) continue;
        n_tested++;
        for (int t = 0; t < N_TYPES; t++) {
            snprintf(name, sizeof name, "%s: products, %s", isas[i], gqa_type_name(types[t]));
            TEST(name) check_products(k, types[t]);
        }
        snprintf(name, sizeof name, "%s: NaN and infinity", isas[i]);
        TEST(name) check_specials(k);
    }
    if (!n_tested) test_skip("products in bf16", "not on this CPU or not in this build");
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_sets();
    return test_end();
}
