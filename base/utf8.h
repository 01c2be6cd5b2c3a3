/* utf8.h: where characters end. */
#ifndef GQA_UTF8_H
#define GQA_UTF8_H

#include <stddef.h>

/* Looks at the first character of text[len], len >= 1: returns its length (1 to 4) when it is whole and valid UTF-8,
 * 0 when the text ends inside what may yet become one, -1 when its first byte is not UTF-8 (overlong forms,
 * surrogates and values above U+10FFFF included). */
static inline int utf8_length(const char *text, size_t len) {
    const unsigned char *p = (const unsigned char *)text;
    unsigned char first = p[0], low = 0x80, high = 0xBF;  /* bounds of the second byte */
    int n = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (n == 0) return -1;
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

#endif
