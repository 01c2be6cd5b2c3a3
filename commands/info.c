/* info.c: `run info`: what a model file holds, and what its KV cache costs under each kind of attention. */
#include <string.h>

#include "command.h"
#include "json.h"

static const gqa_type kv_types[] = {GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16, GQA_TYPE_Q8_0, GQA_TYPE_Q4_0};
enum { N_KV_TYPES = sizeof kv_types / sizeof kv_types[0] };

static const char *kind(const gqa_config *c, char buf[64]) {
    if (c->n_kv_heads == c->n_heads) snprintf(buf, 64, "MHA (every query head has its own KV head)");
    else if (c->n_kv_heads == 1) snprintf(buf, 64, "MQA (%d query heads share one KV head)", c->n_heads);
    else snprintf(buf, 64, "GQA (%d query heads share a KV head)", c->n_heads / c->n_kv_heads);
    return buf;
}

static double bytes_with_heads(const gqa_config *c, int n_kv_heads, gqa_type type) {
    gqa_config other = *c;
    other.n_kv_heads = n_kv_heads;
    return (double)gqa_kv_bytes_per_position(&other, type);
}

/* MLA as in DeepSeek-V2 (2405.04434, table 1): (4 + 1/2) head_dim elements a layer, in f16. */
static double mla_bytes(const gqa_config *c) { return 4.5 * c->head_dim * c->n_layers * 2; }

static void show_cache(const gqa_config *c) {
    char a[32];
    printf("\nKV cache a position, 2 x %d layers x %d KV heads x %d:\n ", c->n_layers, c->n_kv_heads, c->head_dim);
    for (int i = 0; i < N_KV_TYPES; i++) {
        if (kv_types[i] >= GQA_TYPE_Q4_0 && kv_types[i] != GQA_TYPE_BF16 && c->head_dim % 32) continue;
        printf(" %s %s ", gqa_type_name((int)kv_types[i]), human_bytes((double)gqa_kv_bytes_per_position(c, kv_types[i]), a));
    }
    printf("\nThe same shape in f16, at a position and at the full context of %d:\n", c->context_length);
    for (int heads = c->n_heads; heads >= 1; heads /= 2) {
        if (c->n_heads % heads) continue;
        char name[32], b[32];
        double bytes = bytes_with_heads(c, heads, GQA_TYPE_F16);
        if (heads == c->n_heads) snprintf(name, sizeof name, "MHA");
        else if (heads == 1) snprintf(name, sizeof name, "MQA");
        else snprintf(name, sizeof name, "GQA, %d KV heads", heads);
        printf("  %-18s %12s %12s%s\n", name, human_bytes(bytes, a), human_bytes(bytes * c->context_length, b),
               heads == c->n_kv_heads ? "   <- this model" : "");
    }
    char b[32];
    printf("  %-18s %12s %12s   (4.5 head_dim elements a layer, DeepSeek-V2)\n", "MLA", human_bytes(mla_bytes(c), a),
           human_bytes(mla_bytes(c) * c->context_length, b));
}

static void show_text(const gqa_model *m) {
    const gqa_config *c = gqa_model_config(m);
    gqa_model_stats s;
    char a[64], b[32];
    s = *gqa_model_get_stats(m);
    printf("format         %s\n", s.format);
    if (c->name[0]) printf("name           %s\n", c->name);
    printf("vocabulary     %d tokens, bos %d, eos %d\n", gqa_vocab_size(m), gqa_token_bos(m), gqa_token_eos(m));
    if (!s.has_weights) {
        printf("weights        none (a vocabulary only)\n");
        return;
    }
    printf("architecture   %s%s%s%s\n", c->architecture, c->qkv_bias ? ", QKV bias" : "", c->qk_norm ? ", QK norm" : "",
           c->tied_embeddings ? ", tied embeddings" : "");
    printf("attention      %s\n", kind(c, a));
    printf("shape          %d layers, dim %d, %d query heads, %d KV heads, head_dim %d, ffn %d\n", c->n_layers, c->dim, c->n_heads,
           c->n_kv_heads, c->head_dim, c->ffn_dim);
    printf("context        %d positions", c->context_length);
    if (c->window) printf(", sliding window %d", c->window);
    printf("\nrope           base %g, %s pairs", (double)c->rope_theta, c->rope_half ? "half-split" : "adjacent");
    if (c->rope_scaling != GQA_ROPE_NONE) printf(", %s scaling by %g", c->rope_scaling == GQA_ROPE_YARN ? "yarn" : "linear", (double)c->rope_factor);
    printf("\nparameters     %.4g million in %d tensors\n", (double)s.n_params / 1e6, s.n_tensors);
    printf("weights        %s, %s, %.2f bits a weight\n", s.type_name, human_bytes((double)s.weight_bytes, b), 8.0 * (double)s.weight_bytes / (double)s.n_params);
    show_cache(c);
}

static void show_json(const gqa_model *m) {
    const gqa_config *c = gqa_model_config(m);
    const gqa_model_stats *s = gqa_model_get_stats(m);
    json_writer j = json_open();
    json_string(&j, "format", s->format);
    json_string(&j, "name", c->name);
    json_string(&j, "architecture", c->architecture);
    json_bool(&j, "has_weights", s->has_weights);
    json_int(&j, "vocab_size", gqa_vocab_size(m));
    if (s->has_weights) {
        json_int(&j, "dim", c->dim);
        json_int(&j, "n_layers", c->n_layers);
        json_int(&j, "n_heads", c->n_heads);
        json_int(&j, "n_kv_heads", c->n_kv_heads);
        json_int(&j, "head_dim", c->head_dim);
        json_int(&j, "ffn_dim", c->ffn_dim);
        json_int(&j, "context_length", c->context_length);
        json_int(&j, "window", c->window);
        json_double(&j, "rope_theta", (double)c->rope_theta);
        json_string(&j, "attention", c->n_kv_heads == c->n_heads ? "MHA" : c->n_kv_heads == 1 ? "MQA" : "GQA");
        json_int(&j, "n_params", (int64_t)s->n_params);
        json_int(&j, "weight_bytes", (int64_t)s->weight_bytes);
        json_string(&j, "type", s->type_name);
        json_begin(&j, "kv_bytes_per_position", '{');
        for (int i = 0; i < N_KV_TYPES; i++)
            json_int(&j, gqa_type_name((int)kv_types[i]), (int64_t)gqa_kv_bytes_per_position(c, kv_types[i]));
        json_end(&j, '}');
    }
    json_close(&j);
}

int command_info(int argc, char **argv) {
    const char *path = NULL;
    int json = 0, n_paths = 0;
    gqa_model_options mo = {.no_repack = 1};
    const opt options[] = {
        {"-z FILE", OPT_STRING, &mo.tokenizer_path, 0, 0, "tokenizer of a llama2.c checkpoint"},
        {"--json", OPT_FLAG, &json, 0, 0, "one JSON object"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &path, 1, &n_paths, "run info MODEL");
    if (code >= 0) return code;
    if (!path) return usage_error("info: no model");
    gqa_error err = {0};
    gqa_model *model = gqa_model_open(path, &mo, &err);
    if (!model) return fail("%s", err.message);
    if (gqa_model_warning(model)) fprintf(stderr, "run: warning: %s\n", gqa_model_warning(model));
    if (json) show_json(model);
    else show_text(model);
    gqa_model_close(model);
    return finish_stdout();
}
