/* perplexity.c: `run perplexity`: how well a model predicts a text (score.h). */
#include <stdlib.h>

#include "json.h"
#include "score.h"

static void show_json(const score *s, int n_chunks, int chunk) {
    json_writer j = json_open();
    json_double(&j, "perplexity", score_perplexity(s));
    json_double(&j, "error", score_error(s));
    json_double(&j, "nats_per_token", s->loss / (double)s->n);
    json_int(&j, "chunks", n_chunks);
    json_int(&j, "context", chunk);
    json_int(&j, "tokens_scored", s->n);
    json_close(&j);
}

static void show_text(const score *s, int n_chunks, int chunk) {
    printf("PPL = %.4f +/- %.4f  (%d chunks of %d tokens, %ld scored)\n", score_perplexity(s),
           score_error(s), n_chunks, chunk, s->n);
}

static int run_text(gqa_model *model, const gqa_session_options *so, const char *text, size_t len, int most, int as_json) {
    gqa_error err = {0};
    gqa_session *s = gqa_session_new(model, so, &err);
    if (!s) return fail("%s", err.message);
    int chunk = gqa_session_context(s), n_chunks = 0, code = EXIT_FAILURE;
    int32_t *tokens = score_tokens(model, text, len, chunk, most, &n_chunks);
    score t;
    if (tokens) code = score_chunks(&s, 1, tokens, n_chunks, chunk, &t, "");
    if (!code && as_json) show_json(&t, n_chunks, chunk);
    else if (!code) show_text(&t, n_chunks, chunk);
    gqa_session_free(s);
    free(tokens);
    return code ? code : finish_stdout();
}

int command_perplexity(int argc, char **argv) {
    const char *file = NULL, *path = NULL;
    int chunks = 0, json = 0, n_paths = 0;
    gqa_model_options mo = {0};
    gqa_session_options so = {.context = 512};
    const opt options[] = {
        {"-f FILE", OPT_STRING, &file, 0, 0, "the text; - is standard input"},
        {"-c N", OPT_INT, &so.context, 4, 1 << 20, "tokens a chunk (512)"},
        {"--chunks K", OPT_INT, &chunks, 0, 1 << 30, "only the first K chunks; 0: all"},
        {"--kv TYPE", OPT_STRING, &so.kv, 0, 0, "KV cache type: f32, f16, bf16, q8_0, q4_0 (f16)"},
        {"-j N", OPT_INT, &so.n_threads, 0, 1024, "threads (physical cores allowed)"},
        {"-z FILE", OPT_STRING, &mo.tokenizer_path, 0, 0, "tokenizer of a llama2.c checkpoint"},
        {"--no-repack", OPT_FLAG, &mo.no_repack, 0, 0, "run from the mapped file"},
        {"--json", OPT_FLAG, &json, 0, 0, "one JSON object"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &path, 1, &n_paths, "run perplexity MODEL -f FILE [options]");
    if (code >= 0) return code;
    if (!path || !file) return usage_error("perplexity: give a model and a text (-f FILE)");
    gqa_error err = {0};
    size_t len = 0;
    char *text = read_text(file, &len);
    if (!text) return EXIT_FAILURE;
    gqa_model *model = gqa_model_open(path, &mo, &err);
    code = model ? run_text(model, &so, text, len, chunks, json) : fail("%s", err.message);
    gqa_model_close(model);
    free(text);
    return code;
}
