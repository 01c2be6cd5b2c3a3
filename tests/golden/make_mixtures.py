#!/usr/bin/env python3
"""make_mixtures.py LIBRARIES FOLDER: the types that llama.cpp's llama_model_quantize gives to the
tensors of models as q4_k_m: for each kind of tensor and type the layers. tests/test_convert.c
expects them. LIBRARIES is a folder with libllama.so, such as node-llama-cpp's
node_modules/@node-llama-cpp/linux-x64/bins/linux-x64."""
import collections
import ctypes
import os
import sys

import make_models

MODELS = [("llama", 256, 4), ("llama", 256, 8), ("llama", 256, 22), ("llama", 256, 32),
          ("llama", 96, 8), ("llama", 32, 80), ("qwen2", 32, 80), ("smollm3", 32, 80)]
Q4_K_M = 15


class QuantizeParams(ctypes.Structure):
    """The first fields of llama_model_quantize_params, and space for the others."""
    _fields_ = [("n_threads", ctypes.c_int32), ("ftype", ctypes.c_int32),
                ("others", ctypes.c_char * 248)]


class ReadParams(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p)]


def load(folder, name):
    names = sorted(n for n in os.listdir(folder) if n.startswith(name + "."))
    return ctypes.CDLL(os.path.join(folder, names[0]), mode=ctypes.RTLD_GLOBAL)


def types_of(base, path):
    """name, type of each tensor"""
    file = ctypes.c_void_p(base.gguf_init_from_file(path.encode(), ReadParams(True, None)))
    for i in range(base.gguf_get_n_tensors(file)):
        kind = base.gguf_get_tensor_type(file, ctypes.c_int64(i))
        name = base.gguf_get_tensor_name(file, ctypes.c_int64(i))
        yield name.decode(), base.ggml_type_name(kind).decode()


def main():
    base = load(sys.argv[1], "libggml-base")
    load(sys.argv[1], "libggml")
    llama = load(sys.argv[1], "libllama")
    base.gguf_init_from_file.restype = ctypes.c_void_p
    base.gguf_init_from_file.argtypes = [ctypes.c_char_p, ReadParams]
    base.gguf_get_n_tensors.restype = ctypes.c_int64
    base.gguf_get_tensor_name.restype = base.ggml_type_name.restype = ctypes.c_char_p
    llama.llama_model_quantize_default_params.restype = QuantizeParams
    llama.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p,
                                           ctypes.POINTER(QuantizeParams)]
    make_models.matrix_data = lambda kind, n, *_: bytes(4 * n)  # their values are of no matter
    for arch, dim, layers in MODELS:
        paths = [os.path.join(sys.argv[2], name) for name in ("f32.gguf", "q4_k_m.gguf")]
        shape = make_models.Shape(dim, 32, 256)
        make_models.write(paths[0], arch, shape, 1, {}, layers=layers)
        params = llama.llama_model_quantize_default_params()
        params.ftype = Q4_K_M
        if llama.llama_model_quantize(*(p.encode() for p in paths), ctypes.byref(params)):
            sys.exit(f"{arch}, dim {dim}, {layers} layers: not quantised")
        found = collections.defaultdict(list)
        for name, kind in types_of(base, paths[1]):
            words = name.split(".")
            if words[0] == "blk":
                found[words[2], kind].append(words[1])
            else:
                found[words[0], kind].append("")
        for (name, kind), where in found.items():
            if kind != "f32":
                print(arch, dim, layers, name, kind, *where)


main()
