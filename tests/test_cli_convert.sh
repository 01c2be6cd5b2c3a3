#!/bin/sh
# test_cli_convert.sh RUN: conversion: MQA by two ways, other types, packed weights, and what cannot
# be done.
run=$1
. tests/checks.sh
make_model

test_case "pooling to MQA"
expect 0 "1 KV heads, pooled by aligned" convert "$m" "$tmp/mqa.gguf" --kv-heads 1 \
    --pool aligned -f "$tmp/corpus.txt" --type q8_0
expect 0 "" info "$tmp/mqa.gguf"
check "info says MQA" grep -q MQA "$tmp/out"
expect 0 "" "$tmp/mqa.gguf" -n 5

test_case "packed weights"
expect 0 "repacked" convert "$m" "$tmp/p.gguf" --packed
expect 0 "" "$tmp/p.gguf" -n 8 -t 0
cp "$tmp/out" "$tmp/a"
rm "$tmp/p.gguf.packed"
expect 0 "" "$tmp/p.gguf" -n 8 -t 0
same "$tmp/out" "$tmp/a" "packed weights make the same text"
expect 0 "repacked" convert "$tmp/p.gguf" --packed
check "convert IN --packed writes IN.packed" test -s "$tmp/p.gguf.packed"

test_case "what is refused leaves no file"
expect 1 "divisor" convert "$m" "$tmp/x.gguf" --kv-heads 3
expect 2 "--pool" convert "$m" "$tmp/x.gguf" --kv-heads 1 --pool best
expect 2 "write" convert "$m"
check "no file" test ! -e "$tmp/x.gguf"

# A full disk, here a limit on the size of files.
test_case "a full disk leaves the existing file as it was"
cp "$m" "$tmp/old.gguf"
(
    trap '' XFSZ
    ulimit -f 16
    "$run" convert "$m" "$tmp/old.gguf" --type f32 --quiet
) >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 1
check "message" grep -q "cannot write" "$tmp/err"
same "$tmp/old.gguf" "$m" "the file that was there"
check "no temporary file" test "$(ls "$tmp" | grep -c 'old.gguf.tmp')" -eq 0
finish
