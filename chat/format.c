/* format.c: a conversation as token ids. */
#include <stdlib.h>
#include <string.h>

#include "chat_internal.h"

static const gqa_chat_options default_chat_options;

static int check_chat_options(const gqa_chat_options *opt, int n, gqa_error *err) {
    if (opt->first < 0 || opt->first > n)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: first is %d, expected 0 to %d", opt->first,
                        n);
    if (opt->thinking || opt->date || opt->tools)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED,
                        "chat: thinking, date and tools are not supported in this version");
    if (opt->template_name && !chat_template_named(opt->template_name))
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "chat template \"%.40s\": expected llama3, chatml, llama2, mistral, zephyr "
                        "or plain", opt->template_name);
    return gqa_check_reserved(opt->reserved, sizeof opt->reserved, "chat options", err);
}

static int check_messages(const chat_template *t, const gqa_message *messages, int n,
                          gqa_error *err) {
    if (!messages) return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: messages is NULL");
    if (n < 1)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: %d messages, expected at least 1", n);
    for (int i = 0; i < n; i++) {
        const char *role = messages[i].role;
        if (!role || !messages[i].content)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: message %d has no role or no content", i);
        int system = !strcmp(role, "system");
        if (!system && strcmp(role, "user") && strcmp(role, "assistant"))
            return gqa_fail(err, GQA_ERR_ARGUMENT,
                            "chat: message %d: role \"%.40s\", expected system, user or assistant",
                            i, role);
        if (system && t->system_inside && (i + 1 == n || strcmp(messages[i + 1].role, "user")))
            return gqa_fail(err, GQA_ERR_ARGUMENT,
                            "chat: message %d: with the %s template a user's message must follow a "
                            "system message", i, t->name);
    }
    return 0;
}

/* ---- segments to tokens ---------------------------------------------------------------------- */

typedef struct token_list {
    int32_t *ids;
    int n;
} token_list;

static int append_tokens(const gqa_model *m, token_list *list, const char *text, unsigned flags,
                         gqa_error *err) {
    int32_t *ids;
    int n = gqa_tokenize_new(m, text, strlen(text), flags, &ids, err);
    if (n < 0) return n;
    int32_t *grown = realloc(list->ids, sizeof *ids * (size_t)(list->n + n + 1));
    if (grown) {
        memcpy(grown + list->n, ids, sizeof *ids * (size_t)n);
        list->ids = grown;
        list->n += n;
    }
    gqa_free(ids);
    return grown ? 0 : gqa_fail(err, GQA_ERR_MEMORY, "no memory for %d tokens", list->n + n);
}

/* Whether the text spells a special token, which it must not become; negative on failure. */
static int holds_special(const gqa_model *m, const char *text, gqa_error *err) {
    token_list plain = {0}, special = {0};
    int status = append_tokens(m, &plain, text, 0, err);
    if (!status) status = append_tokens(m, &special, text, GQA_TOKENIZE_SPECIAL, err);
    if (!status)
        status = plain.n != special.n ||
                 memcmp(plain.ids, special.ids, sizeof *plain.ids * (size_t)plain.n) != 0;
    free(plain.ids);
    free(special.ids);
    return status;
}

/* The segments as one text where that is safe, because that is how models were trained; else the
 * content of each message for itself. */
static int tokenize_segments(const gqa_model *m, const chat_segment *segments, int n,
                             unsigned flags, token_list *out, gqa_error *err) {
    size_t len = 1;
    int split = 0, status = 0;
    for (int i = 0; i < n && split >= 0; i++) {
        len += strlen(segments[i].text);
        if (segments[i].is_content && !split) split = holds_special(m, segments[i].text, err);
    }
    if (split < 0) return split;
    char *text = malloc(len), *end = text;
    if (!text) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for %zu bytes of a chat", len);
    *end = 0;
    for (int i = 0; i < n && !status; i++) {
        size_t size = strlen(segments[i].text);
        if (!split || !segments[i].is_content) {
            memcpy(end, segments[i].text, size + 1);
            end += size;
            continue;
        }
        if (*text) status = append_tokens(m, out, text, flags, err);
        if (!status) status = append_tokens(m, out, segments[i].text, 0, err);
        flags &= ~(unsigned)GQA_TOKENIZE_BOS;
        end = text;
        *end = 0;
    }
    if (!status && *text) status = append_tokens(m, out, text, flags, err);
    free(text);
    return status;
}

/* ---- the interface --------------------------------------------------------------------------- */

static const chat_template *template_for(const gqa_model *m, const gqa_chat_options *opt) {
    if (opt && opt->template_name) return chat_template_named(opt->template_name);
    return m ? chat_template_of(m) : NULL;
}

int gqa_chat_format(const gqa_model *m, const gqa_message *messages, int n,
                    const gqa_chat_options *opt, int32_t **tokens, gqa_error *err) {
    if (!opt) opt = &default_chat_options;
    if (!m || !tokens) return gqa_fail(err, GQA_ERR_ARGUMENT, "chat: model or tokens is NULL");
    *tokens = NULL;
    int status = check_chat_options(opt, n, err);
    if (status) return status;
    const chat_template *t = template_for(m, opt);
    status = check_messages(t, messages, n, err);
    if (status) return status;
    chat_segment *segments = calloc((size_t)n * 4 + 2, sizeof *segments);
    if (!segments) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for %d messages", n);
    token_list list = {0};
    int count = chat_segments(t, messages, n, opt, segments);
    unsigned flags = GQA_TOKENIZE_SPECIAL | (opt->first == 0 ? GQA_TOKENIZE_BOS : 0u);
    status = tokenize_segments(m, segments, count, flags, &list, err);
    free(segments);
    if (status) {
        free(list.ids);
        return status;
    }
    *tokens = list.ids;
    return list.n;
}

const char *gqa_chat_template_name(const gqa_model *m, const gqa_chat_options *opt) {
    const chat_template *t = template_for(m, opt);
    return t ? t->name : NULL;
}

const char *gqa_chat_stop(const gqa_model *m, const gqa_chat_options *opt) {
    const chat_template *t = template_for(m, opt);
    return t ? t->stop : NULL;
}
