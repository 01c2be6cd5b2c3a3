/* dispatch.c: the one place where an instruction set is chosen. GQA_ONLY_SCALAR leaves all but
 * plain C out. */
#include <stdlib.h>
#include <string.h>

#include "../base/base.h"
#include "kernels.h"

#if defined(__x86_64__) && !defined(GQA_ONLY_SCALAR)
extern const gqa_kernels gqa_kernels_avx2, gqa_kernels_avxvnni, gqa_kernels_avx512;
#endif
#if defined(__aarch64__) && !defined(GQA_ONLY_SCALAR)
extern const gqa_kernels gqa_kernels_neon, gqa_kernels_neon_dot, gqa_kernels_neon_i8mm;
#endif
#if defined(__wasm_simd128__) && !defined(GQA_ONLY_SCALAR)
extern const gqa_kernels gqa_kernels_wasm;
#endif

/* What is emulated is there always. */
#ifdef GQA_SIMDE
enum { NEEDS_AVX512 = GQA_CPU_ANY, NEEDS_AVXVNNI = GQA_CPU_ANY };
#elif defined(GQA_VNNI_VL)
enum { NEEDS_AVX512 = GQA_CPU_AVX512, NEEDS_AVXVNNI = GQA_CPU_AVX512 };
#else
enum { NEEDS_AVX512 = GQA_CPU_AVX512, NEEDS_AVXVNNI = GQA_CPU_AVXVNNI };
#endif

/* Best first. */
static const struct {
    int needs;
    const gqa_kernels *kernels;
} kernel_sets[] = {
#if defined(__x86_64__) && !defined(GQA_ONLY_SCALAR)
    {NEEDS_AVX512, &gqa_kernels_avx512},
#ifdef GQA_HAS_AVXVNNI
    {NEEDS_AVXVNNI, &gqa_kernels_avxvnni},
#endif
    {GQA_CPU_AVX2, &gqa_kernels_avx2},
#endif
#if defined(__aarch64__) && !defined(GQA_ONLY_SCALAR)
#ifdef GQA_HAS_I8MM
    {GQA_CPU_I8MM, &gqa_kernels_neon_i8mm},
#endif
    {GQA_CPU_DOT, &gqa_kernels_neon_dot},
    {GQA_CPU_ANY, &gqa_kernels_neon},
#endif
#if defined(__wasm_simd128__) && !defined(GQA_ONLY_SCALAR)
    {GQA_CPU_ANY, &gqa_kernels_wasm},
#endif
    {GQA_CPU_ANY, &gqa_kernels_scalar},
};

const gqa_kernels *gqa_kernels_find(const char *isa) {
    for (size_t i = 0; i < array_length(kernel_sets); i++) {
        const gqa_kernels *kernels = kernel_sets[i].kernels;
        if (isa && strcmp(isa, kernels->name)) continue;
        if (gqa_cpu_has(kernel_sets[i].needs)) return kernels;
    }
    return NULL;
}

int gqa_kernels_list(const char **names, int cap) {
    int n = 0;
    for (size_t i = 0; i < sizeof kernel_sets / sizeof kernel_sets[0] && n < cap; i++) {
        const char *name = kernel_sets[i].kernels->name;
        int is_known = n && !strcmp(names[n - 1], name); /* by a better one */
        if (!is_known && gqa_cpu_has(kernel_sets[i].needs)) names[n++] = name;
    }
    return n;
}

const gqa_kernels *gqa_kernels_choose(const char *isa, gqa_error *err) {
    if (!isa) isa = getenv("GQA_ISA");
    const gqa_kernels *k = gqa_kernels_find(isa && *isa ? isa : NULL);
    if (!k)
        gqa_fail(err, GQA_ERR_UNSUPPORTED, "instruction set \"%s\": not on this CPU or not in this "
                 "build (scalar always is)", isa);
    return k;
}
