#!/usr/bin/env python3
"""Prints vocab/unicode_table.c: where letters (\\p{L}), numbers (\\p{N}), marks (\\p{M}),
punctuation (\\p{P}) and symbols (\\p{S}) begin, and what is none of them.

usage: scripts/make_unicode_table.py > vocab/unicode_table.c
"""
import unicodedata

CLASSES = {"L": "LETTER", "N": "NUMBER", "M": "MARK", "P": "PUNCTUATION", "S": "SYMBOL"}


def runs():
    last = None
    for c in range(0x110000):
        kind = unicodedata.category(chr(c))[0]
        kind = kind if kind in CLASSES else "O"
        if kind != last:
            yield f"{kind}(0x{c:X}),"
        last = kind


print("/* unicode_table.c: made by scripts/make_unicode_table.py from Unicode "
      f"{unicodedata.unidata_version}; do not edit. */")
print('#include "unicode_table.h"\n')
for kind, name in {"O": "OTHER", **CLASSES}.items():
    print(f"#define {kind}(c) ((c) << 3 | UNICODE_{name})")
table = list(runs())
print("\nconst uint32_t gqa_unicode_runs[] = {")
for i in range(0, len(table), 8):
    print("    " + " ".join(table[i:i + 8]))
print("};")
print(f"const int gqa_unicode_n_runs = {len(table)};")
