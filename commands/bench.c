/* bench.c: `run bench`: how fast a model runs here, beside how fast it could at best. Names are the ones people know from
 * llama-bench: pp512 evaluates a prompt of 512 tokens, tg128 generates 128, each at a given depth of context.
 *
 * Every repetition is preceded by a measurement of the machine's limits, and a share is the time that the limits allow
 * over the time it took: bytes read over read bandwidth for generation, multiply-adds over the arithmetic rate for
 * prompts. The median over repetitions is shown, with half the spread between the fastest and the slowest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "json.h"
#include "machine.h"

enum { MAX_LIST = 16, MAX_REPS = 100, MAX_BATCH = 256, MAX_ROWS = 3 * MAX_LIST };

typedef struct settings {
    const char *shape, *depths_text, *batches_text, *kv, *tokenizer;
    int prompt, tokens, reps, threads, json, csv, no_repack, seed;
    int depths[MAX_LIST], n_depths, batches[MAX_LIST], n_batches;
} settings;

/* One line of the result. */
typedef struct row {
    char name[32];
    int depth, batch;
    double rate, spread;       /* tokens a second */
    double seconds;            /* of one repetition */
    double first_token;        /* time to it (TTFT): of a prompt, all of it; NaN for generation */
    double bytes, ops;         /* a second: read from memory, multiply-adds */
    double share;              /* of the limit; NaN when everything fits in the caches */
    double kv_bytes;           /* a second, of the KV cache alone: against the same test at depth 0; NaN: not known */
} row;

typedef struct bench {
    const settings *o;
    gqa_model *model;
    const gqa_config *config;
    gqa_model_stats stats;
    int kv_type, threads;
    machine *machine;
    machine_limits limits;     /* of the repetition in which memory was fastest */
    gqa_session *sessions[MAX_BATCH];
    int n_sessions;
    row rows[MAX_ROWS];
    int n_rows;
} bench;

/* ---- what a test costs at least ---------------------------------------------------------------------------------- */

/* Multiply-adds of attention for n tokens after depth others: QK and PV, every query head, the causal half. */
static double attention_ops(const gqa_config *c, int depth, int n) {
    double seen = 0;
    for (int i = 0; i < n; i++) {
        int p = depth + i + 1;
        seen += c->window > 0 && p > c->window ? c->window : p;
    }
    return 2.0 * c->n_layers * c->n_heads * c->head_dim * seen;
}

static double cache_bytes(const bench *b, int depth, int n) {  /* read while n tokens are generated one by one */
    double seen = attention_ops(b->config, depth, n) / (2.0 * b->config->n_layers * b->config->n_heads * b->config->head_dim);
    return seen * (double)gqa_kv_bytes_per_position(b->config, (gqa_type)b->kv_type);
}

static int weights_are_int8(const bench *b) {  /* products of quantised weights use int8 arithmetic */
    return strchr(b->stats.type_name, 'q') != NULL;
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static int run_tokens(bench *b, int batch, int n, int at_once, double *seconds, gqa_error *err) {
    int32_t *tokens = malloc(sizeof(int32_t) * (size_t)(n > batch ? n : batch));
    uint32_t state = 1;
    int status = 0;
    if (!tokens) return fail("no memory"), -1;
    double start = seconds_now();
    for (int done = 0; !status && done < n; done += at_once ? n : 1) {
        int count = at_once ? n : batch;
        for (int i = 0; i < count; i++) {
            state = state * 1664525u + 1013904223u;
            tokens[i] = (int32_t)((state >> 8) % (uint32_t)b->config->vocab_size);
        }
        status = batch > 1 ? gqa_sessions_eval(b->sessions, tokens, batch, err) : gqa_session_eval(b->sessions[0], tokens, count, err);
    }
    *seconds = seconds_now() - start;
    free(tokens);
    return status;
}

/* One test, o->reps times after a warm-up. */
static int measure(bench *b, const char *name, int n, int at_once, int depth, int batch, gqa_error *err) {
    double seconds[MAX_REPS], share[MAX_REPS];
    double kv = at_once ? 0 : cache_bytes(b, depth, n) * batch;
    double bytes = (double)b->stats.decode_bytes * (at_once ? 1 : n) + kv;
    double products = (double)b->stats.matmul_params * n * batch, attention = attention_ops(b->config, depth, n) * batch;
    row *r = &b->rows[b->n_rows++];
    *r = (row){.depth = depth, .batch = batch};
    snprintf(r->name, sizeof r->name, "%s%d", name, n);
    for (int rep = -1; rep < b->o->reps; rep++) {
        machine_limits now;
        double took;
        for (int i = 0; i < batch; i++) {
            gqa_session_rewind(b->sessions[i], 0, NULL);
            if (gqa_session_fill_random(b->sessions[i], depth, (uint64_t)(unsigned)b->o->seed, err)) return -1;
        }
        machine_measure(b->machine, rep < 0 ? 3 : 1, &now);
        if (run_tokens(b, batch, rep < 0 && !at_once && n > 4 ? 4 : n, at_once, &took, err)) return -1;
        if (rep < 0) continue;
        double rate = weights_are_int8(b) ? now.int8_ops : now.float_ops;
        double compute = products / rate + attention / now.float_ops, reading = bytes / now.read_bytes;
        seconds[rep] = took;
        share[rep] = (compute > reading ? compute : reading) / took;
        if (now.read_bytes > b->limits.read_bytes) b->limits = now;
    }
    r->seconds = median(seconds, b->o->reps);
    r->rate = n * batch / r->seconds;
    r->first_token = at_once ? r->seconds : (double)NAN;
    r->spread = (n * batch / seconds[0] - n * batch / seconds[b->o->reps - 1]) / 2;
    r->bytes = bytes / r->seconds;
    r->ops = (products + attention) / r->seconds;
    int in_caches = !at_once && bytes / n < 48e6;
    r->share = in_caches ? (double)NAN : median(share, b->o->reps);
    r->kv_bytes = (double)NAN;
    for (const row *base = b->rows; base < r; base++)
        if (!at_once && depth > 0 && base->depth == 0 && base->batch == batch && !strcmp(base->name, r->name) && r->seconds > base->seconds)
            r->kv_bytes = (kv - cache_bytes(b, 0, n) * batch) / (r->seconds - base->seconds);
    return 0;
}

static int make_sessions(bench *b, gqa_error *err) {
    int deepest = 0, widest = 1, longest = b->o->prompt > b->o->tokens ? b->o->prompt : b->o->tokens;
    for (int i = 0; i < b->o->n_depths; i++) deepest = b->o->depths[i] > deepest ? b->o->depths[i] : deepest;
    for (int i = 0; i < b->o->n_batches; i++) widest = b->o->batches[i] > widest ? b->o->batches[i] : widest;
    for (; b->n_sessions < widest; b->n_sessions++) {
        gqa_session_options so = {.context = deepest + longest + 8, .kv = b->o->kv, .n_threads = b->o->threads};
        if (b->n_sessions) so.batch = 1;
        b->sessions[b->n_sessions] = gqa_session_new(b->model, &so, err);
        if (!b->sessions[b->n_sessions]) return -1;
    }
    b->threads = gqa_session_threads(b->sessions[0]);
    return 0;
}

static int measure_all(bench *b, gqa_error *err) {
    for (int i = 0; i < b->o->n_depths; i++) {
        if (b->o->prompt && measure(b, "pp", b->o->prompt, 1, b->o->depths[i], 1, err)) return -1;
        for (int j = 0; b->o->tokens && j < b->o->n_batches; j++)
            if (measure(b, "tg", b->o->tokens, 0, b->o->depths[i], b->o->batches[j], err)) return -1;
    }
    return 0;
}

/* ---- showing ----------------------------------------------------------------------------------------------------- */

static const char *attention_name(const gqa_config *c, char buf[16]) {
    if (c->n_kv_heads == c->n_heads) return "MHA";
    if (c->n_kv_heads == 1) return "MQA";
    snprintf(buf, 16, "GQA-%d", c->n_kv_heads);
    return buf;
}

static const char *share_text(double share, char buf[16]) {
    if (isnan(share)) return "-";
    snprintf(buf, 16, "%.2f", share);
    return buf;
}

static void show_table(const bench *b, double error, const char *where) {
    char t1[32], t2[32], t3[16];
    const gqa_config *c = b->config;
    printf("%s: %s, %d layers x %d, %d query / %d KV heads of %d (%s), %s weights, %s\n", c->name[0] ? c->name : "model",
           c->architecture, c->n_layers, c->dim, c->n_heads, c->n_kv_heads, c->head_dim, attention_name(c, t3), b->stats.type_name,
           human_bytes((double)b->stats.weight_bytes, t1));
    printf("%s, %d thread%s, KV cache %s: %s a position; self-check: largest relative error %.1e (%s)\n", b->stats.isa, b->threads,
           b->threads == 1 ? "" : "s", gqa_type_name(b->kv_type),
           human_bytes((double)gqa_kv_bytes_per_position(c, (gqa_type)b->kv_type), t2), error, where);
    printf("limits measured between the tests: read %.1f GB/s, f32 %.0f GMAC/s, int8 %.0f GMAC/s\n\n", b->limits.read_bytes / 1e9,
           b->limits.float_ops / 1e9, b->limits.int8_ops / 1e9);
    printf("| test | depth | sequences | tok/s | +/- | TTFT s | GB/s | GMAC/s | share of limit | KV GB/s |\n");
    printf("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        char share[16], kv[16] = "-", first[16] = "-";
        if (!isnan(r->first_token)) snprintf(first, sizeof first, "%.4f", r->first_token);
        if (!isnan(r->kv_bytes)) snprintf(kv, sizeof kv, "%.1f", r->kv_bytes / 1e9);
        printf("| %s | %d | %d | %.2f | %.2f | %s | %.1f | %.1f | %s | %s |\n", r->name, r->depth, r->batch, r->rate, r->spread,
               first, r->bytes / 1e9, r->ops / 1e9, share_text(r->share, share), kv);
    }
}

static void show_json(const bench *b, double error) {
    uint64_t kv_bytes = gqa_kv_bytes_per_position(b->config, (gqa_type)b->kv_type);
    json_writer j = json_open();
    json_string(&j, "model", b->config->name);
    json_string(&j, "isa", b->stats.isa);
    json_int(&j, "threads", b->threads);
    json_string(&j, "weights", b->stats.type_name);
    json_string(&j, "kv", gqa_type_name(b->kv_type));
    json_int(&j, "n_heads", b->config->n_heads);
    json_int(&j, "n_kv_heads", b->config->n_kv_heads);
    json_int(&j, "weight_bytes", (int64_t)b->stats.weight_bytes);
    json_int(&j, "kv_bytes_per_position", (int64_t)kv_bytes);
    json_double(&j, "self_check_error", error);
    json_double(&j, "read_bytes_per_second", b->limits.read_bytes);
    json_double(&j, "f32_mac_per_second", b->limits.float_ops);
    json_double(&j, "int8_mac_per_second", b->limits.int8_ops);
    json_begin(&j, "tests", '[');
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        json_begin(&j, NULL, '{');
        json_string(&j, "test", r->name);
        json_int(&j, "depth", r->depth);
        json_int(&j, "sequences", r->batch);
        json_double(&j, "tokens_per_second", r->rate);
        json_double(&j, "spread", r->spread);
        json_double(&j, "seconds", r->seconds);
        json_double(&j, "time_to_first_token", r->first_token);
        json_double(&j, "bytes_per_second", r->bytes);
        json_double(&j, "mac_per_second", r->ops);
        json_double(&j, "share_of_limit", r->share);
        json_double(&j, "kv_bytes_per_second", r->kv_bytes);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_close(&j);
}

static void show_csv(const bench *b) {
    printf("test,depth,sequences,tokens_per_second,spread,seconds,time_to_first_token,bytes_per_second,mac_per_second,share_of_limit,kv_bytes_per_second\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++)
        printf("%s,%d,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g,%.4g,%.6g\n", r->name, r->depth, r->batch, r->rate, r->spread, r->seconds,
               r->first_token, r->bytes, r->ops, r->share, r->kv_bytes);
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static int bench_model(bench *b) {
    gqa_error err = {0};
    const settings *o = b->o;
    const char *where = "";
    b->config = gqa_model_config(b->model);
    b->stats = *gqa_model_get_stats(b->model);
    b->kv_type = o->kv ? gqa_type_from_name(o->kv) : GQA_TYPE_F16;
    if (!b->stats.has_weights) return fail("the model holds a vocabulary and no weights");
    int weight_type = gqa_type_from_name(b->stats.type_name);  /* of the first type named: the one with most bytes */
    char first[16];
    if (weight_type < 0 && sscanf(b->stats.type_name, "%15s", first) == 1) weight_type = gqa_type_from_name(first);
    if (make_sessions(b, &err)) return fail("%s", err.message);
    double error = machine_self_check(b->stats.isa, weight_type, &where);
    if (!(error >= 0 && error < 1e-3)) return fail("self-check failed: %s is off by %g; no speed is worth measuring", where, error);
    b->machine = machine_new(b->threads, b->stats.isa);
    if (!b->machine) return fail("no memory to measure the machine");
    if (measure_all(b, &err)) return err.code ? fail("%s", err.message) : EXIT_FAILURE;
    if (o->json) show_json(b, error);
    else if (o->csv) show_csv(b);
    else show_table(b, error, where);
    return fflush(stdout) || ferror(stdout) ? fail("cannot write the result") : EXIT_SUCCESS;
}

static int open_model(bench *b, const char *path) {
    gqa_error err = {0};
    gqa_model_options mo = {.no_repack = b->o->no_repack, .n_threads = b->o->threads, .tokenizer_path = b->o->tokenizer};
    if (path) {
        b->model = gqa_model_open(path, &mo, &err);
    } else {
        gqa_config shape = {0};
        gqa_type type = GQA_TYPE_Q8_0;
        if (parse_shape(b->o->shape, &shape, &type)) return EXIT_USAGE;
        b->model = gqa_model_random(&shape, type, (uint64_t)(unsigned)b->o->seed, &mo, &err);
    }
    return b->model ? EXIT_SUCCESS : fail("%s", err.message);
}

int command_bench(int argc, char **argv) {
    settings o = {.depths_text = "0", .batches_text = "1", .prompt = 512, .tokens = 128, .reps = 5, .seed = 1};
    const opt options[] = {
        {"--shape S", OPT_STRING, &o.shape, 0, 0, "random weights of this shape instead of a file: dim=2048,layers=22,heads=32,\nkv_heads=4,ffn=5632,vocab=32000,type=q8_0"},
        {"-p N", OPT_INT, &o.prompt, 0, 1 << 20, "tokens of the prompt test; 0: none (512)"},
        {"-n N", OPT_INT, &o.tokens, 0, 1 << 20, "tokens of the generation test; 0: none (128)"},
        {"--depths LIST", OPT_STRING, &o.depths_text, 0, 0, "positions already in the cache (0)"},
        {"--batch LIST", OPT_STRING, &o.batches_text, 0, 0, "sequences generated together (1)"},
        {"-r N", OPT_INT, &o.reps, 1, MAX_REPS, "repetitions after a warm-up (5)"},
        {"-j N", OPT_INT, &o.threads, 0, 1024, "threads (physical cores allowed)"},
        {"--kv TYPE", OPT_STRING, &o.kv, 0, 0, "KV cache type: f32, f16, bf16, q8_0, q4_0 (f16)"},
        {"--no-repack", OPT_FLAG, &o.no_repack, 0, 0, "run from the mapped file"},
        {"-z FILE", OPT_STRING, &o.tokenizer, 0, 0, "tokenizer of a llama2.c checkpoint (not needed)"},
        {"-s SEED", OPT_INT, &o.seed, 0, INT32_MAX, "of the random weights and cache (1)"},
        {"--json", OPT_FLAG, &o.json, 0, 0, "one JSON object"},
        {"--csv", OPT_FLAG, &o.csv, 0, 0, "comma-separated values"},
        OPT_END,
    };
    const char *path = NULL;
    int n_paths = 0;
    int code = parse_options(argc, argv, TABLES(options), &path, 1, &n_paths, "run bench MODEL|--shape S [options]");
    if (code >= 0) return code;
    if (!path == !o.shape) return usage_error("bench: give a model file or --shape, and not both");
    o.n_depths = parse_int_list(o.depths_text, 0, 1 << 23, o.depths, MAX_LIST);
    if (o.n_depths < 1) return usage_error("--depths %s: expected up to %d numbers with commas between", o.depths_text, MAX_LIST);
    o.n_batches = parse_int_list(o.batches_text, 1, MAX_BATCH, o.batches, MAX_LIST);
    if (o.n_batches < 1) return usage_error("--batch %s: expected numbers from 1 to %d", o.batches_text, MAX_BATCH);
    if (o.n_depths * (o.n_batches + 1) > MAX_ROWS) return usage_error("bench: at most %d tests at once", MAX_ROWS);
    bench *b = calloc(1, sizeof *b);
    if (!b) return fail("no memory");
    b->o = &o;
    code = open_model(b, path);
    if (code == EXIT_SUCCESS) code = bench_model(b);
    for (int i = 0; i < b->n_sessions; i++) gqa_session_free(b->sessions[i]);
    machine_free(b->machine);
    gqa_model_close(b->model);
    free(b);
    return code;
}
