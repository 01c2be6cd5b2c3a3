/* quantize.c: from floats to blocks (tensor.c draws them), of weights and of the KV cache. The
 * simple types round as GGML's reference does; the K types choose each sub-block's scale and
 * minimum by weighted least squares over a few candidates. */
#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "tensor.h"

static void put_half(uint8_t *p, float f) {
    uint16_t h = gqa_f32_to_f16(f);
    memcpy(p, &h, 2);
}

static void write_f32(const float *x, uint8_t *b) { memcpy(b, x, 4); }
static void write_f16(const float *x, uint8_t *b) { put_half(b, *x); }
static void write_bf16(const float *x, uint8_t *b) {
    uint16_t h = gqa_f32_to_bf16(*x);
    memcpy(b, &h, 2);
}

/* Rounds to nearest and clamps; NaN gives low. */
static int round_clamped(float x, int low, int high) {
    if (!(x > (float)low)) return low;
    if (x >= (float)high) return high;
    return (int)lrintf(x);
}

/* ---- blocks of 32 --------------------------------------------------------------------------- */

/* The value of largest magnitude; 0 if all are 0 or NaN. */
static float largest(const float *x, int n) {
    float top = 0, with_sign = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > top) {
            top = fabsf(x[i]);
            with_sign = x[i];
        }
    return with_sign;
}

/* To nearest, halves away from zero; NaN gives -127. In double, where q + 0.5 is exact: roundf is
 * slower, and every token's K and V pass here when the cache is q8_0. */
static void write_q8_0(const float *x, uint8_t *b) {
    float d = fabsf(largest(x, 32)) / 127, inverse = d > 0 ? 1 / d : 0;
    put_half(b, d);
    for (int i = 0; i < 32; i++) {
        float q = x[i] * inverse;
        double rounded = (double)q + (q < 0 ? -0.5 : 0.5);
        b[2 + i] = (uint8_t)(int8_t)(q > 127 ? 127 : q > -127 ? rounded : -127);
    }
}

/* The value of largest magnitude gets the code -half exactly; the others are truncated after adding
 * half + 0.5. */
static void codes_0(const float *x, int half, float *d, uint8_t q[32]) {
    *d = largest(x, 32) / (float)-half;
    float inverse = *d != 0 ? 1 / *d : 0;
    for (int i = 0; i < 32; i++) {
        float v = x[i] * inverse + (float)half + 0.5f;
        q[i] = (uint8_t)(v > 0 ? v < (float)(2 * half - 1) ? v : (float)(2 * half - 1) : 0);
    }
}

/* head: the bytes of d, and of m in q4_1 and q5_1. */
static void put_codes(const uint8_t q[32], uint8_t *b, int head, int five) {
    uint32_t high = 0;
    for (int i = 0; i < 32; i++) high |= (uint32_t)(q[i] >> 4) << i;
    if (five) memcpy(b + head, &high, 4);
    for (int i = 0, at = head + (five ? 4 : 0); i < 16; i++)
        b[at + i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void write_q45_0(const float *x, uint8_t *b, int five) {
    float d;
    uint8_t q[32];
    codes_0(x, five ? 16 : 8, &d, q);
    put_half(b, d);
    put_codes(q, b, 2, five);
}
static void write_q4_0(const float *x, uint8_t *b) { write_q45_0(x, b, 0); }
static void write_q5_0(const float *x, uint8_t *b) { write_q45_0(x, b, 1); }

/* The smallest value gets the code 0, the largest the highest; halves go up. */
static void write_q45_1(const float *x, uint8_t *b, int five) {
    const float top = five ? 31 : 15;
    float low = x[0], high = x[0];
    uint8_t q[32];
    for (int i = 1; i < 32; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float d = (high - low) / top, inverse = d != 0 ? 1 / d : 0;
    put_half(b, d);
    put_half(b + 2, low);
    for (int i = 0; i < 32; i++) {
        float v = (x[i] - low) * inverse + 0.5f;
        q[i] = (uint8_t)(v > 0 ? v < top ? v : top : 0);
    }
    put_codes(q, b, 4, five);
}
static void write_q4_1(const float *x, uint8_t *b) { write_q45_1(x, b, 0); }
static void write_q5_1(const float *x, uint8_t *b) { write_q45_1(x, b, 1); }

/* ---- q4_k, q5_k: x = scale * q - min, q in 0..top, min >= 0 --------------------------------- */

/* A sub-block of 32 values with its weights, as loops over four lanes, which every compiler makes
 * vectors of: quantising a model spends its time here. */
typedef struct affine_fit {
    const float *x;
    float weight[32], w, wx; /* sums of the weights, and of the weights times x */
} affine_fit;

static float sum_of_four(const float lane[4]) {
    return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

/* Error of codes q against x with the best scale and min for them, which are written. */
static float fit_affine(const affine_fit *f, const float *q, float *scale, float *min) {
    float q_lanes[4] = {0}, qq_lanes[4] = {0}, qx_lanes[4] = {0}, error[4] = {0};
    for (int i = 0; i < 32; i += 4)
        for (int j = 0; j < 4; j++) {
            float wq = f->weight[i + j] * q[i + j];
            q_lanes[j] += wq;
            qq_lanes[j] += wq * q[i + j];
            qx_lanes[j] += wq * f->x[i + j];
        }
    float wq = sum_of_four(q_lanes), wqq = sum_of_four(qq_lanes), wqx = sum_of_four(qx_lanes);
    float det = f->w * wqq - wq * wq;
    if (det <= 0) return INFINITY;
    *scale = (f->w * wqx - f->wx * wq) / det;
    *min = (wq * wqx - wqq * f->wx) / det; /* of x = scale q - min */
    if (*min < 0) {
        *min = 0;
        *scale = wqq > 0 ? wqx / wqq : 0;
    }
    const float s = *scale, m = *min;
    for (int i = 0; i < 32; i += 4)
        for (int j = 0; j < 4; j++) {
            float e = s * q[i + j] - m - f->x[i + j];
            error[j] += f->weight[i + j] * e * e;
        }
    return sum_of_four(error);
}

static void best_affine(const float *x, int top, float *scale, float *min) {
    float low = x[0], high = x[0], square = 0, best = INFINITY;
    affine_fit f = {.x = x};
    for (int i = 0; i < 32; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        square += x[i] * x[i];
    }
    if (low > 0) low = 0;
    *scale = (high - low) / (float)top;
    *min = -low;
    if (!(high > low) || !(square < INFINITY)) return; /* NaN and inf too: none reaches the loop */
    for (int i = 0; i < 32; i++) {
        f.weight[i] = sqrtf(square / 32) + fabsf(x[i]);
        f.w += f.weight[i];
        f.wx += f.weight[i] * x[i];
    }
    for (int step = -10; step <= 10; step++) {
        float inverse = ((float)top + 0.1f * (float)step) / (high - low), s = 0, m = 0, q[32];
        int code[32];
        for (int i = 0; i < 32; i++) code[i] = (int)((x[i] - low) * inverse + 0.5f);
        for (int i = 0; i < 32; i++) code[i] = min_int(code[i], top);
        for (int i = 0; i < 32; i++) q[i] = (float)code[i]; /* not negative */
        float error = fit_affine(&f, q, &s, &m);
        if (error < best) {
            best = error;
            *scale = s;
            *min = m;
        }
    }
}

static void write_q45_k(const float *x, uint8_t *b, int five) {
    int top = five ? 31 : 15;
    float scale[8], min[8], max_scale = 0, max_min = 0;
    uint8_t *packed = b + 4, *qh = b + 16, *qs = b + (five ? 48 : 16), sc[8], mn[8];
    for (int s = 0; s < 8; s++) {
        best_affine(x + 32 * s, top, &scale[s], &min[s]);
        if (scale[s] > max_scale) max_scale = scale[s];
        if (min[s] > max_min) max_min = min[s];
    }
    memset(b, 0, five ? 176 : 144);
    put_half(b, max_scale / 63);
    put_half(b + 2, max_min / 63);
    for (int s = 0; s < 8; s++) {
        sc[s] = (uint8_t)round_clamped(max_scale > 0 ? scale[s] * 63 / max_scale : 0, 0, 63);
        mn[s] = (uint8_t)round_clamped(max_min > 0 ? min[s] * 63 / max_min : 0, 0, 63);
    }
    for (int s = 0; s < 4; s++) {
        packed[s] = (uint8_t)(sc[s] | sc[s + 4] >> 4 << 6);
        packed[s + 4] = (uint8_t)(mn[s] | mn[s + 4] >> 4 << 6);
        packed[s + 8] = (uint8_t)((sc[s + 4] & 15) | (mn[s + 4] & 15) << 4);
    }
    uint16_t hd, hm;
    memcpy(&hd, b, 2);
    memcpy(&hm, b + 2, 2);
    for (int s = 0; s < 8; s++) {
        float d = gqa_f16_to_f32(hd) * (float)sc[s], m = gqa_f16_to_f32(hm) * (float)mn[s];
        for (int i = 0; i < 32; i++) {
            int q = d > 0 ? round_clamped((x[32 * s + i] + m) / d, 0, top) : 0;
            qs[s / 2 * 32 + i] |= (uint8_t)((q & 15) << (s % 2 * 4));
            if (five) qh[i] |= (uint8_t)(q >> 4 << s);
        }
    }
}

static void write_q4_k(const float *x, uint8_t *b) { write_q45_k(x, b, 0); }
static void write_q5_k(const float *x, uint8_t *b) { write_q45_k(x, b, 1); }

/* ---- q6_k: x = scale * q, q in -32..31, a scale for 16 -------------------------------------- */

static float best_scale(const float *x) {
    float top = largest(x, 16), best = 0, scale = 0;
    if (fabsf(top) < 1e-30f) return 0;
    for (int step = -9; step <= 9; step++) {
        float inverse = -(32 + 0.1f * (float)step) / top, wqx = 0, wqq = 0;
        for (int i = 0; i < 16; i++) {
            float q = (float)round_clamped(x[i] * inverse, -32, 31), weight = x[i] * x[i];
            wqx += weight * q * x[i];
            wqq += weight * q * q;
        }
        if (wqq > 0 && wqx * wqx > best * wqq) {
            best = wqx * wqx / wqq;
            scale = wqx / wqq;
        }
    }
    return scale;
}

static void write_q6_k(const float *x, uint8_t *b) {
    float scale[16];
    for (int s = 0; s < 16; s++) scale[s] = best_scale(x + 16 * s);
    memset(b, 0, 210);
    put_half(b + 208, largest(scale, 16) / -128);
    uint16_t h;
    memcpy(&h, b + 208, 2);
    const float d = gqa_f16_to_f32(h);
    for (int v = 0; v < 256; v++) {
        const int half = v / 128, k = v % 128 / 32, i = v % 32;
        int8_t sc = (int8_t)round_clamped(d != 0 ? scale[v / 16] / d : 0, -128, 127);
        float ds = d * (float)sc;
        int q = (ds != 0 ? round_clamped(x[v] / ds, -32, 31) : 0) + 32;
        b[192 + v / 16] = (uint8_t)sc;
        b[half * 64 + k % 2 * 32 + i] |= (uint8_t)((q & 15) << (k / 2 * 4));
        b[128 + half * 32 + i] |= (uint8_t)(q >> 4 << (2 * k));
    }
}

typedef void write_block(const float *x, uint8_t *b);
static write_block *writer_of(int type) {
    switch (type) {
    case GQA_TYPE_F32: return write_f32;
    case GQA_TYPE_F16: return write_f16;
    case GQA_TYPE_BF16: return write_bf16;
    case GQA_TYPE_Q8_0: return write_q8_0;
    case GQA_TYPE_Q4_0: return write_q4_0;
    case GQA_TYPE_Q4_1: return write_q4_1;
    case GQA_TYPE_Q5_0: return write_q5_0;
    case GQA_TYPE_Q5_1: return write_q5_1;
    case GQA_TYPE_Q4_K: return write_q4_k;
    case GQA_TYPE_Q5_K: return write_q5_k;
    case GQA_TYPE_Q6_K: return write_q6_k;
    default: return NULL;
    }
}

int gqa_can_quantize(int type) { return writer_of(type) != NULL; }

void gqa_quantize(int type, const float *x, void *dst, size_t n) {
    const gqa_type_info *t = gqa_type_info_of(type);
    write_block *write = writer_of(type);
    uint8_t *b = dst;
    if (!write) return;
    const size_t block = t->block;
    for (size_t i = 0; i + block <= n; i += block, b += t->bytes) write(x + i, b);
}
