"""Workers that hang, die and talk nonsense: the server says why, in one
sentence, and serves on. The workers are tests/e2e/fake_worker.py."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import socket
import time

import harness
import measure
import pytest

FAKE = pathlib.Path(__file__).resolve().parent / "fake_worker.py"
HERE = "127.0.0.1"


class Fake(harness.Server):
    """A server whose workers are fake_worker.py; says(...) changes what the
    workers that start from now on do wrong."""

    def __init__(self, place, *options, words="", env=None):
        self.log = place / "events"
        self.words, self.gone = place / "words", place / "go"
        self.words.write_text(words)
        models = place / "models"
        for name in ("a", "b", "c"):
            (models / name).mkdir(parents=True, exist_ok=True)
            (models / name / "config.json").write_text("{}")
            (models / name / "model.safetensors").write_bytes(b"\0" * 8192)
        wrapper = place / "worker"
        wrapper.write_text(f"#!/bin/sh\nFAKE_WORKER=$(cat {self.words}) exec {FAKE} \"$@\"\n")
        wrapper.chmod(0o755)
        super().__init__(models, place / "stderr", *options, env={
            "VACATE_WORKER": str(wrapper), "FAKE_WORKER_LOG": str(self.log),
            "FAKE_WORKER_ONCE": str(place / "once"), "FAKE_WORKER_GO": str(self.gone),
            **(env or {})})

    def says(self, words):
        self.words.write_text(words)

    def go(self):
        """What is held (held-task and the like) goes on, and is held no more."""
        self.gone.touch()

    def hold(self):
        """It is held again."""
        self.gone.unlink()

    def events(self, word=None):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if word is None or line.split()[0] == word]

    def ask(self, model="a", text="abc", **keywords):
        return self.post("/v1/embeddings", {"model": model, "input": text}, **keywords)

    def states(self):
        return {m["name"]: m["state"] for m in self.ok("GET", "/models/ps")["models"]}

    def receipts(self):
        return self.ok("GET", "/receipts")["receipts"]

    def metric(self, name):
        """The sum over its labels."""
        values = [float(line.rpartition(" ")[2])
                  for line in self.get("/metrics").body.decode().splitlines()
                  if line.startswith((name + " ", name + "{"))]
        assert values, f"no metric {name}"
        return sum(values)


@pytest.fixture
def fake(tmp_path):
    """fake(*options, words=...) -> Fake; ended and checked when the test is over."""
    servers = []

    def begin(*options, words="", env=None):
        place = tmp_path / str(len(servers))
        place.mkdir()
        servers.append(Fake(place, *options, words=words, env=env))
        return servers[-1]

    yield begin
    for server in servers:
        workers = server.workers()
        running = server.process.poll() is None
        try:
            status = server.stop() if running else server.process.returncode
        finally:
            server.kill()
        log = server.stderr()
        assert not running or status == 0, log[-4000:]
        assert not [pid for pid in workers if measure.alive(pid)]
        for word in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "ThreadSanitizer"):
            assert word not in log, log[max(0, log.index(word) - 200):][:6000]


def message(reply, status):
    assert reply.status == status, reply
    text = reply.json["error"]["message"]
    assert len(text) > 20 and "\n" not in text
    return text


def works(server):
    """A healthy worker answers: sum of the bytes of "abc", then counting up."""
    reply = server.ask()
    assert reply.status == 200, reply
    assert reply.json["data"][0]["embedding"] == [294.0 + i for i in range(8)]


# ---- a worker that behaves ----

@pytest.mark.threads
def test_life(fake):
    server = fake()
    works(server)
    (worker,) = server.workers()
    assert server.states() == {"a": "resident"}
    receipt = server.unload("a")
    assert receipt["worker"]["pid"] == worker and receipt["worker"]["exited"]
    assert receipt["planned_bytes"] == receipt["ledger_bytes"] == 8192
    assert not server.workers()
    assert [e.split()[0] for e in server.events()] == [
        "hello", "plan", "load", "task", "unload", "shutdown"]


@pytest.mark.threads
def test_hundred_requests_one_load(fake):
    server = fake(words="slow-load-300")
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        replies = list(pool.map(lambda i: server.ask(text="x" * (i + 1)), range(100)))
    for i, reply in enumerate(replies):
        assert reply.status == 200
        assert reply.json["data"][0]["embedding"][0] == ord("x") * (i + 1)
    assert len(server.events("hello")) == len(server.events("load")) == 1


def test_large_frames_both_ways(fake):
    """Frames larger than a socket's buffer, through one worker, in order."""
    server = fake("--max-inputs", "60000")
    texts = [f"{i:05d}" * 40 for i in range(20000)]    # 4 MB there, 640 KB back
    reply = server.post("/v1/embeddings", {"model": "a", "input": texts})
    assert reply.status == 200
    firsts = [item["embedding"][0] for item in reply.json["data"]]
    assert firsts == [float(sum(text.encode())) for text in texts]
    server.unload("a")


@pytest.mark.measured
def test_large_frames_leave_nothing(fake):
    server = fake("--max-inputs", "60000")
    works(server)
    server.unload("a")
    before = measure.uss(server.pid)
    for _ in range(3):
        assert server.ask(text=["x" * 400] * 10000).status == 200
        server.unload("a")
    assert measure.uss(server.pid) - before <= 256 << 10


def test_plans_come_from_a_worker_of_their_own(fake):
    server = fake()
    listed = server.ok("GET", "/models")["models"]
    assert [(m["name"], m["plan"]["host_bytes"]) for m in listed] == [
        ("a", 8192), ("b", 8192), ("c", 8192)]
    assert server.events("hello") == ["hello plan"] and len(server.events("plan")) == 3
    measure.wait_until(lambda: not server.workers(), "the planning worker's end")
    server.ok("GET", "/models")
    assert len(server.events("plan")) == 3    # remembered
    path = server.log.parent / "models" / "b" / "model.safetensors"
    path.write_bytes(b"\0" * 9000)
    server.ok("GET", "/models")
    server.ok("GET", "/models/plan?model=b")
    assert len(server.events("plan")) == 4    # asked anew for what changed, once
    assert server.events("load") == []


def test_a_file_that_may_be_read_now_is_planned_anew(fake):
    """The error was about the permissions, and so is the change."""
    def state():
        return {m["name"]: m["state"] for m in server.ok("GET", "/models")["models"]}["a"]

    server = fake(words="fail-plan")
    path = server.log.parent / "models" / "a" / "model.safetensors"
    path.chmod(0o000)
    assert state() == "failed"
    server.says("")
    assert state() == "failed"    # remembered
    path.chmod(0o644)
    assert state() == "absent"


def test_files_that_change_while_they_are_planned(fake):
    """The answer was about the old files: the new ones are asked about, too."""
    server = fake(words="held-plan")
    path = server.log.parent / "models" / "a" / "model.safetensors"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.get, "/models/plan?model=a")
        measure.wait_until(lambda: server.events("plan"), "the first question")
        path.write_bytes(b"\0" * 9000)
        second = pool.submit(server.get, "/models/plan?model=a")
        server.go()
        assert first.result().status == second.result().status == 200
    assert len(server.events("plan")) == 2
    server.ok("GET", "/models/plan?model=a")
    assert len(server.events("plan")) == 2    # and remembered


def test_idle_clock_is_not_reset_by_probes(fake):
    server = fake("--keep-alive", "500ms")
    works(server)
    end = time.monotonic() + measure.patience(60)
    while server.states() and time.monotonic() < end:    # which they would keep it
        for path in ("/healthz", "/metrics", "/models", "/models/ps", "/v1/models"):
            assert server.get(path).status == 200
    assert server.states() == {}
    assert server.receipts()[0]["reason"] == "idle"
    assert server.receipts()[0]["resident_ms"] >= 500


def test_keep_alive_zero(fake):
    server = fake()
    reply = server.post("/api/embed", {"model": "a", "input": "abc", "keep_alive": 0})
    assert reply.status == 200
    measure.wait_until(lambda: server.receipts(), "the unload")
    assert not server.workers() and server.states() == {}


# ---- a worker that does not start ----

def test_no_hello(fake):
    timeout_s = measure.patience(1.5)    # enough for those that say it
    server = fake("--hello-timeout", f"{round(1000 * timeout_s)}ms", words="no-hello")
    text = message(server.ask(), 503)
    assert f"said no hello within {timeout_s} s" in text
    assert not server.workers()
    server.says("")
    works(server)    # the next request tries again


def test_garbage_instead_of_hello(fake):
    server = fake(words="garbage")
    assert "broke the wire protocol" in message(server.ask(), 503)
    assert not server.workers()
    server.says("")
    works(server)


def test_wrong_version(fake):
    server = fake(words="version-7")
    text = message(server.ask(), 503)
    assert "version 7" in text and "this server 1" in text
    assert len(server.events("hello")) == 1    # another would say the same
    assert not server.workers()


def test_exits_before_hello(fake):
    server = fake(words="exit-3")
    assert "exited with status 3" in message(server.ask(), 503)
    assert not server.workers()


def test_no_worker_program(fake, tmp_path):
    server = fake()
    (server.log.parent / "worker").unlink()
    text = message(server.ask(), 500)    # not 404: it is no model that is missing
    assert "VACATE_WORKER" in text


def test_worker_program_comes_back(fake):
    """What could not be asked says nothing about the models."""
    server = fake()
    worker = server.log.parent / "worker"
    worker.rename(worker.with_name("moved"))
    for model in server.ok("GET", "/models")["models"]:
        assert model["state"] == "failed" and "VACATE_WORKER" in model["reason"]
    worker.with_name("moved").rename(worker)
    assert [m["state"] for m in server.ok("GET", "/models")["models"]] == ["absent"] * 3
    works(server)


def test_load_that_fails(fake):
    server = fake(words="fail-load")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for reply in pool.map(lambda _: server.ask(), range(8)):
            assert "model_type 'fake' is not served" in message(reply, 422)
    assert server.states() == {}
    measure.wait_until(lambda: not server.workers(), "the end of a worker without models")
    server.says("")
    works(server)


def test_plan_that_fails(fake):
    server = fake(words="fail-plan")
    for model in server.ok("GET", "/models")["models"]:
        assert model["state"] == "failed" and "broken at byte 7" in model["reason"]
    reply = server.get("/models/plan?model=a")
    assert reply.status >= 400 and "broken at byte 7" in reply.json["error"]["message"]
    assert "broken at byte 7" in message(server.ask(), 422)    # what has no plan has no room
    assert server.events("load") == []
    server.says("")
    works(server)


def test_plan_that_kills_the_worker(fake):
    server = fake(words="die-plan")
    for model in server.ok("GET", "/models")["models"]:
        assert model["state"] == "failed" and "signal 9" in model["reason"]
    assert len(server.events("plan")) == 6    # each was tried twice
    server.says("")
    assert [m["state"] for m in server.ok("GET", "/models")["models"]] == ["absent"] * 3


# ---- a worker that dies or hangs at work ----

@pytest.mark.threads
def test_death_is_retried_once(fake):
    server = fake(words="die-task-once")
    server.load("b")
    works(server)
    died = [r for r in server.receipts() if r["reason"] == "worker_died"]
    assert {r["model"] for r in died} == {"a", "b"}
    assert all(r["worker"]["exited"] for r in died)
    assert server.states() == {"a": "resident"}    # b comes back when it is asked for
    assert server.metric("vacate_worker_deaths_total") == 1


@pytest.mark.threads
def test_death_again_is_told(fake):
    server = fake(words="die-task")
    text = message(server.ask(), 503)
    assert "signal 9 (Killed)" in text and "two workers" in text
    assert len(server.events("load")) == 2 and len(server.events("task")) == 2
    server.says("")
    works(server)


def test_death_in_a_load(fake):
    server = fake(words="die-load")
    text = message(server.ask(), 503)
    assert "cannot be loaded" in text and "signal 9" in text
    assert len(server.events("load")) == 2
    assert not server.workers()
    server.says("")
    works(server)


@pytest.mark.parametrize("words", ["garbage-answer", "short-result", "unasked"])
def test_nonsense_for_an_answer(fake, words):
    server = fake(words=words)
    text = message(server.ask(), 503)
    assert "broke the wire protocol" in text
    assert len(server.events("task")) == 2    # a fresh worker was tried
    server.says("")
    works(server)


def test_error_for_an_answer_is_not_retried(fake):
    server = fake(words="fail-task")
    assert "900 tokens" in message(server.ask(), 400)    # OpenAI's status for it
    assert len(server.events("task")) == 1
    assert server.states() == {"a": "resident"}


@pytest.mark.parametrize("words, asks", [("hang-task", "task"), ("hang-load", "load")])
def test_silence(fake, words, asks):
    server = fake("--heartbeat", "100ms", "--silence-timeout",
                  f"{round(measure.patience(600))}ms", words=words)
    text = message(server.ask(timeout_s=60), 503)
    assert "said nothing for" in text
    assert len(server.events(asks)) >= 1
    server.says("")
    works(server)


def test_heartbeat_only_when_there_is_work(fake):
    server = fake("--heartbeat", "50ms", "--silence-timeout", "10s", words="slow-task-400")
    server.ask()

    def rests():
        """The worker may still have to read what came while it was at its task."""
        pings = len(server.events("ping"))
        time.sleep(0.5)
        return pings > 0 and len(server.events("ping")) == pings

    measure.wait_until(rests, "an idle worker that nothing is asked")


def test_worker_killed_while_idle(fake):
    server = fake()
    works(server)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    measure.wait_until(lambda: server.states() == {}, "the reaping")
    assert not measure.alive(worker)
    (receipt,) = server.receipts()
    assert receipt["reason"] == "worker_died" and receipt["worker"]["after"]["uss_bytes"] == 0
    # Nobody measured it before: that is no loss.
    assert receipt["unaccounted_bytes"] is None and "not measured, worker ended" in server.stderr()
    works(server)


def test_worker_that_does_not_exit(fake):
    """SHUTDOWN is ignored: killed after five seconds, and the unload is told."""
    server = fake(words="no-exit")
    works(server)
    started = time.monotonic()
    receipt = server.unload("a")
    assert 5 <= time.monotonic() - started < 60
    assert receipt["worker"]["exited"] and not server.workers()


# ---- clients ----

def send(server, text, path="/v1/embeddings"):
    body = json.dumps({"model": "a", "input": text}).encode()
    client = socket.create_connection((HERE, server.port), timeout=60)
    client.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                   % (path.encode(), len(body)) + body)
    return client


def test_client_that_leaves_is_cancelled(fake):
    """Its task is not wanted any more; its load is."""
    server = fake(words="slow-task-300")
    server.ask()
    first = send(server, "first")
    measure.wait_until(lambda: len(server.events("task")) == 2, "the first task")
    with contextlib.closing(send(server, "second")):
        time.sleep(0.05)
    measure.wait_until(lambda: server.events("cancel"), "CANCEL")
    assert first.recv(4096).startswith(b"HTTP/1.1 200")
    first.close()
    assert server.states() == {"a": "resident"}


def test_client_that_leaves_during_a_load(fake):
    server = fake(words="slow-load-300")
    send(server, "x").close()
    measure.wait_until(lambda: server.states() == {"a": "resident"}, "the load")
    assert server.events("task") == []
    works(server)
    assert len(server.events("load")) == 1


def test_slow_client_is_cut_off(fake):
    server = fake("--client-timeout", "400ms")
    started = time.monotonic()
    with socket.create_connection((HERE, server.port), timeout=60) as client:
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
        client.settimeout(0.1)
        sent, closed = 0, False
        try:
            while not closed and sent < 600:    # a byte now and then does not buy more time
                client.sendall(b"x")
                sent += 1
                with contextlib.suppress(TimeoutError):
                    closed = client.recv(100) == b""
        except ConnectionError:
            closed = True
        assert closed and time.monotonic() - started >= 0.4
    works(server)


def test_queue_limit(fake):
    server = fake("--max-queue", "3", words="held-load")
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(server.ask) for _ in range(10)]
        measure.wait_until(lambda: sum(one.done() for one in asked) == 7, "those who are refused")
        server.go()
        replies = [one.result() for one in asked]
    busy = [r for r in replies if r.status == 429]
    assert len(busy) == 7 and [r.status for r in replies].count(200) == 3
    assert busy[0].headers["retry-after"] == "1"
    assert "--max-queue" in message(busy[0], 429)


def test_pending_bytes_limit(fake):
    """A body that does not get on makes way for those that do."""
    server = fake("--max-body", "1MiB", "--max-pending", "1MiB")
    body = b'{"model":"a","input":"' + b"x" * 900_000 + b'"}'
    with socket.create_connection((HERE, server.port), timeout=60) as client:
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                       % len(body) + body[:-1])
        measure.wait_until(lambda: server.metric("vacate_http_held_bytes") == len(body) - 1,
                           "the body")
        time.sleep(1.1)
        assert server.post("/v1/embeddings", body).status == 200
        client.sendall(body[-1:])
        reply = client.recv(4096)
        assert reply.startswith(b"HTTP/1.1 429") and b"too slowly" in reply
    measure.wait_until(lambda: server.metric("vacate_http_held_bytes") == 0, "the release")


def test_announced_bytes_are_not_held(fake):
    """Clients that announce much and send nothing do not lock others out."""
    server = fake("--max-body", "1MiB", "--max-pending", "1MiB")
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(socket.create_connection((HERE, server.port), timeout=60))
            client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Length: 1000000\r\n\r\n{")
        measure.wait_until(lambda: server.metric("vacate_http_held_bytes") == 8, "them")
        assert server.ask().status == 200
        # Those who announce it and do send it are served, too.
        body = b'{"model":"a","input":"' + b"x" * 900_000 + b'"}'
        assert server.post("/v1/embeddings", body).status == 200


def test_pending_bytes_count_while_a_request_waits(fake):
    """What requests in work hold is bounded, and not only what is arriving."""
    server = fake("--max-body", "1MiB", "--max-pending", "1MiB", words="held-load")
    body = b'{"model":"a","input":"' + b"x" * 900_000 + b'"}'
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.post, "/v1/embeddings", body)
        measure.wait_until(lambda: server.states() == {"a": "loading"}, "the load")
        assert server.metric("vacate_http_held_bytes") == len(body)
        assert "--max-pending" in message(server.post("/v1/embeddings", body), 429)
        server.go()
        assert waiting.result().status == 200
    measure.wait_until(lambda: server.metric("vacate_http_held_bytes") == 0, "the release")


def chunked(server, count, size):
    """A body in chunks, without a length; the first line of the reply."""
    with socket.create_connection((HERE, server.port), timeout=60) as client:
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(count):
                client.sendall(b"%x\r\n" % size + b" " * size + b"\r\n")
            client.sendall(b"0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            return client.recv(4096).split(b"\r\n")[0]
        return b""


def test_body_without_a_length_is_bounded(fake):
    server = fake("--max-body", "64KiB")
    assert b" 413 " in chunked(server, 5, 20_000)
    assert chunked(server, 50, 20_000) == b""    # no end in sight: cut off
    works(server)


# ---- the end ----

@pytest.mark.threads
def test_sigterm_drains(fake):
    server = fake(words="slow-task-500")
    server.load("b")
    server.ask()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asked = pool.submit(server.ask)
        measure.wait_until(lambda: len(server.events("task")) == 2, "the task")
        server.process.send_signal(signal.SIGTERM)
        assert asked.result().status == 200
    assert server.process.wait(60) == 0
    assert len(server.events("unload")) == 2 and len(server.events("shutdown")) == 1


def test_sigterm_while_loading(fake):
    server = fake(words="slow-load-400")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask)
        measure.wait_until(lambda: server.events("load"), "the load")
        server.process.send_signal(signal.SIGTERM)
        assert asked.result().status == 200
    assert server.process.wait(60) == 0


def test_drain_has_a_limit(fake):
    server = fake("--drain-timeout", "300ms", words="hang-task")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask)
        measure.wait_until(lambda: server.events("task"), "the task")
        server.process.send_signal(signal.SIGINT)
        assert "shutting down" in message(asked.result(), 503)
    assert server.process.wait(60) == 0
    assert not server.workers()


def test_second_signal_ends_at_once(fake):
    server = fake("--drain-timeout", "1h", words="hang-task")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask)
        measure.wait_until(lambda: server.events("task"), "the task")
        (worker,) = server.workers()
        server.process.send_signal(signal.SIGTERM)
        measure.wait_until(lambda: "no more connections" in server.stderr(), "the first signal")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 1    # and not after an hour
        assert "shutting down" in message(asked.result(), 503)
    assert not measure.alive(worker)


def test_journal(fake, tmp_path):
    journal = tmp_path / "receipts.jsonl"
    server = fake("--journal", journal)
    works(server)
    receipt = server.unload("a")
    journal.rename(tmp_path / "old")
    server.process.send_signal(signal.SIGHUP)
    measure.wait_until(journal.exists, "the new journal")
    works(server)
    server.stop()
    assert [json.loads(line) for line in (tmp_path / "old").read_text().splitlines()] == [
        {"time": receipt["at"], "event": "receipt", **receipt}]
    (last,) = [json.loads(line) for line in journal.read_text().splitlines()]
    assert last["reason"] == "shutdown" and last["id"] == receipt["id"] + 1


def test_journal_without_room(fake):
    server = fake("--journal", "/dev/full")
    for _ in range(3):
        works(server)
        server.unload("a")
    assert server.metric("vacate_journal_errors_total") == 3
    assert server.stderr().count("/dev/full") == 1    # said once


@pytest.mark.measured
def test_memory_over_rounds(fake):
    """Pages of the program itself are not looked at: they become private when other
    servers that map them end."""
    server = fake()
    server.get("/healthz")
    before, files = measure.pss_anon(server.pid), len(measure.open_files(server.pid))
    assert measure.uss(server.pid) <= 6 << 20
    after = []
    for _ in range(15):
        works(server)
        server.unload("a")
        after.append(measure.pss_anon(server.pid))
    assert after[0] - before <= 256 << 10
    assert after[-1] - after[9] <= 64 << 10
    measure.wait_until(lambda: len(measure.open_files(server.pid)) <= files,
                       "the close of the last connection")
