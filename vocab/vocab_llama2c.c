/* vocab_llama2c.c: a vocabulary from the tokenizer.bin that llama2.c keeps beside its checkpoints. */
#include "../base/cursor.h"
#include "vocab.h"

int gqa_vocab_from_llama2c(gqa_vocab **out, const void *data, size_t size, int vocab_size, const char *path, gqa_error *err) {
    gqa_cursor in = {data, size, 0, 0};
    *out = NULL;
    cursor_u32(&in); /* the longest token; not needed */
    if (vocab_size < 1 || (uint64_t)vocab_size > size / 8)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: %zu bytes are too few for %d tokens", path, size, vocab_size);
    gqa_vocab *v = vocab_alloc(vocab_size);
    if (!v) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for a vocabulary of %d tokens", path, vocab_size);
    int status = 0;
    for (int id = 0; id < vocab_size && !status; id++) {
        v->scores[id] = cursor_f32(&in);
        int32_t len = cursor_i32(&in);
        if (!in.bad && (len < 0 || len > 65536)) status = gqa_fail(err, GQA_ERR_FORMAT, "%s: token %d has length %d", path, id, len);
        const uint8_t *p = status || in.bad ? NULL : cursor_take(&in, (uint64_t)len);
        v->names[id] = (gqa_bytes){(const char *)p, p ? (uint64_t)len : 0};
        v->types[id] = TOKEN_NORMAL;
        if (!status && in.bad)
            status = gqa_fail(err, GQA_ERR_FORMAT, "%s: cut off at token %d of %d (is it the tokenizer of this model?)", path, id, vocab_size);
    }
    if (!status && cursor_left(&in))
        status = gqa_fail(err, GQA_ERR_FORMAT, "%s: %llu bytes after the last of %d tokens (is it the tokenizer of this model?)", path,
                          (unsigned long long)cursor_left(&in), vocab_size);
    if (!status) {  /* this format's convention: <unk>, <s>, </s> first */
        if (vocab_size > 0 && bytes_start_with(v->names[0], "<unk")) v->types[0] = TOKEN_UNKNOWN, v->unk = 0;
        if (vocab_size > 2) v->types[1] = v->types[2] = TOKEN_CONTROL, v->bos = 1, v->eos = 2;
        v->add_bos = v->add_space = 1;
        vocab_name_bytes(v);
        status = vocab_finish(v, path, err);
    }
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}
