/* matmul_impl.h: y = x W^T over packed panels (pack.c draws them). Lane = row: a vector of weights
 * holds one column of several rows (or four columns, in bytes), an activation is broadcast to all
 * lanes, and sums never leave their lane.
 *
 *   decoding, few columns of x: one pass over the panel for up to 4 of them, unpacking in
 *       registers: as fast as memory delivers.
 *   prefill: KC columns of the unit's 64 rows are unpacked once into scratch (second-level cache),
 *       vector by vector:
 *           bytes [k / 4][4 * VF_LANES], then scales and minima [block][VF_LANES];
 *           or floats [k][VF_LANES]
 *       and multiplied with NR columns of x at a time (first-level cache). The sums of a tile, MR
 *       vectors of rows times NR columns of x, stay in registers (Goto & van de Geijn 2008).
 *
 * Quantised weights multiply int8 activations: in a block of 32, sum q * xq is exact in integers,
 * and
 *     y += d * dx * (sum q xq - offset * sum xq)                  q4_0: offset 8, q5_0: 16, q8_0: 0
 *     y += d * scale * dx * sum q xq - dmin * min * dx * sum xq   q4_k, q5_k; q2_k: blocks of 16
 *     q4_1, q5_1 as q4_k, with m for -dmin * min; iq4 as q8_0, with q a level
 *     q3_k, q6_k as q4_0, with blocks of 16 and offsets 4 and 32. */

/* Block sizes, named as in sgemm_impl.h; MR counts vectors of rows of W. */
#define INT_MR 2
#define INT_NR (VF_REGISTERS / 5) /* registers for int32 and for float sums */
#define INT_KC 2048
#define FLOAT_MR (VF_REGISTERS / 8)
#define FLOAT_NR 6
#define FLOAT_KC 512

#define PANEL_VECTORS (GQA_PANEL / VF_LANES)                     /* across the 16 rows of a panel */
#define UNIT_VECTORS (GQA_UNIT_PANELS * PANEL_VECTORS)
#define DECODE_MR (PANEL_VECTORS < 2 ? PANEL_VECTORS : 2)        /* decoding floats */

/* ---- activations ---------------------------------------------------------------------------- */

/* 32 values x as block b of a's int8 form. */
static void quantize_block(gqa_acts *a, size_t b, const float *x) {
    const vf magic = vf_set1(12582912.0f); /* 1.5 * 2^23: added, it rounds to the nearest integer */
    vf maxima = vf_set1(0);
    for (int j = 0; j < 32; j += VF_LANES) {
        vf v = vf_load(x + j);
        maxima = vf_max(maxima, vf_max(v, vf_sub(vf_set1(0), v)));
    }
    float max = vf_hmax(maxima), sums[2];
    vf scale = vf_set1(max > 0 ? 127 / max : 0);
    for (int half = 0; half < 2; half++) {
        vf sum = vf_set1(0);
        for (int j = 16 * half; j < 16 * half + 16; j += VF_LANES) {
            vf rounded = vf_add(vf_mul(vf_load(x + j), scale), magic);
            vf_store_low_bytes(a->q + 32 * b + j, rounded);
            sum = vf_add(sum, vf_sub(rounded, magic));
        }
        float s = vf_sum(sum);
        sums[half] = fabsf(s) <= 16 * 127 ? s : 0; /* inf or NaN: max too small, or in x */
        a->bias16[2 * b + half] = (int32_t)sums[half] * -128;
    }
    a->d[b] = max / 127;
    a->dsum[b] = a->d[b] * (sums[0] + sums[1]);
    a->bias32[b] = (int32_t)(sums[0] + sums[1]) * -128;
}

static void kernel_quantize_acts(gqa_acts *a, int i0, int i1, int k0, int k1) {
    for (int i = i0; i < i1; i++)
        for (int k = k0; k < k1; k += 32) {
            float padded[32] = {0};
            const float *x = a->x + i * a->ldx + k;
            if (a->k - k < 32) x = memcpy(padded, x, sizeof(float) * (a->k - k));
            quantize_block(a, (i * a->kpad + k) / 32, x);
        }
}

/* ---- quantised weights ---------------------------------------------------------------------- */

/* What a kernel must know of a type. */
TEMPLATE int bits_of(int type) {
    switch (type) {
    case GQA_TYPE_Q8_0: return 8;
    case GQA_TYPE_Q6_K: return 6;
    case GQA_TYPE_Q5_0: case GQA_TYPE_Q5_1: case GQA_TYPE_Q5_K: return 5;
    case GQA_TYPE_Q3_K: return 3;
    case GQA_TYPE_Q2_K: return 2;
    default: return 4;
    }
}
TEMPLATE int has_levels(int type) { return type == GQA_TYPE_IQ4_NL || type == GQA_TYPE_IQ4_XS; }
TEMPLATE int is_signed(int type) { return type == GQA_TYPE_Q8_0 || has_levels(type); }
TEMPLATE int offset_of(int type) {
    if (is_signed(type)) return VI_DOT8_OFFSET;
    switch (type) {
    case GQA_TYPE_Q3_K: return 4;
    case GQA_TYPE_Q4_0: return 8;
    case GQA_TYPE_Q5_0: return 16;
    case GQA_TYPE_Q6_K: return 32;
    default: return 0;
    }
}
TEMPLATE int has_half_min(int type) { return type == GQA_TYPE_Q4_1 || type == GQA_TYPE_Q5_1; }
TEMPLATE int has_min(int type) {
    return has_half_min(type) || type == GQA_TYPE_Q2_K || type == GQA_TYPE_Q4_K ||
           type == GQA_TYPE_Q5_K;
}
TEMPLATE int block_bytes(int type) {
    return 64 * bits_of(type) + (has_half_min(type) ? 64 : type == GQA_TYPE_IQ4_XS ? 16 : 32);
}
TEMPLATE int groups_of(int type) { /* that share a scale */
    return type == GQA_TYPE_Q2_K || type == GQA_TYPE_Q3_K || type == GQA_TYPE_Q6_K ? 4 : 8;
}

/* Bits `mask` of each byte at p, from bit `from` on, moved to bit `to`. */
TEMPLATE vi move_bits(const uint8_t *p, int mask, int from, int to) {
    vi x = vi_load(p);
    x = from < to ? vi_shl(x, to - from) : from > to ? vi_shr(x, from - to) : x;
    return vi_and(x, vi_set1(mask * 0x01010101 << to));
}

/* Group g of a packed block as bytes, for vector v of the panel's rows. */
TEMPLATE vi unpack_group(int type, const uint8_t *block, int g, int v) {
    const uint8_t *p = block + v * 4 * VF_LANES;
    const int bits = bits_of(type);
    if (bits == 8) return vi_bias8(vi_load(p + g * 64));
    vi q = vi_set1(0);
    if (bits & 4) q = move_bits(p + g % 4 * 64, 15, g / 4 * 4, 0);
    p += (bits & 4) * 64;
    if (bits & 2) q = vi_or(q, move_bits(p + g / 4 * 64, 3, g % 4 * 2, bits & 4));
    p += (bits & 2) * 64;
    if (bits & 1) q = vi_or(q, move_bits(p, 1, g, bits & 6));
    return has_levels(type) ? vi_bias8(vi_lookup(gqa_iq4_levels, q)) : q;
}

/* d and -dmin of a superblock of eight packed blocks. */
typedef struct super_scales {
    vf d[PANEL_VECTORS], min[PANEL_VECTORS];
} super_scales;

TEMPLATE void load_super(int type, const uint8_t *block, super_scales *super) {
    const uint16_t *stored = (const uint16_t *)(block + 8 * block_bytes(type));
    UNROLL for (int v = 0; v < PANEL_VECTORS; v++) {
        super->d[v] = super->min[v] = vf_set1(0);
        if (is_k_quant(type)) super->d[v] = vf_load_f16(stored + v * VF_LANES);
        if (is_k_quant(type) && has_min(type)) {
            vf dmin = vf_load_f16(stored + GQA_PANEL + v * VF_LANES);
            super->min[v] = vf_sub(vf_set1(0), dmin);
        }
    }
}

/* The scales of 16- or 32-column part `sub` of a packed block; the negated minima. */
TEMPLATE vf unpack_scale(int type, const uint8_t *block, const super_scales *super, int sub,
                         int v) {
    const uint8_t *scales = block + 64 * bits_of(type);
    int lane = v * VF_LANES, part = sub * GQA_PANEL + lane;
    if (!is_k_quant(type)) return vf_load_f16((const uint16_t *)scales + lane);
    if (type == GQA_TYPE_Q2_K) return vf_mul(super->d[v], vf_load_low4(scales + part));
    if (has_min(type)) return vf_mul(super->d[v], vf_load_u8(scales + lane));
    return vf_mul(super->d[v], vf_load_i8((const int8_t *)scales + part));
}
TEMPLATE vf unpack_min(int type, const uint8_t *block, const super_scales *super, int sub, int v) {
    const uint8_t *scales = block + 64 * bits_of(type);
    int lane = v * VF_LANES, part = sub * GQA_PANEL + lane;
    if (has_half_min(type)) return vf_load_f16((const uint16_t *)scales + GQA_PANEL + lane);
    if (type == GQA_TYPE_Q2_K) return vf_mul(super->min[v], vf_load_high4(scales + part));
    return vf_mul(super->min[v], vf_load_u8(scales + GQA_PANEL + lane));
}

/* Some columns of x and their int8 form, from some block on: column c is at x + c * ldx,
 * q + c * ldq, d + c * ldd, and so on. */
typedef struct acts_view {
    const int8_t *q;
    const float *d, *dsum;
    const int32_t *bias16, *bias32;
    const float *x;
    size_t ldq, ldd, ldx;
} acts_view;

static acts_view view_acts(const gqa_acts *a, int first, int k0) {
    size_t at = first * a->kpad + k0;
    return (acts_view){
        .q = a->q + at, .ldq = a->kpad,
        .d = a->d + at / 32, .dsum = a->dsum + at / 32, .ldd = a->kpad / 32,
        .bias16 = a->bias16 + at / 16, .bias32 = a->bias32 + at / 32,
        .x = a->x + first * a->ldx + k0, .ldx = a->ldx,
    };
}

/* -offset * sum xq of a block: where its integer sums start. */
TEMPLATE vi start_of(int type, const acts_view *x, int c, size_t at) {
    int offset = offset_of(type);
    if (!offset) return vi_set1(0);
    int32_t sum128 = groups_of(type) == 8 ? x->bias32[c * x->ldd + at / 32]
                                          : x->bias16[2 * c * x->ldd + at / 16];
    vi start = vi_set1(sum128);
    if (offset == 128) return start;
    return vi_sar(start, offset == 32 ? 2 : offset == 16 ? 3 : offset == 8 ? 4 : 5);
}

/* ---- a block of 16 or 32 columns of W times nc columns of x, from column `at` on ------------- */

/* Integer sums of mr vectors of rows; pairs: in 16 bits, where vi_dot is not VI_DOT_WIDE. */
typedef vi tile_ints[TILE_VECTORS][8];
typedef struct block_sums {
    tile_ints acc, pairs;
} block_sums;

TEMPLATE void start_block(int type, int mr, int nc, const acts_view *x, size_t at, block_sums *s) {
    UNROLL for (int c = 0; c < nc; c++)
        UNROLL for (int v = 0; v < mr; v++) s->acc[v][c] = start_of(type, x, c, at);
}

/* Adds group g: w4 [mr] are four columns of W as bytes. An activation, once in all lanes, meets
 * every vector. */
TEMPLATE void multiply_group(int type, int mr, int nc, const vi *w4, int g, const acts_view *x,
                             size_t at, block_sums *s) {
    const int groups = groups_of(type), in_pairs = !VI_DOT_WIDE && !is_signed(type);
    const int fit = VI_DOT_DEPTH(bits_of(type)), depth = fit < groups ? fit : groups;
    if (in_pairs && g % depth == 0)
        UNROLL for (int v = 0; v < mr; v++)
            UNROLL for (int c = 0; c < nc; c++) s->pairs[v][c] = vi_set1(0);
    UNROLL for (int c = 0; c < nc; c++) {
        int32_t four;
        memcpy(&four, x->q + c * x->ldq + at + 4 * g, 4);
        vi x4 = vi_set1(four);
        UNROLL for (int v = 0; v < mr; v++) {
            vi *to = in_pairs ? &s->pairs[v][c] : &s->acc[v][c];
            *to = is_signed(type) ? vi_dot8(*to, w4[v], x4) : vi_dot(*to, w4[v], x4);
            VECTOR_KEEP(*to); /* or the compiler regroups the sums and runs out of registers */
        }
    }
    if (in_pairs && g % depth == depth - 1)
        UNROLL for (int v = 0; v < mr; v++)
            UNROLL for (int c = 0; c < nc; c++)
                s->acc[v][c] = vi_add(s->acc[v][c], vi_dot_sum(s->pairs[v][c]));
}

/* The sum of the block's activations in column c, for the weights' minima. */
TEMPLATE vf sum_of_acts(int type, const acts_view *x, int c, size_t at) {
    size_t b = c * x->ldd + at / 32;
    if (groups_of(type) == 8) return vf_set1(x->dsum[b]);
    /* of 16 columns: bias16 is -128 times the sum of q */
    return vf_set1(x->d[b] * (float)x->bias16[2 * c * x->ldd + at / 16] * (-1.0f / 128));
}

/* sum [mr][nc] += the block's integer sums times its scales, and minima (formulas at the top). */
TEMPLATE void finish_block(int type, int mr, int nc, const block_sums *s, const vf *scale,
                           const vf *min, const acts_view *x, size_t at, tile_sums sum) {
    UNROLL for (int c = 0; c < nc; c++) {
        size_t b = c * x->ldd + at / 32;
        vf dx = vf_set1(x->d[b]);
        UNROLL for (int v = 0; v < mr; v++) {
            sum[v][c] = vf_fma(vf_mul(vf_from_vi(s->acc[v][c]), scale[v]), dx, sum[v][c]);
            if (has_min(type)) sum[v][c] = vf_fma(min[v], sum_of_acts(type, x, c, at), sum[v][c]);
        }
    }
}

TEMPLATE void fetch_ahead(const uint8_t *p, int bytes) {
    for (int i = 0; i < bytes; i += PREFETCH_STEP)
        __builtin_prefetch(p + PREFETCH_AHEAD + i, 0, PREFETCH_HINT);
}

/* ---- decoding ------------------------------------------------------------------------------- */

/* Part `sub` of a packed block, mr vectors of rows from v0 on. */
TEMPLATE void multiply_packed(int type, int mr, int nc, const uint8_t *block, int sub, int v0,
                              const super_scales *super, const acts_view *x, size_t at,
                              tile_sums sum) {
    const int groups = groups_of(type);
    vf scale[PANEL_VECTORS], min[PANEL_VECTORS];
    block_sums s;
    UNROLL for (int v = 0; v < mr; v++) {
        scale[v] = unpack_scale(type, block, super, sub, v0 + v);
        min[v] = has_min(type) ? unpack_min(type, block, super, sub, v0 + v) : scale[v];
    }
    start_block(type, mr, nc, x, at, &s);
    UNROLL for (int g = 0; g < groups; g++) {
        vi w4[PANEL_VECTORS];
        UNROLL for (int v = 0; v < mr; v++)
            w4[v] = unpack_group(type, block, sub * groups + g, v0 + v);
        multiply_group(type, mr, nc, w4, g, x, at, &s);
    }
    finish_block(type, mr, nc, &s, scale, min, x, at, sum);
}

/* A whole panel times nc columns of x, from column `first` on; out [nc][16]. */
TEMPLATE void decode_ints(int type, int nc, const uint8_t *panel, const gqa_acts *a, int cols,
                          int first, float *out) {
    const int together = nc <= 2 ? PANEL_VECTORS : 1; /* vectors of rows; as registers allow */
    const int subs = 8 / groups_of(type);
    const acts_view x = view_acts(a, first, 0);
    const uint8_t *block = panel;
    tile_sums sum;
    tile_clear(PANEL_VECTORS, nc, sum);
    for (int k0 = 0; k0 < cols; k0 += 256, block += is_k_quant(type) ? 64 : 0) {
        super_scales super;
        load_super(type, block, &super);
        for (int k = k0; k < cols && k < k0 + 256; k += 32, block += block_bytes(type)) {
            fetch_ahead(block, block_bytes(type));
            UNROLL for (int v = 0; v < PANEL_VECTORS; v += together)
                UNROLL for (int sub = 0; sub < subs; sub++)
                    multiply_packed(type, together, nc, block, sub, v, &super, &x, k + 16 * sub,
                                    sum + v);
        }
    }
    tile_store(PANEL_VECTORS, nc, sum, out, GQA_PANEL);
}

/* ---- prefill -------------------------------------------------------------------------------- */

/* Up to INT_KC columns of a vector of rows as bytes and float scales. */
typedef struct unpacked {
    uint8_t q[INT_KC / 4][4 * VF_LANES];
    float scale[INT_KC / 16][VF_LANES], min[INT_KC / 16][VF_LANES];
} unpacked;

/* Block b of a panel into u [PANEL_VECTORS]. */
TEMPLATE void unpack_block(int type, const uint8_t *block, const super_scales *super, int b,
                           unpacked *u) {
    const int subs = 8 / groups_of(type);
    UNROLL for (int v = 0; v < PANEL_VECTORS; v++) {
        UNROLL for (int g = 0; g < 8; g++)
            vi_store(u[v].q[8 * b + g], unpack_group(type, block, g, v));
        UNROLL for (int sub = 0; sub < subs; sub++) {
            vf_store(u[v].scale[b * subs + sub], unpack_scale(type, block, super, sub, v));
            if (has_min(type))
                vf_store(u[v].min[b * subs + sub], unpack_min(type, block, super, sub, v));
        }
    }
}

/* The columns k0..k1-1 of a panel into u [PANEL_VECTORS]. */
TEMPLATE void unpack_ints(int type, const uint8_t *panel, int k0, int k1, unpacked *u) {
    const size_t bytes = block_bytes(type), super_bytes = is_k_quant(type) ? 64 : 0;
    const uint8_t *block = panel + k0 / 32 * bytes + k0 / 256 * super_bytes;
    for (int b0 = 0, n = (k1 - k0) / 32; b0 < n; b0 += 8, block += super_bytes) {
        super_scales super;
        load_super(type, block, &super);
        for (int b = b0; b < b0 + 8 && b < n; b++, block += bytes) {
            fetch_ahead(block, block_bytes(type));
            unpack_block(type, block, &super, b, u);
        }
    }
}

/* Block b of u [mr]. */
TEMPLATE void multiply_unpacked(int type, int mr, int nr, const unpacked *u, int b,
                                const acts_view *x, tile_sums sum) {
    const int groups = groups_of(type);
    const size_t at = 4 * groups * b;
    vf scale[INT_MR], min[INT_MR];
    block_sums s;
    UNROLL for (int v = 0; v < mr; v++) {
        scale[v] = vf_load(u[v].scale[b]);
        min[v] = has_min(type) ? vf_load(u[v].min[b]) : scale[v];
    }
    start_block(type, mr, nr, x, at, &s);
    UNROLL for (int g = 0; g < groups; g++) {
        vi w4[INT_MR];
        UNROLL for (int v = 0; v < mr; v++) w4[v] = vi_load(u[v].q[b * groups + g]);
        multiply_group(type, mr, nr, w4, g, x, at, &s);
    }
    finish_block(type, mr, nr, &s, scale, min, x, at, sum);
}

/* One tile: out [INT_NR][INT_MR * VF_LANES] = or += kc columns of u [INT_MR] times those of x. */
TEMPLATE void tile_of_ints(int type, const unpacked *u, int kc, const acts_view *x, float *out,
                           int accumulate) {
    tile_sums sum;
    if (accumulate) tile_load(INT_MR, INT_NR, sum, out, INT_MR * VF_LANES);
    else tile_clear(INT_MR, INT_NR, sum);
    for (int b = 0; b < kc / (4 * groups_of(type)); b++)
        multiply_unpacked(type, INT_MR, INT_NR, u, b, x, sum);
    tile_store(INT_MR, INT_NR, sum, out, INT_MR * VF_LANES);
}

/* ---- float weights -------------------------------------------------------------------------- */

TEMPLATE vf load_weights(int type, const uint8_t *p) {
    if (type == GQA_TYPE_F32) return vf_load((const float *)p);
    if (type == GQA_TYPE_F16) return vf_load_f16((const uint16_t *)p);
    return vf_load_bf16((const uint16_t *)p);
}

/* sum [mr][nc] += a column of W, at w, times the values of nc columns of x, at x + c * ldx. */
TEMPLATE void multiply_column(int type, int mr, int nc, const uint8_t *w, const float *x,
                              size_t ldx, tile_sums sum) {
    const int size = type == GQA_TYPE_F32 ? 4 : 2;
    UNROLL for (int v = 0; v < mr; v++) {
        vf weights = load_weights(type, w + v * VF_LANES * size);
        UNROLL for (int c = 0; c < nc; c++)
            sum[v][c] = vf_fma(weights, vf_set1(x[c * ldx]), sum[v][c]);
    }
}

/* As decode_ints; several partial sums a row hide the latency of the multiply-add. */
TEMPLATE void decode_floats(int type, int nc, const uint8_t *panel, const gqa_acts *a, int cols,
                            int first, float *out) {
    const int size = type == GQA_TYPE_F32 ? 4 : 2, chains = nc == 1 ? 4 : nc == 2 ? 2 : 1;
    const int column = GQA_PANEL * size;
    const float *x = a->x + first * a->ldx;
    for (int v0 = 0; v0 < PANEL_VECTORS; v0 += DECODE_MR) {
        const uint8_t *w = panel + v0 * VF_LANES * size;
        tile_sums sum[4];
        int k = 0;
        UNROLL for (int j = 0; j < chains; j++) tile_clear(DECODE_MR, nc, sum[j]);
        for (; k + chains <= cols; k += chains) {
            if (PREFETCH_STEP == 64 && PANEL_VECTORS == 1) fetch_ahead(w, chains * column);
            UNROLL for (int j = 0; j < chains; j++, w += column)
                multiply_column(type, DECODE_MR, nc, w, x + k + j, a->ldx, sum[j]);
        }
        for (; k < cols; k++, w += column)
            multiply_column(type, DECODE_MR, nc, w, x + k, a->ldx, sum[0]);
        UNROLL for (int j = 1; j < chains; j++)
            UNROLL for (int v = 0; v < DECODE_MR; v++)
                UNROLL for (int c = 0; c < nc; c++)
                    sum[0][v][c] = vf_add(sum[0][v][c], sum[j][v][c]);
        tile_store(DECODE_MR, nc, sum[0], out + v0 * VF_LANES, GQA_PANEL);
    }
}

/* The columns k0..k1-1 of a panel into dst [PANEL_VECTORS][FLOAT_KC][VF_LANES]. */
TEMPLATE void unpack_floats(int type, const uint8_t *panel, int k0, int k1, float *dst) {
    const int size = type == GQA_TYPE_F32 ? 4 : 2;
    const size_t column = GQA_PANEL * size;
    const uint8_t *w = panel + k0 * column;
    for (int k = 0; k < k1 - k0; k++, w += column) {
        if (PREFETCH_STEP == 64 && k % 2 == 0) fetch_ahead(w, 2 * GQA_PANEL * size);
        UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
            vf_store(dst + (v * FLOAT_KC + k) * VF_LANES,
                     load_weights(type, w + v * VF_LANES * size));
    }
}

/* One tile, as tile_of_ints: kc columns of w [FLOAT_MR][FLOAT_KC][VF_LANES]. */
static void float_tile(const void *vectors, int kc, const acts_view *x, float *out,
                       int accumulate) {
    const float *w = vectors;
    tile_sums sum;
    if (accumulate) tile_load(FLOAT_MR, FLOAT_NR, sum, out, FLOAT_MR * VF_LANES);
    else tile_clear(FLOAT_MR, FLOAT_NR, sum);
    for (int k = 0; k < kc; k++) {
        vf weights[FLOAT_MR];
        UNROLL for (int v = 0; v < FLOAT_MR; v++)
            weights[v] = vf_load(w + (v * FLOAT_KC + k) * VF_LANES);
        UNROLL for (int c = 0; c < FLOAT_NR; c++) {
            vf xk = vf_set1(x->x[c * x->ldx + k]);
            UNROLL for (int v = 0; v < FLOAT_MR; v++)
                sum[v][c] = vf_fma(weights[v], xk, sum[v][c]);
        }
    }
    tile_store(FLOAT_MR, FLOAT_NR, sum, out, FLOAT_MR * VF_LANES);
}

/* ---- the functions of each type ------------------------------------------------------------- */

typedef struct panel_kernels {
    /* decode_ints or decode_floats for 1, 2, 4 columns of x */
    void (*decode[3])(const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out);
    void (*unpack)(const uint8_t *panel, int k0, int k1, void *dst);
    void (*tile)(const void *w, int kc, const acts_view *x, float *out, int accumulate);
    int mr, nr, kc;
    size_t vector_bytes; /* kc columns of a vector of rows, unpacked */
} panel_kernels;

#define INT_TYPES(X) \
    X(q8_0, GQA_TYPE_Q8_0) X(q4_0, GQA_TYPE_Q4_0) X(q5_0, GQA_TYPE_Q5_0) \
    X(q4_1, GQA_TYPE_Q4_1) X(q5_1, GQA_TYPE_Q5_1) X(q2_k, GQA_TYPE_Q2_K) \
    X(q3_k, GQA_TYPE_Q3_K) X(q4_k, GQA_TYPE_Q4_K) X(q5_k, GQA_TYPE_Q5_K) \
    X(q6_k, GQA_TYPE_Q6_K) X(iq4_nl, GQA_TYPE_IQ4_NL) X(iq4_xs, GQA_TYPE_IQ4_XS)
#define FLOAT_TYPES(X) X(f32, GQA_TYPE_F32) X(f16, GQA_TYPE_F16) X(bf16, GQA_TYPE_BF16)
#define NAME(name, what) ISA_NAME(name##_##what)

#define DECODE_FUNCTION(name, type, nc, decode)                                                  \
    static void name(const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out) { \
        decode(type, nc, panel, a, cols, first, out);                                            \
    }
#define PANEL_FUNCTIONS(name, type, decode, unpack_columns)                                      \
    DECODE_FUNCTION(NAME(name, decode_1), type, 1, decode)                                       \
    DECODE_FUNCTION(NAME(name, decode_2), type, 2, decode)                                       \
    DECODE_FUNCTION(NAME(name, decode_4), type, 4, decode)                                       \
    static void NAME(name, unpack)(const uint8_t *panel, int k0, int k1, void *dst) {            \
        unpack_columns(type, panel, k0, k1, dst);                                                \
    }
#define FLOAT_FUNCTIONS(name, type) PANEL_FUNCTIONS(name, type, decode_floats, unpack_floats)
#define INT_FUNCTIONS(name, type)                                                                \
    PANEL_FUNCTIONS(name, type, decode_ints, unpack_ints)                                        \
    static void NAME(name, tile)(const void *w, int kc, const acts_view *x, float *out,          \
                                 int accumulate) {                                               \
        tile_of_ints(type, w, kc, x, out, accumulate);                                           \
    }
INT_TYPES(INT_FUNCTIONS)
FLOAT_TYPES(FLOAT_FUNCTIONS)

#define PANEL_CASE(name, type, ...)                                                              \
    case type: {                                                                                 \
        static const panel_kernels kernels = {                                                   \
            {NAME(name, decode_1), NAME(name, decode_2), NAME(name, decode_4)},                  \
            NAME(name, unpack), __VA_ARGS__                                                      \
        };                                                                                       \
        return &kernels;                                                                         \
    }
#define INT_CASE(name, type) \
    PANEL_CASE(name, type, NAME(name, tile), INT_MR, INT_NR, INT_KC, sizeof(unpacked))
#define FLOAT_CASE(name, type) \
    PANEL_CASE(name, type, float_tile, FLOAT_MR, FLOAT_NR, FLOAT_KC, \
               sizeof(float) * FLOAT_KC * VF_LANES)

static const panel_kernels *kernels_of(int type) {
    switch (type) {
    INT_TYPES(INT_CASE)
    FLOAT_TYPES(FLOAT_CASE)
    default: return NULL; /* no such matrix */
    }
}

/* ---- a unit of work ------------------------------------------------------------------------- */

/* Copies nc columns of `rows` floats. */
static void copy_columns(float *to, size_t ld_to, const float *from, size_t ld_from, int rows,
                         int nc) {
    for (int c = 0; c < nc; c++, to += ld_to, from += ld_from) {
        int i = 0;
        for (; i + VF_LANES <= rows; i += VF_LANES) vf_store(to + i, vf_load(from + i));
        for (; i < rows; i++) to[i] = from[i];
    }
}

/* Columns 0..n-1 of x, whole tiles, times kc columns of W from k0 on: y, at the unit's first row, =
 * or (k0 > 0) +=. w: the unit's rows, unpacked. */
static void multiply_tiles(const panel_kernels *kernels, const uint8_t *w, int rows, int k0,
                           int kc, const gqa_acts *a, int n, float *y, size_t ldy) {
    const int tile_rows = kernels->mr * VF_LANES, nr = kernels->nr;
    float out[FLOAT_NR * FLOAT_MR * VF_LANES];
    for (int i = 0; i < n; i += nr) {
        acts_view x = view_acts(a, i, k0);
        for (int row = 0; row < rows; row += tile_rows) {
            const uint8_t *vectors = w + row / VF_LANES * kernels->vector_bytes;
            float *at = y + i * ldy + row;
            int in_y = min_int(rows - row, tile_rows);
            if (k0) copy_columns(out, tile_rows, at, ldy, in_y, nr);
            kernels->tile(vectors, kc, &x, out, k0 > 0);
            copy_columns(at, ldy, out, tile_rows, in_y, nr);
        }
    }
}

/* The unit's `count` panels, `rows` rows, times columns 0..n-1 of x; y at the unit's first row. */
static void multiply_unpacking(const panel_kernels *kernels, const uint8_t *const *panels,
                               int count, int rows, int cols, const gqa_acts *a, int n, float *y,
                               size_t ldy, uint8_t *scratch) {
    const size_t step = kernels->vector_bytes;
    const int vectors = count * PANEL_VECTORS;
    for (int k0 = 0; k0 < cols; k0 += kernels->kc) {
        int kc = min_int(cols - k0, kernels->kc);
        for (int p = 0; p < count; p++)
            kernels->unpack(panels[p], k0, k0 + kc, scratch + p * PANEL_VECTORS * step);
        for (int v = vectors; v % kernels->mr; v++) memset(scratch + v * step, 0, step);
        multiply_tiles(kernels, scratch, rows, k0, kc, a, n, y, ldy);
    }
}

static void kernel_matmul_unit(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy,
                               int unit, void *scratch) {
    const panel_kernels *kernels = kernels_of(w->type);
    const int p0 = unit * GQA_UNIT_PANELS;
    const int count = min_int(gqa_matrix_panels(w) - p0, GQA_UNIT_PANELS);
    const size_t bytes = gqa_panel_bytes(w->type, w->cols);
    const uint8_t *panels[GQA_UNIT_PANELS];
    uint8_t *unit_panels = (uint8_t *)scratch + gqa_matmul_scratch(0);
    for (int p = 0; p < count; p++, unit_panels += bytes) {
        panels[p] = w->packed ? w->packed + (p0 + p) * bytes : unit_panels;
        if (!w->packed) gqa_pack_panel(w, p0 + p, unit_panels);
    }
    int row = p0 * GQA_PANEL, rows = min_int(w->rows - row, GQA_UNIT_PANELS * GQA_PANEL);
    int tiled = n - n % kernels->nr;
    if (n <= 2 * kernels->nr) tiled = 0; /* two tiles are not worth the unpacking */
    if (tiled)
        multiply_unpacking(kernels, panels, count, rows, w->cols, a, tiled, y + row, ldy, scratch);
    for (int p = 0; p < count; p++, row += GQA_PANEL) { /* the other columns, as in decoding */
        int in_y = min_int(w->rows - row, GQA_PANEL);
        for (int i = tiled, nc; i < n; i += nc) {
            float out[4 * GQA_PANEL];
            nc = n - i >= 4 ? 4 : n - i >= 2 ? 2 : 1;
            kernels->decode[nc / 2](panels[p], a, w->cols, i, out);
            copy_columns(y + i * ldy + row, ldy, out, GQA_PANEL, in_y, nc);
        }
    }
}
_Static_assert(UNIT_VECTORS * sizeof(unpacked) <= GQA_MATMUL_SCRATCH,
               "scratch holds a unit's bytes");
_Static_assert(UNIT_VECTORS * sizeof(float) * FLOAT_KC * VF_LANES <= GQA_MATMUL_SCRATCH,
               "scratch holds a unit's floats");
