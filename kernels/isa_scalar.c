/* isa_scalar.c: the kernels for any CPU. */
#include "simd_plain.h"
#define GQA_SMALL_CODE
#define GQA_ISA_NAME "scalar"
#define GQA_TABLE gqa_kernels_scalar
#include "table_impl.h"
