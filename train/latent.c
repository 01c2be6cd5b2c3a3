/* latent.c: multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) while it is
 * learnt. A position caches c and k_pe; here each head's keys and values are made of them, so that
 * attention is that of MHA, and its gradients go back the same way:
 *
 *     n = norm(c)    K_h = [n Wk_b,h | k_pe]    V_h = n Wv_b,h^T     Wk_b,h: [latent_dim, nope_dim]
 *     dWk_b,h += n^T dK_h    dWv_b,h += dV_h^T n    dn = sum over h of dK_h Wk_b,h^T + dV_h Wv_b,h
 *
 * dK_h in these products is its first nope_dim columns; dk_pe is the sum of the others over h. */
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

/* K and V of one sequence and head. */
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
    for (float *row = qkv; row < qkv + net->length * ld; row += ld)
        memcpy(row + h->k + q->nope_dim, row + q->shared, q->rope_dim * sizeof *row);
}

void train_latent_forward(gqa_worker *me, const pass *p, const network *net,
                          const layer_offsets *layer, float *qkv) {
    const qkv_layout *q = &net->qkv;
    for_units(u, me, ceil_div(p->tokens, ROW_TOKENS)) {
        token_range r = unit_tokens(u, ROW_TOKENS, p->tokens);
        for (float *row = qkv + r.first * q->qkv_dim; row < qkv + r.end * q->qkv_dim;
             row += q->qkv_dim)
            p->k->rmsnorm(row + q->normed, row + q->row, net->params + layer->latent_norm,
                          q->latent_dim, net->config.norm_eps);
    }
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

/* Adds what a head gives to dn and dk_pe of some tokens. */
static void row_backward(const pass *p, const latent_head *h, token_range r, int thread) {
    const network *net = p->net;
    const qkv_layout *q = &net->qkv;
    int tokens = (int)(r.end - r.first);
    size_t ld = q->qkv_dim, n = q->latent_dim, nope = q->nope_dim;
    float *rows = p->back->dqkv + r.first * ld, *dn = rows + q->normed;
    const float *Wk_b = net->params + h->wk_b, *Wv_b = net->params + h->wv_b;
    train_product(p, thread, (gemm){tokens, n, nope, row_major(rows + h->k, ld),
                                    transposed(Wk_b, nope), dn, ld, 1});
    train_product(p, thread, (gemm){tokens, n, q->value_dim, row_major(rows + h->v, ld),
                                    row_major(Wv_b, n), dn, ld, 1});
    for (int t = 0; t < tokens; t++, rows += ld)
        p->k->add(rows + q->shared, rows + h->k + nope, q->rope_dim);
}

void train_latent_backward(gqa_worker *me, const pass *p, const layer_offsets *layer,
                           const float *qkv) {
    const qkv_layout *q = &p->net->qkv;
    for_units(u, me, (int)q->n_heads) {
        const latent_head h = find_head(q, layer, u);
        weights_backward(p, &h, qkv, me->id);
    }
    for_units(u, me, ceil_div(p->tokens, NORM_TOKENS)) {
        token_range r = unit_tokens(u, NORM_TOKENS, p->tokens);
        for (size_t t = r.first; t < r.end; t++) /* c, k_pe and n lie side by side */
            memset(p->back->dqkv + t * q->qkv_dim + q->row, 0,
                   (q->k - q->row) * sizeof *p->back->dqkv);
        for (size_t i = 0; i < q->n_heads; i++) {
            const latent_head h = find_head(q, layer, i);
            row_backward(p, &h, r, me->id);
        }
    }
}
