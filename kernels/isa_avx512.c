/* isa_avx512.c: the kernels for x86-64 CPUs with AVX-512 and VNNI (Ice Lake 2019, Zen 4 2022, and later). GQA_SIMDE may
 * name a header that emulates the instructions in portable C, so that tests of them run on any machine (scripts/test-isas.sh). */
#if defined(__x86_64__) || defined(GQA_SIMDE)
#ifdef GQA_SIMDE
#include GQA_SIMDE
#else
#include <immintrin.h>
#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target(TARGET))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")
#endif
#endif
#include "simd_avx512.h"
#define GQA_ISA_NAME "avx512"
#define GQA_TABLE gqa_kernels_avx512
#include "table_impl.h"
#ifndef GQA_SIMDE
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#else
typedef int gqa_isa_avx512_absent; /* ISO C forbids an empty file */
#endif
