/* forward.c: the forward pass over whole sequences, and the matrix products of both passes. Every
 * thread of the team runs these functions and gets units of work of each phase (kernels/team.h). */
#include <string.h>

#include "train_internal.h"

/* ---- products -------------------------------------------------------------------------------- */

/* C cut into units of rows x cols, `across` of them side by side. */
typedef struct product_cut {
    int rows, cols, across, units;
} product_cut;

static product_cut cut_into(const gemm *g, int rows, int cols) {
    int across = ceil_div(g->n, cols);
    return (product_cut){rows, cols, across, ceil_div(g->m, rows) * across};
}

/* Whole blocks of sgemm, and smaller units when C is small, so that every thread gets some; each of
 * them packs its columns of B. No sum depends on the cut (sgemm_impl.h). */
static product_cut cut_product(const gemm *g, int n_threads) {
    const int wanted = 2 * n_threads;
    product_cut cut = cut_into(g, 2 * GQA_SGEMM_MC, GQA_SGEMM_NC);
    if (cut.units < wanted) cut = cut_into(g, GQA_SGEMM_MC, cut.cols);
    if (cut.units < wanted) cut = cut_into(g, GQA_SGEMM_MC / 2, cut.cols);
    if (cut.units < wanted) cut = cut_into(g, cut.rows, 128);
    return cut;
}

static gemm unit_product(gemm g, product_cut cut, int unit) {
    int row = unit / cut.across * cut.rows, col = unit % cut.across * cut.cols;
    g.m = min_int(g.m - row, cut.rows);
    g.n = min_int(g.n - col, cut.cols);
    g.A.data += row * g.A.row;
    g.B.data += col * g.B.col;
    g.C += row * g.ldc + col;
    return g;
}

void train_products(gqa_worker *me, const pass *p, const gemm *products, int n) {
    int total = 0;
    for (int i = 0; i < n; i++) total += cut_product(&products[i], me->n).units;
    for_units(u, me, total) {
        if (pass_stopped(p)) continue;
        const gemm *g = products;
        product_cut cut = cut_product(g, me->n);
        int unit = u;
        while (unit >= cut.units) {
            unit -= cut.units;
            cut = cut_product(++g, me->n);
        }
        train_product(p, me->id, unit_product(*g, cut, unit));
    }
}

/* y [tokens, rows] = or, with accumulate, += x [tokens, cols] W^T; rows of y are ldy apart. */
static void linear(gqa_worker *me, const pass *p, float *y, size_t ldy, const float *x,
                   const float *W, size_t rows, size_t cols, int accumulate) {
    const gemm g = {p->tokens, rows, cols, row_major(x, cols), transposed(W, cols), y, ldy,
                    accumulate};
    train_products(me, p, &g, 1);
}

/* ---- layers ---------------------------------------------------------------------------------- */

/* Dropout is for a student that learns. */
static int drops(const pass *p, const network *net) {
    return p->drop.share > 0 && net == p->net;
}

/* x = the embeddings of the input, a sequence per unit. */
static void embed(gqa_worker *me, const pass *p, const network *net, float *x) {
    size_t dim = net->dim, length = net->length;
    for_units(u, me, p->n) {
        size_t first = u * length;
        for (size_t t = first; t < first + length; t++)
            memcpy(x + t * dim, net->params + net->embedding + *pass_token(p, t) * dim,
                   dim * sizeof *x);
        float *rows = x + first * dim;
        if (drops(p, net)) train_dropout_rows(&p->drop, 0, first, length, rows, rows, dim, 0);
    }
}

/* out = norm(x), and a copy of x when copy is not NULL. */
static void norm(gqa_worker *me, const pass *p, const network *net, float *out, const float *x,
                 size_t weights, float *copy) {
    size_t dim = net->dim;
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS)) {
        token_range r = unit_tokens(u, ROW_TOKENS, p->tokens);
        for (size_t t = r.first; t < r.end; t++)
            p->k->rmsnorm(out + t * dim, x + t * dim, net->params + weights, dim,
                          net->config.norm_eps);
        if (copy)
            memcpy(copy + r.first * dim, x + r.first * dim, (r.end - r.first) * dim * sizeof *copy);
    }
}

/* out [tokens, dim] += x [tokens, cols] W^T, with dropout. */
static void linear_add(gqa_worker *me, const pass *p, const network *net, int site, float *out,
                       const float *x, size_t weights, size_t cols) {
    size_t dim = net->dim;
    if (!drops(p, net)) {
        linear(me, p, out, dim, x, net->params + weights, dim, cols, 1);
        return;
    }
    float *product = p->back->dnormed; /* not in use before the backward pass */
    linear(me, p, product, dim, x, net->params + weights, dim, cols, 0);
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS)) {
        token_range r = unit_tokens(u, ROW_TOKENS, p->tokens);
        size_t at = r.first * dim, n = r.end - r.first;
        train_dropout_rows(&p->drop, site, r.first, n, product + at, out + at, dim, 1);
    }
}

void train_rotate(const pass *p, const network *net, float *qkv, token_range tokens, int inverse) {
    const qkv_layout *q = &net->qkv;
    size_t n = q->rope_dim, length = net->length;
    const float *table = net->rope + (inverse ? length * n : 0);
    for (size_t t = tokens.first; t < tokens.end; t++) {
        float *row = qkv + t * q->qkv_dim;
        const float *cos_sin = table + t % length * n;
        for (size_t h = 0; h < q->n_heads; h++)
            p->k->rope(row + h * q->key_dim + q->nope_dim, cos_sin, n, net->config.rope_half);
        for (size_t h = 0; h < q->n_rotated; h++)
            p->k->rope(row + q->shared + h * q->key_dim, cos_sin, n, net->config.rope_half);
    }
}

static void rotate(gqa_worker *me, const pass *p, const network *net, float *qkv) {
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS))
        train_rotate(p, net, qkv, unit_tokens(u, ROW_TOKENS, p->tokens), 0);
}

static void attention(gqa_worker *me, const pass *p, const network *net, const layer_acts *acts) {
    for_units(u, me, p->n * (int)net->qkv.n_kv_heads)
        train_attention_forward(p, net, acts, u, me->id);
}

static void swiglu(gqa_worker *me, const pass *p, const network *net, const layer_acts *acts) {
    size_t ffn = net->ffn_dim;
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS)) {
        token_range r = unit_tokens(u, ROW_TOKENS, p->tokens);
        for (size_t t = r.first; t < r.end; t++) {
            const float *gate = acts->gate_up + t * 2 * ffn;
            p->k->swiglu(acts->hidden + t * ffn, gate, gate + ffn, ffn);
        }
    }
}

/* Leaves in net->final the normed output of the last layer. */
void train_pass_forward(gqa_worker *me, const pass *p, network *net) {
    const int n_layers = net->config.n_layers;
    const qkv_layout *q = &net->qkv;
    const size_t dim = net->dim, ffn = net->ffn_dim;
    const float *W = net->params;
    embed(me, p, net, net->acts[0].x);
    for (int l = 0; l < n_layers && !pass_stopped(p); l++) {
        const layer_acts *a = &net->acts[l];
        const layer_offsets *layer = &net->layers[l];
        float *next = l + 1 < n_layers ? net->acts[l + 1].x : net->x;
        norm(me, p, net, a->normed, a->x, layer->attn_norm, a->mid);           /* mid = x */
        linear(me, p, a->qkv, q->qkv_dim, a->normed, W + layer->wqkv, q->proj_dim, dim, 0);
        rotate(me, p, net, a->qkv);
        if (q->proj_dim < q->qkv_dim) train_expand_forward(me, p, net, layer, a->qkv);
        attention(me, p, net, a);
        linear_add(me, p, net, 1 + 2 * l, a->mid, a->attn, layer->wo, q->attn_dim);
        norm(me, p, net, a->normed2, a->mid, layer->ffn_norm, next);           /* next = mid */
        linear(me, p, a->gate_up, 2 * ffn, a->normed2, W + layer->w_gate_up, 2 * ffn, dim, 0);
        swiglu(me, p, net, a);
        linear_add(me, p, net, 2 + 2 * l, next, a->hidden, layer->w_down, ffn);
    }
    norm(me, p, net, net->final, net->x, net->output_norm, NULL);
}
