#!/usr/bin/env python3
"""vacate-gpud without GPUs, as docs/wire.md has it: for tests of the server.

The server starts it through VACATE_GPUD. FAKE_GPUS is a folder. Its file "gpus" has
one line a GPU: total and used MiB, the latter of others' processes. Files
DEVICE-PID are what the worker PID holds there in bytes (fake_worker.py writes
them), as long as it lives. "events" gets a line a question. A file "error" is the
answer to all questions instead. As long as there is a file "silent" it says no hello.
"""
import os
import pathlib
import socket
import struct
import sys
import time

HELLO, PING, SHUTDOWN, GPUS, PONG, GPUS_READ, ERROR = 1, 8, 9, 10, 0x88, 0x8A, 0xFF
folder = pathlib.Path(os.environ["FAKE_GPUS"])


def string(text):
    return struct.pack("<I", len(text.encode())) + text.encode()


def frame(kind, identity, payload=b""):
    payload += b"\0" * (-len(payload) % 8)
    return struct.pack("<IHHQ", len(payload), kind, 0, identity) + payload


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def reading():
    lines = (folder / "gpus").read_text().split("\n")
    gpus = [list(map(int, line.split())) for line in lines if line]
    answer = struct.pack("<I", len(gpus))
    for number, (total, used) in enumerate(gpus):
        device = f"cuda:{number}"
        held = {}
        for file in folder.glob(f"{device}-*[0-9]"):
            pid = int(file.name.rpartition("-")[2])
            if alive(pid):
                held[pid] = int(file.read_text())
        answer += string(device) + string("Fake GPU") + string(f"GPU-{number}")
        answer += struct.pack("<QQI", total << 20, (used << 20) + sum(held.values()), len(held))
        for pid, count in held.items():
            answer += struct.pack("<IBQ", pid, 1, count)
    return answer


def note(text):
    with open(folder / "events", "a") as events:
        events.write(text + "\n")


def handle(sock, kind, identity):
    if kind == GPUS and (folder / "error").exists():
        note("error")
        message = (folder / "error").read_text().strip()
        sock.sendall(frame(ERROR, identity, struct.pack("<I", 2) + string(message) + string("")))
    elif kind == GPUS:
        note("read")
        sock.sendall(frame(GPUS_READ, identity, reading()))
    elif kind == PING:
        sock.sendall(frame(PONG, identity))
    elif kind == SHUTDOWN:
        note("end")
        sys.exit(0)


def main():
    sock = socket.socket(fileno=3)
    note(f"start {os.getpid()}")
    while (folder / "silent").exists():
        time.sleep(0.05)
    sock.sendall(frame(HELLO, 0, struct.pack("<II", 1, os.getpid()) + string("fake_gpud 1")
                       + string("gpus") + string("no GPUs")))
    data = b""
    while chunk := sock.recv(1 << 16):
        data += chunk
        while len(data) >= 16:
            length, kind, _, identity = struct.unpack_from("<IHHQ", data)
            if len(data) < 16 + length:
                break
            data = data[16 + length:]
            handle(sock, kind, identity)


if __name__ == "__main__":
    main()
