/* simd_avx512.h: the vector operations for x86-64 with AVX-512 (F, BW, DQ, VL) and VNNI: sixteen
 * lanes. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define VF_LANES 16
#define VF_REGISTERS 32
typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline vf vf_set1(float x) { return _mm512_set1_ps(x); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }   /* a*b + c */
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline __m256 vf_upper_half(vf a) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}
static inline float vf_sum(vf a) {
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), vf_upper_half(a));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vf_hmax(vf a) {
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), vf_upper_half(a));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
static inline int vf_any_above(vf a, float x) {
    return _mm512_cmp_ps_mask(a, vf_set1(x), _CMP_GT_OQ) != 0;
}
static inline vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline void vi_store(void *p, vi v) { _mm512_storeu_si512(p, v); }
static inline vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vf vf_from_vi(vi a) { return _mm512_cvtepi32_ps(a); }

/* The cheapest int8 multiply-add, for peak_impl.h: 64 products, sums of four in 32 bits. */
#define VI_MAC8 64
static inline vi vi_mac8(vi acc, vi a, vi b) { return _mm512_dpbusd_epi32(acc, a, b); }

/* p * 2^n, where the low bits of shifted = 1.5 * 2^23 + n hold n. */
static inline vf vf_scale2(vf p, vf shifted) {
    return _mm512_scalef_ps(p, _mm512_sub_ps(shifted, _mm512_set1_ps(12582912.0f)));
}
/* Stores the low byte of every lane: the integer that adding 1.5 * 2^23 rounded to. */
static inline void vf_store_low_bytes(void *p, vf v) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_castps_si512(v)));
}
/* The same with the low two bytes. */
static inline void vf_store_low_halves(void *p, vf v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_castps_si512(v)));
}
/* v where x >= low, else 0. */
static inline vf vf_keep_above(vf v, vf x, vf low) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_GE_OQ), v);
}

static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
/* Shifts of 16-bit lanes: the caller masks what crosses bytes. */
static inline vi vi_shl(vi a, int n) { return _mm512_slli_epi16(a, (unsigned)n); }
static inline vi vi_shr(vi a, int n) { return _mm512_srli_epi16(a, (unsigned)n); }
/* table[index] for each byte of index, 0..15. */
static inline vi vi_lookup(const int8_t table[16], vi index) {
    __m128i levels = _mm_loadu_si128((const __m128i *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(levels), index);
}
/* Arithmetic shift of 32-bit lanes. */
static inline vi vi_sar(vi a, int n) { return _mm512_srai_epi32(a, (unsigned)n); }

/* Floats from and to narrower types; low4 and high4: the nibbles of a byte. */
static inline void vf_store_f16(uint16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline vf vf_load_bf16(const uint16_t *p) {
    __m512i halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16));
}
static inline vi vi_load_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline vi vi_load_i8(const int8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline vf vf_load_u8(const uint8_t *p) { return vf_from_vi(vi_load_u8(p)); }
static inline vf vf_load_i8(const int8_t *p) { return vf_from_vi(vi_load_i8(p)); }
static inline vf vf_load_low4(const uint8_t *p) {
    return vf_from_vi(vi_and(vi_load_u8(p), vi_set1(15)));
}
static inline vf vf_load_high4(const uint8_t *p) {
    return vf_from_vi(_mm512_srli_epi32(vi_load_u8(p), 4));
}

/* Dot products of four bytes a lane, summed in 32 bits (VNNI): w unsigned, x signed. */
#define VI_DOT_DEPTH(bits) 8
static inline vi vi_dot(vi acc, vi w, vi x) { return _mm512_dpbusd_epi32(acc, w, x); }
#define VI_DOT_WIDE 1 /* vi_dot sums in 32 bits: no vi_dot_sum (simd_avx2.h) */
static inline vi vi_dot_sum(vi acc) { return acc; }
/* The same for signed w, made unsigned by vi_bias8: the result is sum((w + VI_DOT8_OFFSET) * x). */
#define VI_DOT8_OFFSET 128
static inline vi vi_bias8(vi w) {
    return _mm512_xor_si512(w, _mm512_set1_epi32((int)0x80808080));
}
static inline vi vi_dot8(vi acc, vi w, vi x) { return _mm512_dpbusd_epi32(acc, w, x); }

/* Pairs of signed 16-bit integers, for the KV cache: from 2 * VF_LANES signed bytes; the
 * products of a lane's pair added to a 32-bit sum. */
static inline vi vi_load_pairs(const void *p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
}
static inline vi vi_dot16(vi acc, vi a, vi b) { return _mm512_dpwssd_epi32(acc, a, b); }
/* Pairs of bf16 in 32 bits, where VF_BF16 marks functions for CPUs that have such products: rounded
 * from two vectors, and acc + the products of both numbers of each pair. */
#ifdef VF_BF16
VF_BF16 static inline void vf_store_bf16(uint16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v));
}
VF_BF16 static inline vi vf_pairs_bf16(vf low, vf high) {
    vi l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
    vi h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
    return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}
VF_BF16 static inline vf vf_dot_bf16(vf acc, vi a, vi b) {
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
}
#endif

#define PACK_CODES gqa_pack_codes_avx2
/* Keeps v in a register: the compiler cannot see through. */
#ifdef GQA_SIMDE
#define VECTOR_KEEP(v) ((void)0)
#else
#define VECTOR_KEEP(v) __asm__("" : "+v"(v))
#endif

#define FETCH_EVERY_LINE(is_here) ((void)(is_here), 1) /* fetch_ahead() */
#define DECODE_NR 4 /* columns of x at once in decoding */
