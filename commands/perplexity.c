/* perplexity.c: `run perplexity`, by the protocol of llama.cpp: the text is cut into chunks of N tokens, the first token of
 * each replaced by BOS; a chunk is evaluated with an empty cache, and the tokens of its second half are scored. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

typedef struct tally {
    double sum, squares;  /* of negative log-likelihoods, natural logarithm */
    long n;
} tally;

static double loss(const float *logits, int n, int32_t token) {
    float top = logits[0];
    double sum = 0;
    for (int i = 1; i < n; i++) top = logits[i] > top ? logits[i] : top;
    for (int i = 0; i < n; i++) sum += exp((double)(logits[i] - top));
    return log(sum) - (double)(logits[token] - top);
}

static double perplexity(const tally *t) { return exp(t->sum / (double)t->n); }

/* Standard error of the perplexity, from the spread of the losses. */
static double error_of(const tally *t) {
    double mean = t->sum / (double)t->n, variance = t->squares / (double)t->n - mean * mean;
    return t->n > 1 && variance > 0 ? sqrt(variance / (double)(t->n - 1)) * perplexity(t) : 0;
}

/* One chunk: tokens[n]. The first half is context; the logits of the rest are scored. */
static int score_chunk(gqa_session *s, int32_t *tokens, int n, float *logits, tally *t, gqa_error *err) {
    const gqa_model *model = gqa_session_model(s);
    int vocab = gqa_model_config(model)->vocab_size, half = n / 2, status;
    if (gqa_model_adds_bos(model)) tokens[0] = gqa_token_bos(model);
    gqa_session_rewind(s, 0);
    if ((status = gqa_session_eval(s, tokens, half, err)) || (status = gqa_session_eval_all(s, tokens + half, n - half, logits, err))) return status;
    for (int j = half; j < n - 1; j++) {
        double l = loss(logits + (size_t)(j - half) * (size_t)vocab, vocab, tokens[j + 1]);
        t->sum += l;
        t->squares += l * l;
        t->n++;
    }
    return 0;
}

static int score_all(gqa_session *s, int32_t *tokens, int n_chunks, int chunk, int json, tally *t) {
    gqa_error err = {0};
    size_t vocab = (size_t)gqa_model_config(gqa_session_model(s))->vocab_size;
    float *logits = malloc(sizeof(float) * vocab * (size_t)(chunk - chunk / 2));
    if (!logits) return fail("no memory for the logits of %d tokens", chunk - chunk / 2);
    int status = 0, show = isatty(2);
    for (int i = 0; i < n_chunks && !status; i++) {
        status = score_chunk(s, tokens + (size_t)i * (size_t)chunk, chunk, logits, t, &err);
        if (show && !status) fprintf(stderr, "\r%d of %d chunks: %.4f ", i + 1, n_chunks, perplexity(t));
    }
    if (show) fprintf(stderr, "\r%40s\r", "");
    free(logits);
    if (status) return fail("%s", err.message);
    if (json) printf("{\"perplexity\": %.8g, \"error\": %.6g, \"nats_per_token\": %.8g, \"chunks\": %d, \"context\": %d, \"tokens_scored\": %ld}\n",
                     perplexity(t), error_of(t), t->sum / (double)t->n, n_chunks, chunk, t->n);
    else printf("PPL = %.4f +/- %.4f  (%d chunks of %d tokens, %ld scored)\n", perplexity(t), error_of(t), n_chunks, chunk, t->n);
    return finish_stdout();
}

static int run_text(gqa_model *model, const gqa_session_options *so, const char *text, size_t len, int most, int json) {
    gqa_error err = {0};
    int n = gqa_tokenize(model, text, len, GQA_TOKENIZE_BOS, NULL, 0, &err), code = EXIT_FAILED;
    if (n < 0) return fail("%s", err.message);
    int32_t *tokens = malloc(sizeof *tokens * (size_t)(n + 1));
    gqa_session *s = gqa_session_new(model, so, &err);
    int chunk = s ? gqa_session_context(s) : 0, n_chunks = chunk ? n / chunk : 0;
    if (most > 0 && n_chunks > most) n_chunks = most;
    tally t = {0};
    if (!tokens) code = fail("no memory for %d tokens", n);
    else if (!s) code = fail("%s", err.message);
    else if (n_chunks < 1) code = fail("the text has %d tokens, expected at least a chunk of %d", n, chunk);
    else if (gqa_tokenize(model, text, len, GQA_TOKENIZE_BOS, tokens, n, &err) < 0) code = fail("%s", err.message);
    else code = score_all(s, tokens, n_chunks, chunk, json, &t);
    gqa_session_free(s);
    free(tokens);
    return code;
}

int command_perplexity(int argc, char **argv) {
    const char *file = NULL, *path = NULL;
    int chunks = 0, json = 0, n_paths = 0;
    gqa_model_options mo = {0};
    gqa_session_options so = {.context = 512};
    const opt options[] = {
        {"-f", OPT_STRING, &file, 0, 0, "FILE", "the text; - is standard input"},
        {"-c", OPT_INT, &so.context, 4, 1 << 20, "N", "tokens a chunk (512)"},
        {"--chunks", OPT_INT, &chunks, 0, 1 << 30, "K", "only the first K chunks; 0: all"},
        {"--kv", OPT_STRING, &so.kv, 0, 0, "TYPE", "KV cache type: f32, f16, bf16, q8_0, q4_0 (f16)"},
        {"-j", OPT_INT, &so.n_threads, 0, 1024, "N", "threads (physical cores allowed)"},
        {"-z", OPT_STRING, &mo.tokenizer_path, 0, 0, "FILE", "tokenizer of a llama2.c checkpoint"},
        {"--no-repack", OPT_FLAG, &mo.no_repack, 0, 0, NULL, "run from the mapped file"},
        {"--json", OPT_FLAG, &json, 0, 0, NULL, "one JSON object"},
        {NULL, OPT_FLAG, NULL, 0, 0, NULL, NULL},
    };
    int code = parse_options(argc, argv, options, &path, 1, &n_paths, "run perplexity MODEL -f FILE [options]");
    if (code >= 0) return code;
    if (!path || !file) return usage_error("perplexity: give a model and a text (-f FILE)");
    gqa_error err = {0};
    size_t len = 0;
    char *text = read_text(file, &len);
    if (!text) return EXIT_FAILED;
    gqa_model *model = gqa_model_open(path, &mo, &err);
    code = model ? run_text(model, &so, text, len, chunks, json) : fail("%s", err.message);
    gqa_model_close(model);
    free(text);
    return code;
}
