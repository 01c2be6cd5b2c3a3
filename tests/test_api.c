/* test_api.c: the calls of API 0.2, one by one: what they do, and what they refuse and leave as it
 * was. */
#include "test.h"

#include "../model.h"

enum { VOCAB = 101, MAX_TOKENS = 300 };

static gqa_model *random_model(int window) {
    gqa_config shape = {
        .dim = 64, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 32, .ffn_dim = 96,
        .vocab_size = VOCAB, .context_length = 600, .window = window,
    };
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_Q8_0, 1, NULL, &err);
    CHECK(m, "%s", err.message);
    return m;
}

static gqa_session *session_of(const gqa_model *m, gqa_session_options opt) {
    gqa_error err = {0};
    if (!opt.workspace && !opt.n_threads) opt.n_threads = 2;
    gqa_session *s = gqa_session_new(m, &opt, &err);
    CHECK(s, "%s", err.message);
    return s;
}

static void make_tokens(int32_t *t, int n, uint64_t seed) {
    for (int i = 0; i < n; i++) t[i] = (int32_t)(test_random_bits(&seed) % VOCAB);
}

static int same_logits(const gqa_session *a, const gqa_session *b) {
    const float *x = gqa_session_logits(a), *y = gqa_session_logits(b);
    return x && y && !memcmp(x, y, VOCAB * sizeof *x);
}

static int same_tokens(const gqa_session *s, const int32_t *tokens, int n) {
    return gqa_session_position(s) == n &&
           !memcmp(gqa_session_tokens(s), tokens, sizeof *tokens * (size_t)n);
}

/* Evaluates tokens[n] one by one, so that the order of sums is the same wherever it begins. */
static int eval_each(gqa_session *s, const int32_t *tokens, int n) {
    int status = 0;
    for (int i = 0; i < n && !status; i++) status = gqa_session_eval(s, tokens + i, 1, NULL);
    return status;
}

/* ---- copy ------------------------------------------------------------------------------------ */

/* A copy of n positions goes on like a session that evaluated them itself. */
static void check_copy(const gqa_model *m, const char *kv, int n, int context, int batch) {
    gqa_error err = {0};
    int32_t t[MAX_TOKENS];
    make_tokens(t, MAX_TOKENS, 3);
    gqa_session *from = session_of(m, (gqa_session_options){.kv = kv, .context = 300, .batch = 40});
    gqa_session *to = session_of(m, (gqa_session_options){.kv = kv, .context = context,
                                                          .batch = batch});
    gqa_session *fresh = session_of(m, (gqa_session_options){.kv = kv, .context = 300});
    CHECK(!eval_each(from, t, 150) && !eval_each(to, t + 30, 60), "eval");
    CHECK(!eval_each(fresh, t, n), "eval");
    if (n < 150) CHECK(!gqa_session_rewind(from, n + 1, &err), "%s", err.message);
    CHECK(!gqa_session_copy(to, from, n, &err), "%s n %d: %s", kv, n, err.message);
    CHECK(same_tokens(to, t, n), "%d tokens", gqa_session_position(to));
    CHECK(!gqa_session_logits(to) == (n < 150), "logits come along only from the end");
    CHECK(!eval_each(to, t + n, 20) && !eval_each(fresh, t + n, 20), "eval");
    CHECK(same_logits(to, fresh), "%s, %d positions, context %d", kv, n, context);
    gqa_session_free(from);
    gqa_session_free(to);
    gqa_session_free(fresh);
}

static void check_copy_refused(const gqa_model *m) {
    gqa_error err = {0};
    int32_t t[100];
    make_tokens(t, 100, 4);
    gqa_model *other_model = random_model(0);
    gqa_session *from = session_of(m, (gqa_session_options){.context = 200});
    gqa_session *to = session_of(m, (gqa_session_options){.context = 60});
    gqa_session *f32 = session_of(m, (gqa_session_options){.context = 200, .kv = "f32"});
    gqa_session *other = session_of(other_model, (gqa_session_options){.context = 200});
    CHECK(!gqa_session_eval(from, t, 80, &err) && !gqa_session_eval(to, t, 5, &err) &&
          !gqa_session_eval(other, t, 80, &err), "%s", err.message);
    const struct {
        gqa_session *to;
        const gqa_session *from;
        int n, status;
        const char *message;
    } cases[] = {
        {to, from, 61, GQA_ERR_CONTEXT, "61 positions do not fit"},
        {to, from, 81, GQA_ERR_ARGUMENT, "81 positions, expected 0 to 80"},
        {to, from, -1, GQA_ERR_ARGUMENT, "-1 positions"},
        {to, to, 1, GQA_ERR_ARGUMENT, "the same"},
        {to, other, 5, GQA_ERR_ARGUMENT, "different models"},
        {to, f32, 0, GQA_ERR_ARGUMENT, "KV cache type f32, expected f16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = gqa_session_copy(cases[i].to, cases[i].from, cases[i].n, &err);
        CHECK(status == cases[i].status, "case %zu: %d", i, status);
        CHECK_HAS(err.message, cases[i].message);
        CHECK(same_tokens(to, t, 5) && gqa_session_logits(to), "left as it was");
    }
    gqa_session_free(from);
    gqa_session_free(to);
    gqa_session_free(f32);
    gqa_session_free(other);
    gqa_model_close(other_model);
}

static void check_copy_window(void) {
    gqa_model *m = random_model(48);
    gqa_error err = {0};
    int32_t t[MAX_TOKENS];
    make_tokens(t, MAX_TOKENS, 3);
    gqa_session *from = session_of(m, (gqa_session_options){.context = 300, .batch = 40});
    gqa_session *to = session_of(m, (gqa_session_options){.context = 300, .batch = 40});
    CHECK(!gqa_session_eval(from, t, 260, &err), "%s", err.message);
    CHECK(!gqa_session_copy(to, from, 260, &err) && same_logits(to, from), "%s", err.message);
    CHECK(gqa_session_copy(to, from, 100, &err) == GQA_ERR_ARGUMENT, "positions are gone");
    CHECK_HAS(err.message, "overwritten");
    CHECK(same_tokens(to, t, 260), "left as it was");
    CHECK(gqa_session_rewind(to, 100, &err) == GQA_ERR_ARGUMENT, "nor can the copy go back there");
    gqa_session_free(from);
    gqa_session_free(to);
    gqa_model_close(m);
}

/* ---- sync ------------------------------------------------------------------------------------ */

static void check_sync(const gqa_model *m) {
    gqa_error err = {0};
    int32_t t[100], changed[100];
    make_tokens(t, 100, 5);
    memcpy(changed, t, sizeof t);
    changed[60] = (changed[60] + 1) % VOCAB;
    gqa_session *s = session_of(m, (gqa_session_options){.context = 90});
    gqa_session *fresh = session_of(m, (gqa_session_options){.context = 90});
    CHECK(gqa_session_sync(s, t, 80, &err) == 0 && same_tokens(s, t, 80), "all new");
    CHECK(gqa_session_sync(s, t, 80, &err) == 80, "nothing to do");
    CHECK(gqa_session_sync(s, t, 70, &err) == 69 && same_tokens(s, t, 70), "a beginning of it");
    CHECK(gqa_session_sync(s, changed, 80, &err) == 60 && same_tokens(s, changed, 80), "a change");
    CHECK(!gqa_session_rewind(s, 79, &err) && gqa_session_sync(s, changed, 79, &err) == 78 &&
          gqa_session_logits(s), "logits were gone");
    CHECK(!gqa_session_eval(fresh, changed, 60, &err) &&
          !gqa_session_eval(fresh, changed + 60, 18, &err) &&
          !gqa_session_eval(fresh, changed + 78, 1, &err), "%s", err.message);
    CHECK(same_logits(s, fresh), "the logits of the same steps");
    CHECK(gqa_session_sync(s, t, 91, &err) == GQA_ERR_CONTEXT, "91 tokens in 90 positions");
    t[3] = VOCAB;
    CHECK(gqa_session_sync(s, t, 80, &err) == GQA_ERR_ARGUMENT, "an id out of range");
    CHECK_HAS(err.message, "token 3");
    CHECK(gqa_session_sync(s, t, 0, &err) == GQA_ERR_ARGUMENT, "no tokens");
    CHECK(same_tokens(s, changed, 79) && gqa_session_logits(s), "left as it was");
    gqa_session_cancel(s);
    CHECK(gqa_session_sync(s, changed, 90, &err) == GQA_ERR_CANCELLED &&
          same_tokens(s, changed, 79), "cancelled: the tokens kept stay");
    gqa_session_free(s);
    gqa_session_free(fresh);
}

static void check_sync_window(void) {
    gqa_model *m = random_model(20);
    gqa_error err = {0};
    int32_t t[200];
    make_tokens(t, 200, 6);
    gqa_session *s = session_of(m, (gqa_session_options){.context = 200, .batch = 16});
    CHECK(gqa_session_sync(s, t, 200, &err) == 0, "%s", err.message);
    CHECK(gqa_session_sync(s, t, 50, &err) == 0 && same_tokens(s, t, 50), "it begins at 0");
    gqa_session_free(s);
    gqa_model_close(m);
}

/* ---- workspaces ------------------------------------------------------------------------------ */

static void check_workspace_shared(const gqa_model *m) {
    enum { N = 70 };
    gqa_error err = {0};
    int32_t t[N];
    make_tokens(t, N, 7);
    gqa_workspace *w = gqa_workspace_new(m, &(gqa_session_options){.context = 64, .n_threads = 2},
                                         &err);
    CHECK(w, "%s", err.message);
    gqa_session *shared[N], *own = session_of(m, (gqa_session_options){.context = 64, .batch = 1});
    for (int i = 0; i < N; i++)
        shared[i] = session_of(m, (gqa_session_options){.workspace = w, .batch = 1});
    uint64_t one = gqa_session_bytes(shared[0]);
    CHECK(one + gqa_workspace_bytes(w) >= gqa_session_bytes(own), "an own workspace is counted");
    CHECK(one < gqa_workspace_bytes(w) / 4, "a session holds %llu bytes beside the workspace",
          (unsigned long long)one);
    CHECK(gqa_session_context(shared[0]) == 64 && gqa_session_threads(shared[0]) == 2, "its own");
    CHECK(!gqa_sessions_eval(shared, t, N, &err), "%s", err.message);
    CHECK(!gqa_sessions_eval(shared, t, N, &err), "%s", err.message);
    for (int i = 0; i < N; i++) {
        CHECK(!gqa_session_rewind(own, 0, &err) && !eval_each(own, &t[i], 1) &&
              !eval_each(own, &t[i], 1), "eval");
        CHECK(same_logits(own, shared[i]), "session %d", i);
        gqa_session_free(shared[i]);
    }
    gqa_session_free(own);
    gqa_workspace_free(w);
}

static void check_workspace_refused(const gqa_model *m) {
    gqa_error err = {0};
    gqa_model *other = random_model(0);
    gqa_session_options small = {.context = 64, .batch = 8};
    gqa_workspace *w = gqa_workspace_new(m, &small, &err);
    const struct {
        const gqa_model *m;
        gqa_session_options opt;
        const char *message;
    } cases[] = {
        {other, {.workspace = w}, "another model"},
        {m, {.workspace = w, .context = 65}, "context 65: the workspace was made for 64"},
        {m, {.workspace = w, .batch = 9}, "batch 9: the workspace was made for 8"},
        {m, {.workspace = w, .n_threads = 2}, "n_threads"},
        {m, {.workspace = w, .exact = 1}, "exact"},
        {m, {.workspace = w, .reserved = {NULL, NULL, NULL, (void *)1}}, "reserved"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(!gqa_session_new(cases[i].m, &cases[i].opt, &err), "case %zu", i);
        CHECK_HAS(err.message, cases[i].message);
    }
    gqa_session *both[] = {session_of(m, (gqa_session_options){.workspace = w}),
                           session_of(m, (gqa_session_options){.context = 64, .exact = 1})};
    CHECK(gqa_sessions_eval(both, (int32_t[]){1, 2}, 2, &err) == GQA_ERR_ARGUMENT, "both");
    CHECK_HAS(err.message, "sessions 1 and 0: only one of them is exact");
    gqa_session_free(both[0]);
    gqa_session_free(both[1]);
    CHECK(!gqa_workspace_new(m, &(gqa_session_options){.workspace = w}, &err), "of a workspace");
    CHECK(!gqa_workspace_new(m, &(gqa_session_options){.context = -1}, &err), "context -1");
    gqa_workspace_free(w);
    gqa_workspace_free(NULL);
    gqa_model_close(other);
}

/* ---- NULL ------------------------------------------------------------------------------------ */

/* What a failed call leaves: no model, no tokens that could be freed twice. */
static void check_failed(const gqa_model *m) {
    gqa_error err = {0};
    int32_t t = 1, *ids;
    gqa_model_options negative = {.n_threads = -1}, many = {.n_threads = 1 << 20};
    gqa_model *models[] = {
        gqa_model_open(NULL, NULL, &err), gqa_model_from_memory(NULL, 5, NULL, &err),
        gqa_model_open("x", &negative, &err), gqa_model_open("x", &many, &err),
    };
    for (size_t i = 0; i < 4; i++) CHECK(!models[i], "model %zu", i);
    CHECK(err.code == GQA_ERR_ARGUMENT, "%s", err.message);
    ids = &t;
    gqa_tokenize_new(m, NULL, 1, 0, &ids, &err);
    CHECK(!ids, "tokens that are not there");
    ids = &t;
    gqa_chat_format(NULL, NULL, 0, NULL, &ids, &err);
    CHECK(!ids, "a chat's tokens that are not there");
    gqa_tokenize_new(m, NULL, 0, 0, &ids, &err); /* no text at all is one */
    CHECK(strstr(err.message, "the model has no vocabulary"), "%s", err.message);
}

static void check_null(const gqa_model *m) {
    gqa_error err = {0};
    int32_t t[2] = {1, 2};
    float logits[VOCAB];
    void *data = NULL;
    size_t size = 0;
    const char *out;
    int32_t *ids;
    gqa_session *s = session_of(m, (gqa_session_options){.context = 20});
    gqa_session *with_null[2] = {s, NULL};
    gqa_text *text = gqa_text_new(m, 0, NULL, 0, &err);
    CHECK(!gqa_session_eval(s, t, 2, &err) && text, "%s", err.message);
    const int statuses[] = {
        gqa_check_vocabulary(NULL, m, &err),
        gqa_check_vocabulary(m, NULL, &err),
        gqa_session_eval(NULL, t, 2, &err),
        gqa_session_eval(s, NULL, 2, &err),
        gqa_session_eval_all(NULL, t, 2, logits, &err),
        gqa_session_sync(NULL, t, 2, &err),
        gqa_session_sync(s, NULL, 2, &err),
        gqa_session_copy(NULL, s, 1, &err),
        gqa_session_copy(s, NULL, 1, &err),
        gqa_sessions_eval(NULL, t, 2, &err),
        gqa_sessions_eval(with_null, t, 2, &err),
        gqa_session_rewind(NULL, 0, &err),
        gqa_session_fill_random(NULL, 1, 1, &err),
        gqa_session_save(NULL, "x", &err),
        gqa_session_load(NULL, "x", &err),
        gqa_session_load(s, NULL, &err),
        gqa_session_save_memory(NULL, &data, &size, &err),
        gqa_session_load_memory(NULL, t, sizeof t, &err),
        gqa_text_push(NULL, 1, &out, &size, &err),
        gqa_text_push(text, 1, NULL, &size, &err),
        gqa_text_push(text, 1, &out, NULL, &err),
        gqa_tokenize_new(NULL, "x", 1, 0, &ids, &err),
        gqa_tokenize_new(m, "x", 1, 0, NULL, &err),
        gqa_tokenize_new(m, NULL, 1, 0, &ids, &err),
        gqa_tokenize(NULL, "x", 1, 0, NULL, 0, &err),
        gqa_tokenize(m, NULL, 1, 0, NULL, 0, &err),
        gqa_model_save_packed(NULL, "x", &err),
        gqa_model_save_packed(m, NULL, &err),
        gqa_token_name(NULL, 1, NULL, 0),
        gqa_token_bytes(NULL, 1, NULL, 0),
    };
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        CHECK(statuses[i] == GQA_ERR_ARGUMENT, "call %zu: %d", i, statuses[i]);
    gqa_text_flush(NULL, &out, &size);
    gqa_text_flush(text, NULL, &size);
    CHECK(size == 0 && gqa_workspace_bytes(NULL) == 0, "nothing of nothing");
    CHECK(!gqa_chat_template_name(NULL, NULL) && !gqa_chat_stop(NULL, NULL), "no model");
    CHECK(!gqa_model_layer(NULL, 0) && !gqa_model_get_stats(NULL), "no model, no layer");
    CHECK(same_tokens(s, t, 2) && gqa_session_logits(s), "left as it was");
    CHECK(gqa_session_sync(s, NULL, 2, &err) < 0, "sync");
    CHECK_HAS(err.message, "tokens is NULL");
    gqa_text_free(text);
    gqa_session_free(s);
}

/* ---- threads of the program ------------------------------------------------------------------ */

typedef struct call_counts {
    int calls, threads;
} call_counts;

/* All in one thread, the last first. */
static void run_backwards(void *user, int n, void (*fn)(void *arg, int thread), void *arg) {
    call_counts *counts = user;
    counts->calls++;
    counts->threads += n;
    while (n-- > 0) fn(arg, n);
}

static void check_batching(void) {
    enum { N = 65 };
    gqa_error err = {0};
    gqa_config shape = {.dim = 512, .n_layers = 3, .n_heads = 8, .n_kv_heads = 2, .ffn_dim = 1024,
                        .vocab_size = VOCAB};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_Q8_0, 1, NULL, &err);
    call_counts counts = {0};
    gqa_session *s[N];
    int32_t t[N];
    make_tokens(t, N, 2);
    for (int i = 0; i < N; i++)
        s[i] = session_of(m, (gqa_session_options){
            .context = 8, .batch = 1, .n_threads = 2, .run_parallel = run_backwards,
            .run_user = &counts});
    CHECK(!gqa_sessions_eval(s, t, 64, &err) && counts.calls == 1, "64 sessions: %d passes",
          counts.calls);
    CHECK(!gqa_sessions_eval(s, t, N, &err) && counts.calls == 3, "65 more: %d", counts.calls);
    for (int i = 0; i < N; i++) gqa_session_free(s[i]);
    gqa_model_close(m);
}

/* The width of a 1.1 B model. 64 sessions hold one workspace's scratch, each its own cache, tokens
 * and logits; the workspace itself grows with its batch. */
static void check_scratch(void) {
    enum { N = 64, CONTEXT = 64 };
    gqa_error err = {0};
    gqa_config shape = {.dim = 2048, .n_layers = 1, .n_heads = 32, .n_kv_heads = 4,
                        .ffn_dim = 5632, .vocab_size = 32000};
    gqa_model_options mo = {.no_repack = 1};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_Q4_0, 1, &mo, &err);
    gqa_session_options small = {.context = 4096, .n_threads = 1, .batch = 64}, large = small;
    large.batch = 512;
    gqa_workspace *w = gqa_workspace_new(m, &small, &err), *v = gqa_workspace_new(m, &large, &err);
    CHECK(m && w && v, "%s", err.message);
    uint64_t row = 4 * (2 * 2048 + 2 * 2048 + 2 * 256 + 2 * 5632 + 64); /* f32 buffers of a row */
    uint64_t more = gqa_workspace_bytes(v) - gqa_workspace_bytes(w);
    CHECK(more > 448 * row && more < 448 * row * 2, "448 rows more take %llu bytes, f32 %llu",
          (unsigned long long)more, (unsigned long long)(448 * row));
    uint64_t total = 0, cache = gqa_kv_bytes_per_position(gqa_model_config(m), GQA_TYPE_F16);
    gqa_session *s[N];
    for (int i = 0; i < N; i++) {
        s[i] = session_of(m, (gqa_session_options){.context = CONTEXT, .workspace = w});
        total += gqa_session_bytes(s[i]);
    }
    uint64_t own = cache * CONTEXT + 4 * CONTEXT + 4 * 32000 + 4096;
    CHECK(total <= N * own, "%llu bytes, expected at most %llu", (unsigned long long)total,
          (unsigned long long)(N * own));
    for (int i = 0; i < N; i++) gqa_session_free(s[i]);
    gqa_workspace_free(w);
    gqa_workspace_free(v);
    gqa_model_close(m);
}

static void check_run_parallel(void) {
    gqa_error err = {0};
    call_counts packing = {0}, computing = {0};
    gqa_model_options mo = {.n_threads = 3, .run_parallel = run_backwards, .run_user = &packing};
    gqa_config shape = {.dim = 512, .n_layers = 3, .n_heads = 8, .n_kv_heads = 2, .ffn_dim = 1024,
                        .vocab_size = VOCAB};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_Q8_0, 1, &mo, &err);
    CHECK(m && packing.calls == 1 && packing.threads == 3, "%d calls: %s", packing.calls,
          err.message);
    gqa_session *usual = session_of(m, (gqa_session_options){.n_threads = 2});
    gqa_session *s = session_of(m, (gqa_session_options){
        .n_threads = 3, .run_parallel = run_backwards, .run_user = &computing});
    int32_t t[40];
    make_tokens(t, 40, 9);
    CHECK(!gqa_session_eval(s, t, 40, &err) && !gqa_session_eval(usual, t, 40, &err), "prefill");
    CHECK(!eval_each(s, t, 3) && !eval_each(usual, t, 3), "decoding");
    CHECK(computing.calls == 4 && computing.threads == 12, "%d calls", computing.calls);
    CHECK(same_logits(s, usual), "the same bits as with threads of the library");
    gqa_session_free(s);
    gqa_session_free(usual);
    gqa_model_close(m);
}

/* ---- saving to memory ------------------------------------------------------------------------ */

static void check_memory(const gqa_model *m) {
    gqa_error err = {0};
    int32_t t[80];
    void *data = NULL;
    size_t size = 0;
    make_tokens(t, 80, 8);
    gqa_session *a = session_of(m, (gqa_session_options){.context = 100});
    gqa_session *b = session_of(m, (gqa_session_options){.context = 100});
    CHECK(!gqa_session_eval(a, t, 80, &err) && !gqa_session_save_memory(a, &data, &size, &err),
          "%s", err.message);
    CHECK(!gqa_session_load_memory(b, data, size, &err) && same_tokens(b, t, 80), "%s",
          err.message);
    CHECK(same_logits(a, b) && !eval_each(a, t, 5) && !eval_each(b, t, 5) && same_logits(a, b),
          "they go on alike");
    for (size_t n = 0; n < size; n += n < 60 ? 1 : size / 20) {
        CHECK(gqa_session_load_memory(b, data, n, &err) < 0, "the first %zu of %zu bytes", n, size);
        CHECK(gqa_session_position(b) == 85 && same_logits(a, b), "as it was");
    }
    ((uint8_t *)data)[size / 2] ^= 1;
    CHECK(gqa_session_load_memory(b, data, size, &err) == GQA_ERR_FORMAT, "a changed bit");
    CHECK_HAS(err.message, "memory: damaged");
    CHECK(gqa_session_position(b) == 0 && !gqa_session_logits(b), "empty");
    CHECK(gqa_session_load_memory(b, NULL, 0, &err) == GQA_ERR_ARGUMENT, "NULL");
    CHECK(gqa_session_save_memory(a, NULL, &size, &err) == GQA_ERR_ARGUMENT, "NULL");
    gqa_free(data);
    gqa_session_free(a);
    gqa_session_free(b);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void check_log_softmax(void) {
    float x[5] = {1, 2, 3, -1, 0.5f}, out[5];
    double sum = 0;
    gqa_log_softmax(x, 5, out);
    for (int i = 0; i < 5; i++) sum += exp((double)x[i]);
    for (int i = 0; i < 5; i++)
        CHECK(fabs((double)out[i] - ((double)x[i] - log(sum))) < 1e-6, "%g", (double)out[i]);
    float large[3] = {3e38f, 3e38f, -3e38f};
    gqa_log_softmax(large, 3, large);
    CHECK(fabs((double)large[0] + log(2)) < 1e-6 && large[2] < -1e38f, "in place, no overflow");
    float odd[4] = {(float)NAN, -HUGE_VALF, 0, 0};
    gqa_log_softmax(odd, 4, odd);
    CHECK(odd[0] == -HUGE_VALF && odd[1] == -HUGE_VALF && fabs((double)odd[2] + log(2)) < 1e-6,
          "NaN and minus infinity");
    float none[2] = {-HUGE_VALF, (float)NAN};
    gqa_log_softmax(none, 2, none);
    CHECK(none[0] == -HUGE_VALF && none[1] == -HUGE_VALF, "nothing is possible");
    gqa_log_softmax(x, 0, NULL);
    CHECK(gqa_log_sum_exp(NULL, 0) == -HUGE_VAL, "the sum of no logits");
    CHECK(gqa_log_sum_exp(NULL, 2) == -HUGE_VAL, "of a session that has none");
    gqa_log_softmax(NULL, 5, out);
    for (int i = 0; i < 5; i++) CHECK(out[i] == -HUGE_VALF, "%g", (double)out[i]);
}

static void check_versions(void) {
    int major, minor, patch;
    int fields = sscanf(GQA_VERSION, "%d.%d.%d", &major, &minor, &patch);
    CHECK(fields == 3, "%d fields", fields);
    CHECK(GQA_VERSION_NUMBER == major * 10000 + minor * 100 + patch, "%d", GQA_VERSION_NUMBER);
    CHECK(gqa_version_number() == GQA_VERSION_NUMBER && !strcmp(gqa_version(), GQA_VERSION), "run");
}

static void check_reserved(const gqa_model *m) {
    gqa_error err = {0};
    gqa_model_options mo = {.reserved = {NULL, (void *)1}};
    gqa_sampler_options so = {.reserved = {NULL, NULL, NULL, (void *)1}};
    gqa_config shape = *gqa_model_config(m);
    CHECK(!gqa_model_random(&shape, GQA_TYPE_F32, 1, &mo, &err), "model options");
    CHECK_HAS(err.message, "model options: a reserved field is not zero");
    CHECK(!gqa_model_open("no-such-file", &mo, &err), "model options, opening");
    CHECK_HAS(err.message, "reserved");
    CHECK(!gqa_sampler_new(&so, &err), "sampler options");
    CHECK_HAS(err.message, "sampler options");
    shape.reserved[sizeof shape.reserved / sizeof *shape.reserved - 1] = 1;
    CHECK(!gqa_model_random(&shape, GQA_TYPE_F32, 1, NULL, &err), "config");
    CHECK_HAS(err.message, "reserved");
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    static const char *const caches[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "f16/q8_0"};
    gqa_model *m = random_model(0);
    for (size_t i = 0; i < sizeof caches / sizeof caches[0]; i++) {
        char name[40];
        snprintf(name, sizeof name, "copy, %s cache", caches[i]);
        TEST(name) {
            check_copy(m, caches[i], 150, 300, 40);
            check_copy(m, caches[i], 0, 300, 40);
            check_copy(m, caches[i], 33, 100, 7);
            check_copy(m, caches[i], 120, 512, 200);
        }
    }
    TEST("copy, refused") check_copy_refused(m);
    TEST("copy, sliding window") check_copy_window();
    TEST("sync") check_sync(m);
    TEST("sync, sliding window") check_sync_window();
    TEST("workspace, shared") check_workspace_shared(m);
    TEST("workspace, refused") check_workspace_refused(m);
    TEST("NULL is refused") check_null(m);
    TEST("a failed call leaves no model and no tokens") check_failed(m);
    TEST("sessions are batched by 64") check_batching();
    TEST("64 sessions, one scratch") check_scratch();
    TEST("threads of the program") check_run_parallel();
    TEST("save to memory") check_memory(m);
    TEST("log softmax") check_log_softmax();
    TEST("versions") check_versions();
    TEST("reserved fields") check_reserved(m);
    gqa_model_close(m);
    return test_end();
}
