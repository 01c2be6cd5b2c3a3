/* bind.c: from a table of named tensors to the struct that the forward pass reads. One table of
 * names and shapes drives the checks, the binding and the error messages. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_internal.h"

/* A tensor of the architecture: a matrix, or with rows 0 a vector, copied as f32. */
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
    int no_bias = !c->qkv_bias, no_qk_norm = !c->qk_norm;
    const slot table[LAYER_SLOTS] = {
        {"attn_norm.weight", 0, c->dim, 0, &layer->attn_norm, NULL},
        {"attn_q.weight", q_dim, c->dim, 0, NULL, &layer->wq},
        {"attn_k.weight", kv_dim, c->dim, 0, NULL, &layer->wk},
        {"attn_v.weight", kv_dim, c->dim, 0, NULL, &layer->wv},
        {"attn_q.bias", 0, q_dim, no_bias, &layer->bq, NULL},
        {"attn_k.bias", 0, kv_dim, no_bias, &layer->bk, NULL},
        {"attn_v.bias", 0, kv_dim, no_bias, &layer->bv, NULL},
        {"attn_q_norm.weight", 0, c->head_dim, no_qk_norm, &layer->q_norm, NULL},
        {"attn_k_norm.weight", 0, c->head_dim, no_qk_norm, &layer->k_norm, NULL},
        {"attn_output.weight", c->dim, q_dim, 0, NULL, &layer->wo},
        {"ffn_norm.weight", 0, c->dim, 0, &layer->ffn_norm, NULL},
        {"ffn_gate.weight", c->ffn_dim, c->dim, 0, NULL, &layer->w_gate},
        {"ffn_up.weight", c->ffn_dim, c->dim, 0, NULL, &layer->w_up},
        {"ffn_down.weight", c->dim, c->ffn_dim, 0, NULL, &layer->w_down},
    };
    for (int i = 0; i < LAYER_SLOTS; i++) {
        out[i] = table[i];
        snprintf(out[i].name, sizeof out[i].name, "blk.%d.%.40s", l, table[i].name);
    }
}

static void model_slots(const gqa_config *c, gqa_model *m, const float **rope_factors,
                        slot out[MODEL_SLOTS]) {
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
    gqa_matrix *of_layer[GQA_LAYER_MATRICES] = {&l->wq, &l->wk, &l->wv, &l->wo,
                                                &l->w_gate, &l->w_up, &l->w_down};
    return of_layer[index % GQA_LAYER_MATRICES];
}

/* ---- checking ----------------------------------------------------------------------------- */

/* Finds the tensor of a slot and checks its shape. *out NULL when an optional one is absent. */
static int find_slot_tensor(const gqa_checkpoint *c, const slot *s, const gqa_tensor **out,
                            gqa_error *err) {
    const gqa_tensor *t = *out = gqa_checkpoint_tensor(c, s->name);
    if (!t && s->optional) return 0;
    if (!t) return fail_format(c, err, "tensor %s is missing", s->name);
    uint64_t rows = (uint64_t)max_int(s->rows, 1), cols = (uint64_t)s->cols;
    int is_flat = t->dims[2] * t->dims[3] == 1;
    if (t->dims[0] == cols && t->dims[1] == rows && is_flat) return 0;
    return fail_format(c, err, "tensor %s: expected shape [%" PRIu64 ", %" PRIu64 "], got [%"
                       PRIu64 ", %" PRIu64 "]%s", s->name, rows, cols, t->dims[1], t->dims[0],
                       is_flat ? "" : " and further dimensions");
}

/* Tensors that carry nothing: tables of rotations in old files. */
static int is_ignored(const char *name) {
    static const char *const endings[] = {".attn_rot_embd.weight", ".rotary_emb.inv_freq"};
    for (size_t i = 0; i < array_length(endings); i++) {
        size_t n = strlen(name), m = strlen(endings[i]);
        if (n >= m && !strcmp(name + n - m, endings[i])) return 1;
    }
    return 0;
}

/* Whether the slots' tensors are there and as expected; marks them in `known`. */
static int check_slots(const gqa_checkpoint *c, const slot *slots, int n, uint8_t *known,
                       gqa_error *err) {
    for (int i = 0; i < n; i++) {
        const gqa_tensor *t;
        int status = find_slot_tensor(c, &slots[i], &t, err);
        if (status) return status;
        if (t) known[t - c->tensors] = 1;
    }
    return 0;
}

int gqa_check_tensors(const gqa_checkpoint *c, gqa_error *err) {
    slot of_model[MODEL_SLOTS], of_layer[LAYER_SLOTS];
    gqa_model model; /* of which only the addresses are taken */
    gqa_layer layer;
    const float *factors;
    uint8_t *known = calloc((size_t)c->n_tensors + 1, 1);
    if (!known) return fail_memory(c, err, "no memory for %d tensors", c->n_tensors);
    model_slots(&c->config, &model, &factors, of_model);
    int status = check_slots(c, of_model, MODEL_SLOTS, known, err);
    for (int l = 0; l < c->config.n_layers && !status; l++) {
        layer_slots(&c->config, &layer, l, of_layer);
        status = check_slots(c, of_layer, LAYER_SLOTS, known, err);
    }
    for (int i = 0; i < c->n_tensors && !status; i++)
        if (!known[i] && !is_ignored(c->tensors[i].name))
            status = fail_unsupported(c, err, "tensor %s is not part of a %s model of %d layers",
                                      c->tensors[i].name, c->config.architecture,
                                      c->config.n_layers);
    free(known);
    return status;
}

/* ---- binding ----------------------------------------------------------------------------- */

/* Vectors are small; an f32 copy spares all readers the question of type and alignment. *used
 * counts floats; with m->vectors NULL they are only counted. */
static void bind_slot(gqa_model *m, const slot *s, size_t *used) {
    const gqa_tensor *t = gqa_checkpoint_tensor(&m->file, s->name);
    if (!t) return;
    if (s->matrix) {
        *s->matrix = (gqa_matrix){t->type, s->rows, s->cols, t->data, NULL, 0};
        return;
    }
    size_t n = (size_t)s->cols;
    if (m->vectors) {
        float *copy = m->vectors + *used;
        gqa_dequantize(t->type, t->data, copy, n);
        *s->vector = copy;
    }
    *used += round_up(n, 16);
}

/* Binds all slots, which gqa_check_tensors has checked. Called twice: to count the vectors' floats,
 * then to copy them. */
static void bind_slots(gqa_model *m, const float **rope_factors, size_t *used) {
    slot of_model[MODEL_SLOTS], of_layer[LAYER_SLOTS];
    *used = 0;
    model_slots(&m->config, m, rope_factors, of_model);
    for (int i = 0; i < MODEL_SLOTS; i++) bind_slot(m, &of_model[i], used);
    for (int l = 0; l < m->config.n_layers; l++) {
        layer_slots(&m->config, &m->layers[l], l, of_layer);
        for (int i = 0; i < LAYER_SLOTS; i++) bind_slot(m, &of_layer[i], used);
    }
    if (m->config.tied_embeddings) m->classifier = m->embedding;
}

/* ---- statistics -------------------------------------------------------------------------- */

/* Names the weights' types, the one with most bytes first: "q4_k + q6_k". */
static void name_types(gqa_model *m) {
    enum { TYPES = 64 };
    uint64_t bytes[TYPES] = {0};
    gqa_matrix *w;
    for (int i = 0; (w = gqa_model_matrix(m, i)) != NULL; i++)
        bytes[w->type % TYPES] += gqa_type_bytes(w->type, (uint64_t)w->rows * (uint64_t)w->cols);
    bytes[m->embedding.type % TYPES] += 1;
    char *end = m->type_name;
    for (size_t space = sizeof m->type_name;;) {
        int best = 0;
        for (int t = 1; t < TYPES; t++)
            if (bytes[t] > bytes[best]) best = t;
        if (!bytes[best]) break;
        bytes[best] = 0;
        const char *plus = end > m->type_name ? " + " : "";
        int n = snprintf(end, space, "%s%s", plus, gqa_type_name(best));
        if (n < 0 || (size_t)n >= space) break;
        end += n;
        space -= (size_t)n;
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
        uint64_t rows = (uint64_t)w->rows, cols = (uint64_t)w->cols;
        s->matmul_params += rows * cols;
        s->decode_bytes += gqa_type_bytes(w->type, cols) * rows;
    }
    s->n_tensors = m->file.n_tensors;
    s->has_weights = 1;
    s->isa = m->kernels->name;
    name_types(m);
}

int gqa_model_bind(gqa_model *m, gqa_error *err) {
    const float *rope_factors = NULL;
    size_t floats = 0, n_layers = (size_t)m->config.n_layers;
    m->layers = calloc(n_layers, sizeof *m->layers);
    if (!m->layers) return fail_memory(&m->file, err, "no memory for %zu layers", n_layers);
    int status = gqa_check_tensors(&m->file, err);
    if (status) return status;
    bind_slots(m, &rope_factors, &floats);
    m->vectors = malloc(floats * sizeof(float));
    if (!m->vectors) return fail_memory(&m->file, err, "no memory for %zu floats", floats);
    bind_slots(m, &rope_factors, &floats);
    status = gqa_model_make_rope(m, rope_factors, err);
    if (!status) count_weights(m);
    m->has_weights = !status;
    return status;
}
