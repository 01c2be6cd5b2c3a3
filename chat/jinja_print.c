/* jinja_print.c: values as text: Python's str() and repr(), and json.dumps(). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_internal.h"

/* The shortest digits that give the same double, in Python's way of writing them. */
static const char *format_double(double v, char out[40]) {
    char digits[32];
    int precision = 1;
    if (isnan(v)) return "nan";
    if (isinf(v)) return v < 0 ? "-inf" : "inf";
    do snprintf(digits, sizeof digits, "%.*e", precision - 1, v);
    while (strtod(digits, NULL) != v && precision++ < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int decimals = precision - 1 - exponent;
        snprintf(out, 40, "%.*f", decimals < 1 ? 1 : decimals, v);
    } else {
        snprintf(out, 40, "%.*e", precision - 1, v);
    }
    for (char *p = out; *p; p++) /* the locale's decimal point */
        if (!strchr("-+e0123456789", *p)) *p = '.';
    return out;
}

static void put_int(jinja *j, jinja_builder *b, int64_t v) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)v);
    jinja_put_literal(j, b, text);
}

/* A character as "\x1f", "\u2028" or "\U000e0001". */
static void put_escape(jinja *j, jinja_builder *b, uint32_t c, int is_content) {
    char text[12];
    unsigned char origin[12];
    int n = snprintf(text, sizeof text, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x",
                     (unsigned)c);
    memset(origin, is_content, sizeof origin);
    jinja_put(j, b, (jinja_text){text, origin, (size_t)n});
}

/* ---- str and repr ---------------------------------------------------------------------------- */

static void put_repr_text(jinja *j, jinja_builder *b, jinja_text text) {
    static const char special[] = "\n\r\t\\'", letters[] = "nrt\\'";
    int has_single = memchr(text.bytes, '\'', text.len) != NULL;
    int has_double = memchr(text.bytes, '"', text.len) != NULL;
    const char *quote = has_single && !has_double ? "\"" : "'";
    uint32_t c;
    jinja_put_literal(j, b, quote);
    for (size_t at = 0, from = 0; !j->status && jinja_next(text, &at, &c); from = at) {
        int is_content = text.is_content && text.is_content[from];
        const char *found = c && c < 128 ? strchr(special, (int)c) : NULL;
        if (c == '\'' && *quote == '"') found = NULL;
        if (found) {
            char pair[2] = {'\\', letters[found - special]};
            unsigned char origin[2] = {(unsigned char)is_content, (unsigned char)is_content};
            jinja_put(j, b, (jinja_text){pair, origin, 2});
        } else if (jinja_is_printable(c)) {
            jinja_put(j, b, jinja_part(text, from, at - from));
        } else {
            put_escape(j, b, c, is_content);
        }
    }
    jinja_put_literal(j, b, quote);
}

static void put_repr(jinja *j, jinja_builder *b, jinja_value v);

static void put_repr_list(jinja *j, jinja_builder *b, jinja_value v) {
    int is_tuple = v.kind == JINJA_TUPLE;
    jinja_put_literal(j, b, is_tuple ? "(" : "[");
    for (size_t i = 0; i < v.list->n && !j->status; i++) {
        if (i) jinja_put_literal(j, b, ", ");
        put_repr(j, b, v.list->items[i]);
    }
    jinja_put_literal(j, b, is_tuple && v.list->n == 1 ? ",)" : is_tuple ? ")" : "]");
}

static void put_repr_dict(jinja *j, jinja_builder *b, jinja_value v) {
    jinja_put_literal(j, b, "{");
    for (size_t i = 0; i < v.dict->n && !j->status; i++) {
        if (i) jinja_put_literal(j, b, ", ");
        put_repr(j, b, v.dict->pairs[i].key);
        jinja_put_literal(j, b, ": ");
        put_repr(j, b, v.dict->pairs[i].value);
    }
    jinja_put_literal(j, b, "}");
}

static void put_repr(jinja *j, jinja_builder *b, jinja_value v) {
    char text[40];
    if (jinja_enter(j)) return;
    if (v.kind == JINJA_STRING) put_repr_text(j, b, v.text);
    else if (v.kind == JINJA_LIST || v.kind == JINJA_TUPLE) put_repr_list(j, b, v);
    else if (v.kind == JINJA_DICT) put_repr_dict(j, b, v);
    else if (v.kind == JINJA_INT) put_int(j, b, v.integer);
    else if (v.kind == JINJA_FLOAT) jinja_put_literal(j, b, format_double(v.number, text));
    else if (v.kind == JINJA_BOOL) jinja_put_literal(j, b, v.integer ? "True" : "False");
    else if (v.kind == JINJA_NONE) jinja_put_literal(j, b, "None");
    else if (v.kind == JINJA_UNDEFINED) jinja_put_literal(j, b, "Undefined");
    else jinja_unsupported(j, "writing a %s as text is not supported", jinja_type(v));
    jinja_leave(j);
}

void jinja_put_str(jinja *j, jinja_builder *b, jinja_value v) {
    if (v.kind == JINJA_STRING) jinja_put(j, b, v.text);
    else if (v.kind != JINJA_UNDEFINED) put_repr(j, b, v);
}

jinja_text jinja_str(jinja *j, jinja_value v) {
    jinja_builder b = {0};
    if (v.kind == JINJA_STRING) return v.text;
    jinja_put_str(j, &b, v);
    return jinja_built(&b).text;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

typedef struct json_style {
    int ensure_ascii, sort_keys;
    const jinja_text *indent;  /* NULL: all on one line */
    jinja_text between, after_key;
} json_style;

static void put_json(jinja *j, jinja_builder *b, jinja_value v, const json_style *s, int depth);

static void put_json_text(jinja *j, jinja_builder *b, jinja_text text, const json_style *s) {
    static const char special[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
    uint32_t c;
    jinja_put_literal(j, b, "\"");
    for (size_t at = 0, from = 0; !j->status && jinja_next(text, &at, &c); from = at) {
        char escape[16];
        unsigned char origin[16];
        const char *found = c && c < 128 ? strchr(special, (int)c) : NULL;
        int n = 0;
        if (found) n = snprintf(escape, sizeof escape, "\\%c", letters[found - special]);
        else if (c >= 0x10000 && s->ensure_ascii)
            n = snprintf(escape, sizeof escape, "\\u%04x\\u%04x",
                         (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
                         (unsigned)(0xDC00 + (c & 0x3FF)));
        else if (c < 32 || (c > 126 && s->ensure_ascii && c < 0x10000))
            n = snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
        memset(origin, text.is_content ? text.is_content[from] : 0, sizeof origin);
        if (n) jinja_put(j, b, (jinja_text){escape, origin, (size_t)n});
        else jinja_put(j, b, jinja_part(text, from, at - from));
    }
    jinja_put_literal(j, b, "\"");
}

static void put_json_line(jinja *j, jinja_builder *b, const json_style *s, int depth) {
    if (!s->indent) return;
    jinja_put_literal(j, b, "\n");
    for (int i = 0; i < depth; i++) jinja_put(j, b, *s->indent);
}

static void put_json_key(jinja *j, jinja_builder *b, jinja_value key, const json_style *s) {
    jinja_builder text = {0};
    if (key.kind != JINJA_STRING && key.kind != JINJA_NONE && !jinja_is_number(key)) {
        jinja_fail(j, "keys must be str, int, float, bool or None, not %s", jinja_type(key));
        return;
    }
    if (key.kind != JINJA_STRING) {
        put_json(j, &text, key, s, 0);
        key = jinja_built(&text);
    }
    put_json_text(j, b, key.text, s);
    jinja_put(j, b, s->after_key);
}

/* The pairs in order of their keys. */
static jinja_dict *sort_pairs(jinja *j, const jinja_dict *dict) {
    jinja_dict *sorted = jinja_new_dict(j, JINJA_DICT).dict;
    for (size_t i = 0; i < dict->n && !j->status; i++) {
        jinja_set(j, sorted, dict->pairs[i].key, dict->pairs[i].value);
        for (size_t k = i; k > 0 && !jinja_spend(j, 1); k--) {
            jinja_pair *pair = &sorted->pairs[k], moved = *pair;
            if (jinja_compare(j, pair[-1].key, pair->key) <= 0) break;
            pair[0] = pair[-1];
            pair[-1] = moved;
        }
    }
    return sorted;
}

static void put_json_list(jinja *j, jinja_builder *b, jinja_value v, const json_style *s,
                          int depth) {
    int is_dict = v.kind == JINJA_DICT;
    const jinja_dict *dict = is_dict && s->sort_keys ? sort_pairs(j, v.dict) : v.dict;
    if (j->status) return;
    size_t n = is_dict ? dict->n : v.list->n;
    jinja_put_literal(j, b, is_dict ? "{" : "[");
    for (size_t i = 0; i < n && !j->status; i++) {
        if (i) jinja_put(j, b, s->between);
        put_json_line(j, b, s, depth + 1);
        if (is_dict) put_json_key(j, b, dict->pairs[i].key, s);
        put_json(j, b, is_dict ? dict->pairs[i].value : v.list->items[i], s, depth + 1);
    }
    if (n) put_json_line(j, b, s, depth);
    jinja_put_literal(j, b, is_dict ? "}" : "]");
}

static void put_json(jinja *j, jinja_builder *b, jinja_value v, const json_style *s, int depth) {
    if (jinja_enter(j)) return;
    if (v.kind == JINJA_STRING) put_json_text(j, b, v.text, s);
    else if (v.kind == JINJA_NONE) jinja_put_literal(j, b, "null");
    else if (v.kind == JINJA_BOOL) jinja_put_literal(j, b, v.integer ? "true" : "false");
    else if (v.kind == JINJA_FLOAT && isnan(v.number)) jinja_put_literal(j, b, "NaN");
    else if (v.kind == JINJA_FLOAT && isinf(v.number))
        jinja_put_literal(j, b, v.number < 0 ? "-Infinity" : "Infinity");
    else if (jinja_is_number(v)) jinja_put_str(j, b, v);
    else if (v.kind == JINJA_LIST || v.kind == JINJA_TUPLE || v.kind == JINJA_DICT)
        put_json_list(j, b, v, s, depth);
    else jinja_fail(j, "Object of type %s is not JSON serializable", jinja_type(v));
    jinja_leave(j);
}

/* tojson(ensure_ascii, indent, separators, sort_keys) */
jinja_value jinja_tojson(jinja *j, jinja_value v, const jinja_arguments *a) {
    jinja_value indent = a->bound[1], separators = a->bound[2];
    jinja_builder b = {0}, spaces = {0};
    json_style s = {.ensure_ascii = jinja_truth(a->bound[0]), .sort_keys = jinja_truth(a->bound[3]),
                    .between = jinja_literal(", "), .after_key = jinja_literal(": ")};
    jinja_text indent_text = {0};
    if (indent.kind == JINJA_STRING) indent_text = indent.text;
    if (indent.kind == JINJA_INT || indent.kind == JINJA_BOOL) {
        for (int64_t i = 0; i < indent.integer && !jinja_spend(j, 1); i++)
            jinja_put_literal(j, &spaces, " ");
        indent_text = jinja_built(&spaces).text;
    }
    if (indent.kind != JINJA_MISSING && indent.kind != JINJA_NONE) {
        s.indent = &indent_text;
        s.between = jinja_literal(",");
    }
    if (jinja_is_sequence(separators) && separators.list->n == 2) {
        s.between = jinja_str(j, separators.list->items[0]);
        s.after_key = jinja_str(j, separators.list->items[1]);
    } else if (separators.kind != JINJA_MISSING && separators.kind != JINJA_NONE) {
        return jinja_fail(j, "tojson: separators must be two texts");
    }
    put_json(j, &b, v, &s, 0);
    return jinja_built(&b);
}
