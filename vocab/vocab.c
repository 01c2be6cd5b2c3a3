/* vocab.c: a vocabulary in memory: the bytes of each token, lookup by bytes, tokens with a role. */
#include "vocab.h"

#include <stdlib.h>

/* ---- lookup ------------------------------------------------------------------------------ */

static uint32_t hash_bytes(const char *text, size_t len) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h ^ h >> 15;
}

/* The slot in v->table of the token with those bytes, or the empty slot for it. */
static int32_t *token_slot(const gqa_vocab *v, const char *text, size_t len) {
    uint32_t mask = v->table_size - 1;
    for (uint32_t i = hash_bytes(text, len) & mask;; i = (i + 1) & mask) {
        if (v->table[i] < 0) return &v->table[i];
        const gqa_bytes *b = &v->bytes[v->table[i]];
        if (b->size == len && !memcmp(b->data, text, len)) return &v->table[i];
    }
}

int32_t vocab_lookup(const gqa_vocab *v, const char *text, size_t len) {
    return *token_slot(v, text, len);
}

uint32_t vocab_hash_size(uint64_t n) {
    uint32_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

/* Of tokens with the same bytes the first one is found. */
static int make_table(gqa_vocab *v) {
    v->table_size = vocab_hash_size((uint64_t)v->n);
    v->table = malloc(sizeof *v->table * v->table_size);
    if (!v->table) return -1;
    memset(v->table, -1, sizeof *v->table * v->table_size);
    for (int id = 0; id < v->n; id++) {
        int is_text = v->types[id] == TOKEN_NORMAL || v->types[id] == TOKEN_USER;
        if (!is_text || !v->bytes[id].size) continue;
        int32_t *slot = token_slot(v, v->bytes[id].data, v->bytes[id].size);
        if (*slot < 0) *slot = id;
    }
    return 0;
}

int vocab_byte_of_name(gqa_bytes name) {
    static const char digits[] = "0123456789ABCDEF";
    if (name.size != 6 || memcmp(name.data, "<0x", 3) || name.data[5] != '>') return -1;
    const char *high = memchr(digits, name.data[3], 16), *low = memchr(digits, name.data[4], 16);
    return high && low ? (int)(high - digits) * 16 + (int)(low - digits) : -1;
}

size_t vocab_mark_spaces(const char *text, size_t len, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ') {
            memcpy(out + n, SPACE_MARK, 3);
            n += 3;
        } else {
            out[n++] = text[i];
        }
    }
    return n;
}

/* ---- tokens with a role ------------------------------------------------------------------ */

static int is_special(const gqa_vocab *v, int id) {
    int type = v->names[id].size ? v->types[id] : TOKEN_UNUSED;
    return type == TOKEN_CONTROL || type == TOKEN_USER || type == TOKEN_UNKNOWN;
}

static int descending_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* Longest first, so that the longest special token wins. */
static int make_specials(gqa_vocab *v) {
    size_t n = 0, used = 0;
    for (int id = 0; id < v->n; id++) n += is_special(v, id) ? 1 : 0;
    uint64_t *keys = malloc((n + 1) * sizeof *keys); /* length, id */
    v->special = malloc((n + 1) * sizeof *v->special);
    if (!keys || !v->special) {
        free(keys);
        return -1;
    }
    for (int id = 0; id < v->n; id++)
        if (is_special(v, id)) keys[used++] = (uint64_t)v->names[id].size << 32 | (uint32_t)id;
    qsort(keys, n, sizeof *keys, descending_u64);
    for (size_t i = 0; i < n; i++) v->special[i] = (int32_t)(uint32_t)keys[i];
    v->n_special = (int)n;
    free(keys);
    return 0;
}

static int is_end_name(gqa_bytes name) {
    static const char *const names[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",
                                        "<|endoftext|>", "<|end|>", "<end_of_turn>", "</s>"};
    for (size_t i = 0; i < array_length(names); i++)
        if (bytes_equal(name, names[i])) return 1;
    return 0;
}

/* Tokens that end a text, by name: models list one eos, but their templates use several. */
static void mark_ends(gqa_vocab *v) {
    for (int id = 0; id < v->n; id++)
        if (v->types[id] == TOKEN_CONTROL && is_end_name(v->names[id])) v->ends[id] = 1;
    if (v->eos >= 0) v->ends[v->eos] = 1;
}

/* ---- building ---------------------------------------------------------------------------- */

gqa_vocab *vocab_alloc(int n_tokens) {
    gqa_vocab *v = calloc(1, sizeof *v);
    size_t n = (size_t)n_tokens + 1;
    if (!v) return NULL;
    v->n = n_tokens;
    v->bos = v->eos = v->unk = -1;
    v->bytes = calloc(n, sizeof *v->bytes);
    v->names = calloc(n, sizeof *v->names);
    v->scores = calloc(n, sizeof *v->scores);
    v->types = calloc(n, sizeof *v->types);
    v->ends = calloc(n, sizeof *v->ends);
    memset(v->byte_id, -1, sizeof v->byte_id);
    if (v->bytes && v->names && v->scores && v->types && v->ends) return v;
    gqa_vocab_free(v);
    return NULL;
}

void gqa_vocab_free(gqa_vocab *v) {
    if (!v) return;
    free(v->bytes);
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

void vocab_name_bytes(gqa_vocab *v) {
    for (int id = 0; id < v->n; id++) {
        v->bytes[id] = v->names[id];
        int byte = vocab_byte_of_name(v->names[id]);
        if (byte < 0 || (v->types[id] != TOKEN_BYTE && v->types[id] != TOKEN_NORMAL)) continue;
        v->types[id] = TOKEN_BYTE;
        if (v->byte_id[byte] < 0) v->byte_id[byte] = id;
    }
}

int vocab_finish(gqa_vocab *v, const char *path, gqa_error *err) {
    mark_ends(v);
    if (!make_table(v) && !make_specials(v)) return 0;
    return gqa_fail_path(path, err, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens",
                         v->n);
}

int gqa_vocab_new(gqa_vocab **out, const gqa_bytes *tokens, const float *scores,
                  const int32_t *types, int n, int32_t bos, int32_t eos, int32_t unk,
                  gqa_error *err) {
    *out = NULL;
    if (n < 1 || bos >= n || eos >= n || unk >= n)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "vocabulary of %d tokens: an id is out of range", n);
    gqa_vocab *v = vocab_alloc(n);
    size_t bytes = 0, used = 0;
    for (int i = 0; i < n; i++) bytes += tokens[i].size;
    if (v) v->text = malloc(bytes + 1);
    if (!v || !v->text) {
        gqa_vocab_free(v);
        return gqa_fail(err, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens", n);
    }
    for (int i = 0; i < n; i++) {
        memcpy(v->text + used, tokens[i].data, tokens[i].size);
        v->names[i] = (gqa_bytes){v->text + used, tokens[i].size};
        used += tokens[i].size;
        v->scores[i] = scores[i];
        v->types[i] = (uint8_t)types[i];
    }
    v->bos = bos;
    v->eos = eos;
    v->unk = unk;
    v->add_bos = bos >= 0;
    v->add_space = v->escape_space = 1;
    vocab_name_bytes(v);
    int status = vocab_finish(v, "vocabulary", err);
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}

/* ---- questions --------------------------------------------------------------------------- */

int32_t gqa_vocab_find(const gqa_vocab *v, const char *text, size_t len) {
    for (int i = 0; i < v->n_special; i++) {
        gqa_bytes name = v->names[v->special[i]];
        if (name.size == len && !memcmp(name.data, text, len)) return v->special[i];
    }
    return vocab_lookup(v, text, len);
}

static int has_token(const gqa_vocab *v, int32_t token) { return token >= 0 && token < v->n; }

int gqa_vocab_count(const gqa_vocab *v) { return v->n; }
int32_t gqa_vocab_bos(const gqa_vocab *v) { return v->bos; }
int32_t gqa_vocab_eos(const gqa_vocab *v) { return v->eos; }
int gqa_vocab_is_end(const gqa_vocab *v, int32_t token) {
    return has_token(v, token) && v->ends[token];
}
int gqa_vocab_is_control(const gqa_vocab *v, int32_t token) {
    return has_token(v, token) && v->types[token] == TOKEN_CONTROL;
}
int gqa_vocab_adds_bos(const gqa_vocab *v) { return v->add_bos; }
int gqa_vocab_adds_space_prefix(const gqa_vocab *v) { return v->add_space; }
const char *gqa_vocab_warning(const gqa_vocab *v) { return v->warning[0] ? v->warning : NULL; }
const char *gqa_vocab_chat_template(const gqa_vocab *v) { return v->chat_template; }
