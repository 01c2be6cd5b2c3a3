/* reference.c: see reference.h. Sources: RMSNorm arXiv 1910.07467, RoPE 2104.09864, GQA 2305.13245,
 * SwiGLU 2002.05202, YaRN 2309.00071 in the form that llama.cpp computes (a ramp over pair
 * numbers). */
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

static double *doubles(size_t n) {
    double *p = calloc(n ? n : 1, sizeof *p);
    if (!p) abort();
    return p;
}

/* ---- number formats -------------------------------------------------------------------------- */

/* x with `bits` bits of significand (the hidden one included) and smallest exponent `low`. */
static double round_binary(double x, int bits, int low) {
    int e;
    if (x == 0 || !isfinite(x)) return x;
    frexp(x, &e); /* |x| in [2^(e-1), 2^e) */
    double ulp = ldexp(1, (e - 1 > low ? e - 1 : low) - (bits - 1));
    return rint(x / ulp) * ulp;
}
static double round_f16(double x) { return round_binary(x, 11, -14); }
static double round_bf16(double x) { return round_binary(x, 8, -126); }

/* n values to int8 times a scale and back, as q8_0 and activations are. */
static void round_to_int8(double *x, int n, int half_scale) {
    double top = 0;
    for (int i = 0; i < n; i++) top = fmax(top, fabs(x[i]));
    double d = top / 127, stored = half_scale ? round_f16(d) : d;
    for (int i = 0; i < n; i++) x[i] = d == 0 ? 0 : round(x[i] / d) * stored;
}

/* 32 values to 4 bits times a scale and back, as a q4_0 cache is: the largest becomes -6.7 to -9.1,
 * whatever has the least squared error. */
static void round_to_int4(double *x) {
    double top = 0, best = HUGE_VAL, q[32], rounded[32] = {0};
    for (int i = 0; i < 32; i++)
        if (fabs(x[i]) > fabs(top)) top = x[i];
    for (int step = 0; top != 0 && step < 9; step++) {
        double xq = 0, qq = 0, error = 0;
        for (int i = 0; i < 32; i++) {
            q[i] = fmax(-8, fmin(7, nearbyint(x[i] / top * -(6.7 + 0.3 * step))));
            xq += x[i] * q[i];
            qq += q[i] * q[i];
        }
        for (int i = 0; i < 32; i++) error += pow(x[i] - xq / qq * q[i], 2);
        if (error >= best) continue;
        best = error;
        for (int i = 0; i < 32; i++) rounded[i] = q[i] * round_f16(xq / qq);
    }
    memcpy(x, rounded, sizeof rounded);
}

/* Multiplies each n of x [count] by the Walsh-Hadamard matrix of n over sqrt(n). */
static void hadamard(double *x, int count, int n) {
    double *from = doubles((size_t)count);
    memcpy(from, x, sizeof *x * (size_t)count);
    for (int i = 0; i < count; i++) {
        x[i] = 0;
        for (int j = 0; j < n; j++) {
            double value = from[i - i % n + j] / sqrt(n);
            x[i] += __builtin_parity((unsigned)(i % n & j)) ? -value : value;
        }
    }
    free(from);
}

/* A head of n values to the cache's type and back; in blocks, whose last one ends with zeros, it is
 * rotated for that, by the largest power of two that divides `width`, if that is 32 or more. */
static void round_cached(ref_cache type, double *x, int n, int width) {
    int size = (n + 31) / 32 * 32, by = width & -width;
    if (type == REF_Q8_0 || type == REF_Q4_0) {
        double *head = doubles((size_t)size);
        memset(head, 0, sizeof *head * (size_t)size);
        memcpy(head, x, sizeof *x * (size_t)n);
        if (by >= 32) hadamard(head, size, by);
        for (int i = 0; i < size; i += 32)
            if (type == REF_Q8_0) round_to_int8(head + i, 32, 1);
            else round_to_int4(head + i);
        if (by >= 32) hadamard(head, size, by);
        memcpy(x, head, sizeof *x * (size_t)n);
        free(head);
    }
    for (int i = 0; i < n; i++) {
        if (type == REF_F16) x[i] = round_f16(x[i]);
        if (type == REF_BF16) x[i] = round_bf16(x[i]);
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* n values of a block to one int8 or two, and back. */
static void round_to_planes(double *x, int n, int planes) {
    double rest[32];
    memcpy(rest, x, sizeof *x * (size_t)n);
    round_to_int8(x, n, 0);
    if (planes == 1) return;
    for (int i = 0; i < n; i++) rest[i] -= x[i];
    round_to_int8(rest, n, 0);
    for (int i = 0; i < n; i++) x[i] += rest[i];
}

static void multiply(const ref_matrix *m, const double *x, double *y) {
    int cols = m->cols;
    double *in = doubles((size_t)cols);
    for (int j = 0; j < cols; j++) in[j] = x[j];
    for (int j = 0; m->planes && j < cols; j += 32)
        round_to_planes(in + j, cols - j < 32 ? cols - j : 32, m->planes);
    for (int i = 0; i < m->rows; i++) {
        const float *row = m->w + (size_t)i * (size_t)cols;
        y[i] = 0;
        for (int j = 0; j < cols; j++) y[i] += (double)row[j] * in[j];
    }
    free(in);
}

/* weight NULL: all 1. */
static void normalise(const double *x, const float *weight, int n, double eps, double *y) {
    double squares = 0;
    for (int i = 0; i < n; i++) squares += x[i] * x[i];
    for (int i = 0; i < n; i++)
        y[i] = x[i] / sqrt(squares / n + eps) * (weight ? (double)weight[i] : 1);
}

/* The number of the pair that rotates `rotations` times within the trained context:
 * n/2 * log_theta(L / (2 pi rotations)). */
static double pair_of(const ref_model *m, double rotations) {
    return m->rope_dim / 2.0 * log(m->orig_context / (2 * pi * rotations)) / log(m->rope_theta);
}

/* How much of pair i keeps its frequency under YaRN: 1 for those that rotate often within the
 * trained context. */
static double yarn_keep(const ref_model *m, int i) {
    double first = fmax(0, floor(pair_of(m, m->beta_fast)));
    double last = fmin(m->rope_dim - 1, ceil(pair_of(m, m->beta_slow)));
    double t = (i - first) / fmax(0.001, last - first);
    return 1 - fmin(1, fmax(0, t));
}

/* attn_factor multiplies q and k whatever the scaling, as in llama.cpp; not in local layers. */
static void rotate(const ref_model *m, const ref_layer *l, double *head, int position) {
    double theta = l->local_theta > 0 ? l->local_theta : m->rope_theta;
    int is_scaled = !(l->local_theta > 0), rope_dim = l->rope_dim ? l->rope_dim : m->rope_dim;
    for (int i = 0; i < rope_dim / 2 && !l->no_rope; i++) {
        int a = m->rope_half ? i : 2 * i, b = m->rope_half ? i + rope_dim / 2 : 2 * i + 1;
        double angle = position / pow(theta, (double)(2 * i) / rope_dim);
        double size = is_scaled && m->attn_factor > 0 ? m->attn_factor : 1;
        if (m->rope_factors && is_scaled) angle /= (double)m->rope_factors[i];
        if (m->scaling == REF_LINEAR && is_scaled) angle /= m->factor;
        if (m->scaling == REF_YARN && is_scaled) {
            double keep = yarn_keep(m, i), log_factor = 0.1 * log(m->factor);
            angle = angle * keep + angle / m->factor * (1 - keep);
            if (!m->latent) size *= (1 + log_factor) / (1 + m->yarn_log_mul * log_factor);
        }
        double x = head[a], y = head[b];
        head[a] = size * (x * cos(angle) - y * sin(angle));
        head[b] = size * (x * sin(angle) + y * cos(angle));
    }
}

static double or_1(double x) { return x == 0 ? 1 : x; }

/* Of latent attention: room for a key and for the latent. */
static int head_dim_of(const ref_model *m, const ref_layer *l) {
    if (m->latent) return (int)fmax(m->q_nope + m->rope_dim, m->latent);
    return l->head_dim ? l->head_dim : m->head_dim;
}

/* One query head at position p against the keys and values [n, n_heads, head_dim] of its own,
 * repeated, head h. */
static void attend(const ref_model *m, const ref_layer *l, const double *q, const double *keys,
                   const double *values, int h, int p, double *out) {
    size_t d = (size_t)head_dim_of(m, l), row = (size_t)m->n_heads * d, head = (size_t)h * d;
    size_t last = (size_t)p, first = 0;
    double scale = m->score_scale > 0 ? m->score_scale : 1 / sqrt((double)d);
    if (m->temperature > 0) scale *= 1 + m->temperature * log(1 + floor(p / m->orig_context));
    if (m->window > 0 && !l->sees_all && p + 1 > m->window) first = (size_t)(p + 1 - m->window);
    double *score = doubles(last + 1), top = (double)-INFINITY, sum = 0;
    for (size_t t = first; t <= last; t++) {
        for (size_t i = 0; i < d; i++) score[t] += q[i] * keys[t * row + head + i];
        score[t] *= scale;
        if (m->score_cap > 0) score[t] = m->score_cap * tanh(score[t] / m->score_cap);
        top = fmax(top, score[t]);
    }
    for (size_t t = first; t <= last; t++) sum += score[t] = exp(score[t] - top);
    for (size_t i = 0; i < d; i++) {
        out[i] = 0;
        for (size_t t = first; t <= last; t++)
            out[i] += score[t] / sum * values[t * row + head + i];
    }
    free(score);
}

static void add_bias(double *x, const float *bias, int n) {
    for (int i = 0; bias && i < n; i++) x[i] += (double)bias[i];
}

/* Norm and rotation of n heads. */
static void finish_heads(const ref_model *m, const ref_layer *l, double *heads, int n,
                         const float *norm, int position) {
    int d = head_dim_of(m, l);
    if (norm && m->qk_norm == REF_NORM_ROWS) normalise(heads, norm, n * d, m->norm_eps, heads);
    for (int h = 0; h < n; h++) {
        double *head = heads + h * d;
        if (norm && m->qk_norm == REF_NORM_BEFORE) normalise(head, norm, d, m->norm_eps, head);
        rotate(m, l, m->tied ? head + d - m->rope_dim : head, position);
        if (norm && m->qk_norm == REF_NORM_AFTER) normalise(head, norm, d, m->norm_eps, head);
    }
}

/* Each KV head as it is cached, written out once for every query head that reads it. */
static void repeat_heads(const ref_model *m, ref_cache cache, int d, int kv_heads, double *own,
                         double *out) {
    int group = m->n_heads / kv_heads;
    for (int head = 0; head < kv_heads; head++) {
        round_cached(cache, own + head * d, d, (d + 31) / 32 * 32);
        for (int copy = head * group; copy < (head + 1) * group; copy++)
            memcpy(out + copy * d, own + head * d, sizeof *out * (size_t)d);
    }
}

/* The queries of latent attention, each with zeros after it. */
static void latent_query(const ref_model *m, const ref_layer *l, const double *h, int position,
                         double *q) {
    int n = m->q_nope + m->rope_dim, width = head_dim_of(m, l), low_dim = l->wq.rows;
    double *low = doubles((size_t)low_dim), *joined = doubles((size_t)(m->n_heads * n));
    multiply(&l->wq, h, low);
    if (l->wq_b.cols) {
        normalise(low, l->q_rank_norm, low_dim, m->norm_eps, low);
        multiply(&l->wq_b, low, joined);
    } else {
        memcpy(joined, low, sizeof *low * (size_t)low_dim);
    }
    for (int head = 0; head < m->n_heads; head++, q += width) {
        memcpy(q, joined + head * n, sizeof *q * (size_t)n);
        rotate(m, l, q + m->q_nope, position);
        for (int i = 0; l->wk_b.planes && i < m->q_nope; i += 32)
            round_to_planes(q + i, 32, l->wk_b.planes);
    }
    free(low);
    free(joined);
}

/* Q of one position. */
static void project_query(const ref_model *m, const ref_layer *l, const double *h, int position,
                          double *q) {
    if (m->latent) {
        latent_query(m, l, h, position, q);
        return;
    }
    multiply(&l->wq, h, q);
    add_bias(q, l->bq, l->wq.rows);
    finish_heads(m, l, q, m->n_heads, l->q_norm, position);
}

/* Each head's K out of the latent row (DeepSeek-V2, 2405.04434, equations 9 to 19): [Wk^T c |
 * rotated]. Its V is c: Wv multiplies it after attention, because it is rounded to int8 there. */
static void expand_latent(const ref_model *m, const ref_layer *l, const double *h, int position,
                          double *k, double *v) {
    int latent = m->latent, nope = m->q_nope, rope = m->rope_dim, d = head_dim_of(m, l);
    double *row = doubles((size_t)(latent + rope));
    multiply(&l->wk, h, row);
    normalise(row, l->latent_norm, latent, m->norm_eps, row);
    rotate(m, l, row + latent, position);
    round_cached(m->cache, row, latent, latent | rope);
    round_cached(m->cache, row + latent, rope, latent | rope);
    for (int head = 0; head < m->n_heads; head++, k += d, v += d) {
        const float *wk = l->wk_b.w + (size_t)(head * latent * nope);
        for (int i = 0; i < latent * nope; i++) k[i % nope] += (double)wk[i] * row[i / nope];
        memcpy(v, row, sizeof *v * (size_t)latent);
        memcpy(k + nope, row + latent, sizeof *k * (size_t)rope);
    }
    free(row);
}

/* Each query head's K and V by grouped-tied attention (2505.21487, section 3.3.1). */
static void expand_tied(const ref_model *m, const ref_layer *l, const double *h, int position,
                        double *k, double *v) {
    int d = m->head_dim, half = d / 2, rows = l->wk.rows;
    double *own = doubles((size_t)(rows + half)), *shared = own + rows;
    multiply(&l->wk, h, own);
    multiply(&l->wv, h, shared);
    rotate(m, l, shared, position);
    for (int i = 0; i < rows; i += d) round_cached(m->cache, own + i, d, half);
    round_cached(m->cache, shared, half, half);
    for (int head = 0; head < m->n_heads; head++, k += d, v += d) {
        memcpy(v, own + head * rows / (m->n_heads * d) * d, sizeof *v * (size_t)d);
        memcpy(k, v, sizeof *k * (size_t)half);
        memcpy(k + half, shared, sizeof *k * (size_t)half);
    }
    free(own);
}

/* Its K and V. */
static void project_key_value(const ref_model *m, const ref_layer *l, const double *h,
                              int position, double *k, double *v) {
    if (m->latent || m->tied) {
        (m->latent ? expand_latent : expand_tied)(m, l, h, position, k, v);
        return;
    }
    int d = head_dim_of(m, l), kv_dim = l->wk.rows, kv_heads = kv_dim / d;
    double *own_k = doubles(2 * (size_t)kv_dim), *own_v = own_k + kv_dim;
    multiply(&l->wk, h, own_k);
    multiply(&l->wv, h, own_v);
    add_bias(own_k, l->bk, kv_dim);
    add_bias(own_v, l->bv, kv_dim);
    finish_heads(m, l, own_k, kv_heads, l->k_norm, position);
    for (int head = 0; m->norm_v && head < kv_heads; head++)
        normalise(own_v + head * d, NULL, d, m->norm_eps, own_v + head * d);
    repeat_heads(m, m->cache, d, kv_heads, own_k, k);
    repeat_heads(m, m->v_cache, d, kv_heads, own_v, v);
    free(own_k);
}

/* Factor of column i of token t at a site: 0 the embedding, 1 + 2 l attention, 2 + 2 l the
 * feed-forward net. */
static double kept(const ref_model *m, int site, size_t n, size_t t, size_t i) {
    return m->drop ? (double)m->drop[((size_t)site * n + t) * (size_t)m->dim + i] : 1;
}

static double activation(const ref_model *m, double x) {
    if (!m->gelu) return x / (1 + exp(-x));
    return x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)));
}

/* The input of attention or FFN. */
static void before(const ref_model *m, const double *x, const float *norm, double *h) {
    if (norm) normalise(x, norm, m->dim, m->norm_eps, h);
    else memcpy(h, x, sizeof *h * (size_t)m->dim);
}

/* Their output h as it is added to x. */
static void after(const ref_model *m, const float *norm, double *h) {
    if (norm) normalise(h, norm, m->dim, m->norm_eps, h);
    for (int i = 0; i < m->dim; i++) h[i] *= or_1(m->residual_scale);
}

static void feed_forward(const ref_model *m, int layer, size_t n, size_t t, double *x) {
    const ref_layer *l = &m->layers[layer];
    size_t dim = (size_t)m->dim, ffn_dim = (size_t)l->w_gate.rows;
    double *h = doubles(dim), *gate = doubles(ffn_dim), *up = doubles(ffn_dim);
    before(m, x, l->ffn_norm, h);
    multiply(&l->w_gate, h, gate);
    multiply(&l->w_up, h, up);
    for (size_t i = 0; i < ffn_dim; i++) gate[i] = activation(m, gate[i]) * up[i];
    multiply(&l->w_down, gate, h);
    after(m, l->ffn_post_norm, h);
    for (size_t i = 0; i < dim; i++) x[i] += h[i] * kept(m, 2 + 2 * layer, n, t, i);
    free(h);
    free(gate);
    free(up);
}

/* What a token with the embedding x gives the layers: out [n_layers, per_layer]. */
static void embed_for_layers(const ref_model *m, int32_t token, const double *x, double *out) {
    int n = m->per_layer, width = m->n_layers * n;
    const float *row = m->layers_embedding + (size_t)token * (size_t)width;
    multiply(&m->layers_proj, x, out);
    for (int i = 0; i < width; i++) out[i] /= sqrt(m->dim);
    for (int i = 0; i < width; i += n)
        normalise(out + i, m->layers_proj_norm, n, m->norm_eps, out + i);
    for (int i = 0; i < width; i++) out[i] = (out[i] + sqrt(n) * (double)row[i]) / sqrt(2);
}

/* x after a layer's feed-forward net, by what its token gives the layer: given [per_layer]. */
static void add_for_layer(const ref_model *m, const ref_layer *l, const double *given, double *x) {
    double *gate = doubles((size_t)m->per_layer), *h = doubles((size_t)m->dim);
    if (m->per_layer) {
        multiply(&l->layer_gate, x, gate);
        for (int i = 0; i < m->per_layer; i++) gate[i] = activation(m, gate[i]) * given[i];
        multiply(&l->layer_proj, gate, h);
        normalise(h, l->layer_norm, m->dim, m->norm_eps, h);
    }
    for (int i = 0; i < m->dim; i++) x[i] = (x[i] + h[i]) * (l->scale ? (double)*l->scale : 1);
    free(gate);
    free(h);
}

/* What all layers see of a pass. */
typedef struct pass {
    size_t n;
    double *x;               /* [n, dim] */
    double **k, **v;         /* [n_layers] of [n, q_dim] */
    double *given;           /* [n, n_layers, per_layer] */
} pass;

/* Wv of each head times what attention gave [n_heads, head_dim], in place: [n_heads, value]. */
static void expand_values(const ref_model *m, const ref_layer *l, double *joined) {
    int d = head_dim_of(m, l);
    double *values = doubles((size_t)(m->n_heads * m->value));
    for (int head = 0; head < m->n_heads; head++) {
        ref_matrix w = l->wv_b;
        w.w += (size_t)(head * w.rows * w.cols);
        multiply(&w, joined + head * d, values + head * m->value);
    }
    memcpy(joined, values, sizeof *values * (size_t)(m->n_heads * m->value));
    free(values);
}

static void run_layer(const ref_model *m, int layer, const pass *p) {
    const ref_layer *l = &m->layers[layer];
    int kv_layer = l->kv_layer ? l->kv_layer - 1 : layer;
    size_t dim = (size_t)m->dim, d = (size_t)head_dim_of(m, l), q_dim = (size_t)m->n_heads * d;
    double *h = doubles(dim), *joined = doubles(q_dim), *q = doubles(p->n * q_dim);
    double *k = p->k[layer] = doubles(p->n * q_dim), *v = p->v[layer] = doubles(p->n * q_dim);
    for (size_t t = 0; t < p->n; t++) {
        before(m, p->x + t * dim, l->attn_norm, h);
        project_query(m, l, h, (int)t, q + t * q_dim);
        if (kv_layer == layer) project_key_value(m, l, h, (int)t, k + t * q_dim, v + t * q_dim);
    }
    for (size_t t = 0; t < p->n; t++) {
        double *x = p->x + t * dim;
        for (int head = 0; head < m->n_heads; head++) {
            size_t at = (size_t)head * d;
            attend(m, l, q + t * q_dim + at, p->k[kv_layer], p->v[kv_layer], head, (int)t,
                   joined + at);
        }
        if (m->latent) expand_values(m, l, joined);
        multiply(&l->wo, joined, h);
        after(m, l->attn_post_norm, h);
        for (size_t i = 0; i < dim; i++) x[i] += h[i] * kept(m, 1 + 2 * layer, p->n, t, i);
        feed_forward(m, layer, p->n, t, x);
        size_t at = t * (size_t)m->n_layers + (size_t)layer;
        add_for_layer(m, l, p->given + at * (size_t)m->per_layer, x);
    }
    free(h);
    free(joined);
    free(q);
}

static void classify(const ref_model *m, const pass *p, double *logits) {
    double *h = doubles((size_t)m->dim);
    for (size_t t = 0; t < p->n; t++) {
        normalise(p->x + t * (size_t)m->dim, m->output_norm, m->dim, m->norm_eps, h);
        double *row = logits + t * (size_t)m->vocab;
        multiply(&m->classifier, h, row);
        for (int i = 0; i < m->vocab; i++) {
            row[i] /= or_1(m->logit_divisor);
            if (m->logit_cap > 0) row[i] = m->logit_cap * tanh(row[i] / m->logit_cap);
        }
    }
    free(h);
}

void ref_forward(const ref_model *m, const int32_t *tokens, int n, double *logits) {
    size_t dim = (size_t)m->dim, layers = (size_t)m->n_layers;
    size_t width = layers * (size_t)m->per_layer;
    pass p = {.n = (size_t)n};
    p.x = doubles(p.n * dim);
    p.given = doubles(p.n * width);
    p.k = calloc(layers, sizeof *p.k);
    p.v = calloc(layers, sizeof *p.v);
    if (!p.k || !p.v) abort();
    for (size_t t = 0; t < p.n; t++) {
        const float *row = m->embedding + (size_t)tokens[t] * dim;
        double *x = p.x + t * dim;
        for (size_t i = 0; i < dim; i++)
            x[i] = (double)row[i] * or_1(m->embedding_scale) * kept(m, 0, p.n, t, i);
        if (m->per_layer) embed_for_layers(m, tokens[t], x, p.given + t * width);
    }
    for (int layer = 0; layer < m->n_layers; layer++) run_layer(m, layer, &p);
    classify(m, &p, logits);
    for (size_t i = 0; i < 2 * layers; i++) free(i < layers ? p.k[i] : p.v[i - layers]);
    free(p.k);
    free(p.v);
    free(p.x);
    free(p.given);
}

double ref_distance(const float *got, const double *want, size_t n) {
    double worst = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]) || !isfinite(want[i])) return (double)INFINITY;
        worst = fmax(worst, fabs((double)got[i] - want[i]));
        squares += want[i] * want[i];
    }
    if (squares > 0) return worst / sqrt(squares / (double)n);
    return worst > 0 ? (double)INFINITY : 0;
}
