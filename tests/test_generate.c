/* test_generate.c: the sampler against the probabilities it should draw from, and generation on a
 * model whose every next token is known: UTF-8 split over tokens, stop strings over token borders,
 * the ends of a text. */
#include "chain.h"

/* ---- sampler --------------------------------------------------------------------------------- */

static int32_t draw_one(gqa_sampler_options o, const float *logits, int n) {
    gqa_sampler *s = gqa_sampler_new(&o, NULL);
    int32_t t = gqa_sampler_next(s, logits, n);
    gqa_sampler_free(s);
    return t;
}

enum { N_LOGITS = 5 };
static const float logits_of_5[N_LOGITS] = {0.5f, 2, -1, 2, NAN};

/* Draws from logits_of_5; the tokens of that set (bit i: token i) share the probability that
 * exp(logit / temperature) gives them, the others are never drawn. */
static void check_draws(gqa_sampler_options o, unsigned set) {
    enum { DRAWS = 20000 };
    int count[N_LOGITS] = {0};
    double weight[N_LOGITS] = {0}, sum = 0;
    for (int i = 0; i < N_LOGITS; i++)
        if (set >> i & 1) sum += weight[i] = exp((double)(logits_of_5[i] / o.temperature));
    gqa_sampler *s = gqa_sampler_new(&o, NULL);
    int32_t t = 0;
    for (int i = 0; i < DRAWS && t >= 0 && t < N_LOGITS; i++) {
        t = gqa_sampler_next(s, logits_of_5, N_LOGITS);
        if (t >= 0 && t < N_LOGITS) count[t]++;
    }
    CHECK(t >= 0 && t < N_LOGITS, "drew %d", t);
    for (int i = 0; i < N_LOGITS; i++) {
        double p = weight[i] / sum, share = (double)count[i] / DRAWS;
        double deviation = sqrt(p * (1 - p) / DRAWS);
        CHECK(p > 0 ? fabs(share - p) < 5 * deviation : count[i] == 0,
              "token %d drawn %d times of %d, probability %g", i, count[i], DRAWS, p);
    }
    gqa_sampler_free(s);
}
#define DRAWS_FROM(set, ...) check_draws((gqa_sampler_options){__VA_ARGS__}, set)

static void check_distributions(void) {
    enum { ALL = 1 | 2 | 4 | 8, THREE = 1 | 2 | 8, TWO = 2 | 8 };
    TEST("greedy takes the lowest of equals") {
        CHECK(draw_one((gqa_sampler_options){0}, logits_of_5, N_LOGITS) == 1, "another");
    }
    TEST("nothing finite") {
        static const float none[3] = {NAN, -INFINITY, NAN};
        int32_t greedy = draw_one((gqa_sampler_options){0}, none, 3);
        int32_t hot = draw_one((gqa_sampler_options){.temperature = 1, .top_p = 0.9f}, none, 3);
        CHECK(greedy == GQA_ERR_NUMERIC && hot == GQA_ERR_NUMERIC, "%d, %d", greedy, hot);
    }
    TEST("temperature 1") DRAWS_FROM(ALL, .temperature = 1, .seed = 1);
    TEST("temperature 2") DRAWS_FROM(ALL, .temperature = 2, .seed = 2);
    TEST("top-k 3") DRAWS_FROM(THREE, .temperature = 1, .top_k = 3, .seed = 3);
    TEST("top-p 0.8") DRAWS_FROM(TWO, .temperature = 1, .top_p = 0.8f, .seed = 4);
    TEST("top-p 0.9") DRAWS_FROM(THREE, .temperature = 1, .top_p = 0.9f, .seed = 5);
    TEST("min-p 0.1") DRAWS_FROM(THREE, .temperature = 1, .min_p = 0.1f, .seed = 6);
    /* weights 1, 1, 0.223, 0.050 of 2.273: two hold 0.8800, three 0.9781 */
    TEST("top-p 0.879") DRAWS_FROM(TWO, .temperature = 1, .top_p = 0.879f, .seed = 7);
    TEST("top-p 0.881") DRAWS_FROM(THREE, .temperature = 1, .top_p = 0.881f, .seed = 8);
    TEST("top-p 0.977") DRAWS_FROM(THREE, .temperature = 1, .top_p = 0.977f, .seed = 9);
    TEST("top-p 0.979") DRAWS_FROM(ALL, .temperature = 1, .top_p = 0.979f, .seed = 10);
    TEST("top-k 2") DRAWS_FROM(TWO, .temperature = 1, .top_k = 2, .seed = 11);
    TEST("top-k 4") DRAWS_FROM(ALL, .temperature = 1, .top_k = 4, .seed = 12);
    TEST("top-p is of what top-k left") /* two of three: 2 / 2.223 is 0.8997 */
        DRAWS_FROM(TWO, .temperature = 1, .top_k = 3, .top_p = 0.89f, .seed = 13);
    TEST("top-p of nearly nothing keeps one token") {
        gqa_sampler_options o = {.temperature = 1, .top_p = 1e-6f};
        CHECK(draw_one(o, logits_of_5, N_LOGITS) == 1, "another");
    }
    TEST("a tiny temperature is greedy") {
        gqa_sampler_options o = {.temperature = 1e-6f, .seed = 1};
        CHECK(draw_one(o, (float[3]){1, 2, 1.9f}, 3) == 1, "another");
    }
}

/* exp(0) is exactly 1, and a weight of exactly min-p stays. */
static void check_min_p_border(void) {
    int count[2] = {0};
    gqa_sampler_options o = {.temperature = 1, .min_p = 0.5f};
    gqa_sampler *s = gqa_sampler_new(&o, NULL);
    static const float half[2] = {0, -0.693147181f}; /* exp of it, as float, is 0.5f */
    CHECK((float)exp((double)half[1]) == 0.5f, "the border is exact");
    for (int i = 0; i < 100; i++) count[gqa_sampler_next(s, half, 2) == 1]++;
    CHECK(count[0] && count[1], "%d and %d: a weight of exactly min-p stays", count[0],
          count[1]);
    gqa_sampler_free(s);
}

static void check_penalty(void) {
    static const float logits[3] = {1, 1.5f, -3};
    gqa_sampler_options o = {.repeat_penalty = 2, .repeat_last = 2};
    gqa_sampler *s = gqa_sampler_new(&o, NULL);
    gqa_sampler_accept(s, 1);
    CHECK(gqa_sampler_next(s, logits, 3) == 0, "1.5 / 2 is below 1");
    gqa_sampler_accept(s, 2);
    gqa_sampler_accept(s, 2);
    CHECK(gqa_sampler_next(s, logits, 3) == 1, "forgotten after repeat_last tokens");
    gqa_sampler_free(s);
}

/* The token that a greedy sampler takes after it has accepted those ids [n]. */
static int32_t after(gqa_sampler_options o, const int32_t *accepted, int n, const float *logits) {
    gqa_sampler *s = gqa_sampler_new(&o, NULL);
    for (int i = 0; i < n; i++) gqa_sampler_accept(s, accepted[i]);
    int32_t t = gqa_sampler_next(s, logits, 3);
    gqa_sampler_free(s);
    return t;
}

static void check_penalty_values(void) {
    static const int32_t zero[] = {0, 0}, first[] = {1, 2, 2}, last[] = {2, 2, 1};
    gqa_sampler_options twice = {.repeat_penalty = 2};
    /* -1 becomes -2, not -0.5, so -1.5 is then the largest */
    CHECK(after(twice, zero, 1, (float[]){-1, -1.5f, -9}) == 1, "a negative logit is multiplied");
    /* 4 / 2 is above 1.5, 4 / 2 / 2 is not */
    CHECK(after(twice, zero, 2, (float[]){4, 1.5f, 0}) == 0, "a token seen twice counts once");
    /* 3 / 2 is below 2: token 1 is taken only where it is not penalised */
    gqa_sampler_options three = {.repeat_penalty = 2, .repeat_last = 3};
    gqa_sampler_options two = {.repeat_penalty = 2, .repeat_last = 2};
    CHECK(after(three, first, 3, (float[]){2, 3, 1}) == 0, "the first of the last 3 counts");
    CHECK(after(three, last, 3, (float[]){2, 3, 1}) == 0, "the last of the last 3 counts");
    CHECK(after(two, first, 3, (float[]){2, 3, 1}) == 1, "the third to last of 2 does not count");
}

static void check_seed(void) {
    enum { N = 64 };
    gqa_sampler_options o = {.temperature = 1, .seed = 99};
    gqa_sampler *a = gqa_sampler_new(&o, NULL), *b = gqa_sampler_new(&o, NULL);
    int same = 0, after_reset = 0;
    int32_t first[N];
    for (int i = 0; i < N; i++) {
        first[i] = gqa_sampler_next(a, logits_of_5, N_LOGITS);
        same += first[i] == gqa_sampler_next(b, logits_of_5, N_LOGITS);
    }
    gqa_sampler_reset(a, 99);
    for (int i = 0; i < N; i++)
        after_reset += first[i] == gqa_sampler_next(a, logits_of_5, N_LOGITS);
    CHECK(same == N && after_reset == N, "%d and %d of %d", same, after_reset, N);
    CHECK(gqa_sampler_next(a, logits_of_5, 0) < 0, "no logits");
    gqa_sampler_free(a);
    gqa_sampler_free(b);
}

static void check_sampler_options(void) {
    static const gqa_sampler_options bad[] = {
        {.temperature = -1}, {.temperature = NAN}, {.top_p = 1.5f},
        {.min_p = 1},        {.top_k = -1},        {.repeat_penalty = -2},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gqa_error err = {0};
        CHECK(!gqa_sampler_new(&bad[i], &err), "options %zu", i);
        CHECK(err.code == GQA_ERR_ARGUMENT, "options %zu: %s", i, err.message);
    }
}

/* ---- generation ------------------------------------------------------------------------------ */

/* A smile is F0 9F 98 80. */
enum { UNK, BOS, END, B_F0, B_9F, B_98, B_80, HE, LLO, MARK, B_C3, X, STO, P, LAST, SPACE, TOKENS };
static const chain_token vocabulary[TOKENS] = {
    [UNK] = {"<unk>", UNKNOWN},   [BOS] = {"<s>", CONTROL},     [END] = {"</s>", CONTROL},
    [B_F0] = {"<0xF0>", BYTE},    [B_9F] = {"<0x9F>", BYTE},    [B_98] = {"<0x98>", BYTE},
    [B_80] = {"<0x80>", BYTE},    [HE] = {"\u2581He", NORMAL},  [LLO] = {"llo", NORMAL},
    [MARK] = {"!", NORMAL},       [B_C3] = {"<0xC3>", BYTE},    [X] = {"x", NORMAL},
    [STO] = {"STO", NORMAL},      [P] = {"P", NORMAL},          [LAST] = {"end", NORMAL},
    [SPACE] = {"\u2581", NORMAL},
};
#define SMILE "\xF0\x9F\x98\x80"

/* What follows each token; 0 (<unk>) is never reached. */
static const int hello[TOKENS] = {
    [BOS] = HE, [HE] = LLO, [LLO] = B_F0, [B_F0] = B_9F, [B_9F] = B_98, [B_98] = B_80,
    [B_80] = MARK, [MARK] = END,
};
/* C3 is followed by x and is not UTF-8; STOP over two tokens. */
static const int broken[TOKENS] = {
    [BOS] = B_C3, [B_C3] = X, [X] = STO, [STO] = P, [P] = LAST, [LAST] = END,
};
static const int circle[TOKENS] = {[BOS] = LLO, [LLO] = LLO};

typedef struct heard {
    char text[256];
    size_t n;
    int calls, stop_at;
    gqa_session *late;       /* is cancelled with the rest of a cut character */
} heard;

static int hear(void *user, const char *text, size_t len) {
    heard *h = user;
    memcpy(h->text + h->n, text, len);
    h->n += len;
    h->text[h->n] = 0;
    h->calls++;
    if (h->late && text[0] == '\xF0') gqa_session_cancel(h->late);
    if (len > 0 && (text[0] & 0xC0) == 0x80) h->text[0] = '?'; /* it began inside a character */
    return h->stop_at && h->calls >= h->stop_at;
}

typedef struct expectation {
    const char *text;
    gqa_stop stop;
    int context;             /* of the session; 0: the default */
    const char *stop_string; /* NULL: none */
    int max_tokens;
} expectation;

static void check_text(const int *next, expectation e) {
    chain c = chain_open(vocabulary, next, TOKENS);
    gqa_session *s = gqa_session_new(c.model, &(gqa_session_options){.context = e.context}, NULL);
    gqa_sampler *greedy = gqa_sampler_new(NULL, NULL);
    const char *stops[] = {"nothing", e.stop_string};
    gqa_generate_options o = {.max_tokens = e.max_tokens, .stop = stops};
    gqa_generate_result r;
    gqa_error err = {0};
    memset(&r, 0xff, sizeof r);
    heard h = {.text = ""};
    o.n_stop = e.stop_string ? 2 : 0;
    int status = gqa_generate(s, greedy, "", &o, hear, &h, &r, &err);
    CHECK(status == 0, "status %d: %s", status, err.message);
    CHECK(r.stop == e.stop, "stop %d, expected %d", r.stop, e.stop);
    CHECK(r.proposed_tokens == 0 && r.speculation_gain == 0, "there was no speculation");
    for (int i = 0; i < 2; i++) CHECK(r.reserved[i] == 0, "reserved[%d] is not zero", i);
    CHECK(!strcmp(h.text, e.text), "heard \"%s\", expected \"%s\"", h.text, e.text);
    gqa_sampler_free(greedy);
    gqa_session_free(s);
    chain_close(&c);
}
#define SAYS(next, ...) check_text(next, (expectation){__VA_ARGS__})

static void check_ends(void) {
    TEST("to the end") SAYS(hello, .text = "Hello" SMILE "!", .stop = GQA_STOP_END);
    TEST("max_tokens: a character that it cuts is passed on, not lost") {
        SAYS(hello, .text = "Hello\xF0\x9F", .stop = GQA_STOP_LENGTH, .max_tokens = 4);
    }
    TEST("max_tokens") SAYS(circle, .text = "llollollo", .stop = GQA_STOP_LENGTH, .max_tokens = 3);
    TEST("context full") {
        SAYS(hello, .text = "Hello\xF0\x9F\x98", .stop = GQA_STOP_CONTEXT, .context = 5);
    }
    TEST("a broken character is passed on as it is") {
        SAYS(broken, .text = "\xC3xSTOPend", .stop = GQA_STOP_END);
    }
    TEST("a stop string over two tokens") {
        SAYS(broken, .text = "\xC3x", .stop = GQA_STOP_STRING, .stop_string = "STOP");
    }
    TEST("a stop string over five tokens") {
        SAYS(hello, .text = "Hel", .stop = GQA_STOP_STRING, .stop_string = "lo" SMILE);
    }
    TEST("a stop string that does not come after all") {
        SAYS(hello, .text = "Hello" SMILE "!", .stop = GQA_STOP_END, .stop_string = "lo" SMILE "?");
    }
}

/* END (or what user points to) above X, as long as neither is penalised. */
static int end_above_x(void *user, const int32_t *tokens, int n_tokens, float *logits, int n) {
    const int *top = user;
    (void)tokens;
    (void)n_tokens;
    for (int i = 0; i < n; i++) logits[i] = i == (top ? *top : END) ? 1 : i == X ? 0.9f : 0;
    return 0;
}

static void check_template_tokens(void) {
    TEST("control tokens are not penalised as repeated text") {
        chain c = chain_open(vocabulary, hello, TOKENS);
        gqa_session *s = gqa_session_new(c.model, NULL, NULL);
        gqa_sampler *penal = gqa_sampler_new(&(gqa_sampler_options){.repeat_penalty = 2}, NULL);
        gqa_generate_options o = {.max_tokens = 1, .on_logits = end_above_x};
        gqa_generate_result r = {0};
        int32_t prompt[] = {BOS, HE, END, BOS, HE};
        int status = gqa_generate_tokens(s, penal, prompt, 5, &o, NULL, NULL, &r, NULL);
        CHECK(status == 0 && r.stop == GQA_STOP_END, "status %d, stop %d", status, r.stop);
        int of_text = HE;
        gqa_session_rewind(s, 0, NULL);
        gqa_sampler_reset(penal, 0);
        status = gqa_generate_tokens(s, penal, prompt, 5, &o, NULL, &of_text, NULL, NULL);
        CHECK(status == 0 && gqa_session_tokens(s)[5] == X, "\"He\" of the prompt comes again");
        gqa_sampler_free(penal);
        gqa_session_free(s);
        chain_close(&c);
    }
}

static int note_llo(void *user, const int32_t *tokens, int n_tokens, float *logits, int n) {
    (void)tokens;
    (void)n_tokens;
    (void)n;
    *(float *)user = logits[LLO];
    return 0;
}

static void check_banned(void) {
    gqa_error err = {0};
    chain c = chain_make(vocabulary, circle, TOKENS, LLO, &err);
    gqa_session *s = c.model ? gqa_session_new(c.model, NULL, &err) : NULL;
    gqa_sampler *greedy = gqa_sampler_new(NULL, NULL);
    gqa_generate_options o = {.max_tokens = 2};
    heard h = {.text = ""};
    float noted = 0;
    CHECK(s && !gqa_generate(s, greedy, "", &o, hear, &h, NULL, &err), "%s", err.message);
    CHECK(!strcmp(h.text, "<unk><unk>"), "heard \"%s\"", h.text);
    o.on_logits = note_llo;
    gqa_session_rewind(s, 0, NULL);
    CHECK(!gqa_generate(s, greedy, "", &o, NULL, &noted, NULL, &err), "%s", err.message);
    CHECK(isinf(noted) && noted < 0, "on_logits is shown %g", (double)noted);
    gqa_sampler_free(greedy);
    gqa_session_free(s);
    chain_close(&c);
    c = chain_make(vocabulary, circle, TOKENS, TOKENS, &err);
    CHECK(!c.model, "opened");
    CHECK_HAS(err.message, "suppress_tokens: token 16, expected 0 to 15");
    chain_close(&c);
}

static void check_caller(void) {
    chain c = chain_open(vocabulary, hello, TOKENS);
    gqa_session *s = gqa_session_new(c.model, NULL, NULL);
    gqa_sampler *greedy = gqa_sampler_new(NULL, NULL);
    TEST("the caller stops") {
        gqa_generate_result r = {0};
        heard h = {.stop_at = 1};
        int status = gqa_generate(s, greedy, "", NULL, hear, &h, &r, NULL);
        CHECK(status == 0 && r.stop == GQA_STOP_CALLER, "status %d, stop %d", status, r.stop);
        CHECK(!strcmp(h.text, "He"), "heard \"%s\"", h.text);
    }
    TEST("a cancel ends with what it cancelled") {
        const gqa_generate_options four = {.max_tokens = 4};
        const int32_t token = 1;
        heard h = {.late = s}, again = {0};
        gqa_session_rewind(s, 0, NULL);
        gqa_session_cancel(s); /* nothing runs */
        int status = gqa_generate(s, greedy, "", &four, hear, &h, NULL, NULL);
        CHECK(status == 0 && !strcmp(h.text, "Hello\xF0\x9F"), "heard \"%s\"", h.text);
        CHECK(gqa_session_eval(s, &token, 1, NULL) == 0, "hear cancelled after the last eval");
        gqa_session_rewind(s, 0, NULL);
        status = gqa_generate(s, greedy, "", &four, hear, &again, NULL, NULL);
        CHECK(status == 0 && !strcmp(again.text, h.text), "heard \"%s\"", again.text);
    }
    TEST("a prompt longer than the context") {
        gqa_error err = {0};
        char prompt[100];
        memset(prompt, 'x', sizeof prompt);
        prompt[99] = 0;
        gqa_session_rewind(s, 0, NULL);
        int status = gqa_generate(s, greedy, prompt, NULL, NULL, NULL, NULL, &err);
        CHECK(status == GQA_ERR_CONTEXT, "status %d: %s", status, err.message);
        CHECK_HAS(err.message, "context full");
    }
    gqa_sampler_free(greedy);
    gqa_session_free(s);
    chain_close(&c);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_distributions();
    TEST("repetition penalty") check_penalty();
    TEST("repetition penalty: values") check_penalty_values();
    TEST("min-p at the border") check_min_p_border();
    TEST("a seed gives one sequence") check_seed();
    TEST("sampler options that are refused") check_sampler_options();
    check_ends();
    check_caller();
    check_template_tokens();
    TEST("tokens that the file bans") check_banned();
    return test_end();
}
