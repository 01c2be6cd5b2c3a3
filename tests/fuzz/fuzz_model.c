/* fuzz_model.c: any bytes as a GGUF or llama2.c checkpoint: refused, or opened and run. */
#include <stdlib.h>
#include <string.h>

#include "../../model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gqa_error err = {0};
    gqa_model_options mo = {.n_threads = 1, .no_repack = size & 1};
    uint8_t *copy = malloc(size ? size : 1); /* exact, so that a read past the end is seen */
    if (!copy) return 0;
    memcpy(copy, data, size);
    gqa_model *m = gqa_model_from_memory(copy, size, &mo, &err);
    if (!m && (!err.code || !err.message[0])) abort(); /* every refusal says why */
    gqa_session_options so = {.context = 8, .n_threads = 1, .batch = 8};
    gqa_session *s = m ? gqa_session_new(m, &so, &err) : NULL;
    int32_t ids[64], tokens[3] = {0, 0, 0};
    unsigned flags = GQA_TOKENIZE_SPECIAL | GQA_TOKENIZE_BOS;
    if (m) gqa_tokenize(m, "a <s> b1\xF0\x9F", 10, flags, ids, 64, &err);
    if (s && gqa_session_eval(s, tokens, 3, &err) == 0) gqa_session_eval(s, tokens, 1, &err);
    gqa_session_free(s);
    gqa_model_close(m);
    free(copy);
    return 0;
}
