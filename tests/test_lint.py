#!/usr/bin/env python3
"""test_lint.py: scripts/check-layers.py and scripts/check-lines.py fail where they must, on small
trees made here. VERBOSE=1 prints each case."""
import os
import shutil
import subprocess
import sys
import tempfile

CC = os.environ.get("CC", "cc").split()
LOOP = "\n".join(["int f(void) {"] + ["    g();"] * 59 + ["}"])
CALL = {"vocab/vocab.h": "int top(void);", "vocab/bpe.c": '#include "vocab.h"\n'
        "int bpe(void);\nint bpe(void) { return top(); }"}
TOP = "int top(void);\nint top(void) { return 1; }"

# name, script, files, what it says; "": it is content. Layers with a build compile the .c files.
CASES = (
    ("an include downwards", "layers", {"vocab/a.c": '#include "../base/b.h"', "base/b.h": ""}, ""),
    ("an include upwards", "layers", {"base/b.h": '#include "../vocab/a.h"', "vocab/a.h": ""},
     "base/b.h (rank 1) includes vocab/a.h (rank 4)"),
    ("a circle in a folder", "layers", {"base/a.h": '#include "b.h"', "base/b.h": '#include "a.h"'},
     "files include each other: base/a.h -> base/b.h -> base/a.h"),
    ("a file without rank", "layers", {"new.c": ""}, "new.c: has no rank"),
    ("a folder without rank", "layers", {"new/a.c": ""}, "new/a.c: has no rank"),
    ("a folder of object files", "layers", {"build-x/a.c": ""}, ""),
    ("a call in a folder", "uses", {**CALL, "vocab/top.c": TOP}, ""),
    ("a call upwards through a header below", "uses", {**CALL, "tokenizer.c": TOP},
     "vocab/bpe.c (rank 4) uses top of tokenizer.c (rank 7)"),
    ("a call to the same rank", "uses", {
        "model.c": "int top(void);\nint m(void);\nint m(void) { return top(); }",
        "tokenizer.c": TOP}, "model.c (rank 7) uses top of tokenizer.c (rank 7)"),
    ("lines as they should be", "lines", {
        "a.c": "for (i = 0; i < 3; i++) f();\nint g(void) { return 1; }",
        "a.sh": "if a; then b; else c; fi\nfor x in y; do z; done\nf() { a; b; }\n"
                "case x in\n    y) z ;;\nesac\necho 'a; b' \"c; d\" # e; f\ncat <<END\na; b\nEND"},
     ""),
    ("a wide line", "lines", {"a.py": "#" * 101}, "a.py:1: 101 columns, at most 100"),
    ("a wide comment of JavaScript", "lines", {"a.mjs": "//" + "x" * 99}, "a.mjs:1: 101 columns"),
    ("statements of JavaScript", "lines", {"a.js": "x = `a; b` + f();"}, ""),
    ("two statements of JavaScript", "lines", {"a.js": "a(); b();"}, "a.js:1: two statements"),
    ("a wide line of JavaScript", "lines", {"a.js": "x" * 101}, "a.js:1: 101 columns"),
    ("a long file", "lines", {"Makefile": "#\n" * 601}, "Makefile:601: the file has more than 600"),
    ("a long function", "lines", {"a.c": LOOP}, "a.c:1: a function of 61 lines, at most 60"),
    ("two statements", "lines", {"a.c": "    a(); b();"}, "a.c:1: two statements on a line"),
    ("a comma before what is returned", "lines", {"a.c": "    return fail(a, b), -1;"},
     "a.c:1: two statements"),
    ("two statements in braces", "lines", {"a.h": "if (x) { a(); b(); }"}, "a.h:1: two statements"),
    ("two statements of a macro", "lines", {"a.h": "#define F(x) a(x); b(x)"}, "a.h:1: two state"),
    ("two statements further on in a macro", "lines", {
        "a.h": "#define F(x) \\\n    do { \\\n        a(x); b(x); \\\n    } while (0)"},
     "a.h:3: two statements"),
    ("macros as they should be", "lines", {
        "a.h": "#define F(x) (x)\n#define G(x) if (a) b(x)\n#define H \\\n  a(); \\\n  b()"}, ""),
    ("199 casts to size_t", "lines", {"a.c": "(size_t)n;\n" * 199, "tests/b.c": "(size_t)n"}, ""),
    ("200 casts to size_t", "lines", {"a.c": "(size_t)n;\n" * 100, "b.h": "(size_t)n,\n" * 100},
     "200 casts to size_t outside tests/ and examples/, at most 199"),
    ("two commands", "lines", {"a.sh": "\nwhat=$1; shift"}, "a.sh:2: two commands on a line"),
    ("two commands in braces", "lines", {"a.sh": "a || { b; c; }"}, "a.sh:1: two commands"),
    ("two commands after then", "lines", {"a.sh": "if a; then b; c; fi"}, "a.sh:1: two commands"),
    ("two commands in a case arm", "lines", {"a.sh": "x) a; b ;;"}, "a.sh:1: two commands"),
)


def run(*command, cwd=None):
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def fault_of(root, script, files, message):
    """What is wrong with what the script says of a tree of these files; None: nothing."""
    for path, text in files.items():
        os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf-8") as f:
            f.write(text + "\n" if path != "Makefile" else text)
        if script == "uses" and path.endswith(".c"):
            where = os.path.join(root, path)
            built = run(*CC, "-c", where, "-o", where[:-2] + ".o")
            if built.returncode:
                return built.stderr
    if script == "lines":
        run("git", "init", "-q", root)
        done = run(sys.executable, "scripts/check-lines.py", "--root", root)
    else:
        build = [root] if script == "uses" else []
        done = run(sys.executable, "scripts/check-layers.py", root, *build)
    if done.returncode != (1 if message else 0) or done.stderr:
        return f"status {done.returncode}: {done.stdout}{done.stderr}"
    if message not in done.stdout or done.stdout.count("\n") != bool(message):
        return f"it says {done.stdout!r}, expected {message!r} alone"
    return None


def main():
    failed = skipped = 0
    for name, script, files, message in CASES:
        needed = {"lines": ("git",), "uses": (CC[0], "nm")}.get(script, ())
        missing = [command for command in needed if not shutil.which(command)]
        if missing:
            print(f"SKIPPED: {name}: no {missing[0]}")
            skipped += 1
            continue
        with tempfile.TemporaryDirectory() as root:
            fault = fault_of(root, script, files, message)
        failed += fault is not None
        if fault is not None:
            print(f"FAILED: {name}: {fault}")
        elif os.environ.get("VERBOSE"):
            print(f"ok     {name} (1 check)")
    n = len(CASES) - skipped
    print(f"{n} checks, {failed} failed")
    print(f"{n - failed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
