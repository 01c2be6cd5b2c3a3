#!/bin/sh
# test_cli_convert.sh RUN: conversion: MQA by two ways, other types, packed weights, and what cannot
# be done.
run=$1
. tests/checks.sh
make_model

test_case "pooling to MQA"
expect 0 "1 KV heads, pooled by aligned" convert "$m" "$tmp/mqa.gguf" --kv-heads 1 \
    --pool aligned -f "$tmp/corpus.txt" --type q8_0
expect 0 "" info "$tmp/mqa.gguf"
check "info says MQA" grep -q MQA "$tmp/out"
expect 0 "" "$tmp/mqa.gguf" -n 5

test_case "heads repeated: MHA with the same text"
expect 0 "4 KV heads, repeated" convert "$m" "$tmp/mha.gguf" --kv-heads 4
for model in "$m" "$tmp/mha.gguf"; do
    expect 0 "" "$model" "One day" -n 30 -t 0 --kv f32
    cat "$tmp/out" >>"$tmp/$(basename "$model").text"
done
same "$tmp/mha.gguf.text" "$tmp/$(basename "$m").text" "the text differs"
expect 0 "" info "$tmp/mha.gguf"
check "info says MHA" grep -q "^attention  *MHA" "$tmp/out"

test_case "packed weights"
expect 0 "repacked" convert "$m" "$tmp/p.gguf" --packed
expect 0 "" "$tmp/p.gguf" -n 8 -t 0
cp "$tmp/out" "$tmp/a"
rm "$tmp/p.gguf.packed"
expect 0 "" "$tmp/p.gguf" -n 8 -t 0
same "$tmp/out" "$tmp/a" "packed weights make the same text"
expect 0 "repacked" convert "$tmp/p.gguf" --packed
check "convert IN --packed writes IN.packed" test -s "$tmp/p.gguf.packed"

test_case "what is refused leaves no file"
expect 1 "-z is for llama2.c checkpoints" convert "$m" "$tmp/x.gguf" -z "$tmp/corpus.txt"
expect 1 "-z is for llama2.c checkpoints" convert "$tmp/p.gguf" --packed -z "$tmp/corpus.txt"
expect 1 "divisor" convert "$m" "$tmp/x.gguf" --kv-heads 3
expect 2 "--pool" convert "$m" "$tmp/x.gguf" --kv-heads 1 --pool best
expect 2 "write" convert "$m"
check "no file" test ! -e "$tmp/x.gguf"

test_case "a file is not converted onto itself"
cp "$m" "$tmp/self.gguf"
ln -s self.gguf "$tmp/link.gguf"
ln "$tmp/self.gguf" "$tmp/hard.gguf"
for out in self link hard ./self; do
    expect 2 "same file" convert "$tmp/self.gguf" "$tmp/$out.gguf" --type f32
done
expect 2 "same file" convert "$tmp/link.gguf" "$tmp/self.gguf" --type f32
expect 2 "same file" uptrain "$tmp/self.gguf" "$tmp/link.gguf" --kv-heads 1 -f "$tmp/corpus.txt"
same "$tmp/self.gguf" "$m" "the model"

test_case "what lies at OUT is replaced with --force only"
cp "$m" "$tmp/there.gguf"
ln -s there.gguf "$tmp/to-there.gguf"
for out in there to-there; do
    expect 1 "$tmp/$out.gguf exists" convert "$m" "$tmp/$out.gguf" --type q8_0
    check "the message names the way out" grep -qF -- --force "$tmp/err"
    expect 1 "exists" convert "$m" "$tmp/$out.gguf" --type q8_0 --packed
done
same "$tmp/there.gguf" "$m" "the file that was there"
check "nothing packed" test ! -e "$tmp/there.gguf.packed"
expect 0 "" convert "$m" "$tmp/there.gguf" --type q8_0 --packed --force --quiet
check "another file" not cmp -s "$tmp/there.gguf" "$m"
expect 0 "repacked" convert "$tmp/there.gguf" --packed
for out in /dev/null "$tmp"; do
    expect 1 "$out: cannot write: not a regular file" convert "$m" "$out" --type q8_0 --force
done
check "the device is there" test -c /dev/null

test_case "a symbolic link is written through"
if posix "symbolic links"; then
    mkdir "$tmp/real"
    cp "$m" "$tmp/real/old.gguf"
    ln -s real/old.gguf "$tmp/to-old.gguf"
    ln -s "$tmp/real/new.gguf" "$tmp/to-new.gguf"
    expect 0 "" convert "$m" "$tmp/to-old.gguf" --type q8_0 --quiet --force
    expect 0 "" convert "$m" "$tmp/to-new.gguf" --type q8_0 --quiet
    check "the links are links" test -L "$tmp/to-old.gguf" -a -L "$tmp/to-new.gguf"
    for out in old new; do
        expect 0 "" info "$tmp/real/$out.gguf"
        check "the file behind the link" grep -q "q8_0" "$tmp/out"
    done
    check "no temporary file" test "$(ls "$tmp" "$tmp/real" | grep -c 'gguf\.tmp')" -eq 0
    ln -s loop.gguf "$tmp/loop.gguf"
    expect 1 "cannot write" convert "$m" "$tmp/loop.gguf" --type q8_0
    expect 1 "no/x.gguf: cannot write: No such" convert "$m" "$tmp/no/x.gguf" --kv-heads 1 \
        --pool aligned -f "$tmp/no.txt" # before anything is read
fi

test_case "types that can be written, and types that cannot"
for type in q4_1 q5_1 q4_k_m; do
    expect 0 "" convert "$m" "$tmp/typed.gguf" --force --type $type --quiet
    expect 0 "" info "$tmp/typed.gguf"
done
expect 2 "expected f32" convert "$m" "$tmp/typed.gguf" --type q2_k

test_case "the file does not depend on the number of threads"
stories=tests/models/stories-mha.gguf
for how in "--type q8_0" "--type q5_1" "--type q4_k_m" "--type f16" "--kv-heads 1 --type q4_0"; do
    for threads in -j1 "-j 2" --threads=3; do
        # shellcheck disable=SC2086 # words
        expect 0 "" convert $stories "$tmp/out.gguf" --force --quiet $how $threads
        [ -e "$tmp/one.gguf" ] || cp "$tmp/out.gguf" "$tmp/one.gguf"
        same "$tmp/out.gguf" "$tmp/one.gguf" "$how $threads"
    done
    rm "$tmp/one.gguf"
done

test_case "a file of the temporary name is left alone"
echo kept >"$tmp/t.gguf.tmp.1"
expect 0 "" convert "$m" "$tmp/t.gguf" --quiet
check "kept" grep -qx kept "$tmp/t.gguf.tmp.1"

# overwrite BYTES BACK: the float that is BACK floats before the end of $tmp/bad.gguf.
overwrite() {
    at=$(($(wc -c <"$tmp/bad.gguf") / 4 - $2))
    printf "$1" | dd of="$tmp/bad.gguf" bs=4 seek=$at conv=notrunc 2>/dev/null
}
# poison BYTES: $tmp/bad.gguf, the model with one value replaced, in the last matrix.
poison() {
    cp "$tmp/f32.gguf" "$tmp/bad.gguf"
    overwrite "$1" 40 # output_norm has 32
}
test_case "NaN, infinity and values beyond f16 are refused with the tensor's name"
expect 0 "" convert "$m" "$tmp/f32.gguf" --type f32 --quiet
for value in '\000\000\300\177' '\000\000\200\177' '\000\000\200\377'; do
    poison "$value"
    for how in "--type q8_0 -j1" "--type q8_0 -j3" "--type f32" "--kv-heads 1" \
        "--kv-heads 1 --pool aligned" ""; do
        expect 1 "has NaN or infinity" convert "$tmp/bad.gguf" "$tmp/good.gguf" $how
        check "the tensor's name" grep -q "bad.gguf: tensor blk\.1\.[a-z_]*\.weight has" "$tmp/err"
    done
done
poison '\000\044\164\111' # 1e6
expect 1 "too large for the new type" convert "$tmp/bad.gguf" "$tmp/good.gguf" --type f16
expect 0 "" convert "$tmp/bad.gguf" "$tmp/fits.gguf" --type bf16 --quiet
check "nothing is left" test "$(ls "$tmp" | grep -c 'good')" -eq 0
expect 0 "" convert $stories "$tmp/bad.gguf" --type f32 --quiet --force
overwrite '\000\000\300\177' 1000  # one matrix of 73,728 values has both, far apart
overwrite '\000\044\164\111' 70000
for threads in 1 2 3; do
    expect 1 "ffn_down.weight has values too large" convert "$tmp/bad.gguf" "$tmp/good.gguf" \
        --type f16 -j $threads # what comes first in the file
done

# A full disk, here a limit on the size of files.
test_case "a full disk leaves the existing file as it was"
if posix "ulimit"; then
    cp "$m" "$tmp/old.gguf"
    (
        trap '' XFSZ
        ulimit -f 16
        "$run" convert "$m" "$tmp/old.gguf" --type f32 --quiet --force
    ) >"$tmp/out" 2>"$tmp/err"
    check "exit code" test $? -eq 1
    check "message" grep -q "cannot write" "$tmp/err"
    same "$tmp/old.gguf" "$m" "the file that was there"
    check "no temporary file" test "$(ls "$tmp" | grep -c 'old.gguf.tmp')" -eq 0
fi

if have python3 "a model with latent attention"; then
    test_case "latent attention: other types, no other heads"
    make_others
    expect 1 "deepseek2.gguf: a deepseek2 model caches one row for all heads: there are no KV" \
        convert "$tmp/deepseek2.gguf" "$tmp/latent.gguf" --kv-heads 4
    check "no file" test ! -e "$tmp/latent.gguf"
    expect 0 "" convert "$tmp/deepseek2.gguf" "$tmp/latent.gguf" --type f16
    expect 0 "" info "$tmp/latent.gguf" --json
    check "as it was" grep -q '"kv_lora_rank": 32, "q_lora_rank": 20, .*"type": "f16"' "$tmp/out"
fi
finish
