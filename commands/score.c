/* score.c: perplexity and divergence (score.h). */
#include "score.h"

#include <math.h>
#include <string.h>

#include "../train/train.h"
#include "../weights/model_internal.h"

double score_perplexity(const score *s) { return exp(s->loss / (double)s->n); }

/* The standard error of a mean of n values, from their sum and the sum of their squares. */
static double error_of_mean(double sum, double squares, double n) {
    double mean = sum / n, variance = squares / n - mean * mean;
    return n > 1 && variance > 0 ? sqrt(variance / (n - 1)) : 0;
}

double score_error(const score *s) {
    return error_of_mean(s->loss, s->squares, (double)s->n) * score_perplexity(s);
}

double score_bits(const score *s) { return s->loss / (double)s->bytes / log(2); }

double score_bits_error(const score *s) {
    return error_of_mean(s->loss, s->squares, (double)s->n) * (double)s->n / (double)s->bytes /
           log(2);
}

double score_kl(const float *p, const float *q, int n) {
    double p_lse = gqa_log_sum_exp(p, n), q_lse = gqa_log_sum_exp(q, n), sum = 0;
    for (int i = 0; i < n; i++) {
        double log_p = (double)p[i] - p_lse;
        sum += exp(log_p) * (log_p - ((double)q[i] - q_lse));
    }
    return fmax(sum, 0); /* rounding may leave -1e-17 */
}

divergence score_divergence(double *kl, int n, int same_top) {
    double sum = 0, squares = 0, same = same_top;
    for (int i = 0; i < n; i++) {
        sum += kl[i];
        squares += kl[i] * kl[i];
    }
    double p99 = quantile(kl, n, 0.99);
    return (divergence){
        .mean = sum / n,
        .error = error_of_mean(sum, squares, n),
        .p99 = p99,
        .largest = kl[n - 1],
        .same_top = 100 * same / n,
        .same_top_error = 100 * error_of_mean(same, same, n),
        .n = n,
    };
}

static int argmax(const float *z, int n) {
    int top = 0;
    for (int i = 1; i < n; i++)
        if (z[i] > z[top]) top = i;
    return top;
}

static void add_token(score *s, const gqa_model *model, const float *z, int32_t token) {
    int n = gqa_model_config(model)->vocab_size;
    double loss = gqa_log_sum_exp(z, n) - (double)z[token];
    s->loss += loss;
    s->squares += loss * loss;
    s->bytes += gqa_token_bytes(model, token, NULL, 0);
    s->n++;
}

/* What score_chunks works on. */
typedef struct scoring {
    gqa_session **sessions;
    score *scores;          /* [n] */
    int n, n_references, chunk, vocab;
    int max_rows;           /* logits held at once, of each reference and another session */
    float *logits[3];       /* [max_rows, vocab]: of the references, then of another session */
    double *kl;             /* [n, 2, n_positions]: from each reference */
    int n_positions, at;    /* of all chunks; done so far */
} scoring;

static double *kl_of(const scoring *s, int session, int reference) {
    return s->kl + (size_t)(2 * session + reference) * s->n_positions;
}

/* Compares rows logits of a session with those of the references. */
static void compare_rows(scoring *s, int i, int rows) {
    const float *z = s->logits[s->n_references];
    for (int r = 0; r < s->n_references; r++)
        for (int row = 0; row < rows; row++) {
            size_t at = (size_t)row * s->vocab;
            const float *base = s->logits[r] + at;
            kl_of(s, i, r)[s->at + row] = score_kl(base, z + at, s->vocab);
            s->scores[i].same_top[r] += argmax(base, s->vocab) == argmax(z + at, s->vocab);
        }
}

/* Evaluates rows tokens of a chunk, from its token number `from` on, in each session. */
static int score_rows(scoring *s, const int32_t *tokens, int from, int rows, gqa_error *err) {
    for (int i = 0; i < s->n; i++) {
        float *z = s->logits[min_int(i, s->n_references)];
        int status = gqa_session_eval_all(s->sessions[i], tokens + from, rows, z, err);
        if (status) return status;
        for (int next = from + 1; next <= from + rows; next++, z += s->vocab)
            if (next > s->chunk / 2 && next < s->chunk)
                add_token(&s->scores[i], gqa_session_model(s->sessions[i]), z, tokens[next]);
        if (i >= s->n_references) compare_rows(s, i, rows);
    }
    s->at += rows;
    return 0;
}

/* Without others to compare with, the first half needs no logits. */
static int score_chunk(scoring *s, const int32_t *tokens, gqa_error *err) {
    int half = s->chunk / 2, from = s->n_references ? 0 : half, status = 0, rows;
    for (int i = 0; i < s->n; i++) gqa_session_rewind(s->sessions[i], 0, NULL);
    if (from) status = gqa_session_eval(s->sessions[0], tokens, from, err);
    for (; from < s->chunk && !status; from += rows) {
        rows = min_int(s->max_rows, (from < half ? half : s->chunk) - from);
        status = score_rows(s, tokens, from, rows, err);
    }
    return status;
}

void print_time_left(double start, int done, int all) {
    int left = (int)((seconds_now() - start) / done * (all - done));
    fprintf(stderr, "about %d:%02d left ", left / 60, left % 60);
}

int score_chunks(gqa_session **sessions, int n, int n_references, const int32_t *tokens,
                 int n_chunks, int chunk, score *scores, const char *progress) {
    enum { LOGITS = 16 << 20 }; /* held of a session, or those of 16 rows */
    int vocab = gqa_model_config(gqa_session_model(sessions[0]))->vocab_size;
    int max_rows = min_int(chunk - chunk / 2, max_int(16, LOGITS / vocab));
    int status = 0, show = progress && gqa_os_is_terminal(stderr);
    size_t row = vocab * sizeof(float);
    gqa_error err = {0};
    scoring s = {
        sessions, scores, n, n_references, chunk, vocab, max_rows, .n_positions = n_chunks * chunk,
    };
    int has_memory = 1;
    double start = seconds_now();
    for (int i = 0; i <= n_references; i++)
        has_memory &= (s.logits[i] = calloc(row, max_rows)) != NULL;
    s.kl = calloc(s.n_positions * sizeof *s.kl, 2 * n);
    memset(scores, 0, n * sizeof *scores);
    if (!has_memory || !s.kl) status = fail("out of memory for the logits of %d tokens", max_rows);
    for (int c = 0; c < n_chunks && !status && !signal_held(); c++) {
        status = score_chunk(&s, tokens + (size_t)c * chunk, &err);
        if (!show || status) continue;
        fprintf(stderr, "\r%s%d of %d chunks: %.4f, ", progress, c + 1, n_chunks,
                score_perplexity(&scores[n - 1]));
        print_time_left(start, c + 1, n_chunks);
    }
    if (show) fprintf(stderr, "\r%70s\r", "");
    for (int i = n_references; i < n && !status; i++)
        for (int r = 0; r < n_references; r++)
            scores[i].from[r] = score_divergence(kl_of(&s, i, r), s.at, scores[i].same_top[r]);
    for (int i = 0; i <= n_references; i++) free(s.logits[i]);
    free(s.kl);
    return err.code ? fail("%s", err.message) : status;
}

/* ---- the text ------------------------------------------------------------------------------- */

int score_read(score_text *t, int quiet) {
    if (t->documents && t->special)
        return usage_error("--documents and --special exclude each other: the first ends documents "
                           "at " GQA_DOCUMENT_END ", the second keeps all text");
    t->text = read_text(t->file, &t->len);
    if (!t->text) return EXIT_FAILURE;
    int is_as_it_stands = !quiet && !t->documents && !t->special;
    t->warns_of_marks = is_as_it_stands && strstr(t->text, GQA_DOCUMENT_END);
    return EXIT_SUCCESS;
}

void score_choose_chunk(score_text *t, const gqa_config *config, int quiet) {
    int trained = config->context_length;
    if (!t->chunk) t->chunk = trained > 0 ? max_int(4, min_int(512, trained)) : 512;
    if (!quiet && trained > 0 && t->chunk > trained)
        warning("-c %d: the model was trained for %d positions; beyond them it predicts worse",
                t->chunk, trained);
    if (t->warns_of_marks)
        warning("%s holds " GQA_DOCUMENT_END ", read as letters, as llama.cpp does; --documents "
                "ends documents there, as training does; --special makes it a token", t->file);
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
            if (is_word_end(name, i)) return 1;
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
    for (int c = 0; c < *n_chunks && gqa_model_adds_bos(model); c++)
        tokens[(size_t)c * t->chunk] = gqa_token_bos(model);
    if (*n_chunks > 0) return tokens;
    if (n < 0) fail("%s", err.message);
    else fail("%s: %d tokens, expected at least one chunk of %d", t->file, n, t->chunk);
    gqa_free(tokens);
    return NULL;
}
