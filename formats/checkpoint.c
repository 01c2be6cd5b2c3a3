/* checkpoint.c: what all file formats share: finding a tensor, checking hyper-parameters. */
#include "checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const gqa_tensor *gqa_checkpoint_tensor(const gqa_checkpoint *c, const char *name) {
    for (int i = 0; i < c->n_tensors; i++)
        if (!strcmp(c->tensors[i].name, name)) return &c->tensors[i];
    return NULL;
}

void gqa_checkpoint_free(gqa_checkpoint *c) {
    free(c->tensors);
    free(c->meta);
    free(c->owned);
    c->tensors = NULL;
    c->meta = NULL;
    c->owned = NULL;
    c->n_tensors = c->n_meta = 0;
}

/* ---- hyper-parameters -------------------------------------------------------------------------------------------- */

static int check_int(const char *path, const char *name, int value, int min, int max, gqa_error *err) {
    if (value >= min && value <= max) return 0;
    return gqa_fail(err, GQA_ERR_FORMAT, "%s: %s is %d, expected %d to %d", path, name, value, min, max);
}

static int check_float(const char *path, const char *name, float value, float min, float max, gqa_error *err) {
    if (value >= min && value <= max) return 0; /* false for NaN */
    return gqa_fail(err, GQA_ERR_FORMAT, "%s: %s is %g, expected %g to %g", path, name, (double)value, (double)min, (double)max);
}

int gqa_config_validate(const gqa_config *c, const char *path, gqa_error *err) {
    int s;
    if ((s = check_int(path, "dim", c->dim, 1, GQA_MAX_DIM, err)) || (s = check_int(path, "n_layers", c->n_layers, 1, GQA_MAX_LAYERS, err)) ||
        (s = check_int(path, "n_heads", c->n_heads, 1, GQA_MAX_HEADS, err)) ||
        (s = check_int(path, "n_kv_heads", c->n_kv_heads, 1, c->n_heads, err)) ||
        (s = check_int(path, "head_dim", c->head_dim, 2, GQA_MAX_HEAD_DIM, err)) ||
        (s = check_int(path, "ffn_dim", c->ffn_dim, 1, GQA_MAX_DIM, err)) ||
        (s = check_int(path, "vocab_size", c->vocab_size, 1, GQA_MAX_VOCAB, err)) ||
        (s = check_int(path, "context_length", c->context_length, 1, GQA_MAX_CONTEXT, err)) ||
        (s = check_int(path, "window", c->window, 0, GQA_MAX_CONTEXT, err)) ||
        (s = check_int(path, "rope_dim", c->rope_dim, 2, c->head_dim, err)) ||
        (s = check_float(path, "rope_theta", c->rope_theta, 1e-3f, 1e12f, err)) ||
        (s = check_float(path, "norm_eps", c->norm_eps, 1e-20f, 1.0f, err)) ||
        (s = check_float(path, "rope_factor", c->rope_factor, 1e-3f, 1e6f, err)) ||
        (s = check_float(path, "rope_attn_factor", c->rope_attn_factor, 1e-3f, 1e3f, err)))
        return s;
    if (c->n_heads % c->n_kv_heads)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: n_heads %d is not a multiple of n_kv_heads %d", path, c->n_heads, c->n_kv_heads);
    if (c->head_dim % 2 || c->rope_dim % 2)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: head_dim %d and rope_dim %d must be even", path, c->head_dim, c->rope_dim);
    if (c->n_heads > GQA_MAX_DIM / c->head_dim)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: n_heads %d * head_dim %d exceeds %d", path, c->n_heads, c->head_dim, GQA_MAX_DIM);
    if (c->rope_scaling == GQA_ROPE_YARN &&
        ((s = check_int(path, "rope_orig_context", c->rope_orig_context, 1, GQA_MAX_CONTEXT, err)) ||
         (s = check_float(path, "rope_beta_fast", c->rope_beta_fast, 1e-3f, 1e6f, err)) ||
         (s = check_float(path, "rope_beta_slow", c->rope_beta_slow, 1e-3f, 1e6f, err)) ||
         (s = check_float(path, "rope_theta (yarn)", c->rope_theta, 1.0001f, 1e12f, err))))
        return s;
    return 0;
}
