/* isa_neon_dot.c: the kernels for aarch64 CPUs with the dot product instructions of ARMv8.2; to
 * users they are "neon" too. */
#ifdef __aarch64__
#include <arm_neon.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
/* Of the few functions that also need BF16 (Neoverse V1 2020, Apple M2 2022). */
#if !defined(__clang__) && __GNUC__ >= 10 /* clang 14 has no such intrinsics without -march */
#define VF_BF16 __attribute__((target("arch=armv8.2-a+dotprod+bf16")))
#endif
#define ISA neon_dot
#define GQA_ISA_NAME "neon"
#define GQA_DOTPROD
#include "isa_names.h"
#include "simd_neon.h"
#include "table_impl.h"
#ifdef GQA_HAS_I8MM
INT8_SET(neon_i8mm, "neon")
#endif
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int gqa_isa_neon_dot_absent; /* ISO C forbids an empty file */
#endif
