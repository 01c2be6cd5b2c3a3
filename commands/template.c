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

/* A file's text, which must be an array. */
static int parse_array(gqa_json *json, const char *path, const char *text, size_t len) {
    gqa_error err = {0};
    if (gqa_json_parse(json, text, len, &err)) return fail("%s: %s", path, err.message);
    if (json->nodes->kind == GQA_JSON_ARRAY) return EXIT_SUCCESS;
    return fail("%s: expected a JSON array", path);
}

/* The messages: a JSON array from a file, or one message. */
static int read_messages(gqa_json *json, const char *path) {
    static const char example[] = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
    size_t len = sizeof example - 1;
    char *text = path ? read_text(path, &len) : NULL;
    if (path && !text) return EXIT_FAILURE;
    int code = parse_array(json, path, text ? text : example, len);
    free(text);
    return code;
}

static int print_ids(const gqa_model *model, const gqa_jinja_output *out) {
    gqa_error err = {0};
    int32_t *ids;
    int n = chat_tokenize(model, out, 0, NULL, 0, &ids, &err);
    if (n < 0) return fail("%s", err.message);
    for (int i = 0; i < n; i++) printf("%s%d", i ? " " : "", ids[i]);
    putchar('\n');
    gqa_free(ids);
    return finish_stdout();
}

static int print_prompt(const settings *s, const template_source *source,
                        const gqa_json *messages) {
    gqa_jinja_output out;
    gqa_error err = {0};
    int status = chat_render(&source->setting, messages->nodes, &s->chat, &out, &err);
    if (status == GQA_ERR_ARGUMENT) return fail("%s", err.message); /* the template's own words */
    if (status) return fail("%s: %s", s->path, err.message);
    int code = EXIT_SUCCESS;
    if (s->ids) {
        code = print_ids(source->model, &out);
    } else {
        write_text(stdout, out.text, out.len);
        stdout_text(out.len == 0 || out.text[out.len - 1] == '\n');
        code = finish_stdout();
    }
    gqa_jinja_output_free(&out);
    return code;
}

static int run_template(settings *s) {
    template_source source = {0};
    gqa_json messages = {0}, tools_json = {0};
    size_t size;
    char *tools = s->tools ? read_text(s->tools, &size) : NULL;
    if (s->tools && !tools) return EXIT_FAILURE;
    s->chat.tools = tools;
    s->chat.thinking = s->think - s->no_think;
    int code = tools ? parse_array(&tools_json, s->tools, tools, size) : EXIT_SUCCESS;
    gqa_json_free(&tools_json);
    if (!code) code = open_template(&source, s);
    if (!code) code = read_messages(&messages, s->messages);
    if (!code) code = print_prompt(s, &source, &messages);
    gqa_json_free(&messages);
    gqa_model_close(source.model);
    free(source.file);
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
    return check_date(s.chat.date) ? EXIT_USAGE : run_template(&s);
}
