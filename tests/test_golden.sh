#!/bin/sh
# test_golden.sh RUN: the program against published results: llama2.c's greedy text of stories260K
# (doc/stories260K.md and its test suite, the first 256 tokens), its prompt-encoding ids (test.c),
# llama.cpp's perplexity. Needs GQA_DATA.
run=$1
. tests/checks.sh
data=${GQA_DATA:-} published=tests/golden/stories260K.txt
if [ ! -f "$data/models/stories260K.bin" ]; then
    skip "published texts, ids and perplexity: no models/stories260K.bin in GQA_DATA"
    finish
    exit
fi

# story WHAT ARGUMENTS...: the greedy text must be the published one.
story() {
    what=$1
    shift
    "$run" "$@" -t 0 -n 256 -c 512 --quiet >"$tmp/out" 2>"$tmp/err" </dev/null
    same "$tmp/out" $published "$what"
}
for isa in $(instruction_sets); do
    for threads in 1 2 3; do
        test_case "greedy text, $isa, $threads threads"
        for kv in f32 f16; do
            export GQA_ISA="$isa"
            story ".bin, $kv cache" "$data/models/stories260K.bin" \
                -z "$data/models/tok512.bin" -j $threads --kv $kv
            story ".gguf, $kv cache" "$data/models/stories260K.gguf" -j $threads --kv $kv
        done
    done
done
unset GQA_ISA

test_case "greedy text without repacking"
story "--no-repack" "$data/models/stories260K.gguf" --no-repack

# ids VOCABULARY EXPECTED TEXT
ids() {
    "$run" tokenize "$data/vocab/$1" -i "$3" >"$tmp/out" 2>"$tmp/err"
    check "ids of \"$3\" in $1: $(cat "$tmp/out"), expected $2" test "$(cat "$tmp/out")" = "$2"
}
test_case "token ids of llama2.c's test.c"
ids llama2-spm.gguf "1" ""
ids llama2-spm.gguf "1 306 4658 278 6593 310 2834 338" "I believe the meaning of life is"
ids llama2-spm.gguf "1 3439 17632 1925 29892 278 6368 310 14215 537 5922 393 29871" \
    "Simply put, the theory of relativity states that "
ids llama2-spm.gguf "1 319 11473 2643 378 629 271 18099 278 3815 373 278 6826 29901 13 13 4706 \
6324 14332 29892 13 13 4706 306 925 29871" \
"A brief message congratulating the team on the launch:

        Hi everyone,

        I just "
ids llama2-spm.gguf "1 4103 9632 4223 304 5176 29901 13 13 4706 7205 4932 357 1149 301 449 276 \
316 2778 13 4706 1236 407 837 524 1149 6042 354 772 440 29878 1318 13 4706 715 1878 330 3055 1725 \
1149 330 3055 1725 4639 28754 13 4706 923 968 1149" \
"Translate English to French:

        sea otter => loutre de mer
        peppermint => menthe poivrée
        plush girafe => girafe peluche
        cheese =>"

test_case "token ids of llama.cpp's vocabulary tests and Meta's examples"
ids llama3-bpe.gguf "128000 9906 1917" "Hello world"
ids llama3-bpe.gguf "128000 15339 1917" "hello world"
ids qwen3-bpe.gguf "9707 1879" "Hello world"

test_case "perplexity, 6.3786 by llama.cpp"
"$run" perplexity "$data/models/stories260K.gguf" -f "$data/corpus/tinystories_val.txt" \
    -c 256 --chunks 200 --json >"$tmp/out" 2>"$tmp/err"
ppl=$(sed 's/.*"perplexity": \([0-9.]*\).*/\1/' "$tmp/out")
near() { awk -v p="$1" -v q="$2" 'BEGIN {exit !(p > q * 0.999 && p < q * 1.001)}'; }
check "perplexity $ppl" near "$ppl" 6.3786
finish
