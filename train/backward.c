/* backward.c: the backward pass, the forward pass read from its end. Gradients of weights are added to net.grads;
 * sums over tokens are formed in a fixed order, whatever the number of threads. */
#include <string.h>

#include "train_internal.h"

static int pieces(int n, int piece) { return (n + piece - 1) / piece; }

/* Through y = x W^T: dx [tokens, cols] = dy W, and dW [rows, cols] += dy^T x. */
static void linear_grad(gqa_worker *w, const pass *p, float *dx, const float *dy, const float *x, size_t weights,
                        int rows, int cols) {
    size_t r = (size_t)rows, c = (size_t)cols;
    const gemm g[2] = {{p->tokens, cols, rows, dy, r, 1, p->net->params + weights, c, 1, dx, c, 0},
                       {rows, cols, p->tokens, dy, 1, r, x, c, 1, p->net->grads + weights, c, 1}};
    train_products(w, p, g, 2);
}

/* Through a norm: adds to dx; the weight's gradient is summed over NORM_TOKENS tokens a unit, then over units. */
static void norm_grad(gqa_worker *w, const pass *p, const float *x, size_t weights) {
    const net *n = p->net;
    size_t dim = (size_t)n->config.dim;
    int units = pieces(p->tokens, NORM_TOKENS);
    for_units(u, w, units) {
        float *sum = p->b->partial + (size_t)u * dim;
        memset(sum, 0, dim * sizeof *sum);
        for (int t = u * NORM_TOKENS; t < p->tokens && t < (u + 1) * NORM_TOKENS; t++)
            p->k->rmsnorm_grad(p->b->dx + (size_t)t * dim, sum, p->b->dnormed + (size_t)t * dim, x + (size_t)t * dim,
                               n->params + weights, n->config.dim, n->config.norm_eps);
    }
    for_units(one, w, 1)
        for (int u = 0; u < units; u++) p->k->add(n->grads + weights, p->b->partial + (size_t)u * dim, n->config.dim);
}

static void swiglu_back(gqa_worker *w, const pass *p, const layer_acts *a) {
    int ffn = p->net->config.ffn_dim;
    for_units(u, w, pieces(p->tokens, ROW_TOKENS))
        for (int t = u * ROW_TOKENS; t < p->tokens && t < (u + 1) * ROW_TOKENS; t++) {
            const float *gu = a->gu + (size_t)t * 2 * (size_t)ffn;
            float *dgu = p->b->dgu + (size_t)t * 2 * (size_t)ffn;
            p->k->swiglu_grad(dgu, dgu + ffn, p->b->dhidden + (size_t)t * (size_t)ffn, gu, gu + ffn, ffn);
        }
}

static void attention_back(gqa_worker *w, const pass *p, const layer_acts *a) {
    const net *n = p->net;
    for_units(u, w, p->n * n->config.n_kv_heads)
        train_attention_backward(p, a, u, w->id);
    for_units(u, w, pieces(p->tokens, ROW_TOKENS))
        train_rotate(p, n, p->b->dqkv, u * ROW_TOKENS,
                    (u + 1) * ROW_TOKENS < p->tokens ? (u + 1) * ROW_TOKENS : p->tokens, 1);
}

/* The gradient of what a site gave to the residual stream: b->dx, or out with what was dropped left out. out may be b->dx. */
static const float *site_grad(gqa_worker *w, const pass *p, int site, float *out) {
    int dim = p->net->config.dim;
    if (p->drop.share == 0) return p->b->dx;
    for_units(u, w, pieces(p->tokens, ROW_TOKENS)) {
        int from = u * ROW_TOKENS, count = p->tokens - from < ROW_TOKENS ? p->tokens - from : ROW_TOKENS;
        size_t at = (size_t)from * (size_t)dim;
        train_dropout_rows(&p->drop, site, from, count, p->b->dx + at, out + at, dim, 0);
    }
    return out;
}

/* A unit owns some columns of the embedding and walks over all tokens, so the order of the sums is fixed. */
static void embedding_back(gqa_worker *w, const pass *p) {
    const net *n = p->net;
    enum { COLUMNS = 32 };
    size_t dim = (size_t)n->config.dim;
    for_units(u, w, pieces(n->config.dim, COLUMNS)) {
        size_t from = (size_t)u * COLUMNS;
        int count = dim - from < COLUMNS ? (int)(dim - from) : COLUMNS;
        for (int t = 0; t < p->tokens; t++) {
            size_t token = (size_t)p->input[(size_t)(t / n->length) * ((size_t)n->length + 1) + (size_t)(t % n->length)];
            p->k->add(n->grads + n->embedding + token * dim + from, p->b->dx + (size_t)t * dim + from, count);
        }
    }
}

static void clear_dx(gqa_worker *w, const pass *p) {
    size_t dim = (size_t)p->net->config.dim;
    for_units(u, w, p->n)
        memset(p->b->dx + (size_t)u * (size_t)p->net->length * dim, 0,
               (size_t)p->net->length * dim * sizeof *p->b->dx);
}

/* After train_pass_forward and train_pass_loss. b->dx is the gradient of the residual stream all the way down. */
void train_pass_backward(gqa_worker *w, const pass *p) {
    const net *n = p->net;
    const backward *b = p->b;
    const gqa_config *c = &n->config;
    clear_dx(w, p);
    norm_grad(w, p, n->x, n->output_norm);
    for (int l = c->n_layers - 1; l >= 0; l--) {
        const layer_acts *a = &n->acts[l];
        const layer_offsets *o = &n->layers[l];
        linear_grad(w, p, b->dhidden, site_grad(w, p, 2 + 2 * l, b->dnormed), a->hidden, o->wdown, c->dim, c->ffn_dim);
        swiglu_back(w, p, a);
        linear_grad(w, p, b->dnormed, b->dgu, a->normed2, o->wgu, 2 * c->ffn_dim, c->dim);
        norm_grad(w, p, a->mid, o->ffn_norm);
        linear_grad(w, p, b->datt, site_grad(w, p, 1 + 2 * l, b->dnormed), a->att, o->wo, c->dim, n->q_dim);
        attention_back(w, p, a);
        linear_grad(w, p, b->dnormed, b->dqkv, a->normed, o->wqkv, n->qkv_dim, c->dim);
        norm_grad(w, p, a->x, o->attn_norm);
    }
    site_grad(w, p, 0, b->dx);
    embedding_back(w, p);
}
