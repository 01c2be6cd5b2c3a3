/* random.c: a checkpoint of any shape with random weights, made in memory: nothing to download before the speed of
 * a shape can be measured. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/tensor.h"
#include "formats.h"
#include "../base/random.h"

enum { POOL_VALUES = 1 << 18 };  /* distinct random values; a large matrix repeats them at shifting offsets */

static void defaults(gqa_config *c) {
    if (!c->architecture[0]) strcpy(c->architecture, "llama");
    if (!c->name[0]) strcpy(c->name, "random weights");
    if (!c->n_kv_heads) c->n_kv_heads = c->n_heads;
    if (!c->head_dim && c->n_heads > 0) c->head_dim = c->dim / c->n_heads;
    if (!c->vocab_size) c->vocab_size = 32000;
    if (!c->context_length) c->context_length = 1 << 17;
    if (!c->rope_dim) c->rope_dim = c->head_dim;
    if (!(c->rope_theta > 0)) c->rope_theta = 10000;
    if (!(c->norm_eps > 0)) c->norm_eps = 1e-5f;
    if (!(c->rope_factor > 0)) c->rope_factor = 1;
    if (!(c->rope_attn_factor > 0)) c->rope_attn_factor = 1;
}

typedef struct builder {
    gqa_checkpoint *c;
    int count;
    uint64_t size;      /* bytes of data so far, each tensor aligned to 64 */
    int overflow;
} builder;

/* First pass (tensors NULL): counts. Second: fills the table; offsets are kept in .data until memory exists. */
static void add(builder *b, const char *name, int type, int rows, int cols) {
    uint64_t n = (uint64_t)rows * (uint64_t)cols, bytes = gqa_type_bytes(type, n);
    if (!bytes || gqa_type_bytes(type, (uint64_t)cols) == 0) b->overflow = 1;
    if (b->c->tensors) {
        gqa_tensor *t = &b->c->tensors[b->count];
        *t = (gqa_tensor){.type = type, .n_dims = rows > 1 ? 2 : 1, .dims = {(uint64_t)cols, (uint64_t)rows, 1, 1}, .size = bytes};
        snprintf(t->name, sizeof t->name, "%s", name);
        t->data = (const uint8_t *)b->c->owned + b->size;
    }
    b->count++;
    b->size += (bytes + 63) & ~(uint64_t)63;
}

static void add_all(builder *b, const gqa_config *c, int type) {
    int q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    const struct { const char *name; int type, rows, cols; } layer[] = {
        {"attn_norm.weight", GQA_TYPE_F32, 1, c->dim},  {"attn_q.weight", type, q_dim, c->dim},
        {"attn_k.weight", type, kv_dim, c->dim},        {"attn_v.weight", type, kv_dim, c->dim},
        {"attn_output.weight", type, c->dim, q_dim},    {"ffn_norm.weight", GQA_TYPE_F32, 1, c->dim},
        {"ffn_gate.weight", type, c->ffn_dim, c->dim},  {"ffn_up.weight", type, c->ffn_dim, c->dim},
        {"ffn_down.weight", type, c->dim, c->ffn_dim},
    };
    b->count = 0;
    b->size = 0;
    add(b, "token_embd.weight", type, c->vocab_size, c->dim);
    for (int l = 0; l < c->n_layers; l++)
        for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++) {
            char name[GQA_TENSOR_NAME];
            snprintf(name, sizeof name, "blk.%d.%s", l, layer[i].name);
            add(b, name, layer[i].type, layer[i].rows, layer[i].cols);
        }
    add(b, "output_norm.weight", GQA_TYPE_F32, 1, c->dim);
    if (!c->tied_embeddings) add(b, "output.weight", type, c->vocab_size, c->dim);
}

/* Vectors become ones. A matrix is filled from a pool of quantised values with standard deviation near 1/sqrt(cols),
 * so that activations keep their size through the layers. */
static void fill(gqa_tensor *t, uint64_t *state, float *values, uint8_t *pool) {
    uint8_t *data = (uint8_t *)t->data;
    if (t->n_dims == 1) {
        for (uint64_t i = 0; i < t->dims[0]; i++) ((float *)data)[i] = 1;
        return;
    }
    float scale = 3.0f / sqrtf((float)t->dims[0]);  /* uniform in [-scale/2, scale/2): deviation 0.87/sqrt(cols) */
    for (int i = 0; i < POOL_VALUES; i++) values[i] = ((float)(gqa_random_next(state) >> 40) / 16777216.0f - 0.5f) * scale;
    gqa_quantize(t->type, values, pool, POOL_VALUES);
    const gqa_type_info *info = gqa_type_info_of(t->type);
    size_t n_blocks = (size_t)(POOL_VALUES / info->block), left = (size_t)(t->size / (uint64_t)info->bytes);
    while (left) {
        size_t skip = (size_t)gqa_random_next(state) % (n_blocks / 2), n = n_blocks - skip;
        if (n > left) n = left;
        memcpy(data, pool + skip * (size_t)info->bytes, n * (size_t)info->bytes);
        data += n * (size_t)info->bytes;
        left -= n;
    }
}

int gqa_checkpoint_random(gqa_checkpoint *c, const gqa_config *shape, gqa_type type, uint64_t seed, gqa_error *err) {
    memset(c, 0, sizeof *c);
    snprintf(c->path, sizeof c->path, "random model");
    c->format = "random weights";
    const gqa_type_info *info = gqa_type_info_of((int)type);
    if (!shape || !info) return gqa_fail(err, GQA_ERR_ARGUMENT, "random model: no shape, or unknown type %d", (int)type);
    c->config = *shape;
    c->config.qkv_bias = c->config.qk_norm = 0;
    defaults(&c->config);
    int status = gqa_config_validate(&c->config, c->path, err);
    if (status) return status;
    builder b = {.c = c};
    add_all(&b, &c->config, (int)type);
    if (b.overflow)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "random model: type %s needs rows that are multiples of %d (dim %d, ffn %d)",
                        info->name, info->block, c->config.dim, c->config.ffn_dim);
    c->owned = aligned_alloc(64, (size_t)b.size);
    c->tensors = calloc((size_t)b.count, sizeof *c->tensors);
    float *values = malloc(sizeof(float) * POOL_VALUES);
    uint8_t *pool = malloc(sizeof(float) * POOL_VALUES);
    if (!c->owned || !c->tensors || !values || !pool) {
        status = gqa_fail(err, GQA_ERR_MEMORY, "random model: no memory for %llu bytes of weights", (unsigned long long)b.size);
    } else {
        add_all(&b, &c->config, (int)type);
        c->n_tensors = b.count;
        for (int i = 0; i < c->n_tensors; i++) fill(&c->tensors[i], &seed, values, pool);
    }
    free(values);
    free(pool);
    if (status) gqa_checkpoint_free(c);
    return status;
}
