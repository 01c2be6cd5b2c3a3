/* calibrate.c: runs a model over the start of a text for the aligned pooling (calibrate.h). */
#include "calibrate.h"

#include <stdlib.h>

int calibrate(gqa_kv_samples *samples, const char *model_path, const char *tokenizer, const char *text, size_t len, int most) {
    gqa_error err = {0};
    gqa_model_options mo = {.tokenizer_path = tokenizer};
    if (len > 16 * (size_t)most) len = 16 * (size_t)most; /* more bytes than so many tokens have */
    gqa_model *m = gqa_model_open(model_path, &mo, &err);
    int32_t *tokens = NULL;
    int n = m ? gqa_tokenize_new(m, text, len, GQA_TOKENIZE_BOS, &tokens, &err) : -1, code = EXIT_FAILURE;
    if (n < 0) fail("%s", err.message);
    else if (gqa_kv_samples_take(samples, m, tokens, n < most ? n : most, &err)) fail("%s", err.message);
    else code = EXIT_SUCCESS;
    gqa_model_close(m);
    free(tokens);
    return code;
}
