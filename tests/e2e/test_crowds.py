"""Clients that hold connections and do nothing with them, while others are served."""
import contextlib
import json
import socket
import subprocess
import time

import crowd
import harness
import make_models
import measure
import pytest

MIB = 1 << 20
BENCH = harness.ROOT / "bench"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The C clients of bench/: Python would measure Python."""
    place = tmp_path_factory.mktemp("programs")
    for name in ("load_client", "slow_client"):
        subprocess.run(["cc", "-std=gnu17", "-O2", "-D_GNU_SOURCE", "-o", place / name,
                        BENCH / f"{name}.c"], check=True)
    return place


def load(programs, server, connections, seconds, new=False, requests=10 ** 9):
    """What clients that ask again and again see; load_client.c says what is in it."""
    body = json.dumps({"model": "tiny/a", "input": "hello", "encoding_format": "base64"})
    done = subprocess.run([programs / "load_client", str(server.port), "/v1/embeddings",
                           str(connections), str(requests), str(seconds),
                           *(["new"] if new else [])],
                          input=body.encode(), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def check_slow_clients(programs, server, count, seconds):
    """Others are served nearly as before, on kept connections and on new ones."""
    server.embed("tiny/a", ["hello"])
    before = [load(programs, server, 4, 1, new) for new in (False, True)]
    slow = subprocess.Popen([programs / "slow_client", str(server.port), str(count),
                             str(2 * seconds + 4)], stdout=subprocess.PIPE, text=True)
    with slow:
        try:
            assert slow.stdout.readline() == "connected\n"
            during = [load(programs, server, 4, seconds, new) for new in (False, True)]
            memory = measure.uss(server.pid)
        except BaseException:
            slow.kill()
            raise
        told = json.loads(slow.stdout.read())
    for one, other in zip(before, during):
        assert other["failed"] == 0 and other["replies"] > 100, other
        assert other["p99_us"] <= max(5 * one["p99_us"], 50_000), (one, other)
    # 16 KiB of libmicrohttpd's and the kernel's count for each connection.
    assert memory < 64 * MIB
    return told


@pytest.mark.measured
def test_slow_clients(programs, start):
    server = start("--max-connections", "256")
    told = check_slow_clients(programs, server, 1000, 2)
    assert told["closed"] > 500
    numbers = crowd.metrics(server)
    assert numbers["vacate_http_crowded_out_total"] > 500
    measure.wait_until(lambda: crowd.metrics(server)["vacate_http_connections"] == 1, "the end")


@pytest.mark.soak
@pytest.mark.measured
def test_ten_thousand_slow_clients(programs, start):
    server = start()
    idle = measure.uss(server.pid)
    told = check_slow_clients(programs, server, 10_000, 20)
    assert told["closed"] > 10_000
    measure.wait_until(lambda: crowd.metrics(server)["vacate_http_connections"] == 1, "the end")
    measure.wait_until(lambda: measure.uss(server.pid) < idle + 2 * MIB, "its memory")


@pytest.mark.measured
def test_a_worker_after_a_crowd(programs, start):
    """What the tasks of a crowd took goes back when there is no more work. Pages of
    libraries are not looked at: they become private when others that map them end."""
    server = start("--max-queue", "4096")
    assert load(programs, server, 4, 1)["failed"] == 0
    (worker,) = server.workers()
    rest = measure.pss_anon(worker)
    for _ in range(3):
        assert load(programs, server, 1500, 1)["failed"] == 0
        measure.wait_until(lambda: measure.pss_anon(worker) <= rest + MIB // 4,
                           "the worker's memory goes back")
    assert server.workers() == [worker]


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def closed(client):
    client.settimeout(0.01)
    try:
        return client.recv(4096) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_resting_connections_make_way(start):
    """All seats are taken by clients that were served: the one that has rested
    longest goes, and not before the next comes."""
    server = start("--max-connections", "8")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(7)]
        for client in clients:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        time.sleep(1.2)
        assert not any(map(closed, clients))
        assert server.get("/healthz", timeout_s=60).status == 200
        measure.wait_until(lambda: closed(clients[0]), "the end of the first")
        assert [closed(client) for client in clients] == [True] + [False] * 6
        clients[1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        clients[1].settimeout(60)
        assert clients[1].recv(4096).startswith(b"HTTP/1.1 200")


def test_a_large_body_is_not_slow(start):
    """It takes longer than anybody's grace, but gets on; others come and go."""
    server = start("--max-connections", "4")
    text = "x" * 4_000_000
    body = json.dumps({"model": "tiny/a", "input": text}).encode()
    head = (b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body))
    with connect(server) as large, contextlib.ExitStack() as stack:
        large.sendall(head)
        for at in range(0, len(body), 100_000):
            large.sendall(body[at:at + 100_000])
            stack.enter_context(connect(server)).sendall(b"POST ")
            time.sleep(0.02)
        answer = large.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert crowd.metrics(server)["vacate_http_crowded_out_total"] > 10


def test_replies_that_nobody_takes(start, tmp_path):
    """They count as pending, so that others are told to wait and memory is
    bounded; and their connections are closed when their time is over."""
    make_models.make(tmp_path / "models" / "wide", make_models.preset(
        "tiny", seed=7, hidden=384, layers=1, sentence_transformers=True, normalize=True))
    timeout_s = 2 + round(measure.patience(0.6))    # all are held before the first is dropped
    server = start("--client-timeout", f"{timeout_s}s", "--max-pending", "20MiB",
                   models=tmp_path / "models")
    server.embed("wide", ["x"])
    body = json.dumps({"model": "wide", "input": ["hello"] * 2048}).encode()
    held = "vacate_http_held_bytes"
    with contextlib.ExitStack() as stack:
        for _ in range(4):    # 8 MB each, of which the kernel takes 4
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                           % len(body) + body)
        measure.wait_until(lambda: crowd.metrics(server)[held] > 20 * MIB, "replies")
        reply = server.post("/v1/embeddings", {"model": "wide", "input": "x"})
        assert reply.status == 429 and reply.headers["retry-after"]
        measure.wait_until(lambda: crowd.metrics(server)[held] == 0, "their end")
        measure.wait_until(lambda: crowd.metrics(server)["vacate_http_connections"] == 1, "all")
    assert len(server.embed("wide", ["x"])) == 1
