/* random.h: random bits from splitmix64 (Steele, Lea, Flood, OOPSLA 2014), as a stream and as a
 * hash of a seed and an index. */
#ifndef GQA_RANDOM_H
#define GQA_RANDOM_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t gqa_random_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* The next 64 bits of a stream; any initial state is good. */
static inline uint64_t gqa_random_next(uint64_t *state) {
    return gqa_random_mix(*state += 0x9E3779B97F4A7C15u);
}

/* 64 bits that depend on seed and index alone. */
static inline uint64_t gqa_random_at(uint64_t seed, uint64_t index) {
    return gqa_random_mix(seed * 0xD1342543DE82EF95u + (index + 1) * 0x9E3779B97F4A7C15u);
}

/* The top 53 of 64 random bits as a number in [0, 1). */
static inline double gqa_random_unit(uint64_t bits) { return (double)(bits >> 11) * 0x1p-53; }

/* x [n] = uniform in -limit..limit. */
static inline void gqa_random_uniform(float *x, size_t n, float limit, uint64_t *state) {
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(2 * gqa_random_unit(gqa_random_next(state)) - 1) * limit;
}

#endif
