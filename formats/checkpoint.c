/* checkpoint.c: what all file formats share: finding a tensor, checking hyper-parameters. */
#include "checkpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/tensor.h"

static int tensor_by_name(const void *a, const void *b) {
    return strcmp((*(const gqa_tensor *const *)a)->name, (*(const gqa_tensor *const *)b)->name);
}

int gqa_checkpoint_index(gqa_checkpoint *c, gqa_error *err) {
    size_t n = (size_t)c->n_tensors;
    c->by_name = malloc((n + 1) * sizeof *c->by_name);
    if (!c->by_name) return fail_memory(c, err, "no memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) c->by_name[i] = &c->tensors[i];
    qsort(c->by_name, n, sizeof *c->by_name, tensor_by_name);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(c->by_name[i - 1]->name, c->by_name[i]->name))
            return fail_format(c, err, "duplicate tensor %s", c->by_name[i]->name);
    return 0;
}

static int name_before_tensor(const void *name, const void *tensor) {
    return strcmp(name, (*(const gqa_tensor *const *)tensor)->name);
}

const gqa_tensor *gqa_checkpoint_tensor(const gqa_checkpoint *c, const char *name) {
    size_t n = (size_t)c->n_tensors;
    if (!c->by_name) return NULL;
    const gqa_tensor **found = bsearch(name, c->by_name, n, sizeof *found, name_before_tensor);
    return found ? *found : NULL;
}

void gqa_checkpoint_free(gqa_checkpoint *c) {
    free(c->tensors);
    free(c->by_name);
    free(c->meta);
    free(c->layers);
    gqa_pages_free(c->owned, c->owned_size);
    c->tensors = NULL;
    c->by_name = NULL;
    c->meta = NULL;
    c->layers = NULL;
    c->owned = NULL;
    c->n_tensors = c->n_meta = 0;
}

int gqa_checkpoint_check_types(const gqa_checkpoint *c, gqa_error *err) {
    for (int i = 0; i < c->n_tensors; i++) {
        const gqa_tensor *t = &c->tensors[i];
        const char *foreign = gqa_foreign_type_name(t->type);
        char names[160];
        if (gqa_type_info_of(t->type)) continue;
        gqa_type_names(names, sizeof names);
        return gqa_fail_path(c->path, err, foreign ? GQA_ERR_UNSUPPORTED : GQA_ERR_FORMAT,
                             "tensor %s: type %s (%d) is not supported (%s are)", t->name,
                             foreign ? foreign : "unknown", t->type, names);
    }
    return 0;
}

/* ---- hyper-parameters -------------------------------------------------------------------- */

gqa_layer_config gqa_checkpoint_layer(const gqa_checkpoint *c, int l) {
    const gqa_config *g = &c->config;
    if (c->layers) return c->layers[l];
    return (gqa_layer_config){g->n_kv_heads, g->ffn_dim, g->window, 1, g->head_dim, l};
}

void gqa_config_set_defaults(gqa_config *c) {
    float *const factors[] = {&c->embedding_scale, &c->residual_scale, &c->logit_scale};
    for (size_t i = 0; i < array_length(factors); i++)
        if (*factors[i] == 0) *factors[i] = 1;
    if (c->attention_scale == 0 && c->head_dim > 0)
        c->attention_scale = 1 / sqrtf((float)c->head_dim);
}

typedef struct int_range {
    const char *name;
    int value, min, max;
} int_range;

typedef struct float_range {
    const char *name;
    float value, min, max;
} float_range;

static int check_int_ranges(const int_range *r, size_t n, const char *path, gqa_error *err) {
    for (; n > 0; r++, n--)
        if (r->value < r->min || r->value > r->max)
            return gqa_fail_path(path, err, GQA_ERR_FORMAT, "%s is %d, expected %d to %d", r->name,
                                 r->value, r->min, r->max);
    return 0;
}

static int check_float_ranges(const float_range *r, size_t n, const char *path, gqa_error *err) {
    for (; n > 0; r++, n--)
        if (!(r->value >= r->min && r->value <= r->max)) /* true for NaN */
            return gqa_fail_path(path, err, GQA_ERR_FORMAT, "%s is %g, expected %g to %g", r->name,
                                 (double)r->value, (double)r->min, (double)r->max);
    return 0;
}

static int check_ranges(const gqa_config *c, const char *path, gqa_error *err) {
    const int_range ints[] = {
        {"dim", c->dim, 1, GQA_MAX_DIM},
        {"n_layers", c->n_layers, 1, GQA_MAX_LAYERS},
        {"n_heads", c->n_heads, 1, GQA_MAX_HEADS},
        {"n_kv_heads", c->n_kv_heads, 1, c->n_heads},
        {"head_dim", c->head_dim, 2, GQA_MAX_HEAD_DIM},
        {"ffn_dim", c->ffn_dim, 1, GQA_MAX_DIM},
        {"vocab_size", c->vocab_size, 1, GQA_MAX_VOCAB},
        {"context_length", c->context_length, 1, GQA_MAX_CONTEXT},
        {"window", c->window, 0, GQA_MAX_CONTEXT},
        {"rope_dim", c->rope_dim, 2, c->head_dim},
        {"rope_dim_local", c->rope_dim_local, 0, c->head_dim},
        {"per_layer_dim", c->per_layer_dim, 0, GQA_MAX_DIM / max_int(c->n_layers, 1)},
        {"q_rank", c->q_rank, 0, GQA_MAX_DIM},
        {"q_nope_dim", c->q_nope_dim, 0, GQA_MAX_HEAD_DIM - c->rope_dim},
        {"value_dim", c->value_dim, 0, GQA_MAX_HEAD_DIM},
    };
    const float_range floats[] = {
        {"rope_theta", c->rope_theta, 1e-3f, 1e12f},
        {"norm_eps", c->norm_eps, 1e-20f, 1.0f},
        {"rope_factor", c->rope_factor, 1e-3f, 1e6f},
        {"rope_attn_factor", c->rope_attn_factor, 1e-3f, 1e3f},
        {"rope_theta_local", c->rope_theta_local, 0, 1e12f},
        {"attention_scale", c->attention_scale, 0, 1e6f},
        {"attention_softcap", c->attention_softcap, 0, 1e6f},
        {"attention_temperature", c->attention_temperature, 0, 1e3f},
        {"embedding_scale", c->embedding_scale, 0, 1e6f},
        {"residual_scale", c->residual_scale, 0, 1e6f},
        {"logit_scale", c->logit_scale, 0, 1e6f},
        {"logit_softcap", c->logit_softcap, 0, 1e6f},
    };
    int status = check_int_ranges(ints, array_length(ints), path, err);
    return status ? status : check_float_ranges(floats, array_length(floats), path, err);
}

static int check_yarn_ranges(const gqa_config *c, const char *path, gqa_error *err) {
    const int_range context = {"rope_orig_context", c->rope_orig_context, 1, GQA_MAX_CONTEXT};
    const float_range floats[] = {
        {"rope_beta_fast", c->rope_beta_fast, 1e-3f, 1e6f},
        {"rope_beta_slow", c->rope_beta_slow, 1e-3f, 1e6f},
        {"rope_theta (yarn)", c->rope_theta, 1.0001f, 1e12f},
    };
    int status = check_int_ranges(&context, 1, path, err);
    return status ? status : check_float_ranges(floats, array_length(floats), path, err);
}

int gqa_config_validate(const gqa_config *c, const char *path, gqa_error *err) {
    int status = check_ranges(c, path, err);
    if (status) return status;
    if (c->n_heads % c->n_kv_heads)
        return gqa_fail_path(path, err, GQA_ERR_FORMAT,
                             "n_heads %d is not a multiple of n_kv_heads %d", c->n_heads,
                             c->n_kv_heads);
    if (c->head_dim % 2 || c->rope_dim % 2 || c->rope_dim_local % 2)
        return gqa_fail_path(path, err, GQA_ERR_FORMAT, "head_dim %d and rope_dim %d must be even",
                             c->head_dim, c->rope_dim);
    if (c->n_heads > GQA_MAX_DIM / c->head_dim)
        return gqa_fail_path(path, err, GQA_ERR_FORMAT, "n_heads %d * head_dim %d exceeds %d",
                             c->n_heads, c->head_dim, GQA_MAX_DIM);
    if (c->latent_dim && (c->n_kv_heads != 1 || c->latent_dim != c->head_dim - c->rope_dim))
        return gqa_fail_path(path, err, GQA_ERR_FORMAT, "latent_dim %d with %d KV heads of %d and "
                             "rope_dim %d", c->latent_dim, c->n_kv_heads, c->head_dim, c->rope_dim);
    if (c->tied_kv && (c->head_dim % 16 || c->rope_dim * 2 != c->head_dim || c->latent_dim))
        return gqa_fail_path(path, err, GQA_ERR_FORMAT, "grouped-tied attention: head_dim %d and "
                             "rope_dim %d, expected a multiple of 16 and half of it", c->head_dim,
                             c->rope_dim);
    int head_dim = max_int(c->q_nope_dim + c->rope_dim, c->value_dim);
    if (c->latent_dim && c->n_heads > GQA_MAX_DIM / head_dim)
        return gqa_fail_path(path, err, GQA_ERR_FORMAT, "n_heads %d * %d exceeds %d", c->n_heads,
                             head_dim, GQA_MAX_DIM);
    return c->rope_scaling == GQA_ROPE_YARN ? check_yarn_ranges(c, path, err) : 0;
}
