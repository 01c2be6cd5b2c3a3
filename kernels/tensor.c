/* tensor.c: element types and their exact meaning. Every block format is drawn beside the loop that
 * reads it; these plain loops are what the fast kernels are tested against.
 *
 * Formats by G. Gerganov and I. Kawrakow (GGML); d and dmin are f16. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "../base/base.h"
#include "tensor.h"

static const gqa_type_info types[] = {
    {"f32", GQA_TYPE_F32, 1, 4},
    {"f16", GQA_TYPE_F16, 1, 2},
    {"bf16", GQA_TYPE_BF16, 1, 2},
    {"q8_0", GQA_TYPE_Q8_0, 32, 34},
    {"q4_0", GQA_TYPE_Q4_0, 32, 18},
    {"q4_1", GQA_TYPE_Q4_1, 32, 20},
    {"q5_0", GQA_TYPE_Q5_0, 32, 22},
    {"q5_1", GQA_TYPE_Q5_1, 32, 24},
    {"q2_k", GQA_TYPE_Q2_K, 256, 84},
    {"q3_k", GQA_TYPE_Q3_K, 256, 110},
    {"q4_k", GQA_TYPE_Q4_K, 256, 144},
    {"q5_k", GQA_TYPE_Q5_K, 256, 176},
    {"q6_k", GQA_TYPE_Q6_K, 256, 210},
    {"iq4_nl", GQA_TYPE_IQ4_NL, 32, 18},
    {"iq4_xs", GQA_TYPE_IQ4_XS, 256, 136},
};
enum { N_TYPES = array_length(types) };

const gqa_type_info *gqa_type_info_of(int type) {
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].type == type) return &types[i];
    return NULL;
}

const char *gqa_type_name(int type) {
    const gqa_type_info *t = gqa_type_info_of(type);
    return t ? t->name : NULL;
}

void gqa_type_names(char *out, size_t capacity) {
    size_t used = 0;
    for (int i = 0; i < N_TYPES && used < capacity; i++)
        used += (size_t)snprintf(out + used, capacity - used, "%s%s", i ? ", " : "", types[i].name);
}

int gqa_type_from_name(const char *name) {
    for (int i = 0; i < N_TYPES; i++) {
        const char *a = name, *b = types[i].name;
        while (*a && tolower((unsigned char)*a) == *b) {
            a++;
            b++;
        }
        if (!*a && !*b) return types[i].type;
    }
    return -1;
}

const char *gqa_foreign_type_name(int type) {
    static const char *const names[] = {
        "f32",  "f16",   "q4_0",  "q4_1",    "q4_2",   "q4_3",     "q5_0",     "q5_1",     "q8_0",
        "q8_1", "q2_k",  "q3_k",  "q4_k",    "q5_k",   "q6_k",     "q8_k",     "iq2_xxs",  "iq2_xs",
        "iq3_xxs", "iq1_s", "iq4_nl", "iq3_s", "iq2_s", "iq4_xs",  "i8",       "i16",      "i32",
        "i64",  "f64",   "iq1_m", "bf16",    "q4_0_4_4", "q4_0_4_8", "q4_0_8_8", "tq1_0",  "tq2_0",
        "iq4_nl_4_4", "iq4_nl_4_8", "iq4_nl_8_8", "mxfp4", "nvfp4",
    };
    enum { N_NAMES = array_length(names) };
    return type >= 0 && type < N_NAMES ? names[type] : NULL;
}

uint64_t gqa_type_bytes(int type, uint64_t n) {
    const gqa_type_info *t = gqa_type_info_of(type);
    uint64_t bytes;
    if (!t || n % t->block || gqa_mul_size(n / t->block, t->bytes, &bytes)) return 0;
    return bytes;
}

/* ---- 16-bit floats -------------------------------------------------------------------------- */

static float bits_to_float(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static uint32_t float_to_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* sign 1, exponent 5 (bias 15), mantissa 10; exponent 0 is denormal: mantissa * 2^-24. */
float gqa_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3FF;
    uint32_t quiet = mantissa ? 0x400000 : 0;
    if (exponent == 31) return bits_to_float(sign | 0x7F800000 | mantissa << 13 | quiet);
    if (exponent) return bits_to_float(sign | (exponent + 112) << 23 | mantissa << 13);
    float tiny = (float)mantissa * 0x1p-24f;
    return sign ? -tiny : tiny;
}

uint16_t gqa_f32_to_f16(float f) {
    uint32_t u = float_to_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (a >> 13 & 0x3FF)); /* NaN */
    if (a >= 0x47800000) return (uint16_t)(sign | 0x7C00); /* 65536 and above: infinity */
    if (a < 0x38800000) { /* below 2^-14: denormal */
        /* the addition rounds to a multiple of 2^-24, to nearest even */
        float magic = bits_to_float(a) + 0.5f;
        return (uint16_t)(sign | (float_to_bits(magic) - float_to_bits(0.5f)));
    }
    a += 0xFFF + (a >> 13 & 1); /* to nearest even; may carry into the exponent, up to infinity */
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

uint16_t gqa_f32_to_bf16(float f) {
    uint32_t u = float_to_bits(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

static float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return gqa_f16_to_f32(h);
}

/* ---- blocks --------------------------------------------------------------------------------- */

static void read_f16(const uint8_t *b, float *x) { *x = half_at(b); }
static void read_bf16(const uint8_t *b, float *x) {
    uint16_t h;
    memcpy(&h, b, 2);
    *x = gqa_bf16_to_f32(h);
}

/* d(2) qs(32): x[i] = d * qs[i], qs signed. */
static void read_q8_0(const uint8_t *b, float *x) {
    float d = half_at(b);
    for (int i = 0; i < 32; i++) x[i] = d * (float)(int8_t)b[2 + i];
}

/* d(2) qs(16): low nibbles are values 0..15, high nibbles 16..31. x[i] = d * (q[i] - 8). */
static void read_q4_0(const uint8_t *b, float *x) {
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        x[i] = d * (float)((b[2 + i] & 15) - 8);
        x[i + 16] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

/* d(2) qh(4) qs(16): as q4_0, bit i of the 32-bit qh is the fifth bit of value i.
 * x[i] = d * (q[i] - 16). */
static void read_q5_0(const uint8_t *b, float *x) {
    float d = half_at(b);
    for (int i = 0; i < 16; i++) {
        int high0 = b[2 + i / 8] >> (i % 8) & 1, high1 = b[4 + i / 8] >> (i % 8) & 1;
        x[i] = d * (float)(((b[6 + i] & 15) | high0 << 4) - 16);
        x[i + 16] = d * (float)(((b[6 + i] >> 4) | high1 << 4) - 16);
    }
}

/* d(2) m(2) [qh(4)] qs(16): as q4_0 and q5_0. x[i] = d * q[i] + m. */
static void read_q45_1(const uint8_t *b, float *x, int five) {
    const uint8_t *qh = b + 4, *qs = b + (five ? 8 : 4);
    float d = half_at(b), m = half_at(b + 2);
    for (int i = 0; i < 32; i++) {
        int q = qs[i % 16] >> (i / 16 * 4) & 15;
        if (five) q |= (qh[i / 8] >> (i % 8) & 1) << 4;
        x[i] = d * (float)q + m;
    }
}
static void read_q4_1(const uint8_t *b, float *x) { read_q45_1(b, x, 0); }
static void read_q5_1(const uint8_t *b, float *x) { read_q45_1(b, x, 1); }

/* q2_k: scales(16) qs(64) d(2) dmin(2); x = d * (scales & 15) * q - dmin * (scales >> 4).
 * q3_k: hmask(32) qs(64) scales(12) d(2); x = d * scale * (q - 4).
 * One scale for 16 values. qs as the upper bits of q6_k; bit s of hmask[i] is the third bit of
 * value i of 32-value sub-block s. */
static void read_q23_k(const uint8_t *b, float *x, int three) {
    const uint8_t *qs = b + (three ? 32 : 16);
    float d = half_at(b + (three ? 108 : 80)), dmin = three ? 0 : half_at(b + 82);
    uint8_t scales[4][16];
    gqa_k_scales(three ? GQA_TYPE_Q3_K : GQA_TYPE_Q2_K, b, 0, scales);
    for (int v = 0; v < 256; v++) {
        int q = qs[v / 128 * 32 + v % 32] >> (v % 128 / 32 * 2) & 3, scale = scales[0][v / 16];
        if (three) q += (b[v % 32] >> (v / 32) & 1) * 4 - 4;
        float ds = d * (float)(three ? (int8_t)scale : scale & 15);
        x[v] = ds * (float)q;
        if (!three) x[v] -= dmin * (float)(scale >> 4);
    }
}
static void read_q2_k(const uint8_t *b, float *x) { read_q23_k(b, x, 0); }
static void read_q3_k(const uint8_t *b, float *x) { read_q23_k(b, x, 1); }

/* d(2) dmin(2) scales(12) [qh(32)] qs(128): 8 sub-blocks of 32. qs byte 32*j + i: low nibble is
 * value i of sub-block 2j, high nibble value i of 2j + 1; bit s of qh[i] is the fifth bit of
 * value i of sub-block s (q5_k). x = d * scale[s] * q - dmin * min[s]. */
static void read_q45_k(const uint8_t *b, float *x, int five) {
    float d = half_at(b), dmin = half_at(b + 2);
    const uint8_t *qh = b + 16, *qs = b + 16 + (five ? 32 : 0);
    uint8_t scales[4][16];
    gqa_k_scales(GQA_TYPE_Q4_K, b, 0, scales);
    for (int s = 0; s < 8; s++) {
        float ds = d * (float)scales[0][s], ms = dmin * (float)scales[0][8 + s];
        for (int i = 0; i < 32; i++) {
            int q = qs[s / 2 * 32 + i] >> (s % 2 * 4) & 15;
            if (five) q |= (qh[i] >> s & 1) << 4;
            x[s * 32 + i] = ds * (float)q - ms;
        }
    }
}

static void read_q4_k(const uint8_t *b, float *x) { read_q45_k(b, x, 0); }
static void read_q5_k(const uint8_t *b, float *x) { read_q45_k(b, x, 1); }

/* ql(128) qh(64) scales(16, signed) d(2): two halves of 128; in a half, quarter k = 0..3 holds 32
 * values. Value i of quarter k: low 4 bits in ql[half][k % 2 * 32 + i], low nibble for k < 2, else
 * the high one; upper 2 bits in bits 2k of qh[half][i]. One scale for 16 values.
 * x = d * scale * (q - 32). */
static void read_q6_k(const uint8_t *b, float *x) {
    float d = half_at(b + 208);
    for (int v = 0; v < 256; v++) {
        int half = v / 128, k = v % 128 / 32, i = v % 32;
        int low = b[half * 64 + k % 2 * 32 + i] >> (k / 2 * 4) & 15;
        int high = b[128 + half * 32 + i] >> (2 * k) & 3;
        x[v] = d * (float)(int8_t)b[192 + v / 16] * (float)((low | high << 4) - 32);
    }
}

const int8_t gqa_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

/* iq4_nl: d(2) qs(16), as q4_0. x[i] = d * level of q[i]. */
static void read_levels(float d, const uint8_t *qs, float *x) {
    for (int i = 0; i < 32; i++)
        x[i] = d * (float)gqa_iq4_levels[qs[i % 16] >> (i / 16 * 4) & 15];
}
static void read_iq4_nl(const uint8_t *b, float *x) { read_levels(half_at(b), b + 2, x); }

/* d(2) scales(6) qs(128): eight sub-blocks of 32 as iq4_nl. x = d * scale * level. */
static void read_iq4_xs(const uint8_t *b, float *x) {
    uint8_t scales[4][16];
    gqa_k_scales(GQA_TYPE_IQ4_XS, b, 0, scales);
    for (int s = 0; s < 8; s++)
        read_levels(half_at(b) * (float)(int8_t)scales[0][s], b + 8 + 16 * s, x + 32 * s);
}

typedef void read_block(const uint8_t *b, float *x);
static read_block *reader_of(int type) {
    switch (type) {
    case GQA_TYPE_F16: return read_f16;
    case GQA_TYPE_BF16: return read_bf16;
    case GQA_TYPE_Q8_0: return read_q8_0;
    case GQA_TYPE_Q4_0: return read_q4_0;
    case GQA_TYPE_Q4_1: return read_q4_1;
    case GQA_TYPE_Q5_0: return read_q5_0;
    case GQA_TYPE_Q5_1: return read_q5_1;
    case GQA_TYPE_Q2_K: return read_q2_k;
    case GQA_TYPE_Q3_K: return read_q3_k;
    case GQA_TYPE_Q4_K: return read_q4_k;
    case GQA_TYPE_Q5_K: return read_q5_k;
    case GQA_TYPE_Q6_K: return read_q6_k;
    case GQA_TYPE_IQ4_NL: return read_iq4_nl;
    case GQA_TYPE_IQ4_XS: return read_iq4_xs;
    default: return NULL;
    }
}

void gqa_dequantize(int type, const void *src, float *dst, size_t n) {
    const gqa_type_info *t = gqa_type_info_of(type);
    read_block *read = reader_of(type);
    const uint8_t *b = src;
    if (type == GQA_TYPE_F32) memcpy(dst, src, n * sizeof(float));
    if (!read) return;
    const size_t block = t->block;
    for (size_t i = 0; i + block <= n; i += block, b += t->bytes) read(b, dst + i);
}
