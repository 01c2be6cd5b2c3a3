/* matmul_int8_impl.h: quantised weights times int8 activations, for matmul_impl.h. In a block of
 * 32, sum q * xq is exact in integers, and
 *     y += d * dx * (sum q xq - offset * sum xq)                  q4_0: offset 8, q5_0: 16, q8_0: 0
 *     y += d * scale * dx * sum q xq - dmin * min * dx * sum xq   q4_k, q5_k; q2_k: blocks of 16
 *     q4_1, q5_1 as q4_k, with m for -dmin * min; iq4 as q8_0, with q a level
 *     q3_k, q6_k as q4_0, with blocks of 16 and offsets 4 and 32. */

/* Block sizes, named as in sgemm_impl.h; MR counts vectors of rows of W. */
#define INT_MR 2
#define INT_NR (VF_REGISTERS / 5) /* registers for int32 and for float sums */
#define INT_KC 2048

#define PANEL_VECTORS (GQA_PANEL / VF_LANES)                     /* across the 16 rows of a panel */

#ifndef GQA_INT8_ONLY
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

static void kernel_quantize_acts(gqa_acts *a, int i0, int i1, int k0, int k1, int rest) {
    for (int i = i0; i < i1; i++)
        for (int k = k0; k < k1; k += 32) {
            float padded[32] = {0};
            const float *x = a->x + i * a->ldx + k;
            if (a->k - k < 32) x = memcpy(padded, x, sizeof(float) * (a->k - k));
            const size_t b = (i * a->kpad + k) / 32, b_rest = b + rest * a->kpad / 32;
            quantize_block(a, b, x);
            if (rest) quantize_block(a, b_rest, gqa_residual(x, a->q + 32 * b, a->d[b], padded));
        }
}

#endif
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
/* In prefill, where vi_dot takes any unsigned byte all offsets become 128: types share tiles (GCC
 * merges equal functions). */
TEMPLATE int unpacked_offset_of(int type) {
    const int offset = offset_of(type);
    return offset > 0 && VI_DOT8_OFFSET > 0 ? VI_DOT8_OFFSET : offset;
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

/* Bits `mask` of each byte of x, from bit `from` on, moved to bit `to`. */
TEMPLATE vi move_bits(vi x, int mask, int from, int to) {
    x = from < to ? vi_shl(x, to - from) : from > to ? vi_shr(x, from - to) : x;
    return vi_and(x, vi_set1(mask * 0x01010101 << to));
}

/* Group g, 0..3, of half a packed block as bytes, for vector v of the panel's rows. half need not
 * be a constant. */
TEMPLATE vi unpack_group(int type, const uint8_t *block, int half, int g, int v) {
    const uint8_t *p = block + v * 4 * VF_LANES;
    const int bits = bits_of(type);
    if (bits == 8) return vi_bias8(vi_load(p + (4 * half + g) * 64));
    vi q = vi_set1(0);
    if (bits & 4) q = move_bits(vi_shr(vi_load(p + g * 64), 4 * half), 15, 0, 0);
    p += (bits & 4) * 64;
    if (bits & 2) q = vi_or(q, move_bits(vi_load(p + half * 64), 3, 2 * g, bits & 4));
    p += (bits & 2) * 64;
    if (bits & 1) q = vi_or(q, move_bits(vi_shr(vi_load(p), 4 * half), 1, g, bits & 6));
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

/* The scales of 16- or 32-column sub-block `sub` of a packed block; the negated minima. */
TEMPLATE vf unpack_scale(int type, const uint8_t *block, const super_scales *super, int sub,
                         int v) {
    const uint8_t *scales = block + 64 * bits_of(type);
    int lane = v * VF_LANES, at = sub * GQA_PANEL + lane;
    if (!is_k_quant(type)) return vf_load_f16((const uint16_t *)scales + lane);
    if (type == GQA_TYPE_Q2_K) return vf_mul(super->d[v], vf_load_low4(scales + at));
    if (has_min(type)) return vf_mul(super->d[v], vf_load_u8(scales + lane));
    return vf_mul(super->d[v], vf_load_i8((const int8_t *)scales + at));
}
TEMPLATE vf unpack_min(int type, const uint8_t *block, const super_scales *super, int sub, int v) {
    const uint8_t *scales = block + 64 * bits_of(type);
    int lane = v * VF_LANES, at = sub * GQA_PANEL + lane;
    if (has_half_min(type)) return vf_load_f16((const uint16_t *)scales + GQA_PANEL + lane);
    if (type == GQA_TYPE_Q2_K) return vf_mul(super->min[v], vf_load_high4(scales + at));
    return vf_mul(super->min[v], vf_load_u8(scales + GQA_PANEL + lane));
}

/* Some columns of x and their int8 form, from some block on: column c is at x + c * ldx,
 * q + c * ldq, d + c * ldd, and so on. */
typedef struct acts_view {
    const int8_t *q;
    const float *d, *dsum;
    const int32_t *bias16, *bias32;
    const float *x;
    const uint16_t *bf16;
    size_t ldq, ldd, ldx;
} acts_view;

static acts_view view_acts(const gqa_acts *a, int first, int k0) {
    size_t at = first * a->kpad + k0;
    return (acts_view){
        .q = a->q + at, .ldq = a->kpad,
        .d = a->d + at / 32, .dsum = a->dsum + at / 32, .ldd = a->kpad / 32,
        .bias16 = a->bias16 + at / 16, .bias32 = a->bias32 + at / 32,
        .x = a->x + first * a->ldx + k0, .ldx = a->ldx,
        .bf16 = a->bf16 ? a->bf16 + at : NULL,
    };
}

/* -offset * sum xq of a block: where its integer sums start. */
TEMPLATE vi start_of(int type, int offset, const acts_view *x, int c, size_t at) {
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

TEMPLATE void start_block(int type, int offset, int mr, int nc, const acts_view *x, size_t at,
                          block_sums *s) {
    UNROLL for (int c = 0; c < nc; c++)
        UNROLL for (int v = 0; v < mr; v++) s->acc[v][c] = start_of(type, offset, x, c, at);
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

/* Asks for weights before decoding and unpacking need them. Every line, into the first-level cache,
 * is best on Zen 5 (0.90 to 0.97 of the speed of plain reading; otherwise 0.76 to 0.90), on Zen 3
 * and on Intel (docs/performance.md, "Fetching ahead"). On a Zen 4 without AVX-512 it cost up to
 * half: elsewhere, one line a packed block, into the second-level cache, keeps the hardware
 * prefetcher going across pages. */
TEMPLATE void fetch_ahead(const uint8_t *p, int bytes, int every_line) {
    if (!every_line) __builtin_prefetch(p + 2048, 0, 2);
    for (int i = 0; every_line && i < bytes; i += 64)
        __builtin_prefetch(p + 4096 + i, 0, 3);
}

/* Asks for weights that are multiplied when these have met all columns of x, into the second-level
 * cache: `step` bytes for every 32 columns of W, from `at` on; 0: for none. Of eight bits and more
 * a weight, where two to four groups of columns do not hide reading: q8_0 and f16 take 0.8 of the
 * time, q4_0 and q4_k as long as without. */
typedef struct fetch {
    const uint8_t *at;
    int step;
} fetch;

TEMPLATE void fetch_next(fetch *next, int bytes) {
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch(next->at + i, 0, 2);
    next->at += bytes;
}

/* ---- decoding ------------------------------------------------------------------------------- */

/* Sub-block `sub` of a packed block, mr vectors of rows from v0 on. */
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
    start_block(type, offset_of(type), mr, nc, x, at, &s);
    UNROLL for (int g = 0; g < groups; g++) {
        vi w4[PANEL_VECTORS];
        UNROLL for (int v = 0; v < mr; v++)
            w4[v] = unpack_group(type, block, sub + g / 4, g % 4, v0 + v);
        multiply_group(type, mr, nc, w4, g, x, at, &s);
    }
    finish_block(type, mr, nc, &s, scale, min, x, at, sum);
}

/* A whole panel times nc columns of x, from column `first` on; out [nc][16]. */
TEMPLATE void decode_ints(int type, int nc, const uint8_t *panel, const gqa_acts *a, int cols,
                          int first, fetch next, float *out) {
    /* vectors of rows, as registers allow: 8 sums */
    const int together = PANEL_VECTORS * nc <= 8 ? PANEL_VECTORS : 1;
    const int subs = 8 / groups_of(type);
    const acts_view x = view_acts(a, first, 0);
    const uint8_t *block = panel;
    tile_sums sum;
#ifdef DECODE_Q8_0 /* simd_wasm.h; two planes by themselves */
    int done = 0;
    while (type == GQA_TYPE_Q8_0 && nc <= 2 && done < nc &&
           DECODE_Q8_0(panel, x.q + done * x.ldq, x.d + done * x.ldd, cols, out + done * GQA_PANEL))
        done++;
    if (done == nc) return;
#endif
    tile_clear(PANEL_VECTORS, nc, sum);
    for (int k0 = 0; k0 < cols; k0 += 256, block += is_k_quant(type) ? 64 : 0) {
        super_scales super;
        load_super(type, block, &super);
        for (int k = k0; k < cols && k < k0 + 256; k += 32, block += block_bytes(type)) {
            if (nc == 4 && bits_of(type) == 8 && next.step) fetch_next(&next, next.step);
            else fetch_ahead(block, block_bytes(type), FETCH_EVERY_LINE(a->every_line));
            for (int v = 0; v < PANEL_VECTORS; v += together)
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
    const vi more = vi_set1((unpacked_offset_of(type) - offset_of(type)) * 0x01010101);
    for (int v = 0; v < PANEL_VECTORS; v++) {
        for (int half = 0; half < 2; half++)
            UNROLL for (int g = 0; g < 4; g++)
                vi_store(u[v].q[8 * b + 4 * half + g],
                         vi_add(unpack_group(type, block, half, g, v), more));
        UNROLL for (int sub = 0; sub < subs; sub++) {
            vf_store(u[v].scale[b * subs + sub], unpack_scale(type, block, super, sub, v));
            if (has_min(type))
                vf_store(u[v].min[b * subs + sub], unpack_min(type, block, super, sub, v));
        }
    }
}

/* The columns k0..k1-1 of a panel into u [PANEL_VECTORS]. */
TEMPLATE void unpack_ints(int type, const uint8_t *panel, int k0, int k1, int every_line,
                          unpacked *u) {
    const size_t bytes = block_bytes(type), super_bytes = is_k_quant(type) ? 64 : 0;
    const uint8_t *block = panel + k0 / 32 * bytes + k0 / 256 * super_bytes;
    for (int b0 = 0, n = (k1 - k0) / 32; b0 < n; b0 += 8, block += super_bytes) {
        super_scales super;
        load_super(type, block, &super);
        for (int b = b0; b < b0 + 8 && b < n; b++, block += bytes) {
            fetch_ahead(block, block_bytes(type), FETCH_EVERY_LINE(every_line));
            unpack_block(type, block, &super, b, u);
        }
    }
}

#ifdef VI_MATRIX
/* The integer sums of block b, by products of two rows and two columns. */
TEMPLATE void sum_unpacked(int type, int mr, int nr, const unpacked *u, int b, const acts_view *x,
                           size_t at, block_sums *s) {
    const int groups = groups_of(type), offset = unpacked_offset_of(type);
    vi acc[2 * INT_MR][INT_NR / 2];
    UNROLL for (int c = 0; c < nr / 2; c++) {
        vi start = vi_zip_low(start_of(type, offset, x, 2 * c, at),
                              start_of(type, offset, x, 2 * c + 1, at));
        UNROLL for (int r = 0; r < 2 * mr; r++) acc[r][c] = start;
    }
    UNROLL for (int g = 0; g < groups; g += 2) {
        vi rows[2 * INT_MR]; /* r, r + 1: eight columns of each */
        UNROLL for (int v = 0; v < mr; v++) {
            vi first = vi_load(u[v].q[b * groups + g]), next = vi_load(u[v].q[b * groups + g + 1]);
            rows[2 * v] = vi_zip_low(first, next);
            rows[2 * v + 1] = vi_zip_high(first, next);
        }
        UNROLL for (int c = 0; c < nr / 2; c++) {
            const int8_t *q = x->q + 2 * c * x->ldq + at + 4 * g;
            vi columns = vi_load_two(q, q + x->ldq);
            UNROLL for (int r = 0; r < 2 * mr; r++) {
                acc[r][c] = vi_matrix8(acc[r][c], rows[r], columns);
                VECTOR_KEEP(acc[r][c]);
            }
        }
    }
    UNROLL for (int c = 0; c < nr / 2; c++)
        UNROLL for (int v = 0; v < mr; v++) {
            s->acc[v][2 * c] = vi_even(acc[2 * v][c], acc[2 * v + 1][c]);
            s->acc[v][2 * c + 1] = vi_odd(acc[2 * v][c], acc[2 * v + 1][c]);
        }
}
#else
TEMPLATE void sum_unpacked(int type, int mr, int nr, const unpacked *u, int b, const acts_view *x,
                           size_t at, block_sums *s) {
    const int groups = groups_of(type);
    start_block(type, unpacked_offset_of(type), mr, nr, x, at, s);
    UNROLL for (int g = 0; g < groups; g++) {
        vi w4[INT_MR];
        UNROLL for (int v = 0; v < mr; v++) w4[v] = vi_load(u[v].q[b * groups + g]);
        multiply_group(type, mr, nr, w4, g, x, at, s);
    }
}
#endif

/* Block b of u [mr]. */
TEMPLATE void multiply_unpacked(int type, int mr, int nr, const unpacked *u, int b,
                                const acts_view *x, tile_sums sum) {
    const size_t at = 4 * groups_of(type) * b;
    vf scale[INT_MR], min[INT_MR];
    block_sums s;
    UNROLL for (int v = 0; v < mr; v++) {
        scale[v] = vf_load(u[v].scale[b]);
        min[v] = has_min(type) ? vf_load(u[v].min[b]) : scale[v];
    }
    sum_unpacked(type, mr, nr, u, b, x, at, &s);
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
