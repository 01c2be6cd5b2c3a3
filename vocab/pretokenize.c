/* pretokenize.c: pre-tokenisers: where byte-level BPE splits text before it merges, as scanners
 * written out from the regular expressions that the models were trained with. \s is Unicode's
 * White_Space; a byte that is not UTF-8 counts as neither letter, number nor space. */
#include "../base/utf8.h"
#include "unicode_table.h"
#include "vocab.h"

/* Classes of characters. A newline is \r or \n, which are spaces too. */
enum { CHAR_END, CHAR_LETTER, CHAR_NUMBER, CHAR_SPACE, CHAR_NEWLINE, CHAR_OTHER };

static int in_ranges(uint32_t c, const gqa_range *ranges, int n) {
    int low = 0, high = n;
    while (low < high) {
        int mid = (low + high) / 2;
        if (ranges[mid].last < c) low = mid + 1;
        else high = mid;
    }
    return low < n && ranges[low].first <= c;
}

static int is_white_space(uint32_t c) {
    static const gqa_range ranges[] = {
        {9, 13}, {' ', ' '}, {0x85, 0x85}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A},
        {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
    };
    return in_ranges(c, ranges, (int)array_length(ranges));
}

static int class_of(uint32_t c) {
    if (c == '\r' || c == '\n') return CHAR_NEWLINE;
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return CHAR_LETTER;
    if (c >= '0' && c <= '9') return CHAR_NUMBER;
    if (is_white_space(c)) return CHAR_SPACE;
    if (c < 128) return CHAR_OTHER;
    if (in_ranges(c, gqa_unicode_letters, gqa_unicode_letters_count)) return CHAR_LETTER;
    if (in_ranges(c, gqa_unicode_numbers, gqa_unicode_numbers_count)) return CHAR_NUMBER;
    return CHAR_OTHER;
}

/* Class of the character at text[at]; *next is where the following one begins. */
static int class_at(const char *text, size_t len, size_t at, size_t *next) {
    uint32_t c;
    *next = at;
    if (at >= len) return CHAR_END;
    int n = utf8_decode(text + at, len - at, &c);
    *next = at + (n > 0 ? (unsigned)n : 1);
    return n > 0 ? class_of(c) : CHAR_OTHER;
}

/* The end of the characters of that class from text[at] on, at most max_n of them. */
static size_t run_end(const char *text, size_t len, size_t at, int class, int max_n) {
    size_t next;
    while (max_n-- > 0 && class_at(text, len, at, &next) == class) at = next;
    return at;
}

enum { NO_LIMIT = 1 << 30 };

/* 's 't 're 've 'm 'll 'd: its length, or 0. */
static size_t contraction(const char *t, size_t len, int any_case) {
    char a = len > 1 ? t[1] : 0, b = len > 2 ? t[2] : 0;
    if (len < 2 || t[0] != '\'') return 0;
    if (any_case && a >= 'A' && a <= 'Z') a = (char)(a + 32);
    if (any_case && b >= 'A' && b <= 'Z') b = (char)(b + 32);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

static int is_space(int class) { return class == CHAR_SPACE || class == CHAR_NEWLINE; }

/* \s+(?!\S)|\s+ : a run of spaces leaves its last one to the word that follows. */
static size_t spaces(const char *text, size_t len) {
    size_t at = 0, last = 0, next;
    for (; is_space(class_at(text, len, at, &next)); at = next) last = at;
    return at == len || last == 0 ? at : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t split_gpt2(const char *text, size_t len) {
    size_t n = contraction(text, len, 0), first = text[0] == ' ' ? 1 : 0, next;
    if (n) return n;
    int class = class_at(text, len, first, &next);
    if (class == CHAR_LETTER || class == CHAR_NUMBER || class == CHAR_OTHER)
        return run_end(text, len, first, class, NO_LIMIT);
    return spaces(text, len);
}

/* Each \p{N} by itself; gpt-2 on the text between them. */
static size_t split_smollm(const char *text, size_t len) {
    size_t end = 0, next;
    if (class_at(text, len, 0, &next) == CHAR_NUMBER) return next;
    while (end < len && class_at(text, len, end, &next) != CHAR_NUMBER) end = next;
    return split_gpt2(text, end);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|
 *  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t split_llama3(const char *text, size_t len, int digits) {
    size_t n = contraction(text, len, 1), next, after;
    if (n) return n;
    int class = class_at(text, len, 0, &next);
    if (class == CHAR_LETTER) return run_end(text, len, 0, CHAR_LETTER, NO_LIMIT);
    if (class == CHAR_NUMBER) return run_end(text, len, 0, CHAR_NUMBER, digits);
    if (class != CHAR_NEWLINE && class_at(text, len, next, &after) == CHAR_LETTER)
        return run_end(text, len, next, CHAR_LETTER, NO_LIMIT);
    size_t first = text[0] == ' ' ? 1 : 0;
    if (class_at(text, len, first, &after) == CHAR_OTHER) {
        size_t end = run_end(text, len, first, CHAR_OTHER, NO_LIMIT);
        return run_end(text, len, end, CHAR_NEWLINE, NO_LIMIT);
    }
    size_t newline = 0, at = 0;  /* newline: the end of the last one in the run of spaces */
    for (; is_space(class = class_at(text, len, at, &next)); at = next)
        if (class == CHAR_NEWLINE) newline = next;
    return newline ? newline : spaces(text, len);
}

size_t pretoken_length(splitter kind, const char *text, size_t len) {
    switch (kind) {
    case SPLIT_LLAMA3: return split_llama3(text, len, 3);
    case SPLIT_QWEN2: return split_llama3(text, len, 1);
    case SPLIT_SMOLLM: return split_smollm(text, len);
    default: return split_gpt2(text, len);
    }
}
