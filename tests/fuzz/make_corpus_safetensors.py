#!/usr/bin/env python3
"""Writes corpus/safetensors: small headers and indexes, good ones and one of each kind of bad."""
import json
import pathlib
import struct

OUT = pathlib.Path(__file__).parent / "corpus" / "safetensors"
GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
    "": {"dtype": "I64", "shape": [0, 9], "data_offsets": [26, 26]},
}


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def head(name, text, behind, length=None):
    if not isinstance(text, str):
        text = json.dumps(text)
    data = text.encode()
    length = len(data) if length is None else length
    (OUT / name).write_bytes(b"\0" + struct.pack("<IQ", behind, length) + data)


def index(name, text):
    (OUT / name).write_bytes(b"\1" + (text if isinstance(text, str) else json.dumps(text)).encode())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    head("good", GOOD, 26)
    head("padded", json.dumps(GOOD) + " " * 7, 26)
    head("metadata", {"__metadata__": {"format": "pt", "k\n": "\u00e9"}, **GOOD}, 26)
    head("empty", {}, 0)
    head("cut", GOOD, 25)
    head("trailing", GOOD, 27)
    head("length_huge", GOOD, 26, 2**64 - 8)
    head("length_large", GOOD, 26, 100_000_001)
    head("length_short", GOOD, 26, 20)
    head("hole", {"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 3, 5)}, 5)
    head("overlap", {"a": tensor("U8", [2], 0, 2), "b": tensor("U8", [2], 1, 3)}, 3)
    head("product", {"a": tensor("F64", [2**32, 2**32], 0, 0)}, 0)
    head("wrapped", {"a": tensor("F32", [2**62 + 1], 0, 4)}, 4)
    head("dims", {"a": tensor("U8", [1] * 9, 0, 1)}, 1)
    head("twice", '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
         '"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0)
    head("member_twice", '{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0)
    head("dtype", {"a": tensor("F4", [2], 0, 1)}, 1)
    index("index", {"metadata": {"total_size": 8},
                    "weight_map": {"a": "one.safetensors", "b": "two.safetensors",
                                   "c": "one.safetensors"}})
    index("index_twice", '{"weight_map":{"a":"one","a":"one"}}')
    index("index_path", {"weight_map": {"a": "../one"}})
    index("index_empty", {"weight_map": {}})


main()
