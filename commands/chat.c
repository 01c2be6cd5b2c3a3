/* chat.c: `run chat`: a conversation. The KV cache is kept from turn to turn; answers go to stdout, the rest to stderr. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "template.h"
#include "terminal.h"

typedef struct settings {
    text_settings text;
    const char *system, *first, *template_name;
} settings;

typedef struct conversation {
    text_run run;
    const settings *o;
    const chat_template *form;
    int open_answer;       /* the last answer has not been closed by the template's end yet */
    int said_anything;     /* stdout is in the middle of a line */
    int turns;
    long tokens;
    double seconds;        /* of generating */
} conversation;

static int put(void *user, const char *text, size_t len) {
    conversation *c = user;
    if (len) c->said_anything = text[len - 1] != '\n';
    return fwrite(text, 1, len, stdout) != len || fflush(stdout);
}

/* ---- a turn as tokens -------------------------------------------------------------------------------------------- */

typedef struct token_list {
    int32_t *ids;
    int n;
} token_list;

static int add_tokens(const conversation *c, token_list *list, const char *text, unsigned flags) {
    int n;
    int32_t *ids = text_tokenize(c->run.model, text, strlen(text), flags, &n), *grown;
    if (!ids) return EXIT_FAILURE;
    grown = realloc(list->ids, sizeof *grown * (size_t)(list->n + n + 1));
    if (grown) {
        memcpy(grown + list->n, ids, sizeof *ids * (size_t)n);
        list->ids = grown;
        list->n += n;
    }
    free(ids);
    return grown ? EXIT_SUCCESS : fail("no memory for %d tokens", list->n + n);
}

/* Whether words of the user spell a special token, which they must not become. */
static int holds_special(const conversation *c, const char *text) {
    token_list plain = {NULL, 0}, special = {NULL, 0};
    int differ = add_tokens(c, &plain, text, 0) || add_tokens(c, &special, text, GQA_TOKENIZE_SPECIAL) || plain.n != special.n ||
                 memcmp(plain.ids, special.ids, sizeof *plain.ids * (size_t)plain.n);
    free(plain.ids), free(special.ids);
    return differ;
}

/* The turn as one text where that is safe, because that is how models were trained; else part by part. */
static int turn_tokens(const conversation *c, const char *message, token_list *out) {
    int first = gqa_session_position(c->run.session) == 0, split = 0, code = EXIT_SUCCESS;
    chat_turn turn = chat_turn_make(c->form, c->o->system, message, first);
    size_t len = strlen(c->form->answer_end) + 1;
    for (int i = 0; i < turn.n; i++) {
        len += strlen(turn.parts[i].text);
        split |= turn.parts[i].said && holds_special(c, turn.parts[i].text);
    }
    unsigned flags = GQA_TOKENIZE_SPECIAL | (first ? GQA_TOKENIZE_BOS : 0u);
    char *all = malloc(len);
    if (!all) return fail("no memory for a message of %zu bytes", len);
    all[0] = 0;
    if (!first && c->open_answer) strcat(all, c->form->answer_end);
    for (int i = 0; i < turn.n && !code; i++) {
        if (split && turn.parts[i].said) {
            if (*all) code = add_tokens(c, out, all, flags);
            if (!code) code = add_tokens(c, out, turn.parts[i].text, 0);
            all[0] = 0;
            flags = GQA_TOKENIZE_SPECIAL;
        } else {
            strcat(all, turn.parts[i].text);
        }
    }
    if (!code && *all) code = add_tokens(c, out, all, flags);
    free(all);
    return code;
}

static int answer(conversation *c, const char *message) {
    gqa_error err = {0};
    gqa_generate_result r = {0};
    token_list turn = {NULL, 0};
    const char *stops[65];
    int n_stops = 0;
    if (c->form->stop) stops[n_stops++] = c->form->stop;
    for (int i = 0; i < c->o->text.stop.n; i++) stops[n_stops++] = c->o->text.stop.items[i];
    gqa_generate_options go = {.max_tokens = c->o->text.max_tokens, .stop = stops, .n_stop = n_stops, .tokenize_flags = GQA_TOKENIZE_NONE,
                               .ignore_end = c->o->text.ignore_end};
    if (turn_tokens(c, message, &turn)) {
        free(turn.ids);
        return EXIT_FAILURE;
    }
    int room = gqa_session_context(c->run.session) - gqa_session_position(c->run.session);
    if (turn.n >= room) {
        fprintf(stderr, "run: the conversation has filled its context: %d positions left, the message needs %d; /reset begins anew, -c N gives more\n", room, turn.n);
        free(turn.ids);
        return EXIT_SUCCESS;
    }
    interrupt_clear();
    int status = text_feed(&c->run, turn.ids, turn.n, &c->seconds);
    free(turn.ids);
    c->seconds = 0;
    if (!status) status = gqa_generate(c->run.session, c->run.sampler, "", &go, put, c, &r, &err);
    if (status && status != GQA_ERR_CANCELLED) return err.code ? fail("%s", err.message) : EXIT_FAILURE;
    if (c->said_anything) putchar('\n');
    c->said_anything = 0;
    c->open_answer = 1;
    c->turns++;
    c->tokens += r.generated_tokens;
    c->seconds += r.decode_seconds;
    if (finish_stdout()) return EXIT_FAILURE;
    if (interrupted()) fprintf(stderr, "(interrupted; Ctrl-D ends the conversation)\n");
    else if (r.stop == GQA_STOP_CONTEXT) fprintf(stderr, "(context full; /reset begins anew)\n");
    else if (r.stop == GQA_STOP_LENGTH && !c->o->text.quiet) fprintf(stderr, "(%d tokens; -n N allows more)\n", r.generated_tokens);
    return EXIT_SUCCESS;
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

static void reset(conversation *c) {
    gqa_session_rewind(c->run.session, 0, NULL);
    gqa_sampler_reset(c->run.sampler, (uint64_t)c->o->text.seed);
    c->open_answer = 0;
}

static void command(conversation *c, char *line) {
    char *argument = strchr(line, ' ');
    gqa_error err = {0};
    if (argument) *argument++ = 0;
    if (!strcmp(line, "/reset")) {
        reset(c);
        fprintf(stderr, "(a new conversation)\n");
    } else if (!strcmp(line, "/stats")) {
        fprintf(stderr, "%s template, seed %lld, %d of %d positions, %d answers of %ld tokens\n", c->form->name, (long long)c->o->text.seed,
                gqa_session_position(c->run.session), gqa_session_context(c->run.session), c->turns, c->tokens);
    } else if (!strcmp(line, "/save") && argument && *argument) {
        if (gqa_session_save(c->run.session, argument, &err)) fprintf(stderr, "run: %s\n", err.message);
        else fprintf(stderr, "(saved)\n");
    } else if (!strcmp(line, "/load") && argument && *argument) {
        if (gqa_session_load(c->run.session, argument, &err)) fprintf(stderr, "run: %s\n", err.message);
        else fprintf(stderr, "(loaded: %d positions)\n", gqa_session_position(c->run.session));
        c->open_answer = gqa_session_position(c->run.session) > 0;
    } else {
        if (strcmp(line, "/help")) fprintf(stderr, "run: no command %s\n", line);
        fprintf(stderr, "/reset  begin anew     /save FILE, /load FILE  the conversation     /stats     Ctrl-C stops an answer, Ctrl-D ends\n");
    }
}

static int talk(conversation *c) {
    char *line = NULL;
    size_t room = 0;
    int code = EXIT_SUCCESS, terminal = isatty(STDIN_FILENO) && !c->o->text.quiet;
    if (c->o->first) code = answer(c, c->o->first);
    while (!code) {
        if (terminal) fputs("> ", stderr);
        interrupt_clear();
        errno = 0;
        ssize_t n = getline(&line, &room, stdin);
        if (n < 0 && errno == EINTR && interrupted()) { /* Ctrl-C at the prompt */
            clearerr(stdin);
            fputs("\n(Ctrl-D ends the conversation)\n", stderr);
            continue;
        }
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (n == 0) continue;
        if (line[0] == '/') command(c, line);
        else code = answer(c, line);
    }
    if (terminal && !code) fputc('\n', stderr);
    free(line);
    return code;
}

static int find_template(conversation *c) {
    const char *jinja = gqa_model_chat_template(c->run.model), *name = c->o->template_name;
    if (name) c->form = chat_template_named(name);
    if (name && !c->form) return usage_error("--template %s: expected one of %s", name, chat_template_names());
    if (!c->form && jinja) c->form = chat_template_recognise(jinja);
    if (!c->form && gqa_token_find(c->run.model, "<|im_start|>") >= 0) c->form = chat_template_named("chatml");
    if (!c->form && gqa_token_find(c->run.model, "<|start_header_id|>") >= 0) c->form = chat_template_named("llama3");
    if (!c->form) {
        c->form = chat_template_named("plain");
        if (!c->o->text.quiet)
            fprintf(stderr, "run: warning: %s; talking in plain \"User: ... Assistant:\" (--template NAME: %s)\n",
                    jinja ? "the model's chat template is none of those known here" : "the model has no chat template, it may not be made for conversations", chat_template_names());
    }
    return EXIT_SUCCESS;
}

int command_chat(int argc, char **argv) {
    settings o = {0};
    text_settings_init(&o.text);
    o.text.max_tokens = 1024;
    o.text.sampling.temperature = 0.7f;
    const opt options[] = {
        {"-y SYSTEM", OPT_STRING, &o.system, 0, 0, "system prompt: how the model should behave"},
        {"-i TEXT", OPT_STRING, &o.first, 0, 0, "first message"},
        {"--template NAME", OPT_STRING, &o.template_name, 0, 0, "llama3, chatml, llama2, mistral, zephyr, plain (the model's)"},
        {"-n N", OPT_INT, &o.text.max_tokens, 0, INT32_MAX, "tokens of an answer (default 1024); 0: until the context is full"},
        {"-t T", OPT_FLOAT, &o.text.sampling.temperature, 0, 1000, "temperature (default 0.7); 0: always the likeliest token"},
        OPT_END,
    };
    const char *path = NULL;
    int n_paths = 0;
    int code = parse_options(argc, argv, TABLES(options, o.text.options), &path, 1, &n_paths,
                             "run chat MODEL [options]\n\nA conversation, a line a message; /help lists its commands. Ctrl-C stops an answer, Ctrl-D ends.");
    if (code >= 0) return code;
    if (!path) return usage_error("chat: which model?");
    conversation c = {.o = &o};
    code = text_open(&c.run, path, &o.text);
    if (!code) code = find_template(&c);
    if (!code) code = talk(&c);
    text_close(&c.run);
    return code;
}
