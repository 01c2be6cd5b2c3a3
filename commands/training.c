/* training.c: what train and uptrain share (training.h). */
#include "training.h"

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "../base/hash.h"
#include "../formats/gguf.h"
#include "json.h"
#include "machine.h"

static atomic_int signalled; /* ends a step or a validation early */
static void on_signal(int signal) {
    (void)signal;
    atomic_store(&signalled, 1);
}

/* ---- options --------------------------------------------------------------------------------- */

void training_settings_init(training_settings *s) {
    gqa_train_options *o = &s->opt;
    const opt options[N_TRAINING_OPTIONS + 1] = {
        {"-f FILE", OPT_STRINGS, &s->texts, 0, 0,
         "training text; may be repeated; <|endoftext|> separates\ndocuments"},
        {"--val FILE", OPT_STRING, &s->val, 0, 0, "validation text"},
        {"--batch N", OPT_INT, &o->batch, 0, 1 << 16, "sequences per step (default 32)"},
        {"--length N", OPT_INT, &o->length, 0, 1 << 16,
         "tokens per sequence (default 512, or the model's context if\nsmaller)"},
        {"--micro-batch N", OPT_INT, &o->micro_batch, 0, 1 << 16,
         "sequences in memory at once; divides the batch, whose gradients\n"
         "are added up (default: up to 4096 tokens, 2 GiB)"},
        {"--rate R", OPT_FLOAT, &o->rate, 1e-12, 1, "peak learning rate (default 0.002)"},
        {"--rate-end R", OPT_FLOAT, &o->rate_end, 0, 1,
         "final rate, as a share of the peak (default 0.1)"},
        {"--muon", OPT_FLAG, &o->muon, 0, 0,
         "layers' matrices by Muon instead of AdamW: fewer steps to the\nsame loss"},
        {"--warmup N", OPT_INT, &o->warmup, 0, 1 << 30,
         "steps of linear warm-up (default: steps / 20, at most 200)"},
        {"--decay D", OPT_FLOAT, &o->decay, 0, 10, "weight decay (default 0.1)"},
        {"--clip C", OPT_FLOAT, &o->clip, 0, 1e6,
         "maximum norm of the gradient (default 1); 0: any"},
        {"--dropout P", OPT_FLOAT, &o->dropout, 0, 0.9,
         "share of embeddings and layer outputs dropped (default 0)"},
        {"-s SEED", OPT_INT64, &s->seed, 0, 9.3e18, "random seed (default 1)"},
        {"-j N", OPT_INT, &o->n_threads, 0, 1024, THREADS_HELP},
        {"--type TYPE", OPT_STRING, &s->type_name, 0, 0,
         "type of the matrices in OUT: f32, f16, q8_0, ... (default f16)"},
        {"--eval-every N", OPT_INT, &s->eval_every, 0, 1 << 30,
         "evaluate every N steps (default: a tenth of all)"},
        {"--save-every S", OPT_INT, &s->save_seconds, 1, 1 << 20,
         "save OUT.state every S seconds (default 60)"},
        {"--stop-after N", OPT_INT, &s->stop_after, 0, 1 << 30,
         "save OUT.state and stop after N steps; the same command resumes"},
        {"--restart", OPT_FLAG, &s->restart, 0, 0,
         "start over: replace OUT.state, and OUT at the end"},
        {"--force", OPT_FLAG, &s->force, 0, 0, FORCE_HELP},
        {"--log FILE", OPT_STRING, &s->log, 0, 0,
         "append steps and losses to FILE, as CSV; validation is on the same\n"
         "windows of the text each time, at most 128"},
        {"--json", OPT_FLAG, &s->json, 0, 0, "print the result as one JSON object"},
        {"--quiet", OPT_FLAG, &s->quiet, 0, 0, QUIET_HELP},
        OPT_END,
    };
    *s = (training_settings){.type_name = "f16", .save_seconds = 60, .seed = 1};
    *o = (gqa_train_options){.rate = NAN, .rate_end = NAN, .warmup = INT_MIN, .decay = NAN,
                             .clip = NAN, .distill = NAN, .dropout = NAN};
    memcpy(s->options, options, sizeof options);
}

/* A number that was given; of 0, which stands for the default in gqa_train_options, what has the
 * effect of 0. */
static float given_or(float given, float zero, float otherwise) {
    return isnan(given) ? otherwise : given == 0 ? zero : given;
}

void training_settle(gqa_train_options *o, const gqa_train_options *defaults) {
    o->rate = given_or(o->rate, FLT_MIN, defaults->rate);
    o->rate_end = given_or(o->rate_end, FLT_MIN, defaults->rate_end);
    o->decay = given_or(o->decay, -1, defaults->decay);
    o->clip = given_or(o->clip, FLT_MAX, defaults->clip);
    o->dropout = given_or(o->dropout, -1, defaults->dropout);
    o->distill = given_or(o->distill, 0, defaults->distill);
    o->warmup = o->warmup == INT_MIN ? 0 : o->warmup == 0 ? -1 : o->warmup;
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Appends a file to r->text, as a document of its own. */
static int append_text(training *r, const char *path) {
    const size_t mark = strlen(GQA_DOCUMENT_END);
    size_t size;
    char *text = read_text(path, &size);
    if (!text) return EXIT_FAILURE;
    uint64_t bytes = (uint64_t)r->text_len + mark + size + 1;
    char *grown = bytes > SIZE_MAX / 2 ? NULL : realloc(r->text, (size_t)bytes);
    if (grown) {
        memcpy(grown + r->text_len, GQA_DOCUMENT_END, mark);
        memcpy(grown + r->text_len + mark, text, size);
        r->text = grown;
        r->text_len += mark + size;
    }
    free(text);
    return grown ? EXIT_SUCCESS : fail("%s: no memory for %zu more bytes of text", path, size);
}

/* Which file lies at OUT: a run that may replace it is resumed only while it is the same one. */
static gqa_train_input file_at_out(const training *r) {
    gqa_train_input input = {"replaces", "nothing"};
    gqa_file_info file;
    if (!gqa_os_file_info(r->out, &file))
        snprintf(input.value, sizeof input.value, "%llx.%llx", (unsigned long long)file.id.inode,
                 (unsigned long long)file.id.modified / 1000000000u);
    return input;
}

static int open_state(training *r) {
    gqa_error err = {0};
    int may_replace = r->s->force || r->s->restart;
    if (r->s->restart || !gqa_os_exists(r->state_path)) return refuse_existing(r->out, may_replace);
    if (model_file_open(&r->saved, r->state_path, &err))
        return fail("%s; --restart discards it", err.message);
    r->resuming = 1;
    const gguf_entry *e = gguf_find(&r->saved.checkpoint, "gqa.train.replaces");
    gqa_train_input now = file_at_out(r);
    if (e && e->type == GGUF_STRING && bytes_equal(e->string, now.value)) may_replace = 1;
    return refuse_existing(r->out, may_replace);
}

void training_input(training *r, const char *name, const char *value) {
    gqa_train_input *input = &r->inputs[r->n_inputs++];
    snprintf(input->name, sizeof input->name, "%s", name);
    snprintf(input->value, sizeof input->value, "%s", value);
}

int training_input_file(training *r, const char *name, const char *path) {
    gqa_map map;
    gqa_error err = {0};
    char value[32];
    if (gqa_map_open(&map, path, &err)) return fail("%s", err.message);
    snprintf(value, sizeof value, "%016llx",
             (unsigned long long)gqa_hash_lanes(0, map.data, map.size));
    gqa_map_close(&map);
    training_input(r, name, value);
    return EXIT_SUCCESS;
}

#define LOG_HEADER "step,training_loss,nats_per_token,bits_per_byte,seconds"

static int log_error(const training *r, int error) {
    return fail("%s: cannot append to the log: %s", r->s->log, strerror(error));
}

int training_open(training *r, training_settings *s, const char *out, const char *name, int argc,
                  char **argv) {
    *r = (training){.s = s, .out = out};
    int type = gqa_type_from_name(s->type_name);
    int n = snprintf(r->state_path, sizeof r->state_path, "%s.state", out);
    if (type < 0)
        return usage_error("--type %s: expected f32, f16, bf16, q8_0, q4_0, ...", s->type_name);
    if (!s->texts.n) return usage_error("%s: give a training text (-f FILE)", name);
    if (n < 0 || n >= (int)sizeof r->state_path)
        return usage_error("the path %.60s... is too long", out);
    int code = refuse_same_file(s->val, out);
    for (int i = 0; i < s->texts.n && !code; i++) code = refuse_same_file(s->texts.items[i], out);
    if (!code && s->log && (!strcmp(s->log, out) || !strcmp(s->log, r->state_path)))
        code = usage_error("--log %s is the model to write or its state: give another name",
                           s->log);
    if (code) return code;
    record_command(r->command, sizeof r->command, name, 0, argc, argv);
    r->type = (gqa_type)type;
    s->opt.seed = (uint64_t)s->seed;
    s->opt.stop = &signalled;
    code = open_state(r);
    if (!code) code = refuse_other_text(s->log, LOG_HEADER); /* before the first step */
    for (int i = 0; i < s->texts.n && !code; i++) code = append_text(r, s->texts.items[i]);
    return code;
}

static int tokenize(const training *r, gqa_dataset *d, const char *text, size_t len) {
    gqa_error err = {0};
    return gqa_dataset_add(d, r->vocab, text, len, &err) ? fail("%s", err.message) : EXIT_SUCCESS;
}

static int tokenize_validation(training *r) {
    size_t len;
    char *text = read_text(r->s->val, &len);
    int code = text ? tokenize(r, &r->val, text, len) : EXIT_FAILURE;
    free(text);
    return code;
}

int training_tokenize(training *r) {
    const gqa_dataset *d = &r->data;
    if (gqa_vocab_bos(r->vocab) < 0 || gqa_vocab_eos(r->vocab) < 0)
        return fail("the vocabulary has no tokens for the beginning and the end of a text");
    int code = r->s->val ? tokenize_validation(r) : EXIT_SUCCESS;
    if (!code) code = tokenize(r, &r->data, r->text, r->text_len);
    if (code) return code;
    if (!d->n_bytes) return fail("the training text is empty");
    r->fingerprint = gqa_dataset_fingerprint(d);
    if (!r->s->quiet)
        fprintf(stderr, "%zu tokens in %d documents, %.3f bytes per token; vocabulary of %d\n",
                d->n_tokens, d->n_documents, (double)d->n_bytes / (double)d->n_tokens,
                gqa_vocab_count(r->vocab));
    return EXIT_SUCCESS;
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Progress of the run, over all its processes. */
typedef struct meter {
    double printed_at, saved_at; /* seconds_now() */
    int steps, earlier;          /* done; of them by earlier processes */
    double busy;                 /* seconds in steps */
    double loss;                 /* running mean */
    double peak;                 /* f32 operations per second that this machine reaches */
    int line_shown;              /* a progress line stands on the terminal */
    int saved_step;              /* of the state on the disk; -1: none */
} meter;

static double flops(const training *r, const meter *m) {
    return m->busy > 0 ? gqa_trainer_step_flops(r->trainer) * m->steps / m->busy : 0;
}

static double tokens_per_second(const training *r, const meter *m) {
    const gqa_train_options *o = gqa_trainer_options(r->trainer);
    return m->busy > 0 ? (double)o->batch * o->length * m->steps / m->busy : 0;
}

static void show_progress(const training *r, meter *m, double rate) {
    const int steps = gqa_trainer_options(r->trainer)->steps;
    int done = gqa_trainer_steps_done(r->trainer), on_terminal = gqa_os_is_terminal(stderr);
    double now = seconds_now(), left = m->busy / m->steps * (steps - done);
    if (r->s->quiet || now - m->printed_at < (on_terminal ? 0.5 : 60)) return;
    m->printed_at = now;
    m->line_shown = on_terminal;
    fprintf(stderr, "%sstep %d of %d  loss %.4f  rate %.2g  %.0f tok/s  %.0f%% of peak  ",
            on_terminal ? "\r" : "", done, steps, m->loss, rate, tokens_per_second(r, m),
            100 * flops(r, m) / m->peak);
    fprintf(stderr, "%d:%02d:%02d left %s", (int)(left / 3600), (int)(left / 60) % 60,
            (int)left % 60, on_terminal ? "" : "\n");
}

static void clear_line(meter *m) {
    if (m->line_shown) fprintf(stderr, "\r%90s\r", "");
    m->line_shown = 0;
}

static int save_state(training *r, meter *m) {
    gqa_error err = {0};
    int done = gqa_trainer_steps_done(r->trainer);
    if (m->saved_step == done) return EXIT_SUCCESS;
    *gqa_trainer_progress(r->trainer) = (gqa_train_progress){(float)m->loss, (float)m->busy};
    hold_signals();
    int status = gqa_trainer_save(r->trainer, r->vocab, r->fingerprint, r->inputs, r->state_path,
                                  &err);
    release_signals();
    if (!status) m->saved_step = done;
    m->saved_at = seconds_now();
    if (!status) return EXIT_SUCCESS;
    clear_line(m);
    return fail("%s", err.message);
}

/* A line of the log; without --val its two losses stay empty. Like other functions here, returns 0,
 * or EXIT_FAILURE after printing an error. */
static int write_log(const training *r, const meter *m, const gqa_validation *v) {
    char losses[64] = ",";
    if (!r->s->log) return EXIT_SUCCESS;
    if (v) snprintf(losses, sizeof losses, "%.6f,%.6f", v->nats_per_token, v->bits_per_byte);
    FILE *f = gqa_os_fopen(r->s->log, "a");
    if (!f) return log_error(r, errno);
    int step = gqa_trainer_steps_done(r->trainer), failed = 0;
    gqa_file_info file;
    if (!gqa_os_stream_info(f, &file) && file.id.size == 0)
        failed = fputs(LOG_HEADER "\n", f) < 0;
    failed |= fprintf(f, "%d,%.6f,%s,%.1f\n", step, m->loss, losses, m->busy) < 0;
    int error = errno;
    if (fclose(f) && !failed) { /* it writes what stdio has buffered */
        failed = 1;
        error = errno;
    }
    return failed ? log_error(r, error) : EXIT_SUCCESS;
}

enum { STOPPED = -1, INTERRUPTED = 130 }; /* by --stop-after; by a signal */

/* max_windows 0: all of the validation text. 0, EXIT_FAILURE or INTERRUPTED. */
static int validate(training *r, meter *m, int max_windows, gqa_validation *v) {
    gqa_error err = {0};
    int status = gqa_trainer_validate(r->trainer, &r->val, max_windows, v, &err);
    if (status == GQA_ERR_CANCELLED) return INTERRUPTED;
    if (status) return fail("%s", err.message);
    if (!r->s->quiet)
        fprintf(stderr,
                "step %d: training loss %.4f, validation %.4f nats per token, %.4f bits per "
                "byte%s\n", gqa_trainer_steps_done(r->trainer), m->loss, v->nats_per_token,
                v->bits_per_byte, max_windows ? " (part of the text)" : "");
    return EXIT_SUCCESS;
}

/* Windows of the validation text that the log's losses are of, every time. */
static int log_windows(const training *r) {
    enum { SOME_WINDOWS = 128 };
    size_t length = (size_t)gqa_trainer_options(r->trainer)->length;
    return r->val.n_tokens > (SOME_WINDOWS + 1) * length ? SOME_WINDOWS : 0;
}

static int evaluate(training *r, meter *m, gqa_validation *v) {
    clear_line(m);
    int code = r->val.n_tokens ? validate(r, m, log_windows(r), v) : EXIT_SUCCESS;
    return code ? code : write_log(r, m, r->val.n_tokens ? v : NULL);
}

static int train_step(training *r, meter *m) {
    gqa_step_result result;
    gqa_error err = {0};
    double start = seconds_now();
    int status = gqa_trainer_step(r->trainer, &r->data, &result, &err);
    if (status == GQA_ERR_CANCELLED) return INTERRUPTED;
    if (status) {
        clear_line(m);
        return fail("%s", err.message);
    }
    m->busy += seconds_now() - start;
    m->steps++;
    m->loss += (result.loss - m->loss) / (m->steps < 50 ? m->steps : 50);
    show_progress(r, m, result.rate);
    return EXIT_SUCCESS;
}

static int stop_run(const training *r, meter *m) {
    clear_line(m);
    if (!r->s->quiet)
        fprintf(stderr, "stopped at step %d of %d; the same command%s resumes from %s\n",
                gqa_trainer_steps_done(r->trainer), gqa_trainer_options(r->trainer)->steps,
                r->s->restart ? " without --restart" : "", r->state_path);
    return atomic_load(&signalled) ? INTERRUPTED : STOPPED;
}

/* To the last step, or to where a signal or --stop-after ends it. 0, EXIT_FAILURE, INTERRUPTED or
 * STOPPED. */
static int train_steps(training *r, meter *m) {
    const training_settings *s = r->s;
    const int steps = gqa_trainer_options(r->trainer)->steps;
    const int eval_every = s->eval_every ? s->eval_every : steps / 10 + 1;
    int done = gqa_trainer_steps_done(r->trainer);
    while (done < steps) {
        gqa_validation v;
        int code = train_step(r, m);
        if (code == EXIT_FAILURE) return code;
        done = gqa_trainer_steps_done(r->trainer);
        int limit = s->stop_after && m->steps - m->earlier >= s->stop_after && done < steps;
        if (!code && done % eval_every == 0 && done < steps) code = evaluate(r, m, &v);
        int stop = atomic_load(&signalled) || limit;
        int due = seconds_now() - m->saved_at > s->save_seconds;
        /* What was learnt outlives a failed evaluation or log. */
        if ((due || code || stop) && save_state(r, m)) code = EXIT_FAILURE;
        if (code == EXIT_FAILURE) return code;
        if (stop) return stop_run(r, m);
    }
    clear_line(m);
    return EXIT_SUCCESS;
}

/* ---- the report ------------------------------------------------------------------------------ */

static void report_json(const training *r, const meter *m, const gqa_validation *v) {
    const gqa_train_options *o = gqa_trainer_options(r->trainer);
    json_writer j = json_open();
    json_string(&j, "model", r->out);
    json_int(&j, "parameters", (int64_t)gqa_trainer_params(r->trainer));
    json_int(&j, "steps", o->steps);
    json_int(&j, "tokens", (int64_t)o->steps * o->batch * o->length);
    json_double(&j, "loss", m->loss);
    if (v) {
        json_double(&j, "nats_per_token", v->nats_per_token);
        json_double(&j, "bits_per_byte", v->bits_per_byte);
    }
    json_double(&j, "seconds", m->busy);
    json_double(&j, "tokens_per_second", tokens_per_second(r, m));
    json_double(&j, "flops", flops(r, m));
    json_double(&j, "share_of_peak", flops(r, m) / m->peak);
    json_int(&j, "bytes", (int64_t)gqa_trainer_bytes(r->trainer));
    json_close(&j);
}

static void report_text(const training *r, const meter *m, const gqa_validation *v) {
    unsigned long long params = gqa_trainer_params(r->trainer);
    printf("%s: %llu weights, %d steps", r->out, params, gqa_trainer_options(r->trainer)->steps);
    if (v)
        printf(", validation %.4f nats per token, %.4f bits per byte", v->nats_per_token,
               v->bits_per_byte);
    printf("\n%.0f s, %.0f tok/s, %.1f GFLOP/s: %.0f%% of what f32 arithmetic reaches here\n",
           m->busy, tokens_per_second(r, m), flops(r, m) * 1e-9, 100 * flops(r, m) / m->peak);
}

/* ---- a run ----------------------------------------------------------------------------------- */

static int resume(training *r) {
    gqa_error err = {0};
    if (!r->resuming) return EXIT_SUCCESS;
    if (gqa_trainer_resume(r->trainer, r->fingerprint, r->inputs, &r->saved.checkpoint, &err))
        return fail("%s; --restart discards it", err.message);
    model_file_close(&r->saved);
    return EXIT_SUCCESS;
}

/* What a run takes, before its first step. */
static void show_size(const training *r, const meter *m) {
    enum { USUAL_SHARE = 50 }; /* percent of the machine's f32 arithmetic that a step reaches */
    const gqa_train_options *o = gqa_trainer_options(r->trainer);
    double bytes = (double)gqa_trainer_bytes(r->trainer), step = gqa_trainer_step_flops(r->trainer);
    double left = step * (o->steps - gqa_trainer_steps_done(r->trainer));
    double usual = m->peak * USUAL_SHARE / 100;
    char text[32];
    if (gqa_os_memory() >= 0 && bytes > gqa_os_memory())
        warning("training takes %s of memory, which this machine does not have: a smaller "
                "--micro-batch or --length takes less", human_bytes(bytes, text));
    if (r->s->quiet) return;
    fprintf(stderr, "%llu weights, %s of memory, %.1f GFLOP per step: %d x %d sequences of %d "
            "tokens\n", (unsigned long long)gqa_trainer_params(r->trainer),
            human_bytes(bytes, text), step * 1e-9, o->batch / o->micro_batch, o->micro_batch,
            o->length);
    fprintf(stderr, "about %.3g s per step, %.3g hours in all, at %d%% of %.0f GFLOP/s\n",
            step / usual, left / usual / 3600, USUAL_SHARE, m->peak * 1e-9);
    if (r->resuming)
        fprintf(stderr, "resuming at step %d from %s\n", gqa_trainer_steps_done(r->trainer),
                r->state_path);
}

static int finish(training *r, meter *m, const gqa_validation *v) {
    gqa_error err = {0};
    gqa_train_record record = {r->command, v};
    hold_signals();
    int status = gqa_trainer_export(r->trainer, r->vocab, r->type, &record, r->out, &err);
    release_signals();
    if (status) {
        fail("%s", err.message);
        save_state(r, m); /* what was learnt outlives a failed export */
        return EXIT_FAILURE;
    }
    gqa_os_remove(r->state_path);
    if (r->s->json) report_json(r, m, v);
    else report_text(r, m, v);
    return finish_stdout();
}

/* Evaluates the last step: for the log, then, for the report, on all of the text. */
static int evaluate_last(training *r, meter *m, gqa_validation *v) {
    int code = evaluate(r, m, v);
    if (!code && r->val.n_tokens && log_windows(r)) code = validate(r, m, 0, v);
    return code;
}

int training_run(training *r) {
    gqa_validation v = {0};
    gqa_error err = {0};
    meter m = {.saved_step = -1};
    if (gqa_trainer_check(r->trainer, &r->data, r->s->val ? &r->val : NULL, r->type, &err))
        return fail("%s", err.message);
    int code = resume(r);
    if (code) return code;
    m.steps = m.earlier = gqa_trainer_steps_done(r->trainer);
    m.loss = (double)gqa_trainer_progress(r->trainer)->loss;
    m.busy = (double)gqa_trainer_progress(r->trainer)->seconds;
    if (r->resuming) m.saved_step = m.steps;
    r->inputs[r->n_inputs++] = file_at_out(r);
    m.peak = 2 * machine_float_rate(r->s->opt.n_threads); /* a multiply-add is two operations */
    show_size(r, &m);
    gqa_os_on_interrupt(on_signal, 1);
    /* A state from the start: a step may take minutes, and a full disk shows before it. */
    if (gqa_trainer_steps_done(r->trainer) < gqa_trainer_options(r->trainer)->steps)
        code = save_state(r, &m);
    m.printed_at = m.saved_at = seconds_now();
    if (!code) code = train_steps(r, &m);
    if (code) return code == STOPPED ? EXIT_SUCCESS : code;
    code = evaluate_last(r, &m, &v);
    if (code && save_state(r, &m)) return EXIT_FAILURE;
    if (code) return code == INTERRUPTED ? stop_run(r, &m) : code;
    return finish(r, &m, r->val.n_tokens ? &v : NULL);
}

void training_close(training *r) {
    gqa_trainer_free(r->trainer);
    gqa_dataset_free(&r->data);
    gqa_dataset_free(&r->val);
    gqa_vocab_free(r->learnt);
    model_file_close(&r->saved);
    model_file_close(&r->source);
    free(r->text);
}
