/* model.h: the public interface of gqa.c, a small LLM inference runtime with grouped-query
 * attention.
 *
 * Two objects. A gqa_model holds the weights and the vocabulary: it is immutable once open, and
 * any number of threads may share it. A gqa_session is one sequence over a model: KV cache,
 * position, logits, and a workspace (threads and scratch memory) of its own or shared. One
 * thread at a time may use a session; any number of sessions may use one model at once.
 *
 *     gqa_error err = {0};
 *     gqa_model   *model   = gqa_model_open("model.gguf", NULL, &err);
 *     gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
 *     gqa_sampler *sampler = session ? gqa_sampler_new(NULL, &err) : NULL;
 *     if (sampler)
 *         gqa_generate(session, sampler, "Once upon a time", NULL, on_text, user, NULL, &err);
 *     if (err.code) puts(err.message);
 *     gqa_sampler_free(sampler); gqa_session_free(session); gqa_model_close(model);
 *
 * Conventions. A function that can fail returns NULL or a negative gqa_status, and fills *err
 * when err is not NULL; on success *err is not written. (gqa_token_bytes, gqa_token_name and
 * gqa_sampler_next only return the status; gqa_log_sum_exp and gqa_log_softmax cannot fail.) A
 * refused call leaves its objects as they were. Pointers must not be NULL unless a comment allows
 * it: a function with an err argument refuses NULL, a getter or other function without one must
 * not be given it. *_free and *_close accept NULL. An options pointer may be NULL, and a zero field
 * in an options struct means its documented default: clear the struct, then set what you need.
 * Reserved fields must be zero. A later version may use them; zero will keep today's behaviour. The
 * object owns what the library returns a pointer to, unless the comment says gqa_free. The library
 * never prints, never exits, and has no global state. Shapes are given as stored, row-major: [rows,
 * cols]. */
#ifndef GQA_MODEL_H
#define GQA_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GQA_VERSION "0.2.0"
#define GQA_VERSION_NUMBER 200 /* MAJOR * 10000 + MINOR * 100 + PATCH */

/* The version of the library at run time. */
const char *gqa_version(void);
int gqa_version_number(void);

/* Frees memory that a function of the library returned for it; accepts NULL. */
void gqa_free(void *p);

/* ---- errors ---------------------------------------------------------------------------------- */

typedef enum gqa_status {
    GQA_OK = 0,
    GQA_ERR_IO = -1,          /* the operating system refused: open, read, map, write */
    GQA_ERR_FORMAT = -2,      /* the file is damaged or contradicts itself */
    GQA_ERR_UNSUPPORTED = -3, /* a valid file that needs what this library does not have */
    GQA_ERR_MEMORY = -4,      /* an allocation failed */
    GQA_ERR_ARGUMENT = -5,    /* the caller's argument is out of its documented range */
    GQA_ERR_CONTEXT = -6,     /* the context is full */
    GQA_ERR_CANCELLED = -7,   /* the caller asked to stop */
    GQA_ERR_NUMERIC = -8      /* the model computes NaN or infinity */
} gqa_status;

/* One sentence that names the file and the item, what was expected and what was found. This
 * struct will not change. */
typedef struct gqa_error {
    gqa_status code;
    char message[512];
} gqa_error;

/* ---- types ----------------------------------------------------------------------------------- */

/* Tensor element types; the numbers are GGUF's. Block formats are drawn in kernels/tensor.c. */
typedef enum gqa_type {
    GQA_TYPE_F32 = 0,
    GQA_TYPE_F16 = 1,
    GQA_TYPE_Q4_0 = 2,
    GQA_TYPE_Q4_1 = 3,
    GQA_TYPE_Q5_0 = 6,
    GQA_TYPE_Q5_1 = 7,
    GQA_TYPE_Q8_0 = 8,
    GQA_TYPE_Q2_K = 10,
    GQA_TYPE_Q3_K = 11,
    GQA_TYPE_Q4_K = 12,
    GQA_TYPE_Q5_K = 13,
    GQA_TYPE_Q6_K = 14,
    GQA_TYPE_IQ4_NL = 20,
    GQA_TYPE_IQ4_XS = 23,
    GQA_TYPE_BF16 = 30
} gqa_type;

/* Returns the lower-case name ("f32", "q8_0", ...), or NULL for a number that is not a gqa_type. */
const char *gqa_type_name(int type);
/* Returns the type of that name (any letter case), or -1. */
int gqa_type_from_name(const char *name);

typedef enum gqa_rope_scaling {
    GQA_ROPE_NONE = 0,
    GQA_ROPE_LINEAR = 1, /* positions divided by factor */
    GQA_ROPE_YARN = 2    /* YaRN (arXiv 2309.00071) */
} gqa_rope_scaling;

/* RMSNorm over Q and K. */
typedef enum gqa_qk_norm {
    GQA_QK_NORM_NONE = 0,
    GQA_QK_NORM_HEADS = 1,           /* over each head, before RoPE (qwen3, gemma3) */
    GQA_QK_NORM_ROWS = 2,            /* over all heads together, before RoPE (olmo2) */
    GQA_QK_NORM_AFTER_ROPE = 3       /* over each head, after RoPE (hunyuan-dense) */
} gqa_qk_norm;

/* Hyper-parameters, all validated. dim == n_heads * head_dim is never assumed. Where layers differ,
 * these are the maxima; gqa_model_layer gives each layer's own values. */
typedef struct gqa_config {
    char architecture[16];     /* "llama", "qwen3", "gemma3", ... */
    char name[64];             /* the file's own name for the model; may be empty */
    int dim;                   /* width of the residual stream */
    int n_layers;
    int n_heads;               /* query heads */
    int n_kv_heads;            /* divides n_heads. n_heads: MHA; 1: MQA; else GQA */
    int head_dim;              /* even */
    int ffn_dim;               /* hidden width of the FFN */
    int vocab_size;
    int context_length;        /* positions the model was trained for */
    int window;                /* sliding window: positions a query sees, itself included; 0: all */
    int rope_dim;              /* leading dimensions of a head that RoPE rotates; even */
    int rope_half;             /* pairs. 0: (2i, 2i+1) as llama; 1: (i, i + rope_dim/2) as qwen */
    float rope_theta;
    float norm_eps;            /* added to the mean square, inside the root */
    gqa_rope_scaling rope_scaling;
    float rope_factor;         /* >= 1; 1 without scaling */
    float rope_attn_factor;    /* factor on cos and sin, so squared in the scores; 1 without */
    float rope_beta_fast, rope_beta_slow; /* YaRN ramp; 32 and 1 unless the file says otherwise */
    int rope_orig_context;     /* YaRN: context before scaling */
    int tied_embeddings;       /* the classifier is the embedding matrix */
    int qkv_bias;              /* biases on Q, K, V (qwen2) */
    int qk_norm;               /* a gqa_qk_norm */
    int no_pre_norms;          /* nonzero: no RMSNorm before attention and FFN (olmo2) */
    int post_norms;            /* RMSNorm of their outputs before the addition (gemma2, olmo2) */
    int gelu;                  /* the FFN's gate is GELU, by tanh (gemma); 0: SiLU */
    float attention_scale;     /* on q.k; 1 / sqrt(head_dim) unless the file says otherwise */
    float attention_softcap;   /* scores become cap * tanh(score / cap) (gemma2); 0: none */
    float attention_temperature; /* a: q times 1 + a ln(1 + floor(position / rope_orig_context))
                                  * (mistral3); 0 without */
    float embedding_scale;     /* on the embedding of a token (gemma, granite); 1 without */
    float residual_scale;      /* on the output of attention and FFN (granite); 1 without */
    float logit_scale;         /* divides the logits (granite); 1 without */
    float logit_softcap;       /* logits become cap * tanh(logit / cap) (gemma2); 0: none */
    float rope_theta_local;    /* base of layers with a window, which then have no scaling (gemma3);
                                * 0: the same as in other layers */
    float rope_yarn_log_mul;   /* YaRN: M, of the magnitude (1 + 0.1 ln f) / (1 + 0.1 M ln f) */
    int rope_dim_local;        /* rope_dim of layers that use rope_theta_local; 0: rope_dim */
    int norm_v;                /* nonzero: RMSNorm without weights over V (gemma4) */
    int per_layer_dim;         /* width of a token's embedding for each layer (gemma4); 0: none */
    int latent_dim;            /* multi-head latent attention (deepseek2): values of a position's
                                * one row for all heads; 0: none. Then n_kv_heads is 1, head_dim =
                                * latent_dim + rope_dim is the cached row, V its first part */
    int q_rank;                /* with it: rank of the queries' product of two; 0: one matrix */
    int q_nope_dim;            /* with it: dimensions of a query head before those RoPE rotates */
    int value_dim;             /* with it: values of a head after the latent's expansion */
    int tied_kv;               /* nonzero: grouped-tied attention (gta): a KV head caches one row,
                                * its V; K is the first half of it, not rotated, and rope_dim =
                                * head_dim / 2 numbers that all heads share */
    uint32_t reserved[10];
} gqa_config;

/* How a layer rotates Q and K. */
typedef enum gqa_layer_rope {
    GQA_LAYER_ROPE_NONE = 0,   /* not at all (smollm3's every fourth layer) */
    GQA_LAYER_ROPE_MODEL = 1,  /* by rope_theta, with the model's scaling */
    GQA_LAYER_ROPE_LOCAL = 2   /* by rope_theta_local */
} gqa_layer_rope;

/* The values of one layer; a later version may add fields at the end. */
typedef struct gqa_layer_config {
    int n_kv_heads, ffn_dim;
    int window;                /* positions a query sees, itself included; 0: all */
    int rope;                  /* a gqa_layer_rope */
    int head_dim;              /* at most the config's (gemma4: less in layers with a window) */
    int kv_layer;              /* the layer whose K and V it attends to: itself, or an earlier one
                                * (gemma4); then it has no KV cache of its own */
} gqa_layer_config;

/* ---- threads --------------------------------------------------------------------------------- */

/* The program's own thread pool: runs fn(arg, 0) to fn(arg, n - 1), each once, and returns when all
 * have returned. Fastest when each has a thread of its own; correct in any order. */
typedef void (*gqa_run_parallel)(void *user, int n, void (*fn)(void *arg, int thread), void *arg);

/* ---- model ----------------------------------------------------------------------------------- */

/* Called while a model loads, with 0 <= done <= 1; nonzero cancels it: GQA_ERR_CANCELLED. */
typedef int (*gqa_on_progress)(void *user, double done);

typedef struct gqa_model_options {
    const char *tokenizer_path; /* for llama2.c files; NULL: tokenizer.bin next to it, if any */
    int n_threads;              /* to repack the weights; 0: one per physical core allowed */
    int no_repack;              /* nonzero: no packed copy of the weights: less memory, slower */
    int vocab_only;             /* nonzero: open the vocabulary and ignore the weights */
    int fast_prefill;           /* (below) 1: where it is faster; 2: wherever the CPU can */
    const char *isa;   /* scalar, avx2, avxvnni, avx512, neon, wasm; NULL: $GQA_ISA or the best */
    gqa_on_progress on_progress;
    void *user;                 /* for on_progress */
    gqa_run_parallel run_parallel; /* repacks the weights; NULL: OpenMP, or pthreads without it */
    void *run_user;                /* for run_parallel */
    void *reserved[4];
} gqa_model_options;

/* fast_prefill: passes of more than 16 tokens round both sides of products with f16, bf16 and f32
 * weights to bf16 (each by at most 2^-8 of itself), and sum in f32. 1: on CPUs that do so at 1.5
 * times the rate of f32 (measured). Logits then depend more on the passes, never on threads. */

typedef struct gqa_model gqa_model;

/* Opens a GGUF (v2, v3) or llama2.c (.bin v0, v1, v2) checkpoint. The file is mapped and must not
 * change while the model is open. Every size and offset in it is checked before use: the file need
 * not be trusted. A GGUF without weights (vocabulary only) opens too; a session is refused. */
gqa_model *gqa_model_open(const char *path, const gqa_model_options *opt, gqa_error *err);

/* The same from memory: data[size] must stay valid and unchanged until gqa_model_close; 64-byte
 * alignment is fastest, none is required. Of files only tokenizer_path is opened, if given. */
gqa_model *gqa_model_from_memory(const void *data, size_t size, const gqa_model_options *opt,
                                 gqa_error *err);

/* A model of the given shape with random weights of the given type and no vocabulary: for speed
 * measurements and tests. The seed determines them. Fields of *shape that are 0 get the defaults
 * of llama; with latent_dim it is a deepseek2 model, with tied_kv a gta model. */
gqa_model *gqa_model_random(const gqa_config *shape, gqa_type type, uint64_t seed,
                            const gqa_model_options *opt, gqa_error *err);

/* No session over the model may be in use. */
void gqa_model_close(gqa_model *model);

const gqa_config *gqa_model_config(const gqa_model *model);
/* Of layer 0 .. n_layers - 1; NULL for other numbers and for a model without weights. */
const gqa_layer_config *gqa_model_layer(const gqa_model *model, int layer);

/* Writes the repacked weights to a file, to be mapped and not computed: gqa_model_open(PATH) uses
 * PATH.packed if it was written for that model with this version's layout, else ignores it. It is
 * as large as the weights, and useless without them. Refused for a model opened with no_repack. */
int gqa_model_save_packed(const gqa_model *model, const char *path, gqa_error *err);

/* Size and cost of the weights. */
typedef struct gqa_model_stats {
    uint64_t n_params;       /* weights, every tensor counted once */
    uint64_t weight_bytes;   /* their size as stored in the file */
    uint64_t decode_bytes;   /* bytes of weights read for one token (embedding row excluded) */
    uint64_t matmul_params;  /* multiply-adds of matrix products for a token with logits */
    uint64_t packed_bytes;   /* of the repacked copy; 0 with no_repack, or mapped from a file */
    int has_weights;         /* 0: vocabulary only */
    int n_tensors;
    const char *format;      /* "GGUF v3", "llama2.c v0", ... */
    const char *type_name;   /* of most weights: "q8_0", or a mixture such as "q4_k + q6_k" */
    const char *isa;         /* the instruction set in use */
    int fast_prefill;        /* nonzero: asked for, and in use */
    uint64_t prompt_params;  /* as matmul_params, up to the last layer's K and V: no logits */
} gqa_model_stats;
/* Owned by the model; a later version may add fields at the end. */
const gqa_model_stats *gqa_model_get_stats(const gqa_model *model);

/* Bytes of KV cache per position, if all layers keep it: 2 * n_layers * n_kv_heads * head_dim (in
 * q8_0 and q4_0 up to the next multiple of 32) * (bytes per element); n_layers * head_dim * (bytes)
 * with latent attention, n_layers * (n_kv_heads * head_dim + rope_dim) * (bytes) with tied_kv. Half
 * of it is keys: with two types, the mean of their numbers. */
uint64_t gqa_kv_bytes_per_position(const gqa_config *config, gqa_type kv_type);
/* Bytes of KV cache that a query at the end of n positions attends to: a layer with a window caches
 * at most the window, and each layer has its own number of KV heads. 0 without weights. */
uint64_t gqa_model_kv_bytes(const gqa_model *model, gqa_type kv_type, int n);

/* ---- vocabulary ------------------------------------------------------------------------------ */

enum { /* flags of gqa_tokenize */
    GQA_TOKENIZE_BOS = 1,     /* begin-of-sequence token first, if the model's file asks for it */
    GQA_TOKENIZE_SPECIAL = 2, /* text such as <|im_end|> becomes that special token, not letters */
    GQA_TOKENIZE_EOS = 4,     /* end token last, if the model's file asks for it */
    GQA_TOKENIZE_NONE = 256   /* for gqa_generate_options, where 0 is a default: none of these */
};

/* Token ids of text[len] (any bytes; neither UTF-8 nor a terminating 0 is needed). Writes the first
 * cap of them to out[cap] and returns how many there are: if that exceeds cap, call again with a
 * larger array. cap 0 with out NULL only counts. Usually there are at most len + 3, but not with
 * every vocabulary. Time is O(len log len). Thread-safe. */
int gqa_tokenize(const gqa_model *model, const char *text, size_t len, unsigned flags,
                 int32_t *out, int cap, gqa_error *err);
/* The same into new memory: *out is an array of as many ids as it returns, for gqa_free(); NULL
 * on failure. */
int gqa_tokenize_new(const gqa_model *model, const char *text, size_t len, unsigned flags,
                     int32_t **out, gqa_error *err);

/* 0 when the tokens of both vocabularies are the same, but for up to 128 at the end of one that the
 * other lacks (padding); else GQA_ERR_ARGUMENT and the first that differs in *err. */
int gqa_check_vocabulary(const gqa_model *model, const gqa_model *other, gqa_error *err);

/* The bytes of one token's text, without a terminating 0: writes the first cap to out[cap],
 * returns how many there are (0 for control tokens), negative for an id out of range. A
 * character may be split over tokens, and with a SentencePiece vocabulary the first token of a
 * text begins with a space that encoding added: gqa_text handles both. */
int gqa_token_bytes(const gqa_model *model, int32_t token, char *out, int cap);

/* The token's name as the model's file spells it ("<|im_end|>", "<0x0A>"), control tokens
 * included; otherwise as gqa_token_bytes. */
int gqa_token_name(const gqa_model *model, int32_t token, char *out, int cap);

/* The id of the token whose text is exactly that ("<|im_end|>"), or -1. */
int32_t gqa_token_find(const gqa_model *model, const char *text);

int gqa_vocab_size(const gqa_model *model);                      /* 0: no vocabulary */
int32_t gqa_token_bos(const gqa_model *model);                   /* -1: none */
int32_t gqa_token_eos(const gqa_model *model);                   /* -1: none */
int gqa_token_is_end(const gqa_model *model, int32_t token);     /* ends a text: eos, eot, ... */
int gqa_token_is_control(const gqa_model *model, int32_t token); /* has no text of its own */
int gqa_model_adds_bos(const gqa_model *model);                  /* the file asks for BOS */
const char *gqa_model_chat_template(const gqa_model *model);     /* Jinja text; NULL: none */
const char *gqa_model_warning(const gqa_model *model);           /* about the vocabulary, or NULL */

/* ---- ids to text ----------------------------------------------------------------------------- */

/* Joins the tokens of one text into whole UTF-8 characters, for programs with their own loop
 * (gqa_generate uses it). One thread at a time. */
typedef struct gqa_text gqa_text;

/* at_start: nonzero if the first token begins a text (it follows BOS), as any after a BOS does: the
 * space that encoding put there is dropped. stop [n_stop]: copied; none may be empty. */
gqa_text *gqa_text_new(const gqa_model *model, int at_start, const char *const *stop, int n_stop,
                       gqa_error *err);
void gqa_text_free(gqa_text *text);
/* Adds a token. *out [*len], valid until the next call: the text that is complete now, whole
 * UTF-8 characters (bytes that are not valid UTF-8 are passed on as they are) that cannot be the
 * beginning of a stop string. Returns 0; 1 once a stop string was found: *out is the text
 * before it, and nothing follows; negative on failure. */
int gqa_text_push(gqa_text *text, int32_t token, const char **out, size_t *len, gqa_error *err);
/* At the end of the text: the bytes still held back, which are then forgotten. */
void gqa_text_flush(gqa_text *text, const char **out, size_t *len);

/* ---- session --------------------------------------------------------------------------------- */

typedef struct gqa_session gqa_session;
typedef struct gqa_workspace gqa_workspace;

typedef struct gqa_session_options {
    int context;      /* positions; 0: the smaller of 4096 and the model's context_length */
    /* KV cache type, by name because 0 as a number is F32: "f32", "f16", "bf16", "q8_0", "q4_0", or
     * one for keys and one for values: "q8_0/q4_0"; NULL: "f16" */
    const char *kv;
    int n_threads;    /* 0: one per physical core that the process may use */
    int batch;        /* prompt tokens evaluated together; 0: 512 */
    int exact;        /* nonzero: activations in 16 bits beside all quantised weights, not some:
                       * logits of f32 activations to about 1e-3, long prompts at half the speed */
    gqa_workspace *workspace;      /* threads and scratch memory to use; NULL: its own */
    gqa_run_parallel run_parallel; /* computes; NULL: OpenMP, or pthreads without it */
    void *run_user;                /* for run_parallel */
    void *reserved[4];
} gqa_session_options;

/* Allocates all that the session will need; the system provides pages of the cache as positions
 * fill. With a workspace, n_threads, exact and run_parallel are the workspace's (and must be 0
 * here), and context and batch are at most the workspace's. */
gqa_session *gqa_session_new(const gqa_model *model, const gqa_session_options *opt,
                             gqa_error *err);
void gqa_session_free(gqa_session *session);

/* Threads and scratch memory that sessions over one model share: each then holds little more than
 * its KV cache. Made by context, n_threads, batch and exact of *opt, with a session's defaults; kv
 * is ignored. One thread at a time may use the sessions of a workspace, which must outlive them. */
gqa_workspace *gqa_workspace_new(const gqa_model *model, const gqa_session_options *opt,
                                 gqa_error *err);
void gqa_workspace_free(gqa_workspace *workspace);
uint64_t gqa_workspace_bytes(const gqa_workspace *workspace);  /* memory reserved */

/* Appends tokens[n] to the sequence and computes the logits that follow the last one.
 * GQA_ERR_CONTEXT when the tokens do not fit. GQA_ERR_CANCELLED, and GQA_ERR_NUMERIC when the
 * logits are not all finite (the message names the layer), leave the session as it was, except
 * that its logits are lost; with a sliding window, whole batches that were evaluated before stay:
 * see gqa_session_position. */
int gqa_session_eval(gqa_session *session, const int32_t *tokens, int n, gqa_error *err);

/* The same, and writes the logits after each of the n tokens to logits [n, vocab_size]. */
int gqa_session_eval_all(gqa_session *session, const int32_t *tokens, int n, float *logits,
                         gqa_error *err);

/* What gqa_session_eval does, for n different sessions over one model at once: counts[i] >= 1
 * tokens for sessions[i] (counts NULL: one each), which follow each other in tokens. A pass reads
 * the weights once; it takes from each session what a pass of its own would, from all at most the
 * batch of the workspace in use, or 64. So a new prompt does not stop the others: they wait the
 * less, the fewer of its tokens a call gets. Of the sessions' workspaces, the one for the longest
 * context is used; only a cancel of sessions[0] is noticed. A refused, cancelled or failed call
 * leaves all sessions as gqa_session_eval leaves one. With quantised weights the logits are to the
 * bit those of each session alone; with others they are while a pass has at most 16 tokens, and in
 * larger ones, as in longer prompts, products are summed in another order. */
int gqa_sessions_eval_many(gqa_session *const *sessions, int n, const int32_t *tokens,
                           const int *counts, gqa_error *err);
/* The same with one token for each of n sessions: batched decoding. */
int gqa_sessions_eval(gqa_session *const *sessions, const int32_t *tokens, int n, gqa_error *err);

/* Makes the session hold exactly tokens[n], n >= 1, with the logits after the last: keeps the
 * longest common prefix, forgets the rest, evaluates what is missing. Returns how many tokens were
 * kept. Where a sliding window has overwritten what would be needed, it starts from 0. After
 * GQA_ERR_CANCELLED or GQA_ERR_NUMERIC the session holds the tokens kept. */
int gqa_session_sync(gqa_session *session, const int32_t *tokens, int n, gqa_error *err);

/* Makes `to` hold the first n positions of `from`, without computing them; what `to` held is
 * forgotten. The logits are copied too when n is the position of `from`. Both must have the same
 * model, KV cache type and `exact`; contexts may differ. Refused when n positions do not fit, or a
 * window has overwritten some that would be needed. Other threads may read `from` meanwhile. */
int gqa_session_copy(gqa_session *to, const gqa_session *from, int n, gqa_error *err);

/* Logits after the last token, [vocab_size]; valid until the next call on the session. NULL
 * before the first eval and after a rewind. */
const float *gqa_session_logits(const gqa_session *session);

int gqa_session_position(const gqa_session *session);          /* tokens held */
int gqa_session_context(const gqa_session *session);           /* tokens that fit */
const int32_t *gqa_session_tokens(const gqa_session *session); /* [position] */
const gqa_model *gqa_session_model(const gqa_session *session);
/* Memory reserved: the KV cache, and the workspace if it is the session's own. */
uint64_t gqa_session_bytes(const gqa_session *session);
int gqa_session_threads(const gqa_session *session);

/* Forgets all tokens from position on. With a sliding window, positions already overwritten
 * cannot come back: GQA_ERR_ARGUMENT, and the session is unchanged (position 0 always works). */
int gqa_session_rewind(gqa_session *session, int position, gqa_error *err);

/* For speed measurements: appends n positions with random keys and values. */
int gqa_session_fill_random(gqa_session *session, int n, uint64_t seed, gqa_error *err);

/* Makes the current or the next gqa_session_eval return GQA_ERR_CANCELLED, within the time of a
 * layer. May be called from another thread or a signal handler. The eval that returns so clears the
 * request; gqa_generate clears one that came before it began or after its last eval. */
void gqa_session_cancel(gqa_session *session);

/* Writes tokens, KV cache and logits to a file (atomically: a temporary file, then rename), or
 * to new memory for gqa_free(); and reads them back. A saved session is checked like a model file,
 * refused if damaged, of another model, cache type or `exact`, or with fast_prefill for a model
 * without. A file that cannot be read or whose header is refused leaves the session as it was;
 * after damage further on the session is empty (position 0). */
int gqa_session_save(const gqa_session *session, const char *path, gqa_error *err);
int gqa_session_load(gqa_session *session, const char *path, gqa_error *err);
int gqa_session_save_memory(const gqa_session *session, void **data, size_t *size, gqa_error *err);
int gqa_session_load_memory(gqa_session *session, const void *data, size_t size, gqa_error *err);

/* ---- sampler --------------------------------------------------------------------------------- */

typedef struct gqa_sampler_options {
    float temperature;    /* 0: greedy (the arg max, lowest id on a tie) */
    int top_k;            /* keep the k most likely; 0: all */
    float top_p;          /* keep the smallest set of that probability, in (0, 1]; 0 or 1: all */
    float min_p;          /* drop tokens below min_p times the best, in [0, 1); 0: none */
    float repeat_penalty; /* divides positive, multiplies negative logits; 0 or 1: off */
    int repeat_last;      /* how many of the last tokens it applies to; 0: 64 */
    uint64_t seed;
    void *reserved[4];
} gqa_sampler_options;
typedef struct gqa_sampler gqa_sampler;

/* The order: repetition penalty, temperature, softmax, top-k, top-p (of the probability that
 * top-k left), min-p, draw. NULL options: greedy. */
gqa_sampler *gqa_sampler_new(const gqa_sampler_options *opt, gqa_error *err);
void gqa_sampler_free(gqa_sampler *sampler);
/* Picks a token from logits[n]; NaN counts as minus infinity. Negative (a gqa_status) on
 * failure: GQA_ERR_NUMERIC when all logits are minus infinity, which bans a token. */
int32_t gqa_sampler_next(gqa_sampler *sampler, const float *logits, int n);
/* Adds a token for the repetition penalty; gqa_generate adds all but control tokens. */
void gqa_sampler_accept(gqa_sampler *sampler, int32_t token);
void gqa_sampler_reset(gqa_sampler *sampler, uint64_t seed);  /* as new, with that seed */

/* log(sum_i exp(logits[i])), summed in double: logits[i] minus it is the natural logarithm of the
 * probability of i. NaN counts as minus infinity; NULL or n < 1 gives minus infinity. */
double gqa_log_sum_exp(const float *logits, int n);
/* The logarithms of all probabilities: out[i] = logits[i] - gqa_log_sum_exp(logits, n), minus
 * infinity where logits is NULL. out may be logits. */
void gqa_log_softmax(const float *logits, int n, float *out);

/* ---- generate -------------------------------------------------------------------------------- */

typedef enum gqa_stop {
    GQA_STOP_LENGTH = 1,  /* max_tokens were generated */
    GQA_STOP_END = 2,     /* the model ended the text */
    GQA_STOP_STRING = 3,  /* a stop string was generated */
    GQA_STOP_CONTEXT = 4, /* the context is full */
    GQA_STOP_CALLER = 5   /* a callback returned nonzero, or the session was cancelled */
} gqa_stop;

/* Receives text[len], without a terminating 0: whole UTF-8 characters (bytes that are not valid
 * UTF-8 are passed on as they are). A nonzero return stops generation. */
typedef int (*gqa_on_text)(void *user, const char *text, size_t len);

/* Receives a copy of the logits [n_vocab] before each token is sampled, which it may change: bans,
 * biases, grammars, choices. Minus infinity bans a token; those that the file bans (the metadata
 * tokenizer.ggml.suppress_tokens) have it already. tokens [n_tokens] is the session's text so far.
 * A nonzero return stops generation. */
typedef int (*gqa_on_logits)(void *user, const int32_t *tokens, int n_tokens, float *logits,
                             int n_vocab);

/* Receives each token generated, before its text, with the natural logarithm of the probability
 * that the model gave it (of the unchanged logits, at temperature 1). The token that ends a text
 * is reported too. A nonzero return stops generation after this token. */
typedef int (*gqa_on_token)(void *user, int32_t token, float log_probability);

typedef struct gqa_generate_options {
    int max_tokens;            /* 0: until the context is full */
    const char *const *stop;   /* [n_stop] never part of the output; also found across tokens */
    int n_stop;
    unsigned tokenize_flags;   /* of the prompt; 0: GQA_TOKENIZE_BOS if the session is empty */
    int ignore_end;            /* nonzero: go on after an end token (or BOS, if a control token) */
    gqa_on_logits on_logits;   /* NULL: none. Both get the user argument of the call */
    gqa_on_token on_token;
    gqa_session *draft;        /* proposes tokens (below); NULL: none */
    int lookup;                /* nonzero: so does the text itself */
    void *reserved[2];
} gqa_generate_options;

typedef struct gqa_generate_result {
    gqa_stop stop;
    int prompt_tokens, generated_tokens;
    double prefill_seconds;     /* evaluating the prompt */
    double first_token_seconds; /* from the call to the first sampled token */
    double decode_seconds;      /* from the first sampled token to the last */
    int proposed_tokens, accepted_tokens; /* by speculation */
    double speculation_gain;    /* how much faster it was than decoding without; 0: not known */
    double reserved[2];
} gqa_generate_result;

/* Speculation, with draft or lookup: several proposed tokens are evaluated in one pass, which costs
 * less than a pass for each, and those are kept that the sampler then takes (Leviathan et al. 2022,
 * arXiv 2211.17192). Each token is sampled from the same logits with the same random numbers as
 * without: the text, the callbacks and what the session holds are the same, to the bit, for any
 * model and sampler; only the time differs. Where the proposals cost more than they save, by times
 * measured meanwhile, they are left out.
 *
 * lookup: the longest end of the text so far that occurred before proposes what followed it there
 * (prompt lookup decoding, Saxena 2023): for summaries, edits, code. draft: a session over a small
 * model of the same vocabulary (gqa_check_vocabulary), whose likeliest tokens are the proposals;
 * it follows the text by gqa_session_sync. Until the call returns nothing else may use it. A
 * sliding window may have overwritten up to 16 positions more than without, for a later rewind. */

/* Tokenizes prompt (0-terminated) and does what gqa_generate_tokens does with its tokens. An
 * empty prompt needs a model with BOS or a session that has logits. */
int gqa_generate(gqa_session *session, gqa_sampler *sampler, const char *prompt,
                 const gqa_generate_options *opt, gqa_on_text on_text, void *user,
                 gqa_generate_result *result, gqa_error *err);

/* Appends tokens[n] to the session, then samples tokens and passes their text to on_text (NULL:
 * none). With n 0 it continues from the session, which must have logits. result may be NULL.
 * Returns 0 for every gqa_stop, negative on failure. The session then holds the prompt and all
 * tokens generated, except the one that ended the text, one that was sampled when the context was
 * full, and one whose evaluation was cancelled. */
int gqa_generate_tokens(gqa_session *session, gqa_sampler *sampler, const int32_t *tokens, int n,
                        const gqa_generate_options *opt, gqa_on_text on_text, void *user,
                        gqa_generate_result *result, gqa_error *err);

/* ---- chat ------------------------------------------------------------------------------------ */

typedef struct gqa_message {
    const char *role;          /* "system", "user", "assistant", or what else the template knows */
    const char *content;       /* bytes that are not UTF-8 become U+FFFD */
    const int32_t *tokens;     /* [n_tokens] that content was generated as; NULL: unknown */
    int n_tokens;
    void *reserved[2];
} gqa_message;

typedef struct gqa_chat_options {
    const char *template_name; /* llama3, chatml, llama2, mistral, zephyr or plain; NULL: its own */
    int first;                 /* messages before this one are already in the session */
    int no_generation_prompt;  /* nonzero: do not begin an answer after the last message */
    int thinking;              /* 1: enable_thinking and thinking are true, -1: false; 0: neither
                                * is defined, and the template decides */
    const char *date;          /* "YYYY-MM-DD", for templates that write it; NULL: today */
    const char *tools;         /* JSON array of tools, as in OpenAI's API; NULL: none */
    const char *variables;     /* JSON object: more variables for the template; NULL: none */
    const char *messages_json; /* JSON array of messages as OpenAI's clients write them, with tool
                                * calls, results and parts; then messages is NULL, n and first 0 */
    void *reserved[2];
} gqa_chat_options;

/* Token ids of a conversation as the model's chat template writes it, with the beginning of the
 * assistant's answer: *tokens is an array of as many ids as it returns, for gqa_free(); NULL on
 * failure. The template is the one in the model's file, run as transformers does; for a model
 * without one, the built-in one that fits the special tokens of its vocabulary, or "plain".
 *
 * Content never becomes a special token, whatever the template does with it: no control token, and
 * no user-defined one that looks like a mark, such as <think>. Where the template writes a
 * message's content unchanged, the message's own tokens are used, so that gqa_session_sync finds an
 * answer in the session as it was generated. BOS comes first if the template writes it or the
 * model's file asks for it, and never twice.
 *
 * With first > 0 only what belongs to messages[first] and later is written; an answer before them
 * counts as generated by the model, and its end is written first.
 *
 * Errors: GQA_ERR_ARGUMENT with the template's own message when it refuses the messages, _FORMAT
 * and _UNSUPPORTED with a line number when it cannot be run. */
int gqa_chat_format(const gqa_model *model, const gqa_message *messages, int n,
                    const gqa_chat_options *opt, int32_t **tokens, gqa_error *err);
/* The name of the template that gqa_chat_format uses, "own" for the one in the model's file; NULL:
 * template_name is unknown, or reserved not zero. */
const char *gqa_chat_template_name(const gqa_model *model, const gqa_chat_options *opt);
/* A stop string for gqa_generate_options.stop, where no token ends an answer; else NULL. */
const char *gqa_chat_stop(const gqa_model *model, const gqa_chat_options *opt);

#ifdef __cplusplus
}
#endif
#endif
