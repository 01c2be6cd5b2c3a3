# checks.sh: what test scripts share; read in by `. tests/checks.sh`. $tmp is a folder of the script's own, gone at its end; what a
# failed check shows is the end of $tmp/err and $tmp/log.
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0 skipped=0
ok() { passed=$((passed + 1)); }
no() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    for said in "$tmp/err" "$tmp/log"; do [ -s "$said" ] && { tail -n 20 "$said" | tail -c 2000; echo; }; done
    return 0
}
skip() { skipped=$((skipped + 1)); echo "SKIPPED: $*"; }
# expect CODE TEXT-ON-STDERR ARGUMENTS...: of $run; stdout goes to $tmp/out
expect() {
    code=$1 text=$2; shift 2
    "$run" "$@" >"$tmp/out" 2>"$tmp/err"; got=$?
    if [ "$got" -ne "$code" ]; then no "run $*: exit code $got, expected $code"
    elif [ -n "$text" ] && ! grep -qF -- "$text" "$tmp/err"; then no "run $*: stderr does not say \"$text\""
    else ok; fi
}
same() { if cmp -s "$1" "$2"; then ok; else no "$3"; fi; }
# make_corpus: $tmp/corpus.txt, with enough repetition to learn something from in 30 steps.
make_corpus() {
    i=0
    while [ $i -lt 60 ]; do
        echo "The cat sat on the mat and saw the dog. \"Hello,\" said the dog number $i. The cat ran to the hat."
        echo "<|endoftext|>"
        i=$((i + 1))
    done >"$tmp/corpus.txt"
}
finish() {
    echo "$passed passed, $failed failed$([ "$skipped" -gt 0 ] && echo ", $skipped skipped")"
    [ "$failed" -eq 0 ]
}
