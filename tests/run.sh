#!/bin/sh
# run.sh: EMULATOR="qemu-arm" runs programs of another machine; SCRIPTS="" leaves the scripts out.
# Runs every test program and test script, shows what fails, and adds their cases up in the last line.
BUILD=${BUILD:-build}
passed=0 failed=0 skipped=0 checks=0 run=$BUILD/run
SCRIPTS=${SCRIPTS-tests/test_*.sh tests/test_*.py}
if [ -n "${EMULATOR:-}" ]; then
    run=$BUILD/run-emulated
    printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$EMULATOR" "$BUILD/run" >"$run" && chmod +x "$run"
fi
log=$BUILD/tests/log
for t in "$BUILD"/tests/test_* $SCRIPTS; do
    case $t in *.o|*.d|*'*'*) continue ;; esac
    case $t in
        *.sh) sh "$t" "$run" >"$log" 2>&1 </dev/null; code=$? ;;
        *.py) command -v python3 >/dev/null || { echo "SKIPPED: $t: no python3"; skipped=$((skipped + 1)); continue; }
              python3 "$t" "$run" >"$log" 2>&1 </dev/null; code=$? ;;
        *)    ${EMULATOR:-} "$t" >"$log" 2>&1 </dev/null; code=$? ;;
    esac
    last=$(tail -n 1 "$log")
    p=$(echo "$last" | sed -n 's/^\([0-9][0-9]*\) passed, [0-9][0-9]* failed.*/\1/p')
    f=$(echo "$last" | sed -n 's/^[0-9][0-9]* passed, \([0-9][0-9]*\) failed.*/\1/p')
    s=$(echo "$last" | sed -n 's/.*, \([0-9][0-9]*\) skipped$/\1/p')
    n=$(sed -n 's/^\([0-9][0-9]*\) checks, [0-9][0-9]* failed$/\1/p' "$log" | tail -n 1)
    if [ -z "$p" ] || { [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; }; then
        echo "$t: ended with code $code and no count"
        p=${p:-0} f=$((${f:-0} + 1))
    fi
    echo "$(basename "$t"): $p passed, $f failed${s:+, $s skipped}${n:+ ($n checks)}"
    if [ "$f" -gt 0 ]; then grep -v '^SKIPPED' "$log" | tail -n 60; fi
    grep '^SKIPPED' "$log"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + ${s:-0})) checks=$((checks + ${n:-0}))
done
echo "$checks checks in $((passed + failed)) cases"
echo "$passed passed, $failed failed$([ "$skipped" -gt 0 ] && echo ", $skipped skipped")"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
