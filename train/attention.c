/* attention.c: grouped-query attention of whole sequences, forward and backward, as matrix products.
 *
 * In a row of qkv the g query heads that share a KV head lie side by side, so a block of positions, seen as
 * [positions * g, head_dim], is one matrix: a product of it with K or V serves the whole group, and the sums over the
 * group in dK and dV are simply part of a product's inner length. K and V are never repeated.
 *
 *     S = scale Q K^T    P = softmax(S), causal    O = P V                                   Q: [positions * g, head_dim]
 *     dV += P^T dO    dP = dO V^T    dS = P (dP - rowsum(dO O)) scale    dQ = dS K    dK += dS^T Q
 *
 * The forward pass keeps only the log-sum-exp of each row, from which the backward pass makes P again (Dao 2023,
 * "FlashAttention-2", section 3.1). Keys past the block's last position are left out of every product. */
#include <math.h>
#include <string.h>

#include "train_internal.h"

static int block_span(int group) {
    int span = ATTENTION_ROWS / group;
    return span < 1 ? 1 : span > ATTENTION_SPAN ? ATTENTION_SPAN : span;
}

static size_t block_rows(const net *n) {
    int group = n->config.n_heads / n->config.n_kv_heads;
    return (size_t)block_span(group) * (size_t)group;
}

size_t train_attention_scratch_floats(const net *n) {
    size_t rows = block_rows(n);
    return 2 * rows * (((size_t)n->length + 15) & ~(size_t)15) + 4 * rows * (size_t)n->config.head_dim;
}

/* Where a unit's data lie: rows of qkv, att and lse of its sequence, columns of its heads. */
typedef struct place {
    int group, hd, span, kv_head;
    size_t first;                 /* token of position 0 */
    size_t ld, q, k, v;           /* row length of qkv, columns of the group's queries and of K and V */
    size_t ld_s;                  /* row length of scores */
    float scale;
} place;

static place find_place(const net *n, int unit) {
    place at = {.group = n->config.n_heads / n->config.n_kv_heads, .hd = n->config.head_dim};
    at.span = block_span(at.group);
    at.kv_head = unit % n->config.n_kv_heads;
    at.first = (size_t)(unit / n->config.n_kv_heads) * (size_t)n->length;
    at.ld = (size_t)n->qkv_dim;
    at.q = (size_t)at.kv_head * (size_t)at.group * (size_t)at.hd;
    at.k = (size_t)n->q_dim + (size_t)at.kv_head * (size_t)at.hd;
    at.v = at.k + (size_t)n->kv_dim;
    at.ld_s = ((size_t)n->length + 15) & ~(size_t)15;
    at.scale = 1.0f / sqrtf((float)at.hd);
    return at;
}

/* Copies the group's heads of count positions between token rows (ld apart) and a block of its own. */
static void gather(float *block, const float *rows, size_t ld, int count, const place *at) {
    size_t width = (size_t)at->group * (size_t)at->hd;
    for (int i = 0; i < count; i++) memcpy(block + (size_t)i * width, rows + (size_t)i * ld, width * sizeof *block);
}
static void scatter(float *rows, size_t ld, const float *block, int count, const place *at) {
    size_t width = (size_t)at->group * (size_t)at->hd;
    for (int i = 0; i < count; i++) memcpy(rows + (size_t)i * ld, block + (size_t)i * width, width * sizeof *block);
}

void train_attention_forward(const pass *p, const net *n, const layer_acts *a, int unit, int thread) {
    const place at = find_place(n, unit);
    void *room = p->scratch[thread];
    float *scratch = (float *)((char *)room + gqa_sgemm_scratch());
    float *qkv = a->qkv + at.first * at.ld, *S = scratch, *Q = S + 2 * block_rows(n) * at.ld_s;
    float *O = Q + block_rows(n) * (size_t)at.hd;
    size_t hd = (size_t)at.hd, q_dim = (size_t)n->q_dim, heads = (size_t)n->config.n_heads;
    for (int p0 = 0; p0 < n->length; p0 += at.span) {
        int count = n->length - p0 < at.span ? n->length - p0 : at.span, rows = count * at.group, keys = p0 + count;
        gather(Q, qkv + (size_t)p0 * at.ld + at.q, at.ld, count, &at);
        p->k->sgemm(rows, keys, at.hd, Q, hd, 1, qkv + at.k, 1, at.ld, S, at.ld_s, 0, room);
        for (int r = 0; r < rows; r++) {
            float *s = S + (size_t)r * at.ld_s;
            int position = p0 + r / at.group, seen = position + 1;
            size_t head = (size_t)at.kv_head * (size_t)at.group + (size_t)(r % at.group);
            a->lse[(at.first + (size_t)position) * heads + head] = p->k->softmax(s, seen, at.scale);
            memset(s + seen, 0, (size_t)(keys - seen) * sizeof *s);
        }
        p->k->sgemm(rows, at.hd, keys, S, at.ld_s, 1, qkv + at.v, at.ld, 1, O, hd, 0, room);
        scatter(a->att + (at.first + (size_t)p0) * q_dim + at.q, q_dim, O, count, &at);
    }
}

/* P from the scores in S, and dS from dP in dS, rows of one block. O and dO: [rows, head_dim]. */
static void backward_rows(const pass *p, const layer_acts *a, const place *at, int p0, int rows, int keys, float *S,
                          float *dS, const float *O, const float *dO) {
    size_t heads = (size_t)p->net->config.n_heads;
    for (int r = 0; r < rows; r++) {
        float *s = S + (size_t)r * at->ld_s, *ds = dS + (size_t)r * at->ld_s;
        int position = p0 + r / at->group, seen = position + 1;
        size_t head = (size_t)at->kv_head * (size_t)at->group + (size_t)(r % at->group);
        size_t row = (size_t)r * (size_t)at->hd;
        p->k->softmax_from_lse(s, seen, at->scale, a->lse[(at->first + (size_t)position) * heads + head]);
        p->k->softmax_grad(ds, s, seen, at->scale, p->k->dot(O + row, dO + row, at->hd));
        memset(s + seen, 0, (size_t)(keys - seen) * sizeof *s);
        memset(ds + seen, 0, (size_t)(keys - seen) * sizeof *ds);
    }
}

void train_attention_backward(const pass *p, const layer_acts *a, int unit, int thread) {
    const net *n = p->net;
    const place at = find_place(n, unit);
    void *room = p->scratch[thread];
    float *scratch = (float *)((char *)room + gqa_sgemm_scratch());
    size_t hd = (size_t)at.hd, q_dim = (size_t)n->q_dim, block = block_rows(n);
    float *qkv = a->qkv + at.first * at.ld, *dqkv = p->b->dqkv + at.first * at.ld;
    float *S = scratch, *dS = S + block * at.ld_s, *Q = dS + block * at.ld_s, *O = Q + block * hd, *dO = O + block * hd;
    float *dQ = dO + block * hd;
    for (int t = 0; t < n->length; t++) {
        memset(dqkv + (size_t)t * at.ld + at.k, 0, hd * sizeof *dqkv);
        memset(dqkv + (size_t)t * at.ld + at.v, 0, hd * sizeof *dqkv);
    }
    for (int p0 = 0; p0 < n->length; p0 += at.span) {
        int count = n->length - p0 < at.span ? n->length - p0 : at.span, rows = count * at.group, keys = p0 + count;
        gather(Q, qkv + (size_t)p0 * at.ld + at.q, at.ld, count, &at);
        gather(O, a->att + (at.first + (size_t)p0) * q_dim + at.q, q_dim, count, &at);
        gather(dO, p->b->datt + (at.first + (size_t)p0) * q_dim + at.q, q_dim, count, &at);
        p->k->sgemm(rows, keys, at.hd, Q, hd, 1, qkv + at.k, 1, at.ld, S, at.ld_s, 0, room);
        p->k->sgemm(rows, keys, at.hd, dO, hd, 1, qkv + at.v, 1, at.ld, dS, at.ld_s, 0, room);
        backward_rows(p, a, &at, p0, rows, keys, S, dS, O, dO);
        p->k->sgemm(keys, at.hd, rows, S, 1, at.ld_s, dO, hd, 1, dqkv + at.v, at.ld, 1, room);
        p->k->sgemm(keys, at.hd, rows, dS, 1, at.ld_s, Q, hd, 1, dqkv + at.k, at.ld, 1, room);
        p->k->sgemm(rows, at.hd, keys, dS, at.ld_s, 1, qkv + at.k, at.ld, 1, dQ, hd, 0, room);
        scatter(dqkv + (size_t)p0 * at.ld + at.q, at.ld, dQ, count, &at);
    }
}
