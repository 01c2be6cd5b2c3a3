/* convert_internal.h: what becomes of the heads of a layer. */
#ifndef GQA_CONVERT_INTERNAL_H
#define GQA_CONVERT_INTERNAL_H

#include "../base/base.h"
#include "convert.h"

/* Of one layer: source head order[p] goes to position p, rotated. */
typedef struct head_plan {
    int *order;        /* [n_kv_heads] */
    double *rk, *rv;   /* [n_kv_heads, head_dim, head_dim] by source head: k' = rk k, q' = rk q,
                        * v' = rv v; NULL: not rotated */
} head_plan;

/* Plans of all layers [n_layers]; *out NULL when no head moves (any pool but GQA_POOL_ALIGNED). */
int plan_heads(head_plan **out, const gqa_checkpoint *c, const gqa_convert_options *opt,
               gqa_error *err);
void plan_free(head_plan *plans, int n_layers);

/* The kind of a tensor, by the end of its name. */
typedef enum tensor_kind { OTHER, QUERY, KEY, VALUE, OUTPUT } tensor_kind;

/* Moves, rotates and pools the heads of tensor values [rows, cols] (a bias has one column) into
 * out, which is as large. Returns the new number of rows. plan NULL: heads stay. */
size_t convert_heads(const gqa_config *c, const gqa_convert_options *opt, const head_plan *plan,
                     tensor_kind kind, uint64_t salt, const float *values, size_t rows, size_t cols,
                     float *out);

/* R [n, n], orthogonal, that maximises trace(R^T C): the rotation nearest to C (Schoenemann 1966).
 * 0, or -1: C has none. work: [2, n, n]. */
int nearest_rotation(const double *C, size_t n, double *R, double *work);

#endif
