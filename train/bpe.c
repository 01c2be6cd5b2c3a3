/* bpe.c: learns a byte-pair vocabulary (Sennrich, Haddow & Birch 2016, "Neural Machine
 * Translation of Rare Words with Subword Units", algorithm 1): starting from characters, the
 * pair of neighbours that is most frequent in the words of the text becomes one symbol, again
 * and again. Only different words are kept, each with its count. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "train_internal.h"

enum { N_FIXED = 259, MAX_WORD = 64 }; /* <unk> <s> </s> and 256 bytes; longer words are cut */

static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 is SentencePiece's space */

typedef struct symbol { /* text of a character or merge: learner.text[offset], len bytes */
    uint32_t offset, len;
} symbol;

typedef struct word {
    uint64_t count;
    const char *text;  /* where it was first seen, len bytes; NULL: an empty slot */
    uint32_t len;
    uint32_t first, n; /* its symbols: learner.units[first .. first + n] */
} word;

typedef struct pair {
    int32_t left, right; /* left -1: an empty slot */
    int64_t count;
} pair;

typedef struct learner {
    char *text;          /* of symbols, with the space mark */
    size_t text_size, text_capacity;
    symbol *symbols;
    int n_symbols, n_chars, capacity;
    word *words;         /* hash table [word_slots] while words are counted, then dense [n_words] */
    size_t n_words, word_slots;
    int32_t *units;      /* symbols of all words; -1: a character that is none */
    pair *pairs;         /* hash table [pair_slots] */
    size_t n_pairs, pair_slots;
    int no_memory;       /* sticky: everything is a no-op from then on */
} learner;

static int out_of_memory(learner *l) {
    l->no_memory = 1;
    return -1;
}

/* ---- words ----------------------------------------------------------------------------------- */

/* A byte that is not UTF-8 is a character of its own, as for the tokenizer. */
static size_t char_size(const char *p, size_t left) {
    int n = utf8_length(p, left);
    return n > 0 ? (size_t)n : 1;
}

typedef enum kind { LETTER, DIGIT, SPACE, LINE_END, MARK } kind;
static kind kind_of(const char *p, size_t left) {
    unsigned char c = (unsigned char)*p;
    int punctuation = c == 0xE2 && left > 1 && (unsigned char)p[1] == 0x80; /* U+2000 to U+203F */
    if (c >= 0x80) return punctuation ? MARK : LETTER;
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return LETTER;
    if (c >= '0' && c <= '9') return DIGIT;
    return c == '\n' ? LINE_END : c == ' ' ? SPACE : MARK;
}

/* Length of the word at text[0..len): an optional space, then letters, or one digit, or marks, or
 * line ends. An apostrophe that follows a letter takes the letters after it along ('s, 't). */
static size_t word_size(const char *text, size_t len, int after_letter) {
    size_t i = *text == ' ' ? 1 : 0;
    if (i == len) return i;
    kind k = kind_of(text + i, len - i);
    if (k == SPACE || (i && k == LINE_END)) return i;
    if (after_letter && *text == '\'' && len > 1 && kind_of(text + 1, len - 1) == LETTER) {
        i = 1;
        k = LETTER;
    }
    do {
        i += char_size(text + i, len - i);
    } while (i < len && i < MAX_WORD && k != DIGIT && kind_of(text + i, len - i) == k);
    return i;
}

static uint64_t hash_bytes(const char *p, size_t n) { /* FNV-1a */
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001B3u;
    return h ^ (h >> 29);
}

/* The slot of that word, or the empty one where it belongs. */
static word *word_slot(word *words, size_t slots, const char *text, size_t len) {
    size_t at = hash_bytes(text, len) & (slots - 1);
    while (words[at].text && (words[at].len != len || memcmp(words[at].text, text, len)))
        at = (at + 1) & (slots - 1);
    return &words[at];
}

static int grow_words(learner *l) {
    size_t slots = l->word_slots ? 2 * l->word_slots : 1 << 14;
    word *words = calloc(slots, sizeof *words);
    if (!words) return out_of_memory(l);
    for (size_t i = 0; i < l->word_slots; i++) {
        const word *w = &l->words[i];
        if (w->text) *word_slot(words, slots, w->text, w->len) = *w;
    }
    free(l->words);
    l->words = words;
    l->word_slots = slots;
    return 0;
}

static void count_word(learner *l, const char *text, size_t len) {
    if (2 * (l->n_words + 1) > l->word_slots && grow_words(l)) return;
    word *w = word_slot(l->words, l->word_slots, text, len);
    if (!w->text) {
        w->text = text;
        w->len = (uint32_t)len;
        l->n_words++;
    }
    w->count++;
}

static void count_words(learner *l, const char *text, size_t len) {
    gqa_bytes doc;
    for (size_t at = 0; train_next_document(text, len, &at, &doc) && !l->no_memory;) {
        int after_letter = 0;
        for (size_t i = 0, n; i < doc.size; i += n) {
            n = word_size(doc.data + i, doc.size - i, after_letter);
            after_letter = kind_of(doc.data + i + n - 1, 1) == LETTER;
            count_word(l, doc.data + i, n);
        }
    }
}

/* ---- characters ------------------------------------------------------------------------------ */

static int grow_text(learner *l, size_t more) {
    if (l->text_size + more <= l->text_capacity) return 0;
    size_t capacity = 2 * (l->text_capacity + more) + 4096;
    char *grown = realloc(l->text, capacity);
    if (!grown) return out_of_memory(l);
    l->text = grown;
    l->text_capacity = capacity;
    return 0;
}

/* A new symbol of that many bytes, whose text the caller fills in; -1: no memory. */
static int32_t add_symbol(learner *l, size_t len) {
    if (grow_text(l, len)) return -1;
    if (l->n_symbols == l->capacity) {
        int capacity = l->capacity ? 2 * l->capacity : 1024;
        symbol *grown = realloc(l->symbols, sizeof *grown * capacity);
        if (!grown) return out_of_memory(l);
        l->symbols = grown;
        l->capacity = capacity;
    }
    l->symbols[l->n_symbols] = (symbol){(uint32_t)l->text_size, (uint32_t)len};
    l->text_size += len;
    return l->n_symbols++;
}

static void add_char(learner *l, const char *bytes, size_t size) {
    int32_t added = add_symbol(l, size);
    if (added >= 0) memcpy(l->text + l->symbols[added].offset, bytes, size);
}

static int32_t add_merge(learner *l, int32_t left, int32_t right) {
    symbol a = l->symbols[left], b = l->symbols[right];
    int32_t added = add_symbol(l, a.len + b.len);
    if (added < 0) return -1;
    char *text = l->text + l->symbols[added].offset;
    memcpy(text, l->text + a.offset, a.len);
    memcpy(text + a.len, l->text + b.offset, b.len);
    return added;
}

static int32_t find_char(const learner *l, const char *p, size_t n) {
    for (int i = 0; i < l->n_symbols; i++)
        if (l->symbols[i].len == n && !memcmp(l->text + l->symbols[i].offset, p, n)) return i;
    return -1;
}

typedef struct seen_char {
    char bytes[4];
    uint32_t size;
    uint64_t count;
} seen_char;

static int by_count(const void *a, const void *b) {
    const seen_char *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return memcmp(x->bytes, y->bytes, 4);
}

enum { MAX_CHARS = 4096 }; /* different ones that are counted */

/* Adds the characters of a word to seen[*n]; returns how many characters the text has of it. */
static uint64_t count_chars(const word *w, seen_char *seen, int *n) {
    uint64_t total = 0;
    for (size_t i = 0, size; i < w->len; i += size) {
        const char *p = w->text + i;
        size = char_size(p, w->len - i);
        int at = 0;
        while (at < *n && (seen[at].size != size || memcmp(seen[at].bytes, p, size))) at++;
        if (at == *n && *n < MAX_CHARS) {
            memcpy(seen[at].bytes, p, size);
            seen[at].size = (uint32_t)size;
            ++*n;
        }
        if (at < *n) seen[at].count += w->count;
        total += w->count;
    }
    return total;
}

/* Characters that make up at least a 200000th of the text become symbols, at most 1024; rarer ones
 * are left to the byte tokens. */
static void find_chars(learner *l) {
    seen_char *seen = calloc(MAX_CHARS, sizeof *seen);
    uint64_t total = 0;
    int n = 0;
    if (!seen) {
        l->no_memory = 1;
        return;
    }
    for (size_t i = 0; i < l->word_slots; i++)
        if (l->words[i].text) total += count_chars(&l->words[i], seen, &n);
    qsort(seen, (size_t)n, sizeof *seen, by_count);
    add_char(l, space_mark, 3);
    for (int i = 0; i < n && l->n_symbols < 1024; i++) {
        const seen_char *c = &seen[i];
        if (c->bytes[0] != ' ' && c->count >= 2 && c->count * 200000 >= total)
            add_char(l, c->bytes, c->size);
    }
    l->n_chars = l->n_symbols;
    free(seen);
}

/* Makes words dense, spelled in symbols; -1 is a character that is none, which never merges. */
static void spell_words(learner *l) {
    size_t bytes = 0, used = 0, n = 0;
    for (size_t i = 0; i < l->word_slots; i++) bytes += l->words[i].len;
    /* word.first has 32 bits */
    int fits = bytes < UINT32_MAX && bytes < SIZE_MAX / sizeof *l->units;
    l->units = fits ? malloc(sizeof *l->units * (bytes + 1)) : NULL;
    if (!l->units) {
        l->no_memory = 1;
        return;
    }
    for (size_t i = 0; i < l->word_slots; i++) {
        word w = l->words[i];
        if (!w.text) continue;
        w.first = (uint32_t)used;
        for (size_t k = 0, size; k < w.len; k += size, w.n++) {
            const char *p = w.text + k;
            size = char_size(p, w.len - k);
            l->units[used++] = *p == ' ' ? 0 : find_char(l, p, size);
        }
        l->words[n++] = w;
    }
    l->n_words = n;
}

/* ---- merges ---------------------------------------------------------------------------------- */

/* The slot of that pair, or the empty one where it belongs. */
static pair *pair_slot(const learner *l, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = (size_t)(key * 0x9E3779B97F4A7C15u >> 20) & (l->pair_slots - 1);
    while (l->pairs[at].left >= 0 && (l->pairs[at].left != left || l->pairs[at].right != right))
        at = (at + 1) & (l->pair_slots - 1);
    return &l->pairs[at];
}

static int grow_pairs(learner *l) {
    pair *old = l->pairs;
    size_t old_slots = l->pair_slots, slots = old_slots ? 2 * old_slots : 1 << 14;
    pair *pairs = calloc(slots, sizeof *pairs);
    if (!pairs) return out_of_memory(l);
    for (size_t i = 0; i < slots; i++) pairs[i].left = -1;
    l->pairs = pairs;
    l->pair_slots = slots;
    for (size_t i = 0; i < old_slots; i++)
        if (old[i].left >= 0) *pair_slot(l, old[i].left, old[i].right) = old[i];
    free(old);
    return 0;
}

static void count_pair(learner *l, int32_t left, int32_t right, int64_t count) {
    if (left < 0 || right < 0) return;
    if (2 * (l->n_pairs + 1) > l->pair_slots && grow_pairs(l)) return;
    pair *p = pair_slot(l, left, right);
    if (p->left < 0) {
        *p = (pair){left, right, 0};
        l->n_pairs++;
    }
    p->count += count;
}

/* Adds sign times the word's count to each of its pairs. */
static void count_pairs(learner *l, const word *w, int sign) {
    const int32_t *u = l->units + w->first;
    for (uint32_t k = 0; k + 1 < w->n; k++)
        count_pair(l, u[k], u[k + 1], sign * (int64_t)w->count);
}

/* Whether a comes before b: more frequent, or as frequent and of older symbols. */
static int is_better(const pair *a, const pair *b) {
    if (a->count != b->count) return a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

/* NULL when no pair repeats. */
static const pair *best_pair(const learner *l) {
    const pair *best = NULL;
    for (size_t i = 0; i < l->pair_slots; i++) {
        const pair *p = &l->pairs[i];
        if (p->left >= 0 && p->count >= 2 && (!best || is_better(p, best))) best = p;
    }
    return best;
}

/* Joins left, right to one symbol in every word, and updates the counts of the pairs around it. */
static void merge(learner *l, int32_t left, int32_t right, int32_t joined) {
    for (size_t i = 0; i < l->n_words; i++) {
        word *w = &l->words[i];
        int32_t *u = l->units + w->first;
        uint32_t from = 0;
        while (from + 1 < w->n && (u[from] != left || u[from + 1] != right)) from++;
        if (from + 1 >= w->n) continue;
        count_pairs(l, w, -1);
        uint32_t to = from;
        for (uint32_t k = from; k < w->n; to++) {
            int match = k + 1 < w->n && u[k] == left && u[k + 1] == right;
            u[to] = match ? joined : u[k];
            k += match ? 2 : 1;
        }
        w->n = to;
        count_pairs(l, w, 1);
    }
}

static void learn_merges(learner *l, int n_merges) {
    for (size_t i = 0; i < l->n_words; i++) count_pairs(l, &l->words[i], 1);
    for (int i = 0; i < n_merges && !l->no_memory; i++) {
        const pair *best = best_pair(l);
        if (!best) break;
        int32_t left = best->left, right = best->right, joined = add_merge(l, left, right);
        if (joined >= 0) merge(l, left, right, joined);
    }
}

/* ---- the vocabulary -------------------------------------------------------------------------- */

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 }; /* GGUF token types */

/* Token i of the fixed ones: its name in text, or a constant. */
static gqa_bytes fixed_token(int i, char text[8], int32_t *type) {
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    if (i < 3) {
        *type = i == 0 ? UNKNOWN : CONTROL;
        return (gqa_bytes){special[i], strlen(special[i])};
    }
    *type = BYTE;
    return (gqa_bytes){text, (uint64_t)snprintf(text, 8, "<0x%02X>", i - 3)};
}

static int make_vocab(const learner *l, gqa_vocab **out, gqa_error *err) {
    int n = N_FIXED + l->n_symbols, n_merges = l->n_symbols - l->n_chars;
    gqa_bytes *names = calloc(n, sizeof *names);
    float *scores = calloc(n, sizeof *scores);
    int32_t *types = calloc(n, sizeof *types);
    char text[N_FIXED][8];
    int status;
    if (names && scores && types) {
        for (int i = 0; i < N_FIXED; i++) names[i] = fixed_token(i, text[i], &types[i]);
        for (int i = 0; i < l->n_symbols; i++) { /* merges first, then characters */
            int id = N_FIXED + (i >= l->n_chars ? i - l->n_chars : n_merges + i);
            names[id] = (gqa_bytes){l->text + l->symbols[i].offset, l->symbols[i].len};
            scores[id] = (float)(N_FIXED - id);
            types[id] = NORMAL;
        }
        status = gqa_vocab_new(out, names, scores, types, n, 1, 2, 0, err);
    } else {
        status = gqa_fail(err, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens", n);
    }
    free(names);
    free(scores);
    free(types);
    return status;
}

static int learn(learner *l, const char *text, size_t len, int n, gqa_error *err) {
    count_words(l, text, len);
    if (!l->no_memory) find_chars(l);
    if (!l->no_memory) spell_words(l);
    int n_merges = n - N_FIXED - l->n_chars;
    if (!l->no_memory && n_merges < 0)
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "a vocabulary of %d tokens is too small for the %d characters of this text "
                        "and the %d tokens that are always there", n, l->n_chars, N_FIXED);
    if (!l->no_memory) learn_merges(l, n_merges);
    if (!l->no_memory) return 0;
    return gqa_fail(err, GQA_ERR_MEMORY, "no memory to learn a vocabulary of %d tokens", n);
}

int gqa_bpe_train(gqa_vocab **out, const char *text, size_t len, int n, gqa_error *err) {
    learner l = {0};
    *out = NULL;
    if (n < 300 || n > GQA_MAX_VOCAB)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "a vocabulary of %d tokens: expected 300 to %d", n,
                        GQA_MAX_VOCAB);
    int status = learn(&l, text, len, n, err);
    if (!status) status = make_vocab(&l, out, err);
    free(l.text);
    free(l.symbols);
    free(l.words);
    free(l.units);
    free(l.pairs);
    return status;
}
