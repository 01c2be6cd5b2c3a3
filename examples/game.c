/* game.c: a game loop that gives the model one token's time a frame, so that the picture never waits for the text.
 *     ./game MODEL */
#include <stdio.h>

#include "../model.h"

int main(int argc, char **argv) {
    gqa_error err = {0};
    gqa_sampler_options how = {.temperature = 0.8f, .min_p = 0.05f, .seed = 7};
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(&how, &err) : NULL;
    int32_t tokens[64];
    const char *prompt = "The knight looked at the dragon and";
    int n = sampler ? gqa_tokenize(model, prompt, 35, GQA_TOKENIZE_BOS, tokens, 64, &err) : -1;
    if (n > 0 && n <= 64 && gqa_session_eval(session, tokens, n, &err) == 0) {
        printf("%s", prompt);
        for (int frame = 0; frame < 40; frame++) {
            /* here the game draws a picture and moves its figures */
            int32_t token = gqa_sampler_next(sampler, gqa_session_logits(session), gqa_model_config(model)->vocab_size);
            char bytes[256];
            int len = gqa_token_bytes(model, token, bytes, sizeof bytes);
            if (gqa_token_is_end(model, token) || len < 0) break;
            fwrite(bytes, 1, (size_t)len, stdout);
            if (gqa_session_eval(session, &token, 1, &err)) break;
        }
        puts("");
    }
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code != 0;
}
