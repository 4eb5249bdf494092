"""hold_parts_faults.py - a part of tests/gpu/hold: what goes wrong on purpose."""
import ctypes
import os
import pathlib
import shutil
import signal
import sys
import time
import traceback

from hold_shared import (CALLS, GIB, MIB, Target, alive, children_of, environment, expect, find,
                         moved, start, table, targets, vacate, wait_for, why, work)


def paused():
    """An environment in which the driver's calls stop where a test wants it."""
    library = ctypes.CDLL("libcuda.so.1")
    with open("/proc/self/maps") as file:
        real = next((line.split()[-1] for line in file if "libcuda.so" in line), None)
    assert library and real
    folder = work / "pause"
    folder.mkdir(exist_ok=True)
    shutil.copy(find("libpause_cuda.so", "tests/gpu/libpause_cuda.so"), folder / "libcuda.so.1")
    return folder, environment(VACATE_CUDA_PATH=str(folder), PAUSE_CUDA_REAL=real,
                               PAUSE_CUDA_DIR=str(folder))


def stopped_at(call, target, folder, env, command=None):
    """A command that stands before that call of the driver."""
    (folder / call).touch()
    process = start(command or ("park" if call in CALLS[:2] else "resume"), target.pid, env=env)
    wait_for(lambda: (folder / (call + ".here")).exists() or process.poll() is not None)
    if process.poll() is not None:
        raise RuntimeError(f"{call} was not reached: {process.communicate()[1]}")
    return process


def go(folder, call):
    (folder / (call + ".go")).touch()
    wait_for(lambda: not (folder / (call + ".here")).exists())


def back(target, digest, what):
    """It runs, or resume makes it run, and what it holds is what it held."""
    status, err, _, _ = vacate("resume", target.pid)
    if expect(status == 0, f"{what}: it does not come back: {err}"):
        expect(target.digest() == digest, f"{what}: what it holds differs")


def faults_interrupted(folder, env):
    for call in CALLS:
        for name, whom, number in (("vacate killed", "vacate", signal.SIGKILL),
                                   ("vacate-gpud killed", "gpud", signal.SIGKILL),
                                   ("Ctrl-C", "vacate", signal.SIGINT),
                                   ("the target killed", "target", signal.SIGKILL)):
            target = Target("plain", 256)
            digest = target.digest()
            if call in CALLS[2:]:
                moved("park", target)
            process = stopped_at(call, target, folder, env)
            gpud = gpud_of(process.pid)
            os.kill({"vacate": process.pid, "gpud": gpud, "target": target.pid}[whom], number)
            time.sleep(0.1)
            if whom != "gpud":
                go(folder, call)
            err = process.communicate(timeout=60)[1]
            (folder / (call + ".here")).unlink(missing_ok=True)
            wait_for(lambda: not alive(gpud))
            table(f"{name} in {call[19:].lower()}", f"exit {process.returncode}: {why(err)}")
            if whom != "target":
                back(target, digest, f"{name} in {call}")
            target.end()


def gpud_of(pid):
    below = children_of(pid)
    if not below:
        raise RuntimeError("no vacate-gpud below it")
    return below[0]


def faults_room(nvml, folder, env):
    target = Target("plain", 4096)
    digest = target.digest()
    moved("park", target)
    free = nvml.memory().free >> 20
    other = Target("plain", free - 2048)
    status, err, _, _ = vacate("resume", target.pid)
    table("another process has the room", f"exit {status}: {why(err)}")
    expect(status == 5 and str(other.pid) in err, "no room is not refused by name")
    process = start("resume", target.pid, "--wait", "60s")
    time.sleep(1)
    other.end()
    err = process.communicate(timeout=90)[1]
    table("--wait, and it ends", f"exit {process.returncode}")
    expect(process.returncode == 0, f"--wait: {err}")
    expect(target.digest() == digest, "no room: what it holds differs")

    moved("park", target)
    process = stopped_at(CALLS[2], target, folder, env)
    other = Target("plain", (nvml.memory().free >> 20) - 2048)
    go(folder, CALLS[2])
    err = process.communicate(timeout=90)[1]
    table("it takes the room in the window", f"exit {process.returncode}: {why(err)}")
    other.end()
    if process.returncode == 0:      # a driver that waits, or finds room, does better
        expect(target.digest() == digest, "the window: what it holds differs")
    else:
        expect("lost" in err, f"the loss is not named: {err}")
        status, err, _, _ = vacate("resume", target.pid)
        table("... resumed again", f"exit {status}: {why(err)}")
        expect(status == 1 and "lost" in err, "the loss is not remembered")
        status, err, said, _ = vacate("ps")
        state = [p["state"] for p in (said or {}).get("processes", []) if p["pid"] == target.pid]
        table("... in vacate ps", ", ".join(state) or "not shown")
        expect(state == ["failed"], f"vacate ps shows {state} of the loss: {err}")
    target.end()


def faults_refused(nvml):
    target = Target("plain", 256)
    digest = target.digest()
    os.kill(target.pid, signal.SIGSTOP)
    status, err, _, _ = vacate("park", target.pid, "--timeout", "2s")
    table("a stopped target", f"exit {status}: {why(err)}")
    expect(status == 1, "a stopped target is not refused")
    os.kill(target.pid, signal.SIGCONT)
    if os.geteuid() == 0:
        records = work / "theirs"
        records.mkdir(exist_ok=True)
        os.chown(records, 65534, 65534)
        os.chmod(work, 0o755)
        try:
            status, err, _, _ = vacate("park", target.pid, user=65534, group=65534,
                                       extra_groups=[],
                                       env=environment(VACATE_HOLD_DIR=str(records)))
            table("another user's process", f"exit {status}: {why(err)}")
            expect(status == 1 and "another user" in err,
                   f"another user's process is not refused: {err}")
        except PermissionError:
            table("another user's process", "skipped: nobody may not start the program here")
    status, err, _, _ = vacate("park", os.getppid())
    table("no CUDA process", f"exit {status}: {why(err)}")
    expect(status == 1, "a process without CUDA is not refused")
    back(target, digest, "after the refusals")
    target.end()
    managed = Target("managed")
    status, err, _, _ = vacate("park", managed.pid)      # cannot be seen from outside
    table("managed memory (for information)", f"exit {status}: {why(err)}")
    managed.end()
    busy = Target("busy", 8)
    busy.send("run")
    wait_for(lambda: busy.at)
    status, err, _, _ = vacate("park", busy.pid, "--timeout", "1s")
    table("a kernel that runs on", f"exit {status}: {why(err)}")
    expect(status == 1, "a lock that takes too long is not refused")
    busy.wait("done")
    busy.end()


def faults_two(folder, env):
    target = Target("plain", 256)
    digest = target.digest()
    process = stopped_at(CALLS[1], target, folder, env)
    status, err, _, _ = vacate("park", target.pid)
    table("a second vacate", f"exit {status}: {why(err)}")
    expect(status == 1 and "another" in err, "a second vacate is not refused")
    go(folder, CALLS[1])
    process.communicate(timeout=60)
    back(target, digest, "two at once")
    target.end()


def faults_ram():
    """A limit of the control group, where one can be set."""
    for path, limit in (("/sys/fs/cgroup", "memory.max"),
                        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        group, target = pathlib.Path(path) / f"vacate-test-{os.getpid()}", None
        try:
            group.mkdir()
            if not (group / limit).exists():
                raise OSError("no controller of memory there")
            target = Target("plain", 4096)
            (group / limit).write_text(str(target.rss() + GIB))
            (group / "cgroup.procs").write_text(str(target.pid))
            status, err, _, _ = vacate("park", target.pid)
            table("RAM of its control group is short", f"exit {status}: {why(err)}")
            expect(status == 5, "too little RAM is not refused")
            return
        except OSError:
            continue
        finally:
            if target:
                target.end()
            if group.is_dir():
                group.rmdir()
    table("RAM of its control group is short", "skipped: no control group can be made here")


def part_faults(nvml):
    empty = nvml.memory().used
    folder, env = paused()
    print("what happens                                       outcome")
    for name, part in (("refused", lambda: faults_refused(nvml)),
                       ("two", lambda: faults_two(folder, env)),
                       ("room", lambda: faults_room(nvml, folder, env)),
                       ("ram", faults_ram),
                       ("interrupted", lambda: faults_interrupted(folder, env))):
        try:
            part()
        except Exception as problem:      # the others are still worth knowing
            traceback.print_exc(file=sys.stdout)
            expect(False, f"{name}: {problem!r}")
        for target in targets:
            target.end()
        for left in folder.iterdir():     # a call that it had wanted to stop at
            if left.name != "libcuda.so.1":
                left.unlink()
    wait_for(lambda: nvml.memory().used <= empty + 8 * MIB, 30)
    table("VRAM used afterwards", f"{nvml.memory().used / MIB:.0f} MiB, {empty / MIB:.0f} before")
