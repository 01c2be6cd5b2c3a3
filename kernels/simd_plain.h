/* simd_plain.h: the vector operations for any CPU: GCC's and clang's vectors of four lanes. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../base/base.h"
#include "tensor.h"

#define VF_LANES 4
#define VF_REGISTERS 16
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16))); /* wraps around */

static inline vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf vf_set1(float x) { return (vf){x, x, x, x}; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vf_blend(vf a, vf b, vi take_b) {
    return (vf)(((vi)a & ~take_b) | ((vi)b & take_b));
}
static inline vf vf_max(vf a, vf b) { return vf_blend(b, a, a > b); }
static inline vf vf_min(vf a, vf b) { return vf_blend(b, a, a < b); }
static inline float vf_sum(vf a) { return (a[0] + a[1]) + (a[2] + a[3]); }
static inline float vf_hmax(vf a) {
    float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
}
static inline int vf_any_above(vf a, float x) { return vf_hmax(a) > x; }
static inline vi vi_load(const void *p) {
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vi_store(void *p, vi v) { memcpy(p, &v, sizeof v); }
static inline vi vi_set1(int32_t x) { return (vi){x, x, x, x}; }
static inline vi vi_add(vi a, vi b) { return (vi)((vu)a + (vu)b); }
static inline vf vf_from_vi(vi a) {
    return (vf){(float)a[0], (float)a[1], (float)a[2], (float)a[3]};
}

/* The cheapest int8 multiply-add, for peak_impl.h: here 4 integer products. */
#define VI_MAC8 4
static inline vi vi_mac8(vi acc, vi a, vi b) { return (vi)((vu)acc + (vu)a * (vu)b); }

/* p * 2^n, where the low bits of shifted = 1.5 * 2^23 + n hold n. */
static inline vf vf_scale2(vf p, vf shifted) {
    return (vf)((vi)p + (((vi)shifted - 0x4B400000) << 23));
}
/* Stores the low byte of every lane: the integer that adding 1.5 * 2^23 rounded to. */
static inline void vf_store_low_bytes(void *p, vf v) {
    vi n = (vi)v;
    int8_t bytes[4] = {(int8_t)n[0], (int8_t)n[1], (int8_t)n[2], (int8_t)n[3]};
    memcpy(p, bytes, 4);
}
/* The same with the low two bytes. */
static inline void vf_store_low_halves(void *p, vf v) {
    vi n = (vi)v;
    int16_t halves[4] = {(int16_t)n[0], (int16_t)n[1], (int16_t)n[2], (int16_t)n[3]};
    memcpy(p, halves, 8);
}
/* v where x >= low, else 0. */
static inline vf vf_keep_above(vf v, vf x, vf low) { return (vf)((vi)v & (x >= low)); }

/* Floats from and to narrower types; low4 and high4: the nibbles of a byte. */
static inline void vf_store_f16(uint16_t *p, vf v) {
    for (int i = 0; i < VF_LANES; i++) p[i] = gqa_f32_to_f16(v[i]);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return (vf){gqa_f16_to_f32(p[0]), gqa_f16_to_f32(p[1]),
                gqa_f16_to_f32(p[2]), gqa_f16_to_f32(p[3])};
}
static inline vf vf_load_bf16(const uint16_t *p) {
    return (vf)((vi){p[0], p[1], p[2], p[3]} << 16);
}
static inline vf vf_load_u8(const uint8_t *p) { return (vf){p[0], p[1], p[2], p[3]}; }
static inline vf vf_load_i8(const int8_t *p) { return (vf){p[0], p[1], p[2], p[3]}; }
static inline vf vf_load_low4(const uint8_t *p) {
    return (vf){p[0] & 15, p[1] & 15, p[2] & 15, p[3] & 15};
}
static inline vf vf_load_high4(const uint8_t *p) {
    return (vf){p[0] >> 4, p[1] >> 4, p[2] >> 4, p[3] >> 4};
}

static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_or(vi a, vi b) { return a | b; }
/* Shifts of 16-bit lanes: the caller masks what crosses bytes. */
typedef uint16_t vu16 __attribute__((vector_size(16)));
static inline vi vi_shl(vi a, int n) { return (vi)((vu16)a << (uint16_t)n); }
static inline vi vi_shr(vi a, int n) { return (vi)((vu16)a >> (uint16_t)n); }
/* table[index] for each byte of index, 0..15. */
static inline vi vi_lookup(const int8_t table[16], vi index) {
    int8_t bytes[16];
    memcpy(bytes, &index, 16);
    for (int i = 0; i < 16; i++) bytes[i] = table[bytes[i]];
    memcpy(&index, bytes, 16);
    return index;
}
/* Arithmetic shift of 32-bit lanes. */
static inline vi vi_sar(vi a, int n) { return a >> n; }

/* Dot products of four bytes a lane, summed in 32 bits: w unsigned (signed in vi_dot8), x signed.
 * VI_DOT_DEPTH(bits): how many fit in the accumulator before vi_dot_sum widens it; here any
 * number. */
#define VI_DOT_DEPTH(bits) 8
static inline vi vi_dot(vi acc, vi w, vi x) {
    for (int i = 0; i < 4; i++) acc += ((w >> (8 * i)) & 255) * ((x << (24 - 8 * i)) >> 24);
    return acc;
}
#define VI_DOT_WIDE 1 /* vi_dot sums in 32 bits: no vi_dot_sum (simd_avx2.h) */
static inline vi vi_dot_sum(vi acc) { return acc; }
#define VI_DOT8_OFFSET 0
static inline vi vi_bias8(vi w) { return w; } /* prepares w for vi_dot8 */
static inline vi vi_dot8(vi acc, vi w, vi x) {
    for (int i = 0; i < 4; i++) acc += ((w << (24 - 8 * i)) >> 24) * ((x << (24 - 8 * i)) >> 24);
    return acc;
}

/* Pairs of signed 16-bit integers, for the KV cache: from 2 * VF_LANES signed bytes; the
 * products of a lane's pair added to a 32-bit sum. */
static inline vi vi_load_pairs(const void *p) {
    const int8_t *bytes = p;
    int16_t halves[8];
    for (int i = 0; i < 8; i++) halves[i] = bytes[i];
    return vi_load(halves);
}
static inline vi vi_dot16(vi acc, vi a, vi b) {
#ifdef __SSE2__ /* has no product of 32-bit lanes */
    typedef int16_t halves __attribute__((vector_size(16)));
    return acc + (vi)__builtin_ia32_pmaddwd128((halves)a, (halves)b);
#else
    return acc + ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

/* Keeps v in a register (simd_avx2.h); not needed here. */
#define VECTOR_KEEP(v) ((void)0)

#define FETCH_EVERY_LINE(is_here) ((void)(is_here), 0) /* fetch_ahead() */
#define DECODE_NR 1 /* plain C stays small */
