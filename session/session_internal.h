/* session_internal.h: the inside of gqa_session, and one pass through the model. */
#ifndef GQA_SESSION_INTERNAL_H
#define GQA_SESSION_INTERNAL_H

#include <stdatomic.h>

#include "../kernels/team.h"
#include "../weights/model_internal.h"

/* Receives K and V [head_dim] of a KV head at a position and layer, before biases and RoPE. Called by several threads at
 * once, each for its own rows. */
typedef void (*gqa_on_kv)(void *user, int layer, int position, int kv_head, const float *k, const float *v);

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
    int high_water;          /* one past the highest position ever written since the session was empty */
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
    gqa_on_kv on_kv;         /* NULL: none */
    void *on_kv_user;
};

/* One pass: n rows; row i is tokens[i] at positions[i] of sessions[i] (or of session when sessions is NULL: then the
 * positions follow each other). Scratch and team are those of `session`, and so is what cancels, when cancel is NULL. Logits of the last n_out rows go to
 * logits [n_out, vocab_size]; n_out may be 0. 0, or GQA_ERR_CANCELLED. */
typedef struct gqa_pass {
    gqa_session *session;
    atomic_int *cancel;
    gqa_session *const *sessions;
    const int32_t *tokens;
    const int *positions;
    int n, n_out;
    float *logits;
} gqa_pass;
int gqa_forward(gqa_pass *pass);

/* session.c */
int gqa_session_ring(const gqa_session *s); /* positions the cache can hold at once */
/* Shows every K and V that the session computes from now on to on_kv (convert/align.c measures heads with it); NULL: no more. */
void gqa_session_watch_kv(gqa_session *s, gqa_on_kv on_kv, void *user);

#endif
