#!/bin/sh
# test_training.sh RUN: what `run train` promises when it is interrupted: killed and terminated runs
# that are resumed end with the same bytes, the text must stay the same, a log that cannot be
# written is an error.
case $1 in /*) run=$1 ;; *) run=$PWD/$1 ;; esac
. tests/checks.sh
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$tmp"' EXIT

make_corpus
corpus=$tmp/corpus.txt other=$tmp/other.txt
sed 's/number 37/number 73/' "$corpus" >"$other"
shape="--shape dim=16,layers=1,heads=2,kv_heads=1,head_dim=8,ffn=32,context=16"
shape="$shape --vocab 300 --batch 2"
says() { grep -qF -- "$1" "$tmp/err"; } # the last run, on stderr

# OUT records the command, so the words must be the same everywhere: each run has a folder of its
# own, where it writes m.gguf.
train() { # FOLDER; for a subshell: it becomes the run
    cd "$tmp/$1" && exec "$run" train m.gguf -f "$corpus" --val "$corpus" $shape --dropout 0.1 \
        --save-every 1 -j 1 --steps "$steps" >"$tmp/out" 2>"$tmp/err"
}
train_to_end() { (train "$1"); }
# interrupt FOLDER SIGNAL: a run that gets the signal some steps after it wrote its state (again);
# code: how it ended.
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
    wait "$pid" 2>/dev/null
    code=$?
    pid=
}

# So many steps that neither run ends before its state is written, whatever the machine.
steps=4000
ends="killed stopped"
posix "SIGTERM" || ends=killed
while :; do
    interrupt killed KILL
    killed=$code stopped=130
    if [ "$ends" != killed ]; then
        interrupt stopped TERM
        stopped=$code
    fi
    if { [ "$killed" -ne 0 ] && [ "$stopped" -ne 0 ]; } || [ $steps -gt 200000 ]; then break; fi
    rm -rf "$tmp/killed" "$tmp/stopped"
    steps=$((steps * 2))
done

test_case "a killed run leaves its last state"
check "exit code 137, got $killed" test "$killed" -eq 137
check "the state is there" test -e "$tmp/killed/m.gguf.state"
check "no model before the end" test ! -e "$tmp/killed/m.gguf"

if [ "$ends" != killed ]; then
    test_case "a terminated run saves its state first"
    check "exit code 130, got $stopped" test "$stopped" -eq 130
    check "the state is there" test -e "$tmp/stopped/m.gguf.state"
    check "no model before the end" test ! -e "$tmp/stopped/m.gguf"
fi

test_case "a killed run resumes, and is killed again"
interrupt killed KILL # if it does not reach its end
check "does not start over" says "resuming at step"

for how in $ends; do
    test_case "a $how run resumes to its end"
    [ -e "$tmp/$how/m.gguf" ] || check "resumes" train_to_end $how
    check "does not start over" says "resuming at step"
    check "a finished run removes its state" test ! -e "$tmp/$how/m.gguf.state"
done

test_case "interrupted runs give the bytes of one run"
mkdir "$tmp/whole"
check "a run of $steps steps" train_to_end whole
for how in $ends; do
    same "$tmp/whole/m.gguf" "$tmp/$how/m.gguf" "the $how run: the bytes of one run"
done

# However small the difference; the validation text may change.
m=$tmp/m.gguf
different="the saved run learns from a different text"
test_case "train resumes with the same text only"
expect 0 "stopped at step 5" train "$m" -f "$corpus" $shape --steps 20 --stop-after 5
expect 1 "m.gguf.state: $different" train "$m" -f "$other" $shape --steps 20
check "the message names the way out" says "--restart discards it"
check "the state is kept" test -e "$m.state"
expect 1 "$different" train "$m" -f "$corpus" -f "$other" $shape --steps 20
expect 0 "stopped at step 10" train "$m" -f "$corpus" $shape --steps 20 --stop-after 5
expect 0 "resuming at step 10" train "$m" -f "$corpus" --val "$other" $shape --steps 20

test_case "--restart trains with another text"
expect 0 "stopped at step 5" train "$tmp/r.gguf" -f "$corpus" $shape --steps 20 --stop-after 5
expect 0 "" train "$tmp/r.gguf" -f "$other" $shape --steps 20 --restart --quiet

test_case "uptrain resumes with the same text only"
expect 0 "stopped at step 5" uptrain "$m" "$tmp/u.gguf" -f "$corpus" --kv-heads 1 --steps 20 \
    --stop-after 5
expect 1 "$different" uptrain "$m" "$tmp/u.gguf" -f "$other" --kv-heads 1 --steps 20
expect 0 "resuming at step 5" uptrain "$m" "$tmp/u.gguf" -f "$corpus" --kv-heads 1 --steps 20

test_case "the log has five columns, with --val and without"
expect 0 "" train "$tmp/l.gguf" -f "$corpus" --val "$corpus" $shape --steps 20 --eval-every 8 \
    --log "$tmp/loss" --quiet
expect 0 "" train "$tmp/l.gguf" -f "$corpus" $shape --steps 20 --eval-every 10 \
    --log "$tmp/loss" --quiet --force
number='[0-9][0-9]*\.[0-9][0-9]*'
with_val=$(grep -c "^[0-9]*,$number,$number,$number,$number\$" "$tmp/loss")
without=$(grep -c "^[0-9]*,$number,,,$number\$" "$tmp/loss")
header="step,training_loss,nats_per_token,bits_per_byte,seconds"
check "the first line names them" test "$(head -n 1 "$tmp/loss")" = "$header"
logged=$(sed 1d "$tmp/loss" | cut -d, -f1 | tr '\n' ' ')
check "3 lines with a validation, got $with_val" test "$with_val" -eq 3
check "2 lines without, got $without" test "$without" -eq 2
check "steps 8 16 20 10 20, got $logged" test "$logged" = "8 16 20 10 20 "

test_case "a log that cannot be opened is an error before the first step"
expect 1 "/nonexistent/log: cannot write" train "$tmp/f.gguf" -f "$corpus" $shape \
    --steps 20 --log /nonexistent/log
check "no step was made" test ! -e "$tmp/f.gguf.state"

test_case "a limit on the size of files: no temporary file is left"
if posix "SIGXFSZ"; then
    (ulimit -f 8 && "$run" train "$tmp/limit.gguf" -f "$corpus" $shape --steps 2 --quiet) \
        2>"$tmp/err"
    check "SIGXFSZ ends it" test $? -gt 128
    check "no file" test "$(ls "$tmp" | grep -c limit)" -eq 0
fi

full="/dev/full: cannot append to the log: "
if [ -e /dev/full ]; then
    test_case "a log that is full ends the run, but loses nothing"
    expect 1 "$full" train "$tmp/f.gguf" -f "$corpus" $shape --steps 20 --eval-every 8 \
        --log /dev/full
    check "the state is there" test -e "$tmp/f.gguf.state"
    check "no model before the end" test ! -e "$tmp/f.gguf"

    test_case "a log that is full at the last step"
    expect 1 "$full" train "$tmp/g.gguf" -f "$corpus" --val "$corpus" $shape --steps 20 \
        --eval-every 20 --log /dev/full
    check "the state is there" test -e "$tmp/g.gguf.state"
    check "no model after an error" test ! -e "$tmp/g.gguf"
    expect 0 "resuming at step 20" train "$tmp/g.gguf" -f "$corpus" --val "$corpus" $shape \
        --steps 20
    check "a model without the log" test -e "$tmp/g.gguf"
else
    skip "a full log: no /dev/full"
fi
finish
