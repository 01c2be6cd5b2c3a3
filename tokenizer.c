/* tokenizer.c: text to token ids, ids to bytes. What is decided here: which special tokens are
 * recognised in a text, and what is put before and after it. The merging is vocab/bpe.c's, after
 * SentencePiece (Kudo & Richardson 2018) or GPT-2's byte-level BPE (Radford et al. 2019). */
#include <stdlib.h>
#include <string.h>

#include "vocab/vocab.h"
#include "weights/model_internal.h"

/* ---- text to ids ------------------------------------------------------------------------- */

/* A text without special tokens. SentencePiece: a space is put before it if the vocabulary asks
 * for one, and every space becomes U+2581. After a control token, the space that the text begins
 * with is that one: "[INST] Hi" is [INST], " Hi" (as Mistral trained; llama.cpp makes two). */
static void encode_plain(const gqa_vocab *v, const char *text, size_t len, int after_control,
                         id_list *out) {
    const int add_space = v->add_space && !(after_control && text[0] == ' ');
    if (v->byte_level) {
        encode_ranked(v, text, len, out);
        return;
    }
    char *copy = malloc(3 * (len + 1));
    if (!copy) {
        out->no_memory = 1;
        return;
    }
    size_t n = 0;
    if (v->escape_space) {
        if (add_space) n = vocab_mark_spaces(" ", 1, copy);
        n += vocab_mark_spaces(text, len, copy + n);
    } else {
        if (add_space) copy[n++] = ' ';
        memcpy(copy + n, text, len);
        n += len;
    }
    if (v->ranked) encode_ranked(v, copy, n, out);
    else encode_scored(v, copy, n, out);
    free(copy);
}

/* The special token at text[at]. User-defined tokens are always recognised, others only if the
 * caller asks; in what people write, no marks are. */
static const special_token *special_at(const gqa_vocab *v, const char *text, size_t at, size_t len,
                                       const unsigned char *is_content, unsigned flags) {
    special_kinds kinds = flags & GQA_TOKENIZE_SPECIAL ? SPECIAL_ALL : SPECIAL_USER;
    const special_token *s = vocab_special_at(v, text + at, len - at, kinds);
    for (size_t i = at; s && is_content && i < at + s->name.size; i++)
        if (is_content[i]) return vocab_special_at(v, text + at, len - at, SPECIAL_PLAIN);
    return s;
}

int gqa_vocab_tokenize(const gqa_vocab *v, const char *text, const unsigned char *is_content,
                       size_t len, unsigned flags, int32_t *out, int cap, gqa_error *err) {
    const unsigned known = GQA_TOKENIZE_BOS | GQA_TOKENIZE_SPECIAL | GQA_TOKENIZE_EOS;
    id_list list = {out, out ? cap : 0, 0, 0};
    if (flags & ~known)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "tokenize flags 0x%x: unknown bits 0x%x", flags,
                        flags & ~known);
    if (len > INT32_MAX / 8)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "a text of %zu bytes is too long to tokenize", len);
    int adds_bos = (flags & GQA_TOKENIZE_BOS) && v->add_bos && v->bos >= 0;
    if (adds_bos) id_add(&list, v->bos);
    size_t begin = 0, at = 0; /* of the text between special tokens */
    int after_control = 0;
    while (at < len) {
        const special_token *s = special_at(v, text, at, len, is_content, flags);
        if (!s) {
            at++;
            continue;
        }
        if (at > begin) encode_plain(v, text + begin, at - begin, after_control, &list);
        int second_bos = s->id == v->bos && at == 0 && adds_bos;
        if (!second_bos) id_add(&list, s->id); /* a prompt that brings its own BOS */
        after_control = v->types[s->id] == TOKEN_CONTROL;
        begin = at += s->name.size;
    }
    if (len > begin) encode_plain(v, text + begin, len - begin, after_control, &list);
    if ((flags & GQA_TOKENIZE_EOS) && v->add_eos && v->eos >= 0) id_add(&list, v->eos);
    if (!list.no_memory) return list.n;
    return gqa_fail(err, GQA_ERR_MEMORY, "no memory to tokenize %zu bytes", len);
}

/* ---- ids to bytes ------------------------------------------------------------------------ */

int gqa_vocab_token_bytes(const gqa_vocab *v, int32_t token, char *out, int cap) {
    if (token < 0 || token >= v->n) return GQA_ERR_ARGUMENT;
    gqa_bytes bytes = v->bytes[token];
    int n = 0;
    if (v->types[token] == TOKEN_CONTROL) return 0;
    if (v->types[token] == TOKEN_BYTE) {
        if (cap > 0) out[0] = (char)vocab_byte_of_name(bytes);
        return 1;
    }
    for (size_t i = 0; i < bytes.size; n++) {
        const char *p = bytes.data + i;
        int mark = v->escape_space && bytes.size - i >= 3 && !memcmp(p, SPACE_MARK, 3);
        if (n < cap) out[n] = mark ? ' ' : *p;
        i += mark ? 3 : 1;
    }
    return n;
}

int gqa_vocab_token_name(const gqa_vocab *v, int32_t token, char *out, int cap) {
    if (token < 0 || token >= v->n) return GQA_ERR_ARGUMENT;
    gqa_bytes name = v->names[token];
    if (cap > 0) memcpy(out, name.data, min_size(name.size, (size_t)cap));
    return name.size < INT32_MAX ? (int)name.size : INT32_MAX;
}

/* ---- the same for a model (model.h) ------------------------------------------------------ */

static int tokenize(const gqa_model *m, const char *text, const unsigned char *is_content,
                    size_t len, unsigned flags, int32_t *out, int cap, gqa_error *err) {
    if (m->vocab) return gqa_vocab_tokenize(m->vocab, text, is_content, len, flags, out, cap, err);
    const char *hint = " (llama2.c checkpoints need a tokenizer file: -z FILE)";
    return gqa_fail_path(m->file.path, err, GQA_ERR_ARGUMENT, "the model has no vocabulary%s",
                         m->file.n_meta ? "" : hint);
}

int gqa_tokenize(const gqa_model *m, const char *text, size_t len, unsigned flags, int32_t *out,
                 int cap, gqa_error *err) {
    if (!m || (!text && len > 0))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "tokenize: model or text is NULL");
    return tokenize(m, text, NULL, len, flags, out, cap, err);
}

int gqa_tokenize_marked(const gqa_model *m, const char *text, const unsigned char *is_content,
                        size_t len, unsigned flags, int32_t **out, gqa_error *err) {
    if (out) *out = NULL;
    if (!m || (!text && len > 0) || !out)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "tokenize: model, text or out is NULL");
    int cap = len < INT32_MAX / 8 ? (int)len + 3 : 0; /* gqa_tokenize refuses a longer text */
    for (int tries = 0; tries < 2; tries++) {
        int32_t *tokens = malloc(sizeof *tokens * (size_t)(cap + 1));
        if (!tokens)
            return gqa_fail(err, GQA_ERR_MEMORY, "no memory for the tokens of %zu bytes", len);
        int n = tokenize(m, text, is_content, len, flags, tokens, cap, err);
        if (n >= 0 && n <= cap) {
            *out = tokens;
            return n;
        }
        free(tokens);
        cap = n;
        if (n < 0) break;
    }
    return cap;
}

int gqa_tokenize_new(const gqa_model *m, const char *text, size_t len, unsigned flags,
                     int32_t **out, gqa_error *err) {
    return gqa_tokenize_marked(m, text, NULL, len, flags, out, err);
}

/* Whether a token's text can be asked for: there is a vocabulary, and out holds cap bytes. */
static int can_write_token(const gqa_model *m, const char *out, int cap) {
    return m && m->vocab && cap >= 0 && (out || cap == 0);
}

int gqa_token_bytes(const gqa_model *m, int32_t token, char *out, int cap) {
    if (!can_write_token(m, out, cap)) return GQA_ERR_ARGUMENT;
    return gqa_vocab_token_bytes(m->vocab, token, out, cap);
}

int gqa_token_name(const gqa_model *m, int32_t token, char *out, int cap) {
    if (!can_write_token(m, out, cap)) return GQA_ERR_ARGUMENT;
    return gqa_vocab_token_name(m->vocab, token, out, cap);
}

int32_t gqa_token_find(const gqa_model *m, const char *text) {
    return m->vocab ? gqa_vocab_find(m->vocab, text, strlen(text)) : -1;
}

int gqa_check_vocabulary(const gqa_model *m, const gqa_model *other, gqa_error *err) {
    enum { MAX_PADDING = 128 };
    char name[128], expected[128];
    if (!m || !other)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "check vocabulary: a model is NULL");
    int n = gqa_vocab_size(m), n_other = gqa_vocab_size(other);
    const char *path = m->file.path, *other_path = other->file.path;
    if (n > n_other + MAX_PADDING || n_other > n + MAX_PADDING)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: a vocabulary of %d tokens, expected the %d of "
                        "%s", other_path, n_other, n, path);
    for (int id = 0; id < min_int(n, n_other); id++) {
        int len = gqa_token_name(other, id, name, sizeof name);
        int expected_len = gqa_token_name(m, id, expected, sizeof expected);
        int shown = min_int(len, sizeof name);
        if (len == expected_len && (len < 0 || !memcmp(name, expected, (size_t)shown))) continue;
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "%s: token %d is \"%.*s\", expected \"%.*s\" as in %s", other_path, id,
                        max_int(shown, 0), name,
                        max_int(min_int(expected_len, sizeof expected), 0), expected, path);
    }
    return 0;
}

int gqa_vocab_size(const gqa_model *m) { return m->vocab ? gqa_vocab_count(m->vocab) : 0; }
int32_t gqa_token_bos(const gqa_model *m) { return m->vocab ? gqa_vocab_bos(m->vocab) : -1; }
int32_t gqa_token_eos(const gqa_model *m) { return m->vocab ? gqa_vocab_eos(m->vocab) : -1; }
int gqa_token_is_end(const gqa_model *m, int32_t token) {
    return m->vocab && gqa_vocab_is_end(m->vocab, token);
}
int gqa_token_is_control(const gqa_model *m, int32_t token) {
    return m->vocab && gqa_vocab_is_control(m->vocab, token);
}
int gqa_model_adds_bos(const gqa_model *m) { return m->vocab && gqa_vocab_adds_bos(m->vocab); }
const char *gqa_model_chat_template(const gqa_model *m) {
    return m->vocab ? gqa_vocab_chat_template(m->vocab) : NULL;
}
const char *gqa_model_warning(const gqa_model *m) {
    return m->vocab ? gqa_vocab_warning(m->vocab) : NULL;
}
