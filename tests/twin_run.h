/* twin_run.h: runs a twin (twin.h) on the instruction sets of this machine, in passes of many
 * sizes, alone and beside another sequence, and compares the logits. */
#ifndef GQA_TEST_TWIN_RUN_H
#define GQA_TEST_TWIN_RUN_H

#include "twin.h"

typedef struct run_options {
    const char *isa;
    int threads;             /* 0: 1 */
    int batch;               /* 0: the default */
    int portion;             /* tokens given at once; 0: all */
    int no_repack;
    int beside;              /* in passes with another sequence: the last logits of each portion */
} run_options;

/* Tokens of s in a pass with two of another session; the logits after the last of them. */
static int eval_beside(gqa_session *other, gqa_session *s, const int32_t *tokens, int n,
                       float *logits, gqa_error *err) {
    gqa_session *both[2] = {other, s};
    size_t vocab = (size_t)gqa_model_config(gqa_session_model(s))->vocab_size;
    int32_t *all = malloc(sizeof *all * ((size_t)n + 2));
    all[0] = all[1] = tokens[0];
    memcpy(all + 2, tokens, sizeof *all * (size_t)n);
    int status = gqa_sessions_eval_many(both, 2, all, (int[]){2, n}, err);
    if (!status) memcpy(logits, gqa_session_logits(s), sizeof *logits * vocab);
    free(all);
    return status;
}

/* Logits of all tokens [n, vocab]. */
static float *run_model(const twin *t, const int32_t *tokens, run_options o) {
    gqa_error err = {0};
    int n = t->s.tokens, threads = o.threads ? o.threads : 1, portion = o.portion ? o.portion : n;
    gqa_model_options mo = {.isa = o.isa, .n_threads = threads, .no_repack = o.no_repack};
    gqa_session_options so = {
        .context = n, .kv = t->s.kv, .n_threads = threads, .batch = o.batch, .exact = t->s.exact,
    };
    gqa_model *m = gqa_model_from_memory(t->image, t->size, &mo, &err);
    gqa_session *s = m ? gqa_session_new(m, &so, &err) : NULL;
    gqa_session *other = m && o.beside ? gqa_session_new(m, &so, &err) : NULL;
    size_t vocab = (size_t)t->s.vocab;
    float *logits = malloc(sizeof(float) * (size_t)n * vocab);
    CHECK(s != NULL, "%s", err.message);
    for (int i = 0; s && i < n; i += portion) {
        int count = n - i < portion ? n - i : portion;
        float *at = logits + (size_t)i * vocab, *last = at + (size_t)(count - 1) * vocab;
        int status = other ? eval_beside(other, s, tokens + i, count, last, &err)
                           : gqa_session_eval_all(s, tokens + i, count, at, &err);
        CHECK(status == 0, "%s", err.message);
    }
    gqa_session_free(other);
    gqa_session_free(s);
    gqa_model_close(m);
    return logits;
}
#define RUN(...) run_model(t, tokens, (run_options){.isa = isa, __VA_ARGS__})

/* Whether this machine has the instruction set. */
static int has_isa(const twin *t, const char *isa) {
    gqa_error err = {0};
    gqa_model_options o = {.isa = isa, .n_threads = 1};
    gqa_model *m = gqa_model_from_memory(t->image, t->size, &o, &err);
    if (!m) CHECK(err.code == GQA_ERR_UNSUPPORTED && strcmp(isa, "scalar"), "%s", err.message);
    gqa_model_close(m);
    return m != NULL;
}

/* In portions of 9, alone and beside another sequence: the same bits. */
static void compare_beside(const twin *t, const char *isa, const int32_t *tokens) {
    size_t vocab = (size_t)t->s.vocab;
    if (t->s.tokens < 9) return;
    float *alone = RUN(.portion = 9), *beside = RUN(.portion = 9, .beside = 1);
    for (int i = 8; i < t->s.tokens; i += 9) {
        size_t at = (size_t)i * vocab;
        CHECK(!memcmp(alone + at, beside + at, sizeof *alone * vocab), "%s: token %d beside others",
              isa, i);
    }
    free(alone);
    free(beside);
}

/* On one instruction set: whole and in portions, by several threads, without repacking. */
static void compare(const twin *t, const char *isa, const int32_t *tokens, const double *want) {
    size_t count = (size_t)t->s.tokens * (size_t)t->s.vocab;
    float *whole = RUN(), *raw = RUN(.threads = 2, .no_repack = 1);
    const struct {
        const char *what;
        float *logits;
    } close[] = {
        {"all tokens at once", whole},
        {"one by one", RUN(.portion = 1)},
        {"batches of 7", RUN(.threads = 2, .batch = 7)},
    };
    for (int i = 0; i < 3; i++) {
        double distance = ref_distance(close[i].logits, want, count);
        CHECK(distance < t->s.tolerance, "%s, %s: %g", isa, close[i].what, distance);
    }
    for (int threads = 2; threads <= 3; threads++) {
        float *other = RUN(.threads = threads);
        CHECK(!memcmp(whole, other, sizeof(float) * count), "%s: 1 and %d threads differ", isa,
              threads);
        free(other);
    }
    CHECK(!memcmp(whole, raw, sizeof(float) * count), "%s: without repacking differs", isa);
    for (int i = 0; i < 3; i++) free(close[i].logits);
    free(raw);
    compare_beside(t, isa, tokens);
}

__attribute__((unused))
static int32_t *random_tokens(int n, int vocab) {
    int32_t *tokens = malloc(sizeof *tokens * (size_t)n);
    uint64_t seed = 99;
    for (int i = 0; i < n; i++) tokens[i] = (int32_t)(test_random_bits(&seed) % (uint64_t)vocab);
    return tokens;
}

/* On every instruction set of this machine. */
__attribute__((unused))
static void compare_all(const twin *t, const int32_t *tokens, const double *want) {
    static const char *const isas[] = {"scalar", "avx2", "avxvnni", "avx512", "neon"};
    for (int i = 0; i < 5; i++)
        if (has_isa(t, isas[i])) compare(t, isas[i], tokens, want);
}

#endif
