/* bpe.c: byte-pair merging with a heap, O(n log n). Symbols form a list; the heap holds neighbours that may merge,
 * the best first (SentencePiece: highest score; byte-level BPE: lowest rank), the leftmost on a tie. An entry that an
 * earlier merge made stale is recognised by the symbols' lengths and dropped. */
#include <stdlib.h>
#include <string.h>

#include "vocab.h"
#include "../base/utf8.h"

typedef struct symbol {
    uint32_t at, len;        /* bytes of the text; len 0: merged away */
    int32_t id;              /* -1: no token */
    int32_t prev, next;      /* -1: none */
} symbol;

typedef struct candidate {
    double key;              /* smaller is better */
    int32_t left, right;     /* symbols */
    uint32_t len;            /* of both together when found */
    int32_t id;              /* what they become */
} candidate;

typedef struct merger {
    const gqa_vocab *v;
    const char *text;
    symbol *symbols;
    candidate *heap;
    size_t n_heap;
} merger;

static int better(const candidate *a, const candidate *b) { return a->key < b->key || (a->key == b->key && a->left < b->left); }

static void push(merger *m, candidate c) {
    size_t i = m->n_heap++;
    for (; i > 0 && better(&c, &m->heap[(i - 1) / 2]); i = (i - 1) / 2) m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = c;
}

static candidate pop(merger *m) {
    candidate top = m->heap[0], last = m->heap[--m->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < m->n_heap; i = child) {
        if (child + 1 < m->n_heap && better(&m->heap[child + 1], &m->heap[child])) child++;
        if (!better(&m->heap[child], &last)) break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = last;
    return top;
}

static const merge_rule *find_rule(const gqa_vocab *v, int32_t left, int32_t right) {
    if (!v->rules_size || left < 0 || right < 0) return NULL;
    const merge_rule *slot = vocab_merge_slot(v, left, right);
    return slot->left < 0 ? NULL : slot;
}

/* Each merge makes at most two new candidates, so the heap never holds more than 3 n. */
static void consider(merger *m, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const symbol *a = &m->symbols[left], *b = &m->symbols[right];
    candidate c = {.left = left, .right = right, .len = a->len + b->len};
    if (m->v->byte_level) {
        const merge_rule *rule = find_rule(m->v, a->id, b->id);
        if (!rule) return;
        c.id = rule->result;
        c.key = rule->rank;
    } else {
        c.id = vocab_lookup(m->v, m->text + a->at, c.len);
        if (c.id < 0) return;
        c.key = -(double)m->v->scores[c.id];
    }
    push(m, c);
}

static void merge_all(merger *m, int32_t n) {
    for (int32_t i = 0; i + 1 < n; i++) consider(m, i, i + 1);
    while (m->n_heap) {
        candidate c = pop(m);
        symbol *a = &m->symbols[c.left], *b = &m->symbols[c.right];
        if (!a->len || !b->len || a->next != c.right || a->len + b->len != c.len) continue;
        a->len = c.len;
        a->id = c.id;
        a->next = b->next;
        b->len = 0;
        if (a->next >= 0) m->symbols[a->next].prev = c.left;
        consider(m, a->prev, c.left);
        consider(m, c.left, a->next);
    }
}

/* Symbols of text[len], one a character (SentencePiece) or a byte; returns how many. */
static int32_t make_symbols(merger *m, size_t len) {
    int32_t n = 0;
    for (size_t at = 0; at < len; n++) {
        int size = m->v->byte_level ? 1 : utf8_length(m->text + at, len - at);
        if (size < 1) size = 1;
        m->symbols[n] = (symbol){(uint32_t)at, (uint32_t)size, -1, n - 1, n + 1};
        m->symbols[n].id = m->v->byte_level ? m->v->byte_id[(unsigned char)m->text[at]] : vocab_lookup(m->v, m->text + at, (size_t)size);
        at += (size_t)size;
    }
    if (n) m->symbols[n - 1].next = -1;
    return n;
}

static void emit(const gqa_vocab *v, const char *text, const symbol *s, id_list *out) {
    if (s->id >= 0) {
        id_add(out, s->id);
        return;
    }
    for (uint32_t i = 0; i < s->len; i++) {
        int32_t id = v->byte_id[(unsigned char)text[s->at + i]];
        if (id >= 0) id_add(out, id);
        else if (v->unk >= 0) id_add(out, v->unk); /* a vocabulary without byte tokens cannot spell this */
    }
}

static void encode(const gqa_vocab *v, const char *text, size_t len, id_list *out) {
    symbol few[64];
    candidate few_heap[3 * 64];
    merger m = {v, text, few, few_heap, 0};
    if (len > 64) {
        m.symbols = malloc(len * sizeof *m.symbols);
        m.heap = malloc(3 * len * sizeof *m.heap);
    }
    if (m.symbols && m.heap) {
        int32_t n = make_symbols(&m, len);
        merge_all(&m, n);
        for (int32_t i = n ? 0 : -1; i >= 0; i = m.symbols[i].next) emit(v, text, &m.symbols[i], out);
    } else {
        out->no_memory = 1;
    }
    if (len > 64) {
        free(m.symbols);
        free(m.heap);
    }
}

void encode_scored(const gqa_vocab *v, const char *text, size_t len, id_list *out) { encode(v, text, len, out); }

void encode_ranked(const gqa_vocab *v, const char *text, size_t len, id_list *out) {
    while (len > 0) {
        size_t n = split_next(v->split, text, len);
        int32_t whole = v->ignore_merges ? vocab_lookup(v, text, n) : -1;
        if (whole >= 0) id_add(out, whole);
        else encode(v, text, n, out);
        text += n;
        len -= n;
    }
}
