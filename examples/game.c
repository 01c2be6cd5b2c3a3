/* game.c: a game loop that gives the model one token's time a frame, so that the picture never
 * waits for the text.
 *     ./game MODEL */
#include <stdio.h>
#include <string.h>

#include "../model.h"

/* Samples a token, shows its text, evaluates it. Returns whether the story goes on. */
static int next_token(gqa_session *session, gqa_sampler *sampler, gqa_text *text, gqa_error *err) {
    const gqa_model *model = gqa_session_model(session);
    const float *logits = gqa_session_logits(session);
    int32_t token = gqa_sampler_next(sampler, logits, gqa_model_config(model)->vocab_size);
    const char *out;
    size_t len;
    if (token < 0 || token == gqa_token_bos(model) || gqa_token_is_end(model, token)) return 0;
    gqa_sampler_accept(sampler, token); /* for the repetition penalty */
    if (gqa_text_push(text, token, &out, &len, err)) return 0;
    fwrite(out, 1, len, stdout); /* whole characters */
    return gqa_session_eval(session, &token, 1, err) == 0;
}

static void play(gqa_session *session, gqa_sampler *sampler, gqa_error *err) {
    const char *prompt = "The knight looked at the dragon and", *rest;
    const gqa_model *model = gqa_session_model(session);
    gqa_text *text = gqa_text_new(model, 0, NULL, 0, err);
    size_t len;
    int32_t *tokens;
    int n = gqa_tokenize_new(model, prompt, strlen(prompt), GQA_TOKENIZE_BOS, &tokens, err);
    if (text && n > 0 && gqa_session_eval(session, tokens, n, err) == 0) {
        printf("%s", prompt);
        for (int i = 0; i < n; i++) gqa_sampler_accept(sampler, tokens[i]);
        for (int frame = 0; frame < 40; frame++) {
            /* here the game draws a picture and moves its figures */
            if (!next_token(session, sampler, text, err)) break;
        }
        gqa_text_flush(text, &rest, &len);
        printf("%.*s\n", (int)len, rest);
    }
    gqa_free(tokens);
    gqa_text_free(text);
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    gqa_sampler_options how = {.temperature = 0.8f, .min_p = 0.05f, .repeat_penalty = 1.1f,
                               .seed = 7};
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(&how, &err) : NULL;
    if (sampler) play(session, sampler, &err);
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code != 0;
}
