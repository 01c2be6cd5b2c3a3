/* terminal.h: what generate and chat share: options, opening, feeding a prompt, Ctrl-C, progress. */
#ifndef GQA_TERMINAL_H
#define GQA_TERMINAL_H

#include "command.h"

typedef struct text_settings {
    const char *tokenizer, *kv;
    int context, threads, no_repack, max_tokens, ignore_end, quiet;
    gqa_sampler_options sampling;
    int64_t seed;              /* -1: from the clock; the one in use after text_open */
    opt_list stop;
} text_settings;

#define TEXT_DEFAULTS .max_tokens = 256, .seed = -1, .sampling = {.temperature = 1.0f, .top_p = 0.9f}

/* The rows of an option table that both commands have. s: a text_settings. */
#define TEXT_OPTIONS(s)                                                                                                     \
    {"-n", OPT_INT, &(s).max_tokens, 0, INT32_MAX, "N", "tokens to generate; 0: until the context is full (256)"},          \
    {"-t", OPT_FLOAT, &(s).sampling.temperature, 0, 1000, "T", "temperature; 0: always the likeliest token (1.0)"},         \
    {"-p", OPT_FLOAT, &(s).sampling.top_p, 0, 1, "P", "top-p: the likeliest tokens that reach probability P; 1: all (0.9)"},\
    {"--top-k", OPT_INT, &(s).sampling.top_k, 0, INT32_MAX, "K", "only the K likeliest tokens; 0: all (0)"},                \
    {"--min-p", OPT_FLOAT, &(s).sampling.min_p, 0, 0.999999, "P", "no token below P times the likeliest (0)"},              \
    {"--repeat-penalty", OPT_FLOAT, &(s).sampling.repeat_penalty, 0, 100, "R", "against tokens seen lately; 1: none (1)"},  \
    {"--repeat-last", OPT_INT, &(s).sampling.repeat_last, 0, 1 << 24, "N", "how many tokens \"lately\" means (64)"},        \
    {"-s", OPT_INT64, &(s).seed, 0, 9.3e18, "SEED", "the same seed gives the same text (from the clock)"},                  \
    {"-c", OPT_INT, &(s).context, 0, 1 << 24, "N", "context size in tokens (the smaller of 4096 and the model's)"},         \
    {"-j", OPT_INT, &(s).threads, 0, 1024, "N", "threads (physical cores allowed)"},                                        \
    {"--kv", OPT_STRING, &(s).kv, 0, 0, "TYPE", "KV cache type: f32, f16, bf16, q8_0, q4_0 (f16)"},                         \
    {"-z", OPT_STRING, &(s).tokenizer, 0, 0, "FILE", "tokenizer of a llama2.c checkpoint (tokenizer.bin beside it)"},       \
    {"--stop", OPT_STRINGS, &(s).stop, 0, 0, "STR", "end before this text; may be repeated"},                               \
    {"--ignore-eos", OPT_FLAG, &(s).ignore_end, 0, 0, NULL, "go on when the model ends the text"},                          \
    {"--no-repack", OPT_FLAG, &(s).no_repack, 0, 0, NULL, "run from the mapped file: less memory, slower"},                 \
    {"--quiet", OPT_FLAG, &(s).quiet, 0, 0, NULL, "nothing on stderr but errors"}

/* A model with what it needs to speak. */
typedef struct text_run {
    text_settings *settings;
    gqa_model *model;
    gqa_session *session;
    gqa_sampler *sampler;
    double load_seconds;
} text_run;

/* Opens everything, and makes Ctrl-C cancel the session. EXIT_DONE, or an exit code after telling why; text_close
 * either way. */
int text_open(text_run *run, const char *path, text_settings *settings);
void text_close(text_run *run);

/* Token ids of text[len], in memory that the caller frees; *n of them. NULL after telling why. */
int32_t *text_tokenize(const gqa_model *model, const char *text, size_t len, unsigned flags, int *n);

/* Evaluates tokens[n], with progress on stderr after a second. Returns 0 or a negative status, told unless it is
 * GQA_ERR_CANCELLED. Adds the time it took to *seconds. */
int text_feed(text_run *run, const int32_t *tokens, int n, double *seconds);

/* How often Ctrl-C came since interrupt_clear. A third one, when two changed nothing, ends the program. */
int interrupted(void);
void interrupt_clear(void);

enum { EXIT_INTERRUPTED = 130 };  /* as a shell would say it: 128 + SIGINT */

#endif
