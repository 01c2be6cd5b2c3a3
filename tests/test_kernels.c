/* test_kernels.c: packing, matrix products and attention of every instruction set that this CPU has, against plain double
 * loops over dequantised numbers. */
#include "test.h"

#include "../kernels/kernels.h"
#include "unpack.h"

static const int types[] = {GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16, GQA_TYPE_Q8_0, GQA_TYPE_Q4_0, GQA_TYPE_Q5_0, GQA_TYPE_Q4_K, GQA_TYPE_Q5_K, GQA_TYPE_Q6_K};
enum { N_TYPES = sizeof types / sizeof types[0] };
static const char *const isas[] = {"scalar", "avx2", "avx512", "neon"};

static void *room(size_t n) { return aligned_alloc(64, (n + 127) & ~(size_t)63); }

/* Blocks of random bytes with tame scales: every code and every scale bit occurs. */
static void random_blocks(int type, uint8_t *raw, size_t bytes, uint64_t *seed) {
    const gqa_type_info *t = gqa_type_info_of(type);
    for (size_t i = 0; i < bytes; i++) raw[i] = (uint8_t)test_random_bits(seed);
    for (size_t b = 0; b + (size_t)t->bytes <= bytes; b += (size_t)t->bytes) {
        uint16_t h = gqa_f32_to_f16(test_random(seed) * 0.1f), m = gqa_f32_to_f16(test_random(seed) * 0.1f);
        float f = test_random(seed);
        if (type == GQA_TYPE_F32) memcpy(raw + b, &f, 4);
        else if (type == GQA_TYPE_BF16) h = gqa_f32_to_bf16(f), memcpy(raw + b, &h, 2);
        else memcpy(raw + b + (type == GQA_TYPE_Q6_K ? 208 : 0), &h, 2);
        if (type == GQA_TYPE_Q4_K || type == GQA_TYPE_Q5_K) memcpy(raw + b + 2, &m, 2);
    }
}

typedef struct matrix { gqa_matrix m; uint8_t *raw, *packed; float *w; } matrix;

static matrix make_matrix(int type, int rows, int cols, uint64_t *seed) {
    size_t bytes = (size_t)gqa_type_bytes(type, (uint64_t)rows * (uint64_t)cols), panel = gqa_panel_bytes(type, cols);
    matrix a = {.raw = room(bytes), .w = room(sizeof(float) * (size_t)(rows * cols))};
    random_blocks(type, a.raw, bytes, seed);
    gqa_dequantize(type, a.raw, a.w, (size_t)(rows * cols));
    a.m = (gqa_matrix){type, rows, cols, a.raw, NULL, panel};
    a.packed = room(panel * (size_t)gqa_matrix_panels(&a.m));
    for (int p = 0; p < gqa_matrix_panels(&a.m); p++) gqa_pack_panel(&a.m, p, a.packed + (size_t)p * panel);
    a.m.packed = a.packed;
    return a;
}

static void free_matrix(matrix *a) { free(a->raw); free(a->packed); free(a->w); }

static void test_round_trip(int type, int rows, int cols, uint64_t *seed) {
    matrix a = make_matrix(type, rows, cols, seed);
    size_t row = (size_t)gqa_type_bytes(type, (uint64_t)cols), bytes = row * (size_t)rows;
    uint8_t *back = room(bytes);
    for (int p = 0; p < gqa_matrix_panels(&a.m); p++) unpack_panel(&a.m, p, a.packed + (size_t)p * a.m.panel_bytes, back + row * 16 * (size_t)p);
    CHECK(!memcmp(back, a.raw, bytes), "%s [%d, %d]", gqa_type_name(type), rows, cols);
    free(back);
    free_matrix(&a);
}

/* Largest error of y against doubles, relative to the size of the sums. xs: activations as the kernel sees them. */
static void test_product(const gqa_kernels *k, int type, int rows, int cols, int n, int extreme, uint64_t *seed) {
    matrix a = make_matrix(type, rows, cols, seed);
    float *x = room(sizeof(float) * (size_t)(n * cols)), *y = room(sizeof(float) * (size_t)(n * rows)), *raw_y = room(sizeof(float) * (size_t)(n * rows));
    void *acts = room(gqa_acts_bytes(cols, n)), *scratch = room(gqa_matmul_scratch(cols));
    gqa_acts q;
    for (int i = 0; i < n * cols; i++) x[i] = extreme == 3 && i % cols < 32 ? 1e-37f * (float)(i % 3) : extreme == 1 ? (i & 1 ? -3.0f : 3.0f) : extreme == 2 ? (i % cols == i / cols * 7 % cols ? 1.0f : 0.0f) : test_random(seed);
    gqa_acts_init(&q, acts, cols, n);
    q.x = x, q.ldx = (size_t)cols;
    if (gqa_type_wants_q8(type)) k->quantize_acts(&q, 0, n, 0, cols);
    for (int u = 0; u < gqa_matmul_units(&a.m); u++) k->matmul_unit(&a.m, &q, n, y, (size_t)rows, u, scratch);
    a.m.packed = NULL;
    for (int u = 0; u < gqa_matmul_units(&a.m); u++) k->matmul_unit(&a.m, &q, n, raw_y, (size_t)rows, u, scratch);
    CHECK(!memcmp(y, raw_y, sizeof(float) * (size_t)(n * rows)), "%s: packed and raw differ", gqa_type_name(type));
    double worst = 0;
    for (int i = 0; i < n; i++)
        for (int r = 0; r < rows; r++) {
            double sum = 0, size = 1e-30;
            for (int c = 0; c < cols; c++) {
                double xs = gqa_type_wants_q8(type) ? (double)q.q[i * q.kpad + c] * (double)q.d[i * (q.kpad / 32) + c / 32] : (double)x[i * cols + c];
                double t = (double)a.w[r * cols + c] * xs;
                sum += t, size += t * t;
            }
            double error = fabs(sum - (double)y[i * rows + r]) / sqrt(size);
            if (!(error <= worst)) worst = error;
        }
    CHECK(worst < 2e-5, "%s %s [%d, %d] x %d, case %d: error %g", k->name, gqa_type_name(type), rows, cols, n, extreme, worst);
    free(x); free(y); free(raw_y); free(acts); free(scratch);
    free_matrix(&a);
}

static void test_products(const gqa_kernels *k, uint64_t *seed) {
    static const int ns[] = {1, 2, 3, 4, 5, 6, 7, 13}, rows[] = {1, 15, 16, 17, 64, 65, 130};
    for (int t = 0; t < N_TYPES; t++) {
        int block = gqa_type_info_of(types[t])->block, cols[3] = {block == 1 ? 7 : block, block == 1 ? 33 : 2 * block + (block == 32 ? 224 : 0), block == 1 ? 300 : 3 * block};
        for (int n = 0; n < 8; n++) test_product(k, types[t], rows[n % 7], cols[n % 3], ns[n], 0, seed);
        for (int r = 0; r < 7; r++) test_product(k, types[t], rows[r], cols[2], r % 2 ? 1 : 9, 0, seed);
        test_product(k, types[t], 33, block == 1 ? 1030 : 2304, 13, 0, seed); /* more than is unpacked at a time */
        for (int extreme = 1; extreme <= 3; extreme++) test_product(k, types[t], 33, cols[1], 1, extreme, seed), test_product(k, types[t], 33, cols[1], 7, extreme, seed);
    }
}

/* One KV head's attention of one query in doubles over the vectors as the cache holds them (tolerance covers its rounding). */
static void reference_attention(const float *q, const float *k, const float *v, int d, int t0, int t1, double *out) {
    double top = -1e300, sum = 0, *p = malloc(sizeof *p * (size_t)t1);
    for (int t = t0; t < t1; t++) {
        p[t] = 0;
        for (int i = 0; i < d; i++) p[t] += (double)q[i] * (double)k[t * d + i];
        p[t] /= sqrt((double)d);
        if (p[t] > top) top = p[t];
    }
    for (int i = 0; i < d; i++) out[i] = 0;
    for (int t = t0; t < t1; t++) {
        double e = exp(p[t] - top);
        sum += e;
        for (int i = 0; i < d; i++) out[i] += e * (double)v[t * d + i];
    }
    for (int i = 0; i < d; i++) out[i] /= sum;
    free(p);
}

enum { PLAIN, RISING, HUGE_ONE, EQUAL };

/* n positions appended, then decode (split in pieces) and prefill of the last n_q positions, with a window or none. */
static void test_attention(const gqa_kernels *kernels, int type, int n, int group, int d, int window, int split, int kind, uint64_t *seed) {
    enum { HEADS = 2 };
    int ring = window ? window + 32 : n, n_q = n < 11 ? n : 11;
    gqa_kv kv = {type, HEADS, d, (ring + GQA_KV_TILE - 1) / GQA_KV_TILE + (window ? 1 : 0), gqa_kv_k_tile_bytes(type, d), gqa_kv_v_tile_bytes(type, d), NULL, NULL};
    size_t tiles = (size_t)kv.n_tiles * HEADS, row = (size_t)(group * d);
    kv.k = room(tiles * kv.k_tile_bytes), kv.v = room(tiles * kv.v_tile_bytes);
    memset(kv.k, 0xff, tiles * kv.k_tile_bytes), memset(kv.v, 0xff, tiles * kv.v_tile_bytes); /* no numbers: what an earlier use may leave */
    float *k = room(sizeof(float) * (size_t)(n * d)), *v = room(sizeof(float) * (size_t)(n * d)), *q = room(sizeof(float) * row * (size_t)n_q);
    float *out = room(sizeof(float) * row * (size_t)n_q), *parts = room(sizeof(float) * gqa_partial_floats(group, d) * (size_t)(n / split + 2)), *merged = room(sizeof(float) * row);
    void *scratch = room(gqa_attention_scratch(group, d));
    double *want = malloc(sizeof *want * (size_t)d), worst = 0;
    for (int h = 0; h < HEADS; h++)
        for (int t = 0; t < n; t++) {
            for (int i = 0; i < d; i++) {
                float kk = kind == EQUAL ? 0.25f : test_random(seed) * (kind == HUGE_ONE && t == n / 2 ? 30.0f : 1.0f) + (kind == RISING ? (float)t * 0.01f : 0), vv = test_random(seed);
                if (h == 1) k[t * d + i] = kk, v[t * d + i] = vv;  /* head 1 is tested; head 0 holds other data */
                else merged[0] = kk;
            }
            float other[256], *ko = h == 1 ? k + t * d : other, *vo = h == 1 ? v + t * d : other;
            for (int i = 0; i < d && h == 0; i++) other[i] = test_random(seed);
            kernels->kv_append(&kv, h, t, ko, vo);
        }
    for (size_t i = 0; i < row * (size_t)n_q; i++) q[i] = test_random(seed) * 2;
    float scale = 1 / sqrtf((float)d);
    kernels->attend_prefill(&kv, 1, q, row, group, scale, n - n_q, n_q, window, out, row, scratch);
    double tolerance = type == GQA_TYPE_F32 ? 2e-5 : type == GQA_TYPE_F16 ? 2e-3 : type == GQA_TYPE_BF16 ? 1.5e-2 : type == GQA_TYPE_Q8_0 ? 1.5e-2 : 0.25;
    if (kind == HUGE_ONE || kind == RISING) tolerance *= 20;  /* errors of K grow with its size */
    for (int j = 0; j < n_q; j++)
        for (int g = 0; g < group; g++) {
            int t1 = n - n_q + j + 1, t0 = window && t1 > window ? t1 - window : 0;
            reference_attention(q + (size_t)j * row + (size_t)(g * d), k, v, d, t0, t1, want);
            for (int i = 0; i < d; i++) worst = test_worse(worst, fabs(want[i] - (double)out[(size_t)j * row + (size_t)(g * d + i)]));
        }
    CHECK(worst < tolerance, "%s prefill %s n %d group %d d %d window %d kind %d: %g", kernels->name, gqa_type_name(type), n, group, d, window, kind, worst);
    int t0 = window && n > window ? n - window : 0, n_parts = 0;
    for (int t = t0; t < n; t += split, n_parts++)
        kernels->attend_decode(&kv, 1, q + (size_t)(n_q - 1) * row, group, scale, t, t + split < n ? t + split : n, parts + (size_t)n_parts * gqa_partial_floats(group, d), scratch);
    kernels->combine_splits(parts, n_parts, group, d, merged, (size_t)d);
    worst = 0;
    for (size_t i = 0; i < row; i++) worst = test_worse(worst, fabs((double)merged[i] - (double)out[(size_t)(n_q - 1) * row + i]));
    CHECK(worst < 1e-5, "%s decode against prefill, %s n %d group %d d %d window %d split %d: %g", kernels->name, gqa_type_name(type), n, group, d, window, split, worst);
    free(kv.k); free(kv.v); free(k); free(v); free(q); free(out); free(parts); free(merged); free(scratch); free(want);
}

static void test_attentions(const gqa_kernels *k, uint64_t *seed) {
    static const int kvs[] = {GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16, GQA_TYPE_Q8_0, GQA_TYPE_Q4_0}, ns[] = {1, 15, 16, 31, 32, 33, 65, 511, 513};
    static const int groups[] = {1, 2, 3, 7, 8, 16}, dims[] = {64, 32, 96, 128, 256};
    for (int t = 0; t < 5; t++) {
        for (int i = 0; i < 9; i++) test_attention(k, kvs[t], ns[i], groups[i % 6], dims[i % 5], 0, i % 2 ? 512 : 7 + i, PLAIN, seed);
        for (int i = 0; i < 6; i++) test_attention(k, kvs[t], 100, groups[i], 64, 40 + i, 16, PLAIN, seed);
        for (int kind = RISING; kind <= EQUAL; kind++) test_attention(k, kvs[t], 90, 4, 64, 0, 32, kind, seed);
    }
    for (int t = 0; t < 3; t++) test_attention(k, kvs[t], 70, 2, 8, 0, 32, PLAIN, seed), test_attention(k, kvs[t], 70, 3, 80, 33, 32, PLAIN, seed), test_attention(k, kvs[t], 40, 3, 10, 0, 32, PLAIN, seed);
}

static void test_ops(const gqa_kernels *k) {
    uint64_t seed = 3;
    float x[100], w[100], y[100], g[37], u[37];
    for (int i = 0; i < 100; i++) x[i] = test_random(&seed) * 3, w[i] = test_random(&seed);
    for (int n = 1; n <= 100; n += 9) {
        double sum = 0, worst = 0;
        for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
        k->rmsnorm(y, x, w, n, 1e-5f);
        for (int i = 0; i < n; i++) worst = test_worse(worst, fabs((double)y[i] - (double)x[i] * (double)w[i] / sqrt(sum / n + 1e-5)));
        CHECK(worst < 2e-6, "%s rmsnorm %d: %g", k->name, n, worst);
    }
    double worst = 0;
    for (int step = 0; step < 200000; step += 37) {
        for (int i = 0; i < 37; i++) g[i] = (float)(step + i - 100000) * 0.0009f, u[i] = 1;
        k->swiglu(g, g, u, 37);
        for (int i = 0; i < 37; i++) {
            double z = (double)((float)(step + i - 100000) * 0.0009f), want = z / (1 + exp(-z));
            worst = test_worse(worst, fabs((double)g[i] - want) / (fabs(want) + 1e-30 > 1e-30 && z > -80 ? fabs(want) + 1e-30 : 1));
        }
    }
    CHECK(worst < 5e-7, "%s swiglu: relative error %g", k->name, worst);
    float extreme[8] = {1e4f, -1e4f, 0, 88, -88, 3e38f, -3e38f, 1}, ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    k->swiglu(extreme, extreme, ones, 8);
    CHECK(extreme[0] == 1e4f && fabsf(extreme[1]) < 1e-30f && extreme[2] == 0 && isfinite(extreme[5]), "%s: %g %g", k->name, (double)extreme[0], (double)extreme[1]);
    float head[8] = {1, 2, 3, 4, 5, 6, 7, 8}, cs[8] = {0.6f, 1, 0, -1, 0.8f, 0, 1, 0};
    k->rope(head, cs, 8, 0);
    CHECK(fabsf(head[0] - (0.6f - 1.6f)) < 1e-6f && fabsf(head[1] - (0.8f + 1.2f)) < 1e-6f && head[2] == 3 && head[4] == -6 && head[5] == 5, "adjacent pairs");
    float other[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    k->rope(other, cs, 8, 1);
    CHECK(fabsf(other[0] - (0.6f - 4.0f)) < 1e-6f && fabsf(other[4] - (0.8f + 3.0f)) < 1e-6f && other[1] == 2 && other[2] == -7 && other[6] == 3, "half-split pairs");
}

int main(void) {
    uint64_t seed = 1;
    for (int t = 0; t < N_TYPES; t++) {
        int block = gqa_type_info_of(types[t])->block;
        test_round_trip(types[t], 1, block, &seed), test_round_trip(types[t], 17, 3 * block, &seed), test_round_trip(types[t], 48, 9 * block, &seed);
    }
    for (int i = 0; i < 4; i++) {
        const gqa_kernels *k = gqa_kernels_find(isas[i]);
        if (!k) { test_skip(isas[i], "not on this CPU or not in this build"); continue; }
        test_products(k, &seed);
        test_attentions(k, &seed);
        test_ops(k);
    }
    return test_end();
}
