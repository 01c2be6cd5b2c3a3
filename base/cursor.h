/* cursor.h: bounded reading of untrusted bytes. Every read is checked against the end; after the
 * first failure all reads give zero and `bad` stays set, so that a parser can read a whole
 * structure and check once. */
#ifndef GQA_CURSOR_H
#define GQA_CURSOR_H

#include <stdint.h>
#include <string.h>

#include "base.h"

typedef struct gqa_cursor {
    const uint8_t *data;
    uint64_t size, at;
    int bad;
} gqa_cursor;

static inline uint64_t cursor_left(const gqa_cursor *c) { return c->size - c->at; }

/* The next n bytes, or NULL. */
static inline const uint8_t *cursor_take(gqa_cursor *c, uint64_t n) {
    if (c->bad || n > cursor_left(c)) {
        c->bad = 1;
        return NULL;
    }
    const uint8_t *p = c->data + c->at;
    c->at += n;
    return p;
}

/* An integer of n <= 8 bytes (little-endian, as the host is). */
static inline uint64_t cursor_scalar(gqa_cursor *c, unsigned n) {
    uint64_t v = 0;
    const uint8_t *p = cursor_take(c, n);
    if (p) memcpy(&v, p, n);
    return v;
}
static inline uint32_t cursor_u32(gqa_cursor *c) { return (uint32_t)cursor_scalar(c, 4); }
static inline uint64_t cursor_u64(gqa_cursor *c) { return cursor_scalar(c, 8); }
static inline int32_t cursor_i32(gqa_cursor *c) { return (int32_t)cursor_u32(c); }
static inline float cursor_f32(gqa_cursor *c) {
    uint32_t u = cursor_u32(c);
    float f;
    memcpy(&f, &u, 4);
    return f;
}

#endif
