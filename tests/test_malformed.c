/* test_malformed.c: damaged and lying model files: every prefix of a valid file of each format,
 * tables of changes with the message that each must get, and random damage. Each file is an
 * exact-size heap block, so that the address sanitizer sees a read of one byte too many. */
#include "test.h"

#include "../formats/gguf.h"

enum { DIM = 8, LAYERS = 2, HEADS = 4, KV_HEADS = 2, FFN = 12, VOCAB = 300 };

/* More tokens than bytes, where a space takes three. */
static void try_tokenize(const gqa_model *m) {
    static const char text[] = "a tale of 2 \xF0\x9F";
    unsigned flags = GQA_TOKENIZE_BOS | GQA_TOKENIZE_SPECIAL;
    int32_t *tokens;
    int n = gqa_tokenize_new(m, text, sizeof text - 1, flags, &tokens, NULL);
    int counted = gqa_tokenize(m, text, sizeof text - 1, flags, NULL, 0, NULL);
    CHECK((n >= 0) == (tokens != NULL) && n == counted, "%d tokens, counted %d", n, counted);
    free(tokens);
}

static void try_evaluate(const gqa_model *m) {
    gqa_session_options o = {.context = 8, .n_threads = 1, .batch = 2};
    gqa_session *s = gqa_session_new(m, &o, NULL);
    int32_t token = 1;
    if (s) gqa_session_eval(s, &token, 1, NULL);
    gqa_session_free(s);
}

/* Opens data[size]; if that works, tokenizes with it and, if asked, runs a token through it.
 * Writes the message ("" when it opened). */
static void try_open(const void *data, size_t size, int evaluate, char message[512]) {
    gqa_error err = {0};
    void *copy = malloc(size ? size : 1);
    if (size) memcpy(copy, data, size);
    gqa_model *m = gqa_model_from_memory(copy, size, &(gqa_model_options){.n_threads = 1}, &err);
    snprintf(message, 512, "%s", m ? "" : err.message);
    CHECK(m || (err.code < 0 && strlen(err.message) > 8), "refused without a reason");
    if (m) try_tokenize(m);
    if (m && evaluate) try_evaluate(m);
    gqa_model_close(m);
    free(copy);
}

/* part NULL: the file opens; else it is refused with a message that holds part. */
static void check_open(const void *data, size_t size, const char *part) {
    char message[512];
    try_open(data, size, 1, message);
    if (part) CHECK_HAS(message, part);
    else CHECK(!message[0], "refused: %s", message);
}

/* ---- a small valid GGUF, with one thing changed ------------------------------------------ */

typedef struct change {
    const char *name;           /* of the case */
    const char *message;        /* must hold this; NULL: opens */
    int tensor_type;            /* of all matrices */
    const char *drop_tensor, *reshape_tensor, *drop_key;
    const char *int_key;        /* replaces an entry or adds one; the other two as well */
    int int_type;
    int64_t int_value;
    const char *float_key;
    double float_value;
    const char *string_key, *string_value;
    int n_scores;               /* elements of tokenizer.ggml.scores, if not 0 */
    float weight;               /* every weight, if not 0 */
    const char *rename_tensor, *new_name;
} change;

static int is(const char *a, const char *b) { return a && !strcmp(a, b); }

/* Whether the entry of that key is left out. */
static int drops(const change *c, const char *key) {
    return is(c->drop_key, key) || is(c->int_key, key) || is(c->float_key, key) ||
           is(c->string_key, key);
}

static void put_vocab(gguf_writer *w, const change *c) {
    static char names[VOCAB][8];
    gqa_bytes tokens[VOCAB];
    float scores[VOCAB];
    int32_t types[VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        const char *format = i < 3 ? "<%d>" : i < 259 ? "<0x%02X>" : "p%d";
        snprintf(names[i], 8, format, i < 3 || i >= 259 ? i : i - 3);
        tokens[i] = (gqa_bytes){names[i], strlen(names[i])};
        scores[i] = (float)-i;
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
    }
    if (!drops(c, "tokenizer.ggml.tokens"))
        gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, VOCAB);
    size_t n_scores = (size_t)(c->n_scores ? c->n_scores : VOCAB);
    if (!drops(c, "tokenizer.ggml.scores"))
        gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, n_scores);
    if (!drops(c, "tokenizer.ggml.token_type"))
        gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, VOCAB);
}

static void put_metadata(gguf_writer *w, const change *c) {
    static const struct { const char *key; int value; } ints[] = {
        {"llama.block_count", LAYERS},
        {"llama.embedding_length", DIM},
        {"llama.attention.head_count", HEADS},
        {"llama.attention.head_count_kv", KV_HEADS},
        {"llama.feed_forward_length", FFN},
        {"llama.context_length", 64},
        {"llama.rope.dimension_count", DIM / HEADS},
        {"tokenizer.ggml.bos_token_id", 1},
        {"tokenizer.ggml.eos_token_id", 2},
    };
    static const char eps[] = "llama.attention.layer_norm_rms_epsilon";
    if (!drops(c, "general.architecture")) gguf_put_string(w, "general.architecture", "llama", 5);
    for (size_t i = 0; i < array_length(ints); i++)
        if (!drops(c, ints[i].key)) gguf_put_int(w, ints[i].key, GGUF_U32, ints[i].value);
    if (!drops(c, eps)) gguf_put_float(w, eps, 1e-5);
    if (!drops(c, "tokenizer.ggml.model")) gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    put_vocab(w, c);
    if (c->int_key) gguf_put_int(w, c->int_key, c->int_type, c->int_value);
    if (c->float_key) gguf_put_float(w, c->float_key, c->float_value);
    if (c->string_key) gguf_put_string(w, c->string_key, c->string_value, strlen(c->string_value));
}

/* Declares a tensor (data NULL) or writes its data. rows 0: a vector. */
static void put_tensor(gguf_writer *w, const change *c, const char *name, int rows, int cols,
                       const float *data) {
    if (is(c->drop_tensor, name)) return;
    if (is(c->reshape_tensor, name)) cols++;
    uint64_t dims[2] = {(uint64_t)cols, (uint64_t)(rows ? rows : 1)};
    int type = rows ? c->tensor_type : GQA_TYPE_F32;
    if (is(c->rename_tensor, name)) name = c->new_name;
    if (!data) gguf_declare_tensor(w, name, type, rows ? 2 : 1, dims);
    else gguf_write_tensor_data(w, data, dims[0] * dims[1] * (type == GQA_TYPE_F32 ? 4 : 2));
}

static void put_tensors(gguf_writer *w, const change *c, const float *data) {
    static const struct { const char *name; int rows, cols; } layer[] = {
        {"attn_norm", 0, DIM},    {"attn_q", DIM, DIM},   {"attn_k", DIM / 2, DIM},
        {"attn_v", DIM / 2, DIM}, {"attn_output", DIM, DIM}, {"ffn_norm", 0, DIM},
        {"ffn_gate", FFN, DIM},   {"ffn_up", FFN, DIM},   {"ffn_down", DIM, FFN},
    };
    put_tensor(w, c, "token_embd.weight", VOCAB, DIM, data);
    for (int l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < array_length(layer); i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, layer[i].name);
            put_tensor(w, c, name, layer[i].rows, layer[i].cols, data);
        }
    put_tensor(w, c, "output_norm.weight", 0, DIM, data);
}

static void make_gguf(const change *c, uint8_t **data, size_t *size) {
    gqa_error err = {0};
    gguf_writer *w = gguf_writer_new(NULL, &err);
    float weights[VOCAB * DIM] = {0.5f};
    for (int i = 0; c->weight != 0 && i < VOCAB * DIM; i++) weights[i] = c->weight;
    put_metadata(w, c);
    put_tensors(w, c, NULL);
    put_tensors(w, c, weights);
    CHECK(gguf_finish_memory(w, data, size, &err) == 0, "%s", err.message);
}

#define INT(key, type, value) .int_key = key, .int_type = type, .int_value = value
#define U32(key, value) INT(key, GGUF_U32, value)
#define LLAMA(key, value) U32("llama." key, value)
#define FLOAT(key, value) .float_key = key, .float_value = value
#define STRING(key, value) .string_key = key, .string_value = value

static const change changes[] = {
    {"f32", NULL, .tensor_type = GQA_TYPE_F32},
    {"f16", NULL, .tensor_type = GQA_TYPE_F16},
    {"bf16", NULL, .tensor_type = GQA_TYPE_BF16},
    /* tensors */
    {"no K matrix", "tensor blk.1.attn_k.weight is missing", .drop_tensor = "blk.1.attn_k.weight"},
    {"no embedding", "token_embd.weight is missing", .drop_tensor = "token_embd.weight"},
    {"a matrix of another shape",
     "tensor blk.0.ffn_down.weight: expected shape [8, 12], got [8, 13]",
     .reshape_tensor = "blk.0.ffn_down.weight"},
    {"a vector of another length", "output_norm.weight: expected shape",
     .reshape_tensor = "output_norm.weight"},
    {"a matrix twice", "duplicate tensor blk.0.attn_k.weight",
     .rename_tensor = "blk.1.attn_v.weight", .new_name = "blk.0.attn_k.weight"},
    {"the embedding twice", "duplicate tensor token_embd.weight",
     .rename_tensor = "output_norm.weight", .new_name = "token_embd.weight"},
    /* keys that are missing, or there twice */
    {"no architecture", "general.architecture is missing", .drop_key = "general.architecture"},
    {"no dim", "llama.embedding_length is missing", .drop_key = "llama.embedding_length"},
    {"no layers", "llama.block_count is missing", .drop_key = "llama.block_count"},
    {"no scores", "scores is missing", .drop_key = "tokenizer.ggml.scores"},
    {"a number twice", "duplicate metadata key llama.context_length",
     LLAMA("context_length", 64), .float_key = "llama.context_length"},
    {"a string twice", "duplicate metadata key tokenizer.ggml.model",
     STRING("tokenizer.ggml.model", "llama"), U32("tokenizer.ggml.model", 0)},
    /* keys out of range */
    {"0 heads", "n_heads is 0", LLAMA("attention.head_count", 0)},
    {"-2 heads", "head_count", INT("llama.attention.head_count", GGUF_I32, -2)},
    {"1025 layers", "n_layers is 1025", LLAMA("block_count", 1025)},
    {"false layers", "layers", INT("llama.block_count", GGUF_BOOL, 0)},
    {"3 layers of 2", "tensor blk.2.attn_norm.weight is missing", LLAMA("block_count", 3)},
    {"dim 2^40", "expected 0 to 2147483647", INT("llama.embedding_length", GGUF_U64, 1ll << 40)},
    {"3 KV heads", "not a multiple of n_kv_heads", LLAMA("attention.head_count_kv", 3)},
    {"odd head_dim", "must be even", LLAMA("attention.key_length", 3)},
    {"V wider than K", "value_length", LLAMA("attention.value_length", 4)},
    {"a huge context", "context_length is 2147483647", LLAMA("context_length", INT32_MAX)},
    {"a huge window", "window is", LLAMA("attention.sliding_window", INT32_MAX)},
    {"rope_dim above head_dim", "rope_dim is 6", LLAMA("rope.dimension_count", 6)},
    {"rope_dim 1", "rope_dim is 1", LLAMA("rope.dimension_count", 1)},
    {"experts", "experts", LLAMA("expert_count", 8)},
    {"norm_eps 0", "norm_eps is 0", FLOAT("llama.attention.layer_norm_rms_epsilon", 0)},
    {"infinite theta", "not finite", FLOAT("llama.rope.freq_base", 1e300)},
    {"negative theta", "rope_theta", FLOAT("llama.rope.freq_base", -1)},
    {"scaling su", "\"su\", which is not supported", STRING("llama.rope.scaling.type", "su")},
    {"a foreign model", "\"gptneox\" is not supported", STRING("general.architecture", "gptneox")},
    {"alignment 0", "general.alignment is 0", U32("general.alignment", 0)},
    {"a split file", "is part 1 of 3; join them", U32("split.count", 3)},
    {"alignment 48", "not a power of two", U32("general.alignment", 48)},
    {"alignment 2^30", "general.alignment is 1073741824", U32("general.alignment", 1 << 30)},
    /* keys of another type */
    {"layers in words", "expected an integer, got string", STRING("llama.block_count", "2")},
    {"an integer theta", "expected a floating-point number, got u32", LLAMA("rope.freq_base", 1)},
    {"a numbered architecture", "expected a string, got u32", U32("general.architecture", 0)},
    {"an integer flag", "expected bool, got u32", U32("tokenizer.ggml.add_bos_token", 1)},
    {"one token as a string", "array of strings", STRING("tokenizer.ggml.tokens", "x")},
    /* the vocabulary */
    {"BOS out of range", "bos_token_id is 300", U32("tokenizer.ggml.bos_token_id", 300)},
    {"a unigram model", "\"unigram\" is not supported", STRING("tokenizer.ggml.model", "unigram")},
    {"too few scores", "has 299 elements", .n_scores = 299},
};

static void test_changes(void) {
    for (size_t i = 0; i < array_length(changes); i++)
        TEST(changes[i].name) {
            uint8_t *data;
            size_t size;
            make_gguf(&changes[i], &data, &size);
            check_open(data, size, changes[i].message);
            free(data);
        }
}

static int count_text(void *user, const char *text, size_t len) {
    (void)text;
    *(size_t *)user += len;
    return 0;
}

/* Weights that are not numbers, or so large that logits overflow: any text, but text. */
static void check_weights(float weight, float temperature) {
    gqa_sampler_options sampling = {.temperature = temperature, .top_k = 5, .top_p = 0.9f,
                                    .min_p = 0.01f, .seed = 1};
    gqa_generate_options o = {.max_tokens = 12, .ignore_end = 1};
    uint8_t *data;
    size_t size, received = 0;
    gqa_error err = {0};
    make_gguf(&(change){.weight = weight}, &data, &size);
    gqa_model *m = gqa_model_from_memory(data, size, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &(gqa_session_options){.context = 40}, &err) : NULL;
    gqa_sampler *sampler = gqa_sampler_new(&sampling, &err);
    gqa_generate_result r = {0};
    int status = s ? gqa_generate(s, sampler, "p260", &o, count_text, &received, &r, &err) : -1;
    int n = r.generated_tokens;
    CHECK(status <= 0 && (!status || err.message[0]), "weights %g: status %d: %s", (double)weight,
          status, err.message);
    CHECK(status || n == 12, "weights %g: %d tokens", (double)weight, n);
    gqa_sampler_free(sampler);
    gqa_session_free(s);
    gqa_model_close(m);
    free(data);
}

/* ---- changed bytes ----------------------------------------------------------------------- */

static void check_patched(const uint8_t *good, size_t size, size_t at, uint64_t value, size_t bytes,
                          const char *message) {
    uint8_t *bad = malloc(size);
    memcpy(bad, good, size);
    memcpy(bad + at, &value, bytes);
    check_open(bad, size, message);
    free(bad);
}

/* Where the bytes behind the first mention of text begin. */
static size_t find_behind(const uint8_t *file, size_t size, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n + 16 < size; i++)
        if (!memcmp(file + i, text, n)) return i + n;
    CHECK(0, "%s is not in the file", text);
    return n + 32;
}

/* The header, and the first metadata entry: key "general.architecture", type, value. */
static void test_header_bytes(const uint8_t *good, size_t size) {
    enum { N_TENSORS = 8, N_META = 16, KEY_LENGTH = 24, TYPE = 24 + 8 + 20, LENGTH = TYPE + 4 };
    static const struct { size_t at, bytes; uint64_t value; const char *message; } patches[] = {
        {0, 4, 0x21212121, "llama2.c"},
        {0, 4, 0x47475546, "big-endian"},
        {4, 4, 1, "version 1 is not supported"},
        {4, 4, 4, "version 4 is not supported"},
        {4, 4, 0x03000000, "big-endian"},
        {N_TENSORS, 8, UINT64_MAX, "tensors in a file"},
        {N_TENSORS, 8, 1ull << 62, "tensors in a file"},
        {N_TENSORS, 8, 0, NULL}, /* a vocabulary alone */
        {N_META, 8, UINT64_MAX, "metadata entries"},
        {N_META, 8, 1ull << 60, "metadata entries"},
        {KEY_LENGTH, 8, UINT64_MAX, "truncated"},
        {KEY_LENGTH, 8, 0, "0 bytes"},
        {KEY_LENGTH, 8, 1ull << 63, "truncated"},
        {TYPE, 4, 99, "unknown value type 99"},
        {TYPE, 4, GGUF_ARRAY, "metadata general.architecture: an array of"},
        {LENGTH, 8, UINT64_MAX - 7, "truncated"},
    };
    for (size_t i = 0; i < array_length(patches); i++)
        check_patched(good, size, patches[i].at, patches[i].value, patches[i].bytes,
                      patches[i].message);
}

/* The description of the first tensor: each field changed. at counts from behind its name. */
static void test_tensor_bytes(const uint8_t *good, size_t size) {
    enum { LENGTH = -25, NAME = -17, N_DIMS = 0, DIM_0 = 4, DIM_1 = 12, TYPE = 20, OFFSET = 24 };
    static const struct { int at, bytes; uint64_t value; const char *message; } patches[] = {
        {LENGTH, 8, 1000, "tensor name"},
        {LENGTH, 8, UINT64_MAX, "truncated"},
        {NAME, 1, 0, "tensor name"},
        {N_DIMS, 4, 0, "0 dimensions"},
        {N_DIMS, 4, 5, "5 dimensions"},
        {N_DIMS, 4, UINT32_MAX, "dimensions"},
        {DIM_0, 8, 0, "dimension 0 is 0"},
        {DIM_0, 8, UINT64_MAX, "dimension"},
        {DIM_1, 8, 1ull << 61, "dimension"},
        {DIM_1, 8, 1ull << 40, "outside the file"},
        {TYPE, 4, 16, "type iq2_xxs (16) is not supported (f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, "
                      "q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs are)"},
        {TYPE, 4, 777, "type unknown (777)"},
        {TYPE, 4, GQA_TYPE_Q8_0, "not a multiple of q8_0's block of 32"},
        {OFFSET, 8, 1, "not a multiple of the alignment"},
        {OFFSET, 8, UINT64_MAX - 31, "outside the file"},
        {OFFSET, 8, 64, "overlap"},
    };
    size_t name_end = find_behind(good, size, "token_embd.weight");
    for (size_t i = 0; i < array_length(patches); i++)
        check_patched(good, size, name_end + (size_t)patches[i].at, patches[i].value,
                      (size_t)patches[i].bytes, patches[i].message);
}

/* Arrays of more elements than the file has bytes. The count is behind the key and two types. */
static void test_array_counts(const uint8_t *good, size_t size) {
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores",
                                       "tokenizer.ggml.token_type"};
    static const uint64_t counts[] = {1000000000, UINT64_MAX, 1ull << 61};
    for (size_t k = 0; k < array_length(keys); k++) {
        size_t at = find_behind(good, size, keys[k]) + 8;
        CHECK(!memcmp(good + at, &(uint64_t){VOCAB}, 8), "%s: another count", keys[k]);
        for (size_t i = 0; i < array_length(counts); i++) {
            char part[128];
            snprintf(part, sizeof part, "metadata %s: an array of %llu elements in the ", keys[k],
                     (unsigned long long)counts[i]);
            check_patched(good, size, at, counts[i], 8, part);
        }
    }
}

static void test_prefixes(const uint8_t *good, size_t size) {
    char message[512];
    int opened = 0;
    for (size_t n = 0; n < size; n += n < 12000 ? 1 : 97) {
        try_open(good, n, 0, message);
        opened += !message[0];
    }
    CHECK(opened == 0, "%d prefixes of %zu bytes opened", opened, size);
    check_open(good, size, NULL);
}

/* Refused or opened, but no crash, and every refusal says why. */
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

/* ---- llama2.c ---------------------------------------------------------------------------- */

enum { GROUP = 4, LLAMA2C_VOCAB = 32, LLAMA2C_CONTEXT = 16 }; /* v2: 4 values share a scale */

static size_t make_llama2c(int version, uint8_t *out) {
    int32_t header[] = {DIM, FFN, LAYERS, HEADS, KV_HEADS, LLAMA2C_VOCAB, LLAMA2C_CONTEXT};
    size_t vectors = (2 * LAYERS + 1) * DIM, layer = 2 * DIM * DIM + DIM * DIM + 3 * DIM * FFN;
    size_t matrices = LLAMA2C_VOCAB * DIM + LAYERS * layer, rotary = LLAMA2C_CONTEXT * DIM / HEADS;
    size_t floats = vectors + (version == 2 ? 0 : matrices) + (version ? 0 : rotary);
    size_t end = (version ? 256 : 28) + 4 * floats, codes = matrices / GROUP * (GROUP + 4);
    memset(out, 0, 256);
    memcpy(out + (version ? 8 : 0), header, sizeof header);
    if (version) {
        memcpy(out, (uint32_t[2]){0x616b3432, (uint32_t)version}, 8);
        out[36] = 1;
    }
    if (version == 2) memcpy(out + 37, &(int32_t){GROUP}, 4);
    for (size_t at = version ? 256 : 28; at < end; at += 4) memcpy(out + at, &(float){0.25f}, 4);
    if (version < 2) return end;
    memset(out + end, 0x3d, codes); /* codes of 61; scales of 0.046 */
    return end + codes;
}

/* Every field of the header with values that do not fit the rest. */
static void check_llama2c_fields(int version) {
    static const int32_t values[] = {0, -1, INT32_MAX, INT32_MIN, 3};
    static uint8_t file[1 << 16];
    char message[512];
    for (size_t field = 0; field < 7; field++)
        for (size_t v = 0; v < array_length(values); v++) {
            /* v1 and v2 store nothing per position: another context is fine */
            if (version && field == 6 && values[v] == 3) continue;
            size_t size = make_llama2c(version, file);
            memcpy(file + (version ? 8 : 0) + 4 * field, &values[v], 4);
            try_open(file, size, 0, message);
            CHECK(message[0], "v%d: field %zu = %d opened", version, field, values[v]);
        }
}

static void test_llama2c(void) {
    static const char *const names[] = {"llama2.c v0", "llama2.c v1", "llama2.c v2"};
    static uint8_t file[1 << 16];
    for (int version = 0; version < 3; version++)
        TEST(names[version]) {
            size_t size = make_llama2c(version, file);
            test_prefixes(file, size);
            check_open(file, size + 1, "bytes, the file has");
            test_damage(file, size, 1500);
            check_llama2c_fields(version);
        }
    TEST("llama2.c version 9") {
        make_llama2c(1, file);
        file[4] = 9;
        check_open(file, 5000, "version 9");
    }
    TEST("llama2.c groups of 5") {
        make_llama2c(1, file);
        file[4] = 2;
        memcpy(file + 37, &(int32_t){5}, 4);
        check_open(file, 5000, "group_size 5 does not divide");
    }
}

/* ---- other files ------------------------------------------------------------------------- */

static void test_foreign(void) {
    static const struct { const char *bytes, *message; } files[] = {
        {"PK\3\4aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "zip"},
        {"\x7f" "ELFaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a program"},
        {"version https://git-lfs.github.com/spec/v1\n", "Git LFS"},
        {"<!DOCTYPE html><html>aaaaaaaaaaaaaaaaaaaaaa", "web page"},
        {"12345678{\"model.embed\": {}}aaaaaaaaaaaaaaaa", "safetensors"},
        {"{\"error\":\"Repository not found\"}", "a text that begins \"{\"error\":\"Repository"},
        {"Invalid username or password.", "a text that begins \"Invalid username or password.\""},
        {" \n<?xml version=\"1.0\"?><Error><Code>AccessDenied", "begins \" \\x0a<?xml version"},
        {"12345678{ \"model.embed\": {}}aaaaaaaaaaaaaaaa", "safetensors"},
        {"\x80\2}q\1(X\7aaaaaaaaaaaaaaaaaaaaaaaaaaa", "a Python pickle"},
        {"\x80\4\x95\1aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a Python pickle"},
        {"\n\x0e\n\x05<unk>\1aaaaaaaaaaaaaaaaaaaaaaaa", "a SentencePiece vocabulary"},
        {"\1\2\3\4\5\6\7\1\5\1\1\1<unk>aaaaaaaaaaaaaaaa", "goes after -z"},
        {"\x1f\x8b\x08" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a gzip archive"},
        {"gqaSESS1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\1", "a saved session"},
        {"gqaPACK1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\1", "repacked weights"},
        {"gqaSESS2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\1", "a saved session"},
        {"gqaPACK3aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\1", "repacked weights"},
        {"", "empty"},
    };
    for (size_t i = 0; i < array_length(files); i++)
        check_open(files[i].bytes, strlen(files[i].bytes), files[i].message);
    char tar[512] = "model/";
    memcpy(tar + 257, "ustar", 5);
    check_open(tar, sizeof tar, "a tar archive");
    gqa_error err = {0};
    CHECK(!gqa_model_open("/", NULL, &err), "a directory opened");
    CHECK_HAS(err.message, "directory");
    CHECK(!gqa_model_open("/nowhere/model.gguf", NULL, &err), "nothing opened");
    CHECK_HAS(err.message, "/nowhere/model.gguf: cannot open");
}

/* test_malformed --seeds FOLDER: writes valid files, to start a fuzzer from (tests/fuzz/seeds). */
static void write_seed(const char *folder, const char *name, const void *data, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, size, f) == size, "%s not written", path);
    if (f) fclose(f);
}
static int write_seeds(const char *folder) {
    static const char *const names[] = {"llama2c-v0", "llama2c-v1", "llama2c-v2"};
    static uint8_t file[1 << 16];
    uint8_t *data;
    size_t size;
    for (int i = 0; i < 3; i++) {
        make_gguf(&changes[i], &data, &size);
        write_seed(folder, changes[i].name, data, size);
        free(data);
    }
    for (int version = 0; version < 3; version++)
        write_seed(folder, names[version], file, make_llama2c(version, file));
    return test_end();
}

int main(int argc, char **argv) {
    static const float weights[] = {NAN, INFINITY, -INFINITY, 3e38f};
    uint8_t *data;
    size_t size;
    if (argc == 3 && !strcmp(argv[1], "--seeds")) return write_seeds(argv[2]);
    test_start(argc, argv);
    test_changes();
    TEST("weights that are not numbers, greedy")
        for (size_t i = 0; i < array_length(weights); i++) check_weights(weights[i], 0);
    TEST("weights that are not numbers, sampled")
        for (size_t i = 0; i < array_length(weights); i++) check_weights(weights[i], 0.8f);
    make_gguf(&changes[0], &data, &size);
    TEST("bytes of the header") test_header_bytes(data, size);
    TEST("bytes of a tensor's description") test_tensor_bytes(data, size);
    TEST("counts of arrays") test_array_counts(data, size);
    TEST("prefixes of a GGUF") test_prefixes(data, size);
    TEST("random damage to a GGUF") test_damage(data, size, 20000);
    free(data);
    test_llama2c();
    TEST("files of other kinds") test_foreign();
    return test_end();
}
