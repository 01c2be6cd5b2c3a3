#!/bin/sh
# test_scripts.sh RUN: scripts that measure, with a program in place of run whose results are known.
run=$1
. tests/checks.sh
CC=${CC:-cc}
command -v "$CC" >/dev/null || CC=gcc
omp=-pthread
takes -fopenmp && omp=-fopenmp

# floor CODE TEXT ARGUMENTS...: speed-floor.sh with the program that is in $tmp/run
floor() {
    code=$1 text=$2
    shift 2
    sh scripts/speed-floor.sh --run "$tmp/run" --test "q8_0 0 dim=64" "$@" \
        >"$tmp/out" 2>"$tmp/err"
    got=$?
    check "speed-floor $*: exit code $got, expected $code" test "$got" -eq "$code"
    check "speed-floor $* does not say \"$text\"" grep -qF -- "$text" "$tmp/out" "$tmp/err"
}
# shares PREFILL DECODE: the program prints them
shares() {
    {
        printf '#!/bin/sh\necho '\''{"tests": ['
        printf '{"test": "pp256", "share_of_limit": %s, "k": 9},' "$1"
        printf '{"test": "tg16", "share_of_limit": %s, "k": null}]}'\''\n' "$2"
    } >"$tmp/run"
    chmod +x "$tmp/run"
}

test_case "speed-floor.sh"
shares 0.61 0.92
floor 0 "0.61  pp256 q8_0, depth 0, dim=64"
floor 0 "0.92  tg16"
floor 1 "0.61  pp256 q8_0, depth 0, dim=64: below the floor of 0.7" 0.7
shares 0.61 3.9e-1
floor 1 "0.39  tg16 q8_0, depth 0, dim=64: below the floor of 0.4"
floor 0 "" 0.3
floor 2 'expected a floor between 0 and 1, got "2"' 2
shares 0.61 null
floor 0 "tg16 q8_0, depth 0, dim=64: in the caches"
echo 'echo "no tests"' >"$tmp/run"
floor 2 "printed no share_of_limit"

test_case "speed-floor.sh reads what run bench prints"
sh scripts/speed-floor.sh 0.000001 --run "$run" -r 1 \
    --test "q8_0 0 dim=64,layers=1,heads=2,ffn=64,vocab=64" >"$tmp/out" 2>"$tmp/err"
check "exit code 0, a share of pp256" grep -q "^[0-9.]*  pp256 q8_0" "$tmp/out"

test_case "compare-peers.sh"
# peers CODE TEXT ARGUMENTS...: a line of what compare-peers.sh says
peers() {
    code=$1 text=$2
    shift 2
    sh scripts/compare-peers.sh tests/models/stories-gqa.gguf --run "$tmp/run" -r 3 "$@" \
        >"$tmp/out" 2>"$tmp/err"
    got=$?
    check "compare-peers $*: exit code $got, expected $code" test "$got" -eq "$code"
    check "compare-peers $* does not say \"$text\"" grep -qF -- "$text" "$tmp/out" "$tmp/err"
}
cat >"$tmp/run" <<'END'
#!/bin/sh
echo "$@" >"$(dirname "$0")/arguments"
echo test,depth,sequences,tokens_per_second,isa
echo pp8,0,1,300,avx2
echo tg4,0,1,20,avx2
echo tg4,0,8,90,avx2
END
cat >"$tmp/bench" <<'END'
#!/bin/sh
echo '"n_prompt","n_gen","avg_ts"'
echo '"8","0","150.0"'
echo '"0","4","10.0"'
END
chmod +x "$tmp/run" "$tmp/bench"
quoted='echo "{\"prefill_tok_s\": 100, \"decode_tok_s\": 5}"'
peers 0 "prefill      100.00 tok/s  gqa.c is 3.00 times that  $quoted" --peer "$quoted" -p 8 -n 4
peers 0 "decode        10.00 tok/s  gqa.c is 2.00 times that  $tmp/bench" --llama-bench "$tmp/bench"
check "three rounds" grep -q "median of 3 rounds" "$tmp/out"
peers 0 "gqa.c         90.00 tok/s  tg4, depth 0, 8 sequences, avx2" -- --batch 1,8 --kv q8_0
check "what bench is told" grep -q -- "--batch 1,8 --kv q8_0 --csv" "$tmp/arguments"
peers 1 "failed or printed no rate: false" --peer false --peer "$quoted"
check "the others are shown" grep -q "3.00 times" "$tmp/out"
peers 1 "failed or printed no rate: /nonexistent" --llama-bench /nonexistent
peers 1 "failed or printed no rate: true" --peer true
peers 2 "-r 0: expected a number from 1" -r 0
peers 2 "-p x: expected a number from 0" -p x
sh scripts/compare-peers.sh tests/models/stories-gqa.gguf --run "$run" -r 1 -p 8 -n 4 -t 1 \
    --peer "$quoted" -- --batch 1,2 >"$tmp/out" 2>"$tmp/err"
check "of run bench itself" test "$(grep -c "tok/s" "$tmp/out")" -eq 5

test_case "quality-table.sh"
model=tests/models/stories-gqa.gguf table="sh scripts/quality-table.sh"
echo "stories-gqa.gguf weights q4_0 | 0.5 | 60% |" >"$tmp/beside.txt"
$table $model -f README.md --run "$run" -c 32 --caches "q4_0 q9" --weights "f16 q4_0" \
    --beside "$tmp/beside.txt" >"$tmp/out" 2>"$tmp/err"
check "exit code 0" test $? -eq 0
check "the header and rows, but what run refuses" test "$(wc -l <"$tmp/out")" -eq 5
check "which run says" grep -q q9 "$tmp/err"
check "without a figure beside" grep -q '^| cache q4_0 | 4.5 | 0.*% ± .* | | |$' "$tmp/out"
check "with one" grep -q '^| weights q4_0 | 4.5 | 0.*% ± .* | 0.5 | 60% |$' "$tmp/out"
figures=$(sed -n 's/^| cache q4_0 | 4.5 | \([^|]*\) |.*/\1/p' "$tmp/out" | tr -d '±')
expect 0 "" convert $model "$tmp/f32.gguf" --type f32
expect 0 "" perplexity "$tmp/f32.gguf" -f README.md -c 32 --chunks 1 --kl . --kv q4_0
mean=$(sed -n 's/^KL  = \([0-9.]*\) +\/- \([0-9.]*\).*/\1  \2/p' "$tmp/out")
check "the figures of perplexity, $mean" test "$figures" = "$mean"
for options in "$tmp/none -f README.md" "$model" "$model -f README.md -x" "$model -f"; do
    $table $options >"$tmp/out" 2>"$tmp/err"
    check "$options: an error" test $? -eq 2
done

test_case "cache-tolerance.py"
tolerance="python3 scripts/cache-tolerance.py --run $run -f README.md -c 32 --chunks 1"
$tolerance $model tests/models/stories-mha.gguf --svg "$tmp/t.svg" >"$tmp/t.md"
check "exit code 0" test $? -eq 0
check "a row a model, most heads first" \
    test "$(sed -n 's/^| \([0-9]*\) .*/\1/p' "$tmp/t.md" | tr '\n' ' ')" = "8 2 "
expect 0 "" perplexity $model -f README.md --documents -c 32 --chunks 1 --kl . --kv q4_0
mean=$(sed -n 's/^KL  = \([0-9.]*\) .*/\1/p' "$tmp/out")
check "perplexity's figure, $mean" grep -q "^| 2 .* | $mean ± [0-9.]* |\$" "$tmp/t.md"
check "a curve a cache" test "$(grep -c '<polyline' "$tmp/t.svg")" -eq 4
$tolerance /dev/null >"$tmp/out" 2>"$tmp/err"
check "no model: an error" test $? -eq 1

test_case "run.sh counts what it leaves out"
mkdir "$tmp/tests"
for name in one two; do
    printf '#!/bin/sh\necho "3 passed, 0 failed"\n' >"$tmp/tests/test_$name"
    chmod +x "$tmp/tests/test_$name"
done
BUILD=$tmp SCRIPTS="" SKIP="zero two" sh tests/run.sh >"$tmp/out" 2>"$tmp/err"
check "its name" grep -q "^SKIPPED: .*/test_two: left out here" "$tmp/out"
check "the sum" grep -qx "3 passed, 0 failed, 1 skipped" "$tmp/out"

test_case "cases without a name, with an earlier one's, and without checks fail"
cat >"$tmp/cases.c" <<'END'
#include "test.h"
int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("") CHECK(1, "no name");
    TEST("a") CHECK(1, "the first");
    TEST("a") CHECK(1, "the second");
    TEST("nothing") test.verbose = 0;
    TEST("skipped") test_skip("this", "it is an example");
    return test_end();
}
END
cat >"$tmp/cases.sh" <<'END'
. tests/checks.sh
test_case ""
ok
test_case "a"
ok
test_case "a"
ok
test_case "nothing"
test_case "skipped"
skip "this: it is an example"
finish
END
check "cases.c" $CC -std=c11 -Itests -o "$tmp/cases" "$tmp/cases.c" \
    "${BUILD:-build}/libgqa.a" -lm $omp
for cases in "$tmp/cases" "sh $tmp/cases.sh"; do
    $cases >"$tmp/out"
    check "$cases: exit code 1" test $? -eq 1
    check "$cases: the sum" grep -qx "1 passed, 3 failed, 1 skipped" "$tmp/out"
    check "$cases: why" grep -q '"a" is empty or the name of an earlier case' "$tmp/out"
done

test_case "cases by their names, or the beginning of those"
cat >"$tmp/named.c" <<'END'
#include "test.h"
int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("one: a") CHECK(1, "the first");
    TEST("one: b") CHECK(1, "the second");
    TEST("two") CHECK(1, "the third");
    TEST("three") test_skip("this", "it is an example");
    return test_end();
}
END
check "named.c" $CC -std=c11 -Itests -o "$tmp/named" "$tmp/named.c" \
    "${BUILD:-build}/libgqa.a" -lm $omp
named() { [ "$("$tmp/named" "$@" | tail -n 1)" = "$sum" ]; }
sum="2 passed, 0 failed"
check "one: *" named "one: *"
sum="1 passed, 0 failed"
check "two" named two
sum="0 passed, 0 failed, 1 skipped"
check "th*" named "th*"
sum="0 passed, 0 failed"
check "none of four*" named "four*"
check "none of four* is an error" not "$tmp/named" "four*"

test_case "compare-commits.sh"
strict="-std=c11 -Wall -Wextra -Werror"
check "logits_hash.c compiles" "$CC" $strict -fsyntax-only tests/logits_hash.c
check "sh reads the script" sh -n scripts/compare-commits.sh
sh scripts/compare-commits.sh >"$tmp/out" 2>"$tmp/err"
check "no revision" test $? -eq 2
check "no revision: the usage" grep -q "^usage: scripts/compare-commits.sh" "$tmp/err"
sh scripts/compare-commits.sh -x HEAD >"$tmp/out" 2>"$tmp/err"
check "an unknown option" test $? -eq 2
check "an unknown option: its name" grep -q 'unknown option -x' "$tmp/err"
finish
