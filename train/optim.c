/* optim.c: the learning rate and AdamW (Loshchilov & Hutter 2019) with the gradient clipped by its norm (Pascanu et al.
 * 2013). */
#include <math.h>

#include "train_internal.h"

double train_rate(const gqa_train_options *o, int step) {
    if (step < o->warmup) return (double)o->rate * (step + 1) / o->warmup;
    double span = o->steps > o->warmup ? (double)(o->steps - o->warmup) : 1;
    double done = (step - o->warmup) / span;
    if (done > 1) done = 1;
    double end = (double)o->rate * (double)o->rate_end;
    return end + 0.5 * ((double)o->rate - end) * (1 + cos(3.14159265358979323846 * done));
}

size_t train_sum_units(const net *n) { return (n->n_params + SUM_VALUES - 1) / SUM_VALUES; }

/* Sums of squares of SUM_VALUES gradients each, which every thread then adds up in order. */
static void sum_squares(gqa_worker *w, gqa_trainer *t) {
    size_t n = t->net.n_params;
    for_units(u, w, (int)train_sum_units(&t->net)) {
        size_t from = (size_t)u * SUM_VALUES, to = from + SUM_VALUES < n ? from + SUM_VALUES : n;
        double sum = 0;
        for (; from + 256 <= to; from += 256)
            sum += (double)t->k->dot(t->net.grads + from, t->net.grads + from, 256);
        if (from < to) sum += (double)t->k->dot(t->net.grads + from, t->net.grads + from, (int)(to - from));
        t->sums[u] = sum;
    }
}

double train_grad_norm(gqa_worker *w, gqa_trainer *t) {
    sum_squares(w, t);
    double sum = 0;
    for (size_t u = 0; u < train_sum_units(&t->net); u++) sum += t->sums[u];
    return sqrt(sum);
}

void train_update(gqa_worker *w, gqa_trainer *t, double grad_norm) {
    const gqa_train_options *o = &t->opt;
    net *n = &t->net;
    double step = t->step + 1;
    gqa_adamw a = {.rate = (float)train_rate(o, t->step), .beta1 = o->beta1, .beta2 = o->beta2, .eps = 1e-8f};
    a.grad_scale = grad_norm > (double)o->clip ? (float)((double)o->clip / grad_norm) : 1.0f;
    a.correct1 = (float)(1 / (1 - pow((double)o->beta1, step)));
    a.correct2 = (float)(1 / (1 - pow((double)o->beta2, step)));
    for_units(u, w, n->n_weights) {
        const weight *x = &n->weights[u];
        a.decay = x->rows > 1 && o->decay > 0 ? o->decay : 0;
        t->k->adamw(n->params + x->offset, t->m + x->offset, t->v + x->offset, n->grads + x->offset,
                    (size_t)x->rows * (size_t)x->cols, &a);
    }
}
