/* test_forward.c: the runtime's logits against the double-precision reference (reference.c) on
 * random models: every kind of attention, odd shapes, both rotary layouts, biases, QK norms, all
 * weight and cache types, windows, RoPE scaling; whole prompts against token by token; one thread
 * against several; repacked weights against those of the file. */
#include "test.h"

#include "../formats/gguf.h"
#include "../kernels/tensor.h"
#include "reference.h"

/* A model, and how it is run. What is 0 or NULL gets the value of `base`. */
typedef struct spec {
    const char *arch;
    int dim, layers, heads, kv_heads, head_dim, ffn, vocab;
    int type;                /* of matrices; 0 is f32 */
    int mixed_type;          /* of V and down matrices, as Q4_K_M files have them; 0: type */
    int untied;              /* a classifier of its own */
    int window;              /* 0: none */
    int rope_dim;            /* 0: head_dim */
    int rope_freqs;          /* with a tensor of divisors of the frequencies */
    gqa_rope_scaling scaling;
    float theta, eps;
    float factor, attn_factor, beta_fast, beta_slow;
    int orig_context;
    const char *kv;          /* cache type */
    ref_cache cache;         /* the same for the reference; 0: exact */
    int tokens;
    double tolerance;        /* on the worst logit, in units of their root mean square */
    uint64_t seed;
} spec;

static const spec base = {
    .arch = "llama", .dim = 24, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8, .ffn = 20,
    .vocab = 41, .theta = 500, .eps = 1e-5f, .factor = 4, .attn_factor = 1, .beta_fast = 32,
    .beta_slow = 1, .orig_context = 64, .kv = "f32", .tokens = 100, .tolerance = 1e-4,
};

static void complete(spec *s) {
#define DEFAULT(field) if (!s->field) s->field = base.field
    DEFAULT(arch);
    DEFAULT(dim);
    DEFAULT(layers);
    DEFAULT(heads);
    DEFAULT(kv_heads);
    DEFAULT(head_dim);
    DEFAULT(ffn);
    DEFAULT(vocab);
    DEFAULT(theta);
    DEFAULT(eps);
    DEFAULT(factor);
    DEFAULT(attn_factor);
    DEFAULT(beta_fast);
    DEFAULT(beta_slow);
    DEFAULT(orig_context);
    DEFAULT(kv);
    DEFAULT(tokens);
    DEFAULT(tolerance);
#undef DEFAULT
    if (!s->mixed_type) s->mixed_type = s->type;
    if (!s->rope_dim) s->rope_dim = s->head_dim;
}

/* ---- a model, twice -------------------------------------------------------------------------- */

/* A random model as a GGUF image and as the reference sees it. */
typedef struct twin {
    spec s;
    ref_model ref;
    ref_layer layers[4];
    uint8_t *image;
    size_t size;
    float *floats[64];       /* memory of the reference's arrays */
    int n_floats;
    gguf_writer *w;
    int declare;             /* first pass: declare tensors; second: write them */
    uint64_t seed;
} twin;

static int is_int8(int type) {
    return type != GQA_TYPE_F32 && type != GQA_TYPE_F16 && type != GQA_TYPE_BF16;
}

/* Stores values[n] as type, and makes them what the file then holds. */
static void store(twin *t, int type, float *values, size_t n) {
    uint8_t *stored = malloc(4 * n);
    gqa_quantize(type, values, stored, n);
    gguf_write_tensor_data(t->w, stored, gqa_type_bytes(type, n));
    CHECK(ref_dequantize(type, stored, values, n) == 0, "reference knows type %d", type);
    free(stored);
}

/* A random tensor [dims]: values of +- range around the middle. NULL while declaring. */
static const float *tensor(twin *t, const char *name, int type, int n_dims, const uint64_t *dims,
                           float middle, float range) {
    if (t->declare) {
        gguf_declare_tensor(t->w, name, type, n_dims, dims);
        return NULL;
    }
    size_t n = (size_t)(dims[0] * dims[1]);
    float *values = malloc(sizeof(float) * n);
    for (size_t i = 0; i < n; i++) values[i] = middle + range * test_random(&t->seed);
    store(t, type, values, n);
    t->floats[t->n_floats++] = values;
    return values;
}

static const float *vector(twin *t, const char *name, int n, float middle) {
    return tensor(t, name, GQA_TYPE_F32, 1, (uint64_t[]){(uint64_t)n, 1}, middle, 0.4f);
}

static ref_matrix typed_matrix(twin *t, const char *name, int type, int rows, int cols) {
    uint64_t dims[] = {(uint64_t)cols, (uint64_t)rows};
    const float *w = tensor(t, name, type, 2, dims, 0, 2.2f / sqrtf((float)cols));
    return (ref_matrix){w, rows, cols, is_int8(type)};
}

static ref_matrix matrix(twin *t, const char *name, int rows, int cols) {
    return typed_matrix(t, name, t->s.type, rows, cols);
}

static void layer_tensors(twin *t, int l) {
    const spec *s = &t->s;
    ref_layer *y = &t->layers[l];
    int q_dim = s->heads * s->head_dim, kv_dim = s->kv_heads * s->head_dim;
    char name[64];
#define NAME(suffix) (snprintf(name, sizeof name, "blk.%d." suffix, l), name)
    y->attn_norm = vector(t, NAME("attn_norm.weight"), s->dim, 1);
    y->wq = matrix(t, NAME("attn_q.weight"), q_dim, s->dim);
    y->wk = matrix(t, NAME("attn_k.weight"), kv_dim, s->dim);
    y->wv = typed_matrix(t, NAME("attn_v.weight"), s->mixed_type, kv_dim, s->dim);
    if (!strcmp(s->arch, "qwen2")) {
        y->bq = vector(t, NAME("attn_q.bias"), q_dim, 0.1f);
        y->bk = vector(t, NAME("attn_k.bias"), kv_dim, 0.1f);
        y->bv = vector(t, NAME("attn_v.bias"), kv_dim, 0.1f);
    }
    if (!strcmp(s->arch, "qwen3")) {
        y->q_norm = vector(t, NAME("attn_q_norm.weight"), s->head_dim, 1);
        y->k_norm = vector(t, NAME("attn_k_norm.weight"), s->head_dim, 1);
    }
    y->wo = matrix(t, NAME("attn_output.weight"), s->dim, q_dim);
    y->ffn_norm = vector(t, NAME("ffn_norm.weight"), s->dim, 1);
    y->w_gate = matrix(t, NAME("ffn_gate.weight"), s->ffn, s->dim);
    y->w_up = matrix(t, NAME("ffn_up.weight"), s->ffn, s->dim);
    y->w_down = typed_matrix(t, NAME("ffn_down.weight"), s->mixed_type, s->dim, s->ffn);
#undef NAME
}

static void all_tensors(twin *t) {
    const spec *s = &t->s;
    ref_matrix embedding = matrix(t, "token_embd.weight", s->vocab, s->dim);
    for (int l = 0; l < s->layers; l++) layer_tensors(t, l);
    t->ref.embedding = embedding.w;
    t->ref.output_norm = vector(t, "output_norm.weight", s->dim, 1);
    t->ref.classifier = embedding;
    if (s->untied) t->ref.classifier = matrix(t, "output.weight", s->vocab, s->dim);
    if (s->rope_freqs) t->ref.rope_factors = vector(t, "rope_freqs.weight", s->rope_dim / 2, 2);
}

static gqa_config config_of(const spec *s) {
    gqa_config c = {
        .dim = s->dim, .n_layers = s->layers, .n_heads = s->heads, .n_kv_heads = s->kv_heads,
        .head_dim = s->head_dim, .ffn_dim = s->ffn, .vocab_size = s->vocab, .window = s->window,
        .context_length = 4096, .norm_eps = s->eps, .rope_dim = s->rope_dim, .rope_theta = s->theta,
        .rope_scaling = s->scaling, .rope_factor = s->factor, .rope_attn_factor = s->attn_factor,
        .rope_beta_fast = s->beta_fast, .rope_beta_slow = s->beta_slow,
        .rope_orig_context = s->orig_context,
    };
    snprintf(c.architecture, sizeof c.architecture, "%s", s->arch);
    return c;
}

static ref_model reference_of(const spec *s) {
    static const ref_scaling scalings[] = {
        [GQA_ROPE_NONE] = REF_PLAIN, [GQA_ROPE_LINEAR] = REF_LINEAR, [GQA_ROPE_YARN] = REF_YARN,
    };
    return (ref_model){
        .dim = s->dim, .n_layers = s->layers, .n_heads = s->heads, .n_kv_heads = s->kv_heads,
        .head_dim = s->head_dim, .ffn_dim = s->ffn, .vocab = s->vocab, .window = s->window,
        .norm_eps = (double)s->eps, .rope_dim = s->rope_dim, .rope_theta = (double)s->theta,
        .rope_half = strcmp(s->arch, "llama") != 0, .scaling = scalings[s->scaling],
        .factor = (double)s->factor, .attn_factor = (double)s->attn_factor,
        .beta_fast = (double)s->beta_fast, .beta_slow = (double)s->beta_slow,
        .orig_context = s->orig_context, .cache = s->cache,
    };
}

static twin *make_twin(const spec *s) {
    twin *t = calloc(1, sizeof *t);
    gqa_error err = {0};
    gqa_config c = config_of(s);
    t->s = *s;
    t->seed = s->seed;
    t->ref = reference_of(s);
    t->ref.layers = t->layers;
    t->w = gguf_writer_new(NULL, &err);
    gguf_put_config(t->w, &c);
    t->declare = 1;
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

/* ---- running and comparing ------------------------------------------------------------------- */

typedef struct run_options {
    const char *isa;
    int threads;             /* 0: 1 */
    int batch;               /* 0: the default */
    int portion;             /* tokens given at once; 0: all */
    int no_repack;
} run_options;

/* Logits of all tokens [n, vocab]. */
static float *run_model(const twin *t, const int32_t *tokens, run_options o) {
    gqa_error err = {0};
    int n = t->s.tokens, threads = o.threads ? o.threads : 1, portion = o.portion ? o.portion : n;
    gqa_model_options mo = {.isa = o.isa, .n_threads = threads, .no_repack = o.no_repack};
    gqa_session_options so = {.context = n, .kv = t->s.kv, .n_threads = threads, .batch = o.batch};
    gqa_model *m = gqa_model_from_memory(t->image, t->size, &mo, &err);
    gqa_session *s = m ? gqa_session_new(m, &so, &err) : NULL;
    size_t vocab = (size_t)t->s.vocab;
    float *logits = malloc(sizeof(float) * (size_t)n * vocab);
    CHECK(s != NULL, "%s", err.message);
    for (int i = 0; s && i < n; i += portion) {
        int count = n - i < portion ? n - i : portion;
        int status = gqa_session_eval_all(s, tokens + i, count, logits + (size_t)i * vocab, &err);
        CHECK(status == 0, "%s", err.message);
    }
    gqa_session_free(s);
    gqa_model_close(m);
    return logits;
}
#define RUN(...) run_model(t, tokens, (run_options){.isa = isa, __VA_ARGS__})

/* Whether this machine has the instruction set. */
static int has_isa(const twin *t, const char *isa) {
    gqa_error err = {0};
    gqa_model_options o = {.isa = isa, .n_threads = 1};
    gqa_model *m = gqa_model_from_memory(t->image, t->size, &o, &err);
    if (!m) CHECK(err.code == GQA_ERR_UNSUPPORTED && strcmp(isa, "scalar"), "%s", err.message);
    gqa_model_close(m);
    return m != NULL;
}

/* On one instruction set: whole and in portions, by several threads, without repacking. */
static void compare(const twin *t, const char *isa, const int32_t *tokens, const double *want) {
    size_t count = (size_t)t->s.tokens * (size_t)t->s.vocab;
    float *whole = RUN(), *raw = RUN(.threads = 2, .no_repack = 1);
    const struct {
        const char *what;
        float *logits;
    } close[] = {
        {"all tokens at once", whole},
        {"one by one", RUN(.portion = 1)},
        {"batches of 7", RUN(.threads = 2, .batch = 7)},
    };
    for (int i = 0; i < 3; i++) {
        double distance = ref_distance(close[i].logits, want, count);
        CHECK(distance < t->s.tolerance, "%s, %s: %g", isa, close[i].what, distance);
    }
    for (int threads = 2; threads <= 3; threads++) {
        float *other = RUN(.threads = threads);
        CHECK(!memcmp(whole, other, sizeof(float) * count), "%s: 1 and %d threads differ", isa,
              threads);
        free(other);
    }
    CHECK(!memcmp(whole, raw, sizeof(float) * count), "%s: without repacking differs", isa);
    for (int i = 0; i < 3; i++) free(close[i].logits);
    free(raw);
}

static int32_t *random_tokens(int n, int vocab) {
    int32_t *tokens = malloc(sizeof *tokens * (size_t)n);
    uint64_t seed = 99;
    for (int i = 0; i < n; i++) tokens[i] = (int32_t)(test_random_bits(&seed) % (uint64_t)vocab);
    return tokens;
}

/* A model of that spec, on every instruction set, against the reference. */
static void check_spec(spec s) {
    static const char *const isas[] = {"scalar", "avx2", "avx512", "neon"};
    twin *t = make_twin(&s);
    int32_t *tokens = random_tokens(s.tokens, s.vocab);
    double *want = malloc(sizeof *want * (size_t)s.tokens * (size_t)s.vocab);
    ref_forward(&t->ref, tokens, s.tokens, want);
    for (int i = 0; i < 4; i++)
        if (has_isa(t, isas[i])) compare(t, isas[i], tokens, want);
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
#define SPEC(...) (spec){__VA_ARGS__}

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
 * test_kernels.c is strict. */
static void check_quantised(void) {
    static const int types[] = {GQA_TYPE_Q8_0, GQA_TYPE_Q4_0, GQA_TYPE_Q5_0,
                                GQA_TYPE_Q4_K, GQA_TYPE_Q5_K, GQA_TYPE_Q6_K};
    for (int i = 0; i < 6; i++) {
        int is_k_quant = i >= 3;
        check(gqa_type_name(types[i]),
              SPEC(.arch = i % 2 ? "llama" : "qwen3", .dim = is_k_quant ? 256 : 96, .heads = 8,
                   .head_dim = 32, .ffn = is_k_quant ? 512 : 160, .vocab = 70, .type = types[i],
                   .untied = i % 2, .tokens = 33, .tolerance = 8e-2));
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
    check("f16 and q8_0",
          SPEC(.arch = "qwen3", .dim = 96, .heads = 7, .kv_heads = 1, .head_dim = 32, .ffn = 160,
               .vocab = 70, .type = GQA_TYPE_F16, .mixed_type = GQA_TYPE_Q8_0, .tokens = 33,
               .tolerance = 8e-2));
}

static void check_caches(void) {
    static const struct {
        const char *kv;
        ref_cache cache;
        double tolerance;
    } caches[] = {
        {"f16", REF_F16, 2e-3},
        {"bf16", REF_BF16, 1e-2},
        {"q8_0", REF_Q8_0, 1e-2},
        {"q4_0", REF_Q4_0, 1e-1},
    };
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s cache", caches[i].kv);
        check(name, SPEC(.dim = 64, .head_dim = 32, .ffn = 48, .vocab = 70, .kv = caches[i].kv,
                         .cache = caches[i].cache, .tokens = 70,
                         .tolerance = caches[i].tolerance));
    }
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_grid();
    check_more_shapes();
    check_rope();
    check_quantised();
    check_caches();
    return test_end();
}
