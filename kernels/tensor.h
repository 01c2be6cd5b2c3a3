/* tensor.h: element types, their block formats and scalar conversion. These plain loops are the
 * oracle that every fast kernel is tested against. */
#ifndef GQA_TENSOR_H
#define GQA_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "../model.h" /* for gqa_type and gqa_error, nothing else */

/* Values come in blocks of `block` values in `bytes` bytes. F32: 1 in 4; Q4_0: 32 in 18; Q6_K: 256
 * in 210. */
typedef struct gqa_type_info {
    const char *name;
    int type, block, bytes;
} gqa_type_info;

const gqa_type_info *gqa_type_info_of(int type); /* NULL: not supported */
/* Name of any GGML type ("q2_k", "iq4_nl"), for messages; NULL: unknown. */
const char *gqa_foreign_type_name(int type);

/* q4_k, q5_k, q6_k: superblocks of 256 with scales of scales. */
static inline int is_k_quant(int type) {
    return type == GQA_TYPE_Q4_K || type == GQA_TYPE_Q5_K || type == GQA_TYPE_Q6_K;
}

/* Bytes of n values. 0 if n is no multiple of the block, the type unknown, or on overflow. */
uint64_t gqa_type_bytes(int type, uint64_t n);

/* n values, n a multiple of the block. src and dst need no alignment and do not overlap. */
void gqa_dequantize(int type, const void *src, float *dst, size_t n);
/* Rounds to nearest; non-finite input gives unspecified values, never undefined behaviour. The K
 * types choose scales by weighted least squares; the others are bit-identical to GGML's reference
 * quantisation. */
void gqa_quantize(int type, const float *src, void *dst, size_t n);

/* The 12 packed bytes of q4_k and q5_k as eight scales and eight minima, 0..63. */
void gqa_k_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8]);

float gqa_f16_to_f32(uint16_t h);
uint16_t gqa_f32_to_f16(float f);   /* round to nearest even */
static inline float gqa_bf16_to_f32(uint16_t h) {
    union { uint32_t u; float f; } v = {(uint32_t)h << 16};
    return v.f;
}
uint16_t gqa_f32_to_bf16(float f);  /* round to nearest even; NaN stays NaN */

#endif
