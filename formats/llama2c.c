/* llama2c.c: checkpoints of karpathy/llama2.c.
 *
 *   v0   7 x i32: dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative: the
 *        classifier is not shared), seq_len; then f32: embedding, attention norms of all layers,
 *        wq, wk, wv, wo, ffn norms, w1, w2, w3, final norm, two rotary tables
 *        [seq_len, head_size / 2] that are not read, classifier if not shared. No magic.
 *   v1   "ak42" (u32 0x616b3432), version, the 7 x i32, u8 shared; 256 bytes in all. Then f32:
 *        attention norms, ffn norms, final norm, embedding, wq, wk, wv, wo, w1, w2, w3, classifier
 *        if not shared.
 *   v2   as v1, i32 group_size after `shared`. Norms are f32; each matrix is i8 values, then f32
 *        scales, one for a group.
 *
 * The file must be exactly as long as its header implies. The rotary base is 10000, pairs are
 * adjacent, eps is 1e-5. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/cursor.h"
#include "formats.h"

enum { LLAMA2C_MAGIC = 0x616b3432, LLAMA2C_HEADER = 256, LLAMA2C_MATRICES = 7 };

/* A weight matrix of a layer by its GGUF name. */
typedef struct llama2c_matrix {
    const char *name;
    uint64_t rows, cols;
} llama2c_matrix;

typedef struct llama2c_file {
    gqa_checkpoint *c;
    gqa_cursor in;
    int version, shared;
    uint64_t group;  /* v2: values a scale; else 0 */
    float *out;      /* v2: where the next matrix is written as f32 */
    gqa_error *err;
} llama2c_file;

#define llama2c_bad(f, ...) fail_format((f)->c, (f)->err, __VA_ARGS__)

/* The matrices of a layer in file order. */
static void layer_matrices(const gqa_config *c, llama2c_matrix out[LLAMA2C_MATRICES]) {
    uint64_t head = (uint64_t)c->head_dim, dim = (uint64_t)c->dim, ffn = (uint64_t)c->ffn_dim;
    uint64_t q = (uint64_t)c->n_heads * head, kv = (uint64_t)c->n_kv_heads * head;
    const llama2c_matrix matrices[LLAMA2C_MATRICES] = {
        {"attn_q", q, dim},
        {"attn_k", kv, dim},
        {"attn_v", kv, dim},
        {"attn_output", dim, q},
        {"ffn_gate", ffn, dim},
        {"ffn_down", dim, ffn},
        {"ffn_up", ffn, dim},
    };
    memcpy(out, matrices, sizeof matrices);
}

/* Bytes of v0's two rotary tables. */
static uint64_t rotary_bytes(const gqa_config *c) {
    return 4 * (uint64_t)c->context_length * (uint64_t)(c->head_dim / 2) * 2;
}

/* Floats in all matrices and the embedding: no overflow for dimensions that are validated. */
static uint64_t matrix_floats(const gqa_config *c, int shared) {
    llama2c_matrix matrices[LLAMA2C_MATRICES];
    uint64_t layer = 0;
    layer_matrices(c, matrices);
    for (int i = 0; i < LLAMA2C_MATRICES; i++) layer += matrices[i].rows * matrices[i].cols;
    uint64_t embedding = (uint64_t)c->vocab_size * (uint64_t)c->dim;
    return layer * (uint64_t)c->n_layers + embedding * (shared ? 1 : 2);
}

/* ---- tensors ----------------------------------------------------------------------------- */

/* Takes the next tensor from the file. rows 0: a vector. A v2 matrix is converted to floats. */
static void next_tensor(llama2c_file *f, const char *name, uint64_t rows, uint64_t cols) {
    uint64_t n = (rows ? rows : 1) * cols;
    gqa_tensor *t = &f->c->tensors[f->c->n_tensors++];
    *t = (gqa_tensor){.type = GQA_TYPE_F32, .n_dims = rows ? 2 : 1, .size = 4 * n,
                      .dims = {cols, rows ? rows : 1, 1, 1}};
    snprintf(t->name, sizeof t->name, "%s", name);
    if (!f->group || !rows) {
        t->data = cursor_take(&f->in, 4 * n);
        return;
    }
    const uint8_t *q = cursor_take(&f->in, n), *scales = cursor_take(&f->in, n / f->group * 4);
    t->data = (const uint8_t *)f->out;
    if (!scales) return;
    for (uint64_t i = 0; i < n; i++) {
        float scale;
        memcpy(&scale, scales + i / f->group * 4, 4);
        f->out[i] = (float)(int8_t)q[i] * scale;
    }
    f->out += n;
}

static void next_of_layers(llama2c_file *f, const char *name, uint64_t rows, uint64_t cols) {
    for (int l = 0; l < f->c->config.n_layers; l++) {
        char full[GQA_TENSOR_NAME];
        snprintf(full, sizeof full, "blk.%d.%s.weight", l, name);
        next_tensor(f, full, rows, cols);
    }
}

static void take_tensors(llama2c_file *f) {
    const gqa_config *c = &f->c->config;
    uint64_t dim = (uint64_t)c->dim, vocab = (uint64_t)c->vocab_size;
    llama2c_matrix matrices[LLAMA2C_MATRICES];
    layer_matrices(c, matrices);
    if (f->version == 0) next_tensor(f, "token_embd.weight", vocab, dim);
    next_of_layers(f, "attn_norm", 0, dim);
    if (f->version > 0) {
        next_of_layers(f, "ffn_norm", 0, dim);
        next_tensor(f, "output_norm.weight", 0, dim);
        next_tensor(f, "token_embd.weight", vocab, dim);
    }
    for (int i = 0; i < LLAMA2C_MATRICES; i++) {
        if (f->version == 0 && i == 4) next_of_layers(f, "ffn_norm", 0, dim);
        next_of_layers(f, matrices[i].name, matrices[i].rows, matrices[i].cols);
    }
    if (f->version == 0) {
        next_tensor(f, "output_norm.weight", 0, dim);
        cursor_take(&f->in, rotary_bytes(c));
    }
    if (!f->shared) next_tensor(f, "output.weight", vocab, dim);
}

static int read_llama2c_tensors(llama2c_file *f) {
    static const char *const formats[] = {"llama2.c v0", "llama2.c v1", "llama2.c v2"};
    gqa_checkpoint *c = f->c;
    const gqa_config *g = &c->config;
    const char *hint = " (if it is a llama2.c checkpoint at all: v0 has no magic)";
    gqa_error inner = {0};
    if (f->version > 0) hint = "";
    c->format = formats[f->version];
    if (gqa_config_validate(g, c->path, &inner))
        return gqa_fail(f->err, GQA_ERR_FORMAT, "%.400s%s", inner.message, hint);
    if (g->dim % g->n_heads)
        return llama2c_bad(f, "dim %d is not a multiple of n_heads %d%s", g->dim, g->n_heads, hint);
    uint64_t layers = (uint64_t)g->n_layers, dim = (uint64_t)g->dim;
    uint64_t n = matrix_floats(g, f->shared);
    uint64_t expected = f->in.at + (2 * layers + 1) * dim * 4;
    if (f->group && (dim % f->group || (uint64_t)g->ffn_dim % f->group))
        return llama2c_bad(f, "group_size %" PRIu64 " does not divide dim %d and ffn_dim %d",
                           f->group, g->dim, g->ffn_dim);
    expected += f->group ? n + n / f->group * 4 : 4 * n;
    if (f->version == 0) expected += rotary_bytes(g);
    if (expected != f->in.size)
        return llama2c_bad(f, "%s with this header has %" PRIu64 " bytes, the file has %" PRIu64
                           "%s", c->format, expected, f->in.size, hint);
    c->tensors = calloc(layers * (LLAMA2C_MATRICES + 2) + 3, sizeof *c->tensors);
    if (f->group && n <= SIZE_MAX / 8) c->owned_size = 4 * (size_t)n;
    if (c->owned_size) c->owned = f->out = gqa_pages_alloc(c->owned_size, 0);
    if (!c->tensors || (f->group && !c->owned))
        return fail_memory(c, f->err, "no memory for its tensors");
    take_tensors(f);
    c->config.tied_embeddings = f->shared;
    if (f->in.bad || cursor_left(&f->in)) return llama2c_bad(f, "damaged");
    return gqa_checkpoint_index(c, f->err);
}

/* ---- headers ----------------------------------------------------------------------------- */

static void read_shape_fields(gqa_cursor *in, gqa_config *c) {
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

/* The header of v1 and v2, behind the magic. */
static int read_versioned_header(llama2c_file *f) {
    f->version = cursor_i32(&f->in);
    if (f->in.size < LLAMA2C_HEADER)
        return llama2c_bad(f, "truncated header: %" PRIu64 " of %d bytes", f->in.size,
                           LLAMA2C_HEADER);
    if (f->version < 1 || f->version > 2)
        return fail_unsupported(f->c, f->err, "llama2.c checkpoint version %d, expected 1 or 2",
                                f->version);
    read_shape_fields(&f->in, &f->c->config);
    f->shared = (int)cursor_scalar(&f->in, 1);
    if (f->shared > 1) return llama2c_bad(f, "shared_classifier is %d, expected 0 or 1", f->shared);
    if (f->version == 2) {
        int group = cursor_i32(&f->in);
        if (group < 1 || group > GQA_MAX_DIM) return llama2c_bad(f, "group_size is %d", group);
        f->group = (uint64_t)group;
    }
    f->in.at = LLAMA2C_HEADER;
    return 0;
}

static int read_v0_header(llama2c_file *f) {
    gqa_config *g = &f->c->config;
    if (f->in.size < 28)
        return llama2c_bad(f, "%" PRIu64 " bytes are too few for a model", f->in.size);
    read_shape_fields(&f->in, g);
    f->shared = g->vocab_size > 0;
    if (!f->shared && g->vocab_size > -GQA_MAX_VOCAB) g->vocab_size = -g->vocab_size;
    return 0;
}

int llama2c_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err) {
    llama2c_file f = {.c = c, .in = {data, size, 0, 0}, .err = err};
    int status;
    if (size >= 4 && cursor_u32(&f.in) == LLAMA2C_MAGIC) {
        status = read_versioned_header(&f);
    } else {
        f.in.at = 0;
        status = read_v0_header(&f);
    }
    return status ? status : read_llama2c_tensors(&f);
}
