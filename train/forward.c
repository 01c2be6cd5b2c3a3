/* forward.c: the forward pass over whole sequences, and the matrix products of both passes. Every thread of the team
 * runs these functions; the units of work of each phase are shared out (kernels/team.h). */
#include <string.h>

#include "train_internal.h"

enum { PRODUCT_ROWS = 288, PRODUCT_COLS = 768 }; /* a unit of a product; whole blocks of sgemm */

static int pieces(int n, int piece) { return (n + piece - 1) / piece; }

/* The number of units of a product and their size: narrower when C is small, so that every thread gets some. No sum
 * depends on the cut (sgemm_impl.h). */
static int units_of(const gemm *g, int *rows, int *cols) {
    *rows = PRODUCT_ROWS;
    *cols = PRODUCT_COLS;
    if (pieces(g->m, *rows) * pieces(g->n, *cols) < 8) {
        *rows = GQA_SGEMM_MC / 2;
        if (pieces(g->m, *rows) * pieces(g->n, *cols) < 4) *cols = 128;
    }
    return pieces(g->m, *rows) * pieces(g->n, *cols);
}

void train_products(gqa_worker *w, const pass *p, const gemm *g, int n) {
    int total = 0, rows, cols;
    for (int i = 0; i < n; i++) total += units_of(&g[i], &rows, &cols);
    for_units(u, w, total) {
        const gemm *x = g;
        int unit = u, units;
        while (unit >= (units = units_of(x, &rows, &cols))) unit -= units, x++;
        int across = pieces(x->n, cols), m0 = unit / across * rows, n0 = unit % across * cols;
        int m = x->m - m0 < rows ? x->m - m0 : rows, nn = x->n - n0 < cols ? x->n - n0 : cols;
        p->k->sgemm(m, nn, x->k, x->A + (size_t)m0 * x->a_row, x->a_row, x->a_col, x->B + (size_t)n0 * x->b_col,
                    x->b_row, x->b_col, x->C + (size_t)m0 * x->ldc + n0, x->ldc, x->accumulate, p->scratch[w->id]);
    }
}

/* y [tokens, rows] = or += x [tokens, cols] W^T. */
static void linear(gqa_worker *w, const pass *p, float *y, const float *x, const float *weights, int rows, int cols,
                   int accumulate) {
    gemm g = {p->tokens, rows, cols, x, (size_t)cols, 1, weights, 1, (size_t)cols, y, (size_t)rows, accumulate};
    train_products(w, p, &g, 1);
}

/* out = norm(x), and a copy of x when copy is not NULL. */
static void norm_rows(gqa_worker *w, const pass *p, const net *n, float *out, const float *x, const float *weights,
                      float *copy) {
    size_t dim = (size_t)n->config.dim;
    for_units(u, w, pieces(p->tokens, ROW_TOKENS)) {
        int end = (u + 1) * ROW_TOKENS < p->tokens ? (u + 1) * ROW_TOKENS : p->tokens;
        for (int t = u * ROW_TOKENS; t < end; t++)
            p->k->rmsnorm(out + (size_t)t * dim, x + (size_t)t * dim, weights, n->config.dim, n->config.norm_eps);
        size_t from = (size_t)u * ROW_TOKENS * dim;
        if (copy) memcpy(copy + from, x + from, (size_t)(end - u * ROW_TOKENS) * dim * sizeof *copy);
    }
}

static int drops(const pass *p, const net *n) { return p->drop.share > 0 && n == p->net; } /* a teacher drops nothing */

/* out [tokens, dim] += in [tokens, cols] W^T, less what is dropped. */
static void linear_add(gqa_worker *w, const pass *p, const net *n, int site, float *out, const float *in, const float *weights, int cols) {
    int dim = n->config.dim;
    if (!drops(p, n)) {
        linear(w, p, out, in, weights, dim, cols, 1);
        return;
    }
    float *room = p->b->dnormed; /* not in use before the way back */
    linear(w, p, room, in, weights, dim, cols, 0);
    for_units(u, w, pieces(p->tokens, ROW_TOKENS)) {
        int from = u * ROW_TOKENS, count = p->tokens - from < ROW_TOKENS ? p->tokens - from : ROW_TOKENS;
        size_t at = (size_t)from * (size_t)dim;
        train_dropout_rows(&p->drop, site, from, count, room + at, out + at, dim, 1);
    }
}

static void embed(gqa_worker *w, const pass *p, net *n) {
    size_t dim = (size_t)n->config.dim;
    for_units(u, w, p->n) {
        const int32_t *in = p->input + (size_t)u * ((size_t)n->length + 1);
        float *x = n->acts[0].x + (size_t)u * (size_t)n->length * dim;
        for (int t = 0; t < n->length; t++)
            memcpy(x + (size_t)t * dim, n->params + n->embedding + (size_t)in[t] * dim, dim * sizeof *x);
        if (drops(p, n)) train_dropout_rows(&p->drop, 0, u * n->length, n->length, x, x, n->config.dim, 0);
    }
}

void train_rotate(const pass *p, const net *n, float *qkv, int token0, int token1, int back) {
    int hd = n->config.head_dim, heads = n->config.n_heads + n->config.n_kv_heads;
    const float *table = n->rope + (back ? (size_t)n->length * (size_t)hd : 0);
    for (int t = token0; t < token1; t++)
        for (int h = 0; h < heads; h++)
            p->k->rope(qkv + (size_t)t * (size_t)n->qkv_dim + (size_t)h * (size_t)hd,
                       table + (size_t)(t % n->length) * (size_t)hd, n->config.rope_dim, n->config.rope_half);
}

static void rotate(gqa_worker *w, const pass *p, const net *n, float *qkv) {
    for_units(u, w, pieces(p->tokens, ROW_TOKENS))
        train_rotate(p, n, qkv, u * ROW_TOKENS,
                    (u + 1) * ROW_TOKENS < p->tokens ? (u + 1) * ROW_TOKENS : p->tokens, 0);
}

static void attention(gqa_worker *w, const pass *p, const net *n, const layer_acts *a) {
    for_units(u, w, p->n * n->config.n_kv_heads)
        train_attention_forward(p, n, a, u, w->id);
}

static void swiglu_rows(gqa_worker *w, const pass *p, const net *n, const layer_acts *a) {
    int ffn = n->config.ffn_dim;
    for_units(u, w, pieces(p->tokens, ROW_TOKENS))
        for (int t = u * ROW_TOKENS; t < p->tokens && t < (u + 1) * ROW_TOKENS; t++) {
            const float *gu = a->gu + (size_t)t * 2 * (size_t)ffn;
            p->k->swiglu(a->hidden + (size_t)t * (size_t)ffn, gu, gu + ffn, ffn);
        }
}

/* Leaves in n->final the normed output of the last layer. */
void train_pass_forward(gqa_worker *w, const pass *p, net *n) {
    const gqa_config *c = &n->config;
    const float *W = n->params;
    embed(w, p, n);
    for (int l = 0; l < c->n_layers; l++) {
        const layer_acts *a = &n->acts[l];
        const layer_offsets *o = &n->layers[l];
        float *next = l + 1 < c->n_layers ? n->acts[l + 1].x : n->x;
        norm_rows(w, p, n, a->normed, a->x, W + o->attn_norm, a->mid);
        linear(w, p, a->qkv, a->normed, W + o->wqkv, n->qkv_dim, c->dim, 0);
        rotate(w, p, n, a->qkv);
        attention(w, p, n, a);
        linear_add(w, p, n, 1 + 2 * l, a->mid, a->att, W + o->wo, n->q_dim);
        norm_rows(w, p, n, a->normed2, a->mid, W + o->ffn_norm, next);
        linear(w, p, a->gu, a->normed2, W + o->wgu, 2 * c->ffn_dim, c->dim, 0);
        swiglu_rows(w, p, n, a);
        linear_add(w, p, n, 2 + 2 * l, next, a->hidden, W + o->wdown, c->ffn_dim);
    }
    norm_rows(w, p, n, n->final, n->x, W + n->output_norm, NULL);
}
