/* jinja_functions.c: the table of filters, methods, tests and global functions, and those that
 * work on numbers, lists and dicts; jinja_text.c has those of texts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jinja_internal.h"

/* ---- numbers --------------------------------------------------------------------------------- */

/* The number that a text is, perhaps with space around it; nothing where it is none. */
static jinja_value read_number(jinja *j, jinja_text text) {
    static const char digits[] = "0123456789";
    char copy[GQA_JSON_MAX_NUMBER + 1] = "";
    text = jinja_trim(text, NULL, JINJA_LEFT | JINJA_RIGHT);
    if (text.len >= sizeof copy) return jinja_unsupported(j, "a number of %zu bytes", text.len);
    memcpy(copy, text.bytes, text.len);
    const char *p = copy + (*copy == '+' || *copy == '-');
    size_t whole = strspn(p, digits), n = whole;
    if (p[n] == '.') n += 1 + strspn(p + n + 1, digits);
    size_t sign = p[n] && (p[n + 1] == '+' || p[n + 1] == '-');
    size_t exponent = (p[n] | 32) == 'e' ? strspn(p + n + 1 + sign, digits) : 0;
    if (exponent) n += 1 + sign + exponent;
    if (whole && p[whole] == '_') return jinja_unsupported(j, "a number with \"_\"");
    if (whole == 0 || p + n != copy + text.len) return (jinja_value){.kind = JINJA_MISSING};
    if (n > whole) return jinja_float(gqa_parse_double(copy));
    return jinja_from_json(j, &(gqa_json_node){GQA_JSON_NUMBER, copy, text.len, 1});
}

static jinja_value filter_int(jinja *j, const jinja_call *call) {
    jinja_value v = call->self;
    jinja_value otherwise = call->bound[0].kind == JINJA_MISSING ? jinja_int(0) : call->bound[0];
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%s", v.why);
    if (v.kind == JINJA_STRING) v = read_number(j, *v.text);
    if (v.kind == JINJA_FLOAT && fabs(v.number) < 9e18) return jinja_int((int64_t)v.number);
    if (v.kind == JINJA_FLOAT) return jinja_unsupported(j, "int: a number that exceeds 64 bits");
    return jinja_is_number(v) && v.kind != JINJA_FLOAT ? jinja_int(v.integer) : otherwise;
}

/* ---- lists ----------------------------------------------------------------------------------- */

static jinja_value filter_length(jinja *j, const jinja_call *call) {
    return jinja_int(jinja_length(j, call->self));
}

static jinja_value filter_list(jinja *j, const jinja_call *call) {
    return (jinja_value){.kind = JINJA_LIST, .list = jinja_iterate(j, call->self)};
}

enum { MODE_FIRST, MODE_LAST };
static jinja_value filter_first(jinja *j, const jinja_call *call) {
    if (call->self.kind == JINJA_GENERATOR && call->mode == MODE_LAST)
        return jinja_fail(j, "'generator' object is not reversible");
    if (call->self.kind == JINJA_GENERATOR && call->self.list->n) { /* the others stay in it */
        call->self.list->n--;
        return *call->self.list->items++;
    }
    const jinja_list *list = jinja_iterate(j, call->self);
    if (list && list->n) return list->items[call->mode == MODE_FIRST ? 0 : list->n - 1];
    return jinja_undefined(j, "the sequence is empty");
}

static jinja_value filter_reverse(jinja *j, const jinja_call *call) {
    const jinja_value whole[3] = {jinja_none(), jinja_none(), jinja_int(-1)};
    int is_text = call->self.kind == JINJA_STRING;
    jinja_value reversed = jinja_slice(j, is_text ? call->self : filter_list(j, call), whole);
    if (!is_text) reversed.kind = JINJA_GENERATOR;
    return reversed;
}

/* An attribute of an item: "name", "a.b", "list.0", or a number. */
static jinja_value attribute_of(jinja *j, jinja_value v, jinja_value path) {
    if (path.kind != JINJA_STRING) return jinja_item(j, v, path);
    for (size_t at = 0; at <= path.text->len && !j->status;) {
        jinja_text part = jinja_part(*path.text, at, path.text->len - at);
        const char *dot = memchr(part.bytes, '.', part.len);
        if (dot) part.len = (size_t)(dot - part.bytes);
        int is_index = part.len && memchr("0123456789", part.bytes[0], 10);
        v = jinja_item(j, v, is_index ? read_number(j, part) : jinja_string(j, part));
        at += part.len + 1;
    }
    return v;
}

/* What sort and unique compare: an item or an attribute of it; of a str, its lower case. */
static jinja_value sort_key(jinja *j, jinja_value item, jinja_value case_sensitive,
                            jinja_value attribute) {
    if (attribute.kind > JINJA_NONE) item = attribute_of(j, item, attribute);
    if (item.kind != JINJA_STRING || jinja_truth(case_sensitive)) return item;
    return jinja_with_case(j, *item.text, JINJA_LOWER);
}

/* sort(reverse=False, case_sensitive=False, attribute=None) */
static jinja_value filter_sort(jinja *j, const jinja_call *call) {
    jinja_value attribute = call->bound[2], sorted = jinja_new(j, JINJA_LIST);
    const jinja_list *list = jinja_iterate(j, call->self);
    jinja_list pairs = {0};
    if (attribute.kind == JINJA_STRING && memchr(attribute.text->bytes, ',', attribute.text->len))
        return jinja_unsupported(j, "sort: more than one attribute");
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_append(j, &pairs, sort_key(j, list->items[i], call->bound[1], attribute));
        jinja_append(j, &pairs, list->items[i]);
    }
    jinja_sort_pairs(j, &pairs, jinja_truth(call->bound[0]) ? JINJA_GT : JINJA_LT);
    for (size_t i = 0; !j->status && i < pairs.n; i += 2)
        jinja_append(j, sorted.list, pairs.items[i + 1]);
    return sorted;
}

/* min and max(case_sensitive=False, attribute=None) */
enum { MODE_MIN, MODE_MAX };
static jinja_value filter_min(jinja *j, const jinja_call *call) {
    jinja_call sort = {.self = call->self, .bound[0] = jinja_bool(call->mode == MODE_MAX)};
    sort.bound[1] = call->bound[0];
    sort.bound[2] = call->bound[1];
    return filter_first(j, &(jinja_call){.self = filter_sort(j, &sort), .mode = MODE_FIRST});
}

/* unique(case_sensitive=False, attribute=None) */
static jinja_value filter_unique(jinja *j, const jinja_call *call) {
    jinja_value unique = jinja_new(j, JINJA_GENERATOR), seen = jinja_new(j, JINJA_LIST);
    const jinja_list *list = jinja_iterate(j, call->self);
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_value key = sort_key(j, list->items[i], call->bound[0], call->bound[1]);
        if (key.kind >= JINJA_LIST)
            return jinja_unsupported(j, "unique: of a %s", jinja_type(key));
        if (jinja_truth(jinja_operate(j, JINJA_IN, key, seen))) continue;
        jinja_append(j, seen.list, key);
        jinja_append(j, unique.list, list->items[i]);
    }
    return unique;
}

/* The filter joins any values, the method of a separator only texts. */
enum { MODE_FILTER, MODE_METHOD };
static jinja_value filter_join(jinja *j, const jinja_call *call) {
    int is_method = call->mode == MODE_METHOD;
    jinja_value between = is_method ? call->self : call->bound[0], attribute = call->bound[1];
    const jinja_list *list = jinja_iterate(j, is_method ? call->bound[0] : call->self);
    jinja_text separator = jinja_literal("");
    jinja_builder b = {0};
    if (between.kind != JINJA_MISSING) separator = jinja_str(j, between);
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_value item = list->items[i];
        if (is_method && item.kind != JINJA_STRING)
            return jinja_fail(j, "join: expected str, got %s", jinja_type(item));
        if (attribute.kind != JINJA_MISSING) item = attribute_of(j, item, attribute);
        if (i) jinja_put(j, &b, separator);
        jinja_put_str(j, &b, item);
    }
    return jinja_built(j, &b);
}

static void drop_first(jinja_list *list) {
    list->items++;
    list->n--;
}

/* What map, select, ... iterate over: nothing where Python has it for false, also none and 0. */
static const jinja_list *iterate_or_nothing(jinja *j, jinja_value v) {
    return jinja_truth(v) ? jinja_iterate(j, v) : jinja_new(j, JINJA_LIST).list;
}

/* map(attribute="a", default=d), map("filter", ...) */
static jinja_value filter_map(jinja *j, const jinja_call *call) {
    const jinja_value *attribute = jinja_find_name(j, &call->named, jinja_literal("attribute"));
    const jinja_value *otherwise = jinja_find_name(j, &call->named, jinja_literal("default"));
    const jinja_list *list = iterate_or_nothing(j, call->self);
    jinja_value mapped = jinja_new(j, JINJA_GENERATOR);
    jinja_call inner = *call;
    if (attribute && (call->values.n || call->named.n > (otherwise ? 4u : 2u)))
        return jinja_fail(j, "map: expected attribute and default, got others");
    if (!attribute && (!call->values.n || call->values.items[0].kind != JINJA_STRING))
        return jinja_fail(j, "map: expected an attribute or the name of a filter");
    if (!attribute) drop_first(&inner.values);
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_value item = inner.self = list->items[i];
        if (attribute) item = attribute_of(j, item, *attribute);
        else item = jinja_run_named(j, *call->values.items[0].text, JINJA_FILTER, &inner);
        if (attribute && item.kind == JINJA_UNDEFINED && otherwise) item = *otherwise;
        jinja_append(j, mapped.list, item);
    }
    return mapped;
}

/* The items that pass a test (or are true), or that do not; by attribute: what is tested is one of
 * theirs. */
enum { MODE_SELECT = 0, MODE_REJECT = 1, MODE_BY_ATTRIBUTE = 2 };
static jinja_value filter_select(jinja *j, const jinja_call *call) {
    int by_attribute = call->mode & MODE_BY_ATTRIBUTE, is_wanted = !(call->mode & MODE_REJECT);
    const jinja_list *list = iterate_or_nothing(j, call->self);
    jinja_value selected = jinja_new(j, JINJA_GENERATOR);
    jinja_call inner = *call;
    if (by_attribute && call->values.n == 0)
        return jinja_fail(j, "expected the name of an attribute");
    if (by_attribute) drop_first(&inner.values);
    const jinja_value *test = inner.values.n ? inner.values.items : NULL;
    if (test && test->kind != JINJA_STRING) return jinja_fail(j, "expected the name of a test");
    if (test) drop_first(&inner.values);
    for (size_t i = 0; !j->status && i < list->n; i++) {
        jinja_value item = list->items[i];
        if (by_attribute) item = attribute_of(j, item, call->values.items[0]);
        inner.self = item;
        if (test) item = jinja_run_named(j, *test->text, JINJA_TEST, &inner);
        if (jinja_truth(item) == is_wanted) jinja_append(j, selected.list, list->items[i]);
    }
    return selected;
}

/* ---- dicts ----------------------------------------------------------------------------------- */

enum { MODE_KEYS, MODE_VALUES, MODE_ITEMS };
static jinja_value dict_view(jinja *j, const jinja_list *dict, int part) {
    jinja_value view = jinja_new(j, JINJA_LIST);
    for (size_t i = 0; !j->status && i < dict->n; i += 2) {
        jinja_value item = dict->items[i + (part == MODE_VALUES)];
        if (part == MODE_ITEMS) {
            item = jinja_new(j, JINJA_TUPLE);
            jinja_append(j, item.list, dict->items[i]);
            jinja_append(j, item.list, dict->items[i + 1]);
        }
        jinja_append(j, view.list, item);
    }
    view.is_view = JINJA_DICT_VIEW;
    return view;
}
static jinja_value method_view(jinja *j, const jinja_call *call) {
    return dict_view(j, call->self.list, call->mode);
}

enum { MODE_IN_ORDER, MODE_SORTED };
static jinja_value filter_items(jinja *j, const jinja_call *call) {
    jinja_value v = call->self;
    int is_sorted = call->mode == MODE_SORTED;
    if (v.kind == JINJA_UNDEFINED && !is_sorted) return jinja_new(j, JINJA_GENERATOR);
    if (v.kind != JINJA_DICT) return jinja_fail(j, "expected a dict, got %s", jinja_type(v));
    jinja_call by_key = {.self = dict_view(j, v.list, MODE_ITEMS), .bound[2] = jinja_int(0)};
    if (is_sorted) return filter_sort(j, &by_key);
    by_key.self.is_view = 0;
    by_key.self.kind = JINJA_GENERATOR;
    return by_key.self;
}

static jinja_value method_get(jinja *j, const jinja_call *call) {
    const jinja_value *found = jinja_find(j, call->self.list, call->bound[0]);
    if (found) return *found;
    return call->bound[1].kind == JINJA_MISSING ? jinja_none() : call->bound[1];
}

/* dict() and namespace(): of a dict and of named arguments. */
static jinja_value global_dict(jinja *j, const jinja_call *call) {
    jinja_value made = jinja_new(j, (jinja_kind)call->mode);
    for (size_t k = 0; k <= call->values.n && !j->status; k++) {
        const jinja_list *from = &call->named;
        if (k < call->values.n && call->values.items[k].kind != JINJA_DICT)
            return jinja_fail(j, "expected a dict, got %s", jinja_type(call->values.items[k]));
        if (k < call->values.n) from = call->values.items[k].list;
        for (size_t i = 0; i < from->n && !j->status; i += 2)
            jinja_set(j, made.list, from->items[i], from->items[i + 1]);
    }
    return made;
}

/* ---- any value ------------------------------------------------------------------------------- */

enum { MODE_PLAIN, MODE_MARKUP };
static jinja_value filter_string(jinja *j, const jinja_call *call) {
    jinja_value v = jinja_string(j, jinja_str(j, call->self));
    v.is_markup = call->mode == MODE_MARKUP;
    return v;
}

/* default(default_value="", boolean=False) */
static jinja_value filter_default(jinja *j, const jinja_call *call) {
    jinja_value v = call->self;
    int is_missing = v.kind == JINJA_UNDEFINED || (jinja_truth(call->bound[1]) && !jinja_truth(v));
    if (!is_missing) return v;
    if (call->bound[0].kind != JINJA_MISSING) return call->bound[0];
    return jinja_string(j, jinja_literal(""));
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Whether a value is of one of the kinds, of which mode has the bits. */
static jinja_value test_kind(jinja *j, const jinja_call *call) {
    (void)j;
    int is_dict_view = call->self.is_view == JINJA_DICT_VIEW;
    jinja_kind kind = is_dict_view ? JINJA_GENERATOR : call->self.kind;
    return jinja_bool(call->mode >> kind & 1);
}

static jinja_value test_op(jinja *j, const jinja_call *call) {
    return jinja_operate(j, (jinja_op)call->mode, call->self, call->bound[0]);
}

static jinja_value test_truth(jinja *j, const jinja_call *call) {
    (void)j;
    return jinja_bool(call->self.kind == JINJA_BOOL && call->self.integer == call->mode);
}

static jinja_value test_parity(jinja *j, const jinja_call *call) {
    jinja_value rest = jinja_operate(j, JINJA_MOD, call->self, jinja_int(2));
    return jinja_operate(j, JINJA_EQ, rest, jinja_int(call->mode));
}

/* ---- global functions ------------------------------------------------------------------------ */

static jinja_value global_range(jinja *j, const jinja_call *call) {
    int64_t given[3] = {0, 0, 1};
    for (size_t i = 0; i < 3 && call->bound[i].kind != JINJA_MISSING; i++) {
        if (call->bound[i].kind != JINJA_INT)
            return jinja_fail(j, "range: expected int, got %s", jinja_type(call->bound[i]));
        given[i] = call->bound[i].integer;
    }
    int has_start = call->bound[1].kind != JINJA_MISSING;
    int64_t i = has_start ? given[0] : 0, end = given[has_start], step = given[2];
    jinja_value list = jinja_new(j, JINJA_LIST);
    list.is_view = JINJA_RANGE;
    if (step == 0) return jinja_fail(j, "range() arg 3 must not be zero");
    while (!j->status && (step > 0 ? i < end : i > end)) {
        if (list.list->n == JINJA_MAX_RANGE)
            return jinja_fail(j, "range: more than %d numbers", JINJA_MAX_RANGE);
        jinja_append(j, list.list, jinja_int(i));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return list;
}

static jinja_value global_raise(jinja *j, const jinja_call *call) {
    jinja_text message = jinja_str(j, call->bound[0]);
    if (message.len == 0) message = jinja_literal("the template raised an exception");
    if (!j->status)
        j->status = gqa_fail(j->err, GQA_ERR_ARGUMENT, "%.*s", (int)min_size(message.len, 500),
                             message.bytes);
    return jinja_none();
}

/* ---- the date -------------------------------------------------------------------------------- */

int jinja_parse_date(const char *text, struct tm *tm) {
    static const short before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    int year, month, day, end = 0;
    if (!text || sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &end) != 3) return -1;
    if (end != 10 || text[end] || year < 1 || month < 1 || month > 12) return -1;
    const int is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0), y = year - 1;
    if (day < 1 || day > before[month] - before[month - 1] + (month == 2 && is_leap)) return -1;
    const int of_year = before[month - 1] + (month > 2 && is_leap) + day - 1;
    const int of_week = (1 + 365 * y + y / 4 - y / 100 + y / 400 + of_year) % 7;
    *tm = (struct tm){.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day,
                      .tm_yday = of_year, .tm_wday = of_week, .tm_isdst = -1};
    return 0;
}

/* One conversion of strftime; "%-d" has no zero before its only digit. */
static void put_date(jinja *j, jinja_builder *b, char conversion, int without_zero,
                     const struct tm *tm) {
    const char format[] = {'%', conversion, 0};
    char out[24];
    if (!conversion || !strchr("YymdejBbAawFHMSIpT%", conversion)) {
        jinja_unsupported(j, "strftime_now: %%%c is not known", conversion);
        return;
    }
    int is_e = conversion == 'e'; /* Windows' strftime lacks %e, %F and %T */
    const char *known = is_e ? "%d" : conversion == 'F' ? "%Y-%m-%d" : "%H:%M:%S", *from = out;
    strftime(out, sizeof out, is_e || strchr("FT", conversion) ? known : format, tm);
    if (is_e && out[0] == '0') out[0] = ' ';
    while (without_zero && (*from == '0' || *from == ' ') && from[1]) from++;
    jinja_put_literal(j, b, from);
}

static jinja_value global_strftime(jinja *j, const jinja_call *call) {
    struct tm date;
    jinja_builder b = {0};
    if (call->bound[0].kind != JINJA_STRING)
        return jinja_fail(j, "strftime_now: expected a format");
    jinja_text format = *call->bound[0].text;
    if (jinja_parse_date(j->date, &date))
        return jinja_fail(j, "strftime_now: expected a date as YYYY-MM-DD, got %.40s",
                          j->date ? j->date : "none");
    for (size_t i = 0; i < format.len && !j->status; i++) {
        if (format.bytes[i] != '%') {
            jinja_put(j, &b, jinja_part(format, i, 1));
            continue;
        }
        int without_zero = i + 1 < format.len && format.bytes[i + 1] == '-';
        i += without_zero ? 2 : 1;
        put_date(j, &b, i < format.len ? format.bytes[i] : ' ', without_zero, &date);
    }
    return jinja_built(j, &b);
}

/* ---- the table ------------------------------------------------------------------------------- */

enum { TEXT_FILTER = JINJA_FILTER | JINJA_OF_STR };
static const jinja_function jinja_functions[] = {
    {"trim", TEXT_FILTER, "chars?", jinja_strip, JINJA_LEFT | JINJA_RIGHT},
    {"strip", JINJA_STR_METHOD, "chars?", jinja_strip, JINJA_LEFT | JINJA_RIGHT},
    {"lstrip", JINJA_STR_METHOD, "chars?", jinja_strip, JINJA_LEFT},
    {"rstrip", JINJA_STR_METHOD, "chars?", jinja_strip, JINJA_RIGHT},
    {"upper", TEXT_FILTER | JINJA_STR_METHOD, "", jinja_case, JINJA_UPPER},
    {"lower", TEXT_FILTER | JINJA_STR_METHOD, "", jinja_case, JINJA_LOWER},
    {"capitalize", TEXT_FILTER | JINJA_STR_METHOD, "", jinja_case, JINJA_CAPITALIZE},
    {"title", TEXT_FILTER, "", jinja_case, JINJA_TITLE_FILTER},
    {"title", JINJA_STR_METHOD, "", jinja_case, JINJA_TITLE},
    {"replace", TEXT_FILTER | JINJA_STR_METHOD, "old,new,count?", jinja_replace, 0},
    {"find", JINJA_STR_METHOD, "sub", jinja_find_text, 0},
    {"split", JINJA_STR_METHOD, "sep?,maxsplit?", jinja_split, 0},
    {"format", JINJA_STR_METHOD, NULL, jinja_format, 0},
    {"startswith", JINJA_STR_METHOD, "prefix", jinja_has_end, JINJA_LEFT},
    {"endswith", JINJA_STR_METHOD, "suffix", jinja_has_end, JINJA_RIGHT},
    {"indent", JINJA_FILTER, "width?,first?,blank?", jinja_indent, 0},
    {"join", JINJA_FILTER, "d?,attribute?", filter_join, MODE_FILTER},
    {"join", JINJA_STR_METHOD, "iterable", filter_join, MODE_METHOD},
    {"string", JINJA_FILTER, "", filter_string, MODE_PLAIN},
    {"safe", JINJA_FILTER, "", filter_string, MODE_MARKUP},
    {"tojson", JINJA_FILTER, "ensure_ascii?,indent?,separators?,sort_keys?", jinja_tojson, 0},
    {"default", JINJA_FILTER, "default_value?,boolean?", filter_default, 0},
    {"d", JINJA_FILTER, "default_value?,boolean?", filter_default, 0},
    {"int", JINJA_FILTER, "default?", filter_int, 0},
    {"length", JINJA_FILTER, "", filter_length, 0},
    {"count", JINJA_FILTER, "", filter_length, 0},
    {"list", JINJA_FILTER, "", filter_list, 0},
    {"first", JINJA_FILTER, "", filter_first, MODE_FIRST},
    {"last", JINJA_FILTER, "", filter_first, MODE_LAST},
    {"min", JINJA_FILTER, "case_sensitive?,attribute?", filter_min, MODE_MIN},
    {"max", JINJA_FILTER, "case_sensitive?,attribute?", filter_min, MODE_MAX},
    {"reverse", JINJA_FILTER, "", filter_reverse, 0},
    {"sort", JINJA_FILTER, "reverse?,case_sensitive?,attribute?", filter_sort, 0},
    {"unique", JINJA_FILTER, "case_sensitive?,attribute?", filter_unique, 0},
    {"map", JINJA_FILTER, NULL, filter_map, 0},
    {"select", JINJA_FILTER, NULL, filter_select, MODE_SELECT},
    {"reject", JINJA_FILTER, NULL, filter_select, MODE_REJECT},
    {"selectattr", JINJA_FILTER, NULL, filter_select, MODE_SELECT | MODE_BY_ATTRIBUTE},
    {"rejectattr", JINJA_FILTER, NULL, filter_select, MODE_REJECT | MODE_BY_ATTRIBUTE},
    {"items", JINJA_FILTER, "", filter_items, MODE_IN_ORDER},
    {"dictsort", JINJA_FILTER, "", filter_items, MODE_SORTED},
    {"keys", JINJA_DICT_METHOD, "", method_view, MODE_KEYS},
    {"values", JINJA_DICT_METHOD, "", method_view, MODE_VALUES},
    {"items", JINJA_DICT_METHOD, "", method_view, MODE_ITEMS},
    {"get", JINJA_DICT_METHOD, "key,default?", method_get, 0},
    {"dict", JINJA_GLOBAL, NULL, global_dict, JINJA_DICT},
    {"namespace", JINJA_GLOBAL, NULL, global_dict, JINJA_NAMESPACE},
    {"range", JINJA_GLOBAL, "start,stop?,step?", global_range, 0},
    {"raise_exception", JINJA_GLOBAL, "message", global_raise, 0},
    {"strftime_now", JINJA_GLOBAL, "format", global_strftime, 0},
};

enum {
    KIND_UNDEFINED = 1 << JINJA_UNDEFINED,
    KIND_NUMBER = 1 << JINJA_BOOL | 1 << JINJA_INT | 1 << JINJA_FLOAT,
    KIND_SEQUENCE = 1 << JINJA_STRING | 1 << JINJA_LIST | 1 << JINJA_TUPLE | 1 << JINJA_DICT
};
static const jinja_function jinja_tests[] = {
    {"defined", JINJA_TEST, "", test_kind, ~KIND_UNDEFINED},
    {"undefined", JINJA_TEST, "", test_kind, KIND_UNDEFINED},
    {"none", JINJA_TEST, "", test_kind, 1 << JINJA_NONE},
    {"boolean", JINJA_TEST, "", test_kind, 1 << JINJA_BOOL},
    {"integer", JINJA_TEST, "", test_kind, 1 << JINJA_INT},
    {"float", JINJA_TEST, "", test_kind, 1 << JINJA_FLOAT},
    {"number", JINJA_TEST, "", test_kind, KIND_NUMBER},
    {"string", JINJA_TEST, "", test_kind, 1 << JINJA_STRING},
    {"mapping", JINJA_TEST, "", test_kind, 1 << JINJA_DICT},
    {"sequence", JINJA_TEST, "", test_kind, KIND_SEQUENCE | KIND_UNDEFINED},
    {"iterable", JINJA_TEST, "", test_kind, KIND_SEQUENCE | KIND_UNDEFINED | 1 << JINJA_GENERATOR},
    {"true", JINJA_TEST, "", test_truth, 1},
    {"false", JINJA_TEST, "", test_truth, 0},
    {"even", JINJA_TEST, "", test_parity, 0},
    {"odd", JINJA_TEST, "", test_parity, 1},
    {"in", JINJA_TEST, "seq", test_op, JINJA_IN},
    {"eq", JINJA_TEST, "other", test_op, JINJA_EQ},
    {"equalto", JINJA_TEST, "other", test_op, JINJA_EQ},
    {"==", JINJA_TEST, "other", test_op, JINJA_EQ},
    {"ne", JINJA_TEST, "other", test_op, JINJA_NE},
    {"!=", JINJA_TEST, "other", test_op, JINJA_NE},
    {"lt", JINJA_TEST, "other", test_op, JINJA_LT},
    {"<", JINJA_TEST, "other", test_op, JINJA_LT},
    {"le", JINJA_TEST, "other", test_op, JINJA_LE},
    {"<=", JINJA_TEST, "other", test_op, JINJA_LE},
    {"gt", JINJA_TEST, "other", test_op, JINJA_GT},
    {">", JINJA_TEST, "other", test_op, JINJA_GT},
    {"ge", JINJA_TEST, "other", test_op, JINJA_GE},
    {">=", JINJA_TEST, "other", test_op, JINJA_GE},
};

const jinja_function *jinja_function_named(jinja_text name, int role) {
    const jinja_function *table = role == JINJA_TEST ? jinja_tests : jinja_functions;
    size_t n = role == JINJA_TEST ? array_length(jinja_tests) : array_length(jinja_functions);
    for (size_t i = 0; i < n; i++)
        if (table[i].roles & role && jinja_text_is(name, table[i].name)) return &table[i];
    return NULL;
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Positional and named arguments to call->bound, in the order of f->parameters. */
static void bind_arguments(jinja *j, const jinja_function *f, jinja_call *call) {
    size_t n = 0, used = 0;
    memset(call->bound, 0, sizeof call->bound); /* JINJA_MISSING */
    for (const char *p = f->parameters; *p; n++) {
        size_t len = strcspn(p, ",?");
        int is_optional = p[len] == '?';
        const jinja_value *named = jinja_find_name(j, &call->named, (jinja_text){p, NULL, len});
        if (n < call->values.n) call->bound[n] = call->values.items[n];
        else if (named) call->bound[n] = *named;
        else if (!is_optional)
            jinja_fail(j, "%s: the argument %.*s is missing", f->name, (int)len, p);
        used += named && n >= call->values.n ? 2 : 0;
        p += len + (size_t)is_optional;
        p += *p == ',';
    }
    if (used < call->named.n || call->values.n > n)
        jinja_fail(j, "%s: expected the arguments (%s), got others", f->name, f->parameters);
}

/* What the filter safe gives is a string of another type, Markup, in Python. Here it keeps it in
 * functions that give a string like it, is refused by others, but for those that do not care. */
static jinja_value run_on_markup(jinja *j, const jinja_function *f, const jinja_call *call) {
    int keeps = f->run == jinja_strip || f->run == filter_string ||
                (f->run == jinja_case && f->mode != JINJA_TITLE_FILTER);
    int ignores = f->roles & JINJA_TEST || f->run == jinja_tojson || f->run == filter_length ||
                  f->run == filter_default || f->run == jinja_has_end;
    if (!ignores && !keeps)
        return jinja_unsupported(j, "%s of a string from the filter safe", f->name);
    jinja_value v = f->run(j, call);
    v.is_markup = keeps || v.is_markup;
    return v;
}

jinja_value jinja_run(jinja *j, const jinja_function *f, jinja_call *call) {
    if (f->parameters) bind_arguments(j, f, call);
    call->mode = f->mode;
    if (j->status) return jinja_none();
    return call->self.is_markup ? run_on_markup(j, f, call) : f->run(j, call);
}

jinja_value jinja_run_named(jinja *j, jinja_text name, int role, jinja_call *call) {
    const char *what = role == JINJA_TEST ? "test" : "filter";
    const jinja_function *f = jinja_function_named(name, role);
    if (!f)
        return jinja_unsupported(j, "the %s \"%s\" is not known", what, jinja_shown(j, name));
    if (f->roles & JINJA_OF_STR && call->self.kind != JINJA_STRING)
        call->self = jinja_string(j, jinja_str(j, call->self));
    return jinja_run(j, f, call);
}

jinja_value jinja_bind(jinja *j, const jinja_function *f, jinja_value self) {
    jinja_method *method = jinja_alloc(j, sizeof *method);
    if (method) *method = (jinja_method){f, self};
    return (jinja_value){.kind = JINJA_FUNCTION, .method = method};
}
