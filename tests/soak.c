/* soak.c: a day's use in minutes (make soak; soak TOKENS SECONDS): many sessions over one model,
 * with rewinds, saves and loads. Every so often a session's logits must equal, bit for bit, those
 * of a fresh session that reads the same tokens, and the memory in use must not have grown since
 * step 4000. Not to reach TOKENS tokens in SECONDS seconds is a failure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../model.h"

enum {
    SESSIONS = 6, CONTEXT = 200, CHECK_EVERY = 64,
    SETTLED = 4000 /* steps: every session has been long once */
};

typedef struct sequence {
    gqa_session *s;
    int32_t tokens[CONTEXT];
    int n;
} sequence;

static uint64_t state = 7;
static unsigned below(unsigned n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % n;
}

static void fail(const char *what, const gqa_error *err) {
    printf("soak: %s: %s\n0 passed, 1 failed\n", what, err->message);
    exit(1);
}

static long resident_pages(void) {
    long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &size, &resident) != 2) resident = 0;
    if (f) fclose(f);
    return resident;
}

static gqa_session *open_session(const gqa_model *m, gqa_error *err) {
    gqa_session_options options = {.context = CONTEXT, .batch = 32};
    gqa_session *s = gqa_session_new(m, &options, err);
    if (!s) fail("a session", err);
    return s;
}

/* Feeds 1 to 8 tokens: the model's own choice first, then any. */
static void feed(const gqa_model *m, sequence *t, gqa_error *err) {
    int n = 1 + (int)below(8), vocab = gqa_vocab_size(m);
    if (n > CONTEXT - t->n) n = CONTEXT - t->n;
    for (int i = 0; i < n; i++) t->tokens[t->n + i] = (int32_t)below((unsigned)vocab);
    const float *logits = gqa_session_logits(t->s);
    if (logits && t->n) {
        int best = 0;
        for (int i = 1; i < vocab; i++)
            if (logits[i] > logits[best]) best = i;
        t->tokens[t->n] = best;
    }
    if (gqa_session_eval(t->s, t->tokens + t->n, n, err)) fail("eval", err);
    t->n += n;
}

static void compare_fresh(const gqa_model *m, const sequence *t, gqa_error *err) {
    gqa_session *fresh = open_session(m, err);
    if (gqa_session_eval(fresh, t->tokens, t->n, err)) fail("a fresh session", err);
    size_t bytes = sizeof(float) * (size_t)gqa_vocab_size(m);
    if (memcmp(gqa_session_logits(fresh), gqa_session_logits(t->s), bytes))
        fail("other logits than a fresh session's", err);
    gqa_session_free(fresh);
}

/* One step of a session: a rewind, a file, more tokens. Returns how many tokens were read. */
static int one_step(const gqa_model *m, sequence *t, const char *path, gqa_error *err) {
    unsigned what = below(100);
    if (t->n == CONTEXT || what < 5) {
        t->n = (int)below((unsigned)t->n + 1);
        if (gqa_session_rewind(t->s, t->n, NULL)) fail("rewind", err);
    }
    if (what >= 98 && t->n) { /* saved, and loaded into a session made for it */
        if (gqa_session_save(t->s, path, err)) fail("save", err);
        gqa_session_free(t->s);
        t->s = open_session(m, err);
        if (gqa_session_load(t->s, path, err)) fail("load", err);
    }
    int before = t->n;
    if (t->n < CONTEXT) feed(m, t, err);
    return t->n - before;
}

/* The last lines. pages 0: the memory was not measured. */
static int report(long wanted, long done, long seconds, long step, long pages) {
    long grown = pages ? resident_pages() - pages : 0;
    int late = done < wanted, leaks = grown >= 256;
    if (pages) {
        const char *how = grown < 0 ? "shrank" : "grew";
        printf("resident memory %s by %ld pages since step %d\n", how, labs(grown), SETTLED);
    } else {
        const char *why = step > SETTLED ? "no /proc/self/statm" : "fewer than 4000 steps";
        printf("SKIPPED: resident memory: %s\n", why);
    }
    if (late) printf("soak: %ld of %ld tokens in %ld seconds: FAILED\n", done, wanted, seconds);
    if (leaks) printf("soak: resident memory grew: FAILED\n");
    int passed = !late + (pages && !leaks);
    printf("%d passed, %d failed%s\n", passed, late + leaks, pages ? "" : ", 1 skipped");
    return late || leaks;
}

int main(int argc, char **argv) {
    long wanted = argc > 1 ? atol(argv[1]) : 1000000, seconds = argc > 2 ? atol(argv[2]) : 900;
    long done = 0, step = 0, checks = 0, pages = 0;
    gqa_error err = {0};
    gqa_model *m = gqa_model_open("tests/models/stories-gqa.gguf", NULL, &err);
    if (!m) fail("tests/models/stories-gqa.gguf", &err);
    static sequence sequences[SESSIONS];
    char path[256];
    const char *folder = getenv("TMPDIR");
    time_t end = time(NULL) + seconds;
    snprintf(path, sizeof path, "%s/gqa-soak-%ld", folder ? folder : "/tmp", (long)getpid());
    for (int i = 0; i < SESSIONS; i++) sequences[i].s = open_session(m, &err);
    for (; done < wanted && time(NULL) < end; step++) {
        sequence *t = &sequences[below(SESSIONS)];
        done += one_step(m, t, path, &err);
        if (step % CHECK_EVERY == 0 && t->n) {
            compare_fresh(m, t, &err);
            checks++;
        }
        if (step == SETTLED) pages = resident_pages();
    }
    remove(path);
    printf("%ld tokens in %ld steps, %ld comparisons with fresh sessions\n", done, step, checks);
    int status = report(wanted, done, seconds, step, pages);
    for (int i = 0; i < SESSIONS; i++) gqa_session_free(sequences[i].s);
    gqa_model_close(m);
    return status;
}
