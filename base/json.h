/* json.h: a reader of JSON (RFC 8259): a whole text into one array of nodes. */
#ifndef GQA_BASE_JSON_H
#define GQA_BASE_JSON_H

#include "base.h"

enum {
    GQA_JSON_MAX_DEPTH = 100,
    GQA_JSON_MAX_NUMBER = 400, /* characters */
    GQA_JSON_MAX_BYTES = 1 << 26
};

typedef enum gqa_json_kind {
    GQA_JSON_NULL, GQA_JSON_FALSE, GQA_JSON_TRUE, GQA_JSON_NUMBER, GQA_JSON_STRING,
    GQA_JSON_ARRAY, GQA_JSON_OBJECT
} gqa_json_kind;

/* A node is followed by its descendants: the elements of an array, the keys and values of an
 * object in turn. Keys may be repeated. */
typedef struct gqa_json_node {
    gqa_json_kind kind;
    const char *text;          /* [len], then a 0. Strings: valid UTF-8, may hold zeros; numbers: */
    size_t len;                /* as it was written */
    size_t size;               /* nodes: itself and its descendants */
} gqa_json_node;

typedef struct gqa_json {
    gqa_json_node *nodes;      /* [n_nodes], the value itself first */
    size_t n_nodes;
    char *text;                /* of all strings and numbers */
} gqa_json;

/* Errors name the line. After a failure *json is empty; gqa_json_free may be called either way. */
int gqa_json_parse(gqa_json *json, const char *text, size_t len, gqa_error *err);
void gqa_json_free(gqa_json *json);

/* The number that text is, at most GQA_JSON_MAX_NUMBER characters, whatever character the locale
 * has for the point. */
double gqa_parse_double(const char *text);

#endif
