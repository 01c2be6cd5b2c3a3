/* attention.c: sizes of the KV cache's tiles (attention_impl.h draws them). */
#include "../base/base.h"
#include "kernels.h"

static size_t kv_tile_bytes(int type, int head_dim, int dims) {
    const size_t values = (size_t)dims * GQA_KV_TILE;
    if (head_dim <= 0) return 0;
    switch (type) {
    case GQA_TYPE_F32: return round_up(4 * values, 64);
    case GQA_TYPE_F16: case GQA_TYPE_BF16: return round_up(2 * values, 64);
    case GQA_TYPE_Q8_0: return head_dim % 32 ? 0 : round_up(values / 32 * 34, 64);
    case GQA_TYPE_Q4_0: return head_dim % 32 ? 0 : round_up(values / 32 * 18, 64);
    default: return 0;
    }
}

size_t gqa_kv_k_tile_bytes(int type, int head_dim) {
    return kv_tile_bytes(type, head_dim, head_dim);
}

size_t gqa_kv_v_tile_bytes(int type, int head_dim) {
    return kv_tile_bytes(type, head_dim, ceil_div(head_dim, 16) * 16);
}

/* What rows_in (attention_impl.h) carves up; 16 lanes of sums a row are enough for every
 * instruction set. */
size_t gqa_attention_scratch(int group, int head_dim) {
    const size_t rows = round_up((size_t)group * GQA_PREFILL_TILE, 16), vd = round_up(head_dim, 16);
    const size_t tiles = GQA_ATTEND_ROWS * GQA_KV_TILE + 2 * vd * GQA_KV_TILE + vd;
    return sizeof(float) * (tiles + rows * (2 * vd + 3 + 16)) + 64;
}
