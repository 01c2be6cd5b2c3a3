/* chat.c: `run chat`: a conversation. All messages are formatted for each answer, and the session
 * keeps what it holds of them already. Answers go to stdout, everything else to stderr. */
#include "chat.h"

#include <locale.h>
#include <string.h>

#include "choice.h"
#include "line_edit.h"

typedef struct settings {
    text_settings text;
    const char *system, *first, *template_name, *date;
    int think, no_think, hides_thoughts;
} settings;

/* ---- turns ---------------------------------------------------------------------------------- */

int add_turn(conversation *c, const char *role, const char *text, size_t len) {
    if (c->n == c->capacity) {
        int capacity = c->capacity * 2 + 16;
        turn *grown = realloc(c->turns, sizeof *grown * capacity);
        if (!grown) return fail("out of memory for the conversation");
        c->turns = grown;
        c->capacity = capacity;
    }
    char *copy = malloc(len + 1);
    if (!copy) return fail("out of memory for the conversation");
    memcpy(copy, text, len);
    drop_zeros(copy, len);
    c->turns[c->n++] = (turn){.role = role, .content = copy};
    return EXIT_SUCCESS;
}

void drop_turns(conversation *c, int first, int count) {
    for (int i = first; i < first + count; i++) {
        free(c->turns[i].content);
        free(c->turns[i].tokens);
    }
    int after = first + count;
    if (count == 0) return;
    memmove(c->turns + first, c->turns + after, sizeof *c->turns * (c->n - after));
    c->n -= count;
}

int has_system(const conversation *c) { return c->n > 0 && !strcmp(c->turns[0].role, "system"); }

/* Where the second message of the user after turn `first` begins: what is before it may leave. 0:
 * there is only the last one. */
static int next_user(const conversation *c, int first) {
    int end = first + 1;
    while (end < c->n && strcmp(c->turns[end].role, "user")) end++;
    return end >= c->n ? 0 : end;
}

/* ---- the prompt ----------------------------------------------------------------------------- */

static int no_memory(void) {
    fail("out of memory for the conversation");
    return -1;
}

int format_turns(conversation *c, int n_left_out, int32_t **tokens) {
    gqa_error err = {0};
    int n_messages = 0, first = has_system(c), n_held = n_left_out ? 0 : c->n_held;
    gqa_message *messages = calloc((size_t)c->n + 1, sizeof *messages);
    *tokens = NULL;
    if (!messages) return no_memory();
    for (int i = 0; i < c->n; i++) {
        const turn *t = &c->turns[i];
        if (i >= first && i < first + n_left_out) continue;
        messages[n_messages++] = (gqa_message){.role = t->role, .content = t->content,
                                               .tokens = t->tokens, .n_tokens = t->n_tokens};
    }
    c->format.first = n_held ? 2 : 0;
    int n = gqa_chat_format(c->run.model, messages, n_messages, &c->format, tokens, &err);
    free(messages);
    if (n < 0) fail("%s", err.message);
    if (n < 0 || !n_held) return n;
    int32_t *all = malloc(sizeof *all * (n_held + n));
    if (all) {
        memcpy(all, c->held, sizeof *all * n_held);
        memcpy(all + n_held, *tokens, sizeof *all * n);
    }
    gqa_free(*tokens);
    *tokens = all;
    return all ? n_held + n : no_memory();
}

/* The tokens of all turns that fit with some space for an answer; *n_left_out: oldest ones that do
 * not. They leave once the prompt is evaluated. */
static int make_prompt(conversation *c, int32_t **tokens, int *n_left_out) {
    int context = gqa_session_context(c->run.session), n;
    int space = c->run.settings->max_tokens, first = has_system(c), next = first;
    if (space == 0 || space > context / 4) space = context / 4;
    do {
        gqa_free(*tokens);
        *n_left_out = next - first;
        n = format_turns(c, *n_left_out, tokens);
    } while (n > context - space && (next = next_user(c, next)));
    if (n < context) return n;
    fail("context full: the prompt has %d tokens, %d fit; -c N gives more", n, context - 1);
    gqa_free(*tokens);
    *tokens = NULL;
    return -1;
}

static void leave_out(conversation *c, int count) {
    drop_turns(c, has_system(c), count);
    if (count && !c->has_dropped)
        fprintf(stderr, "(context full: from here on, the oldest messages are left out)\n");
    c->has_dropped |= count > 0;
    if (count) c->n_held = 0; /* the two turns that stood for it were the oldest */
}

/* Whether the prompt ends inside a thought: some templates begin the answer with <think>. */
static int ends_in_thought(const conversation *c, const int32_t *tokens, int n) {
    const gqa_model *m = c->run.model;
    const char *tag = c->tags->open;
    char end[256];
    int len = 0, n_tag = (int)strlen(tag), at = n > 24 ? n - 24 : 0;
    for (; at < n; at++) {
        int size = gqa_token_name(m, tokens[at], NULL, 0);
        if (size < 0 || size > (int)sizeof end - len) continue;
        len += gqa_token_is_control(m, tokens[at])
                   ? gqa_token_name(m, tokens[at], end + len, size)
                   : gqa_token_bytes(m, tokens[at], end + len, size);
    }
    while (len > 0 && (end[len - 1] == '\n' || end[len - 1] == ' ')) len--;
    return len >= n_tag && !memcmp(end + len - n_tag, tag, (size_t)n_tag);
}

/* ---- an answer ------------------------------------------------------------------------------ */

/* What an answer is collected in, beside being shown. */
typedef struct answer_text {
    conversation *c;
    chat_view view;
    choice_state choice;
    char *text;
    size_t len, capacity;
    int32_t *tokens;
    int n_tokens;
    size_t token_capacity;
    int failed;                /* no memory, or stdout cannot be written */
} answer_text;

/* Grows an array by one item of that size. */
static int grow_array(void **items, size_t n, size_t *capacity, size_t size) {
    if (n < *capacity) return 0;
    size_t larger = (n + 64) * 2;
    void *grown = realloc(*items, larger * size);
    if (!grown) return -1;
    *items = grown;
    *capacity = larger;
    return 0;
}

static int on_text(void *user, const char *text, size_t len) {
    answer_text *a = user;
    if (view_put(&a->view, text, len)) return a->failed = 1;
    if (grow_array((void **)&a->text, a->len + len, &a->capacity, 1)) return a->failed = 1;
    memcpy(a->text + a->len, text, len);
    a->len += len;
    return interrupted();
}

static int on_logits(void *user, const int32_t *tokens, int n_tokens, float *logits, int n_vocab) {
    answer_text *a = user;
    (void)tokens;
    (void)n_tokens;
    return allow_choices(&a->choice, logits, n_vocab);
}

/* A control token has no text; templates look for that of thoughts in an answer. */
static int put_thought_tag(answer_text *a, int32_t token) {
    const gqa_model *m = a->c->run.model;
    const char *const tags[] = {a->c->tags->open, a->c->tags->close};
    for (int i = 0; i < 2 && gqa_token_is_control(m, token); i++)
        if (gqa_token_find(m, tags[i]) == token) return on_text(a, tags[i], strlen(tags[i]));
    return 0;
}

static int on_token(void *user, int32_t token, float log_probability) {
    answer_text *a = user;
    (void)log_probability;
    if (gqa_token_is_end(a->c->run.model, token) && !a->c->run.settings->ignore_end) return 0;
    if (grow_array((void **)&a->tokens, a->n_tokens, &a->token_capacity, sizeof *a->tokens))
        return a->failed = 1;
    a->tokens[a->n_tokens++] = token;
    add_to_choice(&a->choice, token);
    return put_thought_tag(a, token);
}

/* The stop strings: the template's, and those of --stop. */
static int list_stops(const conversation *c, const char *stops[65]) {
    const opt_list *given = &c->run.settings->stop;
    const char *stop = gqa_chat_stop(c->run.model, &c->format);
    int n = 0;
    if (stop) stops[n++] = stop;
    for (int i = 0; i < given->n; i++) stops[n++] = given->items[i];
    return n;
}

static void report_end(const conversation *c, const gqa_generate_result *r) {
    if (interrupted())
        fprintf(stderr, "(interrupted; Ctrl-D ends the conversation)\n");
    else if (r->stop == GQA_STOP_CONTEXT)
        fprintf(stderr, "(context full: the answer is cut; -c N gives more)\n");
    else if (r->stop == GQA_STOP_LENGTH && !c->quiet)
        fprintf(stderr, "(%d token%s; -n N allows more)\n", r->generated_tokens,
                plural(r->generated_tokens));
}

/* The answer becomes a turn. Where a stop string ended it, its tokens are more than its text. */
static int keep_answer(conversation *c, answer_text *a, const gqa_generate_result *r) {
    if (add_turn(c, "assistant", a->text ? a->text : "", a->len)) return EXIT_FAILURE;
    turn *t = &c->turns[c->n - 1];
    if (r->stop != GQA_STOP_STRING) {
        t->tokens = a->tokens;
        t->n_tokens = a->n_tokens;
        a->tokens = NULL;
    }
    c->last = *r;
    return EXIT_SUCCESS;
}

static int generate_answer(conversation *c, int is_thinking) {
    gqa_error err = {0};
    gqa_generate_result r = {0};
    const char *stops[65];
    const text_settings *s = c->run.settings;
    answer_text a = {.c = c, .choice = {.texts = &s->choices, .model = c->run.model}};
    gqa_generate_options options = {
        .max_tokens = s->choices.n ? 0 : s->max_tokens,
        .stop = stops,
        .n_stop = list_stops(c, stops),
        .ignore_end = s->ignore_end,
        .on_logits = s->choices.n ? on_logits : NULL,
        .on_token = on_token,
        .draft = c->run.draft,
        .lookup = s->lookup,
    };
    view_begin(&a.view, c->tags, c->hides_thoughts, is_thinking && !s->choices.n);
    int status = gqa_generate_tokens(c->run.session, c->run.sampler, NULL, 0, &options, on_text, &a,
                                     &r, &err);
    a.failed |= view_end(&a.view);
    int is_cut = s->choices.n && r.stop == GQA_STOP_CONTEXT && !is_whole_choice(&a.choice);
    if (is_cut) c->has_failed = fail(CHOICE_CUT);
    else if (!status && !a.failed) status = keep_answer(c, &a, &r);
    else if (status) fail("%s", err.message);
    free(a.text);
    free(a.tokens);
    end_line();
    if (finish_stdout() || status || a.failed) return EXIT_FAILURE;
    if (!is_cut) report_end(c, &r);
    return EXIT_SUCCESS;
}

/* What was said may be repeated; what the template writes around it is not counted. */
static void accept_turns(conversation *c) {
    for (int i = c->n_held ? 2 : 0; i < c->n; i++) {
        const turn *t = &c->turns[i];
        int n = t->n_tokens;
        int32_t *tokens = NULL;
        if (!t->tokens)
            tokens = text_tokenize(c->run.model, t->content, strlen(t->content), 0, 1, &n);
        text_accept(&c->run, tokens ? tokens : t->tokens, n);
        gqa_free(tokens);
    }
}

int answer(conversation *c) {
    int32_t *tokens = NULL;
    int n_left_out, n = make_prompt(c, &tokens, &n_left_out);
    if (n < 0) {
        c->has_failed = 1;
        return EXIT_SUCCESS;
    }
    interrupt_clear();
    gqa_sampler_reset(c->run.sampler, (uint64_t)(c->seed + c->n_generated++));
    c->prefill_seconds = 0;
    int status = text_sync(&c->run, tokens, n, &c->n_kept, &c->prefill_seconds);
    int is_thinking = ends_in_thought(c, tokens, n);
    c->n_evaluated = n - c->n_kept;
    gqa_free(tokens);
    if (!status) {
        leave_out(c, n_left_out);
        accept_turns(c);
        return generate_answer(c, is_thinking);
    }
    if (status != GQA_ERR_CANCELLED) return EXIT_FAILURE;
    report_end(c, &(gqa_generate_result){0});
    return EXIT_SUCCESS;
}

/* A message without an answer is forgotten. */
static int ask(conversation *c, const char *message) {
    int code = add_turn(c, "user", message, strlen(message));
    if (code) return code;
    code = answer(c);
    if (!strcmp(c->turns[c->n - 1].role, "user")) drop_turns(c, c->n - 1, 1);
    return code;
}

/* ---- the conversation ----------------------------------------------------------------------- */

static int talk(conversation *c, const char *first) {
    int code = EXIT_SUCCESS, is_over = 0, is_terminal = gqa_os_is_terminal(stdin) && !c->quiet;
    line_editor *editor = line_editor_new();
    char *line;
    if (!editor) return fail("out of memory");
    if (first) code = ask(c, first);
    while (!code && !is_over) {
        interrupt_clear();
        line_status status = line_read(editor, is_terminal ? "> " : NULL, &line);
        if (status == LINE_INTERRUPTED) fputs("(Ctrl-D ends the conversation)\n", stderr);
        is_over = status == LINE_END;
        if (status != LINE_TEXT || !*line) continue;
        if (is_chat_command(line)) is_over = chat_command(c, line);
        else code = ask(c, line);
    }
    if (is_terminal && !code) fputc('\n', stderr);
    line_editor_free(editor);
    return code;
}

static const char known_templates[] = "llama3, chatml, llama2, mistral, zephyr, plain";

void check_thinking(conversation *c) {
    const char *own = gqa_model_chat_template(c->run.model);
    if (!c->format.thinking || c->has_checked_thinking) return;
    warn_thinking(own && !c->format.template_name ? own : "");
    c->has_checked_thinking = 1;
}

static int choose_template(conversation *c) {
    const char *given = c->format.template_name;
    const char *name = gqa_chat_template_name(c->run.model, &c->format);
    if (!name) return usage_error("--template %s: expected one of %s", given, known_templates);
    int is_own = !strcmp(name, "own");
    if (!given && !is_own && !c->quiet)
        warning("the model has no chat template, it may not be made for conversations; using %s "
                "(--template NAME: %s)", name, known_templates);
    if (!c->quiet) check_thinking(c);
    if (gqa_os_is_terminal(stdin) && !c->quiet)
        fprintf(stderr, "%s, %s template, context %d; type /help\n",
                gqa_model_config(c->run.model)->name, is_own ? "its own" : name,
                gqa_session_context(c->run.session));
    return EXIT_SUCCESS;
}

static int chat(const char *path, settings *o) {
    conversation c = {
        .hides_thoughts = o->hides_thoughts,
        .quiet = o->text.quiet,
        .format = {.template_name = o->template_name, .thinking = o->think - o->no_think,
                   .date = o->date},
    };
    /* For the width of characters; macOS has it by the second name. */
    if (!setlocale(LC_CTYPE, "C.UTF-8")) setlocale(LC_CTYPE, "UTF-8");
    int code = text_open(&c.run, path, &o->text);
    c.seed = o->text.seed;
    if (!code) c.tags = view_tags(c.run.model);
    if (!code) code = choose_template(&c);
    if (!code && o->system && *o->system)
        code = add_turn(&c, "system", o->system, strlen(o->system));
    if (!code) code = talk(&c, o->first);
    if (!code && c.has_failed && !gqa_os_is_terminal(stdin)) code = EXIT_FAILURE;
    drop_turns(&c, 0, c.n);
    free(c.turns);
    free(c.held);
    text_close(&c.run);
    return code;
}

int command_chat(int argc, char **argv) {
    settings o = {0};
    text_settings_init(&o.text);
    o.text.max_tokens = 1024;
    o.text.sampling.temperature = 0.7f;
    const opt options[] = {
        {"-y SYSTEM", OPT_STRING, &o.system, 0, 0, "system prompt: how the model should behave"},
        {"-i TEXT", OPT_STRING, &o.first, 0, 0, "first message; also as the word after the model"},
        {"--template NAME", OPT_STRING, &o.template_name, 0, 0,
         "llama3, chatml, llama2, mistral, zephyr or plain (default: the model's)"},
        {"--think", OPT_FLAG, &o.think, 0, 0, "turn thinking on (enable_thinking)"},
        {"--no-think", OPT_FLAG, &o.no_think, 0, 0, "turn thinking off"},
        {"--no-show-think", OPT_FLAG, &o.hides_thoughts, 0, 0, "do not show thoughts"},
        {"--date YYYY-MM-DD", OPT_STRING, &o.date, 0, 0,
         "for templates that write the date (default: today)"},
        {"-n N", OPT_INT, &o.text.max_tokens, 0, INT32_MAX,
         "tokens of an answer (default 1024); 0: until the context is full"},
        {"-t T", OPT_FLOAT, &o.text.sampling.temperature, 0, 1000,
         "temperature (default 0.7); 0: always the likeliest token"},
        OPT_END,
    };
    const char *words[2] = {NULL, NULL};
    int n_words = 0;
    const char *usage = "run chat MODEL [MESSAGE] [options]\n\n"
                        "Chats with a model; each line is one message. /help lists the commands.\n"
                        "Ctrl-C stops an answer, Ctrl-D ends the conversation.";
    int code = parse_options(argc, argv, TABLES(options, o.text.options), words, 2, &n_words,
                             usage);
    if (code >= 0) return code;
    if (!words[0]) return usage_error("chat: which model?");
    if (words[1] && o.first)
        return usage_error("give the first message once: as a second word or -i TEXT");
    if (words[1]) o.first = words[1];
    if (text_check(&o.text) || check_date(o.date)) return EXIT_USAGE;
    if (o.think && o.no_think) return usage_error("--think and --no-think exclude each other");
    return chat(words[0], &o);
}
