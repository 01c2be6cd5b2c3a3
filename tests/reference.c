/* reference.c: see reference.h. Sources: RMSNorm arXiv 1910.07467, RoPE 2104.09864, GQA 2305.13245, SwiGLU 2002.05202,
 * YaRN 2309.00071 in the form that llama.cpp computes (a ramp over pair numbers), GGML's block formats. */
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

/* ---- number formats ---------------------------------------------------------------------------------------------- */

/* x rounded to a binary float with `bits` bits of significand (the hidden one included) and smallest exponent `low`. */
static double round_binary(double x, int bits, int low) {
    int e;
    if (x == 0 || !isfinite(x)) return x;
    frexp(x, &e);                                 /* |x| in [2^(e-1), 2^e) */
    double ulp = ldexp(1, (e - 1 > low ? e - 1 : low) - (bits - 1));
    return rint(x / ulp) * ulp;
}
static double round_f16(double x) { return round_binary(x, 11, -14); }
static double round_bf16(double x) { return round_binary(x, 8, -126); }

static double half_at(const uint8_t *p) {         /* IEEE binary16 by its definition */
    int h = p[0] | p[1] << 8, e = h >> 10 & 31, f = h & 1023;
    double v = e == 0 ? ldexp(f, -24) : e == 31 ? (double)(f ? NAN : INFINITY) : ldexp(1024 + f, e - 25);
    return h & 0x8000 ? -v : v;
}

/* Scale and minimum of sub-block j (0..7) of a q4_k or q5_k block: 6 bits each in 12 bytes. */
static void scale_min(const uint8_t *s, int j, int *scale, int *min) {
    *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    *min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
}

/* Element i of a block of q4_k (144 bytes: d, dmin, scales[12], q[128]) or q5_k (176: d, dmin, scales[12], high[32], q[128]). */
static double k45_value(const uint8_t *b, int i, int five) {
    int scale, min, sub = i / 32;
    scale_min(b + 4, sub, &scale, &min);
    const uint8_t *q = b + 16 + (five ? 32 : 0);
    int v = q[i / 64 * 32 + i % 32] >> (sub % 2 ? 4 : 0) & 15;
    if (five) v |= (b[16 + i % 32] >> sub & 1) << 4;
    return half_at(b) * scale * v - half_at(b + 2) * min;
}

/* Element i of a q6_k block (210 bytes: low[128], high[64], scales[16], d). */
static double q6_value(const uint8_t *b, int i) {
    int half = i / 128, j = i % 128;
    int low = b[half * 64 + j % 64] >> (j >= 64 ? 4 : 0) & 15;
    int high = b[128 + half * 32 + j % 32] >> (j / 32 * 2) & 3;
    return half_at(b + 208) * (int8_t)b[192 + i / 16] * ((low | high << 4) - 32);
}

static double q5_0_value(const uint8_t *b, int i) {   /* 22 bytes: d, high bits[4], q[16] */
    int low = b[6 + i % 16] >> (i >= 16 ? 4 : 0) & 15, high = b[2 + i / 8] >> (i % 8) & 1;
    return half_at(b) * ((low | high << 4) - 16);
}

static double stored_value(int type, const uint8_t *p, size_t at) {
    float f;
    uint32_t u;
    switch (type) {
    case 0: memcpy(&f, p + 4 * at, 4); return (double)f;
    case 1: return half_at(p + 2 * at);
    case 30: u = (uint32_t)(p[2 * at] | p[2 * at + 1] << 8) << 16; memcpy(&f, &u, 4); return (double)f;
    case 8: p += at / 32 * 34; return half_at(p) * (int8_t)p[2 + at % 32];
    case 2: p += at / 32 * 18; return half_at(p) * ((p[2 + at % 16] >> (at % 32 >= 16 ? 4 : 0) & 15) - 8);
    case 6: return q5_0_value(p + at / 32 * 22, (int)(at % 32));
    case 12: return k45_value(p + at / 256 * 144, (int)(at % 256), 0);
    case 13: return k45_value(p + at / 256 * 176, (int)(at % 256), 1);
    case 14: return q6_value(p + at / 256 * 210, (int)(at % 256));
    default: return (double)NAN;
    }
}

int ref_dequantize(int type, const void *stored, float *out, size_t n) {
    static const int known[] = {0, 1, 2, 6, 8, 12, 13, 14, 30};
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
        if (known[k] == type) {
            for (size_t i = 0; i < n; i++) out[i] = (float)stored_value(type, stored, i);
            return 0;
        }
    return -1;
}

/* 32 values to codes times a scale and back. levels 127: q8_0 and activations; 8: q4_0, whose largest value becomes -8. */
static void round_block(double *x, int n, int levels, int half_scale) {
    double top = 0, d;
    for (int i = 0; i < n; i++)
        if (fabs(x[i]) > fabs(top)) top = x[i];
    d = levels == 127 ? fabs(top) / 127 : top / -8;
    double stored = half_scale ? round_f16(d) : d;
    for (int i = 0; i < n; i++) {
        double q = d == 0 ? 0 : levels == 127 ? round(x[i] / d) : floor(x[i] / d + 8.5) - 8;
        if (levels == 8 && q > 7) q = 7;
        x[i] = q * stored;
    }
}

static void round_cached(ref_cache type, double *x, int n) {
    for (int i = 0; i < n; i++) x[i] = type == REF_F16 ? round_f16(x[i]) : type == REF_BF16 ? round_bf16(x[i]) : x[i];
    if (type == REF_Q8_0 || type == REF_Q4_0)
        for (int i = 0; i < n; i += 32) round_block(x + i, 32, type == REF_Q8_0 ? 127 : 8, 1);
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

static void multiply(const ref_matrix *m, const double *x, double *y) {
    double *in = doubles((size_t)m->cols);
    for (int j = 0; j < m->cols; j++) in[j] = x[j];
    for (int j = 0; m->int8 && j < m->cols; j += 32) round_block(in + j, m->cols - j < 32 ? m->cols - j : 32, 127, 0);
    for (int i = 0; i < m->rows; i++) {
        double sum = 0;
        for (int j = 0; j < m->cols; j++) sum += (double)m->w[(size_t)i * (size_t)m->cols + (size_t)j] * in[j];
        y[i] = sum;
    }
    free(in);
}

static void normalise(const double *x, const float *weight, int n, double eps, double *y) {
    double squares = 0;
    for (int i = 0; i < n; i++) squares += x[i] * x[i];
    for (int i = 0; i < n; i++) y[i] = x[i] / sqrt(squares / n + eps) * (double)weight[i];
}

/* How much of pair i keeps its frequency under YaRN: 1 for those that turn often within the trained context. */
static double yarn_keep(const ref_model *m, int i) {
    double n = m->rope_dim;                       /* pair number at which `turns` turns fit: n/2 * log_theta(L / (2 pi turns)) */
    double first = floor(n / 2 * (log(m->orig_context / (2 * pi * m->beta_fast)) / log(m->rope_theta)));
    double last = ceil(n / 2 * (log(m->orig_context / (2 * pi * m->beta_slow)) / log(m->rope_theta)));
    if (first < 0) first = 0;
    if (last > n - 1) last = n - 1;
    double t = (i - first) / fmax(0.001, last - first);
    return 1 - fmin(1, fmax(0, t));
}

static void rotate(const ref_model *m, double *head, int position) {
    for (int i = 0; i < m->rope_dim / 2; i++) {
        int a = m->rope_half ? i : 2 * i, b = m->rope_half ? i + m->rope_dim / 2 : 2 * i + 1;
        double angle = position / pow(m->rope_theta, (double)(2 * i) / m->rope_dim), size = 1;
        if (m->rope_factors) angle /= (double)m->rope_factors[i];
        if (m->scaling == REF_LINEAR) angle /= m->factor;
        if (m->scaling == REF_YARN) {
            double keep = yarn_keep(m, i);
            angle = angle * keep + angle / m->factor * (1 - keep);
            size = m->attn_factor * (1 + 0.1 * log(m->factor));
        }
        double x = head[a], y = head[b];
        head[a] = size * (x * cos(angle) - y * sin(angle));
        head[b] = size * (x * sin(angle) + y * cos(angle));
    }
}

/* One query head at position p against the keys and values [n, n_heads, head_dim] of its own, repeated, head h. */
static void attend(const ref_model *m, const double *q, const double *keys, const double *values, int h, int p, double *out) {
    size_t d = (size_t)m->head_dim, row = (size_t)m->n_heads * d;
    int first = m->window > 0 && p + 1 > m->window ? p + 1 - m->window : 0;
    double *score = doubles((size_t)p + 1), top = (double)-INFINITY, sum = 0;
    for (int t = first; t <= p; t++) {
        for (size_t i = 0; i < d; i++) score[t] += q[i] * keys[(size_t)t * row + (size_t)h * d + i];
        score[t] /= sqrt((double)d);
        if (score[t] > top) top = score[t];
    }
    for (int t = first; t <= p; t++) sum += exp(score[t] - top);
    for (size_t i = 0; i < d; i++) {
        out[i] = 0;
        for (int t = first; t <= p; t++) out[i] += exp(score[t] - top) / sum * values[(size_t)t * row + (size_t)h * d + i];
    }
    free(score);
}

/* Q, K and V of one position; each KV head is written out once for every query head that reads it. */
static void project(const ref_model *m, const ref_layer *l, const double *h, int position, double *q, double *k, double *v) {
    int d = m->head_dim, group = m->n_heads / m->n_kv_heads;
    double *own_k = doubles((size_t)(m->n_kv_heads * d)), *own_v = doubles((size_t)(m->n_kv_heads * d));
    multiply(&l->wq, h, q);
    multiply(&l->wk, h, own_k);
    multiply(&l->wv, h, own_v);
    for (int i = 0; l->bq && i < m->n_heads * d; i++) q[i] += (double)l->bq[i];
    for (int i = 0; l->bk && i < m->n_kv_heads * d; i++) own_k[i] += (double)l->bk[i];
    for (int i = 0; l->bv && i < m->n_kv_heads * d; i++) own_v[i] += (double)l->bv[i];
    for (int head = 0; head < m->n_heads; head++) {
        if (l->q_norm) normalise(q + head * d, l->q_norm, d, m->norm_eps, q + head * d);
        rotate(m, q + head * d, position);
    }
    for (int head = 0; head < m->n_kv_heads; head++) {
        if (l->k_norm) normalise(own_k + head * d, l->k_norm, d, m->norm_eps, own_k + head * d);
        rotate(m, own_k + head * d, position);
        round_cached(m->cache, own_k + head * d, d);
        round_cached(m->cache, own_v + head * d, d);
        for (int copy = head * group; copy < (head + 1) * group; copy++)
            for (int i = 0; i < d; i++) k[copy * d + i] = own_k[head * d + i], v[copy * d + i] = own_v[head * d + i];
    }
    free(own_k);
    free(own_v);
}

/* Factor of column i of token t at a site: 0 the embedding, 1 + 2 l attention, 2 + 2 l the feed-forward net. */
static double kept(const ref_model *m, int site, size_t n, size_t t, size_t i) {
    return m->drop ? (double)m->drop[((size_t)site * n + t) * (size_t)m->dim + i] : 1;
}

static void feed_forward(const ref_model *m, int layer, size_t n, size_t t, double *x) {
    const ref_layer *l = &m->layers[layer];
    double *h = doubles((size_t)m->dim), *gate = doubles((size_t)m->ffn_dim), *up = doubles((size_t)m->ffn_dim);
    normalise(x, l->ffn_norm, m->dim, m->norm_eps, h);
    multiply(&l->w_gate, h, gate);
    multiply(&l->w_up, h, up);
    for (int i = 0; i < m->ffn_dim; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    multiply(&l->w_down, gate, h);
    for (int i = 0; i < m->dim; i++) x[i] += h[i] * kept(m, 2 + 2 * layer, n, t, (size_t)i);
    free(h);
    free(gate);
    free(up);
}

void ref_forward(const ref_model *m, const int32_t *tokens, int n, double *logits) {
    size_t dim = (size_t)m->dim, d = (size_t)m->head_dim, q_dim = (size_t)m->n_heads * d, count = (size_t)n;
    double *x = doubles(count * dim), *h = doubles(dim), *joined = doubles(q_dim);
    double *q = doubles(count * q_dim), *k = doubles(count * q_dim), *v = doubles(count * q_dim);
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < dim; i++) x[t * dim + i] = (double)m->embedding[(size_t)tokens[t] * dim + i] * kept(m, 0, count, t, i);
    for (int layer = 0; layer < m->n_layers; layer++) {
        const ref_layer *l = &m->layers[layer];
        for (size_t t = 0; t < count; t++) {
            normalise(x + t * dim, l->attn_norm, m->dim, m->norm_eps, h);
            project(m, l, h, (int)t, q + t * q_dim, k + t * q_dim, v + t * q_dim);
        }
        for (size_t t = 0; t < count; t++) {
            for (int head = 0; head < m->n_heads; head++)
                attend(m, q + t * q_dim + (size_t)head * d, k, v, head, (int)t, joined + (size_t)head * d);
            multiply(&l->wo, joined, h);
            for (size_t i = 0; i < dim; i++) x[t * dim + i] += h[i] * kept(m, 1 + 2 * layer, count, t, i);
            feed_forward(m, layer, count, t, x + t * dim);
        }
    }
    for (size_t t = 0; t < count; t++) {
        normalise(x + t * dim, m->output_norm, m->dim, m->norm_eps, h);
        multiply(&m->classifier, h, logits + t * (size_t)m->vocab);
    }
    free(x), free(h), free(joined), free(q), free(k), free(v);
}

double ref_distance(const float *got, const double *want, size_t n) {
    double worst = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i])) return (double)INFINITY;
        double difference = fabs((double)got[i] - want[i]);
        if (difference > worst) worst = difference;
        squares += want[i] * want[i];
    }
    return squares > 0 ? worst / sqrt(squares / (double)n) : worst > 0 ? (double)INFINITY : 0;
}
