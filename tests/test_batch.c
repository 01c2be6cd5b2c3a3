/* test_batch.c: many sequences in one pass, each at a depth of its own and with a context of its
 * own, against the same sequences alone: one token for each, then any number. */
#include "sessions.h"

enum { N = 5, STEPS = 4 };

typedef struct batch {
    int contexts[N], depths[N];
    int threads;
} batch;

static gqa_model *narrow_model(void) {
    gqa_config shape = {.dim = 64, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16,
                        .ffn_dim = 96, .vocab_size = VOCAB, .context_length = 8192};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_F32, 3, NULL, &err);
    CHECK(m != NULL, "%s", err.message);
    return m;
}

/* Session i of the batch, filled to its depth; NULL on failure. One of them evaluates prompts
 * token by token. */
static gqa_session *filled_session(const gqa_model *m, const batch *b, int i) {
    gqa_session_options o = {.context = b->contexts[i], .kv = "f32", .n_threads = b->threads,
                             .batch = i == 2 ? 1 : 0};
    gqa_error err = {0};
    gqa_session *s = gqa_session_new(m, &o, &err);
    int status = s ? gqa_session_fill_random(s, b->depths[i], (uint64_t)i, &err) : -1;
    CHECK(status == 0, "session %d: %s", i, err.message);
    if (status == 0) return s;
    gqa_session_free(s);
    return NULL;
}

/* One token for each, together and alone. */
static void check_step(gqa_session **together, gqa_session **alone, int step) {
    gqa_error err = {0};
    int32_t next[N];
    for (int i = 0; i < N; i++) next[i] = (step * 31 + i * 7) % VOCAB;
    CHECK(gqa_sessions_eval(together, next, N, &err) == 0, "%s", err.message);
    for (int i = 0; i < N; i++) {
        CHECK(gqa_session_eval(alone[i], &next[i], 1, &err) == 0, "%s", err.message);
        CHECK(same_logits(together[i], alone[i]), "session %d of context %d at %d, step %d", i,
              gqa_session_context(alone[i]), gqa_session_position(alone[i]) - 1, step);
    }
}

static void check_batch(batch b) {
    gqa_model *m = narrow_model();
    gqa_session *together[N] = {NULL}, *alone[N] = {NULL};
    int made = m != NULL;
    for (int i = 0; made && i < N; i++) {
        together[i] = filled_session(m, &b, i);
        alone[i] = filled_session(m, &b, i);
        made = together[i] && alone[i];
    }
    for (int step = 0; made && step < STEPS; step++) check_step(together, alone, step);
    for (int i = 0; i < N; i++) {
        gqa_session_free(together[i]);
        gqa_session_free(alone[i]);
    }
    gqa_model_close(m);
}

/* ---- any number of tokens of each ------------------------------------------------------------ */

enum { LONGEST = 700, MAX_TOKENS = N * 300 };

/* Sessions with caches, batches and depths of their own, of one workspace but for one. */
static void make_mixed(const gqa_model *m, gqa_workspace *w, gqa_session **s) {
    static const char *const caches[N] = {"f16", "q8_0", "f32", "bf16", "q8_0/q4_0"};
    static const int contexts[N] = {300, LONGEST, 640, 420, 500}, depths[N] = {0, 460, 33, 0, 100},
                     batches[N] = {64, 40, 1, 64, 20};
    for (int i = 0; i < N; i++) {
        s[i] = SESSION(m, .kv = caches[i], .context = contexts[i],
                       .batch = batches[i], .workspace = i == 3 ? NULL : w);
        CHECK(!gqa_session_fill_random(s[i], depths[i], (uint64_t)i, NULL), "depth");
    }
}

/* Rounds of growing sessions, together and alone: the same tokens and logits, to the bit, or but
 * for the order of sums. */
static void check_rounds(gqa_session **together, gqa_session **alone, int is_float) {
    static const int rounds[][N] = {{30, 1, 1, 5, 1}, {1, 1, 7, 1, 1}, {1, 130, 2, 8, 7},
                                    {100, 1, 1, 200, 1}, {2, 3, 5, 2, 4}, {1, 40, 9, 1, 64},
                                    {1, 1, 1, 1, 1}};
    int32_t t[MAX_TOKENS];
    gqa_error err = {0};
    for (int round = 0; round < (int)array_length(rounds); round++) {
        const int *counts = rounds[round];
        const int32_t *next = t;
        random_tokens(t, MAX_TOKENS, (uint64_t)round);
        CHECK(!gqa_sessions_eval_many(together, N, t, counts, &err), "%s", err.message);
        for (int i = 0; i < N; next += counts[i++]) {
            int position = gqa_session_position(alone[i]) + counts[i];
            eval_ok(alone[i], next, counts[i]);
            CHECK(gqa_session_position(together[i]) == position, "round %d: session %d", round, i);
            CHECK(!memcmp(gqa_session_tokens(together[i]), gqa_session_tokens(alone[i]),
                          sizeof *t * (size_t)position), "round %d: tokens of %d", round, i);
            if (!is_float)
                CHECK(same_logits(together[i], alone[i]), "round %d: session %d", round, i);
            else if (i < 4) /* q4_0 has steps too coarse */
                CHECK(close_cached("q8_0", gqa_session_logits(together[i]),
                                   gqa_session_logits(alone[i])), "round %d: %d", round, i);
        }
    }
}

static void check_many(gqa_config shape, gqa_type type, int threads) {
    gqa_error err = {0};
    gqa_session *together[N], *alone[N];
    gqa_session_options wo = {.context = LONGEST, .batch = 64, .n_threads = threads};
    shape.dim = shape.ffn_dim = 256;
    shape.n_layers = 2;
    shape.n_heads = 4;
    shape.vocab_size = VOCAB;
    shape.context_length = 1000;
    gqa_model *m = gqa_model_random(&shape, type, 5, NULL, &err);
    gqa_workspace *w = m ? gqa_workspace_new(m, &wo, &err) : NULL;
    CHECK(w != NULL, "%s", err.message);
    if (w) {
        make_mixed(m, w, together);
        make_mixed(m, w, alone);
        check_rounds(together, alone, type == GQA_TYPE_F32);
        for (int i = 0; i < N; i++) gqa_session_free(together[i]);
        for (int i = 0; i < N; i++) gqa_session_free(alone[i]);
    }
    gqa_workspace_free(w);
    gqa_model_close(m);
}

/* Of float weights too, while a pass is small. */
static void check_small_floats(void) {
    gqa_model *m = new_model((model_shape){.seed = 4});
    gqa_session *s[2] = {SESSION(m, .context = 100), SESSION(m, .context = 90)};
    gqa_session *alone = SESSION(m, .context = 100);
    int32_t t[16];
    random_tokens(t, 16, 1);
    CHECK(!gqa_sessions_eval_many(s, 2, t, (int[]){5, 11}, NULL), "16 tokens");
    eval_ok(alone, t + 5, 11);
    CHECK(same_logits(s[1], alone), "11 tokens beside 5");
    gqa_session_rewind(alone, 0, NULL);
    eval_ok(alone, t, 5);
    CHECK(same_logits(s[0], alone), "5 tokens beside 11");
    for (int i = 0; i < 2; i++) gqa_session_free(s[i]);
    gqa_session_free(alone);
    gqa_model_close(m);
}

/* ---- what fails ------------------------------------------------------------------------------ */

typedef struct canceller {
    gqa_session *session;
    int position;
} canceller;

static void cancel_at(void *user, int layer, int position, int kv_head, const float *k,
                      const float *v) {
    canceller *c = user;
    if (position == c->position && layer + kv_head >= 0 && k && v) gqa_session_cancel(c->session);
}

static void check_refused(gqa_session **s, const int32_t *t, const int *counts, gqa_status code,
                          const char *message) {
    gqa_error err = {0};
    CHECK(gqa_sessions_eval_many(s, 3, t, counts, &err) == (int)code, "%s", err.message);
    CHECK_HAS(err.message, message);
    for (int i = 0; i < 3; i++)
        CHECK(gqa_session_position(s[i]) == 10 * i + 140, "session %d moved to %d", i,
              gqa_session_position(s[i]));
}

/* A call that is refused, or cancelled in its second pass, leaves all sessions as they were. */
static void check_failures(int window) {
    enum { LAST = 60 };
    gqa_model *m = new_model((model_shape){.type = GQA_TYPE_Q8_0, .window = window, .seed = 6});
    gqa_session *s[3], *alone[3];
    int32_t t[200], bad[200];
    static const int counts[] = {1, LAST, 3}, none[] = {1, 0, 3}, many[] = {1, 2, 81};
    random_tokens(t, 200, 9);
    memcpy(bad, t, sizeof bad);
    bad[1 + LAST] = VOCAB;
    for (int i = 0; i < 3; i++) {
        s[i] = SESSION(m, .context = 240, .batch = 32);
        alone[i] = SESSION(m, .context = 240, .batch = 32);
        eval_ok(s[i], t + i, 10 * i + 140);
        eval_ok(alone[i], t + i, 10 * i + 140);
    }
    check_refused(s, t, none, GQA_ERR_ARGUMENT, "session 1: 0 tokens");
    check_refused(s, bad, counts, GQA_ERR_ARGUMENT, "session 2: token 0 of 3: id 101");
    check_refused(s, t, many, GQA_ERR_CONTEXT, "session 2: context full");
    for (int i = 0; i < 3; i++) CHECK(same_logits(s[i], alone[i]), "a refused call has no effect");
    canceller c = {s[0], 150 + LAST - 1};
    gqa_session_watch_kv(s[1], cancel_at, &c);
    check_refused(s, t, counts, GQA_ERR_CANCELLED, "cancelled");
    CHECK(!gqa_session_logits(s[0]) && !gqa_session_logits(s[1]), "logits are lost");
    gqa_session_watch_kv(s[1], NULL, NULL);
    if (window) CHECK(gqa_session_rewind(s[1], 100, NULL) < 0, "what it needs is overwritten");
    CHECK(!gqa_sessions_eval_many(s, 3, t, counts, NULL), "again");
    eval_ok(alone[0], t, 1);
    eval_ok(alone[1], t + 1, LAST);
    eval_ok(alone[2], t + 1 + LAST, 3);
    for (int i = 0; i < 3; i++) {
        CHECK(same_logits(s[i], alone[i]), "session %d after a cancelled call", i);
        gqa_session_free(s[i]);
        gqa_session_free(alone[i]);
    }
    gqa_model_close(m);
}

/* n_single sessions of one token, then some of any number. */
static void check_passes(int n_single) {
    enum { MANY = 100 };
    gqa_model *m = new_model((model_shape){.type = GQA_TYPE_Q8_0, .seed = 8});
    gqa_workspace *w = gqa_workspace_new(m, &(gqa_session_options){.context = 300, .batch = 256,
                                                                   .n_threads = 1}, NULL);
    gqa_session *s[MANY], *alone = SESSION(m, .context = 64, .batch = 40, .workspace = w);
    int32_t t[MANY * 41];
    int counts[MANY], at = 0;
    random_tokens(t, MANY * 41, 3);
    for (int i = 0; i < MANY; i++) {
        s[i] = SESSION(m, .context = 64, .batch = 40, .workspace = w);
        counts[i] = i < n_single ? 1 : i % 42 ? i % 9 + 1 : 41;
    }
    CHECK(!gqa_sessions_eval_many(s, MANY, t, counts, NULL), "%d sessions", MANY);
    for (int i = 0; i < MANY; at += counts[i++]) {
        gqa_session_rewind(alone, 0, NULL);
        eval_ok(alone, t + at, counts[i]);
        CHECK(same_logits(s[i], alone), "session %d of %d tokens", i, counts[i]);
        gqa_session_free(s[i]);
    }
    gqa_session_free(alone);
    gqa_workspace_free(w);
    gqa_model_close(m);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("one context, five depths") {
        check_batch((batch){{100, 100, 100, 100, 100}, {1, 50, 0, 31, 96}, 2});
    }
    TEST("five contexts, the longest last") {
        check_batch((batch){{64, 2040, 700, 1100, 5000}, {10, 1500, 510, 1022, 4000}, 2});
    }
    TEST("five contexts to their ends, one thread") {
        check_batch((batch){{64, 2040, 700, 1100, 5000}, {60, 2036, 511, 1023, 4990}, 1});
    }
    TEST("five contexts, the longest first, three threads") {
        check_batch((batch){{5000, 64, 700, 1100, 2040}, {509, 3, 512, 1020, 2000}, 3});
    }
    const gqa_config plain = {.n_kv_heads = 2, .head_dim = 64};
    const gqa_config window = {.n_kv_heads = 1, .head_dim = 32, .window = 48};
    TEST("many tokens: q8_0 weights") check_many(plain, GQA_TYPE_Q8_0, 2);
    TEST("many tokens: q4_k weights, one thread") check_many(plain, GQA_TYPE_Q4_K, 1);
    TEST("many tokens: sliding windows") check_many(window, GQA_TYPE_Q8_0, 3);
    TEST("many tokens: f32 weights") check_many(plain, GQA_TYPE_F32, 2);
    TEST("up to 16 tokens: f32 weights, the same bits") check_small_floats();
    TEST("more sessions than a pass takes") check_passes(60);
    TEST("more tokens than a pass takes") check_passes(0);
    TEST("a call that fails moves no session") check_failures(0);
    TEST("the same with sliding windows") check_failures(24);
    return test_end();
}
