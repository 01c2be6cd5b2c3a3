/* session.c: one sequence: its memory, its position, and the calls that move it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "session/session_internal.h"

/* ---- making a session ------------------------------------------------------------------------ */

/* Whether a session of these options can use the workspace that they name. */
static int check_workspace(const gqa_model *m, const gqa_session_options *opt, gqa_error *err) {
    const gqa_workspace *w = opt->workspace;
    if (w->model != m)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "the workspace was made for another model");
    if (opt->n_threads || opt->exact || opt->run_parallel)
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "n_threads, exact and run_parallel are the workspace's: expected 0 and "
                        "NULL");
    if (opt->context > w->context)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "context %d: the workspace was made for %d",
                        opt->context, w->context);
    if (opt->batch > w->batch)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "batch %d: the workspace was made for %d",
                        opt->batch, w->batch);
    return 0;
}

/* What a session holds beside its cache: called once to add up, once to hand out. */
static void lay_out_session(gqa_session *s, gqa_arena *a) {
    const gqa_config *c = &s->model->config;
    s->tokens = gqa_arena_take(a, (uint64_t)s->context, sizeof(int32_t));
    s->logits = gqa_arena_take(a, (uint64_t)c->vocab_size, sizeof(float));
    s->kv = gqa_arena_take(a, (uint64_t)c->n_layers, sizeof(gqa_kv));
    s->range = gqa_arena_take(a, (uint64_t)c->n_layers, sizeof(gqa_kv_range));
}

static int allocate(gqa_session *s, int k_type, int v_type, gqa_error *err) {
    gqa_arena sizes = {0};
    lay_out_session(s, &sizes);
    if (!sizes.overflow && sizes.used <= SIZE_MAX / 2) {
        s->memory_bytes = sizes.used;
        s->memory = gqa_pages_alloc(s->memory_bytes, 0);
    }
    if (!s->memory)
        return gqa_fail(err, GQA_ERR_MEMORY, "no memory for a session's %llu bytes of buffers",
                        (unsigned long long)sizes.used);
    lay_out_session(s, &(gqa_arena){.base = s->memory});
    return gqa_cache_new(s, k_type, v_type, err);
}

gqa_session *gqa_session_new(const gqa_model *m, const gqa_session_options *opt, gqa_error *err) {
    static const gqa_session_options defaults;
    if (!opt) opt = &defaults;
    int k_type, v_type;
    if (gqa_check_session_options(m, opt, err)) return NULL;
    if (gqa_kv_types(opt->kv, &k_type, &v_type)) {
        gqa_fail(err, GQA_ERR_ARGUMENT, "KV cache type \"%s\": expected f32, f16, bf16, q8_0 or "
                 "q4_0, or two of them as K/V", opt->kv);
        return NULL;
    }
    if (opt->workspace && check_workspace(m, opt, err)) return NULL;
    gqa_session *s = calloc(1, sizeof *s);
    if (!s) {
        gqa_fail(err, GQA_ERR_MEMORY, "no memory for a session");
        return NULL;
    }
    s->model = m;
    s->owns_workspace = !opt->workspace;
    s->workspace = opt->workspace ? opt->workspace : gqa_workspace_new(m, opt, err);
    if (!s->workspace) {
        free(s);
        return NULL;
    }
    s->context = opt->context ? opt->context : min_int(m->config.context_length, 4096);
    s->context = min_int(s->context, s->workspace->context);
    s->batch = min_int(opt->batch ? opt->batch : 512, min_int(s->context, s->workspace->batch));
    s->is_long = m->rope[GQA_ROPE_LONG].freq && s->context > m->config.rope_orig_context;
    if (allocate(s, k_type, v_type, err)) {
        gqa_session_free(s);
        return NULL;
    }
    return s;
}

void gqa_session_free(gqa_session *s) {
    if (!s) return;
    if (s->owns_workspace) gqa_workspace_free(s->workspace);
    gqa_pages_free(s->memory, s->memory_bytes);
    gqa_pages_free(s->cache, s->cache_bytes);
    free(s);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

/* Whether tokens[n] are ids of the model; `held` of them are in the session already. */
static int check_tokens(const gqa_session *s, int held, const int32_t *tokens, int n,
                        gqa_error *err) {
    if (!tokens) return gqa_fail(err, GQA_ERR_ARGUMENT, "tokens is NULL");
    if (n <= 0)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%d tokens to evaluate: expected at least 1", n);
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= s->model->config.vocab_size)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "token %d of %d: id %d, expected 0 to %d", i, n,
                            tokens[i], s->model->config.vocab_size - 1);
    if (n > s->context - held)
        return gqa_fail(err, GQA_ERR_CONTEXT,
                        "context full: %d tokens do not fit after %d of %d positions", n, held,
                        s->context);
    return 0;
}

static int all_finite(const gqa_kernels *kernels, const float *x, size_t n) {
    float square = n < INT32_MAX ? kernels->dot(x, x, (int)n) : (float)INFINITY;
    if (isfinite(square)) return 1; /* else one is not finite, or many are huge */
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

/* Computes the pass again, layer by layer, to name the first one that is not finite. */
static int fail_not_finite(const gqa_pass *pass, int position, gqa_error *err) {
    const char *path = pass->workspace->model->file.path;
    int layer = -1;
    gqa_pass again = *pass;
    again.bad_layer = &layer;
    gqa_forward(&again);
    if (layer < 0)
        return gqa_fail(err, GQA_ERR_NUMERIC,
                        "%s: the output layer gives NaN or infinity at position %d", path,
                        position);
    return gqa_fail(err, GQA_ERR_NUMERIC, "%s: layer %d gives NaN or infinity at position %d", path,
                    layer, position);
}

/* Runs a pass, and repeats it as long as it makes keys or values too large for an f16 cache, which
 * scales the cache down; then checks its logits. */
static int run_pass(gqa_pass *pass, gqa_error *err) {
    enum { MAX_RUNS = 8 };
    const gqa_model *m = pass->workspace->model;
    const float *logits = pass->logits;
    int again = 1;
    for (int run = 0; again; run++) {
        if (run == MAX_RUNS)
            return gqa_fail_path(m->file.path, err, GQA_ERR_NUMERIC,
                                 "keys or values do not fit an f16 cache: use f32 or bf16");
        int status = gqa_forward(pass);
        if (status) return gqa_fail(err, status, "evaluation was cancelled");
        again = 0;
        for (int i = 0; i < pass->n_parts; i++) again |= gqa_cache_rescale(pass->parts[i].session);
    }
    for (int i = 0; i < pass->n_parts; i++) {
        const gqa_part *part = &pass->parts[i];
        size_t n = (size_t)part->n_out * m->vocab_size;
        if (!all_finite(m->kernels, logits, n))
            return fail_not_finite(pass, part->session->position, err);
        logits += n;
    }
    return 0;
}

static void set_position(gqa_session *s, int position) {
    s->n_ahead = 0;
    s->position = position;
    s->high_water = max_int(s->high_water, position);
}

/* counts NULL: one token each. */
static int count_of(const int *counts, int i) { return counts ? counts[i] : 1; }

/* Adds parts to a pass: of each session the tokens that gqa_session_eval would take next, if there
 * is room for all of them. With is_prefill those that are not attended by splits. */
static void add_parts(gqa_pass *pass, gqa_part *parts, int is_prefill,
                      gqa_session *const *sessions, int n, const int32_t *tokens,
                      const int *counts) {
    int rows = pass->workspace->scratch.rows, limit = is_prefill ? rows : GQA_DECODE_ROWS;
    for (int i = 0; i < n; tokens += count_of(counts, i), i++) {
        gqa_session *s = sessions[i];
        int left = count_of(counts, i) - s->n_done, count = min_int(left, min_int(s->batch, rows));
        if (pass->n_parts == GQA_DECODE_ROWS) return;
        if (!count || (count >= GQA_PREFILL_ROWS) != is_prefill || pass->n + count > limit)
            continue;
        gqa_part *part = &parts[pass->n_parts++];
        *part = (gqa_part){s, tokens + s->n_done, pass->n, count, count == left};
        pass->n += count;
        pass->n_out += part->n_out;
    }
}

/* Runs a pass; its sessions then hold its tokens, and the logits if they were the last ones. */
static int eval_parts(gqa_pass *pass, gqa_error *err) {
    size_t vocab = pass->workspace->model->vocab_size;
    const float *logits = pass->logits;
    int status = run_pass(pass, err);
    for (int i = 0; i < pass->n_parts; i++) {
        const gqa_part *part = &pass->parts[i];
        gqa_session *s = part->session;
        int end = s->position + part->n;
        s->high_water = max_int(s->high_water, end); /* nothing reads a slot past the position */
        s->has_logits = !status && part->n_out;
        if (status) continue;
        memmove(s->tokens + s->position, part->tokens, sizeof(int32_t) * part->n);
        set_position(s, end);
        s->n_done += part->n;
        logits += part->n_out * vocab;
        if (part->n_out && logits - vocab != s->logits)
            memcpy(s->logits, logits - vocab, sizeof(float) * vocab);
    }
    return status;
}

static atomic_int *canceller_of(gqa_session *s) { return s->canceller ? s->canceller : &s->cancel; }

/* Runs tokens, already checked, in passes. all: of one session, [tokens, vocab_size] for the logits
 * after each token; NULL for the last ones only. */
static int eval(gqa_session *const *sessions, int n, const int32_t *tokens, const int *counts,
                float *all, gqa_error *err) {
    gqa_part parts[GQA_DECODE_ROWS];
    gqa_session *first = sessions[0];
    gqa_workspace *w = first->workspace; /* with partials for the longest context */
    int status = 0, n_parts = 1;
    for (int i = 0; i < n; i++) {
        if (sessions[i]->workspace->context > w->context) w = sessions[i]->workspace;
        sessions[i]->n_done = 0;
    }
    while (n_parts && !status) {
        gqa_pass pass = {.workspace = w, .cancel = canceller_of(first), .parts = parts};
        pass.logits = all     ? all + first->n_done * w->model->vocab_size
                      : n > 1 ? w->scratch.logits
                              : first->logits;
        add_parts(&pass, parts, 0, sessions, n, tokens, counts);
        pass.n_split = pass.n;
        add_parts(&pass, parts, 1, sessions, n, tokens, counts);
        if (all) parts[0].n_out = pass.n_out = pass.n;
        n_parts = pass.n_parts;
        if (n_parts) status = eval_parts(&pass, err);
    }
    /* Refused when a sliding window has moved on: whole passes stay. */
    for (int i = 0; i < n && status; i++)
        gqa_session_rewind(sessions[i], sessions[i]->position - sessions[i]->n_done, NULL);
    return status;
}

/* 0, or an error that names the call when its session is NULL. */
static int check_session(const gqa_session *s, const char *call, gqa_error *err) {
    return s ? 0 : gqa_fail(err, GQA_ERR_ARGUMENT, "%s: session is NULL", call);
}

int gqa_session_eval(gqa_session *s, const int32_t *tokens, int n, gqa_error *err) {
    if (check_session(s, "eval", err)) return GQA_ERR_ARGUMENT;
    int status = check_tokens(s, s->position, tokens, n, err);
    return status ? status : eval(&s, 1, tokens, &n, NULL, err);
}

int gqa_session_eval_all(gqa_session *s, const int32_t *tokens, int n, float *logits,
                         gqa_error *err) {
    if (check_session(s, "eval_all", err)) return GQA_ERR_ARGUMENT;
    if (!logits) return gqa_fail(err, GQA_ERR_ARGUMENT, "eval_all: logits is NULL");
    int status = check_tokens(s, s->position, tokens, n, err);
    return status ? status : eval(&s, 1, tokens, &n, logits, err);
}

int gqa_session_sync(gqa_session *s, const int32_t *tokens, int n, gqa_error *err) {
    if (check_session(s, "sync", err)) return GQA_ERR_ARGUMENT;
    int status = check_tokens(s, 0, tokens, n, err), kept = 0;
    if (status) return status;
    while (kept < n && kept < s->position && tokens[kept] == s->tokens[kept]) kept++;
    if (kept == n && s->position == n && s->has_logits) return n;
    if (kept == n) kept--; /* the logits are those after the last token: it is evaluated again */
    if (gqa_session_rewind(s, kept, NULL)) {
        kept = 0;
        gqa_session_rewind(s, 0, NULL);
    }
    n -= kept;
    status = eval(&s, 1, tokens + kept, &n, NULL, err);
    return status ? status : kept;
}

int gqa_session_step(gqa_session *s, gqa_error *err) {
    size_t vocab = s->model->vocab_size;
    s->has_logits = !atomic_exchange(&s->cancel, 0);
    if (!s->has_logits) return gqa_fail(err, GQA_ERR_CANCELLED, "evaluation was cancelled");
    memcpy(s->logits, s->ahead, sizeof(float) * vocab);
    s->ahead += vocab;
    s->n_ahead--;
    s->position++;
    return 0;
}

int gqa_session_eval_ahead(gqa_session *s, int n, float *logits, gqa_error *err) {
    const gqa_model *m = s->model;
    const int32_t *tokens = s->tokens + s->position;
    const gqa_part part = {s, tokens, 0, n, n};
    gqa_pass pass = {.workspace = s->workspace, .cancel = canceller_of(s), .parts = &part,
                     .n_parts = 1, .n = n, .n_split = n, .n_out = n, .logits = logits};
    int status = gqa_forward(&pass), has_large = gqa_cache_forget_large(s);
    s->high_water = max_int(s->high_water, s->position + n);
    s->has_logits = 0;
    if (status) return gqa_fail(err, status, "evaluation was cancelled");
    /* A proposal must neither fail nor scale the cache: evaluated alone, the token is not asked. */
    if (has_large || !all_finite(m->kernels, logits, (size_t)n * m->vocab_size))
        return eval(&s, 1, tokens, NULL, NULL, err);
    s->ahead = logits;
    s->n_ahead = n;
    return gqa_session_step(s, err);
}

/* ---- many sessions --------------------------------------------------------------------------- */

/* Every session is checked before any moves. */
static int check_sessions(gqa_session *const *sessions, int n, const int32_t *tokens,
                          const int *counts, gqa_error *err) {
    if (!sessions || !tokens)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "sessions_eval: sessions or tokens is NULL");
    if (n <= 0) return gqa_fail(err, GQA_ERR_ARGUMENT, "%d sessions: expected at least 1", n);
    for (int i = 0; i < n; tokens += count_of(counts, i), i++) {
        if (!sessions[i]) return gqa_fail(err, GQA_ERR_ARGUMENT, "session %d is NULL", i);
        if (sessions[i]->model != sessions[0]->model)
            return gqa_fail(err, GQA_ERR_ARGUMENT,
                            "session %d belongs to another model than session 0", i);
        if (sessions[i]->workspace->exact != sessions[0]->workspace->exact)
            return gqa_fail(err, GQA_ERR_ARGUMENT,
                            "sessions %d and 0: only one of them is exact", i);
        for (int j = 0; j < i; j++)
            if (sessions[j] == sessions[i])
                return gqa_fail(err, GQA_ERR_ARGUMENT, "sessions %d and %d are the same", j, i);
        gqa_error why;
        int position = sessions[i]->position;
        int status = check_tokens(sessions[i], position, tokens, count_of(counts, i), &why);
        if (status) return gqa_fail(err, status, "session %d: %.480s", i, why.message);
    }
    return 0;
}

int gqa_sessions_eval_many(gqa_session *const *sessions, int n, const int32_t *tokens,
                           const int *counts, gqa_error *err) {
    int status = check_sessions(sessions, n, tokens, counts, err);
    return status ? status : eval(sessions, n, tokens, counts, NULL, err);
}

int gqa_sessions_eval(gqa_session *const *sessions, const int32_t *tokens, int n, gqa_error *err) {
    return gqa_sessions_eval_many(sessions, n, tokens, NULL, err);
}

/* ---- state ----------------------------------------------------------------------------------- */

int gqa_session_rewind(gqa_session *s, int position, gqa_error *err) {
    if (check_session(s, "rewind", err)) return GQA_ERR_ARGUMENT;
    if (position < 0 || position > s->position)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "rewind to position %d: expected 0 to %d", position,
                        s->position);
    if (position > 0 && gqa_cache_first_needed(s, position) < gqa_cache_first_valid(s))
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "rewind to position %d: the sliding window has overwritten positions "
                        "before %d", position, gqa_cache_first_valid(s));
    s->n_ahead = 0;
    if (position == 0) s->high_water = 0;
    if (position != s->position) s->has_logits = 0;
    s->position = position;
    return 0;
}

static int check_copy(const gqa_session *to, const gqa_session *from, int n, gqa_error *err) {
    if (check_session(to, "copy", err) || check_session(from, "copy", err)) return GQA_ERR_ARGUMENT;
    if (to == from) return gqa_fail(err, GQA_ERR_ARGUMENT, "copy: both sessions are the same");
    if (to->model != from->model)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "copy: the sessions belong to different models");
    if (to->is_long != from->is_long)
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "copy: contexts of %d and %d positions, of which one has more than %d: "
                        "RoPE differs", from->context, to->context,
                        to->model->config.rope_orig_context);
    if (!to->workspace->exact != !from->workspace->exact)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "copy: only one of the sessions is exact");
    const gqa_kv *dst = &to->kv[0], *src = &from->kv[0];
    if (dst->k_type != src->k_type || dst->v_type != src->v_type) {
        char got[24], expected[24];
        return gqa_fail(err, GQA_ERR_ARGUMENT, "copy: KV cache type %s, expected %s",
                        gqa_kv_name(src->k_type, src->v_type, got),
                        gqa_kv_name(dst->k_type, dst->v_type, expected));
    }
    if (n < 0 || n > from->position)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "copy: %d positions, expected 0 to %d", n,
                        from->position);
    if (n > to->context)
        return gqa_fail(err, GQA_ERR_CONTEXT, "copy: %d positions do not fit in a context of %d", n,
                        to->context);
    if (n > 0 && gqa_cache_first_needed(from, n) < gqa_cache_first_valid(from))
        return gqa_fail(err, GQA_ERR_ARGUMENT,
                        "copy: the sliding window has overwritten positions before %d",
                        gqa_cache_first_valid(from));
    return 0;
}

int gqa_session_copy(gqa_session *to, const gqa_session *from, int n, gqa_error *err) {
    int status = check_copy(to, from, n, err);
    if (status) return status;
    /* The tiles that end with the last one; what they held before is gone. */
    int ring = gqa_cache_ring(to), last_tile = (n - 1) / GQA_KV_TILE;
    int oldest_tile = last_tile + 1 - ring / GQA_KV_TILE;
    int first = min_int(n, max_int(gqa_cache_first_valid(from), oldest_tile * GQA_KV_TILE));
    gqa_cache_copy(to, from, first, n);
    memcpy(to->tokens, from->tokens, sizeof(int32_t) * n);
    to->n_ahead = 0;
    to->position = n;
    to->high_water = first > 0 ? max_int(n, first + ring) : n; /* nothing before first is there */
    to->has_logits = from->has_logits && n == from->position;
    if (to->has_logits)
        memcpy(to->logits, from->logits, sizeof(float) * to->model->vocab_size);
    return 0;
}

int gqa_session_fill_random(gqa_session *s, int n, uint64_t seed, gqa_error *err) {
    enum { POOL = 61 };  /* distinct vectors; a prime, so that heads and layers differ */
    if (check_session(s, "fill_random", err)) return GQA_ERR_ARGUMENT;
    const gqa_config *c = &s->model->config;
    size_t d = (size_t)c->head_dim;
    if (n < 0) return gqa_fail(err, GQA_ERR_ARGUMENT, "%d positions to fill: expected 0 up", n);
    if (n > s->context - s->position)
        return gqa_fail(err, GQA_ERR_CONTEXT,
                        "context full: %d positions do not fit after %d of %d", n, s->position,
                        s->context);
    float *pool = malloc(sizeof(float) * POOL * d);
    if (!pool) return gqa_fail(err, GQA_ERR_MEMORY, "no memory to fill a session");
    for (size_t i = 0; i < POOL * d; i++)
        pool[i] = (float)(2 * gqa_random_unit(gqa_random_next(&seed)) - 1);
    int end = s->position + n;
    for (int l = 0; l < c->n_layers; l++) {
        int first = max_int(s->position, end - s->kv[l].n_tiles * GQA_KV_TILE);
        for (int h = 0; h < s->kv[l].n_kv_heads; h++)
            for (int p = first; p < end; p++) {
                size_t i = (size_t)l * 7 + (size_t)h * 3 + (size_t)p;
                const float *k = pool + i % POOL * d, *v = pool + (i * 5 + 1) % POOL * d;
                s->model->kernels->kv_append(&s->kv[l], h, p, k, v);
            }
    }
    free(pool);
    memset(s->tokens + s->position, 0, sizeof(int32_t) * n);
    s->has_logits = 0;
    set_position(s, end);
    return 0;
}

void gqa_session_watch_kv(gqa_session *s, gqa_on_kv on_kv, void *user) {
    s->on_kv = on_kv;
    s->on_kv_user = user;
}

const float *gqa_session_logits(const gqa_session *s) { return s->has_logits ? s->logits : NULL; }
int gqa_session_position(const gqa_session *s) { return s->position; }
int gqa_session_context(const gqa_session *s) { return s->context; }
const int32_t *gqa_session_tokens(const gqa_session *s) { return s->tokens; }
const gqa_model *gqa_session_model(const gqa_session *s) { return s->model; }
int gqa_session_threads(const gqa_session *s) { return gqa_team_threads(s->workspace->team); }
void gqa_session_cancel(gqa_session *s) { atomic_store(&s->cancel, 1); }

uint64_t gqa_session_bytes(const gqa_session *s) {
    uint64_t workspace = s->owns_workspace ? gqa_workspace_bytes(s->workspace) : 0;
    return (uint64_t)s->memory_bytes + s->cache_bytes + workspace;
}
