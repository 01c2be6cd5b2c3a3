/* gguf.h: GGUF files: reading them, their metadata, writing them. */
#ifndef GQA_GGUF_H
#define GQA_GGUF_H

#include "checkpoint.h"

/* GGUF metadata value types, by their numbers in the file. */
enum {
    GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
    GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64
};

/* One metadata entry. Scalars are decoded into i (integers and bool, sign-extended; a u64 above
 * INT64_MAX keeps its bits) and f. An array points at its first element in the file; strings of
 * an array are walked with gguf_next_string. The reader has walked every array once, so a later
 * walk of count elements stays within the file. */
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

/* gguf.c: reads a GGUF in data[size] into an empty checkpoint (detect.c calls it). */
int gguf_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err);
/* gguf_config.c: c->config from the metadata and tensors that are in c. */
int gguf_read_config(gqa_checkpoint *c, gqa_error *err);
/* gguf_latent.c: replaces each attn_kv_b of a deepseek2 checkpoint by attn_k_b and attn_v_b. */
int gguf_split_latent(gqa_checkpoint *c, gqa_error *err);

/* ---- metadata (gguf_meta.c) -------------------------------------------------------------- */

/* Bytes of a scalar of that type; 0 for strings, arrays and unknown types. */
unsigned gguf_scalar_size(int type);
/* A scalar of that type at p as a number. */
double gguf_scalar_number(int type, const uint8_t *p);

const gguf_entry *gguf_find(const gqa_checkpoint *c, const char *key); /* NULL: absent */

/* Reads metadata with a sticky error: after the first failure status is negative, *err is filled,
 * and every later call returns its default. So a list of fields is read first and status checked
 * once:
 *
 *     gguf_meta m = {.c = c, .err = err};
 *     config->dim = gguf_meta_int(&m, "llama.embedding_length", 0, INT32_MAX, 0);
 *     ...
 *     if (m.status) return m.status;
 *
 * Each returns `absent` when the key is not there, and fails when the value has another type or
 * is out of range. */
typedef struct gguf_meta {
    const gqa_checkpoint *c;
    gqa_error *err;
    int status;
} gguf_meta;
int gguf_meta_int(gguf_meta *m, const char *key, int min, int max, int absent);
float gguf_meta_float(gguf_meta *m, const char *key, float absent);
int gguf_meta_bool(gguf_meta *m, const char *key, int absent);
gqa_bytes gguf_meta_string(gguf_meta *m, const char *key);  /* absent: data is NULL */
/* Records a failure of the caller's, unless there is one already. */
GQA_PRINTF(3, 4)
void gguf_meta_fail(gguf_meta *m, gqa_status code, const char *format, ...);

/* One value at a time. Return 0 and write *out; 1 when the key is absent (*out untouched);
 * negative when the value has another type or is out of range. */
int gguf_get_int(const gqa_checkpoint *c, const char *key, int min, int max, int *out,
                 gqa_error *err);
int gguf_get_float(const gqa_checkpoint *c, const char *key, float *out, gqa_error *err);

/* Walks an array of strings: *cursor starts at entry->array; call at most entry->count times. */
gqa_bytes gguf_next_string(const uint8_t **cursor);
/* Element i of a numeric array as a number. */
double gguf_array_number(const gguf_entry *entry, uint64_t i);

/* ---- writer (gguf_write.c) --------------------------------------------------------------- */

/* Writes GGUF v3. Order of calls: gguf_writer_new; metadata (gguf_put_*); every tensor's
 * description (gguf_declare_tensor); then the data of each in the same order, in any number of
 * calls (gguf_write_tensor_data); gguf_finish. Errors are sticky: the first one is reported by
 * gguf_finish, and later calls do nothing. With a path the file is written to "PATH.tmp.PID", and
 * fsynced and renamed by gguf_finish; on failure an existing file at PATH is left as it was. With
 * path NULL the file is built in memory and handed over by gguf_finish_memory. */
typedef struct gguf_writer gguf_writer;
gguf_writer *gguf_writer_new(const char *path, gqa_error *err);
/* Records an error of the caller's, unless there is one already. */
GQA_PRINTF(3, 4)
void gguf_writer_fail(gguf_writer *w, gqa_status code, const char *format, ...);
/* An integer type or GGUF_BOOL. */
void gguf_put_int(gguf_writer *w, const char *key, int type, int64_t value);
void gguf_put_float(gguf_writer *w, const char *key, double value);  /* as f32 */
void gguf_put_string(gguf_writer *w, const char *key, const char *data, size_t size);
void gguf_put_strings(gguf_writer *w, const char *key, const gqa_bytes *items, size_t count);
/* items[count] as stored: numbers of that type. */
void gguf_put_array(gguf_writer *w, const char *key, int type, const void *items, size_t count);
void gguf_put_entry(gguf_writer *w, const gguf_entry *entry);  /* one of a file that was read */
/* The keys of a config ("general.architecture", "llama.block_count", ...). */
void gguf_put_config(gguf_writer *w, const gqa_config *config);
void gguf_declare_tensor(gguf_writer *w, const char *name, int type, int n_dims,
                         const uint64_t *dims);
void gguf_write_tensor_data(gguf_writer *w, const void *data, size_t size);
/* These three free w, whatever happens. *data is the caller's to free(). cancel accepts NULL. */
int gguf_finish(gguf_writer *w, gqa_error *err);
int gguf_finish_memory(gguf_writer *w, uint8_t **data, size_t *size, gqa_error *err);
void gguf_writer_cancel(gguf_writer *w);

#endif
