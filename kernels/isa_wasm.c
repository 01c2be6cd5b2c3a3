/* isa_wasm.c: the kernels for WebAssembly with SIMD128 (-msimd128). An engine without it refuses
 * the module, so nothing is chosen at run time. */
#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#define ISA wasm
#define GQA_ISA_NAME "wasm"
#include "isa_names.h"
#include "simd_wasm.h"
#include "table_impl.h"
#else
typedef int gqa_isa_wasm_absent; /* ISO C forbids an empty file */
#endif
