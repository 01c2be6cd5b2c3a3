#!/usr/bin/env python3
"""macos_dylib.py DYLIB INSTALL_NAME HEADER: reads a library for macOS on another system: it has
this install name, needs the system's own library and no other, and exports every function that
the header declares."""
import re
import struct
import sys

MAGIC_64, SYMTAB, LOAD_DYLIB, ID_DYLIB = 0xFEEDFACF, 0x2, 0xC, 0xD
LOADS = (LOAD_DYLIB, 0x80000018, 0x8000001F)  # and weak ones, and what is exported again
IS_EXTERNAL, TYPE, UNDEFINED = 0x1, 0xE, 0x0
SYSTEM = "/usr/lib/libSystem.B.dylib"


def string_at(data, at):
    return data[at:data.index(b"\0", at)].decode()


def load_commands(data):
    """Pairs of a command and its bytes; a header of eight words before them tells their number."""
    magic, _, _, _, n, _, _, _ = struct.unpack_from("<8I", data)
    assert magic == MAGIC_64, f"not a 64-bit Mach-O file: {magic:#x}"
    at = 32
    for _ in range(n):
        command, size = struct.unpack_from("<2I", data, at)
        yield command, data[at:at + size]
        at += size


def exported(data, command):
    _, _, symbols, n, strings, _ = struct.unpack("<6I", command)
    for i in range(n):
        name, kind, _, _, _ = struct.unpack_from("<IBBHQ", data, symbols + 16 * i)
        if kind & IS_EXTERNAL and kind & TYPE != UNDEFINED:
            yield string_at(data, strings + name)


def main():
    path, install_name, header = sys.argv[1:]
    with open(path, "rb") as f:
        data = f.read()
    with open(header, encoding="utf-8") as f:
        declared = set(re.findall(r"^\w[^/\n]*?\b(gqa_\w+)\(", f.read(), re.M))
    names, needed, functions = [], [], set()
    for command, of in load_commands(data):
        if command in (ID_DYLIB, *LOADS):
            name = string_at(of, struct.unpack_from("<I", of, 8)[0])
            (names if command == ID_DYLIB else needed).append(name)
        elif command == SYMTAB:
            functions.update(exported(data, of))
    assert names == [install_name], f"install name {names}, expected {install_name}"
    assert needed == [SYSTEM], f"needs {needed}, expected {SYSTEM}"
    missing = {name for name in declared if "_" + name not in functions}
    assert declared and not missing, f"{len(declared)} declared; not exported: {sorted(missing)}"


main()
