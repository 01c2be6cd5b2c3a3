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

test_case "a load that fails changes nothing"
printf '%s\n' "Hello" "/stats" "/load $tmp/tpyo" "/stats" "/load $tmp/corpus.txt" "/stats" "Go on" |
    "$run" chat "$m" -n 4 -t 0 -c 200 -s 1 --template chatml >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
check "two failures" test "$(grep -c "the conversation is as it was" "$tmp/err")" -eq 2
states=$(grep "positions" "$tmp/err" | sort | uniq -c | sed 's/^ *//')
check "one state: $states" sh -c "echo '$states' | grep -q '^3 .* 1 answers'"
printf '%s\n' "Hello" "Go on" |
    "$run" chat "$m" -n 4 -t 0 -c 200 -s 1 --template chatml >"$tmp/plain" 2>"$tmp/err"
same "$tmp/out" "$tmp/plain" "the same answers"

test_case "commands that are none, and messages that look like commands"
printf '%s\n' "/save" "/load  " "/reset the counter" "/lod x" "/stats" "/etc/hosts looks wrong" \
    " /lod x" "/stats" |
    "$run" chat "$m" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
says "/save: expected /save FILE"
says "/load: expected /load FILE"
says "/reset takes no argument, got \"the counter\""
says "unknown command /lod (a message that begins so: put a blank before it)"
says " 0 of 200 positions, 0 answers"
says "2 answers"

test_case "a limit on the size of files: no temporary file is left"
printf '%s\n' "Hello" "/save $tmp/limited" |
    (ulimit -f 1 && "$run" chat "$m" -n 4 -c 200 --template chatml) >"$tmp/out" 2>"$tmp/err"
check "SIGXFSZ ends it" test $? -gt 128
check "no file" test "$(ls "$tmp" | grep -c limited)" -eq 0
(ulimit -f 1 && "$run" "$m" -i "The cat" -n 4 --prompt-cache "$tmp/limited") \
    >"$tmp/out" 2>"$tmp/err"
check "SIGXFSZ ends it" test $? -gt 128
check "no file" test "$(ls "$tmp" | grep -c limited)" -eq 0

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
