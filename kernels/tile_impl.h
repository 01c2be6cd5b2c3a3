/* tile_impl.h: what the matrix products and attention share: tiles of sums. UNROLL_TWICE stands
 * before a long loop of few operations, whose counting costs. */
#include "template.h"

#if defined(GQA_SMALL_CODE) || VF_LANES >= 16
#define UNROLL_TWICE /* vectors of 16: the loop is long as it is */
#elif defined(__clang__)
#define UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#else
#define UNROLL_TWICE _Pragma("GCC unroll 2")
#endif

/* A tile of sums in registers: nv vectors times n columns. In memory, vector v of column c is at
 * c * stride + v * VF_LANES. */
#define TILE_VECTORS (64 / VF_LANES)
typedef vf tile_sums[TILE_VECTORS][8];

TEMPLATE void tile_clear(int nv, int n, tile_sums sum) {
    UNROLL for (int v = 0; v < nv; v++)
        UNROLL for (int c = 0; c < n; c++) sum[v][c] = vf_set1(0);
}

TEMPLATE void tile_load(int nv, int n, tile_sums sum, const float *from, int stride) {
    UNROLL for (int v = 0; v < nv; v++)
        UNROLL for (int c = 0; c < n; c++) sum[v][c] = vf_load(from + c * stride + v * VF_LANES);
}

TEMPLATE void tile_store(int nv, int n, tile_sums sum, float *to, int stride) {
    UNROLL for (int v = 0; v < nv; v++)
        UNROLL for (int c = 0; c < n; c++) vf_store(to + c * stride + v * VF_LANES, sum[v][c]);
}
