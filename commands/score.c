/* score.c: perplexity and divergence (score.h). */
#include "score.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "../train/train.h"
#include "../weights/model_internal.h"

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

/* ---- the text ------------------------------------------------------------------------------- */

int score_read(score_text *t, int quiet) {
    if (t->documents && t->special)
        return usage_error("--documents and --special exclude each other: the first ends documents "
                           "at " GQA_DOCUMENT_END ", the second keeps all text");
    t->text = read_text(t->file, &t->len);
    if (!t->text) return EXIT_FAILURE;
    if (!quiet && !t->documents && !t->special && strstr(t->text, GQA_DOCUMENT_END))
        warning("%s holds " GQA_DOCUMENT_END ", read as letters, as llama.cpp does; --documents "
                "ends documents there, as training does; --special makes it a token", t->file);
    return EXIT_SUCCESS;
}

void score_choose_chunk(score_text *t, const gqa_config *config, int quiet) {
    int trained = config->context_length;
    if (!t->chunk) t->chunk = trained > 0 ? max_int(4, min_int(512, trained)) : 512;
    if (!quiet && trained > 0 && t->chunk > trained)
        warning("-c %d: the model was trained for %d positions; beyond them it predicts worse",
                t->chunk, trained);
}

/* Whether a text may be cut before its byte i: a space after a letter. */
static int is_word_end(const char *text, size_t i) {
    int c = text[i - 1] | 32;
    return text[i] == ' ' && c >= 'a' && c <= 'z';
}

/* Whether a token has such a place inside. */
static int tokens_cross_spaces(const gqa_model *model) {
    char name[256];
    for (int id = 0; id < gqa_vocab_size(model); id++) {
        int is_control = gqa_token_is_control(model, id);
        int n = (is_control ? gqa_token_name : gqa_token_bytes)(model, id, name, sizeof name);
        if (n > (int)sizeof name) return 1;
        for (int i = 1; i < n; i++)
            if (is_word_end(name, (size_t)i)) return 1;
    }
    return 0;
}

/* The shortest beginning of a text that has at least size bytes and the same tokens alone as in
 * the text: it ends where every pre-tokenizer cuts, and SentencePiece too unless tokens cross
 * spaces. */
static size_t text_beginning(const score_text *t, uint64_t size) {
    for (size_t i = size; i < t->len; i++)
        if (is_word_end(t->text, i)) return i;
    return t->len;
}

/* The tokens of the first len bytes; how many, or a negative status. */
static int tokenize(const gqa_model *model, const score_text *t, size_t len, int32_t **tokens,
                    gqa_error *err) {
    unsigned flags = GQA_TOKENIZE_BOS | (t->special ? GQA_TOKENIZE_SPECIAL : 0);
    gqa_dataset documents = {0};
    if (!t->documents || !model->vocab) /* without a vocabulary this says what is missing */
        return gqa_tokenize_new(model, t->text, len, flags, tokens, err);
    int status = gqa_dataset_add(&documents, model->vocab, t->text, len, err);
    *tokens = documents.tokens;
    return status ? status : (int)min_size(documents.n_tokens, INT32_MAX);
}

int32_t *score_tokens(const gqa_model *model, const score_text *t, int *n_chunks) {
    enum { TOKEN_BYTES = 16 }; /* more than most texts have a token */
    gqa_error err = {0};
    int64_t needed = (int64_t)t->chunk * t->max_chunks + 1; /* 1: the end of a document cut off */
    size_t len = t->len;
    int32_t *tokens;
    if (needed > 1 && needed < (int64_t)len / TOKEN_BYTES && !tokens_cross_spaces(model))
        len = text_beginning(t, (uint64_t)needed * TOKEN_BYTES);
    int n = tokenize(model, t, len, &tokens, &err);
    if (n >= 0 && n < needed && len < t->len) {
        gqa_free(tokens);
        n = tokenize(model, t, t->len, &tokens, &err);
    }
    *n_chunks = n < 0 ? 0 : n / t->chunk;
    if (t->max_chunks > 0) *n_chunks = min_int(*n_chunks, t->max_chunks);
    if (*n_chunks > 0) return tokens;
    if (n < 0) fail("%s", err.message);
    else fail("the text has %d tokens, expected at least one chunk of %d", n, t->chunk);
    gqa_free(tokens);
    return NULL;
}
