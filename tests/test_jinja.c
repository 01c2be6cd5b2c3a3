/* test_jinja.c: the evaluator of chat templates: tests/golden/jinja.json has templates and what
 * Python's jinja2 makes of them (jinja_cases.py beside it checks that); errors, the origin of each
 * byte, limits. */
#include "../chat/jinja.h"
#include "json_member.h"
#include "test.h"

static int render(const char *source, const char *json_text, gqa_jinja_output *out,
                  gqa_error *err) {
    gqa_json json;
    gqa_jinja_variable v[20];
    char *names[20];
    int n = 0;
    *out = (gqa_jinja_output){0};
    if (gqa_json_parse(&json, json_text, strlen(json_text), err)) return -1;
    const gqa_json_node *end = json.nodes + json.n_nodes;
    for (const gqa_json_node *at = json.nodes + 1; at < end && n < 20; at += 1 + at[1].size) {
        names[n] = copy_string(at);
        v[n] = (gqa_jinja_variable){.name = names[n], .json = at + 1};
        n++;
    }
    int status = gqa_jinja_render(source, strlen(source), v, n, "2026-11-25", out, err);
    while (n) free(names[--n]);
    gqa_json_free(&json);
    return status;
}

/* ---- what jinja2 makes of it ----------------------------------------------------------------- */

static void check_golden(const gqa_json_node *root, const char *text) {
    const gqa_json_node *cases = member(root, "cases"), *variables = member(root, "variables");
    const char *from = strchr(text, ':') + 1, *to = strstr(text, ",\n\"cases\"");
    char *given = calloc((size_t)(to - from) + 1, 1);
    int n = 0;
    if (!given || !CHECK(variables->kind == GQA_JSON_OBJECT, "no variables")) return;
    memcpy(given, from, (size_t)(to - from));
    for (const gqa_json_node *c = cases + 1; c < cases + cases->size; c += c->size, n++) {
        char *source = copy_string(c + 1), *want = copy_string(c + 2);
        gqa_jinja_output out;
        gqa_error err = {0};
        int status = render(source, given, &out, &err);
        char *message = c->size > 3 ? copy_string(c + 3) : NULL;
        if (c[2].kind == GQA_JSON_NULL)
            CHECK(status < 0 && message && strstr(err.message, message),
                  "%s: \"%s\" does not hold \"%s\"", source, err.message, message);
        else CHECK(status == 0 && !strcmp(out.text, want), "%s: \"%s\", expected \"%s\"", source,
                   status ? err.message : out.text, want);
        gqa_jinja_output_free(&out);
        free(source);
        free(want);
        free(message);
    }
    CHECK(n > 150, "%d cases", n);
    free(given);
}

static void test_golden(void) {
    static char text[1 << 17];
    gqa_json json;
    gqa_error err = {0};
    FILE *f = fopen("tests/golden/jinja.json", "rb");
    size_t size = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    if (CHECK(gqa_json_parse(&json, text, size, &err) == 0, "%s", err.message))
        check_golden(json.nodes, text);
    gqa_json_free(&json);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static const struct {
    const char *source;
    gqa_status code;
    const char *message;       /* part of it */
} errors[] = {
    {"a\nb\n{{ x.y }}", GQA_ERR_FORMAT, "chat template, line 3: 'x' is undefined"},
    {"{{\n\n[1,\n2].foo() }}", GQA_ERR_FORMAT, "line 3: 'list object' has no attribute 'foo'"},
    {"{{ 'a'.foo() }}", GQA_ERR_FORMAT, "'str object' has no attribute 'foo'"},
    {"{{ [].append(1) }}", GQA_ERR_FORMAT, "'list object' has no attribute 'append'"},
    {"{{ {}.update({}) }}", GQA_ERR_FORMAT, "'dict object' has no attribute 'update'"},
    {"{{ [1] < [2] }}", GQA_ERR_FORMAT, "unsupported operand type(s) for <: 'list' and 'list'"},
    {"{{ 5|replace(5, 'x') }}", GQA_ERR_FORMAT, "expected str, got int"},
    {"{{ '%d' % 1 }}", GQA_ERR_FORMAT, "unsupported operand type(s) for %: 'str' and 'int'"},
    {"{{ 2 ** 3 }}", GQA_ERR_FORMAT, "expected an expression, got \"*\""},
    {"{{ 'x'|int(0, 16) }}", GQA_ERR_FORMAT, "int: expected the arguments (default?)"},
    {"{{ raise_exception('No\\nway') }}", GQA_ERR_ARGUMENT, "No\\x0away"},
    {"x\n{% if 1 %}\n\n", GQA_ERR_FORMAT, "line 2: a block without its {% endif %}"},
    {"{{ 1 }", GQA_ERR_FORMAT, "line 1: a tag without its closing }}"},
    {"\n{{ 'abc", GQA_ERR_FORMAT, "line 2: a string without its closing '"},
    {"{{ (1 2) }}", GQA_ERR_FORMAT, "expected \")\", got \"2\""},
    {"{{ 'a'.replace('b') }}", GQA_ERR_FORMAT, "replace: the argument new is missing"},
    {"{{ 'a'|trim(width=3) }}", GQA_ERR_FORMAT, "trim: expected the arguments (chars?)"},
    {"{% macro m() %}{% break %}{% endmacro %}{% for x in [1] %}{{ m() }}{% endfor %}",
     GQA_ERR_FORMAT, "break or continue outside of a loop"},
    {"\xFF", GQA_ERR_FORMAT, "the text is not UTF-8"},
};

/* What jinja2 can do, and the evaluator does not know. */
static const struct {
    const char *source, *message;
} unknown[] = {
    {"\n{{ 'a'|slice(3) }}", "line 2: the filter \"slice\" is not known"},
    {"\n\n{% include 'x' %}", "line 3: the tag \"include\" is not known"},
    {"\n{{ [2, 1]|sum }}", "line 2: the filter \"sum\" is not known"},
    {"{{ [1]|sort(attribute='a,b') }}", "sort: more than one attribute"},
    {"{{ 1 is escaped }}", "the test \"escaped\" is not known"},
    {"{{ 'a'.zfill(3) }}", "the attribute zfill of a str is not known"},
    {"{{ 'a'.rfind is defined }}", "the attribute rfind of a str is not known"},
    {"{{ [].index(1) }}", "the attribute index of a list is not known"},
    {"{{ {}.copy() }}", "the attribute copy of a dict is not known"},
    {"{{ range.x is defined }}", "the attribute x of a function"},
    {"{% for x in [1] %}{{ loop.cycle(1) }}{% endfor %}", "loop.cycle is not known"},
    {"{{ (5).real }}", "the attribute real of a int is not known"},
    {"{{ true.numerator is defined }}", "the attribute numerator of a bool is not known"},
    {"{{ range(3).start }}", "the attribute start of a range is not known"},
    {"{{ {}.keys() == {}.keys() }}", "comparing dict views"},
    {"{{ {1: 2}|tojson }}", "tojson: a key that is not str but int"},
    {"{{ '{0}'.format(1) }}", "format: only {} is known"},
    {"{{ '\\101' }}", "the escape \\1 is not supported"},
    {"{{ range(3) }}", "writing a range or dict view as text"},
    {"{{ range(3)[1:] }}", "writing a range or dict view as text"},
    {"{{ cycler(1) }}", "Jinja's own 'cycler' is not known"},
    {"{{ lipsum is defined }}", "Jinja's own 'lipsum' is not known"},
    {"{% if joiner %}{% endif %}", "Jinja's own 'joiner' is not known"},
    {"\n{{ 'stra\u00DFe'|upper }}", "line 2: the upper case of U+00DF"},
    {"{{ '\u0130'|lower }}", "the lower case of U+0130 is not known"},
    {"{{ '\u039F\u03A3'|lower }}", "the lower case of U+03A3 is not known"},
    {"{{ '\u10D0'|upper }}", "the upper case of U+10D0 is not known"},
    {"{{ 'a\u01C6'|title }}{{ '\u01C6'|capitalize }}", "the lower case of U+01C6 is not known"},
    {"{{ '\u00AAa'.title() }}", "the upper case of U+00AA is not known"},
    {"{{ '99999999999999999999'|int }}", "does not fit 64 bits"},
    {"{{ 1e19|int }}", "int: a number that exceeds 64 bits"},
    {"{{ '1_0'|int }}", "a number with \"_\""},
    {"{{ 'a'|safe|replace('a', '<') }}", "replace of a string from the filter"},
    {"{{ ('a'|safe)[0] }}", "a part of a string from the filter safe"},
    {"{{ 'ab'|safe|title }}", "title of a string from the filter safe"},
    {"{{ 0x10 }}", "the number 0x is not supported"},
    {"{{ 9223372036854775807 + 1 }}", "does not fit 64 bits"},
    {"{{ 9223372036854775808 }}", "does not fit 64 bits"},
    {"{{ strftime_now('%Q') }}", "strftime_now: %Q is not known"},
    {"{% for x in [1] %}\n{% endif %}", "line 2: the tag \"endif\""},
};

static void check_error(const char *source, gqa_status code, const char *message) {
    gqa_jinja_output out;
    gqa_error err = {0};
    int status = render(source, "{}", &out, &err);
    CHECK(status == (int)code && !out.text, "%s: %d", source, status);
    CHECK_HAS(err.message, message);
}

static void test_errors(void) {
    for (size_t i = 0; i < array_length(errors); i++)
        check_error(errors[i].source, errors[i].code, errors[i].message);
    for (size_t i = 0; i < array_length(unknown); i++)
        check_error(unknown[i].source, GQA_ERR_UNSUPPORTED, unknown[i].message);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static const struct {
    const char *source, *message;
} limits[] = {
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested deeper than 400"},
    {"{% set s = 'abababab' * 1000000 %}{% for x in range(999) %}{{ 'zz' in s }}{% endfor %}",
     "more than 10000000 steps"},
    {"{% set ns = namespace(s='0123456789') %}{% for x in range(99) %}"
     "{% set ns.s = ns.s ~ ns.s %}{% endfor %}", "a text of more than 16777216 bytes"},
    {"{% set s = 'x' * 9000000 %}{{ s }}{{ s }}", "a text of more than 16777216 bytes"},
    {"{{ 'xy' * 8388609 }}", "a text of more than 16777216 bytes"},
    {"{% set ns = namespace(l=[1]) %}{% for x in range(99) %}{% set ns.l = ns.l + ns.l %}"
     "{% endfor %}", "more than 268435456 bytes of memory"},
    {"{% set ns = namespace(l=[]) %}{% for x in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}"
     "{{ ns.l }}", "nested deeper than 400"},
};

static void test_limits(void) {
    for (size_t i = 0; i < array_length(limits); i++) {
        gqa_jinja_output out;
        gqa_error err = {0};
        int status = render(limits[i].source, "{}", &out, &err);
        CHECK(status == GQA_ERR_UNSUPPORTED && !out.text, "%s: %d", limits[i].source, status);
        CHECK_HAS(err.message, limits[i].message);
    }
}

/* Everything that can be nested, with what opens, what stands inside and what closes it. */
static const struct {
    const char *before, *open, *inside, *close, *after;
} nestings[] = {
    {"{{ ", "(", "1", ")", " }}"}, {"{{ ", "[", "1", "]", " }}"}, {"{{ ", "{1: ", "1", "}", " }}"},
    {"{{ ", "a(", "1", ")", " }}"}, {"{{ ", "a[", "1", "]", " }}"},
    {"{{ ", "1|d(", "1", ")", " }}"},
    {"{{ ", "not ", "1", "", " }}"}, {"{{ ", "- ", "1", "", " }}"},
    {"{{ ", "1 if 0 else ", "1", "", " }}"}, {"{{ ", "1 is eq(", "1", ")", " }}"},
    {"", "{% if 1 %}", "a", "{% endif %}", ""},
    {"", "{% for x in [1] %}", "a", "{% endfor %}", ""},
    {"", "{% set x %}", "a", "{% endset %}", ""},
    {"{% for ", "(", "a", ")", " in 1 %}{% endfor %}"},
};

static void test_nesting(void) {
    for (size_t i = 0; i < array_length(nestings); i++) {
        for (int n = 40; n <= 20000; n *= 500) {
            char *source = calloc(1, 1 << 20);
            size_t open = strlen(nestings[i].open), close = strlen(nestings[i].close);
            if (!source) return;
            char *end = source + sprintf(source, "%s", nestings[i].before);
            for (int k = 0; k < n; k++) memcpy(end + open * (size_t)k, nestings[i].open, open);
            end += open * (size_t)n;
            end += sprintf(end, "%s", nestings[i].inside);
            for (int k = 0; k < n; k++) memcpy(end + close * (size_t)k, nestings[i].close, close);
            strcpy(end + close * (size_t)n, nestings[i].after);
            gqa_jinja_output out;
            gqa_error err = {0};
            int status = render(source, "{}", &out, &err);
            int refused = status < 0 && strstr(err.message, "nested too deeply");
            CHECK(refused == (n > 40), "%d of %s: %s", n, nestings[i].open, err.message);
            gqa_jinja_output_free(&out);
            free(source);
        }
    }
}

/* What is chained and not nested: a sum of many terms, filters in a row. */
static void test_chains(void) {
    static const char *const links[] = {" ~ 1", "|string", " and 1", " == 1", ".x", "[0]"};
    for (size_t i = 0; i < array_length(links); i++) {
        static char source[200000];
        size_t used = (size_t)sprintf(source, "{{ '1'");
        for (int k = 0; k < 20000; k++) used += (size_t)sprintf(source + used, "%s", links[i]);
        strcpy(source + used, " }}");
        gqa_jinja_output out;
        gqa_error err = {0};
        int status = render(source, "{}", &out, &err);
        CHECK(status == 0 || strstr(err.message, "nested deeper than 400") ||
              strstr(err.message, "is undefined") || strstr(err.message, "no attribute"),
              "%s: %s", links[i], err.message);
        gqa_jinja_output_free(&out);
    }
}

/* ---- where bytes come from ------------------------------------------------------------------- */

/* With m = " <b>A,\xC3\xA9</b> ", d = {"k": "v"}: content between [ and ]. */
static const struct {
    const char *source, *want;
} origins[] = {
    {"<b>{{ m }}</b>", "<b>[ <b>A,\xC3\xA9</b> ]</b>"},
    {"{{ m|trim }}{{ m.strip() }}.", "[<b>A,\xC3\xA9</b><b>A,\xC3\xA9</b>]."},
    {"{{ 'x' + m[1:4] + 'y' }}", "x[<b>]y"},
    {"{{ m[::-1][:4] }}{{ m[1] }}{{ m|first }}", "[ >b/< ]"},
    {"{{ m.split(',')[0] }},{{ m.split('<b>')|join('<b>') }}", "[ <b>A],[ ]<b>[A,\xC3\xA9</b> ]"},
    {"{{ m.replace('<b>', '<i>') }}{{ 'a-b'|replace('-', m|trim) }}",
     "[ ]<i>[A,\xC3\xA9</b> ]a[<b>A,\xC3\xA9</b>]b"},
    {"{{ m|upper|trim }}{{ m|title|trim }}", "[<B>A,\xC3\x89</B><B>a,\xC3\xA9</b>]"},
    {"{{ m|tojson }}{{ d|tojson }}", "\"[ <b>A,\xC3\xA9</b> ]\"{\"[k]\": \"[v]\"}"},
    {"{{ d|tojson(indent=1) }}", "{\n \"[k]\": \"[v]\"\n}"},
    {"{{ [m[1:3]] }}{{ d }}", "['[<b]']{'[k]': '[v]'}"},
    {"{% set x %}<{{ m|trim }}>{% endset %}{{ x }}", "<[<b>A,\xC3\xA9</b>]>"},
    {"{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(m[1:4])|indent(1, true) }}", " <[<b>]>"},
    {"{% for c in m[1:4] %}-{{ c }}{% endfor %}{{ m[1:3] * 2 }}", "-[<]-[b]-[><b<b]"},
    {"{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}{{ d|list|join }}", "[k]=[vk]"},
    {"{{ '%s'.join([m[1:3], m[1:3]]) }}{{ m[1:3] ~ 1 ~ 'z' }}", "[<b]%s[<b<b]1z"},
    {"{{ m if m else 'x' }}{{ none|default(m[1]) }}{{ nope|default(m[1]) }}",
     "[ <b>A,\xC3\xA9</b> ]None[<]"},
    {"{{ '{}.'.format(m[1:3]) }}{{ [m[1:3]]|map('upper')|first }}", "[<b].[<B]"},
    {"{{ strftime_now(m[1:3] ~ '%d') }}", "[<b]25"},
    {"{% set x = 'ab' ~ m[1:3] ~ 'c' %}{{ x[1:4] }}{{ x[3:] }}{{ x.split('<')|join('|') }}",
     "b[<bb]cab|[b]c"},
    {"{% set x = 'a ' ~ m[1:3] %}{{ x[::-1]|upper }}{{ x|title|list|last }}", "[B<] A[B]"},
    {"{{ bos }}{{ m[2] }}{{ bos ~ m[2] }}", "<s>[b]<s>[b]"},
};

static void test_origins(void) {
    gqa_json m, d;
    gqa_error err = {0};
    int status = gqa_json_parse(&m, "\" <b>A,\xC3\xA9</b> \"", 15, &err);
    if (!status) status = gqa_json_parse(&d, "{\"k\": \"v\"}", 10, &err);
    if (!CHECK(status == 0, "%s", err.message)) return;
    gqa_jinja_variable v[] = {{.name = "m", .json = m.nodes}, {.name = "d", .json = d.nodes},
                              {.name = "bos", .text = "<s>"}};
    for (size_t i = 0; i < array_length(origins); i++) {
        const char *source = origins[i].source;
        gqa_jinja_output out;
        char shown[200] = "";
        size_t used = 0;
        status = gqa_jinja_render(source, strlen(source), v, 3, "2026-11-25", &out, &err);
        CHECK(status == 0, "%s: %s", source, err.message);
        for (size_t k = 0; k <= out.len && used + 3 < sizeof shown; k++) {
            int before = k > 0 && out.is_content[k - 1], now = k < out.len && out.is_content[k];
            if (before != now) shown[used++] = now ? '[' : ']';
            if (k < out.len) shown[used++] = out.text[k];
        }
        CHECK(!strcmp(shown, origins[i].want), "%s: \"%s\", expected \"%s\"", source, shown,
              origins[i].want);
        gqa_jinja_output_free(&out);
    }
    gqa_json_free(&m);
    gqa_json_free(&d);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("as jinja2 has it") test_golden();
    TEST("errors") test_errors();
    TEST("limits") test_limits();
    TEST("nesting") {
        test_nesting();
        test_chains();
    }
    TEST("the origin of each byte") test_origins();
    TEST("dates, and the days of the week and of the year as Python's datetime has them") {
        static const struct { const char *text; int of_week, of_year; } dates[] = {
            {"0001-01-01", 1, 0}, {"1900-03-01", 4, 59}, {"1969-07-20", 0, 200},
            {"2000-02-29", 2, 59}, {"2024-12-31", 2, 365}, {"2100-03-01", 1, 59},
            {"9999-12-31", 5, 364},
        };
        static const char *const wrong[] = {"1969-02-31", "2023-02-29", "1900-02-29", "2024-00-10",
                                            "2024-13-01", "2024-04-31", "0000-01-01", "2024-1-1"};
        struct tm tm;
        for (size_t i = 0; i < sizeof dates / sizeof *dates; i++)
            CHECK(!jinja_parse_date(dates[i].text, &tm) && tm.tm_wday == dates[i].of_week &&
                  tm.tm_yday == dates[i].of_year, "%s: day %d of the week", dates[i].text,
                  tm.tm_wday);
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
            CHECK(jinja_parse_date(wrong[i], &tm) == -1, "%s is a date", wrong[i]);
    }
    TEST("no date") {
        gqa_jinja_output out;
        gqa_error err = {0};
        static const char source[] = "{{ strftime_now('%d') }}";
        CHECK(gqa_jinja_render(source, sizeof source - 1, NULL, 0, NULL, &out, &err) < 0, "none");
        CHECK_HAS(err.message, "expected a date as YYYY-MM-DD, got none");
        CHECK(gqa_jinja_render(source, sizeof source - 1, NULL, 0, "2026-13-01", &out, &err) < 0,
              "no month 13");
    }
    return test_end();
}
