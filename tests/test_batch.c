/* test_batch.c: many sequences in one pass, each at a depth of its own and with a context of its own, against the same sequences
 * alone. */
#include "test.h"

#include <math.h>

#include "../model.h"

enum { N = 5, STEPS = 4, VOCAB = 300 };

static void check_contexts(const int *contexts, const int *depths, int threads) {
    gqa_config shape = {.dim = 64, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .ffn_dim = 96, .vocab_size = VOCAB, .context_length = 8192};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_F32, 3, NULL, &err);
    gqa_session *together[N] = {NULL}, *alone[N] = {NULL};
    int made = m != NULL;
    for (int i = 0; made && i < N; i++) {
        gqa_session_options o = {.context = contexts[i], .kv = "f32", .n_threads = threads, .batch = i == 2 ? 1 : 0};
        together[i] = gqa_session_new(m, &o, &err);
        alone[i] = gqa_session_new(m, &o, &err);
        made = together[i] && alone[i] && !gqa_session_fill_random(together[i], depths[i], (uint64_t)i, &err) && !gqa_session_fill_random(alone[i], depths[i], (uint64_t)i, &err);
    }
    CHECK(made, "%s", err.message);
    for (int step = 0; made && step < STEPS; step++) {
        int32_t next[N];
        for (int i = 0; i < N; i++) next[i] = (step * 31 + i * 7) % VOCAB;
        CHECK(gqa_sessions_eval(together, next, N, &err) == 0, "%s", err.message);
        for (int i = 0; i < N; i++) {
            CHECK(gqa_session_eval(alone[i], &next[i], 1, &err) == 0, "%s", err.message);
            const float *a = gqa_session_logits(together[i]), *b = gqa_session_logits(alone[i]);
            double worst = 0;
            for (int j = 0; a && b && j < VOCAB; j++) worst = test_worse(worst, fabs((double)a[j] - (double)b[j]));
            CHECK(a && b && worst < 1e-4, "session %d of context %d at %d, step %d: logits differ by %g", i, contexts[i], depths[i], step, worst);
        }
    }
    for (int i = 0; i < N; i++) gqa_session_free(together[i]), gqa_session_free(alone[i]);
    gqa_model_close(m);
}

int main(void) {
    check_contexts((const int[N]){100, 100, 100, 100, 100}, (const int[N]){1, 50, 0, 31, 96}, 2);
    check_contexts((const int[N]){64, 2040, 700, 1100, 5000}, (const int[N]){10, 1500, 510, 1022, 4000}, 2); /* the longest last */
    check_contexts((const int[N]){64, 2040, 700, 1100, 5000}, (const int[N]){60, 2036, 511, 1023, 4990}, 1);
    check_contexts((const int[N]){5000, 64, 700, 1100, 2040}, (const int[N]){509, 3, 512, 1020, 2000}, 3);
    return test_end();
}
