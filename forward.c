/* forward.c: the transformer, from token ids to logits. forward() reads top to bottom as the papers
 * do: RMSNorm (Zhang & Sennrich 2019), rotary positions (Su et al. 2021), grouped-query attention
 * (Ainslie et al. 2023), SwiGLU (Shazeer 2020), in the arrangement of LLaMA (Touvron et al. 2023).
 *
 * All threads of the team run forward() together. A phase is a loop over units of work that the
 * threads share; it ends when all its units are done (kernels/team.h). What a unit computes never
 * depends on which thread computes it, so neither do the results. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "session/pass.h"

enum { COLUMNS = 512 };      /* a unit of activate_gate() and of scale_logits() */

/* Whether it has keys and values of its own; some layers of gemma4 read an earlier one's. */
static int owns_kv(const pass_state *p, const gqa_layer *layer) {
    return layer == &p->model->layers[layer->config.kv_layer];
}

/* The map of grouped-query attention: query head h reads KV head h / group, so KV head g serves the
 * query heads first_query_head(g) .. + group - 1. The runtime's only place that knows it. */
static size_t first_query_head(const gqa_layer *layer, int kv_head) {
    return (size_t)kv_head * layer->group;
}

/* The queries of a row's group in q [n, q_dim]. */
static float *queries_of(const pass_state *p, const gqa_layer *layer, int row, int kv_head) {
    float *q = row_of(p->scratch->q, p->q_dim, kept_row(p, row));
    return q + first_query_head(layer, kv_head) * layer->head_dim;
}

/* The first position that a query at `position` attends to. */
static int first_seen(const gqa_layer *layer, int position) {
    int window = layer->config.window;
    return window > 0 && position >= window ? position - window + 1 : 0;
}

/* ---- embedding, norms, matrix products ------------------------------------------------------- */

/* The rotations of a row's position: cos [rope_dim / 2], then sin. */
static float *cos_sin_of(const pass_state *p, int table, int row) {
    size_t index = (size_t)(table == GQA_ROPE_LOCAL) * p->scratch->rows + row;
    return p->scratch->cos_sin + index * p->rope_dim;
}

static void make_rotations(const pass_state *p, int table, int row) {
    const gqa_rope_table *rope = &p->model->rope[table];
    size_t pairs = rope->dim / 2;
    float *cos_row = cos_sin_of(p, table, row), *sin_row = cos_row + pairs;
    for (size_t j = 0; j < pairs; j++) {
        double angle = position_of(p, row) * rope->freq[j];
        cos_row[j] = (float)cos(angle) * rope->magnitude;
        sin_row[j] = (float)sin(angle) * rope->magnitude;
    }
}

/* x = the embedding of each token (gemma, granite: scaled), and the rotations of its position. */
static void embed(pass_state *p, gqa_worker *me) {
    const gqa_matrix *table = &p->model->embedding;
    size_t row_bytes = gqa_type_bytes(table->type, p->dim);
    for_units(i, me, p->n) {
        float *x = row_of(p->scratch->x, p->dim, i);
        gqa_dequantize(table->type, table->raw + token_of(p, i) * row_bytes, x, p->dim);
        scale_row(x, p->dim, p->config->embedding_scale);
        make_rotations(p, session_of(p, i)->is_long ? GQA_ROPE_LONG : GQA_ROPE_MODEL, i);
        if (p->model->rope[GQA_ROPE_LOCAL].freq) make_rotations(p, GQA_ROPE_LOCAL, i);
    }
}

/* ---- rotary positions and the KV cache ------------------------------------------------------- */

static int rope_table_of(const gqa_layer *layer) {
    return layer->config.rope == GQA_LAYER_ROPE_LOCAL ? GQA_ROPE_LOCAL : GQA_ROPE_MODEL;
}

/* Bias (qwen2), norm (qwen3; after RoPE: hunyuan-dense) and rotation of one head, in place. bias,
 * norm and cos_sin (a layer without RoPE) may be NULL. */
static void rope_head(const pass_state *p, const gqa_layer *layer, float *head, const float *bias,
                      const float *norm, const float *cos_sin) {
    const gqa_config *c = p->config;
    int d = layer->config.head_dim, rope_dim = p->model->rope[rope_table_of(layer)].dim;
    int is_before = c->qk_norm == GQA_QK_NORM_HEADS;
    int is_after = c->qk_norm == GQA_QK_NORM_AFTER_ROPE;
    if (bias) p->kernels->add(head, bias, d);
    if (is_before) p->kernels->rmsnorm(head, head, norm, d, c->norm_eps);
    int at = c->tied_kv ? d - rope_dim : c->latent_dim;
    if (cos_sin) p->kernels->rope(head + at, cos_sin, rope_dim, c->rope_half);
    if (is_after) p->kernels->rmsnorm(head, head, norm, d, c->norm_eps);
}

/* Norm over all heads of Q, and of K, together (olmo2). */
static void norm_rows(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    size_t kv_dim = layer->kv_dim;
    float eps = p->config->norm_eps;
    if (p->config->qk_norm != GQA_QK_NORM_ROWS) return;
    for_units(i, me, p->n) {
        float *q = row_of(p->scratch->q, p->q_dim, i), *k = row_of(p->scratch->k, kv_dim, i);
        p->kernels->rmsnorm(q, q, layer->q_norm, (int)p->q_dim, eps);
        p->kernels->rmsnorm(k, k, layer->k_norm, (int)kv_dim, eps);
    }
}

/* What queries grow by with their position (mistral3), else 1. */
static float query_scale(const gqa_config *c, int position) {
    if (c->attention_temperature == 0 || c->rope_orig_context < 1) return 1;
    return 1 + c->attention_temperature * logf(1 + (float)(position / c->rope_orig_context));
}

static const float *offset_or_null(const float *vector, size_t offset) {
    return vector ? vector + offset : NULL;
}

/* Scales x for an f16 cache. What is still too large is clamped, and noted for a smaller scale. */
static void fit_f16(const pass_state *p, float *x, int d, float scale, atomic_uint *max) {
    const float limit = 65504;
    scale_row(x, d, scale);
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

/* V's norm, which has no weights (gemma4). */
static void norm_v(const pass_state *p, float *v, int d) {
    float square = p->kernels->dot(v, v, d) / (float)d;
    scale_row(v, d, 1 / sqrtf(square + p->config->norm_eps));
}

/* deepseek2, gta: appends what is K and V at once, and after the first head's what all keys share,
 * rotated: it follows the latent in a row, or has a matrix of its own. */
static void cache_shared(pass_state *p, const gqa_layer *layer, int row, int kv_head,
                         const float *cos_sin) {
    gqa_session *s = session_of(p, row);
    int l = layer->config.kv_layer, has_own = layer->wv.rows > 0, n = (int)layer->value_dim;
    gqa_kv *kv = &s->kv[l];
    gqa_kv_range *range = &s->range[l];
    float *k = row_of(p->scratch->k, layer->kv_dim, row) + kv_head * layer->value_dim;
    float *shared = has_own ? row_of(p->scratch->v, layer->kv_dim, row) : k + n;
    int is_f16 = kv->k_type == GQA_TYPE_F16, is_first = kv_head == 0, r = kv->shared_dim;
    if (is_first && cos_sin) p->kernels->rope(shared, cos_sin, r, p->config->rope_half);
    if (is_f16) fit_f16(p, k, n, range->k_scale, &range->k_max);
    if (is_f16 && is_first) fit_f16(p, shared, r, range->k_scale, &range->k_max);
    p->kernels->kv_append(kv, kv_head, position_of(p, row), k, shared);
}

/* Rotates the key of a row and KV head, and appends K and V to the cache of the layer. */
static void cache_kv(pass_state *p, const gqa_layer *layer, int row, int kv_head,
                     const float *cos_sin) {
    int d = layer->config.head_dim, position = position_of(p, row);
    size_t offset = kv_head * layer->head_dim, at = row * layer->kv_dim + offset;
    float *k = p->scratch->k + at, *v = p->scratch->v + at;
    int l = layer->config.kv_layer;
    gqa_session *s = session_of(p, row);
    if (!layer->wv.rows) memcpy(v, k, sizeof *v * d); /* gemma4: V is K */
    if (s->on_kv) s->on_kv(s->on_kv_user, l, position, kv_head, k, v);
    rope_head(p, layer, k, offset_or_null(layer->bk, offset), layer->k_norm, cos_sin);
    if (layer->bv) p->kernels->add(v, layer->bv + offset, d);
    if (p->config->norm_v) norm_v(p, v, d);
    gqa_kv *kv = &s->kv[l];
    gqa_kv_range *range = &s->range[l];
    if (kv->k_type == GQA_TYPE_F16) fit_f16(p, k, d, range->k_scale, &range->k_max);
    if (kv->v_type == GQA_TYPE_F16) fit_f16(p, v, d, range->v_scale, &range->v_max);
    p->kernels->kv_append(kv, kv_head, position, k, v);
}

static void rope_queries(pass_state *p, const gqa_layer *layer, int row, int kv_head,
                         const float *cos_sin) {
    size_t d = layer->head_dim, offset = first_query_head(layer, kv_head) * d;
    float *q = queries_of(p, layer, row, kv_head);
    for (int g = 0; g < layer->group; g++, q += d, offset += d) {
        rope_head(p, layer, q, offset_or_null(layer->bq, offset), layer->q_norm, cos_sin);
        scale_row(q, d, query_scale(p->config, position_of(p, row)));
    }
}

/* Rotates the queries of a row's group, if they are needed; its key too, and caches K and V, unless
 * the layer shares those of another one (gemma4). */
static void rope_and_cache_group(pass_state *p, const gqa_layer *layer, int row, int kv_head) {
    const float *cos_sin = layer->config.rope ? cos_sin_of(p, rope_table_of(layer), row) : NULL;
    if (kept_row(p, row) >= 0) rope_queries(p, layer, row, kv_head, cos_sin);
    if (session_of(p, row)->kv[layer->config.kv_layer].shared_dim)
        cache_shared(p, layer, row, kv_head, cos_sin);
    else if (owns_kv(p, layer))
        cache_kv(p, layer, row, kv_head, cos_sin);
}

static void rope_and_cache(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    int heads = layer->config.n_kv_heads;
    int units = p->pass->n > p->pass->n_split ? 1 : heads; /* of a row; a prefill has rows enough */
    for_units(u, me, p->pass->n * units)
        for (int h = u % units; h < heads; h += units)
            rope_and_cache_group(p, layer, u / units, h);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* The output of attention in the form that wo wants: by groups, where the heads of a group are
 * whole blocks of 32 values, else by rows in a phase of its own. */
static int groups_are_blocks(const pass_state *p, const gqa_layer *layer) {
    return !p->config->latent_dim && layer->group * layer->head_dim % 32 == 0;
}

static void finish_group(pass_state *p, const gqa_layer *layer, int row, int end, int kv_head) {
    int width = layer->group * layer->config.head_dim, first = kv_head * width;
    const product out = {&layer->wo, NULL, 0};
    int forms = groups_are_blocks(p, layer) ? forms_for(p, &out, 1) : 0;
    make_forms(p, forms, &p->scratch->attn_acts, kept_row(p, row), kept_row(p, end - 1) + 1, first,
               first + width);
}

/* Where attention writes the output of a row's group: in the input of wo, or in that of latent
 * attention's expansion. */
static float *attention_output(const pass_state *p, const gqa_layer *layer, int row, int kv_head) {
    float *out = p->config->latent_dim ? p->scratch->latent : p->scratch->attn;
    size_t offset = first_query_head(layer, kv_head) * layer->value_dim;
    return row_of(out, p->out_dim, kept_row(p, row)) + offset;
}

/* Undoes the scale of values in an f16 cache, for a group's output of one row. */
static void unscale_group(const pass_state *p, const gqa_layer *layer, int row, int kv_head) {
    const gqa_session *s = session_of(p, row);
    const gqa_kv_range *range = &s->range[layer->config.kv_layer];
    float scale = s->kv[layer->config.kv_layer].shared_dim ? range->k_scale : range->v_scale;
    float *out = attention_output(p, layer, row, kv_head);
    size_t n = layer->group * layer->value_dim;
    if (scale == 1) return;
    for (size_t i = 0; i < n; i++) out[i] /= scale;
}

/* What is left to do before Wo: deepseek2's expansion; the form of attn, where it is not yet. */
static void finish_attention(pass_state *p, gqa_worker *me, const gqa_layer *layer,
                             const product *out) {
    int forms = forms_for(p, out, 1);
    if (p->config->latent_dim) {
        gqa_latent_expand(p, me, layer);
        return;
    }
    if (!forms || groups_are_blocks(p, layer)) return;
    for_units(i, me, p->n) make_forms(p, forms, &p->scratch->attn_acts, i, i + 1, 0, out->w->cols);
}

/* A KV head for a tile of query positions: `rows` rows of one sequence. */
static void attend_tile(pass_state *p, gqa_worker *me, const gqa_layer *layer, int row, int rows,
                        int kv_head) {
    gqa_session *s = session_of(p, row);
    int l = layer->config.kv_layer;
    float scale = p->config->attention_scale / s->range[l].k_scale;
    if (cancelled(p)) return;
    p->kernels->attend_prefill(&s->kv[l], kv_head, queries_of(p, layer, row, kv_head), p->q_dim,
                               layer->group, scale, position_of(p, row), rows,
                               layer->config.window, attention_output(p, layer, row, kv_head),
                               p->out_dim, thread_scratch(p, me));
    for (int i = 0; i < rows; i++) unscale_group(p, layer, row + i, kv_head);
    finish_group(p, layer, row, row + rows, kv_head);
}

/* The first row of a part that is needed. */
static int first_kept(const pass_state *p, const gqa_part *part) {
    return p->n == p->pass->n ? 0 : part->n - part->n_out;
}

/* Units of attend_prefill() for a part: none for one that is attended by splits. */
static int prefill_units(const pass_state *p, const gqa_layer *layer, const gqa_part *part) {
    if (part->first < p->pass->n_split) return 0;
    int rows = part->n - first_kept(p, part);
    return ceil_div(rows, GQA_PREFILL_TILE) * layer->config.n_kv_heads;
}

/* Prefill: a unit is a KV head and a tile of a part's query positions, its last (longest) tiles
 * first. */
static void attend_prefill(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    const gqa_part *parts = p->pass->parts, *end = parts + p->pass->n_parts;
    int heads = layer->config.n_kv_heads, total = 0, first = 0;
    for (const gqa_part *part = parts; part < end; part++) total += prefill_units(p, layer, part);
    int u = gqa_unit_first(me, total);
    for (const gqa_part *part = parts; part < end; part++) {
        int units = prefill_units(p, layer, part);
        for (; u >= 0 && u < first + units; u = gqa_unit_next(me)) {
            int at = (units - 1 - (u - first)) / heads * GQA_PREFILL_TILE + first_kept(p, part);
            int rows = min_int(part->n - at, GQA_PREFILL_TILE);
            attend_tile(p, me, layer, part->first + at, rows, (u - first) % heads);
        }
        first += units;
    }
}

/* Splits of GQA_KV_SPLIT positions that hold what a row attends to. */
static int splits_of(const pass_state *p, const gqa_layer *layer, int row) {
    int position = position_of(p, row);
    return position / GQA_KV_SPLIT - first_seen(layer, position) / GQA_KV_SPLIT + 1;
}

/* The partial result of a split. */
static float *partial_of(const pass_state *p, const gqa_layer *layer, int row, int kv_head,
                         int split) {
    size_t index = (size_t)row * layer->config.n_kv_heads + kv_head;
    index = index * p->scratch->max_splits + split;
    size_t floats = gqa_partial_floats(layer->group, (int)layer->value_dim);
    return p->scratch->partials + index * floats;
}

static void attend_split(pass_state *p, gqa_worker *me, const gqa_layer *layer, int row,
                         int kv_head, int split) {
    if (kept_row(p, row) < 0) return;
    int l = layer->config.kv_layer;
    int end = position_of(p, row) + 1, begin = first_seen(layer, end - 1);
    int t0 = (begin / GQA_KV_SPLIT + split) * GQA_KV_SPLIT;
    const gqa_session *s = session_of(p, row);
    p->kernels->attend_decode(&s->kv[l], kv_head, queries_of(p, layer, row, kv_head), layer->group,
                              p->config->attention_scale / s->range[l].k_scale,
                              max_int(t0, begin), min_int(t0 + GQA_KV_SPLIT, end),
                              partial_of(p, layer, row, kv_head, split), thread_scratch(p, me));
}

static void combine_splits(pass_state *p, const gqa_layer *layer, int row, int kv_head) {
    if (kept_row(p, row) < 0) return;
    float *out = attention_output(p, layer, row, kv_head);
    p->kernels->combine_splits(partial_of(p, layer, row, kv_head, 0), splits_of(p, layer, row),
                               layer->group, (int)layer->value_dim, out, layer->value_dim);
    unscale_group(p, layer, row, kv_head);
    finish_group(p, layer, row, row + 1, kv_head);
}

/* Units of attend_by_splits(): a KV head and a split. */
static int split_units(const pass_state *p, const gqa_layer *layer) {
    int splits = 0;
    for (int row = 0; row < p->pass->n_split; row++) splits += splits_of(p, layer, row);
    return splits * layer->config.n_kv_heads;
}

/* The splits of all rows are units, so that even one KV head keeps every thread busy
 * (Flash-Decoding, Dao et al. 2023); then the partial results are combined. */
static void attend_by_splits(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    int heads = layer->config.n_kv_heads, first = 0;
    int u = gqa_unit_first(me, split_units(p, layer));
    for (int row = 0; row < p->pass->n_split; row++) {
        int splits = splits_of(p, layer, row), units = splits * heads;
        for (; u >= 0 && u < first + units; u = gqa_unit_next(me))
            attend_split(p, me, layer, row, (u - first) / splits, (u - first) % splits);
        first += units;
    }
    for_units(v, me, p->pass->n_split * heads) combine_splits(p, layer, v / heads, v % heads);
}

static void attend(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    if (p->pass->n > p->pass->n_split) attend_prefill(p, me, layer);
    if (p->pass->n_split) attend_by_splits(p, me, layer);
}

/* Whether each row is a sequence's only one and attends to one split. Splits are fixed, so the
 * results do not depend on the threads. */
static int is_one_phase(const pass_state *p, const gqa_layer *layer) {
    int heads = layer->config.n_kv_heads;
    if (p->pass->n_parts != p->pass->n) return 0;
    if (p->config->tied_kv && heads > 1) return 0; /* the first head caches for all */
    return split_units(p, layer) <= p->pass->n * heads;
}

/* Then one unit takes a row's KV head through RoPE, cache and attention. */
static void rope_cache_attend(pass_state *p, gqa_worker *me, const gqa_layer *layer) {
    int heads = layer->config.n_kv_heads;
    for_units(u, me, p->pass->n * heads) {
        rope_and_cache_group(p, layer, u / heads, u % heads);
        attend_split(p, me, layer, u / heads, u % heads, 0);
        combine_splits(p, layer, u / heads, u % heads);
    }
}

/* ---- feed-forward, classifier ---------------------------------------------------------------- */

/* gate = silu(gate) * up (gemma: gelu), also in the form that the next product wants. */
static void activate_gate(pass_state *p, gqa_worker *me, const gqa_layer *layer,
                          const product *next) {
    int ffn_dim = layer->config.ffn_dim, units_per_row = ceil_div(ffn_dim, COLUMNS);
    int forms = forms_for(p, next, 1);
    for_units(u, me, p->n * units_per_row) {
        int row = u / units_per_row, first = u % units_per_row * COLUMNS;
        int end = min_int(first + COLUMNS, ffn_dim);
        size_t offset = row * p->ffn_dim + first;
        float *gate = p->scratch->gate + offset, *up = p->scratch->up + offset;
        if (p->config->gelu) p->kernels->geglu(gate, gate, up, end - first);
        else p->kernels->swiglu(gate, gate, up, end - first);
        make_forms(p, forms, &p->scratch->gate_acts, row, row + 1, first, end);
    }
}

/* Logits divided by their scale (granite) and capped (gemma2). */
static void scale_logits(pass_state *p, gqa_worker *me) {
    int vocab_size = p->config->vocab_size, units_per_row = ceil_div(vocab_size, COLUMNS);
    float scale = 1 / p->config->logit_scale, cap = p->config->logit_softcap;
    if (scale == 1 && cap == 0) return;
    for_units(u, me, p->n * units_per_row) {
        int first = u % units_per_row * COLUMNS, end = min_int(first + COLUMNS, vocab_size);
        float *x = row_of(p->pass->logits, p->model->vocab_size, u / units_per_row);
        for (int i = first; i < end; i++) {
            x[i] *= scale;
            if (cap > 0) x[i] = cap * tanhf(x[i] / cap);
        }
    }
}

/* logits = W rmsnorm(x + h). */
static void classify(pass_state *p, gqa_worker *me, const float *post_norm) {
    const product logits = {&p->model->classifier, p->pass->logits, p->model->vocab_size};
    gqa_add_and_norm(p, me, 0, post_norm, p->model->output_norm, &logits, 1);
    gqa_matmul(p, me, &p->scratch->h_acts, &logits, 1);
    scale_logits(p, me);
}

/* Moves x and q (gemma4: the embeddings for layers too) of the kept rows to the first n. */
static void move_rows(const pass_state *p) {
    gqa_scratch *s = p->scratch;
    size_t per_layer = (size_t)p->config->n_layers * p->config->per_layer_dim;
    for (int row = 0; row < p->pass->n; row++) {
        int to = kept_row(p, row);
        if (to < 0) continue;
        memmove(row_of(s->x, p->dim, to), row_of(s->x, p->dim, row), sizeof(float) * p->dim);
        memmove(row_of(s->q, p->q_dim, to), row_of(s->q, p->q_dim, row), sizeof(float) * p->q_dim);
        memmove(row_of(s->per_layer, per_layer, to), row_of(s->per_layer, per_layer, row),
                sizeof(float) * per_layer);
    }
}

/* Once the last keys and values are made, only the rows with logits are needed: usually from the
 * last layer on, in gemma4 from the last that does not share an earlier one's. */
static void keep_rows(pass_state *p, gqa_worker *me) {
    p->n = p->pass->n_out;
    if (p->n == p->pass->n) return;
    for_units(u, me, 1) move_rows(p);
}

/* Notes the first layer after which a row of x + h is not finite. */
static void check_layer(const pass_state *p, int l) {
    for (size_t i = 0; i < p->n * p->dim && *p->bad_layer < 0; i++) {
        float sum = p->scratch->x[i] + p->scratch->h[i];
        if (!isfinite(sum)) *p->bad_layer = l;
    }
}

/* ---- the transformer ------------------------------------------------------------------------- */

static void forward(gqa_worker *me, void *arg) {
    pass_state mine = *(const pass_state *)arg, *p = &mine;
    gqa_scratch *s = p->scratch;
    const float *post_norm = NULL;                               /* of h, before it is added */
    embed(p, me);                                                /* x = E[token] */
    gqa_embed_for_layers(p, me);                                 /* gemma4: and one a layer */
    for (int l = 0; l < p->config->n_layers; l++) {
        const gqa_layer *layer = &p->model->layers[l];
        int n_qkv = !owns_kv(p, layer) ? 1 : layer->wv.rows ? 3 : 2; /* gemma4: V may be K */
        const product qkv[] = {{&layer->wq, s->q, p->q_dim}, {&layer->wk, s->k, layer->kv_dim},
                               {&layer->wv, s->v, layer->kv_dim}};
        const product out = {&layer->wo, s->h, p->dim}, down = {&layer->w_down, s->h, p->dim};
        const product to_ffn[] = {{&layer->w_gate, s->gate, p->ffn_dim},
                                  {&layer->w_up, s->up, p->ffn_dim}};
        /* x += h;  h = rmsnorm(x) */
        gqa_add_and_norm(p, me, l == 0, post_norm, layer->attn_norm, qkv, n_qkv);
        if (cancelled(p)) return;
        if (p->config->latent_dim) gqa_latent_project(p, me, layer); /* deepseek2: q, row */
        else gqa_matmul(p, me, &s->h_acts, qkv, n_qkv);          /* q, k, v = Wq h, Wk h, Wv h */
        norm_rows(p, me, layer);                                 /* olmo2: rmsnorm(q), rmsnorm(k) */
        if (l == p->model->last_kv_layer) keep_rows(p, me);      /* what follows: of these alone */
        if (is_one_phase(p, layer)) {
            rope_cache_attend(p, me, layer);                     /* decoding: both in one phase */
        } else {
            rope_and_cache(p, me, layer);                        /* rotate q, k;  cache k, v */
            attend(p, me, layer);                                /* attn = softmax(q K^T scale) V */
        }
        if (p->n == 0) return;                                   /* only keys and values wanted */
        finish_attention(p, me, layer, &out);                    /* deepseek2: attn = Wv_b attn */
        gqa_matmul(p, me, &s->attn_acts, &out, 1);               /* h = Wo attn */

        /* x += h;  h = rmsnorm(x) */
        gqa_add_and_norm(p, me, 0, layer->attn_post_norm, layer->ffn_norm, to_ffn, 2);
        if (cancelled(p)) return;
        gqa_matmul(p, me, &s->h_acts, to_ffn, 2);                /* gate, up = Wgate h, Wup h */
        activate_gate(p, me, layer, &down);                      /* gate = silu(gate) * up */
        gqa_matmul(p, me, &s->gate_acts, &down, 1);              /* h = Wdown gate */
        post_norm = gqa_add_for_layer(p, me, layer, l);          /* gemma4: its embedding, scale */
        if (p->bad_layer) check_layer(p, l);
    }
    classify(p, me, post_norm);                                  /* logits = W rmsnorm(x + h) */
}

/* Threads cost a few microseconds a phase: a small product is faster alone. */
static int useful_threads(const pass_state *p) {
    enum { SMALL = 1 << 22 };  /* multiply-adds */
    uint64_t work = p->model->stats.matmul_params * (uint64_t)p->n;
    return work < SMALL || p->bad_layer ? 1 : p->pass->workspace->n_threads;
}

/* Which part each row belongs to, and its position; which rows have logits. */
static void index_rows(const gqa_pass *pass, gqa_scratch *s) {
    int n_out = 0;
    for (int i = 0; i < pass->n_parts; i++) {
        const gqa_part *part = &pass->parts[i];
        for (int j = 0; j < part->n; j++) {
            int row = part->first + j;
            s->part_of[row] = i;
            s->positions[row] = part->session->position + j;
            s->out_of[row] = j >= part->n - part->n_out ? n_out++ : -1;
        }
    }
}

int gqa_forward(gqa_pass *pass) {
    gqa_workspace *w = pass->workspace;
    const gqa_config *c = &w->model->config;
    pass_state p = {
        .pass = pass,
        .model = w->model,
        .config = c,
        .kernels = w->model->kernels,
        .scratch = &w->scratch,
        .n = pass->n,
        .exact = w->exact,
        .bad_layer = pass->bad_layer,
        .dim = c->dim,
        .q_dim = (size_t)c->n_heads * c->head_dim,
        .out_dim = (size_t)c->n_heads * (c->latent_dim ? c->latent_dim : c->head_dim),
        .ffn_dim = max_int(c->ffn_dim, c->per_layer_dim),
        .rope_dim = max_int(c->rope_dim, c->rope_dim_local),
        .cancel = pass->cancel,
    };
    index_rows(pass, p.scratch);
    gqa_team_run(w->team, useful_threads(&p), forward, &p);
    return atomic_exchange(p.cancel, 0) ? GQA_ERR_CANCELLED : 0;
}
