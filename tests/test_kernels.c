/* test_kernels.c: packing, matrix products and the small operations of every instruction set that
 * this CPU has, against plain double loops over dequantised numbers. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"

#include "../formats/formats.h"
#include "../kernels/kernels.h"
#include "kernel_cases.h"
#include "unpack.h"

static const int types[] = {
    GQA_TYPE_F32,  GQA_TYPE_F16,  GQA_TYPE_BF16, GQA_TYPE_Q8_0, GQA_TYPE_Q4_0,
    GQA_TYPE_Q5_0, GQA_TYPE_Q4_K, GQA_TYPE_Q5_K, GQA_TYPE_Q6_K, GQA_TYPE_Q4_1,
    GQA_TYPE_Q5_1, GQA_TYPE_Q2_K, GQA_TYPE_Q3_K, GQA_TYPE_IQ4_NL, GQA_TYPE_IQ4_XS,
};

/* ---- blocks against gguf's Python (tests/golden/make_types.py) ------------------------------- */

/* Hexadecimal digits to bytes; how many. */
static size_t from_hex(const char *text, uint8_t *out) {
    size_t n = 0;
    for (unsigned byte; sscanf(text + 2 * n, "%2x", &byte) == 1; n++) out[n] = (uint8_t)byte;
    return n;
}

static void check_golden_blocks(void) {
    static char what[8], name[8], block[1024], floats[4096];
    uint8_t bytes[512], written[512];
    float want[256], got[256];
    int lines = 0;
    FILE *f = fopen("tests/golden/types.txt", "r");
    CHECK(f, "tests/golden/types.txt");
    while (f && fscanf(f, "#%*[^\n]\n") != EOF &&
           fscanf(f, "%7s %7s %1023s %4095s\n", what, name, block, floats) == 4) {
        const int type = gqa_type_from_name(name);
        const size_t size = from_hex(block, bytes), n = from_hex(floats, (uint8_t *)want) / 4;
        CHECK(type >= 0 && gqa_type_bytes(type, n) == size, "%s: %zu in %zu", name, n, size);
        if (what[0] == 'r') gqa_dequantize(type, bytes, got, n);
        else gqa_quantize(type, want, written, n);
        if (what[0] == 'r') CHECK(!memcmp(got, want, 4 * n), "%s is read", name);
        else CHECK(!memcmp(written, bytes, size), "%s is written", name);
        lines++;
    }
    CHECK(lines == 18, "%d lines", lines);
    if (f) fclose(f);
}

/* ---- packing -------------------------------------------------------------------------------- */

/* Blocks of random bytes with moderate scales: every code and every scale bit occurs. */
static void random_blocks(int type, uint8_t *raw, size_t bytes, uint64_t *seed) {
    const size_t step = (size_t)gqa_type_info_of(type)->bytes;
    for (size_t i = 0; i < bytes; i++) raw[i] = (uint8_t)test_random_bits(seed);
    for (size_t b = 0; b + step <= bytes; b += step) {
        uint16_t d = gqa_f32_to_f16(test_random(seed) * 0.1f);
        uint16_t dmin = gqa_f32_to_f16(test_random(seed) * 0.1f);
        float f = test_random(seed);
        uint16_t bf16 = gqa_f32_to_bf16(f);
        if (type == GQA_TYPE_F32) memcpy(raw + b, &f, 4);
        else if (type == GQA_TYPE_BF16) memcpy(raw + b, &bf16, 2);
        else if (type == GQA_TYPE_Q2_K) memcpy(raw + b + 80, &d, 2);
        else if (type == GQA_TYPE_Q3_K) memcpy(raw + b + 108, &d, 2);
        else memcpy(raw + b + (type == GQA_TYPE_Q6_K ? 208 : 0), &d, 2);
        if (type == GQA_TYPE_Q2_K) memcpy(raw + b + 82, &dmin, 2);
        if (type == GQA_TYPE_Q4_K || type == GQA_TYPE_Q5_K || type == GQA_TYPE_Q4_1 ||
            type == GQA_TYPE_Q5_1)
            memcpy(raw + b + 2, &dmin, 2);
    }
}

/* `run bench` multiplies random weights of every type: finite, with the deviation asked for. */
static void check_random_values(int type) {
    enum { N = 1 << 14 };
    uint64_t seed = 3;
    float *values = new_floats(N);
    uint8_t *stored = new_bytes(N * sizeof(float));
    double sum = 0, squares = 0;
    gqa_random_values(type, 0.25f, &seed, values, stored, N);
    gqa_dequantize(type, stored, values, N);
    for (int i = 0; i < N; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    double mean = sum / N, deviation = sqrt(squares / N - mean * mean), want = 0.25 / sqrt(3.0);
    CHECK(deviation > 0.8 * want && deviation < 1.25 * want, "%s: deviation %g, expected %g",
          gqa_type_name(type), deviation, want);
    CHECK(fabs(mean) < 0.1 * want, "%s: mean %g", gqa_type_name(type), mean);
    free_all();
}

typedef struct matrix {
    gqa_matrix m;
    size_t bytes;    /* of m.raw */
    float *values;   /* [rows][cols] */
} matrix;

static matrix make_matrix(int type, int rows, int cols, uint64_t *seed) {
    const size_t n = (size_t)rows * (size_t)cols, panel_bytes = gqa_panel_bytes(type, cols);
    matrix a = {.bytes = (size_t)gqa_type_bytes(type, n), .values = new_floats(n)};
    uint8_t *raw = new_bytes(a.bytes);
    random_blocks(type, raw, a.bytes, seed);
    gqa_dequantize(type, raw, a.values, n);
    a.m = (gqa_matrix){
        .type = type, .rows = rows, .cols = cols, .raw = raw, .panel_bytes = panel_bytes};
    const int panels = gqa_matrix_panels(&a.m);
    uint8_t *packed = new_bytes(panel_bytes * (size_t)panels);
    for (int p = 0; p < panels; p++)
        gqa_pack_panel(&a.m, p, packed + (size_t)p * panel_bytes, gqa_pack_codes_any);
    a.m.packed = packed;
    return a;
}

static void check_round_trip(int type, int rows, int cols) {
    uint64_t seed = 1;
    matrix a = make_matrix(type, rows, cols, &seed);
    const size_t panel_raw = a.bytes / (size_t)rows * GQA_PANEL;
    uint8_t *back = new_bytes(a.bytes);
    for (int p = 0; p < gqa_matrix_panels(&a.m); p++) {
        const uint8_t *panel = a.m.packed + (size_t)p * a.m.panel_bytes;
        unpack_panel(&a.m, p, panel, back + (size_t)p * panel_raw);
    }
    CHECK(!memcmp(back, a.m.raw, a.bytes), "%s [%d, %d]", gqa_type_name(type), rows, cols);
    free_all();
}

/* A set packs as any CPU does. */
static void check_packing(const gqa_kernels *k, int type, int rows, int cols) {
    uint64_t seed = 2;
    matrix a = make_matrix(type, rows, cols, &seed);
    uint8_t *panel = new_bytes(a.m.panel_bytes);
    for (int p = 0; p < gqa_matrix_panels(&a.m); p++) {
        gqa_pack_panel(&a.m, p, panel, k->pack_codes);
        CHECK(!memcmp(panel, a.m.packed + (size_t)p * a.m.panel_bytes, a.m.panel_bytes),
              "%s [%d, %d], panel %d", gqa_type_name(type), rows, cols, p);
    }
    free_all();
}

/* ---- matrix products ------------------------------------------------------------------------ */

typedef enum input { RANDOM, ALTERNATING, ONE_HOT, TINY_BLOCK, OUTLIERS, N_INPUTS } input;
static const char *const input_names[] = {"random", "alternating", "one-hot", "tiny block",
                                          "outliers"};

typedef struct product {
    int type, rows, cols, n;   /* n columns of x */
    input input;
} product;

static float *make_input(const product *p, uint64_t *seed) {
    const int n = p->n, cols = p->cols;
    float *x = random_floats((size_t)(n * cols), 1, seed);
    for (int i = 0; i < n * cols; i++) {
        if (p->input == ALTERNATING) x[i] = i & 1 ? -3.0f : 3.0f;
        if (p->input == ONE_HOT) x[i] = i % cols == i / cols * 7 % cols;
        if (p->input == TINY_BLOCK && i % cols < 32) x[i] = 1e-37f * (float)(i % 3);
        if (p->input == OUTLIERS && i % 53 == 11) x[i] = i % 2 ? 40.0f : -35.0f;
    }
    return x;
}

/* Largest error of y [n, rows] against doubles, relative to the size of the sums, with the
 * activations as the kernel sees them. */
static double product_error(const product *p, const float *w, const gqa_acts *a, const float *y) {
    const int wants_q8 = gqa_type_wants_q8(p->type);
    double worst = 0;
    for (int i = 0; i < p->n; i++) {
        const int8_t *q = a->q + (size_t)i * a->kpad;
        const float *d = a->d + (size_t)i * a->kpad / 32, *x = a->x + i * p->cols;
        for (int r = 0; r < p->rows; r++) {
            double sum = 0, size = 1e-30;
            for (int c = 0; c < p->cols; c++) {
                double xc = wants_q8 ? (double)q[c] * (double)d[c / 32] : (double)x[c];
                double term = (double)w[r * p->cols + c] * xc;
                sum += term;
                size += term * term;
            }
            double error = fabs(sum - (double)y[i * p->rows + r]) / sqrt(size);
            worst = test_worse(worst, error);
        }
    }
    return worst;
}

/* The input of a product, in int8 as well if a product with weights of that type takes it. */
static gqa_acts make_acts(const gqa_kernels *k, const product *p, int type, int planes,
                          uint64_t *seed) {
    gqa_acts a;
    void *storage = new_bytes(gqa_acts_bytes(p->cols, planes * p->n));
    gqa_acts_init(&a, storage, p->cols, planes * p->n);
    a.x = make_input(p, seed);
    a.ldx = (size_t)p->cols;
    if (gqa_type_wants_q8(type)) k->quantize_acts(&a, 0, p->n, 0, p->cols, 0);
    return a;
}

static void check_product(const gqa_kernels *k, product p) {
    uint64_t seed = 1;
    matrix a = make_matrix(p.type, p.rows, p.cols, &seed);
    const size_t size = (size_t)(p.n * p.rows), ldy = (size_t)p.rows;
    float *y = new_floats(size), *y_raw = new_floats(size);
    void *scratch = new_bytes(gqa_matmul_scratch(p.cols));
    const gqa_acts acts = make_acts(k, &p, p.type, 1, &seed);
    for (int u = 0; u < gqa_matmul_units(&a.m); u++)
        k->matmul_unit(&a.m, &acts, p.n, y, ldy, u, scratch);
    a.m.packed = NULL;
    for (int u = 0; u < gqa_matmul_units(&a.m); u++)
        k->matmul_unit(&a.m, &acts, p.n, y_raw, ldy, u, scratch);
    CHECK(!memcmp(y, y_raw, sizeof(float) * size), "packed and raw differ: [%d, %d] x %d", p.rows,
          p.cols, p.n);
    double error = product_error(&p, a.values, &acts, y);
    CHECK(error < 2e-5, "[%d, %d] x %d, %s: error %g", p.rows, p.cols, p.n, input_names[p.input],
          error);
    free_all();
}

/* The first n columns give the bits that they give among all, and no other y is written. Quantised
 * types do so even where some are decoded and others go through tiles. */
static void check_columns(const gqa_kernels *k, int type) {
    enum { ROWS = 33, COLS = 512 };
    const int most = gqa_type_wants_q8(type) ? 23 : 15;
    const product p = {type, ROWS, COLS, most, RANDOM};
    uint64_t seed = 1;
    matrix a = make_matrix(type, ROWS, COLS, &seed);
    float *all = new_floats((size_t)(most * ROWS)), *y = new_floats((size_t)(most * ROWS));
    void *scratch = new_bytes(gqa_matmul_scratch(COLS));
    const gqa_acts acts = make_acts(k, &p, type, 1, &seed);
    k->matmul_unit(&a.m, &acts, most, all, ROWS, 0, scratch);
    for (int n = 1; n < most; n++) {
        const size_t size = sizeof *y * (size_t)(n * ROWS);
        uint32_t after;
        k->matmul_unit(&a.m, &acts, n, y, ROWS, 0, scratch);
        CHECK(!memcmp(y, all, size), "%d columns of %d", n, most);
        memcpy(&after, y + n * ROWS, sizeof after);
        CHECK(after == UINT32_MAX, "column %d is written", n);
    }
    free_all();
}

/* A block's scale that is infinite, and one that is no number: of their rows alone the products are
 * not finite. */
static void check_special_scales(const gqa_kernels *k, int type) {
    enum { ROWS = 33, COLS = 512, MOST = 23, INFINITE = 3, NOT_A_NUMBER = 20 };
    static const int ns[] = {1, 2, 4, MOST};
    const product p = {type, ROWS, COLS, MOST, RANDOM};
    const int at = type == GQA_TYPE_Q2_K ? 80 : type == GQA_TYPE_Q3_K ? 108 :
                   type == GQA_TYPE_Q6_K ? 208 : 0; /* of d in a block */
    uint64_t seed = 5;
    matrix a = make_matrix(type, ROWS, COLS, &seed);
    float *usual = new_floats(MOST * ROWS), *y = new_floats(MOST * ROWS);
    void *scratch = new_bytes(gqa_matmul_scratch(COLS));
    uint8_t *raw = new_bytes(a.bytes);
    const size_t row_bytes = a.bytes / ROWS, block = gqa_type_info_of(type)->bytes;
    const gqa_acts acts = make_acts(k, &p, type, 1, &seed);
    k->matmul_unit(&a.m, &acts, MOST, usual, ROWS, 0, scratch);
    memcpy(raw, a.m.raw, a.bytes);
    memcpy(raw + INFINITE * row_bytes + block + at, "\x00\x7C", 2);
    memcpy(raw + NOT_A_NUMBER * row_bytes + at, "\x01\xFC", 2);
    a.m.raw = raw;
    a.m.packed = NULL;
    for (size_t i = 0; i < COUNT(ns); i++) {
        k->matmul_unit(&a.m, &acts, ns[i], y, ROWS, 0, scratch);
        for (int at_y = 0; at_y < ns[i] * ROWS; at_y++) {
            int row = at_y % ROWS, is_special = row == INFINITE || row == NOT_A_NUMBER;
            CHECK(is_special ? !isfinite(y[at_y]) : !memcmp(&y[at_y], &usual[at_y], sizeof *y),
                  "%d columns, row %d: %g, expected %g", ns[i], row, (double)y[at_y],
                  is_special ? HUGE_VAL : (double)usual[at_y]);
        }
    }
    free_all();
}

/* Two planes: near the product with x itself, with the same bits whatever the columns beside. */
static void check_planes(const gqa_kernels *k, int type) {
    enum { ROWS = 81, COLS = 512, MOST = 19 };
    const product p = {GQA_TYPE_F32, ROWS, COLS, MOST, OUTLIERS};
    uint64_t seed = 3;
    matrix a = make_matrix(type, ROWS, COLS, &seed);
    float *all = new_floats((size_t)(MOST * ROWS)), *y = new_floats((size_t)(MOST * ROWS));
    void *scratch = new_bytes(gqa_planes_scratch(MOST) + gqa_matmul_scratch(COLS));
    gqa_acts acts = make_acts(k, &p, type, 2, &seed);
    for (int n = MOST; n > 0; n = n > 4 ? n / 2 : n - 1) {
        k->quantize_acts(&acts, 0, n, 0, COLS, n);
        for (int u = 0; u < gqa_matmul_units(&a.m); u++)
            gqa_matmul_unit(k, &a.m, &acts, n, 2, n == MOST ? all : y, ROWS, u, scratch);
        CHECK(n == MOST || !memcmp(y, all, sizeof *y * (size_t)(n * ROWS)), "%d columns", n);
    }
    double error = product_error(&p, a.values, &acts, all); /* p is of floats: x as it is */
    CHECK(error < 6e-4, "error %g", error); /* in one plane 6e-2 */
    free_all();
}

static void check_products(const gqa_kernels *k, int type) {
    static const int ns[] = {1, 2, 3, 4, 6, 7, 13, 17, 23}, rows[] = {1, 15, 16, 17, 64, 65, 130};
    static const int cols_of_1[] = {7, 33, 300}, cols_of_32[] = {32, 288, 96};
    static const int cols_of_256[] = {256, 512, 768};
    const int block = gqa_type_info_of(type)->block;
    const int *cols = block == 1 ? cols_of_1 : block == 32 ? cols_of_32 : cols_of_256;
    for (size_t i = 0; i < COUNT(ns); i++)
        check_product(k, (product){type, rows[i % COUNT(rows)], cols[i % 3], ns[i], RANDOM});
    for (size_t i = 0; i < COUNT(rows); i++)
        check_product(k, (product){type, rows[i], cols[2], i % 2 ? 9 : 18, RANDOM});
    /* more columns than are unpacked at a time */
    check_product(k, (product){type, 33, block == 1 ? 1030 : 2304, 19, RANDOM});
    check_columns(k, type);
    if (gqa_type_wants_q8(type)) {
        check_planes(k, type);
        check_special_scales(k, type);
    }
    for (int in = ALTERNATING; in < N_INPUTS; in++) {
        check_product(k, (product){type, 33, cols[1], 1, (input)in});
        check_product(k, (product){type, 33, cols[1], 7, (input)in});
        check_product(k, (product){type, 33, cols[1], 19, (input)in});
    }
}

/* A float matrix of any strides. */
typedef struct strided {
    float *values;
    size_t row, col;
} strided;

static strided random_strided(int rows, int cols, int transposed, uint64_t *seed) {
    const size_t ld = (size_t)(transposed ? rows : cols) + 3;
    float *values = random_floats(ld * (size_t)(transposed ? cols : rows), 1, seed);
    return (strided){values, transposed ? 1 : ld, transposed ? ld : 1};
}

/* sgemm of [m, k] and [k, n] against sums in double precision, and in two parts along m and n with
 * the same bits. C has a column more than n, which nothing touches. */
static void check_sgemm(const gqa_kernels *kernels, int m, int n, int k, int transposed) {
    uint64_t seed = 11;
    const strided A = random_strided(m, k, transposed & 1, &seed);
    const strided B = random_strided(k, n, transposed >> 1, &seed);
    const size_t ldc = (size_t)n + 1, size = (size_t)m * ldc;
    float *before = random_floats(size, 1, &seed), *C = new_floats(size), *parts = new_floats(size);
    void *scratch = new_bytes(gqa_sgemm_scratch());
    double error = 0;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        memcpy(C, before, size * sizeof *C);
        memcpy(parts, before, size * sizeof *C);
        kernels->sgemm(m, n, k, A.values, A.row, A.col, B.values, B.row, B.col, C, ldc, accumulate,
                       scratch);
        for (int part = 0; part < 4; part++) {
            const int i = part / 2 * (m / 3), j = part % 2 * (n / 3);
            const int rows = part / 2 ? m - i : m / 3, cols = part % 2 ? n - j : n / 3;
            kernels->sgemm(rows, cols, k, A.values + (size_t)i * A.row, A.row, A.col,
                           B.values + (size_t)j * B.col, B.row, B.col,
                           parts + (size_t)i * ldc + (size_t)j, ldc, accumulate, scratch);
        }
        CHECK(!memcmp(C, parts, size * sizeof *C), "[%d, %d, %d], %d: in parts", m, n, k,
              transposed);
        for (size_t i = 0; i < (size_t)m; i++) {
            const size_t end = i * ldc + (size_t)n;
            CHECK(C[end] == before[end], "row %zu: past its end", i);
            for (size_t j = 0; j < (size_t)n; j++) {
                double sum = accumulate ? (double)before[i * ldc + j] : 0;
                for (size_t p = 0; p < (size_t)k; p++)
                    sum += (double)A.values[i * A.row + p * A.col] *
                           (double)B.values[p * B.row + j * B.col];
                error = fmax(error, fabs((double)C[i * ldc + j] - sum));
            }
        }
    }
    CHECK(error < 1e-6 * (k + 10), "[%d, %d, %d], %d: error %g", m, n, k, transposed, error);
    free_all();
}

/* Sizes about those of blocks and of micro-panels (6 or 12 rows, 2 vectors of columns). */
static void check_sgemms(const gqa_kernels *kernels) {
    for (int transposed = 0; transposed < 4; transposed++) {
        check_sgemm(kernels, 1, 1, 1, transposed);
        check_sgemm(kernels, 5, 35, 7, transposed);
        check_sgemm(kernels, 23, 64, 0, transposed);
        check_sgemm(kernels, 64, 33, 66, transposed);
        check_sgemm(kernels, GQA_SGEMM_MC + 1, 47, GQA_SGEMM_KC + 5, transposed);
        check_sgemm(kernels, 13, GQA_SGEMM_NC + 17, 10, transposed);
    }
}

/* ---- small operations ----------------------------------------------------------------------- */

static void check_rmsnorm(const gqa_kernels *k) {
    uint64_t seed = 3;
    const float *x = random_floats(100, 3, &seed), *w = random_floats(100, 1, &seed);
    float *y = new_floats(100);
    for (int n = 1; n <= 100; n += 9) {
        double sum = 0, worst = 0;
        for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
        k->rmsnorm(y, x, w, n, 1e-5f);
        for (int i = 0; i < n; i++) {
            double want = (double)x[i] * (double)w[i] / sqrt(sum / n + 1e-5);
            worst = test_worse(worst, fabs((double)y[i] - want));
        }
        CHECK(worst < 2e-6, "%d values: %g", n, worst);
    }
    free_all();
}

static void check_swiglu(const gqa_kernels *k) {
    float gate[37], up[37];
    double worst = 0;
    for (int i = 0; i < 37; i++) up[i] = 1;
    for (int step = 0; step < 200000; step += 37) {
        for (int i = 0; i < 37; i++) gate[i] = (float)(step + i - 100000) * 0.0009f;
        k->swiglu(gate, gate, up, 37);
        for (int i = 0; i < 37; i++) {
            double z = (double)((float)(step + i - 100000) * 0.0009f), want = z / (1 + exp(-z));
            double size = want != 0 && z > -80 ? fabs(want) : 1;
            worst = test_worse(worst, fabs((double)gate[i] - want) / size);
        }
    }
    CHECK(worst < 5e-7, "relative error %g", worst);
    float x[8] = {1e4f, -1e4f, 0, 88, -88, 3e38f, -3e38f, 1}, ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    k->swiglu(x, x, ones, 8);
    CHECK(x[0] == 1e4f && fabsf(x[1]) < 1e-30f && x[2] == 0 && isfinite(x[5]), "%g %g %g %g",
          (double)x[0], (double)x[1], (double)x[2], (double)x[5]);
}

/* Pairs rotated by the angles of (3, 4, 5), 0, 90 and 180 degrees. */
static void check_rope(const gqa_kernels *k, int half, const float want[8]) {
    const float cos_sin[8] = {0.6f, 1, 0, -1, 0.8f, 0, 1, 0};
    float head[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    k->rope(head, cos_sin, 8, half);
    for (int i = 0; i < 8; i++)
        CHECK(fabsf(head[i] - want[i]) < 1e-6f, "value %d: %g, expected %g", i, (double)head[i],
              (double)want[i]);
}

/* ---- the CPU -------------------------------------------------------------------------------- */

/* As the compiler's library sees it. */
static void check_cpu(void) {
    CHECK(gqa_cpu_has(GQA_CPU_ANY), "nothing at all");
#if defined(__x86_64__) && !defined(__APPLE__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int f = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512vnni");
    CHECK(gqa_cpu_has(GQA_CPU_AVX2) == avx2, "AVX2");
    CHECK(gqa_cpu_has(GQA_CPU_AVX512) == f, "AVX-512");
    CHECK(!gqa_cpu_has(GQA_CPU_DOT), "a product of aarch64");
    const int likes = __builtin_cpu_is("intel") || __builtin_cpu_is("znver3");
    CHECK(!avx2 || gqa_cpu_has(GQA_CPU_EVERY_LINE) == likes, "every line");
#if defined(__clang__) || __GNUC__ >= 11
    const int bf16 = __builtin_cpu_supports("avx512bf16") != 0;
    CHECK(gqa_cpu_has(GQA_CPU_BF16) == bf16, "AVX512_BF16");
#endif
#endif
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void test_set(const gqa_kernels *k) {
    for (size_t t = 0; t < COUNT(types); t++)
        if (case_of(k->name, "products, %s", gqa_type_name(types[t]))) check_products(k, types[t]);
    if (case_of(k->name, "%s", "products of floats, any strides")) check_sgemms(k);
    for (size_t t = 0; t < COUNT(types); t++)
        if (case_of(k->name, "packing, %s", gqa_type_name(types[t]))) {
            const int block = gqa_type_info_of(types[t])->block;
            check_packing(k, types[t], 35, block == 1 ? 103 : 3 * block);
        }
    if (case_of(k->name, "%s", "rmsnorm")) check_rmsnorm(k);
    if (case_of(k->name, "%s", "swiglu")) check_swiglu(k);
    if (case_of(k->name, "rope, %s", "adjacent pairs"))
        check_rope(k, 0, (float[8]){0.6f - 1.6f, 0.8f + 1.2f, 3, 4, -6, 5, -7, -8});
    if (case_of(k->name, "rope, %s", "half-split pairs"))
        check_rope(k, 1, (float[8]){0.6f - 4.0f, 2, -7, -4, 0.8f + 3.0f, 6, 3, -8});
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("what the CPU can do") check_cpu();
    TEST("blocks against gguf's") check_golden_blocks();
    for (size_t t = 0; t < COUNT(types); t++)
        if (case_of("packing and back", "%s", gqa_type_name(types[t]))) {
            const int block = gqa_type_info_of(types[t])->block;
            check_round_trip(types[t], 1, block);
            check_round_trip(types[t], 17, 3 * block);
            check_round_trip(types[t], 48, 9 * block);
            check_round_trip(types[t], 33, block == 1 ? 103 : 5 * block);
        }
    for (size_t t = 0; t < COUNT(types); t++)
        if (case_of("random values", "%s", gqa_type_name(types[t]))) check_random_values(types[t]);
    for_sets(test_set);
    return test_end();
}
