/* terminal.c: what generate and chat share (terminal.h). */
#include "terminal.h"

#include <float.h>
#include <signal.h>
#include <string.h>

#include "choice.h"

/* ---- options -------------------------------------------------------------------------------- */

void text_settings_init(text_settings *s) {
    gqa_sampler_options *o = &s->sampling;
    const opt options[N_TEXT_OPTIONS + 1] = {
        {"-p P", OPT_FLOAT, &o->top_p, 0, 1,
         "top-p: the likeliest tokens whose probabilities reach P\n"
         "(default 0.9); 0: the likeliest; 1: all"},
        {"--top-k K", OPT_INT, &o->top_k, 0, INT32_MAX, "the K likeliest tokens (default 0: all)"},
        {"--min-p P", OPT_FLOAT, &o->min_p, 0, 0.999999,
         "no token less likely than P times the likeliest (default 0)"},
        {"--repeat-penalty R", OPT_FLOAT, &o->repeat_penalty, 0, 100,
         "divide the logits of repeated tokens by R (default 1: off)"},
        {"--repeat-last N", OPT_INT, &o->repeat_last, 0, 1 << 24,
         "penalise the last N tokens (default 64); 0: none"},
        {"-s SEED", OPT_INT64, &s->seed, 0, 9.3e18,
         "seed of the random numbers (default: from the clock)"},
        {"-c N", OPT_INT, &s->context, 0, 1 << 24,
         "context size in tokens (default: the model's, at most 4096)"},
        {"-j N", OPT_INT, &s->threads, 0, 1024, THREADS_HELP},
        {"--kv TYPE", OPT_STRING, &s->kv, 0, 0, KV_HELP},
        {"-z FILE", OPT_STRING, &s->tokenizer, 0, 0, LLAMA2C_HELP},
        {"--stop STR", OPT_STRINGS, &s->stop, 0, 0, "stop before this text; may be repeated"},
        {"--choice TEXT", OPT_STRINGS, &s->choices, 0, 0,
         "make the answer exactly this text, or another --choice"},
        {"--ignore-eos", OPT_FLAG, &s->ignore_end, 0, 0, "continue when the model ends the text"},
        {"--lookup", OPT_FLAG, &s->lookup, 0, 0,
         "guess tokens from what followed the same words before: the same\n"
         "text, sooner where it repeats itself or the prompt"},
        {"--draft MODEL", OPT_STRING, &s->draft, 0, 0,
         "guess tokens by a small model of the same vocabulary: the same text"},
        {"--exact", OPT_FLAG, &s->exact, 0, 0, EXACT_HELP},
        {"--fast-prefill", OPT_FLAG, &s->fast, 0, 0, FAST_HELP},
        {"--no-repack", OPT_FLAG, &s->no_repack, 0, 0, REPACK_HELP},
        {"--quiet", OPT_FLAG, &s->quiet, 0, 0, QUIET_HELP},
        OPT_END,
    };
    *s = (text_settings){.max_tokens = 256, .seed = -1};
    o->temperature = 1.0f;
    o->top_p = 0.9f;
    o->repeat_last = 64;
    memcpy(s->options, options, sizeof options);
}

int text_check(const text_settings *s) {
    for (int i = 0; i < s->stop.n; i++)
        if (!*s->stop.items[i]) return usage_error("--stop: the text is empty");
    return check_choices(&s->choices);
}

/* ---- Ctrl-C --------------------------------------------------------------------------------- */

static gqa_session *volatile interrupt_target;
static volatile sig_atomic_t interrupts;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    if (++interrupts >= 3) gqa_os_exit_now(EXIT_INTERRUPTED);
    if (interrupt_target) gqa_session_cancel(interrupt_target);
}

static void interrupt_install(gqa_session *session) {
    interrupt_target = session;
    gqa_os_on_interrupt(on_interrupt, 0);
}

int interrupted(void) { return (int)interrupts; }
void interrupt_clear(void) { interrupts = 0; }

/* ---- progress ------------------------------------------------------------------------------- */

typedef struct progress {
    const char *what;
    double start, shown_at; /* seconds; shown_at 0: nothing on the screen yet */
    int enabled;
} progress;

static progress progress_new(const char *what, int quiet) {
    int enabled = !quiet && gqa_os_is_terminal(stderr);
    return (progress){.what = what, .start = seconds_now(), .enabled = enabled};
}

static void progress_show(progress *p, double done) {
    double now = seconds_now(), elapsed = now - p->start;
    if (!p->enabled || elapsed < 1 || now - p->shown_at < 0.2) return;
    double left = done > 0 ? elapsed * (1 - done) / done : 0;
    fprintf(stderr, "\r%s: %3.0f%%, %.0f s left ", p->what, done * 100, left);
    p->shown_at = now;
}

static void progress_end(progress *p) {
    if (p->shown_at > 0) fputs("\r\033[K", stderr);
}

/* ---- opening -------------------------------------------------------------------------------- */

static void warn_file_memory(double size) {
    char t1[32], t2[32];
    double available = gqa_os_free_memory();
    if (available < 0 || size <= available) return;
    warning("the file (%s) exceeds the free memory (%s): expect it to be very slow; take a smaller "
            "file", human_bytes(size, t1), human_bytes(available, t2));
}

/* A packed copy is in memory already; a mapped file must find space beside the cache. */
static double mapped_bytes(const gqa_model *m) {
    const gqa_model_stats *stats = gqa_model_get_stats(m);
    return stats->packed_bytes ? 0 : (double)stats->weight_bytes;
}

static void warn_session_memory(const text_run *run) {
    char t1[32], t2[32], t3[32];
    double available = gqa_os_free_memory(), weights = mapped_bytes(run->model);
    double session = (double)gqa_session_bytes(run->session);
    if (run->draft) {
        weights += mapped_bytes(run->draft_model);
        session += (double)gqa_session_bytes(run->draft);
    }
    if (available < 0 || weights + session <= available) return;
    char with[64] = "";
    if (weights > 0) snprintf(with, sizeof with, "weights (%s) and ", human_bytes(weights, t1));
    warning("%s of memory are free, less than is needed for %sthe session (%s when full): take "
            "less context (-c N) or a smaller cache type (--kv q8_0)",
            human_bytes(available, t3), with, human_bytes(session, t2));
}

static void warn_context(const text_run *run) {
    int trained = gqa_model_config(run->model)->context_length;
    if (trained > 0 && run->settings->context > trained)
        warning("-c %d: the model was trained for %d positions; beyond them its text gets worse",
                run->settings->context, trained);
}

static int on_load(void *user, double done) {
    progress_show(user, done);
    return 0;
}

static int load_model(text_run *run, const char *path) {
    const text_settings *s = run->settings;
    gqa_error err = {0};
    gqa_file_info file;
    progress p = progress_new("loading", s->quiet);
    gqa_model_options mo = {
        .tokenizer_path = s->tokenizer,
        .n_threads = s->threads,
        .no_repack = s->no_repack,
        .fast_prefill = fast_prefill(s->fast),
        .on_progress = on_load,
        .user = &p,
    };
    if (check_tokenizer(path, s->tokenizer)) return EXIT_FAILURE;
    if (!s->quiet && gqa_os_file_info(path, &file) == 0)
        warn_file_memory((double)file.id.size);
    run->model = gqa_model_open(path, &mo, &err);
    progress_end(&p);
    if (!run->model) return fail("%s", err.message);
    run->load_seconds = seconds_now() - p.start;
    if (gqa_model_warning(run->model) && !s->quiet) warning("%s", gqa_model_warning(run->model));
    if (!s->quiet) note_fast_prefill(run->model, s->fast);
    return EXIT_SUCCESS;
}

/* From the clock, short enough to retype. */
static int64_t random_seed(void) {
    uint64_t t = gqa_os_clock();
    return (int64_t)((t / 1000000000u * 1000003u ^ t % 1000000000u) % 1000000000u);
}

/* The sampler takes 0 for the default or for "all", as its unset fields have it. */
static gqa_sampler_options sampler_options(const text_settings *s) {
    gqa_sampler_options o = s->sampling;
    o.seed = (uint64_t)s->seed;
    if (o.top_p == 0) o.top_p = FLT_MIN;
    if (o.repeat_last == 0) o.repeat_penalty = 1;
    return o;
}

/* The model of --draft. 0, or an exit code after printing an error. */
static int open_draft(text_run *run) {
    const text_settings *s = run->settings;
    gqa_error err = {0};
    gqa_model_options mo = {.n_threads = s->threads, .no_repack = s->no_repack};
    gqa_session_options so = {.n_threads = s->threads};
    if (!s->draft) return EXIT_SUCCESS;
    so.context = gqa_session_context(run->session);
    run->draft_model = open_model(s->draft, &mo);
    if (!run->draft_model) return EXIT_FAILURE;
    if (!gqa_check_vocabulary(run->model, run->draft_model, &err))
        run->draft = gqa_session_new(run->draft_model, &so, &err);
    return run->draft ? EXIT_SUCCESS : fail("--draft: %s", err.message);
}

int text_open(text_run *run, const char *path, text_settings *s) {
    gqa_error err = {0};
    *run = (text_run){.settings = s};
    if (s->seed < 0) s->seed = random_seed();
    if (load_model(run, path)) return EXIT_FAILURE;
    gqa_session_options so = {
        .context = s->context, .kv = s->kv, .n_threads = s->threads, .exact = s->exact,
    };
    run->session = gqa_session_new(run->model, &so, &err);
    const gqa_sampler_options sampling = sampler_options(s);
    if (run->session) run->sampler = gqa_sampler_new(&sampling, &err);
    if (!run->sampler) return fail("%s", err.message);
    if (open_draft(run)) return EXIT_FAILURE;
    if (!s->quiet) warn_session_memory(run);
    if (!s->quiet) warn_context(run);
    interrupt_install(run->session);
    return EXIT_SUCCESS;
}

void text_close(text_run *run) {
    interrupt_target = NULL;
    gqa_sampler_free(run->sampler);
    gqa_session_free(run->draft);
    gqa_session_free(run->session);
    gqa_model_close(run->draft_model);
    gqa_model_close(run->model);
}

void show_speculation(const text_run *run, const gqa_generate_result *r) {
    if (!run->settings->lookup && !run->draft) return;
    fprintf(stderr, "speculation: %d of %d proposed tokens accepted", r->accepted_tokens,
            r->proposed_tokens);
    if (r->speculation_gain > 0) fprintf(stderr, ", %.2f times as fast", r->speculation_gain);
    fputc('\n', stderr);
}

/* ---- prompts -------------------------------------------------------------------------------- */

/* Prompts copied from a template begin with the token that the tokenizer puts before every text. */
static int brings_bos(const gqa_model *model, const char *text, size_t len) {
    char bos[64];
    int n = gqa_token_name(model, gqa_token_bos(model), bos, sizeof bos);
    if (!gqa_model_adds_bos(model) || n <= 0 || n > (int)sizeof bos) return 0;
    return len >= (size_t)n && !memcmp(text, bos, (size_t)n);
}

/* Byte-level vocabularies may lack some bytes, and leave them out. tokens[n]: those of the text,
 * without a BOS that was added. */
static void note_left_out(const gqa_model *model, size_t len, const int32_t *tokens, int n) {
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        int is_control = gqa_token_is_control(model, tokens[i]);
        int size = (is_control ? gqa_token_name : gqa_token_bytes)(model, tokens[i], NULL, 0);
        if (size > 0) bytes += (size_t)size;
    }
    if (bytes < len)
        fprintf(stderr, "run: note: the vocabulary has no tokens for %zu of the text's %zu bytes; "
                "they are left out\n", len - bytes, len);
}

int32_t *text_tokenize(const gqa_model *model, const char *text, size_t len, unsigned flags,
                       int quiet, int *n) {
    const unsigned both = GQA_TOKENIZE_BOS | GQA_TOKENIZE_SPECIAL;
    gqa_error err = {0};
    int32_t *tokens;
    *n = gqa_tokenize_new(model, text, len, flags, &tokens, &err);
    if (*n < 0) fail("%s", err.message);
    if (*n < 0 || quiet) return tokens;
    int own_bos = (flags & both) == both && brings_bos(model, text, len);
    if (own_bos)
        fputs("run: note: the text brings its own beginning-of-sequence token; no second one is "
              "added\n", stderr);
    int added = (flags & GQA_TOKENIZE_BOS) && gqa_model_adds_bos(model) && !own_bos && *n > 0;
    note_left_out(model, len, tokens + added, *n - added);
    return tokens;
}

void text_accept(text_run *run, const int32_t *tokens, int n) {
    for (int i = 0; i < n; i++)
        if (!gqa_token_is_control(run->model, tokens[i]))
            gqa_sampler_accept(run->sampler, tokens[i]);
}

/* Evaluates tokens[n]. */
static int feed(text_run *run, const int32_t *tokens, int n, double *seconds) {
    enum { CHUNK = 512 };
    gqa_error err = {0};
    progress p = progress_new("reading the prompt", run->settings->quiet);
    int space = gqa_session_context(run->session) - gqa_session_position(run->session);
    int status = 0;
    if (n > space) {
        fail("context full: the prompt has %d tokens, %d are free; use -c N", n, space);
        return GQA_ERR_CONTEXT;
    }
    for (int done = 0; done < n && !status; done += CHUNK) {
        int count = n - done < CHUNK ? n - done : CHUNK;
        do status = gqa_session_eval(run->session, tokens + done, count, &err);
        while (status == GQA_ERR_CANCELLED && !interrupted()); /* by a Ctrl-C that came too late */
        progress_show(&p, (double)done / n);
    }
    progress_end(&p);
    if (status && status != GQA_ERR_CANCELLED) fail("%s", err.message);
    *seconds += seconds_now() - p.start;
    return status;
}

int text_sync(text_run *run, const int32_t *tokens, int n, int *kept, double *seconds) {
    gqa_session *session = run->session;
    int n_held = gqa_session_position(session), common = 0;
    const int32_t *held = gqa_session_tokens(session);
    while (common < n_held && common < n && held[common] == tokens[common]) common++;
    int from = common == n && n > 0 ? n - 1 : common; /* the logits after the last are needed */
    if (gqa_session_rewind(session, from, NULL)) {    /* outside of the sliding window */
        from = common = 0;
        gqa_session_rewind(session, 0, NULL);
    }
    *kept = common;
    return feed(run, tokens + from, n - from, seconds);
}
