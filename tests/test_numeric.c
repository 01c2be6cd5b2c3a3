/* test_numeric.c: values that leave the range of numbers: NaN is an error that names the layer, and
 * an f16 cache holds keys and values beyond 65504. */
#include "test.h"

#include "../session/session_internal.h"

enum { VOCAB = 90, N = 40 };

/* A model whose vector (attn_norm of that layer, or output_norm for layer -1) is changed. */
static gqa_model *changed_model(int layer, float factor, float first) {
    gqa_config shape = {
        .dim = 64, .n_layers = 3, .n_heads = 4, .n_kv_heads = 2, .head_dim = 32, .ffn_dim = 96,
        .vocab_size = VOCAB, .context_length = 1200,
    };
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&shape, GQA_TYPE_F32, 3, NULL, &err);
    CHECK(m, "%s", err.message);
    float *norm = (float *)(layer < 0 ? m->output_norm : m->layers[layer].attn_norm);
    for (int i = 0; i < 64; i++) norm[i] *= factor;
    norm[5] *= first;
    return m;
}

static gqa_session *session_of(const gqa_model *m, const char *kv, int threads) {
    gqa_session_options o = {.kv = kv, .n_threads = threads, .batch = 16, .context = 1200};
    gqa_session *s = gqa_session_new(m, &o, NULL);
    CHECK(s, "session");
    return s;
}

static void make_tokens(int32_t *t, int n) {
    for (int i = 0; i < n; i++) t[i] = (i * 37 + 11) % VOCAB;
}

static void check_error(int layer, float first, const char *message) {
    gqa_error err = {0};
    int32_t t[N];
    make_tokens(t, N);
    gqa_model *m = changed_model(layer, 1, first);
    gqa_session *s = session_of(m, "f32", 2), *other = session_of(m, "f32", 2);
    gqa_session *both[2] = {s, other};
    static float all[N * VOCAB];
    for (int call = 0; call < 5; call++) {
        int status = call == 0   ? gqa_session_eval(s, t, 1, &err)
                     : call == 1 ? gqa_session_eval(s, t, N, &err)
                     : call == 2 ? gqa_session_eval_all(s, t, N, all, &err)
                     : call == 3 ? gqa_sessions_eval(both, t, 2, &err)
                                 : gqa_sessions_eval_many(both, 2, t, (int[]){2, N - 2}, &err);
        CHECK(status == GQA_ERR_NUMERIC, "call %d: %d", call, status);
        CHECK_HAS(err.message, message);
        CHECK(gqa_session_position(s) == 0 && !gqa_session_logits(s), "call %d: as before", call);
    }
    gqa_session_free(s);
    gqa_session_free(other);
    gqa_model_close(m);
}

/* After an error a session holds what it held, without logits, and goes on like another. */
static void check_state_after_error(void) {
    gqa_error err = {0};
    int32_t t[N];
    make_tokens(t, N);
    gqa_model *m = changed_model(0, 1, 1);
    gqa_session *s = session_of(m, "f16", 2), *other = session_of(m, "f16", 2);
    gqa_session *both[2] = {s, other};
    float *norm = (float *)m->layers[1].attn_norm, kept = norm[5];
    for (int call = 0; call < 3; call++) {
        norm[5] = kept;
        CHECK(gqa_session_sync(s, t, 9, &err) >= 0 && !gqa_session_eval(other, t, 1, &err), "9");
        norm[5] = NAN;
        int status = call == 0   ? gqa_session_eval(s, t + 9, N - 9, &err)
                     : call == 1 ? gqa_sessions_eval(both, t, 2, &err)
                                 : gqa_session_sync(s, t + 1, 20, &err);
        int expected = call < 2 ? 9 : 0; /* sync keeps nothing here: the first ids differ */
        CHECK(status == GQA_ERR_NUMERIC && gqa_session_position(s) == expected, "call %d", call);
        CHECK(!gqa_session_logits(s) && (call != 1 || !gqa_session_logits(other)), "no logits");
    }
    norm[5] = kept;
    CHECK(!gqa_session_rewind(other, 0, &err) && !gqa_session_eval(other, t, N, &err), "other");
    CHECK(!gqa_session_eval(s, t, N, &err), "%s", err.message);
    CHECK(!memcmp(gqa_session_logits(s), gqa_session_logits(other), sizeof(float) * VOCAB), "bits");
    gqa_session_free(s);
    gqa_session_free(other);
    gqa_model_close(m);
}

static double distance(const gqa_session *a, const gqa_session *b) {
    const float *x = gqa_session_logits(a), *y = gqa_session_logits(b);
    double worst = 0, largest = 0;
    for (int i = 0; i < VOCAB; i++) {
        worst = test_worse(worst, fabs((double)x[i] - (double)y[i]));
        largest = fmax(largest, fabs((double)y[i]));
    }
    return worst / largest;
}

/* An f16 cache against an f32 cache of the same model: prefill, decoding, splits, batches. */
static void check_range(float factor, int first_tokens) {
    enum { LONG = 1100 };
    gqa_error err = {0};
    int32_t t[LONG];
    make_tokens(t, LONG);
    gqa_model *m = changed_model(1, factor, 1);
    gqa_session *f16 = session_of(m, "f16", 2), *f32 = session_of(m, "f32", 2);
    gqa_session *one = session_of(m, "f16", 1), *copy = session_of(m, "f16", 2);
    gqa_session *pairs[2][2] = {{f16, one}, {f32, copy}};
    CHECK(!gqa_session_eval(f16, t, first_tokens, &err) &&
          !gqa_session_eval(f32, t, first_tokens, &err) &&
          !gqa_session_eval(one, t, first_tokens, &err), "%s", err.message);
    CHECK(distance(f16, f32) < 3e-3, "%d tokens: %g", first_tokens, distance(f16, f32));
    CHECK(!memcmp(gqa_session_logits(f16), gqa_session_logits(one), sizeof(float) * VOCAB),
          "the same with one thread");
    for (int i = first_tokens; i < LONG; i += i < first_tokens + 3 ? 1 : 300) {
        int n = i < first_tokens + 3 ? 1 : (LONG - i < 300 ? LONG - i : 300);
        CHECK(!gqa_session_eval(f16, t + i, n, &err) && !gqa_session_eval(f32, t + i, n, &err) &&
              !gqa_session_eval(one, t + i, n, &err), "%s", err.message);
        CHECK(distance(f16, f32) < 3e-3, "to %d: %g", i + n, distance(f16, f32));
    }
    CHECK(!gqa_session_copy(copy, f16, LONG, &err), "%s", err.message);
    CHECK(!gqa_sessions_eval(pairs[0], t, 2, &err), "%s", err.message);
    CHECK(!gqa_session_eval(f32, t, 1, &err) && !gqa_session_eval(copy, t, 1, &err), "one more");
    CHECK(distance(f16, f32) < 3e-3 && distance(copy, f32) < 3e-3, "batched, and a copy");
    gqa_session_free(f16);
    gqa_session_free(f32);
    gqa_session_free(one);
    gqa_session_free(copy);
    gqa_model_close(m);
}

/* The values grow after the cache has been filled. */
static void check_growth(void) {
    gqa_error err = {0};
    int32_t t[N];
    make_tokens(t, N);
    gqa_model *m = changed_model(0, 1, 1);
    gqa_session *f16 = session_of(m, "f16", 2), *f32 = session_of(m, "f32", 2);
    CHECK(!gqa_session_eval(f16, t, N, &err) && !gqa_session_eval(f32, t, N, &err), "small");
    float *norm = (float *)m->layers[1].attn_norm;
    for (int i = 0; i < 64; i++) norm[i] *= 2e5f;
    CHECK(!gqa_session_eval(f16, t, 3, &err) && !gqa_session_eval(f32, t, 3, &err), "large");
    CHECK(distance(f16, f32) < 3e-3, "%g", distance(f16, f32));
    CHECK(f16->range[1].v_scale < 1 && f16->range[0].v_scale >= 1, "layer 1 was scaled");
    gqa_session_free(f16);
    gqa_session_free(f32);
    gqa_model_close(m);
}

/* A saved session keeps the scales of its cache; one without them is loaded without them. */
static void check_saved(void) {
    gqa_error err = {0};
    int32_t t[N];
    void *large, *small;
    size_t large_size, small_size;
    make_tokens(t, N);
    gqa_model *m = changed_model(1, 3e4f, 1);
    gqa_session *a = session_of(m, "f16", 2), *b = session_of(m, "f16", 2);
    CHECK(!gqa_session_save_memory(a, &small, &small_size, &err), "%s", err.message);
    CHECK(!gqa_session_eval(a, t, N, &err) && a->range[1].v_scale < 1, "scaled");
    CHECK(!gqa_session_save_memory(a, &large, &large_size, &err), "%s", err.message);
    CHECK(!gqa_session_load_memory(b, large, large_size, &err), "%s", err.message);
    CHECK(!gqa_session_eval(a, t, 1, &err) && !gqa_session_eval(b, t, 1, &err), "one more");
    CHECK(!memcmp(gqa_session_logits(a), gqa_session_logits(b), sizeof(float) * VOCAB),
          "they go on alike");
    for (size_t at = large_size; at-- > 0;) {
        if (at > 400 && at % 61) continue;
        ((uint8_t *)large)[at] ^= 16;
        CHECK(gqa_session_load_memory(b, large, large_size, &err) < 0, "byte %zu changed", at);
        CHECK(b->range[1].v_scale >= 1 && gqa_session_position(b) == 0, "byte %zu: empty", at);
        ((uint8_t *)large)[at] ^= 16;
    }
    CHECK(!gqa_session_load_memory(b, large, large_size, &err) && b->range[1].v_scale < 1, "again");
    CHECK(!gqa_session_load_memory(b, small, small_size, &err) && b->range[1].v_scale >= 1,
          "a session without scales");
    gqa_free(large);
    gqa_free(small);
    gqa_session_free(a);
    gqa_session_free(b);
    gqa_model_close(m);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("NaN in the first layer") check_error(0, (float)NAN, "layer 0 gives NaN");
    TEST("NaN in the last layer") check_error(2, (float)NAN, "layer 2 gives NaN");
    TEST("infinity in a layer") check_error(1, HUGE_VALF, "layer 1 gives NaN or infinity");
    TEST("NaN in the output layer") check_error(-1, (float)NAN, "output layer gives NaN");
    TEST("sessions after an error") check_state_after_error();
    TEST("f16 cache, values up to 1e5") check_range(3e4f, 40);
    TEST("f16 cache, values up to 1e7") check_range(3e6f, 5);
    TEST("f16 cache, values that grow") check_growth();
    TEST("f16 cache, saved") check_saved();
    return test_end();
}
