/* isa_avx512.c: the kernels for x86-64 CPUs with AVX-512 and VNNI (Ice Lake 2019, Zen 4 2022, and
 * later). GQA_SIMDE may name a header that emulates the instructions in portable C, to test them on
 * any machine (scripts/test-isas.sh). */
#ifdef __x86_64__
#ifdef GQA_SIMDE
#include GQA_SIMDE
#define VF_BF16 /* emulated too */
#else
#include <immintrin.h>
#define TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target(TARGET))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")
#endif
/* Of the few functions that also need AVX512_BF16 (Cooper Lake 2020, Zen 4 2022). */
#if defined(__clang__) || __GNUC__ >= 11
#define VF_BF16 __attribute__((target(TARGET ",avx512bf16")))
#endif
#endif
#define ISA avx512
#define GQA_ISA_NAME "avx512"
#include "isa_names.h"
#include "simd_avx512.h"
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
