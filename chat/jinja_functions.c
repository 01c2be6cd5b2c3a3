/* jinja_functions.c: calls of functions that are written in C, the global ones, and methods of
 * dicts and lists. */
#include <string.h>

#include "jinja_internal.h"

/* ---- arguments ------------------------------------------------------------------------------- */

/* Whether name is the parameter that begins at p and ends at a comma or "?". */
static int is_parameter(const char *p, jinja_text name) {
    size_t len = strcspn(p, ",?");
    return len == name.len && memcmp(p, name.bytes, len) == 0;
}

/* Positional and named arguments to a->bound, in the order of f->parameters. */
static void bind_arguments(jinja *j, const jinja_function *f, jinja_arguments *a) {
    size_t n = 0, used = 0;
    memset(a->bound, 0, sizeof a->bound); /* JINJA_MISSING */
    for (const char *p = f->parameters; *p; n++) {
        size_t len = strcspn(p, ",?");
        int optional = p[len] == '?';
        for (size_t i = 0; i < a->named.n; i++) {
            if (!is_parameter(p, a->named.pairs[i].key.text)) continue;
            a->bound[n] = a->named.pairs[i].value;
            used++;
        }
        if (n < a->values.n) a->bound[n] = a->values.items[n];
        if (a->bound[n].kind == JINJA_MISSING && !optional) {
            jinja_fail(j, "%s: the argument %.*s is missing", f->name, (int)len, p);
            return;
        }
        p += len + (size_t)optional;
        p += *p == ',';
    }
    if (used < a->named.n || a->values.n > n)
        jinja_fail(j, "%s: expected the arguments (%s), got others", f->name, f->parameters);
}

jinja_value jinja_run(jinja *j, const jinja_function *f, jinja_value self, jinja_arguments *a) {
    if (f->parameters) bind_arguments(j, f, a);
    return j->status ? jinja_none() : f->run(j, self, a);
}

/* ---- global functions ------------------------------------------------------------------------ */

static jinja_value global_range(jinja *j, jinja_value self, const jinja_arguments *a) {
    int64_t bounds[3] = {0, 0, 1}, n = 0;
    (void)self;
    for (size_t i = 0; i < 3 && a->bound[i].kind != JINJA_MISSING; i++) {
        if (a->bound[i].kind != JINJA_INT)
            return jinja_fail(j, "range: expected int, got %s", jinja_type(a->bound[i]));
        bounds[i] = a->bound[i].integer;
    }
    if (a->bound[1].kind == JINJA_MISSING) {
        bounds[1] = bounds[0];
        bounds[0] = 0;
    }
    if (bounds[2] == 0) return jinja_fail(j, "range() arg 3 must not be zero");
    jinja_value list = jinja_new_list(j, JINJA_RANGE);
    for (int64_t i = bounds[0]; !j->status && (bounds[2] > 0 ? i < bounds[1] : i > bounds[1]);) {
        if (n++ == JINJA_MAX_RANGE)
            return jinja_fail(j, "range: more than %d numbers", JINJA_MAX_RANGE);
        jinja_append(j, list.list, jinja_int(i));
        if (__builtin_add_overflow(i, bounds[2], &i)) break;
    }
    return list;
}

/* dict() and namespace(): of a dict or of pairs, and of named arguments. */
static jinja_value make_dict(jinja *j, const jinja_arguments *a, jinja_kind kind) {
    jinja_value made = jinja_new_dict(j, kind);
    if (a->values.n > 1) return jinja_fail(j, "dict: expected at most 1 argument");
    if (a->values.n && a->values.items[0].kind == JINJA_DICT) {
        const jinja_dict *from = a->values.items[0].dict;
        for (size_t i = 0; i < from->n && !j->status; i++)
            jinja_set(j, made.dict, from->pairs[i].key, from->pairs[i].value);
    } else if (a->values.n) {
        const jinja_list *pairs = jinja_iterate(j, a->values.items[0]);
        for (size_t i = 0; pairs && i < pairs->n && !j->status; i++) {
            const jinja_list *pair = jinja_iterate(j, pairs->items[i]);
            if (pair && pair->n == 2) jinja_set(j, made.dict, pair->items[0], pair->items[1]);
            else jinja_fail(j, "dict: expected pairs");
        }
    }
    for (size_t i = 0; i < a->named.n && !j->status; i++)
        jinja_set(j, made.dict, a->named.pairs[i].key, a->named.pairs[i].value);
    return made;
}
static jinja_value global_dict(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)self;
    return make_dict(j, a, JINJA_DICT);
}
static jinja_value global_namespace(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)self;
    return make_dict(j, a, JINJA_NAMESPACE);
}

static jinja_value global_raise(jinja *j, jinja_value self, const jinja_arguments *a) {
    jinja_text message = jinja_str(j, a->bound[0]);
    (void)self;
    if (message.len == 0) message = jinja_literal("the template raised an exception");
    if (!j->status)
        j->status = gqa_fail(j->err, GQA_ERR_ARGUMENT, "%.*s", (int)min_size(message.len, 500),
                             message.bytes);
    return jinja_none();
}

/* ---- the date -------------------------------------------------------------------------------- */

int jinja_parse_date(const char *text, struct tm *tm) {
    int year, month, day, end = 0;
    if (!text || sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &end) != 3) return -1;
    if (end != 10 || text[end]) return -1;
    *tm = (struct tm){.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = 12};
    mktime(tm); /* the day of the week and of the year; noon exists on every day */
    tm->tm_hour = 0;
    return tm->tm_mon == month - 1 && tm->tm_mday == day ? 0 : -1;
}

/* One conversion of strftime; -1: not known here. without_zero: "%-d". */
static int format_date(char out[24], char conversion, int without_zero, const struct tm *tm) {
    const char format[] = {'%', conversion, 0};
    if (!conversion || !strchr("YymdejBbAawFHMSIpT%", conversion)) return -1;
    int n = (int)strftime(out, 24, format, tm);
    if (without_zero && n == 2 && out[0] == '0') {
        out[0] = out[1];
        out[n = 1] = 0;
    }
    return n;
}

static jinja_value global_strftime(jinja *j, jinja_value self, const jinja_arguments *a) {
    struct tm date;
    jinja_text format = a->bound[0].text;
    jinja_builder b = {0};
    (void)self;
    if (a->bound[0].kind != JINJA_STRING) return jinja_fail(j, "strftime_now: expected a format");
    if (jinja_parse_date(j->date, &date))
        return jinja_fail(j, "strftime_now: expected a date as YYYY-MM-DD, got %.40s",
                          j->date ? j->date : "none");
    for (size_t i = 0; i < format.len && !j->status; i++) {
        char out[24];
        if (format.bytes[i] != '%') {
            jinja_put(j, &b, jinja_part(format, i, 1));
            continue;
        }
        int pad = i + 1 < format.len && format.bytes[i + 1] == '-';
        i += 1 + (size_t)pad;
        char conversion = i < format.len ? format.bytes[i] : ' ';
        if (format_date(out, conversion, pad, &date) < 0)
            return jinja_unsupported(j, "strftime_now: %%%c is not known", conversion);
        jinja_put_literal(j, &b, out);
    }
    return jinja_built(&b);
}

jinja_value jinja_global(jinja *j, jinja_text name) {
    static const jinja_function functions[] = {
        {"range", "start,stop?,step?", global_range},
        {"dict", NULL, global_dict},
        {"namespace", NULL, global_namespace},
        {"raise_exception", "message", global_raise},
        {"strftime_now", "format", global_strftime},
    };
    static const char *const unknown[] = {"lipsum", "cycler", "joiner", "self", "super", "varargs",
                                          "kwargs"};
    for (size_t i = 0; i < array_length(functions); i++) {
        if (!jinja_text_is(name, functions[i].name)) continue;
        jinja_method *method = jinja_alloc(j, sizeof *method);
        if (method) method->function = &functions[i];
        return (jinja_value){.kind = JINJA_FUNCTION, .method = method};
    }
    for (size_t i = 0; i < array_length(unknown); i++)
        if (jinja_text_is(name, unknown[i])) return jinja_unsupported(j, "%s is not known",
                                                                      unknown[i]);
    return (jinja_value){.kind = JINJA_MISSING};
}

/* ---- methods of dicts and lists -------------------------------------------------------------- */

typedef enum dict_part { DICT_KEYS, DICT_VALUES, DICT_ITEMS } dict_part;

static jinja_value dict_view(jinja *j, const jinja_dict *dict, dict_part part) {
    jinja_value view = jinja_new_list(j, JINJA_VIEW);
    for (size_t i = 0; i < dict->n && !j->status; i++) {
        const jinja_pair *pair = &dict->pairs[i];
        jinja_value tuple = part == DICT_ITEMS ? jinja_new_list(j, JINJA_TUPLE) : jinja_none();
        if (part == DICT_ITEMS) {
            jinja_append(j, tuple.list, pair->key);
            jinja_append(j, tuple.list, pair->value);
        }
        jinja_append(j, view.list, part == DICT_KEYS ? pair->key
                                   : part == DICT_VALUES ? pair->value : tuple);
    }
    return view;
}
static jinja_value method_keys(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)a;
    return dict_view(j, self.dict, DICT_KEYS);
}
static jinja_value method_values(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)a;
    return dict_view(j, self.dict, DICT_VALUES);
}
static jinja_value method_items(jinja *j, jinja_value self, const jinja_arguments *a) {
    (void)a;
    return dict_view(j, self.dict, DICT_ITEMS);
}
static jinja_value method_get(jinja *j, jinja_value self, const jinja_arguments *a) {
    const jinja_value *found = jinja_find(j, self.dict, a->bound[0]);
    if (found) return *found;
    return a->bound[1].kind == JINJA_MISSING ? jinja_none() : a->bound[1];
}

const jinja_function *jinja_method_named(jinja *j, jinja_kind kind, jinja_text name) {
    static const jinja_function dict_methods[] = {
        {"keys", "", method_keys},
        {"values", "", method_values},
        {"items", "", method_items},
        {"get", "key,default?", method_get},
    };
    static const char string_unknown[] =
        " casefold center encode expandtabs format_map index isalnum isalpha isascii "
        "isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper "
        "ljust maketrans partition rfind rindex rjust rpartition rsplit swapcase translate zfill ";
    static const char list_unknown[] =
        " append clear copy count extend index insert pop remove reverse sort ";
    static const char dict_unknown[] = " clear copy fromkeys pop popitem setdefault update ";
    const char *unknown = "";
    const jinja_function *method = NULL;
    char word[20];
    if (kind == JINJA_STRING) {
        unknown = string_unknown;
        method = jinja_string_method(name);
    } else if (kind == JINJA_LIST || kind == JINJA_TUPLE) {
        unknown = list_unknown;
    } else if (kind == JINJA_DICT) {
        unknown = dict_unknown;
        for (size_t i = 0; i < array_length(dict_methods); i++)
            if (jinja_text_is(name, dict_methods[i].name)) method = &dict_methods[i];
    }
    snprintf(word, sizeof word, " %.*s ", (int)min_size(name.len, 15), name.bytes);
    if (!method && name.len < 15 && strstr(unknown, word))
        jinja_unsupported(j, "the method%sof %s is not supported", word,
                          jinja_type((jinja_value){.kind = kind}));
    return method;
}
