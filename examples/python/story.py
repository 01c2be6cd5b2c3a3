#!/usr/bin/env python3
"""story.py MODEL [BEGINNING [PIECES]]: text from libgqa.so as it is generated, by ctypes; cancelled
after so many pieces of text, or by Ctrl-C. GQA_LIB: the library's path, on Windows a whole one
("make lib" builds build/lib/libgqa.so)."""
import ctypes
import os
import signal
import sys
from ctypes import CFUNCTYPE, POINTER, byref, c_char, c_char_p, c_int, c_size_t, c_uint, c_void_p


class Error(ctypes.Structure):  # gqa_error
    _fields_ = [("code", c_int), ("message", c_char * 512)]


class GenerateOptions(ctypes.Structure):  # gqa_generate_options
    _fields_ = [("max_tokens", c_int), ("stop", c_void_p), ("n_stop", c_int),
                ("tokenize_flags", c_uint), ("ignore_end", c_int), ("on_logits", c_void_p),
                ("on_token", c_void_p), ("draft", c_void_p), ("lookup", c_int),
                ("reserved", c_void_p * 2)]


# The text is not 0-terminated: a pointer and a length. A nonzero return stops generation.
OnText = CFUNCTYPE(c_int, c_void_p, POINTER(c_char), c_size_t)


def load(path):
    lib = ctypes.CDLL(path)
    lib.gqa_model_open.argtypes = [c_char_p, c_void_p, POINTER(Error)]
    lib.gqa_session_new.argtypes = [c_void_p, c_void_p, POINTER(Error)]
    lib.gqa_sampler_new.argtypes = [c_void_p, POINTER(Error)]
    lib.gqa_generate.argtypes = [c_void_p, c_void_p, c_char_p, POINTER(GenerateOptions), OnText,
                                 c_void_p, c_void_p, POINTER(Error)]
    for name in ("gqa_model_open", "gqa_session_new", "gqa_sampler_new"):
        getattr(lib, name).restype = c_void_p
    for name in ("gqa_model_close", "gqa_session_free", "gqa_sampler_free", "gqa_session_cancel"):
        getattr(lib, name).argtypes = [c_void_p]
        getattr(lib, name).restype = None
    return lib


def generate(lib, session, sampler, beginning, pieces, err):
    """Returns when the text has ended or is cancelled. Other threads run meanwhile, and may cancel
    too; so does a signal, whose handler Python runs at the next piece of text."""
    def write(_user, text, size):
        nonlocal pieces
        try:
            sys.stdout.buffer.write(text[:size])
            sys.stdout.buffer.flush()
        except OSError as error:
            sys.stdout = open(os.devnull, "w")
            if not isinstance(error, BrokenPipeError):  # else nobody reads any more
                err.code, err.message = 1, str(error).encode()
            return 1
        pieces -= 1
        if pieces == 0:
            lib.gqa_session_cancel(session)
        return 0

    signal.signal(signal.SIGINT, lambda *_: lib.gqa_session_cancel(session))
    lib.gqa_generate(session, sampler, os.fsencode(beginning), byref(GenerateOptions()),
                     OnText(write), None, None, byref(err))


def main():
    if not 2 <= len(sys.argv) <= 4 or not "".join(sys.argv[3:] or "0").isdecimal():
        sys.exit(__doc__)
    beginning = sys.argv[2] if len(sys.argv) > 2 else "Once upon a time"
    pieces = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    name = {"darwin": "libgqa.0.dylib", "win32": "libgqa.dll"}.get(sys.platform, "libgqa.so.0")
    try:
        lib = load(os.environ.get("GQA_LIB", name))
    except OSError as error:
        sys.exit(str(error))
    err = Error()
    model = lib.gqa_model_open(os.fsencode(sys.argv[1]), None, byref(err))
    session = model and lib.gqa_session_new(model, None, byref(err))
    sampler = session and lib.gqa_sampler_new(None, byref(err))  # greedy
    if sampler:
        generate(lib, session, sampler, beginning, pieces, err)
    lib.gqa_sampler_free(sampler)
    lib.gqa_session_free(session)
    lib.gqa_model_close(model)
    print()
    if err.code:
        sys.exit(err.message.decode())


main()
