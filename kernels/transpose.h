/* transpose.h: words and bytes rearranged in vectors of 16 bytes, on any machine. */
#ifndef GQA_TRANSPOSE_H
#define GQA_TRANSPOSE_H

#include <stdint.h>
#include <string.h>

typedef uint32_t gqa_words __attribute__((vector_size(16)));
typedef uint16_t gqa_halves __attribute__((vector_size(16)));
typedef uint8_t gqa_octets __attribute__((vector_size(16)));
#ifdef __clang__
#define GQA_SHUFFLE(vector, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else /* gcc has the other one from 12 on only */
#define GQA_SHUFFLE(vector, a, b, ...) __builtin_shuffle(a, b, (vector){__VA_ARGS__})
#endif
#define GQA_SHUFFLE_WORDS(a, b, ...) GQA_SHUFFLE(gqa_words, a, b, __VA_ARGS__)

/* Word i of line j of dst = word j of line i of src, for i, j < 4; lines lie so many bytes apart.
 * dst may be src. */
static inline void gqa_transpose_words(void *dst, size_t dst_line, const void *src,
                                       size_t src_line) {
    const char *s = src;
    char *d = dst;
    gqa_words w, x, y, z; /* no arrays: gcc 12 would keep them in memory */
    memcpy(&w, s, sizeof w);
    memcpy(&x, s + src_line, sizeof x);
    memcpy(&y, s + 2 * src_line, sizeof y);
    memcpy(&z, s + 3 * src_line, sizeof z);
    gqa_words wx = GQA_SHUFFLE_WORDS(w, x, 0, 4, 1, 5), yz = GQA_SHUFFLE_WORDS(y, z, 0, 4, 1, 5);
    w = GQA_SHUFFLE_WORDS(w, x, 2, 6, 3, 7);
    y = GQA_SHUFFLE_WORDS(y, z, 2, 6, 3, 7);
    x = GQA_SHUFFLE_WORDS(wx, yz, 0, 1, 4, 5);
    z = GQA_SHUFFLE_WORDS(wx, yz, 2, 3, 6, 7);
    memcpy(d, &x, sizeof x);
    memcpy(d + dst_line, &z, sizeof z);
    x = GQA_SHUFFLE_WORDS(w, y, 0, 1, 4, 5);
    z = GQA_SHUFFLE_WORDS(w, y, 2, 3, 6, 7);
    memcpy(d + 2 * dst_line, &x, sizeof x);
    memcpy(d + 3 * dst_line, &z, sizeof z);
}

/* a[0], b[0], a[1], b[1], ... */
static inline void gqa_interleave(gqa_octets a, gqa_octets b, gqa_octets to[2]) {
    to[0] = GQA_SHUFFLE(gqa_octets, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    to[1] = GQA_SHUFFLE(gqa_octets, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                        31);
}

/* a[0], a[2], ..., b[0], b[2], ..., and the others. */
static inline gqa_halves gqa_even(gqa_halves a, gqa_halves b) {
    return GQA_SHUFFLE(gqa_halves, a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}
static inline gqa_halves gqa_odd(gqa_halves a, gqa_halves b) {
    return GQA_SHUFFLE(gqa_halves, a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}

#endif
