/* utf8.h: lengths and code points of UTF-8 characters. */
#ifndef GQA_UTF8_H
#define GQA_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Examines the first character of text[len], len >= 1. Returns its length (1 to 4) when it is
 * complete and valid UTF-8, 0 when the text ends inside a character that is valid so far, -1 when
 * it is not UTF-8 (overlong forms, surrogates and values above U+10FFFF included). */
static inline int utf8_length(const char *text, size_t len) {
    const unsigned char *p = (const unsigned char *)text;
    unsigned char first = p[0], low = 0x80, high = 0xBF;  /* bounds of the second byte */
    if ((first >= 0x80 && first < 0xC2) || first > 0xF4) return -1;
    int n = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    for (int i = 1; i < n; i++) {
        if ((size_t)i == len) return 0;
        if (p[i] < low || p[i] > high) return -1;
        low = 0x80;
        high = 0xBF;
    }
    return n;
}

/* The same, and writes the code point of a valid character to *c. */
static inline int utf8_decode(const char *text, size_t len, uint32_t *c) {
    static const unsigned char first_bits[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    int n = utf8_length(text, len);
    if (n <= 0) return n;
    *c = (unsigned char)text[0] & first_bits[n];
    for (int i = 1; i < n; i++) *c = *c << 6 | ((unsigned char)text[i] & 0x3F);
    return n;
}

/* Writes a code point to out [4]; returns its length. */
static inline int utf8_encode(char *out, uint32_t c) {
    static const unsigned char first_bits[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    out[0] = (char)(first_bits[n] | c);
    return n;
}

#endif
