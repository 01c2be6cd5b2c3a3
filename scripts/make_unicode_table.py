#!/usr/bin/env python3
"""Prints vocab/unicode_table.c: the ranges of letters (\\p{L}) and numbers (\\p{N}) that the
byte-level pre-tokenisers ask for.

usage: scripts/make_unicode_table.py > vocab/unicode_table.c
"""
import unicodedata


def ranges(kind):
    out, start = [], None
    for cp in range(0x110001):
        inside = cp < 0x110000 and unicodedata.category(chr(cp))[0] == kind
        if inside and start is None:
            start = cp
        elif not inside and start is not None:
            out.append((start, cp - 1))
            start = None
    return out


def table(name, items):
    print(f"const gqa_range {name}[] = {{")
    for i in range(0, len(items), 6):
        print("    " + " ".join(f"{{0x{a:X}, 0x{b:X}}}," for a, b in items[i:i + 6]))
    print("};")
    print(f"const int {name}_count = {len(items)};")


print("/* unicode_table.c: made by scripts/make_unicode_table.py from Unicode "
      f"{unicodedata.unidata_version}; do not edit. */")
print('#include "unicode_table.h"\n')
table("gqa_unicode_letters", ranges("L"))
print()
table("gqa_unicode_numbers", ranges("N"))
