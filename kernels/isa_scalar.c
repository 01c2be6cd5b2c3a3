/* isa_scalar.c: the kernels for any CPU. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("Os") /* two thirds of the size, and about as fast */
#endif
#define ISA scalar
#define GQA_ISA_NAME "scalar"
#define GQA_SMALL_CODE
#include "isa_names.h"
#include "simd_plain.h"
#include "table_impl.h"
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif
