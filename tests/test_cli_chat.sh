#!/bin/sh
# test_cli_chat.sh RUN: conversations through a pipe, their commands, saved ones.
run=$1
. tests/checks.sh
if ! have python3 "conversations: models with templates"; then
    finish
    exit
fi
make_model
# with_template JINJA: $tmp/own.gguf, that model with a template.
with_template() {
    python3 - "$m" "$tmp/own.gguf" "$1" <<'END' || no "a model with a template"
import struct, sys
data, text = open(sys.argv[1], "rb").read(), sys.argv[3].encode()
key = b"tokenizer.chat_template"
text += b"{#" + b" " * (-(len(key) + len(text) + 4 + 20) % 32) + b"#}" # tensors stay aligned
entry = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text
(n,) = struct.unpack_from("<Q", data, 16)
open(sys.argv[2], "wb").write(data[:16] + struct.pack("<Q", n + 1) + entry + data[24:])
END
}
says() { check "chat says \"$1\"" grep -qF -- "$1" "$tmp/err"; }

test_case "commands, and a saved conversation that goes on where it was"
printf '%s\n' "Hello" "/stats" "/nonsense" "" "The dog" "/save $tmp/s" "/reset" "/stats" \
    "/load $tmp/s" "/stats" "/load $tmp/corpus.txt" |
    "$run" chat "$m" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
check "two answers" test "$(wc -l <"$tmp/out")" -ge 2
says "chatml template"
says "unknown command /nonsense"
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
check "one state: $states" sh -c "echo '$states' | grep -q '^3 .* 1 answer$'"
printf '%s\n' "Hello" "Go on" |
    "$run" chat "$m" -n 4 -t 0 -c 200 -s 1 --template chatml >"$tmp/plain" 2>"$tmp/err"
same "$tmp/out" "$tmp/plain" "the same answers"

test_case "messages: saved as JSON, loaded, taken back, answered again"
printf '%s\n' "/system Be kind" "Hello" "The dog" "/save $tmp/j" "/undo" "/context" "/regen" \
    "/think on" "/think off" "/think on" "/template" "/load $tmp/j" "/context" "/stats" "Go on" \
    "/stats" "/exit" "never" |
    "$run" chat "$m" -n 4 -t 0 -c 400 --template chatml >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
says "(system prompt set)"
says "400 positions, 3 messages"
says "400 positions, 5 messages"
says "(thinking: on;"
check "warned once" test "$(grep -c "neither enable_thinking nor thinking" "$tmp/err")" -eq 1
check "four answers" test "$(wc -l <"$tmp/out")" -eq 4
check "answered again as before" test "$(sed -n 1p "$tmp/out")" = "$(sed -n 3p "$tmp/out")"
kept=$(grep "tokens* kept" "$tmp/err" | tail -n 1 | sed 's/last prompt: \([0-9]*\) .*/\1/')
check "what was loaded is kept: $kept tokens" test "$kept" -gt 60
check "the messages in the file" python3 - "$tmp/j.json" "$tmp/out" <<'END'
import json, sys
messages = json.load(open(sys.argv[1]))
answers = open(sys.argv[2], encoding="utf-8", errors="replace").read().split("\n")
assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
assert [m["content"] for m in messages[:2]] == ["Be kind", "Hello"]
assert messages[2]["content"] == answers[0], (messages[2]["content"], answers[0])
END
echo '[{"role": "robot", "content": "x"}]' >"$tmp/j.json"
printf '%s\n' "Hello" "/load $tmp/j" "/context" |
    "$run" chat "$m" -n 4 -t 0 -c 400 --template chatml >"$tmp/out" 2>"$tmp/err"
says "expected an array of messages of system, user and assistant"
says "400 positions, 2 messages"
rm "$tmp/j.json"
printf '%s\n' "/load $tmp/j" "Go on" "/context" "/stats" |
    "$run" chat "$m" -n 4 -t 0 -c 400 --template chatml >"$tmp/out" 2>"$tmp/err"
says "400 positions, 2 messages"
kept=$(grep "tokens* kept" "$tmp/err" | tail -n 1 | sed 's/last prompt: \([0-9]*\) .*/\1/')
check "without messages it goes on from the tokens: $kept" test "$kept" -gt 100

test_case "a session without messages leaves a full context as a whole"
{
    echo "/load $tmp/j"
    for i in 1 2 3 4 5 6; do printf '%s\n' "The dog says $i" "/context"; done
} | "$run" chat "$m" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
check "six answers" test "$(wc -l <"$tmp/out")" -eq 6
check "said once" test "$(grep -c "the oldest messages are left out" "$tmp/err")" -eq 1
check "the last messages stay" grep -q "^1[0-9]* of 200 positions, [2-4] messages" "$tmp/err"

test_case "/save replaces nothing but an earlier session and its messages"
cp "$m" "$tmp/copy.gguf"
echo mine >"$tmp/mine.json"
printf '%s\n' "Hello" "/save $tmp/copy.gguf" "/save $tmp/mine" "/load $tmp/j" "/save $tmp/mine" \
    "/clear" "/save $tmp/twice" "Hello" "/save $tmp/twice" "/load $tmp/j" "/save $tmp/twice" |
    "$run" chat "$m" -n 4 -t 0 -c 400 --template chatml >"$tmp/out" 2>"$tmp/err"
says "copy.gguf: not a saved session; give another name, or remove the file"
same "$m" "$tmp/copy.gguf" "the model is as it was"
refused=$(grep -c "mine.json exists, but no saved session" "$tmp/err")
check "a foreign FILE.json, twice" test "$refused" -eq 2
check "it is as it was" test "$(cat "$tmp/mine.json")" = mine
check "an earlier session is replaced" test "$(grep -c "(saved)" "$tmp/err")" -eq 3
check "its messages too: they are unknown now" test -e "$tmp/twice" -a ! -e "$tmp/twice.json"
printf '%s\n' "Hello" "/save $tmp/s" "The dog" |
    "$run" chat "$m" -n 4 -c 400 --template chatml >"$tmp/out" 2>"$tmp/err"
ln "$tmp/s.json" "$tmp/before.json"
printf '%s\n' "The cat" "/save $tmp/s" |
    "$run" chat "$m" -n 4 -c 400 --template chatml >"$tmp/out" 2>"$tmp/err"
check "another file comes in its place" grep -q "Hello" "$tmp/before.json"
check "whose messages are new" grep -q "The cat" "$tmp/s.json"

test_case "each position is evaluated once in five turns"
for i in 1 2 3 4 5; do printf '%s\n' "The dog says $i" "/stats"; done |
    "$run" chat "$m" -n 4 -t 0 -c 1000 --template chatml >"$tmp/out" 2>"$tmp/err"
evaluated=$(sed -n 's/^last prompt:.* evaluated \([0-9]*\) .*/\1/p' "$tmp/err" | tr '\n' ' ')
# every later prompt: the end of an answer, and a message of the same length
check "as many for each message: $evaluated" sh -c "set -- $evaluated;
    [ \$# -eq 5 ] && [ \$2 -eq \$3 ] && [ \$3 -eq \$4 ] && [ \$4 -eq \$5 ]"

test_case "a template that drops old thoughts, in five turns"
with_template "{% for m in messages %}<|{{ m.role }}|>{{ m.content if loop.last
    else m.content.split('</think>')[-1] }}{% endfor %}<|assistant|>"
{
    for i in 1 2 3 4 5; do printf '%s\n' "The dog says $i" "/stats"; done
    echo "/template"
} | "$run" chat "$tmp/own.gguf" -c 1000 --choice "<think>so it is</think>Good day" \
    >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
evaluated=$(sed -n 's/^last prompt:.* evaluated \([0-9]*\) .*/\1/p' "$tmp/err" | tr '\n' ' ')
# every later prompt: the last answer without its thought, and a message of the same length
check "as many for each message: $evaluated" sh -c "set -- $evaluated;
    [ \$# -eq 5 ] && [ \$2 -eq \$3 ] && [ \$3 -eq \$4 ] && [ \$4 -eq \$5 ]"
check "one thought is left" test "$(grep -o "<think>" "$tmp/err" | wc -l)" -eq 1

test_case "the oldest messages leave a full context"
for i in 1 2 3 4 5 6; do printf '%s\n' "The dog says $i" "/context"; done |
    "$run" chat "$m" -y "Be kind" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
check "six answers" test "$(wc -l <"$tmp/out")" -eq 6
check "said once" test "$(grep -c "the oldest messages are left out" "$tmp/err")" -eq 1
check "the system message stays, and the last ones" \
    grep -q "^1[0-9]* of 200 positions, [3-5] messages" "$tmp/err"

test_case "thoughts"
i=0
while [ $i -lt 60 ]; do
    printf 'User: Hello\nAssistant: <think>so it is</think>\n\nGood day<|endoftext|>'
    i=$((i + 1))
done >"$tmp/thoughts"
check "train" "$run" train "$tmp/t.gguf" -f "$tmp/thoughts" --vocab 300 --batch 4 --length 32 \
    --shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=128 --steps 200 --quiet
say() { echo "Hello" | "$run" chat "$tmp/t.gguf" --template plain --quiet -t 0 -n 40 "$@"; }
check "shown" test "$(say | head -n 1)" = " <think>so it is</think>"
check "hidden" test "$(say --no-show-think)" = " Good day"

test_case "thoughts between control tokens"
sed 's/User: Hello/[INST]Hello[\/INST]/; s/.*<think>/{/; s/<.think>/}/' "$tmp/thoughts" \
    >"$tmp/braces"
check "train" "$run" train "$tmp/b.gguf" -f "$tmp/braces" --vocab 300 --batch 4 --length 32 \
    --shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=128 --steps 200 --quiet
# The tokens { and } become [THINK] and [/THINK]; another name keeps the header's size a multiple.
python3 - "$tmp/b.gguf" "$tmp/t.gguf" >"$tmp/log" 2>&1 <<'END' || no "a file with control tokens"
import struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
types = data.index(b"tokenizer.ggml.token_type") + 25 + 4 + 4 + 8
at = data.index(b"tokenizer.ggml.tokens") + 21 + 4 + 4
names = {b"{": b"[THINK]", b"}": b"[/THINK]", b"<0x01>": b"x" * 25}
(n,) = struct.unpack_from("<Q", data, at)
at += 8
edits = []
for i in range(n):
    (size,) = struct.unpack_from("<Q", data, at)
    if (name := bytes(data[at + 8:at + 8 + size])) in names:
        edits.append((at, size, names[name]))
        data[types + 4 * i] = 3
    at += 8 + size
for at, size, name in reversed(edits):
    data[at:at + 8 + size] = struct.pack("<Q", len(name)) + name
open(sys.argv[2], "wb").write(data)
END
say() { echo "Hello" | "$run" chat "$tmp/t.gguf" --template mistral --quiet -t 0 -n 40 "$@"; }
check "shown" test "$(say | sed -n 2p)" = "[THINK]so it is[/THINK]"
check "hidden" test "$(say --no-show-think | tr -d '\n')" = "Good day"

with_template '{{ messages[-1].content }}<think>'
echo "Hello" | "$run" chat "$tmp/own.gguf" --no-show-think --choice "Yes" --quiet \
    >"$tmp/out" 2>"$tmp/err"
check "a choice is shown even so" test "$(cat "$tmp/out")" = Yes

test_case "the template is no repeated text"
i=0
while [ $i -lt 60 ]; do
    printf 'User: OK\nAssistant:\nAssistant<|endoftext|>'
    i=$((i + 1))
done >"$tmp/roles"
check "train" "$run" train "$tmp/r.gguf" -f "$tmp/roles" --vocab 300 --batch 4 --length 32 \
    --shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=128 --steps 200 --quiet
say() {
    echo "$1" | "$run" chat "$tmp/r.gguf" --template plain --quiet -t 0 -n 12 --repeat-penalty "$2"
}
check "the name of a role" test "$(say OK 100)" = "$(printf '\nAssistant')"
say Assistant 1 >"$tmp/out"
check "in a message" grep -q Assistant "$tmp/out"
say Assistant 100 >"$tmp/out"
check "which is counted" not grep -q Assistant "$tmp/out"

test_case "zero bytes are left out"
printf 'The\000 dog\n/template\n' >"$tmp/in"
echo '[{"role": "user", "content": "The\u0000 dog"}, {"role": "assistant", "content": "x"}]' \
    >"$tmp/s.json"
printf '/load %s\n/template\n' "$tmp/s" >>"$tmp/in"
"$run" chat "$m" -n 1 -t 0 -c 400 --template chatml <"$tmp/in" >"$tmp/out" 2>"$tmp/err"
check "typed, and loaded" test "$(grep -c "^The dog<" "$tmp/err")" -eq 2

test_case "commands that are none, and messages that look like commands"
printf '%s\n' "/think foo" "/HELP" "/temp 1" "/save" "/load  " "/reset the counter" "/lod x" \
    "/regenerate" "/stats" "/etc/hosts looks wrong" " /lod x" "/stats" |
    "$run" chat "$m" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
says "end the conversation"
says "unknown command /temp (/help lists them"
says "/think: expected on, off or auto, got \"foo\""
says "/save: expected /save FILE"
says "/load: expected /load FILE"
says "/reset takes no argument, got \"the counter\""
says "unknown command /lod, did you mean /load? (/help lists them; a message that begins so:"
says "unknown command /regenerate, did you mean /regen?"
says " 0 of 200 positions, 0 answers"
says "2 answers"

test_case "other names of commands"
for word in /exit /quit /bye; do
    printf '%s\n' "$word" "never" | "$run" chat "$m" -n 4 --quiet >"$tmp/out" 2>"$tmp/err"
    check "$word" test $? -eq 0 -a ! -s "$tmp/out" -a ! -s "$tmp/err"
done
printf '%s\n' "Hello" "/regen" "/retry" "/clear" "/reset" "/new" "/?" |
    "$run" chat "$m" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err"
check "an answer" test "$(wc -l <"$tmp/out")" -eq 3
check "three times the same" test "$(sort -u "$tmp/out" | wc -l)" -eq 1
check "three new conversations" test "$(grep -c "a new conversation" "$tmp/err")" -eq 3
says "end the conversation"

test_case "a limit on the size of files: no temporary file is left"
if posix "SIGXFSZ"; then
    printf '%s\n' "Hello" "/save $tmp/limited" |
        (ulimit -f 1 && "$run" chat "$m" -n 4 -c 200 --template chatml) >"$tmp/out" 2>"$tmp/err"
    check "SIGXFSZ ends it" test $? -gt 128
    check "no file" test "$(ls "$tmp" | grep -c limited)" -eq 0
    (ulimit -f 1 && "$run" "$m" -i "The cat" -n 4 --prompt-cache "$tmp/limited") \
        >"$tmp/out" 2>"$tmp/err"
    check "SIGXFSZ ends it" test $? -gt 128
    check "no file" test "$(ls "$tmp" | grep -c limited)" -eq 0
fi

test_case "what is taken back after a session without its messages is not saved"
chatml="$run chat $m -n 4 -t 0 -c 200 --template chatml"
printf '%s\n' "Hello" "/save $tmp/h" | $chatml >"$tmp/out" 2>"$tmp/err"
rm "$tmp/h.json"
printf '%s\n' "/load $tmp/h" "/context" "My secret is 42" "/undo" "/context" "/save $tmp/h" \
    "/clear" "/load $tmp/h" "/context" "/template" "The dog" "And" "/undo" "/template" |
    $chatml >"$tmp/out" 2>"$tmp/err"
positions=$(sed -n 's/^\([0-9]*\) of 200 positions, 0 messages$/\1/p' "$tmp/err" | uniq)
check "as many positions three times: $positions" test "${positions:-0}" -gt 9
check "no secret" not grep -q "secret" "$tmp/err"
check "an earlier message stays" test "$(grep -c "The dog" "$tmp/err")" -eq 1
check "it was answered" test "$(wc -l <"$tmp/out")" -eq 3
echo 3 >"$tmp/h.json"
echo "/load $tmp/h" | $chatml >"$tmp/out" 2>"$tmp/err"
says "h.json: expected an array of messages, got something else"
says "(the conversation is as it was)"

test_case "a message that does not fit"
echo "Hello there my friend, how do you do this fine day?" |
    "$run" chat "$m" -c 16 >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 1
says "context full"
long=$(printf '%0300d' 0)
printf '%s\n' "/system Be" "Hello" "The dog" "/context" "$long" "/context" "/system $long" \
    "/regen" "/context" "/system Be" "/undo" "/context" |
    "$run" chat "$m" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err"
check "two answers" test "$(wc -l <"$tmp/out")" -eq 2
check "neither it nor /regen changes the conversation" \
    test "$(grep -c "200 positions, 5 messages" "$tmp/err")" -eq 3
says "200 positions, 3 messages"

test_case "no template, nothing to say, wrong usage"
expect 0 "no chat template" chat "$m" -i Hello -n 3
expect 2 "--stop: the text is empty" chat "$m" -i Hello --stop ""
expect 0 "no chat template" chat "$m" Hello -n 3 --choice Yes
check "an answer" test "$(wc -l <"$tmp/out")" -eq 1
expect 2 "give the first message once" chat "$m" Hello -i Hello
"$run" chat "$m" --quiet </dev/null >"$tmp/out" 2>"$tmp/err"
check "exit code" test $? -eq 0
check "no output" test ! -s "$tmp/out" -a ! -s "$tmp/err"
expect 2 "--template" chat "$m" --template best
expect 2 "--date today: expected a date" chat "$m" --date today
with_template '{% set m = messages[-1].content %}{{ raise_exception("no") if m == "No" }}{{ m }}'
printf '%s\n' "Yes" "No" "Yes" | "$run" chat "$tmp/own.gguf" --choice Yes >"$tmp/out" 2>"$tmp/err"
check "an unanswered message is a failure at the end" test $? -eq 1 -a "$(wc -l <"$tmp/out")" -eq 2
expect 1 "run: no" chat "$tmp/own.gguf" -i "No" </dev/null
expect 0 "the answer is cut; -c N gives more" chat "$tmp/own.gguf" -i "Yes" -n 0 -c 16 \
    --ignore-eos </dev/null
expect 2 "model" chat
finish
