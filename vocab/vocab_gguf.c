/* vocab_gguf.c: a vocabulary from the tokenizer.ggml.* metadata of a GGUF file, and back into one. */
#include <stdio.h>
#include <stdlib.h>

#include "../formats/gguf.h"
#include "../base/utf8.h"
#include "vocab.h"

/* GPT-2's alphabet: bytes that print stand for themselves, the other 68 for U+0100 and up, in order. */
static int alphabet_byte(uint32_t c) {
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255)) return (int)c;
    if (c < 256 || c >= 256 + 68) return -1;
    uint32_t n = c - 256;
    return n <= 32 ? (int)n : n <= 66 ? (int)(n - 33 + 127) : 173;
}

/* Undoes the alphabet; returns the number of bytes written to out (at most text.size), or -1 when a character is not in it. */
static int64_t undo_alphabet(gqa_bytes text, char *out) {
    int64_t n = 0;
    for (size_t at = 0; at < text.size; ) {
        int len = utf8_length(text.data + at, (size_t)text.size - at);
        const unsigned char *p = (const unsigned char *)text.data + at;
        int byte = len == 1 ? alphabet_byte(p[0]) : len == 2 ? alphabet_byte((p[0] & 31u) << 6 | (p[1] & 63u)) : -1;
        if (byte < 0) return -1;
        out[n++] = (char)byte;
        at += (size_t)len;
    }
    return n;
}

static const gguf_entry *array_entry(const gqa_checkpoint *c, const char *key, int strings, uint64_t count, int *status, gqa_error *err) {
    const gguf_entry *e = gguf_find(c, key);
    if (*status || !e) return NULL;
    if (e->type != GGUF_ARRAY || (e->array_type == GGUF_STRING) != strings)
        *status = gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s: expected an array of %s", c->path, key, strings ? "strings" : "numbers");
    else if (count && e->count != count)
        *status = gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata %s has %llu elements, tokenizer.ggml.tokens %llu", c->path, key,
                           (unsigned long long)e->count, (unsigned long long)count);
    return *status ? NULL : e;
}

static int read_id(const gqa_checkpoint *c, const gqa_vocab *v, const char *key, int32_t *out, gqa_error *err) {
    int status = gguf_get_int(c, key, -1, v->n - 1, out, err);
    if (status < 0 && gguf_find(c, key)->type != GGUF_STRING && gguf_find(c, key)->i == UINT32_MAX) { /* "none", by some writers */
        *out = -1;
        return 0;
    }
    return status < 0 ? status : 0;
}

/* The bytes of every token: normal tokens are in the alphabet, special ones as they are. */
static int make_byte_pieces(gqa_vocab *v) {
    size_t bytes = 0, at = 0;
    for (int id = 0; id < v->n; id++) bytes += (size_t)v->names[id].size;
    v->text = malloc(bytes + 1);
    if (!v->text) return -1;
    for (int id = 0; id < v->n; id++) {
        int64_t n = v->types[id] == TOKEN_NORMAL ? undo_alphabet(v->names[id], v->text + at) : -1;
        v->pieces[id] = v->names[id];
        if (n >= 0) v->pieces[id] = (gqa_bytes){v->text + at, (uint64_t)n};
        if (n == 1 && v->byte_id[(unsigned char)v->text[at]] < 0) v->byte_id[(unsigned char)v->text[at]] = id;
        at += n >= 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Adds the rule "A B": the tokens A, B and AB are looked up; a rule that names unknown ones is left out. */
static void add_rule(gqa_vocab *v, gqa_bytes rule, int32_t rank, char *room) {
    const char *gap = rule.size > 1 ? memchr(rule.data + 1, ' ', (size_t)rule.size - 1) : NULL;
    if (!gap) return;
    gqa_bytes a = {rule.data, (uint64_t)(gap - rule.data)}, b = {gap + 1, rule.size - a.size - 1};
    int64_t na = undo_alphabet(a, room), nb = na < 0 ? -1 : undo_alphabet(b, room + na);
    if (na <= 0 || nb <= 0) return;
    int32_t left = vocab_lookup(v, room, (size_t)na), right = vocab_lookup(v, room + na, (size_t)nb);
    int32_t result = vocab_lookup(v, room, (size_t)(na + nb));
    if (left < 0 || right < 0 || result < 0) return;
    merge_rule *slot = vocab_merge_slot(v, left, right);
    if (slot->left < 0) *slot = (merge_rule){left, right, result, rank};
}

static int read_rules(gqa_vocab *v, const gqa_checkpoint *c, gqa_error *err) {
    int status = 0;
    const gguf_entry *e = array_entry(c, "tokenizer.ggml.merges", 1, 0, &status, err);
    if (status) return status;
    if (!e) return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata tokenizer.ggml.merges is missing", c->path);
    if (e->count > INT32_MAX / 4) return gqa_fail(err, GQA_ERR_FORMAT, "%s: tokenizer.ggml.merges has %llu elements", c->path, (unsigned long long)e->count);
    uint64_t longest = 0;
    const uint8_t *at = e->array;
    for (uint64_t i = 0; i < e->count; i++) {
        gqa_bytes rule = gguf_next_string(&at);
        longest = rule.size > longest ? rule.size : longest;
    }
    v->rules_size = hash_table_size(e->count);
    v->rules = malloc(sizeof *v->rules * v->rules_size);
    char *room = malloc((size_t)longest + 1);
    if (!v->rules || !room) {
        free(room);
        return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for %llu merges", c->path, (unsigned long long)e->count);
    }
    memset(v->rules, -1, sizeof *v->rules * v->rules_size);
    at = e->array;
    for (uint64_t i = 0; i < e->count; i++) add_rule(v, gguf_next_string(&at), (int32_t)i, room);
    free(room);
    return 0;
}

static void choose_splitter(gqa_vocab *v) {
    static const struct { const char *name; splitter split; int ignore_merges, add_bos; } known[] = {
        {"llama-bpe", SPLIT_LLAMA3, 1, 1}, {"llama3", SPLIT_LLAMA3, 1, 1}, {"llama-v3", SPLIT_LLAMA3, 1, 1}, {"falcon3", SPLIT_LLAMA3, 1, 1},
        {"qwen2", SPLIT_QWEN2, 0, 0}, {"deepseek-r1-qwen", SPLIT_QWEN2, 0, 0}, {"smollm", SPLIT_SMOLLM, 0, 0},
        {"gpt-2", SPLIT_GPT2, 0, 0}, {"gpt2", SPLIT_GPT2, 0, 0}, {"default", SPLIT_GPT2, 0, 0},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (bytes_equal(v->pre, known[i].name)) {
            v->split = known[i].split;
            v->ignore_merges = known[i].ignore_merges;
            v->add_bos = known[i].add_bos;
            return;
        }
    v->split = SPLIT_LLAMA3;
    snprintf(v->warning, sizeof v->warning, "pre-tokenizer \"%.*s\" is not known; text is cut as for llama-bpe, which may give wrong tokens",
             (int)(v->pre.size < 40 ? v->pre.size : 40), v->pre.data ? v->pre.data : "");
}

static int read_flags(gqa_vocab *v, const gqa_checkpoint *c, gqa_error *err) {
    int32_t eot = -1, eom = -1;
    int s;
    if ((s = read_id(c, v, "tokenizer.ggml.bos_token_id", &v->bos, err)) || (s = read_id(c, v, "tokenizer.ggml.eos_token_id", &v->eos, err)) ||
        (s = read_id(c, v, "tokenizer.ggml.unknown_token_id", &v->unk, err)) || (s = read_id(c, v, "tokenizer.ggml.eot_token_id", &eot, err)) ||
        (s = read_id(c, v, "tokenizer.ggml.eom_token_id", &eom, err)))
        return s;
    if (gguf_get_bool(c, "tokenizer.ggml.add_bos_token", &v->add_bos, err) < 0 || gguf_get_bool(c, "tokenizer.ggml.add_eos_token", &v->add_eos, err) < 0 ||
        gguf_get_bool(c, "tokenizer.ggml.add_space_prefix", &v->add_space, err) < 0)
        return GQA_ERR_FORMAT;
    if (eot >= 0) v->ends[eot] = 1;
    if (eom >= 0) v->ends[eom] = 1;
    gqa_bytes t;
    s = gguf_get_string(c, "tokenizer.chat_template", &t, err);
    if (s < 0) return s;
    if (s == 0) {
        v->chat_template = malloc((size_t)t.size + 1);
        if (!v->chat_template) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for the chat template", c->path);
        memcpy(v->chat_template, t.data, (size_t)t.size);
        v->chat_template[t.size] = 0;
    }
    return 0;
}

/* Names, scores and types of all tokens. */
static int read_tokens(gqa_vocab *v, const gqa_checkpoint *c, const gguf_entry *tokens, gqa_error *err) {
    int status = 0;
    const gguf_entry *scores = array_entry(c, "tokenizer.ggml.scores", 0, tokens->count, &status, err);
    const gguf_entry *types = array_entry(c, "tokenizer.ggml.token_type", 0, tokens->count, &status, err);
    if (status) return status;
    if (!scores && !v->byte_level) return gqa_fail(err, GQA_ERR_FORMAT, "%s: metadata tokenizer.ggml.scores is missing", c->path);
    const uint8_t *at = tokens->array;
    for (int id = 0; id < v->n; id++) {
        double type = types ? gguf_array_number(types, (uint64_t)id) : TOKEN_NORMAL, score = scores ? gguf_array_number(scores, (uint64_t)id) : 0;
        v->names[id] = gguf_next_string(&at);
        if (!(type >= 0 && type <= TOKEN_BYTE)) return gqa_fail(err, GQA_ERR_FORMAT, "%s: tokenizer.ggml.token_type of token %d is %g", c->path, id, type);
        v->types[id] = (uint8_t)type;
        v->scores[id] = score >= -1e30 && score <= 1e30 ? (float)score : -1e30f;
    }
    return 0;
}

static int fill_from_gguf(gqa_vocab *v, const gqa_checkpoint *c, const gguf_entry *tokens, gqa_error *err) {
    v->file = c;
    int status = read_tokens(v, c, tokens, err);
    if (status) return status;
    if (v->byte_level) {
        if (gguf_get_string(c, "tokenizer.ggml.pre", &v->pre, err) < 0) return GQA_ERR_FORMAT;
        if (!v->pre.data) v->pre = (gqa_bytes){"default", 7};
        choose_splitter(v);
        if (make_byte_pieces(v)) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for a vocabulary of %d tokens", c->path, v->n);
    } else {
        v->add_bos = v->add_space = v->escape_space = 1;
        v->bos = v->n > 2 ? 1 : -1, v->eos = v->n > 2 ? 2 : -1, v->unk = 0;
        vocab_name_bytes(v);
    }
    status = read_flags(v, c, err);
    if (!status) status = vocab_finish(v, c->path, err);
    if (!status && v->byte_level) status = read_rules(v, c, err);
    if (v->bos < 0) v->add_bos = 0;
    return status;
}

int gqa_vocab_from_gguf(gqa_vocab **out, const gqa_checkpoint *c, gqa_error *err) {
    *out = NULL;
    gqa_bytes model = {NULL, 0};
    int status = 0;
    const gguf_entry *tokens = array_entry(c, "tokenizer.ggml.tokens", 1, 0, &status, err);
    if (status || !tokens) return status;
    if (gguf_get_string(c, "tokenizer.ggml.model", &model, err) < 0) return GQA_ERR_FORMAT;
    int byte_level = bytes_equal(model, "gpt2");
    if (!byte_level && !bytes_equal(model, "llama"))
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: tokenizer \"%.*s\" is not supported (llama and gpt2 are)", c->path,
                        (int)(model.size < 40 ? model.size : 40), model.data ? model.data : "");
    if (tokens->count < 1 || tokens->count > GQA_MAX_VOCAB)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: tokenizer.ggml.tokens has %llu elements", c->path, (unsigned long long)tokens->count);
    gqa_vocab *v = vocab_alloc((int)tokens->count);
    if (!v) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for a vocabulary of %llu tokens", c->path, (unsigned long long)tokens->count);
    v->byte_level = byte_level;
    status = fill_from_gguf(v, c, tokens, err);
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

void gqa_vocab_write(const gqa_vocab *v, gguf_writer *w) {
    if (v->file) {
        for (int i = 0; i < v->file->n_meta; i++)
            if (bytes_start_with(v->file->meta[i].key, "tokenizer.")) gguf_put_entry(w, &v->file->meta[i]);
        return;
    }
    int32_t *types = malloc(sizeof *types * (size_t)v->n);
    gqa_bytes *names = malloc(sizeof *names * (size_t)v->n);
    char *text = NULL;
    size_t bytes = 0, at = 0;
    for (int id = 0; id < v->n; id++) bytes += 3 * (size_t)v->names[id].size;
    text = malloc(bytes + 1);
    for (int id = 0; types && names && text && id < v->n; id++) {
        types[id] = v->types[id];
        size_t start = at;
        for (size_t i = 0; i < v->names[id].size; i++) {  /* llama2.c writes spaces as they are, GGUF as U+2581 */
            if (v->names[id].data[i] == ' ' && v->types[id] == TOKEN_NORMAL && !v->escape_space) memcpy(text + at, SPACE_MARK, 3), at += 3;
            else text[at++] = v->names[id].data[i];
        }
        names[id] = (gqa_bytes){text + start, at - start};
    }
    gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_string(w, "tokenizer.ggml.pre", "default", 7);
    if (types && names && text) {
        gguf_put_strings(w, "tokenizer.ggml.tokens", names, (size_t)v->n);
        gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, v->scores, (size_t)v->n);
        gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, (size_t)v->n);
    }
    if (v->bos >= 0) gguf_put_int(w, "tokenizer.ggml.bos_token_id", GGUF_U32, v->bos);
    if (v->eos >= 0) gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, v->eos);
    if (v->unk >= 0) gguf_put_int(w, "tokenizer.ggml.unknown_token_id", GGUF_U32, v->unk);
    gguf_put_int(w, "tokenizer.ggml.add_bos_token", GGUF_BOOL, v->add_bos);
    free(types);
    free(names);
    free(text);
}
