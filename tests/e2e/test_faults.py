"""What goes wrong from outside: killed workers, rude clients, full disks.
Every test ends with a server that answers and has no more than it had."""
import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import harness
import measure
import pytest

KIB, MIB = 1 << 10, 1 << 20
TEXTS = ["The harbour is quiet.", "A lighthouse by the sea", "memory comes back"]
LONG = "sea harbour light " * 40


def close_to(a, b):
    return all(abs(x - y) <= 2e-6 for r, s in zip(a, b, strict=True)
               for x, y in zip(r, s, strict=True))


def long_work(server):
    """Texts that take big/a some hundred milliseconds here, in whatever build
    and on whatever backend; loads it."""
    server.embed("big/a", [LONG])
    started = time.monotonic()
    server.embed("big/a", [LONG] * 4)
    return [LONG] * min(240, max(2, round(4 * 0.5 / (time.monotonic() - started))))


def in_work(server, pool, texts):
    """A future of those texts, which the server has begun and not ended."""
    for _ in range(20):
        asked = pool.submit(server.embed, "big/a", texts)
        while not asked.done():
            # that one and the one that asks
            if metrics(server)["vacate_http_requests_in_flight"] == 2 and not asked.done():
                return asked
    pytest.fail("it was always answered before it could be seen")


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def raw(server, data, timeout_s=60):
    """Sends bytes and returns everything until the server closes, which it does
    after an error or a Connection: close."""
    with connect(server) as client:
        client.settimeout(timeout_s)
        client.sendall(data)
        out = b""
        while chunk := client.recv(65536):
            out += chunk
        return out


def head(length, path="/v1/embeddings"):
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Length: {length}\r\n\r\n").encode()


def metrics(server):
    """Metrics without labels, by name."""
    lines = server.get("/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)
            if not name.startswith("#") and "{" not in name}


# ---- workers ----

@pytest.mark.threads
def test_worker_killed_in_the_middle_of_a_batch(server):
    """The request is run once more on a fresh worker, and nobody notices."""
    texts = long_work(server)
    expected = server.embed("big/a", texts)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        (worker,) = server.workers()
        asked = in_work(server, pool, texts)
        os.kill(worker, signal.SIGKILL)
        assert close_to(asked.result(), expected)
    assert not measure.alive(worker) and worker not in server.workers()
    receipt = server.ok("GET", "/receipts")["receipts"][0]
    assert receipt["reason"] == "worker_died" and receipt["worker"]["pid"] == worker
    server.unload("big/a")
    assert not server.workers()


def test_worker_killed_again_and_again(server):
    """A retry is made once; then the client is told, and the server lives."""
    texts = long_work(server)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.post, "/v1/embeddings", {"model": "big/a", "input": texts})
        deadline = time.monotonic() + measure.patience(60)
        while not asked.done() and time.monotonic() < deadline:
            for worker in server.workers():
                os.kill(worker, signal.SIGKILL)
            time.sleep(0.01)
        reply = asked.result()
    assert reply.status == 503, reply
    assert reply.json["error"]["message"]
    # Where a worker starts slowly it was killed three times by now, and the model
    # is set aside until somebody loads it.
    server.load("big/a")
    assert len(server.embed("big/a", TEXTS)) == 3


@pytest.mark.measured
def test_killed_workers_cost_no_memory(server):
    server.embed("tiny/a", TEXTS)
    server.unload("tiny/a")
    before, files = measure.uss(server.pid), len(measure.open_files(server.pid))
    for _ in range(20):
        server.embed("tiny/a", TEXTS)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        measure.wait_until(lambda: worker not in measure.children(server.pid), "reaping")
    measure.wait_until(lambda: not server.workers(), "quiet")
    assert measure.uss(server.pid) - before <= 256 * KIB
    measure.wait_until(lambda: len(measure.open_files(server.pid)) <= files,
                       "the close of the last connection")


def test_stopped_worker_does_not_stop_the_server(server):
    """A worker that hangs holds up its own requests and nothing else."""
    server.embed("tiny/a", TEXTS)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        for path in ("/healthz", "/models/ps", "/metrics", "/v1/models"):
            assert server.request("GET", path, timeout_s=60).status == 200
    finally:
        os.kill(worker, signal.SIGCONT)
    assert len(server.embed("tiny/a", TEXTS)) == 3


# ---- clients ----

@pytest.mark.threads
def test_clients_that_leave(server):
    server.embed("tiny/a", TEXTS)
    body = json.dumps({"model": "tiny/a", "input": TEXTS}).encode()
    for cut in (0, 1, 10, len(head(len(body))), len(head(len(body))) + 5, None):
        for _ in range(10):
            with connect(server) as client:
                client.sendall((head(len(body)) + body)[:cut])
    with connect(server) as client:    # with a reset instead of a farewell
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(head(len(body)) + body)
    assert len(server.embed("tiny/a", TEXTS)) == 3


@pytest.mark.parametrize("sent", [
    b"", b"POST /v1/emb", head(9000), head(9000) + b"{" * 100, head(90_000) + b"{" * 50_000])
def test_clients_that_leave_with_their_last_bytes(start, sent):
    """Bytes and farewell arrive in one event; the connection must not stay open
    until its time-out."""
    server = start("--client-timeout", "1h", "--idle-timeout", "1h")
    clients = [connect(server) for _ in range(20)]
    measure.wait_until(lambda: metrics(server)["vacate_http_connections"] == 21, "all")
    os.kill(server.pid, signal.SIGSTOP)
    for client in clients:
        client.sendall(sent)
        client.close()
    os.kill(server.pid, signal.SIGCONT)
    measure.wait_until(lambda: metrics(server)["vacate_http_connections"] == 1,
                       "the end of connections that were left")
    assert metrics(server)["vacate_http_held_bytes"] == 0


def test_half_closed_connection_gets_its_answer(server):
    """A client that only says that it will send no more, and waits."""
    with connect(server) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        client.shutdown(socket.SHUT_WR)
        data = b""
        while chunk := client.recv(4096):
            data += chunk
    assert data.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize("options, wrapper, most", [
    (["--max-connections", "6"], [], 6),
    # so few that it cannot keep some spare: accept() itself fails
    ([], ["prlimit", "--nofile=40:40"], 40),
    ([], ["prlimit", "--nofile=80:80"], 48),
])
def test_connections_beyond_the_limit(start, options, wrapper, most):
    """All seats taken: a load has descriptors all the same, and when all leave
    at once the server takes new clients."""
    server = start(*options, "--client-timeout", "1h", "--idle-timeout", "1h", wrapper=wrapper)
    clients = [connect(server) for _ in range(100)]
    measure.wait_until(lambda: len(measure.open_files(server.pid)) > 10, "connections")
    body = json.dumps({"model": "tiny/a", "input": "x"}).encode()
    clients[0].sendall(head(len(body)) + body)
    assert clients[0].recv(4096).startswith(b"HTTP/1.1 200")
    assert len(measure.open_files(server.pid)) <= most + 32
    os.kill(server.pid, signal.SIGSTOP)
    for client in clients:
        client.close()
    os.kill(server.pid, signal.SIGCONT)
    time.sleep(0.3)    # nothing else happens that could wake it
    assert server.get("/healthz", timeout_s=60).status == 200


def test_standard_descriptors_closed(start, tmp_path):
    """A journal must not become the place that messages go to."""
    journal = tmp_path / "journal"
    server = start("--journal", journal, "--log-level", "debug",
                   wrapper=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    server.embed("tiny/a", TEXTS)
    for pid in (server.pid, *server.workers()):
        files = measure.open_files(pid)
        assert [files.get(fd) for fd in (0, 1, 2)] == ["/dev/null"] * 3, files
    server.unload("tiny/a")
    assert [json.loads(line)["model"] for line in journal.read_text().splitlines()] == ["tiny/a"]


def test_slow_client_holds_up_nobody(server):
    server.embed("tiny/a", TEXTS)
    body = json.dumps({"model": "tiny/a", "input": "slow"}).encode()
    with connect(server) as slow:
        for byte in (head(len(body)) + body)[:-3]:
            slow.sendall(bytes([byte]))
            if byte % 16 == 0:
                assert server.get("/healthz").status == 200    # before the slow one is done
        slow.sendall(body[-3:])
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.measured
def test_five_hundred_idle_connections(server):
    server.get("/healthz")
    clients = [connect(server) for _ in range(500)]
    assert server.get("/healthz").status == 200
    assert len(server.embed("tiny/a", TEXTS)) == 3
    for client in clients:
        client.close()
    assert server.get("/healthz").status == 200


# ---- bodies ----

@pytest.mark.parametrize("body, status, where", [
    (b"", 400, None),
    (b"{", 400, None),
    (b'{"model":"tiny/a","input":"x"', 400, None),
    (b'{"model":"tiny/a","input":"x"}}', 400, None),
    (b'{"model":"tiny/a","input":"x",}', 400, None),
    (b'{"model":"tiny/a","input":NaN}', 400, None),
    (b'[]', 400, None),
    (b'null', 400, None),
    (b'{"model":"tiny/a"}', 400, "input"),
    (b'{"input":"x","model":5}', 400, "model"),
    (b'{"model":"tiny/a","input":{"a":1}}', 400, "input"),
    (b'{"model":"tiny/a","input":[["a"]]}', 400, "input"),
    (b'{"model":"tiny/a","input":["a",1]}', 400, "input"),
    (b'{"model":"tiny/a","input":[1.5]}', 400, "input"),
    (b'{"model":"tiny/a","input":[99999999999999999999]}', 400, None),
    (b'{"model":"tiny/a","input":"x","dimensions":"8"}', 400, "dimensions"),
    (b'{"model":"tiny/a","input":"x","dimensions":1e99}', 400, "dimensions"),
    (b'{"model":"tiny/a","input":"\xff\xfe"}', 400, None),
    (b'{"model":"tiny/a","input":"\xc0\x80"}', 400, None),
    (b'{"model":"tiny/a","input":"\xed\xa0\x80"}', 400, None),
    (b'{"model":"tiny/a","input":"\\ud800"}', 400, None),
    (b'{"model":"tiny/a","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, None),
    (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, None),
], ids=range(23))
def test_malformed_bodies(shared, body, status, where):
    reply = shared.post("/v1/embeddings", body, headers={"Content-Type": "application/json"})
    assert reply.status == status, reply
    error = reply.json["error"]
    assert len(error["message"]) > 10
    assert where is None or where in error["message"]


def test_too_large_a_body_is_refused_by_its_length(shared):
    """413 before the body is there, and without keeping it."""
    before = measure.rss(shared.pid)
    assert raw(shared, head(1 << 40)).startswith(b"HTTP/1.1 413")
    reply = shared.post("/v1/embeddings", b'{"model":"tiny/a","input":"' + b"x" * (33 << 20))
    assert reply.status == 413 and reply.json["error"]["message"]
    assert measure.rss(shared.pid) - before < 8 * MIB


def test_ten_thousand_inputs(shared):
    """Either all are answered in order, or the limit is named."""
    reply = shared.post("/v1/embeddings", {"model": "tiny/a", "encoding_format": "base64",
                                           "input": [f"text {i}" for i in range(10_000)]})
    if reply.status == 200:
        data = reply.json["data"]
        assert [item["index"] for item in data] == list(range(10_000))
    else:
        assert reply.status == 413
        assert "10000" in reply.json["error"]["message"].replace(",", "")
    assert len(shared.embed("tiny/a", TEXTS)) == 3


def test_long_text(shared):
    """A megabyte of text: refused by its token count, or by its size."""
    reply = shared.post("/v1/embeddings", {"model": "tiny/a", "input": "sea " * 250_000})
    assert reply.status in (400, 413), reply
    assert "128" in reply.json["error"]["message"] or reply.status == 413


@pytest.mark.parametrize("name, status", [
    ("tiny/none", 404), ("none", 404), ("..", 400), ("../../etc", 400), ("tiny/../tiny/a", 400),
    ("/etc", 400), ("./tiny/a", 400), ("tiny//a", 400), ("", 400), ("a/b/c/d", 400),
    ("tiny\\a", 400), ("tiny/a\u0000b", 400), ("tiny/a\n", 400), ("x" * 5000, 400)])
def test_names(shared, name, status):
    reply = shared.post("/v1/embeddings", {"model": name, "input": "x"})
    assert reply.status == status, reply
    assert reply.json["error"]["message"]


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nowhere", 404), ("GET", "/v1/embeddings", 405),
    ("DELETE", "/v1/models", 405), ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
    ("GET", "/" + "x" * 3000, 404)])
def test_paths(shared, method, path, status):
    reply = shared.request(method, path)
    assert reply.status == status
    assert status != 405 or reply.headers["allow"]


def test_not_http(shared):
    for data in (b"\0" * 4096, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                 b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                 b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n"):
        try:
            answer = raw(shared, data, timeout_s=2)
        except (ConnectionError, TimeoutError):    # cut off, or still waited for
            continue
        assert answer == b"" or answer.startswith(b"HTTP/1.") and b" 200 " not in answer[:20]
    assert shared.get("/healthz").status == 200


# ---- the system ----

def test_port_in_use(server, zoo, tmp_path):
    with pytest.raises(harness.StartError) as caught:
        harness.Server(zoo.path, tmp_path / "second.log", port=server.port)
    assert caught.value.returncode not in (0, None)
    assert str(server.port) in caught.value.stderr
    assert server.get("/healthz").status == 200


@pytest.mark.parametrize("options, where", [
    (["--port", "99999"], "99999"), (["--keep-alive", "soon"], "soon"),
    (["--backend", "abacus"], "abacus"), (["--threads", "-3"], "-3"),
    (["--models", "/nonexistent/models"], "/nonexistent/models"), (["--no-such-option"], "no-such")])
def test_bad_options(zoo, tmp_path, options, where):
    done = subprocess.run([str(harness.find_vacate()), "serve", *options],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode not in (0, -signal.SIGSEGV, -signal.SIGABRT)
    assert where in done.stderr


def test_journal_on_a_full_disk(start):
    """Receipts go on to callers; the log says what could not be kept."""
    server = start("--journal", "/dev/full")
    server.embed("tiny/a", TEXTS)
    assert server.unload("tiny/a")["model"] == "tiny/a"
    assert len(server.embed("tiny/a", TEXTS)) == 3
    assert "/dev/full" in server.stderr()


def test_journal_that_cannot_be_opened(zoo, tmp_path):
    with pytest.raises(harness.StartError) as caught:
        harness.Server(zoo.path, tmp_path / "log", "--journal", "/nonexistent/dir/journal")
    assert "/nonexistent/dir/journal" in caught.value.stderr


@pytest.mark.threads
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_drains(start, number):
    """What was asked is answered, no new connection is taken, the exit status is 0."""
    server = start()
    texts = long_work(server)
    expected = server.embed("big/a", texts)
    (worker,) = server.workers()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = in_work(server, pool, texts)
        server.process.send_signal(number)
        assert close_to(asked.result(), expected)
    assert server.process.wait(timeout=60) == 0
    assert not measure.alive(worker)


def test_server_killed_takes_its_workers_along(start):
    server = start()
    server.embed("tiny/a", TEXTS)
    workers = server.workers()
    server.process.kill()
    server.process.wait()
    measure.wait_until(lambda: not any(map(measure.alive, workers)), "the workers' end")


def test_hub_cache_layout(start, zoo, tmp_path):
    """org/name in the cache of huggingface_hub: refs/main names the snapshot."""
    repo = tmp_path / "hub" / "models--some--model"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0123abc")
    (repo / "snapshots").mkdir()
    (repo / "blobs").mkdir()
    snapshot = repo / "snapshots" / "0123abc"
    snapshot.mkdir()
    for path in pathlib.Path(zoo.path / "tiny" / "a").iterdir():    # links, as the hub makes them
        if path.is_dir():
            (snapshot / path.name).mkdir()
        for file in path.iterdir() if path.is_dir() else [path]:
            name = file.relative_to(zoo.path / "tiny" / "a")
            blob = repo / "blobs" / str(name).replace("/", "-")
            blob.write_bytes(file.read_bytes())
            (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    (tmp_path / "empty").mkdir()
    server = start(models=tmp_path / "empty", env={"HF_HUB_CACHE": str(tmp_path / "hub")})
    assert [m["id"] for m in server.ok("GET", "/v1/models")["data"]] == ["some/model"]
    assert len(server.embed("some/model", TEXTS)) == 3
