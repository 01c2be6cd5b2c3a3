#!/usr/bin/env python3
"""Writes small Hugging Face folders with random weights, exports them with scripts/export_hf.py,
and compares the perplexity that `run` gives with that of a plain forward pass in this file, which
reads the folder's weights as Hugging Face means them (half-split rotary pairs, no permutation).
Then folders as people have them, what the metadata must say of each, and damaged ones.
Each export is a case. Last line: N passed, N failed."""
import json
import math
import os
import random
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # no __pycache__ beside the tests
from hf_folder import (GPT4O_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, TEKKEN_PATTERN, byte_level,
                       byte_tokenizer, make_folder, perplexity, read_metadata, sentencepiece_model,
                       sequence, split, spm_tokenizer, write_file, write_weights)

HERE = os.path.dirname(os.path.abspath(__file__))
EXPORT = os.path.join(HERE, "..", "scripts", "export_hf.py")
RUN = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "./run"
passed = failed = 0  # cases
counts = {True: 0, False: 0}  # checks that hold, and that do not
faults = []          # of the case that runs


def check(ok, what):
    counts[bool(ok)] += 1
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


def edit_files(**files):
    """tokenizer_json=... writes tokenizer.json, and so on."""
    def change(folder):
        for name, value in files.items():
            head, _, end = name.rpartition("_")
            write_file(folder, f"{head}.{end}", value)
    return change


def edit_header(edit):
    """Changes the JSON header of model.safetensors."""
    def change(folder):
        with open(os.path.join(folder, "model.safetensors"), "rb") as f:
            raw = f.read()
        (size,) = struct.unpack_from("<Q", raw)
        header = json.loads(raw[8:8 + size])
        more = edit(header) or b""
        write_weights(folder, header, raw[8 + size:] + more)
    return change


def add_tensor(name, shape):
    """A tensor that the architecture has no use for."""
    def edit(header):
        at = max(t["data_offsets"][1] for n, t in header.items() if n != "__metadata__")
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        return bytes(size)
    return edit_header(edit)


def edit_tensor(**changes):
    return edit_header(lambda header: header["model.norm.weight"].update(changes))


# ---- what the metadata say -------------------------------------------------------------------

def export_folder(change, inspect):
    """Exports a folder of random weights after change(folder); inspect(path, stderr) checks it."""
    with tempfile.TemporaryDirectory() as folder:
        make_folder(folder, "llama", "F32", random.Random(1))
        change(folder)
        out = os.path.join(folder, "out.gguf")
        done = command(sys.executable, EXPORT, folder, out)
        if check(done.returncode == 0, f"status {done.returncode}: {done.stderr}"):
            inspect(out, done.stderr)
            again = command(sys.executable, EXPORT, folder, out)
            check(again.returncode == 1 and "--force" in again.stderr, "replaced a file")
            forced = command(sys.executable, EXPORT, folder, out, "--force")
            check(forced.returncode == 0, forced.stderr)


def writes(name, change, warning="", types=None, ids=None, **expected):
    """A case: the keys tokenizer.ggml.KEY=..., the types of tokens by id, the ids of "the", and
    what stderr says."""
    def inspect(out, stderr):
        meta = read_metadata(out)
        for key, value in expected.items():
            full = "tokenizer.chat_template" if key == "chat_template" else f"tokenizer.ggml.{key}"
            check(meta.get(full) == value, f"{key} is {meta.get(full)!r}, expected {value!r}")
        for i, pair in (types or {}).items():
            found = meta["tokenizer.ggml.tokens"][i], meta["tokenizer.ggml.token_type"][i]
            check(found == pair, f"token {i} is {found}, expected {pair}")
        check(warning in stderr if warning else not stderr, f"stderr: {stderr!r}")
        done = command(RUN, "tokenize", out, "--no-bos", "-i", "the")
        check(done.returncode == 0, done.stderr)
        check(ids is None or done.stdout.split() == ids, f"ids {done.stdout}")
    run_case(name, lambda: export_folder(change, inspect))


def with_sentencepiece(settings=None, **files):
    """A folder whose vocabulary is tokenizer.model."""
    return edit_files(**{"tokenizer_model": sentencepiece_model(), "tokenizer_json": None,
                         "tokenizer_config_json": settings or {}, **files})


def all_of(*changes):
    def change(folder):
        for c in changes:
            c(folder)
    return change


def added(special, ids=(258, 259)):
    return [{"id": i, "content": t, "special": special} for i, t in zip(ids, ("<|a|>", "<|b|>"))]


CONTROL, USER = 3, 4


def added_token_cases():
    both = {i: (t, CONTROL) for i, t in ((258, "<|a|>"), (259, "<|b|>"))}
    user = {i: (t, USER) for i, (t, _) in both.items()}
    decoder = {str(a["id"]): a for a in added(True)}
    end = {"eos_token": "<|b|>"}
    writes("added_tokens_decoder", with_sentencepiece({"added_tokens_decoder": decoder, **end}),
           types=both, eos_token_id=259, ids=["100"])
    writes("added_tokens of tokenizer.json beside tokenizer.model",
           with_sentencepiece(end, tokenizer_json={"model": {}, "added_tokens": added(True)}),
           types=both, eos_token_id=259)
    writes("added tokens that are not special", with_sentencepiece(
        {}, tokenizer_json={"added_tokens": added(False)}), types=user)
    writes("added_tokens.json", with_sentencepiece(
        {}, added_tokens_json={"<|a|>": 258, "<|b|>": 259}), types=user)
    writes("an end token is special whatever file names it", with_sentencepiece(
        {"eos_token": {"content": "<|b|>"}}, added_tokens_json={"<|a|>": 258, "<|b|>": 259}),
        types={258: ("<|a|>", USER), 259: ("<|b|>", CONTROL)}, eos_token_id=259)
    writes("an added token beyond the vocabulary", with_sentencepiece(
        {}, added_tokens_json={"<|a|>": 300}), "\"<|a|>\" has id 300, beyond")
    writes("files that differ on a token", with_sentencepiece(
        {"added_tokens_decoder": decoder}, added_tokens_json={"<|z|>": 258}),
        "token 258 is \"<|a|>\", not \"<|z|>\"", types=both)


def pre_tokenizer(spec):
    return edit_files(tokenizer_json={**byte_tokenizer(), "pre_tokenizer": spec})


def pre_tokenizer_cases():
    digits = {"type": "Digits", "individual_digits": True}
    line = {"type": "Split", "pattern": {"Regex": "[\\r\\n]"}, "behavior": "Isolated"}
    for name, spec in (("llama-bpe", split(LLAMA3_PATTERN)), ("qwen2", split(QWEN2_PATTERN)),
                       ("tekken", split(TEKKEN_PATTERN)), ("gpt-4o", split(GPT4O_PATTERN)),
                       ("gpt-2", byte_level(True)),
                       ("smollm", sequence(digits, byte_level(True)))):
        writes(f"pre-tokenizer {name}", pre_tokenizer(spec), pre=name)
    writes("digits alone do not make smollm", pre_tokenizer(
        sequence(line, digits, byte_level(False))), "not known: [\\r\\n]", pre="unknown")
    writes("a pattern near that of llama 3",
           pre_tokenizer(split(LLAMA3_PATTERN.replace("[\\r\\n]*", "[\\r\\n/]*"))),
           "[\\r\\n/]*", pre="unknown")
    removed = split(QWEN2_PATTERN)
    removed["pretokenizers"][0]["behavior"] = "Removed"
    writes("another behaviour of a known pattern", pre_tokenizer(removed), "not known",
           pre="unknown")
    writes("no pre-tokenizer", pre_tokenizer(None), "not known: none", pre="unknown")
    writes("a normalizer that is not supported",
           edit_files(tokenizer_json={**byte_tokenizer(), "normalizer": {"type": "Lowercase"}}),
           "\"Lowercase\"")
    writes("NFC", edit_files(tokenizer_json={**byte_tokenizer(), "normalizer": {"type": "NFC"}}))


def template_cases():
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "text"}]
    writes("chat_template of tokenizer_config.json",
           edit_files(tokenizer_config_json={"chat_template": "old"}), chat_template="old")
    writes("chat_template.jinja goes first",
           edit_files(tokenizer_config_json={"chat_template": "old"},
                      chat_template_jinja="{{ new }} é"), chat_template="{{ new }} é")
    writes("the template named default",
           edit_files(tokenizer_config_json={"chat_template": named}), chat_template="text")
    writes("no template named default",
           edit_files(tokenizer_config_json={"chat_template": named[:1]}), "\"default\"",
           chat_template=None)


def write_only_ends(folder):
    """A classifier whose top token is 258 or 259, by the sign of the sum of what it is given."""
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as f:
        raw = bytearray(f.read())
    (size,) = struct.unpack_from("<Q", raw)
    begin, end = json.loads(raw[8:8 + size])["lm_head.weight"]["data_offsets"]
    rows = [0.0] * (258 * 24) + [1.0] * 24 + [-1.0] * 24
    raw[8 + size + begin:8 + size + end] = struct.pack(f"<{len(rows)}f", *rows)
    write_file(folder, "model.safetensors", bytes(raw))


def end_cases():
    files = {"added_tokens_json": {"<|a|>": 258, "<|b|>": 259}}
    spm = with_sentencepiece({}, **files)
    end = {259: ("<|b|>", CONTROL)}
    writes("a list of ends", all_of(spm, edit_config(eos_token_id=[2, 259])), types=end,
           eos_token_id=2, eot_token_id=259, eom_token_id=None)
    writes("a list of ends in generation_config.json",
           all_of(spm, edit_files(generation_config_json={"eos_token_id": [2, 258, 259]})),
           types=end, eos_token_id=2, eot_token_id=258, eom_token_id=259)
    writes("the tokenizer's end goes first", all_of(
        with_sentencepiece({"eos_token": "<|b|>"}, **files), edit_config(eos_token_id=[2, 259]),
        edit_files(generation_config_json={"eos_token_id": 258})),
        eos_token_id=259, eot_token_id=2, eom_token_id=258)
    writes("four ends", all_of(spm, edit_config(eos_token_id=[2, 258, 259, 1])),
           "token 1 (\"<s>\") does not end a text", eom_token_id=259)
    writes("null and -1 are no ids", all_of(spm, edit_config(eos_token_id=None, bos_token_id=-1)),
           eos_token_id=None, bos_token_id=None)
    writes("an end that no token is called", with_sentencepiece({"eos_token": "<|z|>"}),
           "\"<|z|>\" is not in the vocabulary", eos_token_id=None)
    writes("a bos that is a word", all_of(edit_files(tokenizer_config_json={}),
                                          edit_config(bos_token_id=1)),
           "bos_token_id 1 is no special token", bos_token_id=None)

    def inspect(out, _):
        done = command(RUN, out, "-i", "the", "-t", "0", "-n", "5", "--no-echo")
        check("the model ended the text" in done.stderr, f"{done.stdout!r} {done.stderr}")
    run_case("the second and third end stop a text", lambda: export_folder(
        all_of(spm, edit_config(eos_token_id=[2, 258, 259]), write_only_ends), inspect))


def prefix_cases():
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = {"type": "Prepend", "prepend": "▁"}
    both = {"type": "Sequence", "normalizers": [prepend, replace]}
    settings = {"bos_token": "<s>", "eos_token": "</s>"}

    def prefix(name, yes, normalizer=None, space=None):
        writes(name, edit_files(tokenizer_json=spm_tokenizer(normalizer, space),
                                tokenizer_config_json=settings),
               add_space_prefix=yes, ids=["9"] if yes else ["4", "7"])

    def metaspace(**more):
        return {"type": "Metaspace", "replacement": "▁", **more}
    prefix("Prepend puts a blank in front", True, both)
    prefix("Replace alone does not", False, replace)
    prefix("Metaspace always", True, None, metaspace(prepend_scheme="always"))
    prefix("Metaspace first", True, None, metaspace(prepend_scheme="first"))
    prefix("Metaspace never", False, None, metaspace(prepend_scheme="never", split=False))
    prefix("Metaspace of old", False, None, metaspace(add_prefix_space=False))


def tiktoken_cases():
    ranks = b"IQ== 0\nIg== 1\nIw== 2\n"
    writes("tiktoken's tokenizer.model beside tokenizer.json", edit_files(tokenizer_model=ranks),
           pre="qwen2", ids=["257"], eos_token_id=259)
    refused("tiktoken's tokenizer.model alone",
            edit_files(tokenizer_model=ranks, tokenizer_json=None), "tiktoken")
    refused("a unigram model", edit_files(tokenizer_model=sentencepiece_model(1)), "unigram")
    refused("a pointer in place of tokenizer.model",
            edit_files(tokenizer_model="version https://git-lfs.github.com/spec/v1\n"), "Git LFS")


def tensor_cases():
    layer = "model.layers.0."
    for part, n in (("self_attn.o_proj", 24), ("mlp.gate_proj", 40), ("mlp.up_proj", 40),
                    ("mlp.down_proj", 24), ("self_attn.q_proj", 24), ("input_layernorm", 24)):
        name = f"{layer}{part}.bias"
        refused(f"a bias: {part}", add_tensor(name, [n]), f"tensor {name}: a bias")
    refused("mlp_bias without biases", edit_config(mlp_bias=True), "mlp_bias")
    refused("a norm that llama lacks", add_tensor(layer + "post_mlp.weight", [24]), "post_mlp")
    writes("a classifier that nothing tells of", all_of(
        edit_config(tie_word_embeddings=None), drop("lm_head.weight")), "taken for tied")
    writes("the frequencies of RoPE", add_tensor(layer + "self_attn.rotary_emb.inv_freq", [2]))


# ---- damaged folders -------------------------------------------------------------------------

def drop(name):
    return edit_header(lambda header: header.pop(name) and None)


def raw_weights(data):
    return edit_files(model_safetensors=data)


def named_damages():
    name = "model.norm.weight"
    refused("another architecture", edit_config(model_type="gpt_neox"), "gpt_neox")
    refused("heads that do not divide", edit_config(num_key_value_heads=4), "KV heads")
    refused("a shape that lies", edit_config(intermediate_size=41), "expected shape")
    refused("a truncated file", truncate_weights, "do not fit")
    refused("no config.json", edit_files(config_json=None), "config.json: not found")
    refused("no weights", edit_files(model_safetensors=None), "no *.safetensors")
    refused("no tokenizer", edit_files(tokenizer_json=None), "neither tokenizer.model nor")
    refused("a shard that is missing", edit_files(model_safetensors=None, **{
        "model.safetensors.index_json": {"weight_map": {name: "part-1.safetensors"}}}),
        "part-1.safetensors: not found")
    refused("a header beyond the file", raw_weights(struct.pack("<Q", 1 << 40) + b"{}"),
            "header of")
    refused("empty weights", raw_weights(b""), "model.safetensors: truncated")
    refused("a missing tensor", drop(name), f"{name} is missing")
    refused("a missing classifier", drop("lm_head.weight"), "lm_head.weight is missing")
    refused("an unknown dtype", edit_tensor(dtype="F8_E4M3"), "F8_E4M3")
    refused("offsets below 0", edit_tensor(data_offsets=[-96, 0]), "do not fit")
    refused("offsets of other types", edit_tensor(data_offsets=[0, "96"]), "two integers")
    refused("tensors that overlap", edit_tensor(data_offsets=[0, 96]), "overlap")
    refused("a shape below 0", edit_tensor(shape=[-24]), "shape")
    refused("merges of numbers", edit_files(tokenizer_json={**byte_tokenizer(), "model": {
        "type": "BPE", "vocab": {"a": 0}, "merges": [1]}}), "merges[0]")
    refused("two tokens of one id", edit_files(tokenizer_json={**byte_tokenizer(), "model": {
        "type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}), "both token 0")
    refused("an end beyond the vocabulary", edit_config(eos_token_id=[260]), "eos_token_id 260")
    refused("a number that is none", edit_config(rms_norm_eps=float("nan")), "rms_norm_eps")


def paths_of(value, path=()):
    """The paths of all values of a JSON value, of long lists and objects the first few."""
    yield path
    entries = value.items() if isinstance(value, dict) else \
        enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries)[:6]:
        yield from paths_of(inner, path + (key,))


WRONG = [None, True, -1, 0, 7, 1e400, 2 ** 70, 0.5, "x", "\ud800\n", [], [[]], {}, {"x": 1},
         [1, "x"]]


def damage_json(value, rng):
    """Deletes one value somewhere, or puts another in its place."""
    path = rng.choice([p for p in paths_of(value) if p])
    for key in path[:-1]:
        value = value[key]
    if rng.random() < 0.3:
        del value[path[-1]]
    else:
        value[path[-1]] = rng.choice(WRONG)


def damage_bytes(raw, rng):
    """Truncates, flips bits, or repeats a stretch; half of all damages are near the start."""
    at = rng.randrange(min(len(raw), 2000) if rng.random() < 0.5 else len(raw))
    kind = rng.randrange(3)
    if kind == 0:
        return raw[:at]
    if kind == 1:
        return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1:]
    return raw[:at] + raw[max(0, at - 9):at] + raw[at:]


def damage(folder, rng):
    name = rng.choice(["config.json", "tokenizer.json", "tokenizer_config.json",
                       "generation_config.json", "model.safetensors", "tokenizer.model"])
    path = os.path.join(folder, name)
    if name == "tokenizer.model":
        write_file(folder, name, sentencepiece_model())
    with open(path, "rb") as f:
        raw = f.read()
    if name == "tokenizer.model" or rng.random() < 0.4:
        write_file(folder, name, damage_bytes(raw, rng))
    elif name == "model.safetensors":
        edit_header(lambda header: damage_json(header, rng))(folder)
    else:
        value = json.loads(raw)
        damage_json(value, rng)
        write_file(folder, name, value)


def check_damage(seed):
    """Exit 0 and a file that `run` opens, or exit 1, one line that is no traceback, no file."""
    with tempfile.TemporaryDirectory() as folder:
        make_folder(folder, "llama", "F32", random.Random(1), num_hidden_layers=1,
                    eos_token_id=[258, 259], rope_parameters={
                        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0,
                        "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 32})
        write_file(folder, "generation_config.json", {"eos_token_id": [258, 259]})
        damage(folder, random.Random(seed))
        out = os.path.join(folder, "out.gguf")
        done = command(sys.executable, EXPORT, folder, out)
        check("Traceback" not in done.stderr, done.stderr)
        if done.returncode == 0:
            opened = command(RUN, "info", out)
            check(opened.returncode == 0, f"exported, but: {opened.stderr}")
            return
        lines = [l for l in done.stderr.splitlines() if "warning: " not in l]
        check(done.returncode == 1 and len(lines) == 1, f"{done.returncode}: {done.stderr}")
        check(not any("out.gguf" in n for n in os.listdir(folder)), "left a file")


LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
case("llama GQA 6/2, f32", "llama", "F32")
case("llama MHA, f16", "llama", "F16", num_key_value_heads=6)
case("llama MQA, bf16, tied", "llama", "BF16", num_key_value_heads=1, tie_word_embeddings=True)
case("llama 3 rope scaling", "llama", "F32", rope_scaling=LLAMA3_ROPE)
case("linear rope scaling", "llama", "F32", rope_scaling={"rope_type": "linear", "factor": 4.0})
case("transformers 5, rope_parameters", "llama", "F32", rope_theta=None,
     rope_parameters={"rope_theta": 500.0, **LLAMA3_ROPE})
case("mistral", "mistral", "F32")
case("qwen2, biases", "qwen2", "F32")
case("qwen3, QK norm, head_dim 8", "qwen3", "F32", head_dim=8)
added_token_cases()
pre_tokenizer_cases()
template_cases()
end_cases()
prefix_cases()
tiktoken_cases()
tensor_cases()
named_damages()
for n in range(100):
    run_case(f"damage {n}", lambda: check_damage(n))
print(f"{sum(counts.values())} checks, {counts[False]} failed")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
