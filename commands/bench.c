/* bench.c: `run bench`: how fast a model runs here, beside how fast it could at best. Names are
 * llama-bench's: pp512 evaluates a prompt of 512 tokens, tg128 generates 128, each at a given depth
 * of context.
 *
 * A repetition runs every test once, each after a measurement of the machine's limits, and a share
 * is the time that the limits allow over the time it took: bytes read over read bandwidth for
 * generation, multiply-adds over the arithmetic rate for prompts. The median over repetitions is
 * shown, with half the spread between the fastest and the slowest; and the median of the ratios to
 * the first instruction set, with --mix to the same alone, with --lookup to generation without. */
#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "../base/random.h"
#include "../kernels/kernels.h"
#include "command.h"
#include "json.h"
#include "machine.h"

enum { MAX_LIST = 16, MAX_REPS = 100, MAX_BATCH = 256, MAX_SETS = 8, MAX_ROWS = 192 };

typedef struct settings {
    const char *shape, *depths_text, *batches_text, *kv, *tokenizer, *isa, *file;
    int prompt, tokens, reps, threads, json, csv, no_repack, mix, lookup, fast, exact;
    int64_t seed;
    int depths[MAX_LIST], n_depths, batches[MAX_LIST], n_batches;
} settings;

typedef enum test_kind {
    PROMPT,                    /* tokens are evaluated at once */
    DECODE,                    /* generated one by one */
    MIXED_PROMPT,              /* in portions, each beside a token of the sequences */
    MIXED_DECODE,              /* and those tokens: not run, but measured with the above */
    TEXT,                      /* generated after the tokens of a file */
    LOOKUP                     /* the same with speculation */
} test_kind;

/* One test: what it does, and its result. */
typedef struct row {
    test_kind kind;
    int set;                   /* of instructions, and what is opened for it */
    char name[32];             /* "pp512", "tg128" */
    int n, depth, batch;       /* tokens of a sequence, positions before them, sequences */
    int tokens;                /* of a repetition */
    double times[MAX_REPS];
    machine_limits limits[MAX_REPS]; /* measured before each */
    double rate, spread;       /* tokens a second */
    double seconds;            /* of one repetition */
    double ratio;              /* of rates; NaN: there is nothing to compare with */
    double first_token;        /* of a prompt: time to first token; else NaN */
    double bytes, ops;         /* a second: read from memory, multiply-adds; NaN: unknown */
    double share;              /* of the limit; NaN when everything fits in the caches */
    double kv_bytes;           /* a second, of the KV cache alone; NaN: unknown */
} row;

/* What is measured of an instruction set. */
typedef struct engine {
    gqa_model *model;
    const gqa_model_stats *stats;
    gqa_workspace *workspace;  /* of all sessions */
    gqa_session *sessions[MAX_BATCH + 1];
    int n_sessions;
    machine *machine;
    machine_limits limits;     /* of the repetition in which memory was fastest */
    double error;              /* of the self-check, relative */
    const char *where;         /* it is */
} engine;

typedef struct bench {
    const settings *o;
    const gqa_model *model;    /* the first set's, as the next three */
    const gqa_config *config;
    const gqa_model_stats *stats;
    const char *kv_type;
    int n_threads;
    engine sets[MAX_SETS];
    const char *isas[MAX_SETS];
    int n_sets;
    int32_t *text;             /* [n_text] of the file; NULL: none */
    int n_text;
    row rows[MAX_ROWS];
    int n_rows;
} bench;

static int portions(const bench *b, const row *r) { return ceil_div(r->n, b->o->mix); }

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
    for (int p = depth + 1; p <= depth + r->n && r->kind != PROMPT; p++)
        bytes += (double)kv_cache_bytes(b->model, b->kv_type, p);
    return bytes * r->batch;
}

/* Products of quantised weights use int8 arithmetic. */
static int weights_are_int8(const bench *b) { return strchr(b->stats->type_name, 'q') != NULL; }

/* Those of float weights use bf16 in long passes, with --fast-prefill. */
static double product_rate(const bench *b, const row *r, const machine_limits *limits) {
    int is_long = (r->kind == PROMPT ? r->n : r->batch) > GQA_DECODE_ORDER;
    if (weights_are_int8(b)) return limits->int8_ops;
    return is_long && b->sets[r->set].stats->fast_prefill ? limits->bf16_ops : limits->float_ops;
}

/* Multiply-adds of a test's matrix products; a second plane of activations is not counted. */
static double products_of(const bench *b, const row *r) {
    double of_token = (double)b->stats->matmul_params;
    if (r->kind != PROMPT) return of_token * r->n * r->batch;
    return of_token + (double)b->stats->prompt_params * (r->n - 1);
}

/* Whatever takes longer at these limits, arithmetic or reading. */
static double least_seconds(const bench *b, const row *r, const machine_limits *limits,
                            double products, double attention, double bytes) {
    double arithmetic = products / product_rate(b, r, limits) + attention / limits->float_ops;
    return fmax(arithmetic, bytes / limits->read_bytes);
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* Random tokens for n sessions, counts[i] each (NULL: one), `total` in all. */
static int eval_random(bench *b, engine *e, int n, const int *counts, int total, uint64_t *state,
                       gqa_error *err) {
    uint64_t vocab = (uint64_t)b->config->vocab_size;
    int32_t *tokens = calloc(total, sizeof *tokens);
    if (!tokens) return gqa_fail(err, GQA_ERR_MEMORY, "out of memory for %d tokens", total);
    for (int i = 0; i < total; i++) tokens[i] = (int32_t)(gqa_random_next(state) % vocab);
    int status = gqa_sessions_eval_many(e->sessions, n, tokens, counts, err);
    free(tokens);
    return status;
}

/* A token of r->batch sequences, and with the next session a portion of a prompt of n tokens. */
static int run_mixed(bench *b, engine *e, const row *r, int n, gqa_error *err) {
    int counts[MAX_BATCH + 1], status = 0, batch = r->batch;
    uint64_t state = 1;
    for (int i = 0; i < batch; i++) counts[i] = 1;
    for (int done = 0; done < n && !status; done += b->o->mix) {
        int count = counts[batch] = min_int(n - done, b->o->mix);
        status = eval_random(b, e, batch + 1, counts, batch + count, &state, err);
    }
    return status;
}

/* Generates n tokens after the text. *seconds: without the first one. */
static int run_text(bench *b, engine *e, row *r, int n, double *seconds, gqa_error *err) {
    gqa_generate_options go = {.max_tokens = n, .ignore_end = 1, .lookup = r->kind == LOOKUP};
    gqa_generate_result result;
    gqa_sampler *sampler = gqa_sampler_new(NULL, err);
    int status = -1;
    if (sampler)
        status = gqa_generate_tokens(e->sessions[0], sampler, b->text, b->n_text, &go, NULL, NULL,
                                     &result, err);
    gqa_sampler_free(sampler);
    if (!status) *seconds = result.decode_seconds;
    return status;
}

/* Evaluates or generates n tokens a sequence as the test does. */
static int run_test(bench *b, row *r, int n, double *seconds, gqa_error *err) {
    engine *e = &b->sets[r->set];
    int status = 0;
    uint64_t state = 1;
    if (r->kind == TEXT || r->kind == LOOKUP) return run_text(b, e, r, n, seconds, err);
    double start = seconds_now();
    if (r->kind == PROMPT) status = eval_random(b, e, 1, &n, n, &state, err);
    else if (r->kind == MIXED_PROMPT) status = run_mixed(b, e, r, n, err);
    else for (int i = 0; i < n && !status; i++)
        status = eval_random(b, e, r->batch, NULL, r->batch, &state, err);
    *seconds = seconds_now() - start;
    return status;
}

/* The sessions of a test at its depth; those of a text begin empty. */
static int fill_sessions(bench *b, const row *r, gqa_error *err) {
    engine *e = &b->sets[r->set];
    int depth = r->kind < TEXT ? r->depth : 0, n = r->batch + (r->kind == MIXED_PROMPT);
    for (int i = 0; i < n; i++) {
        gqa_session_rewind(e->sessions[i], 0, NULL);
        int status = gqa_session_fill_random(e->sessions[i], depth, (uint64_t)b->o->seed, err);
        if (status) return status;
    }
    return 0;
}

static row *find_row(bench *b, test_kind kind, int set, int depth, int batch) {
    for (row *r = b->rows; r < b->rows + b->n_rows; r++)
        if (r->kind == kind && r->set == set && r->depth == depth && r->batch == batch) return r;
    return NULL;
}

/* The rate at which the KV cache alone is read: the cost of depth, against the same test at depth
 * 0. */
static double kv_rate(bench *b, const row *r) {
    const row *base = r->kind == DECODE ? find_row(b, DECODE, r->set, 0, r->batch) : NULL;
    if (!base || r->seconds <= base->seconds) return (double)NAN;
    return (cache_bytes(b, r, r->depth) - cache_bytes(b, r, 0)) / (r->seconds - base->seconds);
}

/* The median of the ratios of a row's rates to those of the row to compare it with. */
static double ratio_of(bench *b, const row *r) {
    static const test_kind bases[] = {PROMPT, DECODE, PROMPT, DECODE, TEXT, TEXT};
    double ratios[MAX_REPS];
    test_kind kind = bases[r->kind];
    int set = kind == r->kind ? 0 : r->set, batch = kind == DECODE ? r->batch : 1;
    const row *base = find_row(b, kind, set, r->depth, batch);
    if (!base || base == r) return (double)NAN;
    for (int i = 0; i < b->o->reps; i++)
        ratios[i] = r->tokens / r->times[i] / (base->tokens / base->times[i]);
    return median(ratios, b->o->reps);
}

/* Runs a test; run 0 is a warm-up. */
static int run_row(bench *b, row *r, int run, gqa_error *err) {
    machine_limits limits;
    int n = run == 0 && r->kind != PROMPT ? min_int(r->n, 4) : r->n;
    double took = 0;
    if (r->kind == MIXED_DECODE) {
        memcpy(r->times, r[-b->n_sets].times, sizeof r->times);
        return 0;
    }
    int status = fill_sessions(b, r, err);
    if (status) return status;
    machine_measure(b->sets[r->set].machine, run ? 1 : 3, &limits);
    status = run_test(b, r, n, &took, err);
    if (status || !run) return status;
    r->times[run - 1] = took;
    r->limits[run - 1] = limits;
    return 0;
}

/* All figures of a row but its ratio, after those of the rows before it. */
static void finish_row(bench *b, row *r) {
    int reps = b->o->reps, has_cost = r->kind <= DECODE;
    double times[MAX_REPS], shares[MAX_REPS];
    double products = products_of(b, r);
    double attention = attention_ops(b, r->depth, r->n) * r->batch;
    double bytes = (double)b->stats->decode_bytes * (r->kind == PROMPT ? 1 : r->n);
    bytes += cache_bytes(b, r, r->depth);
    for (int i = 0; i < reps; i++) {
        machine_limits *best = &b->sets[r->set].limits, *now = &r->limits[i];
        times[i] = r->times[i];
        shares[i] = least_seconds(b, r, now, products, attention, bytes) / times[i];
        if (now->read_bytes > best->read_bytes) *best = *now;
    }
    r->seconds = median(times, reps); /* sorts */
    r->rate = r->tokens / r->seconds;
    r->spread = (r->tokens / times[0] - r->tokens / times[reps - 1]) / 2;
    r->first_token = r->kind == PROMPT ? r->seconds : (double)NAN;
    r->bytes = has_cost ? bytes / r->seconds : (double)NAN;
    r->ops = has_cost ? (products + attention) / r->seconds : (double)NAN;
    int in_caches = r->kind != PROMPT && bytes / r->n < 48e6;
    r->share = in_caches || !has_cost ? (double)NAN : median(shares, reps);
    r->kv_bytes = kv_rate(b, r);
}

static int make_sessions(bench *b, engine *e, gqa_error *err) {
    const settings *o = b->o;
    int deepest = b->n_text, n_sessions = 1;
    for (int i = 0; i < o->n_depths; i++) deepest = max_int(deepest, o->depths[i]);
    for (int i = 0; i < o->n_batches; i++) n_sessions = max_int(n_sessions, o->batches[i]);
    n_sessions += o->mix > 0;
    int context = deepest + max_int(o->prompt, o->tokens) + 8;
    gqa_session_options wo = {
        .context = context, .n_threads = o->threads, .exact = o->exact,
    };
    e->workspace = gqa_workspace_new(e->model, &wo, err);
    if (!e->workspace) return -1;
    gqa_session_options so = {.context = context, .kv = o->kv, .workspace = e->workspace};
    while (e->n_sessions < n_sessions) {
        gqa_session *s = gqa_session_new(e->model, &so, err);
        if (!s) return -1;
        e->sessions[e->n_sessions++] = s;
    }
    b->n_threads = gqa_session_threads(e->sessions[0]);
    return 0;
}

/* A test, of every set. */
static void add_rows(bench *b, test_kind kind, int n, int depth, int batch) {
    for (int set = 0; set < b->n_sets; set++) {
        row *r = &b->rows[b->n_rows++];
        *r = (row){.kind = kind, .set = set, .n = n, .depth = depth, .batch = batch};
        r->tokens = kind == MIXED_DECODE ? batch * portions(b, r)
                    : kind == MIXED_PROMPT ? n
                    : kind >= TEXT ? n - 1 : n * batch;
        static const char *const names[] = {"pp%d", "tg%d", "pp%d+tg", "tg+pp%d", "text%d",
                                            "lookup%d"};
        snprintf(r->name, sizeof r->name, names[kind], n);
    }
}

static void list_tests(bench *b) {
    const settings *o = b->o;
    for (int i = 0; i < o->n_depths; i++) {
        int depth = o->depths[i];
        if (o->prompt) add_rows(b, PROMPT, o->prompt, depth, 1);
        for (int j = 0; j < o->n_batches; j++) {
            if (o->tokens) add_rows(b, DECODE, o->tokens, depth, o->batches[j]);
            if (!o->prompt || !o->mix) continue;
            add_rows(b, MIXED_PROMPT, o->prompt, depth, o->batches[j]);
            add_rows(b, MIXED_DECODE, o->prompt, depth, o->batches[j]);
        }
    }
    if (!o->lookup) return;
    add_rows(b, TEXT, o->tokens, b->n_text, 1);
    add_rows(b, LOOKUP, o->tokens, b->n_text, 1);
}

static int measure_all(bench *b, gqa_error *err) {
    int status = 0;
    list_tests(b);
    for (int run = 0; run <= b->o->reps; run++)
        for (int i = 0; i < b->n_rows && !status; i++) status = run_row(b, &b->rows[i], run, err);
    for (int i = 0; i < b->n_rows && !status; i++) finish_row(b, &b->rows[i]);
    for (int i = 0; i < b->n_rows && !status; i++) b->rows[i].ratio = ratio_of(b, &b->rows[i]);
    return status;
}

/* ---- the report ----------------------------------------------------------------------------- */

static void show_limits(const engine *e) {
    printf("%s: limits measured between the tests: read %.1f GB/s, f32 %.0f GMAC/s, int8 %.0f "
           "GMAC/s", e->stats->isa, e->limits.read_bytes / 1e9, e->limits.float_ops / 1e9,
           e->limits.int8_ops / 1e9);
    if (!isnan(e->limits.bf16_ops))
        printf(", bf16 %.0f GMAC/s (%s)", e->limits.bf16_ops / 1e9,
               e->stats->fast_prefill ? "used for prompts" : "not used");
    printf("; self-check: largest relative error %.1e (%s)\n", e->error, e->where);
}

static void show_table(const bench *b) {
    char size[32], position[32], attention[16];
    const gqa_config *c = b->config;
    double position_bytes = (double)kv_cache_bytes(b->model, b->kv_type, 1);
    printf("%s: %s, %d layers x %d, %d query / %d KV heads of %d (%s), %s weights, %s\n",
           c->name[0] ? c->name : "model", c->architecture, c->n_layers, c->dim, c->n_heads,
           c->n_kv_heads, c->head_dim, attention_name(c, attention), b->stats->type_name,
           human_bytes((double)b->stats->weight_bytes, size));
    printf("%d thread%s, KV cache %s: %s a position\n", b->n_threads, plural(b->n_threads),
           b->kv_type, human_bytes(position_bytes, position));
    for (int i = 0; i < b->n_sets; i++) show_limits(&b->sets[i]);
    printf("\n| test | isa | depth | sequences | tok/s | +/- | ratio | TTFT s | GB/s | GMAC/s "
           "| share of limit | KV GB/s |\n"
           "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        char ratio[16], first[16], bytes[16], ops[16], share[16], kv[16];
        printf("| %s | %s | %d | %d | %.2f | %.2f | %s | %s | %s | %s | %s | %s |\n", r->name,
               b->sets[r->set].stats->isa, r->depth, r->batch, r->rate, r->spread,
               cell(r->ratio, 1, 3, ratio), cell(r->first_token, 1, 4, first),
               cell(r->bytes, 1e9, 1, bytes), cell(r->ops, 1e9, 1, ops),
               cell(r->share, 1, 2, share), cell(r->kv_bytes, 1e9, 1, kv));
    }
}

static void json_row(json_writer *j, const bench *b, const row *r) {
    json_begin(j, NULL, '{');
    json_string(j, "test", r->name);
    json_string(j, "isa", b->sets[r->set].stats->isa);
    json_int(j, "depth", r->depth);
    json_int(j, "sequences", r->batch);
    json_double(j, "tokens_per_second", r->rate);
    json_double(j, "spread", r->spread);
    json_double(j, "ratio", r->ratio);
    json_double(j, "seconds", r->seconds);
    json_double(j, "time_to_first_token", r->first_token);
    json_double(j, "bytes_per_second", r->bytes);
    json_double(j, "mac_per_second", r->ops);
    json_double(j, "share_of_limit", r->share);
    json_double(j, "kv_bytes_per_second", r->kv_bytes);
    json_end(j, '}');
}

static void show_json(const bench *b) {
    uint64_t position_bytes = kv_cache_bytes(b->model, b->kv_type, 1);
    const engine *e = &b->sets[0];
    json_writer j = json_open();
    json_string(&j, "model", b->config->name);
    json_string(&j, "isa", e->stats->isa);
    json_int(&j, "threads", b->n_threads);
    json_string(&j, "weights", b->stats->type_name);
    json_string(&j, "kv", b->kv_type);
    json_int(&j, "n_heads", b->config->n_heads);
    json_int(&j, "n_kv_heads", b->config->n_kv_heads);
    json_int(&j, "weight_bytes", (int64_t)b->stats->weight_bytes);
    json_int(&j, "kv_bytes_per_position", (int64_t)position_bytes);
    json_double(&j, "self_check_error", e->error);
    json_double(&j, "read_bytes_per_second", e->limits.read_bytes);
    json_double(&j, "f32_mac_per_second", e->limits.float_ops);
    json_double(&j, "int8_mac_per_second", e->limits.int8_ops);
    json_double(&j, "bf16_mac_per_second", e->limits.bf16_ops);
    json_int(&j, "fast_prefill", e->stats->fast_prefill);
    json_bool(&j, "exact", b->o->exact);
    json_begin(&j, "tests", '[');
    for (int i = 0; i < b->n_rows; i++) json_row(&j, b, &b->rows[i]);
    json_end(&j, ']');
    json_close(&j);
}

static void show_csv(const bench *b) {
    printf("test,depth,sequences,tokens_per_second,spread,seconds,time_to_first_token,"
           "bytes_per_second,mac_per_second,share_of_limit,kv_bytes_per_second,isa,ratio\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        printf("%s,%d,%d,", r->name, r->depth, r->batch);
        const double numbers[] = {r->rate, r->spread, r->seconds, r->first_token,
                                  r->bytes, r->ops, r->share, r->kv_bytes};
        for (size_t i = 0; i < array_length(numbers); i++)
            printf(isnan(numbers[i]) ? "," : "%.6g,", numbers[i]);
        printf("%s,", b->sets[r->set].stats->isa);
        printf(isnan(r->ratio) ? "\n" : "%.4g\n", r->ratio);
    }
}

/* ---- the command ---------------------------------------------------------------------------- */

/* The type with most bytes: the first one that the statistics name. */
static int weight_type(const char *type_name) {
    char first[16] = "";
    sscanf(type_name, "%15s", first);
    return gqa_type_from_name(first);
}

static int make_model(const bench *b, engine *e, const char *path, const char *isa) {
    const settings *o = b->o;
    gqa_error err = {0};
    gqa_model_options mo = {
        .no_repack = o->no_repack, .n_threads = o->threads, .tokenizer_path = o->tokenizer,
        .isa = isa, .fast_prefill = o->fast,
    };
    gqa_config shape = {0};
    gqa_type type = GQA_TYPE_Q8_0;
    if (path) {
        e->model = open_model(path, &mo);
        return e->model ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (parse_shape(o->shape, &shape, &type)) return EXIT_USAGE;
    mo.fast_prefill = fast_prefill(o->fast);
    e->model = gqa_model_random(&shape, type, (uint64_t)o->seed, &mo, &err);
    if (!e->model) return fail("%s", err.message);
    note_fast_prefill(e->model, o->fast);
    return EXIT_SUCCESS;
}

static int read_tokens(bench *b) {
    gqa_error err = {0};
    size_t len;
    char *text = b->text ? NULL : read_text(b->o->file, &len);
    if (b->text) return EXIT_SUCCESS;
    if (!text) return EXIT_FAILURE;
    b->n_text = gqa_tokenize_new(b->model, text, len, GQA_TOKENIZE_BOS, &b->text, &err);
    free(text);
    return b->n_text > 0 ? EXIT_SUCCESS : fail("%s: %s", b->o->file, err.message);
}

/* Opens the model, and all else, for a set. */
static int make_engine(bench *b, const char *path, int set) {
    gqa_error err = {0};
    engine *e = &b->sets[set];
    int code = make_model(b, e, path, b->isas[set]);
    if (code) return code;
    e->stats = gqa_model_get_stats(e->model);
    b->model = b->sets[0].model;
    b->config = gqa_model_config(b->model);
    b->stats = b->sets[0].stats;
    if (!e->stats->has_weights) return fail("the model has a vocabulary but no weights");
    if (b->o->lookup && read_tokens(b)) return EXIT_FAILURE;
    if (make_sessions(b, e, &err)) return fail("%s", err.message);
    e->error = machine_self_check(e->stats->isa, weight_type(e->stats->type_name), &e->where);
    if (!(e->error >= 0 && e->error < 1e-3))
        return fail("self-check failed: %s is off by %g", e->where, e->error);
    e->machine = machine_new(b->n_threads, e->stats->isa, b->o->fast);
    return e->machine ? EXIT_SUCCESS : fail("out of memory for measuring the machine");
}

static int bench_model(bench *b, const char *path) {
    gqa_error err = {0};
    const settings *o = b->o;
    b->kv_type = o->kv ? o->kv : "f16";
    for (int set = 0; set < b->n_sets; set++) {
        int code = make_engine(b, path, set);
        if (code) return code;
    }
    if (measure_all(b, &err)) return fail("%s", err.message);
    if (o->json) show_json(b);
    else if (o->csv) show_csv(b);
    else show_table(b);
    return finish_stdout();
}

/* The sets of --isa: one when it is not given, chosen as for other commands. */
static int list_sets(bench *b, char *names) {
    if (!names) return b->n_sets = 1;
    if (!strcmp(names, "all")) return b->n_sets = gqa_kernels_list(b->isas, MAX_SETS);
    for (char *at = strtok(names, ","); at && b->n_sets < MAX_SETS; at = strtok(NULL, ","))
        b->isas[b->n_sets++] = at;
    return b->n_sets;
}

static int run_bench(const settings *o, const char *path) {
    bench *b = calloc(1, sizeof *b);
    char *names = o->isa ? strdup(o->isa) : NULL;
    int code = EXIT_FAILURE, n_tests = o->n_depths * (1 + 3 * o->n_batches) + 2;
    if (!b || (o->isa && !names)) code = fail("out of memory");
    else if (!list_sets(b, names)) code = usage_error("--isa: no instruction set");
    else if (n_tests * b->n_sets > MAX_ROWS) code = usage_error("bench: too many tests at once");
    else {
        b->o = o;
        code = bench_model(b, path);
    }
    for (int set = 0; b && set < b->n_sets; set++) {
        engine *e = &b->sets[set];
        for (int i = 0; i < e->n_sessions; i++) gqa_session_free(e->sessions[i]);
        gqa_workspace_free(e->workspace);
        machine_free(e->machine);
        gqa_model_close(e->model);
    }
    if (b) gqa_free(b->text);
    free(names);
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
    if (!o->lookup != !o->file || (o->lookup && (o->shape || o->tokens < 2)))
        return usage_error("--lookup and -f FILE go together, with a model file and -n 2 or more");
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
        {"--mix N", OPT_INT, &o.mix, 0, 4096,
         "also a prompt, N tokens of it in each pass, beside each batch"},
        {"--lookup", OPT_FLAG, &o.lookup, 0, 0, "also generate after a text, with and without it"},
        {"-f FILE", OPT_STRING, &o.file, 0, 0, "the text for --lookup"},
        {"--isa LIST", OPT_STRING, &o.isa, 0, 0,
         "instruction sets to compare, or all (default: the best)"},
        {"-r N", OPT_INT, &o.reps, 1, MAX_REPS, "repetitions after a warm-up (default 5)"},
        {"-j N", OPT_INT, &o.threads, 0, 1024, THREADS_HELP},
        {"--kv TYPE", OPT_STRING, &o.kv, 0, 0, KV_HELP},
        {"--exact", OPT_FLAG, &o.exact, 0, 0, EXACT_HELP},
        {"--fast-prefill", OPT_FLAG, &o.fast, 0, 0, FAST_HELP},
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
