/* compare_page.c: what `run compare` found, as charts and as one page of HTML. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "../base/os.h"
#include "chart.h"
#include "compare.h"

enum { MAX_CONTEXTS = 12 };

/* The figures of all charts: a row a variant. */
typedef struct chart_data {
    double speed[MAX_VARIANTS][2][MAX_DEPTHS], groups[MAX_VARIANTS], times[MAX_VARIANTS];
    double cache[MAX_VARIANTS][2][MAX_CONTEXTS], quality[MAX_VARIANTS][2][MAX_CACHES];
    char title[80], memory[48], caption[240];
} chart_data;

/* Adds the point (x, y), unless it was not measured, in order of x. */
static void add_point(chart_series *s, double *xs, double *ys, double x, double y) {
    if (!isfinite(x) || !isfinite(y)) return;
    int at = s->n++;
    for (; at > 0 && xs[at - 1] > x; at--) {
        xs[at] = xs[at - 1];
        ys[at] = ys[at - 1];
    }
    xs[at] = x;
    ys[at] = y;
    s->x = xs;
    s->y = ys;
}

/* Tokens a second over depth, a line a variant. */
static chart speed_chart(const comparison *c, chart_data *data) {
    chart result = {
        .title = "Decoding, tokens a second",
        .x_label = "positions in the cache",
        .y_label = "tokens/s, one sequence",
        .n_series = c->n_variants,
    };
    for (int i = 0; i < c->n_variants; i++) {
        const variant *v = &c->variants[i];
        result.series[i].name = v->name;
        for (int d = 0; d < c->n_depths; d++)
            add_point(&result.series[i], data->speed[i][0], data->speed[i][1], c->depths[d],
                      decode_speed(v, 0, d));
    }
    return result;
}

/* Whether the variants differ in their attention only; those of one file or shape do. */
static int is_one_shape(const comparison *c) {
    const gqa_config *a = c->variants->config;
    int is_same = 1;
    for (const variant *v = c->variants + 1; v < c->variants + c->n_variants; v++) {
        const gqa_config *b = v->config;
        is_same &= a->n_layers == b->n_layers && a->dim == b->dim && a->n_heads == b->n_heads &&
                   a->ffn_dim == b->ffn_dim && a->vocab_size == b->vocab_size &&
                   (!v->path || !strcmp(c->variants->stats->type_name, v->stats->type_name));
    }
    return is_same;
}

/* Time a token at the greatest depth over KV heads, of which MLA has none. Without points where the
 * variants differ in more. */
static chart time_chart(const comparison *c, chart_data *data) {
    chart result = {
        .title = data->title, .x_label = "KV heads (1: MQA)", .y_label = "ms a token",
        .x = SCALE_LOG, .n_series = 1,
    };
    int last = c->n_depths - 1;
    snprintf(data->title, sizeof data->title, "Time a token at depth %d", c->depths[last]);
    result.series[0].name = "time a token";
    for (int i = 0; i < c->n_variants && is_one_shape(c); i++) {
        const variant *v = &c->variants[i];
        int has_heads = !v->config->latent_dim && !v->config->tied_kv;
        add_point(&result.series[0], data->groups, data->times,
                  has_heads ? v->kv_heads : (double)NAN, 1000 / decode_speed(v, 0, last));
    }
    return result;
}

/* Bytes of cache over context, with the machine's memory. */
static chart cache_chart(const comparison *c, chart_data *data) {
    char bytes[32];
    chart result = {
        .title = "KV cache of one sequence", .x_label = "positions", .y_label = "bytes",
        .x = SCALE_LOG, .y = SCALE_BYTES, .legend_left = 1, .n_series = c->n_variants,
        .limit = fmax(gqa_os_memory(), 0), .limit_name = data->memory,
    };
    snprintf(data->memory, sizeof data->memory, "this machine's memory: %s",
             human_bytes(result.limit, bytes));
    for (int i = 0; i < c->n_variants; i++) {
        result.series[i].name = c->variants[i].name;
        for (int k = 0; k <= 10; k += 2) /* 1024 to 1048576 */
            add_point(&result.series[i], data->cache[i][0], data->cache[i][1], 1024 << k,
                      cache_at(c, &c->variants[i], 0, 1024 << k));
    }
    return result;
}

/* Bits a byte over bytes of cache a position: a line a variant, over its cache types. */
static chart quality_chart(const comparison *c, chart_data *data) {
    chart result = {
        .title = "Quality against cache (lower left is better)", .x_label = "cache a position",
        .y_label = "bits a byte of text", .x = SCALE_BYTES, .y = SCALE_RANGE,
        .n_series = c->n_variants,
    };
    for (int i = 0; i < c->n_variants; i++) {
        const variant *v = &c->variants[i];
        result.series[i].name = v->name;
        for (int k = 0; k < c->n_caches; k++)
            add_point(&result.series[i], data->quality[i][0], data->quality[i][1],
                      cache_at(c, v, k, 1), score_bits(&v->scores[k]));
    }
    return result;
}

static void write_caption(const comparison *c, int has_shape, char *out, size_t size) {
    const gqa_config *g = c->variants->config;
    int used = 0;
    if (has_shape)
        used = snprintf(out, size, "%d layers, dim %d, %d heads of %d, weights %s, ", g->n_layers,
                        g->dim, g->n_heads, query_head_dim(c->variants),
                        c->variants->stats->type_name);
    snprintf(out + used, size - (size_t)used, "%s cache, %d thread%s; medians of %d interleaved "
             "round%s", c->caches[0].name, c->limits.n_threads, plural(c->limits.n_threads),
             c->rounds, plural(c->rounds));
}

/* Whatever write makes of the comparison, as a file. */
static int write_file(const comparison *c, const char *path,
                      void (*write)(const comparison *, FILE *)) {
    FILE *f = gqa_os_fopen(path, "w");
    if (!f) return fail("%s: cannot write: %s", path, strerror(errno));
    write(c, f);
    int failed = ferror(f);
    if (fclose(f) || failed) return fail("%s: cannot write: %s", path, strerror(errno));
    return EXIT_SUCCESS;
}

static void write_svg(const comparison *c, FILE *f) {
    chart_data data;
    chart charts[2] = {speed_chart(c, &data), time_chart(c, &data)};
    int n = 1 + (charts[1].series[0].n > 1);
    write_caption(c, n > 1, data.caption, sizeof data.caption);
    chart_write(f, charts, n, data.caption);
}

int compare_svg(const comparison *c) { return write_file(c, c->svg_path, write_svg); }

/* ---- the page ------------------------------------------------------------------------------- */

static const char page_begin[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\"><title>run compare</title>\n"
    "<style>body{font:15px/1.45 system-ui,sans-serif;max-width:980px;margin:24px auto;"
    "padding:0 16px;color:#222;background:#fff}h1{font-size:22px}"
    "p,pre,td:first-child{overflow-wrap:anywhere}"
    "pre{white-space:pre-wrap;background:#f2f4f6;padding:8px 12px}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}"
    ".wide{overflow-x:auto}th,td{padding:3px 9px;text-align:right;border-bottom:1px solid #ddd}"
    "td+td{white-space:nowrap}td:first-child{min-width:80px}"
    "th:first-child,td:first-child,td.l,th.l{text-align:left}"
    "svg{max-width:100%;height:auto}.charts{display:grid;gap:8px;margin:18px 0;"
    "grid-template-columns:repeat(auto-fit,minmax(min(380px,100%),1fr))}"
    "@media screen and (prefers-color-scheme:dark){body{color:#e6e6e6;background:#15181c}"
    "pre{background:#20252b}th,td{border-color:#3a3a3a}}"
    "@media print{.charts{grid-template-columns:1fr 1fr}svg,tr{break-inside:avoid}"
    "body{font-size:11px;max-width:none}table{font-size:9px}.wide{overflow:visible}"
    "th,td{padding:2px 4px}}</style></head><body>\n";

static void cells(FILE *f, const char *tag, const char *kind, const char *text) {
    fprintf(f, "<%s%s>", tag, kind);
    chart_text(f, text);
    fprintf(f, "</%s>", tag);
}

static void number(FILE *f, double v, int decimals) {
    char buf[16];
    cells(f, "td", "", cell(v, 1, decimals, buf));
}

static void table_head(const comparison *c, FILE *f) {
    char text[48];
    const int has_kl = c->has_scores && c->same_vocab;
    fputs("<table><thead><tr><th>model</th><th class=\"l\">attention</th>", f);
    fputs("<th class=\"l\">cache</th><th>a position</th>", f);
    snprintf(text, sizeof text, "prefill %d, tok/s", c->prompt);
    cells(f, "th", "", text);
    for (int d = 0; d < c->n_depths; d++) {
        snprintf(text, sizeof text, "tok/s at %d", c->depths[d]);
        cells(f, "th", "", text);
    }
    for (int b = 0; b < c->n_batches; b++) {
        snprintf(text, sizeof text, "tok/s, %d at %d", c->batches[b], c->depths[c->n_depths - 1]);
        cells(f, "th", "", text);
    }
    if (c->has_scores) fputs("<th>bits a byte</th>", f);
    if (has_kl) fputs("<th>perplexity</th><th>KL to f32</th><th>KL to first</th>", f);
    fputs("</tr></thead><tbody>\n", f);
}

static void table_row(const comparison *c, const variant *v, int cache, FILE *f) {
    char buf[32];
    const score *s = &v->scores[cache];
    fputs("<tr>", f);
    cells(f, "td", "", v->name);
    cells(f, "td", " class=\"l\"", attention_name(v->config, buf));
    cells(f, "td", " class=\"l\"", c->caches[cache].name);
    cells(f, "td", "", human_bytes(cache_at(c, v, cache, 1), buf));
    number(f, sample_median(&v->prefill), 0);
    for (int d = 0; d < c->n_depths; d++) {
        double speed = decode_speed(v, cache, d);
        number(f, speed, speed < 100);
    }
    for (int b = 0; b < c->n_batches; b++)
        cells(f, "td", "", cache ? "" : batch_cell(c, v, b, buf));
    if (c->has_scores) number(f, score_bits(s), 4);
    if (c->has_scores && c->same_vocab) {
        number(f, score_perplexity(s), 3);
        number(f, s->from[0].mean, 6);
        number(f, s->from[1].mean, 6);
    }
    fputs("</tr>\n", f);
}

static void write_page(const comparison *c, FILE *f) {
    chart_data data;
    chart charts[4] = {speed_chart(c, &data), time_chart(c, &data), cache_chart(c, &data)};
    if (c->has_scores) charts[3] = quality_chart(c, &data);
    fputs(page_begin, f);
    fputs("<h1>run compare</h1>\n<pre>", f);
    chart_text(f, c->command);
    fputs("</pre>\n<p>", f);
    char bytes[32], shape[200];
    int is_one = is_one_shape(c);
    for (const variant *v = c->variants; v < c->variants + c->n_variants && !is_one; v++) {
        describe_shape(v, shape, sizeof shape);
        chart_text(f, v->name);
        fprintf(f, ": %s<br>\n", shape);
    }
    write_caption(c, is_one, data.caption, sizeof data.caption);
    chart_text(f, data.caption);
    fprintf(f, "; %s, this machine reads %.1f GB/s and has %s of memory.</p>\n",
            c->variants->stats->isa, c->limits.read_bytes * 1e-9,
            human_bytes(gqa_os_memory(), bytes));
    fputs("<div class=\"wide\">", f);
    table_head(c, f);
    for (const variant *v = c->variants; v < c->variants + c->n_variants; v++)
        for (int k = 0; k < c->n_caches; k++) table_row(c, v, k, f);
    fputs("</tbody></table></div>\n", f);
    if (c->has_scores && !c->same_vocab) cells(f, "p", "", different_vocabularies);
    fputs("<div class=\"charts\">\n", f);
    for (int i = 0; i < 3 + c->has_scores; i++)
        if (i != 1 || charts[1].series[0].n > 1) chart_write(f, &charts[i], 1, NULL);
    fputs("</div></body></html>\n", f);
}

int compare_html(const comparison *c) { return write_file(c, c->html_path, write_page); }
