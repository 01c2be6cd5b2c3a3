#!/bin/sh
# get-test-data.sh: what the folder GQA_DATA may hold for the tests. Checks a folder against the
# hashes of the files that the tests were written with, and downloads what is missing when asked.
usage() {
    cat <<'END'
usage: scripts/get-test-data.sh [--download] FOLDER
Checks the files that tests take from GQA_DATA; --download fetches those that are missing (20 MB).
Then: make test GQA_DATA=FOLDER
END
}
hub=https://huggingface.co
llama_cpp=https://raw.githubusercontent.com/ggml-org/llama.cpp/master/models

# SHA-256, file, how many bytes of the source ("all" of them), source
files() {
    cat <<END
b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696 models/stories260K.bin all \
$hub/karpathy/tinyllamas/resolve/main/stories260K/stories260K.bin
037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312 models/tok512.bin all \
$hub/karpathy/tinyllamas/resolve/main/stories260K/tok512.bin
047bf46455a544931cff6fef14d7910154c56afbc23ab1c5e56a72e69912c04b models/stories260K.gguf all \
$hub/ggml-org/models/resolve/main/tinyllamas/stories260K.gguf
16c3724582d59aa8bf84711894e833f916ee46a31d80e21312759c48bf8d0e69 vocab/llama2-spm.gguf all \
$llama_cpp/ggml-vocab-llama-spm.gguf
ca9a031a9ae7c770977379c948f86911c0c883dab613110180d33f9ef8657f52 vocab/llama3-bpe.gguf all \
$llama_cpp/ggml-vocab-llama-bpe.gguf
e2c8d081fd7060aaa4ddf4caaaa2127d39bd15ffa02ccb0263396f376f658738 vocab/qwen3-bpe.gguf all \
$llama_cpp/ggml-vocab-qwen2.gguf
8e4ddbe1b12b54fc44846fd95e9223bf72cf8597d3e617920a3bd750a012268e corpus/tinystories_val.txt 797309 \
$hub/datasets/roneneldan/TinyStories/resolve/main/TinyStories-valid.txt
END
}

download=0
case ${1:-} in
    -h|--help)
        usage
        exit 0
        ;;
    --download)
        download=1
        shift
        ;;
esac
case ${1:-} in
    ''|-*)
        usage >&2
        exit 2
        ;;
esac
folder=$1

# fetch URL BYTES FILE
fetch() {
    mkdir -p "$(dirname "$3")" || return 1
    if [ "$2" = all ]; then
        curl -fL --retry 3 -o "$3.part" "$1" || return 1
    else
        curl -fL --retry 3 -r "0-$(($2 - 1))" -o "$3.part" "$1" || return 1
    fi
    mv "$3.part" "$3"
}

# sha256 FILE; macOS has shasum
sha256() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi |
        cut -d' ' -f1
}

list=$(files)
good=0 bad=0
while read -r sum file bytes url; do
    path=$folder/$file
    if [ ! -f "$path" ] && [ "$download" -eq 1 ]; then fetch "$url" "$bytes" "$path"; fi
    if [ ! -f "$path" ]; then
        [ "$bytes" = all ] && from=$url || from="the first $bytes bytes of $url"
        echo "missing: $file: $from"
        bad=$((bad + 1))
    elif [ "$(sha256 "$path")" != "$sum" ]; then
        echo "differs: $file: expected SHA-256 $sum (a newer version? see $url)"
        bad=$((bad + 1))
    else
        echo "ok: $file"
        good=$((good + 1))
    fi
done <<END
$list
END
echo "$good of $((good + bad)) files are as expected"
[ "$bad" -eq 0 ]
