/* bench.c: `run bench`: how fast a model runs here, beside how fast it could at best. Names are
 * llama-bench's: pp512 evaluates a prompt of 512 tokens, tg128 generates 128, each at a given depth
 * of context.
 *
 * Every repetition is preceded by a measurement of the machine's limits, and a share is the time
 * that the limits allow over the time it took: bytes read over read bandwidth for generation,
 * multiply-adds over the arithmetic rate for prompts. The median over repetitions is shown, with
 * half the spread between the fastest and the slowest. */
#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "../base/random.h"
#include "command.h"
#include "json.h"
#include "machine.h"

enum { MAX_LIST = 16, MAX_REPS = 100, MAX_BATCH = 256, MAX_ROWS = 3 * MAX_LIST };

typedef struct settings {
    const char *shape, *depths_text, *batches_text, *kv, *tokenizer;
    int prompt, tokens, reps, threads, json, csv, no_repack;
    int64_t seed;
    int depths[MAX_LIST], n_depths, batches[MAX_LIST], n_batches;
} settings;

/* One test: what it does, and its result. */
typedef struct row {
    char name[32];             /* "pp512", "tg128" */
    int prefill;               /* tokens are evaluated at once; else generated one by one */
    int n, depth, batch;       /* tokens of a sequence, positions before them, sequences */
    double rate, spread;       /* tokens a second */
    double seconds;            /* of one repetition */
    double first_token;        /* prefill: time to first token; else NaN */
    double bytes, ops;         /* a second: read from memory, multiply-adds */
    double share;              /* of the limit; NaN when everything fits in the caches */
    double kv_bytes;           /* a second, of the KV cache alone; NaN: unknown */
} row;

typedef struct bench {
    const settings *o;
    gqa_model *model;
    const gqa_config *config;
    const gqa_model_stats *stats;
    const char *kv_type;
    int n_threads;
    machine *machine;
    machine_limits limits;     /* of the repetition in which memory was fastest */
    gqa_workspace *workspace;  /* of all sessions */
    gqa_session *sessions[MAX_BATCH];
    int n_sessions;
    row rows[MAX_ROWS];
    int n_rows;
} bench;

/* ---- what a test costs at least ------------------------------------------------------------- */

/* Multiply-adds of attention for n tokens after depth others: QK and PV, every query head of every
 * layer, over the positions that each attends to. */
static double attention_ops(const bench *b, int depth, int n) {
    double sum = 0;
    for (int p = depth + 1; p <= depth + n; p++) sum += attention_macs(b->model, 0, p);
    return sum;
}

/* Bytes of KV cache read while a test generates its tokens at that depth. */
static double cache_bytes(const bench *b, const row *r, int depth) {
    double bytes = 0;
    for (int p = depth + 1; p <= depth + r->n && !r->prefill; p++)
        bytes += (double)kv_cache_bytes(b->model, b->kv_type, p);
    return bytes * r->batch;
}

/* Products of quantised weights use int8 arithmetic. */
static int weights_are_int8(const bench *b) { return strchr(b->stats->type_name, 'q') != NULL; }

/* Whatever takes longer at these limits, arithmetic or reading. */
static double least_seconds(const bench *b, const machine_limits *limits, double products,
                            double attention, double bytes) {
    double product_rate = weights_are_int8(b) ? limits->int8_ops : limits->float_ops;
    double arithmetic = products / product_rate + attention / limits->float_ops;
    return fmax(arithmetic, bytes / limits->read_bytes);
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* Evaluates n tokens a sequence as the test does. */
static int run_test(bench *b, const row *r, int n, double *seconds, gqa_error *err) {
    int n_steps = r->prefill ? 1 : n, n_tokens = r->prefill ? n : r->batch, status = 0;
    uint64_t state = 1, vocab = (uint64_t)b->config->vocab_size;
    int32_t *tokens = calloc(n_tokens, sizeof *tokens);
    if (!tokens) return gqa_fail(err, GQA_ERR_MEMORY, "out of memory for %d tokens", n_tokens);
    double start = seconds_now();
    for (int step = 0; step < n_steps && !status; step++) {
        for (int i = 0; i < n_tokens; i++) tokens[i] = (int32_t)(gqa_random_next(&state) % vocab);
        if (r->batch > 1) status = gqa_sessions_eval(b->sessions, tokens, n_tokens, err);
        else status = gqa_session_eval(b->sessions[0], tokens, n_tokens, err);
    }
    *seconds = seconds_now() - start;
    free(tokens);
    return status;
}

static int fill_sessions(bench *b, const row *r, gqa_error *err) {
    for (int i = 0; i < r->batch; i++) {
        gqa_session_rewind(b->sessions[i], 0, NULL);
        int status = gqa_session_fill_random(b->sessions[i], r->depth, (uint64_t)b->o->seed, err);
        if (status) return status;
    }
    return 0;
}

/* The rate at which the KV cache alone is read: the cost of depth, against the same test at depth
 * 0. */
static double kv_rate(const bench *b, const row *r) {
    for (const row *base = b->rows; base < r && !r->prefill && r->depth > 0; base++) {
        int same = base->depth == 0 && base->batch == r->batch && !strcmp(base->name, r->name);
        double bytes = cache_bytes(b, r, r->depth) - cache_bytes(b, r, 0);
        if (same && r->seconds > base->seconds) return bytes / (r->seconds - base->seconds);
    }
    return (double)NAN;
}

/* Runs a test o->reps times after a warm-up. */
static int measure(bench *b, row test, gqa_error *err) {
    double seconds[MAX_REPS], share[MAX_REPS];
    double kv = cache_bytes(b, &test, test.depth);
    double bytes = (double)b->stats->decode_bytes * (test.prefill ? 1 : test.n) + kv;
    double products = (double)b->stats->matmul_params * test.n * test.batch;
    double attention = attention_ops(b, test.depth, test.n) * test.batch;
    int reps = b->o->reps, n_tokens = test.n * test.batch;
    row *r = &b->rows[b->n_rows++];
    *r = test;
    snprintf(r->name, sizeof r->name, "%s%d", r->prefill ? "pp" : "tg", r->n);
    for (int run = 0; run <= reps; run++) {
        machine_limits now;
        double took = 0;
        int warm_up = run == 0, rep = run - 1;
        int n = warm_up && !r->prefill ? min_int(r->n, 4) : r->n;
        int status = fill_sessions(b, r, err);
        if (status) return status;
        machine_measure(b->machine, warm_up ? 3 : 1, &now);
        status = run_test(b, r, n, &took, err);
        if (status) return status;
        if (warm_up) continue;
        seconds[rep] = took;
        share[rep] = least_seconds(b, &now, products, attention, bytes) / took;
        if (now.read_bytes > b->limits.read_bytes) b->limits = now;
    }
    r->seconds = median(seconds, reps); /* sorts */
    r->rate = n_tokens / r->seconds;
    r->first_token = r->prefill ? r->seconds : (double)NAN;
    r->spread = (n_tokens / seconds[0] - n_tokens / seconds[reps - 1]) / 2;
    r->bytes = bytes / r->seconds;
    r->ops = (products + attention) / r->seconds;
    int in_caches = !r->prefill && bytes / r->n < 48e6;
    r->share = in_caches ? (double)NAN : median(share, reps);
    r->kv_bytes = kv_rate(b, r);
    return 0;
}

static int make_sessions(bench *b, gqa_error *err) {
    const settings *o = b->o;
    int deepest = 0, n_sessions = 1;
    for (int i = 0; i < o->n_depths; i++) deepest = max_int(deepest, o->depths[i]);
    for (int i = 0; i < o->n_batches; i++) n_sessions = max_int(n_sessions, o->batches[i]);
    int context = deepest + max_int(o->prompt, o->tokens) + 8;
    gqa_session_options wo = {.context = context, .n_threads = o->threads};
    b->workspace = gqa_workspace_new(b->model, &wo, err);
    if (!b->workspace) return -1;
    gqa_session_options so = {.context = context, .kv = o->kv, .workspace = b->workspace};
    while (b->n_sessions < n_sessions) {
        gqa_session *s = gqa_session_new(b->model, &so, err);
        if (!s) return -1;
        b->sessions[b->n_sessions++] = s;
    }
    b->n_threads = gqa_session_threads(b->sessions[0]);
    return 0;
}

static int measure_all(bench *b, gqa_error *err) {
    const settings *o = b->o;
    int status = 0;
    for (int i = 0; i < o->n_depths; i++) {
        row test = {.depth = o->depths[i], .batch = 1, .n = o->prompt, .prefill = 1};
        if (o->prompt) status = measure(b, test, err);
        for (int j = 0; j < o->n_batches && o->tokens && !status; j++) {
            test = (row){.depth = o->depths[i], .batch = o->batches[j], .n = o->tokens};
            status = measure(b, test, err);
        }
        if (status) return status;
    }
    return 0;
}

/* ---- the report ----------------------------------------------------------------------------- */

static void show_table(const bench *b, double error, const char *where) {
    char size[32], position[32], attention[16];
    const gqa_config *c = b->config;
    double position_bytes = (double)kv_cache_bytes(b->model, b->kv_type, 1);
    printf("%s: %s, %d layers x %d, %d query / %d KV heads of %d (%s), %s weights, %s\n",
           c->name[0] ? c->name : "model", c->architecture, c->n_layers, c->dim, c->n_heads,
           c->n_kv_heads, c->head_dim, attention_name(c, attention), b->stats->type_name,
           human_bytes((double)b->stats->weight_bytes, size));
    printf("%s, %d thread%s, KV cache %s: %s a position; ", b->stats->isa, b->n_threads,
           b->n_threads == 1 ? "" : "s", b->kv_type,
           human_bytes(position_bytes, position));
    printf("self-check: largest relative error %.1e (%s)\n", error, where);
    printf("limits measured between the tests: read %.1f GB/s, f32 %.0f GMAC/s, int8 %.0f GMAC/s\n",
           b->limits.read_bytes / 1e9, b->limits.float_ops / 1e9, b->limits.int8_ops / 1e9);
    printf("\n| test | depth | sequences | tok/s | +/- | TTFT s | GB/s | GMAC/s "
           "| share of limit | KV GB/s |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        char first[16], share[16], kv[16];
        printf("| %s | %d | %d | %.2f | %.2f | %s | %.1f | %.1f | %s | %s |\n", r->name, r->depth,
               r->batch, r->rate, r->spread, cell(r->first_token, 1, 4, first), r->bytes / 1e9,
               r->ops / 1e9, cell(r->share, 1, 2, share), cell(r->kv_bytes, 1e9, 1, kv));
    }
}

static void json_row(json_writer *j, const row *r) {
    json_begin(j, NULL, '{');
    json_string(j, "test", r->name);
    json_int(j, "depth", r->depth);
    json_int(j, "sequences", r->batch);
    json_double(j, "tokens_per_second", r->rate);
    json_double(j, "spread", r->spread);
    json_double(j, "seconds", r->seconds);
    json_double(j, "time_to_first_token", r->first_token);
    json_double(j, "bytes_per_second", r->bytes);
    json_double(j, "mac_per_second", r->ops);
    json_double(j, "share_of_limit", r->share);
    json_double(j, "kv_bytes_per_second", r->kv_bytes);
    json_end(j, '}');
}

static void show_json(const bench *b, double error) {
    uint64_t position_bytes = kv_cache_bytes(b->model, b->kv_type, 1);
    json_writer j = json_open();
    json_string(&j, "model", b->config->name);
    json_string(&j, "isa", b->stats->isa);
    json_int(&j, "threads", b->n_threads);
    json_string(&j, "weights", b->stats->type_name);
    json_string(&j, "kv", b->kv_type);
    json_int(&j, "n_heads", b->config->n_heads);
    json_int(&j, "n_kv_heads", b->config->n_kv_heads);
    json_int(&j, "weight_bytes", (int64_t)b->stats->weight_bytes);
    json_int(&j, "kv_bytes_per_position", (int64_t)position_bytes);
    json_double(&j, "self_check_error", error);
    json_double(&j, "read_bytes_per_second", b->limits.read_bytes);
    json_double(&j, "f32_mac_per_second", b->limits.float_ops);
    json_double(&j, "int8_mac_per_second", b->limits.int8_ops);
    json_begin(&j, "tests", '[');
    for (int i = 0; i < b->n_rows; i++) json_row(&j, &b->rows[i]);
    json_end(&j, ']');
    json_close(&j);
}

static void show_csv(const bench *b) {
    printf("test,depth,sequences,tokens_per_second,spread,seconds,time_to_first_token,"
           "bytes_per_second,mac_per_second,share_of_limit,kv_bytes_per_second\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        printf("%s,%d,%d,", r->name, r->depth, r->batch);
        printf("%.6g,%.6g,%.6g,%.6g,", r->rate, r->spread, r->seconds, r->first_token);
        printf("%.6g,%.6g,%.4g,%.6g\n", r->bytes, r->ops, r->share, r->kv_bytes);
    }
}

/* ---- the command ---------------------------------------------------------------------------- */

/* The type with most bytes: the first one that the statistics name. */
static int weight_type(const char *type_name) {
    char first[16] = "";
    sscanf(type_name, "%15s", first);
    return gqa_type_from_name(first);
}

static int bench_model(bench *b) {
    gqa_error err = {0};
    const settings *o = b->o;
    const char *where = "";
    b->config = gqa_model_config(b->model);
    b->stats = gqa_model_get_stats(b->model);
    b->kv_type = o->kv ? o->kv : "f16";
    if (!b->stats->has_weights) return fail("the model has a vocabulary but no weights");
    if (make_sessions(b, &err)) return fail("%s", err.message);
    double error = machine_self_check(b->stats->isa, weight_type(b->stats->type_name), &where);
    if (!(error >= 0 && error < 1e-3))
        return fail("self-check failed: %s is off by %g", where, error);
    b->machine = machine_new(b->n_threads, b->stats->isa);
    if (!b->machine) return fail("out of memory for measuring the machine");
    if (measure_all(b, &err)) return fail("%s", err.message);
    if (o->json) show_json(b, error);
    else if (o->csv) show_csv(b);
    else show_table(b, error, where);
    return finish_stdout();
}

static int make_model(bench *b, const char *path) {
    const settings *o = b->o;
    gqa_error err = {0};
    gqa_model_options mo = {
        .no_repack = o->no_repack, .n_threads = o->threads, .tokenizer_path = o->tokenizer,
    };
    gqa_config shape = {0};
    gqa_type type = GQA_TYPE_Q8_0;
    if (path) {
        b->model = open_model(path, &mo);
        return b->model ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (parse_shape(o->shape, &shape, &type)) return EXIT_USAGE;
    b->model = gqa_model_random(&shape, type, (uint64_t)o->seed, &mo, &err);
    return b->model ? EXIT_SUCCESS : fail("%s", err.message);
}

static int run_bench(const settings *o, const char *path) {
    bench *b = calloc(1, sizeof *b);
    if (!b) return fail("out of memory");
    b->o = o;
    int code = make_model(b, path);
    if (!code) code = bench_model(b);
    for (int i = 0; i < b->n_sessions; i++) gqa_session_free(b->sessions[i]);
    gqa_workspace_free(b->workspace);
    machine_free(b->machine);
    gqa_model_close(b->model);
    free(b);
    return code;
}

/* Returns -1 to go on, else an exit code. */
static int check(settings *o, const char *path) {
    if (!path == !o->shape) return usage_error("bench: give either a model file or --shape");
    o->n_depths = parse_int_list(o->depths_text, 0, 1 << 23, o->depths, MAX_LIST);
    if (o->n_depths < 1)
        return usage_error("--depths %s: expected at most %d numbers with commas between",
                           o->depths_text, MAX_LIST);
    o->n_batches = parse_int_list(o->batches_text, 1, MAX_BATCH, o->batches, MAX_LIST);
    if (o->n_batches < 1)
        return usage_error("--batch %s: expected numbers from 1 to %d", o->batches_text, MAX_BATCH);
    if (o->n_depths * (o->n_batches + 1) > MAX_ROWS)
        return usage_error("bench: at most %d tests at once", MAX_ROWS);
    return -1;
}

int command_bench(int argc, char **argv) {
    settings o = {
        .depths_text = "0", .batches_text = "1", .prompt = 512, .tokens = 128, .reps = 5, .seed = 1,
    };
    const opt options[] = {
        {"--shape S", OPT_STRING, &o.shape, 0, 0,
         "random weights of this shape instead of a file, e.g.\n"
         "dim=2048,layers=22,heads=32,kv_heads=4,ffn=5632,vocab=32000,type=q8_0"},
        {"-p N", OPT_INT, &o.prompt, 0, 1 << 20, "tokens of a prompt (default 512); 0: no test"},
        {"-n N", OPT_INT, &o.tokens, 0, 1 << 20, "tokens to generate (default 128); 0: no test"},
        {"--depths LIST", OPT_STRING, &o.depths_text, 0, 0, "positions in the cache (default 0)"},
        {"--batch LIST", OPT_STRING, &o.batches_text, 0, 0, "sequences at a time (default 1)"},
        {"-r N", OPT_INT, &o.reps, 1, MAX_REPS, "repetitions after a warm-up (default 5)"},
        {"-j N", OPT_INT, &o.threads, 0, 1024, THREADS_HELP},
        {"--kv TYPE", OPT_STRING, &o.kv, 0, 0, KV_HELP},
        {"--no-repack", OPT_FLAG, &o.no_repack, 0, 0, REPACK_HELP},
        {"-z FILE", OPT_STRING, &o.tokenizer, 0, 0, LLAMA2C_HELP},
        {"-s SEED", OPT_INT64, &o.seed, 0, 9.3e18, "seed of random weights and cache (default 1)"},
        {"--json", OPT_FLAG, &o.json, 0, 0, "print one JSON object"},
        {"--csv", OPT_FLAG, &o.csv, 0, 0, "print comma-separated values"},
        OPT_END,
    };
    const char *path = NULL;
    int n_paths = 0;
    int code = parse_options(argc, argv, TABLES(options), &path, 1, &n_paths,
                             "run bench MODEL|--shape S [options]\n\n"
                             "Measures speed, beside what this machine can reach.");
    if (code < 0) code = check(&o, path);
    return code >= 0 ? code : run_bench(&o, path);
}
