#!/bin/sh
# test-ports.sh [NAME...]: builds and tests with other compilers, C libraries and machines: clang,
# clang-openmp, musl, i386, armhf, aarch64. Needs Debian's clang, libomp-dev, musl-tools,
# gcc-i686-linux-gnu, gcc-arm-linux-gnueabihf, gcc-aarch64-linux-gnu and qemu-user; what is missing
# is skipped, and says so. Emulated machines leave out the longest tests. Last line: "N passed, N
# failed".
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0 wanted="$*"

# build MAKE-VARIABLES...: the port $name
build() {
    log=build-$name.log
    if make -s -j2 BUILD="build-$name" "$@" tests >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    tail -n 20 "$log"
    echo "$name: does not build"
    failed=$((failed + 1))
    return 1
}

# What computes for long, without sizes or bytes of files that only one machine would get wrong.
long="architectures train trainer convert alloc"

# port NAME COMPILER EMULATOR SCRIPTS MAKE-VARIABLES...: EMULATOR "": this machine runs it
port() {
    name=$1 compiler=$2 emulator=$3 scripts=$4
    shift 4
    case " ${wanted:-$name} " in *" $name "*) ;; *) return ;; esac
    for command in "$compiler" $emulator; do
        if ! command -v "$command" >/dev/null; then
            echo "SKIPPED: $name: no $command"
            return
        fi
    done
    build CC="$compiler" "$@" || return
    log=build-$name/log
    skip=${emulator:+$long}
    BUILD=build-$name EMULATOR=$emulator SCRIPTS=$scripts SKIP=$skip sh tests/run.sh >"$log" 2>&1 ||
        grep -v ' 0 failed' "$log" | tail -n 60
    [ -z "$skip" ] || echo "SKIPPED: $name: $skip"
    last=$(tail -n 1 "$log")
    echo "$name: $last"
    passed=$((passed + ${last%% passed*}))
    last=${last#* passed, }
    failed=$((failed + ${last%% failed*}))
}

terminal="tests/test_cli_*.sh tests/test_terminal.py"
port clang clang "" "$terminal" OMP=0
if echo 'int main(void) { return 0; }' | clang -fopenmp -x c -o /dev/null - 2>/dev/null; then
    port clang-openmp clang "" ""
else
    echo "SKIPPED: clang-openmp: no clang or no libomp"
fi
port musl musl-gcc "" "$terminal" OMP=0
# Static, because Debian has the cross compilers' libraries only in their own folders; without
# OpenMP, whose own allocations test_alloc would count in a static program.
port i386 i686-linux-gnu-gcc "" "$terminal" OMP=0 LDFLAGS=-static OPT=-O2
port armhf arm-linux-gnueabihf-gcc qemu-arm "" OMP=0 LDFLAGS=-static OPT=-O2
# gcc 12 fails on one test at -O2 with an internal error
port aarch64 aarch64-linux-gnu-gcc qemu-aarch64 "" OMP=0 LDFLAGS=-static OPT=-O1
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
