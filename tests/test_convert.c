/* test_convert.c: conversion keeps what it must keep: equal heads pool to the same function,
 * rotating and regrouping heads changes no logit, a rotation that RoPE does not allow does;
 * types, metadata and failures. */
#include "../formats/formats.h"
#include "../formats/gguf.h"
#include "test.h"

#include <unistd.h>

#include "../convert/convert_internal.h"
#include "../kernels/tensor.h"

enum { VOCAB = 67, LENGTH = 40, DIM = 96, FFN = 64, LAYERS = 2 };

/* ---- models ---------------------------------------------------------------------------------- */

typedef struct tensor_shape {
    char name[64];
    int rows, cols;     /* rows 0: a vector */
} tensor_shape;

typedef struct shape_list {
    tensor_shape items[1000];
    int n;
} shape_list;

static void add_tensor(shape_list *list, int rows, int cols, const char *name) {
    tensor_shape *t = &list->items[list->n++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows;
    t->cols = cols;
}

static void add_layer_tensor(shape_list *list, int layer, int rows, int cols, const char *suffix) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s", layer, suffix);
    add_tensor(list, rows, cols, name);
}

static shape_list list_tensors(const gqa_config *g) {
    shape_list list = {.n = 0};
    int q_dim = g->n_heads * g->head_dim, kv_dim = g->n_kv_heads * g->head_dim;
    int dim = g->dim, ffn = g->ffn_dim;
    add_tensor(&list, VOCAB, dim, "token_embd.weight");
    add_tensor(&list, 0, dim, "output_norm.weight");
    for (int l = 0; l < g->n_layers; l++) {
        add_layer_tensor(&list, l, 0, dim, "attn_norm.weight");
        add_layer_tensor(&list, l, 0, dim, "ffn_norm.weight");
        add_layer_tensor(&list, l, q_dim, dim, "attn_q.weight");
        add_layer_tensor(&list, l, kv_dim, dim, "attn_k.weight");
        add_layer_tensor(&list, l, kv_dim, dim, "attn_v.weight");
        add_layer_tensor(&list, l, dim, q_dim, "attn_output.weight");
        add_layer_tensor(&list, l, ffn, dim, "ffn_gate.weight");
        add_layer_tensor(&list, l, ffn, dim, "ffn_up.weight");
        add_layer_tensor(&list, l, dim, ffn, "ffn_down.weight");
        if (strcmp(g->architecture, "qwen2")) continue;
        add_layer_tensor(&list, l, 0, q_dim, "attn_q.bias");
        add_layer_tensor(&list, l, 0, kv_dim, "attn_k.bias");
        add_layer_tensor(&list, l, 0, kv_dim, "attn_v.bias");
    }
    return list;
}

static void put_random(gguf_writer *w, const tensor_shape *t, uint64_t *seed) {
    int n = t->cols * (t->rows ? t->rows : 1);
    float center = strstr(t->name, "norm") ? 1.0f : 0.0f;
    float *values = malloc(sizeof *values * (size_t)n);
    for (int k = 0; k < n; k++) values[k] = center + 0.3f * test_random(seed);
    gguf_write_tensor_data(w, values, sizeof *values * (size_t)n);
    free(values);
}

/* A GGUF in memory. */
typedef struct image {
    uint8_t *data;
    size_t size;
    gqa_checkpoint c;
} image;

static void image_free(image *m) {
    gqa_checkpoint_free(&m->c);
    free(m->data);
}

/* Whether m->data can be read. */
static int image_read(image *m) {
    gqa_error err = {0};
    return CHECK(gqa_checkpoint_read(&m->c, m->data, m->size, "image", &err) == 0, "%s",
                 err.message);
}

/* A random model of that architecture and shape; "qwen2" has biases and the other RoPE layout. */
static image shaped_model(const char *arch, gqa_config g) {
    gqa_error err = {0};
    gguf_writer *w = gguf_writer_new(NULL, &err);
    snprintf(g.architecture, sizeof g.architecture, "%s", arch);
    const shape_list list = list_tensors(&g);
    gguf_put_config(w, &g);
    gguf_put_string(w, "general.description", "kept", 4);
    for (int i = 0; i < list.n; i++) {
        const tensor_shape *t = &list.items[i];
        const uint64_t dims[2] = {(uint64_t)t->cols, (uint64_t)t->rows};
        gguf_declare_tensor(w, t->name, GQA_TYPE_F32, t->rows ? 2 : 1, dims);
    }
    uint64_t seed = 21;
    for (int i = 0; i < list.n; i++) put_random(w, &list.items[i], &seed);
    image m = {0};
    int status = gguf_finish_memory(w, &m.data, &m.size, &err);
    if (!CHECK(status == 0, "%s", err.message) || !image_read(&m)) exit(test_end());
    return m;
}

static image random_model(const char *arch, int heads, int kv_heads, int head_dim) {
    return shaped_model(arch, (gqa_config){
        .dim = DIM, .n_layers = LAYERS, .n_heads = heads, .n_kv_heads = kv_heads,
        .head_dim = head_dim, .ffn_dim = FFN, .vocab_size = VOCAB, .context_length = 64,
        .rope_dim = head_dim, .rope_theta = 10000, .norm_eps = 1e-5f,
    });
}

/* The values of a tensor of an image of ours, which is writable. */
static float *values_of(const image *m, int layer, const char *suffix) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s", layer, suffix);
    return (float *)(uintptr_t)gqa_checkpoint_tensor(&m->c, name)->data;
}

/* ---- logits ---------------------------------------------------------------------------------- */

typedef struct logits {
    float values[LENGTH * VOCAB];
} logits;

static logits logits_of(const image *m, int exact) {
    static logits out;
    gqa_error err = {0};
    int32_t tokens[LENGTH];
    for (int i = 0; i < LENGTH; i++) tokens[i] = (i * 31 + i * i) % VOCAB;
    gqa_model *model = gqa_model_from_memory(m->data, m->size, NULL, &err);
    gqa_session_options o = {.kv = "f32", .n_threads = 1, .exact = exact};
    gqa_session *s = model ? gqa_session_new(model, &o, &err) : NULL;
    CHECK(s && gqa_session_eval_all(s, tokens, LENGTH, out.values, &err) == 0, "%s", err.message);
    gqa_session_free(s);
    gqa_model_close(model);
    return out;
}

/* The largest difference, in units of want's root mean square. */
static double distance(const logits *got, const logits *want) {
    double worst = 0, size = 0;
    for (int i = 0; i < LENGTH * VOCAB; i++) {
        worst = test_worse(worst, fabs((double)(got->values[i] - want->values[i])));
        size += (double)want->values[i] * (double)want->values[i];
    }
    return worst / sqrt(size / (LENGTH * VOCAB));
}

/* m converted, and that it can be read. */
static image convert(const image *m, const gqa_convert_options *o) {
    image result = {0};
    gqa_error err = {0};
    int status = gqa_convert(&m->c, o, NULL, &result.data, &result.size, &err);
    if (!CHECK(status == 0, "%s", err.message) || !image_read(&result)) exit(test_end());
    return result;
}

/* The distance between the logits of m and those of m converted, which has so many KV heads. */
static double change(const image *m, const gqa_convert_options *o, int kv_heads) {
    logits before = logits_of(m, 0);
    image result = convert(m, o);
    logits after = logits_of(&result, 0);
    int got = result.c.config.n_kv_heads;
    CHECK(got == kv_heads, "%d KV heads, expected %d", got, kv_heads);
    CHECK(gguf_find(&result.c, "general.description") != NULL, "metadata is lost");
    image_free(&result);
    return distance(&after, &before);
}

/* ---- pooling --------------------------------------------------------------------------------- */

/* Types as they are. */
static const gqa_convert_options same_types = {.type = -1};

static gqa_convert_options pooled(gqa_pool pool, int kv_heads) {
    gqa_convert_options o = same_types;
    o.pool = pool;
    o.kv_heads = kv_heads;
    return o;
}

static void test_pools(const image *m, int kv_heads) {
    double d = change(m, &same_types, kv_heads);
    CHECK(d == 0, "nothing to do changes logits by %g", d);
    for (int p = GQA_POOL_MEAN; p <= GQA_POOL_ALIGNED; p++) {
        gqa_convert_options o = pooled((gqa_pool)p, kv_heads);
        d = change(m, &o, kv_heads);
        CHECK(d == 0, "%s to as many heads changes logits by %g", gqa_pool_name(o.pool), d);
        o.kv_heads = 2;
        d = change(m, &o, 2);
        CHECK(d > 0.05, "%s to 2 heads changes logits by %g only", gqa_pool_name(o.pool), d);
    }
    gqa_convert_options keep = pooled(GQA_POOL_ALIGNED, 2);
    keep.keep_heads = 1;
    d = change(m, &keep, kv_heads);
    CHECK(d < 1e-4 && d > 0, "rotated and regrouped heads change logits by %g", d);
}

/* Makes the heads of a group of `members` copies of its first; size: values of one. */
static void copy_heads(float *values, int heads, int members, int size) {
    for (int h = 0; h < heads; h++) {
        const float *first = values + h / members * members * size;
        memmove(values + h * size, first, sizeof *values * (size_t)size);
    }
}

/* Equal heads are one head. */
static void test_equal_heads(const image *m, int kv_heads, int head_dim) {
    static const gqa_pool lossless[] = {
        GQA_POOL_MEAN, GQA_POOL_FIRST, GQA_POOL_RENORM, GQA_POOL_ALIGNED,
    };
    for (int l = 0; l < LAYERS; l++) {
        int members = kv_heads / 2, size = head_dim * DIM;
        copy_heads(values_of(m, l, "attn_k.weight"), kv_heads, members, size);
        copy_heads(values_of(m, l, "attn_v.weight"), kv_heads, members, size);
        if (strcmp(m->c.config.architecture, "qwen2")) continue;
        copy_heads(values_of(m, l, "attn_k.bias"), kv_heads, members, head_dim);
        copy_heads(values_of(m, l, "attn_v.bias"), kv_heads, members, head_dim);
    }
    for (int i = 0; i < 4; i++) {
        gqa_convert_options o = pooled(lossless[i], 2);
        double d = change(m, &o, 2);
        CHECK(d < 1e-4, "equal heads pooled by %s: %g", gqa_pool_name(o.pool), d);
    }
}

static void test_arch(const char *arch, int heads, int kv_heads, int head_dim) {
    image m = random_model(arch, heads, kv_heads, head_dim);
    test_pools(&m, kv_heads);
    test_equal_heads(&m, kv_heads, head_dim);
    image_free(&m);
}

/* Each head for some or all query heads of its group: the same function, bit for bit, whatever the
 * types of the matrices. */
static void test_repeated(const char *arch, int type) {
    const gqa_convert_options quantised = {.type = type};
    image any = random_model(arch, 12, 3, 24), m = convert(&any, &quantised);
    for (int kv_heads = 6; kv_heads <= 12; kv_heads += 6)
        for (int p = GQA_POOL_MEAN; p <= GQA_POOL_ALIGNED; p++) {
            gqa_convert_options o = pooled((gqa_pool)p, kv_heads);
            double d = change(&m, &o, kv_heads);
            CHECK(d == 0, "3 heads as %d: %g", kv_heads, d);
        }
    image_free(&m);
    image_free(&any);
}

static void test_counts(void) {
    const gqa_config c = {.n_heads = 12, .n_kv_heads = 6};
    int possible[] = {0, 1, 2, 3, 6, 12}, at = 0;
    for (int n = -1; n < 30; n++) {
        int expected = at < 6 && possible[at] == n;
        at += expected;
        CHECK(gqa_can_have_kv_heads(&c, n) == expected, "6 of 12 heads as %d", n);
    }
}

/* The mean is what the paper says: element by element. */
static void test_mean(void) {
    enum { SIZE = 8 * DIM }; /* values of a head */
    image m = random_model("llama", 4, 4, 8);
    gqa_convert_options o = pooled(GQA_POOL_MEAN, 2);
    o.provenance = "by hand";
    image r = convert(&m, &o);
    const float *k = values_of(&m, 1, "attn_k.weight"), *mean = values_of(&r, 1, "attn_k.weight");
    double worst = 0;
    for (int g = 0; g < 2; g++)
        for (int i = 0; i < SIZE; i++) {
            double a = (double)k[2 * g * SIZE + i], b = (double)k[(2 * g + 1) * SIZE + i];
            worst = test_worse(worst, fabs((double)mean[g * SIZE + i] - (a + b) / 2));
        }
    CHECK(worst < 1e-6, "differs by %g", worst);
    CHECK(gguf_find(&r.c, "gqa.convert.command"), "the command is not recorded");
    const gguf_entry *before = gguf_find(&r.c, "gqa.convert.kv_heads_before");
    CHECK(before && before->i == 4, "the number of KV heads before is not recorded");
    image_free(&r);
    image_free(&m);
}

/* ---- rotations ------------------------------------------------------------------------------- */

enum { HD = 8, HEADS = 4, SQUARE = HD * HD };

static uint64_t rotation_seed;

/* A rotation inside each of RoPE's planes. */
static void random_planes(double *R) {
    memset(R, 0, sizeof *R * SQUARE);
    for (int a = 0; a < HD; a += 2) {
        int b = a + 1;
        double angle = 3 * (double)test_random(&rotation_seed);
        R[a * HD + a] = R[b * HD + b] = cos(angle);
        R[a * HD + b] = -sin(angle);
        R[b * HD + a] = sin(angle);
    }
}

static void random_rotation(double *R) {
    double any[SQUARE], work[2 * SQUARE];
    for (int i = 0; i < SQUARE; i++) any[i] = (double)test_random(&rotation_seed);
    CHECK(nearest_rotation(any, HD, R, work) == 0, "no rotation");
}

static void test_nearest_rotation(void) {
    double R[SQUARE];
    rotation_seed = 4;
    for (int h = 0; h < HEADS; h++) {
        random_rotation(R);
        for (int i = 0; i < HD; i++)
            for (int j = 0; j < HD; j++) {
                double dot = 0;
                for (int k = 0; k < HD; k++) dot += R[i * HD + k] * R[j * HD + k];
                CHECK(fabs(dot - (i == j)) < 1e-9, "rows %d and %d: %g", i, j, dot);
            }
    }
}

/* A model whose K and V heads are copies of one, and rotations of them. */
typedef struct copies {
    image m;
    double planes[HEADS][SQUARE], rotations[HEADS][SQUARE];
} copies;

static void copies_init(copies *c) {
    c->m = random_model("llama", HEADS, HEADS, HD);
    rotation_seed = 4;
    for (int l = 0; l < LAYERS; l++) {
        copy_heads(values_of(&c->m, l, "attn_k.weight"), HEADS, HEADS, HD * DIM);
        copy_heads(values_of(&c->m, l, "attn_v.weight"), HEADS, HEADS, HD * DIM);
    }
    for (int h = 0; h < HEADS; h++) {
        random_planes(c->planes[h]);
        random_rotation(c->rotations[h]);
    }
}

/* Rotates the heads of every layer; rk, rv: [HEADS, HD, HD], rv NULL: K and its queries only. */
static void rotate_heads(copies *c, double *rk, double *rv) {
    static const struct {
        const char *name;
        tensor_kind kind;
        size_t rows, cols;
    } tensors[] = {
        {"attn_q.weight", QUERY, HEADS * HD, DIM},
        {"attn_k.weight", KEY, HEADS * HD, DIM},
        {"attn_v.weight", VALUE, HEADS * HD, DIM},
        {"attn_output.weight", OUTPUT, DIM, HEADS * HD},
    };
    static float rotated[HEADS * HD * DIM];
    const head_plan plan = {.order = (int[]){0, 1, 2, 3}, .rk = rk, .rv = rv};
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < (rv ? 4 : 2); i++) {
            float *w = values_of(&c->m, l, tensors[i].name);
            size_t rows = tensors[i].rows, cols = tensors[i].cols;
            convert_heads(&c->m.c.config, &same_types, &plan, tensors[i].kind, 0, w, rows, cols,
                          rotated);
            memcpy(w, rotated, sizeof *w * rows * cols);
        }
}

/* Copies, each rotated inside its RoPE planes (K, with its queries) or freely (V, undone in
 * W_o): no logit changes; mean pooling ruins the model, alignment finds the copies again. */
static void test_rotated_copies(void) {
    copies c;
    copies_init(&c);
    logits before = logits_of(&c.m, 0);
    rotate_heads(&c, c.planes[0], c.rotations[0]);
    logits after = logits_of(&c.m, 0);
    double d = distance(&after, &before);
    CHECK(d < 1e-4, "allowed rotations change logits by %g", d);
    gqa_convert_options o = pooled(GQA_POOL_ALIGNED, 1);
    double aligned = change(&c.m, &o, 1);
    o.pool = GQA_POOL_MEAN;
    double mean = change(&c.m, &o, 1);
    CHECK(aligned < 1e-3, "MQA by aligned changes logits by %g", aligned);
    CHECK(mean > 0.1, "MQA by mean changes logits by %g only", mean);
    image_free(&c.m);
}

/* K may not rotate freely: RoPE does not commute with it. */
static void test_forbidden_rotation(void) {
    copies c;
    copies_init(&c);
    logits before = logits_of(&c.m, 0);
    rotate_heads(&c, c.rotations[0], NULL);
    logits after = logits_of(&c.m, 0);
    double d = distance(&after, &before);
    CHECK(d > 1e-2, "a general rotation of K changes logits by %g only", d);
    image_free(&c.m);
}

/* ---- types and failures ---------------------------------------------------------------------- */

static void test_types(void) {
    static const struct {
        int type;
        double limit;
    } types[] = {
        {GQA_TYPE_F16, 0.03}, {GQA_TYPE_BF16, 0.2}, {GQA_TYPE_Q8_0, 0.5}, {GQA_TYPE_Q4_0, 4},
        {GQA_TYPE_Q4_K, 0.5},
    };
    image m = random_model("llama", 4, 4, 24);
    for (size_t i = 0; i < array_length(types); i++) {
        gqa_convert_options o = {.type = types[i].type};
        double d = change(&m, &o, 4);
        CHECK(d > 0 && d < types[i].limit, "%s: logits differ by %g", gqa_type_name(types[i].type),
              d);
    }
    gqa_convert_options o = {.type = GQA_TYPE_Q4_K};
    image r = convert(&m, &o);
    int type = gqa_checkpoint_tensor(&r.c, "token_embd.weight")->type;
    CHECK(type == GQA_TYPE_Q8_0, "rows of 96 as q4_k: %s, not the next wider type",
          gqa_type_name(type));
    image_free(&r);
    image_free(&m);
}

/* q8_0 of a type with the same blocks in fewer bits: the same numbers and, with activations in as
 * many bits, logits, bit for bit. */
static void test_widened(int type) {
    const gqa_config g = {.architecture = "llama", .dim = DIM, .n_layers = LAYERS, .n_heads = 4,
                          .n_kv_heads = 2, .head_dim = 24, .ffn_dim = FFN, .vocab_size = VOCAB,
                          .context_length = 64};
    image m = {0};
    gqa_error err = {0};
    CHECK(gqa_checkpoint_random(&m.c, &g, (gqa_type)type, 5, &err) == 0, "%s", err.message);
    gqa_convert_options o = {.type = GQA_TYPE_Q8_0};
    image narrow = convert(&m, &same_types), wide = convert(&m, &o);
    for (int i = 0; i < wide.c.n_tensors; i++) {
        static float want[DIM * DIM], got[DIM * DIM];
        const gqa_tensor *before = &narrow.c.tensors[i], *after = &wide.c.tensors[i];
        const size_t n = before->dims[0] * before->dims[1];
        if (before->n_dims < 2) continue;
        CHECK(before->type == type && after->type == GQA_TYPE_Q8_0, "%s", after->name);
        if (!CHECK(n <= array_length(want), "%s: %zu values", after->name, n)) continue;
        gqa_dequantize(before->type, before->data, want, n);
        gqa_dequantize(after->type, after->data, got, n);
        CHECK(!memcmp(got, want, n * sizeof *got), "%s: other values", after->name);
    }
    logits before = logits_of(&narrow, 1), after = logits_of(&wide, 1);
    double d = distance(&after, &before);
    CHECK(d == 0, "logits differ by %g", d);
    image_free(&narrow);
    image_free(&wide);
    image_free(&m);
}

/* The type of each tensor of a model of so many layers as q4_k_m: q6_k for the embedding, which is
 * the classifier too, and for V and the FFN's output of the layers `wide` (ending with -1),
 * other_v for V of the others, q4_k for other matrices. */
static void test_mixture(const char *arch, int dim, int layers, const int *wide, int other_v) {
    image m = shaped_model(arch, (gqa_config){
        .dim = dim, .n_layers = layers, .n_heads = 8, .n_kv_heads = 1, .head_dim = 32,
        .ffn_dim = 256, .vocab_size = VOCAB, .context_length = 64, .rope_dim = 32,
        .rope_theta = 10000, .norm_eps = 1e-5f,
    });
    const gqa_convert_options o = {.type = GQA_TYPE_Q4_K, .is_mixture = 1};
    image r = convert(&m, &o);
    for (int i = 0; i < r.c.n_tensors; i++) {
        const gqa_tensor *t = &r.c.tensors[i];
        int layer = -1, is_wide = 0, is_whole = t->dims[0] % 256 == 0;
        sscanf(t->name, "blk.%d.", &layer);
        for (const int *w = wide; *w >= 0; w++) is_wide |= *w == layer;
        is_wide &= strstr(t->name, "attn_v") || strstr(t->name, "ffn_down");
        is_wide |= !strcmp(t->name, "token_embd.weight");
        int want = strstr(t->name, "attn_v") ? other_v : GQA_TYPE_Q4_K;
        if (!is_whole) want = want == GQA_TYPE_Q5_K ? GQA_TYPE_Q5_1 : GQA_TYPE_Q5_0;
        if (is_wide) want = is_whole ? GQA_TYPE_Q6_K : GQA_TYPE_Q8_0;
        if (t->n_dims == 1) want = GQA_TYPE_F32;
        CHECK(t->type == want, "%d layers, %s: %s, expected %s", layers, t->name,
              gqa_type_name(t->type), gqa_type_name(want));
    }
    image_free(&r);
    image_free(&m);
}

/* What llama_model_quantize of llama.cpp makes (tests/golden/make_mixtures.py) of models of
 * these shapes. */
static void test_mixtures(void) {
    static const int of_4[] = {2, 3, -1}, of_8[] = {0, 3, 6, 7, -1};
    static const int of_22[] = {0, 1, 4, 7, 10, 13, 16, 19, 20, 21, -1};
    static const int of_32[] = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31, -1};
    static const int of_80[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  12, 15, 18, 21,
                                24, 27, 30, 33, 36, 39, 42, 45, 48, 51, 54, 57, 60, 63,
                                66, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, -1};
    test_mixture("llama", 256, 4, of_4, GQA_TYPE_Q4_K);
    test_mixture("llama", 256, 8, of_8, GQA_TYPE_Q4_K);
    test_mixture("llama", 256, 22, of_22, GQA_TYPE_Q4_K);
    test_mixture("llama", 256, 32, of_32, GQA_TYPE_Q4_K);
    test_mixture("llama", 96, 8, of_8, GQA_TYPE_Q4_K);
    test_mixture("llama", 32, 80, of_80, GQA_TYPE_Q5_K); /* taken for one of 70 B */
    test_mixture("qwen2", 32, 80, of_80, GQA_TYPE_Q5_K);
    test_mixture("smollm3", 32, 80, of_80, GQA_TYPE_Q4_K);
}

/* A tensor whose type stays is copied: its bytes are the same, whatever wrote them. */
static void test_kept_types(void) {
    image m = {0}, r[2];
    FILE *f = fopen("tests/models/stories-mha.gguf", "rb");
    CHECK(f && fseek(f, 0, SEEK_END) == 0, "tests/models/stories-mha.gguf cannot be opened");
    m.size = (size_t)ftell(f);
    m.data = malloc(m.size);
    rewind(f);
    CHECK(fread(m.data, 1, m.size, f) == m.size, "truncated");
    fclose(f);
    if (!image_read(&m)) exit(test_end());
    const gqa_tensor *v = gqa_checkpoint_tensor(&m.c, "blk.0.attn_v.weight");
    memset((uint8_t *)(uintptr_t)v->data + 2, 1, 32); /* as our quantizer would not choose them */
    const gqa_convert_options q8_0 = {.type = GQA_TYPE_Q8_0};
    r[0] = convert(&m, &same_types);
    r[1] = convert(&m, &q8_0);
    for (int i = 0; i < m.c.n_tensors; i++) {
        const gqa_tensor *t = &m.c.tensors[i];
        for (int k = 0; k < 2; k++) {
            const gqa_tensor *u = gqa_checkpoint_tensor(&r[k].c, t->name);
            CHECK(u && u->size == t->size && !memcmp(u->data, t->data, t->size), "%s", t->name);
        }
    }
    for (int k = 0; k < 2; k++) image_free(&r[k]);
    image_free(&m);
}

static void test_failures(void) {
    static const gqa_convert_options bad_type = {.type = 99};
    static const gqa_convert_options bad_heads = {.type = -1, .kv_heads = 3};
    image m = random_model("llama", 4, 4, 24);
    uint8_t *data = NULL;
    size_t size;
    gqa_error err = {0};
    int status = gqa_convert(&m.c, &bad_heads, NULL, &data, &size, &err);
    CHECK(status == GQA_ERR_ARGUMENT, "3 of 4 heads: %d", status);
    CHECK_HAS(err.message, "4 KV heads cannot become 3: expected a divisor, or a multiple that "
                           "divides the 4 query heads");
    status = gqa_convert(&m.c, &bad_type, NULL, &data, &size, &err);
    CHECK(status == GQA_ERR_ARGUMENT, "type 99: %d", status);
    CHECK_HAS(err.message, "type 99 is not supported");
    status = gqa_convert(&m.c, &same_types, "/dev/null", NULL, NULL, &err);
    CHECK(status == GQA_ERR_IO, "a device is replaced: %d", status);
    image_free(&m);
}

/* A conversion that is cancelled leaves the old file alone. */
static int cancel(void *user, double done) {
    (void)user;
    return done > 0.5;
}

static void test_old_file(void) {
    image m = random_model("llama", 4, 4, 24);
    gqa_convert_options o = {.type = GQA_TYPE_F16, .on_progress = cancel};
    gqa_error err = {0};
    char path[TEST_PATH], kept[9] = "";
    test_path(path, "old.gguf");
    FILE *f = fopen(path, "wb");
    fputs("precious", f);
    fclose(f);
    int status = gqa_convert(&m.c, &o, path, NULL, NULL, &err);
    CHECK(status == GQA_ERR_CANCELLED, "not cancelled: %d", status);
    f = fopen(path, "rb");
    CHECK(fread(kept, 1, 8, f) == 8 && !strcmp(kept, "precious"), "the file holds \"%s\"", kept);
    fclose(f);
    unlink(path);
    image_free(&m);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("llama, MHA") test_arch("llama", 8, 8, 12);
    TEST("llama, GQA-4") test_arch("llama", 8, 4, 12);
    TEST("qwen2, MHA with biases") test_arch("qwen2", 6, 6, 16);
    TEST("repeated heads, llama") test_repeated("llama", GQA_TYPE_F32);
    TEST("repeated heads, qwen2 in q8_0") test_repeated("qwen2", GQA_TYPE_Q8_0);
    TEST("which numbers of heads") test_counts();
    TEST("mean, element by element") test_mean();
    TEST("nearest rotation") test_nearest_rotation();
    TEST("rotated copies of a head") test_rotated_copies();
    TEST("a rotation of K that RoPE forbids") test_forbidden_rotation();
    TEST("types") test_types();
    TEST("q8_0 of q4_0") test_widened(GQA_TYPE_Q4_0);
    TEST("q8_0 of q5_0") test_widened(GQA_TYPE_Q5_0);
    TEST("q8_0 of iq4_nl") test_widened(GQA_TYPE_IQ4_NL);
    TEST("q4_k_m, tensor by tensor") test_mixtures();
    TEST("tensors that keep their type") test_kept_types();
    TEST("failures") test_failures();
    TEST("the old file after a failure") test_old_file();
    return test_end();
}
