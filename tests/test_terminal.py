#!/usr/bin/env python3
"""test_terminal.py RUN: the program on a terminal of its own: what Ctrl-C, Ctrl-D and a window that
is closed do to a generation and to a conversation. VERBOSE=1 prints each case."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import tempfile
import termios
import time

RUN, MODEL = os.path.abspath(sys.argv[1]), "tests/models/stories-gqa.gguf"
ENDLESS = (MODEL, "-i", "Once", "-n", "0", "-c", "100000", "--ignore-eos")
failures = []  # of the case that runs
counts = {True: 0, False: 0}  # checks that hold, and that do not


def check(ok, what):
    counts[bool(ok)] += 1
    if not ok:
        failures.append(what)
        print("FAILED:", what)


def set_columns(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))


class Program:
    """RUN on a terminal."""

    def __init__(self, *arguments, TERM="xterm", columns=80):
        self.seen = self.waiting = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            set_columns(0, columns)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # even when the tests run under nohup
            os.environ["TERM"] = TERM
            os.execv(RUN, [RUN, *arguments])

    def type(self, keys):
        os.write(self.terminal, keys)

    def type_slowly(self, keys):
        """Takes what the program writes meanwhile, as a terminal does."""
        for i in range(0, len(keys), 200):
            self.type(keys[i:i + 200])
            while select.select([self.terminal], [], [], 0.02)[0]:
                came = self.read()
                if not came:
                    return
                self.waiting += came

    def close_terminal(self):
        if self.terminal is not None:
            os.close(self.terminal)
        self.terminal = None

    def read(self):
        """What came, at most 4096 bytes; none at the end, which some systems call an error."""
        try:
            return os.read(self.terminal, 4096)
        except OSError:
            return b""

    def shows(self, word, seconds=20):
        """Whether word comes out."""
        seen, end = self.waiting, time.monotonic() + seconds
        self.waiting = b""
        while time.monotonic() < end and word not in seen:
            if select.select([self.terminal], [], [], 0.1)[0]:
                came = self.read()
                if not came:
                    return False
                seen += came
        self.seen += seen
        return word in seen

    def output(self, seconds=20):
        """Everything until the program ends."""
        seen, end = self.waiting, time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.terminal], [], [], 0.1)[0]:
                came = self.read()
                if not came:
                    break
                seen += came
        return seen

    def interrupt_while_stopped(self):
        """Ctrl-S, SIGINT while the program waits to write, Ctrl-Q. (Ctrl-C at the keyboard would
        make the system drop what waits in the terminal.)"""
        self.type(b"\x13")
        time.sleep(0.5)
        os.kill(self.pid, signal.SIGINT)
        time.sleep(0.3)
        self.type(b"\x11")

    def end(self, seconds=20):
        """Exit code, minus the number of the signal that ended it, or None when it runs on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if self.terminal is None:
                time.sleep(0.02)
            elif select.select([self.terminal], [], [], 0.02)[0]:
                # Some systems let no program end before its terminal has taken what it wrote.
                self.waiting += self.read()
        os.kill(self.pid, signal.SIGKILL)
        self.close_terminal()
        os.waitpid(self.pid, 0)
        return None


KEYS_OFF = b"\x1b[?2004l"  # comes before what follows a message
HUNG_UP = (-signal.SIGHUP, 1, 130)


def closing_the_terminal_ends_a_generation():
    program = Program(*ENDLESS)
    check(program.shows(b"Once"), "text on the terminal")
    program.close_terminal()
    code = program.end()
    check(code in HUNG_UP, f"exit code {code}")


def closing_the_terminal_ends_a_conversation():
    program = Program("chat", MODEL)
    check(program.shows(b">"), "a prompt")
    program.close_terminal()
    code = program.end()
    check(code in HUNG_UP, f"exit code {code}")


def ctrl_c_ends_a_generation():
    program = Program(*ENDLESS)
    check(program.shows(b"Once"), "text on the terminal")
    program.type(b"\x03")
    code = program.end()
    check(code == 130, f"exit code {code}, expected 130")
    program.close_terminal()


def ctrl_c_ends_an_answer_and_ctrl_d_a_conversation():
    program = Program("chat", MODEL, "-n", "0", "-c", "100000", "--ignore-eos")
    check(program.shows(b">"), "a prompt")
    program.type(b"Hello\n")
    check(program.shows(b"Hello\r\n"), "the echo of the message")
    time.sleep(0.5)
    program.type(b"\x03")
    check(program.shows(b")\r\n> "), "Ctrl-C ends the answer: a note, and the prompt again")
    program.type(b"\x04")
    code = program.end()
    check(code == 0, f"exit code {code}, expected 0")
    program.close_terminal()


def an_answer_is_followed_by_a_prompt():
    program = Program("chat", MODEL, "-n", "8")
    check(program.shows(b">"), "a prompt")
    program.type(b"Hello\n")
    check(program.shows(b"\n> "), "an answer, and the prompt again")
    program.type(b"\x04")
    code = program.end()
    check(code == 0, f"exit code {code}, expected 0")
    program.close_terminal()


def ctrl_c_at_the_prompt_leaves_the_next_message_alone():
    program = Program("chat", MODEL, "-n", "8")
    check(program.shows(b"> "), "a prompt")
    program.type(b"\x03")
    check(program.shows(b"(Ctrl-D ends the conversation)\r\n> "), "a note, and the prompt again")
    program.type(b"Hello\n")
    check(program.shows(b"Hello\r\n"), "the echo of the message")
    program.type(b"/stats\n")
    check(program.shows(b"positions, 1 answer\r"), "an answer")
    program.type(b"\x04")
    check(program.end() == 0, "exit code 0")
    program.close_terminal()


def a_stopped_terminal_loses_no_text():
    words = (MODEL, "-i", "Once", "-t", "0", "-n", "0", "-c", "100000", "--ignore-eos", "--quiet")
    program = Program(*words)
    check(program.shows(b"Once"), "text on the terminal")
    program.interrupt_while_stopped()
    rest = program.output()
    code = program.end()
    check(code == 130, f"exit code {code}, expected 130")
    program.close_terminal()
    whole = Program(*words)
    check(whole.shows(rest.strip()[-200:]), "the same text as without the interrupt")
    whole.type(b"\x03")
    whole.end()
    whole.close_terminal()


def a_stopped_terminal_ends_no_conversation():
    program = Program("chat", MODEL, "-n", "0", "-c", "100000", "--ignore-eos")
    check(program.shows(b"> "), "a prompt")
    program.type(b"Hello\n")
    check(program.shows(b"Hello\r\n"), "the echo of the message")
    time.sleep(0.3)
    program.interrupt_while_stopped()
    check(program.shows(b"(interrupted; Ctrl-D ends the conversation)\r\n> "), "the prompt again")
    program.type(b"\x04")
    code = program.end()
    check(code == 0, f"exit code {code}, expected 0")
    program.close_terminal()


# what is typed, and the message that it is
KEYS = (
    (b"helo\x1b[Dl", "hello"),
    (b"world\x01hello \x05!", "hello world!"),
    (b"world\x1b[Hhello \x1b[F!", "hello world!"),
    (b"one two\x17three", "one three"),
    (b"abc\x1b[D\x0b", "ab"),
    (b"abc\x15xyz", "xyz"),
    (b"abc\x01\x04", "bc"),
    (b"abc\x1b[D\x1b[D\x1b[3~", "ac"),
    (b"one two\x1b[1;5Dx", "one xtwo"),
    ("a\u0301b".encode() + b"\x7f\x7fc", "c"),
    ("日本".encode() + b"\x1b[D\x7f", "本"),
    (b"\x1b[200~two\rlines\x1b[201~!", "two\nlines!"),
    (b"\x1b[200~two\r\nlines\x1b[201~!", "two\nlines!"),
    (b"one\\\rtwo", "one\ntwo"),
    (b"one\x1b\rtwo\x1b[A\x05!", "one!\ntwo"),
    (b"The dog " * 600 + b"!", "The dog " * 600 + "!"),
    (b"\x1b[A\x1b[A!", "one!\ntwo!"),
    (b"draft\x1b[A\x1b[B more", "draft more"),
    (b"\x12wor\x05?", "hello world!?"),
    (b"\x1b[99~ok\x1bz", "ok"),
)


def keys_edit_a_message():
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "s")
        program = Program("chat", MODEL, "-n", "1", "-c", "20000", "-t", "0")
        check(program.shows(b"> "), "a prompt")
        for typed, _ in KEYS:
            program.type_slowly(typed)
            program.type(b"\r")
            check(program.shows(b")\r\n> "), f"an answer to {typed[:40]}")
        program.type(b"/save " + saved.encode() + b"\r")
        check(program.shows(b"(saved)"), "saved")
        program.type(b"\x04")
        check(program.end() == 0, "exit code 0")
        program.close_terminal()
        with open(saved + ".json", encoding="utf-8") as f:
            said = [m["content"] for m in json.load(f) if m["role"] == "user"]
    check(len(said) == len(KEYS), f"{len(said)} messages, expected {len(KEYS)}")
    for (typed, want), got in zip(KEYS, said):
        check(got == want, f"{typed[:40]}: {got[:40]!r}, expected {want[:40]!r}")


def lines_are_wrapped_between_words():
    answer = "The quick brown fox jumps over the lazy dog and runs far away"
    program = Program("chat", MODEL, "--choice", answer, columns=40)
    check(program.shows(b", plain template, context 256; type /help\r\n"),
          f"the line at the start: {program.seen}")
    for columns, wrapped in (
            (40, b"The quick brown fox jumps over the lazy\r\ndog and runs far away\r\n"),
            (30, b"The quick brown fox jumps\r\nover the lazy dog and runs\r\nfar away\r\n"),
            (70, answer.encode() + b"\r\n")):
        set_columns(program.terminal, columns)
        program.type(b"Hi\r")
        check(program.shows(KEYS_OFF + wrapped), f"{columns} columns: {program.seen[-200:]}")
    program.type(b"\x04")
    check(program.end() == 0, "exit code 0")
    program.close_terminal()


def thoughts_are_dim_or_hidden():
    for options, TERM, shown in (
            ((), "xterm", KEYS_OFF + b"\x1b[2mso it is\x1b[0m Good day\r\n"),
            (("--no-show-think",), "xterm",
             KEYS_OFF + b"\x1b7\x1b[2mthinking...\x1b[0m\x1b8\x1b[JGood day\r\n"),
            ((), "dumb", b"\r\n<think>so it is</think> Good day\r\n"),
            (("--no-show-think",), "dumb", b"\r\nGood day\r\n")):
        program = Program("chat", MODEL, "--choice", "<think>so it is</think> Good day", *options,
                          TERM=TERM)
        check(program.shows(b"> "), "a prompt")
        program.type(b"Hi\r")
        check(program.shows(shown), f"{TERM} {options}: {program.seen}")
        program.type(b"\x04")
        check(program.end() == 0, "exit code 0")
        program.close_terminal()


def after_ctrl_c_it_goes_on_from_what_was_shown():
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "s")
        program = Program("chat", MODEL, "-n", "0", "-c", "100000", "--ignore-eos", "-s", "1")
        check(program.shows(b"> "), "a prompt")
        for message in (b"Hello\r", b"More\r"):
            program.type(message)
            check(program.shows(message + b"\n"), "the echo of the message")
            check(program.shows(b". "), "a sentence")
            os.kill(program.pid, signal.SIGINT)  # as Ctrl-C, which drops what waits to be shown
            check(program.shows(b"(interrupted; Ctrl-D ends the conversation)\r\n> "), "a note")
            program.type(b"/stats\r")
            check(program.shows(b"tok/s\r\n> "), "the state")
        program.type(b"/save " + saved.encode() + b"\r")
        check(program.shows(b"(saved)"), "saved")
        program.type(b"\x04")
        check(program.end() == 0, "exit code 0")
        program.close_terminal()
        with open(saved + ".json", encoding="utf-8") as f:
            messages = [m["content"] for m in json.load(f)]
    text = program.seen.decode()
    shown = re.findall(r"(?:Hello|More)\r\n\x1b\[\?2004l(.*?)\(interrupted", text, re.DOTALL)
    check([s.split() for s in shown] == [m.split() for m in messages[1::2]], "kept as shown")
    held = int(re.search(r"(\d+) of 100000 positions, 1 answer\b", text)[1])
    kept = [int(n) for n in re.findall(r"(\d+) tokens? kept", text)]
    check(held > 15 and kept[1] >= held - 1, f"{held} positions, then {kept} tokens kept")


def a_dumb_terminal_is_read_by_lines():
    program = Program("chat", MODEL, "-n", "8", TERM="dumb")
    check(program.shows(b"> "), "a prompt")
    program.type(b"Hello\n")
    check(program.shows(b"\n> "), "an answer, and the prompt again")
    program.type(b"\x04")
    check(program.end() == 0, "exit code 0")
    check(b"\x1b" not in program.seen, "no control sequence")
    program.close_terminal()


def control_characters_are_shown_and_not_obeyed():
    red, shown = b"\x1b[31mRED\x07\xc2\x9b", b"^[[31mRED^G^[["
    program = Program(MODEL, "-i", "Once", "-t", "0", "--choice", red)
    text = program.output()
    check(program.end() == 0 and shown in text and b"\x1b" not in text, f"{text}")
    program = Program("chat", MODEL, "-t", "0", "-c", "4096", "-y", red, "--choice", red,
                      TERM="dumb")
    for typed in (b"Hi", b"/template", b"/system"):
        check(program.shows(b"\n> "), "a prompt")  # not that of "<s> "
        program.type(typed + b"\n")
    check(program.shows(b"\n> ") and program.seen.count(shown) == 4, f"{program.seen}")
    program.type(b"\x04")
    check(program.end() == 0, "exit code 0")
    check(b"\x1b" not in program.seen, f"{program.seen}")


def ctrl_space_ends_nothing():
    program = Program("chat", MODEL, "-n", "1")
    check(program.shows(b"\x1b[?2004h"), "keys are taken")
    time.sleep(0.2)
    program.type(b"\x00Hi\r")
    check(program.shows(b"-n N allows more"), "an answer")
    program.type(b"\x04")
    check(program.end() == 0, "exit code 0")
    program.close_terminal()


def sigterm_at_the_prompt_leaves_the_terminal_as_it_was():
    program = Program("chat", MODEL)
    check(program.shows(b"\x1b[?2004h"), "keys are taken")
    os.kill(program.pid, signal.SIGTERM)
    check(program.shows(b"\x1b[?2004l"), "pastes are bracketed no longer")
    check(program.end() == -signal.SIGTERM, "ended by the signal")
    program.close_terminal()


CASES = (
    ctrl_space_ends_nothing,
    sigterm_at_the_prompt_leaves_the_terminal_as_it_was,
    control_characters_are_shown_and_not_obeyed,
    keys_edit_a_message,
    lines_are_wrapped_between_words,
    thoughts_are_dim_or_hidden,
    after_ctrl_c_it_goes_on_from_what_was_shown,
    a_dumb_terminal_is_read_by_lines,
    closing_the_terminal_ends_a_generation,
    closing_the_terminal_ends_a_conversation,
    ctrl_c_ends_a_generation,
    ctrl_c_ends_an_answer_and_ctrl_d_a_conversation,
    an_answer_is_followed_by_a_prompt,
    ctrl_c_at_the_prompt_leaves_the_next_message_alone,
    a_stopped_terminal_loses_no_text,
    a_stopped_terminal_ends_no_conversation,
)


def main():
    n_failed = 0
    for case in CASES:
        failures.clear()
        case()
        n_failed += bool(failures)
        if failures or os.environ.get("VERBOSE"):
            print("FAILED" if failures else "ok    ", case.__name__.replace("_", " "))
    print(f"{sum(counts.values())} checks, {counts[False]} failed")
    print(f"{len(CASES) - n_failed} passed, {n_failed} failed")
    return n_failed > 0


sys.exit(main())
