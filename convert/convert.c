/* convert.c: streams the tensors and the metadata of a checkpoint into a new one: all threads
 * convert some chunks, which are then written. */
#include "convert.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../formats/gguf.h"
#include "../kernels/team.h"
#include "../kernels/tensor.h"
#include "../weights/model_internal.h"
#include "convert_internal.h"

static const char *const pool_names[] = {"mean", "first", "random", "renorm", "aligned"};
enum { N_POOLS = array_length(pool_names) };
enum { CHUNK = 1 << 15 }; /* values that one thread converts at once: whole blocks of any type */
enum { N_CHUNKS = 32 };   /* chunks between two writes */

int gqa_pool_from_name(const char *name) {
    for (int i = 0; i < N_POOLS; i++)
        if (!strcmp(name, pool_names[i])) return i;
    return -1;
}
const char *gqa_pool_name(gqa_pool pool) { return pool_names[pool]; }

enum fault { FINE, NOT_FINITE, TOO_LARGE };

/* A conversion under way. */
typedef struct job {
    const gqa_checkpoint *c;
    const gqa_convert_options *o;
    gqa_config config;          /* of the result */
    head_plan *plans;           /* [n_layers], or NULL */
    gguf_writer *w;
    uint64_t values, done;      /* of the result; for progress */
    gqa_team *team;
    float *inputs;              /* [N_CHUNKS, CHUNK] */
    uint8_t *outputs;           /* the same, as large */
    enum fault faults[N_CHUNKS];
} job;

/* ---- tensors by name ------------------------------------------------------------------------- */

static tensor_kind kind_of(const char *name) {
    static const struct {
        const char *ending;
        tensor_kind kind;
    } kinds[] = {
        {".attn_q.weight", QUERY}, {".attn_q.bias", QUERY}, {".attn_k.weight", KEY},
        {".attn_k.bias", KEY}, {".attn_v.weight", VALUE}, {".attn_v.bias", VALUE},
        {".attn_output.weight", OUTPUT},
    };
    for (size_t i = 0; i < array_length(kinds); i++) {
        size_t n = strlen(name), m = strlen(kinds[i].ending);
        if (n >= m && !strcmp(name + n - m, kinds[i].ending)) return kinds[i].kind;
    }
    return OTHER;
}

static int layer_of(const char *name) {
    int l;
    return sscanf(name, "blk.%d.", &l) == 1 ? l : 0;
}

/* Matrices of V in the layers before `end` (gemma4: not every layer has one). */
static int values_before(const job *j, int end) {
    int n = 0;
    for (int i = 0; i < j->c->n_tensors; i++) {
        const gqa_tensor *t = &j->c->tensors[i];
        n += t->n_dims == 2 && kind_of(t->name) == VALUE && layer_of(t->name) < end;
    }
    return n;
}

/* Llama's and Qwen's of 70 B, whose V is small beside Q. */
static int is_70b(const gqa_config *c) {
    int is_llama = !strcmp(c->architecture, "llama") && c->n_kv_heads < c->n_heads;
    return c->n_layers == 80 && (is_llama || !strcmp(c->architecture, "qwen2"));
}

/* The type of a matrix in q4_k_m: wider for the classifier, and for V and the FFN's output in the
 * first and last eighth of the layers (of those with a V) and in every third between. */
static int mixture_type(const job *j, const gqa_tensor *t) {
    const int is_value = kind_of(t->name) == VALUE, n_layers = j->c->config.n_layers;
    const int n = is_value ? values_before(j, n_layers) : n_layers;
    const int l = is_value ? values_before(j, layer_of(t->name)) : layer_of(t->name);
    const int is_wide = l < n / 8 || l >= 7 * n / 8 || (l - n / 8) % 3 == 2;
    const int is_tied = !gqa_checkpoint_tensor(j->c, "output.weight");
    const int is_embedding = strstr(t->name, "token_embd.weight") != NULL; /* or of all layers */
    if (is_tied ? is_embedding : !strcmp(t->name, "output.weight")) return GQA_TYPE_Q6_K;
    if (!strcmp(t->name, "per_layer_model_proj.weight")) return t->type;
    if (strstr(t->name, ".attn_qkv.weight")) return GQA_TYPE_Q5_K;
    if (is_wide && (is_value || strstr(t->name, ".ffn_down.weight"))) return GQA_TYPE_Q6_K;
    return is_value && is_70b(&j->config) ? GQA_TYPE_Q5_K : GQA_TYPE_Q4_K;
}

/* The type of a tensor in the result. Rows that are no whole blocks of the wanted type get a wider
 * one, in q4_k_m that of llama.cpp. */
static int type_of(const job *j, const gqa_tensor *t) {
    if (t->n_dims < 2) return t->type;
    int type = j->o->type < 0 ? t->type : j->o->is_mixture ? mixture_type(j, t) : j->o->type;
    if (t->dims[0] % (uint64_t)gqa_type_info_of(type)->block == 0) return type;
    if (t->dims[0] % 32 == 0 && j->o->is_mixture && type != GQA_TYPE_Q6_K)
        return type == GQA_TYPE_Q4_K ? GQA_TYPE_Q5_0 : GQA_TYPE_Q5_1;
    return t->dims[0] % 32 == 0 ? GQA_TYPE_Q8_0 : GQA_TYPE_F16;
}

static int is_pooled(const job *j) { return j->config.n_kv_heads < j->c->config.n_kv_heads; }
static int is_repeated(const job *j) { return j->config.n_kv_heads > j->c->config.n_kv_heads; }
static int changes_count(const job *j) { return is_pooled(j) || is_repeated(j); }

/* Whether a tensor's heads move, or become fewer or more. */
static int moves_heads(const job *j, tensor_kind kind) {
    return (changes_count(j) && (kind == KEY || kind == VALUE)) || (j->plans && kind != OTHER);
}

/* ---- metadata -------------------------------------------------------------------------------- */

/* llama.cpp's number for a file mostly of one type. */
static int file_type(int type) {
    switch (type) {
    case GQA_TYPE_F16: return 1;
    case GQA_TYPE_Q4_0: return 2;
    case GQA_TYPE_Q4_1: return 3;
    case GQA_TYPE_Q8_0: return 7;
    case GQA_TYPE_Q5_0: return 8;
    case GQA_TYPE_Q5_1: return 9;
    case GQA_TYPE_Q4_K: return 14;
    case GQA_TYPE_Q5_K: return 16;
    case GQA_TYPE_Q6_K: return 18;
    case GQA_TYPE_BF16: return 32;
    default: return 0;
    }
}

/* Whether the result gets a value of its own for that key, or none. */
static int is_replaced(const job *j, const gguf_entry *e, const char *kv_key) {
    const char *const keys[] = {
        kv_key, "general.alignment", "gqa.convert.command", "gqa.convert.pool",
        "gqa.convert.kv_heads_before", j->o->type >= 0 ? "general.file_type" : kv_key,
        strcmp(j->config.name, j->c->config.name) ? "general.name" : kv_key,
    };
    for (size_t i = 0; i < array_length(keys); i++) {
        size_t n = strlen(keys[i]);
        if (e->key.size == n && !memcmp(e->key.data, keys[i], n)) return 1;
    }
    return 0;
}

/* What became of the heads: "mean-pooled", "repeated". */
static const char *head_change(const job *j, char buf[24]) {
    if (is_repeated(j)) return "repeated";
    snprintf(buf, 24, "%s-pooled", gqa_pool_name(j->o->pool));
    return buf;
}

/* The name says what became of the heads. */
static void name_changed(job *j) {
    gqa_config *c = &j->config;
    char name[sizeof c->name], buf[24];
    const char *kind = c->n_kv_heads == c->n_heads ? "MHA" : c->n_kv_heads == 1 ? "MQA" : "GQA";
    int n = snprintf(name, sizeof name, "%.28s (%s, %d KV head%s, %s)", c->name, kind,
                     c->n_kv_heads, c->n_kv_heads == 1 ? "" : "s", head_change(j, buf));
    if (c->name[0] && n > 0) memcpy(c->name, name, sizeof name);
}

static void put_text(gguf_writer *w, const char *key, const char *text) {
    gguf_put_string(w, key, text, strlen(text));
}

static void put_metadata(job *j) {
    const gqa_checkpoint *c = j->c;
    char kv_key[64] = ""; /* replaced when their number changes; else it may be an array */
    if (changes_count(j))
        snprintf(kv_key, sizeof kv_key, "%s.attention.head_count_kv", j->config.architecture);
    if (c->n_meta == 0) {
        gguf_put_config(j->w, &j->config);
        if (j->o->vocab) gqa_vocab_write(j->o->vocab, j->w);
    }
    for (int i = 0; i < c->n_meta; i++)
        if (!is_replaced(j, &c->meta[i], kv_key)) gguf_put_entry(j->w, &c->meta[i]);
    if (c->n_meta && changes_count(j)) gguf_put_int(j->w, kv_key, GGUF_U32, j->config.n_kv_heads);
    if (c->n_meta && strcmp(j->config.name, c->config.name))
        put_text(j->w, "general.name", j->config.name);
    if (j->o->type >= 0)
        gguf_put_int(j->w, "general.file_type", GGUF_U32,
                     j->o->is_mixture ? 15 : file_type(j->o->type));
    if (changes_count(j)) {
        const char *pool = is_pooled(j) ? gqa_pool_name(j->o->pool) : "repeat";
        put_text(j->w, "gqa.convert.pool", pool);
        gguf_put_int(j->w, "gqa.convert.kv_heads_before", GGUF_U32, c->config.n_kv_heads);
    }
    if (j->o->provenance) put_text(j->w, "gqa.convert.command", j->o->provenance);
}

/* ---- tensors --------------------------------------------------------------------------------- */

static size_t count_values(const uint64_t *dims) {
    uint64_t n = 1; /* no overflow: checked when the file was read */
    for (int d = 0; d < GQA_MAX_DIMS; d++) n *= dims[d];
    return (size_t)n;
}

static void declare_tensor(job *j, const gqa_tensor *t) {
    uint64_t dims[GQA_MAX_DIMS];
    uint64_t kv_dim = (uint64_t)j->config.n_kv_heads * (uint64_t)j->config.head_dim;
    tensor_kind kind = kind_of(t->name);
    memcpy(dims, t->dims, sizeof dims);
    if (changes_count(j) && (kind == KEY || kind == VALUE)) dims[t->dims[1] > 1] = kv_dim;
    j->values += count_values(dims);
    gguf_declare_tensor(j->w, t->name, type_of(j, t), t->n_dims, dims);
}

static int report(job *j, size_t values, gqa_error *err) {
    j->done += values;
    if (!j->o->on_progress) return 0;
    double start = j->plans ? 0.5 : 0, share = (double)j->done / (double)j->values;
    if (!j->o->on_progress(j->o->user, start + (1 - start) * share)) return 0;
    return gqa_fail_path(j->c->path, err, GQA_ERR_CANCELLED, "cancelled");
}

static int is_finite(const float *values, size_t n) {
    float zero = 0;
    for (size_t i = 0; i < n; i++) zero += values[i] * 0;
    return zero == 0;
}

/* Values of one type that become another: at most N_CHUNKS * CHUNK. */
typedef struct stretch {
    job *j;
    const uint8_t *data;
    size_t n;
    int from, to;
} stretch;

/* Types whose blocks are q8_0's, an f16 scale for 32 integers, in fewer bits. */
static int is_narrow_q8_0(int type) {
    return type == GQA_TYPE_Q4_0 || type == GQA_TYPE_Q5_0 || type == GQA_TYPE_IQ4_NL;
}

/* values[n] of blocks of such a type as q8_0: the same scales and integers, nothing is rounded. */
static void widen(int from, const uint8_t *block, const float *values, size_t n, uint8_t *out) {
    const size_t bytes = (size_t)gqa_type_bytes(from, 32);
    for (size_t i = 0; i < n; i += 32, block += bytes, out += 34) {
        uint16_t half;
        memcpy(&half, block, 2);
        memcpy(out, &half, 2);
        float d = gqa_f16_to_f32(half);
        for (int k = 0; k < 32; k++) /* exact */
            out[2 + k] = (uint8_t)(int8_t)(d != 0 ? values[i + k] / d : 0);
    }
}

/* Chunk i into its place in j->outputs. A type that stays is checked, but not converted. */
static enum fault convert_chunk(const stretch *s, int i) {
    size_t first = (size_t)i * CHUNK, n = min_size(s->n - first, CHUNK);
    const uint8_t *data = s->data + (size_t)gqa_type_bytes(s->from, first);
    float *values = s->j->inputs + first;
    uint8_t *out = s->j->outputs + (size_t)gqa_type_bytes(s->to, first);
    gqa_dequantize(s->from, data, values, n);
    if (!is_finite(values, n)) return NOT_FINITE;
    if (s->from == s->to) return FINE;
    if (s->to == GQA_TYPE_Q8_0 && is_narrow_q8_0(s->from)) {
        widen(s->from, data, values, n, out);
        return FINE;
    }
    gqa_quantize(s->to, values, out, n);
    gqa_dequantize(s->to, out, values, n);
    return is_finite(values, n) ? FINE : TOO_LARGE;
}

static void convert_chunks(gqa_worker *me, void *arg) {
    const stretch *s = arg;
    for_units(i, me, ceil_div((int)s->n, CHUNK)) s->j->faults[i] = convert_chunk(s, i);
}

/* Writes data[n] of type `from` as the tensor's type in the result: converted by all threads, in
 * chunks that do not depend on their number, and written in order. */
static int put_values(job *j, const gqa_tensor *t, int from, const void *data, size_t n,
                      gqa_error *err) {
    static const char *const faults[] = {
        [NOT_FINITE] = "NaN or infinity", [TOO_LARGE] = "values too large for the new type",
    };
    int status = 0;
    stretch s = {.j = j, .from = from, .to = type_of(j, t)};
    for (size_t at = 0; at < n && !status; at += s.n) {
        s.data = (const uint8_t *)data + (size_t)gqa_type_bytes(from, at);
        s.n = min_size(n - at, N_CHUNKS * CHUNK);
        gqa_team_run(j->team, INT_MAX, convert_chunks, &s);
        for (int i = 0; i < ceil_div((int)s.n, CHUNK); i++)
            if (j->faults[i])
                return fail_format(j->c, err, "tensor %s has %s", t->name, faults[j->faults[i]]);
        const uint8_t *out = s.from == s.to ? s.data : j->outputs;
        gguf_write_tensor_data(j->w, out, (size_t)gqa_type_bytes(s.to, s.n));
        status = report(j, s.n, err);
    }
    return status;
}

static int put_heads(job *j, const gqa_tensor *t, uint64_t salt, gqa_error *err) {
    int is_matrix = t->dims[1] > 1; /* gqa_check_tensors: a matrix of heads has two rows or more */
    size_t cols = is_matrix ? (size_t)t->dims[0] : 1, rows = (size_t)t->dims[is_matrix];
    float *before = malloc(sizeof(float) * rows * cols);
    float *after = malloc(sizeof(float) * rows * cols);
    int status = GQA_ERR_MEMORY;
    if (before && after) {
        const head_plan *plan = j->plans ? &j->plans[layer_of(t->name)] : NULL;
        gqa_dequantize(t->type, t->data, before, rows * cols);
        rows = convert_heads(&j->c->config, j->o, plan, kind_of(t->name), salt, before, rows, cols,
                             after);
        status = put_values(j, t, GQA_TYPE_F32, after, rows * cols, err);
    } else {
        gqa_fail_path(j->c->path, err, GQA_ERR_MEMORY, "no memory to convert %s", t->name);
    }
    free(before);
    free(after);
    return status;
}

/* Each K or V head as often as it has query heads more than before: the same numbers, bit for
 * bit, as query head q reads KV head q / group. */
static int put_repeated(job *j, const gqa_tensor *t, gqa_error *err) {
    size_t n = count_values(t->dims), heads = j->c->config.n_kv_heads;
    size_t times = j->config.n_kv_heads / heads, size = gqa_type_bytes(t->type, n) / heads;
    uint8_t *out = malloc(size * heads * times); /* at most that of Q: no overflow */
    if (!out)
        return gqa_fail_path(j->c->path, err, GQA_ERR_MEMORY, "no memory to convert %s", t->name);
    for (size_t i = 0; i < heads * times; i++)
        memcpy(out + i * size, t->data + i / times * size, size);
    int status = put_values(j, t, t->type, out, n * times, err);
    free(out);
    return status;
}

static int put_tensors(job *j, gqa_error *err) {
    int status = 0;
    for (int i = 0; i < j->c->n_tensors; i++) declare_tensor(j, &j->c->tensors[i]);
    for (int i = 0; i < j->c->n_tensors && !status; i++) {
        const gqa_tensor *t = &j->c->tensors[i];
        int moves = moves_heads(j, kind_of(t->name));
        if (moves && is_repeated(j)) status = put_repeated(j, t, err);
        else if (moves) status = put_heads(j, t, (uint64_t)i << 40, err);
        else status = put_values(j, t, t->type, t->data, count_values(t->dims), err);
    }
    return status;
}

/* ---- gqa_convert ----------------------------------------------------------------------------- */

/* Whether the K and V heads of every layer are alike, and rows of matrices of their own. */
static int can_pool(const gqa_checkpoint *c) {
    int is_alike = c->config.qk_norm != GQA_QK_NORM_ROWS &&
                   !gqa_checkpoint_tensor(c, "blk.0.attn_qkv.weight");
    for (int l = 0; l < c->config.n_layers; l++) {
        gqa_layer_config layer = gqa_checkpoint_layer(c, l);
        is_alike &= layer.n_kv_heads == c->config.n_kv_heads && layer.kv_layer == l &&
                    layer.head_dim == c->config.head_dim;
    }
    return is_alike;
}

int gqa_can_have_kv_heads(const gqa_config *c, int n) {
    return n >= 0 && (!n || c->n_kv_heads % n == 0 ||
                      (n % c->n_kv_heads == 0 && c->n_heads % n == 0));
}

static int check_convert_options(const gqa_checkpoint *c, const gqa_convert_options *o,
                                 gqa_error *err) {
    if (c->n_tensors == 0)
        return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT, "no weights to convert");
    if (o->type >= 0 && !gqa_can_quantize(o->type))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "tensor type %d is not supported", o->type);
    if (!gqa_can_have_kv_heads(&c->config, o->kv_heads))
        return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                             "%d KV heads cannot become %d: expected a divisor, or a multiple that "
                             "divides the %d query heads", c->config.n_kv_heads, o->kv_heads,
                             c->config.n_heads);
    int status = gqa_check_tensors(c, err);
    if (!status && c->config.latent_dim && c->n_meta && c->owned)
        return gqa_fail_path(c->path, err, GQA_ERR_UNSUPPORTED, "a %s file of before 2025, with "
                             "attn_kv_b, runs but cannot be converted", c->config.architecture);
    if (!status && o->kv_heads > 1 && c->config.latent_dim)
        return gqa_fail_path(c->path, err, GQA_ERR_UNSUPPORTED, "a %s model caches one row for all "
                             "heads: there are no KV heads to repeat", c->config.architecture);
    const int pools = !status && o->kv_heads && o->kv_heads != c->config.n_kv_heads;
    if (pools && c->config.tied_kv)
        return gqa_fail_path(c->path, err, GQA_ERR_UNSUPPORTED, "the KV heads of a %s model are "
                             "keys and values at once and cannot be pooled or repeated",
                             c->config.architecture);
    if (pools && !can_pool(c))
        status = gqa_fail_path(c->path, err, GQA_ERR_UNSUPPORTED,
                               "KV heads of a %s model that differ from layer to layer, have norms "
                               "over all of them or are fused with Q cannot be pooled or repeated",
                               c->config.architecture);
    return status;
}

static int alloc_chunks(job *j, gqa_error *err) {
    size_t bytes = sizeof(float) * N_CHUNKS * CHUNK;
    int n_threads = j->o->n_threads > 0 ? j->o->n_threads : gqa_threads_default();
    j->team = gqa_team_new(n_threads, NULL, NULL);
    j->inputs = malloc(bytes);
    j->outputs = malloc(bytes);
    if (j->team && j->inputs && j->outputs) return 0;
    return gqa_fail_path(j->c->path, err, GQA_ERR_MEMORY, "no memory to convert weights");
}

static int write_all(job *j, const char *path, uint8_t **data, size_t *size, gqa_error *err) {
    j->w = gguf_writer_new(path, err);
    if (!j->w) return GQA_ERR_IO;
    put_metadata(j);
    int status = put_tensors(j, err);
    if (status) gguf_writer_cancel(j->w);
    else if (path) status = gguf_finish(j->w, err);
    else status = gguf_finish_memory(j->w, data, size, err);
    return status;
}

int gqa_convert(const gqa_checkpoint *c, const gqa_convert_options *o, const char *path,
                uint8_t **data, size_t *size, gqa_error *err) {
    job j = {.c = c, .o = o, .config = c->config};
    int status = check_convert_options(c, o, err);
    if (!status) status = plan_heads(&j.plans, c, o, err);
    if (status) return status;
    if (o->kv_heads && !o->keep_heads) j.config.n_kv_heads = o->kv_heads;
    if (changes_count(&j)) name_changed(&j);
    status = alloc_chunks(&j, err);
    if (!status) status = write_all(&j, path, data, size, err);
    gqa_team_free(j.team);
    free(j.inputs);
    free(j.outputs);
    plan_free(j.plans, c->config.n_layers);
    return status;
}
