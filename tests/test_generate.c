/* test_generate.c: the sampler against the probabilities it should draw from, and generation on a model whose every next
 * token is known: UTF-8 split over tokens, stop strings over token borders, the ends of a text. */
#include "test.h"

#include "../formats/gguf.h"

/* ---- sampler ----------------------------------------------------------------------------------------------------- */

static int32_t pick(const gqa_sampler_options *o, const float *logits, int n) {
    gqa_sampler *s = gqa_sampler_new(o, NULL);
    int32_t t = gqa_sampler_next(s, logits, n);
    gqa_sampler_free(s);
    return t;
}

/* Shares of draws against p [n]; p 0 must never be drawn. */
static void draws(const gqa_sampler_options *o, const float *logits, const double *p, int n, const char *what) {
    enum { DRAWS = 20000 };
    int count[16] = {0};
    gqa_sampler *s = gqa_sampler_new(o, NULL);
    for (int i = 0; i < DRAWS; i++) {
        int32_t t = gqa_sampler_next(s, logits, n);
        if (!CHECK(t >= 0 && t < n, "%s: drew %d", what, t)) break;
        count[t]++;
    }
    for (int i = 0; i < n; i++) {
        double deviation = sqrt(p[i] * (1 - p[i]) / DRAWS);
        CHECK(p[i] > 0 ? fabs((double)count[i] / DRAWS - p[i]) < 5 * deviation : count[i] == 0, "%s: token %d drawn %d times of %d, probability %g", what, i, count[i], DRAWS, p[i]);
    }
    gqa_sampler_free(s);
}

static void test_sampler(void) {
    static const float logits[5] = {0.5f, 2, -1, 2, NAN};
    CHECK(pick(NULL, logits, 5) == 1, "greedy takes the lowest of equals");
    static const float none[3] = {NAN, -INFINITY, NAN};
    int32_t t = pick(NULL, none, 3);
    CHECK(t >= 0 && t < 3, "nothing finite: %d", t);
    double e[5] = {exp(0.5), exp(2), exp(-1), exp(2), 0}, sum = e[0] + e[1] + e[2] + e[3];
    double plain[5] = {e[0] / sum, e[1] / sum, e[2] / sum, e[3] / sum, 0};
    draws(&(gqa_sampler_options){.temperature = 1, .seed = 1}, logits, plain, 5, "temperature 1");
    double h[4] = {exp(0.25), exp(1), exp(-0.5), exp(1)}, hs = h[0] + h[1] + h[2] + h[3];
    draws(&(gqa_sampler_options){.temperature = 2, .seed = 2}, logits, (double[5]){h[0] / hs, h[1] / hs, h[2] / hs, h[3] / hs, 0}, 5, "temperature 2");
    double k = e[0] + e[1] + e[3];
    draws(&(gqa_sampler_options){.temperature = 1, .top_k = 3, .seed = 3}, logits, (double[5]){e[0] / k, e[1] / k, 0, e[3] / k, 0}, 5, "top-k 3");
    draws(&(gqa_sampler_options){.temperature = 1, .top_p = 0.8f, .seed = 4}, logits, (double[5]){0, 0.5, 0, 0.5, 0}, 5, "top-p 0.8");
    draws(&(gqa_sampler_options){.temperature = 1, .top_p = 0.9f, .seed = 5}, logits, (double[5]){e[0] / k, e[1] / k, 0, e[3] / k, 0}, 5, "top-p 0.9");
    draws(&(gqa_sampler_options){.temperature = 1, .min_p = 0.1f, .seed = 6}, logits, (double[5]){e[0] / k, e[1] / k, 0, e[3] / k, 0}, 5, "min-p 0.1");
    CHECK(pick(&(gqa_sampler_options){.temperature = 1, .top_p = 1e-6f}, logits, 5) == 1, "top-p of nearly nothing keeps one token");
    CHECK(pick(&(gqa_sampler_options){.temperature = 1e-6f, .seed = 1}, (float[3]){1, 2, 1.9f}, 3) == 1, "a tiny temperature is greedy");

    gqa_sampler *s = gqa_sampler_new(&(gqa_sampler_options){.repeat_penalty = 2, .repeat_last = 2}, NULL);
    static const float two[3] = {1, 1.5f, -3};
    gqa_sampler_accept(s, 1);
    CHECK(gqa_sampler_next(s, two, 3) == 0, "1.5 / 2 is below 1");
    gqa_sampler_accept(s, 2), gqa_sampler_accept(s, 2);
    CHECK(gqa_sampler_next(s, two, 3) == 1, "forgotten after repeat_last tokens");
    gqa_sampler_free(s);

    gqa_sampler_options o = {.temperature = 1, .seed = 99};
    gqa_sampler *a = gqa_sampler_new(&o, NULL), *b = gqa_sampler_new(&o, NULL);
    int same = 0, after_reset = 0;
    int32_t first[64];
    for (int i = 0; i < 64; i++) first[i] = gqa_sampler_next(a, logits, 5), same += first[i] == gqa_sampler_next(b, logits, 5);
    gqa_sampler_reset(a, 99);
    for (int i = 0; i < 64; i++) after_reset += first[i] == gqa_sampler_next(a, logits, 5);
    CHECK(same == 64 && after_reset == 64, "a seed gives one sequence: %d and %d of 64", same, after_reset);
    CHECK(gqa_sampler_next(a, logits, 0) < 0, "no logits");
    gqa_sampler_free(a), gqa_sampler_free(b);

    gqa_error err = {0};
    static const gqa_sampler_options bad[] = {{.temperature = -1}, {.temperature = NAN}, {.top_p = 1.5f}, {.min_p = 1}, {.top_k = -1}, {.repeat_penalty = -2}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(!gqa_sampler_new(&bad[i], &err) && err.code == GQA_ERR_ARGUMENT, "options %zu", i);
}

/* ---- a model that says its vocabulary in order -------------------------------------------------------------------- */

static const char *const pieces[] = {"<unk>", "<s>", "</s>", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "\xE2\x96\x81" "He", "llo", "!", "<0xC3>", "x", "STO", "P", "end", "\xE2\x96\x81"};
static const int32_t types[] = {2, 3, 3, 6, 6, 6, 6, 1, 1, 1, 6, 1, 1, 1, 1, 1};
enum { N = 32, N_PIECES = 16 };

/* chain[i] follows token i. One layer whose matrices are zero, an embedding of unit vectors, and a classifier that maps
 * the vector of i to chain[i]. */
static uint8_t *chain_image; /* of the model that is open */
static void close_chain(gqa_model *m) {
    gqa_model_close(m);
    free(chain_image);
}
static gqa_model *chain_model(const int *chain) {
    gqa_error err = {0};
    gguf_writer *w = gguf_writer_new(NULL, &err);
    gqa_config c = {.architecture = "llama", .dim = N, .n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = N, .ffn_dim = N,
                    .vocab_size = N_PIECES, .context_length = 64, .rope_dim = N, .rope_theta = 10000, .norm_eps = 1e-5f};
    gqa_bytes names[N_PIECES];
    float scores[N_PIECES], zeros[N * N] = {0}, ones[N], table[N_PIECES * N] = {0}, head[N_PIECES * N] = {0};
    for (int i = 0; i < N_PIECES; i++) names[i] = (gqa_bytes){pieces[i], strlen(pieces[i])}, scores[i] = (float)-i;
    for (int i = 0; i < N; i++) ones[i] = 1;
    for (int i = 0; i < N_PIECES; i++) table[i * N + i] = 1, head[chain[i] * N + i] = 1;
    gguf_put_config(w, &c);
    gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_strings(w, "tokenizer.ggml.tokens", names, N_PIECES);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, N_PIECES);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, N_PIECES);
    gguf_put_int(w, "tokenizer.ggml.bos_token_id", GGUF_U32, 1);
    gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, 2);
    gguf_put_int(w, "tokenizer.ggml.unknown_token_id", GGUF_U32, 0);
    static const struct { const char *name; int rows; } tensors[] = {
        {"token_embd.weight", N_PIECES}, {"output.weight", N_PIECES}, {"output_norm.weight", 0}, {"blk.0.attn_norm.weight", 0},
        {"blk.0.ffn_norm.weight", 0}, {"blk.0.attn_q.weight", N}, {"blk.0.attn_k.weight", N}, {"blk.0.attn_v.weight", N},
        {"blk.0.attn_output.weight", N}, {"blk.0.ffn_gate.weight", N}, {"blk.0.ffn_up.weight", N}, {"blk.0.ffn_down.weight", N}};
    enum { N_TENSORS = sizeof tensors / sizeof *tensors };
    for (int i = 0; i < N_TENSORS; i++)
        gguf_declare_tensor(w, tensors[i].name, GQA_TYPE_F32, tensors[i].rows ? 2 : 1, (uint64_t[]){N, (uint64_t)tensors[i].rows});
    for (int i = 0; i < N_TENSORS; i++)
        gguf_write_tensor_data(w, i == 0 ? table : i == 1 ? head : tensors[i].rows ? zeros : ones, sizeof(float) * N * (size_t)(tensors[i].rows ? tensors[i].rows : 1));
    uint8_t *data = NULL;
    size_t size = 0;
    gqa_model *m = gguf_finish_memory(w, &data, &size, &err) == 0 ? gqa_model_from_memory(data, size, NULL, &err) : NULL;
    if (!m) CHECK(0, "%s", err.message), exit(test_end());
    chain_image = data;
    return m;
}

typedef struct heard {
    char text[256];
    size_t n;
    int calls, stop_at;
} heard;
static int hear(void *user, const char *text, size_t len) {
    heard *h = user;
    memcpy(h->text + h->n, text, len);
    h->text[h->n += len] = 0;
    h->calls++;
    for (size_t i = 0; i < len; i++)
        if ((text[i] & 0xC0) == 0x80 && i == 0) h->text[0] = '?'; /* a call began inside a character */
    return h->stop_at && h->calls >= h->stop_at;
}

static void expect(const int *chain, const gqa_generate_options *o, int context, gqa_stop stop, const char *text, const char *what) {
    gqa_model *m = chain_model(chain);
    gqa_session_options so = {.context = context};
    gqa_session *s = gqa_session_new(m, &so, NULL);
    gqa_sampler *greedy = gqa_sampler_new(NULL, NULL);
    gqa_generate_result r;
    gqa_error err = {0};
    heard h = {.text = ""};
    int status = gqa_generate(s, greedy, "", o, hear, &h, &r, &err);
    CHECK(status == 0 && r.stop == stop, "%s: status %d %s, stop %d, expected %d", what, status, err.message, r.stop, stop);
    CHECK(!strcmp(h.text, text), "%s: heard \"%s\", expected \"%s\"", what, h.text, text);
    gqa_sampler_free(greedy);
    gqa_session_free(s);
    close_chain(m);
}

static void test_generation(void) {
    /* <s> -> Hello, a smile in four tokens, "!", </s> */
    int chain[N_PIECES] = {2, 7, 2, 4, 5, 6, 9, 8, 3, 2, 2, 2, 2, 2, 2, 2};
    gqa_generate_options o = {0};
    expect(chain, &o, 0, GQA_STOP_END, "Hello\xF0\x9F\x98\x80!", "to the end");
    o.max_tokens = 4;
    expect(chain, &o, 0, GQA_STOP_LENGTH, "Hello\xF0\x9F", "a character cut by the length is passed on, not lost");
    o.max_tokens = 0;
    expect(chain, &o, 5, GQA_STOP_CONTEXT, "Hello\xF0\x9F\x98", "context full");
    const char *stops[] = {"nothing", "lo\xF0\x9F\x98\x80"};
    o.stop = stops, o.n_stop = 2;
    expect(chain, &o, 0, GQA_STOP_STRING, "Hel", "a stop string over five tokens");
    const char *almost[] = {"lo\xF0\x9F\x98\x80?"};
    o.stop = almost, o.n_stop = 1;
    expect(chain, &o, 0, GQA_STOP_END, "Hello\xF0\x9F\x98\x80!", "a stop string that does not come after all");
    /* x STO P end: C3 is followed by x and is not UTF-8; "STOP" over two tokens */
    int broken[N_PIECES] = {2, 10, 2, 2, 2, 2, 2, 2, 2, 2, 11, 12, 13, 14, 2, 2};
    o = (gqa_generate_options){0};
    expect(broken, &o, 0, GQA_STOP_END, "\xC3xSTOPend", "a broken character is passed on as it is");
    const char *stop[] = {"STOP"};
    o.stop = stop, o.n_stop = 1;
    expect(broken, &o, 0, GQA_STOP_STRING, "\xC3x", "STOP");
    /* round and round: only the context ends it */
    int circle[N_PIECES] = {2, 8, 2, 2, 2, 2, 2, 2, 8, 2, 2, 2, 2, 2, 2, 2};
    o = (gqa_generate_options){.max_tokens = 3};
    expect(circle, &o, 0, GQA_STOP_LENGTH, "llollollo", "length");

    gqa_model *m = chain_model(chain);
    gqa_session *s = gqa_session_new(m, NULL, NULL);
    gqa_sampler *greedy = gqa_sampler_new(NULL, NULL);
    gqa_generate_result r;
    heard h = {.stop_at = 1};
    CHECK(gqa_generate(s, greedy, "", NULL, hear, &h, &r, NULL) == 0 && r.stop == GQA_STOP_CALLER && !strcmp(h.text, "He"), "the caller stops: \"%s\"", h.text);
    gqa_session_rewind(s, 0, NULL);
    gqa_error err = {0};
    char prompt[100];
    memset(prompt, 'x', sizeof prompt), prompt[99] = 0;
    CHECK(gqa_generate(s, greedy, prompt, NULL, hear, &h, &r, &err) == GQA_ERR_CONTEXT, "a prompt longer than the context: %s", err.message);
    gqa_sampler_free(greedy);
    gqa_session_free(s);
    close_chain(m);
}

int main(void) {
    test_sampler();
    test_generation();
    return test_end();
}
