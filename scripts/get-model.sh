#!/bin/sh
# get-model.sh: downloads a named small model with curl or wget, resumes a broken download, checks
# the file, and prints the command that runs it.
usage() {
    cat <<'END'
usage: scripts/get-model.sh NAME [FOLDER]      (default FOLDER: models-downloaded)
  stories15M  stories110M     llama2.c: MHA, 58 and 418 MB, with their tokenizer (MIT)
  tinyllama-chat              TinyLlama 1.1B chat, GQA 32/4, Q4_K_M, 669 MB (Apache 2.0)
  smollm2-135m  smollm2-360m  SmolLM2 instruct, GQA 9/3 and 15/5, Q8_0, 145 and 386 MB (Apache 2.0)
  qwen3-0.6b                  Qwen3 0.6B, GQA 16/8, Q8_0, 639 MB (Apache 2.0)
  llama-3.2-1b                needs Meta's licence accepted on huggingface.co and HF_TOKEN set
GET_MODEL_BASE=URL replaces https://huggingface.co (a mirror, or a test server).
END
}
# Name, kind, least size in MB, repository, file.
models() {
    cat <<'END'
stories15M     story  60 karpathy/tinyllamas stories15M.bin
stories110M    story 430 karpathy/tinyllamas stories110M.bin
tinyllama-chat chat  600 TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf
smollm2-135m   chat  130 bartowski/SmolLM2-135M-Instruct-GGUF SmolLM2-135M-Instruct-Q8_0.gguf
smollm2-360m   chat  350 bartowski/SmolLM2-360M-Instruct-GGUF SmolLM2-360M-Instruct-Q8_0.gguf
qwen3-0.6b     chat  600 Qwen/Qwen3-0.6B-GGUF Qwen3-0.6B-Q8_0.gguf
llama-3.2-1b   chat 1200 bartowski/Llama-3.2-1B-Instruct-GGUF Llama-3.2-1B-Instruct-Q8_0.gguf
END
}
fail() { echo "get-model: $*" >&2; exit 1; }

case ${1:-} in
    -h|--help) usage; exit 0 ;;
    '') usage >&2; exit 2 ;;
    llama-3.2-1b) [ -n "${HF_TOKEN:-}" ] || fail "$1: accept the licence on" \
        "huggingface.co/meta-llama/Llama-3.2-1B-Instruct, then set HF_TOKEN" ;;
esac
model=$(models | awk -v name="$1" '$1 == name')
if [ -z "$model" ]; then
    echo "get-model: unknown model \"$1\"" >&2
    usage >&2
    exit 2
fi
folder=${2:-models-downloaded}
read -r _ kind megabytes repository file <<END
$model
END
min=${GET_MODEL_MIN:-${megabytes}000000}
url=${GET_MODEL_BASE:-https://huggingface.co}/$repository/resolve/main/$file
file=$folder/$file
mkdir -p "$folder" || exit 1

# fetch URL FILE: into FILE.part, continuing an earlier download, then renamed.
fetch() {
    from=$1 to=$2
    token=${HF_TOKEN:+Authorization: Bearer $HF_TOKEN}
    if command -v curl >/dev/null 2>&1; then
        curl -fL --retry 3 -C - ${token:+-H "$token"} -o "$to.part" "$from"
    elif command -v wget >/dev/null 2>&1; then
        wget -c ${token:+"--header=$token"} -O "$to.part" "$from"
    else
        fail "neither curl nor wget is installed"
    fi || fail "download failed: $from (run again to continue it)"
    mv "$to.part" "$to"
}

# The hub answers a HEAD request with the file's SHA-256 as X-Linked-ETag; empty: not published.
published_sum() {
    command -v curl >/dev/null 2>&1 || return 0
    curl -sI "$1" | tr -d '\r"' |
        sed -n 's/^[Xx]-[Ll]inked-[Ee][Tt]ag: *\([0-9a-f]\{64\}\)$/\1/p' | head -n 1
}

if [ -f "$file" ]; then
    echo "get-model: $file exists" >&2
else
    fetch "$url" "$file"
fi
size=$(wc -c <"$file")
[ "$size" -ge "$min" ] ||
    fail "$file: $size bytes, expected at least $min: delete it and run again"
sum=$(published_sum "$url")
if [ -n "$sum" ] && command -v sha256sum >/dev/null 2>&1; then
    [ "$(sha256sum "$file" | cut -d' ' -f1)" = "$sum" ] ||
        fail "$file: SHA-256 mismatch, expected $sum: delete it and run again"
    echo "get-model: SHA-256 agrees with the published one" >&2
fi
if [ "$kind" = story ]; then
    tokenizer=https://raw.githubusercontent.com/karpathy/llama2.c/master/tokenizer.bin
    [ -f "$folder/tokenizer.bin" ] ||
        fetch "${GET_MODEL_TOKENIZER:-$tokenizer}" "$folder/tokenizer.bin"
    echo "./run $file -i \"Once upon a time\""
else
    echo "./run chat $file"
fi
