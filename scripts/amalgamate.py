"""amalgamate.py OUT_DIR: the library as a pair of files, gqa.h and gqa.c, for programs that want to copy it in.

Each source file of the library follows the other in gqa.c, with local headers put in at their first mention. Names that two
files use for things of their own get the file's name in front; macros end with their file."""
import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
FOLDERS = ["base", "kernels", "formats", "vocab", "weights", "session", "chat"]
FEATURES = "#define _GNU_SOURCE\n#define _FILE_OFFSET_BITS 64\n"


def sources():
    """The C files of the library: those at the top but run.c, and those of its folders."""
    found = []
    for folder in [".", *FOLDERS]:
        path = os.path.join(ROOT, folder)
        files = sorted(f for f in os.listdir(path) if f.endswith(".c") and f != "run.c") if os.path.isdir(path) else []
        found += [os.path.normpath(os.path.join(folder, f)) for f in files]
    return found


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


class Unit:
    """One source file with the headers that are its own (those without include guards) put in."""

    def __init__(self, path, shared):
        self.path, self.shared = path, shared
        self.text = self.expand(path)
        self.names = set(own_names(self.text))
        self.macros = set(re.findall(r"^\s*#\s*define (\w+)", self.text, re.M))

    def expand(self, path):
        out = []
        for line in read(path).split("\n"):
            local = re.match(r'\s*#include "([^"]+)"', line)
            if re.match(r"#define _\w+_SOURCE", line):
                continue
            if not local:
                out.append(line)
                continue
            header = os.path.normpath(os.path.join(os.path.dirname(path), local.group(1)))
            if header.startswith("tests"):
                continue
            if re.search(r"^#ifndef GQA_\w+_H\b", read(header), re.M):
                if header != "model.h":
                    self.share(header)
            else:
                out.append(self.expand(header))
        return "\n".join(out)

    def share(self, header):
        if header in [name for name, _ in self.shared]:
            return
        lines = []
        for line in read(header).split("\n"):
            local = re.match(r'\s*#include "([^"]+)"', line)
            if local:
                inner = os.path.normpath(os.path.join(os.path.dirname(header), local.group(1)))
                if inner != "model.h":
                    self.share(inner)
            else:
                lines.append(line)
        self.shared.append((header, "\n".join(lines)))


def without_comments(text):
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', " ", text, flags=re.S)


def own_names(text):
    """What a file defines for itself at its outermost level: static functions and data, types, enumerators."""
    text = without_comments(text)
    for line in text.split("\n"):
        if re.match(r"(static|ALWAYS_INLINE|extern const gqa_kernels)\b", line):
            function = re.match(r"[^=;{]*?\b(\w+)\s*\(", line.replace("__attribute__((", "  "))
            data = re.match(r"[^=;(]*?\b(\w+)\s*(\[[^=;]*\])?\s*(=|;|,)", line)
            if data and (not function or data.end() < function.end()):
                yield data.group(1)
            elif function:
                yield function.group(1)
        struct = re.match(r"(?:typedef )?struct (\w+) *(\{|$)", line)
        if struct:
            yield struct.group(1)
        alias = re.match(r"(?:typedef .*|\}) ?\b(\w+)(?:\[.*\]| __attribute__.*)?;$", line)
        if alias:
            yield alias.group(1)
    for body in re.findall(r"^(?:typedef )?enum\b[^{;]*\{(.*?)\}", text, re.M | re.S):
        yield from re.findall(r"\b([A-Z]\w*)\b(?=\s*(?:=|,|$))", body)


def rename(unit, names):
    prefix = re.sub(r"\W", "_", os.path.splitext(unit.path)[0]) + "__"
    pattern = re.compile(r'("(?:\\.|[^"\\])*")|(?<![\w.])(?<!->)(' + "|".join(sorted(names, key=len, reverse=True)) + r")\b")
    text = pattern.sub(lambda m: m.group(1) or prefix + m.group(2), unit.text) if names else unit.text
    if unit.path.startswith("kernels/isa_"):  # names that macros of the kernels paste together: f32_kernels, f32_decode_1, ...
        text = re.sub(r"name##_", "name##_" + prefix, text)
        text = re.sub(r"&(\w+)_kernels;", r"&\1_" + prefix + "kernels;", text)
    return text


def main():
    out_dir = sys.argv[1]
    shared, units = [], []
    for path in sources():
        units.append(Unit(path, shared))
    counts = {}
    for unit in units:
        for name in unit.names:
            counts[name] = counts.get(name, 0) + 1
    os.makedirs(out_dir, exist_ok=True)
    with open(os.path.join(out_dir, "gqa.h"), "w", encoding="utf-8") as f:
        f.write(read("model.h"))
    with open(os.path.join(out_dir, "gqa.c"), "w", encoding="utf-8") as f:
        f.write("/* gqa.c: the whole library in one file, made by scripts/amalgamate.py. Compile:\n"
                " *     cc -O3 -fopenmp -c gqa.c        (without -fopenmp it uses one thread); link with -lm */\n" + FEATURES)
        f.write('#include "gqa.h"\n')
        for header, text in shared:
            f.write(f"\n/* ==== {header} ==== */\n{text}\n")
        for unit in units:
            clashing = {n for n in unit.names if counts[n] > 1}
            f.write(f"\n/* ==== {unit.path} ==== */\n{rename(unit, clashing)}\n")
            f.write("".join(f"#undef {m}\n" for m in sorted(unit.macros)))


if __name__ == "__main__":
    main()
