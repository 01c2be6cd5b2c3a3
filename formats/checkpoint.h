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

/* GGUF metadata value types, by their numbers in the file. */
enum {
    GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY,
    GGUF_U64, GGUF_I64, GGUF_F64
};

/* Bytes inside the file; not terminated. */
typedef struct gqa_bytes {
    const char *data;
    uint64_t size;
} gqa_bytes;

/* One metadata entry. Scalars are decoded into i (integers and bool, sign-extended; a u64 above INT64_MAX is kept as
 * its bits) and f. An array points at its first element in the file; array strings are walked with gguf_next_string.
 * The reader has walked every array once, so a later walk of count elements cannot leave the file. */
typedef struct gguf_entry {
    gqa_bytes key;
    int type;           /* GGUF_* */
    int64_t i;
    double f;
    gqa_bytes string;
    int array_type;     /* element type, never GGUF_ARRAY (nested arrays are refused) */
    uint64_t count;
    const uint8_t *array;
} gguf_entry;

typedef struct gqa_checkpoint {
    char path[256];              /* for messages; "memory" when there is no file */
    const char *format;          /* "GGUF v3", "llama2.c v0", ... */
    gqa_config config;           /* filled and validated when there are weights, or when the keys are there */
    gqa_tensor *tensors;         /* [n_tensors], owned */
    int n_tensors;
    gguf_entry *meta;            /* [n_meta], owned; none for llama2.c */
    int n_meta;
    uint64_t alignment;          /* GGUF: of tensor data */
    void *owned;                 /* memory some tensors point into (llama2.c v2 is converted on reading); freed */
} gqa_checkpoint;

/* Parses data[size], which must outlive the checkpoint. The format is told by its magic; llama2.c v0 has none and is
 * recognised by plausible header fields that agree exactly with the file's size. path is for messages only.
 * Returns 0, or a negative status with the checkpoint empty. */
int gqa_checkpoint_read(gqa_checkpoint *c, const void *data, size_t size, const char *path, gqa_error *err);
void gqa_checkpoint_free(gqa_checkpoint *c);

/* A checkpoint of that shape with random weights, owned (model_random.c; gqa_model_random in model.h). */
int gqa_checkpoint_random(gqa_checkpoint *c, const gqa_config *shape, gqa_type type, uint64_t seed, gqa_error *err);

/* NULL when absent. */
const gqa_tensor *gqa_checkpoint_tensor(const gqa_checkpoint *c, const char *name);

/* The two formats (called by gqa_checkpoint_read). */
int gguf_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err);
int llama2c_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err);

/* Checks ranges and divisibility of every field; messages name the field. */
int gqa_config_validate(const gqa_config *config, const char *path, gqa_error *err);

/* ---- GGUF metadata --------------------------------------------------------------------------------------------- */

const gguf_entry *gguf_find(const gqa_checkpoint *c, const char *key); /* NULL: absent */
/* Return 0 and write *out; 1 when the key is absent (*out untouched); negative when it has the wrong type or range. */
int gguf_get_int(const gqa_checkpoint *c, const char *key, int64_t min, int64_t max, int *out, gqa_error *err);
int gguf_get_float(const gqa_checkpoint *c, const char *key, float *out, gqa_error *err);
int gguf_get_bool(const gqa_checkpoint *c, const char *key, int *out, gqa_error *err);
int gguf_get_string(const gqa_checkpoint *c, const char *key, gqa_bytes *out, gqa_error *err);
/* Walks a string array: *cursor starts at entry->array; call at most entry->count times. */
gqa_bytes gguf_next_string(const uint8_t **cursor);
/* Element i of a numeric array as a number. */
double gguf_array_number(const gguf_entry *entry, uint64_t i);

/* ---- GGUF writer ----------------------------------------------------------------------------------------------- */

/* Writes GGUF v3. Order of calls: writer_new; metadata (gguf_put_*); declare every tensor (gguf_declare_tensor);
 * then the data of each, in the order declared (gguf_write_tensor_data, in any number of pieces); gguf_finish.
 * Errors are sticky: the first one is reported by gguf_finish, and later calls do nothing.
 * With a path the file is written to "PATH.tmp.PID", fsynced and renamed by gguf_finish; anything else leaves an
 * existing file at PATH as it was. With path NULL the file is built in memory and handed over by gguf_finish_memory. */
typedef struct gguf_writer gguf_writer;
gguf_writer *gguf_writer_new(const char *path, gqa_error *err);
void gguf_put_int(gguf_writer *w, const char *key, int type, int64_t value); /* GGUF_U32, GGUF_I32, GGUF_BOOL, ... */
void gguf_put_float(gguf_writer *w, const char *key, double value);          /* as f32 */
void gguf_put_string(gguf_writer *w, const char *key, const char *data, size_t size);
void gguf_put_strings(gguf_writer *w, const char *key, const gqa_bytes *items, size_t count);
void gguf_put_array(gguf_writer *w, const char *key, int type, const void *items, size_t count); /* numeric, as stored */
void gguf_put_entry(gguf_writer *w, const gguf_entry *entry);                /* copies one from a file read */
/* The keys of a config ("general.architecture", "llama.block_count", ...). */
void gguf_put_config(gguf_writer *w, const gqa_config *config);
void gguf_declare_tensor(gguf_writer *w, const char *name, int type, int n_dims, const uint64_t *dims);
void gguf_write_tensor_data(gguf_writer *w, const void *data, size_t size);
int gguf_finish(gguf_writer *w, gqa_error *err);         /* frees w, whatever happened */
int gguf_finish_memory(gguf_writer *w, uint8_t **data, size_t *size, gqa_error *err); /* *data: free() it */
void gguf_writer_cancel(gguf_writer *w);                 /* drops the unfinished file; frees w; accepts NULL */

#endif
