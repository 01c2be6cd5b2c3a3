/* muon.c: Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon), the optimiser of the
 * layers' matrices with --optimizer muon. The momentum of a matrix, U S V^T by its singular values,
 * is replaced by about U V^T: every direction that the gradient has is followed with the same
 * length. Scaled as in Liu et al. 2025 (2502.16982, section 2.2), so that the update has the size
 * of one of AdamW's and takes its rate and decay. */
#include <math.h>
#include <string.h>

#include "train_internal.h"

enum { MUON_STEPS = 5 };
#define MUON_MOMENTUM 0.95f

/* Of x [m, n], its scratch: x x^T and the polynomial of it [m, m], and their product [m, n]. */
static size_t muon_floats(size_t m, size_t n) { return 2 * m * n + 2 * m * m; }

int train_is_muon(const gqa_trainer *t, const weight *w) {
    return t->opt.muon && w->rows > 1 && w->cols > 1 && !strncmp(w->name, "blk.", 4);
}

uint64_t train_muon_scratch(const gqa_trainer *t) {
    size_t most = 0;
    for (int i = 0; i < t->net.n_weights; i++) {
        const weight *w = &t->net.weights[i];
        size_t m = min_size(w->rows, w->cols), n = w->count / (w->heads * m);
        if (train_is_muon(t, w) && muon_floats(m, n) > most) most = muon_floats(m, n);
    }
    return most ? round_up(gqa_sgemm_scratch(), 64) + most * sizeof(float) : 0;
}

/* x [m, n], m <= n, becomes about U V^T: singular values between 0.68 and 1.13. Newton-Schulz:
 * x = a x + (b A + c A^2) x, A = x x^T, has the fixed vectors of x and a polynomial of its singular
 * values. free: muon_floats - m n. */
static void orthogonalise(const gqa_kernels *k, size_t m, size_t n, float *x, float *free,
                          void *scratch) {
    const float a = 3.4445f, b = -4.7750f, c = 2.0315f;
    float *xx = free, *poly = xx + m * m, *product = poly + m * m;
    double norm = 0;
    for (size_t i = 0; i < m; i++) norm += (double)k->dot(x + i * n, x + i * n, (int)n);
    const float scale = (float)(1 / (sqrt(norm) + 1e-7));
    for (size_t i = 0; i < m * n; i++) x[i] *= scale;
    for (int step = 0; step < MUON_STEPS; step++) {
        k->sgemm((int)m, (int)m, (int)n, x, n, 1, x, 1, n, xx, m, 0, scratch);
        k->sgemm((int)m, (int)m, (int)m, xx, m, 1, xx, m, 1, poly, m, 0, scratch);
        for (size_t i = 0; i < m * m; i++) poly[i] = b * xx[i] + c * poly[i];
        k->sgemm((int)m, (int)n, (int)m, poly, m, 1, x, n, 1, product, n, 0, scratch);
        for (size_t i = 0; i < m * n; i++) x[i] = a * x[i] + product[i];
    }
}

void train_muon(const gqa_trainer *t, const weight *w, const gqa_adamw *o, void *scratch) {
    const size_t rows = w->rows, cols = w->cols, m = min_size(rows, cols), n = rows * cols / m;
    const int is_tall = rows > cols; /* then x holds the transpose */
    const float keep = 1 - o->rate * o->decay, scale = 0.2f * sqrtf((float)n) * o->rate;
    float *x = (float *)(void *)((char *)scratch + round_up(gqa_sgemm_scratch(), 64));
    for (size_t head = 0; head < (size_t)w->heads; head++) {
        const size_t at = w->offset + head * rows * cols;
        const float *grad = t->net.grads + at;
        float *momentum = t->m + at, *values = t->net.params + at;
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < cols; j++) {
                const float g = grad[i * cols + j] * o->grad_scale;
                float *sum = &momentum[i * cols + j];
                *sum = MUON_MOMENTUM * *sum + g;
                x[is_tall ? j * n + i : i * n + j] = g + MUON_MOMENTUM * *sum; /* Nesterov's */
            }
        orthogonalise(t->k, m, n, x, x + m * n, scratch);
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < cols; j++) {
                float *value = &values[i * cols + j];
                *value = keep * *value - scale * x[is_tall ? j * n + i : i * n + j];
            }
    }
}
