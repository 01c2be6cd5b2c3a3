/* score.c: perplexity and divergence (score.h). */
#include "score.h"

#include <math.h>
#include <unistd.h>

double score_perplexity(const score *s) { return exp(s->loss / (double)s->n); }
double score_divergence(const score *s) { return s->divergence / (double)s->n; }

double score_error(const score *s) {
    double n = (double)s->n, mean = s->loss / n, variance = s->squares / n - mean * mean;
    return s->n > 1 && variance > 0 ? sqrt(variance / (n - 1)) * score_perplexity(s) : 0;
}

static int argmax(const float *z, int n) {
    int top = 0;
    for (int i = 1; i < n; i++)
        if (z[i] > z[top]) top = i;
    return top;
}

/* Adds a token with logits z[n]; base: those of the first session. */
static void add_token(score *s, const float *base, const float *z, int n, int32_t token) {
    double lse = gqa_log_sum_exp(z, n), loss = lse - (double)z[token];
    s->loss += loss;
    s->squares += loss * loss;
    s->n++;
    if (base == z) return;
    double base_lse = gqa_log_sum_exp(base, n);
    for (int i = 0; i < n; i++) {
        double log_p = (double)base[i] - base_lse;
        s->divergence += exp(log_p) * (log_p - ((double)z[i] - lse));
    }
    s->same_top += argmax(z, n) == argmax(base, n);
}

/* One chunk of n tokens in one session, whose logits of the second half go to logits. */
static int score_chunk(gqa_session *session, const int32_t *tokens, int n, const float *base,
                       float *logits, score *s, gqa_error *err) {
    int vocab = gqa_model_config(gqa_session_model(session))->vocab_size, half = n / 2;
    gqa_session_rewind(session, 0, NULL);
    int status = gqa_session_eval(session, tokens, half, err);
    if (!status) status = gqa_session_eval_all(session, tokens + half, n - half, logits, err);
    if (status) return status;
    for (int i = half + 1; i < n; i++) {
        add_token(s, base, logits, vocab, tokens[i]);
        base += vocab;
        logits += vocab;
    }
    return 0;
}

int score_chunks(gqa_session **sessions, int n, int32_t *tokens, int n_chunks, int chunk,
                 score *scores, const char *progress) {
    const gqa_model *model = gqa_session_model(sessions[0]);
    gqa_error err = {0};
    size_t vocab = (size_t)gqa_model_config(model)->vocab_size;
    int half = chunk - chunk / 2, status = 0, show = progress && isatty(STDERR_FILENO);
    float *base = calloc(vocab * sizeof *base, (size_t)half);
    float *logits = n > 1 ? calloc(vocab * sizeof *logits, (size_t)half) : base;
    for (int i = 0; i < n; i++) scores[i] = (score){.loss = 0};
    if (!base || !logits) status = fail("out of memory for the logits of %d tokens", half);
    for (int c = 0; c < n_chunks && !status; c++) {
        if (gqa_model_adds_bos(model)) tokens[0] = gqa_token_bos(model);
        for (int i = 0; i < n && !status; i++)
            status = score_chunk(sessions[i], tokens, chunk, base, i ? logits : base,
                                 &scores[i], &err);
        tokens += chunk;
        if (show && !status)
            fprintf(stderr, "\r%s%d of %d chunks: %.4f ", progress, c + 1, n_chunks,
                    score_perplexity(&scores[0]));
    }
    if (show) fprintf(stderr, "\r%60s\r", "");
    if (logits != base) free(logits);
    free(base);
    return err.code ? fail("%s", err.message) : status;
}

int32_t *score_tokens(const gqa_model *model, const char *text, size_t len, int chunk,
                      int max_chunks, int *n_chunks) {
    gqa_error err = {0};
    int32_t *tokens;
    int n = gqa_tokenize_new(model, text, len, GQA_TOKENIZE_BOS, &tokens, &err);
    *n_chunks = n < 0 ? 0 : n / chunk;
    if (max_chunks > 0 && *n_chunks > max_chunks) *n_chunks = max_chunks;
    if (*n_chunks > 0) return tokens;
    if (n < 0) fail("%s", err.message);
    else fail("the text has %d tokens, expected at least one chunk of %d", n, chunk);
    gqa_free(tokens);
    return NULL;
}
