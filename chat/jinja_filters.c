/* jinja_filters.c: filters and tests. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_internal.h"

/* ---- filters of texts ------------------------------------------------------------------------ */

static jinja_value filter_trim(jinja *j, jinja_value v, const jinja_arguments *a) {
    jinja_text text = jinja_str(j, v);
    const jinja_text *set = a->bound[0].kind == JINJA_STRING ? &a->bound[0].text : NULL;
    if (set && jinja_spend(j, text.len * set->len / 16)) return jinja_none();
    return jinja_string(jinja_trim(text, set, 1, 1));
}
static jinja_value filter_upper(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    return jinja_with_case(j, jinja_str(j, v), JINJA_UPPER);
}
static jinja_value filter_lower(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    return jinja_with_case(j, jinja_str(j, v), JINJA_LOWER);
}
static jinja_value filter_title(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    return jinja_with_case(j, jinja_str(j, v), JINJA_TITLE_FILTER);
}
static jinja_value filter_capitalize(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    return jinja_with_case(j, jinja_str(j, v), JINJA_CAPITALIZE);
}
static jinja_value filter_string(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    return jinja_string(jinja_str(j, v));
}

static jinja_value filter_safe(jinja *j, jinja_value v, const jinja_arguments *a) {
    v = filter_string(j, v, a);
    v.is_markup = 1;
    return v;
}

static jinja_value filter_replace(jinja *j, jinja_value v, const jinja_arguments *a) {
    jinja_value arguments[3] = {jinja_string(jinja_str(j, a->bound[0])),
                                jinja_string(jinja_str(j, a->bound[1])), a->bound[2]};
    return jinja_replace(j, jinja_str(j, v), arguments);
}

/* indent(width=4, first=False, blank=False) */
static jinja_value filter_indent(jinja *j, jinja_value v, const jinja_arguments *a) {
    jinja_builder spaces = {0}, b = {0};
    if (v.kind != JINJA_STRING) return jinja_fail(j, "indent: expected str, got %s", jinja_type(v));
    jinja_text width = {0};
    if (a->bound[0].kind == JINJA_STRING) {
        width = a->bound[0].text;
    } else {
        int64_t n = a->bound[0].kind == JINJA_INT ? a->bound[0].integer : 4;
        for (int64_t i = 0; i < n && !jinja_spend(j, 1); i++) jinja_put_literal(j, &spaces, " ");
        width = jinja_built(&spaces).text;
    }
    jinja_put(j, &b, v.text);
    jinja_put_literal(j, &b, "\n");
    const jinja_list *lines = jinja_split_lines(j, jinja_built(&b).text).list;
    b = (jinja_builder){0};
    for (size_t i = 0; !j->status && i < lines->n; i++) {
        int wanted = i == 0 ? jinja_truth(a->bound[1])
                            : lines->items[i].text.len || jinja_truth(a->bound[2]);
        if (i) jinja_put_literal(j, &b, "\n");
        if (wanted) jinja_put(j, &b, width);
        jinja_put(j, &b, lines->items[i].text);
    }
    return jinja_built(&b);
}

/* ---- filters of numbers ---------------------------------------------------------------------- */

/* A text as Python's int() or float() reads it, with space around it. 0, or -1. */
static int read_number(jinja_text text, jinja_value *out) {
    static const char digits[] = "0123456789";
    char copy[64];
    text = jinja_trim(text, NULL, 1, 1);
    if (text.len >= sizeof copy) return -1;
    memcpy(copy, text.bytes, text.len);
    copy[text.len] = 0;
    const char *p = copy + (*copy == '+' || *copy == '-');
    size_t whole = strspn(p, digits), fraction = 0;
    p += whole;
    int is_int = !*p && whole < 19;
    if (*p == '.') {
        fraction = strspn(++p, digits);
        p += fraction;
    }
    if (whole + fraction && (*p | 32) == 'e') {
        p += p[1] == '+' || p[1] == '-' ? 2 : 1;
        size_t exponent = strspn(p, digits);
        if (!exponent) return -1;
        p += exponent;
    }
    if (whole + fraction == 0 || *p || strlen(copy) != text.len) return -1;
    *out = is_int ? jinja_int(strtoll(copy, NULL, 10)) : jinja_float(gqa_parse_double(copy));
    return 0;
}

static jinja_value filter_int(jinja *j, jinja_value v, const jinja_arguments *a) {
    jinja_value otherwise = a->bound[0].kind == JINJA_MISSING ? jinja_int(0) : a->bound[0];
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%.*s", (int)v.text.len, v.text.bytes);
    if (a->bound[1].kind != JINJA_MISSING) return jinja_unsupported(j, "int: base is not known");
    if (v.kind == JINJA_STRING && read_number(v.text, &v)) return otherwise;
    if (v.kind == JINJA_FLOAT) {
        if (!(fabs(v.number) < 9e18)) return otherwise;
        return jinja_int((int64_t)v.number);
    }
    return jinja_is_number(v) ? jinja_int(v.integer) : otherwise;
}

static jinja_value filter_float(jinja *j, jinja_value v, const jinja_arguments *a) {
    jinja_value otherwise = a->bound[0].kind == JINJA_MISSING ? jinja_float(0) : a->bound[0];
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%.*s", (int)v.text.len, v.text.bytes);
    if (v.kind == JINJA_STRING && read_number(v.text, &v)) return otherwise;
    return jinja_is_number(v) ? jinja_float(jinja_number(v)) : otherwise;
}

static jinja_value filter_abs(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    if (v.kind == JINJA_FLOAT) return jinja_float(fabs(v.number));
    if (!jinja_is_number(v)) return jinja_fail(j, "abs: expected a number, got %s", jinja_type(v));
    return v.integer < 0 ? jinja_arithmetic(j, '-', jinja_int(0), v) : jinja_int(v.integer);
}

/* ---- filters of lists ------------------------------------------------------------------------ */

static jinja_value filter_length(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    return jinja_int(jinja_length(j, v));
}

static jinja_value filter_list(jinja *j, jinja_value v, const jinja_arguments *a) {
    const jinja_list *from = jinja_iterate(j, v);
    jinja_value list = jinja_new_list(j, JINJA_LIST);
    (void)a;
    for (size_t i = 0; !j->status && i < from->n; i++) jinja_append(j, list.list, from->items[i]);
    return list;
}

static jinja_value filter_first(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    if (v.kind == JINJA_GENERATOR && v.list->n) { /* the others stay in it */
        v.list->n--;
        return *v.list->items++;
    }
    const jinja_list *list = jinja_iterate(j, v);
    if (list && list->n) return list->items[0];
    return jinja_undefined(j, "No first item, sequence was empty.");
}

static jinja_value filter_last(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    if (v.kind == JINJA_GENERATOR) return jinja_fail(j, "'generator' object is not reversible");
    const jinja_list *list = jinja_iterate(j, v);
    if (list && list->n) return list->items[list->n - 1];
    return jinja_undefined(j, "No last item, sequence was empty.");
}

static jinja_value filter_reverse(jinja *j, jinja_value v, const jinja_arguments *a) {
    const jinja_value whole[3] = {jinja_none(), jinja_none(), jinja_int(-1)};
    jinja_value list = v.kind == JINJA_STRING ? v : filter_list(j, v, a);
    jinja_value reversed = jinja_slice(j, list, whole);
    if (v.kind != JINJA_STRING) reversed.kind = JINJA_GENERATOR;
    return reversed;
}

static jinja_value filter_items(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    if (v.kind == JINJA_UNDEFINED) return jinja_new_list(j, JINJA_GENERATOR);
    if (v.kind != JINJA_DICT) return jinja_fail(j, "Can only get item pairs from a mapping.");
    const jinja_function *items = jinja_method_named(j, JINJA_DICT, jinja_literal("items"));
    jinja_value list = jinja_run(j, items, v, &(jinja_arguments){0});
    list.kind = JINJA_GENERATOR;
    return list;
}

/* An attribute of an item: "name", "a.b", "list.0", or a number. */
static jinja_value attribute_of(jinja *j, jinja_value v, jinja_value path) {
    if (path.kind != JINJA_STRING) return jinja_item(j, v, path);
    for (size_t at = 0; at <= path.text.len && !j->status;) {
        jinja_text rest = jinja_part(path.text, at, path.text.len - at);
        const char *dot = memchr(rest.bytes, '.', rest.len);
        jinja_text part = dot ? jinja_part(rest, 0, (size_t)(dot - rest.bytes)) : rest;
        jinja_value key = jinja_string(part);
        int all_digits = part.len > 0;
        for (size_t i = 0; i < part.len; i++)
            all_digits &= part.bytes[i] >= '0' && part.bytes[i] <= '9';
        if (all_digits) read_number(part, &key);
        v = jinja_item(j, v, key);
        at += part.len + 1;
    }
    return v;
}

static jinja_value filter_join(jinja *j, jinja_value v, const jinja_arguments *a) {
    const jinja_list *list = jinja_iterate(j, v);
    jinja_text between = {0};
    jinja_builder b = {0};
    if (a->bound[0].kind != JINJA_MISSING) between = jinja_str(j, a->bound[0]);
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_value item = list->items[i];
        if (a->bound[1].kind != JINJA_MISSING) item = attribute_of(j, item, a->bound[1]);
        if (i) jinja_put(j, &b, between);
        jinja_put_str(j, &b, item);
    }
    return jinja_built(&b);
}

/* What map, select, ... iterate over: nothing where Python has it for false, also none and 0. */
static const jinja_list *iterate_or_nothing(jinja *j, jinja_value v) {
    return jinja_truth(v) ? jinja_iterate(j, v) : jinja_new_list(j, JINJA_LIST).list;
}

static void drop_first(jinja_list *list) {
    list->items++;
    list->n--;
}

/* map(attribute="a", default=d), map("filter", ...) */
static jinja_value filter_map(jinja *j, jinja_value v, const jinja_arguments *a) {
    const jinja_value names[2] = {jinja_string(jinja_literal("attribute")),
                                  jinja_string(jinja_literal("default"))};
    const jinja_value *attribute = jinja_find(j, &a->named, names[0]);
    const jinja_value *otherwise = jinja_find(j, &a->named, names[1]);
    const jinja_list *list = iterate_or_nothing(j, v);
    jinja_value mapped = jinja_new_list(j, JINJA_GENERATOR);
    jinja_arguments rest = *a;
    if (!attribute && (!a->values.n || a->values.items[0].kind != JINJA_STRING))
        return jinja_fail(j, "map: expected an attribute or the name of a filter");
    if (!attribute) {
        drop_first(&rest.values);
    } else if (a->named.n > 1u + (otherwise != NULL) || a->values.n) {
        return jinja_fail(j, "map: expected attribute and default, got others");
    }
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_value item = list->items[i];
        if (!attribute) {
            jinja_arguments copy = rest;
            item = jinja_filter(j, a->values.items[0].text, item, &copy);
        } else {
            item = attribute_of(j, item, *attribute);
            if (item.kind == JINJA_UNDEFINED && otherwise) item = *otherwise;
        }
        jinja_append(j, mapped.list, item);
    }
    return mapped;
}

/* The items that pass a test (or are true); those that do not, where wanted is 0. With an
 * attribute, it is what is tested. */
static jinja_value select_items(jinja *j, jinja_value v, const jinja_arguments *a, int by_attribute,
                                int wanted) {
    const jinja_list *list = iterate_or_nothing(j, v);
    jinja_value selected = jinja_new_list(j, JINJA_GENERATOR);
    jinja_arguments rest = *a;
    if (j->status) return selected;
    if (by_attribute && a->values.n == 0) return jinja_fail(j, "expected the name of an attribute");
    if (by_attribute) drop_first(&rest.values);
    const jinja_value *test = rest.values.n ? rest.values.items : NULL;
    if (test && test->kind != JINJA_STRING) return jinja_fail(j, "expected the name of a test");
    if (test) drop_first(&rest.values);
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_value item = list->items[i];
        jinja_arguments copy = rest;
        if (by_attribute) item = attribute_of(j, item, a->values.items[0]);
        int passes = test ? jinja_test(j, test->text, item, &copy) : jinja_truth(item);
        if (passes == wanted) jinja_append(j, selected.list, list->items[i]);
    }
    return selected;
}
static jinja_value filter_select(jinja *j, jinja_value v, const jinja_arguments *a) {
    return select_items(j, v, a, 0, 1);
}
static jinja_value filter_reject(jinja *j, jinja_value v, const jinja_arguments *a) {
    return select_items(j, v, a, 0, 0);
}
static jinja_value filter_selectattr(jinja *j, jinja_value v, const jinja_arguments *a) {
    return select_items(j, v, a, 1, 1);
}
static jinja_value filter_rejectattr(jinja *j, jinja_value v, const jinja_arguments *a) {
    return select_items(j, v, a, 1, 0);
}

/* What an item is sorted by: itself or its attribute; small letters where case does not count. */
static jinja_value sort_key(jinja *j, jinja_value item, jinja_value attribute, int with_case) {
    jinja_value key = item;
    if (attribute.kind != JINJA_MISSING && attribute.kind != JINJA_NONE)
        key = attribute_of(j, item, attribute);
    return key.kind == JINJA_STRING && !with_case ? jinja_with_case(j, key.text, JINJA_LOWER) : key;
}

static jinja_value sort_items(jinja *j, jinja_value v, jinja_value attribute, int with_case,
                              int downward) {
    jinja_value items = filter_list(j, v, NULL), keys = jinja_new_list(j, JINJA_LIST);
    for (size_t i = 0; !j->status && i < items.list->n; i++) {
        jinja_append(j, keys.list, sort_key(j, items.list->items[i], attribute, with_case));
        for (size_t k = i; k > 0 && !jinja_spend(j, 1); k--) {
            jinja_value *key = &keys.list->items[k], *item = &items.list->items[k];
            int order = jinja_equal(j, key[-1], key[0]) ? 0 : jinja_compare(j, key[-1], key[0]);
            if ((downward ? -order : order) <= 0) break;
            jinja_value moved_key = key[0], moved = item[0];
            key[0] = key[-1];
            item[0] = item[-1];
            key[-1] = moved_key;
            item[-1] = moved;
        }
    }
    return items;
}

/* sort(reverse=False, case_sensitive=False, attribute=None) */
static jinja_value filter_sort(jinja *j, jinja_value v, const jinja_arguments *a) {
    return sort_items(j, v, a->bound[2], jinja_truth(a->bound[1]), jinja_truth(a->bound[0]));
}

/* dictsort(case_sensitive=False, by="key", reverse=False) */
static jinja_value filter_dictsort(jinja *j, jinja_value v, const jinja_arguments *a) {
    int by_value = a->bound[1].kind == JINJA_STRING && jinja_text_is(a->bound[1].text, "value");
    jinja_value pairs = filter_items(j, v, a);
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%.*s", (int)v.text.len, v.text.bytes);
    return sort_items(j, pairs, jinja_int(by_value), jinja_truth(a->bound[0]),
                      jinja_truth(a->bound[2]));
}

/* unique(case_sensitive=False, attribute=None) */
static jinja_value filter_unique(jinja *j, jinja_value v, const jinja_arguments *a) {
    const jinja_list *list = jinja_iterate(j, v);
    jinja_value seen = jinja_new_dict(j, JINJA_DICT), unique = jinja_new_list(j, JINJA_GENERATOR);
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_value key = sort_key(j, list->items[i], a->bound[1], jinja_truth(a->bound[0]));
        if (jinja_find(j, seen.dict, key)) continue;
        jinja_set(j, seen.dict, key, jinja_none());
        jinja_append(j, unique.list, list->items[i]);
    }
    return unique;
}

/* The first of the sorted items: min; the last: max. */
static jinja_value filter_min(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    return filter_first(j, sort_items(j, v, jinja_none(), 0, 0), NULL);
}
static jinja_value filter_max(jinja *j, jinja_value v, const jinja_arguments *a) {
    (void)a;
    return filter_first(j, sort_items(j, v, jinja_none(), 0, 1), NULL);
}

/* default(default_value="", boolean=False) */
static jinja_value filter_default(jinja *j, jinja_value v, const jinja_arguments *a) {
    int is_missing = v.kind == JINJA_UNDEFINED || (jinja_truth(a->bound[1]) && !jinja_truth(v));
    (void)j;
    if (!is_missing) return v;
    return a->bound[0].kind == JINJA_MISSING ? jinja_string(jinja_literal("")) : a->bound[0];
}

jinja_value jinja_filter(jinja *j, jinja_text name, jinja_value v, jinja_arguments *a) {
    static const jinja_function filters[] = {
        {"trim", "chars?", filter_trim},
        {"upper", "", filter_upper},
        {"lower", "", filter_lower},
        {"title", "", filter_title},
        {"capitalize", "", filter_capitalize},
        {"string", "", filter_string},
        {"safe", "", filter_safe},
        {"replace", "old,new,count?", filter_replace},
        {"indent", "width?,first?,blank?", filter_indent},
        {"tojson", "ensure_ascii?,indent?,separators?,sort_keys?", jinja_tojson},
        {"int", "default?,base?", filter_int},
        {"float", "default?", filter_float},
        {"abs", "", filter_abs},
        {"length", "", filter_length},
        {"count", "", filter_length},
        {"list", "", filter_list},
        {"first", "", filter_first},
        {"last", "", filter_last},
        {"reverse", "", filter_reverse},
        {"items", "", filter_items},
        {"join", "d?,attribute?", filter_join},
        {"map", NULL, filter_map},
        {"select", NULL, filter_select},
        {"reject", NULL, filter_reject},
        {"selectattr", NULL, filter_selectattr},
        {"rejectattr", NULL, filter_rejectattr},
        {"sort", "reverse?,case_sensitive?,attribute?", filter_sort},
        {"dictsort", "case_sensitive?,by?,reverse?", filter_dictsort},
        {"min", "", filter_min},
        {"max", "", filter_max},
        {"unique", "case_sensitive?,attribute?", filter_unique},
        {"default", "default_value?,boolean?", filter_default},
        {"d", "default_value?,boolean?", filter_default},
    };
    for (size_t i = 0; i < array_length(filters); i++)
        if (jinja_text_is(name, filters[i].name)) return jinja_run(j, &filters[i], v, a);
    return jinja_unsupported(j, "the filter \"%.*s\" is not known", (int)min_size(name.len, 60),
                             name.bytes);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static int is_iterable(jinja_value v) {
    return v.kind == JINJA_STRING || v.kind == JINJA_DICT || v.kind == JINJA_VIEW ||
           v.kind == JINJA_GENERATOR || v.kind == JINJA_UNDEFINED || v.kind == JINJA_LOOP ||
           jinja_is_sequence(v);
}

/* Tests without an argument; -1: no such test. */
static int test_kind(jinja *j, jinja_text name, jinja_value v) {
    static const struct {
        const char *name;
        jinja_kind kind;
    } kinds[] = {{"undefined", JINJA_UNDEFINED}, {"none", JINJA_NONE}, {"string", JINJA_STRING},
                 {"mapping", JINJA_DICT}, {"boolean", JINJA_BOOL}, {"integer", JINJA_INT},
                 {"float", JINJA_FLOAT}};
    for (size_t i = 0; i < array_length(kinds); i++)
        if (jinja_text_is(name, kinds[i].name)) return v.kind == kinds[i].kind;
    int is_odd = jinja_text_is(name, "odd");
    if (is_odd || jinja_text_is(name, "even")) {
        jinja_value rest = jinja_arithmetic(j, '%', v, jinja_int(2));
        return jinja_equal(j, rest, jinja_int(is_odd));
    }
    if (jinja_text_is(name, "defined")) return v.kind != JINJA_UNDEFINED;
    if (jinja_text_is(name, "number")) return jinja_is_number(v);
    if (jinja_text_is(name, "true")) return v.kind == JINJA_BOOL && v.integer;
    if (jinja_text_is(name, "false")) return v.kind == JINJA_BOOL && !v.integer;
    if (jinja_text_is(name, "iterable")) return is_iterable(v);
    if (jinja_text_is(name, "callable"))
        return v.kind >= JINJA_LOOP || v.kind == JINJA_UNDEFINED;
    if (jinja_text_is(name, "sequence"))
        return v.kind == JINJA_STRING || v.kind == JINJA_DICT || jinja_is_sequence(v);
    if (jinja_text_is(name, "lower") || jinja_text_is(name, "upper")) {
        jinja_case other = name.bytes[0] == 'l' ? JINJA_UPPER : JINJA_LOWER;
        jinja_case own = name.bytes[0] == 'l' ? JINJA_LOWER : JINJA_UPPER;
        jinja_text text = jinja_str(j, v);
        return jinja_same_text(jinja_with_case(j, text, own).text, text) &&
               !jinja_same_text(jinja_with_case(j, text, other).text, text);
    }
    return -1;
}

/* Tests with one argument; -1: no such test. */
static int test_against(jinja *j, jinja_text name, jinja_value v, jinja_value other) {
    static const char *const orders[][3] = {
        {"==", "eq", "equalto"}, {"!=", "ne", "ne"}, {"<", "lt", "lessthan"},
        {"<=", "le", "le"}, {">", "gt", "greaterthan"}, {">=", "ge", "ge"},
    };
    for (size_t i = 0; i < array_length(orders); i++) {
        if (!jinja_text_is(name, orders[i][0]) && !jinja_text_is(name, orders[i][1]) &&
            !jinja_text_is(name, orders[i][2]))
            continue;
        if (i < 2) return jinja_equal(j, v, other) == (i == 0);
        int order = jinja_compare(j, v, other);
        return i == 2 ? order < 0 : i == 3 ? order <= 0 : i == 4 ? order > 0 : order >= 0;
    }
    if (jinja_text_is(name, "in")) return jinja_contains(j, other, v);
    if (jinja_text_is(name, "sameas")) return v.kind == other.kind && jinja_equal(j, v, other);
    if (jinja_text_is(name, "divisibleby"))
        return jinja_equal(j, jinja_arithmetic(j, '%', v, other), jinja_int(0));
    return -1;
}

int jinja_test(jinja *j, jinja_text name, jinja_value v, jinja_arguments *a) {
    int holds = -1;
    if (a->named.n == 0 && a->values.n == 0) holds = test_kind(j, name, v);
    if (a->named.n == 0 && a->values.n == 1)
        holds = test_against(j, name, v, a->values.items[0]);
    if (holds < 0)
        jinja_unsupported(j, "the test \"%.*s\" with %zu arguments is not known",
                          (int)min_size(name.len, 60), name.bytes, a->values.n + a->named.n);
    return holds > 0;
}
