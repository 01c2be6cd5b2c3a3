/* dropout.c: dropout (Srivastava et al. 2014) by a hash instead of stored masks: the way back asks for the same factors. */
#include "train_internal.h"

uint64_t train_dropout_key(uint64_t seed, int step) { return gqa_random_at(~seed, (uint64_t)step); }

void train_dropout_factors(const dropout *d, int site, size_t token, int from, float *factors, int n) {
    uint64_t row = gqa_random_at(gqa_random_at(d->key, (uint64_t)site), token);
    uint64_t least = (uint64_t)(d->share * 65536 + 0.5f); /* 16 random bits a value */
    float kept = 1 / (1 - d->share);
    for (int i = 0; i < n; i++) {
        uint64_t bits = gqa_random_at(row, (uint64_t)(from + i) / 4) >> (from + i) % 4 * 16 & 0xffff;
        factors[i] = bits < least ? 0 : kept;
    }
}

void train_dropout_rows(const dropout *d, int site, int token0, int n, const float *x, float *out, int dim, int add) {
    enum { SOME = 64 };
    float factors[SOME];
    for (int t = 0; t < n; t++)
        for (int from = 0; from < dim; from += SOME) {
            int count = dim - from < SOME ? dim - from : SOME;
            size_t at = (size_t)t * (size_t)dim + (size_t)from;
            train_dropout_factors(d, site, d->first + (size_t)(token0 + t), from, factors, count);
            for (int i = 0; i < count; i++) out[at + (size_t)i] = x[at + (size_t)i] * factors[i] + (add ? out[at + (size_t)i] : 0);
        }
}
