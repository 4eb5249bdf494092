"""vacate-gpud by itself, spoken to as docs/wire.md has it: what it answers while it parks,
what it refuses, and how it ends."""
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import harness
import pytest
from fake_gpus import PATIENCE_S
from test_hold import PARK_CALLS, SANITIZERS, comes_back

HOLD, PING, CANCEL, GPUS = 11, 8, 5, 10
HOLD_PHASE, HELD, PONG, GPUS_READ, ERROR = 0x92, 0x8b, 0x88, 0x8a, 0xff


class Gpud:
    """vacate-gpud, spoken to as docs/wire.md has it."""

    def __init__(self, gpus):
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_S)
        self.socket, self.data = ours, b""
        program = harness.find_vacate().parent / "vacate-gpud"
        begin = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", begin, str(theirs.fileno()), str(program)],
            env=gpus.environment(), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        theirs.close()
        assert self.receive()[0] == 1

    def send(self, kind, identity, payload=b""):
        payload += b"\0" * (-len(payload) % 8)
        self.socket.sendall(struct.pack("<IHHQ", len(payload), kind, 0, identity) + payload)

    def receive(self):
        while True:
            if len(self.data) >= 16:
                length, kind, _, identity = struct.unpack_from("<IHHQ", self.data)
                if len(self.data) >= 16 + length:
                    payload = self.data[16:16 + length]
                    self.data = self.data[16 + length:]
                    return kind, identity, payload
            chunk = self.socket.recv(1 << 16)
            assert chunk, self.process.stderr.read()
            self.data += chunk

    def answer(self, identity):
        """The next frame of that id that is no phase."""
        while True:
            kind, got, payload = self.receive()
            if got == identity and kind != HOLD_PHASE:
                return kind, payload

    def hold(self, identity, operation, pid, start_ticks=None):
        if start_ticks is None:
            start_ticks = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19])
        self.send(HOLD, identity, struct.pack("<BBBIIII", operation, 0, 0, 0, 0, 0, 0)
                  + struct.pack("<IIQ", 1, pid, start_ticks))

    def close(self):
        self.socket.close()
        _, err = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, err


def code_of(payload):
    return struct.unpack_from("<I", payload)[0]


def test_gpud_answers_meanwhile(gpus):
    gpus = gpus()
    target = gpus.target()
    gpud = Gpud(gpus)
    gpus.on(PARK_CALLS[1], "touch here", "wait go")
    gpud.hold(7, 2, target.pid)
    gpus.wait("here")
    gpud.send(PING, 8)
    assert gpud.answer(8)[0] == PONG
    gpud.send(GPUS, 9)
    assert gpud.answer(9)[0] == GPUS_READ
    # a signal is never the thread's that is in the driver: it would cut its call short
    masks = {int(task.name): int(re.search(r"SigBlk:\s*(\w+)", (task / "status").read_text())[1], 16)
             for task in pathlib.Path(f"/proc/{gpud.process.pid}/task").iterdir()}
    first = masks.pop(gpud.process.pid)
    asked = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    assert not first & asked
    assert any(mask & asked == asked for mask in masks.values()), masks
    gpud.hold(10, 1, target.pid)
    kind, payload = gpud.answer(10)
    assert kind == ERROR and code_of(payload) == 6          # busy
    gpud.send(CANCEL, 99)                                   # of nothing
    gpus.touch("go")
    kind, payload = gpud.answer(7)
    assert kind == HELD and code_of(payload) == 0
    gpud.hold(11, 1, target.pid)
    kind, payload = gpud.answer(11)
    assert kind == HELD and code_of(payload) == 0
    gpud.hold(12, 3, target.pid)
    assert code_of(gpud.answer(12)[1]) == 0
    assert gpus.state(target.pid) == "running"
    gpud.close()


def test_gpud_knows_who_is_meant(gpus):
    gpus = gpus()
    target = gpus.target()
    gpud = Gpud(gpus)
    for operation in (1, 2, 3):
        gpud.hold(operation, operation, target.pid, start_ticks=1)
        kind, payload = gpud.answer(operation)
        assert kind == HELD
        assert code_of(payload) == (0 if operation == 1 else 2)
        assert b"another one has its number" in payload
    assert gpus.state(target.pid) == "running"
    gpud.close()


def test_gpud_refuses_nonsense(gpus):
    gpus = gpus()
    gpud = Gpud(gpus)
    for identity, payload in enumerate([b"", b"\4" + b"\0" * 31, b"\2" * 64], 1):
        gpud.send(HOLD, identity, payload)
        kind, answer = gpud.answer(identity)
        assert kind == ERROR and code_of(answer) == 1
    gpud.send(PING, 50)
    assert gpud.answer(50)[0] == PONG
    gpud.close()


def test_gpud_is_told_to_end(gpus):
    gpus = gpus()
    target = gpus.target()
    gpud = Gpud(gpus)
    gpus.on(PARK_CALLS[1], "touch here", "wait go")
    gpud.hold(7, 2, target.pid)
    gpus.wait("here")
    gpud.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert gpud.process.poll() is None
    gpus.touch("go")
    assert gpud.process.wait(PATIENCE_S) == 0
    assert gpus.state(target.pid) in ("running", "parked")
    gpud.close()
    comes_back(gpus, target)


@pytest.mark.parametrize("call", PARK_CALLS)
def test_the_stream_breaks(gpus, call):
    """What vacate-gpud is asked is no frame: it ends, but not in the middle of a HOLD."""
    gpus = gpus()
    target = gpus.target()
    gpus.on(call, "touch here", "wait go")
    gpud = Gpud(gpus)
    gpud.hold(1, 2, target.pid)
    gpus.wait("here")
    # no frame: its length is none of eights
    gpud.socket.sendall(struct.pack("<IHHQ", 44, HOLD, 0, 2) + b"\xff" * 44)
    time.sleep(0.3)
    assert gpud.process.poll() is None
    gpus.touch("go")
    assert gpud.process.wait(PATIENCE_S) == 1
    said = gpud.process.stderr.read()
    for word in SANITIZERS:
        assert word not in said, said
    # it stops where the process is as it was, or parked altogether
    assert gpus.state(target.pid) == ("running" if call == PARK_CALLS[0] else "parked")
    comes_back(gpus, target)
    gpud.socket.close()
