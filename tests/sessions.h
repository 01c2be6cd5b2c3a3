/* sessions.h: small random models and sessions over them, for the tests of sessions. Whatever
 * cannot be made ends the program. A field that is 0 gets the default beside it. */
#ifndef GQA_TEST_SESSIONS_H
#define GQA_TEST_SESSIONS_H

#include "test.h"

#include "../session/session_internal.h"

enum { VOCAB = 101 };

typedef struct model_shape {
    gqa_type type;        /* f32 */
    int layers;           /* 3 */
    int kv_heads;         /* 2, of 4 heads */
    int window;           /* none */
    uint64_t seed;
} model_shape;

__attribute__((unused)) static gqa_model *new_model(model_shape shape) {
    gqa_config c = {
        .dim = 64,
        .n_layers = shape.layers ? shape.layers : 3,
        .n_heads = 4,
        .n_kv_heads = shape.kv_heads ? shape.kv_heads : 2,
        .head_dim = 32,
        .ffn_dim = 96,
        .vocab_size = VOCAB,
        .context_length = 700,
        .window = shape.window,
    };
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, shape.type, shape.seed, NULL, &err);
    if (!m) {
        CHECK(0, "%s", err.message);
        exit(test_end());
    }
    return m;
}

/* batch: 64; n_threads: 2, or those of the workspace. */
__attribute__((unused))
static gqa_session *new_session(const gqa_model *m, gqa_session_options o) {
    gqa_error err = {0};
    if (!o.n_threads && !o.workspace) o.n_threads = 2;
    if (!o.batch) o.batch = 64;
    gqa_session *s = gqa_session_new(m, &o, &err);
    if (!s) {
        CHECK(0, "%s", err.message);
        exit(test_end());
    }
    return s;
}
#define SESSION(model, ...) new_session(model, (gqa_session_options){__VA_ARGS__})

__attribute__((unused)) static void random_tokens(int32_t *t, int n, uint64_t seed) {
    for (int i = 0; i < n; i++) t[i] = (int32_t)(test_random_bits(&seed) % VOCAB);
}

/* Evaluates tokens that must be accepted. */
__attribute__((unused)) static void eval_ok(gqa_session *s, const int32_t *tokens, int n) {
    gqa_error err = {0};
    CHECK(gqa_session_eval(s, tokens, n, &err) == 0, "%d tokens: %s", n, err.message);
}

__attribute__((unused)) static int same_logits(const gqa_session *a, const gqa_session *b) {
    const float *x = gqa_session_logits(a), *y = gqa_session_logits(b);
    return x && y && !memcmp(x, y, VOCAB * sizeof *x);
}

/* As close as one order of sums is to another; in a q8_0 cache that may turn a value to the next
 * of its 255 steps. */
__attribute__((unused)) static int close_cached(const char *kv, const float *x, const float *y) {
    float limit = strcmp(kv, "q8_0") ? 2e-4f : 1e-2f;
    if (!x || !y) return 0;
    for (int i = 0; i < VOCAB; i++)
        if (!(fabsf(x[i] - y[i]) < limit * (1 + fabsf(y[i])))) return 0;
    return 1;
}

__attribute__((unused)) static int close_logits(const gqa_session *a, const gqa_session *b) {
    return close_cached("f32", gqa_session_logits(a), gqa_session_logits(b));
}

#endif
