/* generate.c: from a prompt to text: joins tokens into text, and runs the loop around the session
 * and the sampler.
 *
 * Tokens may end in the middle of characters and of stop strings. Text is therefore held back until
 * it is known to be whole characters that cannot be the beginning of a stop string; nothing is ever
 * dropped. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "session/session_internal.h"

/* ---- tokens to text -------------------------------------------------------------------------- */

struct gqa_text {
    const gqa_model *model;
    int drop_space;          /* of the next token: encoding put a space before the text */
    char **stop;             /* [n_stop] */
    size_t *stop_len;        /* [n_stop] */
    int n_stop;
    char *buf;               /* [capacity]: `done` bytes handed out, then `len` held back */
    size_t done, len, capacity;
    int stopped;             /* a stop string was found */
};

static int check_stops(const char *const *stop, int n_stop, gqa_error *err) {
    if (n_stop < 0)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%d stop strings: expected 0 or more", n_stop);
    if (n_stop > 0 && !stop)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%d stop strings: stop is NULL", n_stop);
    for (int i = 0; i < n_stop; i++)
        if (!stop[i] || !*stop[i])
            return gqa_fail(err, GQA_ERR_ARGUMENT, "stop string %d is empty", i);
    return 0;
}

static int adds_space(const gqa_model *m) {
    return m->vocab && gqa_vocab_adds_space_prefix(m->vocab);
}

gqa_text *gqa_text_new(const gqa_model *m, int at_start, const char *const *stop, int n_stop,
                       gqa_error *err) {
    if (!m) {
        gqa_fail(err, GQA_ERR_ARGUMENT, "text: model is NULL");
        return NULL;
    }
    if (check_stops(stop, n_stop, err)) return NULL;
    gqa_text *t = calloc(1, sizeof *t);
    if (!t) goto no_memory;
    t->model = m;
    t->drop_space = at_start && adds_space(m);
    t->capacity = 1024;
    t->buf = malloc(t->capacity);
    t->stop = calloc(n_stop + 1u, sizeof *t->stop);
    t->stop_len = calloc(n_stop + 1u, sizeof *t->stop_len);
    if (!t->buf || !t->stop || !t->stop_len) goto no_memory;
    for (; t->n_stop < n_stop; t->n_stop++) {
        const char *text = stop[t->n_stop];
        size_t len = strlen(text);
        char *copy = malloc(len + 1);
        if (!copy) goto no_memory;
        t->stop[t->n_stop] = memcpy(copy, text, len + 1);
        t->stop_len[t->n_stop] = len;
    }
    return t;
no_memory:
    gqa_fail(err, GQA_ERR_MEMORY, "no memory to join text");
    gqa_text_free(t);
    return NULL;
}

void gqa_text_free(gqa_text *t) {
    if (!t) return;
    for (int i = 0; i < t->n_stop; i++) free(t->stop[i]);
    free(t->stop);
    free(t->stop_len);
    free(t->buf);
    free(t);
}

/* Where the first stop string begins in the bytes held back, or -1. */
static ptrdiff_t find_stop(const gqa_text *t) {
    for (size_t at = 0; at < t->len; at++)
        for (int i = 0; i < t->n_stop; i++) {
            size_t n = t->stop_len[i];
            if (n <= t->len - at && !memcmp(t->buf + at, t->stop[i], n)) return (ptrdiff_t)at;
        }
    return -1;
}

/* Whether the bytes held back from `at` on may be the beginning of a stop string. */
static int may_become_stop(const gqa_text *t, size_t at) {
    size_t rest = t->len - at;
    for (int i = 0; i < t->n_stop; i++)
        if (rest < t->stop_len[i] && !memcmp(t->buf + at, t->stop[i], rest)) return 1;
    return 0;
}

/* How many of the bytes held back are complete: whole characters before anything that may become a
 * stop string. */
static size_t complete_length(const gqa_text *t) {
    size_t end = 0, at = 0;
    while (end < t->len && !may_become_stop(t, end)) end++;
    while (at < end) {
        int n = utf8_length(t->buf + at, end - at);
        if (n == 0) break;
        at += n > 0 ? (size_t)n : 1;
    }
    return at;
}

/* Hands out the first n bytes held back; they stay in place until the next call. */
static void hand_out(gqa_text *t, size_t n, const char **out, size_t *len) {
    *out = t->buf;
    *len = n;
    t->done = n;
    t->len -= n;
}

/* Forgets what was handed out. */
static void discard_done(gqa_text *t) {
    memmove(t->buf, t->buf + t->done, t->len);
    t->done = 0;
}

/* Appends the token's bytes to those held back. */
static int append_token(gqa_text *t, int32_t token, gqa_error *err) {
    int n_ids = max_int(gqa_vocab_size(t->model), t->model->config.vocab_size);
    if (token < 0 || token >= n_ids)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "text: token %d, expected 0 to %d", token,
                        n_ids - 1);
    char *end = t->buf + t->len;
    int cap = (int)min_size(t->capacity - t->len, INT32_MAX);
    int written = gqa_token_bytes(t->model, token, end, cap);
    if (written <= 0) { /* a control token, or a row of the classifier that is no token */
        if (token == gqa_token_bos(t->model)) t->drop_space = adds_space(t->model);
        return 0;
    }
    size_t n = written;
    if (t->capacity - t->len < n) {
        size_t capacity = (t->len + n) * 2;
        char *grown = realloc(t->buf, capacity);
        if (!grown)
            return gqa_fail(err, GQA_ERR_MEMORY, "no memory for %zu bytes of text", capacity);
        t->buf = grown;
        t->capacity = capacity;
        end = t->buf + t->len;
        gqa_token_bytes(t->model, token, end, written);
    }
    if (t->drop_space && *end == ' ') memmove(end, end + 1, --n);
    t->len += n;
    t->drop_space = 0;
    return 0;
}

int gqa_text_push(gqa_text *t, int32_t token, const char **out, size_t *len, gqa_error *err) {
    if (!t || !out || !len)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "text: text, out or len is NULL");
    discard_done(t);
    hand_out(t, 0, out, len);
    if (t->stopped) return 1;
    int status = append_token(t, token, err);
    if (status) return status;
    ptrdiff_t stop = find_stop(t);
    hand_out(t, stop >= 0 ? (size_t)stop : complete_length(t), out, len);
    if (stop < 0) return 0;
    t->len = 0;
    t->stopped = 1;
    return 1;
}

void gqa_text_flush(gqa_text *t, const char **out, size_t *len) {
    if (!out || !len) return;
    *len = 0;
    if (!t) return;
    discard_done(t);
    hand_out(t, t->len, out, len);
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* One call of gqa_generate. */
typedef struct generation {
    gqa_session *session;
    gqa_sampler *sampler;
    const gqa_generate_options *opt;
    gqa_on_text on_text;
    void *user;
    gqa_text *text;
    int text_refused;        /* on_text wants no more */
    float *logits;           /* [vocab_size] a copy, for on_logits and tokens that the file forbids;
                              * NULL: neither */
    gqa_speculation *speculation; /* NULL: none */
    double start;            /* of the call, in seconds */
    gqa_generate_result result;
} generation;

static int vocab_size_of(const generation *g) {
    return gqa_model_config(gqa_session_model(g->session))->vocab_size;
}

/* Control tokens mark turns; the repetition penalty must not count them. */
static void accept_text(generation *g, int32_t token) {
    if (!gqa_token_is_control(gqa_session_model(g->session), token))
        gqa_sampler_accept(g->sampler, token);
}

static int eval_prompt(generation *g, const int32_t *tokens, int n, gqa_error *err) {
    if (n == 0 && !gqa_session_logits(g->session))
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "generate: no tokens, and the session has no logits to continue from");
    int status = n > 0 ? gqa_session_eval(g->session, tokens, n, err) : 0;
    if (status) return status;
    for (int i = 0; i < n; i++) accept_text(g, tokens[i]);
    g->result.prompt_tokens = n;
    return 0;
}

/* Shows the logits to on_logits and samples. Returns 0 and *token, a gqa_stop, or a negative
 * status. */
static int next_token(generation *g, int32_t *token, gqa_error *err) {
    const float *logits = gqa_session_logits(g->session);
    int n_vocab = vocab_size_of(g);
    if (g->logits) {
        memcpy(g->logits, logits, sizeof(float) * (size_t)n_vocab);
        gqa_vocab_suppress(g->session->model->vocab, g->logits, n_vocab);
        if (g->opt->on_logits &&
            g->opt->on_logits(g->user, gqa_session_tokens(g->session),
                              gqa_session_position(g->session), g->logits, n_vocab))
            return GQA_STOP_CALLER;
        logits = g->logits;
    }
    *token = gqa_sampler_next(g->sampler, logits, n_vocab);
    if (*token >= 0) return 0;
    if (*token == GQA_ERR_NUMERIC)
        return gqa_fail(err, *token, "no token can be sampled: all %d logits are minus infinity",
                        n_vocab);
    return gqa_fail(err, *token, "no token could be sampled");
}

/* Reports a token to on_token. Returns whether the caller wants to stop. */
static int report_token(const generation *g, int32_t token) {
    if (!g->opt->on_token) return 0;
    const float *logits = gqa_session_logits(g->session);
    double log_p = (double)logits[token] - gqa_log_sum_exp(logits, vocab_size_of(g));
    return g->opt->on_token(g->user, token, (float)log_p) != 0;
}

/* Passes text on. Returns whether the caller wants to stop. */
static int show(generation *g, const char *text, size_t len) {
    if (len > 0 && g->on_text && !g->text_refused)
        g->text_refused = g->on_text(g->user, text, len) != 0;
    return g->text_refused;
}

/* Adds a token to the text. Returns 0, the gqa_stop that it caused, or a negative status. */
static int add_text(generation *g, int32_t token, gqa_error *err) {
    const char *text;
    size_t len;
    int stop = gqa_text_push(g->text, token, &text, &len, err);
    if (stop < 0) return stop;
    if (show(g, text, len)) return GQA_STOP_CALLER;
    return stop ? GQA_STOP_STRING : 0;
}

static void count_token(generation *g, double *first) {
    double time = gqa_os_seconds();
    if (g->result.generated_tokens++ == 0) {
        *first = time;
        g->result.first_token_seconds = time - g->start;
    }
    g->result.decode_seconds = time - *first;
}

/* Appends a sampled token to the session. is_last: nothing will follow. */
static int append(generation *g, int32_t token, int is_last, gqa_error *err) {
    int limit = g->opt->max_tokens ? g->opt->max_tokens - g->result.generated_tokens : INT_MAX;
    if (!g->speculation) return gqa_session_eval(g->session, &token, 1, err);
    return gqa_speculation_eval(g->speculation, token, is_last ? 0 : limit, err);
}

/* Samples until something stops it. Returns the gqa_stop, or a negative status. */
static int decode(generation *g, gqa_error *err) {
    gqa_session *s = g->session;
    const gqa_model *m = gqa_session_model(s);
    int32_t token, bos = gqa_token_bos(m);
    double first = 0;
    for (;;) {
        int stop = next_token(g, &token, err);
        if (stop) return stop;
        int refused = report_token(g, token);
        /* TinyStories models end a text with BOS. */
        int is_end = gqa_token_is_end(m, token) ||
                     (token == bos && gqa_token_is_control(m, token));
        if (is_end && !g->opt->ignore_end) return GQA_STOP_END;
        count_token(g, &first);
        accept_text(g, token);
        stop = add_text(g, token, err);
        if (stop < 0) return stop;
        if (!stop && refused) stop = GQA_STOP_CALLER;
        if (!stop && g->result.generated_tokens == g->opt->max_tokens) stop = GQA_STOP_LENGTH;
        if (gqa_session_position(s) == gqa_session_context(s))
            return stop ? stop : GQA_STOP_CONTEXT;
        int status = append(g, token, stop, err); /* the last one too: it is in the text */
        if (status) return status;
        if (stop) return stop;
    }
}

static int check_draft(const gqa_session *s, const gqa_session *draft, gqa_error *err) {
    if (!draft) return 0;
    if (draft == s) return gqa_fail(err, GQA_ERR_ARGUMENT, "generate: draft is the session itself");
    return gqa_check_vocabulary(s->model, draft->model, err);
}

static int check_call(const gqa_session *s, const gqa_sampler *sampler, int has_prompt, int n,
                      const gqa_generate_options *opt, gqa_error *err) {
    if (!s || !sampler || !has_prompt)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "generate: session, sampler or prompt is NULL");
    if (n < 0) return gqa_fail(err, GQA_ERR_ARGUMENT, "generate: %d tokens", n);
    if (opt->max_tokens < 0)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "max_tokens %d: expected a number from 0 up",
                        opt->max_tokens);
    int status = check_stops(opt->stop, opt->n_stop, err);
    if (!status) status = check_draft(s, opt->draft, err);
    if (status) return status;
    return gqa_check_reserved(opt->reserved, sizeof opt->reserved, "generate options", err);
}

static const gqa_generate_options default_generate_options;

int gqa_generate_tokens(gqa_session *s, gqa_sampler *sampler, const int32_t *tokens, int n,
                        const gqa_generate_options *opt, gqa_on_text on_text, void *user,
                        gqa_generate_result *result, gqa_error *err) {
    if (!opt) opt = &default_generate_options;
    int has_prompt = n == 0 || tokens != NULL;
    int status = check_call(s, sampler, has_prompt, n, opt, err);
    if (status) return status;
    if (result) *result = (gqa_generate_result){0};
    generation g = {.session = s, .sampler = sampler, .opt = opt, .on_text = on_text, .user = user};
    gqa_error why = {0};
    g.start = gqa_os_seconds();
    gqa_session_cancel_clear(s);
    if (opt->on_logits || gqa_vocab_suppress(s->model->vocab, NULL, 0)) {
        g.logits = malloc(sizeof(float) * (size_t)vocab_size_of(&g));
        if (!g.logits) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for a copy of the logits");
    }
    if (opt->lookup || opt->draft) {
        g.speculation = gqa_speculation_new(s, opt->draft, opt->lookup);
        if (!g.speculation) status = gqa_fail(&why, GQA_ERR_MEMORY, "no memory for speculation");
    }
    if (!status) status = eval_prompt(&g, tokens, n, &why);
    g.result.prefill_seconds = gqa_os_seconds() - g.start;
    if (!status) {
        int end = gqa_session_position(s), bos = gqa_token_bos(gqa_session_model(s));
        int at_start = end > 0 && bos >= 0 && gqa_session_tokens(s)[end - 1] == bos;
        g.text = gqa_text_new(gqa_session_model(s), at_start, opt->stop, opt->n_stop, &why);
        status = g.text ? decode(&g, &why) : (int)why.code;
    }
    if (status == GQA_ERR_CANCELLED) status = GQA_STOP_CALLER;
    if (status > 0 && g.text) {
        const char *text;
        size_t len;
        gqa_text_flush(g.text, &text, &len); /* an incomplete character is passed on as it is */
        if (show(&g, text, len)) status = GQA_STOP_CALLER;
    }
    gqa_session_cancel_clear(s); /* one that came too late */
    gqa_text_free(g.text);
    gqa_speculation_end(g.speculation, &g.result);
    free(g.logits);
    if (status > 0) g.result.stop = (gqa_stop)status;
    if (status < 0 && err) *err = why;
    if (result) *result = g.result;
    return min_int(status, 0);
}

int gqa_generate(gqa_session *s, gqa_sampler *sampler, const char *prompt,
                 const gqa_generate_options *opt, gqa_on_text on_text, void *user,
                 gqa_generate_result *result, gqa_error *err) {
    if (!opt) opt = &default_generate_options;
    int status = check_call(s, sampler, prompt != NULL, 0, opt, err);
    if (status) return status;
    size_t len = strlen(prompt);
    unsigned flags = opt->tokenize_flags;
    if (flags == 0) flags = gqa_session_position(s) == 0 ? GQA_TOKENIZE_BOS : GQA_TOKENIZE_NONE;
    if (len > GQA_MAX_CONTEXT * (size_t)64)
        return gqa_fail(err, GQA_ERR_CONTEXT, "a prompt of %zu bytes is longer than any context",
                        len);
    int32_t *tokens;
    flags &= ~(unsigned)GQA_TOKENIZE_NONE;
    double start = gqa_os_seconds();
    int n = gqa_tokenize_new(gqa_session_model(s), prompt, len, flags, &tokens, err);
    double seconds = gqa_os_seconds() - start;
    if (n < 0) return n;
    if (n == 0 && !gqa_session_logits(s)) {
        gqa_free(tokens);
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "the prompt is empty, and the model puts no token before a text: give a "
                        "prompt");
    }
    status = gqa_generate_tokens(s, sampler, tokens, n, opt, on_text, user, result, err);
    gqa_free(tokens);
    if (result) {
        result->prefill_seconds += seconds;
        if (result->generated_tokens) result->first_token_seconds += seconds;
    }
    return status;
}
