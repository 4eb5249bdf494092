"""hold_shared.py - what the parts of tests/gpu/hold share: what NVML says, targets, commands."""
import contextlib
import ctypes
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

from stream import UUID

HERE = pathlib.Path(__file__).resolve().parent
GIB, MIB = 1 << 30, 1 << 20
CYCLES = int(os.environ.get("VACATE_GPU_CYCLES", "50"))
PART_S = float(os.environ.get("VACATE_GPU_PART_S", "450"))
TARGET = os.environ.get("VACATE_GPU_TARGET") or str(HERE / "hold_target.py")
KERNEL = os.environ.get("VACATE_GPU_KERNEL") or str(HERE / "hold_kernel.py")
PROMISED_MS = 20          # our cost over the driver's, parking and resuming together
CALLS = ["cuCheckpointProcessLock", "cuCheckpointProcessCheckpoint",
         "cuCheckpointProcessRestore", "cuCheckpointProcessUnlock"]
work = pathlib.Path(tempfile.mkdtemp(prefix="vacate-hold-"))
failures, targets = [], []
began = time.monotonic()


def expect(good, what):
    if not good:
        failures.append(what)
        print(f"FAILED: {what}", flush=True)
    return good


def find(*names):
    roots = [os.environ.get("VACATE_BUILD"), HERE.parent.parent, HERE.parent.parent / "build"]
    for root in filter(None, roots):
        for name in names:
            path = pathlib.Path(root) / name
            if path.is_file():
                return path
    sys.exit(f"{names[0]} was not found; scripts/carry.sh builds it")


def skip(why):
    print(f"skipped: {why}", flush=True)
    sys.exit(77)


# --- what NVML says ---------------------------------------------------------------

class Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class Process(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong),
                ("gpu_instance", ctypes.c_uint), ("compute_instance", ctypes.c_uint)]


class Nvml:
    """One GPU, asked by ourselves: what vacate prints is compared with it."""

    def __init__(self, index=None):
        """By its number; None: the one that is meant (stream.py)."""
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
            if self.library.nvmlInit_v2() != 0:
                raise OSError("its start failed")
        except OSError as problem:
            skip(f"no NVML here ({problem})")
        self.device = ctypes.c_void_p()
        if (self.library.nvmlDeviceGetHandleByUUID(UUID.encode(), ctypes.byref(self.device))
                if UUID and index is None else
                self.library.nvmlDeviceGetHandleByIndex_v2(index or 0, ctypes.byref(self.device))):
            skip(f"no GPU {index or ''} here".replace("  ", " "))

    def count(self):
        count = ctypes.c_uint()
        self.library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return count.value

    def text(self, function, *before):
        buffer = ctypes.create_string_buffer(96)
        getattr(self.library, function)(*before, buffer, 96)
        return buffer.value.decode()

    def uuid(self):
        return self.text("nvmlDeviceGetUUID", self.device)

    def memory(self):
        memory = Memory()
        self.library.nvmlDeviceGetMemoryInfo(self.device, ctypes.byref(memory))
        return memory

    def listed(self):
        """pid -> bytes; None: NVML does not say."""
        count, found = ctypes.c_uint(64), (Process * 64)()
        rc = self.library.nvmlDeviceGetComputeRunningProcesses_v3(
            self.device, ctypes.byref(count), found)
        return None if rc else {found[i].pid: found[i].used for i in range(count.value)}


# --- processes ------------------------------------------------------------------

class Target:
    """hold_target.py of a kind."""

    def __init__(self, *arguments, patience_s=180, **environment):
        self.patience_s, self.lines, self.at = patience_s, queue.Queue(), 0
        self.process = subprocess.Popen(
            [sys.executable, TARGET, *map(str, arguments)], env={**os.environ, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        targets.append(self)
        self.pid = self.process.pid
        threading.Thread(target=self.read, daemon=True).start()
        self.wait("ready")

    def read(self):
        for line in self.process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "at" and rest.isdigit():
                self.at = int(rest) + 1
            elif word == "at":
                self.lines.put((line.strip(), ""))       # it is due nowhere
            else:
                self.lines.put((word, rest))
        self.lines.put(("end", ""))

    def wait(self, word):
        got, rest = self.lines.get(timeout=self.patience_s)
        if got != word:
            raise RuntimeError(f"target {self.pid} said {got!r} where {word!r} was due")
        return rest

    def unasked(self):
        """What it said that nobody has waited for; "": nothing."""
        return self.lines.queue[0][0] if not self.lines.empty() else ""

    def send(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def digest(self):
        self.send("digest")
        return self.wait("digest")

    def rss(self):
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def environment(**more):
    return {**os.environ, "VACATE_HOLD_DIR": str(work / "records"), "VACATE_CONFIG": "none",
            **more}


def start(*arguments, env=None, **keywords):
    return subprocess.Popen([find("vacate"), *map(str, arguments)], env=env or environment(),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **keywords)


def children_of(pid):
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat") as file:
                if entry.isdigit() and int(file.read().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry))
        except OSError:
            continue
    return found


def vacate(*arguments, timeout=170, **keywords):
    """(exit status, what it said on standard error, its JSON or None, wall ms)."""
    late, process = threading.Event(), None

    def end():
        late.set()
        # and its vacate-gpud, which has the pipes, too
        for pid in [process.pid, *children_of(process.pid)] if process else []:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    # Not by communicate(timeout), which looks for the end at growing intervals.
    watchdog = threading.Timer(timeout, end)
    watchdog.start()
    since = time.monotonic()
    process = start(*arguments, "--json", **keywords)
    out, err = process.communicate()
    wall_ms = (time.monotonic() - since) * 1000
    watchdog.cancel()
    if late.is_set():
        err += f" (not done after {timeout} s)"
    said = json.loads(out) if out.strip().startswith("{") else None
    return process.returncode, err.strip(), said, wall_ms


def moved(command, target, *options, **keywords):
    """Parks or resumes it, which must succeed: its receipt, with our wall time."""
    status, err, said, wall_ms = vacate(command, target.pid, *options, **keywords)
    if status != 0:
        raise RuntimeError(f"vacate {command} {target.pid}: exit {status}: {err}")
    receipt = said["receipts"][0]
    receipt["wall_ms"] = wall_ms
    return receipt


def gone(nvml, target, before_used, what):
    listed = nvml.listed()
    expect(listed is None or target.pid not in listed, f"{what}: NVML lists it")
    used = nvml.memory().used
    # what the driver keeps while anybody has it open
    expect(used <= before_used + 8 * MIB, f"{what}: {used / MIB:.0f} MiB used, "
                                           f"{before_used / MIB:.0f} before it came")


# --- what is said of it -----------------------------------------------------------

def spread(values):
    values = sorted(values)
    return f"{values[0]:10.1f} {values[len(values) // 2]:10.1f} {values[-1]:10.1f}"


def middle(values):
    return sorted(values)[len(values) // 2]


def calls_ms(receipt):
    return sum(receipt[f"{step}_ms"] for step in ("lock", "checkpoint", "restore", "unlock"))


def beside(parked, resumed):
    """What the row of the issue asks for: all but the driver's four calls, with one cuInit.
    Each command starts the driver: the second time it is not counted as ours."""
    both = parked["wall_ms"] + resumed["wall_ms"]
    return both - calls_ms(parked) - calls_ms(resumed) - start_ms(resumed)


def start_ms(receipt):
    """Of cuInit."""
    return receipt["driver_ms"] - calls_ms(receipt)


def wait_for(what, seconds=60, every=0.005):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise RuntimeError("waited in vain")
        time.sleep(every)


def table(name, outcome):
    print(f"  {name:<46} {outcome}", flush=True)


def why(err):
    """The first line that is not what is said before parking."""
    lines = [line for line in err.strip().splitlines()
             if "resumed later" not in line and "(docs/hold.md)" not in line]
    return lines[0].partition(": ")[2] or lines[0] if lines else "(nothing said)"


def last_line(text):
    return (text.strip().splitlines() or ["(nothing)"])[-1]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
