/* test_forward.c: the runtime's logits against the double-precision reference (reference.c) on random models: every kind of
 * attention, odd shapes, both rotary layouts, biases, QK norms, all weight and cache types, windows, rope scaling; whole
 * prompts against token by token; one thread against several; GQA against MHA with its KV heads repeated. */
#include "test.h"

#include "../formats/gguf.h"
#include "../kernels/tensor.h"
#include "reference.h"

typedef struct spec {
    const char *arch;
    int dim, layers, heads, kv_heads, head_dim, ffn, vocab, type, untied, window, rope_dim;
    const char *scaling;       /* "linear", "yarn"; NULL */
    int rope_factors;
    int mixed_type;            /* of V and down matrices, as Q4_K_M files have them; 0: type */
} spec;

/* A random model as a GGUF image and as the reference sees it. */
typedef struct twin {
    spec s;
    ref_model ref;
    ref_layer layers[4];
    uint8_t *image;
    size_t size;
    float *floats[64];         /* memory of the reference's arrays */
    int n_floats;
    gguf_writer *w;
    int declare;               /* first pass: declare tensors; second: write them */
    uint64_t seed;
} twin;

static int is_int8(int type) { return type != GQA_TYPE_F32 && type != GQA_TYPE_F16 && type != GQA_TYPE_BF16; }

/* One tensor: random values, stored as type; returns the floats that the file then holds. rows 0: a vector around `middle`. */
static const float *tensor(twin *t, const char *name, int type, int rows, int cols, float middle) {
    uint64_t dims[2] = {(uint64_t)cols, (uint64_t)(rows ? rows : 1)}, n = dims[0] * dims[1];
    if (t->declare) {
        gguf_declare_tensor(t->w, name, rows ? type : GQA_TYPE_F32, rows ? 2 : 1, dims);
        return NULL;
    }
    if (!rows) type = GQA_TYPE_F32;
    float *values = malloc(sizeof(float) * n);
    uint8_t *stored = malloc(4 * n);
    for (uint64_t i = 0; i < n; i++) values[i] = rows ? test_random(&t->seed) * 2.2f / sqrtf((float)cols) : middle + 0.4f * test_random(&t->seed);
    gqa_quantize(type, values, stored, n);
    gguf_write_tensor_data(t->w, stored, gqa_type_bytes(type, n));
    CHECK(ref_dequantize(type, stored, values, n) == 0, "reference knows type %d", type);
    free(stored);
    t->floats[t->n_floats++] = values;
    return values;
}

static ref_matrix typed_matrix(twin *t, const char *name, int type, int rows, int cols) {
    return (ref_matrix){tensor(t, name, type, rows, cols, 0), rows, cols, is_int8(type)};
}
static ref_matrix matrix(twin *t, const char *name, int rows, int cols) { return typed_matrix(t, name, t->s.type, rows, cols); }

static void all_tensors(twin *t) {
    const spec *s = &t->s;
    int mixed = s->mixed_type ? s->mixed_type : s->type;
    int q_dim = s->heads * s->head_dim, kv_dim = s->kv_heads * s->head_dim;
    char name[64];
#define NAME(suffix) (snprintf(name, sizeof name, "blk.%d." suffix, l), name)
    t->ref.embedding = tensor(t, "token_embd.weight", s->type, s->vocab, s->dim, 0);
    for (int l = 0; l < s->layers; l++) {
        ref_layer *y = &t->layers[l];
        y->attn_norm = tensor(t, NAME("attn_norm.weight"), 0, 0, s->dim, 1);
        y->wq = matrix(t, NAME("attn_q.weight"), q_dim, s->dim);
        y->wk = matrix(t, NAME("attn_k.weight"), kv_dim, s->dim);
        y->wv = typed_matrix(t, NAME("attn_v.weight"), mixed, kv_dim, s->dim);
        if (!strcmp(s->arch, "qwen2")) {
            y->bq = tensor(t, NAME("attn_q.bias"), 0, 0, q_dim, 0.1f);
            y->bk = tensor(t, NAME("attn_k.bias"), 0, 0, kv_dim, 0.1f);
            y->bv = tensor(t, NAME("attn_v.bias"), 0, 0, kv_dim, 0.1f);
        }
        if (!strcmp(s->arch, "qwen3")) {
            y->q_norm = tensor(t, NAME("attn_q_norm.weight"), 0, 0, s->head_dim, 1);
            y->k_norm = tensor(t, NAME("attn_k_norm.weight"), 0, 0, s->head_dim, 1);
        }
        y->wo = matrix(t, NAME("attn_output.weight"), s->dim, q_dim);
        y->ffn_norm = tensor(t, NAME("ffn_norm.weight"), 0, 0, s->dim, 1);
        y->w_gate = matrix(t, NAME("ffn_gate.weight"), s->ffn, s->dim);
        y->w_up = matrix(t, NAME("ffn_up.weight"), s->ffn, s->dim);
        y->w_down = typed_matrix(t, NAME("ffn_down.weight"), mixed, s->dim, s->ffn);
    }
    t->ref.output_norm = tensor(t, "output_norm.weight", 0, 0, s->dim, 1);
    t->ref.classifier = (ref_matrix){t->ref.embedding, s->vocab, s->dim, is_int8(s->type)};
    if (s->untied) t->ref.classifier = matrix(t, "output.weight", s->vocab, s->dim);
    if (s->rope_factors) t->ref.rope_factors = tensor(t, "rope_freqs.weight", 0, 0, (s->rope_dim ? s->rope_dim : s->head_dim) / 2, 2);
}

static twin *make_twin(const spec *s, uint64_t seed) {
    twin *t = calloc(1, sizeof *t);
    gqa_error err = {0};
    gqa_config c = {.dim = s->dim, .n_layers = s->layers, .n_heads = s->heads, .n_kv_heads = s->kv_heads, .head_dim = s->head_dim, .ffn_dim = s->ffn,
                    .vocab_size = s->vocab, .context_length = 4096, .window = s->window, .rope_dim = s->rope_dim ? s->rope_dim : s->head_dim,
                    .rope_theta = 500, .norm_eps = 1e-5f, .rope_factor = 4, .rope_attn_factor = 1, .rope_beta_fast = 32, .rope_beta_slow = 1, .rope_orig_context = 64};
    snprintf(c.architecture, sizeof c.architecture, "%s", s->arch);
    if (s->scaling) c.rope_scaling = !strcmp(s->scaling, "yarn") ? GQA_ROPE_YARN : GQA_ROPE_LINEAR;
    *t = (twin){.s = *s, .seed = seed, .declare = 1};
    t->ref = (ref_model){.dim = s->dim, .n_layers = s->layers, .n_heads = s->heads, .n_kv_heads = s->kv_heads, .head_dim = s->head_dim, .ffn_dim = s->ffn,
                         .vocab = s->vocab, .window = s->window, .rope_dim = c.rope_dim, .rope_half = strcmp(s->arch, "llama") != 0, .rope_theta = 500,
                         .norm_eps = (double)c.norm_eps, .scaling = !s->scaling ? REF_PLAIN : c.rope_scaling == GQA_ROPE_YARN ? REF_YARN : REF_LINEAR,
                         .factor = 4, .attn_factor = 1, .beta_fast = 32, .beta_slow = 1, .orig_context = 64, .layers = t->layers};
    t->w = gguf_writer_new(NULL, &err);
    gguf_put_config(t->w, &c);
    all_tensors(t);
    t->declare = 0;
    all_tensors(t);
    CHECK(gguf_finish_memory(t->w, &t->image, &t->size, &err) == 0, "%s", err.message);
    return t;
}

static void free_twin(twin *t) {
    for (int i = 0; i < t->n_floats; i++) free(t->floats[i]);
    free(t->image);
    free(t);
}

/* Logits of all n tokens, the prompt given in pieces of `piece` tokens. */
static float *run_model(const twin *t, const char *isa, const char *kv, int threads, int batch, int piece, int no_repack, const int32_t *tokens, int n) {
    gqa_error err = {0};
    gqa_model *m = gqa_model_from_memory(t->image, t->size, &(gqa_model_options){.isa = isa, .n_threads = threads, .no_repack = no_repack}, &err);
    gqa_session *s = m ? gqa_session_new(m, &(gqa_session_options){.context = n, .kv = kv, .n_threads = threads, .batch = batch}, &err) : NULL;
    float *logits = malloc(sizeof(float) * (size_t)n * (size_t)t->s.vocab);
    CHECK(s != NULL, "%s", err.message);
    for (int i = 0; s && i < n; i += piece)
        CHECK(gqa_session_eval_all(s, tokens + i, n - i < piece ? n - i : piece, logits + (size_t)i * (size_t)t->s.vocab, &err) == 0, "%s", err.message);
    gqa_session_free(s);
    gqa_model_close(m);
    return logits;
}

static int32_t *some_tokens(int n, int vocab) {
    int32_t *tokens = malloc(sizeof *tokens * (size_t)n);
    uint64_t seed = 99;
    for (int i = 0; i < n; i++) tokens[i] = (int32_t)(test_random_bits(&seed) % (uint64_t)vocab);
    return tokens;
}

static const char *name_of(const spec *s, char buf[160]) {
    snprintf(buf, 160, "%s %s dim %d heads %d/%d x %d ffn %d%s window %d %s", s->arch, gqa_type_name(s->type), s->dim, s->heads, s->kv_heads, s->head_dim, s->ffn,
             s->untied ? " untied" : "", s->window, s->scaling ? s->scaling : s->rope_factors ? "rope factors" : "");
    return buf;
}

/* A model of that spec, on every instruction set, whole and in pieces, against the reference. */
static void compare(const spec *s, const char *kv, ref_cache cache, int n, double tolerance, uint64_t seed) {
    static const char *const isas[] = {"scalar", "avx2", "avx512", "neon"};
    char name[160];
    twin *t = make_twin(s, seed);
    size_t count = (size_t)n * (size_t)s->vocab;
    int32_t *tokens = some_tokens(n, s->vocab);
    double *want = malloc(sizeof *want * count);
    t->ref.cache = cache;
    ref_forward(&t->ref, tokens, n, want);
    for (int i = 0; i < 4; i++) {
        gqa_error err = {0};
        gqa_model *m = gqa_model_from_memory(t->image, t->size, &(gqa_model_options){.isa = isas[i], .n_threads = 1}, &err);
        if (!m) { CHECK(err.code == GQA_ERR_UNSUPPORTED && i > 0, "%s: %s", name_of(s, name), err.message); continue; }
        gqa_model_close(m);
        float *whole = run_model(t, isas[i], kv, 1, 0, n, 0, tokens, n), *single = run_model(t, isas[i], kv, 1, 0, 1, 0, tokens, n);
        double d1 = ref_distance(whole, want, count), d2 = ref_distance(single, want, count);
        CHECK(d1 < tolerance, "%s, %s, kv %s, %d tokens at once: %g", isas[i], name_of(s, name), kv, n, d1);
        CHECK(d2 < tolerance, "%s, %s, kv %s, %d tokens one by one: %g", isas[i], name_of(s, name), kv, n, d2);
        for (int threads = 2; threads <= 3; threads++) {
            float *other = run_model(t, isas[i], kv, threads, 0, n, 0, tokens, n);
            CHECK(!memcmp(whole, other, sizeof(float) * count), "%s, %s: 1 and %d threads differ", isas[i], name_of(s, name), threads);
            free(other);
        }
        float *raw = run_model(t, isas[i], kv, 2, 0, n, 1, tokens, n), *batches = run_model(t, isas[i], kv, 2, 7, n, 0, tokens, n);
        CHECK(!memcmp(whole, raw, sizeof(float) * count), "%s, %s: without repacking differs", isas[i], name_of(s, name));
        double d3 = ref_distance(batches, want, count);
        CHECK(d3 < tolerance, "%s, %s, batches of 7: %g", isas[i], name_of(s, name), d3);
        free(whole); free(single); free(raw); free(batches);
    }
    free(tokens);
    free(want);
    free_twin(t);
}

static void test_grid(void) {
    static const struct { int heads, kv_heads, head_dim, dim; } shapes[] = {
        {4, 4, 6, 24}, {6, 3, 8, 48}, {6, 2, 10, 56}, {7, 1, 4, 28}, {8, 1, 8, 40}, {14, 2, 4, 56}, {16, 2, 6, 96}, {4, 2, 16, 24}, {5, 5, 2, 17}};
    static const char *const archs[] = {"llama", "qwen2", "qwen3"};
    static const int floats[] = {GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16}, prompts[] = {1, 2, 31, 32, 33};
    uint64_t seed = 1;
    int turn = 0;
    for (int i = 0; i < 9; i++)
        for (int a = 0; a < 3; a++, turn++) {
            spec s = {archs[a], shapes[i].dim, 2, shapes[i].heads, shapes[i].kv_heads, shapes[i].head_dim, 33 + i, 37 + 13 * i, floats[turn % 3], turn % 2, 0, 0, NULL, 0, 0};
            compare(&s, "f32", REF_EXACT, prompts[turn % 5], 1e-4, seed++);
            if (i < 3) compare(&s, "f32", REF_EXACT, prompts[(turn + 3) % 5], 1e-4, seed++);
        }
    compare(&(spec){"llama", 48, 2, 6, 2, 8, 50, 61, GQA_TYPE_F32, 1, 0, 0, NULL, 0, 0}, "f32", REF_EXACT, 300, 1e-4, 77);
    compare(&(spec){"qwen3", 24, 1, 4, 1, 8, 50, 61, GQA_TYPE_F16, 0, 0, 0, NULL, 0, 0}, "f32", REF_EXACT, 600, 1e-4, 78);
    compare(&(spec){"llama", 24, 2, 4, 2, 8, 20, 41, GQA_TYPE_F32, 0, 13, 0, NULL, 0, 0}, "f32", REF_EXACT, 300, 1e-4, 79);
    compare(&(spec){"llama", 24, 2, 4, 2, 8, 20, 41, GQA_TYPE_F32, 0, 64, 0, NULL, 0, 0}, "f32", REF_EXACT, 200, 1e-4, 80);
    compare(&(spec){"llama", 24, 2, 4, 2, 8, 20, 41, GQA_TYPE_F32, 0, 0, 0, "linear", 0, 0}, "f32", REF_EXACT, 100, 1e-4, 81);
    compare(&(spec){"llama", 64, 2, 4, 2, 16, 20, 41, GQA_TYPE_F32, 0, 0, 0, "yarn", 0, 0}, "f32", REF_EXACT, 100, 1e-4, 82);
    compare(&(spec){"qwen2", 64, 2, 4, 2, 16, 20, 41, GQA_TYPE_F32, 0, 0, 0, "yarn", 0, 0}, "f32", REF_EXACT, 100, 1e-4, 83);
    compare(&(spec){"llama", 24, 2, 4, 2, 8, 20, 41, GQA_TYPE_F32, 0, 0, 0, NULL, 1, 0}, "f32", REF_EXACT, 100, 1e-4, 84);
    compare(&(spec){"llama", 24, 2, 4, 2, 8, 20, 41, GQA_TYPE_F32, 0, 0, 4, NULL, 0, 0}, "f32", REF_EXACT, 100, 1e-4, 85);
}

/* Activations are rounded to int8 in runtime and reference alike; a value on the edge may round differently and the layers
 * pass that on, hence the wide bound on the worst logit (in units of their root mean square); test_kernels.c is strict. */
static void test_quantised(void) {
    static const int types[] = {GQA_TYPE_Q8_0, GQA_TYPE_Q4_0, GQA_TYPE_Q5_0, GQA_TYPE_Q4_K, GQA_TYPE_Q5_K, GQA_TYPE_Q6_K};
    for (int i = 0; i < 6; i++) {
        int wide = i >= 3;
        compare(&(spec){i % 2 ? "llama" : "qwen3", wide ? 256 : 96, 2, 8, 2, 32, wide ? 512 : 160, 70, types[i], i % 2, 0, 0, NULL, 0, 0}, "f32", REF_EXACT, 33, 8e-2, 200 + (uint64_t)i);
    }
    /* Files of several types: Q4_K_M's pair, and what stands in where rows are not a multiple of 256. */
    compare(&(spec){"llama", 256, 2, 8, 2, 32, 512, 70, GQA_TYPE_Q4_K, 1, 0, 0, NULL, 1, GQA_TYPE_Q6_K}, "f32", REF_EXACT, 33, 8e-2, 210);
    compare(&(spec){"qwen2", 96, 2, 4, 1, 24, 160, 70, GQA_TYPE_Q5_0, 0, 0, 0, NULL, 0, GQA_TYPE_Q8_0}, "f32", REF_EXACT, 33, 8e-2, 211);
    compare(&(spec){"qwen3", 96, 2, 7, 1, 32, 160, 70, GQA_TYPE_F16, 0, 0, 0, NULL, 0, GQA_TYPE_Q8_0}, "f32", REF_EXACT, 33, 8e-2, 212);
    spec s = {"llama", 64, 2, 4, 2, 32, 48, 70, GQA_TYPE_F32, 0, 0, 0, NULL, 0, 0};
    compare(&s, "f16", REF_F16, 70, 2e-3, 301);
    compare(&s, "bf16", REF_BF16, 70, 1e-2, 302);
    compare(&s, "q8_0", REF_Q8_0, 70, 1e-2, 303);
    compare(&s, "q4_0", REF_Q4_0, 70, 1e-1, 304);
}

int main(void) {
    test_grid();
    test_quantised();
    return test_end();
}
