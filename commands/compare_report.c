/* compare_report.c: what `run compare` found, as tables, CSV, JSON and a chart. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "chart.h"
#include "compare.h"
#include "json.h"

const char *variant_name(const comparison *c, const variant *v, char buf[16]) {
    if (v->kv_heads == c->config.n_heads) return "MHA";
    if (v->kv_heads == 1) return "MQA";
    snprintf(buf, 16, "GQA-%d", v->kv_heads);
    return buf;
}

uint64_t variant_kv_bytes(const comparison *c, const variant *v, int cache) {
    return gqa_kv_bytes_per_position(gqa_model_config(v->model), (gqa_type)c->kv_types[cache]);
}

static double decode_speed(const variant *v, int cache, int depth) { return sample_median(&v->decode[cache][depth]); }

/* Bytes read a second: weights and the cache of the depth (a token on average half way through the run). */
static double decode_bytes(const comparison *c, const variant *v, int cache, int depth) {
    double kv = (double)variant_kv_bytes(c, v, cache) * (c->depths[depth] + c->tokens / 2.0);
    return ((double)v->stats.decode_bytes + kv) * decode_speed(v, cache, depth);
}

static int fits(const comparison *c, double bytes_per_position, int depth) {
    int positions = depth + c->tokens;
    return (int)fmin(c->memory / (bytes_per_position * positions), 1e9);
}

static void speed_rows(const comparison *c, int cache) {
    char name[16];
    printf("%-8s %12s", "", "prefill");
    for (int d = 0; d < c->n_depths; d++) printf("   decode at %-6d", c->depths[d]);
    printf("\n%-8s %7s%-5d", "", "pp", c->prompt);
    for (int d = 0; d < c->n_depths; d++) printf("   %7s %5s %4s", "tok/s", "x MHA", "GB/s");
    printf("\n");
    for (int i = 0; i < c->n; i++) {
        const variant *v = &c->v[i];
        printf("%-8s %12.0f", variant_name(c, v, name), sample_median(&v->prefill));
        for (int d = 0; d < c->n_depths; d++)
            printf("   %7.*f %5.2f %4.1f", decode_speed(v, cache, d) < 100 ? 1 : 0, decode_speed(v, cache, d), decode_speed(v, cache, d) / decode_speed(&c->v[0], cache, d),
                   decode_bytes(c, v, cache, d) * 1e-9);
        printf("\n");
    }
}

static void memory_rows(const comparison *c) {
    char name[16], bytes[32];
    printf("%-8s %5s %14s", "", "cache", "KV a position");
    for (int d = 0; d < c->n_depths; d++)
        if (c->depths[d] > 0) printf("   %10s%-6d %4s", "at ", c->depths[d], "fit");
    printf("\n");
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->n_kv; k++) {
            double each = (double)variant_kv_bytes(c, &c->v[i], k);
            printf("%-8s %5s %14s", variant_name(c, &c->v[i], name), c->kv_names[k], human_bytes(each, bytes));
            for (int d = 0; d < c->n_depths; d++)
                if (c->depths[d] > 0) printf("   %16s %4d", human_bytes(each * c->depths[d], bytes), fits(c, each, c->depths[d]));
            printf("\n");
        }
    double mla = 4.5 * c->config.head_dim * c->config.n_layers * 2;
    printf("%-8s %5s %14s", "MLA", "f16", human_bytes(mla, bytes));
    for (int d = 0; d < c->n_depths; d++)
        if (c->depths[d] > 0) printf("   %16s %4d", human_bytes(mla * c->depths[d], bytes), fits(c, mla, c->depths[d]));
    printf("   by arithmetic: 4.5 head_dim a layer (DeepSeek-V2, table 1)\n");
    printf("\"fit\": sequences of that length in %s of memory\n", human_bytes(c->memory, bytes));
}

static void quality_rows(const comparison *c) {
    char name[16];
    printf("\n%-8s %5s %12s %10s %14s %10s\n", "", "cache", "perplexity", "+/-", "KL to f32", "same top");
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->n_kv; k++) {
            const score *s = &c->v[i].scores[k];
            printf("%-8s %5s %12.4f %10.4f", variant_name(c, &c->v[i], name), c->kv_names[k], score_perplexity(s), score_error(s));
            printf(" %14.6f %9.2f%%%s\n", s->divergence / (double)s->n, 100.0 * (double)s->same_top / (double)s->n,
                   s->divergence / (double)s->n > 0.1 ? "  <- ruined" : "");
        }
}

void compare_table(const comparison *c) {
    const gqa_config *g = &c->config;
    double spread = 0;
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->n_kv; k++)
            for (int d = 0; d < c->n_depths; d++) spread = fmax(spread, sample_spread(&c->v[i].decode[k][d]));
    printf("%d layers, dim %d, %d query heads of %d, ffn %d, vocabulary %d, weights %s, %d threads, %s; medians of %d interleaved rounds,\n"
           "each within %.0f%% of its median; this machine reads %.1f GB/s\n\n",
           g->n_layers, g->dim, g->n_heads, g->head_dim, g->ffn_dim, g->vocab_size, c->v[0].stats.type_name, c->limits.n_threads, c->v[0].stats.isa, c->rounds,
           100 * spread, c->limits.read_bytes * 1e-9);
    for (int k = 0; k < c->n_kv; k++) {
        printf("%s cache\n", c->kv_names[k]);
        speed_rows(c, k);
        printf("\n");
    }
    memory_rows(c);
    if (c->has_scores) quality_rows(c);
}

void compare_csv(const comparison *c) {
    char name[16];
    printf("variant,kv_heads,kv_type,depth,kv_bytes_per_position,prefill_tokens_per_second,decode_tokens_per_second,ratio_to_first,bytes_per_second,"
           "perplexity,kl_to_f32\n");
    for (int i = 0; i < c->n; i++)
        for (int k = 0; k < c->n_kv; k++)
            for (int d = 0; d < c->n_depths; d++) {
                const variant *v = &c->v[i];
                printf("%s,%d,%s,%d,%llu,%.2f,%.3f,%.4f,%.4g,", variant_name(c, v, name), v->kv_heads, c->kv_names[k], c->depths[d],
                       (unsigned long long)variant_kv_bytes(c, v, k), sample_median(&v->prefill), decode_speed(v, k, d),
                       decode_speed(v, k, d) / decode_speed(&c->v[0], k, d), decode_bytes(c, v, k, d));
                if (c->has_scores) printf("%.5f,%.6f", score_perplexity(&v->scores[k]), v->scores[k].divergence / (double)v->scores[k].n);
                else printf(",");
                printf("\n");
            }
}

static void json_decoding(json_writer *j, const comparison *c, const variant *v, int cache) {
    json_begin(j, "decode", '[');
    for (int d = 0; d < c->n_depths; d++) {
        json_begin(j, NULL, '{');
        json_int(j, "depth", c->depths[d]);
        json_double(j, "tokens_per_second", decode_speed(v, cache, d));
        json_double(j, "spread", sample_spread(&v->decode[cache][d]));
        json_double(j, "bytes_per_second", decode_bytes(c, v, cache, d));
        json_end(j, '}');
    }
    json_end(j, ']');
}

static void json_variant(json_writer *j, const comparison *c, const variant *v) {
    char name[16];
    json_begin(j, NULL, '{');
    json_string(j, "name", variant_name(c, v, name));
    json_int(j, "kv_heads", v->kv_heads);
    json_double(j, "prefill", sample_median(&v->prefill));
    json_begin(j, "caches", '[');
    for (int k = 0; k < c->n_kv; k++) {
        json_begin(j, NULL, '{');
        json_string(j, "type", c->kv_names[k]);
        json_int(j, "bytes_per_position", (int64_t)variant_kv_bytes(c, v, k));
        if (c->has_scores) {
            json_double(j, "perplexity", score_perplexity(&v->scores[k]));
            json_double(j, "kl_to_f32", v->scores[k].divergence / (double)v->scores[k].n);
        }
        json_decoding(j, c, v, k);
        json_end(j, '}');
    }
    json_end(j, ']');
    json_end(j, '}');
}

void compare_json(const comparison *c) {
    const gqa_config *g = &c->config;
    json_writer j = json_open();
    json_int(&j, "layers", g->n_layers);
    json_int(&j, "dim", g->dim);
    json_int(&j, "heads", g->n_heads);
    json_int(&j, "head_dim", g->head_dim);
    json_int(&j, "threads", c->limits.n_threads);
    json_int(&j, "rounds", c->rounds);
    json_double(&j, "read_bytes_per_second", c->limits.read_bytes);
    json_double(&j, "mla_bytes_per_position", 9.0 * g->head_dim * g->n_layers);
    json_begin(&j, "variants", '[');
    for (int i = 0; i < c->n; i++) json_variant(&j, c, &c->v[i]);
    json_end(&j, ']');
    json_close(&j);
}

int compare_svg(const comparison *c) {
    static double x[MAX_VARIANTS][MAX_DEPTHS], y[MAX_VARIANTS][MAX_DEPTHS], groups[MAX_VARIANTS], times[MAX_VARIANTS];
    static char names[MAX_VARIANTS][16];
    char title[80], caption[200], name[16];
    FILE *f = fopen(c->svg_path, "w");
    if (!f) return fail("%s: cannot write: %s", c->svg_path, strerror(errno));
    chart charts[2] = {{.title = "Decoding, tokens a second", .x_label = "positions in the cache", .y_label = "tokens/s, one sequence"},
                       {.title = title, .x_label = "KV heads (1: MQA)", .y_label = "ms a token", .log_x = 1}};
    int deepest = c->n_depths - 1;
    snprintf(title, sizeof title, "Time a token at depth %d", c->depths[deepest]);
    for (int i = 0; i < c->n; i++) {
        snprintf(names[i], sizeof names[i], "%s", variant_name(c, &c->v[i], name));
        for (int d = 0; d < c->n_depths; d++) x[i][d] = c->depths[d], y[i][d] = decode_speed(&c->v[i], 0, d);
        charts[0].series[charts[0].n_series++] = (chart_series){names[i], x[i], y[i], c->n_depths};
        groups[i] = c->v[i].kv_heads;
        times[i] = 1000 / decode_speed(&c->v[i], 0, deepest);
    }
    charts[1].series[charts[1].n_series++] = (chart_series){"time a token", groups, times, c->n};
    snprintf(caption, sizeof caption, "%d layers, dim %d, %d heads of %d, weights %s, %s cache, %d threads; medians of %d interleaved rounds", c->config.n_layers, c->config.dim,
             c->config.n_heads, c->config.head_dim, c->v[0].stats.type_name, c->kv_names[0], c->limits.n_threads, c->rounds);
    chart_write(f, charts, 2, caption);
    int failed = ferror(f);
    if (fclose(f) || failed) return fail("%s: cannot write: %s", c->svg_path, strerror(errno));
    return EXIT_SUCCESS;
}
