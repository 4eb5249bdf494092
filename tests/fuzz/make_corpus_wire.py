#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/wire: one seed a frame type, after docs/wire.md."""
import pathlib
import struct

OUT = pathlib.Path(__file__).parent / "corpus" / "wire"


def string(text):
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def close(payload):
    return payload + b"\0" * (-len(payload) % 8)


PLAN = struct.pack("<I", 2) + struct.pack("<BBQ", 1, 0, 8192) + struct.pack("<BBQ", 4, 0, 4096) + struct.pack("<QQ", 9, 7)
TASK_HEAD = struct.pack("<IBBBII", 7, 1, 0, 1, 0, 2)
TEXT = struct.pack("<B", 0) + string("hello")
IDS_AT = 16 + len(TASK_HEAD) + len(TEXT) + 5
MEMORY = struct.pack("<BBQQQ", 1, 1, 600 << 20, 700 << 20, 80 << 30)
HELD = (struct.pack("<I", 0) + string("") + string("") + string("580.159") + struct.pack("<I", 1)
        + struct.pack("<II", 42, 1000) + string("python3 x.py") + struct.pack("<BB", 1, 3)
        + struct.pack("<BQQBQ", 1, 800, 900, 1, 100) + struct.pack("<6Q", *range(6))
        + struct.pack("<I", 0) + string("") + string("")
        + struct.pack("<I", 1) + string("GPU-7") + MEMORY + MEMORY)
GAUGE = struct.pack("<BI", 1, 37)
WHO = (string("580.159") + struct.pack("<QI", 10000000, 2)
       + struct.pack("<II", 0, 0) + string("Some GPU") + string("GPU-7")
       + struct.pack("<QQQBQB", 80 << 30, 70 << 30, 9 << 30, 1, 1 << 30, 0) + GAUGE * 8
       + struct.pack("<BBQI", 1, 1, 5, 1)
       + struct.pack("<IBBBQ", 42, 1, 0, 1, 5 << 30) + GAUGE + struct.pack("<Q", 7)
       + struct.pack("<II", 1, 15) + string("") + string("") + struct.pack("<QQQBQB", 0, 0, 0, 0, 0, 0)
       + bytes(40) + struct.pack("<BBQI", 0, 0, 0, 0))
SEEDS = {
    1: struct.pack("<II", 1, 99) + string("worker") + string("cpu") + string("a line") + string("none (why)"),
    3: struct.pack("<I", 1) + string("/models/a") + struct.pack("<I", 512) + string("float32")
    + struct.pack("<BI", 1, 2) + b"\1" + string("config.json") + b"\0" + string("README.md"),
    4: TASK_HEAD + TEXT + struct.pack("<BI", 1, 2) + b"\0" * (-IDS_AT % 4) + struct.pack("<ii", 101, 102),
    6: struct.pack("<I", 3),
    11: struct.pack("<BBBII", 2, 1, 0, 10000, 0) + string("GPU-7") + struct.pack("<I", 2)
    + struct.pack("<IQIQ", 42, 256, 43, 1),
    0x83: PLAN + string("bert") + string("float32") + string("mean") + b"\1" + struct.pack("<Q7IQ6Q", 5, *range(7), 8192, *range(6)),
    0x84: struct.pack("<IIQQQQ", 1, 2, 3, 4, 5, 6) + struct.pack("<ff", 1.0, 2.0),
    0x86: struct.pack("<QI", 4096, 0),
    0x87: struct.pack("<QQI", 4096, 0, 1) + struct.pack("<IBBQ", 1, 1, 0, 4096),
    0x8c: WHO,
    0x8b: HELD,
    0x90: struct.pack("<QQ", 1, 2),
    0x91: struct.pack("<I", 3),
    0x92: struct.pack("<IB", 1, 3),
    0xFF: struct.pack("<I", 2) + string("no such model") + string(""),
}

OUT.mkdir(parents=True, exist_ok=True)
stream = b""
for kind, payload in SEEDS.items():
    payload = close(payload)
    (OUT / f"type_{kind:02x}").write_bytes(bytes([kind]) + payload)
    stream += struct.pack("<IHHQ", len(payload), kind, 0, 1) + payload
(OUT / "stream").write_bytes(b"\0" + stream)
