/* test_logits.c: the logits of the model that ships against tests/golden/stories-gqa-logits.txt, which a program of another language
 * made in double precision (tests/golden/make_logits.py), and against the reference (reference.c) on all ids: every instruction
 * set, one thread and two, token by token and at once, repacked and not. */
#include "test.h"

#include "../formats/formats.h"
#include "reference.h"

enum { MAX_TOKENS = 64, MAX_GOLDEN = 32, MAX_LAYERS = 6 };
static const char shipped[] = "models/stories-gqa.gguf", golden_path[] = "tests/golden/stories-gqa-logits.txt";

/* In units of the logits' root mean square. What int8 activations cost is 0.0134 at most on the golden ids and 0.0297 on all; beside
 * a reference that rounds activations too, 4.5e-7 is left, and room for one that lies on the edge of two codes. */
static const double golden_loose = 0.035, loose = 0.075, strict = 1e-3;

static struct {
    char text[512];
    int32_t tokens[MAX_TOKENS], ids[MAX_GOLDEN];
    double logits[MAX_GOLDEN], rms;
    int n, n_ids;
} golden;

static int read_golden(void) {
    char line[2048];
    FILE *f = fopen(golden_path, "r");
    while (f && fgets(line, sizeof line, f)) {
        char *at = line, *end;
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "text ", 5)) snprintf(golden.text, sizeof golden.text, "%.500s", line + 5);
        if (!strncmp(line, "rms ", 4)) golden.rms = strtod(line + 4, NULL);
        if (!strncmp(line, "tokens", 6))
            for (at += 6; *at && golden.n < MAX_TOKENS; at = end) golden.tokens[golden.n++] = (int32_t)strtol(at, &end, 10);
        if (!strncmp(line, "logit ", 6) && golden.n_ids < MAX_GOLDEN) {
            golden.ids[golden.n_ids] = (int32_t)strtol(line + 6, &end, 10);
            golden.logits[golden.n_ids++] = strtod(end, NULL);
        }
    }
    if (f) fclose(f);
    return CHECK(golden.n > 32 && golden.n_ids == 12 && golden.rms > 0 && golden.text[0], "%s: %d tokens, %d logits", golden_path, golden.n,
                 golden.n_ids);
}

/* ---- the reference, fed from the file ------------------------------------------------------------------------------ */

static float *floats[64];
static int n_floats;

static const float *values(const gqa_checkpoint *c, const char *name, int rows, int cols) {
    const gqa_tensor *t = gqa_checkpoint_tensor(c, name);
    size_t n = (size_t)rows * (size_t)cols;
    float *out = calloc(n, sizeof *out);
    CHECK(t && t->dims[0] == (uint64_t)cols && t->dims[1] == (uint64_t)rows && ref_dequantize(t->type, t->data, out, n) == 0, "%s", name);
    return floats[n_floats++] = out;
}

static ref_matrix matrix(const gqa_checkpoint *c, const char *name, int rows, int cols, int int8) {
    return (ref_matrix){values(c, name, rows, cols), rows, cols, int8};
}

static void fill_layer(const gqa_checkpoint *c, int l, int int8, ref_layer *y) {
    const gqa_config *g = &c->config;
    int q_dim = g->n_heads * g->head_dim, kv_dim = g->n_kv_heads * g->head_dim;
    char name[64];
#define NAME(suffix) (snprintf(name, sizeof name, "blk.%d." suffix ".weight", l), name)
    *y = (ref_layer){.attn_norm = values(c, NAME("attn_norm"), 1, g->dim), .ffn_norm = values(c, NAME("ffn_norm"), 1, g->dim)};
    y->wq = matrix(c, NAME("attn_q"), q_dim, g->dim, int8);
    y->wk = matrix(c, NAME("attn_k"), kv_dim, g->dim, int8);
    y->wv = matrix(c, NAME("attn_v"), kv_dim, g->dim, int8);
    y->wo = matrix(c, NAME("attn_output"), g->dim, q_dim, int8);
    y->w_gate = matrix(c, NAME("ffn_gate"), g->ffn_dim, g->dim, int8);
    y->w_up = matrix(c, NAME("ffn_up"), g->ffn_dim, g->dim, int8);
    y->w_down = matrix(c, NAME("ffn_down"), g->dim, g->ffn_dim, int8);
}

/* Logits after the last token of the prompt, [vocab]; int8: activations rounded as the runtime rounds them. */
static double *reference(int int8, int *vocab) {
    gqa_map map = {0};
    gqa_checkpoint c = {0};
    gqa_error err = {0};
    static ref_layer layers[MAX_LAYERS];
    int status = gqa_map_open(&map, shipped, &err);
    if (!status) status = gqa_checkpoint_read(&c, map.data, map.size, shipped, &err);
    if (!CHECK(status == 0, "%s", err.message)) return NULL;
    const gqa_config *g = &c.config;
    int known = !strcmp(g->architecture, "llama") && g->n_layers <= MAX_LAYERS && g->tied_embeddings && !g->window && !g->rope_scaling;
    if (!CHECK(known, "another kind of model ships now")) return NULL;
    ref_model m = {.dim = g->dim, .n_layers = g->n_layers, .n_heads = g->n_heads, .n_kv_heads = g->n_kv_heads, .head_dim = g->head_dim,
                   .ffn_dim = g->ffn_dim, .vocab = g->vocab_size, .rope_dim = g->rope_dim, .rope_theta = (double)g->rope_theta,
                   .norm_eps = (double)g->norm_eps, .layers = layers};
    for (int l = 0; l < g->n_layers; l++) fill_layer(&c, l, int8, &layers[l]);
    m.embedding = values(&c, "token_embd.weight", g->vocab_size, g->dim);
    m.output_norm = values(&c, "output_norm.weight", 1, g->dim);
    m.classifier = (ref_matrix){m.embedding, g->vocab_size, g->dim, int8};
    double *all = malloc(sizeof *all * (size_t)golden.n * (size_t)g->vocab_size);
    ref_forward(&m, golden.tokens, golden.n, all);
    *vocab = g->vocab_size;
    memmove(all, all + (size_t)(golden.n - 1) * (size_t)*vocab, sizeof *all * (size_t)*vocab);
    while (n_floats) free(floats[--n_floats]);
    gqa_checkpoint_free(&c);
    gqa_map_close(&map);
    return all;
}

/* The file was not made by the code that it judges: two computations that share no line agree in all that it holds. */
static void check_golden(const double *want, int vocab) {
    double squares = 0;
    int best = 0;
    for (int i = 0; i < vocab; i++) squares += want[i] * want[i], best = want[i] > want[best] ? i : best;
    CHECK(fabs(sqrt(squares / vocab) - golden.rms) < 1e-4, "root mean square %g, the file says %g", sqrt(squares / vocab), golden.rms);
    CHECK(best == golden.ids[0], "likeliest is %d, the file says %d", best, (int)golden.ids[0]);
    for (int i = 0; i < golden.n_ids; i++)
        CHECK(fabs(want[golden.ids[i]] - golden.logits[i]) < 1e-4, "id %d: %.6f, the file says %.6f", (int)golden.ids[i],
              want[golden.ids[i]], golden.logits[i]);
}

/* ---- the runtime --------------------------------------------------------------------------------------------------- */

static const char *const isas[] = {"scalar", "avx2", "avx512", "neon", NULL};

/* Logits after the prompt, given in pieces of `piece` tokens; NULL when this CPU lacks the instruction set. */
static float *run_model(const char *isa, int threads, int no_repack, int piece, int vocab) {
    gqa_error err = {0};
    gqa_model *m = gqa_model_open(shipped, &(gqa_model_options){.isa = isa, .n_threads = threads, .no_repack = no_repack}, &err);
    if (!m) {
        CHECK(err.code == GQA_ERR_UNSUPPORTED && isa && strcmp(isa, "scalar"), "%s", err.message);
        return NULL;
    }
    gqa_session *s = gqa_session_new(m, &(gqa_session_options){.context = MAX_TOKENS, .kv = "f32", .n_threads = threads}, &err);
    CHECK(s && gqa_vocab_size(m) == vocab, "%s", err.message);
    for (int i = 0; s && i < golden.n; i += piece)
        CHECK(gqa_session_eval(s, golden.tokens + i, golden.n - i < piece ? golden.n - i : piece, &err) == 0, "%s", err.message);
    float *logits = calloc((size_t)vocab, sizeof *logits);
    if (s && gqa_session_logits(s)) memcpy(logits, gqa_session_logits(s), sizeof *logits * (size_t)vocab);
    gqa_session_free(s);
    gqa_model_close(m);
    return logits;
}

static void check_logits(const char *what, const float *got, const double *want, const double *rounded, int vocab) {
    for (int i = 0; i < golden.n_ids; i++) {
        double difference = ((double)got[golden.ids[i]] - golden.logits[i]) / golden.rms;
        CHECK(fabs(difference) < golden_loose, "%s, id %d: %.4f, expected %.4f", what, (int)golden.ids[i],
              (double)got[golden.ids[i]], golden.logits[i]);
    }
    double plain = ref_distance(got, want, (size_t)vocab), same = ref_distance(got, rounded, (size_t)vocab);
    CHECK(plain < loose, "%s: %g from the reference on all ids", what, plain);
    CHECK(same < strict, "%s: %g from the reference with rounded activations on all ids", what, same);
}

static void check_isa(const char *isa, const double *want, const double *rounded, int vocab) {
    for (int whole = 0; whole < 2; whole++) {
        int piece = whole ? golden.n : 1;
        float *first = NULL;
        for (int threads = 1; threads <= 2; threads++)
            for (int raw = 0; raw < 2; raw++) {
                char what[128];
                snprintf(what, sizeof what, "%s, %d threads, %s%s", isa ? isa : "chosen", threads, whole ? "at once" : "token by token",
                         raw ? ", not repacked" : "");
                float *got = run_model(isa, threads, raw, piece, vocab);
                if (!got) return;
                check_logits(what, got, want, rounded, vocab);
                CHECK(!first || !memcmp(first, got, sizeof *got * (size_t)vocab), "%s: other bits than with one thread and repacked", what);
                if (first) free(got);
                else first = got;
            }
        free(first);
    }
}

static void check_tokens(void) {
    gqa_error err = {0};
    int32_t *ids = NULL;
    gqa_model *m = gqa_model_open(shipped, &(gqa_model_options){.vocab_only = 1}, &err);
    int n = m ? gqa_tokenize_new(m, golden.text, strlen(golden.text), GQA_TOKENIZE_BOS, &ids, &err) : -1;
    CHECK(n == golden.n && !memcmp(ids, golden.tokens, sizeof *ids * (size_t)n),
          "the text has %d ids, the file %d, or others: %s", n, golden.n, err.message);
    free(ids);
    gqa_model_close(m);
}

int main(void) {
    int vocab = 0;
    FILE *f = fopen(shipped, "rb");
    if (!f) return test_skip("logits of the model that ships", "no models/stories-gqa.gguf here"), test_end();
    fclose(f);
    if (!read_golden()) return test_end();
    check_tokens();
    double *want = reference(0, &vocab), *rounded = reference(1, &vocab);
    if (!want || !rounded) return test_end();
    check_golden(want, vocab);
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) check_isa(isas[i], want, rounded, vocab);
    free(want);
    free(rounded);
    return test_end();
}
