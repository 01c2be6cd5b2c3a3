/* net.c: storage for a model in training: weights, what the forward pass keeps, buffers of the
 * backward pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_internal.h"

/* Adds rows * cols floats, rounded up to `unit`, to *used; returns where they start. What is more
 * than a size holds sets *overflow. */
static size_t reserve(size_t *used, size_t rows, size_t cols, size_t unit, int *overflow) {
    uint64_t count, end;
    size_t start = *used;
    if (gqa_mul_size(rows, cols, &count) || gqa_add_size(start, count, &end) || end > SIZE_MAX / 8)
        *overflow = 1;
    else *used = round_up((size_t)end, unit);
    return start;
}

/* ---- weights --------------------------------------------------------------------------------- */

static size_t add_weight(network *net, const char *name, int rows, int cols) {
    weight *w = &net->weights[net->n_weights++];
    snprintf(w->name, sizeof w->name, "%s", name);
    w->heads = 1;
    w->rows = rows;
    w->cols = cols;
    w->offset = reserve(&net->n_params, (size_t)rows, (size_t)cols, 1, &net->overflow);
    w->count = net->n_params - w->offset;
    return w->offset;
}

static size_t add_layer_weight(network *net, int layer, const char *name, int rows, int cols) {
    char full[GQA_TENSOR_NAME + 1];
    snprintf(full, sizeof full, "blk.%d.%s.weight", layer, name);
    return add_weight(net, full, rows, cols);
}

/* rows: of one head. */
static size_t add_heads(network *net, int layer, const char *name, int rows, int cols) {
    int heads = net->config.n_heads;
    size_t offset = add_layer_weight(net, layer, name, heads * rows, cols);
    weight *w = &net->weights[net->n_weights - 1];
    w->heads = heads;
    w->rows = rows;
    return offset;
}

/* What a layer's keys and values are made of, after attn_q. */
static void list_kv_weights(network *net, int l) {
    const gqa_config *c = &net->config;
    layer_offsets *layer = &net->layers[l];
    int latent = c->latent_dim, kv_dim = c->n_kv_heads * c->head_dim;
    if (!latent) {
        add_layer_weight(net, l, c->tied_kv ? "attn_kv" : "attn_k", kv_dim, c->dim);
        if (c->tied_kv) add_layer_weight(net, l, "attn_k_rope", c->rope_dim, c->dim);
        else add_layer_weight(net, l, "attn_v", kv_dim, c->dim);
        return;
    }
    add_layer_weight(net, l, "attn_kv_a_mqa", kv_dim, c->dim);
    layer->latent_norm = add_layer_weight(net, l, "attn_kv_a_norm", 1, latent);
    layer->wk_b = add_heads(net, l, "attn_k_b", latent, c->q_nope_dim);
    layer->wv_b = add_heads(net, l, "attn_v_b", c->value_dim, latent);
}

/* The one list of the tensors of a model, in the order of the flat array. */
static void list_weights(network *net) {
    const gqa_config *c = &net->config;
    net->embedding = add_weight(net, "token_embd.weight", c->vocab_size, c->dim);
    for (int l = 0; l < c->n_layers; l++) {
        layer_offsets *layer = &net->layers[l];
        layer->attn_norm = add_layer_weight(net, l, "attn_norm", 1, c->dim);
        layer->wqkv = add_layer_weight(net, l, "attn_q", (int)net->qkv.q_dim, c->dim);
        list_kv_weights(net, l);
        layer->wo = add_layer_weight(net, l, "attn_output", c->dim, (int)net->qkv.attn_dim);
        layer->ffn_norm = add_layer_weight(net, l, "ffn_norm", 1, c->dim);
        layer->w_gate_up = add_layer_weight(net, l, "ffn_gate", c->ffn_dim, c->dim);
        add_layer_weight(net, l, "ffn_up", c->ffn_dim, c->dim);
        layer->w_down = add_layer_weight(net, l, "ffn_down", c->dim, c->ffn_dim);
    }
    net->output_norm = add_weight(net, "output_norm.weight", 1, c->dim);
    net->classifier = net->embedding;
    if (!c->tied_embeddings)
        net->classifier = add_weight(net, "output.weight", c->vocab_size, c->dim);
}

/* Matrices: normal with deviation 0.5 / sqrt(inputs), the embedding 0.02; those that write to the
 * residual stream are smaller by 1 / sqrt(2 layers) (Radford et al. 2019). Norms: 1. */
static double initial_deviation(const network *net, const weight *w) {
    int is_embedding = w->offset == net->embedding || w->offset == net->classifier;
    int inputs = strstr(w->name, "attn_k_b") ? w->rows : w->cols; /* it is stored transposed */
    double deviation = is_embedding ? 0.02 : 0.5 / sqrt(inputs);
    if (strstr(w->name, "attn_output") || strstr(w->name, "ffn_down"))
        deviation /= sqrt(2.0 * net->config.n_layers);
    return deviation;
}

/* A value follows from the seed and its index alone. */
void train_net_randomise(network *net, uint64_t seed) {
    for (int i = 0; i < net->n_weights; i++) {
        const weight *w = &net->weights[i];
        float *values = net->params + w->offset;
        double deviation = initial_deviation(net, w);
        for (size_t j = 0; j < w->count; j++) { /* Box & Muller 1958 */
            uint64_t index = 2 * (w->offset + j);
            double u = gqa_random_unit(gqa_random_at(seed, index)) + 0x1p-54;
            double angle = 6.283185307179586 * gqa_random_unit(gqa_random_at(seed, index + 1));
            double normal = deviation * sqrt(-2 * log(u)) * cos(angle);
            values[j] = w->rows == 1 ? 1.0f : (float)normal;
        }
    }
}

int train_net_load(network *net, const gqa_checkpoint *c, gqa_error *err) {
    for (int i = 0; i < net->n_weights; i++) {
        const weight *w = &net->weights[i];
        const gqa_tensor *t = gqa_checkpoint_tensor(c, w->name);
        if (!t)
            return gqa_fail_path(c->path, err, GQA_ERR_FORMAT, "tensor %s is missing", w->name);
        unsigned long long cols = t->dims[0], rows = t->dims[1], heads = t->dims[2];
        int is_same = cols == (unsigned)w->cols && rows == (unsigned)w->rows;
        if (!is_same || heads != (unsigned)w->heads)
            return gqa_fail_path(c->path, err, GQA_ERR_FORMAT,
                                 "tensor %s: expected [%d, %d, %d], got [%llu, %llu, %llu]",
                                 w->name, w->heads, w->rows, w->cols, heads, rows, cols);
        gqa_dequantize(t->type, t->data, net->params + w->offset, w->count);
    }
    return 0;
}

/* ---- storage --------------------------------------------------------------------------------- */

/* Cuts buffers from one allocation; with base NULL it only counts. They start on cache lines. */
typedef struct carver {
    float *base;
    size_t used;
    int overflow;
} carver;

static float *carve(carver *c, size_t rows, size_t cols) {
    size_t start = reserve(&c->used, rows, cols, 16, &c->overflow);
    return c->base ? c->base + start : NULL;
}

/* Storage for what was counted; NULL: no memory. */
static float *carver_alloc(carver *c) {
    c->base = c->overflow ? NULL : gqa_pages_alloc(c->used * sizeof(float), 1);
    c->used = 0;
    return c->base;
}

static void carve_net(network *net, carver *c) {
    size_t tokens = net->max_tokens, dim = net->dim, ffn = net->ffn_dim;
    for (int l = 0; l < net->config.n_layers; l++) {
        layer_acts *a = &net->acts[l];
        a->x = carve(c, tokens, dim);
        a->normed = carve(c, tokens, dim);
        a->qkv = carve(c, tokens, net->qkv.qkv_dim);
        a->attn = carve(c, tokens, net->qkv.attn_dim);
        a->lse = carve(c, tokens, net->config.n_heads);
        a->mid = carve(c, tokens, dim);
        a->normed2 = carve(c, tokens, dim);
        a->gate_up = carve(c, tokens, 2 * ffn);
        a->hidden = carve(c, tokens, ffn);
    }
    net->x = carve(c, tokens, dim);
    net->final = carve(c, tokens, dim);
    net->rope = carve(c, 2 * net->length, net->qkv.rope_dim);
}

static void fill_rope(network *net) {
    size_t rope_dim = net->qkv.rope_dim, pairs = rope_dim / 2;
    float *table = net->rope, *inverse = net->rope + net->length * rope_dim;
    for (size_t t = 0; t < net->length; t++, table += rope_dim, inverse += rope_dim)
        for (size_t i = 0; i < pairs; i++) {
            double exponent = -2.0 * (double)i / net->config.rope_dim;
            double angle = (double)t * pow((double)net->config.rope_theta, exponent);
            table[i] = inverse[i] = (float)cos(angle);
            table[pairs + i] = (float)sin(angle);
            inverse[pairs + i] = (float)-sin(angle);
        }
}

qkv_layout train_qkv_layout(const gqa_config *c) {
    qkv_layout q = {.rope_dim = c->rope_dim, .latent_dim = c->latent_dim};
    q.n_heads = c->n_heads;
    q.n_kv_heads = c->latent_dim ? c->n_heads : c->n_kv_heads;
    q.nope_dim = c->latent_dim ? c->q_nope_dim : c->tied_kv ? c->head_dim - c->rope_dim : 0;
    q.key_dim = c->latent_dim ? c->q_nope_dim + c->rope_dim : c->head_dim;
    q.value_dim = c->latent_dim ? c->value_dim : c->head_dim;
    q.q_dim = q.n_heads * q.key_dim;
    q.attn_dim = q.n_heads * q.value_dim;
    size_t keys = q.n_kv_heads * q.key_dim, values = q.n_kv_heads * q.value_dim;
    q.row = q.shared = q.k = q.q_dim;
    q.n_rotated = c->latent_dim || c->tied_kv ? 1 : q.n_kv_heads;
    if (c->latent_dim) {
        q.shared = q.row + q.latent_dim;
        q.normed = q.proj_dim = q.shared + q.rope_dim;
        q.k = q.normed + q.latent_dim;
    } else if (c->tied_kv) {
        q.shared = q.row + values;
        q.k = q.proj_dim = q.shared + q.rope_dim;
    }
    q.v = c->tied_kv ? q.row : q.k + keys;
    q.qkv_dim = q.k + keys + (c->tied_kv ? 0 : values);
    if (!q.proj_dim) q.proj_dim = q.qkv_dim;
    return q;
}

static void set_dims(network *net, const gqa_config *config, const gqa_train_options *o) {
    *net = (network){.config = *config, .length = o->length, .qkv = train_qkv_layout(config)};
    net->max_tokens = o->micro_batch * net->length;
    net->dim = config->dim;
    net->ffn_dim = config->ffn_dim;
    net->vocab_size = config->vocab_size;
}

int train_net_init(network *net, const gqa_config *config, const gqa_train_options *o,
                   int with_grads, gqa_error *err) {
    size_t n_layers = config->n_layers;
    set_dims(net, config, o);
    net->weights = calloc(n_layers * 11 + 3, sizeof *net->weights);
    net->layers = calloc(n_layers, sizeof *net->layers);
    net->acts = calloc(n_layers, sizeof *net->acts);
    if (!net->weights || !net->layers || !net->acts) goto no_memory;
    list_weights(net);
    carver c = {0};
    carve_net(net, &c);
    net->memory_bytes = c.used * sizeof(float);
    if (net->overflow) goto no_memory;
    net->memory = carver_alloc(&c);
    net->params = gqa_pages_alloc(net->n_params * sizeof(float), 1);
    if (with_grads) net->grads = gqa_pages_alloc(net->n_params * sizeof(float), 1);
    if (!c.base || !net->params || (with_grads && !net->grads)) goto no_memory;
    carve_net(net, &c);
    fill_rope(net);
    return 0;
no_memory:
    train_net_free(net);
    return gqa_fail(err, GQA_ERR_MEMORY,
                    "no memory to train a model of %zu weights on %zu tokens at once",
                    net->n_params, net->max_tokens);
}

void train_net_free(network *net) {
    size_t bytes = net->n_params * sizeof(float);
    if (net->memory) gqa_pages_free(net->memory, net->memory_bytes);
    if (net->params) gqa_pages_free(net->params, bytes);
    if (net->grads) gqa_pages_free(net->grads, bytes);
    free(net->weights);
    free(net->layers);
    free(net->acts);
    net->memory = net->params = net->grads = NULL;
    net->weights = NULL;
    net->layers = NULL;
    net->acts = NULL;
}

static void carve_back(backward_acts *back, const network *net, int with_teachers, carver *c) {
    size_t tokens = net->max_tokens, dim = net->dim, vocab = net->vocab_size;
    back->dx = carve(c, tokens, dim);
    back->dnormed = carve(c, tokens, dim);
    back->dqkv = carve(c, tokens, net->qkv.qkv_dim);
    back->dattn = carve(c, tokens, net->qkv.attn_dim);
    back->dgate_up = carve(c, tokens, 2 * net->ffn_dim);
    back->dhidden = carve(c, tokens, net->ffn_dim);
    back->partial = carve(c, tokens / NORM_TOKENS + 1, max_size(dim, net->qkv.latent_dim));
    back->logits = carve(c, LOSS_TOKENS, vocab);
    back->teachers = with_teachers ? carve(c, LOSS_TOKENS, vocab) : NULL;
    back->loss = (double *)(void *)carve(c, tokens, sizeof(double) / sizeof(float));
}

int train_back_init(backward_acts *back, const network *net, int with_teachers, gqa_error *err) {
    carver c = {0};
    carve_back(back, net, with_teachers, &c);
    back->memory_bytes = c.used * sizeof(float);
    back->memory = carver_alloc(&c);
    if (!back->memory)
        return gqa_fail(err, GQA_ERR_MEMORY, "no memory for the backward pass of %zu tokens",
                        net->max_tokens);
    carve_back(back, net, with_teachers, &c);
    return 0;
}

void train_back_free(backward_acts *back) {
    if (back->memory) gqa_pages_free(back->memory, back->memory_bytes);
    *back = (backward_acts){0};
}
