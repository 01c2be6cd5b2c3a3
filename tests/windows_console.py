#!/usr/bin/env python3
"""windows_console.py FOLDER COMPILER...: builds windows_console.c in FOLDER, with MinGW, and runs
it, with FOLDER/run.exe, under Wine on a terminal of its own, which Wine shows it as a console.
Prints what the program says; its exit code."""
import os
import pty
import select
import subprocess
import sys
import time

SECONDS = 60


def main():
    folder, compiler = sys.argv[1], sys.argv[2:]
    program, out = f"{folder}/windows_console.exe", f"{folder}/windows_console.out"
    sources = ["tests/windows_console.c", "commands/line_edit.c", "base/console_windows.c"]
    options = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O1", "-Wall", "-Werror", "-static"]
    subprocess.run([*compiler, *options, "-o", program, *sources], check=True)
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.execvp("wine", ["wine", program, f"{folder}/run.exe", "tests/models/stories-gqa.gguf"])
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                if not os.read(terminal, 4096):
                    break
            except OSError:  # the program has ended
                break
    else:
        os.kill(pid, 9)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(out, encoding="utf-8", errors="replace") as f:
        sys.stdout.write(f.read())
    return status != 0


sys.exit(main())
