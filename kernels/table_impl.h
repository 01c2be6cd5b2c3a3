/* table_impl.h: includes every kernel over the vector operations chosen by the isa_*.c file, and lists them. */
#include "kernels.h"

#include "ops_impl.h"
#include "matmul_impl.h"
#include "sgemm_impl.h"
#include "attention_impl.h"
#include "grad_impl.h"
#include "peak_impl.h"

extern const gqa_kernels GQA_TABLE;
const gqa_kernels GQA_TABLE = {
    .name = GQA_ISA_NAME,
    .quantize_acts = quantize_acts,
    .matmul_unit = matmul_unit,
    .sgemm = sgemm,
    .rmsnorm = rmsnorm,
    .rope = rope,
    .swiglu = swiglu,
    .add = add,
    .kv_append = kv_append,
    .attend_decode = attend_decode,
    .combine_splits = combine_splits,
    .attend_prefill = attend_prefill,
    .softmax = softmax,
    .softmax_from_lse = softmax_from_lse,
    .softmax_grad = softmax_grad,
    .dot = dot,
    .swiglu_grad = swiglu_grad,
    .rmsnorm_grad = rmsnorm_grad,
    .adamw = adamw,
    .peak_float = peak_float,
    .peak_int8 = peak_int8,
    .peak_read = peak_read,
};
