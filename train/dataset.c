/* dataset.c: a text as documents, documents as tokens, and the order in which training visits
 * them. */
#include <stdlib.h>
#include <string.h>

#include "../base/hash.h"
#include "../weights/model_internal.h"
#include "train_internal.h"

/* ---- documents ------------------------------------------------------------------------------- */

static int is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

/* The next GQA_DOCUMENT_END in text[len], or its end. */
static size_t find_document_end(const char *text, size_t len) {
    size_t mark = strlen(GQA_DOCUMENT_END);
    for (size_t at = 0; at + mark <= len; at++) {
        const char *p = memchr(text + at, '<', len - at);
        if (!p) break;
        at = (size_t)(p - text);
        if (len - at >= mark && !memcmp(p, GQA_DOCUMENT_END, mark)) return at;
    }
    return len;
}

int train_next_document(const char *text, size_t len, size_t *at, gqa_bytes *doc) {
    while (*at < len) {
        size_t from = *at, to = from + find_document_end(text + from, len - from);
        *at = to < len ? to + strlen(GQA_DOCUMENT_END) : len;
        while (from < to && is_space(text[from])) from++;
        while (to > from && is_space(text[to - 1])) to--;
        *doc = (gqa_bytes){text + from, to - from};
        if (to > from) return 1;
    }
    return 0;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* The token that ends a document: the one with the marker's name, else EOS; -1: none. */
static int32_t document_end(const gqa_vocab *vocab) {
    int32_t id = gqa_vocab_find(vocab, GQA_DOCUMENT_END, strlen(GQA_DOCUMENT_END));
    return id < 0 ? gqa_vocab_eos(vocab) : id;
}

/* Appends BOS if the vocabulary asks for it, the document's tokens and its end; there is space for
 * as many as it has bytes. */
static int add_document(gqa_dataset *d, const gqa_vocab *vocab, gqa_bytes doc, gqa_error *err) {
    int32_t *out = d->tokens + d->n_tokens, end = document_end(vocab);
    size_t size = doc.size;
    if (end < 0)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED,
                        "the vocabulary has no token that ends a document: expected "
                        GQA_DOCUMENT_END " or an EOS token");
    if (size > INT32_MAX / 2)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "a document of %zu bytes is too long", size);
    int capacity = (int)size + 1;
    if (gqa_vocab_adds_bos(vocab)) *out++ = gqa_vocab_bos(vocab);
    int n = gqa_vocab_tokenize(vocab, doc.data, NULL, size, 0, out, capacity, err);
    if (n < 0) return n;
    if (n > capacity)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED,
                        "a document of %zu bytes has %d tokens: cannot train on a vocabulary with "
                        "more tokens than bytes", size, n);
    out[n] = end;
    d->n_tokens = (size_t)(out + n + 1 - d->tokens);
    d->n_bytes += size;
    d->n_documents++;
    return 0;
}

int gqa_dataset_add(gqa_dataset *d, const gqa_vocab *vocab, const char *text, size_t len,
                    gqa_error *err) {
    gqa_bytes doc;
    size_t at = 0;
    uint64_t bytes = sizeof *d->tokens * (2 * (uint64_t)len + d->n_tokens + 16); /* shrunk below */
    int32_t *tokens = bytes > SIZE_MAX / 2 ? NULL : realloc(d->tokens, (size_t)bytes);
    if (!tokens)
        return gqa_fail(err, GQA_ERR_MEMORY, "no memory for the tokens of %zu bytes of text", len);
    d->tokens = tokens;
    while (train_next_document(text, len, &at, &doc)) {
        int e = add_document(d, vocab, doc, err);
        if (e) return e;
    }
    tokens = realloc(d->tokens, sizeof *tokens * (d->n_tokens + 1));
    if (tokens) d->tokens = tokens;
    return 0;
}

void gqa_dataset_free(gqa_dataset *d) {
    free(d->tokens);
    *d = (gqa_dataset){0};
}

uint64_t gqa_dataset_fingerprint(const gqa_dataset *d) {
    uint64_t start = 0xCBF29CE484222325u ^ d->n_tokens;
    return gqa_hash(start, d->tokens, d->n_tokens * sizeof *d->tokens);
}

/* ---- windows --------------------------------------------------------------------------------- */

/* A permutation of 0..n-1: multiplications and shifts are bijections of k bits; results outside are
 * permuted again. */
static uint64_t permute(uint64_t i, uint64_t n, uint64_t seed) {
    int bits = 1;
    while (bits < 63 && (1ull << bits) < n) bits++;
    uint64_t mask = (1ull << bits) - 1, key = gqa_random_at(seed, n);
    do {
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t odd = gqa_random_at(seed, round) | 1;
            i = ((i ^ (key >> (8 * round))) * odd) & mask;
            i ^= i >> ((bits + 1) / 2);
        }
    } while (i >= n);
    return i;
}

size_t gqa_dataset_window(const gqa_dataset *d, int length, uint64_t seed, uint64_t index) {
    uint64_t step = (uint64_t)length, last = d->n_tokens - 1;
    uint64_t windows = last / step, offsets = last % step + 1;
    if (windows > 1) { /* one less, so that every offset below length leaves whole windows */
        windows--;
        offsets = step;
    }
    uint64_t epoch = index / windows;
    uint64_t offset = gqa_random_at(seed + 1, epoch) % offsets;
    uint64_t window = permute(index % windows, windows, gqa_random_at(seed, epoch));
    return (size_t)(offset + window * step);
}
