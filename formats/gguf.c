/* gguf.c: reads GGUF v2 and v3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 *
 *   "GGUF", u32 version, u64 n_tensors, u64 n_kv
 *   n_kv times: string key, u32 type, value
 *       string: u64 length, bytes          array: u32 type, u64 count, elements
 *   n_tensors times: string name, u32 n_dims, n_dims x u64 (row length first), u32 type, u64 offset
 *   padding to the alignment, then tensor data at data + offset, offsets multiples of the alignment
 *
 * Nothing in the file is believed before it is checked: counts against the bytes that are left,
 * products in 64 bits with overflow checks, names for duplicates, tensors for overlap. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/cursor.h"
#include "../kernels/tensor.h"
#include "gguf.h"

enum {
    GGUF_MIN_ENTRY = 8 + 1 + 4 + 1,            /* bytes in the file, at least */
    GGUF_MIN_TENSOR = 8 + 1 + 4 + 8 + 4 + 8,
    GGUF_MAX_COUNT = 1 << 16,                  /* entries or tensors: far above any real file */
    GGUF_MAX_KEY = 65535,
    GGUF_MAX_ALIGNMENT = 65536
};

typedef struct gguf_file {
    gqa_checkpoint *c;
    gqa_cursor in;
    gqa_error *err;
} gguf_file;

#define gguf_bad(f, ...) fail_format((f)->c, (f)->err, __VA_ARGS__)

static gqa_bytes gguf_string(gguf_file *f) {
    uint64_t n = cursor_u64(&f->in);
    const char *p = (const char *)cursor_take(&f->in, n);
    return (gqa_bytes){p, p ? n : 0};
}

/* ---- metadata ---------------------------------------------------------------------------- */

/* A key as text, for messages. */
static const char *key_text(gqa_bytes key, char buf[128]) {
    snprintf(buf, 128, "%.*s", (int)min_size(key.size, 100), key.data);
    return buf;
}

/* A scalar as integer and as number; float values leave the integer 0. */
static void gguf_scalar(gguf_file *f, gguf_entry *e) {
    const uint8_t *p = cursor_take(&f->in, gguf_scalar_size(e->type));
    if (!p) return;
    e->f = gguf_scalar_number(e->type, p);
    if (e->type == GGUF_U64 || e->type == GGUF_I64) memcpy(&e->i, p, 8);
    else if (e->type != GGUF_F32 && e->type != GGUF_F64) e->i = (int64_t)e->f;
}

static int gguf_array(gguf_file *f, gguf_entry *e) {
    char key[128];
    e->array_type = cursor_i32(&f->in);
    e->count = cursor_u64(&f->in);
    if (f->in.bad) return 0;
    unsigned size = gguf_scalar_size(e->array_type);
    if (!size && e->array_type != GGUF_STRING)
        return gguf_bad(f, "metadata %s: arrays of type %d are not supported",
                        key_text(e->key, key), e->array_type);
    uint64_t left = cursor_left(&f->in);
    if (e->count > left / (size ? size : 8))
        return gguf_bad(f, "metadata %s: an array of %" PRIu64 " elements in the %" PRIu64
                        " bytes that are left", key_text(e->key, key), e->count, left);
    e->array = f->in.data + f->in.at;
    if (size) cursor_take(&f->in, e->count * size);
    for (uint64_t i = 0; !size && i < e->count && !f->in.bad; i++) gguf_string(f);
    return 0;
}

/* One entry. When the cursor runs out, the caller reports it. */
static int read_entry(gguf_file *f, gguf_entry *e) {
    char key[128];
    memset(e, 0, sizeof *e);
    e->key = gguf_string(f);
    e->type = cursor_i32(&f->in);
    if (f->in.bad) return 0;
    if (e->key.size == 0 || e->key.size > GGUF_MAX_KEY)
        return gguf_bad(f, "a metadata key of %zu bytes", e->key.size);
    if (e->type == GGUF_ARRAY) return gguf_array(f, e);
    if (e->type == GGUF_STRING) e->string = gguf_string(f);
    else if (gguf_scalar_size(e->type)) gguf_scalar(f, e);
    else return gguf_bad(f, "metadata %s: unknown value type %d", key_text(e->key, key), e->type);
    return 0;
}

static int entry_by_key(const void *a, const void *b) {
    gqa_bytes x = ((const gguf_entry *)a)->key, y = ((const gguf_entry *)b)->key;
    int order = memcmp(x.data, y.data, min_size(x.size, y.size));
    return order ? order : (x.size > y.size) - (x.size < y.size);
}

static int check_distinct_keys(const gguf_file *f) {
    char key[128];
    size_t n = (size_t)f->c->n_meta;
    gguf_entry *sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted) return fail_memory(f->c, f->err, "no memory for %zu metadata entries", n);
    memcpy(sorted, f->c->meta, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, entry_by_key);
    int status = 0;
    for (size_t i = 1; i < n && !status; i++)
        if (!entry_by_key(&sorted[i - 1], &sorted[i]))
            status = gguf_bad(f, "duplicate metadata key %s", key_text(sorted[i].key, key));
    free(sorted);
    return status;
}

static int read_metadata(gguf_file *f, uint64_t count) {
    gqa_checkpoint *c = f->c;
    c->meta = calloc(count + 1, sizeof *c->meta);
    if (!c->meta) return fail_memory(c, f->err, "no memory for %" PRIu64 " entries", count);
    int status = 0;
    for (uint64_t i = 0; i < count && !status && !f->in.bad; i++, c->n_meta++)
        status = read_entry(f, &c->meta[i]);
    if (!status && f->in.bad)
        status = gguf_bad(f, "truncated in metadata entry %d of %" PRIu64, c->n_meta, count);
    return status ? status : check_distinct_keys(f);
}

/* ---- tensors ----------------------------------------------------------------------------- */

static int read_tensor_name(gguf_file *f, gqa_tensor *t) {
    gqa_bytes name = gguf_string(f);
    if (f->in.bad) return 0;
    if (name.size == 0 || name.size > GQA_TENSOR_NAME || memchr(name.data, 0, name.size))
        return gguf_bad(f, "a tensor name of %zu bytes, expected 1 to %d", name.size,
                        GQA_TENSOR_NAME);
    memcpy(t->name, name.data, name.size);
    return 0;
}

/* The dimensions; *n is their product. */
static int read_tensor_dims(gguf_file *f, gqa_tensor *t, uint64_t *n) {
    uint32_t n_dims = cursor_u32(&f->in);
    if (f->in.bad) return 0;
    if (n_dims < 1 || n_dims > GQA_MAX_DIMS)
        return gguf_bad(f, "tensor %s: %u dimensions, expected 1 to %d", t->name, n_dims,
                        GQA_MAX_DIMS);
    t->n_dims = (int)n_dims;
    *n = 1;
    for (int d = 0; d < GQA_MAX_DIMS; d++) {
        t->dims[d] = d < t->n_dims ? cursor_u64(&f->in) : 1;
        if (f->in.bad) return 0;
        if (t->dims[d] == 0 || gqa_mul_size(*n, t->dims[d], n) || *n > INT64_MAX)
            return gguf_bad(f, "tensor %s: dimension %d is %" PRIu64, t->name, d, t->dims[d]);
    }
    return 0;
}

/* The type and the size of n values of it; 0 for an unknown type. */
static int read_tensor_type(gguf_file *f, gqa_tensor *t, uint64_t n) {
    t->type = cursor_i32(&f->in);
    const gqa_type_info *info = gqa_type_info_of(t->type);
    if (f->in.bad || !info) return 0;
    if (t->dims[0] % (uint64_t)info->block)
        return gguf_bad(f, "tensor %s: rows of %" PRIu64 " values are not a multiple of %s's block"
                        " of %d", t->name, t->dims[0], info->name, info->block);
    t->size = gqa_type_bytes(t->type, n);
    return t->size ? 0 : gguf_bad(f, "tensor %s: too large", t->name);
}

/* The description of one tensor. When the cursor runs out, the caller reports it. */
static int read_tensor(gguf_file *f, gqa_tensor *t, uint64_t *offset) {
    uint64_t n = 0;
    int status = read_tensor_name(f, t);
    if (!status) status = read_tensor_dims(f, t, &n);
    if (!status) status = read_tensor_type(f, t, n);
    *offset = cursor_u64(&f->in);
    return status;
}

static int tensor_by_data(const void *a, const void *b) {
    const gqa_tensor *x = *(const gqa_tensor *const *)a, *y = *(const gqa_tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

/* No byte in two tensors. */
static int check_overlap(const gguf_file *f) {
    size_t n = (size_t)f->c->n_tensors;
    const gqa_tensor **order = malloc((n + 1) * sizeof *order);
    if (!order) return fail_memory(f->c, f->err, "no memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) order[i] = &f->c->tensors[i];
    int status = 0;
    qsort(order, n, sizeof *order, tensor_by_data);
    for (size_t i = 1; i < n && !status; i++)
        if (order[i - 1]->data + order[i - 1]->size > order[i]->data)
            status = gguf_bad(f, "tensors %s and %s overlap", order[i - 1]->name, order[i]->name);
    free(order);
    return status;
}

/* Points each tensor at its data. The cursor is behind the last description. */
static int locate_tensors(gguf_file *f, const uint64_t *offsets) {
    uint64_t alignment = f->c->alignment, size = f->in.size, end;
    uint64_t start = align_up(f->in.at, alignment);
    for (int i = 0; i < f->c->n_tensors; i++) {
        gqa_tensor *t = &f->c->tensors[i];
        if (offsets[i] % alignment)
            return gguf_bad(f, "tensor %s: offset %" PRIu64 " is not a multiple of the alignment %"
                            PRIu64, t->name, offsets[i], alignment);
        if (start > size || gqa_add_size(offsets[i], t->size, &end) || end > size - start)
            return gguf_bad(f, "tensor %s: offset %" PRIu64 " and size %" PRIu64
                            " lie outside the file of %" PRIu64 " bytes (truncated?)",
                            t->name, offsets[i], t->size, size);
        t->data = f->in.data + start + offsets[i];
    }
    return 0;
}

static int read_tensor_table(gguf_file *f, uint64_t count) {
    gqa_checkpoint *c = f->c;
    uint64_t *offsets = calloc(count + 1, sizeof *offsets);
    c->tensors = calloc(count + 1, sizeof *c->tensors);
    int status = 0;
    if (!offsets || !c->tensors)
        status = fail_memory(c, f->err, "no memory for %" PRIu64 " tensors", count);
    for (uint64_t i = 0; i < count && !status && !f->in.bad; i++, c->n_tensors++)
        status = read_tensor(f, &c->tensors[i], &offsets[i]);
    if (!status && f->in.bad)
        status = gguf_bad(f, "truncated in the description of tensor %d of %" PRIu64,
                          c->n_tensors, count);
    if (!status) status = locate_tensors(f, offsets);
    free(offsets);
    if (!status) status = gqa_checkpoint_index(c, f->err);
    return status ? status : check_overlap(f);
}

/* ---- the file ---------------------------------------------------------------------------- */

/* Whether `left` bytes of file can hold count items of at least file_bytes each. Each takes
 * memory_bytes once read: above a thousand items that must fit into the file's size too. */
static int count_fits(uint64_t count, uint64_t file_bytes, uint64_t memory_bytes, uint64_t left) {
    return count <= left / file_bytes && count <= GGUF_MAX_COUNT &&
           (count <= 1000 || count <= left / memory_bytes);
}

static int read_alignment(const gguf_file *f) {
    gguf_meta m = {.c = f->c, .err = f->err};
    int alignment = gguf_meta_int(&m, "general.alignment", 8, GGUF_MAX_ALIGNMENT, 32);
    if (alignment & (alignment - 1))
        return gguf_bad(f, "general.alignment %d is not a power of two", alignment);
    f->c->alignment = (uint64_t)alignment;
    return m.status;
}

static void refuse_split(gqa_checkpoint *c, gqa_error *err) {
    gguf_meta m = {.c = c, .err = err};
    int parts = gguf_meta_int(&m, "split.count", 0, 65535, 0);
    int part = gguf_meta_int(&m, "split.no", 0, 65535, 0); /* from 0 */
    if (m.status || parts < 2) return;
    fail_unsupported(c, err, "is part %d of %d; join them first: `llama-gguf-split --merge "
                     "NAME-00001-of-%05d.gguf NAME.gguf`", part + 1, parts, parts);
}

int gguf_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err) {
    gguf_file f = {.c = c, .in = {data, size, 4, 0}, .err = err};
    uint32_t version = cursor_u32(&f.in);
    uint64_t n_tensors = cursor_u64(&f.in), n_meta = cursor_u64(&f.in), left = cursor_left(&f.in);
    if (size < 8) return gguf_bad(&f, "truncated header of %zu bytes", size);
    if (version > 0xFFFF) return fail_unsupported(c, err, "a big-endian GGUF is not supported");
    if (version < 2 || version > 3)
        return fail_unsupported(c, err, "GGUF version %u is not supported (2 and 3 are)", version);
    if (f.in.bad) return gguf_bad(&f, "truncated header of %zu bytes", size);
    c->format = version == 2 ? "GGUF v2" : "GGUF v3";
    if (!count_fits(n_meta, GGUF_MIN_ENTRY, 2 * sizeof(gguf_entry), left))
        return gguf_bad(&f, "%" PRIu64 " metadata entries in a file of %zu bytes", n_meta, size);
    if (!count_fits(n_tensors, GGUF_MIN_TENSOR, sizeof(gqa_tensor) + 2 * sizeof(uint64_t), left))
        return gguf_bad(&f, "%" PRIu64 " tensors in a file of %zu bytes", n_tensors, size);
    int status = read_metadata(&f, n_meta);
    if (!status) status = read_alignment(&f);
    if (!status) status = read_tensor_table(&f, n_tensors);
    if (status) return status;
    if (!gguf_read_config(c, &c->refusal) && c->config.latent_dim)
        gguf_split_latent(c, &c->refusal);
    refuse_split(c, &c->refusal);
    return 0;
}
