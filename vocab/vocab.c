/* vocab.c: a vocabulary in memory: the bytes of each token, looking them up, and which tokens have a role. */
#include "vocab.h"

#include <stdlib.h>

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

uint32_t hash_table_size(uint64_t n) {
    uint32_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

/* Of tokens with the same text the first one is found. */
static int make_table(gqa_vocab *v) {
    v->table_size = hash_table_size((uint64_t)v->n);
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

int vocab_byte_of_name(gqa_bytes name) {
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
            if (bytes_equal(v->names[id], names[i])) v->ends[id] = 1;
    if (v->eos >= 0) v->ends[v->eos] = 1;
}

/* ---- building ---------------------------------------------------------------------------------------------------- */

gqa_vocab *vocab_alloc(int n) {
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

void vocab_name_bytes(gqa_vocab *v) {
    for (int id = 0; id < v->n; id++) {
        v->pieces[id] = v->names[id];
        int byte = vocab_byte_of_name(v->names[id]);
        if (byte >= 0 && (v->types[id] == TOKEN_BYTE || v->types[id] == TOKEN_NORMAL)) {
            v->types[id] = TOKEN_BYTE;
            if (v->byte_id[byte] < 0) v->byte_id[byte] = id;
        }
    }
}

int vocab_finish(gqa_vocab *v, const char *path, gqa_error *err) {
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
    vocab_name_bytes(v);
    int status = vocab_finish(v, "vocabulary", err);
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

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
