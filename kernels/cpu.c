/* cpu.c: what this CPU, and the system it runs on, can do of what there are kernels for. */
#include "kernels.h"

#ifdef __x86_64__
#include <cpuid.h>

/* Intel's manual, volume 2, CPUID: `bits` of a register are all set. */
static int has(unsigned reg, unsigned bits) { return (reg & bits) == bits; }

/* Intel; AMD's Zen 3: family 19h, models 00h to 0Fh and 20h to 5Fh. signature: leaf 1's eax. */
static int likes_every_line(unsigned vendor, unsigned signature) {
    enum { GENU = 0x756E6547 }; /* of "GenuineIntel" */
    const unsigned models = signature >> 16 & 15;
    const unsigned family = (signature >> 8 & 15) + (signature >> 20 & 255);
    return vendor == GENU || (family == 0x19 && models <= 5 && models != 1);
}

int gqa_cpu_has(int feature) {
    enum { AVX_STATE = 0x06, OSXSAVE = 1 << 27, FMA_F16C = 1 << 12 | 1 << 29 };
#ifdef __APPLE__ /* the rest is set when a thread first uses it */
    enum { AVX512_STATE = AVX_STATE };
#else
    enum { AVX512_STATE = AVX_STATE | 0xE0 };
#endif
    unsigned a, b1, b, c1, c, d, state, more = 0, vendor, signature;
    if (feature == GQA_CPU_ANY) return 1;
    if (!__get_cpuid(0, &a, &vendor, &c, &d)) return 0;
    if (!__get_cpuid(1, &signature, &b1, &c1, &d) || !has(c1, OSXSAVE | FMA_F16C)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, 1 << 5)) return 0; /* AVX2 */
    if (a) __get_cpuid_count(7, 1, &more, &b1, &c1, &d);
    /* the registers that the system keeps for each thread */
    __asm__("xgetbv" : "=a"(state), "=d"(d) : "c"(0));
    switch (feature) {
    case GQA_CPU_EVERY_LINE: return likes_every_line(vendor, signature);
    case GQA_CPU_AVX2: return has(state, AVX_STATE);
    case GQA_CPU_AVXVNNI: return has(state, AVX_STATE) && has(more, 1 << 4);
    case GQA_CPU_BF16: return has(state, AVX512_STATE) && has(more, 1 << 5);
    case GQA_CPU_AVX512: /* F, DQ, BW, VL; VNNI */
        return has(state, AVX512_STATE) && has(b, 1 << 16 | 1 << 17 | 1 << 30 | 1u << 31) &&
               has(c, 1 << 11);
    default: return 0;
    }
}

#elif defined(__aarch64__) && (defined(__linux__) || defined(__FreeBSD__))
#include <sys/auxv.h>

/* The bits are the same on both systems. */
static unsigned long capabilities(int which) {
#ifdef __FreeBSD__
    unsigned long bits = 0;
    elf_aux_info(which, &bits, sizeof bits);
    return bits;
#else
    return getauxval((unsigned long)which);
#endif
}

int gqa_cpu_has(int feature) {
    switch (feature) {
    case GQA_CPU_ANY: return 1;
    case GQA_CPU_DOT: return capabilities(AT_HWCAP) >> 20 & 1;   /* ASIMDDP */
    case GQA_CPU_I8MM: return capabilities(AT_HWCAP2) >> 13 & 1; /* I8MM */
    case GQA_CPU_BF16: return capabilities(AT_HWCAP2) >> 14 & 1; /* BF16 */
    default: return 0;
    }
}

#else
#if defined(__APPLE__) && defined(__aarch64__)
#include <sys/sysctl.h>
#endif

int gqa_cpu_has(int feature) {
#if defined(__APPLE__) && defined(__aarch64__)
    int value = 0;
    size_t size = sizeof value;
    if (feature == GQA_CPU_DOT) return 1; /* from the M1 on */
    if (feature == GQA_CPU_I8MM) /* from the M2 on */
        return !sysctlbyname("hw.optional.arm.FEAT_I8MM", &value, &size, NULL, 0) && value;
#endif
    return feature == GQA_CPU_ANY;
}
#endif
