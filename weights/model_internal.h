/* model_internal.h: the struct that the forward pass reads, and the functions that fill it. */
#ifndef GQA_MODEL_INTERNAL_H
#define GQA_MODEL_INTERNAL_H

#include <stdatomic.h>

#include "../formats/checkpoint.h"
#include "../kernels/kernels.h"
#include "../vocab/tokenizer.h"

/* One transformer block. Matrices are [rows = outputs, cols = inputs]; vectors are f32 copies,
 * NULL when absent. */
typedef struct gqa_layer {
    gqa_layer_config config;
    size_t head_dim, q_dim, kv_dim, ffn_dim; /* as in config, for strides */
    size_t value_dim;                /* of attention's output a head: head_dim, or latent_dim */
    int group;                       /* query heads per KV head */
    const float *attn_norm;          /* [dim] */
    gqa_matrix wq, wk, wv;           /* [q_dim, dim], [kv_dim, dim], [kv_dim, dim]; gemma4: no wv
                                      * (rows 0) where V is K, neither where both are shared */
    const float *bq, *bk, *bv;       /* [q_dim], [kv_dim], [kv_dim] */
    const float *q_norm, *k_norm;    /* [head_dim], shared by all heads; or [q_dim], [kv_dim] */
    gqa_matrix wo;                   /* [dim, q_dim] */
    const float *attn_post_norm;     /* [dim] */
    const float *ffn_norm;           /* [dim] */
    gqa_matrix w_gate, w_up, w_down; /* [ffn_dim, dim], [ffn_dim, dim], [dim, ffn_dim] */
    const float *ffn_post_norm;      /* [dim] */
    gqa_matrix per_layer_gate;       /* [per_layer_dim, dim] */
    gqa_matrix per_layer_proj;       /* [dim, per_layer_dim] */
    const float *per_layer_norm;     /* [dim] */
    const float *output_scale;       /* [1] */
    /* Latent attention: wq is [q_rank, dim] (then wq_b [n_heads * query, q_rank]) or
     * [n_heads * query, dim], query = q_nope_dim + rope_dim; wk [head_dim, dim] gives the row. */
    gqa_matrix wq_b;
    gqa_matrix wk_b;                 /* [n_heads, latent_dim, q_nope_dim]: queries to the latent */
    gqa_matrix wv_b;                 /* [n_heads, value_dim, latent_dim]: values out of it */
    const float *q_rank_norm, *latent_norm; /* [q_rank], [latent_dim] */
    /* Grouped-tied attention: wk [kv_dim, dim] gives the heads' rows, wv [rope_dim, dim] the part
     * of keys that they share. */
} gqa_layer;

/* The rotations that some layers share. */
typedef struct gqa_rope_table {
    int dim;                         /* leading dimensions of a head that it rotates */
    double *freq;                    /* [dim / 2] radians per position; NULL: no such layers */
    float magnitude;                 /* factor on cos and sin */
} gqa_rope_table;
enum {
    GQA_ROPE_MODEL,                  /* layers with GQA_LAYER_ROPE_MODEL */
    GQA_ROPE_LOCAL,                  /* with GQA_LAYER_ROPE_LOCAL */
    GQA_ROPE_LONG,                   /* the first, in sessions longer than rope_orig_context */
    GQA_ROPE_TABLES
};

struct gqa_model {
    gqa_checkpoint file;
    gqa_map map, tokenizer_map;      /* empty for a model from memory */
    gqa_map packed_map;              /* of a file of gqa_model_save_packed; empty: not mapped */
    gqa_vocab *vocab;                /* NULL: none */
    gqa_config config;
    const gqa_kernels *kernels;
    size_t vocab_size;               /* as in config; 0 without weights */
    int last_kv_layer;               /* that makes keys and values; those after it share them */
    int has_weights;
    gqa_layer *layers;               /* [n_layers] */
    gqa_matrix embedding;            /* [vocab_size, dim]; rows are read raw */
    const float *output_norm;        /* [dim] */
    gqa_matrix classifier;           /* [vocab_size, dim]; the embedding when tied */
    gqa_matrix per_layer_embedding;  /* [vocab_size, n_layers * per_layer_dim]; read raw */
    gqa_matrix per_layer_model;      /* [n_layers * per_layer_dim, dim] */
    const float *per_layer_model_norm; /* [per_layer_dim] */
    gqa_rope_table rope[GQA_ROPE_TABLES];
    int max_group;                   /* query heads a KV head, in the layer with most */
    float *vectors;                  /* storage for all the f32 vectors above */
    uint8_t *packed;                 /* storage for the packed matrices */
    size_t packed_bytes;
    _Alignas(8) _Atomic uint64_t hash; /* of gqa_model_fingerprint; 0: not taken yet */
    gqa_model_stats stats;
    char type_name[64];
};

/* Every matrix of the model: wq of layer 0 first, after the layers the classifier and gemma4's
 * product of embeddings for each layer. NULL past the end; rows 0: the layer has no such. */
enum { GQA_LAYER_MATRICES = 12 };
gqa_matrix *gqa_model_matrix(gqa_model *m, int index);

/* bind.c: checks that the checkpoint has every tensor that its config calls for, each of the right
 * shape, and no other: what computes with the tensors calls it first. */
int gqa_check_tensors(const gqa_checkpoint *c, gqa_error *err);
/* bind.c: finds, checks and binds all tensors of m->file, copies vectors, fills stats. */
int gqa_model_bind(gqa_model *m, gqa_error *err);
/* rope.c: fills m->rope. Factors [rope_dim / 2] divide frequencies; NULL: none. */
typedef struct gqa_rope_factors {
    const float *all, *in_short, *in_long; /* whatever the context, or by it (phi3) */
} gqa_rope_factors;
int gqa_model_make_rope(gqa_model *m, const gqa_rope_factors *factors, gqa_error *err);
/* pack.c: gives every matrix its packed form: from the file PATH.packed if there is one and it
 * belongs to this model (path NULL: none), or made on n_threads threads. */
int gqa_model_pack(gqa_model *m, const char *path, const gqa_model_options *opt, gqa_error *err);
void gqa_model_unpack(gqa_model *m); /* frees them */
/* Maps PATH.packed for a model without packed weights once all of it has been checked. */
int gqa_model_verify_packed(gqa_model *m, const char *path, gqa_error *err);

/* tokenizer.c: what the functions of model.h with similar names do for a model, for a vocabulary
 * alone. is_content [len] is nonzero for bytes that people wrote, which are in no special token;
 * NULL: for none. */
int gqa_vocab_tokenize(const gqa_vocab *v, const char *text, const unsigned char *is_content,
                       size_t len, unsigned flags, int32_t *out, int cap, gqa_error *err);
int gqa_vocab_token_bytes(const gqa_vocab *v, int32_t token, char *out, int cap);
int gqa_vocab_token_name(const gqa_vocab *v, int32_t token, char *out, int cap);
/* gqa_tokenize_new with is_content. */
int gqa_tokenize_marked(const gqa_model *m, const char *text, const unsigned char *is_content,
                        size_t len, unsigned flags, int32_t **out, gqa_error *err);

/* fingerprint.c: what a file that belongs to a model keeps of it: a hash of all weights and of
 * every key that changes the numbers, and the file that the model was opened from (zero: none). The
 * hash is taken once, when first asked for; any number of threads may ask. */
typedef struct gqa_fingerprint {
    uint64_t hash;
    gqa_file_id file;
} gqa_fingerprint;
gqa_fingerprint gqa_model_fingerprint(const gqa_model *m);
/* Whether the model was opened from the file named there, unchanged since: the hash need not be
 * compared. */
int gqa_same_source(const gqa_fingerprint *saved, const gqa_model *m);

#endif
