/* reference_types.c: GGML's block formats, one number at a time, for the reference. */
#include "reference.h"

#include <math.h>
#include <string.h>

static double half_at(const uint8_t *p) { /* IEEE binary16 by its definition */
    int h = p[0] | p[1] << 8, e = h >> 10 & 31, f = h & 1023;
    double v = ldexp(1024 + f, e - 25);
    if (e == 0) v = ldexp(f, -24);
    if (e == 31) v = (double)(f ? NAN : INFINITY);
    return h & 0x8000 ? -v : v;
}

static double f16_value(const uint8_t *b, int i) { return half_at(b + 2 * i); }

static double bf16_value(const uint8_t *b, int i) { /* the upper half of a float */
    uint32_t u = (uint32_t)(b[2 * i] | b[2 * i + 1] << 8) << 16;
    float f;
    memcpy(&f, &u, 4);
    return (double)f;
}

static double f32_value(const uint8_t *b, int i) {
    float f;
    memcpy(&f, b + 4 * i, 4);
    return (double)f;
}

static double q4_0_value(const uint8_t *b, int i) { /* 18 bytes: d, q[16] */
    int q = b[2 + i % 16] >> (i >= 16 ? 4 : 0) & 15;
    return half_at(b) * (q - 8);
}

static double q5_0_value(const uint8_t *b, int i) { /* 22 bytes: d, high bits[4], q[16] */
    int low = b[6 + i % 16] >> (i >= 16 ? 4 : 0) & 15, high = b[2 + i / 8] >> (i % 8) & 1;
    return half_at(b) * ((low | high << 4) - 16);
}

static double q4_1_value(const uint8_t *b, int i) { /* 20 bytes: d, m, q[16] */
    return half_at(b) * (b[4 + i % 16] >> (i >= 16 ? 4 : 0) & 15) + half_at(b + 2);
}

static double q5_1_value(const uint8_t *b, int i) { /* 24 bytes: d, m, high bits[4], q[16] */
    int low = b[8 + i % 16] >> (i >= 16 ? 4 : 0) & 15, high = b[4 + i / 8] >> (i % 8) & 1;
    return half_at(b) * (low | high << 4) + half_at(b + 2);
}

static double q8_0_value(const uint8_t *b, int i) { /* 34 bytes: d, q[32] */
    return half_at(b) * (int8_t)b[2 + i];
}

/* Scale and minimum of sub-block j (0..7) of a q4_k or q5_k block: 6 bits each in 12 bytes. */
static void scale_min(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

static double q4_k_value(const uint8_t *b, int i) { /* 144 bytes: d, dmin, scales[12], q[128] */
    int scale, min, sub = i / 32;
    scale_min(b + 4, sub, &scale, &min);
    int v = b[16 + i / 64 * 32 + i % 32] >> (sub % 2 ? 4 : 0) & 15;
    return half_at(b) * scale * v - half_at(b + 2) * min;
}

/* 176 bytes: d, dmin, scales[12], high[32], q[128]. */
static double q5_k_value(const uint8_t *b, int i) {
    int scale, min, sub = i / 32;
    scale_min(b + 4, sub, &scale, &min);
    int v = b[48 + i / 64 * 32 + i % 32] >> (sub % 2 ? 4 : 0) & 15;
    v |= (b[16 + i % 32] >> sub & 1) << 4;
    return half_at(b) * scale * v - half_at(b + 2) * min;
}

/* 210 bytes: low[128], high[64], scales[16], d. */
static double q6_k_value(const uint8_t *b, int i) {
    int half = i / 128, j = i % 128;
    int low = b[half * 64 + j % 64] >> (j >= 64 ? 4 : 0) & 15;
    int high = b[128 + half * 32 + j % 32] >> (j / 32 * 2) & 3;
    return half_at(b + 208) * (int8_t)b[192 + i / 16] * ((low | high << 4) - 32);
}

/* 84 bytes: scales and minima[16], 4 bits each, q[64], d, dmin. */
static double q2_k_value(const uint8_t *b, int i) {
    int q = b[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3, s = b[i / 16];
    return half_at(b + 80) * (s & 15) * q - half_at(b + 82) * (s >> 4);
}

/* 110 bytes: high[32], low[64], scales[12], d. */
static double q3_k_value(const uint8_t *b, int i) {
    const uint8_t *s = b + 96;
    int j = i / 16, low = b[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
    int q = (b[i % 32] >> (i / 32) & 1) ? low : low - 4;
    int scale = (j < 8 ? s[j] & 15 : s[j - 8] >> 4) | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
    return half_at(b + 108) * (scale - 32) * q;
}

/* The four-bit codes of IQ4: a table of GGML. */
static int level(const uint8_t *q, int i) {
    static const int levels[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1, 13, 25, 38, 53, 69, 89, 113};
    return levels[q[i % 16] >> (i >= 16 ? 4 : 0) & 15];
}

static double iq4_nl_value(const uint8_t *b, int i) { /* 18 bytes: d, q[16] */
    return half_at(b) * level(b + 2, i);
}

static double iq4_xs_value(const uint8_t *b, int i) { /* 136 bytes: d, high[2], low[4], q[128] */
    int j = i / 32, low = b[4 + j / 2] >> (j % 2 * 4) & 15;
    int high = (b[2] | b[3] << 8) >> (2 * j) & 3;
    return half_at(b) * ((low | high << 4) - 32) * level(b + 8 + 16 * j, i % 32);
}

int ref_dequantize(int type, const void *stored, float *out, size_t n) {
    static const struct {
        int type;
        size_t block, bytes;
        double (*value)(const uint8_t *block, int i);
    } formats[] = {
        {0, 1, 4, f32_value},        {1, 1, 2, f16_value},        {30, 1, 2, bf16_value},
        {2, 32, 18, q4_0_value},     {3, 32, 20, q4_1_value},     {6, 32, 22, q5_0_value},
        {7, 32, 24, q5_1_value},     {8, 32, 34, q8_0_value},     {10, 256, 84, q2_k_value},
        {11, 256, 110, q3_k_value},  {12, 256, 144, q4_k_value},  {13, 256, 176, q5_k_value},
        {14, 256, 210, q6_k_value},  {20, 32, 18, iq4_nl_value},  {23, 256, 136, iq4_xs_value},
    };
    for (size_t k = 0; k < sizeof formats / sizeof formats[0]; k++) {
        size_t block = formats[k].block;
        const uint8_t *b = stored;
        if (formats[k].type != type) continue;
        for (size_t i = 0; i < n; i++)
            out[i] = (float)formats[k].value(b + i / block * formats[k].bytes, (int)(i % block));
        return 0;
    }
    return -1;
}
