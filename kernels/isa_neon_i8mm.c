/* isa_neon_i8mm.c: the int8 products for aarch64 CPUs with the matrix products of ARMv8.6 (Neoverse
 * V1 2020, Apple M2 2022, Cortex-A710); all else they share with isa_neon_dot.c, which has the
 * table. To users they are "neon" too. */
#include "kernels.h"

#ifdef GQA_HAS_I8MM
#include <arm_neon.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif
#define ISA neon_i8mm
#define GQA_DOTPROD
#define GQA_I8MM
#define GQA_INT8_ONLY
#include "../base/base.h"
#include "isa_names.h"
#include "simd_neon.h"
#include "tile_impl.h"
#include "matmul_int8_impl.h"
#include "matmul_impl.h"
#include "peak_impl.h"

void gqa_matmul_unit_neon_i8mm(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy,
                               int unit, void *scratch) {
    kernel_matmul_unit(w, a, n, y, ldy, unit, scratch);
}
int32_t gqa_peak_int8_neon_i8mm(long rounds, double *macs) {
    return kernel_peak_int8(rounds, macs);
}
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
