/* reference.h: what the runtime must compute, written a second time: naive loops in double
 * precision, K and V heads repeated out to one for each query head, no cache, no tiles, no code
 * shared with the library. It takes plain arrays, so that nothing of the library's own reading of
 * a file can leak into it. */
#ifndef GQA_TEST_REFERENCE_H
#define GQA_TEST_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

/* A weight matrix [rows, cols] by rows. planes: the runtime multiplies it with activations rounded
 * to int8 in blocks of 32 (1), or with those and what they leave, rounded again (2), and so does
 * the reference; 0: with activations as they are. */
typedef struct ref_matrix {
    const float *w;
    int rows, cols, planes;
} ref_matrix;

typedef struct ref_layer {
    const float *attn_norm, *ffn_norm; /* [dim] */
    ref_matrix wq, wk, wv;             /* [q_dim, dim], [kv_dim, dim], [kv_dim, dim] */
    ref_matrix wo;                     /* [dim, q_dim] */
    ref_matrix w_gate, w_up, w_down;   /* [ffn, dim], [ffn, dim], [dim, ffn] */
    const float *bq, *bk, *bv;         /* NULL: none */
    const float *q_norm, *k_norm;      /* [head_dim], or [q_dim] and [kv_dim]; NULL: none */
    const float *attn_post_norm, *ffn_post_norm; /* [dim]; NULL: none */
    int sees_all;                      /* whatever the model's window is */
    int no_rope;
    double local_theta;                /* rotates by this base, unscaled; 0: as the model says */
    int head_dim, rope_dim;            /* 0: the model's */
    int kv_layer;                      /* 1 + the layer whose K and V it uses; 0: has its own */
    ref_matrix layer_gate, layer_proj; /* [per_layer, dim], [dim, per_layer] */
    const float *layer_norm;           /* [dim] */
    const float *scale;                /* [1] of the layer's output; NULL: 1 */
    ref_matrix wq_b;                   /* latent attention: [n_heads * head_dim, q_rank]; cols 0:
                                        * wq is the whole product */
    const float *q_rank_norm, *latent_norm; /* [q_rank], [latent] */
    ref_matrix wk_b, wv_b;             /* of one head; [n_heads, latent, q_nope] and
                                        * [n_heads, value, latent] are stored */
} ref_layer;

typedef enum ref_scaling { REF_PLAIN, REF_LINEAR, REF_YARN } ref_scaling;

/* How K and V are rounded. */
typedef enum ref_cache { REF_EXACT, REF_F16, REF_BF16, REF_Q8_0, REF_Q4_0 } ref_cache;

typedef struct ref_model {
    int dim, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, vocab;
    int window;                        /* positions seen, the query's own included; 0: all */
    int rope_dim, rope_half;           /* rope_half 0: pairs (2i, 2i+1); 1: (i, i + rope_dim/2) */
    double rope_theta, norm_eps;
    enum { REF_NORM_BEFORE, REF_NORM_ROWS, REF_NORM_AFTER } qk_norm; /* where RoPE is; ROWS: over
                                        * all heads at once */
    int gelu;                          /* 0: silu */
    double embedding_scale, residual_scale, logit_divisor; /* 0: 1 */
    double score_scale;                /* 0: 1 / sqrt(head_dim) */
    double score_cap, logit_cap;       /* 0: none */
    double temperature;                /* of queries, by their position over orig_context */
    double yarn_log_mul;
    int norm_v;                        /* V passes a norm without weights */
    int latent, q_nope, value;         /* latent attention: wk gives latent + rope_dim numbers, of
                                        * which each head's key [q_nope + rope_dim] and value are
                                        * made; 0: none */
    int tied;                          /* grouped-tied attention: wk gives each KV head a row, its
                                        * value; its key is the first half of it, then the rotated
                                        * numbers that wv gives for all heads */
    ref_scaling scaling;               /* REF_PLAIN uses attn_factor only of the next five */
    double factor, attn_factor, beta_fast, beta_slow, orig_context;
    const float *rope_factors;         /* [rope_dim/2] divisors of the frequencies; NULL: none */
    ref_cache cache, v_cache;          /* of keys; of values */
    const float *embedding;            /* [vocab, dim] */
    const float *drop;                 /* [1 + 2 layers, n, dim] factors of embeddings and of what
                                        * attention and feed-forward nets add; NULL: none */
    int per_layer;                     /* width of what a token gives each layer; 0: none */
    const float *layers_embedding;     /* [vocab, n_layers, per_layer] */
    ref_matrix layers_proj;            /* [n_layers * per_layer, dim] */
    const float *layers_proj_norm;     /* [per_layer] */
    const float *output_norm;          /* [dim] */
    ref_matrix classifier;             /* [vocab, dim] */
    ref_layer *layers;                 /* [n_layers] */
} ref_model;

/* Logits after every one of tokens[n]: writes logits [n, vocab]. */
void ref_forward(const ref_model *m, const int32_t *tokens, int n, double *logits);

/* Values of n stored numbers of a GGML type, by its number in the file; n is a multiple of the
 * block. Returns -1 for a type that it does not know. */
int ref_dequantize(int type, const void *stored, float *out, size_t n);

/* The largest difference between got [n] and want [n], in units of want's root mean square.
 * Infinite if one of them is not finite somewhere. */
double ref_distance(const float *got, const double *want, size_t n);

#endif
