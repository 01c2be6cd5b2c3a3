/* acts.c: the int8 form of activations: its memory, products of two planes of it. */
#include <string.h>

#include "../base/base.h"
#include "kernels.h"

/* ---- memory --------------------------------------------------------------------------------- */

uint64_t gqa_acts_bytes(int k, int max_n) {
    const uint64_t n = (uint64_t)round_up(k, 256) * (uint64_t)round_up(max_n, 4);
    return n + n / 32 * (2 * sizeof(float) + sizeof(int32_t)) + n / 16 * sizeof(int32_t);
}

void gqa_acts_init(gqa_acts *a, void *memory, int k, int max_n) {
    a->k = k;
    a->every_line = gqa_cpu_has(GQA_CPU_EVERY_LINE);
    a->kpad = round_up(k, 256);
    const size_t used = a->kpad * max_n, n = a->kpad * round_up(max_n, 4);
    const size_t unused = n - used;
    a->q = memory;
    a->d = (float *)(a->q + n);
    a->dsum = a->d + n / 32;
    a->bias32 = (int32_t *)(a->dsum + n / 32);
    a->bias16 = a->bias32 + n / 32;
    memset(a->q + used, 0, unused);
    memset(a->d + used / 32, 0, sizeof *a->d * unused / 32);
    memset(a->dsum + used / 32, 0, sizeof *a->dsum * unused / 32);
    memset(a->bias32 + used / 32, 0, sizeof *a->bias32 * unused / 32);
    memset(a->bias16 + used / 16, 0, sizeof *a->bias16 * unused / 16);
    a->bf16 = NULL;
}

/* ---- two planes ----------------------------------------------------------------------------- */

/* x as the sum of two int8 forms: 16 bits, for the price of two columns. */

/* Those with decode_2 in matmul_impl.h. */
int gqa_type_has_pairs(int type) {
    return type == GQA_TYPE_Q8_0 || type == GQA_TYPE_Q4_0 || type == GQA_TYPE_Q4_K ||
           type == GQA_TYPE_Q6_K;
}

const float *gqa_residual(const float *x, const int8_t *q, float d, float rest[32]) {
    for (int i = 0; i < 32; i++) rest[i] = x[i] - d * (float)q[i];
    return rest;
}

enum { ROWS = GQA_UNIT_PANELS * GQA_PANEL };

size_t gqa_planes_scratch(int max_n) { return sizeof(float) * 2 * ROWS * (size_t)max_n; }

void gqa_matmul_unit(const gqa_kernels *kernels, const gqa_matrix *w, const gqa_acts *a, int n,
                     int planes, float *y, size_t ldy, int unit, void *scratch) {
    if (planes == 1) {
        kernels->matmul_unit(w, a, n, y, ldy, unit, scratch);
        return;
    }
    const int first = unit * ROWS;
    const gqa_matrix rows = gqa_matrix_rows(w, first, min_int(w->rows - first, ROWS));
    float *sums = scratch, *rests = sums + (size_t)n * ROWS;
    kernels->matmul_unit(&rows, a, 2 * n, sums, ROWS, 0, rests + (size_t)n * ROWS);
    y += first;
    for (int i = 0; i < n; i++, y += ldy, sums += ROWS, rests += ROWS)
        for (int r = 0; r < rows.rows; r++) y[r] = sums[r] + rests[r];
}
