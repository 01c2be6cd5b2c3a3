#!/bin/sh
# test_cli_info.sh RUN: info, tokenize and perplexity.
run=$1
. tests/checks.sh
make_model

test_case "info"
expect 0 "" info "$m"
check "the KV cache's size" grep -q "KV cache a position" "$tmp/out"
check "the model's row" grep -q "GQA-2 .*<- this model" "$tmp/out"
expect 0 "" info "$m" --json
check "--json" grep -q '"attention": "GQA-2"' "$tmp/out"
expect 2 "no model given" info
shape="--shape dim=36,layers=1,heads=9,kv_heads=3,head_dim=4,ffn=32,context=32"
expect 0 "" train "$tmp/nine.gguf" -f "$tmp/corpus.txt" $shape --vocab 320 --steps 1 --quiet
expect 0 "" info "$tmp/nine.gguf"
check "9 heads over 3: MHA, its own, MQA" test "$(grep -cE "^  (MHA|GQA-3 .*<- this model|MQA)" \
    "$tmp/out")" -eq 3

test_case "info of layers that differ: two with a cache, of heads of 4 (a window of 2) and 8"
expect 0 "" info tests/fuzz/seeds/model/gemma4-layers
own="f32 96 bytes  f16 48 bytes  bf16 48 bytes  q8_0 136 bytes  q4_0 72 bytes"
check "its own cache, in q8_0 and q4_0 heads of 32" grep -q "^  $own $" "$tmp/out"
check "MHA" grep -q "^  MHA  *96 bytes  *16.1 KiB$" "$tmp/out"
check "MQA" grep -q "^  MQA  *48 bytes  *8.03 KiB   <- this model$" "$tmp/out"
check "MLA" grep -q "^  MLA  *108 bytes  *18.1 KiB  " "$tmp/out"

test_case "info of optional steps"
expect 0 "" info tests/fuzz/seeds/model/gemma2-softcaps
check "softcaps" grep -q "^softcaps       scores 4, logits 3 (0: none)$" "$tmp/out"
expect 0 "" info tests/fuzz/seeds/model/gemma3-pattern-array
check "a local base" grep -q "^rope .* base 10000 in layers with a window$" "$tmp/out"
check "a ring's positions beyond its window" grep -q "^have a batch of positions more" "$tmp/out"
expect 0 "" info tests/fuzz/seeds/model/gemma3-pattern-array --json
check "--json" grep -q '"rope_theta_local": 10000' "$tmp/out"

test_case "sizes of memory"
for size in 8g 8GB 8GiB 0.01T 8388608K 8589934592 8589934592B; do
    expect 0 "" info "$m" --memory $size
done
for size in 8X 8iB G 8G8 "" 0 -1G nan; do
    expect 2 "expected a size such as 8G or 512M" info "$m" --memory "$size"
done

test_case "info --verify"
cp "$m" "$tmp/v.gguf"
chmod u+w "$tmp/v.gguf"
expect 0 "" convert "$tmp/v.gguf" --packed
expect 0 "" info "$tmp/v.gguf" --verify
check "says so" grep -q "^verified: all weights" "$tmp/out"
printf 'x' | dd of="$tmp/v.gguf.packed" bs=1 seek=9001 conv=notrunc 2>/dev/null
expect 1 "v.gguf.packed: damaged panels" info "$tmp/v.gguf" --verify
rm "$tmp/v.gguf.packed"
size=$(wc -c <"$tmp/v.gguf")
printf '\377\377\377\377\377\377\377\377' |
    dd of="$tmp/v.gguf" bs=1 seek=$((size - 3000)) conv=notrunc 2>/dev/null
expect 1 "expected a finite number" info "$tmp/v.gguf" --verify
check "names the tensor" grep -q "v.gguf: tensor .*: value [0-9]* is" "$tmp/err"

if have python3 "crafted GGUF files"; then
    python3 tests/crafted_gguf.py "$tmp" || no "crafted_gguf.py"
    test_case "info of what cannot be run"
    expect 0 "" info "$tmp/cannot-architecture.gguf"
    check "architecture" grep -q '^architecture   mamba9' "$tmp/out"
    check "attention" grep -q '^attention      GQA (4 query heads share' "$tmp/out"
    check "heads" grep -q '^attention.head_count_kv    2$' "$tmp/out"
    check "types" grep -q '^tensors        3: 1 f32, 1 iq2_xxs, 1 unknown' "$tmp/out"
    check "unknown" grep -q '^cannot be run  architecture "mamba9" is not supp' "$tmp/out"
    check "a type" grep -q '^cannot be run  tensors of type iq2_xxs (16) are not' "$tmp/out"
    check "another" grep -q '^cannot be run  tensors of type unknown (999) are not' "$tmp/out"
    expect 0 "" info "$tmp/cannot-architecture.gguf" --json
    check "--json" grep -q '"runnable": false' "$tmp/out"
    check "--json, heads" grep -q '"attention.head_count": 8' "$tmp/out"
    expect 0 "" info "$tmp/cannot-tensor.gguf"
    check "a missing tensor" grep -q '^cannot be run  tensor .* is missing' "$tmp/out"
    expect 0 "" info "$tmp/cannot-split.gguf"
    check "a part's architecture" grep -q '^architecture   llama' "$tmp/out"
    check "a part of a file" grep -q '^cannot be run  is part 2 of 3; join them first' "$tmp/out"
    expect 1 "is part 2 of 3; join them first" "$tmp/cannot-split.gguf" -n 1
    expect 1 "is not supported" "$tmp/cannot-architecture.gguf" -n 1
    expect 1 "is not supported" info "$tmp/cannot-architecture.gguf" --verify
    head -c 300 "$tmp/tokenize.gguf" >"$tmp/cut.gguf"
    expect 1 "truncated" info "$tmp/cut.gguf"

    test_case "a vocabulary is enough to tokenize"
    expect 0 "" tokenize "$tmp/tokenize.gguf" --no-bos -i "ab"
    check "ids" grep -q '^[012 ]*1 2$' "$tmp/out"
    expect 0 "" template "$tmp/template.gguf"
    check "its template, and its BOS token" test "$(cat "$tmp/out")" = "aHello|"
    expect 0 "" template "$tmp/template.gguf" --bos "<s>"
    check "another BOS token" test "$(cat "$tmp/out")" = "<s>Hello|"
    expect 0 "tokenize.gguf: the model has no chat template; this is" template "$tmp/tokenize.gguf"

    test_case "bytes that a vocabulary lacks are left out, with a note"
    expect 0 "no tokens for 3 of the text's 5 bytes" tokenize "$tmp/two-bytes.gguf" -i "axxxb"
    check "ids" grep -q '^0 1 2$' "$tmp/out"
    expect 0 "no tokens for 1 of" tokenize "$tmp/two-bytes.gguf" --special -i "<s>xab"
    expect 0 "" tokenize "$tmp/two-bytes.gguf" --no-bos -i "axb" --quiet
    check "--quiet is quiet" test ! -s "$tmp/err"
    expect 0 "" tokenize "$tmp/two-bytes.gguf" -i "ab"
    check "nothing lacks, no note" test ! -s "$tmp/err"

    test_case "20 MB open in seconds, whatever is in them" # a tenth of one, on an idle machine
    for file in "$tmp"/large-*.gguf; do
        in_time 10 "$run" info "$file" >"$tmp/out" 2>"$tmp/err"
        check "info $file" test $? -lt 2
    done
fi

test_case "tokenize"
expect 0 "" tokenize "$m" -i "The cat"
check "ids" grep -Eq '^[0-9]' "$tmp/out"
expect 2 "-i or -f" tokenize "$m"

test_case "perplexity"
expect 0 "" perplexity "$m" -f "$tmp/corpus.txt" -c 32
check "the figure" grep -q "^PPL = " "$tmp/out"
echo "The cat" >"$tmp/short"
expect 1 "at least one chunk" perplexity "$m" -f "$tmp/short" -c 32
expect 2 "give a model and a text" perplexity "$m"

test_case "info --memory: what fits, what would change it, what it costs"
"$run" train "$tmp/gqa.gguf" -f "$tmp/corpus.txt" --vocab 300 --batch 2 --steps 2 --quiet \
    --shape dim=64,layers=3,heads=4,kv_heads=2,head_dim=32,ffn=64,context=64 >"$tmp/out"
expect 0 "" info "$tmp/gqa.gguf" --memory 1M --context 500 --batch 2 --json
cat >"$tmp/advice.py" <<'END'
import json, sys
info = json.load(open(sys.argv[1]))
a, weights, n = info["advice"], info["weight_bytes"], info["n_params"]
rows = {(c["kv_heads"], c["kv"]): c for c in a["choices"]}
assert list(rows) == [(h, t) for h in (4, 2, 1) for t in ("f16", "q8_0", "q4_0")]
for (heads, kv), row in rows.items():
    position = 2 * 3 * heads * {"f16": 64, "q8_0": 34, "q4_0": 18}[kv]
    assert row["cache_bytes"] == 2 * 500 * position
    assert row["longest_context"] == (2**20 - weights) // (2 * position)
    assert row["most_sequences"] == (2**20 - weights) // (500 * position)
    s = 3 * 32 * 500
    z = 0.9 * (n + 2 * s * heads) ** 0.5 + 0.1 * (2 * n + 4 * s * 4) ** (1 / 3)
    assert abs(row["cost"] / z - 1) < 1e-6
assert a["needed_bytes"] == weights + rows[2, "f16"]["cache_bytes"]
assert abs(a["balanced_kv_heads"] * 2 * 3 * 32 * 500 / n - 1) < 1e-6
END
have python3 "--json" && check "the figures" python3 "$tmp/advice.py" "$tmp/out"
expect 0 "" info "$tmp/gqa.gguf" --memory 1M --context 500 --batch 2
check "f16 is this model" grep -q "GQA-2 .*f16 .*750 KiB .*yes .*<- this model" "$tmp/out"
expect 0 "" info "$tmp/gqa.gguf" --memory 800000 --context 500 --batch 2
check "a change that fits" grep -q "GQA-2 .*q8_0 .*yes .*<- the least change" "$tmp/out"
expect 0 "" info "$tmp/gqa.gguf" --memory 1000
check "nothing fits" grep -q "Nothing of this fits" "$tmp/out"
expect 2 "8G" info "$m" --memory 8Q
expect 2 "need --memory" info "$m" --context 5

if have python3 "models with latent attention, with layers that differ"; then
    make_others
    test_case "info of latent attention"
    expect 0 "" info "$tmp/deepseek2.gguf"
    attention="^attention  *MLA (4 query heads of 16 + 8, values of 16, share a row of 32 + 8)$"
    check "attention" grep -q "$attention" "$tmp/out"
    check "its row" grep -q "^  MLA  *160 bytes  *40.0 KiB   <- this model$" "$tmp/out"
    check "MHA: K of 24, V of 16" grep -q "^  MHA  *640 bytes  *160 KiB$" "$tmp/out"
    check "q8_0: two layers of two blocks" grep -q " q8_0 136 bytes" "$tmp/out"

    test_case "info --memory of latent attention, and of layers that differ"
    expect 0 "" info "$tmp/deepseek2.gguf" --memory 200000 --context 300 --batch 2
    check "this model" grep -q "^  MLA .* 93.8 KiB .* yes .* <- this model$" "$tmp/out"
    check "its formula" grep -q "(kv_lora + rope) x min(positions" "$tmp/out"
    check "nothing to change" not grep -qE "least change|Nothing of this" "$tmp/out"
    check "beyond its context" grep -q "The model was made for 256 positions" "$tmp/out"
    expect 0 "" info "$tmp/deepseek2.gguf" --memory 200000 --context 256
    check "within it" not grep -q "was made for" "$tmp/out"
    check "formulas of the table" grep -q "(memory - weights) / one's cache" "$tmp/out"
    for name in deepseek2 gemma4; do
        expect 0 "" info "$tmp/$name.gguf" --memory 200000 --context 300 --batch 2 --json
        cp "$tmp/out" "$tmp/$name.json"
    done
    cat >"$tmp/latent.py" <<'END'
import json, sys
mla, mixed = [json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("deepseek2", "gemma4")]
names = "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"
assert [mla[name] for name in names] == [32, 20, 16, 8, 16]
assert not any(name in mixed for name in names)
def check(info, heads, cached, macs): # numbers of all layers: in the cache, and in QK and PV
    row = next(c for c in info["advice"]["choices"] if c["attention"] == heads)
    assert row["cache_bytes"] == 2 * 2 * cached, row
    n = info["n_params"]
    z = 0.9 * (n + cached) ** 0.5 + 0.1 * (2 * n + 2 * macs) ** (1 / 3)
    assert abs(row["cost"] / z - 1) < 1e-6, (row, z)
assert len(mla["advice"]["choices"]) == 4 * 3
rows = [c["cache_bytes"] for c in mla["advice"]["choices"] if c["attention"] == "MLA"]
assert rows[1:] == [2 * 300 * 2 * 2 * block for block in (34, 18)], rows # 32 + 8 in two blocks
check(mla, "MLA", 300 * 2 * (32 + 8), 300 * 2 * 4 * (32 + 8 + 32))
check(mla, "MHA", 300 * 2 * 4 * (24 + 16), 300 * 2 * 4 * (24 + 16))
check(mla, "MQA", 300 * 2 * (24 + 16), 300 * 2 * 4 * (24 + 16))
# gemma4: heads of 8 in windows of 9 and of 16, in turn; the last two layers have no cache
for heads, n in ("MHA", 4), ("GQA-2", 2), ("MQA", 1):
    check(mixed, heads, 2 * n * 2 * (8 * 9 + 16 * 300), 2 * 4 * 3 * (8 * 9 + 16 * 300))
END
    check "the figures" python3 "$tmp/latent.py" "$tmp"
fi
finish
