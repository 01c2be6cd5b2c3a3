/* bf16.c: when float weights are multiplied as bf16. */
#include "../base/base.h"
#include "../base/os.h"
#include "kernels.h"
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
enum { AUX_BF16 = 1 << 14 }; /* HWCAP2_BF16 */
#endif

int gqa_kernels_have_bf16(const gqa_kernels *k) {
    if (!k->round_acts) return 0;
#if defined(__x86_64__) && !defined(GQA_SIMDE) && (defined(__clang__) || __GNUC__ >= 11)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") != 0;
#elif defined(__aarch64__) && defined(__linux__)
    return (getauxval(AT_HWCAP2) & AUX_BF16) != 0;
#elif defined(__aarch64__)
    return 0; /* not known */
#else
    return 1; /* emulated */
#endif
}

int gqa_kernels_gain_by_bf16(const gqa_kernels *k) {
    enum { TIMES = 6, ROUNDS = 4096 };
    double best[2] = {0};
    volatile float sink; /* keeps the loops */
    if (!gqa_kernels_have_bf16(k)) return 0;
    for (int i = 0; i < TIMES; i++)
        for (int is_bf16 = 0; is_bf16 < 2; is_bf16++) {
            double macs = 0, start = gqa_os_seconds();
            sink = (is_bf16 ? k->peak_bf16 : k->peak_float)(ROUNDS, &macs);
            double rate = macs / (gqa_os_seconds() - start);
            if (rate > best[is_bf16]) best[is_bf16] = rate;
        }
    (void)sink;
    return best[1] >= 1.5 * best[0];
}
