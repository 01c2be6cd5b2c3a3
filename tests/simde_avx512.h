/* simde_avx512.h: for isa_avx512.c with GQA_SIMDE: the SIMDe headers, and the conversions that they
 * do not have yet. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#include <string.h>

#include "../kernels/tensor.h"

#define SIMDE_LANES(name, result, argument, lane, expression)       \
    static inline result name(argument a) {                          \
        lane in[16];                                                 \
        float f[16];                                                 \
        int32_t n[16];                                               \
        (void)f, (void)n;                                            \
        memcpy(in, &a, sizeof in < sizeof a ? sizeof in : sizeof a); \
        for (int i = 0; i < 16; i++) expression;                     \
        return SIMDE_RESULT_##result;                                \
    }
#define SIMDE_RESULT___m512 _mm512_loadu_ps(f)
#define SIMDE_RESULT___m512i _mm512_loadu_si512(n)
#define SIMDE_RESULT___m256i _mm256_loadu_si256((const __m256i *)n)
#define SIMDE_RESULT___m128i _mm_loadu_si128((const __m128i *)n)
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_cvtepu8_epi32 emulated_cvtepu8_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8
#define _mm512_cvtepi32_epi16 emulated_cvtepi32_epi16
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(v, rounding) emulated_cvtps_ph(v)
SIMDE_LANES(emulated_cvtepi32_epi8, __m128i, __m512i, int32_t, ((char *)n)[i] = (char)in[i])
SIMDE_LANES(emulated_cvtepi32_epi16, __m256i, __m512i, int32_t, ((int16_t *)n)[i] = (int16_t)in[i])
SIMDE_LANES(emulated_cvtepi32_ps, __m512, __m512i, int32_t, f[i] = (float)in[i])
SIMDE_LANES(emulated_cvtepi8_epi32, __m512i, __m128i, int8_t, n[i] = in[i])
SIMDE_LANES(emulated_cvtepu8_epi32, __m512i, __m128i, uint8_t, n[i] = in[i])
SIMDE_LANES(emulated_cvtepu16_epi32, __m512i, __m256i, uint16_t, n[i] = in[i])
SIMDE_LANES(emulated_cvtps_ph, __m256i, __m512, float, ((uint16_t *)n)[i] = gqa_f32_to_f16(in[i]))
SIMDE_LANES(emulated_cvtph_ps, __m512, __m256i, uint16_t, f[i] = gqa_f16_to_f32(in[i]))
#define _mm512_cvtneps_pbh emulated_cvtneps_pbh
SIMDE_LANES(emulated_cvtneps_pbh, __m256i, __m512, float,
            ((uint16_t *)n)[i] = gqa_f32_to_bf16(in[i]))
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps(acc, a, b) emulated_dpbf16_ps(acc, (__m512i)(a), (__m512i)(b))
static inline __m512 emulated_dpbf16_ps(__m512 acc, __m512i a, __m512i b) {
    float sum[16];
    uint16_t x[32], y[32];
    memcpy(sum, &acc, sizeof sum);
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 31; i >= 0; i--)
        sum[i / 2] = fmaf(gqa_bf16_to_f32(x[i]), gqa_bf16_to_f32(y[i]), sum[i / 2]);
    return _mm512_loadu_ps(sum);
}
#undef _mm512_srai_epi32
#define _mm512_srai_epi32 emulated_srai_epi32
static inline __m512i emulated_srai_epi32(__m512i a, unsigned count) {
    int32_t n[16];
    memcpy(n, &a, sizeof n);
    for (int i = 0; i < 16; i++) n[i] >>= count;
    return _mm512_loadu_si512(n);
}
