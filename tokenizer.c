/* tokenizer.c: text to token ids, ids to bytes. What is decided here: which special tokens are recognised in a text, and what
 * stands before and after it. The merging is vocab/bpe.c's, after SentencePiece (Kudo & Richardson 2018) or GPT-2's
 * byte-level BPE (Radford et al. 2019). */
#include <stdlib.h>
#include <string.h>

#include "vocab/vocab.h"
#include "weights/model_internal.h"

/* ---- text to ids ------------------------------------------------------------------------------------------------- */

/* Text without special tokens. SentencePiece: a space in front if asked, and every space becomes U+2581. */
static void encode_plain(const gqa_vocab *v, const char *text, size_t len, int prefix, id_list *out) {
    if (v->byte_level) {
        encode_ranked(v, text, len, out);
        return;
    }
    char *copy = malloc(3 * len + 4);
    size_t n = 0;
    if (!copy) {
        out->no_memory = 1;
        return;
    }
    for (size_t i = 0; i < len + (size_t)prefix; i++) {
        char c = prefix && i == 0 ? ' ' : text[i - (size_t)prefix];
        if (c == ' ' && v->escape_space) memcpy(copy + n, SPACE_MARK, 3), n += 3;
        else copy[n++] = c;
    }
    encode_scored(v, copy, n, out);
    free(copy);
}

/* The special token that text[len] starts with, or -1. User-defined ones are always looked for. */
static int32_t special_at(const gqa_vocab *v, const char *text, size_t len, int parse) {
    for (int i = 0; i < v->n_special; i++) {
        int32_t id = v->special[i];
        gqa_bytes name = v->names[id];
        if (name.data[0] == text[0] && name.size <= len && (parse || v->types[id] == TOKEN_USER) && !memcmp(name.data, text, (size_t)name.size)) return id;
    }
    return -1;
}

int gqa_vocab_tokenize(const gqa_vocab *v, const char *text, size_t len, unsigned flags, int32_t *out, int cap, gqa_error *err) {
    id_list list = {out, out ? cap : 0, 0, 0};
    int may_start[256] = {0}, parse = (flags & GQA_TOKENIZE_SPECIAL) != 0;
    if (len > INT32_MAX / 8) return gqa_fail(err, GQA_ERR_ARGUMENT, "a text of %zu bytes is too long to tokenize", len);
    for (int i = 0; i < v->n_special; i++)
        if (parse || v->types[v->special[i]] == TOKEN_USER) may_start[(unsigned char)v->names[v->special[i]].data[0]] = 1;
    if ((flags & GQA_TOKENIZE_BOS) && v->add_bos && v->bos >= 0) id_add(&list, v->bos);
    size_t begin = 0;
    for (size_t i = 0; i <= len; i++) {
        int32_t id = i < len && may_start[(unsigned char)text[i]] ? special_at(v, text + i, len - i, parse) : -1;
        if (i < len && id < 0) continue;
        if (i > begin) encode_plain(v, text + begin, i - begin, v->add_space, &list);
        if (id < 0) break;
        id_add(&list, id);
        begin = i + (size_t)v->names[id].size;
        i = begin - 1;
    }
    if ((flags & GQA_TOKENIZE_EOS) && v->add_eos && v->eos >= 0) id_add(&list, v->eos);
    if (list.no_memory) return gqa_fail(err, GQA_ERR_MEMORY, "no memory to tokenize %zu bytes", len);
    return list.n;
}

/* ---- ids to bytes ------------------------------------------------------------------------------------------------ */

int gqa_vocab_token_bytes(const gqa_vocab *v, int32_t token, char *out, int cap) {
    if (token < 0 || token >= v->n) return GQA_ERR_ARGUMENT;
    gqa_bytes p = v->pieces[token];
    int n = 0;
    if (v->types[token] == TOKEN_CONTROL) return 0;
    if (v->types[token] == TOKEN_BYTE) {
        if (cap > 0) out[0] = (char)vocab_byte_of_name(p);
        return 1;
    }
    for (size_t i = 0; i < p.size; n++) {
        int mark = v->escape_space && p.size - i >= 3 && !memcmp(p.data + i, SPACE_MARK, 3);
        if (n < cap) out[n] = mark ? ' ' : p.data[i];
        i += mark ? 3 : 1;
    }
    return n;
}

/* ---- the same for a model (model.h) ------------------------------------------------------------------------------ */

int gqa_tokenize(const gqa_model *m, const char *text, size_t len, unsigned flags, int32_t *out, int cap, gqa_error *err) {
    if (!m->vocab)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: the model has no vocabulary%s", m->file.path,
                        m->file.n_meta ? "" : " (llama2.c checkpoints need a tokenizer file: -z FILE)");
    return gqa_vocab_tokenize(m->vocab, text, len, flags, out, cap, err);
}

int gqa_tokenize_new(const gqa_model *m, const char *text, size_t len, unsigned flags, int32_t **out, gqa_error *err) {
    *out = NULL;
    int cap = len < INT32_MAX / 8 ? (int)len + 3 : 0, n = cap; /* a text too long for gqa_tokenize gets its message */
    for (int tries = 0; tries < 2; tries++, cap = n) {
        int32_t *tokens = malloc(sizeof *tokens * (size_t)(cap + 1));
        if (!tokens) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for the tokens of %zu bytes", len);
        n = gqa_tokenize(m, text, len, flags, tokens, cap, err);
        if (n >= 0 && n <= cap) {
            *out = tokens;
            return n;
        }
        free(tokens);
        if (n < 0) break;
    }
    return n;
}

int gqa_token_bytes(const gqa_model *m, int32_t token, char *out, int cap) {
    return m->vocab ? gqa_vocab_token_bytes(m->vocab, token, out, cap) : GQA_ERR_ARGUMENT;
}

int32_t gqa_token_find(const gqa_model *m, const char *text) {
    return m->vocab ? gqa_vocab_find(m->vocab, text, strlen(text)) : -1;
}

int gqa_vocab_size(const gqa_model *m) { return m->vocab ? gqa_vocab_count(m->vocab) : 0; }
int32_t gqa_token_bos(const gqa_model *m) { return m->vocab ? gqa_vocab_bos(m->vocab) : -1; }
int32_t gqa_token_eos(const gqa_model *m) { return m->vocab ? gqa_vocab_eos(m->vocab) : -1; }
int gqa_token_is_end(const gqa_model *m, int32_t token) { return m->vocab && gqa_vocab_is_end(m->vocab, token); }
int gqa_token_is_control(const gqa_model *m, int32_t token) { return m->vocab && gqa_vocab_is_control(m->vocab, token); }
int gqa_model_adds_bos(const gqa_model *m) { return m->vocab && gqa_vocab_adds_bos(m->vocab); }
const char *gqa_model_chat_template(const gqa_model *m) { return m->vocab ? gqa_vocab_chat_template(m->vocab) : NULL; }
const char *gqa_model_warning(const gqa_model *m) { return m->vocab ? gqa_vocab_warning(m->vocab) : NULL; }
