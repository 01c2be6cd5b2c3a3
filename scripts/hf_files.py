"""Files of scripts/export_hf.py: JSON and safetensors in, GGUF out. Whatever is wrong with a file
is raised as Refused, with a message that names the file and the thing."""
import json
import math
import mmap
import os
import struct
import sys

F32, F16, BF16 = 0, 1, 30
TYPE_OF_DTYPE = {"F32": F32, "F16": F16, "BF16": BF16}
SIZE = {F32: 4, F16: 2, BF16: 2}
ALIGNMENT = 32
LIMIT = 2 ** 31 - 1  # of every integer and every id


class Refused(Exception):
    """The folder is damaged or needs what is not supported. The message names the thing."""


def say(text):
    """One line on stderr, whatever a file's strings hold."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    print(f"export_hf: {line}", file=sys.stderr)


def warn(text):
    say("warning: " + text)


# ---- JSON ------------------------------------------------------------------------------------

KINDS = {"an integer": int, "a number": (int, float), "true or false": bool, "a string": str,
         "an object": dict, "a list": list}


def quote(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def check_kind(where, value, kind):
    """The value, which is of the kind; integers are 0 to LIMIT, numbers those of a float."""
    right = isinstance(value, KINDS[kind]) and (kind == "true or false") == isinstance(value, bool)
    if not right:
        raise Refused(f"{where}: expected {kind}, got {quote(value)}")
    if kind == "an integer" and not 0 <= value <= LIMIT:
        raise Refused(f"{where} is out of range: {quote(value)}")
    if kind == "a number" and not abs(value) < 3e38:  # NaN is not either
        raise Refused(f"{where} is not a finite float: {quote(value)}")
    return value


class Table:
    """A JSON object and where it stands. A key that is null counts as absent."""

    def __init__(self, where, data):
        self.where, self.data = where, check_kind(where, data, "an object")

    def get(self, key, kind, default=None):
        value = self.data.get(key)
        return default if value is None else check_kind(f"{self.where}: {key}", value, kind)

    def need(self, key, kind):
        value = self.get(key, kind)
        if value is None:
            raise Refused(f"{self.where}: {key} is missing")
        return value

    def table(self, key):
        return Table(f"{self.where}: {key}", self.get(key, "an object", {}))

    def tables(self, key):
        for i, entry in enumerate(self.get(key, "a list", [])):
            yield Table(f"{self.where}: {key}[{i}]", entry)


def parse_json(path, data, **options):
    try:
        return json.loads(data.decode("utf-8"), **options)
    except (ValueError, RecursionError) as e:
        raise Refused(f"{path}: not valid JSON: {e}") from None


def read_file(path, optional=False):
    try:
        with open(path, "rb") as f:
            data = f.read()
    except FileNotFoundError:
        if optional:
            return None
        raise Refused(f"{path}: not found") from None
    refuse_pointer(path, data)
    return data


def read_table(path, optional=False):
    data = read_file(path, optional)
    return Table(path, {} if data is None else parse_json(path, data))


def refuse_pointer(path, data):
    if bytes(data[:40]).startswith(b"version https://git-lfs"):
        raise Refused(f"{path}: a Git LFS pointer, not the file itself; fetch it with git lfs pull")


# ---- safetensors -----------------------------------------------------------------------------

def without_duplicates(pairs):
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(n for n in names if names.count(n) > 1)}")
    return out


def weight_files(folder):
    """model.safetensors, else what the index names, else every *.safetensors."""
    if os.path.exists(os.path.join(folder, "model.safetensors")):
        return ["model.safetensors"]
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        files = read_table(index).table("weight_map")
        names = sorted({os.path.basename(files.need(t, "a string")) for t in files.data})
    else:
        names = sorted(n for n in os.listdir(folder) if n.endswith(".safetensors"))
    if not names:
        raise Refused(f"{folder}: no *.safetensors file")
    return names


class Safetensors:
    """All tensors of a folder's weight files: name -> (GGUF type, shape, memoryview)."""

    def __init__(self, folder):
        self.folder, self.tensors, self.used = folder, {}, set()
        for name in weight_files(folder):
            self.read(os.path.join(folder, name))

    def read(self, path):
        try:
            with open(path, "rb") as f:
                empty = os.fstat(f.fileno()).st_size == 0
                data = b"" if empty else mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise Refused(f"{path}: not found") from None
        data = memoryview(data)
        refuse_pointer(path, data[:40])
        if len(data) < 8:
            raise Refused(f"{path}: truncated: {len(data)} bytes")
        (length,) = struct.unpack_from("<Q", data, 0)
        if length > len(data) - 8:
            raise Refused(f"{path}: header of {length} bytes in a file of {len(data)}")
        header = parse_json(path, bytes(data[8:8 + length]), object_pairs_hook=without_duplicates)
        self.read_entries(path, Table(path, header), data[8 + length:])

    def read_entries(self, path, header, data):
        spans = []
        for name in header.data:
            if name == "__metadata__":
                continue
            kind, shape, begin, end = self.read_entry(header.table(name), len(data))
            if name in self.tensors:
                raise Refused(f"{path}: duplicate tensor {name}")
            self.tensors[name] = (kind, shape, data[begin:end])
            if end > begin:
                spans.append((begin, end, name))
        spans.sort()
        for (_, end, first), (begin, _, second) in zip(spans, spans[1:]):
            if begin < end:
                raise Refused(f"{path}: tensors {first} and {second} overlap")

    @staticmethod
    def read_entry(entry, size):
        dtype, shape = entry.need("dtype", "a string"), entry.need("shape", "a list")
        offsets = entry.need("data_offsets", "a list")
        if dtype not in TYPE_OF_DTYPE:
            raise Refused(f"{entry.where}: dtype {dtype} is not supported (F32, F16, BF16 are)")
        for n in shape:
            check_kind(f"{entry.where}: shape", n, "an integer")
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in offsets)
        if len(offsets) != 2 or not whole:
            raise Refused(f"{entry.where}: data_offsets: expected two integers, got "
                          f"{quote(offsets)}")
        begin, end = offsets
        kind = TYPE_OF_DTYPE[dtype]
        if not 0 <= begin <= end <= size or end - begin != math.prod(shape) * SIZE[kind]:
            raise Refused(f"{entry.where}: offsets {begin}..{end} do not fit shape {quote(shape)} "
                          f"and {size} bytes of data")
        return kind, shape, begin, end

    def get(self, name, shape):
        if name not in self.tensors:
            raise Refused(f"{self.folder}: tensor {name} is missing")
        kind, found, data = self.tensors[name]
        self.used.add(name)
        if found != list(shape):
            raise Refused(f"{self.folder}: tensor {name}: expected shape {list(shape)}, got "
                          f"{quote(found)}")
        return kind, data


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
        path = os.path.realpath(path)  # the file behind a link
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
