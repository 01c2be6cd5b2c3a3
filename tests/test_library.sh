#!/bin/sh
# test_library.sh RUN: the library as others get it: only gqa_ symbols, an installed tree that programs build against, one pair of
# files that compiles alone, from C and C++, and every example built and run.
run=$1
. tests/checks.sh
CC=${CC:-cc}
command -v "$CC" >/dev/null || CC=gcc
omp=
echo 'int main(void) { return 0; }' >"$tmp/t.c"
"$CC" -fopenmp -o "$tmp/t" "$tmp/t.c" 2>/dev/null && omp=-fopenmp

# A model to try things with.
i=0
while [ $i -lt 40 ]; do echo "The dog said hello to the cat. The cat said good day.<|endoftext|>"; i=$((i + 1)); done >"$tmp/text"
"$run" train "$tmp/m.gguf" -f "$tmp/text" --shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=128 --vocab 320 --batch 4 --length 32 --steps 20 --quiet >/dev/null || no "a model"

make -s -j2 install BUILD="$tmp/build" DESTDIR="$tmp/root" PREFIX=/opt/gqa OPT=-O1 >"$tmp/log" 2>&1 && ok || no "make install"
root=$tmp/root/opt/gqa
for f in bin/gqa-run include/gqa.h lib/libgqa.a lib/libgqa.so lib/pkgconfig/gqa.pc share/man/man1/gqa-run.1; do [ -s "$root/$f" ] && ok || no "installed: no $f"; done
grep -q "^Version: $("$run" --version | sed 's/.* //')$" "$root/lib/pkgconfig/gqa.pc" && ok || no "the version in gqa.pc"
foreign=$(nm -D --defined-only "$root/lib/libgqa.so" | sed 's/.* //' | grep -v '^gqa_')
[ -z "$foreign" ] && ok || no "libgqa.so exports $foreign"
foreign=$(nm -g --defined-only "$root/lib/libgqa.a" | sed -n 's/.* [A-Z] //p' | grep -v '^gqa_')
[ -z "$foreign" ] && ok || no "libgqa.a exports $foreign"
words=$(nm -u "$root/lib/libgqa.a" | sed 's/.* //; s/@.*//' | grep -xE 'stdout|stderr|stdin|v?f?printf|__v?f?printf_chk|f?puts|putc|putchar|perror|_?exit|abort|__assert_fail|raise')
[ -z "$words" ] && ok || no "the library prints or ends the program: $words"
memory=$(size -A "$root/lib/libgqa.a" | awk '$1 ~ /^\.(data|bss|tdata|tbss)$/ {n += $2} END {print n + 0}')
[ "$memory" -eq 0 ] && ok || no "the library has $memory bytes of global state"
if command -v pkg-config >/dev/null; then
    flags=$(PKG_CONFIG_PATH="$root/lib/pkgconfig" pkg-config --define-variable=prefix="$root" --cflags --libs gqa) && case $flags in *-lgqa*) ok ;; *) no "pkg-config says $flags" ;; esac
else skip "no pkg-config"; fi
if command -v man >/dev/null; then
    man -l "$root/share/man/man1/gqa-run.1" 2>&1 | grep -q tokenize && ok || no "the man page does not read"
else skip "no man"; fi
sed 's|"../model.h"|<gqa.h>|' examples/simple.c >"$tmp/simple.c"
"$CC" -I"$root/include" -o "$tmp/simple" "$tmp/simple.c" "$root/lib/libgqa.a" $omp -lm >"$tmp/log" 2>&1 && ok || no "simple.c against the installed libgqa.a"
"$tmp/simple" "$tmp/m.gguf" "The dog" >"$tmp/static" 2>"$tmp/log" && [ -s "$tmp/static" ] && ok || no "simple, static"
"$CC" -I"$root/include" -o "$tmp/simple" "$tmp/simple.c" -L"$root/lib" -lgqa $omp -lm >"$tmp/log" 2>&1 && ok || no "simple.c against libgqa.so"
LD_LIBRARY_PATH="$root/lib" "$tmp/simple" "$tmp/m.gguf" "The dog" >"$tmp/shared" 2>"$tmp/log" && cmp -s "$tmp/static" "$tmp/shared" && ok || no "simple, shared"

if nm "$run" | grep -q __asan_init; then skip "the size of a program with sanitizers"; else
    strip -o "$tmp/stripped" "$run" && [ "$(wc -c <"$tmp/stripped")" -le 512000 ] && ok || no "stripped, run has $(wc -c <"$tmp/stripped") bytes, expected at most 512000"
fi

"$CC" -fsyntax-only -U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__ -D_POSIX_C_SOURCE=200809L base/file.c 2>"$tmp/log" && no "built for a big-endian machine"
grep -q "needs a little-endian machine" "$tmp/log" && ok || no "a big-endian machine is not told why"
if command -v python3 >/dev/null; then
    make -s dist BUILD="$tmp/build" >"$tmp/log" 2>&1 && ok || no "make dist"
    mkdir "$tmp/alone"
    cp "$tmp/build/dist/gqa.h" "$tmp/build/dist/gqa.c" "$tmp/alone"
    sed 's|"../model.h"|"gqa.h"|' examples/simple.c >"$tmp/alone/simple.c"
    (cd "$tmp/alone" && "$CC" simple.c gqa.c $omp -lm -o simple) >"$tmp/log" 2>&1 && ok || no "one command"
    "$tmp/alone/simple" "$tmp/m.gguf" "The dog" >"$tmp/out" 2>"$tmp/log" && cmp -s "$tmp/static" "$tmp/out" && ok || no "simple from the single file"
    if command -v c++ >/dev/null; then
        sed -e 's|"../model.h"|"gqa.h"|' -e 's|len, user)|len, (FILE *)user)|' -e 's|err = {0}|err = {}|' examples/simple.c >"$tmp/alone/p.cpp"
        (cd "$tmp/alone" && "$CC" -c gqa.c -o gqa.o && c++ p.cpp gqa.o -lm -o p) >"$tmp/log" 2>&1 && ok || no "C++, without OpenMP"
        "$tmp/alone/p" "$tmp/m.gguf" "The dog" >"$tmp/out" 2>"$tmp/log" && cmp -s "$tmp/static" "$tmp/out" && ok || no "simple in C++, without OpenMP"
    else skip "no C++ compiler"; fi
else skip "no python3 for make dist"; fi

"$CC" -O1 $omp -o "$tmp/third" examples/simple.c $(make -s print-sources) -lm >"$tmp/log" 2>&1 && ok || no "the sources as they are"
"$tmp/third" "$tmp/m.gguf" "The dog" >"$tmp/out" 2>"$tmp/log" && cmp -s "$tmp/static" "$tmp/out" && ok || no "simple from the sources"
for e in simple cancel sessions game score; do
    "$CC" -o "$tmp/$e" "examples/$e.c" "$root/lib/libgqa.a" $omp -lm -pthread >"$tmp/log" 2>&1 && ok || no "examples/$e.c"
done
"$tmp/sessions" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log" && [ "$(grep -c '^[123]: The' "$tmp/out")" -eq 3 ] && ok || no "sessions"
"$tmp/game" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log" && [ -s "$tmp/out" ] && ok || no "game"
"$tmp/cancel" "$tmp/m.gguf" 5 >"$tmp/out" 2>"$tmp/log" && ok || no "cancel"
"$tmp/score" "$tmp/m.gguf" "The dog said hello." "xq zv" >"$tmp/out" 2>"$tmp/log" && [ "$(wc -l <"$tmp/out")" -eq 2 ] && ok || no "score"
cp "$tmp/m.gguf" "$tmp/model.gguf"
(cd "$tmp" && ld -r -b binary -z noexecstack -o model.o model.gguf) >"$tmp/log" 2>&1 &&
    "$CC" -o "$tmp/linked" examples/linked.c "$tmp/model.o" "$root/lib/libgqa.a" $omp -lm >"$tmp/log" 2>&1 && "$tmp/linked" >"$tmp/out" 2>>"$tmp/log" && [ -s "$tmp/out" ] && ok || no "linked"

finish
