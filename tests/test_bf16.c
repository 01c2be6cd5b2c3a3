/* test_bf16.c: --fast-prefill: products of float weights in bf16, against double loops over numbers
 * rounded to it; and sessions that use them: in passes of more than 16 tokens, and in no others. */
#include "sessions.h"

#include "../formats/formats.h"

static const int types[] = {GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16};
enum { N_TYPES = 3 };

/* ---- products -------------------------------------------------------------------------------- */

typedef struct product {
    gqa_matrix w;
    gqa_acts acts;
    int n;
    float *values, *x, *y;   /* [rows, cols], [n, cols], [n, rows] */
    void *scratch, *blocks[8];
    size_t sizes[8];
    int n_blocks;
} product;

static void *take(product *p, size_t size) {
    void *block = gqa_pages_alloc(size, 0);
    if (!block) abort();
    memset(block, 0xff, size); /* NaN: what an earlier use may leave */
    p->sizes[p->n_blocks] = size;
    return p->blocks[p->n_blocks++] = block;
}

static product new_product(int type, int rows, int cols, int n) {
    const size_t n_w = (size_t)(rows * cols), n_x = (size_t)(n * cols);
    const size_t panel = gqa_panel_bytes(type, cols);
    uint64_t seed = 3;
    product p = {.n = n};
    uint8_t *raw = take(&p, n_w * sizeof(float));
    p.values = take(&p, n_w * sizeof(float));
    p.x = take(&p, n_x * sizeof(float));
    p.y = take(&p, sizeof(float) * (size_t)(n * rows));
    p.scratch = take(&p, gqa_matmul_scratch(cols));
    gqa_acts_init(&p.acts, take(&p, gqa_acts_bytes(cols, n)), cols, n);
    p.acts.x = p.x;
    p.acts.ldx = (size_t)cols;
    p.acts.bf16 = take(&p, sizeof(uint16_t) * p.acts.kpad * (size_t)n);
    gqa_random_values(type, 1, &seed, p.values, raw, n_w);
    gqa_dequantize(type, raw, p.values, n_w);
    for (size_t i = 0; i < n_x; i++) p.x[i] = test_random(&seed);
    p.w = (gqa_matrix){type, rows, cols, raw, NULL, panel, 0};
    uint8_t *packed = take(&p, panel * (size_t)gqa_matrix_panels(&p.w));
    for (int i = 0; i < gqa_matrix_panels(&p.w); i++)
        gqa_pack_panel(&p.w, i, packed + (size_t)i * panel, gqa_pack_codes_any);
    p.w.packed = packed;
    return p;
}

static void free_product(product *p) {
    while (p->n_blocks--) gqa_pages_free(p->blocks[p->n_blocks], p->sizes[p->n_blocks]);
}

static void multiply(const gqa_kernels *k, product *p) {
    for (int u = 0; u < gqa_matmul_units(&p->w); u++)
        k->matmul_unit(&p->w, &p->acts, p->n, p->y, (size_t)p->w.rows, u, p->scratch);
}

static double as_bf16(float x) { return (double)gqa_bf16_to_f32(gqa_f32_to_bf16(x)); }

/* The largest error of y, relative to the size of the sums, of numbers rounded to bf16 or not. */
static double error_of(const product *p, int is_rounded) {
    const int rows = p->w.rows, cols = p->w.cols;
    double worst = 0;
    for (int i = 0; i < p->n; i++)
        for (int r = 0; r < rows; r++) {
            const float *w = p->values + r * cols, *x = p->x + i * cols;
            double sum = 0, size = 1e-30;
            for (int c = 0; c < cols; c++) {
                double term = is_rounded ? as_bf16(w[c]) * as_bf16(x[c])
                                         : (double)w[c] * (double)x[c];
                sum += term;
                size += term * term;
            }
            double error = fabs(sum - (double)p->y[i * rows + r]) / sqrt(size);
            worst = test_worse(worst, error);
        }
    return worst;
}

/* Activations in two parts, as attention makes them, and the half of a pair after an odd end. */
static void check_rounding(const gqa_kernels *k, product *p) {
    const int cols = p->w.cols, first = cols / 64 * 32;
    int wrong = 0;
    k->round_acts(&p->acts, 0, p->n, 0, first);
    for (int i = 0; i < p->n; i++) k->round_acts(&p->acts, i, i + 1, first, cols);
    for (int i = 0; i < p->n; i++) {
        const uint16_t *row = p->acts.bf16 + (size_t)i * p->acts.kpad;
        for (int c = 0; c < cols; c++) wrong += row[c] != gqa_f32_to_bf16(p->x[i * cols + c]);
        if (cols % 2) wrong += row[cols] != 0;
    }
    CHECK(!wrong, "%d activations are rounded otherwise", wrong);
}

static void check_product(const gqa_kernels *k, int type, int rows, int cols, int n) {
    product p = new_product(type, rows, cols, n);
    const size_t size = sizeof(float) * (size_t)(n * rows);
    const int is_many = n > GQA_DECODE_ORDER;
    uint16_t *bf16 = p.acts.bf16;
    float *f32 = malloc(size), *packed = malloc(size);
    check_rounding(k, &p);
    p.acts.bf16 = NULL;
    multiply(k, &p);
    memcpy(f32, p.y, size);
    CHECK(error_of(&p, 0) < 2e-5, "[%d, %d] x %d in f32: %g", rows, cols, n, error_of(&p, 0));
    p.acts.bf16 = bf16;
    multiply(k, &p);
    memcpy(packed, p.y, size);
    double error = error_of(&p, is_many);
    CHECK(error < 2e-5, "[%d, %d] x %d: error %g", rows, cols, n, error);
    int is_same = !memcmp(p.y, f32, size);
    CHECK(is_same == !is_many, "[%d, %d] x %d: %d", rows, cols, n, is_same);
    p.w.packed = NULL;
    multiply(k, &p);
    CHECK(!memcmp(p.y, packed, size), "[%d, %d] x %d, not repacked", rows, cols, n);
    free(f32);
    free(packed);
    free_product(&p);
}

/* Sums of columns are the same bits beside other columns. */
static void check_neighbours(const gqa_kernels *k, int type) {
    enum { ROWS = 40, COLS = 1100, N = 41, FEWER = 17 };
    product p = new_product(type, ROWS, COLS, N);
    float all[N * ROWS];
    k->round_acts(&p.acts, 0, N, 0, COLS);
    multiply(k, &p);
    memcpy(all, p.y, sizeof all);
    p.n = FEWER;
    for (int first = 0; first + FEWER <= N; first += 3) {
        multiply(k, &p);
        CHECK(!memcmp(p.y, all + first * ROWS, sizeof *all * FEWER * ROWS), "column %d", first);
        p.acts.x += 3 * COLS;
        p.acts.bf16 += 3 * p.acts.kpad;
    }
    free_product(&p);
}

/* What is not a number stays none, and large numbers become infinite as round to nearest has it. */
static void check_specials(const gqa_kernels *k) {
    product p = new_product(GQA_TYPE_F32, 16, 64, 17);
    static const uint32_t bits[] = {0x7fffffff, 0x7f800001, 0xffc00000, 0x7f7fffff, 0x7f7f7fff,
                                    0x80000000, 0x3f808000, 0x3f818000, 0xff800000};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) memcpy(p.x + i, bits + i, 4);
    k->round_acts(&p.acts, 0, 1, 0, 64);
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        uint16_t got = p.acts.bf16[i], want = gqa_f32_to_bf16(p.x[i]);
        int is_nan = isnan(p.x[i]) && isnan(gqa_bf16_to_f32(got));
        CHECK(is_nan || got == want, "%08x: %04x, expected %04x", bits[i], got, want);
    }
    free_product(&p);
}

static void check_products(const gqa_kernels *k, int type) {
    static const int rows[] = {1, 15, 16, 17, 64, 65, 130}, cols[] = {7, 33, 300, 64, 1};
    for (int i = 0; i < 14; i++) check_product(k, type, rows[i % 7], cols[i % 5], 15 + i);
    check_product(k, type, 33, 1025, 19); /* more columns than are unpacked at a time */
    check_product(k, type, 64, 2200, 60);
    check_neighbours(k, type);
}

static void check_sets(void) {
    const char *isas[8];
    int n = gqa_kernels_list(isas, 8), n_tested = 0;
    for (int i = 0; i < n; i++) {
        const gqa_kernels *k = gqa_kernels_find(isas[i]);
        char name[64];
        if (!gqa_kernels_have_bf16(k)) continue;
        n_tested++;
        for (int t = 0; t < N_TYPES; t++) {
            snprintf(name, sizeof name, "%s: products, %s", isas[i], gqa_type_name(types[t]));
            TEST(name) check_products(k, types[t]);
        }
        snprintf(name, sizeof name, "%s: NaN and infinity", isas[i]);
        TEST(name) check_specials(k);
    }
    if (!n_tested) test_skip("products in bf16", "not on this CPU or not in this build");
}

/* ---- sessions -------------------------------------------------------------------------------- */

enum { N = 100 };

static gqa_model *open_shape(gqa_config c, gqa_type type, int fast) {
    gqa_model_options mo = {.fast_prefill = fast};
    gqa_error err = {0};
    c.n_layers = 2;
    c.n_heads = 4;
    c.vocab_size = VOCAB;
    c.context_length = 700;
    gqa_model *m = gqa_model_random(&c, type, 21, &mo, &err);
    if (m) return m;
    CHECK(0, "%s", err.message);
    exit(test_end());
}

static gqa_model *open_small(gqa_type type, int fast) {
    const gqa_config c = {.dim = 64, .n_kv_heads = 2, .head_dim = 32, .ffn_dim = 96};
    return open_shape(c, type, fast);
}

/* Where it is used: where weights are floats, it is asked for, and the CPU can. With 1 a measured
 * speed decides too, which a busy machine changes: then it may be left out. */
static void check_choice(void) {
    const int can = gqa_kernels_have_bf16(gqa_kernels_choose(NULL, NULL));
    for (int fast = 0; fast < 3; fast++)
        for (int t = 0; t <= N_TYPES; t++) {
            gqa_model *m = open_small(t < N_TYPES ? (gqa_type)types[t] : GQA_TYPE_Q8_0, fast);
            int got = gqa_model_get_stats(m)->fast_prefill;
            int most = t < N_TYPES && fast > 0 && can, least = fast == 2 ? most : 0;
            CHECK(got >= least && got <= most, "%s, %d: %d", gqa_model_get_stats(m)->type_name,
                  fast, got);
            gqa_model_close(m);
        }
}

/* The largest difference of logits, relative to the size of them all. */
static double distance(const float *x, const float *y, int n) {
    double square = 0, worst = 0;
    for (int i = 0; i < n; i++) square += (double)y[i] * (double)y[i];
    for (int i = 0; i < n; i++)
        worst = test_worse(worst, fabs((double)x[i] - (double)y[i]) / sqrt(square / n));
    return worst;
}

static void eval_all_ok(gqa_session *s, const int32_t *t, int n, float *logits) {
    gqa_error err = {0};
    CHECK(gqa_session_eval_all(s, t, n, logits, &err) == 0, "%d tokens: %s", n, err.message);
}

/* Passes of up to 16 tokens have the bits that they have without; longer ones are near, and the
 * same for any number of threads. */
static void check_model(gqa_config c, gqa_type type) {
    gqa_model *exact = open_shape(c, type, 0), *fast = open_shape(c, type, 2);
    gqa_session *a = SESSION(exact, .context = N, .batch = N);
    gqa_session *b = SESSION(fast, .context = N, .batch = N);
    const size_t size = sizeof(float) * N * VOCAB;
    float *x = malloc(size), *y = malloc(size);
    int32_t t[N];
    random_tokens(t, N, 22);
    for (int i = 0, n = 16; i < N; i += n, n = 21 - n) {
        n = min_int(n, N - i);
        eval_all_ok(a, t + i, n, x);
        eval_all_ok(b, t + i, n, y);
        CHECK(!memcmp(x, y, sizeof *x * (size_t)(n * VOCAB)), "%d tokens after %d", n, i);
    }
    gqa_session_rewind(a, 0, NULL);
    gqa_session_rewind(b, 0, NULL);
    eval_all_ok(a, t, N, x);
    eval_all_ok(b, t, N, y);
    double far = distance(y, x, N * VOCAB);
    CHECK(far > 1e-4 && far < 0.1, "%d tokens: %g", N, far);
    for (int threads = 1; threads <= 3; threads += 2) {
        gqa_session *s = SESSION(fast, .context = N, .batch = N, .n_threads = threads);
        eval_all_ok(s, t, N, x);
        CHECK(!memcmp(x, y, size), "%d threads", threads);
        gqa_session_free(s);
    }
    free(x);
    free(y);
    gqa_session_free(a);
    gqa_session_free(b);
    gqa_model_close(exact);
    gqa_model_close(fast);
}

/* What goes on from the cache of a long pass: gqa_session_sync, copies and saved sessions. What
 * comes then is short, and the same bits. A model without the option takes no such session, whose
 * keys it would have computed otherwise; the other way round it is as good as its own. */
static void check_continuing(gqa_type type) {
    gqa_model *fast = open_small(type, 2), *exact = open_small(type, 0);
    gqa_session *s = SESSION(fast, .context = 200), *other = SESSION(fast, .context = 200);
    gqa_session *plain = SESSION(exact, .context = 200), *loaded = SESSION(fast, .context = 200);
    gqa_error err = {0};
    int32_t t[N + 10];
    void *saved, *plainly;
    size_t size, size_plainly;
    random_tokens(t, N + 10, 23);
    eval_ok(s, t, N);
    CHECK(gqa_session_copy(other, s, N - 8, &err) == 0, "%s", err.message);
    CHECK(gqa_session_save_memory(s, &saved, &size, &err) == 0, "%s", err.message);
    CHECK(gqa_session_load_memory(plain, saved, size, &err) == GQA_ERR_FORMAT, "into a plain one");
    CHECK_HAS(err.message, "saved with fast_prefill, which this model is without");
    CHECK(gqa_session_position(plain) == 0, "as it was");
    eval_ok(plain, t, 5);
    CHECK(gqa_session_save_memory(plain, &plainly, &size_plainly, &err) == 0, "%s", err.message);
    CHECK(gqa_session_load_memory(loaded, plainly, size_plainly, &err) == 0, "%s", err.message);
    CHECK(same_logits(loaded, plain), "of a plain one into one with the option");
    CHECK(gqa_session_load_memory(loaded, saved, size, &err) == 0, "%s", err.message);
    CHECK(same_logits(s, loaded), "logits come back");
    for (int i = N - 8; i < N; i++) t[i] = (t[i] + 1) % VOCAB;
    CHECK(gqa_session_sync(s, t, N + 5, &err) == N - 8, "%s", err.message);
    CHECK(gqa_session_sync(loaded, t, N + 5, &err) == N - 8, "%s", err.message);
    eval_ok(other, t + N - 8, 13);
    CHECK(same_logits(s, loaded), "synced and loaded before");
    CHECK(same_logits(s, other), "synced and copied");
    CHECK(gqa_session_load_memory(other, saved, size, &err) == 0, "%s", err.message);
    CHECK(gqa_session_sync(other, t, N + 5, &err) == N - 8, "%s", err.message);
    CHECK(same_logits(s, other), "synced and loaded");
    CHECK(gqa_session_sync(s, t + 1, N, &err) == 0, "from the start: %s", err.message);
    gqa_session_rewind(other, 0, NULL);
    eval_ok(other, t + 1, N);
    CHECK(same_logits(s, other), "synced from the start");
    gqa_free(saved);
    gqa_free(plainly);
    gqa_session_free(s);
    gqa_session_free(other);
    gqa_session_free(plain);
    gqa_session_free(loaded);
    gqa_model_close(fast);
    gqa_model_close(exact);
}

/* A prompt beside tokens of other sessions, in one pass: near, whatever is beside it. */
static void check_many(gqa_type type) {
    enum { SESSIONS = 4 };
    gqa_model *fast = open_small(type, 2), *exact = open_small(type, 0);
    gqa_session *some[SESSIONS];
    const int counts[SESSIONS] = {1, 40, 1, 20};
    int32_t t[N];
    gqa_error err = {0};
    random_tokens(t, N, 24);
    for (int i = 0; i < SESSIONS; i++) {
        some[i] = SESSION(fast, .context = 100);
        if (counts[i] == 1) eval_ok(some[i], t + 70, 10);
    }
    CHECK(gqa_sessions_eval_many(some, SESSIONS, t, counts, &err) == 0, "%s", err.message);
    for (int i = 0, first = 0; i < SESSIONS; first += counts[i++]) {
        gqa_session *alone = SESSION(exact, .context = 100);
        if (counts[i] == 1) eval_ok(alone, t + 70, 10);
        eval_ok(alone, t + first, counts[i]);
        double far = distance(gqa_session_logits(some[i]), gqa_session_logits(alone), VOCAB);
        CHECK(far > 1e-4 && far < 0.1, "session %d: %g", i, far);
        gqa_session_free(alone);
        gqa_session_free(some[i]);
    }
    gqa_model_close(fast);
    gqa_model_close(exact);
}

/* ---- speculation ----------------------------------------------------------------------------- */

enum { GENERATED = 60 };
typedef struct text {
    int32_t tokens[GENERATED];
    float log_p[GENERATED];
    int n;
} text;

static int on_token(void *user, int32_t token, float log_probability) {
    text *out = user;
    if (out->n == GENERATED) return 1;
    out->tokens[out->n] = token;
    out->log_p[out->n++] = log_probability;
    return 0;
}

static void generate(gqa_session *s, int lookup, gqa_session *draft, text *out) {
    gqa_generate_options go = {.max_tokens = GENERATED, .lookup = lookup, .draft = draft,
                               .on_token = on_token, .ignore_end = 1};
    gqa_sampler *sampler = gqa_sampler_new(&(gqa_sampler_options){.temperature = 0.3f}, NULL);
    int32_t prompt[N];
    gqa_error err = {0};
    random_tokens(prompt, N, 25);
    for (int i = 30; i < N; i++) prompt[i] = prompt[i % 17]; /* matches */
    out->n = 0;
    gqa_session_rewind(s, 0, NULL);
    s->fixed_proposals = lookup || draft ? 15 : 0;
    CHECK(gqa_generate_tokens(s, sampler, prompt, N, &go, NULL, out, NULL, &err) == 0, "%s",
          err.message);
    gqa_sampler_free(sampler);
}

/* The text of a session is the same to the bit with proposals, whose passes are short. */
static void check_speculation(gqa_type type) {
    gqa_model *fast = open_small(type, 2);
    gqa_session *s = SESSION(fast, .context = 200), *draft = SESSION(fast, .context = 200);
    text want, got;
    generate(s, 0, NULL, &want);
    CHECK(want.n == GENERATED, "%d tokens", want.n);
    for (int with_draft = 0; with_draft < 2; with_draft++) {
        generate(s, 1, with_draft ? draft : NULL, &got);
        CHECK(got.n == want.n && !memcmp(got.tokens, want.tokens, sizeof got.tokens) &&
                  !memcmp(got.log_p, want.log_p, sizeof got.log_p), "draft %d", with_draft);
    }
    gqa_session_free(s);
    gqa_session_free(draft);
    gqa_model_close(fast);
}

static void check_sessions(void) {
    static const struct {
        const char *name;
        gqa_config c;
    } shapes[] = {
        {"llama", {.dim = 64, .n_kv_heads = 2, .head_dim = 32, .ffn_dim = 96}},
        {"odd widths", {.dim = 66, .n_kv_heads = 2, .head_dim = 6, .ffn_dim = 77}},
        {"latent", {.dim = 64, .n_kv_heads = 1, .head_dim = 48, .ffn_dim = 96, .rope_dim = 16,
                    .latent_dim = 32, .q_rank = 24, .q_nope_dim = 20, .value_dim = 24}},
        {"tied keys", {.dim = 64, .n_kv_heads = 2, .head_dim = 32, .ffn_dim = 96, .rope_dim = 16,
                       .tied_kv = 1}},
    };
    char name[64];
    TEST("where it is used") check_choice();
    if (!gqa_kernels_have_bf16(gqa_kernels_find(NULL))) return;
    for (int t = 0; t < N_TYPES; t++) {
        const gqa_type type = (gqa_type)types[t];
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            snprintf(name, sizeof name, "passes, %s, %s", shapes[i].name, gqa_type_name(type));
            TEST(name) check_model(shapes[i].c, type);
        }
        snprintf(name, sizeof name, "sync, copy, save and load, %s", gqa_type_name(type));
        TEST(name) check_continuing(type);
        snprintf(name, sizeof name, "many sessions, %s", gqa_type_name(type));
        TEST(name) check_many(type);
        snprintf(name, sizeof name, "speculation, %s", gqa_type_name(type));
        TEST(name) check_speculation(type);
    }
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_sets();
    check_sessions();
    return test_end();
}
