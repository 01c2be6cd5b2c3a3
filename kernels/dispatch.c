/* dispatch.c: the one place where an instruction set is chosen. GQA_ONLY_SCALAR leaves all but plain C out. */
#include <stdlib.h>
#include <string.h>

#include "../base/base.h"
#include "kernels.h"

#if defined(__x86_64__) && !defined(GQA_ONLY_SCALAR)
extern const gqa_kernels gqa_kernels_avx2;
static const gqa_kernels *avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &gqa_kernels_avx2 : NULL;
}
#else
static const gqa_kernels *avx2(void) { return NULL; }
#endif

#if defined(GQA_SIMDE)
extern const gqa_kernels gqa_kernels_avx512;
static const gqa_kernels *avx512(void) { return &gqa_kernels_avx512; }
#elif defined(__x86_64__) && !defined(GQA_ONLY_SCALAR)
extern const gqa_kernels gqa_kernels_avx512;
static const gqa_kernels *avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && avx2() ? &gqa_kernels_avx512 : NULL;
}
#else
static const gqa_kernels *avx512(void) { return NULL; }
#endif

#if defined(__aarch64__) && !defined(GQA_ONLY_SCALAR)
extern const gqa_kernels gqa_kernels_neon, gqa_kernels_neon_dot;
#ifdef __linux__
#include <sys/auxv.h>
static const gqa_kernels *neon(void) { return getauxval(AT_HWCAP) & (1ul << 20) ? &gqa_kernels_neon_dot : &gqa_kernels_neon; } /* HWCAP_ASIMDDP */
#else
static const gqa_kernels *neon(void) { return &gqa_kernels_neon; }
#endif
#else
static const gqa_kernels *neon(void) { return NULL; }
#endif

const gqa_kernels *gqa_kernels_find(const char *isa) {
    static const struct { const char *name; const gqa_kernels *(*find)(void); } sets[] = {{"avx512", avx512}, {"avx2", avx2}, {"neon", neon}};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        const gqa_kernels *k = !isa || !strcmp(isa, sets[i].name) ? sets[i].find() : NULL;
        if (k) return k;
    }
    return !isa || !strcmp(isa, "scalar") ? &gqa_kernels_scalar : NULL;
}

const gqa_kernels *gqa_kernels_choose(const char *isa, gqa_error *err) {
    if (!isa) isa = getenv("GQA_ISA");
    const gqa_kernels *k = gqa_kernels_find(isa && *isa ? isa : NULL);
    if (!k)
        gqa_fail(err, GQA_ERR_UNSUPPORTED,
                 "instruction set \"%s\": not on this CPU or not in this build (scalar always is)", isa);
    return k;
}
