#!/bin/sh
# test_cli_generate.sh RUN: what generating promises: clean output, seeds, a full context, full
# disks, closed pipes, Ctrl-C.
run=$1
. tests/checks.sh
make_model
cat_text() { "$run" "$m" -i "The cat" -t 0 -n 8 --quiet "$@"; }
endless="-c 100000 -n 0 --ignore-eos"

test_case "text on stdout and nothing else, statistics on stderr"
expect 0 "tok/s" "$m" -i "The cat" -n 12 -s 7 -j 1
cp "$tmp/out" "$tmp/a"
check "the prompt stands before its continuation" grep -q "^The cat" "$tmp/out"
expect 0 "seed 7" "$m" -i "The cat" -n 12 -s 7 -j 2
same "$tmp/out" "$tmp/a" "the seed gives the same text with 2 threads"
expect 0 "" "$m" -i "The cat" -n 12 --quiet
check "--quiet is quiet" test ! -s "$tmp/err"
expect 1 "q9" "$m" --kv q9
expect 0 "text: 1 token" "$m" -i "The cat" -n 1
check "a token that comes with the prompt has no speed" grep -q "text: 1 token$" "$tmp/err"

test_case "the seed that was printed gives the same text again"
"$run" "$m" -n 12 >"$tmp/a" 2>"$tmp/err"
seed=$(sed -n 's/.*seed \([0-9]*\).*/\1/p' "$tmp/err" | head -n 1)
"$run" "$m" -n 12 -s "${seed:-x}" >"$tmp/b" 2>/dev/null
same "$tmp/a" "$tmp/b" "seed $seed"

test_case "a prompt from standard input"
cat_text >"$tmp/a" 2>&1
printf 'The cat' | "$run" "$m" -f - -t 0 -n 8 --quiet >"$tmp/b" 2>"$tmp/err"
check "exit code" test $? -eq 0
same "$tmp/a" "$tmp/b" "the same text as with -i"
cat_text <&- >"$tmp/b" 2>&1
check "exit code with stdin closed" test $? -eq 0
same "$tmp/a" "$tmp/b" "the same text with stdin closed"

test_case "a prompt as the word after the model"
expect 0 "" "$m" "The cat" -t 0 -n 8 --quiet
same "$tmp/out" "$tmp/a" "the same text as with -i"
expect 0 "" "$m" -t 0 -n 2 -- "-1 cat"
check "a prompt that begins with - stands after --" grep -q "^-1 cat" "$tmp/out"
printf 'The cat' | "$run" "$m" - -t 0 -n 8 --quiet >"$tmp/b" 2>"$tmp/err"
same "$tmp/a" "$tmp/b" "- is standard input"
expect 2 "give the prompt once" "$m" "The cat" -f "$tmp/a"
expect 2 "give the prompt once" "$m" - -i "The cat"

test_case "standard input that was not asked for is named, not read"
short() { "$run" "$m" -n 2 "$@" >"$tmp/out" 2>"$tmp/err"; }
hint() { grep -q -e "-f - takes the prompt from it" "$tmp/err"; }
printf 'The cat' >"$tmp/prompt"
(
    short
    cat >"$tmp/rest"
) <"$tmp/prompt"
check "a file: the note" hint
same "$tmp/rest" "$tmp/prompt" "a file: nothing was read"
printf 'The cat' | (
    sleep 1
    short
    cat >"$tmp/rest"
)
[ -n "${EXE:-}" ] || check "a pipe: the note" hint # Wine cannot look into a pipe of Linux
same "$tmp/rest" "$tmp/prompt" "a pipe: nothing was read"
short </dev/null
check "no note: /dev/null" not hint
: | short
check "no note: an empty pipe" not hint
short -i The <"$tmp/prompt"
check "no note: -i" not hint
short --quiet <"$tmp/prompt"
check "no note: --quiet" not hint

test_case "CRLF in a prompt's file is one line end"
printf 'The cat\nsat\n' >"$tmp/lf"
printf 'The cat\r\nsat\r\n' >"$tmp/crlf"
printf 'The\rcat' >"$tmp/cr"
"$run" "$m" -f "$tmp/lf" -t 0 -n 8 --quiet >"$tmp/a"
expect 0 "" "$m" -f "$tmp/crlf" -t 0 -n 8 --quiet
same "$tmp/out" "$tmp/a" "the same text as with LF"
"$run" "$m" -i "$(cat "$tmp/cr")" -t 0 -n 8 --quiet >"$tmp/a"
expect 0 "" "$m" -f "$tmp/cr" -t 0 -n 8 --quiet
same "$tmp/out" "$tmp/a" "a lone CR stays"

test_case "-p 0 is only the likeliest token"
"$run" "$m" -i The -t 0 -n 25 --quiet >"$tmp/a"
expect 0 "" "$m" -i The -t 1 -p 0 -n 25 -s 3 --quiet
same "$tmp/out" "$tmp/a" "the same text as -t 0"
"$run" "$m" -i The -t 1 -p 1 -n 25 -s 3 --quiet >"$tmp/b"
check "-p 1 is not" not cmp "$tmp/a" "$tmp/b"

test_case "--repeat-last 0 switches the penalty off"
expect 0 "" "$m" -i The -t 0 -n 25 --repeat-penalty 9 --repeat-last 0 --quiet
same "$tmp/out" "$tmp/a" "the same text as without a penalty"
"$run" "$m" -i The -t 0 -n 25 --repeat-penalty 9 --quiet >"$tmp/b"
check "64 by default" not cmp "$tmp/a" "$tmp/b"
expect 0 "" "$m" -i The -t 0 -n 25 --repeat-penalty 9 --repeat-last 64 --quiet
same "$tmp/out" "$tmp/b" "the same text as by default"

test_case "a context above the trained one"
expect 0 "-c 64: the model was trained for 32 positions" "$m" -c 64 -n 2
check "once" test "$(grep -c "trained for" "$tmp/err")" -eq 1
expect 0 "" "$m" -c 64 -n 2 --quiet
check "not with --quiet" test ! -s "$tmp/err"
expect 0 "" "$m" -c 32 -n 2
check "not at the trained one" not grep -q "was trained for" "$tmp/err"

test_case "-z with a model that has a tokenizer"
for command in "" tokenize perplexity; do
    expect 1 "brings its own tokenizer" $command "$m" -z "$tmp/corpus.txt" -f "$tmp/corpus.txt"
done
expect 1 "brings its own tokenizer" info "$m" -z "$tmp/corpus.txt"
expect 1 "$tmp/none" "$tmp/none" -z "$tmp/corpus.txt"

test_case "a prompt that brings its own beginning"
"$run" tokenize "$m" -i "The cat" >"$tmp/a"
expect 0 "no second one" tokenize "$m" --special -i "<s>The cat"
same "$tmp/out" "$tmp/a" "tokenize: one BOS"
expect 0 "" tokenize "$m" --special -i "<s>The cat" --quiet
check "tokenize --quiet is quiet" test ! -s "$tmp/err"
expect 0 "" tokenize "$m" --special -i "<s><s>The cat" --quiet
check "the text's own second one stays" grep -q "^1 1 " "$tmp/out"
expect 0 "" tokenize "$m" --special --no-bos -i "<s>The cat"
check "no note with --no-bos" test ! -s "$tmp/err"
expect 0 "no second one" "$m" --special -i "<s>The cat" -t 0 -n 8 --json
check "generate: one BOS" grep -q "\"prompt_tokens\": $(($(wc -w <"$tmp/a")))" "$tmp/out"

test_case "--prompt-cache: what cannot be read or written"
cache() { expect 0 "" "$m" -i "The cat sat on" -t 0 -n 8 --quiet --prompt-cache "$@"; }
mkdir "$tmp/folder"
expect 1 "is a directory" "$m" --prompt-cache "$tmp/folder"
check "no message says to remove a folder" not grep -q "remove" "$tmp/err"
expect 1 "remove the file to start over" "$m" --prompt-cache "$tmp/corpus.txt"
cache "$tmp/cache"
cp "$tmp/out" "$tmp/a"
set -- "$m" -i "The cat sat on" -t 0 -n 8
expect 0 "the prompt is not kept" "$@" --prompt-cache "$tmp/no/cache"
same "$tmp/out" "$tmp/a" "no place for the cache: the same text"
cp "$tmp/cache" "$tmp/kept"
full_disk() { # no file may grow; stdout is a pipe
    (
        trap '' XFSZ
        ulimit -f 0
        "$run" "$@" 2>&1
    ) | cat >"$tmp/out"
}
full_disk "$@" --prompt-cache "$tmp/new"
check "a full disk: the same text" grep -qxF "$(tail -n 1 "$tmp/a")" "$tmp/out"
check "a full disk: a warning" grep -q "^run: warning: .*the prompt is not kept" "$tmp/out"
full_disk "$@" --prompt-cache "$tmp/cache"
check "nothing to write: the same text" grep -qxF "$(tail -n 1 "$tmp/a")" "$tmp/out"
check "nothing to write: no warning" not grep -q "not kept" "$tmp/out"
expect 0 "" "$m" -i "The" -t 0 -n 2 --prompt-cache "$tmp/cache"
same "$tmp/cache" "$tmp/kept" "a shorter prompt does not replace a longer one"
cache "$tmp/cache"
same "$tmp/out" "$tmp/a" "the cache is good"

test_case "an error ends the line of the prompt"
"$run" "$m" -i "The cat sat on the mat" -c 4 >"$tmp/out" 2>&1
check "exit code" test $? -eq 1
check "the message stands on its own line" grep -q "^run: context full" "$tmp/out"
printf 'The cat sat on the mat\n' >"$tmp/a"
expect 1 "" "$m" -i "The cat sat on the mat" -c 4
same "$tmp/out" "$tmp/a" "one newline on stdout"

test_case "--json"
cat_text --json >"$tmp/json" 2>"$tmp/err"
load='import json, sys; json.load(open(sys.argv[1]))'
have python3 "--json" && check "--json is JSON" python3 -c "$load" "$tmp/json"

test_case "a full context is a clean stop, a prompt that does not fit an error"
expect 0 "context" "$m" -i "The cat" -c 16 -n 0 --ignore-eos
expect 1 "context" "$m" -f "$tmp/corpus.txt" -c 16

test_case "output that cannot be written"
if [ -e /dev/full ]; then
    for command in "" info; do
        "$run" $command "$m" >/dev/full 2>"$tmp/err"
        check "$command >/dev/full: exit code" test $? -eq 1
        check "$command >/dev/full: message" grep -q "cannot write" "$tmp/err"
    done
    expect 1 "not a regular file" train /dev/full -f "$tmp/corpus.txt" $small --steps 1 --quiet
    check "the device is still there" test -c /dev/full
else
    skip "no /dev/full"
fi

# SIGPIPE ends the program, which is 141 to the shell; where it is ignored, the write fails: 1.
test_case "a closed pipe, | head, is not an error to print"
piped() { { "$@" 2>"$tmp/err"; echo $? >"$tmp/code"; } | head -c 5 >/dev/null; }
if [ -n "${EXE:-}" ]; then
    piped "$run" "$m" $endless --quiet
    check "code $(cat "$tmp/code")" test "$(cat "$tmp/code")" -eq 1
    check "nothing on stderr" test ! -s "$tmp/err"
else
    piped yes
    yes=$(cat "$tmp/code") # 141 as well, unless the parent process ignores SIGPIPE
    piped "$run" "$m" $endless --quiet
    check "nothing on stderr" test ! -s "$tmp/err"
    check "code $(cat "$tmp/code"), as of yes: $yes" \
        test "$yes" -ne 141 -o "$(cat "$tmp/code")" -eq 141
    (
        trap '' PIPE
        piped "$run" "$m" $endless --quiet
    )
    check "SIGPIPE ignored: code $(cat "$tmp/code")" test "$(cat "$tmp/code")" -eq 1
    check "SIGPIPE ignored: nothing on stderr" test ! -s "$tmp/err"
fi

test_case "Ctrl-C ends a generation with 130, after what was written"
if posix "sending SIGINT (Ctrl-C: windows_console.py)" && have timeout "Ctrl-C"; then
    timeout --preserve-status -s INT 1 "$run" "$m" -c 4000000 -n 0 --ignore-eos \
        >"$tmp/out" 2>"$tmp/err"
    check "exit code" test $? -eq 130
    check "there is text" test -s "$tmp/out"
fi

test_case "a model file that is truncated while in use"
if posix "files that change while they are mapped"; then
    for i in 1 2 3 4 5; do # any of the threads may be the one that meets the missing page
        cat tests/models/stories-gqa.gguf >"$tmp/cut.gguf"  # not cp: the file may be read-only
        : >"$tmp/out"
        "$run" "$tmp/cut.gguf" --no-repack $endless -c 30000 -j 4 >"$tmp/out" 2>"$tmp/err" &
        pid=$!
        check "there is text" wait_for test -s "$tmp/out"
        : >"$tmp/cut.gguf"
        wait $pid
        check "exit code" test $? -eq 1
        name='(.*/cut\.gguf|a mapped file)' # without /proc
        check "message" grep -qE "^run: $name: truncated or unreadable while in use" "$tmp/err"
    done
fi

test_case "--choice"
for t in 0 1 1.5; do
    "$run" "$m" "The dog said" --no-echo --quiet -s 5 -t $t --choice " hello" --choice " good day" \
        --choice " hello there" >"$tmp/out" 2>"$tmp/err" || no "-t $t: $(cat "$tmp/err")"
    check "-t $t: another text" grep -qxE ' (hello|good day|hello there)' "$tmp/out"
done
"$run" "$m" "The dog said" --no-echo --quiet -t 0 --choice "xyzzy" -n 1 >"$tmp/out"
check "the only choice, whatever -n" test "$(cat "$tmp/out")" = "xyzzy"
"$run" "$m" "The dog said" --json -t 0 --choice " hello" >"$tmp/out" 2>"$tmp/err"
check "JSON" grep -q '"text": " hello".*"stop": "end"' "$tmp/out"
echo "Hello" | "$run" chat "$m" --quiet --choice "Yes" --choice "No" >"$tmp/out" 2>"$tmp/err"
check "chat: another text" grep -qxE 'Yes|No' "$tmp/out"
expect 2 "a text of 0 bytes" "$m" "The" --choice ""
long="a text that is longer than the context that it is given"
expect 1 "the choice does not fit the context" "$m" "The" -c 8 --choice "$long"
echo "The" | "$run" chat "$m" -c 24 --choice "$long" >"$tmp/out" 2>"$tmp/err"
check "nor in a conversation" test $? -eq 1
check "said" grep -q "the choice does not fit the context" "$tmp/err"
n=$(($("$run" tokenize "$m" --no-bos -i "xyzzy" --quiet | wc -w)))
expect 0 "" "$m" "" --no-echo -c "$n" --choice "xyzzy"

test_case "--exact: the story of the same weights in f32"
story="-i Sue -t 0 -n 200 --kv f32"
expect 0 "" convert tests/models/stories-gqa.gguf "$tmp/f32.gguf" --type f32 --quiet
expect 0 "" "$tmp/f32.gguf" $story --quiet
mv "$tmp/out" "$tmp/want"
expect 0 ", exact, " tests/models/stories-gqa.gguf $story --exact
same "$tmp/out" "$tmp/want" "exact: another story"
expect 0 "" tests/models/stories-gqa.gguf $story --quiet
check "which is another one without" test "$(cat "$tmp/out")" != "$(cat "$tmp/want")"
expect 0 "" tests/models/stories-gqa.gguf $story --exact --json
check "JSON" grep -q '"exact": true' "$tmp/out"
expect 0 "proposed tokens accepted" tests/models/stories-gqa.gguf $story --exact --lookup
same "$tmp/out" "$tmp/want" "exact, with --lookup: another story"
expect 0 "" tests/models/stories-gqa.gguf $story --exact --prompt-cache "$tmp/exact.cache" --quiet
expect 1 "saved by a session that is exact, unlike this one" \
    tests/models/stories-gqa.gguf $story --prompt-cache "$tmp/exact.cache"
expect 0 "" tests/models/stories-gqa.gguf $story --exact --prompt-cache "$tmp/exact.cache" --quiet
same "$tmp/out" "$tmp/want" "exact, from a prompt cache: another story"
for file in "$tmp/f32.gguf" "tests/models/stories-gqa.gguf --exact"; do
    echo "Hello" | "$run" chat $file -t 0 -n 40 --kv f32 --template plain --quiet >"$tmp/out"
    cat "$tmp/out" >>"$tmp/answers"
done
check "exact: the same answer in a conversation" test "$(sort -u "$tmp/answers" | wc -l)" -eq \
    "$(wc -l <"$tmp/out")"

test_case "--lookup and --draft change nothing but the time"
twin=tests/models/stories-mha.gguf small=tests/models/stories-gqa.gguf
for sampling in "-t 0" "-t 0.8 -s 4" "-t 1 -s 5 --repeat-penalty 1.2" "-t 0 --stop day"; do
    expect 0 "" $small "One day, one day" -n 90 $sampling --quiet
    mv "$tmp/out" "$tmp/a"
    for way in "--lookup" "--draft $twin" "--lookup --draft $small --kv q8_0"; do
        if [ "$way" != "${way%q8_0}" ]; then
            expect 0 "" $small "One day, one day" -n 90 $sampling --kv q8_0 --quiet
            mv "$tmp/out" "$tmp/a"
        fi
        expect 0 "proposed tokens accepted" $small "One day, one day" -n 90 $sampling $way
        same "$tmp/out" "$tmp/a" "$sampling $way: another text"
    done
done
expect 0 "" $small "One day" -n 20 --lookup --json
check "JSON" grep -q '"proposed_tokens": .*"accepted_tokens": .*"speculation_gain": ' "$tmp/out"
echo "Hello" | "$run" chat $small -t 0 -n 40 --quiet >"$tmp/a" 2>"$tmp/err"
echo "Hello" | "$run" chat $small -t 0 -n 40 --quiet --lookup --draft $twin >"$tmp/b"
same "$tmp/a" "$tmp/b" "chat: another text"
printf '%s\n' "Hello" "/stats" | "$run" chat $small -n 9 --lookup >"$tmp/out" 2>"$tmp/err"
none="0 of 0 proposed tokens accepted" some="[0-9]+ of [1-9][0-9]* proposed tokens accepted"
check "/stats" grep -qE "^speculation: ($none|$some, [0-9.]+ times as fast)\$" "$tmp/err"
expect 1 "--draft: $small: a vocabulary of" "$m" --draft $small
expect 1 "absent.gguf" "$m" --draft "$tmp/absent.gguf"
LC_ALL=C sed 's/<|im_end|>/<|im_END|>/; s/Once/OncE/' $small >"$tmp/other.gguf"
expect 1 "other.gguf: token " $small --draft "$tmp/other.gguf"
check "both names of the token" grep -q 'is ".*", expected ".*" as in ' "$tmp/err"
finish
