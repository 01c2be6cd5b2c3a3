/* jinja_internal.h: values, syntax tree and state of the template evaluator.
 *
 * An error is sticky: the first one stays in jinja.status, functions then return at once with any
 * value, and loops end. All memory comes from one arena that is freed when the rendering ends. */
#ifndef GQA_JINJA_INTERNAL_H
#define GQA_JINJA_INTERNAL_H

#include "jinja.h"

enum { /* limits of one rendering */
    JINJA_MAX_SOURCE = 1 << 20,
    JINJA_MAX_TEXT = 1 << 24,  /* bytes of a string, and of the output */
    JINJA_MAX_MEMORY = 1 << 28,
    JINJA_MAX_NESTING = 100,   /* of the template's text */
    JINJA_MAX_DEPTH = 400,     /* of evaluation: nesting times calls of macros */
    JINJA_MAX_STEPS = 10000000,
    JINJA_MAX_RANGE = 100000   /* as the sandbox has it */
};

typedef struct jinja jinja;

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum jinja_kind {
    JINJA_MISSING,             /* an argument that was not given */
    JINJA_UNDEFINED, JINJA_NONE, JINJA_BOOL, JINJA_INT, JINJA_FLOAT, JINJA_STRING,
    JINJA_LIST, JINJA_TUPLE, JINJA_RANGE,
    JINJA_VIEW,                /* of a dict: its keys(), values() or items() */
    JINJA_GENERATOR,           /* what map, select, ... give: can be iterated over once */
    JINJA_DICT, JINJA_NAMESPACE,
    JINJA_LOOP, JINJA_MACRO,   /* these and the next can be called */
    JINJA_FUNCTION,            /* a global one, or a method with its object */
    JINJA_N_KINDS
} jinja_kind;

/* Bytes of valid UTF-8, and for each whether it is content; is_content NULL: none is. */
typedef struct jinja_text {
    const char *bytes;
    const unsigned char *is_content;
    size_t len;
} jinja_text;

typedef struct jinja_value {
    jinja_kind kind;
    int is_markup;             /* a string from the filter safe: + escapes what is added to it */
    union {
        int64_t integer;       /* and JINJA_BOOL: 0 or 1 */
        double number;
        jinja_text text;       /* JINJA_UNDEFINED: what to say of it: "'x' is undefined" */
        struct jinja_list *list;
        struct jinja_dict *dict;
        struct jinja_loop *loop;
        struct jinja_macro *macro;
        struct jinja_method *method;
    };
} jinja_value;

typedef struct jinja_list {
    jinja_value *items;
    size_t n, capacity;
} jinja_list;

typedef struct jinja_pair {
    jinja_value key, value;
} jinja_pair;
typedef struct jinja_dict {    /* in the order of insertion, searched from its beginning */
    jinja_pair *pairs;
    size_t n, capacity;
} jinja_dict;

/* ---- functions, filters and tests ------------------------------------------------------------ */

typedef struct jinja_arguments {
    jinja_list values;         /* positional */
    jinja_dict named;
    jinja_value bound[5];      /* both, by the names in jinja_function.parameters */
} jinja_arguments;

typedef struct jinja_function {
    const char *name;
    const char *parameters;    /* "a,b?": b may be JINJA_MISSING; NULL: not bound, any number */
    jinja_value (*run)(jinja *j, jinja_value self, const jinja_arguments *arguments);
} jinja_function;

typedef struct jinja_method {
    const jinja_function *function;
    jinja_value self;
} jinja_method;

/* ---- the syntax tree ------------------------------------------------------------------------- */

typedef enum jinja_node_kind {
    NODE_CONSTANT,             /* value */
    NODE_NAME,                 /* value: the name, as in the nodes below that have one */
    NODE_LIST, NODE_TUPLE,     /* a: elements */
    NODE_DICT,                 /* a: keys and values in turn */
    NODE_ATTRIBUTE,            /* a.name */
    NODE_ITEM,                 /* a[b] */
    NODE_SLICE,                /* a[b:c:d] */
    NODE_CALL,                 /* a(b: arguments) */
    NODE_FILTER,               /* a|name(b: arguments) */
    NODE_TEST,                 /* a is name(b: arguments) */
    NODE_NOT, NODE_NEGATIVE, NODE_POSITIVE,          /* of a */
    NODE_AND, NODE_OR,         /* a, b */
    NODE_BINARY,               /* a op b */
    NODE_COMPARE,              /* a, then b: a list of NODE_OPERAND */
    NODE_OPERAND,              /* op a */
    NODE_CONDITION,            /* a if b else c */
    NODE_ARGUMENT,             /* a; name; op '*': a list of them, JINJA_OP_POWER: a dict of them */
    NODE_CAPTURED,             /* the text of the block around it, for {% filter %} */
    /* statements */
    NODE_TEXT,                 /* value */
    NODE_PRINT,                /* a */
    NODE_IF,                   /* if a: b, else c */
    NODE_FOR,                  /* for a in b if c: d, else other; op: recursive */
    NODE_SET,                  /* a = b */
    NODE_SET_BLOCK,            /* a = filters b of body c */
    NODE_FILTER_BLOCK,         /* filters b of body c */
    NODE_MACRO,                /* name, a: parameters (NODE_ARGUMENT with defaults), b: body */
    NODE_CALL_BLOCK,           /* a: NODE_CALL, b: NODE_MACRO that is its caller */
    NODE_SCOPE,                /* a: body with variables of its own */
    NODE_BREAK, NODE_CONTINUE
} jinja_node_kind;

typedef struct jinja_node {
    jinja_node_kind kind;
    int line, op;              /* op: a character, or one of these: */
    jinja_value value;
    struct jinja_node *a, *b, *c, *d, *other;
    struct jinja_node *next;   /* of the list that it stands in */
} jinja_node;

enum { JINJA_OP_POWER = 256, JINJA_OP_FLOOR, JINJA_OP_EQ, JINJA_OP_NE, JINJA_OP_LE, JINJA_OP_GE,
       JINJA_OP_IN, JINJA_OP_NOT_IN };

typedef enum jinja_token_kind {
    TOKEN_TEXT, TOKEN_NAME, TOKEN_STRING, TOKEN_INT, TOKEN_FLOAT, TOKEN_OP,
    TOKEN_BLOCK, TOKEN_BLOCK_END, TOKEN_PRINT, TOKEN_PRINT_END, TOKEN_END
} jinja_token_kind;

typedef struct jinja_token {
    jinja_token_kind kind;
    int line, op;
    jinja_text text;
} jinja_token;

/* ---- the state of a rendering ---------------------------------------------------------------- */

typedef struct jinja_binding {
    jinja_text name;
    jinja_value value;
    struct jinja_binding *next;
} jinja_binding;
typedef struct jinja_scope {
    struct jinja_scope *parent;
    jinja_binding *bindings;
} jinja_scope;

typedef struct jinja_macro {
    const jinja_node *node;
    jinja_scope *scope;        /* where it was defined */
} jinja_macro;

typedef struct jinja_loop {
    const jinja_node *node;
    jinja_scope *scope;        /* where the loop stands */
    jinja_list *source;
    size_t taken;              /* of source */
    jinja_list items;          /* of those, what the loop's filter let through */
    size_t index;
    int depth;
    jinja_value changed;
} jinja_loop;

typedef struct jinja_builder { /* a text that grows */
    char *bytes;
    unsigned char *is_content;
    size_t len, capacity;
} jinja_builder;

struct jinja {
    gqa_error *err;
    int status;
    int line;                  /* of the node that is evaluated */
    int depth, steps;
    struct jinja_block *blocks;
    size_t memory;
    const unsigned char *marks; /* is_content of the strings of JSON that are read */
    const char *date;
    jinja_scope *scope;
    jinja_builder *out;
    jinja_text captured;       /* NODE_CAPTURED */
    enum { JINJA_GOES_ON, JINJA_BREAKS, JINJA_CONTINUES } flow;
};

/* ---- jinja_value.c --------------------------------------------------------------------------- */

/* Sets the status and the message, if there was no error before. Returns a value to return. */
GQA_PRINTF(2, 3)
jinja_value jinja_fail(jinja *j, const char *format, ...);
GQA_PRINTF(2, 3)
jinja_value jinja_unsupported(jinja *j, const char *format, ...);
/* Counts n steps. 0, or nonzero after an error, this one or one before. */
int jinja_spend(jinja *j, size_t n);
/* The same for one step that is nested; jinja_leave when it returned 0. */
int jinja_enter(jinja *j);
void jinja_leave(jinja *j);

void *jinja_alloc(jinja *j, size_t size); /* zeroed; NULL after setting the status */
void jinja_free_all(jinja *j);

jinja_text jinja_literal(const char *text);      /* of the template */
jinja_text jinja_part(jinja_text text, size_t from, size_t len);
int jinja_text_is(jinja_text text, const char *word);
int jinja_same_text(jinja_text a, jinja_text b);

void jinja_put(jinja *j, jinja_builder *b, jinja_text text);
void jinja_put_literal(jinja *j, jinja_builder *b, const char *text);
void jinja_put_char(jinja *j, jinja_builder *b, uint32_t c, int is_content);
jinja_value jinja_built(const jinja_builder *b);

jinja_value jinja_none(void);
jinja_value jinja_bool(int value);
jinja_value jinja_int(int64_t value);
jinja_value jinja_float(double value);
jinja_value jinja_string(jinja_text text);
jinja_value jinja_new_list(jinja *j, jinja_kind kind); /* list is NULL after an error */
void jinja_append(jinja *j, jinja_list *list, jinja_value value);
jinja_value jinja_new_dict(jinja *j, jinja_kind kind);
jinja_value *jinja_find(jinja *j, const jinja_dict *dict, jinja_value key);
void jinja_set(jinja *j, jinja_dict *dict, jinja_value key, jinja_value value);
jinja_value jinja_from_json(jinja *j, const gqa_json_node *node);
GQA_PRINTF(2, 3)
jinja_value jinja_undefined(jinja *j, const char *format, ...);

/* ---- jinja_types.c: what Python's types do --------------------------------------------------- */

const char *jinja_type(jinja_value v);           /* "str", "NoneType", ... */
int jinja_truth(jinja_value v);
int jinja_is_sequence(jinja_value v);            /* list, tuple or range */
int jinja_is_number(jinja_value v);              /* also a bool, as in Python */
double jinja_number(jinja_value v);
int jinja_equal(jinja *j, jinja_value a, jinja_value b);
int jinja_compare(jinja *j, jinja_value a, jinja_value b); /* negative, 0, positive; or an error */
int jinja_contains(jinja *j, jinja_value whole, jinja_value part);
/* The items of what can be iterated over; NULL after an error. */
jinja_list *jinja_iterate(jinja *j, jinja_value v);
int64_t jinja_length(jinja *j, jinja_value v);
jinja_value jinja_arithmetic(jinja *j, int op, jinja_value a, jinja_value b);
jinja_value jinja_attribute(jinja *j, jinja_value v, jinja_text name);
jinja_value jinja_item(jinja *j, jinja_value v, jinja_value key);
jinja_value jinja_slice(jinja *j, jinja_value v, const jinja_value bounds[3]);

/* ---- jinja_print.c --------------------------------------------------------------------------- */

void jinja_put_str(jinja *j, jinja_builder *b, jinja_value v);
jinja_text jinja_str(jinja *j, jinja_value v);   /* as Python's str() */
jinja_value jinja_tojson(jinja *j, jinja_value v, const jinja_arguments *a);

/* ---- jinja_text.c: characters, and the methods of strings ------------------------------------ */

int jinja_next(jinja_text text, size_t *at, uint32_t *c); /* 0 at the end */
size_t jinja_count(jinja_text text);             /* characters */
int jinja_is_space(uint32_t c);
int jinja_is_printable(uint32_t c);
size_t jinja_search(jinja *j, jinja_text text, jinja_text part, size_t from); /* SIZE_MAX: none */
jinja_text jinja_trim(jinja_text text, const jinja_text *set, int left, int right);
jinja_value jinja_split_lines(jinja *j, jinja_text text);
jinja_value jinja_replace(jinja *j, jinja_text text, const jinja_value arguments[3]);
typedef enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_TITLE, JINJA_TITLE_FILTER,
                          JINJA_CAPITALIZE } jinja_case;
jinja_value jinja_with_case(jinja *j, jinja_text text, jinja_case mode);
const jinja_function *jinja_string_method(jinja_text name);

/* ---- jinja_functions.c, jinja_filters.c ------------------------------------------------------ */

/* A method of any type, or NULL; an error where Python has one that is not known here. */
const jinja_function *jinja_method_named(jinja *j, jinja_kind kind, jinja_text name);
jinja_value jinja_global(jinja *j, jinja_text name);        /* JINJA_MISSING: none */
jinja_value jinja_run(jinja *j, const jinja_function *f, jinja_value self, jinja_arguments *a);
jinja_value jinja_filter(jinja *j, jinja_text name, jinja_value v, jinja_arguments *a);
int jinja_test(jinja *j, jinja_text name, jinja_value v, jinja_arguments *a);

/* ---- jinja_lex.c, jinja_parse.c, jinja_eval.c ------------------------------------------------ */

jinja_token *jinja_tokens(jinja *j, const char *source, size_t len);
jinja_node *jinja_parse(jinja *j, const jinja_token *tokens);
void jinja_define(jinja *j, jinja_text name, jinja_value value);
jinja_value jinja_loop_attribute(jinja *j, jinja_loop *loop, jinja_text name);

#endif
