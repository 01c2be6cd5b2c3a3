/* template.c: `run template`: a conversation as a chat template writes it. */
#include <string.h>

#include "../chat/chat_internal.h"
#include "command.h"

typedef struct settings {
    const char *path, *messages, *tools, *bos, *eos;
    int think, no_think, ids;
    gqa_chat_options chat;
} settings;

/* Where the template is from. */
typedef struct template_source {
    gqa_model *model;          /* NULL: file */
    char *file;
    chat_setting setting;
} template_source;

int check_date(const char *date) {
    struct tm tm;
    if (!date || !jinja_parse_date(date, &tm)) return 0;
    return usage_error("--date %s: expected a date as YYYY-MM-DD", date);
}

void warn_thinking(const char *jinja) {
    if (!strstr(jinja, "thinking"))
        warning("the template has neither enable_thinking nor thinking: it asks for thoughts or "
                "not as it always does");
}

static int is_template_file(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot && (!strcmp(dot, ".jinja") || !strcmp(dot, ".jinja2") || !strcmp(dot, ".j2"));
}

static int open_template(template_source *source, settings *s) {
    size_t size;
    if (is_template_file(s->path)) {
        source->setting.source = source->file = read_text(s->path, &size);
        if (!source->file) return EXIT_FAILURE;
        if (s->ids) return usage_error("template: --ids needs a model");
    } else {
        source->model = open_model(s->path, &(gqa_model_options){.vocab_only = 1});
        if (!source->model) return EXIT_FAILURE;
        const char *name = gqa_chat_template_name(source->model, &s->chat);
        if (!name) return usage_error("template: there is no template %s", s->chat.template_name);
        if (!s->chat.template_name && strcmp(name, "own"))
            warning("%s: the model has no chat template; this is %s", s->path, name);
        chat_setting_of(source->model, &s->chat, &source->setting);
    }
    if (s->chat.thinking) warn_thinking(source->setting.source);
    if (s->bos) snprintf(source->setting.bos, sizeof source->setting.bos, "%s", s->bos);
    if (s->eos) snprintf(source->setting.eos, sizeof source->setting.eos, "%s", s->eos);
    return EXIT_SUCCESS;
}

/* The text of a file, which must be a JSON array; NULL after a message. */
static char *read_array(const char *path) {
    gqa_json json = {0};
    gqa_error err = {0};
    size_t len;
    char *text = read_text(path, &len);
    if (!text) return NULL;
    int is_json = gqa_json_parse(&json, text, len, &err) == 0;
    int is_array = is_json && json.nodes->kind == GQA_JSON_ARRAY;
    if (!is_array) fail("%s: %s", path, is_json ? "expected a JSON array" : err.message);
    gqa_json_free(&json);
    if (is_array) return text;
    free(text);
    return NULL;
}

/* The template's own words as they are; of other errors, which template it was. */
static int template_failed(const settings *s, int status, const gqa_error *err) {
    if (status == GQA_ERR_ARGUMENT) return fail("%s", err->message);
    return fail("%s: %s", s->path, err->message);
}

static int print_ids(const settings *s, const gqa_model *model) {
    gqa_error err = {0};
    int32_t *ids;
    int n = gqa_chat_format(model, NULL, 0, &s->chat, &ids, &err);
    if (n < 0) return template_failed(s, n, &err);
    for (int i = 0; i < n; i++) printf("%s%d", i ? " " : "", ids[i]);
    putchar('\n');
    gqa_free(ids);
    return finish_stdout();
}

static int print_prompt(const settings *s, const template_source *source) {
    gqa_json messages = {0};
    gqa_jinja_output out = {0};
    gqa_error err = {0};
    if (s->ids) return print_ids(s, source->model);
    int status = chat_parse_messages(&s->chat, &messages, &err);
    if (!status) status = chat_render(&source->setting, messages.nodes, &s->chat, &out, &err);
    gqa_json_free(&messages);
    if (status) return template_failed(s, status, &err);
    write_text(stdout, out.text, out.len);
    stdout_text(out.len == 0 || out.text[out.len - 1] == '\n');
    gqa_jinja_output_free(&out);
    return finish_stdout();
}

static int run_template(settings *s) {
    static const char example[] = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
    template_source source = {0};
    char *tools = s->tools ? read_array(s->tools) : NULL;
    char *messages = s->messages ? read_array(s->messages) : NULL;
    s->chat.tools = tools;
    s->chat.messages_json = messages ? messages : example;
    s->chat.thinking = s->think - s->no_think;
    int is_read = (tools || !s->tools) && (messages || !s->messages);
    int code = is_read ? open_template(&source, s) : EXIT_FAILURE;
    if (!code) code = print_prompt(s, &source);
    gqa_model_close(source.model);
    free(source.file);
    free(messages);
    free(tools);
    return code;
}

int command_template(int argc, char **argv) {
    settings s = {0};
    int n_paths = 0;
    const opt options[] = {
        {"--messages FILE", OPT_STRING, &s.messages, 0, 0,
         "a JSON array of messages; -: standard input\n(default: one message, Hello)"},
        {"--tools FILE", OPT_STRING, &s.tools, 0, 0, "a JSON array of tools"},
        {"--think", OPT_FLAG, &s.think, 0, 0, "turn thinking on (enable_thinking)"},
        {"--no-think", OPT_FLAG, &s.no_think, 0, 0, "turn thinking off"},
        {"--no-prompt", OPT_FLAG, &s.chat.no_generation_prompt, 0, 0, "no beginning of an answer"},
        {"--date DATE", OPT_STRING, &s.chat.date, 0, 0, "YYYY-MM-DD (default: today)"},
        {"--bos TEXT", OPT_STRING, &s.bos, 0, 0, "bos_token (default: the model's)"},
        {"--eos TEXT", OPT_STRING, &s.eos, 0, 0, "eos_token (default: the model's)"},
        {"--template NAME", OPT_STRING, &s.chat.template_name, 0, 0,
         "llama3, chatml, llama2, mistral, zephyr or plain (default: the model's)"},
        {"--ids", OPT_FLAG, &s.ids, 0, 0, "token ids instead of text"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &s.path, 1, &n_paths,
                             "run template MODEL|FILE.jinja [options]\n\n"
                             "Prints a conversation as the model's chat template writes it.");
    if (code >= 0) return code;
    if (!s.path) return usage_error("template: no model or .jinja file given");
    if (s.think && s.no_think)
        return usage_error("template: --think and --no-think exclude each other");
    if (s.ids && (s.bos || s.eos))
        return usage_error("template: --ids is of the model's own tokens, without --bos and --eos");
    return check_date(s.chat.date) ? EXIT_USAGE : run_template(&s);
}
