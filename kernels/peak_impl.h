/* peak_impl.h: loops that only reach a limit of the machine: the yardsticks of `run bench`. Each
 * returns a value made from all it did, so that no compiler can leave the work out; an empty asm
 * hides that the chains compute the same. */
#if defined(__x86_64__) && !defined(GQA_SIMDE)
#define PEAK_KEEP(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define PEAK_KEEP(v) __asm__("" : "+w"(v))
#else
#define PEAK_KEEP(v) __asm__("" : "+m"(v))
#endif

/* 12 independent chains, in registers without UNROLL too. */
#define PEAK_CHAINS 12
#define PEAK_ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#ifndef GQA_INT8_ONLY
/* rounds x PEAK_CHAINS x VF_LANES f32 multiply-adds. */
static float kernel_peak_float(long rounds, double *macs) {
    vf a = vf_set1(1.0000001f), b = vf_set1(1e-9f), c[PEAK_CHAINS], sum = vf_set1(0);
#define PEAK_BEGIN(j) c[j] = b;
#define PEAK_STEP(j) \
    c[j] = vf_fma(c[j], a, b); \
    PEAK_KEEP(c[j]);
#define PEAK_END(j) sum = vf_add(sum, c[j]);
    PEAK_ALL(PEAK_BEGIN)
    for (long i = 0; i < rounds; i++) {
        PEAK_ALL(PEAK_STEP)
    }
    PEAK_ALL(PEAK_END)
#undef PEAK_BEGIN
#undef PEAK_STEP
#undef PEAK_END
    *macs = (double)rounds * PEAK_CHAINS * VF_LANES;
    return vf_sum(sum);
}
#endif

static int32_t sum_of_lanes(vi v) {
    int32_t lanes[sizeof v / sizeof(int32_t)];
    uint32_t sum = 0;
    vi_store(lanes, v);
    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) sum += (uint32_t)lanes[i];
    return (int32_t)sum;
}

/* rounds x PEAK_CHAINS x VI_MAC8 int8 multiply-adds. */
static int32_t kernel_peak_int8(long rounds, double *macs) {
    vi a = vi_set1(0x01010101), b = a, c[PEAK_CHAINS], sum = vi_set1(0);
#define PEAK_BEGIN(j) c[j] = a;
#define PEAK_STEP(j) \
    PEAK_KEEP(a); \
    c[j] = vi_mac8(c[j], a, b); \
    PEAK_KEEP(c[j]);
#define PEAK_END(j) sum = vi_add(sum, c[j]);
    PEAK_ALL(PEAK_BEGIN)
    for (long i = 0; i < rounds; i++) {
        PEAK_ALL(PEAK_STEP)
    }
    PEAK_ALL(PEAK_END)
#undef PEAK_BEGIN
#undef PEAK_STEP
#undef PEAK_END
    *macs = (double)rounds * PEAK_CHAINS * VI_MAC8;
    return sum_of_lanes(sum);
}

#ifndef GQA_INT8_ONLY
#ifdef VF_BF16
/* rounds x PEAK_CHAINS x 2 VF_LANES bf16 multiply-adds. */
VF_BF16 static float kernel_peak_bf16(long rounds, double *macs) {
    vi a = vi_set1(0x3f813f81); /* pairs of 1 + 1/128: gcc 12 errs on ones for aarch64 */
    vf c[PEAK_CHAINS], sum = vf_set1(0);
#define PEAK_BEGIN(j) c[j] = sum;
#define PEAK_STEP(j) \
    c[j] = vf_dot_bf16(c[j], a, a); \
    PEAK_KEEP(c[j]);
#define PEAK_END(j) sum = vf_add(sum, c[j]);
    PEAK_ALL(PEAK_BEGIN)
    for (long i = 0; i < rounds; i++) {
        PEAK_ALL(PEAK_STEP)
    }
    PEAK_ALL(PEAK_END)
#undef PEAK_BEGIN
#undef PEAK_STEP
#undef PEAK_END
    *macs = (double)rounds * PEAK_CHAINS * 2 * VF_LANES;
    return vf_sum(sum);
}
#endif

/* Reads size bytes, a multiple of 256, once, in order. */
static int32_t kernel_peak_read(const void *data, size_t size) {
    const char *p = data;
    const size_t step = sizeof(vi);
    vi s0 = vi_set1(0), s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < size; i += 4 * step) {
        s0 = vi_add(s0, vi_load(p + i));
        s1 = vi_add(s1, vi_load(p + i + step));
        s2 = vi_add(s2, vi_load(p + i + 2 * step));
        s3 = vi_add(s3, vi_load(p + i + 3 * step));
    }
    return sum_of_lanes(vi_add(vi_add(s0, s1), vi_add(s2, s3)));
}
#endif
