/* dispatch.c: the one place where an instruction set is chosen. */
#include <string.h>

#include "kernels.h"

#if defined(__x86_64__) || defined(__i386__)
extern const gqa_kernels gqa_kernels_avx2;
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

const gqa_kernels *gqa_kernels_find(const char *name) {
#if defined(__x86_64__) || defined(__i386__)
    if ((!name || !strcmp(name, "avx2")) && has_avx2()) return &gqa_kernels_avx2;
#endif
    return !name || !strcmp(name, "scalar") ? &gqa_kernels_scalar : NULL;
}
