#!/usr/bin/env python3
"""check-lines.py [FOLDER OR FILE...]: fails where a line is wider than 100 columns, a file longer than 600 lines or a function of C
longer than 60, and where a line holds two statements. Without arguments: every source file that git knows of.

A function is what stands between a line that begins at the margin and ends in "{", and the next "}" at the margin."""
import os
import re
import subprocess
import sys

WIDTH, FILE_LINES, FUNCTION_LINES = 100, 600, 60
KINDS = (".c", ".h", ".sh", ".py", "Makefile", ".mk", ".ci/run")
TABLES = {"vocab/unicode_table.c"}  # numbers, made by a script
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def sources(wanted):
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, text=True, check=True).stdout.split("\n")
    for path in listed:
        if path.endswith(KINDS) and path not in TABLES and os.path.exists(os.path.join(ROOT, path)):
            if not wanted or any(path == w or path.startswith(w.rstrip("/") + "/") for w in wanted):
                yield path


def without_text(line):
    """A line of C without its strings, characters and comments."""
    line = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'', '""', line)
    return re.sub(r"/\*.*?(\*/|$)|//.*", "", line)


def two_statements(line):
    """Whether a line of C ends a statement and goes on; the three parts of a for are one, and so is { a; b; } of a macro."""
    code = without_text(line)
    if code.lstrip().startswith(("#", "*")) or code.rstrip().endswith("\\"):
        return False
    while re.search(r"\([^()]*\)", code):
        code = re.sub(r"\([^()]*\)", "", code)
    body = re.sub(r"\{[^{}]*\}", "", code)  # struct { int x; } and one-line functions have their own rule
    return bool(re.search(r";\s*[^\s;}]", body)) or any(b.count(";") > 1 for b in re.findall(r"\{([^{}]*)\}", code)
                                                        if not re.search(r"\b(struct|union|enum)\b", code))


def faults(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        lines = f.read().split("\n")
    if len(lines) - 1 > FILE_LINES:
        yield len(lines) - 1, f"the file has more than {FILE_LINES} lines"
    start = None
    for number, line in enumerate(lines, 1):
        if len(line) > WIDTH:
            yield number, f"{len(line)} columns, at most {WIDTH}"
        if not path.endswith((".c", ".h")):
            continue
        if re.match(r"\S.*\{$", line) and not line.startswith(("typedef", "enum", "struct", "#", "extern")):
            start = number
        elif line.startswith("}") and start:
            if number - start + 1 > FUNCTION_LINES:
                yield start, f"a function of {number - start + 1} lines, at most {FUNCTION_LINES}"
            start = None
        if two_statements(line):
            yield number, "two statements on a line"


def main():
    count = 0
    for path in sources(sys.argv[1:]):
        for number, fault in faults(path):
            print(f"{path}:{number}: {fault}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
