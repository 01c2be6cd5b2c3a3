/* compare.c: `run compare`: models, or one as MHA, GQA and MQA, side by side: memory, speed at each
 * depth, quality. All are measured in turns (A B C A B C), so that whatever else the machine does
 * affects all alike. */
#include "compare.h"

#include <math.h>
#include <string.h>

#include "../convert/convert.h"
#include "../kernels/kernels.h"
#include "model_file.h"

/* ---- measuring ------------------------------------------------------------------------------ */

typedef gqa_session *session_table[MAX_VARIANTS][MAX_CACHES];

/* Seconds of c->tokens - 1 steps of decoding at a depth. Returns 0 or a negative status. */
static int time_decode(const comparison *c, gqa_session *s, int depth, double *seconds,
                       gqa_error *err) {
    int32_t token = 1;
    gqa_session_rewind(s, 0, NULL);
    int status = depth ? gqa_session_fill_random(s, depth, 7, err) : 0;
    if (!status) status = gqa_session_eval(s, &token, 1, err); /* the fill has emptied the caches */
    double start = seconds_now();
    for (int i = 1; i < c->tokens && !status; i++) status = gqa_session_eval(s, &token, 1, err);
    *seconds = seconds_now() - start;
    return status;
}

static int deepest(const comparison *c) { return c->depths[c->n_depths - 1]; }

static int time_prefill(const comparison *c, gqa_session *s, double *seconds, gqa_error *err) {
    int vocab_size = gqa_model_config(gqa_session_model(s))->vocab_size;
    int32_t *tokens = calloc((size_t)c->prompt, sizeof *tokens);
    if (!tokens) return gqa_fail(err, GQA_ERR_MEMORY, "out of memory for %d tokens", c->prompt);
    for (int i = 0; i < c->prompt; i++) tokens[i] = i * 7 % vocab_size;
    gqa_session_rewind(s, 0, NULL);
    double start = seconds_now();
    int status = gqa_session_eval(s, tokens, c->prompt, err);
    *seconds = seconds_now() - start;
    free(tokens);
    return status;
}

int batch_fits(const comparison *c, const variant *v, int b) {
    double available = gqa_os_memory() > 0 ? fmin(c->memory, gqa_os_memory()) : c->memory;
    double cache = cache_at(c, v, 0, deepest(c) + c->tokens);
    return !v->refused[b] && (double)v->stats->weight_bytes + c->batches[b] * cache <= available;
}

/* Seconds of the same steps of n sequences together, at the greatest depth. */
static int time_batch(const comparison *c, const variant *v, int n, double *seconds,
                      gqa_error *err) {
    gqa_session *sessions[MAX_BATCH] = {NULL};
    int32_t tokens[MAX_BATCH];
    gqa_session_options so = {.context = deepest(c) + c->tokens, .n_threads = c->threads};
    gqa_workspace *workspace = gqa_workspace_new(v->model, &so, err);
    int status = workspace ? 0 : err->code;
    so.kv = c->caches[0].name;
    so.workspace = workspace;
    so.n_threads = 0; /* the workspace's */
    for (int i = 0; i < n && !status; i++) {
        tokens[i] = 1;
        sessions[i] = gqa_session_new(v->model, &so, err);
        if (!sessions[i]) status = err->code;
    }
    for (int i = 0; i < n && !status && deepest(c); i++)
        status = gqa_session_fill_random(sessions[i], deepest(c), 7, err);
    if (!status) status = gqa_sessions_eval(sessions, tokens, n, err);
    double start = seconds_now();
    for (int i = 1; i < c->tokens && !status; i++)
        status = gqa_sessions_eval(sessions, tokens, n, err);
    *seconds = seconds_now() - start;
    for (int i = 0; i < n; i++) gqa_session_free(sessions[i]);
    gqa_workspace_free(workspace);
    return status;
}

/* The sessions of all rows are there at once. */
static void warn_memory(const comparison *c) {
    double needed = 0, available = gqa_os_free_memory();
    char taken[32], left[32];
    for (const variant *v = c->variants; v < c->variants + c->n_variants; v++)
        for (int k = 0; k < c->n_caches; k++)
            needed += cache_at(c, v, k, deepest(c) + c->tokens);
    if (available >= 0 && needed > available)
        warning("%s of memory are free, less than the caches of all rows take (%s): compare fewer, "
                "or at smaller depths", human_bytes(available, left), human_bytes(needed, taken));
}

/* How far the rounds are. */
typedef struct progress {
    int show, keep, done, all;
    double start;
} progress;

/* Keeps a figure; the warm-up's are not. Returns whether a signal wants an end. */
static int add_figure(progress *p, sample *s, double value) {
    if (p->keep) sample_add(s, value);
    p->done++;
    if (p->show) {
        fprintf(stderr, "\r%3d%%, ", 100 * p->done / p->all);
        print_time_left(p->start, p->done, p->all);
    }
    return signal_held();
}

/* Measures everything once, or until a signal. Returns 0 or a negative status. */
static int one_round(comparison *c, session_table sessions, progress *p, gqa_error *err) {
    double seconds = 0;
    int status;
    for (int i = 0; i < c->n_variants; i++) {
        status = time_prefill(c, sessions[i][0], &seconds, err);
        if (status || add_figure(p, &c->variants[i].prefill, c->prompt / seconds)) return status;
    }
    for (int k = 0; k < c->n_caches; k++)
        for (int d = 0; d < c->n_depths; d++)
            for (int i = 0; i < c->n_variants; i++) {
                sample *s = &c->variants[i].decode[k][d];
                status = time_decode(c, sessions[i][k], c->depths[d], &seconds, err);
                if (status || add_figure(p, s, (c->tokens - 1) / seconds)) return status;
            }
    for (int b = 0; b < c->n_batches; b++)
        for (int i = 0; i < c->n_variants; i++) {
            int n = c->batches[b];
            variant *v = &c->variants[i];
            if (!batch_fits(c, v, b)) continue;
            status = time_batch(c, v, n, &seconds, err);
            v->refused[b] = status == GQA_ERR_MEMORY;
            if (v->refused[b]) continue;
            if (status || add_figure(p, &v->batch[b], n * (c->tokens - 1) / seconds)) return status;
        }
    return 0;
}

/* What one_round measures. */
static int count_figures(const comparison *c) {
    int n = c->n_variants * (1 + c->n_caches * c->n_depths);
    for (int b = 0; b < c->n_batches; b++)
        for (int i = 0; i < c->n_variants; i++)
            n += batch_fits(c, &c->variants[i], b);
    return n;
}

/* 0, or EXIT_FAILURE after printing an error. */
static int open_sessions(const comparison *c, session_table sessions) {
    gqa_error err = {0};
    int context = deepest(c) + c->tokens;
    if (context < c->prompt) context = c->prompt;
    if (!c->quiet) warn_memory(c);
    for (int i = 0; i < c->n_variants; i++)
        for (int k = 0; k < c->n_caches; k++) {
            const char *kv = c->caches[k].name;
            gqa_session_options so = {.context = context, .kv = kv, .n_threads = c->threads};
            sessions[i][k] = gqa_session_new(c->variants[i].model, &so, &err);
            if (!sessions[i][k]) return fail("%s: %s", c->variants[i].name, err.message);
        }
    return 0;
}

static int measure_with(comparison *c, session_table sessions) {
    gqa_error err = {0};
    progress p = {
        .show = !c->quiet && gqa_os_is_terminal(stderr), .all = (c->rounds + 1) * count_figures(c),
    };
    int status = open_sessions(c, sessions);
    if (status) return status;
    machine *m = machine_new(gqa_session_threads(sessions[0][0]), NULL, 0);
    if (!m) return fail("out of memory for measuring the machine");
    machine_measure(m, 3, &c->limits);
    machine_free(m);
    p.start = seconds_now();
    for (int r = 0; r <= c->rounds && !status && !signal_held(); r++) {
        p.keep = r > 0; /* round 0 warms up */
        status = one_round(c, sessions, &p, &err);
    }
    if (p.show) fprintf(stderr, "\r%30s\r", "");
    return status ? fail("%s", err.message) : EXIT_SUCCESS;
}

static int measure(comparison *c) {
    session_table sessions = {{NULL}};
    int code = measure_with(c, sessions);
    for (int i = 0; i < c->n_variants; i++)
        for (int k = 0; k < c->n_caches; k++) gqa_session_free(sessions[i][k]);
    return code;
}

/* Scores a variant with every cache. The references are its own f32 cache and that of the first
 * variant, if that is another one of the same vocabulary. */
static int score_variant(const comparison *c, variant *v) {
    gqa_error err = {0};
    gqa_session *sessions[MAX_CACHES + 2] = {NULL};
    score scores[MAX_CACHES + 2];
    int refs = v > c->variants && c->same_vocab ? 2 : 1, n = refs + c->n_caches;
    int code = EXIT_SUCCESS;
    for (int i = 0; i < n && !code; i++) {
        gqa_session_options so = {
            .context = c->text.chunk,
            .kv = i < refs ? "f32" : c->caches[i - refs].name,
            .n_threads = c->threads,
        };
        const gqa_model *model = i == 1 && refs == 2 ? c->variants->model : v->model;
        sessions[i] = gqa_session_new(model, &so, &err);
        if (!sessions[i]) code = fail("%s", err.message);
    }
    if (!code)
        code = score_chunks(sessions, n, refs, v->tokens, v->n_chunks, c->text.chunk, scores,
                            c->quiet ? NULL : "perplexity: ");
    for (int k = 0; k < c->n_caches && !code && !signal_held(); k++) {
        v->scores[k] = scores[refs + k];
        v->scores[k].from[1] = v->scores[k].from[refs - 1];
    }
    for (int i = 0; i < n; i++) gqa_session_free(sessions[i]);
    return code;
}

static int score_variants(comparison *c) {
    int code = EXIT_SUCCESS;
    for (int i = 0; i < c->n_variants && !code; i++) code = score_variant(c, &c->variants[i]);
    return code;
}

/* Whether all variants have the same tokens, so that losses a token compare. */
static int share_vocabulary(const comparison *c) {
    const gqa_model *first = c->variants->model;
    int n = gqa_model_config(first)->vocab_size, is_shared = 1;
    for (int i = 1; i < c->n_variants && is_shared; i++)
        is_shared = gqa_model_config(c->variants[i].model)->vocab_size == n &&
                    !gqa_check_vocabulary(first, c->variants[i].model, NULL);
    return is_shared;
}

/* ---- the command ---------------------------------------------------------------------------- */

/* Returns 0, or EXIT_USAGE after printing an error; so do those below. */
static int parse_caches(comparison *c) {
    for (const char *p = c->cache_list; *p;) {
        int len = (int)strcspn(p, ",");
        if (c->n_caches == MAX_CACHES)
            return usage_error("--kv %s: expected at most %d types", c->cache_list, MAX_CACHES);
        char *name = c->caches[c->n_caches].name;
        int written = snprintf(name, sizeof c->caches->name, "%.*s", len, p);
        int k_type, v_type;
        if (gqa_kv_types(name, &k_type, &v_type) || written >= (int)sizeof c->caches->name)
            return usage_error("--kv: unknown type %.*s", len, p);
        c->n_caches++;
        p += len + (p[len] == ',');
    }
    return c->n_caches ? 0 : usage_error("--kv: no cache type given");
}

static int parse_heads(comparison *c) {
    for (const char *p = c->head_list ? c->head_list : ""; *p;) {
        int len = (int)strcspn(p, ",");
        variant *v = &c->variants[c->n_variants++];
        int64_t n = 0;
        snprintf(v->attention, sizeof v->attention, "%.*s", len, p);
        if (c->n_variants == MAX_VARIANTS || len >= (int)sizeof v->attention)
            return usage_error("--kv-heads %s: expected at most %d numbers with commas between",
                               c->head_list, MAX_VARIANTS - 1);
        if (!parse_int(v->attention, 1, 4096, &n)) *v->attention = 0;
        else if (!c->shape)
            return usage_error("--kv-heads %s: expected numbers from 1; mla and gta are for "
                               "--shape", v->attention);
        v->kv_heads = (int)n;
        p += len + (p[len] == ',');
    }
    return c->head_list && !c->n_variants ? usage_error("--kv-heads: no number given") : 0;
}

static int parse_lists(comparison *c) {
    int code = parse_heads(c);
    if (code) return code;
    c->n_depths = parse_int_list(c->depth_list, 0, 1 << 22, c->depths, MAX_DEPTHS);
    if (c->n_depths < 1)
        return usage_error("--depths %s: expected at most %d numbers with commas between",
                           c->depth_list, MAX_DEPTHS);
    for (int d = 1; d < c->n_depths; d++)
        if (c->depths[d] <= c->depths[d - 1])
            return usage_error("--depths %s: expected rising numbers", c->depth_list);
    c->n_batches = c->batch_list ? parse_int_list(c->batch_list, 1, MAX_BATCH, c->batches,
                                                  MAX_BATCHES) : 0;
    if (c->n_batches < 0 || (c->batch_list && !c->n_batches))
        return usage_error("--batch %s: expected at most %d numbers, 1 to %d, with commas between",
                           c->batch_list, MAX_BATCHES, MAX_BATCH);
    code = parse_caches(c);
    return code ? code : parse_memory(c->memory_text, &c->memory);
}

static int show(const comparison *c) {
    if (c->json) compare_json(c);
    else if (c->csv) compare_csv(c);
    else compare_table(c);
    if (c->baseline_path)
        baseline_show(&c->baseline, c, c->json || c->csv ? stderr : stdout);
    int code = finish_stdout();
    if (!code && c->svg_path) code = compare_svg(c);
    return !code && c->html_path ? compare_html(c) : code;
}

/* Reads the text as each model's tokens, in the chunk that all were trained for. 0, or EXIT_FAILURE
 * after printing an error. */
static int read_tokens(comparison *c) {
    const gqa_config *least = c->variants->config;
    int code = EXIT_SUCCESS;
    for (const variant *v = c->variants; v < c->variants + c->n_variants; v++)
        if (v->config->context_length < least->context_length) least = v->config;
    score_choose_chunk(&c->text, least, c->quiet);
    for (variant *v = c->variants; v < c->variants + c->n_variants && !code; v++) {
        v->tokens = score_tokens(v->model, &c->text, &v->n_chunks);
        code = v->tokens ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    return code;
}

/* Measures, until a signal, and shows what there is; then the signal does what it always does. */
static int measure_and_show(comparison *c) {
    hold_signals();
    int code = measure(c), n = c->variants->prefill.n;
    if (c->text.file && !code && !signal_held()) code = score_variants(c);
    c->has_scores = c->variants->scores->n > 0;
    if (!code && signal_held())
        fprintf(stderr, "run: interrupted: %s was measured\n", n ? "this" : "nothing");
    c->rounds = n;
    if (!code && n) code = show(c);
    release_signals();
    return code;
}

static int compare(comparison *c) {
    if (c->svg_path && c->html_path && !strcmp(c->svg_path, c->html_path))
        return usage_error("--svg and --html both write %s: give two names", c->svg_path);
    int code = refuse_other_text(c->svg_path, "<svg");
    if (!code) code = refuse_other_text(c->html_path, "<!doctype html>");
    if (!code && c->baseline_path) code = baseline_read(&c->baseline, c->baseline_path);
    if (!code && c->text.file) code = score_read(&c->text, c->quiet);
    if (!code) code = compare_open(c);
    if (!code) {
        c->same_vocab = share_vocabulary(c);
        if (c->text.file) code = read_tokens(c);
        if (!code) code = measure_and_show(c);
    }
    compare_close(c);
    gqa_json_free(&c->baseline);
    free(c->text.text);
    return code;
}

/* Returns -1 to go on, else an exit code. */
static int check(comparison *c) {
    if (!c->n_paths == !c->shape) return usage_error("compare: give either models or --shape");
    if (c->head_list && c->n_paths > 1)
        return usage_error("--kv-heads: of one model; %d are given", c->n_paths);
    if (strcmp(c->pool, "mean") && c->n_paths != 1)
        return usage_error("--pool: of one model; %d are given", c->n_paths);
    if (c->shape && c->text.file)
        return usage_error("compare: -f needs a model: random weights have no perplexity");
    if (gqa_pool_from_name(c->pool) < 0)
        return usage_error("--pool %s: expected mean, first, random, renorm or aligned", c->pool);
    return parse_lists(c) ? EXIT_USAGE : -1;
}

static int run_compare(int argc, char **argv, comparison *c) {
    const opt options[] = {
        {"--shape S", OPT_STRING, &c->shape, 0, 0,
         "random weights of this shape instead of a file, e.g.\n"
         "dim=2048,layers=4,heads=32,ffn=5632,vocab=32000,type=q8_0"},
        {"--kv-heads LIST", OPT_STRING, &c->head_list, 0, 0,
         "numbers of KV heads of one model or shape, e.g. 32,8,1\n"
         "(default: MHA, its own, and fewer down to MQA); of a\n"
         "shape also mla, mla:LATENT+ROPE, gta and gta:G"},
        {"--pool HOW", OPT_STRING, &c->pool, 0, 0,
         "how to pool a model's heads: mean, first, random, renorm,\naligned (default mean)"},
        {"--depths LIST", OPT_STRING, &c->depth_list, 0, 0,
         "positions in the cache when decoding (default 0,1024,4096)"},
        {"--batch LIST", OPT_STRING, &c->batch_list, 0, 0,
         "also decode so many sequences together, at the last depth,\nwhere they fit in --memory"},
        {"--kv LIST", OPT_STRING, &c->cache_list, 0, 0, "cache types: f16,q8_0/q4_0 (default f16)"},
        {"-f FILE", OPT_STRING, &c->text.file, 0, 0, "text for perplexity and for aligned pooling"},
        SCORE_OPTIONS(c->text),
        {"--memory SIZE", OPT_STRING, &c->memory_text, 0, 0,
         "count the sequences that fit in SIZE (default 8G)"},
        {"-n N", OPT_INT, &c->tokens, 2, 1 << 20, "tokens decoded per measurement (default 32)"},
        {"--prompt N", OPT_INT, &c->prompt, 1, 1 << 20, "tokens of a prefill (default 128)"},
        {"--reps N", OPT_INT, &c->rounds, 1, MAX_ROUNDS, "rounds (default 5)"},
        {"-j N", OPT_INT, &c->threads, 0, 1024, THREADS_HELP},
        {"-z FILE", OPT_STRING, &c->tokenizer, 0, 0, "tokenizer of a llama2.c checkpoint"},
        {"--svg FILE", OPT_STRING, &c->svg_path, 0, 0, "write a chart"},
        {"--html FILE", OPT_STRING, &c->html_path, 0, 0, "write a page with table and charts"},
        {"--baseline FILE", OPT_STRING, &c->baseline_path, 0, 0,
         "an earlier --json: say what changed beyond the spread"},
        {"--csv", OPT_FLAG, &c->csv, 0, 0, "print comma-separated values"},
        {"--json", OPT_FLAG, &c->json, 0, 0, "print one JSON object"},
        {"--quiet", OPT_FLAG, &c->quiet, 0, 0, QUIET_HELP},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), c->paths, MAX_VARIANTS, &c->n_paths,
                             "run compare MODEL...|--shape S [options]\n\n"
                             "Compares models, or one as MHA, GQA and MQA: memory, speed,\n"
                             "quality. Ratios are to the first.");
    if (code < 0) code = check(c);
    record_command(c->command, sizeof c->command, "compare", 1, argc, argv);
    return code >= 0 ? code : compare(c);
}

int command_compare(int argc, char **argv) {
    comparison *c = calloc(1, sizeof *c);
    if (!c) return fail("out of memory");
    c->pool = "mean";
    c->cache_list = "f16";
    c->depth_list = "0,1024,4096";
    c->memory_text = "8G";
    c->tokens = 32;
    c->prompt = 128;
    c->rounds = 5;
    c->name_width = 8;
    int code = run_compare(argc, argv, c);
    free(c);
    return code;
}
