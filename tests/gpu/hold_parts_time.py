"""hold_parts_time.py - parts of tests/gpu/hold: cycles and cost."""
import json
import subprocess
import sys
import time

from hold_shared import (CYCLES, HERE, MIB, PART_S, PROMISED_MS, Target, alive, began, beside,
                         calls_ms, environment, expect, find, gone, last_line, middle, moved,
                         spread, start_ms, wait_for, work)


class Library:
    """vacate_park and vacate_resume of libvacate, in a process of their own; or, with "driver",
    the bare calls of it after a cuInit."""

    def __init__(self, what=None, **more):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "hold_library.py",
             what or find("lib/libvacate.so.0", "src/library/libvacate.so.0")],
            env=environment(**more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.loaded = self.process.stdout.readline() == "ready\n"

    def move(self, command, target):
        self.process.stdin.write(f"{command} {target.pid}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "it ended"}')
        if answer["error"]:
            raise RuntimeError(f"libvacate: {command} {target.pid}: {answer['error']}")
        return answer

    def there_and_back(self, target):
        """(parked, resumed)"""
        return self.move("park", target), self.move("resume", target)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def turns_by(target, cycles, what=None, **more):
    """Turns that are a process's first, and as many that are its second. None: Python cannot
    load it (a build with a sanitizer, which wants to come first)."""
    fresh, later = [], []
    for _ in range(cycles):
        library = Library(what, **more)
        if not library.loaded:
            library.end()
            return None, None
        fresh.append(library.there_and_back(target))
        later.append(library.there_and_back(target))
        library.end()
    return fresh, later


def ours(turns):
    """ms of each that are not the driver's four calls."""
    return [parked["beside_ms"] + resumed["beside_ms"] for parked, resumed in turns]


def by_library(target, cycles):
    """ms beside the driver a cycle, with one cuInit, and of cycles without."""
    fresh, later = turns_by(target, cycles)
    return (ours(fresh), ours(later)) if fresh else (None, None)


def part_cycles(nvml):
    empty = nvml.memory().used
    target = Target("bert", 4)
    first, rows = target.digest(), []
    untouched = target.rss()
    moved("park", target), moved("resume", target)       # what the first one costs once
    rss = [target.rss()]
    for cycle in range(CYCLES):
        parked = moved("park", target)
        gone(nvml, target, empty, f"cycle {cycle}")
        for device in parked["devices"]:
            expect(not device["after"]["listed"], f"cycle {cycle}: the receipt says listed")
        resumed = moved("resume", target)
        expect(target.digest() == first, f"cycle {cycle}: its outputs differ")
        rss.append(target.rss())
        rows.append((parked, resumed))
        if time.monotonic() - began > PART_S:
            print(f"(time is up after {cycle + 1} of {CYCLES} cycles)")
            break
    fresh, later = by_library(target, 2)
    costs = [beside(p, r) for p, r in rows]
    inside = [p["total_ms"] + r["total_ms"] - p["driver_ms"] - r["driver_ms"] for p, r in rows]
    drift = (rss[-1] - rss[0]) / MIB
    print(f"{len(rows)} cycles, {nvml.text('nvmlDeviceGetName', nvml.device)}, driver "
          f"{nvml.text('nvmlSystemGetDriverVersion')}")
    print(f"{'ms':<44}{'least':>10} {'median':>10} {'most':>10}")
    for name, values in (
            ("park: whole command", [p["wall_ms"] for p, _ in rows]),
            ("park: the driver's two calls", [calls_ms(p) for p, _ in rows]),
            ("park: cuInit", [start_ms(p) for p, _ in rows]),
            ("resume: whole command", [r["wall_ms"] for _, r in rows]),
            ("resume: the driver's two calls", [calls_ms(r) for _, r in rows]),
            ("resume: cuInit", [start_ms(r) for _, r in rows]),
            ("both commands, beside the calls, one cuInit", costs),
            ("... without any cuInit", [o - start_ms(p) for o, (p, _) in zip(costs, rows)]),
            ("... of that by checks and records", inside),
            ("libvacate: the same, one cuInit", fresh),
            ("libvacate, the driver open", later)):
        print(f"{name:<44}{spread(values) if values else 'not to be loaded here'}")
    print(f"RSS before, after the first and the last: {untouched / MIB:.0f}, {rss[0] / MIB:.0f} "
          f"and {rss[-1] / MIB:.0f} MiB; VRAM used without it {empty / MIB:.0f} MiB")
    print(f"asked: both commands, beside the calls, with one cuInit, {PROMISED_MS} ms at most"
          + (f"; libvacate {'keeps' if middle(fresh) <= PROMISED_MS else 'does not keep'} that"
             if fresh else ""))
    expect(middle(costs) <= PROMISED_MS,
           f"the commands' cost is {middle(costs):.1f} ms, {PROMISED_MS} promised")
    expect(abs(drift) <= 16, f"its RSS drifted by {drift:.1f} MiB")
    expect(target.digest() == first, "its outputs differ at the end")


# --- cost ----------------------------------------------------------------------------

STAGES = ["command's start", "gpud's start", "question", "NVML's start: load",
          "... nvmlInit, on a thread", "... devices, on that", "... waited for", "dlopen libcuda",
          "cuInit, on a thread", "... waited for", "checks", "readings", "records",
          "the driver's calls", "answer", "printing", "gpud's end", "command's end", "whole",
          "(gpud gone, after the command)"]
# When cuInit is called (VACATE_CUDA_INIT); the first is how it was at first.
CHOICES = ["before", "early", "late", "never"]


def overlap(spans):
    """ns that any of them covers."""
    whole, reached = 0, 0
    for since, to in sorted(spans):
        whole += max(0, to - max(since, reached))
        reached = max(reached, to)
    return whole


def stages_of(path, since_ns, end_ns):
    """ms by stage, of the lines that vacate and vacate-gpud wrote (src/base/stage.h)."""
    spans, gpud = {}, 0
    for line in path.read_text().splitlines():
        pid, name, since, to = line.split()
        gpud = int(pid) if name == "gpud-main" else gpud
        spans.setdefault(name, []).append((int(since), int(to)))
    wait_for(lambda: not alive(gpud), 60, 0.0002)
    gone_ns = max(end_ns, time.monotonic_ns())

    def took(*names):
        return sum(to - since for name in names for since, to in spans.get(name, []))

    def one(name):
        if name not in spans:
            raise RuntimeError(f"no stage {name} in {sorted(spans)}")
        return spans[name][0]

    inside = [span for name in ("hold-start", "nvml-wait", "cuda-wait", "reading", "record", "call")
              for span in spans.get(name, [])]
    ns = [one("command")[0] - since_ns, took("gpud-start"), one("hold")[0] - one("answer")[0],
          took("nvml-load"), took("nvml-init"), took("nvml-devices"), took("nvml-wait"),
          took("cuda-load"), took("cuda-init"), took("cuda-wait"), took("hold") - overlap(inside),
          took("reading"), took("record"), took("call"), one("answer")[1] - one("hold")[1],
          took("print"), took("gpud-end"), end_ns - one("command")[1], end_ns - since_ns,
          gone_ns - end_ns]
    return [value / 1e6 for value in ns]


def cost_of(target, cycles):
    """A row of stages a command."""
    rows, path = {"park": [], "resume": []}, work / "stages"
    moved("park", target), moved("resume", target)
    for _ in range(cycles):
        for command in rows:
            path.unlink(missing_ok=True)
            since = time.monotonic_ns()
            wall_ms = moved(command, target, env=environment(VACATE_STAGES=str(path)))["wall_ms"]
            rows[command].append(stages_of(path, since, since + int(wall_ms * 1e6)))
    return rows


def stages_table(name, ram_mib):
    target = Target("plain", 256, ram_mib)
    digest = target.digest()
    rows = cost_of(target, 10)
    print(f"{name + ', RSS ' + str(target.rss() >> 20) + ' MiB':<44}{'park':>18}{'resume':>18}")
    for i, stage in enumerate(STAGES):
        print(f"  {stage:<42}" + "".join(
            f"{middle([row[i] for row in rows[command]]):>9.1f} "
            f"({max(row[i] for row in rows[command]):.1f})".rjust(18) for command in rows))
    expect(target.digest() == digest, f"{name}: what it holds differs")
    target.end()


def walls(turns):
    return [middle([turn[i]["wall_ms"] for turn in turns]) for i in (0, 1)]


def choices_table():
    """The same turns with cuInit at different times, one after the other so that what changes
    meanwhile changes for all."""
    target = Target("plain", 256)
    digest = target.digest()
    commands = {choice: [] for choice in CHOICES}
    for _ in range(5):
        for choice, rows in commands.items():
            env = environment(VACATE_CUDA_INIT=choice)
            rows.append((moved("park", target, env=env), moved("resume", target, env=env)))
    print(f"{'cuInit':<12}{'park':>9}{'resume':>9}{'both':>9}{'calls':>9}   the commands' wall time")
    for choice, rows in commands.items():
        park, resume = walls(rows)
        calls = middle([calls_ms(parked) + calls_ms(resumed) for parked, resumed in rows])
        print(f"  {choice:<10}{park:>9.1f}{resume:>9.1f}{park + resume:>9.1f}{calls:>9.1f}")
    bare, again = turns_by(target, 3, "driver")
    bare_ms = {}
    print(f"{'':<12}{'park':>9}{'resume':>9}{'both':>9}{'ours':>9}   in a process of its own")
    for name, turns in (("bare driver", bare), ("... again", again)):
        park, resume = walls(turns)
        bare_ms[name] = park + resume
        print(f"  {name:<12}{park:>7.1f}{resume:>9.1f}{park + resume:>9.1f}{'':>9}   cuInit, not "
              f"counted: {middle([parked['init_ms'] for parked, _ in turns]):.1f}")
    for choice in CHOICES:
        fresh, later = turns_by(target, 3, VACATE_CUDA_INIT=choice)
        for name, turns in ((choice, fresh), ("... again", later)) if fresh else ():
            park, resume = walls(turns)
            print(f"  {name:<12}{park:>7.1f}{resume:>9.1f}{park + resume:>9.1f}"
                  f"{middle(ours(turns)):>9.1f}   libvacate; {park + resume - bare_ms['... again']:+.1f} "
                  f"beside the bare driver's second turn")
    expect(target.digest() == digest, "cuInit: what it holds differs")
    target.end()


# Arguments: the flags of each nvmlInitWithFlags before the nvmlInit_v2 that counts.
NVML_CODE = """
import ctypes, sys, time
def took(fn, *arguments):
    since = time.monotonic()
    result = fn(*arguments)
    row.append((time.monotonic() - since) * 1e3)
    return result
row, count = [], ctypes.c_uint()
library = took(ctypes.CDLL, "libnvidia-ml.so.1")
for flags in sys.argv[1:]:
    library.nvmlInitWithFlags(int(flags))
took(library.nvmlInit_v2)
library.nvmlDeviceGetCount_v2(ctypes.byref(count))
device = ctypes.c_void_p()
for _ in range(2):
    took(library.nvmlDeviceGetHandleByIndex_v2, 0, ctypes.byref(device))
took(library.nvmlDeviceGetHandleByIndex_v2, count.value - 1, ctypes.byref(device))
library.nvmlShutdown()
took(library.nvmlInit_v2)
took(library.nvmlDeviceGetHandleByIndex_v2, 0, ctypes.byref(device))
took(library.nvmlShutdown)
print(*row)
"""


def nvml_table():
    """What NVML's start is made of, in processes that do nothing else."""
    names = ("load", "init", "device 0", "again", "last one", "init 2", "device 0", "shutdown")
    print(f"{'NVML alone':<20}" + "".join(f"{name:>10}" for name in names))
    for name, arguments in (("", []), ("after NO_ATTACH", ["2"])):
        rows = []
        for _ in range(4):
            done = subprocess.run([sys.executable, "-c", NVML_CODE, *arguments],
                                  capture_output=True, text=True)
            if done.returncode != 0:
                print(f"  {name}: {last_line(done.stderr)}")
                return
            rows.append([float(word) for word in done.stdout.split()])
        print(f"  {name or 'nvmlInit_v2':<18}" + "".join(f"{middle(column):>10.2f}"
                                                         for column in zip(*rows)))


def part_cost(nvml):
    print(f"{nvml.text('nvmlDeviceGetName', nvml.device)}, driver "
          f"{nvml.text('nvmlSystemGetDriverVersion')}; ms, medians of 10 (and the most)")
    since = time.monotonic()
    for part in (lambda: stages_table("256 MiB", 0), choices_table, nvml_table,
                 lambda: stages_table("256 MiB, 2 GiB of RAM", 2048)):
        if time.monotonic() - since > 90:
            print("(time is up)")
            break
        part()
