"""Models of the server that are parked and resumed by name: their worker leaves its GPU and
comes back. vacate-gpud is the real one, on GPUs that are files (fake_gpus.py); the workers
are fake_worker.py."""
import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
import time

import harness
import measure
import pytest
from fake_gpus import MIB, PATIENCE_S, UUIDS, eventually
from test_hold import PARK_CALLS, RESUME_CALLS
from terminal import Terminal
from test_parking import FULL, MODEL, Parking, world  # noqa: F401 - a fixture

ONE, TWO = 800 * MIB, 1100 * MIB      # a worker with one model, with two


class Later:
    """A call in a thread."""

    def __init__(self, call):
        self.replies = []
        self.thread = threading.Thread(target=self.run, args=[call])
        self.thread.start()

    def run(self, call):
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.replies.append(call())

    def __call__(self):
        self.thread.join(PATIENCE_S)
        return self.replies[0]


@pytest.fixture
def begin(world):  # noqa: F811
    return lambda *options, **keywords: world[1](*options, **{"park": None, **keywords})


@pytest.fixture
def gpus(world):  # noqa: F811
    return world[0]


def park(server, model="a", **more):
    return server.post("/models/park", {"model": model, **more})


def resume(server, model="a"):
    return server.post("/models/resume", {"model": model})


def parked(server, model="a"):
    reply = park(server, model)
    assert reply.status == 200, reply
    (receipt,) = reply.json["receipts"]
    return receipt


def vector(server, model="a"):
    reply = server.ask(model)
    assert reply.status == 200, reply
    return reply.json["data"][0]["embedding"]


def pid_of(server, model="a"):
    (pid,) = [m["worker_pid"] for m in server.ok("GET", "/models/ps")["models"]
              if m["name"] == model]
    return pid


def refused(reply, status):
    assert reply.status == status, reply
    return reply.json["error"]["message"]


def test_parked_and_resumed(gpus, begin):
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    reply = park(server)
    assert reply.status == 200, reply
    body = reply.json
    assert (body["success"], body["operation"], body["error"]) == (True, "park", None)
    (receipt,) = body["receipts"]
    assert (receipt["models"], receipt["pid"]) == (["a"], pid)
    assert (receipt["before"], receipt["after"]) == ("running", "parked")
    (device,) = receipt["devices"]
    assert (device["before"]["process_bytes"], device["after"]["process_bytes"]) == (ONE, 0)
    assert device["before"]["listed"] and not device["after"]["listed"]
    assert gpus.state(pid) == "parked" and measure.alive(pid)
    assert server.states() == {"a": "parked"} and pid_of(server) == pid
    assert server.metric('vacate_models{state="parked"}') == 1
    assert server.metric("vacate_model_parked") == 1
    # once more: there is nothing to do
    (receipt,) = park(server).json["receipts"]
    assert (receipt["before"], receipt["after"], receipt["devices"]) == ("parked", "parked", [])
    # a request brings it back
    assert vector(server) == before
    assert gpus.state(pid) == "running" and pid_of(server) == pid
    assert server.states() == {"a": "resident"} and server.metric("vacate_loads_total") == 1
    # and so does a word
    parked(server)
    reply = resume(server)
    assert reply.status == 200, reply
    (receipt,) = reply.json["receipts"]
    assert reply.json["operation"] == "resume" and receipt["models"] == ["a"]
    assert (receipt["before"], receipt["after"]) == ("parked", "running")
    assert receipt["devices"][0]["after"]["process_bytes"] == ONE
    (receipt,) = resume(server).json["receipts"]
    assert (receipt["before"], receipt["after"]) == ("running", "running")
    assert vector(server) == before
    assert server.receipts() == []


def test_two_models_of_one_worker(gpus, begin):
    server = begin()
    vectors = vector(server, "a"), vector(server, "b")
    pid = pid_of(server)
    receipt = parked(server, "b")
    assert (sorted(receipt["models"]), receipt["pid"]) == (["a", "b"], pid)
    assert receipt["devices"][0]["before"]["process_bytes"] == TWO
    assert server.states() == {"a": "parked", "b": "parked"}
    assert vector(server, "a") == vectors[0]
    assert server.states() == {"a": "resident", "b": "resident"}
    assert vector(server, "b") == vectors[1] and pid_of(server, "b") == pid


def test_it_ends_what_it_has(gpus, begin):
    """Tasks under way end first, those that come meanwhile wait, and bring it back."""
    server = begin(words=MODEL + ",held-task")
    server.go()
    vector(server)
    pid = pid_of(server)
    server.hold()
    running = Later(lambda: server.ask())
    eventually(lambda: len(server.events("task")) == 2)
    parking = Later(lambda: park(server))
    eventually(lambda: server.states() == {"a": "parking"})
    assert gpus.called(PARK_CALLS[0]) == 0
    waiting = Later(lambda: server.ask())
    server.go()
    assert running().status == 200
    assert parking().status == 200 and parking().json["receipts"][0]["after"] == "parked"
    assert waiting().status == 200
    assert gpus.state(pid) == "running" and len(server.events("task")) == 3
    assert server.metric("vacate_loads_total") == 1


def test_no_task_is_sent_meanwhile(gpus, begin):
    server = begin()
    vector(server)
    gpus.on(PARK_CALLS[1], "touch here", "wait go")
    parking = Later(lambda: park(server))
    gpus.wait("here")
    waiting = Later(lambda: server.ask())
    also = Later(lambda: park(server))
    time.sleep(0.5)
    assert len(server.events("task")) == 1
    gpus.touch("go")
    assert parking().status == also().status == waiting().status == 200


# ---- room ------------------------------------------------------------------------------

def test_others_make_way(gpus, begin):
    """What is resident leaves for what comes back."""
    gpus.set_devices((1000 * MIB, 0))
    server = begin("--turn", "0s")
    before = vector(server, "a")
    pid = pid_of(server)
    parked(server, "a")
    assert server.ask("b").status == 200          # in a worker of its own
    assert pid_of(server, "b") != pid
    assert server.states() == {"a": "parked", "b": "resident"}
    assert vector(server, "a") == before
    assert server.states() == {"a": "resident"} and not gpus.broken(pid)
    (receipt,) = server.receipts()
    assert (receipt["model"], receipt["reason"]) == ("b", "evicted")


def test_no_room(gpus, begin):
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    parked(server)
    other = gpus.target(3500 * MIB)
    reply = server.ask(headers={"X-Request-Timeout": "2"})
    text = refused(reply, 504)
    assert "model a waited" in text and "for room: it takes 864.0 MiB" in text    # with the margin
    assert server.states() == {"a": "parked"}
    waiting = Later(lambda: server.ask())
    eventually(lambda: server.states() == {"a": "waiting"})
    assert gpus.called(RESUME_CALLS[0]) == 0
    other.kill()
    other.wait()
    assert waiting().json["data"][0]["embedding"] == before
    assert gpus.state(pid) == "running" and not gpus.broken(pid)


def test_somebody_takes_the_room(gpus, begin):
    """Between the reading and the restore: vacate-gpud looks once more, and it waits on."""
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    parked(server)
    gpus.on("cuCheckpointProcessGetState",
            f"write devices {UUIDS[0]} {FULL} {FULL - 500 * MIB} Fake GPU")
    reply = Later(lambda: server.ask())
    eventually(lambda: "stays parked" in server.stderr())
    eventually(lambda: server.states() == {"a": "waiting"})
    assert gpus.called(RESUME_CALLS[0]) == 0
    gpus.set_devices((FULL, 0))
    assert reply().json["data"][0]["embedding"] == before
    assert gpus.state(pid) == "running" and not gpus.broken(pid)


def test_ram_counts(gpus, begin):
    server = begin("--ram", "100MiB")
    vector(server)
    text = refused(park(server), 503)
    assert "its worker has 800.0 MiB on cuda:0, which would go into RAM" in text and "--ram" in text
    assert server.states() == {"a": "resident"} and gpus.called(PARK_CALLS[0]) == 0
    vector(server)


def test_who_made_way_comes_back(gpus, begin):
    """A process that was parked for a model needs not wait while the model is parked, too."""
    target = gpus.target(3800 * MIB)
    server = begin(park="sleep *")
    before = vector(server)
    assert gpus.state(target.pid) == "parked"
    parked(server)
    eventually(lambda: gpus.state(target.pid) == "running")
    assert server.states() == {"a": "parked"}
    assert vector(server) == before                 # and makes way once more
    assert gpus.state(target.pid) == "parked"


# ---- unloads ---------------------------------------------------------------------------

def test_unloaded_while_parked(gpus, begin):
    server = begin()
    vector(server)
    pid = pid_of(server)
    parked(server)
    (receipt,) = server.ok("POST", "/models/unload", {"model": "a"})["receipts"]
    assert (receipt["reason"], receipt["worker"]["exited"]) == ("request", True)
    assert receipt["unaccounted_bytes"] is not None and receipt["returned_bytes"] > 0
    assert not measure.alive(pid) and server.states() == {}
    assert gpus.called(RESUME_CALLS[0]) == 0
    assert vector(server) and pid_of(server) != pid


def test_unloaded_together(gpus, begin):
    server = begin()
    vector(server, "a"), vector(server, "b")
    pid = pid_of(server)
    parked(server)
    receipts = server.ok("POST", "/models/unload", {"all": True})["receipts"]
    assert [(r["model"], r["reason"]) for r in sorted(receipts, key=lambda r: r["model"])] == [
        ("a", "request"), ("b", "request")]
    assert not measure.alive(pid) and gpus.called(RESUME_CALLS[0]) == 0


def test_one_of_two_is_unloaded(gpus, begin):
    """Its worker comes back for that; what is left is parked again."""
    server = begin()
    vector(server, "a")
    before = vector(server, "b")
    pid = pid_of(server)
    parked(server)
    (receipt,) = server.ok("POST", "/models/unload", {"model": "a"})["receipts"]
    assert (receipt["reason"], receipt["worker"]["exited"]) == ("request", False)
    eventually(lambda: server.states() == {"b": "parked"})
    assert gpus.state(pid) == "parked" and pid_of(server, "b") == pid
    assert vector(server, "b") == before and gpus.state(pid) == "running"


def test_keep_alive_runs_on(gpus, begin):
    server = begin("--keep-alive", "4s")
    vector(server, "a"), vector(server, "b")
    pid = pid_of(server)
    parked(server)
    (model,) = [m for m in server.ok("GET", "/models/ps")["models"] if m["name"] == "a"]
    assert 0 < model["expires_ms"] <= 4000
    eventually(lambda: server.states() == {})
    assert not measure.alive(pid) and gpus.called(RESUME_CALLS[0]) == 0
    assert {(r["model"], r["reason"]) for r in server.receipts()} == {("a", "idle"), ("b", "idle")}


# ---- ends ------------------------------------------------------------------------------

def test_the_worker_is_killed(gpus, begin):
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    parked(server)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    eventually(lambda: server.states() == {})
    (receipt,) = server.receipts()
    assert (receipt["model"], receipt["reason"]) == ("a", "worker_died")
    assert vector(server) == before


@pytest.mark.parametrize("call", [PARK_CALLS[1], RESUME_CALLS[0]])
def test_the_worker_is_killed_meanwhile(gpus, begin, call):
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    if call in RESUME_CALLS:
        parked(server)
    gpus.on(call, "touch here", "wait go")
    moving = Later(lambda: (park if call in PARK_CALLS else resume)(server))
    gpus.wait("here")
    subprocess.run(["kill", "-9", str(pid)], check=True)
    assert moving().status == 503
    gpus.touch("go")
    assert vector(server) == before and pid_of(server) != pid
    assert park(server).status == 200


def test_the_server_ends(gpus, begin):
    server = begin()
    vector(server, "a"), vector(server, "b")
    pid = pid_of(server)
    parked(server)
    assert server.stop() == 0
    assert not measure.alive(pid) and gpus.called(RESUME_CALLS[0]) == 0
    assert {line["model"] for line in server.lines("receipt")} == {"a", "b"}


def test_the_server_ends_meanwhile(gpus, begin):
    server = begin()
    vector(server)
    pid = pid_of(server)
    gpus.on(PARK_CALLS[1], "touch here", "wait go")
    parking = Later(lambda: park(server))
    gpus.wait("here")
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: "no more connections" in server.stderr())
    gpus.touch("go")
    assert parking().status == 200
    assert server.process.wait(PATIENCE_S) == 0
    assert not measure.alive(pid)
    (line,) = server.lines("receipt")
    assert (line["model"], line["reason"]) == ("a", "shutdown")


def test_the_server_is_killed(gpus, begin):
    server = begin()
    vector(server)
    pid = pid_of(server)
    parked(server)
    server.process.kill()
    server.process.wait()
    eventually(lambda: not measure.alive(pid))
    server = begin()
    assert "was parked by a server that is gone" not in server.stderr()
    assert server.ask().status == 200


@pytest.mark.parametrize("call", PARK_CALLS + RESUME_CALLS)
def test_gpud_is_killed(gpus, begin, call):
    """It is brought back, or loaded anew."""
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    gpus.on(call, "kill caller 9")
    if call in PARK_CALLS:
        assert "vacate-gpud" in refused(park(server), 503) or park(server).status == 200
    else:
        parked(server)
    assert vector(server) == before
    assert gpus.state(pid_of(server)) == "running" and pid_of(server) == pid
    assert not gpus.broken(pid)


def test_a_restore_fails(gpus, begin):
    """Its worker is killed; who asked for an answer gets it from a new one."""
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    parked(server)
    gpus.on(RESUME_CALLS[0], "return 999")
    assert vector(server) == before
    assert not measure.alive(pid) and pid_of(server) != pid
    (receipt,) = server.receipts()
    assert (receipt["model"], receipt["reason"]) == ("a", "worker_died")
    assert "model a and all others of worker" in server.stderr()
    pid = pid_of(server)
    parked(server)
    gpus.on(RESUME_CALLS[0], "return 999")
    assert "did not come back to its GPU" in refused(resume(server), 503)
    assert server.states() == {}


def test_the_driver_refuses(gpus, begin):
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    gpus.on(PARK_CALLS[1], "return 801")
    assert park(server).status in (422, 503)
    assert gpus.state(pid) == "running" and server.states() == {"a": "resident"}
    assert vector(server) == before


def test_an_untried_driver(gpus, begin):
    gpus.set_driver(13000, "999.9")
    server = begin()
    vector(server)
    assert "999.9" in refused(park(server), 422)
    assert park(server, risk=True).status == 200
    vector(server)          # it comes back without being asked twice


def test_silence_is_no_fault(gpus, begin):
    server = begin("--silence-timeout", "1s", "--heartbeat", "200ms")
    before = vector(server)
    pid = pid_of(server)
    parked(server)
    time.sleep(3)
    assert server.states() == {"a": "parked"} and measure.alive(pid)
    assert vector(server) == before


def test_gpud_is_killed_twice(gpus, begin):
    """Nobody knows how the worker is: it ends, and who asks is answered by a new one."""
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    gpus.on(PARK_CALLS[1], "kill caller 9")
    for call in RESUME_CALLS:
        gpus.on(call, "kill caller 9")
    assert park(server).status == 503
    eventually(lambda: not measure.alive(pid))
    assert vector(server) == before and pid_of(server) != pid
    for call in PARK_CALLS + RESUME_CALLS:
        gpus.on(call)
    assert park(server).status == resume(server).status == 200


@pytest.mark.parametrize("call", [PARK_CALLS[1], RESUME_CALLS[0]])
def test_nobody_listens_any_more(gpus, begin, call):
    server = begin()
    before = vector(server)
    if call in RESUME_CALLS:
        parked(server)
    gpus.on(call, "touch here", "wait go")
    path = "/models/park" if call in PARK_CALLS else "/models/resume"
    reply = server.post(path, {"model": "a"}, headers={"X-Request-Timeout": "1"})
    assert reply.status == 504
    gpus.touch("go")
    wanted = "parked" if call in PARK_CALLS else "resident"
    eventually(lambda: server.states() == {"a": wanted})
    gpus.on(call)
    assert vector(server) == before


@pytest.mark.parametrize("call", [PARK_CALLS[1], RESUME_CALLS[0]])
def test_unloaded_meanwhile(gpus, begin, call):
    server = begin()
    vector(server, "a"), vector(server, "b")
    pid = pid_of(server)
    if call in RESUME_CALLS:
        parked(server)
    gpus.on(call, "touch here", "wait go")
    moving = Later(lambda: (park if call in PARK_CALLS else resume)(server))
    gpus.wait("here")
    leaving = Later(lambda: server.post("/models/unload", {"model": "b"}))
    time.sleep(0.3)
    gpus.touch("go")
    assert moving().status == 200
    assert leaving().json["receipts"][0]["reason"] == "request"
    eventually(lambda: server.states() == {"a": "parked" if call in PARK_CALLS else "resident"})
    assert measure.alive(pid) and vector(server) and pid_of(server) == pid


def test_a_stopped_worker(gpus, begin):
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    os.kill(pid, signal.SIGSTOP)
    assert "is stopped" in refused(park(server), 503)
    os.kill(pid, signal.SIGCONT)
    assert vector(server) == before
    parked(server)
    os.kill(pid, signal.SIGSTOP)
    assert "is stopped" in refused(resume(server), 503)
    assert "is stopped" in refused(server.ask(), 503)      # a task: its queue is not full
    assert server.states() == {"a": "parked"}
    os.kill(pid, signal.SIGCONT)
    assert vector(server) == before and pid_of(server) == pid


def test_loaded_meanwhile(gpus, begin):
    """A load on the same worker has begun: it ends first, and what it loads goes along."""
    server = begin(words=MODEL + ",held-load")
    server.go()
    vector(server, "a")
    pid = pid_of(server)
    server.hold()
    loading = Later(lambda: server.ask("b"))
    eventually(lambda: server.states().get("b") == "loading")
    parking = Later(lambda: park(server, "a"))
    eventually(lambda: server.states() == {"a": "parking", "b": "loading"})
    server.go()
    assert loading().status == 200
    assert parking().status == 200
    assert server.states() == {"a": "parked", "b": "parked"} and gpus.state(pid) == "parked"


def test_the_server_ends_in_a_restore(gpus, begin):
    server = begin()
    vector(server, "a"), vector(server, "b")
    pid = pid_of(server)
    parked(server)
    gpus.on(RESUME_CALLS[0], "touch here", "wait go")
    waiting = Later(lambda: server.ask())
    gpus.wait("here")
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: "no more connections" in server.stderr())
    gpus.touch("go")
    assert waiting().status in (200, 503)
    assert server.process.wait(PATIENCE_S) == 0 and not measure.alive(pid)


# ---- refusals --------------------------------------------------------------------------

def test_refusals(gpus, begin):
    server = begin()
    assert "org/none" in refused(park(server, "org/none"), 404)
    assert "org/none" in refused(resume(server, "org/none"), 404)
    assert "not loaded" in refused(park(server), 409)
    assert "not parked" in refused(resume(server), 409)
    vector(server)
    parked(server)
    reply = server.post("/v1/embeddings?autoload=false", {"model": "a", "input": "abc"})
    assert "POST /models/resume brings it back" in refused(reply, 400)


def test_on_the_cpu(tmp_path):
    from test_supervisor import Fake
    server = Fake(tmp_path)
    try:
        assert server.ask().status == 200
        assert refused(park(server), 409) == (
            "model a is on cpu and holds no VRAM; `vacate unload` gives its RAM back")
        assert server.stop() == 0
    finally:
        server.kill()


def test_events(gpus, begin):
    server = begin()
    vector(server)
    parked(server)
    (line,) = server.lines("model_parked")
    assert {key: line[key] for key in ("model", "device", "bytes")} == {
        "model": "a", "device": "cuda:0", "bytes": ONE}


# ---- the commands ----------------------------------------------------------------------

def vacate(gpus, server, *words):
    return subprocess.run([harness.find_vacate(), *map(str, words)], text=True, timeout=PATIENCE_S,
                          capture_output=True, env=gpus.environment(VACATE_SERVER=server.url,
                                                                    COLUMNS="80"))


def test_park_and_resume_by_name(gpus, begin):
    server = begin()
    vector(server, "a"), vector(server, "b")
    pid = pid_of(server)
    done = vacate(gpus, server, "park", "a")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"Parked {pid}: ")
    assert lines[1].split()[:5] == ["VRAM", "1.1", "GiB", "->", "0"]
    assert lines[-1].split() == ["its", "models", "b,", "a"] or \
        lines[-1].split() == ["its", "models", "a,", "b"]
    assert all(len(line) <= 80 for line in lines)
    (row,) = [row.split() for row in vacate(gpus, server, "ps").stdout.splitlines()
              if row.startswith("a ")]
    assert row[1] == "parked"
    done = vacate(gpus, server, "park", "a", "b")
    assert done.returncode == 0 and done.stdout.count("was parked already") == 2
    done = vacate(gpus, server, "resume", "b")
    assert done.returncode == 0 and done.stdout.startswith(f"Resumed {pid}: ")
    assert server.states() == {"a": "resident", "b": "resident"}


def test_models_and_processes(gpus, begin):
    server = begin()
    vector(server)
    target = gpus.target(500 * MIB)
    done = vacate(gpus, server, "park", "--json", target.pid, "a")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert (body["operation"], body["error"]) == ("park", None)
    assert [r.get("models") for r in body["receipts"]] == [["a"], None]
    assert [r["pid"] for r in body["receipts"]] == [pid_of(server), target.pid]
    done = vacate(gpus, server, "resume", "a", target.pid)
    assert done.returncode == 0, done.stderr
    assert gpus.state(target.pid) == "running" and server.states() == {"a": "resident"}
    assert done.stdout.count("Resumed ") == 2


@pytest.mark.parametrize("words, code, text", [
    (["park", "org/none"], 4, "org/none"),
    (["park", "a"], 1, "model a is not loaded, so it holds nothing that could be parked"),
    (["resume", "a"], 1, "model a is not parked"),
    (["park", "--tree", "a"], 2, "--tree is for processes, and a is a model"),
    (["park", "--pageout", "a"], 2, "--pageout is for processes"),
    (["resume", "--wait", "1s", "a"], 2, "--wait is for processes"),
    (["park", "--server", "unix:/nowhere/socket", "a"], 3, "/nowhere/socket")])
def test_commands_in_vain(gpus, begin, words, code, text):
    done = vacate(gpus, begin(), *words)
    assert done.returncode == code and text in done.stderr and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 or code == 2


def test_a_refusal_in_json(gpus, begin):
    server = begin()
    vector(server)
    done = vacate(gpus, server, "park", "--json", "a", "b")
    assert done.returncode == 1
    decoder, text, found = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    refusal, done = found
    assert refusal["error"]["code"] == "invalid" and done["receipts"][0]["models"] == ["a"]


def test_in_the_view(gpus, begin):
    """`vacate top`: p and r on a model."""
    server = begin()
    vector(server)
    pid = pid_of(server)
    screen = Terminal([harness.find_vacate(), "top", "-d", "100ms", "--server", server.url],
                      gpus.environment())
    try:
        screen.wait(r"^a +resident +cuda:0 ")
        screen.keys("\033OH")        # Home: the model
        screen.wait(lambda: screen.chosen().startswith("a "))
        screen.keys("p")
        screen.wait(rf"^park a, and what else its worker {pid} has\?")
        screen.keys("y")
        screen.wait("^park a: done in ")
        screen.wait("^a +parked ")
        assert gpus.state(pid) == "parked"
        screen.keys("r")
        screen.wait(r"^resume a\? \[y/n\]")
        screen.keys("y")
        screen.wait("^resume a: done in ")
        screen.wait(r"^a +resident ")
        screen.keys("q")
        assert screen.end() == 0
    finally:
        screen.close()
