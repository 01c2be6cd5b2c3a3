/* resume.c: a session put into memory, and a second one that goes on from there: no token of the
 * prompt is evaluated again.
 *     ./resume MODEL [PROMPT] */
#include <stdio.h>

#include "../model.h"

static int print(void *user, const char *text, size_t len) {
    return fwrite(text, 1, len, user) != len;
}

/* Prints what follows in the session; prompt "": from where it is. */
static int go_on(gqa_session *s, const char *prompt, gqa_error *err) {
    gqa_generate_options opt = {.max_tokens = 12};
    gqa_sampler *sampler = gqa_sampler_new(NULL, err);
    int status = sampler ? gqa_generate(s, sampler, prompt, &opt, print, stdout, NULL, err) : -1;
    gqa_sampler_free(sampler);
    printf("\n");
    return status;
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    void *data = NULL;
    size_t size = 0;
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_session *first = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_session *second = first ? gqa_session_new(model, NULL, &err) : NULL;
    if (second && go_on(first, argc > 2 ? argv[2] : "The dog", &err) == 0 &&
        gqa_session_save_memory(first, &data, &size, &err) == 0 &&
        gqa_session_load_memory(second, data, size, &err) == 0 && go_on(first, "", &err) == 0)
        go_on(second, "", &err); /* the same text as the first one's */
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_free(data);
    gqa_session_free(second);
    gqa_session_free(first);
    gqa_model_close(model);
    return err.code != 0;
}
