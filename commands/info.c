/* info.c: `run info`: what a model file holds, and what its KV cache costs under each kind of
 * attention. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "../weights/model_internal.h"
#include "advice.h"
#include "command.h"
#include "json.h"
#include "model_file.h"

static const gqa_type kv_types[] = {
    GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16, GQA_TYPE_Q8_0, GQA_TYPE_Q4_0,
};
enum { N_KV_TYPES = array_length(kv_types) };

static void show_attention(const gqa_config *c) {
    if (c->latent_dim)
        printf("attention      MLA (%d query heads of %d + %d, values of %d, share a row of "
               "%d + %d)\n", c->n_heads, c->q_nope_dim, c->rope_dim, c->value_dim, c->latent_dim,
               c->rope_dim);
    else if (c->tied_kv)
        printf("attention      GTA (%d query heads share a row of %d that is key and value; all "
               "share %d)\n", c->n_heads / c->n_kv_heads, c->head_dim, c->rope_dim);
    else if (c->n_kv_heads == c->n_heads)
        printf("attention      MHA (every query head has its own KV head)\n");
    else if (c->n_kv_heads == 1)
        printf("attention      MQA (%d query heads share one KV head)\n", c->n_heads);
    else
        printf("attention      GQA (%d query heads share a KV head)\n", c->n_heads / c->n_kv_heads);
}

/* A row of the table of kinds of attention. */
static void show_kind(const gqa_model *m, const char *name, double kv_heads, const char *note) {
    char position[32], context[32];
    double one = 2 * kv_values(m, kv_heads, 1);
    double full = 2 * kv_values(m, kv_heads, gqa_model_config(m)->context_length);
    printf("  %-18s %12s %12s%s\n", name, human_bytes(one, position), human_bytes(full, context),
           note);
}

static void show_cache(const gqa_model *m) {
    const gqa_config *c = gqa_model_config(m);
    char buf[32];
    const int shared_dim = c->latent_dim || c->tied_kv ? c->rope_dim : 0;
    uint64_t own = gqa_model_kv_bytes(m, GQA_TYPE_F16, 1);
    if (c->latent_dim)
        printf("\nKV cache a position, %d layers x %d:\n ", c->n_layers, c->head_dim);
    else if (c->tied_kv)
        printf("\nKV cache a position, %d layers x (%d KV heads x %d + %d):\n ", c->n_layers,
               c->n_kv_heads, c->head_dim, c->rope_dim);
    else if (own == gqa_kv_bytes_per_position(c, GQA_TYPE_F16))
        printf("\nKV cache a position, 2 x %d layers x %d KV heads x %d:\n ", c->n_layers,
               c->n_kv_heads, c->head_dim);
    else printf("\nKV cache a position, of the layers that have one, each of its own heads:\n ");
    for (int i = 0; i < N_KV_TYPES; i++) {
        double bytes = (double)gqa_model_kv_bytes(m, kv_types[i], 1);
        printf(" %s %s ", gqa_type_name((int)kv_types[i]), human_bytes(bytes, buf));
    }
    printf("\nThe same shape in f16, at a position and at the full context of %d:\n",
           c->context_length);
    gqa_config other = *c;
    other.latent_dim = other.tied_kv = 0;
    for (int heads = c->n_heads, next; heads >= 1; heads = next) {
        next = heads / 2;
        if (next < c->n_kv_heads && c->n_kv_heads < heads) next = c->n_kv_heads;
        if (c->n_heads % heads) continue;
        other.n_kv_heads = heads;
        int is_own = !shared_dim && 2 * kv_values(m, heads, 1) == (double)own;
        show_kind(m, attention_name(&other, buf), heads, is_own ? "   <- this model" : "");
    }
    if (shared_dim) show_kind(m, attention_name(c, buf), 0, "   <- this model");
    if (!c->latent_dim)
        show_kind(m, "MLA", MLA_KV_HEADS, "   (4.5 head_dim elements a layer, DeepSeek-V2)");
}

static int windowed_layers(const gqa_model *m) {
    int n = 0;
    for (int l = 0; l < gqa_model_config(m)->n_layers; l++) n += gqa_model_layer(m, l)->window > 0;
    return n;
}

static void show_window(const gqa_model *m) {
    const gqa_config *c = gqa_model_config(m);
    int n = windowed_layers(m);
    if (n) printf(", sliding window %d in %d of %d layers", c->window, n, c->n_layers);
}

/* What the windows leave of the cache. */
static void show_windowed_cache(const gqa_model *m) {
    int context = gqa_model_config(m)->context_length;
    char bytes[32];
    if (!windowed_layers(m)) return;
    double kept = (double)gqa_model_kv_bytes(m, GQA_TYPE_F16, context);
    printf("With its windows this model keeps %s at the full context. A session's layers with a "
           "window\nhave a batch of positions more (512 unless set, at least 64), and up to 62 "
           "for whole tiles.\n", human_bytes(kept, bytes));
    int n_layers = gqa_model_config(m)->n_layers, shared = 0;
    for (int l = 0; l < n_layers; l++) shared += gqa_model_layer(m, l)->kv_layer != l;
    if (shared)
        printf("%d of its %d layers have no cache: they use an earlier layer's keys and values.\n",
               shared, n_layers);
}

static int layers_without_rope(const gqa_model *m) {
    int n = 0;
    for (int l = 0; l < gqa_model_config(m)->n_layers; l++)
        n += gqa_model_layer(m, l)->rope == GQA_LAYER_ROPE_NONE;
    return n;
}

static void show_rope(const gqa_model *m) {
    const gqa_config *c = gqa_model_config(m);
    int n_without = layers_without_rope(m);
    double factor = (double)c->rope_factor;
    printf("rope           base %g, %s pairs", (double)c->rope_theta,
           c->rope_half ? "half-split" : "adjacent");
    if (c->rope_scaling == GQA_ROPE_YARN) printf(", yarn scaling by %g", factor);
    if (c->rope_scaling == GQA_ROPE_LINEAR) printf(", linear scaling by %g", factor);
    if (c->rope_theta_local > 0)
        printf(", base %g in layers with a window", (double)c->rope_theta_local);
    if (n_without) printf(", none in %d of %d layers", n_without, c->n_layers);
    printf("\n");
}

static void show_shape(const gqa_model *m) {
    const gqa_config *c = gqa_model_config(m);
    char architecture[4 * sizeof c->architecture];
    gqa_escape(architecture, sizeof architecture, c->architecture);
    printf("architecture   %s%s%s%s\n", architecture, c->qkv_bias ? ", QKV bias" : "",
           c->qk_norm ? ", QK norm" : "", c->tied_embeddings ? ", tied embeddings" : "");
    show_attention(c);
    printf("shape          %d layers, dim %d, %d query heads, %d KV heads, head_dim %d, ffn %d\n",
           c->n_layers, c->dim, c->n_heads, c->n_kv_heads, c->head_dim, c->ffn_dim);
    printf("context        %d positions", c->context_length);
    show_window(m);
    printf("\n");
    show_rope(m);
    double of_scores = (double)c->attention_softcap, of_logits = (double)c->logit_softcap;
    if (of_scores > 0 || of_logits > 0)
        printf("softcaps       scores %g, logits %g (0: none)\n", of_scores, of_logits);
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
        char architecture[4 * sizeof c->architecture];
        gqa_escape(architecture, sizeof architecture, c->architecture);
        if (architecture[0]) printf("architecture   %s\n", architecture);
        printf("weights        none (a vocabulary only)\n");
        return;
    }
    double n_params = (double)s->n_params, bytes = (double)s->weight_bytes;
    show_shape(m);
    printf("parameters     %.4g million in %d tensors\n", n_params / 1e6, s->n_tensors);
    printf("weights        %s, %s, %.2f bits a weight\n", s->type_name, human_bytes(bytes, size),
           8 * bytes / n_params);
    show_cache(m);
    show_windowed_cache(m);
}

static void json_weights(json_writer *j, const gqa_model *m) {
    const gqa_config *c = gqa_model_config(m);
    const gqa_model_stats *s = gqa_model_get_stats(m);
    char buf[16];
    json_int(j, "dim", c->dim);
    json_int(j, "n_layers", c->n_layers);
    json_int(j, "n_heads", c->n_heads);
    json_int(j, "n_kv_heads", c->n_kv_heads);
    json_int(j, "head_dim", c->head_dim);
    if (c->latent_dim) {
        json_int(j, "kv_lora_rank", c->latent_dim);
        json_int(j, "q_lora_rank", c->q_rank);
        json_int(j, "qk_nope_head_dim", c->q_nope_dim);
        json_int(j, "qk_rope_head_dim", c->rope_dim);
        json_int(j, "v_head_dim", c->value_dim);
    }
    json_int(j, "ffn_dim", c->ffn_dim);
    json_int(j, "context_length", c->context_length);
    json_int(j, "window", c->window);
    json_int(j, "layers_with_window", windowed_layers(m));
    json_int(j, "kv_bytes_at_full_context",
             (int64_t)gqa_model_kv_bytes(m, GQA_TYPE_F16, c->context_length));
    json_double(j, "rope_theta", (double)c->rope_theta);
    json_double(j, "rope_theta_local", (double)c->rope_theta_local);
    json_int(j, "layers_without_rope", layers_without_rope(m));
    json_double(j, "attention_softcap", (double)c->attention_softcap);
    json_double(j, "logit_softcap", (double)c->logit_softcap);
    json_string(j, "attention", attention_name(c, buf));
    json_int(j, "n_params", (int64_t)s->n_params);
    json_int(j, "weight_bytes", (int64_t)s->weight_bytes);
    json_string(j, "type", s->type_name);
    json_begin(j, "kv_bytes_per_position", '{');
    for (int i = 0; i < N_KV_TYPES; i++) {
        uint64_t bytes = gqa_model_kv_bytes(m, kv_types[i], 1);
        json_int(j, gqa_type_name((int)kv_types[i]), (int64_t)bytes);
    }
    json_end(j, '}');
}

static void show_json(const gqa_model *m, const advice *a) {
    const gqa_config *c = gqa_model_config(m);
    const gqa_model_stats *s = gqa_model_get_stats(m);
    json_writer j = json_open();
    json_string(&j, "format", s->format);
    json_string(&j, "name", c->name);
    json_string(&j, "architecture", c->architecture);
    json_bool(&j, "has_weights", s->has_weights);
    json_bool(&j, "runnable", s->has_weights);
    json_int(&j, "vocab_size", gqa_vocab_size(m));
    if (s->has_weights) json_weights(&j, m);
    if (a) advice_json(a, &j);
    json_close(&j);
}

/* ---- a file that cannot be run --------------------------------------------------------------- */

/* The hyper-parameters that are shown as the file gives them: ARCHITECTURE.name. */
static const char *const shape_keys[] = {
    "block_count", "embedding_length", "feed_forward_length", "context_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.sliding_window", "expert_count", "expert_used_count",
};

/* The least and the largest of a number or an array of them under a key; 0 when there is none. */
static int key_range(const gqa_checkpoint *c, const char *name, int64_t range[2]) {
    char key[128];
    gguf_meta m = {.c = c};
    gqa_bytes architecture = gguf_meta_string(&m, "general.architecture");
    snprintf(key, sizeof key, "%.*s.%s", (int)min_size(architecture.size, 64),
             architecture.data ? architecture.data : "", name);
    const gguf_entry *e = gguf_find(c, key);
    if (!e || e->type == GGUF_STRING || (e->type == GGUF_ARRAY && !e->count)) return 0;
    range[0] = range[1] = e->i;
    for (uint64_t i = 0; e->type == GGUF_ARRAY && i < e->count; i++) {
        if (!gguf_scalar_size(e->array_type)) return 0;
        int64_t value = (int64_t)fmin(fmax(gguf_array_number(e, i), -1e15), 1e15);
        range[0] = i && range[0] < value ? range[0] : value;
        range[1] = i && range[1] > value ? range[1] : value;
    }
    return 1;
}

/* What keeps the file from being run. */
typedef struct obstacles {
    char texts[16][512];
    int n;
} obstacles;

/* A message without the path that it begins with. */
static void add_obstacle(obstacles *o, const char *path, const char *message) {
    size_t n = strlen(path);
    int has_path = !strncmp(message, path, n) && !strncmp(message + n, ": ", 2);
    if (o->n == (int)array_length(o->texts)) return;
    snprintf(o->texts[o->n++], sizeof o->texts[0], "%s", message + (has_path ? n + 2 : 0));
}

/* The types of tensors, each once with how many it has; those that are not ours as obstacles. */
static void list_types(const gqa_checkpoint *c, obstacles *o, char *out, size_t capacity) {
    int types[12], counts[12] = {0}, n = 0; /* more are left out */
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        int t = 0;
        while (t < n && types[t] != c->tensors[i].type) t++;
        if (t == (int)array_length(types)) continue;
        if (t == n) types[n++] = c->tensors[i].type;
        counts[t]++;
    }
    for (int t = 0; t < n; t++) {
        char text[120];
        const char *name = gqa_foreign_type_name(types[t]);
        if (!name) name = "unknown";
        used += (size_t)snprintf(out + used, capacity - used, "%s%d %s", t ? ", " : "", counts[t],
                                 name);
        snprintf(text, sizeof text, "tensors of type %s (%d) are not supported", name, types[t]);
        if (!gqa_type_info_of(types[t])) add_obstacle(o, "", text);
    }
}

static void find_obstacles(model_file *f, const gqa_error *why, obstacles *o, char types[512]) {
    const gqa_checkpoint *c = &f->checkpoint;
    gqa_error err = {0};
    if (c->refusal.code) add_obstacle(o, c->path, c->refusal.message);
    else if (c->n_tensors && gqa_check_tensors(c, &err)) add_obstacle(o, c->path, err.message);
    list_types(c, o, types, 512);
    if (model_file_vocab(f, NULL, &err)) add_obstacle(o, c->path, err.message);
    if (!o->n) add_obstacle(o, c->path, why->message);
}

static void show_refused_text(const model_file *f, const obstacles *o, const char *types) {
    const gqa_checkpoint *c = &f->checkpoint;
    char name[4 * sizeof c->config.name], architecture[4 * sizeof c->config.architecture];
    int64_t heads[2], kv_heads[2], range[2];
    gqa_escape(name, sizeof name, c->config.name);
    gqa_escape(architecture, sizeof architecture, c->config.architecture);
    printf("format         %s\n", c->format);
    if (name[0]) printf("name           %s\n", name);
    if (f->vocab) printf("vocabulary     %d tokens\n", gqa_vocab_count(f->vocab));
    printf("architecture   %s\n", architecture[0] ? architecture : "not given");
    if (key_range(c, "attention.head_count", heads)) {
        if (!key_range(c, "attention.head_count_kv", kv_heads)) memcpy(kv_heads, heads, 16);
        gqa_config shape = {.n_heads = (int)heads[1], .n_kv_heads = (int)kv_heads[1]};
        if (shape.n_kv_heads > 0 && kv_heads[0] == kv_heads[1]) show_attention(&shape);
    }
    for (size_t i = 0; i < array_length(shape_keys); i++) {
        if (!key_range(c, shape_keys[i], range)) continue;
        printf("%-26s %" PRId64, shape_keys[i], range[0]);
        if (range[0] != range[1]) printf(" to %" PRId64, range[1]);
        printf("\n");
    }
    printf("tensors        %d%s%s\n", c->n_tensors, c->n_tensors ? ": " : "", types);
    for (int i = 0; i < o->n; i++) printf("cannot be run  %s\n", o->texts[i]);
}

static void show_refused_json(const model_file *f, const obstacles *o, const char *types) {
    const gqa_checkpoint *c = &f->checkpoint;
    json_writer j = json_open();
    int64_t range[2];
    json_string(&j, "format", c->format);
    json_string(&j, "name", c->config.name);
    json_string(&j, "architecture", c->config.architecture);
    json_bool(&j, "runnable", 0);
    json_int(&j, "vocab_size", f->vocab ? gqa_vocab_count(f->vocab) : 0);
    json_int(&j, "n_tensors", c->n_tensors);
    json_string(&j, "types", types);
    for (size_t i = 0; i < array_length(shape_keys); i++) /* the largest, if layers differ */
        if (key_range(c, shape_keys[i], range)) json_int(&j, shape_keys[i], range[1]);
    json_begin(&j, "missing", '[');
    for (int i = 0; i < o->n; i++) json_string(&j, NULL, o->texts[i]);
    json_end(&j, ']');
    json_close(&j);
}

/* Describes a file that gqa_model_open refused because of `why`: any well-formed GGUF. */
static int show_refused(const char *path, int as_json, const gqa_error *why) {
    static obstacles o;
    char types[512];
    model_file f;
    int code = EXIT_SUCCESS;
    if (!gqa_kernels_choose(NULL, NULL)) return fail("%s", why->message); /* not of the file */
    if (model_file_describe(&f, path, NULL)) {
        code = fail("%s", why->message);
    } else {
        find_obstacles(&f, why, &o, types);
        if (as_json) show_refused_json(&f, &o, types);
        else show_refused_text(&f, &o, types);
    }
    model_file_close(&f);
    return code ? code : finish_stdout();
}

/* ---- verification ---------------------------------------------------------------------------- */

/* Whether all weights, or the scales of their blocks, are finite. */
static int verify_tensor(const gqa_checkpoint *c, const gqa_tensor *t) {
    enum { CHUNK = 4096 };
    float values[CHUNK];
    uint64_t n = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
    for (uint64_t at = 0; at < n; at += CHUNK) {
        size_t count = n - at < CHUNK ? (size_t)(n - at) : CHUNK;
        gqa_dequantize(t->type, t->data + gqa_type_bytes(t->type, at), values, count);
        for (size_t i = 0; i < count; i++)
            if (!isfinite(values[i]))
                return fail("%s: tensor %s: value %" PRIu64 " is %g, expected a finite number",
                            c->path, t->name, at + i, (double)values[i]);
    }
    return EXIT_SUCCESS;
}

static int verify(gqa_model *m, const char *path) {
    gqa_error err = {0};
    int code = EXIT_SUCCESS;
    for (int i = 0; i < m->file.n_tensors && !code; i++)
        code = verify_tensor(&m->file, &m->file.tensors[i]);
    char packed[1100];
    int n = snprintf(packed, sizeof packed, "%s.packed", path);
    if (code || !m->has_weights || n >= (int)sizeof packed || !gqa_os_exists(packed)) return code;
    return gqa_model_verify_packed(m, path, &err) ? fail("%s", err.message) : EXIT_SUCCESS;
}

int command_info(int argc, char **argv) {
    const char *path = NULL, *memory = NULL;
    advice a = {.batch = 1};
    int as_json = 0, wants_check = 0, n_paths = 0;
    gqa_error err = {0};
    gqa_model_options mo = {.no_repack = 1};
    const opt options[] = {
        {"-z FILE", OPT_STRING, &mo.tokenizer_path, 0, 0, LLAMA2C_HELP},
        {"--memory SIZE", OPT_STRING, &memory, 0, 0,
         "also say what fits in SIZE (8G), what binds, and what would\nchange it"},
        {"--context N", OPT_INT, &a.context, 1, 1 << 24,
         "positions of that (default: the model's context)"},
        {"--batch N", OPT_INT, &a.batch, 1, 1 << 20, "sequences of that (default 1)"},
        {"--json", OPT_FLAG, &as_json, 0, 0, "print one JSON object"},
        {"--verify", OPT_FLAG, &wants_check, 0, 0,
         "read all weights: they must be finite, and MODEL.packed, if it\n"
         "is there, this model's and whole"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &path, 1, &n_paths,
                             "run info MODEL [options]\n\n"
                             "Describes a model file, and its KV cache as MHA, GQA, MQA and MLA.");
    if (code >= 0) return code;
    if (!path) return usage_error("info: no model given");
    if (memory && parse_memory(memory, &a.memory)) return EXIT_USAGE;
    if (!memory && (a.context || a.batch > 1))
        return usage_error("info: --context and --batch need --memory");
    if (check_tokenizer(path, mo.tokenizer_path)) return EXIT_FAILURE;
    gqa_model *model = gqa_model_open(path, &mo, &err);
    if (!model && wants_check) return fail("%s", err.message);
    if (!model) return show_refused(path, as_json, &err);
    if (gqa_model_warning(model)) warning("%s", gqa_model_warning(model));
    code = wants_check ? verify(model, path) : EXIT_SUCCESS;
    a.model = model;
    if (!a.context) a.context = gqa_model_config(model)->context_length;
    int wants_advice = memory && gqa_model_get_stats(model)->has_weights;
    if (as_json) show_json(model, wants_advice ? &a : NULL);
    else show_text(model);
    if (wants_advice && !as_json) advice_text(&a);
    if (wants_check && !code && !as_json) printf("\nverified: all weights are finite\n");
    gqa_model_close(model);
    int written = finish_stdout();
    return code ? code : written;
}
