/* shape.c: shapes of models as options write them, and what the caches of such models hold. */
#include "command.h"

#include <string.h>

#include "../base/base.h"
#include "../kernels/kernels.h"

/* ---- --shape, --kv-heads -------------------------------------------------------------------- */

/* MLA's sizes are those of DeepSeek-V2 (arXiv 2405.04434, section 3.1.2) in head_dim's. */
static int set_latent(gqa_config *shape, const char *text) {
    int d = shape->head_dim, sizes[] = {4 * d, d / 2};
    char list[32];
    snprintf(list, sizeof list, "%s", text + (*text == ':'));
    char *plus = strchr(list, '+');
    if (plus) *plus = ',';
    if (*text && parse_int_list(list, 1, GQA_MAX_HEAD_DIM, sizes, 2) != 2) return -1;
    shape->latent_dim = sizes[0];
    shape->rope_dim = sizes[1];
    shape->head_dim = sizes[0] + sizes[1];
    shape->q_nope_dim = shape->value_dim = d;
    shape->n_kv_heads = 1;
    return 0;
}

static int set_tied(gqa_config *shape, const char *text) {
    int64_t groups = shape->n_kv_heads ? shape->n_kv_heads : max_int(shape->n_heads / 4, 1);
    if (*text && parse_int(text + 1, 1, 4096, &groups)) return -1;
    shape->tied_kv = 1;
    shape->n_kv_heads = (int)groups;
    return 0;
}

int set_attention(gqa_config *shape, const char *text) {
    int64_t n;
    int is_gta = !strncmp(text, "gta", 3) && strchr(":", text[3]);
    int is_mla = !strncmp(text, "mla", 3) && strchr(":", text[3]);
    if (!parse_int(text, 1, 4096, &n)) {
        shape->n_kv_heads = (int)n;
        return 0;
    }
    if (!shape->head_dim && shape->n_heads) shape->head_dim = shape->dim / shape->n_heads;
    int is_sized = shape->head_dim > 0 && shape->head_dim <= GQA_MAX_HEAD_DIM;
    if (is_gta && is_sized && !set_tied(shape, text + 3)) return 0;
    if (is_mla && is_sized && !set_latent(shape, text + 3)) return 0;
    return usage_error("KV heads: %s: expected a number, gta, gta:G, mla or mla:LATENT+ROPE, of "
                       "heads of 1 to %d", text, GQA_MAX_HEAD_DIM);
}

static int set_field(const char *name, const char *value, gqa_config *shape, gqa_type *type) {
    const struct { const char *name; int *value; } fields[] = {
        {"dim", &shape->dim},
        {"layers", &shape->n_layers},
        {"heads", &shape->n_heads},
        {"ffn", &shape->ffn_dim},
        {"vocab", &shape->vocab_size},
        {"head_dim", &shape->head_dim},
        {"context", &shape->context_length},
        {"window", &shape->window},
    };
    if (!strcmp(name, "type")) {
        int t = gqa_type_from_name(value);
        if (t < 0)
            return usage_error("--shape: type=%s: expected f32, f16, bf16, q8_0, q4_0, ...", value);
        *type = (gqa_type)t;
        return 0;
    }
    for (size_t i = 0; i < array_length(fields); i++) {
        int64_t v;
        if (strcmp(name, fields[i].name)) continue;
        if (parse_int(value, 1, INT32_MAX, &v))
            return usage_error("--shape: %s=%s: expected a number from 1", name, value);
        *fields[i].value = (int)v;
        return 0;
    }
    return usage_error("--shape: unknown field \"%s\"; expected dim, layers, heads, kv_heads, ffn, "
                       "vocab, head_dim, context, window or type", name);
}

int parse_shape(const char *text, gqa_config *shape, gqa_type *type) {
    char attention[64];
    int has_attention = 0;
    for (const char *p = text; *p;) {
        char item[64];
        int len = (int)strcspn(p, ",");
        snprintf(item, sizeof item, "%.*s", len, p);
        char *equals = strchr(item, '=');
        if (!equals || len >= (int)sizeof item)
            return usage_error("--shape %s: expected NAME=VALUE,..., got \"%.*s\"", text, len, p);
        *equals = 0;
        p += len + (p[len] == ',');
        int is_attention = !strcmp(item, "kv_heads");
        has_attention |= is_attention;
        if (is_attention) strcpy(attention, equals + 1);
        else if (set_field(item, equals + 1, shape, type)) return EXIT_USAGE;
    }
    return has_attention ? set_attention(shape, attention) : 0; /* it needs the other fields */
}

/* ---- caches --------------------------------------------------------------------------------- */

uint64_t kv_cache_bytes(const gqa_model *m, const char *kv, int n) {
    int k_type, v_type;
    if (gqa_kv_types(kv, &k_type, &v_type)) return 0;
    uint64_t as_k = gqa_model_kv_bytes(m, (gqa_type)k_type, n);
    return (as_k + gqa_model_kv_bytes(m, (gqa_type)v_type, n)) / 2;
}

const char *attention_name(const gqa_config *c, char buf[16]) {
    if (c->latent_dim) return "MLA";
    if (c->tied_kv) {
        snprintf(buf, 16, "GTA-%d", c->n_kv_heads);
        return buf;
    }
    if (c->n_kv_heads == c->n_heads) return "MHA";
    if (c->n_kv_heads == 1) return "MQA";
    snprintf(buf, 16, "GQA-%d", c->n_kv_heads);
    return buf;
}

/* Sum over layers, or those with a cache, of the positions seen times the numbers of a head's K and
 * V; is_latent: in the row that MLA caches, K of all of it and V of the latent. */
static double head_values(const gqa_model *m, int is_latent, int is_cached, int n) {
    const gqa_config *c = gqa_model_config(m);
    double sum = 0;
    for (int l = 0; l < c->n_layers; l++) {
        const gqa_layer_config *of = gqa_model_layer(m, l);
        int width = is_latent ? c->head_dim + c->latent_dim
                  : c->latent_dim ? c->q_nope_dim + c->rope_dim + c->value_dim : 2 * of->head_dim;
        if (!is_cached || of->kv_layer == l)
            sum += (double)width * (of->window ? min_int(of->window, n) : n);
    }
    return sum;
}

double kv_values(const gqa_model *m, double kv_heads, int n) {
    if (kv_heads == 0) return (double)gqa_model_kv_bytes(m, GQA_TYPE_F32, n) / sizeof(float);
    return kv_heads * head_values(m, 0, 1, n);
}

double attention_macs(const gqa_model *m, double kv_heads, int n) {
    const gqa_config *c = gqa_model_config(m);
    return c->n_heads * head_values(m, c->latent_dim && kv_heads == 0, 0, n);
}
