/* jinja_text.c: characters, and what Python's str does. Positions are counted in characters, texts
 * are valid UTF-8 throughout. */
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

size_t jinja_count(jinja_text text) {
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) n += ((unsigned char)text.bytes[i] & 0xC0) != 0x80;
    return n;
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

static uint32_t text_change_case(uint32_t c, int to_upper) {
    for (size_t i = 0; i < array_length(text_capitals); i++) {
        uint32_t first = text_capitals[i].first, lower = text_capitals[i].lower;
        uint32_t from = to_upper ? first + lower : first;
        if (c < from || c > text_capitals[i].last - first + from) continue;
        if ((c - from) % text_capitals[i].step == 0) return to_upper ? c - lower : c + lower;
    }
    return c;
}

/* ---- search ---------------------------------------------------------------------------------- */

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

jinja_text jinja_trim(jinja_text text, const jinja_text *set, int left, int right) {
    size_t from = 0, end = text.len;
    uint32_t c;
    size_t at = 0;
    while (left && jinja_next(text, &at, &c) && text_in_set(set, c)) from = at;
    at = end;
    while (right && text_previous(text, &at, &c) && at >= from && text_in_set(set, c)) end = at;
    return jinja_part(text, from, end - from);
}

/* ---- methods --------------------------------------------------------------------------------- */

/* An argument as a text, or NULL where it is missing or none. */
static const jinja_text *text_argument(jinja *j, const jinja_value *v) {
    if (v->kind == JINJA_STRING) return &v->text;
    if (v->kind != JINJA_MISSING && v->kind != JINJA_NONE)
        jinja_fail(j, "expected str, got %s", jinja_type(*v));
    return NULL;
}

static jinja_value text_strip(jinja *j, jinja_value self, const jinja_arguments *a, int left,
                              int right) {
    const jinja_text *set = text_argument(j, &a->bound[0]);
    if (j->status || (set && jinja_spend(j, self.text.len * set->len / 16))) return jinja_none();
    return jinja_string(jinja_trim(self.text, set, left, right));
}
static jinja_value method_strip(jinja *j, jinja_value self, const jinja_arguments *a) {
    return text_strip(j, self, a, 1, 1);
}
static jinja_value method_lstrip(jinja *j, jinja_value self, const jinja_arguments *a) {
    return text_strip(j, self, a, 1, 0);
}
static jinja_value method_rstrip(jinja *j, jinja_value self, const jinja_arguments *a) {
    return text_strip(j, self, a, 0, 1);
}

/* Words between space. After `limit` of them (negative: no limit) the rest is one. */
static void text_split_words(jinja *j, jinja_text text, int64_t limit, jinja_list *list) {
    text = jinja_trim(text, NULL, 1, 0);
    for (int64_t n = 0; text.len && !j->status; n++) {
        size_t at = 0, end = 0;
        uint32_t c;
        while (n != limit && jinja_next(text, &at, &c) && !jinja_is_space(c)) end = at;
        if (n == limit) end = text.len;
        jinja_append(j, list, jinja_string(jinja_part(text, 0, end)));
        text = jinja_trim(jinja_part(text, end, text.len - end), NULL, 1, 0);
    }
}

static jinja_value method_split(jinja *j, jinja_value self, const jinja_arguments *a) {
    const jinja_text *separator = text_argument(j, &a->bound[0]);
    int64_t limit = a->bound[1].kind == JINJA_INT ? a->bound[1].integer : -1;
    jinja_text text = self.text;
    jinja_value list = jinja_new_list(j, JINJA_LIST);
    if (separator && separator->len == 0) return jinja_fail(j, "empty separator");
    if (!separator) {
        if (!j->status) text_split_words(j, text, limit, list.list);
        return list;
    }
    size_t from = 0, at;
    for (int64_t n = 0; n != limit && !j->status; n++) {
        at = jinja_search(j, text, *separator, from);
        if (at == SIZE_MAX) break;
        jinja_append(j, list.list, jinja_string(jinja_part(text, from, at - from)));
        from = at + separator->len;
    }
    jinja_append(j, list.list, jinja_string(jinja_part(text, from, text.len - from)));
    return list;
}

static int text_is_line_end(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

jinja_value jinja_split_lines(jinja *j, jinja_text text) {
    jinja_value list = jinja_new_list(j, JINJA_LIST);
    size_t from = 0, at = 0, end;
    uint32_t c;
    while (end = at, !j->status && jinja_next(text, &at, &c)) {
        if (!text_is_line_end(c)) continue;
        if (c == '\r' && at < text.len && text.bytes[at] == '\n') at++;
        jinja_append(j, list.list, jinja_string(jinja_part(text, from, end - from)));
        from = at;
    }
    if (from < text.len)
        jinja_append(j, list.list, jinja_string(jinja_part(text, from, text.len - from)));
    return list;
}
static jinja_value method_splitlines(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)a;
    return jinja_split_lines(j, self.text);
}

jinja_value jinja_replace(jinja *j, jinja_text text, const jinja_value arguments[3]) {
    const jinja_text *old = text_argument(j, &arguments[0]);
    const jinja_text *new = text_argument(j, &arguments[1]);
    int64_t limit = arguments[2].kind == JINJA_INT ? arguments[2].integer : -1;
    jinja_builder b = {0};
    if (!old || !new) return jinja_fail(j, "replace: expected two texts");
    size_t from = 0, at = 0;
    for (int64_t n = 0; n != limit && !j->status; n++) {
        at = jinja_search(j, text, *old, at);
        if (at == SIZE_MAX) break;
        jinja_put(j, &b, jinja_part(text, from, at - from));
        jinja_put(j, &b, *new);
        from = at + old->len;
        at = from;
        uint32_t c;
        if (old->len == 0 && !jinja_next(text, &at, &c)) break;
    }
    jinja_put(j, &b, jinja_part(text, from, text.len - from));
    return jinja_built(&b);
}
static jinja_value method_replace(jinja *j, jinja_value self, const jinja_arguments *a) {
    return jinja_replace(j, self.text, a->bound);
}

/* Whether a text begins or ends with one of the prefixes: a str or a tuple of them. */
static int text_has_end(jinja *j, jinja_text text, jinja_value affix, int at_end) {
    if (affix.kind == JINJA_TUPLE) {
        int found = 0;
        for (size_t i = 0; i < affix.list->n && !found && !jinja_enter(j); i++) {
            found = text_has_end(j, text, affix.list->items[i], at_end);
            jinja_leave(j);
        }
        return found;
    }
    const jinja_text *part = text_argument(j, &affix);
    if (!part && !j->status) jinja_fail(j, "expected str, got %s", jinja_type(affix));
    if (!part || part->len > text.len) return 0;
    size_t from = at_end ? text.len - part->len : 0;
    return memcmp(text.bytes + from, part->bytes, part->len) == 0;
}
static jinja_value method_startswith(jinja *j, jinja_value self, const jinja_arguments *a) {
    return jinja_bool(text_has_end(j, self.text, a->bound[0], 0));
}
static jinja_value method_endswith(jinja *j, jinja_value self, const jinja_arguments *a) {
    return jinja_bool(text_has_end(j, self.text, a->bound[0], 1));
}
static jinja_value method_removeprefix(jinja *j, jinja_value self, const jinja_arguments *a) {
    if (!text_has_end(j, self.text, a->bound[0], 0)) return self;
    size_t len = a->bound[0].text.len;
    return jinja_string(jinja_part(self.text, len, self.text.len - len));
}
static jinja_value method_removesuffix(jinja *j, jinja_value self, const jinja_arguments *a) {
    if (!text_has_end(j, self.text, a->bound[0], 1)) return self;
    return jinja_string(jinja_part(self.text, 0, self.text.len - a->bound[0].text.len));
}

static jinja_value method_find(jinja *j, jinja_value self, const jinja_arguments *a) {
    const jinja_text *part = text_argument(j, &a->bound[0]);
    size_t at = part ? jinja_search(j, self.text, *part, 0) : SIZE_MAX;
    return jinja_int(at == SIZE_MAX ? -1 : (int64_t)jinja_count(jinja_part(self.text, 0, at)));
}

static jinja_value method_count(jinja *j, jinja_value self, const jinja_arguments *a) {
    const jinja_text *part = text_argument(j, &a->bound[0]);
    int64_t n = 0;
    if (!part) return jinja_fail(j, "count: expected str, got %s", jinja_type(a->bound[0]));
    if (part->len == 0) return jinja_int((int64_t)jinja_count(self.text) + 1);
    for (size_t at = 0; (at = jinja_search(j, self.text, *part, at)) != SIZE_MAX; at += part->len)
        n++;
    return jinja_int(n);
}

/* The filter `title` begins a word after blanks and opening brackets, Python's method after
 * everything that is no letter. */
static int text_begins_word(jinja_case mode, uint32_t previous) {
    if (mode == JINJA_CAPITALIZE) return previous == 0;
    if (mode == JINJA_TITLE) return !text_is_letter(previous);
    return jinja_is_space(previous) || (previous < 128 && strchr("-({[<", (int)previous));
}

jinja_value jinja_with_case(jinja *j, jinja_text text, jinja_case mode) {
    jinja_builder b = {0};
    uint32_t c, previous = 0;
    for (size_t at = 0, from = 0; !j->status && jinja_next(text, &at, &c); from = at) {
        int upper = mode == JINJA_UPPER;
        if (!upper && mode != JINJA_LOWER) upper = text_begins_word(mode, previous);
        int is_content = text.is_content && text.is_content[from];
        previous = c;
        jinja_put_char(j, &b, text_change_case(c, upper), is_content);
    }
    return jinja_built(&b);
}
static jinja_value method_upper(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)a;
    return jinja_with_case(j, self.text, JINJA_UPPER);
}
static jinja_value method_lower(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)a;
    return jinja_with_case(j, self.text, JINJA_LOWER);
}
static jinja_value method_title(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)a;
    return jinja_with_case(j, self.text, JINJA_TITLE);
}
static jinja_value method_capitalize(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)a;
    return jinja_with_case(j, self.text, JINJA_CAPITALIZE);
}

static jinja_value method_join(jinja *j, jinja_value self, const jinja_arguments *a) {
    jinja_list *list = jinja_iterate(j, a->bound[0]);
    jinja_builder b = {0};
    for (size_t i = 0; list && i < list->n && !j->status; i++) {
        if (list->items[i].kind != JINJA_STRING)
            return jinja_fail(j, "join: expected str, got %s", jinja_type(list->items[i]));
        if (i) jinja_put(j, &b, self.text);
        jinja_put(j, &b, list->items[i].text);
    }
    return jinja_built(&b);
}

/* What stands for "{}", "{0}" or "{name}" in a format; *next counts the first kind. */
static jinja_value format_field(jinja *j, jinja_text field, const jinja_arguments *a,
                                size_t *next) {
    const jinja_value *named = jinja_find(j, &a->named, jinja_string(field));
    size_t index = field.len == 0 ? (*next)++ : SIZE_MAX;
    if (field.len == 1 && field.bytes[0] >= '0' && field.bytes[0] <= '9')
        index = (size_t)(field.bytes[0] - '0');
    if (named) return *named;
    if (index < a->values.n) return a->values.items[index];
    return jinja_unsupported(j, "format: the field {%.*s} is not known or has no argument",
                             (int)min_size(field.len, 60), field.bytes);
}

static jinja_value method_format(jinja *j, jinja_value self, const jinja_arguments *a) {
    jinja_text text = self.text;
    jinja_builder b = {0};
    size_t next = 0;
    for (size_t i = 0; i < text.len && !j->status; i++) {
        char c = text.bytes[i];
        int is_brace = c == '{' || c == '}', is_double = i + 1 < text.len && text.bytes[i + 1] == c;
        if (!is_brace || is_double) {
            jinja_put(j, &b, jinja_part(text, i, 1));
            i += (size_t)is_brace;
            continue;
        }
        const char *end = memchr(text.bytes + i, '}', text.len - i);
        if (c == '}' || !end) return jinja_fail(j, "format: a single '%c'", c);
        size_t len = (size_t)(end - text.bytes) - i - 1;
        jinja_put_str(j, &b, format_field(j, jinja_part(text, i + 1, len), a, &next));
        i += len + 1;
    }
    return jinja_built(&b);
}

const jinja_function *jinja_string_method(jinja_text name) {
    static const jinja_function methods[] = {
        {"strip", "chars?", method_strip},
        {"lstrip", "chars?", method_lstrip},
        {"rstrip", "chars?", method_rstrip},
        {"split", "sep?,maxsplit?", method_split},
        {"splitlines", "", method_splitlines},
        {"replace", "old,new,count?", method_replace},
        {"startswith", "prefix", method_startswith},
        {"endswith", "suffix", method_endswith},
        {"removeprefix", "prefix", method_removeprefix},
        {"removesuffix", "suffix", method_removesuffix},
        {"find", "sub", method_find},
        {"count", "sub", method_count},
        {"upper", "", method_upper},
        {"lower", "", method_lower},
        {"title", "", method_title},
        {"capitalize", "", method_capitalize},
        {"join", "iterable", method_join},
        {"format", NULL, method_format},
    };
    for (size_t i = 0; i < array_length(methods); i++)
        if (jinja_text_is(name, methods[i].name)) return &methods[i];
    return NULL;
}
