/* test_api_review.c: what model.h promises, tried where it is hardest to keep: copies between
 * rings of different lengths, syncs behind a sliding window, workspaces shared by unlike sessions,
 * saved sessions in memory, text of hostile tokens, callbacks that stop at every point. */
#include "chain.h"
#include "sessions.h"

/* ---- copies ---------------------------------------------------------------------------------- */

enum { WINDOW = 48, LONGEST = 330 };

/* A session of t[n] that nothing else has been done with. */
static gqa_session *fresh_session(const gqa_model *m, const int32_t *t, int n) {
    gqa_session *s = SESSION(m, .kv = "f32", .context = LONGEST);
    if (n > 0) eval_ok(s, t, n);
    return s;
}

/* Whether s, which holds t[n], goes on like a fresh session of these tokens. */
static int goes_on(const gqa_model *m, gqa_session *s, const int32_t *t, int n, int count) {
    gqa_session *fresh = fresh_session(m, t, n);
    eval_ok(fresh, t + n, count);
    eval_ok(s, t + n, count);
    int ok = close_logits(s, fresh);
    gqa_session_free(fresh);
    return ok;
}

typedef struct copy_case {
    int from_batch, to_batch; /* with a window, the batch decides how many positions are kept */
    int held, n;              /* positions of `from`, positions copied */
    int back;                 /* rewound to afterwards, where that is allowed; 0: not */
} copy_case;

static void check_copy_case(const gqa_model *m, const int32_t *t, copy_case c) {
    gqa_error err = {0};
    gqa_session *from = SESSION(m, .kv = "f32", .context = LONGEST, .batch = c.from_batch);
    gqa_session *to = SESSION(m, .kv = "f32", .context = LONGEST, .batch = c.to_batch);
    eval_ok(from, t, c.held);
    int status = gqa_session_copy(to, from, c.n, &err), n = c.n;
    int needed = max_int(0, c.n - WINDOW + 1), valid = max_int(0, c.held - gqa_cache_ring(from));
    CHECK((status == 0) == (c.n <= WINDOW ? valid == 0 : needed >= valid) || c.n == 0,
          "batch %d to %d, %d of %d: status %d", c.from_batch, c.to_batch, c.n, c.held, status);
    if (status == 0 && c.back && gqa_session_rewind(to, c.back, NULL) == 0) n = c.back;
    if (status == 0)
        CHECK(goes_on(m, to, t, n, 3), "batch %d to %d, %d of %d positions, then at %d: not what "
              "a fresh session says", c.from_batch, c.to_batch, c.n, c.held, n);
    gqa_session_free(from);
    gqa_session_free(to);
}

static void check_copies(void) {
    static const int batches[] = {1, 17, 64, 200}, held[] = {30, 97, 128, 200, 300};
    int32_t t[LONGEST];
    random_tokens(t, LONGEST, 5);
    gqa_model *m = new_model((model_shape){.window = WINDOW, .seed = 4});
    TEST("a copy goes on like the original, whatever the two batches") {
        for (int i = 0; i < 4 * 4 * 5; i++) {
            int n = held[i / 16];
            check_copy_case(m, t, (copy_case){batches[i % 4], batches[i / 4 % 4], n, n, 0});
        }
    }
    TEST("a copy of the beginning") {
        for (int n = 1; n < 230; n += 7) check_copy_case(m, t, (copy_case){200, 1, 230, n, 0});
        for (int n = 200; n < 230; n++) check_copy_case(m, t, (copy_case){64, 17, 230, n, 0});
    }
    TEST("what a copy may be rewound to is there") {
        for (int back = 100; back < 200; back += 3)
            check_copy_case(m, t, (copy_case){200, 64, 200, 200, back});
    }
    TEST("no positions can be copied from any session") {
        gqa_error err = {0};
        gqa_session *from = fresh_session(m, t, 300), *to = fresh_session(m, t, 5);
        CHECK(gqa_session_copy(to, from, 0, &err) == 0, "%s", err.message);
        CHECK(gqa_session_position(to) == 0 && !gqa_session_logits(to), "position %d",
              gqa_session_position(to));
        gqa_session_free(from);
        gqa_session_free(to);
    }
    gqa_model_close(m);
}

/* ---- syncs, cancels and workspaces ----------------------------------------------------------- */

/* Syncs s to tokens[n] and compares with a fresh session. */
static void check_sync(const gqa_model *m, gqa_session *s, const int32_t *tokens, int n) {
    gqa_error err = {0};
    gqa_session *fresh = fresh_session(m, tokens, n);
    int kept = gqa_session_sync(s, tokens, n, &err);
    CHECK(kept >= 0 && gqa_session_position(s) == n, "%d tokens: %d %s", n, kept, err.message);
    CHECK(!memcmp(gqa_session_tokens(s), tokens, sizeof *tokens * (size_t)n), "%d tokens", n);
    CHECK(close_logits(s, fresh), "synced to %d tokens, of which %d were kept", n, kept);
    gqa_session_free(fresh);
}

static void check_syncs(int window) {
    int32_t t[LONGEST];
    char name[64];
    random_tokens(t, LONGEST, 6);
    snprintf(name, sizeof name, "sync to any beginning, window %d", window);
    TEST(name) {
        gqa_model *m = new_model((model_shape){.window = window, .seed = 7});
        gqa_session *s = SESSION(m, .kv = "f32", .context = LONGEST, .batch = 17);
        uint64_t seed = 8;
        for (int i = 0; i < 40; i++) {
            int n = 1 + (int)(test_random_bits(&seed) % LONGEST);
            if (i % 3 == 0) t[n / 2] = (t[n / 2] + 1) % VOCAB;
            if (i % 4 == 0) gqa_session_rewind(s, gqa_session_position(s) - 1, NULL);
            check_sync(m, s, t, n);
        }
        CHECK(gqa_session_sync(s, t, LONGEST, NULL) >= 0 &&
              gqa_session_sync(s, t, LONGEST, NULL) == LONGEST, "nothing to do");
        gqa_session_free(s);
        gqa_model_close(m);
    }
}

typedef struct cancel_at {
    gqa_session *session;
    int position;
} cancel_at;

static void cancel_at_position(void *user, int layer, int position, int kv_head, const float *k,
                               const float *v) {
    cancel_at *c = user;
    if (position == c->position && layer + kv_head >= 0 && k && v) gqa_session_cancel(c->session);
}

static void check_cancels(void) {
    int32_t t[LONGEST];
    random_tokens(t, LONGEST, 9);
    TEST("a cancelled pass has overwritten what it was to write") {
        gqa_model *m = new_model((model_shape){.window = 100, .seed = 10});
        gqa_session *s = SESSION(m, .kv = "f32", .context = LONGEST, .batch = 8);
        cancel_at at = {s, 300};
        eval_ok(s, t, 300); /* a ring of 224: 76 is the first position in it, then 84 */
        gqa_session_watch_kv(s, cancel_at_position, &at);
        CHECK(gqa_session_eval(s, t + 300, 8, NULL) == GQA_ERR_CANCELLED, "not cancelled");
        CHECK(gqa_session_position(s) == 300, "position %d", gqa_session_position(s));
        CHECK(gqa_session_rewind(s, 175, NULL) == GQA_ERR_ARGUMENT, "which needs 76");
        CHECK(gqa_session_rewind(s, 183, NULL) == 0, "which needs 84");
        gqa_session_free(s);
        gqa_model_close(m);
    }
    TEST("a cancelled call keeps whole batches where a window has moved on") {
        gqa_model *m = new_model((model_shape){.window = 100, .seed = 10});
        gqa_session *s = SESSION(m, .kv = "f32", .context = LONGEST, .batch = 8);
        cancel_at at = {s, 295};
        eval_ok(s, t, 150);
        gqa_session_watch_kv(s, cancel_at_position, &at);
        CHECK(gqa_session_eval(s, t + 150, 146, NULL) == GQA_ERR_CANCELLED, "not cancelled");
        CHECK(gqa_session_position(s) == 294, "position %d", gqa_session_position(s));
        gqa_session_watch_kv(s, NULL, NULL);
        CHECK(goes_on(m, s, t, gqa_session_position(s), 20), "a cancelled session goes on");
        gqa_session_free(s);
        gqa_model_close(m);
    }
    TEST("more sessions than one pass takes: all advance or none") {
        enum { N = 70 };
        gqa_model *m = new_model((model_shape){.window = 20, .seed = 11});
        gqa_session *s[N], *alone = SESSION(m, .kv = "f32", .context = 60);
        gqa_workspace *w = gqa_workspace_new(m, &(gqa_session_options){.context = 64}, NULL);
        cancel_at at = {NULL, 50};
        for (int i = 0; i < N; i++) {
            s[i] = SESSION(m, .kv = "f32", .context = 60, .workspace = i == 66 ? NULL : w);
            eval_ok(s[i], t, i == 66 ? 50 : 49);
        }
        at.session = s[0];
        gqa_session_watch_kv(s[66], cancel_at_position, &at); /* in pass two */
        CHECK(gqa_sessions_eval(s, t + 50, N, NULL) == GQA_ERR_CANCELLED, "not cancelled");
        gqa_session_watch_kv(s[66], NULL, NULL);
        for (int i = 0; i < N; i++)
            CHECK(gqa_session_position(s[i]) == (i == 66 ? 50 : 49), "session %d", i);
        CHECK(gqa_sessions_eval(s, t + 50, N, NULL) == 0, "again");
        eval_ok(alone, t, 49);
        eval_ok(alone, t + 50 + 3, 1);
        CHECK(close_logits(s[3], alone), "as if there had been no cancel");
        for (int i = 0; i < N; i++) gqa_session_free(s[i]);
        gqa_session_free(alone);
        gqa_workspace_free(w);
        gqa_model_close(m);
    }
}

static void check_workspaces(void) {
    int32_t t[700];
    random_tokens(t, 700, 12);
    TEST("unlike sessions of one workspace, alone and together with one that has its own") {
        enum { N = 4 };
        static const int contexts[N] = {40, 700, 64, 650}, batches[N] = {1, 64, 33, 2},
                         held[N] = {30, 600, 11, 511};
        gqa_model *m = new_model((model_shape){.seed = 13});
        gqa_workspace *w = gqa_workspace_new(
            m, &(gqa_session_options){.context = 650, .n_threads = 2, .batch = 64}, NULL);
        gqa_session *s[N], *own[N];
        for (int i = 0; i < N; i++) {
            gqa_workspace *mine = contexts[i] > 650 ? NULL : w;
            s[i] = SESSION(m, .kv = "f32", .context = contexts[i], .batch = batches[i],
                           .workspace = mine);
            own[i] = SESSION(m, .kv = "f32", .context = contexts[i], .batch = batches[i]);
        }
        for (int i = 0; i < N; i++) eval_ok(s[i], t + i, held[i]);
        for (int i = 0; i < N; i++) eval_ok(own[i], t + i, held[i]);
        for (int i = 0; i < N; i++) CHECK(same_logits(s[i], own[i]), "session %d alone", i);
        for (int step = 0; step < 4; step++) {
            CHECK(gqa_sessions_eval(s, t + step, N, NULL) == 0, "step %d", step);
            for (int i = 0; i < N; i++) {
                eval_ok(own[i], t + step + i, 1);
                CHECK(close_logits(s[i], own[i]), "session %d, step %d", i, step);
            }
        }
        for (int i = 0; i < N; i++) gqa_session_free(s[i]);
        for (int i = 0; i < N; i++) gqa_session_free(own[i]);
        gqa_workspace_free(w);
        gqa_model_close(m);
    }
    TEST("a batch that is refused says which session is at fault") {
        gqa_model *m = new_model((model_shape){.seed = 14});
        gqa_session *s[3];
        gqa_error err = {0};
        for (int i = 0; i < 3; i++) s[i] = SESSION(m, .context = 20);
        CHECK(gqa_sessions_eval(s, (int32_t[]){1, 2, VOCAB}, 3, &err) == GQA_ERR_ARGUMENT, "id");
        CHECK_HAS(err.message, "session 2");
        eval_ok(s[1], t, 20);
        CHECK(gqa_sessions_eval(s, t, 3, &err) == GQA_ERR_CONTEXT, "context");
        CHECK_HAS(err.message, "session 1");
        for (int i = 0; i < 3; i++) gqa_session_free(s[i]);
        gqa_model_close(m);
    }
    TEST("a number of positions that is no number is an argument's fault, not the context's") {
        gqa_model *m = new_model((model_shape){.seed = 15});
        gqa_session *s = SESSION(m, .context = 20);
        CHECK(gqa_session_fill_random(s, -1, 0, NULL) == GQA_ERR_ARGUMENT, "-1 positions");
        gqa_session_free(s);
        gqa_model_close(m);
    }
}

static void check_units(void) {
    TEST("no phase has more units than a team can count") {
        gqa_config c = {.dim = 32, .n_layers = 1, .n_heads = 4096, .n_kv_heads = 4096,
                        .head_dim = 2, .ffn_dim = 32, .vocab_size = 32,
                        .context_length = 1 << 20};
        gqa_error err = {0};
        gqa_model *m = gqa_model_random(&c, GQA_TYPE_F32, 1, NULL, NULL);
        gqa_session_options too_long = {.context = 1 << 15};
        CHECK(!gqa_session_new(m, &too_long, &err), "64 rows x 4096 heads x 66 splits");
        CHECK_HAS(err.message, "context 32768 is too large for 4096 KV heads");
        float logits[2][32]; /* 4096 heads at 4096 positions: 600 MB a session, one at a time */
        int32_t t[20];
        for (int i = 0; i < 20; i++) t[i] = i % 32;
        for (int n_threads = 1; n_threads <= 2; n_threads++) {
            gqa_session *s = SESSION(m, .context = 4096, .batch = 4096, .n_threads = n_threads);
            eval_ok(s, t, 20);
            memcpy(logits[n_threads - 1], gqa_session_logits(s), sizeof logits[0]);
            gqa_session_free(s);
        }
        CHECK(!memcmp(logits[0], logits[1], sizeof logits[0]), "many heads, one thread and two");
        gqa_model_close(m);
    }
}

/* ---- saved sessions in memory ---------------------------------------------------------------- */

static void check_saved(void) {
    int32_t t[LONGEST];
    random_tokens(t, LONGEST, 16);
    TEST("a session in memory: rewound behind a window, copied, damaged, cut off") {
        gqa_model *m = new_model((model_shape){.window = WINDOW, .seed = 17});
        gqa_session *from = SESSION(m, .kv = "q8_0", .context = LONGEST);
        gqa_session *s = SESSION(m, .kv = "q8_0", .context = LONGEST);
        gqa_session *loaded = SESSION(m, .kv = "q8_0", .context = 250);
        void *data;
        size_t size;
        gqa_error err = {0};
        eval_ok(from, t, 240);
        CHECK(gqa_session_rewind(from, 230, &err) == 0, "%s", err.message);
        CHECK(gqa_session_copy(s, from, 230, &err) == 0, "%s", err.message);
        CHECK(gqa_session_save_memory(s, &data, &size, &err) == 0, "%s", err.message);
        CHECK(gqa_session_load_memory(loaded, data, size, &err) == 0, "%s", err.message);
        for (int back = 230; back > 100; back--) {
            int status = gqa_session_rewind(s, back, NULL);
            CHECK(gqa_session_rewind(loaded, back, NULL) == status, "back to %d", back);
        }
        eval_ok(s, t, 5);
        eval_ok(loaded, t, 5);
        CHECK(same_logits(s, loaded), "they go on alike");
        for (size_t cut = 0; cut < size; cut += cut < 100 ? 1 : 1009) {
            uint8_t *part = malloc(cut ? cut : 1); /* no byte more, for AddressSanitizer */
            memcpy(part, data, cut);
            CHECK(gqa_session_load_memory(loaded, part, cut, NULL) == GQA_ERR_FORMAT &&
                  same_logits(s, loaded), "%zu of %zu bytes", cut, size);
            free(part);
        }
        CHECK(gqa_session_load_memory(loaded, data, size + 1, NULL) < 0, "a byte too many");
        CHECK(gqa_session_load_memory(loaded, NULL, 0, NULL) == GQA_ERR_ARGUMENT, "NULL");
        gqa_free(data);
        gqa_session_free(from);
        gqa_session_free(s);
        gqa_session_free(loaded);
        gqa_model_close(m);
    }
}

/* ---- sampler --------------------------------------------------------------------------------- */

static void check_sampler(void) {
    TEST("minus infinity bans a token at every temperature") {
        static const float logits[2] = {0, -INFINITY};
        static const float temperatures[] = {1e-30f, 1, 1e30f, 1e37f, 3e38f};
        for (int i = 0; i < 5; i++) {
            gqa_sampler_options o = {.temperature = temperatures[i], .seed = 1};
            gqa_sampler *s = gqa_sampler_new(&o, NULL);
            int banned = 0;
            for (int j = 0; j < 2000; j++) banned += gqa_sampler_next(s, logits, 2) == 1;
            CHECK(banned == 0, "temperature %g: drawn %d times", (double)o.temperature, banned);
            gqa_sampler_free(s);
        }
    }
    TEST("a penalty below 1 does not allow what is banned") {
        static const float banned[2] = {-INFINITY, NAN}, one[2] = {0, -INFINITY};
        for (int i = 0; i < 2; i++) {
            gqa_sampler_options o = {.temperature = (float)i, .repeat_penalty = 0.5f, .seed = 1};
            gqa_sampler *s = gqa_sampler_new(&o, NULL);
            gqa_sampler_accept(s, 0);
            gqa_sampler_accept(s, 1);
            int32_t got = gqa_sampler_next(s, banned, 2);
            CHECK(got == GQA_ERR_NUMERIC, "temperature %d: %d", i, got);
            got = gqa_sampler_next(s, one, 2);
            CHECK(got == 0, "temperature %d: %d, expected 0", i, got);
            gqa_sampler_free(s);
        }
    }
    TEST("the sum of infinity is infinity") {
        double sum = gqa_log_sum_exp((float[]){1, INFINITY, NAN}, 3);
        CHECK(sum == HUGE_VAL, "%g", sum);
        CHECK(gqa_log_sum_exp((float[]){NAN, -INFINITY}, 2) == -HUGE_VAL, "of nothing: 0");
    }
}

/* ---- text ------------------------------------------------------------------------------------ */

enum { N_TOKENS = 14, LONG_TOKEN = 5000 };

/* A session of a model that says its tokens in order: i is followed by i + 1. */
typedef struct speaker {
    chain chain;
    const gqa_model *model;
    gqa_session *session;
    gqa_sampler *greedy;
    char *longest;           /* the text of token 13 */
} speaker;

/* The session stands after token `last`. */
static speaker new_speaker(int32_t last, int context) {
    speaker s = {.longest = malloc(LONG_TOKEN + 1)};
    const chain_token tokens[N_TOKENS] = {
        {"<unk>", UNKNOWN}, {"<s>", CONTROL},  {"</s>", CONTROL}, {"\u2581He", NORMAL},
        {"llo", NORMAL},    {"<0xF0>", BYTE},  {"<0x9F>", BYTE},  {"<0x98>", BYTE},
        {"<0x80>", BYTE},   {"<0xC3>", BYTE},  {"", NORMAL},      {"STO", NORMAL},
        {"P", NORMAL},      {s.longest, NORMAL},
    };
    int next[N_TOKENS];
    memset(s.longest, 'z', LONG_TOKEN);
    s.longest[LONG_TOKEN] = 0;
    for (int i = 0; i < N_TOKENS; i++) next[i] = (i + 1) % N_TOKENS;
    s.chain = chain_open(tokens, next, N_TOKENS);
    s.model = s.chain.model;
    s.session = SESSION(s.model, .context = context);
    s.greedy = gqa_sampler_new(NULL, NULL);
    eval_ok(s.session, &last, 1);
    return s;
}

static void free_speaker(speaker *s) {
    gqa_sampler_free(s->greedy);
    gqa_session_free(s->session);
    chain_close(&s->chain);
    free(s->longest);
}

typedef struct joined {
    char text[3 * LONG_TOKEN];
    size_t n;
    int stopped;
} joined;

static joined *join(const gqa_model *m, int at_start, const char *stop, const int32_t *t, int n) {
    static joined j;
    gqa_text *text = gqa_text_new(m, at_start, &stop, stop != NULL, NULL);
    const char *out;
    size_t len;
    j.n = 0;
    j.stopped = 0;
    for (int i = 0; i <= n; i++) {
        if (i < n) j.stopped = gqa_text_push(text, t[i], &out, &len, NULL);
        else gqa_text_flush(text, &out, &len);
        CHECK(i == n || len == 0 || ((unsigned char)out[0] & 0xC0) != 0x80, "call %d", i);
        memcpy(j.text + j.n, out, len);
        j.n += len;
    }
    j.text[j.n] = 0;
    gqa_text_free(text);
    return &j;
}
#define JOIN(m, at_start, stop, ...) \
    join(m, at_start, stop, (int32_t[]){__VA_ARGS__}, sizeof(int32_t[]){__VA_ARGS__} / 4)

static void check_text(void) {
    speaker s = new_speaker(1, 64);
    const gqa_model *m = s.model;
    TEST("tokens of no bytes, of one, of thousands") {
        CHECK(!strcmp(JOIN(m, 1, NULL, 3, 10, 4)->text, "Hello"), "an empty token between");
        CHECK(!strcmp(JOIN(m, 0, NULL, 3, 4)->text, " Hello"), "not at the start");
        CHECK(JOIN(m, 1, "STOP", 13, 13, 4)->n == 2 * LONG_TOKEN + 3, "two long tokens");
        CHECK(JOIN(m, 1, s.longest, 13, 4)->n == 0, "a stop string as long");
        CHECK(JOIN(m, 1, "zzzzllo", 13, 4, 4)->n == LONG_TOKEN - 4, "a stop string over its end");
    }
    TEST("broken characters, at the end and before a stop string") {
        CHECK(!strcmp(JOIN(m, 1, NULL, 5, 6, 7)->text, "\xF0\x9F\x98"), "cut off");
        CHECK(!strcmp(JOIN(m, 1, NULL, 9, 5, 6, 7, 8)->text, "\xC3\xF0\x9F\x98\x80"), "two");
        CHECK(!strcmp(JOIN(m, 1, "STOP", 9, 11, 12, 4)->text, "\xC3"), "before a stop");
        CHECK(!strcmp(JOIN(m, 1, "STOP", 9, 11, 11, 12, 4)->text, "\xC3STO"), "before a beginning");
        CHECK(!strcmp(JOIN(m, 1, "STOP?", 11, 12)->text, "STOP"), "flushed");
    }
    TEST("after a stop string nothing comes") {
        joined *j = JOIN(m, 1, "STOP", 3, 11, 12, 4, 4);
        CHECK(!strcmp(j->text, "He") && j->stopped == 1, "\"%s\", %d", j->text, j->stopped);
    }
    TEST("a control token before the text does not keep its space") {
        CHECK(!strcmp(JOIN(m, 1, NULL, 1, 3, 4)->text, "Hello"), "\"%s\"",
              JOIN(m, 1, NULL, 1, 3, 4)->text);
    }
    TEST("BOS begins another text, wherever the call began") {
        CHECK(gqa_token_bos(m) == 1 && gqa_token_eos(m) == 2, "BOS and EOS");
        CHECK(!strcmp(JOIN(m, 0, NULL, 3, 1, 3, 4)->text, " HeHello"), "after BOS");
        CHECK(!strcmp(JOIN(m, 0, NULL, 3, 2, 3, 4)->text, " He Hello"), "after EOS");
    }
    TEST("a sampler's failure is not a token") {
        gqa_text *text = gqa_text_new(m, 1, NULL, 0, NULL);
        const char *out = NULL;
        size_t len = 0;
        int status = gqa_text_push(text, GQA_ERR_MEMORY, &out, &len, NULL);
        CHECK(status == GQA_ERR_ARGUMENT && len == 0, "status %d", status);
        gqa_text_free(text);
    }
    free_speaker(&s);
}

/* ---- generation ------------------------------------------------------------------------------ */

/* Counts the calls, and stops or cancels at one of them. */
typedef struct listener {
    gqa_session *session;
    int calls_of_text, calls_of_logits, calls_of_token;
    int stop_text, stop_logits, stop_token; /* at that call, from 1; 0: never */
    int cancels;                            /* instead of stopping */
    int32_t tokens[64];
} listener;

static int stops(listener *l, int call, int at) {
    if (call != at) return 0;
    if (l->cancels) gqa_session_cancel(l->session);
    return !l->cancels;
}

static int on_text(void *user, const char *text, size_t len) {
    listener *l = user;
    CHECK(text && len > 0, "text of %zu bytes", len);
    return stops(l, ++l->calls_of_text, l->stop_text);
}

static int on_logits(void *user, const int32_t *tokens, int n_tokens, float *logits, int n_vocab) {
    listener *l = user;
    CHECK(tokens == gqa_session_tokens(l->session), "the session's tokens");
    CHECK(n_tokens == gqa_session_position(l->session) && n_vocab == N_TOKENS, "%d", n_tokens);
    CHECK(!memcmp(logits, gqa_session_logits(l->session), sizeof *logits * N_TOKENS), "a copy");
    return stops(l, ++l->calls_of_logits, l->stop_logits);
}

static int on_token(void *user, int32_t token, float log_probability) {
    listener *l = user;
    CHECK(log_probability <= 0 && log_probability > -3, "%g", (double)log_probability);
    l->tokens[l->calls_of_token] = token;
    return stops(l, ++l->calls_of_token, l->stop_token);
}

/* Generates 8 tokens after "</s>", with that listener; the session then holds all that the result
 * counts. */
static gqa_generate_result listen(listener l, int *position) {
    speaker s = new_speaker(2, 64);
    gqa_generate_options o = {.max_tokens = 8, .on_logits = on_logits, .on_token = on_token};
    gqa_generate_result r = {0};
    gqa_error err = {0};
    l.session = s.session;
    int status = gqa_generate_tokens(s.session, s.greedy, NULL, 0, &o, on_text, &l, &r, &err);
    *position = gqa_session_position(s.session);
    CHECK(status == 0 && err.code == 0, "status %d: %s", status, err.message);
    int missing = 1 + r.generated_tokens - *position; /* a token whose evaluation was cancelled */
    CHECK(missing == 0 || (missing == 1 && l.cancels), "%d tokens generated, %d in the session",
          r.generated_tokens, *position - 1);
    CHECK(!memcmp(gqa_session_tokens(s.session) + 1, l.tokens,
                  sizeof(int32_t) * (size_t)(*position - 1)), "as on_token heard them");
    free_speaker(&s);
    return r;
}

static void check_callbacks(void) {
    int position;
    TEST("callbacks stop at every point, and the session holds what was counted") {
        for (int at = 0; at <= 9; at++) {
            gqa_generate_result r = listen((listener){.stop_logits = at}, &position);
            int stopped = at >= 1 && at <= 8, n = stopped ? at - 1 : 8;
            CHECK(r.stop == (stopped ? GQA_STOP_CALLER : GQA_STOP_LENGTH), "logits %d", at);
            CHECK(r.generated_tokens == n, "logits %d: %d", at, r.generated_tokens);
            r = listen((listener){.stop_token = at}, &position);
            n = stopped ? at : 8;
            CHECK(r.stop == (stopped ? GQA_STOP_CALLER : GQA_STOP_LENGTH), "token %d", at);
            CHECK(r.generated_tokens == n, "token %d: %d", at, r.generated_tokens);
            r = listen((listener){.stop_text = at}, &position);
            CHECK(r.generated_tokens <= 8, "text %d: %d", at, r.generated_tokens);
        }
    }
    TEST("callbacks cancel at every point, and the session holds what was counted") {
        for (int at = 1; at <= 8; at++) {
            gqa_generate_result r = listen((listener){.stop_logits = at, .cancels = 1}, &position);
            CHECK(r.stop == GQA_STOP_CALLER, "logits %d: %d", at, r.stop);
            r = listen((listener){.stop_token = at, .cancels = 1}, &position);
            CHECK(r.stop == GQA_STOP_CALLER, "token %d: %d", at, r.stop);
        }
    }
}

/* One token after tokens[n]. */
static int continue_with(speaker *s, const int32_t *tokens, int n, gqa_error *err) {
    gqa_generate_options one = {.max_tokens = 1};
    return gqa_generate_tokens(s->session, s->greedy, tokens, n, &one, NULL, NULL, NULL, err);
}

static void check_continuation(void) {
    TEST("a session without logits: the message says so") {
        speaker s = new_speaker(2, 64);
        gqa_error err = {0};
        eval_ok(s.session, (int32_t[]){3, 4}, 2);
        gqa_session_rewind(s.session, 2, NULL);
        int status = continue_with(&s, NULL, 0, &err);
        CHECK(status == GQA_ERR_ARGUMENT, "status %d", status);
        CHECK_HAS(err.message, "logits");
        free_speaker(&s);
    }
    TEST("n and tokens that do not fit each other") {
        speaker s = new_speaker(2, 64);
        int32_t t = 3;
        int status = continue_with(&s, NULL, 2, NULL);
        CHECK(status == GQA_ERR_ARGUMENT, "NULL [2]: %d", status);
        status = continue_with(&s, &t, -1, NULL);
        CHECK(status == GQA_ERR_ARGUMENT, "[-1]: %d", status);
        status = continue_with(&s, &t, 0, NULL);
        CHECK(status == 0 && gqa_session_position(s.session) == 2, "[0] continues: %d", status);
        free_speaker(&s);
    }
    TEST("a full context: one token more is sampled, none is kept") {
        speaker s = new_speaker(2, 3);
        gqa_generate_result r = {0};
        CHECK(gqa_generate_tokens(s.session, s.greedy, NULL, 0, NULL, NULL, NULL, &r, NULL) == 0,
              "stop %d", r.stop);
        CHECK(r.stop == GQA_STOP_CONTEXT && r.generated_tokens == 3, "%d", r.generated_tokens);
        CHECK(gqa_session_position(s.session) == 3, "%d", gqa_session_position(s.session));
        free_speaker(&s);
    }
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_copies();
    check_syncs(0);
    check_syncs(48);
    check_cancels();
    check_workspaces();
    check_units();
    check_saved();
    check_sampler();
    check_text();
    check_callbacks();
    check_continuation();
    return test_end();
}
