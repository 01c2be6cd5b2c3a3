/* pass.h: one pass through the model as its steps see it: forward.c, latent.c,
 * layer_embedding.c. */
#ifndef GQA_PASS_H
#define GQA_PASS_H

#include "session_internal.h"

/* One pass, as a thread of it sees it. */
typedef struct pass_state {
    const gqa_pass *pass;
    const gqa_model *model;
    const gqa_config *config;
    const gqa_kernels *kernels;
    gqa_scratch *scratch;
    int n;                   /* rows in hand: all of the pass; from keep_rows() on those with
                              * logits, row r at kept_row(r) */
    int exact;               /* all matrices are as if gqa_matrix.exact */
    int *bad_layer;          /* NULL unless the layers are checked (then there is one thread) */
    size_t dim, q_dim, ffn_dim, rope_dim; /* the last three: of the widest layer */
    size_t out_dim;          /* of attention's output: q_dim, or n_heads * latent_dim */
    atomic_int *cancel;
} pass_state;

static inline float *row_of(float *base, size_t width, int row) {
    return base + row * width;
}

static inline void scale_row(float *x, size_t n, float scale) {
    if (scale == 1) return;
    for (size_t i = 0; i < n; i++) x[i] *= scale;
}

static inline const gqa_part *part_of(const pass_state *p, int row) {
    return &p->pass->parts[p->scratch->part_of[row]];
}

static inline gqa_session *session_of(const pass_state *p, int row) {
    return part_of(p, row)->session;
}

static inline int position_of(const pass_state *p, int row) {
    return p->scratch->positions[row];
}

/* Where a row is among the n, or -1: nothing of it is needed any more. */
static inline int kept_row(const pass_state *p, int row) {
    return p->n == p->pass->n ? row : p->scratch->out_of[row];
}

static inline size_t token_of(const pass_state *p, int row) {
    return part_of(p, row)->tokens[row - part_of(p, row)->first];
}

static inline int cancelled(const pass_state *p) {
    return atomic_load_explicit(p->cancel, memory_order_relaxed);
}

static inline void *thread_scratch(const pass_state *p, const gqa_worker *me) {
    return p->scratch->thread + me->id * p->scratch->thread_bytes;
}

/* Several products of the same activations in one phase: y[j] [n, rows] = a w[j]^T, with rows
 * ldy apart. */
typedef struct product {
    const gqa_matrix *w;
    float *y;
    size_t ldy;
} product;

/* Planes of the int8 form that a product reads. */
static inline int planes_of(const pass_state *p, const gqa_matrix *w) {
    return gqa_type_wants_q8(w->type) && (w->exact || p->exact) ? 2 : 1;
}

/* The forms of the rows in hand that products read beside f32. */
enum { AS_INT8 = 1, AS_BF16 = 2, AS_TWO_PLANES = 4 };
static inline int forms_for(const pass_state *p, const product *list, int count) {
    int is_bf16 = p->model->stats.fast_prefill && p->n > GQA_DECODE_ORDER, forms = 0;
    for (int j = 0; j < count; j++) {
        forms |= gqa_type_wants_q8(list[j].w->type) ? AS_INT8 : is_bf16 ? AS_BF16 : 0;
        if (planes_of(p, list[j].w) == 2) forms |= AS_TWO_PLANES;
    }
    return forms;
}

/* Makes them of rows i0..i1-1, elements k0..k1-1 (multiples of 32, or the end). */
static inline void make_forms(const pass_state *p, int forms, gqa_acts *a, int i0, int i1, int k0,
                              int k1) {
    int rest = forms & AS_TWO_PLANES ? p->n : 0;
    if (forms & AS_INT8) p->kernels->quantize_acts(a, i0, i1, k0, k1, rest);
    if (forms & AS_BF16) p->kernels->round_acts(a, i0, i1, k0, k1);
}

/* pass.c. y[j] = a w[j]^T for the list. */
void gqa_matmul(pass_state *p, gqa_worker *me, const gqa_acts *a, const product *list, int count);
/* x += branch, for a row: the output of attention or FFN, after its own norm (gemma2, olmo2) and
 * scale (granite). */
void gqa_add_branch(const pass_state *p, float *x, float *branch, const float *post_norm);
/* Add & Norm (Vaswani et al. 2017): x += h (unless `first`), then h = rmsnorm(x) (norm NULL, as in
 * olmo2: h = x), also in the forms that products of `next` want. */
void gqa_add_and_norm(pass_state *p, gqa_worker *me, int first, const float *post_norm,
                      const float *norm, const product *next, int count);

/* latent.c, for deepseek2. Of h: the queries q [n, n_heads, head_dim], but for RoPE, and the rows k
 * [n, head_dim]; of latent [n, n_heads, latent_dim], attention's output: attn, the input of wo. */
void gqa_latent_project(pass_state *p, gqa_worker *me, const gqa_layer *layer);
void gqa_latent_expand(pass_state *p, gqa_worker *me, const gqa_layer *layer);

/* layer_embedding.c, for gemma4: what the token gives each layer, per_layer [n, n_layers,
 * per_layer_dim]; and the end of a layer, with that in it. Where the layer has a scale, h is added
 * to x there, because the scale is of the sum, and is 0 afterwards. Returns the norm to apply to h
 * before it is added to x, or NULL. */
void gqa_embed_for_layers(pass_state *p, gqa_worker *me);
const float *gqa_add_for_layer(pass_state *p, gqa_worker *me, const gqa_layer *layer, int l);

#endif
