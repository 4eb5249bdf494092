"""The server's use of parking: idle processes of others make way for models, and come
back. vacate-gpud is the real one, on GPUs that are files (fake_gpus.py); the workers are
fake_worker.py."""
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
from fake_gpus import GIB, MIB, PATIENCE_S, FakeGpus, eventually
from test_guard import SAMPLES, busy, sample
from test_hold import PARK_CALLS, RESUME_CALLS, SANITIZERS, comes_back, ok
from test_supervisor import Fake

FULL = 4000 * MIB         # of the GPU
MODEL = "device-300"      # a model of 300 MiB, in a worker of 500


class Parking(Fake):
    def __init__(self, gpus, place, *options, words=MODEL, park="sleep *", idle="1s"):
        place.mkdir()
        guard = (["--guard-park", park] if park else []) + ["--guard-idle", idle]
        self.gpus, self.journal = gpus, place / "journal"
        environment = gpus.environment()
        super().__init__(place, "--device", "cuda:0", "--headroom", "1MiB", "--vram", "100%",
                         "--journal", self.journal, *guard, *map(str, options), words=words,
                         env={name: environment[name] for name in
                              ("LD_LIBRARY_PATH", "FAKE_GPU_DIR", "VACATE_HOLD_DIR")})

    def lines(self, *events):
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [line for line in lines if line["event"] in events]

    def waits(self, model="a"):
        """A request in a thread: its reply when it comes."""
        replies = []
        thread = threading.Thread(target=lambda: replies.append(self.ask(model)))
        thread.start()
        eventually(lambda: self.states().get(model) == "waiting")
        return lambda: (thread.join(PATIENCE_S), replies[0])[1]


def ask_in_vain(server):
    """Of one that is killed."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.ask()


@pytest.fixture
def world(tmp_path):
    """(gpus, begin): begin(...) -> Parking; ended and checked when the test is over."""
    gpus, servers = FakeGpus((FULL, 0)), []

    def begin(*options, **keywords):
        servers.append(Parking(gpus, tmp_path / str(len(servers)), *options, **keywords))
        return servers[-1]

    yield gpus, begin
    try:
        for server in servers:
            running = server.process.poll() is None
            try:
                status = server.stop() if running else 0
            finally:
                server.kill()
            assert status == 0, server.stderr()[-4000:]
            for word in SANITIZERS:
                assert word not in server.stderr(), server.stderr()
    finally:
        gpus.close()


def test_parked_and_resumed(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    assert server.metric("vacate_parked_processes") == 0
    assert server.ask().status == 200
    assert gpus.state(target.pid) == "parked" and target.poll() is None
    assert server.metric("vacate_parked_processes") == server.metric("vacate_parks_total") == 1
    assert server.metric("vacate_parked_bytes") == 3800 * MIB
    (line,) = server.lines("parked")
    assert {key: line[key] for key in ("model", "device", "pid", "process", "bytes")} == {
        "model": "a", "device": "cuda:0", "pid": target.pid, "process": "sleep",
        "bytes": 3800 * MIB}
    (row,) = [row for row in ok(gpus, "ps").out.splitlines()
              if row.split()[:1] == [str(target.pid)]]
    assert "parked 3.7 GiB by serve" in row
    # another one has room now, and needs nobody
    assert server.ask("b").status == 200
    assert server.metric("vacate_parks_total") == 1
    # it stays away as long as that is so
    server.unload("b")
    time.sleep(1.5)
    assert gpus.state(target.pid) == "parked"
    server.unload("a")
    eventually(lambda: gpus.state(target.pid) == "running")
    eventually(lambda: server.metric("vacate_resumes_total") == 1)
    assert server.metric("vacate_parked_processes") == 0
    (line,) = server.lines("resumed")
    assert line["pid"] == target.pid and "reason" not in line
    assert not gpus.broken(target.pid)
    # and makes way once more
    assert server.ask().status == 200
    assert gpus.state(target.pid) == "parked"


def test_events(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    listener = subprocess.Popen([harness.find_vacate(), "events", "--json", "--server", server.url],
                                stdout=subprocess.PIPE, text=True)
    eventually(lambda: server.metric("vacate_event_streams") == 1)
    server.ask()
    server.unload("a")
    eventually(lambda: server.lines("resumed"))
    server.stop()
    told = [json.loads(line) for line in listener.communicate(timeout=PATIENCE_S)[0].splitlines()]
    of_it = [(line["event"], line["model"]) for line in told if line.get("pid") == target.pid]
    assert of_it == [("parked", "a"), ("resumed", "a")]
    order = [line["event"] for line in told]
    assert order.index("waiting") < order.index("parked") < order.index("resident")


def test_who_is_busy_stays(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    busy(gpus, target.pid)
    server = begin()
    reply = server.waits()
    time.sleep(2)
    assert server.states() == {"a": "waiting"} and gpus.called(PARK_CALLS[0]) == 0
    sample(gpus, target.pid, (3600, 0), (0, 1))      # it has stopped
    assert reply().status == 200
    assert gpus.state(target.pid) == "parked"


def test_who_used_it_last(world):
    """An H200 has one sample of a process, always of just now of who used the GPU last: how far
    back is seen the device's own say."""
    gpus, begin = world
    gpus.write("reach", "14")
    target = gpus.target(3800 * MIB)
    gpus.write(f"samples/{target.pid}", "0 0\n")
    server = begin()
    assert server.ask().status == 200
    assert gpus.state(target.pid) == "parked"


def test_why_nobody_makes_way(world):
    """Once a load, of each who holds the room."""
    gpus, begin = world
    named, other = gpus.target(2000 * MIB), gpus.target(1800 * MIB, command=("tail", "-f",
                                                                             "/dev/null"))
    gpus.write(f"samples/{named.pid}", "0 0\n")      # and no other sample says how far they reach
    server = begin()
    reply = server.waits()
    eventually(lambda: "nobody can be parked" in server.stderr())
    looks = gpus.called(SAMPLES)
    eventually(lambda: gpus.called(SAMPLES) > looks + 3)
    (line,) = [line for line in server.stderr().splitlines() if "nobody can be parked" in line]
    assert "model a lacks 101.0 MiB on cuda:0" in line      # 300 and the headroom, of 200
    assert f"; process {named.pid} (sleep): in doubt for " in line
    assert "(NVML's samples do not reach back to the look before)" in line
    assert f"; process {other.pid} (tail) is not named by guard_park" in line
    gpus.write("reach", "14")
    assert reply().status == 200
    assert gpus.state(named.pid) == "parked"


@pytest.mark.parametrize("options", [{"park": "train.py, python*"}, {"park": None}])
def test_who_is_not_named_stays(world, options):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin(**options)
    reply = server.waits()
    time.sleep(2)
    assert server.states() == {"a": "waiting"} and gpus.called(PARK_CALLS[0]) == 0
    target.kill()
    target.wait()
    assert reply().status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_whose_they_are(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB, user=65534, group=65534, extra_groups=[])
    server = begin()
    threading.Thread(target=ask_in_vain, args=[server]).start()
    eventually(lambda: server.states() == {"a": "waiting"})
    time.sleep(2)
    assert gpus.state(target.pid) == "running"       # the server's own user's alone
    server.process.kill()
    server.process.wait()
    server = begin("--guard-users", "nobody, root")
    assert server.ask().status == 200
    assert gpus.state(target.pid) == "parked"
    server.unload("a")
    eventually(lambda: gpus.state(target.pid) == "running")


def test_no_more_than_are_needed(world):
    """Who was idle longest first, and without those that the others make needless."""
    gpus, begin = world
    small, large, last = targets = [gpus.target(size * MIB) for size in (200, 1500, 2200)]
    for target in targets:
        busy(gpus, target.pid)
    server = begin(words="device-600")
    for target in targets:
        looks = gpus.called(SAMPLES)
        eventually(lambda: gpus.called(SAMPLES) > looks + 3)
        sample(gpus, target.pid, (3600, 0), (0, 9))
    time.sleep(1.5)                 # all are idle for long enough
    assert server.ask().status == 200
    # 500 were missing: the small one alone is too little, the large one enough
    assert [gpus.state(one.pid) for one in (small, large, last)] == ["running", "parked",
                                                                    "running"]


def test_own_models_go_first(world):
    gpus, begin = world
    target = gpus.target(2600 * MIB)
    server = begin("--turn", "0s")
    assert server.ask("a").status == server.ask("b").status == 200    # 1100 of 1400 are taken
    assert server.ask("c").status == 200
    assert server.metric("vacate_evictions_total") >= 1
    assert gpus.state(target.pid) == "running" and gpus.called(PARK_CALLS[0]) == 0


@pytest.mark.parametrize("code", [801, 800])
def test_the_driver_refuses(world, code):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    gpus.on(PARK_CALLS[1], "always", f"return {code}")
    server = begin()
    reply = server.ask()
    assert reply.status == 503, reply
    message = reply.json["error"]["message"]
    assert "model a needs 101.0 MiB more than are free on cuda:0" in message
    assert f"process {target.pid} (sleep) holds 3800.0 MiB there and could not be parked" in message
    assert gpus.state(target.pid) == "running"
    assert server.metric("vacate_park_failures_total") == 1
    (line,) = server.lines("not_parked")
    assert line["pid"] == target.pid and line["reason"] in message
    # it is not tried again at once, and that is no reason to wait
    assert server.ask().status == 503
    assert server.metric("vacate_park_failures_total") == 1


def test_another_is_taken_instead(world):
    gpus, begin = world
    first, second = gpus.target(1900 * MIB), gpus.target(1900 * MIB)
    sample(gpus, second.pid, (3600, 0), (0, 9))
    gpus.put(first.pid, 1900 * MIB, busy=1)       # its CUDA calls do not end
    server = begin()
    assert server.ask().status == 200
    assert [gpus.state(one.pid) for one in (first, second)] == ["running", "parked"]
    assert server.metric("vacate_park_failures_total") == 1


def test_it_dies_while_it_is_parked(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    assert server.ask().status == 200
    target.kill()
    target.wait()
    eventually(lambda: server.metric("vacate_parked_processes") == 0)
    assert f"process {target.pid} (sleep) ended while it was parked" in server.stderr()
    server.unload("a")
    assert server.ask().status == 200


def test_somebody_else_resumes_it(world):
    gpus, begin = world
    target = gpus.target(1500 * MIB)
    gpus.set_devices((FULL, 2300 * MIB))
    server = begin()
    assert server.ask().status == 200
    gpus.set_devices((FULL, 0))
    ok(gpus, "resume", target.pid)
    eventually(lambda: server.metric("vacate_parked_processes") == 0)
    assert "was resumed by somebody else" in server.stderr()


def test_it_waits_for_room(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    assert server.ask().status == 200
    other = gpus.target(500 * MIB)
    busy(gpus, other.pid)
    server.unload("a")
    time.sleep(2)
    assert gpus.state(target.pid) == "parked" and not gpus.broken(target.pid)
    assert server.metric("vacate_parked_processes") == 1
    gpus.remove(other.pid)
    eventually(lambda: gpus.state(target.pid) == "running")
    assert not gpus.broken(target.pid)


def test_it_waits_for_loads_in_line(world):
    """What waits for the same room comes first."""
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin("--turn", "0s", "--keep-alive", "0s")
    for _ in range(3):
        for model in "abc":
            assert server.ask(model).status == 200
    eventually(lambda: gpus.state(target.pid) == "running")
    assert not gpus.broken(target.pid)


def test_a_load_waits_for_a_resume(world):
    """Both would count on the same room."""
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin(idle="2s")
    assert server.ask().status == 200
    gpus.on(RESUME_CALLS[0], "touch here", "wait go")
    server.unload("a")
    gpus.wait("here")
    reply = server.waits()
    time.sleep(0.5)
    assert server.states() == {"a": "waiting"}
    start = time.monotonic()
    gpus.touch("go")
    eventually(lambda: gpus.state(target.pid) == "running")
    assert reply().status == 200                      # after it was idle again
    assert time.monotonic() - start >= 2
    assert gpus.state(target.pid) == "parked" and not gpus.broken(target.pid)
    assert server.metric("vacate_parks_total") == 2


# ---- ends ----------------------------------------------------------------------------

def test_the_server_ends(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    assert server.ask().status == 200
    assert server.stop() == 0
    assert gpus.state(target.pid) == "running" and not gpus.broken(target.pid)


def test_the_server_ends_without_room(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    assert server.ask().status == 200
    other = gpus.target(500 * MIB)
    assert server.stop() == 0
    assert gpus.state(target.pid) == "parked"
    assert "`vacate resume" in server.stderr()
    other.kill()
    other.wait()
    comes_back(gpus, target)


def kill(server):
    children = server.workers()
    server.process.kill()
    server.process.wait()
    eventually(lambda: not [pid for pid in children if measure.alive(pid)])


@pytest.mark.parametrize("park", ["sleep *", None])
def test_the_server_is_killed(world, park):
    """The next one resumes it, whatever its settings; so does who types `vacate resume`."""
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    assert server.ask().status == 200
    kill(server)
    assert gpus.state(target.pid) == "parked"
    server = begin(park=park, idle="1h")
    eventually(lambda: gpus.state(target.pid) == "running")
    eventually(lambda: server.metric("vacate_resumes_total") == 1)
    assert "was parked by a server that is gone" in server.stderr()
    (line,) = server.lines("resumed")
    assert (line["model"], line["pid"], line["process"]) == ("", target.pid, "sleep")
    kill(server)
    server = begin(idle="1h")       # there is nothing left to do
    assert server.metric("vacate_parked_processes") == 0


def test_the_server_is_killed_and_a_person_comes(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    assert server.ask().status == 200
    kill(server)
    comes_back(gpus, target)


def test_a_living_servers_are_left(world):
    """Two servers of one user."""
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    server = begin()
    assert server.ask().status == 200
    other = begin(idle="1h")
    time.sleep(1.5)
    assert gpus.state(target.pid) == "parked"
    assert other.metric("vacate_parked_processes") == 0


@pytest.mark.parametrize("call", PARK_CALLS + RESUME_CALLS)
def test_gpud_is_killed(world, call):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    gpus.on(call, "kill caller 9")
    server = begin()
    server.ask()            # 200, or refused since gpud died
    if call in RESUME_CALLS:
        server.unload("a")
        eventually(lambda: not (gpus.folder / "on" / call).exists())
    eventually(lambda: gpus.state(target.pid) != "locked")
    server.post("/models/unload", {"model": "a"})
    eventually(lambda: gpus.state(target.pid) == "running")
    eventually(lambda: server.metric("vacate_parked_processes") == 0)
    assert not gpus.broken(target.pid)


def test_the_server_is_killed_meanwhile(world):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    gpus.on(PARK_CALLS[1], "touch here", "wait go")
    server = begin()
    threading.Thread(target=ask_in_vain, args=[server]).start()
    gpus.wait("here")
    server.process.kill()
    gpus.touch("go")
    server.process.wait()
    begin(idle="1h")
    eventually(lambda: gpus.state(target.pid) == "running")


# ---- settings --------------------------------------------------------------------------

def check(tmp_path, text):
    path = tmp_path / "vacate.conf"
    path.write_text(text)
    done = subprocess.run([harness.find_vacate(), "config", "check", path], capture_output=True,
                          text=True)
    return done.returncode, done.stderr


def test_the_section(tmp_path):
    assert check(tmp_path, "[guard]\npark = sleep *, train.py\nidle = 10m\nusers = root\n"
                 "risk = no\n") == (0, "")
    code, err = check(tmp_path, "[guard]\nparks = x\nidle = soon\nidle = 1m\n[guard]\n")
    assert code == 1
    for text in (":2: [guard] has no setting \"parks\"; it has park, idle, users and risk",
                 ":3: guard_idle takes a duration", ":4: guard_idle was set in line 3 already",
                 ":5: [guard] begins in line 1 already"):
        assert text in err, err
    done = subprocess.run([harness.find_vacate(), "config", "show", "--config",
                           tmp_path / "vacate.conf"], capture_output=True, text=True)
    (tmp_path / "vacate.conf").write_text("[guard]\npark = a, b\n")
    done = subprocess.run([harness.find_vacate(), "config", "show", "--config",
                           tmp_path / "vacate.conf"], capture_output=True, text=True)
    assert "guard_park" in done.stdout and "a, b" in done.stdout


def test_the_section_holds(world, tmp_path):
    gpus, begin = world
    target = gpus.target(3800 * MIB)
    path = tmp_path / "vacate.conf"
    path.write_text("[guard]\npark = train.py\nidle = 1s\n")
    place = tmp_path / "s"
    place.mkdir()
    environment = gpus.environment()
    server = Fake(place, "--device", "cuda:0", "--headroom", "1MiB", "--vram", "100%", "--config",
                  path, words=MODEL, env={name: environment[name] for name in (
                      "LD_LIBRARY_PATH", "FAKE_GPU_DIR", "VACATE_HOLD_DIR")})
    try:
        replies = []
        thread = threading.Thread(target=lambda: replies.append(server.ask()))
        thread.start()
        eventually(lambda: server.states() == {"a": "waiting"})
        time.sleep(1)
        assert gpus.state(target.pid) == "running"
        path.write_text("[guard]\npark = train.py, sleep*\nidle = 1s\n")
        server.process.send_signal(signal.SIGHUP)
        thread.join(PATIENCE_S)
        assert replies[0].status == 200 and gpus.state(target.pid) == "parked"
        assert server.stop() == 0
    finally:
        server.kill()


def test_wrong_users(world, tmp_path):
    gpus, begin = world
    with pytest.raises(harness.StartError) as failed:
        begin("--guard-users", "no-such-user-here")
    assert "guard_users: there is no user no-such-user-here" in failed.value.stderr
