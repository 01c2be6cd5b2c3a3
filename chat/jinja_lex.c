/* jinja_lex.c: a template's source as tokens: text, and what stands in {{ }} and {% %}. */
#include <string.h>

#include "../base/utf8.h"
#include "jinja_internal.h"

typedef struct jinja_lexer {
    jinja *j;
    jinja_text source;
    size_t at;
    int line;
    int starts_line;           /* the last tag took the newline behind it */
    jinja_token *tokens;
    size_t n, capacity;
} jinja_lexer;

static char lex_char(const jinja_lexer *x, size_t offset) {
    return x->at + offset < x->source.len ? x->source.bytes[x->at + offset] : 0;
}

static int lex_is(const jinja_lexer *x, const char *word) {
    size_t len = strlen(word);
    return x->source.len - x->at >= len && memcmp(x->source.bytes + x->at, word, len) == 0;
}

static void lex_skip(jinja_lexer *x, size_t n) {
    for (; n; n--) x->line += x->source.bytes[x->at++] == '\n';
    x->j->line = x->line;
}

static void lex_skip_spaces(jinja_lexer *x) {
    uint32_t c;
    for (size_t at = x->at; jinja_next(x->source, &at, &c) && jinja_is_space(c);)
        lex_skip(x, at - x->at);
}

static jinja_token *lex_add(jinja_lexer *x, jinja_token_kind kind, jinja_text text) {
    if (x->n == x->capacity) {
        size_t capacity = x->capacity ? x->capacity * 2 : 256;
        jinja_token *grown = jinja_alloc(x->j, capacity * sizeof *grown);
        if (!grown) return NULL;
        if (x->n) memcpy(grown, x->tokens, x->n * sizeof *grown);
        x->tokens = grown;
        x->capacity = capacity;
    }
    x->tokens[x->n] = (jinja_token){.kind = kind, .line = x->line, .text = text};
    return &x->tokens[x->n++];
}

/* ---- inside tags ----------------------------------------------------------------------------- */

/* The number of n digits in base 16 or 8 at x->at, which goes behind it; UINT32_MAX: none. */
static uint32_t lex_digits(jinja_lexer *x, int n, uint32_t base) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint32_t value = 0;
    for (int i = 0; i < n; i++) {
        char c = lex_char(x, 0);
        const char *found = c ? strchr(digits, c) : NULL;
        uint32_t digit = found ? (uint32_t)(found - digits) % 16 : 16;
        if (digit >= base) return base == 8 && i > 0 ? value : UINT32_MAX;
        value = value * base + digit;
        lex_skip(x, 1);
    }
    return value;
}

/* What follows a backslash, as Python has it; an unknown escape stays as it is. */
static void lex_escape(jinja_lexer *x, jinja_builder *b) {
    static const char letters[] = "\\'\"abfnrtv", meant[] = "\\'\"\a\b\f\n\r\t\v";
    char c = lex_char(x, 0);
    const char *found = c ? strchr(letters, c) : NULL;
    if (c >= '0' && c <= '7') {
        jinja_put_char(x->j, b, lex_digits(x, 3, 8), 0);
        return;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        lex_skip(x, 1);
        uint32_t value = lex_digits(x, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16);
        if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
            jinja_fail(x->j, "a string with a wrong \\%c escape", c);
        else
            jinja_put_char(x->j, b, value, 0);
        return;
    }
    if (c == 'N') {
        jinja_unsupported(x->j, "a \\N escape is not supported");
        return;
    }
    if (found) {
        jinja_put_char(x->j, b, (uint32_t)meant[found - letters], 0);
        lex_skip(x, 1);
    } else if (c == '\n') {
        lex_skip(x, 1);
    } else {
        jinja_put_literal(x->j, b, "\\");
    }
}

static void lex_string(jinja_lexer *x) {
    char quote = lex_char(x, 0);
    jinja_builder b = {0};
    int line = x->line;
    lex_skip(x, 1);
    while (!x->j->status && x->at < x->source.len && lex_char(x, 0) != quote) {
        size_t from = x->at;
        while (x->at < x->source.len && lex_char(x, 0) != quote && lex_char(x, 0) != '\\')
            lex_skip(x, 1);
        jinja_put(x->j, &b, jinja_part(x->source, from, x->at - from));
        if (lex_char(x, 0) == '\\') {
            lex_skip(x, 1);
            lex_escape(x, &b);
        }
    }
    if (x->at == x->source.len) {
        x->j->line = line;
        jinja_fail(x->j, "a string without its closing %c", quote);
        return;
    }
    lex_skip(x, 1);
    jinja_text text = jinja_built(&b).text;
    text.is_content = NULL;
    lex_add(x, TOKEN_STRING, text);
}

static size_t lex_count_digits(const jinja_lexer *x, size_t from) {
    size_t n = 0;
    while (lex_char(x, from + n) >= '0' && lex_char(x, from + n) <= '9') n++;
    return n;
}

static int lex_is_name(char c) {
    return c == '_' || (unsigned char)c >= 0x80 || (c >= '0' && c <= '9') ||
           ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* A number; after a dot ("list.0.name") one without a fraction. */
static void lex_number(jinja_lexer *x) {
    size_t n = lex_count_digits(x, 0), fraction = 0, exponent = 0;
    int after_dot = x->at > 0 && x->source.bytes[x->at - 1] == '.';
    if (lex_char(x, n) == '.' && !after_dot) fraction = lex_count_digits(x, n + 1);
    size_t len = n + (fraction ? fraction + 1 : 0);
    if ((lex_char(x, len) | 32) == 'e' && !after_dot) {
        size_t sign = lex_char(x, len + 1) == '-' || lex_char(x, len + 1) == '+';
        exponent = lex_count_digits(x, len + 1 + sign);
        if (exponent) len += 1 + sign + exponent;
    }
    int is_float = fraction || exponent;
    jinja_text text = jinja_part(x->source, x->at, len);
    int leading_zero = !is_float && n > 1 && lex_char(x, 0) == '0';
    if (lex_is_name(lex_char(x, len)) || leading_zero || len > GQA_JSON_MAX_NUMBER) {
        jinja_unsupported(x->j, "the number %.*s%c is not supported", (int)min_size(len, 40),
                          text.bytes, lex_char(x, len));
        return;
    }
    lex_add(x, is_float ? TOKEN_FLOAT : TOKEN_INT, text);
    lex_skip(x, len);
}

static void lex_operator(jinja_lexer *x) {
    static const struct {
        char text[3];
        int op;
    } two[] = {{"**", JINJA_OP_POWER}, {"//", JINJA_OP_FLOOR}, {"==", JINJA_OP_EQ},
               {"!=", JINJA_OP_NE}, {"<=", JINJA_OP_LE}, {">=", JINJA_OP_GE}};
    char c = lex_char(x, 0);
    int op = c && strchr("+-*/%~<>=()[]{},.:|", c) ? c : 0;
    size_t len = 1;
    for (size_t i = 0; i < array_length(two); i++) {
        if (!lex_is(x, two[i].text)) continue;
        op = two[i].op;
        len = 2;
    }
    jinja_token *t = op ? lex_add(x, TOKEN_OP, jinja_part(x->source, x->at, len)) : NULL;
    if (!op) jinja_fail(x->j, "unexpected character '%c'", c);
    if (t) t->op = op;
    lex_skip(x, len);
}

/* The tokens up to the end of a tag, "%}" or "}}". Brackets that are open hold it up. */
static void lex_tag(jinja_lexer *x, jinja_token_kind end_kind) {
    const char *end = end_kind == TOKEN_BLOCK_END ? "%}" : "}}";
    int brackets = 0, line = x->line;
    while (!x->j->status) {
        lex_skip_spaces(x);
        char c = lex_char(x, 0);
        if (x->at == x->source.len) {
            x->j->line = line;
            jinja_fail(x->j, "a tag without its closing %s", end);
            return;
        }
        char sign = (c == '-' || (c == '+' && *end == '%')) && lex_char(x, 1) == end[0] &&
                    lex_char(x, 2) == end[1] ? c : 0;
        if (brackets == 0 && (sign || lex_is(x, end))) {
            lex_add(x, end_kind, jinja_literal(end));
            lex_skip(x, sign ? 3 : 2);
            if (sign == '-') lex_skip_spaces(x);
            else if (!sign && *end == '%' && lex_char(x, 0) == '\n') lex_skip(x, 1);
            return;
        }
        if (c == '"' || c == '\'') lex_string(x);
        else if (c >= '0' && c <= '9') lex_number(x);
        else if (lex_is_name(c)) {
            size_t n = 1;
            while (lex_is_name(lex_char(x, n))) n++;
            lex_add(x, TOKEN_NAME, jinja_part(x->source, x->at, n));
            lex_skip(x, n);
        } else {
            brackets += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
            lex_operator(x);
        }
    }
}

/* ---- between tags ---------------------------------------------------------------------------- */

/* Text before a tag that begins with "{{", "{%" or "{#" and a sign: "-" removes the space before
 * it; a tag that writes nothing removes the blanks before it on its line (lstrip_blocks). */
static void lex_text(jinja_lexer *x, jinja_text text, int is_print, char sign) {
    jinja_text kept = text;
    if (sign == '-') {
        kept = jinja_trim(text, NULL, 0, 1);
    } else if (sign != '+' && !is_print) {
        size_t from = text.len;
        while (from > 0 && text.bytes[from - 1] != '\n') from--;
        jinja_text line = jinja_part(text, from, text.len - from);
        if ((from > 0 || x->starts_line) && jinja_trim(line, NULL, 1, 0).len == 0) kept.len = from;
    }
    if (kept.len) lex_add(x, TOKEN_TEXT, kept);
}

/* Whether x->at is at a tag of this one word, "{% raw %}"; *len is the tag's length. */
static int lex_word_tag(const jinja_lexer *x, const char *word, size_t *len) {
    jinja_lexer y = *x;
    if (!lex_is(&y, "{%")) return 0;
    lex_skip(&y, 2);
    if (lex_char(&y, 0) == '-' || lex_char(&y, 0) == '+') lex_skip(&y, 1);
    lex_skip_spaces(&y);
    int found = lex_is(&y, word);
    if (found) lex_skip(&y, strlen(word));
    lex_skip_spaces(&y);
    size_t sign = lex_char(&y, 0) == '-' || lex_char(&y, 0) == '+';
    y.at += min_size(sign, y.source.len - y.at);
    *len = y.at + 2 - x->at;
    return found && lex_is(&y, "%}");
}

/* Goes behind a tag of len bytes, and behind the space that it removes. */
static void lex_end_tag(jinja_lexer *x, size_t len, int trims_newline) {
    lex_skip(x, len);
    char sign = x->source.bytes[x->at - 3];
    if (sign == '-') lex_skip_spaces(x);
    else if (sign != '+' && trims_newline && lex_char(x, 0) == '\n') lex_skip(x, 1);
}

/* Text between {% raw %}, of len bytes, and {% endraw %}. */
static void lex_raw(jinja_lexer *x, size_t len) {
    int line = x->line;
    lex_end_tag(x, len, 0);
    x->starts_line = x->source.bytes[x->at - 1] == '\n';
    size_t from = x->at;
    while (x->at < x->source.len && !lex_word_tag(x, "endraw", &len)) lex_skip(x, 1);
    if (x->at == x->source.len) {
        x->j->line = line;
        jinja_fail(x->j, "{%% raw %%} without {%% endraw %%}");
        return;
    }
    lex_text(x, jinja_part(x->source, from, x->at - from), 0, lex_char(x, 2));
    lex_end_tag(x, len, 1);
}

static void lex_comment(jinja_lexer *x) {
    int line = x->line;
    lex_skip(x, lex_char(x, 2) == '-' || lex_char(x, 2) == '+' ? 3 : 2);
    size_t from = x->at;
    while (x->at < x->source.len && !lex_is(x, "#}")) lex_skip(x, 1);
    if (x->at == x->source.len) {
        x->j->line = line;
        jinja_fail(x->j, "a comment without its closing #}");
        return;
    }
    if (x->at == from) { /* "{#-#}": the sign is the beginning's */
        lex_skip(x, 2);
        if (lex_char(x, 0) == '\n') lex_skip(x, 1);
        return;
    }
    lex_end_tag(x, 2, 1);
}

static int lex_at_tag(const jinja_lexer *x) {
    return lex_is(x, "{{") || lex_is(x, "{%") || lex_is(x, "{#");
}

static void lex_template(jinja_lexer *x) {
    while (!x->j->status && x->at < x->source.len) {
        size_t from = x->at, len;
        while (x->at < x->source.len && !lex_at_tag(x)) lex_skip(x, 1);
        char kind = lex_char(x, 1), sign = lex_char(x, 2);
        jinja_text text = jinja_part(x->source, from, x->at - from);
        if (x->at == x->source.len) {
            if (text.len) lex_add(x, TOKEN_TEXT, text);
            break;
        }
        lex_text(x, text, kind == '{', sign);
        if (kind == '#') {
            lex_comment(x);
        } else if (lex_word_tag(x, "raw", &len)) {
            lex_raw(x, len);
        } else {
            lex_add(x, kind == '%' ? TOKEN_BLOCK : TOKEN_PRINT, jinja_part(x->source, x->at, 2));
            lex_skip(x, sign == '-' || sign == '+' ? 3 : 2);
            lex_tag(x, kind == '%' ? TOKEN_BLOCK_END : TOKEN_PRINT_END);
        }
        x->starts_line = x->source.bytes[x->at - 1] == '\n';
    }
}

/* The source with \n for every end of line, without the last one. */
static jinja_text lex_lines(jinja *j, const char *source, size_t len) {
    char *copy = jinja_alloc(j, len + 1);
    jinja_text text = {copy, NULL, 0};
    for (size_t i = 0; copy && i < len; i++) {
        int n = utf8_length(source + i, len - i);
        if (n <= 0) {
            jinja_fail(j, "the text is not UTF-8");
            return text;
        }
        j->line += source[i] == '\n';
        if (source[i] == '\r' && i + 1 < len && source[i + 1] == '\n') continue;
        copy[text.len++] = source[i] == '\r' ? '\n' : source[i];
        for (; n > 1; n--) copy[text.len++] = source[++i];
    }
    if (text.len && copy[text.len - 1] == '\n') text.len--;
    return text;
}

jinja_token *jinja_tokens(jinja *j, const char *source, size_t len) {
    jinja_lexer x = {.j = j, .line = 1, .starts_line = 1};
    j->line = 1;
    if (len > JINJA_MAX_SOURCE) {
        jinja_unsupported(j, "%zu bytes, at most %d are read", len, JINJA_MAX_SOURCE);
        return NULL;
    }
    x.source = lex_lines(j, source, len);
    lex_template(&x);
    lex_add(&x, TOKEN_END, jinja_literal("the end"));
    return j->status ? NULL : x.tokens;
}
