/* json.c: JSON on stdout (json.h). */
#include "json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../base/utf8.h"

/* What stands before a value: a comma, and the member's name. */
static void json_next(json_writer *j, const char *name) {
    printf("%s", j->comma ? ", " : "");
    if (name) printf("\"%s\": ", name);
    j->comma = 1;
}

void json_begin(json_writer *j, const char *name, char bracket) {
    json_next(j, name);
    putchar(bracket);
    j->comma = 0;
}

void json_end(json_writer *j, char bracket) {
    putchar(bracket);
    j->comma = 1;
}

json_writer json_open(void) {
    json_writer j = {0};
    json_begin(&j, NULL, '{');
    return j;
}

void json_close(json_writer *j) {
    json_end(j, '}');
    putchar('\n');
}

void json_int(json_writer *j, const char *name, int64_t value) {
    json_next(j, name);
    printf("%lld", (long long)value);
}

void json_bool(json_writer *j, const char *name, int value) {
    json_next(j, name);
    printf("%s", value ? "true" : "false");
}

void json_double(json_writer *j, const char *name, double value) {
    json_next(j, name);
    if (isfinite(value)) printf("%.8g", value);
    else printf("null");
}

void json_string(json_writer *j, const char *name, const char *text) {
    json_text(j, name, text, strlen(text));
}

static void json_escape(char c) {
    if (c == '"' || c == '\\') printf("\\%c", c);
    else if (c == '\n') printf("\\n");
    else if ((unsigned char)c < 0x20 || c == 0x7F) printf("\\u%04x", (unsigned)c);
    else putchar(c);
}

void json_text(json_writer *j, const char *name, const char *text, size_t len) {
    json_next(j, name);
    putchar('"');
    for (size_t i = 0; i < len;) {
        int n = utf8_length(text + i, len - i);
        if (n == 1) json_escape(text[i]);
        else if (n > 1) fwrite(text + i, 1, (size_t)n, stdout);
        else fputs("\xEF\xBF\xBD", stdout);
        i += n > 0 ? (size_t)n : 1;
    }
    putchar('"');
}
