/* tokenizer.c: vocabularies: read from a model file or a llama2.c tokenizer.bin, looked up, encoded with, decoded with.
 * SentencePiece-style BPE with byte fallback (Kudo & Richardson 2018) and byte-level BPE (Radford et al. 2019). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "vocab/vocab.h"
#include "base/utf8.h"

static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 stands for a space in SentencePiece vocabularies */

static int starts_with(gqa_bytes b, const char *text) { return b.size >= strlen(text) && !memcmp(b.data, text, strlen(text)); }
static int equals(gqa_bytes b, const char *text) { return b.size == strlen(text) && !memcmp(b.data, text, b.size); }

/* ---- lookup ------------------------------------------------------------------------------------------------------ */

static uint32_t hash_bytes(const char *text, size_t len) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h ^ h >> 15;
}

int32_t vocab_lookup(const gqa_vocab *v, const char *text, size_t len) {
    for (uint32_t i = hash_bytes(text, len) & (v->table_size - 1); v->table[i] >= 0; i = (i + 1) & (v->table_size - 1)) {
        const gqa_bytes *p = &v->pieces[v->table[i]];
        if (p->size == len && !memcmp(p->data, text, len)) return v->table[i];
    }
    return -1;
}

/* A power of two at least twice n, for an open hash table. */
static uint32_t table_room(uint64_t n) {
    uint32_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

/* Of tokens with the same text the first one is found. */
static int make_table(gqa_vocab *v) {
    v->table_size = table_room((uint64_t)v->n);
    v->table = malloc(sizeof *v->table * v->table_size);
    if (!v->table) return -1;
    memset(v->table, -1, sizeof *v->table * v->table_size);
    for (int id = 0; id < v->n; id++) {
        int plain = v->types[id] == TOKEN_NORMAL || v->types[id] == TOKEN_USER;
        if (!plain || !v->pieces[id].size || vocab_lookup(v, v->pieces[id].data, (size_t)v->pieces[id].size) >= 0) continue;
        uint32_t i = hash_bytes(v->pieces[id].data, (size_t)v->pieces[id].size) & (v->table_size - 1);
        while (v->table[i] >= 0) i = (i + 1) & (v->table_size - 1);
        v->table[i] = id;
    }
    return 0;
}

/* "<0x1F>" exactly: its byte; else -1. */
static int byte_of_name(gqa_bytes name) {
    static const char digits[] = "0123456789ABCDEF";
    if (name.size != 6 || memcmp(name.data, "<0x", 3) || name.data[5] != '>' || !name.data[3] || !name.data[4]) return -1;
    const char *high = strchr(digits, name.data[3]), *low = strchr(digits, name.data[4]);
    return high && low ? (int)(high - digits) * 16 + (int)(low - digits) : -1;
}


static int is_special(const gqa_vocab *v, int id) {
    return v->names[id].size && (v->types[id] == TOKEN_CONTROL || v->types[id] == TOKEN_USER || v->types[id] == TOKEN_UNKNOWN);
}

static int descending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Longest first, so that the longest special token wins. */
static int make_specials(gqa_vocab *v) {
    int n = 0;
    for (int id = 0; id < v->n; id++) n += is_special(v, id);
    uint64_t *keys = malloc(sizeof *keys * (size_t)(n + 1));
    v->special = malloc(sizeof *v->special * (size_t)(n + 1));
    if (keys && v->special) {
        for (int id = 0; id < v->n; id++)
            if (is_special(v, id)) keys[v->n_special++] = v->names[id].size << 32 | (uint32_t)id;
        qsort(keys, (size_t)n, sizeof *keys, descending);
        for (int i = 0; i < n; i++) v->special[i] = (int32_t)(uint32_t)keys[i];
    }
    free(keys);
    return v->special && v->n_special == n ? 0 : -1;
}

/* Tokens that end a text, by name: models list one eos, but their templates use several. */
static void mark_ends(gqa_vocab *v) {
    static const char *const names[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<end_of_turn>", "</s>"};
    for (int id = 0; id < v->n; id++)
        for (size_t i = 0; v->types[id] == TOKEN_CONTROL && i < sizeof names / sizeof names[0]; i++)
            if (equals(v->names[id], names[i])) v->ends[id] = 1;
    if (v->eos >= 0) v->ends[v->eos] = 1;
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

static gqa_vocab *vocab_alloc(int n) {
    gqa_vocab *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    v->n = n;
    v->bos = v->eos = v->unk = -1;
    v->pieces = calloc((size_t)n + 1, sizeof *v->pieces);
    v->names = calloc((size_t)n + 1, sizeof *v->names);
    v->scores = calloc((size_t)n + 1, sizeof *v->scores);
    v->types = calloc((size_t)n + 1, 1);
    v->ends = calloc((size_t)n + 1, 1);
    memset(v->byte_id, -1, sizeof v->byte_id);
    if (v->pieces && v->names && v->scores && v->types && v->ends) return v;
    gqa_vocab_free(v);
    return NULL;
}

void gqa_vocab_free(gqa_vocab *v) {
    if (!v) return;
    free(v->pieces);
    free(v->names);
    free(v->scores);
    free(v->types);
    free(v->ends);
    free(v->table);
    free(v->rules);
    free(v->special);
    free(v->text);
    free(v->chat_template);
    free(v);
}

/* Scored vocabularies: pieces are the names, bytes are found by their names. */
static void finish_scored(gqa_vocab *v) {
    for (int id = 0; id < v->n; id++) {
        v->pieces[id] = v->names[id];
        int byte = byte_of_name(v->names[id]);
        if (byte >= 0 && (v->types[id] == TOKEN_BYTE || v->types[id] == TOKEN_NORMAL)) {
            v->types[id] = TOKEN_BYTE;
            if (v->byte_id[byte] < 0) v->byte_id[byte] = id;
        }
    }
}

static int finish(gqa_vocab *v, const char *path, gqa_error *err) {
    mark_ends(v);
    if (make_table(v) || make_specials(v)) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for a vocabulary of %d tokens", path, v->n);
    return 0;
}

int gqa_vocab_new(gqa_vocab **out, const gqa_bytes *pieces, const float *scores, const int32_t *types, int n, int32_t bos,
                  int32_t eos, int32_t unk, gqa_error *err) {
    *out = NULL;
    if (n < 1 || bos >= n || eos >= n || unk >= n) return gqa_fail(err, GQA_ERR_ARGUMENT, "vocabulary of %d tokens: an id is out of range", n);
    gqa_vocab *v = vocab_alloc(n);
    size_t bytes = 0, at = 0;
    for (int i = 0; i < n; i++) bytes += (size_t)pieces[i].size;
    if (v) v->text = malloc(bytes + 1);
    if (!v || !v->text) {
        gqa_vocab_free(v);
        return gqa_fail(err, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens", n);
    }
    for (int i = 0; i < n; i++) {
        memcpy(v->text + at, pieces[i].data, (size_t)pieces[i].size);
        v->names[i] = (gqa_bytes){v->text + at, pieces[i].size};
        at += (size_t)pieces[i].size;
        v->scores[i] = scores[i];
        v->types[i] = (uint8_t)types[i];
    }
    v->bos = bos, v->eos = eos, v->unk = unk;
    v->add_bos = bos >= 0;
    v->add_space = v->escape_space = 1;
    finish_scored(v);
    int status = finish(v, "vocabulary", err);
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}

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
        if (vocab_size > 0 && starts_with(v->names[0], "<unk")) v->types[0] = TOKEN_UNKNOWN, v->unk = 0;
        if (vocab_size > 2) v->types[1] = v->types[2] = TOKEN_CONTROL, v->bos = 1, v->eos = 2;
        v->add_bos = v->add_space = 1;
        finish_scored(v);
        status = finish(v, path, err);
    }
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}

/* ---- from GGUF --------------------------------------------------------------------------------------------------- */

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
    uint32_t i = ((uint32_t)left * 0x9E3779B1u ^ (uint32_t)right * 0x85EBCA77u) & (v->rules_size - 1);
    for (; v->rules[i].left >= 0; i = (i + 1) & (v->rules_size - 1))
        if (v->rules[i].left == left && v->rules[i].right == right) return;
    v->rules[i] = (merge_rule){left, right, result, rank};
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
    v->rules_size = table_room(e->count);
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
        if (equals(v->pre, known[i].name)) {
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
        finish_scored(v);
    }
    status = read_flags(v, c, err);
    if (!status) status = finish(v, c->path, err);
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
    int byte_level = equals(model, "gpt2");
    if (!byte_level && !equals(model, "llama"))
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

void gqa_vocab_write(const gqa_vocab *v, gguf_writer *w) {
    if (v->file) {
        for (int i = 0; i < v->file->n_meta; i++)
            if (starts_with(v->file->meta[i].key, "tokenizer.")) gguf_put_entry(w, &v->file->meta[i]);
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
            if (v->names[id].data[i] == ' ' && v->types[id] == TOKEN_NORMAL && !v->escape_space) memcpy(text + at, space_mark, 3), at += 3;
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

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

void id_add(id_list *list, int32_t id) {
    if (list->n < list->cap) list->out[list->n] = id;
    if (list->n < INT32_MAX) list->n++;
}

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
        if (c == ' ' && v->escape_space) memcpy(copy + n, space_mark, 3), n += 3;
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

/* ---- decoding and questions -------------------------------------------------------------------------------------- */

int gqa_vocab_token_bytes(const gqa_vocab *v, int32_t token, char *out, int cap) {
    if (token < 0 || token >= v->n) return GQA_ERR_ARGUMENT;
    gqa_bytes p = v->pieces[token];
    int n = 0;
    if (v->types[token] == TOKEN_CONTROL) return 0;
    if (v->types[token] == TOKEN_BYTE) {
        if (cap > 0) out[0] = (char)byte_of_name(p);
        return 1;
    }
    for (size_t i = 0; i < p.size; n++) {
        int mark = v->escape_space && p.size - i >= 3 && !memcmp(p.data + i, space_mark, 3);
        if (n < cap) out[n] = mark ? ' ' : p.data[i];
        i += mark ? 3 : 1;
    }
    return n;
}

int32_t gqa_vocab_find(const gqa_vocab *v, const char *text, size_t len) {
    for (int i = 0; i < v->n_special; i++)
        if (v->names[v->special[i]].size == len && !memcmp(v->names[v->special[i]].data, text, len)) return v->special[i];
    return vocab_lookup(v, text, len);
}

int gqa_vocab_count(const gqa_vocab *v) { return v->n; }
int32_t gqa_vocab_bos(const gqa_vocab *v) { return v->bos; }
int32_t gqa_vocab_eos(const gqa_vocab *v) { return v->eos; }
int gqa_vocab_is_end(const gqa_vocab *v, int32_t token) { return token >= 0 && token < v->n && v->ends[token]; }
int gqa_vocab_is_control(const gqa_vocab *v, int32_t token) { return token >= 0 && token < v->n && v->types[token] == TOKEN_CONTROL; }
int gqa_vocab_adds_bos(const gqa_vocab *v) { return v->add_bos; }
int gqa_vocab_adds_space_prefix(const gqa_vocab *v) { return v->add_space; }
const char *gqa_vocab_warning(const gqa_vocab *v) { return v->warning[0] ? v->warning : NULL; }
const char *gqa_vocab_chat_template(const gqa_vocab *v) { return v->chat_template; }
