/* optim.c: the learning rate and AdamW (Loshchilov & Hutter 2019) with the gradient clipped by its
 * norm (Pascanu et al. 2013). */
#include <math.h>

#include "train_internal.h"

/* Linear warm-up, then a cosine to rate * rate_end. */
double train_rate(const gqa_train_options *o, int step) {
    if (step < o->warmup) return (double)o->rate * (step + 1) / o->warmup;
    double span = max_int(o->steps - o->warmup, 1);
    double done = fmin((step - o->warmup) / span, 1);
    double end = (double)o->rate * (double)o->rate_end;
    return end + 0.5 * ((double)o->rate - end) * (1 + cos(3.14159265358979323846 * done));
}

int train_sum_units(const network *net) {
    return (int)(round_up(net->n_params, SUM_VALUES) / SUM_VALUES);
}

/* Sums of squares of SUM_VALUES gradients each, which every thread then adds up in order. */
static void sum_squares(gqa_worker *me, gqa_trainer *t) {
    const float *grads = t->net.grads;
    for_units(u, me, train_sum_units(&t->net)) {
        size_t from = (size_t)u * SUM_VALUES, end = min_size(from + SUM_VALUES, t->net.n_params);
        double sum = 0;
        for (; from < end; from += 256)
            sum += (double)t->k->dot(grads + from, grads + from, (int)min_size(end - from, 256));
        t->sums[u] = sum;
    }
}

double train_grad_norm(gqa_worker *me, gqa_trainer *t) {
    double sum = 0;
    sum_squares(me, t);
    for (int u = 0; u < train_sum_units(&t->net); u++) sum += t->sums[u];
    return sqrt(sum);
}

void train_update(gqa_worker *me, gqa_trainer *t, double grad_norm) {
    const gqa_train_options *o = &t->opt;
    network *net = &t->net;
    double step = t->step + 1, clip = (double)o->clip;
    gqa_adamw a = {.rate = (float)train_rate(o, t->step), .beta1 = o->beta1, .beta2 = o->beta2};
    a.eps = 1e-8f;
    a.grad_scale = grad_norm > clip ? (float)(clip / grad_norm) : 1.0f;
    a.correct1 = (float)(1 / (1 - pow((double)o->beta1, step)));
    a.correct2 = (float)(1 / (1 - pow((double)o->beta2, step)));
    for_units(u, me, net->n_weights) {
        const weight *w = &net->weights[u];
        size_t at = w->offset;
        a.decay = w->rows > 1 && o->decay > 0 ? o->decay : 0; /* of matrices only */
        if (train_is_muon(t, w)) {
            train_muon(t, w, &a, t->scratch[me->id]);
            continue;
        }
        t->k->adamw(net->params + at, t->m + at, t->v + at, net->grads + at, w->count, &a);
    }
}
