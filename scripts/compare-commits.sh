#!/bin/sh
# compare-commits.sh: builds two commits in folders of their own, checks that both compute the same
# bits (tests/logits_hash.c, compiled in both), and times them in turn (A B A B ...). Prints medians
# and ratios; exit code 1 if a hash differs.
usage() {
    cat <<'END_OF_USAGE'
usage: scripts/compare-commits.sh [options] REV [REV2]      REV2: HEAD
  --hashes      no timing
  --times       no hashes
  -t 'TYPE ...' weight types that are timed ("q8_0 q4_0 q4_k f16")
  -s SHAPE      without type; the default is a model of 1.1 B
  -p N  -n N    tokens of prompt and generation (512, 48)      -d N   depth (0)
  -r N          rounds (3)      -j N   threads (as many as physical cores)
CC and CFLAGS of the environment are used for both.
END_OF_USAGE
}
fail() {
    echo "compare-commits: $1" >&2
    exit "${2:-1}"
}
types="q8_0 q4_0 q4_k f16" hashes=1 times=1 p=512 n=48 d=0 rounds=3 threads=
shape=dim=2048,layers=22,heads=32,kv_heads=4,head_dim=64,ffn=5632,vocab=32000
while [ $# -gt 0 ]; do
    case $1 in
        -h|--help)
            usage
            exit 0
            ;;
        --hashes) times= ;;
        --times) hashes= ;;
        -t|-s|-p|-n|-d|-r|-j)
            [ $# -ge 2 ] || fail "$1 needs an argument" 2
            case $1 in
                -t) types=$2 ;; -s) shape=$2 ;; -p) p=$2 ;; -n) n=$2 ;; -d) d=$2 ;;
                -r) rounds=$2 ;; -j) threads=$2 ;;
            esac
            shift
            ;;
        -*) fail "unknown option $1" 2 ;;
        *) break ;;
    esac
    shift
done
[ $# -eq 1 ] || [ $# -eq 2 ] || {
    usage >&2
    exit 2
}
work=$(mktemp -d) || exit 1
remove() {
    for side in a b; do git worktree remove --force "$work/$side" 2>/dev/null; done
    rm -rf "$work"
}
trap remove EXIT
trap 'exit 130' INT TERM

# build SIDE REV: the commit, its program and the test program
build() {
    git worktree add --quiet --detach "$work/$1" "$2" || fail "cannot check out \"$2\""
    cp tests/logits_hash.c "$work/$1/examples/logits_hash.c"
    make -s -j"$(getconf _NPROCESSORS_ONLN)" -C "$work/$1" ${CC:+CC="$CC"} BUILD=build build/run \
        ${hashes:+build/examples/logits_hash} >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        fail "$2 does not build"
    }
    echo "$1: $(git log -1 --format='%h %s' "$2")"
}
cd "$(dirname "$0")/.." || exit 1
build a "$1"
build b "${2:-HEAD}"

# compare_hashes: of the lines that both print; what only one of them has is counted. A line that
# differs is followed by its steps that do (tests/logits_hash.c names them).
compare_hashes() {
    for side in a b; do
        "$work/$side/build/examples/logits_hash" >"$work/$side.hashes" ||
            fail "logits_hash of $side ended with an error"
    done
    awk -F: 'NR == FNR {a[$1] = $2; n_a++; next} !($1 in a) {only_b++; next}
        {
            both++
            n = split(a[$1], in_a, " ")
            n_b = split($2, in_b, " ")
            steps = n == n_b ? "" : " errors"
            for (i = 2; i <= n; i += 2)
                if (in_a[i] != in_b[i] && !index(steps, in_a[i - 1])) steps = steps " " in_a[i - 1]
            if (steps) print "differs: " $1 ":" steps
            differ += steps != ""
        }
        END {
            printf "logits: %d lines of hashes in both, %d differ; ", both, differ
            printf "%d only in a, %d only in b\n", n_a - both, only_b
            exit differ > 0 || both == 0
        }' "$work/a.hashes" "$work/b.hashes"
}

# rates TEST FILE...: tok/s of "pp512" or "tg48", sorted
rates() {
    test=$1
    shift
    cat "$@" | tr '{}' '\n\n' |
        sed -n "s/.*\"test\": *\"$test\".*\"tokens_per_second\": *\([0-9.e+]*\).*/\1/p" | sort -g
}
median() {
    awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'
}
time_type() {
    round=0
    while [ "$round" -lt "$rounds" ]; do
        round=$((round + 1))
        for side in a b; do
            "$work/$side/build/run" bench --shape "$shape,type=$1" -p "$p" -n "$n" --depths "$d" \
                -r 1 ${threads:+-j "$threads"} --json | tr -d '\n' >"$work/$side.$round.json"
            [ -s "$work/$side.$round.json" ] || fail "run bench of $side failed with type $1"
        done
    done
    for test in "pp$p" "tg$n"; do
        a=$(rates "$test" "$work"/a.*.json | median)
        b=$(rates "$test" "$work"/b.*.json | median)
        awk -v a="$a" -v b="$b" -v what="$1 $test" \
            'BEGIN {printf "%-14s a %9.2f  b %9.2f tok/s  b / a %.3f\n", what, a, b, b / a}'
    done
}

status=0
[ -z "$hashes" ] || compare_hashes || status=1
[ -z "$times" ] && exit $status
echo "prompt $p, generated $n, depth $d, medians of $rounds rounds in turn, $(date +%F)"
for type in $types; do time_type "$type"; done
exit $status
