#!/bin/sh
# test_web.sh RUN: the library as WebAssembly, by emscripten: its tests (WASM_TESTS of lib.mk) and
# the example in node, the page in headless Chromium (npm's playwright-core is found by NODE_PATH).
# Both tell the story that the program tells in plain C, which adds in the same order; sets with
# fused multiply-adds round differently, which may decide between two words that are as likely.
run=$1
. tests/checks.sh
build=$(dirname "$run") model=models/stories-gqa.gguf
js=$build/wasm/gqa.js page=$build/web/gqa.html
# WebAssembly is built with flags of its own, whatever those of the program are
make_here() { env -u MAKEFLAGS -u CFLAGS -u LDFLAGS make -s "$@" BUILD="$build"; }
# two pages are the same but for the first script, which is the compiler's
same_page() { python3 -c 'import sys
pages = [open(path, encoding="utf-8").read().split("<script>\n") for path in sys.argv[1:]]
for page in pages: del page[1]
sys.exit(len(pages[0]) != 3 or pages[0] != pages[1])' "$@"; }
# opens a page in Chromium and compares its story with that of the program
try_page() {
    CHROMIUM=$(command -v chromium) node tests/web_page.js "$1" "$2" >"$tmp/out" 2>"$tmp/err"
    check "the page $1" test $? -eq 0
    same "$tmp/out" "$tmp/native" "the page $1 tells another story"
}

test_case "the page in docs/ is that of web/ and models/"
if have python3 "what is in the page"; then
    python3 web/make_page.py /dev/null $model "$tmp/page.html"
    check "docs/gqa.html is old: make web, and copy it" same_page docs/gqa.html "$tmp/page.html"
fi
check "docs/gqa.html has more than 6 MiB" test "$(wc -c <docs/gqa.html)" -le 6291456

test_case "make web says what is missing"
mkdir "$tmp/bin"
for tool in make sh cat gcc cc uname find; do
    ln -s "$(command -v $tool)" "$tmp/bin/$tool"
done
env -u MAKEFLAGS PATH="$tmp/bin" make -s web BUILD="$tmp/none" 2>"$tmp/err"
check "make web fails" not test $? -eq 0
check "the package" grep -q "emscripten and node-acorn" "$tmp/err"

if have emcc "WebAssembly" && have node "WebAssembly"; then
    test_case "make web"
    check "make web" make_here web
    check "make wasm-test" make_here wasm-test

    for t in $(make -s print-wasm-tests); do
        test_case "test_$t, in node"
        node "$build/wasm/test_$t.js" -v >"$tmp/$t" 2>"$tmp/err"
        check "test_$t.js" test $? -eq 0
    done
    check "the kernels of SIMD128" grep -q "^ok     wasm: products, q8_0" "$tmp/kernels"
    check "attention with SIMD128" grep -q "^ok     wasm: attention, q8_0" "$tmp/attention"

    test_case "examples/javascript"
    # web.c opens q5_0 as q8_0
    expect 0 "" convert $model "$tmp/q8.gguf" --type q8_0 --quiet
    GQA_ISA=scalar "$run" "$tmp/q8.gguf" -i "Once upon a time" -t 0 --quiet >"$tmp/native"
    story() { GQA_JS=$js node examples/javascript/story.js "$@" >"$tmp/out" 2>"$tmp/err"; }
    story $model
    check "story.js" test $? -eq 0
    printf 'Once upon a time%s\n' "$(cat "$tmp/out")" >"$tmp/story"
    same "$tmp/story" "$tmp/native" "node tells another story"
    story $model "Once upon a time" 9
    check "story.js: cancelled" test $? -eq 0
    nine=", there was a little girl named Lily."
    check "story.js: no cancel" test "$(cat "$tmp/out")" = "$nine"
    story $model "<i>" 999
    check "story.js: a text that fills the context" test $? -eq 0
    check "it ends with the context's 512 positions" test "$(wc -w <"$tmp/out")" -lt 512
    GQA_JS=$js node examples/javascript/story.js $model 2>"$tmp/err" | head -c 5 >"$tmp/out"
    check "story.js: a pipe that is closed" test "$(wc -c <"$tmp/err")" -eq 0
    GQA_JS=$tmp/none.js node examples/javascript/story.js $model >"$tmp/out" 2>"$tmp/err"
    check "story.js: no module" grep -q 'none.js: not there; "make web" builds it$' "$tmp/err"
    story README.md
    check "story.js: README.md is no model" not test $? -eq 0
    check "story.js: the message" grep -q "^memory: not a model" "$tmp/err"

    test_case "model.js: prompts and texts of any size"
    cat >"$tmp/sizes.js" <<'END'
const [, , root, js, file] = process.argv;
const { GqaModel, copyBytes } = require(`${root}/web/model.js`);
require(js)().then((module) => {
    const model = new GqaModel(copyBytes(module, require("fs").readFileSync(file)));
    const start = (prompt) => { try { model.start(prompt, {}); return "ok"; }
                                catch (error) { return error.message; } };
    console.log(start("x".repeat(3e6)));
    console.log(start("a\0b"), start(""), start("Once"));
    const [whole, rest] = [model.next(100000, true), model.text()];
    console.log(whole > 200, rest.length > 600, model.next(1, true));
    start("Once");
    const steps = [];
    while (model.next(7, true)) steps.push(model.text());
    console.log(steps.join("") === rest);
});
END
    node "$tmp/sizes.js" "$PWD" "$(realpath "$js")" $model >"$tmp/out" 2>"$tmp/err"
    check "sizes.js" test $? -eq 0
    check "three million characters" grep -q "context" "$tmp/out"
    check "a zero character, nothing, a word" grep -q "^ok ok ok$" "$tmp/out"
    check "100,000 tokens: the context is full" grep -q "^true true 0$" "$tmp/out"
    check "the same text in steps" grep -q "^true$" "$tmp/out"

    test_case "web-speed.js"
    web_speed() { GQA_ISA=scalar node scripts/web-speed.js "$run" "$@" >"$tmp/out" 2>"$tmp/err"; }
    web_speed "$js" $model 1 0.001
    check "web-speed.js" test $? -eq 0
    check "a share" grep -q "^median of 1: [0-9.]* (" "$tmp/out"
    web_speed "$js" $model 1 1000
    check "below the floor" test $? -eq 1
    check "the message" grep -q "^web-speed: [0-9.]* is below 1000$" "$tmp/err"

    if ! node -e 'require("playwright-core")' 2>/dev/null; then
        skip "the page: no playwright-core in NODE_PATH"
    elif have chromium "the page"; then
        test_case "the page, in Chromium"
        try_page "$page" "${SCREENSHOTS:-$tmp}"
        cmp -s "$page" docs/gqa.html || try_page docs/gqa.html "$tmp"
        web_speed docs/gqa.html $model 1
        check "web-speed.js in Chromium" grep -q "^best: [0-9.]* (" "$tmp/out"
    fi
fi
finish
