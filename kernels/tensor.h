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
/* The names of all of ours, "f32, f16, ...". */
void gqa_type_names(char *out, size_t capacity);
/* Name of any GGML type ("iq2_s", "i32"), for messages; NULL: unknown. */
const char *gqa_foreign_type_name(int type);

/* q2_k to q6_k, iq4_xs: superblocks of 256 with scales of scales. */
static inline int is_k_quant(int type) {
    return (type >= GQA_TYPE_Q2_K && type <= GQA_TYPE_Q6_K) || type == GQA_TYPE_IQ4_XS;
}

/* Bytes of n values. 0 if n is no multiple of the block, the type unknown, or on overflow. */
uint64_t gqa_type_bytes(int type, uint64_t n);

/* n values, n a multiple of the block. src and dst need no alignment and do not overlap. */
void gqa_dequantize(int type, const void *src, float *dst, size_t n);
/* Whether gqa_quantize writes the type: not q2_k, q3_k, iq4_nl, iq4_xs. */
int gqa_can_quantize(int type);
/* Rounds to nearest; non-finite input gives unspecified values, never undefined behaviour. The K
 * types choose scales by weighted least squares; the others are bit-identical to GGML's reference
 * quantisation. */
void gqa_quantize(int type, const float *src, void *dst, size_t n);

/* The scales of four superblocks, the first at b, row_bytes apart (0: all the same): eight scales
 * of 32 values, 0..63, and eight minima (q4_k, q5_k); eight signed ones (iq4_xs); sixteen of 16
 * values each: scale | min << 4 (q2_k) or signed ones (q3_k, q6_k). */
void gqa_k_scales(int type, const uint8_t *b, size_t row_bytes, uint8_t scales[4][16]);
extern const int8_t gqa_iq4_levels[16]; /* what the codes of iq4_nl and iq4_xs mean */

float gqa_f16_to_f32(uint16_t h);
uint16_t gqa_f32_to_f16(float f);   /* round to nearest even */
static inline float gqa_bf16_to_f32(uint16_t h) {
    union { uint32_t u; float f; } v = {(uint32_t)h << 16};
    return v.f;
}
uint16_t gqa_f32_to_bf16(float f);  /* round to nearest even; NaN stays NaN */

#endif
