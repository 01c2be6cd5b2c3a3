/* heads.c: moves, rotates and pools the heads of one tensor. */
#include <math.h>
#include <string.h>

#include "../base/random.h"
#include "convert_internal.h"

/* out [hd, cols] = R [hd, hd] in; R NULL: a copy. */
static void rotate_rows(float *out, const float *in, const double *R, size_t hd, size_t cols) {
    if (!R) {
        memcpy(out, in, sizeof *out * hd * cols);
        return;
    }
    for (size_t j = 0; j < cols; j++)
        for (size_t i = 0; i < hd; i++) {
            double sum = 0;
            for (size_t k = 0; k < hd; k++) sum += R[i * hd + k] * (double)in[k * cols + j];
            out[i * cols + j] = (float)sum;
        }
}

/* Blocks of n heads per KV head: rows of Q (a group), K or V (one). */
static void move_rows(const gqa_config *c, const head_plan *plan, const double *R, size_t n,
                      size_t cols, const float *in, float *out) {
    size_t hd = c->head_dim, head = hd * cols;
    for (int p = 0; p < c->n_kv_heads; p++) {
        size_t from = plan ? plan->order[p] : p;
        for (size_t i = 0; i < n; i++)
            rotate_rows(out + (p * n + i) * head, in + (from * n + i) * head,
                        R ? R + from * hd * hd : NULL, hd, cols);
    }
}

/* Columns of W_o: the rotation of V is undone, so each block becomes itself times R^T. */
static void move_columns(const gqa_config *c, const head_plan *plan, size_t rows, const float *in,
                         float *out) {
    size_t hd = c->head_dim, heads = c->n_heads, group = c->n_heads / c->n_kv_heads;
    for (size_t r = 0; r < rows; r++, in += heads * hd, out += heads * hd)
        for (size_t q = 0; q < heads; q++) {
            size_t from = plan->order[q / group];
            const double *R = plan->rv ? plan->rv + from * hd * hd : NULL;
            rotate_rows(out + q * hd, in + (from * group + q % group) * hd, R, hd, 1);
        }
}

static double norm_of(const float *p, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)p[i] * (double)p[i];
    return sqrt(sum);
}

static double gaussian(uint64_t seed, uint64_t index) { /* Box & Muller 1958 over a hash */
    double u = gqa_random_unit(gqa_random_at(seed, 2 * index)) + 0x1p-54;
    double v = gqa_random_unit(gqa_random_at(seed, 2 * index + 1)) + 0x1p-54;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* values [n_kv_heads, size] to [kv_heads, size], in place: a pooled head never lies behind its
 * members. */
static void pool_heads(const gqa_config *c, const gqa_convert_options *o, uint64_t salt,
                       size_t size, float *values) {
    size_t heads = c->n_kv_heads, pooled = o->kv_heads, members = heads / pooled;
    int keep_norm = o->pool == GQA_POOL_RENORM || o->pool == GQA_POOL_ALIGNED;
    double deviation = norm_of(values, size * heads) / sqrt((double)(size * heads));
    for (size_t g = 0; g < pooled; g++) {
        float *out = values + g * size;
        const float *in = values + g * members * size;
        double norm = 0, scale = 1.0 / (double)members;
        for (size_t m = 0; m < members; m++) norm += norm_of(in + m * size, size) / (double)members;
        for (size_t i = 0; i < size; i++) {
            double sum = 0;
            for (size_t m = 0; m < members; m++) sum += (double)in[m * size + i];
            if (o->pool == GQA_POOL_FIRST)
                out[i] = in[i];
            else if (o->pool == GQA_POOL_RANDOM)
                out[i] = (float)(deviation * gaussian(o->seed + salt, g * size + i));
            else
                out[i] = (float)(sum * scale);
        }
        double now = norm_of(out, size);
        for (size_t i = 0; keep_norm && now > 0 && i < size; i++)
            out[i] = (float)((double)out[i] * norm / now);
    }
}

size_t convert_heads(const gqa_config *c, const gqa_convert_options *o, const head_plan *plan,
                     tensor_kind kind, uint64_t salt, const float *values, size_t rows, size_t cols,
                     float *out) {
    const double *rk = plan ? plan->rk : NULL, *rv = plan ? plan->rv : NULL;
    int is_kv = kind == KEY || kind == VALUE;
    if (kind == OUTPUT && plan)
        move_columns(c, plan, rows, values, out);
    else if (kind == QUERY)
        move_rows(c, plan, rk, c->n_heads / c->n_kv_heads, cols, values, out);
    else if (is_kv)
        move_rows(c, plan, kind == KEY ? rk : rv, 1, cols, values, out);
    else
        memcpy(out, values, sizeof *out * rows * cols);
    if (!is_kv || o->keep_heads || !o->kv_heads || o->kv_heads == c->n_kv_heads) return rows;
    pool_heads(c, o, salt, c->head_dim * cols, out);
    return o->kv_heads * (size_t)c->head_dim;
}
