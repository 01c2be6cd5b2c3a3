/* json.h: JSON on stdout or in a file, written member by member:
 *
 *     json_writer j = json_open();
 *     json_int(&j, "heads", 8);
 *     json_begin(&j, "depths", '[');
 *     json_int(&j, NULL, 1024);            // elements of an array have no name
 *     json_end(&j, ']');
 *     json_close(&j);                      // {"heads": 8, "depths": [1024]}
 */
#ifndef GQA_JSON_H
#define GQA_JSON_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json_writer {
    FILE *out;
    int comma;     /* the next member or element needs one before it */
} json_writer;

json_writer json_open(void);         /* { on stdout */
void json_close(json_writer *j);     /* } and a newline */
void json_begin(json_writer *j, const char *name, char bracket); /* { or [ */
void json_end(json_writer *j, char bracket);                     /* } or ] */
void json_int(json_writer *j, const char *name, int64_t value);
void json_bool(json_writer *j, const char *name, int value);
void json_double(json_writer *j, const char *name, double value); /* 8 digits; NaN: null */
void json_string(json_writer *j, const char *name, const char *text);
/* text[len], any bytes: what is not UTF-8 becomes U+FFFD. */
void json_text(json_writer *j, const char *name, const char *text, size_t len);

#endif
