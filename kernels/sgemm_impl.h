/* sgemm_impl.h: the f32 matrix product for any strides, blocked after Goto & van de Geijn, "Anatomy
 * of High-Performance Matrix Multiplication" (2008), with BLIS's loop order.
 *
 *          n            A is packed in micro-panels of MR rows, B in micro-panels of NR columns,
 *     +---------+       both k-major and padded with zeros, so that the inner loop reads two
 *     |    B    | k     linear streams:
 *     +---------+           of A: a[0..MR-1] of k=0, a[0..MR-1] of k=1, ...
 *   +-+---------+           of B: b[0..NR-1] of k=0, b[0..NR-1] of k=1, ...
 * m |A|    C    |       The micro-kernel keeps an MR x NR tile of C in registers over a whole
 *   +-+---------+       k block.
 *
 * Whole micro-panels of A whose rows lie in memory along k are read from there: MR linear streams.
 *
 * An element of C is a sum over k in ascending order, in blocks of GQA_SGEMM_KC, whatever m, n and
 * its position in C are: a product split along m or n gives the same bits as one done at once. */

/* MR * 2 accumulators, 2 vectors of B and 1 of A fill the register file. */
#define SGEMM_MR (VF_LANES >= 16 ? 12 : 6)
#define SGEMM_NR (2 * VF_LANES)
_Static_assert(GQA_SGEMM_MC % SGEMM_MR == 0 && GQA_SGEMM_NC % SGEMM_NR == 0,
               "blocks hold whole micro-panels");

/* One micro-panel: count <= width lines of k elements; element (line, p) is
 * src[line * line_step + p * k_step]. */
TEMPLATE void pack_micro_panel(size_t width, float *dst, const float *src, size_t line_step,
                               size_t k_step, size_t count, size_t k) {
    if (line_step == 1 && count == width) {
        for (size_t p = 0; p < k; p++, src += k_step) {
            __builtin_prefetch(src + 2 * width); /* of the micro-panel after the next */
            memcpy(dst + p * width, src, width * sizeof *dst);
        }
        return;
    }
    for (size_t line = 0; line < width; line++, src += line_step)
        for (size_t p = 0; p < k; p++)
            dst[p * width + line] = line < count ? src[p * k_step] : 0.0f;
}

/* A block of B [k, n] in micro-panels; whole ones of its transpose by squares of 4 x 4. */
static void pack_b(float *dst, const float *b, size_t b_row, size_t b_col, size_t n, size_t k) {
    for (size_t j = 0; j < n; j += SGEMM_NR, b += SGEMM_NR * b_col, dst += SGEMM_NR * k) {
        size_t count = min_size(n - j, SGEMM_NR), p = 0;
        if (b_row == 1 && count == SGEMM_NR)
            for (; p + 4 <= k; p += 4)
                for (size_t i = 0; i < SGEMM_NR; i += 4)
                    gqa_transpose_words(dst + p * SGEMM_NR + i, SGEMM_NR * sizeof *dst,
                                        b + i * b_col + p, b_col * sizeof *b);
        pack_micro_panel(SGEMM_NR, dst + p * SGEMM_NR, b + p * b_row, b_col, b_row, count, k - p);
    }
}

/* MR rows of k values, `rows` of them wanted: value p of row i is at a[i * row + p * step]. */
typedef struct a_panel {
    const float *a;
    size_t row, step, first, rows; /* first: the first wanted */
} a_panel;

/* C [A->rows, cols] = or += a micro-panel of A times one of B; cols <= NR. */
static void sgemm_tile(const a_panel *A, const float *b, size_t k, float *C, size_t ldc,
                       size_t cols, int accumulate) {
    vf acc[SGEMM_MR][2];
    const float *a[SGEMM_MR / 3]; /* three rows each: x86 adds once or twice a register */
    UNROLL for (int i = 0; i < SGEMM_MR; i++) acc[i][0] = acc[i][1] = vf_set1(0.0f);
    UNROLL for (int i = 0; i < SGEMM_MR / 3; i++) a[i] = A->a + 3 * i * A->row;
    UNROLL_TWICE for (size_t p = 0; p < k; p++, b += SGEMM_NR) {
        vf b0 = vf_load(b), b1 = vf_load(b + VF_LANES);
        UNROLL for (int i = 0; i < SGEMM_MR; i++) {
            vf x = vf_set1(a[i / 3][i % 3 * A->row]);
            acc[i][0] = vf_fma(x, b0, acc[i][0]);
            acc[i][1] = vf_fma(x, b1, acc[i][1]);
        }
        UNROLL for (int i = 0; i < SGEMM_MR / 3; i++) a[i] += A->step;
    }
    float edge[SGEMM_MR * SGEMM_NR];
    const int whole = A->rows == SGEMM_MR && cols == SGEMM_NR;
    float *out = whole ? C : edge;
    const size_t ld = whole ? ldc : SGEMM_NR;
    UNROLL for (int i = 0; i < SGEMM_MR; i++) {
        float *c = out + i * ld;
        if (whole && accumulate) {
            acc[i][0] = vf_add(vf_load(c), acc[i][0]);
            acc[i][1] = vf_add(vf_load(c + VF_LANES), acc[i][1]);
        }
        vf_store(c, acc[i][0]);
        vf_store(c + VF_LANES, acc[i][1]);
    }
    if (whole) return;
    for (size_t i = 0; i < A->rows; i++) {
        float *c = C + i * ldc;
        const float *e = edge + (A->first + i) * SGEMM_NR;
        for (size_t j = 0; j < cols; j++) c[j] = accumulate ? c[j] + e[j] : e[j];
    }
}

/* C [m, n] = or += a block of A, in micro-panels, times a packed one of B. */
static void sgemm_block(const a_panel *panels, const float *b, size_t m, size_t n, size_t k,
                        float *C, size_t ldc, int accumulate) {
    for (size_t j = 0; j < n; j += SGEMM_NR)
        for (size_t i = 0; i < m; i += SGEMM_MR)
            sgemm_tile(&panels[i / SGEMM_MR], b + j * k, k, C + i * ldc + j, ldc,
                       min_size(n - j, SGEMM_NR), accumulate);
}

/* The micro-panels of a block of A [m, k]: where they are, or packed. The last one ends with the
 * last row, over rows of the one before it. */
static void find_panels(a_panel *panels, float *packed, const float *A, size_t a_row, size_t a_col,
                        size_t m, size_t k) {
    for (size_t i = 0; i < m; i += SGEMM_MR, packed += SGEMM_MR * k, panels++) {
        const size_t at = m < SGEMM_MR ? 0 : min_size(i, m - SGEMM_MR);
        const float *a = A + at * a_row;
        *panels = (a_panel){a, a_row, 1, i - at, min_size(m - i, SGEMM_MR)};
        if (a_col == 1 && m >= SGEMM_MR) continue;
        pack_micro_panel(SGEMM_MR, packed, a, a_row, a_col, min_size(m, SGEMM_MR), k);
        panels->a = packed;
        panels->row = 1;
        panels->step = SGEMM_MR;
    }
}

static void kernel_sgemm(int m, int n, int k, const float *A, size_t a_row, size_t a_col,
                         const float *B, size_t b_row, size_t b_col, float *C, size_t ldc,
                         int accumulate, void *scratch) {
    float *packed_a = scratch, *packed_b = packed_a + GQA_SGEMM_MC * GQA_SGEMM_KC;
    a_panel panels[GQA_SGEMM_MC / SGEMM_MR];
    if (k == 0 && !accumulate)
        for (int i = 0; i < m; i++) memset(C + i * ldc, 0, n * sizeof *C);
    for (int n0 = 0; n0 < n; n0 += GQA_SGEMM_NC) {
        int nc = min_int(n - n0, GQA_SGEMM_NC);
        for (int k0 = 0; k0 < k; k0 += GQA_SGEMM_KC) {
            int kc = min_int(k - k0, GQA_SGEMM_KC);
            const float *block_b = B + k0 * b_row + n0 * b_col;
            pack_b(packed_b, block_b, b_row, b_col, nc, kc);
            for (int m0 = 0; m0 < m; m0 += GQA_SGEMM_MC) {
                int mc = min_int(m - m0, GQA_SGEMM_MC);
                const float *block_a = A + m0 * a_row + k0 * a_col;
                find_panels(panels, packed_a, block_a, a_row, a_col, mc, kc);
                sgemm_block(panels, packed_b, mc, nc, kc, C + m0 * ldc + n0, ldc,
                            accumulate || k0 > 0);
            }
        }
    }
}
