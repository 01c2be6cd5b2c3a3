/* test_shared_rows.c: sessions of models whose cached rows are K and V at once (gta, deepseek2). */
#include "twin_run.h"

static void check_gta_refused(spec s, const char *message) {
    gqa_error err = {0};
    complete(&s);
    twin *t = make_twin(&s);
    gqa_model *m = gqa_model_from_memory(t->image, t->size, NULL, &err);
    CHECK(!m, "a head of %d of which %d are rotated", s.head_dim, s.rope_dim);
    CHECK_HAS(err.message, message);
    gqa_model_close(m);
    free_twin(t);
}

/* What it caches, `values` numbers a position in f16; a session that was saved and loaded, and one
 * that was copied, go on as the first. */
static void check_shared_session(spec s, int values, const char *kv) {
    enum { N = 90, MORE = 10, VOCAB = 70 };
    s.vocab = VOCAB;
    s.tokens = N + MORE;
    complete(&s);
    twin *t = make_twin(&s);
    int32_t *tokens = random_tokens(s.tokens, s.vocab);
    gqa_error err = {0};
    gqa_model *m = gqa_model_from_memory(t->image, t->size, NULL, &err);
    gqa_session_options o = {.context = 128, .kv = kv, .n_threads = 2};
    gqa_session *sessions[3];
    float logits[3][VOCAB];
    void *saved = NULL;
    size_t size = 0;
    CHECK(gqa_model_kv_bytes(m, GQA_TYPE_F16, 5) == (uint64_t)(5 * 2 * values), "bytes of a cache");
    for (int i = 0; i < 3; i++) sessions[i] = gqa_session_new(m, &o, &err);
    CHECK(sessions[2] && gqa_session_eval(sessions[0], tokens, N, &err) == 0, "%s", err.message);
    int status = gqa_session_save_memory(sessions[0], &saved, &size, &err);
    if (!status) status = gqa_session_load_memory(sessions[1], saved, size, &err);
    if (!status) status = gqa_session_copy(sessions[2], sessions[0], N, &err);
    for (int i = 0; i < 3 && !status; i++) {
        for (int k = 0; k < MORE && !status; k++)
            status = gqa_session_eval(sessions[i], tokens + N + k, 1, &err);
        if (!status) memcpy(logits[i], gqa_session_logits(sessions[i]), sizeof logits[i]);
    }
    CHECK(status == 0, "%s", err.message);
    CHECK(!memcmp(logits[0], logits[1], sizeof logits[0]), "%s: saved and loaded", kv);
    CHECK(!memcmp(logits[0], logits[2], sizeof logits[0]), "%s: copied", kv);
    for (int i = 0; i < 3; i++) gqa_session_free(sessions[i]);
    gqa_free(saved);
    gqa_model_close(m);
    free(tokens);
    free_twin(t);
}

/* Token by token, where threads share a row's heads: the first head's caches for all. */
static void check_gta_threads(void) {
    enum { TOKENS = 8, VOCAB = 20000 };
    const gqa_config shape = {.dim = 256, .n_layers = 1, .n_heads = 8, .n_kv_heads = 4,
                              .ffn_dim = 64, .vocab_size = VOCAB, .tied_kv = 1};
    gqa_error err = {0};
    static float logits[4][VOCAB];
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_F32, 1, NULL, &err);
    CHECK(m && !strcmp(gqa_model_config(m)->architecture, "gta"), "%s", err.message);
    for (int threads = 1; threads <= 3 && m; threads++) {
        gqa_session_options o = {.context = 64, .n_threads = threads};
        gqa_session *s = gqa_session_new(m, &o, &err);
        for (int32_t token = 0; token < TOKENS; token++)
            CHECK(gqa_session_eval(s, &token, 1, &err) == 0, "%s", err.message);
        memcpy(logits[threads], gqa_session_logits(s), sizeof logits[0]);
        CHECK(!memcmp(logits[1], logits[threads], sizeof logits[0]), "%d threads", threads);
        gqa_session_free(s);
    }
    gqa_model_close(m);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("gta and deepseek2: saved, loaded, copied") {
        const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
        const spec gta = SPEC(.arch = "gta", .dim = 64, .head_dim = 64, .rope_dim = 32, .seed = 80);
        const spec latent = SPEC(.arch = "deepseek2", .layers = 3, .head_dim = 24, .rope_dim = 8,
                                 .latent = 32, .value = 16, .seed = 81);
        for (int i = 0; i < 5; i++) {
            check_shared_session(gta, 2 * (2 * 64 + 32), types[i]);
            check_shared_session(latent, 3 * (32 + 8), types[i]);
        }
    }
    TEST("gta: several threads, a token a pass") check_gta_threads();
    TEST("gta: other shapes") {
        check_gta_refused(SPEC(.arch = "gta", .head_dim = 24, .rope_dim = 12), "multiple of 16");
        check_gta_refused(SPEC(.arch = "gta", .head_dim = 32, .rope_dim = 8), "head_dim 32 and ro");
    }
    return test_end();
}
