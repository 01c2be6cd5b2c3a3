/* sgemm_impl.h: the f32 matrix product for any strides, blocked after Goto & van de Geijn, "Anatomy of
 * High-Performance Matrix Multiplication" (2008), with BLIS's loop order.
 *
 *          n                A is packed in strips of MR rows, B in strips of NR columns, both k-major and padded with
 *     +---------+           zeros, so that the inner loop reads two linear streams:
 *     |    B    | k
 *     +---------+              strip of A: a[0..MR-1] of k=0, a[0..MR-1] of k=1, ...
 *   +-+---------+              strip of B: b[0..NR-1] of k=0, b[0..NR-1] of k=1, ...
 * m |A|    C    |
 *   +-+---------+           The micro-kernel keeps an MR x NR tile of C in registers over a whole k block.
 *
 * An element of C is a sum over k in ascending order, in blocks of GQA_SGEMM_KC, whatever m, n and the place in C are: a
 * product cut into pieces along m or n gives the same bits as one done at once. */

enum {
    SGEMM_MR = VF_LANES >= 16 ? 12 : 6,   /* MR * 2 accumulators + 2 of B + 1 of A fill the register file */
    SGEMM_NR = 2 * VF_LANES,
};
_Static_assert(GQA_SGEMM_MC % SGEMM_MR == 0 && GQA_SGEMM_NC % SGEMM_NR == 0, "blocks hold whole strips");

typedef float sgemm_four __attribute__((vector_size(16)));
typedef int32_t sgemm_lanes __attribute__((vector_size(16)));
#ifdef __clang__
#define PICK_FOUR(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else /* gcc has the other one from 12 on only */
#define PICK_FOUR(a, b, ...) __builtin_shuffle(a, b, (sgemm_lanes){__VA_ARGS__})
#endif
static inline sgemm_four load_four(const float *p) { sgemm_four v; memcpy(&v, p, sizeof v); return v; }

/* dst[j * width + i] = line i's element j, for four lines that lie line_step apart. */
static inline void turn_four(float *dst, int width, const float *src, size_t line_step) {
    sgemm_four a = load_four(src), b = load_four(src + line_step), c = load_four(src + 2 * line_step), d = load_four(src + 3 * line_step);
    sgemm_four ab = PICK_FOUR(a, b, 0, 4, 1, 5), cd = PICK_FOUR(c, d, 0, 4, 1, 5);
    sgemm_four rows[4] = {PICK_FOUR(ab, cd, 0, 1, 4, 5), PICK_FOUR(ab, cd, 2, 3, 6, 7)};
    ab = PICK_FOUR(a, b, 2, 6, 3, 7), cd = PICK_FOUR(c, d, 2, 6, 3, 7);
    rows[2] = PICK_FOUR(ab, cd, 0, 1, 4, 5), rows[3] = PICK_FOUR(ab, cd, 2, 3, 6, 7);
    for (int j = 0; j < 4; j++) memcpy(dst + j * width, &rows[j], sizeof rows[j]);
}

/* Packs count <= width lines of k elements: element (line, p) is src[line * line_step + p * k_step]. */
ALWAYS_INLINE void sgemm_pack_strip(float *dst, const float *src, size_t line_step, size_t k_step, int count, int width,
                             int k) {
    if (line_step == 1 && count == width) {
        for (int p = 0; p < k; p++) memcpy(dst + (size_t)p * (size_t)width, src + (size_t)p * k_step,
                                           (size_t)width * sizeof *dst);
        return;
    }
    int line = 0;
    for (; k_step == 1 && line + 4 <= count; line += 4) {
        const float *s = src + (size_t)line * line_step;
        int p = 0;
        for (; p + 4 <= k; p += 4) turn_four(dst + p * width + line, width, s + p, line_step);
        for (; p < k; p++)
            for (int i = 0; i < 4; i++) dst[p * width + line + i] = s[(size_t)i * line_step + (size_t)p];
    }
    for (; line < width; line++) {
        const float *s = src + (size_t)line * line_step;
        float *d = dst + line;
        for (int p = 0; p < k; p++, d += width) *d = line < count ? s[(size_t)p * k_step] : 0.0f;
    }
}

ALWAYS_INLINE void sgemm_pack(float *dst, const float *src, size_t line_step, size_t k_step, int lines, int width, int k) {
    for (int i = 0; i < lines; i += width, dst += (size_t)width * (size_t)k)
        sgemm_pack_strip(dst, src + (size_t)i * line_step, line_step, k_step, lines - i < width ? lines - i : width,
                         width, k);
}

/* C [rows, cols] = or += a strip of A times a strip of B; rows <= MR, cols <= NR. */
static void sgemm_tile(const float *a, const float *b, int k, float *C, size_t ldc, int rows, int cols,
                       int accumulate) {
    vf acc[SGEMM_MR][2];
    UNROLL for (int i = 0; i < SGEMM_MR; i++) acc[i][0] = acc[i][1] = vf_set1(0.0f);
    for (int p = 0; p < k; p++, a += SGEMM_MR, b += SGEMM_NR) {
        vf b0 = vf_load(b), b1 = vf_load(b + VF_LANES);
        UNROLL for (int i = 0; i < SGEMM_MR; i++) {
            vf x = vf_set1(a[i]);
            acc[i][0] = vf_fma(x, b0, acc[i][0]);
            acc[i][1] = vf_fma(x, b1, acc[i][1]);
        }
    }
    float edge[SGEMM_MR * SGEMM_NR];
    int whole = rows == SGEMM_MR && cols == SGEMM_NR;
    float *out = whole ? C : edge;
    size_t ld = whole ? ldc : SGEMM_NR;
    UNROLL for (int i = 0; i < SGEMM_MR; i++) {
        float *c = out + (size_t)i * ld;
        if (whole && accumulate) {
            acc[i][0] = vf_add(vf_load(c), acc[i][0]);
            acc[i][1] = vf_add(vf_load(c + VF_LANES), acc[i][1]);
        }
        vf_store(c, acc[i][0]);
        vf_store(c + VF_LANES, acc[i][1]);
    }
    if (whole) return;
    for (int i = 0; i < rows; i++) {
        float *c = C + (size_t)i * ldc;
        for (int j = 0; j < cols; j++) c[j] = accumulate ? c[j] + edge[i * SGEMM_NR + j] : edge[i * SGEMM_NR + j];
    }
}

static void sgemm(int m, int n, int k, const float *A, size_t a_row, size_t a_col, const float *B, size_t b_row,
                  size_t b_col, float *C, size_t ldc, int accumulate, void *scratch) {
    float *pack_a = scratch, *pack_b = pack_a + GQA_SGEMM_MC * GQA_SGEMM_KC;
    if (k == 0 && !accumulate)
        for (int i = 0; i < m; i++) memset(C + (size_t)i * ldc, 0, (size_t)n * sizeof *C);
    for (int n0 = 0; n0 < n; n0 += GQA_SGEMM_NC) {
        int nc = n - n0 < GQA_SGEMM_NC ? n - n0 : GQA_SGEMM_NC;
        for (int k0 = 0; k0 < k; k0 += GQA_SGEMM_KC) {
            int kc = k - k0 < GQA_SGEMM_KC ? k - k0 : GQA_SGEMM_KC;
            sgemm_pack(pack_b, B + (size_t)k0 * b_row + (size_t)n0 * b_col, b_col, b_row, nc, SGEMM_NR, kc);
            for (int m0 = 0; m0 < m; m0 += GQA_SGEMM_MC) {
                int mc = m - m0 < GQA_SGEMM_MC ? m - m0 : GQA_SGEMM_MC;
                sgemm_pack(pack_a, A + (size_t)m0 * a_row + (size_t)k0 * a_col, a_row, a_col, mc, SGEMM_MR, kc);
                for (int j = 0; j < nc; j += SGEMM_NR)
                    for (int i = 0; i < mc; i += SGEMM_MR)
                        sgemm_tile(pack_a + (size_t)i * (size_t)kc, pack_b + (size_t)j * (size_t)kc, kc,
                                   C + (size_t)(m0 + i) * ldc + (size_t)(n0 + j), ldc,
                                   mc - i < SGEMM_MR ? mc - i : SGEMM_MR, nc - j < SGEMM_NR ? nc - j : SGEMM_NR,
                                   accumulate || k0 > 0);
            }
        }
    }
}
