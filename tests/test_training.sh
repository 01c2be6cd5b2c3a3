#!/bin/sh
# test_training.sh RUN: what `run train` promises when it is interrupted: killed and terminated runs that go on end with the same
# bytes, the text must stay the same, a log that cannot be written is told.
case $1 in /*) run=$1 ;; *) run=$PWD/$1 ;; esac
. tests/checks.sh
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$tmp"' EXIT

make_corpus
sed 's/number 37/number 73/' "$tmp/corpus.txt" >"$tmp/other.txt"
shape="--shape dim=16,layers=1,heads=2,kv_heads=1,head_dim=8,ffn=32,context=16 --vocab 300 --batch 2"

# OUT records the command, so the words must be the same everywhere: each run has a folder of its own, where it writes m.gguf.
train() { # FOLDER; for a subshell: it becomes the run
    cd "$tmp/$1" && exec "$run" train m.gguf -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --dropout 0.1 --save-every 1 -j 1 --steps "$steps" \
        >"$tmp/out" 2>"$tmp/err"
}
# interrupt FOLDER SIGNAL: a run that gets the signal some steps after it wrote its state (anew); code: how it ended.
interrupt() {
    mkdir -p "$tmp/$1"
    state=$tmp/$1/m.gguf.state
    before=$(ls -i "$state" 2>/dev/null)
    train "$1" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        [ -e "$state" ] && [ "$(ls -i "$state" 2>/dev/null)" != "$before" ] && sleep 0.2 && break
        sleep 0.1
    done
    kill -"$2" "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null; code=$?; pid=
}

# Killed (nothing is left but the last state, and another half-written one perhaps) and terminated (it saves first); so many steps
# that neither run ends before its state is written, whatever the machine.
steps=4000
while :; do
    interrupt killed KILL; killed=$code
    interrupt stopped TERM; stopped=$code
    if { [ "$killed" -ne 0 ] && [ "$stopped" -ne 0 ]; } || [ $steps -gt 200000 ]; then break; fi
    rm -rf "$tmp/killed" "$tmp/stopped"
    steps=$((steps * 2))
done
[ "$killed" -eq 137 ] && [ -e "$tmp/killed/m.gguf.state" ] && [ ! -e "$tmp/killed/m.gguf" ] && ok || no "a killed run leaves its state: exit code $killed"
[ "$stopped" -eq 130 ] && [ -e "$tmp/stopped/m.gguf.state" ] && [ ! -e "$tmp/stopped/m.gguf" ] && ok || no "a terminated run leaves its state: exit code $stopped"
interrupt killed KILL # once more, if it does not reach its end
grep -q "going on with a saved run" "$tmp/err" && ok || no "a killed run is gone on with"
for how in killed stopped; do
    [ -e "$tmp/$how/m.gguf" ] || (train $how) || no "$how: cannot be gone on with"
    grep -q "going on with a saved run" "$tmp/err" && ok || no "$how: began anew"
    [ ! -e "$tmp/$how/m.gguf.state" ] && ok || no "$how: a finished run leaves its state"
done
mkdir "$tmp/whole"
(train whole) || no "a run of $steps steps"
same "$tmp/whole/m.gguf" "$tmp/killed/m.gguf" "killed and gone on with: other bytes than in one run of $steps steps"
same "$tmp/whole/m.gguf" "$tmp/stopped/m.gguf" "terminated and gone on with: other bytes than in one run of $steps steps"

# A run goes on with the text it began with, however small the difference; what it is measured on may change.
m=$tmp/m.gguf
expect 0 "stopped at step 5" train "$m" -f "$tmp/corpus.txt" $shape --steps 20 --stop-after 5
expect 1 "m.gguf.state: the saved run learns from a different text" train "$m" -f "$tmp/other.txt" $shape --steps 20
grep -q -- "--restart forgets it" "$tmp/err" && [ -e "$m.state" ] && ok || no "the way out is told and the state kept"
expect 1 "a different text" train "$m" -f "$tmp/corpus.txt" -f "$tmp/other.txt" $shape --steps 20
expect 0 "going on" train "$m" -f "$tmp/corpus.txt" --val "$tmp/other.txt" $shape --steps 20
expect 0 "stopped at step 5" train "$tmp/r.gguf" -f "$tmp/corpus.txt" $shape --steps 20 --stop-after 5
expect 0 "" train "$tmp/r.gguf" -f "$tmp/other.txt" $shape --steps 20 --restart --quiet
expect 0 "stopped at step 5" uptrain "$m" "$tmp/u.gguf" -f "$tmp/corpus.txt" --kv-heads 1 --steps 20 --stop-after 5
expect 1 "a different text" uptrain "$m" "$tmp/u.gguf" -f "$tmp/other.txt" --kv-heads 1 --steps 20
expect 0 "going on" uptrain "$m" "$tmp/u.gguf" -f "$tmp/corpus.txt" --kv-heads 1 --steps 20

# The log: five columns, with --val and without; one that cannot be written ends the run, but loses nothing.
expect 0 "" train "$tmp/l.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --steps 20 --eval-every 8 --log "$tmp/log" --quiet
expect 0 "" train "$tmp/l.gguf" -f "$tmp/corpus.txt" $shape --steps 20 --eval-every 10 --log "$tmp/log" --quiet
number='[0-9][0-9]*\.[0-9][0-9]*'
grep -c "^[0-9]*,$number,$number,$number,$number\$" "$tmp/log" >"$tmp/a"
grep -c "^[0-9]*,$number,,,$number\$" "$tmp/log" >>"$tmp/a"
cut -d, -f1 "$tmp/log" >>"$tmp/a"
[ "$(tr '\n' ' ' <"$tmp/a")" = "3 2 8 16 20 10 20 " ] && ok || no "the log: $(cat "$tmp/log")"
expect 1 "/nonexistent/log: cannot append to the log" train "$tmp/f.gguf" -f "$tmp/corpus.txt" $shape --steps 20 --log /nonexistent/log
[ ! -e "$tmp/f.gguf.state" ] && ok || no "a log that cannot be opened is told before the first step"
if [ -e /dev/full ]; then
    expect 1 "/dev/full: cannot append to the log: " train "$tmp/f.gguf" -f "$tmp/corpus.txt" $shape --steps 20 --eval-every 8 --log /dev/full
    [ -e "$tmp/f.gguf.state" ] && [ ! -e "$tmp/f.gguf" ] && ok || no "a run whose log is full leaves its state"
    expect 1 "/dev/full: cannot append to the log: " train "$tmp/g.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --steps 20 --eval-every 20 --log /dev/full
    [ -e "$tmp/g.gguf.state" ] && [ ! -e "$tmp/g.gguf" ] && ok || no "the same at the last step"
    expect 0 "going on" train "$tmp/g.gguf" -f "$tmp/corpus.txt" --val "$tmp/corpus.txt" $shape --steps 20
    [ -e "$tmp/g.gguf" ] && ok || no "and ends without the log"
else skip "a full log: no /dev/full"; fi
finish
