#!/usr/bin/env python3
"""check-layers.py: fails when a file includes one that stands above it, or files include each
other in a circle.

A folder, or a file at the top, has a rank; a file may include what has a lower rank, and files of
its own folder."""
import os
import re
import sys

RANKS = {
    "model.h": 0, "base": 1, "kernels": 2, "formats": 3, "vocab": 4, "weights": 5, "session": 6,
    "model.c": 7, "tokenizer.c": 7, "forward.c": 7, "sampler.c": 7,
    "session.c": 8, "session_file.c": 8,
    "generate.c": 9,
    "chat": 10, "convert": 10, "train": 10,
    "commands": 11,
    "run.c": 12,
    "examples": 12, "tests": 13,
}
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def includes(path):
    """The files of ours that a file includes, as paths from the top."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        for name in re.findall(r'^\s*#\s*include "([^"]+)"', f.read(), re.M):
            yield os.path.normpath(os.path.join(os.path.dirname(path), name))


def sources():
    for folder in ["."] + [name for name in RANKS if "." not in name]:
        for at, _, files in os.walk(os.path.join(ROOT, folder)):
            if folder != "." or os.path.samefile(at, ROOT):
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


def main():
    graph, faults = {path: list(includes(path)) for path in sources()}, []
    for path, others in graph.items():
        if part(path) not in RANKS:
            faults.append(f"{path}: has no rank in scripts/check-layers.py")
            continue
        for other in others:
            if part(other) not in RANKS:
                faults.append(f"{path}: {other} has no rank in scripts/check-layers.py")
            elif part(other) != part(path) and RANKS[part(other)] >= RANKS[part(path)]:
                ranks = RANKS[part(path)], RANKS[part(other)]
                faults.append(f"{path} (rank {ranks[0]}) includes {other} (rank {ranks[1]})")
    circle = find_circle(graph)
    if circle:
        faults.append("files include each other: " + " -> ".join(circle))
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
