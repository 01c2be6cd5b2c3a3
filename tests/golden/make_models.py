#!/usr/bin/env python3
"""make_models.py FOLDER [FILE...]: the tiny random models of tests/test_foreign.c, or those FILEs,
whose logits a foreign program computes (llama_cpp_logits.mjs). Weights are f32 and multiples of
1/64, but for those of the last kind; each run writes the same bytes.

  llama-freqs.gguf   llama, adjacent RoPE pairs, rope_freqs.weight as in Llama 3.1
  yarn.gguf          mistral3, adjacent RoPE pairs, YaRN with no setting at its default
  qwen2-bias.gguf    qwen2, RoPE pairs half a head apart, biases of q, k and v, linear scaling
  qwen3-norm.gguf    qwen3, RoPE pairs half a head apart, norms of q and k, untied classifier
  ARCHITECTURE.gguf  one of each other architecture, with the steps and keys of its own
  type-TYPE.gguf     llama, all matrices of one type: f16, bf16, or blocks of random bits
"""
import collections
import os
import struct
import sys

HEADS, KV_HEADS, VOCAB = 4, 2, 32
Shape = collections.namedtuple("Shape", "dim head_dim ffn", defaults=[24])
WIDE_HEADS, SQUARE = Shape(24, 16), Shape(32, 8)  # some have no head_dim of their own
IN_BLOCKS = Shape(256, 64, 256)  # rows of whole blocks
U32, F32, STRING, ARRAY, I32, BOOL = 4, 6, 8, 9, 5, 7

# Tensors of an architecture besides llama's.
POST_NORMS = {"gemma2", "gemma3", "gemma4", "olmo2", "exaone4"}
NO_PRE_NORMS = {"olmo2", "exaone4"}
HEAD_NORMS = {"qwen3", "gemma3", "gemma4", "exaone4", "hunyuan-dense"}
ROW_NORMS = {"olmo2"}
FUSED = {"phi3"}
LATENT = {"deepseek2"}
TIED = {"gta"}
V_IS_K = {"gemma4": {1}}  # layers
NO_HEAD_DIM = {"minicpm", "olmo2", "phi3", "exaone4"}  # in the program that is asked
UNTIED = {"qwen3", "phi3", "olmo2", "granite"}


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def next(self, n):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 33) % n

    def values(self, n, spread, middle=0):
        """n multiples of 1/64 in middle - spread .. middle + spread"""
        steps = int(spread * 64)
        return [middle + (self.next(2 * steps + 1) - steps) / 64 for _ in range(n)]

    def bytes(self, n):
        return b"".join(self.next(1 << 24).to_bytes(3, "little") for _ in range(-(-n // 3)))[:n]


# A type's number in GGUF; of blocks: their bytes, where d and perhaps the minimum's factor lie, the
# minimum as a multiple of d, and 1 / d for weights of about 1.
Type = collections.namedtuple("Type", "number bytes at minimum scale", defaults=[0, 0, 0, 0])
TYPES = {
    "f32": Type(0), "f16": Type(1), "bf16": Type(30),
    "q8_0": Type(8, 34, 0, 0, 74), "q4_0": Type(2, 18, 0, 0, 4.6),
    "q4_1": Type(3, 20, 0, -7.5, 4.6), "q5_0": Type(6, 22, 0, 0, 9.2),
    "q5_1": Type(7, 24, 0, -15.5, 9.2), "q2_k": Type(10, 84, 80, 1.5, 12),
    "q3_k": Type(11, 110, 108, 0, 42), "q4_k": Type(12, 144, 0, 7.5, 250),
    "q5_k": Type(13, 176, 0, 15.5, 500), "q6_k": Type(14, 210, 208, 0, 1370),
    "iq4_nl": Type(20, 18, 0, 0, 70), "iq4_xs": Type(23, 136, 0, 0, 1260),
}


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def block_length(kind):
    size = TYPES[kind].bytes
    return 1 if not size else 32 if size <= 34 else 256


def matrix_data(kind, n, spread, random):
    """n weights within +- spread, or about so in blocks of random bits"""
    t = TYPES[kind]
    if kind == "f16":
        return struct.pack(f"<{n}e", *random.values(n, spread))
    if kind == "bf16":  # the upper halves of f32
        data = floats(random.values(n, spread))
        return b"".join(data[i + 2:i + 4] for i in range(0, 4 * n, 4))
    if not t.bytes:
        return floats(random.values(n, spread))
    data = bytearray()
    for _ in range(n // block_length(kind)):
        block = bytearray(random.bytes(t.bytes))
        d = spread / 2 / t.scale * (0.5 + random.next(64) / 64) * (1 - 2 * random.next(2))
        block[t.at:t.at + 2] = struct.pack("<e", d)
        if t.minimum:
            block[t.at + 2:t.at + 4] = struct.pack("<e", d * t.minimum)
        data += block
    return bytes(data)


def string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    if kind == STRING:
        return string(value)
    return struct.pack({U32: "<I", F32: "<f", I32: "<i", BOOL: "<?"}[kind], value)


def entry(key, kind, value, inner=None):
    if kind == ARRAY:
        body = struct.pack("<IQ", inner, len(value)) + b"".join(scalar(inner, v) for v in value)
    else:
        body = scalar(kind, value)
    return string(key) + struct.pack("<I", kind) + body


def vocabulary():
    """As little as readers accept: characters that never merge, and two special tokens."""
    tokens = ["<s>", "</s>", "\u010a"] + list("abcdefghijklmnopqrstuvwxyz.,!")  # U+010A: line feed
    return [
        entry("tokenizer.ggml.model", STRING, "gpt2"),
        entry("tokenizer.ggml.pre", STRING, "default"),
        entry("tokenizer.ggml.tokens", ARRAY, tokens, STRING),
        entry("tokenizer.ggml.token_type", ARRAY, [3, 3] + [1] * (VOCAB - 2), I32),
        entry("tokenizer.ggml.merges", ARRAY, ["a b"], STRING),
        entry("tokenizer.ggml.bos_token_id", U32, 0),
        entry("tokenizer.ggml.eos_token_id", U32, 1),
    ]


def metadata(arch, shape, layers, extra):
    integers = {
        "context_length": 256, "embedding_length": shape.dim, "block_count": layers,
        "feed_forward_length": shape.ffn, "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS, "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim, "rope.dimension_count": shape.head_dim,
    }
    values = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0}
    for key, value in extra.items():
        (values if isinstance(value, float) else integers)[key] = value
    out = [entry("general.architecture", STRING, arch)]
    for key, value in integers.items():
        if isinstance(value, list):
            inner = BOOL if isinstance(value[0], bool) else U32
            out.append(entry(f"{arch}.{key}", ARRAY, value, inner))
            continue
        kind = {str: STRING, bool: BOOL}.get(type(value), U32)
        out.append(entry(f"{arch}.{key}", kind, value))
    out += [entry(f"{arch}.{key}", F32, value) for key, value in values.items()]
    return out + vocabulary()


def latent_tensors(block, dim, keys, matrix, vector):
    """Those of multi-head latent attention, before attn_output."""
    latent, q_rank = keys["attention.kv_lora_rank"], keys.get("attention.q_lora_rank")
    is_old = "attention.key_length_mla" not in keys
    suffix = "" if is_old else "_mla"
    query, value = keys["attention.key_length" + suffix], keys["attention.value_length" + suffix]
    rope = keys["rope.dimension_count"]
    if q_rank:
        yield matrix(block + "attn_q_a", q_rank, dim, 0.5)
        yield vector(block + "attn_q_a_norm.weight", q_rank, 0.5, 1)
        yield matrix(block + "attn_q_b", HEADS * query, q_rank, 0.5)
    else:
        yield matrix(block + "attn_q", HEADS * query, dim, 0.5)
    yield matrix(block + "attn_kv_a_mqa", latent + rope, dim, 0.5)
    yield vector(block + "attn_kv_a_norm.weight", latent, 0.5, 1)
    if is_old:
        yield matrix(block + "attn_kv_b", HEADS * (query - rope + value), latent, 0.5)
        return
    for name, rows, columns in ("k", latent, query - rope), ("v", value, latent):
        name, _, *rest = matrix(f"{block}attn_{name}_b", HEADS * rows, columns, 0.5)
        yield name, [HEADS, rows, columns], *rest


def tensors(arch, shape, layers, random, factors, keys, kind):
    """name, [rows, columns] or [n], type, data"""
    dim, global_head_dim, ffn_dim = shape
    per_layer = keys.get("embedding_length_per_layer_input", 0)
    own = layers - keys.get("attention.shared_kv_layers", 0)

    def matrix(name, rows, columns, spread):
        if shape == IN_BLOCKS:
            spread = 0.1875
        is_whole = columns % block_length(kind) == 0
        of = kind if is_whole else "f32"
        data = matrix_data(of, rows * columns, spread, random)
        return name + ".weight", [rows, columns], TYPES[of].number, data

    def vector(name, n, spread, middle):
        return name, [n], 0, floats(random.values(n, spread, middle))

    yield matrix("token_embd", VOCAB, dim, 1)
    if arch in UNTIED:
        yield matrix("output", VOCAB, dim, 1)
    if per_layer:
        yield matrix("per_layer_token_embd", VOCAB, layers * per_layer, 1)
        yield matrix("per_layer_model_proj", layers * per_layer, dim, 0.5)
        yield vector("per_layer_proj_norm.weight", per_layer, 0.5, 1)
    for name, values in factors.items():
        yield f"{name}.weight", [len(values)], 0, floats(values)
    for layer in range(layers):
        block = f"blk.{layer}."
        head_dim, ffn = global_head_dim, ffn_dim
        if arch == "gemma4":
            is_local = keys["attention.sliding_window_pattern"][layer]
            head_dim = keys["attention.key_length_swa"] if is_local else head_dim
            ffn = keys.get("feed_forward_length", [ffn_dim] * layers)[layer]
        q_dim, kv_dim = HEADS * head_dim, KV_HEADS * head_dim
        if arch not in NO_PRE_NORMS:
            yield vector(block + "attn_norm.weight", dim, 0.5, 1)
        if arch in LATENT:
            yield from latent_tensors(block, dim, keys, matrix, vector)
            q_dim = HEADS * keys.get("attention.value_length_mla", keys["attention.value_length"])
        elif arch in TIED:
            yield matrix(block + "attn_q", q_dim, dim, 0.5)
            yield matrix(block + "attn_kv", kv_dim, dim, 0.5)
            yield matrix(block + "attn_k_rope", head_dim // 2, dim, 0.5)
        elif arch in FUSED:
            yield matrix(block + "attn_qkv", q_dim + 2 * kv_dim, dim, 0.5)
        else:
            yield matrix(block + "attn_q", q_dim, dim, 0.5)
            if layer < own:
                yield matrix(block + "attn_k", kv_dim, dim, 0.5)
            if layer < own and layer not in V_IS_K.get(arch, ()):
                yield matrix(block + "attn_v", kv_dim, dim, 0.5)
        yield matrix(block + "attn_output", dim, q_dim, 0.25)
        if arch == "qwen2":
            for name, n in ("q", q_dim), ("k", kv_dim), ("v", kv_dim):
                yield vector(f"{block}attn_{name}.bias", n, 1, 0)
        for name, n in ("q", q_dim), ("k", kv_dim):
            if (arch in HEAD_NORMS or arch in ROW_NORMS) and (name == "q" or layer < own):
                n = head_dim if arch in HEAD_NORMS else n
                yield vector(f"{block}attn_{name}_norm.weight", n, 0.75, 1)
        if arch in POST_NORMS:
            yield vector(block + "post_attention_norm.weight", dim, 0.5, 1)
        if arch not in NO_PRE_NORMS:
            yield vector(block + "ffn_norm.weight", dim, 0.5, 1)
        if arch in FUSED:
            yield matrix(block + "ffn_up", 2 * ffn, dim, 0.375)
        else:
            yield matrix(block + "ffn_gate", ffn, dim, 0.375)
            yield matrix(block + "ffn_up", ffn, dim, 0.375)
        yield matrix(block + "ffn_down", dim, ffn, 0.375)
        if arch in POST_NORMS:
            yield vector(block + "post_ffw_norm.weight", dim, 0.5, 1)
        if per_layer:
            yield matrix(block + "inp_gate", per_layer, dim, 0.5)
            yield matrix(block + "proj", dim, per_layer, 0.5)
            yield vector(block + "post_norm.weight", dim, 0.5, 1)
        if arch == "gemma4" and layer % 2:
            yield vector(block + "layer_output_scale.weight", 1, 0.25, 0.75)
    yield vector("output_norm.weight", dim, 0.5, 1)


def write(path, arch, shape, seed, extra, factors=None, layers=2, kind="f32"):
    if sys.argv[2:] and os.path.basename(path) not in sys.argv[2:]:
        return
    entries = metadata(arch, shape, layers, extra)
    listed = list(tensors(arch, shape, layers, Random(seed), factors or {}, extra, kind))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(entries)) + b"".join(entries)
    offset = 0
    for name, shape, number, data in listed:
        dims = shape[::-1]  # the row length first
        head += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset)
        offset += -(-len(data) // 32) * 32
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32))
        for _, _, _, data in listed:
            f.write(data + bytes(-len(data) % 32))


WINDOW = {"attention.sliding_window": 9}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 16}
DIVISORS = [1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 6.0, 8.0]
HALF_TURNS = [1.0, 1.0, 2.0, 1.0, 1e30, 1e30, 1e30, 1e30]  # gemma4 rotates some pairs only
GEMMA4 = {**WINDOW, "attention.sliding_window_pattern": [True, False, True, False, True, False],
          "attention.key_length_swa": 8, "attention.value_length_swa": 8,
          "rope.dimension_count_swa": 8, "rope.freq_base_swa": 10000.0, "rope.freq_base": 1e6,
          "embedding_length_per_layer_input": 0}
LATENT_KEYS = {"attention.head_count_kv": 1, "attention.kv_lora_rank": 32,
               "attention.key_length": 40, "attention.value_length": 32,
               "attention.key_length_mla": 24, "attention.value_length_mla": 16,
               "rope.dimension_count": 8}
OLD_LATENT_KEYS = {"attention.head_count_kv": HEADS, "attention.kv_lora_rank": 32,
                   "attention.key_length": 24, "attention.value_length": 16,
                   "rope.dimension_count": 8}
# The program that is asked wants these even where no layer has experts.
NO_EXPERTS = {"expert_count": 0, "expert_used_count": 0, "expert_shared_count": 0,
              "expert_feed_forward_length": 8, "expert_weights_scale": 1.0}
# file: architecture, layers, its keys, tensors of RoPE factors
ARCHITECTURES = {
    "gemma": ("gemma", 2, {}, {}),
    "gemma2": ("gemma2", 3, {**WINDOW, "attn_logit_softcapping": 4.0,
                             "final_logit_softcapping": 3.0}, {}),
    "gemma3": ("gemma3", 7, {**WINDOW, "rope.freq_base": 1e6, "rope.scaling.type": "linear",
                             "rope.scaling.factor": 8.0}, {}),
    "smollm3": ("smollm3", 5, {}, {}),
    "granite": ("granite", 2, {"embedding_scale": 3.0, "residual_scale": 0.5, "logit_scale": 2.5,
                               "attention.scale": 0.375}, {}),
    "minicpm": ("minicpm", 2, {"embedding_scale": 2.0, "residual_scale": 0.75,
                               "logit_scale": 3.0}, {}),
    "mistral3": ("mistral3", 2, {**YARN, "attention.temperature_scale": 0.25,
                                 "rope.scaling.yarn_log_multiplier": 0.75}, {}),
    "ernie4_5": ("ernie4_5", 2, {}, {}),
    "phi3": ("phi3", 2, {"rope.dimension_count": 6, "rope.scaling.attn_factor": 1.25,
                         "rope.scaling.original_context_length": 32},
             {"rope_factors_long": DIVISORS[1:4], "rope_factors_short": [1.0, 1.0, 1.0]}),
    "olmo2": ("olmo2", 2, {}, {}),
    "olmo3": ("olmo2", 5, {**WINDOW, **YARN}, {}),
    "exaone4": ("exaone4", 2, {}, {"rope_freqs": DIVISORS[:4]}),
    "exaone4-windows": ("exaone4", 64, WINDOW, {}),
    "hunyuan-dense": ("hunyuan-dense", 2, {}, {}),
    "gemma4": ("gemma4", 6, {**GEMMA4, "attention.shared_kv_layers": 2,
                             "embedding_length_per_layer_input": 20,
                             "final_logit_softcapping": 3.0,
                             "feed_forward_length": [24, 24, 24, 24, 40, 40]},
               {"rope_freqs": HALF_TURNS}),
    "gemma4-dense": ("gemma4", 6, GEMMA4, {"rope_freqs": HALF_TURNS}),
    "exaone": ("exaone", 2, {}, {"rope_freqs": DIVISORS}),
    "deepseek2": ("deepseek2", 2, {**LATENT_KEYS, **NO_EXPERTS, "attention.q_lora_rank": 20,
                                   "leading_dense_block_count": 2}, {}),
    "deepseek2-lite": ("deepseek2", 27, {**LATENT_KEYS, **NO_EXPERTS,
                                         "leading_dense_block_count": 27}, {}),
    "deepseek2-yarn": ("deepseek2", 2, {**LATENT_KEYS, **NO_EXPERTS, **YARN,
                                        "rope.scaling.yarn_log_multiplier": 0.0707,
                                        "attention.q_lora_rank": 20,
                                        "leading_dense_block_count": 2}, {}),
    "deepseek2-old": ("deepseek2", 2, {**OLD_LATENT_KEYS, **NO_EXPERTS,
                                       "attention.q_lora_rank": 20,
                                       "leading_dense_block_count": 2}, {}),
}


def main():
    def path(name):
        return os.path.join(sys.argv[1], name)

    os.makedirs(sys.argv[1], exist_ok=True)
    write(path("llama-freqs.gguf"), "llama", WIDE_HEADS, 2, {"rope.freq_base": 500000.0},
          {"rope_freqs": [1.0, 1.0, 1.5, 2.75, 6.0, 8.0, 8.0, 8.0]})
    write(path("yarn.gguf"), "mistral3", WIDE_HEADS, 1, {
        "rope.scaling.type": "yarn", "rope.scaling.factor": 6.0,
        "rope.scaling.original_context_length": 64, "rope.scaling.attn_factor": 1.25,
        "rope.scaling.yarn_beta_fast": 2.0, "rope.scaling.yarn_beta_slow": 0.125})
    write(path("qwen2-bias.gguf"), "qwen2", SQUARE, 3, {
        "rope.scaling.type": "linear", "rope.scaling.factor": 2.0})
    write(path("qwen3-norm.gguf"), "qwen3", WIDE_HEADS, 4, {"rope.freq_base": 1000000.0})
    for seed, (name, (arch, layers, extra, factors)) in enumerate(ARCHITECTURES.items(), 5):
        shape = SQUARE if arch in NO_HEAD_DIM else WIDE_HEADS
        write(path(f"{name}.gguf"), arch, shape, seed, extra, factors, layers)
    for seed, kind in enumerate(TYPES, 100):
        if kind != "f32":
            write(path(f"type-{kind}.gguf"), "llama", IN_BLOCKS, seed, {}, layers=1, kind=kind)


if __name__ == "__main__":
    main()
