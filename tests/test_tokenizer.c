/* test_tokenizer.c: real vocabularies (GQA_DATA): every text comes back byte for byte, published
 * ids, special tokens, big inputs; damaged tokenizer files. */
#include "test.h"

#include "../formats/gguf.h"
#include "../model.h"
#include "../vocab/vocab.h"
#include "../weights/model_internal.h"

static gqa_model *open_vocab(const char *name, const char *tokenizer) {
    gqa_error err = {0};
    const char *path = test_data(name);
    gqa_model_options opt = {.vocab_only = 1, .tokenizer_path = tokenizer};
    gqa_model *m = path ? gqa_model_open(path, &opt, &err) : NULL;
    CHECK(m || !path, "%s", err.message);
    return m;
}

static void check_ids(const gqa_model *m, const char *text, unsigned flags, const int32_t *want,
                      size_t n_want) {
    int32_t ids[128];
    int n = gqa_tokenize(m, text, strlen(text), flags, ids, 128, NULL);
    CHECK(n == (int)n_want && !memcmp(ids, want, sizeof *want * n_want),
          "\"%s\": %d ids, the first %d, expected %zu and %d", text, n, n > 0 ? ids[0] : -1, n_want,
          want[0]);
}
/* IDS(model, text, flags, id, ...) */
#define IDS(m, text, flags, ...) \
    check_ids(m, text, flags, (int32_t[]){__VA_ARGS__}, array_length(((int32_t[]){__VA_ARGS__})))

/* ---- texts that come back ---------------------------------------------------------------- */

/* Tokens of text as bytes again; the space that SentencePiece puts in front (spm) is taken off. */
static void check_round_trip(const gqa_model *m, const char *text, size_t len, int spm) {
    int n = gqa_tokenize(m, text, len, 0, NULL, 0, NULL);
    int32_t *ids = malloc(sizeof *ids * (size_t)(n + 1));
    CHECK(n >= 0 && (size_t)n <= len + 2, "%d tokens of %zu bytes", n, len);
    CHECK(gqa_tokenize(m, text, len, 0, ids, n, NULL) == n, "counted and written ids differ");
    char *back = malloc(len + 1024);
    size_t used = 0, skip = spm && len ? 1 : 0;
    for (int i = 0; i < n && used < len + 512; i++) {
        int got = gqa_token_bytes(m, ids[i], back + used, 512);
        if (got > 0) used += (size_t)got;
    }
    CHECK(used == len + skip && !memcmp(back + skip, text, len),
          "\"%.60s\" came back as \"%.*s\" (%zu of %zu bytes)", text, (int)min_size(used, 60), back,
          used, len);
    free(ids);
    free(back);
}

static void test_chosen_texts(const gqa_model *m, int spm) {
    static const char *const texts[] = {
        "", " ", "  ", "\n", "\n\n \n\t x", "tab\there\r\n  end  ", "a                    b",
        "Hello, world!", "I'm you'RE we'Ve it'll don't 'S 'x", "12345678901 3.14 1,000",
        "<s></s><|im_start|>",
        /* accents, Devanagari */
        "\xC3\xA9 e\xCC\x81 n\xCC\x83 \xE0\xA4\x95\xE0\xA5\x8D\xE0\xA4\xB7",
        "\xE6\xBC\xA2\xE5\xAD\x97\xE3\x81\x8B\xE3\x81\xAA",                 /* Kanji, Hiragana */
        "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD0\xBC\xD0\xB8\xD1\x80",
        "\xF0\x9F\x9A\x80\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",     /* joined emoji */
        "\xC2\xA0nbsp\xE3\x80\x80wide",
        "\xF0\x9F\x9A", "\x80\xFF\xC0\xAF", "\xED\xA0\x80 surrogate",        /* not UTF-8 */
    };
    for (size_t i = 0; i < array_length(texts); i++)
        check_round_trip(m, texts[i], strlen(texts[i]), spm);
}

static void test_all_bytes(const gqa_model *m, int spm) {
    char all[256];
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
        check_round_trip(m, all + i, 1, spm);
    }
    check_round_trip(m, all, sizeof all, spm);
}

/* Writes a code point below U+10000 as UTF-8, a control character as a space; returns the size. */
static size_t put_utf8(char *out, uint32_t c) {
    if (c < 128) {
        out[0] = (char)(c < 32 ? ' ' : c);
        return 1;
    }
    size_t n = c < 0x800 ? 2 : 3;
    out[0] = (char)(n == 2 ? 0xC0 | c >> 6 : 0xE0 | c >> 12);
    for (size_t i = 1; i < n; i++) out[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 63));
    return n;
}

/* ASCII, random bytes, and random characters of many alphabets. */
static void test_random_texts(const gqa_model *m, int spm) {
    uint64_t seed = 5;
    for (int i = 0; i < 300; i++) {
        char text[400];
        size_t n = 0, want = test_random_bits(&seed) % 100;
        while (n < want) {
            uint32_t c = (uint32_t)(test_random_bits(&seed) % (i % 3 == 0 ? 128 : 0x3100));
            if (i % 3 == 1) text[n++] = (char)c;
            else n += put_utf8(text + n, c);
        }
        check_round_trip(m, text, n, spm);
    }
}

/* Quadratic merging would take minutes. */
static void test_big_texts(const gqa_model *m, int spm) {
    static char big[1 << 20];
    memset(big, 'a', sizeof big);
    check_round_trip(m, big, sizeof big, spm);
    memset(big, ' ', sizeof big);
    check_round_trip(m, big, sizeof big, spm);
}

static void test_round_trips(const gqa_model *m, int spm) {
    test_chosen_texts(m, spm);
    test_all_bytes(m, spm);
    test_random_texts(m, spm);
    test_big_texts(m, spm);
}

/* ---- real vocabularies ------------------------------------------------------------------- */

static void test_llama2(const gqa_model *m) {
    TEST("llama 2: round trips") test_round_trips(m, 1);
    TEST("llama 2: ids") {
        IDS(m, "Hello world", GQA_TOKENIZE_BOS, 1, 15043, 3186);
        IDS(m, " Hello", 0, 29871, 15043);
        IDS(m, "</s>", GQA_TOKENIZE_SPECIAL, 2);
        IDS(m, "<s>Hello</s>", GQA_TOKENIZE_SPECIAL, 1, 15043, 2);
    }
    TEST("llama 2: special tokens") {
        CHECK(gqa_token_bos(m) == 1 && gqa_model_adds_bos(m), "BOS %d", gqa_token_bos(m));
        CHECK(gqa_token_eos(m) == 2, "EOS %d", gqa_token_eos(m));
        CHECK(gqa_token_find(m, "</s>") == 2, "</s> is %d", gqa_token_find(m, "</s>"));
        CHECK(gqa_token_is_end(m, 2) && !gqa_token_is_end(m, 1), "ends");
        CHECK(gqa_token_is_control(m, 1), "controls");
    }
    TEST("llama 2: ids out of range") {
        CHECK(gqa_vocab_size(m) == 32000, "%d tokens", gqa_vocab_size(m));
        CHECK(gqa_token_bytes(m, -1, NULL, 0) < 0, "-1");
        CHECK(gqa_token_bytes(m, 32000, NULL, 0) < 0, "32000");
        CHECK(gqa_token_bytes(m, 15043, NULL, 0) == 6, "15043");
    }
}

/* Ids from llama.cpp, models/ggml-vocab-llama-bpe.gguf.inp and .out */
static void test_llama3(const gqa_model *m) {
    TEST("llama 3: round trips") test_round_trips(m, 0);
    TEST("llama 3: ids") {
        IDS(m, "ied 4 \xC2\xBD months", 0, 1142, 220, 19, 220, 27154, 4038);
        IDS(m, "\xC3\x84pfel", 0, 88075, 16276, 301);
        IDS(m, "Hello, y'all! How are you \xF0\x9F\x98\x81 ?\xE6\x88\x91\xE6\x83\xB3\xE5\x9C\xA8"
            "apple\xE5\xB7\xA5\xE4\xBD\x9C" "1314151\xE5\xA4\xA9\xEF\xBD\x9E", 0,
            9906, 11, 379, 65948, 0, 2650, 527, 499, 27623, 223, 949, 37046, 101067, 19000, 23182,
            102301, 9263, 18136, 16, 36827, 21909);
        IDS(m, "3333333", 0, 8765, 8765, 18);
        IDS(m, "<|begin_of_text|>Hello", GQA_TOKENIZE_SPECIAL, 128000, 9906);
    }
    TEST("llama 3: special tokens") CHECK(gqa_token_find(m, "<|eot_id|>") == 128009, "find");
}

/* Ids from llama.cpp, models/ggml-vocab-qwen2.gguf.inp and .out (the same vocabulary) */
static void test_qwen3(const gqa_model *m) {
    TEST("qwen 3: round trips") test_round_trips(m, 0);
    TEST("qwen 3: ids") {
        IDS(m, "ied 4 \xC2\xBD months", 0, 1122, 220, 19, 220, 26062, 3951);
        IDS(m, "3333", 0, 18, 18, 18, 18);
        IDS(m, "<|im_start|>user\nhi<|im_end|>", GQA_TOKENIZE_SPECIAL,
            151644, 872, 198, 6023, 151645);
    }
    TEST("qwen 3: special tokens")
        CHECK(!gqa_model_adds_bos(m) && gqa_token_is_end(m, 151645), "BOS and end");
}

static void with_vocab(const char *name, void (*cases)(const gqa_model *m)) {
    gqa_model *m = open_vocab(name, NULL);
    if (m) cases(m);
    gqa_model_close(m);
}

/* ---- llama2.c's tokenizer files ---------------------------------------------------------- */

/* Copies data[size] to an exact block: the address sanitizer sees a read past its end. */
static int try_llama2c(const uint8_t *data, size_t size, gqa_error *err) {
    gqa_vocab *v;
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    int status = gqa_vocab_from_llama2c(&v, copy, size, 512, "tok", err);
    gqa_vocab_free(v);
    free(copy);
    return status;
}

static void test_damaged_llama2c(const char *path) {
    static const int32_t lengths[] = {-1, INT32_MAX, INT32_MIN, 70000};
    static uint8_t file[8192];
    gqa_error err = {0};
    FILE *f = fopen(path, "rb");
    size_t size = f ? fread(file, 1, sizeof file, f) : 0;
    if (f) fclose(f);
    int opened = 0;
    for (size_t n = 0; n < size; n++) opened += try_llama2c(file, n, &err) == 0;
    CHECK(opened == 0, "%d prefixes of a tokenizer file opened", opened);
    CHECK(try_llama2c(file, size, &err) == 0, "%zu bytes, all of the file: %s", size, err.message);
    for (size_t i = 0; i < array_length(lengths); i++) {
        memcpy(file + 8, &lengths[i], 4);
        CHECK(try_llama2c(file, size, &err) < 0, "length %d", lengths[i]);
        CHECK_HAS(err.message, "token 0");
    }
}

static void test_llama2c(void) {
    const char *path = test_data("models/tok512.bin");
    gqa_model *m = path ? open_vocab("models/stories260K.bin", path) : NULL;
    if (!m) return;
    TEST("llama2.c: round trips") test_round_trips(m, 1);
    TEST("llama2.c: ids") IDS(m, "Once upon a time", GQA_TOKENIZE_BOS, 1, 403, 407, 261, 378);
    TEST("llama2.c: damaged files") test_damaged_llama2c(path);
    gqa_model_close(m);
}

/* ---- vocabularies made here -------------------------------------------------------------- */

static void check_own(const gqa_vocab *v, const char *text, unsigned flags, const int32_t *want,
                      int n_want) {
    int32_t ids[32];
    int n = gqa_vocab_tokenize(v, text, NULL, strlen(text), flags, ids, 32, NULL);
    CHECK(n == n_want, "\"%s\": %d ids, expected %d", text, n, n_want);
    for (int i = 0; i < n && i < n_want; i++)
        CHECK(ids[i] == want[i], "\"%s\": id %d is %d, expected %d", text, i, ids[i], want[i]);
}

/* Scores decide, bytes fall back, spaces are marked. */
static void test_own(void) {
    enum { UNK, BOS, EOS, BYTE_41, BYTE_F0, SPACE, A, B, AB, SPACE_AB, BA, USER, N };
    static const struct { const char *name; float score; int32_t type; } tokens[N] = {
        [UNK] = {"<unk>", 0, 2},
        [BOS] = {"<s>", 0, 3},
        [EOS] = {"</s>", 0, 3},
        [BYTE_41] = {"<0x41>", 0, 6},
        [BYTE_F0] = {"<0xF0>", 0, 6},
        [SPACE] = {"\xE2\x96\x81", -9, 1},
        [A] = {"a", -9, 1},
        [B] = {"b", -9, 1},
        [AB] = {"ab", -2, 1},
        [SPACE_AB] = {"\xE2\x96\x81" "ab", -1, 1},
        [BA] = {"ba", -1, 1},
        [USER] = {"<user>", 0, 4},
    };
    gqa_bytes names[N];
    float scores[N];
    int32_t types[N];
    gqa_vocab *v;
    for (int i = 0; i < N; i++) {
        names[i] = (gqa_bytes){tokens[i].name, strlen(tokens[i].name)};
        scores[i] = tokens[i].score;
        types[i] = tokens[i].type;
    }
    CHECK(gqa_vocab_new(&v, names, scores, types, N, BOS, EOS, UNK, NULL) == 0, "new");
    check_own(v, "ab", 0, (int32_t[]){SPACE_AB}, 1);         /* a+b, then the space joins */
    check_own(v, "aba", 0, (int32_t[]){SPACE, A, BA}, 3);    /* ba (-1) before ab (-2) */
    check_own(v, "A", 0, (int32_t[]){SPACE, BYTE_41}, 2);    /* byte fallback */
    check_own(v, "B", 0, (int32_t[]){SPACE, UNK}, 2);        /* no byte token */
    check_own(v, "a<user>a", 0, (int32_t[]){SPACE, A, USER, SPACE, A}, 5); /* always recognised */
    check_own(v, "</s>", GQA_TOKENIZE_SPECIAL, (int32_t[]){EOS}, 1);
    gqa_vocab_free(v);
    CHECK(gqa_vocab_new(&v, names, scores, types, N, N, EOS, UNK, NULL) < 0, "an id out of range");
}

/* A byte-level vocabulary in a file, with that pre-tokeniser. */
static gqa_model *open_byte_level(const char *pre, uint8_t **image) {
    static const char *const names[] = {"a", "b", "1", "2", "3", "4", "ab", "12", "34",
                                        "<|im_end|>", "ba"};
    static const int32_t types[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 1};
    enum { N = sizeof types / sizeof *types };
    gqa_error err = {0};
    gqa_bytes tokens[N], merges[] = {{"a b", 3}, {"1 2", 3}};
    size_t size = 0;
    gguf_writer *w = gguf_writer_new(NULL, &err);
    for (int t = 0; t < N; t++) tokens[t] = (gqa_bytes){names[t], strlen(names[t])};
    gguf_put_string(w, "general.architecture", "llama", 5);
    gguf_put_string(w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_put_string(w, "tokenizer.ggml.pre", pre, strlen(pre));
    gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, N);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, N);
    gguf_put_strings(w, "tokenizer.ggml.merges", merges, 2);
    CHECK(gguf_finish_memory(w, image, &size, &err) == 0, "%s", err.message);
    gqa_model_options o = {.vocab_only = 1};
    gqa_model *m = gqa_model_from_memory(*image, size, &o, &err);
    CHECK(m != NULL, "%s: %s", pre, err.message);
    return m;
}

/* It decides where text is split; one that is not known is named in a warning. */
static void test_pre_tokeniser(const char *pre, const char *text, const int32_t *ids, size_t n,
                               const char *part_of_warning) {
    uint8_t *image = NULL;
    gqa_model *m = open_byte_level(pre, &image);
    const char *warning = m ? gqa_model_warning(m) : NULL;
    if (m) check_ids(m, text, 0, ids, n);
    if (part_of_warning) CHECK_HAS(warning ? warning : "", part_of_warning);
    else CHECK(!warning, "%s: %s", pre, warning);
    gqa_model_close(m);
    free(image);
}

/* ---- vocabularies in a file of metadata ------------------------------------------------------ */

typedef struct file_token {
    const char *name;
    int32_t type;
} file_token;

typedef struct file_vocab {
    const char *model, *pre, *jinja;   /* tokenizer.ggml.model; NULL: the key is absent */
    const file_token *tokens;
    const char *merges[8];
    int n, bos, unk, add_bos, eos, eot, eom; /* ids + 1; 0: the key is absent */
    int add_space;
} file_vocab;

/* Tokens have falling scores. */
static gqa_model *open_file_vocab(const file_vocab *f, uint8_t **image) {
    gqa_error err = {0};
    gqa_bytes names[32], merges[8];
    int32_t types[32];
    float scores[32];
    size_t size = 0, n_merges = 0;
    gguf_writer *w = gguf_writer_new(NULL, &err);
    for (int i = 0; i < f->n; i++) {
        names[i] = (gqa_bytes){f->tokens[i].name, strlen(f->tokens[i].name)};
        types[i] = f->tokens[i].type;
        scores[i] = (float)-i;
    }
    for (; f->merges[n_merges]; n_merges++)
        merges[n_merges] = (gqa_bytes){f->merges[n_merges], strlen(f->merges[n_merges])};
    gguf_put_string(w, "general.architecture", "llama", 5);
    gguf_put_string(w, "tokenizer.ggml.model", f->model, strlen(f->model));
    if (f->pre) gguf_put_string(w, "tokenizer.ggml.pre", f->pre, strlen(f->pre));
    if (f->jinja) gguf_put_string(w, "tokenizer.chat_template", f->jinja, strlen(f->jinja));
    gguf_put_strings(w, "tokenizer.ggml.tokens", names, (uint64_t)f->n);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, (uint64_t)f->n);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, (uint64_t)f->n);
    gguf_put_strings(w, "tokenizer.ggml.merges", merges, n_merges);
    gguf_put_int(w, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, f->add_space);
    const struct { const char *name; int id; } roles[] = {
        {"bos", f->bos}, {"unknown", f->unk}, {"eos", f->eos}, {"eot", f->eot}, {"eom", f->eom},
    };
    for (size_t i = 0; i < array_length(roles); i++) {
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", roles[i].name);
        if (roles[i].id) gguf_put_int(w, key, GGUF_U32, roles[i].id - 1);
    }
    if (f->add_bos) gguf_put_int(w, "tokenizer.ggml.add_bos_token", GGUF_BOOL, 1);
    CHECK(gguf_finish_memory(w, image, &size, &err) == 0, "%s", err.message);
    gqa_model *m = gqa_model_from_memory(*image, size, &(gqa_model_options){.vocab_only = 1}, &err);
    CHECK(m != NULL, "%s", err.message);
    return m;
}

static void check_file_ids(const file_vocab *f, const char *text, unsigned flags, size_t n,
                           const int32_t *ids) {
    uint8_t *image = NULL;
    gqa_model *m = open_file_vocab(f, &image);
    if (m) check_ids(m, text, flags, ids, n);
    gqa_model_close(m);
    free(image);
}
#define FILE_IDS(f, text, flags, n, ...) \
    check_file_ids(f, text, flags, n, (int32_t[]){__VA_ARGS__})

static const file_token bpe_tokens[] = {
    {"<|bos|>", 3}, {"a", 1}, {"b", 1}, {"c", 1}, {"aa", 1}, {"ab", 1}, {"bc", 1}, {"abc", 1},
    {"<|im_end|>", 4}, {"<|x|>", 1}, {"<think>", 4}, {"<|xy|>", 4}, {"<|", 4},
};

static const file_token scored_tokens[] = {
    {"[INST]", 3}, {"<u>", 4}, {"\xe2\x96\x81", 1}, {"H", 1}, {"\xe2\x96\x81H", 1},
};

/* mistral-common: "[INST] Hi" is [INST] and the tokens of " Hi", with one blank. */
static void test_space_prefix(void) {
    file_vocab f = {.model = "llama", .tokens = scored_tokens, .n = 5, .add_space = 1};
    TEST("a space after a control token is the prefix itself") {
        FILE_IDS(&f, "[INST] H", GQA_TOKENIZE_SPECIAL, 2, 0, 4);
        FILE_IDS(&f, "[INST]H", GQA_TOKENIZE_SPECIAL, 2, 0, 4);
        FILE_IDS(&f, "[INST]  H", GQA_TOKENIZE_SPECIAL, 3, 0, 2, 4);
    }
    TEST("elsewhere one is added") {
        FILE_IDS(&f, " H", GQA_TOKENIZE_SPECIAL, 2, 2, 4);
        FILE_IDS(&f, "<u> H", 0, 3, 1, 2, 4);
    }
}

static void test_merging(void) {
    file_vocab f = {.model = "gpt2", .pre = "gpt-2", .tokens = bpe_tokens, .n = 13, .bos = 1,
                    .unk = 1, .add_bos = 1, .merges = {"a a", "a b", "b c"}};
    TEST("the leftmost of equal merges is done first") FILE_IDS(&f, "aaa", 0, 2, 4, 1);
    TEST("a merge whose neighbour has been merged is dropped") FILE_IDS(&f, "aabc", 0, 2, 4, 6);
    TEST("a merge that another merge has overlapped is dropped") FILE_IDS(&f, "abc", 0, 2, 5, 3);
    TEST("an unknown byte is no control token") FILE_IDS(&f, "a\4b", 0, 2, 1, 2);
    TEST("a prompt's own BOS is not doubled")
        FILE_IDS(&f, "<|bos|>a", GQA_TOKENIZE_BOS | GQA_TOKENIZE_SPECIAL, 2, 0, 1);
    TEST("the longest special token is found")
        FILE_IDS(&f, "<|xy|><|a<|xy", 0, 4, 11, 12, 1, 12);
    f.bos = 0;
    TEST("add_bos without a BOS") FILE_IDS(&f, "a", GQA_TOKENIZE_BOS, 1, 1);
    f.jinja = "{{ '<|x|>' }} <think>";
    TEST("end tokens and the template's are control tokens") {
        uint8_t *image = NULL;
        gqa_model *m = open_file_vocab(&f, &image);
        CHECK(!gqa_model_adds_bos(m), "there is no BOS to add");
        CHECK(gqa_token_is_end(m, 8) && gqa_token_is_control(m, 8), "<|im_end|>");
        CHECK(gqa_token_is_control(m, 9) && !gqa_token_is_control(m, 10), "<|x|>, <think>");
        gqa_model_close(m);
        free(image);
    }
}

/* A turn ends with any of three tokens, whatever their names. */
static void test_ends(void) {
    file_vocab f = {.model = "gpt2", .pre = "gpt-2", .tokens = bpe_tokens, .n = 8, .eos = 2,
                    .eot = 4, .eom = 6, .merges = {"a a"}};
    uint8_t *image = NULL;
    gqa_model *m = open_file_vocab(&f, &image);
    for (int id = 0; id < f.n; id++)
        CHECK(gqa_token_is_end(m, id) == (id == 1 || id == 3 || id == 5), "token %d", id);
    CHECK(gqa_token_eos(m) == 1, "EOS is %d", gqa_token_eos(m));
    gqa_model_close(m);
    free(image);
}

static void test_gemma4(void) {
    static const file_token tokens[] = {
        {"<bos>", 3}, {"a", 1}, {"\xE2\x96\x81", 1}, {"\xE2\x96\x81" "a", 1}, {"\n", 1},
        {"\n\n\n", 1}, {"<0xC3>", 6}, {"<0xA9>", 6}, {"<turn|>", 3}, {"<channel|>", 4},
    };
    file_vocab f = {.model = "gemma4", .tokens = tokens, .n = 10, .bos = 1, .add_bos = 1,
                    .merges = {"\xE2\x96\x81 a"}};
    TEST("gemma4: merges over characters") FILE_IDS(&f, "a a", GQA_TOKENIZE_BOS, 3, 0, 1, 3);
    TEST("gemma4: newlines are one token where there is one")
        FILE_IDS(&f, "a\n\n\na\n\na", 0, 6, 1, 5, 1, 4, 4, 1);
    TEST("gemma4: bytes of a character that is no token") FILE_IDS(&f, "\u00e9", 0, 2, 6, 7);
    TEST("gemma4: a text's <channel|> is no token once the template has it") {
        FILE_IDS(&f, "a<channel|>", 0, 2, 1, 9);
        f.jinja = "{{ '<channel|>' }}";
        FILE_IDS(&f, "a<channel|>", 0, 2, 1, 1); /* that of "channel" */
        FILE_IDS(&f, "a<channel|>", GQA_TOKENIZE_SPECIAL, 2, 1, 9);
    }
}

/* Pieces of a text, with bars between them. */
static void check_pieces(splitter kind, const char *expected, const char *what) {
    char text[100] = "", pieces[200];
    uint8_t cuts[100];
    size_t n = 0, used = 0;
    for (const char *p = expected; *p; p++)
        if (*p != '|') text[n++] = *p;
    pretokenize(kind, text, n, cuts);
    for (size_t at = 0; at < n; at++) {
        if (at && cuts[at]) pieces[used++] = '|';
        pieces[used++] = text[at];
    }
    pieces[used] = 0;
    CHECK(!strcmp(pieces, expected), "%s: %s, expected %s", what, pieces, expected);
}

/* What node-llama-cpp 3.22.1 makes of one text under every name that is known: of a vocabulary with
 * all stretches of the text, so that each piece is a token. */
static void test_names(void) {
    static const struct {
        const char *names, *pieces;
        int is_whole;          /* a piece that is a token needs no merges */
    } known[] = {
        {"default", "don|'|t| I|'|LLx| |123|45| |+=(|y|)|\n\n| zQuM|_", 0},
        {"llama-bpe llama3 llama-v3 falcon3 lfm2 midm-2.0 pixtral",
         "don|'t| I|'LL|x| |123|45| +=(|y|)\n\n| zQuM|_", 1},
        {"dbrx smaug-bpe", "don|'t| I|'LL|x| |123|45| +=(|y|)\n\n| zQuM|_", 0},
        {"qwen2 deepseek-r1-qwen hunyuan stablelm2 megrez",
         "don|'t| I|'LL|x| |1|2|3|4|5| +=(|y|)\n\n| zQuM|_", 0},
        {"smollm refact starcoder exaone minerva-7b",
         "don|'t| I|'|LLx| |1|2|3|4|5| +=(|y|)|\n\n| zQuM|_", 0},
        {"gpt-2 olmo exaone4 granite-docling mpt a.x-4.0 mellum trillion",
         "don|'t| I|'|LLx| 12345| +=(|y|)|\n\n| zQuM|_", 0},
        {"tekken", "don|'t| I|'LLx| |1|2|3|4|5| +=(|y|)\n\n| z|Qu|M|_", 1},
        {"gpt-4o llama4", "don't| I'LL|x| |123|45| +=(|y|)\n\n| z|Qu|M|_", 0},
        {"deepseek-llm", "don|'|t| I|'|LLx| |12345| +=(|y|)|\n|\n| zQuM|_", 0},
        {"deepseek-coder", "don|'|t| I|'|LLx| |1|2|3|4|5| +=|(|y|)|\n|\n| zQuM|_", 0},
        {"youtu", "don't| I'LL|x| |1|2|3|4|5| +=(|y|)\n\n| zQuM|_", 1},
        {"deepseek-v3 hunyuan-dense", "don|'t| I|'LLx| |123|45| +=(|y|)\n\n| zQuM|_", 0},
    };
    for (size_t i = 0; i < array_length(known); i++) {
        char name[32];
        int n;
        for (const char *at = known[i].names; sscanf(at, "%31s%n", name, &n) == 1; at += n) {
            uint8_t *image = NULL;
            gqa_model *m = open_byte_level(name, &image);
            CHECK(!gqa_model_warning(m), "%s is not known", name);
            check_pieces(m->vocab->split, known[i].pieces, name);
            int n_tokens = gqa_tokenize(m, "ba", 2, 0, NULL, 0, NULL);
            CHECK(n_tokens == 2 - known[i].is_whole, "%s: %d tokens", name, n_tokens);
            gqa_model_close(m);
            free(image);
        }
    }
}

/* The pieces that llama.cpp cuts. */
static void test_splitters(void) {
    static const struct {
        splitter kind;
        const char *pieces;
    } cases[] = {
        {SPLIT_SMOLLM, "ab| |1|2|cd| |3"},
        {SPLIT_TEKKEN, "I|'M|(x|1|2| +=\n\n|   \n| y"},
        {SPLIT_TEKKEN, "Camel|Case| HTTPServer|'s|1|2| //\n/|x"},
        {SPLIT_TEKKEN, "\u00c4|PFEL| \u00c4pfel"},
        {SPLIT_GPT4O, "don't| You'LL|123|4"},
        {SPLIT_DEFAULT, "a|+=|b| |123|456|7"},
        {SPLIT_DEEPSEEK_LLM, "foo|_|bar| ==|\n|12345|\u4e2d\u6587|  "},
        {SPLIT_DEEPSEEK_CODER, "foo|_|bar|\n|\n|1|2|=| x"},
        {SPLIT_DEEPSEEK3, "123|45|\u4e2d\u6587|.abc| e\u0301|!?\n| x"},
        {SPLIT_LINES, "foo_bar ==|\n\n|12"},
    };
    for (size_t i = 0; i < array_length(cases); i++)
        check_pieces(cases[i].kind, cases[i].pieces, "pieces");
}

/* Every splitter on a text of one kind of character: quadratic time would be minutes. */
static void test_long_runs(void) {
    enum { SIZE = 1 << 18 };
    static char text[SIZE];
    static uint8_t cuts[SIZE];
    static const char *const units[] = {"a", "a ", " ", "\n", " \n", "7", ".", "A", "'",
                                        "\xC2\xA0"};
    for (size_t u = 0; u < array_length(units); u++)
        for (int kind = 0; kind <= SPLIT_LINES; kind++) {
            for (size_t i = 0; i < SIZE; i++) text[i] = units[u][i % strlen(units[u])];
            text[SIZE - 1] = 'x';
            pretokenize((splitter)kind, text, SIZE, cuts);
            CHECK(cuts[0] == 1, "splitter %d", kind);
        }
}

/* 60,000 user-defined tokens that begin alike, in a text that nearly is one of them throughout. */
static void test_many_special(void) {
    enum { N = 60000 };
    static char storage[N][12], text[1 << 19];
    static gqa_bytes names[N];
    static float scores[N];
    static int32_t types[N];
    gqa_vocab *v;
    for (int i = 0; i < N; i++) {
        names[i] = (gqa_bytes){storage[i], (size_t)snprintf(storage[i], 12, "a%05d", i)};
        types[i] = i ? 4 : 1;
    }
    for (size_t i = 0; i < sizeof text; i++) text[i] = "a0000"[i % 5];
    CHECK(gqa_vocab_new(&v, names, scores, types, N, -1, -1, -1, NULL) == 0, "new");
    CHECK(gqa_vocab_tokenize(v, text, NULL, sizeof text, 0, NULL, 0, NULL) == 0, "no token");
    CHECK(gqa_vocab_find(v, "a59999", 6) == 59999, "find");
    gqa_vocab_free(v);
}

/* Two tokens without roles: there is no BOS to add. */
static void test_small_llama2c(void) {
    static const uint8_t file[] = {1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 'a', 0, 0, 0, 0, 1, 0, 0, 0,
                                   'b'};
    gqa_vocab *v;
    gqa_error err = {0};
    CHECK(gqa_vocab_from_llama2c(&v, file, sizeof file, 2, "tok", &err) == 0, "%s", err.message);
    check_own(v, "a", GQA_TOKENIZE_BOS, (int32_t[]){0}, 1);
    gqa_vocab_free(v);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("pre-tokeniser llama-bpe")
        test_pre_tokeniser("llama-bpe", "1234ab", (int32_t[]){7, 4, 5, 6}, 4, NULL);
    TEST("pre-tokeniser smollm")
        test_pre_tokeniser("smollm", "12ab", (int32_t[]){2, 3, 6}, 3, NULL);
    TEST("pre-tokeniser qwen2")
        test_pre_tokeniser("qwen2", "12ab", (int32_t[]){2, 3, 6}, 3, NULL);
    TEST("pre-tokeniser that is not known")
        test_pre_tokeniser("mystery", "ab", (int32_t[]){6}, 1, "pre-tokenizer \"mystery\"");
    TEST("a vocabulary by scores") test_own();
    TEST("llama2.c: no BOS to add") test_small_llama2c();
    TEST("pieces of text") test_splitters();
    TEST("every pre-tokenizer's pieces, by its name") test_names();
    TEST("long runs") test_long_runs();
    TEST("many special tokens") test_many_special();
    TEST("end tokens by their keys: eos, eot, eom") test_ends();
    test_merging();
    test_space_prefix();
    test_gemma4();
    with_vocab("vocab/llama2-spm.gguf", test_llama2);
    with_vocab("vocab/llama3-bpe.gguf", test_llama3);
    with_vocab("vocab/qwen3-bpe.gguf", test_qwen3);
    test_llama2c();
    return test_end();
}
