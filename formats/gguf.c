/* gguf.c: reads GGUF v2 and v3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 *
 *   "GGUF", u32 version, u64 n_tensors, u64 n_kv
 *   n_kv times: string key, u32 type, value           string: u64 length, bytes    array: u32 type, u64 count, elements
 *   n_tensors times: string name, u32 n_dims, n_dims x u64 (the row length first), u32 type, u64 offset
 *   padding to the alignment, then tensor data at data + offset, each offset a multiple of the alignment
 *
 * Nothing in the file is believed before it is checked: counts against the bytes that are left, products in 64 bits with
 * overflow checks, names for repetition, tensors for overlap. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/cursor.h"
#include "../kernels/tensor.h"
#include "gguf.h"

enum { MIN_ENTRY = 8 + 1 + 4 + 1, MIN_TENSOR = 8 + 1 + 4 + 8 + 4 + 8, MAX_KEY = 65535, MAX_ALIGNMENT = 65536,
       MAX_ENTRIES = 1 << 16 /* of metadata and of tensors: far above any real file, small enough to allocate for */ };

unsigned gguf_scalar_size(uint32_t type) {
    static const unsigned char sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof sizes ? sizes[type] : 0;
}

static gqa_bytes read_string(gqa_cursor *in) {
    uint64_t n = cursor_u64(in);
    const char *p = (const char *)cursor_take(in, n);
    return (gqa_bytes){p, p ? n : 0};
}

/* ---- metadata ---------------------------------------------------------------------------------------------------- */

static double number_at(uint32_t type, const uint8_t *p) {
    union { uint64_t u; int64_t i; double d; } v8;
    union { uint32_t u; int32_t i; float f; } v4;
    uint16_t v2;
    switch (type) {
    case GGUF_U8: case GGUF_BOOL: return *p;
    case GGUF_I8: return (int8_t)*p;
    case GGUF_U16: memcpy(&v2, p, 2); return v2;
    case GGUF_I16: memcpy(&v2, p, 2); return (int16_t)v2;
    case GGUF_U32: memcpy(&v4, p, 4); return v4.u;
    case GGUF_I32: memcpy(&v4, p, 4); return v4.i;
    case GGUF_F32: memcpy(&v4, p, 4); return (double)v4.f;
    case GGUF_U64: memcpy(&v8, p, 8); return (double)v8.u;
    case GGUF_I64: memcpy(&v8, p, 8); return (double)v8.i;
    case GGUF_F64: memcpy(&v8, p, 8); return v8.d;
    default: return 0;
    }
}

/* A scalar as integer and as number; float values leave the integer 0. */
static void read_scalar(gqa_cursor *in, gguf_entry *e) {
    unsigned n = gguf_scalar_size((uint32_t)e->type);
    uint64_t at = in->at, raw = cursor_scalar(in, n);
    if (in->bad) return;
    e->f = number_at((uint32_t)e->type, in->data + at);
    switch (e->type) {
    case GGUF_I8: e->i = (int8_t)raw; break;
    case GGUF_I16: e->i = (int16_t)raw; break;
    case GGUF_I32: e->i = (int32_t)raw; break;
    case GGUF_F32: case GGUF_F64: break;
    default: memcpy(&e->i, &raw, sizeof raw); break;
    }
}

static int read_array(gqa_checkpoint *c, gqa_cursor *in, gguf_entry *e, const char *key, gqa_error *err) {
    e->array_type = (int)cursor_u32(in);
    e->count = cursor_u64(in);
    unsigned size = gguf_scalar_size((uint32_t)e->array_type);
    if (in->bad) return 0;
    if (!size && e->array_type != GGUF_STRING)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s: arrays of type %d are not supported", c->path, key, e->array_type);
    if (e->count > cursor_left(in) / (size ? size : 8))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s: an array of %llu elements in the %llu bytes that are left", c->path, key,
                        (unsigned long long)e->count, (unsigned long long)cursor_left(in));
    e->array = in->data + in->at;
    if (size) cursor_take(in, e->count * size);
    else for (uint64_t i = 0; i < e->count && !in->bad; i++) read_string(in);
    return 0;
}

static int read_entry(gqa_checkpoint *c, gqa_cursor *in, gguf_entry *e, gqa_error *err) {
    char key[128];
    memset(e, 0, sizeof *e);
    e->key = read_string(in);
    e->type = (int)cursor_u32(in);
    if (in->bad) return 0;
    snprintf(key, sizeof key, "%.*s", (int)(e->key.size < 100 ? e->key.size : 100), e->key.data);
    if (e->key.size == 0 || e->key.size > MAX_KEY)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: a metadata key of %llu bytes", c->path, (unsigned long long)e->key.size);
    if (e->type == GGUF_STRING) e->string = read_string(in);
    else if (e->type == GGUF_ARRAY) return read_array(c, in, e, key, err);
    else if (gguf_scalar_size((uint32_t)e->type)) read_scalar(in, e);
    else return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s: unknown value type %d", c->path, key, e->type);
    return 0;
}

static int compare_bytes(gqa_bytes a, gqa_bytes b) {
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int by_key(const void *a, const void *b) { return compare_bytes(((const gguf_entry *)a)->key, ((const gguf_entry *)b)->key); }

const gguf_entry *gguf_find(const gqa_checkpoint *c, const char *key) {
    gqa_bytes wanted = {key, strlen(key)};
    for (int i = 0; i < c->n_meta; i++)
        if (!compare_bytes(c->meta[i].key, wanted)) return &c->meta[i];
    return NULL;
}

static int is_integer(const gguf_entry *e) {
    return e->type <= GGUF_I32 || e->type == GGUF_BOOL || e->type == GGUF_U64 || e->type == GGUF_I64;
}

static int wrong_type(const gqa_checkpoint *c, const char *key, const char *wanted, const gguf_entry *e, gqa_error *err) {
    static const char *const names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
    return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s: expected %s, got %s", c->path, key, wanted, names[e->type]);
}

int gguf_get_int(const gqa_checkpoint *c, const char *key, int64_t min, int64_t max, int *out, gqa_error *err) {
    const gguf_entry *e = gguf_find(c, key);
    if (!e) return 1;
    if (!is_integer(e)) return wrong_type(c, key, "an integer", e, err);
    if (e->i < min || e->i > max)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s is %lld, expected %lld to %lld", c->path, key, (long long)e->i, (long long)min, (long long)max);
    *out = (int)e->i;
    return 0;
}

int gguf_get_float(const gqa_checkpoint *c, const char *key, float *out, gqa_error *err) {
    const gguf_entry *e = gguf_find(c, key);
    if (!e) return 1;
    if (e->type != GGUF_F32 && e->type != GGUF_F64) return wrong_type(c, key, "a number with a point", e, err);
    if (!isfinite(e->f) || fabs(e->f) > 3e38) return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s is not finite", c->path, key);
    *out = (float)e->f;
    return 0;
}

int gguf_get_bool(const gqa_checkpoint *c, const char *key, int *out, gqa_error *err) {
    const gguf_entry *e = gguf_find(c, key);
    if (!e) return 1;
    if (e->type != GGUF_BOOL) return wrong_type(c, key, "bool", e, err);
    *out = e->i != 0;
    return 0;
}

int gguf_get_string(const gqa_checkpoint *c, const char *key, gqa_bytes *out, gqa_error *err) {
    const gguf_entry *e = gguf_find(c, key);
    if (!e) return 1;
    if (e->type != GGUF_STRING) return wrong_type(c, key, "a string", e, err);
    *out = e->string;
    return 0;
}

gqa_bytes gguf_next_string(const uint8_t **cursor) {
    gqa_bytes s;
    memcpy(&s.size, *cursor, 8);
    s.data = (const char *)*cursor + 8;
    *cursor += 8 + s.size;
    return s;
}

double gguf_array_number(const gguf_entry *e, uint64_t i) {
    return number_at((uint32_t)e->array_type, e->array + i * gguf_scalar_size((uint32_t)e->array_type));
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

/* Reads one tensor's description; its offset goes to *offset. */
static int read_tensor(gqa_checkpoint *c, gqa_cursor *in, gqa_tensor *t, uint64_t *offset, gqa_error *err) {
    memset(t, 0, sizeof *t);
    gqa_bytes name = read_string(in);
    t->n_dims = (int)cursor_u32(in);
    if (in->bad) return 0;
    if (name.size == 0 || name.size > GQA_TENSOR_NAME || memchr(name.data, 0, name.size))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: a tensor name of %llu bytes, expected 1 to %d", c->path, (unsigned long long)name.size, GQA_TENSOR_NAME);
    memcpy(t->name, name.data, name.size);
    if (t->n_dims < 1 || t->n_dims > GQA_MAX_DIMS)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s: %u dimensions, expected 1 to %d", c->path, t->name, (unsigned)t->n_dims, GQA_MAX_DIMS);
    uint64_t n = 1;
    for (int d = 0; d < GQA_MAX_DIMS; d++) {
        t->dims[d] = d < t->n_dims ? cursor_u64(in) : 1;
        if (!in->bad && (t->dims[d] == 0 || gqa_mul_size(n, t->dims[d], &n) || n > INT64_MAX))
            return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s: dimension %d is %llu", c->path, t->name, d, (unsigned long long)t->dims[d]);
    }
    t->type = (int)cursor_u32(in);
    *offset = cursor_u64(in);
    if (in->bad) return 0;
    const gqa_type_info *info = gqa_type_info_of(t->type);
    if (!info) {
        const char *foreign = gqa_foreign_type_name(t->type);
        return gqa_fail(err, foreign ? GQA_ERR_UNSUPPORTED : GQA_ERR_FORMAT,
                        "%s: tensor %s: type %s (%d) is not supported (f32, f16, bf16, q8_0, q4_0, q5_0, q4_k, q5_k, q6_k are)", c->path,
                        t->name, foreign ? foreign : "unknown", t->type);
    }
    if (t->dims[0] % (uint64_t)info->block)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s: rows of %llu values are not a multiple of %s's block of %d", c->path, t->name,
                        (unsigned long long)t->dims[0], info->name, info->block);
    t->size = gqa_type_bytes(t->type, n);
    if (!t->size) return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s: too large", c->path, t->name);
    return 0;
}

static int by_name(const void *a, const void *b) { return strcmp((*(const gqa_tensor *const *)a)->name, (*(const gqa_tensor *const *)b)->name); }
static int by_data(const void *a, const void *b) {
    const gqa_tensor *x = *(const gqa_tensor *const *)a, *y = *(const gqa_tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

/* No name twice, no byte in two tensors. */
static int check_distinct(const gqa_checkpoint *c, gqa_error *err) {
    const gqa_tensor **order = malloc(sizeof *order * (size_t)(c->n_tensors + 1));
    if (!order) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for %d tensors", c->path, c->n_tensors);
    int status = 0;
    for (int i = 0; i < c->n_tensors; i++) order[i] = &c->tensors[i];
    qsort(order, (size_t)c->n_tensors, sizeof *order, by_name);
    for (int i = 1; i < c->n_tensors && !status; i++)
        if (!strcmp(order[i - 1]->name, order[i]->name)) status = gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s is there twice", c->path, order[i]->name);
    qsort(order, (size_t)c->n_tensors, sizeof *order, by_data);
    for (int i = 1; i < c->n_tensors && !status; i++)
        if (order[i - 1]->data + order[i - 1]->size > order[i]->data)
            status = gqa_fail(err, GQA_ERR_FORMAT, "%s: tensors %s and %s overlap", c->path, order[i - 1]->name, order[i]->name);
    free(order);
    return status;
}

/* ---- hyper-parameters -------------------------------------------------------------------------------------------- */

/* "ARCH.suffix" */
static const char *arch_key(const gqa_checkpoint *c, const char *suffix, char buf[128]) {
    snprintf(buf, 128, "%s.%s", c->config.architecture, suffix);
    return buf;
}

/* An integer of the architecture; `absent` when the key is not there. An array is accepted when all layers agree. */
static int arch_int(gqa_checkpoint *c, const char *suffix, int absent, int *out, gqa_error *err) {
    char key[128];
    const gguf_entry *e = gguf_find(c, arch_key(c, suffix, key));
    *out = absent;
    if (e && e->type == GGUF_ARRAY && e->array_type != GGUF_STRING && e->count) {
        double first = gguf_array_number(e, 0);
        for (uint64_t i = 1; i < e->count; i++)
            if (gguf_array_number(e, i) != first)
                return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: metadata %s differs from layer to layer, which is not supported", c->path, key);
        if (!(first >= 0 && first <= INT32_MAX)) return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s is %g", c->path, key, first);
        *out = (int)first;
        return 0;
    }
    int status = gguf_get_int(c, key, 0, INT32_MAX, out, err);
    return status < 0 ? status : 0;
}

static int arch_float(gqa_checkpoint *c, const char *suffix, float absent, float *out, gqa_error *err) {
    char key[128];
    *out = absent;
    int status = gguf_get_float(c, arch_key(c, suffix, key), out, err);
    return status < 0 ? status : 0;
}

static int read_rope(gqa_checkpoint *c, gqa_error *err) {
    gqa_config *g = &c->config;
    char key[128];
    gqa_bytes kind = {"none", 4};
    int s;
    if ((s = arch_float(c, "rope.freq_base", 10000, &g->rope_theta, err)) || (s = arch_int(c, "rope.dimension_count", g->head_dim, &g->rope_dim, err)) ||
        (s = arch_float(c, "rope.scaling.factor", 1, &g->rope_factor, err)) ||
        (s = arch_float(c, "rope.scaling.attn_factor", 1, &g->rope_attn_factor, err)) ||
        (s = arch_int(c, "rope.scaling.original_context_length", g->context_length, &g->rope_orig_context, err)) ||
        (s = arch_float(c, "rope.scaling.yarn_beta_fast", 32, &g->rope_beta_fast, err)) ||
        (s = arch_float(c, "rope.scaling.yarn_beta_slow", 1, &g->rope_beta_slow, err)))
        return s;
    s = gguf_get_string(c, arch_key(c, "rope.scaling.type", key), &kind, err);
    if (s < 0) return s;
    if (s == 1) {  /* an older key for linear scaling */
        float scale = 1;
        if ((s = arch_float(c, "rope.scale_linear", 1, &scale, err))) return s;
        if (scale != 1) g->rope_factor = scale, kind = (gqa_bytes){"linear", 6};
    }
    if (kind.size == 6 && !memcmp(kind.data, "linear", 6)) g->rope_scaling = GQA_ROPE_LINEAR;
    else if (kind.size == 4 && !memcmp(kind.data, "yarn", 4)) g->rope_scaling = GQA_ROPE_YARN;
    else if (kind.size == 4 && !memcmp(kind.data, "none", 4)) g->rope_factor = 1;
    else return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: metadata %s is \"%.*s\", which is not supported (none, linear, yarn are)", c->path, key,
                         (int)(kind.size < 40 ? kind.size : 40), kind.data);
    if (g->rope_factor == 0) g->rope_factor = 1;
    g->rope_half = strcmp(g->architecture, "llama") != 0;
    return 0;
}

static int read_config(gqa_checkpoint *c, gqa_error *err) {
    gqa_config *g = &c->config;
    gqa_bytes arch = {NULL, 0}, name = {NULL, 0};
    int s, key_length, value_length, experts, window = 0;
    if ((s = gguf_get_string(c, "general.architecture", &arch, err)) < 0 || gguf_get_string(c, "general.name", &name, err) < 0) return GQA_ERR_FORMAT;
    if (s == 1) return c->n_tensors ? gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata general.architecture is missing", c->path) : 0;
    snprintf(g->name, sizeof g->name, "%.*s", (int)(name.size < 63 ? name.size : 63), name.data ? name.data : "");
    snprintf(g->architecture, sizeof g->architecture, "%.*s", (int)(arch.size < 15 ? arch.size : 15), arch.data);
    if (strcmp(g->architecture, "llama") && strcmp(g->architecture, "qwen2") && strcmp(g->architecture, "qwen3")) {
        if (!c->n_tensors) return 0;
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: architecture \"%s\" is not supported (llama, qwen2, qwen3 are)", c->path, g->architecture);
    }
    if ((s = arch_int(c, "embedding_length", 0, &g->dim, err)) || (s = arch_int(c, "block_count", 0, &g->n_layers, err)) ||
        (s = arch_int(c, "attention.head_count", 0, &g->n_heads, err)) ||
        (s = arch_int(c, "attention.head_count_kv", g->n_heads, &g->n_kv_heads, err)) ||
        (s = arch_int(c, "feed_forward_length", 0, &g->ffn_dim, err)) || (s = arch_int(c, "context_length", 2048, &g->context_length, err)) ||
        (s = arch_int(c, "attention.key_length", g->n_heads > 0 ? g->dim / g->n_heads : 0, &key_length, err)) ||
        (s = arch_int(c, "attention.value_length", key_length, &value_length, err)) || (s = arch_int(c, "expert_count", 0, &experts, err)) ||
        (s = arch_int(c, "attention.sliding_window", 0, &window, err)) ||
        (s = arch_float(c, "attention.layer_norm_rms_epsilon", 1e-5f, &g->norm_eps, err)))
        return s;
    g->head_dim = key_length;
    g->window = window;
    if (key_length != value_length)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: attention.key_length %d and value_length %d differ, which is not supported", c->path, key_length, value_length);
    if (experts > 0) return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: mixtures of experts (expert_count %d) are not supported", c->path, experts);
    if ((s = read_rope(c, err))) return s;
    const gqa_tensor *embedding = gqa_checkpoint_tensor(c, "token_embd.weight");
    const gguf_entry *tokens = gguf_find(c, "tokenizer.ggml.tokens");
    uint64_t vocab = embedding ? embedding->dims[1] : tokens && tokens->type == GGUF_ARRAY ? tokens->count : 0;
    g->vocab_size = vocab > INT32_MAX ? -1 : (int)vocab;
    if (!c->n_tensors) return 0;
    g->tied_embeddings = !gqa_checkpoint_tensor(c, "output.weight");
    g->qkv_bias = gqa_checkpoint_tensor(c, "blk.0.attn_q.bias") != NULL;
    g->qk_norm = gqa_checkpoint_tensor(c, "blk.0.attn_q_norm.weight") != NULL;
    if (!embedding) return gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor token_embd.weight is missing", c->path);
    return gqa_config_validate(g, c->path, err);
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static int read_metadata(gqa_checkpoint *c, gqa_cursor *in, uint64_t count, gqa_error *err) {
    c->meta = calloc(count ? (size_t)count : 1, sizeof *c->meta);
    gguf_entry *sorted = calloc(count ? (size_t)count : 1, sizeof *sorted);
    int status = 0;
    if (!c->meta || !sorted) status = gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for %llu metadata entries", c->path, (unsigned long long)count);
    for (uint64_t i = 0; i < count && !status && !in->bad; i++, c->n_meta++) status = read_entry(c, in, &c->meta[i], err);
    if (!status && in->bad) status = gqa_fail(err, GQA_ERR_FORMAT, "%s: cut off in metadata entry %d of %llu", c->path, c->n_meta, (unsigned long long)count);
    if (!status) {
        memcpy(sorted, c->meta, sizeof *sorted * (size_t)count);
        qsort(sorted, (size_t)count, sizeof *sorted, by_key);
        for (uint64_t i = 1; i < count && !status; i++)
            if (!by_key(&sorted[i - 1], &sorted[i]))
                status = gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %.*s is there twice", c->path, (int)(sorted[i].key.size < 100 ? sorted[i].key.size : 100), sorted[i].key.data);
    }
    free(sorted);
    return status;
}

static int read_tensors(gqa_checkpoint *c, gqa_cursor *in, uint64_t count, gqa_error *err) {
    uint64_t *offsets = calloc(count ? (size_t)count : 1, sizeof *offsets);
    c->tensors = calloc(count ? (size_t)count : 1, sizeof *c->tensors);
    int status = 0;
    if (!offsets || !c->tensors) status = gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for %llu tensors", c->path, (unsigned long long)count);
    for (uint64_t i = 0; i < count && !status && !in->bad; i++, c->n_tensors++) status = read_tensor(c, in, &c->tensors[i], &offsets[i], err);
    if (!status && in->bad) status = gqa_fail(err, GQA_ERR_FORMAT, "%s: cut off in the description of tensor %d of %llu", c->path, c->n_tensors, (unsigned long long)count);
    uint64_t start = (in->at + c->alignment - 1) / c->alignment * c->alignment;
    for (uint64_t i = 0; i < count && !status; i++) {
        gqa_tensor *t = &c->tensors[i];
        uint64_t end;
        if (offsets[i] % c->alignment)
            status = gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s: offset %llu is not a multiple of the alignment %llu", c->path, t->name,
                              (unsigned long long)offsets[i], (unsigned long long)c->alignment);
        else if (start > in->size || gqa_add_size(offsets[i], t->size, &end) || end > in->size - start)
            status = gqa_fail(err, GQA_ERR_FORMAT, "%s: tensor %s: offset %llu and size %llu lie outside the file of %llu bytes (cut off?)", c->path, t->name,
                              (unsigned long long)offsets[i], (unsigned long long)t->size, (unsigned long long)in->size);
        else t->data = in->data + start + offsets[i];
    }
    free(offsets);
    return status ? status : check_distinct(c, err);
}

/* Whether so many things of at least `least` bytes can be in what is left of a file. What is kept of each takes `kept` bytes;
 * beyond the first thousand, no header makes us allocate more than the file's size for them. */
static int count_fits(uint64_t count, uint64_t least, uint64_t kept, uint64_t left) {
    return count <= left / least && count <= MAX_ENTRIES && (count <= 1000 || count <= left / kept);
}

int gguf_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err) {
    gqa_cursor in = {data, size, 4, 0};
    uint32_t version = cursor_u32(&in);
    uint64_t n_tensors = cursor_u64(&in), n_meta = cursor_u64(&in);
    if (size < 8) return gqa_fail(err, GQA_ERR_FORMAT, "%s: cut off in its header: %zu bytes", c->path, size);
    if (version > 0xFFFF) return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: a big-endian GGUF is not supported", c->path);
    if (version < 2 || version > 3) return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: GGUF version %u is not supported (2 and 3 are)", c->path, version);
    if (in.bad) return gqa_fail(err, GQA_ERR_FORMAT, "%s: cut off in its header: %zu bytes", c->path, size);
    c->format = version == 2 ? "GGUF v2" : "GGUF v3";
    c->alignment = 32;
    if (!count_fits(n_meta, MIN_ENTRY, 2 * sizeof(gguf_entry), cursor_left(&in)))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: %llu metadata entries in a file of %zu bytes", c->path, (unsigned long long)n_meta, size);
    if (!count_fits(n_tensors, MIN_TENSOR, sizeof(gqa_tensor) + 2 * sizeof(uint64_t), cursor_left(&in)))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: %llu tensors in a file of %zu bytes", c->path, (unsigned long long)n_tensors, size);
    int status = read_metadata(c, &in, n_meta, err), alignment = 32;
    if (status) return status;
    if (gguf_get_int(c, "general.alignment", 8, MAX_ALIGNMENT, &alignment, err) < 0) return GQA_ERR_FORMAT;
    if (alignment & (alignment - 1)) return gqa_fail(err, GQA_ERR_FORMAT, "%s: general.alignment %d is not a power of two", c->path, alignment);
    c->alignment = (uint64_t)alignment;
    status = read_tensors(c, &in, n_tensors, err);
    return status ? status : read_config(c, err);
}
