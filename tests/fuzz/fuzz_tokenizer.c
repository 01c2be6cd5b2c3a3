/* fuzz_tokenizer.c: any bytes as a llama2.c tokenizer file; the first byte is half the number of
 * tokens that the model has. */
#include <stdlib.h>
#include <string.h>

#include "../../weights/model_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gqa_error err = {0};
    gqa_vocab *v = NULL;
    int32_t ids[64];
    if (!size) return 0;
    uint8_t *copy = malloc(size);
    if (!copy) return 0;
    memcpy(copy, data + 1, size - 1);
    if (gqa_vocab_from_llama2c(&v, copy, size - 1, data[0] * 2, "fuzz", &err) == 0) {
        const char *text = (const char *)copy;
        size_t len = size < 50 ? size - 1 : 50;
        int n = gqa_vocab_tokenize(v, text, NULL, len, GQA_TOKENIZE_SPECIAL, ids, 64, &err);
        for (int i = 0; i < n && i < 64; i++)
            if (ids[i] < 0 || ids[i] >= gqa_vocab_count(v)) abort();
    } else if (!err.message[0]) {
        abort();
    }
    gqa_vocab_free(v);
    free(copy);
    return 0;
}
