/* training.c: what train and uptrain share (training.h). */
#include "../formats/formats.h"
#include "training.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "machine.h"

void training_settings_init(training_settings *s) {
    const opt options[N_TRAINING_OPTIONS + 1] = {
        {"-f FILE", OPT_STRINGS, &s->texts, 0, 0, "text to learn from; may be repeated; <|endoftext|> parts documents"},
        {"--val FILE", OPT_STRING, &s->val, 0, 0, "text to measure the loss on"},
        {"--batch N", OPT_INT, &s->opt.batch, 0, 1 << 16, "sequences a step (32)"},
        {"--length N", OPT_INT, &s->opt.length, 0, 1 << 16, "tokens a sequence (the model's context)"},
        {"--rate R", OPT_FLOAT, &s->opt.rate, 0, 1, "highest learning rate (0.002)"},
        {"--rate-end R", OPT_FLOAT, &s->opt.rate_end, 0, 1, "last rate, a share of the highest (0.1)"},
        {"--warmup N", OPT_INT, &s->opt.warmup, 0, 1 << 30, "steps until the highest rate (a twentieth, at most 200)"},
        {"--decay D", OPT_FLOAT, &s->opt.decay, -1, 1, "weight decay; negative: none (0.1)"},
        {"--clip C", OPT_FLOAT, &s->opt.clip, 0, 1e6, "largest norm of the gradient (1)"},
        {"--dropout P", OPT_FLOAT, &s->opt.dropout, -1, 0.9, "share of embeddings and layer outputs left out a step (0)"},
        {"-s SEED", OPT_INT64, &s->seed, 0, 9.3e18, "the same seed gives the same model (1)"},
        {"-j N", OPT_INT, &s->opt.n_threads, 0, 1024, "threads (physical cores allowed)"},
        {"--type TYPE", OPT_STRING, &s->type_name, 0, 0, "of the matrices in OUT: f32, f16, q8_0, ... (f16)"},
        {"--eval-every N", OPT_INT, &s->eval_every, 0, 1 << 30, "steps between two looks at --val (a tenth of all)"},
        {"--save-every S", OPT_INT, &s->save_seconds, 1, 1 << 20, "seconds between two saves of OUT.state (60)"},
        {"--stop-after N", OPT_INT, &s->stop_after, 0, 1 << 30, "save and stop N steps from here; 0: go to the end"},
        {"--restart", OPT_FLAG, &s->restart, 0, 0, "forget OUT.state instead of going on from it"},
        {"--log FILE", OPT_STRING, &s->log, 0, 0, "CSV of steps and losses, appended to"},
        {"--json", OPT_FLAG, &s->json, 0, 0, "the result as one JSON object"},
        {"--quiet", OPT_FLAG, &s->quiet, 0, 0, "nothing on stderr but errors"},
        OPT_END,
    };
    *s = (training_settings){.type_name = "f16", .save_seconds = 60, .seed = 1};
    memcpy(s->options, options, sizeof options);
}

static volatile sig_atomic_t stop_wanted;
static void on_signal(int signal) {
    (void)signal;
    stop_wanted = 1;
}

static char *read_texts(const opt_list *files, size_t *len) {
    char *all = NULL;
    *len = 0;
    for (int i = 0; i < files->n; i++) {
        size_t size, mark = strlen(GQA_DOCUMENT_END);
        char *text = read_text(files->items[i], &size), *grown = text ? realloc(all, *len + mark + size + 1) : NULL;
        if (!grown) {
            if (text) fail("no memory for %zu bytes of text", *len + size);
            free(text), free(all);
            return NULL;
        }
        all = grown;
        memcpy(all + *len, GQA_DOCUMENT_END, mark);
        memcpy(all + *len + mark, text, size);
        *len += mark + size;
        free(text);
    }
    return all;
}

int training_open(training *r, training_settings *s, const char *out, const char *name, int argc, char **argv) {
    gqa_error err = {0};
    *r = (training){.s = s, .out = out};
    int type = gqa_type_from_name(s->type_name), n = snprintf(r->command, sizeof r->command, "run %s", name);
    if (type < 0) return usage_error("--type %s: expected f32, f16, bf16, q8_0, q4_0, ...", s->type_name);
    if (!s->texts.n) return usage_error("%s: give a text to learn from (-f FILE)", name);
    if (snprintf(r->state, sizeof r->state, "%s.state", out) >= (int)sizeof r->state) return usage_error("the path %.60s... is too long", out);
    for (int i = 0; i < argc && n < (int)sizeof r->command; i++) n += snprintf(r->command + n, sizeof r->command - (size_t)n, " %s", argv[i]);
    r->type = (gqa_type)type;
    s->opt.seed = (uint64_t)s->seed;
    if (s->restart) unlink(r->state);
    if (access(r->state, F_OK) == 0) {
        if (gqa_map_open(&r->state_map, r->state, &err) || gqa_checkpoint_read(&r->saved, r->state_map.data, r->state_map.size, r->state, &err))
            return fail("%s; --restart forgets it", err.message);
        r->has_saved = 1;
    }
    FILE *log = s->log ? fopen(s->log, "a") : NULL; /* a log that cannot be opened is told now, not after a tenth of the steps */
    if (s->log && !log) return fail("%s: cannot append to the log: %s", s->log, strerror(errno));
    if (log) fclose(log);
    r->text = read_texts(&s->texts, &r->text_len);
    return r->text ? EXIT_SUCCESS : EXIT_FAILURE;
}

int training_tokenize(training *r) {
    gqa_error err = {0};
    if (gqa_vocab_bos(r->vocab) < 0 || gqa_vocab_eos(r->vocab) < 0) return fail("the vocabulary has no tokens for the start and the end of a text");
    if (gqa_dataset_add(&r->data, r->vocab, r->text, r->text_len, &err)) return fail("%s", err.message);
    r->fingerprint = gqa_dataset_fingerprint(&r->data);
    if (r->s->val) {
        size_t len;
        char *text = read_text(r->s->val, &len);
        int status = text ? gqa_dataset_add(&r->val, r->vocab, text, len, &err) : 0;
        free(text);
        if (status) return fail("%s", err.message);
        if (!text) return EXIT_FAILURE;
    }
    if (!r->s->quiet)
        fprintf(stderr, "%zu tokens in %d documents, %.3f bytes a token; a vocabulary of %d\n", r->data.n_tokens, r->data.n_documents,
                (double)r->data.n_bytes / (double)r->data.n_tokens, gqa_vocab_count(r->vocab));
    return EXIT_SUCCESS;
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

typedef struct meter {
    double start, told, saved;   /* moments */
    int first, here;             /* first step of this process; steps it made */
    double peak;                 /* f32 operations a second that the machine can do; multiply and add apart */
    double busy;                 /* seconds in steps */
    double loss;                 /* running mean */
    int shown;                   /* a progress line stands on the terminal */
} meter;

static double rate_of(const training *r, const meter *m) {
    return m->busy > 0 ? gqa_trainer_step_flops(r->trainer) * m->here / m->busy : 0;
}

static void show_progress(const training *r, meter *m, const gqa_step_result *step) {
    const gqa_train_options *o = gqa_trainer_options(r->trainer);
    double now = seconds_now(), left = m->busy / m->here * (o->steps - gqa_trainer_steps_done(r->trainer));
    double interval = isatty(2) ? 0.5 : 60;
    if (r->s->quiet || now - m->told < interval) return;
    m->told = now;
    m->shown = isatty(2);
    fprintf(stderr, "%sstep %d of %d  loss %.4f  rate %.2g  %.0f tok/s  %.0f%% of peak  %d:%02d:%02d left %s", m->shown ? "\r" : "",
            gqa_trainer_steps_done(r->trainer), o->steps, m->loss, step->rate, (double)o->batch * o->length * m->here / m->busy,
            100 * rate_of(r, m) / m->peak, (int)(left / 3600), (int)(left / 60) % 60, (int)left % 60, m->shown ? "" : "\n");
}

static void clear_line(meter *m) {
    if (m->shown) fprintf(stderr, "\r%90s\r", "");
    m->shown = 0;
}

static int save_state(training *r, meter *m) {
    gqa_error err = {0};
    m->saved = seconds_now();
    if (gqa_trainer_save(r->trainer, r->vocab, r->fingerprint, r->state, &err) == 0) return EXIT_SUCCESS;
    clear_line(m);
    return fail("%s", err.message);
}

/* A line of the log; without --val its two losses stay empty. 0, or EXIT_FAILURE after printing an error. */
static int write_log(const training *r, const meter *m, const gqa_validation *v) {
    if (!r->s->log) return EXIT_SUCCESS;
    FILE *f = fopen(r->s->log, "a");
    int wrong = !f || fprintf(f, "%d,%.6f,", gqa_trainer_steps_done(r->trainer), m->loss) < 0;
    if (!wrong) wrong = (v ? fprintf(f, "%.6f,%.6f", v->nats_per_token, v->bits_per_byte) : fprintf(f, ",")) < 0;
    if (!wrong) wrong = fprintf(f, ",%.1f\n", m->busy) < 0;
    int error = errno; /* of the first call that failed: of fclose, which writes what stdio kept, when none did before */
    if (f && fclose(f) && !wrong) wrong = 1, error = errno;
    return wrong ? fail("%s: cannot append to the log: %s", r->s->log, strerror(error)) : EXIT_SUCCESS;
}

static int evaluate(training *r, meter *m, int most, gqa_validation *v) {
    gqa_error err = {0};
    clear_line(m);
    if (!r->val.n_tokens) return write_log(r, m, NULL);
    if (gqa_trainer_validate(r->trainer, &r->val, most, v, &err)) return fail("%s", err.message);
    int step = gqa_trainer_steps_done(r->trainer);
    if (!r->s->quiet)
        fprintf(stderr, "step %d: training loss %.4f, validation %.4f nats a token, %.4f bits a byte%s\n", step, m->loss, v->nats_per_token,
                v->bits_per_byte, most ? " (part of the text)" : "");
    return write_log(r, m, v);
}

/* Goes on to the last step, or to where a signal or --stop-after ends it. EXIT_SUCCESS, EXIT_FAILURE; 130 after a signal. */
static int steps(training *r, meter *m) {
    enum { SOME_WINDOWS = 128 };
    const gqa_train_options *o = gqa_trainer_options(r->trainer);
    int every = r->s->eval_every ? r->s->eval_every : o->steps / 10 + 1, code = EXIT_SUCCESS;
    gqa_step_result step = {0};
    gqa_error err = {0};
    while (gqa_trainer_steps_done(r->trainer) < o->steps) {
        double start = seconds_now();
        if (gqa_trainer_step(r->trainer, &r->data, &step, &err)) {
            clear_line(m);
            return fail("%s", err.message);
        }
        m->busy += seconds_now() - start;
        m->loss = m->here++ ? m->loss + (step.loss - m->loss) / (m->here < 50 ? m->here : 50) : step.loss;
        show_progress(r, m, &step);
        int done = gqa_trainer_steps_done(r->trainer), paused = stop_wanted || (r->s->stop_after && m->here >= r->s->stop_after && done < o->steps);
        gqa_validation v;
        if (done % every == 0 && done < o->steps) code = evaluate(r, m, SOME_WINDOWS, &v);
        int due = code || paused || seconds_now() - m->saved > r->s->save_seconds; /* what was learnt outlives a failed evaluation or log */
        if (due && save_state(r, m)) code = EXIT_FAILURE;
        if (code || paused) {
            clear_line(m);
            if (!code && !r->s->quiet) fprintf(stderr, "stopped at step %d of %d; the same command goes on from %s\n", done, o->steps, r->state);
            return code ? code : stop_wanted ? 130 : -1;
        }
    }
    clear_line(m);
    return EXIT_SUCCESS;
}

static int report(const training *r, const meter *m, const gqa_validation *v) {
    const gqa_train_options *o = gqa_trainer_options(r->trainer);
    double speed = m->busy > 0 ? (double)o->batch * o->length * m->here / m->busy : 0, ops = rate_of(r, m);
    if (r->s->json) {
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
        json_double(&j, "tokens_per_second", speed);
        json_double(&j, "flops", ops);
        json_double(&j, "share_of_peak", ops / m->peak);
        json_int(&j, "bytes", (int64_t)gqa_trainer_bytes(r->trainer));
        json_close(&j);
    } else {
        printf("%s: %llu weights, %d steps", r->out, (unsigned long long)gqa_trainer_params(r->trainer), o->steps);
        if (v) printf(", validation %.4f nats a token, %.4f bits a byte", v->nats_per_token, v->bits_per_byte);
        printf("\n%.0f s, %.0f tok/s, %.1f GFLOP/s: %.0f%% of what f32 arithmetic reaches here\n", m->busy, speed, ops * 1e-9, 100 * ops / m->peak);
    }
    return finish_stdout();
}

int training_run(training *r) {
    gqa_error err = {0};
    gqa_validation v = {0};
    meter m = {.here = 0};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (r->has_saved && gqa_trainer_resume(r->trainer, r->fingerprint, &r->saved, &err)) return fail("%s; --restart forgets it", err.message);
    m.peak = 2 * machine_float_rate(r->s->opt.n_threads);
    m.start = m.told = m.saved = seconds_now();
    m.first = gqa_trainer_steps_done(r->trainer);
    if (!r->s->quiet) {
        char bytes[32];
        fprintf(stderr, "%llu weights, %s of memory, %.1f GFLOP a step%s\n", (unsigned long long)gqa_trainer_params(r->trainer),
                human_bytes((double)gqa_trainer_bytes(r->trainer), bytes), gqa_trainer_step_flops(r->trainer) * 1e-9, m.first ? "; going on with a saved run" : "");
    }
    int code = steps(r, &m);
    if (code == -1) return EXIT_SUCCESS;
    if (code) return code;
    if (evaluate(r, &m, 0, &v)) {
        save_state(r, &m);
        return EXIT_FAILURE;
    }
    gqa_train_record record = {r->command, r->val.n_tokens ? &v : NULL};
    if (gqa_trainer_export(r->trainer, r->vocab, r->type, &record, r->out, &err)) return fail("%s", err.message);
    unlink(r->state);
    return report(r, &m, r->val.n_tokens ? &v : NULL);
}

void training_close(training *r) {
    gqa_trainer_free(r->trainer);
    gqa_dataset_free(&r->data);
    gqa_dataset_free(&r->val);
    gqa_vocab_free(r->vocab);
    gqa_checkpoint_free(&r->saved);
    if (r->state_map.data) gqa_map_close(&r->state_map);
    free(r->text);
}
