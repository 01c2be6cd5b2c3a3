/* convert_internal.h: what becomes of the heads of a layer. */
#ifndef GQA_CONVERT_INTERNAL_H
#define GQA_CONVERT_INTERNAL_H

#include "convert.h"

/* Of one layer with H KV heads: head order[p] comes to place p, turned by its rotations. */
typedef struct head_plan {
    int *order;        /* [H] */
    double *rk, *rv;   /* [H, head_dim, head_dim] by source head: k' = rk k, q' = rk q, v' = rv v; NULL: not turned */
} head_plan;

/* Plans of all layers [n_layers]; *out NULL when no head moves (any pool but GQA_POOL_ALIGNED). */
int plan_heads(head_plan **out, const gqa_checkpoint *c, const gqa_convert_options *opt, gqa_error *err);
void plan_free(head_plan *plans, int n_layers);

/* The kind of a tensor, by the end of its name. */
typedef enum tensor_kind { OTHER, QUERY, KEY, VALUE, OUTPUT } tensor_kind;

/* Moves, turns and pools the heads of tensor values [rows, cols] (a bias has one column) into out, which has room for as
 * much. Returns the new number of rows. plan NULL: heads stay. */
int convert_heads(const gqa_config *c, const gqa_convert_options *opt, const head_plan *plan, tensor_kind kind, uint64_t salt,
                  const float *values, int rows, int cols, float *out);

/* R [n, n], orthogonal, that maximises trace(R^T C): the rotation nearest to C (Schoenemann 1966). 0, or -1: C has none. */
int nearest_rotation(const double *C, int n, double *R, double *work); /* work [2 n n] */

#endif
