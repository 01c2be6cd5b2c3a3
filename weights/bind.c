/* bind.c: from a table of named tensors to the struct that the forward pass reads. One table of names and shapes
 * drives the checks, the binding and the error messages. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_internal.h"

/* A tensor the architecture wants. rows 0: a vector of cols values, copied to f32 at *vector; else a matrix. */
typedef struct slot {
    char name[GQA_TENSOR_NAME];
    int rows, cols, optional;
    const float **vector;
    gqa_matrix *matrix;
} slot;

enum { LAYER_SLOTS = 14, MODEL_SLOTS = 4 };

/* The tensors of layer l, in the order of the computation. */
static void layer_slots(const gqa_config *c, gqa_layer *layer, int l, slot out[LAYER_SLOTS]) {
    int q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    const struct { const char *name; int rows, cols, optional; const float **vector; gqa_matrix *matrix; } table[LAYER_SLOTS] = {
        {"attn_norm.weight", 0, c->dim, 0, &layer->attn_norm, NULL},
        {"attn_q.weight", q_dim, c->dim, 0, NULL, &layer->wq},
        {"attn_k.weight", kv_dim, c->dim, 0, NULL, &layer->wk},
        {"attn_v.weight", kv_dim, c->dim, 0, NULL, &layer->wv},
        {"attn_q.bias", 0, q_dim, !c->qkv_bias, &layer->bq, NULL},
        {"attn_k.bias", 0, kv_dim, !c->qkv_bias, &layer->bk, NULL},
        {"attn_v.bias", 0, kv_dim, !c->qkv_bias, &layer->bv, NULL},
        {"attn_q_norm.weight", 0, c->head_dim, !c->qk_norm, &layer->q_norm, NULL},
        {"attn_k_norm.weight", 0, c->head_dim, !c->qk_norm, &layer->k_norm, NULL},
        {"attn_output.weight", c->dim, q_dim, 0, NULL, &layer->wo},
        {"ffn_norm.weight", 0, c->dim, 0, &layer->ffn_norm, NULL},
        {"ffn_gate.weight", c->ffn_dim, c->dim, 0, NULL, &layer->w_gate},
        {"ffn_up.weight", c->ffn_dim, c->dim, 0, NULL, &layer->w_up},
        {"ffn_down.weight", c->dim, c->ffn_dim, 0, NULL, &layer->w_down},
    };
    for (int i = 0; i < LAYER_SLOTS; i++) {
        out[i] = (slot){"", table[i].rows, table[i].cols, table[i].optional, table[i].vector, table[i].matrix};
        snprintf(out[i].name, sizeof out[i].name, "blk.%d.%s", l, table[i].name);
    }
}

static void model_slots(gqa_model *m, const float **rope_factors, slot out[MODEL_SLOTS]) {
    const gqa_config *c = &m->config;
    out[0] = (slot){"token_embd.weight", c->vocab_size, c->dim, 0, NULL, &m->embedding};
    out[1] = (slot){"output_norm.weight", 0, c->dim, 0, &m->output_norm, NULL};
    out[2] = (slot){"output.weight", c->vocab_size, c->dim, 1, NULL, &m->classifier};
    out[3] = (slot){"rope_freqs.weight", 0, c->rope_dim / 2, 1, rope_factors, NULL};
}

gqa_matrix *gqa_model_matrix(gqa_model *m, int index) {
    int n = m->config.n_layers * GQA_LAYER_MATRICES;
    if (index == n) return &m->classifier;
    if (index < 0 || index > n) return NULL;
    gqa_layer *l = &m->layers[index / GQA_LAYER_MATRICES];
    gqa_matrix *of_layer[GQA_LAYER_MATRICES] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w_gate, &l->w_up, &l->w_down};
    return of_layer[index % GQA_LAYER_MATRICES];
}

/* Finds the tensor of a slot and checks its shape. *out NULL when an optional one is absent. */
static int find_tensor(const gqa_model *m, const slot *s, const gqa_tensor **out, gqa_error *err) {
    const gqa_tensor *t = gqa_checkpoint_tensor(&m->file, s->name);
    *out = t;
    if (!t && s->optional) return 0;
    if (!t) return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s is missing", m->file.path, s->name);
    uint64_t rows = s->rows ? (uint64_t)s->rows : 1;
    uint64_t rest = t->dims[2] * t->dims[3];
    if (t->dims[0] != (uint64_t)s->cols || t->dims[1] != rows || rest != 1)
        return gqa_fail(err, GQA_ERR_FORMAT,
                        "%s: tensor %s: expected shape [%llu, %d], got [%llu, %llu]%s", m->file.path, s->name,
                        (unsigned long long)rows, s->cols, (unsigned long long)t->dims[1],
                        (unsigned long long)t->dims[0], rest != 1 ? " and further dimensions" : "");
    return 0;
}

/* Vectors are small; an f32 copy spares every reader the question of type and alignment. *used counts floats; with
 * m->vectors NULL only counts. */
static int bind_slot(gqa_model *m, const slot *s, size_t *used, gqa_error *err) {
    const gqa_tensor *t;
    int status = find_tensor(m, s, &t, err);
    if (status || !t) return status;
    if (s->matrix) {
        *s->matrix = (gqa_matrix){t->type, s->rows, s->cols, t->data, NULL, 0};
        return 0;
    }
    if (m->vectors) {
        float *copy = m->vectors + *used;
        gqa_dequantize(t->type, t->data, copy, (size_t)s->cols);
        *s->vector = copy;
    }
    *used += ((size_t)s->cols + 15) & ~(size_t)15;
    return 0;
}

/* Binds all; called twice: to check everything and count the floats of the vectors, then to copy them. */
static int bind_all(gqa_model *m, const float **rope_factors, size_t *used, gqa_error *err) {
    slot of_model[MODEL_SLOTS], of_layer[LAYER_SLOTS];
    *used = 0;
    model_slots(m, rope_factors, of_model);
    for (int i = 0; i < MODEL_SLOTS; i++) {
        int status = bind_slot(m, &of_model[i], used, err);
        if (status) return status;
    }
    for (int l = 0; l < m->config.n_layers; l++) {
        layer_slots(&m->config, &m->layers[l], l, of_layer);
        for (int i = 0; i < LAYER_SLOTS; i++) {
            int status = bind_slot(m, &of_layer[i], used, err);
            if (status) return status;
        }
    }
    if (m->config.tied_embeddings) m->classifier = m->embedding;
    return 0;
}

/* YaRN's ramp (arXiv 2309.00071, section 3.2): 1 for pairs that turn often within the trained context and are left
 * alone, 0 for those that turn rarely and are interpolated, linear between. */
static double yarn_ramp(const gqa_config *c, int pair) {
    double turns = (double)c->rope_orig_context / (2 * 3.14159265358979323846);
    double per_log = c->rope_dim / (2 * log((double)c->rope_theta));
    double low = floor(per_log * log(turns / (double)c->rope_beta_fast));
    double high = ceil(per_log * log(turns / (double)c->rope_beta_slow));
    if (low < 0) low = 0;
    if (high > c->rope_dim - 1) high = c->rope_dim - 1;
    double y = (pair - low) / (high - low > 0.001 ? high - low : 0.001);
    return 1 - (y < 0 ? 0 : y > 1 ? 1 : y);
}

static int make_rope(gqa_model *m, const float *factors, gqa_error *err) {
    const gqa_config *c = &m->config;
    int pairs = c->rope_dim / 2;
    m->rope_freq = malloc(sizeof(double) * (size_t)(pairs ? pairs : 1));
    if (!m->rope_freq) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for the RoPE table", m->file.path);
    m->rope_magnitude = c->rope_attn_factor > 0 ? c->rope_attn_factor : 1;
    if (c->rope_scaling == GQA_ROPE_YARN) m->rope_magnitude *= (float)(1 + 0.1 * log((double)c->rope_factor));
    for (int i = 0; i < pairs; i++) {
        double f = pow((double)c->rope_theta, -2.0 * i / c->rope_dim);
        if (factors) {
            if (!(factors[i] > 0) || !isfinite(factors[i]))
                return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor rope_freqs.weight: element %d is %g, expected a positive number",
                                m->file.path, i, (double)factors[i]);
            f /= (double)factors[i];
        }
        double interpolated = f / (double)(c->rope_factor > 0 ? c->rope_factor : 1);
        double keep = c->rope_scaling == GQA_ROPE_YARN ? yarn_ramp(c, i) : 0;
        m->rope_freq[i] = c->rope_scaling == GQA_ROPE_NONE ? f : interpolated * (1 - keep) + f * keep;
    }
    return 0;
}

/* Names the weights' types, the one with most bytes first: "q4_k + q6_k". */
static void name_types(gqa_model *m) {
    uint64_t bytes[64] = {0};
    gqa_matrix *w;
    for (int i = 0; (w = gqa_model_matrix(m, i)) != NULL; i++)
        bytes[w->type & 63] += gqa_type_bytes(w->type, (uint64_t)w->rows * (uint64_t)w->cols);
    bytes[m->embedding.type & 63] += 1;
    size_t used = 0;
    for (;;) {
        int best = -1;
        for (int t = 0; t < 64; t++)
            if (bytes[t] && (best < 0 || bytes[t] > bytes[best])) best = t;
        if (best < 0) break;
        bytes[best] = 0;
        int n = snprintf(m->type_name + used, sizeof m->type_name - used, "%s%s", used ? " + " : "", gqa_type_name(best));
        if (n < 0 || (size_t)n >= sizeof m->type_name - used) break;
        used += (size_t)n;
    }
    m->stats.type_name = m->type_name;
}

static void count_weights(gqa_model *m) {
    gqa_model_stats *s = &m->stats;
    for (int i = 0; i < m->file.n_tensors; i++) {
        const gqa_tensor *t = &m->file.tensors[i];
        s->n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        s->weight_bytes += t->size;
    }
    gqa_matrix *w;
    for (int i = 0; (w = gqa_model_matrix(m, i)) != NULL; i++) {
        s->matmul_params += (uint64_t)w->rows * (uint64_t)w->cols;
        s->decode_bytes += gqa_type_bytes(w->type, (uint64_t)w->cols) * (uint64_t)w->rows;
    }
    s->n_tensors = m->file.n_tensors;
    s->has_weights = 1;
    s->isa = m->kernels->name;
    name_types(m);
}

int gqa_model_bind(gqa_model *m, gqa_error *err) {
    m->layers = calloc((size_t)m->config.n_layers, sizeof *m->layers);
    if (!m->layers) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for %d layers", m->file.path, m->config.n_layers);
    const float *rope_factors = NULL;
    size_t floats = 0;
    int status = bind_all(m, &rope_factors, &floats, err);
    if (status) return status;
    m->vectors = malloc(floats * sizeof(float));
    if (!m->vectors) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for %zu floats", m->file.path, floats);
    status = bind_all(m, &rope_factors, &floats, err);
    if (!status) status = make_rope(m, rope_factors, err);
    if (!status) count_weights(m);
    m->has_weights = !status;
    return status;
}
