/* attention.c: sizes of the KV cache's tiles (attention_impl.h draws them). */
#include "kernels.h"

static int is_block_type(int type) { return type == GQA_TYPE_Q8_0 || type == GQA_TYPE_Q4_0; }

static int can_cache(int type, int head_dim) {
    int known = type == GQA_TYPE_F32 || type == GQA_TYPE_F16 || type == GQA_TYPE_BF16 || is_block_type(type);
    return known && head_dim > 0 && (!is_block_type(type) || head_dim % 32 == 0);
}

static size_t tile_bytes(int type, int dims) {
    size_t n = (size_t)dims * GQA_KV_TILE;
    if (is_block_type(type)) return n / 32 * (type == GQA_TYPE_Q8_0 ? 34 : 18);
    return n * (type == GQA_TYPE_F32 ? 4 : 2);
}

size_t gqa_kv_k_tile_bytes(int type, int head_dim) {
    return can_cache(type, head_dim) ? (tile_bytes(type, head_dim) + 63) & ~(size_t)63 : 0;
}

size_t gqa_kv_v_tile_bytes(int type, int head_dim) {
    int vd = (head_dim + 15) & ~15; /* block types: head_dim is a multiple of 32 already */
    return can_cache(type, head_dim) ? (tile_bytes(type, vd) + 63) & ~(size_t)63 : 0;
}

size_t gqa_attention_scratch(int group, int head_dim) {
    size_t rows = ((size_t)group * GQA_PREFILL_TILE + 15) & ~(size_t)15, vd = ((size_t)head_dim + 15) & ~(size_t)15;
    return sizeof(float) * (GQA_ATTEND_ROWS * GQA_KV_TILE + 2 * vd * GQA_KV_TILE + vd + rows * (2 * vd + 3 + 16)) + 64;
}
