#!/bin/sh
# test_cli_fast.sh RUN: --fast-prefill: what it changes, where, and that it says so when it has no
# effect. GQA_FAST_PREFILL takes it wherever the CPU can, faster or not.
run=$1
. tests/checks.sh
small=tests/models/stories-gqa.gguf
no_effect="note: --fast-prefill has no effect"
for type in f16 f32; do
    "$run" convert $small "$tmp/$type.gguf" --type $type >/dev/null 2>&1
done
cat >"$tmp/story.txt" <<'END'
Once upon a time there was a small dog who lived near a river. One day the dog saw a big red ball in
the water. "Can I have it?" said the dog. A girl came and took the ball out. She gave it to the dog,
and they played all day. Then the sun went down and they were very tired.
END
prompt=$(head -n 2 "$tmp/story.txt")
member() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$tmp/out" | head -n 1; }
story="-f $tmp/story.txt -c 64 --chunks 1 --json --kv f32"
shape=dim=64,layers=1,heads=2,kv_heads=1,ffn=64,vocab=50
bench="bench --shape $shape,type=f16 -p 20 -n 0 -r 1 -j 1"

test_case "where it has no effect: a note, and the results without it"
expect 0 "" $small "$prompt" -t 0 -n 20 --quiet
mv "$tmp/out" "$tmp/plain"
expect 0 "$no_effect" $small "$prompt" -t 0 -n 20 --fast-prefill
same "$tmp/out" "$tmp/plain" "q8_0: another text"
expect 0 "" $small "$prompt" -t 0 -n 20 --fast-prefill --quiet
check "--quiet: no note" test ! -s "$tmp/err"
export GQA_ISA=scalar GQA_FAST_PREFILL=1
expect 0 "$no_effect" perplexity "$tmp/f16.gguf" $story --kl . --fast-prefill
check "KL 0" test "$(member mean)" = 0
expect 0 "$no_effect" $bench --fast-prefill
unset GQA_ISA GQA_FAST_PREFILL
expect 0 "" $bench --json
check "not asked for: no rate" grep -q '"bf16_mac_per_second": null, "fast_prefill": 0' "$tmp/out"

export GQA_FAST_PREFILL=1
expect 0 "" "$tmp/f16.gguf" "One" -n 1 --fast-prefill --json
if [ "$(member fast_prefill)" != 1 ]; then
    skip "--fast-prefill: this CPU or build has no bf16 products"
    finish
    exit
fi

test_case "perplexity: near, and --kl compares with the same model without"
for type in f16 f32; do
    expect 0 "" perplexity "$tmp/$type.gguf" $story
    exact=$(member perplexity)
    expect 0 "" perplexity "$tmp/$type.gguf" $story --kl . --fast-prefill
    kl=$(member mean) fast=$(member perplexity)
    check "$type: KL $kl" awk "BEGIN {exit !($kl > 1e-7 && $kl < 1e-3)}"
    check "$type: $fast for $exact" awk "BEGIN {exit !($fast != $exact && $fast < 1.01 * $exact)}"
done

test_case "bench: the rate of bf16, and the share of it"
expect 0 "" $bench --fast-prefill --json
check "used" test "$(member fast_prefill)" = 1
check "rate" awk "BEGIN {exit !($(member bf16_mac_per_second) > 1e6)}"
expect 0 "" $bench --fast-prefill
check "the report" grep -q "bf16 .* GMAC/s (used for prompts)" "$tmp/out"

test_case "a prompt cache and speculation give the text of the same option without them"
expect 0 "" "$tmp/f16.gguf" "$prompt" -t 0 -n 60 --quiet --fast-prefill
mv "$tmp/out" "$tmp/plain"
for i in written read; do
    expect 0 "" "$tmp/f16.gguf" "$prompt" -t 0 -n 60 --quiet --fast-prefill \
        --prompt-cache "$tmp/cache"
    same "$tmp/out" "$tmp/plain" "prompt cache, $i: another text"
done
expect 0 "" "$tmp/f16.gguf" "$prompt" -t 0 -n 60 --quiet --fast-prefill --lookup
same "$tmp/out" "$tmp/plain" "--lookup: another text"
expect 0 "" "$tmp/f16.gguf" "$prompt" -t 0 -n 60 --quiet --fast-prefill --draft "$tmp/f32.gguf"
same "$tmp/out" "$tmp/plain" "--draft: another text"

test_case "chat"
echo "Hello" | "$run" chat "$tmp/f16.gguf" -t 0 -n 20 --quiet >"$tmp/a" 2>"$tmp/err"
echo "Hello" | "$run" chat "$tmp/f16.gguf" -t 0 -n 20 --quiet --fast-prefill >"$tmp/b" 2>"$tmp/err"
check "an answer" test -s "$tmp/b"
finish
