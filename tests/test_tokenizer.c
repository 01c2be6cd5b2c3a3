/* test_tokenizer.c: real vocabularies (GQA_DATA): every text comes back byte for byte, published ids, special tokens, big
 * inputs; damaged tokenizer files. */
#include "test.h"

#include "../model.h"
#include "../formats/gguf.h"
#include "../vocab/tokenizer.h"

static gqa_model *open_vocab(const char *name, const char *tokenizer) {
    gqa_error err = {0};
    const char *path = test_data(name);
    gqa_model_options opt = {.vocab_only = 1, .tokenizer_path = tokenizer};
    gqa_model *m = path ? gqa_model_open(path, &opt, &err) : NULL;
    CHECK(m || !path, "%s", err.message);
    return m;
}

/* Tokens of text as bytes again; the space that SentencePiece puts in front is taken off. */
static void check_round_trip(const gqa_model *m, const char *what, const char *text, size_t len, int spm) {
    int n = gqa_tokenize(m, text, len, 0, NULL, 0, NULL);
    int32_t *ids = malloc(sizeof *ids * (size_t)(n + 1));
    CHECK(n >= 0 && (size_t)n <= len + 2, "%s: %d tokens of %zu bytes", what, n, len);
    CHECK(gqa_tokenize(m, text, len, 0, ids, n, NULL) == n, "%s: counted and written ids differ", what);
    char *back = malloc(len + 1024);
    size_t used = 0;
    for (int i = 0; i < n && used < len + 512; i++) {
        int got = gqa_token_bytes(m, ids[i], back + used, 512);
        if (got > 0) used += (size_t)got;
    }
    size_t skip = spm && len ? 1 : 0;
    CHECK(used == len + skip && !memcmp(back + skip, text, len), "%s: \"%.60s\" came back as \"%.*s\" (%zu of %zu bytes)", what, text, (int)(used < 60 ? used : 60), back, used, len);
    free(ids);
    free(back);
}

static void check_ids(const gqa_model *m, const char *text, unsigned flags, const int32_t *want, int n_want) {
    int32_t ids[128];
    int n = gqa_tokenize(m, text, strlen(text), flags, ids, 128, NULL);
    CHECK(n == n_want && !memcmp(ids, want, sizeof *want * (size_t)n_want), "\"%s\": %d ids, the first %d, expected %d and %d", text, n, n > 0 ? ids[0] : -1, n_want, want[0]);
}
#define IDS(m, text, flags, ...) check_ids(m, text, flags, (const int32_t[]){__VA_ARGS__}, (int)(sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t)))

static void test_round_trips(const gqa_model *m, const char *name, int spm) {
    static const char *const texts[] = {"", " ", "  ", "\n", "\n\n \n\t x", "Hello, world!", "I'm you'RE we'Ve it'll don't 'S 'x", "12345678901 3.14 1,000", "a                    b",
        "\xC3\xA9 e\xCC\x81 n\xCC\x83 \xE0\xA4\x95\xE0\xA5\x8D\xE0\xA4\xB7", "\xE6\xBC\xA2\xE5\xAD\x97\xE3\x81\x8B\xE3\x81\xAA", "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD0\xBC\xD0\xB8\xD1\x80",
        "\xF0\x9F\x9A\x80\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7", "\xF0\x9F\x9A", "\x80\xFF\xC0\xAF", "\xED\xA0\x80 surrogate", "tab\there\r\n  end  ", "\xC2\xA0nbsp\xE3\x80\x80wide", "<s></s><|im_start|>"};
    char all[256];
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) check_round_trip(m, name, texts[i], strlen(texts[i]), spm);
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
        check_round_trip(m, name, all + i, 1, spm);
    }
    check_round_trip(m, name, all, 256, spm);
    uint64_t seed = 5;
    for (int i = 0; i < 300; i++) {  /* random bytes, and random characters of many alphabets */
        char text[400];
        size_t n = 0, want = test_random_bits(&seed) % 100;
        while (n < want) {
            uint32_t c = (uint32_t)(test_random_bits(&seed) % (i % 3 == 0 ? 128 : 0x3100));
            if (i % 3 == 1) text[n++] = (char)c;
            else if (c < 128) text[n++] = (char)(c < 32 ? ' ' : c);
            else if (c < 0x800) text[n++] = (char)(0xC0 | c >> 6), text[n++] = (char)(0x80 | (c & 63));
            else text[n++] = (char)(0xE0 | c >> 12), text[n++] = (char)(0x80 | (c >> 6 & 63)), text[n++] = (char)(0x80 | (c & 63));
        }
        check_round_trip(m, name, text, n, spm);
    }
    static char big[1 << 20];  /* quadratic merging would take minutes */
    memset(big, 'a', sizeof big);
    check_round_trip(m, name, big, sizeof big, spm);
    memset(big, ' ', sizeof big);
    check_round_trip(m, name, big, sizeof big, spm);
}

static void test_llama2(void) {
    gqa_model *m = open_vocab("vocab/llama2-spm.gguf", NULL);
    if (!m) return;
    test_round_trips(m, "llama2", 1);
    CHECK(gqa_token_bos(m) == 1 && gqa_token_eos(m) == 2 && gqa_model_adds_bos(m) && gqa_vocab_size(m) == 32000, "flags");
    IDS(m, "Hello world", GQA_TOKENIZE_BOS, 1, 15043, 3186);
    IDS(m, " Hello", 0, 29871, 15043);
    IDS(m, "</s>", GQA_TOKENIZE_SPECIAL, 2);
    IDS(m, "<s>Hello</s>", GQA_TOKENIZE_SPECIAL, 1, 15043, 2);
    CHECK(gqa_token_find(m, "</s>") == 2 && gqa_token_is_end(m, 2) && gqa_token_is_control(m, 1) && !gqa_token_is_end(m, 1), "specials");
    CHECK(gqa_token_bytes(m, -1, NULL, 0) < 0 && gqa_token_bytes(m, 32000, NULL, 0) < 0 && gqa_token_bytes(m, 15043, NULL, 0) == 6, "ranges");
    gqa_model_close(m);
}

static void test_llama3(void) {
    gqa_model *m = open_vocab("vocab/llama3-bpe.gguf", NULL);
    if (!m) return;
    test_round_trips(m, "llama3", 0);
    /* llama.cpp, models/ggml-vocab-llama-bpe.gguf.inp and .out */
    IDS(m, "ied 4 \xC2\xBD months", 0, 1142, 220, 19, 220, 27154, 4038);
    IDS(m, "\xC3\x84pfel", 0, 88075, 16276, 301);
    IDS(m, "Hello, y'all! How are you \xF0\x9F\x98\x81 ?\xE6\x88\x91\xE6\x83\xB3\xE5\x9C\xA8" "apple\xE5\xB7\xA5\xE4\xBD\x9C" "1314151\xE5\xA4\xA9\xEF\xBD\x9E", 0, 9906, 11, 379, 65948, 0, 2650, 527, 499, 27623, 223, 949, 37046, 101067, 19000, 23182, 102301, 9263, 18136, 16, 36827, 21909);
    IDS(m, "3333333", 0, 8765, 8765, 18);
    IDS(m, "<|begin_of_text|>Hello", GQA_TOKENIZE_SPECIAL, 128000, 9906);
    CHECK(gqa_token_find(m, "<|eot_id|>") == 128009, "find");
    gqa_model_close(m);
}

static void test_qwen3(void) {
    gqa_model *m = open_vocab("vocab/qwen3-bpe.gguf", NULL);
    if (!m) return;
    test_round_trips(m, "qwen3", 0);
    /* llama.cpp, models/ggml-vocab-qwen2.gguf.inp and .out (the same vocabulary) */
    IDS(m, "ied 4 \xC2\xBD months", 0, 1122, 220, 19, 220, 26062, 3951);
    IDS(m, "3333", 0, 18, 18, 18, 18);
    IDS(m, "<|im_start|>user\nhi<|im_end|>", GQA_TOKENIZE_SPECIAL, 151644, 872, 198, 6023, 151645);
    CHECK(!gqa_model_adds_bos(m) && gqa_token_is_end(m, 151645), "flags");
    gqa_model_close(m);
}

static void test_llama2c(void) {
    char tokenizer[1024];
    const char *path = test_data("models/tok512.bin");
    if (!path) return;
    snprintf(tokenizer, sizeof tokenizer, "%s", path);
    gqa_model *m = open_vocab("models/stories260K.bin", tokenizer);
    if (!m) return;
    test_round_trips(m, "tok512", 1);
    IDS(m, "Once upon a time", GQA_TOKENIZE_BOS, 1, 403, 407, 261, 378);
    gqa_model_close(m);
    FILE *f = fopen(tokenizer, "rb");
    uint8_t file[8192];
    size_t size = f ? fread(file, 1, sizeof file, f) : 0;
    if (f) fclose(f);
    int opened = 0;
    for (size_t n = 0; n < size; n++) {
        uint8_t *copy = malloc(n + 1);
        gqa_vocab *v;
        gqa_error err = {0};
        memcpy(copy, file, n);
        opened += gqa_vocab_from_llama2c(&v, copy, n, 512, "tok", &err) == 0;
        free(copy);
    }
    CHECK(opened == 0, "%d prefixes of a tokenizer file opened", opened);
    static const int32_t lengths[] = {-1, INT32_MAX, INT32_MIN, 70000};
    for (int i = 0; i < 4; i++) {
        gqa_vocab *v;
        gqa_error err = {0};
        memcpy(file + 8, &lengths[i], 4);
        CHECK(gqa_vocab_from_llama2c(&v, file, size, 512, "tok", &err) < 0, "length %d", lengths[i]);
        CHECK_HAS(err.message, "token 0");
    }
}

/* A vocabulary of our own: scores decide, bytes fall back, spaces are marked. */
static void test_own(void) {
    static const char *const names[] = {"<unk>", "<s>", "</s>", "<0x41>", "<0xF0>", "\xE2\x96\x81", "a", "b", "ab", "\xE2\x96\x81" "ab", "ba", "<user>"};
    static const float scores[] = {0, 0, 0, 0, 0, -9, -9, -9, -2, -1, -1, 0};
    static const int32_t types[] = {2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 4};
    gqa_bytes pieces[12];
    gqa_vocab *v;
    int32_t ids[32];
    for (int i = 0; i < 12; i++) pieces[i] = (gqa_bytes){names[i], strlen(names[i])};
    CHECK(gqa_vocab_new(&v, pieces, scores, types, 12, 1, 2, 0, NULL) == 0, "new");
    int n = gqa_vocab_tokenize(v, "ab", 2, 0, ids, 32, NULL);
    CHECK(n == 1 && ids[0] == 9, "\"ab\": %d ids, first %d", n, ids[0]);  /* a+b, then the space joins */
    n = gqa_vocab_tokenize(v, "aba", 3, 0, ids, 32, NULL);                 /* ba (-1) before ab (-2) */
    CHECK(n == 3 && ids[0] == 5 && ids[1] == 6 && ids[2] == 10, "\"aba\": %d ids: %d %d %d", n, ids[0], ids[1], ids[2]);
    n = gqa_vocab_tokenize(v, "A", 1, 0, ids, 32, NULL);
    CHECK(n == 2 && ids[1] == 3, "byte fallback");
    n = gqa_vocab_tokenize(v, "B", 1, 0, ids, 32, NULL);
    CHECK(n == 2 && ids[1] == 0, "no byte token: unknown");
    n = gqa_vocab_tokenize(v, "a<user>a", 8, 0, ids, 32, NULL);
    CHECK(n == 5 && ids[2] == 11, "user-defined tokens are always cut: %d ids", n);
    n = gqa_vocab_tokenize(v, "</s>", 4, GQA_TOKENIZE_SPECIAL, ids, 32, NULL);
    CHECK(n == 1 && ids[0] == 2, "special");
    gqa_vocab_free(v);
    CHECK(gqa_vocab_new(&v, pieces, scores, types, 12, 12, 2, 0, NULL) < 0, "an id out of range is refused");
}

/* A byte-level vocabulary in a file: its pre-tokeniser decides where text is cut; one we do not know is named. */
static void test_pre_tokenisers(void) {
    static const struct { const char *pre, *text; int n; int32_t ids[8]; } cases[] = {
        {"llama-bpe", "1234ab", 4, {7, 4, 5, 6}}, {"smollm", "12ab", 3, {2, 3, 6}}, {"qwen2", "12ab", 3, {2, 3, 6}}, {"mystery", "ab", 1, {6}}};
    static const char *const names[] = {"a", "b", "1", "2", "3", "4", "ab", "12", "34", "<|im_end|>"};
    static const int32_t types[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 3};
    for (int i = 0; i < 4; i++) {
        gqa_error err = {0};
        gqa_bytes pieces[10], merges[] = {{"a b", 3}, {"1 2", 3}};
        uint8_t *image = NULL;
        size_t size = 0;
        gguf_writer *w = gguf_writer_new(NULL, &err);
        for (int t = 0; t < 10; t++) pieces[t] = (gqa_bytes){names[t], strlen(names[t])};
        gguf_put_string(w, "general.architecture", "llama", 5);
        gguf_put_string(w, "tokenizer.ggml.model", "gpt2", 4);
        gguf_put_string(w, "tokenizer.ggml.pre", cases[i].pre, strlen(cases[i].pre));
        gguf_put_strings(w, "tokenizer.ggml.tokens", pieces, 10);
        gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, 10);
        gguf_put_strings(w, "tokenizer.ggml.merges", merges, 2);
        CHECK(gguf_finish_memory(w, &image, &size, &err) == 0, "%s", err.message);
        gqa_model *m = gqa_model_from_memory(image, size, &(gqa_model_options){.vocab_only = 1}, &err);
        CHECK(m != NULL, "%s: %s", cases[i].pre, err.message);
        const char *warning = m ? gqa_model_warning(m) : NULL;
        if (m) check_ids(m, cases[i].text, 0, cases[i].ids, cases[i].n);
        if (i < 3) CHECK(!warning, "%s: %s", cases[i].pre, warning);
        else CHECK_HAS(warning ? warning : "", "pre-tokenizer \"mystery\"");
        gqa_model_close(m);
        free(image);
    }
}

int main(void) {
    test_pre_tokenisers();
    test_own();
    test_llama2();
    test_llama3();
    test_qwen3();
    test_llama2c();
    return test_end();
}
