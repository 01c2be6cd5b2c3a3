/* matmul_impl.h: y = x W^T over packed panels (pack.c draws them). Lane = row: a vector of weights holds one column of
 * several rows (or four columns, in bytes), an activation is broadcast to all lanes, and sums never leave their lane.
 *
 *   decoding, few columns of x: a pass over the panel for up to 4 of them, unpacking in registers: as fast as memory delivers.
 *   prefill: a piece of the unit's 64 rows is unpacked once into scratch (second-level cache), vector by vector:
 *                bytes [k / 4][4 * VF_LANES], then scales and minima [block][VF_LANES];   or floats [k][VF_LANES]
 *            and multiplied with a few columns of x at a time (first-level cache); the sums of a tile, INT_PARTS vectors of rows
 *            times INT_COLUMNS of x, or FLOAT_PARTS times FLOAT_COLUMNS, stay in registers (Goto & van de Geijn 2008).
 *
 * Quantised weights multiply int8 activations: in a block of 32, sum q * xq is exact in integers, and
 *     y += d * dx * (sum q xq - offset * sum xq)      q4_0: offset 8, q5_0: 16, q8_0: 0
 *     y += d * scale * dx * sum q xq - dmin * min * dx * sum xq      q4_k, q5_k;   q6_k: blocks of 16, offset 32. */

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#ifdef GQA_SMALL_CODE /* plain C: six times smaller, and seldom what anyone waits for */
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif

enum {
    MATMUL_PARTS = GQA_PANEL / VF_LANES,                /* vectors across a panel */
    UNIT_VECTORS = GQA_UNIT_PANELS * MATMUL_PARTS,
    DECODE_PARTS = MATMUL_PARTS < 2 ? MATMUL_PARTS : 2, /* vectors across at once, decoding floats */
    INT_PARTS = 2, INT_COLUMNS = VF_REGISTERS / 5,      /* a prefill tile: vectors of rows, columns of x; int32 and float sums */
    FLOAT_PARTS = VF_REGISTERS / 8, FLOAT_COLUMNS = 6,
    MOST_PARTS = FLOAT_PARTS > MATMUL_PARTS ? FLOAT_PARTS : MATMUL_PARTS,
    INT_DEPTH = 2048, FLOAT_DEPTH = 512                 /* columns of W unpacked at a time */
};

/* ---- activations ------------------------------------------------------------------------------------------------- */

static void quantize_acts(gqa_acts *a, int i0, int i1, int k0, int k1) {
    const vf magic = vf_set1(12582912.0f);  /* 1.5 * 2^23: added, it rounds to nearest even, the integer in the low bits */
    for (int i = i0; i < i1; i++) {
        const float *x = a->x + (size_t)i * a->ldx;
        for (int k = k0; k < k1; k += 32) {
            size_t at = (size_t)i * (size_t)a->kpad + (size_t)k;
            float padded[32] = {0};
            const float *block = x + k;
            if (a->k - k < 32) block = memcpy(padded, x + k, sizeof(float) * (size_t)(a->k - k));
            vf tops = vf_set1(0);
            for (int j = 0; j < 32; j += VF_LANES) tops = vf_max(tops, vf_max(vf_load(block + j), vf_sub(vf_set1(0), vf_load(block + j))));
            float top = vf_hmax(tops);
            vf scale = vf_set1(top > 0 ? 127 / top : 0);
            a->d[at / 32] = top / 127;
            float sums[2];
            for (int j = 0; j < 32; j += 16) {
                vf sum = vf_set1(0);
                for (int h = j; h < j + 16; h += VF_LANES) {
                    vf rounded = vf_add(vf_mul(vf_load(block + h), scale), magic);
                    vf_store_low_bytes(a->q + at + h, rounded);
                    sum = vf_add(sum, vf_sub(rounded, magic));
                }
                float s = vf_sum(sum);
                sums[j / 16] = fabsf(s) <= 16 * 127 ? s : 0; /* not finite: a block too small for a scale, or of no numbers */
                a->bias16[(at + (size_t)j) / 16] = (int32_t)sums[j / 16] * -128;
            }
            a->bias32[at / 32] = (int32_t)(sums[0] + sums[1]) * -128;
            a->dsum[at / 32] = a->d[at / 32] * (sums[0] + sums[1]);
        }
    }
}

/* ---- quantised weights ------------------------------------------------------------------------------------------- */

/* What a kernel must know of a type; all are constants after inlining. */
ALWAYS_INLINE int bits_of(int type) {
    return type == GQA_TYPE_Q8_0 ? 8 : type == GQA_TYPE_Q6_K ? 6 : type == GQA_TYPE_Q5_0 || type == GQA_TYPE_Q5_K ? 5 : 4;
}
ALWAYS_INLINE int offset_of(int type) {
    return type == GQA_TYPE_Q8_0 ? VI_DOT8_OFFSET : type == GQA_TYPE_Q4_0 ? 8 : type == GQA_TYPE_Q5_0 ? 16 : type == GQA_TYPE_Q6_K ? 32 : 0;
}
ALWAYS_INLINE int has_min(int type) { return type == GQA_TYPE_Q4_K || type == GQA_TYPE_Q5_K; }
ALWAYS_INLINE int is_super(int type) { return has_min(type) || type == GQA_TYPE_Q6_K; }
ALWAYS_INLINE size_t record_bytes_of(int type) { return bits_of(type) == 8 ? 544 : bits_of(type) == 4 ? 288 : bits_of(type) == 5 ? 352 : 416; }
ALWAYS_INLINE int groups_of(int type) { return type == GQA_TYPE_Q6_K ? 4 : 8; } /* of four columns, a scale */

/* Group g of a record as bytes, for the lanes of one part. */
ALWAYS_INLINE vi unpack_group(int type, const uint8_t *record, int g, int part) {
    const uint8_t *p = record + part * 4 * VF_LANES;
    if (type == GQA_TYPE_Q8_0) return vi_bias8(vi_load(p + g * 64));
    vi low = vi_load(p + g % 4 * 64), nibble = vi_set1(0x0F0F0F0F);
    low = vi_and(g < 4 ? low : vi_shr(low, 4), nibble);
    if (bits_of(type) == 5) {
        vi high = vi_load(p + 256);
        high = vi_and(g < 4 ? vi_shl(high, 4 - g) : vi_shr(high, g - 4), vi_set1(0x10101010));
        return vi_or(low, high);
    }
    if (type == GQA_TYPE_Q6_K) {
        vi high = vi_load(p + 256 + g / 4 * 64);
        int s = g % 4 * 2;
        high = vi_and(s <= 4 ? vi_shl(high, 4 - s) : vi_shr(high, s - 4), vi_set1(0x30303030));
        return vi_or(low, high);
    }
    return low;
}

/* The scales of a record's 16- or 32-column block `sub` and its negated minimum, times those of the superblock (d, dmin). */
ALWAYS_INLINE vf unpack_scale(int type, const uint8_t *record, vf d, int sub, int part) {
    const uint8_t *scales = record + record_bytes_of(type) - 2 * GQA_PANEL;
    if (!is_super(type)) return vf_load_f16((const uint16_t *)scales + part * VF_LANES);
    if (has_min(type)) return vf_mul(d, vf_load_u8(scales + part * VF_LANES));
    return vf_mul(d, vf_load_i8((const int8_t *)scales + sub * GQA_PANEL + part * VF_LANES));
}
ALWAYS_INLINE vf unpack_min(int type, const uint8_t *record, vf dmin, int part) {
    return vf_mul(dmin, vf_load_u8(record + record_bytes_of(type) - GQA_PANEL + part * VF_LANES));
}

/* d (i = 0) or -dmin (i = 1) of a superblock, whose eight records begin at `record`; for one part of the rows. */
ALWAYS_INLINE vf superblock_scale(int type, const uint8_t *record, int i, int part) {
    if (!is_super(type)) return vf_set1(0);
    vf d = vf_load_f16((const uint16_t *)(record + 8 * record_bytes_of(type)) + i * GQA_PANEL + part * VF_LANES);
    return i ? vf_sub(vf_set1(0), d) : d;
}

/* Some columns of x and their int8 forms from some block on: column c at x + c * ldx, q + c * ldq, d + c * ldd, and so on. */
typedef struct acts_view {
    const int8_t *q;
    const float *d, *dsum;
    const int32_t *bias16, *bias32;
    const float *x;
    size_t ldq, ldd, ldx;
} acts_view;

static acts_view view_acts(const gqa_acts *a, int first, int k0) {
    size_t at = (size_t)first * (size_t)a->kpad + (size_t)k0;
    return (acts_view){a->q + at, a->d + at / 32, a->dsum + at / 32, a->bias16 + at / 16, a->bias32 + at / 32,
                       a->x + (size_t)first * a->ldx + k0, (size_t)a->kpad, (size_t)a->kpad / 32, a->ldx};
}

/* -offset * sum xq of a block: where its integer sums start. */
ALWAYS_INLINE vi start_of(int type, const acts_view *x, int c, int at) {
    int offset = offset_of(type);
    if (!offset) return vi_set1(0);
    vi start = vi_set1(groups_of(type) == 8 ? x->bias32[(size_t)c * x->ldd + (size_t)(at / 32)] : x->bias16[(size_t)c * 2 * x->ldd + (size_t)(at / 16)]);
    return offset == 128 ? start : vi_sar(start, offset == 32 ? 2 : offset == 16 ? 3 : 4);
}

/* One block of 16 or 32 columns of W, `parts` vectors of rows, times nc columns of x from `at` on: sum[p][c] += ... as at the top
 * of this file. With bytes, vector p of the block's groups lies unpacked at w + p * step, else w is a record and p counts from
 * `part`. An activation, once in all lanes, meets every vector. */
typedef vf tile_sums[MOST_PARTS][6];
typedef vi tile_ints[MOST_PARTS][6];
ALWAYS_INLINE void multiply_block(int type, int parts, int nc, int bytes, const uint8_t *w, size_t step, int sub, int part, const vf *scale,
                                  const vf *min, const acts_view *x, int at, tile_sums sum) {
    const int groups = groups_of(type), bits = bits_of(type), depth = bits == 8 || VI_DOT_DEPTH(bits) > groups ? groups : VI_DOT_DEPTH(bits);
    tile_ints acc, pairs;
    vi w4[MOST_PARTS];
    UNROLL for (int c = 0; c < nc; c++) UNROLL for (int p = 0; p < parts; p++) acc[p][c] = start_of(type, x, c, at);
    UNROLL for (int g0 = 0; g0 < groups; g0 += depth) {
        if (!VI_DOT_WIDE) UNROLL for (int p = 0; p < parts; p++) UNROLL for (int c = 0; c < nc; c++) pairs[p][c] = vi_set1(0);
        UNROLL for (int g = g0; g < g0 + depth; g++) {
            UNROLL for (int p = 0; p < parts; p++)
                w4[p] = bytes ? vi_load(w + (size_t)p * step + g * 4 * VF_LANES) : unpack_group(type, w, sub * groups + g, part + p);
            UNROLL for (int c = 0; c < nc; c++) {
                int32_t four;
                memcpy(&four, x->q + (size_t)c * x->ldq + at + 4 * g, 4);
                vi x4 = vi_set1(four);
                UNROLL for (int p = 0; p < parts; p++) {
                    vi *to = VI_DOT_WIDE || bits == 8 ? &acc[p][c] : &pairs[p][c];
                    *to = bits == 8 ? vi_dot8(*to, w4[p], x4) : vi_dot(*to, w4[p], x4);
                    VECTOR_KEEP(*to); /* or the compiler regroups the sums and runs out of registers */
                }
            }
        }
        if (!VI_DOT_WIDE && bits != 8)
            UNROLL for (int p = 0; p < parts; p++) UNROLL for (int c = 0; c < nc; c++) acc[p][c] = vi_add(acc[p][c], vi_dot_sum(pairs[p][c]));
    }
    UNROLL for (int c = 0; c < nc; c++) {
        vf dx = vf_set1(x->d[(size_t)c * x->ldd + (size_t)(at / 32)]);
        UNROLL for (int p = 0; p < parts; p++) {
            sum[p][c] = vf_fma(vf_mul(vf_from_vi(acc[p][c]), scale[p]), dx, sum[p][c]);
            if (has_min(type)) sum[p][c] = vf_fma(min[p], vf_set1(x->dsum[(size_t)c * x->ldd + (size_t)(at / 32)]), sum[p][c]);
        }
    }
}

ALWAYS_INLINE void fetch_ahead(const uint8_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += PREFETCH_STEP) __builtin_prefetch(p + PREFETCH_AHEAD + i, 0, PREFETCH_HINT);
}

/* Decoding: a whole panel times nc columns, starting at column `first` of x; out [nc][16]. */
ALWAYS_INLINE void decode_panel(int type, int nc, const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out) {
    const size_t record_bytes = record_bytes_of(type);
    const acts_view x = view_acts(a, first, 0);
    const int together = nc <= 2 ? MATMUL_PARTS : 1; /* parts; as registers allow */
    tile_sums sum;
    UNROLL for (int p = 0; p < MATMUL_PARTS; p++) UNROLL for (int c = 0; c < nc; c++) sum[p][c] = vf_set1(0);
    const uint8_t *record = panel;
    for (int k0 = 0; k0 < cols; k0 += 256, record += is_super(type) ? 64 : 0) {
        vf d[MATMUL_PARTS], dmin[MATMUL_PARTS];
        UNROLL for (int p = 0; p < MATMUL_PARTS; p++) d[p] = superblock_scale(type, record, 0, p), dmin[p] = superblock_scale(type, record, has_min(type), p);
        for (int k = k0; k < cols && k < k0 + 256; k += 32, record += record_bytes) {
            fetch_ahead(record, record_bytes);
            UNROLL for (int p = 0; p < MATMUL_PARTS; p += together)
                UNROLL for (int sub = 0; sub < 8 / groups_of(type); sub++) {
                    vf scale[MATMUL_PARTS], min[MATMUL_PARTS];
                    UNROLL for (int q = 0; q < together; q++) {
                        scale[q] = unpack_scale(type, record, d[p + q], sub, p + q);
                        min[q] = has_min(type) ? unpack_min(type, record, dmin[p + q], p + q) : scale[q];
                    }
                    multiply_block(type, together, nc, 0, record, 0, sub, p, scale, min, &x, k + 16 * sub, sum + p);
                }
        }
    }
    UNROLL for (int p = 0; p < MATMUL_PARTS; p++) UNROLL for (int c = 0; c < nc; c++) vf_store(out + c * GQA_PANEL + p * VF_LANES, sum[p][c]);
}

/* Prefill: up to INT_DEPTH columns of a vector of rows as bytes and float scales. */
typedef struct unpacked {
    uint8_t q[INT_DEPTH / 4][4 * VF_LANES];
    float scale[INT_DEPTH / 16][VF_LANES], min[INT_DEPTH / 32][VF_LANES];
} unpacked;

/* The columns k0..k1-1 of a panel into u[MATMUL_PARTS]. */
ALWAYS_INLINE void unpack_panel(int type, const uint8_t *panel, int k0, int k1, unpacked *u) {
    const size_t record_bytes = record_bytes_of(type);
    const int per = 8 / groups_of(type);
    const uint8_t *record = panel + (size_t)(k0 / 32) * record_bytes + (is_super(type) ? (size_t)(k0 / 256) * 64 : 0);
    for (int b0 = 0, n = (k1 - k0) / 32; b0 < n; b0 += 8, record += is_super(type) ? 64 : 0) {
        vf d[MATMUL_PARTS], dmin[MATMUL_PARTS];
        UNROLL for (int p = 0; p < MATMUL_PARTS; p++) d[p] = superblock_scale(type, record, 0, p), dmin[p] = superblock_scale(type, record, has_min(type), p);
        for (int b = b0; b < b0 + 8 && b < n; b++, record += record_bytes) {
            fetch_ahead(record, record_bytes);
            UNROLL for (int p = 0; p < MATMUL_PARTS; p++) {
                UNROLL for (int g = 0; g < 8; g++) vi_store(u[p].q[8 * b + g], unpack_group(type, record, g, p));
                UNROLL for (int sub = 0; sub < per; sub++) vf_store(u[p].scale[b * per + sub], unpack_scale(type, record, d[p], sub, p));
                if (has_min(type)) vf_store(u[p].min[b], unpack_min(type, record, dmin[p], p));
            }
        }
    }
}

/* One tile: out [INT_COLUMNS][INT_PARTS * VF_LANES] = or += n_k columns of u[INT_PARTS] times as many of x. */
ALWAYS_INLINE void multiply_unpacked(int type, const unpacked *u, int n_k, const acts_view *x, float *out, int add_to) {
    const int width = 4 * groups_of(type);
    tile_sums sum;
    UNROLL for (int c = 0; c < INT_COLUMNS; c++) UNROLL for (int p = 0; p < INT_PARTS; p++)
        sum[p][c] = add_to ? vf_load(out + (c * INT_PARTS + p) * VF_LANES) : vf_set1(0);
    for (int b = 0; b < n_k / width; b++) {
        vf scale[INT_PARTS], min[INT_PARTS];
        UNROLL for (int p = 0; p < INT_PARTS; p++) {
            scale[p] = vf_load(u[p].scale[b]);
            min[p] = has_min(type) ? vf_load(u[p].min[b]) : scale[p];
        }
        multiply_block(type, INT_PARTS, INT_COLUMNS, 1, u[0].q[b * groups_of(type)], sizeof *u, 0, 0, scale, min, x, b * width, sum);
    }
    UNROLL for (int c = 0; c < INT_COLUMNS; c++) UNROLL for (int p = 0; p < INT_PARTS; p++) vf_store(out + (c * INT_PARTS + p) * VF_LANES, sum[p][c]);
}

/* ---- float weights ----------------------------------------------------------------------------------------------- */

ALWAYS_INLINE vf load_weights(int type, const uint8_t *p) {
    return type == GQA_TYPE_F32 ? vf_load((const float *)p) : type == GQA_TYPE_F16 ? vf_load_f16((const uint16_t *)p) : vf_load_bf16((const uint16_t *)p);
}

/* nc columns; several partial sums a row hide the latency of the multiply-add. */
ALWAYS_INLINE void decode_floats(int type, int nc, const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out) {
    int size = type == GQA_TYPE_F32 ? 4 : 2, chains = nc == 1 ? 4 : nc == 2 ? 2 : 1, k = 0;
    const float *x = a->x + (size_t)first * a->ldx;
    for (int p0 = 0; p0 < MATMUL_PARTS; p0 += DECODE_PARTS) {
        const uint8_t *w = panel + p0 * VF_LANES * size;
        vf sum[4][DECODE_PARTS][4];
        UNROLL for (int j = 0; j < chains; j++) UNROLL for (int p = 0; p < DECODE_PARTS; p++) UNROLL for (int c = 0; c < nc; c++) sum[j][p][c] = vf_set1(0);
        for (k = 0; k + chains <= cols; k += chains) {
            if (PREFETCH_STEP == 64 && MATMUL_PARTS == 1) fetch_ahead(w, (size_t)(chains * GQA_PANEL * size));
            UNROLL for (int j = 0; j < chains; j++, w += GQA_PANEL * size)
                UNROLL for (int p = 0; p < DECODE_PARTS; p++) {
                    vf v = load_weights(type, w + p * VF_LANES * size);
                    UNROLL for (int c = 0; c < nc; c++) sum[j][p][c] = vf_fma(v, vf_set1(x[(size_t)c * a->ldx + (size_t)(k + j)]), sum[j][p][c]);
                }
        }
        for (; k < cols; k++, w += GQA_PANEL * size)
            UNROLL for (int p = 0; p < DECODE_PARTS; p++) {
                vf v = load_weights(type, w + p * VF_LANES * size);
                UNROLL for (int c = 0; c < nc; c++) sum[0][p][c] = vf_fma(v, vf_set1(x[(size_t)c * a->ldx + (size_t)k]), sum[0][p][c]);
            }
        UNROLL for (int p = 0; p < DECODE_PARTS; p++) UNROLL for (int c = 0; c < nc; c++) {
            vf total = sum[0][p][c];
            UNROLL for (int j = 1; j < chains; j++) total = vf_add(total, sum[j][p][c]);
            vf_store(out + c * GQA_PANEL + (p0 + p) * VF_LANES, total);
        }
    }
}

/* The columns k0..k1-1 of a panel into dst [MATMUL_PARTS][FLOAT_DEPTH][VF_LANES]. */
ALWAYS_INLINE void widen_floats(int type, const uint8_t *panel, int k0, int k1, float *dst) {
    const int size = type == GQA_TYPE_F32 ? 4 : 2;
    const uint8_t *w = panel + (size_t)k0 * GQA_PANEL * (size_t)size;
    for (int k = 0; k < k1 - k0; k++, w += GQA_PANEL * size) {
        if (PREFETCH_STEP == 64 && k % 2 == 0) fetch_ahead(w, (size_t)(2 * GQA_PANEL * size));
        UNROLL for (int p = 0; p < MATMUL_PARTS; p++)
            vf_store(dst + (p * FLOAT_DEPTH + k) * VF_LANES, load_weights(type, w + p * VF_LANES * size));
    }
}

/* One tile, as multiply_unpacked: n_k columns of w [FLOAT_PARTS][FLOAT_DEPTH][VF_LANES] times as many of x. */
static void multiply_floats(const float *w, int n_k, const acts_view *x, float *out, int add_to) {
    tile_sums sum;
    UNROLL for (int c = 0; c < FLOAT_COLUMNS; c++) UNROLL for (int p = 0; p < FLOAT_PARTS; p++)
        sum[p][c] = add_to ? vf_load(out + (c * FLOAT_PARTS + p) * VF_LANES) : vf_set1(0);
    for (int k = 0; k < n_k; k++) {
        vf v[FLOAT_PARTS];
        UNROLL for (int p = 0; p < FLOAT_PARTS; p++) v[p] = vf_load(w + (p * FLOAT_DEPTH + k) * VF_LANES);
        UNROLL for (int c = 0; c < FLOAT_COLUMNS; c++) {
            vf xk = vf_set1(x->x[(size_t)c * x->ldx + (size_t)k]);
            UNROLL for (int p = 0; p < FLOAT_PARTS; p++) sum[p][c] = vf_fma(v[p], xk, sum[p][c]);
        }
    }
    UNROLL for (int c = 0; c < FLOAT_COLUMNS; c++) UNROLL for (int p = 0; p < FLOAT_PARTS; p++) vf_store(out + (c * FLOAT_PARTS + p) * VF_LANES, sum[p][c]);
}

/* ---- one function a type ----------------------------------------------------------------------------------------- */

typedef struct panel_kernels {
    void (*decode[3])(const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out); /* 1, 2, 4 columns of x */
    void (*unpack)(const uint8_t *panel, int k0, int k1, void *dst);
    void (*tile)(const void *w, int n_k, const acts_view *x, float *out, int add_to); /* `columns` of x */
    int parts, columns, depth;
    size_t vector_bytes; /* a vector of rows, unpacked */
} panel_kernels;

#define DECODE(name, body, type, nc) \
    static void name##_decode_##nc(const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out) { \
        body(type, nc, panel, a, cols, first, out); \
    }
#define KERNELS(name, body, type) \
    DECODE(name, body, type, 1) DECODE(name, body, type, 2) DECODE(name, body, type, 4) \
    static void name##_unpack(const uint8_t *panel, int k0, int k1, void *dst)
#define TABLE(name, tile, ...) \
    static const panel_kernels name##_kernels = {{name##_decode_1, name##_decode_2, name##_decode_4}, name##_unpack, tile, __VA_ARGS__};

#define FLOAT_TYPE(name, type) \
    KERNELS(name, decode_floats, type) { widen_floats(type, panel, k0, k1, dst); } \
    TABLE(name, floats_tile, FLOAT_PARTS, FLOAT_COLUMNS, FLOAT_DEPTH, sizeof(float) * FLOAT_DEPTH * VF_LANES)
#define INT_TYPE(name, type) \
    KERNELS(name, decode_panel, type) { unpack_panel(type, panel, k0, k1, dst); } \
    static void name##_tile(const void *w, int n_k, const acts_view *x, float *out, int add_to) { \
        multiply_unpacked(type, w, n_k, x, out, add_to); \
    } \
    TABLE(name, name##_tile, INT_PARTS, INT_COLUMNS, INT_DEPTH, sizeof(unpacked))

static void floats_tile(const void *w, int n_k, const acts_view *x, float *out, int add_to) { multiply_floats(w, n_k, x, out, add_to); }
FLOAT_TYPE(f32, GQA_TYPE_F32)
FLOAT_TYPE(f16, GQA_TYPE_F16)
FLOAT_TYPE(bf16, GQA_TYPE_BF16)
INT_TYPE(q8_0, GQA_TYPE_Q8_0)
INT_TYPE(q4_0, GQA_TYPE_Q4_0)
INT_TYPE(q5_0, GQA_TYPE_Q5_0)
INT_TYPE(q4_k, GQA_TYPE_Q4_K)
INT_TYPE(q5_k, GQA_TYPE_Q5_K)
INT_TYPE(q6_k, GQA_TYPE_Q6_K)

static const panel_kernels *kernels_of(int type) {
    switch (type) {
    case GQA_TYPE_F32: return &f32_kernels;
    case GQA_TYPE_F16: return &f16_kernels;
    case GQA_TYPE_BF16: return &bf16_kernels;
    case GQA_TYPE_Q8_0: return &q8_0_kernels;
    case GQA_TYPE_Q4_0: return &q4_0_kernels;
    case GQA_TYPE_Q5_0: return &q5_0_kernels;
    case GQA_TYPE_Q4_K: return &q4_k_kernels;
    case GQA_TYPE_Q5_K: return &q5_k_kernels;
    default: return &q6_k_kernels;
    }
}

/* ---- a unit of work ---------------------------------------------------------------------------------------------- */

/* Copies nc columns of up to `most` rows from a tile [nc][most] to y, or back. */
static void move_tile(float *tile, int most, float *y, size_t ldy, int nc, int rows, int to_y) {
    for (int c = 0; c < nc; c++, tile += most, y += ldy) {
        float *to = to_y ? y : tile, *from = to_y ? tile : y;
        int i = 0, n = rows < most ? rows : most;
        for (; i + VF_LANES <= n; i += VF_LANES) vf_store(to + i, vf_load(from + i));
        for (; i < n; i++) to[i] = from[i];
    }
}

/* Columns of x, in whole tiles up to i1, times the unit's panels; y at the unit's first row. */
static void multiply_tiles(const panel_kernels *kernels, const uint8_t *const *panels, int count, const gqa_acts *a, int rows, int cols, int i1,
                           float *y, size_t ldy, uint8_t *scratch) {
    const int nc = kernels->columns, parts = kernels->parts, tile_rows = parts * VF_LANES, vectors = count * MATMUL_PARTS;
    const size_t step = kernels->vector_bytes;
    float out[FLOAT_COLUMNS * FLOAT_PARTS * VF_LANES];
    for (int k0 = 0; k0 < cols; k0 += kernels->depth) {
        int n_k = cols - k0 < kernels->depth ? cols - k0 : kernels->depth;
        for (int p = 0; p < count; p++) kernels->unpack(panels[p], k0, k0 + n_k, scratch + (size_t)(p * MATMUL_PARTS) * step);
        for (int v = vectors; v % parts; v++) memset(scratch + (size_t)v * step, 0, step);
        for (int i = 0; i < i1; i += nc) {
            acts_view x = view_acts(a, i, k0);
            for (int v = 0; v < vectors && v * VF_LANES < rows; v += parts) {
                float *at = y + (size_t)i * ldy + v * VF_LANES;
                if (k0) move_tile(out, tile_rows, at, ldy, nc, rows - v * VF_LANES, 0);
                kernels->tile(scratch + (size_t)v * step, n_k, &x, out, k0 > 0);
                move_tile(out, tile_rows, at, ldy, nc, rows - v * VF_LANES, 1);
            }
        }
    }
}

static void matmul_unit(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy, int unit, void *scratch) {
    const panel_kernels *kernels = kernels_of(w->type);
    int p0 = unit * GQA_UNIT_PANELS, count = gqa_matrix_panels(w) - p0 < GQA_UNIT_PANELS ? gqa_matrix_panels(w) - p0 : GQA_UNIT_PANELS;
    const uint8_t *panels[GQA_UNIT_PANELS];
    uint8_t *room = (uint8_t *)scratch + gqa_matmul_scratch(0);
    const size_t bytes = gqa_panel_bytes(w->type, w->cols);
    for (int p = 0; p < count; p++) {
        panels[p] = w->packed ? w->packed + (size_t)(p0 + p) * bytes : room + (size_t)p * bytes;
        if (!w->packed) gqa_pack_panel(w, p0 + p, room + (size_t)p * bytes);
    }
    int tiled = n <= 2 * kernels->columns ? 0 : n - n % kernels->columns, row = p0 * GQA_PANEL; /* two tiles are not worth the unpacking */
    if (tiled) multiply_tiles(kernels, panels, count, a, w->rows - row, w->cols, tiled, y + row, ldy, scratch);
    for (int p = 0; p < count; p++, row += GQA_PANEL) /* the other columns, as in decoding */
        for (int i = tiled, nc; i < n; i += nc) {
            float out[4 * GQA_PANEL];
            nc = n - i >= 4 ? 4 : n - i >= 2 ? 2 : 1;
            kernels->decode[nc / 2](panels[p], a, w->cols, i, out);
            move_tile(out, GQA_PANEL, y + (size_t)i * ldy + row, ldy, nc, w->rows - row, 1);
        }
}
_Static_assert(UNIT_VECTORS * sizeof(unpacked) <= GQA_MATMUL_SCRATCH && sizeof(float) * UNIT_VECTORS * FLOAT_DEPTH * VF_LANES <= GQA_MATMUL_SCRATCH, "room to unpack a unit");
