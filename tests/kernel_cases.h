/* kernel_cases.h: what the tests of kernels share: the instruction sets, memory of a case. */
#ifndef GQA_KERNEL_CASES_H
#define GQA_KERNEL_CASES_H

#include "test.h"

#include "../kernels/kernels.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- memory of a case: 64-byte aligned, of exactly that size, freed together ---------------- */

static struct {
    void *blocks[32];
    size_t sizes[32];
    int n;
} memory;

static void *new_bytes(size_t n) {
    void *p = memory.n < (int)COUNT(memory.blocks) ? gqa_pages_alloc(n, 0) : NULL;
    if (!p) abort();
    memset(p, 0xff, n); /* NaN: what an earlier use may leave */
    memory.sizes[memory.n] = n;
    return memory.blocks[memory.n++] = p;
}
static float *new_floats(size_t n) { return new_bytes(n * sizeof(float)); }
static void free_last(void) {
    memory.n--;
    gqa_pages_free(memory.blocks[memory.n], memory.sizes[memory.n]);
}
static void free_all(void) {
    while (memory.n) free_last();
}

static float *random_floats(size_t n, float size, uint64_t *seed) {
    float *x = new_floats(n);
    for (size_t i = 0; i < n; i++) x[i] = size * test_random(seed);
    return x;
}

/* ---- cases ---------------------------------------------------------------------------------- */

/* TEST with a name made of two parts. */
static int case_of(const char *isa, const char *format, const char *what) {
    char part[100], name[120];
    snprintf(part, sizeof part, format, what);
    snprintf(name, sizeof name, "%s: %s", isa, part);
    return test_case(name);
}

/* The cases of every instruction set that this CPU has. */
static void for_sets(void (*test_set)(const gqa_kernels *k)) {
    static const char *const isas[] = {"scalar", "avx2", "avxvnni", "avx512", "neon", "wasm"};
    for (size_t i = 0; i < COUNT(isas); i++) {
        const gqa_kernels *k = gqa_kernels_find(isas[i]);
        if (k) test_set(k);
        else test_skip(isas[i], "not on this CPU or not in this build");
    }
}

#endif
