/* align.c: how the heads of a layer are rotated and grouped before they are pooled: generalised
 * Procrustes analysis (Gower 1975) of what the heads compute. V may rotate freely; K only inside
 * the planes that RoPE rotates, by one angle each. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/tensor.h"
#include "../session/session_internal.h"
#include "convert_internal.h"

/* ---- samples --------------------------------------------------------------------------------- */

static void take_sample(void *user, int layer, int position, int kv_head, const float *k,
                        const float *v) {
    gqa_kv_samples *s = user;
    size_t row = layer * s->n + position, bytes = s->head_dim * sizeof(float);
    size_t at = row * s->kv_dim + kv_head * s->head_dim;
    memcpy(s->k + at, k, bytes);
    memcpy(s->v + at, v, bytes);
}

int gqa_kv_samples_take(gqa_kv_samples *out, const gqa_model *model, const int32_t *tokens, int n,
                        gqa_error *err) {
    const gqa_config *c = gqa_model_config(model);
    n = min_int(n, c->context_length);
    *out = (gqa_kv_samples){.n_layers = c->n_layers, .n = n, .head_dim = c->head_dim};
    out->kv_dim = c->n_kv_heads * out->head_dim;
    size_t count = out->n_layers * max_size(out->n, 1) * out->kv_dim;
    gqa_session_options options = {.context = n};
    gqa_session *s = gqa_session_new(model, &options, err);
    int status = s ? 0 : GQA_ERR_MEMORY;
    out->k = calloc(count, sizeof *out->k);
    out->v = calloc(count, sizeof *out->v);
    if (!status && (!out->k || !out->v))
        status = gqa_fail(err, GQA_ERR_MEMORY, "no memory for the keys and values of %d tokens", n);
    if (!status) {
        gqa_session_watch_kv(s, take_sample, out);
        status = gqa_session_eval(s, tokens, n, err);
    }
    gqa_session_free(s);
    if (status) gqa_kv_samples_free(out);
    return status;
}

void gqa_kv_samples_free(gqa_kv_samples *s) {
    free(s->k);
    free(s->v);
    *s = (gqa_kv_samples){0};
}

/* The samples [n, kv_dim] of one projection of one layer. */
typedef struct projection {
    const gqa_config *config;
    const float *x;
    float *owned;       /* x, when it is to be freed */
    size_t n, kv_dim, head_dim;
    int is_key;
    double *work;       /* [4, head_dim, head_dim] */
} projection;

/* Without a text: the columns of the projection, as if the inputs were unit vectors. */
static int sample_weights(projection *p, const gqa_checkpoint *c, int layer) {
    char name[GQA_TENSOR_NAME + 1];
    snprintf(name, sizeof name, "blk.%d.attn_%c.weight", layer, p->is_key ? 'k' : 'v');
    const gqa_tensor *t = gqa_checkpoint_tensor(c, name);
    size_t rows = p->kv_dim, cols = t ? (size_t)t->dims[0] : 0;
    if (!t || t->dims[1] != rows) return -1;
    float *w = malloc(sizeof *w * rows * cols);
    p->owned = malloc(sizeof *p->owned * rows * cols);
    p->x = p->owned;
    p->n = cols;
    if (w && p->owned) {
        gqa_dequantize(t->type, t->data, w, rows * cols);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < cols; i++) p->owned[i * rows + r] = w[r * cols + i];
    }
    int ok = w && p->owned;
    free(w);
    return ok ? 0 : -1;
}

static const float *sample_of(const projection *p, size_t i, size_t head) {
    return p->x + i * p->kv_dim + head * p->head_dim;
}

/* ---- rotations ------------------------------------------------------------------------------- */

/* gram [n, n] = 3 I - R^T R. Returns the largest difference of R^T R from I. */
static double gram_of(const double *R, size_t n, double *gram) {
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++) sum += R[k * n + i] * R[k * n + j];
            gram[i * n + j] = (i == j ? 3 : 0) - sum;
            worst = fmax(worst, fabs(sum - (i == j)));
        }
    return worst;
}

/* Newton's iteration for the polar factor without inverses (Bjorck & Bowie 1971):
 *     X <- X (3 I - X^T X) / 2
 * A little of the identity is added, so that directions that C says nothing about stay as they
 * are. */
int nearest_rotation(const double *C, size_t n, double *R, double *work) {
    double norm = 0, *gram = work, *next = work + n * n;
    for (size_t i = 0; i < n * n; i++) norm += C[i] * C[i];
    norm = sqrt(norm);
    if (!(norm > 0) || !isfinite(norm)) return -1;
    for (size_t i = 0; i < n * n; i++) R[i] = C[i] / norm + (i % (n + 1) == 0 ? 1e-7 : 0);
    for (int round = 0; round < 120; round++) {
        if (gram_of(R, n, gram) < 1e-12) return 0;
        memset(next, 0, sizeof *next * n * n);
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n; k++)
                for (size_t j = 0; j < n; j++)
                    next[i * n + j] += 0.5 * R[i * n + k] * gram[k * n + j];
        memcpy(R, next, sizeof *R * n * n);
    }
    return -1;
}

/* The rotation of K that brings a source nearest to a target, from their cross-Gram C [hd, hd] =
 * sum target source^T; returns the agreement it reaches. Dimensions outside of RoPE stay as they
 * are. */
static double rotate_planes(const gqa_config *config, const double *C, double *R) {
    size_t hd = config->head_dim, rope_dim = config->rope_dim, half = rope_dim / 2;
    double agreement = 0;
    memset(R, 0, sizeof *R * hd * hd);
    for (size_t i = rope_dim; i < hd; i++) {
        R[i * hd + i] = 1;
        agreement += C[i * hd + i];
    }
    for (size_t i = 0; i < half; i++) { /* a, b: the plane of pair i */
        size_t a = config->rope_half ? i : 2 * i, b = config->rope_half ? i + half : 2 * i + 1;
        double along = C[a * hd + a] + C[b * hd + b], across = C[b * hd + a] - C[a * hd + b];
        double size = hypot(along, across);
        R[a * hd + a] = R[b * hd + b] = size > 0 ? along / size : 1;
        R[b * hd + a] = size > 0 ? across / size : 0;
        R[a * hd + b] = -R[b * hd + a];
        agreement += size;
    }
    return agreement;
}

/* C [hd, hd] = sum over samples of target [n, hd] times head^T. */
static void cross_gram(const projection *p, const double *target, size_t head, double *C) {
    size_t hd = p->head_dim;
    memset(C, 0, sizeof *C * hd * hd);
    for (size_t s = 0; s < p->n; s++) {
        const float *x = sample_of(p, s, head);
        for (size_t i = 0; i < hd; i++)
            for (size_t j = 0; j < hd; j++) C[i * hd + j] += target[s * hd + i] * (double)x[j];
    }
}

/* R that brings head nearest to target; returns how well they then agree. */
static double rotate_onto(const projection *p, const double *target, size_t head, double *R) {
    size_t hd = p->head_dim;
    double *C = p->work, agreement = 0;
    cross_gram(p, target, head, C);
    if (p->is_key) return rotate_planes(p->config, C, R);
    if (nearest_rotation(C, hd, R, p->work + hd * hd))
        for (size_t i = 0; i < hd * hd; i++) R[i] = i % (hd + 1) == 0;
    for (size_t i = 0; i < hd * hd; i++) agreement += R[i] * C[i];
    return agreement;
}

/* out [n, hd] += R times the head's samples; R NULL: as they are. */
static void add_rotated(const projection *p, const double *R, size_t head, double *out) {
    size_t hd = p->head_dim;
    for (size_t s = 0; s < p->n; s++, out += hd) {
        const float *x = sample_of(p, s, head);
        for (size_t i = 0; i < hd; i++) {
            double sum = 0;
            for (size_t j = 0; j < hd; j++) sum += (R ? R[i * hd + j] : i == j) * (double)x[j];
            out[i] += sum;
        }
    }
}

/* Rotates the members of a group onto their mean, three times over. The first target is the first
 * member. */
static void align_group(const projection *p, const int *members, int n, double *rotations,
                        double *mean) {
    size_t square = p->head_dim * p->head_dim, bytes = sizeof *mean * p->n * p->head_dim;
    memset(mean, 0, bytes);
    add_rotated(p, NULL, members[0], mean);
    for (int pass = 0; pass < 3; pass++) {
        for (int m = 0; m < n; m++)
            rotate_onto(p, mean, members[m], rotations + members[m] * square);
        memset(mean, 0, bytes);
        for (int m = 0; m < n; m++)
            add_rotated(p, rotations + members[m] * square, members[m], mean);
    }
}

/* ---- groups ---------------------------------------------------------------------------------- */

static double squared_norm(const projection *p, size_t head) {
    double sum = 0;
    for (size_t s = 0; s < p->n; s++) {
        const float *x = sample_of(p, s, head);
        for (size_t i = 0; i < p->head_dim; i++) sum += (double)x[i] * (double)x[i];
    }
    return sum;
}

/* Adds to similarity [heads, heads] how well each two heads agree once aligned, -1..1.
 * target: [n, hd], R: [hd, hd], both overwritten. */
static void compare_heads(const projection *p, double *similarity, double *target, double *R) {
    size_t heads = p->config->n_kv_heads;
    for (size_t a = 0; a < heads; a++) {
        memset(target, 0, sizeof *target * p->n * p->head_dim);
        add_rotated(p, NULL, a, target);
        for (size_t b = a + 1; b < heads; b++) {
            double size = sqrt(squared_norm(p, a) * squared_norm(p, b));
            double alike = size > 0 ? rotate_onto(p, target, b, R) / size : 0;
            similarity[a * heads + b] += alike;
            similarity[b * heads + a] += alike;
        }
    }
}

/* How similar a head is to the other members of the group of a position. */
static double fit(const double *similarity, int heads, const int *order, int members, int position,
                  int head) {
    double sum = 0;
    int first = position / members * members;
    for (int p = first; p < first + members; p++)
        if (p != position && order[p] != head) sum += similarity[head * heads + order[p]];
    return sum;
}

/* Swaps heads between groups for as long as that makes the groups more similar. */
static void group_heads(const double *similarity, int heads, int members, int *order) {
    for (int improved = 1, round = 0; improved && round < 100; round++) {
        improved = 0;
        for (int a = 0; a < heads; a++)
            for (int b = a + 1; b < heads; b++) {
                if (a / members == b / members) continue;
                int at_a = order[a], at_b = order[b];
                double now = fit(similarity, heads, order, members, a, at_a) +
                             fit(similarity, heads, order, members, b, at_b);
                double swapped = fit(similarity, heads, order, members, a, at_b) +
                                 fit(similarity, heads, order, members, b, at_a);
                if (swapped <= now + 1e-9) continue;
                order[a] = at_b;
                order[b] = at_a;
                improved = 1;
            }
    }
}

/* ---- plans ----------------------------------------------------------------------------------- */

/* K and V of a layer: the samples, or the weights. */
static int find_projections(projection kv[2], const gqa_checkpoint *c, const gqa_kv_samples *s,
                            int layer) {
    for (int i = 0; i < 2; i++) {
        projection *p = &kv[i];
        *p = (projection){.config = &c->config, .is_key = i == 0};
        p->head_dim = c->config.head_dim;
        p->kv_dim = c->config.n_kv_heads * p->head_dim;
        if (s) {
            p->n = s->n;
            p->x = (i ? s->v : s->k) + layer * s->n * s->kv_dim;
        }
    }
    return !s && (sample_weights(&kv[0], c, layer) || sample_weights(&kv[1], c, layer)) ? -1 : 0;
}

static int plan_layer(head_plan *plan, projection kv[2], int kv_heads) {
    const gqa_config *c = kv[0].config;
    size_t heads = c->n_kv_heads, square = kv[0].head_dim * kv[0].head_dim;
    int members = c->n_kv_heads / kv_heads;
    double *target = malloc(sizeof *target * max_size(kv[0].n, kv[1].n) * kv[0].head_dim);
    double *work = malloc(sizeof *work * 5 * square);
    double *similarity = calloc(heads * heads, sizeof *similarity);
    plan->order = malloc(sizeof *plan->order * heads);
    plan->rk = malloc(sizeof *plan->rk * heads * square);
    plan->rv = malloc(sizeof *plan->rv * heads * square);
    int ok = target && work && similarity && plan->order && plan->rk && plan->rv;
    if (ok) {
        for (size_t h = 0; h < heads; h++) plan->order[h] = (int)h;
        for (int i = 0; i < 2; i++) {
            kv[i].work = work;
            compare_heads(&kv[i], similarity, target, work + 4 * square);
        }
        group_heads(similarity, c->n_kv_heads, members, plan->order);
        for (int g = 0; g < kv_heads; g++)
            for (int i = 0; i < 2; i++)
                align_group(&kv[i], plan->order + g * members, members, i ? plan->rv : plan->rk,
                            target);
    }
    free(target);
    free(work);
    free(similarity);
    return ok ? 0 : -1;
}

static int check_samples(const gqa_checkpoint *c, const gqa_kv_samples *s, gqa_error *err) {
    size_t n_layers = c->config.n_layers, heads = c->config.n_kv_heads;
    if (c->config.qk_norm)
        return gqa_fail_path(c->path, err, GQA_ERR_UNSUPPORTED,
                             "heads with QK norms cannot be rotated, so not aligned; pool by mean, "
                             "renorm, first or random");
    if (s && (s->n_layers != n_layers || s->kv_dim != heads * c->config.head_dim || s->n < 1))
        return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT, "the samples are of another model");
    return 0;
}

int plan_heads(head_plan **out, const gqa_checkpoint *c, const gqa_convert_options *o,
               gqa_error *err) {
    const int n_layers = c->config.n_layers, heads = c->config.n_kv_heads;
    *out = NULL;
    if (o->pool != GQA_POOL_ALIGNED || !o->kv_heads || o->kv_heads >= heads) return 0;
    int status = check_samples(c, o->samples, err);
    if (status) return status;
    head_plan *plans = calloc(n_layers, sizeof *plans);
    int failed = !plans, cancelled = 0;
    for (int l = 0; l < n_layers && !failed && !cancelled; l++) {
        projection kv[2] = {0};
        failed = find_projections(kv, c, o->samples, l) || plan_layer(&plans[l], kv, o->kv_heads);
        free(kv[0].owned);
        free(kv[1].owned);
        cancelled = o->on_progress && o->on_progress(o->user, 0.5 * l / n_layers);
    }
    if (!failed && !cancelled) {
        *out = plans;
        return 0;
    }
    plan_free(plans, n_layers);
    if (cancelled) return gqa_fail_path(c->path, err, GQA_ERR_CANCELLED, "cancelled");
    return gqa_fail_path(c->path, err, GQA_ERR_MEMORY, "no memory to align %d heads", heads);
}

void plan_free(head_plan *plans, int n_layers) {
    for (int l = 0; plans && l < n_layers; l++) {
        free(plans[l].order);
        free(plans[l].rk);
        free(plans[l].rv);
    }
    free(plans);
}
