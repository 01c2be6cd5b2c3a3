#!/usr/bin/env python3
"""Turns a Hugging Face model folder into one GGUF file that `run` reads. Needs only Python's
standard library.

usage: scripts/export_hf.py FOLDER OUT.gguf [--type keep|f32|f16|bf16]

FOLDER holds config.json, *.safetensors, and tokenizer.model or tokenizer.json. Architectures: llama
(and mistral), qwen2, qwen3. Weights are copied tensor by tensor; quantise afterwards with
`run convert OUT.gguf SMALL.gguf --type q8_0`.
"""
import json
import math
import mmap
import os
import struct
import sys

F32, F16, BF16 = 0, 1, 30
TYPE_OF_NAME = {"f32": F32, "f16": F16, "bf16": BF16}
TYPE_OF_DTYPE = {"F32": F32, "F16": F16, "BF16": BF16}
SIZE = {F32: 4, F16: 2, BF16: 2}
FILE_TYPE = {F32: 0, F16: 1, BF16: 32}
ALIGNMENT = 32


class Refused(Exception):
    """The folder is damaged or needs what is not supported. The message names the thing."""


# ---- safetensors -----------------------------------------------------------------------------

class Safetensors:
    """All tensors of a folder's *.safetensors files: name -> (GGUF type, shape, memoryview)."""

    def __init__(self, folder):
        self.tensors = {}
        names = sorted(n for n in os.listdir(folder) if n.endswith(".safetensors"))
        if not names:
            raise Refused(f"{folder}: no *.safetensors file")
        for name in names:
            self._read(os.path.join(folder, name))

    def _read(self, path):
        with open(path, "rb") as f:
            data = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
        if len(data) < 8:
            raise Refused(f"{path}: too short to be a safetensors file")
        (length,) = struct.unpack_from("<Q", data, 0)
        if length > len(data) - 8:
            raise Refused(f"{path}: header of {length} bytes in a file of {len(data)}")
        for name, entry in json.loads(bytes(data[8:8 + length])).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            if entry["dtype"] not in TYPE_OF_DTYPE:
                raise Refused(f"{path}: tensor {name} has dtype {entry['dtype']}; "
                              "supported are F32, F16, BF16")
            kind, shape, start = TYPE_OF_DTYPE[entry["dtype"]], entry["shape"], 8 + length
            inside = 0 <= begin <= end <= len(data) - start
            if not inside or end - begin != math.prod(shape) * SIZE[kind]:
                raise Refused(f"{path}: tensor {name}: offsets {begin}..{end} do not fit "
                              f"shape {shape}")
            self.tensors[name] = (kind, shape, data[start + begin:start + end])

    def get(self, name, shape):
        if name not in self.tensors:
            raise Refused(f"tensor {name} is missing")
        kind, found, data = self.tensors[name]
        if list(found) != list(shape):
            raise Refused(f"tensor {name}: expected shape {list(shape)}, got {list(found)}")
        return kind, data


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
        return struct.pack(f"<{n}e", *(max(-65504.0, min(65504.0, v)) for v in values))
    words = struct.unpack(f"<{n}I", struct.pack(f"<{n}f", *values))
    return struct.pack(f"<{n}H", *map(bf16_word, words))


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


# ---- GGUF ------------------------------------------------------------------------------------

U32, I32, FLOAT, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def pack_string(text):
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(data)) + data


def pack_value(kind, value):
    if kind == STRING:
        return pack_string(value)
    return struct.pack({U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?"}[kind], value)


class Gguf:
    """Collects metadata and tensors (functions that return their bytes), then writes the file."""

    def __init__(self):
        self.meta, self.tensors = [], []

    def put(self, key, kind, value):
        self.meta.append(pack_string(key) + struct.pack("<I", kind) + pack_value(kind, value))

    def put_array(self, key, kind, values):
        head = pack_string(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
        self.meta.append(head + b"".join(pack_value(kind, v) for v in values))

    def tensor(self, name, kind, shape, data):
        self.tensors.append((name, kind, shape, data))

    def write_to(self, f):
        f.write(b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.meta)))
        f.write(b"".join(self.meta))
        offset = 0
        for name, kind, shape, _ in self.tensors:
            n_dims, dims = len(shape), reversed(shape)  # the fastest index first
            f.write(pack_string(name) + struct.pack(f"<I{n_dims}QIQ", n_dims, *dims, kind, offset))
            offset += -(-math.prod(shape) * SIZE[kind] // ALIGNMENT) * ALIGNMENT
        for _, _, _, data in self.tensors:
            f.write(bytes(-f.tell() % ALIGNMENT))
            f.write(data())
        f.write(bytes(-f.tell() % ALIGNMENT))

    def write(self, path):
        temporary = f"{path}.tmp.{os.getpid()}"
        try:
            with open(temporary, "wb") as f:
                self.write_to(f)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise


# ---- hyper-parameters ------------------------------------------------------------------------

class Config:
    def __init__(self, folder):
        c = self.raw = read_json(os.path.join(folder, "config.json"))
        self.kind = c.get("model_type")
        if self.kind not in ("llama", "mistral", "qwen2", "qwen3"):
            raise Refused(f"config.json: model_type {self.kind!r} is not supported "
                          "(llama, mistral, qwen2, qwen3 are)")
        self.arch = "llama" if self.kind == "mistral" else self.kind
        self.dim, self.layers = c["hidden_size"], c["num_hidden_layers"]
        self.heads = c["num_attention_heads"]
        self.kv_heads = c.get("num_key_value_heads") or self.heads
        self.head_dim = c.get("head_dim") or self.dim // self.heads
        self.ffn, self.vocab = c["intermediate_size"], c["vocab_size"]
        self.theta = self.rope().get("rope_theta") or c.get("rope_theta") or 10000.0
        self.tied = bool(c.get("tie_word_embeddings", False))
        self.bias = self.kind == "qwen2" or bool(c.get("attention_bias", False))
        slides = c.get("use_sliding_window", self.kind == "mistral")
        self.window = c.get("sliding_window") if slides else None
        if c.get("hidden_act", "silu") != "silu":
            raise Refused(f"config.json: hidden_act {c['hidden_act']!r}: only silu is supported")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise Refused(f"config.json: {self.heads} heads over {self.kv_heads} KV heads of "
                          f"{self.head_dim}")

    def rope(self):
        return self.raw.get("rope_scaling") or self.raw.get("rope_parameters") or {}

    def rope_kind(self):
        r = self.rope()
        return r.get("rope_type") or r.get("type") or "default"

    def rope_factors(self):
        """Llama 3's scaling as a divisor of each frequency; None for other kinds."""
        r = self.rope()
        if self.rope_kind() != "llama3":
            return None
        low, high = r["low_freq_factor"], r["high_freq_factor"]
        old = r["original_max_position_embeddings"]
        factors = []
        for i in range(self.head_dim // 2):
            wave = 2 * math.pi * self.theta ** (2 * i / self.head_dim)
            smooth = min(1.0, max(0.0, (old / wave - low) / (high - low)))
            factors.append(1 / ((1 - smooth) / r["factor"] + smooth))
        return factors

    def put(self, g, name):
        a, c = self.arch, self.raw
        g.put("general.architecture", STRING, a)
        g.put("general.name", STRING, name)
        g.put(f"{a}.block_count", U32, self.layers)
        g.put(f"{a}.context_length", U32, c.get("max_position_embeddings", 2048))
        g.put(f"{a}.embedding_length", U32, self.dim)
        g.put(f"{a}.feed_forward_length", U32, self.ffn)
        g.put(f"{a}.attention.head_count", U32, self.heads)
        g.put(f"{a}.attention.head_count_kv", U32, self.kv_heads)
        g.put(f"{a}.attention.key_length", U32, self.head_dim)
        g.put(f"{a}.attention.value_length", U32, self.head_dim)
        g.put(f"{a}.attention.layer_norm_rms_epsilon", FLOAT, c.get("rms_norm_eps", 1e-6))
        g.put(f"{a}.rope.dimension_count", U32, self.head_dim)
        g.put(f"{a}.rope.freq_base", FLOAT, self.theta)
        g.put(f"{a}.vocab_size", U32, self.vocab)
        if self.window:
            g.put(f"{a}.attention.sliding_window", U32, self.window)
        r, kind = self.rope(), self.rope_kind()
        if kind in ("linear", "yarn"):
            g.put(f"{a}.rope.scaling.type", STRING, kind)
            g.put(f"{a}.rope.scaling.factor", FLOAT, r["factor"])
            context = r.get("original_max_position_embeddings")
            if context is not None:
                g.put(f"{a}.rope.scaling.original_context_length", U32, context)
        elif kind not in ("default", "llama3"):
            raise Refused(f"config.json: rope_scaling type {kind!r} is not supported "
                          "(linear, yarn, llama3 are)")


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
        if f"{h}self_attn.o_proj.bias" in source.tensors:
            raise Refused(f"tensor {h}self_attn.o_proj.bias: a bias on the attention output is not "
                          "supported")
        put(b + "attn_output.weight", h + "self_attn.o_proj.weight", [c.dim, q_dim])
        put(b + "ffn_norm.weight", h + "post_attention_layernorm.weight", [c.dim])
        put(b + "ffn_gate.weight", h + "mlp.gate_proj.weight", [c.ffn, c.dim])
        put(b + "ffn_up.weight", h + "mlp.up_proj.weight", [c.ffn, c.dim])
        put(b + "ffn_down.weight", h + "mlp.down_proj.weight", [c.dim, c.ffn])
    put("output_norm.weight", "model.norm.weight", [c.dim])
    if not c.tied and "lm_head.weight" in source.tensors:
        put("output.weight", "lm_head.weight", [c.vocab, c.dim])
    factors = c.rope_factors()
    if factors:
        data = struct.pack(f"<{len(factors)}f", *factors)
        g.tensor("rope_freqs.weight", F32, [len(factors)], lambda: data)


# ---- tokenizer -------------------------------------------------------------------------------

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def protobuf_fields(data):
    """(field number, wire type, value) of a protobuf message; a value is an int or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise Refused("tokenizer.model: damaged")
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(data):
        tag = varint()
        wire = tag & 7
        if wire == 0:
            yield tag >> 3, wire, varint()
            continue
        if wire not in (1, 2, 5):
            raise Refused(f"tokenizer.model: wire type {wire}")
        size = {1: 8, 5: 4}[wire] if wire != 2 else varint()
        if size > len(data) - at:
            raise Refused("tokenizer.model: damaged")
        yield tag >> 3, wire, data[at:at + size]
        at += size


def sentencepiece(path):
    """tokens, scores, types and add_space_prefix of a SentencePiece model file."""
    tokens, scores, types, prefix = [], [], [], True
    with open(path, "rb") as f:
        data = f.read()
    for field, _, value in protobuf_fields(data):
        if field == 1:
            entry = {1: b"", 2: bytes(4), 3: NORMAL}
            entry.update({f: v for f, _, v in protobuf_fields(value)})
            tokens.append(entry[1])
            scores.append(struct.unpack("<f", entry[2])[0])
            types.append(entry[3])
        elif field == 2:
            if {f: v for f, _, v in protobuf_fields(value)}.get(3, 1) != 2:
                raise Refused("tokenizer.model: not a BPE model (unigram models are not supported)")
        elif field == 3:
            prefix = bool({f: v for f, _, v in protobuf_fields(value)}.get(3, 1))
    return tokens, scores, types, prefix


def pre_tokenizer_name(spec):
    """The GGUF name of a byte-level BPE's pre-tokeniser, recognised by its patterns."""
    text = json.dumps(spec)
    if "\\\\p{N}{1,3}" in text:
        return "llama-bpe"
    if "\\\\p{N}|" in text and "(?i:" in text:
        return "qwen2"
    return "smollm" if "individual_digits" in text else "gpt-2"


def put_json_tokenizer(g, t, vocab_size):
    model = t["model"]
    if model.get("type", "BPE") != "BPE":
        raise Refused(f"tokenizer.json: model type {model.get('type')!r} is not supported (BPE is)")
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    spm = bool(model.get("byte_fallback"))
    by_id = {i: (token, NORMAL) for token, i in model["vocab"].items()}
    for a in t.get("added_tokens", []):
        by_id[a["id"]] = (a["content"], CONTROL if a.get("special") else USER)
    if max(by_id) >= vocab_size:
        raise Refused(f"tokenizer.json: token id {max(by_id)} is beyond config.json's vocab_size "
                      f"{vocab_size}")
    tokens, types = [], []
    for i in range(vocab_size):
        token, kind = by_id.get(i, (f"[unused{i}]", UNUSED))
        if spm and kind == NORMAL and len(token) == 6 and token.startswith("<0x"):
            kind = BYTE
        if spm and token == model.get("unk_token"):
            kind = UNKNOWN
        tokens.append(token)
        types.append(kind)
    g.put("tokenizer.ggml.model", STRING, "llama" if spm else "gpt2")
    pre = "default" if spm else pre_tokenizer_name(t.get("pre_tokenizer"))
    g.put("tokenizer.ggml.pre", STRING, pre)
    g.put_array("tokenizer.ggml.tokens", STRING, tokens)
    g.put_array("tokenizer.ggml.token_type", I32, types)
    if spm:  # a token's score is the rank of the merge that makes it: earlier merges win
        rank = {m.replace(" ", ""): -float(i) for i, m in reversed(list(enumerate(merges)))}
        g.put_array("tokenizer.ggml.scores", FLOAT,
                    [rank.get(t, -1e6 if k == NORMAL else 0.0) for t, k in zip(tokens, types)])
    else:
        g.put_array("tokenizer.ggml.merges", STRING, merges)
    return {token: i for i, token in enumerate(tokens)}


def put_sentencepiece_tokenizer(g, path, added, vocab_size):
    tokens, scores, types, prefix = sentencepiece(path)
    if len(tokens) > vocab_size:
        raise Refused(f"tokenizer.model: {len(tokens)} tokens, config.json's vocab_size is "
                      f"{vocab_size}")
    by_id = {i: text for text, i in added.items()}
    for i in range(len(tokens), vocab_size):
        tokens.append(by_id.get(i, f"[unused{i}]"))
        scores.append(-1e6)
        types.append(USER if i in by_id else UNUSED)
    g.put("tokenizer.ggml.model", STRING, "llama")
    g.put("tokenizer.ggml.pre", STRING, "default")
    g.put_array("tokenizer.ggml.tokens", STRING, tokens)
    g.put_array("tokenizer.ggml.scores", FLOAT, scores)
    g.put_array("tokenizer.ggml.token_type", I32, types)
    g.put("tokenizer.ggml.add_space_prefix", BOOL, prefix)
    return {t.decode("utf-8", "replace") if isinstance(t, bytes) else t: i
            for i, t in enumerate(tokens)}


def put_settings(g, settings, raw, ids):
    """Special tokens by name or id, flags, and the chat template."""
    for key, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown")):
        token = settings.get(f"{key}_token", raw.get(f"{key}_token_id"))
        if isinstance(token, dict):
            token = token.get("content")
        elif isinstance(token, list):
            token = token[0]
        if isinstance(token, str):
            token = ids.get(token)
        if token is not None:
            g.put(f"tokenizer.ggml.{name}_token_id", U32, token)
    for key in ("add_bos_token", "add_eos_token"):
        if isinstance(settings.get(key), bool):
            g.put(f"tokenizer.ggml.{key}", BOOL, settings[key])
    if isinstance(settings.get("chat_template"), str):
        g.put("tokenizer.chat_template", STRING, settings["chat_template"])


def put_tokenizer(g, folder, c):
    model = os.path.join(folder, "tokenizer.model")
    as_json = os.path.join(folder, "tokenizer.json")
    settings = read_json(os.path.join(folder, "tokenizer_config.json"), {})
    if os.path.exists(model):
        added = read_json(os.path.join(folder, "added_tokens.json"), {})
        ids = put_sentencepiece_tokenizer(g, model, added, c.vocab)
    elif os.path.exists(as_json):
        ids = put_json_tokenizer(g, read_json(as_json), c.vocab)
    else:
        raise Refused(f"{folder}: neither tokenizer.model nor tokenizer.json")
    put_settings(g, settings, c.raw, ids)


# ---- the program -----------------------------------------------------------------------------

def read_json(path, default=None):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        if default is not None:
            return default
        raise Refused(f"{path}: not found") from None
    except ValueError as e:
        raise Refused(f"{path}: not valid JSON: {e}") from None


def export(folder, out, wanted=None):
    c, g = Config(folder), Gguf()
    c.put(g, os.path.basename(os.path.abspath(folder)))
    if wanted is not None:
        g.put("general.file_type", U32, FILE_TYPE[wanted])
    put_tokenizer(g, folder, c)
    put_tensors(g, c, Safetensors(folder), wanted)
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
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        c, g = export(words[0], words[1], wanted)
    except KeyError as e:
        print(f"export_hf: config.json: no key {e}", file=sys.stderr)
        return 1
    except (Refused, OSError) as e:
        print(f"export_hf: {e}", file=sys.stderr)
        return 1
    print(f"{words[1]}: {c.arch}, {c.layers} layers, {c.heads} query / {c.kv_heads} KV heads, "
          f"{len(g.tensors)} tensors")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
