/* twin.h: a random model twice: as a GGUF image for the runtime, and as the double-precision
 * reference (reference.c) sees it. */
#ifndef GQA_TEST_TWIN_H
#define GQA_TEST_TWIN_H

#include "test.h"

#include "../formats/gguf.h"
#include "../kernels/tensor.h"
#include "reference.h"

/* A model, and how it is run. What is 0 or NULL gets the value of `base`. */
typedef struct spec {
    const char *arch;
    int dim, layers, heads, kv_heads, head_dim, ffn, vocab;
    int type;                /* of matrices; 0 is f32 */
    int exact;               /* activations in two planes */
    int mixed_type;          /* of V and down matrices, as Q4_K_M files have them; 0: type */
    int untied;              /* a classifier of its own */
    int window;              /* 0: none */
    int pattern;             /* layers l with (l + 1) % pattern == 0 have no window; 0: the
                              * architecture's */
    int pattern_key;         /* 1: the pattern is in the file, 2: as an array of bool */
    int vary;                /* KV heads and FFN width differ from layer to layer */
    float embedding_scale, residual_scale, logit_scale, attention_scale; /* 0: no such key */
    float attention_softcap, logit_softcap, temperature, yarn_log_mul, theta_local;
    int local_head_dim, local_rope_dim; /* gemma4: of layers with a window */
    int shared;              /* last layers that use an earlier one's K and V */
    int v_is_k;              /* layers without a window have no attn_v */
    int per_layer;           /* width of the embeddings for each layer */
    int latent, q_rank, value; /* deepseek2; head_dim is then of a query head */
    int not_finetuned;       /* granite: no RoPE */
    int long_factors;        /* phi3: factors for short and long contexts */
    int rope_dim;            /* 0: head_dim */
    int rope_freqs;          /* with a tensor of divisors of the frequencies */
    gqa_rope_scaling scaling;
    float theta, eps;
    float factor, attn_factor, beta_fast, beta_slow;
    int orig_context;
    float outlier;           /* qwen2: of a channel of every KV head, in K's bias; 0: none */
    const char *kv;          /* cache type */
    ref_cache cache;         /* the same for the reference; 0: exact */
    ref_cache v_cache;       /* of values, where kv is K/V */
    int tokens;
    double tolerance;        /* on the worst logit, in units of their root mean square */
    uint64_t seed;
} spec;

static const spec base = {
    .arch = "llama", .dim = 24, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 8, .ffn = 20,
    .vocab = 41, .theta = 500, .eps = 1e-5f, .factor = 4, .attn_factor = 1, .beta_fast = 32,
    .beta_slow = 1, .orig_context = 64, .kv = "f32", .tokens = 100, .tolerance = 1e-4,
};

#define SPEC(...) (spec){__VA_ARGS__}

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
    if (!s->local_rope_dim) s->local_rope_dim = s->local_head_dim;
}

/* ---- architectures --------------------------------------------------------------------------- */

/* What an architecture does besides what llama does: the reference's own list. */
typedef struct traits {
    const char *name;
    int half, gelu, post_norms, no_pre_norms, fused, norm_v, output_scale, raw_scores, tied;
    int qk_norm;             /* 1 + the reference's qk_norm; 0: none */
    int pattern;             /* of windows */
    int no_rope;             /* layers l with (l + 1) % no_rope == 0 */
    double theta_local;
    double score_cap, logit_cap;
} traits;

static const traits *traits_of(const char *name) {
    enum { HEADS = 1 + REF_NORM_BEFORE, ROWS = 1 + REF_NORM_ROWS, LATE = 1 + REF_NORM_AFTER };
    static const traits list[] = {
        {.name = "llama"},
        {.name = "qwen2", .half = 1},
        {.name = "qwen3", .half = 1, .qk_norm = HEADS},
        {.name = "gemma", .half = 1, .gelu = 1},
        {.name = "gemma2", .half = 1, .gelu = 1, .post_norms = 1, .pattern = 2, .score_cap = 50,
         .logit_cap = 30},
        {.name = "gemma3", .half = 1, .gelu = 1, .post_norms = 1, .pattern = 6, .qk_norm = HEADS,
         .theta_local = 10000},
        {.name = "gemma4", .half = 1, .gelu = 1, .post_norms = 1, .qk_norm = HEADS, .norm_v = 1,
         .output_scale = 1, .raw_scores = 1, .logit_cap = 30},
        {.name = "smollm3", .no_rope = 4},
        {.name = "granite"},
        {.name = "minicpm"},
        {.name = "mistral3"},
        {.name = "ernie4_5"},
        {.name = "phi3", .half = 1, .fused = 1},
        {.name = "olmo2", .half = 1, .post_norms = 1, .no_pre_norms = 1, .qk_norm = ROWS,
         .pattern = 4},
        {.name = "exaone", .half = 1},
        {.name = "exaone4", .half = 1, .post_norms = 1, .no_pre_norms = 1, .qk_norm = HEADS,
         .pattern = 4},
        {.name = "hunyuan-dense", .half = 1, .qk_norm = LATE},
        {.name = "deepseek2"},
        {.name = "gta", .tied = 1},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (!strcmp(list[i].name, name)) return &list[i];
    return &list[0];
}

static int is_arch(const spec *s, const char *name) { return !strcmp(s->arch, name); }

static int pattern_of(const spec *s) {
    return s->pattern ? s->pattern : traits_of(s->arch)->pattern;
}

static int has_window(const spec *s, int l) {
    return s->window && (pattern_of(s) == 0 || (l + 1) % pattern_of(s) != 0);
}

static int head_dim_of(const spec *s, int l) {
    return s->local_head_dim && has_window(s, l) ? s->local_head_dim : s->head_dim;
}

static int owns_kv(const spec *s, int l) { return l < s->layers - s->shared; }
static int kv_heads_of(const spec *s, int l) { return s->vary && l % 2 ? 1 : s->kv_heads; }
static int ffn_of(const spec *s, int l) { return s->vary && l % 2 ? s->ffn / 2 : s->ffn; }

/* ---- a model, twice -------------------------------------------------------------------------- */

/* A random model as a GGUF image and as the reference sees it. */
typedef struct twin {
    spec s;
    ref_model ref;
    ref_layer layers[8];
    uint8_t *image;
    size_t size;
    float *floats[160];      /* memory of the reference's arrays */
    int n_floats;
    gguf_writer *w;
    int declare;             /* first pass: declare tensors; second: write them */
    uint64_t seed;
} twin;

/* Of activations beside weights of a type. */
static int planes_of(const twin *t, int type) {
    if (type == GQA_TYPE_F32 || type == GQA_TYPE_F16 || type == GQA_TYPE_BF16) return 0;
    return t->s.exact ? 2 : 1;
}

/* n values, mostly within +- range, of a type that is only read: random bytes with scales. */
static void random_blocks(twin *t, int type, uint8_t *out, size_t n, float range) {
    size_t step = (size_t)gqa_type_info_of(type)->bytes, bytes = (size_t)gqa_type_bytes(type, n);
    size_t at = type == GQA_TYPE_Q2_K ? 80 : type == GQA_TYPE_Q3_K ? 108 : 0;
    float size = type == GQA_TYPE_Q2_K ? 30 : type == GQA_TYPE_Q3_K ? 80 : 127; /* of x / d */
    if (type == GQA_TYPE_IQ4_XS) size *= 20;
    for (size_t i = 0; i < bytes; i++) out[i] = (uint8_t)test_random_bits(&t->seed);
    for (size_t b = 0; b < bytes; b += step) {
        float half = 0.5f + 0.5f * test_random(&t->seed); /* 0 to 1 */
        float d = range / size * (0.5f + 0.5f * half) * (b / step % 2 ? 1 : -1);
        const uint16_t scales[2] = {gqa_f32_to_f16(d), gqa_f32_to_f16(1.5f * d)};
        memcpy(out + b + at, scales, type == GQA_TYPE_Q2_K ? 4 : 2); /* q2_k has a dmin */
    }
}

/* Stores values[n], within +- range, as type, and makes them what the file then holds. */
static void store(twin *t, int type, float *values, size_t n, float range) {
    uint8_t *stored = malloc(4 * n);
    if (gqa_can_quantize(type)) gqa_quantize(type, values, stored, n);
    else random_blocks(t, type, stored, n, range);
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
    size_t n = (size_t)(dims[0] * dims[1] * (n_dims > 2 ? dims[2] : 1));
    float *values = malloc(sizeof(float) * n);
    for (size_t i = 0; i < n; i++) values[i] = middle + range * test_random(&t->seed);
    if (t->s.outlier && strstr(name, "attn_k.bias"))
        for (size_t i = 5; i < n; i += (size_t)t->s.head_dim) values[i] = t->s.outlier;
    store(t, type, values, n, range);
    t->floats[t->n_floats++] = values;
    return values;
}

static const float *vector(twin *t, const char *name, int n, float middle) {
    return tensor(t, name, GQA_TYPE_F32, 1, (uint64_t[]){(uint64_t)n, 1}, middle, 0.4f);
}

static ref_matrix typed_matrix(twin *t, const char *name, int type, int rows, int cols) {
    uint64_t dims[] = {(uint64_t)cols, (uint64_t)rows};
    const float *w = tensor(t, name, type, 2, dims, 0, 2.2f / sqrtf((float)cols));
    return (ref_matrix){w, rows, cols, planes_of(t, type)};
}

static ref_matrix matrix(twin *t, const char *name, int rows, int cols) {
    return typed_matrix(t, name, t->s.type, rows, cols);
}

/* Q, K and V, or the gate and up: `count` matrices, in one tensor when it has a name. */
static void matrices(twin *t, const char *fused, const char *const *names, const int *types,
                     const int *rows, int count, ref_matrix **out) {
    int all = 0, cols = t->s.dim;
    for (int i = 0; i < count; i++) all += rows[i];
    if (!fused) {
        for (int i = 0; i < count; i++)
            *out[i] = typed_matrix(t, names[i], types[i], rows[i], cols);
        return;
    }
    ref_matrix whole = matrix(t, fused, all, cols);
    for (int i = 0, first = 0; i < count; first += rows[i++]) {
        *out[i] = whole;
        if (whole.w) out[i]->w += (size_t)first * (size_t)cols;
        out[i]->rows = rows[i];
    }
}

/* The matrices [rows, cols] of every head, as one tensor. */
static ref_matrix head_matrices(twin *t, const char *name, int rows, int cols) {
    uint64_t dims[] = {(uint64_t)cols, (uint64_t)rows, (uint64_t)t->s.heads};
    const float *w = tensor(t, name, t->s.type, 3, dims, 0, 2.2f / sqrtf((float)cols));
    return (ref_matrix){w, rows, cols, planes_of(t, t->s.type)};
}

static void latent_tensors(twin *t, int l, ref_layer *y) {
    const spec *s = &t->s;
    int q_dim = s->heads * s->head_dim, low = s->q_rank ? s->q_rank : q_dim;
    char name[64];
#define NAME(suffix) (snprintf(name, sizeof name, "blk.%d." suffix, l), name)
    y->attn_norm = vector(t, NAME("attn_norm.weight"), s->dim, 1);
    y->wq = matrix(t, s->q_rank ? NAME("attn_q_a.weight") : NAME("attn_q.weight"), low, s->dim);
    if (s->q_rank) {
        y->q_rank_norm = vector(t, NAME("attn_q_a_norm.weight"), s->q_rank, 1);
        y->wq_b = matrix(t, NAME("attn_q_b.weight"), q_dim, s->q_rank);
    }
    y->wk = matrix(t, NAME("attn_kv_a_mqa.weight"), s->latent + s->rope_dim, s->dim);
    y->latent_norm = vector(t, NAME("attn_kv_a_norm.weight"), s->latent, 1);
    y->wk_b = head_matrices(t, NAME("attn_k_b.weight"), s->latent, s->head_dim - s->rope_dim);
    y->wv_b = head_matrices(t, NAME("attn_v_b.weight"), s->value, s->latent);
    y->wo = matrix(t, NAME("attn_output.weight"), s->dim, s->heads * s->value);
#undef NAME
}

static void attention_tensors(twin *t, int l, ref_layer *y) {
    const spec *s = &t->s;
    if (s->latent) {
        latent_tensors(t, l, y);
        return;
    }
    const traits *a = traits_of(s->arch);
    int d = head_dim_of(s, l), q_dim = s->heads * d, kv_dim = kv_heads_of(s, l) * d;
    int has_v = !s->v_is_k || has_window(s, l), n_matrices = owns_kv(s, l) ? 2 + has_v : 1;
    int by_rows = a->qk_norm == 1 + REF_NORM_ROWS;
    char name[64], names[3][64];
#define NAME(suffix) (snprintf(name, sizeof name, "blk.%d." suffix, l), name)
    const char *const parts[] = {names[0], names[1], names[2]};
    const char *const suffixes[] = {"q", a->tied ? "kv" : "k", a->tied ? "k_rope" : "v"};
    for (int i = 0; i < 3; i++)
        snprintf(names[i], sizeof names[i], "blk.%d.attn_%s.weight", l, suffixes[i]);
    if (!a->no_pre_norms) y->attn_norm = vector(t, NAME("attn_norm.weight"), s->dim, 1);
    matrices(t, a->fused ? NAME("attn_qkv.weight") : NULL, parts,
             (int[]){s->type, s->type, s->mixed_type},
             (int[]){q_dim, kv_dim, a->tied ? s->rope_dim : kv_dim},
             n_matrices, (ref_matrix *[]){&y->wq, &y->wk, &y->wv});
    if (!has_v) y->wv = y->wk;
    if (is_arch(s, "qwen2")) {
        y->bq = vector(t, NAME("attn_q.bias"), q_dim, 0.1f);
        y->bk = vector(t, NAME("attn_k.bias"), kv_dim, 0.1f);
        y->bv = vector(t, NAME("attn_v.bias"), kv_dim, 0.1f);
    }
    if (a->qk_norm) {
        y->q_norm = vector(t, NAME("attn_q_norm.weight"), by_rows ? q_dim : d, 1);
        if (owns_kv(s, l))
            y->k_norm = vector(t, NAME("attn_k_norm.weight"), by_rows ? kv_dim : d, 1);
    }
    y->wo = matrix(t, NAME("attn_output.weight"), s->dim, q_dim);
    if (a->post_norms)
        y->attn_post_norm = vector(t, NAME("post_attention_norm.weight"), s->dim, 1);
}

static void ffn_tensors(twin *t, int l, ref_layer *y) {
    const spec *s = &t->s;
    const traits *a = traits_of(s->arch);
    char name[64], gate[64], up[64];
    int ffn = ffn_of(s, l);
    snprintf(gate, sizeof gate, "blk.%d.ffn_gate.weight", l);
    snprintf(up, sizeof up, "blk.%d.ffn_up.weight", l);
    if (!a->no_pre_norms) y->ffn_norm = vector(t, NAME("ffn_norm.weight"), s->dim, 1);
    matrices(t, a->fused ? up : NULL, (const char *[]){gate, up}, (int[]){s->type, s->type},
             (int[]){ffn, ffn}, 2, (ref_matrix *[]){&y->w_gate, &y->w_up});
    y->w_down = typed_matrix(t, NAME("ffn_down.weight"), s->mixed_type, s->dim, ffn);
    if (a->post_norms) y->ffn_post_norm = vector(t, NAME("post_ffw_norm.weight"), s->dim, 1);
    if (s->per_layer) {
        y->layer_gate = matrix(t, NAME("inp_gate.weight"), s->per_layer, s->dim);
        y->layer_proj = matrix(t, NAME("proj.weight"), s->dim, s->per_layer);
        y->layer_norm = vector(t, NAME("post_norm.weight"), s->dim, 1);
    }
    if (a->output_scale && l % 2 == 0)
        y->scale = vector(t, NAME("layer_output_scale.weight"), 1, 0.7f);
#undef NAME
}

/* What the layer does otherwise than others. */
static void layer_facts(const spec *s, int l, ref_layer *y) {
    const traits *a = traits_of(s->arch);
    int pattern = pattern_of(s), is_last = pattern && (l + 1) % pattern == 0;
    y->sees_all = is_last;
    y->no_rope = (a->no_rope && (l + 1) % a->no_rope == 0) || s->not_finetuned;
    int has_windows = s->window && pattern != 1;
    if (is_arch(s, "exaone4") && has_windows && is_last) y->no_rope = 1;
    for (int k = 0; k < s->layers - s->shared && !owns_kv(s, l); k++)
        if (has_window(s, k) == has_window(s, l)) y->kv_layer = 1 + k;
    y->head_dim = head_dim_of(s, l);
    if (!s->window || is_last) return;
    y->rope_dim = s->local_rope_dim;
    y->local_theta = s->theta_local > 0 ? (double)s->theta_local : a->theta_local;
    if (is_arch(s, "olmo2")) y->local_theta = (double)s->theta;
}

/* Multiplied with activations in two planes always: keys, values, the last FFN, the classifier, of
 * four types. */
static void set_exact(ref_matrix *m, int type) {
    static const int types[] = {GQA_TYPE_Q8_0, GQA_TYPE_Q4_0, GQA_TYPE_Q4_K, GQA_TYPE_Q6_K};
    for (int i = 0; i < 4; i++)
        if (type == types[i]) m->planes = 2;
}
static void exact_matrices(twin *t) {
    ref_layer *last = &t->layers[t->s.layers - 1];
    const int type = t->s.type;
    const int other = traits_of(t->s.arch)->fused ? type : t->s.mixed_type;
    for (int l = 0; l < t->s.layers; l++) {
        set_exact(&t->layers[l].wk, type);
        set_exact(&t->layers[l].wv, other);
    }
    set_exact(&last->w_gate, type);
    set_exact(&last->w_up, type);
    set_exact(&last->w_down, t->s.mixed_type);
    set_exact(&t->ref.classifier, type);
}

static void all_tensors(twin *t) {
    const spec *s = &t->s;
    ref_matrix embedding = matrix(t, "token_embd.weight", s->vocab, s->dim);
    int width = s->layers * s->per_layer;
    if (s->per_layer) {
        ref_matrix of_layers = matrix(t, "per_layer_token_embd.weight", s->vocab, width);
        t->ref.layers_embedding = of_layers.w;
        t->ref.layers_proj = matrix(t, "per_layer_model_proj.weight", width, s->dim);
        t->ref.layers_proj_norm = vector(t, "per_layer_proj_norm.weight", s->per_layer, 1);
    }
    for (int l = 0; l < s->layers; l++) {
        attention_tensors(t, l, &t->layers[l]);
        ffn_tensors(t, l, &t->layers[l]);
        layer_facts(s, l, &t->layers[l]);
    }
    t->ref.embedding = embedding.w;
    t->ref.output_norm = vector(t, "output_norm.weight", s->dim, 1);
    t->ref.classifier = embedding;
    if (s->untied) t->ref.classifier = matrix(t, "output.weight", s->vocab, s->dim);
    exact_matrices(t);
    if (s->long_factors) {
        const float *few = vector(t, "rope_factors_short.weight", s->rope_dim / 2, 2);
        const float *many = vector(t, "rope_factors_long.weight", s->rope_dim / 2, 4);
        t->ref.rope_factors = s->tokens > s->orig_context ? many : few;
    }
    if (s->rope_freqs) t->ref.rope_factors = vector(t, "rope_freqs.weight", s->rope_dim / 2, 2);
}

static gqa_config config_of(const spec *s) {
    gqa_config c = {
        .dim = s->dim, .n_layers = s->layers, .n_heads = s->heads,
        .n_kv_heads = s->vary ? 0 : s->kv_heads,
        .head_dim = s->head_dim, .vocab_size = s->vocab,
        .ffn_dim = s->vary ? 0 : s->ffn,
        .window = s->pattern_key || s->vary ? 0 : s->window, /* extra_keys has it */
        .context_length = 4096, .norm_eps = s->eps, .rope_dim = s->rope_dim, .rope_theta = s->theta,
        .rope_scaling = s->scaling, .rope_factor = s->factor, .rope_attn_factor = s->attn_factor,
        .rope_beta_fast = s->beta_fast, .rope_beta_slow = s->beta_slow,
        .rope_orig_context = s->orig_context,
    };
    snprintf(c.architecture, sizeof c.architecture, "%s", s->arch);
    if (!s->latent) return c;
    c.n_kv_heads = 1;
    c.head_dim = s->latent + s->rope_dim;
    c.latent_dim = s->latent;
    c.q_rank = s->q_rank;
    c.q_nope_dim = s->head_dim - s->rope_dim;
    c.value_dim = s->value;
    return c;
}

/* Keys that gguf_put_config does not write. */
static void extra_keys(gguf_writer *w, const spec *s) {
    const struct {
        const char *suffix;
        float value;
    } floats[] = {
        {"embedding_scale", s->embedding_scale},
        {"residual_scale", s->residual_scale},
        {"logit_scale", s->logit_scale},
        {"attention.scale", s->attention_scale},
        {"attention.temperature_scale", s->temperature},
        {"attn_logit_softcapping", s->attention_softcap},
        {"final_logit_softcapping", s->logit_softcap},
        {"rope.freq_base_swa", s->theta_local},
        {"rope.scaling.yarn_log_multiplier", s->yarn_log_mul},
        {"rope.scaling.attn_factor", s->scaling == GQA_ROPE_NONE && s->attn_factor != 1 ?
                                     s->attn_factor : 0},
    };
    char key[128];
#define KEY(suffix) (snprintf(key, sizeof key, "%s.%s", s->arch, suffix), key)
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++)
        if (floats[i].value != 0) gguf_put_float(w, KEY(floats[i].suffix), (double)floats[i].value);
    const struct {
        const char *suffix;
        int value;
    } integers[] = {
        {"attention.key_length_swa", s->local_head_dim},
        {"attention.value_length_swa", s->local_head_dim},
        {"rope.dimension_count_swa", s->local_rope_dim},
        {"attention.shared_kv_layers", s->shared},
        {"embedding_length_per_layer_input", s->per_layer},
    };
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++)
        if (integers[i].value)
            gguf_put_int(w, KEY(integers[i].suffix), GGUF_U32, integers[i].value);
    uint8_t windows[8];
    int32_t kv_heads[8], ffn[8];
    for (int l = 0; l < s->layers; l++) {
        windows[l] = (uint8_t)has_window(s, l);
        kv_heads[l] = kv_heads_of(s, l);
        ffn[l] = ffn_of(s, l);
    }
    size_t layers = (size_t)s->layers;
    if (s->pattern_key || s->vary)
        gguf_put_int(w, KEY("attention.sliding_window"), GGUF_U32, s->window);
    if (s->pattern_key == 1)
        gguf_put_int(w, KEY("attention.sliding_window_pattern"), GGUF_U32, s->pattern);
    if (s->pattern_key == 2)
        gguf_put_array(w, KEY("attention.sliding_window_pattern"), GGUF_BOOL, windows, layers);
    if (s->vary) {
        gguf_put_array(w, KEY("attention.head_count_kv"), GGUF_I32, kv_heads, layers);
        gguf_put_array(w, KEY("feed_forward_length"), GGUF_I32, ffn, layers);
    }
    if (s->not_finetuned) gguf_put_int(w, KEY("rope.scaling.finetuned"), GGUF_BOOL, 0);
    if (s->long_factors) {
        gguf_put_int(w, KEY("rope.scaling.original_context_length"), GGUF_U32, s->orig_context);
        gguf_put_string(w, KEY("rope.scaling.type"), "longrope", 8);
    }
#undef KEY
}

static ref_model reference_of(const spec *s) {
    static const ref_scaling scalings[] = {
        [GQA_ROPE_NONE] = REF_PLAIN, [GQA_ROPE_LINEAR] = REF_LINEAR, [GQA_ROPE_YARN] = REF_YARN,
    };
    const traits *a = traits_of(s->arch);
    ref_model m = {
        .dim = s->dim, .n_layers = s->layers, .n_heads = s->heads, .n_kv_heads = s->kv_heads,
        .head_dim = s->head_dim, .ffn_dim = s->ffn, .vocab = s->vocab,
        .window = a->fused ? 0 : s->window, /* phi3's key is wrong */
        .norm_eps = (double)s->eps, .rope_dim = s->rope_dim, .rope_theta = (double)s->theta,
        .rope_half = a->half, .scaling = scalings[s->scaling], .gelu = a->gelu,
        .qk_norm = a->qk_norm ? a->qk_norm - 1 : 0,
        .factor = (double)s->factor, .attn_factor = (double)s->attn_factor,
        .beta_fast = (double)s->beta_fast, .beta_slow = (double)s->beta_slow,
        .orig_context = s->orig_context, .cache = s->cache,
        .v_cache = strchr(s->kv, '/') ? s->v_cache : s->cache,
        .embedding_scale = a->gelu ? sqrt(s->dim) : (double)s->embedding_scale,
        .residual_scale = (double)s->residual_scale, .logit_divisor = (double)s->logit_scale,
        .score_scale = a->raw_scores ? 1 : (double)s->attention_scale,
        .norm_v = a->norm_v, .tied = a->tied, .per_layer = s->per_layer,
        .temperature = (double)s->temperature,
        .score_cap = s->attention_softcap > 0 ? (double)s->attention_softcap : a->score_cap,
        .logit_cap = s->logit_softcap > 0 ? (double)s->logit_softcap : a->logit_cap,
        .yarn_log_mul = (double)s->yarn_log_mul,
        .latent = s->latent, .q_nope = s->latent ? s->head_dim - s->rope_dim : 0, .value = s->value,
    };
    if (s->latent) { /* M = key / 0.1, of the whole score */
        double yarn = 1 + (double)s->yarn_log_mul * log((double)s->factor);
        m.score_scale = yarn * yarn / sqrt(s->head_dim);
    }
    if (!is_arch(s, "minicpm")) return m;
    if (m.embedding_scale == 0) m.embedding_scale = 12;
    if (m.residual_scale == 0) m.residual_scale = 1.4 / sqrt(s->layers);
    if (m.logit_divisor == 0) m.logit_divisor = s->dim / 256.0;
    return m;
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
    extra_keys(t->w, s);
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

#endif
