/* files.c: a model in training as a GGUF file: for the runtime, and for going on later. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../formats/gguf.h"
#include "../kernels/tensor.h"
#include "train_internal.h"

/* Options in a file; micro-batches decide the order of sums and so belong to them. */
typedef struct field {
    const char *key;
    int is_float;
    size_t offset;
} field;
#define INT_FIELD(name) {"gqa.train." #name, 0, offsetof(gqa_train_options, name)}
#define FLOAT_FIELD(name) {"gqa.train." #name, 1, offsetof(gqa_train_options, name)}
static const field fields[] = {
    INT_FIELD(steps), INT_FIELD(batch), INT_FIELD(micro_batch), INT_FIELD(length), FLOAT_FIELD(rate), FLOAT_FIELD(rate_end),
    INT_FIELD(warmup), FLOAT_FIELD(beta1), FLOAT_FIELD(beta2), FLOAT_FIELD(decay), FLOAT_FIELD(clip), FLOAT_FIELD(distill),
    FLOAT_FIELD(dropout),
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

/* Of the files of gqa_trainer_save. 1 (files without the key): no fingerprint of the text. */
enum { STATE_VERSION = 2 };

static void put_options(gguf_writer *w, const gqa_train_options *o) {
    for (int i = 0; i < N_FIELDS; i++) {
        const char *value = (const char *)o + fields[i].offset;
        if (fields[i].is_float) gguf_put_float(w, fields[i].key, (double)*(const float *)(const void *)value);
        else gguf_put_int(w, fields[i].key, GGUF_I32, *(const int *)(const void *)value);
    }
    gguf_put_int(w, "gqa.train.seed", GGUF_I64, (int64_t)o->seed);
}

int gqa_train_options_read(const gqa_checkpoint *c, gqa_train_options *o, gqa_error *err) {
    memset(o, 0, sizeof *o);
    for (int i = 0; i < N_FIELDS; i++) {
        char *value = (char *)o + fields[i].offset;
        int status = fields[i].is_float ? gguf_get_float(c, fields[i].key, (float *)(void *)value, err)
                                        : gguf_get_int(c, fields[i].key, INT32_MIN, INT32_MAX, (int *)(void *)value, err);
        if (status < 0 || (status > 0 && i == 0)) return status; /* others may be missing in a file from before they existed: 0 */
    }
    const gguf_entry *seed = gguf_find(c, "gqa.train.seed");
    if (!seed) return 1;
    o->seed = (uint64_t)seed->i;
    return 0;
}

static void declare(gguf_writer *w, const net *n, int type) {
    for (int i = 0; i < n->n_weights; i++) {
        const weight *x = &n->weights[i];
        uint64_t dims[2] = {(uint64_t)x->cols, (uint64_t)x->rows};
        gguf_declare_tensor(w, x->name, x->rows == 1 ? GQA_TYPE_F32 : type, x->rows == 1 ? 1 : 2, dims);
    }
}

static void write_weights(gguf_writer *w, const net *n, int type, uint8_t *room) {
    for (int i = 0; i < n->n_weights; i++) {
        const weight *x = &n->weights[i];
        size_t count = (size_t)x->rows * (size_t)x->cols;
        if (x->rows > 1 && type != GQA_TYPE_F32) {
            gqa_quantize(type, n->params + x->offset, room, count);
            gguf_write_tensor_data(w, room, (size_t)gqa_type_bytes(type, count));
        } else {
            gguf_write_tensor_data(w, n->params + x->offset, count * sizeof(float));
        }
    }
}

static gguf_writer *begin(const gqa_trainer *t, const gqa_vocab *vocab, const char *path, gqa_error *err) {
    gguf_writer *w = gguf_writer_new(path, err);
    if (!w) return NULL;
    gguf_put_config(w, &t->net.config);
    if (vocab) gqa_vocab_write(vocab, w);
    put_options(w, &t->opt);
    gguf_put_int(w, "gqa.train.step", GGUF_I32, t->step);
    return w;
}

int gqa_trainer_export(const gqa_trainer *t, const gqa_vocab *vocab, gqa_type type, const gqa_train_record *record, const char *path,
                       gqa_error *err) {
    size_t most = 0, block = (size_t)gqa_type_info_of(type)->block;
    for (int i = 0; i < t->net.n_weights; i++) {
        const weight *x = &t->net.weights[i];
        size_t count = (size_t)x->rows * (size_t)x->cols;
        if (x->rows > 1 && (size_t)x->cols % block)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: rows of %d values cannot be stored as %s, whose blocks have %zu", x->name, x->cols, gqa_type_name(type), block);
        if (count > most) most = count;
    }
    uint8_t *room = malloc(most * sizeof(float));
    if (!room) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for a tensor of %zu values", path, most);
    gguf_writer *w = begin(t, vocab, path, err);
    if (!w) {
        free(room);
        return GQA_ERR_IO;
    }
    if (record && record->command) gguf_put_string(w, "gqa.train.command", record->command, strlen(record->command));
    if (record && record->validation) {
        gguf_put_float(w, "gqa.train.nats_per_token", record->validation->nats_per_token);
        gguf_put_float(w, "gqa.train.bits_per_byte", record->validation->bits_per_byte);
    }
    declare(w, &t->net, type);
    write_weights(w, &t->net, type, room);
    free(room);
    return gguf_finish(w, err);
}

int gqa_trainer_save(const gqa_trainer *t, const gqa_vocab *vocab, uint64_t text, const char *path, gqa_error *err) {
    gguf_writer *w = begin(t, vocab, path, err);
    uint64_t n = t->net.n_params;
    if (!w) return GQA_ERR_IO;
    gguf_put_int(w, "gqa.train.state_version", GGUF_I32, STATE_VERSION);
    gguf_put_int(w, "gqa.train.text", GGUF_I64, (int64_t)text);
    declare(w, &t->net, GQA_TYPE_F32);
    gguf_declare_tensor(w, "optimizer.m", GQA_TYPE_F32, 1, &n);
    gguf_declare_tensor(w, "optimizer.v", GQA_TYPE_F32, 1, &n);
    write_weights(w, &t->net, GQA_TYPE_F32, NULL);
    gguf_write_tensor_data(w, t->m, (size_t)n * sizeof(float));
    gguf_write_tensor_data(w, t->v, (size_t)n * sizeof(float));
    return gguf_finish(w, err);
}

/* The first option that differs, or NULL. */
static const char *difference(const gqa_train_options *a, const gqa_train_options *b) {
    for (int i = 0; i < N_FIELDS; i++)
        if (memcmp((const char *)a + fields[i].offset, (const char *)b + fields[i].offset, 4)) return fields[i].key;
    return a->seed != b->seed ? "gqa.train.seed" : NULL;
}

/* Whether the saved run learns from that text. */
static int check_text(const gqa_checkpoint *c, uint64_t text, gqa_error *err) {
    int version = 1, status = gguf_get_int(c, "gqa.train.state_version", 1, INT32_MAX, &version, err);
    if (status < 0) return status;
    if (version != STATE_VERSION)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: a saved training run of version %d, expected %d%s", c->path, version, STATE_VERSION,
                        version < STATE_VERSION ? ": it does not tell which text it learns from" : "");
    const gguf_entry *saved = gguf_find(c, "gqa.train.text");
    if (!saved || saved->type != GGUF_I64)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata gqa.train.text: expected an i64, got %s", c->path, saved ? "another type" : "nothing");
    if ((uint64_t)saved->i != text)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: the run that was saved learns from another text: expected tokens of fingerprint %016llx, got %016llx",
                        c->path, (unsigned long long)saved->i, (unsigned long long)text);
    return 0;
}

int gqa_trainer_resume(gqa_trainer *t, uint64_t text, const gqa_checkpoint *c, gqa_error *err) {
    gqa_train_options o;
    const gqa_config *a = &t->net.config, *b = &c->config;
    int step = 0, status = gqa_train_options_read(c, &o, err);
    if (!status) status = gguf_get_int(c, "gqa.train.step", 0, INT32_MAX, &step, err);
    const gqa_tensor *m = gqa_checkpoint_tensor(c, "optimizer.m"), *v = gqa_checkpoint_tensor(c, "optimizer.v");
    size_t bytes = t->net.n_params * sizeof(float);
    if (status > 0 || (!status && (!m || !v)))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: not a saved training run", c->path);
    if (status) return status;
    const char *differs = difference(&t->opt, &o);
    if (differs) return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: the run that was saved has another %s; it cannot be continued with these options", c->path, differs);
    if (a->dim != b->dim || a->n_layers != b->n_layers || a->n_heads != b->n_heads || a->n_kv_heads != b->n_kv_heads ||
        a->head_dim != b->head_dim || a->ffn_dim != b->ffn_dim || a->vocab_size != b->vocab_size ||
        a->tied_embeddings != b->tied_embeddings || m->size != bytes || v->size != bytes || m->type != GQA_TYPE_F32 || v->type != GQA_TYPE_F32)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: the run that was saved has another shape", c->path);
    status = check_text(c, text, err);
    if (status) return status;
    status = train_net_load(&t->net, c, err);
    if (status) return status;
    memcpy(t->m, m->data, bytes);
    memcpy(t->v, v->data, bytes);
    t->step = step;
    return 0;
}
