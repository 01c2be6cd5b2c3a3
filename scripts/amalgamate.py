"""amalgamate.py OUT_DIR [C FILE...]: the library as a pair of files, gqa.h and gqa.c, for programs
that want to copy it in. Without file names: all of the library.

gqa.c is a concatenation: the headers with include guards once, at the top; then each source file,
the other local headers in place of their #include, and at its end an #undef of every macro it
defined. Nothing is renamed: the script fails when two files define the same name, and prints it."""
import collections
import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
FOLDERS = [".", "base", "kernels", "formats", "vocab", "weights", "session", "chat"]
NOT_LIBRARY = {"run.c", "base/console_posix.c", "base/console_windows.c"}
# Only one of these is compiled: they may define the same names.
ALTERNATIVES = {"base/os_windows.c": "base/os_posix.c"}
HEAD = """/* gqa.c: the whole library in one file, made by scripts/amalgamate.py. Compile:
 *     cc -O3 -fopenmp -c gqa.c
 * and link with -lm. Without -fopenmp it starts its threads itself: -pthread instead. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "gqa.h"
"""


def sources():
    """The C files of the library: those at the top and those of its folders."""
    for folder in FOLDERS:
        path = os.path.join(ROOT, folder)
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            file = os.path.normpath(os.path.join(folder, name))
            if name.endswith(".c") and file not in NOT_LIBRARY:
                yield file


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def expand(path, shared):
    """The text of a file with its local headers put in; those with include guards go to shared."""
    out = []
    for line in read(path).split("\n"):
        include = re.match(r'\s*#include "([^"]+)"', line)
        if not include:
            if not re.match(r"#define _\w+_SOURCE", line):
                out.append(line)
            continue
        header = os.path.normpath(os.path.join(os.path.dirname(path), include.group(1)))
        if not re.search(r"^#ifndef GQA_\w+_H\b", read(header), re.M):
            out.append(expand(header, shared))
        elif header != "model.h" and header not in shared:
            shared[header] = ""  # mentioned once
            text = expand(header, shared)
            del shared[header]   # after the headers that it includes
            shared[header] = text
    return "\n".join(out)


def macros(text):
    return set(re.findall(r"^\s*#\s*define (\w+)", text, re.M))


def own_names(text):
    """What a file defines at the margin: static functions and data, types, enumerators."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    patterns = [
        r"^(?:static|TEMPLATE)\b[^=;(]*?\b(\w+)(?:\[[^=;]*)?\s*[(=;]",  # function, data
        r"^(?:typedef )?(?:struct|union|enum) (\w+) *\{",
        r"^(?:typedef .*|\}) ?\b(\w+)(?:\[.*\])?;$",
    ]
    names = {name for pattern in patterns for name in re.findall(pattern, text, re.M)}
    for body in re.findall(r"^(?:typedef )?enum\b[^{;]*\{(.*?)\}", text, re.M | re.S):
        names |= set(re.findall(r"(?:^|,)\s*(\w+)", body))
    return names - macros(text)


def main():
    out_dir, files = sys.argv[1], sys.argv[2:] or sources()
    shared, units = {}, {}
    for path in files:
        units[path] = expand(path, shared)
    where = collections.defaultdict(set)
    for path, text in units.items():
        for name in own_names(text):
            where[name].add(ALTERNATIVES.get(path, path))
    clashes = {name: paths for name, paths in where.items() if len(paths) > 1}
    for name, paths in sorted(clashes.items()):
        print(f"amalgamate.py: {name} is defined in {', '.join(sorted(paths))}", file=sys.stderr)
    os.makedirs(out_dir, exist_ok=True)
    with open(os.path.join(out_dir, "gqa.h"), "w", encoding="utf-8") as f:
        f.write(read("model.h"))
    with open(os.path.join(out_dir, "gqa.c"), "w", encoding="utf-8") as f:
        f.write(HEAD)
        for path, text in [*shared.items(), *units.items()]:
            f.write(f"\n/* ==== {path} ==== */\n{text}\n")
            if path in units:
                f.write("".join(f"#undef {macro}\n" for macro in sorted(macros(text))))
    return 1 if clashes else 0


if __name__ == "__main__":
    sys.exit(main())
