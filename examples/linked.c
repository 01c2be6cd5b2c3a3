/* linked.c: the model is part of the program: no file to find at run time. Build it with the
 * model's bytes as an object; the symbols come from the file's name:
 *     ld -r -b binary -z noexecstack -o model.o model.gguf
 *     cc -fopenmp linked.c model.o libgqa.a -lm -o linked */
#include <stdio.h>

#include "../model.h"

extern const unsigned char _binary_model_gguf_start[], _binary_model_gguf_end[];

static int print(void *user, const char *text, size_t len) {
    return fwrite(text, 1, len, user) != len;
}

int main(void) {
    gqa_error err = {0};
    gqa_generate_options opt = {.max_tokens = 60};
    size_t size = (size_t)(_binary_model_gguf_end - _binary_model_gguf_start);
    gqa_model *model = gqa_model_from_memory(_binary_model_gguf_start, size, NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(NULL, &err) : NULL;
    const char *prompt = "Once upon a time";
    if (sampler) gqa_generate(session, sampler, prompt, &opt, print, stdout, NULL, &err);
    puts(err.code ? err.message : "");
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code != 0;
}
