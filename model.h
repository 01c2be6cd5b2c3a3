/* model.h: the public interface of gqa.c, a small LLM inference runtime with grouped-query attention.
 *
 * Two objects. A gqa_model is the weights and the vocabulary: immutable once open, and shared freely between
 * threads. A gqa_session is one sequence over a model: KV cache, scratch memory, position and logits. One thread
 * at a time may use a session; any number of sessions may use one model at once.
 *
 *     gqa_error err = {0};
 *     gqa_model   *model   = gqa_model_open("model.gguf", NULL, &err);      // NULL: err.message says why
 *     gqa_session *session = gqa_session_new(model, NULL, &err);
 *     gqa_sampler *sampler = gqa_sampler_new(NULL, &err);
 *     gqa_generate(session, sampler, "Once upon a time", NULL, on_text, user, NULL, &err);
 *     gqa_sampler_free(sampler); gqa_session_free(session); gqa_model_close(model);
 *
 * Conventions. Functions that can fail return NULL or a negative gqa_status, and fill *err when err is not NULL;
 * on success *err is left alone. An options pointer may be NULL, and a zero field in an options struct means its
 * documented default: clear the struct, then set what you need. Everything the library returns a pointer to stays
 * owned by the object it came from; *_free and *_close accept NULL. The library never prints, never exits, keeps no
 * global state. Shapes are given as stored, row-major: [rows, cols].
 */
#ifndef GQA_MODEL_H
#define GQA_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GQA_VERSION "0.1.0"

/* ---- errors --------------------------------------------------------------------------------------------------- */

typedef enum gqa_status {
    GQA_OK = 0,
    GQA_ERR_IO = -1,          /* the operating system refused: open, read, map, write */
    GQA_ERR_FORMAT = -2,      /* the file is damaged or lies about itself */
    GQA_ERR_UNSUPPORTED = -3, /* the file is well formed, but asks for something this library does not do */
    GQA_ERR_MEMORY = -4,      /* an allocation failed */
    GQA_ERR_ARGUMENT = -5,    /* the caller's argument is out of its documented range */
    GQA_ERR_CONTEXT = -6,     /* the context is full */
    GQA_ERR_CANCELLED = -7    /* the caller asked to stop */
} gqa_status;

/* One sentence that names the file, the thing, what was expected and what was found. */
typedef struct gqa_error {
    gqa_status code;
    char message[512];
} gqa_error;

/* ---- types ---------------------------------------------------------------------------------------------------- */

/* Tensor element types; the numbers are GGUF's. Block formats are drawn in kernels/tensor.c. */
typedef enum gqa_type {
    GQA_TYPE_F32 = 0,
    GQA_TYPE_F16 = 1,
    GQA_TYPE_Q4_0 = 2,
    GQA_TYPE_Q5_0 = 6,
    GQA_TYPE_Q8_0 = 8,
    GQA_TYPE_Q4_K = 12,
    GQA_TYPE_Q5_K = 13,
    GQA_TYPE_Q6_K = 14,
    GQA_TYPE_BF16 = 30
} gqa_type;

/* Returns the lower-case name ("f32", "q8_0", ...), or NULL for a number that is not one of ours. */
const char *gqa_type_name(int type);
/* Returns the type of that name (any letter case), or -1. */
int gqa_type_from_name(const char *name);

typedef enum gqa_rope_scaling {
    GQA_ROPE_NONE = 0,
    GQA_ROPE_LINEAR = 1, /* positions divided by factor */
    GQA_ROPE_YARN = 2    /* YaRN (arXiv 2309.00071) */
} gqa_rope_scaling;

/* Hyper-parameters, all validated. dim == n_heads * head_dim is never assumed. */
typedef struct gqa_config {
    char architecture[16];     /* "llama", "qwen2", "qwen3" */
    char name[64];             /* the file's own name for the model; may be empty */
    int dim;                   /* width of the residual stream */
    int n_layers;
    int n_heads;               /* query heads */
    int n_kv_heads;            /* key/value heads; divides n_heads. == n_heads: MHA; 1: MQA; between: GQA */
    int head_dim;              /* even */
    int ffn_dim;               /* hidden width of the SwiGLU block */
    int vocab_size;
    int context_length;        /* positions the model was trained for */
    int window;                /* sliding-window attention: positions a query sees, itself included; 0: all */
    int rope_dim;              /* leading dimensions of a head that RoPE rotates; even, <= head_dim */
    int rope_half;             /* pair layout. 0: (2i, 2i+1) as in llama; 1: (i, i + rope_dim/2) as in qwen */
    float rope_theta;
    float norm_eps;            /* added to the mean square, inside the root */
    gqa_rope_scaling rope_scaling;
    float rope_factor;         /* >= 1; 1 without scaling */
    float rope_attn_factor;    /* YaRN: factor on the logits' scale; 1 without */
    float rope_beta_fast, rope_beta_slow; /* YaRN ramp; 32 and 1 unless the file says otherwise */
    int rope_orig_context;     /* YaRN: context before scaling */
    int tied_embeddings;       /* the classifier is the embedding matrix */
    int qkv_bias;              /* biases on Q, K, V (qwen2) */
    int qk_norm;               /* RMSNorm over each Q and K head before RoPE (qwen3) */
} gqa_config;

/* ---- model ---------------------------------------------------------------------------------------------------- */

/* Called now and then while a model loads, with 0 <= done <= 1. A nonzero return cancels: GQA_ERR_CANCELLED. */
typedef int (*gqa_on_progress)(void *user, double done);

typedef struct gqa_model_options {
    const char *tokenizer_path; /* for llama2.c .bin checkpoints. NULL: tokenizer.bin beside the model, if there */
    int n_threads;              /* threads that repack the weights; 0: one per physical core allowed */
    int no_repack;              /* nonzero: run from the mapped file without a packed copy; less memory, slower */
    int vocab_only;             /* nonzero: open the vocabulary and ignore the weights (tokenize only) */
    const char *isa;            /* "scalar", "avx2", "avx512", "neon". NULL: $GQA_ISA, else the best this CPU has */
    gqa_on_progress on_progress;
    void *user;
} gqa_model_options;

typedef struct gqa_model gqa_model;

/* Opens a GGUF (v2, v3) or llama2.c (.bin v0, v1, v2) checkpoint. The file is mapped and must not change while
 * the model is open. Every size and offset in it is checked before use: the file need not be trusted.
 * A GGUF without weight tensors (vocabulary only) opens too; a session over it is refused. */
gqa_model *gqa_model_open(const char *path, const gqa_model_options *opt, gqa_error *err);

/* The same from memory: data[size] must stay valid and unchanged until gqa_model_close; 64-byte alignment is best,
 * none is required. tokenizer_path is read if given; there is no file beside the model to look for. */
gqa_model *gqa_model_from_memory(const void *data, size_t size, const gqa_model_options *opt, gqa_error *err);

/* A model of the given shape with random weights of the given type and no vocabulary: for speed measurements and
 * tests. Reproducible from the seed. Fields of *shape that are 0 get the llama defaults. */
gqa_model *gqa_model_random(const gqa_config *shape, gqa_type type, uint64_t seed, const gqa_model_options *opt,
                            gqa_error *err);

/* No session over the model may be in use. */
void gqa_model_close(gqa_model *model);

const gqa_config *gqa_model_config(const gqa_model *model);

/* Writes the repacked weights to a file, once, so that opening the model maps them instead of making them: gqa_model_open(PATH)
 * looks for PATH.packed, and takes it if it was written from that model by this version's layout; any other file there is left
 * alone. The file is as long as the weights and of no use without the model. Refused for a model opened with no_repack. */
int gqa_model_save_packed(const gqa_model *model, const char *path, gqa_error *err);

/* What the weights hold and cost. */
typedef struct gqa_model_stats {
    uint64_t n_params;       /* weights, every tensor counted once */
    uint64_t weight_bytes;   /* their size as stored in the file */
    uint64_t decode_bytes;   /* bytes of weights read to make one token (embedding row excluded) */
    uint64_t matmul_params;  /* multiply-adds per token in matrix products */
    uint64_t packed_bytes;   /* memory of the repacked copy; 0 with no_repack, or when it is mapped from a file */
    int has_weights;         /* 0: vocabulary only */
    int n_tensors;
    const char *format;      /* "GGUF v3", "llama2.c v0", ... */
    const char *type_name;   /* of most weights: "q8_0", or "mixed" names like "q4_k + q6_k" */
    const char *isa;         /* instruction set chosen */
} gqa_model_stats;
const gqa_model_stats *gqa_model_get_stats(const gqa_model *model);

/* Bytes of KV cache one position takes: 2 * n_layers * n_kv_heads * head_dim * (bytes an element). */
uint64_t gqa_kv_bytes_per_position(const gqa_config *config, gqa_type kv_type);

/* ---- vocabulary ----------------------------------------------------------------------------------------------- */

enum { /* flags of gqa_tokenize */
    GQA_TOKENIZE_BOS = 1,     /* put the beginning-of-sequence token first if the model's file asks for it */
    GQA_TOKENIZE_SPECIAL = 2, /* text such as <|im_end|> becomes that special token, not letters */
    GQA_TOKENIZE_EOS = 4      /* put the end token last if the model's file asks for it */
};

/* Token ids of text[len] (any bytes; need not be UTF-8, nor end in 0). Writes the first cap of them to out[cap] and
 * returns how many there are: if that exceeds cap, call again with more room. cap 0 with out NULL just counts.
 * Mostly that is at most len + 3, but not with every vocabulary. Time is O(len log len). Negative on failure. Thread-safe. */
int gqa_tokenize(const gqa_model *model, const char *text, size_t len, unsigned flags, int32_t *out, int cap,
                 gqa_error *err);
/* The same into memory of its own: *out is an array of as many ids as it returns, for free(); NULL on failure. */
int gqa_tokenize_new(const gqa_model *model, const char *text, size_t len, unsigned flags, int32_t **out, gqa_error *err);

/* The raw bytes of one token, without a terminating 0: writes the first cap to out[cap], returns how many there are
 * (0 for control tokens), negative for an id out of range. A character may be split over tokens. For a
 * SentencePiece vocabulary the leading space of a word belongs to the token; the one that encoding put before the
 * whole text is the caller's to drop (gqa_generate does). */
int gqa_token_bytes(const gqa_model *model, int32_t token, char *out, int cap);

/* The id whose text is exactly text ("<|im_end|>"), or -1. */
int32_t gqa_token_find(const gqa_model *model, const char *text);

int gqa_vocab_size(const gqa_model *model);      /* 0: the model has no vocabulary */
int32_t gqa_token_bos(const gqa_model *model);   /* -1: none */
int32_t gqa_token_eos(const gqa_model *model);   /* -1: none */
int gqa_token_is_end(const gqa_model *model, int32_t token);      /* ends a text: eos, eot, eom, ... */
int gqa_token_is_control(const gqa_model *model, int32_t token);  /* has no text of its own */
int gqa_model_adds_bos(const gqa_model *model);                   /* the file asks for BOS before a text */
const char *gqa_model_chat_template(const gqa_model *model);      /* Jinja text from the file; NULL: none */
const char *gqa_model_warning(const gqa_model *model);            /* something odd but survivable; NULL: nothing */

/* ---- session -------------------------------------------------------------------------------------------------- */

/* A program's own threads: runs fn(arg, 0) to fn(arg, n - 1), each once, and returns when all have returned. Best all at once,
 * each on a thread of its own; correct in any order. */
typedef void (*gqa_run_parallel)(void *user, int n, void (*fn)(void *arg, int thread), void *arg);

typedef struct gqa_session_options {
    int context;      /* positions; 0: the smaller of 4096 and the model's context_length */
    const char *kv;   /* KV cache type: "f32", "f16", "bf16", "q8_0", "q4_0"; NULL: "f16" */
    int n_threads;    /* 0: one per physical core that the process may use */
    int batch;        /* prompt tokens evaluated together; 0: 512 */
} gqa_session_options;

typedef struct gqa_session gqa_session;

/* Allocates all the session will ever need; cache memory is taken from the system as positions fill. */
gqa_session *gqa_session_new(const gqa_model *model, const gqa_session_options *opt, gqa_error *err);
void gqa_session_free(gqa_session *session);

/* Appends tokens[n] to the sequence and computes the logits that follow the last one. A refused call leaves the session
 * as it was; a cancelled one too, but for the logits, which are gone. (With a sliding window shorter than the call,
 * whole batches evaluated before the cancel stay: gqa_session_position tells.) GQA_ERR_CONTEXT when they do not fit. */
int gqa_session_eval(gqa_session *session, const int32_t *tokens, int n, gqa_error *err);

/* As gqa_session_eval, and writes the logits after each of the n tokens to logits [n, vocab_size]. */
int gqa_session_eval_all(gqa_session *session, const int32_t *tokens, int n, float *logits, gqa_error *err);

/* Batched decoding: one token for each of n different sessions over one model; the weights are read once for all.
 * Logits are then in each session. Either all sessions advance or none does. The threads and the scratch of the session with the
 * longest context are used; a cancel is heard on sessions[0]. */
int gqa_sessions_eval(gqa_session *const *sessions, const int32_t *tokens, int n, gqa_error *err);

/* Logits after the last token, [vocab_size]; valid until the next call on the session. NULL before the first eval
 * and after a rewind. */
const float *gqa_session_logits(const gqa_session *session);

int gqa_session_position(const gqa_session *session); /* tokens held */
int gqa_session_context(const gqa_session *session);  /* tokens that fit */
const int32_t *gqa_session_tokens(const gqa_session *session); /* [position] */
const gqa_model *gqa_session_model(const gqa_session *session);
uint64_t gqa_session_bytes(const gqa_session *session);        /* memory reserved, KV cache included */
int gqa_session_threads(const gqa_session *session);

/* Forgets all tokens from position on. With a sliding window, positions already overwritten cannot come back:
 * GQA_ERR_ARGUMENT, and the session is unchanged (position 0 always works). */
int gqa_session_rewind(gqa_session *session, int position, gqa_error *err);

/* For speed measurements: appends n positions with random keys and values, without computing them. */
int gqa_session_fill_random(gqa_session *session, int n, uint64_t seed, gqa_error *err);

/* Makes a running or the next gqa_session_eval return GQA_ERR_CANCELLED within a layer's time. May be called from
 * another thread or a signal handler. The request is dropped when an eval has obeyed it. */
void gqa_session_cancel(gqa_session *session);

/* Writes tokens, KV cache and logits to a file (atomically: a temporary file, then rename); reads them back. A saved
 * session is checked like a model file, and refused if it is damaged or made for another model or cache type. On
 * failure of load the session is empty (position 0). */
int gqa_session_save(const gqa_session *session, const char *path, gqa_error *err);
int gqa_session_load(gqa_session *session, const char *path, gqa_error *err);

/* ---- sampler -------------------------------------------------------------------------------------------------- */

typedef struct gqa_sampler_options {
    float temperature;    /* 0: greedy (the arg max, lowest id on a tie) */
    int top_k;            /* keep the k likeliest; 0: all */
    float top_p;          /* keep the smallest set whose probability reaches top_p, in (0, 1]; 0 or 1: all */
    float min_p;          /* drop tokens below min_p times the likeliest, in [0, 1); 0: none */
    float repeat_penalty; /* divide positive (multiply negative) logits of recent tokens; 0 or 1: off */
    int repeat_last;      /* how many tokens back the penalty looks; 0: 64 */
    uint64_t seed;
} gqa_sampler_options;

typedef struct gqa_sampler gqa_sampler;

/* Order: repetition penalty, temperature, softmax, top-k, top-p (of the probability that top-k left), min-p, draw.
 * NULL options: greedy. */
gqa_sampler *gqa_sampler_new(const gqa_sampler_options *opt, gqa_error *err);
void gqa_sampler_free(gqa_sampler *sampler);
/* Picks a token from logits[n]; NaN counts as minus infinity. Negative (a gqa_status) on failure. */
int32_t gqa_sampler_next(gqa_sampler *sampler, const float *logits, int n);
/* Tells the repetition penalty of a token in the text (gqa_generate does it for prompt and output). */
void gqa_sampler_accept(gqa_sampler *sampler, int32_t token);
void gqa_sampler_reset(gqa_sampler *sampler, uint64_t seed);

/* ---- generate ------------------------------------------------------------------------------------------------- */

typedef enum gqa_stop {
    GQA_STOP_LENGTH = 1,  /* max_tokens made */
    GQA_STOP_END = 2,     /* the model ended the text */
    GQA_STOP_STRING = 3,  /* one of the stop strings came */
    GQA_STOP_CONTEXT = 4, /* the context is full */
    GQA_STOP_CALLER = 5   /* on_text returned nonzero, or the session was cancelled */
} gqa_stop;

/* Receives text[len]: whole UTF-8 characters (bytes that are not valid UTF-8 are passed on as they are), not
 * terminated by 0. A nonzero return stops generation. */
typedef int (*gqa_on_text)(void *user, const char *text, size_t len);

typedef struct gqa_generate_options {
    int max_tokens;            /* 0: until the context is full */
    const char *const *stop;   /* [n_stop] stop strings: never part of the output, found across token borders */
    int n_stop;
    unsigned tokenize_flags;   /* for the prompt; GQA_TOKENIZE_NONE for none. 0: GQA_TOKENIZE_BOS if the session is empty */
    int ignore_end;            /* go on after an end token (or BOS, which ends a text as well) */
} gqa_generate_options;
enum { GQA_TOKENIZE_NONE = 256 };

typedef struct gqa_generate_result {
    gqa_stop stop;
    int prompt_tokens, generated_tokens;
    double prefill_seconds;    /* evaluating the prompt */
    double first_token_seconds;/* call to first sampled token */
    double decode_seconds;     /* first sampled token to last */
} gqa_generate_result;

/* Tokenizes prompt (0-terminated), appends it to the session, then samples tokens and hands their text to on_text.
 * An empty prompt needs a model with BOS or a session that has logits. result may be NULL. Returns 0 for every
 * gqa_stop, negative on failure. The session then holds the prompt and all tokens made, but for the one that ended the text
 * and one that was made when the context was full. */
int gqa_generate(gqa_session *session, gqa_sampler *sampler, const char *prompt, const gqa_generate_options *opt,
                 gqa_on_text on_text, void *user, gqa_generate_result *result, gqa_error *err);

/* "MAJOR.MINOR.PATCH" of the library linked. */
const char *gqa_version(void);

#ifdef __cplusplus
}
#endif
#endif
