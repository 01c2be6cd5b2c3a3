/* test_train.c: training: gradients against finite differences of the double-precision reference, the optimiser against its
 * formulas, thread counts, resuming, files, validation, the vocabulary trainer and the order of the data. */
#include "../formats/formats.h"
#include "test.h"

#include <unistd.h>

#include "../train/train_internal.h"
#include "reference.h"

static const char *scratch_path(const char *name) {
    static char path[2][128];
    static int turn;
    char *p = path[turn++ & 1];
    snprintf(p, sizeof path[0], "/tmp/gqa-test-%ld-%s", (long)getpid(), name);
    return p;
}

static gqa_config shape(int kv_heads, int tied) {
    return (gqa_config){.dim = 24, .n_layers = 2, .n_heads = 4, .n_kv_heads = kv_heads, .head_dim = 10, .ffn_dim = 37,
                        .vocab_size = 29, .context_length = 13, .tied_embeddings = tied};
}

/* The trainer's weights as the reference sees them: the same memory. */
static void refer(gqa_trainer *t, ref_model *m, ref_layer *layers) {
    const gqa_config *c = gqa_trainer_config(t);
    char name[64];
    *m = (ref_model){.dim = c->dim, .n_layers = c->n_layers, .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim,
                     .ffn_dim = c->ffn_dim, .vocab = c->vocab_size, .rope_dim = c->rope_dim, .rope_theta = (double)c->rope_theta,
                     .norm_eps = (double)c->norm_eps, .factor = 1, .attn_factor = 1, .layers = layers};
    int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
#define W(suffix) (snprintf(name, sizeof name, "blk.%d." suffix ".weight", l), gqa_trainer_weights(t, name, NULL))
    for (int l = 0; l < c->n_layers; l++)
        layers[l] = (ref_layer){.attn_norm = W("attn_norm"), .ffn_norm = W("ffn_norm"), .wq = {W("attn_q"), q, c->dim, 0},
                                .wk = {W("attn_k"), kv, c->dim, 0}, .wv = {W("attn_v"), kv, c->dim, 0}, .wo = {W("attn_output"), c->dim, q, 0},
                                .w_gate = {W("ffn_gate"), c->ffn_dim, c->dim, 0}, .w_up = {W("ffn_up"), c->ffn_dim, c->dim, 0},
                                .w_down = {W("ffn_down"), c->dim, c->ffn_dim, 0}};
#undef W
    m->embedding = gqa_trainer_weights(t, "token_embd.weight", NULL);
    m->output_norm = gqa_trainer_weights(t, "output_norm.weight", NULL);
    const float *head = gqa_trainer_weights(t, "output.weight", NULL);
    m->classifier = (ref_matrix){head ? head : m->embedding, c->vocab_size, c->dim, 0};
}

static double log_sum_exp(const double *z, int n) {
    double max = z[0], sum = 0;
    for (int i = 1; i < n; i++) max = z[i] > max ? z[i] : max;
    for (int i = 0; i < n; i++) sum += exp(z[i] - max);
    return max + log(sum);
}

/* Mean loss over sequences tokens [n, length + 1], by the reference; teacher NULL: none. */
static double reference_loss(const ref_model *m, const ref_model *teacher, double distill, const int32_t *tokens, int n, int length) {
    double *z = malloc(sizeof *z * (size_t)(length * m->vocab)), *q = malloc(sizeof *q * (size_t)(length * m->vocab)), loss = 0;
    for (int s = 0; s < n; s++) {
        const int32_t *in = tokens + s * (length + 1);
        ref_model masked = *m;
        if (m->drop) masked.drop += s * (1 + 2 * m->n_layers) * length * m->dim;
        ref_forward(&masked, in, length, z);
        if (teacher) ref_forward(teacher, in, length, q);
        for (int t = 0; t < length; t++) {
            double lse = log_sum_exp(z + t * m->vocab, m->vocab), own = lse - z[t * m->vocab + in[t + 1]], kl = 0;
            double lse_q = teacher ? log_sum_exp(q + t * m->vocab, m->vocab) : 0;
            for (int i = 0; teacher && i < m->vocab; i++) {
                double log_q = q[t * m->vocab + i] - lse_q;
                kl += exp(log_q) * (log_q - (z[t * m->vocab + i] - lse));
            }
            loss += teacher ? (1 - distill) * own + distill * kl : own;
        }
    }
    free(z), free(q);
    return loss / (n * length);
}

/* Every tensor's gradient at some places, and along its own direction, against central differences. */
static void check_gradients(gqa_trainer *t, const ref_model *ref, const ref_model *teacher, double distill, const char *what) {
    enum { SEQUENCES = 2, LENGTH = 13 };
    int32_t tokens[SEQUENCES * (LENGTH + 1)];
    uint64_t seed = 11;
    double loss;
    gqa_error err = {0};
    for (int i = 0; i < SEQUENCES * (LENGTH + 1); i++) tokens[i] = (int32_t)(test_random_bits(&seed) % 29);
    if (!CHECK(gqa_trainer_gradient(t, tokens, SEQUENCES, &loss, NULL, &err) == 0, "%s", err.message)) return;
    double want = reference_loss(ref, teacher, distill, tokens, SEQUENCES, LENGTH);
    CHECK(fabs(loss - want) < 1e-5 * want, "%s: loss %.9g, reference %.9g", what, loss, want);
    const char *name;
    for (int i = 0; (name = gqa_trainer_tensor_name(t, i)); i++) {
        size_t n;
        float *w = gqa_trainer_weights(t, name, &n), *g = gqa_trainer_grads(t, name, &n);
        double size = 0;
        for (size_t k = 0; k < n; k++) size += (double)g[k] * (double)g[k];
        size = sqrt(size / (double)n);
        for (int trial = 0; trial < 6; trial++) {
            size_t k = test_random_bits(&seed) % n;
            float old = w[k];
            w[k] = old + 2e-3f;
            double up = (double)w[k], high = reference_loss(ref, teacher, distill, tokens, SEQUENCES, LENGTH);
            w[k] = old - 2e-3f;
            double down = (double)w[k], low = reference_loss(ref, teacher, distill, tokens, SEQUENCES, LENGTH);
            w[k] = old;
            double slope = (high - low) / (up - down);
            CHECK(fabs(slope - (double)g[k]) < 2e-3 * (fabs(slope) + size), "%s: %s[%zu]: gradient %.7g, finite difference %.7g", what, name, k, (double)g[k], slope);
        }
    }
}

static void randomise(gqa_trainer *t, uint64_t seed) { /* larger than at the start of training, norms away from 1 */
    const char *name;
    for (int i = 0; (name = gqa_trainer_tensor_name(t, i)); i++) {
        size_t n;
        float *w = gqa_trainer_weights(t, name, &n);
        for (size_t k = 0; k < n; k++) w[k] = strstr(name, "norm") ? 1 + 0.3f * test_random(&seed) : 0.4f * test_random(&seed);
    }
}

static void test_gradients(void) {
    static const struct { int kv_heads, tied; const char *what; } cases[] = {
        {4, 1, "MHA"}, {2, 1, "GQA-2"}, {1, 1, "MQA"}, {4, 0, "MHA, own classifier"}, {2, 0, "GQA-2, own classifier"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gqa_config c = shape(cases[i].kv_heads, cases[i].tied);
        gqa_train_options o = {.steps = 10, .batch = 2, .seed = 3, .n_threads = 2};
        gqa_error err = {0};
        gqa_trainer *t = gqa_trainer_new(&c, &o, &err);
        if (!CHECK(t, "%s", err.message)) continue;
        ref_model ref;
        ref_layer layers[2];
        randomise(t, 5 + i);
        refer(t, &ref, layers);
        check_gradients(t, &ref, NULL, 0, cases[i].what);
        gqa_trainer_free(t);
    }
}

static void test_dropout(void) {
    enum { SITES = 5, SEQUENCES = 2, LENGTH = 13, DIM = 24, MANY = 20000 };
    gqa_config c = shape(2, 1);
    gqa_train_options o = {.steps = 10, .batch = 2, .seed = 3, .n_threads = 2, .dropout = 0.25f};
    gqa_error err = {0};
    gqa_trainer *t = gqa_trainer_new(&c, &o, &err);
    if (!CHECK(t, "%s", err.message)) return;
    static float factors[SEQUENCES][SITES][LENGTH][DIM], many[MANY], other[MANY];
    dropout d = {o.dropout, train_dropout_key(o.seed, 0), 0};
    for (int s = 0; s < SEQUENCES; s++)
        for (int site = 0; site < SITES; site++)
            for (int i = 0; i < LENGTH; i++) train_dropout_factors(&d, site, (size_t)(s * LENGTH + i), 0, factors[s][site][i], DIM);
    ref_model ref;
    ref_layer layers[2];
    randomise(t, 91);
    refer(t, &ref, layers);
    ref.drop = factors[0][0][0];
    check_gradients(t, &ref, NULL, 0, "dropout");
    gqa_trainer_free(t);
    const float kept = 1 / 0.75f;
    int dropped = 0;
    train_dropout_factors(&d, 1, 7, 0, many, MANY);
    for (int i = 0; i < MANY; i++) dropped += many[i] == 0, CHECK(many[i] == 0 || many[i] == kept, "factor %g", (double)many[i]);
    CHECK(abs(dropped - MANY / 4) < 250, "%d of %d dropped", dropped, MANY); /* four standard deviations */
    train_dropout_factors(&d, 1, 7, 30, other, 500);
    CHECK(!memcmp(other, many + 30, 500 * sizeof *many), "the same columns, asked for apart");
    const struct { int step, site; size_t token; } others[] = {{1, 1, 7}, {0, 2, 7}, {0, 1, 8}};
    for (int i = 0; i < 3; i++) { /* independent: one in four of those dropped there is dropped here */
        dropout e = {o.dropout, train_dropout_key(o.seed, others[i].step), 0};
        int both = 0;
        train_dropout_factors(&e, others[i].site, others[i].token, 0, other, MANY);
        for (int k = 0; k < MANY; k++) both += many[k] == 0 && other[k] == 0;
        CHECK(abs(both - MANY / 16) < 140, "%d dropped twice", both);
    }
    o.dropout = 0.95f;
    CHECK(!gqa_trainer_new(&c, &o, &err), "dropout 0.95");
}

static void test_distillation(void) {
    gqa_config c = shape(4, 1), pooled = shape(1, 1);
    gqa_train_options o = {.steps = 10, .batch = 2, .seed = 3, .n_threads = 2}, with = o;
    gqa_error err = {0};
    with.distill = 0.7f;
    gqa_trainer *parent = gqa_trainer_new(&c, &o, &err), *t = gqa_trainer_new(&pooled, &with, &err);
    const char *path = scratch_path("parent.gguf");
    gqa_map map = {0};
    gqa_checkpoint file;
    randomise(parent, 77);
    randomise(t, 78);
    CHECK(gqa_trainer_export(parent, NULL, GQA_TYPE_F32, NULL, path, &err) == 0, "%s", err.message);
    CHECK(gqa_map_open(&map, path, &err) == 0 && gqa_checkpoint_read(&file, map.data, map.size, path, &err) == 0, "%s", err.message);
    CHECK(gqa_trainer_set_teacher(t, &file, &err) == 0, "%s", err.message);
    ref_model ref, teacher;
    ref_layer layers[2], teacher_layers[2];
    refer(t, &ref, layers);
    refer(parent, &teacher, teacher_layers);
    check_gradients(t, &ref, &teacher, (double)with.distill, "distilled MQA");
    gqa_checkpoint_free(&file);
    gqa_map_close(&map);
    unlink(path);
    gqa_trainer_free(parent);
    gqa_trainer_free(t);
}

/* ---- the optimiser ---------------------------------------------------------------------------------------------------- */

/* Algorithm 2 of Loshchilov & Hutter 2019 for one weight, step counted from 1, with the decay multiplied by the rate as in
 * every library; g is the clipped gradient. */
static void oracle_adamw(double *w, double *m, double *v, double g, double step, const gqa_adamw *o) {
    double beta1 = (double)o->beta1, beta2 = (double)o->beta2;
    *m = beta1 * *m + (1 - beta1) * g;
    *v = beta2 * *v + (1 - beta2) * g * g;
    double m_hat = *m / (1 - pow(beta1, step)), v_hat = *v / (1 - pow(beta2, step));
    *w -= (double)o->rate * (m_hat / (sqrt(v_hat) + (double)o->eps) + (double)o->decay * *w);
}

/* The kernel of every instruction set that is here, over n weights and some steps, and nothing written past the last. */
static void test_adamw(void) {
    enum { MOST = 53, STEPS = 9 };
    static const char *const sets[] = {"scalar", "avx2", "avx512", "neon"};
    static const struct { int n; float decay, grad_scale; } cases[] = {{53, 0.1f, 1}, {37, 0, 0.03f}, {7, 0.5f, 0.4f}, {16, 0.1f, 0.4f}};
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        const gqa_kernels *k = gqa_kernels_find(sets[s]);
        if (!k) continue;
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            float w[MOST + 1], m[MOST + 1] = {0}, v[MOST + 1] = {0}, g[MOST + 1];
            double want_w[MOST], want_m[MOST] = {0}, want_v[MOST] = {0};
            int n = cases[c].n;
            uint64_t seed = 40 + c;
            gqa_adamw o = {.rate = 0.02f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .decay = cases[c].decay, .grad_scale = cases[c].grad_scale};
            for (int i = 0; i < n; i++) want_w[i] = (double)(w[i] = test_random(&seed));
            w[n] = m[n] = v[n] = 12345;
            for (int step = 1; step <= STEPS; step++) {
                o.correct1 = (float)(1 / (1 - pow((double)o.beta1, step)));
                o.correct2 = (float)(1 / (1 - pow((double)o.beta2, step)));
                for (int i = 0; i < n; i++) { /* among them none at all, and some as small as eps */
                    g[i] = i % 5 == 0 ? 0 : i % 5 == 1 ? 2e-8f * test_random(&seed) : 3 * test_random(&seed);
                    oracle_adamw(&want_w[i], &want_m[i], &want_v[i], (double)g[i] * (double)o.grad_scale, step, &o);
                }
                k->adamw(w, m, v, g, (size_t)n, &o);
            }
            for (int i = 0; i < n; i++) {
                double big = i % 5 == 0 ? 0 : i % 5 == 1 ? 2e-8 : 3; /* what the moments' rounding is measured against */
                big *= (double)o.grad_scale;
                CHECK(fabs((double)m[i] - want_m[i]) <= 1e-6 * big, "%s, n %d: m[%d] %.9g, formula %.9g", sets[s], n, i, (double)m[i], want_m[i]);
                CHECK(fabs((double)v[i] - want_v[i]) <= 1e-6 * big * big, "%s, n %d: v[%d] %.9g, formula %.9g", sets[s], n, i, (double)v[i], want_v[i]);
                CHECK(fabs((double)w[i] - want_w[i]) < 2e-6, "%s, n %d: w[%d] %.9g, formula %.9g", sets[s], n, i, (double)w[i], want_w[i]);
            }
            CHECK(w[n] == 12345 && m[n] == 12345 && v[n] == 12345, "%s, n %d: written past the end", sets[s], n);
        }
    }
}

/* Whether the step just made from weights w and moments m, v is what the formulas make of the gradient that is left in t:
 * multiplied by min(1, clip / norm) (Pascanu et al. 2013), the decay of matrices only. */
static void check_update(const gqa_trainer *t, const gqa_step_result *r, const float *w, const float *m, const float *v, const char *what) {
    const gqa_train_options *o = &t->opt;
    double norm = 0, worst[3] = {0};
    for (size_t i = 0; i < t->net.n_params; i++) norm += (double)t->net.grads[i] * (double)t->net.grads[i];
    norm = sqrt(norm);
    CHECK(fabs(r->grad_norm - norm) < 1e-5 * norm, "%s: gradient norm %.9g, expected %.9g", what, r->grad_norm, norm);
    double scale = fmin(1, (double)o->clip / norm);
    for (int x = 0; x < t->net.n_weights; x++) {
        const weight *p = &t->net.weights[x];
        int matrix = !strstr(p->name, "norm"); /* the only vectors of a llama model */
        gqa_adamw a = {.rate = (float)r->rate, .beta1 = o->beta1, .beta2 = o->beta2, .eps = 1e-8f, .decay = matrix && o->decay > 0 ? o->decay : 0};
        for (size_t i = p->offset; i < p->offset + (size_t)p->rows * (size_t)p->cols; i++) {
            double g = (double)t->net.grads[i] * scale, want_w = (double)w[i], want_m = (double)m[i], want_v = (double)v[i];
            oracle_adamw(&want_w, &want_m, &want_v, g, t->step, &a); /* t->step counts the one that was made */
            double size = fabs(g) + fabs((double)m[i]) + 1e-30;
            worst[0] = test_worse(worst[0], fabs((double)t->net.params[i] - want_w) / (r->rate + fabs((double)w[i])));
            worst[1] = test_worse(worst[1], fabs((double)t->m[i] - want_m) / size);
            worst[2] = test_worse(worst[2], fabs((double)t->v[i] - want_v) / (size * size + (double)v[i]));
        }
    }
    CHECK(worst[0] < 1e-5 && worst[1] < 1e-5 && worst[2] < 1e-5, "%s, step %d: weights differ from the formula by %.3g, m by %.3g, v by %.3g", what,
          t->step, worst[0], worst[1], worst[2]);
}

static gqa_dataset cycle(int n, int vocab);

static void test_update(void) {
    static const struct { float clip, decay; const char *what; } cases[] = {
        {1e-3f, 0.1f, "clip far below the norm"}, {1e6f, 0.1f, "clip far above it"}, {0.7f, 0.5f, "clip about it"}, {1e6f, -1, "no decay"}, {0, 0, "defaults"}};
    gqa_dataset d = cycle(800, 29);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gqa_config c = shape(2, 0);
        gqa_train_options o = {.steps = 40, .batch = 4, .micro_batch = 2, .seed = 17, .n_threads = 2, .rate = 0.01f, .clip = cases[i].clip,
                               .decay = cases[i].decay};
        gqa_step_result r = {0};
        gqa_error err = {0};
        gqa_trainer *t = gqa_trainer_new(&c, &o, &err);
        if (!CHECK(t, "%s", err.message)) continue;
        randomise(t, 23);
        size_t bytes = t->net.n_params * sizeof(float);
        float *w = malloc(bytes), *m = malloc(bytes), *v = malloc(bytes);
        for (int step = 0; step < 6; step++) {
            memcpy(w, t->net.params, bytes), memcpy(m, t->m, bytes), memcpy(v, t->v, bytes);
            if (!CHECK(gqa_trainer_step(t, &d, &r, &err) == 0, "%s", err.message)) break;
            check_update(t, &r, w, m, v, cases[i].what);
        }
        if (!cases[i].clip) CHECK(t->opt.clip == 1 && t->opt.decay == 0.1f, "clip %g, decay %g", (double)t->opt.clip, (double)t->opt.decay);
        free(w), free(m), free(v);
        gqa_trainer_free(t);
    }
    gqa_dataset_free(&d);
}

/* Linear from nearly nothing to the peak, then half a period of a cosine down to rate * rate_end. */
static void test_schedule(void) {
    enum { STEPS = 1000, WARMUP = 40, MIDDLE = WARMUP + (STEPS - WARMUP) / 2 };
    const gqa_train_options o = {.steps = STEPS, .warmup = WARMUP, .rate = 0.008f, .rate_end = 0.05f};
    const double peak = (double)o.rate, end = peak * (double)o.rate_end, pi = acos(-1);
    const struct { int step; double want; const char *what; } points[] = {
        {0, peak / WARMUP, "the first step"}, {9, peak / 4, "a quarter of the warm-up"}, {WARMUP - 1, peak, "the end of the warm-up"},
        {WARMUP, peak, "the first of the cosine"}, {WARMUP + (STEPS - WARMUP) / 3, end + (peak - end) * 0.75, "a third of the cosine"},
        {MIDDLE, (peak + end) / 2, "half of it"},
        {STEPS - 1, end + (peak - end) * (1 + cos(pi * (STEPS - WARMUP - 1) / (STEPS - WARMUP))) / 2, "the last step"},
        {STEPS, end, "past the last step"}, {2 * STEPS, end, "long past it"}};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        double got = train_rate(&o, points[i].step);
        CHECK(fabs(got - points[i].want) < 1e-12, "%s: rate %.12g, expected %.12g", points[i].what, got, points[i].want);
    }
    CHECK(train_rate(&o, STEPS - 1) < 1.001 * end, "the last step is at the end of the cosine: rate %g", train_rate(&o, STEPS - 1));
    const gqa_train_options none = {.steps = 10, .rate = 0.008f, .rate_end = 0.05f};
    CHECK(train_rate(&none, 0) == peak, "without warm-up the first step has rate %g", train_rate(&none, 0));
    static const int defaults[][2] = {{10, 0}, {60, 3}, {3999, 199}, {100000, 200}}; /* steps, warm-up */
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        gqa_config c = shape(2, 1);
        gqa_error err = {0};
        gqa_trainer *t = gqa_trainer_new(&c, &(gqa_train_options){.steps = defaults[i][0], .batch = 1, .n_threads = 1}, &err);
        if (CHECK(t, "%s", err.message)) CHECK(t->opt.warmup == defaults[i][1], "%d steps: warm-up %d", defaults[i][0], t->opt.warmup);
        gqa_trainer_free(t);
    }
}

/* ---- steps, files, validation ----------------------------------------------------------------------------------------- */

/* A text with something to learn: a cycle of tokens with some noise. */
static gqa_dataset cycle(int n, int vocab) {
    gqa_dataset d = {.tokens = malloc(sizeof(int32_t) * (size_t)n), .n_tokens = (size_t)n, .n_bytes = (uint64_t)n, .n_documents = 1};
    for (int i = 0; i < n; i++) d.tokens[i] = i * i % 11 % vocab;
    return d;
}

static int same_weights(gqa_trainer *a, gqa_trainer *b) {
    const char *name;
    for (int i = 0; (name = gqa_trainer_tensor_name(a, i)); i++) {
        size_t n;
        float *x = gqa_trainer_weights(a, name, &n);
        if (memcmp(x, gqa_trainer_weights(b, name, NULL), n * sizeof *x)) return 0;
    }
    return 1;
}

static gqa_trainer *train_some(float dropped, int threads, int steps, const gqa_dataset *d, gqa_step_result *last) {
    gqa_config c = shape(2, 1);
    gqa_train_options o = {.steps = 60, .batch = 6, .micro_batch = 3, .seed = 9, .n_threads = threads, .rate = 0.01f, .dropout = dropped};
    gqa_error err = {0};
    gqa_trainer *t = gqa_trainer_new(&c, &o, &err);
    if (!CHECK(t, "%s", err.message)) exit(1);
    for (int i = 0; i < steps; i++) CHECK(gqa_trainer_step(t, d, last, &err) == 0, "%s", err.message);
    return t;
}

static void test_steps(float dropped) {
    gqa_dataset d = cycle(800, 29);
    gqa_step_result r, again;
    gqa_error err = {0};
    gqa_trainer *one = train_some(dropped, 1, 60, &d, &r), *three = train_some(dropped, 3, 60, &d, &again), *first = train_some(dropped, 2, 25, &d, &again);
    CHECK(same_weights(one, three), "60 steps with 1 and 3 threads");
    CHECK(r.loss < (dropped > 0 ? 2 : 1) && r.rate < 0.0011 && r.rate > 0.0009, "loss %g after 60 steps, last rate %g", r.loss, r.rate);
    const char *path = scratch_path("state.gguf");
    gqa_map map = {0};
    gqa_checkpoint file;
    CHECK(gqa_trainer_save(first, NULL, gqa_dataset_fingerprint(&d), path, &err) == 0, "%s", err.message);
    gqa_trainer_free(first);
    CHECK(gqa_map_open(&map, path, &err) == 0 && gqa_checkpoint_read(&file, map.data, map.size, path, &err) == 0, "%s", err.message);
    gqa_trainer *resumed = train_some(dropped, 2, 0, &d, &again);
    CHECK(gqa_trainer_resume(resumed, gqa_dataset_fingerprint(&d), &file, &err) == 0 && gqa_trainer_steps_done(resumed) == 25, "%s", err.message);
    for (int i = 25; i < 60; i++) gqa_trainer_step(resumed, &d, &again, &err);
    CHECK(same_weights(one, resumed) && again.loss == r.loss, "a resumed run gives other bits");
    gqa_trainer_free(resumed);
    gqa_config c = shape(2, 1);
    gqa_train_options other = {.steps = 61, .batch = 6, .micro_batch = 3, .seed = 9, .rate = 0.01f};
    gqa_trainer *t = gqa_trainer_new(&c, &other, &err);
    CHECK(gqa_trainer_resume(t, gqa_dataset_fingerprint(&d), &file, &err) < 0, "another number of steps");
    CHECK_HAS(err.message, "gqa.train.steps");
    gqa_checkpoint_free(&file);
    gqa_map_close(&map);
    unlink(path);
    gqa_trainer_free(t);
    gqa_trainer_free(one);
    gqa_trainer_free(three);
    gqa_dataset_free(&d);
}

/* The state in size bytes at data must be refused with a message that holds text, and leave t as it was. */
static void expect_refused(gqa_trainer *t, uint64_t fingerprint, const void *data, size_t size, const char *text) {
    gqa_checkpoint file;
    gqa_error err = {0};
    if (!CHECK(gqa_checkpoint_read(&file, data, size, "a.state", &err) == 0, "%s", err.message)) return;
    CHECK(gqa_trainer_resume(t, fingerprint, &file, &err) < 0 && gqa_trainer_steps_done(t) == 0, "accepted, expected: %s", text);
    CHECK_HAS(err.message, text);
    CHECK_HAS(err.message, "a.state");
    gqa_checkpoint_free(&file);
}

static uint8_t *find_bytes(uint8_t *data, size_t size, const char *text) {
    for (size_t i = 0, n = strlen(text); i + n <= size; i++)
        if (!memcmp(data + i, text, n)) return data + i;
    return NULL;
}

/* A run goes on with the text it began with: a token that changes anywhere is noticed, and so are files of other versions. */
static void test_resume_text(void) {
    gqa_dataset d = cycle(301, 29);
    gqa_step_result r;
    gqa_error err = {0};
    uint64_t print = gqa_dataset_fingerprint(&d), other;
    static const size_t places[] = {0, 1, 150, 299, 300};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        d.tokens[places[i]] ^= 1;
        other = gqa_dataset_fingerprint(&d);
        d.tokens[places[i]] ^= 1;
        CHECK(other != print, "token %zu of the text does not count", places[i]);
    }
    d.n_tokens--;
    other = gqa_dataset_fingerprint(&d);
    d.n_tokens++;
    CHECK(other != print && gqa_dataset_fingerprint(&d) == print, "the last token does not count");

    const char *path = scratch_path("text.state");
    gqa_map map = {0};
    gqa_trainer *t = train_some(0, 1, 3, &d, &r), *fresh = train_some(0, 1, 0, &d, &r);
    CHECK(gqa_trainer_save(t, NULL, print, path, &err) == 0 && gqa_map_open(&map, path, &err) == 0, "%s", err.message);
    size_t size = map.size;
    uint8_t *data = malloc(size);
    memcpy(data, map.data, size);
    char expected[80];
    expect_refused(fresh, other, data, size, "another text");
    snprintf(expected, sizeof expected, "expected tokens of fingerprint %016llx, got %016llx", (unsigned long long)print, (unsigned long long)other);
    expect_refused(fresh, other, data, size, expected);
    uint8_t *key = find_bytes(data, size, "gqa.train.text");
    if (CHECK(key, "no fingerprint in the file")) {
        key[13] = 'T';
        expect_refused(fresh, print, data, size, "gqa.train.text: expected an i64, got nothing");
        key[13] = 't';
    }
    key = find_bytes(data, size, "gqa.train.state_version");
    if (CHECK(key, "no version in the file")) {
        key[23 + 4] = 3; /* after the key its type, then the number */
        expect_refused(fresh, print, data, size, "version 3, expected 2");
        key[23 + 4] = 2;
        key[22] = 'N'; /* another key: as files were before they told */
        expect_refused(fresh, print, data, size, "version 1, expected 2: it does not tell which text");
    }
    free(data);
    gqa_map_close(&map);
    unlink(path);
    gqa_trainer_free(t);
    gqa_trainer_free(fresh);
    gqa_dataset_free(&d);
}

/* Mean of -log p of the tokens that follow each other in n windows of length tokens, by the runtime and by the reference. */
static void mean_losses(gqa_trainer *t, const gqa_dataset *d, int n, double *runtime, double *reference) {
    const gqa_config *c = gqa_trainer_config(t);
    int length = t->opt.length, vocab = c->vocab_size;
    const char *path = scratch_path("validate.gguf");
    gqa_error err = {0};
    gqa_session_options so = {.kv = "f32"};
    float *logits = malloc(sizeof *logits * (size_t)(length * vocab));
    double *z = malloc(sizeof *z * (size_t)vocab);
    *runtime = *reference = 0;
    CHECK(gqa_trainer_export(t, NULL, GQA_TYPE_F32, NULL, path, &err) == 0, "%s", err.message);
    gqa_model *m = gqa_model_open(path, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &so, &err) : NULL;
    for (int w = 0; s && w < n; w++) {
        const int32_t *window = d->tokens + w * length;
        gqa_session_rewind(s, 0, NULL);
        if (!CHECK(gqa_session_eval_all(s, window, length, logits, &err) == 0, "%s", err.message)) break;
        for (int i = 0; i < length; i++) {
            for (int k = 0; k < vocab; k++) z[k] = (double)logits[i * vocab + k];
            *runtime += log_sum_exp(z, vocab) - z[window[i + 1]];
        }
    }
    CHECK(s, "%s", err.message);
    gqa_session_free(s);
    gqa_model_close(m);
    unlink(path);
    ref_model ref;
    ref_layer layers[2];
    refer(t, &ref, layers);
    for (int w = 0; w < n; w++) *reference += reference_loss(&ref, NULL, 0, d->tokens + w * length, 1, length) / n;
    *runtime /= n * length;
    free(logits), free(z);
}

/* The loss that a validation tells, on text whose bytes are counted here. Dropout must not touch it. */
static void test_validate(void) {
    enum { DOCUMENTS = 14, BYTES = DOCUMENTS * 40 };
    char text[1024] = "";
    for (int i = 0; i < DOCUMENTS; i++) /* white space around a document and markers are no bytes of it */
        snprintf(text + strlen(text), sizeof text - strlen(text), " %s The owl %c saw %d cats on an old wet hut.\n", i ? GQA_DOCUMENT_END : "", 'a' + i, 10 + i);
    gqa_vocab *vocab;
    gqa_dataset d = {0};
    gqa_error err = {0};
    int status = gqa_bpe_train(&vocab, text, strlen(text), 300, &err);
    if (!status) status = gqa_dataset_add(&d, vocab, text, strlen(text), &err);
    if (!CHECK(status == 0, "%s", err.message)) return;
    gqa_config c = shape(2, 1);
    c.vocab_size = gqa_vocab_count(vocab);
    gqa_train_options o = {.steps = 1, .batch = 3, .dropout = 0.5f, .seed = 6, .n_threads = 2};
    gqa_trainer *t = gqa_trainer_new(&c, &o, &err);
    int all = (int)(d.n_tokens - 1) / 13;
    if (!CHECK(t && all > 6 && all - all / 3 * 3 > 0, "%s%d windows should not fill the last micro-batch", err.message, all)) return;
    randomise(t, 31);
    for (int most = 0; most <= 5; most += 5) {
        gqa_validation v;
        double runtime, reference;
        int windows = most ? most : all;
        mean_losses(t, &d, windows, &runtime, &reference);
        CHECK(gqa_trainer_validate(t, &d, most, &v, &err) == 0, "%s", err.message);
        CHECK(v.n_tokens == (uint64_t)windows * 13, "%llu tokens in %d windows", (unsigned long long)v.n_tokens, windows);
        double bits = runtime / log(2) * (double)d.n_tokens / BYTES;
        CHECK(fabs(v.nats_per_token - runtime) < 1e-4, "%.7f nats a token, the runtime's model has %.7f", v.nats_per_token, runtime);
        CHECK(fabs(v.nats_per_token - reference) < 1e-4, "%.7f nats a token, the reference has %.7f", v.nats_per_token, reference);
        CHECK(fabs(v.bits_per_byte - bits) < 1e-4, "%.7f bits a byte, expected %.7f", v.bits_per_byte, bits);
    }
    d.n_tokens = 13;
    CHECK(gqa_trainer_validate(t, &d, 0, &(gqa_validation){0}, &err) < 0, "13 tokens are no window");
    CHECK_HAS(err.message, "13 tokens, a sequence needs 14");
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
    gqa_vocab_free(vocab);
}

/* What the runtime computes from an exported file is what the trainer computed. */
static void test_export(void) {
    gqa_dataset d = cycle(300, 29);
    gqa_step_result r;
    gqa_error err = {0};
    gqa_trainer *t = train_some(0, 2, 10, &d, &r);
    const char *path = scratch_path("out.gguf");
    gqa_validation v = {1.5, 0.7, 100};
    gqa_train_record record = {"run train", &v};
    float *logits = malloc(sizeof(float) * 13 * 29), *got = malloc(sizeof(float) * 13 * 29);
    double loss;
    CHECK(gqa_trainer_export(t, NULL, GQA_TYPE_F32, &record, path, &err) == 0, "%s", err.message);
    CHECK(gqa_trainer_gradient(t, d.tokens, 1, &loss, logits, &err) == 0, "%s", err.message);
    gqa_model *m = gqa_model_open(path, NULL, &err);
    gqa_session_options so = {.kv = "f32"};
    gqa_session *s = m ? gqa_session_new(m, &so, &err) : NULL;
    if (CHECK(s && gqa_session_eval_all(s, d.tokens, 13, got, &err) == 0, "%s", err.message)) {
        double worst = 0;
        for (int i = 0; i < 13 * 29; i++) worst = test_worse(worst, fabs((double)(got[i] - logits[i])));
        CHECK(worst < 1e-4, "logits differ by %g", worst);
    }
    CHECK(gqa_trainer_export(t, NULL, GQA_TYPE_Q8_0, NULL, path, &err) == GQA_ERR_ARGUMENT, "24 columns are no q8_0 block");
    gqa_session_free(s);
    gqa_model_close(m);
    unlink(path);
    free(logits), free(got);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
}

static void test_windows(void) {
    gqa_dataset d = cycle(1003, 29);
    int seen[1003] = {0}, moved = 0;
    for (int turn = 0; turn < 2; turn++) {
        memset(seen, 0, sizeof seen);
        for (int i = 0; i < 99; i++) {
            size_t at = gqa_dataset_window(&d, 10, 7, (uint64_t)(turn * 99 + i));
            CHECK(at + 11 <= d.n_tokens && !seen[at]++, "window %d of turn %d at %zu", i, turn, at);
            moved += at != gqa_dataset_window(&d, 10, 8, (uint64_t)i);
        }
    }
    CHECK(moved > 150, "the seed changes the order");
    gqa_dataset_free(&d);
}

/* The example of Sennrich et al. 2016, section 3.2 and figure 1: low 5, lower 2, newest 6, widest 3. */
static void test_bpe(void) {
    char text[400] = "";
    static const struct { const char *word; int n; } words[] = {{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < words[i].n; k++) strcat(strcat(text, words[i].word), "\n");
    gqa_vocab *v;
    gqa_error err = {0};
    if (!CHECK(gqa_bpe_train(&v, text, strlen(text), 300, &err) == 0, "%s", err.message)) return;
    static const char *const merges[] = {"es", "est", "lo", "low"};
    for (int i = 0; i < 4; i++) CHECK(gqa_vocab_find(v, merges[i], strlen(merges[i])) == 259 + i, "merge %d is not %s", i, merges[i]);
    CHECK(gqa_vocab_find(v, "newest", 6) > 0, "newest is one token in the end");
    gqa_vocab_free(v);
    CHECK(gqa_bpe_train(&v, text, strlen(text), 299, &err) < 0, "too small");

    static const char story[] = "Tom didn't go. \"Why?\" asked Ann.\n\n<|endoftext|>\nTom didn't see 12 owls.<|endoftext|>\n \n<|endoftext|>Ann didn't, \xF0\x9F\x98\x80.";
    CHECK(gqa_bpe_train(&v, story, sizeof story - 1, 320, &err) == 0, "%s", err.message);
    gqa_dataset d = {0};
    CHECK(gqa_dataset_add(&d, v, story, sizeof story - 1, &err) == 0 && d.n_documents == 3, "%d documents", d.n_documents);
    char back[300];
    size_t n = 0;
    int starts = 0, ends = 0;
    for (size_t i = 0; i < d.n_tokens; i++) {
        starts += d.tokens[i] == gqa_vocab_bos(v), ends += d.tokens[i] == gqa_vocab_eos(v);
        int size = gqa_vocab_token_bytes(v, d.tokens[i], back + n, 20);
        n += (size_t)(size > 0 ? size : 0);
    }
    back[n] = 0;
    CHECK(starts == 3 && ends == 3, "%d starts, %d ends", starts, ends);
    CHECK(!strcmp(back, " Tom didn't go. \"Why?\" asked Ann. Tom didn't see 12 owls. Ann didn't, \xF0\x9F\x98\x80."), "\"%s\"", back);
    CHECK(d.n_bytes == n - 3, "%llu bytes", (unsigned long long)d.n_bytes);
    gqa_dataset_free(&d);
    gqa_vocab_free(v);
}

int main(void) {
    test_bpe();
    test_windows();
    test_gradients();
    test_dropout();
    test_distillation();
    test_adamw();
    test_update();
    test_schedule();
    test_steps(0);
    test_steps(0.1f);
    test_resume_text();
    test_validate();
    test_export();
    return test_end();
}
