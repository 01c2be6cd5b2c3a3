/* matmul_impl.h: y = x W^T over packed panels (pack.c draws them). Lane = row: a vector of weights holds one column of
 * several rows (or four columns, in bytes), an activation is broadcast to all lanes, and sums never leave their lane.
 *
 *   decoding, few columns of x: a pass over the panel for up to 4 of them, unpacking in registers: as fast as memory delivers.
 *   prefill: 256 columns of W of the unit's 64 rows are unpacked once into scratch (first-level cache), then multiplied
 *            with tiles of MATMUL_NC columns of x that stay in registers (Goto & van de Geijn 2008).
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
    MATMUL_PARTS = GQA_PANEL / VF_LANES,              /* vectors across a panel */
    MATMUL_NC = VF_LANES == 16 ? 12 : 6,              /* columns of x in a prefill tile */
    MATMUL_DECODE = 8,                                /* columns of x, at most, that are worth no unpacking into scratch */
    TILE_PARTS = MATMUL_PARTS < 2 ? MATMUL_PARTS : 2, /* vectors across and columns of x whose sums are in registers at once */
    TILE_COLUMNS = MATMUL_NC / TILE_PARTS,
    MATMUL_KC = 256,                                  /* columns of W unpacked at a time */
    FLOAT_PARTS = MATMUL_PARTS < 2 ? MATMUL_PARTS : 2 /* vectors across in a tile of floats */
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
            for (int j = 0; j < 32; j += 16) {
                vf sum = vf_set1(0);
                for (int h = j; h < j + 16; h += VF_LANES) {
                    vf rounded = vf_add(vf_mul(vf_load(block + h), scale), magic);
                    vf_store_low_bytes(a->q + at + h, rounded);
                    sum = vf_add(sum, vf_sub(rounded, magic));
                }
                a->sum16[(at + (size_t)j) / 16] = (int16_t)vf_sum(sum);
            }
        }
    }
}

/* ---- quantised weights ------------------------------------------------------------------------------------------- */

/* What a kernel must know of a type; all are constants after inlining. BYTES: a panel already unpacked into scratch. */
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
    if (type == GQA_TYPE_Q8_0) return vi_load(p + g * 64);
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

/* Where the int8 forms of some columns of x are: of column c at q + c * ldq, and so on. A tile has its sums multiplied
 * already: offset * sum xq in off, dx * sum xq in dsx. */
typedef struct acts_view {
    const int8_t *q;
    const float *d;
    const int16_t *sum16;
    const int32_t *off;
    const float *dsx;
    size_t ldq, ldd, lds;
} acts_view;

/* One block of 16 or 32 columns of a panel, `parts` vectors of its rows from `part` on, times nc columns of x from `at` on:
 * sum[p][c] += ... as at the top of this file. With bytes, w points at the block's groups as unpack_panel wrote them, else at a
 * record. An activation, once in all lanes, meets every part. */
typedef vf tile_sums[MATMUL_PARTS][MATMUL_NC];
ALWAYS_INLINE void multiply_block(int type, int parts, int nc, int bytes, const uint8_t *w, int sub, int part, const vf *scale, const vf *min,
                                  acts_view x, int at, tile_sums sum) {
    const int groups = groups_of(type), bits = bits_of(type), depth = bits == 8 || VI_DOT_DEPTH(bits) > groups ? groups : VI_DOT_DEPTH(bits);
    vi acc[MATMUL_PARTS][MATMUL_NC], pairs[MATMUL_PARTS][MATMUL_NC], w4[MATMUL_PARTS];
    UNROLL for (int p = 0; p < parts; p++) UNROLL for (int c = 0; c < nc; c++) acc[p][c] = vi_set1(0);
    UNROLL for (int g0 = 0; g0 < groups; g0 += depth) {
        UNROLL for (int p = 0; p < parts; p++) UNROLL for (int c = 0; c < nc; c++) pairs[p][c] = vi_set1(0);
        UNROLL for (int g = g0; g < g0 + depth; g++) {
            UNROLL for (int p = 0; p < parts; p++)
                w4[p] = bytes ? vi_load(w + g * 64 + (part + p) * 4 * VF_LANES) : unpack_group(type, w, sub * groups + g, part + p);
            UNROLL for (int c = 0; c < nc; c++) {
                int32_t four;
                memcpy(&four, x.q + (size_t)c * x.ldq + at + 4 * g, 4);
                vi x4 = vi_set1(four);
                UNROLL for (int p = 0; p < parts; p++) {
                    if (bits == 8) acc[p][c] = vi_dot8(acc[p][c], w4[p], x4);
                    else pairs[p][c] = vi_dot(pairs[p][c], w4[p], x4);
                    if (bits == 8) VECTOR_KEEP(acc[p][c]); /* or the compiler regroups the sums and runs out of registers */
                    else VECTOR_KEEP(pairs[p][c]);
                }
            }
        }
        if (bits != 8) {
            UNROLL for (int p = 0; p < parts; p++) UNROLL for (int c = 0; c < nc; c++)
                acc[p][c] = g0 ? vi_add(acc[p][c], vi_dot_sum(pairs[p][c])) : vi_dot_sum(pairs[p][c]);
        }
    }
    UNROLL for (int c = 0; c < nc; c++) {
        vf dx = vf_set1(x.d[(size_t)c * x.ldd + (size_t)(at / 32)]);
        const int16_t *s16 = bytes ? NULL : x.sum16 + (size_t)c * x.lds + at / 16;
        int sx = bytes ? 0 : groups == 8 ? s16[0] + s16[1] : s16[0];
        size_t block = (size_t)(c * MATMUL_KC / 16 + at / 16);
        UNROLL for (int p = 0; p < parts; p++) {
            if (offset_of(type)) acc[p][c] = vi_sub(acc[p][c], vi_set1(bytes ? x.off[block] : offset_of(type) * sx));
            sum[p][c] = vf_fma(vf_mul(vf_from_vi(acc[p][c]), scale[p]), dx, sum[p][c]);
            if (has_min(type)) sum[p][c] = vf_fma(min[p], bytes ? vf_set1(x.dsx[block]) : vf_mul(dx, vf_set1((float)sx)), sum[p][c]);
        }
    }
}

/* Decoding: a whole panel times nc columns, starting at column `first` of x; out [nc][16]. */
ALWAYS_INLINE void decode_panel(int type, int nc, const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out) {
    const size_t record_bytes = record_bytes_of(type);
    size_t ld = (size_t)a->kpad, row = (size_t)first * ld;
    acts_view x = {a->q + row, a->d + row / 32, a->sum16 + row / 16, NULL, NULL, ld, ld / 32, ld / 16};
    const int together = nc <= 2 ? MATMUL_PARTS : 1; /* parts; as registers allow */
    tile_sums sum;
    UNROLL for (int p = 0; p < MATMUL_PARTS; p++) UNROLL for (int c = 0; c < nc; c++) sum[p][c] = vf_set1(0);
    const uint8_t *record = panel;
    for (int k0 = 0; k0 < cols; k0 += 256, record += is_super(type) ? 64 : 0) {
        vf d[MATMUL_PARTS], dmin[MATMUL_PARTS];
        UNROLL for (int p = 0; p < MATMUL_PARTS; p++) d[p] = superblock_scale(type, record, 0, p), dmin[p] = superblock_scale(type, record, has_min(type), p);
        for (int k = k0; k < cols && k < k0 + 256; k += 32, record += record_bytes) {
            __builtin_prefetch(record + 2048, 0, 2); /* into the second level; one line a record keeps the stream going over pages */
            UNROLL for (int p = 0; p < MATMUL_PARTS; p += together)
                UNROLL for (int sub = 0; sub < 8 / groups_of(type); sub++) {
                    vf scale[MATMUL_PARTS], min[MATMUL_PARTS];
                    UNROLL for (int q = 0; q < together; q++) {
                        scale[q] = unpack_scale(type, record, d[p + q], sub, p + q);
                        min[q] = has_min(type) ? unpack_min(type, record, dmin[p + q], p + q) : scale[q];
                    }
                    multiply_block(type, together, nc, 0, record, sub, p, scale, min, x, k + 16 * sub, sum + p);
                }
        }
    }
    UNROLL for (int p = 0; p < MATMUL_PARTS; p++) UNROLL for (int c = 0; c < nc; c++) vf_store(out + c * GQA_PANEL + p * VF_LANES, sum[p][c]);
}

/* Prefill: the columns k0..k1-1 of a panel as bytes and float scales. */
typedef struct unpacked {
    uint8_t q[MATMUL_KC / 4][64];
    float scale[MATMUL_KC / 16][GQA_PANEL], min[MATMUL_KC / 32][GQA_PANEL];
} unpacked;

ALWAYS_INLINE void unpack_panel(int type, const uint8_t *panel, int k0, int k1, unpacked *u) {
    const size_t record_bytes = record_bytes_of(type);
    int per = 8 / groups_of(type);
    const uint8_t *record = panel + (size_t)(k0 / 32) * record_bytes + (is_super(type) ? (size_t)(k0 / 256) * 64 : 0);
    vf d[MATMUL_PARTS], dmin[MATMUL_PARTS];
    UNROLL for (int p = 0; p < MATMUL_PARTS; p++) d[p] = superblock_scale(type, record, 0, p), dmin[p] = superblock_scale(type, record, has_min(type), p);
    for (int b = 0; b < (k1 - k0) / 32; b++, record += record_bytes)
        UNROLL for (int p = 0; p < MATMUL_PARTS; p++) {
            UNROLL for (int g = 0; g < 8; g++) vi_store(u->q[8 * b + g] + p * 4 * VF_LANES, unpack_group(type, record, g, p));
            UNROLL for (int sub = 0; sub < per; sub++) vf_store(u->scale[b * per + sub] + p * VF_LANES, unpack_scale(type, record, d[p], sub, p));
            if (has_min(type)) vf_store(u->min[b] + p * VF_LANES, unpack_min(type, record, dmin[p], p));
        }
}

/* A tile of x: MATMUL_KC elements of MATMUL_NC columns, copied side by side. In place their rows lie a power of two apart
 * and would fight for the same sets of the first-level cache. */
enum { TILE_LD = MATMUL_KC + 16 };
typedef struct acts_tile {
    float x[MATMUL_NC][TILE_LD];
    int8_t q[MATMUL_NC][MATMUL_KC + 64];
    float d[MATMUL_NC][MATMUL_KC / 32];
    int32_t off[MATMUL_NC][MATMUL_KC / 16];  /* of the 16 or 32 elements that begin here */
    float dsx[MATMUL_NC][MATMUL_KC / 16];
} acts_tile;

static void copy_tile(acts_tile *t, const gqa_acts *a, int type, int first, int k0, int k1) {
    const int sums = groups_of(type) / 4, offset = offset_of(type); /* sums of 16 elements that a block has */
    for (int c = 0; c < MATMUL_NC; c++) {
        size_t row = (size_t)(first + c) * (size_t)a->kpad + (size_t)k0;
        if (!gqa_type_wants_q8(type)) {
            memcpy(t->x[c], a->x + (size_t)(first + c) * a->ldx + k0, sizeof(float) * (size_t)(k1 - k0));
            continue;
        }
        memcpy(t->q[c], a->q + row, MATMUL_KC);
        memcpy(t->d[c], a->d + row / 32, sizeof t->d[c]);
        if (!offset && !has_min(type)) continue;
        const int16_t *s16 = a->sum16 + row / 16;
        for (int b = 0; b < MATMUL_KC / 16; b += sums) {
            int sx = sums == 2 ? s16[b] + s16[b + 1] : s16[b];
            t->off[c][b] = offset * sx;
            t->dsx[c][b] = t->d[c][b / 2] * (float)sx;
        }
    }
}

/* One tile: out [MATMUL_NC][16] = or += the unpacked columns times as many columns of x; TILE_COLUMNS of them at once. */
ALWAYS_INLINE void multiply_unpacked(int type, const unpacked *u, int n_k, const acts_tile *t, float *out, int add_to) {
    const int width = 4 * groups_of(type);
    for (int c0 = 0; c0 < MATMUL_NC; c0 += TILE_COLUMNS, out += TILE_COLUMNS * GQA_PANEL) {
        acts_view x = {t->q[c0], t->d[c0], NULL, t->off[c0], t->dsx[c0], sizeof t->q[0], MATMUL_KC / 32, 0};
        for (int p0 = 0; p0 < MATMUL_PARTS; p0 += TILE_PARTS) {
            tile_sums sum;
            UNROLL for (int p = 0; p < TILE_PARTS; p++) UNROLL for (int c = 0; c < TILE_COLUMNS; c++)
                sum[p][c] = add_to ? vf_load(out + c * GQA_PANEL + (p0 + p) * VF_LANES) : vf_set1(0);
            for (int b = 0; b < n_k / width; b++) {
                vf scale[MATMUL_PARTS], min[MATMUL_PARTS];
                UNROLL for (int p = 0; p < TILE_PARTS; p++) {
                    scale[p] = vf_load(u->scale[b] + (p0 + p) * VF_LANES);
                    min[p] = has_min(type) ? vf_load(u->min[b] + (p0 + p) * VF_LANES) : scale[p];
                }
                multiply_block(type, TILE_PARTS, TILE_COLUMNS, 1, u->q[b * groups_of(type)], 0, p0, scale, min, x, b * width, sum);
            }
            UNROLL for (int p = 0; p < TILE_PARTS; p++) UNROLL for (int c = 0; c < TILE_COLUMNS; c++)
                vf_store(out + c * GQA_PANEL + (p0 + p) * VF_LANES, sum[p][c]);
        }
    }
}

/* ---- float weights ----------------------------------------------------------------------------------------------- */

ALWAYS_INLINE vf load_weights(int type, const uint8_t *p) {
    return type == GQA_TYPE_F32 ? vf_load((const float *)p) : type == GQA_TYPE_F16 ? vf_load_f16((const uint16_t *)p) : vf_load_bf16((const uint16_t *)p);
}

/* nc columns; several partial sums a row hide the latency of the multiply-add. */
ALWAYS_INLINE void decode_floats(int type, int nc, const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out) {
    int size = type == GQA_TYPE_F32 ? 4 : 2, chains = nc == 1 ? 4 : nc == 2 ? 2 : 1, k = 0;
    const float *x = a->x + (size_t)first * a->ldx;
    for (int p0 = 0; p0 < MATMUL_PARTS; p0 += FLOAT_PARTS) {
        const uint8_t *w = panel + p0 * VF_LANES * size;
        vf sum[4][FLOAT_PARTS][4];
        UNROLL for (int j = 0; j < chains; j++) UNROLL for (int p = 0; p < FLOAT_PARTS; p++) UNROLL for (int c = 0; c < nc; c++) sum[j][p][c] = vf_set1(0);
        for (k = 0; k + chains <= cols; k += chains)
            UNROLL for (int j = 0; j < chains; j++, w += GQA_PANEL * size)
                UNROLL for (int p = 0; p < FLOAT_PARTS; p++) {
                    vf v = load_weights(type, w + p * VF_LANES * size);
                    UNROLL for (int c = 0; c < nc; c++) sum[j][p][c] = vf_fma(v, vf_set1(x[(size_t)c * a->ldx + (size_t)(k + j)]), sum[j][p][c]);
                }
        for (; k < cols; k++, w += GQA_PANEL * size)
            UNROLL for (int p = 0; p < FLOAT_PARTS; p++) {
                vf v = load_weights(type, w + p * VF_LANES * size);
                UNROLL for (int c = 0; c < nc; c++) sum[0][p][c] = vf_fma(v, vf_set1(x[(size_t)c * a->ldx + (size_t)k]), sum[0][p][c]);
            }
        UNROLL for (int p = 0; p < FLOAT_PARTS; p++) UNROLL for (int c = 0; c < nc; c++) {
            vf total = sum[0][p][c];
            UNROLL for (int j = 1; j < chains; j++) total = vf_add(total, sum[j][p][c]);
            vf_store(out + c * GQA_PANEL + (p0 + p) * VF_LANES, total);
        }
    }
}

static void widen_floats(int type, const uint8_t *panel, int k0, int k1, float *dst) {
    int size = type == GQA_TYPE_F32 ? 4 : 2, n = (k1 - k0) * GQA_PANEL;
    const uint8_t *w = panel + (size_t)k0 * GQA_PANEL * (size_t)size;
    for (int i = 0; i < n; i += VF_LANES) vf_store(dst + i, load_weights(type, w + (size_t)i * (size_t)size));
}

ALWAYS_INLINE void multiply_floats(int nc, const float *w, int n_k, const acts_tile *t, float *out, int add_to) {
    for (int p0 = 0; p0 < MATMUL_PARTS; p0 += FLOAT_PARTS, w += FLOAT_PARTS * VF_LANES) {
        vf sum[MATMUL_NC][FLOAT_PARTS];
        UNROLL for (int c = 0; c < nc; c++) UNROLL for (int p = 0; p < FLOAT_PARTS; p++)
            sum[c][p] = add_to ? vf_load(out + c * GQA_PANEL + (p0 + p) * VF_LANES) : vf_set1(0);
        for (int k = 0; k < n_k; k++) {
            vf v[FLOAT_PARTS];
            UNROLL for (int p = 0; p < FLOAT_PARTS; p++) v[p] = vf_load(w + k * GQA_PANEL + p * VF_LANES);
            UNROLL for (int c = 0; c < nc; c++) {
                vf xk = vf_set1(t->x[c][k]);
                UNROLL for (int p = 0; p < FLOAT_PARTS; p++) sum[c][p] = vf_fma(v[p], xk, sum[c][p]);
            }
        }
        UNROLL for (int c = 0; c < nc; c++) UNROLL for (int p = 0; p < FLOAT_PARTS; p++) vf_store(out + c * GQA_PANEL + (p0 + p) * VF_LANES, sum[c][p]);
    }
}

/* ---- one function a type ----------------------------------------------------------------------------------------- */

typedef struct panel_kernels {
    void (*decode[3])(const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out); /* 1, 2, 4 columns of x */
    void (*unpack)(const uint8_t *panel, int k0, int k1, void *dst);
    void (*tile)(const void *w, int n_k, const acts_tile *t, float *out, int add_to); /* MATMUL_NC columns */
} panel_kernels;

#define DECODE(name, body, type, nc) \
    static void name##_decode_##nc(const uint8_t *panel, const gqa_acts *a, int cols, int first, float *out) { \
        body(type, nc, panel, a, cols, first, out); \
    }
#define KERNELS(name, body, type) \
    DECODE(name, body, type, 1) DECODE(name, body, type, 2) DECODE(name, body, type, 4) \
    static void name##_unpack(const uint8_t *panel, int k0, int k1, void *dst)
#define TABLE(name, tile) \
    static const panel_kernels name##_kernels = {{name##_decode_1, name##_decode_2, name##_decode_4}, name##_unpack, tile};

#define FLOAT_TYPE(name, type) \
    KERNELS(name, decode_floats, type) { widen_floats(type, panel, k0, k1, dst); } \
    TABLE(name, floats_tile)
#define INT_TYPE(name, type) \
    KERNELS(name, decode_panel, type) { unpack_panel(type, panel, k0, k1, dst); } \
    static void name##_tile(const void *w, int n_k, const acts_tile *t, float *out, int add_to) { \
        multiply_unpacked(type, w, n_k, t, out, add_to); \
    } \
    TABLE(name, name##_tile)

static void floats_tile(const void *w, int n_k, const acts_tile *t, float *out, int add_to) { multiply_floats(MATMUL_NC, w, n_k, t, out, add_to); }
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

/* Copies a tile [nc][16] to or from y, where the last panel may have fewer rows. */
static void move_tile(float *tile, float *y, size_t ldy, int nc, int rows, int to_y) {
    for (int c = 0; c < nc; c++) {
        if (to_y) memcpy(y + (size_t)c * ldy, tile + c * GQA_PANEL, sizeof(float) * (size_t)rows);
        else memcpy(tile + c * GQA_PANEL, y + (size_t)c * ldy, sizeof(float) * (size_t)rows);
    }
}

static void matmul_unit(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy, int unit, void *scratch) {
    const panel_kernels *kernels = kernels_of(w->type);
    const size_t chunk = sizeof(unpacked) > sizeof(float) * MATMUL_KC * GQA_PANEL ? sizeof(unpacked) : sizeof(float) * MATMUL_KC * GQA_PANEL;
    int p0 = unit * GQA_UNIT_PANELS, count = gqa_matrix_panels(w) - p0 < GQA_UNIT_PANELS ? gqa_matrix_panels(w) - p0 : GQA_UNIT_PANELS;
    const uint8_t *panels[GQA_UNIT_PANELS];
    float tile[MATMUL_NC * GQA_PANEL] = {0};
    uint8_t *room = (uint8_t *)scratch + chunk * GQA_UNIT_PANELS;
    for (int p = 0; p < count; p++) {
        size_t bytes = gqa_panel_bytes(w->type, w->cols);
        panels[p] = w->packed ? w->packed + (size_t)(p0 + p) * bytes : room + (size_t)p * bytes;
        if (!w->packed) gqa_pack_panel(w, p0 + p, room + (size_t)p * bytes);
    }
#define ROWS(p) (w->rows - (p0 + (p)) * GQA_PANEL < GQA_PANEL ? w->rows - (p0 + (p)) * GQA_PANEL : GQA_PANEL)
    int tiled = n <= MATMUL_DECODE ? 0 : n - n % MATMUL_NC; /* columns in whole tiles; the others as in decoding */
    for (int p = 0; p < count; p++)
        for (int i = tiled, nc; i < n; i += nc) {
            nc = n - i >= 4 ? 4 : n - i >= 2 ? 2 : 1;
            kernels->decode[nc / 2](panels[p], a, w->cols, i, tile);
            move_tile(tile, y + (size_t)i * ldy + (p0 + p) * GQA_PANEL, ldy, nc, ROWS(p), 1);
        }
    for (int k0 = 0; k0 < w->cols && tiled; k0 += MATMUL_KC) {
        int k1 = k0 + MATMUL_KC < w->cols ? k0 + MATMUL_KC : w->cols;
        for (int p = 0; p < count; p++) kernels->unpack(panels[p], k0, k1, (uint8_t *)scratch + (size_t)p * chunk);
        for (int i = 0; i < tiled; i += MATMUL_NC) {
            acts_tile x;
            copy_tile(&x, a, w->type, i, k0, k1);
            for (int p = 0; p < count; p++) {
                float *at = y + (size_t)i * ldy + (p0 + p) * GQA_PANEL;
                if (k0) move_tile(tile, at, ldy, MATMUL_NC, ROWS(p), 0);
                kernels->tile((const uint8_t *)scratch + (size_t)p * chunk, k1 - k0, &x, tile, k0 > 0);
                move_tile(tile, at, ldy, MATMUL_NC, ROWS(p), 1);
            }
        }
    }
#undef ROWS
}
