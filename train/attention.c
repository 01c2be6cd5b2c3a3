/* attention.c: grouped-query attention of whole sequences as matrix products, forward and backward.
 * Keys and values may differ in width.
 *
 * In a row of qkv the g query heads that share a KV head lie side by side, so a block of positions,
 * seen as [positions * g, key_dim], is one matrix: a product of it with K or V serves the whole
 * group, and the sums over the group in dK and dV are simply part of a product's inner length. K
 * and V are never repeated.
 *
 *     S = scale Q K^T    P = softmax(S), causal    O = P V             Q: [positions * g, key_dim]
 *     dV += P^T dO    dP = dO V^T    dS = P (dP - rowsum(dO O)) scale    dQ = dS K    dK += dS^T Q
 *
 * The forward pass keeps only the log-sum-exp of each row, from which the backward pass
 * recomputes P (Dao 2023, "FlashAttention-2", section 3.1). Keys past the block's last position
 * are left out of every product. */
#include <math.h>
#include <string.h>

#include "train_internal.h"

/* A unit of work, and where its data lie. Offsets are those of position 0. */
typedef struct attention_unit {
    size_t group, span;        /* query heads per KV head; positions per block */
    size_t ld, q, k, v;        /* row length of qkv; offsets of the group's queries, of K, of V */
    size_t ld_attn, attn;      /* row length of attn; offset of the group's heads */
    size_t ld_lse, lse;        /* the same of lse */
    size_t ld_scores;
    float scale;
} attention_unit;

static size_t group_of(const network *net) { return net->qkv.n_heads / net->qkv.n_kv_heads; }

static size_t block_span(const network *net) {
    return min_size(max_size(ATTENTION_ROWS / group_of(net), 1), ATTENTION_SPAN);
}

static attention_unit find_unit(const network *net, int unit) {
    const qkv_layout *q = &net->qkv;
    size_t n = q->n_kv_heads, kv_head = unit % n, group = group_of(net);
    size_t first = unit / n * net->length; /* token of position 0 */
    attention_unit at = {.group = group, .span = block_span(net)};
    at.ld = q->qkv_dim;
    at.q = first * at.ld + kv_head * group * q->key_dim;
    at.k = first * at.ld + q->k + kv_head * q->key_dim;
    at.v = first * at.ld + q->v + kv_head * q->value_dim;
    at.ld_attn = q->attn_dim;
    at.attn = first * at.ld_attn + kv_head * group * q->value_dim;
    at.ld_lse = q->n_heads;
    at.lse = first * at.ld_lse + kv_head * group;
    at.ld_scores = round_up(net->length, 16);
    at.scale = 1.0f / sqrtf((float)q->key_dim);
    return at;
}

/* A thread's scratch, behind that of sgemm: scores and rows of one block. */
typedef struct attention_scratch {
    float *S, *dS;            /* [block rows, ld_scores] scores, then probabilities */
    float *Q, *dQ;            /* [block rows, key_dim] */
    float *O, *dO;            /* [block rows, value_dim] */
} attention_scratch;

uint64_t train_attention_scratch(const network *net) {
    uint64_t rows = block_span(net) * group_of(net);
    uint64_t values = 2 * (net->qkv.key_dim + net->qkv.value_dim);
    uint64_t floats = 2 * rows * round_up(net->length, 16) + rows * values;
    return gqa_sgemm_scratch() + floats * sizeof(float);
}

static attention_scratch find_scratch(const pass *p, const network *net, int thread) {
    size_t rows = block_span(net) * group_of(net);
    size_t scores = rows * round_up(net->length, 16);
    size_t keys = rows * net->qkv.key_dim, values = rows * net->qkv.value_dim;
    attention_scratch s = {.S = (float *)((char *)p->scratch[thread] + gqa_sgemm_scratch())};
    s.dS = s.S + scores;
    s.Q = s.dS + scores;
    s.dQ = s.Q + keys;
    s.O = s.dQ + keys;
    s.dO = s.O + values;
    return s;
}

/* A block of positions: rows of scores, and the keys that its last position sees. */
typedef struct position_block {
    size_t first, count, rows, keys;
} position_block;

static position_block find_block(const network *net, const attention_unit *at, size_t first) {
    size_t count = min_size(net->length - first, at->span);
    return (position_block){first, count, count * at->group, first + count};
}

/* Copies the group's heads of n positions, width floats each, between rows and a dense block. */
static void gather(float *block, const float *rows, size_t ld, size_t n, size_t width) {
    for (size_t i = 0; i < n; i++)
        memcpy(block + i * width, rows + i * ld, width * sizeof *block);
}
static void scatter(float *rows, size_t ld, const float *block, size_t n, size_t width) {
    for (size_t i = 0; i < n; i++)
        memcpy(rows + i * ld, block + i * width, width * sizeof *block);
}

/* P from the scores in S; keeps the log-sum-exp of each row in lse. */
static void forward_rows(const pass *p, const attention_unit *at, position_block b, float *S,
                         float *lse) {
    for (size_t r = 0; r < b.rows; r++) {
        float *s = S + r * at->ld_scores;
        size_t position = b.first + r / at->group, seen = position + 1;
        lse[position * at->ld_lse + r % at->group] = p->k->softmax(s, seen, at->scale);
        memset(s + seen, 0, (b.keys - seen) * sizeof *s);
    }
}

void train_attention_forward(const pass *p, const network *net, const layer_acts *acts, int unit,
                             int thread) {
    const attention_unit at = find_unit(net, unit);
    const attention_scratch s = find_scratch(p, net, thread);
    const float *K = acts->qkv + at.k, *V = acts->qkv + at.v;
    size_t kd = net->qkv.key_dim, vd = net->qkv.value_dim, ld = at.ld, ld_s = at.ld_scores;
    for (size_t first = 0; first < net->length && !pass_stopped(p); first += at.span) {
        const position_block b = find_block(net, &at, first);
        gather(s.Q, acts->qkv + at.q + first * ld, ld, b.count, at.group * kd);
        train_product(p, thread, (gemm){b.rows, b.keys, kd, row_major(s.Q, kd), transposed(K, ld),
                                        s.S, ld_s, 0});
        forward_rows(p, &at, b, s.S, acts->lse + at.lse);
        train_product(p, thread, (gemm){b.rows, vd, b.keys, row_major(s.S, ld_s),
                                        row_major(V, ld), s.O, vd, 0});
        scatter(acts->attn + at.attn + first * at.ld_attn, at.ld_attn, s.O, b.count,
                at.group * vd);
    }
}

/* P from the scores in S, and dS from dP in dS. */
static void backward_rows(const pass *p, const attention_unit *at, position_block b,
                          attention_scratch s, const float *lse) {
    size_t vd = p->net->qkv.value_dim;
    for (size_t r = 0; r < b.rows; r++) {
        float *P = s.S + r * at->ld_scores, *dS = s.dS + r * at->ld_scores;
        size_t position = b.first + r / at->group, seen = position + 1;
        float delta = p->k->dot(s.O + r * vd, s.dO + r * vd, vd);
        p->k->softmax_from_lse(P, seen, at->scale, lse[position * at->ld_lse + r % at->group]);
        p->k->softmax_grad(dS, P, seen, at->scale, delta);
        memset(P + seen, 0, (b.keys - seen) * sizeof *P);
        memset(dS + seen, 0, (b.keys - seen) * sizeof *dS);
    }
}

void train_attention_backward(const pass *p, const layer_acts *acts, int unit, int thread) {
    const network *net = p->net;
    const attention_unit at = find_unit(net, unit);
    const attention_scratch s = find_scratch(p, net, thread);
    const float *K = acts->qkv + at.k, *V = acts->qkv + at.v;
    float *dQ = p->back->dqkv + at.q, *dK = p->back->dqkv + at.k, *dV = p->back->dqkv + at.v;
    size_t kd = net->qkv.key_dim, vd = net->qkv.value_dim, ld = at.ld, ld_s = at.ld_scores;
    for (size_t t = 0; t < net->length; t++) {
        memset(dK + t * ld, 0, kd * sizeof *dK);
        memset(dV + t * ld, 0, vd * sizeof *dV);
    }
    for (size_t first = 0; first < net->length && !pass_stopped(p); first += at.span) {
        const position_block b = find_block(net, &at, first);
        const size_t out = at.attn + first * at.ld_attn;
        gather(s.Q, acts->qkv + at.q + first * ld, ld, b.count, at.group * kd);
        gather(s.O, acts->attn + out, at.ld_attn, b.count, at.group * vd);
        gather(s.dO, p->back->dattn + out, at.ld_attn, b.count, at.group * vd);
        train_product(p, thread, (gemm){b.rows, b.keys, kd, row_major(s.Q, kd), transposed(K, ld),
                                        s.S, ld_s, 0});
        train_product(p, thread, (gemm){b.rows, b.keys, vd, row_major(s.dO, vd), transposed(V, ld),
                                        s.dS, ld_s, 0});
        backward_rows(p, &at, b, s, acts->lse + at.lse);
        train_product(p, thread, (gemm){b.keys, vd, b.rows, transposed(s.S, ld_s),
                                        row_major(s.dO, vd), dV, ld, 1});
        train_product(p, thread, (gemm){b.keys, kd, b.rows, transposed(s.dS, ld_s),
                                        row_major(s.Q, kd), dK, ld, 1});
        train_product(p, thread, (gemm){b.rows, kd, b.keys, row_major(s.dS, ld_s),
                                        row_major(K, ld), s.dQ, kd, 0});
        scatter(dQ + first * ld, ld, s.dQ, b.count, at.group * kd);
    }
}
