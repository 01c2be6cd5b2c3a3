/* pass.h: one pass through the model as its steps see it: forward.c, latent.c. */
#ifndef GQA_PASS_H
#define GQA_PASS_H

#include "session_internal.h"

/* One pass, as all its threads see it. */
typedef struct pass_state {
    const gqa_pass *pass;
    const gqa_model *model;
    const gqa_config *config;
    const gqa_kernels *kernels;
    gqa_scratch *scratch;
    int n;                   /* rows: tokens of this pass */
    int *bad_layer;          /* NULL unless the layers are checked (then there is one thread) */
    size_t dim, q_dim, ffn_dim, rope_dim; /* the last three: of the widest layer */
    size_t out_dim;          /* of attention's output: q_dim, or n_heads * latent_dim */
    atomic_int *cancel;
} pass_state;

static inline float *row_of(float *base, size_t width, int row) {
    return base + row * width;
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

/* The forms of activations, n rows of them, that products read beside f32. */
enum { AS_INT8 = 1, AS_BF16 = 2 };
static inline int forms_for(const pass_state *p, int n, const product *list, int count) {
    int forms = 0, of_floats = p->model->stats.fast_prefill && n > GQA_DECODE_ORDER ? AS_BF16 : 0;
    for (int j = 0; j < count; j++)
        forms |= gqa_type_wants_q8(list[j].w->type) ? AS_INT8 : of_floats;
    return forms;
}

/* Makes them of rows i0..i1-1, elements k0..k1-1 (multiples of 32, or the end). */
static inline void make_forms(const pass_state *p, int forms, gqa_acts *a, int i0, int i1, int k0,
                              int k1) {
    if (forms & AS_INT8) p->kernels->quantize_acts(a, i0, i1, k0, k1);
    if (forms & AS_BF16) p->kernels->round_acts(a, i0, i1, k0, k1);
}

static inline void matmul(pass_state *p, gqa_worker *me, const gqa_acts *a, int n,
                          const product *list, int count) {
    int total = 0, first = 0;
    for (int j = 0; j < count; j++) total += gqa_matmul_units(list[j].w);
    int u = gqa_unit_first(me, total);
    for (int j = 0; j < count; j++) {
        const gqa_matrix *w = list[j].w;
        int units = gqa_matmul_units(w);
        for (; u >= 0 && u < first + units; u = gqa_unit_next(me)) {
            if (cancelled(p)) continue;
            gqa_matmul_unit(p->kernels, w, a, n, list[j].y, list[j].ldy, u - first,
                            thread_scratch(p, me));
        }
        first += units;
    }
}

/* latent.c, for deepseek2. Of h: the queries q [n, n_heads, head_dim], but for RoPE, and the rows k
 * [n, head_dim]; of latent [n, n_heads, latent_dim], attention's output: attn, the input of wo. */
void gqa_latent_project(pass_state *p, gqa_worker *me, const gqa_layer *layer);
void gqa_latent_expand(pass_state *p, gqa_worker *me, const gqa_layer *layer);

#endif
