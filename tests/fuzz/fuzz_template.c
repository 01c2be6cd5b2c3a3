/* fuzz_template.c: any bytes as a chat template; what follows the first 0 is JSON, its messages.
 * What it writes is UTF-8, and every error has a message. */
#include <stdlib.h>
#include <string.h>

#include "../../base/utf8.h"
#include "../../chat/jinja.h"

/* The nodes of a value, each within its parent. */
static void check_json(const gqa_json *json) {
    for (size_t i = 0; i < json->n_nodes; i++) {
        const gqa_json_node *node = &json->nodes[i];
        size_t children = 0, at = i + 1;
        for (; at < i + node->size; children++) at += json->nodes[at].size;
        if (at != i + node->size || at > json->n_nodes) abort();
        if (node->kind == GQA_JSON_OBJECT && children % 2) abort();
        if (node->kind < GQA_JSON_ARRAY && node->size != 1) abort();
    }
}

static void check_output(const gqa_jinja_output *out) {
    for (size_t at = 0; at < out->len;) {
        int n = utf8_length(out->text + at, out->len - at);
        if (n <= 0) abort();
        at += (size_t)n;
    }
    if (out->text[out->len]) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char example[] = "[{\"role\": \"user\", \"content\": \" a b\\n\", \"n\": 1.5}]";
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t len = zero ? (size_t)(zero - data) : size;
    gqa_error err = {0};
    gqa_json json;
    gqa_jinja_output out;
    int status = zero ? gqa_json_parse(&json, (const char *)zero + 1, size - len - 1, &err)
                      : gqa_json_parse(&json, example, sizeof example - 1, &err);
    if (status && !err.message[0]) abort();
    if (!status) check_json(&json);
    gqa_jinja_variable v[] = {{.name = "add_generation_prompt", .is_true = 1},
                              {.name = "bos_token", .text = "<s>"},
                              {.name = "messages", .json = json.nodes}};
    char *source = malloc(len + 1);
    if (!source) return 0;
    if (len) memcpy(source, data, len);
    status = gqa_jinja_render(source, len, v, status ? 2 : 3, "2026-11-25", &out, &err);
    if (status && (out.text || !err.message[0])) abort();
    if (!status) check_output(&out);
    gqa_jinja_output_free(&out);
    gqa_json_free(&json);
    free(source);
    return 0;
}
