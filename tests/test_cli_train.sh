#!/bin/sh
# test_cli_train.sh RUN: training and uptraining: resumed runs, refused settings, what they report.
# test_training.sh interrupts them.
run=$1
. tests/checks.sh
make_model
texts="-f $tmp/corpus.txt --val $tmp/corpus.txt"
train="$texts $small"
from_stdin="-f - $small"

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
if posix "SIGTERM"; then
    "$run" train "$tmp/k.gguf" -f "$tmp/corpus.txt" $small --steps 1000000 --eval-every 1 \
        --log "$tmp/k.csv" --quiet 2>"$tmp/err" &
    pid=$!
    check "a step" wait_for grep ^1, "$tmp/k.csv"
    kill -TERM $pid
    wait $pid
    check "exit code" test $? -eq 130
    check "the state" test -e "$tmp/k.gguf.state"
fi

test_case "what train refuses"
expect 2 "-f" train "$tmp/x.gguf"
expect 1 "nofile" train "$tmp/x.gguf" -f "$tmp/nofile"
expect 1 "/nonexistent/x.gguf" train /nonexistent/x.gguf $train --steps 1 --quiet
expect 2 "type" train "$tmp/x.gguf" -f "$tmp/corpus.txt" --type q9
expect 2 "--dropout" train "$tmp/x.gguf" -f "$tmp/corpus.txt" --dropout 0.95

test_case "kinds of attention with equal numbers of weights"
shape="--shape dim=64,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=96,context=32 --vocab 320"
shape="$shape --match params"
for kind in mha:96 gqa:2:117 mqa:128 gta:125 mla:61; do
    name=${kind%:*}
    expect 0 "an FFN of ${kind##*:} " train "$tmp/kind.gguf" $texts $shape --steps 2 --force \
        --attention $name --json
    weights=$(sed -n 's/.*"parameters": \([0-9]*\).*/\1/p' "$tmp/out")
    check "$name: $weights weights" test "$weights" -ge 90240 -a "$weights" -le 90624
    [ $name != gta ] || expect 1 "are keys and values at once and cannot be pooled" \
        convert "$tmp/kind.gguf" "$tmp/x.gguf" --kv-heads 1
done
expect 0 "" info "$tmp/kind.gguf"
check "MLA" grep -q "4 query heads of 16 + 8, values of 16, share a row of 64 + 8" "$tmp/out"
expect 0 "stopped" train "$tmp/k2.gguf" $texts $shape --steps 5 --stop-after 2 --attention mla
expect 1 "expected n_kv_heads 1, got 4" train "$tmp/k2.gguf" $texts $shape --steps 5 \
    --attention mha
expect 0 "resuming at step 2" train "$tmp/k2.gguf" $texts $shape --steps 5 --attention mla
expect 0 "an FFN of 61 " train "$tmp/k3.gguf" $texts --vocab 320 --steps 2 --match params \
    --shape dim=64,layers=2,heads=4,head_dim=16,ffn=96,context=32,kv_heads=mla
for bad in gqa:3 gqa:0 gqa:8 gqa: ""; do
    expect 2 "--attention $bad: expected mha, gqa:G with a G that divides 4 heads, mqa, mla" \
        train "$tmp/x.gguf" $train --attention "$bad"
done
thin="$texts --vocab 320 --shape dim=32,heads=4"
expect 1 "values of 8: expected multiples of 16" train "$tmp/x.gguf" $thin --attention mla
expect 1 "expected a multiple of 16" train "$tmp/x.gguf" $thin --attention gta
expect 2 "mla:1: expected a number, gta, gta:G, mla" train "$tmp/x.gguf" $thin --attention mla:1
expect 2 "the shape has another" train "$tmp/x.gguf" $thin,kv_heads=mla --attention mqa
expect 2 "--match ffn: expected params" train "$tmp/x.gguf" $train --match ffn
expect 2 "an FFN of -325 would make up" train "$tmp/x.gguf" $texts --attention mla --match params \
    --shape dim=32,heads=4,head_dim=32,ffn=2

test_case "a run that cannot end does not begin"
echo "a b c" >"$tmp/short.txt"
: >"$tmp/empty.txt"
short="train $tmp/x.gguf --tokenizer $m $small --steps 3"
expect 1 "the text has 7 tokens, a sequence needs 33" $short -f "$tmp/short.txt"
expect 1 "the training text is empty" $short -f "$tmp/empty.txt"
expect 1 "validation: the text has 0 tokens" train "$tmp/x.gguf" $train --val "$tmp/empty.txt"
expect 1 "rows of 32 values cannot be stored as q4_k" train "$tmp/x.gguf" $train --type q4_k
expect 2 "--shape type=q8_0: the type of what is written is for --type" train "$tmp/x.gguf" \
    $texts --shape dim=32,type=q8_0
check "no state" test ! -e "$tmp/x.gguf.state"
expect 1 "heads" train "$tmp/x.gguf" $texts --shape dim=32,heads=3
check "no vocabulary is learnt for a shape that cannot be" not grep -q "learning" "$tmp/err"
for log in x.gguf x.gguf.state; do
    expect 2 "is the model to write or its state" train "$tmp/x.gguf" $train --log "$tmp/$log"
done

test_case "0 is a number, not the default"
expect 0 "" train "$tmp/default.gguf" $train --steps 30 --quiet
for option in rate-end decay warmup clip; do
    expect 0 "" train "$tmp/zero.gguf" $train --steps 30 --quiet --force --$option 0
    check "--$option 0" not cmp -s "$tmp/zero.gguf" "$tmp/default.gguf"
done
expect 2 "--rate 0: expected" train "$tmp/x.gguf" $train --rate 0
expect 0 "" train "$tmp/dropped.gguf" $train --steps 10 --dropout 0.5 --quiet
for p in 0.5 0; do
    expect 0 "" uptrain "$tmp/dropped.gguf" "$tmp/$p.gguf" $texts --kv-heads 1 --steps 5 \
        --dropout $p
done
check "uptrain --dropout 0" not cmp -s "$tmp/0.5.gguf" "$tmp/0.gguf"

test_case "dropout changes the model"
expect 0 "" train "$tmp/d.gguf" $train --steps 30 --dropout 0.5 --quiet
check "another model" not cmp -s "$tmp/d.gguf" "$m"

# Half of the parent's 30 steps, pooled to MQA.
test_case "uptrain, with and without the parent as a teacher"
mqa="$m $tmp/u.gguf $texts --kv-heads 1"
expect 0 "step 15:" uptrain $mqa --fraction 0.5 --eval-every 5
expect 0 "" uptrain $mqa --force --pool aligned --fraction 0.5 --distill 0.5 --json --quiet
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

test_case "an existing OUT is replaced with --force or --restart only"
cp "$m" "$tmp/e.gguf"
expect 1 "e.gguf exists; --force replaces it" train "$tmp/e.gguf" $train --steps 3
expect 1 "e.gguf exists; --force replaces it" uptrain "$m" "$tmp/e.gguf" $texts \
    --kv-heads 1 --steps 3
same "$m" "$tmp/e.gguf" "a refused run leaves it as it was"
expect 0 "stopped at step 2" train "$tmp/e.gguf" $train --steps 5 --stop-after 2 --force
same "$m" "$tmp/e.gguf" "so does one that was stopped"
expect 0 "resuming at step 2" train "$tmp/e.gguf" $train --steps 5
check "the end replaces it" not cmp -s "$m" "$tmp/e.gguf"
expect 0 "the same command without --restart" train "$tmp/e.gguf" $train --steps 5 --stop-after 2 \
    --restart
expect 0 "resuming at step 2" train "$tmp/e.gguf" $train --steps 5
expect 0 "stopped" train "$tmp/n.gguf" $train --steps 5 --stop-after 2
cp "$m" "$tmp/n.gguf"
expect 1 "n.gguf exists; --force" train "$tmp/n.gguf" $train --steps 5
same "$m" "$tmp/n.gguf" "a model that came later is not the run's own"
expect 0 "resuming at step 2" train "$tmp/n.gguf" $train --steps 5 --force
expect 1 "not a regular file" train "$tmp" $train --steps 3 --force

test_case "a model that cannot be written leaves the state of the last step"
if posix "symbolic links"; then
    ln -s folder/model.gguf "$tmp/l.gguf"
    expect 1 "l.gguf: cannot write: No such" train "$tmp/l.gguf" $train --steps 3
    check "nothing is read or trained" test "$(wc -l <"$tmp/err")" -eq 1
    mkdir "$tmp/folder"
    {
        wait_for test -e "$tmp/l.csv" # made when OUT was found writable
        rmdir "$tmp/folder"
        cat "$tmp/corpus.txt"
    } | "$run" train "$tmp/l.gguf" $from_stdin --steps 3 --log "$tmp/l.csv" >"$tmp/out" 2>"$tmp/err"
    check "the end fails" grep -q "l.gguf: cannot write: No such" "$tmp/err"
    check "in the last step" test "$(wc -l <"$tmp/l.csv")" -gt 1
    mkdir "$tmp/folder"
    expect 0 "resuming at step 3" train "$tmp/l.gguf" $from_stdin --steps 3 --json \
        <"$tmp/corpus.txt"
    check "its loss is of the steps before" grep -q '"loss": [1-9]' "$tmp/out"
    check "the model" test -e "$tmp/folder/model.gguf"
fi

test_case "standard input that is named twice has ended the second time"
expect 1 "validation: the text has 0 tokens" train "$tmp/twice.gguf" $from_stdin --val - --steps 3 \
    <"$tmp/corpus.txt"

test_case "a resumed run has the same parent, pooling, shape and tokenizer"
expect 0 "" train "$tmp/p.gguf" $train --steps 5 -s 2 --quiet
up="$tmp/w.gguf $texts --kv-heads 1 --steps 9"
expect 0 "stopped at step 2" uptrain "$m" $up --stop-after 2
expect 1 "a different parent" uptrain "$tmp/p.gguf" $up
expect 1 "a different pool: expected mean, got first" uptrain "$m" $up --pool first
expect 1 "expected n_kv_heads 1, got 2" uptrain "$m" $up --kv-heads 2
expect 1 "gqa.train.distill" uptrain "$m" $up --distill 0.5
expect 1 "gqa.train.micro_batch" uptrain "$m" $up --micro-batch 1
expect 0 "resuming at step 2" uptrain "$m" $up
expect 0 "stopped" train "$tmp/v.gguf" $train --steps 5 --stop-after 2
expect 1 "a different tokenizer: expected one of 320 learnt" train "$tmp/v.gguf" $train --steps 5 \
    --vocab 310
expect 1 "a different tokenizer" train "$tmp/v.gguf" $train --steps 5 --tokenizer "$m"
expect 1 "expected context_length 32, got 64" train "$tmp/v.gguf" $train --steps 5 --length 32 \
    --shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=64

test_case "teachers"
expect 0 "" train "$tmp/other.gguf" $texts ${small% --vocab*} --vocab 310 --steps 2 --quiet
taught="$texts ${small% --vocab*} --steps 9"
expect 0 "vocabulary of 320" train "$tmp/s.gguf" $taught --teacher "$m"
expect 0 "" train "$tmp/s2.gguf" $taught --teacher "$m" --distill 0.5 --quiet
for f in s s2; do "$run" perplexity "$tmp/$f.gguf" -f "$tmp/corpus.txt" -c 32 >"$tmp/$f" 2>&1; done
same "$tmp/s" "$tmp/s2" "a weight of 0.5 is not the default"
expect 0 "" train "$tmp/s3.gguf" $taught --teacher "$m" --teacher "$tmp/p.gguf" --quiet
expect 2 "--distill: give a --teacher" train "$tmp/x.gguf" $taught --distill 0.5
expect 1 "the teacher has 310 tokens, the student 320" train "$tmp/x.gguf" $taught \
    --teacher "$m" --teacher "$tmp/other.gguf"
expect 2 "is the same file as" train "$m" $taught --force --teacher "$m"
expect 2 "5 teachers, expected at most 4" train "$tmp/x.gguf" $taught --teacher "$m" \
    --teacher "$m" --teacher "$m" --teacher "$m" --teacher "$m"
expect 1 "a context of 32, shorter than sequences of 64" train "$tmp/x.gguf" $texts --steps 1 \
    --teacher "$m" --shape dim=32,layers=1,heads=2,kv_heads=1,ffn=32,context=64
expect 0 "stopped at step 2" train "$tmp/s4.gguf" $taught --teacher "$m" --stop-after 2
expect 1 "a different teacher 1" train "$tmp/s4.gguf" $taught --teacher "$tmp/p.gguf" \
    --tokenizer "$m"
expect 1 "gqa.train.distill" train "$tmp/s4.gguf" $taught --teacher "$m" --distill 0.4
expect 0 "resuming at step 2" train "$tmp/s4.gguf" $taught --teacher "$m"
expect 0 "stopped at step 2" train "$tmp/s5.gguf" $taught --teacher "$m" --teacher "$tmp/p.gguf" \
    --stop-after 2
expect 1 "a different number of teachers: expected 2, got 1" train "$tmp/s5.gguf" $taught \
    --teacher "$m"

test_case "micro-batches give the same losses, up to rounding"
expect 0 "1 x 4 sequences of 32 tokens" train "$tmp/b.gguf" $train --steps 30 --force --json
whole=$(sed -n 's/.*"nats_per_token": \([0-9.]*\).*/\1/p' "$tmp/out" | cut -c1-5)
expect 0 "4 x 1 sequences of 32 tokens" train "$tmp/b.gguf" $train --steps 30 --force --json \
    --micro-batch 1
split=$(sed -n 's/.*"nats_per_token": \([0-9.]*\).*/\1/p' "$tmp/out" | cut -c1-5)
check "$split nats, expected $whole" test "$split" = "$whole"
expect 1 "expected a divisor of the batch of 4" train "$tmp/b.gguf" $train --force --micro-batch 3

test_case "512 tokens, and what the run takes before its first step"
wide=dim=32,layers=1,heads=2,kv_heads=1,head_dim=16,ffn=64,context=1024
expect 0 "sequences of 512 tokens" train "$tmp/q.gguf" -f "$tmp/corpus.txt" --shape $wide \
    --vocab 320 --batch 2 --steps 1
check "memory, arithmetic, time" grep -q "^about [0-9.e+-]* s per step, .* hours in all" "$tmp/err"

test_case "a pooled model's name says so"
expect 0 "" train "$tmp/name.gguf" $train --steps 3 --name Owl --quiet
expect 0 "" uptrain "$tmp/name.gguf" "$tmp/pooled.gguf" $texts --kv-heads 1 --steps 1 --quiet
expect 0 "" info "$tmp/pooled.gguf"
check "uptrained" grep -qF "Owl (MQA, 1 KV head, mean-pooled)" "$tmp/out"
expect 0 "" convert "$tmp/name.gguf" "$tmp/c.gguf" --kv-heads 1 --pool first --quiet
expect 0 "" info "$tmp/c.gguf"
check "converted" grep -qF "Owl (MQA, 1 KV head, first-pooled)" "$tmp/out"
check "once" test "$(grep -c -a general.name "$tmp/c.gguf")" -eq 1

test_case "a log is added to no other file"
cp "$tmp/corpus.txt" "$tmp/text"
for log in "$tmp/text" "$m" "$tmp/new.gguf"; do
    expect 2 "give another name" train "$tmp/new.gguf" -f "$tmp/text" --shape $wide --vocab 320 \
        --steps 1 --log "$log"
done
check "the text is as it was" cmp -s "$tmp/corpus.txt" "$tmp/text"
check "nothing was written" test ! -e "$tmp/new.gguf"

test_case "what uptrain refuses"
expect 1 "divisor" uptrain "$m" "$tmp/x.gguf" -f "$tmp/corpus.txt" --kv-heads 3 --quiet
expect 2 "kv-heads" uptrain "$m" "$tmp/x.gguf" -f "$tmp/corpus.txt"
finish
