/* jinja_text.c: characters, and what filters and methods do with texts. Positions are counted in
 * characters, texts are valid UTF-8 throughout. */
#include <string.h>

#include "../base/utf8.h"
#include "../vocab/unicode_table.h"
#include "jinja_internal.h"

/* ---- characters ------------------------------------------------------------------------------ */

int jinja_next(jinja_text text, size_t *at, uint32_t *c) {
    if (*at >= text.len) return 0;
    *c = 0xFFFD; /* of bytes that are no character */
    int n = utf8_decode(text.bytes + *at, text.len - *at, c);
    *at += n > 0 ? (size_t)n : 1;
    return 1;
}

/* The last character before *at. */
static int text_previous(jinja_text text, size_t *at, uint32_t *c) {
    if (*at == 0) return 0;
    --*at;
    while (*at && ((unsigned char)text.bytes[*at] & 0xC0) == 0x80) --*at;
    size_t end = *at;
    return jinja_next(text, &end, c);
}

int jinja_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

int jinja_is_printable(uint32_t c) {
    if (c < 0x7F) return c >= 0x20;
    return unicode_class(c) != UNICODE_OTHER;
}

/* ---- upper and lower case -------------------------------------------------------------------- */

/* Letters of two cases: Latin, Greek, Cyrillic and Armenian. `lower` is so far from each capital in
 * first to last; step 2: every second one is. */
static const struct {
    uint32_t first, last, step, lower;
} text_capitals[] = {
    {'A', 'Z', 1, 32}, {0xC0, 0xD6, 1, 32}, {0xD8, 0xDE, 1, 32}, {0x100, 0x12E, 2, 1},
    {0x132, 0x136, 2, 1}, {0x139, 0x147, 2, 1}, {0x14A, 0x176, 2, 1}, {0x178, 0x178, 1, -121u},
    {0x179, 0x17D, 2, 1}, {0x1A0, 0x1A4, 2, 1}, {0x1AF, 0x1AF, 1, 1}, {0x1CD, 0x1DB, 2, 1},
    {0x1F8, 0x21E, 2, 1}, {0x386, 0x386, 1, 38}, {0x388, 0x38A, 1, 37}, {0x38C, 0x38C, 1, 64},
    {0x38E, 0x38F, 1, 63}, {0x391, 0x3A1, 1, 32}, {0x3A3, 0x3AB, 1, 32}, {0x400, 0x40F, 1, 80},
    {0x410, 0x42F, 1, 32}, {0x460, 0x480, 2, 1}, {0x48A, 0x4BE, 2, 1}, {0x4C0, 0x4C0, 1, 15},
    {0x4C1, 0x4CD, 2, 1}, {0x4D0, 0x52E, 2, 1}, {0x531, 0x556, 1, 48}, {0x1E00, 0x1E94, 2, 1},
    {0x1EA0, 0x1EFE, 2, 1},
};

/* Letters with a case that is not known here, or that becomes several letters, or depends on its
 * neighbours: of which `modes` (NO_UPPER, NO_LOWER) nothing can be said. Python's title() also asks
 * whether what stands before a letter has a case, which of all of them is not known. */
enum { NO_UPPER = 1, NO_LOWER = 2, NO_CASE = 3 };
static const struct {
    uint32_t first, last;
    int modes;
} text_unknown[] = {
    {0xAA, 0xAA, 0}, {0xB5, 0xB5, NO_UPPER}, {0xBA, 0xBA, 0}, {0xDF, 0xDF, NO_UPPER},
    {0x130, 0x130, NO_LOWER}, {0x131, 0x131, NO_UPPER}, {0x138, 0x138, 0},
    {0x149, 0x149, NO_UPPER}, {0x17F, 0x17F, NO_UPPER}, {0x180, 0x19F, NO_CASE},
    {0x1A6, 0x1AE, NO_CASE}, {0x1B1, 0x1CC, NO_CASE}, {0x1DD, 0x1F7, NO_CASE},
    {0x220, 0x2E4, NO_CASE}, {0x345, 0x345, NO_UPPER}, {0x370, 0x37F, NO_CASE},
    {0x390, 0x390, NO_UPPER}, {0x3A3, 0x3A3, NO_LOWER}, {0x3B0, 0x3B0, NO_UPPER},
    {0x3C2, 0x3C2, NO_UPPER}, {0x3CF, 0x3FF, NO_CASE}, {0x560, 0x560, 0},
    {0x587, 0x588, NO_UPPER}, {0x10A0, 0x10FF, NO_CASE}, {0x13A0, 0x13FD, NO_CASE},
    {0x1C80, 0x1CBF, NO_CASE}, {0x1D00, 0x1DBF, NO_UPPER}, {0x1E96, 0x1E9F, NO_CASE},
    {0x1F00, 0x1FFC, NO_CASE}, {0x2071, 0x2125, 0}, {0x2126, 0x2184, NO_CASE},
    {0x24B6, 0x24E9, NO_CASE}, {0x2C00, 0x2D2D, NO_CASE}, {0xA640, 0xA7FA, NO_CASE},
    {0xAB30, 0xABBF, NO_UPPER}, {0xFB00, 0xFB17, NO_UPPER}, {0xFF21, 0xFF5A, NO_CASE},
    {0x10400, 0x1E943, NO_CASE}, {0x1F130, 0x1F189, 0},
};

static uint32_t text_with_case(uint32_t c, int is_upper) {
    for (size_t i = 0; i < array_length(text_capitals); i++) {
        uint32_t first = text_capitals[i].first, lower = text_capitals[i].lower;
        uint32_t from = is_upper ? first + lower : first;
        if (c < from || c > text_capitals[i].last - first + from) continue;
        if ((c - from) % text_capitals[i].step == 0) return is_upper ? c - lower : c + lower;
    }
    return c;
}

static int text_has_case(uint32_t c) {
    return text_with_case(c, 0) != c || text_with_case(c, 1) != c;
}

static void check_case(jinja *j, uint32_t c, int mode, int is_upper) {
    for (size_t i = 0; i < array_length(text_unknown) && c >= text_unknown[i].first; i++) {
        int is_asked = text_unknown[i].modes & (is_upper ? NO_UPPER : NO_LOWER);
        if (c <= text_unknown[i].last && (is_asked || mode == JINJA_TITLE))
            jinja_unsupported(j, "the %s case of U+%04X is not known", is_upper ? "upper" : "lower",
                              (unsigned)c);
    }
}

/* The filter `title` begins a word after blanks and opening brackets, Python's method after
 * everything that has no case. */
static int text_is_upper(int mode, uint32_t previous) {
    if (mode == JINJA_UPPER || mode == JINJA_LOWER) return mode == JINJA_UPPER;
    if (mode == JINJA_CAPITALIZE) return previous == 0;
    if (mode == JINJA_TITLE) return !text_has_case(previous);
    return jinja_is_space(previous) || (previous < 128 && strchr("-({[<", (int)previous));
}

jinja_value jinja_with_case(jinja *j, jinja_text text, int mode) {
    jinja_builder b = {0};
    uint32_t c, previous = 0;
    for (size_t at = 0, from = 0; !j->status && jinja_next(text, &at, &c); from = at) {
        unsigned char is_content = text.is_content ? text.is_content[from] : 0;
        int is_upper = text_is_upper(mode, previous);
        check_case(j, c, mode, is_upper);
        jinja_put_char(j, &b, text_with_case(c, is_upper), is_content);
        previous = c;
    }
    return jinja_built(j, &b);
}
jinja_value jinja_case(jinja *j, const jinja_call *call) {
    return jinja_with_case(j, *call->self.text, call->mode);
}

/* ---- parts of texts -------------------------------------------------------------------------- */

size_t jinja_search(jinja *j, jinja_text text, jinja_text part, size_t from) {
    if (part.len > text.len || from > text.len - part.len) return SIZE_MAX;
    if (part.len == 0) return from;
    size_t last = text.len - part.len;
    if (jinja_spend(j, (last - from) / 64 * (part.len / 64 + 1))) return SIZE_MAX;
    for (size_t at = from; at <= last; at++) {
        const char *found = memchr(text.bytes + at, part.bytes[0], last - at + 1);
        if (!found) break;
        at = (size_t)(found - text.bytes);
        if (memcmp(found, part.bytes, part.len) == 0) return at;
    }
    return SIZE_MAX;
}

/* Whether c is one of the characters of set; NULL: space. */
static int text_in_set(const jinja_text *set, uint32_t c) {
    uint32_t member;
    if (!set) return jinja_is_space(c);
    for (size_t at = 0; jinja_next(*set, &at, &member);)
        if (member == c) return 1;
    return 0;
}

jinja_text jinja_trim(jinja_text text, const jinja_text *set, int sides) {
    size_t from = 0, end = text.len, at = 0;
    uint32_t c;
    while (sides & JINJA_LEFT && jinja_next(text, &at, &c) && text_in_set(set, c)) from = at;
    at = end;
    while (sides & JINJA_RIGHT && text_previous(text, &at, &c) && at >= from &&
           text_in_set(set, c))
        end = at;
    return jinja_part(text, from, end - from);
}

/* An argument as a text, or NULL where it is missing or none. */
static const jinja_text *text_argument(jinja *j, const jinja_value *v) {
    if (v->kind == JINJA_STRING) return v->text;
    if (v->kind != JINJA_MISSING && v->kind != JINJA_NONE)
        jinja_fail(j, "expected str, got %s", jinja_type(*v));
    return NULL;
}

/* An argument that counts something. */
static int64_t text_count(jinja *j, jinja_value v, int64_t otherwise) {
    if (v.kind == JINJA_INT || v.kind == JINJA_BOOL) return v.integer;
    if (v.kind != JINJA_MISSING) jinja_fail(j, "expected int, got %s", jinja_type(v));
    return otherwise;
}

jinja_value jinja_strip(jinja *j, const jinja_call *call) {
    const jinja_text *set = text_argument(j, &call->bound[0]);
    jinja_text text = *call->self.text;
    if (j->status || (set && jinja_spend(j, text.len * set->len / 16))) return jinja_none();
    return jinja_string(j, jinja_trim(text, set, call->mode));
}

/* The end of the first word of a text that begins with none of the space between words. */
static size_t text_word(jinja_text text) {
    size_t at = 0, end = 0;
    uint32_t c;
    while (jinja_next(text, &at, &c) && !jinja_is_space(c)) end = at;
    return end;
}

/* split(sep=None, maxsplit=-1): without a separator, words between space. */
jinja_value jinja_split(jinja *j, const jinja_call *call) {
    const jinja_text *separator = text_argument(j, &call->bound[0]);
    int64_t limit = text_count(j, call->bound[1], -1);
    jinja_value list = jinja_new(j, JINJA_LIST);
    jinja_text rest = separator ? *call->self.text : jinja_trim(*call->self.text, NULL, JINJA_LEFT);
    if (separator && separator->len == 0) return jinja_fail(j, "empty separator");
    for (int64_t n = 0; n != limit && !j->status; n++) {
        size_t end = separator ? jinja_search(j, rest, *separator, 0) : text_word(rest);
        if (end == SIZE_MAX || (!separator && end == rest.len)) break;
        jinja_append(j, list.list, jinja_string(j, jinja_part(rest, 0, end)));
        end += separator ? separator->len : 0;
        rest = jinja_part(rest, end, rest.len - end);
        if (!separator) rest = jinja_trim(rest, NULL, JINJA_LEFT);
    }
    if (separator || rest.len) jinja_append(j, list.list, jinja_string(j, rest));
    return list;
}

/* find(sub): the place of its first character, or -1. */
jinja_value jinja_find_text(jinja *j, const jinja_call *call) {
    const jinja_text *part = text_argument(j, &call->bound[0]);
    if (!part) return jinja_fail(j, "find: expected a text");
    size_t at = jinja_search(j, *call->self.text, *part, 0);
    if (at == SIZE_MAX) return jinja_int(-1);
    return jinja_int(jinja_length(j, jinja_string(j, jinja_part(*call->self.text, 0, at))));
}

jinja_value jinja_replace(jinja *j, const jinja_call *call) {
    const jinja_text *old = text_argument(j, &call->bound[0]);
    const jinja_text *new = text_argument(j, &call->bound[1]);
    int64_t limit = text_count(j, call->bound[2], -1);
    jinja_text text = *call->self.text;
    jinja_builder b = {0};
    size_t from = 0, at = 0;
    uint32_t c;
    if (!old || !new) return jinja_fail(j, "replace: expected two texts");
    for (int64_t n = 0; n != limit && !j->status; n++) {
        at = jinja_search(j, text, *old, at);
        if (at == SIZE_MAX) break;
        jinja_put(j, &b, jinja_part(text, from, at - from));
        jinja_put(j, &b, *new);
        at += old->len;
        from = at;
        if (old->len == 0 && !jinja_next(text, &at, &c)) break;
    }
    jinja_put(j, &b, jinja_part(text, from, text.len - from));
    return jinja_built(j, &b);
}

/* "{} and {}".format(a, b) */
jinja_value jinja_format(jinja *j, const jinja_call *call) {
    jinja_text text = *call->self.text;
    jinja_builder b = {0};
    size_t n = 0;
    for (size_t i = 0; i < text.len && !j->status; i++) {
        int is_brace = text.bytes[i] == '{' || text.bytes[i] == '}';
        if (!is_brace) {
            jinja_put(j, &b, jinja_part(text, i, 1));
        } else if (!jinja_text_is(jinja_part(text, i, min_size(2, text.len - i)), "{}") ||
                   n == call->values.n) {
            return jinja_unsupported(j, "format: only {} is known, with an argument for each");
        } else {
            jinja_put_str(j, &b, call->values.items[n++]);
            i++;
        }
    }
    return jinja_built(j, &b);
}

/* startswith and endswith: of a str or of one of a tuple of them. */
jinja_value jinja_has_end(jinja *j, const jinja_call *call) {
    jinja_value v = call->self;
    jinja_list one = {(jinja_value[]){call->bound[0]}, 1, 1};
    const jinja_list *parts = call->bound[0].kind == JINJA_TUPLE ? call->bound[0].list : &one;
    for (size_t i = 0; i < parts->n && !jinja_spend(j, 1); i++) {
        const jinja_text *part = text_argument(j, &parts->items[i]);
        if (!part) return jinja_fail(j, "expected str, got %s", jinja_type(parts->items[i]));
        if (part->len > v.text->len) continue;
        size_t from = call->mode == JINJA_RIGHT ? v.text->len - part->len : 0;
        if (memcmp(v.text->bytes + from, part->bytes, part->len) == 0) return jinja_bool(1);
    }
    return jinja_bool(0);
}

/* ---- lines ----------------------------------------------------------------------------------- */

jinja_value jinja_spaces(jinja *j, int64_t n) {
    jinja_builder b = {0};
    for (int64_t i = 0; i < n && !jinja_spend(j, 1); i++) jinja_put_literal(j, &b, " ");
    return jinja_built(j, &b);
}

static int text_ends_line(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

/* indent(width=4, first=False, blank=False) */
jinja_value jinja_indent(jinja *j, const jinja_call *call) {
    jinja_value width = call->bound[0];
    jinja_builder b = {0};
    if (call->self.kind != JINJA_STRING)
        return jinja_fail(j, "indent: expected str, got %s", jinja_type(call->self));
    if (width.kind != JINJA_STRING)
        width = jinja_spaces(j, text_count(j, width, 4));
    jinja_text text = *call->self.text;
    for (size_t at = 0, from = 0, end = 0; from <= text.len && !j->status; from = at) {
        uint32_t c = 0;
        while (end = at, jinja_next(text, &at, &c) && !text_ends_line(c)) c = 0;
        if (c == '\r' && at < text.len && text.bytes[at] == '\n') at++;
        int is_wanted = from == 0 ? jinja_truth(call->bound[1])
                                  : end > from || jinja_truth(call->bound[2]);
        if (is_wanted) jinja_put(j, &b, *width.text);
        jinja_put(j, &b, jinja_part(text, from, end - from));
        if (c == 0) break;
        jinja_put_literal(j, &b, "\n");
    }
    return jinja_built(j, &b);
}
