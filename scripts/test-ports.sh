#!/bin/sh
# test-ports.sh [NAME...]: builds and tests with other compilers, C libraries and machines: clang,
# clang-openmp, musl, i386, armhf, aarch64, riscv64, windows, macos, freebsd. Needs Debian's clang,
# libomp-dev, musl-tools, gcc-i686-linux-gnu, gcc-arm-linux-gnueabihf, gcc-aarch64-linux-gnu,
# gcc-riscv64-linux-gnu, qemu-user, gcc-mingw-w64-x86-64, wine64, and zig (ZIG=COMMAND; 0.15 or
# later, PyPI's ziglang), whose clang builds for macOS and FreeBSD; what is missing is skipped, and
# says so. Some leave out the longest tests, and say so as well; with ALL=1 Windows leaves out none.
# What is built for macOS and FreeBSD cannot run here. Last line: "N passed, N failed".
cd "$(dirname "$0")/.." || exit 1
# Wine cannot start where randomization has put its loader's heap over 0x7ffe0000, the address of a
# page that every Windows program reads: one start in some thousands.
if [ -z "${FIXED_ADDRESSES:-}" ] && setarch -R true 2>/dev/null; then
    FIXED_ADDRESSES=1 exec setarch -R sh scripts/test-ports.sh "$@"
fi
passed=0 failed=0 wanted="$*" skip= static=

# build MAKE-VARIABLES...: the port $name: program and tests, or what $targets says
build() {
    log=build-$name.log
    if make -s -j2 BUILD="build-$name" "$@" ${targets:-tests} >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    tail -n 20 "$log"
    echo "$name: does not build"
    failed=$((failed + 1))
    return 1
}

# What computes for long, without sizes or bytes of files that only one machine would get wrong.
compute="architectures train trainer muon convert speculate"

# The command line; compare, perplexity and train compute for long.
cli=
for command in chat convert fast generate info template usage; do
    cli="$cli tests/test_cli_$command.sh"
done

# is_wanted NAME COMMAND...: asked for, and the commands are there
is_wanted() {
    name=$1
    shift
    case " ${wanted:-$name} " in *" $name "*) ;; *) return 1 ;; esac
    for command in "$@"; do
        command -v "$command" >/dev/null && continue
        echo "SKIPPED: $name: no $command"
        return 1
    done
}

# port NAME COMPILER EMULATOR SCRIPTS MAKE-VARIABLES...: EMULATOR "": this machine runs it; without
# the tests of $skip
port() {
    name=$1 compiler=$2 emulator=$3 scripts=$4
    shift 4
    is_wanted "$name" "$compiler" ${emulator%% *} || return
    build CC="$compiler" "$@" || return
    log=build-$name/log
    BUILD=build-$name EMULATOR=$emulator SCRIPTS=$scripts SKIP=$skip sh tests/run.sh >"$log" 2>&1 ||
        grep -v ' 0 failed' "$log" | tail -n 60
    left=$skip
    for script in tests/test_*.sh tests/test_*.py; do
        case " $(echo $scripts) " in *" $script "*) ;; *) left="$left ${script##*/}" ;; esac
    done
    [ -z "$left" ] || echo "SKIPPED: $name:" $left
    last=$(tail -n 1 "$log")
    echo "$name: $last"
    passed=$((passed + ${last%% passed*}))
    last=${last#* passed, }
    failed=$((failed + ${last%% failed*}))
}

terminal="tests/test_paths.sh tests/test_cli_*.sh tests/test_terminal.py"
port clang clang "" "$terminal" OMP=0 WERROR=1
if echo 'int main(void) { return 0; }' | clang -fopenmp -x c -o /dev/null - 2>/dev/null; then
    skip=$compute
    port clang-openmp clang "" "" WERROR=1
else
    echo "SKIPPED: clang-openmp: no clang or no libomp"
fi
# What another C library, or 32 bits, could change.
skip="$compute forward batch tokenizer"
scripts="tests/test_paths.sh tests/test_terminal.py tests/test_cli_usage.sh"
port musl musl-gcc "" "$scripts" OMP=0 OPT=-O1
skip="$compute alloc forward"
export ADDRESS_BITS=32
# Static, because Debian has the cross compilers' libraries only in their own folders; without
# OpenMP, whose own allocations test_alloc would count in a static program.
scripts="tests/test_paths.sh tests/test_shipped.sh$cli"
port i386 i686-linux-gnu-gcc "" "$scripts" OMP=0 LDFLAGS=-static OPT=-O1
# emulated TEST...: the port builds these programs alone; i386 and aarch64 run the others
emulated() {
    targets=build-$name/run
    for t in "$@"; do targets="$targets build-$name/tests/test_$t"; done
}
skip=
# Scripts of the command line that take 2 to 20 s. Others take 60 to 200.
scripts="tests/test_cli_convert.sh tests/test_cli_template.sh tests/test_paths.sh"
name=armhf
emulated kernels attention team malformed
port armhf arm-linux-gnueabihf-gcc qemu-arm "$scripts" OMP=0 LDFLAGS=-static OPT=-O2
unset ADDRESS_BITS
targets= skip="$compute alloc api_review"
# gcc 12 fails on one test at -O2 with an internal error
port aarch64 aarch64-linux-gnu-gcc qemu-aarch64 "$scripts" OMP=0 LDFLAGS=-static OPT=-O1
skip= name=riscv64
emulated kernels tokenizer malformed
port riscv64 riscv64-linux-gnu-gcc qemu-riscv64 tests/test_paths.sh OMP=0 LDFLAGS=-static OPT=-O1
targets=

# built WHAT COMMAND...: counts a command that has to succeed
built() {
    what=$1
    shift
    if "$@" >"build-$name/log" 2>&1; then
        passed=$((passed + 1))
        return
    fi
    tail -n 20 "build-$name/log"
    echo "$name: failed: $what"
    failed=$((failed + 1))
}
# library COMPILER...: and the single-file pair; all warnings are errors. EXPORTED: an option of
# macOS that zig's linker lacks; no other keeps names of one's own inside a library. What does not
# run here is not optimised: $level.
library() {
    built library make -s -j2 BUILD="build-$name/shared" WERROR=1 CC="$*" ${AR:+"AR=$AR"} \
        OMP=0 OPT="$level -g" EXPORTED= lib
    python3 scripts/amalgamate.py "build-$name/dist"
    built "the single-file pair" "$@" -std=c11 -Wall -Wno-unused-function -Werror $level -c \
        -o "build-$name/gqa.o" "build-$name/dist/gqa.c"
    sed 's|"../model.h"|"gqa.h"|' examples/simple.c >"build-$name/dist/simple.c"
    built "a program of the pair" "$@" $static -o "build-$name/simple.exe" \
        "build-$name/dist/simple.c" "build-$name/gqa.o" -lm -pthread
}

# windows_dlls_only PROGRAM: it loads no DLL that is not part of Windows; prints those that are not
windows_dlls_only() {
    dlls=$("${mingw%gcc}objdump" -p "$1" | sed -n 's/.*DLL Name: //p')
    [ -n "$dlls" ] || return 1
    ! echo "$dlls" | grep -ivxE '(kernel32|msvcrt|shell32|ucrtbase|api-ms-win-[a-z0-9-]+)\.dll'
}

# dll_example NAME: it prints with the installed DLL what it prints without one
dll_example() {
    set -- "$1" tests/models/stories-gqa.gguf
    case $1 in
        story) set -- "$@" "$shared/saved" ;;
        score) set -- "$@" "The dog ran." "Dog the ran." ;;
        choices) set -- "$@" "The dog was" " happy" " sad" ;;
    esac
    for linked in bin/dll static; do
        library=$shared/root/gqa/lib/libgqa.dll.a
        [ $linked = bin/dll ] || library=build-windows/libgqa.a
        "$mingw" -static -o "$shared/root/gqa/$linked-$1.exe" -I"$shared/root/gqa/include" \
            "$shared/root/gqa/share/doc/gqa/examples/$1.c" "$library" -pthread || return 1
        rm -f "$shared/saved"
        example=$1
        printf 'Hello\nThe cat\n' | (shift && wine "$shared/root/gqa/$linked-$example.exe" "$@") \
            >"$shared/out-${linked#*/}" || return 1
    done
    [ -s "$shared/out-static" ] && cmp "$shared/out-dll" "$shared/out-static"
}

# Not built: test_alloc needs mmap and the linker's --wrap of the C library, test_interrupts fork,
# test_threads CPUs to bind threads to (test_threads.sh runs, and says so).
skip="alloc interrupts"
mingw=x86_64-w64-mingw32-gcc
export WINEPREFIX="${WINEPREFIX:-$PWD/build-windows/wine}" WINEDEBUG=-all DISPLAY= EXE=
if is_wanted windows "$mingw" wine clang; then
    mkdir -p build-windows
    EXE=.exe LC_ALL=C.UTF-8
    GQA_FOREIGN=$PWD/build-windows/foreign
    export LC_ALL GQA_FOREIGN
    # One server until `wineserver -k`: a program that begins while it ends loses its connection.
    { wine wineboot -i && wineserver -w && wineserver -p; } >build-windows/wineserver.log 2>&1
    python3 tests/golden/make_models.py "$GQA_FOREIGN"
    scripts="tests/test_paths.sh tests/test_shipped.sh tests/test_golden.sh tests/test_threads.sh"
    if [ -n "${ALL:-}" ]; then # these take minutes
        scripts="$scripts tests/test_cli_*.sh tests/test_real.sh tests/test_training.sh"
        scripts="$scripts tests/test_paper.sh tests/test_completions.sh tests/test_export_hf.py"
    else
        skip="$skip speculate trainer"
        scripts="$scripts$cli"
    fi
    port windows "$mingw" wine "$scripts" WERROR=1
    EXE=
    built "a program without DLLs of its own" windows_dlls_only build-windows/run.exe
    built "the console's keys and signals" python3 tests/windows_console.py build-windows "$mingw"
    built "files that another program holds" sh tests/windows_held.sh build-windows/run-emulated \
        "$mingw"
    static=-static level=-O1
    library "$mingw"
    built "that program without DLLs of its own" windows_dlls_only build-windows/simple.exe
    built "that program" wine build-windows/simple.exe tests/models/stories-gqa.gguf
    shared=$PWD/build-windows/shared
    built "a DLL without DLLs of its own" windows_dlls_only "$shared/lib/libgqa.dll"
    built "make install" make -s BUILD="$shared" CC="$mingw" DESTDIR="$shared/root" PREFIX=/gqa \
        OPT="$level -g" install
    # the others need a path of Linux, tell times, or write beside the model
    for example in simple story chat sessions game score choices best_of batch resume describe; do
        built "examples/$example.c with the installed DLL" dll_example $example
    done
    # clang-cl's front end; MinGW's headers want to be told of a compiler that they know
    built "the pair with clang -fms-compatibility" clang --target=x86_64-w64-windows-gnu \
        -fms-compatibility -fms-extensions -D__GNUC__=4 -D__GNUC_MINOR__=2 -c \
        -o build-windows/pair.o build-windows/dist/gqa.c
    wineserver -k
fi
zig=${ZIG:-zig} static= level=-O0
for target in aarch64-macos x86_64-macos aarch64-freebsd x86_64-freebsd; do
    is_wanted "${target#*-}" "${zig%% *}" || continue
    name=$target
    mkdir -p "build-$name"
    # zig's linker for macOS cannot read GNU ar's table of long names: "error: InvalidCharacter"
    AR="$zig ar"
    # zig adds UBSan to what is not optimised
    set -- $zig cc -target "$target" -fno-sanitize=undefined
    targets=tests
    for example in examples/*.c; do # linked.c needs GNU's ld
        [ "$example" = examples/linked.c ] || targets="$targets build-$name/${example%.c}"
    done
    case $target in # of FreeBSD's other machine the program: objcopy knows its own machine's files
        "$(uname -m)-freebsd" | *-macos) ;;
        *) targets=build-$name/run ;;
    esac
    built "program, tests or examples" make -s -j2 BUILD="build-$name" WERROR=1 OPT="$level" OMP=0 \
        AR="$AR" CC="$*" $targets
    [ "$targets" = "build-$name/run" ] || library "$@"
    case $target in
        *-macos) built "the dylib's names" python3 tests/macos_dylib.py \
            "build-$name/shared/lib/libgqa.0.dylib" /usr/local/lib/libgqa.0.dylib model.h ;;
    esac
    echo "SKIPPED: $name: running what was built"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
