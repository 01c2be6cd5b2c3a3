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
    jinja_token **end;         /* of the list of tokens */
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

static void lex_unclosed(jinja_lexer *x, int line, const char *what, const char *end) {
    x->j->line = line;
    jinja_fail(x->j, "%s without its closing %s", what, end);
}

static void lex_add(jinja_lexer *x, jinja_token_kind kind, jinja_text text) {
    jinja_token *token = jinja_alloc(x->j, sizeof *token);
    if (!token) return;
    *token = (jinja_token){kind, x->line, text, NULL};
    *x->end = token;
    x->end = &token->next;
}

/* A token of the next len bytes, and goes behind it. */
static void lex_take(jinja_lexer *x, jinja_token_kind kind, size_t len) {
    lex_add(x, kind, jinja_part(x->source, x->at, len));
    lex_skip(x, len);
}

/* ---- inside tags ----------------------------------------------------------------------------- */

/* The character of a \x, \u or \U escape of n digits. */
static void lex_code_point(jinja_lexer *x, jinja_builder *b, int n) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint32_t value = 0;
    for (int i = 0; i < n; i++) {
        char c = lex_char(x, 0);
        const char *found = c ? strchr(digits, c) : NULL;
        value = found ? value << 4 | (uint32_t)(found - digits) % 16 : UINT32_MAX;
        if (!found) break;
        lex_skip(x, 1);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        jinja_fail(x->j, "a string with a wrong escape of %d digits", n);
    else
        jinja_put_char(x->j, b, value, 0);
}

/* What follows a backslash, as Python has it; an unknown escape stays as it is. */
static void lex_escape(jinja_lexer *x, jinja_builder *b) {
    static const char letters[] = "\\'\"abfnrtv", meant[] = "\\'\"\a\b\f\n\r\t\v";
    char c = lex_char(x, 0);
    const char *found = c ? strchr(letters, c) : NULL;
    if ((c >= '0' && c <= '7') || c == 'N') {
        jinja_unsupported(x->j, "the escape \\%c is not supported", c);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        lex_skip(x, 1);
        lex_code_point(x, b, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    } else if (found) {
        jinja_put_char(x->j, b, (uint32_t)meant[found - letters], 0);
        lex_skip(x, 1);
    } else if (c == '\n') {
        lex_skip(x, 1);
    } else {
        jinja_put_literal(x->j, b, "\\");
    }
}

static void lex_string(jinja_lexer *x) {
    const char quote[] = {lex_char(x, 0), 0};
    jinja_builder b = {0};
    int line = x->line;
    lex_skip(x, 1);
    while (!x->j->status && !lex_is(x, quote) && x->at < x->source.len) {
        size_t from = x->at;
        while (x->at < x->source.len && !lex_is(x, quote) && !lex_is(x, "\\")) lex_skip(x, 1);
        jinja_put(x->j, &b, jinja_part(x->source, from, x->at - from));
        if (!lex_is(x, "\\")) continue;
        lex_skip(x, 1);
        lex_escape(x, &b);
    }
    if (!lex_is(x, quote)) {
        lex_unclosed(x, line, "a string", quote);
        return;
    }
    jinja_text text = *jinja_built(x->j, &b).text;
    text.is_content = NULL;
    lex_add(x, TOKEN_STRING, text);
    lex_skip(x, 1);
}

static size_t lex_digits(const jinja_lexer *x, size_t from) {
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
    size_t n = lex_digits(x, 0), len = n;
    if (x->source.bytes[x->at - 1] != '.') {
        size_t fraction = lex_char(x, n) == '.' ? lex_digits(x, n + 1) : 0;
        if (fraction) len += 1 + fraction;
        size_t sign = lex_char(x, len + 1) == '-' || lex_char(x, len + 1) == '+';
        size_t exponent = (lex_char(x, len) | 32) == 'e' ? lex_digits(x, len + 1 + sign) : 0;
        if (exponent) len += 1 + sign + exponent;
    }
    int leading_zero = len == n && n > 1 && lex_char(x, 0) == '0';
    if (lex_is_name(lex_char(x, len)) || leading_zero || len > GQA_JSON_MAX_NUMBER) {
        jinja_text text = jinja_part(x->source, x->at, len);
        jinja_unsupported(x->j, "the number %s%c is not supported", jinja_shown(x->j, text),
                          lex_char(x, len));
        return;
    }
    lex_take(x, TOKEN_NUMBER, len);
}

static void lex_sign(jinja_lexer *x) {
    static const char *const pairs[] = {"//", "==", "!=", "<=", ">="};
    char c = lex_char(x, 0);
    size_t len = c && strchr("+-*/%~<>=()[]{},.:|", c) ? 1 : 0;
    for (size_t i = 0; i < array_length(pairs); i++)
        if (lex_is(x, pairs[i])) len = 2;
    if (len) lex_take(x, TOKEN_SIGN, len);
    else jinja_fail(x->j, "unexpected character '%c'", c);
}

/* The length of a tag's end, with its sign, if it is here; else 0. */
static size_t lex_end(const jinja_lexer *x, const char *end) {
    jinja_lexer y = *x;
    if (lex_is(x, end)) return 2;
    if (!lex_is(x, "-") && (!lex_is(x, "+") || *end == '}')) return 0;
    y.at++;
    return lex_is(&y, end) ? 3 : 0;
}

/* Goes behind a tag's end of len bytes, and behind the space that it removes: all after "-",
 * without a sign one newline (trim_blocks). */
static void lex_close(jinja_lexer *x, size_t len, int trims_newline) {
    int is_minus = len == 3 && lex_is(x, "-");
    lex_skip(x, len);
    if (is_minus) lex_skip_spaces(x);
    else if (trims_newline && len == 2 && lex_is(x, "\n")) lex_skip(x, 1);
}

/* The tokens from "{{" or "{%" to the end of the tag, which brackets that are open hold up. */
static void lex_tag(jinja_lexer *x) {
    int brackets = 0, line = x->line, is_block = lex_is(x, "{%");
    const char *end = is_block ? "%}" : "}}";
    lex_take(x, TOKEN_SIGN, 2);
    if (lex_is(x, "-") || lex_is(x, "+")) lex_skip(x, 1);
    while (!x->j->status) {
        lex_skip_spaces(x);
        char c = lex_char(x, 0);
        size_t n = brackets ? 0 : lex_end(x, end);
        if (x->at == x->source.len) {
            lex_unclosed(x, line, "a tag", end);
        } else if (n) {
            lex_add(x, TOKEN_SIGN, jinja_literal(end));
            lex_close(x, n, is_block);
            return;
        } else if (c == '"' || c == '\'') {
            lex_string(x);
        } else if (c >= '0' && c <= '9') {
            lex_number(x);
        } else if (lex_is_name(c)) {
            while (lex_is_name(lex_char(x, n))) n++;
            lex_take(x, TOKEN_NAME, n);
        } else {
            brackets += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
            lex_sign(x);
        }
    }
}

/* ---- between tags ---------------------------------------------------------------------------- */

/* Text before a tag that begins with "{{", "{%" or "{#" and a sign: "-" removes the space before
 * it; a tag that writes nothing removes the blanks before it on its line (lstrip_blocks). */
static void lex_text(jinja_lexer *x, jinja_text text, int is_print, char sign) {
    if (sign == '-') {
        text = jinja_trim(text, NULL, JINJA_RIGHT);
    } else if (sign != '+' && !is_print) {
        size_t from = text.len;
        while (from > 0 && text.bytes[from - 1] != '\n') from--;
        jinja_text line = jinja_part(text, from, text.len - from);
        int is_blank = jinja_trim(line, NULL, JINJA_LEFT).len == 0;
        if ((from > 0 || x->starts_line) && is_blank) text.len = from;
    }
    if (text.len) lex_add(x, TOKEN_TEXT, text);
}

/* Goes behind a tag of this one word, "{% raw %}", where it is one. */
static int lex_word_tag(jinja_lexer *x, const char *word, int trims_newline) {
    jinja_lexer y = *x;
    if (!lex_is(&y, "{%")) return 0;
    lex_skip(&y, 2);
    if (lex_is(&y, "-") || lex_is(&y, "+")) lex_skip(&y, 1);
    lex_skip_spaces(&y);
    if (!lex_is(&y, word)) return 0;
    lex_skip(&y, strlen(word));
    lex_skip_spaces(&y);
    size_t len = lex_end(&y, "%}");
    if (!len) return 0;
    lex_close(&y, len, trims_newline);
    *x = y;
    return 1;
}

/* Text behind {% raw %} up to {% endraw %}. */
static void lex_raw(jinja_lexer *x) {
    int line = x->line;
    size_t from = x->at;
    x->starts_line = x->source.bytes[x->at - 1] == '\n';
    for (; x->at < x->source.len; lex_skip(x, 1)) {
        jinja_text text = jinja_part(x->source, from, x->at - from);
        char sign = lex_char(x, 2);
        if (!lex_word_tag(x, "endraw", 1)) continue;
        lex_text(x, text, 0, sign);
        return;
    }
    lex_unclosed(x, line, "{% raw %}", "{% endraw %}");
}

static void lex_comment(jinja_lexer *x) {
    int line = x->line;
    size_t len;
    lex_skip(x, 2);
    if (lex_is(x, "-") || lex_is(x, "+")) lex_skip(x, 1);
    while (!(len = lex_end(x, "#}")) && x->at < x->source.len) lex_skip(x, 1);
    if (len) lex_close(x, len, 1);
    else lex_unclosed(x, line, "a comment", "#}");
}

static void lex_template(jinja_lexer *x) {
    while (!x->j->status && x->at < x->source.len) {
        size_t from = x->at;
        while (x->at < x->source.len && !lex_is(x, "{{") && !lex_is(x, "{%") && !lex_is(x, "{#"))
            lex_skip(x, 1);
        char kind = lex_char(x, 1), sign = lex_char(x, 2);
        jinja_text text = jinja_part(x->source, from, x->at - from);
        if (x->at == x->source.len) {
            if (text.len) lex_add(x, TOKEN_TEXT, text);
            return;
        }
        lex_text(x, text, kind == '{', sign);
        if (kind == '#') lex_comment(x);
        else if (lex_word_tag(x, "raw", 0)) lex_raw(x);
        else lex_tag(x);
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
    jinja_token *tokens = NULL;
    jinja_lexer x = {.j = j, .line = 1, .starts_line = 1, .end = &tokens};
    j->line = 1;
    if (len > JINJA_MAX_SOURCE) {
        jinja_unsupported(j, "%zu bytes, at most %d are read", len, JINJA_MAX_SOURCE);
        return NULL;
    }
    x.source = lex_lines(j, source, len);
    lex_template(&x);
    lex_add(&x, TOKEN_END, jinja_literal("the end"));
    return j->status ? NULL : tokens;
}
