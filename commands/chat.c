/* chat.c: `run chat`: a conversation. The KV cache is kept from message to message; answers go to
 * stdout, everything else to stderr. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "terminal.h"

typedef struct settings {
    text_settings text;
    const char *system, *first, *template_name;
} settings;

typedef struct conversation {
    text_run run;
    const settings *o;
    gqa_chat_options format;
    int n_answers;
    long tokens;           /* of all answers */
} conversation;

static int put(void *user, const char *text, size_t len) {
    (void)user;
    if (len) stdout_text(text[len - 1] == '\n');
    return fwrite(text, 1, len, stdout) != len || fflush(stdout) || interrupted();
}

/* ---- a message and its answer ---------------------------------------------------------------- */

/* Token ids of a message; what comes before it in the session is an answer without its end. */
static int format_message(conversation *c, const char *text, int32_t **tokens) {
    gqa_message messages[] = {{"assistant", ""}, {"user", text}};
    gqa_error err = {0};
    c->format.first = 1;
    if (gqa_session_position(c->run.session) == 0) {
        messages[0] = (gqa_message){"system", c->o->system};
        c->format.first = 0;
    }
    int skip = c->format.first == 0 && (!c->o->system || !*c->o->system);
    int n = gqa_chat_format(c->run.model, messages + skip, 2 - skip, &c->format, tokens, &err);
    if (n < 0) fail("%s", err.message);
    return n;
}

/* The stop strings: the template's, and those of --stop. */
static int list_stops(const conversation *c, const char *stops[65]) {
    const char *stop = gqa_chat_stop(c->run.model, &c->format);
    int n = 0;
    if (stop) stops[n++] = stop;
    for (int i = 0; i < c->o->text.stop.n; i++) stops[n++] = c->o->text.stop.items[i];
    return n;
}

static void report_end(const conversation *c, const gqa_generate_result *r) {
    if (interrupted())
        fprintf(stderr, "(interrupted; Ctrl-D ends the conversation)\n");
    else if (r->stop == GQA_STOP_CONTEXT)
        fprintf(stderr, "(context full; /reset starts over)\n");
    else if (r->stop == GQA_STOP_LENGTH && !c->o->text.quiet)
        fprintf(stderr, "(%d tokens; -n N allows more)\n", r->generated_tokens);
}

static int generate_answer(conversation *c) {
    gqa_error err = {0};
    gqa_generate_result r = {0};
    const char *stops[65];
    gqa_generate_options options = {
        .max_tokens = c->o->text.max_tokens,
        .stop = stops,
        .n_stop = list_stops(c, stops),
        .ignore_end = c->o->text.ignore_end,
    };
    int status = gqa_generate_tokens(c->run.session, c->run.sampler, NULL, 0, &options, put, NULL,
                                     &r, &err);
    if (status) return fail("%s", err.message);
    end_line();
    c->n_answers++;
    c->tokens += r.generated_tokens;
    if (finish_stdout()) return EXIT_FAILURE;
    report_end(c, &r);
    return EXIT_SUCCESS;
}

static int answer(conversation *c, const char *message) {
    int32_t *tokens;
    double seconds = 0;
    int n = format_message(c, message, &tokens);
    if (n < 0) return EXIT_FAILURE;
    int left = gqa_session_context(c->run.session) - gqa_session_position(c->run.session);
    if (n >= left) {
        fprintf(stderr,
                "run: context full: %d positions left, the message needs %d; /reset starts over, "
                "-c N gives more\n", left, n);
        gqa_free(tokens);
        return EXIT_SUCCESS;
    }
    interrupt_clear();
    int status = text_feed(&c->run, tokens, n, &seconds);
    gqa_free(tokens);
    if (status == GQA_ERR_CANCELLED) {
        report_end(c, &(gqa_generate_result){0});
        return EXIT_SUCCESS;
    }
    return status ? EXIT_FAILURE : generate_answer(c);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void reset(conversation *c, const char *unused) {
    (void)unused;
    gqa_session_rewind(c->run.session, 0, NULL);
    gqa_sampler_reset(c->run.sampler, (uint64_t)c->o->text.seed);
    fprintf(stderr, "(a new conversation)\n");
}

static void show_stats(conversation *c, const char *unused) {
    (void)unused;
    fprintf(stderr, "%s template, seed %lld, %d of %d positions, %d answers of %ld tokens\n",
            gqa_chat_template_name(c->run.model, &c->format), (long long)c->o->text.seed,
            gqa_session_position(c->run.session), gqa_session_context(c->run.session),
            c->n_answers, c->tokens);
}

static void save(conversation *c, const char *path) {
    gqa_error err = {0};
    hold_signals();
    int status = gqa_session_save(c->run.session, path, &err);
    release_signals();
    if (status) fprintf(stderr, "run: %s\n", err.message);
    else fprintf(stderr, "(saved)\n");
}

/* A failed load empties the session: what it held is kept beside. */
static void load(conversation *c, const char *path) {
    gqa_session *session = c->run.session;
    gqa_error err = {0};
    void *kept;
    size_t size;
    int status = gqa_session_save_memory(session, &kept, &size, &err);
    if (!status) {
        status = gqa_session_load(session, path, &err);
        if (status) gqa_session_load_memory(session, kept, size, NULL);
        gqa_free(kept);
    }
    if (status) fprintf(stderr, "run: %s; the conversation is as it was\n", err.message);
    else fprintf(stderr, "(loaded: %d positions)\n", gqa_session_position(session));
}

static void show_commands(conversation *c, const char *unused) {
    (void)c;
    (void)unused;
    fprintf(stderr, "/reset starts over    /save FILE, /load FILE the conversation    /stats\n"
                    "Ctrl-C stops an answer, Ctrl-D ends the conversation\n");
}

static const struct {
    const char *name, *argument; /* NULL: takes none */
    void (*run)(conversation *c, const char *argument);
} chat_commands[] = {
    {"/reset", NULL, reset},
    {"/stats", NULL, show_stats},
    {"/save", "FILE", save},
    {"/load", "FILE", load},
    {"/help", NULL, show_commands},
};

/* Whether a line begins with a command, or with what looks like one: "/word", not "/etc/hosts". */
static int is_command(const char *line) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?";
    return line[0] == '/' && strchr(" ", line[1 + strspn(line + 1, letters)]);
}

static void command(conversation *c, char *line) {
    char *argument = line + strcspn(line, " ");
    if (*argument) *argument++ = 0;
    argument += strspn(argument, " ");
    for (size_t i = 0; i < sizeof chat_commands / sizeof *chat_commands; i++) {
        const char *name = chat_commands[i].name, *expected = chat_commands[i].argument;
        if (strcmp(line, name)) continue;
        if (!*argument == !expected) chat_commands[i].run(c, argument);
        else if (expected) fprintf(stderr, "run: %s: expected %s %s\n", name, name, expected);
        else fprintf(stderr, "run: %s takes no argument, got \"%s\"\n", name, argument);
        return;
    }
    fprintf(stderr, "run: unknown command %s (a message that begins so: put a blank before it)\n",
            line);
    show_commands(c, NULL);
}

/* One line from stdin into *line. Its length without the end of the line; -1 at the end of input;
 * 0 after Ctrl-C at the prompt. */
static ssize_t read_line(char **line, size_t *capacity) {
    enum { MILLISECONDS = 200 }; /* until a Ctrl-C from before the poll is noticed */
    struct pollfd terminal = {.fd = STDIN_FILENO, .events = POLLIN};
    int is_ready = !isatty(STDIN_FILENO);
    /* Ctrl-C ends a poll, but no read, which might lose the beginning of a line. */
    while (!is_ready && !interrupted()) {
        int n = poll(&terminal, 1, MILLISECONDS);
        is_ready = n > 0 || (n < 0 && errno != EINTR);
    }
    if (!is_ready) {
        fputs("\n(Ctrl-D ends the conversation)\n", stderr);
        return 0;
    }
    ssize_t n = getline(line, capacity, stdin);
    while (n > 0 && ((*line)[n - 1] == '\n' || (*line)[n - 1] == '\r')) (*line)[--n] = 0;
    return n;
}

static int talk(conversation *c) {
    char *line = NULL;
    size_t capacity = 0;
    int code = EXIT_SUCCESS, terminal = isatty(STDIN_FILENO) && !c->o->text.quiet;
    if (c->o->first) code = answer(c, c->o->first);
    while (!code) {
        interrupt_clear();
        if (terminal) fputs("> ", stderr);
        ssize_t n = read_line(&line, &capacity);
        if (n < 0) break;
        if (n == 0) continue;
        if (is_command(line)) command(c, line);
        else code = answer(c, line);
    }
    if (terminal && !code) fputc('\n', stderr);
    free(line);
    return code;
}

static const char known_templates[] = "llama3, chatml, llama2, mistral, zephyr, plain";

static int choose_template(conversation *c) {
    const char *given = c->o->template_name;
    c->format.template_name = given;
    const char *name = gqa_chat_template_name(c->run.model, &c->format);
    if (!name) return usage_error("--template %s: expected one of %s", given, known_templates);
    if (!given && !strcmp(name, "plain") && !c->o->text.quiet)
        fprintf(stderr,
                "run: warning: %s; using plain \"User: ... Assistant:\" (--template NAME: %s)\n",
                gqa_model_chat_template(c->run.model)
                    ? "the model's chat template is not one of those known"
                    : "the model has no chat template, it may not be made for conversations",
                known_templates);
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
        {"--template NAME", OPT_STRING, &o.template_name, 0, 0,
         "llama3, chatml, llama2, mistral, zephyr or plain (default: the model's)"},
        {"-n N", OPT_INT, &o.text.max_tokens, 0, INT32_MAX,
         "tokens of an answer (default 1024); 0: until the context is full"},
        {"-t T", OPT_FLOAT, &o.text.sampling.temperature, 0, 1000,
         "temperature (default 0.7); 0: always the likeliest token"},
        OPT_END,
    };
    const char *path = NULL;
    int n_paths = 0;
    const char *usage = "run chat MODEL [options]\n\n"
                        "A conversation, a line a message; /help lists its commands. Ctrl-C stops "
                        "an answer,\nCtrl-D ends the conversation.";
    int code = parse_options(argc, argv, TABLES(options, o.text.options), &path, 1, &n_paths,
                             usage);
    if (code >= 0) return code;
    if (!path) return usage_error("chat: which model?");
    conversation c = {.o = &o};
    code = text_open(&c.run, path, &o.text);
    if (!code) code = choose_template(&c);
    if (!code) code = talk(&c);
    text_close(&c.run);
    return code;
}
