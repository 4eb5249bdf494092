"""A server that stays: what its service manager is told, how it ends, and what
it makes of time in which it stood still. The service manager is a socket."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import time

import harness
import measure
import pytest

from conftest import ROOT, check_end
from test_faults import in_work, long_work, metrics
from test_supervisor import fake, works  # noqa: F401 - a fixture

TEXTS = ["The harbour is quiet.", "A lighthouse by the sea"]


class Manager:
    """A service manager's end of NOTIFY_SOCKET; name may begin with '@'."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.environment = {"NOTIFY_SOCKET": name}

    def hear(self, timeout_s=60):
        """The next message as (time, {variable: value}), or None."""
        if not select.select([self.socket], [], [], timeout_s)[0]:
            return None
        text = self.socket.recv(4096).decode()
        assert text.endswith("\n")
        return time.monotonic(), dict(line.split("=", 1) for line in text.splitlines())

    def hear_all(self, seconds):
        """What comes in that time."""
        end, heard = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            if (message := self.hear(left)):
                heard.append(message)
        return heard

    def wait_for(self, variable, timeout_s=60):
        """The first message that has it, others on the way dropped."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            message = self.hear(left)
            if message and variable in message[1]:
                return message[1]
        raise AssertionError(f"{variable} was not said")


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@vacate-{os.getpid()}"
    if len(name) > 107:
        pytest.skip("the directory of the tests has too long a path for sockets")
    it = Manager(name)
    yield it
    it.socket.close()


# ---- sd_notify ----

@pytest.mark.threads
def test_life(start, manager):
    server = start(env=manager.environment)
    said = manager.wait_for("READY")
    assert said == {"READY": "1", "STATUS": "0 models resident"}
    server.embed("tiny/a", TEXTS)
    assert manager.wait_for("STATUS")["STATUS"] == "1 model resident: tiny/a"
    server.embed("tiny/b", TEXTS)
    status = manager.wait_for("STATUS")["STATUS"]
    assert status in ("2 models resident: tiny/a, tiny/b", "2 models resident: tiny/b, tiny/a")
    (worker,) = server.workers()
    assert b"NOTIFY_SOCKET" not in pathlib.Path(f"/proc/{worker}/environ").read_bytes()
    assert b"NOTIFY_SOCKET" in pathlib.Path(f"/proc/{server.pid}/environ").read_bytes()
    assert manager.hear(1.5) is None    # no watchdog was asked for, and nothing happens

    before_us = time.monotonic_ns() // 1000
    server.process.send_signal(signal.SIGHUP)
    _, first = manager.hear()
    _, second = manager.hear()
    assert first["RELOADING"] == "1" and set(first) == {"RELOADING", "MONOTONIC_USEC"}
    assert before_us <= int(first["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert second["READY"] == "1" and second["STATUS"] == status

    server.process.send_signal(signal.SIGTERM)
    said = [manager.hear()[1]]
    assert server.process.wait(60) == 0
    said += [message for _, message in manager.hear_all(0.1)]
    assert said[0]["STOPPING"] == "1" and "READY" not in said[0]
    assert any(int(message.get("EXTEND_TIMEOUT_USEC", 0)) > 5_000_000 for message in said)


def test_many_names_in_the_status(start, manager, zoo, tmp_path):
    """Whole names, as many as fit."""
    name = "x" * 80
    for letter in "abcdef":
        shutil.copytree(zoo.path / "tiny" / "a", tmp_path / "models" / (name + letter))
    server = start(models=tmp_path / "models", env=manager.environment)
    for letter in "abcdef":
        server.load(name + letter)
    while not (status := manager.wait_for("STATUS")["STATUS"]).startswith("6 models resident: "):
        pass
    assert status.endswith(", ...")
    assert len(status) < 256
    assert all(re.fullmatch("x{80}[a-f]", part)
               for part in status.removesuffix(", ...").split(": ")[1].split(", "))


def test_watchdog(start, manager):
    """At half of the interval, from the loop: one that stands still says nothing."""
    server = start(env={**manager.environment, "WATCHDOG_USEC": "2000000"})
    manager.wait_for("READY")
    heard = [manager.hear() for _ in range(4)]
    assert all(message == {"WATCHDOG": "1"} for _, message in heard)
    times = [at for at, _ in heard]
    assert times[-1] - times[0] > 2.5 and all(b - a < 2 for a, b in zip(times, times[1:]))
    os.kill(server.pid, signal.SIGSTOP)
    manager.hear_all(0.1)
    assert manager.hear(1.5) is None
    os.kill(server.pid, signal.SIGCONT)
    assert manager.wait_for("WATCHDOG")
    # A load, an unload and requests do not hold it up.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.embed, f"tiny/{'abc'[i % 3]}", TEXTS) for i in range(60)]
        times = [at for at, message in manager.hear_all(2.5) if "WATCHDOG" in message]
        for one in asked:
            one.result()
    assert times and all(b - a < 2 for a, b in zip(times, times[1:]))


def test_watchdog_of_another_process(start, manager):
    """WATCHDOG_PID is not ours; a wrong one is not, either."""
    server = start(env={**manager.environment, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"})
    manager.wait_for("READY")
    assert manager.hear(0.7) is None
    server.embed("tiny/a", TEXTS)
    (worker,) = server.workers()
    assert b"WATCHDOG" not in pathlib.Path(f"/proc/{worker}/environ").read_bytes()


def test_not_ready_when_it_does_not_start(zoo, tmp_path, manager):
    with pytest.raises(harness.StartError):
        harness.Server(zoo.path, tmp_path / "log", "--host", "0.0.0.0", env=manager.environment)
    assert manager.hear(0.2) is None


def test_service_manager_that_does_not_listen(start, tmp_path):
    """It is no reason not to serve."""
    server = start(env={"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "100000"})
    time.sleep(0.5)
    assert len(server.embed("tiny/a", TEXTS)) == 2
    assert server.stderr().count("the service manager cannot be told") == 1


# ---- the unit ----

UNIT = ROOT / "systemd" / "vacate.service.in"


def unit_settings():
    """Settings of the unit: name -> list of values."""
    settings = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", "[")):
            settings.setdefault(name, []).append(value)
    return settings


@pytest.mark.parametrize("source", [UNIT, UNIT.parent / "vacate-guard.service.in"])
def test_unit_is_sound(tmp_path, source):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / source.name.removesuffix(".in")
    text = source.read_text(encoding="utf-8").replace("@bindir@/vacate", str(harness.find_vacate()))
    unit.write_text(text)
    names = [unit]
    if source == UNIT:
        names.append(shutil.copy(ROOT / "systemd" / "vacate.socket", tmp_path))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *map(str, names)],
                          capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_unit_and_program_agree(start, manager, tmp_path):
    """What ExecStart= says is taken, in the environment that the unit describes."""
    settings = unit_settings()
    assert settings["Type"] == ["notify"] and settings["OOMPolicy"] == ["continue"]
    assert settings["KillMode"] == ["mixed"]
    drain_s = 30    # --drain-timeout's default, which the manual tells
    assert "after SIGTERM (30s)" in (ROOT / "man" / "vacate-serve.1").read_text(encoding="utf-8")
    assert int(settings["TimeoutStopSec"][0]) >= drain_s + 5 + 2
    (command,) = settings["ExecStart"]
    state, run = tmp_path / "state", tmp_path / "run"
    words = command.replace("/var/lib/vacate", str(state)).replace("%t", str(run)).split()
    assert words[:2] == ["@bindir@/vacate", "serve"]
    for directory in settings["StateDirectory"][0].split():
        (state.parent / directory.replace("vacate", "state", 1)).mkdir(parents=True)
    for directory in settings["RuntimeDirectory"]:
        (run / directory).mkdir(parents=True)
    if len(str(run)) > 80:
        pytest.skip("the directory of the tests has too long a path for sockets")
    interval_us = int(settings["WatchdogSec"][0]) * 1_000_000
    server = start(*words[2:], env={**manager.environment, "WATCHDOG_USEC": str(interval_us)})
    assert manager.wait_for("READY") and manager.wait_for("WATCHDOG")
    assert server.addresses[1] == f"unix:{run}/vacate/vacate.sock"
    server.embed("tiny/a", TEXTS)
    server.unload("tiny/a")
    assert json.loads((state / "receipts.jsonl").read_text())["model"] == "tiny/a"
    check_end(server)


@pytest.mark.installed
def test_units_are_installed(installed):
    (unit,) = installed.root.rglob("vacate.service")
    assert unit.parent == installed.prefix / "lib" / "systemd" / "system"
    assert (unit.parent / "vacate.socket").is_file()
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    program = line.removeprefix("ExecStart=").split()[0]
    assert (installed.root / program.lstrip("/")).samefile(installed.vacate)


# ---- the end ----

@pytest.mark.threads
def test_end_has_a_limit(start, tmp_path):
    """A worker that hangs, clients that neither send nor read, connections over TCP
    and over a Unix socket: the end comes drain-timeout and 5 s after SIGTERM at most."""
    path = tmp_path / "socket"
    if len(str(path)) > 107:
        pytest.skip("the directory of the tests has too long a path for sockets")
    server = start("--host", f"127.0.0.1,unix:{path}", "--drain-timeout", "1s")
    server.embed("tiny/a", TEXTS)
    (worker,) = server.workers()
    body = json.dumps({"model": "tiny/a", "input": TEXTS}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        def client(unix, data):
            if unix:
                it = socket.socket(socket.AF_UNIX)
                it.connect(str(path))
            else:
                it = socket.create_connection(("127.0.0.1", server.port))
            it.settimeout(60)
            it.sendall(data)
            return stack.enter_context(it)

        os.kill(worker, signal.SIGSTOP)
        waiting = [client(unix, head + body) for unix in (False, True)]
        for unix in (False, True):
            client(unix, b"")
            client(unix, head[:30])
            client(unix, head + body[:5])
        # with that which asks: all clients, and those whose head has come
        measure.wait_until(lambda: metrics(server)["vacate_http_connections"] == 9 and
                           metrics(server)["vacate_http_requests_in_flight"] == 5, "them")
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        measure.wait_until(lambda: not path.exists(), "the socket's end")
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", server.port))
        for one in waiting:
            assert one.recv(100).startswith(b"HTTP/1.1 503")
        assert 1 <= time.monotonic() - started < measure.patience(5)
        server.process.wait(60)
        took = time.monotonic() - started
    assert took < 1 + 5 + measure.patience(10), took
    assert not measure.alive(worker)


@pytest.mark.threads
def test_end_over_a_unix_socket_drains(start, tmp_path):
    path = tmp_path / "socket"
    if len(str(path)) > 107:
        pytest.skip("the directory of the tests has too long a path for sockets")
    server = start("--host", f"unix:{path}")
    texts = long_work(server)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = in_work(server, pool, texts)
        server.process.send_signal(signal.SIGTERM)
        assert len(asked.result()) == len(texts)
    assert server.process.wait(60) == 0
    assert not path.exists()


# ---- time that stood still ----

def test_a_server_that_stood_still_kills_no_worker(fake):  # noqa: F811
    """Stopped for longer than the silence that it allows: its worker, which was busy
    all the time, was asked for no sign of life, and is given the time."""
    server = fake("--heartbeat", "500ms", "--silence-timeout", "2s", words="slow-task-3500")
    server.load("a")
    (worker,) = server.workers()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask)
        measure.wait_until(lambda: server.events("task"), "the task")
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(2.6)
        os.kill(server.pid, signal.SIGCONT)
        assert asked.result().status == 200
    assert server.workers() == [worker]
    assert "the server stood still for" in server.stderr()
    server.says("")


def test_a_hanging_worker_is_killed_all_the_same(fake):  # noqa: F811
    server = fake("--heartbeat", "200ms", "--silence-timeout", "1s", words="hang-task")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, timeout_s=60)
        measure.wait_until(lambda: server.events("task"), "the task")
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(server.pid, signal.SIGCONT)
        reply = asked.result()
    assert reply.status == 503 and "said nothing for" in reply.json["error"]["message"]
    server.says("")
    works(server)
