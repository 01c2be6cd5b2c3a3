#!/usr/bin/env python3
"""Prints vocab/unicode_table.c: the ranges of letters (\\p{L}), numbers (\\p{N}), marks (\\p{M}),
punctuation (\\p{P}) and symbols (\\p{S}) that the byte-level pre-tokenisers ask for.

usage: scripts/make_unicode_table.py > vocab/unicode_table.c
"""
import unicodedata

KINDS = {"L": "letters", "N": "numbers", "M": "marks", "P": "punctuation", "S": "symbols"}


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
    print(f"\nconst gqa_range {name}[] = {{")
    for i in range(0, len(items), 6):
        print("    " + " ".join(f"{{0x{a:X}, 0x{b:X}}}," for a, b in items[i:i + 6]))
    print("};")
    print(f"const int {name}_count = {len(items)};")


print("/* unicode_table.c: made by scripts/make_unicode_table.py from Unicode "
      f"{unicodedata.unidata_version}; do not edit. */")
print('#include "unicode_table.h"')
for kind, name in KINDS.items():
    table(f"gqa_unicode_{name}", ranges(kind))
