/* jinja_print.c: values as text: Python's str() and repr(), and json.dumps(). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_internal.h"

typedef struct print_style {
    int is_json, is_ascii, is_sorted;
    const jinja_text *indent;  /* NULL: all on one line */
    jinja_text between, after_key;
} print_style;

/* The shortest digits that give the same double, in Python's way of writing them. */
static const char *format_double(double v, int is_json, char out[40]) {
    char digits[32];
    int precision = 1;
    if (isnan(v)) return is_json ? "NaN" : "nan";
    if (isinf(v)) return &(is_json ? "-Infinity" : "-inf")[v > 0];
    do snprintf(digits, sizeof digits, "%.*e", precision - 1, v);
    while (strtod(digits, NULL) != v && precision++ < 17);
    int exponent = atoi(strchr(digits, 'e') + 1), decimals = precision - 1 - exponent;
    if (exponent >= -4 && exponent < 16) snprintf(out, 40, "%.*f", decimals < 1 ? 1 : decimals, v);
    else snprintf(out, 40, "%.*e", precision - 1, v);
    for (char *p = out; *p; p++) /* the locale's decimal point */
        if (!strchr("-+e0123456789", *p)) *p = '.';
    return out;
}

/* ---- quoted texts ---------------------------------------------------------------------------- */

/* How a character is written between quotation marks; returns its length, 0: as it is. */
static int print_escape(char out[16], uint32_t c, const print_style *s, char quote) {
    static const char special[] = "\n\r\t\\\b\f", letters[] = "nrt\\bf";
    const char *found = c && c < 128 ? strchr(special, (int)c) : NULL;
    if (c == (uint32_t)quote) return snprintf(out, 16, "\\%c", quote);
    if (found && (s->is_json || found < special + 4))
        return snprintf(out, 16, "\\%c", letters[found - special]);
    if (s->is_json ? c >= 32 && (c < 127 || !s->is_ascii) : jinja_is_printable(c)) return 0;
    if (!s->is_json && c < 0x100) return snprintf(out, 16, "\\x%02x", (unsigned)c);
    if (c < 0x10000) return snprintf(out, 16, "\\u%04x", (unsigned)c);
    if (!s->is_json) return snprintf(out, 16, "\\U%08x", (unsigned)c);
    return snprintf(out, 16, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
                    (unsigned)(0xDC00 + (c & 0x3FF)));
}

static void put_quoted(jinja *j, jinja_builder *b, jinja_text text, const print_style *s) {
    int has_single = memchr(text.bytes, '\'', text.len) != NULL;
    int has_double = memchr(text.bytes, '"', text.len) != NULL;
    const char *quote = s->is_json || (has_single && !has_double) ? "\"" : "'";
    uint32_t c;
    jinja_put_literal(j, b, quote);
    for (size_t at = 0, from = 0; !j->status && jinja_next(text, &at, &c); from = at) {
        char escaped[16];
        unsigned char origin[16];
        int n = print_escape(escaped, c, s, *quote);
        memset(origin, text.is_content ? text.is_content[from] : 0, sizeof origin);
        if (n) jinja_put(j, b, (jinja_text){escaped, origin, (size_t)n});
        else jinja_put(j, b, jinja_part(text, from, at - from));
    }
    jinja_put_literal(j, b, quote);
}

/* ---- values ---------------------------------------------------------------------------------- */

static void put_line(jinja *j, jinja_builder *b, const print_style *s, int depth) {
    if (!s->indent) return;
    jinja_put_literal(j, b, "\n");
    for (int i = 0; i < depth; i++) jinja_put(j, b, *s->indent);
}

static void put_value(jinja *j, jinja_builder *b, jinja_value v, const print_style *s, int depth);

static void put_container(jinja *j, jinja_builder *b, jinja_value v, const print_style *s,
                          int depth) {
    int is_dict = v.kind == JINJA_DICT, is_tuple = v.kind == JINJA_TUPLE && !s->is_json;
    const char *brackets = is_dict ? "{}" : is_tuple ? "()" : "[]";
    jinja_list sorted = {0};
    const jinja_list *list = is_dict && s->is_sorted ? &sorted : v.list;
    for (size_t i = 0; list == &sorted && i < v.list->n && !j->status; i++)
        jinja_append(j, &sorted, v.list->items[i]);
    jinja_sort_pairs(j, &sorted, JINJA_LT);
    jinja_put(j, b, jinja_part(jinja_literal(brackets), 0, 1));
    for (size_t i = 0; !j->status && i < list->n; i++) {
        if (i) jinja_put(j, b, s->between);
        put_line(j, b, s, depth + 1);
        if (is_dict && s->is_json && list->items[i].kind != JINJA_STRING)
            jinja_unsupported(j, "tojson: a key that is not str but %s",
                              jinja_type(list->items[i]));
        put_value(j, b, list->items[i], s, depth + 1);
        if (!is_dict) continue;
        jinja_put(j, b, s->after_key);
        put_value(j, b, list->items[++i], s, depth + 1);
    }
    if (v.list->n) put_line(j, b, s, depth);
    if (is_tuple && v.list->n == 1) jinja_put_literal(j, b, ",");
    jinja_put_literal(j, b, brackets + 1);
}

static void put_value(jinja *j, jinja_builder *b, jinja_value v, const print_style *s, int depth) {
    char text[40];
    if (jinja_enter(j)) return;
    if (v.kind == JINJA_STRING) {
        put_quoted(j, b, *v.text, s);
    } else if (!v.is_view && (jinja_is_sequence(v) || v.kind == JINJA_DICT)) {
        put_container(j, b, v, s, depth);
    } else if (v.kind == JINJA_INT) {
        snprintf(text, sizeof text, "%lld", (long long)v.integer);
        jinja_put_literal(j, b, text);
    } else if (v.kind == JINJA_FLOAT) {
        jinja_put_literal(j, b, format_double(v.number, s->is_json, text));
    } else if (v.kind == JINJA_BOOL) {
        const char *words[] = {"False", "True", "false", "true"};
        jinja_put_literal(j, b, words[2 * s->is_json + (int)v.integer]);
    } else if (v.kind == JINJA_NONE) {
        jinja_put_literal(j, b, s->is_json ? "null" : "None");
    } else if (v.kind == JINJA_UNDEFINED && !s->is_json) {
        jinja_put_literal(j, b, "Undefined");
    } else if (s->is_json) {
        jinja_fail(j, "tojson: a %s cannot be written", jinja_type(v));
    } else {
        jinja_unsupported(j, "writing a %s as text is not supported",
                          v.is_view ? "range or dict view" : jinja_type(v));
    }
    jinja_leave(j);
}

void jinja_put_str(jinja *j, jinja_builder *b, jinja_value v) {
    const print_style style = {.between = jinja_literal(", "), .after_key = jinja_literal(": ")};
    if (v.kind == JINJA_STRING) jinja_put(j, b, *v.text);
    else if (v.kind != JINJA_UNDEFINED) put_value(j, b, v, &style, 0);
}

jinja_text jinja_str(jinja *j, jinja_value v) {
    jinja_builder b = {0};
    if (v.kind == JINJA_STRING) return *v.text;
    jinja_put_str(j, &b, v);
    return *jinja_built(j, &b).text;
}

/* tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False) */
jinja_value jinja_tojson(jinja *j, const jinja_call *call) {
    jinja_value indent = call->bound[1], separators = call->bound[2];
    jinja_builder b = {0};
    print_style s = {.is_json = 1, .is_ascii = jinja_truth(call->bound[0]),
                     .is_sorted = jinja_truth(call->bound[3]), .between = jinja_literal(", "),
                     .after_key = jinja_literal(": ")};
    if (indent.kind == JINJA_INT) indent = jinja_spaces(j, indent.integer);
    if (indent.kind == JINJA_STRING) {
        s.indent = indent.text;
        s.between = jinja_literal(",");
    } else if (jinja_truth(indent)) {
        return jinja_fail(j, "tojson: indent must be an int or a str");
    }
    if (jinja_is_sequence(separators) && separators.list->n == 2) {
        s.between = jinja_str(j, separators.list->items[0]);
        s.after_key = jinja_str(j, separators.list->items[1]);
    } else if (jinja_truth(separators)) {
        return jinja_fail(j, "tojson: separators must be two texts");
    }
    put_value(j, &b, call->self, &s, 0);
    return jinja_built(j, &b);
}
