#!/bin/sh
# speed-floor.sh: fails when `run bench` reaches less than a share of what the machine can do, for
# some shapes and types. By hand or nightly, on a machine that does nothing else; not a part of
# make test.
usage() {
    cat <<'END_OF_USAGE'
usage: scripts/speed-floor.sh [FLOOR] [options]             FLOOR: share of the limit (0.4)
  --run PATH    the program (./run)          -r N   repetitions, of which the median counts (5)
  --test 'TYPE DEPTH SHAPE'                  instead of the built-in list (may be repeated)
END_OF_USAGE
}
fail() {
    echo "speed-floor: $1" >&2
    exit 2
}
floor=0.4 run=./run reps=5 tests= newline='
'
while [ $# -gt 0 ]; do
    case $1 in
        -h|--help)
            usage
            exit 0
            ;;
        --run|--test|-r)
            [ $# -ge 2 ] || fail "$1 needs an argument"
            case $1 in
                --run) run=$2 ;; --test) tests="$tests$2$newline" ;; -r) reps=$2 ;;
            esac
            shift
            ;;
        0.*|1|1.0) floor=$1 ;;
        *) fail "expected a floor between 0 and 1, got \"$1\"" ;;
    esac
    shift
done
if [ -z "$tests" ]; then
    four=dim=2048,layers=4,heads=32,head_dim=64,ffn=5632,vocab=32000
    for type in q8_0 q4_0 q4_k q6_k f16 q4_1 q5_1 q2_k q3_k iq4_nl iq4_xs; do
        tests="$tests$type 0 $four,kv_heads=4$newline"
    done
    tests="${tests}q8_0 4096 $four,kv_heads=8${newline}q8_0 4096 $four,kv_heads=32$newline"
fi
printf '%s' "$tests" | {
    status=0
    while read -r type depth shape; do
        result=$("$run" bench --shape "$shape,type=$type" -p 256 -n 16 --depths "$depth" \
            -r "$reps" --json) || exit 2
        # a test that fits in the caches has a share of null, and is not judged
        shares=$(echo "$result" | tr -d '\n' | tr '{}' '\n\n' | sed -n \
            's/.*"test": *"\([a-z0-9]*\)".*"share_of_limit": *\([0-9.e+-]*\).*/\1 \2/p')
        [ -n "$shares" ] || fail "$run bench printed no share_of_limit"
        echo "$shares" | awk -v floor="$floor" -v what="$type, depth $depth, $shape" '
            NF < 2 {printf "-     %s %s: in the caches\n", $1, what; next}
            {low = $2 < floor; n += low; printf "%.2f  %s %s%s\n", $2, $1, what,
                low ? ": below the floor of " floor : ""}
            END {exit n > 0}' || status=1
    done
    exit $status
}
