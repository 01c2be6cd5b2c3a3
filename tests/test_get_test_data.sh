#!/bin/sh
# test_get_test_data.sh: scripts/get-test-data.sh, with no curl and with one that gives wrong bytes.
. tests/checks.sh
script=scripts/get-test-data.sh
data() { sh "$script" "$@" >"$tmp/out" 2>"$tmp/log"; }
says() { grep -q "$1" "$tmp/out" && ok || no "it does not say \"$1\""; }

test_case "an empty folder"
data "$tmp/empty" && no "it succeeds" || ok
says "^missing: models/stories260K.bin: https://huggingface.co/"
says "^missing: corpus/tinystories_val.txt: the first 797309 bytes of https://"
says "^0 of 7 files"
[ ! -e "$tmp/empty" ] && ok || no "it makes a folder without being asked"

test_case "every file that a test asks for is listed"
names='(models|vocab|corpus)/[A-Za-z0-9_-]+\.(bin|gguf|txt)'
cat tests/test_*.c tests/test_golden.sh | grep -oE "$names" |
    grep -vE 'models/stories-(gqa|mha)' | sort -u >"$tmp/asked"
[ "$(wc -l <"$tmp/asked")" -ge 7 ] && ok || no "only $(wc -l <"$tmp/asked") files in tests"
while read -r file; do says "$file"; done <"$tmp/asked"

test_case "downloading"
mkdir "$tmp/bin"
printf '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho wrong >"$2"\n' >"$tmp/bin/curl"
chmod +x "$tmp/bin/curl"
(PATH="$tmp/bin:$PATH" && data --download "$tmp/new") && no "it succeeds with wrong bytes" || ok
says "^differs: vocab/llama3-bpe.gguf: expected SHA-256 ca9a031a"
[ -f "$tmp/new/corpus/tinystories_val.txt" ] && ok || no "nothing was downloaded"

test_case "no folder"
data && no "it succeeds" || [ $? -eq 2 ] && ok || no "another exit code than 2"

test_case "the real files"
if [ -n "${GQA_DATA:-}" ]; then
    data "$GQA_DATA"
    says "^ok: "
else skip "GQA_DATA is not set"; fi
finish
