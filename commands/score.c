/* score.c: perplexity and divergence (score.h). */
#include "score.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

double score_perplexity(const score *s) { return exp(s->loss / (double)s->n); }

double score_error(const score *s) {
    double mean = s->loss / (double)s->n, variance = s->squares / (double)s->n - mean * mean;
    return s->n > 1 && variance > 0 ? sqrt(variance / (double)(s->n - 1)) * score_perplexity(s) : 0;
}

static int top_of(const float *z, int n) {
    int top = 0;
    for (int i = 1; i < n; i++)
        if (z[i] > z[top]) top = i;
    return top;
}

static double log_sum(const float *z, int n, float top) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)(z[i] - top));
    return (double)top + log(sum);
}

/* One token's logits z [n]; base: those of the first session. */
static void add(score *s, const float *base, const float *z, int n, int32_t token) {
    int top = top_of(z, n);
    double lse = log_sum(z, n, z[top]), loss = lse - (double)z[token];
    s->loss += loss;
    s->squares += loss * loss;
    s->n++;
    if (base == z) return;
    int base_top = top_of(base, n);
    double base_lse = log_sum(base, n, base[base_top]);
    for (int i = 0; i < n; i++) {
        double log_p = (double)base[i] - base_lse;
        s->divergence += exp(log_p) * (log_p - ((double)z[i] - lse));
    }
    s->same_top += top == base_top;
}

static int score_chunk(gqa_session **sessions, int n_sessions, const int32_t *tokens, int n, float *base, float *logits, score *scores, gqa_error *err) {
    int vocab = gqa_model_config(gqa_session_model(sessions[0]))->vocab_size, half = n / 2, status = 0;
    for (int i = 0; i < n_sessions && !status; i++) {
        float *out = i ? logits : base;
        gqa_session_rewind(sessions[i], 0, NULL);
        status = gqa_session_eval(sessions[i], tokens, half, err);
        if (!status) status = gqa_session_eval_all(sessions[i], tokens + half, n - half, out, err);
        for (int j = half; j < n - 1 && !status; j++) {
            size_t at = (size_t)(j - half) * (size_t)vocab;
            add(&scores[i], base + at, out + at, vocab, tokens[j + 1]);
        }
    }
    return status;
}

int score_chunks(gqa_session **sessions, int n, int32_t *tokens, int n_chunks, int chunk, score *scores, const char *name) {
    const gqa_model *model = gqa_session_model(sessions[0]);
    gqa_error err = {0};
    size_t count = (size_t)gqa_model_config(model)->vocab_size * (size_t)(chunk - chunk / 2);
    float *base = malloc(sizeof *base * count), *logits = n > 1 ? malloc(sizeof *logits * count) : NULL;
    int status = 0, show = name && isatty(2);
    for (int i = 0; i < n; i++) scores[i] = (score){.loss = 0};
    if (!base || (n > 1 && !logits)) {
        free(base), free(logits);
        return fail("no memory for the logits of %d tokens", chunk - chunk / 2);
    }
    for (int i = 0; i < n_chunks && !status; i++) {
        int32_t *at = tokens + (size_t)i * (size_t)chunk;
        if (gqa_model_adds_bos(model)) at[0] = gqa_token_bos(model);
        status = score_chunk(sessions, n, at, chunk, base, logits, scores, &err);
        if (show && !status) fprintf(stderr, "\r%s%d of %d chunks: %.4f ", name, i + 1, n_chunks, score_perplexity(&scores[0]));
    }
    if (show) fprintf(stderr, "\r%60s\r", "");
    free(base), free(logits);
    return status ? fail("%s", err.message) : EXIT_SUCCESS;
}

int32_t *score_tokens(const gqa_model *model, const char *text, size_t len, int chunk, int most, int *n_chunks) {
    gqa_error err = {0};
    int32_t *tokens;
    int n = gqa_tokenize_new(model, text, len, GQA_TOKENIZE_BOS, &tokens, &err);
    *n_chunks = n < 0 ? 0 : n / chunk;
    if (most > 0 && *n_chunks > most) *n_chunks = most;
    if (*n_chunks > 0) return tokens;
    if (n < 0) fail("%s", err.message);
    else fail("the text has %d tokens, expected at least a chunk of %d", n, chunk);
    free(tokens);
    return NULL;
}
