/* files.c: a model in training as a GGUF file: for the runtime, and for resuming. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../formats/gguf.h"
#include "../kernels/tensor.h"
#include "train_internal.h"

/* Version of the files of gqa_trainer_save. 1 (files without the key): no fingerprint of the
 * text. */
enum { STATE_VERSION = 2 };

/* Options in a file; micro-batches decide the order of sums and so belong to them. */
typedef struct option_field {
    const char *key;
    int is_float;
    size_t offset;
} option_field;

static const option_field option_fields[] = {
#define INT_FIELD(name) {"gqa.train." #name, 0, offsetof(gqa_train_options, name)}
#define FLOAT_FIELD(name) {"gqa.train." #name, 1, offsetof(gqa_train_options, name)}
    INT_FIELD(steps), INT_FIELD(batch), INT_FIELD(micro_batch), INT_FIELD(length),
    FLOAT_FIELD(rate), FLOAT_FIELD(rate_end), INT_FIELD(warmup), FLOAT_FIELD(beta1),
    FLOAT_FIELD(beta2), FLOAT_FIELD(decay), FLOAT_FIELD(clip), FLOAT_FIELD(distill),
    FLOAT_FIELD(dropout), INT_FIELD(muon),
};
enum { N_OPTION_FIELDS = array_length(option_fields) };

static void put_options(gguf_writer *w, const gqa_train_options *o) {
    for (int i = 0; i < N_OPTION_FIELDS; i++) {
        const option_field *f = &option_fields[i];
        const void *value = (const char *)o + f->offset;
        if (f->is_float) gguf_put_float(w, f->key, (double)*(const float *)value);
        else gguf_put_int(w, f->key, GGUF_I32, *(const int *)value);
    }
    gguf_put_int(w, "gqa.train.seed", GGUF_I64, (int64_t)o->seed);
}

int gqa_train_options_read(const gqa_checkpoint *c, gqa_train_options *o, gqa_error *err) {
    memset(o, 0, sizeof *o);
    for (int i = 0; i < N_OPTION_FIELDS; i++) {
        const option_field *f = &option_fields[i];
        void *value = (char *)o + f->offset;
        int status = f->is_float ? gguf_get_float(c, f->key, value, err)
                                 : gguf_get_int(c, f->key, INT32_MIN, INT32_MAX, value, err);
        /* Only the first must be there: older files lack options that did not exist yet. */
        if (status < 0 || (status > 0 && i == 0)) return status;
    }
    const gguf_entry *seed = gguf_find(c, "gqa.train.seed");
    if (!seed) return 1;
    o->seed = (uint64_t)seed->i;
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void declare_weights(gguf_writer *w, const network *net, int type) {
    for (int i = 0; i < net->n_weights; i++) {
        const weight *x = &net->weights[i];
        uint64_t dims[3] = {(uint64_t)x->cols, (uint64_t)x->rows, (uint64_t)x->heads};
        int is_vector = x->rows == 1, n_dims = x->heads > 1 ? 3 : 2;
        if (is_vector) gguf_declare_tensor(w, x->name, GQA_TYPE_F32, 1, dims);
        else gguf_declare_tensor(w, x->name, type, n_dims, dims);
    }
}

static void write_weights(gguf_writer *w, const network *net, int type, uint8_t *buf) {
    for (int i = 0; i < net->n_weights; i++) {
        const weight *x = &net->weights[i];
        const float *values = net->params + x->offset;
        if (x->rows > 1 && type != GQA_TYPE_F32) {
            gqa_quantize(type, values, buf, x->count);
            gguf_write_tensor_data(w, buf, (size_t)gqa_type_bytes(type, x->count));
        } else {
            gguf_write_tensor_data(w, values, x->count * sizeof(float));
        }
    }
}

static gguf_writer *begin_file(const gqa_trainer *t, const gqa_vocab *vocab, const char *path,
                               gqa_error *err) {
    gguf_writer *w = gguf_writer_new(path, err);
    if (!w) return NULL;
    gguf_put_config(w, &t->net.config);
    if (vocab) gqa_vocab_write(vocab, w);
    put_options(w, &t->opt);
    gguf_put_int(w, "gqa.train.step", GGUF_I32, t->step);
    return w;
}

static void put_record(gguf_writer *w, const gqa_train_record *record) {
    const gqa_validation *v = record->validation;
    if (record->command)
        gguf_put_string(w, "gqa.train.command", record->command, strlen(record->command));
    if (v) {
        gguf_put_float(w, "gqa.train.nats_per_token", v->nats_per_token);
        gguf_put_float(w, "gqa.train.bits_per_byte", v->bits_per_byte);
    }
}

int train_check_type(const network *net, gqa_type type, gqa_error *err) {
    int block = gqa_type_info_of(type)->block;
    for (int i = 0; i < net->n_weights; i++) {
        const weight *x = &net->weights[i];
        if (x->rows > 1 && x->cols % block)
            return gqa_fail(err, GQA_ERR_ARGUMENT,
                            "%s: rows of %d values cannot be stored as %s, whose blocks have %d",
                            x->name, x->cols, gqa_type_name(type), block);
    }
    return 0;
}

int gqa_trainer_export(const gqa_trainer *t, const gqa_vocab *vocab, gqa_type type,
                       const gqa_train_record *record, const char *path, gqa_error *err) {
    size_t largest = 0;
    int e = train_check_type(&t->net, type, err);
    if (e) return e;
    for (int i = 0; i < t->net.n_weights; i++)
        largest = max_size(largest, t->net.weights[i].count);
    uint8_t *buf = malloc(largest * sizeof(float));
    if (!buf)
        return gqa_fail_path(path, err, GQA_ERR_MEMORY, "no memory for a tensor of %zu values",
                             largest);
    gguf_writer *w = begin_file(t, vocab, path, err);
    if (w) {
        if (record) put_record(w, record);
        declare_weights(w, &t->net, type);
        write_weights(w, &t->net, type, buf);
    }
    free(buf);
    return w ? gguf_finish(w, err) : GQA_ERR_IO;
}

static const char *input_key(const gqa_train_input *input, char key[32]) {
    snprintf(key, 32, "gqa.train.%s", input->name);
    return key;
}

int gqa_trainer_save(const gqa_trainer *t, const gqa_vocab *vocab, uint64_t text,
                     const gqa_train_input *inputs, const char *path, gqa_error *err) {
    char key[32];
    gguf_writer *w = begin_file(t, vocab, path, err);
    uint64_t n = t->net.n_params;
    if (!w) return GQA_ERR_IO;
    gguf_put_int(w, "gqa.train.state_version", GGUF_I32, STATE_VERSION);
    gguf_put_int(w, "gqa.train.text", GGUF_I64, (int64_t)text);
    gguf_put_float(w, "gqa.train.loss", (double)t->progress.loss);
    gguf_put_float(w, "gqa.train.seconds", (double)t->progress.seconds);
    for (; inputs && inputs->name[0]; inputs++)
        gguf_put_string(w, input_key(inputs, key), inputs->value, strlen(inputs->value));
    declare_weights(w, &t->net, GQA_TYPE_F32);
    gguf_declare_tensor(w, "optimizer.m", GQA_TYPE_F32, 1, &n);
    gguf_declare_tensor(w, "optimizer.v", GQA_TYPE_F32, 1, &n);
    write_weights(w, &t->net, GQA_TYPE_F32, NULL);
    gguf_write_tensor_data(w, t->m, t->net.n_params * sizeof(float));
    gguf_write_tensor_data(w, t->v, t->net.n_params * sizeof(float));
    return gguf_finish(w, err);
}

/* ---- resuming -------------------------------------------------------------------------------- */

static int check_options(const gqa_checkpoint *c, const gqa_train_options *now,
                         const gqa_train_options *saved, gqa_error *err) {
    const char *different = now->seed != saved->seed ? "gqa.train.seed" : NULL;
    for (int i = N_OPTION_FIELDS - 1; i >= 0; i--) {
        size_t at = option_fields[i].offset;
        if (memcmp((const char *)now + at, (const char *)saved + at, 4))
            different = option_fields[i].key;
    }
    if (!different) return 0;
    return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                         "the saved run has a different %s; these options cannot resume it",
                         different);
}

static int check_shape(const gqa_checkpoint *c, const gqa_config *now, gqa_error *err) {
    static const option_field fields[] = {
#define SHAPE_FIELD(name) {#name, 0, offsetof(gqa_config, name)}
        SHAPE_FIELD(dim), SHAPE_FIELD(n_layers), SHAPE_FIELD(n_heads), SHAPE_FIELD(n_kv_heads),
        SHAPE_FIELD(head_dim), SHAPE_FIELD(ffn_dim), SHAPE_FIELD(vocab_size),
        SHAPE_FIELD(context_length), SHAPE_FIELD(tied_embeddings), SHAPE_FIELD(latent_dim),
        SHAPE_FIELD(rope_dim), SHAPE_FIELD(q_nope_dim), SHAPE_FIELD(value_dim),
        SHAPE_FIELD(tied_kv),
    };
    for (size_t i = 0; i < array_length(fields); i++) {
        const int *saved = (const int *)(const void *)((const char *)&c->config + fields[i].offset);
        const int *got = (const int *)(const void *)((const char *)now + fields[i].offset);
        if (*saved != *got)
            return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                                 "the saved run has a different shape: expected %s %d, got %d",
                                 fields[i].key, *saved, *got);
    }
    return 0;
}

static int check_inputs(const gqa_checkpoint *c, const gqa_train_input *inputs, gqa_error *err) {
    char key[32], saved[32];
    for (; inputs && inputs->name[0]; inputs++) {
        const gguf_entry *e = gguf_find(c, input_key(inputs, key));
        int is_string = e && e->type == GGUF_STRING;
        int n = is_string ? (int)min_size((size_t)e->string.size, sizeof saved - 1) : 0;
        snprintf(saved, sizeof saved, "%.*s", n, n ? e->string.data : "");
        if (!n || strcmp(saved, inputs->value))
            return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                                 "the saved run has a different %s: expected %s, got %s",
                                 inputs->name, n ? saved : "nothing", inputs->value);
    }
    return 0;
}

static int check_text(const gqa_checkpoint *c, uint64_t text, gqa_error *err) {
    int version = 1;
    int status = gguf_get_int(c, "gqa.train.state_version", 1, INT32_MAX, &version, err);
    if (status < 0) return status;
    if (version != STATE_VERSION)
        return gqa_fail_path(c->path, err, GQA_ERR_UNSUPPORTED,
                             "expected a saved run of version %d, got version %d%s", STATE_VERSION,
                             version,
                             version < STATE_VERSION ? ", which does not record its text" : "");
    const gguf_entry *saved = gguf_find(c, "gqa.train.text");
    if (!saved || saved->type != GGUF_I64)
        return gqa_fail_path(c->path, err, GQA_ERR_FORMAT,
                             "metadata gqa.train.text: expected an i64, got %s",
                             saved ? "another type" : "nothing");
    if ((uint64_t)saved->i == text) return 0;
    return gqa_fail_path(c->path, err, GQA_ERR_ARGUMENT,
                         "the saved run learns from a different text: expected tokens with "
                         "fingerprint %016llx, got %016llx", (unsigned long long)saved->i,
                         (unsigned long long)text);
}

/* Whether that tensor holds a moment of every weight. */
static int is_moment(const gqa_trainer *t, const gqa_tensor *moment) {
    return moment->type == GQA_TYPE_F32 && moment->size == t->net.n_params * sizeof(float);
}

int gqa_trainer_resume(gqa_trainer *t, uint64_t text, const gqa_train_input *inputs,
                       const gqa_checkpoint *c, gqa_error *err) {
    gqa_train_options saved;
    gqa_train_progress went = {0}; /* older files do not say */
    const gqa_tensor *m = gqa_checkpoint_tensor(c, "optimizer.m");
    const gqa_tensor *v = gqa_checkpoint_tensor(c, "optimizer.v");
    int step = 0, status = gqa_train_options_read(c, &saved, err);
    if (!status) status = gguf_get_int(c, "gqa.train.step", 0, INT32_MAX, &step, err);
    if (status > 0 || (!status && (!m || !v)))
        return gqa_fail_path(c->path, err, GQA_ERR_FORMAT, "not a saved training run");
    if (!status) status = check_inputs(c, inputs, err);
    if (!status) status = check_options(c, &t->opt, &saved, err);
    if (!status) status = check_shape(c, &t->net.config, err);
    if (!status && (!is_moment(t, m) || !is_moment(t, v)))
        return gqa_fail_path(c->path, err, GQA_ERR_FORMAT, "not as many moments as weights");
    if (!status) status = check_text(c, text, err);
    if (!status) status = min_int(gguf_get_float(c, "gqa.train.loss", &went.loss, err), 0);
    if (!status) status = min_int(gguf_get_float(c, "gqa.train.seconds", &went.seconds, err), 0);
    if (!status) status = train_net_load(&t->net, c, err);
    if (status) return status;
    memcpy(t->m, m->data, (size_t)m->size);
    memcpy(t->v, v->data, (size_t)v->size);
    t->step = step;
    t->progress = went;
    return 0;
}
