/* terminal.h: what generate and chat share: options, opening, prompts, Ctrl-C, progress. */
#ifndef GQA_TERMINAL_H
#define GQA_TERMINAL_H

#include "command.h"

enum { N_TEXT_OPTIONS = 19 };
typedef struct text_settings {
    const char *tokenizer, *kv, *draft;
    int context, threads, no_repack, fast, max_tokens, ignore_end, quiet, lookup, exact;
    gqa_sampler_options sampling;
    int64_t seed;              /* -1: from the clock; the one in use after text_open */
    opt_list stop, choices;
    opt options[N_TEXT_OPTIONS + 1]; /* that set all but max_tokens and temperature */
} text_settings;
void text_settings_init(text_settings *s); /* sets the defaults and fills the options */
/* 0, or EXIT_USAGE after printing an error: a text of --stop or --choice that none can be. */
int text_check(const text_settings *s);

/* A model with a session and a sampler. */
typedef struct text_run {
    text_settings *settings;
    gqa_model *model;
    gqa_session *session;
    gqa_sampler *sampler;
    gqa_model *draft_model;
    gqa_session *draft;        /* NULL: none */
    double load_seconds;
} text_run;

/* Opens everything, and makes Ctrl-C cancel the session. 0, or an exit code after printing an
 * error; text_close either way. */
int text_open(text_run *run, const char *path, text_settings *settings);
void text_close(text_run *run);

/* Token ids of text[len], *n of them, for gqa_free(). A text that begins with the BOS token gets no
 * second one; unless quiet, notes on stderr tell of that and of bytes that are left out. NULL after
 * printing an error. */
int32_t *text_tokenize(const gqa_model *model, const char *text, size_t len, unsigned flags,
                       int quiet, int *n);

/* Makes the session hold tokens[n]: keeps the longest common beginning, *kept tokens, and evaluates
 * the rest, at least the last, with progress on stderr after a second. Returns 0, or a negative
 * status after printing an error (none for GQA_ERR_CANCELLED). Adds the seconds it took. */
int text_sync(text_run *run, const int32_t *tokens, int n, int *kept, double *seconds);

/* Tells the sampler of text that an answer may repeat: of all tokens but control tokens. */
void text_accept(text_run *run, const int32_t *tokens, int n);

/* What speculation did, if it was asked for: a line on stderr. */
void show_speculation(const text_run *run, const gqa_generate_result *r);

/* How often Ctrl-C came since interrupt_clear. The third one, when two changed nothing, ends the
 * program. */
int interrupted(void);
void interrupt_clear(void);

enum { EXIT_INTERRUPTED = 130 };  /* 128 + SIGINT, as shells have it */

#endif
