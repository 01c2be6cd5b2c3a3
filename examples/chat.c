/* chat.c: a conversation, line by line from stdin. Every time all messages are formatted again, and
 * gqa_session_sync evaluates only what the session does not hold yet: messages may be changed or
 * dropped at will.
 *     ./chat MODEL */
#include <stdio.h>
#include <string.h>

#include "../model.h"

enum { MAX_MESSAGES = 64, MAX_TEXT = 4096 };

typedef struct conversation {
    gqa_message messages[MAX_MESSAGES];
    char text[MAX_MESSAGES][MAX_TEXT]; /* their content */
    int n;
} conversation;

/* The next message's text, which begins empty. */
static char *add_message(conversation *c, const char *role) {
    char *text = c->text[c->n];
    text[0] = 0;
    c->messages[c->n++] = (gqa_message){.role = role, .content = text};
    return text;
}

static int add_text(void *user, const char *text, size_t len) {
    char *answer = user;
    size_t used = strlen(answer);
    if (used + len >= MAX_TEXT) return 1;
    memcpy(answer + used, text, len);
    answer[used + len] = 0;
    fwrite(text, 1, len, stdout);
    return fflush(stdout) != 0;
}

static void answer(conversation *c, gqa_session *session, gqa_sampler *sampler, gqa_error *err) {
    const gqa_model *model = gqa_session_model(session);
    const char *stop = gqa_chat_stop(model, NULL);
    gqa_generate_options opt = {.max_tokens = 200, .stop = &stop, .n_stop = stop != NULL};
    int32_t *tokens;
    int n = gqa_chat_format(model, c->messages, c->n, NULL, &tokens, err);
    int kept = n > 0 ? gqa_session_sync(session, tokens, n, err) : -1;
    gqa_free(tokens);
    if (kept < 0) return;
    char *text = add_message(c, "assistant");
    gqa_generate_tokens(session, sampler, NULL, 0, &opt, add_text, text, NULL, err);
    printf("\n[%d tokens, %d of them evaluated before]\n", n, kept);
}

int main(int argc, char **argv) {
    static conversation c;
    gqa_error err = {0};
    gqa_sampler_options how = {.temperature = 0.7f, .min_p = 0.05f, .seed = 1};
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(&how, &err) : NULL;
    while (sampler && !err.code && c.n + 2 <= MAX_MESSAGES) {
        char *line = add_message(&c, "user");
        if (!fgets(line, MAX_TEXT, stdin)) break;
        line[strcspn(line, "\n")] = 0;
        answer(&c, session, sampler, &err);
    }
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code != 0;
}
