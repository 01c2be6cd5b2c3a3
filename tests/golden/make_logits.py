#!/usr/bin/env python3
"""make_logits.py MODEL.gguf >tests/golden/stories-gqa-logits.txt: logits after a fixed prompt, in
plain Python floats (double precision): the file's q8_0 weights as they are, activations and KV
cache not rounded. Its own reader of GGUF, no code of gqa.c. Only for llama models of f32 and q8_0
without RoPE scaling. Takes some 10 seconds."""
import math
import operator
import struct
import sys

TEXT = ("Once upon a time, there was a little girl named Lily. She loved to play with her toys and "
        "eat yummy food. One day, she found a big, red ball in her yard. She was very happy and")
TOKENS = [
    1, 1986, 421, 432, 261, 397, 2008, 399, 283, 261, 390, 460, 423, 406, 2001, 330,
    502, 268, 342, 335, 324, 633, 269, 722, 1106, 858, 2001, 527, 337, 2008, 369, 519,
    261, 355, 2008, 721, 508, 314, 324, 1337, 2001, 330, 283, 387, 389, 269,
]
OTHERS = [0, 3, 259, 777, 1500, 2047]  # beside the likeliest


def read_gguf(data):
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def string():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n:at].decode("utf-8", "replace")

    def value(kind):
        if kind == 8:
            return string()
        if kind == 9:
            inner, n = take("I"), take("Q")
            return [value(inner) for _ in range(n)]
        return take("BbHhIif?__Qqd"[kind])

    assert data[:4] == b"GGUF"
    at = 4
    assert take("I") in (2, 3)
    n_tensors, n_meta = take("Q"), take("Q")
    meta, tensors = {}, {}
    for _ in range(n_meta):
        key = string()
        meta[key] = value(take("I"))
    for _ in range(n_tensors):
        name = string()
        dims = [take("Q") for _ in range(take("I"))]
        tensors[name] = (dims, take("I"), take("Q"))
    alignment = meta.get("general.alignment", 32)
    return meta, tensors, -(-at // alignment) * alignment


def rows_of(data, start, tensor):
    (cols, *rest), kind, offset = tensor
    rows, at = rest[0] if rest else 1, start + offset
    if kind == 0:
        values = struct.unpack_from("<%df" % (rows * cols), data, at)
    else:
        assert kind == 8  # blocks of 32: an f16 scale, then 32 int8
        blocks = [struct.unpack_from("<e32b", data, at + 34 * b) for b in range(rows * cols // 32)]
        values = [q * b[0] for b in blocks for q in b[1:]]
    return [values[r * cols:(r + 1) * cols] for r in range(rows)]


def dot(a, b):
    return math.fsum(map(operator.mul, a, b))


def norm(x, weight, eps):
    scale = 1 / math.sqrt(dot(x, x) / len(x) + eps)
    return [v * scale * w for v, w in zip(x, weight)]


def rotate(x, heads, d, position, base):
    for h in range(heads):
        for i in range(d // 2):  # adjacent pairs
            a, b, angle = x[h * d + 2 * i], x[h * d + 2 * i + 1], position * base ** (-2 * i / d)
            x[h * d + 2 * i] = a * math.cos(angle) - b * math.sin(angle)
            x[h * d + 2 * i + 1] = a * math.sin(angle) + b * math.cos(angle)


def attend(q, keys, values, heads, kv_heads, d):
    out = []
    for h in range(heads):
        own, first = q[h * d:(h + 1) * d], h // (heads // kv_heads) * d
        scores = [dot(own, k[first:first + d]) / math.sqrt(d) for k in keys]
        weights = [math.exp(s - max(scores)) for s in scores]
        total = math.fsum(weights)
        out += [dot(weights, [v[first + i] for v in values]) / total for i in range(d)]
    return out


def add(a, b):
    return [x + y for x, y in zip(a, b)]


def logits(path):
    data = open(path, "rb").read()
    meta, tensors, start = read_gguf(data)
    get = {name: rows_of(data, start, t) for name, t in tensors.items()}

    def arch(key, absent=None):
        return meta.get("llama." + key, absent)

    heads, kv_heads = arch("attention.head_count"), arch("attention.head_count_kv")
    eps, base = arch("attention.layer_norm_rms_epsilon"), arch("rope.freq_base", 10000)
    d = arch("attention.key_length", arch("embedding_length") // heads)
    assert meta["general.architecture"] == "llama" and arch("rope.dimension_count", d) == d
    assert arch("rope.scaling.type", "none") == "none"
    xs = [list(get["token_embd.weight"][t]) for t in TOKENS]
    for layer in range(arch("block_count")):
        def weights(name):
            return get["blk.%d.%s.weight" % (layer, name)]

        def times(name, x):
            return [dot(row, x) for row in weights(name)]

        keys, values = [], []
        for p, x in enumerate(xs):
            h = norm(x, weights("attn_norm")[0], eps)
            q, k = times("attn_q", h), times("attn_k", h)
            rotate(q, heads, d, p, base)
            rotate(k, kv_heads, d, p, base)
            keys.append(k)
            values.append(times("attn_v", h))
            x = add(x, times("attn_output", attend(q, keys, values, heads, kv_heads, d)))
            h = norm(x, weights("ffn_norm")[0], eps)
            gate, up = times("ffn_gate", h), times("ffn_up", h)
            gate = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up)]
            xs[p] = add(x, times("ffn_down", gate))
    h = norm(xs[-1], get["output_norm.weight"][0], eps)
    return [dot(row, h) for row in get.get("output.weight", get["token_embd.weight"])]


HEAD = """\
# Logits of tests/models/stories-gqa.gguf after the last of these tokens: the 6 likeliest ids, then
# 6 others. Made by `python3 tests/golden/make_logits.py tests/models/stories-gqa.gguf`: Python's
# double precision, the file's q8_0 weights times their scales, activations and KV cache not
# rounded, its own reader of the file. tests/test_logits.c reads this."""


def main():
    all_logits = logits(sys.argv[1])
    best = sorted(range(len(all_logits)), key=lambda i: -all_logits[i])[:6]
    print(HEAD)
    print("text " + TEXT)
    print("tokens " + " ".join(map(str, TOKENS)))
    print("rms %.6f" % math.sqrt(dot(all_logits, all_logits) / len(all_logits)))
    for i in best + OTHERS:
        print("logit %d %.6f" % (i, all_logits[i]))


main()
