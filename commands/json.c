/* json.c: JSON on stdout or in a file (json.h). */
#include "json.h"

#include <math.h>
#include <string.h>

#include "../base/utf8.h"

/* What stands before a value: a comma, and the member's name. */
static void json_next(json_writer *j, const char *name) {
    fprintf(j->out, "%s", j->comma ? ", " : "");
    if (name) fprintf(j->out, "\"%s\": ", name);
    j->comma = 1;
}

void json_begin(json_writer *j, const char *name, char bracket) {
    json_next(j, name);
    putc(bracket, j->out);
    j->comma = 0;
}

void json_end(json_writer *j, char bracket) {
    putc(bracket, j->out);
    j->comma = 1;
}

json_writer json_open(void) {
    json_writer j = {.out = stdout};
    json_begin(&j, NULL, '{');
    return j;
}

void json_close(json_writer *j) {
    json_end(j, '}');
    putc('\n', j->out);
}

void json_int(json_writer *j, const char *name, int64_t value) {
    json_next(j, name);
    fprintf(j->out, "%lld", (long long)value);
}

void json_bool(json_writer *j, const char *name, int value) {
    json_next(j, name);
    fprintf(j->out, "%s", value ? "true" : "false");
}

void json_double(json_writer *j, const char *name, double value) {
    json_next(j, name);
    if (isfinite(value)) fprintf(j->out, "%.8g", value);
    else fprintf(j->out, "null");
}

void json_string(json_writer *j, const char *name, const char *text) {
    json_text(j, name, text, strlen(text));
}

static void json_escape(FILE *out, char c) {
    if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
    else if (c == '\n') fprintf(out, "\\n");
    else if ((unsigned char)c < 0x20 || c == 0x7F) fprintf(out, "\\u%04x", (unsigned)c);
    else putc(c, out);
}

void json_text(json_writer *j, const char *name, const char *text, size_t len) {
    json_next(j, name);
    putc('"', j->out);
    for (size_t i = 0; i < len;) {
        int n = utf8_length(text + i, len - i);
        if (n == 1) json_escape(j->out, text[i]);
        else if (n > 1) fwrite(text + i, 1, n, j->out);
        else fputs("\xEF\xBF\xBD", j->out);
        i += n > 0 ? (size_t)n : 1;
    }
    putc('"', j->out);
}
