/* simd_wasm.h: the vector operations for WebAssembly with SIMD128: four lanes. There is no fused
 * multiply-add, and no instruction for half floats. Operators are those of clang's vectors. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tensor.h"

#define VF_LANES 4
#define VF_REGISTERS 16
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

static inline vf vf_load(const float *p) { return (vf)wasm_v128_load(p); }
static inline void vf_store(float *p, vf v) { wasm_v128_store(p, (v128_t)v); }
static inline vf vf_set1(float x) { return (vf){x, x, x, x}; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
/* pmax(b, a): b < a ? a : b, one instruction of x86; f32x4.max is seven. */
static inline vf vf_max(vf a, vf b) { return (vf)wasm_f32x4_pmax((v128_t)b, (v128_t)a); }
static inline vf vf_min(vf a, vf b) { return (vf)wasm_f32x4_pmin((v128_t)b, (v128_t)a); }
static inline float vf_sum(vf a) { return (a[0] + a[1]) + (a[2] + a[3]); }
static inline float vf_hmax(vf a) {
    vf pairs = vf_max(a, __builtin_shufflevector(a, a, 2, 3, 0, 1));
    return pairs[0] > pairs[1] ? pairs[0] : pairs[1];
}
static inline int vf_any_above(vf a, float x) { return wasm_v128_any_true((v128_t)(a > x)); }
static inline vi vi_load(const void *p) { return (vi)wasm_v128_load(p); }
static inline void vi_store(void *p, vi v) { wasm_v128_store(p, (v128_t)v); }
static inline vi vi_set1(int32_t x) { return (vi){x, x, x, x}; }
static inline vi vi_add(vi a, vi b) { return a + b; }
static inline vf vf_from_vi(vi a) { return (vf)wasm_f32x4_convert_i32x4((v128_t)a); }

/* p * 2^n, where the low bits of shifted = 1.5 * 2^23 + n hold n. */
static inline vf vf_scale2(vf p, vf shifted) {
    return (vf)((vi)p + (((vi)shifted - 0x4B400000) << 23));
}
/* Stores the low byte of every lane: the integer that adding 1.5 * 2^23 rounded to. */
static inline void vf_store_low_bytes(void *p, vf v) {
    v128_t a = (v128_t)v;
    v128_t bytes = wasm_i8x16_shuffle(a, a, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    wasm_v128_store32_lane(p, bytes, 0);
}
/* The same with the low two bytes. */
static inline void vf_store_low_halves(void *p, vf v) {
    v128_t a = (v128_t)v;
    v128_t halves = wasm_i16x8_shuffle(a, a, 0, 2, 4, 6, 0, 2, 4, 6);
    wasm_v128_store64_lane(p, halves, 0);
}
/* v where x >= low, else 0. */
static inline vf vf_keep_above(vf v, vf x, vf low) { return (vf)((vi)v & (x >= low)); }

static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_or(vi a, vi b) { return a | b; }
/* Shifts of 16-bit lanes: the caller masks what crosses bytes. */
static inline vi vi_shl(vi a, int n) { return (vi)wasm_i16x8_shl((v128_t)a, (uint32_t)n); }
static inline vi vi_shr(vi a, int n) { return (vi)wasm_u16x8_shr((v128_t)a, (uint32_t)n); }
/* table[index] for each byte of index, 0..15. */
static inline vi vi_lookup(const int8_t table[16], vi index) {
    return (vi)wasm_i8x16_swizzle(wasm_v128_load(table), (v128_t)index);
}
/* Arithmetic shift of 32-bit lanes. */
static inline vi vi_sar(vi a, int n) { return a >> n; }

/* Floats from and to narrower types; low4 and high4: the nibbles of a byte. */
static inline void vf_store_f16(uint16_t *p, vf v) {
    for (int i = 0; i < VF_LANES; i++) p[i] = gqa_f32_to_f16(v[i]);
}
/* As bits of a float, sign and magnitude of a half lie 2^112 too low, subnormal ones too. From 2^16
 * on they are infinity and NaN, and get that exponent. Compared as floats: V8 makes four
 * instructions of i32x4.ge_s. The asm keeps LLVM from a select, which is three. */
static inline vf vf_load_f16(const uint16_t *p) {
    vi bits = (vi)wasm_i32x4_load16x4(p) << 13 & (int32_t)0x8FFFE000;
    vf v = (vf)bits * 0x1p112f;
    vi is_special = (vf)((vi)v & 0x7FFFFFFF) >= 65536;
    __asm__("" : "+r"(is_special));
    return (vf)((vi)v | (is_special & 0x7F800000));
}
static inline vf vf_load_bf16(const uint16_t *p) { return (vf)((vi)wasm_u32x4_load16x4(p) << 16); }
static inline vi vi_load_u8(const uint8_t *p) {
    return (vi)wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p)));
}
static inline vf vf_load_u8(const uint8_t *p) { return vf_from_vi(vi_load_u8(p)); }
static inline vf vf_load_i8(const int8_t *p) {
    v128_t halves = wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(p));
    return vf_from_vi((vi)wasm_i32x4_extend_low_i16x8(halves));
}
static inline vf vf_load_low4(const uint8_t *p) { return vf_from_vi(vi_load_u8(p) & 15); }
static inline vf vf_load_high4(const uint8_t *p) { return vf_from_vi(vi_load_u8(p) >> 4); }

/* Dot products of four bytes a lane, summed in 32 bits. The even bytes of a lane, then the odd
 * ones, as two 16-bit numbers: i32x4.dot_i16x8 leaves their sum in that lane. Unsigned w has at
 * most 7 bits here, so it is a signed byte too. */
static inline vi vi_dot8(vi acc, vi w, vi x) {
    v128_t w_even = wasm_i16x8_shr(wasm_i16x8_shl((v128_t)w, 8), 8);
    v128_t x_even = wasm_i16x8_shr(wasm_i16x8_shl((v128_t)x, 8), 8);
    v128_t w_odd = wasm_i16x8_shr((v128_t)w, 8), x_odd = wasm_i16x8_shr((v128_t)x, 8);
    acc += (vi)wasm_i32x4_dot_i16x8(w_even, x_even);
    return acc + (vi)wasm_i32x4_dot_i16x8(w_odd, x_odd);
}
#define VI_DOT8_OFFSET 0
static inline vi vi_bias8(vi w) { return w; } /* prepares w for vi_dot8 */
#define VI_DOT_DEPTH(bits) 8
static inline vi vi_dot(vi acc, vi w, vi x) { return vi_dot8(acc, w, x); }
#define VI_DOT_WIDE 1 /* vi_dot sums in 32 bits: no vi_dot_sum (simd_avx2.h) */
static inline vi vi_dot_sum(vi acc) { return acc; }

/* The int8 multiply-add of peak_impl.h: 16 products. */
#define VI_MAC8 16
static inline vi vi_mac8(vi acc, vi a, vi b) { return vi_dot8(acc, a, b); }

/* Pairs of signed 16-bit integers, for the KV cache: from 2 * VF_LANES signed bytes; the
 * products of a lane's pair added to a 32-bit sum. */
static inline vi vi_load_pairs(const void *p) { return (vi)wasm_i16x8_load8x8(p); }
static inline vi vi_dot16(vi acc, vi a, vi b) {
    return acc + (vi)wasm_i32x4_dot_i16x8((v128_t)a, (v128_t)b);
}

/* Keeps v in a register (simd_avx2.h); the engine allocates registers itself. */
#define VECTOR_KEEP(v) ((void)0)

/* ---- decoding q8_0, one column of x ---------------------------------------------------------- */

/* acc + 256 times the products of four columns of four rows, four times: w is a plane's vector, its
 * even and its odd bytes become 16-bit numbers, the even ones 256 times too large, as odd is. */
static inline vi q8_0_dot_wasm(vi acc, const uint8_t *w, const vi even[4], const vi odd[4]) {
    _Pragma("clang loop unroll(full)") for (int g = 0; g < 4; g++) {
        v128_t bytes = wasm_v128_load(w + 64 * g);
        acc += (vi)wasm_i32x4_dot_i16x8(wasm_i16x8_shl(bytes, 8), (v128_t)even[g]);
        acc += (vi)wasm_i32x4_dot_i16x8(wasm_i16x8_shr(bytes, 8), (v128_t)odd[g]);
    }
    return acc;
}

/* 16 bytes of x, four in all lanes: the even ones as 16-bit numbers, the odd ones times 256. */
static inline void q8_0_spread_wasm(const int8_t *x, vi even[4], vi odd[4]) {
    v128_t bytes = wasm_v128_load(x);
    vi e = (vi)wasm_i16x8_shr(wasm_i16x8_shl(bytes, 8), 8), o = (vi)bytes & (int32_t)0xFF00FF00;
#define SPREAD(g) \
    even[g] = __builtin_shufflevector(e, e, g, g, g, g); \
    odd[g] = __builtin_shufflevector(o, o, g, g, g, g);
    SPREAD(0)
    SPREAD(1)
    SPREAD(2)
    SPREAD(3)
#undef SPREAD
}

/* Four scales divided by 256, unless they are infinite or NaN: vf_load_f16 has the rest of it. */
static inline vf q8_0_scale_wasm(const uint16_t *p) {
    return (vf)((vi)wasm_i32x4_load16x4(p) << 13 & (int32_t)0x8FFFE000) * 0x1p104f;
}

/* The larger of most and the magnitudes of eight scales, as integers. */
static inline v128_t q8_0_most_wasm(v128_t most, const uint16_t *p) {
    const v128_t magnitude = wasm_i16x8_splat(0x7FFF);
    return wasm_i16x8_max(most, wasm_v128_and(wasm_v128_load(p), magnitude));
}

/* A panel (pack.c) times a column of x, as decode_ints in matmul_int8_impl.h. V8 starts all loads
 * of a basic block first, and spills them, unless a store lies between: sums are kept in memory,
 * and STORED() hides from LLVM that they could stay in registers. 0: out is of no use, as a scale
 * is infinite or NaN. */
static inline int q8_0_decode_wasm(const uint8_t *block, const int8_t *x, const float *d, int cols,
                                   float *out) {
    vi acc[4], even[4], odd[4];
    v128_t most = wasm_i16x8_splat(0);
#define STORED() __asm__ volatile("" : : "r"(acc), "r"(out) : "memory")
    for (int i = 0; i < 16; i++) out[i] = 0;
    for (int k = 0; k < cols; k += 32, block += 8 * 64 + 32, x += 32, d++) {
        const uint16_t *scales = (const uint16_t *)(block + 8 * 64);
        const vf dx = vf_set1(*d);
        q8_0_spread_wasm(x, even, odd);
        _Pragma("clang loop unroll(full)") for (int v = 0; v < 4; v++) {
            acc[v] = q8_0_dot_wasm(vi_set1(0), block + 16 * v, even, odd);
            STORED();
        }
        q8_0_spread_wasm(x + 16, even, odd);
        _Pragma("clang loop unroll(full)") for (int v = 0; v < 4; v++) {
            vi sum = q8_0_dot_wasm(acc[v], block + 4 * 64 + 16 * v, even, odd);
            vf scaled = vf_mul(vf_from_vi(sum), q8_0_scale_wasm(scales + 4 * v));
            vf_store(out + 4 * v, vf_fma(scaled, dx, vf_load(out + 4 * v)));
            STORED();
        }
        most = q8_0_most_wasm(q8_0_most_wasm(most, scales), scales + 8);
    }
#undef STORED
    return !wasm_v128_any_true(wasm_i16x8_ge(most, wasm_i16x8_splat(0x7C00)));
}
#define DECODE_Q8_0 q8_0_decode_wasm

#define FETCH_EVERY_LINE(is_here) ((void)(is_here), 0) /* fetch_ahead() */
#define DECODE_NR 4 /* columns of x at once in decoding */
