/* bf16.c: when float weights are multiplied as bf16. */
#include "../base/base.h"
#include "../base/os.h"
#include "kernels.h"

int gqa_kernels_have_bf16(const gqa_kernels *k) {
#ifdef GQA_SIMDE
    const int needs = GQA_CPU_ANY; /* emulated */
#else
    const int needs = GQA_CPU_BF16;
#endif
    return k->round_acts && gqa_cpu_has(needs);
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
