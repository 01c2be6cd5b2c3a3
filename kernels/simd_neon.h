/* simd_neon.h: the vector operations for aarch64: four lanes. With GQA_DOTPROD the int8 products
 * use the instruction that ARMv8.2 added for them (Cortex-A76 2018, Apple A11, Graviton 2, and
 * later). */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define VF_LANES 4
#define VF_REGISTERS 32
typedef float32x4_t vf;
typedef int32x4_t vi;

static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf v) { vst1q_f32(p, v); }
static inline vf vf_set1(float x) { return vdupq_n_f32(x); }
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }   /* a*b + c */
static inline vf vf_max(vf a, vf b) { return vmaxnmq_f32(a, b); }
static inline vf vf_min(vf a, vf b) { return vminnmq_f32(a, b); }
static inline float vf_sum(vf a) { return vaddvq_f32(a); }
static inline float vf_hmax(vf a) { return vmaxnmvq_f32(a); }
static inline int vf_any_above(vf a, float x) { return vf_hmax(a) > x; }
static inline vi vi_load(const void *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
static inline void vi_store(void *p, vi v) { vst1q_u8(p, vreinterpretq_u8_s32(v)); }
static inline vi vi_set1(int32_t x) { return vdupq_n_s32(x); }
static inline vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
static inline vf vf_from_vi(vi a) { return vcvtq_f32_s32(a); }

/* p * 2^n, where the low bits of shifted = 1.5 * 2^23 + n hold n. */
static inline vf vf_scale2(vf p, vf shifted) {
    int32x4_t n = vsubq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(0x4B400000));
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(n, 23)));
}
/* Stores the low byte of every lane: the integer that adding 1.5 * 2^23 rounded to. */
static inline void vf_store_low_bytes(void *p, vf v) {
    uint16x4_t halves = vmovn_u32(vreinterpretq_u32_f32(v));
    vst1_lane_u32(p, vreinterpret_u32_u8(vmovn_u16(vcombine_u16(halves, halves))), 0);
}
/* The same with the low two bytes. */
static inline void vf_store_low_halves(void *p, vf v) {
    vst1_u16(p, vmovn_u32(vreinterpretq_u32_f32(v)));
}
/* v where x >= low, else 0. */
static inline vf vf_keep_above(vf v, vf x, vf low) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vcgeq_f32(x, low)));
}

static inline vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
static inline vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
/* Shifts of 16-bit lanes: the caller masks what crosses bytes. */
static inline vi vi_shl(vi a, int n) {
    return vreinterpretq_s32_u16(vshlq_u16(vreinterpretq_u16_s32(a), vdupq_n_s16((int16_t)n)));
}
static inline vi vi_shr(vi a, int n) { return n ? vi_shl(a, -n) : a; }
/* table[index] for each byte of index, 0..15. */
static inline vi vi_lookup(const int8_t table[16], vi index) {
    return vreinterpretq_s32_s8(vqtbl1q_s8(vld1q_s8(table), vreinterpretq_u8_s32(index)));
}
/* Arithmetic shift of 32-bit lanes. */
static inline vi vi_sar(vi a, int n) { return vshlq_s32(a, vdupq_n_s32(-n)); }

/* Floats from and to narrower types; low4 and high4: the nibbles of a byte. */
static inline void vf_store_f16(uint16_t *p, vf v) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline vf vf_load_bf16(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(p)), 16));
}
/* As in simd_avx512.h. */
#ifdef VF_BF16
VF_BF16 static inline void vf_store_bf16(uint16_t *p, vf v) {
    vst1_u16(p, vreinterpret_u16_bf16(vcvt_bf16_f32(v)));
}
VF_BF16 static inline vi vf_pairs_bf16(vf low, vf high) {
    uint32x4_t l = vmovl_u16(vreinterpret_u16_bf16(vcvt_bf16_f32(low)));
    uint32x4_t h = vmovl_u16(vreinterpret_u16_bf16(vcvt_bf16_f32(high)));
    return vreinterpretq_s32_u32(vorrq_u32(l, vshlq_n_u32(h, 16)));
}
VF_BF16 static inline vf vf_dot_bf16(vf acc, vi a, vi b) {
    return vbfdotq_f32(acc, vreinterpretq_bf16_s32(a), vreinterpretq_bf16_s32(b));
}
#endif
static inline uint8x8_t load_4_bytes(const void *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpret_u8_u32(vdup_n_u32(four));
}
static inline vf vf_from_u8(uint8x8_t bytes) {
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}
static inline vf vf_load_u8(const uint8_t *p) { return vf_from_u8(load_4_bytes(p)); }
static inline vf vf_load_low4(const uint8_t *p) {
    return vf_from_u8(vand_u8(load_4_bytes(p), vdup_n_u8(15)));
}
static inline vf vf_load_high4(const uint8_t *p) {
    return vf_from_u8(vshr_n_u8(load_4_bytes(p), 4));
}
static inline vf vf_load_i8(const int8_t *p) {
    int16x8_t halves = vmovl_s8(vreinterpret_s8_u8(load_4_bytes(p)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(halves)));
}

/* Dot products of four bytes a lane, summed in 32 bits. Unsigned w has at most 7 bits here, so it
 * is a signed byte too. */
static inline vi vi_dot8(vi acc, vi w, vi x) {
    int8x16_t a = vreinterpretq_s8_s32(w), b = vreinterpretq_s8_s32(x);
#ifdef GQA_DOTPROD
    return vdotq_s32(acc, a, b);
#else
    int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    int16x8_t high = vmull_high_s8(a, b);
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}
#ifdef GQA_I8MM
/* The products of two rows of eight bytes and two columns: acc + [r0 c0, r0 c1, r1 c0, r1 c1]. */
#define VI_MATRIX
static inline vi vi_matrix8(vi acc, vi rows, vi columns) {
    return vmmlaq_s32(acc, vreinterpretq_s8_s32(rows), vreinterpretq_s8_s32(columns));
}
static inline vi vi_load_two(const int8_t *a, const int8_t *b) { /* eight bytes of each */
    return vreinterpretq_s32_s8(vcombine_s8(vld1_s8(a), vld1_s8(b)));
}
static inline vi vi_zip_low(vi a, vi b) { return vzip1q_s32(a, b); }
static inline vi vi_zip_high(vi a, vi b) { return vzip2q_s32(a, b); }
static inline vi vi_even(vi a, vi b) { return vuzp1q_s32(a, b); }
static inline vi vi_odd(vi a, vi b) { return vuzp2q_s32(a, b); }
#endif
#define VI_DOT8_OFFSET 0
static inline vi vi_bias8(vi w) { return w; } /* prepares w for vi_dot8 */
#define VI_DOT_DEPTH(bits) 8
static inline vi vi_dot(vi acc, vi w, vi x) { return vi_dot8(acc, w, x); }
#define VI_DOT_WIDE 1 /* vi_dot sums in 32 bits: no vi_dot_sum (simd_avx2.h) */
static inline vi vi_dot_sum(vi acc) { return acc; }

/* The int8 multiply-add of peak_impl.h: how many products. */
#ifdef GQA_I8MM
#define VI_MAC8 32
static inline vi vi_mac8(vi acc, vi a, vi b) { return vi_matrix8(acc, a, b); }
#else
#define VI_MAC8 16
static inline vi vi_mac8(vi acc, vi a, vi b) { return vi_dot8(acc, a, b); }
#endif

/* Pairs of signed 16-bit integers, for the KV cache: from 2 * VF_LANES signed bytes, the first of
 * all pairs and then the second of all; the products of a lane's pair added to a 32-bit sum, where
 * b is the same pair in all lanes. */
static inline vi vi_load_pairs(const void *p) {
    const int8x8_t order = vcreate_s8(0x0705030106040200);
    return vreinterpretq_s32_s16(vmovl_s8(vtbl1_s8(vld1_s8(p), order)));
}
static inline vi vi_dot16(vi acc, vi a, vi b) {
    int16x8_t pairs = vreinterpretq_s16_s32(a);
    int16x4_t pair = vget_low_s16(vreinterpretq_s16_s32(b));
    acc = vmlal_lane_s16(acc, vget_low_s16(pairs), pair, 0);
    return vmlal_high_lane_s16(acc, pairs, pair, 1);
}

/* Keeps v in a register: the compiler cannot see through. */
#define VECTOR_KEEP(v) __asm__("" : "+w"(v))

#define FETCH_EVERY_LINE(is_here) ((void)(is_here), 0) /* fetch_ahead() */
#define DECODE_NR 4 /* columns of x at once in decoding */
