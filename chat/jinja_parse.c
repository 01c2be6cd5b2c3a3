/* jinja_parse.c: from tokens to the syntax tree, as Jinja's grammar has it. */
#include <stdlib.h>
#include <string.h>

#include "jinja_internal.h"

typedef struct jinja_parser {
    jinja *j;
    const jinja_token *at;
    int nesting;
} jinja_parser;

static jinja_node *parse_expression(jinja_parser *p);
static jinja_node *parse_body(jinja_parser *p, const char *const *ends);

static jinja_node *parse_node(jinja_parser *p, jinja_node_kind kind) {
    jinja_node *node = jinja_alloc(p->j, sizeof *node);
    if (node) *node = (jinja_node){.kind = kind, .line = p->at->line};
    return node;
}

/* A node of one or two parts; the first one tells the line. */
static jinja_node *parse_join(jinja_parser *p, jinja_node_kind kind, jinja_node *a, jinja_node *b) {
    jinja_node *node = parse_node(p, kind);
    if (!node) return NULL;
    if (a) node->line = a->line;
    node->a = a;
    node->b = b;
    return node;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static jinja_node *parse_error(jinja_parser *p, const char *expected) {
    jinja_text got = p->at->text;
    p->j->line = p->at->line;
    jinja_fail(p->j, "expected %s, got %s%.*s%s", expected, p->at->kind == TOKEN_END ? "" : "\"",
               (int)min_size(got.len, 60), got.bytes, p->at->kind == TOKEN_END ? "" : "\"");
    return NULL;
}

static void parse_advance(jinja_parser *p) {
    if (p->at->kind != TOKEN_END) p->at++;
    p->j->line = p->at->line;
}

static int parse_is_op(const jinja_parser *p, int op) {
    return p->at->kind == TOKEN_OP && p->at->op == op;
}
static int parse_is_name(const jinja_parser *p, const char *name) {
    return p->at->kind == TOKEN_NAME && jinja_text_is(p->at->text, name);
}
/* Each goes behind the token if it is there. */
static int parse_op(jinja_parser *p, int op) {
    int found = parse_is_op(p, op);
    if (found) parse_advance(p);
    return found;
}
static int parse_name(jinja_parser *p, const char *name) {
    int found = parse_is_name(p, name);
    if (found) parse_advance(p);
    return found;
}
static void parse_expect_op(jinja_parser *p, int op) {
    char expected[] = {'"', (char)op, '"', 0};
    if (!parse_op(p, op)) parse_error(p, expected);
}
static jinja_text parse_identifier(jinja_parser *p, const char *what) {
    jinja_text text = p->at->text;
    if (p->at->kind != TOKEN_NAME) parse_error(p, what);
    else parse_advance(p);
    return text;
}

/* Whether one more level may be opened; p->nesting-- where it ends. */
static int parse_nest(jinja_parser *p) {
    if (p->nesting >= JINJA_MAX_NESTING) jinja_unsupported(p->j, "nested too deeply");
    p->nesting++;
    return !p->j->status;
}

/* ---- primary expressions --------------------------------------------------------------------- */

/* Expressions separated by commas up to a bracket, which it takes. */
static jinja_node *parse_elements(jinja_parser *p, int close) {
    jinja_node *first = NULL, **end = &first;
    while (!p->j->status && !parse_is_op(p, close)) {
        *end = parse_expression(p);
        if (!*end) break;
        end = &(*end)->next;
        if (!parse_is_op(p, close)) parse_expect_op(p, ',');
    }
    parse_expect_op(p, close);
    return first;
}

static jinja_node *parse_dict(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_DICT), **end = node ? &node->a : NULL;
    parse_advance(p);
    while (!p->j->status && !parse_is_op(p, '}')) {
        jinja_node *key = parse_expression(p);
        parse_expect_op(p, ':');
        jinja_node *value = parse_expression(p);
        if (p->j->status) return NULL;
        *end = key;
        key->next = value;
        end = &value->next;
        if (!parse_is_op(p, '}')) parse_expect_op(p, ',');
    }
    parse_expect_op(p, '}');
    return node;
}

/* "a, b": a tuple; "a": itself. parse_part parses one element. */
static jinja_node *parse_tuple(jinja_parser *p, jinja_node *(*parse_part)(jinja_parser *)) {
    jinja_node *first = parse_part(p), *last = first;
    if (!first || !parse_is_op(p, ',')) return first;
    jinja_node *tuple = parse_join(p, NODE_TUPLE, first, NULL);
    while (!p->j->status && parse_op(p, ',')) {
        if (p->at->kind > TOKEN_OP || parse_is_op(p, ')') || parse_is_op(p, '=') ||
            parse_is_name(p, "in") || parse_is_name(p, "if"))
            break;
        last->next = parse_part(p);
        last = last->next;
    }
    return tuple;
}

static jinja_node *parse_parentheses(jinja_parser *p) {
    jinja_node *node;
    parse_advance(p);
    if (parse_is_op(p, ')')) node = parse_node(p, NODE_TUPLE);
    else node = parse_tuple(p, parse_expression);
    parse_expect_op(p, ')');
    return node;
}

static jinja_node *parse_number(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_CONSTANT);
    char text[GQA_JSON_MAX_NUMBER + 1] = "";
    memcpy(text, p->at->text.bytes, p->at->text.len);
    gqa_json_node number = {GQA_JSON_NUMBER, text, p->at->text.len, 1};
    if (node) node->value = jinja_from_json(p->j, &number);
    parse_advance(p);
    return node;
}

/* Strings that stand side by side are one. */
static jinja_node *parse_string(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_CONSTANT);
    jinja_builder b = {0};
    for (; p->at->kind == TOKEN_STRING; parse_advance(p)) jinja_put(p->j, &b, p->at->text);
    if (node) node->value = jinja_built(&b);
    return node;
}

static jinja_node *parse_name_or_constant(jinja_parser *p) {
    static const struct {
        const char *name;
        jinja_value value;
    } constants[] = {
        {"true", {.kind = JINJA_BOOL, .integer = 1}}, {"True", {.kind = JINJA_BOOL, .integer = 1}},
        {"false", {.kind = JINJA_BOOL}}, {"False", {.kind = JINJA_BOOL}},
        {"none", {.kind = JINJA_NONE}}, {"None", {.kind = JINJA_NONE}},
    };
    jinja_node *node = parse_node(p, NODE_NAME);
    jinja_text name = p->at->text;
    parse_advance(p);
    if (!node) return NULL;
    node->value = jinja_string(name);
    for (size_t i = 0; i < array_length(constants); i++) {
        if (!jinja_text_is(name, constants[i].name)) continue;
        node->kind = NODE_CONSTANT;
        node->value = constants[i].value;
    }
    return node;
}

static jinja_node *parse_primary(jinja_parser *p) {
    switch (p->at->kind) {
    case TOKEN_NAME: return parse_name_or_constant(p);
    case TOKEN_STRING: return parse_string(p);
    case TOKEN_INT:
    case TOKEN_FLOAT: return parse_number(p);
    default: break;
    }
    if (parse_is_op(p, '(')) return parse_parentheses(p);
    if (parse_is_op(p, '{')) return parse_dict(p);
    if (!parse_is_op(p, '[')) return parse_error(p, "an expression");
    jinja_node *list = parse_node(p, NODE_LIST);
    parse_advance(p);
    if (list) list->a = parse_elements(p, ']');
    return list;
}

/* ---- what follows a primary expression ------------------------------------------------------- */

/* "(a, b=c, *d, **e)" */
static jinja_node *parse_arguments(jinja_parser *p) {
    jinja_node *first = NULL, **end = &first;
    parse_expect_op(p, '(');
    while (!p->j->status && !parse_is_op(p, ')')) {
        jinja_node *argument = parse_node(p, NODE_ARGUMENT);
        if (!argument) break;
        if (parse_op(p, '*')) argument->op = '*';
        else if (parse_op(p, JINJA_OP_POWER)) argument->op = JINJA_OP_POWER;
        else if (p->at->kind == TOKEN_NAME && p->at[1].kind == TOKEN_OP && p->at[1].op == '=') {
            argument->value = jinja_string(p->at->text);
            parse_advance(p);
            parse_advance(p);
        }
        argument->a = parse_expression(p);
        *end = argument;
        end = &argument->next;
        if (!parse_is_op(p, ')')) parse_expect_op(p, ',');
    }
    parse_expect_op(p, ')');
    return first;
}

/* "[index]" or "[from:to:step]" */
static jinja_node *parse_subscript(jinja_parser *p, jinja_node *object) {
    jinja_node *parts[3] = {NULL, NULL, NULL};
    int n = 0;
    parse_advance(p);
    for (;;) {
        if (!parse_is_op(p, ':') && !parse_is_op(p, ']')) parts[n] = parse_expression(p);
        if (n == 2 || !parse_op(p, ':')) break;
        n++;
    }
    if (n == 0 && !parts[0]) return parse_error(p, "an index");
    parse_expect_op(p, ']');
    jinja_node *node = parse_join(p, n ? NODE_SLICE : NODE_ITEM, object, parts[0]);
    if (!node) return NULL;
    node->c = parts[1];
    node->d = parts[2];
    return node;
}

static jinja_node *parse_dot(jinja_parser *p, jinja_node *object) {
    parse_advance(p);
    if (p->at->kind == TOKEN_INT) return parse_join(p, NODE_ITEM, object, parse_number(p));
    jinja_node *node = parse_join(p, NODE_ATTRIBUTE, object, NULL);
    jinja_text name = parse_identifier(p, "a name after the dot");
    if (node) node->value = jinja_string(name);
    return node;
}

static jinja_node *parse_call(jinja_parser *p, jinja_node *callee) {
    jinja_node *node = parse_join(p, NODE_CALL, callee, NULL);
    if (node) node->b = parse_arguments(p);
    return node;
}

static jinja_node *parse_postfix(jinja_parser *p, jinja_node *node) {
    while (!p->j->status) {
        if (parse_is_op(p, '.')) node = parse_dot(p, node);
        else if (parse_is_op(p, '[')) node = parse_subscript(p, node);
        else if (parse_is_op(p, '(')) node = parse_call(p, node);
        else return node;
    }
    return NULL;
}

static jinja_node *parse_filter(jinja_parser *p, jinja_node *input) {
    jinja_node *node = parse_join(p, NODE_FILTER, input, NULL);
    jinja_text name = parse_identifier(p, "the name of a filter");
    if (!node) return NULL;
    node->value = jinja_string(name);
    if (parse_is_op(p, '(')) node->b = parse_arguments(p);
    return node;
}

/* "is [not] name", with arguments in parentheses, or one without. */
static jinja_node *parse_test(jinja_parser *p, jinja_node *input) {
    jinja_node *node = parse_join(p, NODE_TEST, input, NULL);
    int negated = parse_name(p, "not");
    jinja_text name = parse_identifier(p, "the name of a test");
    if (!node) return NULL;
    node->value = jinja_string(name);
    int ends = parse_is_name(p, "else") || parse_is_name(p, "or") || parse_is_name(p, "and");
    int starts = p->at->kind <= TOKEN_FLOAT || parse_is_op(p, '[') || parse_is_op(p, '{');
    if (parse_is_op(p, '(')) {
        node->b = parse_arguments(p);
    } else if (starts && !ends) {
        node->b = parse_node(p, NODE_ARGUMENT);
        jinja_node *argument = parse_postfix(p, parse_primary(p));
        if (node->b) node->b->a = argument;
    }
    return negated ? parse_join(p, NODE_NOT, node, NULL) : node;
}

static jinja_node *parse_filters(jinja_parser *p, jinja_node *node) {
    while (!p->j->status) {
        if (parse_op(p, '|')) node = parse_filter(p, node);
        else if (parse_name(p, "is")) node = parse_test(p, node);
        else if (parse_is_op(p, '(')) node = parse_call(p, node);
        else return node;
    }
    return NULL;
}

/* ---- operators ------------------------------------------------------------------------------- */

static jinja_node *parse_unary(jinja_parser *p, int with_filters) {
    jinja_node *node = NULL;
    if (!parse_nest(p)) return NULL;
    if (parse_is_op(p, '-') || parse_is_op(p, '+')) {
        node = parse_node(p, parse_is_op(p, '-') ? NODE_NEGATIVE : NODE_POSITIVE);
        parse_advance(p);
        jinja_node *of = parse_unary(p, 0);
        if (node) node->a = of;
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    if (with_filters) node = parse_filters(p, node);
    p->nesting--;
    return node;
}

/* From the operators that bind least to those that bind most. */
static const int parse_levels[][4] = {
    {'+', '-'}, {'~'}, {'*', '/', JINJA_OP_FLOOR, '%'}, {JINJA_OP_POWER},
};

static jinja_node *parse_binary(jinja_parser *p, size_t level) {
    if (level == array_length(parse_levels)) return parse_unary(p, 1);
    jinja_node *left = parse_binary(p, level + 1);
    for (size_t i = 0; i < 4 && !p->j->status; i++) {
        int op = parse_levels[level][i];
        if (!op || !parse_op(p, op)) continue;
        left = parse_join(p, NODE_BINARY, left, parse_binary(p, level + 1));
        if (left) left->op = op;
        i = (size_t)-1; /* and again from the first operator */
    }
    return left;
}

static int parse_comparison(jinja_parser *p) {
    static const int ops[] = {JINJA_OP_EQ, JINJA_OP_NE, JINJA_OP_LE, JINJA_OP_GE, '<', '>'};
    for (size_t i = 0; i < array_length(ops); i++)
        if (parse_op(p, ops[i])) return ops[i];
    if (parse_name(p, "in")) return JINJA_OP_IN;
    if (!parse_is_name(p, "not") || p->at[1].kind != TOKEN_NAME) return 0;
    if (!jinja_text_is(p->at[1].text, "in")) return 0;
    parse_advance(p);
    parse_advance(p);
    return JINJA_OP_NOT_IN;
}

static jinja_node *parse_compare(jinja_parser *p) {
    jinja_node *first = parse_binary(p, 0), *node = NULL, **end = NULL;
    for (int op; !p->j->status && (op = parse_comparison(p)) != 0;) {
        jinja_node *operand = parse_join(p, NODE_OPERAND, parse_binary(p, 0), NULL);
        if (!node) {
            node = parse_join(p, NODE_COMPARE, first, NULL);
            end = node ? &node->b : NULL;
        }
        if (!operand || !end) return NULL;
        operand->op = op;
        *end = operand;
        end = &operand->next;
    }
    return node ? node : first;
}

static jinja_node *parse_not(jinja_parser *p) {
    if (!parse_is_name(p, "not")) return parse_compare(p);
    if (!parse_nest(p)) return NULL;
    parse_advance(p);
    jinja_node *node = parse_join(p, NODE_NOT, parse_not(p), NULL);
    p->nesting--;
    return node;
}

static jinja_node *parse_and(jinja_parser *p) {
    jinja_node *left = parse_not(p);
    while (!p->j->status && parse_name(p, "and"))
        left = parse_join(p, NODE_AND, left, parse_not(p));
    return left;
}

static jinja_node *parse_or(jinja_parser *p) {
    jinja_node *left = parse_and(p);
    while (!p->j->status && parse_name(p, "or"))
        left = parse_join(p, NODE_OR, left, parse_and(p));
    return left;
}

/* "a if b else c" */
static jinja_node *parse_expression(jinja_parser *p) {
    jinja_node *node = parse_or(p);
    while (!p->j->status && parse_name(p, "if")) {
        node = parse_join(p, NODE_CONDITION, node, parse_or(p));
        if (!parse_name(p, "else") || !parse_nest(p)) continue;
        jinja_node *otherwise = parse_expression(p);
        p->nesting--;
        if (node) node->c = otherwise;
    }
    return node;
}

/* ---- statements ------------------------------------------------------------------------------ */

/* The end of a tag, then a body up to a tag of one of the names `ends`, which is at p->at. */
static jinja_node *parse_block(jinja_parser *p, const char *const *ends) {
    if (p->at->kind != TOKEN_BLOCK_END) return parse_error(p, "%}");
    parse_advance(p);
    return parse_body(p, ends);
}

static jinja_node *parse_block_to(jinja_parser *p, const char *end) {
    const char *const ends[] = {end, NULL};
    jinja_node *body = parse_block(p, ends);
    parse_name(p, end);
    return body;
}

static jinja_node *parse_if(jinja_parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jinja_node *first = NULL, **end = &first;
    do {
        jinja_node *node = parse_node(p, NODE_IF);
        if (!node) return NULL;
        node->a = parse_tuple(p, parse_or);
        node->b = parse_block(p, ends);
        *end = node;
        end = &node->c;
    } while (!p->j->status && parse_name(p, "elif"));
    if (parse_name(p, "else")) *end = parse_block_to(p, "endif");
    else parse_name(p, "endif");
    return first;
}

/* A name, or several to unpack to. */
static jinja_node *parse_target_part(jinja_parser *p) {
    if (parse_op(p, '(')) {
        jinja_node *inner = parse_nest(p) ? parse_tuple(p, parse_target_part) : NULL;
        p->nesting--;
        parse_expect_op(p, ')');
        return inner;
    }
    jinja_node *node = parse_node(p, NODE_NAME);
    jinja_text name = parse_identifier(p, "a name to assign to");
    if (node) node->value = jinja_string(name);
    return node;
}

static jinja_node *parse_for(jinja_parser *p) {
    static const char *const ends[] = {"else", "endfor", NULL};
    jinja_node *node = parse_node(p, NODE_FOR);
    if (!node) return NULL;
    node->a = parse_tuple(p, parse_target_part);
    if (!parse_name(p, "in")) return parse_error(p, "\"in\"");
    node->b = parse_tuple(p, parse_or);
    if (parse_name(p, "if")) node->c = parse_expression(p);
    node->op = parse_name(p, "recursive");
    node->d = parse_block(p, ends);
    if (parse_name(p, "else")) node->other = parse_block_to(p, "endfor");
    else parse_name(p, "endfor");
    return node;
}

static jinja_node *parse_set(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_SET);
    if (!node) return NULL;
    node->a = parse_tuple(p, parse_target_part);
    if (node->a && parse_is_op(p, '.')) node->a = parse_dot(p, node->a);
    if (parse_op(p, '=')) {
        node->b = parse_tuple(p, parse_expression);
        return node;
    }
    node->kind = NODE_SET_BLOCK;
    node->b = parse_filters(p, parse_node(p, NODE_CAPTURED));
    node->c = parse_block_to(p, "endset");
    return node;
}

static jinja_node *parse_filter_block(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_FILTER_BLOCK);
    if (!node) return NULL;
    node->b = parse_filters(p, parse_filter(p, parse_node(p, NODE_CAPTURED)));
    node->c = parse_block_to(p, "endfilter");
    return node;
}

/* "(a, b=1)" */
static jinja_node *parse_parameters(jinja_parser *p) {
    jinja_node *first = parse_arguments(p);
    for (jinja_node *node = first; node && !p->j->status; node = node->next) {
        if (node->value.kind == JINJA_STRING) continue;
        if (node->op || node->a->kind != NODE_NAME) return parse_error(p, "names of parameters");
        node->value = node->a->value;
        node->a = NULL;
    }
    return first;
}

static jinja_node *parse_macro(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_MACRO);
    jinja_text name = parse_identifier(p, "the name of a macro");
    if (!node) return NULL;
    node->value = jinja_string(name);
    node->a = parse_parameters(p);
    node->b = parse_block_to(p, "endmacro");
    return node;
}

static jinja_node *parse_call_block(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_CALL_BLOCK), *caller = parse_node(p, NODE_MACRO);
    if (!caller) return NULL;
    caller->value = jinja_string(jinja_literal("caller"));
    if (parse_is_op(p, '(')) caller->a = parse_parameters(p);
    node->a = parse_expression(p);
    if (node->a && node->a->kind != NODE_CALL) return parse_error(p, "a call in {% call %}");
    caller->b = parse_block_to(p, "endcall");
    node->b = caller;
    return node;
}

static jinja_node *parse_generation(jinja_parser *p) {
    jinja_node *node = parse_node(p, NODE_SCOPE);
    if (node) node->a = parse_block_to(p, "endgeneration");
    return node;
}
static jinja_node *parse_break(jinja_parser *p) { return parse_node(p, NODE_BREAK); }
static jinja_node *parse_continue(jinja_parser *p) { return parse_node(p, NODE_CONTINUE); }

/* A tag, from its name to its last "%}". */
static jinja_node *parse_tag(jinja_parser *p) {
    static const struct {
        const char *name;
        jinja_node *(*parse)(jinja_parser *);
    } tags[] = {
        {"if", parse_if}, {"for", parse_for}, {"set", parse_set}, {"macro", parse_macro},
        {"call", parse_call_block}, {"filter", parse_filter_block},
        {"generation", parse_generation}, {"break", parse_break}, {"continue", parse_continue},
    };
    jinja_text name = parse_identifier(p, "the name of a tag");
    for (size_t i = 0; i < array_length(tags); i++) {
        if (!jinja_text_is(name, tags[i].name)) continue;
        jinja_node *node = tags[i].parse(p);
        if (!p->j->status && p->at->kind != TOKEN_BLOCK_END) return parse_error(p, "%}");
        parse_advance(p);
        return node;
    }
    jinja_unsupported(p->j, "the tag \"%.*s\" is not known", (int)min_size(name.len, 60),
                      name.bytes);
    return NULL;
}

static int parse_at_end(const jinja_parser *p, const char *const *ends) {
    for (; p->at[0].kind == TOKEN_BLOCK && *ends; ends++)
        if (p->at[1].kind == TOKEN_NAME && jinja_text_is(p->at[1].text, *ends)) return 1;
    return 0;
}

static jinja_node *parse_statement(jinja_parser *p) {
    jinja_node *node;
    if (p->at->kind == TOKEN_TEXT) {
        node = parse_node(p, NODE_TEXT);
        if (node) node->value = jinja_string(p->at->text);
    } else if (p->at->kind == TOKEN_PRINT) {
        parse_advance(p);
        node = parse_join(p, NODE_PRINT, parse_tuple(p, parse_expression), NULL);
        if (!p->j->status && p->at->kind != TOKEN_PRINT_END) return parse_error(p, "}}");
    } else {
        parse_advance(p);
        return parse_tag(p);
    }
    parse_advance(p);
    return node;
}

/* Statements up to a tag that ends them, the name of which is then at p->at; without `ends`, up to
 * the end. */
static jinja_node *parse_body(jinja_parser *p, const char *const *ends) {
    jinja_node *first = NULL, **end = &first;
    const int line = ends ? p->at[-1].line : 1;
    if (!parse_nest(p)) return NULL;
    while (!p->j->status && p->at->kind != TOKEN_END && !(ends && parse_at_end(p, ends))) {
        *end = parse_statement(p);
        if (*end) end = &(*end)->next;
    }
    if (!p->j->status && ends && p->at->kind == TOKEN_END) {
        while (ends[1]) ends++;
        p->j->line = line;
        jinja_fail(p->j, "a block without its {%% %s %%}", *ends);
    }
    p->nesting--;
    if (ends) parse_advance(p);
    return first;
}

jinja_node *jinja_parse(jinja *j, const jinja_token *tokens) {
    jinja_parser p = {.j = j, .at = tokens};
    jinja_node *body = parse_body(&p, NULL);
    return j->status ? NULL : body;
}
