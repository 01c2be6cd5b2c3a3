/* gguf_latent.c: deepseek2 files of before 2025 hold Wk_b and Wv_b of latent attention in one
 * tensor [heads, q_nope_dim + value_dim, latent_dim]; later ones have Wk_b transposed, as it is
 * used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/tensor.h"
#include "gguf.h"

static const char latent_suffix[] = ".attn_kv_b.weight";

static int is_joined(const gqa_tensor *t) {
    size_t n = strlen(t->name), m = sizeof latent_suffix - 1;
    return n > m && !strcmp(t->name + n - m, latent_suffix) && gqa_type_info_of(t->type);
}

/* Makes t [rows, cols] a tensor of [heads, ...] at *to, which moves behind it. */
static void place_tensor(gqa_tensor *t, const char *part, int type, const uint64_t dims[3],
                         uint8_t **to) {
    size_t stem = strlen(t->name) - (sizeof latent_suffix - 1);
    snprintf(t->name + stem, sizeof t->name - stem, ".attn_%s_b.weight", part);
    t->type = type;
    t->n_dims = 3;
    memcpy(t->dims, dims, 3 * sizeof *dims);
    t->dims[3] = 1;
    t->size = gqa_type_bytes(type, dims[0] * dims[1] * dims[2]);
    t->data = *to;
    *to += align_up(t->size, 64);
}

/* Splits *keys into it and *values. Wk_b is stored as halves, or f32 where it was. */
static void split_joined(const gqa_config *c, gqa_tensor *keys, gqa_tensor *values, uint8_t **to) {
    const gqa_tensor joined = *keys;
    const size_t heads = (size_t)c->n_heads, nope = (size_t)c->q_nope_dim;
    const size_t value = (size_t)c->value_dim, latent = (size_t)c->latent_dim;
    const size_t row_bytes = gqa_type_bytes(joined.type, latent);
    const int type = joined.type == GQA_TYPE_F32 ? GQA_TYPE_F32 : GQA_TYPE_F16;
    const uint64_t k_dims[] = {nope, latent, heads}, v_dims[] = {latent, value, heads};
    const size_t element = gqa_type_bytes(type, 1);
    uint8_t *k = *to;
    float row[GQA_MAX_HEAD_DIM];
    *values = joined;
    place_tensor(keys, "k", type, k_dims, to);
    uint8_t *v = *to;
    place_tensor(values, "v", joined.type, v_dims, to);
    for (size_t h = 0; h < heads; h++) {
        const uint8_t *from = joined.data + h * (nope + value) * row_bytes;
        for (size_t i = 0; i < nope; i++, from += row_bytes) {
            gqa_dequantize(joined.type, from, row, latent);
            for (size_t j = 0; j < latent; j++)
                gqa_quantize(type, &row[j], k + ((h * latent + j) * nope + i) * element, 1);
        }
        memcpy(v + h * value * row_bytes, from, value * row_bytes);
    }
}

int gguf_split_latent(gqa_checkpoint *c, gqa_error *err) {
    const gqa_config *g = &c->config;
    uint64_t latent = (uint64_t)g->latent_dim;
    uint64_t rows = (uint64_t)g->n_heads * (uint64_t)(g->q_nope_dim + g->value_dim), size = 0;
    size_t n = (size_t)c->n_tensors, count = 0;
    for (size_t i = 0; i < n; i++) {
        const gqa_tensor *t = &c->tensors[i];
        if (!is_joined(t)) continue;
        if (t->dims[0] != latent || t->dims[1] != rows || t->n_dims != 2)
            return fail_format(c, err, "tensor %s: expected shape [%llu, %llu]", t->name,
                               (unsigned long long)rows, (unsigned long long)latent);
        size += gqa_type_bytes(t->type, rows * latent) + rows * latent * sizeof(float) + 128;
        count++;
    }
    if (!count) return 0;
    gqa_tensor *grown = realloc(c->tensors, (n + count) * sizeof *grown);
    if (grown) c->tensors = grown;
    c->owned_size = size <= SIZE_MAX / 2 ? (size_t)size : 0;
    c->owned = c->owned_size ? gqa_pages_alloc(c->owned_size, 0) : NULL;
    free(c->by_name); /* it points into the old table */
    c->by_name = NULL;
    if (!grown || !c->owned) return fail_memory(c, err, "no memory for %zu tensors", n + count);
    uint8_t *to = c->owned;
    for (size_t i = 0; i < n; i++)
        if (is_joined(&c->tensors[i]))
            split_joined(g, &c->tensors[i], &c->tensors[c->n_tensors++], &to);
    return gqa_checkpoint_index(c, err);
}
