/* render.c: a conversation as text: the variables that a template gets. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chat_internal.h"

static void token_name(const gqa_model *m, int32_t token, char out[256]) {
    int n = token >= 0 ? gqa_token_name(m, token, out, 255) : 0;
    out[n > 0 && n < 256 ? n : 0] = 0;
}

void chat_setting_of(const gqa_model *m, const gqa_chat_options *opt, chat_setting *setting) {
    setting->source = gqa_model_chat_template(m);
    if (opt->template_name) setting->source = chat_template_named(opt->template_name)->jinja;
    else if (!setting->source) setting->source = chat_template_for_tokens(m)->jinja;
    token_name(m, gqa_token_bos(m), setting->bos);
    token_name(m, gqa_token_eos(m), setting->eos);
}

/* "YYYY-MM-DD" of the caller, or today's. */
static const char *date_of(const gqa_chat_options *opt, char today[16]) {
    struct tm tm;
    if (opt->date) return opt->date;
    return !gqa_os_local_time(&tm) && strftime(today, 16, "%Y-%m-%d", &tm) ? today : NULL;
}

/* JSON of the caller's options: NULL becomes none. */
static int parse_option(gqa_json *json, const char *text, gqa_json_kind kind, const char *what,
                        gqa_error *err) {
    gqa_error inner = {0};
    if (gqa_json_parse(json, text ? text : "null", text ? strlen(text) : 4, &inner))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: %s", what, inner.message);
    if (!text || json->nodes->kind == kind) return 0;
    return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: expected %s of JSON", what,
                    kind == GQA_JSON_ARRAY ? "an array" : "an object");
}

int chat_parse_messages(const gqa_chat_options *opt, gqa_json *json, gqa_error *err) {
    int status = parse_option(json, opt->messages_json, GQA_JSON_ARRAY, "messages", err), n = 0;
    if (status) return status;
    const gqa_json_node *array = json->nodes, *at = array + 1;
    for (; at < array + array->size && at->kind == GQA_JSON_OBJECT; at += at->size) n++;
    if (n == 0 || at < array + array->size)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "messages: element %d is %s, expected an object", n,
                        at < array + array->size ? "something else" : "missing");
    return 0;
}

/* The members of an object as variables; returns how many. */
static int add_members(const gqa_json_node *object, gqa_jinja_variable *variables) {
    int n = 0;
    const gqa_json_node *at = object + 1;
    for (; at < object + object->size; at += 1 + at[1].size)
        variables[n++] = (gqa_jinja_variable){.name = at->text, .json = at + 1};
    return n;
}

static int render(const chat_setting *setting, const gqa_json_node *messages,
                  const gqa_chat_options *opt, const gqa_json *tools, const gqa_json *more,
                  gqa_jinja_output *out, gqa_error *err) {
    static const gqa_json_node none = {.kind = GQA_JSON_NULL, .size = 1};
    char today[16];
    gqa_jinja_variable *variables = calloc(more->n_nodes + 8, sizeof *variables);
    if (!variables) return gqa_fail(err, GQA_ERR_MEMORY, "chat template: no memory");
    int n = 0;
    variables[n++] = (gqa_jinja_variable){.name = "messages", .json = messages};
    variables[n++] = (gqa_jinja_variable){.name = "tools", .json = tools->nodes};
    variables[n++] = (gqa_jinja_variable){.name = "documents", .json = &none};
    variables[n++] = (gqa_jinja_variable){.name = "add_generation_prompt",
                                          .is_true = !opt->no_generation_prompt};
    if (*setting->bos)
        variables[n++] = (gqa_jinja_variable){.name = "bos_token", .text = setting->bos};
    if (*setting->eos)
        variables[n++] = (gqa_jinja_variable){.name = "eos_token", .text = setting->eos};
    static const char *const thinking[] = {"enable_thinking", "thinking"}; /* Qwen, DeepSeek */
    for (int i = 0; opt->thinking && i < 2; i++)
        variables[n++] = (gqa_jinja_variable){.name = thinking[i], .is_true = opt->thinking > 0};
    if (more->nodes->kind == GQA_JSON_OBJECT) n += add_members(more->nodes, variables + n);
    int status = gqa_jinja_render(setting->source, strlen(setting->source), variables, n,
                                  date_of(opt, today), out, err);
    free(variables);
    return status;
}

int chat_render(const chat_setting *setting, const gqa_json_node *messages,
                const gqa_chat_options *opt, gqa_jinja_output *out, gqa_error *err) {
    gqa_json tools = {0}, more = {0};
    *out = (gqa_jinja_output){0};
    int status = parse_option(&tools, opt->tools, GQA_JSON_ARRAY, "tools", err);
    if (!status)
        status = parse_option(&more, opt->variables, GQA_JSON_OBJECT, "template variables", err);
    if (!status) status = render(setting, messages, opt, &tools, &more, out, err);
    gqa_json_free(&tools);
    gqa_json_free(&more);
    return status;
}
