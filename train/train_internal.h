/* train_internal.h: the inside of a trainer. */
#ifndef GQA_TRAIN_INTERNAL_H
#define GQA_TRAIN_INTERNAL_H

#include "../kernels/kernels.h"
#include "../kernels/team.h"
#include "../base/base.h"
#include "../base/random.h"
#include "train.h"

/* One tensor of a model: [rows, cols] at offset in its flat array of weights. Vectors have rows 1 and no decay. */
typedef struct weight {
    char name[GQA_TENSOR_NAME + 1];
    int rows, cols;
    size_t offset;
} weight;

/* Offsets of a layer's tensors. Q, K, V follow each other, and so do gate and up: each is one matrix in a product. */
typedef struct layer_offsets {
    size_t attn_norm, wqkv, wo, ffn_norm, wgu, wdown;
} layer_offsets;

/* What one layer keeps of the forward pass for the backward pass; n tokens. */
typedef struct layer_acts {
    float *x;         /* [n, dim] its input */
    float *normed;    /* [n, dim] */
    float *qkv;       /* [n, qkv_dim] Q and K rotated */
    float *att;       /* [n, q_dim] */
    float *lse;       /* [n, n_heads] log-sum-exp of the attention scores */
    float *mid;       /* [n, dim] after attention */
    float *normed2;   /* [n, dim] */
    float *gu;        /* [n, 2 ffn_dim] gate, up */
    float *hidden;    /* [n, ffn_dim] */
} layer_acts;

/* Weights and activations of a model; a teacher has no gradients. */
typedef struct net {
    gqa_config config;
    int q_dim, kv_dim, qkv_dim;
    weight *weights;
    int n_weights;
    layer_offsets *layers;
    size_t embedding, output_norm, classifier;  /* offsets; classifier == embedding when tied */
    size_t n_params;
    float *params, *grads;     /* [n_params] */
    int max_tokens, length;
    layer_acts *acts;          /* [n_layers] */
    float *x;                  /* [max_tokens, dim] after the last layer */
    float *final;              /* [max_tokens, dim] normed */
    float *rope;               /* [length, head_dim]: cos, sin; then the same with sin negated, for the way back */
    float *memory;             /* where acts, x, final, rope lie */
    size_t memory_bytes;
} net;

/* Buffers of the backward pass. */
typedef struct backward {
    float *dx;        /* [n, dim] */
    float *dnormed;   /* [n, dim] */
    float *dqkv;      /* [n, qkv_dim] */
    float *datt;      /* [n, q_dim] */
    float *dgu;       /* [n, 2 ffn_dim] */
    float *dhidden;   /* [n, ffn_dim] */
    float *partial;   /* [n / NORM_TOKENS, dim]: sums of norm weight gradients */
    float *logits;    /* [LOSS_TOKENS, vocab_size] */
    float *teacher;   /* the same of the teacher */
    double *loss;     /* [n] */
    float *memory;
    size_t memory_bytes;
} backward;

enum {
    ROW_TOKENS = 32,      /* tokens a unit of elementwise work */
    NORM_TOKENS = 64,     /* tokens a partial sum of norm gradients */
    LOSS_TOKENS = 1024,   /* tokens whose logits exist at once */
    ATTENTION_ROWS = 256, /* rows of scores (positions x heads of a group) a block, at most */
    ATTENTION_SPAN = 64,  /* positions a block, at most */
    SUM_VALUES = 16384    /* weights a partial sum of the gradient's norm */
};

/* What is dropped in a step: of each value of the embeddings (site 0) and of the outputs of attention (1 + 2 layer) and of
 * the feed-forward net (2 + 2 layer), before they join the residual stream (Vaswani et al. 2017, section 5.4). */
typedef struct dropout {
    float share;           /* 0: nothing is dropped */
    uint64_t key;          /* of the step */
    size_t first;          /* number of the pass's first token in the step */
} dropout;

/* One pass over n sequences of net->length tokens. */
typedef struct pass {
    const gqa_kernels *k;
    net *net, *teacher;    /* teacher NULL: none */
    backward *b;               /* NULL: forward only */
    int n, tokens;         /* sequences; n * length */
    const int32_t *input;  /* [n, length + 1] */
    float grad_scale;      /* 1 / tokens of the whole step; 0: no gradients */
    float distill;
    dropout drop;
    float *all_logits;     /* NULL, or [tokens, vocab_size] to fill */
    void **scratch;        /* [threads]: of sgemm, then of attention */
    double *loss;          /* [tokens] */
} pass;

struct gqa_trainer {
    gqa_train_options opt;
    const gqa_kernels *k;
    gqa_team *team;
    int n_threads;
    void **scratch;
    size_t scratch_bytes;
    net net, teacher;
    int has_teacher;
    backward back;
    float *m, *v;          /* [n_params] AdamW's moments */
    double *sums;          /* partial sums of the gradient's norm */
    int32_t *input;        /* [micro_batch, length + 1] */
    int step;
};

/* A matrix product for train_products(): C [m, n] = or += A B, strides as in gqa_kernels.sgemm. */
typedef struct gemm {
    int m, n, k;
    const float *A;
    size_t a_row, a_col;
    const float *B;
    size_t b_row, b_col;
    float *C;
    size_t ldc;
    int accumulate;
} gemm;
/* Computes them all, shared out over the team, and waits for everybody. */
void train_products(gqa_worker *w, const pass *p, const gemm *g, int n);

/* dataset.c: the next document of text[len], without white space at its ends; *at starts at 0. 0 past the last. */
int train_next_document(const char *text, size_t len, size_t *at, gqa_bytes *doc);

/* dropout.c: factors [n] of the columns from, ... of a token: 0, or 1 / (1 - share) so that the mean stays. They follow from
 * the step's key, the site, the token's number in the step and the column. */
uint64_t train_dropout_key(uint64_t seed, int step);
void train_dropout_factors(const dropout *d, int site, size_t token, int from, float *factors, int n);
/* out [n, dim] = or, with add, += x [n, dim] times the factors, for the tokens token0, ... of a pass; out may be x. */
void train_dropout_rows(const dropout *d, int site, int token0, int n, const float *x, float *out, int dim, int add);

/* net.c */
int train_net_init(net *n, const gqa_config *config, int length, int max_tokens, int with_grads, gqa_error *err);
void train_net_free(net *n);
void train_net_randomise(net *n, uint64_t seed);
int train_net_load(net *n, const gqa_checkpoint *c, gqa_error *err);
int train_back_init(backward *b, const net *n, int with_teacher, gqa_error *err);
void train_back_free(backward *b);

/* optim.c */
double train_rate(const gqa_train_options *o, int step);
size_t train_sum_units(const net *n);                   /* partial sums of the gradient's norm */
double train_grad_norm(gqa_worker *w, gqa_trainer *t);  /* every thread gets it */
void train_update(gqa_worker *w, gqa_trainer *t, double grad_norm);

/* forward.c, loss.c, backward.c, attention.c: parts of a pass; every thread of the team calls them. */
void train_pass_forward(gqa_worker *w, const pass *p, net *n);
void train_pass_loss(gqa_worker *w, const pass *p);
void train_pass_backward(gqa_worker *w, const pass *p);
size_t train_attention_scratch_floats(const net *n);
/* Attention of one sequence and KV head (unit = sequence * n_kv_heads + KV head) of a layer. */
void train_attention_forward(const pass *p, const net *n, const layer_acts *a, int unit, int thread);
void train_attention_backward(const pass *p, const layer_acts *a, int unit, int thread);
/* Rotates Q and K of all tokens of qkv; back: the other way. */
void train_rotate(const pass *p, const net *n, float *qkv, int token0, int token1, int back);

#endif
