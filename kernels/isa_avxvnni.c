/* isa_avxvnni.c: the int8 products for x86-64 CPUs with AVX-VNNI (Alder Lake 2021, Zen 5 2024, and
 * later); all else they share with isa_avx2.c, which has the table. For tests on other CPUs
 * (scripts/test-isas.sh), GQA_VNNI_VL takes the same instruction from AVX-512, and GQA_SIMDE
 * emulates it. */
#include "kernels.h"

#ifdef GQA_HAS_AVXVNNI
#ifdef GQA_SIMDE
#include GQA_SIMDE
#else
#include <immintrin.h>
#ifdef GQA_VNNI_VL
#define TARGET "avx512vl,avx512vnni,avx2,fma,f16c"
#else
#define TARGET "avxvnni,avx2,fma,f16c"
#endif
#ifdef __clang__
#pragma clang attribute push(__attribute__((target(TARGET))), apply_to = function)
#elif defined(GQA_VNNI_VL)
#pragma GCC push_options
#pragma GCC target("avx512vl,avx512vnni,avx2,fma,f16c")
#else
#pragma GCC push_options
#pragma GCC target("avxvnni,avx2,fma,f16c")
#endif
#endif
#define ISA avxvnni
#define GQA_VNNI
#define GQA_INT8_ONLY
#include "../base/base.h"
#include "isa_names.h"
#include "simd_avx2.h"
#include "tile_impl.h"
#include "matmul_int8_impl.h"
#include "matmul_impl.h"
#include "peak_impl.h"

void gqa_matmul_unit_avxvnni(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy,
                             int unit, void *scratch) {
    kernel_matmul_unit(w, a, n, y, ldy, unit, scratch);
}
int32_t gqa_peak_int8_avxvnni(long rounds, double *macs) { return kernel_peak_int8(rounds, macs); }
#ifndef GQA_SIMDE
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#endif
