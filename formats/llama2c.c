/* llama2c.c: checkpoints of karpathy/llama2.c.
 *
 *   v0   7 x i32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative: the classifier is not shared),
 *        seq_len; then f32: embedding, attention norms of all layers, wq, wk, wv, wo, ffn norms, w1, w2, w3, final norm,
 *        two rotary tables [seq_len, head_size / 2] that nobody reads, classifier if not shared. No magic.
 *   v1   "ak42" (u32 0x616b3432), version, the 7 x i32, u8 shared; 256 bytes in all. Then f32: attention norms, ffn norms,
 *        final norm, embedding, wq, wk, wv, wo, w1, w2, w3, classifier if not shared.
 *   v2   as v1, i32 group_size after `shared`. Norms are f32; each matrix is i8 values, then f32 scales, one for a group.
 *
 * The file must be exactly as long as its header implies. The rotary base is 10000, pairs are adjacent, eps is 1e-5. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"
#include "../base/cursor.h"

enum { MAGIC = 0x616b3432, MATRICES = 7 };

/* The weight matrices of a layer in file order, with the GGUF name of each. ffn: 0 none, 1 rows, 2 cols. */
static const char *const layer_names[MATRICES] = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down", "ffn_up"};

static void layer_shape(const gqa_config *c, int i, uint64_t *rows, uint64_t *cols) {
    uint64_t dim = (uint64_t)c->dim, q = (uint64_t)c->n_heads * (uint64_t)c->head_dim, kv = (uint64_t)c->n_kv_heads * (uint64_t)c->head_dim, ffn = (uint64_t)c->ffn_dim;
    const uint64_t shapes[MATRICES][2] = {{q, dim}, {kv, dim}, {kv, dim}, {dim, q}, {ffn, dim}, {dim, ffn}, {ffn, dim}};
    *rows = shapes[i][0];
    *cols = shapes[i][1];
}

typedef struct reader {
    gqa_checkpoint *c;
    gqa_cursor in;
    uint64_t group;  /* v2: values a scale; else 0 */
    float *out;      /* v2: where the next matrix is written as f32 */
    int count;       /* tensors so far */
} reader;

/* Takes the next tensor from the file. rows 0: a vector. A v2 matrix is turned into floats. */
static void next_tensor(reader *r, const char *name, uint64_t rows, uint64_t cols) {
    uint64_t n = (rows ? rows : 1) * cols;
    gqa_tensor *t = &r->c->tensors[r->count++];
    *t = (gqa_tensor){.type = GQA_TYPE_F32, .n_dims = rows ? 2 : 1, .dims = {cols, rows ? rows : 1, 1, 1}, .size = 4 * n};
    snprintf(t->name, sizeof t->name, "%s", name);
    if (!r->group || !rows) {
        t->data = cursor_take(&r->in, 4 * n);
        return;
    }
    const uint8_t *q = cursor_take(&r->in, n), *scales = cursor_take(&r->in, n / r->group * 4);
    t->data = (const uint8_t *)r->out;
    if (!scales) return;
    for (uint64_t i = 0; i < n; i++) {
        float scale;
        memcpy(&scale, scales + i / r->group * 4, 4);
        r->out[i] = (float)(int8_t)q[i] * scale;
    }
    r->out += n;
}

static void next_layers(reader *r, const char *name, uint64_t rows, uint64_t cols) {
    for (int l = 0; l < r->c->config.n_layers; l++) {
        char full[GQA_TENSOR_NAME];
        snprintf(full, sizeof full, "blk.%d.%s.weight", l, name);
        next_tensor(r, full, rows, cols);
    }
}

static void read_tensors(reader *r, int version, int shared) {
    const gqa_config *c = &r->c->config;
    uint64_t dim = (uint64_t)c->dim, vocab = (uint64_t)c->vocab_size, rows, cols;
    if (version == 0) next_tensor(r, "token_embd.weight", vocab, dim);
    next_layers(r, "attn_norm", 0, dim);
    if (version > 0) {
        next_layers(r, "ffn_norm", 0, dim);
        next_tensor(r, "output_norm.weight", 0, dim);
        next_tensor(r, "token_embd.weight", vocab, dim);
    }
    for (int i = 0; i < MATRICES; i++) {
        if (version == 0 && i == 4) next_layers(r, "ffn_norm", 0, dim);
        layer_shape(c, i, &rows, &cols);
        next_layers(r, layer_names[i], rows, cols);
    }
    if (version == 0) {
        next_tensor(r, "output_norm.weight", 0, dim);
        cursor_take(&r->in, 4 * (uint64_t)c->context_length * (uint64_t)(c->head_dim / 2) * 2);
    }
    if (!shared) next_tensor(r, "output.weight", vocab, dim);
}

/* Floats in all matrices of a layer and in the embedding: no overflow for validated dimensions below 2^20. */
static uint64_t matrix_floats(const gqa_config *c, int shared) {
    uint64_t layer = 0, rows, cols;
    for (int i = 0; i < MATRICES; i++) {
        layer_shape(c, i, &rows, &cols);
        layer += rows * cols;
    }
    return layer * (uint64_t)c->n_layers + (uint64_t)c->vocab_size * (uint64_t)c->dim * (shared ? 1 : 2);
}

static void read_config(gqa_cursor *in, gqa_config *c) {
    memset(c, 0, sizeof *c);
    strcpy(c->architecture, "llama");
    c->dim = cursor_i32(in);
    c->ffn_dim = cursor_i32(in);
    c->n_layers = cursor_i32(in);
    c->n_heads = cursor_i32(in);
    c->n_kv_heads = cursor_i32(in);
    c->vocab_size = cursor_i32(in);
    c->context_length = cursor_i32(in);
    c->head_dim = c->n_heads > 0 && c->dim > 0 ? c->dim / c->n_heads : 0;
    c->rope_dim = c->head_dim;
    c->rope_theta = 10000;
    c->norm_eps = 1e-5f;
    c->rope_factor = c->rope_attn_factor = 1;
}

static const char *const formats[] = {"llama2.c v0", "llama2.c v1", "llama2.c v2"};

static int read_body(reader *r, int version, int shared, gqa_error *err) {
    gqa_checkpoint *c = r->c;
    const char *hint = version == 0 ? " (if it is a llama2.c checkpoint at all: v0 has no magic)" : "";
    gqa_error inner = {0};
    if (gqa_config_validate(&c->config, c->path, &inner)) return gqa_fail(err, GQA_ERR_FORMAT, "%.400s%s", inner.message, hint);
    if (c->config.dim % c->config.n_heads)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: dim %d is not a multiple of n_heads %d%s", c->path, c->config.dim, c->config.n_heads, hint);
    uint64_t n = matrix_floats(&c->config, shared), layers = (uint64_t)c->config.n_layers, dim = (uint64_t)c->config.dim;
    uint64_t norms = (2 * layers + 1) * dim * 4, expected = r->in.at + norms;
    if (r->group) {
        if (dim % r->group || (uint64_t)c->config.ffn_dim % r->group)
            return gqa_fail(err, GQA_ERR_FORMAT, "%s: group_size %llu does not divide dim %d and ffn_dim %d", c->path,
                            (unsigned long long)r->group, c->config.dim, c->config.ffn_dim);
        expected += n + n / r->group * 4;
    } else {
        expected += 4 * n;
    }
    if (version == 0) expected += 4 * (uint64_t)c->config.context_length * (uint64_t)(c->config.head_dim / 2) * 2;
    if (expected != r->in.size)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: %s with this header has %llu bytes, the file has %llu%s", c->path, formats[version],
                        (unsigned long long)expected, (unsigned long long)r->in.size, hint);
    c->tensors = calloc((size_t)(layers * (MATRICES + 2) + 3), sizeof *c->tensors);
    if (r->group) c->owned = r->out = malloc(4 * n);
    if (!c->tensors || (r->group && !c->owned)) return gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for its tensors", c->path);
    read_tensors(r, version, shared);
    c->n_tensors = r->count;
    c->config.tied_embeddings = shared;
    if (r->in.bad || cursor_left(&r->in)) return gqa_fail(err, GQA_ERR_FORMAT, "%s: damaged", c->path);
    return 0;
}

int llama2c_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err) {
    reader r = {.c = c, .in = {data, size, 0, 0}};
    int version = 0, shared = 1;
    if (size >= 4 && cursor_u32(&r.in) == MAGIC) {
        version = cursor_i32(&r.in);
        if (size < 256) return gqa_fail(err, GQA_ERR_FORMAT, "%s: cut off in its header: %zu of 256 bytes", c->path, size);
        if (version < 1 || version > 2)
            return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: llama2.c checkpoint version %d, expected 1 or 2", c->path, version);
        read_config(&r.in, &c->config);
        shared = (int)cursor_scalar(&r.in, 1);
        if (shared > 1) return gqa_fail(err, GQA_ERR_FORMAT, "%s: shared_classifier is %d, expected 0 or 1", c->path, shared);
        if (version == 2) {
            int group = cursor_i32(&r.in);
            if (group < 1 || group > GQA_MAX_DIM) return gqa_fail(err, GQA_ERR_FORMAT, "%s: group_size is %d", c->path, group);
            r.group = (uint64_t)group;
        }
        r.in.at = 256;
    } else {
        r.in.at = 0;
        if (size < 28) return gqa_fail(err, GQA_ERR_FORMAT, "%s: %zu bytes are too few for a model", c->path, size);
        read_config(&r.in, &c->config);
        shared = c->config.vocab_size > 0;
        if (!shared && c->config.vocab_size > -GQA_MAX_VOCAB) c->config.vocab_size = -c->config.vocab_size;
    }
    c->format = formats[version];
    return read_body(&r, version, shared, err);
}
