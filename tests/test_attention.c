/* test_attention.c: attention of every instruction set that this CPU has, over caches of every
 * type, against plain double loops. */
#define _POSIX_C_SOURCE 200809L
#include "kernel_cases.h"

#include "../kernels/tensor.h"

typedef enum keys { PLAIN_KEYS, RISING_KEYS, ONE_HUGE_KEY, EQUAL_KEYS } keys;

/* n positions; decoding of the last in splits of `split` positions, prefill of the last n_q. */
typedef struct attention {
    const char *kv;
    int n, group, d, window, split;
    keys keys;
    int n_q, k_type, v_type;
} attention;

enum { KV_HEADS = 2, TESTED_HEAD = 1 };

static float key(const attention *a, int t, uint64_t *seed) {
    float x = test_random(seed);
    switch (a->keys) {
    case RISING_KEYS: return x + (float)t * 0.01f;
    case ONE_HUGE_KEY: return t == a->n / 2 ? 30 * x : x;
    case EQUAL_KEYS: return 0.25f;
    default: return x;
    }
}

/* A cache of both heads; k and v [n][d] are the tested head's. */
static gqa_kv make_cache(const gqa_kernels *kernels, const attention *a, float *k, float *v,
                         uint64_t *seed) {
    const int positions = a->window ? a->window + 64 : a->n;
    const int n_tiles = (positions + GQA_KV_TILE - 1) / GQA_KV_TILE;
    gqa_kv kv = {.k_type = a->k_type, .v_type = a->v_type, .n_kv_heads = KV_HEADS,
                 .head_dim = a->d, .value_dim = a->d, .n_tiles = n_tiles};
    kv.k_tile_bytes = gqa_kv_k_tile_bytes(a->k_type, a->d);
    kv.v_tile_bytes = gqa_kv_v_tile_bytes(a->v_type, a->d);
    kv.k = new_bytes((size_t)(n_tiles * KV_HEADS) * kv.k_tile_bytes);
    kv.v = new_bytes((size_t)(n_tiles * KV_HEADS) * kv.v_tile_bytes);
    for (int head = 0; head < KV_HEADS; head++)
        for (int t = 0; t < a->n; t++) {
            float *kt = k + t * a->d, *vt = v + t * a->d; /* the tested head's overwrite these */
            for (int i = 0; i < a->d; i++) {
                kt[i] = key(a, t, seed);
                vt[i] = test_random(seed);
            }
            kernels->kv_append(&kv, head, t, kt, vt);
        }
    return kv;
}

/* Attention of one query over positions t0..t1-1, in doubles over the vectors before rounding. */
static void reference_attention(const attention *a, const float *q, const float *k, const float *v,
                                int t0, int t1, double *out) {
    const int d = a->d;
    double max = -1e300, sum = 0, *p = new_bytes(sizeof *p * (size_t)t1);
    for (int t = t0; t < t1; t++) {
        p[t] = 0;
        for (int i = 0; i < d; i++) p[t] += (double)q[i] * (double)k[t * d + i];
        p[t] /= sqrt((double)d);
        if (p[t] > max) max = p[t];
    }
    for (int i = 0; i < d; i++) out[i] = 0;
    for (int t = t0; t < t1; t++) {
        double e = exp(p[t] - max);
        sum += e;
        for (int i = 0; i < d; i++) out[i] += e * (double)v[t * d + i];
    }
    for (int i = 0; i < d; i++) out[i] /= sum;
    free_last();
}

/* What rounding of K or V may cost. */
static double loss(int type) {
    switch (type) {
    case GQA_TYPE_F32: return 2e-5;
    case GQA_TYPE_F16: return 2e-3;
    case GQA_TYPE_Q4_0: return 0.25;
    default: return 1.5e-2;
    }
}

static double tolerance(const attention *a) { /* errors of K grow with its size */
    const double more = a->keys == ONE_HUGE_KEY || a->keys == RISING_KEYS ? 20 : 1;
    return fmax(loss(a->k_type), loss(a->v_type)) * more;
}

static int first_seen(const attention *a, int t1) {
    return a->window && t1 > a->window ? t1 - a->window : 0;
}

static double prefill_error(const attention *a, const float *q, const float *k, const float *v,
                            const float *out) {
    double worst = 0, *want = new_bytes(sizeof *want * (size_t)a->d);
    for (int j = 0; j < a->n_q * a->group; j++, q += a->d, out += a->d) {
        int t1 = a->n - a->n_q + j / a->group + 1;
        reference_attention(a, q, k, v, first_seen(a, t1), t1, want);
        for (int i = 0; i < a->d; i++) worst = test_worse(worst, fabs(want[i] - (double)out[i]));
    }
    return worst;
}

static void decode_last(const gqa_kernels *kernels, const attention *a, const gqa_kv *kv,
                        const float *q, void *scratch, float *out) {
    const size_t step = gqa_partial_floats(a->group, a->d);
    const float scale = 1 / sqrtf((float)a->d);
    float *partials = new_floats(step * (size_t)(a->n / a->split + 2));
    int n = 0;
    for (int t = first_seen(a, a->n); t < a->n; t += a->split, n++) {
        int t1 = t + a->split < a->n ? t + a->split : a->n;
        kernels->attend_decode(kv, TESTED_HEAD, q, a->group, scale, t, t1,
                               partials + (size_t)n * step, scratch);
    }
    kernels->combine_splits(partials, n, a->group, a->d, out, (size_t)a->d);
}

static void check_attention(const gqa_kernels *kernels, attention a) {
    uint64_t seed = 1;
    a.n_q = a.n < 11 ? a.n : 11;
    CHECK(!gqa_kv_types(a.kv, &a.k_type, &a.v_type), "%s", a.kv);
    const size_t row = (size_t)(a.group * a.d), size = (size_t)(a.n * a.d);
    float *k = new_floats(size), *v = new_floats(size), *out = new_floats(row * (size_t)a.n_q);
    gqa_kv kv = make_cache(kernels, &a, k, v, &seed);
    float *q = random_floats(row * (size_t)a.n_q, 2, &seed), *decoded = new_floats(row);
    void *scratch = new_bytes(gqa_attention_scratch(a.group, a.d));
    char what[100];
    snprintf(what, sizeof what, "n %d, group %d, d %d, window %d, split %d, keys %d", a.n, a.group,
             a.d, a.window, a.split, a.keys);

    kernels->attend_prefill(&kv, TESTED_HEAD, q, row, a.group, 1 / sqrtf((float)a.d), a.n - a.n_q,
                            a.n_q, a.window, out, row, scratch);
    double error = prefill_error(&a, q, k, v, out);
    CHECK(error < tolerance(&a), "prefill, %s: error %g", what, error);

    size_t last = (size_t)(a.n_q - 1) * row;
    decode_last(kernels, &a, &kv, q + last, scratch, decoded);
    error = 0;
    for (size_t i = 0; i < row; i++)
        error = test_worse(error, fabs((double)decoded[i] - (double)out[last + i]));
    /* Quantised values: probabilities are rounded by tile, and a split may end within one. */
    const double limit = gqa_type_info_of(a.v_type)->block > 1 ? 1e-4 : 1e-5;
    CHECK(error < limit, "decoding against prefill, %s: %g", what, error);
    a.split = a.n;
    decode_last(kernels, &a, &kv, q + last, scratch, decoded);
    CHECK(!memcmp(decoded, out + last, sizeof(float) * row), "one split: other bits, %s", what);
    if (a.n_q > 1) { /* positions that a query does not see do not matter */
        for (int i = 0; i < a.d; i++) v[i] = 1000;
        kernels->kv_append(&kv, TESTED_HEAD, --a.n, k, v);
        last -= row;
        decode_last(kernels, &a, &kv, q + last, scratch, decoded);
        CHECK(!memcmp(decoded, out + last, sizeof(float) * row), "before another, %s", what);
    }
    free_all();
}

static void check_attentions(const gqa_kernels *k, const char *kv) {
    static const int ns[] = {1, 15, 16, 31, 32, 33, 65, 511, 513};
    static const int groups[] = {1, 2, 3, 7, 8, 16}, dims[] = {64, 32, 96, 128, 256};
    for (int i = 0; i < (int)COUNT(ns); i++)
        check_attention(k, (attention){.kv = kv, .n = ns[i], .group = groups[i % 6],
                                       .d = dims[i % 5], .split = i % 2 ? 512 : 7 + i});
    for (int i = 0; i < (int)COUNT(groups); i++)
        check_attention(k, (attention){.kv = kv, .n = 100, .group = groups[i], .d = 64,
                                       .window = 40 + i, .split = 16});
    for (int kind = RISING_KEYS; kind <= EQUAL_KEYS; kind++)
        check_attention(k, (attention){.kv = kv, .n = 90, .group = 4, .d = 64, .split = 32,
                                       .keys = (keys)kind});
    /* head sizes that are no multiple of 32 */
    check_attention(k, (attention){.kv = kv, .n = 70, .group = 2, .d = 8, .split = 32});
    check_attention(k, (attention){.kv = kv, .n = 40, .group = 3, .d = 10, .split = 32});
    check_attention(k, (attention){.kv = kv, .n = 70, .group = 3, .d = 80, .window = 33,
                                   .split = 32});
}

/* The squared error of normal x [32] as 4-bit integers times the best of many scales; plain: times
 * the largest value over -8. */
static double least_error(const float *x, int plain) {
    double least = HUGE_VAL, top = 0;
    for (int i = 0; i < 32; i++)
        if (fabs((double)x[i]) > fabs(top)) top = (double)x[i];
    for (double code = plain ? 8 : 5; code <= (plain ? 8 : 11); code += 0.03) {
        double scale = -top / code, error = 0;
        for (int i = 0; i < 32; i++) {
            double q = fmax(-8, fmin(7, nearbyint((double)x[i] / scale)));
            error += pow((double)x[i] - q * scale, 2);
        }
        least = fmin(least, error);
    }
    return least;
}

/* A q4_0 cache rounds nearly as well as can be: attention to one position gives its value back. */
static void check_rounding(const gqa_kernels *kernels) {
    enum { D = 32, N = 500 };
    const attention a = {.k_type = GQA_TYPE_F16, .v_type = GQA_TYPE_Q4_0, .n = 1, .d = D};
    double error = 0, least = 0, plain = 0;
    uint64_t seed = 5;
    float k[D], v[D], partial[2 + D], *out = partial + 2;
    void *scratch = new_bytes(gqa_attention_scratch(1, D));
    gqa_kv kv = make_cache(kernels, &a, k, v, &seed);
    for (int i = 0; i < N; i++) {
        float rotated[D] = {0};
        for (int j = 0; j < D; j++) v[j] = test_random(&seed) + test_random(&seed);
        for (int j = 0; j < D; j++)
            for (int l = 0; l < D; l++)
                rotated[j] += (__builtin_parity((unsigned)(j & l)) ? -v[l] : v[l]) / sqrtf(D);
        kernels->kv_append(&kv, TESTED_HEAD, 0, k, v);
        kernels->attend_decode(&kv, TESTED_HEAD, k, 1, 1, 0, 1, partial, scratch);
        for (int j = 0; j < D; j++) error += pow((double)out[j] - (double)v[j], 2);
        least += least_error(rotated, 0);
        plain += least_error(rotated, 1);
    }
    CHECK(error < 1.01 * least && error < 0.95 * plain, "squared error %g, least %g, plain %g",
          error, least, plain);
    free_all();
}

/* x [32] = the rotation of codes [32] / sqrt(32), a matrix of +-1. */
static void rotate_codes(const int *codes, float *x) {
    for (int i = 0; i < 32; i++) {
        double sum = 0;
        for (int j = 0; j < 32; j++)
            sum += __builtin_parity((unsigned)(i & j)) ? -codes[j] : codes[j];
        x[i] = (float)(sum / 4096);
    }
}

/* Keys and values that q8_0 stores without loss: what is left is the rounding of queries and
 * probabilities to 16 bits. One position has nearly all the weight where sink > 0, small values
 * there and a small weight elsewhere. */
static void check_int_products(const gqa_kernels *kernels, float sink) {
    enum { D = 32, N = 96, GROUP = 3 };
    const attention a = {.k_type = GQA_TYPE_Q8_0, .v_type = GQA_TYPE_Q8_0, .n = N, .d = D};
    uint64_t seed = 8;
    float *k = new_floats(N * D), *v = new_floats(N * D), out[GROUP * D];
    gqa_kv kv = make_cache(kernels, &a, k, v, &seed);
    float *partial = new_floats(gqa_partial_floats(GROUP, D)), q[GROUP * D];
    void *scratch = new_bytes(gqa_attention_scratch(GROUP, D));
    for (int i = 0; i < GROUP * D; i++) q[i] = test_random(&seed);
    for (int t = 0; t < N; t++) {
        int codes[2][32];
        for (int i = 0; i < 64; i++) codes[i / 32][i % 32] = (int)(127 * test_random(&seed));
        codes[0][t % 32] = codes[1][t % 32] = t % 2 ? 127 : -127;
        rotate_codes(codes[0], k + t * D);
        rotate_codes(codes[1], v + t * D);
        for (int i = 0; i < D && t == 40; i++) {
            if (sink > 0) k[t * D + i] = sink * q[i];
            v[t * D + i] *= sink > 0 ? 0.125f : 1;
        }
        kernels->kv_append(&kv, TESTED_HEAD, t, k + t * D, v + t * D);
    }
    kernels->attend_decode(&kv, TESTED_HEAD, q, GROUP, 1 / sqrtf(D), 0, N, partial, scratch);
    kernels->combine_splits(partial, 1, GROUP, D, out, D);
    double want[D], worst = 0;
    for (int g = 0; g < (sink > 0 ? 1 : GROUP); g++) {
        reference_attention(&a, q + g * D, k, v, 0, N, want);
        for (int i = 0; i < D; i++)
            worst = test_worse(worst, fabs(want[i] - (double)out[g * D + i]));
    }
    CHECK(worst < (sink > 0 ? 1e-3 : 2e-5), "error %g", worst);
    free_all();
}

static void fill(uint8_t *bytes, size_t n, uint64_t *seed) {
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)(int)(128 * test_random(seed));
}

/* Codes that no quantisation writes, -128, in keys and values; then anything in all of them, and in
 * the queries: only that nothing crashes. */
static void check_any_codes(const gqa_kernels *kernels, const char *name) {
    enum { D = 32 };
    attention a = {.n = 2, .d = D};
    uint64_t seed = 9;
    float k[2 * D], v[2 * D], q[D] = {0}, *partial = new_floats(2 + D);
    CHECK(!gqa_kv_types(name, &a.k_type, &a.v_type), "%s", name);
    void *scratch = new_bytes(gqa_attention_scratch(1, D));
    gqa_kv kv = make_cache(kernels, &a, k, v, &seed);
    uint8_t *k_tile = kv.k + TESTED_HEAD * kv.k_tile_bytes;
    uint8_t *v_tile = kv.v + TESTED_HEAD * kv.v_tile_bytes;
    if (a.k_type == GQA_TYPE_Q8_0 && a.v_type == GQA_TYPE_Q8_0) {
        for (int i = 0; i < D; i++) {
            uint8_t *key = k_tile + 64 + i / 2 * 64 + i % 2, *value = v_tile + 2 * i;
            key[0] = value[0] = 0x80;
            key[2] = value[1] = 0;
        }
        for (int t = 0; t < 2; t++) {
            uint8_t *scales[] = {k_tile + 2 * t, v_tile + GQA_KV_TILE * D + 2 * t};
            for (int i = 0; i < 2; i++) memcpy(scales[i], &(uint16_t){0x3C00}, 2); /* 1 */
        }
        q[0] = 1;
        kernels->attend_decode(&kv, TESTED_HEAD, q, 1, 1 / 512.0f, 0, 2, partial, scratch);
        const double size = -128 * sqrt(D), e = exp(size / 512), out = (double)partial[2];
        CHECK(fabs(out / (double)partial[1] - size * e / (1 + e)) < 1e-2, "%g", out);
    }
    for (int round = 0; round < 50; round++) {
        fill(k_tile, kv.k_tile_bytes, &seed);
        fill(v_tile, kv.v_tile_bytes, &seed);
        const float special[] = {NAN, INFINITY, -INFINITY, 1e38f, -1e-40f};
        q[round % D] = special[round % 5];
        kernels->attend_decode(&kv, TESTED_HEAD, q, 1, 1, 0, 2, partial, scratch);
    }
    q[0] = NAN;
    memset(k_tile, 0, kv.k_tile_bytes);
    memset(v_tile, 0, kv.v_tile_bytes);
    kernels->attend_decode(&kv, TESTED_HEAD, q, 1, 1, 0, 2, partial, scratch);
    CHECK(!(partial[1] > 0), "NaN in a query is not lost: sum %g", (double)partial[1]);
    free_all();
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void test_set(const gqa_kernels *k) {
    static const char *const caches[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "q8_0/q4_0",
                                         "f16/q8_0", "q4_0/bf16", "q4_0/q8_0", "f32/q4_0"};
    for (size_t t = 0; t < COUNT(caches); t++)
        if (case_of(k->name, "attention, %s", caches[t])) check_attentions(k, caches[t]);
    if (case_of(k->name, "%s", "rounding to q4_0")) check_rounding(k);
    if (case_of(k->name, "%s", "16-bit queries and probabilities")) check_int_products(k, 0);
    if (case_of(k->name, "%s", "16 bits, a position with most weight")) check_int_products(k, 60);
    for (int t = 3; t < 10; t++)
        if (case_of(k->name, "any codes, %s", caches[t])) check_any_codes(k, caches[t]);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    for_sets(test_set);
    return test_end();
}
