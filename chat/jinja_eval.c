/* jinja_eval.c: evaluates the syntax tree: variables, expressions, statements. */
#include <stdlib.h>
#include <string.h>

#include "jinja_internal.h"

static jinja_value evaluate(jinja *j, const jinja_node *node);
static void execute(jinja *j, const jinja_node *list);

/* ---- variables ------------------------------------------------------------------------------- */

static jinja_scope *new_scope(jinja *j, jinja_scope *parent) {
    jinja_scope *scope = jinja_alloc(j, sizeof *scope);
    if (scope) scope->parent = parent;
    return scope;
}

static void set_variable(jinja *j, jinja_value name, jinja_value value) {
    if (!j->status) jinja_set(j, &j->scope->variables, name, value);
}
static void define(jinja *j, const char *name, jinja_value value) {
    set_variable(j, jinja_string(j, jinja_literal(name)), value);
}

static jinja_value eval_name(jinja *j, jinja_value name) {
    for (const jinja_scope *scope = j->scope; scope; scope = scope->parent) {
        const jinja_value *found = jinja_find(j, &scope->variables, name);
        if (found) return *found;
    }
    const jinja_function *function = jinja_function_named(*name.text, JINJA_GLOBAL);
    static const char *const own[] = {"lipsum", "cycler", "joiner", "self", "varargs", "kwargs"};
    for (size_t i = 0; i < array_length(own); i++)
        if (jinja_text_is(*name.text, own[i]))
            return jinja_unsupported(j, "Jinja's own '%s' is not known", own[i]);
    if (!function) return jinja_undefined(j, "'%s' is undefined", jinja_shown(j, *name.text));
    return jinja_bind(j, function, jinja_none());
}

/* Assigns to a name, to several, or to an attribute of a namespace. */
static void assign(jinja *j, const jinja_node *target, jinja_value value) {
    if (j->status) return;
    if (target->kind == NODE_NAME) {
        set_variable(j, target->value, value);
    } else if (target->kind == NODE_ATTRIBUTE) {
        jinja_value object = evaluate(j, target->a);
        if (object.kind == JINJA_NAMESPACE) jinja_set(j, object.list, target->value, value);
        else jinja_fail(j, "cannot assign attribute on non-namespace object");
    } else {
        const jinja_list *list = jinja_iterate(j, value);
        size_t n = 0;
        for (const jinja_node *part = target->a; list && part; part = part->next, n++)
            if (n < list->n) assign(j, part, list->items[n]);
        if (list && n != list->n)
            jinja_fail(j, "expected %zu values to unpack, got %zu", n, list->n);
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void run_loop(jinja *j, const jinja_node *node, jinja_value items, int depth);

/* Executes a body in a scope, or a level of a recursive loop, and returns what it writes. */
static jinja_value capture(jinja *j, jinja_scope *scope, const jinja_node *body,
                           const jinja_loop *loop, jinja_value items) {
    jinja_builder text = {0}, *out = j->out;
    jinja_scope *outer = j->scope;
    if (j->status) return jinja_none();
    j->out = &text;
    j->scope = scope;
    if (loop) run_loop(j, loop->node, items, loop->depth + 1);
    else execute(j, body);
    j->out = out;
    j->scope = outer;
    if (j->flow) jinja_fail(j, "break or continue outside of a loop");
    return jinja_built(j, &text);
}

static void eval_arguments(jinja *j, const jinja_node *node, jinja_call *call) {
    for (; node && !j->status; node = node->next) {
        jinja_value v = evaluate(j, node->a);
        if (node->value.kind == JINJA_STRING) jinja_set(j, &call->named, node->value, v);
        else if (!node->op) jinja_append(j, &call->values, v);
        const jinja_list *list = node->op ? jinja_iterate(j, v) : NULL;
        for (size_t i = 0; list && i < list->n; i++)
            jinja_append(j, &call->values, list->items[i]);
    }
}

/* Defines the parameters of a macro in j->scope, its own. */
static void bind_parameters(jinja *j, const jinja_node *macro, const jinja_call *call) {
    const jinja_value *caller = jinja_find_name(j, &call->named, jinja_literal("caller"));
    size_t n = 0, used = caller ? 2 : 0;
    define(j, "caller", caller ? *caller : jinja_undefined(j, "there is no caller"));
    for (const jinja_node *p = macro->a; p && !j->status; p = p->next, n++) {
        const jinja_value *named = jinja_find(j, &call->named, p->value);
        jinja_value v;
        used += named && n >= call->values.n ? 2 : 0;
        if (n < call->values.n) v = call->values.items[n];
        else if (named) v = *named;
        else if (p->a) v = evaluate(j, p->a);
        else v = jinja_undefined(j, "parameter '%s' was not provided",
                                 jinja_shown(j, *p->value.text));
        set_variable(j, p->value, v);
    }
    if (call->values.n > n || used < call->named.n)
        jinja_fail(j, "macro '%s': expected at most %zu arguments of its own names, got others",
                   jinja_shown(j, *macro->value.text), n);
}

static jinja_value call_macro(jinja *j, const jinja_macro *macro, const jinja_call *call) {
    jinja_scope *outer = j->scope, *scope = new_scope(j, macro->scope);
    if (!scope) return jinja_none();
    j->scope = scope;
    bind_parameters(j, macro->node, call);
    j->scope = outer;
    return capture(j, scope, macro->node->b, NULL, jinja_none());
}

/* loop(items) in a recursive loop. */
static jinja_value call_loop(jinja *j, const jinja_loop *loop, const jinja_call *call) {
    if (!loop->node->op) return jinja_fail(j, "the loop is not recursive");
    if (call->values.n != 1) return jinja_fail(j, "loop(): expected 1 argument");
    return capture(j, loop->scope, NULL, loop, call->values.items[0]);
}

static jinja_value macro_value(jinja *j, const jinja_node *node) {
    jinja_macro *macro = jinja_alloc(j, sizeof *macro);
    if (macro) *macro = (jinja_macro){node, j->scope};
    return (jinja_value){.kind = JINJA_MACRO, .macro = macro};
}

static jinja_value eval_call(jinja *j, const jinja_node *node) {
    jinja_call call = {0};
    jinja_value callee = evaluate(j, node->a);
    eval_arguments(j, node->b, &call);
    if (node->c) jinja_set(j, &call.named, node->c->value, macro_value(j, node->c));
    j->line = node->line;
    if (j->status) return jinja_none();
    switch (callee.kind) {
    case JINJA_MACRO: return call_macro(j, callee.macro, &call);
    case JINJA_LOOP: return call_loop(j, callee.loop, &call);
    case JINJA_FUNCTION:
        call.self = callee.method->self;
        return jinja_run(j, callee.method->function, &call);
    case JINJA_UNDEFINED: return jinja_fail(j, "%s", callee.why);
    default: return jinja_fail(j, "'%s' object is not callable", jinja_type(callee));
    }
}

static jinja_value eval_filter_or_test(jinja *j, const jinja_node *node) {
    jinja_call call = {.self = evaluate(j, node->a)};
    eval_arguments(j, node->b, &call);
    j->line = node->line;
    if (j->status) return jinja_none();
    int role = node->kind == NODE_TEST ? JINJA_TEST : JINJA_FILTER;
    return jinja_run_named(j, *node->value.text, role, &call);
}

/* ---- loops ----------------------------------------------------------------------------------- */

/* Whether the loop has an item `index`: takes as many of its source as that needs, because a
 * filter may depend on what the body did before. */
static int loop_has(jinja *j, jinja_loop *loop, size_t index) {
    const jinja_node *filter = loop->node->c;
    while (!j->status && loop->items.n <= index && loop->taken < loop->source->n) {
        jinja_value item = loop->source->items[loop->taken++];
        int passes = 1;
        if (filter) {
            jinja_scope *outer = j->scope;
            j->scope = new_scope(j, loop->scope);
            assign(j, loop->node->a, item);
            passes = !j->status && jinja_truth(evaluate(j, filter));
            j->scope = outer;
        }
        if (passes) jinja_append(j, &loop->items, item);
    }
    return !j->status && index < loop->items.n;
}

static jinja_value loop_item(jinja *j, jinja_loop *loop, size_t index) {
    if (index != SIZE_MAX && loop_has(j, loop, index)) return loop->items.items[index];
    return jinja_undefined(j, "the loop has no such item");
}

static jinja_value loop_attribute(jinja *j, jinja_loop *loop, jinja_text name) {
    int64_t index = (int64_t)loop->index, length = 0;
    if (jinja_text_is(name, "index0")) return jinja_int(index);
    if (jinja_text_is(name, "index")) return jinja_int(index + 1);
    if (jinja_text_is(name, "first")) return jinja_bool(index == 0);
    if (jinja_text_is(name, "last")) return jinja_bool(!loop_has(j, loop, loop->index + 1));
    if (jinja_text_is(name, "depth")) return jinja_int(loop->depth + 1);
    if (jinja_text_is(name, "depth0")) return jinja_int(loop->depth);
    if (jinja_text_is(name, "previtem")) return loop_item(j, loop, loop->index - 1);
    if (jinja_text_is(name, "nextitem")) return loop_item(j, loop, loop->index + 1);
    loop_has(j, loop, SIZE_MAX);
    length = (int64_t)loop->items.n;
    if (jinja_text_is(name, "length")) return jinja_int(length);
    if (jinja_text_is(name, "revindex")) return jinja_int(length - index);
    if (jinja_text_is(name, "revindex0")) return jinja_int(length - index - 1);
    return jinja_unsupported(j, "loop.%s is not known", jinja_shown(j, name));
}

static void run_loop(jinja *j, const jinja_node *node, jinja_value items, int depth) {
    jinja_scope *outer = j->scope;
    jinja_loop *loop = jinja_alloc(j, sizeof *loop);
    int ended = 0;             /* some round came to its end, without break or continue */
    if (loop) *loop = (jinja_loop){.node = node, .scope = outer, .depth = depth};
    if (loop) loop->source = jinja_iterate(j, items);
    for (; !j->status && loop_has(j, loop, loop->index); loop->index++) {
        j->scope = new_scope(j, outer);
        define(j, "loop", (jinja_value){.kind = JINJA_LOOP, .loop = loop});
        assign(j, node->a, loop->items.items[loop->index]);
        execute(j, node->d);
        ended |= j->flow == JINJA_GOES_ON;
        int breaks = j->flow == JINJA_BREAKS;
        j->flow = JINJA_GOES_ON;
        if (breaks) break;
    }
    if (!ended) j->scope = new_scope(j, outer);
    if (!ended) execute(j, node->e);
    j->scope = outer;
}

/* ---- expressions ----------------------------------------------------------------------------- */

static jinja_value eval_collection(jinja *j, const jinja_node *node) {
    jinja_value made = jinja_new(j, node->value.kind);
    for (const jinja_node *item = node->a; item && !j->status; item = item->next) {
        jinja_value v = evaluate(j, made.kind == JINJA_DICT ? item->a : item);
        if (made.kind == JINJA_DICT) jinja_set(j, made.list, v, evaluate(j, item->b));
        else jinja_append(j, made.list, v);
    }
    return made;
}

static jinja_value eval_slice(jinja *j, const jinja_node *node) {
    const jinja_node *const parts[3] = {node->b, node->c, node->d};
    jinja_value object = evaluate(j, node->a), bounds[3];
    for (int i = 0; i < 3; i++) bounds[i] = parts[i] ? evaluate(j, parts[i]) : jinja_none();
    return j->status ? object : jinja_slice(j, object, bounds);
}

static jinja_value eval_sign(jinja *j, const jinja_node *node) {
    jinja_value v = evaluate(j, node->a);
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%s", v.why);
    if (!j->status && !jinja_is_number(v))
        return jinja_fail(j, "bad operand type for unary operator: '%s'", jinja_type(v));
    return jinja_operate(j, JINJA_MUL, v, jinja_int(node->op));
}

static jinja_value eval_binary(jinja *j, const jinja_node *node) {
    jinja_value left = evaluate(j, node->a);
    if (node->op == JINJA_OR && jinja_truth(left)) return left;
    if (node->op == JINJA_AND && !jinja_truth(left)) return left;
    jinja_value right = evaluate(j, node->b);
    j->line = node->line;
    if (node->op == JINJA_OR || node->op == JINJA_AND) return right;
    return jinja_operate(j, (jinja_op)node->op, left, right);
}

static jinja_value eval_condition(jinja *j, const jinja_node *node) {
    if (jinja_truth(evaluate(j, node->b))) return evaluate(j, node->a);
    if (node->c) return evaluate(j, node->c);
    return jinja_undefined(j, "the inline if of line %d was false and has no else", node->line);
}

static jinja_value eval_part(jinja *j, const jinja_node *node) {
    jinja_value object = evaluate(j, node->a), key = node->value;
    if (node->kind == NODE_ITEM) key = evaluate(j, node->b);
    j->line = node->line;
    if (j->status) return jinja_none();
    if (object.kind == JINJA_LOOP && key.kind == JINJA_STRING)
        return loop_attribute(j, object.loop, *key.text);
    if (node->kind == NODE_ITEM) return jinja_item(j, object, key);
    return jinja_attribute(j, object, *key.text);
}

static jinja_value eval_kind(jinja *j, const jinja_node *node) {
    switch (node->kind) {
    case NODE_CONSTANT: return node->value;
    case NODE_NAME: return eval_name(j, node->value);
    case NODE_COLLECTION: return eval_collection(j, node);
    case NODE_ATTRIBUTE:
    case NODE_ITEM: return eval_part(j, node);
    case NODE_SLICE: return eval_slice(j, node);
    case NODE_CALL: return eval_call(j, node);
    case NODE_FILTER:
    case NODE_TEST: return eval_filter_or_test(j, node);
    case NODE_NOT: return jinja_bool(!jinja_truth(evaluate(j, node->a)));
    case NODE_SIGN: return eval_sign(j, node);
    case NODE_BINARY: return eval_binary(j, node);
    case NODE_CAPTURE:
        return capture(j, new_scope(j, j->scope), node->a, NULL, jinja_none());
    default: return eval_condition(j, node);
    }
}

static jinja_value evaluate(jinja *j, const jinja_node *node) {
    j->line = node->line;
    if (jinja_enter(j)) return jinja_none();
    jinja_value v = eval_kind(j, node);
    jinja_leave(j);
    return v;
}

/* ---- statements ------------------------------------------------------------------------------ */

static void execute_one(jinja *j, const jinja_node *node) {
    jinja_node_kind kind = node->kind;
    if (kind == NODE_PRINT) jinja_put_str(j, j->out, evaluate(j, node->a));
    else if (kind == NODE_IF)
        execute(j, jinja_truth(evaluate(j, node->a)) ? node->b : node->c);
    else if (kind == NODE_FOR) run_loop(j, node, evaluate(j, node->b), 0);
    else if (kind == NODE_SET) assign(j, node->a, evaluate(j, node->b));
    else if (kind == NODE_MACRO) set_variable(j, node->value, macro_value(j, node));
    else j->flow = kind == NODE_BREAK ? JINJA_BREAKS : JINJA_CONTINUES;
}

static void execute(jinja *j, const jinja_node *list) {
    for (const jinja_node *node = list; node && !j->status && !j->flow; node = node->next) {
        j->line = node->line;
        if (jinja_enter(j)) return;
        execute_one(j, node);
        jinja_leave(j);
    }
}

/* ---- a rendering ----------------------------------------------------------------------------- */

/* The role of a message is the caller's own word, and templates make tokens of it:
 * '<|' + role + '|>'. One of other characters than a word's stays content. */
static void unmark_role(jinja *j, jinja_value message) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_";
    if (j->status || message.kind != JINJA_DICT) return;
    jinja_value *role = jinja_find_name(j, message.list, jinja_literal("role"));
    if (!role || role->kind != JINJA_STRING) return;
    for (size_t i = 0; i < role->text->len; i++)
        if (!memchr(letters, role->text->bytes[i], sizeof letters - 1)) return;
    *role = jinja_string(j, (jinja_text){role->text->bytes, NULL, role->text->len});
}

/* A value of the caller; the elements of an array, such as messages, are told apart. */
static jinja_value content(jinja *j, const gqa_json_node *node) {
    j->mark = 1;
    if (node->kind != GQA_JSON_ARRAY) return jinja_from_json(j, node);
    jinja_value v = jinja_new(j, JINJA_LIST);
    const gqa_json_node *at = node + 1;
    for (size_t i = 0; at < node + node->size && !j->status; at += at->size, i++) {
        j->mark = GQA_JINJA_MARK(i);
        jinja_value item = jinja_from_json(j, at);
        unmark_role(j, item);
        jinja_append(j, v.list, item);
    }
    return v;
}

static void define_variables(jinja *j, const gqa_jinja_variable *variables, int n) {
    j->scope = new_scope(j, NULL);
    for (int i = 0; i < n && !j->status; i++) {
        const gqa_jinja_variable *v = &variables[i];
        jinja_value value = jinja_bool(v->is_true);
        if (v->json) value = content(j, v->json);
        else if (v->text) value = jinja_string(j, jinja_literal(v->text));
        define(j, v->name, value);
    }
    for (int i = 0; i < 2; i++) {
        define(j, i ? "True" : "true", jinja_bool(1));
        define(j, i ? "False" : "false", jinja_bool(0));
        define(j, i ? "None" : "none", jinja_none());
    }
}

static int copy_output(jinja *j, const jinja_builder *b, gqa_jinja_output *out) {
    out->text = malloc(b->len + 1);
    out->is_content = malloc(b->len + 1);
    if (!out->text || !out->is_content) {
        gqa_jinja_output_free(out);
        return gqa_fail(j->err, GQA_ERR_MEMORY, "chat template: no memory for %zu bytes", b->len);
    }
    if (b->len) {
        memcpy(out->text, b->bytes, b->len);
        memcpy(out->is_content, b->is_content, b->len);
    }
    out->text[b->len] = 0;
    out->len = b->len;
    return 0;
}

int gqa_jinja_render(const char *source, size_t len, const gqa_jinja_variable *variables, int n,
                     const char *date, gqa_jinja_output *out, gqa_error *err) {
    jinja_builder text = {0};
    jinja j = {.err = err, .date = date, .out = &text};
    *out = (gqa_jinja_output){0};
    const jinja_token *tokens = jinja_tokens(&j, source, len);
    const jinja_node *body = tokens ? jinja_parse(&j, tokens) : NULL;
    define_variables(&j, variables, n);
    execute(&j, body);
    if (j.flow) jinja_fail(&j, "break or continue outside of a loop");
    if (!j.status) j.status = copy_output(&j, &text, out);
    jinja_free_all(&j);
    return j.status;
}

void gqa_jinja_output_free(gqa_jinja_output *out) {
    free(out->text);
    free(out->is_content);
    *out = (gqa_jinja_output){0};
}
