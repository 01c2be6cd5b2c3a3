/* perplexity.c: `run perplexity`: how well a model predicts a text, and how far its predictions are
 * from another model's or another cache's (score.h). */
#include <string.h>

#include "../base/base.h"
#include "json.h"
#include "score.h"

typedef struct settings {
    score_text text;
    int json;
    const char *path, *kl;
    char kl_words[1024];             /* --kl, cut at its commas */
    const char *reference, *reference_kv;
    int reference_exact;
    gqa_model_options open;
    gqa_session_options session;
} settings;

static void show_json(const settings *o, const score *s, int n_chunks) {
    const divergence *d = s->from;
    json_writer j = json_open();
    json_double(&j, "perplexity", score_perplexity(s));
    json_double(&j, "error", score_error(s));
    json_double(&j, "nats_per_token", s->loss / (double)s->n);
    json_double(&j, "bits_per_byte", score_bits(s));
    json_int(&j, "chunks", n_chunks);
    json_int(&j, "context", o->text.chunk);
    json_int(&j, "tokens_scored", s->n);
    if (o->kl) {
        json_begin(&j, "kl", '{');
        json_string(&j, "reference", o->reference);
        json_string(&j, "reference_kv", o->reference_kv);
        json_bool(&j, "reference_exact", o->reference_exact);
        json_int(&j, "positions", d->n);
        json_double(&j, "mean", d->mean);
        json_double(&j, "error", d->error);
        json_double(&j, "p99", d->p99);
        json_double(&j, "largest", d->largest);
        json_double(&j, "same_top_percent", d->same_top);
        json_double(&j, "same_top_error", d->same_top_error);
        json_end(&j, '}');
    }
    json_close(&j);
}

static void show_text(const settings *o, const score *s, int n_chunks) {
    const divergence *d = s->from;
    printf("PPL = %.4f +/- %.4f  (%d chunks of %d tokens, %ld scored)\n", score_perplexity(s),
           score_error(s), n_chunks, o->text.chunk, s->n);
    if (!o->kl) return;
    printf("KL  = %.6f +/- %.6f  (99%%: %.6f, largest: %.6f)\n", d->mean, d->error, d->p99,
           d->largest);
    printf("same likeliest token: %.2f%% +/- %.2f%%  (%d positions)\n", d->same_top,
           d->same_top_error, d->n);
    printf("reference: %s, %s cache%s\n", o->reference, o->reference_kv,
           o->reference_exact ? ", exact" : "");
}

/* FILE[,kv=TYPE][,exact]. 0, or EXIT_USAGE after printing an error. */
static int parse_reference(settings *o) {
    int len = snprintf(o->kl_words, sizeof o->kl_words, "%s", o->kl);
    if (len >= (int)sizeof o->kl_words)
        return usage_error("--kl: the path %.60s... is too long", o->kl);
    o->reference_kv = "f32";
    int n_types = 0;
    for (char *word = strchr(o->kl_words, ','); word; word = strchr(word, ',')) {
        *word++ = 0;
        if (!strncmp(word, "kv=", 3)) {
            if (n_types++) return usage_error("--kl %s: kv= twice", o->kl);
            o->reference_kv = word + 3;
        } else if (!strcmp(word, "exact") || !strncmp(word, "exact,", 6)) {
            o->reference_exact = 1;
        } else {
            return usage_error("--kl %s: unknown word \"%.*s\", expected kv=TYPE or exact", o->kl,
                               (int)strcspn(word, ","), word);
        }
    }
    if (!*o->kl_words) return usage_error("--kl \"%s\": expected a model's file, or .", o->kl);
    o->reference = strcmp(o->kl_words, ".") ? o->kl_words : o->path;
    return 0;
}

/* Refuses models that do not share their vocabulary. */
static int check_vocabulary(const settings *o, const gqa_model *model, const gqa_model *other) {
    gqa_error err = {0};
    int n = gqa_model_config(model)->vocab_size, n_other = gqa_model_config(other)->vocab_size;
    if (n != n_other)
        return fail("%s: a vocabulary of %d tokens, expected the %d of %s", o->reference, n_other,
                    n, o->path);
    return gqa_check_vocabulary(model, other, &err) ? fail("%s", err.message) : EXIT_SUCCESS;
}

/* Scores the model, beside a reference if there is one. */
static int score_model(settings *o, const gqa_model *reference, const gqa_model *model) {
    gqa_error err = {0};
    gqa_session *sessions[2] = {NULL};
    gqa_session_options ro = o->session;
    score scores[2];
    int n = 0, n_chunks = 0, code = EXIT_SUCCESS;
    ro.kv = o->reference_kv;
    ro.exact = o->reference_exact;
    if (reference) sessions[n++] = gqa_session_new(reference, &ro, &err);
    if (!err.code) sessions[n++] = gqa_session_new(model, &o->session, &err);
    int32_t *tokens = err.code ? NULL : score_tokens(model, &o->text, &n_chunks);
    if (err.code) code = fail("%s", err.message);
    else if (!tokens) code = EXIT_FAILURE;
    else code = score_chunks(sessions, n, n - 1, tokens, n_chunks, o->text.chunk, scores, "");
    if (!code) (o->json ? show_json : show_text)(o, &scores[n - 1], n_chunks);
    for (int i = 0; i < n; i++) gqa_session_free(sessions[i]);
    gqa_free(tokens);
    return code ? code : finish_stdout();
}

static int perplexity(settings *o) {
    gqa_error err = {0};
    gqa_model *model = open_model(o->path, &o->open), *other = NULL;
    int code = EXIT_SUCCESS;
    if (!model) return EXIT_FAILURE;
    int is_own = o->kl && !strcmp(o->reference, o->path) &&
                 !gqa_model_get_stats(model)->fast_prefill;
    if (o->kl && !is_own) {
        gqa_model_options exact = o->open;
        exact.fast_prefill = 0;
        other = gqa_model_open(o->reference, &exact, &err);
        code = other ? check_vocabulary(o, model, other) : fail("%s", err.message);
    }
    if (!code) {
        score_choose_chunk(&o->text, gqa_model_config(model), 0);
        o->session.context = o->text.chunk;
        code = score_model(o, is_own ? model : other, model);
    }
    gqa_model_close(other);
    gqa_model_close(model);
    return code;
}

int command_perplexity(int argc, char **argv) {
    int n_paths = 0;
    settings o = {0};
    const opt options[] = {
        {"-f FILE", OPT_STRING, &o.text.file, 0, 0, "the text; -: standard input"},
        SCORE_OPTIONS(o.text),
        {"--kl FILE", OPT_STRING, &o.kl, 0, 0,
         "compare the distributions of the next token with those\n"
         "of this model (.: MODEL itself), of the same vocabulary;\n"
         "FILE,kv=TYPE: its KV cache type (default f32); FILE,exact:\n"
         "with --exact"},
        {"--kv TYPE", OPT_STRING, &o.session.kv, 0, 0, KV_HELP},
        {"--exact", OPT_FLAG, &o.session.exact, 0, 0, EXACT_HELP},
        {"-j N", OPT_INT, &o.session.n_threads, 0, 1024, THREADS_HELP},
        {"-z FILE", OPT_STRING, &o.open.tokenizer_path, 0, 0, LLAMA2C_HELP},
        {"--fast-prefill", OPT_FLAG, &o.open.fast_prefill, 0, 0,
         FAST_HELP "; the model of --kl never so"},
        {"--no-repack", OPT_FLAG, &o.open.no_repack, 0, 0, REPACK_HELP},
        {"--json", OPT_FLAG, &o.json, 0, 0, "print one JSON object"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &o.path, 1, &n_paths,
                             "run perplexity MODEL -f FILE [options]\n\n"
                             "Measures how well a model predicts a text, by llama.cpp's protocol.");
    if (code >= 0) return code;
    if (!o.path || !o.text.file)
        return usage_error("perplexity: give a model and a text (-f FILE)");
    code = o.kl ? parse_reference(&o) : 0;
    if (!code) code = score_read(&o.text, 0);
    if (!code) code = perplexity(&o);
    free(o.text.text);
    return code;
}
