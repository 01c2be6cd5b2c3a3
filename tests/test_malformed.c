/* test_malformed.c: damaged and lying model files: every prefix of a valid file of each format, a table of corrupted
 * headers with the message each must get, and random damage. Each file is an exact-size heap block, so that the address
 * sanitizer sees a read of one byte too many. */
#include "test.h"

#include "../formats/gguf.h"

enum { DIM = 8, LAYERS = 2, HEADS = 4, KV_HEADS = 2, FFN = 12, VOCAB = 300 };

/* Opens data[size] and, if that works, runs a token through it. Writes the message ("" when it opened). */
static void try_open(const void *data, size_t size, int evaluate, char message[512]) {
    gqa_error err = {0};
    void *copy = malloc(size ? size : 1);
    if (size) memcpy(copy, data, size);
    gqa_model *m = gqa_model_from_memory(copy, size, &(gqa_model_options){.n_threads = 1}, &err);
    snprintf(message, 512, "%s", m ? "" : err.message);
    CHECK(m || (err.code < 0 && strlen(err.message) > 8), "refused without a reason");
    if (m) {
        int32_t *tokens; /* more than bytes, where a space takes three of them */
        unsigned flags = GQA_TOKENIZE_BOS | GQA_TOKENIZE_SPECIAL;
        int n = gqa_tokenize_new(m, "a tale of 2 \xF0\x9F", 14, flags, &tokens, NULL);
        CHECK((n >= 0) == (tokens != NULL) && n == gqa_tokenize(m, "a tale of 2 \xF0\x9F", 14, flags, NULL, 0, NULL), "%d tokens", n);
        free(tokens);
        gqa_session *s = evaluate ? gqa_session_new(m, &(gqa_session_options){.context = 8, .n_threads = 1, .batch = 2}, NULL) : NULL;
        int32_t token = 1;
        if (s) gqa_session_eval(s, &token, 1, NULL);
        gqa_session_free(s);
        gqa_model_close(m);
    }
    free(copy);
}

/* ---- a small valid GGUF, with one thing changed ------------------------------------------------------------------- */

typedef struct lie {
    const char *what;           /* the message must hold this; NULL: valid */
    int tensor_type;            /* of all matrices */
    const char *drop_tensor, *reshape_tensor, *drop_key;
    const char *int_key; int int_type; int64_t int_value;   /* replaces or adds */
    const char *float_key; double float_value;
    const char *string_key, *string_value;
    int n_scores;               /* elements of tokenizer.ggml.scores, if not 0 */
    float weight;               /* every weight, if not 0 */
    const char *rename_tensor, *new_name;
} lie;

static int skipped(const lie *l, const char *key) {
    return (l->drop_key && !strcmp(l->drop_key, key)) || (l->int_key && !strcmp(l->int_key, key)) ||
           (l->float_key && !strcmp(l->float_key, key)) || (l->string_key && !strcmp(l->string_key, key));
}

static void put_metadata(gguf_writer *w, const lie *l) {
    static const struct { const char *key; int value; } ints[] = {
        {"llama.block_count", LAYERS}, {"llama.embedding_length", DIM}, {"llama.attention.head_count", HEADS}, {"llama.attention.head_count_kv", KV_HEADS},
        {"llama.feed_forward_length", FFN}, {"llama.context_length", 64}, {"llama.rope.dimension_count", DIM / HEADS},
        {"tokenizer.ggml.bos_token_id", 1}, {"tokenizer.ggml.eos_token_id", 2}};
    if (!skipped(l, "general.architecture")) gguf_put_string(w, "general.architecture", "llama", 5);
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++)
        if (!skipped(l, ints[i].key)) gguf_put_int(w, ints[i].key, GGUF_U32, ints[i].value);
    if (!skipped(l, "llama.attention.layer_norm_rms_epsilon")) gguf_put_float(w, "llama.attention.layer_norm_rms_epsilon", 1e-5);
    if (!skipped(l, "tokenizer.ggml.model")) gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    static char names[VOCAB][8];
    gqa_bytes pieces[VOCAB];
    float scores[VOCAB];
    int32_t types[VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        snprintf(names[i], 8, i < 3 ? "<%d>" : i < 259 ? "<0x%02X>" : "p%d", i < 3 ? i : i < 259 ? i - 3 : i);
        pieces[i] = (gqa_bytes){names[i], strlen(names[i])};
        scores[i] = (float)-i;
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
    }
    if (!skipped(l, "tokenizer.ggml.tokens")) gguf_put_strings(w, "tokenizer.ggml.tokens", pieces, VOCAB);
    if (!skipped(l, "tokenizer.ggml.scores")) gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, (size_t)(l->n_scores ? l->n_scores : VOCAB));
    if (!skipped(l, "tokenizer.ggml.token_type")) gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, VOCAB);
    if (l->int_key) gguf_put_int(w, l->int_key, l->int_type, l->int_value);
    if (l->float_key) gguf_put_float(w, l->float_key, l->float_value);
    if (l->string_key) gguf_put_string(w, l->string_key, l->string_value, strlen(l->string_value));
}

static void make_gguf(const lie *l, uint8_t **data, size_t *size) {
    static const struct { const char *name; int rows, cols; } layer[] = {{"attn_norm", 0, DIM}, {"attn_q", DIM, DIM}, {"attn_k", DIM / 2, DIM},
        {"attn_v", DIM / 2, DIM}, {"attn_output", DIM, DIM}, {"ffn_norm", 0, DIM}, {"ffn_gate", FFN, DIM}, {"ffn_up", FFN, DIM}, {"ffn_down", DIM, FFN}};
    gqa_error err = {0};
    gguf_writer *w = gguf_writer_new(NULL, &err);
    put_metadata(w, l);
    float zeros[VOCAB * DIM] = {0.5f};
    for (int i = 0; l->weight != 0 && i < VOCAB * DIM; i++) zeros[i] = l->weight;
    for (int pass = 0; pass < 2; pass++)
        for (int i = -1; i <= LAYERS * 9; i++) {
            char name[64];
            int rows = VOCAB, cols = DIM;
            if (i < 0) snprintf(name, sizeof name, "token_embd.weight");
            else if (i == LAYERS * 9) snprintf(name, sizeof name, "output_norm.weight"), rows = 0;
            else snprintf(name, sizeof name, "blk.%d.%s.weight", i / 9, layer[i % 9].name), rows = layer[i % 9].rows, cols = layer[i % 9].cols;
            if (l->drop_tensor && !strcmp(l->drop_tensor, name)) continue;
            if (l->reshape_tensor && !strcmp(l->reshape_tensor, name)) cols++;
            uint64_t dims[2] = {(uint64_t)cols, (uint64_t)(rows ? rows : 1)};
            int type = rows ? l->tensor_type : GQA_TYPE_F32;
            if (l->rename_tensor && !strcmp(l->rename_tensor, name)) snprintf(name, sizeof name, "%s", l->new_name);
            if (pass == 0) gguf_declare_tensor(w, name, type, rows ? 2 : 1, dims);
            else gguf_write_tensor_data(w, zeros, (size_t)(dims[0] * dims[1]) * (type == GQA_TYPE_F32 ? 4 : 2));
        }
    CHECK(gguf_finish_memory(w, data, size, &err) == 0, "%s", err.message);
}

static const lie lies[] = {
    {NULL, .tensor_type = GQA_TYPE_F32}, {NULL, .tensor_type = GQA_TYPE_F16}, {NULL, .tensor_type = GQA_TYPE_BF16},
    {"tensor blk.1.attn_k.weight is missing", .drop_tensor = "blk.1.attn_k.weight"}, {"token_embd.weight is missing", .drop_tensor = "token_embd.weight"},
    {"tensor blk.0.ffn_down.weight: expected shape [8, 12], got [8, 13]", .reshape_tensor = "blk.0.ffn_down.weight"},
    {"output_norm.weight: expected shape", .reshape_tensor = "output_norm.weight"},
    {"general.architecture is missing", .drop_key = "general.architecture"}, {"dim is 0", .drop_key = "llama.embedding_length"},
    {"n_layers is 0", .drop_key = "llama.block_count"}, {"n_heads is 0", .int_key = "llama.attention.head_count", .int_type = GGUF_U32},
    {"scores is missing", .drop_key = "tokenizer.ggml.scores"}, {"\"gptneox\" is not supported", .string_key = "general.architecture", .string_value = "gptneox"},
    {"head_count", .int_key = "llama.attention.head_count", .int_type = GGUF_I32, .int_value = -2}, {"n_layers is 1025", .int_key = "llama.block_count", .int_type = GGUF_U32, .int_value = 1025},
    {"expected 0 to 2147483647", .int_key = "llama.embedding_length", .int_type = GGUF_U64, .int_value = 1ll << 40},
    {"not a multiple of n_kv_heads", .int_key = "llama.attention.head_count_kv", .int_type = GGUF_U32, .int_value = 3},
    {"must be even", .int_key = "llama.attention.key_length", .int_type = GGUF_U32, .int_value = 3}, {"context_length is 2147483647", .int_key = "llama.context_length", .int_type = GGUF_U32, .int_value = INT32_MAX},
    {"layers", .int_key = "llama.block_count", .int_type = GGUF_BOOL, .int_value = 0}, {"tensor blk.2.attn_norm.weight is missing", .int_key = "llama.block_count", .int_type = GGUF_U32, .int_value = 3},
    {"rope_dim is 6", .int_key = "llama.rope.dimension_count", .int_type = GGUF_U32, .int_value = 6}, {"rope_dim is 1", .int_key = "llama.rope.dimension_count", .int_type = GGUF_U32, .int_value = 1},
    {"norm_eps is 0", .float_key = "llama.attention.layer_norm_rms_epsilon"}, {"not finite", .float_key = "llama.rope.freq_base", .float_value = 1e300},
    {"rope_theta", .float_key = "llama.rope.freq_base", .float_value = -1}, {"\"su\", which is not supported", .string_key = "llama.rope.scaling.type", .string_value = "su"},
    {"expected an integer, got string", .string_key = "llama.block_count", .string_value = "2"}, {"expected a string, got u32", .int_key = "general.architecture", .int_type = GGUF_U32},
    {"bos_token_id is 300", .int_key = "tokenizer.ggml.bos_token_id", .int_type = GGUF_U32, .int_value = 300}, {"general.alignment is 0", .int_key = "general.alignment", .int_type = GGUF_U32, .int_value = 0},
    {"not a power of two", .int_key = "general.alignment", .int_type = GGUF_U32, .int_value = 48}, {"general.alignment is 1073741824", .int_key = "general.alignment", .int_type = GGUF_U32, .int_value = 1 << 30},
    {"experts", .int_key = "llama.expert_count", .int_type = GGUF_U32, .int_value = 8}, {"value_length", .int_key = "llama.attention.value_length", .int_type = GGUF_U32, .int_value = 4},
    {"tokenizer \"unigram\" is not supported", .string_key = "tokenizer.ggml.model", .string_value = "unigram"}, {"has 299 elements", .n_scores = 299},
    {"array of strings", .string_key = "tokenizer.ggml.tokens", .string_value = "x"}, {"window is", .int_key = "llama.attention.sliding_window", .int_type = GGUF_U32, .int_value = INT32_MAX},
    {"tensor blk.0.attn_k.weight is there twice", .rename_tensor = "blk.1.attn_v.weight", .new_name = "blk.0.attn_k.weight"},
    {"tensor token_embd.weight is there twice", .rename_tensor = "output_norm.weight", .new_name = "token_embd.weight"},
    {"metadata llama.context_length is there twice", .int_key = "llama.context_length", .int_type = GGUF_U32, .int_value = 64, .float_key = "llama.context_length"},
    {"metadata tokenizer.ggml.model is there twice", .string_key = "tokenizer.ggml.model", .string_value = "llama", .int_key = "tokenizer.ggml.model", .int_type = GGUF_U32},
};

static void test_lies(void) {
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        uint8_t *data;
        size_t size;
        char message[512];
        make_gguf(&lies[i], &data, &size);
        try_open(data, size, 1, message);
        if (lies[i].what) CHECK_HAS(message, lies[i].what);
        else CHECK(!message[0], "a valid file: %s", message);
        free(data);
    }
}

static int hear(void *user, const char *text, size_t len) {
    (void)text;
    *(size_t *)user += len;
    return 0;
}

/* Weights that are no numbers, or so large that logits overflow: text of no worth, but text, greedy and sampled. */
static void test_not_numbers(void) {
    const float weights[] = {NAN, INFINITY, -INFINITY, 3e38f};
    for (int i = 0; i < 4; i++)
        for (int greedy = 0; greedy < 2; greedy++) {
            uint8_t *data;
            size_t size, heard = 0;
            gqa_error err = {0};
            make_gguf(&(lie){.weight = weights[i]}, &data, &size);
            gqa_model *m = gqa_model_from_memory(data, size, NULL, &err);
            gqa_session *s = m ? gqa_session_new(m, &(gqa_session_options){.context = 40}, &err) : NULL;
            gqa_sampler *sampler = gqa_sampler_new(&(gqa_sampler_options){.temperature = greedy ? 0 : 0.8f, .top_k = 5, .top_p = 0.9f, .min_p = 0.01f, .seed = 1}, &err);
            gqa_generate_result r = {0};
            int status = s ? gqa_generate(s, sampler, "p260", &(gqa_generate_options){.max_tokens = 12, .ignore_end = 1}, hear, &heard, &r, &err) : -1;
            CHECK(status == 0 || (status < 0 && err.message[0]), "weights %g: status %d: %s", (double)weights[i], status, err.message);
            CHECK(status || r.generated_tokens == 12, "weights %g: %d tokens", (double)weights[i], r.generated_tokens);
            gqa_sampler_free(sampler);
            gqa_session_free(s);
            gqa_model_close(m);
            free(data);
        }
}

/* ---- raw bytes of the header -------------------------------------------------------------------------------------- */

static void test_header_bytes(const uint8_t *good, size_t size) {
    static const struct { size_t at; int bytes; uint64_t value; const char *what; } patches[] = {
        {4, 4, 1, "version 1 is not supported"}, {4, 4, 4, "version 4 is not supported"}, {4, 4, 0x03000000, "big-endian"},
        {8, 8, UINT64_MAX, "tensors in a file"}, {8, 8, 1ull << 62, "tensors in a file"}, {8, 8, 0, ""}, {16, 8, UINT64_MAX, "metadata entries"},
        {16, 8, 1ull << 60, "metadata entries"}, {24, 8, UINT64_MAX, "cut off"}, {24, 8, 0, "0 bytes"}, {24, 8, 1ull << 63, "cut off"},
        {24 + 8 + 20, 4, 99, "unknown value type 99"}, {24 + 8 + 20, 4, GGUF_ARRAY, ""}, {24 + 8 + 20 + 4, 8, UINT64_MAX - 7, "cut off"},
        {0, 4, 0x21212121, "llama2.c"}, {0, 4, 0x47475546, "big-endian"},
    };
    for (size_t i = 0; i < sizeof patches / sizeof patches[0]; i++) {
        uint8_t *bad = malloc(size);
        char message[512];
        memcpy(bad, good, size);
        memcpy(bad + patches[i].at, &patches[i].value, (size_t)patches[i].bytes);
        try_open(bad, size, 0, message);
        CHECK_HAS(message, patches[i].what);
        CHECK(message[0] || !patches[i].what[0], "patch %zu opened", i);
        free(bad);
    }
}

/* The description of the first tensor, found by its name: dims, type and offset, each made a lie. */
static void test_tensor_bytes(const uint8_t *good, size_t size) {
    size_t at = 0;
    for (size_t i = 0; i + 17 < size && !at; i++)
        if (!memcmp(good + i, "token_embd.weight", 17)) at = i + 17;
    const struct { size_t at; int bytes; uint64_t value; const char *what; } patches[] = {
        {at, 4, 0, "0 dimensions"}, {at, 4, 5, "5 dimensions"}, {at, 4, UINT32_MAX, "dimensions"}, {at + 4, 8, 0, "dimension 0 is 0"}, {at + 4, 8, UINT64_MAX, "dimension"},
        {at + 12, 8, 1ull << 61, "dimension"}, {at + 12, 8, 1ull << 40, "outside the file"}, {at + 20, 4, 10, "type q2_k (10) is not supported"}, {at + 20, 4, 777, "type unknown (777)"},
        {at + 20, 4, GQA_TYPE_Q8_0, "not a multiple of q8_0's block of 32"}, {at + 24, 8, 1, "not a multiple of the alignment"}, {at + 24, 8, UINT64_MAX - 31, "outside the file"},
        {at + 24, 8, 64, "overlap"}, {at - 17, 1, 0, "tensor name"}, {at - 25, 8, 1000, "tensor name"}, {at - 25, 8, UINT64_MAX, "cut off"},
    };
    CHECK(at > 0, "the tensor is there");
    for (size_t i = 0; i < sizeof patches / sizeof patches[0]; i++) {
        uint8_t *bad = malloc(size);
        char message[512];
        memcpy(bad, good, size);
        memcpy(bad + patches[i].at, &patches[i].value, (size_t)patches[i].bytes);
        try_open(bad, size, 0, message);
        CHECK_HAS(message, patches[i].what);
        free(bad);
    }
}

/* Arrays that claim more elements than the file has bytes: strings and numbers, the count just after the key and the two types. */
static void test_array_counts(const uint8_t *good, size_t size) {
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"};
    static const struct { uint64_t count; const char *what; } counts[] = {
        {1000000000, ": an array of 1000000000 elements in the "}, {UINT64_MAX, ": an array of 18446744073709551615 elements"}, {1ull << 61, ": an array of 2305843009213693952 elements"}};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        size_t at = 0, n = strlen(keys[k]);
        for (size_t i = 0; i + n + 16 < size && !at; i++)
            if (!memcmp(good + i, keys[k], n)) at = i + n + 8;
        CHECK(at > 0 && !memcmp(good + at, &(uint64_t){VOCAB}, 8), "%s is there", keys[k]);
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            uint8_t *bad = malloc(size);
            char message[512], what[128];
            memcpy(bad, good, size);
            memcpy(bad + at, &counts[i].count, 8);
            snprintf(what, sizeof what, "metadata %s%s", keys[k], counts[i].what);
            try_open(bad, size, 0, message);
            CHECK_HAS(message, what);
            free(bad);
        }
    }
}

static void test_prefixes(const char *what, const uint8_t *good, size_t size) {
    char message[512];
    int opened = 0;
    for (size_t n = 0; n < size; n += n < 12000 ? 1 : 97) {
        try_open(good, n, 0, message);
        opened += !message[0];
    }
    CHECK(opened == 0, "%s: %d prefixes of %zu bytes opened", what, opened, size);
    try_open(good, size, 1, message);
    CHECK(!message[0], "%s whole: %s", what, message);
}

static void test_damage(const uint8_t *good, size_t size, int rounds) {
    uint64_t seed = 11;
    char message[512];
    uint8_t *bad = malloc(size);
    for (int i = 0; i < rounds; i++) {
        memcpy(bad, good, size);
        for (int k = (int)(test_random_bits(&seed) % 4) + 1; k > 0; k--) {
            size_t at = test_random_bits(&seed) % (size < 9000 ? size : 9000);
            if (i % 3) bad[at] = (uint8_t)test_random_bits(&seed);
            else bad[at] ^= (uint8_t)(1 << test_random_bits(&seed) % 8);
        }
        try_open(bad, size, i % 16 == 0, message);
    }
    free(bad);
}

/* ---- llama2.c ------------------------------------------------------------------------------------------------------ */

enum { GROUP = 4 }; /* of v2: 4 values share a scale */

static size_t make_llama2c(int version, uint8_t *out) {
    int32_t header[7] = {DIM, FFN, LAYERS, HEADS, KV_HEADS, 32, 16}, group = GROUP;
    size_t vectors = (2 * LAYERS + 1) * DIM, matrices = 32 * DIM + LAYERS * (2 * DIM * DIM + DIM * DIM + 3 * DIM * FFN);
    size_t floats = vectors + (version == 2 ? 0 : matrices) + (version ? 0 : 16 * DIM / HEADS), start = version ? 256 : 28;
    memset(out, 0, 256);
    if (version) memcpy(out, (uint32_t[2]){0x616b3432, (uint32_t)version}, 8), memcpy(out + 8, header, 28), out[36] = 1;
    else memcpy(out, header, 28);
    if (version == 2) memcpy(out + 37, &group, 4);
    for (size_t i = 0; i < floats; i++) memcpy(out + start + 4 * i, &(float){0.25f}, 4);
    if (version < 2) return start + 4 * floats;
    for (size_t at = start + 4 * floats, i = 0; i < matrices / GROUP * (GROUP + 4); i++) out[at + i] = 0x3d; /* codes of 61; scales of 0.046 */
    return start + 4 * floats + matrices / GROUP * (GROUP + 4);
}

static void test_llama2c(void) {
    static const char *const names[] = {"llama2.c v0", "llama2.c v1", "llama2.c v2"};
    static uint8_t file[1 << 16];
    char message[512];
    for (int version = 0; version < 3; version++) {
        size_t size = make_llama2c(version, file);
        test_prefixes(names[version], file, size);
        try_open(file, size + 1, 0, message);
        CHECK_HAS(message, "bytes, the file has");
        for (int field = 0; field < 7; field++) {
            static const int32_t values[] = {0, -1, INT32_MAX, INT32_MIN, 3};
            for (int v = 0; v < 5; v++) {
                make_llama2c(version, file);
                memcpy(file + (version ? 8 : 0) + 4 * field, &values[v], 4);
                if (version && field == 6 && v == 4) continue; /* v1 and v2 store nothing per position: another context is fine */
                try_open(file, size, 0, message);
                CHECK(message[0], "llama2.c v%d: field %d = %d opened", version, field, values[v]);
            }
        }
        make_llama2c(version, file);
        test_damage(file, size, 1500);
    }
    make_llama2c(1, file);
    file[4] = 9;
    try_open(file, 5000, 0, message);
    CHECK_HAS(message, "version 9");
    file[4] = 2, file[37] = 5, file[38] = file[39] = file[40] = 0;
    try_open(file, 5000, 0, message);
    CHECK_HAS(message, "group_size 5 does not divide");
}

static void test_foreign(void) {
    static const struct { const char *bytes, *what; } files[] = {{"PK\3\4aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "zip"}, {"\x7f" "ELFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a program"},
        {"version https://git-lfs.github.com/spec/v1\n", "Git LFS"}, {"<!DOCTYPE html><html>aaaaaaaaaaaaaaaaaaaaaa", "web page"}, {"12345678{\"model.embed\": {}}aaaaaaaaaaaaaaaa", "safetensors"}};
    char message[512];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        try_open(files[i].bytes, strlen(files[i].bytes), 0, message);
        CHECK_HAS(message, files[i].what);
    }
    try_open("", 0, 0, message);
    CHECK_HAS(message, "empty");
    gqa_error err = {0};
    CHECK(!gqa_model_open("/", NULL, &err), "a directory opened");
    CHECK_HAS(err.message, "directory");
    CHECK(!gqa_model_open("/nowhere/model.gguf", NULL, &err), "nothing opened");
    CHECK_HAS(err.message, "/nowhere/model.gguf: cannot open");
}

/* test_malformed DIR: writes valid files there, to start a fuzzer from (tests/fuzz/seeds). */
static void write_seed(const char *folder, const char *name, const void *data, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, size, f) == size, "%s not written", path);
    if (f) fclose(f);
}
static void write_seeds(const char *folder) {
    static uint8_t file[1 << 16];
    uint8_t *data;
    size_t size;
    for (int i = 0; i < 3; i++) {
        make_gguf(&lies[i], &data, &size);
        write_seed(folder, gqa_type_name(lies[i].tensor_type), data, size);
        free(data);
    }
    for (int version = 0; version < 3; version++) {
        static const char *const names[] = {"llama2c-v0", "llama2c-v1", "llama2c-v2"};
        write_seed(folder, names[version], file, make_llama2c(version, file));
    }
}

int main(int argc, char **argv) {
    uint8_t *data;
    size_t size;
    if (argc > 1) return write_seeds(argv[1]), test_end();
    test_lies();
    test_not_numbers();
    make_gguf(&lies[0], &data, &size);
    test_header_bytes(data, size);
    test_tensor_bytes(data, size);
    test_array_counts(data, size);
    test_prefixes("GGUF", data, size);
    test_damage(data, size, 20000);
    free(data);
    test_llama2c();
    test_foreign();
    return test_end();
}
