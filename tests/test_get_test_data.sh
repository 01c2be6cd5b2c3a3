#!/bin/sh
# test_get_test_data.sh: scripts/get-test-data.sh, with no curl and with one that gives wrong bytes.
. tests/checks.sh
script=scripts/get-test-data.sh
data() { sh "$script" "$@" >"$tmp/out" 2>"$tmp/log"; }
says() { check "it does not say \"$1\"" grep -q "$1" "$tmp/out"; }

test_case "an empty folder"
data "$tmp/empty"
check "missing files are an error" not test $? -eq 0
says "^missing: models/stories260K.bin: https://huggingface.co/"
says "^missing: corpus/tinystories_val.txt: the first 797309 bytes of https://"
says "^0 of 7 files"
check "it makes a folder without being asked" test ! -e "$tmp/empty"

test_case "every file that a test asks for is listed"
names='(models|vocab|corpus)/[A-Za-z0-9_-]+\.(bin|gguf|txt)'
cat tests/test_*.c tests/test_golden.sh | grep -oE "$names" |
    grep -vE 'models/stories-(gqa|mha)' | sort -u >"$tmp/asked"
check "only $(wc -l <"$tmp/asked") files in tests" test "$(wc -l <"$tmp/asked")" -ge 7
while read -r file; do says "$file"; done <"$tmp/asked"

test_case "downloading"
mkdir "$tmp/bin"
printf '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho wrong >"$2"\n' >"$tmp/bin/curl"
chmod +x "$tmp/bin/curl"
(PATH="$tmp/bin:$PATH" && data --download "$tmp/new")
check "wrong bytes are an error" not test $? -eq 0
says "^differs: vocab/llama3-bpe.gguf: expected SHA-256 ca9a031a"
check "nothing was downloaded" test -f "$tmp/new/corpus/tinystories_val.txt"

test_case "no folder"
data
check "exit code 2" test $? -eq 2

test_case "the real files"
if [ -n "${GQA_DATA:-}" ]; then
    data "$GQA_DATA"
    says "^ok: "
else skip "GQA_DATA is not set"; fi
finish
