/* dispatch.c: the one place where an instruction set is chosen. GQA_ONLY_SCALAR leaves all but
 * plain C out. */
#include <stdlib.h>
#include <string.h>

#include "../base/base.h"
#include "kernels.h"

#if defined(__x86_64__) && !defined(GQA_ONLY_SCALAR)
#include <cpuid.h>
extern const gqa_kernels gqa_kernels_avx2, gqa_kernels_avxvnni, gqa_kernels_avx512;
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#ifdef GQA_SIMDE
static int has_avx512(void) { return 1; } /* emulated */
static int has_avxvnni(void) { return 1; }
#else
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#ifdef GQA_VNNI_VL
static int has_avxvnni(void) { return has_avx512(); }
#elif defined(GQA_HAS_AVXVNNI)
static int has_avxvnni(void) { /* leaf 7, sub-leaf 1 */
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif
#endif
#endif

#if defined(__aarch64__) && !defined(GQA_ONLY_SCALAR)
extern const gqa_kernels gqa_kernels_neon, gqa_kernels_neon_dot;
#ifdef __linux__
#include <sys/auxv.h>
enum { ASIMDDP = 1 << 20 }; /* HWCAP_ASIMDDP */
static int has_dot(void) { return (getauxval(AT_HWCAP) & ASIMDDP) != 0; }
#elif defined(__APPLE__)
static int has_dot(void) { return 1; } /* from the M1 on */
#else
static int has_dot(void) { return 0; }
#endif
#endif

#if defined(__wasm_simd128__) && !defined(GQA_ONLY_SCALAR)
extern const gqa_kernels gqa_kernels_wasm;
#endif

static int always(void) { return 1; }

/* Best first. */
static const struct {
    int (*is_here)(void);
    const gqa_kernels *kernels;
} kernel_sets[] = {
#if defined(__x86_64__) && !defined(GQA_ONLY_SCALAR)
    {has_avx512, &gqa_kernels_avx512},
#ifdef GQA_HAS_AVXVNNI
    {has_avxvnni, &gqa_kernels_avxvnni},
#endif
    {has_avx2, &gqa_kernels_avx2},
#endif
#if defined(__aarch64__) && !defined(GQA_ONLY_SCALAR)
    {has_dot, &gqa_kernels_neon_dot},
    {always, &gqa_kernels_neon},
#endif
#if defined(__wasm_simd128__) && !defined(GQA_ONLY_SCALAR)
    {always, &gqa_kernels_wasm},
#endif
    {always, &gqa_kernels_scalar},
};

const gqa_kernels *gqa_kernels_find(const char *isa) {
    for (size_t i = 0; i < array_length(kernel_sets); i++) {
        const gqa_kernels *kernels = kernel_sets[i].kernels;
        if ((!isa || !strcmp(isa, kernels->name)) && kernel_sets[i].is_here()) return kernels;
    }
    return NULL;
}

int gqa_kernels_list(const char **names, int cap) {
    int n = 0;
    for (size_t i = 0; i < sizeof kernel_sets / sizeof kernel_sets[0] && n < cap; i++) {
        const char *name = kernel_sets[i].kernels->name;
        int is_known = n && !strcmp(names[n - 1], name); /* by a better one */
        if (!is_known && kernel_sets[i].is_here()) names[n++] = name;
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
