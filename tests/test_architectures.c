/* test_architectures.c: every architecture on random models against the double-precision
 * reference; and for each of its steps that the logits would show if it were left out. */
#include "twin_run.h"

#include "../convert/convert.h"
#include "../formats/formats.h"

/* ---- what each step does to the logits ------------------------------------------------------- */

static void no_window(ref_model *m) { m->window = 0; }
static void longer_window(ref_model *m) { m->window++; }
static void window_everywhere(ref_model *m) {
    for (int l = 0; l < m->n_layers; l++) m->layers[l].sees_all = 0;
}
static void one_base(ref_model *m) {
    for (int l = 0; l < m->n_layers; l++) m->layers[l].local_theta = 0;
}
static void rope_everywhere(ref_model *m) {
    for (int l = 0; l < m->n_layers; l++) m->layers[l].no_rope = 0;
}
static void no_attn_post_norm(ref_model *m) { m->layers[1].attn_post_norm = NULL; }
static void no_ffn_post_norm(ref_model *m) { m->layers[m->n_layers - 1].ffn_post_norm = NULL; }
static void pre_norms(ref_model *m) {
    m->layers[0].attn_norm = m->layers[0].ffn_norm = m->output_norm;
}
static void no_qk_norm(ref_model *m) { m->layers[0].q_norm = m->layers[0].k_norm = NULL; }
static void norm_by_heads(ref_model *m) { m->qk_norm = REF_NORM_BEFORE; }
static void silu(ref_model *m) { m->gelu = 0; }
static void no_embedding_scale(ref_model *m) { m->embedding_scale = 1; }
static void no_residual_scale(ref_model *m) { m->residual_scale = 1; }
static void no_logit_scale(ref_model *m) { m->logit_divisor = 1; }
static void usual_scale(ref_model *m) { m->score_scale = 0; }
static void no_score_cap(ref_model *m) { m->score_cap = 0; }
static void no_logit_cap(ref_model *m) { m->logit_cap = 0; }
static void no_temperature(ref_model *m) { m->temperature = 0; }
static void no_log_mul(ref_model *m) { m->yarn_log_mul = 0; }
static void no_attn_factor(ref_model *m) { m->attn_factor = 1; }
static void no_factors(ref_model *m) { m->rope_factors = NULL; }
static void other_half(ref_model *m) { m->rope_half = !m->rope_half; }
static void no_scaling(ref_model *m) { m->scaling = REF_PLAIN; }

static void no_norm_v(ref_model *m) { m->norm_v = 0; }
static void one_rope_dim(ref_model *m) {
    m->layers[0].rope_dim = m->layers[0].head_dim ? m->layers[0].head_dim : m->head_dim;
}
static void another_cache(ref_model *m) { m->layers[m->n_layers - 1].kv_layer -= 2; }
static void another_v(ref_model *m) { m->layers[1].wv = m->layers[3].wk; }
static void no_output_scale(ref_model *m) { m->layers[2].scale = NULL; }
static void nothing_for_layers(ref_model *m) { m->per_layer = 0; }
static void no_layer_norm(ref_model *m) { m->layers[3].layer_norm = NULL; }
static void no_projection_norm(ref_model *m) { m->layers_proj_norm = NULL; }

typedef void (*change)(ref_model *m);
enum { MAX_CHANGES = 10 };

/* Whether the reference without one of its steps is clearly another model. */
static void check_steps(const twin *t, const int32_t *tokens, const double *want,
                        const change *changes) {
    size_t count = (size_t)t->s.tokens * (size_t)t->s.vocab;
    double *other = malloc(sizeof *other * count);
    float *rounded = malloc(sizeof *rounded * count);
    for (int i = 0; i < MAX_CHANGES && changes[i]; i++) {
        ref_layer layers[8];
        ref_model m = t->ref;
        memcpy(layers, t->layers, sizeof layers);
        m.layers = layers;
        changes[i](&m);
        ref_forward(&m, tokens, t->s.tokens, other);
        for (size_t j = 0; j < count; j++) rounded[j] = (float)other[j];
        double distance = ref_distance(rounded, want, count);
        CHECK(distance > 5 * t->s.tolerance, "step %d of %s shows as %g only", i, t->s.arch,
              distance);
    }
    free(other);
    free(rounded);
}

/* A case: the runtime is near the reference, and no step of it is without effect. */
static void check_architecture(const char *name, spec s, const change *changes) {
    static uint64_t seed = 1000;
    s.seed = ++seed;
    if (!s.layers) s.layers = 7;
    if (!s.dim) s.dim = 40;
    if (!s.head_dim) s.head_dim = 16;
    complete(&s);
    TEST(name) {
        twin *t = make_twin(&s);
        int32_t *tokens = random_tokens(s.tokens, s.vocab);
        double *want = malloc(sizeof *want * (size_t)s.tokens * (size_t)s.vocab);
        ref_forward(&t->ref, tokens, s.tokens, want);
        compare_all(t, tokens, want);
        check_steps(t, tokens, want, changes);
        free(tokens);
        free(want);
        free_twin(t);
    }
}
#define STEPS(...) (const change[MAX_CHANGES]){__VA_ARGS__}

/* ---- cases ----------------------------------------------------------------------------------- */

#define YARN .scaling = GQA_ROPE_YARN, .orig_context = 32

/* Matrices in q8_0: with activations in 8 bits, and in two planes (check_exact). */
#define GEMMA4_Q8 .arch = "gemma4", GEMMA4, .shared = 2, .per_layer = 32, .dim = 64, .ffn = 64, \
                  .layers = 4, .tokens = 33, .type = GQA_TYPE_Q8_0
#define LATENT_Q8 .arch = "deepseek2", .layers = 2, .dim = 64, .ffn = 64, .head_dim = 64, \
                  .rope_dim = 32, .latent = 96, .value = 32, .q_rank = 32, .tokens = 40, \
                  .type = GQA_TYPE_Q8_0
#define GTA_Q8 .arch = "gta", .dim = 64, .ffn = 64, .head_dim = 32, .rope_dim = 16, .tokens = 40, \
               .type = GQA_TYPE_Q8_0

/* Their tolerances are wider: scores are not divided by sqrt(head_dim). */
#define GEMMA4 .window = 23, .pattern = 2, .pattern_key = 2, .local_head_dim = 8, \
               .local_rope_dim = 6, .theta_local = 300, .theta = 1e6f

static void check_gemmas(void) {
    check_architecture("gemma", SPEC(.arch = "gemma", .kv_heads = 1),
                       STEPS(silu, no_embedding_scale, other_half));
    check_architecture("gemma2: windows on even layers, both softcaps",
                       SPEC(.arch = "gemma2", .window = 23),
                       STEPS(silu, no_embedding_scale, no_attn_post_norm, no_ffn_post_norm,
                             no_score_cap, no_logit_cap, no_window, longer_window,
                             window_everywhere));
    check_architecture("gemma2: softcaps by key",
                       SPEC(.arch = "gemma2", .window = 23, .attention_softcap = 3,
                            .logit_softcap = 7),
                       STEPS(no_score_cap, no_logit_cap));
    check_architecture("gemma3: five layers of six with a window and a base of their own",
                       SPEC(.arch = "gemma3", .kv_heads = 1, .window = 40, .theta = 1e6f),
                       STEPS(silu, no_embedding_scale, no_attn_post_norm, no_ffn_post_norm,
                             no_qk_norm, one_base, no_window, longer_window, window_everywhere));
    check_architecture("gemma3: linear scaling, of layers without a window only",
                       SPEC(.arch = "gemma3", .window = 40, .scaling = GQA_ROPE_LINEAR,
                            .factor = 8, .theta = 1e6f),
                       STEPS(one_base, no_scaling));
    check_architecture("gemma3: pattern and local base by key",
                       SPEC(.arch = "gemma3", .window = 40, .pattern = 3, .pattern_key = 1,
                            .theta_local = 300, .theta = 1e6f),
                       STEPS(one_base, window_everywhere));
    check_architecture("gemma4: heads of two sizes, shared caches, norms of V",
                       SPEC(.arch = "gemma4", GEMMA4, .shared = 3, .vary = 1, .rope_freqs = 1,
                            .tolerance = 6e-4),
                       STEPS(no_norm_v, usual_scale, one_rope_dim, another_cache, no_output_scale,
                             no_logit_cap, one_base, no_factors, window_everywhere, no_qk_norm));
    check_architecture("gemma4: embeddings for each layer",
                       SPEC(.arch = "gemma4", GEMMA4, .shared = 3, .per_layer = 6,
                            .tolerance = 6e-4),
                       STEPS(nothing_for_layers, no_layer_norm, no_projection_norm, silu,
                             no_embedding_scale, no_output_scale, no_attn_post_norm,
                             no_ffn_post_norm));
    check_architecture("gemma4: V is K before its norm",
                       SPEC(.arch = "gemma4", GEMMA4, .v_is_k = 1, .logit_softcap = 7,
                            .tolerance = 3e-4),
                       STEPS(another_v, no_norm_v, no_logit_cap));
    check_architecture("gemma4 of q8_0",
                       SPEC(GEMMA4_Q8, .tolerance = 8e-2),
                       STEPS(nothing_for_layers));
    check_architecture("gemma3: without a window", SPEC(.arch = "gemma3", .logit_softcap = 3),
                       STEPS(no_logit_cap, no_qk_norm));
}

static void check_scaled(void) {
    check_architecture("granite: four scales",
                       SPEC(.arch = "granite", .embedding_scale = 3, .residual_scale = 0.3f,
                            .logit_scale = 2.5f, .attention_scale = 0.6f),
                       STEPS(no_embedding_scale, no_residual_scale, no_logit_scale, usual_scale));
    check_architecture("granite without RoPE", SPEC(.arch = "granite", .not_finetuned = 1),
                       STEPS(rope_everywhere));
    check_architecture("minicpm: scales where the file has none", SPEC(.arch = "minicpm"),
                       STEPS(no_embedding_scale, no_residual_scale, no_logit_scale));
    check_architecture("minicpm: scales by key",
                       SPEC(.arch = "minicpm", .embedding_scale = 2, .residual_scale = 0.5f,
                            .logit_scale = 3),
                       STEPS(no_embedding_scale, no_residual_scale, no_logit_scale));
    check_architecture("mistral3: queries grow with the position, a smaller magnitude of YaRN",
                       SPEC(.arch = "mistral3", YARN, .temperature = 0.4f, .yarn_log_mul = 0.7f,
                            .factor = 8),
                       STEPS(no_temperature, no_log_mul, no_scaling));
}

static void check_others(void) {
    check_architecture("smollm3: every fourth layer without RoPE", SPEC(.arch = "smollm3"),
                       STEPS(rope_everywhere, other_half));
    check_architecture("ernie4_5", SPEC(.arch = "ernie4_5"), STEPS(other_half));
    check_architecture("phi3: fused matrices, part of a head rotated, a wrong window",
                       SPEC(.arch = "phi3", .rope_dim = 12, .window = 20, .attn_factor = 1.2f),
                       STEPS(other_half, one_rope_dim, no_attn_factor));
    check_architecture("phi3: factors for long contexts",
                       SPEC(.arch = "phi3", .long_factors = 1, .orig_context = 64),
                       STEPS(no_factors));
    check_architecture("phi3: factors for short contexts",
                       SPEC(.arch = "phi3", .long_factors = 1, .orig_context = 100),
                       STEPS(no_factors));
    check_architecture("olmo2: norms after, of whole rows of Q and K", SPEC(.arch = "olmo2"),
                       STEPS(pre_norms, no_attn_post_norm, no_ffn_post_norm, no_qk_norm,
                             other_half));
    check_architecture("olmo2 with heads as wide as rows", SPEC(.arch = "olmo2", .kv_heads = 1),
                       STEPS(no_qk_norm));
    check_architecture("olmo3: windows without YaRN, the other layers with it",
                       SPEC(.arch = "olmo2", .window = 30, YARN, .factor = 8),
                       STEPS(no_window, longer_window, window_everywhere, one_base, no_scaling));
    check_architecture("exaone", SPEC(.arch = "exaone", .rope_freqs = 1),
                       STEPS(no_factors, other_half));
    check_architecture("exaone4", SPEC(.arch = "exaone4", .rope_freqs = 1),
                       STEPS(pre_norms, no_attn_post_norm, no_ffn_post_norm, no_qk_norm,
                             no_factors, other_half));
    check_architecture("exaone4: layers without a window have no RoPE",
                       SPEC(.arch = "exaone4", .window = 30, .pattern = 4, .pattern_key = 1),
                       STEPS(no_window, window_everywhere, rope_everywhere));
    check_architecture("hunyuan-dense: norms of Q and K after RoPE", SPEC(.arch = "hunyuan-dense"),
                       STEPS(norm_by_heads, no_qk_norm, other_half));
    check_architecture("llama: KV heads, FFN widths and windows by layer",
                       SPEC(.arch = "llama", .vary = 1, .window = 30, .pattern = 3,
                            .pattern_key = 2),
                       STEPS(no_window, window_everywhere));
}

/* ---- sessions over layers with and without a window ------------------------------------------ */

enum { WINDOW = 40, CONTEXT = 2048, FIRST = 504, BACK = 64, LAYERS = 7, GLOBAL = 1 };

/* Evaluates tokens[first .. end - 1] and returns whether the logits then are want [vocab]. */
static int goes_on(gqa_session *s, const int32_t *tokens, int first, int end, const float *want) {
    gqa_error err = {0};
    int status = gqa_session_eval(s, tokens + first, end - first, &err);
    CHECK(status == 0, "%s", err.message);
    size_t bytes = sizeof *want * (size_t)gqa_model_config(gqa_session_model(s))->vocab_size;
    return !status && !memcmp(gqa_session_logits(s), want, bytes);
}

static void check_mixed_cache(const gqa_model *m, const int32_t *tokens, const float *want) {
    gqa_error err = {0};
    gqa_session_options o = {.context = CONTEXT, .batch = 8, .kv = "f16", .n_threads = 1};
    gqa_session *s = gqa_session_new(m, &o, &err), *copy = gqa_session_new(m, &o, &err);
    gqa_session *loaded = gqa_session_new(m, &o, &err);
    void *saved = NULL;
    size_t size;
    int end = FIRST + 20, back = FIRST - BACK;
    CHECK(gqa_session_eval(s, tokens, FIRST, &err) == 0, "%s", err.message);
    CHECK(gqa_session_copy(copy, s, FIRST, &err) == 0, "%s", err.message);
    CHECK(gqa_session_save_memory(s, &saved, &size, &err) == 0, "%s", err.message);
    CHECK(gqa_session_load_memory(loaded, saved, size, &err) == 0, "%s", err.message);
    CHECK(goes_on(s, tokens, FIRST, end, want), "straight on");
    CHECK(goes_on(copy, tokens, FIRST, end, want), "a copy");
    CHECK(goes_on(loaded, tokens, FIRST, end, want), "saved and loaded");
    CHECK(gqa_session_rewind(s, back, &err) == 0, "%s", err.message);
    CHECK(goes_on(s, tokens, back, end, want), "64 positions back");
    CHECK(gqa_session_rewind(s, 100, &err) == GQA_ERR_ARGUMENT, "a window has moved on");
    gqa_free(saved);
    gqa_session_free(s);
    gqa_session_free(copy);
    gqa_session_free(loaded);
}

/* What gqa_model_layer says of gemma3: five layers of six have a window and a base of their own. */
static void check_layers(const gqa_model *m) {
    for (int l = 0; l < LAYERS; l++) {
        const gqa_layer_config *layer = gqa_model_layer(m, l);
        int is_global = l % 6 == 5;
        int rope = is_global ? GQA_LAYER_ROPE_MODEL : GQA_LAYER_ROPE_LOCAL;
        CHECK(layer->window == (is_global ? 0 : WINDOW) && layer->rope == rope,
              "layer %d: window %d, RoPE %d", l, layer->window, layer->rope);
        CHECK(layer->n_kv_heads == 1 && layer->ffn_dim == gqa_model_config(m)->ffn_dim,
              "layer %d: %d KV heads, FFN %d", l, layer->n_kv_heads, layer->ffn_dim);
    }
    CHECK(!gqa_model_layer(m, -1) && !gqa_model_layer(m, LAYERS), "no such layer");
}

static void check_caches(void) {
    spec s = {.arch = "gemma3", .layers = LAYERS, .dim = 40, .head_dim = 16, .kv_heads = 1,
              .window = WINDOW, .theta = 1e6f, .tokens = FIRST + 20, .seed = 77};
    complete(&s);
    TEST("windows beside whole contexts: memory, copies, saved sessions, taking back") {
        twin *t = make_twin(&s);
        gqa_error err = {0};
        int32_t *tokens = random_tokens(s.tokens, s.vocab);
        gqa_model *m = gqa_model_from_memory(t->image, t->size, NULL, &err);
        gqa_session_options o = {.context = CONTEXT, .batch = 8, .n_threads = 1};
        check_layers(m);
        gqa_session *whole = gqa_session_new(m, &o, &err);
        uint64_t position = 2 * 16 * 2, large = gqa_session_bytes(whole);
        CHECK(gqa_model_kv_bytes(m, GQA_TYPE_F16, 30) == 30 * LAYERS * position, "within windows");
        CHECK(gqa_model_kv_bytes(m, GQA_TYPE_F16, 1000) ==
              (1000 * GLOBAL + WINDOW * (LAYERS - GLOBAL)) * position, "beyond windows");
        o.context = CONTEXT / 2;
        gqa_session *half = gqa_session_new(m, &o, &err);
        uint64_t saved = large - gqa_session_bytes(half);
        CHECK(saved < CONTEXT * position, "half of the context saves %llu bytes",
              (unsigned long long)saved);
        CHECK(gqa_session_eval(whole, tokens, s.tokens, &err) == 0, "%s", err.message);
        check_mixed_cache(m, tokens, gqa_session_logits(whole));
        gqa_session_free(whole);
        gqa_session_free(half);
        gqa_model_close(m);
        free(tokens);
        free_twin(t);
    }
}

/* phi3's two sets of RoPE factors: a cache that one has rotated is no cache of the other's. */
static void check_long_factors(void) {
    enum { BORDER = 64, LONG = 100 };
    spec s = {.arch = "phi3", .long_factors = 1, .orig_context = BORDER, .tokens = 20, .seed = 80};
    complete(&s);
    twin *t = make_twin(&s);
    gqa_error err = {0};
    int32_t *tokens = random_tokens(s.tokens, s.vocab);
    gqa_model *m = gqa_model_from_memory(t->image, t->size, NULL, &err);
    gqa_session *in_short = gqa_session_new(m, &(gqa_session_options){.context = BORDER}, &err);
    CHECK(gqa_session_eval(in_short, tokens, s.tokens, &err) == 0, "%s", err.message);
    void *saved = NULL;
    size_t size = 0;
    CHECK(gqa_session_save_memory(in_short, &saved, &size, &err) == 0, "%s", err.message);
    const int contexts[] = {BORDER - 1, BORDER, BORDER + 1, LONG};
    for (int i = 0; i < 4; i++) {
        gqa_session_options o = {.context = contexts[i]};
        gqa_session *other = gqa_session_new(m, &o, &err);
        int is_long = contexts[i] > BORDER;
        int want_copy = is_long ? GQA_ERR_ARGUMENT : 0, want_load = is_long ? GQA_ERR_FORMAT : 0;
        err.message[0] = 0;
        int status = gqa_session_copy(other, in_short, s.tokens, &err);
        CHECK(status == want_copy, "copy into %d: %s", contexts[i], err.message);
        if (is_long) CHECK_HAS(err.message, "of which one has more than 64: RoPE differs");
        status = gqa_session_load_memory(other, saved, size, &err);
        CHECK(status == want_load, "load into %d: %s", contexts[i], err.message);
        if (is_long) CHECK_HAS(err.message, "on the other side of 64 positions: RoPE differs");
        gqa_session_free(other);
    }
    gqa_free(saved);
    gqa_session_free(in_short);
    gqa_model_close(m);
    free(tokens);
    free_twin(t);
}

/* ---- conversion ------------------------------------------------------------------------------ */

/* Logits of a model after tokens[n]. */
static void last_logits(const void *image, size_t size, const int32_t *tokens, int n, float *out) {
    gqa_error err = {0};
    gqa_model *m = gqa_model_from_memory(image, size, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, NULL, &err) : NULL;
    int status = s ? gqa_session_eval(s, tokens, n, &err) : -1;
    if (CHECK(status == 0, "%s", err.message))
        memcpy(out, gqa_session_logits(s), sizeof *out * (size_t)gqa_model_config(m)->vocab_size);
    gqa_session_free(s);
    gqa_model_close(m);
}

static void no_q_rank_norm(ref_model *m) { m->layers[1].q_rank_norm = m->layers[0].q_rank_norm; }
static void no_latent_norm(ref_model *m) { m->layers[1].latent_norm = m->layers[0].latent_norm; }
static void another_expansion(ref_model *m) { m->layers[1].wv_b = m->layers[0].wv_b; }

#define LATENT .arch = "deepseek2", .layers = 3
#define SMALL_LATENT LATENT, .head_dim = 24, .rope_dim = 8, .latent = 32, .value = 16

/* Absorbed in the runtime, expanded to MHA in the reference. The type of K is that of V. */
static void check_latent(void) {
    check_architecture("deepseek2: latent attention, absorbed, against heads expanded from it",
                       SPEC(SMALL_LATENT, .q_rank = 20),
                       STEPS(no_q_rank_norm, no_latent_norm, another_expansion, other_half));
    check_architecture("deepseek2: queries of one matrix, YaRN on the whole score",
                       SPEC(SMALL_LATENT, YARN, .yarn_log_mul = 0.2f),
                       STEPS(usual_scale, no_scaling));
    check_architecture("deepseek2: one head, wider before RoPE than all else is",
                       SPEC(LATENT, .heads = 1, .kv_heads = 1, .head_dim = 520, .rope_dim = 8,
                            .latent = 32, .value = 16),
                       STEPS(no_latent_norm));
    check_architecture("deepseek2: f16 matrices",
                       SPEC(SMALL_LATENT, .q_rank = 20, .type = GQA_TYPE_F16),
                       STEPS(no_latent_norm));
    check_architecture("deepseek2: many heads, a cache in f16",
                       SPEC(SMALL_LATENT, .heads = 11, .kv = "f16", .cache = REF_F16,
                            .tolerance = 2e-3),
                       STEPS(no_latent_norm));
    check_architecture("deepseek2: a cache in q8_0, rotated",
                       SPEC(LATENT, .rope_dim = 32, .head_dim = 48, .latent = 64, .value = 16,
                            .kv = "q8_0", .cache = REF_Q8_0, .tolerance = 1e-2),
                       STEPS(no_latent_norm));
    check_architecture("deepseek2: matrices in q8_0",
                       SPEC(LATENT_Q8, .tolerance = 8e-2),
                       STEPS(no_latent_norm));
}

static void no_shared_key(ref_model *m) { m->layers[1].wv = m->layers[0].wv; }
static void own_keys(ref_model *m) { m->layers[1].wk = m->layers[0].wk; }
static void no_rope(ref_model *m) { m->layers[1].no_rope = 1; }

/* One row a KV head in the runtime, expanded to MHA in the reference. */
static void check_tied(void) {
#define GTA .arch = "gta", .head_dim = 16, .rope_dim = 8
#define WIDE_GTA .arch = "gta", .dim = 64, .head_dim = 64, .rope_dim = 32, .layers = 1
    check_architecture("gta: keys and values out of one row a KV head",
                       SPEC(GTA), STEPS(no_shared_key, own_keys, other_half, no_rope));
    check_architecture("gta: one KV head, a window", SPEC(GTA, .kv_heads = 1, .window = 40),
                       STEPS(no_window, no_shared_key));
    check_architecture("gta: as many KV heads as heads, heads by layer",
                       SPEC(GTA, .kv_heads = 4, .vary = 1), STEPS(no_shared_key));
    check_architecture("gta: a cache in f16",
                       SPEC(GTA, .kv = "f16", .cache = REF_F16, .tolerance = 2e-3),
                       STEPS(no_shared_key));
    check_architecture("gta: a cache in q8_0, rotated by halves",
                       SPEC(WIDE_GTA, .kv = "q8_0", .cache = REF_Q8_0, .tolerance = 1e-2),
                       STEPS(other_half));
    check_architecture("gta: a cache in q4_0",
                       SPEC(WIDE_GTA, .kv = "q4_0", .cache = REF_Q4_0, .tolerance = 2e-3),
                       STEPS(other_half));
    check_architecture("gta: matrices in q8_0",
                       SPEC(GTA_Q8, .tolerance = 8e-2),
                       STEPS(no_shared_key));
}

/* Rows that are K and V at once, in every type of cache. */
static void check_shared_rows(void) {
#define ONE_LATENT .arch = "deepseek2", .layers = 1
    check_architecture("deepseek2: a cache in q4_0",
                       SPEC(ONE_LATENT, .rope_dim = 32, .head_dim = 48, .latent = 64, .value = 16,
                            .kv = "q4_0", .cache = REF_Q4_0, .tolerance = 1e-2),
                       STEPS(other_half));
    check_architecture("deepseek2: a cache in bf16",
                       SPEC(SMALL_LATENT, .kv = "bf16", .cache = REF_BF16, .tolerance = 1e-2),
                       STEPS(no_latent_norm));
    check_architecture("deepseek2: a cache in q8_0, the latent no whole blocks",
                       SPEC(LATENT, .rope_dim = 32, .head_dim = 48, .latent = 80, .value = 16,
                            .kv = "q8_0", .cache = REF_Q8_0, .tolerance = 1e-2),
                       STEPS(no_latent_norm));
    check_architecture("deepseek2: a cache in q4_0, RoPE no whole block",
                       SPEC(ONE_LATENT, .head_dim = 28, .rope_dim = 12, .latent = 32, .value = 16,
                            .kv = "q4_0", .cache = REF_Q4_0, .tolerance = 1e-2),
                       STEPS(other_half));
    check_architecture("gta: a cache in bf16",
                       SPEC(GTA, .kv = "bf16", .cache = REF_BF16, .tolerance = 2e-2),
                       STEPS(no_shared_key));
    check_architecture("gta: a cache in q8_0, of halves that are no whole blocks",
                       SPEC(GTA, .kv = "q8_0", .cache = REF_Q8_0, .tolerance = 1e-2),
                       STEPS(no_shared_key));
    check_architecture("gta: a cache in q4_0, rows of a block and a half",
                       SPEC(.arch = "gta", .dim = 48, .head_dim = 48, .rope_dim = 24, .layers = 1,
                            .kv = "q4_0", .cache = REF_Q4_0, .tolerance = 1e-2),
                       STEPS(other_half));
}

/* Two planes everywhere. */
static void check_exact(void) {
    check_architecture("gemma4 of q8_0, exact",
                       SPEC(GEMMA4_Q8, .exact = 1, .tolerance = 2e-3),
                       STEPS(nothing_for_layers, no_norm_v));
    check_architecture("deepseek2 of q8_0, exact",
                       SPEC(LATENT_Q8, .exact = 1, .tolerance = 1e-3),
                       STEPS(no_latent_norm));
    check_architecture("gta of q8_0, exact",
                       SPEC(GTA_Q8, .exact = 1, .tolerance = 1e-3),
                       STEPS(no_shared_key));
}

/* Converted to f32, which it is already, a model computes the same. */
static void check_converted(const char *name, spec s) {
    s.layers = 5;
    s.seed = 78;
    complete(&s);
    TEST(name) {
        twin *t = make_twin(&s);
        gqa_error err = {0};
        gqa_checkpoint c = {0};
        gqa_convert_options o = {.type = GQA_TYPE_F32};
        uint8_t *data = NULL;
        size_t size = 0;
        float want[64] = {0}, got[64] = {1};
        int32_t *tokens = random_tokens(s.tokens, s.vocab);
        int status = gqa_checkpoint_read(&c, t->image, t->size, "twin", &err);
        if (!status) status = gqa_convert(&c, &o, NULL, &data, &size, &err);
        CHECK(status == 0, "%s", err.message);
        last_logits(t->image, t->size, tokens, s.tokens, want);
        last_logits(data, size, tokens, s.tokens, got);
        CHECK(!memcmp(want, got, sizeof *want * (size_t)s.vocab), "the same logits");
        o.kv_heads = 1;
        status = gqa_convert(&c, &o, NULL, &data, &size, &err);
        CHECK(status == GQA_ERR_UNSUPPORTED, "pooling: %d", status);
        CHECK_HAS(err.message, "cannot be pooled");
        gqa_checkpoint_free(&c);
        free(data);
        free(tokens);
        free_twin(t);
    }
}

/* gemma4's types as q4_k_m, where rows are whole blocks of 32 only: what llama_model_quantize of
 * llama.cpp makes of such a model. V is counted among the layers that have one. */
static void check_mixture(void) {
    static const struct {
        const char *name;
        int type;
    } wanted[] = {
        {"token_embd.weight", GQA_TYPE_Q8_0}, {"per_layer_token_embd.weight", GQA_TYPE_Q8_0},
        {"per_layer_model_proj.weight", GQA_TYPE_F32}, {"blk.1.attn_v.weight", GQA_TYPE_Q5_0},
        {"blk.2.attn_v.weight", GQA_TYPE_Q8_0}, {"blk.3.attn_v.weight", GQA_TYPE_Q8_0},
        {"blk.3.ffn_down.weight", GQA_TYPE_Q5_0}, {"blk.5.ffn_down.weight", GQA_TYPE_Q8_0},
        {"blk.6.inp_gate.weight", GQA_TYPE_Q5_0}, {"blk.6.proj.weight", GQA_TYPE_Q5_0},
    };
    spec s = SPEC(.arch = "gemma4", GEMMA4, .shared = 3, .per_layer = 32, .dim = 64, .ffn = 64,
                  .layers = LAYERS, .seed = 79);
    complete(&s);
    twin *t = make_twin(&s);
    gqa_error err = {0};
    gqa_checkpoint c = {0}, out = {0};
    gqa_convert_options o = {.type = GQA_TYPE_Q4_K, .is_mixture = 1};
    uint8_t *data = NULL;
    size_t size = 0;
    int status = gqa_checkpoint_read(&c, t->image, t->size, "twin", &err);
    if (!status) status = gqa_convert(&c, &o, NULL, &data, &size, &err);
    if (!status) status = gqa_checkpoint_read(&out, data, size, "q4_k_m", &err);
    CHECK(status == 0, "%s", err.message);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && !status; i++) {
        int type = gqa_checkpoint_tensor(&out, wanted[i].name)->type;
        CHECK(type == wanted[i].type, "%s: %s, expected %s", wanted[i].name, gqa_type_name(type),
              gqa_type_name(wanted[i].type));
    }
    gqa_checkpoint_free(&c);
    gqa_checkpoint_free(&out);
    free(data);
    free_twin(t);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_gemmas();
    check_scaled();
    check_others();
    check_caches();
    check_latent();
    check_tied();
    check_architecture("exaone4: RoPE in all layers where none has the window",
                       SPEC(.arch = "exaone4", .window = 30, .pattern = 1, .pattern_key = 2),
                       STEPS(other_half));
    check_exact();
    check_shared_rows();
    check_converted("converted: gta", SPEC(.arch = "gta", .head_dim = 16, .rope_dim = 8));
    check_converted("converted: KV heads, FFN widths and windows by layer",
                    SPEC(.vary = 1, .window = 30, .pattern = 3, .pattern_key = 2));
    check_converted("converted: fused matrices", SPEC(.arch = "phi3"));
    check_converted("converted: norms of whole rows", SPEC(.arch = "olmo2"));
    TEST("gemma4 as q4_k_m") check_mixture();
    TEST("phi3: no cache crosses the border of the original context") check_long_factors();
    return test_end();
}
