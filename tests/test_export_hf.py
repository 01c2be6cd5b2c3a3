#!/usr/bin/env python3
"""Writes small Hugging Face folders with random weights, exports them with scripts/export_hf.py,
and compares the perplexity that `run` gives with that of a plain forward pass in this file, which
reads the folder's weights as Hugging Face means them (half-split rotary pairs, no permutation).
Each export is a case. Last line: N passed, N failed."""
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
EXPORT = os.path.join(HERE, "..", "scripts", "export_hf.py")
RUN = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "./run"
passed = failed = 0  # cases
faults = []          # of the case that runs


def check(ok, what):
    if not ok:
        faults.append(what)
    return ok


def run_case(name, test):
    global passed, failed
    faults.clear()
    test()
    passed += not faults
    failed += bool(faults)
    for what in faults:
        print(f"FAILED: {name}: {what}")


# ---- a folder --------------------------------------------------------------------------------

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
            "pre_tokenizer": {"pattern": "(?i:'s)|\\p{N}|"}}


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
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
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


# ---- the plain forward pass ------------------------------------------------------------------

def times(matrix, x):
    return [sum(a * b for a, b in zip(row, x)) for row in matrix]


def norm(x, weight, eps):
    r = 1 / math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v * r * w for v, w in zip(x, weight)]


def frequencies(c, d):
    scaling = c.get("rope_scaling") or {}
    out = []
    for i in range(d // 2):
        f = c["rope_theta"] ** (-2 * i / d)
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


# ---- cases -----------------------------------------------------------------------------------

TEXT = "in the house of the wind, 47 doors sing; the end."


def command(*words):
    return subprocess.run(words, capture_output=True, text=True)


def check_perplexity(name, kind, dtype, more):
    with tempfile.TemporaryDirectory() as folder:
        c, w = make_folder(folder, kind, dtype, random.Random(name), **more)
        out, prompt = os.path.join(folder, "out.gguf"), os.path.join(folder, "text")
        done = command(sys.executable, EXPORT, folder, out)
        if not check(done.returncode == 0, f"export failed: {done.stderr}"):
            return
        with open(prompt, "w") as f:
            f.write(TEXT)
        ids = command(RUN, "tokenize", out, "-i", TEXT)
        tokens = [int(t) for t in ids.stdout.split()]
        n = len(tokens)
        right = tokens[:1] == [258] and 257 in tokens and n > 30
        check(right, f"ids {ids.stdout} {ids.stderr}")
        got = command(RUN, "perplexity", out, "-f", prompt, "-c", str(n), "--kv", "f32", "--json")
        try:
            found = json.loads(got.stdout)["perplexity"]
        except (ValueError, KeyError):
            check(False, f"no perplexity: {got.stdout} {got.stderr}")
            return
        expected = perplexity(c, w, tokens)
        check(abs(found / expected - 1) < 2e-4, f"perplexity {found}, expected {expected}")


def check_refused(change, message):
    with tempfile.TemporaryDirectory() as folder:
        make_folder(folder, "llama", "F32", random.Random(1))
        change(folder)
        done = command(sys.executable, EXPORT, folder, os.path.join(folder, "out.gguf"))
        check(done.returncode == 1, f"status {done.returncode}")
        check(message in done.stderr and "Traceback" not in done.stderr, done.stderr)
        check(not any("out.gguf" in n for n in os.listdir(folder)), "left a file")


def case(name, kind, dtype, **more):
    run_case(name, lambda: check_perplexity(name, kind, dtype, more))


def refused(name, change, message):
    run_case(name, lambda: check_refused(change, message))


def edit_config(**changes):
    def change(folder):
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            c = json.load(f)
        c.update(changes)
        with open(path, "w") as f:
            json.dump(c, f)
    return change


def truncate_weights(folder):
    os.truncate(os.path.join(folder, "model.safetensors"), 5000)


case("llama GQA 6/2, f32", "llama", "F32")
case("llama MHA, f16", "llama", "F16", num_key_value_heads=6)
case("llama MQA, bf16, tied", "llama", "BF16", num_key_value_heads=1, tie_word_embeddings=True)
case("llama 3 rope scaling", "llama", "F32",
     rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": 32})
case("linear rope scaling", "llama", "F32", rope_scaling={"rope_type": "linear", "factor": 4.0})
case("mistral", "mistral", "F32")
case("qwen2, biases", "qwen2", "F32")
case("qwen3, QK norm, head_dim 8", "qwen3", "F32", head_dim=8)
refused("another architecture", edit_config(model_type="gpt_neox"), "gpt_neox")
refused("heads that do not divide", edit_config(num_key_value_heads=4), "KV heads")
refused("a shape that lies", edit_config(intermediate_size=41), "expected shape")
refused("a truncated file", truncate_weights, "do not fit")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
