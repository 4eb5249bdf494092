"""Frames that are cut, late, out of order, too large or unknown; workers and
servers that are stopped; two servers that share what they should not.

Fake workers say what docs/wire.md forbids; the others are stopped or starved of
descriptors from outside. The server answers or says why not, and serves on."""
import concurrent.futures
import json
import os
import resource
import signal
import time

import harness
import measure
import pytest
from test_supervisor import fake, message, works    # noqa: F401

MIB = 1 << 20
TEXT = ["The harbour is quiet."]
# Enough for a worker that is well, on a machine that has much to do.
QUICK = ("--heartbeat", "100ms", "--silence-timeout", f"{round(measure.patience(700))}ms")


def ask_many(server, count, **keywords):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda i: server.ask("a", f"text {i}", **keywords), range(count)))


def expected(text):
    return [float(sum(text.encode()) + i) for i in range(8)]


# ---- what a worker says ----

@pytest.mark.parametrize("words", ["trickle", "reverse", "result-twice", "wild-working",
                                   "trickle,reverse,result-twice"])
def test_odd_and_allowed(fake, words):    # noqa: F811
    """Pieces of any size, answers in any order, answers that nobody waits for."""
    server = fake(words=words)
    for count in (2, 4):
        for i, reply in enumerate(ask_many(server, count)):
            assert reply.status == 200, reply
            assert reply.json["data"][0]["embedding"] == expected(f"text {i}")
    assert server.metric("vacate_worker_deaths_total") == 0


@pytest.mark.parametrize("words, why", [
    ("oversized", "67108864"), ("odd-length", "multiple of 8"), ("flagged", "flag"),
    ("unknown-type", "type 122"), ("other-answer", "type 131"), ("hello-twice", "second time"),
    ("wild-progress", "type 144"), ("cut-result", "signal 9"), ("cut-result-hang", "said nothing"),
])
def test_forbidden(fake, words, why):    # noqa: F811
    """The worker is killed, the request tried on a second one and then refused
    with the reason; nothing of the broken stream is taken for another's answer."""
    server = fake(*QUICK, words=words)
    assert why in message(server.ask(timeout_s=60), 503)
    assert len(server.events("task")) == 2
    server.says("")
    works(server)
    assert server.metric("vacate_http_held_bytes") == 0


@pytest.mark.parametrize("words", ["hang-task-once", "die-task-once"])
def test_many_requests_on_one_bad_worker(fake, words):    # noqa: F811
    """It stops reading with megabytes on the way to it: they are kept within
    bounds, and all are answered by its successor."""
    server = fake(*QUICK, words=words)
    works_before = server.post("/models/load", {"model": "a"})
    assert works_before.status == 200
    text = "x" * 130_000    # its sum is a float32
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(server.ask, "a", text) for _ in range(30)]
        time.sleep(0.3)
        memory = measure.uss(server.pid)
        for reply in asked:
            assert reply.result().status == 200
            assert reply.result().json["data"][0]["embedding"] == expected(text)
    assert memory < 100 * MIB
    assert server.metric("vacate_worker_deaths_total") == 1


# ---- processes that are stopped ----

def test_stopped_worker_is_replaced(start):
    """SIGSTOP in the middle of work: the heartbeat finds out, the request is run
    again, and the stopped process is gone."""
    server = start(*QUICK)
    golden = server.embed("tiny/a", TEXT)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    started = time.monotonic()
    assert server.embed("tiny/a", TEXT) == golden
    assert 0.5 < time.monotonic() - started < 60
    assert not measure.alive(worker) and server.workers() != [worker]
    (receipt,) = server.ok("GET", "/receipts")["receipts"]
    assert receipt["reason"] == "worker_died" and receipt["worker"]["pid"] == worker


def test_worker_stopped_in_an_unload(start):
    server = start(*QUICK)
    server.embed("tiny/a", TEXT)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    receipt = server.unload("tiny/a")
    assert receipt["reason"] == "worker_died" and receipt["worker"]["exited"]
    assert not server.workers()


def test_stopped_server_goes_on(start):
    """Clients that came meanwhile are answered when it continues."""
    server = start()
    golden = server.embed("tiny/a", TEXT)
    os.kill(server.pid, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(server.embed, "tiny/a", TEXT) for _ in range(20)]
        time.sleep(1)
        assert not any(one.done() for one in asked)
        os.kill(server.pid, signal.SIGCONT)
        assert all(one.result() == golden for one in asked)


# ---- descriptors ----

def limit_descriptors(pid, most):
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, hard))


def test_worker_without_descriptors(start):
    """A worker that may open so few that a load fails: the reason, and others load."""
    server = start()
    server.embed("tiny/a", TEXT)
    (worker,) = server.workers()
    used = len(measure.open_files(worker))
    limit_descriptors(worker, used)
    reply = server.post("/v1/embeddings", {"model": "tiny/b", "input": "x"})
    assert reply.status == 503 and "Too many open files" in reply.json["error"]["message"], reply
    assert len(server.embed("tiny/a", TEXT)) == 1
    limit_descriptors(worker, 1024)
    assert len(server.embed("tiny/b", TEXT)) == 1
    assert server.workers() == [worker] and len(measure.open_files(worker)) == used


def test_server_without_descriptors(start):
    """None is left for a worker, nor for a directory: told, and it passes."""
    server = start()
    assert server.get("/healthz").status == 200
    used = len(measure.open_files(server.pid))
    # One for the connection of the client that asks.
    limit_descriptors(server.pid, used + 1)
    for path, body in (("/v1/embeddings", {"model": "tiny/a", "input": "x"}),
                       ("/models/load", {"model": "tiny/a"})):
        reply = server.post(path, body)
        assert reply.status == 503, reply
        assert "Too many open files" in reply.body.decode(), reply
    limit_descriptors(server.pid, 1024)
    assert len(server.embed("tiny/a", TEXT)) == 1
    server.unload("tiny/a")
    measure.wait_until(lambda: len(measure.open_files(server.pid)) <= used, "descriptors")


def test_many_cold_models_at_once(start, zoo, tmp_path):
    """Their files are open while they are handed over, but not all at once."""
    count, models = 64, tmp_path / "many"
    models.mkdir()
    for i in range(count):
        (models / f"m{i}").symlink_to(zoo.path / "tiny" / "a")
    server = start(models=models)
    files = sum(1 for path in (zoo.path / "tiny" / "a").rglob("*") if path.is_file())
    # For all connections, and for the files of 20 models.
    limit_descriptors(server.pid, len(measure.open_files(server.pid)) + count + 20 * files)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda i: server.post(
            "/v1/embeddings", {"model": f"m{i}", "input": "x"}), range(count)))
    assert [a.status for a in answers] == [200] * count
    assert len(server.ok("GET", "/models/ps")["models"]) == count


# ---- what should not be shared ----

def test_two_servers_on_one_journal(start, zoo, tmp_path):
    """Lines of both, each whole; a second server on the same port is refused and
    leaves the journal alone."""
    journal = tmp_path / "journal"
    servers = [start("--journal", journal) for _ in range(2)]
    rounds = 25
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        def work(server):
            for _ in range(rounds):
                server.embed("tiny/a", TEXT)
                server.unload("tiny/a")
        list(pool.map(work, servers))
    before = journal.read_bytes()
    lines = [json.loads(line) for line in before.splitlines()]
    assert len(lines) == 2 * rounds
    assert len({line["worker"]["pid"] for line in lines}) == 2 * rounds
    assert sorted(line["id"] for line in lines) == sorted([*range(1, rounds + 1)] * 2)
    with pytest.raises(harness.StartError) as caught:
        harness.Server(zoo.path, tmp_path / "third", "--journal", journal, port=servers[0].port)
    assert "in use" in caught.value.stderr
    assert journal.read_bytes() == before
    assert all(server.get("/healthz").status == 200 for server in servers)
