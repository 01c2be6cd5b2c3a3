#!/usr/bin/env python3
"""make_seeds.py: writes seeds of tests/fuzz/seeds/model anew: tiny models of tensor types in blocks
and of architectures, and vocabularies of each kind of pre-tokenizer."""
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../golden"))
import make_models as models  # noqa: E402
import make_splits as splits  # noqa: E402

SMALL = models.Shape(8, 4, 8)
NARROW = {32: models.Shape(32, 32, 32), 256: models.Shape(256, 2, 2)}  # by the length of a block
ARCHITECTURES = {
    "smollm3": (4, {}), "minicpm": (1, {}), "hunyuan-dense": (1, {}), "exaone": (1, {}),
    "mistral3": (1, {**models.YARN, "attention.temperature_scale": 0.25,
                     "rope.scaling.yarn_log_multiplier": 0.75}),
    "exaone4": (2, {"attention.sliding_window": 2, "attention.sliding_window_pattern": 2}),
}
# Multi-head latent attention, with and without attn_q_a, and of the older files with attn_kv_b;
# grouped-tied attention. The architecture, the shape, the type.
LATENT = {"attention.head_count_kv": 1, "rope.dimension_count": 4,
          "attention.value_length_mla": 16}
SHARED_MODELS = {
    "deepseek2": ("deepseek2", NARROW[32], "q8_0", {
        **LATENT, "attention.q_lora_rank": 32, "attention.kv_lora_rank": 32,
        "attention.key_length": 36, "attention.value_length": 32,
        "attention.key_length_mla": 36}),
    "deepseek2-lite": ("deepseek2", SMALL, "f32", {
        **LATENT, "attention.kv_lora_rank": 16, "attention.key_length": 20,
        "attention.value_length": 16, "attention.key_length_mla": 8}),
    "deepseek2-old": ("deepseek2", NARROW[32], "q8_0", {
        "attention.head_count_kv": 2, "attention.kv_lora_rank": 32, "rope.dimension_count": 4,
        "attention.key_length": 20, "attention.value_length": 16}),
    "gta": ("gta", models.Shape(8, 16, 8), "f32", {
        "attention.head_count_kv": 2, "rope.dimension_count": 8}),
    "gta-q8_0": ("gta", models.Shape(32, 64, 32), "q8_0", {"rope.dimension_count": 32}),
}


def path(name):
    return os.path.join(HERE, "seeds/model", name)


def vocabulary(name, key, value):
    """A file without tensors, with another value of a string."""
    entries = models.metadata("llama", SMALL, 1, {})
    entries = [e for e in entries if not e.startswith(models.string(key))]
    entries.append(models.entry(key, models.STRING, value))
    with open(path(name), "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries))


def main():
    models.HEADS, models.KV_HEADS = 1, 1
    for seed, (name, kind) in enumerate(models.TYPES.items()):
        if kind.bytes:
            shape = NARROW[models.block_length(name)]
            models.write(path(f"type-{name}"), "llama", shape, seed, {}, layers=1, kind=name)
    models.HEADS = 2
    for seed, (name, (layers, keys)) in enumerate(ARCHITECTURES.items()):
        models.write(path(name), name, SMALL, seed, keys, layers=layers)
    for seed, (name, (arch, shape, kind, keys)) in enumerate(SHARED_MODELS.items()):
        models.KV_HEADS = keys.get("attention.head_count_kv", 1)
        models.write(path(name), arch, shape, seed, keys, layers=1, kind=kind)
        with open(path(name), "rb") as f, open(path(name + "-no-repack"), "wb") as odd:
            odd.write(f.read() + bytes(1))  # fuzz_model.c: a size that is odd
    for name in splits.NAMES[1:]:
        vocabulary(f"pre-{name}", "tokenizer.ggml.pre", name)
    vocabulary("pre-gemma4", "tokenizer.ggml.model", "gemma4")


main()
