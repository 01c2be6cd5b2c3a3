/* bench_report.c: what `run bench` prints. */
#include <math.h>

#include "../base/base.h"
#include "bench.h"
#include "json.h"

static void show_limits(const engine *e) {
    printf("%s: limits measured between the tests: read %.1f GB/s, f32 %.0f GMAC/s, int8 %.0f "
           "GMAC/s", e->stats->isa, e->limits.read_bytes / 1e9, e->limits.float_ops / 1e9,
           e->limits.int8_ops / 1e9);
    if (!isnan(e->limits.bf16_ops))
        printf(", bf16 %.0f GMAC/s (%s)", e->limits.bf16_ops / 1e9,
               e->stats->fast_prefill ? "used for prompts" : "not used");
    printf("; self-check: largest relative error %.1e (%s)\n", e->error, e->where);
}

static void show_model(const bench *b, const engine *e) {
    char size[32], position[32], attention[16];
    const gqa_config *c = e->config;
    printf("%s: %s, %d layers x %d, %d query / %d KV heads of %d (%s), %s weights, %s; KV cache "
           "%s: %s a position\n",
           c->name[0] ? c->name : "model", c->architecture, c->n_layers, c->dim,
           c->n_heads, c->n_kv_heads, c->head_dim, attention_name(c, attention),
           e->stats->type_name, human_bytes((double)e->stats->weight_bytes, size), b->kv_type,
           human_bytes((double)kv_cache_bytes(e->model, b->kv_type, 1), position));
}

void bench_table(const bench *b) {
    for (int i = 0; i < b->n_kinds; i++) show_model(b, &b->sets[i]);
    printf("%d thread%s\n", b->n_threads, plural(b->n_threads));
    for (int i = 0; i < b->n_sets; i += b->n_kinds) show_limits(&b->sets[i]);
    printf("\n| test | attention | isa | depth | sequences | tok/s | +/- | ratio | TTFT s "
           "| GB/s | GMAC/s | share of limit | KV GB/s |\n"
           "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        char ratio[16], first[16], bytes[16], ops[16], share[16], kv[16], attention[16];
        const engine *e = &b->sets[r->set];
        printf("| %s | %s | %s | %d | %d | %.2f | %.2f | %s | %s | %s | %s | %s | %s |\n", r->name,
               attention_name(e->config, attention), e->stats->isa, r->depth, r->batch, r->rate,
               r->spread,
               cell(r->ratio, 1, 3, ratio), cell(r->first_token, 1, 4, first),
               cell(r->bytes, 1e9, 1, bytes), cell(r->ops, 1e9, 1, ops),
               cell(r->share, 1, 2, share), cell(r->kv_bytes, 1e9, 1, kv));
    }
}

static void json_row(json_writer *j, const bench *b, const row *r) {
    char attention[16];
    json_begin(j, NULL, '{');
    json_string(j, "test", r->name);
    json_string(j, "attention", attention_name(b->sets[r->set].config, attention));
    json_string(j, "isa", b->sets[r->set].stats->isa);
    json_int(j, "depth", r->depth);
    json_int(j, "sequences", r->batch);
    json_double(j, "tokens_per_second", r->rate);
    json_double(j, "spread", r->spread);
    json_double(j, "ratio", r->ratio);
    json_double(j, "seconds", r->seconds);
    json_double(j, "time_to_first_token", r->first_token);
    json_double(j, "bytes_per_second", r->bytes);
    json_double(j, "mac_per_second", r->ops);
    json_double(j, "share_of_limit", r->share);
    json_double(j, "kv_bytes_per_second", r->kv_bytes);
    json_end(j, '}');
}

void bench_json(const bench *b) {
    const engine *e = &b->sets[0];
    uint64_t position_bytes = kv_cache_bytes(e->model, b->kv_type, 1);
    json_writer j = json_open();
    json_string(&j, "model", e->config->name);
    json_string(&j, "isa", e->stats->isa);
    json_int(&j, "threads", b->n_threads);
    json_string(&j, "weights", e->stats->type_name);
    json_string(&j, "kv", b->kv_type);
    json_int(&j, "n_heads", e->config->n_heads);
    json_int(&j, "n_kv_heads", e->config->n_kv_heads);
    json_int(&j, "weight_bytes", (int64_t)e->stats->weight_bytes);
    json_int(&j, "kv_bytes_per_position", (int64_t)position_bytes);
    json_double(&j, "self_check_error", e->error);
    json_double(&j, "read_bytes_per_second", e->limits.read_bytes);
    json_double(&j, "f32_mac_per_second", e->limits.float_ops);
    json_double(&j, "int8_mac_per_second", e->limits.int8_ops);
    json_double(&j, "bf16_mac_per_second", e->limits.bf16_ops);
    json_int(&j, "fast_prefill", e->stats->fast_prefill);
    json_bool(&j, "exact", b->o->exact);
    json_begin(&j, "tests", '[');
    for (int i = 0; i < b->n_rows; i++) json_row(&j, b, &b->rows[i]);
    json_end(&j, ']');
    json_close(&j);
}

void bench_csv(const bench *b) {
    printf("test,depth,sequences,tokens_per_second,spread,seconds,time_to_first_token,"
           "bytes_per_second,mac_per_second,share_of_limit,kv_bytes_per_second,isa,ratio,"
           "attention\n");
    for (const row *r = b->rows; r < b->rows + b->n_rows; r++) {
        char attention[16];
        printf("%s,%d,%d,", r->name, r->depth, r->batch);
        const double numbers[] = {r->rate, r->spread, r->seconds, r->first_token,
                                  r->bytes, r->ops, r->share, r->kv_bytes};
        for (size_t i = 0; i < array_length(numbers); i++)
            printf(isnan(numbers[i]) ? "," : "%.6g,", numbers[i]);
        printf("%s,", b->sets[r->set].stats->isa);
        printf(isnan(r->ratio) ? "," : "%.4g,", r->ratio);
        printf("%s\n", attention_name(b->sets[r->set].config, attention));
    }
}
