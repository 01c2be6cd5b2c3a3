/* net.c: the memory of a model in training: weights, what the forward pass keeps, buffers of the backward pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_internal.h"

static size_t add_weight(net *n, const char *name, int rows, int cols) {
    weight *w = &n->weights[n->n_weights++];
    snprintf(w->name, sizeof w->name, "%s", name);
    w->rows = rows;
    w->cols = cols;
    w->offset = n->n_params;
    n->n_params += (size_t)rows * (size_t)cols;
    return w->offset;
}

static size_t add_layer_weight(net *n, int layer, const char *name, int rows, int cols) {
    char full[GQA_TENSOR_NAME + 1];
    snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    return add_weight(n, full, rows, cols);
}

/* The one list of the tensors of a llama model, in the order of the flat array. */
static void list_weights(net *n) {
    const gqa_config *c = &n->config;
    n->embedding = add_weight(n, "token_embd.weight", c->vocab_size, c->dim);
    for (int l = 0; l < c->n_layers; l++) {
        layer_offsets *o = &n->layers[l];
        o->attn_norm = add_layer_weight(n, l, "attn_norm.weight", 1, c->dim);
        o->wqkv = add_layer_weight(n, l, "attn_q.weight", n->q_dim, c->dim);
        add_layer_weight(n, l, "attn_k.weight", n->kv_dim, c->dim);
        add_layer_weight(n, l, "attn_v.weight", n->kv_dim, c->dim);
        o->wo = add_layer_weight(n, l, "attn_output.weight", c->dim, n->q_dim);
        o->ffn_norm = add_layer_weight(n, l, "ffn_norm.weight", 1, c->dim);
        o->wgu = add_layer_weight(n, l, "ffn_gate.weight", c->ffn_dim, c->dim);
        add_layer_weight(n, l, "ffn_up.weight", c->ffn_dim, c->dim);
        o->wdown = add_layer_weight(n, l, "ffn_down.weight", c->dim, c->ffn_dim);
    }
    n->output_norm = add_weight(n, "output_norm.weight", 1, c->dim);
    n->classifier = c->tied_embeddings ? n->embedding : add_weight(n, "output.weight", c->vocab_size, c->dim);
}

/* Hands out parts of one allocation; with base NULL it only counts. Parts start on cache lines. */
typedef struct carver {
    float *base;
    size_t used;
} carver;
static float *carve(carver *c, size_t rows, size_t cols) {
    float *p = c->base ? c->base + c->used : NULL;
    c->used += (rows * cols + 15) & ~(size_t)15;
    return p;
}

static void carve_net(net *n, carver *c) {
    size_t t = (size_t)n->max_tokens, dim = (size_t)n->config.dim, ffn = (size_t)n->config.ffn_dim;
    for (int l = 0; l < n->config.n_layers; l++) {
        layer_acts *a = &n->acts[l];
        a->x = carve(c, t, dim);
        a->normed = carve(c, t, dim);
        a->qkv = carve(c, t, (size_t)n->qkv_dim);
        a->att = carve(c, t, (size_t)n->q_dim);
        a->lse = carve(c, t, (size_t)n->config.n_heads);
        a->mid = carve(c, t, dim);
        a->normed2 = carve(c, t, dim);
        a->gu = carve(c, t, 2 * ffn);
        a->hidden = carve(c, t, ffn);
    }
    n->x = carve(c, t, dim);
    n->final = carve(c, t, dim);
    n->rope = carve(c, 2 * (size_t)n->length, (size_t)n->config.head_dim);
}

static void fill_rope(net *n) {
    int pairs = n->config.rope_dim / 2, width = n->config.head_dim;
    float *reverse = n->rope + (size_t)n->length * (size_t)width;
    for (int t = 0; t < n->length; t++)
        for (int i = 0; i < pairs; i++) {
            double angle = t * pow((double)n->config.rope_theta, -2.0 * i / n->config.rope_dim);
            size_t at = (size_t)t * (size_t)width + (size_t)i;
            n->rope[at] = reverse[at] = (float)cos(angle);
            n->rope[at + (size_t)pairs] = (float)sin(angle);
            reverse[at + (size_t)pairs] = (float)-sin(angle);
        }
}

int train_net_init(net *n, const gqa_config *config, int length, int max_tokens, int with_grads, gqa_error *err) {
    memset(n, 0, sizeof *n);
    n->config = *config;
    n->q_dim = config->n_heads * config->head_dim;
    n->kv_dim = config->n_kv_heads * config->head_dim;
    n->qkv_dim = n->q_dim + 2 * n->kv_dim;
    n->length = length;
    n->max_tokens = max_tokens;
    n->weights = calloc((size_t)config->n_layers * 9 + 3, sizeof *n->weights);
    n->layers = calloc((size_t)config->n_layers, sizeof *n->layers);
    n->acts = calloc((size_t)config->n_layers, sizeof *n->acts);
    if (!n->weights || !n->layers || !n->acts) goto no_memory;
    list_weights(n);
    carver c = {0};
    carve_net(n, &c);
    n->memory_bytes = c.used * sizeof(float);
    n->memory = c.base = gqa_pages_alloc(n->memory_bytes, 1);
    n->params = gqa_pages_alloc(n->n_params * sizeof(float), 1);
    if (with_grads) n->grads = gqa_pages_alloc(n->n_params * sizeof(float), 1);
    if (!c.base || !n->params || (with_grads && !n->grads)) goto no_memory;
    c.used = 0;
    carve_net(n, &c);
    fill_rope(n);
    return 0;
no_memory:
    train_net_free(n);
    return gqa_fail(err, GQA_ERR_MEMORY, "no memory to train a model of %zu weights on %d tokens at once", n->n_params,
                    max_tokens);
}

void train_net_free(net *n) {
    if (n->memory) gqa_pages_free(n->memory, n->memory_bytes);
    if (n->params) gqa_pages_free(n->params, n->n_params * sizeof(float));
    if (n->grads) gqa_pages_free(n->grads, n->n_params * sizeof(float));
    free(n->weights);
    free(n->layers);
    free(n->acts);
    n->memory = n->params = n->grads = NULL;
    n->weights = NULL;
    n->layers = NULL;
    n->acts = NULL;
}

/* Matrices: normal with deviation 0.5 / sqrt(cols), the embedding 0.02; those that write to the residual stream are
 * smaller by 1 / sqrt(2 layers) (Radford et al. 2019). Norm weights are 1. Each value depends on its place only. */
void train_net_randomise(net *n, uint64_t seed) {
    for (int i = 0; i < n->n_weights; i++) {
        const weight *w = &n->weights[i];
        float *p = n->params + w->offset;
        size_t count = (size_t)w->rows * (size_t)w->cols;
        double deviation = w->offset == n->embedding || w->offset == n->classifier ? 0.02 : 0.5 / sqrt(w->cols);
        if (strstr(w->name, "attn_output") || strstr(w->name, "ffn_down")) deviation /= sqrt(2.0 * n->config.n_layers);
        for (size_t j = 0; j < count; j++) {
            uint64_t at = 2 * (w->offset + j);
            double u = gqa_random_unit(gqa_random_at(seed, at)) + 0x1p-54;
            double angle = 6.283185307179586 * gqa_random_unit(gqa_random_at(seed, at + 1));
            p[j] = w->rows == 1 ? 1.0f : (float)(deviation * sqrt(-2 * log(u)) * cos(angle)); /* Box & Muller 1958 */
        }
    }
}

int train_net_load(net *n, const gqa_checkpoint *c, gqa_error *err) {
    for (int i = 0; i < n->n_weights; i++) {
        const weight *w = &n->weights[i];
        const gqa_tensor *t = gqa_checkpoint_tensor(c, w->name);
        if (!t) return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s is missing", c->path, w->name);
        uint64_t rows = t->n_dims > 1 ? t->dims[1] : 1;
        if (t->dims[0] != (uint64_t)w->cols || rows != (uint64_t)w->rows)
            return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s: expected [%d, %d], got [%llu, %llu]", c->path, w->name,
                            w->rows, w->cols, (unsigned long long)rows, (unsigned long long)t->dims[0]);
        gqa_dequantize(t->type, t->data, n->params + w->offset, (size_t)w->rows * (size_t)w->cols);
    }
    return 0;
}

static void carve_back(backward *b, const net *n, int with_teacher, carver *c) {
    size_t t = (size_t)n->max_tokens, dim = (size_t)n->config.dim, vocab = (size_t)n->config.vocab_size;
    b->dx = carve(c, t, dim);
    b->dnormed = carve(c, t, dim);
    b->dqkv = carve(c, t, (size_t)n->qkv_dim);
    b->datt = carve(c, t, (size_t)n->q_dim);
    b->dgu = carve(c, t, 2 * (size_t)n->config.ffn_dim);
    b->dhidden = carve(c, t, (size_t)n->config.ffn_dim);
    b->partial = carve(c, t / NORM_TOKENS + 1, dim);
    b->logits = carve(c, LOSS_TOKENS, vocab);
    b->teacher = with_teacher ? carve(c, LOSS_TOKENS, vocab) : NULL;
    b->loss = (double *)(void *)carve(c, t, sizeof(double) / sizeof(float));
}

int train_back_init(backward *b, const net *n, int with_teacher, gqa_error *err) {
    carver c = {0};
    carve_back(b, n, with_teacher, &c);
    b->memory_bytes = c.used * sizeof(float);
    b->memory = c.base = gqa_pages_alloc(b->memory_bytes, 1);
    if (!c.base) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for the backward pass of %d tokens", n->max_tokens);
    c.used = 0;
    carve_back(b, n, with_teacher, &c);
    return 0;
}

void train_back_free(backward *b) {
    if (b->memory) gqa_pages_free(b->memory, b->memory_bytes);
    memset(b, 0, sizeof *b);
}
