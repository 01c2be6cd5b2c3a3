/* convert.c: streams the tensors and the metadata of a checkpoint into a new one. */
#include "../formats/gguf.h"
#include "convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/tensor.h"
#include "convert_internal.h"

static const char *const pool_names[] = {"mean", "first", "random", "renorm", "aligned"};
enum { N_POOLS = sizeof pool_names / sizeof *pool_names, CHUNK = 1 << 16 }; /* CHUNK: values, when a tensor needs no heads */

int gqa_pool_from_name(const char *name) {
    for (int i = 0; i < N_POOLS; i++)
        if (!strcmp(name, pool_names[i])) return i;
    return -1;
}
const char *gqa_pool_name(gqa_pool pool) { return pool_names[pool]; }

typedef struct job {
    const gqa_checkpoint *c;
    const gqa_convert_options *o;
    gqa_config config;          /* of the result */
    head_plan *plans;
    gguf_writer *w;
    uint64_t bytes, done;       /* for progress */
} job;

static int ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static tensor_kind kind_of(const char *name) {
    if (ends_with(name, ".attn_q.weight") || ends_with(name, ".attn_q.bias")) return QUERY;
    if (ends_with(name, ".attn_k.weight") || ends_with(name, ".attn_k.bias")) return KEY;
    if (ends_with(name, ".attn_v.weight") || ends_with(name, ".attn_v.bias")) return VALUE;
    return ends_with(name, ".attn_output.weight") ? OUTPUT : OTHER;
}

static int layer_of(const char *name) {
    int l;
    return sscanf(name, "blk.%d.", &l) == 1 ? l : 0;
}

/* The type of a tensor in the result. Rows that are no whole blocks of the wanted type get a wider one. */
static int type_of(const job *j, const gqa_tensor *t) {
    if (t->n_dims < 2) return t->type;
    int type = j->o->type < 0 ? t->type : j->o->type;
    if (t->dims[0] % (uint64_t)gqa_type_info_of(type)->block == 0) return type;
    return t->dims[0] % 32 == 0 ? GQA_TYPE_Q8_0 : GQA_TYPE_F16;
}

static int changes(const job *j, const gqa_tensor *t) {
    tensor_kind kind = kind_of(t->name);
    int pooled = j->config.n_kv_heads != j->c->config.n_kv_heads;
    return type_of(j, t) != t->type || (pooled && (kind == KEY || kind == VALUE)) || (j->plans && kind != OTHER);
}

/* ---- metadata ---------------------------------------------------------------------------------------------------- */

static int key_is(const gguf_entry *e, const char *key) { return e->key.size == strlen(key) && !memcmp(e->key.data, key, (size_t)e->key.size); }

/* llama.cpp's number for a file mostly of one type. */
static int file_type(int type) {
    switch (type) {
    case GQA_TYPE_F16: return 1;
    case GQA_TYPE_Q4_0: return 2;
    case GQA_TYPE_Q8_0: return 7;
    case GQA_TYPE_Q5_0: return 8;
    case GQA_TYPE_Q4_K: return 14;
    case GQA_TYPE_Q5_K: return 16;
    case GQA_TYPE_Q6_K: return 18;
    case GQA_TYPE_BF16: return 32;
    default: return 0;
    }
}

static void put_metadata(job *j) {
    char kv_key[64];
    snprintf(kv_key, sizeof kv_key, "%s.attention.head_count_kv", j->config.architecture);
    if (j->c->n_meta == 0) {
        gguf_put_config(j->w, &j->config);
        if (j->o->vocab) gqa_vocab_write(j->o->vocab, j->w);
    }
    for (int i = 0; i < j->c->n_meta; i++) {
        const gguf_entry *e = &j->c->meta[i];
        if (key_is(e, kv_key) || key_is(e, "general.alignment") || key_is(e, "gqa.convert.command") || key_is(e, "gqa.convert.pool") ||
            key_is(e, "gqa.convert.kv_heads_before") || (key_is(e, "general.file_type") && j->o->type >= 0))
            continue;
        gguf_put_entry(j->w, e);
    }
    if (j->c->n_meta) gguf_put_int(j->w, kv_key, GGUF_U32, j->config.n_kv_heads);
    if (j->o->type >= 0) gguf_put_int(j->w, "general.file_type", GGUF_U32, file_type(j->o->type));
    if (j->config.n_kv_heads != j->c->config.n_kv_heads) {
        const char *pool = gqa_pool_name(j->o->pool);
        gguf_put_string(j->w, "gqa.convert.pool", pool, strlen(pool));
        gguf_put_int(j->w, "gqa.convert.kv_heads_before", GGUF_U32, j->c->config.n_kv_heads);
    }
    if (j->o->provenance) gguf_put_string(j->w, "gqa.convert.command", j->o->provenance, strlen(j->o->provenance));
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static void declare(job *j, const gqa_tensor *t) {
    uint64_t dims[GQA_MAX_DIMS];
    tensor_kind kind = kind_of(t->name);
    memcpy(dims, t->dims, sizeof dims);
    if (kind == KEY || kind == VALUE) dims[t->n_dims > 1] = (uint64_t)j->config.n_kv_heads * (uint64_t)j->config.head_dim;
    gguf_declare_tensor(j->w, t->name, type_of(j, t), t->n_dims, dims);
}

static int report(job *j, uint64_t bytes, gqa_error *err) {
    j->done += bytes;
    double start = j->plans ? 0.5 : 0;
    if (j->o->on_progress && j->o->on_progress(j->o->user, start + (1 - start) * (double)j->done / (double)j->bytes))
        return gqa_fail(err, GQA_ERR_CANCELLED, "%s: cancelled", j->c->path);
    return 0;
}

static void put_values(job *j, int type, const float *values, size_t n, uint8_t *room) {
    gqa_quantize(type, values, room, n);
    gguf_write_tensor_data(j->w, room, (size_t)gqa_type_bytes(type, n));
}

/* Another type only: in chunks of whole rows' blocks. */
static int put_chunks(job *j, const gqa_tensor *t, gqa_error *err) {
    const gqa_type_info *from = gqa_type_info_of(t->type);
    uint64_t n = 1;
    float *values = malloc(sizeof *values * CHUNK);
    uint8_t *room = malloc(sizeof(float) * CHUNK);
    int status = values && room ? 0 : gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory to convert %s", j->c->path, t->name);
    for (int d = 0; d < t->n_dims; d++) n *= t->dims[d];
    for (uint64_t at = 0; at < n && !status; at += CHUNK) {
        size_t count = n - at < CHUNK ? (size_t)(n - at) : CHUNK;
        gqa_dequantize(t->type, t->data + at / (uint64_t)from->block * (uint64_t)from->bytes, values, count);
        put_values(j, type_of(j, t), values, count, room);
        status = report(j, gqa_type_bytes(t->type, count), err);
    }
    free(values), free(room);
    return status;
}

static int put_heads(job *j, const gqa_tensor *t, uint64_t salt, gqa_error *err) {
    int cols = t->n_dims > 1 ? (int)t->dims[0] : 1, rows = (int)(t->n_dims > 1 ? t->dims[1] : t->dims[0]);
    size_t n = (size_t)rows * (size_t)cols;
    float *values = malloc(sizeof *values * n), *out = malloc(sizeof *out * n);
    int status = values && out ? 0 : gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory to convert %s", j->c->path, t->name);
    if (!status) {
        gqa_dequantize(t->type, t->data, values, n);
        const head_plan *plan = j->plans ? &j->plans[layer_of(t->name)] : NULL;
        rows = convert_heads(&j->c->config, j->o, plan, kind_of(t->name), salt, values, rows, cols, out);
        put_values(j, type_of(j, t), out, (size_t)rows * (size_t)cols, (uint8_t *)values); /* no type is wider than f32 */
        status = report(j, t->size, err);
    }
    free(values), free(out);
    return status;
}

static int put_tensors(job *j, gqa_error *err) {
    int status = 0;
    for (int i = 0; i < j->c->n_tensors; i++) j->bytes += j->c->tensors[i].size;
    for (int i = 0; i < j->c->n_tensors; i++) declare(j, &j->c->tensors[i]);
    for (int i = 0; i < j->c->n_tensors && !status; i++) {
        const gqa_tensor *t = &j->c->tensors[i];
        if (!changes(j, t)) {
            gguf_write_tensor_data(j->w, t->data, (size_t)t->size);
            status = report(j, t->size, err);
        } else if (kind_of(t->name) == OTHER) {
            status = put_chunks(j, t, err);
        } else {
            status = put_heads(j, t, (uint64_t)i << 40, err);
        }
    }
    return status;
}

int gqa_convert(const gqa_checkpoint *c, const gqa_convert_options *o, const char *path, uint8_t **data, size_t *size, gqa_error *err) {
    job j = {.c = c, .o = o, .config = c->config};
    if (c->n_tensors == 0) return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: holds no weights to convert", c->path);
    if (o->type >= 0 && !gqa_type_info_of(o->type)) return gqa_fail(err, GQA_ERR_ARGUMENT, "type %d is not one of ours", o->type);
    if (o->kv_heads < 0 || (o->kv_heads && c->config.n_kv_heads % o->kv_heads))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: %d KV heads cannot become %d: expected a divisor", c->path, c->config.n_kv_heads, o->kv_heads);
    if (o->kv_heads && !o->keep_heads) j.config.n_kv_heads = o->kv_heads;
    int status = plan_heads(&j.plans, c, o, err);
    if (status) return status;
    j.w = gguf_writer_new(path, err);
    if (j.w) {
        put_metadata(&j);
        status = put_tensors(&j, err);
        if (status) gguf_writer_cancel(j.w);
        else status = path ? gguf_finish(j.w, err) : gguf_finish_memory(j.w, data, size, err);
    } else {
        status = GQA_ERR_IO;
    }
    plan_free(j.plans, c->config.n_layers);
    return status;
}
