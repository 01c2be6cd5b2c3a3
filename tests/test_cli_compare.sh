#!/bin/sh
# test_cli_compare.sh RUN: compare on a small shape, a model and files, as a table, CSV, JSON and
# chart; bench as a table, CSV and JSON.
run=$1
. tests/checks.sh
make_model
shape="dim=64,layers=1,heads=4,ffn=64,vocab=100"
quality="-f $tmp/corpus.txt -c 32 --chunks 4 --depths 0,8 -n 4 --prompt 16"
python() { python3 -c "$@"; }

test_case "compare --shape"
expect 0 "" compare --shape $shape --kv-heads 4,2,1 --depths 0,64 -n 4 --prompt 16 --reps 2
for word in MHA GQA-2 MQA MLA; do
    check "a row $word" grep -q "^$word" "$tmp/out"
done
check "ratios to MHA" grep -q "x MHA" "$tmp/out"
expect 0 "" compare "$m" --kv-heads 2,1 --depths 0 -n 4 --prompt 16 --reps 1
check "ratios to the first, GQA-2" grep -q "x GQA-2" "$tmp/out"

fast="--depths 0 -n 2 --prompt 4 --reps 1"
test_case "a shape with latent and grouped-tied attention"
small=$shape
shape=$shape,type=f16
kinds=4,1,mla,mla:32+16,gta,gta:2
expect 0 "" compare --shape $shape --kv-heads $kinds $fast --json --html "$tmp/kinds.html"
cat >"$tmp/kinds.py" <<'END'
import json, sys
found = json.load(open(sys.argv[1]))
rows = [(v["name"], v["caches"][0]["bytes_per_position"] // 2) for v in found["variants"]]
# head_dim 16, one layer: 2 * 16 * G; 4 * 16 + 8, 32 + 16; G * 16 + 8
assert [n for _, n in rows] == [128, 32, 72, 48, 24, 40], rows
names = ["MHA", "MQA", "MLA 64+8", "MLA 32+16", "GTA-1", "GTA-2"] # MLA by its sizes: there are two
assert [name for name, _ in rows] == names, rows
assert "mla_bytes_per_position" not in found
END
have python3 "--kv-heads mla" && check "the figures" python3 "$tmp/kinds.py" "$tmp/out"
expect 0 "" compare --shape $shape --kv-heads 2,mla,gta $fast --csv
check "in CSV" test "$(grep -cE '^(GQA-2,2|MLA,1|GTA-1,1),' "$tmp/out")" -eq 3
expect 0 "" compare --shape $shape --kv-heads mla,2,mla,gta,gta:1 $fast
check "the shape of its heads" grep -q ", 4 query heads of 24, " "$tmp/out"
for name in "MLA 64+8" "MLA 64+8 (2)" GQA-2 GTA-1 "GTA-1 (2)"; do
    check "one row $name" test "$(grep -c "^$name  *[0-9]" "$tmp/out")" -eq 1
done
for kind in mla mla:32+16 gta:2; do
    expect 0 "" bench --shape $shape,kv_heads=$kind -p 8 -n 2 -r 1
done
check "bench names it" grep -q "GTA-2" "$tmp/out"
check "bench counts its cache" grep -q "f16: 80 bytes a position" "$tmp/out"
expect 0 "" bench --shape kv_heads=mla,$shape -p 8 -n 2 -r 1 --json
check "whatever the order" grep -q '"kv_bytes_per_position": 144' "$tmp/out"
expect 2 "mlx: expected a number, gta" compare --shape $shape --kv-heads 4,mlx
expect 2 "mla:32: expected a number" bench --shape $shape,kv_heads=mla:32
expect 2 "expected a number, gta" bench --shape $shape,kv_heads=
expect 2 "gta:0: expected a number" bench --shape $shape,kv_heads=gta:0
expect 2 "heads of 1 to 1024" bench --shape $shape,head_dim=4000,kv_heads=mla
expect 1 "n_heads 4 is not a multiple of n_kv_heads 3" compare --shape $shape --kv-heads 4,gta:3
check "nothing is measured" test ! -s "$tmp/out"
expect 1 "half of it" compare --shape $shape,head_dim=24 --kv-heads gta
expect 2 "mla and gta are for --shape" compare "$m" --kv-heads 2,mla
expect 2 "0: expected numbers from 1" compare "$m" --kv-heads 0
expect 2 "--pool: of one model; 2 are given" compare "$m" "$m" --pool aligned
expect 2 "with compare, --kv-heads takes mla" compare --shape $shape,kv_heads=mla
shape=$small
expect 1 "heads of 16" compare --shape $shape --kv-heads mla

test_case "one model without --kv-heads: MHA with the same text, itself, MQA"
expect 0 "" compare "$m" $fast -f "$tmp/corpus.txt" -c 32 --chunks 2 --json
cat >"$tmp/default.py" <<'END'
import json, sys
mha, gqa, mqa = json.load(open(sys.argv[1]))["variants"]
assert [v["name"] for v in (mha, gqa, mqa)] == ["MHA", "GQA-2", "MQA"]
first = [v["caches"][0] for v in (mha, gqa, mqa)]
assert first[1]["perplexity"] == first[0]["perplexity"] != first[2]["perplexity"]
assert first[1]["kl_to_first"] == first[0]["kl_to_f32"]
assert [c["bytes_per_position"] // 128 for c in first] == [4, 2, 1]
END
have python3 "--json" && check "the figures" python3 "$tmp/default.py" "$tmp/out"
expect 0 "" compare --shape $shape,kv_heads=2 $fast
check "of a shape too" test "$(grep -cE '^([MG]QA|MHA)' "$tmp/out")" -eq 6

test_case "several files"
"$run" convert "$m" "$tmp/mqa.gguf" --kv-heads 1 --quiet
mkdir "$tmp/other"
cp "$m" "$tmp/other/mqa.gguf"
expect 0 "" compare "$m" "$tmp/mqa.gguf" "$tmp/other/mqa.gguf" $fast -f "$tmp/corpus.txt" -c 32
for name in m mqa "$tmp/other/mqa.gguf"; do
    check "rows $name" test "$(grep -c "^$name " "$tmp/out")" -eq 4
done
check "ratios to the first" grep -q "x m " "$tmp/out"
expect 1 "corpus.txt: not a model" compare "$m" "$tmp/corpus.txt" "$tmp/mqa.gguf" $fast
check "nothing is measured" test ! -s "$tmp/out"
expect 2 "2 are given" compare "$m" "$tmp/mqa.gguf" --kv-heads 1
make_others
expect 0 "" compare "$m" "$tmp/deepseek2.gguf" $fast --kv f16,q8_0
check "a row of 32 + 8 numbers in blocks" grep -q "q8_0" "$tmp/out"
expect 1 "deepseek2: KV cache type f16/q8_0: keys are values" \
    compare "$m" "$tmp/deepseek2.gguf" $fast --kv f16/q8_0
expect 2 "\"m17\" (at most 16); usage: run compare" compare m m m m m m m m m m m m m m m m m17
check "in two lines" test "$(wc -l <"$tmp/err")" -eq 2

test_case "the command is recorded as a shell reads it"
name="$tmp/it's a \$model.gguf"
cp "$m" "$name"
expect 0 "" compare "$name" --kv-heads 4 $fast -j 1 --json
cp "$tmp/out" "$tmp/j.json"
cat >"$tmp/command.py" <<'END'
import json, shlex, sys
words = shlex.split(json.load(open(sys.argv[1]))["command"])
assert words == ["run"] + sys.argv[2:], words
END
expect 0 "" compare "$name" --kv-heads 4 $fast -j 1
check "one thread, one round" grep -q "^1 thread, .*; medians of 1 interleaved round, " "$tmp/out"
have python3 "the command" && check "the command's words" \
    python3 "$tmp/command.py" "$tmp/j.json" compare "$name" --kv-heads 4 $fast -j 1 --json

test_case "names of files: whole, each once, harmless to a terminal"
if posix "control characters in names"; then
    long=$(printf '%0100d' 0)
    escape=$(printf '\033[31m')
    mkdir -p "$tmp/$long"
    for name in "${long}1" "${long}2" "$long/${long}1" "$escape"; do cp "$m" "$tmp/$name.gguf"; done
    set -- "$tmp/${long}1.gguf" "$tmp/${long}2.gguf" "$tmp/$long/${long}1.gguf" "$tmp/$escape.gguf"
    expect 0 "" compare "$@" "$tmp/$long/${long}1.gguf" $fast --csv --svg "$tmp/names.svg"
    sed 's/,.*//' "$tmp/out" >"$tmp/names"
    for name in variant "${long}1" "${long}2" "$tmp/$long/${long}1.gguf" '\x1b[31m' \
        "$tmp/$long/${long}1.gguf (2)"; do
        printf '%s\n' "$name" # echo of some shells reads \x1b
    done >"$tmp/expected"
    same "$tmp/names" "$tmp/expected" "names: $(cat "$tmp/names")"
    check "squeezed into the chart" grep -q 'textLength=.*>0*2</text>' "$tmp/names.svg"
    expect 0 "" compare "$@" $fast
    check "a wide name is first" grep -q " x first GB/s$" "$tmp/out"
    cp "$tmp/corpus.txt" "$tmp/$escape.txt"
    expect 1 '\x1b[31m.txt: not a model' compare "$m" "$tmp/$escape.txt"
    expect 1 '\x1b[31m.json: No such file' compare "$m" --baseline "$tmp/$escape.json"
    printf '{"variants": []}' >"$tmp/$escape.json"
    expect 0 "" compare "$m" $fast --baseline "$tmp/$escape.json"
    check "of a baseline too" grep -qF '\x1b[31m.json, what changed' "$tmp/out"
    check "which says less" grep -q "does not say threads, now" "$tmp/out"
fi

test_case "quality: bits a byte, of different vocabularies nothing else"
"$run" train "$tmp/wide.gguf" -f "$tmp/corpus.txt" \
    --shape dim=32,layers=1,heads=4,ffn=64,context=32 --vocab 300 --batch 4 \
    --steps 20 --quiet >"$tmp/out" 2>"$tmp/err"
documents="-f $tmp/corpus.txt -c 32 --documents"
expect 0 "" compare "$m" "$tmp/mqa.gguf" $fast $documents --kv f16,bf16 --json
cp "$tmp/out" "$tmp/same.json"
expect 0 "" compare "$m" "$tmp/wide.gguf" $fast $documents --json
cp "$tmp/out" "$tmp/wide.json"
expect 0 "" perplexity "$tmp/mqa.gguf" $documents --kv f16 --kl "$m" --json
cp "$tmp/out" "$tmp/mqa.json"
cat >"$tmp/quality.py" <<'END'
import json, math, sys
names = ("same", "wide", "mqa")
same, wide, mqa = [json.load(open(f"{sys.argv[1]}/{name}.json")) for name in names]
cache = same["variants"][1]["caches"][0]
assert cache["perplexity"] == mqa["perplexity"]
assert cache["bits_per_byte"] == mqa["bits_per_byte"]
assert cache["kl_to_first"] == mqa["kl"]["mean"] # the first one's f32 cache
assert 0 < cache["kl_to_f32"] < same["variants"][1]["caches"][1]["kl_to_f32"]
letters = mqa["nats_per_token"] / math.log(2) / mqa["bits_per_byte"] # bytes a token
assert 1 < letters < 4, letters
for v in wide["variants"]:
    cache = v["caches"][0]
    assert cache["bits_per_byte"] > 1 and "perplexity" not in cache and "kl_to_f32" not in cache
assert wide["variants"][0]["caches"][0]["bits_per_byte"] == \
    same["variants"][0]["caches"][0]["bits_per_byte"]
END
have python3 "--json" && check "the figures" python3 "$tmp/quality.py" "$tmp"
expect 0 "" compare "$m" "$tmp/wide.gguf" $fast $documents
check "it is said" grep -q "different vocabularies" "$tmp/out"
check "no perplexity" not grep -q "^ .*perplexity" "$tmp/out"
echo "The cat" >"$tmp/short"
expect 1 "short: 4 tokens, expected at least one chunk of 32" compare "$m" "$tmp/wide.gguf" \
    -f "$tmp/short"
check "nothing is measured" test ! -s "$tmp/out"
expect 0 "" compare "$m" "$tmp/wide.gguf" $fast $documents --csv --html "$tmp/wide.html" \
    --svg "$tmp/wide.svg"
check "none in CSV" grep -q "^wide,.*,,,,[0-9.]*$" "$tmp/out"
check "nor on the page" not grep -qE "<th>(perplexity|KL)" "$tmp/wide.html"
check "which says it" grep -q "different vocabularies" "$tmp/wide.html"
check "in one line" not grep -q "$(printf '\357\277\275')" "$tmp/wide.html"
check "and the shapes" grep -q "^wide: 1 layers, dim 32, " "$tmp/wide.html"
check "of one model only: time over KV heads" test "$(grep -c "<svg" "$tmp/wide.html")" -eq 3
check "nor in the chart" not grep -q "KV heads" "$tmp/wide.svg"
"$run" convert "$tmp/mqa.gguf" "$tmp/mqa32.gguf" --type f32 --quiet
expect 0 "" compare "$m" "$tmp/mqa.gguf" $fast --svg "$tmp/one.svg"
check "two files of one shape have it" grep -q "KV heads" "$tmp/one.svg"
expect 0 "" compare "$m" "$tmp/mqa32.gguf" $fast --svg "$tmp/two.svg"
check "of other weights not" not grep -q "KV heads" "$tmp/two.svg"

test_case "compare --csv --svg"
expect 0 "" compare "$m" --kv-heads 2,1 --pool aligned $quality --reps 2 --kv f16,f32 --csv \
    --svg "$tmp/c.svg"
check "2 variants x 2 caches x 2 depths and a head" test "$(wc -l <"$tmp/out")" -eq 9
parse='import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])'
have python3 "--svg" && check "the chart is XML" python "$parse" "$tmp/c.svg"

test_case "compare --html: one page without anything from elsewhere"
expect 0 "" compare "$m" $quality --reps 1 --html "$tmp/c.html"
cat >"$tmp/page.py" <<'END'
import html.parser, re, sys
page = open(sys.argv[1], encoding="utf-8").read()
assert page.startswith("<!doctype html>")
assert not re.search(r"<(link|script|img|iframe)|url\(|src=", page)
stack = []
class Reader(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
        if tag != "meta": stack.append(tag)
    def handle_endtag(self, tag):
        assert stack.pop() == tag, tag
Reader().feed(page)
assert not stack and page.count("<svg") == 4 and page.count("<tr>") == 4 and "nan" not in page
assert "prefers-color-scheme:dark" in page and "@media print" in page
assert "run compare " in page and "GQA-2" in page and "this machine's memory" in page
END
have python3 "--html" && check "the page" python3 "$tmp/page.py" "$tmp/c.html"
expect 2 "give another name" compare "$m" --html "$m"

test_case "names of files are text in pages and tables"
name='a<b>&,c'
[ -z "${EXE:-}" ] || name='a&,c' # Windows has no others
cp "$m" "$tmp/$name.gguf"
expect 0 "" compare "$tmp/$name.gguf" "$m" --depths 0 -n 2 --prompt 2 --reps 1 \
    --html "$tmp/names.html" --svg "$tmp/names.svg" --csv
check "a comma in a name is no column" grep -q "^\"$name\"," "$tmp/out"
have python3 "the names" && check "the page and the chart" python3 -c 'import sys, xml.dom.minidom
xml.dom.minidom.parse(sys.argv[2])
assert "<b>" not in open(sys.argv[1]).read()' "$tmp/names.html" "$tmp/names.svg"

test_case "compare --json"
expect 0 "" compare "$m" --kv-heads 2,1 $quality --reps 1 --kv f32,f32/f16 --json
cat >"$tmp/check.py" <<'END'
import json, sys
variants = json.load(open(sys.argv[1]))["variants"]
cache = variants[0]["caches"][0]
assert [v["kv_heads"] for v in variants] == [2, 1]
assert cache["kl_to_f32"] == 0
assert cache["bytes_per_position"] == 2 * 2 * 2 * 16 * 4
mixed = variants[0]["caches"][1]
assert mixed["type"] == "f32/f16" and mixed["bytes_per_position"] == 2 * 2 * 16 * (4 + 2)
assert 0 < mixed["kl_to_f32"] < 1e-3
END
have python3 "--json" && check "the figures" python3 "$tmp/check.py" "$tmp/out"

test_case "compare --batch: sequences together, where they fit"
expect 0 "" compare "$m" --depths 0,100 -n 4 --prompt 4 --reps 1 --batch 2,64 --memory 1M -j 2 \
    --json
cat >"$tmp/batch.py" <<'END'
import json, sys
for v in json.load(open(sys.argv[1]))["variants"]:
    few, many = v["batches"]
    assert (few["sequences"], many["sequences"], many["depth"]) == (2, 64, 100)
    assert few["tokens_per_second"] > 0
    # the cache of 64 sequences of 104 positions: 3.4 MB, 1.7 MB and 852 kB beside the weights
    assert (many["tokens_per_second"] is None) == (v["kv_heads"] > 1), v
    assert few["fits"] and many["fits"] == (v["kv_heads"] == 1), v
END
have python3 "--json" && check "the figures" python3 "$tmp/batch.py" "$tmp/out"
expect 0 "" compare "$m" --depths 100 -n 4 --prompt 4 --reps 1 --batch 64 --memory 1M
check "the table says so" grep -q "^MHA .* no memory$" "$tmp/out"
# in a limit of 1.2 GB, less than MHA's 40 caches alone would take; where the program starts in it,
# and is not emulated: that takes a minute
if [ "$(uname)" = Linux ] && [ "${run%-emulated}" = "$run" ] &&
        (ulimit -v 1200000 && "$run" info "$m") >/dev/null 2>&1; then
    (ulimit -v 1200000 && "$run" compare --kv-heads 32,1 --depths 0,4096 -n 2 --prompt 4 --reps 1 \
        --shape dim=64,layers=1,heads=32,head_dim=64,ffn=64,vocab=256,type=f16 -j 1 \
        --batch 1,40 >"$tmp/out" 2>"$tmp/err")
    check "the system refuses: exit code 0" test $? -eq 0
    check "the table says so too" grep -q "^MHA .* [0-9]*  *no memory$" "$tmp/out"
    check "what fits is measured" grep -q "^MQA .* [0-9][0-9]*  *[0-9][0-9]*$" "$tmp/out"
fi
expect 1 "none.gguf" compare "$m" "$tmp/none.gguf" --html "$tmp/early.html"
check "no empty page is left" test ! -e "$tmp/early.html"
if [ -z "${EXE:-}" ] && ln -s "$tmp/nowhere.html" "$tmp/link.html"; then # not Windows
    expect 1 "none.gguf" compare "$m" "$tmp/none.gguf" --html "$tmp/link.html"
    check "a link that leads nowhere yet stays" test -L "$tmp/link.html"
fi
expect 0 "" compare "$m" --kv-heads 2,1 --depths 0,100 -n 4 --prompt 4 --reps 1 --batch 1,64 \
    --memory 1M --kv f16,f32 --csv
cut -d, -f1,3-5,8 "$tmp/out" | sed 's/[0-9]*\.[0-9]*$/speed/' >"$tmp/rows"
for v in GQA-2 MQA; do
    for kv in f16 f32; do printf '%s\n' "$v,$kv,0,1,speed" "$v,$kv,100,1,speed"; done
    printf '%s\n' "$v,f16,100,1,speed" "$v,f16,100,64,$(test $v = GQA-2 || echo speed)"
done >"$tmp/expected"
sed 1d "$tmp/rows" >"$tmp/csv"
same "$tmp/csv" "$tmp/expected" "rows of the CSV: $(cat "$tmp/rows")"
expect 2 "expected at most" compare "$m" --batch 2,x

test_case "compare interrupted: what was measured"
cat >"$tmp/interrupt.py" <<'END'
import os, re, select, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
words = [sys.argv[1], "compare", "--shape", "dim=64,layers=1,heads=4,ffn=64,vocab=100",
         "--kv-heads", "4,1", "--depths", "0", "-j", "1"]
def interrupt(options, when):
    master, slave = os.openpty()
    run = subprocess.Popen(words + options, stdout=subprocess.PIPE, stderr=slave, text=True)
    err = ""
    while not re.search(when + r" \d+:\d\d left", err):
        err += os.read(master, 1000).decode()
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    while "interrupted:" not in err and select.select([master], [], [], 5)[0]:
        err += os.read(master, 1000).decode()
    os.close(slave) # not before: some systems drop what nobody has read
    assert run.returncode == -signal.SIGINT, run.returncode
    assert "interrupted: this was measured" in err, err
    assert "\nMHA " in out and "\nMQA " in out, out
    return out
out = interrupt(["-n", "1000", "--reps", "50"], r"\b[4-9]%, about") # the first round is the warm-up
assert "medians of 50" not in out, out
# 6 figures a round, the last two of batches: after the 10th of 12, none or one of those
out = interrupt(["-n", "4000", "--reps", "1", "--batch", "2"], r"\b83%, about")
assert re.search(r"^MQA .* -$", out, re.M) and "no memory" not in out, out
words = [sys.argv[1], "compare", sys.argv[2], "--kv-heads", "4,1", "--depths", "0", "-j", "1"]
out = interrupt(["-f", sys.argv[3], "-c", "4"], r"perplexity: \d+ of \d+ chunks: .*, about")
assert "medians of 5 " in out and "bits a byte" not in out, out
END
posix "sending SIGINT to a program on a terminal" && have python3 "a signal" &&
    check "the table" python3 "$tmp/interrupt.py" "$run" "$m" "$tmp/corpus.txt"

test_case "compare --baseline: what changed beyond the spread"
scored="--depths 0 -n 8 --prompt 4 --reps 3 -f $tmp/corpus.txt -c 32 --chunks 4 --batch 2"
expect 0 "" compare "$m" --kv-heads 2,1 $scored --json
cat >"$tmp/edit.py" <<'END'
import json, sys
old = json.load(open(sys.argv[1]))
for v in old["variants"]:
    v["prefill"] /= 1e9 # changed whatever the machine does
    v["prefill_spread"] = v["batches"][0]["spread"] = -1e6 # and however much speeds spread now
    v["caches"][0]["decode"][0]["spread"] = 1e6 # unchanged
    v["batches"][0]["tokens_per_second"] /= 1e9
old["variants"][0]["caches"][0]["bits_per_byte"] *= 1.01
old["prompt"] = 5
old["variants"][1]["name"] = "GQA-3"
old["isa"], old["text"] = "avx9", "other.txt"
json.dump(old, open(sys.argv[1] + ".old", "w"))
END
if have python3 "--baseline"; then
    check "an older one" python3 "$tmp/edit.py" "$tmp/out"
    expect 0 "" compare "$m" --kv-heads 2,1 $scored --baseline "$tmp/out.old"
    check "of the same shape" not grep -q "^  (layers" "$tmp/out"
    check "of another instruction set" grep -q "^  (isa: avx9, now [a-z]" "$tmp/out"
    check "of another text" grep -q "^  (text: other.txt, now .*)$" "$tmp/out"
    check "prefill" grep -q "^  GQA-2  .*prefill.* -> .* +[0-9.]*%" "$tmp/out"
    check "quality" grep -q "^  GQA-2 .*f16: bits a byte.* -1.0%" "$tmp/out"
    check "batches" grep -q "^  GQA-2  .*2 at 0, tok/s .* -> .* +[0-9.]*%" "$tmp/out"
    check "the prompt's length" grep -q "^  (prompt: 5, now 4)$" "$tmp/out"
    check "the sum" grep -q "3 changed, 2 did not, 5 are not in both" "$tmp/out"
fi
echo "[1]" >"$tmp/list.json"
expect 1 "no \"variants\"" compare "$m" --baseline "$tmp/list.json"
expect 1 "none.json: No such file" compare "$m" --baseline "$tmp/none.json"
echo '{"layers": 3, "dim": 32, "variants": []}' >"$tmp/three.json"
expect 0 "" compare "$m" $fast --baseline "$tmp/three.json"
check "of another shape" grep -q "^  (layers: 3, now 2)" "$tmp/out"

if have python3 "models with latent attention, with layers that differ"; then
    make_others
    test_case "compare of latent attention"
    expect 0 "" compare "$tmp/deepseek2.gguf" $fast
    check "nothing is refused" test ! -s "$tmp/err"
    check "its row of memory" grep -q "^MLA  *f16  *160 bytes" "$tmp/out"
    check "no other row" test "$(grep -c '^M[HQL]A' "$tmp/out")" -eq 2
    expect 1 "there are no KV heads to repeat" compare "$tmp/deepseek2.gguf" $fast --kv-heads 4,1

    test_case "bench counts the arithmetic of attention layer by layer"
    for name in deepseek2 gemma4; do
        expect 0 "" bench "$tmp/$name.gguf" -p 0 -n 4 -r 1 --depths 0,100 --json
        cp "$tmp/out" "$tmp/$name.json"
    done
    cat >"$tmp/macs.py" <<'END'
import json, sys
def counted(name): # multiply-adds of 4 tokens at depths 0 and 100
    first, last = json.load(open(f"{sys.argv[1]}/{name}.json"))["tests"]
    return [t["mac_per_second"] * t["seconds"] for t in (first, last)]
for name, macs in (("deepseek2", 2 * 4 * (32 + 8 + 32) * 400), # gemma4: windows of 9, no windows
                   ("gemma4", 3 * 4 * (2 * 8 * (4 * 9 - 10) + 2 * 16 * 400))):
    first, last = counted(name)
    assert abs((last - first) / macs - 1) < 1e-4, (name, last - first, macs)
END
    check "operations" python3 "$tmp/macs.py" "$tmp"
fi

test_case "compare: wrong usage"
expect 2 "multiple that divides its 4" compare "$m" --kv-heads 3 --depths 0
expect 2 "give either models or --shape" compare
expect 2 "rising" compare "$m" --kv-heads 2 --depths 8,4
expect 2 "perplexity" compare --shape dim=64 --kv-heads 1 -f "$tmp/corpus.txt"
expect 2 "unknown type q9" compare "$m" --kv-heads 2 --kv f16,q9
expect 2 "unknown type f16/q9" compare "$m" --kv-heads 2 --kv f16/q9
expect 2 "8G" compare "$m" --kv-heads 2 --memory much

test_case "-z with a model that has a tokenizer"
expect 1 "brings its own tokenizer" compare "$m" --kv-heads 2 --depths 0 -z "$tmp/corpus.txt"
expect 1 "brings its own tokenizer" bench "$m" -p 8 -n 4 -r 1 -z "$tmp/corpus.txt"

test_case "a chart replaces a chart and nothing else"
cp "$m" "$tmp/own.gguf"
expect 2 "give another name" compare "$tmp/own.gguf" --kv-heads 2 --depths 0 -n 2 \
    --svg "$tmp/own.gguf"
check "the model is as it was" cmp -s "$m" "$tmp/own.gguf"
for option in --svg --html; do
    expect 1 "no/x: cannot write: No such" compare "$m" --depths 0 -n 2 $option "$tmp/no/x"
    check "nothing is measured" test ! -s "$tmp/out"
done
expect 2 "--svg and --html both write" compare "$m" --svg "$tmp/x.svg" --html "$tmp/x.svg"
for round in 1 2; do
    expect 0 "" compare "$m" --kv-heads 2 --depths 0 -n 2 --reps 1 --svg "$tmp/own.svg"
done

test_case "bench"
expect 0 "" bench "$m" -p 8 -n 4 --depths 0,8 --batch 1,2 -r 1
check "2 depths of 1 prefill and 2 batches" test "$(grep -c '^| [pt][pg]' "$tmp/out")" -eq 6
expect 0 "" bench "$m" -p 8 -n 4 -r 1 --csv
check "2 tests and a head" test "$(wc -l <"$tmp/out")" -eq 3
expect 0 "" bench --shape $shape,kv_heads=2 -p 8 -n 4 -r 1 --json
count='import json, sys; assert len(json.load(open(sys.argv[1]))["tests"]) == 2'
have python3 "--json" && check "--json" python "$count" "$tmp/out"
expect 2 "--shape" bench
expect 2 "unknown field \"hats\"" bench --shape hats=3

test_case "bench: instruction sets, a prompt beside sequences, a text with --lookup"
cat >"$tmp/rows.py" <<'END'
import json, sys
found = json.load(open(sys.argv[1]))
sets = list(dict.fromkeys(t["isa"] for t in found["tests"]))
assert sets[0] == found["isa"] and sorted(sets) == sorted(sys.argv[2:]), sets
rows = [(t["test"], t["isa"], t["sequences"], t["ratio"] is not None) for t in found["tests"]]
tests = [("pp9", 1, 0), ("tg4", 1, 0), ("pp9+tg", 1, 1), ("tg+pp9", 1, 1), ("tg4", 2, 0),
         ("pp9+tg", 2, 1), ("tg+pp9", 2, 1), ("text4", 1, 0), ("lookup4", 1, 1)]
assert rows == [(name, isa, n, has or isa != sets[0]) for name, n, has in tests for isa in sets]
at = {row[:3]: t["tokens_per_second"] * t["seconds"] for row, t in zip(rows, found["tests"])}
assert abs(at["pp9+tg", sets[0], 2] - 9) < 1e-3 and abs(at["tg+pp9", sets[0], 2] - 6) < 1e-3, at
END
echo "One day, one day, one day" >"$tmp/day"
own=tests/models/stories-gqa.gguf
expect 0 "" bench $own -p 9 -n 4 --batch 1,2 --mix 4 --lookup -f "$tmp/day" --isa all -r 2 --json
have python3 "--json" && check "the rows" python3 "$tmp/rows.py" "$tmp/out" $(instruction_sets)
expect 0 "" bench "$m" -p 8 -n 0 -r 1 --isa scalar --csv
check "the set and no ratio" grep -q "^pp8,.*,scalar,,[A-Z]*[-0-9]*$" "$tmp/out"
expect 1 "instruction set \"nope\"" bench "$m" -p 8 -n 0 -r 1 --isa scalar,nope
expect 2 "--lookup and -f FILE go together" bench $own --lookup
expect 2 "--lookup and -f FILE go together" bench $own -f "$tmp/day"
expect 2 "with a model file" bench --shape $shape --lookup -f "$tmp/day"
expect 2 "--isa: expected 1 to" bench $own --isa ,
expect 2 "--mix needs a prompt" bench "$m" -p 0 -n 4 --mix 3

test_case "bench: kinds of attention"
kinds="bench --shape $shape,head_dim=32 -p 4 -n 2 -r 2 --kv-heads"
expect 0 "" $kinds 4,2,1,mla,gta
check "a line of each" test "$(grep -c 'a position$' "$tmp/out")" -eq 5
for row in "pp4 | MHA" "tg2 | GQA-2" "tg2 | MQA" "pp4 | MLA" "tg2 | GTA-1"; do
    check "$row" grep -q "^| $row |" "$tmp/out"
done
cat >"$tmp/kinds.py" <<'END'
import json, sys
tests = json.load(open(sys.argv[1]))["tests"]
sets = list(dict.fromkeys(t["isa"] for t in tests))
assert [(t["test"], t["isa"], t["attention"], t["ratio"] is not None) for t in tests] == [
    (name, isa, kind, (isa, kind) != (sets[0], "MHA"))
    for name in ("pp4", "tg2") for isa in sets for kind in ("MHA", "MLA")], tests
assert tests[1]["mac_per_second"] * tests[1]["seconds"] != \
    tests[0]["mac_per_second"] * tests[0]["seconds"], "each by its own shape"
END
expect 0 "" $kinds 4,mla --isa all --json
have python3 "--json" && check "the rows" python3 "$tmp/kinds.py" "$tmp/out"
expect 1 "3: random model: n_heads 4" $kinds 4,3
check "nothing is measured" test ! -s "$tmp/out"
expect 2 "expected 1 to 16 of them" $kinds ,
expect 2 "run compare MODEL takes it" bench "$m" --kv-heads 2
expect 2 "beside --kv-heads" bench --shape $shape,kv_heads=mla --kv-heads 2
finish
