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
    JINJA_LIST, JINJA_TUPLE,
    JINJA_GENERATOR,           /* what map, select, ... give: can be iterated over once */
    JINJA_DICT, JINJA_NAMESPACE,
    JINJA_LOOP, JINJA_MACRO, JINJA_FUNCTION /* these can be called */
} jinja_kind;

enum { JINJA_RANGE = 1, JINJA_DICT_VIEW = 2 }; /* the latter has no indices */

/* Bytes of valid UTF-8, and for each whether it is content; is_content NULL: none is. */
typedef struct jinja_text {
    const char *bytes;
    const unsigned char *is_content;
    size_t len;
} jinja_text;

typedef struct jinja_value {
    jinja_kind kind;
    unsigned char is_markup;   /* a string from the filter safe: + escapes what is added to it */
    unsigned char is_view;     /* a list that Python does not write as one: JINJA_RANGE, ... */
    union {
        int64_t integer;       /* and JINJA_BOOL: 0 or 1 */
        double number;
        const jinja_text *text;
        const char *why;       /* JINJA_UNDEFINED: what to say of it: "'x' is undefined" */
        struct jinja_list *list; /* JINJA_DICT, JINJA_NAMESPACE: keys and values in turn */
        struct jinja_loop *loop;
        struct jinja_macro *macro;
        struct jinja_method *method;
    };
} jinja_value;

typedef struct jinja_list {
    jinja_value *items;
    size_t n, capacity;
} jinja_list;

/* ---- functions, methods, filters and tests --------------------------------------------------- */

typedef struct jinja_call {
    jinja_value self;          /* the object of a method, the input of a filter or test */
    int mode;                  /* tells apart functions that share their code */
    jinja_list values;         /* positional arguments */
    jinja_list named;          /* a dict */
    jinja_value bound[4];      /* both, by the names in jinja_function.parameters */
} jinja_call;

/* JINJA_OF_STR: a filter, the input of which becomes a str. */
enum { JINJA_FILTER = 1, JINJA_OF_STR = 2, JINJA_STR_METHOD = 4, JINJA_DICT_METHOD = 8,
       JINJA_TEST = 16, JINJA_GLOBAL = 32 };

typedef struct jinja_function {
    const char *name;
    int roles;                 /* JINJA_FILTER, ..., of which it has any number */
    const char *parameters;    /* "a,b?": b may be JINJA_MISSING; NULL: not bound, any number */
    jinja_value (*run)(jinja *j, const jinja_call *call);
    int mode;
} jinja_function;

typedef struct jinja_method {
    const jinja_function *function;
    jinja_value self;
} jinja_method;

/* ---- the syntax tree ------------------------------------------------------------------------- */

typedef enum jinja_op {
    JINJA_OR, JINJA_AND, JINJA_EQ, JINJA_NE, JINJA_LE, JINJA_GE, JINJA_LT, JINJA_GT, JINJA_IN,
    JINJA_NOT_IN, JINJA_ADD, JINJA_SUB, JINJA_CONCAT, JINJA_MUL, JINJA_DIV, JINJA_FLOOR, JINJA_MOD,
    JINJA_N_OPS
} jinja_op;

typedef enum jinja_node_kind {
    NODE_CONSTANT,             /* value */
    NODE_NAME,                 /* value: the name, as in the nodes below that have one */
    NODE_COLLECTION,           /* value.kind: list, tuple or dict; a: its items */
    NODE_ATTRIBUTE,            /* a.name */
    NODE_ITEM,                 /* a[b] */
    NODE_SLICE,                /* a[b:c:d] */
    NODE_CALL,                 /* a(b: arguments); c: NODE_MACRO of {% call %}, or NULL */
    NODE_FILTER,               /* a|name(b: arguments) */
    NODE_TEST,                 /* a is name(b: arguments) */
    NODE_NOT,                  /* not a */
    NODE_SIGN,                 /* op a: -1 or 1 */
    NODE_BINARY,               /* a op b */
    NODE_CONDITION,            /* a if b else c */
    NODE_ARGUMENT,             /* a, name = a, or *a where op is 1; in a dict a: b */
    NODE_CAPTURE,              /* the text that body a writes, with variables of its own */
    /* statements */
    NODE_PRINT,                /* a */
    NODE_IF,                   /* if a: b, else c */
    NODE_FOR,                  /* for a in b if c: d, else e; op: recursive */
    NODE_SET,                  /* a = b */
    NODE_MACRO,                /* name, a: parameters (NODE_ARGUMENT with defaults), b: body */
    NODE_BREAK, NODE_CONTINUE
} jinja_node_kind;

typedef struct jinja_node {
    jinja_node_kind kind;
    int line, op;
    jinja_value value;
    struct jinja_node *a, *b, *c, *d, *e;
    struct jinja_node *next;   /* of the list that it stands in */
} jinja_node;

typedef enum jinja_token_kind {
    TOKEN_TEXT, TOKEN_STRING, TOKEN_NUMBER, TOKEN_NAME,
    TOKEN_SIGN,                /* an operator, a bracket, "{{", "%}", ... */
    TOKEN_END
} jinja_token_kind;

typedef struct jinja_token {
    jinja_token_kind kind;
    int line;
    jinja_text text;
    struct jinja_token *next;
} jinja_token;

/* ---- the state of a rendering ---------------------------------------------------------------- */

typedef struct jinja_scope {
    struct jinja_scope *parent;
    jinja_list variables;      /* a dict */
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
    unsigned char mark;        /* is_content of the strings of JSON that are read */
    const char *date;
    jinja_scope *scope;
    jinja_builder *out;
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

void *jinja_alloc(jinja *j, size_t size);        /* zeroed; NULL after setting the status */
void jinja_free_all(jinja *j);

jinja_text jinja_literal(const char *text);      /* of the template */
jinja_text jinja_part(jinja_text text, size_t from, size_t len);
int jinja_text_is(jinja_text text, const char *word);
const char *jinja_shown(jinja *j, jinja_text text); /* its beginning, for a message */

void jinja_put(jinja *j, jinja_builder *b, jinja_text text);
void jinja_put_literal(jinja *j, jinja_builder *b, const char *text);
void jinja_put_char(jinja *j, jinja_builder *b, uint32_t c, unsigned char is_content);
jinja_value jinja_built(jinja *j, const jinja_builder *b);

jinja_value jinja_none(void);
jinja_value jinja_bool(int value);
jinja_value jinja_int(int64_t value);
jinja_value jinja_float(double value);
jinja_value jinja_string(jinja *j, jinja_text text);
GQA_PRINTF(2, 3)
jinja_value jinja_undefined(jinja *j, const char *format, ...);
jinja_value jinja_new(jinja *j, jinja_kind kind); /* an empty list or dict; NULL after an error */
void jinja_append(jinja *j, jinja_list *list, jinja_value value);
int jinja_is_hashable(jinja *j, jinja_value key);
jinja_value *jinja_find(jinja *j, const jinja_list *dict, jinja_value key);
jinja_value *jinja_find_name(jinja *j, const jinja_list *dict, jinja_text name);
void jinja_set(jinja *j, jinja_list *dict, jinja_value key, jinja_value value);
jinja_value jinja_from_json(jinja *j, const gqa_json_node *node);

/* ---- jinja_types.c: what Python's types do --------------------------------------------------- */

extern const struct jinja_operator {
    const char *sign;
    int level;                 /* 0 binds least */
} jinja_operators[JINJA_N_OPS];

const char *jinja_type(jinja_value v);           /* "str", "NoneType", ... */
int jinja_truth(jinja_value v);
int jinja_is_sequence(jinja_value v);            /* list or tuple */
int jinja_is_number(jinja_value v);              /* also a bool, as in Python */
int jinja_equal(jinja *j, jinja_value a, jinja_value b);
/* The items of what can be iterated over; NULL after an error. */
jinja_list *jinja_iterate(jinja *j, jinja_value v);
int64_t jinja_length(jinja *j, jinja_value v);
/* Sorts what stands in turn, a key and its item, by key, JINJA_LT or JINJA_GT; equal ones stay. */
void jinja_sort_pairs(jinja *j, jinja_list *pairs, jinja_op op);
jinja_value jinja_operate(jinja *j, jinja_op op, jinja_value a, jinja_value b);
jinja_value jinja_attribute(jinja *j, jinja_value v, jinja_text name);
jinja_value jinja_item(jinja *j, jinja_value v, jinja_value key);
jinja_value jinja_slice(jinja *j, jinja_value v, const jinja_value bounds[3]);

/* ---- jinja_print.c --------------------------------------------------------------------------- */

void jinja_put_str(jinja *j, jinja_builder *b, jinja_value v);
jinja_text jinja_str(jinja *j, jinja_value v);   /* as Python's str() */
jinja_value jinja_tojson(jinja *j, const jinja_call *call);

/* ---- jinja_text.c: characters, and what filters and methods do with texts -------------------- */

int jinja_next(jinja_text text, size_t *at, uint32_t *c); /* 0 at the end */
int jinja_is_space(uint32_t c);
int jinja_is_printable(uint32_t c);
size_t jinja_search(jinja *j, jinja_text text, jinja_text part, size_t from); /* SIZE_MAX: none */
enum { JINJA_LEFT = 1, JINJA_RIGHT = 2 };
jinja_text jinja_trim(jinja_text text, const jinja_text *set, int sides); /* NULL: of space */
jinja_value jinja_spaces(jinja *j, int64_t n);

enum { JINJA_UPPER, JINJA_LOWER, JINJA_TITLE, JINJA_TITLE_FILTER, JINJA_CAPITALIZE };
jinja_value jinja_with_case(jinja *j, jinja_text text, int mode);
jinja_value jinja_case(jinja *j, const jinja_call *call);
jinja_value jinja_strip(jinja *j, const jinja_call *call); /* mode: the sides */
jinja_value jinja_split(jinja *j, const jinja_call *call);
jinja_value jinja_find_text(jinja *j, const jinja_call *call);
jinja_value jinja_replace(jinja *j, const jinja_call *call);
jinja_value jinja_format(jinja *j, const jinja_call *call);
jinja_value jinja_has_end(jinja *j, const jinja_call *call); /* mode: the side */
jinja_value jinja_indent(jinja *j, const jinja_call *call);

/* ---- the others ------------------------------------------------------------------------------ */

/* NULL: there is none. */
const jinja_function *jinja_function_named(jinja_text name, int role);
jinja_value jinja_run(jinja *j, const jinja_function *f, jinja_call *call);
jinja_value jinja_run_named(jinja *j, jinja_text name, int role, jinja_call *call);
jinja_value jinja_bind(jinja *j, const jinja_function *f, jinja_value self);

jinja_token *jinja_tokens(jinja *j, const char *source, size_t len);
jinja_node *jinja_parse(jinja *j, const jinja_token *tokens);

#endif
