/* align.c: how the heads of a layer are turned and grouped before they are pooled: generalised Procrustes analysis (Gower
 * 1975) of what the heads compute. V may turn freely; K only inside the planes that RoPE rotates, by one angle each. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/tensor.h"
#include "../session/session_internal.h"
#include "convert_internal.h"

/* ---- samples ----------------------------------------------------------------------------------------------------- */

static void take(void *user, int layer, int position, int kv_head, const float *k, const float *v) {
    gqa_kv_samples *s = user;
    size_t d = (size_t)s->head_dim, at = ((size_t)layer * (size_t)s->n + (size_t)position) * (size_t)s->kv_dim + (size_t)kv_head * d;
    if (position >= s->n) return;
    memcpy(s->k + at, k, sizeof *k * d);
    memcpy(s->v + at, v, sizeof *v * d);
}

int gqa_kv_samples_take(gqa_kv_samples *out, const gqa_model *model, const int32_t *tokens, int n, gqa_error *err) {
    const gqa_config *c = gqa_model_config(model);
    if (n > c->context_length) n = c->context_length;
    *out = (gqa_kv_samples){.n_layers = c->n_layers, .n = n, .head_dim = c->head_dim, .kv_dim = c->n_kv_heads * c->head_dim};
    size_t count = (size_t)out->n_layers * (size_t)(n > 0 ? n : 1) * (size_t)out->kv_dim;
    gqa_session_options so = {.context = n};
    gqa_session *s = gqa_session_new(model, &so, err);
    int status = s ? 0 : GQA_ERR_MEMORY;
    out->k = calloc(count, sizeof *out->k);
    out->v = calloc(count, sizeof *out->v);
    if (!status && (!out->k || !out->v)) status = gqa_fail(err, GQA_ERR_MEMORY, "no memory for the keys and values of %d tokens", n);
    if (!status) {
        gqa_session_watch_kv(s, take, out);
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

/* Samples [n, kv_dim] of a projection without a text: its columns, as if the inputs were unit vectors. */
static float *weight_columns(const gqa_checkpoint *c, int layer, const char *suffix, int kv_dim, int *n) {
    char name[GQA_TENSOR_NAME + 1];
    snprintf(name, sizeof name, "blk.%d.%s.weight", layer, suffix);
    const gqa_tensor *t = gqa_checkpoint_tensor(c, name);
    size_t cols = t ? (size_t)t->dims[0] : 0, rows = (size_t)kv_dim;
    if (!t || t->dims[1] != rows) return NULL;
    float *w = malloc(sizeof *w * rows * cols), *out = malloc(sizeof *out * rows * cols);
    if (w && out) {
        gqa_dequantize(t->type, t->data, w, rows * cols);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < cols; i++) out[i * rows + r] = w[r * cols + i];
        *n = (int)cols;
    } else {
        free(out);
        out = NULL;
    }
    free(w);
    return out;
}

/* ---- rotations --------------------------------------------------------------------------------------------------- */

/* Newton's iteration for the polar factor without inverses (Bjorck & Bowie 1971): X <- X (3 I - X^T X) / 2. A little of the
 * identity is added, so that directions that C says nothing about stay as they are. */
int nearest_rotation(const double *C, int n, double *R, double *work) {
    double norm = 0, *gram = work, *next = work + n * n;
    for (int i = 0; i < n * n; i++) norm += C[i] * C[i];
    norm = sqrt(norm);
    if (!(norm > 0) || !isfinite(norm)) return -1;
    for (int i = 0; i < n * n; i++) R[i] = C[i] / norm + (i % (n + 1) == 0 ? 1e-7 : 0);
    for (int round = 0; round < 120; round++) {
        double worst = 0;
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int k = 0; k < n; k++) sum += R[k * n + i] * R[k * n + j];
                gram[i * n + j] = (i == j ? 3 : 0) - sum;
                double off = fabs(sum - (i == j));
                if (off > worst) worst = off;
            }
        if (worst < 1e-12) return 0;
        memset(next, 0, sizeof *next * (size_t)(n * n));
        for (int i = 0; i < n; i++)
            for (int k = 0; k < n; k++)
                for (int j = 0; j < n; j++) next[i * n + j] += 0.5 * R[i * n + k] * gram[k * n + j];
        memcpy(R, next, sizeof *R * (size_t)(n * n));
    }
    return -1;
}

/* The members of pair i of RoPE. */
static void plane(const gqa_config *c, int i, int *a, int *b) {
    *a = c->rope_half ? i : 2 * i;
    *b = c->rope_half ? i + c->rope_dim / 2 : 2 * i + 1;
}

/* The rotation of K that brings a source nearest to a target, from their cross-Gram C [hd, hd] = sum target source^T; and
 * the agreement it reaches. Dimensions that RoPE leaves alone are left alone. */
static double rotate_planes(const gqa_config *c, const double *C, double *R) {
    int hd = c->head_dim;
    double agreement = 0;
    memset(R, 0, sizeof *R * (size_t)(hd * hd));
    for (int i = c->rope_dim; i < hd; i++) R[i * hd + i] = 1, agreement += C[i * hd + i];
    for (int i = 0; i < c->rope_dim / 2; i++) {
        int a, b;
        plane(c, i, &a, &b);
        double along = C[a * hd + a] + C[b * hd + b], across = C[b * hd + a] - C[a * hd + b], size = hypot(along, across);
        double cosine = size > 0 ? along / size : 1, sine = size > 0 ? across / size : 0;
        R[a * hd + a] = R[b * hd + b] = cosine;
        R[a * hd + b] = -sine;
        R[b * hd + a] = sine;
        agreement += size;
    }
    return agreement;
}

/* The samples of one projection of one layer. */
typedef struct field {
    const gqa_config *c;
    const float *x;     /* [n, kv_dim] */
    int n, kv_dim, is_key;
    double *room;       /* [4 hd hd] */
} field;

/* C [hd, hd] = sum over samples of target [n, hd] times head^T. */
static void cross_gram(const field *f, const double *target, int head, double *C) {
    int hd = f->c->head_dim;
    memset(C, 0, sizeof *C * (size_t)(hd * hd));
    for (int s = 0; s < f->n; s++) {
        const float *x = f->x + (size_t)s * (size_t)f->kv_dim + (size_t)(head * hd);
        for (int i = 0; i < hd; i++)
            for (int j = 0; j < hd; j++) C[i * hd + j] += target[(size_t)s * (size_t)hd + (size_t)i] * (double)x[j];
    }
}

/* R that brings head nearest to target; returns how well they then agree. */
static double turn_to(const field *f, const double *target, int head, double *R) {
    int hd = f->c->head_dim;
    double *C = f->room, agreement = 0;
    cross_gram(f, target, head, C);
    if (f->is_key) return rotate_planes(f->c, C, R);
    if (nearest_rotation(C, hd, R, f->room + hd * hd))
        for (int i = 0; i < hd * hd; i++) R[i] = i % (hd + 1) == 0;
    for (int i = 0; i < hd * hd; i++) agreement += R[i] * C[i];
    return agreement;
}

/* out [n, hd] += R head's samples; R NULL: as they are. */
static void add_turned(const field *f, const double *R, int head, double *out) {
    int hd = f->c->head_dim;
    for (int s = 0; s < f->n; s++) {
        const float *x = f->x + (size_t)s * (size_t)f->kv_dim + (size_t)(head * hd);
        double *y = out + (size_t)s * (size_t)hd;
        for (int i = 0; i < hd; i++) {
            double sum = 0;
            for (int j = 0; j < hd; j++) sum += (R ? R[i * hd + j] : i == j) * (double)x[j];
            y[i] += sum;
        }
    }
}

/* Turns the members of a group onto their mean, three times over. The first member sets out as the target. */
static void align_group(const field *f, const int *members, int n, double *rotations, double *mean) {
    size_t hd = (size_t)f->c->head_dim, size = (size_t)f->n * hd;
    memset(mean, 0, sizeof *mean * size);
    add_turned(f, NULL, members[0], mean);
    for (int pass = 0; pass < 3; pass++) {
        for (int m = 0; m < n; m++) turn_to(f, mean, members[m], rotations + (size_t)members[m] * hd * hd);
        memset(mean, 0, sizeof *mean * size);
        for (int m = 0; m < n; m++) add_turned(f, rotations + (size_t)members[m] * hd * hd, members[m], mean);
    }
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

/* Adds to likeness [H, H] how well each two heads agree once aligned, -1..1. 0, or -1 without memory. */
static int compare_heads(const field *f, double *likeness, double *target, double *R) {
    int H = f->c->n_kv_heads, hd = f->c->head_dim;
    double *norms = calloc((size_t)H, sizeof *norms);
    if (!norms) return -1;
    for (int h = 0; h < H; h++)
        for (int s = 0; s < f->n; s++)
            for (int i = 0; i < hd; i++) {
                double x = (double)f->x[(size_t)s * (size_t)f->kv_dim + (size_t)(h * hd + i)];
                norms[h] += x * x;
            }
    for (int a = 0; a < H; a++) {
        memset(target, 0, sizeof *target * (size_t)f->n * (size_t)hd);
        add_turned(f, NULL, a, target);
        for (int b = a + 1; b < H; b++) {
            double size = sqrt(norms[a] * norms[b]), alike = size > 0 ? turn_to(f, target, b, R) / size : 0;
            likeness[a * H + b] += alike;
            likeness[b * H + a] += alike;
        }
    }
    free(norms);
    return 0;
}

static double belonging(const double *likeness, int H, const int *order, int members, int place, int head) {
    double sum = 0;
    int first = place / members * members;
    for (int p = first; p < first + members; p++)
        if (p != place && order[p] != head) sum += likeness[head * H + order[p]];
    return sum;
}

/* Swaps heads between groups for as long as that makes the groups more alike. */
static void group_heads(const double *likeness, int H, int members, int *order) {
    for (int improved = 1, round = 0; improved && round < 100; round++) {
        improved = 0;
        for (int a = 0; a < H; a++)
            for (int b = a + 1; b < H; b++) {
                if (a / members == b / members) continue;
                double now = belonging(likeness, H, order, members, a, order[a]) + belonging(likeness, H, order, members, b, order[b]);
                double then = belonging(likeness, H, order, members, a, order[b]) + belonging(likeness, H, order, members, b, order[a]);
                if (then <= now + 1e-9) continue;
                int moved = order[a];
                order[a] = order[b];
                order[b] = moved;
                improved = 1;
            }
    }
}

static int plan_layer(head_plan *plan, const gqa_config *c, int kv_heads, const float *k, const float *v, int n_k, int n_v) {
    size_t hd = (size_t)c->head_dim, H = (size_t)c->n_kv_heads, n = (size_t)(n_k > n_v ? n_k : n_v);
    int members = c->n_kv_heads / kv_heads, ok;
    double *target = malloc(sizeof *target * n * hd), *room = malloc(sizeof *room * 5 * hd * hd), *likeness = calloc(H * H, sizeof *likeness);
    plan->order = malloc(sizeof *plan->order * H);
    plan->rk = malloc(sizeof *plan->rk * H * hd * hd);
    plan->rv = malloc(sizeof *plan->rv * H * hd * hd);
    ok = target && room && likeness && plan->order && plan->rk && plan->rv;
    field fields[2] = {{c, k, n_k, (int)(H * hd), 1, room}, {c, v, n_v, (int)(H * hd), 0, room}};
    if (ok) {
        for (int h = 0; h < c->n_kv_heads; h++) plan->order[h] = h;
        for (int i = 0; i < 2 && ok; i++) ok = compare_heads(&fields[i], likeness, target, room + 4 * hd * hd) == 0;
    }
    if (ok) {
        group_heads(likeness, c->n_kv_heads, members, plan->order);
        for (int g = 0; g < kv_heads; g++)
            for (int i = 0; i < 2; i++) align_group(&fields[i], plan->order + g * members, members, i ? plan->rv : plan->rk, target);
    }
    free(target), free(room), free(likeness);
    return ok ? 0 : -1;
}

int plan_heads(head_plan **out, const gqa_checkpoint *c, const gqa_convert_options *o, gqa_error *err) {
    const gqa_config *g = &c->config;
    int kv_dim = g->n_kv_heads * g->head_dim, status = 0;
    *out = NULL;
    if (o->pool != GQA_POOL_ALIGNED || !o->kv_heads || o->kv_heads == g->n_kv_heads) return 0;
    if (g->qk_norm) return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: heads with QK norms cannot be turned, so not aligned; pool by mean, renorm, first or random", c->path);
    const gqa_kv_samples *s = o->samples;
    if (s && (s->n_layers != g->n_layers || s->kv_dim != kv_dim || s->n < 1))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: the samples are of another model", c->path);
    head_plan *plans = calloc((size_t)g->n_layers, sizeof *plans);
    for (int l = 0; plans && l < g->n_layers && !status; l++) {
        int n_k = s ? s->n : 0, n_v = n_k;
        size_t at = s ? (size_t)l * (size_t)s->n * (size_t)kv_dim : 0;
        float *k = s ? s->k + at : weight_columns(c, l, "attn_k", kv_dim, &n_k), *v = s ? s->v + at : weight_columns(c, l, "attn_v", kv_dim, &n_v);
        status = k && v ? plan_layer(&plans[l], g, o->kv_heads, k, v, n_k, n_v) : -1;
        if (!s) free(k), free(v);
        if (o->on_progress && o->on_progress(o->user, 0.5 * l / g->n_layers)) status = GQA_ERR_CANCELLED;
    }
    if (!plans || status) {
        plan_free(plans, g->n_layers);
        if (status == GQA_ERR_CANCELLED) return gqa_fail(err, GQA_ERR_CANCELLED, "%s: cancelled", c->path);
        return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory to align %d heads", c->path, g->n_kv_heads);
    }
    *out = plans;
    return 0;
}

void plan_free(head_plan *plans, int n_layers) {
    for (int l = 0; plans && l < n_layers; l++) free(plans[l].order), free(plans[l].rk), free(plans[l].rv);
    free(plans);
}
