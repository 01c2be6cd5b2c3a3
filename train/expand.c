/* expand.c: attention whose cached row is less than K and V, while it is learnt: each head's keys
 * and values are made of the row, so that attention is that of MHA or GQA, and their gradients go
 * back the same way. Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1), of
 * c and k_pe:
 *
 *     n = norm(c)    K_h = [n Wk_b,h | k_pe]    V_h = n Wv_b,h^T     Wk_b,h: [latent_dim, nope_dim]
 *     dWk_b,h += n^T dK_h    dWv_b,h += dV_h^T n    dn = sum over h of dK_h Wk_b,h^T + dV_h Wv_b,h
 *
 * dK_h in these products is its first nope_dim columns; dk_pe is the sum of the others over h.
 * Grouped-tied attention (arXiv 2505.21487), of a row t_h for each KV head and k_pe:
 *
 *     K_h = [first half of t_h | k_pe]    V_h = t_h    dt_h = dV_h + [dK_h | 0] */
#include <string.h>

#include "train_internal.h"

/* What is of one head. */
typedef struct latent_head {
    size_t k, v;               /* where its K and V start in a row of qkv */
    size_t wk_b, wv_b;         /* offsets of its matrices */
} latent_head;

static latent_head find_head(const qkv_layout *q, const layer_offsets *layer, size_t h) {
    latent_head head = {.k = q->k + h * q->key_dim, .v = q->v + h * q->value_dim};
    head.wk_b = layer->wk_b + h * q->latent_dim * q->nope_dim;
    head.wv_b = layer->wv_b + h * q->latent_dim * q->value_dim;
    return head;
}

/* K (of latent attention: its end) and norm(c) of some tokens. */
static void expand_rows(const pass *p, const network *net, const float *norm, float *qkv,
                        token_range r) {
    const qkv_layout *q = &net->qkv;
    size_t ld = q->qkv_dim, nope = q->nope_dim;
    for (float *row = qkv + r.first * ld; row < qkv + r.end * ld; row += ld) {
        if (q->latent_dim)
            p->k->rmsnorm(row + q->normed, row + q->row, norm, q->latent_dim,
                          net->config.norm_eps);
        for (size_t h = 0; h < q->n_kv_heads; h++) {
            float *k = row + q->k + h * q->key_dim;
            if (!q->latent_dim) memcpy(k, row + q->v + h * q->value_dim, nope * sizeof *k);
            memcpy(k + nope, row + q->shared, q->rope_dim * sizeof *k);
        }
    }
}

/* The rest of K, and V, of one sequence and head. */
static void expand_head(const pass *p, const network *net, const latent_head *h, float *qkv,
                        int thread) {
    const qkv_layout *q = &net->qkv;
    size_t ld = q->qkv_dim, n = q->latent_dim;
    const float *Wk_b = net->params + h->wk_b, *Wv_b = net->params + h->wv_b;
    const view normed = row_major(qkv + q->normed, ld);
    train_product(p, thread, (gemm){net->length, q->nope_dim, n, normed,
                                    row_major(Wk_b, q->nope_dim), qkv + h->k, ld, 0});
    train_product(p, thread, (gemm){net->length, q->value_dim, n, normed, transposed(Wv_b, n),
                                    qkv + h->v, ld, 0});
}

void train_expand_forward(gqa_worker *me, const pass *p, const network *net,
                          const layer_offsets *layer, float *qkv) {
    const qkv_layout *q = &net->qkv;
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS))
        expand_rows(p, net, net->params + layer->latent_norm, qkv,
                    unit_tokens(u, ROW_TOKENS, p->tokens));
    if (!q->latent_dim) return;
    for_units(u, me, p->n * (int)q->n_heads) {
        size_t sequence = u / q->n_heads;
        const latent_head h = find_head(q, layer, u % q->n_heads);
        expand_head(p, net, &h, qkv + sequence * net->length * q->qkv_dim, me->id);
    }
}

/* dWk_b and dWv_b of a head. */
static void weights_backward(const pass *p, const latent_head *h, const float *qkv, int thread) {
    const network *net = p->net;
    const qkv_layout *q = &net->qkv;
    size_t ld = q->qkv_dim, n = q->latent_dim, nope = q->nope_dim;
    const float *dK = p->back->dqkv + h->k, *dV = p->back->dqkv + h->v, *normed = qkv + q->normed;
    train_product(p, thread, (gemm){n, nope, p->tokens, transposed(normed, ld), row_major(dK, ld),
                                    net->grads + h->wk_b, nope, 1});
    train_product(p, thread, (gemm){q->value_dim, n, p->tokens, transposed(dV, ld),
                                    row_major(normed, ld), net->grads + h->wv_b, n, 1});
}

/* Adds what a head of latent attention gives to dn of some tokens. */
static void latent_backward(const pass *p, const latent_head *h, token_range r, int thread) {
    const network *net = p->net;
    const qkv_layout *q = &net->qkv;
    int tokens = (int)(r.end - r.first);
    size_t ld = q->qkv_dim, n = q->latent_dim, nope = q->nope_dim;
    const float *rows = p->back->dqkv + r.first * ld;
    float *dn = p->back->dqkv + r.first * ld + q->normed;
    const float *Wk_b = net->params + h->wk_b, *Wv_b = net->params + h->wv_b;
    train_product(p, thread, (gemm){tokens, n, nope, row_major(rows + h->k, ld),
                                    transposed(Wk_b, nope), dn, ld, 1});
    train_product(p, thread, (gemm){tokens, n, q->value_dim, row_major(rows + h->v, ld),
                                    row_major(Wv_b, n), dn, ld, 1});
}

/* dk_pe of some tokens, and dt of grouped-tied attention, which dV is already in; 0 in dc and
 * dn. */
static void rows_backward(const pass *p, token_range r) {
    const qkv_layout *q = &p->net->qkv;
    size_t ld = q->qkv_dim, zeros = q->latent_dim ? q->row : q->shared;
    float *dqkv = p->back->dqkv;
    for (float *row = dqkv + r.first * ld; row < dqkv + r.end * ld; row += ld) {
        memset(row + zeros, 0, (q->k - zeros) * sizeof *row);
        for (size_t h = 0; h < q->n_kv_heads; h++) {
            const float *dk = row + q->k + h * q->key_dim;
            if (!q->latent_dim) p->k->add(row + q->v + h * q->value_dim, dk, q->nope_dim);
            p->k->add(row + q->shared, dk + q->nope_dim, q->rope_dim);
        }
    }
}

void train_expand_backward(gqa_worker *me, const pass *p, const layer_offsets *layer,
                           const float *qkv) {
    const qkv_layout *q = &p->net->qkv;
    size_t n_latent = q->latent_dim ? q->n_heads : 0;
    for_units(u, me, (int)n_latent) {
        const latent_head h = find_head(q, layer, u);
        weights_backward(p, &h, qkv, me->id);
    }
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS)) {
        token_range r = unit_tokens(u, ROW_TOKENS, p->tokens);
        rows_backward(p, r);
        for (size_t i = 0; i < n_latent; i++) {
            const latent_head h = find_head(q, layer, i);
            latent_backward(p, &h, r, me->id);
        }
    }
}
