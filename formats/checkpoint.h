/* checkpoint.h: a model file as data: hyper-parameters, a table of tensors, metadata. Both file
 * formats are read into it, and the rest of the program does not know which it was. */
#ifndef GQA_CHECKPOINT_H
#define GQA_CHECKPOINT_H

#include <string.h>

#include "../base/base.h"

enum { GQA_MAX_DIMS = 4, GQA_TENSOR_NAME = 64 };

/* A tensor as stored. dims[0] is the length of a row (the fastest index), as in GGUF: a weight
 * matrix of shape [rows, cols] has dims = {cols, rows}. data[size] is within the file. */
typedef struct gqa_tensor {
    char name[GQA_TENSOR_NAME + 1]; /* GGUF's: "blk.0.attn_q.weight", "token_embd.weight", ... */
    int type;                       /* gqa_type; another number only in files not to be run */
    int n_dims;
    uint64_t dims[GQA_MAX_DIMS];    /* unused ones are 1 */
    const uint8_t *data;
    uint64_t size;
} gqa_tensor;

/* Bytes inside the file; not terminated. */
typedef struct gqa_bytes {
    const char *data;
    size_t size;
} gqa_bytes;

static inline int bytes_equal(gqa_bytes b, const char *text) {
    return b.size == strlen(text) && !memcmp(b.data, text, b.size);
}
static inline int bytes_start_with(gqa_bytes b, const char *text) {
    return b.size >= strlen(text) && !memcmp(b.data, text, strlen(text));
}

typedef struct gqa_checkpoint {
    char path[256];              /* for messages; "memory" when there is no file */
    const char *format;          /* "GGUF v3", "llama2.c v0", ... */
    gqa_config config;           /* valid when there are weights */
    gqa_layer_config *layers;    /* [n_layers], owned; NULL: all are as the config says */
    gqa_tensor *tensors;         /* [n_tensors], owned */
    int n_tensors;
    const gqa_tensor **by_name;  /* [n_tensors] in order of their names, owned; NULL: not indexed */
    struct gguf_entry *meta;     /* [n_meta], owned; none for llama2.c */
    int n_meta;
    uint64_t alignment;          /* GGUF: of tensor data */
    gqa_error refusal;           /* why it cannot be run, from its metadata; code 0: not known */
    void *owned;                 /* storage for tensors outside the file (llama2.c v2, random) */
    size_t owned_size;
} gqa_checkpoint;

void gqa_checkpoint_free(gqa_checkpoint *c);

/* Sorts the tensors by name, once the table is complete, so that finding one is fast. Refuses two
 * of one name. */
int gqa_checkpoint_index(gqa_checkpoint *c, gqa_error *err);
/* NULL when absent. */
const gqa_tensor *gqa_checkpoint_tensor(const gqa_checkpoint *c, const char *name);

/* What layer l has of its own. */
gqa_layer_config gqa_checkpoint_layer(const gqa_checkpoint *c, int l);

/* Gives the fields of optional steps that are 0 the values that leave those steps out, and
 * attention_scale its usual one. */
void gqa_config_set_defaults(gqa_config *config);
/* Refuses a tensor of a type that is not ours. */
int gqa_checkpoint_check_types(const gqa_checkpoint *c, gqa_error *err);

/* Checks range and divisibility of every field; messages name the field. */
int gqa_config_validate(const gqa_config *config, const char *path, gqa_error *err);

/* `return fail_format(c, err, "tensor %s is missing", name);` fails with a message that begins
 * with the path of checkpoint c. */
#define fail_format(c, err, ...) gqa_fail_path((c)->path, err, GQA_ERR_FORMAT, __VA_ARGS__)
#define fail_unsupported(c, err, ...) \
    gqa_fail_path((c)->path, err, GQA_ERR_UNSUPPORTED, __VA_ARGS__)
#define fail_memory(c, err, ...) gqa_fail_path((c)->path, err, GQA_ERR_MEMORY, __VA_ARGS__)

#endif
