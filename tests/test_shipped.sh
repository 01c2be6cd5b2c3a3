#!/bin/sh
# test_shipped.sh RUN: the model that ships tells the same story on every instruction set and number of threads, predicts a text it
# was not trained on, and stays the size it was promised to be.
run=$1 m=models/stories-gqa.gguf
. tests/checks.sh
[ "$(cat models/*.gguf | wc -c)" -le 4194304 ] && ok || no "models/ is larger than 4 MiB"
for isa in scalar ''; do for j in 1 2; do
    GQA_ISA=$isa "$run" $m -i "Once upon a time" -t 0 -n 60 --kv f32 -j $j --quiet >"$tmp/out" 2>&1
    cmp -s "$tmp/out" tests/golden/stories-gqa.txt && ok || { no "isa \"$isa\", $j threads: another story"; diff "$tmp/out" tests/golden/stories-gqa.txt; }
done; done
"$run" $m -i "Once upon a time" -t 0 -n 60 --kv f32 --no-repack --quiet >"$tmp/out" 2>&1
cmp -s "$tmp/out" tests/golden/stories-gqa.txt && ok || no "--no-repack: another story"
"$run" info $m | grep -q "GQA (4 query heads share a KV head)" && ok || no "info"
"$run" info models/stories-mha.gguf | grep -q "MHA" && ok || no "info of the twin"
# Both predict a text that is in no corpus about equally well: perplexity of a token below 30 (uniform: 2048).
echo "One day, a small dog named Max went to the park with his friend Anna. They saw a big red ball under a tree. Max ran to the ball and Anna laughed. Then a bird came and took the ball away. Max was sad, but Anna gave him a hug and they went home." >"$tmp/text"
for twin in gqa mha; do
    ppl=$("$run" perplexity models/stories-$twin.gguf -f "$tmp/text" -c 32 2>"$tmp/err" | sed -n "s/^PPL = \([0-9]*\).*/\1/p")
    [ -n "$ppl" ] && [ "$ppl" -ge 2 ] && [ "$ppl" -lt 30 ] && ok || no "stories-$twin: perplexity $ppl"
done
for words in "the cat sat on the mat and looked at the moon"; do
    ids=$("$run" tokenize $m -i "$words" --no-bos 2>&1 | wc -w)
    [ "$ids" -ge 5 ] && [ "$ids" -le 20 ] && ok || no "tokenize: $ids ids"
done
"$run" $m -i "The little dog" -n 40 -s 3 --quiet >"$tmp/a" 2>&1
"$run" $m -i "The little dog" -n 40 -s 3 --quiet --prompt-cache "$tmp/cache" >"$tmp/b" 2>&1
"$run" $m -i "The little dog" -n 40 -s 3 --quiet --prompt-cache "$tmp/cache" >"$tmp/c" 2>&1
cmp -s "$tmp/a" "$tmp/b" && cmp -s "$tmp/a" "$tmp/c" && ok || no "a prompt from the cache tells another story"
finish
