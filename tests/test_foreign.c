/* test_foreign.c: tiny models of every architecture, kind of RoPE scaling and tensor type, against
 * llama.cpp's logits of them (tests/golden/llama-cpp-logits.txt): every instruction set, in prefill
 * and in decoding. The models are made by tests/golden/make_models.py, which needs python3. */
#include "test.h"

#include <unistd.h>

#include "../model.h"

/* The largest differences allowed: of logits, whose root mean square is 2 to 3, and of the log of
 * the sum of their exponentials, relative. Where all is f32 on both sides, those seen are at most
 * 3e-5 (6e-5 with 27 layers). llama.cpp's GELU is a table of f16. It rounds activations to f16 or
 * bf16 where the weights are (seen: 0.004 and 2e-4, 0.022 and 2e-4), and for quantised weights to 8
 * bits, as this program does in blocks of its own (seen: up to 0.14 and 0.009). */
static const struct tolerance {
    const char *prefix;
    double logits, sum;
} tolerances[] = {
    {"gemma", 4e-3, 1e-3}, {"type-f16", 0.01, 0.002}, {"type-bf16", 0.05, 0.002},
    {"type-", 0.25, 0.02}, {"deepseek2-lite", 2e-4, 2e-4}, {"", 5e-5, 5e-5},
};

static struct tolerance tolerance_of(const char *name) {
    const struct tolerance *t = tolerances;
    while (strncmp(name, t->prefix, strlen(t->prefix))) t++;
    return *t;
}

enum { MAX_MODELS = 40, MAX_TOKENS = 64, MAX_VOCAB = 64 };
static const char golden_path[] = "tests/golden/llama-cpp-logits.txt";
static char folder[TEST_PATH]; /* of the models */
static const char *const isas[] = {"scalar", "avx2", "avxvnni", "avx512", "neon"};

typedef struct golden_model {
    char name[64];
    int best, n;
    double logits[MAX_VOCAB];
} golden_model;

static struct {
    int32_t tokens[MAX_TOKENS];
    golden_model models[MAX_MODELS];
    int n_tokens, n_models;
} golden;

/* The numbers of a line; returns how many. */
static int read_numbers(const char *text, double *out, int max) {
    int n = 0;
    char *end;
    for (double value = strtod(text, &end); end != text && n < max; value = strtod(text, &end)) {
        out[n++] = value;
        text = end;
    }
    return n;
}

static void read_line(const char *line) {
    golden_model *model = golden.n_models ? &golden.models[golden.n_models - 1] : golden.models;
    double numbers[MAX_TOKENS];
    if (!strncmp(line, "tokens ", 7)) {
        golden.n_tokens = read_numbers(line + 7, numbers, MAX_TOKENS);
        for (int i = 0; i < golden.n_tokens; i++) golden.tokens[i] = (int32_t)numbers[i];
    }
    if (!strncmp(line, "model ", 6) && golden.n_models < MAX_MODELS)
        snprintf(golden.models[golden.n_models++].name, sizeof model->name, "%.60s", line + 6);
    if (!strncmp(line, "best ", 5)) model->best = atoi(line + 5);
    if (!strncmp(line, "logits ", 7))
        model->n += read_numbers(line + 7, model->logits + model->n, MAX_VOCAB - model->n);
}

static void read_golden(void) {
    char line[512];
    FILE *f = fopen(golden_path, "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        read_line(line);
    }
    if (f) fclose(f);
}

static void compare_logits(const golden_model *want, const float *got, const char *what) {
    int best = 0;
    double worst = 0, sum = 0, wanted_sum = 0;
    for (int i = 0; i < want->n; i++) {
        if (got[i] > got[best]) best = i;
        worst = test_worse(fabs((double)got[i] - want->logits[i]), worst);
        sum += exp((double)got[i]);
        wanted_sum += exp(want->logits[i]);
    }
    CHECK(best == want->best, "%s: likeliest is %d, llama.cpp says %d", what, best, want->best);
    struct tolerance t = tolerance_of(want->name);
    CHECK(worst < t.logits, "%s: %g from llama.cpp, at most %g", what, worst, t.logits);
    double relative = fabs(log(sum) / log(wanted_sum) - 1);
    CHECK(relative < t.sum, "%s: log-sum-exp differs by %g, at most %g", what, relative, t.sum);
}

/* The prompt, n tokens a call. */
static void eval(const gqa_model *model, const golden_model *want, int n, const char *what) {
    gqa_error err = {0};
    gqa_session_options options = {.context = MAX_TOKENS, .kv = "f32", .n_threads = 2};
    gqa_session *s = gqa_session_new(model, &options, &err);
    int status = s ? 0 : err.code;
    for (int i = 0; i < golden.n_tokens && !status; i += n)
        status = gqa_session_eval(s, golden.tokens + i, n, &err);
    if (CHECK(status == 0, "%s: %s", what, err.message))
        compare_logits(want, gqa_session_logits(s), what);
    gqa_session_free(s);
}

/* Half of the prompt, the rest in a copy and in a session that was saved and loaded. */
static void eval_halves(const gqa_model *model, const golden_model *want) {
    gqa_error err = {0};
    gqa_session_options options = {.context = MAX_TOKENS, .kv = "f32", .n_threads = 2};
    int half = golden.n_tokens / 2, rest = golden.n_tokens - half;
    void *data = NULL;
    size_t size = 0;
    gqa_session *first = gqa_session_new(model, &options, &err);
    for (int i = 0; i < 2; i++) {
        gqa_session *s = gqa_session_new(model, &options, &err);
        int status = gqa_session_rewind(first, 0, &err);
        if (!status) status = gqa_session_eval(first, golden.tokens, half, &err);
        if (!status && i == 0) status = gqa_session_copy(s, first, half, &err);
        if (!status && i == 1) status = gqa_session_save_memory(first, &data, &size, &err);
        if (!status && i == 1) status = gqa_session_load_memory(s, data, size, &err);
        if (!status) status = gqa_session_eval(s, golden.tokens + half, rest, &err);
        if (CHECK(status == 0, "%s", err.message))
            compare_logits(want, gqa_session_logits(s), i ? "saved and loaded" : "copied");
        gqa_session_free(s);
    }
    gqa_free(data);
    gqa_session_free(first);
}

static void check_model(const golden_model *want) {
    char path[TEST_PATH + 64];
    snprintf(path, sizeof path, "%s/%s", folder, want->name);
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        gqa_error err = {0};
        gqa_model *model = gqa_model_open(path, &(gqa_model_options){.isa = isas[i]}, &err);
        if (!model) {
            CHECK(i > 0 && err.code == GQA_ERR_UNSUPPORTED, "%s: %s", isas[i], err.message);
            continue;
        }
        CHECK(gqa_vocab_size(model) == want->n, "%d ids", gqa_vocab_size(model));
        eval(model, want, golden.n_tokens, isas[i]);
        eval(model, want, 1, isas[i]);
        if (i == 0) eval_halves(model, want);
        gqa_model_close(model);
    }
    remove(path);
}

/* A file with `value` written `skip` bytes after the end of `text`, which is in it once. */
static void check_patched(const char *name, const char *text, size_t skip, int value,
                          const char *message) {
    char path[TEST_PATH + 64];
    static char data[1 << 19];
    gqa_error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    size_t size = f ? fread(data, 1, sizeof data, f) : 0, n = strlen(text), at = 0;
    if (f) fclose(f);
    while (at + n < size && memcmp(data + at, text, n)) at++;
    if (!CHECK(at + n + skip < size, "%s is not in %s", text, path)) return;
    data[at + n + skip] = (char)value;
    gqa_model *m = gqa_model_from_memory(data, size, NULL, &err);
    CHECK(!m, "opened with another %s", text);
    CHECK_HAS(err.message, message);
    gqa_model_close(m);
}

/* A model of latent attention whose rows have 32 + 8 numbers; NULL after a failed check. */
static gqa_model *open_deepseek2(const char *name) {
    char path[TEST_PATH + 64];
    gqa_error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    gqa_model *m = gqa_model_open(path, NULL, &err);
    if (CHECK(m != NULL, "%s", err.message)) {
        uint64_t bytes = gqa_model_kv_bytes(m, GQA_TYPE_F16, 5);
        CHECK(bytes == 5 * 2 * 2 * (32 + 8), "%d bytes: one row for all heads", (int)bytes);
    }
    return m;
}

/* What deepseek2.gguf caches, and damage to the keys and tensors of latent attention alone. */
static void check_deepseek2(void) {
    static const char name[] = "deepseek2.gguf";
    gqa_error err = {0};
    gqa_model *m = open_deepseek2(name);
    if (m) {
        const gqa_session_options two = {.kv = "f32/f16"};
        CHECK(!gqa_session_new(m, &two, &err), "two types for one row");
        CHECK_HAS(err.message, "f32/f16: keys are values here too, of one type");
    }
    gqa_model_close(m);
    check_patched(name, "attention.kv_lora_rank", 4, 64, "expected kv_lora_rank 64 + ");
    check_patched(name, "attention.kv_lora_ran", 0, 'X', "expected kv_lora_rank 0 + ");
    check_patched(name, "attention.head_count_kv", 4, 2, "head_count_kv is not 1");
    check_patched(name, "attention.key_length_mla", 4, 8, "key_length_mla 8, expected more than 8");
    check_patched(name, "attention.head_count_k", 0, 'X', "head_count_kv is missing");
    check_patched(name, "rope.dimension_coun", 0, 'X', "rope.dimension_count is missing");
    check_patched(name, "attention.key_length_ml", 0, 'X', "key_length_mla is missing");
    check_patched(name, "attention.value_length_mla", 4, 24, "value_length_mla 24, expected mult");
    check_patched(name, "attention.q_lora_rank", 4, 16, "blk.0.attn_q_a.weight: expected shape");
    check_patched(name, "blk.1.attn_k_", 0, 'X', "tensor blk.1.attn_k_b.weight is missing");
    check_patched(name, "blk.0.attn_kv_a_nor", 0, 'X', "blk.0.attn_kv_a_norm.weight is missing");
}

/* Files of before 2025: as the others, refused where a shape or a key is wrong, not converted. */
static void check_old_deepseek2(void) {
    static const char name[] = "deepseek2-old.gguf";
    gqa_model_close(open_deepseek2(name));
    check_patched(name, "attention.kv_lora_rank", 4, 48, "expected shape");
    check_patched(name, "attention.kv_lora_rank", 4, 255, "expected");
    check_patched(name, "attention.head_count_kv", 4, 2, "head_count_kv is not 1");
    check_patched(name, "attention.value_length", 4, 32, "blk.0.attn_kv_b.weight: expected shape");
    check_patched(name, "blk.1.attn_kv_b.weigh", 0, 'X', "blk.1.attn_k_b.weight is missing");
}

/* Sessions of gemma4.gguf in one pass, whose last layers are computed for a row each, beside the
 * same tokens one by one. */
static void check_gemma4_together(gqa_model *m) {
    enum { SESSIONS = 3 };
    int counts[SESSIONS] = {40, 1, 3}, n_vocab = gqa_model_config(m)->vocab_size, first = 0;
    int32_t tokens[40 + 1 + 3];
    gqa_session *s[SESSIONS], *alone = gqa_session_new(m, NULL, NULL);
    for (int i = 0; i < 44; i++) tokens[i] = i * 7 % n_vocab;
    for (int i = 0; i < SESSIONS; i++) s[i] = gqa_session_new(m, NULL, NULL);
    CHECK(!gqa_sessions_eval_many(s, SESSIONS, tokens, counts, NULL), "44 tokens");
    for (int i = 0; i < SESSIONS; first += counts[i++]) {
        gqa_session_rewind(alone, 0, NULL);
        for (int j = 0; j < counts[i]; j++) gqa_session_eval(alone, tokens + first + j, 1, NULL);
        const float *want = gqa_session_logits(alone), *got = gqa_session_logits(s[i]);
        double error = 0;
        for (int v = 0; v < n_vocab; v++)
            error = test_worse(error, fabs((double)got[v] - (double)want[v]));
        CHECK(error < 1e-3, "session %d: %g", i, error);
        gqa_session_free(s[i]);
    }
    gqa_session_free(alone);
}

/* What gemma4.gguf's layers hold, and damage to the keys and tensors of gemma4 alone. */
static void check_gemma4(void) {
    static const char gemma4[] = "gemma4.gguf";
    char path[TEST_PATH + 64];
    gqa_error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, gemma4);
    gqa_model *m = gqa_model_open(path, NULL, &err);
    if (CHECK(m != NULL, "%s", err.message)) {
        CHECK(gqa_model_layer(m, 4)->kv_layer == 2 && gqa_model_layer(m, 5)->kv_layer == 3,
              "layers 4 and 5 share those of 2 and 3");
        CHECK(gqa_model_layer(m, 4)->head_dim == 8 && gqa_model_layer(m, 5)->head_dim == 16,
              "heads of two sizes");
        uint64_t products = gqa_model_get_stats(m)->matmul_params;
        CHECK(products == 39744, "%d weights: each once, layer 1's K also for V", (int)products);
        products -= gqa_model_get_stats(m)->prompt_params;
        /* layer 3 without Wq, Wk, Wv; 4; 5; the classifier: of attention, of FFN and embeddings */
        const int attention = 24 * (64 + 2 * 32 + 2 * 64), others = 3 * (3 * 24 * 40 + 2 * 24 * 12);
        CHECK(products == (uint64_t)(attention + others + 24 * 32),
              "%d weights for the rows with logits alone", (int)products);
        uint64_t bytes = gqa_model_kv_bytes(m, GQA_TYPE_F16, 5);
        CHECK(bytes == 5 * 2 * 2 * 2 * (8 + 16 + 8 + 16), "%d bytes of cache", (int)bytes);
        check_gemma4_together(m);
    }
    gqa_model_close(m);
    check_patched(gemma4, "gemma4.attention.shared_kv_layers", 4, 6, "is 6, expected 0 to 5");
    check_patched(gemma4, "gemma4.attention.shared_kv_layers", 4, 5,
                  "layer 1: no layer before 1 has its");
    check_patched(gemma4, "gemma4.attention.shared_kv_layers", 4, 1,
                  "blk.4.attn_k.weight is missing");
    check_patched(gemma4, "gemma4.attention.key_length_swa", 4, 32,
                  "key_length_swa and value_length_swa");
    check_patched(gemma4, "gemma4.rope.dimension_count_swa", 4, 10, "rope_dim of 10");
    check_patched(gemma4, "embedding_length_per_layer_input", 4, 16,
                  "expected shape [32, 96], got");
    check_patched(gemma4, "blk.3.inp_gat", 0, 'X', "tensor blk.3.inp_gate.weight is missing");
    check_patched(gemma4, "per_layer_token_emb", 0, 'X',
                  "tensor per_layer_token_embd.weight is missing");
    check_patched(gemma4, "blk.2.post_nor", 0, 'X', "tensor blk.2.post_norm.weight is missing");
}

/* Has python3 write the models, unless there is none; or takes those in the folder GQA_FOREIGN,
 * where the program cannot start python3. They are removed. */
static int make_models(void) {
    char command[TEST_PATH + 64];
    const char *made = getenv("GQA_FOREIGN");
    if (made) {
        snprintf(folder, sizeof folder, "%s", made);
        return 1;
    }
    if (system("command -v python3 >/dev/null")) {
        test_skip("models", "no python3");
        return 0;
    }
    test_path(folder, "foreign");
    snprintf(command, sizeof command, "python3 tests/golden/make_models.py %s", folder);
    return CHECK(system(command) == 0, "%s", command);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    read_golden();
    TEST("the file of logits") {
        CHECK(golden.n_tokens == 40, "%d tokens", golden.n_tokens);
        CHECK(golden.n_models == 39, "%d models", golden.n_models);
    }
    int is_made = make_models();
    if (is_made) TEST("gemma4.gguf: its layers, damage to it") check_gemma4();
    if (is_made) TEST("deepseek2.gguf: its cache, damage to it") check_deepseek2();
    if (is_made) TEST("deepseek2-old.gguf: the same") check_old_deepseek2();
    for (int i = 0; i < golden.n_models && is_made; i++) {
        TEST(golden.models[i].name) check_model(&golden.models[i]);
    }
    rmdir(folder);
    return test_end();
}
