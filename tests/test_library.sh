#!/bin/sh
# test_library.sh RUN: the library as others get it: only gqa_ symbols, an installed tree that
# programs build against and that goes away again, one pair of files that compiles alone, from C and
# C++, and every example built and run.
run=$1
. tests/checks.sh
# `make -s test` hands its s down, and no line would be printed.
MAKEFLAGS=$(echo "${MAKEFLAGS:-}" | sed 's/^\([a-zA-Z]*\)s/\1/')
CC=${CC:-cc}
command -v "$CC" >/dev/null || CC=gcc
omp=
echo 'int main(void) { return 0; }' >"$tmp/t.c"
"$CC" -fopenmp -o "$tmp/t" "$tmp/t.c" 2>/dev/null && omp=-fopenmp

# compile OUT ARGUMENTS...: a program in $tmp
compile() { out=$1; shift; "$CC" -o "$tmp/$out" "$@" $omp -lm -pthread; }
# tells PROGRAM: it continues "The dog", and with the words that the static one found
tells() {
    "$@" "$tmp/m.gguf" "The dog" >"$tmp/out" && [ -s "$tmp/out" ] || return 1
    [ -e "$tmp/story" ] || cp "$tmp/out" "$tmp/story"
    cmp "$tmp/story" "$tmp/out"
}
# empty TEXT LIST: there must be nothing in it
empty() { [ -z "$2" ] && ok || no "$1: $2"; }
install() { make -j2 "$@" BUILD="$tmp/build" DESTDIR="$tmp/root" PREFIX=/opt/gqa OPT=-O1; }

test_case "a model to try things with"
i=0
while [ $i -lt 40 ]; do
    echo "The dog said hello to the cat. The cat said good day.<|endoftext|>"
    i=$((i + 1))
done >"$tmp/text"
check "train" "$run" train "$tmp/m.gguf" -f "$tmp/text" --vocab 320 --batch 4 --length 32 \
    --shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=128 --steps 20 --quiet

test_case "make prints short lines"
make -j2 "$tmp/build/run" BUILD="$tmp/build" OPT=-O1 >"$tmp/short" 2>"$tmp/log" && ok || no "make"
for line in "CC forward.c" "AR libgqa.a" "LD run"; do
    grep -qx "$line" "$tmp/short" && ok || no "make does not print \"$line\""
done
empty "make prints commands" "$(grep -e ' -c ' -e '^.\{60\}' "$tmp/short" | head -n 1)"
make V=1 "$tmp/build/lib/forward.o" BUILD="$tmp/build" OPT=-O1 >"$tmp/out" 2>"$tmp/log"
grep -q -- '-std=c11.* -c ' "$tmp/out" && ok || no "make V=1 does not print commands"

test_case "make install"
check "make install" install install
root=$tmp/root/opt/gqa
for f in bin/gqa-run include/gqa.h lib/libgqa.a lib/libgqa.so lib/libgqa.so.0 \
    lib/pkgconfig/gqa.pc share/man/man1/gqa-run.1 \
    share/bash-completion/completions/gqa-run share/zsh/site-functions/_gqa-run; do
    [ -s "$root/$f" ] && ok || no "installed: no $f"
done
[ "$(readlink "$root/lib/libgqa.so")" = libgqa.so.0 ] && ok || no "libgqa.so is no link"
version=$("$run" --version | sed 's/.* //')
check "the version in gqa.pc" grep -q "^Version: $version\$" "$root/lib/pkgconfig/gqa.pc"
if command -v pkg-config >/dev/null; then
    PKG_CONFIG_PATH="$root/lib/pkgconfig" pkg-config --libs gqa >"$tmp/out" 2>"$tmp/log"
    check "pkg-config" grep -q -e -lgqa "$tmp/out"
else skip "no pkg-config"; fi
if command -v man >/dev/null; then
    man -l "$root/share/man/man1/gqa-run.1" >"$tmp/out" 2>"$tmp/log"
    check "the man page does not read" grep -q tokenize "$tmp/out"
else skip "no man"; fi

test_case "only gqa_ symbols, no printing, no global state"
so=$root/lib/libgqa.so a=$root/lib/libgqa.a
readelf -d "$so" >"$tmp/dynamic" 2>"$tmp/log"
check "soname" grep -q 'SONAME.*\[libgqa\.so\.0\]' "$tmp/dynamic"
empty "libgqa.so exports" "$(nm -D --defined-only "$so" | sed 's/.* //' | grep -v '^gqa_')"
empty "libgqa.a exports" "$(nm -g --defined-only "$a" | sed -n 's/.* [A-Z] //p' | grep -v '^gqa_')"
printing='stdout|stderr|stdin|v?f?printf|__v?f?printf_chk|f?puts|putc|putchar|perror'
ending='_?exit|abort|__assert_fail|raise'
empty "the library prints or ends the program" \
    "$(nm -u "$a" | sed 's/.* //; s/@.*//' | grep -xE "$printing|$ending")"
memory=$(size -A "$a" | awk '$1 ~ /^\.(data|bss|tdata|tbss)$/ {n += $2} END {print n + 0}')
[ "$memory" -eq 0 ] && ok || no "the library has $memory bytes of global state"

test_case "programs against the installed library"
sed 's|"../model.h"|<gqa.h>|' examples/simple.c >"$tmp/simple.c"
check "simple.c with libgqa.a" compile simple -I"$root/include" "$tmp/simple.c" "$a"
check "simple, static" tells "$tmp/simple"
check "simple.c with libgqa.so" compile shared -I"$root/include" "$tmp/simple.c" -L"$root/lib" -lgqa
check "simple, shared" tells env LD_LIBRARY_PATH="$root/lib" "$tmp/shared"
readelf -d "$tmp/shared" >"$tmp/dynamic" 2>"$tmp/log"
check "a program asks for libgqa.so.0" grep -q 'NEEDED.*\[libgqa\.so\.0\]' "$tmp/dynamic"

test_case "the examples"
for e in examples/*.c; do
    name=$(basename "$e" .c)
    [ "$name" = linked ] || check "$e" compile "$name" "$e" "$a"
done
"$tmp/sessions" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log" && ok || no "sessions"
[ "$(grep -c '^[123]: The' "$tmp/out")" -eq 3 ] && ok || no "sessions: other lines"
"$tmp/game" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log" && [ -s "$tmp/out" ] && ok || no "game"
check "cancel" "$tmp/cancel" "$tmp/m.gguf" 5
"$tmp/score" "$tmp/m.gguf" "The dog said hello." "xq zv" >"$tmp/out" 2>"$tmp/log"
[ "$(wc -l <"$tmp/out")" -eq 2 ] && ok || no "score: other lines"
"$tmp/choices" "$tmp/m.gguf" "The dog said" " hello" " good day" >"$tmp/out" 2>"$tmp/log"
grep -qE '^ *(hello|good day)$' "$tmp/out" && ok || no "choices: none of them"
for e in best_of threads; do
    "$tmp/$e" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log" && [ -s "$tmp/out" ] && ok || no "$e"
done
echo "Hello" | "$tmp/chat" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log"
[ -s "$tmp/out" ] && ok || no "chat"
cp "$tmp/m.gguf" "$tmp/model.gguf"
embed() { (cd "$tmp" && ld -r -b binary -z noexecstack -o model.o model.gguf); }
check "a model as an object file" embed
check "examples/linked.c" compile linked examples/linked.c "$tmp/model.o" "$a"
"$tmp/linked" >"$tmp/out" 2>"$tmp/log" && [ -s "$tmp/out" ] && ok || no "linked"

test_case "make uninstall"
touch "$root/lib/other.so"
check "make uninstall" install uninstall
left=$(find "$tmp/root" ! -type d)
[ "$left" = "$root/lib/other.so" ] && ok || no "make uninstall left $left"

test_case "one pair of files"
in_pair() { (cd "$tmp/alone" && "$@"); }
if command -v python3 >/dev/null; then
    check "make dist" make -s dist BUILD="$tmp/build"
    mkdir "$tmp/alone"
    cp "$tmp/build/dist/gqa.h" "$tmp/build/dist/gqa.c" "$tmp/alone"
    sed 's|"../model.h"|"gqa.h"|' examples/simple.c >"$tmp/alone/simple.c"
    check "one command" in_pair "$CC" simple.c gqa.c $omp -lm -pthread -o simple
    check "simple from the single file" tells "$tmp/alone/simple"
else skip "no python3 for make dist"; fi
if [ -d "$tmp/alone" ] && command -v c++ >/dev/null; then
    sed -e 's|"../model.h"|"gqa.h"|' -e 's|len, user)|len, (FILE *)user)|' \
        -e 's|err = {0}|err = {}|' examples/simple.c >"$tmp/alone/p.cpp"
    check "gqa.c without OpenMP" in_pair "$CC" -c gqa.c -o gqa.o
    check "C++" in_pair c++ p.cpp gqa.o -lm -pthread -o p
    check "simple in C++, without OpenMP" tells "$tmp/alone/p"
else skip "no C++ compiler"; fi

test_case "the sources as they are"
check "the sources as they are" compile third -O1 examples/simple.c $(make -s print-sources)
check "simple from the sources" tells "$tmp/third"

test_case "the size of the program"
if nm "$run" | grep -q __asan_init; then
    skip "the size of a program with sanitizers"
else
    strip -o "$tmp/stripped" "$run" && ok || no "strip"
    size=$(wc -c <"$tmp/stripped")
    [ "$size" -le 716800 ] && ok || no "stripped, run has $size bytes, expected at most 716800"
fi

test_case "a big-endian machine is told why"
"$CC" -fsyntax-only -U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__ \
    -D_POSIX_C_SOURCE=200809L base/file.c 2>"$tmp/err" && no "it builds" || ok
check "the message" grep -q "needs a little-endian machine" "$tmp/err"

finish
