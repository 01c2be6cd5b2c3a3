/* test_gguf_config.c: keys of a GGUF that layers are read from: what holds where they are missing,
 * and what is refused: arrays too short, too long, of another type, that disagree with the tensors;
 * fused tensors of another height. */
#include "twin.h"

#include "../formats/formats.h"

enum { LAYERS = 4, MAX_VALUES = 6 };

/* ---- where a file has no key ----------------------------------------------------------------- */

/* The config of a file without tensors: heads, dim, layers and one more key. */
static void read_config(const char *arch, int layers, const char *more, int value,
                        gqa_checkpoint *c, uint8_t **image) {
    const struct {
        const char *suffix;
        int value;
    } keys[] = {
        {"embedding_length", 512}, {"block_count", layers}, {"attention.head_count", 2},
        {"attention.key_length", 64}, {more, value},
    };
    gqa_error err = {0};
    size_t size = 0;
    char key[128];
    gguf_writer *w = gguf_writer_new(NULL, &err);
    gguf_put_string(w, "general.architecture", arch, strlen(arch));
    for (size_t i = 0; i < array_length(keys) && keys[i].suffix; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, keys[i].suffix);
        gguf_put_int(w, key, GGUF_U32, keys[i].value);
    }
    int status = gguf_finish_memory(w, image, &size, &err);
    if (!status) status = gqa_checkpoint_read(c, *image, size, "keys", &err);
    CHECK(status == 0, "%s", err.message);
}

static void check_default(const char *arch, int layers, const char *more, int value, size_t field,
                          int is_int, double want) {
    gqa_checkpoint c = {0};
    uint8_t *image = NULL;
    float number;
    int whole;
    read_config(arch, layers, more, value, &c, &image);
    memcpy(&number, (const char *)&c.config + field, sizeof number);
    memcpy(&whole, (const char *)&c.config + field, sizeof whole);
    double got = is_int ? whole : (double)number;
    CHECK(fabs(got - want) <= 1e-6 * fabs(want), "%s of %d layers: %g, expected %g", arch, layers,
          got, want);
    gqa_checkpoint_free(&c);
    free(image);
}
#define DEFAULT(arch, layers, more, value, field, want) \
    check_default(arch, layers, more, value, offsetof(gqa_config, field), 0, want)
#define DEFAULT_INT(arch, layers, more, value, field, want) \
    check_default(arch, layers, more, value, offsetof(gqa_config, field), 1, want)

static void test_defaults(void) {
    const char *key = "attention.sliding_window";
    DEFAULT_INT("gemma2", 26, NULL, 0, window, 4096);
    DEFAULT_INT("gemma2", 26, key, 7, window, 7);
    DEFAULT_INT("gemma3", 26, NULL, 0, window, 0);
    DEFAULT_INT("exaone4", 30, key, 7, window, 0); /* the small models have none */
    DEFAULT_INT("exaone4", 64, key, 7, window, 7);
    DEFAULT_INT("phi3", 32, key, 7, window, 0);
    DEFAULT("gemma3", 26, key, 7, rope_theta_local, 10000);
    DEFAULT("gemma2", 26, NULL, 0, rope_theta_local, 0);
    DEFAULT("gemma2", 26, NULL, 0, attention_scale, 1 / 8.0);
    DEFAULT("gemma2", 46, NULL, 0, attention_scale, 1 / 16.0); /* 27 B: of dim / heads */
    DEFAULT("gemma3", 62, NULL, 0, attention_scale, 1 / 16.0);
    DEFAULT("gemma3", 46, NULL, 0, attention_scale, 1 / 8.0);
    DEFAULT("gemma2", 26, NULL, 0, attention_softcap, 50);
    DEFAULT("gemma2", 26, NULL, 0, logit_softcap, 30);
    DEFAULT("gemma3", 26, NULL, 0, logit_softcap, 0);
    DEFAULT("minicpm", 49, NULL, 0, embedding_scale, 12);
    DEFAULT("minicpm", 49, NULL, 0, residual_scale, 0.2);
    DEFAULT("minicpm", 49, NULL, 0, logit_scale, 2);
    DEFAULT("granite", 49, NULL, 0, residual_scale, 1);
}

/* ---- what is refused ------------------------------------------------------------------------- */

typedef struct refusal {
    const char *arch, *message;
    const char *key;             /* without the architecture: replaced, or dropped */
    enum { DROP, NUMBER, TEXT, ARRAY } as;
    int type;                    /* of a number or of an array's elements */
    int count;
    double values[MAX_VALUES];
    const char *tensor;          /* gets so many rows more */
    int more_rows;
} refusal;

#define MISSING(suffix) .key = suffix
#define ARRAY_OF(suffix, of, n, ...) \
    .key = suffix, .as = ARRAY, .type = of, .count = n, .values = {__VA_ARGS__}
#define INTS(suffix, n, ...) ARRAY_OF(suffix, GGUF_I32, n, __VA_ARGS__)
#define BOOLS(suffix, n, ...) ARRAY_OF(suffix, GGUF_BOOL, n, __VA_ARGS__)
#define FLOATS(suffix, n, ...) ARRAY_OF(suffix, GGUF_F32, n, __VA_ARGS__)
#define WORDS(suffix) ARRAY_OF(suffix, GGUF_STRING, LAYERS, 0)
#define ONE(suffix, of, value) .key = suffix, .as = NUMBER, .type = GGUF_##of, .values = {value}
#define WORD(suffix) .key = suffix, .as = TEXT
#define TALLER(name, rows) .tensor = name, .more_rows = rows
#define KV_HEADS "attention.head_count_kv"
#define FFN "feed_forward_length"
#define PATTERN "attention.sliding_window_pattern"

static const refusal wrong_keys[] = {
    /* missing: named, or as many KV heads as heads */
    {"llama", "metadata llama.embedding_length is missing", MISSING("embedding_length")},
    {"llama", "metadata llama.block_count is missing", MISSING("block_count")},
    {"llama", "metadata llama.attention.head_count is missing", MISSING("attention.head_count")},
    {"llama", "metadata llama.feed_forward_length is missing", MISSING(FFN)},
    {"llama", "tensor blk.0.attn_k.weight: expected shape [32, 24], got [16, 24]",
     MISSING(KV_HEADS)},
    /* too short, too long */
    {"llama", "llama.attention.head_count_kv has 3 elements, expected 4",
     INTS(KV_HEADS, 3, 2, 2, 2)},
    {"llama", "llama.attention.head_count_kv has 5 elements, expected 4",
     INTS(KV_HEADS, 5, 2, 2, 2, 2, 2)},
    {"llama", "llama.attention.head_count_kv has 0 elements, expected 4", INTS(KV_HEADS, 0, 0)},
    {"llama", "llama.feed_forward_length has 1 elements, expected 4", INTS(FFN, 1, 20)},
    {"llama", "llama.feed_forward_length has 5 elements, expected 4",
     INTS(FFN, 5, 20, 20, 20, 20, 20)},
    {"gemma3", "gemma3.attention.sliding_window_pattern has 3 elements, expected 4",
     BOOLS(PATTERN, 3, 1, 1, 0)},
    {"gemma3", "gemma3.attention.sliding_window_pattern has 6 elements, expected 4",
     INTS(PATTERN, 6, 1, 1, 1, 1, 1, 0)},
    {"llama", "llama.attention.head_count has 3 elements, expected 4",
     INTS("attention.head_count", 3, 4, 4, 4)},
    /* out of range */
    {"llama", "layer 1 has 0 KV heads, expected a divisor of the 4 query heads",
     INTS(KV_HEADS, 4, 2, 0, 2, 2)},
    {"llama", "layer 3 has 3 KV heads, expected a divisor of the 4 query heads",
     INTS(KV_HEADS, 4, 4, 4, 4, 3)},
    {"llama", "llama.attention.head_count_kv is -1 for layer 2, expected 0 to 2147483647",
     INTS(KV_HEADS, 4, 2, 2, -1, 2)},
    {"llama", "n_kv_heads is 0, expected 1 to 4", ONE(KV_HEADS, U32, 0)},
    {"llama", "layer 2 has an FFN width of 0, expected at least 1", INTS(FFN, 4, 20, 20, 0, 20)},
    {"llama", "llama.feed_forward_length is -20 for layer 0", INTS(FFN, 4, -20, 20, 20, 20)},
    {"llama", "ffn_dim is 0, expected 1 to", ONE(FFN, U32, 0)},
    {"gemma3", "sliding_window_pattern is -2, expected 0 to 2147483647", ONE(PATTERN, I32, -2)},
    {"gemma3", "sliding_window_pattern is -1 for layer 1", INTS(PATTERN, 4, 1, -1, 1, 0)},
    {"llama", "llama.attention.head_count differs from layer to layer, which is not supported",
     INTS("attention.head_count", 4, 4, 4, 2, 4)},
    /* of another type */
    {"llama", "llama.attention.head_count_kv: expected an integer, got string", WORD(KV_HEADS)},
    {"llama", "llama.attention.head_count_kv: expected an integer, got f32", ONE(KV_HEADS, F32, 2)},
    {"llama", "llama.attention.head_count_kv: expected an integer, got array",
     FLOATS(KV_HEADS, 4, 2, 2, 2, 2)},
    {"llama", "llama.attention.head_count_kv: expected an integer, got array", WORDS(KV_HEADS)},
    {"llama", "llama.feed_forward_length: expected an integer, got string", WORD(FFN)},
    {"llama", "llama.feed_forward_length: expected an integer, got array",
     FLOATS(FFN, 4, 20, 20, 20, 20)},
    {"gemma3", "sliding_window_pattern: expected an integer, got string", WORD(PATTERN)},
    {"gemma3", "sliding_window_pattern: expected an integer, got array", WORDS(PATTERN)},
    {"gemma3", "sliding_window_pattern: expected an integer, got f32", ONE(PATTERN, F32, 2)},
};

static const refusal wrong_shapes[] = {
    /* keys that disagree with the tensors */
    {"llama", "tensor blk.2.attn_k.weight: expected shape [8, 24], got [16, 24]",
     INTS(KV_HEADS, 4, 2, 2, 1, 2)},
    {"llama", "tensor blk.3.ffn_gate.weight: expected shape [10, 24], got [20, 24]",
     INTS(FFN, 4, 20, 20, 20, 10)},
    {"gemma4", "tensor blk.1.attn_q.weight: expected shape [32, 24], got [64, 24]",
     BOOLS(PATTERN, 4, 1, 1, 1, 0)},
    {"gemma4", "tensor blk.0.attn_q.weight: expected shape [64, 24], got [32, 24]",
     INTS(PATTERN, 4, 0, 0, 1, 0)},
    {"gemma4", "tensor blk.1.attn_q.weight: expected shape [32, 24], got [64, 24]",
     ONE(PATTERN, U32, 3)},
    /* fused tensors */
    {"phi3", "blk.0.attn_qkv.weight: expected shape [64, 24], got [65, 24]",
     TALLER("blk.0.attn_qkv.weight", 1)},
    {"phi3", "blk.3.attn_qkv.weight: expected shape [64, 24], got [32, 24]",
     TALLER("blk.3.attn_qkv.weight", -32)},
    {"phi3", "blk.1.ffn_up.weight: expected shape [40, 24], got [20, 24]",
     TALLER("blk.1.ffn_up.weight", -20)},
    {"phi3", "blk.1.ffn_up.weight: expected shape [40, 24], got [42, 24]",
     TALLER("blk.1.ffn_up.weight", 2)},
    {"phi3", "blk.0.attn_qkv.weight: expected shape [48, 24], got [64, 24]", ONE(KV_HEADS, U32, 1)},
    {"phi3", "blk.0.ffn_up.weight: expected shape [80, 24], got [40, 24]", ONE(FFN, U32, 40)},
};

static void put_values(gguf_writer *w, const char *key, const refusal *r) {
    int32_t ints[MAX_VALUES];
    float floats[MAX_VALUES];
    uint8_t bools[MAX_VALUES];
    gqa_bytes words[MAX_VALUES];
    for (int i = 0; i < MAX_VALUES; i++) {
        ints[i] = (int32_t)r->values[i];
        floats[i] = (float)r->values[i];
        bools[i] = ints[i] != 0;
        words[i] = (gqa_bytes){"2", 1};
    }
    const void *items = r->type == GGUF_F32 ? (const void *)floats
                      : r->type == GGUF_BOOL ? (const void *)bools : (const void *)ints;
    if (r->as == TEXT) gguf_put_string(w, key, "2", 1);
    else if (r->as == NUMBER && r->type == GGUF_F32) gguf_put_float(w, key, r->values[0]);
    else if (r->as == NUMBER) gguf_put_int(w, key, r->type, ints[0]);
    else if (r->type == GGUF_STRING) gguf_put_strings(w, key, words, (size_t)r->count);
    else gguf_put_array(w, key, r->type, items, (size_t)r->count);
}

/* A tensor's data, with as many rows as it shall have. */
static void put_data(gguf_writer *w, const gqa_tensor *t, int more_rows) {
    static const uint8_t zeros[4096];
    int64_t more = (int64_t)more_rows * (int64_t)t->dims[0] * 4; /* all is f32 */
    gguf_write_tensor_data(w, t->data, (size_t)((int64_t)t->size + (more < 0 ? more : 0)));
    if (more > 0) gguf_write_tensor_data(w, zeros, (size_t)more);
}

/* The twin's file with the change. */
static void rewrite(const twin *t, const refusal *r, uint8_t **image, size_t *size) {
    gqa_error err = {0};
    gqa_checkpoint c = {0};
    char key[128];
    snprintf(key, sizeof key, "%s.%s", r->arch, r->key ? r->key : "");
    int status = gqa_checkpoint_read(&c, t->image, t->size, "twin", &err);
    gguf_writer *w = gguf_writer_new(NULL, &err);
    for (int i = 0; i < c.n_meta; i++)
        if (!bytes_equal(c.meta[i].key, key)) gguf_put_entry(w, &c.meta[i]);
    if (r->key && r->as != DROP) put_values(w, key, r);
    for (int declare = 1; declare >= 0; declare--)
        for (int i = 0; i < c.n_tensors; i++) {
            const gqa_tensor *tensor = &c.tensors[i];
            int more = r->tensor && !strcmp(tensor->name, r->tensor) ? r->more_rows : 0;
            uint64_t dims[] = {tensor->dims[0], tensor->dims[1] + (uint64_t)more};
            if (declare) gguf_declare_tensor(w, tensor->name, tensor->type, 2, dims);
            else put_data(w, tensor, more);
        }
    if (!status) status = gguf_finish_memory(w, image, size, &err);
    CHECK(status == 0, "%s", err.message);
    gqa_checkpoint_free(&c);
}

static void check_refused(const refusal *r) {
    int is_gemma4 = !strcmp(r->arch, "gemma4");
    spec s = {.arch = r->arch, .layers = LAYERS, .seed = 5};
    if (is_gemma4) {
        s.window = 23;
        s.pattern = s.pattern_key = 2;
        s.head_dim = 16;
        s.local_head_dim = 8;
    }
    complete(&s);
    twin *t = make_twin(&s);
    gqa_error err = {0};
    uint8_t *image = NULL;
    size_t size = 0;
    rewrite(t, &(refusal){.arch = r->arch}, &image, &size);
    gqa_model *m = gqa_model_from_memory(image, size, NULL, &err);
    CHECK(m != NULL, "as it is: %s", err.message);
    gqa_model_close(m);
    free(image);
    rewrite(t, r, &image, &size);
    m = gqa_model_from_memory(image, size, NULL, &err);
    CHECK(!m, "opened, expected: %s", r->message);
    CHECK_HAS(err.message, r->message);
    gqa_model_close(m);
    free(image);
    free_twin(t);
}

/* Several are refused with the same words. */
static const char *refusal_name(const char *kind, size_t i, const refusal *r) {
    static char name[160];
    snprintf(name, sizeof name, "%s %zu: %s", kind, i, r->message);
    return name;
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("what holds where a file has no key") test_defaults();
    for (size_t i = 0; i < array_length(wrong_keys); i++)
        TEST(refusal_name("key", i, &wrong_keys[i])) check_refused(&wrong_keys[i]);
    for (size_t i = 0; i < array_length(wrong_shapes); i++)
        TEST(refusal_name("shape", i, &wrong_shapes[i])) check_refused(&wrong_shapes[i]);
    return test_end();
}
