/* dropout.c: dropout (Srivastava et al. 2014) by a hash instead of stored masks: the backward pass
 * computes the same factors again. */
#include "train_internal.h"

uint64_t train_dropout_key(uint64_t seed, int step) {
    return gqa_random_at(~seed, (uint64_t)step);
}

void train_dropout_factors(const dropout *d, int site, size_t token, size_t from, float *factors,
                           size_t n) {
    uint64_t row = gqa_random_at(gqa_random_at(d->key, (uint64_t)site), token);
    uint64_t threshold = (uint64_t)(d->share * 65536 + 0.5f); /* 16 random bits per value */
    float kept = 1 / (1 - d->share);
    for (size_t i = from; i < from + n; i++) {
        uint64_t bits = gqa_random_at(row, i / 4) >> i % 4 * 16 & 0xffff;
        factors[i - from] = bits < threshold ? 0 : kept;
    }
}

void train_dropout_rows(const dropout *d, int site, size_t token, size_t n, const float *x,
                        float *out, size_t dim, int add) {
    enum { CHUNK = 64 };
    float factors[CHUNK];
    for (size_t t = 0; t < n; t++, x += dim, out += dim)
        for (size_t from = 0; from < dim; from += CHUNK) {
            size_t end = min_size(from + CHUNK, dim);
            train_dropout_factors(d, site, d->first + token + t, from, factors, end - from);
            for (size_t i = from; i < end; i++)
                out[i] = x[i] * factors[i - from] + (add ? out[i] : 0);
        }
}
