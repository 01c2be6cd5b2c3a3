/* compare_report.c: what `run compare` found, as tables, CSV and JSON. */
#include <math.h>
#include <string.h>

#include "compare.h"
#include "json.h"

/* ---- figures -------------------------------------------------------------------------------- */

/* Bytes of cache a position. */
static uint64_t kv_bytes(const comparison *c, const variant *v, int cache) {
    return kv_cache_bytes(v->model, c->caches[cache].name, 1);
}

double decode_speed(const variant *v, int cache, int depth) {
    return sample_median(&v->decode[cache][depth]);
}

/* Against the first variant. */
static double speed_ratio(const comparison *c, const variant *v, int cache, int depth) {
    return decode_speed(v, cache, depth) / decode_speed(&c->variants[0], cache, depth);
}

double cache_at(const comparison *c, const variant *v, int cache, int positions) {
    if (!v) return 2 * kv_values(c->variants->model, MLA_KV_HEADS, positions); /* f16 */
    return (double)kv_cache_bytes(v->model, c->caches[cache].name, positions);
}

/* Bytes read a second by n sequences that make `speed` tokens a second together: the weights, and
 * the caches (a token is half way through on average). */
static double bytes_read(const comparison *c, const variant *v, int cache, int depth, int n,
                         double speed) {
    double kv = cache_at(c, v, cache, c->depths[depth] + c->tokens / 2);
    return ((double)v->stats->decode_bytes / n + kv) * speed;
}

static double decode_bytes(const comparison *c, const variant *v, int cache, int depth) {
    return bytes_read(c, v, cache, depth, 1, decode_speed(v, cache, depth));
}

/* Sequences of that depth in c->memory, beside the weights. v NULL: as cache_at, and as large. */
static int sequences_that_fit(const comparison *c, const variant *v, int cache, int depth) {
    double left = c->memory - (double)(v ? v : c->variants)->stats->weight_bytes;
    return (int)fmin(fmax(left, 0) / cache_at(c, v, cache, c->depths[depth] + c->tokens), 1e9);
}

/* Whether the rows are files, else one model with several numbers of KV heads. */
static int has_files(const comparison *c) { return c->variants->path != NULL; }

static double largest_spread(const comparison *c) {
    double spread = 0;
    for (int i = 0; i < c->n_variants; i++)
        for (int k = 0; k < c->n_caches; k++)
            for (int d = 0; d < c->n_depths; d++)
                spread = fmax(spread, sample_spread(&c->variants[i].decode[k][d]));
    return spread;
}

/* ---- tables --------------------------------------------------------------------------------- */

int query_head_dim(const variant *v) {
    const gqa_config *g = v->config;
    return g->latent_dim ? g->q_nope_dim + g->rope_dim : g->head_dim;
}

void describe_shape(const variant *v, char *out, size_t size) {
    const gqa_config *g = v->config;
    snprintf(out, size, "%d layers, dim %d, %d query heads of %d, ffn %d, vocabulary %d, "
             "weights %s", g->n_layers, g->dim, g->n_heads, query_head_dim(v), g->ffn_dim,
             g->vocab_size, v->stats->type_name);
}

static void show_conditions(const comparison *c) {
    int n_shapes = has_files(c) ? c->n_variants : 1;
    for (const variant *v = c->variants; v < c->variants + n_shapes; v++) {
        char buf[16], shape[200];
        describe_shape(v, shape, sizeof shape);
        if (has_files(c))
            printf("%-*s %s, ", c->name_width, v->name, attention_name(v->config, buf));
        printf("%s\n", shape);
    }
    printf("%d thread%s, %s; ", c->limits.n_threads, plural(c->limits.n_threads),
           c->variants->stats->isa);
    printf("medians of %d interleaved round%s, each within %.0f%% of its median;\n", c->rounds,
           plural(c->rounds), 100 * largest_spread(c));
    printf("this machine reads %.1f GB/s\n\n", c->limits.read_bytes * 1e-9);
}

const char *batch_cell(const comparison *c, const variant *v, int b, char buf[16]) {
    if (!batch_fits(c, v, b)) return "no memory";
    return cell(sample_median(&v->batch[b]), 1, 0, buf);
}

/* "KL to NAME" of the first variant, or "KL to first" if that is too wide for a column. */
static int to_first(const comparison *c, const char *what, char out[32]) {
    const char *name = c->variants->name;
    return snprintf(out, 32, "%s %s", what, strlen(name) <= 16 ? name : "first");
}

static void show_speed(const comparison *c, int cache) {
    char ratio[32];
    int width = to_first(c, "x", ratio);
    printf("%s cache\n%-*s %12s", c->caches[cache].name, c->name_width, "", "prefill");
    for (int d = 0; d < c->n_depths; d++)
        printf("   decode at %-*d", width + 3, c->depths[d]);
    for (int b = 0; b < c->n_batches && !cache; b++)
        printf("   %6d at %-6d", c->batches[b], c->depths[c->n_depths - 1]);
    printf("\n%-*s %7s%-5d", c->name_width, "", "pp", c->prompt);
    for (int d = 0; d < c->n_depths; d++) printf("   %7s %s %4s", "tok/s", ratio, "GB/s");
    for (int b = 0; b < c->n_batches && !cache; b++) printf("   %16s", "tok/s, together");
    printf("\n");
    for (const variant *v = c->variants; v < c->variants + c->n_variants; v++) {
        char buf[16];
        printf("%-*s %12s", c->name_width, v->name, cell(sample_median(&v->prefill), 1, 0, buf));
        for (int d = 0; d < c->n_depths; d++) {
            double speed = decode_speed(v, cache, d);
            printf("   %7s", cell(speed, 1, speed < 100, buf));
            printf(" %*s", width, cell(speed_ratio(c, v, cache, d), 1, 2, buf));
            printf(" %4s", cell(decode_bytes(c, v, cache, d), 1e9, 1, buf));
        }
        for (int b = 0; b < c->n_batches && !cache; b++)
            printf("   %16s", batch_cell(c, v, b, buf));
        printf("\n");
    }
    printf("\n");
}

/* Whether MLA itself is there. */
static int has_latent(const comparison *c) {
    int n = 0;
    while (n < c->n_variants && !c->variants[n].config->latent_dim) n++;
    return n < c->n_variants;
}

/* A row of the table of memory, without its newline. */
static void show_memory_row(const comparison *c, const char *name, const variant *v, int cache) {
    char buf[32];
    double position = cache_at(c, v, cache, 1);
    const char *type = v ? c->caches[cache].name : "f16";
    printf("%-*s %9s %14s", c->name_width, name, type, human_bytes(position, buf));
    for (int d = 0; d < c->n_depths; d++) {
        if (c->depths[d] == 0) continue;
        printf("   %16s", human_bytes(cache_at(c, v, cache, c->depths[d]), buf));
        printf(" %4d", sequences_that_fit(c, v, cache, d));
    }
}

static void show_memory(const comparison *c) {
    char bytes[32];
    printf("%-*s %9s %14s", c->name_width, "", "cache", "KV a position");
    for (int d = 0; d < c->n_depths; d++)
        if (c->depths[d] > 0) printf("   %10s%-6d %4s", "at ", c->depths[d], "fit");
    printf("\n");
    for (const variant *v = c->variants; v < c->variants + c->n_variants; v++)
        for (int k = 0; k < c->n_caches; k++) {
            show_memory_row(c, v->name, v, k);
            printf("\n");
        }
    if (!has_files(c) && !has_latent(c)) {
        show_memory_row(c, "MLA", NULL, 0);
        printf("   by arithmetic: 4.5 head_dim a layer (DeepSeek-V2, table 1)\n");
    }
    if (c->depths[c->n_depths - 1] > 0)
        printf("\"fit\": sequences of that length in %s of memory, beside the weights\n",
               human_bytes(c->memory, bytes));
}

const char different_vocabularies[] =
    "The models have different vocabularies: their perplexities a token and their\n"
    "distributions (KL) cannot be compared. Bits a byte can, if all read the same\n"
    "text: without --chunks.";

/* Each KL is from an f32 cache: the variant's own, and the first variant's. */
static void show_quality(const comparison *c) {
    char from[32];
    int width = max_int(to_first(c, "KL to", from), 14);
    printf("\n%-*s %9s %11s %8s", c->name_width, "", "cache", "bits a byte", "+/-");
    if (c->same_vocab) printf(" %11s %8s %12s %9s", "perplexity", "+/-", "KL to f32", "same top");
    printf(" %*s\n", width, c->same_vocab && c->n_variants > 1 ? from : "");
    for (const variant *v = c->variants; v < c->variants + c->n_variants; v++)
        for (int k = 0; k < c->n_caches; k++) {
            const score *s = &v->scores[k];
            printf("%-*s %9s", c->name_width, v->name, c->caches[k].name);
            if (!s->n) {
                printf(" %11s\n", "-");
                continue;
            }
            printf(" %11.4f %8.4f", score_bits(s), score_bits_error(s));
            if (c->same_vocab) {
                printf(" %11.4f %8.4f", score_perplexity(s), score_error(s));
                printf(" %12.6f %8.2f%%", s->from->mean, s->from->same_top);
                if (c->n_variants > 1) printf(" %*.6f", width, s->from[1].mean);
            }
            printf("%s\n", s->from->mean > 0.1 ? "  <- ruined" : "");
        }
    if (!c->same_vocab) printf("%s\n", different_vocabularies);
}

void compare_table(const comparison *c) {
    show_conditions(c);
    for (int k = 0; k < c->n_caches; k++) show_speed(c, k);
    show_memory(c);
    if (c->has_scores) show_quality(c);
}

/* ---- CSV ------------------------------------------------------------------------------------ */

/* In quotes where it must be (RFC 4180). */
static void csv_name(const char *name) {
    if (!strpbrk(name, ",\"\r\n")) {
        printf("%s", name);
        return;
    }
    printf("\"");
    for (; *name; name++) printf(*name == '"' ? "\"\"" : "%c", *name);
    printf("\"");
}

/* A number and a comma; nothing for NaN: it was not measured. */
static void csv_number(double value, const char *format) {
    if (!isnan(value)) printf(format, value);
    printf(",");
}

/* Of n sequences together, with the samples of their speed and the first variant's. */
static void csv_row(const comparison *c, const variant *v, int cache, int depth, int n,
                    const sample *speeds, const sample *firsts) {
    const score *s = &v->scores[cache];
    double speed = sample_median(speeds);
    csv_name(v->name);
    printf(",%d,", v->kv_heads);
    printf("%s,%d,%d,", c->caches[cache].name, c->depths[depth], n);
    printf("%llu,", (unsigned long long)kv_bytes(c, v, cache));
    csv_number(sample_median(&v->prefill), "%.2f");
    csv_number(speed, "%.3f");
    csv_number(speed / sample_median(firsts), "%.4f");
    csv_number(bytes_read(c, v, cache, depth, n, speed), "%.4g");
    if (c->has_scores && c->same_vocab && s->n)
        printf("%.5f,%.6f,%.6f,", score_perplexity(s), s->from->mean, s->from[1].mean);
    else printf(",,,");
    if (c->has_scores && s->n) printf("%.5f", score_bits(s));
    printf("\n");
}

void compare_csv(const comparison *c) {
    const variant *first = c->variants;
    printf("variant,kv_heads,kv_type,depth,sequences,kv_bytes_per_position,"
           "prefill_tokens_per_second,decode_tokens_per_second,ratio_to_first,bytes_per_second,"
           "perplexity,kl_to_f32,kl_to_first,bits_per_byte\n");
    for (const variant *v = first; v < first + c->n_variants; v++) {
        for (int k = 0; k < c->n_caches; k++)
            for (int d = 0; d < c->n_depths; d++)
                csv_row(c, v, k, d, 1, &v->decode[k][d], &first->decode[k][d]);
        for (int b = 0; b < c->n_batches; b++)
            csv_row(c, v, 0, c->n_depths - 1, c->batches[b], &v->batch[b], &first->batch[b]);
    }
}

/* ---- JSON ----------------------------------------------------------------------------------- */

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

static void json_quality(json_writer *j, const score *s, int same_vocab) {
    if (!s->n) return;
    json_double(j, "bits_per_byte", score_bits(s));
    json_double(j, "bits_per_byte_error", score_bits_error(s));
    if (!same_vocab) return;
    json_double(j, "perplexity", score_perplexity(s));
    json_double(j, "kl_to_f32", s->from->mean);
    json_double(j, "same_top_percent", s->from->same_top);
    json_double(j, "kl_to_first", s->from[1].mean);
}

static void json_batches(json_writer *j, const comparison *c, const variant *v) {
    json_begin(j, "batches", '[');
    for (int b = 0; b < c->n_batches; b++) {
        json_begin(j, NULL, '{');
        json_int(j, "sequences", c->batches[b]);
        json_int(j, "depth", c->depths[c->n_depths - 1]);
        json_bool(j, "fits", batch_fits(c, v, b));
        json_double(j, "tokens_per_second", sample_median(&v->batch[b]));
        json_double(j, "spread", sample_spread(&v->batch[b]));
        json_end(j, '}');
    }
    json_end(j, ']');
}

static void json_variant(json_writer *j, const comparison *c, const variant *v) {
    char kind[16];
    json_begin(j, NULL, '{');
    json_string(j, "name", v->name);
    json_string(j, "attention", attention_name(v->config, kind));
    json_int(j, "kv_heads", v->kv_heads);
    json_double(j, "prefill", sample_median(&v->prefill));
    json_double(j, "prefill_spread", sample_spread(&v->prefill));
    json_begin(j, "caches", '[');
    for (int k = 0; k < c->n_caches; k++) {
        json_begin(j, NULL, '{');
        json_string(j, "type", c->caches[k].name);
        json_int(j, "bytes_per_position", (int64_t)kv_bytes(c, v, k));
        if (c->has_scores) json_quality(j, &v->scores[k], c->same_vocab);
        json_decoding(j, c, v, k);
        json_end(j, '}');
    }
    json_end(j, ']');
    if (c->n_batches) json_batches(j, c, v);
    json_end(j, '}');
}

void compare_json(const comparison *c) {
    const gqa_config *g = c->variants->config;
    json_writer j = json_open();
    json_string(&j, "command", c->command);
    json_string(&j, "isa", c->variants->stats->isa);
    if (c->has_scores) json_string(&j, "text", c->text.file);
    json_int(&j, "layers", g->n_layers);
    json_int(&j, "dim", g->dim);
    json_int(&j, "heads", g->n_heads);
    json_int(&j, "head_dim", query_head_dim(c->variants));
    json_int(&j, "threads", c->limits.n_threads);
    json_int(&j, "prompt", c->prompt);
    json_int(&j, "tokens", c->tokens);
    json_int(&j, "rounds", c->rounds);
    json_double(&j, "read_bytes_per_second", c->limits.read_bytes);
    if (!has_latent(c))
        json_double(&j, "mla_bytes_per_position", cache_at(c, NULL, 0, 1));
    json_begin(&j, "variants", '[');
    for (int i = 0; i < c->n_variants; i++) json_variant(&j, c, &c->variants[i]);
    json_end(&j, ']');
    json_close(&j);
}
