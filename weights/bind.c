/* bind.c: from a table of named tensors to the struct that the forward pass reads. One table of
 * names and shapes drives the checks, the binding and the error messages. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../formats/architectures.h"
#include "model_internal.h"

/* A tensor of the architecture: a matrix, or with rows 0 a vector, copied as f32. A matrix may be
 * some rows of a tensor: first_row .. first_row + rows - 1 of all_rows. */
typedef struct slot {
    char name[GQA_TENSOR_NAME];
    int rows, cols;
    enum { REQUIRED, OPTIONAL, ABSENT } presence;
    const float **vector;
    gqa_matrix *matrix;
    int first_row, all_rows;
    int n_heads;              /* rows are those of n_heads matrices; 0: of one */
} slot;

#define MATRIX(name, rows, cols, presence, matrix) \
    {name, rows, cols, presence, NULL, &(matrix), 0, 0, 0}
#define HEADS(name, n_heads, rows, cols, presence, matrix) \
    {name, (n_heads) * (rows), cols, presence, NULL, &(matrix), 0, 0, n_heads}
#define VECTOR(name, length, presence, vector) \
    {name, 0, length, presence, &(vector), NULL, 0, 0, 0}

enum { LAYER_SLOTS = 20, MODEL_SLOTS = 9 };
enum { SLOT_QKV = 1, SLOT_GATE_UP = 12 }; /* of layer_slots: the first of three, of two */

static int layer_has(const gqa_checkpoint *c, int l, const char *name) {
    char full[GQA_TENSOR_NAME];
    snprintf(full, sizeof full, "blk.%d.%s", l, name);
    return gqa_checkpoint_tensor(c, full) != NULL;
}

/* phi3: one tensor holds the rows of Q, K and V, one those of the FFN's gate and up. */
static void fuse_slots(const gqa_checkpoint *c, int l, slot *qkv, slot *gate_up) {
    const gqa_architecture *a = gqa_architecture_find(c->config.architecture);
    int is_allowed = a && a->steps & ARCH_FUSED, row = 0;
    if (is_allowed && layer_has(c, l, "attn_qkv.weight"))
        for (int i = 0; i < 3; row += qkv[i++].rows) {
            strcpy(qkv[i].name, "attn_qkv.weight");
            qkv[i].first_row = row;
            qkv[i].all_rows = qkv[0].rows + qkv[1].rows + qkv[2].rows;
        }
    if (!is_allowed || layer_has(c, l, "ffn_gate.weight")) return;
    strcpy(gate_up[0].name, gate_up[1].name);
    gate_up[1].first_row = gate_up[0].rows;
    gate_up[0].all_rows = gate_up[1].all_rows = 2 * gate_up[0].rows;
}

static int has_output_scale(const gqa_config *c) {
    const gqa_architecture *a = gqa_architecture_find(c->architecture);
    return a && a->steps & ARCH_PER_LAYER;
}

/* deepseek2: its tensors in place of attn_q, attn_k and attn_v. */
static void latent_slots(const gqa_config *c, gqa_layer *layer, slot out[LAYER_SLOTS]) {
    int dim = c->dim, heads = c->n_heads, rank = c->q_rank, latent = c->latent_dim;
    int q_dim = heads * (c->q_nope_dim + c->rope_dim), low = rank ? REQUIRED : ABSENT;
    const slot latent_table[] = {
        rank ? (slot)MATRIX("attn_q_a.weight", rank, dim, REQUIRED, layer->wq)
             : (slot)MATRIX("attn_q.weight", q_dim, dim, REQUIRED, layer->wq),
        MATRIX("attn_kv_a_mqa.weight", c->head_dim, dim, REQUIRED, layer->wk),
        VECTOR("attn_q_a_norm.weight", rank, low, layer->q_rank_norm),
        MATRIX("attn_q_b.weight", q_dim, rank, low, layer->wq_b),
        VECTOR("attn_kv_a_norm.weight", latent, REQUIRED, layer->latent_norm),
        HEADS("attn_k_b.weight", heads, latent, c->q_nope_dim, REQUIRED, layer->wk_b),
        HEADS("attn_v_b.weight", heads, c->value_dim, latent, REQUIRED, layer->wv_b),
        MATRIX("attn_output.weight", dim, heads * c->value_dim, REQUIRED, layer->wo),
    };
    memcpy(&out[SLOT_QKV], latent_table, sizeof latent_table);
    out[SLOT_QKV + array_length(latent_table)].presence = ABSENT; /* attn_output's usual place */
}

/* gta: in place of attn_k and attn_v, the heads' rows and what keys share. */
static void tied_slots(const gqa_config *c, slot qkv[6]) {
    strcpy(qkv[1].name, "attn_kv.weight");
    strcpy(qkv[2].name, "attn_k_rope.weight");
    qkv[2].rows = c->rope_dim;
    for (int i = 3; i < 6; i++) qkv[i].presence = ABSENT; /* biases */
}

/* The tensors of layer l, in the order of the computation. */
static void layer_slots(const gqa_checkpoint *checkpoint, gqa_layer *layer, int l,
                        slot out[LAYER_SLOTS]) {
    const gqa_config *c = &checkpoint->config;
    gqa_layer_config config = gqa_checkpoint_layer(checkpoint, l);
    int dim = c->dim, ffn_dim = config.ffn_dim, per_layer_dim = c->per_layer_dim;
    int head_dim = config.head_dim, q_dim = c->n_heads * head_dim;
    int kv_dim = config.n_kv_heads * head_dim;
    int by_row = c->qk_norm == GQA_QK_NORM_ROWS;
    int bias = c->qkv_bias ? REQUIRED : OPTIONAL;
    int pre_norm = c->no_pre_norms ? ABSENT : REQUIRED;
    int post_norm = c->post_norms ? REQUIRED : ABSENT;
    int per_layer = c->per_layer_dim ? REQUIRED : ABSENT;
    int key = config.kv_layer == l ? REQUIRED : ABSENT;
    int value = key == REQUIRED && c->norm_v ? OPTIONAL : key;
    int q_norm = c->qk_norm ? REQUIRED : ABSENT, k_norm = c->qk_norm ? key : ABSENT;
    int scale = has_output_scale(c) ? OPTIONAL : ABSENT;
    const slot table[LAYER_SLOTS] = {
        VECTOR("attn_norm.weight", dim, pre_norm, layer->attn_norm),
        [SLOT_QKV] = MATRIX("attn_q.weight", q_dim, dim, REQUIRED, layer->wq),
        MATRIX("attn_k.weight", kv_dim, dim, key, layer->wk),
        MATRIX("attn_v.weight", kv_dim, dim, value, layer->wv),
        VECTOR("attn_q.bias", q_dim, bias, layer->bq),
        VECTOR("attn_k.bias", kv_dim, bias, layer->bk),
        VECTOR("attn_v.bias", kv_dim, bias, layer->bv),
        VECTOR("attn_q_norm.weight", by_row ? q_dim : head_dim, q_norm, layer->q_norm),
        VECTOR("attn_k_norm.weight", by_row ? kv_dim : head_dim, k_norm, layer->k_norm),
        MATRIX("attn_output.weight", dim, q_dim, REQUIRED, layer->wo),
        VECTOR("post_attention_norm.weight", dim, post_norm, layer->attn_post_norm),
        VECTOR("ffn_norm.weight", dim, pre_norm, layer->ffn_norm),
        [SLOT_GATE_UP] = MATRIX("ffn_gate.weight", ffn_dim, dim, REQUIRED, layer->w_gate),
        MATRIX("ffn_up.weight", ffn_dim, dim, REQUIRED, layer->w_up),
        MATRIX("ffn_down.weight", dim, ffn_dim, REQUIRED, layer->w_down),
        VECTOR("post_ffw_norm.weight", dim, post_norm, layer->ffn_post_norm),
        MATRIX("inp_gate.weight", per_layer_dim, dim, per_layer, layer->per_layer_gate),
        MATRIX("proj.weight", dim, per_layer_dim, per_layer, layer->per_layer_proj),
        VECTOR("post_norm.weight", dim, per_layer, layer->per_layer_norm),
        VECTOR("layer_output_scale.weight", 1, scale, layer->output_scale),
    };
    memcpy(out, table, sizeof table);
    if (c->latent_dim) latent_slots(c, layer, out);
    if (c->tied_kv) tied_slots(c, &out[SLOT_QKV]);
    fuse_slots(checkpoint, l, &out[SLOT_QKV], &out[SLOT_GATE_UP]);
    for (int i = 0; i < LAYER_SLOTS; i++) {
        char name[GQA_TENSOR_NAME];
        memcpy(name, out[i].name, sizeof name);
        snprintf(out[i].name, sizeof out[i].name, "blk.%d.%.40s", l, name);
    }
}

static void model_slots(const gqa_config *c, gqa_model *m, gqa_rope_factors *rope,
                        slot out[MODEL_SLOTS]) {
    int dim = c->dim, vocab = c->vocab_size, pairs = c->rope_dim / 2;
    int per_layer = c->per_layer_dim ? REQUIRED : ABSENT;
    int all_layers = c->n_layers * c->per_layer_dim;
    const slot table[MODEL_SLOTS] = {
        MATRIX("token_embd.weight", vocab, dim, REQUIRED, m->embedding),
        VECTOR("output_norm.weight", dim, REQUIRED, m->output_norm),
        MATRIX("output.weight", vocab, dim, OPTIONAL, m->classifier),
        VECTOR("rope_freqs.weight", pairs, OPTIONAL, rope->all),
        VECTOR("rope_factors_short.weight", pairs, OPTIONAL, rope->in_short),
        VECTOR("rope_factors_long.weight", pairs, OPTIONAL, rope->in_long),
        MATRIX("per_layer_token_embd.weight", vocab, all_layers, per_layer, m->per_layer_embedding),
        MATRIX("per_layer_model_proj.weight", all_layers, dim, per_layer, m->per_layer_model),
        VECTOR("per_layer_proj_norm.weight", c->per_layer_dim, per_layer, m->per_layer_model_norm),
    };
    memcpy(out, table, sizeof table);
}

gqa_matrix *gqa_model_matrix(gqa_model *m, int index) {
    int n = m->config.n_layers * GQA_LAYER_MATRICES;
    if (index == n) return &m->classifier;
    if (index == n + 1) return &m->per_layer_model;
    if (index < 0 || index > n) return NULL;
    gqa_layer *l = &m->layers[index / GQA_LAYER_MATRICES];
    gqa_matrix *of_layer[GQA_LAYER_MATRICES] = {
        &l->wq, &l->wk, &l->wv, &l->wo, &l->w_gate, &l->w_up, &l->w_down,
        &l->per_layer_gate, &l->per_layer_proj, &l->wq_b, &l->wk_b, &l->wv_b,
    };
    return of_layer[index % GQA_LAYER_MATRICES];
}

/* ---- checking ----------------------------------------------------------------------------- */

/* Finds the tensor of a slot and checks its shape. *out NULL when it may be absent and is. */
static int find_slot_tensor(const gqa_checkpoint *c, const slot *s, const gqa_tensor **out,
                            gqa_error *err) {
    const gqa_tensor *t = *out = s->presence == ABSENT ? NULL : gqa_checkpoint_tensor(c, s->name);
    if (!t && s->presence != REQUIRED) return 0;
    if (!t) return fail_format(c, err, "tensor %s is missing", s->name);
    uint64_t heads = (uint64_t)max_int(s->n_heads, 1);
    uint64_t rows = (uint64_t)max_int(s->all_rows ? s->all_rows : s->rows, 1) / heads;
    uint64_t cols = (uint64_t)s->cols;
    int is_flat = t->dims[2] == heads && t->dims[3] == 1;
    if (t->dims[0] == cols && t->dims[1] == rows && is_flat) return 0;
    return fail_format(c, err, "tensor %s: expected shape [%" PRIu64 ", %" PRIu64 "], got [%"
                       PRIu64 ", %" PRIu64 "]%s", s->name, rows, cols, t->dims[1], t->dims[0],
                       is_flat ? "" : " and other further dimensions");
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
    gqa_rope_factors factors;
    uint8_t *known = calloc((size_t)c->n_tensors + 1, 1);
    if (!known) return fail_memory(c, err, "no memory for %d tensors", c->n_tensors);
    model_slots(&c->config, &model, &factors, of_model);
    int status = check_slots(c, of_model, MODEL_SLOTS, known, err);
    for (int l = 0; l < c->config.n_layers && !status; l++) {
        layer_slots(c, &layer, l, of_layer);
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
    const gqa_tensor *t = s->presence == ABSENT ? NULL : gqa_checkpoint_tensor(&m->file, s->name);
    if (!t) return;
    if (s->matrix) {
        size_t skip = s->first_row * (size_t)gqa_type_bytes(t->type, t->dims[0]);
        *s->matrix = (gqa_matrix){t->type, s->rows, s->cols, t->data + skip, NULL, 0, 0};
        return;
    }
    size_t n = s->cols;
    if (m->vectors) {
        float *copy = m->vectors + *used;
        gqa_dequantize(t->type, t->data, copy, n);
        *s->vector = copy;
    }
    *used += round_up(n, 16);
}

/* Takes a layer's config, and what the passes compute from it. */
static void set_dims(gqa_layer *layer, gqa_layer_config config, const gqa_config *c) {
    int n_heads = c->n_heads;
    layer->config = config;
    layer->head_dim = config.head_dim;
    layer->q_dim = n_heads * layer->head_dim;
    layer->kv_dim = config.n_kv_heads * layer->head_dim;
    layer->ffn_dim = config.ffn_dim;
    layer->value_dim = c->latent_dim ? (size_t)c->latent_dim : layer->head_dim;
    layer->group = n_heads / config.n_kv_heads;
}

/* Which matrices are multiplied with activations in 16 bits, not 8, always: where rounding costs
 * most for what a second plane takes (docs/quality.md, "Activations"). Keys and values, whose
 * matrices are small where query heads share them; and the last FFN and the classifier, which a
 * prompt needs for its last token alone; of types that decode two columns as fast as one. */
static void mark_exact(gqa_model *m) {
    const int n_layers = m->config.n_layers;
    gqa_layer *last = &m->layers[n_layers - 1];
    gqa_matrix *of_last[] = {&last->w_gate, &last->w_up, &last->w_down, &m->classifier};
    for (int l = 0; l < n_layers; l++) {
        gqa_layer *layer = &m->layers[l];
        layer->wk.exact = gqa_type_has_pairs(layer->wk.type);
        layer->wv.exact = gqa_type_has_pairs(layer->wv.type);
    }
    for (size_t i = 0; i < array_length(of_last); i++)
        of_last[i]->exact = gqa_type_has_pairs(of_last[i]->type);
}

/* Binds all slots, which gqa_check_tensors has checked. Called twice: to count the vectors' floats,
 * then to copy them. */
static void bind_slots(gqa_model *m, gqa_rope_factors *rope, size_t *used) {
    slot of_model[MODEL_SLOTS], of_layer[LAYER_SLOTS];
    *used = 0;
    model_slots(&m->config, m, rope, of_model);
    for (int i = 0; i < MODEL_SLOTS; i++) bind_slot(m, &of_model[i], used);
    for (int l = 0; l < m->config.n_layers; l++) {
        gqa_layer *layer = &m->layers[l];
        set_dims(layer, gqa_checkpoint_layer(&m->file, l), &m->config);
        m->max_group = max_int(m->max_group, layer->group);
        if (layer->config.kv_layer == l) m->last_kv_layer = l;
        layer_slots(&m->file, layer, l, of_layer);
        for (int i = 0; i < LAYER_SLOTS; i++) bind_slot(m, &of_layer[i], used);
    }
    if (m->config.tied_embeddings) m->classifier = m->embedding;
    mark_exact(m);
    m->vocab_size = m->config.vocab_size;
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

/* Whether matrix i is multiplied for the rows with logits only (keep_rows in forward.c). */
static int is_of_logits(gqa_model *m, int i) {
    const gqa_layer *last = &m->layers[m->last_kv_layer];
    const gqa_matrix *w = gqa_model_matrix(m, i);
    int l = i / GQA_LAYER_MATRICES;
    if (l != m->last_kv_layer) return w != &m->per_layer_model && l > m->last_kv_layer;
    return w != &last->wq && w != &last->wk && w != &last->wv && w != &last->wq_b &&
           w != &last->wk_b;
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
        if (!is_of_logits(m, i)) s->prompt_params += rows * cols;
        s->decode_bytes += gqa_type_bytes(w->type, cols) * rows;
    }
    s->n_tensors = m->file.n_tensors;
    s->has_weights = 1;
    s->isa = m->kernels->name;
    name_types(m);
}

int gqa_model_bind(gqa_model *m, gqa_error *err) {
    gqa_rope_factors rope = {0};
    size_t floats = 0, n_layers = m->config.n_layers;
    m->layers = calloc(n_layers, sizeof *m->layers);
    if (!m->layers) return fail_memory(&m->file, err, "no memory for %zu layers", n_layers);
    int status = gqa_check_tensors(&m->file, err);
    if (status) return status;
    bind_slots(m, &rope, &floats);
    uint64_t bytes;
    if (!gqa_mul_size(floats, sizeof(float), &bytes) && bytes <= SIZE_MAX / 2)
        m->vectors = malloc((size_t)bytes);
    if (!m->vectors) return fail_memory(&m->file, err, "no memory for %zu floats", floats);
    bind_slots(m, &rope, &floats);
    status = gqa_model_make_rope(m, &rope, err);
    if (!status) count_weights(m);
    m->has_weights = !status;
    return status;
}
