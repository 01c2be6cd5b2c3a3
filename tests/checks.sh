# checks.sh: what test scripts share; read in by `. tests/checks.sh`. A script is a list of named cases: `test_case NAME`
# begins one, ok and no count its checks. $tmp is a folder of the script's own, gone at its end; what a failed check shows is
# the end of $tmp/err and $tmp/log. VERBOSE=1 prints each case.
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0 skipped=0 checks=0 failed_checks=0
case_name='' case_checks=0 case_failed=0
end_case() {
    [ -n "$case_name" ] || return 0
    if [ "$case_failed" -gt 0 ]; then failed=$((failed + 1)) word='FAILED'; else passed=$((passed + 1)) word='ok    '; fi
    if [ -n "${VERBOSE:-}" ] || [ "$case_failed" -gt 0 ]; then echo "$word $case_name ($case_checks checks)"; fi
    case_name='' case_checks=0 case_failed=0
}
test_case() {
    end_case
    case_name=$1
}
count_check() {
    checks=$((checks + 1)) case_checks=$((case_checks + 1))
    [ -n "$case_name" ] || case_name='(outside of cases)'
}
ok() { count_check; }
no() {
    count_check
    failed_checks=$((failed_checks + 1)) case_failed=$((case_failed + 1))
    echo "FAILED: $*"
    for said in "$tmp/err" "$tmp/log"; do [ -s "$said" ] && { tail -n 20 "$said" | tail -c 2000; echo; }; done
    return 0
}
# check TEXT COMMAND...: the command must succeed; its output goes to $tmp/log.
check() {
    text=$1; shift
    if "$@" >"$tmp/log" 2>&1; then ok; else no "$text"; fi
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
    end_case
    echo "$checks checks, $failed_checks failed"
    echo "$passed passed, $failed failed$([ "$skipped" -gt 0 ] && echo ", $skipped skipped")"
    [ "$failed" -eq 0 ]
}
