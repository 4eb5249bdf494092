"""hold_parts_room.py - parts of tests/gpu/hold: a GPU that is shared by turns, and the copy
in RAM: huge pages and swap."""
import contextlib
import ctypes
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from hold_shared import (GIB, MIB, PART_S, Target, began, expect, gone, moved, skip, spread, table,
                         vacate)

HUGE_PAGES = os.environ.get("VACATE_GPU_HUGE_PAGES") or \
    "/sys/kernel/mm/transparent_hugepage/enabled"


def ram():
    """Bytes: MemTotal, MemAvailable."""
    with open("/proc/meminfo") as file:
        text = file.read()
    return [int(text.partition(word)[2].split()[0]) << 10
            for word in ("MemTotal:", "MemAvailable:")]


def grow_ram(wanted):
    """Some virtual machines are given RAM as they use it, and MemTotal says then what there
    was so far: uses so much once, in a process that is the first to go if there is less."""
    if ram()[1] >= wanted:
        return
    code = ("import mmap, sys\nopen('/proc/self/oom_score_adj', 'w').write('1000')\nheld = []\n"
            "for _ in range(int(sys.argv[1])):\n    held.append(mmap.mmap(-1, 1 << 30))\n"
            "    for at in range(0, 1 << 30, 4096):\n        held[-1][at] = 1\n")
    since, before = time.monotonic(), ram()[0]
    try:
        subprocess.run([sys.executable, "-c", code, str(int(wanted / GIB) + 1)], timeout=150,
                       stderr=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        pass
    print(f"RAM of the machine: {before / GIB:.0f} GiB, and {ram()[0] / GIB:.0f} once it was "
          f"used ({time.monotonic() - since:.0f} s)", flush=True)


@contextlib.contextmanager
def huge_pages(wanted):
    """As root: transparent huge pages so, and as they were in the end. What the driver keeps
    of a parked process in RAM is written and read faster in them."""
    path = pathlib.Path(HUGE_PAGES)
    try:
        before = path.read_text().partition("[")[2].partition("]")[0]
        path.write_text(wanted)
    except OSError as problem:
        print(f"transparent huge pages stay as they are: {problem}", flush=True)
        yield
        return
    print(f"transparent huge pages: {wanted} for this run, {before} before", flush=True)
    try:
        yield
    finally:
        path.write_text(before)
        print(f"transparent huge pages: {before} again", flush=True)


def share(nvml, turns):
    memory = nvml.memory()
    gib = float(os.environ.get("VACATE_GPU_SHARE_GIB", 0)) or min(45.0, memory.total * 0.57 / GIB)
    grow_ram(2.1 * gib * GIB)
    room = ram()[1]
    if room < 2.1 * gib * GIB:
        skip(f"two of {gib:.0f} GiB need {2.1 * gib:.0f} GiB of RAM; {room / GIB:.0f} are free")
    room_gib = gib * 80 / 45        # as 45 GiB have on 80
    if memory.free > room_gib * GIB:
        rest = int((memory.free / GIB - room_gib) * 1024)
        Target("plain", rest)
        print(f"a third process holds {rest / 1024:.1f} GiB, so that {room_gib:.1f} are left")
    empty = nvml.memory().used
    a = Target("plain", int(gib * 1024))
    digests = {a: a.digest()}
    moved("park", a)
    gone(nvml, a, empty, "the first one")
    b = Target("plain", int(gib * 1024))
    digests[b] = b.digest()
    status, err, _, _ = vacate("resume", a.pid)
    expect(status == 5 and str(b.pid) in err, f"no room: exit {status}: {err}")
    on, off, rows = b, a, []
    for turn in range(turns):
        if time.monotonic() - began > PART_S + (90 if turns > 6 else 0):
            expect(False, f"time is up after {turn} of {turns} turns")
            break
        since = time.monotonic()
        moved("park", on, "--timeout", "60s")
        gone(nvml, on, empty, f"turn {turn}")
        moved("resume", off)
        on, off = off, on
        rows.append((time.monotonic() - since) * 1000)
        expect(on.digest() == digests[on], f"turn {turn}: what it held differs")
    print(f"two processes of {gib:.1f} GiB on {memory.total / GIB:.1f} GiB: {len(rows)} turns")
    print(f"{'ms a turn':<34}{'least':>10} {'median':>10} {'most':>10}")
    print(f"{'park one, resume the other':<34}{spread(rows)}")


def part_share(nvml):
    share(nvml, 6)


def part_share20(nvml):
    with huge_pages("always"):
        share(nvml, 20)


# --- swap ------------------------------------------------------------------------------

SWAP_BYTES, COPY_MIB = 4 * GIB, 1024


def swap_header(size):
    """As mkswap writes it (union swap_header in the kernel's swap.h): one page of 4 KiB."""
    page = bytearray(4096)
    struct.pack_into("=III", page, 1024, 1, size // 4096 - 1, 0)
    page[4086:4096] = b"SWAPSPACE2"
    return bytes(page)


def make_file(path):
    """Of zeros that are really there: a swap file has no holes."""
    piece = bytes(16 * MIB)
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(swap_header(SWAP_BYTES) + piece[4096:])
        for _ in range(SWAP_BYTES // len(piece) - 1):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def swap_call(name, path, *flags):
    """"": done, else why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(os.fsencode(path), *flags) == 0:
        return ""
    return f"{name} {path}: {os.strerror(ctypes.get_errno())}"


@contextlib.contextmanager
def swap_file():
    """A swap file of 4 GiB in a folder that can have one, and none of it afterwards."""
    problems = []
    for folder in dict.fromkeys([tempfile.gettempdir(), "/var/tmp", os.getcwd()]):
        with contextlib.ExitStack() as stack:
            path = pathlib.Path(folder) / f"vacate-swap-{os.getpid()}"
            stack.callback(lambda: path.unlink(missing_ok=True))
            if shutil.disk_usage(folder).free < SWAP_BYTES + GIB:
                problems.append(f"{folder} has no room for {SWAP_BYTES // GIB} GiB")
                continue
            make_file(path)
            place = str(path)
            problem = swap_call("swapon", place, 0)
            if problem and shutil.which("losetup"):     # a filesystem of layers
                done = subprocess.run(["losetup", "--find", "--show", place],
                                      capture_output=True, text=True)
                if done.returncode == 0:
                    place = done.stdout.strip()
                    stack.callback(lambda: subprocess.run(["losetup", "--detach", place]))
                    problem = swap_call("swapon", place, 0)
            if problem:
                problems.append(problem)
                continue
            stack.callback(lambda: expect(not swap_call("swapoff", place), "swapoff failed"))
            print(f"swap of {SWAP_BYTES // GIB} GiB in {folder}", flush=True)
            yield
            return
    skip(f"no swap can be had: {'; '.join(problems)}")


def memory_of(target):
    """Bytes of RSS and of swap, as /proc has them."""
    text = pathlib.Path(f"/proc/{target.pid}/status").read_text()
    return [int(text.partition(word)[2].split()[0]) << 10 for word in ("VmRSS:", "VmSwap:")]


def part_pageout(nvml):
    if os.geteuid() != 0:
        skip("swap can be had by root alone")
    empty = nvml.memory().used
    with swap_file():
        target = Target("plain", COPY_MIB)
        digest = target.digest()
        rows = [memory_of(target)]
        parked = moved("park", target)
        rows.append(memory_of(target))
        table(f"{COPY_MIB} MiB parked without", f"{parked['wall_ms']:.0f} ms")
        resumed = moved("resume", target)
        table("... resumed", f"{resumed['wall_ms']:.0f} ms")
        parked = moved("park", target, "--pageout")
        gone(nvml, target, empty, "paged out")
        rows.append(memory_of(target))
        said, swapped = parked["pageout_bytes"] or 0, parked["swapped_bytes"] or 0
        table("parked with --pageout", f"{parked['wall_ms']:.0f} ms, of that "
              f"{parked['total_ms'] - parked['driver_ms']:.0f} not the driver's; the receipt: "
              f"{said >> 20} MiB of RAM, {swapped >> 20} more in swap, RSS {parked['rss_before_bytes'] >> 20} -> "
              f"{parked['rss_after_bytes'] >> 20} MiB")
        resumed = moved("resume", target)
        same = expect(target.digest() == digest, "paged out and resumed: what it holds differs")
        rows.append(memory_of(target))
        table("... resumed", f"{resumed['wall_ms']:.0f} ms, {'equal' if same else 'DIFFERS'}")
        for name, (rss, swap) in zip(("before", "parked", "parked and paged out", "resumed"), rows):
            table(name, f"RSS {rss >> 20} MiB, swap {swap >> 20} MiB")
        most = COPY_MIB * MIB
        expect(rows[2][1] - rows[0][1] >= most, "its swap did not rise by what it had on the GPU")
        expect(rows[1][0] - rows[2][0] >= most, "its RSS did not fall by what it had on the GPU")
        # between our readings and its own it does nothing; shared memory is in no VmSwap
        expect(abs(rows[1][0] - rows[2][0] - said) <= 16 * MIB,
               f"the receipt says that RSS fell by {said >> 20} MiB")
        expect(abs(rows[2][1] - rows[1][1] - swapped) <= 16 * MIB,
               f"the receipt says that swap rose by {swapped >> 20} MiB")
        expect(rows[3][1] <= rows[2][1] - most * 8 // 10, "resuming did not give the swap back")
        target.end()
