/* template.c: `run template`: a conversation as a chat template writes it. */
#include <string.h>
#include <time.h>

#include "../chat/jinja.h"
#include "command.h"

typedef struct template_settings {
    const char *path, *messages, *tools, *date, *bos, *eos;
    int think, no_think, no_prompt;
} template_settings;

/* A template and its two tokens, from a model or from a file of its own. */
typedef struct template_source {
    gqa_model *model;          /* NULL: file */
    char *file;
    const char *text;
    size_t len;
    char bos[256], eos[256];
} template_source;

static int is_template_file(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot && (!strcmp(dot, ".jinja") || !strcmp(dot, ".jinja2") || !strcmp(dot, ".j2"));
}

/* The text of a token, "" where there is none. */
static void token_text(const gqa_model *model, int32_t token, char *out, size_t capacity) {
    int n = token < 0 ? 0 : gqa_token_name(model, token, out, (int)capacity);
    out[n < 0 || (size_t)n >= capacity ? 0 : n] = 0;
}

static int open_template(template_source *source, const char *path) {
    if (is_template_file(path)) {
        source->text = source->file = read_text(path, &source->len);
        return source->file ? 0 : EXIT_FAILURE;
    }
    source->model = open_model(path, &(gqa_model_options){.vocab_only = 1});
    if (!source->model) return EXIT_FAILURE;
    source->text = gqa_model_chat_template(source->model);
    if (!source->text) return fail("%s: the model has no chat template", path);
    source->len = strlen(source->text);
    token_text(source->model, gqa_token_bos(source->model), source->bos, sizeof source->bos);
    token_text(source->model, gqa_token_eos(source->model), source->eos, sizeof source->eos);
    return 0;
}

/* A JSON array from a file; NULL: a conversation of one message. */
static int read_array(gqa_json *json, const char *path) {
    static const char example[] = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
    gqa_error err = {0};
    size_t len = sizeof example - 1;
    char *text = path ? read_text(path, &len) : NULL;
    if (path && !text) return EXIT_FAILURE;
    int status = gqa_json_parse(json, text ? text : example, len, &err);
    free(text);
    if (status) return fail("%s: %s", path, err.message);
    if (json->nodes->kind == GQA_JSON_ARRAY) return 0;
    return fail("%s: expected a JSON array", path);
}

static int print_prompt(const template_settings *s, const template_source *source,
                        const gqa_json *messages, const gqa_json *tools) {
    static const gqa_json_node none = {GQA_JSON_NULL, "", 0, 1};
    const char *bos = s->bos ? s->bos : source->bos, *eos = s->eos ? s->eos : source->eos;
    gqa_jinja_variable v[7] = {
        {.name = "messages", .json = messages->nodes},
        {.name = "tools", .json = tools->nodes ? tools->nodes : &none},
        {.name = "documents", .json = &none},
        {.name = "add_generation_prompt", .is_true = !s->no_prompt},
        {.name = "bos_token", .text = bos},
        {.name = "eos_token", .text = eos},
        {.name = "enable_thinking", .is_true = s->think},
    };
    int n = s->think || s->no_think ? 7 : 6;
    char today[16];
    time_t now = time(NULL);
    strftime(today, sizeof today, "%Y-%m-%d", localtime(&now));
    gqa_jinja_output out;
    gqa_error err = {0};
    int status = gqa_jinja_render(source->text, source->len, v, n, s->date ? s->date : today, &out,
                                  &err);
    if (status == GQA_ERR_ARGUMENT) return fail("%s", err.message); /* the template's own words */
    if (status) return fail("%s: %s", s->path, err.message);
    fwrite(out.text, 1, out.len, stdout);
    stdout_text(out.len == 0 || out.text[out.len - 1] == '\n');
    gqa_jinja_output_free(&out);
    return finish_stdout();
}

static int run_template(const template_settings *s) {
    template_source source = {0};
    gqa_json messages = {0}, tools = {0};
    int code = open_template(&source, s->path);
    if (!code) code = read_array(&messages, s->messages);
    if (!code && s->tools) code = read_array(&tools, s->tools);
    if (!code) code = print_prompt(s, &source, &messages, &tools);
    gqa_json_free(&messages);
    gqa_json_free(&tools);
    gqa_model_close(source.model);
    free(source.file);
    return code;
}

int command_template(int argc, char **argv) {
    template_settings s = {0};
    int n_paths = 0;
    const opt options[] = {
        {"--messages FILE", OPT_STRING, &s.messages, 0, 0,
         "a JSON array of messages; -: standard input\n(default: one message, Hello)"},
        {"--tools FILE", OPT_STRING, &s.tools, 0, 0, "a JSON array of tools"},
        {"--think", OPT_FLAG, &s.think, 0, 0, "enable_thinking is true"},
        {"--no-think", OPT_FLAG, &s.no_think, 0, 0, "enable_thinking is false"},
        {"--no-prompt", OPT_FLAG, &s.no_prompt, 0, 0, "no beginning of an answer"},
        {"--date DATE", OPT_STRING, &s.date, 0, 0, "YYYY-MM-DD (default: today)"},
        {"--bos TEXT", OPT_STRING, &s.bos, 0, 0, "bos_token (default: the model's)"},
        {"--eos TEXT", OPT_STRING, &s.eos, 0, 0, "eos_token (default: the model's)"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &s.path, 1, &n_paths,
                             "run template MODEL|FILE.jinja [options]\n\n"
                             "Prints a conversation as the model's chat template writes it.");
    if (code >= 0) return code;
    if (!s.path) return usage_error("template: no model or .jinja file given");
    if (s.think && s.no_think)
        return usage_error("template: --think and --no-think exclude each other");
    return run_template(&s);
}
