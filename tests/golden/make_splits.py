#!/usr/bin/env python3
"""make_splits.py FOLDER: vocabularies that show where llama.cpp cuts texts before it merges, one
for each kind of pre-tokenizer: every stretch of every text is a token and every two neighbours
merge, so that each piece becomes one token. Then, in a folder with node-llama-cpp (see
llama_cpp_logits.mjs),
    node GQA/tests/golden/llama_cpp_splits.mjs FOLDER >GQA/tests/golden/splits.txt
makes what tests/test_splits.c compares."""
import json
import os
import struct
import sys

from make_models import ARRAY, I32, STRING, U32, entry, metadata, SQUARE

NAMES = ["default", "llama-bpe", "qwen2", "smollm", "gpt-2", "tekken", "gpt-4o", "deepseek-llm",
         "deepseek-coder", "deepseek-v3", "youtu"]
TEXTS = [
    "\u00e9 e\u0301 n\u0303a\u0301b",             # combining marks
    "\u0345 \u20ddx 1\u0301",                     # marks after no letter
    "\U0001f469\u200d\U0001f467 \U0001f680!",     # emoji, a zero-width joiner
    "\U0001f1e9\U0001f1ea1\ufe0f\u20e3 \u2600\ufe0f",  # flags, keycaps, variation selectors
    "\u6f22\u5b57\u304b\u306a \u30ab\u3001\u3002",  # CJK
    "\ud55c\uad6d\uc5b4 \uc870\uc0ac",            # Hangul
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915",  # Devanagari
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",       # Thai
    "\u0640\u0639\u0631\u0628 \u060c\u061f",      # Arabic
    "\u0661\u0662\u0663\u0664 a \u0665",          # its digits
    "\u00bd \u00b2x \u2167 12\u00b3",             # other numbers
    "\U0001d7d9\U0001d7da4 \U00020000a",          # beyond 16 bits
    "a\u00a0b\u00a0\u00a0c \u00a0d",              # no-break spaces
    "a\u2028b \u2029 c\u0085d",                   # separators of lines
    "\u3000w \u3000\u3000x\u1680y",               # wide spaces
    "a\t\tb \r\n\r\n c\x0b\x0cd",                 # line ends, tabs
    "a\u200bb\u00adc\ufeffd",                     # invisible ones
    "don\u2019t I\u2019M 'S'x",                   # apostrophes
    "x'\u017f 'Re'\u212a'LL",                     # a long s, the sign of kelvin
    "\u01c5a \u02b0b \u00aaC\u03a3\u03c2d",       # title case, modifiers
    "\u0130stAN \u0131\u015eX",                   # dotted and dotless I
    "\u20ac5 \u20bf_/\n/\u00ab\u00bb",            # currency, symbols
    "\u4e2d\uff0c\u3105b\u3106 \uc774\uff01\u2026\u3131\u3007\u3005x\u302a.\u2014",  # CJK signs
    "zQuM's HTTPServer'Ll/\n",                    # capitals within words
]


def alphabet():
    """GPT-2's letter for each byte"""
    kept = [b for b in range(256) if chr(b).isprintable() and b not in (32, 127, 160, 173)]
    others = iter(range(256, 512))
    return [chr(b) if b in kept else chr(next(others)) for b in range(256)]


def main():
    letters = alphabet()
    stretches = {bytes([b]) for b in range(256)}
    rules = {}
    for text in TEXTS:
        data = text.encode()
        for size in range(2, len(data) + 1):
            for at in range(len(data) - size + 1):
                whole = data[at:at + size]
                stretches.add(whole)
                for cut in range(1, size):
                    rules[whole[:cut], whole[cut:]] = None
    tokens = sorted(stretches, key=lambda s: (len(s), s))

    def spell(data):
        return "".join(letters[b] for b in data)

    for name in NAMES:
        entries = metadata("llama", SQUARE, 1, {})[:-7] + [
            entry("tokenizer.ggml.model", STRING, "gpt2"),
            entry("tokenizer.ggml.pre", STRING, name),
            entry("tokenizer.ggml.tokens", ARRAY, ["<s>"] + [spell(t) for t in tokens], STRING),
            entry("tokenizer.ggml.token_type", ARRAY, [3] + [1] * len(tokens), I32),
            entry("tokenizer.ggml.merges", ARRAY, [f"{spell(a)} {spell(b)}" for a, b in rules],
                  STRING),
            entry("tokenizer.ggml.bos_token_id", U32, 0),
            entry("tokenizer.ggml.eos_token_id", U32, 0),
        ]
        with open(os.path.join(sys.argv[1], f"split-{name}.gguf"), "wb") as f:
            f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries))
    sizes = [0] + [len(t) for t in tokens]
    with open(os.path.join(sys.argv[1], "splits.json"), "w") as f:
        json.dump({"names": NAMES, "texts": TEXTS, "sizes": sizes}, f)


if __name__ == "__main__":
    main()
