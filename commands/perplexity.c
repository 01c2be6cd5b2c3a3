/* perplexity.c: `run perplexity`: how well a model predicts a text (score.h). */
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

typedef struct settings {
    score_text text;
    int json;
    gqa_session_options session;
} settings;

static int perplexity(gqa_model *model, settings *o) {
    gqa_error err = {0};
    score_choose_chunk(&o->text, gqa_model_config(model), 0);
    o->session.context = o->text.chunk;
    gqa_session *session = gqa_session_new(model, &o->session, &err);
    if (!session) return fail("%s", err.message);
    int chunk = o->text.chunk, n_chunks = 0, code = EXIT_FAILURE;
    int32_t *tokens = score_tokens(model, &o->text, &n_chunks);
    score result;
    if (tokens) code = score_chunks(&session, 1, tokens, n_chunks, chunk, &result, "");
    if (!code && o->json) show_json(&result, n_chunks, chunk);
    else if (!code) show_text(&result, n_chunks, chunk);
    gqa_session_free(session);
    gqa_free(tokens);
    return code ? code : finish_stdout();
}

int command_perplexity(int argc, char **argv) {
    const char *path = NULL;
    int n_paths = 0;
    settings o = {0};
    gqa_model_options mo = {0};
    const opt options[] = {
        {"-f FILE", OPT_STRING, &o.text.file, 0, 0, "the text; -: standard input"},
        SCORE_OPTIONS(o.text),
        {"--kv TYPE", OPT_STRING, &o.session.kv, 0, 0, KV_HELP},
        {"-j N", OPT_INT, &o.session.n_threads, 0, 1024, THREADS_HELP},
        {"-z FILE", OPT_STRING, &mo.tokenizer_path, 0, 0, LLAMA2C_HELP},
        {"--no-repack", OPT_FLAG, &mo.no_repack, 0, 0, REPACK_HELP},
        {"--json", OPT_FLAG, &o.json, 0, 0, "print one JSON object"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &path, 1, &n_paths,
                             "run perplexity MODEL -f FILE [options]\n\n"
                             "Measures how well a model predicts a text, by llama.cpp's protocol.");
    if (code >= 0) return code;
    if (!path || !o.text.file) return usage_error("perplexity: give a model and a text (-f FILE)");
    code = score_read(&o.text, 0);
    if (code) return code;
    gqa_model *model = open_model(path, &mo);
    code = model ? perplexity(model, &o) : EXIT_FAILURE;
    gqa_model_close(model);
    free(o.text.text);
    return code;
}
