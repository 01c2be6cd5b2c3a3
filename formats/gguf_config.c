/* gguf_config.c: hyper-parameters from GGUF metadata ("llama.block_count",
 * "llama.rope.freq_base", ...) and from the tensors. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gguf.h"

/* The architectures: metadata keys begin with the name. */
static const struct { const char *name; int rope_half; } architectures[] = {
    {"llama", 0}, {"qwen2", 1}, {"qwen3", 1},
};

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

/* An array with a number for each layer: accepted when all are the same. */
static int arch_int_of_layers(gguf_meta *m, const char *key, const gguf_entry *e) {
    double first = gguf_array_number(e, 0);
    if (e->count != (uint64_t)m->c->config.n_layers)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s has %" PRIu64 " elements, expected %d", key,
                       e->count, m->c->config.n_layers);
    for (uint64_t i = 1; i < e->count; i++)
        if (gguf_array_number(e, i) != first)
            gguf_meta_fail(m, GQA_ERR_UNSUPPORTED,
                           "metadata %s differs from layer to layer, which is not supported", key);
    if (!(first >= 0 && first <= INT32_MAX))
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s is %g", key, first);
    return m->status ? 0 : (int)first;
}

static int arch_int(gguf_meta *m, const char *suffix, int absent) {
    char key[128];
    const gguf_entry *e = gguf_find(m->c, arch_key(m, suffix, key));
    if (e && e->type == GGUF_ARRAY && e->array_type != GGUF_STRING && e->count)
        return arch_int_of_layers(m, key, e);
    return gguf_meta_int(m, key, 0, INT32_MAX, absent);
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
    } else if (bytes_equal(kind, "yarn")) {
        g->rope_scaling = GQA_ROPE_YARN;
    } else {
        copy_text(name, sizeof name, kind);
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "metadata %s is \"%s\", which is not supported "
                       "(none, linear, yarn are)", key, name);
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
    read_rope_scaling(m, g);
}

static void read_shape(gguf_meta *m, gqa_config *g) {
    g->dim = arch_int(m, "embedding_length", 0);
    g->n_layers = arch_int(m, "block_count", 0);
    g->n_heads = arch_int(m, "attention.head_count", 0);
    g->n_kv_heads = arch_int(m, "attention.head_count_kv", g->n_heads);
    g->ffn_dim = arch_int(m, "feed_forward_length", 0);
    g->context_length = arch_int(m, "context_length", 2048);
    g->head_dim = arch_int(m, "attention.key_length", g->n_heads > 0 ? g->dim / g->n_heads : 0);
    g->window = arch_int(m, "attention.sliding_window", 0);
    g->norm_eps = arch_float(m, "attention.layer_norm_rms_epsilon", 1e-5f);
    int value_length = arch_int(m, "attention.value_length", g->head_dim);
    int experts = arch_int(m, "expert_count", 0);
    if (value_length != g->head_dim)
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "attention.key_length %d and value_length %d differ,"
                       " which is not supported", g->head_dim, value_length);
    if (experts > 0)
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "mixtures of experts (expert_count %d) are not "
                       "supported", experts);
}

/* A scale of q.k other than 1 / sqrt(head_dim); 0 means that one. */
static void refuse_attention_scale(gguf_meta *m) {
    float scale = arch_float(m, "attention.scale", 0);
    double usual = 1 / sqrt((double)max_int(m->c->config.head_dim, 1));
    if (scale != 0 && fabs((double)scale - usual) > 1e-3 * usual)
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "attention.scale is %g, which is not supported "
                       "(1 / sqrt(head_dim) is)", (double)scale);
}

/* Keys of other computations than ours: the file is refused unless they say what they would by
 * default. */
static void refuse_other_computations(gguf_meta *m) {
    static const struct {
        const char *suffix;
        double neutral;
    } keys[] = {
        {"attention.causal", 1},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attention.temperature_scale", 0},
        {"attention.relative_buckets_count", 0},
        {"embedding_scale", 1},
        {"residual_scale", 1},
        {"logit_scale", 1},
        {"use_parallel_residual", 0},
        {"swin_norm", 0},
    };
    for (size_t i = 0; i < array_length(keys); i++) {
        char key[128];
        const gguf_entry *e = gguf_find(m->c, arch_key(m, keys[i].suffix, key));
        if (!e || (e->type != GGUF_STRING && e->type != GGUF_ARRAY && e->f == keys[i].neutral))
            continue;
        gguf_meta_fail(m, GQA_ERR_UNSUPPORTED, "metadata %s is %g, which is not supported (%g is)",
                       key, e->f, keys[i].neutral);
    }
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
    g->qk_norm = gqa_checkpoint_tensor(c, "blk.0.attn_q_norm.weight") != NULL;
    if (!embedding) return fail_format(c, err, "tensor token_embd.weight is missing");
    return gqa_config_validate(g, c->path, err);
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
    size_t i = 0;
    while (i < array_length(architectures) && strcmp(g->architecture, architectures[i].name)) i++;
    if (i == array_length(architectures)) {
        if (!c->n_tensors) return 0; /* a vocabulary is of use whatever the architecture */
        return fail_unsupported(c, err,
            "architecture \"%s\" is not supported (llama, qwen2, qwen3 are)", g->architecture);
    }
    g->rope_half = architectures[i].rope_half;
    read_shape(&m, g);
    read_rope(&m, g);
    refuse_other_computations(&m);
    refuse_attention_scale(&m);
    return m.status ? m.status : read_from_tensors(c, err);
}
