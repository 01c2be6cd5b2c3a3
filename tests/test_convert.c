/* test_convert.c: conversion keeps what it must keep: the same heads pool to the same function, turning and regrouping
 * heads changes no logit, a rotation that RoPE does not allow does; types, metadata and failures. */
#include "../formats/formats.h"
#include "../formats/gguf.h"
#include "test.h"

#include <unistd.h>

#include "../convert/convert_internal.h"
#include "../kernels/tensor.h"

enum { VOCAB = 67, LENGTH = 40 };

static size_t image_size; /* of the last source() */

/* A random model as a checkpoint. arch "qwen2" has biases and the other RoPE layout. */
static gqa_checkpoint source(const char *arch, int heads, int kv_heads, int head_dim, uint8_t **image) {
    gqa_error err = {0};
    gguf_writer *w = gguf_writer_new(NULL, &err);
    gqa_config g = {.dim = 96, .n_layers = 2, .n_heads = heads, .n_kv_heads = kv_heads, .head_dim = head_dim, .ffn_dim = 64, .vocab_size = VOCAB,
                    .context_length = 64, .rope_dim = head_dim, .rope_theta = 10000, .norm_eps = 1e-5f};
    snprintf(g.architecture, sizeof g.architecture, "%s", arch);
    struct { char name[64]; int rows, cols; } t[64];
    int n = 0, q = heads * head_dim, kv = kv_heads * head_dim, bias = !strcmp(arch, "qwen2");
#define TENSOR(r, c, ...) (snprintf(t[n].name, sizeof t[n].name, __VA_ARGS__), t[n].rows = (r), t[n++].cols = (c))
    TENSOR(VOCAB, g.dim, "token_embd.weight");
    TENSOR(0, g.dim, "output_norm.weight");
    for (int l = 0; l < g.n_layers; l++) {
        TENSOR(0, g.dim, "blk.%d.attn_norm.weight", l), TENSOR(0, g.dim, "blk.%d.ffn_norm.weight", l);
        TENSOR(q, g.dim, "blk.%d.attn_q.weight", l), TENSOR(kv, g.dim, "blk.%d.attn_k.weight", l), TENSOR(kv, g.dim, "blk.%d.attn_v.weight", l);
        TENSOR(g.dim, q, "blk.%d.attn_output.weight", l), TENSOR(g.ffn_dim, g.dim, "blk.%d.ffn_gate.weight", l);
        TENSOR(g.ffn_dim, g.dim, "blk.%d.ffn_up.weight", l), TENSOR(g.dim, g.ffn_dim, "blk.%d.ffn_down.weight", l);
        if (bias) TENSOR(0, q, "blk.%d.attn_q.bias", l), TENSOR(0, kv, "blk.%d.attn_k.bias", l), TENSOR(0, kv, "blk.%d.attn_v.bias", l);
    }
#undef TENSOR
    gguf_put_config(w, &g);
    gguf_put_string(w, "general.description", "kept", 4);
    for (int i = 0; i < n; i++) gguf_declare_tensor(w, t[i].name, GQA_TYPE_F32, t[i].rows ? 2 : 1, (uint64_t[]){(uint64_t)t[i].cols, (uint64_t)t[i].rows});
    uint64_t seed = 21;
    for (int i = 0; i < n; i++) {
        size_t count = (size_t)t[i].cols * (size_t)(t[i].rows ? t[i].rows : 1);
        float *values = malloc(sizeof *values * count);
        for (size_t k = 0; k < count; k++) values[k] = (strstr(t[i].name, "norm") ? 1.0f : 0.0f) + 0.3f * test_random(&seed);
        gguf_write_tensor_data(w, values, sizeof *values * count);
        free(values);
    }
    gqa_checkpoint c = {0};
    if (!CHECK(gguf_finish_memory(w, image, &image_size, &err) == 0 && gqa_checkpoint_read(&c, *image, image_size, "source", &err) == 0, "%s", err.message)) exit(test_end());
    return c;
}

/* Logits [LENGTH, VOCAB] of a GGUF image. */
static void logits_of(const uint8_t *image, size_t size, float *out) {
    gqa_error err = {0};
    int32_t tokens[LENGTH];
    for (int i = 0; i < LENGTH; i++) tokens[i] = (i * 31 + i * i) % VOCAB;
    gqa_model *m = gqa_model_from_memory(image, size, NULL, &err);
    gqa_session_options so = {.kv = "f32", .n_threads = 1};
    gqa_session *s = m ? gqa_session_new(m, &so, &err) : NULL;
    CHECK(s && gqa_session_eval_all(s, tokens, LENGTH, out, &err) == 0, "%s", err.message);
    gqa_session_free(s);
    gqa_model_close(m);
}

static double distance(const float *a, const float *b) {
    double worst = 0, size = 0;
    for (int i = 0; i < LENGTH * VOCAB; i++) worst = test_worse(worst, fabs((double)(a[i] - b[i]))), size += (double)b[i] * (double)b[i];
    return worst / sqrt(size / (LENGTH * VOCAB));
}

/* The distance between the logits of c and those of c converted. */
static double change(const gqa_checkpoint *c, const uint8_t *image, const gqa_convert_options *o, int kv_heads) {
    static float before[LENGTH * VOCAB], after[LENGTH * VOCAB];
    uint8_t *data = NULL;
    size_t size = 0;
    gqa_error err = {0};
    gqa_checkpoint result = {0};
    logits_of(image, image_size, before);
    if (!CHECK(gqa_convert(c, o, NULL, &data, &size, &err) == 0, "%s", err.message)) return 1e9;
    logits_of(data, size, after);
    CHECK(gqa_checkpoint_read(&result, data, size, "result", &err) == 0 && result.config.n_kv_heads == kv_heads, "%d KV heads, expected %d", result.config.n_kv_heads, kv_heads);
    CHECK(gguf_find(&result, "general.description") != NULL, "metadata is kept");
    gqa_checkpoint_free(&result);
    free(data);
    return distance(after, before);
}

static float *values_of(const gqa_checkpoint *c, int layer, const char *suffix) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s", layer, suffix);
    return (float *)(uintptr_t)gqa_checkpoint_tensor(c, name)->data; /* our own image: writable */
}

static void test_arch(const char *arch, int heads, int kv_heads, int head_dim) {
    uint8_t *image;
    gqa_checkpoint c = source(arch, heads, kv_heads, head_dim, &image);
    gqa_convert_options o = {.type = -1};
    CHECK(change(&c, image, &o, kv_heads) == 0, "nothing to do changes something");
    for (int p = GQA_POOL_MEAN; p <= GQA_POOL_ALIGNED; p++) {
        o = (gqa_convert_options){.type = -1, .pool = (gqa_pool)p, .kv_heads = kv_heads};
        CHECK(change(&c, image, &o, kv_heads) == 0, "%s to as many heads", gqa_pool_name(o.pool));
        o.kv_heads = 2;
        double d = change(&c, image, &o, 2);
        CHECK(d > 0.05, "%s to 2 heads changes logits by %g only", gqa_pool_name(o.pool), d);
    }
    o = (gqa_convert_options){.type = -1, .pool = GQA_POOL_ALIGNED, .kv_heads = 2, .keep_heads = 1};
    double d = change(&c, image, &o, kv_heads);
    CHECK(d < 1e-4 && d > 0, "%s: turned and regrouped heads change logits by %g", arch, d);

    /* The same, pooled: heads that differ by an allowed rotation only are one head. */
    int bias = !strcmp(arch, "qwen2"), cols = c.config.dim, members = kv_heads / 2;
    for (int l = 0; l < 2; l++)
        for (int which = 0; which < 2; which++) {
            float *w = values_of(&c, l, which ? "attn_v.weight" : "attn_k.weight"), *b = bias ? values_of(&c, l, which ? "attn_v.bias" : "attn_k.bias") : NULL;
            for (int h = 0; h < kv_heads; h++) {
                int first = h / members * members;
                memmove(w + h * head_dim * cols, w + first * head_dim * cols, sizeof *w * (size_t)(head_dim * cols));
                if (b) memmove(b + h * head_dim, b + first * head_dim, sizeof *b * (size_t)head_dim);
            }
        }
    static const gqa_pool lossless[] = {GQA_POOL_MEAN, GQA_POOL_FIRST, GQA_POOL_RENORM, GQA_POOL_ALIGNED};
    for (int i = 0; i < 4; i++) {
        o = (gqa_convert_options){.type = -1, .pool = lossless[i], .kv_heads = 2};
        d = change(&c, image, &o, 2);
        CHECK(d < 1e-4, "%s: equal heads pooled by %s: %g", arch, gqa_pool_name(o.pool), d);
    }
    gqa_checkpoint_free(&c);
    free(image);
}

/* Copies of one head, each turned inside its RoPE planes (K, with its queries) or freely (V, undone in W_o): mean pooling
 * ruins the model, alignment finds the way back. */
static void test_turned_copies(void) {
    enum { HD = 8, HEADS = 4 };
    uint8_t *image;
    gqa_checkpoint c = source("llama", HEADS, HEADS, HD, &image);
    head_plan plan = {.order = (int[]){0, 1, 2, 3}};
    double rk[HEADS][HD * HD] = {{0}}, rv[HEADS][HD * HD], any[HD * HD], work[2 * HD * HD];
    uint64_t seed = 4;
    for (int h = 0; h < HEADS; h++) {
        for (int i = 0; i < HD / 2; i++) {
            double angle = 3 * (double)test_random(&seed);
            rk[h][2 * i * HD + 2 * i] = rk[h][(2 * i + 1) * HD + 2 * i + 1] = cos(angle);
            rk[h][2 * i * HD + 2 * i + 1] = -sin(angle), rk[h][(2 * i + 1) * HD + 2 * i] = sin(angle);
        }
        for (int i = 0; i < HD * HD; i++) any[i] = (double)test_random(&seed);
        CHECK(nearest_rotation(any, HD, rv[h], work) == 0, "no rotation");
        for (int i = 0; i < HD; i++)
            for (int j = 0; j < HD; j++) {
                double dot = 0;
                for (int k = 0; k < HD; k++) dot += rv[h][i * HD + k] * rv[h][j * HD + k];
                CHECK(fabs(dot - (i == j)) < 1e-9, "not orthogonal");
            }
    }
    int cols = c.config.dim;
    gqa_convert_options keep = {.type = -1, .keep_heads = 1, .kv_heads = 2};
    static const struct { const char *name; tensor_kind kind; int rows, cols; } parts[] = {
        {"attn_q.weight", QUERY, HEADS * HD, 96}, {"attn_k.weight", KEY, HEADS * HD, 96}, {"attn_v.weight", VALUE, HEADS * HD, 96}, {"attn_output.weight", OUTPUT, 96, HEADS * HD}};
    float *before = malloc(sizeof(float) * LENGTH * VOCAB), *after = malloc(sizeof(float) * LENGTH * VOCAB), *room = malloc(sizeof(float) * 96 * 96);
    for (int l = 0; l < 2; l++)
        for (int which = 1; which < 3; which++) {
            float *w = values_of(&c, l, parts[which].name);
            for (int h = 1; h < HEADS; h++) memcpy(w + h * HD * cols, w, sizeof *w * HD * (size_t)cols);
        }
    logits_of(image, image_size, before);
    plan.rk = rk[0], plan.rv = rv[0];
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < 4; i++) {
            float *w = values_of(&c, l, parts[i].name);
            convert_heads(&c.config, &keep, &plan, parts[i].kind, 0, w, parts[i].rows, parts[i].cols, room);
            memcpy(w, room, sizeof *w * (size_t)(parts[i].rows * parts[i].cols));
        }
    logits_of(image, image_size, after);
    CHECK(distance(after, before) < 1e-4, "allowed rotations change logits by %g", distance(after, before));
    gqa_convert_options o = {.type = -1, .pool = GQA_POOL_ALIGNED, .kv_heads = 1};
    double aligned = change(&c, image, &o, 1);
    o.pool = GQA_POOL_MEAN;
    double mean = change(&c, image, &o, 1);
    CHECK(aligned < 1e-3 && mean > 0.1, "MQA of turned copies: aligned %g, mean %g", aligned, mean);

    plan.rk = rv[0], plan.rv = NULL; /* K may not turn freely: RoPE does not commute with it */
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < 2; i++) {
            float *w = values_of(&c, l, parts[i].name);
            convert_heads(&c.config, &keep, &plan, parts[i].kind, 0, w, parts[i].rows, parts[i].cols, room);
            memcpy(w, room, sizeof *w * (size_t)(parts[i].rows * parts[i].cols));
        }
    logits_of(image, image_size, after);
    CHECK(distance(after, before) > 1e-2, "a general rotation of K changes logits by %g only", distance(after, before));
    free(before), free(after), free(room);
    gqa_checkpoint_free(&c);
    free(image);
}

/* The mean is what the paper says: element by element. */
static void test_mean(void) {
    uint8_t *image, *data = NULL;
    size_t size;
    gqa_error err = {0};
    gqa_checkpoint c = source("llama", 4, 4, 8, &image), r;
    gqa_convert_options o = {.type = -1, .pool = GQA_POOL_MEAN, .kv_heads = 2, .provenance = "by hand"};
    CHECK(gqa_convert(&c, &o, NULL, &data, &size, &err) == 0 && gqa_checkpoint_read(&r, data, size, "r", &err) == 0, "%s", err.message);
    const float *k = values_of(&c, 1, "attn_k.weight"), *p = values_of(&r, 1, "attn_k.weight");
    double worst = 0;
    for (int g = 0; g < 2; g++)
        for (int i = 0; i < 8 * 96; i++) worst = test_worse(worst, fabs((double)p[g * 768 + i] - ((double)k[2 * g * 768 + i] + (double)k[(2 * g + 1) * 768 + i]) / 2));
    CHECK(worst < 1e-6, "mean: %g", worst);
    CHECK(gguf_find(&r, "gqa.convert.command") && gguf_find(&r, "gqa.convert.kv_heads_before")->i == 4, "provenance");
    gqa_checkpoint_free(&r), gqa_checkpoint_free(&c);
    free(data), free(image);
}

static void test_types_and_failures(void) {
    uint8_t *image, *data = NULL;
    size_t size;
    gqa_error err = {0};
    gqa_checkpoint c = source("llama", 4, 4, 24, &image), r;
    static const struct { int type; double most; } types[] = {{GQA_TYPE_F16, 0.03}, {GQA_TYPE_BF16, 0.2}, {GQA_TYPE_Q8_0, 0.5}, {GQA_TYPE_Q4_0, 4}, {GQA_TYPE_Q4_K, 0.5}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        gqa_convert_options o = {.type = types[i].type};
        double d = change(&c, image, &o, 4);
        CHECK(d > 0 && d < types[i].most, "%s: logits differ by %g", gqa_type_name(types[i].type), d);
    }
    gqa_convert_options o = {.type = GQA_TYPE_Q4_K};
    CHECK(gqa_convert(&c, &o, NULL, &data, &size, &err) == 0 && gqa_checkpoint_read(&r, data, size, "r", &err) == 0, "%s", err.message);
    CHECK(gqa_checkpoint_tensor(&r, "token_embd.weight")->type == GQA_TYPE_Q8_0, "rows of 96 cannot be q4_k: the next wider type");
    gqa_checkpoint_free(&r);
    free(data);
    o = (gqa_convert_options){.type = -1, .kv_heads = 3};
    CHECK(gqa_convert(&c, &o, NULL, &data, &size, &err) == GQA_ERR_ARGUMENT, "3 of 4");
    CHECK_HAS(err.message, "divisor");
    char path[128];
    snprintf(path, sizeof path, "/tmp/gqa-test-%ld.gguf", (long)getpid());
    FILE *f = fopen(path, "wb");
    fputs("precious", f);
    fclose(f);
    o = (gqa_convert_options){.type = 99};
    CHECK(gqa_convert(&c, &o, path, NULL, NULL, &err) < 0, "type 99");
    char kept[9] = "";
    f = fopen(path, "rb");
    CHECK(fread(kept, 1, 8, f) == 8 && !strcmp(kept, "precious"), "a failure leaves the old file alone");
    fclose(f);
    unlink(path);
    CHECK(gqa_convert(&c, &(gqa_convert_options){.type = -1}, "/dev/null", NULL, NULL, &err) == GQA_ERR_IO, "a device is not replaced");
    gqa_checkpoint_free(&c);
    free(image);
}

int main(void) {
    test_arch("llama", 8, 8, 12);
    test_arch("llama", 8, 4, 12);
    test_arch("qwen2", 6, 6, 16);
    test_turned_copies();
    test_mean();
    test_types_and_failures();
    return test_end();
}
