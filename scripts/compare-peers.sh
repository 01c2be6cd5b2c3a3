#!/bin/sh
# compare-peers.sh: times gqa.c and other engines on one model file, in turn (A B C A B C ...), and
# prints medians and ratios. The machine's speed drifts: only numbers taken in turn can be compared.
usage() {
    cat <<'END'
usage: scripts/compare-peers.sh MODEL.gguf [options] [-- OPTIONS OF run bench]
  --llama-bench PATH   a llama-bench of llama.cpp or a fork of it (may be repeated)
  --llama2c PATH       a `run` of llama2.c; needs --bin and --tokenizer (decoding only)
  --bin FILE           llama2.c checkpoint for it       --tokenizer FILE   and its tokenizer
  --peer 'COMMAND'     a command that prints a line of JSON with "prefill_tok_s", "decode_tok_s"
  -p N  -n N           tokens of prompt and generation (512, 64)
  -d N                 depth: positions already in the cache (0)
  -t N                 threads (2)     -r N   rounds (3)     --run PATH   our binary (./run)
What follows -- goes to our `run bench`, and its other tests are listed too, e.g.
  -- --batch 1,8 --mix 32 --isa all --lookup -f TEXT --kv q8_0
Exit code: 1 if an engine failed, which is named.
END
}
model= peers= bin= tokenizer= p=512 n=64 d=0 t=2 rounds=3 run=./run
newline='
'
add() { peers="$peers$1$newline"; }
# number OPTION VALUE LEAST
number() {
    case $2 in
        ''|*[!0-9]*|????????*) ;;
        *) [ "$2" -ge "$3" ] && return ;;
    esac
    echo "compare-peers: $1 $2: expected a number from $3" >&2
    exit 2
}
[ $# -gt 0 ] || {
    usage >&2
    exit 2
}
while [ $# -gt 0 ]; do
    case $1 in
        -h|--help)
            usage
            exit 0
            ;;
        --llama-bench|--llama2c|--peer|--bin|--tokenizer|-p|-n|-d|-t|-r|--run)
            [ $# -ge 2 ] || {
                echo "compare-peers: $1 needs an argument" >&2
                exit 2
            }
            case $1 in
                --llama-bench) add "llama-bench	$2" ;;
                --llama2c) add "llama2c	$2" ;;
                --peer) add "json	$2" ;;
                --bin) bin=$2 ;; --tokenizer) tokenizer=$2 ;; --run) run=$2 ;;
                -p) p=$2 ;; -n) n=$2 ;; -d) d=$2 ;; -t) t=$2 ;; -r) rounds=$2 ;;
            esac
            shift 2 ;;
        --)
            shift
            break ;;
        -*)
            echo "compare-peers: unknown option $1" >&2
            exit 2
            ;;
        *)
            model=$1
            shift
            ;;
    esac
done
number -p "$p" 0
number -n "$n" 0
number -d "$d" 0
number -t "$t" 1
number -r "$rounds" 1
[ -f "$model" ] || {
    echo "compare-peers: no model file \"$model\"" >&2
    exit 1
}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT INT TERM
: >"$work/times"

# note ENGINE TEST TOK_S: a rate above 0
note() {
    case $3 in *[1-9]*) printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$work/times" ;; esac
}

# time_ours OPTIONS: the first prompt and the first text are what peers are compared with.
time_ours() {
    "$run" bench "$model" -p "$p" -n "$n" --depths "$d" -r 1 -j "$t" "$@" --csv >"$work/out" ||
        exit 1
    awk -F, 'NR == 1 {for (i = 1; i <= NF; i++) at[$i] = i; next}
        {kind = $1 ~ /^pp[0-9]*$/ ? "prefill" : $1 ~ /^tg[0-9]*$/ ? "decode" : ""
        test = kind && !seen[kind]++ ? kind : $1 ", depth " $at["depth"] ", " $at["sequences"] \
            " sequences, " $at["isa"]
        print test "\t" $at["tokens_per_second"]}' "$work/out" >"$work/rows"
    while IFS='	' read -r test rate; do note gqa.c "$test" "$rate"; done <"$work/rows"
}
time_llama_bench() {   # CSV columns are found by their names
    "$1" -m "$model" -p "$p" -n "$n" -d "$d" -t "$t" -r 1 -ngl 0 -o csv \
        >"$work/out" 2>/dev/null || return
    awk -F, '{gsub(/"/, "")} NR == 1 {for (i = 1; i <= NF; i++) at[$i] = i; next}
        {print ($at["n_gen"] > 0 ? "decode" : "prefill"), $at["avg_ts"]}' "$work/out" |
    while read -r test rate; do note "$1" "$test" "$rate"; done
}
time_llama2c() {
    OMP_NUM_THREADS=$t "$1" "$bin" -z "$tokenizer" -t 0 -n "$n" 2>"$work/out" >/dev/null || return
    note "$1" decode "$(sed -n 's/^achieved tok\/s: //p' "$work/out")"
}
time_json() {
    sh -c "$1" >"$work/out" 2>/dev/null || return
    for test in prefill decode; do
        rate=$(sed -n "s/.*\"${test}_tok_s\": *\([0-9.]*\).*/\1/p" "$work/out" | tail -n 1)
        note "$1" "$test" "$rate"
    done
}

round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    time_ours "$@"
    printf '%s' "$peers" | while IFS='	' read -r kind what; do
        before=$(wc -l <"$work/times")
        case $kind in
            llama-bench) time_llama_bench "$what" ;;
            llama2c) time_llama2c "$what" ;;
            json) time_json "$what" ;;
        esac </dev/null
        [ "$(wc -l <"$work/times")" -gt "$before" ] || printf '%s\n' "$what" >>"$work/failed"
    done
done

# rates ENGINE TEST: tok/s of each round
rates() {
    engine=$1 test=$2 awk -F'\t' '$1 == ENVIRON["engine"] && $2 == ENVIRON["test"] {print $3}' \
        "$work/times"
}
median() {
    sort -n | awk '{v[NR] = $1}
        END {if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'
}
echo "$model: prompt $p, generated $n, depth $d, $t threads, median of $rounds rounds in turn"
for test in prefill decode; do
    ours=$(rates gqa.c $test | median)
    [ -n "$ours" ] || continue
    awk -F'\t' -v t="$test" '$2 == t && !seen[$1]++ {print $1}' "$work/times" |
    while IFS= read -r engine; do
        theirs=$(rates "$engine" $test | median)
        ratio=$(awk -v a="$ours" -v b="$theirs" 'BEGIN {print a / b}')
        printf '%-8s %10.2f tok/s  gqa.c is %.2f times that  %s\n' \
            $test "$theirs" "$ratio" "$engine"
    done
done
awk -F'\t' '$1 == "gqa.c" && $2 ~ /,/ && !seen[$2]++ {print $2}' "$work/times" |
while IFS= read -r test; do
    printf '%-8s %10.2f tok/s  %s\n' gqa.c "$(rates gqa.c "$test" | median)" "$test"
done
[ -e "$work/failed" ] || exit 0
sort -u "$work/failed" | sed 's/^/compare-peers: failed or printed no rate: /' >&2
exit 1
