/* test_session.c: what a session promises: rewinding, batches of sessions, a full context, cancelling, threads, saved files. */
#include "test.h"

#include <pthread.h>
#include <unistd.h>

#include "../session/session_internal.h"
#include "saved.h"

enum { VOCAB = 101 };

static gqa_model *model_of(gqa_type weights, int kv_heads, int window, uint64_t seed) {
    gqa_config c = {.dim = 64, .n_layers = 3, .n_heads = 4, .n_kv_heads = kv_heads, .head_dim = 32, .ffn_dim = 96, .vocab_size = VOCAB,
                    .context_length = 700, .window = window};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, weights, seed, NULL, &err);
    if (!m) {
        CHECK(0, "%s", err.message);
        exit(test_end());
    }
    return m;
}
static gqa_model *model(int kv_heads, int window, uint64_t seed) { return model_of(GQA_TYPE_F32, kv_heads, window, seed); }

static gqa_session *session(const gqa_model *m, const char *kv, int context) {
    gqa_session_options o = {.context = context, .kv = kv, .n_threads = 2, .batch = 64};
    gqa_error err = {0};
    gqa_session *s = gqa_session_new(m, &o, &err);
    if (!s) {
        CHECK(0, "%s", err.message);
        exit(test_end());
    }
    return s;
}

static void tokens_of(int32_t *t, int n, uint64_t seed) {
    for (int i = 0; i < n; i++) t[i] = (int32_t)(test_random_bits(&seed) % VOCAB);
}

static int same_logits(const gqa_session *a, const gqa_session *b) {
    const float *x = gqa_session_logits(a), *y = gqa_session_logits(b);
    return x && y && !memcmp(x, y, VOCAB * sizeof *x);
}

/* As close as one order of sums is to another; in a q8_0 cache that may turn a value to the next of its 255 steps. */
static int close_cached(const char *kv, const float *x, const float *y) {
    float most = strcmp(kv, "q8_0") ? 2e-4f : 1e-2f;
    for (int i = 0; i < VOCAB; i++)
        if (!(fabsf(x[i] - y[i]) < most * (1 + fabsf(y[i])))) return 0;
    return 1;
}
static int close_logits(const float *x, const float *y) { return close_cached("f32", x, y); }

static void test_rewind(int window) {
    gqa_model *m = model(2, window, 1);
    gqa_error err = {0};
    int32_t t[300], other[50];
    tokens_of(t, 300, 2);
    tokens_of(other, 50, 3);
    gqa_session *a = session(m, "f32", 512), *b = session(m, "f32", 512);
    int back = window ? 290 : 100; /* a ring keeps only the last positions */
    CHECK(gqa_session_eval(a, t, 300, &err) == 0, "%s", err.message);
    CHECK(gqa_session_rewind(a, back, NULL) == 0, "window %d: to %d", window, back);
    CHECK(gqa_session_position(a) == back && !gqa_session_logits(a), "position %d, logits gone", gqa_session_position(a));
    CHECK(gqa_session_eval(a, other, 50, &err) == 0, "%s", err.message);
    for (int i = 0; i < back; i += 10) CHECK(gqa_session_eval(b, t + i, i + 10 < back ? 10 : back - i, &err) == 0, "%s", err.message);
    CHECK(gqa_session_eval(b, other, 50, &err) == 0, "%s", err.message);
    CHECK(close_logits(gqa_session_logits(a), gqa_session_logits(b)), "window %d: rewound is not fresh", window);
    CHECK(gqa_session_position(a) == back + 50 && !memcmp(gqa_session_tokens(a) + back, other, sizeof other), "tokens kept");
    if (window) {
        CHECK(gqa_session_rewind(a, 20, NULL) == GQA_ERR_ARGUMENT && gqa_session_position(a) == back + 50, "overwritten positions cannot come back");
        CHECK(gqa_session_logits(a) != NULL, "unchanged");
    }
    CHECK(gqa_session_rewind(a, back + 51, NULL) == GQA_ERR_ARGUMENT && gqa_session_rewind(a, -1, NULL) == GQA_ERR_ARGUMENT, "out of range");
    CHECK(gqa_session_rewind(a, 0, NULL) == 0 && gqa_session_eval(a, t, 300, &err) == 0, "to 0: %s", err.message);
    gqa_session *c = session(m, "f32", 512);
    CHECK(gqa_session_eval(c, t, 300, &err) == 0 && same_logits(a, c), "from 0 again");
    gqa_session_free(a), gqa_session_free(b), gqa_session_free(c);
    gqa_model_close(m);
}

static void test_eval_all(void) {
    gqa_model *m = model(1, 0, 4);
    gqa_error err = {0};
    int32_t t[70];
    tokens_of(t, 70, 5);
    float *all = malloc(sizeof(float) * 70 * VOCAB);
    gqa_session *a = session(m, "f32", 100), *b = session(m, "f32", 100);
    CHECK(gqa_session_eval_all(a, t, 70, all, &err) == 0, "%s", err.message);
    for (int i = 0; i < 70; i++) {
        CHECK(gqa_session_eval(b, t + i, 1, &err) == 0, "%s", err.message);
        CHECK(close_logits(all + i * VOCAB, gqa_session_logits(b)), "logits of position %d", i);
    }
    CHECK(!memcmp(gqa_session_logits(a), all + 69 * VOCAB, VOCAB * sizeof(float)), "the last are the session's");
    free(all);
    gqa_session_free(a), gqa_session_free(b);
    gqa_model_close(m);
}

/* With quantised weights and fewer positions than decoding splits (512), the same bits however the tokens come: so a conversation
 * that goes on says what one that is read again from its start says. */
static void test_pieces(gqa_type weights, int kv_heads, const char *kv) {
    enum { N = 230 };
    gqa_model *m = model_of(weights, kv_heads, 0, 14);
    gqa_error err = {0};
    uint64_t seed = 15;
    int32_t t[N];
    tokens_of(t, N, 16);
    gqa_session *pieces = session(m, kv, N), *whole = session(m, kv, N);
    for (int i = 0, n; i < N; i += n) {
        n = 1 + (int)(test_random_bits(&seed) % 30) / (i % 3 + 1);
        if (n > N - i) n = N - i;
        CHECK(gqa_session_eval(pieces, t + i, n, &err) == 0, "%s", err.message);
        gqa_session_rewind(whole, 0, NULL);
        CHECK(gqa_session_eval(whole, t, i + n, &err) == 0, "%s", err.message);
        CHECK(same_logits(pieces, whole), "%s weights, %d KV heads, %s cache: %d tokens after %d", gqa_type_name(weights), kv_heads, kv, n, i);
    }
    gqa_session_free(pieces), gqa_session_free(whole);
    gqa_model_close(m);
}

static void test_batch(const char *kv) {
    enum { N = 9 };
    gqa_model *m = model(2, 0, 6);
    gqa_error err = {0};
    gqa_session *together[N], *alone[N];
    int32_t t[64], next[N];
    for (int i = 0; i < N; i++) {
        together[i] = session(m, kv, 100), alone[i] = session(m, kv, 100);
        tokens_of(t, 64, (uint64_t)(10 + i));
        CHECK(gqa_session_eval(together[i], t, 1 + 7 * i, &err) == 0 && gqa_session_eval(alone[i], t, 1 + 7 * i, &err) == 0, "%s", err.message);
    }
    for (int step = 0; step < 5; step++) {
        tokens_of(next, N, (uint64_t)(50 + step));
        CHECK(gqa_sessions_eval(together, next, N, &err) == 0, "%s", err.message);
        for (int i = 0; i < N; i++) {
            CHECK(gqa_session_eval(alone[i], next + i, 1, &err) == 0, "%s", err.message);
            CHECK(close_cached(kv, gqa_session_logits(together[i]), gqa_session_logits(alone[i])), "%s: session %d of %d, step %d", kv, i, N, step);
        }
    }
    int at = gqa_session_position(together[3]);
    next[5] = VOCAB;
    CHECK(gqa_sessions_eval(together, next, N, &err) == GQA_ERR_ARGUMENT && gqa_session_position(together[3]) == at, "none advances");
    next[5] = 1;
    gqa_session *twice[2] = {together[0], together[0]};
    CHECK(gqa_sessions_eval(twice, next, 2, &err) == GQA_ERR_ARGUMENT, "one session twice");
    for (int i = 0; i < N; i++) gqa_session_free(together[i]), gqa_session_free(alone[i]);
    gqa_model_close(m);
}

static void test_limits(void) {
    gqa_model *m = model(4, 0, 7);
    gqa_error err = {0};
    int32_t t[41];
    tokens_of(t, 41, 8);
    gqa_session *s = session(m, NULL, 40);
    CHECK(gqa_session_logits(s) == NULL && gqa_session_position(s) == 0, "empty");
    CHECK(gqa_session_eval(s, t, 41, &err) == GQA_ERR_CONTEXT && gqa_session_position(s) == 0, "41 of 40");
    CHECK_HAS(err.message, "40");
    CHECK(gqa_session_eval(s, t, 40, &err) == 0 && gqa_session_eval(s, t, 1, &err) == GQA_ERR_CONTEXT, "full");
    CHECK(gqa_session_position(s) == 40 && gqa_session_logits(s) != NULL, "a refused call changes nothing");
    gqa_session_rewind(s, 10, NULL);
    t[3] = -1;
    CHECK(gqa_session_eval(s, t, 5, &err) == GQA_ERR_ARGUMENT && gqa_session_position(s) == 10, "token -1");
    CHECK_HAS(err.message, "-1");
    CHECK(gqa_session_eval(s, t, 0, &err) == GQA_ERR_ARGUMENT && gqa_session_eval(s, t, -3, NULL) == GQA_ERR_ARGUMENT, "no tokens");
    gqa_session_free(s);
    gqa_session_options o = {.kv = "q9"};
    CHECK(!gqa_session_new(m, &o, &err) && err.code == GQA_ERR_ARGUMENT, "cache type");
    CHECK_HAS(err.message, "q9");
    o = (gqa_session_options){.context = -4};
    CHECK(!gqa_session_new(m, &o, &err) && err.code == GQA_ERR_ARGUMENT, "context -4");
    gqa_session_free(NULL), gqa_model_close(NULL);
    gqa_model_close(m);
}

static long resident_bytes(void) { /* 0: not known here */
    long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &size, &resident) != 2) resident = 0;
    if (f) fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

/* The cache takes memory as positions fill: a context that is not used costs nothing. */
static void test_memory(void) {
    gqa_config c = {.dim = 32, .n_layers = 4, .n_heads = 4, .n_kv_heads = 4, .head_dim = 64, .ffn_dim = 32, .vocab_size = VOCAB, .context_length = 32768};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_F32, 9, NULL, &err);
    int32_t t[100];
    tokens_of(t, 100, 8);
    long before = resident_bytes();
    gqa_session *s = session(m, "f16", 32768);
    long cache = (long)gqa_kv_bytes_per_position(&c, GQA_TYPE_F16) * 32768; /* 128 MiB */
    CHECK(gqa_session_eval(s, t, 100, &err) == 0, "%s", err.message);
    long after = resident_bytes();
    if (before) CHECK(after - before < cache / 20, "at position 100 of 32768: %ld bytes of a cache of %ld", after - before, cache);
    else test_skip("resident memory", "no /proc/self/statm");
    CHECK(gqa_session_fill_random(s, 32000, 1, &err) == 0, "%s", err.message);
    if (before) CHECK(resident_bytes() - before > cache / 10 * 9, "at position 32100: %ld bytes", resident_bytes() - before);
    gqa_session_free(s);
    if (before) CHECK(resident_bytes() - before < cache / 20, "given back");
    gqa_model_close(m);
}

static void test_cancel(void) {
    gqa_model *m = model(2, 0, 9);
    gqa_error err = {0};
    int32_t t[60];
    tokens_of(t, 60, 8);
    gqa_session *s = session(m, "f32", 100), *fresh = session(m, "f32", 100);
    CHECK(gqa_session_eval(s, t, 20, &err) == 0, "%s", err.message);
    gqa_session_cancel(s);
    CHECK(gqa_session_eval(s, t + 20, 40, &err) == GQA_ERR_CANCELLED && gqa_session_position(s) == 20, "position %d", gqa_session_position(s));
    CHECK(gqa_session_eval(s, t + 20, 40, &err) == 0, "the request is dropped once obeyed: %s", err.message);
    gqa_session_eval(fresh, t, 20, &err), gqa_session_eval(fresh, t + 20, 40, &err);
    CHECK(same_logits(s, fresh), "as if nothing had happened");
    gqa_session_free(s), gqa_session_free(fresh);
    gqa_model_close(m);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

enum { SPEAKERS = 3 };

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
    gqa_session *talk = gqa_session_new(s->model, &(gqa_session_options){.context = 160, .n_threads = 1}, &s->err);
    gqa_sampler *sampler = gqa_sampler_new(&s->sampling, &s->err);
    gqa_generate_options opt = {.max_tokens = 100, .ignore_end = 1};
    if (talk && sampler) gqa_generate(talk, sampler, s->prompt, &opt, collect, s, &s->result, &s->err);
    gqa_sampler_free(sampler);
    gqa_session_free(talk);
    return NULL;
}

/* A model that several threads share: each gets the text that it gets alone. */
static void test_threads(void) {
    gqa_error err = {0};
    gqa_model *m = gqa_model_open("models/stories-gqa.gguf", NULL, &err);
    if (!CHECK(m != NULL, "%s", err.message)) return;
    static speaker alone[SPEAKERS], together[SPEAKERS];
    const char *prompts[SPEAKERS] = {"The dog said", "One day, a little girl", "The dog said"};
    for (int i = 0; i < SPEAKERS; i++) {
        alone[i] = (speaker){.model = m, .prompt = prompts[i]};
        alone[i].sampling = (gqa_sampler_options){.temperature = i ? 0.9f : 0, .top_p = 0.9f, .repeat_penalty = 1.1f, .seed = (uint64_t)i};
        together[i] = alone[i];
        speak(&alone[i]);
        CHECK(alone[i].err.code == 0 && alone[i].result.generated_tokens == 100 && alone[i].len > 100, "%s", alone[i].err.message);
    }
    CHECK(alone[0].len != alone[2].len || memcmp(alone[0].text, alone[2].text, alone[0].len), "the speakers differ");
    for (int turn = 0; turn < 3; turn++) {
        pthread_t threads[SPEAKERS];
        int started = 0;
        for (; started < SPEAKERS; started++) {
            together[started].len = 0;
            if (!CHECK(pthread_create(&threads[started], NULL, speak, &together[started]) == 0, "thread %d", started)) break;
        }
        for (int i = 0; i < started; i++) {
            const speaker *a = &alone[i], *b = &together[i];
            pthread_join(threads[i], NULL);
            CHECK(b->err.code == 0 && b->result.generated_tokens == a->result.generated_tokens, "speaker %d: %s", i, b->err.message);
            CHECK(a->len == b->len && !memcmp(a->text, b->text, a->len), "turn %d, speaker %d: alone \"%.*s\", together \"%.*s\"", turn, i,
                  (int)a->len, a->text, (int)b->len, b->text);
        }
    }
    gqa_model_close(m);
}

/* ---- saved sessions ---------------------------------------------------------------------------------------------- */

static uint8_t *slurp(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    uint8_t *p = malloc(1 << 22);
    *size = f && p ? fread(p, 1, 1 << 22, f) : 0;
    if (f) fclose(f);
    return p;
}

static int load_bytes(gqa_session *s, const char *path, const uint8_t *p, size_t n, gqa_error *err) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n) return CHECK(0, "cannot write %s", path);
    fclose(f);
    return gqa_session_load(s, path, err);
}

static const char *saved_path(void) { /* this process's own */
    static char path[64];
    snprintf(path, sizeof path, "/tmp/gqa-test-%ld.session", (long)getpid());
    return path;
}

static void test_saved(const char *kv, int window) {
    gqa_model *m = model(2, window, 10), *stranger = model(2, window, 11);
    gqa_error err = {0};
    int32_t t[130];
    const char *path = saved_path();
    size_t size;
    tokens_of(t, 130, 12);
    gqa_session *a = session(m, kv, 200), *b = session(m, kv, 250);
    gqa_session_eval(a, t, 120, &err);
    CHECK(gqa_session_save(a, path, &err) == 0, "%s", err.message);
    CHECK(gqa_session_load(b, path, &err) == 0 && gqa_session_position(b) == 120 && same_logits(a, b), "%s: %s", kv, err.message);
    gqa_session_eval(a, t + 120, 10, &err), gqa_session_eval(b, t + 120, 10, &err);
    CHECK(same_logits(a, b), "%s, window %d: both go on alike", kv, window);
    uint8_t *file = slurp(path, &size);
    gqa_session *small = session(m, kv, 100), *foreign = session(stranger, kv, 200), *other = session(m, strcmp(kv, "f16") ? "f16" : "q8_0", 200);
    CHECK(gqa_session_load(small, path, &err) < 0 && gqa_session_position(small) == 0, "120 positions into 100");
    CHECK(gqa_session_load(foreign, path, &err) < 0 && gqa_session_position(foreign) == 0, "another model");
    CHECK(gqa_session_load(other, path, &err) < 0 && gqa_session_position(other) == 0, "another cache type");
    int accepted = 0, tried = 0;
    for (size_t n = 0; n < size; n += n < 300 || n + 300 > size ? 1 : 997, tried++) accepted += load_bytes(b, path, file, n, &err) == 0;
    uint64_t seed = 13;
    for (int i = 0; i < 400; i++, tried++) { /* one bit anywhere, half of them in the head */
        size_t at = test_random_bits(&seed) % (i & 1 ? size : size < 200 ? size : 200);
        file[at] ^= (uint8_t)(1 << (i / 2 & 7));
        accepted += load_bytes(b, path, file, size, &err) == 0;
        file[at] ^= (uint8_t)(1 << (i / 2 & 7));
    }
    CHECK(accepted == 0 && gqa_session_position(b) == 0, "%d of %d damaged files were accepted", accepted, tried);
    CHECK(load_bytes(b, path, file, size, &err) == 0 && gqa_session_position(b) == 120, "the whole one again: %s", err.message);
    unlink(path);
    CHECK(gqa_session_load(b, path, &err) == GQA_ERR_IO, "no file");
    CHECK_HAS(err.message, path);
    CHECK(gqa_session_save(a, "/nonexistent/x", &err) == GQA_ERR_IO, "no folder");
    free(file);
    gqa_session_free(a), gqa_session_free(b), gqa_session_free(small), gqa_session_free(foreign), gqa_session_free(other);
    gqa_model_close(m), gqa_model_close(stranger);
}

/* A ring forgets what later tokens overwrote, also when they were rewound before it was saved. */
static void test_saved_ring(void) {
    gqa_model *m = model(2, 48, 14);
    gqa_error err = {0};
    int32_t t[200];
    const char *path = saved_path();
    tokens_of(t, 200, 15);
    gqa_session *a = session(m, "f32", 250), *b = session(m, "f32", 250);
    int ring = gqa_cache_ring(a), seen = 200 - ring + 47; /* the window of position `seen` is the last that is whole */
    CHECK(ring < 200 && gqa_session_eval(a, t, 200, &err) == 0 && gqa_session_rewind(a, 190, NULL) == 0, "ring of %d: %s", ring, err.message);
    CHECK(gqa_session_save(a, path, &err) == 0 && gqa_session_load(b, path, &err) == 0, "%s", err.message);
    for (int back = 190; back > 0; back--) {
        int kept = gqa_session_rewind(a, back, NULL) == 0, loaded = gqa_session_rewind(b, back, NULL) == 0;
        CHECK(kept == (back >= seen) && loaded == kept, "to %d of ring %d: %d, loaded %d", back, ring, kept, loaded);
    }
    CHECK(gqa_session_eval(a, t, 5, &err) == 0 && gqa_session_eval(b, t, 5, &err) == 0 && same_logits(a, b), "%s", err.message);
    CHECK(gqa_session_rewind(b, 0, NULL) == 0 && gqa_session_save(b, path, &err) == 0 && !gqa_session_load(a, path, &err),
          "empty: %s", err.message);
    unlink(path);
    gqa_session_free(a), gqa_session_free(b);
    gqa_model_close(m);
}

/* ---- hostile files ----------------------------------------------------------------------------------------------- */

/* Loads signed bytes. Refused: with a message and an empty session. Loaded: whatever the cache holds, the session can be read
 * on, sampled from and rewound. Returns whether it was loaded. */
static int survives(gqa_session *s, const char *path, uint8_t *file, size_t size, const char *what) {
    gqa_error err = {0};
    int32_t t[12];
    tokens_of(t, 12, size);
    sign(file, size, VOCAB);
    if (load_bytes(s, path, file, size, &err)) {
        CHECK(err.code == GQA_ERR_FORMAT && strstr(err.message, path) && !strstr(err.message, "checksum"), "%s: %s", what, err.message);
        CHECK(gqa_session_position(s) == 0 && !gqa_session_logits(s), "%s: refused, but not empty", what);
        return 0;
    }
    int n = gqa_session_position(s), room = gqa_session_context(s) - n, ok = 1;
    gqa_sampler *greedy = gqa_sampler_new(NULL, &err);
    gqa_sampler *dice = gqa_sampler_new(&(gqa_sampler_options){.temperature = 1, .top_p = 0.9f}, &err);
    for (int i = 0; i < n; i++) ok &= gqa_session_tokens(s)[i] >= 0 && gqa_session_tokens(s)[i] < VOCAB;
    ok &= gqa_session_eval(s, t, 1, &err) == (room < 1 ? GQA_ERR_CONTEXT : 0);       /* decoding */
    ok &= gqa_session_eval(s, t, 11, &err) == (room < 12 ? GQA_ERR_CONTEXT : 0);     /* prefill */
    for (int i = 0; i < 2 && gqa_session_logits(s); i++) {
        int32_t next = gqa_sampler_next(i ? dice : greedy, gqa_session_logits(s), VOCAB);
        ok &= next >= 0 && next < VOCAB;
    }
    if (gqa_session_rewind(s, n / 2, NULL) == 0) ok &= gqa_session_eval(s, t, n - n / 2 < 12 ? 1 : 12, &err) == 0;
    ok &= gqa_session_rewind(s, 0, NULL) == 0 && gqa_session_eval(s, t, 12, &err) == 0;
    gqa_sampler_free(greedy), gqa_sampler_free(dice);
    CHECK(ok, "%s: loaded, but not usable: %s", what, err.message);
    return 1;
}

/* Every word of the header: no other value is right, but for how far a ring has been written. */
static void hostile_header(gqa_session *s, const char *path, const uint8_t *good, size_t size) {
    static const uint32_t values[] = {0, 1, 2, 3, 4, 5, 8, 30, 31, 32, 33, 100, 119, 121, 128, 129, 200, 201, 221, 1u << 24, 0x3FFFFFFF,
                                      0x40000000, 0x7FFFFFFF, 0x80000000, 0x80000078, 0xFFFFFF88, 0xFFFFFFFE, 0xFFFFFFFF};
    uint8_t *file = malloc(size);
    char what[80];
    for (size_t at = 0; at < HEADER; at += 4)
        for (size_t i = 0; i < sizeof values / sizeof *values + 32; i++) {
            uint32_t v = i < 32 ? word_of(good, at) ^ 1u << i : values[i - 32];
            memcpy(file, good, size);
            set_word(file, at, v);
            int right = v == word_of(good, at) || (at == 36 && v <= word_of(good, 20));
            snprintf(what, sizeof what, "word at %zu: 0x%X", at, (unsigned)v);
            CHECK(survives(s, path, file, size, what) == right, "%s %s", what, right ? "refused" : "accepted");
        }
    free(file);
}

/* Makes a file that is whole for the position and the tiles it tells, with tokens and a cache of any bytes. Returns its size. */
static size_t make_whole(uint8_t *file, uint32_t position, uint32_t logits, uint32_t tiles, size_t tile_bytes, uint64_t *seed) {
    size_t at = HEADER, end = at + position * 4 + (logits ? VOCAB * sizeof(float) : 0) + tiles * tile_bytes;
    set_word(file, 24, position), set_word(file, 28, logits), set_word(file, 32, tiles);
    for (; at < HEADER + position * 4; at += 4) set_word(file, at, (uint32_t)(test_random_bits(seed) % VOCAB));
    for (; at < end; at++) file[at] = (uint8_t)test_random_bits(seed);
    return end + 8;
}

/* Positions in such files: every one that the context has is taken, with the tiles it needs and tokens of the vocabulary. */
static void hostile_positions(gqa_session *s, const char *path, const uint8_t *good, size_t size) {
    static const uint32_t positions[] = {0, 1, 7, 31, 32, 33, 64, 119, 127, 128, 129, 188, 189, 199, 200, 201, 232, 700},
                          ids[] = {VOCAB, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    size_t tile = (size - HEADER - 8 - word_of(good, 24) * 4 - VOCAB * sizeof(float)) / word_of(good, 32);
    uint8_t *file = malloc(HEADER + 8 + 700 * 4 + VOCAB * sizeof(float) + 9 * tile);
    uint32_t ring = word_of(good, 20), most = (ring ? ring : 200 + 31) / 32;
    uint64_t seed = 16;
    char what[80];
    memcpy(file, good, HEADER);
    for (size_t i = 0; i < 2 * sizeof positions / sizeof *positions; i++) {
        uint32_t position = positions[i / 2], logits = i & 1, tiles = (position + 31) / 32 < most ? (position + 31) / 32 : most;
        int right = position <= 200 && !(logits && position == 0);
        set_word(file, 36, ring ? position % ring : 0);
        for (uint32_t t = 0; t < 9; t++) {
            if (t == tiles) continue;
            snprintf(what, sizeof what, "position %u in %u tiles, not %u", (unsigned)position, (unsigned)t, (unsigned)tiles);
            size_t n = make_whole(file, position, logits, t, tile, &seed);
            CHECK(!survives(s, path, file, n, what), "%s: accepted", what);
        }
        snprintf(what, sizeof what, "position %u, logits %u", (unsigned)position, (unsigned)logits);
        size_t n = make_whole(file, position, logits, tiles, tile, &seed);
        CHECK(survives(s, path, file, n, what) == right, "%s %s", what, right ? "refused" : "accepted");
        if (position == 0 || position > 200) continue;
        for (size_t j = 0; j < 8; j++) {
            size_t at = HEADER + (j & 1 ? position - 1 : test_random_bits(&seed) % position) * 4;
            uint32_t id = word_of(file, at);
            set_word(file, at, ids[j / 2]);
            CHECK(!survives(s, path, file, n, what), "%s: token %u accepted", what, (unsigned)ids[j / 2]);
            set_word(file, at, id);
        }
    }
    free(file);
}

/* Infinities, NaN and the largest numbers, as f32 and as two 16-bit numbers or scales, in one place, in a stretch, everywhere. */
static void hostile_values(gqa_session *s, const char *path, const uint8_t *good, size_t size) {
    static const uint32_t values[] = {0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x00000001, 0x7C007C00,
                                      0xFC00FC00, 0x7E007E00, 0x7C017C01, 0x7BFFFBFF, 0x7FC07FC0, 0x7F80FF80, 0x80808080, 0xFFFFFFFF};
    uint8_t *file = malloc(size);
    uint64_t seed = 17;
    char what[80];
    size_t first = HEADER + word_of(good, 24) * 4, cache = first + VOCAB * sizeof(float), end = size - 8;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        for (int kind = 0; kind < 12; kind++) {
            size_t from = kind == 0 ? first : cache, to = end; /* 0: the logits too */
            if (kind > 1) from += test_random_bits(&seed) % ((end - cache) / 4) * 4, to = kind & 1 ? from + 4 : from + 256;
            if (to > end) to = end;
            memcpy(file, good, size);
            for (; from < to; from += 4) set_word(file, from, values[i]);
            snprintf(what, sizeof what, "0x%08X, kind %d", (unsigned)values[i], kind);
            CHECK(survives(s, path, file, size, what), "%s: any value may be cached", what);
        }
    free(file);
}

/* A file whose checksum fits is not to be trusted either: anybody can compute it. */
static void test_hostile(const char *kv, int window, gqa_type weights) {
    gqa_model *m = model_of(weights, 2, window, 18);
    gqa_error err = {0};
    int32_t t[120];
    const char *path = saved_path();
    size_t size;
    tokens_of(t, 120, 19);
    gqa_session *s = session(m, kv, 200), *again = session(m, kv, 200), *fresh = session(m, kv, 200);
    CHECK(gqa_session_eval(s, t, 120, &err) == 0 && gqa_session_save(s, path, &err) == 0, "%s", err.message);
    uint8_t *file = slurp(path, &size);
    uint64_t sum, mine;
    memcpy(&sum, file + size - 8, 8), sign(file, size, VOCAB), memcpy(&mine, file + size - 8, 8);
    CHECK(sum == mine && size > HEADER && (word_of(file, 20) > 0) == (window > 0), "%s: checksum %llx, in the file %llx", kv,
          (unsigned long long)mine, (unsigned long long)sum);
    hostile_header(s, path, file, size);
    hostile_positions(s, path, file, size);
    hostile_values(s, path, file, size);
    CHECK(load_bytes(again, path, file, size, &err) == 0 && gqa_session_eval(again, t, 9, &err) == 0, "%s", err.message);
    CHECK(gqa_session_eval(fresh, t, 120, &err) == 0 && gqa_session_eval(fresh, t, 9, &err) == 0, "%s", err.message);
    CHECK(same_logits(again, fresh), "%s: the file signed here goes on like the session that was saved", kv);
    unlink(path);
    free(file);
    gqa_session_free(s), gqa_session_free(again), gqa_session_free(fresh);
    gqa_model_close(m);
}

int main(void) {
    test_rewind(0);
    test_rewind(48);
    test_eval_all();
    static const char *const kvs[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
    for (int i = 0; i < 5; i++)
        for (int kv_heads = 1; kv_heads <= 4; kv_heads *= 2) test_pieces(i % 2 ? GQA_TYPE_Q8_0 : GQA_TYPE_Q4_0, kv_heads, kvs[i]);
    test_batch("f32");
    test_batch("q8_0");
    test_limits();
    test_memory();
    test_cancel();
    test_saved("f16", 0);
    test_saved("q8_0", 0);
    test_saved("f32", 48);
    test_saved_ring();
    test_threads();
    test_hostile("f32", 0, GQA_TYPE_F32);
    test_hostile("f32", 48, GQA_TYPE_Q8_0);
    test_hostile("f16", 48, GQA_TYPE_Q4_0);
    test_hostile("bf16", 0, GQA_TYPE_Q8_0);
    test_hostile("q8_0", 0, GQA_TYPE_Q8_0);
    test_hostile("q4_0", 48, GQA_TYPE_F32);
    return test_end();
}
