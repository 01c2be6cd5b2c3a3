#!/usr/bin/env python3
"""test_terminal.py RUN: on a terminal of its own: a window that is closed ends generation and conversation, Ctrl-C ends a
generation with 130 and in a conversation only the answer, and Ctrl-D ends a conversation well."""
import os
import pty
import select
import signal
import sys
import time

RUN, MODEL = os.path.abspath(sys.argv[1]), "models/stories-gqa.gguf"
passed = failed = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAILED:", what)


def start(*arguments):
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in a terminal, even when the tests run under nohup
        os.execv(RUN, [RUN, *arguments])
    return pid, terminal


def read_until(terminal, word, seconds=20):
    """What came until word did, or None."""
    seen, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                return None
            if word in seen:
                return seen
    return None


def wait(pid, seconds=20):
    """Exit status as os.waitpid gives it, or None when it runs on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def hung_up(status):
    return status is not None and (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP or
                                   os.WIFEXITED(status) and os.WEXITSTATUS(status) in (1, 130))


endless = (MODEL, "-i", "Once", "-n", "0", "-c", "100000", "--ignore-eos")
pid, terminal = start(*endless)
check(read_until(terminal, b"Once"), "a generation on a terminal")
os.close(terminal)
check(hung_up(wait(pid)), "a terminal that is gone ends a generation")

pid, terminal = start("chat", MODEL)
check(read_until(terminal, b">"), "a prompt to type after")
os.close(terminal)
check(hung_up(wait(pid)), "a terminal that is gone ends a conversation")

pid, terminal = start(*endless)
check(read_until(terminal, b"Once"), "a generation on a terminal")
os.write(terminal, b"\x03")
status = wait(pid)
check(status is not None and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 130, f"Ctrl-C: status {status}")
os.close(terminal)

pid, terminal = start("chat", MODEL, "-n", "8")
check(read_until(terminal, b">"), "a prompt to type after")
os.write(terminal, b"Hello\n")
check(read_until(terminal, b"\n> "), "an answer, and the prompt again")
os.write(terminal, b"\x04")
status = wait(pid)
check(status is not None and os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, f"Ctrl-D: status {status}")
os.close(terminal)

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
