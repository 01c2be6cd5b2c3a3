/* gguf_config.c: hyper-parameters from GGUF metadata ("llama.block_count",
 * "llama.rope.freq_base", ...) and from the tensors. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "architectures.h"
#include "gguf.h"

static void copy_text(char *out, size_t capacity, gqa_bytes text) {
    int n = (int)min_size(text.size, capacity - 1);
    snprintf(out, capacity, "%.*s", n, n ? text.data : "");
}

/* ---- keys of the architecture ------------------------------------------------------------ */

/* "ARCHITECTURE.suffix" */
static const char *arch_key(const gguf_meta *m, const char *suffix, char buf[128]) {
    snprintf(buf, 128, "%s.%s", m->c->config.architecture, suffix);
    return buf;
}

/* A key with a number for each layer, or one for all. */
typedef struct layer_key {
    char key[128];
    const gguf_entry *array;     /* NULL: not an array */
    int of_all;
} layer_key;

static layer_key arch_layer_key(gguf_meta *m, const char *suffix, int absent) {
    layer_key k = {.of_all = absent};
    const gguf_entry *e = gguf_find(m->c, arch_key(m, suffix, k.key));
    int of = e && e->type == GGUF_ARRAY ? e->array_type : GGUF_STRING;
    if (!gguf_scalar_size(of) || of == GGUF_F32 || of == GGUF_F64) {
        k.of_all = gguf_meta_int(m, k.key, 0, INT32_MAX, absent);
        return k;
    }
    k.array = e;
    if (e->count != (uint64_t)m->c->config.n_layers)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s has %" PRIu64 " elements, expected %d",
                       k.key, e->count, m->c->config.n_layers);
    return k;
}

static int int_of_layer(gguf_meta *m, const layer_key *k, int l) {
    if (!k->array || m->status) return k->of_all;
    double value = gguf_array_number(k->array, (uint64_t)l);
    if (!(value >= 0 && value <= INT32_MAX))
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s is %g for layer %d, expected 0 to %d",
                       k->key, value, l, INT32_MAX);
    return m->status ? 0 : (int)value;
}

/* One number for all layers. */
static int arch_int(gguf_meta *m, const char *suffix, int absent) {
    layer_key k = arch_layer_key(m, suffix, absent);
    int first = k.array && !k.array->count ? absent : int_of_layer(m, &k, 0);
    for (int l = 1; k.array && l < m->c->config.n_layers && !m->status; l++)
        if (int_of_layer(m, &k, l) != first)
            gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "metadata %s differs from layer to layer, "
                           "which is not supported", k.key);
    return first;
}

static float arch_float(gguf_meta *m, const char *suffix, float absent) {
    char key[128];
    return gguf_meta_float(m, arch_key(m, suffix, key), absent);
}

/* ---- the config -------------------------------------------------------------------------- */

static void read_rope_scaling(gguf_meta *m, gqa_config *g) {
    char key[128], name[41];
    gqa_bytes kind = gguf_meta_string(m, arch_key(m, "rope.scaling.type", key));
    float scale = kind.data ? 1 : arch_float(m, "rope.scale_linear", 1); /* an older key */
    if (scale != 1) g->rope_factor = scale;
    if (kind.data && bytes_equal(kind, "none")) {
        g->rope_factor = 1;
    } else if (!kind.data || bytes_equal(kind, "linear")) { /* no type: as llama.cpp reads it */
        int is_scaled = g->rope_factor != 1 && g->rope_factor != 0;
        g->rope_scaling = is_scaled ? GQA_ROPE_LINEAR : GQA_ROPE_NONE;
    } else if (bytes_equal(kind, "longrope")) { /* by tensors of factors (weights/rope.c) */
        g->rope_scaling = GQA_ROPE_NONE;
        if (m->c->n_tensors && (!gqa_checkpoint_tensor(m->c, "rope_factors_long.weight") ||
                                !gqa_checkpoint_tensor(m->c, "rope_factors_short.weight")))
            gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "metadata %s is \"longrope\", but there are no "
                           "tensors rope_factors_long.weight and rope_factors_short.weight", key);
    } else if (bytes_equal(kind, "yarn")) {
        g->rope_scaling = GQA_ROPE_YARN;
    } else {
        copy_text(name, sizeof name, kind);
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "metadata %s is \"%s\", which is not supported "
                       "(none, linear, yarn, longrope are)", key, name);
    }
    if (g->rope_factor == 0) g->rope_factor = 1;
}

static void read_rope(gguf_meta *m, gqa_config *g) {
    g->rope_theta = arch_float(m, "rope.freq_base", 10000);
    g->rope_dim = arch_int(m, "rope.dimension_count", g->head_dim);
    g->rope_factor = arch_float(m, "rope.scaling.factor", 1);
    g->rope_attn_factor = arch_float(m, "rope.scaling.attn_factor", 1);
    g->rope_orig_context = arch_int(m, "rope.scaling.original_context_length", g->context_length);
    g->rope_beta_fast = arch_float(m, "rope.scaling.yarn_beta_fast", 32);
    g->rope_beta_slow = arch_float(m, "rope.scaling.yarn_beta_slow", 1);
    g->rope_yarn_log_mul = arch_float(m, "rope.scaling.yarn_log_multiplier", 0);
    read_rope_scaling(m, g);
}

static void require_keys(gguf_meta *m, const char *const *suffixes, size_t n) {
    char key[128];
    for (size_t i = 0; i < n; i++)
        if (!gguf_find(m->c, arch_key(m, suffixes[i], key)))
            gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s is missing", key);
}

/* deepseek2: key_length and value_length are of the cached row, those ending in _mla of a head. In
 * files of before 2025 the first two are of a head, and there are as many KV heads as heads. */
static void read_latent(gguf_meta *m, gqa_config *g, int value_length) {
    static const char *const suffixes[] = {"rope.dimension_count", "attention.head_count_kv"};
    require_keys(m, suffixes, array_length(suffixes));
    int rope_dim = arch_int(m, "rope.dimension_count", 0);
    int key_length = arch_int(m, "attention.key_length_mla", 0);
    g->latent_dim = arch_int(m, "attention.kv_lora_rank", 0);
    g->q_rank = arch_int(m, "attention.q_lora_rank", 0);
    g->value_dim = arch_int(m, "attention.value_length_mla", 0);
    int kv_heads = arch_int(m, "attention.head_count_kv", 1);
    if (!key_length && gqa_checkpoint_tensor(m->c, "blk.0.attn_kv_b.weight")) {
        key_length = g->head_dim;
        g->value_dim = value_length;
        value_length = g->latent_dim;
        g->head_dim = min_int(g->latent_dim, GQA_MAX_DIM) + min_int(rope_dim, GQA_MAX_DIM);
        if (kv_heads == g->n_heads) kv_heads = 1;
    }
    g->q_nope_dim = key_length - rope_dim;
    if (kv_heads != 1)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "%s.attention.head_count_kv is not 1",
                       m->c->config.architecture);
    else if (!key_length && !m->status)
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "metadata %s.attention.key_length_mla is "
                       "missing", m->c->config.architecture);
    else if (value_length != g->latent_dim || g->head_dim - rope_dim != g->latent_dim)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "attention.key_length %d and value_length %d, expected "
                       "kv_lora_rank %d + rope.dimension_count %d and %d", g->head_dim,
                       value_length, g->latent_dim, rope_dim, g->latent_dim);
    else if (g->latent_dim % 16 || g->value_dim % 16 || g->latent_dim < 16 || g->value_dim < 16 ||
             g->q_nope_dim < 1)
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "kv_lora_rank %d and value_length_mla %d, expected "
                       "multiples of 16, and key_length_mla %d, expected more than %d",
                       g->latent_dim, g->value_dim, key_length, rope_dim);
}

static void read_shape(gguf_meta *m, gqa_config *g, const gqa_architecture *a) {
    g->dim = arch_int(m, "embedding_length", 0);
    g->n_layers = arch_int(m, "block_count", 0);
    g->n_heads = arch_int(m, "attention.head_count", 0);
    g->context_length = arch_int(m, "context_length", 2048);
    g->head_dim = arch_int(m, "attention.key_length", g->n_heads > 0 ? g->dim / g->n_heads : 0);
    g->norm_eps = arch_float(m, "attention.layer_norm_rms_epsilon", 1e-5f);
    int value_length = arch_int(m, "attention.value_length", g->head_dim);
    int experts = arch_int(m, "expert_count", 0);
    if ((a->steps & ARCH_LATENT) && m->c->n_tensors) read_latent(m, g, value_length);
    else if (!(a->steps & ARCH_LATENT) && value_length != g->head_dim)
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "attention.key_length %d and value_length %d differ,"
                       " which is not supported", g->head_dim, value_length);
    if (experts > 0)
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "mixtures of experts (expert_count %d) are not "
                       "supported", experts);
}

/* ---- layers ------------------------------------------------------------------------------ */

/* The window of layers that have one; 0: all positions in all layers, as where no layer has it. */
static int read_window(gguf_meta *m, const gqa_architecture *a, const layer_key *pattern) {
    int has_pattern = gguf_find(m->c, pattern->key) != NULL;
    int window = arch_int(m, "attention.sliding_window", a->window);
    /* exaone4: the small models' files have the key and no such layers */
    int is_small = m->c->config.n_layers < a->min_window_layers, n_local = !pattern->array;
    for (int l = 0; pattern->array && l < m->c->config.n_layers && !m->status; l++)
        n_local += int_of_layer(m, pattern, l) != 0;
    int is_none = (a->steps & ARCH_NO_WINDOW_KEY) || (is_small && !has_pattern) || !n_local;
    return is_none ? 0 : window;
}

/* Whether layer l has the window: an array says so for each, or every pattern-th has none. */
static int has_window(gguf_meta *m, const layer_key *pattern, int l) {
    if (pattern->array) return int_of_layer(m, pattern, l) != 0;
    return pattern->of_all == 0 || (l + 1) % pattern->of_all != 0;
}

static int read_rope_of_layer(const gguf_meta *m, const gqa_architecture *a, int l, int window) {
    if (a->no_rope_pattern && (l + 1) % a->no_rope_pattern == 0) return GQA_LAYER_ROPE_NONE;
    if ((a->steps & ARCH_GLOBAL_NO_ROPE) && m->c->config.window && !window)
        return GQA_LAYER_ROPE_NONE;
    int is_local = window && m->c->config.rope_theta_local > 0;
    return is_local ? GQA_LAYER_ROPE_LOCAL : GQA_LAYER_ROPE_MODEL;
}

/* The last `shared` layers use the K and V of the last layer before them with the same window. */
static void share_kv(gguf_meta *m, gqa_layer_config *layers, int shared) {
    int n = m->c->config.n_layers, n_own = n - shared;
    if (shared >= n)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s.attention.shared_kv_layers is %d, expected "
                       "0 to %d", m->c->config.architecture, shared, n - 1);
    for (int l = n_own; l < n && !m->status; l++) {
        int from = n_own - 1;
        while (from >= 0 && layers[from].window != layers[l].window) from--;
        if (from < 0 || layers[from].n_kv_heads != layers[l].n_kv_heads)
            gguf_meta_fail(m, GQA_ERR_FORMAT, "layer %d: no layer before %d has its window and KV "
                           "heads, to share K and V with", l, n_own);
        layers[l].kv_layer = from;
    }
}

/* The values of each layer; the config gets the maxima. */
static void read_layers(gguf_meta *m, gqa_checkpoint *c, const gqa_architecture *a) {
    gqa_config *g = &c->config;
    char key[128];
    int no_rope = (a->steps & ARCH_SCALES) &&
                  !gguf_meta_bool(m, arch_key(m, "rope.scaling.finetuned", key), 1);
    layer_key kv_heads = arch_layer_key(m, "attention.head_count_kv", g->n_heads);
    layer_key ffn_dim = arch_layer_key(m, "feed_forward_length", 0);
    layer_key pattern = arch_layer_key(m, "attention.sliding_window_pattern", a->window_pattern);
    g->window = read_window(m, a, &pattern);
    if (a->steps & ARCH_LOCAL_ROPE && g->window) {
        float base = a->local_rope_base > 0 ? a->local_rope_base : g->rope_theta;
        g->rope_theta_local = arch_float(m, "rope.freq_base_swa", base);
    }
    int local_head_dim = g->head_dim;
    if (a->steps & ARCH_LOCAL_HEADS) {
        local_head_dim = arch_int(m, "attention.key_length_swa", g->head_dim);
        g->rope_dim_local = arch_int(m, "rope.dimension_count_swa", local_head_dim);
        if (arch_int(m, "attention.value_length_swa", local_head_dim) != local_head_dim)
            gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "attention.key_length_swa and value_length_swa "
                           "differ, which is not supported");
    }
    if (m->status || g->n_layers < 1 || g->n_layers > GQA_MAX_LAYERS) return; /* refused later */
    c->layers = calloc((size_t)g->n_layers, sizeof *c->layers);
    if (!c->layers)
        gguf_meta_fail(m, GQA_ERR_MEMORY, "no memory for %d layers", g->n_layers);
    for (int l = 0; l < g->n_layers && !m->status; l++) {
        gqa_layer_config *layer = &c->layers[l];
        layer->n_kv_heads = g->latent_dim ? 1 : int_of_layer(m, &kv_heads, l);
        layer->ffn_dim = int_of_layer(m, &ffn_dim, l);
        layer->window = has_window(m, &pattern, l) ? g->window : 0;
        layer->head_dim = layer->window ? local_head_dim : g->head_dim;
        layer->kv_layer = l;
        layer->rope = no_rope ? GQA_LAYER_ROPE_NONE
                              : read_rope_of_layer(m, a, l, layer->window);
        g->n_kv_heads = max_int(g->n_kv_heads, layer->n_kv_heads);
        g->ffn_dim = max_int(g->ffn_dim, layer->ffn_dim);
    }
    if (a->steps & ARCH_SHARED_KV && !m->status)
        share_kv(m, c->layers, arch_int(m, "attention.shared_kv_layers", 0));
}

/* Every layer's heads; gqa_config_validate checks the largest numbers. */
static int check_layers(const gqa_checkpoint *c, gqa_error *err) {
    for (int l = 0; l < c->config.n_layers; l++) {
        int kv_heads = c->layers[l].n_kv_heads, ffn_dim = c->layers[l].ffn_dim;
        if (kv_heads < 1 || c->config.n_heads % kv_heads)
            return fail_unsupported(c, err, "layer %d has %d KV heads, expected a divisor of the %d"
                                    " query heads", l, kv_heads, c->config.n_heads);
        if (ffn_dim < 1)
            return fail_unsupported(c, err, "layer %d has an FFN width of %d, expected at least 1",
                                    l, ffn_dim);
        int head_dim = c->layers[l].head_dim, rope_dim = c->config.rope_dim_local;
        if (head_dim < 2 || head_dim % 2 || head_dim > c->config.head_dim ||
            (c->layers[l].rope == GQA_LAYER_ROPE_LOCAL && rope_dim > head_dim))
            return fail_unsupported(c, err, "layer %d has a head_dim of %d and a rope_dim of %d, "
                                    "expected even numbers up to %d", l, head_dim, rope_dim,
                                    c->config.head_dim);
    }
    return 0;
}

/* ---- optional steps ---------------------------------------------------------------------- */

static void read_scales(gguf_meta *m, gqa_config *g, const gqa_architecture *a) {
    float branches = a->branch_scale / sqrtf((float)max_int(g->n_layers, 1));
    float logits = a->logit_width ? (float)g->dim / (float)a->logit_width : 0;
    g->embedding_scale = arch_float(m, "embedding_scale", a->embedding_scale);
    g->residual_scale = arch_float(m, "residual_scale", branches);
    g->logit_scale = arch_float(m, "logit_scale", logits);
    g->attention_scale = arch_float(m, "attention.scale", 0);
}

static void read_steps(gguf_meta *m, gqa_config *g, const gqa_architecture *a) {
    g->rope_half = (a->steps & ARCH_ROPE_HALF) != 0;
    g->gelu = (a->steps & ARCH_GELU) != 0;
    g->post_norms = (a->steps & ARCH_POST_NORMS) != 0;
    g->no_pre_norms = (a->steps & ARCH_NO_PRE_NORMS) != 0;
    g->qk_norm = (int)a->qk_norm;
    if (a->steps & ARCH_SCALES) read_scales(m, g, a);
    if (a->steps & ARCH_EMBEDDING_SQRT) g->embedding_scale = sqrtf((float)g->dim);
    if (a->steps & ARCH_SOFTCAPS) {
        g->attention_softcap = arch_float(m, "attn_logit_softcapping", a->attention_softcap);
        g->logit_softcap = arch_float(m, "final_logit_softcapping", a->logit_softcap);
    }
    g->norm_v = (a->steps & ARCH_NORM_V) != 0;
    g->tied_kv = (a->steps & ARCH_TIED) != 0;
    if (a->steps & ARCH_SCORES_AS_THEY_ARE) g->attention_scale = 1;
    if (a->steps & ARCH_PER_LAYER)
        g->per_layer_dim = arch_int(m, "embedding_length_per_layer_input", 0);
    if (a->steps & ARCH_TEMPERATURE)
        g->attention_temperature = arch_float(m, "attention.temperature_scale", 0);
    if (a->dim_scaled_layers && g->n_layers == a->dim_scaled_layers) /* the 27 B models */
        g->attention_scale = sqrtf((float)max_int(g->n_heads, 1) / (float)max_int(g->dim, 1));
    if ((a->steps & ARCH_LATENT) && g->q_nope_dim > 0) { /* YaRN scales the whole score, not cos */
        float yarn = 1 + g->rope_yarn_log_mul * logf(g->rope_factor);
        g->attention_scale = yarn * yarn / sqrtf((float)(g->q_nope_dim + g->rope_dim));
    }
    gqa_config_set_defaults(g);
}

/* A scale of q.k other than 1 / sqrt(head_dim); 0 means that one. */
static void refuse_attention_scale(gguf_meta *m) {
    float scale = arch_float(m, "attention.scale", 0);
    double usual = (double)m->c->config.attention_scale;
    if (scale != 0 && fabs((double)scale - usual) > 1e-3 * usual)
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "attention.scale is %g, which is not supported "
                       "(%g is)", (double)scale, usual);
}

/* Keys of other computations than the architecture's: the file is refused unless they say what
 * they would by default. */
static void refuse_other_computations(gguf_meta *m, const gqa_architecture *a) {
    static const struct {
        const char *suffix;
        double neutral;
        unsigned used_with;
    } keys[] = {
        {"attention.causal", 1, 0},
        {"attention.value_scale", 1, 0},
        {"attn_logit_softcapping", 0, ARCH_SOFTCAPS},
        {"final_logit_softcapping", 0, ARCH_SOFTCAPS},
        {"attention.clamp_kqv", 0, 0},
        {"attention.max_alibi_bias", 0, 0},
        {"attention.output_scale", 1, 0},
        {"attention.temperature_scale", 0, ARCH_TEMPERATURE},
        {"attention.relative_buckets_count", 0, 0},
        {"attention.shared_kv_layers", 0, ARCH_SHARED_KV},
        {"embedding_length_per_layer_input", 0, ARCH_PER_LAYER},
        {"embedding_scale", 1, ARCH_SCALES},
        {"residual_scale", 1, ARCH_SCALES},
        {"logit_scale", 1, ARCH_SCALES},
        {"rope.dimension_sections", 0, 0},
        {"rope.scaling.yarn_attn_factor", 1, 0},
        {"rope.scaling.yarn_ext_factor", 1, 0},
        {"use_parallel_residual", 0, 0},
        {"swin_norm", 0, 0},
    };
    for (size_t i = 0; i < array_length(keys); i++) {
        char key[128];
        const gguf_entry *e = gguf_find(m->c, arch_key(m, keys[i].suffix, key));
        if (!e || (a->steps & keys[i].used_with)) continue;
        char value[32];
        snprintf(value, sizeof value, "%g", e->f);
        if (!gguf_scalar_size(e->type))
            snprintf(value, sizeof value, e->type == GGUF_ARRAY ? "an array" : "a string");
        else if (e->f == keys[i].neutral) continue;
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "metadata %s is %s, which is not supported (%g is)",
                       key, value, keys[i].neutral);
    }
    if (!(a->steps & ARCH_SCALES)) refuse_attention_scale(m);
}

/* What the tensors show: size of the vocabulary, biases, norms, a classifier of its own. */
static int read_from_tensors(gqa_checkpoint *c, gqa_error *err) {
    gqa_config *g = &c->config;
    const gqa_tensor *embedding = gqa_checkpoint_tensor(c, "token_embd.weight");
    const gguf_entry *tokens = gguf_find(c, "tokenizer.ggml.tokens");
    uint64_t vocab_size = tokens && tokens->type == GGUF_ARRAY ? tokens->count : 0;
    if (embedding) vocab_size = embedding->dims[1];
    g->vocab_size = vocab_size > INT32_MAX ? -1 : (int)vocab_size;
    if (!c->n_tensors) return 0;
    g->tied_embeddings = !gqa_checkpoint_tensor(c, "output.weight");
    g->qkv_bias = gqa_checkpoint_tensor(c, "blk.0.attn_q.bias") != NULL;
    if (!embedding) return fail_format(c, err, "tensor token_embd.weight is missing");
    int status = gqa_config_validate(g, c->path, err);
    return status ? status : check_layers(c, err);
}

int gguf_read_config(gqa_checkpoint *c, gqa_error *err) {
    gqa_config *g = &c->config;
    gguf_meta m = {.c = c, .err = err};
    gqa_bytes architecture = gguf_meta_string(&m, "general.architecture");
    gqa_bytes name = gguf_meta_string(&m, "general.name");
    if (m.status) return m.status;
    if (!architecture.data)
        return c->n_tensors ? fail_format(c, err, "metadata general.architecture is missing") : 0;
    copy_text(g->name, sizeof g->name, name);
    copy_text(g->architecture, sizeof g->architecture, architecture);
    const gqa_architecture *a = gqa_architecture_find(g->architecture);
    if (!a) {
        if (!c->n_tensors) return 0; /* a vocabulary is of use whatever the architecture */
        char names[256];
        gqa_architecture_names(names, sizeof names);
        return fail_unsupported(c, err, "architecture \"%s\" is not supported (%s are)",
                                g->architecture, names);
    }
    static const char *const required[] = {"embedding_length", "block_count",
                                           "attention.head_count", "feed_forward_length"};
    if (c->n_tensors) require_keys(&m, required, array_length(required));
    read_shape(&m, g, a);
    read_rope(&m, g);
    read_steps(&m, g, a);
    read_layers(&m, c, a);
    refuse_other_computations(&m, a);
    return m.status ? m.status : read_from_tensors(c, err);
}
