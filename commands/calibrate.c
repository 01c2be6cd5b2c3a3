/* calibrate.c: runs a model over the start of a text (calibrate.h). */
#include "calibrate.h"

#include "command.h"

int calibrate(gqa_kv_samples *samples, const char *model_path, const char *tokenizer,
              const char *text, size_t len, int max_tokens) {
    gqa_error err = {0};
    gqa_model_options options = {.tokenizer_path = tokenizer};
    gqa_model *m = gqa_model_open(model_path, &options, &err);
    int32_t *tokens = NULL;
    len = min_size(len, 16 * (size_t)max_tokens); /* more bytes than so many tokens have */
    int n = m ? gqa_tokenize_new(m, text, len, GQA_TOKENIZE_BOS, &tokens, &err) : -1;
    int status = n;
    if (n >= 0) status = gqa_kv_samples_take(samples, m, tokens, min_int(n, max_tokens), &err);
    gqa_model_close(m);
    free(tokens);
    return status < 0 ? fail("%s", err.message) : EXIT_SUCCESS;
}
