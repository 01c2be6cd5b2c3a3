#!/bin/sh
# windows_held.sh RUN COMPILER: Windows does not replace a file that a program has open or mapped:
# then `convert` and `train` say so, leave it as it is and nothing temporary beside it, and work
# when it is free. Builds windows_held.c, with MinGW; under Wine.
run=$1
compiler=$2
. tests/checks.sh
make_corpus
check "windows_held.c" "$compiler" -std=c11 -Wall -Werror -o "$tmp/held.exe" tests/windows_held.c
mkdir "$tmp/models"
out=$tmp/models/out.gguf
train="train $out -f $tmp/corpus.txt --force --quiet $small"

# hold HOW: $out, until `release`.
hold() {
    rm -f "$tmp/end"
    mkfifo "$tmp/end"
    : >"$tmp/held" # not what the one before wrote
    wine "$tmp/held.exe" "$1" "$out" <"$tmp/end" >"$tmp/held" 2>/dev/null &
    exec 3>"$tmp/end"
    check "the file is held" wait_for grep held "$tmp/held"
}
release() {
    exec 3>&-
    wait $!
    check "it was held to the end" test $? -eq 0
}
# refused NAMES ARGUMENTS...: $out stays the model it was; NAMES are all that is in its folder.
refused() {
    names=$1
    shift
    expect 1 "out.gguf: cannot write: Permission denied; another program may have it open" "$@"
    same "$out" tests/models/stories-gqa.gguf "$1: the old file"
    check "$1: files: $(ls "$tmp/models")" test "$(echo $(ls "$tmp/models"))" = "$names"
}

for how in open mapped; do
    test_case "a file that is $how"
    cp tests/models/stories-gqa.gguf "$out"
    hold $how
    refused "out.gguf" convert --force tests/models/stories-mha.gguf "$out"
    refused "out.gguf out.gguf.state" $train --steps 2
    release
    expect 0 "" $train --steps 2
    check "train: what was trained is written" not cmp -s "$out" tests/models/stories-gqa.gguf
    check "no state is left" test ! -e "$out.state"
    expect 0 "" convert --force tests/models/stories-mha.gguf "$out"
done
finish
