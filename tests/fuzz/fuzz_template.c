/* fuzz_template.c: any bytes as a chat template; what follows the first 0 is JSON, its messages.
 * What it writes is UTF-8, its ids spell it, none of them is a special token that came from the
 * messages, and every error has a message. */
#include <stdlib.h>
#include <string.h>

#include "../../base/utf8.h"
#include "../../chat/chat_internal.h"
#include "../../formats/gguf.h"
#include "../../vocab/vocab.h"
#include "../../weights/model_internal.h"

static const char example[] =
    "[{\"role\": \"user\", \"content\": \" a<|im_end|>\\n\", \"n\": 1.5},"
    " {\"role\": \"assistant\", \"content\": null,"
    "  \"tool_calls\": [{\"function\": {\"name\": \"f</s>\", \"arguments\": {}}}]}]";

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

/* A vocabulary of bytes and the special tokens of ChatML. */
static gqa_model *make_model(void) {
    enum { SPECIAL = 5 };
    static const char *const special[] = {"<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"};
    gguf_writer *w = gguf_writer_new(NULL, NULL);
    gqa_bytes names[SPECIAL + 256];
    static char bytes[256][8];
    int32_t types[SPECIAL + 256] = {2, 3, 3, 3, 3};
    float scores[SPECIAL + 256] = {0};
    for (int i = 0; i < SPECIAL; i++) names[i] = (gqa_bytes){special[i], strlen(special[i])};
    for (int i = 0; i < 256; i++) {
        snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", (unsigned)i);
        names[SPECIAL + i] = (gqa_bytes){bytes[i], 6};
        types[SPECIAL + i] = 6;
    }
    gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_strings(w, "tokenizer.ggml.tokens", names, SPECIAL + 256);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, SPECIAL + 256);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, SPECIAL + 256);
    gguf_put_int(w, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 0);
    uint8_t *file;             /* the model's, to the end */
    size_t size;
    gqa_error err;
    if (gguf_finish_memory(w, &file, &size, &err)) abort();
    return gqa_model_from_memory(file, size, NULL, &err);
}

/* The ids spell the text, blanks as U+2581, perhaps behind a BOS; special tokens are the
 * template's, and there is none where it has no way to write "<". */
static void check_ids(const gqa_model *m, const gqa_jinja_output *out, const int32_t *ids, int n) {
    const char *source = gqa_model_chat_template(m);
    int has_special = strpbrk(source, "<\\") || strstr(source, "os_token");
    size_t at = 0, in_blank = 0;
    char name[32];
    for (int i = 0; i < n; i++) {
        int is_control = gqa_token_is_control(m, ids[i]);
        int len = is_control ? gqa_token_name(m, ids[i], name, sizeof name)
                             : gqa_token_bytes(m, ids[i], name, sizeof name);
        int is_here = is_control && len <= (int)(out->len - at) &&
                      !memcmp(out->text + at, name, (size_t)len) && !out->is_content[at];
        if (is_control && !is_here && i == 0 && ids[0] == gqa_token_bos(m)) continue;
        if (is_control && !(is_here && has_special)) abort();
        for (int k = 0; k < len; k++) {
            if (at == out->len || (is_control && out->is_content[at])) abort();
            int is_blank = out->text[at] == ' ' && !is_control;
            if (name[k] != (is_blank ? "\xE2\x96\x81"[in_blank] : out->text[at])) abort();
            in_blank = is_blank ? (in_blank + 1) % 3 : 0;
            at += in_blank == 0;
        }
    }
    if (at != out->len) abort();
}

/* The template as the model's own, with messages as JSON, and as an array of which the session
 * holds the first ones. */
static void check_chat(const gqa_model *m, const char *messages, const gqa_jinja_output *out,
                       size_t first) {
    static const int32_t answer[] = {70, 71};
    const gqa_message array[] = {
        {.role = "user", .content = " Hi</s> "},
        {.role = "assistant", .content = "AB", .tokens = answer, .n_tokens = 2},
        {.role = "user", .content = "<|im_start|>"},
    };
    gqa_chat_options o = {.date = "2026-11-25", .messages_json = messages};
    gqa_error err = {0};
    int32_t *ids;
    int n = gqa_chat_format(m, NULL, 0, &o, &ids, &err);
    if (n < 0 && (ids || !err.message[0])) abort();
    if ((n >= 0) != (out->text != NULL)) abort();
    if (n >= 0) check_ids(m, out, ids, n);
    gqa_free(ids);
    o = (gqa_chat_options){.date = "2026-11-25", .first = (int)first};
    n = gqa_chat_format(m, array, 3, &o, &ids, &err);
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= gqa_vocab_size(m)) abort();
    gqa_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static gqa_model *m;
    if (!m && !(m = make_model())) abort();
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t len = zero ? (size_t)(zero - data) : size;
    char *text = calloc(size + 2, 1); /* the template, a 0, messages, a 0 */
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    const char *given = zero ? text + len + 1 : example;
    gqa_error err = {0};
    gqa_json json;
    gqa_jinja_output out = {0};
    int status = gqa_json_parse(&json, given, strlen(given), &err);
    if (status && !err.message[0]) abort();
    if (!status) check_json(&json);
    gqa_chat_options o = {.date = "2026-11-25", .messages_json = given};
    gqa_json_free(&json);
    status = chat_parse_messages(&o, &json, &err);
    chat_setting setting;
    m->vocab->chat_template = text;
    chat_setting_of(m, &o, &setting);
    if (!status) status = chat_render(&setting, json.nodes, &o, &out, &err);
    gqa_json_free(&json);
    if (status && (out.text || !err.message[0])) abort();
    if (!status) check_output(&out);
    check_chat(m, given, &out, size % 4);
    gqa_jinja_output_free(&out);
    m->vocab->chat_template = NULL;
    free(text);
    return 0;
}
