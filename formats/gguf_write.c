/* gguf_write.c: writes GGUF v3, to a file that appears complete or not at all, or to memory. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/tensor.h"
#include "gguf.h"

enum { GGUF_ALIGNMENT = 32 };

/* A growing array of bytes. */
typedef struct gguf_buffer {
    uint8_t *data;
    size_t size, capacity;
} gguf_buffer;

struct gguf_writer {
    const char *path;        /* for messages */
    int to_memory;
    gqa_output file;
    gguf_buffer memory;      /* instead of the file */
    gguf_buffer meta, table; /* metadata entries and tensor descriptions so far */
    uint64_t n_meta, n_tensors;
    uint64_t *ends;          /* [n_tensors] where each tensor's data ends in the data section */
    uint64_t offset;         /* where the next declared tensor starts */
    uint64_t written;        /* of the data section */
    uint64_t current;        /* tensor being written */
    int started;             /* the header is written */
    gqa_error error;         /* the first one; code 0: none */
};

void gguf_writer_fail(gguf_writer *w, gqa_status code, const char *format, ...) {
    if (w->error.code) return;
    va_list args;
    va_start(args, format);
    gqa_vfail(w->path, &w->error, code, format, args);
    va_end(args);
}

static void writer_append(gguf_writer *w, gguf_buffer *b, const void *data, size_t size) {
    if (w->error.code || !size) return;
    if (size > b->capacity - b->size) {
        size_t capacity = max_size(b->capacity, 4096);
        while (capacity < b->size + size) capacity *= 2;
        uint8_t *grown = realloc(b->data, capacity);
        if (!grown) {
            gguf_writer_fail(w, GQA_ERR_MEMORY, "no memory for %zu bytes", capacity);
            return;
        }
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void writer_u32(gguf_writer *w, gguf_buffer *b, uint32_t v) { writer_append(w, b, &v, 4); }
static void writer_u64(gguf_writer *w, gguf_buffer *b, uint64_t v) { writer_append(w, b, &v, 8); }
static void writer_string(gguf_writer *w, gguf_buffer *b, const char *data, size_t size) {
    writer_u64(w, b, size);
    writer_append(w, b, data, size);
}

gguf_writer *gguf_writer_new(const char *path, gqa_error *err) {
    gguf_writer *w = calloc(1, sizeof *w);
    if (!w) {
        gqa_fail(err, GQA_ERR_MEMORY, "no memory for a writer");
        return NULL;
    }
    w->to_memory = !path;
    w->path = path ? w->file.path : "memory";
    if (path && gqa_output_open(&w->file, path, err)) {
        free(w);
        return NULL;
    }
    return w;
}

/* ---- metadata ---------------------------------------------------------------------------- */

static void put_key(gguf_writer *w, gqa_bytes key, int type) {
    writer_string(w, &w->meta, key.data, key.size);
    writer_u32(w, &w->meta, (uint32_t)type);
    w->n_meta++;
}

static void put_array_head(gguf_writer *w, const char *key, int type, uint64_t count) {
    put_key(w, (gqa_bytes){key, strlen(key)}, GGUF_ARRAY);
    writer_u32(w, &w->meta, (uint32_t)type);
    writer_u64(w, &w->meta, count);
}

void gguf_put_int(gguf_writer *w, const char *key, int type, int64_t value) {
    put_key(w, (gqa_bytes){key, strlen(key)}, type);
    writer_append(w, &w->meta, &value, gguf_scalar_size(type)); /* little-endian: low bytes first */
}

void gguf_put_float(gguf_writer *w, const char *key, double value) {
    float f = (float)value;
    put_key(w, (gqa_bytes){key, strlen(key)}, GGUF_F32);
    writer_append(w, &w->meta, &f, sizeof f);
}

void gguf_put_string(gguf_writer *w, const char *key, const char *data, size_t size) {
    put_key(w, (gqa_bytes){key, strlen(key)}, GGUF_STRING);
    writer_string(w, &w->meta, data, size);
}

void gguf_put_strings(gguf_writer *w, const char *key, const gqa_bytes *items, size_t count) {
    put_array_head(w, key, GGUF_STRING, count);
    for (size_t i = 0; i < count; i++) writer_string(w, &w->meta, items[i].data, items[i].size);
}

void gguf_put_array(gguf_writer *w, const char *key, int type, const void *items, size_t count) {
    put_array_head(w, key, type, count);
    writer_append(w, &w->meta, items, count * gguf_scalar_size(type));
}

/* The bytes of an array's elements in the file it was read from. */
static size_t array_bytes(const gguf_entry *e) {
    if (e->array_type != GGUF_STRING) return e->count * gguf_scalar_size(e->array_type);
    const uint8_t *end = e->array;
    for (uint64_t i = 0; i < e->count; i++) gguf_next_string(&end);
    return (size_t)(end - e->array);
}

void gguf_put_entry(gguf_writer *w, const gguf_entry *e) {
    float f = (float)e->f;
    put_key(w, e->key, e->type);
    switch (e->type) {
    case GGUF_STRING:
        writer_string(w, &w->meta, e->string.data, e->string.size);
        break;
    case GGUF_ARRAY:
        writer_u32(w, &w->meta, (uint32_t)e->array_type);
        writer_u64(w, &w->meta, e->count);
        writer_append(w, &w->meta, e->array, array_bytes(e));
        break;
    case GGUF_F32:
        writer_append(w, &w->meta, &f, sizeof f);
        break;
    case GGUF_F64:
        writer_append(w, &w->meta, &e->f, sizeof e->f);
        break;
    default:
        writer_append(w, &w->meta, &e->i, gguf_scalar_size(e->type));
    }
}

/* ---- hyper-parameters -------------------------------------------------------------------- */

/* 0: left out. */
static void put_arch_int(gguf_writer *w, const gqa_config *c, const char *suffix, int value) {
    char key[128];
    if (!value) return;
    snprintf(key, sizeof key, "%s.%s", c->architecture, suffix);
    gguf_put_int(w, key, GGUF_U32, value);
}

static void put_arch_float(gguf_writer *w, const gqa_config *c, const char *suffix, float value) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", c->architecture, suffix);
    gguf_put_float(w, key, (double)value);
}

static void put_rope_scaling(gguf_writer *w, const gqa_config *c) {
    const char *kind = c->rope_scaling == GQA_ROPE_LINEAR ? "linear" : "yarn";
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.type", c->architecture);
    gguf_put_string(w, key, kind, strlen(kind));
    put_arch_float(w, c, "rope.scaling.factor", c->rope_factor);
    put_arch_float(w, c, "rope.scaling.attn_factor", c->rope_attn_factor);
    put_arch_int(w, c, "rope.scaling.original_context_length", c->rope_orig_context);
    put_arch_float(w, c, "rope.scaling.yarn_beta_fast", c->rope_beta_fast);
    put_arch_float(w, c, "rope.scaling.yarn_beta_slow", c->rope_beta_slow);
}

void gguf_put_config(gguf_writer *w, const gqa_config *c) {
    gguf_put_string(w, "general.architecture", c->architecture, strlen(c->architecture));
    if (c->name[0]) gguf_put_string(w, "general.name", c->name, strlen(c->name));
    put_arch_int(w, c, "block_count", c->n_layers);
    put_arch_int(w, c, "context_length", c->context_length);
    put_arch_int(w, c, "embedding_length", c->dim);
    put_arch_int(w, c, "feed_forward_length", c->ffn_dim);
    put_arch_int(w, c, "attention.head_count", c->n_heads);
    put_arch_int(w, c, "attention.head_count_kv", c->n_kv_heads);
    put_arch_int(w, c, "attention.key_length", c->head_dim);
    put_arch_int(w, c, "attention.value_length", c->latent_dim ? c->latent_dim : c->head_dim);
    put_arch_int(w, c, "attention.kv_lora_rank", c->latent_dim);
    put_arch_int(w, c, "attention.q_lora_rank", c->q_rank);
    put_arch_int(w, c, "attention.key_length_mla",
                 c->latent_dim ? c->q_nope_dim + c->rope_dim : 0);
    put_arch_int(w, c, "attention.value_length_mla", c->value_dim);
    put_arch_float(w, c, "attention.layer_norm_rms_epsilon", c->norm_eps);
    put_arch_int(w, c, "attention.sliding_window", c->window);
    put_arch_int(w, c, "rope.dimension_count", c->rope_dim);
    put_arch_float(w, c, "rope.freq_base", c->rope_theta);
    put_arch_int(w, c, "vocab_size", c->vocab_size);
    if (c->rope_scaling != GQA_ROPE_NONE) put_rope_scaling(w, c);
}

/* ---- tensors ----------------------------------------------------------------------------- */

/* Bytes of a tensor of that type and shape; 0: there is no such tensor. */
static uint64_t tensor_bytes(int type, int n_dims, const uint64_t *dims) {
    const gqa_type_info *info = gqa_type_info_of(type);
    uint64_t n = 1;
    if (!info || n_dims < 1 || n_dims > GQA_MAX_DIMS || dims[0] % (uint64_t)info->block) return 0;
    for (int d = 0; d < n_dims; d++)
        if (gqa_mul_size(n, dims[d], &n)) return 0;
    return n ? gqa_type_bytes(type, n) : 0;
}

void gguf_declare_tensor(gguf_writer *w, const char *name, int type, int n_dims,
                         const uint64_t *dims) {
    uint64_t size = tensor_bytes(type, n_dims, dims);
    if (!size || w->started || strlen(name) > GQA_TENSOR_NAME)
        gguf_writer_fail(w, GQA_ERR_ARGUMENT, "tensor %s cannot be declared", name);
    if (w->error.code) return;
    uint64_t *ends = realloc(w->ends, (w->n_tensors + 1) * sizeof *ends);
    if (!ends) {
        gguf_writer_fail(w, GQA_ERR_MEMORY, "no memory for a tensor table");
        return;
    }
    w->ends = ends;
    writer_string(w, &w->table, name, strlen(name));
    writer_u32(w, &w->table, (uint32_t)n_dims);
    for (int d = 0; d < n_dims; d++) writer_u64(w, &w->table, dims[d]);
    writer_u32(w, &w->table, (uint32_t)type);
    writer_u64(w, &w->table, w->offset);
    w->ends[w->n_tensors++] = w->offset + size;
    w->offset = align_up(w->offset + size, GGUF_ALIGNMENT);
}

static void writer_bytes(gguf_writer *w, const void *data, size_t size) {
    if (w->error.code || !size) return;
    if (w->to_memory) writer_append(w, &w->memory, data, size);
    else gqa_output_write(&w->file, data, size);
}

/* Writes zeros from position `at` up to the alignment. */
static void writer_padding(gguf_writer *w, uint64_t at) {
    static const uint8_t zeros[GGUF_ALIGNMENT];
    writer_bytes(w, zeros, align_up(at, GGUF_ALIGNMENT) - at);
}

static void writer_header(gguf_writer *w) {
    if (w->started) return;
    w->started = 1;
    uint32_t version = 3;
    writer_bytes(w, "GGUF", 4);
    writer_bytes(w, &version, 4);
    writer_bytes(w, &w->n_tensors, 8);
    writer_bytes(w, &w->n_meta, 8);
    writer_bytes(w, w->meta.data, w->meta.size);
    writer_bytes(w, w->table.data, w->table.size);
    writer_padding(w, 24 + w->meta.size + w->table.size);
}

void gguf_write_tensor_data(gguf_writer *w, const void *data, size_t size) {
    writer_header(w);
    if (w->error.code) return;
    if (w->current >= w->n_tensors || size > w->ends[w->current] - w->written) {
        gguf_writer_fail(w, GQA_ERR_ARGUMENT, "more data than tensors were declared");
        return;
    }
    writer_bytes(w, data, size);
    w->written += size;
    if (w->written == w->ends[w->current]) {
        writer_padding(w, w->written);
        w->written = align_up(w->written, GGUF_ALIGNMENT);
        w->current++;
    }
}

/* ---- the end ----------------------------------------------------------------------------- */

void gguf_writer_cancel(gguf_writer *w) {
    if (!w) return;
    gqa_output_cancel(&w->file);
    free(w->meta.data);
    free(w->table.data);
    free(w->memory.data);
    free(w->ends);
    free(w);
}

static void writer_complete(gguf_writer *w) {
    writer_header(w);
    if (w->current != w->n_tensors)
        gguf_writer_fail(w, GQA_ERR_ARGUMENT, "%" PRIu64 " of %" PRIu64 " tensors were written",
                         w->current, w->n_tensors);
}

int gguf_finish(gguf_writer *w, gqa_error *err) {
    writer_complete(w);
    if (!w->error.code) gqa_output_finish(&w->file, &w->error);
    int status = w->error.code;
    if (status && err) *err = w->error;
    gguf_writer_cancel(w);
    return status;
}

int gguf_finish_memory(gguf_writer *w, uint8_t **data, size_t *size, gqa_error *err) {
    writer_complete(w);
    int status = w->error.code;
    if (status) {
        if (err) *err = w->error;
    } else {
        *data = w->memory.data;
        *size = w->memory.size;
        w->memory = (gguf_buffer){0};
    }
    gguf_writer_cancel(w);
    return status;
}
