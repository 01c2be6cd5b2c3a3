#!/usr/bin/env python3
"""make_types.py >types.txt: a block of random bytes in each quantised type, and the floats that
gguf's Python makes of it; and what it makes of random floats in q4_1 and q5_1. Needs the packages
gguf and numpy, which nothing else here does."""
import numpy as np
from gguf import GGMLQuantizationType as types
from gguf import quants

# name, where the f16 scales lie: random bits would often be no number
TYPES = [("q8_0", [0]), ("q4_0", [0]), ("q4_1", [0, 2]), ("q5_0", [0]), ("q5_1", [0, 2]),
         ("q2_k", [80, 82]), ("q3_k", [108]), ("q4_k", [0, 2]), ("q5_k", [0, 2]), ("q6_k", [208]),
         ("iq4_nl", [0]), ("iq4_xs", [0])]


def main():
    print("# made by tests/golden/make_types.py: a type, a block, its little-endian floats")
    random = np.random.default_rng(7)
    for name, halves in TYPES:
        kind = types[name.upper()]
        values, size = quants.GGML_QUANT_SIZES[kind]
        block = random.integers(0, 256, size, dtype=np.uint8)
        for at in halves:
            block[at:at + 2] = random.normal(0, 0.1, 1).astype("<f2").view(np.uint8)
        floats = quants.dequantize(block.reshape(1, -1), kind).astype("<f4")
        assert floats.size == values
        print("read", name, block.tobytes().hex(), floats.tobytes().hex())
    for name in ("q4_1", "q5_1"):
        for floats in (random.normal(0, 1, 32), random.normal(-3, 1e-3, 32), np.full(32, 0.7)):
            floats = floats.astype("<f4")
            block = quants.quantize(floats.reshape(1, -1), types[name.upper()])
            print("write", name, block.tobytes().hex(), floats.tobytes().hex())


main()
