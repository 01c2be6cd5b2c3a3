/* linked.c: the model is part of the program: no file to find at run time. Build it with the model's bytes as an object:
 *     ld -r -b binary -z noexecstack -o model.o model.gguf      (the symbols come from the file's name)
 *     cc -fopenmp linked.c model.o libgqa.a -lm -o linked */
#include <stdio.h>

#include "../model.h"

extern const unsigned char _binary_model_gguf_start[], _binary_model_gguf_end[];

static int print(void *user, const char *text, size_t len) {
    (void)user;
    return fwrite(text, 1, len, stdout) != len;
}

int main(void) {
    gqa_error err = {0};
    gqa_generate_options opt = {.max_tokens = 60};
    size_t size = (size_t)(_binary_model_gguf_end - _binary_model_gguf_start);
    gqa_model *model = gqa_model_from_memory(_binary_model_gguf_start, size, NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(NULL, &err) : NULL;
    if (sampler) gqa_generate(session, sampler, "Once upon a time", &opt, print, NULL, NULL, &err);
    puts(err.code ? err.message : "");
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code != 0;
}
