#!/usr/bin/env python3
"""check-lines.py [--root DIR] [FOLDER OR FILE...]: fails where a line is wider than 100 columns, a
file longer than 600 lines or a function of C or JavaScript longer than 60, where a line of these
(macros included) or of a shell script holds two statements, and where the C outside tests/ and
examples/ has 200 casts to size_t or more (store widths and strides as size_t). Without arguments:
every source file that git knows of.

A function is what stands between a line that begins at the margin and ends in "{", and the next "}"
at the margin."""
import os
import re
import subprocess
import sys

WIDTH, FILE_LINES, FUNCTION_LINES, CASTS = 100, 600, 60, 200
BRACES = (".c", ".h", ".js", ".mjs") # languages of C's braces and semicolons
KINDS = BRACES + (".sh", ".py", ".css", "Makefile", ".mk", ".ci/run")
EXEMPT = {"vocab/unicode_table.c": "a table of numbers, made by scripts/make_unicode_table.py"}
WANTED = sys.argv[1:]
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
if WANTED[:1] == ["--root"]:
    ROOT = WANTED[1]
    WANTED = WANTED[2:]


def sources(wanted):
    command = ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for path in sorted(set(listed.split("\n"))):
        if not path.endswith(KINDS) or path in EXEMPT or not os.path.exists(f"{ROOT}/{path}"):
            continue
        if not wanted or any(path == w or path.startswith(w.rstrip("/") + "/") for w in wanted):
            yield path


def without_text(line):
    """A line of C or JavaScript without its strings, characters and comments."""
    line = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`', '""', line)
    return re.sub(r"/\*.*?(\*/|$)|//.*", "", line)


def two_statements(line):
    """Whether a line of C ends a statement and goes on, or returns after a comma. The three parts
    of a for are one."""
    code = re.sub(r"^\s*#\s*define\s+\w+(\([^)]*\))?|\\$", "", without_text(line).rstrip())
    if code.lstrip().startswith(("#", "*")):
        return False
    while re.search(r"\([^()]*\)", code):
        code = re.sub(r"\([^()]*\)", "", code)
    outside = re.sub(r"\{[^{}]*\}", "", code)
    if re.search(r";\s*[^\s;}]|\breturn\b[^;(]*,[^;(]*;", outside):
        return True
    is_type = re.search(r"\b(struct|union|enum)\b", code)
    return not is_type and any(body.count(";") > 1 for body in re.findall(r"\{([^{}]*)\}", code))


def blank_shell(text):
    """A shell script without its strings, comments and here-documents, line by line."""
    def blank(match):
        return '""' + "\n" * match.group(0).count("\n")
    text = re.sub(r"<<-?\s*['\"]?(\w+)['\"]?.*?\n\s*\1$", blank, text, flags=re.S | re.M)
    strings = r"(?<![^\s;(])#[^\n]*|\\.|'[^']*'|\"(?:\\.|[^\"\\])*\""
    return re.sub(strings, blank, text, flags=re.S).split("\n")


def two_commands(code):
    """Whether a ; separates two commands on a line of shell. What opens or closes a compound
    command may follow it, and a function may stand on one line."""
    if re.match(r"\s*\w+\(\) *[{(].*[})]\s*(\|\|.*)?$", code):
        return False
    code = re.sub(r";\s*((then|do|else|fi|done|esac)\b|[})])", " ", code.replace(";;", ""))
    return re.search(r";\s*\S", code) is not None


def lines_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read().split("\n")


def casts(path):
    if not path.endswith((".c", ".h")) or path.startswith(("tests/", "examples/")):
        return 0
    return sum(without_text(line).count("(size_t)") for line in lines_of(path))


def faults(path):
    lines = lines_of(path)
    if len(lines) - 1 > FILE_LINES:
        yield len(lines) - 1, f"the file has more than {FILE_LINES} lines"
    if path.endswith((".sh", ".ci/run")):
        for number, code in enumerate(blank_shell("\n".join(lines)), 1):
            if two_commands(code):
                yield number, "two commands on a line"
    start = None
    for number, line in enumerate(lines, 1):
        if len(line) > WIDTH:
            yield number, f"{len(line)} columns, at most {WIDTH}"
        if not path.endswith(BRACES):
            continue
        is_type = line.startswith(("typedef", "enum", "struct", "#", "extern"))
        if re.match(r"\S.*\{$", line) and not is_type:
            start = number
        elif line.startswith("}") and start:
            if number - start + 1 > FUNCTION_LINES:
                yield start, f"a function of {number - start + 1} lines, at most {FUNCTION_LINES}"
            start = None
        if two_statements(line):
            yield number, "two statements on a line"


def main():
    count = n_casts = 0
    for path in sources(WANTED):
        n_casts += casts(path)
        for number, fault in faults(path):
            print(f"{path}:{number}: {fault}")
            count += 1
    if n_casts >= CASTS:
        print(f"{n_casts} casts to size_t outside tests/ and examples/, at most {CASTS - 1}")
        count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
