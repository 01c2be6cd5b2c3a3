/* bench.c: `run bench`: how fast a model runs here, beside how fast it could at best. Names are
 * llama-bench's: pp512 evaluates a prompt of 512 tokens, tg128 generates 128, each at a given depth
 * of context.
 *
 * A repetition runs every test once, each after a measurement of the machine's limits, and a share
 * is the time that the limits allow over the time it took: bytes read over read bandwidth for
 * generation, multiply-adds over the arithmetic rate for prompts. The median over repetitions is
 * shown, with half the spread between the fastest and the slowest; and the median of the ratios to
 * the first instruction set and kind of attention, with --mix to the same alone, with --lookup to
 * generation without. */
#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "../base/random.h"
#include "../kernels/kernels.h"
#include "bench.h"

static int portions(const bench *b, const row *r) { return ceil_div(r->n, b->o->mix); }
static const engine *engine_of(const bench *b, const row *r) { return &b->sets[r->set]; }
/* The one with the machine. */
static engine *first_of_isa(bench *b, int set) { return &b->sets[set - set % b->n_kinds]; }

/* ---- what a test costs at least ------------------------------------------------------------- */

/* Multiply-adds of attention for n tokens after depth others: QK and PV, every query head of every
 * layer, over the positions that each attends to. */
static double attention_ops(const gqa_model *model, int depth, int n) {
    double sum = 0;
    for (int p = depth + 1; p <= depth + n; p++) sum += attention_macs(model, 0, p);
    return sum;
}

/* Bytes of KV cache read while a test generates its tokens at that depth. */
static double cache_bytes(const bench *b, const row *r, int depth) {
    double bytes = 0;
    for (int p = depth + 1; p <= depth + r->n && r->kind != PROMPT; p++)
        bytes += (double)kv_cache_bytes(engine_of(b, r)->model, b->kv_type, p);
    return bytes * r->batch;
}

/* Products of quantised weights use int8 arithmetic. */
static int weights_are_int8(const engine *e) { return strchr(e->stats->type_name, 'q') != NULL; }

/* Those of float weights use bf16 in long passes, with --fast-prefill. */
static double product_rate(const bench *b, const row *r, const machine_limits *limits) {
    int is_long = (r->kind == PROMPT ? r->n : r->batch) > GQA_DECODE_ORDER;
    if (weights_are_int8(engine_of(b, r))) return limits->int8_ops;
    return is_long && engine_of(b, r)->stats->fast_prefill ? limits->bf16_ops : limits->float_ops;
}

/* Multiply-adds of a test's matrix products; a second plane of activations is not counted. */
static double products_of(const bench *b, const row *r) {
    const gqa_model_stats *stats = engine_of(b, r)->stats;
    double of_token = (double)stats->matmul_params;
    if (r->kind != PROMPT) return of_token * r->n * r->batch;
    return of_token + (double)stats->prompt_params * (r->n - 1);
}

/* Whatever takes longer at these limits, arithmetic or reading. */
static double least_seconds(const bench *b, const row *r, const machine_limits *limits,
                            double products, double attention, double bytes) {
    double arithmetic = products / product_rate(b, r, limits) + attention / limits->float_ops;
    return fmax(arithmetic, bytes / limits->read_bytes);
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* Random tokens for n sessions, counts[i] each (NULL: one), `total` in all. */
static int eval_random(engine *e, int n, const int *counts, int total, uint64_t *state,
                       gqa_error *err) {
    uint64_t vocab = (uint64_t)e->config->vocab_size;
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
        status = eval_random(e, batch + 1, counts, batch + count, &state, err);
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
    if (r->kind == PROMPT) status = eval_random(e, 1, &n, n, &state, err);
    else if (r->kind == MIXED_PROMPT) status = run_mixed(b, e, r, n, err);
    else for (int i = 0; i < n && !status; i++)
        status = eval_random(e, r->batch, NULL, r->batch, &state, err);
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
    machine_measure(first_of_isa(b, r->set)->machine, run ? 1 : 3, &limits);
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
    double attention = attention_ops(engine_of(b, r)->model, r->depth, r->n) * r->batch;
    double bytes = (double)engine_of(b, r)->stats->decode_bytes * (r->kind == PROMPT ? 1 : r->n);
    bytes += cache_bytes(b, r, r->depth);
    for (int i = 0; i < reps; i++) {
        machine_limits *best = &first_of_isa(b, r->set)->limits, *now = &r->limits[i];
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

/* ---- the command ---------------------------------------------------------------------------- */

/* The type with most bytes: the first one that the statistics name. */
static int weight_type(const char *type_name) {
    char first[16] = "";
    sscanf(type_name, "%15s", first);
    return gqa_type_from_name(first);
}

static int make_model(const bench *b, engine *e, const char *path) {
    const settings *o = b->o;
    gqa_error err = {0};
    gqa_model_options mo = {
        .no_repack = o->no_repack, .n_threads = o->threads, .tokenizer_path = o->tokenizer,
        .isa = e->isa, .fast_prefill = o->fast,
    };
    gqa_config shape = {0};
    gqa_type type = GQA_TYPE_Q8_0;
    if (path) {
        e->model = open_model(path, &mo);
        return e->model ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    if (parse_shape(o->shape, &shape, &type)) return EXIT_USAGE;
    if (e->kv_heads && (shape.latent_dim || shape.tied_kv))
        return usage_error("--shape %s: beside --kv-heads, which takes mla and gta", o->shape);
    if (e->kv_heads && set_attention(&shape, e->kv_heads)) return EXIT_USAGE;
    mo.fast_prefill = fast_prefill(o->fast);
    e->model = gqa_model_random(&shape, type, (uint64_t)o->seed, &mo, &err);
    if (!e->model) return fail("%s%s%s", e->kv_heads ? e->kv_heads : "",
                               e->kv_heads ? ": " : "", err.message);
    note_fast_prefill(e->model, o->fast);
    return EXIT_SUCCESS;
}

static int read_tokens(bench *b) {
    gqa_error err = {0};
    size_t len;
    char *text = b->text ? NULL : read_text(b->o->file, &len);
    if (b->text) return EXIT_SUCCESS;
    if (!text) return EXIT_FAILURE;
    b->n_text = gqa_tokenize_new(b->sets[0].model, text, len, GQA_TOKENIZE_BOS, &b->text, &err);
    free(text);
    return b->n_text > 0 ? EXIT_SUCCESS : fail("%s: %s", b->o->file, err.message);
}

/* Opens the model, and all else, for a set. */
static int make_engine(bench *b, const char *path, int set) {
    gqa_error err = {0};
    engine *e = &b->sets[set];
    int code = make_model(b, e, path);
    if (code) return code;
    e->stats = gqa_model_get_stats(e->model);
    e->config = gqa_model_config(e->model);
    if (!e->stats->has_weights) return fail("the model has a vocabulary but no weights");
    if (b->o->lookup && read_tokens(b)) return EXIT_FAILURE;
    if (make_sessions(b, e, &err)) return fail("%s", err.message);
    if (first_of_isa(b, set) != e) return EXIT_SUCCESS;
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
    if (o->json) bench_json(b);
    else if (o->csv) bench_csv(b);
    else bench_table(b);
    return finish_stdout();
}

/* The words between the commas of names into out[MAX_LIST]. Returns how many, or -1. */
static int split(char *names, const char **out) {
    int n = 0;
    for (char *at = strtok(names, ","); at; at = strtok(NULL, ",")) {
        if (n == MAX_LIST) return -1;
        out[n++] = at;
    }
    return n;
}

/* What --isa and --kv-heads name; what is not given is one, as other commands choose it. 0, or an
 * exit code after printing an error. */
static int list_sets(bench *b, char *isas, char *kinds) {
    const char *isa[MAX_LIST] = {NULL}, *kind[MAX_LIST] = {NULL};
    int n_isas = 1;
    b->n_kinds = kinds ? split(kinds, kind) : 1;
    if (isas) n_isas = strcmp(isas, "all") ? split(isas, isa) : gqa_kernels_list(isa, MAX_LIST);
    if (n_isas < 1) return usage_error("--isa: expected 1 to %d instruction sets", MAX_LIST);
    if (b->n_kinds < 1) return usage_error("--kv-heads: expected 1 to %d of them", MAX_LIST);
    b->n_sets = n_isas * b->n_kinds;
    int n_tests = b->o->n_depths * (1 + 3 * b->o->n_batches) + 2;
    if (b->n_sets > MAX_SETS || n_tests * b->n_sets > MAX_ROWS)
        return usage_error("bench: too many tests at once");
    for (int i = 0; i < b->n_sets; i++) {
        b->sets[i].isa = isa[i / b->n_kinds];
        b->sets[i].kv_heads = kind[i % b->n_kinds];
    }
    return 0;
}

static int run_bench(const settings *o, const char *path) {
    bench *b = calloc(1, sizeof *b);
    char *isas = o->isa ? strdup(o->isa) : NULL, *kinds = o->kv_heads ? strdup(o->kv_heads) : NULL;
    int code;
    if (!b || (o->isa && !isas) || (o->kv_heads && !kinds)) code = fail("out of memory");
    else {
        b->o = o;
        code = list_sets(b, isas, kinds);
        if (!code) code = bench_model(b, path);
    }
    for (int set = 0; b && set < b->n_sets; set++) {
        engine *e = &b->sets[set];
        for (int i = 0; i < e->n_sessions; i++) gqa_session_free(e->sessions[i]);
        gqa_workspace_free(e->workspace);
        machine_free(e->machine);
        gqa_model_close(e->model);
    }
    if (b) gqa_free(b->text);
    free(isas);
    free(kinds);
    free(b);
    return code;
}

/* Returns -1 to go on, else an exit code. */
static int check(settings *o, const char *path) {
    if (!path == !o->shape) return usage_error("bench: give either a model file or --shape");
    if (path && o->kv_heads)
        return usage_error("--kv-heads is for --shape; run compare MODEL takes it for a file");
    o->n_depths = parse_int_list(o->depths_text, 0, 1 << 23, o->depths, MAX_LIST);
    if (o->n_depths < 1)
        return usage_error("--depths %s: expected at most %d numbers with commas between",
                           o->depths_text, MAX_LIST);
    o->n_batches = parse_int_list(o->batches_text, 1, MAX_BATCH, o->batches, MAX_LIST);
    if (o->n_batches < 1)
        return usage_error("--batch %s: expected numbers from 1 to %d", o->batches_text, MAX_BATCH);
    if (o->mix && !o->prompt) return usage_error("--mix needs a prompt: -p 1 or more");
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
        {"--kv-heads LIST", OPT_STRING, &o.kv_heads, 0, 0,
         "kinds of attention to compare, e.g. 32,8,4,1,mla (with --shape)"},
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
