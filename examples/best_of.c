/* best_of.c: several continuations of one prompt, of which the likeliest is kept. The prompt is
 * evaluated once and copied; both sessions share one workspace.
 *     ./best_of MODEL [PROMPT] */
#include <stdio.h>
#include <string.h>

#include "../model.h"

typedef struct candidate {
    char text[4096];
    size_t len;
    double log_probability;
} candidate;

static int add_text(void *user, const char *text, size_t len) {
    candidate *c = user;
    if (len > sizeof c->text - c->len) return 1;
    memcpy(c->text + c->len, text, len);
    c->len += len;
    return 0;
}

static int add_probability(void *user, int32_t token, float log_probability) {
    candidate *c = user;
    (void)token;
    c->log_probability += (double)log_probability;
    return 0;
}

/* Continues a copy of the prompt, in its own way for each seed. */
static void continue_prompt(gqa_session *copy, const gqa_session *prompt, uint64_t seed,
                            candidate *c, gqa_error *err) {
    gqa_sampler_options how = {.temperature = 0.8f, .min_p = 0.05f, .seed = seed};
    gqa_generate_options opt = {.max_tokens = 40, .on_token = add_probability};
    gqa_sampler *sampler = gqa_sampler_new(&how, err);
    if (sampler && gqa_session_copy(copy, prompt, gqa_session_position(prompt), err) == 0)
        gqa_generate_tokens(copy, sampler, NULL, 0, &opt, add_text, c, NULL, err);
    gqa_sampler_free(sampler);
}

static void find_best(gqa_session *copy, gqa_session *prompt, const char *text, gqa_error *err) {
    const gqa_model *model = gqa_session_model(prompt);
    candidate best = {.log_probability = -1e9};
    int32_t *tokens;
    int n = gqa_tokenize_new(model, text, strlen(text), GQA_TOKENIZE_BOS, &tokens, err);
    if (n > 0) gqa_session_eval(prompt, tokens, n, err);
    for (int i = 0; i < 5 && !err->code; i++) {
        candidate c = {0};
        continue_prompt(copy, prompt, (uint64_t)i, &c, err);
        printf("%9.3f %s%.*s\n", c.log_probability, text, (int)c.len, c.text);
        if (c.log_probability > best.log_probability) best = c;
    }
    printf("best:     %s%.*s\n", text, (int)best.len, best.text);
    gqa_free(tokens);
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_workspace *workspace = model ? gqa_workspace_new(model, NULL, &err) : NULL;
    gqa_session_options opt = {.workspace = workspace};
    gqa_session *prompt = workspace ? gqa_session_new(model, &opt, &err) : NULL;
    gqa_session *copy = prompt ? gqa_session_new(model, &opt, &err) : NULL;
    if (copy)
        printf("two sessions of %d KiB each share %d KiB\n", (int)(gqa_session_bytes(copy) / 1024),
               (int)(gqa_workspace_bytes(workspace) / 1024));
    if (copy) find_best(copy, prompt, argc > 2 ? argv[2] : "Once upon a time", &err);
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_session_free(copy);
    gqa_session_free(prompt);
    gqa_workspace_free(workspace);
    gqa_model_close(model);
    return err.code != 0;
}
