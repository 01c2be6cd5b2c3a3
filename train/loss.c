/* loss.c: softmax and cross-entropy over the vocabulary, LOSS_TOKENS tokens at a time, so that the logits of a whole
 * batch never exist. With a teacher the loss of a token is
 *     (1 - distill) * -log p[target] + distill * sum_i q[i] log(q[i] / p[i])         p: student, q: teacher
 * (Hinton et al. 2015, temperature 1), whose gradient in the logits is p - (1 - distill) onehot(target) - distill q. */
#include <math.h>
#include <string.h>

#include "train_internal.h"

static int target_of(const pass *p, int token) {
    int length = p->net->length;
    return p->input[(size_t)(token / length) * ((size_t)length + 1) + (size_t)(token % length) + 1];
}

/* KL(q || p) from logits z of the student with their log-sum-exp, q in place of the teacher's logits. */
static double divergence(const gqa_kernels *k, float *q, const float *z, float lse, int vocab) {
    double sum = 0;
    k->softmax(q, vocab, 1.0f);
    for (int i = 0; i < vocab; i++)
        if (q[i] > 0) sum += (double)q[i] * (log((double)q[i]) - ((double)z[i] - (double)lse));
    return sum;
}

/* Turns the logits z of a token into their gradient and returns the loss. */
static double token_loss(const pass *p, float *z, float *q, int target) {
    int vocab = p->net->config.vocab_size;
    double at_target = (double)z[target], text = 1;
    double kl = 0;
    if (q) { /* the student's log-sum-exp is needed before its logits are overwritten */
        float max = z[0];
        double sum = 0;
        for (int i = 1; i < vocab; i++) if (z[i] > max) max = z[i];
        for (int i = 0; i < vocab; i++) sum += exp((double)z[i] - (double)max);
        kl = divergence(p->k, q, z, (float)((double)max + log(sum)), vocab);
        text = 1 - (double)p->distill;
    }
    double loss = text * ((double)p->k->softmax(z, vocab, 1.0f) - at_target) + (double)p->distill * kl;
    if (p->grad_scale == 0) return loss;
    if (q) for (int i = 0; i < vocab; i++) z[i] = (z[i] - p->distill * q[i]) * p->grad_scale;
    else for (int i = 0; i < vocab; i++) z[i] *= p->grad_scale;
    z[target] -= (float)text * p->grad_scale;
    return loss;
}

static void loss_rows(gqa_worker *w, const pass *p, int t0, int count) {
    size_t vocab = (size_t)p->net->config.vocab_size;
    for_units(u, w, (count + ROW_TOKENS - 1) / ROW_TOKENS)
        for (int i = u * ROW_TOKENS; i < count && i < (u + 1) * ROW_TOKENS; i++) {
            float *z = p->b->logits + (size_t)i * vocab;
            if (p->all_logits) memcpy(p->all_logits + (size_t)(t0 + i) * vocab, z, vocab * sizeof *z);
            float *q = p->teacher ? p->b->teacher + (size_t)i * vocab : NULL;
            p->loss[t0 + i] = token_loss(p, z, q, target_of(p, t0 + i));
        }
}

static gemm logits_of(const net *n, float *out, int t0, int count) {
    size_t dim = (size_t)n->config.dim, vocab = (size_t)n->config.vocab_size;
    return (gemm){count, n->config.vocab_size, n->config.dim, n->final + (size_t)t0 * dim, dim, 1,
                  n->params + n->classifier, 1, dim, out, vocab, 0};
}

/* Losses of all tokens; with gradients also b->dnormed, the gradient of n->final, and that of the classifier. */
void train_pass_loss(gqa_worker *w, const pass *p) {
    const net *n = p->net;
    size_t dim = (size_t)n->config.dim, vocab = (size_t)n->config.vocab_size;
    for (int t0 = 0; t0 < p->tokens; t0 += LOSS_TOKENS) {
        int count = p->tokens - t0 < LOSS_TOKENS ? p->tokens - t0 : LOSS_TOKENS;
        gemm forward[2] = {logits_of(n, p->b->logits, t0, count)};
        if (p->teacher) forward[1] = logits_of(p->teacher, p->b->teacher, t0, count);
        train_products(w, p, forward, p->teacher ? 2 : 1);
        loss_rows(w, p, t0, count);
        if (p->grad_scale == 0) continue;
        const gemm grads[2] = {
            {count, n->config.dim, (int)vocab, p->b->logits, vocab, 1, n->params + n->classifier, dim, 1,
             p->b->dnormed + (size_t)t0 * dim, dim, 0},
            {(int)vocab, n->config.dim, count, p->b->logits, 1, vocab, n->final + (size_t)t0 * dim, dim, 1,
             n->grads + n->classifier, dim, 1}};
        train_products(w, p, grads, 2);
    }
}
