/* test_forward.c: the runtime's logits against the double-precision reference (reference.c) on
 * random models: every kind of attention, odd shapes, both rotary layouts, biases, QK norms, all
 * weight and cache types, windows, RoPE scaling; whole prompts against token by token; one thread
 * against several; repacked weights against those of the file. */
#include "twin_run.h"

#include "../session/session_internal.h"

/* A model of that spec, against the reference. */
static void check_spec(spec s) {
    twin *t = make_twin(&s);
    int32_t *tokens = random_tokens(s.tokens, s.vocab);
    double *want = malloc(sizeof *want * (size_t)s.tokens * (size_t)s.vocab);
    ref_forward(&t->ref, tokens, s.tokens, want);
    compare_all(t, tokens, want);
    free(tokens);
    free(want);
    free_twin(t);
}

/* A case. The seed counts the cases, also those that do not run. */
static void check(const char *name, spec s) {
    static uint64_t seed;
    s.seed = ++seed;
    complete(&s);
    TEST(name) check_spec(s);
}
/* ---- cases ----------------------------------------------------------------------------------- */

static void check_shape(spec s) {
    char name[128];
    snprintf(name, sizeof name, "%s %s, heads %d/%d x %d, dim %d, ffn %d%s, %d tokens", s.arch,
             gqa_type_name(s.type), s.heads, s.kv_heads, s.head_dim, s.dim, s.ffn,
             s.untied ? ", untied" : "", s.tokens);
    check(name, s);
}

static void check_grid(void) {
    static const struct {
        int heads, kv_heads, head_dim, dim;
    } shapes[] = {
        {4, 4, 6, 24}, {6, 3, 8, 48},  {6, 2, 10, 56}, {7, 1, 4, 28}, {8, 1, 8, 40},
        {14, 2, 4, 56}, {16, 2, 6, 96}, {4, 2, 16, 24}, {5, 5, 2, 17},
    };
    static const char *const archs[] = {"llama", "qwen2", "qwen3"};
    static const int types[] = {GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16};
    static const int prompts[] = {1, 2, 31, 32, 33};
    for (int i = 0; i < 9 * 3; i++) {
        int shape = i / 3;
        spec s = {.arch = archs[i % 3], .dim = shapes[shape].dim, .heads = shapes[shape].heads,
                  .kv_heads = shapes[shape].kv_heads, .head_dim = shapes[shape].head_dim,
                  .ffn = 33 + shape, .vocab = 37 + 13 * shape, .type = types[i % 3],
                  .untied = i % 2, .tokens = prompts[i % 5]};
        check_shape(s);
        s.tokens = prompts[(i + 3) % 5];
        if (shape < 3) check_shape(s);
    }
}

static void check_more_shapes(void) {
    check("longer than a tile of the cache",
          SPEC(.dim = 48, .heads = 6, .ffn = 50, .vocab = 61, .untied = 1, .tokens = 300));
    check("longer than a split of decoding, one KV head",
          SPEC(.arch = "qwen3", .layers = 1, .kv_heads = 1, .ffn = 50, .vocab = 61,
               .type = GQA_TYPE_F16, .tokens = 600));
    check("a large epsilon in the norms", SPEC(.arch = "qwen3", .eps = 0.5f, .tokens = 20));
    check("sliding window", SPEC(.window = 13, .tokens = 300));
    check("sliding window of whole tiles", SPEC(.window = 64, .tokens = 200));
}

/* No parameter has one value in all models: code that ignores it fails. With 8 pairs and theta 500
 * the ramp of YaRN lies over pairs 0 to 3 for a context of 64, 3 to 9 for one of 4096. */
#define LINEAR .scaling = GQA_ROPE_LINEAR
#define YARN   .scaling = GQA_ROPE_YARN, .rope_dim = 16

static void check_rope(void) {
    check("another theta", SPEC(.theta = 1e6f));
    check("half of a head is rotated", SPEC(.rope_dim = 4));
    check("divisors of the frequencies", SPEC(.rope_freqs = 1));
    check("linear scaling", SPEC(LINEAR));
    check("linear scaling by 2.5", SPEC(LINEAR, .factor = 2.5f));
    check("linear scaling, attention factor", SPEC(LINEAR, .attn_factor = 0.7f));
    check("yarn", SPEC(YARN, .head_dim = 16, .dim = 64));
    check("yarn by 2.5", SPEC(YARN, .head_dim = 16, .factor = 2.5f));
    check("yarn by 40", SPEC(YARN, .head_dim = 16, .factor = 40, .orig_context = 100));
    check("yarn, attention factor", SPEC(YARN, .head_dim = 16, .attn_factor = 0.7f));
    check("yarn, context of 4096", SPEC(YARN, .head_dim = 16, .orig_context = 4096));
    check("yarn, another fast beta",
          SPEC(YARN, .head_dim = 16, .orig_context = 4096, .beta_fast = 8));
    check("yarn, another slow beta",
          SPEC(YARN, .head_dim = 16, .orig_context = 4096, .beta_slow = 4));
    check("yarn, a ramp that ends beyond the last dimension",
          SPEC(YARN, .head_dim = 16, .theta = 20, .orig_context = 4096, .beta_fast = 400));
    check("yarn, divisors of the frequencies",
          SPEC(YARN, .head_dim = 16, .orig_context = 500, .rope_freqs = 1));
    check("yarn, qwen2", SPEC(YARN, .arch = "qwen2", .head_dim = 16, .dim = 64));
    check("yarn, all parameters, qwen2",
          SPEC(YARN, .arch = "qwen2", .head_dim = 16, .factor = 3, .attn_factor = 1.3f,
               .beta_fast = 20, .beta_slow = 2, .orig_context = 1000));
    check("yarn, all parameters, qwen3, half of a head is rotated",
          SPEC(YARN, .arch = "qwen3", .head_dim = 32, .factor = 8, .attn_factor = 0.9f,
               .beta_fast = 12, .beta_slow = 3, .orig_context = 2048));
}

/* Activations are rounded to int8 in runtime and reference alike; a value on the edge may round
 * differently and the layers pass that on, hence the wide bound on the worst logit;
 * test_kernels.c is strict. Two planes everywhere leave nothing to pass on, and the bound is near
 * that of f32. */
static void check_quantised(void) {
    static const int types[] = {
        GQA_TYPE_Q8_0, GQA_TYPE_Q4_0, GQA_TYPE_Q5_0, GQA_TYPE_Q4_K, GQA_TYPE_Q5_K, GQA_TYPE_Q6_K,
        GQA_TYPE_Q4_1, GQA_TYPE_Q5_1, GQA_TYPE_IQ4_NL, GQA_TYPE_Q2_K, GQA_TYPE_Q3_K,
        GQA_TYPE_IQ4_XS,
    };
    for (int i = 0; i < 2 * (int)(sizeof types / sizeof types[0]); i++) {
        const int type = types[i / 2], exact = i % 2;
        int is_k_quant = gqa_type_info_of(type)->block == 256;
        char name[32];
        snprintf(name, sizeof name, "%s%s", gqa_type_name(type), exact ? ", exact" : "");
        check(name, SPEC(.arch = i / 2 % 2 ? "llama" : "qwen3", .dim = is_k_quant ? 256 : 96,
                         .heads = 8, .head_dim = 32, .ffn = is_k_quant ? 512 : 160, .vocab = 70,
                         .type = type, .untied = i / 2 % 2, .tokens = 33, .exact = exact,
                         .tolerance = exact ? 1e-3 : 8e-2));
    }
    /* Files of several types: Q4_K_M's pair, and what stands in where rows are not a multiple of
     * 256. */
    check("q4_k and q6_k",
          SPEC(.dim = 256, .heads = 8, .head_dim = 32, .ffn = 512, .vocab = 70, .untied = 1,
               .type = GQA_TYPE_Q4_K, .mixed_type = GQA_TYPE_Q6_K, .rope_freqs = 1, .tokens = 33,
               .tolerance = 8e-2));
    check("q5_0 and q8_0",
          SPEC(.arch = "qwen2", .dim = 96, .kv_heads = 1, .head_dim = 24, .ffn = 160, .vocab = 70,
               .type = GQA_TYPE_Q5_0, .mixed_type = GQA_TYPE_Q8_0, .tokens = 33,
               .tolerance = 8e-2));
    check("iq4_nl and q2_k",
          SPEC(.dim = 256, .heads = 8, .head_dim = 32, .ffn = 512, .vocab = 70, .untied = 1,
               .type = GQA_TYPE_IQ4_NL, .mixed_type = GQA_TYPE_Q2_K, .tokens = 33,
               .tolerance = 8e-2));
    check("f16 and q8_0",
          SPEC(.arch = "qwen3", .dim = 96, .heads = 7, .kv_heads = 1, .head_dim = 32, .ffn = 160,
               .vocab = 70, .type = GQA_TYPE_F16, .mixed_type = GQA_TYPE_Q8_0, .tokens = 33,
               .tolerance = 8e-2));
}

static void check_caches(void) {
    static const struct {
        const char *kv;
        ref_cache cache;
        int layers;          /* 1: none whose roundings differences of another would decide */
        double tolerance;
    } caches[] = {
        {"f16", REF_F16, 2, 2e-3},
        {"bf16", REF_BF16, 2, 1e-2},
        {"q8_0", REF_Q8_0, 1, 1e-3},
        {"q4_0", REF_Q4_0, 1, 1e-3},
    };
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s cache", caches[i].kv);
        check(name, SPEC(.dim = 64, .head_dim = 32, .ffn = 48, .vocab = 70, .kv = caches[i].kv,
                         .layers = caches[i].layers, .cache = caches[i].cache, .tokens = 70,
                         .tolerance = caches[i].tolerance));
    }
    check("q8_0 cache, heads of 96", SPEC(.dim = 64, .head_dim = 96, .ffn = 48, .vocab = 70,
                                          .kv = "q8_0", .cache = REF_Q8_0, .tokens = 70,
                                          .tolerance = 3e-2));
    /* Against exact keys, of which one channel is far larger than the others: 0.26, and without
     * the rotation, where it leaves its block two bits, 1.2. */
    check("q8_0/q4_0 cache, heads of 96", SPEC(.dim = 64, .layers = 1, .head_dim = 96, .ffn = 48,
                                               .vocab = 70, .kv = "q8_0/q4_0", .cache = REF_Q8_0,
                                               .v_cache = REF_Q4_0, .tokens = 70,
                                               .tolerance = 1e-2));
    check("f16/q8_0 cache, heads of 48",
          SPEC(.dim = 96, .layers = 1, .head_dim = 48, .ffn = 48, .vocab = 70, .kv = "f16/q8_0",
               .cache = REF_F16, .v_cache = REF_Q8_0, .tokens = 70, .tolerance = 2e-3));
    check("q4_0/q8_0 cache, heads of 8, a window",
          SPEC(.dim = 64, .layers = 1, .heads = 8, .kv_heads = 2, .head_dim = 8, .ffn = 48,
               .vocab = 70, .kv = "q4_0/q8_0", .cache = REF_Q4_0, .v_cache = REF_Q8_0,
               .window = 13, .tokens = 300, .tolerance = 1e-3));
    check("f16/q8_0 cache", SPEC(.dim = 64, .layers = 1, .head_dim = 64, .ffn = 48, .vocab = 70,
                                 .kv = "f16/q8_0", .cache = REF_F16, .v_cache = REF_Q8_0,
                                 .tokens = 70, .tolerance = 2e-3));
    check("q8_0 cache, outliers", SPEC(.arch = "qwen2", .dim = 64, .head_dim = 64, .ffn = 48,
                                       .vocab = 70, .kv = "q8_0", .outlier = 30, .tokens = 70,
                                       .tolerance = 0.4));
}

/* Grouped-tied attention: no head attends before all have cached; the first does it for all. */
static const gqa_kernels *usual;
static int n_cached, n_early;

static void count_cached(gqa_kv *kv, int kv_head, int position, const float *k, const float *v) {
    usual->kv_append(kv, kv_head, position, k, v);
    n_cached++;
}

static void count_early(const gqa_kv *kv, int kv_head, const float *q, int group, float scale,
                        int t0, int t1, float *partial, void *scratch) {
    n_early += n_cached < kv->n_kv_heads;
    usual->attend_decode(kv, kv_head, q, group, scale, t0, t1, partial, scratch);
}

static void check_order_of_gta(void) {
    const gqa_config shape = {.dim = 64, .n_layers = 1, .n_heads = 8, .n_kv_heads = 4,
                              .head_dim = 16, .ffn_dim = 64, .vocab_size = 64, .tied_kv = 1};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_F32, 1, NULL, &err);
    gqa_session *s = gqa_session_new(m, &(gqa_session_options){.n_threads = 1}, &err);
    gqa_kernels counting = *m->kernels;
    int32_t token = 1;
    usual = m->kernels;
    counting.kv_append = count_cached;
    counting.attend_decode = count_early;
    m->kernels = &counting;
    int status = gqa_session_eval(s, &token, 1, &err);
    CHECK(status == 0, "%s", err.message);
    CHECK( n_cached == 4 && !n_early, "%d of %d early", n_early, n_cached);
    m->kernels = usual;
    gqa_session_free(s);
    gqa_model_close(m);
}

/* Which matrices of a model read activations in two planes, and that a thread has room for the
 * sums of those. */
static void check_exact(spec s) {
    complete(&s);
    twin *t = make_twin(&s);
    gqa_model *m = gqa_model_from_memory(t->image, t->size, NULL, NULL);
    gqa_session *session = gqa_session_new(m, NULL, NULL);
    const gqa_scratch *scratch = &session->workspace->scratch;
    gqa_matrix *w;
    int has_pairs = s.type == GQA_TYPE_Q8_0;
    CHECK(m->layers[0].wk.exact == has_pairs && m->classifier.exact == has_pairs, "keys, output");
    for (int i = 0; (w = gqa_model_matrix(m, i)) != NULL; i++) {
        int l = i / GQA_LAYER_MATRICES, is_last = l == s.layers - 1;
        const gqa_layer *layer = &m->layers[l < s.layers ? l : 0];
        int expected = w == &layer->wk || w == &layer->wv || w == &m->classifier;
        if (w == &layer->w_gate || w == &layer->w_up || w == &layer->w_down) expected = is_last;
        CHECK(w->exact == (expected && has_pairs && w->rows > 0), "matrix %d of layer %d: %d",
              i % GQA_LAYER_MATRICES, l, w->exact);
    }
    CHECK(scratch->thread_bytes >= gqa_planes_scratch(scratch->rows) + gqa_matmul_scratch(s.dim),
          "%zu bytes a thread", scratch->thread_bytes);
    gqa_session_free(session);
    gqa_model_close(m);
    free_twin(t);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_grid();
    check_more_shapes();
    check_rope();
    check_quantised();
    check_caches();
    TEST("exact products") {
#define QUANTISED .dim = 64, .ffn = 64, .head_dim = 64, .type = GQA_TYPE_Q8_0
        check_exact(SPEC(QUANTISED, .heads = 4, .kv_heads = 4, .layers = 3));
        check_exact(SPEC(QUANTISED, .arch = "qwen3", .untied = 1, .layers = 1));
        check_exact(SPEC(QUANTISED, .arch = "phi3", .layers = 2));
        check_exact(SPEC(QUANTISED, .arch = "deepseek2", .layers = 2, .rope_dim = 32,
                         .latent = 96, .value = 32));
        check_exact(SPEC(.dim = 64, .ffn = 64, .head_dim = 64, .type = GQA_TYPE_Q4_1));
#undef QUANTISED
    }
    TEST("the order of grouped-tied attention") check_order_of_gta();
    return test_end();
}
