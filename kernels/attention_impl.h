/* attention_impl.h: the KV cache and grouped-query attention over it.
 *
 * Papers: grouped queries, Ainslie et al. 2023 (2305.13245); online softmax, Milakov & Gimelshein 2018 (1805.02867);
 * tiles, Dao et al. 2022 (2205.14135).
 *
 * A tile holds 32 positions of one KV head. K has the position as its fastest index, so that a vector of K is one
 * dimension of several positions and q.k needs no horizontal sum; V has the dimension fastest, so that p V needs none.
 * vd is head_dim rounded up to 16.
 *
 *   K tile   f32, f16, bf16: [head_dim][32]
 *            q8_0: for 32 dimensions: f16 scale[32 positions], i8 [32 dimensions][32 positions]
 *            q4_0: the same, u8 [16][32]: low nibble dimension i, high nibble i + 16; value = scale * (q - 8)
 *   V tile   f32, f16, bf16: [32][vd]
 *            q8_0: i8 [32][head_dim], then f16 scale [32][head_dim / 32]
 *            q4_0: u8 [32][head_dim / 2] (in each 32 dimensions: low nibble i, high nibble i + 16), then the scales
 *
 * All query rows that read the same KV head (the group, times the positions of a prefill tile) go through a tile
 * together: the tile comes from memory once, and once it is in the first-level cache, is met by eight rows at a time. Meanwhile the
 * next tile is fetched, line by line. */

enum { KV_VECTORS = GQA_KV_TILE / VF_LANES, SUMS = VF_REGISTERS / 2 /* in registers at once */ };

static inline int padded_dim(int head_dim) { return (head_dim + 15) & ~15; }

static inline const uint8_t *k_tile(const gqa_kv *kv, int kv_head, int tile) {
    return kv->k + ((size_t)kv_head * (size_t)kv->n_tiles + (size_t)(tile % kv->n_tiles)) * kv->k_tile_bytes;
}
static inline const uint8_t *v_tile(const gqa_kv *kv, int kv_head, int tile) {
    return kv->v + ((size_t)kv_head * (size_t)kv->n_tiles + (size_t)(tile % kv->n_tiles)) * kv->v_tile_bytes;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* 32 values as int8 or nibble-valued codes and a scale, as GGML's q8_0 and q4_0 round. */
static uint16_t quantize_32(const float *x, int type, uint8_t codes[32]) {
    float top = 0, signed_top = 0;
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > top) top = fabsf(x[i]), signed_top = x[i];
    float d = type == GQA_TYPE_Q8_0 ? top / 127 : signed_top / -8, inverse = d != 0 ? 1 / d : 0;
    for (int i = 0; i < 32; i++) {
        float q = x[i] * inverse;
        double rounded = q > 127 ? 127 : q > -127 ? (double)q + (q < 0 ? -0.5 : 0.5) : -127; /* half goes away from zero; NaN to -127 */
        if (type == GQA_TYPE_Q8_0) codes[i] = (uint8_t)(int8_t)rounded;
        else codes[i] = (uint8_t)(q + 8.5f > 15 ? 15 : q + 8.5f > 0 ? q + 8.5f : 0);
    }
    return gqa_f32_to_f16(d);
}

static void append_quantized(gqa_kv *kv, uint8_t *kt, uint8_t *vt, int lane, const float *k, const float *v) {
    int d = kv->head_dim, half = kv->type == GQA_TYPE_Q4_0;
    size_t block = half ? 64 + 16 * 32 : 64 + 32 * 32, row = (size_t)(half ? d / 2 : d);
    uint8_t codes[32];
    for (int b = 0; b < d / 32; b++) {
        uint16_t scale = quantize_32(k + 32 * b, kv->type, codes);
        uint8_t *at = kt + (size_t)b * block;
        memcpy(at + 2 * lane, &scale, 2);
        for (int i = 0; i < (half ? 16 : 32); i++) at[64 + 32 * i + lane] = half ? (uint8_t)(codes[i] | codes[i + 16] << 4) : codes[i];
        scale = quantize_32(v + 32 * b, kv->type, codes);
        memcpy(vt + 32 * row + 2 * (size_t)(lane * (d / 32) + b), &scale, 2);
        at = vt + (size_t)lane * row + (size_t)b * (half ? 16 : 32);
        for (int i = 0; i < (half ? 16 : 32); i++) at[i] = half ? (uint8_t)(codes[i] | codes[i + 16] << 4) : codes[i];
    }
}

static void kv_append(gqa_kv *kv, int kv_head, int position, const float *k, const float *v) {
    uint8_t *kt = (uint8_t *)k_tile(kv, kv_head, position / GQA_KV_TILE), *vt = (uint8_t *)v_tile(kv, kv_head, position / GQA_KV_TILE);
    int lane = position % GQA_KV_TILE, d = kv->head_dim, vd = padded_dim(d);
    if (kv->type == GQA_TYPE_Q8_0 || kv->type == GQA_TYPE_Q4_0) {
        append_quantized(kv, kt, vt, lane, k, v);
    } else if (kv->type == GQA_TYPE_F32) {
        for (int i = 0; i < d; i++) ((float *)kt)[i * GQA_KV_TILE + lane] = k[i];
        memcpy((float *)vt + lane * vd, v, sizeof(float) * (size_t)d);
    } else {
        uint16_t (*narrow)(float) = kv->type == GQA_TYPE_F16 ? gqa_f32_to_f16 : gqa_f32_to_bf16;
        uint16_t *k_lane = (uint16_t *)kt + lane, *v_row = (uint16_t *)vt + lane * vd;
        int i = 0;
        for (; kv->type == GQA_TYPE_F16 && i + VF_LANES <= d; i += VF_LANES) {
            uint16_t row[VF_LANES];
            vf_store_f16(row, vf_load(k + i));
            for (int j = 0; j < VF_LANES; j++) k_lane[(i + j) * GQA_KV_TILE] = row[j];
            vf_store_f16(v_row + i, vf_load(v + i));
        }
        for (; i < d; i++) {
            k_lane[i * GQA_KV_TILE] = narrow(k[i]);
            v_row[i] = narrow(v[i]);
        }
    }
}

/* ---- tiles as floats --------------------------------------------------------------------------------------------- */

/* Lanes of codes times their scales; half: nibbles, the upper or the lower ones. */
ALWAYS_INLINE vf widen_codes(int half, int upper, const uint8_t *codes, vf scale) {
    if (!half) return vf_mul(scale, vf_load_i8((const int8_t *)codes));
    return vf_mul(scale, vf_sub(upper ? vf_load_high4(codes) : vf_load_low4(codes), vf_set1(8)));
}

ALWAYS_INLINE void widen_quantized_k(int half, int d, const uint8_t *tile, float *out) {
    int rows = half ? 16 : 32; /* of codes, in a block of 32 dimensions */
    for (int b = 0; b < d / 32; b++, tile += 64 + rows * 32, out += 32 * GQA_KV_TILE)
        for (int p = 0; p < GQA_KV_TILE; p += VF_LANES) {
            vf scale = vf_load_f16((const uint16_t *)tile + p);
            for (int i = 0; i < rows; i++) {
                vf_store(out + i * GQA_KV_TILE + p, widen_codes(half, 0, tile + 64 + 32 * i + p, scale));
                if (half) vf_store(out + (i + 16) * GQA_KV_TILE + p, widen_codes(half, 1, tile + 64 + 32 * i + p, scale));
            }
        }
}

ALWAYS_INLINE void widen_quantized_v(int half, int d, const uint8_t *tile, float *out) {
    int blocks = d / 32, bytes = half ? 16 : 32; /* of codes, in a block */
    float scales[GQA_KV_TILE];
    const uint16_t *stored = (const uint16_t *)(tile + GQA_KV_TILE * blocks * bytes);
    for (int i = 0; i < GQA_KV_TILE * blocks; i++, tile += bytes, out += 32) {
        if (i % GQA_KV_TILE == 0)
            for (int j = 0; j < GQA_KV_TILE; j += VF_LANES) vf_store(scales + j, vf_load_f16(stored + i + j));
        vf scale = vf_set1(scales[i % GQA_KV_TILE]);
        UNROLL for (int j = 0; j < bytes; j += VF_LANES) {
            vf_store(out + j, widen_codes(half, 0, tile + j, scale));
            if (half) vf_store(out + 16 + j, widen_codes(half, 1, tile + j, scale));
        }
    }
}

/* One tile; the next one is fetched meanwhile. */
static void widen_quantized(const gqa_kv *kv, const uint8_t *k, const uint8_t *v, float *k_out, float *v_out) {
    for (size_t i = 0; i < kv->k_tile_bytes; i += 64) __builtin_prefetch(k + kv->k_tile_bytes + i, 0, 3);
    for (size_t i = 0; i < kv->v_tile_bytes; i += 64) __builtin_prefetch(v + kv->v_tile_bytes + i, 0, 3);
    if (kv->type == GQA_TYPE_Q4_0) {
        widen_quantized_k(1, kv->head_dim, k, k_out);
        widen_quantized_v(1, kv->head_dim, v, v_out);
    } else {
        widen_quantized_k(0, kv->head_dim, k, k_out);
        widen_quantized_v(0, kv->head_dim, v, v_out);
    }
}

/* ---- a tile against rows of queries ------------------------------------------------------------------------------ */

ALWAYS_INLINE int bytes_of(int type) { return type == GQA_TYPE_F32 ? 4 : type == GQA_TYPE_Q8_0 ? 1 : 2; }
ALWAYS_INLINE vf load_kv(int type, const uint8_t *p, vf scale) {
    return type == GQA_TYPE_F32 ? vf_load((const float *)p) : type == GQA_TYPE_F16 ? vf_load_f16((const uint16_t *)p) :
           type == GQA_TYPE_BF16 ? vf_load_bf16((const uint16_t *)p) : widen_codes(0, 0, p, scale);
}

/* Of a tile of d dimensions that comes from memory: the line of the next one that is as far into it as p. */
ALWAYS_INLINE void fetch_next_tile(int type, const uint8_t *p, int d) {
    if (type != GQA_TYPE_F32) __builtin_prefetch(p + (type == GQA_TYPE_Q8_0 ? 34 : 64) * d, 0, 3);
}

/* scores [rows][32] = q [rows][d] times K. */
ALWAYS_INLINE void tile_scores(int type, int rows, const uint8_t *k, const float *q, int d, float *scores) {
    const int nv = SUMS / rows < KV_VECTORS ? SUMS / rows : KV_VECTORS;
    for (int v0 = 0; v0 < KV_VECTORS; v0 += nv) {
        vf sum[SUMS], scale[KV_VECTORS];
        UNROLL for (int j = 0; j < nv * rows; j++) sum[j] = vf_set1(0);
        UNROLL for (int v = 0; v < nv; v++) scale[v] = vf_set1(1);
        for (int i = 0; i < d; i++) {
            const uint8_t *at = k + i * GQA_KV_TILE * bytes_of(type) + (type == GQA_TYPE_Q8_0 ? (i / 32 + 1) * 64 : 0);
            if (type == GQA_TYPE_Q8_0 && i % 32 == 0) {
                fetch_next_tile(type, at - 64, d);
                UNROLL for (int v = 0; v < nv; v++) scale[v] = vf_load_f16((const uint16_t *)(at - 64) + (v0 + v) * VF_LANES);
            }
            if (v0 == 0) fetch_next_tile(type, at, d);
            UNROLL for (int v = 0; v < nv; v++) {
                vf kk = load_kv(type, at + (v0 + v) * VF_LANES * bytes_of(type), scale[v]);
                UNROLL for (int r = 0; r < rows; r++) sum[v * rows + r] = vf_fma(kk, vf_set1(q[r * d + i]), sum[v * rows + r]);
            }
        }
        UNROLL for (int v = 0; v < nv; v++) UNROLL for (int r = 0; r < rows; r++)
            vf_store(scores + r * GQA_KV_TILE + (v0 + v) * VF_LANES, sum[v * rows + r]);
    }
}

/* out [rows][vd] += p [rows][32] times V (scales [32][vd / 32], if quantised), for the nv vectors of dimensions from `at` on. The
 * tile's n first positions: what is left in the others may be anything, and nothing times infinity is not nothing. */
ALWAYS_INLINE void tile_values_part(int type, int rows, int nv, const uint8_t *v, const float *scales, const float *p, int n, int vd,
                                    int at, float *out) {
    vf sum[SUMS];
    UNROLL for (int j = 0; j < nv; j++) UNROLL for (int r = 0; r < rows; r++) sum[j * rows + r] = vf_load(out + r * vd + at + j * VF_LANES);
    for (int t = 0; t < n; t++)
        UNROLL for (int j = 0; j < nv; j++) {
            int dim = t * vd + at + j * VF_LANES;
            vf vv = load_kv(type, v + dim * bytes_of(type), vf_set1(type == GQA_TYPE_Q8_0 ? scales[dim / 32] : 1));
            if (j * VF_LANES * bytes_of(type) % 64 == 0) fetch_next_tile(type, v + dim * bytes_of(type), vd);
            UNROLL for (int r = 0; r < rows; r++) sum[j * rows + r] = vf_fma(vv, vf_set1(p[r * GQA_KV_TILE + t]), sum[j * rows + r]);
        }
    UNROLL for (int j = 0; j < nv; j++) UNROLL for (int r = 0; r < rows; r++) vf_store(out + r * vd + at + j * VF_LANES, sum[j * rows + r]);
}
ALWAYS_INLINE void tile_values(int type, int rows, const uint8_t *v, float *scales, const float *p, int n, int vd, float *out) {
    const int most = 64 / VF_LANES, nv = SUMS / rows < most ? SUMS / rows : most;
    if (type == GQA_TYPE_Q8_0) {
        const uint8_t *stored = v + GQA_KV_TILE * vd;
        for (int i = 0; i < vd; i += 32) fetch_next_tile(type, stored + 2 * i, vd);
        for (int i = 0; i < vd; i += VF_LANES) vf_store(scales + i, vf_load_f16((const uint16_t *)stored + i));
    }
    int at = 0;
    for (; at + nv * VF_LANES <= vd; at += nv * VF_LANES) tile_values_part(type, rows, nv, v, scales, p, n, vd, at, out);
    for (; at < vd; at += VF_LANES) tile_values_part(type, rows, 1, v, scales, p, n, vd, at, out);
}

#define TILE_KERNELS(name, type, rows) \
    static void name##_scores_##rows(const uint8_t *k, const float *q, int d, float *scores) { tile_scores(type, rows, k, q, d, scores); } \
    static void name##_values_##rows(const uint8_t *v, float *scales, const float *p, int n, int vd, float *out) { \
        tile_values(type, rows, v, scales, p, n, vd, out); \
    }
#define TILE_TYPE(name, type) TILE_KERNELS(name, type, 1) TILE_KERNELS(name, type, 2) TILE_KERNELS(name, type, 4) TILE_KERNELS(name, type, 8)
TILE_TYPE(kv32, GQA_TYPE_F32)
TILE_TYPE(kv16, GQA_TYPE_F16)
TILE_TYPE(kvb16, GQA_TYPE_BF16)
TILE_TYPE(kv8, GQA_TYPE_Q8_0)

typedef struct tile_kernels {
    void (*scores[4])(const uint8_t *k, const float *q, int d, float *scores); /* 1, 2, 4, 8 rows */
    void (*values[4])(const uint8_t *v, float *scales, const float *p, int n, int vd, float *out);
} tile_kernels;
#define TILE_TABLE(name) {{name##_scores_1, name##_scores_2, name##_scores_4, name##_scores_8}, {name##_values_1, name##_values_2, name##_values_4, name##_values_8}}
static const tile_kernels tiles_f32 = TILE_TABLE(kv32);
static const tile_kernels tiles_f16 = TILE_TABLE(kv16);
static const tile_kernels tiles_bf16 = TILE_TABLE(kvb16);
static const tile_kernels tiles_q8_0 = TILE_TABLE(kv8);

/* Quantised tiles are widened first where several passes of rows share that work, those of q4_0 always. */
static const tile_kernels *kernels_for(int type, int rows) {
    if (type == GQA_TYPE_Q8_0 && rows <= GQA_ATTEND_ROWS) return &tiles_q8_0;
    return type == GQA_TYPE_F16 ? &tiles_f16 : type == GQA_TYPE_BF16 ? &tiles_bf16 : &tiles_f32;
}

/* ---- online softmax ---------------------------------------------------------------------------------------------- */

/* Query rows on their way through the tiles of one KV head. Row i sees positions t0[i] .. t1[i] - 1. */
typedef struct rows_state {
    int n, d, vd;
    const int *t0, *t1;
    float *q;         /* [n][d], scaled */
    float *m;         /* [n] running maximum */
    float *l;         /* [n][VF_LANES] sums of exponentials, to be added up at the end */
    float *o;         /* [n][vd] */
    float *p;         /* [8][32] */
    float *k, *v;     /* a quantised tile as floats */
    float *scales;    /* [32][vd / 32] of a V tile in q8_0 */
} rows_state;

/* Scores of one row and tile to probabilities against the running maximum; o and l are rescaled when it grows. */
static void softmax_tile(rows_state *s, int row, float *p, int first) {
    int t0 = s->t0[row] - first, t1 = s->t1[row] - first;
    if (t0 > 0 || t1 < GQA_KV_TILE)
        for (int t = 0; t < GQA_KV_TILE; t++)
            if (t < t0 || t >= t1) p[t] = -INFINITY;
    vf top = vf_load(p);
    UNROLL for (int t = VF_LANES; t < GQA_KV_TILE; t += VF_LANES) top = vf_max(top, vf_load(p + t));
    float *l = s->l + row * VF_LANES;
    vf sum = vf_load(l);
    if (vf_any_above(top, s->m[row])) { /* seldom, after the first tiles */
        float *o = s->o + (size_t)row * (size_t)s->vd, m = vf_hmax(top);
        vf shrink = vf_exp(vf_set1(s->m[row] - m));
        for (int i = 0; i < s->vd; i += VF_LANES) vf_store(o + i, vf_mul(vf_load(o + i), shrink));
        sum = vf_mul(sum, shrink);
        s->m[row] = m;
    }
    vf max = vf_set1(s->m[row]);
    if (!(s->m[row] > -INFINITY)) max = vf_set1(0); /* nothing seen yet: every p is exp(-inf) = 0 */
    UNROLL for (int t = 0; t < GQA_KV_TILE; t += VF_LANES) {
        vf e = vf_exp(vf_sub(vf_load(p + t), max));
        vf_store(p + t, e);
        sum = vf_add(sum, e);
    }
    vf_store(l, sum);
}

/* Rows [begin, end) through one tile, in passes of 8, 4, 2, 1. */
static void rows_through_tile(rows_state *s, const tile_kernels *kernels, const uint8_t *k, const uint8_t *v, int begin, int end, int first) {
    for (int row = begin; row < end; ) {
        int size = end - row >= 8 ? 3 : end - row >= 4 ? 2 : end - row >= 2 ? 1 : 0, rows = 1 << size;
        kernels->scores[size](k, s->q + (size_t)row * (size_t)s->d, s->d, s->p);
        for (int r = 0; r < rows; r++) softmax_tile(s, row + r, s->p + r * GQA_KV_TILE, first);
        int seen = s->t1[row + rows - 1] - first; /* the last row sees most */
        kernels->values[size](v, s->scales, s->p, seen < GQA_KV_TILE ? seen : GQA_KV_TILE, s->vd, s->o + (size_t)row * (size_t)s->vd);
        row += rows;
    }
}

/* All rows through tiles tile0 .. tile1 - 1. Rows are ordered by their range; one is skipped where it sees nothing. */
static void rows_through_tiles(rows_state *s, const gqa_kv *kv, int kv_head, int tile0, int tile1) {
    for (int tile = tile0; tile < tile1; tile++) {
        const uint8_t *kt = k_tile(kv, kv_head, tile), *vt = v_tile(kv, kv_head, tile);
        int first = tile * GQA_KV_TILE, begin = 0, end = s->n;
        while (begin < end && s->t1[begin] <= first) begin++;
        while (end > begin && s->t0[end - 1] >= first + GQA_KV_TILE) end--;
        const tile_kernels *kernels = kernels_for(kv->type, end - begin);
        if (kv->type != GQA_TYPE_F32 && kernels == &tiles_f32) {
            widen_quantized(kv, kt, vt, s->k, s->v);
            kt = (const uint8_t *)s->k, vt = (const uint8_t *)s->v;
        }
        rows_through_tile(s, kernels, kt, vt, begin, end, first);
    }
}

static rows_state rows_in(void *scratch, int n, int d) {
    rows_state s = {.n = n, .d = d, .vd = padded_dim(d)};
    float *f = scratch;
    size_t rows = (size_t)((n + 15) & ~15), vd = (size_t)s.vd;
    s.p = f, f += GQA_ATTEND_ROWS * GQA_KV_TILE;
    s.k = f, f += vd * GQA_KV_TILE;
    s.v = f, f += vd * GQA_KV_TILE;
    s.scales = f, f += vd;
    s.o = f, f += rows * vd;
    s.q = f, f += rows * vd;
    s.m = f, f += rows;
    s.l = f, f += rows * VF_LANES;
    s.t0 = (int *)f, f += rows;
    s.t1 = (int *)f;
    memset(s.o, 0, sizeof(float) * rows * vd);
    memset(s.l, 0, sizeof(float) * rows * VF_LANES);
    for (int i = 0; i < n; i++) s.m[i] = -INFINITY;
    return s;
}

static void set_row(rows_state *s, int row, const float *q, float scale, int t0, int t1) {
    for (int i = 0; i < s->d; i++) s->q[row * s->d + i] = q[i] * scale;
    ((int *)s->t0)[row] = t0;
    ((int *)s->t1)[row] = t1;
}

/* ---- the table's functions --------------------------------------------------------------------------------------- */

static void attend_decode(const gqa_kv *kv, int kv_head, const float *q, int group, float scale, int t0, int t1, float *part, void *scratch) {
    int d = kv->head_dim;
    rows_state s = rows_in(scratch, group, d);
    for (int g = 0; g < group; g++) set_row(&s, g, q + g * d, scale, t0, t1);
    rows_through_tiles(&s, kv, kv_head, t0 / GQA_KV_TILE, (t1 + GQA_KV_TILE - 1) / GQA_KV_TILE);
    memcpy(part, s.m, sizeof(float) * (size_t)group);
    for (int g = 0; g < group; g++) {
        part[group + g] = vf_sum(vf_load(s.l + g * VF_LANES));
        memcpy(part + 2 * group + g * d, s.o + g * s.vd, sizeof(float) * (size_t)d);
    }
}

static void divide(float *out, const float *x, int n, float by) {
    int i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES) vf_store(out + i, vf_div(vf_load(x + i), vf_set1(by)));
    for (; i < n; i++) out[i] = x[i] / by;
}

static void combine_splits(const float *parts, int n, int group, int head_dim, float *out, size_t ld_out) {
    size_t step = gqa_partial_floats(group, head_dim);
    for (int g = 0; g < group; g++) {
        float m = -INFINITY, l = 0, *o = out + (size_t)g * ld_out;
        for (int i = 0; i < n; i++)
            if (parts[(size_t)i * step + (size_t)g] > m) m = parts[(size_t)i * step + (size_t)g];
        for (int j = 0; j < head_dim; j++) o[j] = 0;
        for (int i = 0; i < n; i++) {
            const float *part = parts + (size_t)i * step, *from = part + 2 * group + g * head_dim;
            float weight = part[g] > -INFINITY ? expf(part[g] - m) : 0;
            l += weight * part[group + g];
            int j = 0;
            for (; j + VF_LANES <= head_dim; j += VF_LANES) vf_store(o + j, vf_fma(vf_set1(weight), vf_load(from + j), vf_load(o + j)));
            for (; j < head_dim; j++) o[j] += weight * from[j];
        }
        divide(o, o, head_dim, l);
    }
}

static void attend_prefill(const gqa_kv *kv, int kv_head, const float *q, size_t ldq, int group, float scale, int p0, int n_q,
                           int window, float *out, size_t ldo, void *scratch) {
    int d = kv->head_dim;
    rows_state s = rows_in(scratch, group * n_q, d);
    for (int i = 0; i < n_q; i++) {
        int t1 = p0 + i + 1, t0 = window > 0 && t1 > window ? t1 - window : 0;
        for (int g = 0; g < group; g++) set_row(&s, i * group + g, q + (size_t)i * ldq + (size_t)(g * d), scale, t0, t1);
    }
    rows_through_tiles(&s, kv, kv_head, s.t0[0] / GQA_KV_TILE, (p0 + n_q + GQA_KV_TILE - 1) / GQA_KV_TILE);
    for (int i = 0; i < n_q; i++)
        for (int g = 0; g < group; g++) {
            int row = i * group + g;
            divide(out + (size_t)i * ldo + (size_t)(g * d), s.o + row * s.vd, d, vf_sum(vf_load(s.l + row * VF_LANES)));
        }
}
