/* table_impl.h: includes every kernel, over the vector operations that the isa_*.c file chose, and
 * lists them. */
#include "../base/base.h"
#include "kernels.h"

#include "tile_impl.h"
#include "ops_impl.h"
#include "matmul_int8_impl.h"
#include "matmul_impl.h"
#include "sgemm_impl.h"
#include "cache_impl.h"
#include "attention_impl.h"
#include "grad_impl.h"
#include "peak_impl.h"
#ifdef PACK_ROWS
#include "pack_impl.h"
#endif

#ifdef VF_BF16
#define BF16_KERNELS .round_acts = kernel_round_acts, .peak_bf16 = kernel_peak_bf16,
#else
#define BF16_KERNELS
#endif
/* All but the products of int8. */
#define SHARED_KERNELS \
    BF16_KERNELS \
    .pack_codes = PACK_CODES, \
    .quantize_acts = kernel_quantize_acts, \
    .sgemm = kernel_sgemm, \
    .rmsnorm = kernel_rmsnorm, \
    .rope = kernel_rope, \
    .swiglu = kernel_swiglu, \
    .geglu = kernel_geglu, \
    .add = kernel_add, \
    .kv_append = kernel_kv_append, \
    .attend_decode = kernel_attend_decode, \
    .combine_splits = kernel_combine_splits, \
    .attend_prefill = kernel_attend_prefill, \
    .softmax = kernel_softmax, \
    .softmax_from_lse = kernel_softmax_from_lse, \
    .softmax_grad = kernel_softmax_grad, \
    .dot = kernel_dot, \
    .swiglu_grad = kernel_swiglu_grad, \
    .rmsnorm_grad = kernel_rmsnorm_grad, \
    .adamw = kernel_adamw, \
    .peak_float = kernel_peak_float, \
    .peak_read = kernel_peak_read

extern const gqa_kernels ISA_NAME(gqa_kernels);
const gqa_kernels ISA_NAME(gqa_kernels) = {
    .name = GQA_ISA_NAME,
    .matmul_unit = kernel_matmul_unit,
    .peak_int8 = kernel_peak_int8,
    SHARED_KERNELS,
};

/* One more table, with the products of int8 from a file of their own (isa_avxvnni.c). */
#define INT8_SET(set, set_name) \
    static void set##_matmul_unit(const gqa_matrix *w, const gqa_acts *a, int n, float *y, \
                                  size_t ldy, int unit, void *scratch) { \
        if (gqa_type_wants_q8(w->type)) gqa_matmul_unit_##set(w, a, n, y, ldy, unit, scratch); \
        else kernel_matmul_unit(w, a, n, y, ldy, unit, scratch); \
    } \
    extern const gqa_kernels gqa_kernels_##set; \
    const gqa_kernels gqa_kernels_##set = { \
        .name = set_name, \
        .matmul_unit = set##_matmul_unit, \
        .peak_int8 = gqa_peak_int8_##set, \
        SHARED_KERNELS, \
    };
