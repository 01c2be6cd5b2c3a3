/* test_gain.c: what speculation believes to gain, and what it may lose, with a clock of the test's:
 * speculate.c is compiled into this program, and its passes take the time that they are given. */
#include "sessions.h"

static double now_of_test(void);
static int timed_eval(gqa_session *s, const int32_t *tokens, int n, gqa_error *err);
static int timed_eval_ahead(gqa_session *s, int n, float *logits, gqa_error *err);
#define gqa_os_seconds now_of_test
#define gqa_session_eval timed_eval
#define gqa_session_eval_ahead timed_eval_ahead
#include "../speculate.c"
#undef gqa_os_seconds
#undef gqa_session_eval
#undef gqa_session_eval_ahead

enum { TOKENS = 600, N_PROMPT = 40 };

/* The first pass takes `cold`, one of a row 1, or `after` where the one before had several, one of
 * several 1 and `each` for every other; the draft's nothing. */
typedef struct costs {
    double cold, after, each;
} costs;
static struct {
    costs costs;
    const gqa_session *session;
    double now;
    int n_passes, last_rows;
} fake;

static double now_of_test(void) { return fake.now; }

static void pass_takes(const gqa_session *s, int rows) {
    if (s != fake.session) return;
    if (fake.n_passes++ == 0) fake.now += fake.costs.cold;
    else if (rows == 1 && fake.last_rows > 1) fake.now += fake.costs.after;
    else fake.now += 1 + fake.costs.each * (rows - 1);
    fake.last_rows = rows;
}

static int timed_eval(gqa_session *s, const int32_t *tokens, int n, gqa_error *err) {
    pass_takes(s, n);
    return gqa_session_eval(s, tokens, n, err);
}

static int timed_eval_ahead(gqa_session *s, int n, float *logits, gqa_error *err) {
    pass_takes(s, n);
    return gqa_session_eval_ahead(s, n, logits, err);
}

/* TOKENS tokens after a prompt that repeats itself, as many proposals as pay: of the draft, or
 * without one by lookup. */
static gqa_generate_result generate(gqa_session *s, gqa_session *draft, costs c) {
    gqa_error err = {0};
    gqa_generate_result result;
    const gqa_generate_options options = {
        .max_tokens = TOKENS, .lookup = !draft, .draft = draft, .ignore_end = 1};
    gqa_sampler *sampler = gqa_sampler_new(&(gqa_sampler_options){0}, &err);
    int32_t prompt[N_PROMPT];
    random_tokens(prompt, N_PROMPT, 7);
    for (int i = 17; i < N_PROMPT; i++) prompt[i] = prompt[i % 17];
    gqa_session_rewind(s, 0, NULL);
    memset(&fake, 0, sizeof fake);
    fake.costs = c;
    fake.session = s;
    CHECK(gqa_generate_tokens(s, sampler, prompt, N_PROMPT, &options, NULL, NULL, &result, &err) >=
          0, "%s", err.message);
    CHECK(result.generated_tokens == TOKENS, "%d tokens", result.generated_tokens);
    gqa_sampler_free(sampler);
    return result;
}

/* The gain is that over passes that take 1: not over the first, nor over one after several rows. */
static void check_gain(gqa_session *s, gqa_session *draft, costs c) {
    const gqa_generate_result r = generate(s, draft, c);
    const double want = TOKENS / fake.now;
    CHECK(r.accepted_tokens > TOKENS / 2, "%d accepted", r.accepted_tokens);
    CHECK(fabs(r.speculation_gain - want) < 1e-9, "first pass of %g, after others %g: gain %.4f, "
          "expected %.4f", c.cold, c.after, r.speculation_gain, want);
}

/* Where a pass of n rows takes as long as n passes, little is lost. */
static void check_loss(gqa_session *s, gqa_session *draft, costs c) {
    const gqa_generate_result r = generate(s, draft, c);
    CHECK(r.proposed_tokens > 0, "nothing was tried");
    CHECK(fake.now < 1.03 * TOKENS + c.cold, "first pass of %g: %.0f, without %g", c.cold, fake.now,
          TOKENS - 1 + c.cold);
}

int main(int argc, char **argv) {
    static const costs free_rows[] = {{1, 1, 0}, {7, 1, 0}, {19, 1, 0}, {2, 3, 0}, {7, 2, 0}};
    static const costs full_rows[] = {{1, 1, 1}, {7, 1, 1}, {19, 1, 1}};
    test_start(argc, argv);
    const gqa_config c = {
        .dim = 64, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 32, .ffn_dim = 64,
        .vocab_size = VOCAB, .context_length = 700,
    };
    const gqa_session_options o = {.n_threads = 1};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_F32, 5, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &o, &err) : NULL;
    gqa_session *draft = m ? gqa_session_new(m, &o, &err) : NULL;
    TEST("a model") CHECK(s && draft, "%s", err.message);
    if (!s || !draft) return test_end();
    for (int with_draft = 0; with_draft < 2; with_draft++) {
        gqa_session *d = with_draft ? draft : NULL;
        TEST(d ? "what a draft gains" : "what lookup gains")
            for (size_t i = 0; i < sizeof free_rows / sizeof *free_rows; i++)
                check_gain(s, d, free_rows[i]);
        TEST(d ? "what a draft may lose" : "what lookup may lose")
            for (size_t i = 0; i < sizeof full_rows / sizeof *full_rows; i++)
                check_loss(s, d, full_rows[i]);
    }
    gqa_session_free(draft);
    gqa_session_free(s);
    gqa_model_close(m);
    return test_end();
}
