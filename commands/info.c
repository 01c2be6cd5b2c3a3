/* info.c: `run info`: what a model file holds, and what its KV cache costs under each kind of
 * attention. */
#include "../base/base.h"
#include "command.h"
#include "json.h"

static const gqa_type kv_types[] = {
    GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16, GQA_TYPE_Q8_0, GQA_TYPE_Q4_0,
};
enum { N_KV_TYPES = sizeof kv_types / sizeof kv_types[0] };

static void show_attention(const gqa_config *c) {
    if (c->n_kv_heads == c->n_heads)
        printf("attention      MHA (every query head has its own KV head)\n");
    else if (c->n_kv_heads == 1)
        printf("attention      MQA (%d query heads share one KV head)\n", c->n_heads);
    else
        printf("attention      GQA (%d query heads share a KV head)\n", c->n_heads / c->n_kv_heads);
}

/* A row of the table of kinds of attention. */
static void show_kind(const char *name, double bytes, const gqa_config *c, const char *note) {
    char position[32], context[32];
    printf("  %-18s %12s %12s%s\n", name, human_bytes(bytes, position),
           human_bytes(bytes * c->context_length, context), note);
}

static void show_cache(const gqa_config *c) {
    char buf[32];
    printf("\nKV cache a position, 2 x %d layers x %d KV heads x %d:\n ", c->n_layers,
           c->n_kv_heads, c->head_dim);
    for (int i = 0; i < N_KV_TYPES; i++) {
        int in_blocks = kv_types[i] == GQA_TYPE_Q8_0 || kv_types[i] == GQA_TYPE_Q4_0;
        if (in_blocks && c->head_dim % 32) continue;
        double bytes = (double)gqa_kv_bytes_per_position(c, kv_types[i]);
        printf(" %s %s ", gqa_type_name((int)kv_types[i]), human_bytes(bytes, buf));
    }
    printf("\nThe same shape in f16, at a position and at the full context of %d:\n",
           c->context_length);
    gqa_config other = *c;
    for (int heads = c->n_heads; heads >= 1; heads /= 2) {
        if (c->n_heads % heads) continue;
        other.n_kv_heads = heads;
        double bytes = (double)gqa_kv_bytes_per_position(&other, GQA_TYPE_F16);
        const char *note = heads == c->n_kv_heads ? "   <- this model" : "";
        show_kind(attention_name(&other, buf), bytes, c, note);
    }
    show_kind("MLA", mla_bytes(c), c, "   (4.5 head_dim elements a layer, DeepSeek-V2)");
}

static void show_shape(const gqa_config *c) {
    char architecture[4 * sizeof c->architecture];
    gqa_escape(architecture, sizeof architecture, c->architecture);
    printf("architecture   %s%s%s%s\n", architecture, c->qkv_bias ? ", QKV bias" : "",
           c->qk_norm ? ", QK norm" : "", c->tied_embeddings ? ", tied embeddings" : "");
    show_attention(c);
    printf("shape          %d layers, dim %d, %d query heads, %d KV heads, head_dim %d, ffn %d\n",
           c->n_layers, c->dim, c->n_heads, c->n_kv_heads, c->head_dim, c->ffn_dim);
    printf("context        %d positions", c->context_length);
    if (c->window) printf(", sliding window %d", c->window);
    printf("\nrope           base %g, %s pairs", (double)c->rope_theta,
           c->rope_half ? "half-split" : "adjacent");
    double factor = (double)c->rope_factor;
    if (c->rope_scaling == GQA_ROPE_YARN) printf(", yarn scaling by %g", factor);
    if (c->rope_scaling == GQA_ROPE_LINEAR) printf(", linear scaling by %g", factor);
    printf("\n");
}

static void show_text(const gqa_model *m) {
    const gqa_config *c = gqa_model_config(m);
    const gqa_model_stats *s = gqa_model_get_stats(m);
    char size[32];
    printf("format         %s\n", s->format);
    char name[4 * sizeof c->name];
    gqa_escape(name, sizeof name, c->name);
    if (name[0]) printf("name           %s\n", name);
    printf("vocabulary     %d tokens, bos %d, eos %d\n", gqa_vocab_size(m), gqa_token_bos(m),
           gqa_token_eos(m));
    if (!s->has_weights) {
        printf("weights        none (a vocabulary only)\n");
        return;
    }
    double n_params = (double)s->n_params, bytes = (double)s->weight_bytes;
    show_shape(c);
    printf("parameters     %.4g million in %d tensors\n", n_params / 1e6, s->n_tensors);
    printf("weights        %s, %s, %.2f bits a weight\n", s->type_name, human_bytes(bytes, size),
           8 * bytes / n_params);
    show_cache(c);
}

static void json_weights(json_writer *j, const gqa_config *c, const gqa_model_stats *s) {
    char buf[16];
    json_int(j, "dim", c->dim);
    json_int(j, "n_layers", c->n_layers);
    json_int(j, "n_heads", c->n_heads);
    json_int(j, "n_kv_heads", c->n_kv_heads);
    json_int(j, "head_dim", c->head_dim);
    json_int(j, "ffn_dim", c->ffn_dim);
    json_int(j, "context_length", c->context_length);
    json_int(j, "window", c->window);
    json_double(j, "rope_theta", (double)c->rope_theta);
    json_string(j, "attention", attention_name(c, buf));
    json_int(j, "n_params", (int64_t)s->n_params);
    json_int(j, "weight_bytes", (int64_t)s->weight_bytes);
    json_string(j, "type", s->type_name);
    json_begin(j, "kv_bytes_per_position", '{');
    for (int i = 0; i < N_KV_TYPES; i++) {
        uint64_t bytes = gqa_kv_bytes_per_position(c, kv_types[i]);
        json_int(j, gqa_type_name((int)kv_types[i]), (int64_t)bytes);
    }
    json_end(j, '}');
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
    if (s->has_weights) json_weights(&j, c, s);
    json_close(&j);
}

int command_info(int argc, char **argv) {
    const char *path = NULL;
    int as_json = 0, n_paths = 0;
    gqa_model_options mo = {.no_repack = 1};
    const opt options[] = {
        {"-z FILE", OPT_STRING, &mo.tokenizer_path, 0, 0, LLAMA2C_HELP},
        {"--json", OPT_FLAG, &as_json, 0, 0, "print one JSON object"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &path, 1, &n_paths,
                             "run info MODEL [options]\n\n"
                             "Describes a model file, and its KV cache as MHA, GQA, MQA and MLA.");
    if (code >= 0) return code;
    if (!path) return usage_error("info: no model given");
    gqa_model *model = open_model(path, &mo);
    if (!model) return EXIT_FAILURE;
    if (as_json) show_json(model);
    else show_text(model);
    gqa_model_close(model);
    return finish_stdout();
}
