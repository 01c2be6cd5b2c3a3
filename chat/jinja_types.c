/* jinja_types.c: what Python's types do with operators, indices, attributes and iteration. */
#include <math.h>
#include <string.h>

#include "jinja_internal.h"

const struct jinja_operator jinja_operators[JINJA_N_OPS] = {
    {"or", 0}, {"and", 1}, {"==", 2}, {"!=", 2}, {"<=", 2}, {">=", 2}, {"<", 2}, {">", 2},
    {"in", 2}, {"not in", 2}, {"+", 3}, {"-", 3}, {"~", 4}, {"*", 5}, {"/", 5}, {"//", 5},
    {"%", 5},
};

const char *jinja_type(jinja_value v) {
    static const char *const names[] = {
        "Missing", "Undefined", "NoneType", "bool", "int", "float", "str", "list", "tuple",
        "generator", "dict", "Namespace", "LoopContext", "Macro", "function",
    };
    return !v.is_view ? names[v.kind] : v.is_view == JINJA_DICT_VIEW ? "dict view" : "range";
}

int jinja_is_sequence(jinja_value v) { return v.kind == JINJA_LIST || v.kind == JINJA_TUPLE; }
static int is_integer(jinja_value v) { return v.kind == JINJA_BOOL || v.kind == JINJA_INT; }
int jinja_is_number(jinja_value v) { return is_integer(v) || v.kind == JINJA_FLOAT; }
static double number_of(jinja_value v) {
    return v.kind == JINJA_FLOAT ? v.number : (double)v.integer;
}

int jinja_truth(jinja_value v) {
    switch (v.kind) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
    case JINJA_NONE: return 0;
    case JINJA_BOOL:
    case JINJA_INT: return v.integer != 0;
    case JINJA_FLOAT: return v.number != 0;
    case JINJA_STRING: return v.text->len > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT: return v.list && v.list->n > 0;
    default: return 1;
    }
}

/* ---- comparisons ----------------------------------------------------------------------------- */

/* Lists and tuples: item by item; dicts: whether every key has an equal value in the other. */
static int equal_items(jinja *j, jinja_value a, jinja_value b) {
    size_t step = a.kind == JINJA_DICT ? 2 : 1;
    int same = a.list->n == b.list->n;
    for (size_t i = 0; same && i < a.list->n && !j->status; i += step) {
        const jinja_value *other = &b.list->items[i];
        if (step == 2) other = jinja_find(j, b.list, a.list->items[i]);
        same = other && jinja_equal(j, a.list->items[i + step - 1], *other);
    }
    return same;
}

int jinja_equal(jinja *j, jinja_value a, jinja_value b) {
    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (is_integer(a) && is_integer(b)) return a.integer == b.integer;
        return number_of(a) == number_of(b);
    }
    if (a.kind != b.kind) return 0;
    if (a.kind == JINJA_STRING)
        return a.text->len == b.text->len && !jinja_spend(j, a.text->len / 64) &&
               memcmp(a.text->bytes, b.text->bytes, a.text->len) == 0;
    if (a.is_view != b.is_view) return 0;
    if (a.is_view == JINJA_DICT_VIEW) jinja_unsupported(j, "comparing dict views");
    if (!jinja_is_sequence(a) && a.kind != JINJA_DICT)
        return a.kind == JINJA_UNDEFINED || a.kind == JINJA_NONE || a.list == b.list;
    if (jinja_enter(j)) return 0;
    int same = equal_items(j, a, b);
    jinja_leave(j);
    return same;
}

static jinja_value operands_error(jinja *j, jinja_op op, jinja_value a, jinja_value b) {
    if (a.kind == JINJA_UNDEFINED) return jinja_fail(j, "%s", a.why);
    if (b.kind == JINJA_UNDEFINED) return jinja_fail(j, "%s", b.why);
    return jinja_fail(j, "unsupported operand type(s) for %s: '%s' and '%s'",
                      jinja_operators[op].sign, jinja_type(a), jinja_type(b));
}

/* Negative, 0, positive; or an error. */
static int compare_values(jinja *j, jinja_op op, jinja_value a, jinja_value b) {
    if (is_integer(a) && is_integer(b)) return (a.integer > b.integer) - (a.integer < b.integer);
    if (jinja_is_number(a) && jinja_is_number(b))
        return (number_of(a) > number_of(b)) - (number_of(a) < number_of(b));
    if (a.kind != JINJA_STRING || b.kind != JINJA_STRING) {
        operands_error(j, op, a, b);
        return 0;
    }
    size_t len = min_size(a.text->len, b.text->len);
    if (jinja_spend(j, len / 64)) return 0;
    int order = memcmp(a.text->bytes, b.text->bytes, len);
    return order ? order : (a.text->len > b.text->len) - (a.text->len < b.text->len);
}

static int has_part(jinja *j, jinja_value whole, jinja_value part) {
    if (whole.kind == JINJA_DICT) return jinja_find(j, whole.list, part) != NULL;
    if (whole.kind == JINJA_STRING) {
        if (part.kind != JINJA_STRING)
            jinja_fail(j, "'in <string>' requires string as left operand, not %s",
                       jinja_type(part));
        return !j->status && jinja_search(j, *whole.text, *part.text, 0) != SIZE_MAX;
    }
    const jinja_list *list = jinja_iterate(j, whole);
    for (size_t i = 0; list && i < list->n && !jinja_spend(j, 1); i++)
        if (jinja_equal(j, list->items[i], part)) return 1;
    return 0;
}

static void swap_values(jinja_value *a, jinja_value *b) {
    jinja_value old = *a;
    *a = *b;
    *b = old;
}

void jinja_sort_pairs(jinja *j, jinja_list *pairs, jinja_op op) {
    for (size_t end = 2; end < pairs->n && !j->status; end += 2) {
        for (size_t i = end; i > 0 && !jinja_spend(j, 1); i -= 2) {
            jinja_value *pair = &pairs->items[i];
            if (!jinja_truth(jinja_operate(j, op, pair[0], pair[-2]))) break;
            swap_values(&pair[0], &pair[-2]);
            swap_values(&pair[1], &pair[-1]);
        }
    }
}

/* ---- iteration ------------------------------------------------------------------------------- */

static jinja_list *list_characters(jinja *j, jinja_text text) {
    jinja_list *list = jinja_new(j, JINJA_LIST).list;
    uint32_t c;
    for (size_t at = 0, from = 0; !j->status && jinja_next(text, &at, &c); from = at)
        jinja_append(j, list, jinja_string(j, jinja_part(text, from, at - from)));
    return list;
}

jinja_list *jinja_iterate(jinja *j, jinja_value v) {
    if (j->status) return NULL;
    if (jinja_is_sequence(v)) return v.list;
    jinja_list *list = v.kind == JINJA_STRING ? list_characters(j, *v.text)
                                              : jinja_new(j, JINJA_LIST).list;
    if (v.kind == JINJA_DICT) {
        for (size_t i = 0; i < v.list->n && !j->status; i += 2)
            jinja_append(j, list, v.list->items[i]);
    } else if (v.kind == JINJA_GENERATOR && list) {
        *list = *v.list;
        *v.list = (jinja_list){0}; /* it is empty from now on */
    } else if (v.kind != JINJA_STRING && v.kind != JINJA_UNDEFINED) {
        jinja_fail(j, "'%s' object is not iterable", jinja_type(v));
    }
    return j->status ? NULL : list;
}

int64_t jinja_length(jinja *j, jinja_value v) {
    int64_t n = 0;
    if (j->status || v.kind == JINJA_UNDEFINED) return 0;
    if (jinja_is_sequence(v)) return (int64_t)v.list->n;
    if (v.kind == JINJA_DICT) return (int64_t)v.list->n / 2;
    if (v.kind != JINJA_STRING) jinja_fail(j, "object of type '%s' has no len()", jinja_type(v));
    else if (!jinja_spend(j, v.text->len / 64))
        for (size_t i = 0; i < v.text->len; i++)
            n += ((unsigned char)v.text->bytes[i] & 0xC0) != 0x80;
    return n;
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static jinja_value integer_arithmetic(jinja *j, jinja_op op, int64_t x, int64_t y) {
    int64_t result = 0;
    int overflow = 0;
    if ((op == JINJA_FLOOR || op == JINJA_MOD) && y == 0) return jinja_fail(j, "division by zero");
    if (op == JINJA_ADD) overflow = __builtin_add_overflow(x, y, &result);
    else if (op == JINJA_SUB) overflow = __builtin_sub_overflow(x, y, &result);
    else if (op == JINJA_MUL) overflow = __builtin_mul_overflow(x, y, &result);
    else if (y == -1) overflow = __builtin_sub_overflow(0, op == JINJA_MOD ? 0 : x, &result);
    else {
        int64_t remainder = x % y;
        int rounds_up = remainder != 0 && (remainder < 0) != (y < 0);
        result = op == JINJA_MOD ? remainder + (rounds_up ? y : 0) : x / y - rounds_up;
    }
    if (overflow) return jinja_unsupported(j, "an integer that does not fit 64 bits");
    return jinja_int(result);
}

static jinja_value float_arithmetic(jinja *j, jinja_op op, double x, double y) {
    if ((op == JINJA_DIV || op == JINJA_MOD || op == JINJA_FLOOR) && y == 0)
        return jinja_fail(j, "division by zero");
    double rest = fmod(x, y); /* of the sign of y, as Python has it */
    if (rest == 0) rest = copysign(0, y);
    else if ((rest < 0) != (y < 0)) rest += y;
    switch (op) {
    case JINJA_ADD: return jinja_float(x + y);
    case JINJA_SUB: return jinja_float(x - y);
    case JINJA_MUL: return jinja_float(x * y);
    case JINJA_DIV: return jinja_float(x / y);
    case JINJA_FLOOR: return jinja_float(round((x - rest) / y));
    default: return jinja_float(rest);
    }
}

static jinja_value repeat_text(jinja *j, jinja_text text, int64_t n) {
    jinja_builder b = {0};
    if (n > 0 && text.len && n > (int64_t)(JINJA_MAX_TEXT / text.len))
        return jinja_unsupported(j, "a text of more than %d bytes", JINJA_MAX_TEXT);
    for (int64_t i = 0; text.len && i < n && !jinja_spend(j, 1); i++) jinja_put(j, &b, text);
    return jinja_built(j, &b);
}

static jinja_value escape_html(jinja *j, jinja_text text) {
    static const char special[] = "&<>'\"";
    static const char *const written[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    jinja_builder b = {0};
    for (size_t i = 0; i < text.len && !j->status; i++) {
        const char *found = text.bytes[i] ? strchr(special, text.bytes[i]) : NULL;
        if (found) jinja_put_literal(j, &b, written[found - special]);
        else jinja_put(j, &b, jinja_part(text, i, 1));
    }
    return jinja_built(j, &b);
}

/* a + b of two strings, or of two lists or tuples. */
static jinja_value concatenate(jinja *j, jinja_value a, jinja_value b) {
    jinja_value joined = jinja_new(j, a.kind);
    if (a.kind == JINJA_STRING) {
        unsigned char is_markup = a.is_markup | b.is_markup;
        if (is_markup && !b.is_markup) b = escape_html(j, *b.text);
        if (is_markup && !a.is_markup) a = escape_html(j, *a.text);
        joined = jinja_operate(j, JINJA_CONCAT, a, b);
        joined.is_markup = is_markup;
        return joined;
    }
    for (size_t i = 0; i < a.list->n && !j->status; i++)
        jinja_append(j, joined.list, a.list->items[i]);
    for (size_t i = 0; i < b.list->n && !j->status; i++)
        jinja_append(j, joined.list, b.list->items[i]);
    return joined;
}

static int is_text_or_sequence(jinja_value v) {
    return v.kind == JINJA_STRING || jinja_is_sequence(v);
}

static jinja_value arithmetic(jinja *j, jinja_op op, jinja_value a, jinja_value b) {
    if (jinja_is_number(a) && jinja_is_number(b)) {
        int is_float = a.kind == JINJA_FLOAT || b.kind == JINJA_FLOAT || op == JINJA_DIV;
        if (is_float) return float_arithmetic(j, op, number_of(a), number_of(b));
        return integer_arithmetic(j, op, a.integer, b.integer);
    }
    int is_alike = a.kind == b.kind && is_text_or_sequence(a) && !a.is_view && !b.is_view;
    if (op == JINJA_ADD && is_alike) return concatenate(j, a, b);
    if (op == JINJA_MUL && a.kind == JINJA_STRING && is_integer(b) && !a.is_markup)
        return repeat_text(j, *a.text, b.integer);
    return operands_error(j, op, a, b);
}

jinja_value jinja_operate(jinja *j, jinja_op op, jinja_value a, jinja_value b) {
    jinja_builder text = {0};
    if (j->status) return jinja_none();
    switch (op) {
    case JINJA_EQ:
    case JINJA_NE: return jinja_bool(jinja_equal(j, a, b) == (op == JINJA_EQ));
    case JINJA_LE: return jinja_bool(compare_values(j, op, a, b) <= 0);
    case JINJA_GE: return jinja_bool(compare_values(j, op, a, b) >= 0);
    case JINJA_LT: return jinja_bool(compare_values(j, op, a, b) < 0);
    case JINJA_GT: return jinja_bool(compare_values(j, op, a, b) > 0);
    case JINJA_IN:
    case JINJA_NOT_IN: return jinja_bool(has_part(j, b, a) == (op == JINJA_IN));
    case JINJA_CONCAT:
        jinja_put_str(j, &text, a);
        jinja_put_str(j, &text, b);
        return jinja_built(j, &text);
    default: return arithmetic(j, op, a, b);
    }
}

/* ---- attributes and indices ------------------------------------------------------------------ */

/* Whether Python has a method of that name that is not known here. Those that change an object are
 * undefined in the sandbox. */
static int is_unknown_method(jinja *j, jinja_kind kind, jinja_text name) {
    static const char of_str[] =
        ",casefold,center,count,encode,expandtabs,format_map,index,isalnum,isalpha,isascii,"
        "isdecimal,isdigit,isidentifier,islower,isnumeric,isprintable,isspace,istitle,isupper,"
        "ljust,partition,removeprefix,removesuffix,rfind,rindex,rjust,rpartition,rsplit,"
        "splitlines,swapcase,translate,zfill,";
    static const char of_number[] =
        ",as_integer_ratio,bit_count,bit_length,conjugate,denominator,from_bytes,fromhex,hex,imag,"
        "is_integer,numerator,real,to_bytes,";
    const char *methods = kind == JINJA_STRING ? of_str : kind == JINJA_DICT ? ",copy,fromkeys," :
                          kind == JINJA_LIST || kind == JINJA_TUPLE ? ",copy,count,index," :
                          kind >= JINJA_BOOL && kind <= JINJA_FLOAT ? of_number : "";
    char wanted[100];
    snprintf(wanted, sizeof wanted, ",%s,", jinja_shown(j, name));
    return strstr(methods, wanted) != NULL;
}

jinja_value jinja_attribute(jinja *j, jinja_value v, jinja_text name) {
    const jinja_function *function = NULL;
    const jinja_value *found = NULL;
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%s", v.why);
    if (v.kind == JINJA_STRING) function = jinja_function_named(name, JINJA_STR_METHOD);
    if (v.kind == JINJA_DICT) function = jinja_function_named(name, JINJA_DICT_METHOD);
    if (function) return jinja_bind(j, function, v);
    if (is_unknown_method(j, v.kind, name) || v.kind >= JINJA_LOOP || v.is_view)
        return jinja_unsupported(j, "the attribute %s of a %s is not known", jinja_shown(j, name),
                                 jinja_type(v));
    if (v.kind == JINJA_DICT || v.kind == JINJA_NAMESPACE)
        found = jinja_find_name(j, v.list, name);
    if (found) return *found;
    return jinja_undefined(j, "'%s object' has no attribute '%s', or none that is known here",
                           jinja_type(v), jinja_shown(j, name));
}

/* Characters from .. to - 1. */
static jinja_text text_range(jinja_text text, int64_t from, int64_t to) {
    size_t start = 0, at = 0;
    uint32_t c;
    for (int64_t i = 0; i < to && jinja_next(text, &at, &c); i++)
        if (i < from) start = at;
    return jinja_part(text, start, at - start);
}

jinja_value jinja_item(jinja *j, jinja_value v, jinja_value key) {
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%s", v.why);
    if (v.kind == JINJA_DICT && jinja_is_hashable(j, key)) {
        const jinja_value *found = jinja_find(j, v.list, key);
        if (found) return *found;
    }
    if (key.kind == JINJA_STRING) return jinja_attribute(j, v, *key.text);
    if (v.is_markup) return jinja_unsupported(j, "a part of a string from the filter safe");
    if (is_integer(key) && is_text_or_sequence(v) && v.is_view != JINJA_DICT_VIEW) {
        int64_t n = jinja_length(j, v), i = key.integer < 0 ? key.integer + n : key.integer;
        if (i >= 0 && i < n && v.kind != JINJA_STRING) return v.list->items[i];
        if (i >= 0 && i < n) return jinja_string(j, text_range(*v.text, i, i + 1));
    }
    return jinja_undefined(j, "'%s object' has no such element", jinja_type(v));
}

/* A bound of a slice as Python clips it: to low .. high, counted from the end when negative. */
static int64_t slice_bound(jinja *j, jinja_value v, int64_t missing, int64_t n, int64_t low,
                           int64_t high) {
    if (v.kind == JINJA_NONE) return missing;
    if (!is_integer(v)) {
        jinja_fail(j, "slice indices must be integers or None, got %s", jinja_type(v));
        return 0;
    }
    int64_t i = v.integer < 0 ? v.integer + n : v.integer;
    return i < low ? low : i > high ? high : i;
}

jinja_value jinja_slice(jinja *j, jinja_value v, const jinja_value bounds[3]) {
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%s", v.why);
    if (v.is_markup) return jinja_unsupported(j, "a part of a string from the filter safe");
    if (!is_text_or_sequence(v) || v.is_view == JINJA_DICT_VIEW)
        return jinja_fail(j, "'%s' object is not subscriptable", jinja_type(v));
    int64_t n = jinja_length(j, v), step = slice_bound(j, bounds[2], 1, 0, INT64_MIN, INT64_MAX);
    if (step == 0) return jinja_fail(j, "slice step cannot be zero");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    int64_t from = slice_bound(j, bounds[0], step < 0 ? high : low, n, low, high);
    int64_t to = slice_bound(j, bounds[1], step < 0 ? low : high, n, low, high);
    if (v.kind == JINJA_STRING && step == 1)
        return jinja_string(j, text_range(*v.text, from, from < to ? to : from));
    jinja_builder b = {0};
    jinja_list *items = jinja_iterate(j, v);
    jinja_value part = jinja_new(j, v.kind);
    part.is_view = v.is_view;
    for (int64_t i = from; !j->status && (step < 0 ? i > to : i < to);) {
        if (v.kind == JINJA_STRING) jinja_put(j, &b, *items->items[i].text);
        else jinja_append(j, part.list, items->items[i]);
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return v.kind == JINJA_STRING ? jinja_built(j, &b) : part;
}
