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
