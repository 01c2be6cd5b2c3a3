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
finish() {
    echo "$passed passed, $failed failed$([ "$skipped" -gt 0 ] && echo ", $skipped skipped")"
    [ "$failed" -eq 0 ]
}
