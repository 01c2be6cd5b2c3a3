#!/bin/sh
# test_shipped.sh RUN: the storyteller tells the same story on every instruction set and number of
# threads; it, its twins and their small ones predict a text they were not trained on, and have the
# sizes that were promised.
run=$1
. tests/checks.sh
model=models/stories-gqa.gguf golden=tests/golden/stories-gqa.txt
small_enough() { [ "$(wc -c <"$1")" -le "$2" ]; }
within() { [ -n "$1" ] && [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; }

test_case "size"
check "$model is at most 3.7 MB" small_enough $model 3700000
for file in models/*.gguf; do check "$file is at most 4.2 MB" small_enough "$file" 4200000; done

# story WHAT ARGUMENTS...
story() {
    what=$1
    shift
    "$run" $model -i "Once upon a time" -t 0 -n 60 --kv f32 --quiet "$@" >"$tmp/out" 2>"$tmp/err"
    same "$tmp/out" $golden "$what: another story"
}
for isa in $(instruction_sets) ''; do
    test_case "story, ${isa:-the default} instructions"
    export GQA_ISA="$isa"
    story "1 thread" -j 1
done
unset GQA_ISA
test_case "story, 2 threads"
story "2 threads" -j 2
test_case "story without repacking"
story "--no-repack" --no-repack

test_case "info"
expect 0 "" info $model
check "GQA" grep -q "GQA (4 query heads share a KV head)" "$tmp/out"
expect 0 "" info models/stories-mha.gguf
check "MHA" grep -q "MHA" "$tmp/out"
expect 0 "" info models/stories-mqa.gguf
check "MQA" grep -q "MQA (8 query heads share one KV head)" "$tmp/out"

# A text that is in no corpus; a uniform guess has a perplexity of 2048.
test_case "they predict a text about equally well"
cat >"$tmp/text" <<END
One day, a small dog named Max went to the park with his friend Anna. They saw a big red ball \
under a tree. Max ran to the ball and Anna laughed. Then a bird came and took the ball away. \
Max was sad, but Anna gave him a hug and they went home.
END
for file in models/*.gguf tests/models/*.gguf; do
    expect 0 "" perplexity "$file" -f "$tmp/text" -c 32
    ppl=$(sed -n "s/^PPL = \([0-9]*\).*/\1/p" "$tmp/out")
    check "$file: perplexity $ppl" within "$ppl" 2 29
done

test_case "tokenize"
expect 0 "" tokenize $model -i "the cat sat on the mat and looked at the moon" --no-bos
n=$(wc -w <"$tmp/out")
check "$n ids" within "$n" 5 20

test_case "a prompt from the cache tells the same story"
dog() { "$run" $model -i "The little dog" -n 40 -s 3 --quiet "$@" 2>&1; }
dog >"$tmp/a"
dog --prompt-cache "$tmp/cache" >"$tmp/b"
dog --prompt-cache "$tmp/cache" >"$tmp/c"
same "$tmp/a" "$tmp/b" "when it is written"
same "$tmp/a" "$tmp/c" "when it is read"
finish
