/* train.h: training LLaMA-style models with any number of KV heads on the CPU. The runtime never
 * depends on it.
 *
 *     text -> gqa_bpe_train -> gqa_vocab -> gqa_dataset -> gqa_trainer -> gqa_trainer_export
 *
 * Everything follows from the options and the seed: results are the same bits for any number of
 * threads, and a run that was stopped and resumed gives the same bits as one that was not.
 * Nothing here prints or exits. */
#ifndef GQA_TRAIN_H
#define GQA_TRAIN_H

#include <stdatomic.h>

#include "../vocab/tokenizer.h"

/* ---- tokenizer ------------------------------------------------------------------------------- */

/* Learns a SentencePiece-style byte-pair vocabulary of n tokens from text[len] (Sennrich et al.
 * 2016): <unk> <s> </s>, the 256 bytes, merges in the order learnt, single characters. n is at
 * least 300; fewer tokens come out when the text has no more pairs that repeat. Merges never
 * cross words: a word starts at its space, and letters, single digits, punctuation and line ends
 * stay apart. Text after a GQA_DOCUMENT_END starts a new word. Deterministic. */
int gqa_bpe_train(gqa_vocab **out, const char *text, size_t len, int n, gqa_error *err);

/* ---- text as tokens -------------------------------------------------------------------------- */

#define GQA_DOCUMENT_END "<|endoftext|>"

/* Documents one after another: BOS where the vocabulary asks for it, the text without white space
 * at its ends, and the vocabulary's token GQA_DOCUMENT_END, else EOS. */
typedef struct gqa_dataset {
    int32_t *tokens;    /* [n_tokens] */
    size_t n_tokens;
    uint64_t n_bytes;   /* of text, without markers and trimmed white space */
    int n_documents;
} gqa_dataset;

/* Cuts text[len] at GQA_DOCUMENT_END (without any it is one document) and appends the tokens of its
 * documents. */
int gqa_dataset_add(gqa_dataset *d, const gqa_vocab *vocab, const char *text, size_t len,
                    gqa_error *err);
void gqa_dataset_free(gqa_dataset *d);
/* A hash of all tokens, which tells one training text from another. */
uint64_t gqa_dataset_fingerprint(const gqa_dataset *d);

/* Where training sequence number `index` starts: each epoch cuts the data, at a new offset, into
 * windows of length + 1 tokens that overlap by one, and visits them in a new order.
 * n_tokens > length. */
size_t gqa_dataset_window(const gqa_dataset *d, int length, uint64_t seed, uint64_t index);

/* ---- training -------------------------------------------------------------------------------- */

typedef struct gqa_train_options {
    int steps;            /* of the whole run */
    int batch;            /* sequences per step; 0: 32 */
    int micro_batch;      /* sequences evaluated together, divides batch (the same gradient but for
                             rounding). 0: up to 4096 tokens and 2 GiB of activations */
    int length;           /* tokens per sequence; 0: 512, or the model's context if smaller */
    float rate;           /* peak learning rate; 0: 0.002 */
    float rate_end;       /* final rate as a share of the peak, along a cosine; 0: 0.1 */
    int warmup;           /* steps of linear warm-up; negative: none; 0: steps / 20, at most 200 */
    int muon;             /* the layers' matrices by Muon (Jordan et al. 2024), else AdamW */
    float beta1, beta2;   /* AdamW's; 0: 0.9, 0.99 */
    float decay;          /* decoupled weight decay of matrices; negative: none; 0: 0.1 */
    float clip;           /* maximum norm of the gradient; 0: 1 */
    float distill;        /* weight in the loss of KL from the teachers; the text has the rest */
    float dropout;        /* share of embeddings and layer outputs set to 0, 0..0.9; < 0: none */
    uint64_t seed;
    int n_threads;        /* 0: one per physical core */
    const atomic_int *stop; /* NULL, or what ends a step or a validation with GQA_ERR_CANCELLED,
                               without an update, soon after it is not 0 any more */
} gqa_train_options;

typedef struct gqa_trainer gqa_trainer;

/* A model with random weights. config: dim, n_layers, n_heads, n_kv_heads, ffn_dim, vocab_size,
 * context_length, tied_embeddings; other fields 0 or the llama defaults. Biases, QK norms, windows
 * and RoPE scaling are refused. Options left 0 get their defaults: see gqa_trainer_options. */
gqa_trainer *gqa_trainer_new(const gqa_config *config, const gqa_train_options *opt,
                             gqa_error *err);
/* Whether gqa_trainer_new would take them; but for the memory. */
int gqa_trainer_can_train(const gqa_config *config, const gqa_train_options *opt, gqa_error *err);
/* The same with the weights of a llama checkpoint (any type, converted to f32). */
gqa_trainer *gqa_trainer_from(const gqa_checkpoint *c, const gqa_train_options *opt,
                              gqa_error *err);
void gqa_trainer_free(gqa_trainer *t);

const gqa_config *gqa_trainer_config(const gqa_trainer *t);
const gqa_train_options *gqa_trainer_options(const gqa_trainer *t); /* with defaults filled in */
int gqa_trainer_steps_done(const gqa_trainer *t);
/* How the steps went: the caller's to keep; a saved run has them with its state. */
typedef struct gqa_train_progress {
    float loss;           /* mean of the last steps */
    float seconds;        /* spent in steps */
} gqa_train_progress;
gqa_train_progress *gqa_trainer_progress(gqa_trainer *t);
/* Whether steps, a validation and an export can begin: n_tokens of d and, unless it is NULL, of val
 * are enough for a sequence, and every matrix has rows that can be stored as that type. */
int gqa_trainer_check(const gqa_trainer *t, const gqa_dataset *d, const gqa_dataset *val,
                      gqa_type type, gqa_error *err);
uint64_t gqa_trainer_params(const gqa_trainer *t);
/* Floating-point operations of one step: 6 per matrix weight and token, and causal attention. */
double gqa_trainer_step_flops(const gqa_trainer *t);
uint64_t gqa_trainer_bytes(const gqa_trainer *t); /* memory in use */

/* Adds a teacher (options.distill > 0): a frozen model of the same vocabulary. Copies its weights.
 * Several teach the geometric mean of their probabilities. */
enum { GQA_MAX_TEACHERS = 4 };
int gqa_trainer_add_teacher(gqa_trainer *t, const gqa_checkpoint *c, gqa_error *err);

typedef struct gqa_step_result {
    double loss;       /* nats per token, mean over the step, before the update */
    double grad_norm;  /* before clipping */
    double rate;
} gqa_step_result;
/* One step of optimisation. d must have more than length tokens, all below vocab_size. */
int gqa_trainer_step(gqa_trainer *t, const gqa_dataset *d, gqa_step_result *result,
                     gqa_error *err);

typedef struct gqa_validation {
    double nats_per_token;
    double bits_per_byte;   /* document ends count in the loss, but have no bytes */
    uint64_t n_tokens;
} gqa_validation;
/* The loss on d, cut into windows of the training length, at most max_windows of them (0: all). */
int gqa_trainer_validate(gqa_trainer *t, const gqa_dataset *d, int max_windows,
                         gqa_validation *result, gqa_error *err);

/* Loss (nats per token) and gradient of sequences tokens [n, length + 1], without an update: for
 * tests and measurements. logits: NULL, or [n * length, vocab_size] to fill. The n sequences
 * must fit in a micro-batch. */
int gqa_trainer_gradient(gqa_trainer *t, const int32_t *tokens, int n, double *loss, float *logits,
                         gqa_error *err);

/* Weights, and their gradient after gqa_trainer_gradient, by GGUF name: [rows, cols];
 * *n = rows * cols. NULL: no such tensor. */
float *gqa_trainer_weights(gqa_trainer *t, const char *name, size_t *n);
float *gqa_trainer_grads(gqa_trainer *t, const char *name, size_t *n);
/* Name of tensor i, or NULL past the last. */
const char *gqa_trainer_tensor_name(const gqa_trainer *t, int i);

/* ---- files ----------------------------------------------------------------------------------- */

/* What a model file records of its training ("gqa.train.*"). */
typedef struct gqa_train_record {
    const char *command;              /* NULL: not known */
    const gqa_validation *validation; /* NULL: none */
} gqa_train_record;

/* Writes the model as GGUF, atomically: matrices in the given type, norms in f32. */
int gqa_trainer_export(const gqa_trainer *t, const gqa_vocab *vocab, gqa_type type,
                       const gqa_train_record *record, const char *path, gqa_error *err);
/* What else a run depends on: a name ("parent"), and a word or a hash. */
typedef struct gqa_train_input {
    char name[24], value[32];
} gqa_train_input;
/* The same in f32 with the optimiser's state, for gqa_trainer_resume. text: gqa_dataset_fingerprint
 * of the training text. inputs: NULL, or what must be the same as well; an empty name ends it. */
int gqa_trainer_save(const gqa_trainer *t, const gqa_vocab *vocab, uint64_t text,
                     const gqa_train_input *inputs, const char *path, gqa_error *err);
/* Reads weights, optimiser and steps done from a file of gqa_trainer_save. Refused when its
 * shape, options (but for n_threads), text or inputs differ, with the name of what differs, and
 * when it is too old to record them. Teachers are not part of the file. */
int gqa_trainer_resume(gqa_trainer *t, uint64_t text, const gqa_train_input *inputs,
                       const gqa_checkpoint *c, gqa_error *err);
/* The options a model was trained with, from its "gqa.train.*" keys. Returns 1 when it has none. */
int gqa_train_options_read(const gqa_checkpoint *c, gqa_train_options *opt, gqa_error *err);

#endif
