/* forward.c: the transformer, from token ids to logits. forward() reads top to bottom as the papers
 * do: RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), grouped-query attention
 * (Ainslie et al. 2023), SwiGLU (Shazeer 2020), in the arrangement of LLaMA (Touvron et al. 2023).
 *
 * All threads of the team run forward() together. A phase is a loop over units of work that the
 * threads share; it ends when all its units are done (kernels/team.h). What a unit computes never
 * depends on which thread computes it, so neither do the results. */
#include <float.h>
#include <math.h>

#include "session/session_internal.h"

/* One pass, as all its threads see it. */
typedef struct pass_state {
    const gqa_pass *pass;
    const gqa_model *model;
    const gqa_config *config;
    const gqa_kernels *kernels;
    gqa_session *session;
    gqa_scratch *scratch;
    int n;                   /* rows: tokens of this pass */
    int prefill;             /* rows are one sequence's, enough for tiles of query positions */
    int n_kv_heads, group;   /* group: query heads a KV head */
    int *bad_layer;          /* NULL unless the layers are checked (then there is one thread) */
    size_t dim, head_dim, q_dim, kv_dim, ffn_dim, rope_dim;
    float scale;             /* on q.k: 1 / sqrt(head_dim) */
    atomic_int *cancel;
} pass_state;

enum {
    PREFILL_ROWS = 8,        /* fewer rows of one sequence are attended like decoding, by splits */
    SWIGLU_COLUMNS = 512     /* a unit of swiglu() */
};

/* The map of grouped-query attention: query head h reads KV head h / group, so KV head g serves the
 * query heads first_query_head(g) .. + group - 1. The runtime's only place that knows it. */
static size_t first_query_head(const pass_state *p, int kv_head) {
    return (size_t)kv_head * (size_t)p->group;
}

/* Where the heads of a row's group begin in q and attn [n, q_dim]. */
static size_t group_offset(const pass_state *p, int row, int kv_head) {
    return (size_t)row * p->q_dim + first_query_head(p, kv_head) * p->head_dim;
}

static gqa_session *session_of(const pass_state *p, int row) {
    return p->pass->sessions ? p->pass->sessions[row] : p->session;
}

static int position_of(const pass_state *p, int row) {
    return p->pass->positions ? p->pass->positions[row] : p->session->position + row;
}

/* The first position that a query at `position` attends to. */
static int first_seen(const pass_state *p, int position) {
    int window = p->config->window;
    return window > 0 && position >= window ? position - window + 1 : 0;
}

static int cancelled(const pass_state *p) {
    return atomic_load_explicit(p->cancel, memory_order_relaxed);
}

static void *thread_scratch(const pass_state *p, const gqa_worker *me) {
    return p->scratch->thread + (size_t)me->id * p->scratch->thread_bytes;
}

/* ---- embedding, norms, matrix products ------------------------------------------------------- */

/* x = the embedding of each token; cos_sin = the rotations of its position. */
static void embed(pass_state *p, gqa_worker *me) {
    const gqa_matrix *table = &p->model->embedding;
    size_t row_bytes = (size_t)gqa_type_bytes(table->type, p->dim), pairs = p->rope_dim / 2;
    for_units(i, me, p->n) {
        size_t row = (size_t)i, token = (size_t)p->pass->tokens[i];
        float *cos_row = p->scratch->cos_sin + row * p->rope_dim, *sin_row = cos_row + pairs;
        gqa_dequantize(table->type, table->raw + token * row_bytes, p->scratch->x + row * p->dim,
                       p->dim);
        for (size_t j = 0; j < pairs; j++) {
            double angle = position_of(p, i) * p->model->rope_freq[j];
            cos_row[j] = (float)cos(angle) * p->model->rope_magnitude;
            sin_row[j] = (float)sin(angle) * p->model->rope_magnitude;
        }
    }
}

/* Several products of the same activations in one phase: y[j] [n, rows] = a w[j]^T. */
typedef struct product {
    const gqa_matrix *w;
    float *y;
} product;

/* Whether one of the products reads its activations as int8. */
static int wants_int8(const product *list, int count) {
    int wanted = 0;
    for (int j = 0; j < count; j++) wanted |= gqa_type_wants_q8(list[j].w->type);
    return wanted;
}

/* Add & Norm (Vaswani et al. 2017): x += branch (NULL: nothing), then h = rmsnorm(x), also as int8
 * where a product of `next` wants it. */
static void add_and_norm(pass_state *p, gqa_worker *me, const float *branch, const float *weight,
                         const product *next, int count) {
    int dim = p->config->dim, as_int8 = wants_int8(next, count);
    for_units(i, me, p->n) {
        size_t row = (size_t)i * p->dim;
        float *x = p->scratch->x + row, *h = p->scratch->h + row;
        if (branch) p->kernels->add(x, branch + row, dim);
        p->kernels->rmsnorm(h, x, weight, dim, p->config->norm_eps);
        if (as_int8) p->kernels->quantize_acts(&p->scratch->h_acts, i, i + 1, 0, dim);
    }
}

static void matmul(pass_state *p, gqa_worker *me, const gqa_acts *a, int n, const product *list,
                   int count) {
    int total = 0, first = 0;
    for (int j = 0; j < count; j++) total += gqa_matmul_units(list[j].w);
    int u = gqa_unit_first(me, total);
    for (int j = 0; j < count; j++) {
        const gqa_matrix *w = list[j].w;
        int units = gqa_matmul_units(w);
        for (; u >= 0 && u < first + units; u = gqa_unit_next(me)) {
            if (cancelled(p)) continue;
            p->kernels->matmul_unit(w, a, n, list[j].y, (size_t)w->rows, u - first,
                                    thread_scratch(p, me));
        }
        first += units;
    }
}

/* ---- rotary positions and the KV cache ------------------------------------------------------- */

/* Bias (qwen2), norm (qwen3) and rotation of one head, in place. bias and norm may be NULL. */
static void rope_head(pass_state *p, float *head, const float *bias, const float *norm,
                      const float *cos_sin) {
    const gqa_config *c = p->config;
    if (bias) p->kernels->add(head, bias, c->head_dim);
    if (norm) p->kernels->rmsnorm(head, head, norm, c->head_dim, c->norm_eps);
    p->kernels->rope(head, cos_sin, c->rope_dim, c->rope_half);
}

static const float *offset_or_null(const float *vector, size_t offset) {
    return vector ? vector + offset : NULL;
}

/* Scales x for an f16 cache. What is still too large is clamped, and noted for a smaller scale. */
static void fit_f16(const pass_state *p, float *x, float scale, atomic_uint *max) {
    const float limit = 65504;
    int d = p->config->head_dim;
    for (int i = 0; scale < 1 && i < d; i++) x[i] *= scale;
    if (p->kernels->dot(x, x, d) <= limit * limit) return;
    for (int i = 0; i < d; i++) {
        union { float value; unsigned bits; } size = {fabsf(x[i])};
        if (!(size.value > limit) || size.value > FLT_MAX) continue;
        x[i] = x[i] > 0 ? limit : -limit;
        size.value /= scale;
        unsigned seen = atomic_load(max); /* positive floats are ordered like their bits */
        while (seen < size.bits && !atomic_compare_exchange_weak(max, &seen, size.bits)) {}
    }
}

/* Rotates the queries and the key of a row's group, and appends K and V to the cache. */
static void rope_and_cache_group(pass_state *p, const gqa_layer *layer, int l, int row,
                                 int kv_head) {
    size_t d = p->head_dim, k_offset = (size_t)kv_head * d;
    size_t q_offset = first_query_head(p, kv_head) * d, kv_row = (size_t)row * p->kv_dim;
    const float *cos_sin = p->scratch->cos_sin + (size_t)row * p->rope_dim;
    float *q = p->scratch->q + group_offset(p, row, kv_head);
    float *k = p->scratch->k + kv_row + k_offset, *v = p->scratch->v + kv_row + k_offset;
    int position = position_of(p, row);
    if (p->session->on_kv) p->session->on_kv(p->session->on_kv_user, l, position, kv_head, k, v);
    for (int g = 0; g < p->group; g++, q += d, q_offset += d)
        rope_head(p, q, offset_or_null(layer->bq, q_offset), layer->q_norm, cos_sin);
    rope_head(p, k, offset_or_null(layer->bk, k_offset), layer->k_norm, cos_sin);
    if (layer->bv) p->kernels->add(v, layer->bv + k_offset, p->config->head_dim);
    gqa_session *s = session_of(p, row);
    if (s->kv[l].type == GQA_TYPE_F16) {
        fit_f16(p, k, s->range[l].k_scale, &s->range[l].k_max);
        fit_f16(p, v, s->range[l].v_scale, &s->range[l].v_max);
    }
    p->kernels->kv_append(&s->kv[l], kv_head, position, k, v);
}

static void rope_and_cache(pass_state *p, gqa_worker *me, const gqa_layer *layer, int l) {
    int units = p->prefill ? 1 : p->n_kv_heads; /* of a row; a prefill has rows enough */
    for_units(u, me, p->n * units)
        for (int h = u % units; h < p->n_kv_heads; h += units)
            rope_and_cache_group(p, layer, l, u / units, h);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* The output of attention as int8, for wo: by groups, where the heads of a group are whole blocks
 * of 32 values, else by rows in a phase of its own. */
static int groups_are_blocks(const pass_state *p) {
    return (size_t)p->group * p->head_dim % 32 == 0;
}

static void quantize_group(pass_state *p, const gqa_layer *layer, int row, int end, int kv_head) {
    int width = p->group * p->config->head_dim, first = kv_head * width;
    if (gqa_type_wants_q8(layer->wo.type) && groups_are_blocks(p))
        p->kernels->quantize_acts(&p->scratch->attn_acts, row, end, first, first + width);
}

/* Undoes the scale of values in an f16 cache, for a group's output of one row. */
static void unscale_group(const pass_state *p, int l, int row, int kv_head) {
    float scale = session_of(p, row)->range[l].v_scale;
    float *out = p->scratch->attn + group_offset(p, row, kv_head);
    for (size_t i = 0; scale < 1 && i < (size_t)p->group * p->head_dim; i++) out[i] /= scale;
}

static void quantize_rows(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    if (!gqa_type_wants_q8(layer->wo.type) || groups_are_blocks(p)) return;
    for_units(i, me, p->n)
        p->kernels->quantize_acts(&p->scratch->attn_acts, i, i + 1, 0, (int)p->q_dim);
}

/* Prefill: a unit is a KV head and a tile of query positions, the last (longest) tiles first. */
static void attend_prefill(pass_state *p, gqa_worker *me, const gqa_layer *layer, int l) {
    int tiles = ceil_div(p->n, GQA_PREFILL_TILE);
    for_units(u, me, tiles * p->n_kv_heads) {
        if (cancelled(p)) continue;
        int row = (tiles - 1 - u / p->n_kv_heads) * GQA_PREFILL_TILE, kv_head = u % p->n_kv_heads;
        int rows = min_int(p->n - row, GQA_PREFILL_TILE);
        size_t offset = group_offset(p, row, kv_head);
        p->kernels->attend_prefill(&p->session->kv[l], kv_head, p->scratch->q + offset, p->q_dim,
                                   p->group, p->scale / p->session->range[l].k_scale,
                                   position_of(p, row), rows, p->config->window,
                                   p->scratch->attn + offset, p->q_dim, thread_scratch(p, me));
        for (int i = 0; i < rows; i++) unscale_group(p, l, row + i, kv_head);
        quantize_group(p, layer, row, row + rows, kv_head);
    }
}

/* Splits of GQA_KV_SPLIT positions that hold what a row attends to. */
static int splits_of(const pass_state *p, int row) {
    int position = position_of(p, row);
    return position / GQA_KV_SPLIT - first_seen(p, position) / GQA_KV_SPLIT + 1;
}

static float *partials_of(const pass_state *p, int row, int kv_head) {
    size_t index = (size_t)row * (size_t)p->n_kv_heads + (size_t)kv_head;
    index *= (size_t)p->scratch->max_splits;
    return p->scratch->partials + index * gqa_partial_floats(p->group, p->config->head_dim);
}

static void attend_split(pass_state *p, gqa_worker *me, int l, int row, int kv_head, int split) {
    int end = position_of(p, row) + 1, begin = first_seen(p, end - 1);
    int t0 = (begin / GQA_KV_SPLIT + split) * GQA_KV_SPLIT;
    float *partial = partials_of(p, row, kv_head) +
                     (size_t)split * gqa_partial_floats(p->group, p->config->head_dim);
    const gqa_session *s = session_of(p, row);
    p->kernels->attend_decode(&s->kv[l], kv_head, p->scratch->q + group_offset(p, row, kv_head),
                              p->group, p->scale / s->range[l].k_scale, max_int(t0, begin),
                              min_int(t0 + GQA_KV_SPLIT, end), partial, thread_scratch(p, me));
}

static void combine_splits(pass_state *p, const gqa_layer *layer, int l, int row, int kv_head) {
    float *out = p->scratch->attn + group_offset(p, row, kv_head);
    p->kernels->combine_splits(partials_of(p, row, kv_head), splits_of(p, row), p->group,
                               p->config->head_dim, out, p->head_dim);
    unscale_group(p, l, row, kv_head);
    quantize_group(p, layer, row, row + 1, kv_head);
}

/* The splits of all rows are units, so that even one KV head keeps every thread busy
 * (Flash-Decoding, Dao et al. 2023); then the partial results are combined. */
static void attend_by_splits(pass_state *p, gqa_worker *me, const gqa_layer *layer, int l,
                             int total) {
    int heads = p->n_kv_heads, first = 0, u = gqa_unit_first(me, total);
    for (int row = 0; row < p->n; row++) {
        int splits = splits_of(p, row), units = splits * heads;
        for (; u >= 0 && u < first + units; u = gqa_unit_next(me))
            attend_split(p, me, l, row, (u - first) / splits, (u - first) % splits);
        first += units;
    }
    for_units(v, me, p->n * heads) combine_splits(p, layer, l, v / heads, v % heads);
}

/* Decoding. While each row attends to one split and to nothing of another row's, one unit takes a
 * row's KV head through RoPE, cache and attention. Splits are fixed, so the results do not depend
 * on the threads. */
static void rope_cache_attend(pass_state *p, gqa_worker *me, const gqa_layer *layer, int l) {
    int heads = p->n_kv_heads, total = 0;
    for (int row = 0; row < p->n; row++) total += splits_of(p, row) * heads;
    int independent = p->n == 1 || p->pass->sessions != NULL;
    if (!independent || total > p->n * heads) {
        rope_and_cache(p, me, layer, l);
        attend_by_splits(p, me, layer, l, total);
        return;
    }
    for_units(u, me, total) {
        rope_and_cache_group(p, layer, l, u / heads, u % heads);
        attend_split(p, me, l, u / heads, u % heads, 0);
        combine_splits(p, layer, l, u / heads, u % heads);
    }
}

/* ---- feed-forward and classifier ------------------------------------------------------------- */

/* gate = silu(gate) * up, also as int8 where the next product wants it. */
static void swiglu(pass_state *p, gqa_worker *me, const product *next) {
    int ffn_dim = p->config->ffn_dim, parts = ceil_div(ffn_dim, SWIGLU_COLUMNS);
    int as_int8 = wants_int8(next, 1);
    for_units(u, me, p->n * parts) {
        int row = u / parts, first = u % parts * SWIGLU_COLUMNS;
        int end = min_int(first + SWIGLU_COLUMNS, ffn_dim);
        size_t offset = (size_t)row * p->ffn_dim + (size_t)first;
        float *gate = p->scratch->gate + offset;
        p->kernels->swiglu(gate, gate, p->scratch->up + offset, end - first);
        if (as_int8) p->kernels->quantize_acts(&p->scratch->gate_acts, row, row + 1, first, end);
    }
}

/* logits = W rmsnorm(x + h) of the last n_out rows. The norms go to the first rows of h, which
 * other rows' additions may still read: hence a phase each. */
static void classify(pass_state *p, gqa_worker *me) {
    int n_out = p->pass->n_out, dim = p->config->dim;
    size_t skip = (size_t)(p->n - n_out) * p->dim;
    float *x = p->scratch->x + skip, *last_h = p->scratch->h + skip, *h = p->scratch->h;
    const product logits = {&p->model->classifier, p->pass->logits};
    if (n_out == 0) return;
    for_units(i, me, n_out) {
        size_t row = (size_t)i * p->dim;
        p->kernels->add(x + row, last_h + row, dim);
    }
    for_units(i, me, n_out) {
        size_t row = (size_t)i * p->dim;
        p->kernels->rmsnorm(h + row, x + row, p->model->output_norm, dim, p->config->norm_eps);
        if (wants_int8(&logits, 1))
            p->kernels->quantize_acts(&p->scratch->h_acts, i, i + 1, 0, dim);
    }
    matmul(p, me, &p->scratch->h_acts, n_out, &logits, 1);
}

/* Notes the first layer after which a row of x + h is not finite. */
static void check_layer(const pass_state *p, int l) {
    for (size_t i = 0; i < (size_t)p->n * p->dim && *p->bad_layer < 0; i++) {
        float sum = p->scratch->x[i] + p->scratch->h[i];
        if (!(sum - sum == 0)) *p->bad_layer = l;
    }
}

/* ---- the transformer ------------------------------------------------------------------------- */

static void forward(gqa_worker *me, void *arg) {
    pass_state *p = arg;
    gqa_scratch *s = p->scratch;
    embed(p, me);                                                /* x = E[token] */
    for (int l = 0; l < p->config->n_layers; l++) {
        const gqa_layer *layer = &p->model->layers[l];
        const product qkv[] = {{&layer->wq, s->q}, {&layer->wk, s->k}, {&layer->wv, s->v}};
        const product out = {&layer->wo, s->h};
        const product gate_up[] = {{&layer->w_gate, s->gate}, {&layer->w_up, s->up}};
        const product down = {&layer->w_down, s->h};
        const float *branch = l > 0 ? s->h : NULL;               /* of the layer before */

        add_and_norm(p, me, branch, layer->attn_norm, qkv, 3);   /* x += h;  h = rmsnorm(x) */
        if (cancelled(p)) return;
        matmul(p, me, &s->h_acts, p->n, qkv, 3);                 /* q, k, v = Wq h, Wk h, Wv h */
        if (p->prefill) {
            rope_and_cache(p, me, layer, l);                     /* rotate q, k;  cache k, v */
            attend_prefill(p, me, layer, l);                     /* attn = softmax(qK/sqrt(d)) V */
        } else {
            rope_cache_attend(p, me, layer, l);                  /* decoding: both in one phase */
        }
        quantize_rows(p, me, layer);
        matmul(p, me, &s->attn_acts, p->n, &out, 1);             /* h = Wo attn */

        add_and_norm(p, me, s->h, layer->ffn_norm, gate_up, 2);  /* x += h;  h = rmsnorm(x) */
        if (cancelled(p)) return;
        matmul(p, me, &s->h_acts, p->n, gate_up, 2);             /* gate, up = Wgate h, Wup h */
        swiglu(p, me, &down);                                    /* gate = silu(gate) * up */
        matmul(p, me, &s->gate_acts, p->n, &down, 1);            /* h = Wdown gate */
        if (p->bad_layer) check_layer(p, l);
    }
    classify(p, me);                                             /* logits = W rmsnorm(x + h) */
}

/* Threads cost a few microseconds a phase: a small product is faster alone. */
static int useful_threads(const pass_state *p) {
    enum { SMALL = 1 << 22 };  /* multiply-adds */
    uint64_t work = p->model->stats.matmul_params * (uint64_t)p->n;
    return work < SMALL || p->bad_layer ? 1 : p->session->workspace->n_threads;
}

int gqa_forward(gqa_pass *pass) {
    gqa_session *session = pass->session;
    const gqa_config *c = &session->model->config;
    pass_state p = {
        .pass = pass,
        .model = session->model,
        .config = c,
        .kernels = session->model->kernels,
        .session = session,
        .scratch = &session->workspace->scratch,
        .n = pass->n,
        .prefill = !pass->sessions && pass->n >= PREFILL_ROWS,
        .n_kv_heads = c->n_kv_heads,
        .group = c->n_heads / c->n_kv_heads,
        .bad_layer = pass->bad_layer,
        .dim = (size_t)c->dim,
        .head_dim = (size_t)c->head_dim,
        .q_dim = (size_t)c->n_heads * (size_t)c->head_dim,
        .kv_dim = (size_t)c->n_kv_heads * (size_t)c->head_dim,
        .ffn_dim = (size_t)c->ffn_dim,
        .rope_dim = (size_t)c->rope_dim,
        .scale = 1 / sqrtf((float)c->head_dim),
        .cancel = pass->cancel ? pass->cancel : &session->cancel,
    };
    gqa_team_run(session->workspace->team, useful_threads(&p), forward, &p);
    return atomic_exchange(p.cancel, 0) ? GQA_ERR_CANCELLED : 0;
}
