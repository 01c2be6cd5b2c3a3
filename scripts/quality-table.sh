#!/bin/sh
# quality-table.sh: what each type of KV cache and of weights costs in quality, as the Markdown
# table of docs/quality.md: the divergence of the next token's distribution from f32.
usage() {
    cat <<'END_OF_USAGE'
usage: scripts/quality-table.sh MODEL.gguf -f TEXT [options]
  --run PATH       the program (./run)       -c N       tokens a chunk (512)
  --chunks K       chunks of the text (1)    -j N       threads
  --caches 'TYPE ...'    --weights 'TYPE ...'           instead of all; '': none
  --beside FILE    two more columns, of another program's figures (tests/golden/llama-cpp-kl.txt)
MODEL is converted to f32 in a temporary folder, and that to each type: as much free space as two
f32 models take.
END_OF_USAGE
}
fail() {
    echo "quality-table: $1" >&2
    exit 2
}
model= text= run=./run chunk=512 chunks=1 threads=0 beside=
caches='f16 bf16 q8_0 q8_0/q4_0 q4_0'
weights='f16 bf16 q8_0 q6_k q5_k q5_1 q5_0 q4_k_m q4_k q4_1 q4_0'
while [ $# -gt 0 ]; do
    case $1 in
        -h|--help)
            usage
            exit 0
            ;;
        -f|-c|-j|--run|--chunks|--caches|--weights|--beside)
            [ $# -ge 2 ] || fail "$1 needs an argument"
            case $1 in
                -f) text=$2 ;; -c) chunk=$2 ;; -j) threads=$2 ;; --run) run=$2 ;;
                --chunks) chunks=$2 ;; --caches) caches=$2 ;; --weights) weights=$2 ;;
                --beside) beside=$2 ;;
            esac
            shift 2 ;;
        -*) fail "unknown option $1" ;;
        *)
            model=$1
            shift
            ;;
    esac
done
[ -f "$model" ] || fail "no model file \"$model\""
[ -f "$text" ] || fail "no text \"$text\" (-f TEXT)"
work=$(mktemp -d) || exit 1
f32=$work/f32.gguf other=$work/other.gguf
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# member NAME FILE: a number of info --json.
member() { "$run" info "$2" --json | tr '{},' '\n\n\n' | sed -n "s/^ *\"$1\": \([0-9.]*\)$/\1/p"; }
# quotient A B FACTOR: with one digit.
quotient() { awk -v a="$1" -v b="$2" -v f="$3" 'BEGIN {if (b > 0) printf "%.1f", f * a / b}'; }
# cache_bits TYPE[/TYPE]: a number of the cache, K and V alike or not.
cache_bits() {
    k=$(member "${1%/*}" "$f32") v=$(member "${1#*/}" "$f32")
    quotient $((${k:-0} + ${v:-0})) "$(member f32 "$f32")" 16
}
weight_bits() { quotient "$(member weight_bytes "$1")" "$(member n_params "$1")" 8; }

# row KIND TYPE BITS PERPLEXITY-ARGUMENTS...: a row of the table; none of what the program refuses.
row() {
    kind=$1 type=$2 bits=$3
    shift 3
    "$run" perplexity "$@" -f "$text" -c "$chunk" --chunks "$chunks" -j "$threads" --json \
        >"$work/out" || return
    tr ',{}' '\n\n\n' <"$work/out" | awk -F'": ' -v what="$kind $type | $bits" '
        {sub(/^ *"/, "", $1); v[$1] = $2}
        $1 == "error" {error = $2}  # the last is that of the KL
        END {
            printf "| %s | %.6f ± %.6f | %.5f | %.4f |", what, v["mean"], error, v["p99"],
                v["largest"]
            printf " %.1f%% ± %.1f |", v["same_top_percent"], v["same_top_error"]
        }'
    [ -z "$beside" ] || awk -v what="$(basename "$model") $kind $type " '
        index($0, what) == 1 {found = substr($0, length(what) + 1)}
        END {printf " %s", found == "" ? "| |" : found}' "$beside"
    echo
}

"$run" convert "$model" "$f32" --type f32 --quiet || exit 1
peer=${beside:+' llama.cpp: KL | same likeliest |'}
echo "| | bits | KL to f32 | 99% | largest | same likeliest |$peer"
echo "|---|---|---|---|---|---|${beside:+---|---|}"
for type in $caches; do
    row cache "$type" "$(cache_bits "$type")" "$f32" --kl . --kv "$type"
done
for type in $weights; do
    "$run" convert "$f32" "$other" --type "$type" --quiet || exit 1
    row weights "$type" "$(weight_bits "$other")" "$other" --kl "$f32" --kv f32
    rm -f "$other"
done
