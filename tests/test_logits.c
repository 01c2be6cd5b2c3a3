/* test_logits.c: the logits of a model in q8_0 against tests/golden/stories-gqa-logits.txt,
 * which a program of another language made in double precision (tests/golden/make_logits.py), and
 * against the reference (reference.c) on all ids: every instruction set, one thread and two, token
 * by token and at once, repacked and not. */
#include "test.h"

#include "../formats/formats.h"
#include "reference.h"

enum { MAX_TOKENS = 64, MAX_GOLDEN = 32, MAX_LAYERS = 6 };
static const char twin[] = "tests/models/stories-gqa.gguf";
static const char golden_path[] = "tests/golden/stories-gqa-logits.txt";
static const char *const isas[] = { /* NULL: chosen */
    "scalar", "avx2", "avxvnni", "avx512", "neon", NULL,
};

/* Largest differences, in units of the logits' root mean square. What int8 activations cost is
 * 0.0097 at most on the golden ids and 0.0206 on all; from a reference that rounds activations too,
 * 0.0044: 16 bits hold the rounding of f32 itself, so some codes of the second plane differ, and
 * then some of 8 bits after them. */
static const double golden_tolerance = 0.025, exact_tolerance = 0.05, rounded_tolerance = 0.012;

static struct {
    char text[512];
    int32_t tokens[MAX_TOKENS], ids[MAX_GOLDEN];
    double logits[MAX_GOLDEN], rms;
    int n, n_ids;
} golden;

static void read_tokens(const char *text) {
    char *end;
    for (; *text && golden.n < MAX_TOKENS; text = end)
        golden.tokens[golden.n++] = (int32_t)strtol(text, &end, 10);
}

static void read_golden(void) {
    char line[2048], *end;
    FILE *f = fopen(golden_path, "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "text ", 5))
            snprintf(golden.text, sizeof golden.text, "%.500s", line + 5);
        if (!strncmp(line, "rms ", 4)) golden.rms = strtod(line + 4, NULL);
        if (!strncmp(line, "tokens", 6)) read_tokens(line + 6);
        if (!strncmp(line, "logit ", 6) && golden.n_ids < MAX_GOLDEN) {
            golden.ids[golden.n_ids] = (int32_t)strtol(line + 6, &end, 10);
            golden.logits[golden.n_ids++] = strtod(end, NULL);
        }
    }
    if (f) fclose(f);
}

/* ---- the reference, fed from the file -------------------------------------------------------- */

static float *floats[64];
static int n_floats;

static const float *values(const gqa_checkpoint *c, const char *name, int rows, int cols) {
    const gqa_tensor *t = gqa_checkpoint_tensor(c, name);
    size_t n = (size_t)rows * (size_t)cols;
    float *out = calloc(n, sizeof *out);
    if (CHECK(t && t->dims[0] * t->dims[1] == n && t->dims[1] == (uint64_t)rows, "%s", name))
        CHECK(ref_dequantize(t->type, t->data, out, n) == 0, "%s", name);
    return floats[n_floats++] = out;
}

/* Of the exact products: keys, values, the last FFN, the classifier. */
static int two_planes(int planes) { return planes ? 2 : 0; }

/* planes: of activations, but for the exact products. */
static void fill_layer(const gqa_checkpoint *c, int l, int planes, ref_layer *layer) {
    const gqa_config *g = &c->config;
    int of_ffn = l == g->n_layers - 1 ? two_planes(planes) : planes;
    int dim = g->dim, ffn = g->ffn_dim;
    int q_dim = g->n_heads * g->head_dim, kv_dim = g->n_kv_heads * g->head_dim;
    char name[64];
    const struct { const char *name; ref_matrix *matrix; int rows, cols, planes; } matrices[] = {
        {"attn_q", &layer->wq, q_dim, dim, planes},
        {"attn_k", &layer->wk, kv_dim, dim, two_planes(planes)},
        {"attn_v", &layer->wv, kv_dim, dim, two_planes(planes)},
        {"attn_output", &layer->wo, dim, q_dim, planes},
        {"ffn_gate", &layer->w_gate, ffn, dim, of_ffn},
        {"ffn_up", &layer->w_up, ffn, dim, of_ffn},
        {"ffn_down", &layer->w_down, dim, ffn, of_ffn},
    };
    memset(layer, 0, sizeof *layer);
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        int rows = matrices[i].rows, cols = matrices[i].cols;
        snprintf(name, sizeof name, "blk.%d.%s.weight", l, matrices[i].name);
        *matrices[i].matrix = (ref_matrix){values(c, name, rows, cols), rows, cols,
                                           matrices[i].planes};
    }
    snprintf(name, sizeof name, "blk.%d.attn_norm.weight", l);
    layer->attn_norm = values(c, name, 1, dim);
    snprintf(name, sizeof name, "blk.%d.ffn_norm.weight", l);
    layer->ffn_norm = values(c, name, 1, dim);
}

static int is_plain_llama(const gqa_config *g) {
    return !strcmp(g->architecture, "llama") && g->n_layers <= MAX_LAYERS && g->tied_embeddings &&
           !g->window && !g->rope_scaling;
}

static double *compute_logits(const gqa_checkpoint *c, int planes) {
    static ref_layer layers[MAX_LAYERS];
    const gqa_config *g = &c->config;
    ref_model m = {
        .dim = g->dim, .n_layers = g->n_layers, .n_heads = g->n_heads,
        .n_kv_heads = g->n_kv_heads, .head_dim = g->head_dim, .ffn_dim = g->ffn_dim,
        .vocab = g->vocab_size, .rope_dim = g->rope_dim, .rope_theta = (double)g->rope_theta,
        .norm_eps = (double)g->norm_eps, .layers = layers,
    };
    for (int l = 0; l < g->n_layers; l++) fill_layer(c, l, planes, &layers[l]);
    m.embedding = values(c, "token_embd.weight", g->vocab_size, g->dim);
    m.output_norm = values(c, "output_norm.weight", 1, g->dim);
    m.classifier = (ref_matrix){m.embedding, g->vocab_size, g->dim, two_planes(planes)};
    size_t vocab = (size_t)g->vocab_size, n = (size_t)golden.n;
    double *all = malloc(sizeof *all * n * vocab);
    ref_forward(&m, golden.tokens, golden.n, all);
    memmove(all, all + (n - 1) * vocab, sizeof *all * vocab);
    while (n_floats) free(floats[--n_floats]);
    return all;
}

/* Logits after the last token of the prompt, [*vocab], or NULL; planes 1: activations rounded as
 * the runtime rounds them; 0: not. */
static double *reference(int planes, size_t *vocab) {
    gqa_map map = {0};
    gqa_checkpoint c = {0};
    gqa_error err = {0};
    double *out = NULL;
    int status = gqa_map_open(&map, twin, &err);
    if (!status) status = gqa_checkpoint_read(&c, map.data, map.size, twin, &err);
    if (CHECK(status == 0, "%s", err.message) &&
        CHECK(is_plain_llama(&c.config), "another kind of model is there now"))
        out = compute_logits(&c, planes);
    *vocab = (size_t)c.config.vocab_size;
    gqa_checkpoint_free(&c);
    gqa_map_close(&map);
    return out;
}

/* [vocab]; computed by the first case that asks. */
static struct { double *exact, *rounded; size_t vocab; } want;
static int have_reference(void) {
    if (!want.exact) want.exact = reference(0, &want.vocab);
    if (!want.rounded) want.rounded = reference(1, &want.vocab);
    return want.exact && want.rounded;
}

/* The file was not made by the code that it judges: two computations that share no line agree in
 * all that it holds. */
static void check_golden(void) {
    const double *exact = want.exact;
    double squares = 0;
    size_t best = 0;
    for (size_t i = 0; i < want.vocab; i++) {
        squares += exact[i] * exact[i];
        if (exact[i] > exact[best]) best = i;
    }
    double rms = sqrt(squares / (double)want.vocab);
    CHECK(fabs(rms - golden.rms) < 1e-4, "root mean square %g, not %g", rms, golden.rms);
    CHECK(best == (size_t)golden.ids[0], "likeliest %zu, not %d", best, (int)golden.ids[0]);
    for (int i = 0; i < golden.n_ids; i++) {
        double got = exact[golden.ids[i]];
        CHECK(fabs(got - golden.logits[i]) < 1e-4, "id %d: %.6f, expected %.6f",
              (int)golden.ids[i], got, golden.logits[i]);
    }
}

/* ---- the runtime ----------------------------------------------------------------------------- */

typedef struct variant {
    const char *isa;
    int threads, no_repack, at_once;
} variant;

/* Logits after the prompt, [want.vocab]; NULL when this CPU lacks the instruction set. */
static float *run_model(const variant *v) {
    gqa_error err = {0};
    gqa_model_options options = {
        .isa = v->isa, .n_threads = v->threads, .no_repack = v->no_repack,
    };
    gqa_model *m = gqa_model_open(twin, &options, &err);
    if (!m) {
        int absent = err.code == GQA_ERR_UNSUPPORTED && v->isa && strcmp(v->isa, "scalar");
        CHECK(absent, "%s", err.message);
        return NULL;
    }
    gqa_session_options of_session = {
        .context = MAX_TOKENS, .kv = "f32", .n_threads = v->threads,
    };
    gqa_session *s = gqa_session_new(m, &of_session, &err);
    int status = s ? 0 : err.code, n = v->at_once ? golden.n : 1;
    for (int i = 0; i < golden.n && !status; i += n)
        status = gqa_session_eval(s, golden.tokens + i, n, &err);
    float *logits = calloc(want.vocab, sizeof *logits);
    if (CHECK(status == 0, "%s", err.message))
        memcpy(logits, gqa_session_logits(s), sizeof *logits * want.vocab);
    gqa_session_free(s);
    gqa_model_close(m);
    return logits;
}

static void check_logits(const char *what, const float *got) {
    for (int i = 0; i < golden.n_ids; i++) {
        double value = (double)got[golden.ids[i]];
        CHECK(fabs(value - golden.logits[i]) < golden_tolerance * golden.rms,
              "%s, id %d: %.4f, expected %.4f", what, (int)golden.ids[i], value, golden.logits[i]);
    }
    double distance = ref_distance(got, want.exact, want.vocab);
    CHECK(distance < exact_tolerance, "%s: %g from the reference", what, distance);
    distance = ref_distance(got, want.rounded, want.vocab);
    CHECK(distance < rounded_tolerance, "%s: %g from the rounded reference", what, distance);
}

/* One thread and two, repacked and not: the same bits. */
static void check_isa(const char *isa, int at_once) {
    float *first = NULL;
    for (int i = 0; i < 4; i++) {
        char what[64];
        variant v = {.isa = isa, .threads = 1 + i / 2, .no_repack = i % 2, .at_once = at_once};
        float *got = run_model(&v);
        if (!got) return;
        snprintf(what, sizeof what, "%d threads%s", v.threads, v.no_repack ? ", not repacked" : "");
        check_logits(what, got);
        int same = !first || !memcmp(first, got, sizeof *got * want.vocab);
        CHECK(same, "%s: other bits than with one thread, repacked", what);
        if (first) free(got);
        else first = got;
    }
    free(first);
}

static void check_tokens(void) {
    gqa_error err = {0};
    int32_t *ids = NULL;
    gqa_model *m = gqa_model_open(twin, &(gqa_model_options){.vocab_only = 1}, &err);
    size_t length = strlen(golden.text);
    int n = m ? gqa_tokenize_new(m, golden.text, length, GQA_TOKENIZE_BOS, &ids, &err) : -1;
    CHECK(n == golden.n, "%d ids, expected %d: %s", n, golden.n, err.message);
    if (n == golden.n) CHECK(!memcmp(ids, golden.tokens, sizeof *ids * (size_t)n), "other ids");
    gqa_free(ids);
    gqa_model_close(m);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    FILE *f = fopen(twin, "rb");
    if (!f) {
        test_skip("logits", "no tests/models/stories-gqa.gguf here");
        return test_end();
    }
    fclose(f);
    read_golden();
    TEST("the file of logits") {
        CHECK(golden.n > 32 && golden.n_ids == 12, "%d tokens, %d logits", golden.n, golden.n_ids);
        if (have_reference()) check_golden();
    }
    TEST("the tokens of its text") check_tokens();
    for (size_t i = 0; i < 2 * sizeof isas / sizeof isas[0]; i++) {
        char name[64];
        const char *isa = isas[i / 2], *how = i % 2 ? "at once" : "token by token";
        snprintf(name, sizeof name, "%s, %s", isa ? isa : "chosen", how);
        TEST(name) if (have_reference()) check_isa(isa, i % 2);
    }
    free(want.exact);
    free(want.rounded);
    return test_end();
}
