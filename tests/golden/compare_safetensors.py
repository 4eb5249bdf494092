#!/usr/bin/env python3
"""Compares which files our safetensors reader accepts with the `safetensors` package from PyPI.

Makes small valid files, breaks each in one or several ways (at random, by a fixed seed), and
asks both readers. What the package refuses, ours must refuse. Where ours refuses more, the
reason must be one of those listed in STRICTER; anything else fails the comparison.

usage: compare_safetensors.py path/to/accept_safetensors [count] [seed]
"""
import collections
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

import safetensors

DTYPES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
          "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}

# Part of our message -> why we refuse what the package accepts.
STRICTER = {
    "__metadata__ has": "a key of __metadata__ twice: the package keeps the last one",
    "is not supported; convert": "a dtype that Vacate does not know",
    "shape has more than 8": "more than 8 dimensions",
    "63 bits": "a number of 64 bits",
    "U+0000": "a name with U+0000, which a C string cannot hold",
    "does not start with '{'": "white space before the header, which the format forbids",
    "expected an object, found an array": "a tensor as an array of its values",
    "more than 64 levels": "nesting deeper than our JSON reader goes",
}


TWICE = "a tensor's name twice: the package keeps the last one"


def has_name_twice(data):
    """Whether the header's outermost object has a name twice (our message may be about one of
    the two instead, which the package never looks at)."""
    try:
        pairs = json.JSONDecoder(object_pairs_hook=Pairs).raw_decode(data[8:].decode("utf-8", "replace"))[0]
    except ValueError:
        return False
    names = [pair[0] for pair in pairs]
    return len(set(names)) < len(names)


class Pairs(list):
    """A JSON object as a list of pairs, so that a key can be there twice."""


def dump(value):
    if isinstance(value, Pairs):
        return "{" + ",".join(json.dumps(k) + ":" + dump(v) for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(dump(v) for v in value) + "]"
    if isinstance(value, Raw):
        return value.text
    return json.dumps(value)


class Raw:
    """Text that goes into the JSON as it is."""

    def __init__(self, text):
        self.text = text


def make_valid(rng):
    """A header as Pairs and the length of its data."""
    header, at = Pairs(), 0
    if rng.random() < 0.4:
        header.append(["__metadata__", Pairs([["format", "pt"], ["k\u00e9", "v\n"]])])
    for i in range(rng.randrange(5)):
        dtype = rng.choice(list(DTYPES))
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        size = DTYPES[dtype]
        for n in shape:
            size *= n
        header.append([f"layer.{i}.weight", Pairs([
            ["dtype", dtype], ["shape", shape], ["data_offsets", [at, at + size]]])])
        at += size
    rng.shuffle(header)
    return header, at


ODD = [Raw("-0"), Raw("1.0"), Raw("1e2"), Raw("1e999"), Raw("01"), Raw("18446744073709551615"),
       Raw("18446744073709551616"), Raw("9223372036854775807"), Raw("9223372036854775808"),
       -1, 0, 1, 3, 2**32, True, None, "4", [], Pairs(), Raw("NaN"), Raw("[" * 70 + "]" * 70),
       Raw("[" * 140 + "]" * 140)]


def tensors_of(header):
    return [pair for pair in header if pair[0] != "__metadata__"
            and isinstance(pair[1], Pairs) and len(pair[1]) >= 3]


def break_header(rng, header):
    """Changes the header's meaning in one way."""
    tensors = tensors_of(header)
    kind = rng.randrange(12)
    if kind == 0 and header:
        header.append(rng.choice(header))
    elif kind == 1:
        header.append(["__metadata__", rng.choice([
            Pairs([["a", "b"]]), Pairs([["a", 1]]), Pairs([["a", "1"], ["a", "2"]]), None, [], "x",
            Pairs([["a", None]]), Pairs([["a", Pairs()]])])])
    elif kind == 2:
        header.append([rng.choice(["", "x\0y", "\u00e9", "layer.0.weight", "a\"b", "\ud7ff"]), Pairs([
            ["dtype", rng.choice(["F4", "f32", "C64", "F8_E8M0", "U8", "", "F6_E2M3"])],
            ["shape", rng.choice([[0], [2, 0], [], [1] * 9])],
            ["data_offsets", [0, 0]]])])
    elif not tensors:
        return
    else:
        fields = rng.choice(tensors)[1]
        field = rng.choice(fields)
        if kind == 3:
            fields.remove(field)
        elif kind == 4:
            fields.append(list(field))
        elif kind == 5:
            fields.append(["extra", rng.choice(ODD)])
        elif kind == 6:
            field[1] = rng.choice(ODD)
        elif kind in (7, 8, 9) and isinstance(field[1], list) and field[1]:
            i = rng.randrange(len(field[1]))
            if kind == 7 or not isinstance(field[1][i], int):
                field[1][i] = rng.choice(ODD)
            else:
                field[1][i] += rng.choice([-8, -4, -1, 1, 2, 4, 2**32, 2**62])
        elif kind == 10 and isinstance(field[1], list):
            field[1].append(rng.choice([0, 1, 2]))
        elif kind == 11:
            pair = rng.choice(tensors)
            pair[1] = [value for _, value in pair[1]]


def break_bytes(rng, text, data, length):
    """Changes the bytes of the file in one way: header text, data, length field."""
    kind = rng.randrange(9)
    if kind == 0 and text:
        at = rng.randrange(len(text))
        text = text[:at] + bytes([rng.randrange(256)]) + text[at + 1:]
    elif kind == 1 and text:
        at = rng.randrange(len(text))
        text = text[:at] + text[at + 1:]
    elif kind == 2:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice([b" ", b",", b"}", b"\xff", b"\0", b"\xc3\xa9", b"\\u0000",
                                       b"\\ud800", b"\t", b"\xef\xbb\xbf"]) + text[at:]
    elif kind == 3:
        data = data[:rng.randrange(len(data) + 1)]
    elif kind == 4:
        data += bytes(rng.randrange(1, 9))
    elif kind == 5:
        text = rng.choice([b" ", b"\n", b"\0"]) * rng.randrange(1, 3) + text
    elif kind == 6:
        text += rng.choice([b" ", b"\n", b"\0", b"x", b"\t\r"]) * rng.randrange(1, 9)
    else:
        length = rng.choice([0, 1, 2, 7, -1, 1 << 40, (1 << 64) - 8, (1 << 64) - 1, 100_000_001,
                             100_000_000])
    return text, data, length


def make_file(rng):
    header, size = make_valid(rng)
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        break_header(rng, header)
    text, data, length = dump(header).encode("utf-8", "surrogatepass"), bytes(size), None
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        text, data, length = break_bytes(rng, text, data, length)
    if length is None or length < 0:
        length = len(text) + (0 if length is None else length)
    file = struct.pack("<Q", length) + text + data
    return file[:rng.randrange(len(file))] if rng.random() < 0.05 else file


def package_accepts(path):
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return len(file.keys()), ""
    except Exception as error:  # the package has several kinds; any of them is a refusal
        return None, str(error)


def main():
    driver = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    rng = random.Random(seed)
    tally, reasons, failures = collections.Counter(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(count):
            path = pathlib.Path(folder) / f"{i}.safetensors"
            path.write_bytes(make_file(rng))
            paths.append(path)
        ours = subprocess.run([driver], input="\n".join(map(str, paths)) + "\n", text=True,
                              check=True, capture_output=True).stdout.splitlines()
        assert len(ours) == count, f"{len(ours)} answers for {count} files"
        for path, line in zip(paths, ours):
            theirs, why = package_accepts(path)
            if line.startswith("ok "):
                if theirs is None:
                    tally["accepted though the package refuses"] += 1
                    failures.append((path.read_bytes(), f"ours: {line}; package: {why}"))
                elif theirs != int(line[3:]):
                    failures.append((path.read_bytes(), f"ours: {line}; package: {theirs} tensors"))
                else:
                    tally["both accept"] += 1
            elif theirs is None:
                tally["both refuse"] += 1
            else:
                reason = next((text for part, text in STRICTER.items() if part in line), None)
                if not reason and has_name_twice(path.read_bytes()):
                    reason = TWICE
                tally["refused though the package accepts"] += 1
                if reason:
                    reasons[reason] += 1
                else:
                    failures.append((path.read_bytes(), f"ours: {line}; package accepts"))
    print(f"safetensors {safetensors.__version__}, {count} files, seed {seed}")
    for what, number in sorted(tally.items()):
        print(f"  {number:6} {what}")
    for reason, number in sorted(reasons.items()):
        print(f"         {number:6} {reason}")
    for data, why in failures[:20]:
        print(f"FAILED {data[:400]!r}\n       {why}")
    print(f"{len(failures)} differences without a reason")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
