/* heads.c: moves, turns and pools the heads of one tensor. */
#include <math.h>
#include <string.h>

#include "../base/random.h"
#include "convert_internal.h"

/* out [hd, cols] = R [hd, hd] in; R NULL: a copy. */
static void turn_rows(float *out, const float *in, const double *R, int hd, int cols) {
    if (!R) {
        memcpy(out, in, sizeof *out * (size_t)hd * (size_t)cols);
        return;
    }
    for (int j = 0; j < cols; j++)
        for (int i = 0; i < hd; i++) {
            double sum = 0;
            for (int k = 0; k < hd; k++) sum += R[i * hd + k] * (double)in[(size_t)k * (size_t)cols + (size_t)j];
            out[(size_t)i * (size_t)cols + (size_t)j] = (float)sum;
        }
}

/* Blocks of `heads` heads of each KV head: rows of Q (several), K or V (one). */
static void move_rows(const gqa_config *c, const head_plan *plan, const double *R, int heads, int cols, const float *in, float *out) {
    size_t head = (size_t)c->head_dim * (size_t)cols, square = (size_t)c->head_dim * (size_t)c->head_dim;
    for (int p = 0; p < c->n_kv_heads; p++)
        for (int i = 0; i < heads; i++) {
            size_t from = (size_t)(plan ? plan->order[p] : p);
            turn_rows(out + (size_t)(p * heads + i) * head, in + (from * (size_t)heads + (size_t)i) * head, R ? R + from * square : NULL, c->head_dim, cols);
        }
}

/* Columns of W_o: what V was turned by is undone, so each block becomes itself times R^T. */
static void move_columns(const gqa_config *c, const head_plan *plan, int rows, const float *in, float *out) {
    int hd = c->head_dim, heads = c->n_heads / c->n_kv_heads;
    size_t cols = (size_t)c->n_heads * (size_t)hd;
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < c->n_heads; q++) {
            int from = plan->order[q / heads];
            const float *src = in + (size_t)r * cols + (size_t)(from * heads + q % heads) * (size_t)hd;
            const double *R = plan->rv ? plan->rv + (size_t)from * (size_t)hd * (size_t)hd : NULL;
            turn_rows(out + (size_t)r * cols + (size_t)q * (size_t)hd, src, R, hd, 1);
        }
}

static double norm_of(const float *p, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)p[i] * (double)p[i];
    return sqrt(sum);
}

static double gaussian(uint64_t seed, uint64_t index) { /* Box & Muller 1958 over a splitmix64 hash */
    double u = gqa_random_unit(gqa_random_at(seed, 2 * index)) + 0x1p-54, angle = 6.283185307179586 * (gqa_random_unit(gqa_random_at(seed, 2 * index + 1)) + 0x1p-54);
    return sqrt(-2 * log(u)) * cos(angle);
}

/* values [n_kv_heads, size] to [kv_heads, size], in place: a pooled head never lies behind its members. */
static void pool(const gqa_config *c, const gqa_convert_options *o, uint64_t salt, size_t size, float *values) {
    int members = c->n_kv_heads / o->kv_heads;
    double all = norm_of(values, size * (size_t)c->n_kv_heads) / sqrt((double)(size * (size_t)c->n_kv_heads));
    for (int g = 0; g < o->kv_heads; g++) {
        float *out = values + (size_t)g * size, *in = values + (size_t)(g * members) * size;
        double norm = 0, scale = 1.0 / members;
        for (int m = 0; m < members; m++) norm += norm_of(in + (size_t)m * size, size) / members;
        for (size_t i = 0; i < size; i++) {
            double sum = 0;
            for (int m = 0; m < members; m++) sum += (double)in[(size_t)m * size + i];
            if (o->pool == GQA_POOL_FIRST) out[i] = in[i];
            else if (o->pool == GQA_POOL_RANDOM) out[i] = (float)(all * gaussian(o->seed + salt, (uint64_t)g * size + i));
            else out[i] = (float)(sum * scale);
        }
        double now = norm_of(out, size);
        if ((o->pool == GQA_POOL_RENORM || o->pool == GQA_POOL_ALIGNED) && now > 0)
            for (size_t i = 0; i < size; i++) out[i] = (float)((double)out[i] * norm / now);
    }
}

int convert_heads(const gqa_config *c, const gqa_convert_options *o, const head_plan *plan, tensor_kind kind, uint64_t salt,
                  const float *values, int rows, int cols, float *out) {
    if (kind == OUTPUT && plan) move_columns(c, plan, rows, values, out);
    else if (kind == QUERY) move_rows(c, plan, plan ? plan->rk : NULL, c->n_heads / c->n_kv_heads, cols, values, out);
    else if (kind == KEY || kind == VALUE) move_rows(c, plan, plan ? (kind == KEY ? plan->rk : plan->rv) : NULL, 1, cols, values, out);
    else memcpy(out, values, sizeof *out * (size_t)rows * (size_t)cols);
    if ((kind != KEY && kind != VALUE) || o->keep_heads || !o->kv_heads || o->kv_heads == c->n_kv_heads) return rows;
    pool(c, o, salt, (size_t)c->head_dim * (size_t)cols, out);
    return o->kv_heads * c->head_dim;
}
