#!/bin/sh
# test-isas.sh: the kernel tests of the instruction sets that this machine lacks: NEON under qemu-user, AVX-512 emulated by SIMDe.
# Needs Debian's gcc-aarch64-linux-gnu, qemu-user and libsimde-dev; what is missing is skipped, and says so.
cd "$(dirname "$0")/.." || exit 1
status=0
if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then
    # -O2: gcc 12 for aarch64 fails on one test file at -O3 with an internal error
    make -s -j2 BUILD=build-neon CC=aarch64-linux-gnu-gcc LDFLAGS=-static OPT=-O2 build-neon/tests/test_kernels build-neon/tests/test_forward build-neon/tests/test_session build-neon/tests/test_team 2>/dev/null || status=1
    for cpu in max cortex-a53; do # with the dot product instructions and without
        echo "NEON, $cpu: $(qemu-aarch64 -cpu $cpu build-neon/tests/test_kernels | tail -n 1)"
        qemu-aarch64 -cpu $cpu build-neon/tests/test_kernels >/dev/null || status=1
    done
    for t in forward session team; do
        echo "NEON, $t: $(qemu-aarch64 build-neon/tests/test_$t | tail -n 1)"
        qemu-aarch64 build-neon/tests/test_$t >/dev/null || status=1
    done
else
    echo "SKIPPED: NEON: no gcc-aarch64-linux-gnu or qemu-user"
fi
if [ -e /usr/include/simde/x86/avx512.h ]; then
    make -s -j2 BUILD=build-simde OPT=-O2 CFLAGS_EXTRA="-Itests -DGQA_SIMDE='\"simde_avx512.h\"' -Wno-psabi -mavx2 -mfma -mf16c -fno-strict-aliasing" build-simde/tests/test_kernels || status=1
    echo "AVX-512, emulated: $(build-simde/tests/test_kernels | tail -n 1)"
    build-simde/tests/test_kernels >/dev/null || status=1
else
    echo "SKIPPED: AVX-512: no libsimde-dev"
fi
exit $status
