/* train_internal.h: the inside of a trainer. */
#ifndef GQA_TRAIN_INTERNAL_H
#define GQA_TRAIN_INTERNAL_H

#include <stdatomic.h>

#include "../base/base.h"
#include "../base/random.h"
#include "../kernels/kernels.h"
#include "../kernels/team.h"
#include "train.h"

enum {
    ROW_TOKENS = 32,      /* tokens per unit of elementwise work */
    NORM_TOKENS = 64,     /* tokens per partial sum of the norms' gradients */
    LOSS_TOKENS = 1024,   /* tokens whose logits exist at once */
    ATTENTION_ROWS = 256, /* rows of scores (positions x heads of a group) per block, at most */
    ATTENTION_SPAN = 64,  /* positions per block, at most */
    SUM_VALUES = 16384    /* weights per partial sum of the gradient's norm */
};

/* ---- the network ----------------------------------------------------------------------------- */

/* One tensor: [heads, rows, cols] at offset in the flat array of weights. heads is 1 but for
 * attn_k_b and attn_v_b. Norms are vectors: rows 1. */
typedef struct weight {
    char name[GQA_TENSOR_NAME + 1];
    int heads, rows, cols;
    size_t offset, count; /* count: heads * rows * cols */
} weight;

/* Offsets of a layer's tensors. Q, K, V (MLA, GTA: Q and the cached row) follow each other, and so
 * do gate and up: each is one matrix in a product. */
typedef struct layer_offsets {
    size_t attn_norm, wqkv, wo, ffn_norm, w_gate_up, w_down;
    size_t latent_norm, wk_b, wv_b; /* of MLA */
} layer_offsets;

/* What one layer keeps of the forward pass for the backward pass. */
typedef struct layer_acts {
    float *x;         /* [tokens, dim] its input */
    float *normed;    /* [tokens, dim] norm(x) */
    float *qkv;       /* [tokens, qkv_dim] Q and K rotated */
    float *attn;      /* [tokens, attn_dim] output of attention */
    float *lse;       /* [tokens, n_heads] log-sum-exp of the attention scores */
    float *mid;       /* [tokens, dim] x + Wo attn */
    float *normed2;   /* [tokens, dim] norm(mid) */
    float *gate_up;   /* [tokens, 2 ffn_dim] gate, then up */
    float *hidden;    /* [tokens, ffn_dim] silu(gate) * up */
} layer_acts;

/* A row of qkv, and attention over it. A product of the layer's input gives the first proj_dim
 * values, all of them for llama; expand.c makes the others of those that a position caches (the
 * ones after Q):
 *     llama  Q | K | V
 *     MLA    Q | c | k_pe | norm(c) | K | V       K = [Wk_b^T norm(c) | k_pe], V = Wv_b norm(c)
 *     GTA    Q | V | k_pe | K                     K = [first half of V | k_pe]
 * Attention then is llama's, and for MLA has as many KV heads as heads. */
typedef struct qkv_layout {
    size_t key_dim, value_dim;   /* of a head */
    size_t nope_dim, rope_dim;   /* of key_dim: not rotated, and the rotated ones after them */
    size_t n_heads, n_kv_heads;
    size_t row, shared, normed, k, v; /* where c, k_pe (llama: K), norm(c), K, V start */
    size_t n_rotated;            /* keys to rotate, from `shared` on */
    size_t latent_dim;           /* MLA; else 0 */
    size_t proj_dim, qkv_dim;
    size_t q_dim, attn_dim;      /* n_heads * key_dim, n_heads * value_dim */
} qkv_layout;

/* Weights and activations of a model; a teacher has no gradients. */
typedef struct network {
    gqa_config config;
    size_t dim, ffn_dim, vocab_size; /* those of config that strides are made of */
    qkv_layout qkv;
    size_t length, max_tokens;
    weight *weights;
    int n_weights;
    layer_offsets *layers;
    size_t embedding, output_norm, classifier;  /* offsets; classifier == embedding when tied */
    size_t n_params;
    int overflow;              /* more weights than a size holds: refused */
    float *params, *grads;     /* [n_params] */
    layer_acts *acts;          /* [n_layers] */
    float *x;                  /* [max_tokens, dim] output of the last layer */
    float *final;              /* [max_tokens, dim] norm(x) */
    float *rope;               /* [2, length, rope_dim]: cos, sin; then cos, -sin, the inverse */
    float *memory;             /* storage for acts, x, final, rope */
    size_t memory_bytes;
} network;

qkv_layout train_qkv_layout(const gqa_config *c);
int train_net_init(network *net, const gqa_config *config, const gqa_train_options *o,
                   int with_grads, gqa_error *err);
void train_net_free(network *net);
void train_net_randomise(network *net, uint64_t seed);
int train_net_load(network *net, const gqa_checkpoint *c, gqa_error *err);

/* Buffers of the backward pass: gradients of the activations of the same name. */
typedef struct backward_acts {
    float *dx;        /* [tokens, dim] of the residual stream */
    float *dnormed;   /* [tokens, dim] */
    float *dqkv;      /* [tokens, qkv_dim] */
    float *dattn;     /* [tokens, attn_dim] */
    float *dgate_up;  /* [tokens, 2 ffn_dim] */
    float *dhidden;   /* [tokens, ffn_dim] */
    float *partial;   /* [tokens / NORM_TOKENS, dim or latent_dim] partial sums of the norms'
                       * gradients */
    float *logits;    /* [LOSS_TOKENS, vocab_size], then their gradient */
    float *teachers;  /* [LOSS_TOKENS, vocab_size] the sum of the teachers' logits */
    double *loss;     /* [tokens] */
    float *memory;
    size_t memory_bytes;
} backward_acts;

int train_back_init(backward_acts *back, const network *net, int with_teachers, gqa_error *err);
void train_back_free(backward_acts *back);

/* ---- a pass ---------------------------------------------------------------------------------- */

/* Dropout in a step (Vaswani et al. 2017, section 5.4), before the residual addition: of the
 * embeddings (site 0), of attention's output (site 1 + 2 layer) and of the feed-forward network's
 * (site 2 + 2 layer). */
typedef struct dropout {
    float share;           /* 0: no dropout */
    uint64_t key;          /* of the step */
    size_t first;          /* index of the pass's first token in the step */
} dropout;

/* dropout.c: factors [n] of the columns from `from` on of a token: 0, or 1 / (1 - share) so that
 * the mean stays. They follow from the step's key, the site, the token's index in the step and the
 * column. */
uint64_t train_dropout_key(uint64_t seed, int step);
void train_dropout_factors(const dropout *d, int site, size_t token, size_t from, float *factors,
                           size_t n);
/* out [n, dim] = or, with add, += x [n, dim] times the factors, for n tokens of a pass from `token`
 * on; out may be x. */
void train_dropout_rows(const dropout *d, int site, size_t token, size_t n, const float *x,
                        float *out, size_t dim, int add);

/* One pass over n sequences of net->length tokens. */
typedef struct pass {
    const gqa_kernels *k;
    network *net, *teachers; /* [n_teachers] */
    int n_teachers;
    backward_acts *back;
    int n, tokens;          /* sequences; n * length */
    const int32_t *input;   /* [n, length + 1] */
    float grad_scale;       /* 1 / tokens of the whole step; 0: no gradients */
    float distill;
    dropout drop;
    float *all_logits;      /* NULL, or [tokens, vocab_size] to fill */
    void **scratch;         /* [threads]: sgemm's, then attention's */
    double *loss;           /* [tokens] */
    const atomic_int *stop; /* NULL, or not 0 when the pass is to end early */
} pass;

/* Whether the pass is to end early: what it computes is of no use any more. Units of work may then
 * be left out, and phases. */
static inline int pass_stopped(const pass *p) {
    return p->stop && atomic_load_explicit(p->stop, memory_order_relaxed);
}

/* Token `index` of the pass; the one after it is its target. Sequences are length + 1 apart. */
static inline const int32_t *pass_token(const pass *p, size_t index) {
    return p->input + index + index / p->net->length;
}

/* The tokens first .. end - 1 of a unit of work, when n tokens are cut into units of `size`. */
typedef struct token_range {
    size_t first, end;
} token_range;
static inline token_range unit_tokens(int unit, size_t size, size_t n) {
    size_t first = unit * size;
    return (token_range){first, min_size(first + size, n)};
}

/* A matrix in memory: element (i, j) at data[i * row + j * col]. */
typedef struct view {
    const float *data;
    size_t row, col;
} view;
static inline view row_major(const float *data, size_t cols) { return (view){data, cols, 1}; }
static inline view transposed(const float *data, size_t cols) { return (view){data, 1, cols}; }

/* A matrix product: C [m, n] = or, with accumulate, += A [m, k] B [k, n]. */
typedef struct gemm {
    int m, n, k;
    view A, B;
    float *C;
    size_t ldc;
    int accumulate;
} gemm;
static inline void train_product(const pass *p, int thread, gemm g) {
    p->k->sgemm(g.m, g.n, g.k, g.A.data, g.A.row, g.A.col, g.B.data, g.B.row, g.B.col, g.C, g.ldc,
                g.accumulate, p->scratch[thread]);
}
/* A phase that computes n products; units of work are parts of them. */
void train_products(gqa_worker *me, const pass *p, const gemm *products, int n);

/* forward.c, loss.c, backward.c: the phases of a pass; every thread of the team calls them. */
void train_pass_forward(gqa_worker *me, const pass *p, network *net);
void train_pass_loss(gqa_worker *me, const pass *p);
void train_pass_backward(gqa_worker *me, const pass *p);

/* attention.c: attention of one sequence and KV head (unit = sequence * qkv.n_kv_heads + KV
 * head). */
uint64_t train_attention_scratch(const network *net); /* bytes per thread, sgemm's included */
void train_attention_forward(const pass *p, const network *net, const layer_acts *acts, int unit,
                             int thread);
void train_attention_backward(const pass *p, const layer_acts *acts, int unit, int thread);
/* Rotates Q and K (MLA: k_pe) of those tokens of qkv; inverse: the other way. */
void train_rotate(const pass *p, const network *net, float *qkv, token_range tokens, int inverse);

/* expand.c: the values of qkv past proj_dim. */
void train_expand_forward(gqa_worker *me, const pass *p, const network *net,
                          const layer_offsets *layer, float *qkv);
/* From dqkv's dK and dV: the gradients of the values before proj_dim (of c: 0), of norm(c), and of
 * Wk_b and Wv_b. */
void train_expand_backward(gqa_worker *me, const pass *p, const layer_offsets *layer,
                           const float *qkv);

/* ---- a trainer ------------------------------------------------------------------------------- */

struct gqa_trainer {
    gqa_train_options opt;
    const gqa_kernels *k;
    gqa_team *team;
    int n_threads;
    void **scratch;        /* [n_threads] into scratch_memory, scratch_bytes apart */
    void *scratch_memory;
    size_t scratch_bytes;
    network net, teachers[GQA_MAX_TEACHERS];
    int n_teachers;
    backward_acts back;
    float *m, *v;          /* [n_params] AdamW's moments; of Muon only m */
    double *sums;          /* partial sums of the gradient's norm */
    int32_t *input;        /* [micro_batch, length + 1] */
    int step;
    gqa_train_progress progress;
};

/* files.c: whether every matrix has rows of whole blocks of that type. */
int train_check_type(const network *net, gqa_type type, gqa_error *err);
/* optim.c */
double train_rate(const gqa_train_options *o, int step);
int train_sum_units(const network *net);                /* partial sums of the gradient's norm */
double train_grad_norm(gqa_worker *me, gqa_trainer *t); /* every thread gets it */
void train_update(gqa_worker *me, gqa_trainer *t, double grad_norm);
/* muon.c */
int train_is_muon(const gqa_trainer *t, const weight *w); /* else AdamW */
uint64_t train_muon_scratch(const gqa_trainer *t);        /* bytes a thread; 0: none */
/* A step for w, with o's rate, decay and grad_scale; its momentum is t->m. */
void train_muon(const gqa_trainer *t, const weight *w, const gqa_adamw *o, void *scratch);

/* dataset.c: the next document of text[len], without white space at its ends; *at starts at 0.
 * Returns 0 past the last. */
int train_next_document(const char *text, size_t len, size_t *at, gqa_bytes *doc);

#endif
