/* pretokenize.c: pre-tokenisers: where byte-level BPE splits text before it merges, as scanners
 * written out from the regular expressions that the models were trained with. \s is Unicode's
 * White_Space; a byte that is not UTF-8 counts as neither letter, number nor space.
 *
 * A splitter is a list of passes. Each pass cuts every piece that the passes before it left: what
 * it matches is a piece, and what stands between two matches is one. Time is linear. */
#include "../base/utf8.h"
#include "unicode_table.h"
#include "vocab.h"

/* Classes of characters; sets of them are sums. A newline is \r or \n, which are spaces too. */
enum {
    CHAR_END = 0, CHAR_UNKNOWN = 1 << UNICODE_OTHER, CHAR_LETTER = 1 << UNICODE_LETTER,
    CHAR_NUMBER = 1 << UNICODE_NUMBER, CHAR_MARK = 1 << UNICODE_MARK,
    CHAR_PUNCTUATION = 1 << UNICODE_PUNCTUATION, CHAR_SYMBOL = 1 << UNICODE_SYMBOL,
    CHAR_SPACE = 64, CHAR_NEWLINE = 128,
    CHAR_OTHER = CHAR_MARK | CHAR_PUNCTUATION | CHAR_SYMBOL | CHAR_UNKNOWN,
    CHAR_BLANK = CHAR_SPACE | CHAR_NEWLINE
};

typedef struct char_range {
    uint32_t first, last;
} char_range;

/* ranges [n] are in order. */
static int in_ranges(uint32_t c, const char_range *ranges, size_t n) {
    for (size_t i = 0; i < n && ranges[i].first <= c; i++)
        if (c <= ranges[i].last) return 1;
    return 0;
}

static int is_white_space(uint32_t c) {
    static const char_range ranges[] = {
        {9, 13}, {' ', ' '}, {0x85, 0x85}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A},
        {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
    };
    return in_ranges(c, ranges, array_length(ranges));
}

static int class_of(uint32_t c) {
    if (c == '\r' || c == '\n') return CHAR_NEWLINE;
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return CHAR_LETTER;
    if (is_white_space(c)) return CHAR_SPACE;
    return 1 << unicode_class(c);
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

/* The end of the characters of those classes from text[at] on, at most max_n of them. */
static size_t run_end(const char *text, size_t len, size_t at, int classes, int max_n) {
    size_t next;
    while (max_n-- > 0 && class_at(text, len, at, &next) & classes) at = next;
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

/* \s+(?!\S)|\s+ : a run of spaces leaves its last one to the word that follows. */
static size_t spaces(const char *text, size_t len) {
    size_t at = 0, last = 0, next;
    for (; class_at(text, len, at, &next) & CHAR_BLANK; at = next) last = at;
    return at == len || last == 0 ? at : last;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t match_gpt2(const char *text, size_t len, int unused) {
    (void)unused;
    size_t n = contraction(text, len, 0), first = text[0] == ' ' ? 1 : 0, next;
    if (n) return n;
    int class = class_at(text, len, first, &next);
    if (class & CHAR_OTHER) class = CHAR_OTHER;
    if (class & (CHAR_LETTER | CHAR_NUMBER | CHAR_OTHER))
        return run_end(text, len, first, class, NO_LIMIT);
    return spaces(text, len);
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t lines_and_spaces(const char *text, size_t len) {
    size_t newline = 0, at = 0, next;  /* newline: the end of the last one in the run of spaces */
    for (int class; (class = class_at(text, len, at, &next)) & CHAR_BLANK; at = next)
        if (class == CHAR_NEWLINE) newline = next;
    return newline ? newline : spaces(text, len);
}

/* \p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*| and the above; slash: [\r\n/]* */
static size_t match_no_word(const char *text, size_t len, int digits, int slash) {
    size_t first = text[0] == ' ' ? 1 : 0, next;
    if (class_at(text, len, 0, &next) == CHAR_NUMBER)
        return run_end(text, len, 0, CHAR_NUMBER, digits);
    if (!(class_at(text, len, first, &next) & CHAR_OTHER)) return lines_and_spaces(text, len);
    size_t end = run_end(text, len, first, CHAR_OTHER, NO_LIMIT);
    while (end < len && (strchr("\r\n", text[end]) || (slash && text[end] == '/')) && text[end])
        end++;
    return end;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+| and the above */
static size_t match_llama3(const char *text, size_t len, int digits) {
    size_t n = contraction(text, len, 1), next, after;
    if (n) return n;
    int class = class_at(text, len, 0, &next);
    if (class & (CHAR_SPACE | CHAR_OTHER) && class_at(text, len, next, &after) == CHAR_LETTER)
        return run_end(text, len, next, CHAR_LETTER, NO_LIMIT);
    if (class == CHAR_LETTER) return run_end(text, len, 0, CHAR_LETTER, NO_LIMIT);
    return match_no_word(text, len, digits, 0);
}

/* A word in which small ASCII letters follow large ones; a letter beyond ASCII may be either:
 * U*L+|U+L*, where U are letters but a-z, L letters but A-Z. Its end, or at when there is none. */
static size_t cased_word(const char *text, size_t len, size_t at) {
    size_t end = at, next, either = 0;  /* the end of the last letter beyond ASCII among U */
    for (; class_at(text, len, end, &next) == CHAR_LETTER; end = next) {
        if (text[end] >= 'a' && text[end] <= 'z') break;
        if (text[end] & 0x80) either = next;
    }
    size_t large = end;
    for (; class_at(text, len, end, &next) == CHAR_LETTER; end = next)
        if (text[end] >= 'A' && text[end] <= 'Z') break;
    return end > large || !either ? end : either;
}

/* [^\r\n\p{L}\p{N}]? and such a word, in gpt-4o with (?i:'s|'t|'re|'ve|'m|'ll|'d)?; digits 3:
 * gpt-4o, 1: tekken. Then as above, with [\r\n/]*. */
static size_t match_cased(const char *text, size_t len, int digits) {
    size_t first = 0, next, end;
    if (class_at(text, len, 0, &next) & (CHAR_SPACE | CHAR_OTHER)) first = next;
    end = cased_word(text, len, first);
    if (end == first) return match_no_word(text, len, digits, 1);
    return digits == 3 ? end + contraction(text + end, len - end, 1) : end;
}

/* [!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
 * lines and spaces */
static size_t match_deepseek3(const char *text, size_t len, int unused) {
    enum { WORD = CHAR_LETTER | CHAR_MARK, SIGN = CHAR_PUNCTUATION | CHAR_SYMBOL };
    (void)unused;
    size_t next, after, first = text[0] == ' ' ? 1 : 0, end = 1;
    int class = class_at(text, len, 0, &next);
    if (class & SIGN && !(text[0] & 0x80)) {
        while (end < len && (text[end] | 32) >= 'a' && (text[end] | 32) <= 'z') end++;
        if (end > 1) return end;
    }
    int may_lead = class && !(class & (CHAR_NEWLINE | CHAR_LETTER | SIGN));
    if (may_lead && class_at(text, len, next, &after) & WORD)
        return run_end(text, len, next, WORD, NO_LIMIT);
    if (class & WORD) return run_end(text, len, 0, WORD, NO_LIMIT);
    if (class_at(text, len, first, &after) & SIGN) {
        end = run_end(text, len, first, SIGN, NO_LIMIT);
        return run_end(text, len, end, CHAR_NEWLINE, NO_LIMIT);
    }
    return class & CHAR_BLANK ? lines_and_spaces(text, len) : 0;
}

/* [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| and as in match_cased. The
 * model's own expression also cuts before a capital, where no merge of it joins: the same ids. */
static size_t match_youtu(const char *text, size_t len, int unused) {
    enum { WORD = CHAR_LETTER | CHAR_MARK };
    (void)unused;
    size_t first = 0, next;
    if (class_at(text, len, 0, &next) & (CHAR_SPACE | CHAR_OTHER)) first = next;
    size_t end = run_end(text, len, first, WORD, NO_LIMIT);
    if (end == first) end = run_end(text, len, 0, WORD, 1);
    return end ? end + contraction(text + end, len - end, 1) : match_no_word(text, len, 1, 1);
}

/* ---- passes that match runs of one kind ------------------------------------------------------ */

/* [classes]{1,limit}: the low byte of arg, and the rest (0: no limit) */
#define RUN(classes, limit) ((classes) | (limit) << 8)
static size_t match_run(const char *text, size_t len, int arg) {
    return run_end(text, len, 0, arg & 255, arg >> 8 ? arg >> 8 : NO_LIMIT);
}

/* \s?[classes]+ */
static size_t match_spaced(const char *text, size_t len, int classes) {
    size_t first = run_end(text, len, 0, CHAR_BLANK, 1);
    size_t end = run_end(text, len, first, classes, NO_LIMIT);
    return end > first ? end : 0;
}

/* [\p{P}$+<=>^~|]+ */
static size_t match_signs(const char *text, size_t len, int unused) {
    size_t at = 0, next;
    (void)unused;
    for (int class; (class = class_at(text, len, at, &next)) != CHAR_END; at = next)
        if (class != CHAR_PUNCTUATION && (!text[at] || !strchr("$+<=>^~|", text[at]))) break;
    return at;
}

/* [0-9][0-9][0-9] */
static size_t match_three(const char *text, size_t len, int unused) {
    (void)unused;
    for (size_t i = 0; i < 3; i++)
        if (i == len || text[i] < '0' || text[i] > '9') return 0;
    return 3;
}

/* \s+$ */
static size_t match_last_spaces(const char *text, size_t len, int unused) {
    (void)unused;
    size_t end = run_end(text, len, 0, CHAR_BLANK, NO_LIMIT);
    return end == len ? end : 0;
}

/* Sets of characters that are not a general category. */
enum { SET_HAN, SET_HAN_KANA, SET_HANGUL, SET_BOPOMOFO, SET_CJK_SIGNS, SET_LETTERS, SET_SIGNS };

/* What DeepSeek's first tokenizer calls letters: those with case, but for a few. */
static const char_range deepseek_letters[] = {
    {0x41, 0x5A}, {0x61, 0x7A}, {0xB5, 0xB5}, {0xC0, 0xD6},
    {0xD8, 0xF6}, {0xF8, 0x1BA}, {0x1BC, 0x1BF}, {0x1C4, 0x293},
    {0x295, 0x2AF}, {0x370, 0x373}, {0x376, 0x377}, {0x37B, 0x37D},
    {0x37F, 0x37F}, {0x386, 0x386}, {0x388, 0x38A}, {0x38C, 0x38C},
    {0x38E, 0x3A1}, {0x3A3, 0x3F5}, {0x3F7, 0x481}, {0x48A, 0x52F},
    {0x531, 0x556}, {0x10A0, 0x10C5}, {0x13A0, 0x13F5}, {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA}, {0x1CBD, 0x1CBF}, {0x1D00, 0x1D2B}, {0x1D6B, 0x1D77},
    {0x1D79, 0x1D9A}, {0x1E00, 0x1F15}, {0x1F18, 0x1F1D}, {0x1F20, 0x1F45},
    {0x1F48, 0x1F4D}, {0x1F50, 0x1F57}, {0x1F59, 0x1F59}, {0x1F5B, 0x1F5B},
    {0x1F5D, 0x1F5D}, {0x1F5F, 0x1F7D}, {0x1F80, 0x1FB4}, {0x1FB6, 0x1FBC},
    {0x1FBE, 0x1FBE}, {0x1FC2, 0x1FC4}, {0x1FC6, 0x1FCC}, {0x1FD0, 0x1FD3},
    {0x1FD6, 0x1FDB}, {0x1FE0, 0x1FEC}, {0x1FF2, 0x1FF4}, {0x1FF6, 0x1FFC},
    {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210A, 0x2113}, {0x2115, 0x2115},
    {0x2119, 0x211D}, {0x2124, 0x2124}, {0x2126, 0x2126}, {0x2128, 0x2128},
    {0x212A, 0x212D}, {0x212F, 0x2134}, {0x2139, 0x2139}, {0x213C, 0x213F},
    {0x2145, 0x2149}, {0x214E, 0x214E}, {0x2183, 0x2184}, {0x2C00, 0x2C7B},
    {0x2C7E, 0x2CE4}, {0x2CEB, 0x2CEE}, {0x2CF2, 0x2CF3}, {0xA640, 0xA66D},
    {0xA680, 0xA69B}, {0xA722, 0xA76F}, {0xA771, 0xA787}, {0xA78B, 0xA78E},
    {0xAB70, 0xABBF}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17}, {0xFF21, 0xFF3A},
    {0xFF41, 0xFF5A}, {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB},
    {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};

static int in_set(uint32_t c, int set) {
    static const char_range han[] = {{0x800, 0x9FA5}, {0xAC00, 0xD7FF}};
    static const char_range han_kana[] = {{0x3040, 0x309F}, {0x30A0, 0x30FF}, {0x4E00, 0x9FA5}};
    static const char_range hangul[] = {{0x3131, 0x318E}, {0xAC00, 0xD7A3}};
    static const char_range bopomofo[] = {{0x3105, 0x312F}};
    static const char_range cjk_signs[] = {
        {0x2014, 0x2014}, {0x2018, 0x2019}, {0x201C, 0x201D}, {0x2026, 0x2026}, {0x3001, 0x303F},
        {0xFE30, 0xFE4F}, {0xFF01, 0xFF01}, {0xFF0C, 0xFF0C}, {0xFF1A, 0xFF1B},
    };
    static const char_range signs[] = {
        {'!', '/'}, {':', '~'}, {0x2018, 0x201F}, {0x3000, 0x3002}, {0xFF01, 0xFF0F},
        {0xFF1A, 0xFF5E},
    };
    static const struct {
        const char_range *ranges;
        size_t n;
    } sets[] = {
        [SET_HAN] = {han, array_length(han)},
        [SET_HAN_KANA] = {han_kana, array_length(han_kana)},
        [SET_HANGUL] = {hangul, array_length(hangul)},
        [SET_BOPOMOFO] = {bopomofo, array_length(bopomofo)},
        [SET_CJK_SIGNS] = {cjk_signs, array_length(cjk_signs)},
        [SET_LETTERS] = {deepseek_letters, array_length(deepseek_letters)},
        [SET_SIGNS] = {signs, array_length(signs)},
    };
    return in_ranges(c, sets[set].ranges, sets[set].n);
}

/* [set]+ */
static size_t match_set(const char *text, size_t len, int set) {
    size_t at = 0;
    uint32_t c;
    for (int n; at < len && (n = utf8_decode(text + at, len - at, &c)) > 0; at += (size_t)n)
        if (!in_set(c, set)) break;
    return at;
}

/* \s?[set]+ */
static size_t match_spaced_set(const char *text, size_t len, int set) {
    size_t first = run_end(text, len, 0, CHAR_BLANK, 1);
    size_t n = match_set(text + first, len - first, set);
    return n ? first + n : match_set(text, len, set);
}

/* ---- splitters ------------------------------------------------------------------------------- */

/* Length of what matches at the start of text[len], len >= 1; 0: nothing does. */
typedef size_t (*match_function)(const char *text, size_t len, int arg);

static const struct pass {
    match_function match;
    int arg;
} passes[][6] = {
    [SPLIT_GPT2] = {{match_gpt2, 0}},
    [SPLIT_LLAMA3] = {{match_llama3, 3}},
    [SPLIT_QWEN2] = {{match_llama3, 1}},
    [SPLIT_SMOLLM] = {{match_run, RUN(CHAR_NUMBER, 1)}, {match_gpt2, 0}},
    [SPLIT_TEKKEN] = {{match_cased, 1}},
    [SPLIT_GPT4O] = {{match_cased, 3}},
    [SPLIT_DEFAULT] = {
        {match_signs, 0}, {match_gpt2, 0}, {match_run, RUN(CHAR_NUMBER, 0)}, {match_three, 0},
    },
    [SPLIT_DEEPSEEK_LLM] = { /* numbers as in llama.cpp; DeepSeek's tokenizer.json cuts them into
                              * digits. The ids are the same: no merge joins digits. */
        {match_run, RUN(CHAR_NEWLINE, 1)}, {match_spaced_set, SET_LETTERS},
        {match_spaced_set, SET_SIGNS}, {match_last_spaces, 0}, {match_set, SET_HAN},
        {match_run, RUN(CHAR_NUMBER, 0)},
    },
    [SPLIT_DEEPSEEK_CODER] = {
        {match_run, RUN(CHAR_NEWLINE, 1)}, {match_spaced, CHAR_LETTER},
        {match_spaced, CHAR_PUNCTUATION}, {match_set, SET_HAN}, {match_run, RUN(CHAR_NUMBER, 1)},
    },
    [SPLIT_DEEPSEEK3] = {
        {match_run, RUN(CHAR_NUMBER, 3)}, {match_set, SET_HAN_KANA}, {match_deepseek3, 0},
    },
    [SPLIT_YOUTU] = {
        {match_set, SET_HANGUL}, {match_set, SET_CJK_SIGNS}, {match_set, SET_BOPOMOFO},
        {match_set, SET_HAN_KANA}, {match_youtu, 0},
    },
    [SPLIT_LINES] = {{match_run, RUN(CHAR_NEWLINE, 0)}},
};

/* Cuts one piece, text[0 .. len - 1]; cuts[i] is set where a piece begins. */
static void cut_piece(const struct pass *p, const char *text, size_t len, uint8_t *cuts) {
    for (size_t at = 0, n, next; at < len; at += n) {
        n = p->match(text + at, len - at, p->arg);
        if (n) {
            cuts[at] = 1;
            if (at + n < len) cuts[at + n] = 1;
        } else {
            class_at(text + at, len - at, 0, &next);
            n = next;
            if (p->match == match_last_spaces) /* nor does it match within the same spaces */
                n = max_size(n, run_end(text + at, len - at, 0, CHAR_BLANK, NO_LIMIT));
        }
    }
}

void pretokenize(splitter kind, const char *text, size_t len, uint8_t *cuts) {
    memset(cuts, 0, len);
    cuts[0] = 1;
    for (const struct pass *p = passes[kind]; p < passes[kind] + 6 && p->match; p++)
        for (size_t at = 0, end; at < len; at = end) {
            end = at + pretoken_length(cuts + at, len - at);
            cut_piece(p, text + at, end - at, cuts + at);
        }
}

size_t pretoken_length(const uint8_t *cuts, size_t len) {
    const uint8_t *next = len > 1 ? memchr(cuts + 1, 1, len - 1) : NULL;
    return next ? (size_t)(next - cuts) : len;
}
