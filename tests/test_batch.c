/* test_batch.c: many sequences in one pass, each at a depth of its own and with a context of its
 * own, against the same sequences alone. */
#include "test.h"

#include "../model.h"

enum { N = 5, STEPS = 4, VOCAB = 300 };

typedef struct batch {
    int contexts[N], depths[N];
    int threads;
} batch;

static gqa_model *new_model(void) {
    gqa_config shape = {.dim = 64, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16,
                        .ffn_dim = 96, .vocab_size = VOCAB, .context_length = 8192};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_F32, 3, NULL, &err);
    CHECK(m != NULL, "%s", err.message);
    return m;
}

/* Session i of the batch, filled to its depth; NULL on failure. One of them evaluates prompts
 * token by token. */
static gqa_session *new_session(const gqa_model *m, const batch *b, int i) {
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

static double logits_distance(const gqa_session *a, const gqa_session *b) {
    const float *x = gqa_session_logits(a), *y = gqa_session_logits(b);
    double worst = 0;
    if (!x || !y) return HUGE_VAL;
    for (int i = 0; i < VOCAB; i++) worst = test_worse(worst, fabs((double)x[i] - (double)y[i]));
    return worst;
}

/* One token for each, together and alone. */
static void check_step(gqa_session **together, gqa_session **alone, int step) {
    gqa_error err = {0};
    int32_t next[N];
    for (int i = 0; i < N; i++) next[i] = (step * 31 + i * 7) % VOCAB;
    CHECK(gqa_sessions_eval(together, next, N, &err) == 0, "%s", err.message);
    for (int i = 0; i < N; i++) {
        CHECK(gqa_session_eval(alone[i], &next[i], 1, &err) == 0, "%s", err.message);
        double worst = logits_distance(together[i], alone[i]);
        CHECK(worst < 1e-4, "session %d of context %d at %d, step %d: logits differ by %g", i,
              gqa_session_context(alone[i]), gqa_session_position(alone[i]) - 1, step, worst);
    }
}

static void check_batch(batch b) {
    gqa_model *m = new_model();
    gqa_session *together[N] = {NULL}, *alone[N] = {NULL};
    int made = m != NULL;
    for (int i = 0; made && i < N; i++) {
        together[i] = new_session(m, &b, i);
        alone[i] = new_session(m, &b, i);
        made = together[i] && alone[i];
    }
    for (int step = 0; made && step < STEPS; step++) check_step(together, alone, step);
    for (int i = 0; i < N; i++) {
        gqa_session_free(together[i]);
        gqa_session_free(alone[i]);
    }
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
    return test_end();
}
