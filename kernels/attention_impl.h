/* attention_impl.h: the KV cache and grouped-query attention over it.
 *
 * Papers: grouped queries, Ainslie et al. 2023 (2305.13245); online softmax, Milakov & Gimelshein
 * 2018 (1805.02867); tiles, Dao et al. 2022 (2205.14135).
 *
 * A tile holds 32 positions of one KV head. K has the position as its fastest index, so that a
 * vector of K is one dimension of several positions and q.k needs no horizontal sum; V has the
 * dimension fastest, so that p V needs none. vd is head_dim rounded up to 16.
 *
 *   K tile   f32, f16, bf16: [head_dim][32]
 *            q8_0: for 32 dimensions: f16 scale[32 positions], i8 [32 dimensions][32 positions]
 *            q4_0: the same, u8 [16][32]: low nibble dimension i, high nibble i + 16;
 *                  value = scale * (q - 8)
 *   V tile   f32, f16, bf16: [32][vd]
 *            q8_0: i8 [32][head_dim], then f16 scale [32][head_dim / 32]
 *            q4_0: u8 [32][head_dim / 2] (in each 32 dimensions: low nibble i, high nibble
 *                  i + 16), then the scales
 *
 * In q8_0 and q4_0 the vectors are rotated (below): the largest of 32 values sets their scale.
 *
 * With shared_dim (deepseek2, gta) a position has a row t for each head and a row r for all heads:
 * V = t, K = [the first head_dim - shared_dim numbers of t | r]. Both are stored like K: t
 * [value_dim] in the head's K tile, r [shared_dim] in the V tile of head 0, the only one.
 *
 * All query rows that read the same KV head (the group, times the positions of a prefill tile) go
 * through a tile together: it comes from memory once, and is then multiplied from the first-level
 * cache with eight rows at a time. Meanwhile the next tile is fetched, line by line. */

#define KV_VECTORS (GQA_KV_TILE / VF_LANES)
#define ATTEND_SUMS (VF_REGISTERS / 2) /* in registers at once */

static inline size_t tile_index(const gqa_kv *kv, int kv_head, int tile) {
    return (size_t)kv_head * kv->n_tiles + tile % kv->n_tiles;
}
static inline uint8_t *k_tile(const gqa_kv *kv, int kv_head, int tile) {
    return kv->k + tile_index(kv, kv_head, tile) * kv->k_tile_bytes;
}
static inline uint8_t *v_tile(const gqa_kv *kv, int kv_head, int tile) {
    return kv->v + tile_index(kv, kv_head, tile) * kv->v_tile_bytes;
}

/* ---- rotation ------------------------------------------------------------------------------- */

static inline int is_rotated(int type) { return type == GQA_TYPE_Q8_0 || type == GQA_TYPE_Q4_0; }

/* x [4][4] = H x / 2, H_ij = (-1)^popcount(i & j). */
static inline void hadamard_4(float *x) {
    const vf4 half = {0.5f, 0.5f, 0.5f, 0.5f};
    vf4 a = vf4_load(x), b = vf4_load(x + 4), c = vf4_load(x + 8), d = vf4_load(x + 12);
    vf4 ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
    vf4_store(x, half * (ab + cd));
    vf4_store(x + 4, half * (a_b + c_d));
    vf4_store(x + 8, half * (ab - cd));
    vf4_store(x + 12, half * (a_b - c_d));
}

/* Multiplies each n of x [count] by an orthonormal Walsh-Hadamard matrix, n being the largest power
 * of two that divides dim (at least 32), which is rotated_dim(): y_i = sum_j (-1)^popcount(i & j)
 * x_j / sqrt(n), with bits 0, 1 and 2, 3 of i exchanged. The matrix R is its own inverse, so
 * (R q)(R k) = q k and R sum(p R v) = sum(p v): attention is the same, but a channel with large
 * values is spread over n, and coarse scales of blocks cost less (QuaRot, Ashkboos et al. 2024,
 * 2404.00456). */
static void hadamard(float *x, size_t count, size_t dim) {
    const size_t n = dim & (~dim + 1);
    const vf scale = vf_set1(0.70710678f); /* 1 / sqrt(2) */
    for (size_t i = 0; i < count; i += 16) {
        hadamard_4(x + i);
        transpose_4x4(x + i, 4, x + i, 4);
        hadamard_4(x + i);
    }
    for (size_t half = 16; half < n; half *= 2)
        for (float *at = x; at < x + count; at += 2 * half)
            for (size_t i = 0; i < half; i += VF_LANES) {
                vf a = vf_load(at + i), b = vf_load(at + half + i);
                vf_store(at + i, vf_mul(scale, vf_add(a, b)));
                vf_store(at + half + i, vf_mul(scale, vf_sub(a, b)));
            }
}

/* head_dim; with shared_dim, a number whose powers of two divide t's and r's widths. */
static inline size_t rotated_dim(const gqa_kv *kv) { return kv->value_dim | kv->shared_dim; }

/* ---- writing -------------------------------------------------------------------------------- */

/* x / scale to the integers of q4_0 (1.5 * 2^23, as in vf_exp). */
static inline vf round_q4(const float *x, float inverse) {
    const vf magic = vf_set1(12582912.0f);
    vf q = vf_sub(vf_add(vf_mul(vf_load(x), vf_set1(inverse)), magic), magic);
    return vf_min(vf_max(q, vf_set1(-8)), vf_set1(7));
}

/* A block of q4_0 as in a file, by the best of nine scales: the value of largest magnitude becomes
 * -6.7, -7, ... -9.1, all values the integers q, and sum(x q) / sum(q q) is the scale that fits
 * them, with the squared error sum(x x) - sum(x q)^2 / sum(q q). */
static void quantize_q4(const float *x, uint8_t *block) {
    const vf zero = vf_set1(0);
    vf high = zero, low = zero;
    for (int i = 0; i < 32; i += VF_LANES) {
        high = vf_max(vf_load(x + i), high);
        low = vf_max(vf_sub(zero, vf_load(x + i)), low);
    }
    float top = vf_hmax(high), bottom = vf_hmax(low), largest = top > bottom ? top : -bottom;
    float scale = 0, inverse = 0, best = 0;
    for (int step = 0; largest != 0 && step < 9; step++) {
        float by = -(6.7f + 0.3f * step) / largest;
        vf xq = zero, qq = zero;
        UNROLL for (int i = 0; i < 32; i += VF_LANES) {
            vf q = round_q4(x + i, by);
            xq = vf_fma(vf_load(x + i), q, xq);
            qq = vf_fma(q, q, qq);
        }
        float sum = vf_sum(xq), fit = sum / vf_sum(qq);
        if (!(sum * fit > best)) continue;
        best = sum * fit;
        scale = fit;
        inverse = by;
    }
    uint8_t codes[32];
    uint16_t half = gqa_f32_to_f16(scale);
    for (int i = 0; i < 32; i += VF_LANES)
        vf_store_low_bytes(codes + i, vf_add(round_q4(x + i, inverse), vf_set1(12582912.0f + 8)));
    memcpy(block, &half, 2);
    for (int i = 0; i < 16; i++) block[2 + i] = codes[i] | codes[i + 16] << 4;
}

/* A head rotated and in blocks, as in a file. */
static void quantize_head(int type, const float *x, size_t d, size_t dim, uint8_t *blocks) {
    float rotated[GQA_MAX_HEAD_DIM];
    memcpy(rotated, x, sizeof(float) * d);
    hadamard(rotated, d, dim);
    if (type != GQA_TYPE_Q4_0) gqa_quantize(type, rotated, blocks, d);
    else for (size_t b = 0; b < d / 32; b++) quantize_q4(rotated + 32 * b, blocks + 18 * b);
}

static void narrow_head(int type, const float *x, size_t d, uint16_t *out) {
    size_t i = 0;
    for (; type == GQA_TYPE_F16 && i + VF_LANES <= d; i += VF_LANES)
        vf_store_f16(out + i, vf_load(x + i));
    for (; i < d; i++)
        out[i] = type == GQA_TYPE_F16 ? gqa_f32_to_f16(x[i]) : gqa_f32_to_bf16(x[i]);
}

/* Bytes of codes in a block of 32. */
static inline size_t codes_of(int type) { return type == GQA_TYPE_Q4_0 ? 16 : 32; }

static void append_k(int type, uint8_t *tile, size_t lane, const float *k, size_t d, size_t dim) {
    uint16_t halves[GQA_MAX_HEAD_DIM];
    uint8_t blocks[GQA_MAX_HEAD_DIM / 32 * 34], *block = blocks;
    const size_t codes = codes_of(type);
    if (type == GQA_TYPE_F32) {
        for (size_t i = 0; i < d; i++) ((float *)tile)[i * GQA_KV_TILE + lane] = k[i];
    } else if (!is_rotated(type)) {
        narrow_head(type, k, d, halves);
        for (size_t i = 0; i < d; i++) ((uint16_t *)tile)[i * GQA_KV_TILE + lane] = halves[i];
    } else {
        quantize_head(type, k, d, dim, blocks);
        for (size_t b = 0; b < d / 32; b++, block += 2 + codes, tile += 64 + codes * GQA_KV_TILE) {
            memcpy(tile + 2 * lane, block, 2);
            for (size_t i = 0; i < codes; i++) tile[64 + GQA_KV_TILE * i + lane] = block[2 + i];
        }
    }
}

static void append_v(int type, uint8_t *tile, size_t lane, const float *v, size_t d) {
    uint8_t blocks[GQA_MAX_HEAD_DIM / 32 * 34], *block = blocks;
    const size_t vd = round_up(d, 16), codes = codes_of(type), n = d / 32;
    if (type == GQA_TYPE_F32) {
        memcpy((float *)tile + lane * vd, v, sizeof(float) * d);
    } else if (!is_rotated(type)) {
        narrow_head(type, v, d, (uint16_t *)tile + lane * vd);
    } else {
        quantize_head(type, v, d, d, blocks);
        for (size_t b = lane * n; b < (lane + 1) * n; b++, block += 2 + codes) {
            memcpy(tile + GQA_KV_TILE * n * codes + 2 * b, block, 2);
            memcpy(tile + b * codes, block + 2, codes);
        }
    }
}

static void kernel_kv_append(gqa_kv *kv, int kv_head, int position, const float *k,
                             const float *v) {
    const int tile = position / GQA_KV_TILE, lane = position % GQA_KV_TILE;
    const size_t dim = rotated_dim(kv);
    append_k(kv->k_type, k_tile(kv, kv_head, tile), lane, k, kv->value_dim, dim);
    if (!kv->shared_dim)
        append_v(kv->v_type, v_tile(kv, kv_head, tile), lane, v, kv->head_dim);
    else if (kv_head == 0)
        append_k(kv->k_type, v_tile(kv, 0, tile), lane, v, kv->shared_dim, dim);
}

/* ---- tiles as floats ------------------------------------------------------------------------ */

/* Lanes of codes times their scales; in nibbles: the upper or the lower ones. */
TEMPLATE vf widen_codes(int nibbles, int upper, const uint8_t *codes, vf scale) {
    if (!nibbles) return vf_mul(scale, vf_load_i8((const int8_t *)codes));
    return vf_mul(scale, vf_sub(upper ? vf_load_high4(codes) : vf_load_low4(codes), vf_set1(8)));
}

TEMPLATE void widen_k(int nibbles, int d, const uint8_t *tile, float *out) {
    const int rows = nibbles ? 16 : 32; /* of codes, in a block of 32 dimensions */
    for (int b = 0; b < d / 32; b++, tile += 64 + rows * 32, out += 32 * GQA_KV_TILE)
        for (int p = 0; p < GQA_KV_TILE; p += VF_LANES) {
            vf scale = vf_load_f16((const uint16_t *)tile + p);
            for (int i = 0; i < rows; i++) {
                const uint8_t *codes = tile + 64 + 32 * i + p;
                float *to = out + i * GQA_KV_TILE + p;
                vf_store(to, widen_codes(nibbles, 0, codes, scale));
                if (nibbles) vf_store(to + 16 * GQA_KV_TILE, widen_codes(nibbles, 1, codes, scale));
            }
        }
}

TEMPLATE void widen_v(int nibbles, int d, const uint8_t *tile, float *out) {
    const int blocks = d / 32, bytes = nibbles ? 16 : 32; /* of codes, in a block */
    float scales[GQA_KV_TILE];
    const uint16_t *stored = (const uint16_t *)(tile + GQA_KV_TILE * blocks * bytes);
    for (int i = 0; i < GQA_KV_TILE * blocks; i++, tile += bytes, out += 32) {
        if (i % GQA_KV_TILE == 0)
            for (int j = 0; j < GQA_KV_TILE; j += VF_LANES)
                vf_store(scales + j, vf_load_f16(stored + i + j));
        vf scale = vf_set1(scales[i % GQA_KV_TILE]);
        UNROLL for (int j = 0; j < bytes; j += VF_LANES) {
            vf_store(out + j, widen_codes(nibbles, 0, tile + j, scale));
            if (nibbles) vf_store(out + 16 + j, widen_codes(nibbles, 1, tile + j, scale));
        }
    }
}

/* The tile as floats, at out; the next one is fetched meanwhile. */
static const uint8_t *widened_k(const gqa_kv *kv, const uint8_t *tile, float *out) {
    const uint8_t *next = tile + kv->k_tile_bytes;
    for (size_t i = 0; i < kv->k_tile_bytes; i += 64) __builtin_prefetch(next + i, 0, 3);
    if (kv->k_type == GQA_TYPE_Q4_0) widen_k(1, kv->head_dim, tile, out);
    else widen_k(0, kv->head_dim, tile, out);
    return (const uint8_t *)out;
}

static const uint8_t *widened_v(const gqa_kv *kv, const uint8_t *tile, float *out) {
    const uint8_t *next = tile + kv->v_tile_bytes;
    for (size_t i = 0; i < kv->v_tile_bytes; i += 64) __builtin_prefetch(next + i, 0, 3);
    if (kv->v_type == GQA_TYPE_Q4_0) widen_v(1, kv->head_dim, tile, out);
    else widen_v(0, kv->head_dim, tile, out);
    return (const uint8_t *)out;
}

/* A tile of any type and K's layout as floats [d][32], at out. */
static void k_as_floats(int type, const uint8_t *tile, int d, float *out) {
    const int n = d * GQA_KV_TILE, is_f16 = type == GQA_TYPE_F16;
    const uint16_t *halves = (const uint16_t *)tile;
    if (type == GQA_TYPE_F32) memcpy(out, tile, sizeof(float) * n);
    else if (type == GQA_TYPE_Q4_0) widen_k(1, d, tile, out);
    else if (type == GQA_TYPE_Q8_0) widen_k(0, d, tile, out);
    else
        for (int i = 0; i < n; i += VF_LANES)
            vf_store(out + i, is_f16 ? vf_load_f16(halves + i) : vf_load_bf16(halves + i));
}

/* With shared_dim: V [32][value_dim] and K [head_dim][32] as floats. */
static void widen_shared(const gqa_kv *kv, int kv_head, int tile, float *k, float *v) {
    const int d = kv->value_dim, own = kv->head_dim - kv->shared_dim;
    k_as_floats(kv->k_type, k_tile(kv, kv_head, tile), d, k);
    for (int t = 0; t < GQA_KV_TILE; t += 4) /* rows of v are a power of two apart */
        for (int i = 0; i < d; i += 4)
            transpose_4x4(v + t * d + i, d, k + i * GQA_KV_TILE + t, GQA_KV_TILE);
    k_as_floats(kv->k_type, v_tile(kv, 0, tile), kv->shared_dim, k + own * GQA_KV_TILE);
}

/* ---- a tile against rows of queries --------------------------------------------------------- */

TEMPLATE int bytes_of(int type) {
    return type == GQA_TYPE_F32 ? 4 : type == GQA_TYPE_Q8_0 ? 1 : 2;
}
TEMPLATE vf load_kv(int type, const uint8_t *p, vf scale) {
    switch (type) {
    case GQA_TYPE_F32: return vf_load((const float *)p);
    case GQA_TYPE_F16: return vf_load_f16((const uint16_t *)p);
    case GQA_TYPE_BF16: return vf_load_bf16((const uint16_t *)p);
    default: return widen_codes(0, 0, p, scale);
    }
}

/* Of a tile of d dimensions that comes from memory: fetches the line of the next one that is as
 * far into it as p. */
TEMPLATE void fetch_next_tile(int type, const uint8_t *p, int d) {
    if (type == GQA_TYPE_F32) return;
    __builtin_prefetch(p + (type == GQA_TYPE_Q8_0 ? 34 : 64) * d, 0, 3);
}

/* scores [rows][32] = q [rows][d] times K. */
TEMPLATE void tile_scores(int type, int rows, const uint8_t *k, const float *q, int d,
                          float *scores) {
    const int fit = ATTEND_SUMS / rows, nv = fit < KV_VECTORS ? fit : KV_VECTORS;
    const int is_q8 = type == GQA_TYPE_Q8_0, bytes = bytes_of(type);
    for (int v0 = 0; v0 < KV_VECTORS; v0 += nv) {
        tile_sums sum;
        vf scale[KV_VECTORS];
        tile_clear(nv, rows, sum);
        UNROLL for (int v = 0; v < nv; v++) scale[v] = vf_set1(1);
        for (int i = 0; i < d; i++) {
            const uint8_t *at = k + i * GQA_KV_TILE * bytes + (is_q8 ? (i / 32 + 1) * 64 : 0);
            if (is_q8 && i % 32 == 0) {
                const uint16_t *stored = (const uint16_t *)(at - 64) + v0 * VF_LANES;
                fetch_next_tile(type, at - 64, d);
                UNROLL for (int v = 0; v < nv; v++) scale[v] = vf_load_f16(stored + v * VF_LANES);
            }
            if (v0 == 0) fetch_next_tile(type, at, d);
            UNROLL for (int v = 0; v < nv; v++) {
                vf keys = load_kv(type, at + (v0 + v) * VF_LANES * bytes, scale[v]);
                UNROLL for (int r = 0; r < rows; r++)
                    sum[v][r] = vf_fma(keys, vf_set1(q[r * d + i]), sum[v][r]);
            }
        }
        tile_store(nv, rows, sum, scores + v0 * VF_LANES, GQA_KV_TILE);
    }
}

/* out [rows][vd] += p [rows][32] times V (scales [32][vd / 32], if quantised), for nv vectors of
 * dimensions from `at` on. Only the tile's n first positions: the others may hold anything, and
 * 0 * inf is NaN. */
TEMPLATE void add_values(int type, int rows, int nv, const uint8_t *v, const float *scales,
                         const float *p, int n, int vd, int at, float *out) {
    tile_sums sum;
    tile_load(nv, rows, sum, out + at, vd);
    for (int t = 0; t < n; t++)
        UNROLL for (int j = 0; j < nv; j++) {
            int dim = t * vd + at + j * VF_LANES, byte = dim * bytes_of(type);
            vf scale = vf_set1(type == GQA_TYPE_Q8_0 ? scales[dim / 32] : 1);
            vf values = load_kv(type, v + byte, scale);
            if (j * VF_LANES * bytes_of(type) % 64 == 0) fetch_next_tile(type, v + byte, vd);
            UNROLL for (int r = 0; r < rows; r++)
                sum[j][r] = vf_fma(values, vf_set1(p[r * GQA_KV_TILE + t]), sum[j][r]);
        }
    tile_store(nv, rows, sum, out + at, vd);
}

TEMPLATE void tile_values(int type, int rows, const uint8_t *v, float *scales, const float *p,
                          int n, int vd, float *out) {
    const int fit = ATTEND_SUMS / rows, nv = fit < TILE_VECTORS ? fit : TILE_VECTORS;
    int at = 0;
    if (type == GQA_TYPE_Q8_0) {
        const uint8_t *stored = v + GQA_KV_TILE * vd;
        for (int i = 0; i < vd; i += 32) fetch_next_tile(type, stored + 2 * i, vd);
        for (int i = 0; i < vd; i += VF_LANES)
            vf_store(scales + i, vf_load_f16((const uint16_t *)stored + i));
    }
    for (; at + nv * VF_LANES <= vd; at += nv * VF_LANES)
        add_values(type, rows, nv, v, scales, p, n, vd, at, out);
    for (; at < vd; at += VF_LANES) add_values(type, rows, 1, v, scales, p, n, vd, at, out);
}

/* tile_scores and tile_values for 1, 2, 4, 8 rows */
typedef struct tile_kernels {
    void (*scores[4])(const uint8_t *k, const float *q, int d, float *scores);
    void (*values[4])(const uint8_t *v, float *scales, const float *p, int n, int vd, float *out);
} tile_kernels;

#define KV_TYPES(X) FLOAT_TYPES(X) X(q8_0, GQA_TYPE_Q8_0)
#define ROWS_FUNCTIONS(scores_name, values_name, type, rows)                                   \
    static void scores_name(const uint8_t *k, const float *q, int d, float *scores) {          \
        tile_scores(type, rows, k, q, d, scores);                                              \
    }                                                                                          \
    static void values_name(const uint8_t *v, float *scales, const float *p, int n, int vd,    \
                            float *out) {                                                      \
        tile_values(type, rows, v, scales, p, n, vd, out);                                     \
    }
#define TILE_FUNCTIONS(name, type)                                                             \
    ROWS_FUNCTIONS(NAME(name, scores_1), NAME(name, values_1), type, 1)                        \
    ROWS_FUNCTIONS(NAME(name, scores_2), NAME(name, values_2), type, 2)                        \
    ROWS_FUNCTIONS(NAME(name, scores_4), NAME(name, values_4), type, 4)                        \
    ROWS_FUNCTIONS(NAME(name, scores_8), NAME(name, values_8), type, 8)
KV_TYPES(TILE_FUNCTIONS)

#define FOR_ROWS(name, what) \
    {NAME(name, what##_1), NAME(name, what##_2), NAME(name, what##_4), NAME(name, what##_8)}
#define TILE_CASE(name, type)                                                                  \
    case type: {                                                                               \
        static const tile_kernels kernels = {FOR_ROWS(name, scores), FOR_ROWS(name, values)};  \
        return &kernels;                                                                       \
    }
static const tile_kernels *tile_kernels_of(int type) {
    switch (type) {
    KV_TYPES(TILE_CASE)
    default: return NULL; /* q4_0 is widened to f32 first */
    }
}

/* ---- online softmax ------------------------------------------------------------------------- */

/* Query rows on their way through the tiles of one KV head. Row i sees positions t0[i]..t1[i]-1. */
typedef struct rows_state {
    size_t n, d, vd;
    int *t0, *t1;
    float *q;         /* [n][d], scaled; then zeros up to a multiple of 8 */
    float softcap;    /* 0: none */
    float *m;         /* [n] running maximum */
    float *l;         /* [n][VF_LANES] sums of exponentials, to be added up at the end */
    float *o;         /* [n][vd] */
    float *p;         /* [8][32] */
    float *k, *v;     /* a quantised tile as floats */
    float *scales;    /* [32][vd / 32] of a V tile in q8_0 */
} rows_state;

/* p = cap tanh(p / cap), by tanh(x) = 1 - 2 / (1 + exp(2 x)) (gemma2). */
static void cap_scores(float *p, float cap) {
    for (int t = 0; t < GQA_KV_TILE; t += VF_LANES) {
        vf e = vf_exp(vf_mul(vf_load(p + t), vf_set1(2 / cap)));
        vf tanh = vf_sub(vf_set1(1), vf_div(vf_set1(2), vf_add(vf_set1(1), e)));
        vf_store(p + t, vf_mul(vf_set1(cap), tanh));
    }
}

/* Scores of one row and tile to probabilities against the running maximum; o and l are rescaled
 * when it grows. */
static void softmax_tile(rows_state *s, size_t row, float *p, int first) {
    int t0 = s->t0[row] - first, t1 = s->t1[row] - first;
    if (s->softcap > 0) cap_scores(p, s->softcap);
    if (t0 > 0 || t1 < GQA_KV_TILE)
        for (int t = 0; t < GQA_KV_TILE; t++)
            if (t < t0 || t >= t1) p[t] = -INFINITY;
    vf maxima = vf_load(p);
    UNROLL for (int t = VF_LANES; t < GQA_KV_TILE; t += VF_LANES)
        maxima = vf_max(maxima, vf_load(p + t));
    float *l = s->l + row * VF_LANES;
    vf sum = vf_load(l);
    if (vf_any_above(maxima, s->m[row])) { /* rare, after the first tiles */
        float *o = s->o + row * s->vd, m = vf_hmax(maxima);
        vf shrink = vf_exp(vf_set1(s->m[row] - m));
        for (size_t i = 0; i < s->vd; i += VF_LANES)
            vf_store(o + i, vf_mul(vf_load(o + i), shrink));
        sum = vf_mul(sum, shrink);
        s->m[row] = m;
    }
    vf max = vf_set1(s->m[row]);
    if (!(s->m[row] > -INFINITY)) max = vf_set1(0); /* nothing seen yet: p = exp(-inf) = 0 */
    UNROLL for (int t = 0; t < GQA_KV_TILE; t += VF_LANES) {
        vf e = vf_exp(vf_sub(vf_load(p + t), max));
        vf_store(p + t, e);
        sum = vf_add(sum, e);
    }
    vf_store(l, sum);
}

/* Rows begin..end-1 through one tile of these types, in passes of 8, 4, 2, 1. The last pass may
 * have more rows than are left where zeros follow: a pass costs more than a row (a group of 7 is
 * one pass of 8, not of 4, 2 and 1). */
static void rows_through_tile(rows_state *s, int k_type, int v_type, const uint8_t *k,
                              const uint8_t *v, size_t begin, size_t end, int first) {
    const tile_kernels *of_k = tile_kernels_of(k_type), *of_v = tile_kernels_of(v_type);
    const size_t limit = end < s->n ? end : round_up(end, GQA_ATTEND_ROWS);
    for (size_t row = begin, rows; row < end; row += rows) {
        size_t left = end - row, size = 0;
        while (size < 3 && (size_t)1 << size < left) size++;
        if (row + ((size_t)1 << size) > limit) size--;
        rows = (size_t)1 << size;
        of_k->scores[size](k, s->q + row * s->d, s->d, s->p);
        size_t used = rows < left ? rows : left;
        for (size_t r = 0; r < used; r++) softmax_tile(s, row + r, s->p + r * GQA_KV_TILE, first);
        int seen = min_int(s->t1[row + used - 1] - first, GQA_KV_TILE); /* the last row sees most */
        of_v->values[size](v, s->scales, s->p, seen, s->vd, s->o + row * s->vd);
    }
}

/* A quantised tile is widened first where several passes of rows share that work, one in q4_0
 * always. */
static inline int is_widened(int type, size_t rows) {
    return type == GQA_TYPE_Q4_0 || (type == GQA_TYPE_Q8_0 && rows > GQA_ATTEND_ROWS);
}

/* All rows through tiles tile0..tile1-1. Rows are ordered by their range; one is skipped where it
 * sees nothing. */
static void rows_through_tiles(rows_state *s, const gqa_kv *kv, int kv_head, int tile0, int tile1) {
    const int is_shared = kv->shared_dim > 0;
    if (is_rotated(kv->k_type)) hadamard(s->q, s->n * s->d, rotated_dim(kv));
    for (int tile = tile0; tile < tile1; tile++) {
        const uint8_t *k = k_tile(kv, kv_head, tile);
        const uint8_t *v = is_shared ? NULL : v_tile(kv, kv_head, tile);
        const int first = tile * GQA_KV_TILE;
        size_t begin = 0, end = s->n;
        while (begin < end && s->t1[begin] <= first) begin++;
        while (end > begin && s->t0[end - 1] >= first + GQA_KV_TILE) end--;
        int wide_k = is_shared || is_widened(kv->k_type, end - begin);
        int wide_v = is_shared || is_widened(kv->v_type, end - begin);
        if (is_shared) {
            widen_shared(kv, kv_head, tile, s->k, s->v);
            k = (const uint8_t *)s->k;
            v = (const uint8_t *)s->v;
        } else {
            if (wide_k) k = widened_k(kv, k, s->k);
            if (wide_v) v = widened_v(kv, v, s->v);
        }
        rows_through_tile(s, wide_k ? GQA_TYPE_F32 : kv->k_type, wide_v ? GQA_TYPE_F32 : kv->v_type,
                          k, v, begin, end, first);
    }
    if (is_rotated(kv->v_type)) hadamard(s->o, s->n * kv->value_dim, rotated_dim(kv));
}

static rows_state rows_in(void *scratch, int n, const gqa_kv *kv) {
    size_t rows = round_up(n, 16), d = kv->head_dim, vd = round_up(kv->value_dim, 16);
    rows_state s = {.n = n, .d = d, .vd = vd};
    s.p = scratch;
    s.k = s.p + GQA_ATTEND_ROWS * GQA_KV_TILE;
    s.v = s.k + round_up(d, 16) * GQA_KV_TILE;
    s.scales = s.v + vd * GQA_KV_TILE;
    s.o = s.scales + vd;
    s.q = s.o + rows * vd;
    s.m = s.q + rows * round_up(d, 16);
    s.l = s.m + rows;
    s.t0 = (int *)(s.l + rows * VF_LANES);
    s.t1 = s.t0 + rows;
    memset(s.o, 0, sizeof(float) * rows * vd);
    memset(s.q + n * d, 0, sizeof(float) * (round_up(n, GQA_ATTEND_ROWS) - n) * d);
    memset(s.l, 0, sizeof(float) * rows * VF_LANES);
    for (int i = 0; i < n; i++) s.m[i] = -INFINITY;
    return s;
}

static void set_row(rows_state *s, size_t row, const float *q, float scale, int t0, int t1) {
    for (size_t i = 0; i < s->d; i++) s->q[row * s->d + i] = q[i] * scale;
    s->t0[row] = t0;
    s->t1[row] = t1;
}

/* ---- the table's functions ------------------------------------------------------------------ */

static void kernel_attend_decode(const gqa_kv *kv, int kv_head, const float *q, int group,
                                 float scale, int t0, int t1, float *partial, void *scratch) {
    const size_t d = kv->head_dim, value_dim = kv->value_dim;
    float *m = partial, *l = m + group, *o = l + group;
    rows_state s = rows_in(scratch, group, kv);
    s.softcap = kv->softcap;
    for (int g = 0; g < group; g++) set_row(&s, g, q + g * d, scale, t0, t1);
    rows_through_tiles(&s, kv, kv_head, t0 / GQA_KV_TILE, ceil_div(t1, GQA_KV_TILE));
    for (int g = 0; g < group; g++) {
        m[g] = s.m[g];
        l[g] = vf_sum(vf_load(s.l + g * VF_LANES));
        memcpy(o + g * value_dim, s.o + g * s.vd, sizeof(float) * value_dim);
    }
}

static void divide(float *out, const float *x, int n, float by) {
    int i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(out + i, vf_div(vf_load(x + i), vf_set1(by)));
    for (; i < n; i++) out[i] = x[i] / by;
}

/* y += a x */
static void add_scaled(float *y, const float *x, float a, int n) {
    int i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(y + i, vf_fma(vf_set1(a), vf_load(x + i), vf_load(y + i)));
    for (; i < n; i++) y[i] += a * x[i];
}

static void kernel_combine_splits(const float *partials, int n, int group, int value_dim,
                                  float *out, size_t ld_out) {
    const size_t step = gqa_partial_floats(group, value_dim);
    for (int g = 0; g < group; g++) {
        float max = -INFINITY, sum = 0, *o = out + g * ld_out;
        for (int i = 0; i < n; i++)
            if (partials[i * step + g] > max) max = partials[i * step + g];
        for (int j = 0; j < value_dim; j++) o[j] = 0;
        for (int i = 0; i < n; i++) {
            const float *m = partials + i * step, *l = m + group, *from = l + group + g * value_dim;
            float weight = m[g] > -INFINITY ? expf(m[g] - max) : 0;
            sum += weight * l[g];
            add_scaled(o, from, weight, value_dim);
        }
        divide(o, o, value_dim, sum);
    }
}

static void kernel_attend_prefill(const gqa_kv *kv, int kv_head, const float *q, size_t ldq,
                                  int group, float scale, int p0, int n_q, int window, float *out,
                                  size_t ldo, void *scratch) {
    const size_t d = kv->head_dim;
    rows_state s = rows_in(scratch, group * n_q, kv);
    s.softcap = kv->softcap;
    for (int i = 0; i < n_q; i++) {
        int t1 = p0 + i + 1, t0 = window > 0 && t1 > window ? t1 - window : 0;
        for (int g = 0; g < group; g++)
            set_row(&s, i * group + g, q + i * ldq + g * d, scale, t0, t1);
    }
    rows_through_tiles(&s, kv, kv_head, s.t0[0] / GQA_KV_TILE, ceil_div(p0 + n_q, GQA_KV_TILE));
    for (int i = 0; i < n_q; i++)
        for (int g = 0; g < group; g++) {
            size_t row = i * group + g;
            float sum = vf_sum(vf_load(s.l + row * VF_LANES));
            divide(out + i * ldo + g * kv->value_dim, s.o + row * s.vd, kv->value_dim, sum);
        }
}
