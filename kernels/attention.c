/* attention.c: the KV cache's types by name, and sizes of its tiles (cache_impl.h draws them). */
#include <stdio.h>
#include <string.h>

#include "../base/base.h"
#include "kernels.h"

static size_t kv_tile_bytes(int type, size_t dims) {
    const size_t values = dims * GQA_KV_TILE, blocks = round_up(dims, 32) / 32 * GQA_KV_TILE;
    switch (type) {
    case GQA_TYPE_F32: return round_up(4 * values, 64);
    case GQA_TYPE_F16: case GQA_TYPE_BF16: return round_up(2 * values, 64);
    case GQA_TYPE_Q8_0: return round_up(34 * blocks, 64);
    case GQA_TYPE_Q4_0: return round_up(18 * blocks, 64);
    default: return 0;
    }
}

size_t gqa_kv_k_tile_bytes(int type, int head_dim) {
    return head_dim > 0 ? kv_tile_bytes(type, (size_t)head_dim) : 0;
}

size_t gqa_kv_v_tile_bytes(int type, int head_dim) {
    return head_dim > 0 ? kv_tile_bytes(type, round_up((size_t)head_dim, 16)) : 0;
}

int gqa_kv_types(const char *name, int *k_type, int *v_type) {
    char k_name[8];
    if (!name) name = "f16";
    size_t len = strcspn(name, "/");
    if (len >= sizeof k_name) return -1;
    memcpy(k_name, name, len);
    k_name[len] = 0;
    *k_type = gqa_type_from_name(k_name);
    *v_type = name[len] ? gqa_type_from_name(name + len + 1) : *k_type;
    return gqa_kv_k_tile_bytes(*k_type, 32) && gqa_kv_v_tile_bytes(*v_type, 32) ? 0 : -1;
}

const char *gqa_kv_name(int k_type, int v_type, char buf[24]) {
    const char *k = gqa_type_name(k_type), *v = gqa_type_name(v_type);
    snprintf(buf, 24, k_type == v_type ? "%s" : "%s/%s", k ? k : "unknown", v ? v : "unknown");
    return buf;
}

/* What rows_in (attention_impl.h) carves up; 16 lanes of sums a row are enough for every
 * instruction set. */
size_t gqa_attention_scratch(int group, int head_dim) {
    const size_t rows = round_up((size_t)group * GQA_PREFILL_TILE, 16), vd = round_up(head_dim, 32);
    const size_t tile = GQA_ATTEND_ROWS * GQA_KV_TILE + 2 * vd * GQA_KV_TILE;
    const size_t scales = vd + GQA_ATTEND_ROWS * (vd / 2 + vd / 16) + vd / 2;
    return sizeof(float) * (tile + scales + rows * (2 * vd + vd / 2 + 4 + 16)) + 64;
}
