/* compare.c: `run compare`: one model as MHA, GQA and MQA, side by side: memory, speed at each depth, quality. Variants are
 * pooled from a checkpoint in memory, or have random weights of a shape. All are measured in turns (A B C A B C), so that
 * what the machine does meanwhile falls on all of them alike. */
#include "../formats/formats.h"
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calibrate.h"

/* ---- the variants ------------------------------------------------------------------------------------------------ */

static int open_random(comparison *c) {
    gqa_config shape = {.dim = 2048, .n_layers = 4, .n_heads = 32, .ffn_dim = 5632, .vocab_size = 32000};
    gqa_type type = GQA_TYPE_Q8_0;
    gqa_error err = {0};
    if (parse_shape(c->shape_text, &shape, &type)) return EXIT_USAGE;
    shape.context_length = c->depths[c->n_depths - 1] + c->tokens + c->prompt;
    for (int i = 0; i < c->n; i++) {
        shape.n_kv_heads = c->v[i].kv_heads;
        c->v[i].model = gqa_model_random(&shape, type, 1, NULL, &err);
        if (!c->v[i].model) return fail("%s", err.message);
    }
    return EXIT_SUCCESS;
}

static int pool_variant(const comparison *c, variant *v, const gqa_checkpoint *file, const gqa_vocab *vocab, const gqa_kv_samples *samples) {
    gqa_convert_options o = {.kv_heads = v->kv_heads, .pool = (gqa_pool)gqa_pool_from_name(c->pool), .type = -1, .samples = samples, .vocab = vocab, .seed = 1};
    gqa_error err = {0};
    size_t size = 0;
    if (gqa_convert(file, &o, NULL, &v->image, &size, &err)) return fail("%s", err.message);
    v->model = gqa_model_from_memory(v->image, size, NULL, &err);
    return v->model ? EXIT_SUCCESS : fail("%s", err.message);
}

static int open_file(comparison *c, const char *text, size_t len) {
    gqa_error err = {0};
    gqa_map map = {0};
    gqa_checkpoint file = {0};
    gqa_kv_samples samples = {0};
    gqa_vocab *vocab = NULL;
    gqa_map tokenizer = {0};
    enum { SAMPLES = 1024 };
    int code = text && !strcmp(c->pool, "aligned") ? calibrate(&samples, c->model_path, c->tokenizer, text, len, SAMPLES) : EXIT_SUCCESS;
    if (!code && (gqa_map_open(&map, c->model_path, &err) || gqa_checkpoint_read(&file, map.data, map.size, c->model_path, &err))) code = fail("%s", err.message);
    if (!code && c->tokenizer && file.n_meta == 0 &&
        (gqa_map_open(&tokenizer, c->tokenizer, &err) || gqa_vocab_from_llama2c(&vocab, tokenizer.data, tokenizer.size, file.config.vocab_size, c->tokenizer, &err)))
        code = fail("%s", err.message);
    for (int i = 0; i < c->n && !code; i++) {
        if (file.config.n_kv_heads % c->v[i].kv_heads) code = usage_error("--kv-heads %d: the model has %d, which it must divide", c->v[i].kv_heads, file.config.n_kv_heads);
        else code = pool_variant(c, &c->v[i], &file, vocab, samples.k ? &samples : NULL);
    }
    gqa_kv_samples_free(&samples);
    gqa_vocab_free(vocab);
    gqa_checkpoint_free(&file);
    gqa_map_close(&tokenizer);
    gqa_map_close(&map);
    return code;
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

/* Seconds of `tokens` steps of decoding at a depth; negative after telling why. */
static double time_decode(const comparison *c, gqa_session *s, int depth) {
    gqa_error err = {0};
    gqa_session_rewind(s, 0, NULL);
    if (depth && gqa_session_fill_random(s, depth, 7, &err)) return fail("%s", err.message), -1;
    int32_t token = 1;
    if (gqa_session_eval(s, &token, 1, &err)) return fail("%s", err.message), -1;  /* warms up what the fill has cooled down */
    double start = seconds_now();
    for (int i = 1; i < c->tokens; i++)
        if (gqa_session_eval(s, &token, 1, &err)) return fail("%s", err.message), -1;
    return seconds_now() - start;
}

static double time_prefill(const comparison *c, gqa_session *s) {
    gqa_error err = {0};
    int32_t *tokens = calloc((size_t)c->prompt, sizeof *tokens);
    int vocab = gqa_model_config(gqa_session_model(s))->vocab_size;
    for (int i = 0; tokens && i < c->prompt; i++) tokens[i] = i * 7 % vocab;
    gqa_session_rewind(s, 0, NULL);
    double start = seconds_now();
    int status = tokens ? gqa_session_eval(s, tokens, c->prompt, &err) : gqa_session_eval(s, NULL, 0, &err);
    double took = seconds_now() - start;
    free(tokens);
    return status ? fail("%s", err.message), -1 : took;
}

static int one_round(comparison *c, gqa_session *sessions[MAX_VARIANTS][MAX_CACHES], int keep) {
    for (int i = 0; i < c->n; i++) {
        double t = time_prefill(c, sessions[i][0]);
        if (t < 0) return EXIT_FAILURE;
        if (keep) sample_add(&c->v[i].prefill, c->prompt / t);
    }
    for (int k = 0; k < c->n_kv; k++)
        for (int d = 0; d < c->n_depths; d++)
            for (int i = 0; i < c->n; i++) {
                double t = time_decode(c, sessions[i][k], c->depths[d]);
                if (t < 0) return EXIT_FAILURE;
                if (keep) sample_add(&c->v[i].decode[k][d], (c->tokens - 1) / t);
            }
    return EXIT_SUCCESS;
}

static int measure(comparison *c) {
    gqa_session *sessions[MAX_VARIANTS][MAX_CACHES] = {{NULL}};
    gqa_error err = {0};
    int code = EXIT_SUCCESS, longest = c->depths[c->n_depths - 1] + c->tokens;
    for (int i = 0; i < c->n && !code; i++)
        for (int k = 0; k < c->n_kv && !code; k++) {
            gqa_session_options so = {.context = longest > c->prompt ? longest : c->prompt, .kv = c->kv_names[k], .n_threads = c->threads};
            sessions[i][k] = gqa_session_new(c->v[i].model, &so, &err);
            if (!sessions[i][k]) code = fail("%s", err.message);
        }
    machine *m = code ? NULL : machine_new(gqa_session_threads(sessions[0][0]), NULL);
    if (!code && !m) code = fail("no memory to measure this machine with");
    if (m) machine_measure(m, 3, &c->limits);
    for (int r = 0; r <= c->rounds && !code; r++) {
        if (!c->quiet && isatty(2)) fprintf(stderr, "\rround %d of %d ", r, c->rounds);
        code = one_round(c, sessions, r > 0); /* round 0 warms up */
    }
    if (!c->quiet && isatty(2)) fprintf(stderr, "\r%30s\r", "");
    machine_free(m);
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->n_kv; k++) gqa_session_free(sessions[i][k]);
    return code;
}

/* Perplexity of every variant with every cache, each beside an f32 cache. */
static int judge(comparison *c, const char *text, size_t len) {
    gqa_error err = {0};
    int code = EXIT_SUCCESS, n_chunks = 0;
    for (int i = 0; i < c->n && !code; i++) {
        gqa_session *s[MAX_CACHES + 1] = {NULL};
        score scores[MAX_CACHES + 1];
        int32_t *tokens = score_tokens(c->v[i].model, text, len, c->chunk, c->chunks, &n_chunks);
        if (!tokens) code = EXIT_FAILURE;
        for (int k = 0; k <= c->n_kv && !code; k++) {
            gqa_session_options so = {.context = c->chunk, .kv = k ? c->kv_names[k - 1] : "f32", .n_threads = c->threads};
            s[k] = gqa_session_new(c->v[i].model, &so, &err);
            if (!s[k]) code = fail("%s", err.message);
        }
        if (!code) code = score_chunks(s, c->n_kv + 1, tokens, n_chunks, c->chunk, scores, c->quiet ? NULL : "perplexity: ");
        memcpy(c->v[i].scores, scores + 1, sizeof *scores * (size_t)c->n_kv);
        for (int k = 0; k <= c->n_kv; k++) gqa_session_free(s[k]);
        free(tokens);
    }
    c->has_scores = !code;
    return code;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static int parse_lists(comparison *c) {
    int heads[MAX_VARIANTS];
    c->n = parse_int_list(c->head_list, 1, 4096, heads, MAX_VARIANTS);
    if (c->n < 1) return usage_error("--kv-heads %s: expected numbers with commas between, at most %d", c->head_list, MAX_VARIANTS);
    for (int i = 0; i < c->n; i++) c->v[i].kv_heads = heads[i];
    c->n_depths = parse_int_list(c->depth_list, 0, 1 << 22, c->depths, MAX_DEPTHS);
    if (c->n_depths < 1) return usage_error("--depths %s: expected numbers with commas between, at most %d", c->depth_list, MAX_DEPTHS);
    for (int d = 1; d < c->n_depths; d++)
        if (c->depths[d] <= c->depths[d - 1]) return usage_error("--depths %s: expected rising numbers", c->depth_list);
    for (const char *p = c->kv_list; *p; p += strcspn(p, ","), p += *p == ',') {
        int len = (int)strcspn(p, ",");
        if (c->n_kv == MAX_CACHES || len > 7) return usage_error("--kv %s: expected types with commas between, at most %d", c->kv_list, MAX_CACHES);
        snprintf(c->kv_names[c->n_kv], sizeof c->kv_names[0], "%.*s", len, p);
        c->kv_types[c->n_kv] = gqa_type_from_name(c->kv_names[c->n_kv]);
        if (c->kv_types[c->n_kv++] < 0) return usage_error("--kv: there is no type %.*s", len, p);
    }
    char *end;
    c->memory = strtod(c->memory_text, &end);
    c->memory *= *end == 'G' ? 1 << 30 : *end == 'M' ? 1 << 20 : 1;
    if (c->n_kv < 1 || !(c->memory >= 1) || end == c->memory_text) return usage_error("--kv %s, --memory %s: expected types, and a size such as 8G", c->kv_list, c->memory_text);
    return EXIT_SUCCESS;
}

static int compare(comparison *c) {
    size_t len = 0;
    char *text = c->text_path ? read_text(c->text_path, &len) : NULL;
    if (c->text_path && !text) return EXIT_FAILURE;
    int code = c->shape_text ? open_random(c) : open_file(c, text, len);
    if (!code) {
        c->config = *gqa_model_config(c->v[0].model);
        for (int i = 0; i < c->n; i++) c->v[i].stats = *gqa_model_get_stats(c->v[i].model);
        code = measure(c);
    }
    if (!code && text) code = judge(c, text, len);
    if (!code) {
        if (c->json) compare_json(c);
        else if (c->csv) compare_csv(c);
        else compare_table(c);
        code = finish_stdout();
    }
    if (!code && c->svg_path) code = compare_svg(c);
    for (int i = 0; i < c->n; i++) {
        gqa_model_close(c->v[i].model);
        free(c->v[i].image);
    }
    free(text);
    return code;
}

int command_compare(int argc, char **argv) {
    static comparison c; /* zeroed, and too large for a stack */
    c.pool = "mean", c.kv_list = "f16", c.depth_list = "0,1024,4096", c.memory_text = "8G";
    c.tokens = 32, c.prompt = 128, c.rounds = 5, c.chunk = 256;
    int n_paths = 0;
    const opt options[] = {
        {"--shape S", OPT_STRING, &c.shape_text, 0, 0, "random weights: dim=2048,layers=4,heads=32,ffn=5632,vocab=32000,type=q8_0"},
        {"--kv-heads LIST", OPT_STRING, &c.head_list, 0, 0, "head counts to compare, the first is the measure: 32,8,4,1"},
        {"--pool HOW", OPT_STRING, &c.pool, 0, 0, "of a model's heads: mean, first, random, renorm, aligned (mean)"},
        {"--depths LIST", OPT_STRING, &c.depth_list, 0, 0, "positions in the cache when decoding (0,1024,4096)"},
        {"--kv LIST", OPT_STRING, &c.kv_list, 0, 0, "cache types (f16)"},
        {"-f FILE", OPT_STRING, &c.text_path, 0, 0, "text for perplexity, and for aligned to look at"},
        {"-c N", OPT_INT, &c.chunk, 4, 1 << 20, "tokens a chunk of that text (256)"},
        {"--chunks K", OPT_INT, &c.chunks, 0, 1 << 30, "only the first K chunks; 0: all"},
        {"--memory SIZE", OPT_STRING, &c.memory_text, 0, 0, "how many sequences fit into it (8G)"},
        {"-n N", OPT_INT, &c.tokens, 2, 1 << 20, "tokens decoded a measurement (32)"},
        {"--prompt N", OPT_INT, &c.prompt, 1, 1 << 20, "tokens of the prefill measurement (128)"},
        {"--reps N", OPT_INT, &c.rounds, 1, MAX_ROUNDS, "rounds (5)"},
        {"-j N", OPT_INT, &c.threads, 0, 1024, "threads (physical cores allowed)"},
        {"-z FILE", OPT_STRING, &c.tokenizer, 0, 0, "tokenizer of a llama2.c checkpoint"},
        {"--svg FILE", OPT_STRING, &c.svg_path, 0, 0, "a chart"},
        {"--csv", OPT_FLAG, &c.csv, 0, 0, "a row for each variant, cache and depth"},
        {"--json", OPT_FLAG, &c.json, 0, 0, "one JSON object"},
        {"--quiet", OPT_FLAG, &c.quiet, 0, 0, "nothing on stderr but errors"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &c.model_path, 1, &n_paths, "run compare MODEL|--shape S --kv-heads LIST [options]");
    if (code >= 0) return code;
    if (!c.model_path == !c.shape_text) return usage_error("compare: give a model or a --shape");
    if (!c.head_list) return usage_error("compare: give the head counts (--kv-heads 8,4,1)");
    if (c.shape_text && c.text_path) return usage_error("compare: random weights of a shape have no perplexity; -f needs a model");
    if (gqa_pool_from_name(c.pool) < 0) return usage_error("--pool %s: expected mean, first, random, renorm or aligned", c.pool);
    code = parse_lists(&c);
    return code ? code : compare(&c);
}
