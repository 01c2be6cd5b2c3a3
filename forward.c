/* forward.c: the transformer, from token ids to logits. forward() reads top to bottom as the papers do:
 *   RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), grouped-query attention (Ainslie et al. 2023),
 *   SwiGLU (Shazeer 2020), in the arrangement of LLaMA (Touvron et al. 2023).
 *
 * All threads of the team run forward() together. A phase is a loop over units of work that the threads share out; it
 * ends when all its units are done (kernels/team.h). What a unit computes never depends on who computes it, so neither
 * do the results. */
#include <math.h>
#include <string.h>

#include "session/session_internal.h"

/* One pass, as all its threads see it. */
typedef struct run {
    const gqa_pass *pass;
    const gqa_model *m;
    const gqa_kernels *kernels;
    gqa_session *s;
    gqa_scratch *t;
    int n;                   /* rows: tokens in this pass */
    int prefill;             /* rows are one sequence's, many enough for tiles of query positions */
    int group;               /* query heads a KV head */
    int q_dim, kv_dim;
    float scale;             /* on q.k: 1 / sqrt(head_dim) */
    atomic_int *cancel;
} run;

enum { PREFILL_ROWS = 8 };   /* fewer rows of one sequence are attended like decoding: split over positions */

/* The map of grouped-query attention: query head h reads KV head h / group; so KV head g serves query heads
 * first_query_head(g) .. + group - 1. This is the only place that knows it. */
static int first_query_head(const run *r, int kv_head) { return kv_head * r->group; }
/* Where that group's heads of a row begin in q and attn [n, q_dim]. */
static size_t group_at(const run *r, int row, int kv_head) {
    return (size_t)row * (size_t)r->q_dim + (size_t)first_query_head(r, kv_head) * (size_t)r->m->config.head_dim;
}

static gqa_session *session_of(const run *r, int row) { return r->pass->sessions ? r->pass->sessions[row] : r->s; }
static int position_of(const run *r, int row) { return r->pass->positions ? r->pass->positions[row] : r->s->position + row; }
static int cancelled(const run *r) { return atomic_load_explicit(r->cancel, memory_order_relaxed); }
static void *scratch_of(const run *r, const gqa_worker *w) { return r->t->thread + (size_t)w->id * r->t->thread_bytes; }

static int oldest_seen(const run *r, int position) {  /* first position that a query at `position` attends to */
    int window = r->m->config.window;
    return window > 0 && position >= window ? position - window + 1 : 0;
}

/* ---- phases ------------------------------------------------------------------------------------------------------ */

/* x = embedding rows; cos_sin = rotation angles of each row's position. */
static void embed(run *r, gqa_worker *w) {
    const gqa_config *c = &r->m->config;
    const gqa_matrix *e = &r->m->embedding;
    size_t row_bytes = (size_t)gqa_type_bytes(e->type, (uint64_t)e->cols);
    for_units(i, w, r->n) {
        gqa_dequantize(e->type, e->raw + (size_t)r->pass->tokens[i] * row_bytes, r->t->x + (size_t)i * (size_t)c->dim, (size_t)c->dim);
        int pairs = c->rope_dim / 2, position = position_of(r, i);
        float *table = r->t->cos_sin + (size_t)i * (size_t)c->rope_dim;
        for (int p = 0; p < pairs; p++) {
            double angle = position * r->m->rope_freq[p];
            table[p] = (float)cos(angle) * r->m->rope_magnitude;
            table[pairs + p] = (float)sin(angle) * r->m->rope_magnitude;
        }
    }
}

/* x += h when add, then h = rmsnorm(x) and its int8 form. */
static void normalise(run *r, gqa_worker *w, const float *weight, int add, int wants_q8) {
    size_t dim = (size_t)r->m->config.dim;
    for_units(i, w, r->n) {
        float *x = r->t->x + (size_t)i * dim, *h = r->t->h + (size_t)i * dim;
        if (add) r->kernels->add(x, h, (int)dim);
        r->kernels->rmsnorm(h, x, weight, (int)dim, r->m->config.norm_eps);
        if (wants_q8) r->kernels->quantize_acts(&r->t->a_dim, i, i + 1, 0, (int)dim);
    }
}

/* Several products of the same n activations in one phase: y[j] [n, rows] = a w[j]^T. */
typedef struct product {
    const gqa_matrix *w;
    float *y;
} product;

static void multiply(run *r, gqa_worker *w, const gqa_acts *a, int n, const product *list, int count) {
    int total = 0, first = 0;
    for (int j = 0; j < count; j++) total += gqa_matmul_units(list[j].w);
    int u = gqa_unit_first(w, total);
    for (int j = 0; j < count; j++) {
        int units = gqa_matmul_units(list[j].w);
        for (; u >= 0 && u < first + units; u = gqa_unit_next(w)) {
            if (cancelled(r)) continue;
            r->kernels->matmul_unit(list[j].w, a, n, list[j].y, (size_t)list[j].w->rows, u - first, scratch_of(r, w));
        }
        first += units;
    }
}

/* Bias, norm (qwen3) and rotary position of one head, in place. */
static void finish_head(run *r, float *head, const float *bias, const float *norm, const float *cos_sin) {
    const gqa_config *c = &r->m->config;
    if (bias) r->kernels->add(head, bias, c->head_dim);
    if (norm) r->kernels->rmsnorm(head, head, norm, c->head_dim, c->norm_eps);
    r->kernels->rope(head, cos_sin, c->rope_dim, c->rope_half);
}

/* The query heads of a row's group, and its K and V, which go into the cache. */
static void place_group(run *r, const gqa_layer *layer, int l, int i, int kv_head) {
    const gqa_config *c = &r->m->config;
    size_t d = (size_t)c->head_dim, kv_at = (size_t)kv_head * d, q_at = (size_t)first_query_head(r, kv_head) * d;
    const float *cos_sin = r->t->cos_sin + (size_t)i * (size_t)c->rope_dim;
    float *q = r->t->q + group_at(r, i, kv_head);
    float *k = r->t->k + (size_t)i * (size_t)r->kv_dim + kv_at, *v = r->t->v + (size_t)i * (size_t)r->kv_dim + kv_at;
    if (r->s->on_kv) r->s->on_kv(r->s->on_kv_user, l, position_of(r, i), kv_head, k, v);
    for (size_t g = 0; g < (size_t)r->group; g++) finish_head(r, q + g * d, layer->bq ? layer->bq + q_at + g * d : NULL, layer->q_norm, cos_sin);
    finish_head(r, k, layer->bk ? layer->bk + kv_at : NULL, layer->k_norm, cos_sin);
    if (layer->bv) r->kernels->add(v, layer->bv + kv_at, c->head_dim);
    r->kernels->kv_append(&session_of(r, i)->kv[l], kv_head, position_of(r, i), k, v);
}

/* The int8 form of what a group attended to, where its heads are whole blocks; else quantize_attention does it. */
static int groups_are_blocks(const run *r) { return r->group * r->m->config.head_dim % 32 == 0; }
static void quantize_group(run *r, const gqa_layer *layer, int i0, int i1, int kv_head) {
    int d = r->m->config.head_dim, k0 = first_query_head(r, kv_head) * d;
    if (gqa_type_wants_q8(layer->wo.type) && groups_are_blocks(r)) r->kernels->quantize_acts(&r->t->a_q, i0, i1, k0, k0 + r->group * d);
}
static void quantize_attention(run *r, gqa_worker *w, const gqa_layer *layer) {
    if (!gqa_type_wants_q8(layer->wo.type) || groups_are_blocks(r)) return;
    for_units(i, w, r->n) r->kernels->quantize_acts(&r->t->a_q, i, i + 1, 0, r->q_dim);
}

/* Prefill: a unit is a KV head and a tile of query positions, the last (longest) tiles first. */
static void attend_tiles(run *r, gqa_worker *w, const gqa_layer *layer, int l) {
    const gqa_config *c = &r->m->config;
    for_units(u, w, r->n * c->n_kv_heads) place_group(r, layer, l, u / c->n_kv_heads, u % c->n_kv_heads);
    int tiles = (r->n + GQA_PREFILL_TILE - 1) / GQA_PREFILL_TILE, units = tiles * c->n_kv_heads;
    for_units(u, w, units) {
        if (cancelled(r)) continue;
        int row = (tiles - 1 - u / c->n_kv_heads) * GQA_PREFILL_TILE, kv_head = u % c->n_kv_heads;
        int rows = r->n - row < GQA_PREFILL_TILE ? r->n - row : GQA_PREFILL_TILE;
        size_t at = group_at(r, row, kv_head);
        r->kernels->attend_prefill(&r->s->kv[l], kv_head, r->t->q + at, (size_t)r->q_dim, r->group, r->scale,
                                   position_of(r, row), rows, c->window, r->t->attn + at, (size_t)r->q_dim, scratch_of(r, w));
        quantize_group(r, layer, row, row + rows, kv_head);
    }
}

/* Pieces of GQA_KV_SPLIT positions that hold what a row attends to. */
static int pieces_of(const run *r, int row) {
    int p = position_of(r, row);
    return p / GQA_KV_SPLIT - oldest_seen(r, p) / GQA_KV_SPLIT + 1;
}

static float *parts_of(const run *r, int row, int kv_head) {
    size_t heads = (size_t)row * (size_t)r->m->config.n_kv_heads + (size_t)kv_head;
    return r->t->parts + heads * (size_t)r->t->max_parts * gqa_partial_floats(r->group, r->m->config.head_dim);
}

static void attend_piece(run *r, gqa_worker *w, int l, int i, int kv_head, int piece) {
    int end = position_of(r, i) + 1, begin = oldest_seen(r, end - 1);
    int t0 = (begin / GQA_KV_SPLIT + piece) * GQA_KV_SPLIT, t1 = t0 + GQA_KV_SPLIT, d = r->m->config.head_dim;
    const float *q = r->t->q + group_at(r, i, kv_head);
    float *out = parts_of(r, i, kv_head) + (size_t)piece * gqa_partial_floats(r->group, d);
    r->kernels->attend_decode(&session_of(r, i)->kv[l], kv_head, q, r->group, r->scale, t0 > begin ? t0 : begin, t1 < end ? t1 : end, out, scratch_of(r, w));
}

static void merge_pieces(run *r, const gqa_layer *layer, int i, int kv_head) {
    size_t d = (size_t)r->m->config.head_dim;
    float *out = r->t->attn + group_at(r, i, kv_head);
    r->kernels->combine_splits(parts_of(r, i, kv_head), pieces_of(r, i), r->group, (int)d, out, d);
    quantize_group(r, layer, i, i + 1, kv_head);
}

/* Decoding. While each row attends to one piece and to nothing of another row's, a unit is a row's KV head from its place in
 * the cache to the end. Else the pieces are units, so that even one KV head keeps every thread busy (Flash-Decoding, Dao et
 * al. 2023), and are then joined. Pieces are fixed, so results do not depend on the threads. */
static void attend_splits(run *r, gqa_worker *w, const gqa_layer *layer, int l) {
    int heads = r->m->config.n_kv_heads, total = 0, first = 0;
    for (int i = 0; i < r->n; i++) total += pieces_of(r, i) * heads;
    int alone = r->n == 1 || r->pass->sessions != NULL, whole = alone && total == r->n * heads;
    for_units(u, w, r->n * heads) {
        place_group(r, layer, l, u / heads, u % heads);
        if (whole) attend_piece(r, w, l, u / heads, u % heads, 0), merge_pieces(r, layer, u / heads, u % heads);
    }
    if (whole) return;
    int u = gqa_unit_first(w, total);
    for (int i = 0; i < r->n; i++) {
        int pieces = pieces_of(r, i), units = pieces * heads;
        for (; u >= 0 && u < first + units; u = gqa_unit_next(w)) attend_piece(r, w, l, i, (u - first) / pieces, (u - first) % pieces);
        first += units;
    }
    for (u = gqa_unit_first(w, r->n * heads); u >= 0; u = gqa_unit_next(w)) merge_pieces(r, layer, u / heads, u % heads);
}

/* gate = silu(gate) * up, and its int8 form; a unit is a row's piece of 512. */
static void activate(run *r, gqa_worker *w, int wants_q8) {
    int ffn = r->m->config.ffn_dim, pieces = (ffn + 511) / 512;
    for_units(u, w, r->n * pieces) {
        int i = u / pieces, k0 = u % pieces * 512, k1 = k0 + 512 < ffn ? k0 + 512 : ffn;
        size_t at = (size_t)i * (size_t)ffn + (size_t)k0;
        r->kernels->swiglu(r->t->gate + at, r->t->gate + at, r->t->up + at, k1 - k0);
        if (wants_q8) r->kernels->quantize_acts(&r->t->a_ffn, i, i + 1, k0, k1);
    }
}

/* Logits of the last n_out rows. */
static void classify(run *r, gqa_worker *w) {
    int n_out = r->pass->n_out;
    size_t dim = (size_t)r->m->config.dim, skip = (size_t)(r->n - n_out) * dim;
    if (n_out == 0) return;
    for_units(i, w, n_out) {
        float *x = r->t->x + skip + (size_t)i * dim;
        r->kernels->add(x, r->t->h + skip + (size_t)i * dim, (int)dim);
    }
    for_units(i, w, n_out) {
        r->kernels->rmsnorm(r->t->h + (size_t)i * dim, r->t->x + skip + (size_t)i * dim, r->m->output_norm, (int)dim,
                            r->m->config.norm_eps);
        if (gqa_type_wants_q8(r->m->classifier.type)) r->kernels->quantize_acts(&r->t->a_dim, i, i + 1, 0, (int)dim);
    }
    multiply(r, w, &r->t->a_dim, n_out, &(product){&r->m->classifier, r->pass->logits}, 1);
}

/* ---- the transformer --------------------------------------------------------------------------------------------- */

static void forward(gqa_worker *w, void *arg) {
    run *r = arg;
    gqa_scratch *t = r->t;
    embed(r, w);
    for (int l = 0; l < r->m->config.n_layers; l++) {
        const gqa_layer *layer = &r->m->layers[l];
        const product qkv[] = {{&layer->wq, t->q}, {&layer->wk, t->k}, {&layer->wv, t->v}};
        const product out[] = {{&layer->wo, t->h}};
        const product gate_up[] = {{&layer->w_gate, t->gate}, {&layer->w_up, t->up}};
        const product down[] = {{&layer->w_down, t->h}};

        normalise(r, w, layer->attn_norm, l > 0, gqa_type_wants_q8(layer->wq.type) | gqa_type_wants_q8(layer->wk.type) |
                                                     gqa_type_wants_q8(layer->wv.type));
        if (cancelled(r)) return;
        multiply(r, w, &t->a_dim, r->n, qkv, 3);
        if (r->prefill) attend_tiles(r, w, layer, l);
        else attend_splits(r, w, layer, l);
        quantize_attention(r, w, layer);
        multiply(r, w, &t->a_q, r->n, out, 1);

        normalise(r, w, layer->ffn_norm, 1, gqa_type_wants_q8(layer->w_gate.type) | gqa_type_wants_q8(layer->w_up.type));
        if (cancelled(r)) return;
        multiply(r, w, &t->a_dim, r->n, gate_up, 2);
        activate(r, w, gqa_type_wants_q8(layer->w_down.type));
        multiply(r, w, &t->a_ffn, r->n, down, 1);
    }
    classify(r, w);
}

/* Threads cost a few microseconds a phase: a small product is faster alone. */
static int useful_threads(const run *r) {
    enum { SMALL = 1 << 22 };  /* multiply-adds */
    return r->m->stats.matmul_params * (uint64_t)r->n < SMALL ? 1 : r->s->n_threads;
}

int gqa_forward(gqa_pass *pass) {
    gqa_session *s = pass->session;
    const gqa_config *c = &s->model->config;
    gqa_scratch *t = &s->scratch;
    run r = {.pass = pass, .m = s->model, .kernels = s->model->kernels, .s = s, .t = t, .n = pass->n, .cancel = pass->cancel ? pass->cancel : &s->cancel};
    r.group = c->n_heads / c->n_kv_heads;
    r.q_dim = c->n_heads * c->head_dim;
    r.kv_dim = c->n_kv_heads * c->head_dim;
    r.scale = 1 / sqrtf((float)c->head_dim);
    r.prefill = !pass->sessions && pass->n >= PREFILL_ROWS;
    t->a_dim.x = t->h, t->a_dim.ldx = (size_t)c->dim;
    t->a_q.x = t->attn, t->a_q.ldx = (size_t)r.q_dim;
    t->a_ffn.x = t->gate, t->a_ffn.ldx = (size_t)c->ffn_dim;
    gqa_team_run(s->team, useful_threads(&r), forward, &r);
    return atomic_exchange(r.cancel, 0) ? GQA_ERR_CANCELLED : 0;
}
