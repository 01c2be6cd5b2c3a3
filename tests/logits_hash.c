/* logits_hash.c: a hash of the logits for each instruction set, weight type, type of KV cache and
 * window. Two versions of the library compute the same bits if it prints the same lines;
 * scripts/compare-commits.sh compiles it in both. What a version lacks has no line. The models are
 * made here, as GGUF files in memory: how the library draws random weights or quantises them is not
 * a part of the comparison.
 *     logits_hash [ISA ...] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../model.h"

enum { BATCH = 48 }; /* a multiple of every tile's columns */
enum { VOCAB = 300, DIM = 256, FFN = 512, LAYERS = 2, HEADS = 8, KV_HEADS = 2, KV_DIM = 64 };
enum { GGUF_U32 = 4, GGUF_STRING = 8, GGUF_ALIGNMENT = 32, FILE_CAPACITY = 1 << 23 };

/* A block is random bits, of which 16 at offset `at` keep those of `keep` and have `bits` for the
 * others, so that scales, minima and floating-point weights have a fixed exponent. The types are
 * numbers, because older versions have no names for some. */
static const struct block_format {
    uint32_t type, values, bytes;
    struct { int at, keep, bits; } fixed[2];
} formats[] = {
    {0, 1, 4, {{2, 0x807f, 123 << 7}}},                                /* f32 */
    {1, 1, 2, {{0, 0x83ff, 11 << 10}}},                                /* f16 */
    {2, 32, 18, {{0, 0x3ff, 9 << 10}}},                                /* q4_0 */
    {3, 32, 20, {{0, 0x3ff, 9 << 10}, {2, 0x3ff, 0x8000 | 12 << 10}}}, /* q4_1 */
    {6, 32, 22, {{0, 0x3ff, 8 << 10}}},                                /* q5_0 */
    {7, 32, 24, {{0, 0x3ff, 8 << 10}, {2, 0x3ff, 0x8000 | 12 << 10}}}, /* q5_1 */
    {8, 32, 34, {{0, 0x3ff, 5 << 10}}},                                /* q8_0 */
    {10, 256, 84, {{80, 0x3ff, 8 << 10}, {82, 0x3ff, 9 << 10}}},       /* q2_k */
    {11, 256, 110, {{108, 0x3ff, 6 << 10}}},                           /* q3_k */
    {12, 256, 144, {{0, 0x3ff, 4 << 10}, {2, 0x3ff, 7 << 10}}},        /* q4_k */
    {13, 256, 176, {{0, 0x3ff, 3 << 10}, {2, 0x3ff, 7 << 10}}},        /* q5_k */
    {14, 256, 210, {{208, 0x3ff, 1 << 10}}},                           /* q6_k */
    {20, 32, 18, {{0, 0x3ff, 5 << 10}}},                               /* iq4_nl */
    {23, 256, 136, {{0, 0x3ff, 1 << 10}}},                             /* iq4_xs */
    {30, 1, 2, {{0, 0x807f, 123 << 7}}},                               /* bf16 */
};

typedef struct tensor { const char *name; uint32_t rows, cols; } tensor;

static const tensor layer_tensors[] = {
    {"attn_norm.weight", 1, DIM},     {"attn_q.weight", DIM, DIM},
    {"attn_k.weight", KV_DIM, DIM},   {"attn_v.weight", KV_DIM, DIM},
    {"attn_output.weight", DIM, DIM}, {"ffn_norm.weight", 1, DIM},
    {"ffn_gate.weight", FFN, DIM},    {"ffn_up.weight", FFN, DIM},
    {"ffn_down.weight", DIM, FFN},
};
enum { LAYER_TENSORS = sizeof layer_tensors / sizeof *layer_tensors };
enum { N_TENSORS = LAYERS * LAYER_TENSORS + 3 };

/* Tensor i of the model; name holds what the result points to. */
static tensor tensor_at(int i, char name[64]) {
    static const tensor last[] = {
        {"token_embd.weight", VOCAB, DIM}, {"output_norm.weight", 1, DIM},
        {"output.weight", VOCAB, DIM},
    };
    if (i >= LAYERS * LAYER_TENSORS) return last[i - LAYERS * LAYER_TENSORS];
    tensor t = layer_tensors[i % LAYER_TENSORS];
    snprintf(name, 64, "blk.%d.%s", i / LAYER_TENSORS, t.name);
    t.name = name;
    return t;
}

static size_t tensor_bytes(tensor t, const struct block_format *f) {
    return t.rows == 1 ? t.cols * sizeof(float) : (size_t)t.rows * t.cols / f->values * f->bytes;
}

static void put(unsigned char **to, const void *data, size_t size) {
    memcpy(*to, data, size);
    *to += size;
}
static void put_u32(unsigned char **to, uint32_t value) { put(to, &value, 4); }
static void put_u64(unsigned char **to, uint64_t value) { put(to, &value, 8); }
static void put_string(unsigned char **to, const char *s) {
    put_u64(to, strlen(s));
    put(to, s, strlen(s));
}

/* Vectors (of norms) are ones. */
static void put_weights(unsigned char **to, tensor t, const struct block_format *f,
                        uint64_t *random) {
    const float one = 1;
    for (uint32_t i = 0; t.rows == 1 && i < t.cols; i++) put(to, &one, 4);
    for (uint32_t n = t.rows > 1 ? t.rows * t.cols / f->values : 0; n > 0; n--) {
        unsigned char *block = *to;
        for (uint32_t i = 0; i < f->bytes; i++) {
            *random = *random * 6364136223846793005u + 1442695040888963407u;
            block[i] = (unsigned char)(*random >> 56);
        }
        for (int i = 0; i < 2 && f->fixed[i].keep; i++) {
            uint16_t bits;
            memcpy(&bits, block + f->fixed[i].at, 2);
            bits = (uint16_t)((bits & f->fixed[i].keep) | f->fixed[i].bits);
            memcpy(block + f->fixed[i].at, &bits, 2);
        }
        *to += f->bytes;
    }
}

static void put_header(unsigned char **to, uint32_t window) {
    const struct { const char *key; uint32_t value; } integers[] = {
        {"llama.block_count", LAYERS},
        {"llama.context_length", 2048},
        {"llama.embedding_length", DIM},
        {"llama.feed_forward_length", FFN},
        {"llama.attention.head_count", HEADS},
        {"llama.attention.head_count_kv", KV_HEADS},
        {"llama.attention.sliding_window", window},
    };
    put(to, "GGUF", 4);
    put_u32(to, 3);
    put_u64(to, N_TENSORS);
    put_u64(to, 1 + sizeof integers / sizeof *integers);
    put_string(to, "general.architecture");
    put_u32(to, GGUF_STRING);
    put_string(to, "llama");
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        put_string(to, integers[i].key);
        put_u32(to, GGUF_U32);
        put_u32(to, integers[i].value);
    }
}

/* Writes a GGUF file to memory; returns its size. */
static size_t write_model(unsigned char *file, const struct block_format *f, uint32_t window) {
    unsigned char *to = file;
    char name[64];
    uint64_t offset = 0, random = 7;
    put_header(&to, window);
    for (int i = 0; i < N_TENSORS; i++) {
        tensor t = tensor_at(i, name);
        put_string(&to, t.name);
        put_u32(&to, t.rows == 1 ? 1 : 2);
        put_u64(&to, t.cols);
        if (t.rows > 1) put_u64(&to, t.rows);
        put_u32(&to, t.rows == 1 ? (uint32_t)GQA_TYPE_F32 : f->type);
        put_u64(&to, offset);
        offset += (tensor_bytes(t, f) + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
    }
    for (int i = 0; i < N_TENSORS; i++) {
        while ((to - file) % GGUF_ALIGNMENT) *to++ = 0;
        put_weights(&to, tensor_at(i, name), f, &random);
    }
    return (size_t)(to - file);
}

/* FNV-1a of the session's logits. */
static unsigned long long hash_logits(const gqa_session *s) {
    const unsigned char *bytes = (const unsigned char *)gqa_session_logits(s);
    unsigned long long h = 14695981039346656037u;
    for (size_t i = 0; bytes && i < VOCAB * sizeof(float); i++) h = (h ^ bytes[i]) * 1099511628211u;
    return h;
}

/* Evaluates n more of the tokens and prints the step's name and hash. */
static int step(const char *name, gqa_session *s, int n, gqa_error *err) {
    int32_t tokens[BATCH * 10];
    int position = gqa_session_position(s);
    for (int i = 0; i < n; i++) tokens[i] = ((position + i) * 37 + 11) % VOCAB;
    if (gqa_session_eval(s, tokens, n, err)) return -1;
    printf(" %s %016llx", name, hash_logits(s));
    return 0;
}

/* Decoding and passes of whole tiles, both again beyond a split of 512 positions, then passes whose
 * products may add in another order: of a few positions, of two sessions, of tiles and a rest. */
static int evaluate(gqa_session *s, gqa_session *other, gqa_error *err) {
    const int32_t tokens[] = {11, 48};
    gqa_session *both[] = {s, other};
    for (int i = 0; i < 5; i++)
        if (step("decode", s, 1, err)) return -1;
    if (step("tiles", s, 3 * BATCH, err) || step("decode", s, 1, err)) return -1;
    if (step("tiles", s, 10 * BATCH, err) || step("decode", s, 1, err)) return -1;
    if (step("few", other, 4, err)) return -1;
    if (gqa_sessions_eval(both, tokens, 2, err)) return -1;
    printf(" two %016llx two %016llx", hash_logits(s), hash_logits(other));
    return step("rest", s, BATCH - 1, err);
}

static void print_line(const gqa_model *m, const char *isa, const char *type, const char *kv) {
    gqa_error err = {0};
    gqa_session_options opt = {.kv = kv, .context = 700, .batch = BATCH, .n_threads = 2};
    gqa_session *s = gqa_session_new(m, &opt, &err);
    gqa_session *other = s ? gqa_session_new(m, &opt, &err) : NULL;
    printf("%s %s kv=%s window=%d:", isa, type, kv, gqa_model_config(m)->window);
    if (!other || evaluate(s, other, &err)) printf(" %s", err.message);
    printf("\n");
    gqa_session_free(other);
    gqa_session_free(s);
}

static void print_isa(const char *isa, unsigned char *file) {
    static const char *const caches[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
    static const uint32_t windows[] = {0, 50};
    gqa_model_options opt = {.isa = isa};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const char *type = gqa_type_name((int)formats[i].type);
        for (int w = 0; w < 2 && type; w++) {
            size_t size = write_model(file, &formats[i], windows[w]);
            gqa_model *m = gqa_model_from_memory(file, size, &opt, NULL);
            for (int kv = 0; m && kv < 5; kv++) print_line(m, isa, type, caches[kv]);
            gqa_model_close(m);
        }
    }
}

int main(int argc, char **argv) {
    static const char *const all[] = {"scalar", "avx2", "avxvnni", "avx512", "neon"};
    unsigned char *file = malloc(FILE_CAPACITY);
    for (int i = 1; file && i < argc; i++) print_isa(argv[i], file);
    for (int i = 0; file && i < 5 && argc == 1; i++) print_isa(all[i], file);
    free(file);
    return !file;
}
