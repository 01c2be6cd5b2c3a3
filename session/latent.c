/* latent.c: multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1; deepseek2). A
 * position caches one row for all heads, [rmsnorm(c) | rope(k_pe)], latent_dim + rope_dim numbers.
 * Key and value of head h would be Wk_b[h] applied to c; instead Wk_b is absorbed into the query
 * and Wv_b into the output:
 *
 *   q_h = [Wk_b[h] q_nope_h | rope(q_pe_h)]      o_h = Wv_b[h] sum_t p_t c_t
 *
 * so that attention is MQA over the rows, with V the first latent_dim numbers of K. */
#include <string.h>

#include "pass.h"

/* Elements k0 .. of every column of a; k0 is a multiple of 32 where the int8 form is read. */
static gqa_acts head_acts(const gqa_acts *a, size_t k0) {
    gqa_acts part = *a;
    part.x += k0;
    part.q += k0;
    part.d += k0 / 32;
    part.dsum += k0 / 32;
    part.bias32 += k0 / 32;
    part.bias16 += k0 / 16;
    if (part.bf16) part.bf16 += k0;
    return part;
}

/* y_h = w[h] a_h for each head: w [n_heads, rows, cols], a [n, n_heads * cols], y_h at
 * y + h * y_step with rows of y ldy apart. */
static void multiply_heads(pass_state *p, gqa_worker *me, const gqa_matrix *w, int rows,
                           const gqa_acts *a, float *y, size_t y_step, size_t ldy) {
    gqa_matrix first = gqa_matrix_rows(w, 0, rows);
    int units = gqa_matmul_units(&first), planes = planes_of(p, w);
    for_units(u, me, p->config->n_heads * units) {
        int h = u / units;
        gqa_matrix of_head = gqa_matrix_rows(w, h * rows, rows);
        gqa_acts of_a = head_acts(a, (size_t)h * w->cols);
        if (cancelled(p)) continue;
        gqa_matmul_unit(p->kernels, &of_head, &of_a, p->n, planes, y + h * y_step, ldy, u % units,
                        thread_scratch(p, me));
    }
}

/* The parts of a row's query heads: q_nope to the input of Wk_b, q_pe to its place in q. */
static void split_query(pass_state *p, int row) {
    const gqa_config *c = p->config;
    const size_t nope = c->q_nope_dim, rope = c->rope_dim, heads = c->n_heads;
    const float *from = row_of(p->scratch->q_heads, heads * (nope + rope), row);
    float *to_nope = row_of(p->scratch->q_nope, heads * nope, row);
    float *q = row_of(p->scratch->q, p->q_dim, row);
    for (size_t h = 0; h < heads; h++, from += nope + rope, q += c->head_dim) {
        memcpy(to_nope + h * nope, from, sizeof *q * nope);
        memcpy(q + c->latent_dim, from + nope, sizeof *q * rope);
    }
}

void gqa_latent_project(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    const gqa_config *c = p->config;
    gqa_scratch *s = p->scratch;
    const size_t q_dim = (size_t)c->n_heads * (c->q_nope_dim + c->rope_dim);
    const product row = {&layer->wk, s->k, layer->kv_dim};
    const product q_b = {&layer->wq_b, s->q_heads, q_dim}, k_b = {&layer->wk_b, NULL, 0};
    const product first[] = {row, {&layer->wq, c->q_rank ? s->q_low : s->q_heads,
                                   c->q_rank ? (size_t)c->q_rank : q_dim}};
    const int low_forms = forms_for(p, &q_b, 1), k_forms = forms_for(p, &k_b, 1);
    gqa_matmul(p, me, &s->h_acts, first, 2);
    if (c->q_rank) {
        for_units(i, me, p->n) {
            float *low = row_of(s->q_low, c->q_rank, i);
            p->kernels->rmsnorm(low, low, layer->q_rank_norm, c->q_rank, c->norm_eps);
            make_forms(p, low_forms, &s->q_low_acts, i, i + 1, 0, c->q_rank);
        }
        gqa_matmul(p, me, &s->q_low_acts, &q_b, 1);
    }
    for_units(i, me, p->n) {
        float *latent = row_of(s->k, layer->kv_dim, i);
        p->kernels->rmsnorm(latent, latent, layer->latent_norm, c->latent_dim, c->norm_eps);
        split_query(p, i);
        make_forms(p, k_forms, &s->q_nope_acts, i, i + 1, 0, c->n_heads * c->q_nope_dim);
    }
    multiply_heads(p, me, &layer->wk_b, c->latent_dim, &s->q_nope_acts, s->q, layer->head_dim,
                   p->q_dim);
}

void gqa_latent_expand(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    const gqa_config *c = p->config;
    gqa_scratch *s = p->scratch;
    const product v_b = {&layer->wv_b, NULL, 0}, out = {&layer->wo, NULL, 0};
    int forms = forms_for(p, &v_b, 1);
    if (forms)
        for_units(i, me, p->n)
            make_forms(p, forms, &s->latent_acts, i, i + 1, 0, c->n_heads * c->latent_dim);
    multiply_heads(p, me, &layer->wv_b, c->value_dim, &s->latent_acts, s->attn,
                   c->value_dim, layer->wo.cols);
    forms = forms_for(p, &out, 1);
    if (forms)
        for_units(i, me, p->n)
            make_forms(p, forms, &s->attn_acts, i, i + 1, 0, layer->wo.cols);
}
