/* compare_baseline.c: `run compare --baseline FILE`: what changed since an earlier --json, beyond
 * the spread of both. */
#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "compare.h"

/* The value of a key of an object, or NULL; so do those below. */
static const gqa_json_node *member(const gqa_json_node *object, const char *key) {
    if (!object || object->kind != GQA_JSON_OBJECT) return NULL;
    for (const gqa_json_node *at = object + 1; at < object + object->size; at += 1 + at[1].size)
        if (!strcmp(at->text, key)) return at + 1;
    return NULL;
}

static double number(const gqa_json_node *object, const char *key) {
    const gqa_json_node *n = member(object, key);
    return n && n->kind == GQA_JSON_NUMBER ? gqa_parse_double(n->text) : (double)NAN;
}

/* The element of an array whose member `key` has that text, or that number. */
static const gqa_json_node *find(const gqa_json_node *array, const char *key, const char *text) {
    if (!array || array->kind != GQA_JSON_ARRAY) return NULL;
    for (const gqa_json_node *at = array + 1; at < array + array->size; at += at->size) {
        const gqa_json_node *value = member(at, key);
        if (value && value->text && !strcmp(value->text, text)) return at;
    }
    return NULL;
}

int baseline_read(gqa_json *json, const char *path) {
    gqa_error err = {0};
    size_t len;
    char *text = read_text(path, &len);
    if (!text) return EXIT_FAILURE;
    int status = gqa_json_parse(json, text, len, &err);
    free(text);
    if (status) return fail("%s: %s", path, err.message);
    if (member(json->nodes, "variants")) return EXIT_SUCCESS;
    return fail("%s: not what run compare --json prints: it has no \"variants\"", path);
}

/* What was compared with the baseline so far. */
typedef struct tally {
    FILE *out;
    int same, changed, unknown;
} tally;

/* spread: of both, as shares of their medians; those of quality are 0, it does not vary. */
static void compare_figure(tally *t, const char *row, const char *what, double before, double now,
                           double spread) {
    if (isnan(before) || isnan(now)) t->unknown++;
    else if (fabs(now - before) <= spread * fmax(now, before) + 1e-6 * fabs(before)) t->same++;
    else {
        fprintf(t->out, "  %-12s %-28s %10.5g -> %-10.5g %+.1f%%, spread %.1f%%\n", row, what,
                before, now, 100 * (now / before - 1), 100 * spread);
        t->changed++;
    }
}

static void compare_cache(tally *t, const comparison *c, const variant *v, int cache,
                          const gqa_json_node *before) {
    const char *kv = c->caches[cache].name;
    char what[64], depth[16];
    for (int d = 0; d < c->n_depths; d++) {
        snprintf(depth, sizeof depth, "%d", c->depths[d]);
        snprintf(what, sizeof what, "%s: decode at %s, tok/s", kv, depth);
        const gqa_json_node *old = find(member(before, "decode"), "depth", depth);
        compare_figure(t, v->name, what, number(old, "tokens_per_second"),
                       decode_speed(v, cache, d),
                       number(old, "spread") + sample_spread(&v->decode[cache][d]));
    }
    snprintf(what, sizeof what, "%s: bytes a position", kv);
    compare_figure(t, v->name, what, number(before, "bytes_per_position"),
                   cache_at(c, v, cache, 1), 0);
    if (!c->has_scores) return;
    snprintf(what, sizeof what, "%s: bits a byte", kv);
    compare_figure(t, v->name, what, number(before, "bits_per_byte"), score_bits(&v->scores[cache]),
                   0);
}

static void compare_batches(tally *t, const comparison *c, const variant *v,
                            const gqa_json_node *before) {
    for (int b = 0; b < c->n_batches; b++) {
        char what[40], n[16];
        snprintf(n, sizeof n, "%d", c->batches[b]);
        snprintf(what, sizeof what, "%s at %d, tok/s", n, c->depths[c->n_depths - 1]);
        const gqa_json_node *old = find(before, "sequences", n);
        if (number(old, "depth") != c->depths[c->n_depths - 1]) old = NULL;
        compare_figure(t, v->name, what, number(old, "tokens_per_second"),
                       sample_median(&v->batch[b]),
                       number(old, "spread") + sample_spread(&v->batch[b]));
    }
}

/* Says what else differs between the measurements. */
static void show_condition(FILE *out, const gqa_json_node *root, const char *key, int now) {
    double before = number(root, key);
    if (isnan(before)) fprintf(out, "  (it does not say %s, now %d)\n", key, now);
    else if (before != now) fprintf(out, "  (%s: %g, now %d)\n", key, before, now);
}

static void show_text(FILE *out, const gqa_json_node *root, const char *key, const char *now) {
    const gqa_json_node *n = member(root, key);
    const char *before = n && n->kind == GQA_JSON_STRING ? n->text : NULL;
    char escaped[1024];
    if (before && !strcmp(before, now)) return;
    gqa_escape(escaped, sizeof escaped, before ? before : "not said");
    fprintf(out, "  (%s: %s, ", key, escaped);
    gqa_escape(escaped, sizeof escaped, now);
    fprintf(out, "now %s)\n", escaped);
}

void baseline_show(const gqa_json *json, const comparison *c, FILE *out) {
    const gqa_json_node *root = json->nodes, *variants = member(root, "variants");
    const gqa_config *g = c->variants->config;
    tally t = {.out = out};
    char path[1024];
    gqa_escape(path, sizeof path, c->baseline_path);
    fprintf(out, "\nAgainst %s, what changed by more than both spreads together:\n", path);
    show_condition(out, root, "layers", g->n_layers);
    show_condition(out, root, "dim", g->dim);
    show_condition(out, root, "heads", g->n_heads);
    show_text(out, root, "isa", c->variants->stats->isa);
    if (c->has_scores) show_text(out, root, "text", c->text.file);
    show_condition(out, root, "threads", c->limits.n_threads);
    show_condition(out, root, "prompt", c->prompt);
    show_condition(out, root, "tokens", c->tokens);
    for (const variant *v = c->variants; v < c->variants + c->n_variants; v++) {
        const gqa_json_node *before = find(variants, "name", v->name);
        compare_figure(&t, v->name, "prefill, tok/s", number(before, "prefill"),
                       sample_median(&v->prefill),
                       number(before, "prefill_spread") + sample_spread(&v->prefill));
        for (int k = 0; k < c->n_caches; k++)
            compare_cache(&t, c, v, k, find(member(before, "caches"), "type", c->caches[k].name));
        compare_batches(&t, c, v, member(before, "batches"));
    }
    fprintf(out, "  %d changed, %d did not, %d are not in both\n", t.changed, t.same, t.unknown);
}
