/* json_member.h: parts of a JSON value, for tests that read their cases from a file. */
#ifndef GQA_TEST_JSON_MEMBER_H
#define GQA_TEST_JSON_MEMBER_H

#include <stdlib.h>
#include <string.h>

#include "../base/json.h"

/* The value of a key of an object, or NULL. */
__attribute__((unused)) static const gqa_json_node *member(const gqa_json_node *object,
                                                           const char *key) {
    const gqa_json_node *end = object + object->size;
    for (const gqa_json_node *at = object + 1; at < end; at += 1 + at[1].size)
        if (at->len == strlen(key) && !memcmp(at->text, key, at->len)) return at + 1;
    return NULL;
}

__attribute__((unused)) static const gqa_json_node *element(const gqa_json_node *array, int index) {
    const gqa_json_node *at = array + 1;
    while (index--) at += at->size;
    return at;
}

/* A string with a 0 after it, for free(). */
__attribute__((unused)) static char *copy_string(const gqa_json_node *node) {
    char *text = calloc(node->len + 1, 1);
    if (text) memcpy(text, node->text, node->len);
    return text;
}

#endif
