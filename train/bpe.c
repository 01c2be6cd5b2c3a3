/* bpe.c: learns a byte-pair vocabulary (Sennrich, Haddow & Birch 2016, "Neural Machine Translation of Rare Words with
 * Subword Units", algorithm 1): starting from characters, the pair of neighbours that is most frequent in the words of the
 * text becomes one symbol, again and again. Only different words are kept, each with its count. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train_internal.h"

enum { N_FIXED = 259, MAX_WORD = 64 }; /* <unk> <s> </s> and 256 bytes; longer words are cut */

static const char space_mark[] = "\xE2\x96\x81"; /* how SentencePiece writes a space: U+2581 */

typedef struct symbol { /* text of a character or merge: learner.text[offset], len bytes */
    uint32_t offset, len;
} symbol;

typedef struct word {
    uint64_t count;
    uint32_t first, n; /* its symbols: learner.units[first .. first + n] */
} word;

typedef struct pair {
    int32_t left, right; /* left -1: an empty slot */
    int64_t count;
} pair;

typedef struct learner {
    char *text;          /* of symbols, with the space mark */
    size_t text_size, text_room;
    symbol *symbols;
    int n_symbols, n_chars, room;
    word *words;         /* hash table while words are counted; then dense */
    const char **spelled;/* [n_slots] where each word was first seen; NULL: an empty slot */
    uint32_t *lengths;   /* [n_slots] bytes */
    size_t n_words, n_slots;
    int32_t *units;
    pair *pairs;         /* hash table */
    size_t pair_slots, n_pairs;
    int no_memory;
} learner;

/* ---- words ------------------------------------------------------------------------------------------------------- */

static size_t char_size(const char *p, size_t left) {
    unsigned char c = (unsigned char)*p;
    size_t n = c < 0x80 ? 1 : c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
    return n <= left ? n : left;
}

typedef enum kind { LETTER, DIGIT, SPACE, LINE_END, MARK } kind;
static kind kind_of(const char *p, size_t left) {
    unsigned char c = (unsigned char)*p;
    if (c >= 0x80) return c == 0xE2 && left > 1 && (unsigned char)p[1] == 0x80 ? MARK : LETTER; /* general punctuation */
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return LETTER;
    if (c >= '0' && c <= '9') return DIGIT;
    return c == '\n' ? LINE_END : c == ' ' ? SPACE : MARK;
}

/* Length of the word at text[0..len): an optional space, then letters, or one digit, or marks, or line ends. An apostrophe
 * that follows a letter takes the letters after it along ('s, 't). */
static size_t word_size(const char *text, size_t len, int after_letter) {
    size_t i = *text == ' ' ? 1 : 0;
    if (i == len) return i;
    kind k = kind_of(text + i, len - i);
    if (k == SPACE || (i && k == LINE_END)) return i;
    if (!i && after_letter && *text == '\'' && len > 1 && kind_of(text + 1, len - 1) == LETTER) i = 1, k = LETTER;
    do i += char_size(text + i, len - i);
    while (i < len && i < MAX_WORD && k != DIGIT && kind_of(text + i, len - i) == k);
    return i;
}

static uint64_t hash_bytes(const char *p, size_t n) { /* FNV-1a */
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001B3u;
    return h ^ (h >> 29);
}

static int grow_words(learner *l) {
    size_t slots = l->n_slots ? 2 * l->n_slots : 1 << 14;
    word *words = calloc(slots, sizeof *words);
    const char **spelled = calloc(slots, sizeof *spelled);
    uint32_t *lengths = calloc(slots, sizeof *lengths);
    if (!words || !spelled || !lengths) {
        free(words), free(spelled), free(lengths);
        l->no_memory = 1;
        return -1;
    }
    for (size_t i = 0; i < l->n_slots; i++) {
        if (!l->spelled[i]) continue;
        size_t at = hash_bytes(l->spelled[i], l->lengths[i]) & (slots - 1);
        while (spelled[at]) at = (at + 1) & (slots - 1);
        words[at] = l->words[i], spelled[at] = l->spelled[i], lengths[at] = l->lengths[i];
    }
    free(l->words), free(l->spelled), free(l->lengths);
    l->words = words, l->spelled = spelled, l->lengths = lengths, l->n_slots = slots;
    return 0;
}

static void count_word(learner *l, const char *p, size_t n) {
    if (2 * (l->n_words + 1) > l->n_slots && grow_words(l)) return;
    size_t at = hash_bytes(p, n) & (l->n_slots - 1);
    while (l->spelled[at] && (l->lengths[at] != n || memcmp(l->spelled[at], p, n))) at = (at + 1) & (l->n_slots - 1);
    if (!l->spelled[at]) l->spelled[at] = p, l->lengths[at] = (uint32_t)n, l->n_words++;
    l->words[at].count++;
}

static void count_words(learner *l, const char *text, size_t len) {
    gqa_bytes doc;
    for (size_t at = 0; train_next_document(text, len, &at, &doc) && !l->no_memory;) {
        int after_letter = 0;
        for (size_t i = 0, n; i < doc.size; i += n) {
            n = word_size(doc.data + i, (size_t)doc.size - i, after_letter);
            after_letter = kind_of(doc.data + i + n - 1, 1) == LETTER;
            count_word(l, doc.data + i, n);
        }
    }
}

/* ---- characters -------------------------------------------------------------------------------------------------- */

static int32_t add_symbol(learner *l, const char *a, size_t a_size, const char *b, size_t b_size) {
    if (l->n_symbols == l->room) {
        int room = l->room ? 2 * l->room : 1024;
        symbol *grown = realloc(l->symbols, sizeof *grown * (size_t)room);
        if (!grown) return l->no_memory = 1, -1;
        l->symbols = grown, l->room = room;
    }
    if (l->text_size + a_size + b_size > l->text_room) {
        size_t room = 2 * (l->text_room + a_size + b_size) + 4096;
        size_t a_at = a >= l->text && a < l->text + l->text_size ? (size_t)(a - l->text) : SIZE_MAX;
        size_t b_at = b >= l->text && b < l->text + l->text_size ? (size_t)(b - l->text) : SIZE_MAX;
        char *grown = realloc(l->text, room);
        if (!grown) return l->no_memory = 1, -1;
        l->text = grown, l->text_room = room;
        if (a_at != SIZE_MAX) a = grown + a_at;
        if (b_at != SIZE_MAX) b = grown + b_at;
    }
    l->symbols[l->n_symbols] = (symbol){(uint32_t)l->text_size, (uint32_t)(a_size + b_size)};
    memcpy(l->text + l->text_size, a, a_size);
    if (b_size) memcpy(l->text + l->text_size + a_size, b, b_size);
    l->text_size += a_size + b_size;
    return l->n_symbols++;
}

static int32_t find_char(const learner *l, const char *p, size_t n) {
    for (int i = 0; i < l->n_symbols; i++)
        if (l->symbols[i].len == n && !memcmp(l->text + l->symbols[i].offset, p, n)) return i;
    return -1;
}

typedef struct seen_char { char bytes[4]; uint32_t size; uint64_t count; } seen_char;
static int by_count(const void *a, const void *b) {
    const seen_char *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return memcmp(x->bytes, y->bytes, 4);
}

/* Characters that make up at least a 200000th of the text become symbols; rarer ones are left to the byte tokens. */
static void find_chars(learner *l) {
    enum { MOST = 4096 };
    seen_char *seen = calloc(MOST, sizeof *seen);
    uint64_t total = 0;
    int n = 0;
    if (!seen) {
        l->no_memory = 1;
        return;
    }
    for (size_t w = 0; w < l->n_slots; w++)
        for (size_t i = 0, size; l->spelled[w] && i < l->lengths[w]; i += size) {
            const char *p = l->spelled[w] + i;
            size = char_size(p, l->lengths[w] - i);
            int at = 0;
            while (at < n && (seen[at].size != size || memcmp(seen[at].bytes, p, size))) at++;
            if (at == n && n < MOST) memcpy(seen[n].bytes, p, size), seen[n++].size = (uint32_t)size;
            if (at < n) seen[at].count += l->words[w].count;
            total += l->words[w].count;
        }
    qsort(seen, (size_t)n, sizeof *seen, by_count);
    add_symbol(l, space_mark, 3, NULL, 0);
    for (int i = 0; i < n && l->n_symbols < 1024; i++)
        if (seen[i].bytes[0] != ' ' && seen[i].count >= 2 && seen[i].count * 200000 >= total)
            add_symbol(l, seen[i].bytes, seen[i].size, NULL, 0);
    l->n_chars = l->n_symbols;
    free(seen);
}

/* Makes words dense, spelled in symbols; -1 is a character that is none, which nothing merges with. */
static void spell_words(learner *l) {
    size_t bytes = 0, used = 0, n = 0;
    for (size_t i = 0; i < l->n_slots; i++) bytes += l->spelled[i] ? l->lengths[i] : 0;
    l->units = malloc(sizeof *l->units * (bytes + 1));
    if (!l->units) {
        l->no_memory = 1;
        return;
    }
    for (size_t i = 0; i < l->n_slots; i++) {
        if (!l->spelled[i]) continue;
        word w = {l->words[i].count, (uint32_t)used, 0};
        for (size_t k = 0, size; k < l->lengths[i]; k += size, w.n++) {
            const char *p = l->spelled[i] + k;
            size = char_size(p, l->lengths[i] - k);
            l->units[used++] = *p == ' ' ? 0 : find_char(l, p, size);
        }
        l->words[n++] = w;
    }
    l->n_words = n;
}

/* ---- merges ------------------------------------------------------------------------------------------------------ */

static pair *pair_slot(const learner *l, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    size_t at = (size_t)(h >> 20) & (l->pair_slots - 1);
    while (l->pairs[at].left >= 0 && (l->pairs[at].left != left || l->pairs[at].right != right))
        at = (at + 1) & (l->pair_slots - 1);
    return &l->pairs[at];
}

static void count_pair(learner *l, int32_t left, int32_t right, int64_t count) {
    if (left < 0 || right < 0) return;
    if (2 * (l->n_pairs + 1) > l->pair_slots) {
        pair *old = l->pairs;
        size_t slots = l->pair_slots, wider = slots ? 2 * slots : 1 << 14;
        pair *pairs = malloc(sizeof *pairs * wider);
        if (!pairs) {
            l->no_memory = 1;
            return;
        }
        for (size_t i = 0; i < wider; i++) pairs[i].left = -1;
        l->pairs = pairs, l->pair_slots = wider;
        for (size_t i = 0; i < slots; i++)
            if (old[i].left >= 0) *pair_slot(l, old[i].left, old[i].right) = old[i];
        free(old);
    }
    pair *p = pair_slot(l, left, right);
    if (p->left < 0) *p = (pair){left, right, 0}, l->n_pairs++;
    p->count += count;
}

/* The most frequent pair; of equals the one whose symbols are older. NULL when no pair repeats. */
static pair *best_pair(const learner *l) {
    pair *best = NULL;
    for (size_t i = 0; i < l->pair_slots; i++) {
        pair *p = &l->pairs[i];
        if (p->left < 0 || p->count < 2 || (best && p->count < best->count)) continue;
        if (!best || p->count > best->count || p->left < best->left || (p->left == best->left && p->right < best->right)) best = p;
    }
    return best;
}

/* Joins left, right to one symbol in every word, and keeps the counts of the pairs around it right. */
static void merge(learner *l, int32_t left, int32_t right, int32_t joined) {
    for (size_t i = 0; i < l->n_words; i++) {
        word *w = &l->words[i];
        int32_t *u = l->units + w->first;
        int64_t count = (int64_t)w->count;
        uint32_t from = 0;
        while (from + 1 < w->n && (u[from] != left || u[from + 1] != right)) from++;
        if (from + 1 >= w->n) continue;
        for (uint32_t k = 0; k + 1 < w->n; k++) count_pair(l, u[k], u[k + 1], -count);
        uint32_t to = from;
        for (uint32_t k = from; k < w->n; to++) {
            int match = k + 1 < w->n && u[k] == left && u[k + 1] == right;
            u[to] = match ? joined : u[k];
            k += match ? 2 : 1;
        }
        w->n = to;
        for (uint32_t k = 0; k + 1 < w->n; k++) count_pair(l, u[k], u[k + 1], count);
    }
}

static void learn(learner *l, int n_merges) {
    for (size_t i = 0; i < l->n_words; i++)
        for (uint32_t k = 0; k + 1 < l->words[i].n; k++)
            count_pair(l, l->units[l->words[i].first + k], l->units[l->words[i].first + k + 1], (int64_t)l->words[i].count);
    for (int i = 0; i < n_merges && !l->no_memory; i++) {
        pair *best = best_pair(l);
        if (!best) break;
        int32_t left = best->left, right = best->right;
        symbol a = l->symbols[left], b = l->symbols[right];
        int32_t joined = add_symbol(l, l->text + a.offset, a.len, l->text + b.offset, b.len);
        if (joined >= 0) merge(l, left, right, joined);
    }
}

static int make_vocab(const learner *l, gqa_vocab **out, gqa_error *err) {
    int n = N_FIXED + l->n_symbols, n_merges = l->n_symbols - l->n_chars;
    gqa_bytes *pieces = calloc((size_t)n, sizeof *pieces);
    float *scores = calloc((size_t)n, sizeof *scores);
    int32_t *types = calloc((size_t)n, sizeof *types);
    char names[256][8];
    static const char *const control[] = {"<unk>", "<s>", "</s>"};
    int status = -1;
    if (pieces && scores && types) {
        for (int i = 0; i < 3; i++) pieces[i] = (gqa_bytes){control[i], strlen(control[i])}, types[i] = i ? 3 : 2;
        for (int i = 0; i < 256; i++) {
            snprintf(names[i], sizeof names[i], "<0x%02X>", i);
            pieces[3 + i] = (gqa_bytes){names[i], 6};
            types[3 + i] = 6;
        }
        for (int i = 0; i < l->n_symbols; i++) { /* merges first, then characters */
            int is_merge = i >= l->n_chars, at = N_FIXED + (is_merge ? i - l->n_chars : n_merges + i);
            pieces[at] = (gqa_bytes){l->text + l->symbols[i].offset, l->symbols[i].len};
            scores[at] = (float)(N_FIXED - at);
            types[at] = 1;
        }
        status = gqa_vocab_new(out, pieces, scores, types, n, 1, 2, 0, err);
    } else {
        status = gqa_fail(err, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens", n);
    }
    free(pieces), free(scores), free(types);
    return status;
}

int gqa_bpe_train(gqa_vocab **out, const char *text, size_t len, int n, gqa_error *err) {
    learner l = {0};
    *out = NULL;
    if (n < 300 || n > GQA_MAX_VOCAB) return gqa_fail(err, GQA_ERR_ARGUMENT, "a vocabulary of %d tokens: expected 300 or more", n);
    count_words(&l, text, len);
    if (!l.no_memory) find_chars(&l);
    if (!l.no_memory) spell_words(&l);
    int status = 0;
    if (!l.no_memory && N_FIXED + l.n_chars > n)
        status = gqa_fail(err, GQA_ERR_ARGUMENT, "a vocabulary of %d tokens is too small for the %d characters of this text and %d "
                          "tokens that are always there", n, l.n_chars, N_FIXED);
    if (!status && !l.no_memory) learn(&l, n - N_FIXED - l.n_chars);
    if (!status && l.no_memory) status = gqa_fail(err, GQA_ERR_MEMORY, "no memory to learn a vocabulary of %d tokens", n);
    if (!status) status = make_vocab(&l, out, err);
    free(l.text), free(l.symbols), free(l.words), free(l.spelled), free(l.lengths), free(l.units), free(l.pairs);
    return status;
}
