/* error.c: the one place where an error message is written. */
#include <stdarg.h>
#include <stdio.h>

#include "base.h"

int gqa_vfail(const char *path, gqa_error *err, gqa_status code, const char *format, va_list args) {
    if (!err) return code;
    size_t capacity = sizeof err->message, used = 0;
    if (path) {
        int n = snprintf(err->message, capacity, "%s: ", path);
        used = n < 0 ? 0 : min_size((size_t)n, capacity - 1);
    }
    vsnprintf(err->message + used, capacity - used, format, args);
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
