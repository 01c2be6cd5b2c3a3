/* session_internal.h: the inside of gqa_session and gqa_workspace, and one pass through the
 * model. */
#ifndef GQA_SESSION_INTERNAL_H
#define GQA_SESSION_INTERNAL_H

#include <stdatomic.h>

#include "../kernels/team.h"
#include "../weights/model_internal.h"

enum {
    GQA_DECODE_ROWS = 64,    /* sessions of a pass; rows of it that are attended as in decoding */
    GQA_PREFILL_ROWS = 8     /* fewer rows of a session are attended like decoding, by splits */
};

/* Buffers for one pass of up to `rows` tokens through the model; all token-major. */
typedef struct gqa_scratch {
    int rows;                /* tokens a pass, at least GQA_DECODE_ROWS */
    float *x;                /* [rows, dim] residual stream */
    float *h;                /* [rows, dim] normalised input of a block, then its output */
    float *q, *k, *v;        /* [rows, q_dim], [rows, kv_dim], [rows, kv_dim] */
    float *attn;             /* [rows, wo's inputs: q_dim] */
    float *q_low, *q_heads, *q_nope, *latent; /* deepseek2 (latent.c): [rows, q_rank],
                              * [rows, n_heads, q_nope_dim + rope_dim], [rows, n_heads, q_nope_dim],
                              * [rows, n_heads, latent_dim] */
    float *gate, *up;        /* [rows, ffn_dim]; gate: per_layer_dim where that is wider */
    float *per_layer;        /* [rows, n_layers, per_layer_dim] gemma4's further embeddings */
    float *cos_sin;          /* [rows, rope_dim], twice where local layers rotate otherwise */
    int *part_of, *positions; /* [rows] the part and the position of each row of a pass */
    int *out_of;             /* [rows] which of the rows with logits a row is; -1: none */
    float *partials;         /* [GQA_DECODE_ROWS, KV heads, max_splits] partial attention */
    int max_splits;
    float *logits;           /* [GQA_DECODE_ROWS, vocab_size] */
    gqa_acts h_acts, attn_acts, gate_acts; /* h, attn, gate as inputs of products */
    gqa_acts q_low_acts, q_nope_acts, latent_acts;
    uint8_t *thread;         /* [n_threads] blocks of thread_bytes */
    size_t thread_bytes;
} gqa_scratch;

struct gqa_workspace {
    const gqa_model *model;
    gqa_team *team;
    int n_threads, exact;    /* exact: as in gqa_session_options */
    int context, batch;      /* the largest of a session that uses it */
    void *memory;            /* storage of scratch */
    size_t memory_bytes;
    gqa_scratch scratch;
};

/* Receives K and V [head_dim] of a KV head at a position and layer, before biases and RoPE. Called
 * by several threads at once, each for its own rows. */
typedef void (*gqa_on_kv)(void *user, int layer, int position, int kv_head, const float *k,
                          const float *v);

/* What an f16 cache needs to hold keys and values beyond 65504: they are stored times a power of
 * two. */
typedef struct gqa_kv_range {
    float k_scale, v_scale;  /* 1 until larger values occur */
    atomic_uint k_max, v_max; /* bits of the largest absolute value that did not fit; 0: none */
} gqa_kv_range;

struct gqa_session {
    const gqa_model *model;
    gqa_workspace *workspace;
    int owns_workspace;
    int context, batch;
    int is_long;             /* context exceeds rope_orig_context: RoPE uses the long factors */
    int position;
    int high_water;          /* one past the highest position written since the session was empty */
    int has_logits;
    int32_t *tokens;         /* [context] */
    gqa_kv *kv;              /* [n_layers] */
    gqa_kv_range *range;     /* [n_layers] */
    uint8_t *cache;          /* storage of all layers' tiles */
    size_t cache_bytes;
    void *memory;            /* storage of tokens, kv, logits */
    size_t memory_bytes;
    float *logits;           /* [vocab_size] */
    atomic_int cancel;
    atomic_int *canceller;   /* of another session, for which this one drafts; NULL: cancel */
    gqa_on_kv on_kv;         /* NULL: none */
    void *on_kv_user;
    int n_ahead;             /* positions from `position` on that are evaluated already, with tokens
                              * and cache in place; any call that moves the session forgets them */
    const float *ahead;      /* [n_ahead, vocab_size] their logits */
    int n_done;              /* tokens evaluated by the current gqa_sessions_eval_many */
    int fixed_proposals;     /* tests: of every pass that speculates; 0: as many as pay */
};

/* Drops a request of gqa_session_cancel. */
static inline void gqa_session_cancel_clear(gqa_session *s) { atomic_store(&s->cancel, 0); }

/* A session's share of a pass: tokens[n] from its position on, as rows first .. first + n - 1. */
typedef struct gqa_part {
    gqa_session *session;
    const int32_t *tokens;
    int first, n;
    int n_out;               /* the last n_out rows have logits; may be 0 */
} gqa_part;

/* One pass: the n rows of parts of different sessions of one model, which follow each other. The
 * rows of the first parts, n_split <= GQA_DECODE_ROWS, are attended by splits, with the bits of a
 * pass each; the other parts have at least GQA_PREFILL_ROWS rows. The logits of all parts go to
 * logits [n_out, vocab_size]. 0, or GQA_ERR_CANCELLED. */
typedef struct gqa_pass {
    gqa_workspace *workspace;
    atomic_int *cancel;
    const gqa_part *parts;
    int n_parts, n, n_split, n_out;
    float *logits;
    int *bad_layer;          /* NULL, or set to the first layer with a result that is not finite */
} gqa_pass;
int gqa_forward(gqa_pass *pass);

/* session.c: shows every K and V that the session computes from now on to on_kv (convert/align.c
 * measures heads with it); NULL: no more. */
void gqa_session_watch_kv(gqa_session *s, gqa_on_kv on_kv, void *user);

/* ---- session.c, speculate.c: several tokens a pass, with the bits of one token a pass -------- */

/* Evaluates the token at s->tokens[position], which is then in the session, and n - 1 proposals
 * after it, for gqa_session_step; n from 1 to GQA_DECODE_ORDER. logits: [n, vocab_size], read until
 * n_ahead is 0. Where the proposals have effects on the session they are left out. */
int gqa_session_eval_ahead(gqa_session *s, int n, float *logits, gqa_error *err);
/* Appends the first token evaluated ahead, as gqa_session_eval does; n_ahead >= 1. */
int gqa_session_step(gqa_session *s, gqa_error *err);

typedef struct gqa_speculation gqa_speculation;
/* NULL without memory. draft may be NULL. */
gqa_speculation *gqa_speculation_new(gqa_session *s, gqa_session *draft, int lookup);
/* What gqa_session_eval does with one token; at most `limit` proposals are evaluated with it. */
int gqa_speculation_eval(gqa_speculation *p, int32_t token, int limit, gqa_error *err);
/* Frees it; the session forgets what is ahead. result gets the statistics. */
void gqa_speculation_end(gqa_speculation *p, gqa_generate_result *result);


/* ---- workspace.c ----------------------------------------------------------------------------- */

/* One region of memory cut into aligned buffers; with base NULL it only adds up. */
typedef struct gqa_arena {
    uint8_t *base;
    uint64_t used;
    int overflow;
} gqa_arena;

/* count * size bytes, 64-byte aligned; NULL while adding up. */
void *gqa_arena_take(gqa_arena *a, uint64_t count, uint64_t size);

/* Checks all options but kv and workspace. */
int gqa_check_session_options(const gqa_model *m, const gqa_session_options *opt, gqa_error *err);

/* ---- cache.c: the KV cache of a session ------------------------------------------------------ */

/* Allocates the tiles of s->kv [n_layers]: for s->context positions, or in a layer with a window
 * for the window and one batch of new tokens (a ring of tiles). */
int gqa_cache_new(gqa_session *s, int k_type, int v_type, gqa_error *err);
/* Positions that every layer of the cache holds at once. */
int gqa_cache_ring(const gqa_session *s);
/* The first position whose key and value are still in every layer of the cache. */
int gqa_cache_first_valid(const gqa_session *s);
/* The first position that a layer with a window needs to continue at `position`. */
int gqa_cache_first_needed(const gqa_session *s, int position);
/* Copies the tiles that hold positions first .. end - 1, in layers without a window all before
 * end, and their scales. */
void gqa_cache_copy(gqa_session *to, const gqa_session *from, int first, int end);
/* Lowers the scales of an f16 cache in which values did not fit. Returns whether there were such:
 * the pass must be computed again then. */
int gqa_cache_rescale(gqa_session *s);
/* Forgets such values instead. Returns whether there were any. */
int gqa_cache_forget_large(gqa_session *s);

#endif
