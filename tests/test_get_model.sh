#!/bin/sh
# test_get_model.sh: scripts/get-model.sh against a file server of our own: download, resume,
# checks, the command it prints.
cd "$(dirname "$0")/.." || exit 1
. tests/checks.sh
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
import hashlib, http.server, os, sys

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


server = http.server.HTTPServer(("127.0.0.1", 0), Files)
open(port_file, "w").write(str(server.server_port))
server.serve_forever()
END
python3 "$tmp/server.py" "$tmp/site" "$tmp/port" &
server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -s "$tmp/port" ] && break
    sleep 0.3
done
GET_MODEL_BASE=http://127.0.0.1:$(cat "$tmp/port")
GET_MODEL_TOKENIZER=$GET_MODEL_BASE/tokenizer.bin
GET_MODEL_MIN=70000
export GET_MODEL_BASE GET_MODEL_TOKENIZER GET_MODEL_MIN
get() { sh scripts/get-model.sh "$@" >"$tmp/out" 2>"$tmp/err"; }

test_case "download"
check "exit code" get stories15M "$tmp/a"
same "$site/stories15M.bin" "$tmp/a/stories15M.bin" "the file arrived whole"
same "$tmp/site/tokenizer.bin" "$tmp/a/tokenizer.bin" "the tokenizer came too"
check "prints the command to run it" grep -q "./run $tmp/a/stories15M.bin" "$tmp/out"
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
get nothing
check "an unknown name is wrong usage" test $? -eq 2
finish
