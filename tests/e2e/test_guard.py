"""`vacate guard`: who is parked, who is left alone, and what is told of it; on GPUs that
are files (fake_gpus.py), with processes that sleep."""
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

import harness
import measure
import pytest
from fake_gpus import GIB, MIB, PATIENCE_S, UUIDS, children, eventually
from test_hold import PARK_CALLS, RESUME_CALLS, SANITIZERS, comes_back, ok, vacate

LOOK = "nvmlDeviceGetComputeRunningProcesses_v3"
SAMPLES = "nvmlDeviceGetProcessUtilization"


class Guard:
    """A guard that looks five times a second; its journal and its log."""

    def __init__(self, gpus, *options, idle="1s", **keywords):
        self.gpus, self.path = gpus, gpus.folder / "journal"
        self.log, self.printed = "", ""
        self.process = subprocess.Popen(
            [harness.find_vacate(), "guard", "--idle", idle, "--interval", "200ms",
             "--journal", self.path, *map(str, options)], env=gpus.environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            **keywords)
        self.readers = [threading.Thread(target=self.read, args=(name, file)) for name, file in
                        (("log", self.process.stderr), ("printed", self.process.stdout))]
        for reader in self.readers:
            reader.start()

    def read(self, name, file):
        for line in file:
            setattr(self, name, getattr(self, name) + line)

    def lines(self):
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def events(self):
        return [(line["event"], line["pid"]) for line in self.lines()]

    def wait(self, *events):
        eventually(lambda: [e for e in self.events() if e in events] or self.process.poll()
                   is not None)
        assert [e for e in self.events() if e in events], self.log
        return next(line for line in self.lines() if (line["event"], line["pid"]) in events)

    def looks(self, count):
        """So many more looks."""
        before = self.gpus.called(LOOK)
        eventually(lambda: self.gpus.called(LOOK) >= before + count)

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None and number:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        for reader in self.readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        for word in SANITIZERS:
            assert word not in self.log, self.log
        return status


@pytest.fixture
def guard():
    made = []

    def begin(*arguments, **keywords):
        made.append(Guard(*arguments, **keywords))
        return made[-1]

    yield begin
    for one in made:
        if not one.process.stdout.closed:
            assert one.stop() == 0, one.log


def sample(gpus, pid, *samples):
    """(seconds ago, per cent)"""
    now = time.time()
    gpus.write(f"samples/{pid}", "".join(f"{int((now - ago) * 1e6)} {use}\n"
                                         for ago, use in samples))


def busy(gpus, pid):
    """Used now and for a day to come."""
    sample(gpus, pid, (3600, 0), (-86400, 50))


# ---- who is parked ------------------------------------------------------------

def test_parks_who_is_idle(gpus, guard):
    gpus = gpus((8 * GIB, 100 * MIB))
    target, other = gpus.target(500 * MIB), gpus.target(300 * MIB)
    busy(gpus, other.pid)
    watch = guard(gpus, "--json")
    line = watch.wait(("parked", target.pid))
    assert gpus.state(target.pid) == "parked" and target.poll() is None
    assert line["idle_ms"] >= 1000 and line["vram_bytes"] == 500 * MIB
    assert line["devices"] == [{"device": "gpu:0", "uuid": UUIDS[0], "vram_bytes": 500 * MIB}]
    assert (line["name"], line["command"]) == ("sleep", "sleep 3600")
    assert line["resume"] == f"vacate resume {target.pid}" and line["took_ms"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    watch.looks(10)
    assert gpus.state(other.pid) == "running"
    assert watch.events() == [("parked", target.pid)]
    # it is told how to get it back
    eventually(lambda: f"`vacate resume {target.pid}` brings it back" in watch.log)
    text = ok(gpus, "ps").out
    (row,) = [row for row in text.splitlines() if row.split()[:1] == [str(target.pid)]]
    assert row.endswith("parked 500 MiB by guard")
    document = json.loads(ok(gpus, "ps", "--json").out)
    (process,) = [p for p in document["processes"] if p["pid"] == target.pid]
    assert process["parked_by"] == "guard" and process["parked_by_user"]
    assert "parked with 500 MiB, by guard" in ok(gpus, "ps", target.pid).out
    assert watch.stop() == 0
    assert json.loads(watch.printed) == line
    assert gpus.state(target.pid) == "parked"        # it stays so
    comes_back(gpus, target)


def test_nobody_by_a_look_that_is_old(gpus, guard):
    """While one is parked for longer than the interval, the other begins to work."""
    gpus = gpus()
    pids = {gpus.target().pid, gpus.target().pid}
    gpus.on(PARK_CALLS[1], "sleep 1000",
            *(f"write samples/{pid} {int(time.time() + 86400) * 10**6} 50" for pid in pids))
    watch = guard(gpus)
    first = watch.wait(*(("parked", pid) for pid in pids))["pid"]
    watch.looks(3)
    assert [gpus.state(pid) for pid in pids - {first}] == ["running"]


def test_told_in_its_journal_first(gpus):
    """Who reads its standard output is gone; it ends by that, and not before it is written."""
    gpus = gpus()
    target, path = gpus.target(), gpus.folder / "journal"
    watch = subprocess.Popen([harness.find_vacate(), "guard", "--idle", "1s", "--interval", "200ms",
                              "--json", "--journal", path], env=gpus.environment(),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
    watch.stdout.close()
    assert watch.wait(PATIENCE_S) == -signal.SIGPIPE
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["parked"]
    comes_back(gpus, target)


def test_not_before_its_time(gpus, guard):
    gpus = gpus()
    target = gpus.target()
    watch = guard(gpus, idle="1h")
    watch.looks(20)
    assert gpus.state(target.pid) == "running" and not watch.lines()


def test_looks_cost_no_driver(gpus, guard):
    gpus = gpus()
    busy(gpus, gpus.target().pid)
    watch = guard(gpus)
    watch.looks(10)
    calls = gpus.calls()
    assert not [symbol for _, symbol, _ in calls if symbol.startswith("cu")]
    assert gpus.called("nvmlInit_v2") == 1


def test_resumed_by_its_user(gpus, guard):
    """It has the whole time again."""
    gpus = gpus()
    target = gpus.target()
    watch = guard(gpus, idle="3s")
    watch.wait(("parked", target.pid))
    at = time.monotonic()
    ok(gpus, "resume", target.pid)
    watch.wait(("resumed", target.pid))
    eventually(lambda: watch.events().count(("parked", target.pid)) == 2)
    assert time.monotonic() - at >= 3
    assert watch.events() == [("parked", target.pid), ("resumed", target.pid),
                              ("parked", target.pid)]
    watch.stop()
    comes_back(gpus, target)


def test_parked_before_it_came(gpus, guard):
    """Somebody else's doing is seen, too."""
    gpus = gpus()
    target = gpus.target()
    ok(gpus, "park", target.pid)
    watch = guard(gpus, idle="1h")
    watch.looks(3)
    ok(gpus, "resume", target.pid)
    watch.wait(("resumed", target.pid))


def test_use_ends_the_idle_time(gpus, guard):
    gpus = gpus()
    target = gpus.target()
    busy(gpus, target.pid)
    watch = guard(gpus, idle="2s")
    watch.looks(10)
    at = time.monotonic()
    sample(gpus, target.pid, (3600, 0), (0, 50))
    line = watch.wait(("parked", target.pid))
    assert time.monotonic() - at >= 1.99 and line["idle_ms"] >= 2000    # of two clocks


# ---- who is left alone ----------------------------------------------------------

def test_excluded(gpus, guard, tmp_path):
    gpus = gpus()
    kept = [gpus.target(10 * MIB, command=("sleep", "4711")), gpus.target(20 * MIB, command=(
        "python3", "-c", "import time; time.sleep(3600) # keep-me"))]
    target = gpus.target(30 * MIB)
    watch = guard(gpus, "--exclude", "sleep 47*, *keep-me*")
    watch.wait(("parked", target.pid))
    watch.looks(8)
    assert watch.events() == [("parked", target.pid)]
    assert [gpus.state(one.pid) for one in kept] == ["running"] * 2


def test_vacates_own(gpus, guard, tmp_path):
    """A worker, and what a server runs as its worker."""
    gpus = gpus()
    for name in ("vacate-worker", "vacate"):
        shutil.copy(shutil.which("sh"), tmp_path / name)
    (tmp_path / "vacate-worker").unlink()
    shutil.copy(shutil.which("sleep"), tmp_path / "vacate-worker")
    worker = gpus.target(10 * MIB, command=(str(tmp_path / "vacate-worker"), "3600"))
    server = gpus.target(None, command=(str(tmp_path / "vacate"), "-c", "sleep 3600 & wait"))
    eventually(lambda: len(measure.children(server.pid)) == 1)
    (child,) = measure.children(server.pid)
    gpus.put(child, 20 * MIB)
    target = gpus.target(30 * MIB)
    watch = guard(gpus)
    watch.wait(("parked", target.pid))
    watch.looks(8)
    assert watch.events() == [("parked", target.pid)]
    assert gpus.state(worker.pid) == gpus.state(child) == "running"
    os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_one_user(gpus, guard):
    gpus = gpus()
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    theirs, own = gpus.target(10 * MIB, **nobody), gpus.target(20 * MIB)
    watch = guard(gpus, "--user", "65534")
    line = watch.wait(("parked", theirs.pid))
    assert line["user"] == "nobody"
    watch.looks(8)
    assert gpus.state(own.pid) == "running"
    watch.stop()
    watch = guard(gpus)                    # root, and of nobody in particular
    watch.wait(("parked", own.pid))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_processes_of_others(gpus, guard):
    gpus = gpus()
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    if subprocess.run([harness.find_vacate(), "--version"], capture_output=True,
                      **nobody).returncode != 0:
        pytest.skip("others may not run what was built here")
    own, others = gpus.target(10 * MIB, **nobody), gpus.target(20 * MIB)
    for folder in (gpus.folder, gpus.folder / "hold"):
        folder.chmod(0o777)
    os.chown(gpus.folder / "hold", 65534, 65534)
    (gpus.folder / "hold").chmod(0o700)
    watch = guard(gpus, **nobody)
    watch.wait(("parked", own.pid))
    watch.looks(8)
    assert watch.events() == [("parked", own.pid)] and gpus.state(others.pid) == "running"
    done = subprocess.run([harness.find_vacate(), "guard", "--user", "root"], capture_output=True,
                          text=True, env=gpus.environment(), **nobody)
    assert done.returncode == 2 and "only root" in done.stderr


def test_use_that_is_not_told(gpus, guard):
    gpus = gpus()
    target = gpus.target()
    gpus.on(SAMPLES, "always", "return 3")
    watch = guard(gpus)
    line = watch.wait(("left", target.pid))
    assert "does not tell how much each process uses" in line["reason"]
    watch.looks(15)
    assert watch.events() == [("left", target.pid)]      # said once
    assert gpus.state(target.pid) == "running"


def test_samples_that_do_not_meet(gpus, guard):
    """Whoever used the GPU between two looks may have been forgotten."""
    gpus = gpus()
    target, other = gpus.target(10 * MIB), gpus.target(20 * MIB)
    sample(gpus, other.pid, (-86400, 0))        # the oldest: later than every look
    watch = guard(gpus)
    line = watch.wait(("left", target.pid))
    assert "do not reach back" in line["reason"]
    watch.looks(3)
    assert gpus.state(target.pid) == gpus.state(other.pid) == "running"
    assert ("parked", target.pid) not in watch.events()


def test_dry_run(gpus, guard):
    gpus = gpus()
    target = gpus.target()
    watch = guard(gpus, "--dry-run", idle="2s")
    line = watch.wait(("would_park", target.pid))
    assert line["idle_ms"] >= 2000
    watch.looks(3)
    assert gpus.state(target.pid) == "running" and gpus.called(PARK_CALLS[0]) == 0


# ---- when room is asked for --------------------------------------------------------

def test_only_while_room_is_short(gpus, guard):
    gpus = gpus((1000 * MIB, 0))
    first, second = gpus.target(300 * MIB), gpus.target(300 * MIB)
    sample(gpus, second.pid, (3600, 0), (0.0, 50))     # idle for less long
    watch = guard(gpus, "--when-asked", "--room", "300MiB")
    eventually(lambda: gpus.called(LOOK) > 15)
    assert not watch.lines()
    third = gpus.target(200 * MIB)
    busy(gpus, third.pid)
    watch.wait(("parked", first.pid))
    watch.looks(8)
    assert watch.events() == [("parked", first.pid)]   # never more than needed
    assert gpus.state(second.pid) == "running"


# ---- refusals and ends ----------------------------------------------------------------

def test_the_driver_refuses(gpus, guard):
    gpus = gpus()
    target = gpus.target()
    gpus.on(PARK_CALLS[1], "always", "return 801")
    began = time.monotonic()
    watch = guard(gpus, idle="3s")
    line = watch.wait(("refused", target.pid))
    assert line["code"] and line["reason"]
    watch.looks(6)
    lines = len(watch.lines())
    assert lines <= (time.monotonic() - began) // 3    # not again and again
    assert gpus.state(target.pid) == "running"
    (gpus.folder / "on" / PARK_CALLS[1]).unlink()
    watch.wait(("parked", target.pid))                 # but later


def test_its_calls_do_not_end(gpus, guard):
    gpus = gpus()
    target = gpus.target()
    gpus.put(target.pid, 500 * MIB, busy=1)
    watch = guard(gpus)
    line = watch.wait(("refused", target.pid))
    assert line["code"] == "timeout" and gpus.state(target.pid) == "running"


@pytest.mark.parametrize("call", PARK_CALLS)
def test_gpud_is_killed(gpus, guard, call):
    """No process is left with calls that wait."""
    gpus = gpus()
    target = gpus.target()
    gpus.on(call, "kill caller 9")
    watch = guard(gpus, idle="2s")
    watch.wait(("refused", target.pid), ("parked", target.pid))
    assert gpus.state(target.pid) in ("running", "parked")
    watch.stop()
    comes_back(gpus, target)


@pytest.mark.parametrize("call", PARK_CALLS)
def test_told_to_end_meanwhile(gpus, guard, call):
    gpus = gpus()
    target = gpus.target()
    gpus.on(call, "touch here", "wait go")
    watch = guard(gpus)
    gpus.wait("here")
    watch.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert watch.process.poll() is None      # until things are in order
    gpus.touch("go")
    assert watch.stop(0) == 0
    (line,) = watch.lines()
    assert (line["event"], gpus.state(target.pid)) in (("put_back", "running"),
                                                       ("parked", "parked"))
    comes_back(gpus, target)


def test_nohup(gpus, guard):
    """Who starts it with SIGHUP ignored does not want it ended by that."""
    gpus = gpus()
    watch = guard(gpus, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    watch.looks(1)
    gpud = children(watch.process.pid)
    for pid in (watch.process.pid, *gpud):      # as a terminal that goes away does
        os.kill(pid, signal.SIGHUP)
    watch.looks(3)
    assert watch.process.poll() is None and children(watch.process.pid) == gpud


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_end(gpus, guard, number):
    gpus = gpus()
    watch = guard(gpus)
    eventually(lambda: "watches" in watch.log)
    assert watch.stop(number) == 0
    assert f"ends (signal {int(number)})" in watch.log


def test_killed_meanwhile(gpus, guard):
    gpus = gpus()
    target = gpus.target()
    gpus.on(PARK_CALLS[1], "touch here", "wait go")
    watch = guard(gpus)
    gpus.wait("here")
    watch.process.kill()
    gpus.touch("go")
    watch.stop()
    eventually(lambda: gpus.state(target.pid) in ("running", "parked"))
    eventually(lambda: not any(f.name.endswith(".lock") for f in (gpus.folder / "hold").iterdir()
                               if f.name.startswith("vacate-process")))
    comes_back(gpus, target)


def test_its_gpud_dies(gpus, guard):
    """What was seen before counts no more."""
    gpus = gpus()
    target = gpus.target()
    watch = guard(gpus, idle="4s")
    watch.looks(5)
    killed = [time.time()]
    while len(killed) < 4 and not watch.lines():    # a slow machine may come to an end of 4 s
        at = time.time()
        gpus.on(LOOK, "kill caller 9")
        eventually(lambda: not (gpus.folder / "on" / LOOK).exists())
        killed.append(at)
        watch.looks(2)
    eventually(lambda: "nothing can be seen" in watch.log and "seen again" in watch.log)
    line = watch.wait(("parked", target.pid))
    began = datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp() \
        - line["took_ms"] / 1000
    assert began - max(at for at in killed[1:] if at < began) >= 3.9


def test_unit_and_program_agree(gpus):
    """What ExecStart= of vacate-guard.service says is taken."""
    gpus = gpus()
    unit = (pathlib.Path(__file__).resolve().parents[2] / "systemd" / "vacate-guard.service.in")
    line = next(line for line in unit.read_text(encoding="utf-8").splitlines()
                if line.startswith("ExecStart="))
    words = line.removeprefix("ExecStart=@bindir@/vacate ").replace("/var/lib/vacate-guard",
                                                                    str(gpus.folder)).split()
    watch = subprocess.Popen([harness.find_vacate(), *words], env=gpus.environment(),
                             stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert "watches" in watch.stderr.readline()
    watch.send_signal(signal.SIGTERM)
    watch.communicate(timeout=PATIENCE_S)
    assert watch.returncode == 0 and (gpus.folder / "guard.jsonl").exists()


def test_no_driver(gpus):
    gpus = gpus()
    done = vacate(gpus, "guard", environment={"LD_LIBRARY_PATH": ""})
    assert done.returncode == 1 and done.err.startswith("vacate guard: ")


def test_its_journal_is_rotated(gpus, guard):
    gpus = gpus()
    targets = [gpus.target(10 * MIB) for _ in range(4)]
    watch = guard(gpus, "--journal-max", "600", "--journal-keep", "9")
    eventually(lambda: all(f"`vacate resume {target.pid}`" in watch.log for target in targets))
    watch.stop()
    files = sorted(gpus.folder.glob("journal*"))
    assert len(files) == 4
    assert {json.loads(file.read_text())["pid"] for file in files} == {t.pid for t in targets}


def test_wrong_usage(gpus):
    gpus = gpus()
    for words in (["--idle", "soon"], ["--idle", "0s"], ["--interval", "-1s"],
                  ["--user", "no-such-user-here"], ["--room", "8GiB"],
                  ["--when-asked", "--room", "much"], ["--journal-keep", "1000"],
                  ["--journal-max", "x"], ["17"]):
        done = vacate(gpus, "guard", *words)
        assert done.returncode == 2, (words, done.err)
    done = vacate(gpus, "guard", "--journal", "/no/such/folder/x")
    assert done.returncode == 1 and "/no/such/folder/x" in done.err
    assert gpus.calls() == []
