/* isa_scalar.c: the kernels for any CPU. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("Os") /* two thirds of the size, and about as fast */
#endif
#include "simd_plain.h"
#define GQA_SMALL_CODE
#define GQA_ISA_NAME "scalar"
#define GQA_TABLE gqa_kernels_scalar
#include "table_impl.h"
