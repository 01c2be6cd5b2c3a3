#!/bin/sh
# test_paper.sh RUN: scripts/reproduce-gqa-paper.sh and scripts/attention-pareto.sh with their
# smallest plans: they run to the end, keep finished runs, mix no plans.
run=$1
. tests/checks.sh
have python3 "the experiments of the paper" || {
    finish
    exit
}
i=0
while [ $i -lt 60 ]; do
    echo "The dog said hello to the cat. The cat said good day.<|endoftext|>"
    i=$((i + 1))
done >"$tmp/text"
docs=$tmp/docs
experiment() { # NAME ARG...
    name=$1
    shift
    sh "scripts/$name.sh" "$@" --out "$tmp/runs-$name" --docs "$docs" --run "$run" \
        "$tmp/text" "$tmp/text" >"$tmp/paper" 2>&1 || {
        cat "$tmp/paper"
        return 1
    }
}
paper() { experiment reproduce-gqa-paper "$@"; }
pareto() { experiment attention-pareto "$@"; }
is_xml() { python3 -c "import sys, xml.etree.ElementTree as x; x.parse(sys.argv[1])" "$1"; }

test_case "the tiny plan runs to its end"
check "it runs" paper --tiny
for pool in random first mean renorm aligned; do
    check "a row for $pool" grep "^| $pool |.* ± " "$docs/gqa-paper.md"
done
for chart in pooling uptraining time; do
    check "chart $chart" is_xml "$docs/gqa-paper-$chart.svg"
done

test_case "finished runs are kept, lost ones made again"
cp "$docs/gqa-paper.md" "$tmp/first.md"
rm "$tmp/runs-reproduce-gqa-paper"/gqa1-mean-0.5-0-2.json
check "it runs again" paper --tiny
made=$(grep -c uptrain "$tmp/paper")
check "1 run was made again, got $made" test "$made" -eq 1
same "$tmp/first.md" "$docs/gqa-paper.md" "the same report from the same seeds"

test_case "another plan in the same folder is refused"
check "it fails" not paper --quick
check "it says why" grep "another plan" "$tmp/paper"

test_case "attention at equal parameters: the tiny plan"
check "it runs" pareto --tiny
for kind in MHA GQA-4 GQA-2 MQA GTA-2 MLA; do
    check "a row for $kind" grep "^| $kind | 41[0-9]* |.* ± " "$docs/attention-pareto.md"
done
check "MLA caches 4.5 heads of 16 in f16" grep -q "^| MLA | [0-9]* | 144 |" \
    "$docs/attention-pareto.md"
for chart in cache time; do
    check "chart $chart" is_xml "$docs/attention-pareto-$chart.svg"
done
lines=$(grep -c '^[A-Z0-9-]*,[12],[0-9]*,256,' "$docs/attention-pareto.csv")
check "12 runs in the CSV, got $lines" test "$lines" -eq 12

test_case "attention at equal parameters: only what is missing runs again"
cp "$docs/attention-pareto.md" "$tmp/first.md"
rm "$tmp/runs-attention-pareto"/mla-2.json
check "it runs again" pareto --tiny
made=$(grep -c ' train ' "$tmp/paper")
check "1 run was made again, got $made" test "$made" -eq 1
same "$tmp/first.md" "$docs/attention-pareto.md" "the same report from the same seeds"
rm "$tmp/runs-attention-pareto"/mla-1.json
run=false
check "a run that fails ends it" not pareto --tiny
check "it says how to go on" grep "the same command goes on" "$tmp/paper"
cat >"$tmp/interrupts" <<'END'
#!/bin/sh
kill -INT $PPID
exit 130
END
chmod +x "$tmp/interrupts"
run=$tmp/interrupts
check "so does one that is interrupted" not pareto --tiny
check "it says so too" grep "the same command goes on" "$tmp/paper"
check "in one line" not grep "Traceback" "$tmp/paper"

test_case "wrong arguments of the experiments"
for wrong in "--seeds 0 README.md" "--run $tmp/none README.md" "$tmp/none.txt"; do
    sh scripts/attention-pareto.sh --tiny --docs "$tmp" $wrong README.md >"$tmp/paper" 2>&1
    check "$wrong: exit code" test $? -eq 2
    check "$wrong: in one line" not grep "Traceback" "$tmp/paper"
done

finish
