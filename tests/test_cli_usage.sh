#!/bin/sh
# test_cli_usage.sh RUN: the command line: strict options, help, exit codes, and files that cannot
# be a model.
run=$1
. tests/checks.sh
make_model
path=$(cd "$(dirname "$run")" && pwd -P)/$(basename "$run")

test_case "wrong usage"
expect 2 "usage"
expect 2 "--nonsense" "$m" --nonsense
expect 2 "12x" "$m" -n 12x
expect 2 "-j" "$m" -j -1
expect 0 "" "$m" -j 0 -n 3 # as many threads as are useful
expect 2 "-n" "$m" -n
expect 2 "-t" "$m" -t -1
expect 2 "-p" "$m" -p 1.01
expect 2 "nan" "$m" -t nan
expect 2 "99999999999" "$m" -n 99999999999
expect 2 "0x10" "$m" -n 0x10
expect 2 "give the prompt once" "$m" a-prompt -i another
expect 2 "unexpected argument \"time\"" "$m" "Once upon a" time
expect 2 "no model given" generate

test_case "help"
expect 0 "" --help
expect 0 "" --version
expect 0 "" generate --help
check "help lists the options" grep -q -- "--top-k" "$tmp/out"
check "help goes to stdout" test ! -s "$tmp/err"
cp "$tmp/out" "$tmp/help"
expect 0 "" help generate
same "$tmp/out" "$tmp/help" "run help COMMAND"
expect 0 "" help
check "run help lists the commands" grep -q "  perplexity " "$tmp/out"
test_case "help is at most 100 columns wide"
for command in $(sed -n 's/^  \([a-z]*\)  .*/\1/p' "$tmp/out"); do
    expect 0 "" help "$command"
    check "$command: $(grep -E '^.{101}' "$tmp/out")" not grep -qE '^.{101}' "$tmp/out"
done
check "commands were found" test "$checks" -gt 30
expect 0 "" version
check "run version" grep -q "^gqa.c [0-9]" "$tmp/out"
expect 2 "did you mean tokenize?" help tokenise
expect 2 "no command frob" help frob

test_case "the names that other programs give to options"
shape=dim=64,layers=1,heads=2,kv_heads=2,ffn=64,vocab=100
"$run" "$m" -i "The cat" -t 0.7 -p 0.8 -s 7 -j 1 -c 30 -n 0 --quiet >"$tmp/a"
expect 0 "" "$m" --prompt "The cat" --temp 0.7 --top-p 0.8 --seed 7 --threads 1 --ctx-size 30 \
    -n -1 --quiet
same "$tmp/out" "$tmp/a" "the same text"
expect 0 "" chat "$m" --temp 0 -n -1 --prompt "The cat" --quiet </dev/null
expect 0 "" bench --shape "$shape" --prompt 4 -n 0 --reps 1 --csv
check "one test of bench" test "$(wc -l <"$tmp/out")" -eq 2
expect 0 "" compare --shape "$shape" --kv-heads 2,1 --depths 0 -n 2 -p 4 -r1
expect 2 "did you mean --reps?" bench --shape "$shape" --rep 1
expect 2 "unknown option --temp" tokenize "$m" --temp 0
expect 2 "unknown option --top-p" bench "$m" --top-p 0.9
expect 2 "-n -1" bench "$m" -n -1
expect 2 "-n -2" "$m" -n -2

test_case "an argument in the option's own word"
"$run" "$m" -i "The cat" --kv f32 --top-k 4 -n 3 -s 7 -t 0.5 --quiet >"$tmp/a"
expect 0 "" "$m" --prompt="The cat" --kv=f32 --top-k=4 -n3 -s7 -t.5 --quiet
same "$tmp/out" "$tmp/a" "the same text"
expect 2 "3x" "$m" -n3x
expect 2 "takes no argument" "$m" --json=1
expect 2 "unknown option -iText" "$m" -iText # a text would swallow a misspelt option

test_case "what was meant"
expect 2 "did you mean train?" tarin "$m"
expect 2 "did you mean chat?" chta "$m"
expect 2 "did you mean info?" inof "$m"
expect 0 "" "$m" --n-predict 1
expect 2 "did you mean tokenize?" tokenise "$m"
expect 2 "did you mean --top-k?" "$m" --topk 4
expect 2 "did you mean --no-echo?" "$m" --noecho
expect 2 "did you mean --temp?" "$m" --tmp 4
expect 2 "did you mean --json?" info "$m" -json
for command in "" chat info tokenize perplexity convert template bench train compare uptrain; do
    expect 2 "unknown option -x; usage: run $command" $command "$m" -x
    check "run $command: one line of usage" not grep -q '\\x0a' "$tmp/err"
done
expect 1 "trian: cannot open" ./trian # a path is no command
cp "$m" "$tmp/trian"
(cd "$tmp" && "$path" trian -n 2 --quiet >"$tmp/out" 2>"$tmp/err")
check "a file is a model, whatever its name is like" test $? -eq 0
expect 2 "a prompt goes after -i" "$m" -p "The cat"
expect 2 "the model comes first" -m "$m" -i "The cat"
expect 2 "run tokenize MODEL" tokenize -m "$m" -i "The cat"

test_case "files that cannot be a model"
: >"$tmp/empty"
expect 1 "$tmp/none.gguf" "$tmp/none.gguf"
expect 1 "directory" "$tmp"
expect 1 "empty" "$tmp/empty"
expect 1 "s a directory" tokenize "$m" -f "$tmp"
expect 1 "corpus.txt" "$tmp/corpus.txt"

test_case "an unreadable file"
cp "$m" "$tmp/locked"
chmod 0 "$tmp/locked"
if [ "$(id -u)" -ne 0 ]; then
    expect 1 "ermission" "$tmp/locked"
else # root reads everything: as another user, with the program in a folder open to all
    mkdir "$tmp/open"
    cp "$run" "$tmp/open/run"
    mv "$tmp/locked" "$tmp/open/"
    chmod 755 "$tmp" "$tmp/open" "$tmp/open/run"
    nobody() {
        setpriv --reuid 65534 --clear-groups "$tmp/open/run" "$@" >"$tmp/out" 2>"$tmp/err"
    }
    if nobody --version; then
        nobody "$tmp/open/locked"
        check "exit code 1" test $? -eq 1
        check "the message" grep -q "$tmp/open/locked: cannot open: .*ermission" "$tmp/err"
    else
        skip "unreadable file: root reads everything, and setpriv cannot make it nobody"
    fi
fi

test_case "a FIFO without a writer is refused, not waited for"
if posix FIFO && have mkfifo FIFO; then
    model=$tmp/llama2c/model.bin fifo=$tmp/fifo
    mkdir "$tmp/llama2c"
    cp tests/fuzz/seeds/model/llama2c-v1 "$model"
    mkfifo "$fifo" "$tmp/llama2c/tokenizer.bin"
    for arguments in "$fifo" "info $fifo" "convert $fifo $tmp/x.gguf" "$model" "$model -z $fifo"; do
        in_time 5 "$run" $arguments >"$tmp/out" 2>"$tmp/err"
        check "run $arguments: exit code" test $? -eq 1
        check "run $arguments: message" grep -q "not a regular file" "$tmp/err"
    done
fi
finish
