/* loss.c: softmax and cross-entropy over the vocabulary, LOSS_TOKENS tokens at a time, so that the
 * logits of a whole batch never exist. With teachers the loss of a token is
 *     (1 - distill) * -log p[target] + distill * sum_i q[i] log(q[i] / p[i])
 * with p the student's and q the teachers' probabilities (Hinton et al. 2015, temperature 1; of
 * several teachers the geometric mean, scaled to a sum of 1), whose gradient in the logits is
 * p - (1 - distill) onehot(target) - distill q. */
#include <math.h>
#include <string.h>

#include "train_internal.h"

/* KL(q || p), less the log-sum-exp of z, the student's logits. q holds the sum of the teachers'
 * logits, then probabilities. */
static double divergence(const pass *p, float *q, const float *z) {
    size_t vocab = p->net->vocab_size;
    double sum = 0;
    p->k->softmax(q, vocab, 1.0f / (float)p->n_teachers);
    for (size_t i = 0; i < vocab; i++)
        if (q[i] > 0) sum += (double)(q[i] * (logf(q[i]) - z[i]));
    return sum;
}

/* Turns the logits z of a token into their gradient and returns the loss. q: of the teachers, NULL:
 * there are none. */
static double token_loss(const pass *p, float *z, float *q, int target) {
    size_t vocab = p->net->vocab_size;
    double above = q ? divergence(p, q, z) : 0, share = q ? 1 - (double)p->distill : 1;
    double at_target = (double)z[target], lse = (double)p->k->softmax(z, vocab, 1.0f);
    double loss = lse - share * at_target + (double)p->distill * above;
    if (p->grad_scale == 0) return loss;
    for (size_t i = 0; q && i < vocab; i++) z[i] -= p->distill * q[i];
    for (size_t i = 0; i < vocab; i++) z[i] *= p->grad_scale;
    z[target] -= (float)share * p->grad_scale;
    return loss;
}

/* Losses of count tokens from `first` on, whose logits are in back->logits. */
static void loss_rows(gqa_worker *me, const pass *p, size_t first, int count) {
    size_t vocab = p->net->vocab_size;
    for_units(u, me, ceil_div(count, ROW_TOKENS)) {
        token_range r = unit_tokens(u, ROW_TOKENS, count);
        for (size_t i = r.first; i < r.end; i++) {
            size_t token = first + i;
            float *z = p->back->logits + i * vocab;
            float *q = p->n_teachers > 0 ? p->back->teachers + i * vocab : NULL;
            if (p->all_logits) memcpy(p->all_logits + token * vocab, z, vocab * sizeof *z);
            p->loss[token] = token_loss(p, z, q, pass_token(p, token)[1]);
        }
    }
}

/* logits = or, with add, += final W^T, of count tokens from `first` on. */
static void classify(gqa_worker *me, const pass *p, const network *net, float *logits, size_t first,
                     int count, int add) {
    size_t dim = net->dim, vocab = net->vocab_size;
    const gemm product = {count, vocab, dim, row_major(net->final + first * dim, dim),
                          transposed(net->params + net->classifier, dim), logits, vocab, add};
    train_products(me, p, &product, 1);
}

/* From back->logits, the gradient of the logits: those of net->final and of the classifier. */
static void classify_backward(gqa_worker *me, const pass *p, size_t first, int count) {
    const network *net = p->net;
    size_t dim = net->dim, vocab = net->vocab_size;
    const float *dlogits = p->back->logits, *W = net->params + net->classifier;
    const float *final = net->final + first * dim;
    float *dfinal = p->back->dnormed + first * dim, *dW = net->grads + net->classifier;
    const gemm products[2] = {
        {count, dim, vocab, row_major(dlogits, vocab), row_major(W, dim), dfinal, dim, 0},
        {vocab, dim, count, transposed(dlogits, vocab), row_major(final, dim), dW, dim, 1},
    };
    train_products(me, p, products, 2);
}

/* Losses of all tokens; with gradients also back->dnormed, the gradient of net->final, and that of
 * the classifier. */
void train_pass_loss(gqa_worker *me, const pass *p) {
    for (int first = 0; first < p->tokens && !pass_stopped(p); first += LOSS_TOKENS) {
        int count = min_int(p->tokens - first, LOSS_TOKENS);
        classify(me, p, p->net, p->back->logits, first, count, 0);
        for (int i = 0; i < p->n_teachers; i++)
            classify(me, p, &p->teachers[i], p->back->teachers, first, count, i > 0);
        loss_rows(me, p, first, count);
        if (p->grad_scale != 0) classify_backward(me, p, first, count);
    }
}
