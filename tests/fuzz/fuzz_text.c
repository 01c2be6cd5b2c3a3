/* fuzz_text.c: any bytes as text: ids in range that spell the bytes again. The vocabulary is
 * $GQA_FUZZ_MODEL's, or the shipped model's. */
#include <stdlib.h>
#include <string.h>

#include "../../model.h"

static size_t with_spaces(char *to, const uint8_t *text, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < size; n++) {
        int mark = size - i >= 3 && !memcmp(text + i, "\xE2\x96\x81", 3);
        to[n] = mark ? ' ' : (char)text[i];
        i += mark ? 3 : 1;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static gqa_model *m;
    gqa_error err = {0};
    if (!m) {
        gqa_model_options mo = {.vocab_only = 1};
        const char *path = getenv("GQA_FUZZ_MODEL");
        m = gqa_model_open(path ? path : "tests/models/stories-gqa.gguf", &mo, &err);
        if (!m) abort();
    }
    int max_ids = 3 * (int)size + 5; /* 3 a space without a token of its own */
    size_t max_bytes = 4 * size + 16;
    int32_t *ids = malloc(sizeof *ids * (size_t)max_ids);
    char *back = malloc(max_bytes), *copy = malloc(size + 1);
    if (!ids || !back || !copy) abort();
    size_t at = 0;
    int n = gqa_tokenize(m, (const char *)data, size, 0, ids, max_ids, &err);
    if (n < 0 || n > max_ids) abort();
    for (int i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= gqa_vocab_size(m)) abort();
        int len = gqa_token_bytes(m, ids[i], back + at, (int)(max_bytes - at));
        if (len < 0) abort();
        at += (size_t)len;
    }
    size_t space = at == size + 1; /* SentencePiece's, before the text */
    if (at != size + space || memcmp(back + space, data, size)) {
        size_t len = with_spaces(copy, data, size); /* U+2581 comes back as a space */
        space = at == len + 1;
        if (at != len + space || memcmp(back + space, copy, len)) abort();
    }
    gqa_tokenize(m, (const char *)data, size, GQA_TOKENIZE_SPECIAL, ids, max_ids, &err);
    free(ids);
    free(back);
    free(copy);
    return 0;
}
