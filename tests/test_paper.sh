#!/bin/sh
# test_paper.sh RUN: scripts/reproduce-gqa-paper.sh with its smallest plan: runs to the end, keeps
# finished runs, mixes no plans.
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
paper() {
    sh scripts/reproduce-gqa-paper.sh "$@" --out "$tmp/runs" --docs "$docs" --run "$run" \
        "$tmp/text" "$tmp/text" >"$tmp/paper" 2>&1 || {
        cat "$tmp/paper"
        return 1
    }
}
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
rm "$tmp/runs"/gqa1-mean-0.5-0-2.json
check "it runs again" paper --tiny
made=$(grep -c uptrain "$tmp/paper")
check "1 run was made again, got $made" test "$made" -eq 1
same "$tmp/first.md" "$docs/gqa-paper.md" "the same report from the same seeds"

test_case "another plan in the same folder is refused"
check "it fails" not paper --quick
check "it says why" grep "another plan" "$tmp/paper"

finish
