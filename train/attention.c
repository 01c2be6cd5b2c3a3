/* attention.c: grouped-query attention of whole sequences as matrix products, forward and backward.
 *
 * In a row of qkv the g query heads that share a KV head lie side by side, so a block of positions,
 * seen as [positions * g, head_dim], is one matrix: a product of it with K or V serves the whole
 * group, and the sums over the group in dK and dV are simply part of a product's inner length. K
 * and V are never repeated.
 *
 *     S = scale Q K^T    P = softmax(S), causal    O = P V             Q: [positions * g, head_dim]
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

static size_t group_of(const network *net) {
    return net->config.n_heads / net->config.n_kv_heads;
}

static size_t block_span(const network *net) {
    return min_size(max_size(ATTENTION_ROWS / group_of(net), 1), ATTENTION_SPAN);
}

static attention_unit find_unit(const network *net, int unit) {
    size_t kv_head = unit % net->config.n_kv_heads, hd = net->head_dim, group = group_of(net);
    size_t first = unit / net->config.n_kv_heads * net->length; /* token of position 0 */
    attention_unit at = {.group = group, .span = block_span(net)};
    at.ld = net->qkv_dim;
    at.q = first * at.ld + kv_head * group * hd;
    at.k = first * at.ld + net->q_dim + kv_head * hd;
    at.v = at.k + net->kv_dim;
    at.ld_attn = net->q_dim;
    at.attn = first * at.ld_attn + kv_head * group * hd;
    at.ld_lse = net->config.n_heads;
    at.lse = first * at.ld_lse + kv_head * group;
    at.ld_scores = round_up(net->length, 16);
    at.scale = 1.0f / sqrtf((float)hd);
    return at;
}

/* A thread's scratch, behind that of sgemm: scores and rows of one block. */
typedef struct attention_scratch {
    float *S, *dS;            /* [block rows, ld_scores] scores, then probabilities */
    float *Q, *O, *dO, *dQ;   /* [block rows, head_dim] */
} attention_scratch;

uint64_t train_attention_scratch(const network *net) {
    uint64_t rows = block_span(net) * group_of(net);
    uint64_t floats = 2 * rows * round_up(net->length, 16) + 4 * rows * net->head_dim;
    return gqa_sgemm_scratch() + floats * sizeof(float);
}

static attention_scratch find_scratch(const pass *p, const network *net, int thread) {
    size_t rows = block_span(net) * group_of(net);
    size_t scores = rows * round_up(net->length, 16), values = rows * net->head_dim;
    attention_scratch s = {.S = (float *)((char *)p->scratch[thread] + gqa_sgemm_scratch())};
    s.dS = s.S + scores;
    s.Q = s.dS + scores;
    s.O = s.Q + values;
    s.dO = s.O + values;
    s.dQ = s.dO + values;
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
    size_t hd = net->head_dim, width = at.group * hd, ld = at.ld, ld_s = at.ld_scores;
    for (size_t first = 0; first < net->length && !pass_stopped(p); first += at.span) {
        const position_block b = find_block(net, &at, first);
        gather(s.Q, acts->qkv + at.q + first * ld, ld, b.count, width);
        train_product(p, thread, (gemm){b.rows, b.keys, hd, row_major(s.Q, hd), transposed(K, ld),
                                        s.S, ld_s, 0});
        forward_rows(p, &at, b, s.S, acts->lse + at.lse);
        train_product(p, thread, (gemm){b.rows, hd, b.keys, row_major(s.S, ld_s),
                                        row_major(V, ld), s.O, hd, 0});
        scatter(acts->attn + at.attn + first * at.ld_attn, at.ld_attn, s.O, b.count, width);
    }
}

/* P from the scores in S, and dS from dP in dS. */
static void backward_rows(const pass *p, const attention_unit *at, position_block b,
                          attention_scratch s, const float *lse) {
    size_t hd = p->net->head_dim;
    for (size_t r = 0; r < b.rows; r++) {
        float *P = s.S + r * at->ld_scores, *dS = s.dS + r * at->ld_scores;
        size_t position = b.first + r / at->group, seen = position + 1;
        float delta = p->k->dot(s.O + r * hd, s.dO + r * hd, hd);
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
    size_t hd = net->head_dim, width = at.group * hd, ld = at.ld, ld_s = at.ld_scores;
    for (size_t t = 0; t < net->length; t++) {
        memset(dK + t * ld, 0, hd * sizeof *dK);
        memset(dV + t * ld, 0, hd * sizeof *dV);
    }
    for (size_t first = 0; first < net->length && !pass_stopped(p); first += at.span) {
        const position_block b = find_block(net, &at, first);
        const size_t out = at.attn + first * at.ld_attn;
        gather(s.Q, acts->qkv + at.q + first * ld, ld, b.count, width);
        gather(s.O, acts->attn + out, at.ld_attn, b.count, width);
        gather(s.dO, p->back->dattn + out, at.ld_attn, b.count, width);
        train_product(p, thread, (gemm){b.rows, b.keys, hd, row_major(s.Q, hd), transposed(K, ld),
                                        s.S, ld_s, 0});
        train_product(p, thread, (gemm){b.rows, b.keys, hd, row_major(s.dO, hd), transposed(V, ld),
                                        s.dS, ld_s, 0});
        backward_rows(p, &at, b, s, acts->lse + at.lse);
        train_product(p, thread, (gemm){b.keys, hd, b.rows, transposed(s.S, ld_s),
                                        row_major(s.dO, hd), dV, ld, 1});
        train_product(p, thread, (gemm){b.keys, hd, b.rows, transposed(s.dS, ld_s),
                                        row_major(s.Q, hd), dK, ld, 1});
        train_product(p, thread, (gemm){b.rows, hd, b.keys, row_major(s.dS, ld_s),
                                        row_major(K, ld), s.dQ, hd, 0});
        scatter(dQ + first * ld, ld, s.dQ, b.count, width);
    }
}
