#!/bin/sh
# test_cli_usage.sh RUN: the command line: strict options, help, exit codes, and files that cannot
# be a model.
run=$1
. tests/checks.sh
make_model

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
expect 2 "another-model" "$m" another-model
expect 2 "no model given" generate

test_case "help"
expect 0 "" --help
expect 0 "" --version
expect 0 "" generate --help
check "help lists the options" grep -q -- "--top-k" "$tmp/out"
check "help goes to stdout" test ! -s "$tmp/err"

test_case "files that cannot be a model"
: >"$tmp/empty"
expect 1 "$tmp/none.gguf" "$tmp/none.gguf"
expect 1 "directory" "$tmp"
expect 1 "empty" "$tmp/empty"
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

test_case "a FIFO that nobody writes to is refused, not waited for"
if have mkfifo FIFO && have timeout FIFO; then
    model=$tmp/llama2c/model.bin fifo=$tmp/fifo
    mkdir "$tmp/llama2c"
    cp tests/fuzz/seeds/model/llama2c-v1 "$model"
    mkfifo "$fifo" "$tmp/llama2c/tokenizer.bin"
    for arguments in "$fifo" "info $fifo" "convert $fifo $tmp/x.gguf" "$model" "$model -z $fifo"; do
        timeout 5 "$run" $arguments >"$tmp/out" 2>"$tmp/err"
        check "run $arguments: exit code" test $? -eq 1
        check "run $arguments: message" grep -q "not a regular file" "$tmp/err"
    done
fi
finish
