/* jinja.h: runs a chat template: the part of Jinja that templates use, as transformers sets it up
 * (trim_blocks, lstrip_blocks, loop controls, an immutable sandbox). What is not known is an error
 * that names it and its line. */
#ifndef GQA_JINJA_H
#define GQA_JINJA_H

#include <time.h>

#include "../base/base.h"
#include "../base/json.h"

/* A variable of the template. Both pointers NULL: a boolean. */
typedef struct gqa_jinja_variable {
    const char *name;
    const gqa_json_node *json; /* a value of the caller: its strings are content */
    const char *text;          /* a string that counts as the template's own: bos_token, ... */
    int is_true;
} gqa_jinja_variable;

/* What a template wrote. is_content tells for each byte whether it came from a string of the
 * caller's JSON, also where the template trimmed, split, joined or replaced it: 0 or a mark, which
 * is GQA_JINJA_MARK(i) for element i of an array such as messages. */
#define GQA_JINJA_MARK(i) ((unsigned char)(1 + (i) % 255))
typedef struct gqa_jinja_output {
    char *text;                /* [len], UTF-8, then a 0 */
    unsigned char *is_content; /* [len] */
    size_t len;
} gqa_jinja_output;

/* date: "YYYY-MM-DD" for strftime_now (its time is 00:00); NULL: strftime_now is an error.
 * GQA_ERR_ARGUMENT: the template called raise_exception; the message is its own. Other errors name
 * the line of the template: GQA_ERR_FORMAT for what Jinja refuses too, GQA_ERR_UNSUPPORTED for what
 * is not known here and for limits. After a failure *out is empty. */
int gqa_jinja_render(const char *source, size_t len, const gqa_jinja_variable *variables, int n,
                     const char *date, gqa_jinja_output *out, gqa_error *err);
void gqa_jinja_output_free(gqa_jinja_output *out);

/* "YYYY-MM-DD" as midnight of that day; -1: it is none. */
int jinja_parse_date(const char *text, struct tm *tm);

#endif
