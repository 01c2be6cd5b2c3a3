/* chat_commands.c: what is typed after a slash in a conversation (chat.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../base/base.h"
#include "../base/json.h"
#include "chat.h"
#include "json.h"

/* ---- the conversation ----------------------------------------------------------------------- */

static int clear(conversation *c, const char *unused) {
    int first = has_system(c) && !c->n_held;
    (void)unused;
    drop_turns(c, first, c->n - first);
    free(c->held);
    c->held = NULL;
    c->n_held = c->has_dropped = 0;
    gqa_session_rewind(c->run.session, 0, NULL);
    fprintf(stderr, "(a new conversation)\n");
    return 0;
}

static int set_system(conversation *c, const char *text) {
    if (!*text) {
        const char *system = has_system(c) ? c->turns[0].content : "(no system prompt)";
        write_text(stderr, system, strlen(system));
        fputc('\n', stderr);
    } else if (c->n_held) {
        fprintf(stderr, "run: /system: the conversation was loaded without its messages\n");
    } else if (!add_turn(c, "system", text, strlen(text))) {
        turn system = c->turns[--c->n];
        if (has_system(c)) drop_turns(c, 0, 1);
        memmove(c->turns + 1, c->turns, sizeof *c->turns * c->n++);
        c->turns[0] = system;
        fprintf(stderr, "(system prompt set)\n");
    }
    return 0;
}

static int ends_with(const conversation *c, const char *role) {
    return c->n > (c->n_held ? 2 : 0) && !strcmp(c->turns[c->n - 1].role, role);
}

/* The session goes back to what it has in common with the turns that are left. */
static void rewind_to_turns(conversation *c) {
    gqa_session *s = c->run.session;
    const int32_t *now = gqa_session_tokens(s), *wanted = c->held;
    int32_t *tokens = NULL;
    int n = c->n_held, same = 0, position = gqa_session_position(s);
    if (ends_with(c, "assistant")) { /* not all templates write less */
        c->format.no_generation_prompt = 1;
        n = format_turns(c, 0, &tokens);
        c->format.no_generation_prompt = 0;
        wanted = tokens;
    }
    while (same < n && same < position && wanted[same] == now[same]) same++;
    if (n >= 0) gqa_session_rewind(s, same, NULL);
    gqa_free(tokens);
}

static int undo(conversation *c, const char *unused) {
    int before = c->n;
    (void)unused;
    if (ends_with(c, "assistant")) drop_turns(c, c->n - 1, 1);
    if (ends_with(c, "user")) drop_turns(c, c->n - 1, 1);
    if (c->n < before) rewind_to_turns(c);
    fprintf(stderr, c->n < before ? "(the last message is taken back)\n"
                                  : "run: /undo: there is no message\n");
    return 0;
}

static int regenerate(conversation *c, const char *unused) {
    turn old = {0};
    int failed = 0;
    (void)unused;
    if (ends_with(c, "assistant")) old = c->turns[--c->n];
    if (ends_with(c, "user")) failed = answer(c);
    else fprintf(stderr, "run: /regen: there is no message\n");
    if (old.content && !ends_with(c, "assistant")) {
        c->turns[c->n++] = old; /* there is no other answer */
    } else {
        free(old.content);
        free(old.tokens);
    }
    c->has_failed |= failed;
    return failed != 0;
}

/* ---- what there is -------------------------------------------------------------------------- */

static int show_stats(conversation *c, const char *unused) {
    (void)unused;
    fprintf(stderr, "%s template, seed %lld, %d of %d positions, %d answer%s\n",
            gqa_chat_template_name(c->run.model, &c->format), (long long)c->seed,
            gqa_session_position(c->run.session), gqa_session_context(c->run.session),
            c->n_generated, plural(c->n_generated));
    fprintf(stderr, "last prompt: %d token%s kept; evaluated ", c->n_kept, plural(c->n_kept));
    show_tokens(c->n_evaluated, c->n_evaluated, c->prefill_seconds);
    fputs("\nlast answer: ", stderr);
    show_tokens(c->last.generated_tokens, c->last.generated_tokens - 1, c->last.decode_seconds);
    fputc('\n', stderr);
    show_speculation(&c->run, &c->last);
    return 0;
}

static int show_context(conversation *c, const char *unused) {
    (void)unused;
    fprintf(stderr, "%d of %d positions, %d messages\n", gqa_session_position(c->run.session),
            gqa_session_context(c->run.session), c->n - (c->n_held ? 2 : 0));
    return 0;
}

/* The prompt as the template writes it, special tokens by name. */
static int show_template(conversation *c, const char *unused) {
    const gqa_model *m = c->run.model;
    int32_t *tokens = NULL;
    size_t len = 0;
    c->format.no_generation_prompt = ends_with(c, "assistant");
    int n = c->n ? format_turns(c, 0, &tokens) : 0;
    c->format.no_generation_prompt = 0;
    (void)unused;
    fprintf(stderr, "(%s template)\n", gqa_chat_template_name(m, &c->format));
    enum { LONGEST = 256 };
    char *all = n > 0 ? malloc((size_t)n * LONGEST) : NULL; /* characters span tokens */
    for (int i = 0; all && i < n; i++) {
        char *text = all + len;
        int cap = LONGEST;
        int size = gqa_token_is_control(m, tokens[i]) ? gqa_token_name(m, tokens[i], text, cap)
                                                      : gqa_token_bytes(m, tokens[i], text, cap);
        if (size > 0) len += (size_t)min_int(size, cap);
    }
    if (all) write_text(stderr, all, len);
    if (n > 0) fputc('\n', stderr);
    free(all);
    gqa_free(tokens);
    return 0;
}

static int think(conversation *c, const char *word) {
    static const char *const words[] = {"off", "auto", "on"};
    int found = 0;
    while (found < 3 && strcmp(word, words[found])) found++;
    if (*word && found == 3) {
        fail("/think: expected on, off or auto, got \"%s\"", word);
        return 0;
    }
    if (*word) c->format.thinking = found - 1;
    check_thinking(c);
    fprintf(stderr, "(thinking: %s; /think on, off or auto)\n", words[c->format.thinking + 1]);
    return 0;
}

/* ---- files ---------------------------------------------------------------------------------- */

/* FILE.json, for free(). */
static char *messages_path(const char *path) {
    char *out = malloc(strlen(path) + 6);
    if (out) sprintf(out, "%s.json", path);
    else fail("out of memory");
    return out;
}

/* Whether a saved session may be written to FILE, and messages to FILE.json: either none is there,
 * or an earlier session with its messages. */
static int may_save(const char *path, const char *beside) {
    int exists = gqa_os_exists(path);
    if (exists && !file_begins(path, "gqaSESS")) {
        fail("%s: not a saved session; give another name, or remove the file", path);
        return 0;
    }
    if (exists || !gqa_os_exists(beside)) return 1;
    fail("%s exists, but no saved session %s; give another name, or remove the file", beside, path);
    return 0;
}

/* The messages as OpenAI's clients write them. */
static int save_messages(const conversation *c, const char *path, gqa_error *err) {
    gqa_output out;
    int status = gqa_output_open(&out, path, err);
    if (status) return status;
    json_writer j = {.out = out.file};
    json_begin(&j, NULL, '[');
    for (int i = 0; i < c->n; i++) {
        json_begin(&j, NULL, '{');
        json_string(&j, "role", c->turns[i].role);
        json_string(&j, "content", c->turns[i].content);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    putc('\n', j.out);
    if (ferror(j.out)) out.failed = errno;
    return gqa_output_finish(&out, err);
}

static int save(conversation *c, const char *path) {
    gqa_error err = {0};
    char *beside = messages_path(path);
    if (!beside) return 0;
    if (may_save(path, beside)) {
        hold_signals();
        int status = gqa_session_save(c->run.session, path, &err);
        if (!status && c->n_held) gqa_os_remove(beside); /* of the session that was there */
        else if (!status) status = save_messages(c, beside, &err);
        release_signals();
        if (status) fail("%s", err.message);
        else fprintf(stderr, "(saved)\n");
    }
    free(beside);
    return 0;
}

/* A string member of an object; NULL: it has none. */
static const gqa_json_node *member(const gqa_json_node *object, const char *name) {
    const gqa_json_node *at = object + 1;
    if (object->kind != GQA_JSON_OBJECT) return NULL;
    for (; at < object + object->size; at += 1 + at[1].size)
        if (!strcmp(at->text, name) && at[1].kind == GQA_JSON_STRING) return at + 1;
    return NULL;
}

/* Adds the messages of a file's text to *c. 0, or -1 after printing an error. */
static int add_messages(conversation *c, const char *path, const char *text, size_t len) {
    static const char *const roles[] = {"system", "user", "assistant"};
    gqa_json json = {0};
    gqa_error err = {0};
    int status = gqa_json_parse(&json, text, len, &err);
    if (status) fail("%s: %s", path, err.message);
    else if (json.nodes->kind != GQA_JSON_ARRAY)
        status = fail("%s: expected an array of messages, got something else", path);
    const gqa_json_node *at = json.nodes + 1, *end = json.nodes + json.n_nodes;
    for (; !status && at < end; at += at->size) {
        const gqa_json_node *role = member(at, "role"), *content = member(at, "content");
        int known = 0;
        while (role && known < 3 && strcmp(role->text, roles[known])) known++;
        if (role && content && known < 3)
            status = add_turn(c, roles[known], content->text, content->len);
        else
            status = fail("%s: expected an array of messages of system, user and assistant", path);
    }
    gqa_json_free(&json);
    return status ? -1 : 0;
}

/* A conversation whose messages are not known goes on after its tokens: two turns stand for it. */
static int hold_tokens(conversation *c) {
    const gqa_session *session = c->run.session;
    int n = gqa_session_position(session);
    c->held = malloc(sizeof *c->held * ((size_t)n + 1));
    if (!c->held) return fail("out of memory");
    if (n) memcpy(c->held, gqa_session_tokens(session), sizeof *c->held * n);
    c->n_held = n;
    return n && (add_turn(c, "user", "?", 1) || add_turn(c, "assistant", "?", 1)) ? -1 : 0;
}

/* Loads FILE and FILE.json into a conversation without turns; messages for it are printed. */
static int load_into(conversation *c, const char *path, const char *beside) {
    gqa_error err = {0};
    if (gqa_session_load(c->run.session, path, &err)) return fail("%s", err.message);
    if (!gqa_os_exists(beside)) return hold_tokens(c);
    size_t len;
    char *text = read_text(beside, &len);
    int status = text ? add_messages(c, beside, text, len) : -1;
    free(text);
    return status;
}

/* What cannot be loaded leaves the conversation as it was. */
static int load(conversation *c, const char *path) {
    gqa_session *session = c->run.session;
    gqa_error err = {0};
    void *kept;
    size_t size;
    char *beside = messages_path(path);
    if (!beside) return 0;
    conversation loaded = *c;
    loaded.turns = NULL;
    loaded.held = NULL;
    loaded.n = loaded.capacity = loaded.n_held = loaded.has_dropped = 0;
    int status = gqa_session_save_memory(session, &kept, &size, &err);
    if (status) {
        fprintf(stderr, "run: %s\n", err.message);
    } else if ((status = load_into(&loaded, path, beside))) {
        gqa_session_load_memory(session, kept, size, NULL);
        fprintf(stderr, "(the conversation is as it was)\n");
    } else {
        fprintf(stderr, "(loaded: %d positions)\n", gqa_session_position(session));
    }
    conversation old = status ? loaded : *c;
    if (!status) *c = loaded;
    drop_turns(&old, 0, old.n);
    free(old.turns);
    free(old.held);
    free(beside);
    gqa_free(kept);
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------ */

static int leave(conversation *c, const char *unused) {
    (void)c;
    (void)unused;
    return 1;
}

static int show_help(conversation *c, const char *unused);

static const struct {
    const char *name, *argument; /* NULL: takes none; "[...]": may have one */
    const char *help;            /* NULL: another name of the one before */
    int (*run)(conversation *c, const char *argument);
} commands[] = {
    {"/help", NULL, "this list", show_help},
    {"/?", NULL, NULL, show_help},
    {"/system", "[TEXT]", "show or set the system prompt", set_system},
    {"/regen", NULL, "another answer to the last message", regenerate},
    {"/retry", NULL, NULL, regenerate},
    {"/undo", NULL, "take back the last message and its answer", undo},
    {"/clear", NULL, "start over; the system prompt stays", clear},
    {"/reset", NULL, NULL, clear},
    {"/new", NULL, NULL, clear},
    {"/save", "FILE", "the session to FILE, its messages to FILE.json", save},
    {"/load", "FILE", "both", load},
    {"/template", NULL, "the prompt as the template writes it", show_template},
    {"/context", NULL, "how much of the context is used", show_context},
    {"/stats", NULL, "speed of the last answer", show_stats},
    {"/think", "[on|off|auto]", "whether the template asks for thoughts", think},
    {"/exit", NULL, "end the conversation", leave},
    {"/quit", NULL, NULL, leave},
    {"/bye", NULL, NULL, leave},
};
enum { N_COMMANDS = array_length(commands) };

static int show_help(conversation *c, const char *unused) {
    (void)c;
    (void)unused;
    for (int i = 0; i < N_COMMANDS; i++) {
        char usage[40];
        if (!commands[i].help) continue;
        const char *argument = commands[i].argument ? commands[i].argument : "";
        snprintf(usage, sizeof usage, "%s %s", commands[i].name, argument);
        fprintf(stderr, "  %-22s %s\n", usage, commands[i].help);
    }
    fprintf(stderr, "Ctrl-C stops an answer, Ctrl-D ends the conversation; \\ at the end of a line "
                    "or Alt-Enter: more lines\n");
    return 0;
}

int is_chat_command(const char *line) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?";
    return line[0] == '/' && strchr(" ", line[1 + strspn(line + 1, letters)]);
}

static void unknown_command(const char *typed) {
    int best = NO_TYPO, nearest = -1;
    for (int i = 0; i < N_COMMANDS; i++) {
        const char *name = commands[i].name + 1; /* the slash is not counted */
        size_t len = strlen(name);
        int is_longer = len > 3 && !strncmp(typed + 1, name, len); /* /regenerate */
        int distance = is_longer ? 0 : typo_distance(typed + 1, name, len);
        if (distance < best) nearest = i;
        if (distance < best) best = distance;
    }
    fprintf(stderr, "run: unknown command %s", typed);
    if (nearest >= 0) fprintf(stderr, ", did you mean %s?", commands[nearest].name);
    fprintf(stderr, " (/help lists them; a message that begins so: put a blank before it)\n");
}

int chat_command(conversation *c, char *line) {
    char *argument = line + strcspn(line, " ");
    if (*argument) *argument++ = 0;
    argument += strspn(argument, " ");
    for (int i = 0; i < N_COMMANDS; i++) {
        const char *name = commands[i].name, *expected = commands[i].argument;
        if (strcasecmp(line, name)) continue;
        if (*argument && !expected)
            fprintf(stderr, "run: %s takes no argument, got \"%s\"\n", name, argument);
        else if (!*argument && expected && *expected != '[')
            fprintf(stderr, "run: %s: expected %s %s\n", name, name, expected);
        else return commands[i].run(c, argument);
        return 0;
    }
    unknown_command(line);
    return 0;
}
