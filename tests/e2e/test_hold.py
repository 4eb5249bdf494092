"""Processes parked and resumed by whole commands, on GPUs that are files: what is
said, what is left, and what each interruption leaves. tests/gpu/hold does the same
on real GPUs."""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import harness
import measure
import pytest
from fake_gpus import GIB, MIB, PATIENCE_S, UUIDS, children, eventually

PARK_CALLS = ["cuCheckpointProcessLock", "cuCheckpointProcessCheckpoint"]
RESUME_CALLS = ["cuCheckpointProcessRestore", "cuCheckpointProcessUnlock"]
SANITIZERS = ("AddressSanitizer", "LeakSanitizer", "runtime error:", "ThreadSanitizer")


def start(gpus, *arguments, environment=None, stderr=subprocess.PIPE, **keywords):
    return subprocess.Popen([harness.find_vacate(), *map(str, arguments)],
                            env=gpus.environment(**(environment or {})),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=stderr, text=True, **keywords)


def finish(process):
    process.out, process.err = process.communicate(timeout=PATIENCE_S)
    for word in SANITIZERS:
        assert word not in process.err, process.err
    return process


def vacate(gpus, *arguments, **keywords):
    return finish(start(gpus, *arguments, **keywords))


def ok(gpus, *arguments, **keywords):
    done = vacate(gpus, *arguments, **keywords)
    assert done.returncode == 0, done.out + done.err
    return done


def receipts(gpus, *arguments):
    said = json.loads(ok(gpus, *arguments, "--json").out)
    assert said["error"] is None
    return said["receipts"]


def caught(pid, number):
    """The process has a handler for that signal: those here handle it once."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return bool(int(re.search(r"^SigCgt:\s*(\w+)", text, re.M)[1], 16) >> (number - 1) & 1)


def wait_end(pid):
    eventually(lambda: not measure.alive(pid))


def comes_back(gpus, target):
    """Whatever was left: resume makes it run again."""
    ok(gpus, "resume", target.pid)
    assert gpus.state(target.pid) == "running" and not gpus.broken(target.pid)
    assert target.poll() is None


# --- what it does ------------------------------------------------------------------

def test_park_and_resume(gpus):
    gpus = gpus((8 * GIB, 100 * MIB))
    target = gpus.target(500 * MIB)
    done = ok(gpus, "park", target.pid)
    assert gpus.state(target.pid) == "parked" and target.poll() is None
    lines = done.out.splitlines()
    assert lines[0] == f"Parked {target.pid}: sleep 3600"
    assert re.fullmatch(r"  VRAM +500 MiB -> 0 B \(-500 MiB\), not listed any more", lines[1])
    assert re.fullmatch(r"  used of GPU +600 MiB -> 100 MiB \(-500 MiB\) of 8\.0 GiB", lines[2])
    assert lines[3].split() == ["GPU", UUIDS[0]]
    assert any(re.match(r"  time .*lock .*checkpoint ", line) for line in lines)
    assert lines[-1].split() == ["driver", "580.159"]
    assert all(len(line) <= 80 for line in lines + done.err.splitlines())
    assert "it is lost (docs/hold.md)" in done.err     # said before it is parked

    done = ok(gpus, "resume", target.pid)
    assert gpus.state(target.pid) == "running"
    lines = done.out.splitlines()
    assert lines[0] == f"Resumed {target.pid}: sleep 3600"
    assert re.fullmatch(r"  VRAM +0 B -> 500 MiB \(\+500 MiB\)", lines[1])
    assert all(len(line) <= 80 for line in lines)
    assert not done.err


def test_receipts_in_json(gpus):
    gpus = gpus((8 * GIB, 100 * MIB), (4 * GIB, 0))
    target = gpus.target({0: 500 * MIB, 1: 700 * MIB})
    (receipt,) = receipts(gpus, "park", target.pid)
    assert receipt["pid"] == target.pid and receipt["uid"] == os.geteuid()
    assert (receipt["before"], receipt["after"]) == ("running", "parked")
    assert receipt["command"] == "sleep 3600" and receipt["error"] is None
    devices = {device["uuid"]: device for device in receipt["devices"]}
    assert devices[UUIDS[0]] == {
        "uuid": UUIDS[0],
        "before": {"listed": True, "process_bytes": 500 * MIB, "used_bytes": 600 * MIB,
                   "total_bytes": 8 * GIB},
        "after": {"listed": False, "process_bytes": 0, "used_bytes": 100 * MIB,
                  "total_bytes": 8 * GIB}}
    assert devices[UUIDS[1]]["before"]["process_bytes"] == 700 * MIB
    assert devices[UUIDS[1]]["after"]["used_bytes"] == 0
    assert receipt["rss_before_bytes"] > 0 and receipt["rss_after_bytes"] > 0
    assert receipt["lock_ms"] > 0 and receipt["checkpoint_ms"] > 0
    assert receipt["restore_ms"] == receipt["unlock_ms"] == 0
    assert receipt["total_ms"] >= receipt["driver_ms"] > 0
    (receipt,) = receipts(gpus, "resume", target.pid)
    assert (receipt["before"], receipt["after"]) == ("parked", "running")
    assert receipt["restore_ms"] > 0 and receipt["unlock_ms"] > 0


def test_what_is_so_already(gpus):
    gpus = gpus()
    target = gpus.target()
    done = ok(gpus, "resume", target.pid)
    assert done.out == f"{target.pid} was running already: sleep 3600\n"
    ok(gpus, "park", target.pid)
    done = ok(gpus, "park", target.pid)
    assert done.out == f"{target.pid} was parked already: sleep 3600\n"
    assert gpus.called("cuCheckpointProcessCheckpoint") == 1


def test_a_locked_one(gpus):
    gpus = gpus()
    target = gpus.target()
    gpus.put(target.pid, 500 * MIB, state="locked")
    ok(gpus, "resume", target.pid)
    assert gpus.state(target.pid) == "running"
    assert gpus.called("cuCheckpointProcessRestore") == 0
    gpus.put(target.pid, 500 * MIB, state="locked")
    ok(gpus, "park", target.pid)
    assert gpus.state(target.pid) == "parked"


def test_fifty_cycles(gpus):
    gpus = gpus((8 * GIB, 100 * MIB))
    target = gpus.target(500 * MIB)
    for _ in range(50):
        (receipt,) = receipts(gpus, "park", target.pid)
        assert receipt["devices"][0]["after"]["used_bytes"] == 100 * MIB
        (receipt,) = receipts(gpus, "resume", target.pid)
        assert receipt["devices"][0]["after"]["used_bytes"] == 600 * MIB
    assert gpus.words(target.pid) == ["running", "0", "0", "0", str(500 * MIB)]
    # nothing piles up
    assert sum(path.stat().st_size for path in (gpus.folder / "hold").iterdir()) < 100_000


def test_on_another_gpu(gpus):
    gpus = gpus((8 * GIB, 0), (8 * GIB, 0))
    target = gpus.target(500 * MIB)
    ok(gpus, "park", target.pid)
    ok(gpus, "resume", target.pid, "--device", UUIDS[1])
    assert gpus.words(target.pid) == ["running", "0", "0", "1", str(500 * MIB)]


def test_a_line_on_a_terminal(gpus):
    gpus = gpus()
    target = gpus.target()
    gpus.on(PARK_CALLS[1], "wait go")
    master, slave = pty.openpty()
    process = subprocess.Popen([harness.find_vacate(), "park", str(target.pid)],
                               env=gpus.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    seen = b""
    while process.poll() is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.1)[0]:
            try:
                seen += os.read(master, 4096)
            except OSError:
                break
        if re.search(rb"checkpointing, [1-9]\d* s", seen):
            gpus.touch("go")
    os.close(master)
    assert process.wait() == 0
    process.stdout.close()
    assert re.search(rf"parking {target.pid}: checkpointing, [1-9]\d* s".encode(), seen)
    assert seen.rstrip().endswith(b"\x1b[K")     # and is wiped


# --- refused before anything is done ------------------------------------------------

def refused(gpus, code, *arguments, **keywords):
    done = vacate(gpus, *arguments, **keywords)
    assert done.returncode == code, (done.returncode, done.out, done.err)
    assert not done.out
    return done.err


def test_a_directory_that_is_named(gpus):
    """VACATE_HOLD_DIR is made; one that others may write to is refused, and nothing moved."""
    gpus = gpus()
    target = gpus.target()
    named = gpus.folder / "named"
    ok(gpus, "park", target.pid, environment={"VACATE_HOLD_DIR": str(named)})
    assert named.stat().st_mode & 0o022 == 0 and len(list(named.iterdir())) == 1
    ok(gpus, "resume", target.pid, environment={"VACATE_HOLD_DIR": str(named)})
    named.chmod(0o777)
    done = vacate(gpus, "park", target.pid, environment={"VACATE_HOLD_DIR": str(named)})
    assert done.returncode == 1 and f"{named}: the directory of records" in done.err
    assert gpus.state(target.pid) == "running"


def test_wrong_usage(gpus):
    gpus = gpus()
    for arguments in (["park"], ["park", "0"], ["park", ""], ["park", "-1"],
                      ["park", "99999999999"], ["resume"], ["park", "1", "--timeout", "soon"],
                      ["resume", "1", "--wait", "-1"], ["resume", "1", "--device", "0"],
                      ["resume", "1", "--device", "GPU-" + "0" * 60]):
        refused(gpus, 2, *arguments)
    assert gpus.calls() == []


def test_no_such_process(gpus):
    gpus = gpus()
    process = subprocess.Popen(["true"])
    process.wait()
    for command in ("park", "resume"):
        assert str(process.pid) in refused(gpus, 4, command, process.pid)
        done = vacate(gpus, command, "--json", process.pid)
        assert done.returncode == 4 and str(process.pid) in done.err
        said = json.loads(done.out)
        assert said.pop("error") == {"code": "not_found", "detail": "",
                                      "message": done.err.strip().partition(": ")[2]}
        assert said == {"operation": command, "driver": "", "receipts": []}


def test_no_cuda_process(gpus):
    gpus = gpus()
    target = gpus.target(None)
    assert "CUDA" in refused(gpus, 1, "park", target.pid)
    assert gpus.called(PARK_CALLS[0]) == 0


def test_no_driver(gpus):
    gpus = gpus()
    target = gpus.target()
    err = refused(gpus, 1, "park", target.pid, environment={"LD_LIBRARY_PATH": ""})
    if "there is no NVIDIA driver here" not in err:
        pytest.skip("there is a real driver here")


def test_a_driver_without_checkpoints(gpus):
    gpus = gpus()
    gpus.set_driver(12040, "550.54")
    target = gpus.target()
    err = refused(gpus, 1, "park", target.pid, "--risk")
    assert "570" in err and gpus.state(target.pid) == "running"


def test_an_untried_driver(gpus):
    gpus = gpus()
    gpus.set_driver(19000, "999.1")
    target = gpus.target()
    err = refused(gpus, 1, "park", target.pid)
    assert "--risk" in err and "999.1" in err
    assert gpus.state(target.pid) == "running"
    ok(gpus, "park", target.pid, "--risk")
    assert gpus.state(target.pid) == "parked"


def test_host_ram_is_short(gpus):
    gpus = gpus((1 << 50, 0))
    target = gpus.target(1 << 49)
    err = refused(gpus, 5, "park", target.pid)
    assert re.search(r"needs 524288(\.0)? GiB of host RAM .* are free", err)
    assert gpus.state(target.pid) == "running"
    assert gpus.called(PARK_CALLS[0]) == 0


@pytest.fixture
def group():
    """A control group with a limit of 100 MiB."""
    for place, limit in (("/sys/fs/cgroup", "memory.max"),
                         ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        made = pathlib.Path(place, f"vacate-{os.getpid()}")
        try:
            made.mkdir()
        except OSError:
            continue
        try:
            if (made / limit).exists():
                (made / limit).write_text(str(100 * MIB))
                yield made
                return
        except PermissionError:
            pass
        finally:
            made.rmdir()
    pytest.skip("no control group can be made here")


def test_ram_of_its_control_group_is_short(gpus, group):
    gpus = gpus()
    target = gpus.target(500 * MIB)
    (group / "cgroup.procs").write_text(str(target.pid))
    err = refused(gpus, 5, "park", target.pid)
    target.kill()
    target.wait()
    assert "needs 500 MiB of host RAM" in err and "control group" in err
    assert gpus.called(PARK_CALLS[0]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_not_the_callers_process(gpus):
    gpus = gpus()
    target = gpus.target()                   # root's
    own = gpus.target(user=65534, group=65534, extra_groups=[])
    if subprocess.run([harness.find_vacate(), "--version"], user=65534, group=65534,
                      extra_groups=[], capture_output=True).returncode != 0:
        pytest.skip("others may not run what was built here")
    hold = gpus.folder / "theirs"
    hold.mkdir()
    os.chown(hold, 65534, 65534)
    as_nobody = {"environment": {"VACATE_HOLD_DIR": str(hold)}, "user": 65534, "group": 65534,
                 "extra_groups": []}
    err = refused(gpus, 1, "park", target.pid, **as_nobody)
    assert "root" in err or "user" in err
    assert gpus.state(target.pid) == "running"
    ok(gpus, "park", own.pid, **as_nobody)
    assert gpus.state(own.pid) == "parked"
    # root may; what it needs stands in the other's records
    assert "--risk" in refused(gpus, 1, "resume", own.pid)
    ok(gpus, "resume", own.pid, "--risk")
    assert gpus.state(own.pid) == "running"


def records_of(uid):
    shared = pathlib.Path("/run/lock")
    everybodys = shared.is_dir() and shared.lstat().st_mode & 0o1002 == 0o1002
    return (shared if everybodys else pathlib.Path("/tmp")) / f"vacate-hold-{uid}"


def forget_records(uid, pid):
    for path in records_of(uid).glob(f"*.{pid}"):
        path.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
@pytest.mark.parametrize("parks, resumes", [("user", "root"), ("root", "user"), ("user", "user")])
def test_who_resumes_what_another_parked(gpus, parks, resumes):
    """Everybody's records are in one place: neither needs --risk."""
    uid = 64123
    gpus = gpus()
    nobody = {"user": uid, "group": uid, "extra_groups": []}
    if subprocess.run([harness.find_vacate(), "--version"], capture_output=True,
                      **nobody).returncode != 0:
        pytest.skip("others may not run what was built here")
    gpus.folder.chmod(0o777)
    who = {"user": nobody, "root": {}}
    target = gpus.target(**nobody)
    (gpus.folder / "processes" / str(target.pid)).chmod(0o666)
    try:
        ok(gpus, "park", target.pid, environment={"VACATE_HOLD_DIR": ""}, **who[parks])
        assert gpus.state(target.pid) == "parked"
        ok(gpus, "resume", target.pid, environment={"VACATE_HOLD_DIR": ""}, **who[resumes])
        assert gpus.state(target.pid) == "running"
        # and what the first has on record of it stands in nobody's way
        for one in ("user", "root"):
            ok(gpus, "park", target.pid, environment={"VACATE_HOLD_DIR": ""}, **who[one])
            ok(gpus, "resume", target.pid, environment={"VACATE_HOLD_DIR": ""}, **who[one])
        assert gpus.state(target.pid) == "running"
    finally:
        for one in (uid, 0):
            forget_records(one, target.pid)
        shutil.rmtree(records_of(uid), ignore_errors=True)


def test_a_stopped_target(gpus):
    gpus = gpus()
    target = gpus.target()
    os.kill(target.pid, signal.SIGSTOP)
    eventually(lambda: "T" in open(f"/proc/{target.pid}/stat").read().rpartition(")")[2][:3])
    err = refused(gpus, 1, "park", target.pid, "--timeout", "500ms")
    assert f"process {target.pid} is stopped" in err and f"kill -CONT {target.pid}" in err
    assert gpus.state(target.pid) == "running"
    os.kill(target.pid, signal.SIGCONT)
    ok(gpus, "park", target.pid)
    comes_back(gpus, target)


@pytest.fixture
def freezer():
    """A control group that can be frozen: freezer(pid) puts a process there and freezes it,
    freezer() lets all go on."""
    for place, file, on, off in (("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
                                 ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED")):
        made = pathlib.Path(place, f"vacate-frozen-{os.getpid()}")
        try:
            made.mkdir()
        except OSError:
            continue
        if (made / file).exists():
            break
        made.rmdir()
    else:
        pytest.skip("no control group can be made here")

    def freeze(pid=None):
        if pid:
            (made / "cgroup.procs").write_text(str(pid))
        (made / file).write_text(on if pid else off)

    yield freeze
    freeze()
    for pid in (made / "cgroup.procs").read_text().split():
        (made.parent / "cgroup.procs").write_text(pid)
    made.rmdir()


def test_a_frozen_target(gpus, freezer):
    """docker pause: as one that is stopped, it could not let the driver answer."""
    gpus = gpus()
    target = gpus.target()
    freezer(target.pid)
    err = refused(gpus, 1, "park", target.pid)
    assert f"process {target.pid} is frozen with its control group" in err
    assert not any(call[1].startswith("cuCheckpoint") for call in gpus.calls())
    freezer()
    ok(gpus, "park", target.pid)
    comes_back(gpus, target)


@pytest.mark.parametrize("symbol", ["Lock", "Checkpoint"])
def test_stopped_while_the_driver_is_at_it(gpus, symbol):
    """Then it is said what is waited for, and it goes on when the process does."""
    gpus = gpus()
    target = gpus.target()
    gpus.on(f"cuCheckpointProcess{symbol}", f"kill target {int(signal.SIGSTOP)}", "sleep 300")
    park = start(gpus, "park", target.pid)
    line = park.stderr.readline()       # what it says before parking
    while "is stopped" not in line:
        line = park.stderr.readline()
        assert line, "it ended without a word"
    assert f"kill -CONT {target.pid}" in line and park.poll() is None
    os.kill(target.pid, signal.SIGCONT)
    assert finish(park).returncode == 0
    assert gpus.state(target.pid) == "parked"
    comes_back(gpus, target)


def test_calls_that_do_not_end(gpus):
    gpus = gpus()
    target = gpus.target()
    gpus.put(target.pid, 500 * MIB, busy=1)
    err = refused(gpus, 1, "park", target.pid, "--timeout", "300ms")
    assert f"process {target.pid} runs" in err
    assert gpus.state(target.pid) == "running"
    gpus.put(target.pid, 500 * MIB)
    ok(gpus, "park", target.pid)


HANGS = """#!%s
import os, socket, struct, sys, time
with open(os.environ["GPUD_PID"], "w") as file:
    file.write(str(os.getpid()))
sock = socket.socket(fileno=3)
text = lambda value: struct.pack("<I", len(value)) + value
hello = struct.pack("<II", 1, os.getpid()) + text(b"fake") + text(b"gpus") + text(b"") + text(b"none")
hello += bytes(-len(hello) %% 8)
sock.sendall(struct.pack("<IHHQ", len(hello), 1, 0, 0) + hello)
sock.recv(16, socket.MSG_WAITALL)
if %r == "ends":
    sock.close()
elif %r == "stays":
    body = struct.pack("<I", 2) + text(b"not today") + text(b"")
    body += bytes(-len(body) %% 8)
    sock.sendall(struct.pack("<IHHQ", len(body), 0xff, 0, 1) + body)
time.sleep(600)
"""


def hangs(gpus, where, *words, **environment):
    """A command whose vacate-gpud hangs there, and the file with that one's number."""
    program, number = gpus.folder / f"gpud-{where}", gpus.folder / f"gpud-{where}.pid"
    program.write_text(HANGS % (sys.executable, where, where))
    program.chmod(0o755)
    return start(gpus, *(words or ("park", gpus.target().pid)),
                 environment={"VACATE_GPUD": str(program), "GPUD_PID": str(number),
                              **environment}), number


def runs(gpus):
    """`vacate run` on a GPU, whose VRAM is then not measured."""
    model = gpus.folder / "models" / "a"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"\0" * 8192)
    return hangs(gpus, "answers not", "run", "--models", model.parent, "--device", "cuda:0", "a",
                 "text", FAKE_WORKER_LOG=str(gpus.folder / "worker-log"),
                 VACATE_WORKER=str(pathlib.Path(__file__).parent / "fake_worker.py"))


def test_a_start_that_hangs(gpus):
    """The driver's own, beside the calls: nobody waits for it."""
    gpus = gpus()
    target = gpus.target()
    other = gpus.target()
    ok(gpus, "park", other.pid)
    gpus.on("cuInit", "always", "sleep 170000")
    # at once, since each ends its vacate-gpud after ten seconds
    for command in [start(gpus, "park", target.pid), start(gpus, "resume", other.pid)]:
        assert finish(command).returncode == 0, command.err
    assert (gpus.state(target.pid), gpus.state(other.pid)) == ("parked", "running")
    gpus.on("cuInit")
    comes_back(gpus, target)


def test_a_gpud_that_hangs(gpus):
    """In NVML's start, before it answers, when it should end, and after it
    closed its socket, as in the kernel: no command waits for ever, and nothing was moved."""
    gpus = gpus()
    targets = [gpus.target() for _ in range(3)]
    gpus.on("nvmlInit_v2", "always", "sleep 170000")
    waiting = [start(gpus, "park", targets[0].pid), start(gpus, "resume", targets[1].pid),
               start(gpus, "park", "--tree", "--json", targets[2].pid)]
    scripts = {where: hangs(gpus, where) for where in ("looks", "stays", "ends")}
    run, _ = scripts["run"] = runs(gpus)
    for command in waiting + [scripts["looks"][0]]:
        assert finish(command).returncode == 1
        assert "did not answer in 30 s, before anything was moved" in command.err
    said = json.loads(waiting[2].out)
    assert said["error"]["code"] == "timeout" and said["receipts"] == []
    assert finish(scripts["stays"][0]).returncode == 1 and "not today" in scripts["stays"][0].err
    assert finish(scripts["ends"][0]).returncode == 1
    assert "closed its connection, and has not ended" in scripts["ends"][0].err
    assert finish(run).returncode == 0 and "NVML did not answer in 30 s" in run.err
    for _, number in scripts.values():
        wait_end(int(number.read_text()))
    assert all(gpus.state(target.pid) == "running" for target in targets)
    assert gpus.called(PARK_CALLS[0]) == 0


# --- room for the way back -------------------------------------------------------------

def parked(gpus, size=600 * MIB):
    """Of the two thirds of a small GPU."""
    gpus.set_devices((1000 * MIB, 0))
    target = gpus.target(size)
    ok(gpus, "park", target.pid)
    return target


def test_no_room_names_the_holder(gpus):
    gpus = gpus()
    target = parked(gpus)
    other = gpus.target(500 * MIB)
    err = refused(gpus, 5, "resume", target.pid)
    assert f"process {other.pid} (sleep) holds 500 MiB" in err
    # and not that `vacate resume`, which has just failed, would bring it back
    assert f"process {target.pid} stays parked\n" in err and "brings it back" not in err
    assert gpus.called(RESUME_CALLS[0]) == 0
    gpus.remove(other.pid)
    comes_back(gpus, target)


def test_waits_for_room(gpus):
    gpus = gpus()
    target = parked(gpus)
    other = gpus.target(500 * MIB)
    err = refused(gpus, 5, "resume", target.pid, "--wait", "300ms")
    assert str(other.pid) in err
    process = start(gpus, "resume", target.pid, "--wait", "10m")
    reads = gpus.called("nvmlDeviceGetComputeRunningProcesses_v3")
    eventually(lambda: gpus.called("nvmlDeviceGetComputeRunningProcesses_v3") > reads + 3)
    assert process.poll() is None and gpus.state(target.pid) == "parked"
    other.kill()
    other.wait()
    assert finish(process).returncode == 0, process.err
    assert gpus.state(target.pid) == "running"


def test_for_how_long_it_waits(gpus):
    """On a terminal, from when it began to wait."""
    gpus = gpus()
    target = parked(gpus)
    other = gpus.target(500 * MIB)
    master, slave = pty.openpty()
    process = start(gpus, "resume", target.pid, "--wait", "10m", stderr=slave)
    os.close(slave)
    seen = b""
    while f"resuming {target.pid}: waiting, 1 s".encode() not in seen:
        assert select.select([master], [], [], PATIENCE_S)[0] and len(seen) < 100000, seen[-200:]
        seen += os.read(master, 4096)
    other.kill()
    other.wait()
    assert process.wait(PATIENCE_S) == 0
    process.stdout.close()
    os.close(master)


def test_waiting_is_interrupted(gpus):
    gpus = gpus()
    target = parked(gpus)
    gpus.target(500 * MIB)
    process = start(gpus, "resume", target.pid, "--wait", "10m")
    reads = gpus.called("nvmlDeviceGetComputeRunningProcesses_v3")
    eventually(lambda: gpus.called("nvmlDeviceGetComputeRunningProcesses_v3") > reads + 1)
    process.send_signal(signal.SIGINT)
    assert finish(process).returncode == 130
    assert gpus.state(target.pid) == "parked" and gpus.called(RESUME_CALLS[0]) == 0


def test_a_racer_in_the_window(gpus):
    """Between the reading and the restore another process takes the room: the driver
    calls the process checkpointed for ever, and the record knows better."""
    gpus = gpus()
    target = parked(gpus)
    other = gpus.target(10 * MIB)
    gpus.on(RESUME_CALLS[0], f"write processes/{other.pid} running 0 0 0 {500 * MIB}")
    done = vacate(gpus, "resume", target.pid)
    assert done.returncode == 1, done.err
    assert f"process {target.pid} is lost" in done.err
    assert gpus.broken(target.pid) and gpus.state(target.pid) == "parked"
    gpus.remove(other.pid)
    for command in ("resume", "park"):
        err = refused(gpus, 1, command, target.pid)
        assert f"process {target.pid} is lost" in err
    assert gpus.called(RESUME_CALLS[0]) == 1      # it is not tried again
    # another process with its number is not taken for it: its own record alone counts
    fresh = gpus.target()
    ok(gpus, "park", fresh.pid)
    comes_back(gpus, fresh)


# --- interrupted ---------------------------------------------------------------------

def under_way(gpus, target, call):
    """A command that stands inside of that call; and its gpud."""
    gpus.on(call, "touch here", "wait go")
    if call in RESUME_CALLS:
        ok(gpus, "park", target.pid)
    process = start(gpus, "park" if call in PARK_CALLS else "resume", target.pid)
    gpus.wait("here")
    (gpud,) = children(process.pid)
    return process, gpud


@pytest.mark.parametrize("call", PARK_CALLS + RESUME_CALLS)
def test_vacate_is_killed(gpus, call):
    gpus = gpus()
    target = gpus.target()
    process, gpud = under_way(gpus, target, call)
    process.kill()
    process.wait()
    time.sleep(0.2)
    assert measure.alive(gpud)       # it finishes what it has begun
    gpus.touch("go")
    wait_end(gpud)
    assert gpus.state(target.pid) in ("running", "parked")
    assert not gpus.broken(target.pid)
    comes_back(gpus, target)
    process.communicate()


@pytest.mark.parametrize("call", PARK_CALLS + RESUME_CALLS)
def test_gpud_is_killed(gpus, call):
    gpus = gpus()
    target = gpus.target()
    if call in RESUME_CALLS:
        ok(gpus, "park", target.pid)
    gpus.on(call, "kill caller 9")
    done = vacate(gpus, "park" if call in PARK_CALLS else "resume", target.pid)
    assert done.returncode == 1 and "killed by signal 9" in done.err
    state = gpus.state(target.pid)
    words = {"running": "runs", "locked": "is locked", "parked": "is parked"}[state]
    assert f"process {target.pid} {words}" in done.err     # by another gpud
    comes_back(gpus, target)


@pytest.mark.parametrize("call", PARK_CALLS + RESUME_CALLS)
def test_interrupted(gpus, call):
    gpus = gpus()
    target = gpus.target()
    process, gpud = under_way(gpus, target, call)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None    # it waits until things are in order
    gpus.touch("go")
    finish(process)
    wait_end(gpud)
    state = gpus.state(target.pid)
    if process.returncode == 130:    # put back
        assert state == ("running" if call in PARK_CALLS else "parked")
        assert not process.out
    else:                            # it was too late for that
        assert process.returncode == 0, process.err
        assert state == ("parked" if call in PARK_CALLS else "running")
    comes_back(gpus, target)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_twice(gpus, second):
    gpus = gpus()
    target = gpus.target()
    process, gpud = under_way(gpus, target, PARK_CALLS[1])
    process.send_signal(signal.SIGINT)
    measure.wait_until(lambda: not caught(process.pid, second), "the first signal")
    process.send_signal(second)
    assert process.wait(PATIENCE_S) == -second
    assert measure.alive(gpud)
    gpus.touch("go")
    wait_end(gpud)
    process.communicate()
    assert gpus.state(target.pid) in ("running", "parked")
    comes_back(gpus, target)


@pytest.mark.parametrize("call", PARK_CALLS + RESUME_CALLS)
def test_target_dies(gpus, call):
    gpus = gpus()
    target = gpus.target()
    if call in RESUME_CALLS:
        ok(gpus, "park", target.pid)
    gpus.on(call, "kill target 9")
    done = vacate(gpus, "park" if call in PARK_CALLS else "resume", target.pid)
    assert done.returncode in (1, 4), done.err
    assert str(target.pid) in done.err
    assert target.wait() == -signal.SIGKILL
    # nothing of it stands in anybody's way
    other = gpus.target()
    ok(gpus, "park", other.pid)
    comes_back(gpus, other)


@pytest.mark.parametrize("call", PARK_CALLS + RESUME_CALLS)
def test_the_driver_refuses(gpus, call):
    gpus = gpus()
    target = gpus.target()
    if call in RESUME_CALLS:
        ok(gpus, "park", target.pid)
    gpus.on(call, "return 800")
    done = vacate(gpus, "park" if call in PARK_CALLS else "resume", target.pid)
    assert done.returncode == 1, done.err
    assert target.poll() is None


def test_two_at_once(gpus):
    gpus = gpus()
    target = gpus.target()
    process, _ = under_way(gpus, target, PARK_CALLS[1])
    for command in ("park", "resume"):
        err = refused(gpus, 1, command, target.pid)
        assert "another" in err
    gpus.touch("go")
    assert finish(process).returncode == 0
    comes_back(gpus, target)
