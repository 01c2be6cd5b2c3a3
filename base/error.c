/* error.c: the one place where an error message is written. */
#include <stdarg.h>
#include <stdio.h>

#include "base.h"

int gqa_fail(gqa_error *err, gqa_status code, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        err->code = code;
    }
    return code;
}

int gqa_check_reserved(const void *tail, size_t size, const char *what, gqa_error *err) {
    const unsigned char *bytes = tail;
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: a reserved field is not zero", what);
    return 0;
}
