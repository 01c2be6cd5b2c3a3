#!/bin/sh
# test_cli.sh RUN: what the program promises at the terminal: exit codes, strict options, clean output, full disks, closed
# pipes, signals. On a model that `run train` makes in a second, so train's promises are here as well.
run=$1
. tests/checks.sh

make_corpus
m=$tmp/m.gguf
shape="--shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=32 --vocab 320 --batch 4"
expect 0 "tokens in 60 documents" train "$m" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --steps 30
grep -q "bits a byte" "$tmp/out" && ok || no "train reports bits a byte"
[ ! -e "$m.state" ] && ok || no "a finished run leaves no state"

# Training: stopped and resumed equals not stopped; another setting is refused.
expect 0 "stopped at step 11" train "$tmp/r.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --steps 30 --stop-after 11
[ -e "$tmp/r.gguf.state" ] && [ ! -e "$tmp/r.gguf" ] && ok || no "the state is there, the model not yet"
expect 1 "gqa.train.steps" train "$tmp/r.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --steps 40
expect 0 "going on" train "$tmp/r.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --steps 30 -j 1
"$run" "$m" -t 0 -n 20 --quiet >"$tmp/a" 2>&1; "$run" "$tmp/r.gguf" -t 0 -n 20 --quiet >"$tmp/b" 2>&1
same "$tmp/a" "$tmp/b" "a resumed run makes another model"
if command -v timeout >/dev/null; then
    timeout --preserve-status -s TERM 2 "$run" train "$tmp/k.gguf" -f "$tmp/corpus.txt" $shape --steps 1000000 --quiet 2>"$tmp/err"
    [ $? -eq 130 ] && [ -e "$tmp/k.gguf.state" ] && ok || no "a terminated run saves its state and exits with 130"
else skip "no timeout command"; fi
expect 2 "-f" train "$tmp/x.gguf"
expect 1 "nofile" train "$tmp/x.gguf" -f "$tmp/nofile"
expect 1 "/nonexistent/x.gguf" train /nonexistent/x.gguf -f "$tmp/corpus.txt" $shape --steps 1 --quiet
expect 2 "type" train "$tmp/x.gguf" -f "$tmp/corpus.txt" --type q9
expect 2 "--dropout" train "$tmp/x.gguf" -f "$tmp/corpus.txt" --dropout 0.95
expect 0 "" train "$tmp/d.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --steps 30 --dropout 0.5 --quiet
cmp -s "$tmp/d.gguf" "$m" && no "dropout changes nothing" || ok

# Uptraining: half of the parent's 30 steps, pooled to MQA, with and without the parent as a teacher; a fraction of 0 only pools.
expect 0 "step 15:" uptrain "$m" "$tmp/u.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" --kv-heads 1 --fraction 0.5 --eval-every 5
expect 0 "" uptrain "$m" "$tmp/u.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" --kv-heads 1 --pool aligned --fraction 0.5 --distill 0.5 --json --quiet
grep -q '"steps": 15' "$tmp/out" && ok || no "uptrain --json"
expect 0 "" info "$tmp/u.gguf"
grep -q MQA "$tmp/out" && ok || no "uptrained to MQA"
expect 0 "" uptrain "$m" "$tmp/z.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" --kv-heads 1 --fraction 0 --quiet --type f32
"$run" convert "$m" "$tmp/y.gguf" --kv-heads 1 --quiet
"$run" perplexity "$tmp/z.gguf" -f "$tmp/corpus.txt" -c 32 >"$tmp/a" 2>&1; "$run" perplexity "$tmp/y.gguf" -f "$tmp/corpus.txt" -c 32 >"$tmp/b" 2>&1
[ "$(cut -c1-9 "$tmp/a")" = "$(cut -c1-9 "$tmp/b")" ] && ok || no "no uptraining is conversion: $(cat "$tmp/a" "$tmp/b")"
expect 1 "divisor" uptrain "$m" "$tmp/x.gguf" -f "$tmp/corpus.txt" --kv-heads 3 --quiet
expect 2 "kv-heads" uptrain "$m" "$tmp/x.gguf" -f "$tmp/corpus.txt"

# Usage: code 2, and a word about what was wrong.
expect 2 "usage"
expect 2 "--nonsense" "$m" --nonsense
expect 2 "12x" "$m" -n 12x
expect 2 "-j" "$m" -j -1
expect 0 "" "$m" -j 0 -n 3 # as many threads as are useful
expect 2 "-n" "$m" -n
expect 2 "-t" "$m" -t -1
expect 2 "-p" "$m" -p 1.01
expect 2 "nan" "$m" -t nan
expect 2 "99999999999" "$m" -n 99999999999
expect 2 "0x10" "$m" -n 0x10
expect 2 "" "$m" another-model
expect 0 "" --help
expect 0 "" --version
expect 0 "" generate --help
grep -q -- "--top-k" "$tmp/out" && ok || no "help lists the options"
[ -s "$tmp/err" ] && no "help goes to stdout" || ok

# Files that cannot be a model: code 1, and the file's name.
expect 1 "$tmp/none.gguf" "$tmp/none.gguf"
expect 1 "directory" "$tmp"
: >"$tmp/empty"; expect 1 "empty" "$tmp/empty"
expect 1 "corpus.txt" "$tmp/corpus.txt"
cp "$m" "$tmp/locked"; chmod 0 "$tmp/locked"
if [ "$(id -u)" -ne 0 ]; then expect 1 "ermission" "$tmp/locked"
else # root reads everything: then as another user, with the program in a folder open to all
    mkdir "$tmp/open"; cp "$run" "$tmp/open/run"; mv "$tmp/locked" "$tmp/open/"; chmod 755 "$tmp" "$tmp/open" "$tmp/open/run"
    nobody() { setpriv --reuid 65534 --clear-groups "$tmp/open/run" "$@" >"$tmp/out" 2>"$tmp/err"; }
    if nobody --version; then
        nobody "$tmp/open/locked"; got=$?
        [ $got -eq 1 ] && grep -q "$tmp/open/locked: cannot open: .*ermission" "$tmp/err" && ok || no "unreadable file: code $got"
    else skip "unreadable file: root reads everything, and setpriv cannot make it nobody"; fi
fi
if command -v mkfifo >/dev/null && command -v timeout >/dev/null; then # a FIFO that nobody writes to is refused, not waited for
    mkdir "$tmp/llama2c"; cp tests/fuzz/seeds/model/llama2c-v1 "$tmp/llama2c/model.bin"; mkfifo "$tmp/fifo" "$tmp/llama2c/tokenizer.bin"
    for arguments in "$tmp/fifo" "info $tmp/fifo" "convert $tmp/fifo $tmp/x.gguf" "$tmp/llama2c/model.bin" "$tmp/llama2c/model.bin -z $tmp/fifo"; do
        timeout 5 "$run" $arguments >"$tmp/out" 2>"$tmp/err"; got=$?
        [ $got -eq 1 ] && grep -q "not a regular file" "$tmp/err" && ok || no "FIFO: run $arguments: code $got"
    done
else skip "FIFO: no mkfifo or no timeout"; fi
expect 1 "q9" "$m" --kv q9

# Text on stdout and nothing else; statistics on stderr; one seed, one text, for any number of threads.
expect 0 "tok/s" "$m" -i "The cat" -n 12 -s 7 -j 1
cp "$tmp/out" "$tmp/a"
expect 0 "seed 7" "$m" -i "The cat" -n 12 -s 7 -j 2
same "$tmp/out" "$tmp/a" "the seed gives the same text with 2 threads"
grep -q "^The cat" "$tmp/out" && ok || no "the prompt stands before its continuation"
expect 0 "" "$m" -i "The cat" -n 12 --quiet
[ -s "$tmp/err" ] && no "--quiet is quiet" || ok
seed=$("$run" "$m" -n 12 2>&1 >"$tmp/a" | sed -n 's/.*seed \([0-9]*\).*/\1/p' | head -n 1)
"$run" "$m" -n 12 -s "${seed:-x}" >"$tmp/b" 2>/dev/null
same "$tmp/a" "$tmp/b" "the seed that was printed ($seed) gives the same text again"
echo "The cat" >"$tmp/prompt"
printf 'The cat' | "$run" "$m" -f - -t 0 -n 8 --quiet >"$tmp/a" 2>"$tmp/err" && ok || no "prompt from stdin"
"$run" "$m" -i "The cat" -t 0 -n 8 --quiet >"$tmp/b" 2>&1
same "$tmp/a" "$tmp/b" "a prompt from stdin and one from -i"
"$run" "$m" -i "The cat" -t 0 -n 8 --quiet <&- >"$tmp/b" 2>&1 && cmp -s "$tmp/a" "$tmp/b" && ok || no "stdin closed"
"$run" "$m" -i "The cat" -t 0 -n 8 --json --quiet >"$tmp/json" 2>"$tmp/err"
if command -v python3 >/dev/null; then python3 -c 'import json,sys; json.load(open(sys.argv[1]))' "$tmp/json" && ok || no "--json is JSON"; else skip "no python3"; fi

# The context: full is a clean stop that says so; a prompt that does not fit is refused.
expect 0 "context" "$m" -i "The cat" -c 16 -n 0 --ignore-eos
expect 1 "context" "$m" -f "$tmp/corpus.txt" -c 16

# Output that cannot be written.
if [ -e /dev/full ]; then
    "$run" "$m" -n 20 >/dev/full 2>"$tmp/err"; [ $? -eq 1 ] && grep -q "cannot write" "$tmp/err" && ok || no "/dev/full"
    "$run" info "$m" >/dev/full 2>"$tmp/err"; [ $? -eq 1 ] && grep -q "cannot write" "$tmp/err" && ok || no "info >/dev/full"
    expect 1 "not a regular file" train /dev/full -f "$tmp/corpus.txt" $shape --steps 1 --quiet
    [ -c /dev/full ] && ok || no "the device is still there"
else skip "no /dev/full"; fi
# A closed pipe, `| head`: no error to tell. SIGPIPE ends the program (141 to the shell); where it is ignored, the write fails: 1.
piped() { { "$@" 2>"$tmp/err"; echo $? >"$tmp/code"; } | head -c 5 >/dev/null; }
piped yes; yes=$(cat "$tmp/code") # 141 as well, unless whoever started us ignores SIGPIPE
piped "$run" "$m" -c 100000 -n 0 --ignore-eos --quiet
[ -s "$tmp/err" ] && no "a closed pipe is no error to tell" || ok
[ "$yes" -ne 141 ] || [ "$(cat "$tmp/code")" -eq 141 ] && ok || no "a closed pipe: code $(cat "$tmp/code"), expected 141"
(trap '' PIPE; piped "$run" "$m" -c 100000 -n 0 --ignore-eos --quiet)
[ "$(cat "$tmp/code")" -eq 1 ] && [ ! -s "$tmp/err" ] && ok || no "a closed pipe, SIGPIPE ignored: code $(cat "$tmp/code"), expected 1"

# Ctrl-C ends a generation with 130, and what was said stays said.
if command -v timeout >/dev/null; then
    timeout --preserve-status -s INT 1 "$run" "$m" -c 4000000 -n 0 --ignore-eos >"$tmp/out" 2>"$tmp/err"; got=$?
    [ $got -eq 130 ] && [ -s "$tmp/out" ] && ok || no "Ctrl-C: code $got"
fi

# A model file that is cut off while it is in use.
cp models/stories-gqa.gguf "$tmp/cut.gguf"
"$run" "$tmp/cut.gguf" --no-repack -c 100000 -n 0 --ignore-eos >/dev/null 2>"$tmp/err" &
pid=$!
sleep 1; : >"$tmp/cut.gguf"
wait $pid; got=$?
[ $got -eq 1 ] && grep -q "truncated" "$tmp/err" && ok || no "a file cut off: code $got"

# The other commands.
expect 0 "" info "$m"
grep -qi "kv" "$tmp/out" && ok || no "info tells the KV cache's size"
expect 0 "" tokenize "$m" -i "The cat"
grep -Eq '^[0-9]' "$tmp/out" && ok || no "tokenize prints ids"
expect 0 "" perplexity "$m" -f "$tmp/corpus.txt" -c 32
grep -q "^PPL = " "$tmp/out" && ok || no "perplexity"
expect 1 "" perplexity "$m" -f "$tmp/prompt" -c 32
expect 2 "" perplexity "$m"

# Conversation: through a pipe; commands; a saved conversation goes on where it was.
printf 'Hello\n/stats\n/nonsense\n\nThe dog\n/save %s\n/reset\n/stats\n/load %s\n/stats\n/load %s\n' "$tmp/s" "$tmp/s" "$tmp/corpus.txt" |
    "$run" chat "$m" -n 4 -t 0 -c 200 --template chatml >"$tmp/out" 2>"$tmp/err" && ok || no "chat through a pipe"
[ "$(wc -l <"$tmp/out")" -ge 2 ] && ok || no "two answers"
for word in "chatml template" "no command /nonsense" "/reset  begin" "(saved)" "a new conversation" " 0 of 200" "(loaded: " "not a saved session"; do
    grep -qF -- "$word" "$tmp/err" && ok || no "chat does not say \"$word\""
done
printf 'Hello there my friend, how do you do this fine day?\n' | "$run" chat "$m" -c 16 >"$tmp/out" 2>"$tmp/err" && grep -q "filled its context" "$tmp/err" && ok || no "a message that does not fit"
expect 0 "no chat template" chat "$m" -i Hello -n 3
"$run" chat "$m" --quiet </dev/null >"$tmp/out" 2>"$tmp/err" && [ ! -s "$tmp/out" ] && [ ! -s "$tmp/err" ] && ok || no "chat with nothing to say"
expect 2 "--template" chat "$m" --template best
expect 2 "which model" chat

# Comparison: a small shape, a model with a text, as a table, CSV, JSON and chart.
expect 0 "" compare --shape dim=64,layers=1,heads=4,ffn=64,vocab=100 --kv-heads 4,2,1 --depths 0,64 -n 4 --prompt 16 --reps 2
for word in MHA GQA-2 MQA MLA; do grep -q "^$word" "$tmp/out" && ok || no "compare has no row $word"; done
expect 0 "" compare "$m" --kv-heads 2,1 --pool aligned -f "$tmp/corpus.txt" -c 32 --chunks 4 --depths 0,8 -n 4 --prompt 16 --reps 2 --kv f16,f32 --csv --svg "$tmp/c.svg"
[ "$(wc -l <"$tmp/out")" -eq 9 ] && ok || no "compare --csv: 2 variants x 2 caches x 2 depths and a head"
expect 0 "" compare "$m" --kv-heads 2,1 -f "$tmp/corpus.txt" -c 32 --chunks 4 --depths 0,8 -n 4 --prompt 16 --reps 1 --kv f32 --json
if command -v python3 >/dev/null; then
    python3 -c 'import json,sys; v=json.load(open(sys.argv[1]))["variants"]; assert [x["kv_heads"] for x in v]==[2,1] and v[0]["caches"][0]["kl_to_f32"]==0 and v[0]["caches"][0]["bytes_per_position"]==2*2*2*16*4' "$tmp/out" && ok || no "compare --json"
    python3 -c 'import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])' "$tmp/c.svg" && ok || no "compare --svg is no XML"
fi
expect 2 "divide" compare "$m" --kv-heads 3 --depths 0
expect 2 "rising" compare "$m" --kv-heads 2 --depths 8,4
expect 2 "perplexity" compare --shape dim=64 --kv-heads 1 -f "$tmp/corpus.txt"

# Conversion: MQA by two ways, other types, and what cannot be.
expect 0 "1 KV heads, pooled by aligned" convert "$m" "$tmp/mqa.gguf" --kv-heads 1 --pool aligned -f "$tmp/corpus.txt" --type q8_0
expect 0 "" info "$tmp/mqa.gguf"
grep -q MQA "$tmp/out" && ok || no "info says MQA"
expect 0 "" "$tmp/mqa.gguf" -n 5
expect 0 "repacked" convert "$m" "$tmp/p.gguf" --packed
expect 0 "" "$tmp/p.gguf" -n 8 -t 0; cp "$tmp/out" "$tmp/a"
rm "$tmp/p.gguf.packed"; expect 0 "" "$tmp/p.gguf" -n 8 -t 0
same "$tmp/out" "$tmp/a" "packed weights make another text"
expect 0 "repacked" convert "$tmp/p.gguf" --packed
[ -s "$tmp/p.gguf.packed" ] && ok || no "convert IN --packed writes IN.packed"
expect 1 "divisor" convert "$m" "$tmp/x.gguf" --kv-heads 3
expect 2 "--pool" convert "$m" "$tmp/x.gguf" --kv-heads 1 --pool best
expect 2 "write" convert "$m"
[ ! -e "$tmp/x.gguf" ] && ok || no "a refused conversion leaves no file"
cp "$m" "$tmp/old.gguf" # a full disk, here a limit on the size of files: told, and the file that stood there stays whole
(trap '' XFSZ; ulimit -f 16; "$run" convert "$m" "$tmp/old.gguf" --type f32 --quiet) >"$tmp/out" 2>"$tmp/err"; got=$?
[ $got -eq 1 ] && grep -q "cannot write" "$tmp/err" && ok || no "full disk: code $got"
same "$tmp/old.gguf" "$m" "a full disk harms the file that was there"
[ "$(ls "$tmp" | grep -c 'old.gguf.tmp')" -eq 0 ] && ok || no "a full disk leaves a piece of a file"

finish
