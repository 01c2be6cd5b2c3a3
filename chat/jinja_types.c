/* jinja_types.c: what Python's types do with operators, indices, attributes and iteration. */
#include <math.h>
#include <string.h>

#include "jinja_internal.h"

const char *jinja_type(jinja_value v) {
    static const char *const names[JINJA_N_KINDS] = {
        "Missing", "Undefined", "NoneType", "bool", "int", "float", "str", "list", "tuple",
        "range", "dict view", "generator", "dict", "Namespace", "LoopContext", "Macro", "function",
    };
    return names[v.kind];
}

int jinja_is_sequence(jinja_value v) {
    return v.kind == JINJA_LIST || v.kind == JINJA_TUPLE || v.kind == JINJA_RANGE;
}
static int is_integer(jinja_value v) { return v.kind == JINJA_BOOL || v.kind == JINJA_INT; }
int jinja_is_number(jinja_value v) { return is_integer(v) || v.kind == JINJA_FLOAT; }
double jinja_number(jinja_value v) {
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
    case JINJA_STRING: return v.text.len > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
    case JINJA_VIEW: return v.list && v.list->n > 0;
    case JINJA_DICT: return v.dict && v.dict->n > 0;
    default: return 1;
    }
}

/* ---- comparisons ----------------------------------------------------------------------------- */

static int equal_lists(jinja *j, const jinja_list *a, const jinja_list *b) {
    int same = a->n == b->n;
    for (size_t i = 0; same && i < a->n && !j->status; i++)
        same = jinja_equal(j, a->items[i], b->items[i]);
    return same;
}

static int equal_dicts(jinja *j, const jinja_dict *a, const jinja_dict *b) {
    int same = a->n == b->n;
    for (size_t i = 0; same && i < a->n && !j->status; i++) {
        const jinja_value *other = jinja_find(j, b, a->pairs[i].key);
        same = other && jinja_equal(j, a->pairs[i].value, *other);
    }
    return same;
}

int jinja_equal(jinja *j, jinja_value a, jinja_value b) {
    int same = 0;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (a.kind == JINJA_FLOAT || b.kind == JINJA_FLOAT)
            return jinja_number(a) == jinja_number(b);
        return a.integer == b.integer;
    }
    if (a.kind != b.kind || jinja_enter(j)) return 0;
    if (a.kind == JINJA_STRING)
        same = jinja_same_text(a.text, b.text) && !jinja_spend(j, a.text.len / 64);
    else if (jinja_is_sequence(a)) same = equal_lists(j, a.list, b.list);
    else if (a.kind == JINJA_DICT) same = equal_dicts(j, a.dict, b.dict);
    else same = a.kind == JINJA_UNDEFINED || a.kind == JINJA_NONE || a.list == b.list;
    jinja_leave(j);
    return same;
}

/* By the first items that are not equal, then by length. */
static int compare_lists(jinja *j, const jinja_list *a, const jinja_list *b) {
    int order = (a->n > b->n) - (a->n < b->n);
    for (size_t i = 0; i < min_size(a->n, b->n) && !jinja_enter(j); i++) {
        int same = jinja_equal(j, a->items[i], b->items[i]);
        if (!same) order = jinja_compare(j, a->items[i], b->items[i]);
        jinja_leave(j);
        if (!same) break;
    }
    return order;
}

int jinja_compare(jinja *j, jinja_value a, jinja_value b) {
    if (jinja_is_number(a) && jinja_is_number(b)) {
        double x = jinja_number(a), y = jinja_number(b);
        if (a.kind != JINJA_FLOAT && b.kind != JINJA_FLOAT)
            return (a.integer > b.integer) - (a.integer < b.integer);
        return (x > y) - (x < y);
    }
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED) {
        jinja_text what = a.kind == JINJA_UNDEFINED ? a.text : b.text;
        jinja_fail(j, "%.*s", (int)what.len, what.bytes);
    } else if (a.kind == b.kind && jinja_is_sequence(a)) {
        return compare_lists(j, a.list, b.list);
    } else if (a.kind != JINJA_STRING || b.kind != JINJA_STRING) {
        jinja_fail(j, "%s and %s cannot be compared by order", jinja_type(a), jinja_type(b));
    } else if (!jinja_spend(j, min_size(a.text.len, b.text.len) / 64)) {
        int order = memcmp(a.text.bytes, b.text.bytes, min_size(a.text.len, b.text.len));
        return order ? order : (a.text.len > b.text.len) - (a.text.len < b.text.len);
    }
    return 0;
}

int jinja_contains(jinja *j, jinja_value whole, jinja_value part) {
    if (whole.kind == JINJA_DICT) return jinja_find(j, whole.dict, part) != NULL;
    if (whole.kind == JINJA_STRING) {
        if (part.kind != JINJA_STRING)
            jinja_fail(j, "'in <string>' requires string as left operand, not %s",
                       jinja_type(part));
        return !j->status && jinja_search(j, whole.text, part.text, 0) != SIZE_MAX;
    }
    const jinja_list *list = jinja_iterate(j, whole);
    for (size_t i = 0; list && i < list->n && !jinja_spend(j, 1); i++)
        if (jinja_equal(j, list->items[i], part)) return 1;
    return 0;
}

/* ---- iteration ------------------------------------------------------------------------------- */

static jinja_list *list_characters(jinja *j, jinja_text text) {
    jinja_list *list = jinja_new_list(j, JINJA_LIST).list;
    uint32_t c;
    for (size_t at = 0, from = 0; list && !j->status && jinja_next(text, &at, &c); from = at)
        jinja_append(j, list, jinja_string(jinja_part(text, from, at - from)));
    return j->status ? NULL : list;
}

static jinja_list *list_keys(jinja *j, const jinja_dict *dict) {
    jinja_list *list = jinja_new_list(j, JINJA_LIST).list;
    for (size_t i = 0; list && dict && i < dict->n && !j->status; i++)
        jinja_append(j, list, dict->pairs[i].key);
    return j->status ? NULL : list;
}

jinja_list *jinja_iterate(jinja *j, jinja_value v) {
    jinja_list *list = NULL;
    if (j->status) return NULL;
    switch (v.kind) {
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
    case JINJA_VIEW: return v.list;
    case JINJA_STRING: return list_characters(j, v.text);
    case JINJA_DICT: return list_keys(j, v.dict);
    case JINJA_UNDEFINED: return jinja_new_list(j, JINJA_LIST).list;
    case JINJA_GENERATOR: /* it is empty from now on */
        list = jinja_new_list(j, JINJA_LIST).list;
        if (!list) return NULL;
        *list = *v.list;
        *v.list = (jinja_list){0};
        return list;
    default: jinja_fail(j, "'%s' object is not iterable", jinja_type(v));
    }
    return NULL;
}

int64_t jinja_length(jinja *j, jinja_value v) {
    if (v.kind == JINJA_UNDEFINED || j->status) return 0;
    if (v.kind == JINJA_STRING && !jinja_spend(j, v.text.len / 64))
        return (int64_t)jinja_count(v.text);
    if (v.kind == JINJA_DICT) return (int64_t)v.dict->n;
    if (jinja_is_sequence(v) || v.kind == JINJA_VIEW) return (int64_t)v.list->n;
    jinja_fail(j, "object of type '%s' has no len()", jinja_type(v));
    return 0;
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static jinja_value operands_error(jinja *j, const char *op, jinja_value a, jinja_value b) {
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED) {
        jinja_text what = a.kind == JINJA_UNDEFINED ? a.text : b.text;
        return jinja_fail(j, "%.*s", (int)what.len, what.bytes);
    }
    if (*op == '+' && a.kind == JINJA_STRING)
        return jinja_fail(j, "can only concatenate str (not \"%s\") to str", jinja_type(b));
    return jinja_fail(j, "unsupported operand type(s) for %s: '%s' and '%s'", op, jinja_type(a),
                      jinja_type(b));
}

/* x ** n in integers, n >= 0. */
static int integer_power(int64_t x, int64_t n, int64_t *result) {
    int overflow = 0;
    int64_t factor = x;
    *result = 1;
    while (n > 0 && !overflow) {
        if (n & 1) overflow |= __builtin_mul_overflow(*result, factor, result);
        n >>= 1;
        if (n) overflow |= __builtin_mul_overflow(factor, factor, &factor);
    }
    return overflow;
}

static jinja_value integer_arithmetic(jinja *j, int op, int64_t x, int64_t y) {
    int64_t result = 0;
    int overflow = 0, divides = op == JINJA_OP_FLOOR || op == '%';
    if (divides && y == 0) return jinja_fail(j, "division by zero");
    if (op == '+') overflow = __builtin_add_overflow(x, y, &result);
    else if (op == '-') overflow = __builtin_sub_overflow(x, y, &result);
    else if (op == '*') overflow = __builtin_mul_overflow(x, y, &result);
    else if (op == JINJA_OP_POWER) overflow = integer_power(x, y, &result);
    else if (y == -1) overflow = __builtin_sub_overflow(0, op == '%' ? 0 : x, &result);
    else {
        int64_t remainder = x % y;
        int rounds_up = remainder != 0 && (remainder < 0) != (y < 0);
        result = op == '%' ? remainder + (rounds_up ? y : 0) : x / y - rounds_up;
    }
    if (overflow) return jinja_unsupported(j, "an integer that does not fit 64 bits");
    return jinja_int(result);
}

static jinja_value float_arithmetic(jinja *j, int op, double x, double y) {
    if ((op == '/' || op == '%' || op == JINJA_OP_FLOOR) && y == 0)
        return jinja_fail(j, "division by zero");
    switch (op) {
    case '+': return jinja_float(x + y);
    case '-': return jinja_float(x - y);
    case '*': return jinja_float(x * y);
    case '/': return jinja_float(x / y);
    case JINJA_OP_POWER: return jinja_float(pow(x, y));
    case JINJA_OP_FLOOR: return jinja_float(floor(x / y));
    default: return jinja_float(x - y * floor(x / y));
    }
}

static jinja_value join_sequences(jinja *j, const jinja_list *a, const jinja_list *b,
                                  jinja_kind kind) {
    jinja_value joined = jinja_new_list(j, kind);
    for (size_t i = 0; i < a->n && !j->status; i++) jinja_append(j, joined.list, a->items[i]);
    for (size_t i = 0; i < b->n && !j->status; i++) jinja_append(j, joined.list, b->items[i]);
    return joined;
}

static jinja_value repeat(jinja *j, jinja_value v, int64_t n) {
    jinja_builder b = {0};
    if (v.kind == JINJA_STRING) {
        if (v.text.len && n > (int64_t)(JINJA_MAX_TEXT / v.text.len))
            return jinja_unsupported(j, "a text of more than %d bytes", JINJA_MAX_TEXT);
        for (int64_t i = 0; v.text.len && i < n && !jinja_spend(j, 1); i++)
            jinja_put(j, &b, v.text);
        return jinja_built(&b);
    }
    jinja_value list = jinja_new_list(j, v.kind);
    for (int64_t i = 0; v.list->n && i < n && !j->status; i++)
        for (size_t k = 0; k < v.list->n; k++) jinja_append(j, list.list, v.list->items[k]);
    return list;
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
    jinja_value escaped = jinja_built(&b);
    escaped.is_markup = 1;
    return escaped;
}

jinja_value jinja_arithmetic(jinja *j, int op, jinja_value a, jinja_value b) {
    static const char floor_name[] = "//", power_name[] = "** or pow()";
    char name[2] = {(char)op, 0};
    if (j->status) return jinja_none();
    if (op == '~') {
        jinja_builder text = {0};
        jinja_put_str(j, &text, a);
        jinja_put_str(j, &text, b);
        return jinja_built(&text);
    }
    if (jinja_is_number(a) && jinja_is_number(b)) {
        int is_float = a.kind == JINJA_FLOAT || b.kind == JINJA_FLOAT || op == '/';
        is_float |= op == JINJA_OP_POWER && jinja_number(b) < 0;
        if (is_float) return float_arithmetic(j, op, jinja_number(a), jinja_number(b));
        return integer_arithmetic(j, op, a.integer, b.integer);
    }
    if (op == '+' && a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        if (a.is_markup && !b.is_markup) b = escape_html(j, b.text);
        if (b.is_markup && !a.is_markup) a = escape_html(j, a.text);
        jinja_value sum = jinja_arithmetic(j, '~', a, b);
        sum.is_markup = a.is_markup;
        return sum;
    }
    int a_is_list = a.kind == JINJA_LIST || a.kind == JINJA_TUPLE;
    int b_is_list = b.kind == JINJA_LIST || b.kind == JINJA_TUPLE;
    if (op == '+' && a_is_list && a.kind == b.kind)
        return join_sequences(j, a.list, b.list, a.kind);
    if (op == '*' && (a_is_list || a.kind == JINJA_STRING) && is_integer(b))
        return repeat(j, a, b.integer);
    if (op == '*' && (b_is_list || b.kind == JINJA_STRING) && is_integer(a))
        return repeat(j, b, a.integer);
    if (op == '%' && a.kind == JINJA_STRING)
        return jinja_unsupported(j, "%% with a str on its left is not supported");
    return operands_error(j, op == JINJA_OP_FLOOR ? floor_name
                             : op == JINJA_OP_POWER ? power_name : name, a, b);
}

/* ---- attributes and indices ------------------------------------------------------------------ */

static jinja_value no_attribute(jinja *j, jinja_value v, jinja_text name) {
    if (v.kind == JINJA_NONE)
        return jinja_undefined(j, "'None' has no attribute '%.*s'", (int)min_size(name.len, 80),
                               name.bytes);
    return jinja_undefined(j, "'%s object' has no attribute '%.*s'", jinja_type(v),
                           (int)min_size(name.len, 80), name.bytes);
}

jinja_value jinja_attribute(jinja *j, jinja_value v, jinja_text name) {
    if (j->status) return jinja_none();
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%.*s", (int)v.text.len, v.text.bytes);
    if (v.kind == JINJA_LOOP) return jinja_loop_attribute(j, v.loop, name);
    const jinja_function *function = jinja_method_named(j, v.kind, name);
    if (function) {
        jinja_method *method = jinja_alloc(j, sizeof *method);
        if (method) *method = (jinja_method){function, v};
        return (jinja_value){.kind = JINJA_FUNCTION, .method = method};
    }
    int has_keys = v.kind == JINJA_DICT || v.kind == JINJA_NAMESPACE;
    jinja_value *found = has_keys ? jinja_find(j, v.dict, jinja_string(name)) : NULL;
    return found ? *found : no_attribute(j, v, name);
}

/* The character at an index from the beginning. */
static jinja_text character_at(jinja_text text, int64_t index) {
    size_t at = 0, from = 0;
    uint32_t c;
    for (int64_t i = 0; i <= index; i++) {
        from = at;
        jinja_next(text, &at, &c);
    }
    return jinja_part(text, from, at - from);
}

jinja_value jinja_item(jinja *j, jinja_value v, jinja_value key) {
    if (j->status) return jinja_none();
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%.*s", (int)v.text.len, v.text.bytes);
    if (v.kind == JINJA_DICT) {
        const jinja_value *found = jinja_find(j, v.dict, key);
        if (found) return *found;
    }
    if (key.kind == JINJA_STRING) return jinja_attribute(j, v, key.text);
    if (is_integer(key) && (jinja_is_sequence(v) || v.kind == JINJA_STRING)) {
        int64_t n = jinja_length(j, v), i = key.integer < 0 ? key.integer + n : key.integer;
        if (i < 0 || i >= n)
            return jinja_undefined(j, "%s object has no element %lld", jinja_type(v),
                                   (long long)key.integer);
        if (v.kind != JINJA_STRING) return v.list->items[i];
        return jinja_string(character_at(v.text, i));
    }
    return jinja_undefined(j, "%s object has no such element", jinja_type(v));
}

/* A bound of a slice as Python clips it: to low .. high, counted from the end when negative. */
static int64_t slice_bound(jinja *j, jinja_value v, int64_t missing, int64_t n, int64_t low,
                           int64_t high) {
    if (v.kind == JINJA_MISSING || v.kind == JINJA_NONE) return missing;
    if (!is_integer(v)) {
        jinja_fail(j, "slice indices must be integers or None, got %s", jinja_type(v));
        return 0;
    }
    int64_t i = v.integer < 0 ? v.integer + n : v.integer;
    return i < low ? low : i > high ? high : i;
}

jinja_value jinja_slice(jinja *j, jinja_value v, const jinja_value bounds[3]) {
    if (j->status) return jinja_none();
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%.*s", (int)v.text.len, v.text.bytes);
    if (v.kind != JINJA_STRING && !jinja_is_sequence(v))
        return jinja_fail(j, "'%s' object is not subscriptable", jinja_type(v));
    int64_t n = jinja_length(j, v), step = 1;
    if (bounds[2].kind == JINJA_INT) step = bounds[2].integer;
    if (step == 0) return jinja_fail(j, "slice step cannot be zero");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    int64_t from = slice_bound(j, bounds[0], step < 0 ? high : low, n, low, high);
    int64_t to = slice_bound(j, bounds[1], step < 0 ? low : high, n, low, high);
    jinja_kind kind = v.kind == JINJA_STRING ? JINJA_LIST : v.kind;
    jinja_list *items = jinja_iterate(j, v);
    jinja_value part = jinja_new_list(j, kind);
    for (int64_t i = from; !j->status && (step < 0 ? i > to : i < to);) {
        jinja_append(j, part.list, items->items[i]);
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    if (v.kind != JINJA_STRING || j->status) return part;
    jinja_builder b = {0};
    for (size_t i = 0; i < part.list->n; i++) jinja_put(j, &b, part.list->items[i].text);
    return jinja_built(&b);
}
