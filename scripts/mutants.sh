#!/bin/sh
# scripts/mutants.sh [TABLE]: makes each one-line change of TABLE (tests/mutants.txt) in a copy of
# the sources and runs the test that must fail then. Prints the changes that no test noticed
# ("survives") and those whose old text is not in the file exactly once; exit code 1 if there are
# any. A line of the table: FILE | OLD TEXT | NEW TEXT | TEST PROGRAM; # begins a comment line.
set -eu
cd "$(dirname "$0")/.."
table=$(realpath "${1:-tests/mutants.txt}")
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' HUP INT TERM
git ls-files -z | xargs -0 tar cf - | tar xf - -C "$copy"
cd "$copy"
python3 - "$table" "${CC:-gcc}" <<'PYTHON'
import subprocess
import sys

table, cc = sys.argv[1:]
bad = 0


def fails(test):
    """None: it does not compile; else whether the test fails."""
    make = ["make", "-s", "-j2", f"CC={cc}", f"build/tests/{test}"]
    if subprocess.run(make, capture_output=True).returncode:
        return None
    try:
        return subprocess.run([f"build/tests/{test}"], capture_output=True,
                              timeout=300).returncode != 0
    except subprocess.TimeoutExpired:
        return True


for line in open(table):
    if line.startswith("#") or not line.strip():
        continue
    path, old, new, test = (part.strip() for part in line.split(" | "))
    source = open(path).read()
    if source.count(old) != 1:
        print(f"{path}: {source.count(old)} times: {old}")
        bad += 1
        continue
    open(path, "w").write(source.replace(old, new))
    result = fails(test)
    open(path, "w").write(source)
    state = {True: "killed", False: "survives", None: "does not compile"}[result]
    bad += state != "killed"
    print(f"{state}: {path}: {old} -> {new} ({test})", flush=True)
sys.exit(bad > 0)
PYTHON
