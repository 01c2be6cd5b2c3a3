/* gguf_write.c: writes GGUF v3, to a file that appears whole or not at all, or to memory. */
#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "../kernels/tensor.h"

enum { ALIGNMENT = 32 };

/* Bytes that grow. */
typedef struct buffer {
    uint8_t *data;
    size_t size, room;
} buffer;

struct gguf_writer {
    const char *path;      /* for messages */
    int to_memory;
    gqa_output file;
    buffer memory;         /* instead of the file */
    buffer meta, table;    /* metadata entries and tensor descriptions so far */
    uint64_t n_meta, n_tensors;
    uint64_t *ends;        /* [n_tensors] where each tensor's data ends in the data section */
    uint64_t offset;       /* where the next declared tensor starts */
    uint64_t written;      /* of the data section */
    uint64_t current;      /* tensor being written */
    int started;           /* the header is out */
    gqa_error error;       /* the first one; code 0: none */
};

static void append(gguf_writer *w, buffer *b, const void *data, size_t size) {
    if (w->error.code || !size) return;
    if (size > b->room - b->size) {
        size_t room = b->room ? b->room : 4096;
        while (room < b->size + size) room *= 2;
        uint8_t *grown = realloc(b->data, room);
        if (!grown) {
            gqa_fail(&w->error, GQA_ERR_MEMORY, "%s: no memory for %zu bytes", w->path, room);
            return;
        }
        b->data = grown;
        b->room = room;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void append_u32(gguf_writer *w, buffer *b, uint32_t v) { append(w, b, &v, 4); }
static void append_u64(gguf_writer *w, buffer *b, uint64_t v) { append(w, b, &v, 8); }
static void append_string(gguf_writer *w, buffer *b, const char *data, size_t size) {
    append_u64(w, b, size);
    append(w, b, data, size);
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

/* ---- metadata ---------------------------------------------------------------------------------------------------- */

static void put_head(gguf_writer *w, const char *key, size_t size, uint32_t type) {
    append_string(w, &w->meta, key, size);
    append_u32(w, &w->meta, type);
    w->n_meta++;
}

static size_t value_size(int type) {
    static const unsigned char sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type >= 0 && type < (int)sizeof sizes ? sizes[type] : 0;
}

void gguf_put_int(gguf_writer *w, const char *key, int type, int64_t value) {
    put_head(w, key, strlen(key), (uint32_t)type);
    append(w, &w->meta, &value, value_size(type)); /* little-endian: the low bytes come first */
}

void gguf_put_float(gguf_writer *w, const char *key, double value) {
    float f = (float)value;
    put_head(w, key, strlen(key), GGUF_F32);
    append(w, &w->meta, &f, sizeof f);
}

void gguf_put_string(gguf_writer *w, const char *key, const char *data, size_t size) {
    put_head(w, key, strlen(key), GGUF_STRING);
    append_string(w, &w->meta, data, size);
}

void gguf_put_strings(gguf_writer *w, const char *key, const gqa_bytes *items, size_t count) {
    put_head(w, key, strlen(key), GGUF_ARRAY);
    append_u32(w, &w->meta, GGUF_STRING);
    append_u64(w, &w->meta, count);
    for (size_t i = 0; i < count; i++) append_string(w, &w->meta, items[i].data, (size_t)items[i].size);
}

void gguf_put_array(gguf_writer *w, const char *key, int type, const void *items, size_t count) {
    put_head(w, key, strlen(key), GGUF_ARRAY);
    append_u32(w, &w->meta, (uint32_t)type);
    append_u64(w, &w->meta, count);
    append(w, &w->meta, items, count * value_size(type));
}

void gguf_put_entry(gguf_writer *w, const gguf_entry *e) {
    put_head(w, e->key.data, (size_t)e->key.size, (uint32_t)e->type);
    if (e->type == GGUF_STRING) {
        append_string(w, &w->meta, e->string.data, (size_t)e->string.size);
    } else if (e->type == GGUF_ARRAY) {
        const uint8_t *end = e->array;
        if (e->array_type == GGUF_STRING)
            for (uint64_t i = 0; i < e->count; i++) gguf_next_string(&end);
        else end += e->count * value_size(e->array_type);
        append_u32(w, &w->meta, (uint32_t)e->array_type);
        append_u64(w, &w->meta, e->count);
        append(w, &w->meta, e->array, (size_t)(end - e->array));
    } else if (e->type == GGUF_F32) {
        float f = (float)e->f;
        append(w, &w->meta, &f, sizeof f);
    } else if (e->type == GGUF_F64) {
        append(w, &w->meta, &e->f, sizeof e->f);
    } else {
        append(w, &w->meta, &e->i, value_size(e->type));
    }
}

void gguf_put_config(gguf_writer *w, const gqa_config *c) {
    char key[128];
#define INT(suffix, value) (snprintf(key, sizeof key, "%s." suffix, c->architecture), gguf_put_int(w, key, GGUF_U32, value))
#define FLOAT(suffix, value) (snprintf(key, sizeof key, "%s." suffix, c->architecture), gguf_put_float(w, key, (double)(value)))
    gguf_put_string(w, "general.architecture", c->architecture, strlen(c->architecture));
    if (c->name[0]) gguf_put_string(w, "general.name", c->name, strlen(c->name));
    INT("block_count", c->n_layers);
    INT("context_length", c->context_length);
    INT("embedding_length", c->dim);
    INT("feed_forward_length", c->ffn_dim);
    INT("attention.head_count", c->n_heads);
    INT("attention.head_count_kv", c->n_kv_heads);
    INT("attention.key_length", c->head_dim);
    INT("attention.value_length", c->head_dim);
    FLOAT("attention.layer_norm_rms_epsilon", c->norm_eps);
    if (c->window) INT("attention.sliding_window", c->window);
    INT("rope.dimension_count", c->rope_dim);
    FLOAT("rope.freq_base", c->rope_theta);
    INT("vocab_size", c->vocab_size);
    if (c->rope_scaling != GQA_ROPE_NONE) {
        const char *kind = c->rope_scaling == GQA_ROPE_LINEAR ? "linear" : "yarn";
        snprintf(key, sizeof key, "%s.rope.scaling.type", c->architecture);
        gguf_put_string(w, key, kind, strlen(kind));
        FLOAT("rope.scaling.factor", c->rope_factor);
        FLOAT("rope.scaling.attn_factor", c->rope_attn_factor);
        INT("rope.scaling.original_context_length", c->rope_orig_context);
        FLOAT("rope.scaling.yarn_beta_fast", c->rope_beta_fast);
        FLOAT("rope.scaling.yarn_beta_slow", c->rope_beta_slow);
    }
#undef INT
#undef FLOAT
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

void gguf_declare_tensor(gguf_writer *w, const char *name, int type, int n_dims, const uint64_t *dims) {
    uint64_t n = 1, size;
    for (int d = 0; d < n_dims; d++)
        if (gqa_mul_size(n, dims[d], &n)) n = 0;
    size = n ? gqa_type_bytes(type, n) : 0;
    if (w->error.code) return;
    if (!size || n_dims < 1 || n_dims > GQA_MAX_DIMS || dims[0] % (uint64_t)gqa_type_info_of(type)->block || w->started || strlen(name) > GQA_TENSOR_NAME) {
        gqa_fail(&w->error, GQA_ERR_ARGUMENT, "%s: tensor %s cannot be declared", w->path, name);
        return;
    }
    uint64_t *ends = realloc(w->ends, sizeof *ends * (size_t)(w->n_tensors + 1));
    if (!ends) {
        gqa_fail(&w->error, GQA_ERR_MEMORY, "%s: no memory for a tensor table", w->path);
        return;
    }
    w->ends = ends;
    append_string(w, &w->table, name, strlen(name));
    append_u32(w, &w->table, (uint32_t)n_dims);
    for (int d = 0; d < n_dims; d++) append_u64(w, &w->table, dims[d]);
    append_u32(w, &w->table, (uint32_t)type);
    append_u64(w, &w->table, w->offset);
    w->ends[w->n_tensors++] = w->offset + size;
    w->offset = (w->offset + size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void out(gguf_writer *w, const void *data, size_t size) {
    if (w->error.code || !size) return;
    if (w->to_memory) append(w, &w->memory, data, size);
    else gqa_output_write(&w->file, data, size);
}

static void pad(gguf_writer *w, uint64_t at) {
    static const uint8_t zeros[ALIGNMENT];
    out(w, zeros, (size_t)((ALIGNMENT - at % ALIGNMENT) % ALIGNMENT));
}

static void start(gguf_writer *w) {
    if (w->started) return;
    w->started = 1;
    uint32_t version = 3;
    out(w, "GGUF", 4);
    out(w, &version, 4);
    out(w, &w->n_tensors, 8);
    out(w, &w->n_meta, 8);
    out(w, w->meta.data, w->meta.size);
    out(w, w->table.data, w->table.size);
    pad(w, 24 + w->meta.size + w->table.size);
}

void gguf_write_tensor_data(gguf_writer *w, const void *data, size_t size) {
    start(w);
    if (w->error.code) return;
    if (w->current >= w->n_tensors || size > w->ends[w->current] - w->written) {
        gqa_fail(&w->error, GQA_ERR_ARGUMENT, "%s: more data than tensors were declared", w->path);
        return;
    }
    out(w, data, size);
    w->written += size;
    if (w->written == w->ends[w->current]) {
        pad(w, w->written);
        w->written = (w->written + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        w->current++;
    }
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

void gguf_writer_cancel(gguf_writer *w) {
    if (!w) return;
    gqa_output_cancel(&w->file);
    free(w->meta.data);
    free(w->table.data);
    free(w->memory.data);
    free(w->ends);
    free(w);
}

static void complete(gguf_writer *w) {
    start(w);
    if (!w->error.code && w->current != w->n_tensors)
        gqa_fail(&w->error, GQA_ERR_ARGUMENT, "%s: %llu of %llu tensors were written", w->path, (unsigned long long)w->current, (unsigned long long)w->n_tensors);
}

int gguf_finish(gguf_writer *w, gqa_error *err) {
    complete(w);
    if (!w->error.code) gqa_output_finish(&w->file, &w->error);
    int status = w->error.code;
    if (status && err) *err = w->error;
    gguf_writer_cancel(w);
    return status;
}

int gguf_finish_memory(gguf_writer *w, uint8_t **data, size_t *size, gqa_error *err) {
    complete(w);
    int status = w->error.code;
    if (status) {
        if (err) *err = w->error;
    } else {
        *data = w->memory.data;
        *size = w->memory.size;
        w->memory = (buffer){0};
    }
    gguf_writer_cancel(w);
    return status;
}
