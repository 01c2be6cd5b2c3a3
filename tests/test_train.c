/* test_train.c: training: gradients against finite differences of the double-precision reference,
 * dropout, distillation, the optimiser and the learning rate against their formulas. */
#include "tiny_trainer.h"

/* ---- gradients ------------------------------------------------------------------------------- */

enum { SEQUENCES = 2, N_TOKENS = SEQUENCES * (TINY_LENGTH + 1) };

/* What a gradient is compared with: the loss by the reference, as a function of the weights. */
typedef struct oracle {
    ref_model model, teachers[2];
    ref_layer layers[TINY_LAYERS], teacher_layers[2][TINY_LAYERS];
    int n_teachers;
    double distill;
    int32_t tokens[N_TOKENS];
} oracle;

static double oracle_loss(const oracle *o) {
    return reference_loss(&o->model, o->teachers, o->n_teachers, o->distill, o->tokens, SEQUENCES,
                          TINY_LENGTH);
}

/* The slope of the loss in *w, by central differences. */
static double finite_difference(const oracle *o, float *w) {
    float old = *w;
    *w = old + 2e-3f;
    double up = (double)*w, high = oracle_loss(o);
    *w = old - 2e-3f;
    double down = (double)*w, low = oracle_loss(o);
    *w = old;
    return (high - low) / (up - down);
}

static double root_mean_square(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)n);
}

/* The loss, and every tensor's gradient at six places. */
static void check_gradients(gqa_trainer *t, oracle *o) {
    uint64_t seed = 11;
    double loss;
    gqa_error err = {0};
    const char *name;
    for (int i = 0; i < N_TOKENS; i++)
        o->tokens[i] = (int32_t)(test_random_bits(&seed) % TINY_VOCAB);
    int status = gqa_trainer_gradient(t, o->tokens, SEQUENCES, &loss, NULL, &err);
    if (!CHECK(status == 0, "%s", err.message)) return;
    double want = oracle_loss(o);
    CHECK(fabs(loss - want) < 1e-5 * want, "loss %.9g, reference %.9g", loss, want);
    for (int i = 0; (name = gqa_trainer_tensor_name(t, i)); i++) {
        size_t n;
        float *w = gqa_trainer_weights(t, name, &n), *g = gqa_trainer_grads(t, name, &n);
        double size = root_mean_square(g, n);
        for (int trial = 0; trial < 6; trial++) {
            size_t k = test_random_bits(&seed) % n;
            double slope = finite_difference(o, &w[k]), got = (double)g[k];
            CHECK(fabs(slope - got) < 2e-3 * (fabs(slope) + size),
                  "%s[%zu]: gradient %.7g, finite difference %.7g", name, k, got, slope);
        }
    }
}

static const gqa_train_options gradient_options = {
    .steps = 10, .batch = SEQUENCES, .seed = 3, .n_threads = 2,
};

static void test_gradients(gqa_config c, uint64_t seed) {
    gqa_trainer *t = tiny_trainer(&c, &gradient_options);
    oracle o = {0};
    randomise(t, seed);
    refer(t, &o.model, o.layers);
    check_gradients(t, &o);
    gqa_trainer_free(t);
}

static void test_dropout_gradients(void) {
    enum { SITES = 1 + 2 * TINY_LAYERS };
    static float factors[SEQUENCES][SITES][TINY_LENGTH][TINY_DIM];
    gqa_config c = tiny_config(2, 1);
    gqa_train_options options = gradient_options;
    options.dropout = 0.25f;
    gqa_trainer *t = tiny_trainer(&c, &options);
    oracle o = {0};
    dropout d = {options.dropout, train_dropout_key(options.seed, 0), 0};
    for (size_t s = 0; s < SEQUENCES; s++)
        for (int site = 0; site < SITES; site++)
            for (size_t i = 0; i < TINY_LENGTH; i++)
                train_dropout_factors(&d, site, s * TINY_LENGTH + i, 0, factors[s][site][i],
                                      TINY_DIM);
    randomise(t, 91);
    refer(t, &o.model, o.layers);
    o.model.drop = factors[0][0][0];
    check_gradients(t, &o);
    gqa_trainer_free(t);
}

/* t gets another model with random weights as a teacher, through a file. */
static gqa_trainer *add_teacher(gqa_trainer *t, oracle *o, int kv_heads, uint64_t seed) {
    gqa_config config = tiny_config(kv_heads, 1);
    gqa_trainer *teacher = tiny_trainer(&config, &gradient_options);
    const char *path = scratch_path("teacher.gguf");
    gqa_error err = {0};
    mapped_file file;
    randomise(teacher, seed);
    int status = gqa_trainer_export(teacher, NULL, GQA_TYPE_F32, NULL, path, &err);
    CHECK(status == 0, "%s", err.message);
    if (file_open(&file, path)) {
        CHECK(gqa_trainer_add_teacher(t, &file.c, &err) == 0, "%s", err.message);
        refer(teacher, &o->teachers[o->n_teachers], o->teacher_layers[o->n_teachers]);
        o->n_teachers++;
    }
    file_close(&file);
    unlink(path);
    return teacher;
}

/* One KV head learns from a text and from models with four and with two. */
static void test_distillation(int n_teachers) {
    gqa_config one = tiny_config(1, 1);
    gqa_train_options options = gradient_options;
    options.distill = 0.7f;
    gqa_trainer *t = tiny_trainer(&one, &options), *teachers[2] = {NULL, NULL};
    oracle o = {.distill = (double)options.distill};
    randomise(t, 78);
    for (int i = 0; i < n_teachers; i++) teachers[i] = add_teacher(t, &o, 4 >> i, 77 - i);
    refer(t, &o.model, o.layers);
    check_gradients(t, &o);
    for (int i = 0; i < n_teachers; i++) gqa_trainer_free(teachers[i]);
    gqa_trainer_free(t);
}

/* ---- dropout --------------------------------------------------------------------------------- */

enum { MANY = 20000 };

static const dropout quarter = {.share = 0.25f, .key = 0x1234567, .first = 0};

static void test_dropout_share(void) {
    static float factors[MANY];
    int dropped = 0, both = 0;
    train_dropout_factors(&quarter, 1, 7, 0, factors, MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK(factors[i] == 0 || factors[i] == 1 / 0.75f, "factor %g", (double)factors[i]);
        dropped += factors[i] == 0;
        both += i > 0 && factors[i] == 0 && factors[i - 1] == 0;
    }
    /* four standard deviations */
    CHECK(abs(dropped - MANY / 4) < 250, "%d of %d dropped", dropped, MANY);
    CHECK(abs(both - MANY / 16) < 160, "%d dropped with their neighbour", both);
}

static void test_dropout_columns(void) {
    static float all[MANY], some[500];
    train_dropout_factors(&quarter, 1, 7, 0, all, MANY);
    train_dropout_factors(&quarter, 1, 7, 30, some, 500);
    CHECK(!memcmp(some, all + 30, sizeof some), "columns 30 to 529 differ when asked for alone");
}

/* Independent of another step, site and token: one in four of those dropped there is dropped
 * here. */
static void test_dropout_independence(void) {
    static float here[MANY], there[MANY];
    static const struct {
        int step, site;
        size_t token;
    } others[] = {{1, 1, 7}, {0, 2, 7}, {0, 1, 8}};
    dropout d = {0.25f, train_dropout_key(3, 0), 0};
    train_dropout_factors(&d, 1, 7, 0, here, MANY);
    for (int i = 0; i < 3; i++) {
        int both = 0;
        d.key = train_dropout_key(3, others[i].step);
        train_dropout_factors(&d, others[i].site, others[i].token, 0, there, MANY);
        for (int k = 0; k < MANY; k++) both += here[k] == 0 && there[k] == 0;
        CHECK(abs(both - MANY / 16) < 140, "%d dropped twice with another %s", both,
              i == 0 ? "step" : i == 1 ? "site" : "token");
    }
}

static void test_dropout_range(void) {
    gqa_config c = tiny_config(2, 1);
    gqa_train_options options = gradient_options;
    gqa_error err = {0};
    options.dropout = 0.95f;
    CHECK(!gqa_trainer_new(&c, &options, &err), "dropout 0.95 is accepted");
    CHECK_HAS(err.message, "dropout 0.95 is out of range");
}

/* ---- the optimiser --------------------------------------------------------------------------- */

/* A weight and its moments, in double precision. */
typedef struct adamw_state {
    double w, m, v;
} adamw_state;

/* Algorithm 2 of Loshchilov & Hutter 2019 for one weight, step counted from 1, with the decay
 * multiplied by the rate as in every library; g is the clipped gradient. */
static adamw_state oracle_adamw(adamw_state s, double g, double step, const gqa_adamw *o) {
    double beta1 = (double)o->beta1, beta2 = (double)o->beta2;
    s.m = beta1 * s.m + (1 - beta1) * g;
    s.v = beta2 * s.v + (1 - beta2) * g * g;
    double m_hat = s.m / (1 - pow(beta1, step)), v_hat = s.v / (1 - pow(beta2, step));
    double update = m_hat / (sqrt(v_hat) + (double)o->eps);
    s.w -= (double)o->rate * (update + (double)o->decay * s.w);
    return s;
}

/* Gradients of the kernel's test: among them none at all, and some as small as eps. */
static float gradient_size(int i) { return i % 5 == 0 ? 0 : i % 5 == 1 ? 2e-8f : 3; }

/* Nine steps of a kernel over n weights, and nothing written past the last. */
static void test_adamw(const gqa_kernels *k, int n, float decay, float grad_scale) {
    enum { MAX_N = 53, STEPS = 9, GUARD = 12345 };
    float w[MAX_N + 1], m[MAX_N + 1] = {0}, v[MAX_N + 1] = {0}, g[MAX_N + 1];
    adamw_state want[MAX_N] = {{0}};
    uint64_t seed = 40 + (uint64_t)n;
    gqa_adamw o = {.rate = 0.02f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f};
    o.decay = decay;
    o.grad_scale = grad_scale;
    for (int i = 0; i < n; i++) want[i].w = (double)(w[i] = test_random(&seed));
    w[n] = m[n] = v[n] = GUARD;
    for (int step = 1; step <= STEPS; step++) {
        o.correct1 = (float)(1 / (1 - pow((double)o.beta1, step)));
        o.correct2 = (float)(1 / (1 - pow((double)o.beta2, step)));
        for (int i = 0; i < n; i++) {
            g[i] = gradient_size(i) * test_random(&seed);
            want[i] = oracle_adamw(want[i], (double)g[i] * (double)grad_scale, step, &o);
        }
        k->adamw(w, m, v, g, (size_t)n, &o);
    }
    for (int i = 0; i < n; i++) { /* big: what the moments' rounding is measured against */
        double big = (double)gradient_size(i) * (double)grad_scale;
        double got_w = (double)w[i], got_m = (double)m[i], got_v = (double)v[i];
        CHECK(fabs(got_m - want[i].m) <= 1e-6 * big, "n %d: m[%d] %.9g, formula %.9g", n, i, got_m,
              want[i].m);
        CHECK(fabs(got_v - want[i].v) <= 1e-6 * big * big, "n %d: v[%d] %.9g, formula %.9g", n, i,
              got_v, want[i].v);
        CHECK(fabs(got_w - want[i].w) < 2e-6, "n %d: w[%d] %.9g, formula %.9g", n, i, got_w,
              want[i].w);
    }
    CHECK(w[n] == GUARD && m[n] == GUARD && v[n] == GUARD, "n %d: written past the end", n);
}

/* Every instruction set that this machine has. */
static void test_adamw_kernels(void) {
    static const char *const sets[] = {"scalar", "avx2", "avxvnni", "avx512", "neon"};
    for (size_t s = 0; s < array_length(sets); s++) {
        const gqa_kernels *k = gqa_kernels_find(sets[s]);
        char name[32];
        snprintf(name, sizeof name, "AdamW, %s", sets[s]);
        if (!k) continue;
        TEST(name) {
            test_adamw(k, 53, 0.1f, 1);
            test_adamw(k, 37, 0, 0.03f);
            test_adamw(k, 7, 0.5f, 0.4f);
            test_adamw(k, 16, 0.1f, 0.4f);
        }
    }
}

/* Weights and moments before a step. */
typedef struct snapshot {
    float *w, *m, *v;
} snapshot;

static snapshot take_snapshot(const gqa_trainer *t) {
    size_t bytes = t->net.n_params * sizeof(float);
    snapshot s = {malloc(bytes), malloc(bytes), malloc(bytes)};
    memcpy(s.w, t->net.params, bytes);
    memcpy(s.m, t->m, bytes);
    memcpy(s.v, t->v, bytes);
    return s;
}

static void free_snapshot(snapshot s) {
    free(s.w);
    free(s.m);
    free(s.v);
}

/* Whether the step just made from `before` is what the formulas make of the gradient that is
 * left in t: multiplied by min(1, clip / norm) (Pascanu et al. 2013), the decay of matrices
 * only. */
static void check_update(const gqa_trainer *t, const gqa_step_result *r, snapshot before) {
    const gqa_train_options *o = &t->opt;
    const network *net = &t->net;
    double norm = root_mean_square(net->grads, net->n_params) * sqrt((double)net->n_params);
    double scale = fmin(1, (double)o->clip / norm), worst_w = 0, worst_m = 0, worst_v = 0;
    CHECK(fabs(r->grad_norm - norm) < 1e-5 * norm, "gradient norm %.9g, expected %.9g",
          r->grad_norm, norm);
    gqa_adamw a = {.rate = (float)r->rate, .beta1 = o->beta1, .beta2 = o->beta2, .eps = 1e-8f};
    for (int x = 0; x < net->n_weights; x++) {
        const weight *w = &net->weights[x];
        int is_matrix = !strstr(w->name, "norm"); /* the only vectors of a llama model */
        a.decay = is_matrix && o->decay > 0 ? o->decay : 0;
        for (size_t i = w->offset; i < w->offset + w->count; i++) {
            double g = (double)net->grads[i] * scale;
            adamw_state s = {(double)before.w[i], (double)before.m[i], (double)before.v[i]};
            adamw_state want = oracle_adamw(s, g, t->step, &a); /* step counts the one just made */
            double size = fabs(g) + fabs(s.m) + 1e-30;
            double off_w = fabs((double)net->params[i] - want.w);
            worst_w = test_worse(worst_w, off_w / (r->rate + fabs(s.w)));
            worst_m = test_worse(worst_m, fabs((double)t->m[i] - want.m) / size);
            worst_v = test_worse(worst_v, fabs((double)t->v[i] - want.v) / (size * size + s.v));
        }
    }
    CHECK(worst_w < 1e-5 && worst_m < 1e-5 && worst_v < 1e-5,
          "step %d: weights differ from the formula by %.3g, m by %.3g, v by %.3g", t->step,
          worst_w, worst_m, worst_v);
}

static void test_update(float clip, float decay) {
    gqa_config c = tiny_config(2, 0);
    gqa_dataset d = cycle(800);
    gqa_train_options o = {
        .steps = 40, .batch = 4, .micro_batch = 2, .seed = 17, .n_threads = 2, .rate = 0.01f,
        .clip = clip, .decay = decay,
    };
    gqa_trainer *t = tiny_trainer(&c, &o);
    randomise(t, 23);
    for (int step = 0; step < 6; step++) {
        gqa_step_result r = {0};
        gqa_error err = {0};
        snapshot before = take_snapshot(t);
        if (CHECK(gqa_trainer_step(t, &d, &r, &err) == 0, "%s", err.message))
            check_update(t, &r, before);
        free_snapshot(before);
    }
    if (clip == 0)
        CHECK(t->opt.clip == 1 && t->opt.decay == 0.1f, "clip %g, decay %g", (double)t->opt.clip,
              (double)t->opt.decay);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
}

/* ---- the learning rate ----------------------------------------------------------------------- */

/* Linear from nearly nothing to the peak, then half a period of a cosine down to rate *
 * rate_end. */
static void test_schedule(void) {
    enum { STEPS = 1000, WARMUP = 40, SPAN = STEPS - WARMUP };
    const gqa_train_options o = {
        .steps = STEPS, .warmup = WARMUP, .rate = 0.008f, .rate_end = 0.05f,
    };
    const double peak = (double)o.rate, end = peak * (double)o.rate_end, range = peak - end;
    const double last_cosine = cos(acos(-1) * (SPAN - 1) / SPAN);
    const struct {
        int step;
        double want;
        const char *what;
    } points[] = {
        {0, peak / WARMUP, "the first step"},
        {9, peak / 4, "a quarter of the warm-up"},
        {WARMUP - 1, peak, "the end of the warm-up"},
        {WARMUP, peak, "the first of the cosine"},
        {WARMUP + SPAN / 3, end + range * 0.75, "a third of the cosine"},
        {WARMUP + SPAN / 2, (peak + end) / 2, "half of it"},
        {STEPS - 1, end + range * (1 + last_cosine) / 2, "the last step"},
        {STEPS, end, "past the last step"},
        {2 * STEPS, end, "long past it"},
    };
    for (size_t i = 0; i < array_length(points); i++) {
        double got = train_rate(&o, points[i].step), want = points[i].want;
        CHECK(fabs(got - want) < 1e-12, "%s: rate %.12g, expected %.12g", points[i].what, got,
              want);
    }
    double last = train_rate(&o, STEPS - 1);
    CHECK(last < 1.001 * end, "the last step is not at the end of the cosine: rate %g", last);
    const gqa_train_options none = {.steps = 10, .rate = 0.008f, .rate_end = 0.05f};
    double first = train_rate(&none, 0);
    CHECK(first == peak, "without warm-up the first step has rate %g", first);
}

static void test_default_warmup(int steps, int want) {
    gqa_config c = tiny_config(2, 1);
    gqa_train_options o = {.steps = steps, .batch = 1, .n_threads = 1};
    gqa_trainer *t = tiny_trainer(&c, &o);
    CHECK(t->opt.warmup == want, "%d steps: warm-up %d, expected %d", steps, t->opt.warmup, want);
    gqa_trainer_free(t);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("gradients, MHA") test_gradients(tiny_config(4, 1), 5);
    TEST("gradients, GQA-2") test_gradients(tiny_config(2, 1), 6);
    TEST("gradients, MQA") test_gradients(tiny_config(1, 1), 7);
    TEST("gradients, MHA, own classifier") test_gradients(tiny_config(4, 0), 8);
    TEST("gradients, GQA-2, own classifier") test_gradients(tiny_config(2, 0), 9);
    TEST("gradients, MLA") test_gradients(tiny_latent(1), 10);
    TEST("gradients, GTA") test_gradients(tiny_tied(1), 12);
    TEST("gradients, dropout") test_dropout_gradients();
    TEST("gradients, distilled MQA") test_distillation(1);
    TEST("gradients, two teachers") test_distillation(2);
    TEST("dropout drops its share") test_dropout_share();
    TEST("dropout of some columns") test_dropout_columns();
    TEST("dropout differs by step, site and token") test_dropout_independence();
    TEST("dropout above 0.9 is refused") test_dropout_range();
    test_adamw_kernels();
    TEST("update, clip far below the norm") test_update(1e-3f, 0.1f);
    TEST("update, clip far above it") test_update(1e6f, 0.1f);
    TEST("update, clip about it") test_update(0.7f, 0.5f);
    TEST("update, no decay") test_update(1e6f, -1);
    TEST("update, defaults") test_update(0, 0);
    TEST("learning rate") test_schedule();
    TEST("default warm-up") {
        test_default_warmup(10, 0);
        test_default_warmup(60, 3);
        test_default_warmup(3999, 199);
        test_default_warmup(100000, 200);
    }
    return test_end();
}
