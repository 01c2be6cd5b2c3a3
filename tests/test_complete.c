/* test_complete.c: a file runs, and is converted, only when every tensor in it has its place and
 * its shape, and when no key asks for another computation. */
#include "test.h"

#include "../convert/convert.h"
#include "../formats/formats.h"
#include "../formats/gguf.h"

/* What is different from a good model. */
typedef struct change {
    const char *tensor;                /* which one; NULL: none */
    uint64_t dims[2];                  /* its dimensions instead; {0}: it is left out */
    int n_dims;
    const char *extra;                 /* a tensor more, f32 [32] */
    const char *key;                   /* a key more */
    int key_type;                      /* GGUF_F32, GGUF_BOOL, ... */
    double value;
    const char *text;                  /* the key's value instead, a string */
} change;

static void put_key(gguf_writer *w, const change *x) {
    if (!x->key) return;
    if (x->text) gguf_put_string(w, x->key, x->text, strlen(x->text));
    else if (x->key_type == GGUF_ARRAY) gguf_put_array(w, x->key, GGUF_I32, (int32_t[]){8, 4}, 2);
    else if (x->key_type == GGUF_F32) gguf_put_float(w, x->key, x->value);
    else gguf_put_int(w, x->key, x->key_type, (int64_t)x->value);
}

/* A model of two layers, 4 query heads of 16, 2 KV heads, with that change. */
static uint8_t *make_file(const change *x, size_t *size) {
    gqa_config shape = {.dim = 32, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16,
                        .ffn_dim = 32, .vocab_size = 40, .context_length = 64};
    static const uint8_t zeros[1 << 16];
    gqa_checkpoint c;
    gqa_error err = {0};
    uint8_t *data = NULL;
    CHECK(!gqa_checkpoint_random(&c, &shape, GQA_TYPE_F32, 1, &err), "%s", err.message);
    gguf_writer *w = gguf_writer_new(NULL, &err);
    gguf_put_config(w, &c.config);
    put_key(w, x);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < c.n_tensors; i++) {
            const gqa_tensor *t = &c.tensors[i];
            int is_changed = x->tensor && !strcmp(t->name, x->tensor);
            const uint64_t *dims = is_changed ? x->dims : t->dims;
            int n_dims = is_changed && x->n_dims ? x->n_dims : t->n_dims;
            size_t bytes = 4 * (size_t)(dims[0] * (n_dims > 1 ? dims[1] : 1));
            if (!bytes) continue;
            if (!pass) gguf_declare_tensor(w, t->name, t->type, n_dims, dims);
            else gguf_write_tensor_data(w, is_changed ? zeros : t->data, bytes);
        }
        if (x->extra && !pass) gguf_declare_tensor(w, x->extra, GQA_TYPE_F32, 1, (uint64_t[]){32});
        if (x->extra && pass) gguf_write_tensor_data(w, zeros, 128);
    }
    CHECK(!gguf_finish_memory(w, &data, size, &err), "%s", err.message);
    gqa_checkpoint_free(&c);
    return data;
}

static int open_status(const uint8_t *data, size_t size, gqa_error *err) {
    gqa_model *m = gqa_model_from_memory(data, size, NULL, err);
    int status = m ? 0 : (int)err->code;
    gqa_model_close(m);
    return status;
}

/* Converts the file to one KV head by that pooling, or to q8_0 for pool -1. */
static int convert_status(const uint8_t *data, size_t size, int pool, gqa_error *err) {
    gqa_checkpoint c;
    gqa_convert_options o = {.type = pool < 0 ? GQA_TYPE_Q8_0 : -1, .kv_heads = pool < 0 ? 0 : 1};
    uint8_t *out = NULL;
    size_t out_size;
    if (pool >= 0) o.pool = (gqa_pool)pool;
    int status = gqa_checkpoint_read(&c, data, size, "file", err);
    if (status) return status;
    status = gqa_convert(&c, &o, NULL, &out, &out_size, err);
    gqa_checkpoint_free(&c);
    free(out);
    return status;
}

/* message NULL: the file is good. */
static void check_file(const char *name, change x, const char *message) {
    TEST(name) {
        gqa_error err = {0};
        size_t size;
        uint8_t *data = make_file(&x, &size);
        int status = open_status(data, size, &err);
        CHECK((status == 0) == !message, "opening: %d %s", status, err.message);
        if (message) CHECK_HAS(err.message, message);
        for (int pool = -1; pool <= GQA_POOL_ALIGNED; pool++) {
            err.message[0] = 0;
            status = convert_status(data, size, pool, &err);
            CHECK((status == 0) == !message, "pool %d: %d %s", pool, status, err.message);
            if (message) CHECK_HAS(err.message, message);
        }
        free(data);
    }
}

#define K "blk.1.attn_k.weight"
#define SHAPED(name, n, ...) (change){.tensor = name, .n_dims = n, .dims = {__VA_ARGS__}}

static void check_tensors(void) {
    check_file("as it should be", (change){0}, NULL);
    check_file("too few rows", SHAPED(K, 0, 32, 1), "tensor " K ": expected shape [32, 32], got");
    check_file("too many rows", SHAPED(K, 0, 32, 33), "got [33, 32]");
    check_file("one dimension", SHAPED(K, 1, 32), "got [1, 32]");
    check_file("too few columns", SHAPED(K, 0, 16, 32), "got [32, 16]");
    check_file("query rows", SHAPED("blk.0.attn_q.weight", 0, 32, 32), "expected shape [64, 32]");
    check_file("output columns", SHAPED("blk.0.attn_output.weight", 0, 32, 32), "[32, 64]");
    check_file("a norm of two dimensions", SHAPED("blk.0.attn_norm.weight", 2, 32, 1), NULL);
    check_file("a norm of another length", SHAPED("output_norm.weight", 0, 16), "got [1, 16]");
    check_file("a tensor is missing", SHAPED("blk.1.ffn_up.weight", 0, 0), "ffn_up.weight is mis");
    static const char *const extra[] = {
        "blk.0.attn_output.bias", "blk.0.ffn_down.bias", "blk.0.attn_q.scale", "output.bias",
        "blk.1.attn_norm_2.weight", "blk.0.attn_sinks.weight", "x.attn_k.weight",
        "blk.2.attn_k.weight", "blk.-1.attn_k.weight", "blk.01.attn_k.weight",
        "blk.9000000.attn_v.weight", "blk.4294967296.attn_q.weight",
    };
    for (size_t i = 0; i < sizeof extra / sizeof extra[0]; i++) {
        char message[100];
        snprintf(message, sizeof message, "tensor %s is not part of a llama model", extra[i]);
        check_file(extra[i], (change){.extra = extra[i]}, message);
    }
    check_file("a rotary table of an old file", (change){.extra = "blk.0.attn_rot_embd.weight"},
               NULL);
    check_file("a bias of one layer only", (change){.extra = "blk.1.attn_k.bias"}, NULL);
}

static void check_keys(void) {
    static const struct {
        const char *key;
        int type;
        double neutral, other;
    } keys[] = {
        {"llama.attention.causal", GGUF_BOOL, 1, 0},
        {"llama.attn_logit_softcapping", GGUF_F32, 0, 50},
        {"llama.final_logit_softcapping", GGUF_F32, 0, 30},
        {"llama.embedding_scale", GGUF_F32, 1, 12},
        {"llama.residual_scale", GGUF_F32, 1, 0.25},
        {"llama.logit_scale", GGUF_F32, 1, 8},
        {"llama.attention.scale", GGUF_F32, 0.25, 0.0625},
        {"llama.attention.clamp_kqv", GGUF_F32, 0, 8},
        {"llama.attention.max_alibi_bias", GGUF_F32, 0, 8},
        {"llama.attention.output_scale", GGUF_F32, 1, 0.5},
        {"llama.attention.value_scale", GGUF_F32, 1, 0.5},
        {"llama.attention.temperature_scale", GGUF_F32, 0, 0.1},
        {"llama.attention.relative_buckets_count", GGUF_U32, 0, 32},
        {"llama.attention.shared_kv_layers", GGUF_U32, 0, 1},
        {"llama.embedding_length_per_layer_input", GGUF_U32, 0, 8},
        {"llama.rope.dimension_sections", GGUF_U32, 0, 8},
        {"llama.use_parallel_residual", GGUF_BOOL, 0, 1},
        {"llama.swin_norm", GGUF_BOOL, 0, 1},
        {"llama.rope.scaling.yarn_attn_factor", GGUF_F32, 1, 2},
        {"llama.rope.scaling.yarn_ext_factor", GGUF_F32, 1, 0.5},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s, neutral", keys[i].key + 6);
        change x = {.key = keys[i].key, .key_type = keys[i].type, .value = keys[i].neutral};
        check_file(name, x, NULL);
        x.value = keys[i].other;
        check_file(keys[i].key + 6, x, keys[i].key + 6);
    }
    change sections = {.key = "llama.rope.dimension_sections", .key_type = GGUF_ARRAY};
    check_file("an array", sections, "sections is an array, which is not supported (0 is)");
    sections.text = "8";
    check_file("a string", sections, "sections is a string, which is not supported (0 is)");
}

static void check_long_rope(void) {
    change x = {.key = "llama.rope.scaling.type", .text = "longrope"};
    check_file("longrope without factors", x, "rope_factors_long.weight");
}

/* The position by which the first frequency of RoPE turns: 1, or 1 / factor. */
static void check_rope_factor(void) {
    TEST("a RoPE factor without a type is linear scaling") {
        change x = {.key = "llama.rope.scaling.factor", .key_type = GGUF_F32, .value = 4};
        gqa_error err = {0};
        size_t size;
        uint8_t *data = make_file(&x, &size);
        gqa_model *m = gqa_model_from_memory(data, size, NULL, &err);
        CHECK(m, "%s", err.message);
        const gqa_config *c = gqa_model_config(m);
        CHECK(c->rope_scaling == GQA_ROPE_LINEAR && c->rope_factor == 4, "%d, factor %g",
              (int)c->rope_scaling, (double)c->rope_factor);
        gqa_model_close(m);
        free(data);
    }
}

static void check_escapes(void) {
    TEST("control characters of a file are escaped in messages") {
        change x = {.extra = "a\x1b]0;b\x07\n\x7f\xC2\x9B" "c\xC3\xA9"};
        gqa_error err = {0};
        size_t size;
        uint8_t *data = make_file(&x, &size);
        CHECK(open_status(data, size, &err) == GQA_ERR_UNSUPPORTED, "%s", err.message);
        CHECK_HAS(err.message, "a\\x1b]0;b\\x07\\x0a\\x7f\\xc2\\x9bc\xC3\xA9");
        free(data);
    }
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    check_tensors();
    check_keys();
    check_long_rope();
    check_rope_factor();
    check_escapes();
    return test_end();
}
