/* simd_avx2.h: the vector operations for x86-64 with AVX2, FMA and F16C: eight lanes. With GQA_VNNI
 * the int8 products use the instruction that AVX-VNNI adds for them, or AVX-512 (GQA_VNNI_VL). */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define VF_LANES 8
#define VF_REGISTERS 16
typedef __m256 vf;
typedef __m256i vi;

static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
static inline vf vf_set1(float x) { return _mm256_set1_ps(x); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }   /* a*b + c */
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline float vf_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vf_hmax(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
static inline int vf_any_above(vf a, float x) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, vf_set1(x), _CMP_GT_OQ)) != 0;
}
static inline vi vi_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void vi_store(void *p, vi v) { _mm256_storeu_si256((__m256i *)p, v); }
static inline vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vf vf_from_vi(vi a) { return _mm256_cvtepi32_ps(a); }

/* The cheapest int8 multiply-add, for peak_impl.h: 32 products, sums left in 16 bits or (VNNI) of
 * four in 32. */
#define VI_MAC8 32
static inline vi vi_mac8(vi acc, vi a, vi b) {
#if defined(GQA_VNNI) && (defined(GQA_VNNI_VL) || defined(GQA_SIMDE))
    return _mm256_dpbusd_epi32(acc, a, b);
#elif defined(GQA_VNNI)
    return _mm256_dpbusd_avx_epi32(acc, a, b);
#else
    return _mm256_add_epi16(acc, _mm256_maddubs_epi16(a, b));
#endif
}

/* p * 2^n, where the low bits of shifted = 1.5 * 2^23 + n hold n. */
static inline vf vf_scale2(vf p, vf shifted) {
    __m256i n = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x4B400000));
    n = _mm256_slli_epi32(n, 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n));
}
/* Stores the low byte of every lane: the integer that adding 1.5 * 2^23 rounded to. */
static inline void vf_store_low_bytes(void *p, vf v) {
    const __m256i low_bytes = _mm256_set1_epi32(0x0C080400);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_castps_si256(v), low_bytes);
    int32_t four[2] = {_mm256_extract_epi32(bytes, 0), _mm256_extract_epi32(bytes, 4)};
    memcpy(p, four, 8);
}
/* The same with the low two bytes. */
static inline void vf_store_low_halves(void *p, vf v) {
    const __m256i low = _mm256_set_epi64x(0, 0x0D0C090805040100, 0, 0x0D0C090805040100);
    __m256i halves = _mm256_shuffle_epi8(_mm256_castps_si256(v), low);
    halves = _mm256_permute4x64_epi64(halves, 8);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(halves));
}
/* v where x >= low, else 0. */
static inline vf vf_keep_above(vf v, vf x, vf low) {
    return _mm256_and_ps(v, _mm256_cmp_ps(x, low, _CMP_GE_OQ));
}

static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
/* Shifts of 16-bit lanes: the caller masks what crosses bytes. */
static inline vi vi_shl(vi a, int n) { return _mm256_slli_epi16(a, n); }
static inline vi vi_shr(vi a, int n) { return _mm256_srli_epi16(a, n); }
/* table[index] for each byte of index, 0..15. */
static inline vi vi_lookup(const int8_t table[16], vi index) {
    __m128i levels = _mm_loadu_si128((const __m128i *)table);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(levels), index);
}
/* Arithmetic shift of 32-bit lanes. */
static inline vi vi_sar(vi a, int n) { return _mm256_srai_epi32(a, n); }

/* Floats from and to narrower types; low4 and high4: the nibbles of a byte. */
static inline void vf_store_f16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline vf vf_load_bf16(const uint16_t *p) {
    __m256i halves = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(halves, 16));
}
static inline vi vi_load_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
static inline vi vi_load_i8(const int8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
static inline vf vf_load_u8(const uint8_t *p) { return vf_from_vi(vi_load_u8(p)); }
static inline vf vf_load_i8(const int8_t *p) { return vf_from_vi(vi_load_i8(p)); }
static inline vf vf_load_low4(const uint8_t *p) {
    return vf_from_vi(vi_and(vi_load_u8(p), vi_set1(15)));
}
static inline vf vf_load_high4(const uint8_t *p) {
    return vf_from_vi(_mm256_srli_epi32(vi_load_u8(p), 4));
}

#ifdef GQA_VNNI
/* Dot products as in simd_avx512.h. */
#define VI_DOT_DEPTH(bits) 8
static inline vi vi_dot(vi acc, vi w, vi x) { return vi_mac8(acc, w, x); }
#define VI_DOT_WIDE 1
static inline vi vi_dot_sum(vi acc) { return acc; }
#define VI_DOT8_OFFSET 128
static inline vi vi_bias8(vi w) {
    return _mm256_xor_si256(w, _mm256_set1_epi32((int)0x80808080));
}
static inline vi vi_dot8(vi acc, vi w, vi x) { return vi_mac8(acc, w, x); }
#else
/* Dot products of four bytes a lane: w unsigned, x signed. Without VNNI the sums of pairs stay in
 * 16 bits; VI_DOT_DEPTH(bits) additions of products with w < 2^bits, |x| <= 127 fit before
 * vi_dot_sum must widen them. */
#define VI_DOT_DEPTH(bits) ((bits) <= 4 ? 8 : (bits) == 5 ? 4 : 2)
static inline vi vi_dot(vi acc, vi w, vi x) {
    return _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x));
}
#define VI_DOT_WIDE 0 /* 1: vi_dot sums in 32 bits; VI_DOT_DEPTH and vi_dot_sum are not used */
static inline vi vi_dot_sum(vi acc) { return _mm256_madd_epi16(acc, _mm256_set1_epi16(1)); }
/* The same for signed w, summed in 32 bits; the result is sum((w + VI_DOT8_OFFSET) * x).
 * |w| * sign(w) x: 2 * 128 * 127 just fits in 16 bits. */
#define VI_DOT8_OFFSET 0
static inline vi vi_bias8(vi w) { return w; } /* prepares w for vi_dot8 */
static inline vi vi_dot8(vi acc, vi w, vi x) {
    vi pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(acc, vi_dot_sum(pairs));
}
#endif

/* Pairs of signed 16-bit integers, for the KV cache: from 2 * VF_LANES signed bytes; the
 * products of a lane's pair added to a 32-bit sum. */
static inline vi vi_load_pairs(const void *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}
static inline vi vi_dot16(vi acc, vi a, vi b) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}

/* Panels are packed by eight rows (pack_impl.h): words 0..3 of each, a row each lane. */
#define PACK_CODES gqa_pack_codes_avx2
#ifndef GQA_VNNI
#define PACK_ROWS 8
typedef uint32_t row_words __attribute__((vector_size(32)));
static inline __m256i load_two(const uint8_t *row, size_t row_bytes) {
    return _mm256_loadu2_m128i((const __m128i *)(row + 4 * row_bytes), (const __m128i *)row);
}
static inline void load_rows(row_words words[4], const uint8_t *raw, size_t row_bytes) {
    __m256i a = load_two(raw, row_bytes), b = load_two(raw + row_bytes, row_bytes);
    __m256i c = load_two(raw + 2 * row_bytes, row_bytes);
    __m256i d = load_two(raw + 3 * row_bytes, row_bytes);
    __m256i ab = _mm256_unpacklo_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d);
    words[0] = (row_words)_mm256_unpacklo_epi64(ab, cd);
    words[1] = (row_words)_mm256_unpackhi_epi64(ab, cd);
    ab = _mm256_unpackhi_epi32(a, b);
    cd = _mm256_unpackhi_epi32(c, d);
    words[2] = (row_words)_mm256_unpacklo_epi64(ab, cd);
    words[3] = (row_words)_mm256_unpackhi_epi64(ab, cd);
}
#endif

/* Keeps v in a register: the compiler cannot see through. */
#ifdef GQA_SIMDE
#define VECTOR_KEEP(v) ((void)0)
#else
#define VECTOR_KEEP(v) __asm__("" : "+x"(v))
#endif

#ifdef GQA_VNNI /* fetch_ahead(): CPUs that like it, of those that have the set */
#define FETCH_EVERY_LINE(is_here) ((void)(is_here), 1)
#else
#define FETCH_EVERY_LINE(is_here) (is_here)
#endif
#define DECODE_NR 4 /* columns of x at once in decoding */
