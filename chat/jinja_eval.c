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

static jinja_value *find_in_scope(const jinja_scope *scope, jinja_text name) {
    for (jinja_binding *b = scope->bindings; b; b = b->next)
        if (jinja_same_text(b->name, name)) return &b->value;
    return NULL;
}

void jinja_define(jinja *j, jinja_text name, jinja_value value) {
    jinja_value *old = find_in_scope(j->scope, name);
    if (j->status) return;
    if (old) {
        *old = value;
        return;
    }
    jinja_binding *b = jinja_alloc(j, sizeof *b);
    if (!b) return;
    *b = (jinja_binding){name, value, j->scope->bindings};
    j->scope->bindings = b;
}

static jinja_value eval_name(jinja *j, jinja_text name) {
    for (const jinja_scope *scope = j->scope; scope; scope = scope->parent) {
        const jinja_value *found = find_in_scope(scope, name);
        if (found) return *found;
    }
    jinja_value global = jinja_global(j, name);
    if (global.kind != JINJA_MISSING) return global;
    return jinja_undefined(j, "'%.*s' is undefined", (int)min_size(name.len, 80), name.bytes);
}

/* Assigns to a name, to several, or to an attribute of a namespace. */
static void assign(jinja *j, const jinja_node *target, jinja_value value) {
    if (j->status) return;
    if (target->kind == NODE_NAME) {
        jinja_define(j, target->value.text, value);
        return;
    }
    if (target->kind == NODE_ATTRIBUTE) {
        jinja_value object = evaluate(j, target->a);
        if (object.kind == JINJA_NAMESPACE) jinja_set(j, object.dict, target->value, value);
        else jinja_fail(j, "cannot assign attribute on non-namespace object");
        return;
    }
    const jinja_list *list = jinja_iterate(j, value);
    size_t n = 0;
    for (const jinja_node *part = target->a; list && part; part = part->next, n++)
        if (n < list->n) assign(j, part, list->items[n]);
    if (list && n != list->n)
        jinja_fail(j, "expected %zu values to unpack, got %zu", n, list->n);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Executes a body with variables of its own, and returns what it writes. */
static jinja_value capture(jinja *j, const jinja_node *body, jinja_scope *scope) {
    jinja_builder text = {0}, *out = j->out;
    jinja_scope *outer = j->scope;
    if (!scope) return jinja_none();
    j->out = &text;
    j->scope = scope;
    execute(j, body);
    j->out = out;
    j->scope = outer;
    return jinja_built(&text);
}

static void eval_arguments(jinja *j, const jinja_node *node, jinja_arguments *a) {
    for (; node && !j->status; node = node->next) {
        jinja_value v = evaluate(j, node->a);
        if (node->op == '*') {
            const jinja_list *list = jinja_iterate(j, v);
            for (size_t i = 0; list && i < list->n; i++)
                jinja_append(j, &a->values, list->items[i]);
        } else if (node->op == JINJA_OP_POWER) {
            if (v.kind != JINJA_DICT) jinja_fail(j, "expected a dict after **");
            for (size_t i = 0; !j->status && i < v.dict->n; i++)
                jinja_set(j, &a->named, v.dict->pairs[i].key, v.dict->pairs[i].value);
        } else if (node->value.kind == JINJA_STRING) {
            jinja_set(j, &a->named, node->value, v);
        } else {
            jinja_append(j, &a->values, v);
        }
    }
    for (size_t i = 0; i < a->named.n && !j->status; i++)
        if (a->named.pairs[i].key.kind != JINJA_STRING) jinja_fail(j, "keywords must be strings");
}

/* Defines the parameters of a macro in j->scope, its own. */
static void bind_parameters(jinja *j, const jinja_macro *macro, jinja_arguments *a) {
    size_t n = 0, used = 0;
    jinja_text name = macro->node->value.text;
    const jinja_value caller_name = jinja_string(jinja_literal("caller"));
    const jinja_value *caller = jinja_find(j, &a->named, caller_name);
    used += caller != NULL;
    jinja_define(j, caller_name.text, caller ? *caller : jinja_undefined(j, "No caller defined"));
    for (const jinja_node *p = macro->node->a; p && !j->status; p = p->next, n++) {
        const jinja_value *named = jinja_find(j, &a->named, p->value);
        jinja_value v;
        used += named != NULL;
        if (n < a->values.n) v = a->values.items[n];
        else if (named) v = *named;
        else if (p->a) v = evaluate(j, p->a);
        else v = jinja_undefined(j, "parameter '%.*s' was not provided",
                                 (int)min_size(p->value.text.len, 80), p->value.text.bytes);
        jinja_define(j, p->value.text, v);
    }
    if (a->values.n > n || used < a->named.n)
        jinja_fail(j, "macro '%.*s': expected at most %zu arguments of its own names, got others",
                   (int)min_size(name.len, 80), name.bytes, n);
}

static jinja_value call_macro(jinja *j, const jinja_macro *macro, jinja_arguments *a) {
    jinja_scope *outer = j->scope, *scope = new_scope(j, macro->scope);
    if (!scope) return jinja_none();
    j->scope = scope;
    bind_parameters(j, macro, a);
    j->scope = outer;
    jinja_value text = capture(j, macro->node->b, scope);
    if (j->flow) jinja_fail(j, "break or continue outside of a loop");
    return text;
}

static void run_loop(jinja *j, const jinja_node *node, jinja_value items, int depth);

/* loop(items) in a recursive loop. */
static jinja_value call_loop(jinja *j, const jinja_loop *loop, const jinja_arguments *a) {
    jinja_builder text = {0}, *out = j->out;
    jinja_scope *outer = j->scope;
    if (!loop->node->op) return jinja_fail(j, "the loop is not recursive");
    if (a->values.n != 1) return jinja_fail(j, "loop(): expected 1 argument");
    j->out = &text;
    j->scope = loop->scope;
    run_loop(j, loop->node, a->values.items[0], loop->depth + 1);
    j->out = out;
    j->scope = outer;
    return jinja_built(&text);
}

static jinja_value call(jinja *j, jinja_value callee, jinja_arguments *a) {
    if (j->status) return jinja_none();
    if (callee.kind == JINJA_MACRO) return call_macro(j, callee.macro, a);
    if (callee.kind == JINJA_LOOP) return call_loop(j, callee.loop, a);
    if (callee.kind == JINJA_FUNCTION)
        return jinja_run(j, callee.method->function, callee.method->self, a);
    if (callee.kind == JINJA_UNDEFINED)
        return jinja_fail(j, "%.*s", (int)callee.text.len, callee.text.bytes);
    return jinja_fail(j, "'%s' object is not callable", jinja_type(callee));
}

/* ---- expressions ----------------------------------------------------------------------------- */

static jinja_value eval_list(jinja *j, const jinja_node *node) {
    jinja_value list = jinja_new_list(j, node->kind == NODE_LIST ? JINJA_LIST : JINJA_TUPLE);
    for (const jinja_node *item = node->a; item && !j->status; item = item->next)
        jinja_append(j, list.list, evaluate(j, item));
    return list;
}

static jinja_value eval_dict(jinja *j, const jinja_node *node) {
    jinja_value dict = jinja_new_dict(j, JINJA_DICT);
    for (const jinja_node *key = node->a; key && !j->status; key = key->next->next) {
        jinja_value k = evaluate(j, key);
        jinja_set(j, dict.dict, k, evaluate(j, key->next));
    }
    return dict;
}

static jinja_value eval_slice(jinja *j, const jinja_node *node) {
    const jinja_node *const parts[3] = {node->b, node->c, node->d};
    jinja_value object = evaluate(j, node->a), bounds[3];
    for (int i = 0; i < 3; i++) {
        bounds[i] = jinja_none();
        if (parts[i]) bounds[i] = evaluate(j, parts[i]);
    }
    return jinja_slice(j, object, bounds);
}

static jinja_value eval_call(jinja *j, const jinja_node *node, const jinja_value *caller) {
    jinja_arguments a = {0};
    jinja_value callee = evaluate(j, node->a);
    eval_arguments(j, node->b, &a);
    if (caller) jinja_set(j, &a.named, jinja_string(jinja_literal("caller")), *caller);
    j->line = node->line;
    return call(j, callee, &a);
}

static jinja_value eval_filter_or_test(jinja *j, const jinja_node *node) {
    jinja_arguments a = {0};
    jinja_value v = evaluate(j, node->a);
    eval_arguments(j, node->b, &a);
    j->line = node->line;
    if (j->status) return jinja_none();
    if (node->kind == NODE_FILTER) return jinja_filter(j, node->value.text, v, &a);
    return jinja_bool(jinja_test(j, node->value.text, v, &a));
}

static int compare_holds(jinja *j, int op, jinja_value a, jinja_value b) {
    switch (op) {
    case JINJA_OP_EQ: return jinja_equal(j, a, b);
    case JINJA_OP_NE: return !jinja_equal(j, a, b);
    case JINJA_OP_IN: return jinja_contains(j, b, a);
    case JINJA_OP_NOT_IN: return !jinja_contains(j, b, a);
    case '<': return jinja_compare(j, a, b) < 0;
    case '>': return jinja_compare(j, a, b) > 0;
    case JINJA_OP_LE: return jinja_compare(j, a, b) <= 0;
    default: return jinja_compare(j, a, b) >= 0;
    }
}

/* a < b < c: a < b and b < c */
static jinja_value eval_compare(jinja *j, const jinja_node *node) {
    jinja_value left = evaluate(j, node->a);
    for (const jinja_node *operand = node->b; operand && !j->status; operand = operand->next) {
        jinja_value right = evaluate(j, operand->a);
        j->line = node->line;
        if (!j->status && !compare_holds(j, operand->op, left, right)) return jinja_bool(0);
        left = right;
    }
    return jinja_bool(1);
}

static jinja_value eval_sign(jinja *j, const jinja_node *node) {
    jinja_value v = evaluate(j, node->a);
    if (v.kind == JINJA_UNDEFINED) return jinja_fail(j, "%.*s", (int)v.text.len, v.text.bytes);
    if (!j->status && !jinja_is_number(v))
        return jinja_fail(j, "bad operand type for unary operator: '%s'", jinja_type(v));
    if (node->kind == NODE_POSITIVE) return jinja_arithmetic(j, '+', jinja_int(0), v);
    if (v.kind == JINJA_FLOAT) return jinja_float(-v.number);
    return jinja_arithmetic(j, '-', jinja_int(0), v);
}

static jinja_value eval_logic(jinja *j, const jinja_node *node) {
    jinja_value left = evaluate(j, node->a);
    return jinja_truth(left) == (node->kind == NODE_OR) ? left : evaluate(j, node->b);
}

static jinja_value eval_binary(jinja *j, const jinja_node *node) {
    jinja_value left = evaluate(j, node->a), right = evaluate(j, node->b);
    j->line = node->line;
    return jinja_arithmetic(j, node->op, left, right);
}

static jinja_value eval_condition(jinja *j, const jinja_node *node) {
    if (jinja_truth(evaluate(j, node->b))) return evaluate(j, node->a);
    if (node->c) return evaluate(j, node->c);
    return jinja_undefined(j, "the inline if-expression on line %d evaluated to false and no else "
                           "section was defined.", node->line);
}

static jinja_value eval_item(jinja *j, const jinja_node *node) {
    jinja_value object = evaluate(j, node->a), key = evaluate(j, node->b);
    j->line = node->line;
    return jinja_item(j, object, key);
}

static jinja_value eval_kind(jinja *j, const jinja_node *node) {
    switch (node->kind) {
    case NODE_CONSTANT: return node->value;
    case NODE_CAPTURED: return jinja_string(j->captured);
    case NODE_NAME: return eval_name(j, node->value.text);
    case NODE_LIST:
    case NODE_TUPLE: return eval_list(j, node);
    case NODE_DICT: return eval_dict(j, node);
    case NODE_ATTRIBUTE: return jinja_attribute(j, evaluate(j, node->a), node->value.text);
    case NODE_ITEM: return eval_item(j, node);
    case NODE_SLICE: return eval_slice(j, node);
    case NODE_CALL: return eval_call(j, node, NULL);
    case NODE_FILTER:
    case NODE_TEST: return eval_filter_or_test(j, node);
    case NODE_NOT: return jinja_bool(!jinja_truth(evaluate(j, node->a)));
    case NODE_NEGATIVE:
    case NODE_POSITIVE: return eval_sign(j, node);
    case NODE_AND:
    case NODE_OR: return eval_logic(j, node);
    case NODE_BINARY: return eval_binary(j, node);
    case NODE_COMPARE: return eval_compare(j, node);
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

/* ---- loops ----------------------------------------------------------------------------------- */

/* Whether the loop has an item `index`: takes as many of its source as that needs, because a
 * filter may depend on what the body did before. */
static int loop_has(jinja *j, jinja_loop *loop, size_t index) {
    const jinja_node *filter = loop->node->c;
    while (loop->items.n <= index && loop->taken < loop->source->n && !j->status) {
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

static int64_t loop_length(jinja *j, jinja_loop *loop) {
    loop_has(j, loop, SIZE_MAX);
    return (int64_t)loop->items.n;
}

static jinja_value loop_cycle(jinja *j, jinja_value self, const jinja_arguments *a) {
    if (a->values.n == 0) return jinja_fail(j, "no items for cycling given");
    return a->values.items[self.loop->index % a->values.n];
}

static jinja_value loop_changed(jinja *j, jinja_value self, const jinja_arguments *a) {
    jinja_value now = jinja_new_list(j, JINJA_TUPLE);
    for (size_t i = 0; i < a->values.n; i++) jinja_append(j, now.list, a->values.items[i]);
    int changed = !j->status && !jinja_equal(j, self.loop->changed, now);
    self.loop->changed = now;
    return jinja_bool(changed);
}

jinja_value jinja_loop_attribute(jinja *j, jinja_loop *loop, jinja_text name) {
    static const jinja_function methods[] = {{"cycle", NULL, loop_cycle},
                                             {"changed", NULL, loop_changed}};
    int64_t index = (int64_t)loop->index;
    if (jinja_text_is(name, "index0")) return jinja_int(index);
    if (jinja_text_is(name, "index")) return jinja_int(index + 1);
    if (jinja_text_is(name, "first")) return jinja_bool(index == 0);
    if (jinja_text_is(name, "last")) return jinja_bool(!loop_has(j, loop, loop->index + 1));
    if (jinja_text_is(name, "length")) return jinja_int(loop_length(j, loop));
    if (jinja_text_is(name, "revindex")) return jinja_int(loop_length(j, loop) - index);
    if (jinja_text_is(name, "revindex0")) return jinja_int(loop_length(j, loop) - index - 1);
    if (jinja_text_is(name, "depth")) return jinja_int(loop->depth + 1);
    if (jinja_text_is(name, "depth0")) return jinja_int(loop->depth);
    if (jinja_text_is(name, "previtem")) {
        if (index == 0) return jinja_undefined(j, "there is no previous item");
        return loop->items.items[index - 1];
    }
    if (jinja_text_is(name, "nextitem")) {
        if (!loop_has(j, loop, loop->index + 1)) return jinja_undefined(j, "there is no next item");
        return loop->items.items[index + 1];
    }
    for (size_t i = 0; i < array_length(methods); i++) {
        if (!jinja_text_is(name, methods[i].name)) continue;
        jinja_method *method = jinja_alloc(j, sizeof *method);
        jinja_value self = {.kind = JINJA_LOOP, .loop = loop};
        if (method) *method = (jinja_method){&methods[i], self};
        return (jinja_value){.kind = JINJA_FUNCTION, .method = method};
    }
    return jinja_undefined(j, "'LoopContext object' has no attribute '%.*s'",
                           (int)min_size(name.len, 80), name.bytes);
}

static void run_loop(jinja *j, const jinja_node *node, jinja_value items, int depth) {
    jinja_scope *outer = j->scope;
    jinja_loop *loop = jinja_alloc(j, sizeof *loop);
    int ended = 0;             /* some round came to its end, without break or continue */
    if (loop) *loop = (jinja_loop){.node = node, .scope = outer, .depth = depth};
    if (loop) loop->source = jinja_iterate(j, items);
    for (; !j->status && loop_has(j, loop, loop->index); loop->index++) {
        j->scope = new_scope(j, outer);
        if (!j->scope) break;
        jinja_define(j, jinja_literal("loop"), (jinja_value){.kind = JINJA_LOOP, .loop = loop});
        assign(j, node->a, loop->items.items[loop->index]);
        execute(j, node->d);
        ended |= j->flow == JINJA_GOES_ON;
        int breaks = j->flow == JINJA_BREAKS;
        j->flow = JINJA_GOES_ON;
        if (breaks) break;
    }
    j->scope = outer;
    if (ended || !node->other || j->status) return;
    j->scope = new_scope(j, outer);
    if (j->scope) execute(j, node->other);
    j->scope = outer;
}

/* ---- statements ------------------------------------------------------------------------------ */

static void execute_if(jinja *j, const jinja_node *node) {
    while (!j->status && !jinja_truth(evaluate(j, node->a))) {
        const jinja_node *otherwise = node->c;
        if (!otherwise || otherwise->kind != NODE_IF || otherwise->next) {
            execute(j, otherwise);
            return;
        }
        node = otherwise; /* elif */
    }
    execute(j, node->b);
}

static jinja_value macro_value(jinja *j, const jinja_node *node) {
    jinja_macro *macro = jinja_alloc(j, sizeof *macro);
    if (macro) *macro = (jinja_macro){node, j->scope};
    return (jinja_value){.kind = JINJA_MACRO, .macro = macro};
}

/* A block's text through its filters. */
static jinja_value filtered_block(jinja *j, const jinja_node *node) {
    jinja_text outer = j->captured;
    jinja_text text = capture(j, node->c, new_scope(j, j->scope)).text;
    if (j->status) return jinja_none();
    j->captured = text;
    jinja_value v = evaluate(j, node->b);
    j->captured = outer;
    return v;
}

static void execute_call_block(jinja *j, const jinja_node *node) {
    jinja_value caller = macro_value(j, node->b);
    if (!j->status) jinja_put_str(j, j->out, eval_call(j, node->a, &caller));
}

static void execute_scope(jinja *j, const jinja_node *node) {
    jinja_scope *outer = j->scope;
    j->scope = new_scope(j, outer);
    if (j->scope) execute(j, node->a);
    j->scope = outer;
}

static void execute_one(jinja *j, const jinja_node *node) {
    jinja_node_kind kind = node->kind;
    if (kind == NODE_TEXT) jinja_put(j, j->out, node->value.text);
    else if (kind == NODE_PRINT) jinja_put_str(j, j->out, evaluate(j, node->a));
    else if (kind == NODE_IF) execute_if(j, node);
    else if (kind == NODE_FOR) run_loop(j, node, evaluate(j, node->b), 0);
    else if (kind == NODE_SET) assign(j, node->a, evaluate(j, node->b));
    else if (kind == NODE_SET_BLOCK) assign(j, node->a, filtered_block(j, node));
    else if (kind == NODE_FILTER_BLOCK) jinja_put_str(j, j->out, filtered_block(j, node));
    else if (kind == NODE_MACRO) jinja_define(j, node->value.text, macro_value(j, node));
    else if (kind == NODE_CALL_BLOCK) execute_call_block(j, node);
    else if (kind == NODE_SCOPE) execute_scope(j, node);
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

/* A value of the caller, whose strings all get that mark. */
static jinja_value marked(jinja *j, const gqa_json_node *node, unsigned char mark) {
    size_t longest = 1;
    for (size_t i = 0; i < node->size; i++) longest = max_size(longest, node[i].len);
    unsigned char *marks = jinja_alloc(j, longest);
    if (!marks) return jinja_none();
    memset(marks, mark, longest);
    j->marks = marks;
    return jinja_from_json(j, node);
}

/* The elements of an array, such as messages, are told apart. */
static jinja_value content(jinja *j, const gqa_json_node *node) {
    if (node->kind != GQA_JSON_ARRAY) return marked(j, node, 1);
    jinja_value v = jinja_new_list(j, JINJA_LIST);
    const gqa_json_node *at = node + 1;
    for (size_t i = 0; at < node + node->size && !j->status; at += at->size, i++)
        jinja_append(j, v.list, marked(j, at, GQA_JINJA_MARK(i)));
    return v;
}

static void define_variables(jinja *j, const gqa_jinja_variable *variables, int n) {
    j->scope = new_scope(j, NULL);
    for (int i = 0; i < n && !j->status; i++) {
        const gqa_jinja_variable *v = &variables[i];
        jinja_value value = jinja_bool(v->is_true);
        if (v->json) value = content(j, v->json);
        else if (v->text) value = jinja_string(jinja_literal(v->text));
        jinja_define(j, jinja_literal(v->name), value);
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
    if (!j.status) execute(&j, body);
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
