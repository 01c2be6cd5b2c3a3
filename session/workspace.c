/* workspace.c: the threads and the scratch memory of forward passes, one allocation for all. */
#include <stdlib.h>

#include "session_internal.h"

void *gqa_arena_take(gqa_arena *a, uint64_t count, uint64_t size) {
    uint64_t bytes, end;
    if (gqa_mul_size(count, size, &bytes) || gqa_add_size(bytes, 63, &bytes) ||
        gqa_add_size(a->used, bytes & ~(uint64_t)63, &end)) {
        a->overflow = 1;
        return NULL;
    }
    void *p = a->base ? a->base + a->used : NULL;
    a->used = end;
    return p;
}

/* x [rows, k] and its forms as input of products; has_exact: of some that always are. */
static float *take_activations(const gqa_workspace *w, gqa_arena *a, gqa_acts *acts, int k,
                               int has_exact) {
    const int rows = w->scratch.rows, columns = has_exact || w->exact ? 2 * rows : rows;
    float *x = gqa_arena_take(a, (uint64_t)rows, (uint64_t)k * sizeof(float));
    void *memory = gqa_arena_take(a, 1, gqa_acts_bytes(k, columns));
    if (memory) gqa_acts_init(acts, memory, k, columns);
    if (w->model->stats.fast_prefill)
        acts->bf16 = gqa_arena_take(a, (uint64_t)rows, round_up(k, 256) * sizeof(uint16_t));
    acts->x = x;
    acts->ldx = k;
    return x;
}

/* Those of latent attention. */
static void lay_out_latent(gqa_workspace *w, gqa_arena *a) {
    const gqa_config *c = &w->model->config;
    gqa_scratch *s = &w->scratch;
    uint64_t rows = (uint64_t)s->rows;
    uint64_t q_dim = (uint64_t)c->n_heads * (uint64_t)(c->q_nope_dim + c->rope_dim);
    if (!c->latent_dim) return;
    if (c->q_rank) s->q_low = take_activations(w, a, &s->q_low_acts, c->q_rank, 0);
    s->q_heads = gqa_arena_take(a, rows, q_dim * sizeof(float));
    s->q_nope = take_activations(w, a, &s->q_nope_acts, c->n_heads * c->q_nope_dim, 0);
    s->latent = take_activations(w, a, &s->latent_acts, c->n_heads * c->latent_dim, 0);
}

/* All buffers: called once to add up, once to hand out. */
static void lay_out(gqa_workspace *w, gqa_arena *a) {
    const gqa_config *c = &w->model->config;
    gqa_scratch *s = &w->scratch;
    int q_dim = c->n_heads * c->head_dim, group = w->model->max_group;
    int rope_tables = w->model->rope[GQA_ROPE_LOCAL].freq ? 2 : 1;
    uint64_t rows = (uint64_t)s->rows, decode_rows = GQA_DECODE_ROWS;
    uint64_t kv_bytes = (uint64_t)c->n_kv_heads * (uint64_t)c->head_dim * sizeof(float);
    s->x = gqa_arena_take(a, rows, (uint64_t)c->dim * sizeof(float));
    s->h = take_activations(w, a, &s->h_acts, c->dim, 1);
    s->q = gqa_arena_take(a, rows, (uint64_t)q_dim * sizeof(float));
    s->k = gqa_arena_take(a, rows, kv_bytes);
    s->v = gqa_arena_take(a, rows, kv_bytes);
    int attn_dim = c->latent_dim ? c->n_heads * c->value_dim : q_dim;
    s->attn = take_activations(w, a, &s->attn_acts, attn_dim, 0);
    lay_out_latent(w, a);
    int gate_dim = max_int(c->ffn_dim, c->per_layer_dim);
    uint64_t per_layer = (uint64_t)c->n_layers * (uint64_t)c->per_layer_dim * sizeof(float);
    s->gate = take_activations(w, a, &s->gate_acts, gate_dim, 1);
    s->up = gqa_arena_take(a, rows, (uint64_t)gate_dim * sizeof(float));
    s->per_layer = gqa_arena_take(a, rows, per_layer);
    s->cos_sin = gqa_arena_take(a, rows * (uint64_t)rope_tables,
                                (uint64_t)max_int(c->rope_dim, c->rope_dim_local) * sizeof(float));
    s->part_of = gqa_arena_take(a, rows, sizeof(int));
    s->positions = gqa_arena_take(a, rows, sizeof(int));
    s->out_of = gqa_arena_take(a, rows, sizeof(int));
    s->max_splits = w->context / GQA_KV_SPLIT + 2;
    s->partials = gqa_arena_take(a, decode_rows * (uint64_t)s->max_splits, /* of all groups */
                                 gqa_partial_floats(c->n_heads, c->head_dim) * sizeof(float));
    s->logits = gqa_arena_take(a, decode_rows, (uint64_t)c->vocab_size * sizeof(float));
    int widest = max_int(max_int(q_dim, c->q_nope_dim), max_int(c->dim, gate_dim));
    size_t matmul = gqa_matmul_scratch(max_int(max_int(widest, c->q_rank), attn_dim));
    matmul = max_size(matmul + gqa_planes_scratch(s->rows), per_layer);
    s->thread_bytes = round_up(max_size(matmul, gqa_attention_scratch(group, c->head_dim)), 4096);
    s->thread = gqa_arena_take(a, (uint64_t)w->n_threads, s->thread_bytes);
}

int gqa_check_session_options(const gqa_model *m, const gqa_session_options *opt, gqa_error *err) {
    if (!m) return gqa_fail(err, GQA_ERR_ARGUMENT, "session: model is NULL");
    if (!m->has_weights)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: holds a vocabulary and no weights",
                        m->file.path);
    if (opt->context < 0 || opt->context > GQA_MAX_CONTEXT)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "context %d: expected 0 to %d", opt->context,
                        GQA_MAX_CONTEXT);
    if (m->config.n_kv_heads > GQA_MAX_UNITS / GQA_DECODE_ROWS / (opt->context / GQA_KV_SPLIT + 2))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "context %d is too large for %d KV heads",
                        opt->context, m->config.n_kv_heads);
    if (gqa_check_threads(opt->n_threads, err)) return GQA_ERR_ARGUMENT;
    if (opt->batch < 0 || opt->batch > 4096)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "batch %d: expected 0 to 4096", opt->batch);
    return gqa_check_reserved(opt->reserved, sizeof opt->reserved, "session options", err);
}

gqa_workspace *gqa_workspace_new(const gqa_model *m, const gqa_session_options *opt,
                                 gqa_error *err) {
    static const gqa_session_options defaults;
    if (!opt) opt = &defaults;
    if (gqa_check_session_options(m, opt, err)) return NULL;
    if (opt->workspace) {
        gqa_fail(err, GQA_ERR_ARGUMENT, "a workspace cannot be made from another workspace");
        return NULL;
    }
    gqa_workspace *w = calloc(1, sizeof *w);
    if (!w) {
        gqa_fail(err, GQA_ERR_MEMORY, "no memory for a workspace");
        return NULL;
    }
    w->model = m;
    w->n_threads = opt->n_threads ? opt->n_threads : gqa_threads_default();
    w->context = opt->context ? opt->context : min_int(m->config.context_length, 4096);
    w->exact = opt->exact;
    w->batch = min_int(opt->batch ? opt->batch : 512, w->context);
    w->scratch.rows = max_int(w->batch, GQA_DECODE_ROWS);
    gqa_arena sizes = {0};
    lay_out(w, &sizes);
    w->memory_bytes = sizes.used;
    if (!sizes.overflow && sizes.used <= SIZE_MAX / 2)
        w->memory = gqa_pages_alloc(w->memory_bytes, 0);
    w->team = gqa_team_new(w->n_threads, opt->run_parallel, opt->run_user);
    if (!w->memory || !w->team) {
        gqa_fail(err, GQA_ERR_MEMORY, "no memory for a workspace of %llu bytes",
                 (unsigned long long)sizes.used);
        gqa_workspace_free(w);
        return NULL;
    }
    lay_out(w, &(gqa_arena){.base = w->memory});
    return w;
}

void gqa_workspace_free(gqa_workspace *w) {
    if (!w) return;
    gqa_team_free(w->team);
    gqa_pages_free(w->memory, w->memory_bytes);
    free(w);
}

uint64_t gqa_workspace_bytes(const gqa_workspace *w) { return w ? w->memory_bytes : 0; }
