# checks.sh: what test scripts share; read in by `. tests/checks.sh`. A script is a list of named
# cases: `test_case NAME` begins one; in it, each of these counts one check:
#
#     check WHAT COMMAND...    the command succeeds; its output goes to $tmp/log
#     expect CODE TEXT ARG...  "$run" ARG... exits with CODE, with TEXT on stderr ("": anything);
#                              stdout goes to $tmp/out, stderr to $tmp/err
#     same FILE FILE WHAT      the files are equal
#
# `wait_for COMMAND...` waits for what another process does.
#
# A case fails without a name, with that of an earlier one, or when it checks and skips nothing.
# $run is the program, $tmp a folder of the script's own, gone at its end. A failed check shows the
# end of $tmp/err and $tmp/log. VERBOSE=1 prints each case. `finish` prints the last line, for
# run.sh.
export LC_ALL="${LC_ALL:-C}" # in others, some tools refuse bytes that are no letters
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0 skipped=0 checks=0 failed_checks=0
case_name='' case_checks=0 case_failed=0 case_skipped=0
case_names='

'

end_case() {
    [ -n "$case_name" ] || return 0
    [ $((case_checks + case_skipped)) -gt 0 ] || no "$case_name: no checks"
    if [ "$case_failed" -gt 0 ]; then
        failed=$((failed + 1)) word='FAILED'
    else
        word='ok    '
        [ "$case_name" = '(outside of cases)' ] || [ $case_checks -eq 0 ] || passed=$((passed + 1))
    fi
    if [ -n "${VERBOSE:-}" ] || [ "$case_failed" -gt 0 ]; then
        echo "$word $case_name ($case_checks checks)"
    fi
    case_name='' case_checks=0 case_failed=0 case_skipped=0
}
test_case() {
    end_case
    case_name=$1
    case $case_names in *"
$1
"*) no "\"$1\" is empty or the name of an earlier case" ;;
    esac
    case_names="$case_names$1
"
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
    for shown in "$tmp/err" "$tmp/log"; do
        [ -s "$shown" ] || continue
        tail -n 20 "$shown" | tail -c 2000
        echo
    done
}
check() {
    checked=$1
    shift
    if "$@" >"$tmp/log" 2>&1; then ok; else no "$checked"; fi
}
not() { ! "$@"; }
# wait_for COMMAND...: until it succeeds, about a minute at most.
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || return 1
        sleep 0.1
    done
}
expect() {
    code=$1 text=$2
    shift 2
    "$run" "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    if [ "$got" -ne "$code" ]; then
        no "run $*: exit code $got, expected $code"
    elif [ -n "$text" ] && ! grep -qF -- "$text" "$tmp/err"; then
        no "run $*: stderr does not say \"$text\""
    else
        ok
    fi
}
same() { if cmp -s "$1" "$2"; then ok; else no "$3"; fi; }
skip() {
    skipped=$((skipped + 1)) case_skipped=$((case_skipped + 1))
    echo "SKIPPED: $*"
}
# have COMMAND WHAT: whether the system has a command; else WHAT is skipped.
have() {
    command -v "$1" >/dev/null && return 0
    skip "$2: no $1"
    return 1
}

# posix WHAT: whether $run is a program of a POSIX system; else WHAT is skipped.
posix() {
    [ -n "${EXE:-}" ] || return 0
    skip "$1: Windows has none"
    return 1
}
# in_time SECONDS COMMAND...: the command, ended after so long; macOS has no timeout.
in_time() {
    if command -v timeout >/dev/null; then
        timeout "$@"
    else
        perl -e 'alarm shift; exec @ARGV' "$@"
    fi
}

# takes FLAG...: whether the compiler makes a program with them.
takes() {
    echo 'int main(void) { return 0; }' >"$tmp/takes.c"
    "$CC" "$@" -o "$tmp/takes" "$tmp/takes.c" 2>/dev/null
}

# The instruction sets that this machine and this build of $run have.
instruction_sets() {
    for isa in scalar avx2 avxvnni avx512 neon; do
        GQA_ISA=$isa "$run" info tests/models/stories-gqa.gguf >/dev/null 2>&1 && echo "$isa"
    done
}
# make_corpus: $tmp/corpus.txt, with enough repetition to learn something from in 30 steps.
make_corpus() {
    i=0
    while [ $i -lt 60 ]; do
        printf '%s %s' 'The cat sat on the mat and saw the dog.' '"Hello," said the dog number '
        echo "$i. The cat ran to the hat."
        echo "<|endoftext|>"
        i=$((i + 1))
    done >"$tmp/corpus.txt"
}
# make_model: $m, which `run train` learns from the corpus in a second; emulated, in 15, hence the
# scripts that run.sh starts make it once, as $MADE.
small="--shape dim=32,layers=2,heads=4,kv_heads=2,head_dim=16,ffn=64,context=32 --vocab 320"
small="$small --batch 4"
make_model() {
    m=$tmp/m.gguf
    make_corpus
    if [ -n "${MADE:-}" ] && cp "$MADE" "$m" 2>/dev/null; then return; fi
    "$run" train "$m" -f "$tmp/corpus.txt" $small --steps 30 --quiet >"$tmp/out" 2>"$tmp/err" ||
        no "run train makes a model"
    [ -z "${MADE:-}" ] || cp "$m" "$MADE"
}
# make_others: $tmp/deepseek2.gguf, of latent attention, and gemma4.gguf, whose layers differ.
make_others() {
    python3 tests/golden/make_models.py "$tmp" deepseek2.gguf gemma4.gguf || no "make_models.py"
}

finish() {
    end_case
    echo "$checks checks, $failed_checks failed"
    echo "$passed passed, $failed failed$([ "$skipped" -gt 0 ] && echo ", $skipped skipped")"
    [ "$failed" -eq 0 ]
}
