/* test_muon.c: the optimiser Muon: a step against its formulas in double precision, what an
 * orthogonal update has to be, threads and resuming. */
#include "tiny_trainer.h"

enum { MOST = 64 * 64 };

/* c [m, n] = a [m, k] b, b [k, n] or, with transpose, [n, k]. */
static void multiply(int m, int n, int k, const double *a, const double *b, int transpose,
                     double *c) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int l = 0; l < k; l++)
                sum += a[i * k + l] * (transpose ? b[j * k + l] : b[l * n + j]);
            c[i * n + j] = sum;
        }
}

/* Five steps of x = a x + (b A + c A A) x, A = x x^T, from x / |x|. A tall x gives the same by
 * x^T x, but with more multiplications: here A is always of the rows. */
static void oracle_orthogonal(int m, int n, double *x) {
    static double A[MOST], AA[MOST], product[MOST];
    double norm = 0;
    for (int i = 0; i < m * n; i++) norm += x[i] * x[i];
    for (int i = 0; i < m * n; i++) x[i] /= sqrt(norm) + 1e-7;
    for (int step = 0; step < 5; step++) {
        multiply(m, m, n, x, x, 1, A);
        multiply(m, m, m, A, A, 0, AA);
        for (int i = 0; i < m * m; i++) AA[i] = -4.7750 * A[i] + 2.0315 * AA[i];
        multiply(m, n, m, AA, x, 0, product);
        for (int i = 0; i < m * n; i++) x[i] = 3.4445 * x[i] + product[i];
    }
}

/* The largest eigenvalue of a symmetric a [m, m], by its powers. */
static double largest_eigenvalue(int m, const double *a) {
    double x[64], y[64], norm = 0;
    for (int i = 0; i < m; i++) x[i] = 1 + 0.1 * i;
    for (int step = 0; step < 300; step++) {
        multiply(m, 1, m, a, x, 0, y);
        norm = 0;
        for (int i = 0; i < m; i++) norm += y[i] * y[i];
        for (int i = 0; i < m; i++) x[i] = y[i] / sqrt(norm);
    }
    return sqrt(norm);
}

/* About the gradient's polar factor: the largest singular value is near 1 (small ones of a gradient
 * as poor as these stay small), and gradient times update^T is symmetric. */
static void check_orthogonal(const char *name, int rows, int cols, const double *grad,
                             const double *update) {
    static double square[MOST], product[MOST], a[MOST], b[MOST];
    const int m = rows < cols ? rows : cols, n = rows * cols / m;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            int at = rows <= cols ? i * n + j : j * n + i;
            a[at] = grad[i * cols + j];
            b[at] = update[i * cols + j];
        }
    multiply(m, m, n, b, b, 1, square);
    double largest = sqrt(largest_eigenvalue(m, square));
    CHECK(largest < 1.25 && largest > 0.68, "%s: largest singular value %g", name, largest);
    multiply(m, m, n, a, b, 1, product);
    double worst = 0, size = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++) {
            worst = fmax(worst, fabs(product[i * m + j] - product[j * m + i]));
            size = fmax(size, fabs(product[i * m + j]));
        }
    CHECK(worst < 1e-3 * size, "%s: gradient times update: asymmetric by %g of %g", name, worst,
          size);
}

static gqa_trainer *muon_trainer(gqa_config c, int threads) {
    gqa_train_options o = {
        .steps = 60, .batch = 6, .micro_batch = 3, .seed = 9, .n_threads = threads, .rate = 0.01f,
        .warmup = 1, .decay = 0.1f, .muon = 1,
    };
    return tiny_trainer(&c, &o);
}

/* Matrix w before and after a step, whose momentum was `momentum`. */
static void check_step(const gqa_trainer *t, const weight *w, const float *before,
                       const float *momentum, double rate, double scale) {
    static double update[MOST], grad[MOST];
    const int size = w->rows * w->cols, large = w->rows > w->cols ? w->rows : w->cols;
    for (int head = 0; head < w->heads; head++) {
        const size_t at = w->offset + (size_t)(head * size);
        double worst = 0;
        for (int i = 0; i < size; i++) {
            double g = scale * (double)t->net.grads[at + (size_t)i];
            double kept = 0.95 * (double)momentum[at + (size_t)i], sum = kept + g;
            grad[i] = update[i] = g + 0.95 * sum;
            double error = fabs(sum - (double)t->m[at + (size_t)i]);
            worst = fmax(worst, error / (1e-7 + fabs(kept) + fabs(g))); /* which may cancel out */
        }
        CHECK(worst < 1e-5, "%s: momentum is wrong by a share of %g", w->name, worst);
        oracle_orthogonal(w->rows, w->cols, update);
        worst = 0;
        for (int i = 0; i < size; i++) {
            double old = (double)before[at + (size_t)i];
            double want = old * (1 - 0.1 * rate) - rate * 0.2 * sqrt(large) * update[i];
            worst = fmax(worst, fabs(want - (double)t->net.params[at + (size_t)i]));
        }
        CHECK(worst < 1e-3 * rate, "%s: differs by %g", w->name, worst);
        check_orthogonal(w->name, w->rows, w->cols, grad, update);
    }
}

static void test_step(gqa_config c) {
    gqa_dataset d = cycle(800);
    gqa_step_result r;
    gqa_error err = {0};
    gqa_trainer *t = muon_trainer(c, 2);
    const size_t n = t->net.n_params;
    float *before = malloc(2 * n * sizeof *before), *momentum = before + n;
    int matrices = 0;
    for (int step = 0; step < 3; step++) {
        memcpy(before, t->net.params, n * sizeof *before);
        memcpy(momentum, t->m, n * sizeof *momentum);
        CHECK(gqa_trainer_step(t, &d, &r, &err) == 0, "%s", err.message);
        double scale = r.grad_norm > 1 ? 1 / r.grad_norm : 1;
        for (int i = 0; i < t->net.n_weights; i++) {
            const weight *w = &t->net.weights[i];
            if (strncmp(w->name, "blk.", 4) || w->rows == 1) continue;
            check_step(t, w, before, momentum, r.rate, scale);
            matrices++;
        }
    }
    CHECK(matrices >= 3 * 6 * TINY_LAYERS, "%d matrices", matrices);
    free(before);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
}

/* 60 steps; and 25, a file, and 35 on another number of threads: the same bits. */
static void test_resume(gqa_config c) {
    gqa_dataset d = cycle(800);
    const uint64_t text = gqa_dataset_fingerprint(&d);
    gqa_step_result r = {0}, again = {0};
    gqa_error err = {0};
    const char *path = scratch_path("muon.gguf");
    gqa_trainer *whole = muon_trainer(c, 1), *first = muon_trainer(c, 3);
    gqa_trainer *second = muon_trainer(c, 2);
    for (int i = 0; i < 60; i++) gqa_trainer_step(whole, &d, &r, &err);
    for (int i = 0; i < 25; i++) gqa_trainer_step(first, &d, &again, &err);
    CHECK(r.loss < 1, "loss %g after 60 steps", r.loss);
    CHECK(gqa_trainer_save(first, NULL, text, NULL, path, &err) == 0, "%s", err.message);
    mapped_file file;
    if (file_open(&file, path))
        CHECK(gqa_trainer_resume(second, text, NULL, &file.c, &err) == 0, "%s", err.message);
    for (int i = 25; i < 60; i++) gqa_trainer_step(second, &d, &again, &err);
    CHECK(again.loss == r.loss, "a resumed run ends at %.9g, another at %.9g", again.loss, r.loss);
    second->step = 0;
    second->opt.muon = 0;
    CHECK(gqa_trainer_resume(second, text, NULL, &file.c, &err) < 0, "another optimiser");
    CHECK_HAS(err.message, "gqa.train.muon");
    file_close(&file);
    unlink(path);
    gqa_trainer_free(whole);
    gqa_trainer_free(first);
    gqa_trainer_free(second);
    gqa_dataset_free(&d);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("a step") test_step(tiny_config(2, 1));
    TEST("a step, MLA") test_step(tiny_latent(0));
    TEST("stopped and resumed") test_resume(tiny_config(2, 1));
    return test_end();
}
