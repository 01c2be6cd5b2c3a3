/* sgemm.c: what the f32 matrix product of every instruction set shares. */
#include "kernels.h"

size_t gqa_sgemm_scratch(void) {
    return sizeof(float) * (GQA_SGEMM_MC + GQA_SGEMM_NC) * GQA_SGEMM_KC;
}
