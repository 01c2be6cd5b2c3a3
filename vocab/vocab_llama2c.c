/* vocab_llama2c.c: vocabularies from the tokenizer.bin beside a llama2.c checkpoint. */
#include "../base/cursor.h"
#include "vocab.h"

#define tokenizer_bad(path, err, ...) gqa_fail_path(path, err, GQA_ERR_FORMAT, __VA_ARGS__)
#define TOKENIZER_HINT " (is it the tokenizer of this model?)"

static int read_llama2c_tokens(gqa_vocab *v, gqa_cursor *in, const char *path, gqa_error *err) {
    cursor_u32(in); /* the length of the longest token; not needed */
    for (int id = 0; id < v->n; id++) {
        v->scores[id] = cursor_f32(in);
        int32_t len = cursor_i32(in);
        if (!in->bad && (len < 0 || len > 65536))
            return tokenizer_bad(path, err, "token %d has length %d", id, len);
        v->names[id] = (gqa_bytes){(const char *)cursor_take(in, (size_t)len), (size_t)len};
        v->types[id] = TOKEN_NORMAL;
        if (in->bad)
            return tokenizer_bad(path, err, "truncated at token %d of %d" TOKENIZER_HINT, id, v->n);
    }
    size_t left = cursor_left(in);
    if (!left) return 0;
    return tokenizer_bad(path, err, "%zu bytes after the last of %d tokens" TOKENIZER_HINT, left,
                         v->n);
}

int gqa_vocab_from_llama2c(gqa_vocab **out, const void *data, size_t size, int vocab_size,
                           const char *path, gqa_error *err) {
    gqa_cursor in = {data, size, 0, 0};
    *out = NULL;
    if (vocab_size < 1 || (size_t)vocab_size > size / 8)
        return tokenizer_bad(path, err, "%zu bytes are too few for %d tokens", size, vocab_size);
    gqa_vocab *v = vocab_alloc(vocab_size);
    if (!v)
        return gqa_fail_path(path, err, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens",
                             vocab_size);
    int status = read_llama2c_tokens(v, &in, path, err);
    if (!status) {  /* this format's convention: <unk>, <s>, </s> first */
        if (bytes_start_with(v->names[0], "<unk")) {
            v->types[0] = TOKEN_UNKNOWN;
            v->unk = 0;
        }
        if (vocab_size > 2) {
            v->types[1] = v->types[2] = TOKEN_CONTROL;
            v->bos = 1;
            v->eos = 2;
        }
        v->add_bos = v->add_space = 1;
        vocab_name_bytes(v);
        status = vocab_finish(v, path, err);
    }
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}
