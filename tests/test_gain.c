/* test_gain.c: what speculation believes to gain, and what it may lose, with a clock of the test's:
 * speculate.c is compiled into this program, and takes the time from it. */
#include "sessions.h"

static double clock_seconds(void);
#define gqa_os_seconds clock_seconds
#include "../speculate.c"
#undef gqa_os_seconds

/* A pass reads the clock three times: at its start, when there are proposals, at its end. Then its
 * cost has passed: cold for the first, else 1 for one row and `each` for every other. */
static struct {
    const gqa_session *session;
    double now, cold, each;
    int calls;
} fake;

static double clock_seconds(void) {
    const int call = fake.calls++;
    const int proposed = fake.session->n_ahead > 0 ? fake.session->n_ahead : 0;
    if (call == 2) fake.now += fake.cold;
    else if (call % 3 == 2) fake.now += 1 + fake.each * proposed;
    return fake.now;
}

/* n tokens after a prompt that repeats itself, proposals by lookup, as many as pay. */
static gqa_generate_result generate(gqa_session *s, double cold, double each, int n) {
    enum { N_PROMPT = 40 };
    gqa_error err = {0};
    gqa_generate_result result;
    const gqa_generate_options options = {.max_tokens = n, .lookup = 1, .ignore_end = 1};
    gqa_sampler *sampler = gqa_sampler_new(&(gqa_sampler_options){0}, &err);
    int32_t prompt[N_PROMPT];
    random_tokens(prompt, N_PROMPT, 7);
    for (int i = 17; i < N_PROMPT; i++) prompt[i] = prompt[i % 17];
    gqa_session_rewind(s, 0, NULL);
    memset(&fake, 0, sizeof fake);
    fake.session = s;
    fake.cold = cold;
    fake.each = each;
    CHECK(gqa_generate_tokens(s, sampler, prompt, N_PROMPT, &options, NULL, NULL, &result, &err) >=
          0, "%s", err.message);
    const int passes = fake.calls / 3;
    CHECK(result.generated_tokens == n && fake.calls == 3 * passes, "%d tokens, the clock was read "
          "%d times", result.generated_tokens, fake.calls);
    gqa_sampler_free(sampler);
    return result;
}

int main(int argc, char **argv) {
    enum { TOKENS = 600 };
    test_start(argc, argv);
    const gqa_config c = {
        .dim = 64, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 32, .ffn_dim = 64,
        .vocab_size = VOCAB, .context_length = 700,
    };
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_F32, 5, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &(gqa_session_options){.n_threads = 1}, &err) : NULL;
    TEST("a model") CHECK(s, "%s", err.message);
    if (!s) return test_end();
    TEST("the gain is that over passes of one row, not over the first pass") {
        for (int cold = 1; cold < 20; cold += 6) {
            const gqa_generate_result r = generate(s, cold, 0, TOKENS);
            const double want = TOKENS / (double)(TOKENS - r.accepted_tokens - 1 + cold);
            CHECK(r.accepted_tokens > TOKENS / 2, "%d accepted", r.accepted_tokens);
            CHECK(fabs(r.speculation_gain - want) < 1e-9, "first pass of %d: gain %.4f, expected "
                  "%.4f", cold, r.speculation_gain, want);
        }
    }
    TEST("where a pass of n rows takes as long as n, little is lost") {
        for (int cold = 1; cold < 20; cold += 6) {
            const gqa_generate_result r = generate(s, cold, 1, TOKENS);
            CHECK(fake.now < 1.03 * TOKENS + cold, "first pass of %d: %.0f, without %d", cold,
                  fake.now, TOKENS - 1 + cold);
            CHECK(r.proposed_tokens > 0, "nothing was tried");
        }
    }
    gqa_session_free(s);
    gqa_model_close(m);
    return test_end();
}
