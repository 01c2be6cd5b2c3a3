/* backward.c: the backward pass: the forward pass read from its end. Gradients of weights are added
 * to net.grads; sums over tokens are formed in a fixed order, whatever the number of threads. */
#include <string.h>

#include "train_internal.h"

/* Through y = x W^T: dx [tokens, cols] = dy W, and dW [rows, cols] += dy^T x; rows of dy are ldy
 * apart. */
static void linear_backward(gqa_worker *me, const pass *p, float *dx, const float *dy, size_t ldy,
                            const float *x, size_t weights, size_t rows, size_t cols) {
    const float *W = p->net->params + weights;
    float *dW = p->net->grads + weights;
    const gemm products[2] = {
        {p->tokens, cols, rows, row_major(dy, ldy), row_major(W, cols), dx, cols, 0},
        {rows, cols, p->tokens, transposed(dy, ldy), row_major(x, cols), dW, cols, 1},
    };
    train_products(me, p, products, 2);
}

/* Through norm(x), of n values a token and rows ld apart: adds to dx. The weight's gradient is
 * summed over NORM_TOKENS tokens per unit, then over units. */
static void norm_rows_backward(gqa_worker *me, const pass *p, float *dx, const float *dnormed,
                               const float *x, size_t ld, size_t n, size_t weights) {
    const network *net = p->net;
    const backward_acts *back = p->back;
    const float *gain = net->params + weights;
    int units = ceil_div(p->tokens, NORM_TOKENS);
    for_units(u, me, units) {
        float *sum = back->partial + u * n;
        token_range r = unit_tokens(u, NORM_TOKENS, p->tokens);
        memset(sum, 0, n * sizeof *sum);
        for (size_t t = r.first; t < r.end; t++)
            p->k->rmsnorm_grad(dx + t * ld, sum, dnormed + t * ld, x + t * ld, gain, n,
                               net->config.norm_eps);
    }
    for_units(one, me, 1)
        for (int u = 0; u < units; u++)
            p->k->add(net->grads + weights, back->partial + u * n, n);
}

static void norm_backward(gqa_worker *me, const pass *p, const float *x, size_t weights) {
    size_t dim = p->net->dim;
    norm_rows_backward(me, p, p->back->dx, p->back->dnormed, x, dim, dim, weights);
}

static void swiglu_backward(gqa_worker *me, const pass *p, const layer_acts *acts) {
    size_t ffn = p->net->ffn_dim;
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS)) {
        token_range r = unit_tokens(u, ROW_TOKENS, p->tokens);
        for (size_t t = r.first; t < r.end; t++) {
            const float *gate = acts->gate_up + t * 2 * ffn;
            float *dgate = p->back->dgate_up + t * 2 * ffn;
            p->k->swiglu_grad(dgate, dgate + ffn, p->back->dhidden + t * ffn, gate, gate + ffn,
                              ffn);
        }
    }
}

static void attention_backward(gqa_worker *me, const pass *p, const layer_acts *acts,
                               const layer_offsets *layer) {
    const qkv_layout *q = &p->net->qkv;
    float *dqkv = p->back->dqkv;
    for_units(u, me, p->n * (int)q->n_kv_heads)
        train_attention_backward(p, acts, u, me->id);
    if (q->proj_dim < q->qkv_dim) train_expand_backward(me, p, layer, acts->qkv);
    if (q->latent_dim)
        norm_rows_backward(me, p, dqkv + q->row, dqkv + q->normed, acts->qkv + q->row, q->qkv_dim,
                           q->latent_dim, layer->latent_norm);
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS))
        train_rotate(p, p->net, dqkv, unit_tokens(u, ROW_TOKENS, p->tokens), 1);
}

/* The gradient of what a site added to the residual stream: dx itself, or, with dropout, dx times
 * its factors in out (which may be dx). */
static const float *dropout_backward(gqa_worker *me, const pass *p, int site, float *out) {
    const float *dx = p->back->dx;
    size_t dim = p->net->dim;
    if (p->drop.share == 0) return dx;
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS)) {
        token_range r = unit_tokens(u, ROW_TOKENS, p->tokens);
        size_t at = r.first * dim;
        train_dropout_rows(&p->drop, site, r.first, r.end - r.first, dx + at, out + at, dim, 0);
    }
    return out;
}

/* A unit owns some columns of the embedding and walks over all tokens: the order of sums is
 * fixed. */
static void embedding_backward(gqa_worker *me, const pass *p) {
    enum { COLUMNS = 32 };
    const network *net = p->net;
    size_t dim = net->dim, tokens = p->tokens;
    for_units(u, me, ceil_div(net->config.dim, COLUMNS)) {
        size_t from = u * COLUMNS, count = min_size(dim - from, COLUMNS);
        float *gradient = net->grads + net->embedding + from;
        for (size_t t = 0; t < tokens; t++)
            p->k->add(gradient + *pass_token(p, t) * dim, p->back->dx + t * dim + from, count);
    }
}

static void clear_dx(gqa_worker *me, const pass *p) {
    size_t count = p->net->length * p->net->dim;
    for_units(u, me, p->n)
        memset(p->back->dx + u * count, 0, count * sizeof *p->back->dx);
}

/* After train_pass_forward and train_pass_loss, which leaves the gradient of net->final in
 * back->dnormed. back->dx is the gradient of the residual stream all the way down. */
void train_pass_backward(gqa_worker *me, const pass *p) {
    const network *net = p->net;
    const backward_acts *b = p->back;
    const qkv_layout *q = &net->qkv;
    const size_t dim = net->dim, ffn = net->ffn_dim;
    const float *dy;
    clear_dx(me, p);
    norm_backward(me, p, net->x, net->output_norm);
    for (int l = net->config.n_layers - 1; l >= 0 && !pass_stopped(p); l--) {
        const layer_acts *a = &net->acts[l];
        const layer_offsets *layer = &net->layers[l];
        dy = dropout_backward(me, p, 2 + 2 * l, b->dnormed);
        linear_backward(me, p, b->dhidden, dy, dim, a->hidden, layer->w_down, dim, ffn);
        swiglu_backward(me, p, a);
        linear_backward(me, p, b->dnormed, b->dgate_up, 2 * ffn, a->normed2, layer->w_gate_up,
                        2 * ffn, dim);
        norm_backward(me, p, a->mid, layer->ffn_norm);
        dy = dropout_backward(me, p, 1 + 2 * l, b->dnormed);
        linear_backward(me, p, b->dattn, dy, dim, a->attn, layer->wo, dim, q->attn_dim);
        attention_backward(me, p, a, layer);
        linear_backward(me, p, b->dnormed, b->dqkv, q->qkv_dim, a->normed, layer->wqkv,
                        q->proj_dim, dim);
        norm_backward(me, p, a->x, layer->attn_norm);
    }
    dropout_backward(me, p, 0, b->dx);
    embedding_backward(me, p);
}
