/* generate.c: prompt in, text out: the loop around the session and the sampler, and the joining of tokens into text.
 *
 * Tokens end in the middle of characters and of stop strings. Text therefore waits in a buffer until it is known to be
 * whole characters that cannot be the beginning of a stop string; nothing that arrives is ever dropped. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session/session_internal.h"
#include "base/utf8.h"

const char *gqa_version(void) { return GQA_VERSION; }

/* ---- text on its way out ----------------------------------------------------------------------------------------- */

typedef struct outlet {
    gqa_on_text on_text;
    void *user;
    const char *const *stop;  /* [n_stop] */
    int n_stop;
    char *held;               /* [len] of [capacity]: not handed over yet */
    size_t len, capacity;
    int refused;              /* on_text asked to stop, and is not called again */
} outlet;

/* Hands over the first n bytes held. Returns whether the caller wants to stop. */
static int release(outlet *o, size_t n) {
    if (!o->refused && n > 0 && o->on_text) o->refused = o->on_text(o->user, o->held, n) != 0;
    memmove(o->held, o->held + n, o->len - n);
    o->len -= n;
    return o->refused;
}

/* Where the first stop string begins, or -1. */
static ptrdiff_t find_stop(const outlet *o) {
    for (size_t at = 0; at < o->len; at++)
        for (int i = 0; i < o->n_stop; i++) {
            size_t n = strlen(o->stop[i]);
            if (n <= o->len - at && !memcmp(o->held + at, o->stop[i], n)) return (ptrdiff_t)at;
        }
    return -1;
}

/* Whether what is held from `at` on may be the beginning of a stop string. */
static int may_become_stop(const outlet *o, size_t at) {
    for (int i = 0; i < o->n_stop; i++)
        if (o->len - at < strlen(o->stop[i]) && !memcmp(o->held + at, o->stop[i], o->len - at)) return 1;
    return 0;
}

/* How many of the bytes held can go: whole characters before anything that may become a stop string. */
static size_t sure_length(const outlet *o) {
    size_t end = 0, at = 0;
    while (end < o->len && !may_become_stop(o, end)) end++;
    while (at < end) {
        int n = utf8_length(o->held + at, end - at);
        if (n == 0) break;
        at += n > 0 ? (size_t)n : 1;
    }
    return at;
}

/* Adds the text of a token. Returns 0, a negative status, or the gqa_stop that it caused. */
static int feed(outlet *o, const gqa_model *m, int32_t token, int drop_space, gqa_error *err) {
    int n = gqa_token_bytes(m, token, o->held + o->len, (int)(o->capacity - o->len));
    if (n <= 0) return 0;  /* a control token, or a padded row of the classifier that stands for no token */
    if (o->capacity - o->len < (size_t)n) {
        size_t capacity = (o->len + (size_t)n) * 2;
        char *held = realloc(o->held, capacity);
        if (!held) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for %zu bytes of text", capacity);
        o->held = held;
        o->capacity = capacity;
        gqa_token_bytes(m, token, o->held + o->len, n);
    }
    if (drop_space && o->held[o->len] == ' ') memmove(o->held + o->len, o->held + o->len + 1, (size_t)--n);
    o->len += (size_t)n;
    ptrdiff_t stop = find_stop(o);
    if (stop >= 0) {
        int refused = release(o, (size_t)stop);
        o->len = 0;
        return refused ? GQA_STOP_CALLER : GQA_STOP_STRING;
    }
    return release(o, sure_length(o)) ? GQA_STOP_CALLER : 0;
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Tokens of the prompt into *tokens (the caller frees it); returns how many. */
static int tokenize_prompt(const gqa_session *s, const char *prompt, unsigned flags, int32_t **tokens, gqa_error *err) {
    const gqa_model *m = gqa_session_model(s);
    size_t len = strlen(prompt);
    if (flags == 0) flags = gqa_session_position(s) == 0 ? GQA_TOKENIZE_BOS : GQA_TOKENIZE_NONE;
    if (len > GQA_MAX_CONTEXT * (size_t)64)
        return gqa_fail(err, GQA_ERR_CONTEXT, "a prompt of %zu bytes is longer than any context", len);
    int n = gqa_tokenize_new(m, prompt, len, flags & ~(unsigned)GQA_TOKENIZE_NONE, tokens, err);
    if (n == 0 && !gqa_session_logits(s))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "the prompt is empty, and the model puts no token before a text: give a prompt");
    return n;
}

static int eval_prompt(gqa_session *s, gqa_sampler *sampler, const char *prompt, const gqa_generate_options *opt,
                       gqa_generate_result *r, gqa_error *err) {
    int32_t *tokens = NULL;
    double start = now();
    int n = tokenize_prompt(s, prompt, opt->tokenize_flags, &tokens, err);
    int status = n > 0 ? gqa_session_eval(s, tokens, n, err) : n;
    for (int i = 0; status == 0 && i < n; i++) gqa_sampler_accept(sampler, tokens[i]);
    free(tokens);
    if (status == 0) r->prompt_tokens = n;
    r->prefill_seconds = now() - start;
    return status;
}

/* Samples until something stops it. Returns 0 with r->stop set, or a negative status. */
static int decode(gqa_session *s, gqa_sampler *sampler, const gqa_generate_options *opt, outlet *o, double start,
                  gqa_generate_result *r, gqa_error *err) {
    const gqa_model *m = gqa_session_model(s);
    int vocab = gqa_model_config(m)->vocab_size, position = gqa_session_position(s), bos = gqa_token_bos(m);
    /* Encoding put a space before the text, and the text begins after BOS. */
    int drop_space = m->vocab && gqa_vocab_adds_space_prefix(m->vocab) && position > 0 && bos >= 0 &&
                     gqa_session_tokens(s)[position - 1] == bos;
    double first = 0;
    for (;;) {
        int32_t token = gqa_sampler_next(sampler, gqa_session_logits(s), vocab);
        if (token < 0) return gqa_fail(err, token, "no token could be sampled");
        if (!opt->ignore_end && (gqa_token_is_end(m, token) || token == bos)) {  /* TinyStories models end with BOS */
            r->stop = GQA_STOP_END;
            return 0;
        }
        double time = now();
        if (r->generated_tokens++ == 0) {
            first = time;
            r->first_token_seconds = time - start;
        }
        r->decode_seconds = time - first;
        gqa_sampler_accept(sampler, token);
        int stop = feed(o, m, token, drop_space, err);
        if (stop < 0) return stop;
        drop_space = 0;
        if (gqa_session_position(s) == gqa_session_context(s)) {
            r->stop = stop ? (gqa_stop)stop : r->generated_tokens == opt->max_tokens ? GQA_STOP_LENGTH : GQA_STOP_CONTEXT;
            return 0;
        }
        int status = gqa_session_eval(s, &token, 1, err);  /* the last one too: the session holds the text */
        if (status) return status;
        if (!stop && r->generated_tokens == opt->max_tokens) stop = GQA_STOP_LENGTH;
        if (stop) {
            r->stop = (gqa_stop)stop;
            return 0;
        }
    }
}

static int check_options(const gqa_generate_options *o, gqa_error *err) {
    if (o->max_tokens < 0) return gqa_fail(err, GQA_ERR_ARGUMENT, "max_tokens %d: expected a number from 0 up", o->max_tokens);
    if (o->n_stop < 0 || (o->n_stop > 0 && !o->stop)) return gqa_fail(err, GQA_ERR_ARGUMENT, "%d stop strings: none given", o->n_stop);
    for (int i = 0; i < o->n_stop; i++)
        if (!o->stop[i] || !*o->stop[i]) return gqa_fail(err, GQA_ERR_ARGUMENT, "stop string %d is empty", i);
    return 0;
}

int gqa_generate(gqa_session *s, gqa_sampler *sampler, const char *prompt, const gqa_generate_options *opt,
                 gqa_on_text on_text, void *user, gqa_generate_result *result, gqa_error *err) {
    static const gqa_generate_options defaults;
    gqa_generate_result r = {0};
    gqa_error why = {0};
    if (!opt) opt = &defaults;
    if (!s || !sampler || !prompt) return gqa_fail(err, GQA_ERR_ARGUMENT, "generate: session, sampler or prompt is NULL");
    int status = check_options(opt, err);
    if (status) return status;
    outlet o = {.on_text = on_text, .user = user, .stop = opt->stop, .n_stop = opt->n_stop, .capacity = 1024};
    o.held = malloc(o.capacity);
    if (!o.held) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for the text");
    double start = now();
    status = eval_prompt(s, sampler, prompt, opt, &r, &why);
    if (!status) status = decode(s, sampler, opt, &o, start, &r, &why);
    if (status == GQA_ERR_CANCELLED) {
        r.stop = GQA_STOP_CALLER;
        status = 0;
    }
    if (!status && release(&o, o.len)) r.stop = GQA_STOP_CALLER;  /* what waited to be whole goes as it is */
    free(o.held);
    if (status && err) *err = why;
    if (result) *result = r;
    return status;
}
