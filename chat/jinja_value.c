/* jinja_value.c: errors, memory, texts with their origin, and values. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "jinja_internal.h"

/* ---- errors and limits ----------------------------------------------------------------------- */

GQA_PRINTF(3, 0)
static jinja_value jinja_vfail(jinja *j, gqa_status code, const char *format, va_list args) {
    char where[64];
    snprintf(where, sizeof where, "chat template, line %d", j->line);
    if (!j->status) j->status = gqa_vfail(where, j->err, code, format, args);
    return jinja_none();
}

jinja_value jinja_fail(jinja *j, const char *format, ...) {
    va_list args;
    va_start(args, format);
    jinja_value none = jinja_vfail(j, GQA_ERR_FORMAT, format, args);
    va_end(args);
    return none;
}

jinja_value jinja_unsupported(jinja *j, const char *format, ...) {
    va_list args;
    va_start(args, format);
    jinja_value none = jinja_vfail(j, GQA_ERR_UNSUPPORTED, format, args);
    va_end(args);
    return none;
}

int jinja_spend(jinja *j, size_t n) {
    if (j->status) return j->status;
    if (n > (size_t)(JINJA_MAX_STEPS - j->steps))
        jinja_unsupported(j, "more than %d steps", JINJA_MAX_STEPS);
    else
        j->steps += (int)n;
    return j->status;
}

int jinja_enter(jinja *j) {
    if (jinja_spend(j, 1)) return j->status;
    if (j->depth == JINJA_MAX_DEPTH) jinja_unsupported(j, "nested deeper than %d", j->depth);
    else j->depth++;
    return j->status;
}

void jinja_leave(jinja *j) { j->depth--; }

/* ---- the arena ------------------------------------------------------------------------------- */

typedef struct jinja_block {
    struct jinja_block *next;
    size_t size, used;
    max_align_t data[];
} jinja_block;

void *jinja_alloc(jinja *j, size_t size) {
    enum { BLOCK = 1 << 15 };
    jinja_block *block = j->blocks;
    if (j->status) return NULL;
    size = round_up(size, sizeof(max_align_t));
    if (!block || block->size - block->used < size) {
        size_t capacity = max_size(size, BLOCK - sizeof *block);
        if (capacity > JINJA_MAX_MEMORY - j->memory)
            jinja_unsupported(j, "more than %d bytes of memory", JINJA_MAX_MEMORY);
        else if (!(block = calloc(1, sizeof *block + capacity)))
            j->status = gqa_fail(j->err, GQA_ERR_MEMORY, "chat template: out of memory");
        if (j->status) return NULL;
        *block = (jinja_block){.next = j->blocks, .size = capacity};
        j->blocks = block;
        j->memory += capacity;
    }
    block->used += size;
    return (char *)block->data + block->used - size;
}

void jinja_free_all(jinja *j) {
    while (j->blocks) {
        jinja_block *next = j->blocks->next;
        free(j->blocks);
        j->blocks = next;
    }
}

/* ---- texts ----------------------------------------------------------------------------------- */

jinja_text jinja_literal(const char *text) { return (jinja_text){text, NULL, strlen(text)}; }

jinja_text jinja_part(jinja_text text, size_t from, size_t len) {
    const unsigned char *is_content = text.is_content ? text.is_content + from : NULL;
    return (jinja_text){text.bytes + from, is_content, len};
}

int jinja_text_is(jinja_text text, const char *word) {
    return text.len == strlen(word) && memcmp(text.bytes, word, text.len) == 0;
}

const char *jinja_shown(jinja *j, jinja_text text) {
    size_t len = min_size(text.len, 80);
    char *copy = jinja_alloc(j, len + 1);
    return copy ? memcpy(copy, text.bytes, len) : "";
}

/* Makes room for n more bytes. 0, or nonzero after an error. */
static int jinja_reserve(jinja *j, jinja_builder *b, size_t n) {
    if (jinja_spend(j, n / 64)) return j->status;
    if (n > JINJA_MAX_TEXT - b->len) {
        jinja_unsupported(j, "a text of more than %d bytes", JINJA_MAX_TEXT);
        return j->status;
    }
    if (b->len + n <= b->capacity) return 0;
    size_t capacity = max_size(b->capacity * 2, b->len + n + 16);
    char *bytes = jinja_alloc(j, 2 * capacity);
    if (!bytes) return j->status;
    if (b->len) {
        memcpy(bytes, b->bytes, b->len);
        memcpy(bytes + capacity, b->is_content, b->len);
    }
    b->bytes = bytes;
    b->is_content = (unsigned char *)bytes + capacity;
    b->capacity = capacity;
    return 0;
}

void jinja_put(jinja *j, jinja_builder *b, jinja_text text) {
    if (text.len == 0 || jinja_reserve(j, b, text.len)) return;
    memcpy(b->bytes + b->len, text.bytes, text.len);
    if (text.is_content) memcpy(b->is_content + b->len, text.is_content, text.len);
    else memset(b->is_content + b->len, 0, text.len);
    b->len += text.len;
}

void jinja_put_literal(jinja *j, jinja_builder *b, const char *text) {
    jinja_put(j, b, jinja_literal(text));
}

void jinja_put_char(jinja *j, jinja_builder *b, uint32_t c, unsigned char is_content) {
    char bytes[4];
    unsigned char origin[4] = {is_content, is_content, is_content, is_content};
    jinja_put(j, b, (jinja_text){bytes, origin, (size_t)utf8_encode(bytes, c)});
}

jinja_value jinja_built(jinja *j, const jinja_builder *b) {
    return jinja_string(j, (jinja_text){b->bytes ? b->bytes : "", b->is_content, b->len});
}

/* ---- values ---------------------------------------------------------------------------------- */

jinja_value jinja_none(void) { return (jinja_value){.kind = JINJA_NONE}; }
jinja_value jinja_bool(int value) {
    return (jinja_value){.kind = JINJA_BOOL, .integer = value != 0};
}
jinja_value jinja_int(int64_t value) {
    return (jinja_value){.kind = JINJA_INT, .integer = value};
}
jinja_value jinja_float(double value) {
    return (jinja_value){.kind = JINJA_FLOAT, .number = value};
}
jinja_value jinja_string(jinja *j, jinja_text text) {
    static const jinja_text empty = {"", NULL, 0};
    jinja_text *copy = jinja_alloc(j, sizeof *copy);
    if (copy) *copy = text;
    return (jinja_value){.kind = JINJA_STRING, .text = copy ? copy : &empty};
}

jinja_value jinja_undefined(jinja *j, const char *format, ...) {
    enum { SIZE = 200 };
    char *why = jinja_alloc(j, SIZE);
    va_list args;
    va_start(args, format);
    if (why) vsnprintf(why, SIZE, format, args);
    va_end(args);
    return (jinja_value){.kind = JINJA_UNDEFINED, .why = why ? why : ""};
}

jinja_value jinja_new(jinja *j, jinja_kind kind) {
    return (jinja_value){.kind = kind, .list = jinja_alloc(j, sizeof(jinja_list))};
}

void jinja_append(jinja *j, jinja_list *list, jinja_value value) {
    if (!list || jinja_spend(j, 1)) return;
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 4;
        jinja_value *items = jinja_alloc(j, capacity * sizeof *items);
        if (!items) return;
        if (list->n) memcpy(items, list->items, list->n * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = value;
}

int jinja_is_hashable(jinja *j, jinja_value key) {
    if (key.kind != JINJA_TUPLE) return key.kind != JINJA_LIST && key.kind != JINJA_DICT;
    if (jinja_enter(j)) return 0;
    size_t i = 0;
    while (i < key.list->n && jinja_is_hashable(j, key.list->items[i])) i++;
    jinja_leave(j);
    return i == key.list->n;
}

/* A dict is searched from its beginning. */
jinja_value *jinja_find(jinja *j, const jinja_list *dict, jinja_value key) {
    if (!dict || jinja_spend(j, dict->n / 8)) return NULL;
    if (!jinja_is_hashable(j, key)) {
        jinja_fail(j, "unhashable type: '%s'", jinja_type(key));
        return NULL;
    }
    for (size_t i = 0; i < dict->n; i += 2)
        if (jinja_equal(j, dict->items[i], key)) return &dict->items[i + 1];
    return NULL;
}

jinja_value *jinja_find_name(jinja *j, const jinja_list *dict, jinja_text name) {
    return jinja_find(j, dict, (jinja_value){.kind = JINJA_STRING, .text = &name});
}

void jinja_set(jinja *j, jinja_list *dict, jinja_value key, jinja_value value) {
    jinja_value *old = jinja_find(j, dict, key);
    if (old) {
        *old = value;
        return;
    }
    jinja_append(j, dict, key);
    jinja_append(j, dict, value);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static jinja_value jinja_json_number(jinja *j, const gqa_json_node *node) {
    if (strpbrk(node->text, ".eE")) return jinja_float(gqa_parse_double(node->text));
    errno = 0;
    long long value = strtoll(node->text, NULL, 10);
    if (errno) return jinja_unsupported(j, "the number %.40s does not fit 64 bits", node->text);
    return jinja_int(value);
}

static jinja_value jinja_json_string(jinja *j, const gqa_json_node *node) {
    unsigned char *is_content = j->mark ? jinja_alloc(j, node->len) : NULL;
    if (is_content) memset(is_content, j->mark, node->len);
    return jinja_string(j, (jinja_text){node->text, is_content, node->len});
}

static jinja_value jinja_json_container(jinja *j, const gqa_json_node *node, jinja_kind kind) {
    jinja_value v = jinja_new(j, kind);
    const gqa_json_node *end = node + node->size;
    for (const gqa_json_node *at = node + 1; at < end && !j->status; at += at->size) {
        jinja_value item = jinja_from_json(j, at);
        if (kind == JINJA_LIST) {
            jinja_append(j, v.list, item);
        } else {
            at++; /* from the key to its value */
            jinja_set(j, v.list, item, jinja_from_json(j, at));
        }
    }
    return v;
}

jinja_value jinja_from_json(jinja *j, const gqa_json_node *node) {
    switch (node->kind) {
    case GQA_JSON_FALSE:
    case GQA_JSON_TRUE: return jinja_bool(node->kind == GQA_JSON_TRUE);
    case GQA_JSON_NUMBER: return jinja_json_number(j, node);
    case GQA_JSON_STRING: return jinja_json_string(j, node);
    case GQA_JSON_ARRAY: return jinja_json_container(j, node, JINJA_LIST);
    case GQA_JSON_OBJECT: return jinja_json_container(j, node, JINJA_DICT);
    default: return jinja_none();
    }
}
