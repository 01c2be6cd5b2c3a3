/* gguf.h: GGUF files: their metadata, and writing them. */
#ifndef GQA_GGUF_H
#define GQA_GGUF_H

#include "checkpoint.h"

/* GGUF metadata value types, by their numbers in the file. */
enum {
    GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, GGUF_ARRAY,
    GGUF_U64, GGUF_I64, GGUF_F64
};

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

/* Reads a GGUF in data[size] into an empty checkpoint (detect.c calls it). */
int gguf_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err);

/* Bytes of a scalar value type; 0 for strings, arrays and unknown numbers. */
unsigned gguf_scalar_size(uint32_t type);

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
