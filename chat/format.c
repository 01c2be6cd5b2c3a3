/* format.c: a conversation as token ids. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "../weights/model_internal.h"
#include "chat_internal.h"

static const gqa_chat_options default_chat_options;

static int check_chat_options(const gqa_chat_options *opt, int n, gqa_error *err) {
    if (opt->first < 0 || opt->first > n)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: first is %d, expected 0 to %d", opt->first,
                        n);
    if (opt->thinking < -1 || opt->thinking > 1)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: thinking is %d, expected -1, 0 or 1",
                        opt->thinking);
    if (opt->template_name && !chat_template_named(opt->template_name))
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "chat template \"%.40s\": expected llama3, chatml, llama2, mistral, zephyr "
                        "or plain", opt->template_name);
    struct tm tm;
    if (opt->date && jinja_parse_date(opt->date, &tm))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: date \"%.40s\", expected YYYY-MM-DD",
                        opt->date);
    return gqa_check_reserved(opt->reserved, sizeof opt->reserved, "chat options", err);
}

/* Whether the tokens of message i are ids of the model. */
static int check_ids(const gqa_model *m, const gqa_message *message, int i, gqa_error *err) {
    int n_ids = max_int(gqa_vocab_size(m), m->config.vocab_size);
    if (message->n_tokens < 0 || (message->n_tokens > 0 && !message->tokens))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: message %d has %d tokens at NULL", i,
                        message->n_tokens);
    for (int t = 0; t < message->n_tokens; t++)
        if (message->tokens[t] < 0 || message->tokens[t] >= n_ids)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: message %d, token %d: id %d, expected 0 "
                            "to %d", i, t, message->tokens[t], n_ids - 1);
    return 0;
}

static int check_messages(const gqa_model *model, const gqa_message *messages, int n,
                          const gqa_chat_options *opt, gqa_error *err) {
    if (opt->messages_json && (messages || n))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: messages or messages_json, got both");
    if (opt->messages_json) return 0;
    if (!messages) return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: messages is NULL");
    if (n < 1)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: %d messages, expected at least 1", n);
    for (int i = 0; i < n; i++) {
        const gqa_message *m = &messages[i];
        if (!m->role || !m->content)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: message %d has no role or no content", i);
        if (check_ids(model, m, i, err)) return GQA_ERR_ARGUMENT;
        if (gqa_check_reserved(m->reserved, sizeof m->reserved, "message", err))
            return GQA_ERR_ARGUMENT;
    }
    return 0;
}

/* ---- messages as JSON ------------------------------------------------------------------------ */

/* A string node whose text is a copy at *end, in which bytes that are not UTF-8 are U+FFFD. */
static gqa_json_node string_node(const char *text, char **end) {
    size_t len = strlen(text);
    char *copy = *end;
    for (size_t i = 0; i < len;) {
        int n = utf8_length(text + i, len - i);
        memcpy(*end, n > 0 ? text + i : "\uFFFD", n > 0 ? (size_t)n : 3);
        *end += n > 0 ? n : 3;
        i += n > 0 ? (size_t)n : 1;
    }
    *(*end)++ = 0;
    return (gqa_json_node){GQA_JSON_STRING, copy, (size_t)(*end - 1 - copy), 1};
}

enum { MESSAGE_NODES = 5 }; /* the object, two keys, two values */

/* The messages as an array of objects; json->text holds all strings. */
static int json_of(const gqa_message *messages, int n, gqa_json *json, gqa_error *err) {
    size_t bytes = 1;
    for (int i = 0; i < n; i++)
        bytes += 3 * (strlen(messages[i].role) + strlen(messages[i].content)) + 2;
    json->n_nodes = 1 + (size_t)n * MESSAGE_NODES;
    json->nodes = calloc(json->n_nodes, sizeof *json->nodes);
    json->text = malloc(bytes);
    if (!json->nodes || !json->text)
        return gqa_fail(err, GQA_ERR_MEMORY, "chat: no memory for %d messages", n);
    gqa_json_node *at = json->nodes;
    char *end = json->text;
    *at++ = (gqa_json_node){.kind = GQA_JSON_ARRAY, .size = json->n_nodes};
    for (int i = 0; i < n; i++) {
        *at++ = (gqa_json_node){.kind = GQA_JSON_OBJECT, .size = MESSAGE_NODES};
        *at++ = (gqa_json_node){GQA_JSON_STRING, "role", 4, 1};
        *at++ = string_node(messages[i].role, &end);
        *at++ = (gqa_json_node){GQA_JSON_STRING, "content", 7, 1};
        *at++ = string_node(messages[i].content, &end);
    }
    return 0;
}

/* ---- text to ids ----------------------------------------------------------------------------- */

typedef struct token_list {
    int32_t *ids;
    int n;
} token_list;

static int append_ids(token_list *list, const int32_t *ids, int n, gqa_error *err) {
    if (n == 0) return 0;
    if (n > INT_MAX - list->n)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: more than %d tokens", INT_MAX);
    int32_t *grown = realloc(list->ids, sizeof *ids * list->n + sizeof *ids * n);
    if (!grown) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for %d tokens", list->n + n);
    memcpy(grown + list->n, ids, sizeof *ids * n);
    list->ids = grown;
    list->n += n;
    return 0;
}

/* Bytes from .. to of the text; the first of a text gets BOS where the model asks for it. */
static int append_text(const gqa_model *m, token_list *list, const gqa_jinja_output *out,
                       size_t from, size_t to, gqa_error *err) {
    int32_t *ids;
    unsigned flags = GQA_TOKENIZE_SPECIAL | (from == 0 ? GQA_TOKENIZE_BOS : 0u);
    int n = gqa_tokenize_marked(m, out->text + from, out->is_content + from, to - from, flags, &ids,
                                err);
    int status = n < 0 ? n : append_ids(list, ids, n, err);
    gqa_free(ids);
    return status;
}

/* Where, from `from` on, the content of message i stands unchanged and alone; SIZE_MAX: nowhere. */
static size_t find_content(const gqa_jinja_output *out, size_t from, int i, const char *content) {
    unsigned char mark = GQA_JINJA_MARK(i);
    size_t len = strlen(content), end;
    for (size_t at = from; at < out->len; at = end + 1) {
        for (end = at; end < out->len && out->is_content[end] == mark; end++) continue;
        if (len && end - at == len && !memcmp(out->text + at, content, len)) return at;
    }
    return SIZE_MAX;
}

int chat_tokenize(const gqa_model *m, const gqa_jinja_output *out, size_t from,
                  const gqa_message *messages, int n, int32_t **tokens, gqa_error *err) {
    token_list list = {0};
    int status = 0;
    *tokens = NULL;
    for (int i = 0; i < n && !status; i++) {
        if (!messages[i].tokens) continue;
        size_t at = find_content(out, from, i, messages[i].content);
        if (at == SIZE_MAX) continue;
        status = append_text(m, &list, out, from, at, err);
        if (!status) status = append_ids(&list, messages[i].tokens, messages[i].n_tokens, err);
        from = at + strlen(messages[i].content);
    }
    if (!status && from < out->len) status = append_text(m, &list, out, from, out->len, err);
    if (!status && !list.ids) list.ids = malloc(sizeof *list.ids); /* of no tokens */
    if (!status && !list.ids) status = gqa_fail(err, GQA_ERR_MEMORY, "no memory for a chat");
    if (status) {
        free(list.ids);
        return status;
    }
    *tokens = list.ids;
    return list.n;
}

/* ---- what the session holds already ---------------------------------------------------------- */

/* The end of the last bytes of message i; 0: it has none. */
static size_t end_of_message(const gqa_jinja_output *out, int i) {
    size_t end = out->len;
    while (end > 0 && out->is_content[end - 1] != GQA_JINJA_MARK(i)) end--;
    return end;
}

/* Where the text of messages `first` and later begins: after the content of an answer, which was
 * generated without its end, or after all that the template writes of the messages before. */
static int find_first(const chat_setting *setting, const gqa_json *json,
                      const gqa_message *messages, const gqa_chat_options *opt,
                      const gqa_jinja_output *out, size_t *from, gqa_error *err) {
    int first = opt->first;
    *from = 0;
    if (first == 0) return 0;
    if (!strcmp(messages[first - 1].role, "assistant")) {
        *from = end_of_message(out, first - 1);
        if (*from) return 0;
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "chat: the template does not write message %d",
                        first - 1);
    }
    gqa_json_node whole = json->nodes[0];
    gqa_chat_options before = *opt;
    gqa_jinja_output held;
    before.no_generation_prompt = 1;
    json->nodes[0].size = 1 + (size_t)first * MESSAGE_NODES;
    int status = chat_render(setting, json->nodes, &before, &held, err);
    json->nodes[0] = whole;
    if (status) return status;
    *from = held.len;
    if (held.len > out->len || memcmp(held.text, out->text, held.len))
        status = gqa_fail(err, GQA_ERR_UNSUPPORTED,
                          "chat: the template writes message %d in another way when others follow",
                          first - 1);
    gqa_jinja_output_free(&held);
    return status;
}

/* ---- the interface --------------------------------------------------------------------------- */

int gqa_chat_format(const gqa_model *m, const gqa_message *messages, int n,
                    const gqa_chat_options *opt, int32_t **tokens, gqa_error *err) {
    if (!opt) opt = &default_chat_options;
    if (tokens) *tokens = NULL;
    if (!m || !tokens) return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: model or tokens is NULL");
    int status = check_chat_options(opt, n, err);
    if (!status) status = check_messages(m, messages, n, opt, err);
    if (status) return status;
    chat_setting setting;
    gqa_json json = {0};
    gqa_jinja_output out = {0};
    size_t from = 0;
    chat_setting_of(m, opt, &setting);
    status = opt->messages_json ? chat_parse_messages(opt, &json, err)
                                : json_of(messages, n, &json, err);
    if (!status) status = chat_render(&setting, json.nodes, opt, &out, err);
    if (!status) status = find_first(&setting, &json, messages, opt, &out, &from, err);
    if (!status) status = chat_tokenize(m, &out, from, messages, n, tokens, err);
    gqa_jinja_output_free(&out);
    gqa_json_free(&json);
    return status;
}

/* The template of the table that is used; NULL: the model's own, or there is none of that name. */
static const chat_template *table_template(const gqa_model *m, const gqa_chat_options *opt) {
    if (opt && opt->template_name) return chat_template_named(opt->template_name);
    return m && !gqa_model_chat_template(m) ? chat_template_for_tokens(m) : NULL;
}

static int has_reserved(const gqa_chat_options *opt) {
    return opt && gqa_check_reserved(opt->reserved, sizeof opt->reserved, "chat options", NULL);
}

const char *gqa_chat_template_name(const gqa_model *m, const gqa_chat_options *opt) {
    if (has_reserved(opt)) return NULL;
    const chat_template *t = table_template(m, opt);
    if (t) return t->name;
    return m && !(opt && opt->template_name) ? "own" : NULL;
}

const char *gqa_chat_stop(const gqa_model *m, const gqa_chat_options *opt) {
    const chat_template *t = has_reserved(opt) ? NULL : table_template(m, opt);
    return t ? t->stop : NULL;
}
