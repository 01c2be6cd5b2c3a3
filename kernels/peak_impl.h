/* peak_impl.h: loops that do nothing but reach a limit of the machine: the yardsticks that `run bench` holds the other
 * kernels against. Each returns a value made from all it did, so that no compiler can leave the work out; an empty
 * asm keeps it from seeing that chains compute the same. */
#if defined(__x86_64__) && !defined(GQA_SIMDE)
#define PEAK_KEEP(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define PEAK_KEEP(v) __asm__("" : "+w"(v))
#else
#define PEAK_KEEP(v) __asm__("" : "+m"(v))
#endif

/* rounds x 12 x VF_LANES f32 multiply-adds in 12 independent chains. */
static float peak_float(long rounds, double *macs) {
    vf a = vf_set1(1.0000001f), b = vf_set1(1e-9f), c0 = b, c1 = b, c2 = b, c3 = b, c4 = b, c5 = b, c6 = b, c7 = b, c8 = b, c9 = b, c10 = b, c11 = b;
#define PEAK_STEP(c) c = vf_fma(c, a, b); PEAK_KEEP(c)
    for (long i = 0; i < rounds; i++) {
        PEAK_STEP(c0); PEAK_STEP(c1); PEAK_STEP(c2); PEAK_STEP(c3); PEAK_STEP(c4); PEAK_STEP(c5);
        PEAK_STEP(c6); PEAK_STEP(c7); PEAK_STEP(c8); PEAK_STEP(c9); PEAK_STEP(c10); PEAK_STEP(c11);
    }
#undef PEAK_STEP
    *macs = (double)rounds * 12 * VF_LANES;
    c0 = vf_add(vf_add(vf_add(c0, c1), vf_add(c2, c3)), vf_add(vf_add(c4, c5), vf_add(c6, c7)));
    return vf_sum(vf_add(c0, vf_add(vf_add(c8, c9), vf_add(c10, c11))));
}

/* Reads size bytes, a multiple of 256, once, in order. */
static int32_t peak_read(const void *data, size_t size) {
    const char *p = data;
    vi s0 = vi_set1(0), s1 = s0, s2 = s0, s3 = s0;
    size_t step = sizeof(vi);
    for (size_t i = 0; i < size; i += 4 * step) {
        s0 = vi_add(s0, vi_load(p + i)), s1 = vi_add(s1, vi_load(p + i + step));
        s2 = vi_add(s2, vi_load(p + i + 2 * step)), s3 = vi_add(s3, vi_load(p + i + 3 * step));
    }
    int32_t lanes[sizeof(vi) / sizeof(int32_t)], sum = 0;
    vi_store(lanes, vi_add(vi_add(s0, s1), vi_add(s2, s3)));
    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) sum = (int32_t)((uint32_t)sum + (uint32_t)lanes[i]);
    return sum;
}

/* rounds x 12 x VI_MAC8 int8 multiply-adds. */
#define PEAK_STEP(c) PEAK_KEEP(a); c = vi_mac8(c, a, b); PEAK_KEEP(c)
static int32_t peak_int8(long rounds, double *macs) {
    vi a = vi_set1(0x01010101), b = a;
    vi c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a, c10 = a, c11 = a;
    for (long i = 0; i < rounds; i++) {
        PEAK_STEP(c0); PEAK_STEP(c1); PEAK_STEP(c2); PEAK_STEP(c3); PEAK_STEP(c4); PEAK_STEP(c5);
        PEAK_STEP(c6); PEAK_STEP(c7); PEAK_STEP(c8); PEAK_STEP(c9); PEAK_STEP(c10); PEAK_STEP(c11);
    }
    *macs = (double)rounds * 12 * VI_MAC8;
    c0 = vi_add(vi_add(vi_add(c0, c1), vi_add(c2, c3)), vi_add(vi_add(c4, c5), vi_add(c6, c7)));
    int32_t lanes[sizeof(vi) / sizeof(int32_t)], sum = 0;
    vi_store(lanes, vi_add(c0, vi_add(vi_add(c8, c9), vi_add(c10, c11))));
    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) sum = (int32_t)((uint32_t)sum + (uint32_t)lanes[i]);
    return sum;
}
#undef PEAK_STEP
