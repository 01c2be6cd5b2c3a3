#!/usr/bin/env python3
"""check-layers.py [ROOT [BUILD]]: fails when a file includes one that stands above it, or files
include each other in a circle; with BUILD, the folder of object files, also when a file uses a
function or variable that is defined above it, wherever that is declared.

A folder, or a file at the top, has a rank; a file may include and use what has a lower rank, and
files of its own folder."""
import os
import re
import subprocess
import sys

RANKS = {
    "model.h": 0, "base": 1, "kernels": 2, "formats": 3, "vocab": 4, "weights": 5, "session": 6,
    "model.c": 7, "tokenizer.c": 7, "forward.c": 7, "sampler.c": 7,
    "session.c": 8,
    "session_file.c": 9, "speculate.c": 9,
    "generate.c": 10,
    "chat": 11, "convert": 11, "train": 11,
    "commands": 12,
    "run.c": 13,
    "examples": 13, "web": 13, "tests": 14,
}
ROOT = sys.argv[1] if len(sys.argv) > 1 else \
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
BUILD = sys.argv[2] if len(sys.argv) > 2 else None


def includes(path):
    """The files of ours that a file includes, as paths from the top."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        for name in re.findall(r'^\s*#\s*include "([^"]+)"', f.read(), re.M):
            yield os.path.normpath(os.path.join(os.path.dirname(path), name))


def sources():
    for at, folders, files in os.walk(ROOT):
        if os.path.samefile(at, ROOT):
            folders[:] = [name for name in folders if not name.startswith((".", "build"))]
        for name in sorted(files):
            if name.endswith((".c", ".h")):
                yield os.path.relpath(os.path.join(at, name), ROOT)


def part(path):
    return path.split(os.sep)[0]


def find_circle(graph):
    """A list of files that include each other in turn, or None."""
    done = set()

    def visit(path, trail):
        if path in trail:
            return trail[trail.index(path):] + [path]
        if path in done:
            return None
        for other in graph.get(path, []):
            circle = visit(other, trail + [path])
            if circle:
                return circle
        done.add(path)
        return None

    return next((circle for circle in (visit(path, []) for path in graph) if circle), None)


def is_upward(path, other):
    """Whether `other` is in another part, and not below."""
    return part(other) != part(path) and RANKS[part(other)] >= RANKS[part(path)]


def ranked(path):
    return f"{path} (rank {RANKS[part(path)]})"


def symbols(path):
    """What the object file of a .c file defines and what it takes from others; None: no object."""
    built = os.path.join(BUILD, path[:-2] + ".o")
    if not os.path.exists(built):
        return None
    listed = subprocess.run(["nm", "-g", built], capture_output=True, text=True, check=True).stdout
    if sys.platform == "darwin":
        listed = listed.replace(" _", " ")  # what it puts before a name in C
    rows = [line.split()[-2:] for line in listed.split("\n") if line.strip()]
    return [n for kind, n in rows if kind != "U"], [n for kind, n in rows if kind == "U"]


def upward_uses(paths):
    """Faults in what the files below tests and examples use."""
    found = {path: symbols(path) for path in paths}
    home = {name: path for path, both in found.items() if both for name in both[0]}
    for path, both in found.items():
        if both is None:
            yield f"{path}: no object file in {BUILD}"
            continue
        for name in both[1]:
            if name in home and is_upward(path, home[name]):
                yield f"{ranked(path)} uses {name} of {ranked(home[name])}"


def upward_includes(graph):
    for path, others in graph.items():
        if part(path) not in RANKS:
            yield f"{path}: has no rank in scripts/check-layers.py"
            continue
        for other in others:
            if part(other) not in RANKS:
                yield f"{path}: {other} has no rank in scripts/check-layers.py"
            elif is_upward(path, other):
                yield f"{ranked(path)} includes {ranked(other)}"


def main():
    graph = {path: list(includes(path)) for path in sources()}
    faults = list(upward_includes(graph))
    circle = find_circle(graph)
    if circle:
        faults.append("files include each other: " + " -> ".join(circle))
    if BUILD:
        built = [path for path in graph if path.endswith(".c") and part(path) in RANKS]
        faults += upward_uses([p for p in built if part(p) not in ("examples", "web", "tests")])
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
