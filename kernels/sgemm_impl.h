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
    size_t line = 0;
    if (line_step == 1 && count == width) {
        for (size_t p = 0; p < k; p++)
            memcpy(dst + p * width, src + p * k_step, width * sizeof *dst);
        return;
    }
    for (; k_step == 1 && line + 4 <= count; line += 4) {
        const float *s = src + line * line_step;
        size_t p = 0;
        for (; p + 4 <= k; p += 4)
            gqa_transpose_words(dst + p * width + line, width * sizeof *dst, s + p,
                                line_step * sizeof *s);
        for (; p < k; p++)
            for (size_t i = 0; i < 4; i++) dst[p * width + line + i] = s[i * line_step + p];
    }
    for (; line < width; line++) {
        const float *s = src + line * line_step;
        for (size_t p = 0; p < k; p++)
            dst[p * width + line] = line < count ? s[p * k_step] : 0.0f;
    }
}

TEMPLATE void pack_micro_panels(size_t width, float *dst, const float *src, size_t line_step,
                                size_t k_step, size_t lines, size_t k) {
    for (size_t i = 0; i < lines; i += width, dst += width * k)
        pack_micro_panel(width, dst, src + i * line_step, line_step, k_step,
                         min_size(lines - i, width), k);
}

/* C [rows, cols] = or += a micro-panel of A times one of B; rows <= MR, cols <= NR. */
static void sgemm_tile(const float *a, const float *b, size_t k, float *C, size_t ldc, size_t rows,
                       size_t cols, int accumulate) {
    vf acc[SGEMM_MR][2];
    UNROLL for (int i = 0; i < SGEMM_MR; i++) acc[i][0] = acc[i][1] = vf_set1(0.0f);
    for (size_t p = 0; p < k; p++, a += SGEMM_MR, b += SGEMM_NR) {
        vf b0 = vf_load(b), b1 = vf_load(b + VF_LANES);
        UNROLL for (int i = 0; i < SGEMM_MR; i++) {
            vf x = vf_set1(a[i]);
            acc[i][0] = vf_fma(x, b0, acc[i][0]);
            acc[i][1] = vf_fma(x, b1, acc[i][1]);
        }
    }
    float edge[SGEMM_MR * SGEMM_NR];
    const int whole = rows == SGEMM_MR && cols == SGEMM_NR;
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
    for (size_t i = 0; i < rows; i++) {
        float *c = C + i * ldc;
        const float *e = edge + i * SGEMM_NR;
        for (size_t j = 0; j < cols; j++) c[j] = accumulate ? c[j] + e[j] : e[j];
    }
}

/* C [m, n] = or += a packed block of A times one of B. */
static void sgemm_block(const float *a, const float *b, size_t m, size_t n, size_t k, float *C,
                        size_t ldc, int accumulate) {
    for (size_t j = 0; j < n; j += SGEMM_NR)
        for (size_t i = 0; i < m; i += SGEMM_MR)
            sgemm_tile(a + i * k, b + j * k, k, C + i * ldc + j, ldc, min_size(m - i, SGEMM_MR),
                       min_size(n - j, SGEMM_NR), accumulate);
}

static void kernel_sgemm(int m, int n, int k, const float *A, size_t a_row, size_t a_col,
                         const float *B, size_t b_row, size_t b_col, float *C, size_t ldc,
                         int accumulate, void *scratch) {
    float *pack_a = scratch, *pack_b = pack_a + GQA_SGEMM_MC * GQA_SGEMM_KC;
    if (k == 0 && !accumulate)
        for (int i = 0; i < m; i++) memset(C + i * ldc, 0, n * sizeof *C);
    for (int n0 = 0; n0 < n; n0 += GQA_SGEMM_NC) {
        int nc = min_int(n - n0, GQA_SGEMM_NC);
        for (int k0 = 0; k0 < k; k0 += GQA_SGEMM_KC) {
            int kc = min_int(k - k0, GQA_SGEMM_KC);
            const float *block_b = B + k0 * b_row + n0 * b_col;
            pack_micro_panels(SGEMM_NR, pack_b, block_b, b_col, b_row, nc, kc);
            for (int m0 = 0; m0 < m; m0 += GQA_SGEMM_MC) {
                int mc = min_int(m - m0, GQA_SGEMM_MC);
                const float *block_a = A + m0 * a_row + k0 * a_col;
                pack_micro_panels(SGEMM_MR, pack_a, block_a, a_row, a_col, mc, kc);
                sgemm_block(pack_a, pack_b, mc, nc, kc, C + m0 * ldc + n0, ldc,
                            accumulate || k0 > 0);
            }
        }
    }
}
