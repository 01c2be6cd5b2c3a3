#!/usr/bin/env python3
"""test_docs.py RUN: the documents speak of what is there: files that they link to, functions, make
targets, scripts, subcommands and their options."""
import glob
import os
import re
import subprocess
import sys

RUN = sys.argv[1] if len(sys.argv) > 1 else "build/run"
PAGES = sorted(glob.glob("*.md") + glob.glob("docs/*.md") + glob.glob("models/*.md"))
FOLDERS = ". base kernels formats vocab weights session chat convert train commands tests".split()
SOURCES = [f for folder in FOLDERS for kind in "ch" for f in glob.glob(f"{folder}/*.{kind}")]


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def target_of(page, link):
    return os.path.normpath(os.path.join(os.path.dirname(page), link.split("#")[0]))


def links():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", read(page)):
            if not link.startswith(("http", "#")):
                yield os.path.exists(target_of(page, link)), f"{page}: no file {link}"


def functions():
    """`name()` is a function or macro somewhere; followed by "in [file](link)", in that file."""
    everything = "".join(read(f) for f in SOURCES)
    for page in PAGES:
        text = read(page)
        for name in set(re.findall(r"`(\w+)\(\)`", text)):
            yield re.search(rf"\b{name}\(", everything), f"{page}: no function {name}"
        for name, link in re.findall(r"`(\w+)\(\)`\s+in\s+\[[^\]]*\]\(([^)]+)\)", text):
            defined = re.search(rf"^[\w].*\b{name}\(", read(target_of(page, link)), re.M)
            yield defined, f"{page}: {name} is not in {link}"


def paths():
    for page in PAGES:
        for path in set(re.findall(r"`((?:\w+/)+\w+\.(?:c|h|py|sh|mk|mjs))[` ]", read(page))):
            known = "NAME" in path or os.path.exists(path)
            yield known, f"{page}: no file {path}"


def make_targets():
    makefiles = "".join(read(f) for f in ["Makefile", "lib.mk", "tests/checks.mk"])
    targets = set(re.findall(r"^([a-z-]+):", makefiles, re.M))
    for page in PAGES + ["Makefile"]:
        for name in set(re.findall(r"(?:^|[`#] ?)make ([a-z]+)\b", read(page), re.M)):
            yield name in targets, f"{page}: no make target {name}"


def help_of(*command):
    done = subprocess.run([RUN, *command, "--help"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def commands():
    known = re.findall(r"^  ([a-z]+) ", help_of(), re.M)
    yield len(known) > 5, "run --help lists no commands"
    for name in re.findall(r"^run ([a-z]+) ", read("README.md"), re.M):
        yield name in known, f"README.md: no command {name}"
    for page in PAGES:
        text = read(page).replace("\\\n", " ")
        for name, rest in re.findall(r"\brun (%s)\b([^`\n]*)" % "|".join(known), text):
            for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest):
                yield option in help_of(name), f"{page}: run {name} has no option {option}"


def main():
    failed = checks = failed_checks = 0
    cases = [links, functions, paths, make_targets, commands]
    for case in cases:
        results = list(case())
        faults = [fault for good, fault in results if not good] + ["no checks"] * (not results)
        for fault in faults:
            print("FAILED:", fault)
        checks += len(results)
        failed_checks += len(faults)
        failed += bool(faults)
        if os.environ.get("VERBOSE") or faults:
            word = "FAILED" if faults else "ok    "
            print(f"{word} {case.__name__} ({len(results)} checks)")
    print(f"{checks} checks, {failed_checks} failed")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
