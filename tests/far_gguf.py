"""far_gguf.py IN OUT: a GGUF file with its tensors' data 4 GiB further on, behind a hole (the file
is sparse), for test_paths.sh: offsets that do not fit 32 bits."""
import struct
import sys

FAR = 1 << 32
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
data = bytearray(open(sys.argv[1], "rb").read())


def number(at, kind="<Q"):
    return struct.unpack_from(kind, data, at)[0]


def skip(at, kind):
    """Where the value of this kind that begins at `at` ends."""
    if kind == STRING:
        return at + 8 + number(at)
    if kind != ARRAY:
        return at + SIZES[kind]
    inner, count, at = number(at, "<I"), number(at + 4), at + 12
    for _ in range(count):
        at = skip(at, inner)
    return at


at = 24
for _ in range(number(16)):
    at = skip(at, STRING)
    at = skip(at + 4, number(at, "<I"))
for _ in range(number(8)):
    at = skip(at, STRING)
    at += 4 + 8 * number(at, "<I") + 4
    struct.pack_into("<Q", data, at, number(at) + FAR)
    at += 8
start = -(-at // 32) * 32
with open(sys.argv[2], "wb") as out:
    out.write(data[:start])
    out.seek(start + FAR)
    out.write(data[start:])
