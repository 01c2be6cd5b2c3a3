#!/bin/sh
# test_cli_info.sh RUN: info, tokenize and perplexity.
run=$1
. tests/checks.sh
make_model

test_case "info"
expect 0 "" info "$m"
check "the KV cache's size" grep -q "KV cache a position" "$tmp/out"
check "the model's row" grep -q "GQA-2 .*<- this model" "$tmp/out"
expect 0 "" info "$m" --json
check "--json" grep -q '"attention": "GQA-2"' "$tmp/out"
expect 2 "no model given" info

test_case "tokenize"
expect 0 "" tokenize "$m" -i "The cat"
check "ids" grep -Eq '^[0-9]' "$tmp/out"
expect 2 "-i or -f" tokenize "$m"

test_case "perplexity"
expect 0 "" perplexity "$m" -f "$tmp/corpus.txt" -c 32
check "the figure" grep -q "^PPL = " "$tmp/out"
echo "The cat" >"$tmp/short"
expect 1 "at least one chunk" perplexity "$m" -f "$tmp/short" -c 32
expect 2 "give a model and a text" perplexity "$m"
finish
