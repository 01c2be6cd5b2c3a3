#!/bin/sh
# run.sh: runs every test program and test script, shows what fails (VERBOSE=1: every case), and
# adds their cases up in the last line; what takes 10 seconds or more says so.
# EMULATOR="qemu-arm" runs programs of another machine (EXE=.exe: their names end so);
# SCRIPTS="" leaves the scripts out, SKIP="library lint" the tests of these names.
BUILD=${BUILD:-build}
SCRIPTS=${SCRIPTS-tests/test_*.sh tests/test_*.py}
passed=0 failed=0 skipped=0 checks=0
run=$BUILD/run log=$BUILD/tests/log
export MADE="$BUILD/tests/made.gguf" # see make_model
rm -f "$MADE"
verbose=${VERBOSE:+-v}
if [ -n "${EMULATOR:-}" ]; then
    run=$BUILD/run-emulated
    printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$EMULATOR" "$(realpath "$BUILD/run${EXE:-}")" >"$run"
    chmod +x "$run"
fi

# start TEST: its output goes to $log. Returns its exit code.
start() {
    case $1 in
        *.sh) sh "$1" "$run" ;;
        *.py) python3 "$1" "$run" ;;
        *) ${EMULATOR:-} "$1" $verbose ;;
    esac >"$log" 2>&1 </dev/null
}
# field PATTERN: what its \( \) matches, of a line of the input that is PATTERN.
field() { sed -n "s/^$1\$/\\1/p"; }

for t in "$BUILD"/tests/test_* $SCRIPTS; do
    name=${t##*/test_}
    case $t in
        *.o|*.d|*'*'*) continue ;;
    esac
    case " ${SKIP:-} " in *" ${name%.*} "*)
        echo "SKIPPED: $t: left out here"
        skipped=$((skipped + 1))
        continue ;;
    esac
    case $t in
        *.py) if ! command -v python3 >/dev/null; then
                  echo "SKIPPED: $t: no python3"
                  skipped=$((skipped + 1))
                  continue
              fi ;;
    esac
    begin=$(date +%s)
    start "$t"
    code=$?
    took=$(($(date +%s) - begin)) time=
    [ $took -lt 10 ] || time=", $took s"
    p=$(tail -n 1 "$log" | field '\([0-9]*\) passed, [0-9]* failed.*')
    f=$(tail -n 1 "$log" | field '[0-9]* passed, \([0-9]*\) failed.*')
    s=$(tail -n 1 "$log" | field '.*, \([0-9]*\) skipped')
    n=$(tail -n 2 "$log" | field '\([0-9]*\) checks, [0-9]* failed')
    if [ -z "$p" ]; then
        echo "$t: ended with exit code $code before its last line"
        p=0 f=1
    elif [ "$code" -ne 0 ] && [ "$f" -eq 0 ]; then
        echo "$t: exit code $code"
        f=1
    fi
    echo "$(basename "$t"): $p passed, $f failed${s:+, $s skipped}${n:+ ($n checks)}$time"
    if [ -n "$verbose" ]; then
        cat "$log"
    else
        [ "$f" -eq 0 ] || grep -v '^SKIPPED' "$log" | tail -n 60
        grep '^SKIPPED' "$log"
    fi
    passed=$((passed + p)) failed=$((failed + f))
    skipped=$((skipped + ${s:-0})) checks=$((checks + ${n:-0}))
done
echo "$checks checks in $((passed + failed)) cases"
echo "$passed passed, $failed failed$([ "$skipped" -gt 0 ] && echo ", $skipped skipped")"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
