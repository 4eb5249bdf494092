#!/usr/bin/env python3
"""Writes tests/fuzz/corpus/channel: short lives of a worker, as the steps of
fuzz_channel.c (first byte: HELLO comes, or not; then a byte a step and what it
takes)."""
import pathlib
import struct

OUT = pathlib.Path(__file__).parent / "corpus" / "channel"

PLAN, LOAD, TASK, UNLOAD = range(4)
TYPES = [1, 0x82, 0x83, 0x84, 0x86, 0x87, 0x88, 0x90, 0x91, 0xff, 4]


def ask(which, kind):
    return bytes([0, which, kind])


def cancel(which):
    return bytes([2, which])


def frame(kind, which, payload=b""):
    payload += b"\0" * (-len(payload) % 8)
    return bytes([3, TYPES.index(kind), which, len(payload)]) + payload


def raw(data):
    return bytes([5, len(data)]) + data


def string(text):
    return struct.pack("<I", len(text)) + text.encode()


HELLO, DRAIN, STOP, END = b"\6", b"\7", b"\x08\0", b"\x09\0"
MODEL = (struct.pack("<I", 1) + struct.pack("<BBQ", 1, 0, 8192) + struct.pack("<QQ", 9, 7)
         + string("bert") + string("float32") + string("mean") + b"\1"
         + struct.pack("<Q7IQ6Q", 5, *range(7), 8192, *range(6)))
RESULT = struct.pack("<IIQQQQ", 1, 2, 3, 4, 5, 6) + struct.pack("<ff", 1.0, 2.0)
ERROR = struct.pack("<I", 2) + string("no such model") + string("")
LIVES = {
    "life": b"\1" + ask(0, PLAN) + DRAIN + frame(0x82, 0, MODEL) + ask(1, LOAD)
            + frame(0x90, 1, struct.pack("<QQ", 1, 2)) + frame(0x83, 1, MODEL) + ask(2, TASK)
            + frame(0x91, 2, struct.pack("<I", 1)) + frame(0x84, 2, RESULT) + ask(3, UNLOAD)
            + frame(0x86, 3, struct.pack("<QI", 4096, 0)) + STOP + END,
    "crossed": b"\1" + ask(0, TASK) + ask(1, TASK) + cancel(0) + frame(0x84, 1, RESULT)
               + frame(0x84, 0, RESULT) + frame(0x84, 1, RESULT) + frame(0x88, 251),
    "errors": b"\1" + ask(0, LOAD) + ask(1, TASK) + frame(0xff, 0, ERROR) + frame(0xff, 1, ERROR),
    "wrong_type": b"\1" + ask(0, TASK) + frame(0x83, 0, MODEL),
    "never_asked": b"\1" + ask(0, TASK) + frame(0x84, 255, RESULT),
    "twice": b"\1" + HELLO,
    "before_hello": b"\0" + ask(0, TASK) + frame(0x84, 0, RESULT),
    "late_hello": b"\0" + ask(0, TASK) + HELLO + frame(0x84, 0, RESULT),
    "pieces": b"\1" + ask(0, TASK) + raw(struct.pack("<IHHQ", 48, 0x84, 0, 1)[:7])
              + raw(struct.pack("<IHHQ", 48, 0x84, 0, 1)[7:]) + raw(RESULT[:5]) + raw(RESULT[5:]),
    "oversized": b"\1" + ask(0, TASK) + raw(struct.pack("<IHHQ", 0x7FFFFFF8, 0x84, 0, 1)),
    "odd_length": b"\1" + raw(struct.pack("<IHHQ", 7, 0x88, 0, 1)),
    "flags": b"\1" + raw(struct.pack("<IHHQ", 0, 0x88, 1, 1)),
    "dies": b"\1" + ask(0, TASK) + ask(1, LOAD) + END,
    "dies_with_an_answer": b"\1" + ask(0, TASK) + frame(0x84, 0, RESULT) + END,
    "stopped": b"\1" + ask(0, TASK) + STOP + frame(0x84, 0, RESULT) + cancel(0) + END,
}

OUT.mkdir(parents=True, exist_ok=True)
for name, life in LIVES.items():
    (OUT / name).write_bytes(life)
