/* choices.c: the model answers with one of the given choices and nothing else: on_logits bans
 * every token that would lead elsewhere.
 *     ./choices MODEL PROMPT CHOICE CHOICE ... */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../model.h"

enum { MAX_CHOICES = 64 };

typedef struct choices {
    int32_t *tokens[MAX_CHOICES];
    int len[MAX_CHOICES], n;
    int start;               /* tokens of the prompt */
    int32_t eos;
} choices;

/* Allows the next token of every choice that begins as the answer does, and after a whole one, that
 * another goes on from, the end. */
static int allow_choices(void *user, const int32_t *tokens, int n_tokens, float *logits,
                         int n_vocab) {
    choices *c = user;
    float allowed[MAX_CHOICES];
    int32_t ids[MAX_CHOICES];
    int count = 0, goes_on = 0;
    if (c->start == 0) c->start = n_tokens;
    int at = n_tokens - c->start; /* tokens of the answer so far */
    for (int i = 0; i < c->n; i++) {
        if (at > c->len[i] || memcmp(c->tokens[i], tokens + c->start, sizeof *tokens * (size_t)at))
            continue;
        goes_on |= at < c->len[i];
        ids[count] = at < c->len[i] ? c->tokens[i][at] : c->eos;
        if (ids[count] < 0) continue; /* there is no end token */
        allowed[count] = logits[ids[count]];
        count++;
    }
    if (!goes_on) return 1;
    for (int i = 0; i < n_vocab; i++) logits[i] = -INFINITY;
    for (int i = 0; i < count; i++) logits[ids[i]] = allowed[i];
    return 0;
}

static int print(void *user, const char *text, size_t len) {
    (void)user;
    return fwrite(text, 1, len, stdout) != len;
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    choices c = {0};
    gqa_generate_options opt = {.on_logits = allow_choices};
    gqa_model *model = argc > 3 ? gqa_model_open(argv[1], NULL, &err) : NULL;
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(NULL, &err) : NULL;
    for (int i = 3; sampler && !err.code && i < argc && c.n < MAX_CHOICES; i++, c.n++)
        c.len[c.n] = gqa_tokenize_new(model, argv[i], strlen(argv[i]), 0, &c.tokens[c.n], &err);
    if (model) c.eos = gqa_token_eos(model);
    if (sampler && !err.code)
        gqa_generate(session, sampler, argv[2], &opt, print, &c, NULL, &err);
    puts(argc > 3 ? "" : "choices MODEL PROMPT CHOICE CHOICE ...");
    if (err.code) fprintf(stderr, "%s\n", err.message);
    for (int i = 0; i < c.n; i++) gqa_free(c.tokens[i]);
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code || argc <= 3;
}
