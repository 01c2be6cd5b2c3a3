#!/bin/sh
# test_cli_perplexity.sh RUN: how perplexity and compare read a text: as letters, as documents, with
# special tokens; what chunks need of it; how far models are from each other.
run=$1
. tests/checks.sh
make_model
ppl() { sed -n 's/^PPL = \([0-9.]*\) .*/\1/p' "$tmp/out"; }
near() { # a figure and what is expected, or as many of each
    awk -v found="$1" -v expected="$2" 'BEGIN {
        n = split(found, p)
        if (n == 0 || n != split(expected, q)) exit 1
        for (i = 1; i <= n; i++) if (p[i] < q[i] * 0.9995 || p[i] > q[i] * 1.0005) exit 1
    }'
}
measure() { expect 0 "" perplexity "$m" -c 32 "$@"; }

test_case "markers are letters, of which a warning tells once"
measure -f "$tmp/corpus.txt"
check "the warning" test "$(grep -c -- '--documents' "$tmp/err")" -eq 1
letters=$(ppl)
expect 1 "corpus.txt" perplexity "$tmp/corpus.txt" -f "$tmp/corpus.txt"
check "none before a refused model" test "$(grep -c -- '--documents' "$tmp/err")" -eq 0
for option in --documents --special; do
    measure -f "$tmp/corpus.txt" $option
    check "$option: no warning" test ! -s "$tmp/err"
done
expect 2 "exclude each other" perplexity "$m" -f "$tmp/corpus.txt" --documents --special

test_case "documents are read as in training"
measure -f "$tmp/corpus.txt" --documents
documents=$(ppl)
check "better than as letters" awk "BEGIN {exit !($documents < $letters * 0.7)}"
awk '{ gsub(/^<\|end/, " \n\n&"); gsub(/text\|>$/, "&\n \n"); print }' "$tmp/corpus.txt" \
    >"$tmp/spaced.txt"
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

member() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$tmp/out" | head -n "${2:-1}" | tail -n 1; }
options="-f $tmp/corpus.txt --documents -c 32 --chunks 10 --json"
test_case "--kl: a model beside itself"
expect 0 "" perplexity "$m" $options
plain=$(member perplexity)
for option in "--kl . --kv f32" "--kl $m,kv=bf16 --kv bf16"; do
    expect 0 "" perplexity "$m" $options $option
    check "$option: 0" test "$(member mean) $(member p99) $(member largest)" = "0 0 0"
    check "$option: the same likeliest tokens" test "$(member same_top_percent)" = 100
    check "$option: every position" test "$(member positions)" = 320
done
expect 0 "" perplexity "$m" $options --kl .,kv=bf16
check "the perplexity is the model's" test "$(member perplexity)" = "$plain"
check "its f16 cache is not bf16" test "$(member mean)" != 0
have python3 "--json" && check "--json" python3 -m json.tool "$tmp/out"

test_case "--kl: from the reference to the model, as compare has it"
expect 0 "" convert "$m" "$tmp/mqa.gguf" --kv-heads 1
expect 0 "" perplexity "$tmp/mqa.gguf" $options --kl "$m" --kv f32
to_parent=$(member mean)
expect 0 "" perplexity "$tmp/mqa.gguf" $options --kl . --kv bf16
to_f32=$(member mean)
expect 0 "" perplexity "$m" $options --kl "$tmp/mqa.gguf" --kv f32
check "the reverse is another" not near "$to_parent" "$(member mean)"
expect 0 "" compare "$m" --kv-heads 2,1 --depths 0 -n 2 --prompt 4 --reps 1 --kv f32,bf16 $options
tr '{' '\n' <"$tmp/out" >"$tmp/lines" && mv "$tmp/lines" "$tmp/out"
check "the parent's own" test "$(member kl_to_first 1) $(member kl_to_f32 1)" = "0 0"
check "to the parent" near "$(member kl_to_first 3)" "$to_parent"
check "to its own f32 cache" near "$(member kl_to_f32 4)" "$to_f32"

# By llama.cpp's logits of both models (f32 weights, f32 cache), and Python.
test_case "--kl: as llama.cpp's logits have it"
for name in gqa mha; do
    expect 0 "" convert tests/models/stories-$name.gguf "$tmp/$name.gguf" --type f32
done
tr '\n' ' ' >"$tmp/story.txt" <<'END'
Once upon a time there was a small dog who lived near a river. One day the dog saw a big red ball in
the water. "Can I have it?" said the dog. A girl came and took the ball out. She gave it to the dog,
and they played all day. Then the sun went down and they were very tired.
END
story="-f $tmp/story.txt -c 64 --chunks 1 --kv f32"
expect 0 "" perplexity "$tmp/gqa.gguf" $story --kl "$tmp/mha.gguf" --json
found="$(member mean) $(member error) $(member p99) $(member largest)"
check "KL(MHA || GQA): $found" near "$found" "0.2350350 0.0396565 1.523050 1.674316"
found="$(member same_top_percent) $(member same_top_error)"
check "same likeliest token: $found" near "$found" "82.8125 4.75329"
expect 0 "" perplexity "$tmp/mha.gguf" $story --kl "$tmp/gqa.gguf"
check "the other way" grep -q '^KL  = 0.22266[67] +/- 0.03454' "$tmp/out"
check "the reference is named" grep -q "reference: $tmp/gqa.gguf, f32 cache" "$tmp/out"

test_case "--exact: the logits of f32 activations, beside quantised weights"
q=$tmp/q8_0.gguf
expect 0 "" convert "$m" "$q" --type q8_0 --quiet
expect 0 "" convert "$q" "$tmp/f32.gguf" --type f32 --quiet
expect 0 "" perplexity "$q" $options --kv f32 --kl "$tmp/f32.gguf"
rounded=$(member mean)
expect 0 "" perplexity "$q" $options --kv f32 --kl "$tmp/f32.gguf" --exact
exact=$(member mean)
check "KL $exact, $rounded without" awk "BEGIN {exit !($exact < 1e-7 && $rounded > 5 * $exact)}"
expect 0 "" perplexity "$q" $options --kv f32 --kl .,kv=f32,exact
check "to the exact model: $(member mean)" \
    awk "BEGIN {exit !($(member mean) > 0.9 * $rounded && $(member mean) < 1.1 * $rounded)}"
check "reference_exact" grep -q '"reference_exact": true' "$tmp/out"
expect 0 "" perplexity "$q" $options --kv f32 --kl .,exact --exact
check "beside itself: $(member mean)" test "$(member mean)" = 0

test_case "--kl: what cannot be compared"
sed 's/dog/fox/g; s/cat/owl/g' "$tmp/corpus.txt" >"$tmp/foxes.txt"
expect 0 "" train "$tmp/foxes.gguf" -f "$tmp/foxes.txt" $small --steps 1 --quiet
expect 1 "$tmp/foxes.gguf: token" perplexity "$m" $options --kl "$tmp/foxes.gguf"
check "names both" grep -qF "$m" "$tmp/err"
small=tests/models/stories-gqa.gguf
expect 1 "$small: a vocabulary of" perplexity "$m" $options --kl $small
check "names both" grep -qF "$m" "$tmp/err"
expect 2 'unknown word "exactly"' perplexity "$m" $options --kl .,kv=f16,exactly
expect 2 'expected a model' perplexity "$m" $options --kl ""
expect 2 'expected a model' perplexity "$m" $options --kl ,kv=f16
expect 2 'kv= twice' perplexity "$m" $options --kl .,kv=f16,kv=q4_0
expect 2 'unknown word "exact=1"' perplexity "$m" $options --kl .,exact=1,kv=f16
expect 1 'cache type "q9"' perplexity "$m" $options --kl .,kv=q9
expect 1 "$tmp/none: cannot open" perplexity "$m" $options --kl "$tmp/none"

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
        ulimit -v 300000 && exec "$run" "$@"
    ) >"$tmp/out" 2>"$tmp/err"
}
limited info "$m" || skip "perplexity with little memory: the program does not start so"
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
    m=tests/models/stories-gqa.gguf
    expect 0 "" perplexity $m -f "$data" --chunks 100
    check "as letters $(ppl)" near "$(ppl)" 12.716
    expect 0 "" perplexity $m -f "$data" --chunks 100 --documents
    check "documents $(ppl)" near "$(ppl)" 5.617
else
    skip "perplexity of tinystories_val.txt: not in GQA_DATA"
fi
finish
