#!/bin/sh
# Downloads a named small model with curl or wget, resumes a broken download, checks the file, and prints the command
# that runs it.
usage() {
    cat <<'END'
usage: scripts/get-model.sh NAME [FOLDER]      (FOLDER: models-downloaded)
  stories15M  stories110M          llama2.c checkpoints: MHA, 58 and 418 MB, with their tokenizer (MIT)
  tinyllama-chat                   TinyLlama 1.1B chat, GQA 32/4, Q4_K_M, 669 MB (Apache 2.0)
  smollm2-135m  smollm2-360m       SmolLM2 instruct, GQA 9/3 and 15/5, Q8_0, 145 and 386 MB (Apache 2.0)
  qwen3-0.6b                       Qwen3 0.6B, GQA 16/8, Q8_0, 639 MB (Apache 2.0)
  llama-3.2-1b                     needs Meta's licence accepted on huggingface.co and HF_TOKEN set
GET_MODEL_BASE=URL replaces https://huggingface.co (a mirror, or a test server).
END
}
fail() { echo "get-model: $1" >&2; exit 1; }

base=${GET_MODEL_BASE:-https://huggingface.co}
extra='' flags='' min=0
case ${1:-} in
    stories15M)   path=karpathy/tinyllamas/resolve/main/stories15M.bin min=60000000 extra=tokenizer ;;
    stories110M)  path=karpathy/tinyllamas/resolve/main/stories110M.bin min=430000000 extra=tokenizer ;;
    tinyllama-chat) path=TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/resolve/main/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf min=600000000 flags=chat ;;
    smollm2-135m) path=bartowski/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct-Q8_0.gguf min=130000000 flags=chat ;;
    smollm2-360m) path=bartowski/SmolLM2-360M-Instruct-GGUF/resolve/main/SmolLM2-360M-Instruct-Q8_0.gguf min=350000000 flags=chat ;;
    qwen3-0.6b)   path=Qwen/Qwen3-0.6B-GGUF/resolve/main/Qwen3-0.6B-Q8_0.gguf min=600000000 flags=chat ;;
    llama-3.2-1b) [ -n "${HF_TOKEN:-}" ] || fail "llama-3.2-1b: accept the licence on huggingface.co/meta-llama/Llama-3.2-1B-Instruct, then set HF_TOKEN and export with scripts/export_hf.py, or set HF_TOKEN here"
                  path=bartowski/Llama-3.2-1B-Instruct-GGUF/resolve/main/Llama-3.2-1B-Instruct-Q8_0.gguf min=1200000000 flags=chat ;;
    -h|--help) usage; exit 0 ;;
    '') usage >&2; exit 2 ;;
    *) echo "get-model: no model named \"$1\"" >&2; usage >&2; exit 2 ;;
esac
min=${GET_MODEL_MIN:-$min}
folder=${2:-models-downloaded}
mkdir -p "$folder" || exit 1

# fetch URL FILE: into FILE.part, going on where an earlier try stopped, then renamed.
fetch() {
    if command -v curl >/dev/null 2>&1; then
        if [ -n "${HF_TOKEN:-}" ]; then set -- "$1" "$2" -H "Authorization: Bearer $HF_TOKEN"; fi
        url=$1 to=$2; shift 2
        curl -fL --retry 3 -C - "$@" -o "$to.part" "$url"
    elif command -v wget >/dev/null 2>&1; then
        if [ -n "${HF_TOKEN:-}" ]; then set -- "$1" "$2" "--header=Authorization: Bearer $HF_TOKEN"; fi
        url=$1 to=$2; shift 2
        wget -c "$@" -O "$to.part" "$url"
    else
        fail "neither curl nor wget is here"
    fi || fail "download failed: $url (run again to go on where it stopped)"
    mv "$to.part" "$to"
}

# The hub answers a HEAD request with the file's SHA-256 as X-Linked-ETag; an empty answer means: not published.
published_sum() {
    command -v curl >/dev/null 2>&1 || return 0
    curl -sI "$1" | tr -d '\r"' | sed -n 's/^[Xx]-[Ll]inked-[Ee][Tt]ag: *\([0-9a-f]\{64\}\)$/\1/p' | head -n 1
}

file=$folder/${path##*/}
if [ -f "$file" ]; then
    echo "get-model: $file is here already" >&2
else
    fetch "$base/$path" "$file"
fi
size=$(wc -c <"$file")
[ "$size" -ge "$min" ] || fail "$file: $size bytes, expected at least $min: delete it and run again"
sum=$(published_sum "$base/$path")
if [ -n "$sum" ] && command -v sha256sum >/dev/null 2>&1; then
    [ "$(sha256sum "$file" | cut -d' ' -f1)" = "$sum" ] || fail "$file: its SHA-256 is not the published $sum: delete it and run again"
    echo "get-model: SHA-256 agrees with the published one" >&2
fi
if [ "$extra" = tokenizer ] && [ ! -f "$folder/tokenizer.bin" ]; then
    fetch "${GET_MODEL_TOKENIZER:-https://raw.githubusercontent.com/karpathy/llama2.c/master/tokenizer.bin}" "$folder/tokenizer.bin"
fi
if [ "$flags" = chat ]; then echo "./run chat $file"; else echo "./run $file -i \"Once upon a time\""; fi
