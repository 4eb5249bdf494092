"""held.py - processes to be parked, for parts of tests/gpu/run: hold_target.py under names
of their own, `vacate` beside them, and what NVML's samples of use look like.

NVML shows the processes of all GPUs to everybody, and what runs beside these parts, on
another GPU too, is to be left alone: each target's command begins with a letter that no other's
does, and OTHERS is the pattern of all that do not.
"""
import contextlib
import ctypes
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

from shared import DRY, HERE, WORK, Skip, expect, find
from stream import UUID

GIB, MIB = 1 << 30, 1 << 20
TARGET = os.environ.get("VACATE_GPU_TARGET") or str(HERE / "hold_target.py")
OTHERS = "[!G]*"
PATIENCE_S = 60


def wait_for(what, why, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain: {why}")
        time.sleep(0.01)


def about(pid):
    """(state, parent's pid); None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return state, int(parent)


def alive(pid):
    found = about(pid)
    return found is not None and found[0] not in "ZX"


def children_of(pid):
    found = [(int(entry), about(entry)) for entry in os.listdir("/proc") if entry.isdigit()]
    return [child for child, what in found if what and what[1] == pid and what[0] not in "ZX"]


class Held:
    """hold_target.py, with a name (G...) instead of the interpreter's."""

    def __init__(self, name, *arguments):
        self.name, self.lines = name, queue.Queue()
        # by that name Python does not find its own library
        env = {**os.environ, "PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}
        self.process = subprocess.Popen([name, TARGET, *map(str, arguments)], env=env,
                                        executable=sys.executable, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        threading.Thread(target=self.read, daemon=True).start()
        self.wait("ready")

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip().partition(" ")[::2])
        self.lines.put(("end", ""))

    def wait(self, word):
        try:
            got, rest = self.lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            got, rest = "nothing", ""
        if got != word:
            raise RuntimeError(f"{self.name} ({self.pid}) said {got!r} where {word!r} was due")
        return rest

    def digest(self):
        self.process.stdin.write("digest\n")
        self.process.stdin.flush()
        return self.wait("digest")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Session:
    """A folder of its own for records and journals, targets, and what is to be ended."""

    def __init__(self, name):
        self.folder, self.started = WORK / name, []
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "records").mkdir(parents=True, mode=0o700)
        self.env = {"VACATE_HOLD_DIR": str(self.folder / "records"), "VACATE_CONFIG": "none",
                    "VACATE_SERVER": ""}

    def target(self, name, *arguments):
        self.started.append(Held(name, *arguments))
        return self.started[-1]

    def vacate(self, *arguments):
        return subprocess.run([find("vacate"), *map(str, arguments)], capture_output=True,
                              text=True, timeout=120, env={**os.environ, **self.env})

    def shown(self, pid):
        """(the row, the object) that `vacate ps` has for it; None where there is none."""
        text, document = self.vacate("ps").stdout, self.vacate("ps", "--json").stdout
        row = next((line for line in text.splitlines() if line.split()[:1] == [str(pid)]), None)
        process = next((p for p in json.loads(document)["processes"] if p["pid"] == pid), None)
        return row, process

    def comes_back(self, target, digest, what):
        done = self.vacate("resume", target.pid)
        if expect(done.returncode == 0, f"{what}: it does not come back: {done.stderr}"):
            expect(target.digest() == digest, f"{what}: what it holds differs")

    def end(self):
        for one in self.started:
            one.end()


@contextlib.contextmanager
def session(name):
    if DRY:
        raise Skip("nothing to park on the CPU")
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as problem:
        raise Skip(f"no NVML here ({problem})") from None
    made = Session(name)
    try:
        yield made
    finally:
        made.end()


class Guard:
    """`vacate guard` that leaves OTHERS alone; its journal and its log."""

    def __init__(self, held, *options, exclude=OTHERS, wrapper=()):
        held.started.append(self)
        self.path = held.folder / f"journal-{len(held.started)}"
        self.log = open(held.folder / f"guard-{len(held.started)}.log", "w+")
        self.since = time.monotonic()
        self.process = subprocess.Popen(
            [*wrapper, find("vacate"), "guard", "--journal", self.path, "--exclude", exclude,
             *map(str, options)], env={**os.environ, **held.env}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.log)
        self.pid = self.process.pid

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def lines(self):
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def events(self):
        return [(line["event"], line["pid"]) for line in self.lines()]

    def wait(self, event, pid, count=1, seconds=PATIENCE_S):
        """(its line, seconds since the start) of the count-th such event."""
        wait_for(lambda: self.events().count((event, pid)) >= count
                 or self.process.poll() is not None, f"{event} {pid}: {self.said()}", seconds)
        at = time.monotonic() - self.since
        found = [line for line in self.lines() if (line["event"], line["pid"]) == (event, pid)]
        if len(found) < count:
            raise RuntimeError(f"the guard ended: {self.said()}")
        return found[count - 1], at

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


# --- NVML's samples of use ----------------------------------------------------------

class Sample(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("at_us", ctypes.c_ulonglong)] + \
               [(name, ctypes.c_uint) for name in ("sm", "memory", "encoder", "decoder")]


class Samples:
    """NVML asked by ourselves, as src/driver/survey.c does: for all that it has."""

    def __init__(self):
        self.nvml, self.device = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p()
        self.nvml.nvmlInit_v2()
        if UUID:
            self.nvml.nvmlDeviceGetHandleByUUID(UUID.encode(), ctypes.byref(self.device))
        else:
            self.nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self.device))

    def read(self):
        """(NVML's result, samples by time)"""
        count, ask = ctypes.c_uint(0), self.nvml.nvmlDeviceGetProcessUtilization
        result = ask(self.device, None, ctypes.byref(count), ctypes.c_ulonglong(0))
        if result not in (0, 7) or count.value == 0:
            return result, []
        found = (Sample * count.value)()
        result = ask(self.device, found, ctypes.byref(count), ctypes.c_ulonglong(0))
        rows = [(s.at_us, s.pid, s.sm) for s in found[:count.value] if s.at_us]
        return result, sorted(rows)

    def line(self, names):
        """What there is, in words; names: of pids."""
        now, (result, rows) = time.time(), self.read()
        if not rows:
            return f"no samples (NVML's result {result})"
        times = sorted({at for at, _, _ in rows})
        gaps = [(b - a) / 1e6 for a, b in zip(times, times[1:])] or [0]
        parts = []
        for pid in sorted({pid for _, pid, _ in rows}):
            own = [(at, sm) for at, p, sm in rows if p == pid]
            used = [at for at, sm in own if sm]
            parts.append(f"{names.get(pid, f'process {pid}')} {len(own)}, of use {len(used)}"
                         + (f" (the last {now - used[-1] / 1e6:.1f} s ago)" if used else ""))
        return (f"{len(rows)} samples, the oldest {now - times[0] / 1e6:.1f} s ago, the newest "
                f"{now - times[-1] / 1e6:.1f}, between two times {min(gaps):.2f} to {max(gaps):.2f} s; "
                + "; ".join(parts))

    def close(self):
        self.nvml.nvmlShutdown()
