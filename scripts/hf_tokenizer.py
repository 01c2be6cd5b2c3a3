"""The tokenizer of a Hugging Face folder as tokenizer.ggml.* keys (see scripts/export_hf.py)."""
import os
import re
import struct

from hf_files import (BOOL, FLOAT, I32, STRING, U32, Refused, Table, check_kind, quote, read_file,
                      read_table, warn)

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def text_of(token):
    return token.decode("utf-8", "replace") if isinstance(token, bytes) else token


class Vocabulary:
    """The tokens, their types, and what the kind of tokenizer needs besides."""

    def __init__(self, model, tokens, types):
        self.model, self.tokens, self.types = model, tokens, types
        self.pre, self.scores, self.merges, self.prefix = "default", None, None, None

    def pad(self, size):
        """As many tokens as the embedding has rows."""
        for i in range(len(self.tokens), size):
            self.tokens.append(f"[unused{i}]")
            self.types.append(UNUSED)
            if self.scores is not None:
                self.scores.append(-1e6)

    def ids(self):
        """Text -> id of the tokens that are in use."""
        return {text_of(t): i for i, t in enumerate(self.tokens) if self.types[i] != UNUSED}

    def put(self, g):
        g.put("tokenizer.ggml.model", STRING, self.model)
        g.put("tokenizer.ggml.pre", STRING, self.pre)
        g.put_array("tokenizer.ggml.tokens", STRING, self.tokens)
        g.put_array("tokenizer.ggml.token_type", I32, self.types)
        if self.scores is not None:
            g.put_array("tokenizer.ggml.scores", FLOAT, self.scores)
        if self.merges is not None:
            g.put_array("tokenizer.ggml.merges", STRING, self.merges)
        if self.prefix is not None:
            g.put("tokenizer.ggml.add_space_prefix", BOOL, self.prefix)


# ---- SentencePiece ---------------------------------------------------------------------------

def protobuf_fields(path, data):
    """(field number, value) of a protobuf message; a value is an int or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise Refused(f"{path}: not a SentencePiece model, or truncated at byte {at}")
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
            yield tag >> 3, varint()
            continue
        if wire not in (1, 2, 5):
            raise Refused(f"{path}: not a SentencePiece model: wire type {wire} at byte {at}")
        size = {1: 8, 5: 4}[wire] if wire != 2 else varint()
        if size > len(data) - at:
            raise Refused(f"{path}: not a SentencePiece model, or truncated at byte {at}")
        yield tag >> 3, data[at:at + size]
        at += size


def message(path, value):
    """A message within a message: field number -> its last value."""
    if isinstance(value, int):
        raise Refused(f"{path}: not a SentencePiece model: expected a message, got {value}")
    return dict(protobuf_fields(path, value))


def read_sentencepiece(path, data):
    v = Vocabulary("llama", [], [])
    v.scores, v.prefix, trainer = [], True, {}
    for field, value in protobuf_fields(path, data):
        if field == 1:
            entry = {1: b"", 2: bytes(4), 3: NORMAL, **message(path, value)}
            token, score, kind = entry[1], entry[2], entry[3]
            right = isinstance(token, bytes) and isinstance(score, bytes) and len(score) == 4
            if not right or not isinstance(kind, int) or not NORMAL <= kind <= BYTE:
                raise Refused(f"{path}: token {len(v.tokens)} is damaged")
            v.tokens.append(token)
            v.scores.append(struct.unpack("<f", score)[0])
            v.types.append(kind)
        elif field == 2:
            trainer = message(path, value)
        elif field == 3:
            v.prefix = bool(message(path, value).get(3, 1))
    if not v.tokens:
        raise Refused(f"{path}: not a SentencePiece model: no tokens")
    if trainer.get(3, 1) != 2:
        raise Refused(f"{path}: not a BPE model (unigram models are not supported)")
    return v


def is_tiktoken(data):
    """Whether a tokenizer.model is lines of base64 and ranks, as in Llama 3's folders."""
    lines = data[:4096].split(b"\n")[:-1] or [data]
    return all(re.fullmatch(rb"[A-Za-z0-9+/]+={0,2} [0-9]+\r?", line) for line in lines)


# ---- tokenizer.json --------------------------------------------------------------------------

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TEKKEN = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}"
          + REST.replace("]*|", "/]*|", 1))
LEAD, SHORT = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = (f"{LEAD}{UPPER}*{LOWER}+{SHORT}|{LEAD}{UPPER}+{LOWER}*{SHORT}|"
         + r"\p{N}{1,3}" + REST.replace("]*|", "/]*|", 1))
BYTES, BYTES_AND_WORDS = ("ByteLevel", False, False), ("ByteLevel", False, True)
PRE_TOKENIZERS = {
    (("Split", WORDS + r"\p{N}{1,3}" + REST, "Isolated", False), BYTES): "llama-bpe",
    (("Split", WORDS + r"\p{N}" + REST, "Isolated", False), BYTES): "qwen2",
    (("Split", TEKKEN, "Isolated", False), BYTES): "tekken",
    (("Split", GPT4O, "Isolated", False), BYTES): "gpt-4o",
    (("Digits", True), BYTES_AND_WORDS): "smollm",
    (BYTES_AND_WORDS,): "gpt-2",
}
UNKNOWN_PRE = "unknown"  # `run` warns of it each time


def steps(parent, key, inner):
    """The steps of a normalizer or pre-tokenizer: one, or those of a Sequence."""
    if parent.get(key, "an object") is None:
        return []
    one = parent.table(key)
    if one.need("type", "a string") != "Sequence":
        return [one]
    return [step for entry in one.tables(inner) for step in steps(
        Table(entry.where, {"step": entry.data}), "step", inner)]


def pattern(step, kind):
    """A step's pattern, which is {"Regex": ...} or {"String": ...}."""
    return step.table("pattern").get(kind, "a string")


def signature(step):
    """All that decides how a pre-tokenizer's step cuts text."""
    kind = step.need("type", "a string")
    if kind == "Split":
        return (kind, pattern(step, "Regex"), step.get("behavior", "a string"),
                step.get("invert", "true or false", False))
    if kind == "Digits":
        return kind, step.get("individual_digits", "true or false", False)
    if kind == "ByteLevel":
        return (kind, step.get("add_prefix_space", "true or false", False),
                step.get("use_regex", "true or false", True))
    return kind, step.where


def pre_tokenizer_name(t):
    """The GGUF name of a byte-level BPE's pre-tokenizer, recognised by all of its steps."""
    cuts = steps(t, "pre_tokenizer", "pretokenizers")
    name = PRE_TOKENIZERS.get(tuple(map(signature, cuts)))
    if name is None:
        spec = ", ".join(pattern(s, "Regex") or s.need("type", "a string")
                         if s.data["type"] == "Split" else quote(s.data) for s in cuts) or "none"
        warn(f"{t.where}: the pre-tokenizer is not known: {spec}; tokenizer.ggml.pre is "
             f"\"{UNKNOWN_PRE}\", and text may give wrong tokens")
        return UNKNOWN_PRE
    ignore = t.table("model").get("ignore_merges", "true or false")
    if name != "tekken" and ignore is not None and ignore != (name == "llama-bpe"):
        warn(f"{t.where}: ignore_merges is {str(ignore).lower()}, which tokenizer.ggml.pre "
             f"\"{name}\" does not say; some words may give other tokens")
    return name


def check_normalizers(t, spm):
    """Warns of what `run` does not do before it cuts text."""
    for s in steps(t, "normalizer", "normalizers"):
        kind = s.need("type", "a string")
        marks = spm and kind == "Replace" and pattern(s, "String") == " "
        prepends = spm and kind == "Prepend" and s.get("prepend", "a string") == "▁"
        if not (marks or prepends or (kind == "NFC" and not spm)):
            warn(f"{t.where}: normalizer {quote(s.data)} is not supported; text may give wrong "
                 "tokens")


def adds_prefix(t):
    """Whether a normalizer or Metaspace puts a blank in front of a text."""
    if any(s.data["type"] == "Prepend" for s in steps(t, "normalizer", "normalizers")):
        return True
    for s in steps(t, "pre_tokenizer", "pretokenizers"):
        if s.need("type", "a string") == "Metaspace":
            scheme = s.get("prepend_scheme", "a string")
            old = s.get("add_prefix_space", "true or false", True)
            return old if scheme is None else scheme != "never"
        warn(f"{t.where}: pre-tokenizer {quote(s.data)} is not supported for a vocabulary with "
             "byte fallback; text may give wrong tokens")
    return False


def read_merges(model):
    merges = []
    for m in model.need("merges", "a list"):
        both = m.split(" ") if isinstance(m, str) else m
        right = isinstance(both, list) and len(both) == 2 and all(isinstance(s, str) for s in both)
        if not right:
            raise Refused(f"{model.where}: merges[{len(merges)}]: expected two tokens, got "
                          f"{quote(m)}")
        merges.append(" ".join(both))
    return merges


def read_tokens(model, size):
    """The tokens by id; ids that are left out are unused."""
    by_id = {}
    for token in model.need("vocab", "an object"):
        i = model.table("vocab").need(token, "an integer")
        if i in by_id:
            raise Refused(f"{model.where}: vocab: {quote(by_id[i])} and {quote(token)} are both "
                          f"token {i}")
        by_id[i] = token
    if not by_id:
        raise Refused(f"{model.where}: vocab is empty")
    if max(by_id) >= size:
        raise Refused(f"{model.where}: vocab: token id {max(by_id)} is beyond config.json's "
                      f"vocab_size {size}")
    tokens = [by_id.get(i, f"[unused{i}]") for i in range(max(by_id) + 1)]
    return tokens, [NORMAL if i in by_id else UNUSED for i in range(len(tokens))]


def read_json_vocabulary(t, size):
    model = t.table("model")
    kind = model.get("type", "a string", "BPE")
    if kind != "BPE":
        raise Refused(f"{model.where}: type {quote(kind)} is not supported (BPE is)")
    cuts = [s.need("type", "a string") for s in steps(t, "pre_tokenizer", "pretokenizers")]
    spm = model.get("byte_fallback", "true or false", False) and "ByteLevel" not in cuts
    tokens, types = read_tokens(model, size)
    merges = read_merges(model)
    v = Vocabulary("llama" if spm else "gpt2", tokens, types)
    check_normalizers(t, spm)
    if not spm:
        v.pre, v.merges = pre_tokenizer_name(t), merges
        return v
    unknown = model.get("unk_token", "a string")
    for i, token in enumerate(tokens):
        if re.fullmatch("<0x[0-9A-F]{2}>", token):
            types[i] = BYTE
        elif token == unknown:
            types[i] = UNKNOWN
    # a token's score is the rank of the merge that makes it: earlier merges win
    rank = {m.replace(" ", ""): -float(i) for i, m in reversed(list(enumerate(merges)))}
    v.scores = [rank.get(s, -1e6 if k == NORMAL else 0.0) for s, k in zip(tokens, types)]
    v.prefix = adds_prefix(t)
    return v


# ---- tokens that were added ------------------------------------------------------------------

def added_tokens(folder, settings, t):
    """id -> (text, whether it is special, the file), of all places where folders keep them."""
    added = {}
    old = read_table(os.path.join(folder, "added_tokens.json"), optional=True)
    for text in old.data:
        added[old.need(text, "an integer")] = (text, False, old.where)
    for a in t.tables("added_tokens"):
        added[a.need("id", "an integer")] = (a.need("content", "a string"), is_special(a), t.where)
    decoder = settings.table("added_tokens_decoder")
    for key in decoder.data:
        if not re.fullmatch("[0-9]{1,9}", key):
            raise Refused(f"{decoder.where}: expected an id, got {quote(key)}")
        a, i = decoder.table(key), int(key)
        text = a.need("content", "a string")
        if i in added and added[i][0] != text:
            warn(f"{decoder.where}: token {i} is {quote(text)}, not {quote(added[i][0])} as in "
                 f"{os.path.basename(added[i][2])}")
        added[i] = (text, is_special(a), settings.where)
    return added


def is_special(entry):
    return entry.get("special", "true or false", False)


def add_tokens(v, added, size):
    for i, (text, special, where) in sorted(added.items()):
        if i >= size:
            warn(f"{where}: added token {quote(text)} has id {i}, beyond config.json's vocab_size "
                 f"{size}; it is left out")
            continue
        old = text_of(v.tokens[i])
        if v.types[i] == UNKNOWN and old == text:
            continue
        if v.types[i] != UNUSED and old != text:
            warn(f"{where}: token {i} is {quote(text)}, not {quote(old)} as in the vocabulary")
        v.tokens[i], v.types[i] = text, CONTROL if special else USER


# ---- special tokens and the template ---------------------------------------------------------

def named_token(settings, key, ids):
    """The id of a token that tokenizer_config.json names, None when it names none."""
    value = settings.data.get(key)
    if isinstance(value, dict):
        value = settings.table(key).need("content", "a string")
    if value is None:
        return None
    if check_kind(f"{settings.where}: {key}", value, "a string") not in ids:
        warn(f"{settings.where}: {key} {quote(value)} is not in the vocabulary")
        return None
    return ids[value]


def listed_ids(config, key, size):
    """The ids of a key that is one id or a list of them; null and -1 are none."""
    value = config.data.get(key)
    out = []
    for i in value if isinstance(value, list) else [value]:
        if i is None or (i == -1 and not isinstance(i, bool)):
            continue
        if check_kind(f"{config.where}: {key}", i, "an integer") >= size:
            raise Refused(f"{config.where}: {key} {i} is beyond config.json's vocab_size {size}")
        out.append(i)
    return out


def end_tokens(v, settings, configs, ids):
    """The ids that end a text, each once: the tokenizer's own, then the lists of the configs."""
    first = named_token(settings, "eos_token", ids)
    ends = [] if first is None else [first]
    for config in configs:
        ends += listed_ids(config, "eos_token_id", len(v.tokens))
    ends = list(dict.fromkeys(ends))
    for i in ends[3:]:
        warn(f"token {i} ({quote(text_of(v.tokens[i]))}) does not end a text: GGUF has room for "
             f"three such tokens, of {len(ends)}")
    return ends[:3]


def put_special_tokens(g, v, settings, configs):
    ids, size = v.ids(), len(v.tokens)
    special = dict(zip(("eos", "eot", "eom"), end_tokens(v, settings, configs, ids)))
    for key, name in (("bos", "bos"), ("unk", "unknown")):
        token = named_token(settings, f"{key}_token", ids)
        for i in [] if token is not None else listed_ids(configs[0], f"{key}_token_id", size)[:1]:
            if v.types[i] in (CONTROL, UNKNOWN, USER):
                token = i
            else:  # a default of config.json, and this vocabulary has a word there
                warn(f"{configs[0].where}: {key}_token_id {i} is no special token; it is left out")
        if token is not None:
            special[name] = token
    for name, i in special.items():
        g.put(f"tokenizer.ggml.{name}_token_id", U32, i)
        if v.types[i] in (NORMAL, USER) and name != "unknown":
            v.types[i] = CONTROL
    for key in ("add_bos_token", "add_eos_token"):
        flag = settings.get(key, "true or false")
        if flag is not None:
            g.put(f"tokenizer.ggml.{key}", BOOL, flag)


def chat_template(folder, settings):
    """chat_template.jinja goes first; of a list of templates, "default" is taken."""
    path = os.path.join(folder, "chat_template.jinja")
    data = read_file(path, optional=True)
    if data is not None:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as e:
            raise Refused(f"{path}: not UTF-8: {e}") from None
    if not isinstance(settings.data.get("chat_template"), list):
        return settings.get("chat_template", "a string")
    for entry in settings.tables("chat_template"):
        if entry.need("name", "a string") == "default":
            return entry.need("template", "a string")
    warn(f"{settings.where}: no chat_template is named \"default\"; none is written")
    return None


# ---- all of it -------------------------------------------------------------------------------

def read_vocabulary(folder, t, has_json, size):
    path = os.path.join(folder, "tokenizer.model")
    data = read_file(path, optional=True)
    if data is not None and not is_tiktoken(data):
        v = read_sentencepiece(path, data)
        if len(v.tokens) > size:
            raise Refused(f"{path}: {len(v.tokens)} tokens, config.json's vocab_size is {size}")
        return v
    if has_json:
        return read_json_vocabulary(t, size)
    if data is not None:
        raise Refused(f"{path}: a tiktoken vocabulary (lines of base64 and ranks), which is read "
                      "only from the tokenizer.json beside it, and there is none")
    raise Refused(f"{folder}: neither tokenizer.model nor tokenizer.json")


def put_tokenizer(g, folder, config, size):
    """config is config.json's table, size its vocab_size."""
    settings = read_table(os.path.join(folder, "tokenizer_config.json"), optional=True)
    generation = read_table(os.path.join(folder, "generation_config.json"), optional=True)
    path = os.path.join(folder, "tokenizer.json")
    t = read_table(path, optional=True)
    v = read_vocabulary(folder, t, os.path.exists(path), size)
    v.pad(size)
    add_tokens(v, added_tokens(folder, settings, t), size)
    put_special_tokens(g, v, settings, [config, generation])
    v.put(g)
    template = chat_template(folder, settings)
    if template is not None:
        g.put("tokenizer.chat_template", STRING, template)
