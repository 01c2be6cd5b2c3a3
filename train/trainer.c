/* trainer.c: a trainer: its construction, and what a step, a validation and a gradient consist
 * of. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_internal.h"

#define bad(err, ...) gqa_fail(err, GQA_ERR_ARGUMENT, "training: " __VA_ARGS__)

/* ---- construction ---------------------------------------------------------------------------- */

static int complete_config(gqa_config *c, gqa_error *err) {
    const char *expected = c->latent_dim ? "deepseek2" : c->tied_kv ? "gta" : "llama";
    if (!c->architecture[0])
        snprintf(c->architecture, sizeof c->architecture, "%s", expected);
    int variant = c->qkv_bias || c->qk_norm || c->window || c->rope_half || c->q_rank;
    if (strcmp(c->architecture, expected) || variant || c->rope_scaling != GQA_ROPE_NONE)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED,
                        "training: expected a plain llama, deepseek2 or gta model, without biases, "
                        "QK norms, sliding windows, RoPE scaling and a rank of Q; got architecture "
                        "%s", c->architecture);
    if (!c->head_dim && c->n_heads > 0) c->head_dim = c->dim / c->n_heads;
    if (!c->rope_dim) c->rope_dim = c->tied_kv ? c->head_dim / 2 : c->head_dim;
    if (c->latent_dim % 16 || c->value_dim % 16)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "training: a latent of %d and values of %d: "
                        "expected multiples of 16", c->latent_dim, c->value_dim);
    if (c->rope_theta == 0) c->rope_theta = 10000;
    if (c->norm_eps == 0) c->norm_eps = 1e-5f;
    c->rope_factor = c->rope_attn_factor = 1;
    c->rope_beta_fast = 32;
    c->rope_beta_slow = 1;
    if (!c->rope_orig_context) c->rope_orig_context = c->context_length;
    return gqa_config_validate(c, "training", err);
}

/* Settings of the optimiser: what 0 stands for, and the range (min and max are allowed). */
static const struct setting {
    const char *name;
    size_t offset;
    float fallback, min, max;
} settings[] = {
#define ABOVE_0 FLT_TRUE_MIN
#define BELOW_1 (1 - FLT_EPSILON / 2)
#define SETTING(name, ...) {#name, offsetof(gqa_train_options, name), __VA_ARGS__}
    SETTING(rate, 0.002f, ABOVE_0, 1),
    SETTING(rate_end, 0.1f, ABOVE_0, 1),
    SETTING(beta1, 0.9f, ABOVE_0, BELOW_1),
    SETTING(beta2, 0.99f, ABOVE_0, BELOW_1),
    SETTING(decay, 0.1f, -HUGE_VALF, 10),
    SETTING(clip, 1, ABOVE_0, HUGE_VALF),
    SETTING(distill, 0, 0, 1),
    SETTING(dropout, 0, -HUGE_VALF, 0.9f),
};

static int complete_settings(gqa_train_options *o, gqa_error *err) {
    for (size_t i = 0; i < array_length(settings); i++) {
        const struct setting *s = &settings[i];
        float *value = (float *)(void *)((char *)o + s->offset);
        if (*value == 0) *value = s->fallback;
        if (!(*value >= s->min && *value <= s->max))
            return bad(err, "%s %g is out of range", s->name, (double)*value);
    }
    if (o->dropout < 0) o->dropout = 0;
    if (!o->warmup) o->warmup = min_int(o->steps / 20, 200);
    if (o->warmup < 0) o->warmup = 0;
    return 0;
}

/* The largest number of sequences that divides the batch and has at most 4096 tokens, whose
 * activations take at most 2 GiB: a fixed amount, so that the same options give the same bits on
 * any machine. */
static int default_micro_batch(const gqa_train_options *o, const gqa_config *c) {
    const qkv_layout q = train_qkv_layout(c);
    int64_t attention = (int64_t)q.qkv_dim + (int64_t)q.attn_dim;
    int64_t layer = 4 * (int64_t)c->dim + attention + 3 * (int64_t)c->ffn_dim;
    int64_t limit = (1 << 29) / (layer * c->n_layers); /* floats */
    for (int n = o->batch; n > 1; n--)
        if (o->batch % n == 0 && n * o->length <= (limit < 4096 ? limit : 4096)) return n;
    return 1;
}

static int complete_options(gqa_train_options *o, const gqa_config *c, gqa_error *err) {
    if (!o->length) o->length = min_int(c->context_length, 512);
    if (!o->batch) o->batch = 32;
    int valid = o->steps >= 0 && o->batch > 0 && o->micro_batch >= 0;
    valid = valid && o->length > 0 && o->length <= c->context_length;
    if (!valid || (int64_t)o->batch * o->length > 1 << 26)
        return bad(err, "%d steps of %d sequences of %d tokens are out of range (context %d)",
                   o->steps, o->batch, o->length, c->context_length);
    if (!o->micro_batch) o->micro_batch = default_micro_batch(o, c);
    if (o->batch % o->micro_batch || (int64_t)o->micro_batch * o->length > 1 << 24)
        return bad(err, "micro-batch %d: expected a divisor of the batch of %d, and at most 2^24 "
                   "tokens at once", o->micro_batch, o->batch);
    return complete_settings(o, err);
}

static size_t params_bytes(const gqa_trainer *t) { return t->net.n_params * sizeof(float); }

static size_t input_row(const gqa_trainer *t) { return t->net.length + 1; }

/* Gives every thread that much scratch; what it held is lost. */
static int alloc_scratch(gqa_trainer *t, uint64_t wanted) {
    uint64_t total;
    if (gqa_mul_size(wanted, t->n_threads, &total) || total > SIZE_MAX / 2) return -1;
    size_t bytes = round_up((size_t)wanted, 64);
    char *memory = gqa_pages_alloc(t->n_threads * bytes, 0);
    if (!memory) return -1;
    if (t->scratch_memory) gqa_pages_free(t->scratch_memory, t->n_threads * t->scratch_bytes);
    t->scratch_memory = memory;
    t->scratch_bytes = bytes;
    for (int i = 0; i < t->n_threads; i++) t->scratch[i] = memory + i * bytes;
    return 0;
}

static int alloc_buffers(gqa_trainer *t, gqa_error *err) {
    t->scratch = calloc(t->n_threads, sizeof *t->scratch);
    t->team = gqa_team_new(t->n_threads, NULL, NULL);
    t->sums = calloc(train_sum_units(&t->net), sizeof *t->sums);
    t->input = calloc(t->opt.micro_batch * input_row(t), sizeof *t->input);
    t->m = gqa_pages_alloc(params_bytes(t), 1);
    t->v = gqa_pages_alloc(params_bytes(t), 1);
    int ok = t->scratch && t->team && t->sums && t->input && t->m && t->v;
    uint64_t attention = train_attention_scratch(&t->net), muon = train_muon_scratch(t);
    if (ok && alloc_scratch(t, attention > muon ? attention : muon) == 0) return 0;
    return gqa_fail(err, GQA_ERR_MEMORY, "training: no memory for the optimiser of %zu weights",
                    t->net.n_params);
}

static int trainer_init(gqa_trainer *t, const gqa_config *config, gqa_error *err) {
    gqa_config c = *config;
    t->k = gqa_kernels_choose(NULL, err);
    t->n_threads = t->opt.n_threads > 0 ? t->opt.n_threads : gqa_threads_default();
    int e = t->k ? complete_config(&c, err) : GQA_ERR_ARGUMENT;
    if (!e) e = complete_options(&t->opt, &c, err);
    if (!e) e = train_net_init(&t->net, &c, &t->opt, 1, err);
    if (!e) e = train_back_init(&t->back, &t->net, t->opt.distill > 0, err);
    return e ? e : alloc_buffers(t, err);
}

int gqa_trainer_can_train(const gqa_config *config, const gqa_train_options *opt, gqa_error *err) {
    gqa_config c = *config;
    gqa_train_options o = *opt;
    int e = complete_config(&c, err);
    return e ? e : complete_options(&o, &c, err);
}

static gqa_trainer *trainer_alloc(const gqa_config *config, const gqa_train_options *opt,
                                  gqa_error *err) {
    if (!opt) {
        bad(err, "no options");
        return NULL;
    }
    gqa_trainer *t = calloc(1, sizeof *t);
    if (!t) {
        gqa_fail(err, GQA_ERR_MEMORY, "training: no memory");
        return NULL;
    }
    t->opt = *opt;
    if (trainer_init(t, config, err) == 0) return t;
    gqa_trainer_free(t);
    return NULL;
}

gqa_trainer *gqa_trainer_new(const gqa_config *config, const gqa_train_options *opt,
                             gqa_error *err) {
    gqa_trainer *t = trainer_alloc(config, opt, err);
    if (t) train_net_randomise(&t->net, t->opt.seed);
    return t;
}

gqa_trainer *gqa_trainer_from(const gqa_checkpoint *c, const gqa_train_options *opt,
                              gqa_error *err) {
    gqa_trainer *t = trainer_alloc(&c->config, opt, err);
    if (t && train_net_load(&t->net, c, err)) {
        gqa_trainer_free(t);
        return NULL;
    }
    return t;
}

int gqa_trainer_add_teacher(gqa_trainer *t, const gqa_checkpoint *c, gqa_error *err) {
    gqa_config config = c->config;
    if (t->n_teachers == GQA_MAX_TEACHERS || t->opt.distill <= 0)
        return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                             "a teacher needs distill > 0, and there are at most %d",
                             GQA_MAX_TEACHERS);
    if (config.vocab_size != t->net.config.vocab_size)
        return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                             "the teacher has %d tokens, the student %d", config.vocab_size,
                             t->net.config.vocab_size);
    if (config.context_length < t->opt.length)
        return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                             "the teacher has a context of %d, shorter than sequences of %d tokens",
                             config.context_length, t->opt.length);
    int e = complete_config(&config, err);
    network *teacher = &t->teachers[t->n_teachers];
    if (!e) e = train_net_init(teacher, &config, &t->opt, 0, err);
    if (!e) e = train_net_load(teacher, c, err);
    uint64_t scratch = e ? 0 : train_attention_scratch(teacher);
    if (scratch > t->scratch_bytes && alloc_scratch(t, scratch))
        e = gqa_fail_path(c->path, err, GQA_ERR_MEMORY, "no memory for a teacher");
    if (e) train_net_free(teacher);
    else t->n_teachers++;
    return e;
}

void gqa_trainer_free(gqa_trainer *t) {
    if (!t) return;
    if (t->scratch_memory) gqa_pages_free(t->scratch_memory, t->n_threads * t->scratch_bytes);
    if (t->m) gqa_pages_free(t->m, params_bytes(t));
    if (t->v) gqa_pages_free(t->v, params_bytes(t));
    train_back_free(&t->back);
    train_net_free(&t->net);
    for (int i = 0; i < t->n_teachers; i++) train_net_free(&t->teachers[i]);
    if (t->team) gqa_team_free(t->team);
    free(t->scratch);
    free(t->sums);
    free(t->input);
    free(t);
}

/* ---- a step ---------------------------------------------------------------------------------- */

static int check_tokens(const gqa_trainer *t, const int32_t *tokens, size_t n, gqa_error *err) {
    int vocab = t->net.config.vocab_size;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            return bad(err, "token %d is outside the vocabulary of %d", tokens[i], vocab);
    return 0;
}

/* Every pass has its tokens checked here first. */
static int make_pass(pass *p, gqa_trainer *t, int n, const int32_t *input, float grad_scale,
                     gqa_error *err) {
    *p = (pass){.k = t->k, .net = &t->net, .back = &t->back, .n = n, .tokens = n * t->opt.length};
    p->input = input;
    p->grad_scale = grad_scale;
    p->scratch = t->scratch;
    p->loss = t->back.loss;
    p->stop = t->opt.stop;
    if (grad_scale != 0) {
        p->drop = (dropout){t->opt.dropout, train_dropout_key(t->opt.seed, t->step), 0};
        p->teachers = t->teachers;
        p->n_teachers = t->n_teachers;
        p->distill = t->n_teachers ? t->opt.distill : 0;
    }
    return check_tokens(t, input, n * input_row(t), err);
}

static void run_phases(gqa_worker *me, void *arg) {
    const pass *p = arg;
    for (int i = 0; i < p->n_teachers; i++) train_pass_forward(me, p, &p->teachers[i]);
    train_pass_forward(me, p, p->net);
    train_pass_loss(me, p);
    if (p->grad_scale != 0 && !pass_stopped(p)) train_pass_backward(me, p);
}

/* Adds the losses of the tokens of n sequences to *sum, and gradients to net.grads. */
static int run_pass(gqa_trainer *t, pass *p, double *sum, gqa_error *err) {
    double loss = 0;
    gqa_team_run(t->team, t->n_threads, run_phases, p);
    if (pass_stopped(p)) return gqa_fail(err, GQA_ERR_CANCELLED, "training: stopped");
    for (int i = 0; i < p->tokens; i++) loss += p->loss[i];
    *sum += loss;
    return 0;
}

typedef struct update {
    gqa_trainer *t;
    double norm;
} update;

static void run_update(gqa_worker *me, void *arg) {
    update *u = arg;
    double norm = train_grad_norm(me, u->t);
    if (isfinite(norm)) train_update(me, u->t, norm);
    if (me->id == 0) u->norm = norm;
}

/* The batch of the step by micro-batches: *loss is the sum over its tokens. */
static int sum_gradients(gqa_trainer *t, const gqa_dataset *d, double *loss, gqa_error *err) {
    const gqa_train_options *o = &t->opt;
    float grad_scale = (float)(1 / ((double)o->batch * o->length));
    *loss = 0;
    memset(t->net.grads, 0, params_bytes(t));
    for (int from = 0; from < o->batch; from += o->micro_batch) {
        pass p;
        int32_t *row = t->input;
        for (int i = from; i < from + o->micro_batch; i++, row += input_row(t)) {
            uint64_t index = (uint64_t)t->step * (uint64_t)o->batch + (uint64_t)i;
            size_t window = gqa_dataset_window(d, o->length, o->seed, index);
            memcpy(row, d->tokens + window, input_row(t) * sizeof *row);
        }
        int e = make_pass(&p, t, o->micro_batch, t->input, grad_scale, err);
        if (e) return e;
        p.drop.first = from * t->net.length;
        e = run_pass(t, &p, loss, err);
        if (e) return e;
    }
    return 0;
}

static int check_length(const gqa_trainer *t, const char *what, const gqa_dataset *d,
                        gqa_error *err) {
    if (d->n_tokens >= input_row(t)) return 0;
    return bad(err, "%sthe text has %zu tokens, a sequence needs %zu", what, d->n_tokens,
               input_row(t));
}

int gqa_trainer_check(const gqa_trainer *t, const gqa_dataset *d, const gqa_dataset *val,
                      gqa_type type, gqa_error *err) {
    int e = check_length(t, "", d, err);
    if (!e && val) e = check_length(t, "validation: ", val, err);
    return e ? e : train_check_type(&t->net, type, err);
}

int gqa_trainer_step(gqa_trainer *t, const gqa_dataset *d, gqa_step_result *result,
                     gqa_error *err) {
    double loss, tokens = (double)t->opt.batch * t->opt.length;
    int e = check_length(t, "", d, err);
    if (!e) e = sum_gradients(t, d, &loss, err);
    if (e) return e;
    update u = {t, 0};
    gqa_team_run(t->team, t->n_threads, run_update, &u);
    if (!isfinite(u.norm) || !isfinite(loss))
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "training diverged at step %d: loss %g, gradient norm %g; a lower learning "
                        "rate may help", t->step, loss / tokens, u.norm);
    *result = (gqa_step_result){loss / tokens, u.norm, train_rate(&t->opt, t->step)};
    t->step++;
    return 0;
}

int gqa_trainer_gradient(gqa_trainer *t, const int32_t *tokens, int n, double *loss, float *logits,
                         gqa_error *err) {
    pass p;
    if (n < 1 || n > t->opt.micro_batch)
        return bad(err, "%d sequences, a micro-batch has %d", n, t->opt.micro_batch);
    int e = make_pass(&p, t, n, tokens, 1.0f / (float)(n * t->opt.length), err);
    if (e) return e;
    p.all_logits = logits;
    memset(t->net.grads, 0, params_bytes(t));
    *loss = 0;
    e = run_pass(t, &p, loss, err);
    *loss /= p.tokens;
    return e;
}

int gqa_trainer_validate(gqa_trainer *t, const gqa_dataset *d, int max_windows,
                         gqa_validation *result, gqa_error *err) {
    size_t length = t->net.length, micro_batch = t->opt.micro_batch;
    size_t windows = d->n_tokens ? (d->n_tokens - 1) / length : 0;
    if (max_windows > 0) windows = min_size(windows, max_windows);
    if (!windows) return check_length(t, "validation: ", d, err);
    double sum = 0;
    for (size_t from = 0; from < windows; from += micro_batch) {
        pass p;
        size_t n = min_size(windows - from, micro_batch);
        for (size_t i = 0; i < n; i++)
            memcpy(t->input + i * (length + 1), d->tokens + (from + i) * length,
                   (length + 1) * sizeof *t->input);
        int e = make_pass(&p, t, (int)n, t->input, 0, err);
        if (!e) e = run_pass(t, &p, &sum, err);
        if (e) return e;
    }
    result->n_tokens = windows * length;
    result->nats_per_token = sum / (double)result->n_tokens;
    double bytes_per_token = (double)d->n_bytes / (double)d->n_tokens;
    result->bits_per_byte = result->nats_per_token / 0.69314718055994530942 / bytes_per_token;
    return 0;
}

/* ---- queries --------------------------------------------------------------------------------- */

const gqa_config *gqa_trainer_config(const gqa_trainer *t) { return &t->net.config; }
const gqa_train_options *gqa_trainer_options(const gqa_trainer *t) { return &t->opt; }
int gqa_trainer_steps_done(const gqa_trainer *t) { return t->step; }
gqa_train_progress *gqa_trainer_progress(gqa_trainer *t) { return &t->progress; }
uint64_t gqa_trainer_params(const gqa_trainer *t) { return t->net.n_params; }

double gqa_trainer_step_flops(const gqa_trainer *t) {
    const network *net = &t->net;
    const gqa_config *c = &net->config;
    double weights = 0, tokens = (double)t->opt.batch * t->opt.length;
    for (int i = 0; i < net->n_weights; i++)
        if (net->weights[i].rows > 1 && net->weights[i].offset != net->embedding)
            weights += (double)net->weights[i].count;
    if (c->tied_embeddings) weights += (double)c->vocab_size * c->dim;
    /* S and P V over half the square, times 3: forward, and the gradients of both factors */
    double widths = (double)(net->qkv.q_dim + net->qkv.attn_dim);
    double attention = 3.0 * c->n_layers * widths * (double)(net->length + 1);
    return tokens * (6 * weights + attention);
}

uint64_t gqa_trainer_bytes(const gqa_trainer *t) {
    uint64_t bytes = t->net.memory_bytes + t->back.memory_bytes + t->n_threads * t->scratch_bytes;
    uint64_t weights = 4 * (uint64_t)t->net.n_params;
    for (int i = 0; i < t->n_teachers; i++) {
        bytes += t->teachers[i].memory_bytes;
        weights += t->teachers[i].n_params;
    }
    return bytes + weights * sizeof(float);
}

const char *gqa_trainer_tensor_name(const gqa_trainer *t, int i) {
    return i >= 0 && i < t->net.n_weights ? t->net.weights[i].name : NULL;
}

static float *find_values(const gqa_trainer *t, float *base, const char *name, size_t *n) {
    for (int i = 0; i < t->net.n_weights; i++) {
        const weight *w = &t->net.weights[i];
        if (strcmp(w->name, name)) continue;
        if (n) *n = w->count;
        return base + w->offset;
    }
    return NULL;
}

float *gqa_trainer_weights(gqa_trainer *t, const char *name, size_t *n) {
    return find_values(t, t->net.params, name, n);
}
float *gqa_trainer_grads(gqa_trainer *t, const char *name, size_t *n) {
    return find_values(t, t->net.grads, name, n);
}
