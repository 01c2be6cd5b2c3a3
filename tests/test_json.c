/* test_json.c: the JSON reader against what Python's json module makes of the same texts. */
#include "../base/json.h"
#include "test.h"

/* The nodes on one line, one way of writing each: kinds, sizes and texts are all in it. */
static char shown[1000];
static void show(const gqa_json *json) {
    size_t used = 0;
    shown[0] = 0;
    for (size_t i = 0; i < json->n_nodes && used + 40 < sizeof shown; i++) {
        const gqa_json_node *node = &json->nodes[i];
        used += (size_t)snprintf(shown + used, sizeof shown - used, "%s%c%zu:%.*s", i ? " " : "",
                                 "0FTnsao"[node->kind], node->size, (int)node->len, node->text);
    }
}

static const struct {
    const char *text, *want;
} good[] = {
    {"null", "01:"},
    {" \t\r\n[ ] ", "a1:"},
    {"[true,false,null]", "a4: T1: F1: 01:"},
    {"{\"a\": {\"b\": [1, 2]}, \"a\": 3}", "o9: s1:a o5: s1:b a3: n1:1 n1:2 s1:a n1:3"},
    {"[0,-1,2.50,1e3,-0.5E-7]", "a6: n1:0 n1:-1 n1:2.50 n1:1e3 n1:-0.5E-7"},
    {"\"\\\"\\\\\\/\\n\\t\"", "s1:\"\\/\n\t"},
    {"\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"", "s1:A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
    {"\"Z\xC3\xBCrich\"", "s1:Z\xC3\xBCrich"},
    {"{}", "o1:"},
    {"\xEF\xBB\xBF[]", "a1:"},
};

static const struct {
    const char *text, *want;
} bad[] = {
    {"", "line 1: expected a value, got the end"},
    {"[1,\n2,\n]", "line 3: expected a value, got ']'"},
    {"[1 2]", "expected ',' or ']', got '2'"},
    {"{\"a\" 1}", "expected ':' after a key, got '1'"},
    {"{a: 1}", "expected '\"' before a key, got 'a'"},
    {"{\"a\": 1,}", "before a key, got '}'"},
    {"[1] x", "expected the end, got 'x'"},
    {"tru", "expected a value, got 't'"},
    {"01", "a number that begins with 0"},
    {"1.", "expected a digit, got the end"},
    {"1e+", "expected a digit"},
    {"-", "expected a value, got the end"},
    {"NaN", "expected a value"},
    {"'a'", "expected a value, got '''"},
    {"\"abc", "after a string, got the end"},
    {"\"a\nb\"", "a control character in a string"},
    {"\"\xFF\"", "a string that is not UTF-8"},
    {"\"\\x41\"", "expected an escape"},
    {"\"\\ud800\"", "four digits after \\u"},
    {"\"\\udc00\\ud800\"", "four digits after \\u"},
    {"\"\\u12g4\"", "four digits after \\u"},
    {"[\"", "after a string, got the end"},
};

/* Texts are copied to a block of their exact size: the address sanitizer sees a byte too many. */
static int parse(gqa_json *json, const char *text, size_t len, gqa_error *err) {
    char *copy = malloc(len ? len : 1);
    if (!copy) return -1;
    memcpy(copy, text, len);
    int status = gqa_json_parse(json, copy, len, err);
    free(copy);
    return status;
}

static void test_limits(void) {
    char text[2 * GQA_JSON_MAX_DEPTH + 4];
    gqa_json json;
    gqa_error err = {0};
    int depth = GQA_JSON_MAX_DEPTH;
    memset(text, '[', sizeof text);
    memset(text + depth, ']', (size_t)depth);
    CHECK(parse(&json, text, 2 * (size_t)depth, &err) == 0, "%s", err.message);
    gqa_json_free(&json);
    memset(text, '[', (size_t)++depth);
    memset(text + depth, ']', (size_t)depth);
    CHECK(parse(&json, text, 2 * (size_t)depth, &err) == GQA_ERR_FORMAT, "%d deep", depth);
    CHECK_HAS(err.message, "nested too deeply");
    char digits[GQA_JSON_MAX_NUMBER + 1];
    memset(digits, '1', sizeof digits);
    CHECK(parse(&json, digits, sizeof digits - 1, &err) == 0, "%s", err.message);
    gqa_json_free(&json);
    CHECK(parse(&json, digits, sizeof digits, &err) < 0, "%zu digits", sizeof digits);
    CHECK_HAS(err.message, "a number of too many digits");
    CHECK(gqa_json_parse(&json, text, GQA_JSON_MAX_BYTES + 1, &err) < 0, "a long text");
    CHECK_HAS(err.message, "at most 67108864 are read");
}

int main(int argc, char **argv) {
    gqa_json json;
    gqa_error err = {0};
    test_start(argc, argv);
    TEST("values") {
        for (size_t i = 0; i < array_length(good); i++) {
            int status = parse(&json, good[i].text, strlen(good[i].text), &err);
            CHECK(status == 0, "%s: %s", good[i].text, err.message);
            show(&json);
            CHECK(!strcmp(shown, good[i].want), "%s: \"%s\", expected \"%s\"", good[i].text, shown,
                  good[i].want);
            gqa_json_free(&json);
        }
    }
    TEST("a zero in a string") {
        CHECK(parse(&json, "\"a\\u0000b\"", 10, &err) == 0, "%s", err.message);
        CHECK(json.nodes[0].len == 3 && !memcmp(json.nodes[0].text, "a\0b", 3), "other bytes");
        gqa_json_free(&json);
    }
    TEST("what is not JSON") {
        for (size_t i = 0; i < array_length(bad); i++) {
            int status = parse(&json, bad[i].text, strlen(bad[i].text), &err);
            CHECK(status == GQA_ERR_FORMAT && !json.nodes && !json.text, "%s: %d", bad[i].text,
                  status);
            CHECK_HAS(err.message, bad[i].want);
        }
    }
    TEST("each beginning of a text is refused") {
        static const char text[] = "{\"k\": [1.5e3, \"\\u00e9\\ud83d\\ude00\", true, {}, null]}";
        for (size_t n = 0; n + 1 < sizeof text; n++)
            CHECK(parse(&json, text, n, &err) == GQA_ERR_FORMAT, "%zu bytes", n);
    }
    TEST("limits") test_limits();
    TEST("doubles") {
        CHECK(gqa_parse_double("-2.5e1") == -25.0, "%g", gqa_parse_double("-2.5e1"));
        CHECK(gqa_parse_double("0.1") == 0.1, "%g", gqa_parse_double("0.1"));
    }
    return test_end();
}
