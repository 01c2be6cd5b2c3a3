/* bpe.c: byte-pair merging with a heap, O(n log n). Symbols form a list; the heap holds
 * neighbours that may merge, the best first (SentencePiece: highest score; byte-level BPE: lowest
 * rank), the leftmost on a tie. An entry that an earlier merge made stale is recognised by the
 * symbols' lengths and dropped. */
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "vocab.h"

typedef struct bpe_symbol {
    uint32_t at, len;        /* bytes of the text; len 0: merged away */
    int32_t id;              /* -1: no token */
    int32_t prev, next;      /* -1: none */
} bpe_symbol;

typedef struct bpe_merge {   /* of two neighbours */
    double key;              /* smaller is better */
    int32_t left, right;     /* symbols */
    uint32_t len;            /* of both together when found */
    int32_t id;              /* the token they become */
} bpe_merge;

typedef struct bpe_state {
    const gqa_vocab *v;
    const char *text;
    bpe_symbol *symbols;
    bpe_merge *heap;
    size_t n_heap;
} bpe_state;

/* ---- the heap ---------------------------------------------------------------------------- */

static int merge_before(const bpe_merge *a, const bpe_merge *b) {
    return a->key < b->key || (a->key == b->key && a->left < b->left);
}

static void heap_push(bpe_state *s, bpe_merge m) {
    size_t i = s->n_heap++;
    for (; i > 0 && merge_before(&m, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = m;
}

static bpe_merge heap_pop(bpe_state *s) {
    bpe_merge top = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < s->n_heap; i = child) {
        if (child + 1 < s->n_heap && merge_before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!merge_before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = last;
    return top;
}

/* ---- merging ----------------------------------------------------------------------------- */

static const merge_rule *find_rule(const gqa_vocab *v, int32_t left, int32_t right) {
    if (!v->rules_size || left < 0 || right < 0) return NULL;
    const merge_rule *slot = vocab_merge_slot(v, left, right);
    return slot->left < 0 ? NULL : slot;
}

/* Adds the merge of two neighbours to the heap, if there is one. Each merge done makes at most
 * two new ones, so the heap never holds more than 3 n. */
static void add_merge(bpe_state *s, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const bpe_symbol *a = &s->symbols[left], *b = &s->symbols[right];
    bpe_merge m = {.left = left, .right = right, .len = a->len + b->len};
    if (s->v->ranked) {
        const merge_rule *rule = find_rule(s->v, a->id, b->id);
        if (!rule) return;
        m.id = rule->result;
        m.key = rule->rank;
    } else {
        m.id = vocab_lookup(s->v, s->text + a->at, m.len);
        if (m.id < 0) return;
        m.key = -(double)s->v->scores[m.id];
    }
    heap_push(s, m);
}

static void merge_all(bpe_state *s, int32_t n) {
    for (int32_t i = 0; i + 1 < n; i++) add_merge(s, i, i + 1);
    while (s->n_heap) {
        bpe_merge m = heap_pop(s);
        bpe_symbol *a = &s->symbols[m.left], *b = &s->symbols[m.right];
        if (!a->len || !b->len || a->next != m.right || a->len + b->len != m.len) continue;
        a->len = m.len;
        a->id = m.id;
        a->next = b->next;
        b->len = 0;
        if (a->next >= 0) s->symbols[a->next].prev = m.left;
        add_merge(s, a->prev, m.left);
        add_merge(s, m.left, a->next);
    }
}

/* ---- encoding ---------------------------------------------------------------------------- */

/* Symbols of text[len], one a character (SentencePiece) or a byte; returns how many. */
static int32_t make_symbols(bpe_state *s, size_t len) {
    const gqa_vocab *v = s->v;
    int32_t n = 0;
    for (uint32_t at = 0, size; at < len; at += size, n++) {
        const char *p = s->text + at;
        int char_len = v->byte_level ? 1 : utf8_length(p, len - at);
        size = char_len > 0 ? (uint32_t)char_len : 1;
        int32_t id = v->byte_level ? v->byte_id[(unsigned char)*p] : vocab_lookup(v, p, size);
        s->symbols[n] = (bpe_symbol){at, size, id, n - 1, n + 1};
    }
    if (n) s->symbols[n - 1].next = -1;
    return n;
}

/* The token of a symbol, or those of its bytes. */
static void emit_symbol(const bpe_state *s, const bpe_symbol *symbol, id_list *out) {
    const gqa_vocab *v = s->v;
    if (symbol->id >= 0) {
        id_add(out, symbol->id);
        return;
    }
    for (uint32_t i = 0; i < symbol->len; i++) {
        int32_t id = v->byte_id[(unsigned char)s->text[symbol->at + i]];
        if (id < 0) id = v->unk; /* a vocabulary without byte tokens cannot spell this */
        if (id >= 0) id_add(out, id);
    }
}

static void encode_merged(const gqa_vocab *v, const char *text, size_t len, id_list *out) {
    enum { STACK_SYMBOLS = 64 };
    bpe_symbol stack_symbols[STACK_SYMBOLS];
    bpe_merge stack_heap[3 * STACK_SYMBOLS];
    bpe_state s = {v, text, stack_symbols, stack_heap, 0};
    if (len > STACK_SYMBOLS) {
        s.symbols = malloc(len * sizeof *s.symbols);
        s.heap = malloc(3 * len * sizeof *s.heap);
    }
    if (s.symbols && s.heap) {
        int32_t n = make_symbols(&s, len);
        merge_all(&s, n);
        for (int32_t i = n ? 0 : -1; i >= 0; i = s.symbols[i].next)
            emit_symbol(&s, &s.symbols[i], out);
    } else {
        out->no_memory = 1;
    }
    if (len > STACK_SYMBOLS) {
        free(s.symbols);
        free(s.heap);
    }
}

void encode_scored(const gqa_vocab *v, const char *text, size_t len, id_list *out) {
    encode_merged(v, text, len, out);
}

void encode_ranked(const gqa_vocab *v, const char *text, size_t len, id_list *out) {
    uint8_t *cuts = malloc(len + 1);
    if (!cuts) {
        out->no_memory = 1;
        return;
    }
    pretokenize(v->split, text, len, cuts);
    for (size_t at = 0, n; at < len; at += n) {
        n = pretoken_length(cuts + at, len - at);
        int whole = v->ignore_merges || (v->split == SPLIT_LINES && text[at] == '\n');
        int32_t id = whole ? vocab_lookup(v, text + at, n) : -1;
        if (id >= 0) id_add(out, id);
        else encode_merged(v, text + at, n, out);
    }
    free(cuts);
}
