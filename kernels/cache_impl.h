/* cache_impl.h: the KV cache: its tiles, how they are written, and how they become numbers again.
 *
 * A tile holds 32 positions of one KV head. K has the position as its fastest index, so that a
 * vector of K is one dimension of several positions and q.k needs no horizontal sum; V has the
 * dimension fastest, so that p V needs none. vd is head_dim rounded up to 16. Quantised codes are
 * in pairs of what is summed over, for vi_dot16: two dimensions of K, two positions of V.
 *
 *   K tile   f32, f16, bf16: [head_dim][32]
 *            q8_0: for 32 dimensions: f16 scale[32 positions], i8 [16 pairs][32 positions][2]
 *            q4_0: the same, u8 [8][32][2]: low nibble dimension i, high nibble i + 16;
 *                  value = scale * (q - 8)
 *   V tile   f32, f16, bf16: [32][vd]
 *            q8_0: i8 [16 pairs][head_dim][2 positions], then f16 scale [head_dim / 32][32]
 *            q4_0: u8 [16 pairs][head_dim / 2][2], then the scales; nibbles as in K
 *
 * In q8_0 and q4_0 vectors are rotated (below): the largest of 32 values sets their scale. Where a
 * head has no multiple of 32 numbers zeros follow; head_dim stands for both.
 *
 * With shared_dim (deepseek2, gta) a position has a row t for each head and a row r for all heads:
 * V = t, K = [the first head_dim - shared_dim numbers of t | r]. Both are stored like K: t
 * [value_dim] in the head's K tile, r [shared_dim] in the V tile of head 0, the only one. They are
 * rotated where both are multiples of 32: K must be made of whole rotated blocks. */

static inline uint8_t *k_tile(const gqa_kv *kv, int kv_head, int tile) {
    return kv->k + gqa_kv_tile_index(kv, kv_head, tile) * kv->k_tile_bytes;
}
static inline uint8_t *v_tile(const gqa_kv *kv, int kv_head, int tile) {
    return kv->v + gqa_kv_tile_index(kv, kv_head, tile) * kv->v_tile_bytes;
}

/* ---- rotation ------------------------------------------------------------------------------- */

static inline int is_rotated(int type) { return type == GQA_TYPE_Q8_0 || type == GQA_TYPE_Q4_0; }
static inline size_t stored_dim(int type, size_t d) {
    return is_rotated(type) ? round_up(d, 32) : d;
}

typedef float vf4 __attribute__((vector_size(16)));
static inline vf4 vf4_load(const float *p) {
    vf4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vf4_store(float *p, vf4 v) { memcpy(p, &v, sizeof v); }

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
 * of two that divides dim, which is rotated_dim(); by nothing where that is less than 32: y_i =
 * sum_j (-1)^popcount(i & j) x_j / sqrt(n), with bits 0, 1 and 2, 3 of i exchanged. The matrix R is
 * its own inverse, so (R q)(R k) = q k and R sum(p R v) = sum(p v): attention is the same, but a
 * channel with large values is spread over n, and coarse scales of blocks cost less (QuaRot,
 * Ashkboos et al. 2024, 2404.00456). */
static void hadamard(float *x, size_t count, size_t dim) {
    const size_t n = dim & (~dim + 1);
    const vf scale = vf_set1(0.70710678f); /* 1 / sqrt(2) */
    if (n < 32) return;
    for (size_t i = 0; i < count; i += 16) {
        hadamard_4(x + i);
        gqa_transpose_words(x + i, 4 * sizeof *x, x + i, 4 * sizeof *x);
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

/* What is stored of a head; with shared_dim, a number whose powers of two divide t's and r's
 * widths. */
static inline size_t rotated_dim(const gqa_kv *kv) {
    if (kv->shared_dim) return kv->value_dim | kv->shared_dim;
    return round_up(kv->value_dim, 32);
}

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
    const size_t stored = round_up(d, 32);
    memcpy(rotated, x, sizeof(float) * d);
    memset(rotated + d, 0, sizeof(float) * (stored - d));
    hadamard(rotated, stored, dim);
    if (type != GQA_TYPE_Q4_0) gqa_quantize(type, rotated, blocks, stored);
    else for (size_t b = 0; b < stored / 32; b++) quantize_q4(rotated + 32 * b, blocks + 18 * b);
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
        for (size_t i0 = 0; i0 < d; i0 += 32, block += 2 + codes) {
            memcpy(tile + 2 * lane, block, 2);
            for (size_t i = 0; i < codes; i++)
                tile[64 + i / 2 * 2 * GQA_KV_TILE + 2 * lane + i % 2] = block[2 + i];
            tile += 64 + codes * GQA_KV_TILE;
        }
    }
}

static void append_v(int type, uint8_t *tile, size_t lane, const float *v, size_t d, size_t dim) {
    uint8_t blocks[GQA_MAX_HEAD_DIM / 32 * 34], *block = blocks;
    const size_t vd = round_up(d, 16), codes = codes_of(type), n = round_up(d, 32) / 32;
    if (type == GQA_TYPE_F32) {
        memcpy((float *)tile + lane * vd, v, sizeof(float) * d);
    } else if (!is_rotated(type)) {
        narrow_head(type, v, d, (uint16_t *)tile + lane * vd);
    } else {
        uint8_t *scales = tile + GQA_KV_TILE * n * codes + 2 * lane;
        uint8_t *to = tile + lane / 2 * 2 * n * codes + lane % 2;
        quantize_head(type, v, d, dim, blocks);
        for (size_t b = 0; b < n; b++, block += 2 + codes, to += 2 * codes) {
            memcpy(scales + 2 * GQA_KV_TILE * b, block, 2);
            for (size_t i = 0; i < codes; i++) to[2 * i] = block[2 + i];
        }
    }
}

static void kernel_kv_append(gqa_kv *kv, int kv_head, int position, const float *k,
                             const float *v) {
    const int tile = position / GQA_KV_TILE, lane = position % GQA_KV_TILE;
    const size_t dim = rotated_dim(kv);
    append_k(kv->k_type, k_tile(kv, kv_head, tile), lane, k, kv->value_dim, dim);
    if (!kv->shared_dim)
        append_v(kv->v_type, v_tile(kv, kv_head, tile), lane, v, kv->head_dim, dim);
    else if (kv_head == 0)
        append_k(kv->k_type, v_tile(kv, 0, tile), lane, v, kv->shared_dim, dim);
}

/* ---- q4_0 as q8_0 --------------------------------------------------------------------------- */

/* Nibbles [bytes] as signed bytes: the lower ones, then the upper ones. */
static void unpack_nibbles(const uint8_t *nibbles, size_t bytes, uint8_t *out) {
    static const int8_t values[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    const vi low = vi_set1(0x0F0F0F0F);
    for (size_t i = 0; i < bytes; i += 4 * VF_LANES) {
        vi pairs = vi_load(nibbles + i);
        vi_store(out + i, vi_lookup(values, vi_and(pairs, low)));
        vi_store(out + bytes + i, vi_lookup(values, vi_and(vi_shr(pairs, 4), low)));
    }
}

/* K's tile in q4_0 as one in q8_0. */
static void unpack_k(const uint8_t *tile, size_t d, uint8_t *out) {
    const size_t bytes = GQA_KV_TILE * 16;
    for (size_t b = 0; b < d / 32; b++, tile += 64 + bytes, out += 64 + 2 * bytes) {
        memcpy(out, tile, 64);
        unpack_nibbles(tile + 64, bytes, out + 64);
    }
}

/* ---- tiles as floats ------------------------------------------------------------------------ */

/* A K tile in q8_0 as floats [d][32]; d is even. */
static void widen_k(const uint8_t *tile, int d, float *out) {
    const vi zero = vi_set1(0), even = vi_set1(1), odd = vi_set1(1 << 16);
    for (int left = d; left > 0; left -= 32, tile += 64 + 32 * GQA_KV_TILE)
        for (int i = 0; i < 32 && i < left; i += 2, out += 2 * GQA_KV_TILE)
            for (int p = 0; p < GQA_KV_TILE; p += VF_LANES) {
                vi pair = vi_load_pairs(tile + 64 + i * GQA_KV_TILE + 2 * p);
                vf scale = vf_load_f16((const uint16_t *)tile + p);
                vf first = vf_from_vi(vi_dot16(zero, pair, even));
                vf second = vf_from_vi(vi_dot16(zero, pair, odd));
                vf_store(out + p, vf_mul(scale, first));
                vf_store(out + GQA_KV_TILE + p, vf_mul(scale, second));
            }
}

/* A tile of any type and K's layout as floats [d][32], at out. */
static void k_as_floats(int type, const uint8_t *tile, int d, float *out) {
    const int n = d * GQA_KV_TILE, is_f16 = type == GQA_TYPE_F16;
    const uint16_t *halves = (const uint16_t *)tile;
    if (type == GQA_TYPE_F32) memcpy(out, tile, sizeof(float) * n);
    else if (type == GQA_TYPE_Q8_0) widen_k(tile, d, out);
    else if (type == GQA_TYPE_Q4_0)
        for (int i = 0; i < d; i += 32, tile += 64 + 16 * GQA_KV_TILE) {
            uint8_t block[64 + 32 * GQA_KV_TILE];
            unpack_k(tile, 32, block);
            widen_k(block, min_int(d - i, 32), out + i * GQA_KV_TILE);
        }
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
            gqa_transpose_words(v + t * d + i, (size_t)d * sizeof *v, k + i * GQA_KV_TILE + t,
                                GQA_KV_TILE * sizeof *k);
    k_as_floats(kv->k_type, v_tile(kv, 0, tile), kv->shared_dim, k + own * GQA_KV_TILE);
}
