#!/usr/bin/env python3
"""test_signals.py RUN: a signal that ends a conversion leaves no file behind, and the program ends
as by that signal; one that is ignored is. VERBOSE=1 prints each case."""
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time

RUN = os.path.abspath(sys.argv[1])
DIM, VOCAB = 256, 200000
EARLY_TRIES = 30
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print("FAILED:", what)


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def write_model(path):
    """Zeros, as a file with a hole: large enough to be converted for a while."""
    ints = {"block_count": 1, "context_length": 64, "embedding_length": DIM,
            "feed_forward_length": DIM, "attention.head_count": 4, "vocab_size": VOCAB}
    meta = [string("general.architecture") + struct.pack("<I", 8) + string("llama")]
    meta += [string("llama." + k) + struct.pack("<II", 4, v) for k, v in ints.items()]
    eps = string("llama.attention.layer_norm_rms_epsilon")
    meta.append(eps + struct.pack("<If", 6, 1e-5))
    shapes = {"token_embd": (DIM, VOCAB), "output_norm": (DIM,), "blk.0.attn_norm": (DIM,),
              "blk.0.ffn_norm": (DIM,)}
    for name in "attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down".split():
        shapes["blk.0." + name] = (DIM, DIM)
    table, offset = b"", 0
    for name, shape in shapes.items():
        table += string(name + ".weight") + struct.pack("<I", len(shape))
        table += struct.pack("<%dQ" % len(shape), *shape) + struct.pack("<IQ", 0, offset)
        offset += 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(meta)) + b"".join(meta) + table
    head += b"\0" * (-len(head) % 32)
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(len(head) + offset)


def convert(folder, number, prepare, pause=0.002):
    """Sends the signal once a temporary file is there; 0: none. Returns the exit code. Without a
    pause that file is often the first, which only tries whether the folder can be written to."""
    words = [RUN, "convert", os.path.join(folder, "in.gguf"), os.path.join(folder, "out.gguf")]
    program = subprocess.Popen(words + ["--type", "f16", "--quiet"], preexec_fn=prepare)
    end = time.monotonic() + 60
    while number and program.poll() is None and time.monotonic() < end:
        if any(".tmp." in name for name in os.listdir(folder)):
            program.send_signal(number)
            break
        time.sleep(pause)
    return program.wait(60)


def limit_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main():
    n_failed = 0
    names = ("SIGINT", "SIGTERM", "SIGTERM early", "SIGHUP", "SIGXFSZ", "SIGHUP ignored")
    with tempfile.TemporaryDirectory() as folder:
        write_model(os.path.join(folder, "in.gguf"))
        for name in names:
            failures.clear()
            number = getattr(signal, name.split()[0])
            is_ignored, is_limit = "ignored" in name, number == signal.SIGXFSZ

            def prepare():
                signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
                if is_limit:
                    limit_size()
            expected = 0 if is_ignored else -number
            early = "early" in name
            for _ in range(EARLY_TRIES if early else 1):
                code = convert(folder, 0 if is_limit else number, prepare, 0 if early else 0.002)
                check(code == expected, f"exit code {code}, expected {expected}")
                left = sorted(set(os.listdir(folder)) - {"in.gguf"})
                check(left == (["out.gguf"] if is_ignored else []), f"left behind: {left}")
                for path in left:  # not a fault of the next case too
                    os.remove(os.path.join(folder, path))
            n_failed += bool(failures)
            if failures or os.environ.get("VERBOSE"):
                print("FAILED" if failures else "ok    ", name)
    print(f"{len(names) - n_failed} passed, {n_failed} failed")
    return n_failed > 0


sys.exit(main())
