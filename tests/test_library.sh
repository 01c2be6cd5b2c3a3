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
takes -fopenmp && omp=-fopenmp
so_name=libgqa.so.0 so_link=libgqa.so macos=
if [ "$(uname -s)" = Darwin ]; then macos=1 so_name=libgqa.0.dylib so_link=libgqa.dylib; fi

# compile OUT ARGUMENTS...: a program in $tmp
compile() { out=$1; shift; "$CC" -o "$tmp/$out" "$@" $omp -lm -pthread; }
# tells PROGRAM: it continues "The dog", and with the words that the static one found
tells() {
    "$@" "$tmp/m.gguf" "The dog" >"$tmp/out" && [ -s "$tmp/out" ] || return 1
    [ -e "$tmp/told" ] || cp "$tmp/out" "$tmp/told"
    cmp "$tmp/told" "$tmp/out"
}
# empty TEXT LIST: there must be nothing in it
empty() { check "$1: $2" test -z "$2"; }
# install TARGET: with places of its own, a space in one, by a user whose files are private
install() {
    (umask 077
    make -j2 "$1" BUILD="$tmp/build" DESTDIR="$tmp/a root" PREFIX=/opt/gqa LIBDIR=/opt/gqa/lib/64 \
        OPT=-O1)
}
# mode MODE FILE: an installed file has it
mode() {
    check "$2: $(ls -ld "$root/$2"), expected mode $1" \
        test -n "$(find "$root/$2" -prune -perm "$1")"
}

test_case "a model to try things with"
i=0
while [ $i -lt 40 ]; do
    echo "The dog said hello to the cat. The cat said good day.<|endoftext|>"
    i=$((i + 1))
done >"$tmp/text"
check "train" "$run" train "$tmp/m.gguf" -f "$tmp/text" --vocab 320 --batch 4 --length 32 \
    --shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=128 --steps 20 --quiet

test_case "make prints short lines"
make --no-print-directory -j2 "$tmp/build/run" BUILD="$tmp/build" OPT=-O1 >"$tmp/short" 2>"$tmp/err"
check "make" test $? -eq 0
for line in "CC forward.c" "AR libgqa.a" "LD run"; do
    check "make does not print \"$line\"" grep -qx "$line" "$tmp/short"
done
empty "make prints commands" "$(grep -e ' -c ' -e '^.\{60\}' "$tmp/short" | head -n 1)"
make V=1 "$tmp/build/lib/forward.o" BUILD="$tmp/build" OPT=-O1 >"$tmp/out" 2>"$tmp/log"
check "make V=1 does not print commands" grep -q -- '-std=c11.* -c ' "$tmp/out"

test_case "other flags build again"
# made VARIABLES...: what make compiles
made() {
    [ -z "$macos" ] || sleep 1 # its make may compare whole seconds
    make BUILD="$tmp/again" "$@" "$tmp/again/sampler.o" 2>"$tmp/log" | grep -c '^CC '
}
made OPT=-O1 >"$tmp/out"
for flags in CFLAGS_EXTRA=-DX OPT=-O0 "CC=env $CC" "LDFLAGS=-L\"'$tmp'\""; do
    check "make $flags does not compile again" test "$(made OPT=-O1 "$flags")" -eq 1
    check "make $flags always compiles again" test "$(made OPT=-O1 "$flags")" -eq 0
done
# OPT given to the make that runs this test (make asan) would be stronger than CFLAGS
check "CFLAGS of the environment" test "$(MAKEFLAGS= CFLAGS=-O0 made OMP=0)" -eq 1
check "CFLAGS of the environment are not used" grep -q -- ' -O0 ' "$tmp/again/flags"

test_case "make install"
check "make install" install install
root="$tmp/a root/opt/gqa" libs="$tmp/a root/opt/gqa/lib/64"
for f in include/gqa.h lib/64/libgqa.a "lib/64/$so_name" lib/64/pkgconfig/gqa.pc \
    share/man/man1/gqa-run.1 share/bash-completion/completions/gqa-run \
    share/zsh/site-functions/_gqa-run share/doc/gqa/LICENSE share/doc/gqa/examples/simple.c \
    share/gqa/stories.gguf; do
    [ -s "$root/$f" ] && mode 644 "$f" || no "installed: no $f"
done
mode 755 bin/gqa-run
mode 755 share/doc/gqa/examples
check "$so_link is no link" test "$(readlink "$libs/$so_link")" = "$so_name"
check "the demo model" "$root/bin/gqa-run" "$root/share/gqa/stories.gguf" -n 5
version=$("$run" --version | sed 's/.* //')
check "the version in gqa.pc" grep -q "^Version: $version\$" "$libs/pkgconfig/gqa.pc"
if command -v pkg-config >/dev/null; then
    export PKG_CONFIG_PATH="$libs/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$tmp/a root"
    flags=$(pkg-config --cflags --libs gqa 2>"$tmp/log")
    cp "$root/share/doc/gqa/examples/simple.c" "$tmp/packaged.c"
    check "an installed example, by pkg-config" eval "$CC -o $tmp/packaged $tmp/packaged.c $flags"
else skip "no pkg-config"; fi
if have man "the man page"; then
    cp "$root/share/man/man1/gqa-run.1" "$tmp"
    man "$tmp/gqa-run.1" >"$tmp/out" 2>"$tmp/log" # a name with a slash is a file's
    check "the man page does not read" grep -q tokenize "$tmp/out"
fi

test_case "only gqa_ symbols, no printing, no global state"
so=$libs/$so_link a=$libs/libgqa.a
if [ -n "$macos" ]; then
    check "the install name" test "$(otool -D "$so" | tail -n 1)" = "/opt/gqa/lib/64/$so_name"
    empty "$so_link exports" "$(nm -gU "$so" | sed 's/.* //' | grep -v '^_gqa_')"
else
    readelf -d "$so" >"$tmp/dynamic" 2>"$tmp/log"
    check "soname" grep -q "SONAME.*\[$so_name\]" "$tmp/dynamic"
    empty "$so_link exports" "$(nm -D --defined-only "$so" | sed 's/.* //' | grep -v '^gqa_')"
    empty "libgqa.a exports" \
        "$(nm -g --defined-only "$a" | sed -n 's/.* [A-Z] //p' | grep -v '^gqa_')"
fi
printing='stdout|stderr|stdin|v?f?printf|__v?f?printf_chk|f?puts|putc|putchar|perror'
ending='_?exit|abort|__assert_fail|raise'
empty "the library prints or ends the program" \
    "$(nm -u "$a" | sed -e 's/.* //' -e 's/@.*//' ${macos:+-e s/^_//} |
        grep -xE "$printing|$ending")"
if [ -n "$macos" ]; then
    skip "bytes of global state: size of macOS counts constants too"
else
    memory=$(size -A "$a" | awk '$1 ~ /^\.(data|bss|tdata|tbss)$/ {n += $2} END {print n + 0}')
    check "the library has $memory bytes of global state" test "$memory" -eq 0
fi

test_case "programs against the installed library"
sed 's|"../model.h"|<gqa.h>|' examples/simple.c >"$tmp/simple.c"
check "simple.c with libgqa.a" compile simple -I"$root/include" "$tmp/simple.c" "$a"
check "simple, static" tells "$tmp/simple"
check "simple.c with libgqa.so" compile shared -I"$root/include" "$tmp/simple.c" -L"$libs" -lgqa
check "simple, shared" tells env "${macos:+DY}LD_LIBRARY_PATH=$libs" "$tmp/shared"
if [ -n "$macos" ]; then otool -L "$tmp/shared"; else readelf -d "$tmp/shared"; fi \
    >"$tmp/dynamic" 2>"$tmp/log"
check "a program asks for $so_name" grep -q "$so_name" "$tmp/dynamic"

test_case "the example at the head of model.h"
{
    printf '%s\n' '#include <stdio.h>' '#include "model.h"' \
        'static int on_text(void *user, const char *text, size_t len) {' \
        '    return fwrite(text, 1, len, user) != len;' '}' 'int main(void) {' \
        '    void *user = stdout;'
    sed -n '/^ \*     gqa_error err/,/^ \*$/s/^ \*     //p' model.h
    echo '}'
} >"$tmp/head.c"
check "it compiles" compile head -Wall -Werror -I. "$tmp/head.c" "$a"
head_example() { (cd "$tmp" && ./head >out 2>log); }
head_example
check "it says that there is no file" grep -q "model.gguf: .*No such file" "$tmp/out"
cp "$tmp/m.gguf" "$tmp/model.gguf"
head_example
check "a story" test $? -eq 0
check "a story that is not empty" test -s "$tmp/out"
check "no missing file" not grep -q "No such" "$tmp/out"

test_case "the examples"
for e in examples/*.c; do
    name=$(basename "$e" .c)
    [ "$name" = linked ] || check "$e" compile "$name" "$e" "$a"
done
"$tmp/sessions" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/err"
check "sessions" test $? -eq 0
check "sessions: other lines" test "$(grep -c '^[123]: The' "$tmp/out")" -eq 3
"$tmp/game" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/err"
check "game" test $? -eq 0
check "game: a text" test -s "$tmp/out"
check "cancel" "$tmp/cancel" "$tmp/m.gguf" 5
"$tmp/score" "$tmp/m.gguf" "The dog said hello." "xq zv" >"$tmp/out" 2>"$tmp/log"
check "score: other lines" test "$(wc -l <"$tmp/out")" -eq 2
"$tmp/choices" "$tmp/m.gguf" "The dog said" " hello" " good day" >"$tmp/out" 2>"$tmp/log"
check "choices: none of them" grep -qE '^ *(hello|good day)$' "$tmp/out"
"$tmp/choices" "$tmp/m.gguf" "The dog" " cat" " cat said good day" >"$tmp/out" 2>"$tmp/log"
check "choices: one that begins with another" grep -qx " *cat said good day" "$tmp/out"
for e in best_of threads; do
    "$tmp/$e" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/err"
    check "$e" test $? -eq 0
    check "$e: a text" test -s "$tmp/out"
done
"$tmp/describe" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log"
check "describe" grep -q "^layer 1: 2 KV heads, FFN of 64, RoPE" "$tmp/out"
check "describe: the cache" grep -q "of 128 positions: 32.0 KiB" "$tmp/out"
check "describe: the template" grep -q "^chat template: plain, which" "$tmp/out"
check "describe: a token" grep -qx "</s>: token 2" "$tmp/out"
"$tmp/story" "$tmp/m.gguf" "$tmp/story.session" "The dog" >"$tmp/out" 2>"$tmp/log"
"$tmp/story" "$tmp/m.gguf" "$tmp/story.session" >>"$tmp/out" 2>>"$tmp/log"
"$run" "$tmp/m.gguf" -i "The dog" -n 40 -t 0 --no-echo >"$tmp/whole" 2>>"$tmp/log"
check "story: another text" test "$(tr -d '\n' <"$tmp/out")" = "$(tr -d '\n' <"$tmp/whole")"
check "pack" "$tmp/pack" "$tmp/m.gguf"
check "pack: no file" test -s "$tmp/m.gguf.packed"
rm -f "$tmp/m.gguf.packed"
"$tmp/resume" "$tmp/m.gguf" "The dog" >"$tmp/out" 2>"$tmp/log"
check "resume: too few lines" test "$(wc -l <"$tmp/out")" -ge 3
check "resume: two texts" test "$(sed -n 2p "$tmp/out")" = "$(sed -n 3p "$tmp/out")"
"$tmp/batch" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log"
lines=$(grep -cE '^(The dog said|The cat|A bird):( [^ ]+ \([01]\.[0-9]+\)){5,}$' "$tmp/out")
check "batch: other lines" test "$lines" -eq 3
echo "Hello" | "$tmp/chat" "$tmp/m.gguf" >"$tmp/out" 2>"$tmp/log"
check "chat" test -s "$tmp/out"
if command -v python3 >/dev/null; then
    "$run" "$tmp/m.gguf" -i "The dog" -t 0 --no-echo --quiet >"$tmp/whole" 2>"$tmp/log"
    python_story() { GQA_LIB="$so" python3 examples/python/story.py "$@" >"$tmp/out" 2>"$tmp/err"
    }
    python_story "$tmp/m.gguf" "The dog"
    check "story.py" test $? -eq 0
    same "$tmp/out" "$tmp/whole" "story.py: another text"
    python_story tests/models/stories-gqa.gguf "Once upon a time" 9
    check "story.py: cancelled" test $? -eq 0
    nine=", there was a little girl named Lily."
    check "story.py: no cancel" test "$(cat "$tmp/out")" = "$nine"
    GQA_LIB="$so" python3 examples/python/story.py tests/models/stories-gqa.gguf 2>"$tmp/err" |
        head -c 5 >"$tmp/out"
    check "story.py: a pipe that is closed" test "$(wc -c <"$tmp/err")" -eq 0
    python_story "$tmp/m.gguf" "The dog" many
    check "story.py: a number of pieces that is none" grep -q "^story.py MODEL" "$tmp/err"
    python_story README.md
    check "story.py: README.md is no model" not test $? -eq 0
    check "story.py: the message" grep -q "^README.md: " "$tmp/err"
else skip "no python3 for examples/python"; fi
if [ -n "$macos" ]; then
    skip "examples/linked.c: ld of macOS makes no object of a file"
else
    embed() { (cd "$tmp" && ld -r -b binary -z noexecstack -o model.o model.gguf); }
    check "a model as an object file" embed
    check "examples/linked.c" compile linked examples/linked.c "$tmp/model.o" "$a"
    "$tmp/linked" >"$tmp/out" 2>"$tmp/err"
    check "linked" test $? -eq 0
    check "linked: a text" test -s "$tmp/out"
fi

test_case "make uninstall"
touch "$libs/other.so"
check "make uninstall" install uninstall
left=$(find "$tmp/a root" ! -type d)
check "make uninstall left $left" test "$left" = "$libs/other.so"

test_case "the linker's options on macOS"
make -n V=1 MACOS=darwin BUILD="$tmp/macos" lib >"$tmp/out" 2>"$tmp/err"
check "only gqa_ symbols" grep -q -e "-exported_symbol,_gqa_\* " "$tmp/out"
check "an install name" grep -q -e "-install_name,.*/libgqa\.[0-9]*\.dylib" "$tmp/out"

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
if [ -d "$tmp/alone" ]; then
    cat >"$tmp/alone/logits.c" <<'END'
#include <stdio.h>
#include "gqa.h"
int main(int argc, char **argv) {
    int32_t tokens[24];
    gqa_model *m = gqa_model_open(argv[argc - 1], NULL, NULL);
    gqa_session *s = gqa_session_new(m, NULL, NULL);
    for (int i = 0; i < 24; i++) tokens[i] = 260 + i;
    if (gqa_session_eval(s, tokens, 24, NULL) || gqa_session_eval(s, tokens, 1, NULL)) return 1;
    for (int i = 0; i < gqa_vocab_size(m); i++) printf("%a\n", (double)gqa_session_logits(s)[i]);
    return 0;
}
END
    # clang does not contract by itself, and with -ffp-contract=fast it ignores the source
    fast="-O3 -ffp-contract=fast"
    "$CC" --version | grep -q clang && fast="-O3"
    takes -march=native && fast="$fast -march=native"
    logits="compile logits -I$tmp/alone $tmp/alone/logits.c"
    check "a program that prints logits" $logits "$tmp/build/lib/libgqa.a"
    for isa in $(instruction_sets); do GQA_ISA=$isa "$tmp/logits" "$tmp/m.gguf"; done >"$tmp/usual"
    check "products and sums may be contracted" $logits "$tmp/alone/gqa.c" $fast
    for isa in $(instruction_sets); do GQA_ISA=$isa "$tmp/logits" "$tmp/m.gguf"; done >"$tmp/out"
    [ -s "$tmp/out" ] && same "$tmp/out" "$tmp/usual" "$CC $fast gqa.c: other logits"
fi
if [ -d "$tmp/alone" ] && command -v c++ >/dev/null; then
    sed -e 's|"../model.h"|"gqa.h"|' -e 's|len, user)|len, (FILE *)user)|' \
        -e 's|err = {0}|err = {}|' examples/simple.c >"$tmp/alone/p.cpp"
    check "gqa.c without OpenMP" in_pair "$CC" -c gqa.c -o gqa.o
    check "C++" in_pair c++ -std=c++17 p.cpp gqa.o -lm -pthread -o p
    check "simple in C++, without OpenMP" tells "$tmp/alone/p"
else skip "no C++ compiler"; fi

test_case "the sources as they are"
check "the sources as they are" compile third -O1 examples/simple.c $(make -s print-sources)
check "simple from the sources" tells "$tmp/third"

test_case "the size of the program"
if nm "$run" | grep -q __asan_init; then
    skip "the size of a program with sanitizers"
else
    check "strip" strip -o "$tmp/stripped" "$run"
    size=$(wc -c <"$tmp/stripped")
    # other flags than make's own make other sizes
    usual=$(env -i PATH="$PATH" make -s print-flags | sed 's/^[^ ]* //')
    flags=$(sed 's/^ccache //; s/^[^ ]* //; s/ -Werror//' "$(dirname "$run")/flags")
    if [ "$flags" = "$usual" ] && "$CC" --version | grep -q 'Free Software'; then
        check "stripped, run has $size bytes, expected at most 716800" test "$size" -le 716800
    else
        skip "the size of a program with other flags: stripped, run has $size bytes"
    fi
fi

test_case "on a big-endian machine the build says why it fails"
"$CC" -fsyntax-only -U__BYTE_ORDER__ -D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__ \
    -D_POSIX_C_SOURCE=200809L base/file.c 2>"$tmp/err"
check "it does not build" not test $? -eq 0
check "the message" grep -q "needs a little-endian machine" "$tmp/err"

finish
