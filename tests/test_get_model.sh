#!/bin/sh
# scripts/get-model.sh against a file server of our own: download, resume, checks, the command it prints.
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
check() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi; }
if ! command -v python3 >/dev/null || ! command -v curl >/dev/null; then
    echo "SKIPPED: get-model: needs python3 and curl"; echo "0 passed, 0 failed, 1 skipped"; exit 0
fi
work=$(mktemp -d); server=
trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
site=$work/site/karpathy/tinyllamas/resolve/main
mkdir -p "$site"
head -c 70000 /dev/urandom >"$site/stories15M.bin"
head -c 500 /dev/urandom >"$work/site/tokenizer.bin"
cat >"$work/server.py" <<'END'
"""A file server that understands Range and publishes SHA-256 sums as the hub does."""
import hashlib, http.server, os, sys
class Files(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self): self.answer(False)
    def do_GET(self): self.answer(True)
    def log_message(self, *_): pass
    def answer(self, body):
        path = os.path.join(sys.argv[1], self.path.lstrip("/"))
        if not os.path.isfile(path):
            self.send_error(404)
            return
        data = open(path, "rb").read()
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            open(os.path.join(sys.argv[1], "resumed"), "w").write(str(start))
        self.send_header("Content-Length", str(len(data) - start))
        sum_file = path + ".sum"
        self.send_header("X-Linked-ETag", '"%s"' % (open(sum_file).read() if os.path.exists(sum_file) else hashlib.sha256(data).hexdigest()))
        self.end_headers()
        if body: self.wfile.write(data[start:])
server = http.server.HTTPServer(("127.0.0.1", 0), Files)
open(sys.argv[2], "w").write(str(server.server_port))
server.serve_forever()
END
python3 "$work/server.py" "$work/site" "$work/port" & server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -s "$work/port" ] && break; sleep 0.3; done
GET_MODEL_BASE=http://127.0.0.1:$(cat "$work/port")
GET_MODEL_TOKENIZER=$GET_MODEL_BASE/tokenizer.bin
export GET_MODEL_BASE GET_MODEL_TOKENIZER
export GET_MODEL_MIN=70000
get() { sh scripts/get-model.sh "$@" >"$work/out" 2>"$work/err"; }

get stories15M "$work/a"; check $? "download: $(cat "$work/err")"
cmp -s "$site/stories15M.bin" "$work/a/stories15M.bin"; check $? "the file arrived whole"
cmp -s "$work/site/tokenizer.bin" "$work/a/tokenizer.bin"; check $? "the tokenizer came too"
grep -q "./run $work/a/stories15M.bin" "$work/out"; check $? "prints the command to run it"
grep -q "SHA-256 agrees" "$work/err"; check $? "compared the published checksum"

mkdir -p "$work/b"; head -c 30000 "$site/stories15M.bin" >"$work/b/stories15M.bin.part"
get stories15M "$work/b"; check $? "resume"
[ "$(cat "$work/site/resumed" 2>/dev/null)" = 30000 ]; check $? "went on at byte 30000"
cmp -s "$site/stories15M.bin" "$work/b/stories15M.bin"; check $? "the resumed file is whole"

printf '%064d' 0 >"$site/stories15M.bin.sum"
! get stories15M "$work/c"; check $? "refuses a wrong checksum"
grep -q "SHA-256 is not" "$work/err"; check $? "says that the checksum is wrong"
rm "$site/stories15M.bin.sum"
! GET_MODEL_MIN=90000 get stories15M "$work/d"; check $? "refuses a short file"
! get stories110M "$work/e"; check $? "a missing file fails"
[ ! -e "$work/e/stories110M.bin" ]; check $? "and leaves no file"
get nothing; [ $? -eq 2 ]; check $? "an unknown name is wrong usage"
! HF_TOKEN='' get llama-3.2-1b "$work/f"; check $? "a licensed model needs a token"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
