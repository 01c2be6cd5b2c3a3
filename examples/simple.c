/* simple.c: the smallest use: a story on stdout.
 *     ./simple MODEL [PROMPT] */
#include <stdio.h>

#include "../model.h"

static int print(void *user, const char *text, size_t len) {
    return fwrite(text, 1, len, user) != len; /* nonzero stops */
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    gqa_generate_options opt = {.max_tokens = 100};
    const char *prompt = argc > 2 ? argv[2] : "Once upon a time";
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(NULL, &err) : NULL; /* NULL options: greedy */
    if (sampler) gqa_generate(session, sampler, prompt, &opt, print, stdout, NULL, &err);
    if (err.code) fprintf(stderr, "%s\n", err.message);
    else puts("");
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code != 0;
}
