#!/usr/bin/env python3
"""Writes small Hugging Face folders with random weights, exports them with scripts/export_hf.py, and compares the
perplexity that `run` gives with that of a plain forward pass in this file, which reads the folder's weights as Hugging
Face means them (half-split rotary pairs, no permutation). Last line: N passed, N failed."""
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
passed = failed = 0


def check(ok, what):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}")


# ---- a folder ------------------------------------------------------------------------------------------------------

def byte_tokenizer():
    """Byte-level BPE: the 256 bytes in GPT-2's alphabet, two merges, and two special tokens."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {b: chr(b) for b in plain}
    for n, b in enumerate(b for b in range(256) if b not in plain):
        letters[b] = chr(256 + n)
    vocab = {letters[b]: b for b in range(256)}
    vocab["th"], vocab["the"] = 256, 257
    return {"model": {"type": "BPE", "vocab": vocab, "merges": ["t h", "th e"]},
            "added_tokens": [{"id": 258, "content": "<|start|>", "special": True}, {"id": 259, "content": "<|end|>", "special": True}],
            "pre_tokenizer": {"pattern": "(?i:'s)|\\p{N}|"}}


def bf16(x):
    return struct.unpack("<f", b"\0\0" + struct.pack("<f", x)[2:])[0]


def make_folder(folder, kind, dtype, rng, **more):
    c = {"model_type": kind, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6,
         "num_key_value_heads": 2, "vocab_size": 260, "rms_norm_eps": 1e-5, "rope_theta": 500.0, "max_position_embeddings": 64,
         "tie_word_embeddings": False, "hidden_act": "silu"}
    c.update(more)
    d = c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    dim, ffn, q, kv = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    shapes = {"model.embed_tokens.weight": [260, dim], "model.norm.weight": [dim]}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [260, dim]
    for l in range(c["num_hidden_layers"]):
        h = f"model.layers.{l}."
        shapes.update({h + "input_layernorm.weight": [dim], h + "post_attention_layernorm.weight": [dim],
                       h + "self_attn.q_proj.weight": [q, dim], h + "self_attn.k_proj.weight": [kv, dim],
                       h + "self_attn.v_proj.weight": [kv, dim], h + "self_attn.o_proj.weight": [dim, q],
                       h + "mlp.gate_proj.weight": [ffn, dim], h + "mlp.up_proj.weight": [ffn, dim], h + "mlp.down_proj.weight": [dim, ffn]})
        if kind == "qwen2":
            shapes.update({h + "self_attn.q_proj.bias": [q], h + "self_attn.k_proj.bias": [kv], h + "self_attn.v_proj.bias": [kv]})
        if kind == "qwen3":
            shapes.update({h + "self_attn.q_norm.weight": [d], h + "self_attn.k_norm.weight": [d]})
    weights, header, data = {}, {"__metadata__": {"format": "pt"}}, b""
    for name, shape in shapes.items():
        scale = 1 if len(shape) == 1 else 2.5 / math.sqrt(shape[-1])
        values = [(1 if name.endswith("norm.weight") else 0) + scale * rng.uniform(-0.7, 0.7) for _ in range(math.prod(shape))]
        values = [bf16(v) if dtype == "BF16" else struct.unpack("<e", struct.pack("<e", v))[0] if dtype == "F16" else
                  struct.unpack("<f", struct.pack("<f", v))[0] for v in values]
        raw = b"".join(struct.pack("<f", v)[2:] for v in values) if dtype == "BF16" else \
            struct.pack(f"<{len(values)}{'e' if dtype == 'F16' else 'f'}", *values)
        weights[name] = values if len(shape) == 1 else [values[i:i + shape[1]] for i in range(0, len(values), shape[1])]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    for name, value in (("config.json", c), ("tokenizer.json", byte_tokenizer()),
                        ("tokenizer_config.json", {"bos_token": "<|start|>", "eos_token": "<|end|>", "add_bos_token": True})):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f)
    return c, weights


# ---- the plain forward pass ------------------------------------------------------------------------------------------

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


def forward(c, w, tokens):
    d = c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])
    heads, group, eps, freqs = c["num_attention_heads"], c["num_attention_heads"] // c["num_key_value_heads"], c["rms_norm_eps"], frequencies(c, d)
    xs = [list(w["model.embed_tokens.weight"][t]) for t in tokens]
    for l in range(c["num_hidden_layers"]):
        p = f"model.layers.{l}."
        keys, values = [], []
        for position, x in enumerate(xs):
            h = norm(x, w[p + "input_layernorm.weight"], eps)
            q, k, v = (times(w[f"{p}self_attn.{s}_proj.weight"], h) for s in "qkv")
            if p + "self_attn.q_proj.bias" in w:
                q, k, v = ([a + b for a, b in zip(y, w[f"{p}self_attn.{s}_proj.bias"])] for s, y in zip("qkv", (q, k, v)))
            cut = lambda y: [y[i:i + d] for i in range(0, len(y), d)]
            q, k, v = cut(q), cut(k), cut(v)
            if p + "self_attn.q_norm.weight" in w:
                q = [norm(y, w[p + "self_attn.q_norm.weight"], eps) for y in q]
                k = [norm(y, w[p + "self_attn.k_norm.weight"], eps) for y in k]
            keys.append([rotate(y, position, freqs) for y in k])
            values.append(v)
            out = []
            for head in range(heads):
                query = rotate(q[head], position, freqs)
                scores = [sum(a * b for a, b in zip(query, keys[t][head // group])) / math.sqrt(d) for t in range(position + 1)]
                top = max(scores)
                e = [math.exp(s - top) for s in scores]
                out += [sum(e[t] * values[t][head // group][i] for t in range(position + 1)) / sum(e) for i in range(d)]
            x = xs[position] = [a + b for a, b in zip(x, times(w[p + "self_attn.o_proj.weight"], out))]
            h = norm(x, w[p + "post_attention_layernorm.weight"], eps)
            gate, up = times(w[p + "mlp.gate_proj.weight"], h), times(w[p + "mlp.up_proj.weight"], h)
            xs[position] = [a + b for a, b in zip(x, times(w[p + "mlp.down_proj.weight"], [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up)]))]
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return [times(head, norm(x, w["model.norm.weight"], eps)) for x in xs]


def perplexity(c, w, tokens):
    """One chunk, its second half scored, as `run perplexity` does."""
    logits, n, total = forward(c, w, tokens), len(tokens), 0.0
    for j in range(n // 2, n - 1):
        top = max(logits[j])
        total -= logits[j][tokens[j + 1]] - top - math.log(sum(math.exp(v - top) for v in logits[j]))
    return math.exp(total / (n - 1 - n // 2))


# ---- cases -----------------------------------------------------------------------------------------------------------

TEXT = "in the house of the wind, 47 doors sing; the end."


def case(name, kind, dtype, **more):
    rng = random.Random(name)
    with tempfile.TemporaryDirectory() as folder:
        c, w = make_folder(folder, kind, dtype, rng, **more)
        out, prompt = os.path.join(folder, "out.gguf"), os.path.join(folder, "text")
        done = subprocess.run([sys.executable, EXPORT, folder, out], capture_output=True, text=True)
        if done.returncode:
            return check(False, f"{name}: export failed: {done.stderr}")
        with open(prompt, "w") as f:
            f.write(TEXT)
        ids = subprocess.run([RUN, "tokenize", out, "-i", TEXT], capture_output=True, text=True)
        tokens = [int(t) for t in ids.stdout.split()]
        check(tokens[:1] == [258] and 257 in tokens and len(tokens) > 30, f"{name}: token ids {ids.stdout} {ids.stderr}")
        n = len(tokens)
        got = subprocess.run([RUN, "perplexity", out, "-f", prompt, "-c", str(n), "--kv", "f32", "--json"], capture_output=True, text=True)
        try:
            found = json.loads(got.stdout)["perplexity"]
        except (ValueError, KeyError):
            return check(False, f"{name}: no perplexity: {got.stdout} {got.stderr}")
        expected = perplexity(c, w, tokens)
        check(abs(found / expected - 1) < 2e-4, f"{name}: perplexity {found}, expected {expected}")


def refused(name, change, part):
    with tempfile.TemporaryDirectory() as folder:
        make_folder(folder, "llama", "F32", random.Random(1))
        change(folder)
        out = os.path.join(folder, "out.gguf")
        done = subprocess.run([sys.executable, EXPORT, folder, out], capture_output=True, text=True)
        check(done.returncode == 1 and part in done.stderr and "Traceback" not in done.stderr, f"{name}: {done.returncode} {done.stderr}")
        check(not any("out.gguf" in n for n in os.listdir(folder)), f"{name}: left a file")


def edit_config(**changes):
    def change(folder):
        path = os.path.join(folder, "config.json")
        with open(path) as f:
            c = json.load(f)
        c.update(changes)
        with open(path, "w") as f:
            json.dump(c, f)
    return change


def cut_weights(folder):
    os.truncate(os.path.join(folder, "model.safetensors"), 5000)


case("llama GQA 6/2, f32", "llama", "F32")
case("llama MHA, f16", "llama", "F16", num_key_value_heads=6)
case("llama MQA, bf16, tied", "llama", "BF16", num_key_value_heads=1, tie_word_embeddings=True)
case("llama 3 rope scaling", "llama", "F32", rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                            "high_freq_factor": 4.0, "original_max_position_embeddings": 32})
case("linear rope scaling", "llama", "F32", rope_scaling={"rope_type": "linear", "factor": 4.0})
case("mistral", "mistral", "F32")
case("qwen2, biases", "qwen2", "F32")
case("qwen3, QK norm, head_dim 8", "qwen3", "F32", head_dim=8)
refused("another architecture", edit_config(model_type="gpt_neox"), "gpt_neox")
refused("heads that do not divide", edit_config(num_key_value_heads=4), "KV heads")
refused("a shape that lies", edit_config(intermediate_size=41), "expected shape")
refused("a cut file", cut_weights, "do not fit")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
