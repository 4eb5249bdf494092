"""`vacate ps`: who is on the GPUs, one process in full, and the forms of other tools;
on GPUs that are files (fake_gpus.py), with processes that sleep."""
import concurrent.futures
import ctypes.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import harness
import measure
import pytest
from fake_gpus import GIB, MIB, PATIENCE_S, UUIDS, eventually

SANITIZERS = ("AddressSanitizer", "LeakSanitizer", "runtime error:", "ThreadSanitizer")
NOBODY = "http://127.0.0.1:1"


def run(environment, *words, **more):
    """Without a server, unless more names one."""
    env = {key: value for key, value in {**environment, **more}.items()
           if key != "VACATE_SERVER" or "VACATE_SERVER" in more}
    done = subprocess.run([harness.find_vacate(), *map(str, words)], env=env, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S)
    for word in SANITIZERS:
        assert word not in done.stderr, done.stderr
    return done


def ps(gpus, *words, **more):
    done = run(gpus.environment(), "ps", *words, **more)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def table(text, header):
    """Rows of the table that begins with that header, as lists of words."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.split()[:2] == header)
    rows = []
    for line in lines[at + 1:]:
        if not line or ": " in line:
            break
        rows.append(line.split())
    return rows


def sample(gpus, pid, *samples):
    """(seconds ago, per cent)"""
    now = time.time()
    gpus.write(f"samples/{pid}", "".join(f"{int((now - ago) * 1e6)} {use}\n"
                                         for ago, use in samples))


def scripted(gpus, tmp_path, sizes, name="train.py", **keywords):
    script = tmp_path / name
    script.write_text("import time\ntime.sleep(3600)\n")
    return gpus.target(sizes, command=(sys.executable, "-u", str(script), "--epochs", "3"),
                       **keywords)


# ---- processes and devices ---------------------------------------------------

def test_processes_and_devices(gpus, tmp_path):
    gpus = gpus((80 * GIB, 600 * MIB), (40 * GIB, 0))
    busy = scripted(gpus, tmp_path, {0: 5 * GIB, 1: 2 * GIB})
    idle = gpus.target(3 * GIB)
    sample(gpus, busy.pid, (6, 0), (1, 37))
    sample(gpus, idle.pid, (300, 50), (5, 0))
    text = ps(gpus)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    rows = table(text, ["PID", "USER"])
    assert [row[:4] for row in rows] == [
        [str(busy.pid), user, "train.py", "gpu:0"], [str(busy.pid), user, "train.py", "gpu:1"],
        [str(idle.pid), user, "sleep", "gpu:0"]]
    assert rows[0][4:6] == ["5.0", "GiB"] and rows[0][-3:] == ["37%", "busy", "running"]
    assert rows[1][4:6] == ["2.0", "GiB"] and rows[1][6] == "-"     # its RAM was told above
    assert rows[2][4:6] == ["3.0", "GiB"] and rows[2][-4:-2] == ["0%", "5m"]
    assert rows[2][-1] == "running"
    rows = table(text, ["DEVICE", "NAME"])
    assert rows[0] == ["gpu:0", "Fake", "GPU", "80.0", "GiB", "8.6", "GiB", "71.4", "GiB", "600",
                       "MiB", "0%"]
    assert rows[1] == ["gpu:1", "Fake", "GPU", "40.0", "GiB", "2.0", "GiB", "38.0", "GiB", "0", "B",
                       "0%"]
    assert "gpu:0: 600 MiB are used by nobody listed" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_as_many_gpus_as_there_are(gpus):
    gpus = gpus(*[(80 * GIB, 0)] * 20)
    everywhere = gpus.target({index: (index + 1) * GIB for index in range(20)})
    document = json.loads(ps(gpus, "--json"))
    assert [device["uuid"] for device in document["devices"]] == UUIDS
    assert [device["used_bytes"] for device in document["devices"]] == [
        (index + 1) * GIB for index in range(20)]
    (process,) = document["processes"]
    assert [part["device"] for part in process["devices"]] == [f"gpu:{i}" for i in range(20)]
    text = ps(gpus)
    assert [row[3] for row in table(text, ["PID", "USER"])] == [f"gpu:{i}" for i in range(20)]
    assert len(table(text, ["DEVICE", "NAME"])) == 20
    assert "gpu:19" in ps(gpus, everywhere.pid)
    assert [gpu["uuid"] for gpu in json.loads(ps(gpus, "--gpustat"))["gpus"]] == UUIDS
    rows = [line.split() for line in ps(gpus, "--gputil").splitlines()]
    assert rows[0] == ["|", "ID", "|", "GPU", "|", "MEM", "|"]
    assert rows[-1] == ["|", "19", "|", "0%", "|", "25%", "|"] and len(rows) == 22


def test_the_driver_is_not_started(gpus):
    gpus = gpus()
    gpus.target()
    ps(gpus)
    ps(gpus, "--json")
    ps(gpus, gpus.targets[0].pid)
    assert gpus.called("nvmlInit_v2") == 3
    assert not [symbol for _, symbol, _ in gpus.calls() if symbol.startswith("cu")]


def test_nobody_is_there(gpus):
    text = ps(gpus((80 * GIB, 0)))
    assert "\nno process is on a GPU\n\nDEVICE " in text


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120])
def test_widths(gpus, tmp_path, columns):
    gpus = gpus((80 * GIB, 600 * MIB))
    scripted(gpus, tmp_path, GIB, name="a_script_with_a_name_that_is_longer_than_it_need_be.py")
    for words in ((), ("--uss",), (gpus.targets[0].pid,)):
        for line in ps(gpus, *words, COLUMNS=str(columns)).splitlines():
            assert len(line) <= columns, line


def test_as_json(gpus, tmp_path):
    gpus = gpus((80 * GIB, 600 * MIB), (40 * GIB, 0))
    busy = scripted(gpus, tmp_path, {0: 5 * GIB, 1: 2 * GIB})
    idle = gpus.target(3 * GIB)
    sample(gpus, busy.pid, (6, 0), (1, 37))
    sample(gpus, idle.pid, (6, 0))
    document = json.loads(ps(gpus, "--json"))
    assert (document["models"], document["workers"], document["server"]) == ([], [], None)
    assert "no vacate server answers at http://127.0.0.1:8321" == document["server_error"]
    assert document["gpu_error"] is None and document["driver_version"] == "580.159"
    assert document["host"]["total_bytes"] > document["host"]["available_bytes"] > 0
    first, second = document["processes"]
    assert (first["pid"], first["nvml_pid"], first["inner_pid"]) == (busy.pid, busy.pid, None)
    assert (first["name"], first["state"], first["uid"]) == ("train.py", "running", os.geteuid())
    assert first["rss_bytes"] > MIB and first["uss_bytes"] is None and not first["uss_late"]
    assert first["parked_bytes"] is None
    assert [(d["device"], d["uuid"], d["vram_bytes"], d["gpu_percent"], d["graphics"])
            for d in first["devices"]] == [("gpu:0", UUIDS[0], 5 * GIB, 37, False),
                                           ("gpu:1", UUIDS[1], 2 * GIB, 37, False)]
    assert second["pid"] == idle.pid
    (part,) = second["devices"]
    assert part["idle_at_least"] is True and 6000 <= part["idle_ms"] < 1000 * PATIENCE_S
    assert [(d["device"], d["index"], d["uuid"], d["name"], d["error"]) for d in
            document["devices"]] == [("gpu:0", 0, UUIDS[0], "Fake GPU", None),
                                     ("gpu:1", 1, UUIDS[1], "Fake GPU", None)]
    device = document["devices"][0]
    assert device["total_bytes"] == 80 * GIB and device["used_bytes"] == 8 * GIB + 600 * MIB
    assert device["free_bytes"] == 72 * GIB - 600 * MIB
    assert (device["listed_bytes"], device["unaccounted_bytes"]) == (8 * GIB, 600 * MIB)
    assert device["temperature_celsius"] is None and device["mig"] is False


def test_uss(gpus, tmp_path):
    gpus = gpus()
    target = scripted(gpus, tmp_path, GIB)
    gpus.put(2**22 + 5, GIB)    # beyond what the kernel gives; the driver drops it
    (process,) = json.loads(ps(gpus, "--uss", "--json"))["processes"]
    assert process["pid"] == target.pid and process["uss_late"] is False
    assert 0 < process["uss_bytes"] <= process["pss_bytes"] <= 2 * process["rss_bytes"]
    header = [line for line in ps(gpus, "--uss", COLUMNS="120").splitlines() if "PID" in line][0]
    assert header.split()[5:8] == ["RAM", "USS", "PSS"]


def test_parked_locked_and_lost(gpus):
    gpus = gpus((80 * GIB, 0))
    parked, locked, lost = gpus.target(5 * GIB), gpus.target(2 * GIB), gpus.target(3 * GIB)
    for target in (parked, lost):
        assert run(gpus.environment(), "park", target.pid).returncode == 0
    # Somebody takes the room inside of the restore; who parks dies inside of it.
    gpus.on("cuCheckpointProcessRestore", f"write devices {UUIDS[0]} {80 * GIB} {79 * GIB} Fake")
    assert run(gpus.environment(), "resume", lost.pid).returncode != 0
    assert gpus.broken(lost.pid)
    gpus.set_devices((80 * GIB, 0))
    gpus.on("cuCheckpointProcessCheckpoint", "kill caller 9")
    assert run(gpus.environment(), "park", locked.pid).returncode != 0
    assert gpus.state(locked.pid) == "locked"
    shown = {process["pid"]: process for process in json.loads(ps(gpus, "--json"))["processes"]}
    assert shown[parked.pid]["state"] == "parked" and shown[parked.pid]["devices"] == []
    assert shown[parked.pid]["parked_bytes"] == 5 * GIB and shown[parked.pid]["nvml_pid"] is None
    assert [row[-3:] for row in table(ps(gpus), ["PID", "USER"])
            if row[0] == str(parked.pid)] == [["parked", "5.0", "GiB"]]
    assert shown[lost.pid]["state"] == "failed" and shown[locked.pid]["state"] == "locked"
    # Resumed, it is like any other again.
    assert run(gpus.environment(), "resume", parked.pid).returncode == 0
    shown = {process["pid"]: process for process in json.loads(ps(gpus, "--json"))["processes"]}
    assert shown[parked.pid]["state"] == "running"
    assert shown[parked.pid]["devices"][0]["vram_bytes"] == 5 * GIB


LARGEST = """
import os, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.measured
def test_fifty_processes_take_little(gpus):
    gpus = gpus((80 * GIB, 0))
    for _ in range(50):
        gpus.target(GIB)
    # Started by a small process: what a fork takes along counts until exec.
    done = subprocess.run([sys.executable, "-S", "-c", LARGEST, harness.find_vacate(), "ps"],
                          env=gpus.environment(), capture_output=True, text=True, check=True,
                          timeout=PATIENCE_S)
    assert len(table(done.stdout, ["PID", "USER"])) == 50
    assert int(done.stderr) * 1024 <= 30 * MIB


# ---- with and without a server -----------------------------------------------

def test_no_server_was_named(gpus):
    """Whether one answers at the default address is this machine's affair."""
    text = ps(gpus((80 * GIB, 0)))
    lines = text.splitlines()
    if lines[0].startswith("no vacate server"):
        assert lines[0] == "no vacate server answers at http://127.0.0.1:8321"
        assert lines[1].startswith("host: ")
    assert "DEVICE" in text


def test_a_server_that_was_named_must_answer(gpus):
    gpus = gpus()
    for done in (run(gpus.environment(), "ps", "--server", NOBODY),
                 run(gpus.environment(), "ps", VACATE_SERVER=NOBODY),
                 run(gpus.environment(), "ps", "--json", VACATE_SERVER=NOBODY)):
        assert done.returncode == 3 and done.stdout == ""
        assert done.stderr == (f"vacate ps: no vacate server at {NOBODY}: connection refused; "
                               "start one with `vacate serve`\n")
    # The forms of other tools know no servers.
    assert ps(gpus, "--gputil", VACATE_SERVER=NOBODY).startswith("| ID |")


def test_with_a_server(gpus, start):
    """A worker's row tells its models, and the rest of the reply is as ever."""
    gpus = gpus((80 * GIB, 0))
    server = start()
    server.load("tiny/a")
    (worker,) = server.workers()
    gpus.put(worker, GIB)
    other = gpus.target(2 * GIB)
    text = ps(gpus, "--server", server.url)
    assert text.splitlines()[0].split()[0] == "NAME"
    rows = {row[0]: row[2] for row in table(text, ["PID", "USER"])}
    assert rows == {str(worker): "tiny/a", str(other.pid): "sleep"}
    server.load("tiny/b")
    rows = {row[0]: row[2:4] for row in table(ps(gpus, "--server", server.url), ["PID", "USER"])}
    assert rows[str(worker)] == ["2", "models"]
    document = json.loads(ps(gpus, "--server", server.url, "--json"))
    reply = server.ok("GET", "/models/ps")
    assert [model["name"] for model in document["models"]] == ["tiny/a", "tiny/b"]
    assert set(reply) < set(document) and document["server_error"] is None
    assert document["server"]["pid"] == reply["server"]["pid"]
    assert {process["pid"] for process in document["processes"]} == {worker, other.pid}


# ---- what is missing ---------------------------------------------------------

def bare():
    """This machine, without the driver of tests."""
    return {key: value for key, value in os.environ.items() if key != "FAKE_GPU_DIR"}


@pytest.mark.skipif(ctypes.util.find_library("nvidia-ml") is not None, reason="NVML is here")
def test_no_nvml():
    done = run(bare(), "ps")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "no GPU: NVML (libnvidia-ml.so.1) is not here"
    assert any(line.startswith("host: ") for line in done.stdout.splitlines())
    document = json.loads(run(bare(), "ps", "--json").stdout)
    assert document["processes"] == document["devices"] == []
    assert "libnvidia-ml.so.1 was not found" in document["gpu_error"]
    done = run(bare(), "ps", os.getpid())
    assert done.returncode == 0 and "VRAM       none: NVML" in done.stdout
    for form in ("--gpustat", "--gputil"):
        done = run(bare(), "ps", form)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert "libnvidia-ml.so.1 was not found" in done.stderr


def test_nvml_does_not_start(gpus):
    gpus = gpus()
    gpus.on("nvmlInit_v2", "always", "return 9")
    text = ps(gpus)
    assert text.splitlines()[-1] == ("no GPU: NVML does not start: the kernel's driver is not "
                                     "loaded (NVML error 9)")
    assert json.loads(ps(gpus, "--json"))["gpu_error"].endswith("(NVML error 9)")


def test_lists_that_are_refused(gpus):
    gpus = gpus((80 * GIB, 0))
    gpus.target(GIB)
    gpus.on("nvmlDeviceGetProcessUtilization", "always", "return 3")
    (row,) = table(ps(gpus), ["PID", "USER"])
    assert row[-3:] == ["-", "-", "running"]     # GPU and idle are not known
    gpus.on("nvmlDeviceGetComputeRunningProcesses_v3", "always", "return 4")
    text = ps(gpus)
    # The list of graphics processes is still told, and empty.
    assert "no process is on a GPU" in text and table(text, ["DEVICE", "NAME"])[0][9:11] == ["1.0",
                                                                                            "GiB"]


def test_no_gpud(gpus, tmp_path):
    text = ps(gpus(), VACATE_GPUD=str(tmp_path / "nothing"))
    assert text.splitlines()[-1].startswith("no GPU: VACATE_GPUD names ")


def test_a_gpud_that_dies(gpus, tmp_path):
    program = tmp_path / "gpud"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    text = ps(gpus(), VACATE_GPUD=str(program), COLUMNS="120")
    assert re.search(r"^no GPU: .*exited with status 7$", text, re.M)


SILENT = "#!/bin/sh\necho $$ >> {pids}\nexec sleep 3600\n"
NO_HELLO = "vacate-gpud said no hello within 10 s, so it was killed"


def test_a_gpud_that_says_nothing(gpus, tmp_path):
    """Four commands at once, since each waits its ten seconds."""
    gpus = gpus()
    target = gpus.target(GIB)
    program, pids = tmp_path / "gpud", tmp_path / "pids"
    program.write_text(SILENT.format(pids=pids))
    program.chmod(0o755)
    commands = [("ps",), ("park", target.pid), ("park", target.pid, "--json"),
                ("resume", "--tree", target.pid, "--json")]
    with concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
        shown, park, *documents = pool.map(
            lambda words: run(gpus.environment(), *words, VACATE_GPUD=str(program)), commands)
    assert shown.returncode == 0 and shown.stdout.splitlines()[-1] == f"no GPU: {NO_HELLO}"
    assert (park.returncode, park.stdout) == (1, "")
    assert park.stderr.splitlines()[-1] == f"vacate park: {NO_HELLO}"
    for done, operation in zip(documents, ("park", "resume")):
        assert done.returncode == 1 and done.stderr == f"vacate {operation}: {NO_HELLO}\n"
        assert json.loads(done.stdout) == {
            "operation": operation, "driver": "", "receipts": [],
            "error": {"code": "timeout", "message": NO_HELLO, "detail": ""}}
    killed = pids.read_text().split()
    assert len(killed) == 4 and not any(measure.alive(int(pid)) for pid in killed)
    assert gpus.state(target.pid) == "running"


def nvml_hangs(gpus, call):
    target = gpus.target(GIB)
    gpus.on(call, "always", "wait go")
    text = ps(gpus)
    if call == "nvmlShutdown":       # by then everything is known
        assert [row[0] for row in table(text, ["PID", "USER"])] == [str(target.pid)]
    else:
        assert text.splitlines()[-1] == ("no GPU: NVML did not answer in 10 s; dmesg may say what "
                                         "is wrong with a GPU")
    gpuds = {pid for pid, symbol, _ in gpus.calls() if symbol == call}
    # only a build with a sanitizer gives NVML back before it ends
    assert len(gpuds) == 1 or call == "nvmlShutdown"
    eventually(lambda: not any(measure.alive(pid) for pid in gpuds))


def test_nvml_hangs(gpus):
    """A GPU that is lost may keep NVML for ever, and vacate ps does not wait so long.
    Three at once, since each waits its ten seconds."""
    calls = ["nvmlInit_v2", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlShutdown"]
    machines = [gpus((80 * GIB, 0)) for _ in calls]
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(nvml_hangs, machines, calls))


# ---- forms of other tools ----------------------------------------------------

def test_gpustat(gpus, tmp_path):
    gpus = gpus((80 * GIB, 600 * MIB), (40 * GIB, 0))
    target = scripted(gpus, tmp_path, {0: 5 * GIB})
    document = json.loads(ps(gpus, "--gpustat"))
    assert list(document) == ["hostname", "driver_version", "query_time", "gpus"]
    assert document["driver_version"] == "580.159"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", document["query_time"])
    first, second = document["gpus"]
    assert list(first) == ["index", "uuid", "name", "temperature.gpu", "fan.speed",
                           "utilization.gpu", "utilization.enc", "utilization.dec", "power.draw",
                           "enforced.power.limit", "memory.used", "memory.total", "processes"]
    assert (first["index"], first["uuid"], first["name"]) == (0, UUIDS[0], "Fake GPU")
    assert (first["memory.used"], first["memory.total"]) == (5 * 1024 + 600, 80 * 1024)
    assert first["utilization.gpu"] == 0 and first["temperature.gpu"] is None
    (process,) = first["processes"]
    assert list(process) == ["username", "command", "full_command", "gpu_memory_usage",
                             "cpu_percent", "cpu_memory_usage", "pid"]
    assert process["pid"] == target.pid and process["gpu_memory_usage"] == 5 * 1024
    assert process["full_command"] == [sys.executable, "-u", str(tmp_path / "train.py"),
                                       "--epochs", "3"]
    assert process["command"] == os.path.basename(sys.executable)
    assert process["cpu_memory_usage"] > MIB and process["cpu_percent"] >= 0
    assert second["processes"] == []


def test_gputil(gpus):
    gpus = gpus((80 * GIB, 10 * GIB), (40 * GIB, 40 * GIB))
    assert ps(gpus, "--gputil") == ("| ID | GPU | MEM  |\n"
                                    "-------------------\n"
                                    "|  0 |  0% |  12% |\n"
                                    "|  1 |  0% | 100% |\n")


@pytest.mark.parametrize("words", [("--json", "--gpustat"), ("--gpustat", "--gputil"),
                                   ("1", "--gpustat"), ("1", "--uss"), ("1", "2"), ("x",), ("0",),
                                   ("-5",), ("+5",), (" 5",), ("99999999999999999999",)])
def test_wrong_usage(words):
    done = run(bare(), "ps", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("vacate ps: ") and done.stderr.count("\n") == 1


def test_a_full_disk(gpus):
    gpus = gpus()
    for words in ((), ("--json",), ("--gputil",), (os.getpid(),)):
        with open("/dev/full", "w") as full:
            done = subprocess.run([harness.find_vacate(), "ps", *map(str, words)], stdout=full,
                                  stderr=subprocess.PIPE, text=True, env=gpus.environment())
        assert done.returncode == 1
        assert done.stderr == "vacate: cannot write the output: No space left on device\n"


# ---- one process ---------------------------------------------------------------

HEAVY = """
import mmap, sys
weights = open(sys.argv[1], "rb")
mapped = mmap.mmap(weights.fileno(), 0, prot=mmap.PROT_READ)
total = sum(mapped[::4096])
block = bytearray(b"x") * (48 << 20)
shared = mmap.mmap(-1, 3 << 20)
shared.write(b"x" * (3 << 20))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def heavy(tmp_path):
    """48 MiB of its own, 3 MiB of shared memory, and 8 MiB of weights that are mapped."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(os.urandom(8 * MIB))
    script = tmp_path / "heavy.py"
    script.write_text(HEAVY)
    process = subprocess.Popen([sys.executable, str(script), str(weights)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.weights = weights
    yield process
    process.communicate("", timeout=PATIENCE_S)


def test_one_process(gpus, heavy):
    gpus = gpus((80 * GIB, 0))
    gpus.put(heavy.pid, 5 * GIB)
    sample(gpus, heavy.pid, (4, 20), (2, 0))
    document = json.loads(ps(gpus, heavy.pid, "--json"))
    groups = {group["group"]: group for group in document["memory"]}
    own = groups["anonymous"]["private_bytes"] + groups.get("heap", {"private_bytes": 0})[
        "private_bytes"]
    assert own >= 48 * MIB
    assert groups["shared"]["rss_bytes"] >= 3 * MIB
    assert groups["weights"]["mapped_bytes"] == groups["weights"]["rss_bytes"] == 8 * MIB
    assert groups["weights"]["private_bytes"] <= 8 * MIB
    for name in ("mappings", "mapped_bytes", "rss_bytes", "private_bytes", "swap_bytes"):
        assert groups["total"][name] == sum(group[name] for group in document["memory"]
                                            if group["group"] != "total")
    # The kernel's own sum, of a moment later.
    assert abs(groups["total"]["rss_bytes"] - measure.smaps_rollup(heavy.pid)["Rss"]) <= 4 * MIB
    (file,) = document["weights"]
    assert file["path"] == str(heavy.weights) and file["cached_bytes"] in (8 * MIB, None)
    assert document["name"] == "heavy.py" and document["uid"] == os.geteuid()
    commands = [remedy["command"] for remedy in document["remedies"]]
    assert commands[0] == f"vacate park {heavy.pid}"
    assert document["remedies"][0]["bytes"] == 5 * GIB
    assert document["processes"][0]["devices"][0]["vram_bytes"] == 5 * GIB
    text = ps(gpus, heavy.pid)
    lines = text.splitlines()
    assert lines[0] == f"Process    {heavy.pid}, heavy.py"
    assert "State      running, " in text
    assert re.search(r"^VRAM       5\.0 GiB on gpu:0 \(Fake GPU\), use 0%, idle \d", text, re.M)
    assert "a CUDA context, about" in text
    assert f"  5.0 GiB of VRAM: vacate park {heavy.pid}" in lines
    assert [row[0] for row in table(text, ["MEMORY", "MAPPINGS"])][-1] == "total"
    assert all(len(line) <= 80 for line in lines)


def test_an_h100_context_is_about_so_large(gpus, heavy):
    gpus = gpus((80 * GIB, 0))
    gpus.write("devices", f"{UUIDS[0]} {80 * GIB} 0 NVIDIA H100 80GB HBM3\n")
    gpus.put(heavy.pid, 618 * MIB)
    assert "the CUDA context: about 518 MiB; its data and libraries: about 100 MiB" in \
        ps(gpus, heavy.pid)


def test_a_parked_process(gpus):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(5 * GIB)
    assert run(gpus.environment(), "park", target.pid).returncode == 0
    text = ps(gpus, target.pid)
    assert "VRAM       none; parked with 5.0 GiB" in text and "State      parked, " in text
    assert f"vacate resume {target.pid}" in text


def test_a_process_without_a_gpu(gpus, heavy):
    text = ps(gpus(), heavy.pid)
    assert "State      not on a GPU, " in text and "VRAM       none\n" in text
    assert "vacate park" not in text


def test_no_such_process(gpus):
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = run(gpus().environment(), "ps", gone.pid)
    assert done.returncode == 4
    assert done.stderr == f"vacate ps: there is no process {gone.pid}\n"


def test_a_thread_is_no_process(gpus):
    gpus = gpus()
    target = gpus.target(None, command=[
        sys.executable, "-c", "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(3600,)).start()\ntime.sleep(3600)"])
    tasks = pathlib.Path(f"/proc/{target.pid}/task")
    eventually(lambda: len(list(tasks.iterdir())) == 2)
    (thread,) = {task.name for task in tasks.iterdir()} - {str(target.pid)}
    done = run(gpus.environment(), "ps", thread)
    assert done.returncode == 4
    assert done.stderr == f"vacate ps: {thread} is no process, but a thread of {target.pid}\n"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"),
                    reason="needs root, to be somebody else")
def test_somebody_elses_process(gpus, tmp_path):
    """What may not be looked at is said, and the rest is shown."""
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(GIB)
    environment = gpus.environment()
    for path in (gpus.folder, *gpus.folder.rglob("*")):
        path.chmod(0o777)
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           harness.find_vacate(), "ps", str(target.pid)], env=environment,
                          capture_output=True, text=True, timeout=PATIENCE_S, cwd="/")
    if "cannot be executed" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("the programs cannot be reached by others")
    assert done.returncode == 0, done.stderr
    assert "Its memory is for its user and root to look at" in done.stdout
    assert f"Process    {target.pid}, sleep" in done.stdout
