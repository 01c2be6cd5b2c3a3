/* test_hooks.c: generating from token ids, the hooks on logits and tokens, and the joining of
 * tokens into text, with a model of tests/models. */
#include "test.h"

#include "../model.h"

enum { MAX_TEXT = 4000, MAX_IDS = 300 };

/* What the callbacks of one generation saw, and what they answer. */
typedef struct record {
    char text[MAX_TEXT];
    size_t len;
    int32_t ids[MAX_IDS];
    float log_p[MAX_IDS];
    int n_ids;
    int n_logits;             /* calls of on_logits */
    int stop_text, stop_token, stop_logits; /* the call that stops, from 1; 0: none */
    int n_texts;
    int32_t banned, forced;   /* -1: none */
    int wrong;                /* arguments that were not right */
    const gqa_session *session;
} record;

static int on_text(void *user, const char *text, size_t len) {
    record *r = user;
    if (r->len + len < MAX_TEXT) memcpy(r->text + r->len, text, len);
    r->len += len;
    return ++r->n_texts == r->stop_text;
}

static int on_token(void *user, int32_t token, float log_p) {
    record *r = user;
    r->ids[r->n_ids] = token;
    r->log_p[r->n_ids++] = log_p;
    return r->n_ids == r->stop_token;
}

static int on_logits(void *user, const int32_t *tokens, int n, float *logits, int n_vocab) {
    record *r = user;
    r->wrong += n != gqa_session_position(r->session) || tokens != gqa_session_tokens(r->session);
    r->wrong += logits == gqa_session_logits(r->session);
    const float *original = gqa_session_logits(r->session);
    r->wrong += memcmp(logits, original, sizeof(float) * (size_t)n_vocab) != 0;
    if (r->banned >= 0) logits[r->banned] = -HUGE_VALF;
    for (int i = 0; r->forced >= 0 && i < n_vocab; i++)
        if (i != r->forced) logits[i] = -HUGE_VALF;
    return ++r->n_logits == r->stop_logits;
}

static record new_record(const gqa_session *s) {
    return (record){.banned = -1, .forced = -1, .session = s};
}

static const char prompt[] = "Once upon a time";

/* A session and a sampler over that model. */
typedef struct bench {
    const gqa_model *m;
    gqa_session *s;
    gqa_sampler *sampler;
} bench;

static bench new_bench(const gqa_model *m, float temperature) {
    gqa_error err = {0};
    gqa_sampler_options how = {.temperature = temperature, .seed = 5, .repeat_penalty = 1.1f};
    bench b = {m, gqa_session_new(m, NULL, &err), gqa_sampler_new(&how, &err)};
    CHECK(b.s && b.sampler, "%s", err.message);
    return b;
}

static void free_bench(bench *b) {
    gqa_sampler_free(b->sampler);
    gqa_session_free(b->s);
}

/* The generation of max_tokens after the prompt. */
static gqa_generate_result run(bench *b, record *r, gqa_generate_options opt) {
    gqa_error err = {0};
    gqa_generate_result result = {0};
    int status = gqa_generate(b->s, b->sampler, prompt, &opt, on_text, r, &result, &err);
    CHECK(status == 0, "%s", err.message);
    return result;
}

/* 40 tokens from text, and from ids in two calls: a space at the border is kept. */
static void check_tokens_like_text(const gqa_model *m, int first) {
    gqa_error err = {0};
    bench a = new_bench(m, 0.8f), b = new_bench(m, 0.8f);
    record whole = new_record(a.s), parts = new_record(b.s);
    gqa_generate_options opt = {.max_tokens = 40};
    run(&a, &whole, opt);
    int32_t *ids;
    int n = gqa_tokenize_new(m, prompt, strlen(prompt), GQA_TOKENIZE_BOS, &ids, &err);
    opt.max_tokens = first;
    gqa_generate_result result;
    CHECK(!gqa_generate_tokens(b.s, b.sampler, ids, n, &opt, on_text, &parts, &result, &err) &&
          result.prompt_tokens == n && result.generated_tokens == first, "%s", err.message);
    opt.max_tokens = 40 - first;
    CHECK(!gqa_generate_tokens(b.s, b.sampler, NULL, 0, &opt, on_text, &parts, &result, &err) &&
          result.prompt_tokens == 0 && result.stop == GQA_STOP_LENGTH, "%s", err.message);
    CHECK(whole.len == parts.len && !memcmp(whole.text, parts.text, whole.len),
          "\"%.*s\" and \"%.*s\"", (int)whole.len, whole.text, (int)parts.len, parts.text);
    gqa_free(ids);
    free_bench(&a);
    free_bench(&b);
}

static void check_on_token(const gqa_model *m) {
    bench b = new_bench(m, 0.8f);
    record r = new_record(b.s);
    gqa_session *fresh = gqa_session_new(m, NULL, NULL);
    int vocab = gqa_model_config(m)->vocab_size;
    float *log_p = malloc(sizeof(float) * (size_t)vocab);
    run(&b, &r, (gqa_generate_options){.max_tokens = 30, .on_token = on_token});
    const int32_t *ids = gqa_session_tokens(b.s);
    int first = gqa_session_position(b.s) - r.n_ids;
    CHECK(r.n_ids == 30 && !memcmp(ids + first, r.ids, sizeof *ids * 30), "%d tokens", r.n_ids);
    CHECK(!gqa_session_eval(fresh, ids, first, NULL), "prompt");
    for (int i = 0; i < r.n_ids; i++) {
        gqa_log_softmax(gqa_session_logits(fresh), vocab, log_p);
        float expected = log_p[r.ids[i]];
        CHECK(fabsf(r.log_p[i] - expected) < 1e-5f && expected < 0, "token %d: %g, expected %g", i,
              (double)r.log_p[i], (double)expected);
        CHECK(!gqa_session_eval(fresh, &r.ids[i], 1, NULL), "eval");
    }
    free(log_p);
    gqa_session_free(fresh);
    free_bench(&b);
}

static void check_on_logits(const gqa_model *m) {
    bench b = new_bench(m, 0);
    record plain = new_record(b.s);
    run(&b, &plain, (gqa_generate_options){.max_tokens = 20, .on_token = on_token});
    gqa_session_rewind(b.s, 0, NULL);
    gqa_sampler_reset(b.sampler, 5);
    record banned = new_record(b.s);
    banned.banned = plain.ids[0];
    gqa_generate_options opt = {.max_tokens = 20, .on_token = on_token, .on_logits = on_logits};
    run(&b, &banned, opt);
    CHECK(banned.wrong == 0 && banned.n_logits == 20, "%d wrong arguments", banned.wrong);
    for (int i = 0; i < banned.n_ids; i++) CHECK(banned.ids[i] != banned.banned, "token %d", i);
    gqa_session_rewind(b.s, 0, NULL);
    record forced = new_record(b.s);
    forced.forced = 300;
    run(&b, &forced, opt);
    for (int i = 0; i < forced.n_ids; i++) CHECK(forced.ids[i] == 300, "token %d", i);
    CHECK(forced.log_p[0] < -1, "the model's own probability: %g", (double)forced.log_p[0]);
    free_bench(&b);
}

static void check_stopping(const gqa_model *m) {
    static const struct { int text, token, logits, generated; } cases[] = {
        {4, 0, 0, 4}, {0, 3, 0, 3}, {0, 0, 3, 2}, {0, 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bench b = new_bench(m, 0);
        record r = new_record(b.s);
        r.stop_text = cases[i].text;
        r.stop_token = cases[i].token;
        r.stop_logits = cases[i].logits;
        gqa_generate_result result = run(&b, &r, (gqa_generate_options){
            .max_tokens = 20, .on_token = on_token, .on_logits = on_logits});
        CHECK(result.stop == GQA_STOP_CALLER && result.generated_tokens == cases[i].generated,
              "case %zu: stop %d after %d tokens", i, (int)result.stop, result.generated_tokens);
        CHECK(gqa_session_position(b.s) == result.prompt_tokens + result.generated_tokens &&
              gqa_session_logits(b.s), "case %zu: the session can go on", i);
        free_bench(&b);
    }
}

static void check_end_reported(const gqa_model *m) {
    bench b = new_bench(m, 0);
    record r = new_record(b.s);
    r.forced = gqa_token_eos(m);
    gqa_generate_result result = run(&b, &r, (gqa_generate_options){
        .max_tokens = 20, .on_token = on_token, .on_logits = on_logits});
    CHECK(result.stop == GQA_STOP_END && result.generated_tokens == 0 && r.n_ids == 1 &&
          r.ids[0] == gqa_token_eos(m), "stop %d, %d reported", (int)result.stop, r.n_ids);
    result = run(&b, &r, (gqa_generate_options){
        .max_tokens = 3, .ignore_end = 1, .on_token = on_token, .on_logits = on_logits});
    CHECK(result.stop == GQA_STOP_LENGTH && result.generated_tokens == 3 && r.n_ids == 4,
          "ignored: stop %d, %d reported", (int)result.stop, r.n_ids);
    free_bench(&b);
}

static void check_refused(const gqa_model *m) {
    gqa_error err = {0};
    bench b = new_bench(m, 0);
    int32_t ids[2] = {1, 2};
    gqa_generate_options reserved = {.reserved = {(void *)1}}, negative = {.max_tokens = -1};
    const struct {
        gqa_session *s;
        gqa_sampler *sampler;
        const int32_t *ids;
        int n;
        const gqa_generate_options *opt;
        const char *message;
    } cases[] = {
        {NULL, b.sampler, ids, 2, NULL, "is NULL"},
        {b.s, NULL, ids, 2, NULL, "is NULL"},
        {b.s, b.sampler, NULL, 2, NULL, "is NULL"},
        {b.s, b.sampler, ids, -1, NULL, "-1 tokens"},
        {b.s, b.sampler, NULL, 0, NULL, "no logits"},
        {b.s, b.sampler, ids, 2, &reserved, "reserved"},
        {b.s, b.sampler, ids, 2, &negative, "max_tokens -1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = gqa_generate_tokens(cases[i].s, cases[i].sampler, cases[i].ids, cases[i].n,
                                         cases[i].opt, NULL, NULL, NULL, &err);
        CHECK(status == GQA_ERR_ARGUMENT && gqa_session_position(b.s) == 0, "case %zu: %d", i,
              status);
        CHECK_HAS(err.message, cases[i].message);
    }
    gqa_generate_options flags = {.tokenize_flags = GQA_TOKENIZE_BOS | 8};
    int status = gqa_generate(b.s, b.sampler, "a", &flags, NULL, NULL, NULL, &err);
    CHECK(status == GQA_ERR_ARGUMENT && gqa_session_position(b.s) == 0, "flags 9: %d", status);
    CHECK_HAS(err.message, "tokenize flags 0x9: unknown bits 0x8");
    free_bench(&b);
}

/* ---- gqa_text -------------------------------------------------------------------------------- */

/* Pushes the tokens of text and checks that what comes out is whole characters of it. */
static void check_joined(const gqa_model *m, const char *text) {
    gqa_error err = {0};
    char joined[MAX_TEXT];
    size_t len, total = 0;
    const char *out;
    int32_t *ids;
    int n = gqa_tokenize_new(m, text, strlen(text), 0, &ids, &err);
    gqa_text *t = gqa_text_new(m, 1, NULL, 0, &err);
    CHECK(n > 0 && t, "%s", err.message);
    for (int i = 0; i < n; i++) {
        CHECK(gqa_text_push(t, ids[i], &out, &len, &err) == 0, "%s", err.message);
        CHECK(len == 0 || (out[0] & 0xC0) != 0x80, "it begins inside of a character");
        memcpy(joined + total, out, len);
        total += len;
    }
    gqa_text_flush(t, &out, &len);
    memcpy(joined + total, out, len);
    total += len;
    CHECK(total == strlen(text) && !memcmp(joined, text, total), "\"%.*s\", expected \"%s\"",
          (int)total, joined, text);
    gqa_text_flush(t, &out, &len);
    CHECK(len == 0, "nothing is kept");
    gqa_text_free(t);
    gqa_free(ids);
}

/* Pushes the tokens of text: what comes out ends before the stop string. */
static void check_stopped(const gqa_model *m, const char *text, const char *stop,
                          const char *expected) {
    gqa_error err = {0};
    const char *const stops[] = {stop, "zzz"}, *out;
    char joined[200] = "";
    size_t len;
    int32_t *ids;
    int n = gqa_tokenize_new(m, text, strlen(text), 0, &ids, &err), stopped = 0;
    gqa_text *t = gqa_text_new(m, 1, stops, 2, &err);
    for (int i = 0; i < n; i++) {
        stopped = gqa_text_push(t, ids[i], &out, &len, &err);
        strncat(joined, out, len);
    }
    CHECK(stopped == 1 && !strcmp(joined, expected), "\"%s\"", joined);
    gqa_text_flush(t, &out, &len);
    CHECK(len == 0, "nothing after a stop string");
    gqa_text_free(t);
    gqa_free(ids);
}

static void check_text_stop(const gqa_model *m) {
    gqa_error err = {0};
    check_stopped(m, "The cat sat on the mat and slept.", "mat and", "The cat sat on the ");
    check_stopped(m, "The cat sat.", "sat.", "The cat "); /* all but its last byte are held back */
    static const char *const empty[] = {"x", ""};
    CHECK(!gqa_text_new(m, 0, empty, 2, &err) && err.code == GQA_ERR_ARGUMENT, "an empty one");
    CHECK(!gqa_text_new(m, 0, NULL, 1, &err) && !gqa_text_new(NULL, 0, NULL, 0, &err), "NULL");
    gqa_text_free(NULL);
}

static void check_names(const gqa_model *m) {
    char name[32] = "";
    int n = gqa_token_name(m, gqa_token_eos(m), name, sizeof name);
    CHECK(n == 4 && !memcmp(name, "</s>", 4), "%d bytes: %s", n, name);
    CHECK(gqa_token_bytes(m, gqa_token_eos(m), name, sizeof name) == 0, "it has no text");
    CHECK(gqa_token_name(m, gqa_token_eos(m), name, 1) == 4, "the length, whatever fits");
    CHECK(gqa_token_name(m, 1, NULL, 8) < 0 && gqa_token_name(m, 1, name, -1) < 0, "no room");
    CHECK(gqa_token_name(m, -1, name, 32) < 0 && gqa_token_name(m, 1 << 24, name, 32) < 0, "range");
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    gqa_error err = {0};
    gqa_model *m = gqa_model_open("tests/models/stories-gqa.gguf", NULL, &err);
    if (!CHECK(m, "%s", err.message)) return test_end();
    TEST("tokens like text, and continued")
        for (int first = 15; first < 20; first++) check_tokens_like_text(m, first);
    TEST("on_token") check_on_token(m);
    TEST("on_logits") check_on_logits(m);
    TEST("callbacks that stop") check_stopping(m);
    TEST("the end token is reported") check_end_reported(m);
    TEST("refused") check_refused(m);
    TEST("text joined") {
        check_joined(m, "The cat sat on the mat.");
        check_joined(m, "na\xC3\xAFve \xF0\x9F\x98\x80\xF0\x9F\x98\x80 \xE4\xB8\xAD");
        check_joined(m, "bad \xF0\x9F end");
        check_joined(m, " two spaces  ");
        check_joined(m, "cut \xF0\x9F\x98");
    }
    TEST("text stopped") check_text_stop(m);
    TEST("token names") check_names(m);
    gqa_model_close(m);
    return test_end();
}
