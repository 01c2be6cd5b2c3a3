/* error.c: the one place where an error message is written. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base.h"

/* Bytes at p that a terminal would obey: ESC and its like, U+0080 to U+009F. */
static int control_length(const unsigned char *p) {
    if (p[0] == 0xC2 && p[1] >= 0x80 && p[1] < 0xA0) return 2;
    return p[0] < 0x20 || p[0] == 0x7F;
}

void gqa_escape(char *out, size_t capacity, const char *text) {
    const unsigned char *p = (const unsigned char *)text;
    size_t used = 0;
    while (*p && used + 9 <= capacity) {
        int n = control_length(p);
        if (n == 0) out[used++] = (char)*p++;
        for (; n > 0; n--) used += (size_t)snprintf(out + used, 5, "\\x%02x", *p++);
    }
    if (capacity) out[used] = 0;
}

/* "PATH: " in out; of a long one the beginning and the end, so that the reason has room. Returns
 * its length. */
static size_t put_path(char *out, size_t capacity, const char *path) {
    enum { LONGEST = 320, HEAD = 60 };
    size_t len = strlen(path), head = len > LONGEST ? HEAD : len, tail = len;
    if (len > LONGEST) tail = len - (LONGEST - HEAD);
    while (head < len && head > 0 && (path[head] & 0xC0) == 0x80) head--; /* inside a character */
    while (tail < len && (path[tail] & 0xC0) == 0x80) tail++;
    int n = snprintf(out, capacity, "%.*s%s%s: ", (int)head, path, tail < len ? "..." : "",
                     path + tail);
    return n < 0 ? 0 : min_size((size_t)n, capacity - 1);
}

int gqa_vfail(const char *path, gqa_error *err, gqa_status code, const char *format, va_list args) {
    char text[sizeof err->message];
    if (!err) return code;
    size_t used = path ? put_path(text, sizeof text, path) : 0;
    vsnprintf(text + used, sizeof text - used, format, args);
    gqa_escape(err->message, sizeof err->message, text);
    err->code = code;
    return code;
}

int gqa_fail(gqa_error *err, gqa_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    gqa_vfail(NULL, err, code, format, args);
    va_end(args);
    return code;
}

int gqa_fail_path(const char *path, gqa_error *err, gqa_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    gqa_vfail(path, err, code, format, args);
    va_end(args);
    return code;
}

int gqa_check_reserved(const void *tail, size_t size, const char *what, gqa_error *err) {
    const unsigned char *bytes = tail;
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: a reserved field is not zero", what);
    return 0;
}
