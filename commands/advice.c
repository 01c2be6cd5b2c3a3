/* advice.c: whether a model fits into so much memory at a context, what its speed depends on there,
 * which caches and numbers of KV heads would change it, and what each number costs by the formulas
 * of Chen et al. 2025, "Cost-Optimal Grouped-Query Attention for Long-Context Modeling", arXiv
 * 2503.09579, equations 3 to 5. Layers count with their own windows, head sizes and caches. */
#include "advice.h"

#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "../kernels/threads.h"
#include "command.h"
#include "machine.h"

static const char *const types[] = {"f16", "q8_0", "q4_0"};
enum { N_TYPES = array_length(types), MAX_COUNTS = 16 };

/* One choice: a cache type and a number of KV heads (0: the model's own). */
typedef struct choice {
    const char *type;
    int kv_heads;
} choice;

/* Bytes of all sequences' caches at n positions. */
static double cache_bytes(const advice *a, choice c, int n) {
    double own = (double)kv_cache_bytes(a->model, c.type, n) * a->batch;
    if (!c.kv_heads) return own;
    double width = (double)kv_cache_bytes(a->model, c.type, 1) / /* of the type, against f16 */
                   (double)kv_cache_bytes(a->model, "f16", 1);
    return width * a->batch * cache_of_heads(a->model, c.kv_heads, n);
}

static double needed_bytes(const advice *a, choice c, int n) {
    return (double)gqa_model_get_stats(a->model)->weight_bytes + cache_bytes(a, c, n);
}

/* The most positions, or sequences of a->context, that fit. */
static int longest_context(const advice *a, choice c) {
    int low = 0, high = 1 << 30;
    while (low < high) {
        int middle = low + (high - low + 1) / 2;
        if (needed_bytes(a, c, middle) <= a->memory) low = middle;
        else high = middle - 1;
    }
    return low;
}

static int most_sequences(const advice *a, choice c) {
    double weights = (double)gqa_model_get_stats(a->model)->weight_bytes;
    double one = cache_bytes(a, c, a->context) / a->batch;
    return (int)fmin(fmax((a->memory - weights) / one, 0), 1e9);
}

/* The numbers of KV heads to show: MHA, the model's own, then each half of the last. */
static int head_counts(const gqa_model *m, int counts[MAX_COUNTS]) {
    const gqa_config *c = gqa_model_config(m);
    int n = 0;
    if (c->n_kv_heads < c->n_heads) counts[n++] = c->n_heads;
    for (int heads = c->n_kv_heads; heads >= 1 && n < MAX_COUNTS; heads /= 2)
        if (c->n_kv_heads % heads == 0 || heads == 1) counts[n++] = heads;
    return n;
}

static int is_usable(const gqa_model *m, const char *type) {
    int in_blocks = strcmp(type, "f16") != 0, is_usable = 1;
    for (int l = 0; l < gqa_model_config(m)->n_layers && in_blocks; l++)
        is_usable &= gqa_model_layer(m, l)->head_dim % 32 == 0;
    return is_usable;
}

/* ---- time a token -------------------------------------------------------------------------- */

/* Seconds that a step of all sequences takes at least, by each of its causes. */
typedef struct bounds {
    double weights, cache, arithmetic;
    machine_limits limits;
} bounds;

/* Positions that the layers attend to, weighted by their values a head: sum of d_h min(T, window);
 * of all layers, or of those that have a cache. */
static double attended(const advice *a, int with_cache) {
    double sum = 0;
    for (int l = 0; l < gqa_model_config(a->model)->n_layers; l++) {
        const gqa_layer_config *of = gqa_model_layer(a->model, l);
        int n = of->window ? min_int(of->window, a->context) : a->context;
        if (!with_cache || of->kv_layer == l) sum += (double)of->head_dim * n;
    }
    return sum;
}

static int find_bounds(const advice *a, bounds *b) {
    const gqa_model_stats *s = gqa_model_get_stats(a->model);
    machine *m = machine_new(gqa_threads_default(), NULL);
    if (!m) return fail("out of memory for measuring the machine");
    machine_measure(m, 3, &b->limits);
    machine_free(m);
    double rate = strchr(s->type_name, 'q') ? b->limits.int8_ops : b->limits.float_ops;
    double attention = 2.0 * gqa_model_config(a->model)->n_heads * attended(a, 0);
    b->weights = (double)s->decode_bytes / b->limits.read_bytes;
    b->cache = cache_bytes(a, (choice){"f16", 0}, a->context) / b->limits.read_bytes;
    b->arithmetic = a->batch * ((double)s->matmul_params / rate + attention / b->limits.float_ops);
    return 0;
}

static const char *binding(const bounds *b) {
    if (b->arithmetic > b->weights + b->cache) return "arithmetic";
    return b->cache > b->weights ? "reading the cache" : "reading the weights";
}

/* ---- the costs of arXiv 2503.09579 ----------------------------------------------------------- */

static double cost_memory(const advice *a, double n_params, int kv_heads) {
    return n_params + 2 * kv_heads * attended(a, 1);
}
static double cost_compute(const advice *a, double n_params) {
    return 2 * n_params + 4.0 * gqa_model_config(a->model)->n_heads * attended(a, 0);
}
static double cost(const advice *a, double n_params, int kv_heads) {
    return 0.9 * sqrt(cost_memory(a, n_params, kv_heads)) + 0.1 * cbrt(cost_compute(a, n_params));
}

/* The parameters with which that many heads cost as much as the model does; NaN: none. */
static double equal_cost_params(const advice *a, int kv_heads) {
    double n_params = (double)gqa_model_get_stats(a->model)->n_params, low = 0, high = 1e15;
    double wanted = cost(a, n_params, gqa_model_config(a->model)->n_kv_heads);
    if (cost(a, 0, kv_heads) > wanted) return (double)NAN;
    for (int i = 0; i < 100; i++) {
        double middle = (low + high) / 2;
        if (cost(a, middle, kv_heads) < wanted) low = middle;
        else high = middle;
    }
    return low;
}

/* KV heads whose cache holds as many values as the model has parameters. */
static double balanced_heads(const advice *a) {
    return (double)gqa_model_get_stats(a->model)->n_params / (2 * attended(a, 1));
}

/* ---- as text -------------------------------------------------------------------------------- */

static void show_needs(const advice *a) {
    char buf[32];
    choice own = {"f16", 0};
    double needed = needed_bytes(a, own, a->context);
    printf("\nAt %d positions, %d sequence%s, in %s of memory:\n", a->context, a->batch,
           a->batch == 1 ? "" : "s", human_bytes(a->memory, buf));
    printf("  weights        %10s   as in the file\n",
           human_bytes((double)gqa_model_get_stats(a->model)->weight_bytes, buf));
    printf("  KV cache, f16  %10s   sequences x sum over layers with a cache of\n"
           "  %27s2 x KV heads x head_dim x min(positions, window) x 2 bytes\n",
           human_bytes(cache_bytes(a, own, a->context), buf), "");
    printf("  together       %10s   %.0f%% of the memory: %s\n", human_bytes(needed, buf),
           100 * needed / a->memory, needed <= a->memory ? "fits" : "does not fit");
}

static void show_bounds(const bounds *b) {
    printf("A step takes at least, at the %.1f GB/s, %.0f GMAC/s (f32) and %.0f GMAC/s (int8) "
           "measured now:\n", b->limits.read_bytes * 1e-9, b->limits.float_ops * 1e-9,
           b->limits.int8_ops * 1e-9);
    printf("  weights        %7.2f ms   bytes read a token / bytes a second\n", 1e3 * b->weights);
    printf("  KV cache       %7.2f ms   bytes of cache / bytes a second\n", 1e3 * b->cache);
    printf("  arithmetic     %7.2f ms   sequences x (matrix weights + 2 x query heads x head_dim\n"
           "  %27sx positions, all layers) / multiply-adds a second\n", 1e3 * b->arithmetic, "");
    printf("  what binds     %s\n", binding(b));
}

static void show_choice(const advice *a, const char *name, choice c, const char *note) {
    char buf[32];
    double needed = needed_bytes(a, c, a->context);
    printf("  %-8s %-6s %12s", name, c.type, human_bytes(cache_bytes(a, c, a->context), buf));
    printf(" %12s  %-4s %16d %10d%s\n", human_bytes(needed, buf),
           needed <= a->memory ? "yes" : "no", longest_context(a, c), most_sequences(a, c), note);
}

static void show_choices(const advice *a) {
    char buf[16];
    int counts[MAX_COUNTS], n = head_counts(a->model, counts), found = 0;
    gqa_config shape = *gqa_model_config(a->model);
    int own = shape.n_kv_heads;
    printf("\n  %-8s %-6s %12s %12s  %-4s %16s %10s\n", "", "cache", "caches", "together", "fits",
           "longest context", "sequences");
    for (int i = 0; i < n; i++)
        for (int t = 0; t < N_TYPES; t++) {
            choice c = {types[t], counts[i] == own ? 0 : counts[i]};
            if (!is_usable(a->model, types[t])) continue;
            int fits = counts[i] <= own && needed_bytes(a, c, a->context) <= a->memory;
            const char *note = counts[i] == own && t == 0 ? "   <- this model"
                             : fits && !found ? "   <- the least change that fits" : "";
            found |= fits;
            shape.n_kv_heads = counts[i];
            show_choice(a, attention_name(&shape, buf), c, note);
        }
    if (!found)
        printf("  Nothing of this fits: smaller weights (run convert --type) or fewer positions "
               "would.\n");
}

static void show_costs(const advice *a) {
    char buf[32];
    int counts[MAX_COUNTS], n = head_counts(a->model, counts);
    double n_params = (double)gqa_model_get_stats(a->model)->n_params;
    gqa_config shape = *gqa_model_config(a->model);
    printf("\nCost of a token at %d positions (arXiv 2503.09579, in values and operations; N: the\n"
           "parameters, S: head_dim x min(positions, window), summed over all layers, in M\n"
           "those with a cache):\n", a->context);
    printf("  M = N + 2 S n_kv, C = 2 N + 4 S n_h, Z = 0.9 M^(1/2) + 0.1 C^(1/3)\n\n");
    printf("  %-8s %10s %10s %10s   %s\n", "", "M", "C", "Z", "N of equal Z");
    for (int i = 0; i < n; i++) {
        shape.n_kv_heads = counts[i];
        double equal = equal_cost_params(a, counts[i]);
        printf("  %-8s %9.4gM %9.4gM %10.5g   ", attention_name(&shape, buf),
               cost_memory(a, n_params, counts[i]) / 1e6, cost_compute(a, n_params) / 1e6,
               cost(a, n_params, counts[i]));
        if (isnan(equal)) printf("none\n");
        else printf("%.4gM\n", equal / 1e6);
    }
    double balance = balanced_heads(a);
    printf("The cache holds as many values as there are parameters at N / (2 S) = %.2f KV heads;\n"
           "%s.\nCost-optimal, for the paper, is the row whose model of equal Z has the least "
           "loss,\nwhich it fits to trained models; arithmetic alone does not give it.\n",
           balance, balance >= gqa_model_config(a->model)->n_kv_heads
                        ? "this model has no more, so its parameters cost more than its cache"
                        : "this model has more: fewer heads and more parameters cost the same");
}

void advice_text(const advice *a) {
    bounds b;
    show_needs(a);
    if (!find_bounds(a, &b)) show_bounds(&b);
    show_choices(a);
    show_costs(a);
}

/* ---- as JSON -------------------------------------------------------------------------------- */

void advice_json(const advice *a, json_writer *j) {
    int counts[MAX_COUNTS], n = head_counts(a->model, counts);
    double n_params = (double)gqa_model_get_stats(a->model)->n_params;
    int own = gqa_model_config(a->model)->n_kv_heads;
    bounds b;
    json_begin(j, "advice", '{');
    json_double(j, "memory", a->memory);
    json_int(j, "context", a->context);
    json_int(j, "sequences", a->batch);
    json_double(j, "needed_bytes", needed_bytes(a, (choice){"f16", 0}, a->context));
    if (!find_bounds(a, &b)) json_string(j, "binds", binding(&b));
    json_double(j, "balanced_kv_heads", balanced_heads(a));
    json_begin(j, "choices", '[');
    for (int i = 0; i < n; i++)
        for (int t = 0; t < N_TYPES; t++) {
            choice c = {types[t], counts[i] == own ? 0 : counts[i]};
            if (!is_usable(a->model, types[t])) continue;
            json_begin(j, NULL, '{');
            json_int(j, "kv_heads", counts[i]);
            json_string(j, "kv", types[t]);
            json_double(j, "cache_bytes", cache_bytes(a, c, a->context));
            json_int(j, "longest_context", longest_context(a, c));
            json_int(j, "most_sequences", most_sequences(a, c));
            json_double(j, "cost", cost(a, n_params, counts[i]));
            json_end(j, '}');
        }
    json_end(j, ']');
    json_end(j, '}');
}
