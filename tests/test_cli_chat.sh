#!/bin/sh
# test_cli_chat.sh RUN: conversations through a pipe, their commands, saved ones.
run=$1
. tests/checks.sh
make_model
says() { check "chat says \"$1\"" grep -qF -- "$1" "$tmp/err"; }

test_case "commands, and a saved conversation that goes on where it was"
printf '%s\n' "Hello" "/stats" "/nonsense" "" "The dog" "/save $tmp/s" "/reset" "/stats" \
    "/load $tmp/s" "/stats" "/load $tmp/corpus.txt" |
    "$run" chat "$m" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
check "two answers" test "$(wc -l <"$tmp/out")" -ge 2
says "chatml template"
says "unknown command /nonsense"
says "/reset "
says "(saved)"
says "a new conversation"
says " 0 of 200"
says "(loaded: "
says "not a saved session"

test_case "a message that does not fit"
echo "Hello there my friend, how do you do this fine day?" |
    "$run" chat "$m" -c 16 >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
says "context full"

test_case "no template, nothing to say, wrong usage"
expect 0 "no chat template" chat "$m" -i Hello -n 3
"$run" chat "$m" --quiet </dev/null >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
check "no output" test ! -s "$tmp/out" -a ! -s "$tmp/err"
expect 2 "--template" chat "$m" --template best
expect 2 "model" chat
finish
