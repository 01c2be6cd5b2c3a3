/* test_speculate.c: generation with proposals (lookup, a draft) against generation without: the
 * same tokens, probabilities, callbacks and session, to the bit, for types of weights and caches,
 * windows, threads, samplers, and whatever the proposals are worth. */
#include "sessions.h"

enum { MAX_TOKENS = 64, LONG_PROMPT = 500, SHORT_PROMPT = 40 };

static gqa_model *make_model(gqa_type type, int window, int kv_heads, uint64_t seed) {
    int width = type == GQA_TYPE_Q4_K ? 256 : 64; /* whole blocks */
    gqa_config c = {
        .dim = width, .n_layers = 2, .n_heads = 4, .n_kv_heads = kv_heads, .head_dim = 64,
        .ffn_dim = width, .vocab_size = VOCAB, .context_length = 700, .window = window,
    };
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, type, seed, NULL, &err);
    if (m) return m;
    CHECK(0, "%s", err.message);
    exit(test_end());
}

/* ---- a run ----------------------------------------------------------------------------------- */

typedef struct setting {
    int lookup, proposals;   /* proposals 0: as many as pay */
    gqa_session *draft;
    gqa_sampler_options sampling;
    int n_prompt, max_tokens;
    int ban;                 /* on_logits forbids that token at odd positions; 0: no on_logits */
    int stop_at, cancel_at, rewind_at; /* on_token does so at that token; 0: never */
} setting;

typedef struct record {
    const setting *o;
    gqa_session *session;
    int32_t tokens[MAX_TOKENS];
    float log_p[MAX_TOKENS];
    int positions[MAX_TOKENS], n, n_logits;
    gqa_generate_result result;
    int status, position;
    float logits[VOCAB];
    int32_t held[700];
} record;

static int on_token(void *user, int32_t token, float log_probability) {
    record *r = user;
    int n = ++r->n;
    if (n > MAX_TOKENS) return 1;
    r->tokens[n - 1] = token;
    r->log_p[n - 1] = log_probability;
    r->positions[n - 1] = gqa_session_position(r->session);
    if (n == r->o->cancel_at) gqa_session_cancel(r->session);
    if (n == r->o->rewind_at)
        CHECK(gqa_session_rewind(r->session, r->positions[n - 1] - 5, NULL) == 0, "rewind");
    return n == r->o->stop_at;
}

static int on_logits(void *user, const int32_t *tokens, int n_tokens, float *logits, int n_vocab) {
    record *r = user;
    r->n_logits++;
    CHECK(n_tokens == gqa_session_position(r->session) && n_vocab == VOCAB, "%d", n_tokens);
    if (r->n) CHECK(r->o->rewind_at || tokens[n_tokens - 1] == r->tokens[r->n - 1], "last token");
    if (n_tokens % 2) logits[r->o->ban] = -INFINITY;
    return 0;
}

static void run(gqa_session *s, const setting *o, record *r) {
    int32_t prompt[LONG_PROMPT];
    gqa_error err = {0};
    gqa_generate_options g = {.max_tokens = o->max_tokens, .lookup = o->lookup,
                              .draft = o->draft, .on_token = on_token,
                              .on_logits = o->ban ? on_logits : NULL};
    random_tokens(prompt, o->n_prompt, 7);
    for (int i = 30; i < o->n_prompt; i++) prompt[i] = prompt[i % 17]; /* matches */
    gqa_sampler *sampler = gqa_sampler_new(&o->sampling, &err);
    *r = (record){.o = o, .session = s};
    gqa_session_rewind(s, 0, NULL);
    s->fixed_proposals = o->proposals;
    r->status = gqa_generate_tokens(s, sampler, prompt, o->n_prompt, &g, NULL, r, &r->result, &err);
    r->position = gqa_session_position(s);
    memcpy(r->held, gqa_session_tokens(s), sizeof *r->held * (size_t)r->position);
    if (gqa_session_logits(s)) memcpy(r->logits, gqa_session_logits(s), sizeof r->logits);
    gqa_sampler_free(sampler);
}

static void check_same(const char *what, const record *got, const record *want) {
    int n = got->n < want->n ? got->n : want->n, i = 0;
    while (i < n && got->tokens[i] == want->tokens[i]) i++;
    CHECK(got->n == want->n && i == n, "%s: %d tokens, expected %d, other from %d on", what, got->n,
          want->n, i);
    CHECK(!memcmp(got->log_p, want->log_p, sizeof got->log_p), "%s: probabilities", what);
    CHECK(!memcmp(got->positions, want->positions, sizeof got->positions), "%s: positions", what);
    CHECK(got->n_logits == want->n_logits, "%s: calls of on_logits", what);
    CHECK(got->status == want->status && got->result.stop == want->result.stop, "%s: status %d, "
          "stop %d", what, got->status, (int)got->result.stop);
    CHECK(got->position == want->position, "%s: position %d, expected %d", what, got->position,
          want->position);
    CHECK(!memcmp(got->held, want->held, sizeof got->held), "%s: held tokens", what);
    CHECK(!memcmp(got->logits, want->logits, sizeof got->logits), "%s: logits", what);
}

static const gqa_sampler_options samplings[] = {
    {0},
    {.temperature = 0.05f, .seed = 1},
    {.temperature = 0.7f, .top_p = 0.9f, .seed = 2, .repeat_penalty = 1.3f, .repeat_last = 20},
    {.temperature = 0.3f, .top_k = 20, .min_p = 0.05f, .seed = 3},
    {.repeat_penalty = 1.1f},
};
enum { N_SAMPLINGS = sizeof samplings / sizeof *samplings };

/* Every kind of proposals against none, on one session. Returns how many were accepted. */
static int compare(const char *what, gqa_session *s, setting o, gqa_session *twin,
                   gqa_session *hostile) {
    static record want, got;
    const struct { int lookup, proposals; gqa_session *draft; const char *name; } ways[] = {
        {1, 1, NULL, "lookup 1"}, {1, 7, NULL, "lookup 7"}, {1, 15, NULL, "lookup 15"},
        {1, 0, NULL, "lookup"}, {0, 3, twin, "draft 3"}, {0, 15, twin, "draft 15"},
        {0, 5, hostile, "hostile draft"}, {1, 10, hostile, "both"}, {1, 0, twin, "both, adaptive"},
    };
    int accepted = 0;
    run(s, &o, &want);
    CHECK(want.result.proposed_tokens == 0 && want.result.speculation_gain == 0, "%s", what);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char name[128];
        setting with = o;
        with.lookup = ways[i].lookup;
        with.proposals = ways[i].proposals;
        with.draft = ways[i].draft;
        snprintf(name, sizeof name, "%s, %s", what, ways[i].name);
        run(s, &with, &got);
        check_same(name, &got, &want);
        accepted += got.result.accepted_tokens;
        CHECK(got.result.accepted_tokens <= got.result.proposed_tokens, "%s", name);
        CHECK(!o.ban == !got.n_logits, "%s: on_logits", name);
        if (ways[i].draft && ways[i].proposals)
            CHECK(got.result.proposed_tokens > 0, "%s: none proposed", name);
    }
    return accepted;
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void check_type(gqa_type type, int window, int kv_heads, const char *kv, int threads) {
    gqa_model *m = make_model(type, window, kv_heads, 11);
    gqa_model *other = make_model(GQA_TYPE_Q8_0, 0, 1, 12);
    gqa_session *s = SESSION(m, .context = 620, .kv = kv, .n_threads = threads);
    gqa_session *twin = SESSION(m, .context = 620, .kv = kv);
    gqa_session *hostile = SESSION(other, .context = 560); /* too short for the end of the text */
    int accepted = 0;
    for (int i = 0; i < N_SAMPLINGS; i++) {
        char what[64];
        setting o = {.sampling = samplings[i], .max_tokens = MAX_TOKENS,
                     .n_prompt = i == 4 ? LONG_PROMPT : SHORT_PROMPT, .ban = i == 2 ? 5 : 0};
        snprintf(what, sizeof what, "%s, cache %s, sampler %d", gqa_type_name(type), kv, i);
        accepted += compare(what, s, o, twin, hostile);
    }
    CHECK(accepted > 300, "%d accepted", accepted);
    gqa_session_free(hostile);
    gqa_session_free(twin);
    gqa_session_free(s);
    gqa_model_close(other);
    gqa_model_close(m);
}

static void check_ends(void) {
    gqa_model *m = make_model(GQA_TYPE_F16, 0, 2, 13);
    gqa_session *s = SESSION(m, .context = SHORT_PROMPT + 61), *twin = SESSION(m, .context = 300);
    static record want, got;
    TEST("the context's end") {
        setting o = {.n_prompt = SHORT_PROMPT, .sampling = samplings[2]};
        compare("context", s, o, twin, twin);
        run(s, &o, &got);
        CHECK(got.result.stop == GQA_STOP_CONTEXT && got.n == 62, "%d tokens", got.n);
        o = (setting){.n_prompt = SHORT_PROMPT};
        compare("context, greedy", s, o, twin, twin);
    }
    TEST("callbacks stop, cancel and rewind at each token of accepted runs") {
        for (int at = 1; at < 24; at++)
            for (int kind = 0; kind < 3; kind++) {
                setting o = {.n_prompt = SHORT_PROMPT, .max_tokens = 40};
                *(kind == 0 ? &o.stop_at : kind == 1 ? &o.cancel_at : &o.rewind_at) = at;
                run(s, &o, &want);
                o.draft = twin;
                o.proposals = 7;
                run(s, &o, &got);
                check_same(kind == 0 ? "stop" : kind == 1 ? "cancel" : "rewind", &got, &want);
                if (kind == 0) CHECK(got.position == SHORT_PROMPT + at, "%d", got.position);
                if (kind == 0 && at > 8) CHECK(got.result.accepted_tokens > 6, "none accepted");
            }
    }
    TEST("what cancels the session stops the draft") {
        setting o = {.n_prompt = SHORT_PROMPT, .max_tokens = 40, .draft = twin, .proposals = 7,
                     .cancel_at = 1};
        gqa_session_rewind(twin, 0, NULL);
        run(s, &o, &got);
        CHECK(got.n == 1 && gqa_session_position(twin) == 0, "%d tokens, %d positions", got.n,
              gqa_session_position(twin));
        o.cancel_at = 0;
        run(s, &o, &got);
        CHECK(got.status == 0 && gqa_session_position(twin) > SHORT_PROMPT, "%d positions",
              gqa_session_position(twin));
    }
    TEST("a stopped session goes on as without speculation") {
        setting o = {.n_prompt = SHORT_PROMPT, .max_tokens = 30};
        run(s, &o, &want);
        o = (setting){.n_prompt = SHORT_PROMPT, .draft = twin, .proposals = 7, .stop_at = 11};
        run(s, &o, &got);
        gqa_sampler *greedy = gqa_sampler_new(NULL, NULL);
        gqa_generate_options g = {.max_tokens = 19, .on_token = on_token};
        got.o = &(setting){0};
        CHECK(gqa_generate_tokens(s, greedy, NULL, 0, &g, NULL, &got, NULL, NULL) == 0, "refused");
        CHECK(got.n == 30 && !memcmp(got.tokens, want.tokens, sizeof *got.tokens * 30), "other");
        gqa_sampler_free(greedy);
    }
    gqa_session_free(twin);
    gqa_session_free(s);
    gqa_model_close(m);
}

/* Keys of a proposal too large for an f16 cache must not scale it: the token is evaluated alone. */
static void check_large(void) {
    gqa_model *m = make_model(GQA_TYPE_Q8_0, 0, 2, 14);
    gqa_session *s = SESSION(m, .context = 64), *plain = SESSION(m, .context = 64);
    static float logits[4 * VOCAB];
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6};
    eval_ok(s, tokens, 2);
    eval_ok(plain, tokens, 3);
    memcpy(s->tokens + 2, tokens + 2, sizeof *tokens * 4);
    atomic_store(&s->range[1].v_max, 0x48000000u);
    CHECK(gqa_session_eval_ahead(s, 4, logits, NULL) == 0, "refused");
    CHECK(s->position == 3 && s->n_ahead == 0 && same_logits(s, plain), "%d ahead", s->n_ahead);
    CHECK(s->range[1].v_scale >= 1, "the cache was scaled");
    eval_ok(s, tokens + 3, 1);
    eval_ok(plain, tokens + 3, 1);
    CHECK(same_logits(s, plain), "other logits");
    gqa_session_free(plain);
    gqa_session_free(s);
    gqa_model_close(m);
}

static void check_refusals(void) {
    gqa_model *m = make_model(GQA_TYPE_Q8_0, 0, 2, 15);
    gqa_session *s = SESSION(m, .context = 64);
    gqa_sampler *greedy = gqa_sampler_new(NULL, NULL);
    gqa_error err = {0};
    gqa_generate_options o = {.draft = s};
    int32_t token = 1;
    int status = gqa_generate_tokens(s, greedy, &token, 1, &o, NULL, NULL, NULL, &err);
    CHECK(status == GQA_ERR_ARGUMENT, "%d", status);
    CHECK_HAS(err.message, "draft is the session itself");
    gqa_sampler_free(greedy);
    gqa_session_free(s);
    gqa_model_close(m);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    static const gqa_type types[] = {GQA_TYPE_F32, GQA_TYPE_F16, GQA_TYPE_BF16, GQA_TYPE_Q8_0,
                                     GQA_TYPE_Q4_0, GQA_TYPE_Q4_K};
    static const char *const kinds[] = {"f32", "f16", "bf16", "q8_0", "q4_0", "q8_0/q4_0"};
    for (int i = 0; i < 6; i++) {
        char name[64];
        snprintf(name, sizeof name, "weights %s, cache %s", gqa_type_name(types[i]), kinds[i]);
        TEST(name) check_type(types[i], 0, i % 2 + 1, kinds[i], i % 2 + 1);
    }
    TEST("weights f32, cache q4_0, window") check_type(GQA_TYPE_F32, 48, 2, "q4_0", 2);
    TEST("weights q4_0, cache f16, window") check_type(GQA_TYPE_Q4_0, 100, 4, "f16", 1);
    check_ends();
    TEST("large keys of a proposal") check_large();
    TEST("refused drafts") check_refusals();
    return test_end();
}
