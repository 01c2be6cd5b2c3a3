/* random.c: a checkpoint of any shape with random weights, made in memory: nothing has to be
 * downloaded to measure the speed of a shape. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/random.h"
#include "../kernels/tensor.h"
#include "formats.h"

/* Distinct random values; a large matrix repeats them from varying offsets. */
enum { RANDOM_VALUES = 1 << 18 };

static void set_default_shape(gqa_config *c) {
    const char *architecture = c->latent_dim ? "deepseek2" : c->tied_kv ? "gta" : "llama";
    if (!c->architecture[0]) strcpy(c->architecture, architecture);
    if (!c->name[0]) strcpy(c->name, "random weights");
    if (!c->n_kv_heads) c->n_kv_heads = c->n_heads;
    if (!c->head_dim && c->n_heads > 0) c->head_dim = c->dim / c->n_heads;
    if (!c->vocab_size) c->vocab_size = 32000;
    if (!c->context_length) c->context_length = 1 << 17;
    if (!c->rope_dim) c->rope_dim = c->tied_kv ? c->head_dim / 2 : c->head_dim;
    if (c->latent_dim && !(c->attention_scale > 0))
        c->attention_scale = 1 / sqrtf((float)(c->q_nope_dim + c->rope_dim));
    if (!(c->rope_theta > 0)) c->rope_theta = 10000;
    if (!(c->norm_eps > 0)) c->norm_eps = 1e-5f;
    if (!(c->rope_factor > 0)) c->rope_factor = 1;
    if (!(c->rope_attn_factor > 0)) c->rope_attn_factor = 1;
}

/* The tensors are walked twice: first (tensors NULL) they are counted, then they are filled in. */
typedef struct random_builder {
    gqa_checkpoint *c;
    size_t count;
    uint64_t size;      /* bytes of data, each tensor aligned to 64 */
    int misfit;         /* a row is not a multiple of the type's block, or the size overflows */
} random_builder;

/* [heads, rows, cols] */
static void add_tensor(random_builder *b, const char *name, int type, int heads, int rows,
                       int cols) {
    uint64_t dims[] = {(uint64_t)cols, (uint64_t)rows, (uint64_t)heads};
    uint64_t size = gqa_type_bytes(type, dims[0] * dims[1] * dims[2]);
    if (!size || !gqa_type_bytes(type, dims[0])) b->misfit = 1;
    if (b->c->tensors) {
        gqa_tensor *t = &b->c->tensors[b->count];
        *t = (gqa_tensor){.type = type, .n_dims = heads > 1 ? 3 : rows > 1 ? 2 : 1, .size = size,
                          .dims = {dims[0], dims[1], dims[2], 1},
                          .data = (const uint8_t *)b->c->owned + b->size};
        snprintf(t->name, sizeof t->name, "%s", name);
    }
    b->count++;
    b->size += align_up(size, 64);
}

/* rows 0: not in this layer. */
typedef struct layer_tensor {
    const char *name;
    int type, heads, rows, cols;
} layer_tensor;

static void add_layer(random_builder *b, int l, const layer_tensor *list, size_t n) {
    char name[GQA_TENSOR_NAME];
    for (const layer_tensor *t = list; t < list + n; t++) {
        snprintf(name, sizeof name, "blk.%d.%s", l, t->name);
        if (t->rows) add_tensor(b, name, t->type, t->heads, t->rows, t->cols);
    }
}

/* Its matrices of attention. */
static void add_attention(random_builder *b, const gqa_config *c, int type, int l) {
    int heads = c->n_heads, dim = c->dim, latent = c->latent_dim, rank = c->q_rank;
    int q_dim = heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    int low = rank ? rank : dim, latent_q_dim = heads * (c->q_nope_dim + c->rope_dim);
    const layer_tensor usual[] = {
        {"attn_q.weight", type, 1, q_dim, dim},
        {c->tied_kv ? "attn_kv.weight" : "attn_k.weight", type, 1, kv_dim, dim},
        {c->tied_kv ? "attn_k_rope.weight" : "attn_v.weight", type, 1,
         c->tied_kv ? c->rope_dim : kv_dim, dim},
        {"attn_output.weight", type, 1, dim, q_dim},
    };
    const layer_tensor of_latent[] = {
        {"attn_q_a.weight", type, 1, rank, dim},
        {"attn_q_a_norm.weight", GQA_TYPE_F32, 1, rank ? 1 : 0, rank},
        {rank ? "attn_q_b.weight" : "attn_q.weight", type, 1, latent_q_dim, low},
        {"attn_kv_a_mqa.weight", type, 1, c->head_dim, dim},
        {"attn_kv_a_norm.weight", GQA_TYPE_F32, 1, 1, latent},
        {"attn_k_b.weight", type, heads, latent, c->q_nope_dim},
        {"attn_v_b.weight", type, heads, c->value_dim, latent},
        {"attn_output.weight", type, 1, dim, heads * c->value_dim},
    };
    if (latent) add_layer(b, l, of_latent, array_length(of_latent));
    else add_layer(b, l, usual, array_length(usual));
}

static void add_tensors(random_builder *b, const gqa_config *c, int type) {
    const layer_tensor norms_and_ffn[] = {
        {"attn_norm.weight", GQA_TYPE_F32, 1, 1, c->dim},
        {"ffn_norm.weight", GQA_TYPE_F32, 1, 1, c->dim},
        {"ffn_gate.weight", type, 1, c->ffn_dim, c->dim},
        {"ffn_up.weight", type, 1, c->ffn_dim, c->dim},
        {"ffn_down.weight", type, 1, c->dim, c->ffn_dim},
    };
    b->count = 0;
    b->size = 0;
    add_tensor(b, "token_embd.weight", type, 1, c->vocab_size, c->dim);
    for (int l = 0; l < c->n_layers; l++) {
        add_attention(b, c, type, l);
        add_layer(b, l, norms_and_ffn, array_length(norms_and_ffn));
    }
    add_tensor(b, "output_norm.weight", GQA_TYPE_F32, 1, 1, c->dim);
    if (!c->tied_embeddings) add_tensor(b, "output.weight", type, 1, c->vocab_size, c->dim);
}

/* Where the types that gqa_quantize does not write have their f16 scale and minimum (0: none), and
 * the standard deviation of random codes that are scaled by 1. */
static const struct { int type, scale_at, min_at; float deviation; } random_codes[] = {
    {GQA_TYPE_Q2_K, 80, 82, 14},
    {GQA_TYPE_Q3_K, 108, 0, 43},
    {GQA_TYPE_IQ4_NL, 0, 0, 69},
    {GQA_TYPE_IQ4_XS, 0, 0, 1280},
};

/* Random codes under one scale, with about the deviation of uniform values in -limit..limit. */
static void fill_codes(int type, float limit, uint64_t *state, uint8_t *dst, size_t n) {
    const size_t block = (size_t)gqa_type_info_of(type)->bytes, bytes = gqa_type_bytes(type, n);
    for (size_t i = 0; i < bytes; i++) dst[i] = (uint8_t)(gqa_random_next(state) >> 56);
    for (size_t k = 0; k < array_length(random_codes); k++) {
        if (random_codes[k].type != type) continue;
        float scale = 0.58f * limit / random_codes[k].deviation, min = 1.5f * scale;
        for (size_t at = 0; at < bytes; at += block) {
            uint8_t *to_min = random_codes[k].min_at ? dst + at + random_codes[k].min_at : NULL;
            gqa_quantize(GQA_TYPE_F16, &scale, dst + at + random_codes[k].scale_at, 1);
            if (to_min) gqa_quantize(GQA_TYPE_F16, &min, to_min, 1);
        }
    }
}

void gqa_random_values(int type, float limit, uint64_t *state, float *values, void *dst,
                       size_t n) {
    gqa_random_uniform(values, n, limit, state);
    if (gqa_can_quantize(type)) gqa_quantize(type, values, dst, n);
    else fill_codes(type, limit, state, dst, n);
}

/* Vectors become ones. A matrix is filled from a pool of quantised values with standard deviation
 * near 1/sqrt(cols), so that activations keep their size through the layers. */
static void fill_tensor(gqa_tensor *t, uint64_t *state, float *values, uint8_t *pool) {
    uint8_t *data = (uint8_t *)t->data;
    if (t->n_dims == 1) {
        for (uint64_t i = 0; i < t->dims[0]; i++) ((float *)data)[i] = 1;
        return;
    }
    float limit = 1.5f / sqrtf((float)t->dims[0]); /* deviation 0.87 / sqrt(cols) */
    gqa_random_values(t->type, limit, state, values, pool, RANDOM_VALUES);
    const gqa_type_info *info = gqa_type_info_of(t->type);
    size_t block_bytes = (size_t)info->bytes, n_blocks = (size_t)(RANDOM_VALUES / info->block);
    for (size_t left = t->size / block_bytes; left > 0;) {
        size_t skip = gqa_random_next(state) % (n_blocks / 2), n = min_size(n_blocks - skip, left);
        memcpy(data, pool + skip * block_bytes, n * block_bytes);
        data += n * block_bytes;
        left -= n;
    }
}

/* Allocates the table and the data that b has counted, and fills them. */
static int build_tensors(random_builder *b, int type, uint64_t seed, gqa_error *err) {
    gqa_checkpoint *c = b->c;
    c->owned_size = b->size <= SIZE_MAX / 2 ? (size_t)b->size : 0;
    c->owned = c->owned_size ? gqa_pages_alloc(c->owned_size, 0) : NULL;
    c->tensors = calloc(b->count, sizeof *c->tensors);
    float *values = malloc(sizeof(float) * RANDOM_VALUES);
    uint8_t *pool = malloc(sizeof(float) * RANDOM_VALUES);
    int status = 0;
    if (c->owned && c->tensors && values && pool) {
        add_tensors(b, &c->config, type);
        for (; c->n_tensors < (int)b->count; c->n_tensors++)
            fill_tensor(&c->tensors[c->n_tensors], &seed, values, pool);
        status = gqa_checkpoint_index(c, err);
    } else {
        status = fail_memory(c, err, "no memory for %" PRIu64 " bytes of weights", b->size);
    }
    free(values);
    free(pool);
    return status;
}

int gqa_checkpoint_random(gqa_checkpoint *c, const gqa_config *shape, gqa_type type, uint64_t seed,
                          gqa_error *err) {
    memset(c, 0, sizeof *c);
    snprintf(c->path, sizeof c->path, "random model");
    c->format = "random weights";
    const gqa_type_info *info = gqa_type_info_of((int)type);
    if (!shape || !info)
        return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT, "no shape, or unknown type %d", type);
    if (gqa_check_reserved(shape->reserved, sizeof shape->reserved, "config", err))
        return GQA_ERR_ARGUMENT;
    c->config = *shape;
    c->config.qkv_bias = c->config.qk_norm = 0;
    set_default_shape(&c->config);
    int status = gqa_config_validate(&c->config, c->path, err);
    if (status) return status;
    random_builder b = {.c = c};
    add_tensors(&b, &c->config, (int)type);
    int head_dim = c->config.latent_dim ? c->config.q_nope_dim : c->config.head_dim;
    if (b.misfit)
        return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                             "type %s needs rows that are multiples of %d (dim %d, ffn %d, "
                             "%d heads of %d)", info->name, info->block, c->config.dim,
                             c->config.ffn_dim, c->config.n_heads, head_dim);
    status = build_tensors(&b, (int)type, seed, err);
    if (status) gqa_checkpoint_free(c);
    return status;
}
