/* model_internal.h: the inside of gqa_model and gqa_session, for the files that compute with them. */
#ifndef GQA_MODEL_INTERNAL_H
#define GQA_MODEL_INTERNAL_H

#include <stdatomic.h>

#include "../formats/checkpoint.h"
#include "../kernels/kernels.h"
#include "../kernels/team.h"
#include "../vocab/tokenizer.h"

/* One transformer block. Matrices are [rows = outputs, cols = inputs]; vectors are f32 copies, NULL when absent. */
typedef struct gqa_layer {
    const float *attn_norm;          /* [dim] */
    gqa_matrix wq, wk, wv;           /* [q_dim, dim], [kv_dim, dim], [kv_dim, dim] */
    const float *bq, *bk, *bv;       /* [q_dim], [kv_dim], [kv_dim] */
    const float *q_norm, *k_norm;    /* [head_dim], shared by all heads */
    gqa_matrix wo;                   /* [dim, q_dim] */
    const float *ffn_norm;           /* [dim] */
    gqa_matrix w_gate, w_up, w_down; /* [ffn_dim, dim], [ffn_dim, dim], [dim, ffn_dim] */
} gqa_layer;

struct gqa_model {
    gqa_checkpoint file;
    gqa_map map, tokenizer_map;      /* empty for a model from memory */
    gqa_map packed_map;              /* of a file written by gqa_model_save_packed; empty: packed is memory */
    gqa_vocab *vocab;                /* NULL: none */
    gqa_config config;
    const gqa_kernels *kernels;
    int has_weights;
    gqa_layer *layers;               /* [n_layers] */
    gqa_matrix embedding;            /* [vocab_size, dim]; rows are read raw */
    const float *output_norm;        /* [dim] */
    gqa_matrix classifier;           /* [vocab_size, dim]; the embedding when tied */
    double *rope_freq;               /* [rope_dim / 2] radians a position, scaling applied */
    float rope_magnitude;            /* factor on cos and sin (YaRN) */
    float *vectors;                  /* memory of all the f32 vectors above */
    uint8_t *packed;                 /* memory of the packed matrices */
    size_t packed_bytes;
    gqa_model_stats stats;
    char type_name[64];
};

/* Every matrix of the model: wq of layer 0 first, the classifier last. NULL past the end. */
enum { GQA_LAYER_MATRICES = 7 };
gqa_matrix *gqa_model_matrix(gqa_model *m, int index);

/* model_bind.c: finds, checks and binds all tensors of m->file, copies vectors, fills stats. */
int gqa_model_bind(gqa_model *m, gqa_error *err);
/* model_pack.c: gives every matrix its packed form: from the file PATH.packed if one of this model is there (path NULL: none),
 * or made on n_threads threads. */
int gqa_model_pack(gqa_model *m, const char *path, const gqa_model_options *opt, gqa_error *err);
void gqa_model_unpack(gqa_model *m); /* gives them up */

/* fingerprint.c: tells one model from another: every tensor's name, type and shape, and 64 bytes from its middle. */
uint64_t gqa_model_fingerprint(const gqa_model *m);
uint64_t gqa_hash(uint64_t h, const void *data, size_t size); /* FNV-1a over 64-bit words, the rest by bytes */

/* Buffers for one pass of up to `rows` tokens through the model; all token-major. */
typedef struct gqa_scratch {
    int rows;                /* tokens a pass */
    float *x;                /* [rows, dim] residual stream */
    float *h;                /* [rows, dim] normalised input of a block, then its output */
    float *q, *k, *v;        /* [rows, q_dim], [rows, kv_dim], [rows, kv_dim] */
    float *attn;             /* [rows, q_dim] */
    float *gate, *up;        /* [rows, ffn_dim] */
    float *cos_sin;          /* [rows, rope_dim] */
    float *parts;            /* [decode_rows, n_kv_heads, max_parts] attention parts */
    int max_parts;
    float *logits;           /* [decode_rows, vocab_size] */
    gqa_acts a_dim, a_q, a_ffn; /* int8 forms of h, attn, gate */
    uint8_t *thread;         /* [n_threads] blocks of thread_bytes */
    size_t thread_bytes;
} gqa_scratch;

enum { GQA_DECODE_ROWS = 64 };  /* sessions a batched decoding pass */

struct gqa_session {
    const gqa_model *model;
    gqa_team *team;
    int n_threads;
    int context, position;
    int high;                /* one past the highest position ever written since the session was empty */
    int has_logits;
    int32_t *tokens;         /* [context] */
    gqa_kv *kv;              /* [n_layers] */
    uint8_t *cache;          /* memory of all layers' tiles */
    size_t cache_bytes;
    void *memory;            /* memory of scratch, tokens, logits */
    size_t memory_bytes;
    float *logits;           /* [vocab_size] */
    gqa_scratch scratch;
    atomic_int cancel;
    /* NULL, or told K and V [head_dim] of every KV head, position and layer before biases and RoPE (convert/align.c). Called
     * by several threads at once, each for its own. */
    void (*watch)(void *user, int layer, int position, int kv_head, const float *k, const float *v);
    void *watch_user;
};

/* One pass: n rows; row i is tokens[i] at positions[i] of sessions[i] (or of session when sessions is NULL: then the
 * positions follow each other). Scratch and team are those of `session`, and so is what cancels, when cancel is NULL. Logits of the last n_out rows go to
 * logits [n_out, vocab_size]; n_out may be 0. 0, or GQA_ERR_CANCELLED. */
typedef struct gqa_pass {
    gqa_session *session;
    atomic_int *cancel;
    gqa_session **sessions;
    const int32_t *tokens;
    const int *positions;
    int n, n_out;
    float *logits;
} gqa_pass;
int gqa_forward(gqa_pass *pass);

/* session.c */
int gqa_session_ring(const gqa_session *s); /* positions the cache can hold at once */

#endif
