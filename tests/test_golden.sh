#!/bin/sh
# The program against published results: llama2.c's greedy text of stories260K (doc/stories260K.md and its test suite, the first 256
# tokens), its prompt-encoding ids (test.c), llama.cpp's perplexity. Needs GQA_DATA. $1 is the program.
run=$1
passed=0 failed=0
check() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi; }
if [ ! -f "${GQA_DATA:-}/models/stories260K.bin" ]; then
    echo "SKIPPED: published texts, ids and perplexity: no models/stories260K.bin in GQA_DATA"
    echo "0 passed, 0 failed, 1 skipped"; exit 0
fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat >"$work/published" <<'END'
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she said, "I'm sorry, mom. I didn't know what to do." Her mom said, "Don't worry, Lily. We can help you.
END
story() { "$run" "$@" -t 0 -n 256 -c 512 --quiet >"$work/out" 2>"$work/err" </dev/null; }
for isa in scalar avx2; do
    GQA_ISA=$isa "$run" info "$GQA_DATA/models/stories260K.gguf" >/dev/null 2>&1 || { echo "SKIPPED: $isa: not on this CPU"; continue; }
    for threads in 1 2 3; do
        for kv in f32 f16; do
            GQA_ISA=$isa story "$GQA_DATA/models/stories260K.bin" -z "$GQA_DATA/models/tok512.bin" -j $threads --kv $kv
            cmp -s "$work/published" "$work/out"; check $? "greedy text from .bin, $isa, $threads threads, $kv cache: $(cat "$work/out" "$work/err")"
            GQA_ISA=$isa story "$GQA_DATA/models/stories260K.gguf" -j $threads --kv $kv
            cmp -s "$work/published" "$work/out"; check $? "greedy text from .gguf, $isa, $threads threads, $kv cache: $(cat "$work/out" "$work/err")"
        done
    done
done
story "$GQA_DATA/models/stories260K.gguf" --no-repack
cmp -s "$work/published" "$work/out"; check $? "greedy text without repacking"

ids() {  # ids FILE EXPECTED TEXT
    got=$("$run" tokenize "$GQA_DATA/$1" -i "$3")
    [ "$got" = "$2" ]; check $? "ids of \"$3\" in $1: $got, expected $2"
}
# llama2.c, test.c
ids vocab/llama2-spm.gguf "1" ""
ids vocab/llama2-spm.gguf "1 306 4658 278 6593 310 2834 338" "I believe the meaning of life is"
ids vocab/llama2-spm.gguf "1 3439 17632 1925 29892 278 6368 310 14215 537 5922 393 29871" "Simply put, the theory of relativity states that "
ids vocab/llama2-spm.gguf "1 319 11473 2643 378 629 271 18099 278 3815 373 278 6826 29901 13 13 4706 6324 14332 29892 13 13 4706 306 925 29871" \
"A brief message congratulating the team on the launch:

        Hi everyone,

        I just "
ids vocab/llama2-spm.gguf "1 4103 9632 4223 304 5176 29901 13 13 4706 7205 4932 357 1149 301 449 276 316 2778 13 4706 1236 407 837 524 1149 6042 354 772 440 29878 1318 13 4706 715 1878 330 3055 1725 1149 330 3055 1725 4639 28754 13 4706 923 968 1149" \
"Translate English to French:

        sea otter => loutre de mer
        peppermint => menthe poivrée
        plush girafe => girafe peluche
        cheese =>"
# llama.cpp's vocabulary tests and Meta's examples
ids vocab/llama3-bpe.gguf "128000 9906 1917" "Hello world"
ids vocab/llama3-bpe.gguf "128000 15339 1917" "hello world"
ids vocab/qwen3-bpe.gguf "9707 1879" "Hello world"

ppl=$("$run" perplexity "$GQA_DATA/models/stories260K.gguf" -f "$GQA_DATA/corpus/tinystories_val.txt" -c 256 --chunks 200 --json | sed 's/.*"perplexity": \([0-9.]*\).*/\1/')
awk -v p="$ppl" 'BEGIN {exit !(p > 6.3786 * 0.999 && p < 6.3786 * 1.001)}'; check $? "perplexity $ppl, llama.cpp gives 6.3786"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
