/* dataset.c: a text as documents, documents as tokens, and the order in which training visits them. */
#include <stdlib.h>
#include <string.h>

#include "../base/hash.h"
#include "train_internal.h"

static int is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* The next GQA_DOCUMENT_END in text[len], or its end. */
static size_t find_end(const char *text, size_t len) {
    size_t mark = strlen(GQA_DOCUMENT_END);
    for (const char *p = text; (p = memchr(p, '<', len - (size_t)(p - text))); p++) {
        size_t at = (size_t)(p - text);
        if (len - at >= mark && !memcmp(p, GQA_DOCUMENT_END, mark)) return at;
    }
    return len;
}

int train_next_document(const char *text, size_t len, size_t *at, gqa_bytes *doc) {
    while (*at < len) {
        size_t from = *at, to = from + find_end(text + from, len - from);
        *at = to < len ? to + strlen(GQA_DOCUMENT_END) : len;
        while (from < to && is_space(text[from])) from++;
        while (to > from && is_space(text[to - 1])) to--;
        *doc = (gqa_bytes){text + from, to - from};
        if (to > from) return 1;
    }
    return 0;
}

int gqa_dataset_add(gqa_dataset *d, const gqa_vocab *vocab, const char *text, size_t len, gqa_error *err) {
    gqa_bytes doc;
    int32_t *tokens = realloc(d->tokens, sizeof *tokens * (d->n_tokens + 2 * len + 16)); /* shrunk below */
    if (!tokens) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for the tokens of %zu bytes of text", len);
    d->tokens = tokens;
    for (size_t at = 0; train_next_document(text, len, &at, &doc);) {
        if (doc.size > INT32_MAX / 2) return gqa_fail(err, GQA_ERR_ARGUMENT, "a document of %llu bytes is too long", (unsigned long long)doc.size);
        tokens[d->n_tokens] = gqa_vocab_bos(vocab);
        int n = gqa_vocab_tokenize(vocab, doc.data, (size_t)doc.size, 0, tokens + d->n_tokens + 1, (int)doc.size + 1, err);
        if (n < 0) return n;
        if (n > (int)doc.size + 1)
            return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%d tokens for a document of %llu bytes: a vocabulary that spells with more tokens than bytes cannot be trained on", n, (unsigned long long)doc.size);
        tokens[d->n_tokens + 1 + (size_t)n] = gqa_vocab_eos(vocab);
        d->n_tokens += (size_t)n + 2;
        d->n_bytes += doc.size;
        d->n_documents++;
    }
    tokens = realloc(d->tokens, sizeof *tokens * (d->n_tokens + 1));
    if (tokens) d->tokens = tokens;
    return 0;
}

void gqa_dataset_free(gqa_dataset *d) {
    free(d->tokens);
    memset(d, 0, sizeof *d);
}

uint64_t gqa_dataset_fingerprint(const gqa_dataset *d) {
    return gqa_hash(0xCBF29CE484222325u ^ d->n_tokens, d->tokens, d->n_tokens * sizeof *d->tokens);
}

/* A permutation of 0..n-1: multiplications and shifts are bijections of k bits; results outside go round again. */
static uint64_t permute(uint64_t i, uint64_t n, uint64_t seed) {
    int bits = 1;
    while (bits < 63 && (1ull << bits) < n) bits++;
    uint64_t mask = (1ull << bits) - 1, key = gqa_random_at(seed, n);
    do
        for (uint64_t round = 0; round < 4; round++) {
            i = ((i ^ (key >> (8 * round))) * (gqa_random_at(seed, round) | 1)) & mask;
            i ^= i >> ((bits + 1) / 2);
        }
    while (i >= n);
    return i;
}

size_t gqa_dataset_window(const gqa_dataset *d, int length, uint64_t seed, uint64_t index) {
    uint64_t windows = (d->n_tokens - 1) / (uint64_t)length, spare = d->n_tokens - 1 - windows * (uint64_t)length;
    uint64_t slack = windows > 1 ? (uint64_t)length : spare + 1;
    if (windows > 1) windows--; /* so that every offset below length leaves whole windows */
    uint64_t turn = index / windows;
    uint64_t offset = gqa_random_at(seed + 1, turn) % slack;
    return (size_t)(offset + permute(index % windows, windows, gqa_random_at(seed, turn)) * (uint64_t)length);
}
