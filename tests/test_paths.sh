#!/bin/sh
# test_paths.sh RUN: names of files that are not ASCII, arguments, pipes, and bytes that stay as
# they are: where systems differ. ADDRESS_BITS=32: $run's machine cannot map a file above 4 GB.
run=$1
. tests/checks.sh
folder=$tmp/модели
model=$folder/сказки.gguf
mkdir "$folder"
cp tests/models/stories-gqa.gguf "$model"

test_case "a model in a folder with a Cyrillic name"
expect 0 "" tests/models/stories-gqa.gguf -i "Once upon a time" -n 20 -t 0 -j 1 --quiet
cp "$tmp/out" "$tmp/expected"
expect 0 "" "$model" -i "Once upon a time" -n 20 -t 0 -j 1 --quiet
same "$tmp/out" "$tmp/expected" "the story"
expect 1 "нет.gguf: cannot open: No such file or directory" "$folder/нет.gguf"
expect 1 "модели: is a directory" "$folder"

if have python3 "files above 4 GB"; then
    test_case "a file above 4 GB"
    check "far_gguf.py" python3 tests/far_gguf.py tests/models/stories-gqa.gguf "$tmp/far.gguf"
    if [ "${ADDRESS_BITS:-64}" -eq 32 ]; then
        expect 1 "far.gguf: too large for this machine" "$tmp/far.gguf" -n 20
    else
        expect 0 "" "$tmp/far.gguf" -i "Once upon a time" -n 20 -t 0 -j 1 --quiet
        same "$tmp/out" "$tmp/expected" "the story"
    fi
    rm -f "$tmp/far.gguf"
fi

test_case "a prompt through a pipe"
printf 'Once upon a time\n' | "$run" "$model" -f - -n 20 -t 0 -j 1 --quiet >"$tmp/out" 2>"$tmp/err"
same "$tmp/out" "$tmp/expected" "the story"

test_case "arguments, and text of a file"
printf 'Жил-был\r\nдед\032\n' >"$folder/текст"
expect 0 "" tokenize "$model" -i "Жил-был"
cp "$tmp/out" "$tmp/ids"
printf 'Жил-был' >"$folder/имя"
expect 0 "" tokenize "$model" -f "$folder/имя"
same "$tmp/out" "$tmp/ids" "ids"
check "no line ends in \\r" not grep -q "$(printf '\r')" "$tmp/out"
expect 0 "" tokenize "$model" -f "$folder/текст"
check "\\r and Ctrl-Z are text" test "$(wc -w <"$tmp/out")" -gt "$(($(wc -w <"$tmp/ids") + 6))"

test_case "a file that is written"
expect 0 "" convert "$model" "$folder/копия.gguf"
expect 1 "копия.gguf exists; --force replaces it" convert "$model" "$folder/копия.gguf"
expect 0 "" convert --force "$model" "$folder/копия.gguf"
check "nothing temporary is left" test "$(ls "$folder" | wc -l)" -eq 4

test_case "a tokenizer beside the model, in a folder named as this system names one"
slash=/
[ -z "${EXE:-}" ] || slash='\'
cp tests/fuzz/seeds/model/llama2c-v1 "$folder/model.bin"
echo "no tokenizer" >"$folder/tokenizer.bin"
expect 1 "${slash}tokenizer.bin: " "$folder${slash}model.bin"

test_case "a path of 300 characters"
level=aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggghhhhhhhhhh
deep=$tmp/$level/$level/$level/$level
mkdir -p "$deep"
cp tests/models/stories-gqa.gguf "$deep/model.gguf"
expect 0 "" "$deep/model.gguf" -n 5 -t 0 --quiet
expect 0 "" convert "$deep/model.gguf" "$deep/mqa.gguf" --kv-heads 1 --quiet
expect 0 "" info "$deep/mqa.gguf"
check "MQA" grep -q MQA "$tmp/out"

test_case "a path that is too long"
expect 1 "name too long" "$(printf '%5000s' a | tr ' ' a).gguf"
check "the reason, as glibc or musl says it" grep -qE ': File ?name too long$' "$tmp/err"

finish
