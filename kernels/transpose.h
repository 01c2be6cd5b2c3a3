/* transpose.h: 4 x 4 words of 4 bytes transposed in vectors of 16 bytes, on any machine. */
#ifndef GQA_TRANSPOSE_H
#define GQA_TRANSPOSE_H

#include <stdint.h>
#include <string.h>

typedef uint32_t gqa_words __attribute__((vector_size(16)));
#ifdef __clang__
#define GQA_SHUFFLE_WORDS(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else /* gcc has the other one from 12 on only */
#define GQA_SHUFFLE_WORDS(a, b, ...) __builtin_shuffle(a, b, (gqa_words){__VA_ARGS__})
#endif

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

#endif
