/* test_session.c: what a session promises: rewinding, batches of sessions, a full context, cancelling, saved files. */
#include "test.h"

#include <unistd.h>

#include "../model.h"

enum { VOCAB = 101 };

static gqa_model *model(int kv_heads, int window, uint64_t seed) {
    gqa_config c = {.dim = 64, .n_layers = 3, .n_heads = 4, .n_kv_heads = kv_heads, .head_dim = 32, .ffn_dim = 96, .vocab_size = VOCAB,
                    .context_length = 700, .window = window};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_F32, seed, NULL, &err);
    if (!m) {
        CHECK(0, "%s", err.message);
        exit(test_end());
    }
    return m;
}

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
    CHECK(gqa_session_rewind(a, back) == 0, "window %d: to %d", window, back);
    CHECK(gqa_session_position(a) == back && !gqa_session_logits(a), "position %d, logits gone", gqa_session_position(a));
    CHECK(gqa_session_eval(a, other, 50, &err) == 0, "%s", err.message);
    for (int i = 0; i < back; i += 10) CHECK(gqa_session_eval(b, t + i, i + 10 < back ? 10 : back - i, &err) == 0, "%s", err.message);
    CHECK(gqa_session_eval(b, other, 50, &err) == 0, "%s", err.message);
    CHECK(close_logits(gqa_session_logits(a), gqa_session_logits(b)), "window %d: rewound is not fresh", window);
    CHECK(gqa_session_position(a) == back + 50 && !memcmp(gqa_session_tokens(a) + back, other, sizeof other), "tokens kept");
    if (window) {
        CHECK(gqa_session_rewind(a, 20) == GQA_ERR_ARGUMENT && gqa_session_position(a) == back + 50, "overwritten positions cannot come back");
        CHECK(gqa_session_logits(a) != NULL, "unchanged");
    }
    CHECK(gqa_session_rewind(a, back + 51) == GQA_ERR_ARGUMENT && gqa_session_rewind(a, -1) == GQA_ERR_ARGUMENT, "out of range");
    CHECK(gqa_session_rewind(a, 0) == 0 && gqa_session_eval(a, t, 300, &err) == 0, "to 0: %s", err.message);
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
    gqa_session_rewind(s, 10);
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
    CHECK(gqa_session_fill(s, 32000, 1, &err) == 0, "%s", err.message);
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

static void test_saved(const char *kv, int window) {
    gqa_model *m = model(2, window, 10), *stranger = model(2, window, 11);
    gqa_error err = {0};
    int32_t t[130];
    char path[128];
    size_t size;
    tokens_of(t, 130, 12);
    snprintf(path, sizeof path, "/tmp/gqa-test-%ld.session", (long)getpid());
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

int main(void) {
    test_rewind(0);
    test_rewind(48);
    test_eval_all();
    test_batch("f32");
    test_batch("q8_0");
    test_limits();
    test_memory();
    test_cancel();
    test_saved("f16", 0);
    test_saved("q8_0", 0);
    test_saved("f32", 48);
    return test_end();
}
