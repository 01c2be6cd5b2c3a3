/* attention_impl.h: grouped-query attention over the KV cache (cache_impl.h).
 *
 * Papers: grouped queries, Ainslie et al. 2023 (2305.13245); online softmax, Milakov & Gimelshein
 * 2018 (1805.02867); tiles, Dao et al. 2022 (2205.14135).
 *
 * All query rows that read the same KV head (the group, times the positions of a prefill tile) go
 * through a tile together: it comes from memory once, and is then multiplied from the first-level
 * cache with eight rows at a time. Meanwhile the next tile is fetched, line by line.
 *
 * Quantised K and V are multiplied as integers, with queries and probabilities in 16 bits:
 *   score = scale_q / 32767 * sum over blocks(scale_k * sum(k q16)),  q16 = q / max |q| * 32767
 *   out += top * factor / 32767 * sum(v p16),  p16 = p / top * scale_v / factor * 32767
 * where top is the row's largest p in the tile and factor the largest scale_v of the block of
 * dimensions, both only of positions that the row sees. The rounding is that of V's and K's own
 * codes divided by 100 or more. */

#define KV_VECTORS (GQA_KV_TILE / VF_LANES)
#define ATTEND_SUMS (VF_REGISTERS / 2) /* in registers at once */
#define LOG2_E 1.44269504f

/* ---- a tile against rows of queries --------------------------------------------------------- */

TEMPLATE int bytes_of(int type) { return type == GQA_TYPE_F32 ? 4 : 2; }
TEMPLATE vf load_kv(int type, const uint8_t *p) {
    switch (type) {
    case GQA_TYPE_F32: return vf_load((const float *)p);
    case GQA_TYPE_F16: return vf_load_f16((const uint16_t *)p);
    default: return vf_load_bf16((const uint16_t *)p);
    }
}

/* Of a tile of d dimensions in 16 bits: fetches the line of the next one that is as far into it as
 * p. */
TEMPLATE void fetch_next_tile(int type, const uint8_t *p, int d) {
    if (type != GQA_TYPE_F32) __builtin_prefetch(p + 64 * d, 0, 3);
}

/* Two 16-bit integers in all lanes. */
TEMPLATE vi load_pair(const int16_t *p) {
    int32_t pair;
    memcpy(&pair, p, 4);
    return vi_set1(pair);
}

/* scores [rows][32] = q [rows][d] times K. */
TEMPLATE void tile_scores(int type, int rows, const uint8_t *k, const float *q, int d,
                          float *scores) {
    const int fit = ATTEND_SUMS / rows, nv = fit < KV_VECTORS ? fit : KV_VECTORS;
    const int bytes = bytes_of(type);
    for (int v0 = 0; v0 < KV_VECTORS; v0 += nv) {
        tile_sums sum;
        tile_clear(nv, rows, sum);
        for (int i = 0; i < d; i++) {
            const uint8_t *at = k + i * GQA_KV_TILE * bytes;
            if (v0 == 0) fetch_next_tile(type, at, d);
            UNROLL for (int v = 0; v < nv; v++) {
                vf keys = load_kv(type, at + (v0 + v) * VF_LANES * bytes);
                UNROLL for (int r = 0; r < rows; r++)
                    sum[v][r] = vf_fma(keys, vf_set1(q[r * d + i]), sum[v][r]);
            }
        }
        tile_store(nv, rows, sum, scores + v0 * VF_LANES, GQA_KV_TILE);
    }
}

/* out [rows][vd] += p [rows][32] times V, for nv vectors of dimensions from `at` on. Only the
 * tile's n first positions: the others may hold anything, and 0 * inf is NaN. */
TEMPLATE void add_values(int type, int rows, int nv, const uint8_t *v, const float *p, int n,
                         int vd, int at, float *out) {
    tile_sums sum;
    tile_load(nv, rows, sum, out + at, vd);
    for (int t = 0; t < n; t++)
        UNROLL for (int j = 0; j < nv; j++) {
            int byte = (t * vd + at + j * VF_LANES) * bytes_of(type);
            vf values = load_kv(type, v + byte);
            if (j * VF_LANES * bytes_of(type) % 64 == 0) fetch_next_tile(type, v + byte, vd);
            UNROLL for (int r = 0; r < rows; r++)
                sum[j][r] = vf_fma(values, vf_set1(p[r * GQA_KV_TILE + t]), sum[j][r]);
        }
    tile_store(nv, rows, sum, out + at, vd);
}

TEMPLATE void tile_values(int type, int rows, const uint8_t *v, const float *p, int n, int vd,
                          float *out) {
    const int fit = ATTEND_SUMS / rows, nv = fit < TILE_VECTORS ? fit : TILE_VECTORS;
    int at = 0;
    for (; at + nv * VF_LANES <= vd; at += nv * VF_LANES)
        add_values(type, rows, nv, v, p, n, vd, at, out);
    for (; at < vd; at += VF_LANES) add_values(type, rows, 1, v, p, n, vd, at, out);
}

/* The same in integers: scores [rows][32] = q16 [rows][d] times q_scales [rows] times K in q8_0.
 * The next tile, `ahead` bytes on, is asked for line by line. */
TEMPLATE void int_scores(int rows, const uint8_t *k, const int16_t *q, const float *q_scales, int d,
                         size_t ahead, float *scores) {
    const int fit = ATTEND_SUMS / rows, nv = fit < KV_VECTORS ? fit : KV_VECTORS;
    for (int b = 0; b < d; b += 32, k += 64 + 32 * GQA_KV_TILE)
        for (int v0 = 0; v0 < KV_VECTORS; v0 += nv) {
            tile_ints sum;
            UNROLL for (int r = 0; r < rows; r++)
                UNROLL for (int v = 0; v < nv; v++) sum[v][r] = vi_set1(0);
            if (v0 == 0) __builtin_prefetch(k + ahead);
            for (int i = 0; i < 32; i += 2) {
                vi keys[KV_VECTORS];
                if (v0 == 0) __builtin_prefetch(k + ahead + 64 + i * GQA_KV_TILE);
                UNROLL for (int v = 0; v < nv; v++)
                    keys[v] = vi_load_pairs(k + 64 + i * GQA_KV_TILE + 2 * (v0 + v) * VF_LANES);
                UNROLL for (int r = 0; r < rows; r++) {
                    vi pair = load_pair(q + r * d + b + i);
                    UNROLL for (int v = 0; v < nv; v++) {
                        sum[v][r] = vi_dot16(sum[v][r], keys[v], pair);
                        VECTOR_KEEP(sum[v][r]); /* or each is copied */
                    }
                }
            }
            UNROLL for (int v = 0; v < nv; v++) {
                const int at = (v0 + v) * VF_LANES;
                vf scale = vf_load_f16((const uint16_t *)k + at);
                UNROLL for (int r = 0; r < rows; r++) {
                    float *to = scores + r * GQA_KV_TILE + at;
                    vf part = vf_mul(vf_from_vi(sum[v][r]), scale);
                    vf before = b ? vf_load(to) : vf_set1(0);
                    vf_store(to, vf_fma(part, vf_set1(q_scales[r]), before));
                }
            }
        }
}

/* out [rows][d] += p16 [rows][d / 32][32] times factors [rows][d / 32] times the codes of V in
 * q8_0, or of q4_0 unpacked, of which n positions are seen. `ahead` as in int_scores. */
TEMPLATE void int_values(int rows, int nibbles, const uint8_t *v, const int16_t *p,
                         const float *factors, int n, int d, size_t ahead, float *out) {
    const int fit = ATTEND_SUMS / rows, block = 32 / VF_LANES, nv = fit < block ? fit : block;
    const int step = nibbles ? d : 2 * d; /* of a pair of positions */
    for (int at = 0; at < d; at += nv * VF_LANES) {
        tile_ints sum;
        const uint8_t *codes[32 / VF_LANES];
        UNROLL for (int j = 0; j < nv; j++) {
            int dim = at + j * VF_LANES, upper = nibbles && dim % 32 >= 16;
            if (nibbles) dim = dim / 32 * 16 + dim % 16;
            codes[j] = v + 2 * dim + (upper ? 16 * d : 0);
        }
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int j = 0; j < nv; j++) sum[j][r] = vi_set1(0);
        if (at % 32 == 0) __builtin_prefetch(v + ahead + GQA_KV_TILE * d + 2 * at); /* scales */
        for (int t = 0, from = 0; t < n; t += 2, from += step) {
            vi values[32 / VF_LANES];
            if (at % 32 == 0) __builtin_prefetch(codes[0] + from + ahead);
            UNROLL for (int j = 0; j < nv; j++) values[j] = vi_load_pairs(codes[j] + from);
            UNROLL for (int r = 0; r < rows; r++) {
                vi pair = load_pair(p + r * d + at / 32 * 32 + t);
                UNROLL for (int j = 0; j < nv; j++) {
                    sum[j][r] = vi_dot16(sum[j][r], values[j], pair);
                    VECTOR_KEEP(sum[j][r]);
                }
            }
        }
        UNROLL for (int r = 0; r < rows; r++) {
            vf factor = vf_set1(factors[r * (d / 32) + at / 32]);
            UNROLL for (int j = 0; j < nv; j++) {
                float *to = out + r * d + at + j * VF_LANES;
                vf_store(to, vf_fma(vf_from_vi(sum[j][r]), factor, vf_load(to)));
            }
        }
    }
}

/* tile_scores and tile_values for 1, 2, 4, 8 rows */
typedef struct tile_kernels {
    void (*scores[4])(const uint8_t *k, const float *q, int d, float *scores);
    void (*values[4])(const uint8_t *v, const float *p, int n, int vd, float *out);
} tile_kernels;

#define ROWS_FUNCTIONS(scores_name, values_name, type, rows)                                   \
    static void scores_name(const uint8_t *k, const float *q, int d, float *scores) {          \
        tile_scores(type, rows, k, q, d, scores);                                              \
    }                                                                                          \
    static void values_name(const uint8_t *v, const float *p, int n, int vd, float *out) {     \
        tile_values(type, rows, v, p, n, vd, out);                                             \
    }
#define TILE_FUNCTIONS(name, type)                                                             \
    ROWS_FUNCTIONS(NAME(name, scores_1), NAME(name, values_1), type, 1)                        \
    ROWS_FUNCTIONS(NAME(name, scores_2), NAME(name, values_2), type, 2)                        \
    ROWS_FUNCTIONS(NAME(name, scores_4), NAME(name, values_4), type, 4)                        \
    ROWS_FUNCTIONS(NAME(name, scores_8), NAME(name, values_8), type, 8)
FLOAT_TYPES(TILE_FUNCTIONS)

#define FOR_ROWS(name, what) \
    {NAME(name, what##_1), NAME(name, what##_2), NAME(name, what##_4), NAME(name, what##_8)}
#define TILE_CASE(name, type)                                                                  \
    case type: {                                                                               \
        static const tile_kernels kernels = {FOR_ROWS(name, scores), FOR_ROWS(name, values)};  \
        return &kernels;                                                                       \
    }
static const tile_kernels *tile_kernels_of(int type) {
    switch (type) {
    FLOAT_TYPES(TILE_CASE)
    default: return NULL; /* multiplied as integers */
    }
}

/* ---- online softmax ------------------------------------------------------------------------- */

/* Query rows on their way through the tiles of one KV head. Row i sees positions t0[i]..t1[i]-1. */
typedef struct rows_state {
    size_t n, d, vd;  /* as stored: with zeros at the end */
    int *t0, *t1;
    float *q;         /* [n][d], scaled; then zeros up to a multiple of 8 */
    float softcap;    /* 0: none */
    float *m;         /* [n] running maximum */
    float *l;         /* [n][VF_LANES] sums of exponentials, to be added up at the end */
    float *o;         /* [n][vd] */
    float *p;         /* [8][32] */
    float *k, *v;     /* a tile as floats (shared_dim), or of q4_0 as bytes */
    int16_t *q16;           /* [n][d], and zeros as in q */
    float *q_scales;        /* [n] */
    int v_type;
    size_t k_ahead, v_ahead; /* from a tile in q8_0 to the next one; else 0 */
    const uint16_t *stored; /* scales of V as they are in the tile */
    int seen0, seen1;       /* positions of it whose scales are in v_scales */
    float *v_scales;        /* [vd / 32][32] times 32767, relative to the largest, or 0 */
    float *v_tops;          /* [vd / 32] the largest over 32767 */
    int16_t *p16;           /* [8][vd / 32][32] */
    float *factors;         /* [8][vd / 32] */
} rows_state;

/* p = cap tanh(p / cap) / ln 2, by tanh(x) = 1 - 2 / (1 + exp(2 x)) (gemma2). */
static void cap_scores(float *p, float cap) {
    for (int t = 0; t < GQA_KV_TILE; t += VF_LANES) {
        vf e = vf_exp(vf_mul(vf_load(p + t), vf_set1(2 / cap)));
        vf tanh = vf_sub(vf_set1(1), vf_div(vf_set1(2), vf_add(vf_set1(1), e)));
        vf_store(p + t, vf_mul(vf_set1(cap * LOG2_E), tanh));
    }
}

/* 2^x for x <= 0 to about 2 ulp; 0 from -126 down. 2^n by the exponent bits, x = n + r; 2^r by a
 * polynomial. */
static inline vf vf_exp2(vf x) {
    const vf low = vf_set1(-126.0f), magic = vf_set1(12582912.0f); /* 1.5 * 2^23, as in vf_exp */
    vf clamped = vf_max(x, low);
    vf shifted = vf_add(clamped, magic);
    vf r = vf_sub(clamped, vf_sub(shifted, magic));
    vf p = vf_set1(1.326472731e-03f);
    p = vf_fma(p, r, vf_set1(9.671512991e-03f));
    p = vf_fma(p, r, vf_set1(5.550733581e-02f));
    p = vf_fma(p, r, vf_set1(2.402224243e-01f));
    p = vf_fma(p, r, vf_set1(6.931470037e-01f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_keep_above(vf_scale2(p, shifted), x, low);
}

/* Scores of one row and tile, in units of ln 2, to probabilities against the running maximum; o and
 * l are rescaled when it grows. */
static void softmax_tile(rows_state *s, size_t row, float *p, int first) {
    const int t0 = s->t0[row] - first, t1 = s->t1[row] - first;
    float *l = s->l + row * VF_LANES, m = s->m[row];
    if (s->softcap > 0) cap_scores(p, s->softcap);
    if (t0 > 0 || t1 < GQA_KV_TILE)
        for (int t = 0; t < GQA_KV_TILE; t++)
            if (t < t0 || t >= t1) p[t] = -INFINITY;
    vf maxima = vf_load(p), sum = vf_load(l);
    UNROLL for (int t = VF_LANES; t < GQA_KV_TILE; t += VF_LANES)
        maxima = vf_max(maxima, vf_load(p + t));
    if (vf_any_above(maxima, m)) { /* rare, after the first tiles */
        float *o = s->o + row * s->vd, larger = vf_hmax(maxima);
        vf shrink = vf_exp2(vf_set1(m - larger));
        for (size_t i = 0; i < s->vd; i += VF_LANES)
            vf_store(o + i, vf_mul(vf_load(o + i), shrink));
        sum = vf_mul(sum, shrink);
        s->m[row] = m = larger;
    }
    /* nothing seen yet: p = exp(-inf) = 0 */
    const vf max = vf_set1(m > -INFINITY ? m : 0);
    UNROLL for (int t = 0; t < GQA_KV_TILE; t += VF_LANES) {
        vf e = vf_exp2(vf_sub(vf_load(p + t), max));
        vf_store(p + t, e);
        sum = vf_add(sum, e);
    }
    vf_store(l, sum);
}

/* ---- queries and probabilities as integers -------------------------------------------------- */

/* Largest magnitude in x [n]. */
static float max_magnitude(const float *x, size_t n) {
    vf max = vf_set1(0);
    for (size_t i = 0; i < n; i += VF_LANES) {
        vf v = vf_load(x + i);
        max = vf_max(max, vf_max(v, vf_sub(vf_set1(0), v)));
    }
    return vf_hmax(max);
}

/* y = x * scale, rounded (1.5 * 2^23, as in vf_exp). */
static inline void store_rounded(int16_t *y, vf x, vf scale) {
    vf_store_low_halves(y, vf_fma(x, scale, vf_set1(12582912.0f)));
}

/* All queries, and the zeros after them. */
static void quantize_queries(rows_state *s) {
    const size_t rows = round_up(s->n, GQA_ATTEND_ROWS);
    const float *q = s->q;
    int16_t *q16 = s->q16;
    for (size_t row = 0; row < rows; row++, q += s->d, q16 += s->d) {
        float max = max_magnitude(q, s->d);
        vf by = vf_set1(max > 0 ? 32767 / max : 0), special = vf_set1(0);
        for (size_t i = 0; i < s->d; i += VF_LANES) {
            store_rounded(q16 + i, vf_load(q + i), by);
            special = vf_fma(vf_load(q + i), vf_set1(0), special); /* inf or NaN: NaN */
        }
        s->q_scales[row] = max / 32767 + vf_sum(special);
    }
}

/* v_scales and v_tops for a row that sees positions t0..t1-1 of the tile. Others must not count:
 * some are written later, or belong to another text. */
static void relative_scales(rows_state *s, int t0, int t1) {
    if (s->seen0 == t0 && s->seen1 == t1) return;
    for (size_t b = 0; b < s->vd / 32; b++) {
        float *scales = s->v_scales + b * GQA_KV_TILE;
        for (int t = 0; t < GQA_KV_TILE; t += VF_LANES)
            vf_store(scales + t, vf_load_f16(s->stored + b * GQA_KV_TILE + t));
        for (int t = 0; t < t0; t++) scales[t] = 0;
        for (int t = t1; t < GQA_KV_TILE; t++) scales[t] = 0;
        float max = max_magnitude(scales, GQA_KV_TILE);
        vf by = vf_set1(max > 0 ? 32767 / max : 0);
        for (int t = 0; t < GQA_KV_TILE; t += VF_LANES)
            vf_store(scales + t, vf_mul(vf_load(scales + t), by));
        s->v_tops[b] = max / 32767;
    }
    s->seen0 = t0;
    s->seen1 = t1;
}

/* Probabilities p [32] of a row, the r-th of its pass, times V's scales; top is the largest. */
static void quantize_probabilities(rows_state *s, size_t row, size_t r, float top, int first) {
    const size_t d = s->vd;
    const float *p = s->p + r * GQA_KV_TILE, *scales = s->v_scales, *tops = s->v_tops;
    int16_t *p16 = s->p16 + r * d, *end = p16 + d;
    float *factors = s->factors + r * (d / 32);
    relative_scales(s, max_int(s->t0[row] - first, 0), min_int(s->t1[row] - first, GQA_KV_TILE));
    vf by = vf_set1(top > 0 ? 1 / top : 0), relative[KV_VECTORS];
    UNROLL for (int v = 0; v < KV_VECTORS; v++)
        relative[v] = vf_mul(vf_load(p + v * VF_LANES), by);
    for (; p16 < end; p16 += GQA_KV_TILE, scales += GQA_KV_TILE) {
        UNROLL for (int v = 0; v < KV_VECTORS; v++)
            store_rounded(p16 + v * VF_LANES, relative[v], vf_load(scales + v * VF_LANES));
        *factors++ = top * *tops++;
    }
}

static void multiply_k(rows_state *s, const uint8_t *k, size_t row, size_t rows) {
    const int16_t *q = s->q16 + row * s->d;
    const float *scales = s->q_scales + row;
    switch (rows) {
    case 1:
        int_scores(1, k, q, scales, s->d, s->k_ahead, s->p);
        break;
    case 2:
        int_scores(2, k, q, scales, s->d, s->k_ahead, s->p);
        break;
    case 4:
        int_scores(4, k, q, scales, s->d, s->k_ahead, s->p);
        break;
    default:
        int_scores(8, k, q, scales, s->d, s->k_ahead, s->p);
    }
}

/* For the rows of a pass, `used` of which are not padding. */
static void multiply_v(rows_state *s, const uint8_t *v, size_t row, size_t rows, size_t used,
                       int first, int seen) {
    float top[GQA_ATTEND_ROWS], *o = s->o + row * s->vd;
    const int is_q4 = s->v_type == GQA_TYPE_Q4_0;
    for (size_t r = 0; r < used; r++) { /* a loop of its own: waits for one result overlap */
        vf max = vf_load(s->p + r * GQA_KV_TILE);
        UNROLL for (int t = VF_LANES; t < GQA_KV_TILE; t += VF_LANES)
            max = vf_max(max, vf_load(s->p + r * GQA_KV_TILE + t));
        top[r] = vf_hmax(max);
    }
    for (size_t r = 0; r < used; r++) quantize_probabilities(s, row + r, r, top[r], first);
    switch (rows) {
    case 1:
        int_values(1, is_q4, v, s->p16, s->factors, seen, s->vd, s->v_ahead, o);
        break;
    case 2:
        int_values(2, is_q4, v, s->p16, s->factors, seen, s->vd, s->v_ahead, o);
        break;
    case 4:
        int_values(4, is_q4, v, s->p16, s->factors, seen, s->vd, s->v_ahead, o);
        break;
    default:
        int_values(8, is_q4, v, s->p16, s->factors, seen, s->vd, s->v_ahead, o);
    }
}

/* ---- rows through tiles --------------------------------------------------------------------- */

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
        size_t used = rows < left ? rows : left;
        int seen = min_int(s->t1[row + used - 1] - first, GQA_KV_TILE); /* the last row sees most */
        if (of_k) of_k->scores[size](k, s->q + row * s->d, s->d, s->p);
        else multiply_k(s, k, row, rows);
        for (size_t r = 0; r < used; r++) softmax_tile(s, row + r, s->p + r * GQA_KV_TILE, first);
        if (of_v) of_v->values[size](v, s->p, seen, s->vd, s->o + row * s->vd);
        else multiply_v(s, v, row, rows, used, first, seen);
    }
}

static void fetch_tile(const uint8_t *tile, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(tile + i, 0, 3);
}

/* K's tile, in q4_0 as q8_0; the next one is fetched meanwhile. */
static const uint8_t *int_k(rows_state *s, const gqa_kv *kv, const uint8_t *tile) {
    s->k_ahead = kv->k_type == GQA_TYPE_Q8_0 ? kv->k_tile_bytes : 0;
    if (kv->k_type != GQA_TYPE_Q4_0) return tile;
    fetch_tile(tile + kv->k_tile_bytes, kv->k_tile_bytes);
    unpack_k(tile, s->d, (uint8_t *)s->k);
    return (const uint8_t *)s->k;
}

/* V's tile, in q4_0 as bytes: first those of all lower nibbles. */
static const uint8_t *int_v(rows_state *s, const gqa_kv *kv, const uint8_t *tile) {
    const size_t bytes = GQA_KV_TILE * codes_of(kv->v_type) * (s->vd / 32);
    if (!is_rotated(kv->v_type)) return tile;
    s->v_ahead = kv->v_type == GQA_TYPE_Q8_0 ? kv->v_tile_bytes : 0;
    s->v_type = kv->v_type;
    s->stored = (const uint16_t *)(tile + bytes);
    s->seen1 = 0;
    if (kv->v_type == GQA_TYPE_Q8_0) return tile;
    fetch_tile(tile + kv->v_tile_bytes, kv->v_tile_bytes);
    unpack_nibbles(tile, bytes, (uint8_t *)s->v);
    return (const uint8_t *)s->v;
}

/* The type in which queries meet a tile of that type. */
static int met_type(const gqa_kv *kv, int type) { return kv->shared_dim ? GQA_TYPE_F32 : type; }

/* All rows through tiles tile0..tile1-1. Rows are ordered by their range; one is skipped where it
 * sees nothing. */
static void rows_through_tiles(rows_state *s, const gqa_kv *kv, int kv_head, int tile0, int tile1) {
    const int k_type = met_type(kv, kv->k_type), v_type = met_type(kv, kv->v_type);
    if (is_rotated(kv->k_type)) hadamard(s->q, s->n * s->d, rotated_dim(kv));
    if (is_rotated(k_type)) quantize_queries(s);
    for (int tile = tile0; tile < tile1; tile++) {
        const uint8_t *k = (const uint8_t *)s->k, *v = (const uint8_t *)s->v;
        const int first = tile * GQA_KV_TILE;
        size_t begin = 0, end = s->n;
        while (begin < end && s->t1[begin] <= first) begin++;
        while (end > begin && s->t0[end - 1] >= first + GQA_KV_TILE) end--;
        if (kv->shared_dim) {
            widen_shared(kv, kv_head, tile, s->k, s->v);
        } else {
            k = int_k(s, kv, k_tile(kv, kv_head, tile));
            v = int_v(s, kv, v_tile(kv, kv_head, tile));
        }
        rows_through_tile(s, k_type, v_type, k, v, begin, end, first);
    }
    if (is_rotated(kv->v_type)) hadamard(s->o, s->n * s->vd, rotated_dim(kv));
}

static rows_state rows_in(void *scratch, int n, const gqa_kv *kv) {
    size_t rows = round_up(n, 16), d = stored_dim(met_type(kv, kv->k_type), kv->head_dim);
    size_t d16 = round_up(d, 16);
    size_t vd = round_up(stored_dim(met_type(kv, kv->v_type), kv->value_dim), 16);
    rows_state s = {.n = n, .d = d, .vd = vd, .softcap = kv->softcap};
    s.p = scratch;
    s.k = s.p + GQA_ATTEND_ROWS * GQA_KV_TILE;
    s.v = s.k + d16 * GQA_KV_TILE;
    s.v_scales = s.v + vd * GQA_KV_TILE;
    s.p16 = (int16_t *)(s.v_scales + vd);
    s.factors = s.v_scales + vd + GQA_ATTEND_ROWS * vd / 2;
    s.v_tops = s.factors + GQA_ATTEND_ROWS * vd / 16;
    s.o = s.v_tops + vd / 16 * 8;
    s.q = s.o + rows * vd;
    s.q16 = (int16_t *)(s.q + rows * d16);
    s.q_scales = s.q + rows * d16 + rows * d16 / 2;
    s.m = s.q_scales + rows;
    s.l = s.m + rows;
    s.t0 = (int *)(s.l + rows * VF_LANES);
    s.t1 = s.t0 + rows;
    memset(s.o, 0, sizeof(float) * rows * vd);
    memset(s.q + n * d, 0, sizeof(float) * (round_up(n, GQA_ATTEND_ROWS) - n) * d);
    memset(s.l, 0, sizeof(float) * rows * VF_LANES);
    for (int i = 0; i < n; i++) s.m[i] = -INFINITY;
    return s;
}

/* q [n]; n may be less than d. */
static void set_row(rows_state *s, size_t row, const float *q, size_t n, float scale, int t0,
                    int t1) {
    if (!(s->softcap > 0)) scale *= LOG2_E; /* else cap_scores() does it */
    float *to = s->q + row * s->d;
    size_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(to + i, vf_mul(vf_load(q + i), vf_set1(scale)));
    for (; i < s->d; i++) to[i] = i < n ? q[i] * scale : 0;
    s->t0[row] = t0;
    s->t1[row] = t1;
}

/* ---- the table's functions ------------------------------------------------------------------ */

static void kernel_attend_decode(const gqa_kv *kv, int kv_head, const float *q, int group,
                                 float scale, int t0, int t1, float *partial, void *scratch) {
    const size_t d = kv->head_dim, value_dim = kv->value_dim;
    float *m = partial, *l = m + group, *o = l + group;
    rows_state s = rows_in(scratch, group, kv);
    for (int g = 0; g < group; g++) set_row(&s, g, q + g * d, d, scale, t0, t1);
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
            float weight = m[g] > -INFINITY ? exp2f(m[g] - max) : 0;
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
    for (int i = 0; i < n_q; i++) {
        int t1 = p0 + i + 1, t0 = window > 0 && t1 > window ? t1 - window : 0;
        for (int g = 0; g < group; g++)
            set_row(&s, i * group + g, q + i * ldq + g * d, d, scale, t0, t1);
    }
    rows_through_tiles(&s, kv, kv_head, s.t0[0] / GQA_KV_TILE, ceil_div(p0 + n_q, GQA_KV_TILE));
    for (int i = 0; i < n_q; i++)
        for (int g = 0; g < group; g++) {
            size_t row = i * group + g;
            float sum = vf_sum(vf_load(s.l + row * VF_LANES));
            divide(out + i * ldo + g * kv->value_dim, s.o + row * s.vd, kv->value_dim, sum);
        }
}
