/* layer_embedding.c: embeddings of a token for each layer (gemma4): a layer ends with
 * x += h; x += rmsnorm(Wproj (gelu(Wgate x) * e[l])); x *= the layer's scale. */
#include <math.h>
#include <string.h>

#include "pass.h"

/* s->per_layer = (sqrt(n) E_layers[token] +
 * rmsnorm(W x / sqrt(dim))) / sqrt(2) for each layer's n values, x being the token's embedding. */
void gqa_embed_for_layers(pass_state *p, gqa_worker *me) {
    const gqa_model *m = p->model;
    const gqa_matrix *table = &m->per_layer_embedding;
    const int n = p->config->per_layer_dim;
    const size_t width = table->cols;
    const product project = {&m->per_layer_model, p->scratch->per_layer, width};
    const float dim_scale = 1 / sqrtf((float)p->dim), embedding_scale = sqrtf((float)n);
    if (!n) return;
    gqa_add_and_norm(p, me, 1, NULL, NULL, &project, 1);
    gqa_matmul(p, me, &p->scratch->h_acts, &project, 1);
    for_units(i, me, p->n) {
        size_t row_bytes = gqa_type_bytes(table->type, width);
        float *e = row_of(p->scratch->per_layer, width, i), *row = thread_scratch(p, me);
        gqa_dequantize(table->type, table->raw + token_of(p, i) * row_bytes, row, width);
        scale_row(e, width, dim_scale);
        scale_row(row, width, embedding_scale);
        for (int l = 0; l < p->config->n_layers; l++) {
            float *slice = row_of(e, n, l);
            p->kernels->rmsnorm(slice, slice, m->per_layer_model_norm, n, p->config->norm_eps);
        }
        p->kernels->add(e, row, table->cols);
        scale_row(e, width, sqrtf(0.5f));
    }
}

/* gate = gelu(gate) * e[l], of gqa_embed_for_layers(). */
static void gate_for_layer(pass_state *p, gqa_worker *me, int l, const product *next) {
    int n = p->config->per_layer_dim, forms = forms_for(p, next, 1);
    for_units(i, me, p->n) {
        float *gate = row_of(p->scratch->gate, p->ffn_dim, i);
        size_t at = ((size_t)i * p->config->n_layers + l) * n;
        p->kernels->geglu(gate, gate, p->scratch->per_layer + at, n);
        make_forms(p, forms, &p->scratch->gate_acts, i, i + 1, 0, n);
    }
}

const float *gqa_add_for_layer(pass_state *p, gqa_worker *me, const gqa_layer *layer, int l) {
    gqa_scratch *s = p->scratch;
    const float *post_norm = layer->ffn_post_norm;
    const product gate = {&layer->per_layer_gate, s->gate, p->ffn_dim};
    const product project = {&layer->per_layer_proj, s->h, p->dim};
    if (p->config->per_layer_dim) {
        gqa_add_and_norm(p, me, 0, post_norm, NULL, &gate, 1);
        gqa_matmul(p, me, &s->h_acts, &gate, 1);
        gate_for_layer(p, me, l, &project);
        gqa_matmul(p, me, &s->gate_acts, &project, 1);
        post_norm = layer->per_layer_norm;
    }
    if (!layer->output_scale) return post_norm;
    for_units(i, me, p->n) {
        float *x = row_of(s->x, p->dim, i), *h = row_of(s->h, p->dim, i);
        gqa_add_branch(p, x, h, post_norm);
        scale_row(x, p->dim, *layer->output_scale);
        memset(h, 0, sizeof(float) * p->dim);
    }
    return NULL;
}
