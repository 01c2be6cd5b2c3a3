#!/bin/sh
# test-isas.sh [neon] [avx512] [avxvnni]: the kernel tests of the instruction sets that this machine
# lacks: NEON under qemu-user, AVX-512 and AVX-VNNI emulated by SIMDe, AVX-VNNI by AVX-512's
# instruction. Needs Debian's gcc-aarch64-linux-gnu, qemu-user and libsimde-dev; what is missing is
# skipped, and says so.
cd "$(dirname "$0")/.." || exit 1
status=0 wanted=" ${*:-neon avx512 avxvnni} "

# run_test WHAT COMMAND...: prints the last line of a test's output; all of it when it fails.
run_test() {
    what=$1
    shift
    output=$("$@") || {
        status=1
        echo "$output"
    }
    echo "$what: $(echo "$output" | tail -n 1)"
}
is_wanted() { case $wanted in *" $1 "*) ;; *) return 1 ;; esac; }

if ! is_wanted neon; then :
elif command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then
    tests=build-neon/tests
    # -O2: gcc 12 for aarch64 fails on one test file at -O3 with an internal error
    make -s -j2 BUILD=build-neon CC=aarch64-linux-gnu-gcc LDFLAGS=-static OPT=-O2 \
        build-neon/run $tests/test_kernels $tests/test_forward $tests/test_foreign \
        $tests/test_session $tests/test_team $tests/test_attention $tests/test_bf16 2>/dev/null ||
        status=1
    # with matrix products, with dot products, without; plain C runs under RISC-V and ARM
    for t in kernels attention; do
        run_test "NEON with matrix products, $t" qemu-aarch64 -cpu max $tests/test_$t "neon: *"
    done
    run_test "NEON with dot products, kernels" qemu-aarch64 -cpu neoverse-n1 \
        $tests/test_kernels "neon: products*"
    run_test "NEON, kernels" qemu-aarch64 -cpu cortex-a53 $tests/test_kernels "neon: products*"
    run_test "NEON, attention" qemu-aarch64 -cpu cortex-a53 $tests/test_attention \
        "neon: attention, q*"
    for t in foreign session team bf16; do
        run_test "NEON, $t" qemu-aarch64 -cpu max $tests/test_$t
    done
    run_test "NEON, forward" qemu-aarch64 -cpu max $tests/test_forward "llama *" "longer*" \
        "f16*" "q8_0*" "q4_0*" q4_k
    run=build-neon/run-emulated
    printf '#!/bin/sh\nexec qemu-aarch64 -cpu max "%s" "$@"\n' "$PWD/build-neon/run" >$run
    chmod +x $run
    run_test "NEON, stories" sh tests/test_shipped.sh $run
else
    echo "SKIPPED: NEON: no gcc-aarch64-linux-gnu or qemu-user"
fi

if ! is_wanted avx512; then :
elif [ -e /usr/include/simde/x86/avx512.h ]; then
    emulate="-Itests -DGQA_SIMDE='\"simde_avx512.h\"' -mavx2 -mfma -mf16c"
    make -s -j2 BUILD=build-simde OPT=-O2 \
        CFLAGS_EXTRA="$emulate -Wno-psabi -fno-strict-aliasing" \
        build-simde/tests/test_kernels build-simde/tests/test_attention \
        build-simde/tests/test_bf16 build-simde/tests/test_foreign || status=1
    run_test "AVX-512 and AVX-VNNI, emulated, kernels" build-simde/tests/test_kernels \
        "avx512: *" "avxvnni: *"
    run_test "AVX-512, emulated, attention" build-simde/tests/test_attention "avx512: *"
    run_test "AVX-512, emulated, bf16" build-simde/tests/test_bf16
    run_test "AVX-512, emulated, foreign" build-simde/tests/test_foreign
else
    echo "SKIPPED: AVX-512: no libsimde-dev"
fi

if ! is_wanted avxvnni; then :
elif grep -q avx512_vnni /proc/cpuinfo; then
    make -s -j2 BUILD=build-vnni CFLAGS_EXTRA=-DGQA_VNNI_VL build-vnni/tests/test_kernels ||
        status=1
    run_test "AVX-VNNI by AVX-512's instruction" build-vnni/tests/test_kernels "avxvnni: *"
else
    echo "SKIPPED: AVX-VNNI: no AVX-512 with VNNI"
fi
exit $status
