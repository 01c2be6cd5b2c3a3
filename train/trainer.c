/* trainer.c: a trainer: what one step, a validation and a gradient are made of. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train_internal.h"

/* ---- construction ----------------------------------------------------------------------------------------------- */

static int complete_config(gqa_config *c, gqa_error *err) {
    if (!c->architecture[0]) memcpy(c->architecture, "llama", sizeof "llama");
    if (strcmp(c->architecture, "llama") || c->qkv_bias || c->qk_norm || c->window || c->rope_half ||
        c->rope_scaling != GQA_ROPE_NONE)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "training: only plain llama models, without biases, QK norms, sliding "
                        "windows or RoPE scaling; got architecture %s", c->architecture);
    if (!c->head_dim && c->n_heads > 0) c->head_dim = c->dim / c->n_heads;
    if (!c->rope_dim) c->rope_dim = c->head_dim;
    if (c->rope_theta == 0) c->rope_theta = 10000;
    if (c->norm_eps == 0) c->norm_eps = 1e-5f;
    c->rope_factor = c->rope_attn_factor = 1;
    c->rope_beta_fast = 32;
    c->rope_beta_slow = 1;
    if (!c->rope_orig_context) c->rope_orig_context = c->context_length;
    return gqa_config_validate(c, "training", err);
}

static int complete_options(gqa_train_options *o, const gqa_config *c, gqa_error *err) {
    if (!o->length) o->length = c->context_length;
    if (!o->batch) o->batch = 32;
    if (o->steps < 0 || o->batch < 1 || o->micro_batch < 0 || o->length < 1 || o->length > c->context_length ||
        (int64_t)o->batch * o->length > 1 << 26)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "training: %d steps of %d sequences of %d tokens is out of range "
                        "(context %d)", o->steps, o->batch, o->length, c->context_length);
    if (!o->micro_batch)
        for (o->micro_batch = o->batch; o->micro_batch > 1; o->micro_batch--)
            if (o->batch % o->micro_batch == 0 && o->micro_batch * o->length <= 4096) break;
    if (o->batch % o->micro_batch)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "training: micro-batch %d does not divide batch %d", o->micro_batch,
                        o->batch);
    if (o->rate == 0) o->rate = 0.002f;
    if (o->rate_end == 0) o->rate_end = 0.1f;
    if (!o->warmup) o->warmup = o->steps / 20 < 200 ? o->steps / 20 : 200;
    if (o->beta1 == 0) o->beta1 = 0.9f;
    if (o->beta2 == 0) o->beta2 = 0.99f;
    if (o->decay == 0) o->decay = 0.1f;
    if (o->clip == 0) o->clip = 1;
    if (o->dropout < 0) o->dropout = 0;
    if (!(o->rate > 0 && o->rate <= 1 && o->rate_end > 0 && o->rate_end <= 1 && o->beta1 > 0 && o->beta1 < 1 &&
          o->beta2 > 0 && o->beta2 < 1 && o->decay <= 1 && o->clip > 0 && o->distill >= 0 && o->distill <= 1 && o->dropout <= 0.9f &&
          o->warmup >= 0))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "training: an optimiser setting is out of range (rate %g, end %g, betas "
                        "%g %g, decay %g, clip %g, distill %g, dropout %g, warm-up %d)", (double)o->rate, (double)o->rate_end,
                        (double)o->beta1, (double)o->beta2, (double)o->decay, (double)o->clip, (double)o->distill,
                        (double)o->dropout, o->warmup);
    return 0;
}

static int alloc_scratch(gqa_trainer *t, gqa_error *err) {
    t->scratch_bytes = gqa_sgemm_scratch() + train_attention_scratch_floats(&t->net) * sizeof(float);
    t->scratch = calloc((size_t)t->n_threads, sizeof *t->scratch);
    t->team = gqa_team_new(t->n_threads);
    t->sums = calloc(train_sum_units(&t->net), sizeof *t->sums);
    t->input = calloc((size_t)t->opt.micro_batch * ((size_t)t->opt.length + 1), sizeof *t->input);
    t->m = gqa_pages_alloc(t->net.n_params * sizeof(float), 1);
    t->v = gqa_pages_alloc(t->net.n_params * sizeof(float), 1);
    int ok = t->scratch && t->team && t->sums && t->input && t->m && t->v;
    for (int i = 0; ok && i < t->n_threads; i++) ok = (t->scratch[i] = gqa_pages_alloc(t->scratch_bytes, 0)) != NULL;
    return ok ? 0 : gqa_fail(err, GQA_ERR_MEMORY, "training: no memory for the optimiser of %zu weights",
                             t->net.n_params);
}

static gqa_trainer *trainer_alloc(const gqa_config *config, const gqa_train_options *opt, gqa_error *err) {
    gqa_config c = *config;
    if (!opt) {
        gqa_fail(err, GQA_ERR_ARGUMENT, "training: no options");
        return NULL;
    }
    gqa_trainer *t = calloc(1, sizeof *t);
    if (!t) {
        gqa_fail(err, GQA_ERR_MEMORY, "training: no memory");
        return NULL;
    }
    t->opt = *opt;
    t->k = gqa_kernels_choose(NULL, err);
    t->n_threads = opt->n_threads > 0 ? opt->n_threads : gqa_threads_default();
    if (!t->k || complete_config(&c, err) || complete_options(&t->opt, &c, err)) goto fail;
    if (train_net_init(&t->net, &c, t->opt.length, t->opt.micro_batch * t->opt.length, 1, err)) goto fail;
    if (train_back_init(&t->back, &t->net, t->opt.distill > 0, err) || alloc_scratch(t, err)) goto fail;
    return t;
fail:
    gqa_trainer_free(t);
    return NULL;
}

gqa_trainer *gqa_trainer_new(const gqa_config *config, const gqa_train_options *opt, gqa_error *err) {
    gqa_trainer *t = trainer_alloc(config, opt, err);
    if (t) train_net_randomise(&t->net, t->opt.seed);
    return t;
}

gqa_trainer *gqa_trainer_from(const gqa_checkpoint *c, const gqa_train_options *opt, gqa_error *err) {
    gqa_trainer *t = trainer_alloc(&c->config, opt, err);
    if (t && train_net_load(&t->net, c, err)) {
        gqa_trainer_free(t);
        return NULL;
    }
    return t;
}

int gqa_trainer_set_teacher(gqa_trainer *t, const gqa_checkpoint *c, gqa_error *err) {
    gqa_config config = c->config;
    if (t->has_teacher || t->opt.distill <= 0)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: a teacher needs distill > 0 and can be set once", c->path);
    if (config.vocab_size != t->net.config.vocab_size)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: the teacher has %d tokens, the student %d", c->path,
                        config.vocab_size, t->net.config.vocab_size);
    int e = complete_config(&config, err);
    if (!e) e = train_net_init(&t->teacher, &config, t->opt.length, t->net.max_tokens, 0, err);
    if (!e) e = train_net_load(&t->teacher, c, err);
    if (e) {
        train_net_free(&t->teacher);
        return e;
    }
    size_t need = gqa_sgemm_scratch() + train_attention_scratch_floats(&t->teacher) * sizeof(float);
    for (int i = 0; need > t->scratch_bytes && i < t->n_threads; i++) {
        void *room = gqa_pages_alloc(need, 0);
        if (!room) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for a teacher", c->path);
        gqa_pages_free(t->scratch[i], t->scratch_bytes);
        t->scratch[i] = room;
    }
    if (need > t->scratch_bytes) t->scratch_bytes = need;
    t->has_teacher = 1;
    return 0;
}

void gqa_trainer_free(gqa_trainer *t) {
    if (!t) return;
    for (int i = 0; t->scratch && i < t->n_threads; i++)
        if (t->scratch[i]) gqa_pages_free(t->scratch[i], t->scratch_bytes);
    if (t->m) gqa_pages_free(t->m, t->net.n_params * sizeof(float));
    if (t->v) gqa_pages_free(t->v, t->net.n_params * sizeof(float));
    train_back_free(&t->back);
    train_net_free(&t->net);
    train_net_free(&t->teacher);
    if (t->team) gqa_team_free(t->team);
    free(t->scratch);
    free(t->sums);
    free(t->input);
    free(t);
}

/* ---- a step ----------------------------------------------------------------------------------------------------- */

static int check_tokens(const gqa_trainer *t, const int32_t *tokens, size_t n, gqa_error *err) {
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= t->net.config.vocab_size)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "training: token %d is outside the vocabulary of %d", tokens[i],
                            t->net.config.vocab_size);
    return 0;
}

static pass make_pass(gqa_trainer *t, int n, const int32_t *input, float grad_scale) {
    pass p = {.k = t->k, .net = &t->net, .b = &t->back, .n = n, .tokens = n * t->net.length, .input = input,
              .grad_scale = grad_scale, .scratch = t->scratch, .loss = t->back.loss};
    if (grad_scale != 0) p.drop = (dropout){t->opt.dropout, train_dropout_key(t->opt.seed, t->step), 0};
    if (t->has_teacher && grad_scale != 0) {
        p.teacher = &t->teacher;
        p.distill = t->opt.distill;
    }
    return p;
}

static void run_pass(gqa_worker *w, void *arg) {
    const pass *p = arg;
    if (p->teacher) train_pass_forward(w, p, p->teacher);
    train_pass_forward(w, p, p->net);
    train_pass_loss(w, p);
    if (p->grad_scale != 0) train_pass_backward(w, p);
}

/* Sum of the losses of the tokens of n sequences; gradients are added to net.grads. */
static double pass_run(gqa_trainer *t, pass *p) {
    double sum = 0;
    gqa_team_run(t->team, t->n_threads, run_pass, p);
    for (int i = 0; i < p->tokens; i++) sum += p->loss[i];
    return sum;
}

typedef struct update {
    gqa_trainer *t;
    double norm;
} update;
static void run_update(gqa_worker *w, void *arg) {
    update *u = arg;
    double norm = train_grad_norm(w, u->t);
    if (isfinite(norm)) train_update(w, u->t, norm);
    if (w->id == 0) u->norm = norm;
}

int gqa_trainer_step(gqa_trainer *t, const gqa_dataset *d, gqa_step_result *result, gqa_error *err) {
    const gqa_train_options *o = &t->opt;
    size_t row = (size_t)o->length + 1;
    if (d->n_tokens < row)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "training: the text has %zu tokens, a sequence needs %zu", d->n_tokens, row);
    memset(t->net.grads, 0, t->net.n_params * sizeof *t->net.grads);
    double loss = 0, tokens = (double)o->batch * o->length;
    for (int from = 0; from < o->batch; from += o->micro_batch) {
        for (int i = 0; i < o->micro_batch; i++) {
            uint64_t index = (uint64_t)t->step * (uint64_t)o->batch + (uint64_t)(from + i);
            const int32_t *source = d->tokens + gqa_dataset_window(d, o->length, o->seed, index);
            memcpy(t->input + (size_t)i * row, source, row * sizeof *source);
        }
        int e = check_tokens(t, t->input, (size_t)o->micro_batch * row, err);
        if (e) return e;
        pass p = make_pass(t, o->micro_batch, t->input, (float)(1 / tokens));
        p.drop.first = (size_t)from * (size_t)o->length;
        loss += pass_run(t, &p);
    }
    update u = {t, 0};
    gqa_team_run(t->team, t->n_threads, run_update, &u);
    if (!isfinite(u.norm) || !isfinite(loss))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "training diverged at step %d: loss %g, gradient norm %g; a lower "
                        "learning rate may help", t->step, loss / tokens, u.norm);
    *result = (gqa_step_result){loss / tokens, u.norm, train_rate(o, t->step)};
    t->step++;
    return 0;
}

int gqa_trainer_gradient(gqa_trainer *t, const int32_t *tokens, int n, double *loss, float *logits, gqa_error *err) {
    if (n < 1 || n > t->opt.micro_batch)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "training: %d sequences, a micro-batch has %d", n, t->opt.micro_batch);
    int e = check_tokens(t, tokens, (size_t)n * ((size_t)t->opt.length + 1), err);
    if (e) return e;
    memset(t->net.grads, 0, t->net.n_params * sizeof *t->net.grads);
    pass p = make_pass(t, n, tokens, 1.0f / (float)(n * t->opt.length));
    p.all_logits = logits;
    *loss = pass_run(t, &p) / p.tokens;
    return 0;
}

int gqa_trainer_validate(gqa_trainer *t, const gqa_dataset *d, int max_windows, gqa_validation *result, gqa_error *err) {
    size_t length = (size_t)t->opt.length;
    size_t windows = d->n_tokens ? (d->n_tokens - 1) / length : 0;
    if (max_windows > 0 && windows > (size_t)max_windows) windows = (size_t)max_windows;
    if (!windows)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "validation: the text has %zu tokens, a sequence needs %zu", d->n_tokens,
                        length + 1);
    double sum = 0;
    for (size_t from = 0; from < windows; from += (size_t)t->opt.micro_batch) {
        int n = windows - from < (size_t)t->opt.micro_batch ? (int)(windows - from) : t->opt.micro_batch;
        for (int i = 0; i < n; i++)
            memcpy(t->input + (size_t)i * (length + 1), d->tokens + (from + (size_t)i) * length,
                   (length + 1) * sizeof *t->input);
        int e = check_tokens(t, t->input, (size_t)n * (length + 1), err);
        if (e) return e;
        pass p = make_pass(t, n, t->input, 0);
        sum += pass_run(t, &p);
    }
    result->n_tokens = windows * length;
    result->nats_per_token = sum / (double)result->n_tokens;
    double bytes_per_token = (double)d->n_bytes / (double)d->n_tokens;
    result->bits_per_byte = result->nats_per_token / 0.69314718055994530942 / bytes_per_token;
    return 0;
}

/* ---- what a trainer tells --------------------------------------------------------------------------------------- */

const gqa_config *gqa_trainer_config(const gqa_trainer *t) { return &t->net.config; }
const gqa_train_options *gqa_trainer_options(const gqa_trainer *t) { return &t->opt; }
int gqa_trainer_steps_done(const gqa_trainer *t) { return t->step; }
uint64_t gqa_trainer_params(const gqa_trainer *t) { return t->net.n_params; }

double gqa_trainer_step_flops(const gqa_trainer *t) {
    const net *n = &t->net;
    double weights = 0, tokens = (double)t->opt.batch * t->opt.length;
    for (int i = 0; i < n->n_weights; i++)
        if (n->weights[i].rows > 1 && n->weights[i].offset != n->embedding)
            weights += (double)n->weights[i].rows * n->weights[i].cols;
    if (n->config.tied_embeddings) weights += (double)n->config.vocab_size * n->config.dim;
    double attention = 6.0 * n->config.n_layers * n->q_dim * (n->length + 1); /* S and P V over half the square, x 3 */
    return tokens * (6 * weights + attention);
}

uint64_t gqa_trainer_bytes(const gqa_trainer *t) {
    return t->net.memory_bytes + t->teacher.memory_bytes + t->back.memory_bytes +
           (4 * t->net.n_params + t->teacher.n_params) * sizeof(float) +
           (uint64_t)t->n_threads * t->scratch_bytes;
}

const char *gqa_trainer_tensor_name(const gqa_trainer *t, int i) {
    return i >= 0 && i < t->net.n_weights ? t->net.weights[i].name : NULL;
}

static float *find_weight(const gqa_trainer *t, float *base, const char *name, size_t *n) {
    for (int i = 0; i < t->net.n_weights; i++) {
        const weight *w = &t->net.weights[i];
        if (strcmp(w->name, name)) continue;
        if (n) *n = (size_t)w->rows * (size_t)w->cols;
        return base + w->offset;
    }
    return NULL;
}
float *gqa_trainer_weights(gqa_trainer *t, const char *name, size_t *n) { return find_weight(t, t->net.params, name, n); }
float *gqa_trainer_grads(gqa_trainer *t, const char *name, size_t *n) { return find_weight(t, t->net.grads, name, n); }
