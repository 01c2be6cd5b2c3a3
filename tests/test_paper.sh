#!/bin/sh
# test_paper.sh RUN: scripts/reproduce-gqa-paper.sh with its smallest plan: runs to the end, keeps finished runs, mixes no plans.
run=$1
. tests/checks.sh
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
i=0
while [ $i -lt 60 ]; do echo "The dog said hello to the cat. The cat said good day.<|endoftext|>"; i=$((i + 1)); done >"$tmp/text"
paper() { sh scripts/reproduce-gqa-paper.sh "$@" --out "$tmp/runs" --docs "$tmp/docs" --run "$run" "$tmp/text" "$tmp/text" >"$tmp/log" 2>&1; }

paper --tiny && ok || no "the tiny plan"
for pool in random first mean renorm aligned; do grep -q "^| $pool |.* ± " "$tmp/docs/gqa-paper.md" && ok || no "no row for $pool"; done
for chart in pooling uptraining time; do
    python3 -c "import sys, xml.etree.ElementTree as x; x.parse(sys.argv[1])" "$tmp/docs/gqa-paper-$chart.svg" 2>"$tmp/log" && ok || no "chart $chart"
done
cp "$tmp/docs/gqa-paper.md" "$tmp/first.md"
rm "$tmp/runs"/gqa1-mean-0.5-0-2.json
paper --tiny && ok || no "the tiny plan again"
[ "$(grep -c uptrain "$tmp/log")" -eq 1 ] && ok || no "a finished run was made again, or a lost one was not: $(grep -c uptrain "$tmp/log")"
cmp -s "$tmp/first.md" "$tmp/docs/gqa-paper.md" && ok || no "another report from the same seeds"
paper --quick && no "another plan in the same folder" || ok
grep -q "another plan" "$tmp/log" && ok || no "why it was refused"

finish
