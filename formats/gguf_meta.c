/* gguf_meta.c: finding GGUF metadata by key, and reading it with checks of type and range. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "gguf.h"

/* ---- values ------------------------------------------------------------------------------ */

unsigned gguf_scalar_size(int type) {
    static const unsigned char sizes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_BOOL] = 1, [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    return type >= 0 && type < (int)array_length(sizes) ? sizes[type] : 0;
}

double gguf_scalar_number(int type, const uint8_t *p) {
    union {
        uint16_t u16;
        uint32_t u32;
        int32_t i32;
        float f32;
        uint64_t u64;
        int64_t i64;
        double f64;
    } v;
    memcpy(&v, p, gguf_scalar_size(type));
    switch (type) {
    case GGUF_U8: case GGUF_BOOL: return *p;
    case GGUF_I8: return (int8_t)*p;
    case GGUF_U16: return v.u16;
    case GGUF_I16: return (int16_t)v.u16;
    case GGUF_U32: return v.u32;
    case GGUF_I32: return v.i32;
    case GGUF_F32: return (double)v.f32;
    case GGUF_U64: return (double)v.u64;
    case GGUF_I64: return (double)v.i64;
    case GGUF_F64: return v.f64;
    default: return 0;
    }
}

gqa_bytes gguf_next_string(const uint8_t **cursor) {
    uint64_t size;
    memcpy(&size, *cursor, 8);
    gqa_bytes s = {(const char *)*cursor + 8, size};
    *cursor += 8 + s.size;
    return s;
}

double gguf_array_number(const gguf_entry *e, uint64_t i) {
    return gguf_scalar_number(e->array_type, e->array + i * gguf_scalar_size(e->array_type));
}

/* ---- keys -------------------------------------------------------------------------------- */

const gguf_entry *gguf_find(const gqa_checkpoint *c, const char *key) {
    for (int i = 0; i < c->n_meta; i++)
        if (bytes_equal(c->meta[i].key, key)) return &c->meta[i];
    return NULL;
}

/* The entry of a key; NULL when it is absent or an earlier call has failed. */
static const gguf_entry *meta_entry(const gguf_meta *m, const char *key) {
    return m->status ? NULL : gguf_find(m->c, key);
}

void gguf_meta_fail(gguf_meta *m, gqa_status code, const char *format, ...) {
    if (m->status) return;
    va_list args;
    va_start(args, format);
    m->status = gqa_vfail(m->c->path, m->err, code, format, args);
    va_end(args);
}

static void wrong_type(gguf_meta *m, const char *key, const char *expected, int type) {
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s: expected %s, got %s", key, expected,
                   names[type]);
}

int gguf_meta_int(gguf_meta *m, const char *key, int min, int max, int absent) {
    const gguf_entry *e = meta_entry(m, key);
    if (!e) return absent;
    if (!gguf_scalar_size(e->type) || e->type == GGUF_F32 || e->type == GGUF_F64)
        wrong_type(m, key, "an integer", e->type);
    else if (e->i < min || e->i > max)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s is %" PRId64 ", expected %d to %d", key,
                       e->i, min, max);
    return m->status ? absent : (int)e->i;
}

float gguf_meta_float(gguf_meta *m, const char *key, float absent) {
    const gguf_entry *e = meta_entry(m, key);
    if (!e) return absent;
    if (e->type != GGUF_F32 && e->type != GGUF_F64)
        wrong_type(m, key, "a floating-point number", e->type);
    else if (!isfinite(e->f) || fabs(e->f) > 3e38)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s is not finite", key);
    return m->status ? absent : (float)e->f;
}

int gguf_meta_bool(gguf_meta *m, const char *key, int absent) {
    const gguf_entry *e = meta_entry(m, key);
    if (!e) return absent;
    if (e->type != GGUF_BOOL) wrong_type(m, key, "bool", e->type);
    return m->status ? absent : e->i != 0;
}

gqa_bytes gguf_meta_string(gguf_meta *m, const char *key) {
    const gguf_entry *e = meta_entry(m, key);
    if (e && e->type != GGUF_STRING) wrong_type(m, key, "a string", e->type);
    return e && !m->status ? e->string : (gqa_bytes){NULL, 0};
}

int gguf_get_int(const gqa_checkpoint *c, const char *key, int min, int max, int *out,
                 gqa_error *err) {
    gguf_meta m = {.c = c, .err = err};
    if (!gguf_find(c, key)) return 1;
    *out = gguf_meta_int(&m, key, min, max, *out);
    return m.status;
}

int gguf_get_float(const gqa_checkpoint *c, const char *key, float *out, gqa_error *err) {
    gguf_meta m = {.c = c, .err = err};
    if (!gguf_find(c, key)) return 1;
    *out = gguf_meta_float(&m, key, *out);
    return m.status;
}
