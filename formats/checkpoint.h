/* checkpoint.h: a model file as data: hyper-parameters, a table of tensors, metadata. Both file formats read into it,
 * and the rest of the program does not know which it was. */
#ifndef GQA_CHECKPOINT_H
#define GQA_CHECKPOINT_H

#include "../base/base.h"

enum { GQA_MAX_DIMS = 4, GQA_TENSOR_NAME = 64 };

/* A tensor as stored. dims[0] is the length of a row (the fastest index), as in GGUF: a weight matrix of shape
 * [rows, cols] has dims = {cols, rows}. data points into the file's memory, size bytes, already bounds-checked. */
typedef struct gqa_tensor {
    char name[GQA_TENSOR_NAME + 1]; /* GGUF names: "blk.0.attn_q.weight", "token_embd.weight", ... */
    int type;                       /* gqa_type, one of ours */
    int n_dims;
    uint64_t dims[GQA_MAX_DIMS];    /* unused ones are 1 */
    const uint8_t *data;
    uint64_t size;
} gqa_tensor;

/* Bytes inside the file; not terminated. */
typedef struct gqa_bytes {
    const char *data;
    uint64_t size;
} gqa_bytes;

typedef struct gqa_checkpoint {
    char path[256];              /* for messages; "memory" when there is no file */
    const char *format;          /* "GGUF v3", "llama2.c v0", ... */
    gqa_config config;           /* filled and validated when there are weights, or when the keys are there */
    gqa_tensor *tensors;         /* [n_tensors], owned */
    int n_tensors;
    struct gguf_entry *meta;     /* [n_meta], owned; none for llama2.c */
    int n_meta;
    uint64_t alignment;          /* GGUF: of tensor data */
    void *owned;                 /* memory some tensors point into (llama2.c v2 is converted on reading); freed */
} gqa_checkpoint;

void gqa_checkpoint_free(gqa_checkpoint *c);

/* NULL when absent. */
const gqa_tensor *gqa_checkpoint_tensor(const gqa_checkpoint *c, const char *name);

/* Checks ranges and divisibility of every field; messages name the field. */
int gqa_config_validate(const gqa_config *config, const char *path, gqa_error *err);

#endif
