/* jinja_text.c: characters, and what filters and methods do with texts. Positions are counted in
 * characters, texts are valid UTF-8 throughout. */
#include <string.h>

#include "../base/utf8.h"
#include "../vocab/unicode_table.h"
#include "jinja_internal.h"

/* ---- characters ------------------------------------------------------------------------------ */

int jinja_next(jinja_text text, size_t *at, uint32_t *c) {
    if (*at >= text.len) return 0;
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

static int text_is_letter(uint32_t c) {
    return in_ranges(c, gqa_unicode_letters, gqa_unicode_letters_count);
}

int jinja_is_printable(uint32_t c) {
    if (c < 0x7F) return c >= 0x20;
    return text_is_letter(c) ||
           in_ranges(c, gqa_unicode_numbers, gqa_unicode_numbers_count) ||
           in_ranges(c, gqa_unicode_marks, gqa_unicode_marks_count) ||
           in_ranges(c, gqa_unicode_punctuation, gqa_unicode_punctuation_count) ||
           in_ranges(c, gqa_unicode_symbols, gqa_unicode_symbols_count);
}

/* ---- upper and lower case -------------------------------------------------------------------- */

/* Letters of two cases: Latin, Greek, Cyrillic and Armenian; a letter of other alphabets stays as
 * it is. `lower` is so far from each capital in first to last; step 2: every second one is. */
static const struct {
    uint32_t first, last, step, lower;
} text_capitals[] = {
    {'A', 'Z', 1, 32}, {0xC0, 0xD6, 1, 32}, {0xD8, 0xDE, 1, 32}, {0x100, 0x12E, 2, 1},
    {0x132, 0x136, 2, 1}, {0x139, 0x147, 2, 1}, {0x14A, 0x176, 2, 1}, {0x179, 0x17D, 2, 1},
    {0x388, 0x38A, 1, 37}, {0x391, 0x3A1, 1, 32}, {0x3A3, 0x3AB, 1, 32}, {0x400, 0x40F, 1, 80},
    {0x410, 0x42F, 1, 32}, {0x460, 0x480, 2, 1}, {0x48A, 0x4BE, 2, 1}, {0x4D0, 0x52E, 2, 1},
    {0x531, 0x556, 1, 48}, {0x1E00, 0x1E94, 2, 1}, {0x1EA0, 0x1EFE, 2, 1},
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

/* The filter `title` begins a word after blanks and opening brackets, Python's method after
 * everything that is no letter. */
static int text_is_upper(int mode, uint32_t previous) {
    if (mode == JINJA_UPPER || mode == JINJA_LOWER) return mode == JINJA_UPPER;
    if (mode == JINJA_CAPITALIZE) return previous == 0;
    if (mode == JINJA_TITLE) return !text_is_letter(previous);
    return jinja_is_space(previous) || (previous < 128 && strchr("-({[<", (int)previous));
}

jinja_value jinja_with_case(jinja *j, jinja_text text, int mode) {
    jinja_builder b = {0};
    uint32_t c, previous = 0;
    for (size_t at = 0, from = 0; !j->status && jinja_next(text, &at, &c); from = at) {
        unsigned char is_content = text.is_content ? text.is_content[from] : 0;
        jinja_put_char(j, &b, text_with_case(c, text_is_upper(mode, previous)), is_content);
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
    int64_t limit = call->bound[1].kind == JINJA_INT ? call->bound[1].integer : -1;
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

jinja_value jinja_replace(jinja *j, const jinja_call *call) {
    const jinja_text *old = text_argument(j, &call->bound[0]);
    const jinja_text *new = text_argument(j, &call->bound[1]);
    int64_t limit = call->bound[2].kind == JINJA_INT ? call->bound[2].integer : -1;
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
        width = jinja_spaces(j, width.kind == JINJA_INT ? width.integer : 4);
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
