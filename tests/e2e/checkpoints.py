"""checkpoints.py - takes safetensors files apart and puts them together
wrongly, for the tests of bad input."""
import json
import pathlib
import shutil
import struct


def copy(source, target):
    """A copy of a model's directory that a test may spoil."""
    shutil.copytree(source, target)
    return pathlib.Path(target)


def split(path):
    """(header as a dict, data bytes)."""
    raw = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    return json.loads(raw[8:8 + size]), raw[8 + size:]


def join(path, header, data):
    """Writes a file; header: a dict, or text that goes in as it is."""
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    raw = text.encode()
    raw += b" " * (-len(raw) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def without(path, name):
    """Drops one tensor and closes the gap."""
    header, data = split(path)
    start, end = header.pop(name)["data_offsets"]
    for key, value in header.items():
        if key != "__metadata__" and value["data_offsets"][0] >= end:
            value["data_offsets"] = [at - (end - start) for at in value["data_offsets"]]
    join(path, header, data[:start] + data[end:])


def edit_json(path, **members):
    """Sets members of a JSON object file."""
    path = pathlib.Path(path)
    value = json.loads(path.read_text(encoding="utf-8"))
    value.update(members)
    path.write_text(json.dumps(value), encoding="utf-8")
