/* test_score.c: the divergence of distributions, against values by hand. */
#include "../commands/score.h"
#include "test.h"

static int near(double x, double y) { return fabs(x - y) <= 1e-5 * fmax(1e-3, fabs(y)); }

/* Logits whose softmax is p[n]: a shift changes nothing. */
static void to_logits(const double *p, int n, double shift, float *out) {
    for (int i = 0; i < n; i++) out[i] = (float)(log(p[i]) + shift);
}

static void check_kl(void) {
    const double p[3] = {0.5, 0.25, 0.25}, q[3] = {0.25, 0.25, 0.5};
    const double uniform[3] = {1 / 3.0, 1 / 3.0, 1 / 3.0};
    float a[3], b[3], u[3];
    to_logits(p, 3, 7, a);
    to_logits(q, 3, -20, b);
    to_logits(uniform, 3, 0, u);
    double same = score_kl(a, a, 3), kl = score_kl(a, b, 3);
    CHECK(same == 0, "of itself: %g", same);
    CHECK(near(kl, 0.25 * log(2)), "0.5 ln 2 - 0.25 ln 2: %.9f", kl);
    kl = score_kl(a, u, 3);
    CHECK(near(kl, log(3) - 1.5 * log(2)), "ln 3 - H(p): %.9f", kl);
    kl = score_kl(u, a, 3);
    CHECK(near(kl, 5 * log(2) / 3 - log(3)), "the other way round: %.9f", kl);
    float certain[2] = {200, 0}, even[2] = {0, 0}, wrong[2] = {0, 200};
    kl = score_kl(certain, even, 2);
    CHECK(near(kl, log(2)), "a certain reference: %.9f", kl);
    kl = score_kl(certain, wrong, 2);
    CHECK(near(kl, 200), "certain and wrong: %.9f", kl);
}

static void check_divergence(void) {
    double kl[5] = {0.4, 0.1, 0.3, 0.2, 0};
    divergence d = score_divergence(kl, 5, 4);
    CHECK(near(d.mean, 0.2), "mean %g", d.mean);
    CHECK(near(d.error, sqrt(0.02 / 4)), "its standard error %g", d.error); /* variance 0.1 / 5 */
    CHECK(near(d.p99, 0.396), "between 0.3 and 0.4: %g", d.p99);
    CHECK(d.largest == 0.4 && d.n == 5, "largest %g of %d", d.largest, d.n);
    CHECK(near(d.same_top, 80), "same top %g%%", d.same_top);
    CHECK(near(d.same_top_error, 20), "%g", d.same_top_error); /* sqrt(0.8 0.2 / 4) */
    double many[201];
    for (int i = 0; i <= 200; i++) many[i] = (200 - i) / 100.0;
    d = score_divergence(many, 201, 0);
    CHECK(near(d.p99, 1.98) && d.largest == 2, "99%% %g, largest %g", d.p99, d.largest);
    double one[1] = {0.5};
    d = score_divergence(one, 1, 1);
    CHECK(d.p99 == 0.5 && d.error == 0 && d.same_top_error == 0, "one position has no spread");
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("KL of two distributions") check_kl();
    TEST("mean, percentile and spread") check_divergence();
    return test_end();
}
