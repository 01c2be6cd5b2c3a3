/* convert.h: a checkpoint to another checkpoint: fewer KV heads (Ainslie et al. 2023, "GQA",
 * section 2.1), or each repeated; other element types; llama2.c to GGUF. Tensors stream through
 * one at a time.
 *
 *     K and V heads   0 1 2 3 | 4 5 6 7      of a layer, MHA: one for each query head
 *                     \_ _ _/   \_ _ _/      groups of n_kv_heads / G neighbours are pooled
 *     pooled heads       0         1         GQA with G = 2
 *
 * Pooling raw heads loses much: independent heads are nearly orthogonal, so their mean is small
 * and points nowhere. Before pooling, GQA_POOL_ALIGNED rotates each head inside its own space so
 * that the heads of a group agree as far as they can, which changes nothing that the model
 * computes (V: any rotation R, undone in W_o; K: a rotation in each plane that RoPE rotates,
 * shared with the queries), puts heads that agree into one group, and restores the norm that
 * averaging costs. */
#ifndef GQA_CONVERT_H
#define GQA_CONVERT_H

#include "../formats/checkpoint.h"
#include "../vocab/tokenizer.h"

typedef enum gqa_pool {
    GQA_POOL_MEAN,     /* the mean of the group: the paper's choice */
    GQA_POOL_FIRST,    /* its first head */
    GQA_POOL_RANDOM,   /* new random heads of the same size */
    GQA_POOL_RENORM,   /* the mean, scaled to the mean norm of its members */
    GQA_POOL_ALIGNED   /* rotated and regrouped, then as RENORM */
} gqa_pool;
/* "mean", "first", "random", "renorm", "aligned"; -1: none of them. */
int gqa_pool_from_name(const char *name);
const char *gqa_pool_name(gqa_pool pool);

/* Keys and values that a model computed on some text, before RoPE: what alignment compares. */
typedef struct gqa_kv_samples {
    size_t n_layers, n, head_dim, kv_dim;
    float *k, *v;              /* [n_layers, n, kv_dim] */
} gqa_kv_samples;
/* Runs the first tokens[n] through the model, at most its context; gqa_kv_samples_free
 * afterwards. */
int gqa_kv_samples_take(gqa_kv_samples *out, const gqa_model *model, const int32_t *tokens, int n,
                        gqa_error *err);
void gqa_kv_samples_free(gqa_kv_samples *s);

typedef struct gqa_convert_options {
    int kv_heads;              /* divides the file's, or repeats each; 0: keep them */
    gqa_pool pool;
    int type;                  /* gqa_type of matrices; -1: keep each one's */
    int is_mixture;            /* type is Q4_K: the mixture q4_k_m, as llama.cpp composes it */
    const gqa_kv_samples *samples; /* for GQA_POOL_ALIGNED; NULL: compare the weights themselves */
    uint64_t seed;             /* of GQA_POOL_RANDOM */
    int n_threads;             /* 0: one per physical core; the result does not depend on it */
    int keep_heads;            /* rotate and regroup only: the same function (for tests) */
    const gqa_vocab *vocab;    /* written when the source has no metadata of its own (llama2.c) */
    const char *provenance;    /* "gqa.convert.command"; NULL: none */
    gqa_on_progress on_progress;
    void *user;
} gqa_convert_options;

/* Whether a model can get so many KV heads (0: its own): a divisor of its own by pooling; by
 * repeating each, which changes nothing that it computes, a multiple that divides n_heads. */
int gqa_can_have_kv_heads(const gqa_config *c, int n);

/* Writes the result to path, atomically; or, with path NULL, to memory: *data (free it), *size. */
int gqa_convert(const gqa_checkpoint *c, const gqa_convert_options *opt, const char *path,
                uint8_t **data, size_t *size, gqa_error *err);

#endif
