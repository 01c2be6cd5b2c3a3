/* session.c: one sequence: its memory, its position, and the calls that move it. */
#include <stdlib.h>
#include <string.h>

#include "session/session_internal.h"

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* Carves one region into 64-byte aligned pieces; with base NULL it only adds up. */
typedef struct arena {
    uint8_t *base;
    uint64_t used;
    int overflow;
} arena;

static void *take(arena *a, uint64_t count, uint64_t size) {
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

static void take_acts(arena *a, gqa_acts *acts, int k, int rows) {
    void *memory = take(a, 1, gqa_acts_bytes(k, rows));
    if (memory) gqa_acts_init(acts, memory, k, rows);
}

/* All buffers but the KV cache, in one place: called once to add up, once to hand out. */
static void lay_out(gqa_session *s, arena *a) {
    const gqa_config *c = &s->model->config;
    gqa_scratch *t = &s->scratch;
    uint64_t rows = (uint64_t)t->rows, dim = (uint64_t)c->dim, ffn = (uint64_t)c->ffn_dim, vocab = (uint64_t)c->vocab_size;
    uint64_t q_dim = (uint64_t)c->n_heads * (uint64_t)c->head_dim, kv_dim = (uint64_t)c->n_kv_heads * (uint64_t)c->head_dim;
    int group = c->n_heads / c->n_kv_heads, widest = c->dim > c->ffn_dim ? c->dim : c->ffn_dim;
    if (q_dim > (uint64_t)widest) widest = (int)q_dim;

    s->tokens = take(a, (uint64_t)s->context, sizeof(int32_t));
    s->logits = take(a, vocab, sizeof(float));
    s->kv = take(a, (uint64_t)c->n_layers, sizeof(gqa_kv));
    t->x = take(a, rows * dim, sizeof(float));
    t->h = take(a, rows * dim, sizeof(float));
    t->q = take(a, rows * q_dim, sizeof(float));
    t->k = take(a, rows * kv_dim, sizeof(float));
    t->v = take(a, rows * kv_dim, sizeof(float));
    t->attn = take(a, rows * q_dim, sizeof(float));
    t->gate = take(a, rows * ffn, sizeof(float));
    t->up = take(a, rows * ffn, sizeof(float));
    t->cos_sin = take(a, rows * (uint64_t)c->rope_dim, sizeof(float));
    t->max_parts = s->context / GQA_KV_SPLIT + 2;
    t->parts = take(a, (uint64_t)GQA_DECODE_ROWS * (uint64_t)c->n_kv_heads * (uint64_t)t->max_parts,
                    gqa_partial_floats(group, c->head_dim) * sizeof(float));
    t->logits = take(a, GQA_DECODE_ROWS * vocab, sizeof(float));
    take_acts(a, &t->a_dim, c->dim, t->rows);
    take_acts(a, &t->a_q, (int)q_dim, t->rows);
    take_acts(a, &t->a_ffn, c->ffn_dim, t->rows);
    t->thread_bytes = max_size(gqa_matmul_scratch(widest), gqa_attention_scratch(group, c->head_dim));
    t->thread_bytes = (t->thread_bytes + 4095) & ~(size_t)4095;
    t->thread = take(a, (uint64_t)s->n_threads, t->thread_bytes);
}

/* Positions are kept for the whole context, or with a sliding window for the window and one pass of new tokens. */
static int cache_tiles(const gqa_session *s) {
    int positions = s->context, window = s->model->config.window;
    if (window > 0 && window < positions - s->scratch.rows) positions = window + s->scratch.rows;
    return (positions + GQA_KV_TILE - 1) / GQA_KV_TILE;
}

static int make_cache(gqa_session *s, int type, gqa_error *err) {
    const gqa_config *c = &s->model->config;
    gqa_kv kv = {.type = type, .n_kv_heads = c->n_kv_heads, .head_dim = c->head_dim, .n_tiles = cache_tiles(s)};
    kv.k_tile_bytes = gqa_kv_k_tile_bytes(type, c->head_dim);
    kv.v_tile_bytes = gqa_kv_v_tile_bytes(type, c->head_dim);
    if (!kv.k_tile_bytes || !kv.v_tile_bytes)
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "KV cache type %s: head_dim must be a multiple of 32, got %d",
                        gqa_type_name(type), c->head_dim);
    uint64_t tiles = (uint64_t)kv.n_tiles * (uint64_t)kv.n_kv_heads, layer, total;
    if (gqa_mul_size(tiles, kv.k_tile_bytes + kv.v_tile_bytes, &layer) ||
        gqa_mul_size(layer, (uint64_t)c->n_layers, &total) || total > SIZE_MAX / 2)
        return gqa_fail(err, GQA_ERR_MEMORY, "a KV cache of %d positions does not fit in the address space", s->context);
    s->cache = gqa_pages_alloc((size_t)total, 0);
    if (!s->cache)
        return gqa_fail(err, GQA_ERR_MEMORY, "no memory for a KV cache of %llu bytes (%d positions); a smaller context helps",
                        (unsigned long long)total, s->context);
    s->cache_bytes = (size_t)total;
    for (int l = 0; l < c->n_layers; l++) {
        s->kv[l] = kv;
        s->kv[l].k = s->cache + (uint64_t)l * layer;
        s->kv[l].v = s->kv[l].k + tiles * kv.k_tile_bytes;
    }
    return 0;
}

static int check_options(const gqa_model *m, const gqa_session_options *opt, int *kv_type, gqa_error *err) {
    if (!m->has_weights)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: holds a vocabulary and no weights", m->file.path);
    *kv_type = opt->kv ? gqa_type_from_name(opt->kv) : GQA_TYPE_F16;
    if (*kv_type != GQA_TYPE_F32 && *kv_type != GQA_TYPE_F16 && *kv_type != GQA_TYPE_BF16 && *kv_type != GQA_TYPE_Q8_0 &&
        *kv_type != GQA_TYPE_Q4_0)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "KV cache type \"%s\": expected f32, f16, bf16, q8_0 or q4_0", opt->kv);
    if (opt->context < 0 || opt->context > GQA_MAX_CONTEXT)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "context %d: expected 0 to %d", opt->context, GQA_MAX_CONTEXT);
    if (opt->n_threads < 0 || opt->n_threads > 1024)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "n_threads %d: expected 0 to 1024", opt->n_threads);
    if (opt->batch < 0 || opt->batch > 4096)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "batch %d: expected 0 to 4096", opt->batch);
    return 0;
}

gqa_session *gqa_session_new(const gqa_model *m, const gqa_session_options *opt, gqa_error *err) {
    static const gqa_session_options defaults;
    if (!opt) opt = &defaults;
    int kv_type = GQA_TYPE_F16;
    if (check_options(m, opt, &kv_type, err)) return NULL;
    gqa_session *s = calloc(1, sizeof *s);
    if (!s) {
        gqa_fail(err, GQA_ERR_MEMORY, "no memory for a session");
        return NULL;
    }
    s->model = m;
    s->n_threads = opt->n_threads ? opt->n_threads : gqa_threads_default();
    s->context = opt->context ? opt->context : m->config.context_length < 4096 ? m->config.context_length : 4096;
    s->scratch.rows = opt->batch ? opt->batch : 512;
    if (s->scratch.rows > s->context) s->scratch.rows = s->context;
    arena a = {0};
    lay_out(s, &a);
    s->memory_bytes = (size_t)a.used;
    s->memory = a.overflow ? NULL : gqa_pages_alloc(s->memory_bytes, 0);
    s->team = gqa_team_new(s->n_threads);
    if (!s->memory || !s->team) {
        gqa_fail(err, GQA_ERR_MEMORY, "no memory for a session's %zu bytes of buffers", s->memory_bytes);
        gqa_session_free(s);
        return NULL;
    }
    a = (arena){.base = s->memory};
    lay_out(s, &a);
    if (make_cache(s, kv_type, err)) {
        gqa_session_free(s);
        return NULL;
    }
    return s;
}

void gqa_session_free(gqa_session *s) {
    if (!s) return;
    gqa_team_free(s->team);
    if (s->memory) gqa_pages_free(s->memory, s->memory_bytes);
    if (s->cache) gqa_pages_free(s->cache, s->cache_bytes);
    free(s);
}

/* ---- evaluation -------------------------------------------------------------------------------------------------- */

static int check_tokens(const gqa_session *s, const int32_t *tokens, int n, gqa_error *err) {
    if (n <= 0 || !tokens) return gqa_fail(err, GQA_ERR_ARGUMENT, "%d tokens to evaluate: expected at least 1", n);
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= s->model->config.vocab_size)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "token %d of %d: id %d, expected 0 to %d", i, n, tokens[i],
                            s->model->config.vocab_size - 1);
    if (n > s->context - s->position)
        return gqa_fail(err, GQA_ERR_CONTEXT, "context full: %d tokens do not fit after %d of %d positions", n, s->position,
                        s->context);
    return 0;
}

static void note_position(gqa_session *s, int position) {
    s->position = position;
    if (position > s->high_water) s->high_water = position;
}

/* Runs n tokens in passes. all: [n, vocab_size] or NULL for the last token's logits only. */
static int eval(gqa_session *s, const int32_t *tokens, int n, float *all, gqa_error *err) {
    int status = check_tokens(s, tokens, n, err);
    if (status) return status;
    int start = s->position, rows = s->scratch.rows;
    size_t vocab = (size_t)s->model->config.vocab_size;
    for (int done = 0; done < n; done += rows) {
        int count = n - done < rows ? n - done : rows, last = done + count == n;
        gqa_pass pass = {.session = s, .tokens = tokens + done, .n = count, .n_out = all ? count : last};
        pass.logits = all ? all + (size_t)done * vocab : s->logits;
        status = gqa_forward(&pass);
        s->high_water = s->high_water > s->position + count ? s->high_water : s->position + count;
        if (status) {
            gqa_session_rewind(s, start, NULL);  /* refused when a sliding window has moved on: whole passes stay */
            s->has_logits = 0;
            return gqa_fail(err, status, "evaluation was cancelled at position %d", s->position);
        }
        memcpy(s->tokens + s->position, tokens + done, sizeof(int32_t) * (size_t)count);
        note_position(s, s->position + count);
    }
    if (all) memcpy(s->logits, all + (size_t)(n - 1) * vocab, sizeof(float) * vocab);
    s->has_logits = 1;
    return 0;
}

int gqa_session_eval(gqa_session *s, const int32_t *tokens, int n, gqa_error *err) { return eval(s, tokens, n, NULL, err); }

int gqa_session_eval_all(gqa_session *s, const int32_t *tokens, int n, float *logits, gqa_error *err) {
    if (!logits) return gqa_fail(err, GQA_ERR_ARGUMENT, "eval_all: logits is NULL");
    return eval(s, tokens, n, logits, err);
}

/* Every session is checked before any moves. */
static int check_sessions(gqa_session *const *sessions, const int32_t *tokens, int n, gqa_error *err) {
    if (n <= 0 || !sessions || !tokens) return gqa_fail(err, GQA_ERR_ARGUMENT, "%d sessions: expected at least 1", n);
    for (int i = 0; i < n; i++) {
        if (sessions[i]->model != sessions[0]->model)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "session %d belongs to another model than session 0", i);
        for (int j = 0; j < i; j++)
            if (sessions[j] == sessions[i]) return gqa_fail(err, GQA_ERR_ARGUMENT, "sessions %d and %d are the same", j, i);
        int status = check_tokens(sessions[i], &tokens[i], 1, err);
        if (status) return status;
    }
    return 0;
}

int gqa_sessions_eval(gqa_session *const *sessions, const int32_t *tokens, int n, gqa_error *err) {
    int status = check_sessions(sessions, tokens, n, err), rows = GQA_DECODE_ROWS;
    if (status) return status;
    gqa_session *lead = sessions[0]; /* whose scratch has room for the pieces of the longest */
    for (int i = 1; i < n; i++)
        if (sessions[i]->context > lead->context) lead = sessions[i];
    if (rows > lead->scratch.rows) rows = lead->scratch.rows;
    size_t vocab = (size_t)lead->model->config.vocab_size;
    for (int done = 0; done < n; done += rows) {
        int count = n - done < rows ? n - done : rows, positions[GQA_DECODE_ROWS];
        for (int i = 0; i < count; i++) positions[i] = sessions[done + i]->position;
        gqa_pass pass = {.session = lead, .cancel = &sessions[0]->cancel, .sessions = sessions + done, .tokens = tokens + done, .positions = positions,
                         .n = count, .n_out = count, .logits = lead->scratch.logits};
        status = gqa_forward(&pass);
        if (status) {
            for (int i = 0; i < done + count; i++) {  /* a written slot is harmless: nothing reads past position */
                if (sessions[i]->high_water == sessions[i]->position) sessions[i]->high_water++;
                sessions[i]->has_logits = 0;
            }
            return gqa_fail(err, status, "batched evaluation was cancelled");
        }
        for (int i = 0; i < count; i++) memcpy(sessions[done + i]->logits, pass.logits + (size_t)i * vocab, sizeof(float) * vocab);
    }
    for (int i = 0; i < n; i++) {
        sessions[i]->tokens[sessions[i]->position] = tokens[i];
        note_position(sessions[i], sessions[i]->position + 1);
        sessions[i]->has_logits = 1;
    }
    return 0;
}

/* ---- state ------------------------------------------------------------------------------------------------------- */

void gqa_session_watch_kv(gqa_session *s, gqa_on_kv on_kv, void *user) {
    s->on_kv = on_kv;
    s->on_kv_user = user;
}

int gqa_session_ring(const gqa_session *s) { return s->kv[0].n_tiles * GQA_KV_TILE; }

int gqa_session_rewind(gqa_session *s, int position, gqa_error *err) {
    if (position < 0 || position > s->position)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "rewind to position %d: expected 0 to %d", position, s->position);
    int window = s->model->config.window, oldest = window > 0 && position > window ? position - window + 1 : 0;
    if (position > 0 && oldest < s->high_water - gqa_session_ring(s))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "rewind to position %d: the sliding window has overwritten positions before %d",
                        position, s->high_water - gqa_session_ring(s));
    if (position == 0) s->high_water = 0;
    if (position != s->position) s->has_logits = 0;
    s->position = position;
    return 0;
}

int gqa_session_fill_random(gqa_session *s, int n, uint64_t seed, gqa_error *err) {
    enum { POOL = 61 };  /* distinct vectors; a prime, so that heads and layers meet different ones at a position */
    const gqa_config *c = &s->model->config;
    size_t d = (size_t)c->head_dim;
    if (n < 0 || n > s->context - s->position)
        return gqa_fail(err, GQA_ERR_CONTEXT, "context full: %d positions do not fit after %d of %d", n, s->position, s->context);
    float *pool = malloc(sizeof(float) * POOL * d);
    if (!pool) return gqa_fail(err, GQA_ERR_MEMORY, "no memory to fill a session");
    for (size_t i = 0; i < POOL * d; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        pool[i] = (float)(seed >> 40) / 8388608.0f - 1.0f;
    }
    int end = s->position + n, first = end - gqa_session_ring(s);
    if (first < s->position) first = s->position;
    for (int l = 0; l < c->n_layers; l++)
        for (int h = 0; h < c->n_kv_heads; h++)
            for (int p = first; p < end; p++) {
                size_t i = (size_t)l * 7 + (size_t)h * 3 + (size_t)p;
                s->model->kernels->kv_append(&s->kv[l], h, p, pool + i % POOL * d, pool + (i * 5 + 1) % POOL * d);
            }
    free(pool);
    memset(s->tokens + s->position, 0, sizeof(int32_t) * (size_t)n);
    s->has_logits = 0;
    note_position(s, end);
    return 0;
}

const float *gqa_session_logits(const gqa_session *s) { return s->has_logits ? s->logits : NULL; }
int gqa_session_position(const gqa_session *s) { return s->position; }
int gqa_session_context(const gqa_session *s) { return s->context; }
const int32_t *gqa_session_tokens(const gqa_session *s) { return s->tokens; }
const gqa_model *gqa_session_model(const gqa_session *s) { return s->model; }
uint64_t gqa_session_bytes(const gqa_session *s) { return (uint64_t)s->memory_bytes + s->cache_bytes; }
int gqa_session_threads(const gqa_session *s) { return s->n_threads; }
void gqa_session_cancel(gqa_session *s) { atomic_store(&s->cancel, 1); }
