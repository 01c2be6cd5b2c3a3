/* isa_neon.c: the kernels for any aarch64 CPU. */
#ifdef __aarch64__
#include "simd_neon.h"
#define GQA_ISA_NAME "neon"
#define GQA_TABLE gqa_kernels_neon
#include "table_impl.h"
#else
typedef int gqa_isa_neon_absent; /* ISO C forbids an empty file */
#endif
