/* jinja_parse.c: from tokens to the syntax tree, as Jinja's grammar has it. */
#include <string.h>

#include "jinja_internal.h"

typedef struct jinja_parser {
    jinja *j;
    const jinja_token *at;
    int nesting;
    jinja_node any;            /* stands for every node after an error, when none is looked at */
} jinja_parser;

static jinja_node *parse_expression(jinja_parser *p);
static jinja_node *parse_body(jinja_parser *p, const char *const *ends, int line);

/* A node at the line of its first part, or of the next token. */
static jinja_node *parse_node(jinja_parser *p, jinja_node_kind kind, jinja_node *a,
                              jinja_node *b) {
    jinja_node *node = jinja_alloc(p->j, sizeof *node);
    if (!node) return &p->any;
    *node = (jinja_node){.kind = kind, .line = a ? a->line : p->at->line, .a = a, .b = b};
    return node;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static jinja_node *parse_error(jinja_parser *p, const char *expected) {
    const char *quote = p->at->kind == TOKEN_END ? "" : "\"";
    p->j->line = p->at->line;
    jinja_fail(p->j, "expected %s, got %s%s%s", expected, quote,
               jinja_shown(p->j, p->at->text), quote);
    return &p->any;
}

static void parse_advance(jinja_parser *p) {
    if (p->at->next) p->at = p->at->next;
    p->j->line = p->at->line;
}

static int token_is(const jinja_token *token, const char *word) {
    return (token->kind == TOKEN_NAME || token->kind == TOKEN_SIGN) &&
           jinja_text_is(token->text, word);
}
static int parse_is(const jinja_parser *p, const char *word) { return token_is(p->at, word); }
/* Goes behind the token if it is this one. */
static int parse_take(jinja_parser *p, const char *word) {
    int found = parse_is(p, word);
    if (found) parse_advance(p);
    return found;
}
static void parse_expect(jinja_parser *p, const char *word) {
    char expected[16];
    snprintf(expected, sizeof expected, "\"%s\"", word);
    if (!parse_take(p, word)) parse_error(p, expected);
}

static jinja_value parse_name(jinja_parser *p, const char *what) {
    jinja_value name = jinja_string(p->j, p->at->text);
    if (p->at->kind != TOKEN_NAME) parse_error(p, what);
    else parse_advance(p);
    return name;
}

/* Whether one more level may be opened; p->nesting-- where it ends. */
static int parse_nest(jinja_parser *p) {
    if (p->nesting >= JINJA_MAX_NESTING) jinja_unsupported(p->j, "nested too deeply");
    p->nesting++;
    return !p->j->status;
}

/* ---- primary expressions --------------------------------------------------------------------- */

/* Items separated by commas, from the bracket that opens them to behind the one that closes. */
static jinja_node *parse_list(jinja_parser *p, const char *close,
                              jinja_node *(*parse_item)(jinja_parser *)) {
    jinja_node *first = NULL, **end = &first;
    parse_advance(p);
    while (!p->j->status && !parse_is(p, close)) {
        *end = parse_item(p);
        end = &(*end)->next;
        if (!parse_is(p, close)) parse_expect(p, ",");
    }
    parse_expect(p, close);
    return first;
}

/* "key: value" */
static jinja_node *parse_pair(jinja_parser *p) {
    jinja_node *key = parse_expression(p);
    parse_expect(p, ":");
    return parse_node(p, NODE_ARGUMENT, key, parse_expression(p));
}

/* "value", "name=value" or "*list" */
static jinja_node *parse_argument(jinja_parser *p) {
    jinja_value name = {.kind = JINJA_MISSING};
    int has_star = parse_take(p, "*");
    if (p->at->kind == TOKEN_NAME && token_is(p->at->next, "=")) {
        name = parse_name(p, "");
        parse_advance(p);
    }
    jinja_node *node = parse_node(p, NODE_ARGUMENT, parse_expression(p), NULL);
    node->value = name;
    node->op = has_star;
    return node;
}

static jinja_node *parse_collection(jinja_parser *p, jinja_kind kind, jinja_node *items) {
    jinja_node *node = parse_node(p, NODE_COLLECTION, items, NULL);
    node->value.kind = kind;
    return node;
}

/* "a, b": a tuple; "a": itself. parse_part parses one element. */
static jinja_node *parse_tuple(jinja_parser *p, jinja_node *(*parse_part)(jinja_parser *)) {
    static const char *const ends[] = {")", "=", "in", "if", "%}", "}}"};
    jinja_node *first = parse_part(p), *last = first;
    if (!parse_is(p, ",")) return first;
    while (!p->j->status && parse_take(p, ",")) {
        size_t i = 0;
        while (i < array_length(ends) && !parse_is(p, ends[i])) i++;
        if (i < array_length(ends)) break;
        last->next = parse_part(p);
        last = last->next;
    }
    return parse_collection(p, JINJA_TUPLE, first);
}

static jinja_node *parse_parentheses(jinja_parser *p) {
    parse_advance(p);
    jinja_node *node = parse_is(p, ")") ? parse_collection(p, JINJA_TUPLE, NULL)
                                        : parse_tuple(p, parse_expression);
    parse_expect(p, ")");
    return node;
}

static jinja_value parse_number(jinja_parser *p) {
    char text[GQA_JSON_MAX_NUMBER + 1] = "";
    gqa_json_node number = {GQA_JSON_NUMBER, text, p->at->text.len, 1};
    memcpy(text, p->at->text.bytes, p->at->text.len);
    parse_advance(p);
    return jinja_from_json(p->j, &number);
}

/* Strings that stand side by side are one. */
static jinja_value parse_string(jinja_parser *p) {
    jinja_builder b = {0};
    for (; p->at->kind == TOKEN_STRING; parse_advance(p)) jinja_put(p->j, &b, p->at->text);
    return jinja_built(p->j, &b);
}

static jinja_node *parse_primary(jinja_parser *p) {
    jinja_token_kind kind = p->at->kind;
    if (parse_is(p, "(")) return parse_parentheses(p);
    if (parse_is(p, "["))
        return parse_collection(p, JINJA_LIST, parse_list(p, "]", parse_expression));
    if (parse_is(p, "{")) return parse_collection(p, JINJA_DICT, parse_list(p, "}", parse_pair));
    jinja_node *node = parse_node(p, kind == TOKEN_NAME ? NODE_NAME : NODE_CONSTANT, NULL, NULL);
    if (kind == TOKEN_NAME) node->value = parse_name(p, "");
    else if (kind == TOKEN_STRING) node->value = parse_string(p);
    else if (kind == TOKEN_NUMBER) node->value = parse_number(p);
    else return parse_error(p, "an expression");
    return node;
}

/* ---- what follows a primary expression ------------------------------------------------------- */

/* "[index]" or "[from:to:step]" */
static jinja_node *parse_subscript(jinja_parser *p, jinja_node *object) {
    jinja_node *parts[3] = {NULL, NULL, NULL};
    int n = 0;
    do {
        parse_advance(p); /* over the bracket, a colon */
        if (!parse_is(p, ":") && !parse_is(p, "]")) parts[n] = parse_expression(p);
    } while (parse_is(p, ":") && ++n < 3);
    if (n == 0 && !parts[0]) return parse_error(p, "an index");
    parse_expect(p, "]");
    jinja_node *node = parse_node(p, n ? NODE_SLICE : NODE_ITEM, object, parts[0]);
    node->c = parts[1];
    node->d = parts[2];
    return node;
}

static jinja_node *parse_dot(jinja_parser *p, jinja_node *object) {
    parse_advance(p);
    if (p->at->kind == TOKEN_NUMBER) return parse_node(p, NODE_ITEM, object, parse_primary(p));
    jinja_node *node = parse_node(p, NODE_ATTRIBUTE, object, NULL);
    node->value = parse_name(p, "a name after the dot");
    return node;
}

static jinja_node *parse_call(jinja_parser *p, jinja_node *callee) {
    return parse_node(p, NODE_CALL, callee, parse_list(p, ")", parse_argument));
}

static jinja_node *parse_filter(jinja_parser *p, jinja_node *input) {
    jinja_node *node = parse_node(p, NODE_FILTER, input, NULL);
    node->value = parse_name(p, "the name of a filter");
    if (parse_is(p, "(")) node->b = parse_list(p, ")", parse_argument);
    return node;
}

static jinja_node *parse_postfix(jinja_parser *p, jinja_node *node) {
    while (!p->j->status) {
        if (parse_is(p, ".")) node = parse_dot(p, node);
        else if (parse_is(p, "[")) node = parse_subscript(p, node);
        else if (parse_is(p, "(")) node = parse_call(p, node);
        else break;
    }
    return node;
}

/* "is [not] name", with arguments in parentheses, or one without. */
static jinja_node *parse_test(jinja_parser *p, jinja_node *input) {
    jinja_node *node = parse_node(p, NODE_TEST, input, NULL);
    int negated = parse_take(p, "not");
    node->value = parse_name(p, "the name of a test");
    int ends = parse_is(p, "else") || parse_is(p, "or") || parse_is(p, "and");
    int starts = (p->at->kind >= TOKEN_STRING && p->at->kind <= TOKEN_NAME) || parse_is(p, "[") ||
                 parse_is(p, "{");
    if (parse_is(p, "(")) {
        node->b = parse_list(p, ")", parse_argument);
    } else if (starts && !ends) {
        jinja_node *argument = parse_postfix(p, parse_primary(p));
        node->b = parse_node(p, NODE_ARGUMENT, argument, NULL);
    }
    return negated ? parse_node(p, NODE_NOT, node, NULL) : node;
}

static jinja_node *parse_filters(jinja_parser *p, jinja_node *node) {
    while (!p->j->status) {
        if (parse_take(p, "|")) node = parse_filter(p, node);
        else if (parse_take(p, "is")) node = parse_test(p, node);
        else if (parse_is(p, "(")) node = parse_call(p, node);
        else break;
    }
    return node;
}

/* ---- operators ------------------------------------------------------------------------------- */

static jinja_node *parse_unary(jinja_parser *p, int with_filters) {
    jinja_node *node;
    if (!parse_nest(p)) return &p->any;
    if (parse_is(p, "-") || parse_is(p, "+")) {
        node = parse_node(p, NODE_SIGN, NULL, NULL);
        node->op = parse_is(p, "-") ? -1 : 1;
        parse_advance(p);
        node->a = parse_unary(p, 0);
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    if (with_filters) node = parse_filters(p, node);
    p->nesting--;
    return node;
}

/* The operator of a level that is next, which it takes; JINJA_N_OPS: none. */
static jinja_op parse_operator(jinja_parser *p, int level) {
    jinja_op op = JINJA_OR;
    if (level == jinja_operators[JINJA_IN].level && parse_is(p, "not") &&
        token_is(p->at->next, "in")) {
        parse_advance(p);
        parse_advance(p);
        return JINJA_NOT_IN;
    }
    while (op < JINJA_N_OPS && !(jinja_operators[op].level == level &&
                                 parse_take(p, jinja_operators[op].sign)))
        op++;
    return op;
}

static jinja_node *parse_operation(jinja_parser *p, jinja_op op, jinja_node *a, jinja_node *b) {
    jinja_node *node = parse_node(p, NODE_BINARY, a, b);
    node->op = (int)op;
    return node;
}

static jinja_node *parse_binary(jinja_parser *p, int level) {
    const int comparison = jinja_operators[JINJA_EQ].level;
    if (level > jinja_operators[JINJA_MUL].level) return parse_unary(p, 1);
    if (level == comparison && parse_is(p, "not")) {
        if (!parse_nest(p)) return &p->any;
        parse_advance(p);
        jinja_node *node = parse_node(p, NODE_NOT, parse_binary(p, level), NULL);
        p->nesting--;
        return node;
    }
    jinja_node *left = parse_binary(p, level + 1), *whole = left;
    for (jinja_op op; !p->j->status && (op = parse_operator(p, level)) != JINJA_N_OPS;) {
        jinja_node *right = parse_binary(p, level + 1);
        if (level != comparison) {
            whole = parse_operation(p, op, whole, right);
            continue;
        }
        jinja_node *compared = parse_operation(p, op, left, right); /* a < b < c: and b < c */
        whole = whole == left ? compared : parse_operation(p, JINJA_AND, whole, compared);
        left = right;
    }
    return whole;
}

static jinja_node *parse_or(jinja_parser *p) { return parse_binary(p, 0); }

/* "a if b else c" */
static jinja_node *parse_expression(jinja_parser *p) {
    jinja_node *node = parse_or(p);
    while (!p->j->status && parse_take(p, "if")) {
        node = parse_node(p, NODE_CONDITION, node, parse_or(p));
        if (!parse_take(p, "else") || !parse_nest(p)) continue;
        node->c = parse_expression(p);
        p->nesting--;
    }
    return node;
}

/* ---- statements ------------------------------------------------------------------------------ */

/* The end of a tag, then a body up to a tag of one of the names `ends`, which is at p->at. */
static jinja_node *parse_block(jinja_parser *p, const char *const *ends) {
    int line = p->at->line;
    if (!parse_is(p, "%}")) return parse_error(p, "%}");
    parse_advance(p);
    return parse_body(p, ends, line);
}

static jinja_node *parse_block_to(jinja_parser *p, const char *end) {
    const char *const ends[] = {end, NULL};
    jinja_node *body = parse_block(p, ends);
    parse_take(p, end);
    return body;
}

static jinja_node *parse_if(jinja_parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jinja_node *first = NULL, **end = &first;
    do {
        jinja_node *node = parse_node(p, NODE_IF, NULL, NULL);
        node->a = parse_tuple(p, parse_or);
        node->b = parse_block(p, ends);
        *end = node;
        end = &node->c;
    } while (!p->j->status && parse_take(p, "elif"));
    if (parse_take(p, "else")) *end = parse_block_to(p, "endif");
    else parse_take(p, "endif");
    return first;
}

/* A name, or several to unpack to. */
static jinja_node *parse_target(jinja_parser *p) {
    if (parse_take(p, "(")) {
        jinja_node *inner = parse_nest(p) ? parse_tuple(p, parse_target) : &p->any;
        p->nesting--;
        parse_expect(p, ")");
        return inner;
    }
    jinja_node *node = parse_node(p, NODE_NAME, NULL, NULL);
    node->value = parse_name(p, "a name to assign to");
    return node;
}

static jinja_node *parse_for(jinja_parser *p) {
    static const char *const ends[] = {"else", "endfor", NULL};
    jinja_node *node = parse_node(p, NODE_FOR, NULL, NULL);
    node->a = parse_tuple(p, parse_target);
    parse_expect(p, "in");
    node->b = parse_tuple(p, parse_or);
    if (parse_take(p, "if")) node->c = parse_expression(p);
    node->op = parse_take(p, "recursive");
    node->d = parse_block(p, ends);
    if (parse_take(p, "else")) node->e = parse_block_to(p, "endfor");
    else parse_take(p, "endfor");
    return node;
}

/* What a body up to the tag `end` writes, through the filters that stand before it. */
static jinja_node *parse_capture(jinja_parser *p, const char *end, int begins_with_filter) {
    jinja_node *capture = parse_node(p, NODE_CAPTURE, NULL, NULL), *filtered = capture;
    if (begins_with_filter) filtered = parse_filter(p, capture);
    filtered = parse_filters(p, filtered);
    capture->a = parse_block_to(p, end);
    return filtered;
}

static jinja_node *parse_set(jinja_parser *p) {
    jinja_node *target = parse_tuple(p, parse_target);
    if (parse_is(p, ".")) target = parse_dot(p, target);
    jinja_node *value = parse_take(p, "=") ? parse_tuple(p, parse_expression)
                                           : parse_capture(p, "endset", 0);
    return parse_node(p, NODE_SET, target, value);
}
static jinja_node *parse_filter_block(jinja_parser *p) {
    return parse_node(p, NODE_PRINT, parse_capture(p, "endfilter", 1), NULL);
}
static jinja_node *parse_generation(jinja_parser *p) {
    return parse_node(p, NODE_PRINT, parse_capture(p, "endgeneration", 0), NULL);
}

/* "name" or "name=value" */
static jinja_node *parse_parameter(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_ARGUMENT, NULL, NULL);
    node->value = parse_name(p, "the name of a parameter");
    if (parse_take(p, "=")) node->a = parse_expression(p);
    return node;
}

static jinja_node *parse_macro(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_MACRO, NULL, NULL);
    node->value = parse_name(p, "the name of a macro");
    if (!parse_is(p, "(")) return parse_error(p, "\"(\"");
    node->a = parse_list(p, ")", parse_parameter);
    node->b = parse_block_to(p, "endmacro");
    return node;
}

static jinja_node *parse_call_block(jinja_parser *p) {
    jinja_node *caller = parse_node(p, NODE_MACRO, NULL, NULL);
    caller->value = jinja_string(p->j, jinja_literal("caller"));
    if (parse_is(p, "(")) caller->a = parse_list(p, ")", parse_parameter);
    jinja_node *called = parse_expression(p);
    if (called->kind != NODE_CALL) return parse_error(p, "a call in {% call %}");
    caller->b = parse_block_to(p, "endcall");
    called->c = caller;
    return parse_node(p, NODE_PRINT, called, NULL);
}

/* A tag, from its name to its last "%}". */
static jinja_node *parse_tag(jinja_parser *p) {
    static const struct {
        const char *name;
        jinja_node *(*parse)(jinja_parser *);
        jinja_node_kind kind; /* of a node that has no parts */
    } tags[] = {
        {"if", parse_if, 0}, {"for", parse_for, 0}, {"set", parse_set, 0},
        {"macro", parse_macro, 0}, {"call", parse_call_block, 0},
        {"filter", parse_filter_block, 0}, {"generation", parse_generation, 0},
        {"break", NULL, NODE_BREAK}, {"continue", NULL, NODE_CONTINUE},
    };
    jinja_text name = *parse_name(p, "the name of a tag").text;
    for (size_t i = 0; i < array_length(tags); i++) {
        if (!jinja_text_is(name, tags[i].name)) continue;
        jinja_node *node = tags[i].parse ? tags[i].parse(p)
                                         : parse_node(p, tags[i].kind, NULL, NULL);
        if (!p->j->status && !parse_is(p, "%}")) return parse_error(p, "%}");
        parse_advance(p);
        return node;
    }
    jinja_unsupported(p->j, "the tag \"%s\" is not known", jinja_shown(p->j, name));
    return &p->any;
}

static jinja_node *parse_statement(jinja_parser *p) {
    jinja_node *node;
    if (parse_take(p, "{%")) return parse_tag(p);
    if (p->at->kind == TOKEN_TEXT) {
        jinja_node *text = parse_node(p, NODE_CONSTANT, NULL, NULL);
        text->value = jinja_string(p->j, p->at->text);
        node = parse_node(p, NODE_PRINT, text, NULL);
    } else {
        parse_advance(p);
        node = parse_node(p, NODE_PRINT, parse_tuple(p, parse_expression), NULL);
        if (!p->j->status && !parse_is(p, "}}")) return parse_error(p, "}}");
    }
    parse_advance(p);
    return node;
}

static int parse_at_end(const jinja_parser *p, const char *const *ends) {
    if (!parse_is(p, "{%")) return 0;
    while (*ends && !token_is(p->at->next, *ends)) ends++;
    return *ends != NULL;
}

/* Statements of the block of a line up to a tag that ends it, the name of which is then at p->at;
 * without `ends`, up to the end. */
static jinja_node *parse_body(jinja_parser *p, const char *const *ends, int line) {
    jinja_node *first = NULL, **end = &first;
    if (!parse_nest(p)) return &p->any;
    while (!p->j->status && p->at->kind != TOKEN_END && !(ends && parse_at_end(p, ends))) {
        *end = parse_statement(p);
        end = &(*end)->next;
    }
    p->nesting--;
    if (!ends) return first;
    if (p->at->kind == TOKEN_END) {
        while (ends[1]) ends++;
        p->j->line = line;
        jinja_fail(p->j, "a block without its {%% %s %%}", *ends);
    }
    parse_advance(p);
    return first;
}

jinja_node *jinja_parse(jinja *j, const jinja_token *tokens) {
    jinja_parser p = {.j = j, .at = tokens};
    jinja_node *body = parse_body(&p, NULL, 1);
    return j->status ? NULL : body;
}
