/* pretokenize.c: pre-tokenisers: where byte-level BPE cuts text before it merges, as scanners written out from the
 * regular expressions that the models were trained with. \s is Unicode's White_Space; a byte that is not UTF-8 counts as a
 * character that is neither letter, number nor space. */
#include "vocab.h"
#include "unicode_table.h"
#include "../base/utf8.h"

enum { END, LETTER, NUMBER, SPACE, NEWLINE /* \r or \n, which are spaces too */, OTHER };

static int in_ranges(uint32_t c, const gqa_range *ranges, int n) {
    int lo = 0, hi = n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (ranges[mid].last < c) lo = mid + 1; else hi = mid;
    }
    return lo < n && ranges[lo].first <= c;
}

static int class_of(uint32_t c) {
    if (c == '\r' || c == '\n') return NEWLINE;
    if (c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
        c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000)
        return SPACE;
    if (c < 128) return (c | 32) >= 'a' && (c | 32) <= 'z' ? LETTER : c >= '0' && c <= '9' ? NUMBER : OTHER;
    if (in_ranges(c, gqa_unicode_letters, gqa_unicode_letters_count)) return LETTER;
    return in_ranges(c, gqa_unicode_numbers, gqa_unicode_numbers_count) ? NUMBER : OTHER;
}

/* Class of the character at text[at]; *next is where the following one begins. */
static int look(const char *text, size_t len, size_t at, size_t *next) {
    *next = at;
    if (at >= len) return END;
    int n = utf8_length(text + at, len - at);
    *next = at + (n > 0 ? (size_t)n : 1);
    if (n <= 0) return OTHER;
    const unsigned char *p = (const unsigned char *)text + at;
    uint32_t c = n == 1 ? p[0] : n == 2 ? (p[0] & 31u) << 6 | (p[1] & 63u) : n == 3 ? (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u)
               : (p[0] & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    return class_of(c);
}

static size_t run_of(const char *text, size_t len, size_t at, int kind, int most) {
    size_t next;
    while (most-- > 0 && look(text, len, at, &next) == kind) at = next;
    return at;
}

enum { ANY = 1 << 30 };

/* 's 't 're 've 'm 'll 'd: its length, or 0. */
static size_t contraction(const char *t, size_t len, int any_case) {
    char a = len > 1 ? t[1] : 0, b = len > 2 ? t[2] : 0;
    if (len < 2 || t[0] != '\'') return 0;
    if (any_case && a >= 'A' && a <= 'Z') a = (char)(a + 32);
    if (any_case && b >= 'A' && b <= 'Z') b = (char)(b + 32);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ : a run of spaces leaves its last one to the word that follows. */
static size_t spaces(const char *text, size_t len) {
    size_t at = 0, last = 0, next;
    for (int kind; kind = look(text, len, at, &next), kind == SPACE || kind == NEWLINE; at = next) last = at;
    return at == len || last == 0 ? at : last;
}

/* [^\s\p{L}\p{N}]+ from at on. */
static size_t others(const char *text, size_t len, size_t at) { return run_of(text, len, at, OTHER, ANY); }

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t split_gpt2(const char *text, size_t len) {
    size_t n = contraction(text, len, 0), first = text[0] == ' ' ? 1 : 0, next;
    if (n) return n;
    int kind = look(text, len, first, &next);
    if (kind == LETTER || kind == NUMBER || kind == OTHER) return run_of(text, len, first, kind, ANY);
    return spaces(text, len);
}

/* \p{N} first, each a piece of its own; then gpt-2 on what lies between. */
static size_t split_smollm(const char *text, size_t len) {
    size_t next, end;
    if (look(text, len, 0, &next) == NUMBER) return next;
    for (end = 0; look(text, len, end, &next) != NUMBER && end < len; end = next) {}
    return split_gpt2(text, end);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t split_llama3(const char *text, size_t len, int digits) {
    size_t n = contraction(text, len, 1), next, after;
    if (n) return n;
    int kind = look(text, len, 0, &next);
    if (kind == LETTER) return run_of(text, len, 0, LETTER, ANY);
    if (kind != NEWLINE && kind != NUMBER && look(text, len, next, &after) == LETTER) return run_of(text, len, next, LETTER, ANY);
    if (kind == NUMBER) return run_of(text, len, 0, NUMBER, digits);
    size_t first = text[0] == ' ' ? 1 : 0;
    if (look(text, len, first, &after) == OTHER) return run_of(text, len, others(text, len, first), NEWLINE, ANY);
    size_t newline = 0, at = 0;  /* end of the last newline in the run of spaces */
    for (; kind = look(text, len, at, &next), kind == SPACE || kind == NEWLINE; at = next)
        if (kind == NEWLINE) newline = next;
    return newline ? newline : spaces(text, len);
}

size_t split_next(splitter kind, const char *text, size_t len) {
    switch (kind) {
    case SPLIT_LLAMA3: return split_llama3(text, len, 3);
    case SPLIT_QWEN2: return split_llama3(text, len, 1);
    case SPLIT_SMOLLM: return split_smollm(text, len);
    default: return split_gpt2(text, len);
    }
}
