"""For test_export_hf.py: small Hugging Face folders with random weights, a plain forward pass over
them, and the metadata of a GGUF file."""
import json
import math
import os
import struct


# ---- a folder --------------------------------------------------------------------------------

LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
                  r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_PATTERN = LLAMA3_PATTERN.replace("{1,3}", "")
TEKKEN_PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
                  r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
                  r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

GPT4O_PATTERN = (  # o200k_base
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": use_regex}


def split(pattern):
    return sequence({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                     "invert": False}, byte_level(False))


def byte_tokenizer():
    """Byte-level BPE: the 256 bytes in GPT-2's alphabet, two merges, and two special tokens."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {b: chr(b) for b in plain}
    for n, b in enumerate(b for b in range(256) if b not in plain):
        letters[b] = chr(256 + n)
    vocab = {letters[b]: b for b in range(256)}
    vocab["th"], vocab["the"] = 256, 257
    return {"model": {"type": "BPE", "vocab": vocab, "merges": ["t h", "th e"]},
            "added_tokens": [{"id": 258, "content": "<|start|>", "special": True},
                             {"id": 259, "content": "<|end|>", "special": True}],
            "pre_tokenizer": split(QWEN2_PATTERN)}


def rounded(values, dtype):
    """The values as the file's type holds them, and their bytes."""
    if dtype == "BF16":
        raw = b"".join(struct.pack("<f", v)[2:] for v in values)
        wide = b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2))
        return list(struct.unpack(f"<{len(values)}f", wide)), raw
    layout = f"<{len(values)}{'e' if dtype == 'F16' else 'f'}"
    raw = struct.pack(layout, *values)
    return list(struct.unpack(layout, raw)), raw


def tensor_shapes(c):
    d = c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    dim, ffn = c["hidden_size"], c["intermediate_size"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    shapes = {"model.embed_tokens.weight": [260, dim], "model.norm.weight": [dim]}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [260, dim]
    for l in range(c["num_hidden_layers"]):
        layer = {
            "input_layernorm.weight": [dim], "post_attention_layernorm.weight": [dim],
            "self_attn.q_proj.weight": [q, dim], "self_attn.k_proj.weight": [kv, dim],
            "self_attn.v_proj.weight": [kv, dim], "self_attn.o_proj.weight": [dim, q],
            "mlp.gate_proj.weight": [ffn, dim], "mlp.up_proj.weight": [ffn, dim],
            "mlp.down_proj.weight": [dim, ffn],
        }
        if c["model_type"] == "qwen2":
            layer.update({"self_attn.q_proj.bias": [q], "self_attn.k_proj.bias": [kv],
                          "self_attn.v_proj.bias": [kv]})
        if c["model_type"] == "qwen3":
            layer.update({"self_attn.q_norm.weight": [d], "self_attn.k_norm.weight": [d]})
        shapes.update({f"model.layers.{l}.{name}": shape for name, shape in layer.items()})
    return shapes


def random_values(name, shape, rng):
    """Norms near 1, the others near 0."""
    scale = 1 if len(shape) == 1 else 2.5 / math.sqrt(shape[-1])
    center = 1 if name.endswith("norm.weight") else 0
    return [center + scale * rng.uniform(-0.7, 0.7) for _ in range(math.prod(shape))]


def write_weights(folder, header, data):
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def make_weights(folder, c, dtype, rng):
    """Writes model.safetensors; returns vectors as lists, matrices as lists of rows."""
    weights, header, data = {}, {"__metadata__": {"format": "pt"}}, b""
    for name, shape in tensor_shapes(c).items():
        values, raw = rounded(random_values(name, shape, rng), dtype)
        width = shape[-1]
        weights[name] = values
        if len(shape) > 1:
            weights[name] = [values[i:i + width] for i in range(0, len(values), width)]
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    write_weights(folder, header, data)
    return weights


def make_folder(folder, kind, dtype, rng, **more):
    c = {"model_type": kind, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
         "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 260,
         "rms_norm_eps": 1e-5, "rope_theta": 500.0, "max_position_embeddings": 64,
         "tie_word_embeddings": False, "hidden_act": "silu"}
    c.update(more)
    settings = {"bos_token": "<|start|>", "eos_token": "<|end|>", "add_bos_token": True}
    for name, value in (("config.json", c), ("tokenizer.json", byte_tokenizer()),
                        ("tokenizer_config.json", settings)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f)
    return c, make_weights(folder, c, dtype, rng)


def write_file(folder, name, value):
    """Bytes and text as they are, all else as JSON; None removes the file."""
    path = os.path.join(folder, name)
    if value is None:
        os.unlink(path)
        return
    text = value if isinstance(value, (bytes, str)) else json.dumps(value)
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def sentencepiece_model(model_type=2):
    """A SentencePiece file of <unk>, <s>, </s>, printable ASCII and a few merges."""
    tokens = ["<unk>", "<s>", "</s>", "▁", *map(chr, range(33, 127)), "he", "▁t", "▁the"]
    out = b""
    for i, token in enumerate(tokens):
        kind = 2 if i == 0 else 3 if i < 3 else 1
        entry = field(1, token.encode()) + b"\x15" + struct.pack("<f", -i) + bytes([0x18, kind])
        out += field(1, entry)
    return out + field(2, bytes([0x18, model_type]))


def spm_tokenizer(normalizer, pre_tokenizer):
    """tokenizer.json of a vocabulary with byte fallback."""
    tokens = ["<unk>", "<s>", "</s>", "▁", "t", "h", "e", "he", "▁t", "▁the"]
    special = [{"id": i, "content": t, "special": True} for i, t in enumerate(tokens[:3])]
    return {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "added_tokens": special,
            "model": {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>",
                      "vocab": {t: i for i, t in enumerate(tokens)},
                      "merges": ["h e", ["▁", "t"], "▁t he"]}}


# ---- the plain forward pass ------------------------------------------------------------------

def times(matrix, x):
    return [sum(a * b for a, b in zip(row, x)) for row in matrix]


def norm(x, weight, eps):
    r = 1 / math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v * r * w for v, w in zip(x, weight)]


def frequencies(c, d):
    scaling = c.get("rope_scaling") or c.get("rope_parameters") or {}
    out, theta = [], c["rope_theta"] or scaling["rope_theta"]
    for i in range(d // 2):
        f = theta ** (-2 * i / d)
        if scaling.get("rope_type") == "linear":
            f /= scaling["factor"]
        if scaling.get("rope_type") == "llama3":  # as in Meta's reference: by wavelength
            wave, old = 2 * math.pi / f, scaling["original_max_position_embeddings"]
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            if wave > old / low:
                f /= scaling["factor"]
            elif wave > old / high:
                s = (old / wave - low) / (high - low)
                f = (1 - s) * f / scaling["factor"] + s * f
        out.append(f)
    return out


def rotate(x, position, freqs):
    half = len(x) // 2
    out = list(x)
    for i, f in enumerate(freqs):
        cos, sin = math.cos(position * f), math.sin(position * f)
        out[i], out[i + half] = x[i] * cos - x[i + half] * sin, x[i + half] * cos + x[i] * sin
    return out


def attend(query, keys, values):
    """softmax(q K^T / sqrt(d)) V of one head."""
    scores = [sum(a * b for a, b in zip(query, k)) / math.sqrt(len(query)) for k in keys]
    top = max(scores)
    e = [math.exp(s - top) for s in scores]
    return [sum(p * v[i] for p, v in zip(e, values)) / sum(e) for i in range(len(query))]


def project_heads(w, h, d, eps):
    """q, k, v of one position as lists of heads, before RoPE. w looks up the layer's weights."""
    out = []
    for s in "qkv":
        y = times(w(f"self_attn.{s}_proj.weight"), h)
        bias = w(f"self_attn.{s}_proj.bias")
        if bias:
            y = [a + b for a, b in zip(y, bias)]
        heads, weight = [y[i:i + d] for i in range(0, len(y), d)], w(f"self_attn.{s}_norm.weight")
        out.append([norm(y, weight, eps) for y in heads] if weight else heads)
    return out


def forward(c, weights, tokens):
    heads, eps = c["num_attention_heads"], c["rms_norm_eps"]
    d, group = c.get("head_dim", c["hidden_size"] // heads), heads // c["num_key_value_heads"]
    freqs = frequencies(c, d)
    xs = [list(weights["model.embed_tokens.weight"][t]) for t in tokens]
    for l in range(c["num_hidden_layers"]):
        def w(name, prefix=f"model.layers.{l}."):
            return weights.get(prefix + name)
        keys, values = [], []
        for position, x in enumerate(xs):
            q, k, v = project_heads(w, norm(x, w("input_layernorm.weight"), eps), d, eps)
            keys.append([rotate(y, position, freqs) for y in k])
            values.append(v)
            out = []
            for head in range(heads):
                kv = head // group
                out += attend(rotate(q[head], position, freqs), [y[kv] for y in keys],
                              [y[kv] for y in values])
            x = [a + b for a, b in zip(x, times(w("self_attn.o_proj.weight"), out))]
            h = norm(x, w("post_attention_layernorm.weight"), eps)
            gate, up = times(w("mlp.gate_proj.weight"), h), times(w("mlp.up_proj.weight"), h)
            hidden = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up)]
            xs[position] = [a + b for a, b in zip(x, times(w("mlp.down_proj.weight"), hidden))]
    classifier = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return [times(classifier, norm(x, weights["model.norm.weight"], eps)) for x in xs]


def perplexity(c, w, tokens):
    """One chunk, its second half scored, as `run perplexity` does."""
    logits, n, total = forward(c, w, tokens), len(tokens), 0.0
    for j in range(n // 2, n - 1):
        top = max(logits[j])
        log_sum = top + math.log(sum(math.exp(v - top) for v in logits[j]))
        total += log_sum - logits[j][tokens[j + 1]]
    return math.exp(total / (n - 1 - n // 2))


# ---- the metadata of a GGUF file -------------------------------------------------------------

def read_metadata(path):
    """key -> value of a GGUF file."""
    with open(path, "rb") as f:
        raw = f.read()
    at = 24

    def number(layout):
        nonlocal at
        (value,) = struct.unpack_from("<" + layout, raw, at)
        at += struct.calcsize(layout)
        return value

    def value_of(kind):
        nonlocal at
        if kind == 9:
            kind, n = number("I"), number("Q")
            return [value_of(kind) for _ in range(n)]
        if kind != 8:
            return number({4: "I", 5: "i", 6: "f", 7: "?"}[kind])
        n = number("Q")
        at += n
        return raw[at - n:at].decode()

    out = {}
    for _ in range(struct.unpack_from("<Q", raw, 16)[0]):
        key = value_of(8)
        out[key] = value_of(number("I"))
    return out
