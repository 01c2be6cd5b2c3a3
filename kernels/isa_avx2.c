/* isa_avx2.c: the kernels for x86-64 CPUs with AVX2, FMA and F16C (Haswell 2013, Zen 2017, and
 * later). The target is set here, not on the command line, so that one binary runs on every CPU. */
#ifdef __x86_64__
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define ISA avx2
#define GQA_ISA_NAME "avx2"
#include "isa_names.h"
#include "simd_avx2.h"
#include "table_impl.h"

#ifdef GQA_HAS_AVXVNNI
INT8_SET(avxvnni, "avxvnni")
#endif
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int gqa_isa_avx2_absent; /* ISO C forbids an empty file */
#endif
