#!/bin/sh
# test_cli_train.sh RUN: training and uptraining: resumed runs, refused settings, what they report.
# test_training.sh interrupts them.
run=$1
. tests/checks.sh
make_model
texts="-f $tmp/corpus.txt --val $tmp/corpus.txt"
train="$texts $small"

test_case "train"
expect 0 "tokens in 60 documents" train "$tmp/t.gguf" $train --steps 30
check "reports bits per byte" grep -q "bits per byte" "$tmp/out"
check "a finished run leaves no state" test ! -e "$tmp/t.gguf.state"

test_case "stopped and resumed equals not stopped; another setting is refused"
expect 0 "stopped at step 11" train "$tmp/r.gguf" $train --steps 30 --stop-after 11
check "the state is there" test -e "$tmp/r.gguf.state"
check "the model is not there yet" test ! -e "$tmp/r.gguf"
expect 1 "gqa.train.steps" train "$tmp/r.gguf" $train --steps 40
expect 0 "resuming at step 11" train "$tmp/r.gguf" $train --steps 30 -j 1
"$run" "$tmp/t.gguf" -t 0 -n 20 --quiet >"$tmp/a" 2>&1
"$run" "$tmp/r.gguf" -t 0 -n 20 --quiet >"$tmp/b" 2>&1
same "$tmp/a" "$tmp/b" "the resumed run makes the same model"

test_case "a terminated run saves its state and exits with 130"
if have timeout "a terminated run"; then
    timeout --preserve-status -s TERM 2 "$run" train "$tmp/k.gguf" -f "$tmp/corpus.txt" $small \
        --steps 1000000 --quiet 2>"$tmp/err"
    check "exit code" test $? -eq 130
    check "the state" test -e "$tmp/k.gguf.state"
fi

test_case "what train refuses"
expect 2 "-f" train "$tmp/x.gguf"
expect 1 "nofile" train "$tmp/x.gguf" -f "$tmp/nofile"
expect 1 "/nonexistent/x.gguf" train /nonexistent/x.gguf $train --steps 1 --quiet
expect 2 "type" train "$tmp/x.gguf" -f "$tmp/corpus.txt" --type q9
expect 2 "--dropout" train "$tmp/x.gguf" -f "$tmp/corpus.txt" --dropout 0.95

test_case "dropout changes the model"
expect 0 "" train "$tmp/d.gguf" $train --steps 30 --dropout 0.5 --quiet
check "another model" not cmp -s "$tmp/d.gguf" "$m"

# Half of the parent's 30 steps, pooled to MQA.
test_case "uptrain, with and without the parent as a teacher"
mqa="$m $tmp/u.gguf $texts --kv-heads 1"
expect 0 "step 15:" uptrain $mqa --fraction 0.5 --eval-every 5
expect 0 "" uptrain $mqa --pool aligned --fraction 0.5 --distill 0.5 --json --quiet
check "--json" grep -q '"steps": 15' "$tmp/out"
expect 0 "" info "$tmp/u.gguf"
check "uptrained to MQA" grep -q MQA "$tmp/out"

test_case "uptraining by a fraction of 0 is conversion"
expect 0 "" uptrain "$m" "$tmp/z.gguf" $texts --kv-heads 1 --fraction 0 --quiet --type f32
expect 0 "" convert "$m" "$tmp/y.gguf" --kv-heads 1 --quiet
expect 0 "" perplexity "$tmp/z.gguf" -f "$tmp/corpus.txt" -c 32
uptrained=$(cut -c1-9 "$tmp/out")
expect 0 "" perplexity "$tmp/y.gguf" -f "$tmp/corpus.txt" -c 32
check "$uptrained" test "$(cut -c1-9 "$tmp/out")" = "$uptrained"

test_case "what uptrain refuses"
expect 1 "divisor" uptrain "$m" "$tmp/x.gguf" -f "$tmp/corpus.txt" --kv-heads 3 --quiet
expect 2 "kv-heads" uptrain "$m" "$tmp/x.gguf" -f "$tmp/corpus.txt"
finish
