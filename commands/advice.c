/* advice.c: whether a model fits into so much memory at a context, what its speed depends on there,
 * which caches and numbers of KV heads would change it, and what each number costs by the formulas
 * of Chen et al. 2025, "Cost-Optimal Grouped-Query Attention for Long-Context Modeling", arXiv
 * 2503.09579, equations 3 to 5. Layers count with their own windows, head sizes and caches. */
#include "advice.h"

#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "../kernels/tensor.h"
#include "../kernels/threads.h"
#include "command.h"
#include "machine.h"

static const gqa_type types[] = {GQA_TYPE_F16, GQA_TYPE_Q8_0, GQA_TYPE_Q4_0};
enum { N_TYPES = array_length(types), MAX_COUNTS = 16 };

/* One choice: a cache type and a number of KV heads (OWN_HEADS: as the model is). */
enum { OWN_HEADS = 0 };
typedef struct choice {
    gqa_type type;
    int kv_heads;
} choice;
static const choice as_it_is = {GQA_TYPE_F16, OWN_HEADS};

/* Bytes of all sequences' caches at n positions. */
static double cache_bytes(const advice *a, choice c, int n) {
    const gqa_type_info *t = gqa_type_info_of((int)c.type);
    if (c.kv_heads == OWN_HEADS) return a->batch * (double)gqa_model_kv_bytes(a->model, c.type, n);
    return a->batch * kv_values(a->model, c.kv_heads, n) * t->bytes / t->block;
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

/* MLA and GTA: a row of the cache is key and value. */
static int is_shared(const gqa_model *m) {
    return gqa_model_config(m)->latent_dim || gqa_model_config(m)->tied_kv;
}

/* The numbers of KV heads to show: MHA, the model's own as OWN_HEADS, each half of the last; of MLA
 * and GTA what they would be as MHA, each half of that, and themselves. */
static int head_counts(const gqa_model *m, int counts[MAX_COUNTS]) {
    const gqa_config *c = gqa_model_config(m);
    int first = is_shared(m) ? c->n_heads : c->n_kv_heads, n = 0;
    if (first < c->n_heads) counts[n++] = c->n_heads;
    for (int heads = first; heads >= 1 && n < MAX_COUNTS - 1; heads /= 2)
        if (first % heads == 0 || heads == 1)
            counts[n++] = heads == first && !is_shared(m) ? OWN_HEADS : heads;
    if (is_shared(m)) counts[n++] = OWN_HEADS;
    return n;
}

/* "MHA", "GQA-4": the model with that many KV heads. */
static const char *name_of(const advice *a, int kv_heads, char buf[16]) {
    gqa_config shape = *gqa_model_config(a->model);
    if (kv_heads != OWN_HEADS) {
        shape.n_kv_heads = kv_heads;
        shape.latent_dim = shape.tied_kv = 0;
    }
    return attention_name(&shape, buf);
}

/* ---- time a token -------------------------------------------------------------------------- */

/* Seconds that a step of all sequences takes at least, by each of its causes. */
typedef struct bounds {
    double weights, cache, arithmetic;
    machine_limits limits;
} bounds;

static int find_bounds(const advice *a, bounds *b) {
    const gqa_model_stats *s = gqa_model_get_stats(a->model);
    machine *m = machine_new(gqa_threads_default(), NULL, 0);
    if (!m) return fail("out of memory for measuring the machine");
    machine_measure(m, 3, &b->limits);
    machine_free(m);
    double rate = strchr(s->type_name, 'q') ? b->limits.int8_ops : b->limits.float_ops;
    double attention = attention_macs(a->model, OWN_HEADS, a->context);
    b->weights = (double)s->decode_bytes / b->limits.read_bytes;
    b->cache = cache_bytes(a, as_it_is, a->context) / b->limits.read_bytes;
    b->arithmetic = a->batch * ((double)s->matmul_params / rate + attention / b->limits.float_ops);
    return 0;
}

static const char *binding(const bounds *b) {
    if (b->arithmetic > b->weights + b->cache) return "arithmetic";
    return b->cache > b->weights ? "reading the cache" : "reading the weights";
}

/* ---- the costs of arXiv 2503.09579 ----------------------------------------------------------- */

static double cost_memory(const advice *a, double n_params, int kv_heads) {
    return n_params + kv_values(a->model, kv_heads, a->context);
}
static double cost_compute(const advice *a, double n_params, int kv_heads) {
    return 2 * n_params + 2 * attention_macs(a->model, kv_heads, a->context);
}
static double cost(const advice *a, double n_params, int kv_heads) {
    return 0.9 * sqrt(cost_memory(a, n_params, kv_heads)) +
           0.1 * cbrt(cost_compute(a, n_params, kv_heads));
}

/* The parameters with which that many heads cost as much as the model does; NaN: none. */
static double equal_cost_params(const advice *a, int kv_heads) {
    double n_params = (double)gqa_model_get_stats(a->model)->n_params, low = 0, high = 1e15;
    double wanted = cost(a, n_params, OWN_HEADS);
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
    return (double)gqa_model_get_stats(a->model)->n_params / kv_values(a->model, 1, a->context);
}

/* ---- as text -------------------------------------------------------------------------------- */

static void show_needs(const advice *a) {
    char buf[32];
    const gqa_config *c = gqa_model_config(a->model);
    double needed = needed_bytes(a, as_it_is, a->context);
    printf("\nAt %d positions, %d sequence%s, in %s of memory:\n", a->context, a->batch,
           plural(a->batch), human_bytes(a->memory, buf));
    printf("  weights        %10s   as in the file\n",
           human_bytes((double)gqa_model_get_stats(a->model)->weight_bytes, buf));
    printf("  KV cache, f16  %10s   sequences x sum over layers with a cache of\n"
           "  %27s%s x min(positions, window) x 2 bytes\n",
           human_bytes(cache_bytes(a, as_it_is, a->context), buf), "",
           c->latent_dim ? "(kv_lora + rope)"
           : c->tied_kv ? "(KV heads x head_dim + rope)" : "2 x KV heads x head_dim");
    printf("  together       %10s   %.0f%% of the memory: %s\n", human_bytes(needed, buf),
           100 * needed / a->memory, needed <= a->memory ? "fits" : "does not fit");
}

static void show_bounds(const advice *a, const bounds *b) {
    int is_latent = gqa_model_config(a->model)->latent_dim > 0;
    printf("A step takes at least, at the %.1f GB/s, %.0f GMAC/s (f32) and %.0f GMAC/s (int8) "
           "measured now:\n", b->limits.read_bytes * 1e-9, b->limits.float_ops * 1e-9,
           b->limits.int8_ops * 1e-9);
    printf("  weights        %7.2f ms   bytes read a token / bytes a second\n", 1e3 * b->weights);
    printf("  KV cache       %7.2f ms   bytes of cache / bytes a second\n", 1e3 * b->cache);
    printf("  arithmetic     %7.2f ms   sequences x (matrix weights + query heads x %s\n"
           "  %27sx positions, all layers) / multiply-adds a second\n", 1e3 * b->arithmetic,
           is_latent ? "(2 kv_lora + rope)" : "2 x head_dim", "");
    printf("  what binds     %s\n", binding(b));
}

static void show_choice(const advice *a, const char *name, choice c, const char *note) {
    char buf[32];
    double needed = needed_bytes(a, c, a->context);
    printf("  %-8s %-6s", name, gqa_type_name((int)c.type));
    printf(" %12s", human_bytes(cache_bytes(a, c, a->context), buf));
    printf(" %12s  %-4s %16d %10d%s\n", human_bytes(needed, buf),
           needed <= a->memory ? "yes" : "no", longest_context(a, c), most_sequences(a, c), note);
}

static void show_choices(const advice *a) {
    char buf[16];
    int counts[MAX_COUNTS], n = head_counts(a->model, counts), found = 0, is_less = 0;
    printf("\n  %-8s %-6s %12s %12s  %-4s %16s %10s\n", "", "cache", "caches", "together", "fits",
           "longest context", "sequences");
    for (int i = 0; i < n; i++)
        for (int t = 0; t < N_TYPES; t++) {
            choice c = {types[t], counts[i]};
            is_less |= counts[i] == OWN_HEADS; /* and all rows after it */
            int fits = is_less && needed_bytes(a, c, a->context) <= a->memory;
            const char *note = counts[i] == OWN_HEADS && t == 0 ? "   <- this model"
                             : fits && !found ? "   <- the least change that fits" : "";
            found |= fits;
            show_choice(a, name_of(a, counts[i], buf), c, note);
        }
    printf("  longest context: weights + caches <= memory; sequences: (memory - weights) / one's "
           "cache\n");
    if (a->context > gqa_model_config(a->model)->context_length)
        printf("  The model was made for %d positions.\n",
               gqa_model_config(a->model)->context_length);
    if (!found)
        printf("  Nothing of this fits: smaller weights (run convert --type) or fewer positions "
               "would.\n");
}

static void show_costs(const advice *a) {
    char buf[32];
    int counts[MAX_COUNTS], n = head_counts(a->model, counts);
    double n_params = (double)gqa_model_get_stats(a->model)->n_params;
    const gqa_config *c = gqa_model_config(a->model);
    printf("\nCost of a token at %d positions (arXiv 2503.09579, in values and operations; N: the\n"
           "parameters, S: head_dim x min(positions, window), summed over all layers, in M\n"
           "those with a cache):\n", a->context);
    printf("  M = N + 2 S n_kv, C = 2 N + 4 S n_h, Z = 0.9 M^(1/2) + 0.1 C^(1/3)\n");
    if (c->tied_kv) printf("  of GTA itself KV heads x head_dim + rope instead of 2 S n_kv\n");
    if (c->latent_dim)
        printf("  2 head_dim: the numbers of a head's K and V; of MLA itself kv_lora + rope in M,\n"
               "  2 kv_lora + rope in C\n");
    printf("  N of equal Z: with which a row costs what this model does\n\n");
    printf("  %-8s %10s %10s %10s   %s\n", "", "M", "C", "Z", "N of equal Z");
    for (int i = 0; i < n; i++) {
        double equal = equal_cost_params(a, counts[i]);
        printf("  %-8s %9.4gM %9.4gM %10.5g   ", name_of(a, counts[i], buf),
               cost_memory(a, n_params, counts[i]) / 1e6,
               cost_compute(a, n_params, counts[i]) / 1e6, cost(a, n_params, counts[i]));
        if (isnan(equal)) printf("none\n");
        else printf("%.4gM\n", equal / 1e6);
    }
    double values = kv_values(a->model, OWN_HEADS, a->context);
    printf("The cache holds as many values as there are parameters at N / (2 S) = %.2f KV heads;\n"
           "%s.\nCost-optimal, for the paper, is the row whose model of equal Z has the least "
           "loss,\nwhich it fits to trained models; arithmetic alone does not give it.\n",
           balanced_heads(a), values <= n_params
               ? "this model's holds no more, so its parameters cost more than its cache"
               : "this model's holds more: a smaller one and more parameters cost the same");
}

void advice_text(const advice *a) {
    bounds b;
    show_needs(a);
    fflush(stdout); /* the machine is measured next */
    if (!find_bounds(a, &b)) show_bounds(a, &b);
    show_choices(a);
    show_costs(a);
}

/* ---- as JSON -------------------------------------------------------------------------------- */

void advice_json(const advice *a, json_writer *j) {
    int counts[MAX_COUNTS], n = head_counts(a->model, counts);
    double n_params = (double)gqa_model_get_stats(a->model)->n_params;
    int own = gqa_model_config(a->model)->n_kv_heads;
    char buf[16];
    bounds b;
    json_begin(j, "advice", '{');
    json_double(j, "memory", a->memory);
    json_int(j, "context", a->context);
    json_int(j, "sequences", a->batch);
    json_double(j, "needed_bytes", needed_bytes(a, as_it_is, a->context));
    if (!find_bounds(a, &b)) json_string(j, "binds", binding(&b));
    json_double(j, "balanced_kv_heads", balanced_heads(a));
    json_begin(j, "choices", '[');
    for (int i = 0; i < n; i++)
        for (int t = 0; t < N_TYPES; t++) {
            choice c = {types[t], counts[i]};
            json_begin(j, NULL, '{');
            json_string(j, "attention", name_of(a, counts[i], buf));
            json_int(j, "kv_heads", counts[i] == OWN_HEADS ? own : counts[i]);
            json_string(j, "kv", gqa_type_name((int)types[t]));
            json_double(j, "cache_bytes", cache_bytes(a, c, a->context));
            json_int(j, "longest_context", longest_context(a, c));
            json_int(j, "most_sequences", most_sequences(a, c));
            json_double(j, "cost", cost(a, n_params, counts[i]));
            json_end(j, '}');
        }
    json_end(j, ']');
    json_end(j, '}');
}
