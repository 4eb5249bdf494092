#!/usr/bin/env python3
"""A worker that speaks docs/wire.md and misbehaves on demand.

The server starts it through VACATE_WORKER. FAKE_WORKER holds words that say
what it does wrong, separated by commas; FAKE_WORKER_LOG names a file to which
it appends one line an event ("hello", "load DIR", "task ID", ...), so that a
test can count. Without words it is a well-behaved worker whose vectors are
made from the bytes of the text.

  no-hello          says nothing at all
  exit-N            exits with status N before HELLO
  version-N         speaks version N
  garbage           sends bytes that are no frame instead of HELLO
  garbage-answer    answers the first TASK with bytes that are no frame
  short-result      answers a TASK with fewer rows than inputs
  unasked           answers a question that nobody put
  hang-load         takes a LOAD and stops reading
  hang-task         takes a TASK and stops reading
  slow-load-MS, slow-task-MS, slow-plan-MS
                    answers after that many milliseconds
  held-load, held-task, held-plan
                    answers as soon as there is a file FAKE_WORKER_GO
  die-load, die-task, die-plan
                    dies of SIGKILL when it is asked that
  die-task-once     the same, if the file FAKE_WORKER_ONCE does not exist yet
  hang-task-once    takes a TASK and stops reading, if that file does not exist
  cut-result        sends half of a RESULT and dies
  cut-result-hang   sends half of a RESULT and hangs
  trickle           sends every RESULT byte by byte
  reverse           keeps a RESULT back and sends it after the next one
  result-twice      sends every RESULT twice
  hello-twice       says HELLO again with the first RESULT
  oversized, odd-length, flagged
                    answers the first TASK with a header that is not allowed
  unknown-type      answers a TASK with a frame type that nobody knows
  other-answer      answers a TASK with LOADED
  wild-progress     sends PROGRESS beyond its total, and for a TASK
  wild-working      says WORKING for questions and models that never were
  fail-load         answers LOAD with ERROR unsupported
  lack-N            answers the first N LOADs with ERROR no_room
  fail-task         answers TASK with ERROR too_large
  fail-plan         answers PLAN with ERROR corrupt
  device-MB         plans that many MB on the device, too, and takes them as
                    fake_gpud.py sees it, with a context of 500 MiB
  plan-MB           plans that many MB for each model instead of 8 KiB
  working           says WORKING before it plans, loads and computes
  die-task-of-NAME  dies of SIGKILL over a task of the model in .../NAME
  no-exit           ignores SHUTDOWN
  memory-MB         holds that many MB for each loaded model
"""
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import time

WORKING = 0x91
HELLO, PLAN, LOAD, TASK, CANCEL, UNLOAD, MEASURE, PING, SHUTDOWN = range(1, 10)
PLANNED, LOADED, RESULT, UNLOADED, MEASURED, PONG = 0x82, 0x83, 0x84, 0x86, 0x87, 0x88
PROGRESS, ERROR = 0x90, 0xFF
DIMENSIONS = 8
PLANNED_BYTES = 8192

words = [w for w in os.environ.get("FAKE_WORKER", "").split(",") if w]


def asked(word):
    return word in words


def number(prefix, default=0):
    for word in words:
        if word.startswith(prefix + "-") and word[len(prefix) + 1:].isdigit():
            return int(word[len(prefix) + 1:])
    return default


def note(text):
    path = os.environ.get("FAKE_WORKER_LOG")
    if path:
        with open(path, "a") as log:
            log.write(text + "\n")


def string(text):
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def frame(kind, identity, payload=b""):
    payload += b"\0" * (-len(payload) % 8)
    return struct.pack("<IHHQ", len(payload), kind, 0, identity) + payload


def model(ledger_bytes):
    regions = [struct.pack("<BBQ", 1, 0, planned_bytes())]
    if device_bytes():
        regions.append(struct.pack("<BBQ", 2, 1, device_bytes()))
    plan = struct.pack("<I", len(regions)) + b"".join(regions)
    plan += struct.pack("<QQ", 4096, 0)
    return (plan + string("fake") + string("float32") + string("mean") + b"\1"
            + struct.pack("<Q6II", 1000, DIMENSIONS, 2, 2, 100, DIMENSIONS, 128, 2)
            + struct.pack("<Q6Q", ledger_bytes, 1, 2, 3, 4, 5, 6))


def options(payload):
    """What a PLAN or LOAD says beside the directory, for the log."""
    _, n = struct.unpack_from("<II", payload)
    tokens, m = struct.unpack_from("<II", payload, 8 + n)
    dtype = payload[16 + n:16 + n + m].decode()
    return (f" tokens={tokens}" if tokens else "") + (f" dtype={dtype}" if dtype else "")


def planned_bytes():
    return number("plan") << 20 or PLANNED_BYTES


def device_bytes():
    return number("device") << 20


def take_vram(models):
    """Tells fake_gpud.py, or the driver of tests, what this process has on its device."""
    folder = os.environ.get("FAKE_GPUS")
    driver = os.environ.get("FAKE_GPU_DIR")
    if driver and device_bytes():
        with open(os.path.join(driver, "lock"), "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = os.path.join(driver, "processes", str(os.getpid()))
            with open(path + ".fresh", "w") as file:
                file.write(f"running 0 0 0 {(500 << 20) + models * device_bytes()}\n")
            os.rename(path + ".fresh", path)
    if folder and device_bytes():
        device = sys.argv[sys.argv.index("--device") + 1]
        path = os.path.join(folder, f"{device}-{os.getpid()}")
        with open(path + ".new", "w") as file:
            file.write(str((500 << 20) + models * device_bytes()))
        os.rename(path + ".new", path)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def once():
    """True for the first that asks, of all workers."""
    try:
        os.close(os.open(os.environ["FAKE_WORKER_ONCE"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


# Headers that no receiver may accept.
BAD_HEADERS = {
    "oversized": struct.pack("<IHHQ", (64 << 20) + 8, RESULT, 0, 1),
    "odd-length": struct.pack("<IHHQ", 44, RESULT, 0, 1),
    "flagged": struct.pack("<IHHQ", 48, RESULT, 4, 1),
}


def sleep_ms(ms):
    if ms:
        time.sleep(ms / 1000)


def hold(what):
    while asked(f"held-{what}") and not os.path.exists(os.environ["FAKE_WORKER_GO"]):
        time.sleep(0.005)


def hang():
    while True:
        time.sleep(3600)


class Worker:
    def __init__(self, sock):
        self.sock = sock
        self.models = {}
        self.names = {}
        self.loads = 0
        self.data = b""
        self.kept = None

    def send(self, *args):
        self.sock.sendall(frame(*args))

    def error(self, identity, code, message):
        self.send(ERROR, identity, struct.pack("<I", code) + string(message) + string(""))

    def working(self, identity, which):
        if asked("working"):
            self.send(WORKING, identity, struct.pack("<I", which))

    def hello(self):
        if number("exit"):
            sys.exit(number("exit"))
        if asked("no-hello"):
            hang()
        if asked("garbage"):
            self.sock.sendall(b"\xff" * 64)
            hang()
        note("hello plan" if "--plan" in sys.argv else "hello")
        self.send(HELLO, 0, struct.pack("<II", number("version", 1), os.getpid())
                  + string("fake_worker 1") + string("cpu") + string("a worker for tests"))

    def plan(self, identity, payload):
        _, n = struct.unpack_from("<II", payload)
        note(f"plan {payload[8:8 + n].decode()}{options(payload)}")
        self.working(identity, 0)
        sleep_ms(number("slow-plan"))
        hold("plan")
        if asked("die-plan"):
            die()
        if asked("fail-plan"):
            self.error(identity, 8, "model.safetensors: the header is broken at byte 7")
            return
        self.send(PLANNED, identity, model(0))

    def load(self, identity, payload):
        number_of_model, n = struct.unpack_from("<II", payload)
        note(f"load {payload[8:8 + n].decode()}{options(payload)}")
        self.working(identity, number_of_model)
        self.send(PROGRESS, identity, struct.pack("<QQ", 100, 4096))
        sleep_ms(number("slow-load"))
        hold("load")
        if asked("hang-load"):
            hang()
        if asked("die-load"):
            die()
        if asked("fail-load"):
            self.error(identity, 3, "config.json: model_type 'fake' is not served")
            return
        self.loads += 1
        if self.loads <= number("lack"):
            self.error(identity, 5, "no 104857600 bytes for its weights; unload another model")
            return
        self.models[number_of_model] = bytearray(b"x" * (number("memory") << 20))
        self.names[number_of_model] = payload[8:8 + n].decode().rsplit("/", 1)[-1]
        take_vram(len(self.models))
        self.send(LOADED, identity, model(planned_bytes() + device_bytes()))

    def task(self, identity, payload):
        which, _, _, _, _, count = struct.unpack_from("<IBBBII", payload)
        note(f"task {identity} {count}")
        if asked("hang-task") or asked("hang-task-once") and once():
            hang()
        self.working(identity, which)
        sleep_ms(number("slow-task"))
        hold("task")
        if asked(f"die-task-of-{self.names.get(which)}"):
            die()
        if asked("die-task"):
            die()
        if asked("die-task-once") and once():
            die()
        if asked("garbage-answer"):
            self.sock.sendall(b"\xee" * 64)
            return
        if asked("unasked"):
            self.send(RESULT, 1 << 40, b"")
            return
        if asked("fail-task"):
            self.error(identity, 4, "inputs[0]: has 900 tokens where the model takes 128")
            return
        if which not in self.models:
            self.error(identity, 2, f"no model {which} here")
            return
        at, vectors, tokens = 15, b"", 0
        for _ in range(count):
            kind, n = struct.unpack_from("<BI", payload, at)
            at += 5
            if kind == 1:
                at += -(at + 16) % 4
                ids = struct.unpack_from(f"<{n}i", payload, at)
                at += 4 * n
                seed, tokens = sum(ids), tokens + n
            else:
                seed, tokens = sum(payload[at:at + n]), tokens + n
                at += n
            vectors += struct.pack(f"<{DIMENSIONS}f", *(seed + i for i in range(DIMENSIONS)))
        if asked("short-result"):
            count, vectors = count - 1, vectors[:-4 * DIMENSIONS]
        self.result(identity, struct.pack("<IIQQQQ", count, DIMENSIONS, tokens,
                                          1000, 2000, 3000) + vectors)

    def result(self, identity, payload):
        data = frame(RESULT, identity, payload)
        if asked("cut-result") or asked("cut-result-hang"):
            self.sock.sendall(data[:len(data) // 2])
            hang() if asked("cut-result-hang") else die()
        for word, header in BAD_HEADERS.items():
            if asked(word):
                self.sock.sendall(header + data)
                return
        if asked("unknown-type"):
            self.send(0x7A, identity, payload)
            return
        if asked("other-answer"):
            self.send(LOADED, identity, model(planned_bytes()))
            return
        if asked("hello-twice"):
            self.hello()
        if asked("wild-progress"):
            self.send(PROGRESS, identity, struct.pack("<QQ", 1 << 63, 1))
        if asked("wild-working"):
            self.send(WORKING, identity, struct.pack("<I", 4_000_000_000))
            self.send(WORKING, 1 << 62, struct.pack("<I", 0))
        if asked("reverse") and self.kept is None:
            self.kept = data
            return
        if asked("trickle"):
            for byte in data:
                self.sock.sendall(bytes([byte]))
        else:
            self.sock.sendall(data)
        if asked("result-twice"):
            self.sock.sendall(data)
        if self.kept:
            self.sock.sendall(self.kept)
            self.kept = None

    def handle(self, kind, identity, payload):
        if kind == PLAN:
            self.plan(identity, payload)
        elif kind == LOAD:
            self.load(identity, payload)
        elif kind == TASK:
            self.task(identity, payload)
        elif kind == CANCEL:
            note(f"cancel {identity}")
        elif kind == UNLOAD:
            which, = struct.unpack_from("<I", payload)
            note("unload")
            del self.models[which]
            take_vram(len(self.models))
            self.send(UNLOADED, identity,
                      struct.pack("<QQI", planned_bytes() + device_bytes(), device_bytes(),
                                  len(self.models)))
        elif kind == PING:
            note("ping")
            self.send(PONG, identity)
        elif kind == SHUTDOWN:
            note("shutdown")
            if not asked("no-exit"):
                sys.exit(0)
        else:
            self.error(identity, 3, f"type {kind} is not known")

    def run(self):
        self.hello()
        while True:
            select.select([self.sock], [], [])
            chunk = self.sock.recv(1 << 20)
            if not chunk:
                return
            self.data += chunk
            while len(self.data) >= 16:
                length, kind, _, identity = struct.unpack_from("<IHHQ", self.data)
                if len(self.data) < 16 + length:
                    break
                payload, self.data = self.data[16:16 + length], self.data[16 + length:]
                self.handle(kind, identity, payload)


if __name__ == "__main__":
    Worker(socket.socket(fileno=3)).run()
