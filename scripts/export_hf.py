#!/usr/bin/env python3
"""Turns a Hugging Face model folder into one GGUF file that `run` reads. Needs only Python's
standard library.

usage: scripts/export_hf.py FOLDER OUT.gguf [--type keep|f32|f16|bf16] [--force]

FOLDER holds config.json, *.safetensors, and tokenizer.model or tokenizer.json. Architectures: llama
(and mistral), qwen2, qwen3. Weights are copied tensor by tensor; quantise afterwards with
`run convert OUT.gguf SMALL.gguf --type q8_0`.
"""
import math
import os
import struct
import sys

sys.dont_write_bytecode = True  # no __pycache__ beside the scripts
from hf_files import (BF16, F16, F32, FLOAT, SIZE, STRING, U32, Gguf, Refused, Safetensors, quote,
                      read_table, say, warn)
from hf_tokenizer import put_tokenizer

TYPE_OF_NAME = {"f32": F32, "f16": F16, "bf16": BF16}
FILE_TYPE = {F32: 0, F16: 1, BF16: 32}


# ---- weights ---------------------------------------------------------------------------------

def convert(data, source, target):
    """The same numbers as another float type."""
    if source == target:
        return data
    if source == BF16 and target == F32:  # the upper half of a float
        out = bytearray(2 * len(data))
        out[2::4], out[3::4] = data[0::2], data[1::2]
        return out
    n = len(data) // SIZE[source]
    if source == BF16:
        return convert(convert(data, BF16, F32), F32, target)
    values = struct.unpack(f"<{n}{'f' if source == F32 else 'e'}", data)
    if target == F32:
        return struct.pack(f"<{n}f", *values)
    if target == F16:
        return struct.pack(f"<{n}e", *map(f16_value, values))
    words = struct.unpack(f"<{n}I", struct.pack(f"<{n}f", *values))
    return struct.pack(f"<{n}H", *map(bf16_word, words))


def f16_value(v):
    """Clamped to the range of the type; NaN and infinity stay."""
    return max(-65504.0, min(65504.0, v)) if math.isfinite(v) else v


def bf16_word(w):
    """The upper half of a float's bits, rounded to nearest even; NaN stays NaN."""
    is_nan = w & 0x7FFFFFFF > 0x7F800000
    return w >> 16 | 0x40 if is_nan else (w + 0x7FFF + (w >> 16 & 1)) >> 16 & 0xFFFF


def interleave(data, n_heads, head_dim, row_bytes):
    """Rows of each head from half-split rotary order (i, i + d/2), as Hugging Face keeps them, to
    the adjacent pairs (2i, 2i + 1) of GGUF's llama. For K, n_heads is the number of KV heads:
    mixing that up is a classic bug."""
    if len(data) != n_heads * head_dim * row_bytes:
        raise Refused(f"{n_heads} heads of {head_dim} rows of {row_bytes} bytes are not "
                      f"{len(data)} bytes")
    out, at, half = bytearray(len(data)), 0, head_dim // 2
    for head in range(n_heads):
        for i in range(half):
            for j in (i, i + half):
                row = (head * head_dim + j) * row_bytes
                out[at:at + row_bytes] = data[row:row + row_bytes]
                at += row_bytes
    return out


# ---- hyper-parameters ------------------------------------------------------------------------

class Config:
    def __init__(self, folder):
        c = self.raw = read_table(os.path.join(folder, "config.json"))
        self.kind = c.need("model_type", "a string")
        if self.kind not in ("llama", "mistral", "qwen2", "qwen3"):
            self.refuse("model_type", self.kind, "llama, mistral, qwen2, qwen3 are")
        self.arch = "llama" if self.kind == "mistral" else self.kind
        self.dim, self.layers = self.count("hidden_size"), self.count("num_hidden_layers")
        self.heads = self.count("num_attention_heads")
        self.kv_heads = c.get("num_key_value_heads", "an integer") or self.heads
        self.head_dim = c.get("head_dim", "an integer") or self.dim // self.heads
        self.ffn, self.vocab = self.count("intermediate_size"), self.count("vocab_size")
        self.context = c.get("max_position_embeddings", "an integer", 2048)
        self.eps = c.get("rms_norm_eps", "a number", 1e-6)
        self.tied = c.get("tie_word_embeddings", "true or false", False)
        self.bias = self.kind == "qwen2" or c.get("attention_bias", "true or false", False)
        self.window = self.sliding_window()
        activation = c.get("hidden_act", "a string", "silu")
        if activation != "silu":
            self.refuse("hidden_act", activation, "silu is")
        if self.heads % self.kv_heads or self.head_dim < 2 or self.head_dim % 2:
            raise Refused(f"{c.where}: {self.heads} heads over {self.kv_heads} KV heads of "
                          f"{self.head_dim} are not supported")
        self.read_rope()

    def refuse(self, key, value, supported):
        raise Refused(f"{self.raw.where}: {key} {quote(value)} is not supported ({supported})")

    def count(self, key):
        n = self.raw.need(key, "an integer")
        if n < 1:
            raise Refused(f"{self.raw.where}: {key} is 0")
        return n

    def sliding_window(self):
        """The window of all layers, None without one; a window of some layers is refused."""
        c = self.raw
        window = c.get("sliding_window", "an integer")
        slides = c.get("use_sliding_window", "true or false", self.kind == "mistral")
        if not window or not slides:
            return None
        kinds = c.get("layer_types", "a list")
        if kinds is None and self.kind != "mistral":
            full = c.get("max_window_layers", "an integer", 28)  # the first layers
            kinds = ["full_attention" if l < full else "sliding_attention"
                     for l in range(self.layers)]
        if kinds is None or all(k == "sliding_attention" for k in kinds):
            return window
        if any(k != "full_attention" for k in kinds):
            self.refuse("sliding_window", window, "a window of all layers or of none is")
        return None

    def read_rope(self):
        """transformers 5 keeps all of it in rope_parameters, earlier ones beside rope_scaling."""
        c = self.raw
        scaling = "rope_scaling" if c.get("rope_scaling", "an object") else "rope_parameters"
        r = self.rope = c.table(scaling)
        theta = r.get("rope_theta", "a number") or c.table("rope_parameters").get(
            "rope_theta", "a number") or c.get("rope_theta", "a number")
        self.theta = 10000.0 if theta is None else theta
        if self.theta <= 0:
            self.refuse("rope_theta", self.theta, "numbers above 0 are")
        self.rope_kind = r.get("rope_type", "a string") or r.get("type", "a string") or "default"
        if self.rope_kind not in ("default", "linear", "yarn", "llama3"):
            self.refuse(f"{scaling} type", self.rope_kind, "linear, yarn, llama3 are")
        neutral = {"partial_rotary_factor": 1, "beta_fast": 32, "beta_slow": 1, "mscale": None,
                   "mscale_all_dim": None, "attention_factor": None, "truncate": True}
        for key, value in neutral.items():
            found = r.data.get(key)
            if found is not None and found != value:
                self.refuse(f"{scaling}: {key}", found, "its default is")
        for key, value in r.data.items():
            if isinstance(value, dict):
                self.refuse(f"{scaling}: {key}", value, "one scaling for all layers is")
        partial = c.get("partial_rotary_factor", "a number", 1)
        if partial != 1:
            self.refuse("partial_rotary_factor", partial, "1 is")

    def rope_number(self, key):
        value = self.rope.need(key, "a number")
        if value <= 0:
            raise Refused(f"{self.rope.where}: {key} is {value}, expected a number above 0")
        return value

    def rope_factors(self):
        """Llama 3's scaling as a divisor of each frequency; None for other kinds."""
        if self.rope_kind != "llama3":
            return None
        low, high = self.rope_number("low_freq_factor"), self.rope_number("high_freq_factor")
        old = self.rope_number("original_max_position_embeddings")
        if low >= high:
            raise Refused(f"{self.rope.where}: low_freq_factor {low} is not below "
                          f"high_freq_factor {high}")
        factor, factors = self.rope_number("factor"), []
        for i in range(self.head_dim // 2):
            wave = 2 * math.pi * self.theta ** (2 * i / self.head_dim)
            smooth = min(1.0, max(0.0, (old / wave - low) / (high - low)))
            factors.append(1 / ((1 - smooth) / factor + smooth))
        return factors

    def put(self, g, name):
        a = self.arch
        g.put("general.architecture", STRING, a)
        g.put("general.name", STRING, name)
        g.put(f"{a}.block_count", U32, self.layers)
        g.put(f"{a}.context_length", U32, self.context)
        g.put(f"{a}.embedding_length", U32, self.dim)
        g.put(f"{a}.feed_forward_length", U32, self.ffn)
        g.put(f"{a}.attention.head_count", U32, self.heads)
        g.put(f"{a}.attention.head_count_kv", U32, self.kv_heads)
        g.put(f"{a}.attention.key_length", U32, self.head_dim)
        g.put(f"{a}.attention.value_length", U32, self.head_dim)
        g.put(f"{a}.attention.layer_norm_rms_epsilon", FLOAT, self.eps)
        g.put(f"{a}.rope.dimension_count", U32, self.head_dim)
        g.put(f"{a}.rope.freq_base", FLOAT, self.theta)
        g.put(f"{a}.vocab_size", U32, self.vocab)
        if self.window:
            g.put(f"{a}.attention.sliding_window", U32, self.window)
        if self.rope_kind not in ("linear", "yarn"):
            return
        g.put(f"{a}.rope.scaling.type", STRING, self.rope_kind)
        g.put(f"{a}.rope.scaling.factor", FLOAT, self.rope_number("factor"))
        context = self.rope.get("original_max_position_embeddings", "an integer")
        if context is not None:
            g.put(f"{a}.rope.scaling.original_context_length", U32, context)


# ---- tensors ---------------------------------------------------------------------------------

def put_tensors(g, c, source, wanted):
    q_dim, kv_dim = c.heads * c.head_dim, c.kv_heads * c.head_dim

    def put(name, hf_name, shape, heads=0):
        kind, data = source.get(hf_name, shape)
        target = F32 if len(shape) == 1 else kind if wanted is None else wanted

        def make():
            rows = data
            if heads and c.arch == "llama":
                rows = interleave(data, heads, c.head_dim, len(data) // shape[0])
            return convert(rows, kind, target)
        g.tensor(name, target, shape, make)

    put("token_embd.weight", "model.embed_tokens.weight", [c.vocab, c.dim])
    for l in range(c.layers):
        b, h = f"blk.{l}.", f"model.layers.{l}."
        put(b + "attn_norm.weight", h + "input_layernorm.weight", [c.dim])
        for short, n, heads in (("q", q_dim, c.heads), ("k", kv_dim, c.kv_heads), ("v", kv_dim, 0)):
            put(f"{b}attn_{short}.weight", f"{h}self_attn.{short}_proj.weight", [n, c.dim], heads)
            if c.bias:
                put(f"{b}attn_{short}.bias", f"{h}self_attn.{short}_proj.bias", [n], heads)
        if c.arch == "qwen3":
            put(b + "attn_q_norm.weight", h + "self_attn.q_norm.weight", [c.head_dim])
            put(b + "attn_k_norm.weight", h + "self_attn.k_norm.weight", [c.head_dim])
        put(b + "attn_output.weight", h + "self_attn.o_proj.weight", [c.dim, q_dim])
        put(b + "ffn_norm.weight", h + "post_attention_layernorm.weight", [c.dim])
        put(b + "ffn_gate.weight", h + "mlp.gate_proj.weight", [c.ffn, c.dim])
        put(b + "ffn_up.weight", h + "mlp.up_proj.weight", [c.ffn, c.dim])
        put(b + "ffn_down.weight", h + "mlp.down_proj.weight", [c.dim, c.ffn])
    put("output_norm.weight", "model.norm.weight", [c.dim])
    if c.raw.data.get("tie_word_embeddings") is None and "lm_head.weight" not in source.tensors:
        warn(f"{c.raw.where}: no tie_word_embeddings and no lm_head.weight: taken for tied")
    elif not c.tied:
        put("output.weight", "lm_head.weight", [c.vocab, c.dim])
    refuse_others(c, source)
    factors = c.rope_factors()
    if factors:
        data = struct.pack(f"<{len(factors)}f", *factors)
        g.tensor("rope_freqs.weight", F32, [len(factors)], lambda: data)


def refuse_others(c, source):
    """A tensor that is not read would be missing from what the model computes."""
    for name in source.tensors:
        known = name in source.used or name.endswith("rotary_emb.inv_freq")  # RoPE's, by formula
        if known or (name == "lm_head.weight" and c.tied):
            continue
        what = "a bias there is" if name.endswith(".bias") else "it is"
        raise Refused(f"{source.folder}: tensor {name}: {what} not supported for model_type "
                      f"{c.kind}")
    if c.raw.get("mlp_bias", "true or false", False):
        c.refuse("mlp_bias", True, "false is")


# ---- the program -----------------------------------------------------------------------------

def export(folder, out, wanted=None):
    c, g = Config(folder), Gguf()
    c.put(g, os.path.basename(os.path.abspath(folder)))
    if wanted is not None:
        g.put("general.file_type", U32, FILE_TYPE[wanted])
    put_tensors(g, c, Safetensors(folder), wanted)  # first: they show vocab_size to be true
    put_tokenizer(g, folder, c.raw, c.vocab)
    g.write(out)
    return c, g


def main(words):
    wanted = None
    if "--type" in words:
        at = words.index("--type")
        name = words[at + 1] if at + 1 < len(words) else ""
        if name != "keep" and name not in TYPE_OF_NAME:
            print(f"export_hf: --type {name!r}: expected keep, f32, f16 or bf16", file=sys.stderr)
            return 2
        wanted = TYPE_OF_NAME.get(name)
        del words[at:at + 2]
    if words and words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    force = "--force" in words
    if force:
        words.remove("--force")
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if os.path.lexists(words[1]) and not force:
        say(f"{words[1]} exists: --force replaces it")
        return 1
    try:
        c, g = export(words[0], words[1], wanted)
    except (Refused, OSError) as e:
        say(str(e))
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{words[1]}: {c.arch}, {c.layers} layers, {c.heads} query / {c.kv_heads} KV heads, "
          f"{len(g.tensors)} tensors")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
