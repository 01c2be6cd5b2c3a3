#!/bin/sh
# test_cli_perplexity.sh RUN: how perplexity and compare read a text: as letters, as documents, with
# special tokens; what chunks need of it.
run=$1
. tests/checks.sh
make_model
ppl() { sed -n 's/^PPL = \([0-9.]*\) .*/\1/p' "$tmp/out"; }
near() { awk -v p="$1" -v q="$2" 'BEGIN {exit !(p > q * 0.9995 && p < q * 1.0005)}'; }
measure() { expect 0 "" perplexity "$m" -c 32 "$@"; }

test_case "markers are letters, of which a warning tells once"
measure -f "$tmp/corpus.txt"
check "the warning" test "$(grep -c -- '--documents' "$tmp/err")" -eq 1
letters=$(ppl)
for option in --documents --special; do
    measure -f "$tmp/corpus.txt" $option
    check "$option: no warning" test ! -s "$tmp/err"
done
expect 2 "exclude each other" perplexity "$m" -f "$tmp/corpus.txt" --documents --special

test_case "documents are read as in training"
measure -f "$tmp/corpus.txt" --documents
documents=$(ppl)
check "better than as letters" awk "BEGIN {exit !($documents < $letters * 0.7)}"
sed 's/^<|end/ \n\n<|end/; s/text|>$/text|>\n \n/' "$tmp/corpus.txt" >"$tmp/spaced.txt"
measure -f "$tmp/spaced.txt" --documents
check "white space around a document is trimmed" test "$(ppl)" = "$documents"

# This vocabulary's tokens do as special ones: </s> ends a document, then <s> begins the next.
tr -d '\n' <"$tmp/corpus.txt" | sed 's/<|endoftext|>/<\/s><s>/g' >"$tmp/named.txt"
test_case "--special: names in the text are tokens"
measure -f "$tmp/named.txt" --special --chunks 20
special=$(ppl)
measure -f "$tmp/corpus.txt" --documents --chunks 20
check "$special beside $(ppl) of documents" near "$special" "$(ppl)"

test_case "compare reads a text alike"
expect 0 "--documents" compare "$m" --kv-heads 2 --depths 0 -n 2 --prompt 4 --reps 1 --json \
    -f "$tmp/corpus.txt" --chunks 20
expect 0 "" compare "$m" --kv-heads 2 --depths 0 -n 2 --prompt 4 --reps 1 --kv f16 --json \
    -f "$tmp/corpus.txt" --chunks 20 --documents
check "no warning" test ! -s "$tmp/err"
found=$(sed -n 's/.*"perplexity": \([0-9.]*\).*/\1/p' "$tmp/out" | head -n 1)
expect 0 "" perplexity "$m" -f "$tmp/corpus.txt" --chunks 20 --documents
check "$found as perplexity says, with a chunk of the context, 32" near "$found" "$(ppl)"
check "which is the default there too" grep -q "20 chunks of 32 tokens" "$tmp/out"

test_case "a chunk above the context trained for"
expect 0 "-c 64: the model was trained for 32 positions" perplexity "$m" -f "$tmp/corpus.txt" \
    -c 64 --documents
check "once" test "$(grep -c "trained for" "$tmp/err")" -eq 1
measure -f "$tmp/corpus.txt" --documents
check "not at that context" test ! -s "$tmp/err"

# 5 MB of text: tokenizing all of it takes more memory than is allowed here.
test_case "only what the chunks need is tokenized"
i=0
while [ $i -lt 1000 ]; do
    cat "$tmp/corpus.txt"
    i=$((i + 1))
done >"$tmp/long.txt"
limited() {
    (
        ulimit -v 300000
        exec "$run" "$@"
    ) >"$tmp/out" 2>"$tmp/err"
}
limited info "$m" || skip "perplexity with little memory: the program does not start (sanitizers)"
for option in "" --documents --special; do
    limited info "$m" || break
    measure -f "$tmp/corpus.txt" --chunks 3 $option
    short=$(ppl)
    limited perplexity "$m" -f "$tmp/long.txt" -c 32 --chunks 3 -j 1 $option
    check "$option: the figure of the beginning" test "$(ppl)" = "$short"
done

test_case "published figures"
data=${GQA_DATA:-/nonexistent}/corpus/tinystories_val.txt
if [ -f "$data" ]; then
    m=models/stories-gqa.gguf
    expect 0 "" perplexity $m -f "$data" --chunks 100
    check "as letters $(ppl)" near "$(ppl)" 12.716
    expect 0 "" perplexity $m -f "$data" --chunks 100 --documents
    check "documents $(ppl)" near "$(ppl)" 5.617
else
    skip "perplexity of tinystories_val.txt: not in GQA_DATA"
fi
finish
