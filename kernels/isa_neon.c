/* isa_neon.c: the kernels for any aarch64 CPU. */
#ifdef __aarch64__
#include <arm_neon.h>
#define ISA neon
#define GQA_ISA_NAME "neon"
#include "isa_names.h"
#include "simd_neon.h"
#include "table_impl.h"
#else
typedef int gqa_isa_neon_absent; /* ISO C forbids an empty file */
#endif
