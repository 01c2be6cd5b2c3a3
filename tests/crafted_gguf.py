#!/usr/bin/env python3
"""crafted_gguf.py FOLDER: GGUF files for test_cli_info.sh: well-formed ones that cannot be run
(cannot-*.gguf, tokenize.gguf, two-bytes.gguf, template.gguf), one with a NaN (nan.gguf), and files
of about 20 MB that a reader which compares everything with everything would take minutes to open
(large-*.gguf)."""
import os
import struct
import sys

U32, BOOL, STRING, ARRAY = 4, 7, 8, 9


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def entry(key, kind, value):
    return string(key) + struct.pack("<I", kind) + value


def number(key, value):
    return entry(key, U32, struct.pack("<I", value))


def text(key, value):
    return entry(key, STRING, string(value))


def array(key, kind, count, data):
    return entry(key, ARRAY, struct.pack("<IQ", kind, count) + data)


def write(name, meta, tensors=(), data=b""):
    """tensors: (name, dims, type, offset)"""
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(meta)), *meta]
    for tensor, dims, kind, offset in tensors:
        n = len(dims)
        parts.append(string(tensor) + struct.pack(f"<I{n}QIQ", n, *dims, kind, offset))
    head = b"".join(parts)
    with open(os.path.join(sys.argv[1], name), "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data)


def small():
    meta = [text("general.architecture", "mamba9"), number("mamba9.block_count", 3),
            number("mamba9.attention.head_count", 8),
            array("mamba9.attention.head_count_kv", U32, 3, struct.pack("<3I", 2, 2, 2))]
    tensors = [("token_embd.weight", (32, 4), 0, 0), ("a", (256, 1), 16, 512),
               ("b", (256, 1), 999, 544)]
    tokens = b"".join(string(t) for t in ("<unk>", "a", "b"))
    vocabulary = [text("tokenizer.ggml.model", "llama"),
                  array("tokenizer.ggml.tokens", STRING, 3, tokens),
                  array("tokenizer.ggml.scores", 6, 3, struct.pack("<3f", 0, -1, -2)),
                  array("tokenizer.ggml.token_type", 5, 3, struct.pack("<3i", 2, 1, 1))]
    write("cannot-architecture.gguf", meta, tensors, bytes(1024))
    write("tokenize.gguf", meta + vocabulary, tensors, bytes(1024))
    two = [text("tokenizer.ggml.model", "gpt2"), text("tokenizer.ggml.pre", "gpt-2"),
           array("tokenizer.ggml.tokens", STRING, 3, b"".join(map(string, ("<s>", "a", "b")))),
           array("tokenizer.ggml.token_type", 5, 3, struct.pack("<3i", 3, 1, 1)),
           array("tokenizer.ggml.merges", STRING, 0, b""),
           number("tokenizer.ggml.bos_token_id", 0),
           entry("tokenizer.ggml.add_bos_token", BOOL, b"\1")]
    write("two-bytes.gguf", meta + two, tensors, bytes(1024))
    chat = [text("tokenizer.chat_template", "{{ bos_token }}{{ messages[0].content }}|"),
            number("tokenizer.ggml.bos_token_id", 1)]
    write("template.gguf", meta + vocabulary + chat, tensors, bytes(1024))
    llama = [text("general.architecture", "llama"), number("llama.block_count", 1),
             number("llama.embedding_length", 32), number("llama.feed_forward_length", 32),
             number("llama.attention.head_count", 2)]
    write("cannot-tensor.gguf", llama, tensors[:1], bytes(512))
    split = [number("split.no", 1), number("split.count", 3)]
    write("cannot-split.gguf", llama + split, tensors[:1], bytes(512))


def large():
    meta, n = [text("general.architecture", "llama")], 65000
    write("large-keys.gguf", meta + [number("x" * 280 + f"{i:06}", 1) for i in range(n)])
    write("large-same-keys.gguf", meta + [number("x" * 280, 1)] * n)
    data = bytes(160 * n)
    write("large-tensors.gguf", meta, [("t" * 58 + f"{i:05}", (1,), 0, 32 * i) for i in range(n)],
          data)
    write("large-same-tensors.gguf", meta, [("t" * 60, (1,), 0, 32 * i) for i in range(n)], data)
    write("large-types.gguf", meta, [(f"t{i}", (1,), 1000 + i, 32 * i) for i in range(n)], data)
    write("large-strings.gguf", meta + [
        array("tokenizer.ggml.tokens", STRING, 2400000, bytes(19200000))])
    write("large-arrays.gguf", meta + [array(f"a{i}", STRING, 250, bytes(2000))
                                       for i in range(9000)])


small()
large()
