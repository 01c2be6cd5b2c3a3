/* json.c: the JSON reader. One pass; strings are unescaped into one buffer as large as the text. */
#include "json.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "utf8.h"

typedef struct json_reader {
    const char *text, *end, *at;
    gqa_json *json;
    char *written;             /* the end of what is in json->text */
    size_t capacity;           /* of json->nodes */
    int depth;
    gqa_error *err;
} json_reader;

static int json_error(json_reader *r, const char *what) {
    int line = 1;
    for (const char *p = r->text; p < r->at; p++) line += *p == '\n';
    return gqa_fail(r->err, GQA_ERR_FORMAT, "JSON, line %d: %s", line, what);
}

static int json_expected(json_reader *r, const char *expected) {
    char what[100];
    if (r->at == r->end) snprintf(what, sizeof what, "expected %s, got the end", expected);
    else snprintf(what, sizeof what, "expected %s, got '%c'", expected, *r->at);
    return json_error(r, what);
}

static void json_skip_blanks(json_reader *r) {
    while (r->at < r->end && memchr(" \t\r\n", *r->at, 4)) r->at++;
}

static int json_next_is(json_reader *r, char c) {
    json_skip_blanks(r);
    if (r->at == r->end || *r->at != c) return 0;
    r->at++;
    return 1;
}

/* A new node at the end of the list; its index goes to *index. */
static int json_add(json_reader *r, gqa_json_kind kind, size_t *index) {
    gqa_json *json = r->json;
    if (json->n_nodes == r->capacity) {
        size_t capacity = r->capacity ? r->capacity * 2 : 64;
        gqa_json_node *grown = realloc(json->nodes, capacity * sizeof *grown);
        if (!grown)
            return gqa_fail(r->err, GQA_ERR_MEMORY, "JSON: no memory for %zu values", capacity);
        json->nodes = grown;
        r->capacity = capacity;
    }
    *index = json->n_nodes++;
    json->nodes[*index] = (gqa_json_node){kind, r->written, 0, 1};
    return 0;
}

/* ---- strings --------------------------------------------------------------------------------- */

/* The four hexadecimal digits of \uXXXX, or -1. */
static int32_t json_hex(json_reader *r) {
    int32_t value = 0;
    if (r->end - r->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = *r->at++;
        if (c >= '0' && c <= '9') value = value * 16 + (c - '0');
        else if (c >= 'a' && c <= 'f') value = value * 16 + (c - 'a' + 10);
        else if (c >= 'A' && c <= 'F') value = value * 16 + (c - 'A' + 10);
        else return -1;
    }
    return value;
}

/* What follows "\u"; two halves of a surrogate pair are one character. */
static int json_unicode(json_reader *r) {
    int32_t c = json_hex(r);
    if (c >= 0xD800 && c < 0xDC00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
        r->at += 2;
        int32_t low = json_hex(r);
        c = low >= 0xDC00 && low < 0xE000 ? 0x10000 + (c - 0xD800) * 0x400 + (low - 0xDC00) : -1;
    }
    if (c < 0 || (c >= 0xD800 && c < 0xE000))
        return json_error(r, "expected a character's four digits after \\u");
    r->written += utf8_encode(r->written, (uint32_t)c);
    return 0;
}

static int json_escape(json_reader *r) {
    static const char letters[] = "\"\\/bfnrtu", meant[] = "\"\\/\b\f\n\r\t";
    const char *found = r->at < r->end && *r->at ? strchr(letters, *r->at) : NULL;
    if (!found) return json_expected(r, "an escape such as \\n");
    r->at++;
    if (*found == 'u') return json_unicode(r);
    *r->written++ = meant[found - letters];
    return 0;
}

/* A string, behind its first quotation mark. */
static int json_string_node(json_reader *r) {
    size_t index;
    int status = json_add(r, GQA_JSON_STRING, &index);
    while (!status && r->at < r->end && *r->at != '"') {
        if (*r->at == '\\') {
            r->at++;
            status = json_escape(r);
            continue;
        }
        if ((unsigned char)*r->at < 0x20) return json_error(r, "a control character in a string");
        int n = utf8_length(r->at, (size_t)(r->end - r->at));
        if (n <= 0) return json_error(r, "a string that is not UTF-8");
        memcpy(r->written, r->at, (size_t)n);
        r->written += n;
        r->at += n;
    }
    if (status) return status;
    if (r->at == r->end) return json_expected(r, "'\"' after a string");
    r->at++;
    gqa_json_node *node = &r->json->nodes[index];
    node->len = (size_t)(r->written - node->text);
    *r->written++ = 0; /* there is room: the quotation marks are not copied */
    return 0;
}

/* ---- values ---------------------------------------------------------------------------------- */

static size_t json_digits(json_reader *r) {
    const char *first = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return (size_t)(r->at - first);
}

static int json_number(json_reader *r) {
    size_t index;
    const char *first = r->at;
    r->at += *r->at == '-';
    const char *digits = r->at;
    size_t n = json_digits(r);
    if (n == 0) return json_expected(r, "a value");
    if (*digits == '0' && n > 1) return json_error(r, "a number that begins with 0");
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!json_digits(r)) return json_expected(r, "a digit");
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!json_digits(r)) return json_expected(r, "a digit");
    }
    int status = json_add(r, GQA_JSON_NUMBER, &index);
    if (status) return status;
    size_t len = (size_t)(r->at - first);
    if (len > GQA_JSON_MAX_NUMBER) return json_error(r, "a number of too many digits");
    memcpy(r->written, first, len);
    r->written[len] = 0;       /* there is room: a delimiter or the end follows a number */
    r->written += len + 1;
    r->json->nodes[index].len = len;
    return 0;
}

static int json_word(json_reader *r) {
    static const struct {
        const char *word;
        gqa_json_kind kind;
    } words[] = {{"null", GQA_JSON_NULL}, {"false", GQA_JSON_FALSE}, {"true", GQA_JSON_TRUE}};
    for (size_t i = 0; i < array_length(words); i++) {
        size_t index, len = strlen(words[i].word);
        if ((size_t)(r->end - r->at) < len || memcmp(r->at, words[i].word, len) != 0) continue;
        r->at += len;
        return json_add(r, words[i].kind, &index);
    }
    return json_expected(r, "a value");
}

static int json_value(json_reader *r);

static int json_key(json_reader *r) {
    if (!json_next_is(r, '"')) return json_expected(r, "'\"' before a key");
    int status = json_string_node(r);
    if (!status && !json_next_is(r, ':')) status = json_expected(r, "':' after a key");
    return status;
}

/* An array or an object, behind its bracket. */
static int json_container(json_reader *r, gqa_json_kind kind) {
    char close = kind == GQA_JSON_ARRAY ? ']' : '}';
    size_t index;
    if (r->depth == GQA_JSON_MAX_DEPTH) return json_error(r, "nested too deeply");
    int status = json_add(r, kind, &index);
    r->depth++;
    for (int first = 1; !status && !json_next_is(r, close); first = 0) {
        if (!first && !json_next_is(r, ',')) {
            return json_expected(r, close == ']' ? "',' or ']'" : "',' or '}'");
        }
        if (kind == GQA_JSON_OBJECT) status = json_key(r);
        if (!status) status = json_value(r);
    }
    r->depth--;
    if (!status) r->json->nodes[index].size = r->json->n_nodes - index;
    return status;
}

static int json_value(json_reader *r) {
    if (json_next_is(r, '{')) return json_container(r, GQA_JSON_OBJECT);
    if (json_next_is(r, '[')) return json_container(r, GQA_JSON_ARRAY);
    if (json_next_is(r, '"')) return json_string_node(r);
    if (r->at < r->end && (*r->at == '-' || (*r->at >= '0' && *r->at <= '9')))
        return json_number(r);
    return json_word(r);
}

int gqa_json_parse(gqa_json *json, const char *text, size_t len, gqa_error *err) {
    json_reader r = {.text = text, .end = text + len, .at = text, .json = json, .err = err};
    *json = (gqa_json){0};
    if (len > GQA_JSON_MAX_BYTES)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "JSON: %zu bytes, at most %d are read", len,
                        GQA_JSON_MAX_BYTES);
    if (len >= 3 && !memcmp(text, "\uFEFF", 3)) r.at += 3; /* a byte order mark */
    json->text = r.written = malloc(len + 1);
    if (!r.written) return gqa_fail(err, GQA_ERR_MEMORY, "JSON: no memory for %zu bytes", len);
    int status = json_value(&r);
    json_skip_blanks(&r);
    if (!status && r.at < r.end) status = json_expected(&r, "the end");
    if (status) gqa_json_free(json);
    return status;
}

void gqa_json_free(gqa_json *json) {
    free(json->nodes);
    free(json->text);
    *json = (gqa_json){0};
}

double gqa_parse_double(const char *text) {
    char copy[GQA_JSON_MAX_NUMBER + 1];
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof copy; n++)
        copy[n] = text[n] == '.' ? localeconv()->decimal_point[0] : text[n];
    copy[n] = 0;
    return strtod(copy, NULL);
}
