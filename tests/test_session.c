/* test_session.c: what a session promises: rewinding, the same logits however the tokens come,
 * batches of sessions, a full context, memory, cancelling, threads. Files: test_session_file.c. */
#include "sessions.h"

#include <pthread.h>
#include <unistd.h>

/* ---- evaluating and rewinding ---------------------------------------------------------------- */

/* After a rewind to `back` a session goes on like one that never went further. */
static void check_rewind(int window, int back) {
    gqa_model *m = new_model((model_shape){.window = window, .seed = 1});
    gqa_error err = {0};
    int32_t t[300], other[50];
    random_tokens(t, 300, 2);
    random_tokens(other, 50, 3);
    gqa_session *a = SESSION(m, .kv = "f32", .context = 512);
    gqa_session *b = SESSION(m, .kv = "f32", .context = 512);
    gqa_session *c = SESSION(m, .kv = "f32", .context = 512);
    eval_ok(a, t, 300);
    CHECK(gqa_session_rewind(a, back, &err) == 0, "to %d: %s", back, err.message);
    CHECK(gqa_session_position(a) == back && !gqa_session_logits(a), "position %d, logits gone",
          gqa_session_position(a));
    eval_ok(a, other, 50);
    for (int i = 0; i < back; i += 10) eval_ok(b, t + i, min_int(10, back - i));
    eval_ok(b, other, 50);
    CHECK(close_logits(a, b), "rewound is not fresh");
    CHECK(gqa_session_position(a) == back + 50, "position %d", gqa_session_position(a));
    CHECK(!memcmp(gqa_session_tokens(a) + back, other, sizeof other), "tokens kept");
    if (window) {
        CHECK(gqa_session_rewind(a, 20, NULL) == GQA_ERR_ARGUMENT, "overwritten positions");
        CHECK(gqa_session_position(a) == back + 50 && gqa_session_logits(a), "unchanged");
    }
    CHECK(gqa_session_rewind(a, back + 51, NULL) == GQA_ERR_ARGUMENT, "past the end");
    CHECK(gqa_session_rewind(a, -1, NULL) == GQA_ERR_ARGUMENT, "to -1");
    CHECK(gqa_session_rewind(a, 0, &err) == 0, "to 0: %s", err.message);
    eval_ok(a, t, 300);
    eval_ok(c, t, 300);
    CHECK(same_logits(a, c), "from 0 again");
    gqa_session_free(a);
    gqa_session_free(b);
    gqa_session_free(c);
    gqa_model_close(m);
}

static void check_eval_all(void) {
    enum { N = 70 };
    gqa_model *m = new_model((model_shape){.kv_heads = 1, .seed = 4});
    gqa_error err = {0};
    int32_t t[N];
    random_tokens(t, N, 5);
    float *all = malloc(sizeof(float) * N * VOCAB);
    gqa_session *a = SESSION(m, .kv = "f32", .context = 100);
    gqa_session *b = SESSION(m, .kv = "f32", .context = 100);
    CHECK(gqa_session_eval_all(a, t, N, all, &err) == 0, "%s", err.message);
    for (int i = 0; i < N; i++) {
        eval_ok(b, t + i, 1);
        CHECK(close_cached("f32", all + i * VOCAB, gqa_session_logits(b)), "position %d", i);
    }
    CHECK(!memcmp(gqa_session_logits(a), all + (N - 1) * VOCAB, VOCAB * sizeof(float)),
          "the last are the session's");
    free(all);
    gqa_session_free(a);
    gqa_session_free(b);
    gqa_model_close(m);
}

/* With quantised weights and fewer positions than decoding splits (512), the same bits however the
 * tokens come: so a conversation that goes on says what one that is read again from its start
 * says. */
static void check_portions(model_shape shape, const char *kv) {
    enum { N = 100, READ_AGAIN = 6 };
    gqa_model *m = new_model(shape);
    gqa_error err = {0};
    uint64_t seed = 15;
    int32_t t[N];
    random_tokens(t, N, 16);
    float *all = malloc(sizeof(float) * N * VOCAB);
    gqa_session *portions = SESSION(m, .kv = kv, .context = N);
    gqa_session *whole = SESSION(m, .kv = kv, .context = N);
    CHECK(gqa_session_eval_all(whole, t, N, all, &err) == 0, "%s", err.message);
    for (int i = 0, n, round = 0; i < N; i += n, round++) {
        n = min_int(1 + (int)(test_random_bits(&seed) % 30) / (i % 3 + 1), N - i);
        eval_ok(portions, t + i, n);
        const float *logits = gqa_session_logits(portions), *at = all + (i + n - 1) * VOCAB;
        CHECK(!memcmp(logits, at, VOCAB * sizeof(float)), "%d tokens after %d", n, i);
        if (round % READ_AGAIN && i + n < N) continue;
        gqa_session_rewind(whole, 0, NULL);
        eval_ok(whole, t, i + n);
        CHECK(same_logits(portions, whole), "%d tokens after %d, read again", n, i);
    }
    free(all);
    gqa_session_free(portions);
    gqa_session_free(whole);
    gqa_model_close(m);
}

static void check_evaluation(void) {
    static const char *const kvs[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "q8_0/q4_0"};
    TEST("rewind") check_rewind(0, 100);
    TEST("rewind behind a sliding window") check_rewind(48, 290); /* the last positions are kept */
    TEST("logits after every token") check_eval_all();
    for (int i = 0; i < 6; i++)
        for (int kv_heads = 1; kv_heads <= 4; kv_heads *= 2) {
            gqa_type type = i % 2 ? GQA_TYPE_Q8_0 : GQA_TYPE_Q4_0;
            char name[80];
            snprintf(name, sizeof name, "the same bits in portions: %s weights, %s cache, %d of 4 "
                     "heads", gqa_type_name(type), kvs[i], kv_heads);
            TEST(name)
                check_portions((model_shape){type, 2, kv_heads, .seed = 14}, kvs[i]);
        }
}

/* ---- batches of sessions --------------------------------------------------------------------- */

static void check_batch(const char *kv) {
    enum { N = 9 };
    gqa_model *m = new_model((model_shape){.seed = 6});
    gqa_error err = {0};
    gqa_session *together[N], *alone[N];
    int32_t t[64], next[N];
    for (int i = 0; i < N; i++) {
        together[i] = SESSION(m, .kv = kv, .context = 100);
        alone[i] = SESSION(m, .kv = kv, .context = 100);
        random_tokens(t, 64, (uint64_t)(10 + i));
        eval_ok(together[i], t, 1 + 7 * i);
        eval_ok(alone[i], t, 1 + 7 * i);
    }
    for (int step = 0; step < 5; step++) {
        random_tokens(next, N, (uint64_t)(50 + step));
        CHECK(gqa_sessions_eval(together, next, N, &err) == 0, "%s", err.message);
        for (int i = 0; i < N; i++) {
            eval_ok(alone[i], next + i, 1);
            const float *x = gqa_session_logits(together[i]), *y = gqa_session_logits(alone[i]);
            CHECK(close_cached(kv, x, y), "session %d of %d, step %d", i, N, step);
        }
    }
    int at = gqa_session_position(together[3]);
    next[5] = VOCAB;
    CHECK(gqa_sessions_eval(together, next, N, &err) == GQA_ERR_ARGUMENT, "token %d", VOCAB);
    CHECK(gqa_session_position(together[3]) == at, "none advances");
    next[5] = 1;
    gqa_session *twice[2] = {together[0], together[0]};
    CHECK(gqa_sessions_eval(twice, next, 2, &err) == GQA_ERR_ARGUMENT, "one session twice");
    for (int i = 0; i < N; i++) {
        gqa_session_free(together[i]);
        gqa_session_free(alone[i]);
    }
    gqa_model_close(m);
}

/* ---- limits, memory, cancelling -------------------------------------------------------------- */

static void check_context(const gqa_model *m) {
    gqa_error err = {0};
    int32_t t[41];
    random_tokens(t, 41, 8);
    gqa_session *s = SESSION(m, .context = 40);
    CHECK(gqa_session_logits(s) == NULL && gqa_session_position(s) == 0, "empty");
    CHECK(gqa_session_eval(s, t, 41, &err) == GQA_ERR_CONTEXT, "41 of 40");
    CHECK(gqa_session_position(s) == 0, "position %d", gqa_session_position(s));
    CHECK_HAS(err.message, "40");
    eval_ok(s, t, 40);
    CHECK(gqa_session_eval(s, t, 1, &err) == GQA_ERR_CONTEXT, "full");
    CHECK(gqa_session_position(s) == 40 && gqa_session_logits(s), "a refused call changes nothing");
    gqa_session_rewind(s, 10, NULL);
    t[3] = -1;
    CHECK(gqa_session_eval(s, t, 5, &err) == GQA_ERR_ARGUMENT, "token -1");
    CHECK(gqa_session_position(s) == 10, "position %d", gqa_session_position(s));
    CHECK_HAS(err.message, "-1");
    CHECK(gqa_session_eval(s, t, 0, &err) == GQA_ERR_ARGUMENT, "no tokens");
    CHECK(gqa_session_eval(s, t, -3, NULL) == GQA_ERR_ARGUMENT, "-3 tokens");
    gqa_session_free(s);
}

static void check_options(const gqa_model *m) {
    gqa_error err = {0};
    gqa_session_options o = {.kv = "q9"};
    CHECK(!gqa_session_new(m, &o, &err) && err.code == GQA_ERR_ARGUMENT, "cache type");
    CHECK_HAS(err.message, "q9");
    static const char *const wrong[] = {"q8_0/", "/q8_0", "q8_0/q9", "f16/f16/f16", "f16/q5_1"};
    for (int i = 0; i < 5; i++) {
        o.kv = wrong[i];
        CHECK(!gqa_session_new(m, &o, &err) && err.code == GQA_ERR_ARGUMENT, "%s", wrong[i]);
        CHECK_HAS(err.message, wrong[i]);
    }
    o = (gqa_session_options){.context = -4};
    CHECK(!gqa_session_new(m, &o, &err) && err.code == GQA_ERR_ARGUMENT, "context -4");
    gqa_session_free(NULL);
    gqa_model_close(NULL);
}

static void check_limits(void) {
    gqa_model *m = new_model((model_shape){.kv_heads = 4, .seed = 7});
    TEST("a full context, tokens out of range") check_context(m);
    TEST("options that are refused") check_options(m);
    gqa_model_close(m);
}

static long resident_bytes(void) { /* 0: not known here */
    long kib = 0;
    char line[128];
    if (ON_WINDOWS) return 0; /* Wine opens Linux's file, which then tells of Wine's server */
    FILE *f = fopen("/proc/self/status", "r");
    while (f && !kib && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %ld", &kib) != 1) kib = 0;
    if (f) fclose(f);
    return kib * 1024;
}

/* The cache takes memory as positions fill: a context that is not used costs nothing. */
static void check_memory(void) {
    gqa_config c = {.dim = 32, .n_layers = 4, .n_heads = 4, .n_kv_heads = 4, .head_dim = 64,
                    .ffn_dim = 32, .vocab_size = VOCAB, .context_length = 32768};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_F32, 9, NULL, &err);
    int32_t t[100];
    random_tokens(t, 100, 8);
    long cache = (long)gqa_kv_bytes_per_position(&c, GQA_TYPE_F16) * 32768; /* 128 MiB */
    long before = resident_bytes();
    if (!before) test_skip("resident memory", "not known here");
    gqa_session *s = SESSION(m, .kv = "f16", .context = 32768);
    eval_ok(s, t, 100);
    long used = resident_bytes() - before;
    if (before) CHECK(used < cache / 20, "position 100: %ld bytes of %ld", used, cache);
    CHECK(gqa_session_fill_random(s, 32000, 1, &err) == 0, "%s", err.message);
    used = resident_bytes() - before;
    if (before) CHECK(used > cache / 10 * 9, "position 32100: %ld bytes of %ld", used, cache);
    gqa_session_free(s);
    used = resident_bytes() - before;
    if (before) CHECK(used < cache / 20, "given back but for %ld bytes", used);
    gqa_model_close(m);
}

static void check_cancel(void) {
    gqa_model *m = new_model((model_shape){.seed = 9});
    gqa_error err = {0};
    int32_t t[60];
    random_tokens(t, 60, 8);
    gqa_session *s = SESSION(m, .kv = "f32", .context = 100);
    gqa_session *fresh = SESSION(m, .kv = "f32", .context = 100);
    eval_ok(s, t, 20);
    gqa_session_cancel(s);
    CHECK(gqa_session_eval(s, t + 20, 40, &err) == GQA_ERR_CANCELLED, "not cancelled");
    CHECK(gqa_session_position(s) == 20, "position %d", gqa_session_position(s));
    eval_ok(s, t + 20, 40); /* the request is dropped once obeyed */
    eval_ok(fresh, t, 20);
    eval_ok(fresh, t + 20, 40);
    CHECK(same_logits(s, fresh), "as if nothing had happened");
    gqa_session_free(s);
    gqa_session_free(fresh);
    gqa_model_close(m);
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { SPEAKERS = 3, SPOKEN = 60 /* tokens */ };

typedef struct speaker {
    const gqa_model *model;
    const char *prompt;
    gqa_sampler_options sampling;
    char text[4096];
    size_t len;
    gqa_generate_result result;
    gqa_error err;
} speaker;

static int collect(void *user, const char *text, size_t len) {
    speaker *s = user;
    if (s->len + len > sizeof s->text) return 1;
    memcpy(s->text + s->len, text, len);
    s->len += len;
    return 0;
}

static void *speak(void *arg) {
    speaker *s = arg;
    gqa_session_options one = {.context = 160, .n_threads = 1};
    gqa_session *talk = gqa_session_new(s->model, &one, &s->err);
    gqa_sampler *sampler = gqa_sampler_new(&s->sampling, &s->err);
    gqa_generate_options opt = {.max_tokens = SPOKEN, .ignore_end = 1};
    if (talk && sampler)
        gqa_generate(talk, sampler, s->prompt, &opt, collect, s, &s->result, &s->err);
    gqa_sampler_free(sampler);
    gqa_session_free(talk);
    return NULL;
}

/* All speakers at once, each in a thread of its own, against what each said alone. */
static void speak_together(speaker *together, const speaker *alone) {
    pthread_t threads[SPEAKERS];
    int started = 0;
    for (; started < SPEAKERS; started++) {
        speaker *s = &together[started];
        s->len = 0;
        if (!CHECK(pthread_create(&threads[started], NULL, speak, s) == 0, "thread %d", started))
            break;
    }
    for (int i = 0; i < started; i++) {
        const speaker *a = &alone[i], *b = &together[i];
        pthread_join(threads[i], NULL);
        CHECK(b->err.code == 0, "speaker %d: %s", i, b->err.message);
        CHECK(b->result.generated_tokens == a->result.generated_tokens, "speaker %d: %d tokens", i,
              b->result.generated_tokens);
        CHECK(a->len == b->len && !memcmp(a->text, b->text, a->len),
              "speaker %d: alone \"%.*s\", together \"%.*s\"", i, (int)a->len, a->text,
              (int)b->len, b->text);
    }
}

/* A model that several threads share: each gets the text that it gets alone. */
static void check_threads(void) {
    static const char *const prompts[SPEAKERS] = {"The dog said", "One day, a little girl",
                                                  "The dog said"};
    static speaker alone[SPEAKERS], together[SPEAKERS];
    gqa_error err = {0};
    gqa_model *m = gqa_model_open("tests/models/stories-gqa.gguf", NULL, &err);
    if (!CHECK(m != NULL, "%s", err.message)) return;
    for (int i = 0; i < SPEAKERS; i++) {
        speaker *s = &alone[i];
        *s = (speaker){.model = m, .prompt = prompts[i]};
        s->sampling = (gqa_sampler_options){.temperature = i ? 0.9f : 0, .top_p = 0.9f,
                                            .repeat_penalty = 1.1f, .seed = (uint64_t)i};
        together[i] = *s;
        speak(s);
        CHECK(s->err.code == 0, "%s", s->err.message);
        CHECK(s->result.generated_tokens == SPOKEN && s->len > SPOKEN, "%zu bytes", s->len);
    }
    CHECK(alone[0].len != alone[2].len || memcmp(alone[0].text, alone[2].text, alone[0].len),
          "the speakers differ");
    for (int round = 0; round < 2; round++) speak_together(together, alone);
    gqa_model_close(m);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_evaluation();
    TEST("many sessions in one pass, f32 cache") check_batch("f32");
    TEST("many sessions in one pass, q8_0 cache") check_batch("q8_0");
    check_limits();
    TEST("memory is taken as positions fill") check_memory();
    TEST("cancel") check_cancel();
    TEST("threads that share a model say what each says alone") check_threads();
    return test_end();
}
