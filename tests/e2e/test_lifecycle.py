"""Models move in, answer, and move out; memory is measured from outside."""
import concurrent.futures
import re
import threading
import time

import measure
import pytest

KIB, MIB = 1 << 10, 1 << 20
TEXTS = ["The harbour is quiet.", "A lighthouse by the sea", "memory comes back"]


def states(server):
    return {m["name"]: m["state"] for m in server.ok("GET", "/models/ps")["models"]}


def receipts(server):
    """Newest first."""
    return server.ok("GET", "/receipts")["receipts"]


def gone(server):
    return measure.wait_until(lambda: not server.workers(), "the worker's end") or True


def settle(server):
    """A server that has answered once; its private memory."""
    server.get("/healthz")
    return measure.uss(server.pid)


def metric(server, name):
    """Sum of a metric over its labels."""
    text = server.get("/metrics").body.decode()
    values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
              if re.match(rf"{name}(\{{|\s)", line)]
    assert values, f"no metric {name} in\n{text}"
    return sum(values)


@pytest.mark.threads
def test_nothing_runs_until_it_is_asked_for(server):
    for path in ("/healthz", "/metrics", "/models", "/models/ps", "/v1/models", "/api/ps",
                 "/receipts", "/models/plan?model=tiny/a"):
        assert server.get(path).status == 200, path
    measure.wait_until(lambda: not server.workers(), "the planning worker's end")
    assert "resident" not in states(server).values()


@pytest.mark.threads
def test_load_on_demand(server):
    assert states(server).get("tiny/a", "absent") == "absent"
    assert len(server.embed("tiny/a", TEXTS)) == 3
    assert states(server) == {"tiny/a": "resident"}
    assert len(server.workers()) == 1
    server.unload("tiny/a")
    assert states(server) == {}
    assert gone(server)


def test_list_shows_the_plan(server):
    names = [m["name"] for m in server.ok("GET", "/models")["models"]]
    assert names == sorted(names)
    assert {"tiny/a", "tiny/b", "big/a"} <= set(names)


@pytest.mark.threads
def test_single_flight(server):
    """A hundred requests for an absent model make one load."""
    seen = set()
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            seen.update(server.workers())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda i: server.embed("tiny/a", [TEXTS[i % 3]])[0], range(100)))
    stop.set()
    watcher.join()
    for i, answer in enumerate(answers):
        assert max(abs(x - y) for x, y in zip(answer, answers[i % 3])) <= 2e-6
    assert len(seen) == 1
    server.unload("tiny/a")
    (receipt,) = receipts(server)
    assert receipt["requests"] == 100
    assert metric(server, "vacate_loads_total") == 1
    assert metric(server, "vacate_unloads_total") == 1


@pytest.mark.threads
def test_idle_unload(start):
    server = start("--keep-alive", "400ms")
    started, kept = time.monotonic(), 0
    while time.monotonic() < started + 0.5 or kept < 4:    # requests keep it
        before = time.monotonic()
        server.embed("tiny/a", TEXTS)
        shown = states(server)
        if time.monotonic() - before < 0.4:    # later it may have gone already
            assert shown == {"tiny/a": "resident"}
            kept += 1
        assert time.monotonic() < started + measure.patience(60)
        time.sleep(0.05)
    measure.wait_until(lambda: not states(server), "idle unload")    # which probes do not
    assert gone(server)
    assert receipts(server)[0]["reason"] == "idle"


@pytest.mark.measured
def test_receipt_against_what_an_onlooker_sees(server):
    before = settle(server)
    server.embed("big/a", TEXTS)
    (worker,) = server.workers()
    loaded = measure.smaps_rollup(worker)
    worker_uss = measure.uss(worker)
    assert loaded["Pss_Anon"] > 22 * MIB    # the weights are there, and not as a file's pages
    started = time.perf_counter()
    receipt = server.unload("big/a")
    unload_ms = (time.perf_counter() - started) * 1e3
    assert not measure.alive(worker)
    after = measure.uss(server.pid)

    assert receipt["model"] == "big/a" and receipt["device"] == "cpu"
    assert receipt["reason"] == "request" and receipt["requests"] == 1
    assert receipt["worker"]["pid"] == worker and receipt["worker"]["exited"] is True
    assert receipt["planned_bytes"] == receipt["ledger_bytes"] > 22 * MIB
    assert receipt["unaccounted_bytes"] <= 1 * MIB
    seen = receipt["worker"]["before"]["uss_bytes"]
    assert abs(seen - worker_uss) < 512 * KIB
    assert abs(receipt["worker"]["before"]["pss_anon_bytes"] - loaded["Pss_Anon"]) < 512 * KIB
    assert receipt["returned_bytes"] == seen - receipt["worker"]["after"]["uss_bytes"]
    assert receipt["worker"]["after"]["uss_bytes"] == 0
    assert abs(receipt["server"]["after"]["uss_bytes"] - after) < 256 * KIB
    assert abs(receipt["unload_ms"] - unload_ms) < 20
    assert abs(time.time() * 1e3 - at_ms(receipt["at"])) < 60_000
    assert after - before <= 256 * KIB
    assert receipts(server) == [receipt]


def at_ms(at):
    """The receipt's time, RFC 3339 or milliseconds, as milliseconds since 1970."""
    if isinstance(at, (int, float)):
        return at
    import datetime
    return datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() * 1e3


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_plan_is_ledger_to_the_byte(start, zoo, backend):
    """For every kind of model, alone and beside others."""
    server = start("--backend", backend)
    names = ["tiny/a", "big/a"] + ["random/" + name for name in zoo.random]
    for name in names:
        planned = server.ok("GET", f"/models/plan?model={name}")
        server.load(name)
        receipt = server.unload(name)
        assert receipt["planned_bytes"] == receipt["ledger_bytes"], name
        regions = [item["bytes"] for item in planned["plan"]["items"]]
        assert sum(regions) == receipt["planned_bytes"], name


@pytest.mark.measured
def test_one_leaves_while_the_others_answer(server):
    server.embed("tiny/a", TEXTS)
    server.embed("big/a", TEXTS)
    (worker,) = server.workers()
    first = server.embed("tiny/a", TEXTS)
    before = measure.smaps_rollup(worker)["Pss_Anon"]
    stop, errors, count = threading.Event(), [], [0]

    def ask():
        while not stop.is_set():
            answer = server.embed("tiny/a", TEXTS)
            if max(abs(x - y) for a, b in zip(answer, first) for x, y in zip(a, b)) > 2e-6:
                errors.append(answer)
            count[0] += 1

    asker = threading.Thread(target=ask)
    asker.start()
    time.sleep(0.2)
    receipt = server.unload("big/a")
    time.sleep(0.2)
    stop.set()
    asker.join()
    assert not errors and count[0] > 10
    assert server.workers() == [worker]
    assert receipt["worker"]["exited"] is False
    # The shared scratch stays as large as tiny/a needs it; all else came back.
    back = before - measure.smaps_rollup(worker)["Pss_Anon"]
    assert back >= 20 * MIB
    assert receipt["unaccounted_bytes"] <= 1 * MIB
    assert states(server) == {"tiny/a": "resident"}


@pytest.mark.threads
def test_unload_drains(server):
    """What was asked before the unload is answered; what comes later loads it again."""
    first = server.embed("tiny/a", TEXTS * 20)
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(server.embed, "tiny/a", TEXTS * 20) for _ in range(8)]
        time.sleep(0.01)
        unload = pool.submit(server.unload, "tiny/a")
        for answer in asked:
            for a, b in zip(answer.result(), first, strict=True):
                assert max(abs(x - y) for x, y in zip(a, b)) <= 2e-6
        assert unload.result()["model"] == "tiny/a"


def test_unload_all(server):
    for name in "abc":
        server.embed(f"tiny/{name}", TEXTS)
    assert len(server.ok("POST", "/models/unload", {"all": True})["receipts"]) == 3
    assert states(server) == {} and gone(server)
    assert [r["id"] for r in receipts(server)] == [3, 2, 1]
    assert sorted(r["model"] for r in receipts(server)) == ["tiny/a", "tiny/b", "tiny/c"]


def test_unload_of_what_is_not_there(server):
    reply = server.post("/models/unload", {"model": "tiny/none"})
    assert reply.status == 404 and "tiny/none" in reply.body.decode()
    assert receipts(server) == []


@pytest.mark.threads
def test_a_client_that_leaves_does_not_abort_the_load(server):
    import socket
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        body = b'{"model":"big/a","input":"x"}'
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                       % len(body) + body)
    measure.wait_until(lambda: states(server) == {"big/a": "resident"}, "the load")
    server.embed("big/a", TEXTS)
    assert metric(server, "vacate_loads_total") == 1


def test_journal_keeps_the_receipts(start, tmp_path):
    import json
    journal = tmp_path / "journal"
    server = start("--journal", journal)
    server.embed("tiny/a", TEXTS)
    receipt = server.unload("tiny/a")
    assert [json.loads(line) for line in journal.read_text().splitlines()] == [
        {"time": receipt["at"], "event": "receipt", **receipt}]
    server.embed("tiny/b", TEXTS)
    assert server.stop() == 0    # what is resident at the end is unloaded, with a receipt
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [(r["model"], r["reason"]) for r in lines] == [
        ("tiny/a", "request"), ("tiny/b", "shutdown")]


def test_no_answer_is_cached(server):
    """Asked twice, computed twice: both are counted."""
    for _ in range(2):
        server.embed("tiny/a", ["the same text"])
    assert server.unload("tiny/a")["requests"] == 2


@pytest.mark.measured
def test_idle_server_is_small(server):
    settle(server)
    assert measure.uss(server.pid) <= 6 * MIB


@pytest.mark.measured
def test_memory_returns_over_rounds(server):
    baseline = settle(server)
    after = []
    for _ in range(12):
        server.embed("tiny/a", TEXTS)
        server.unload("tiny/a")
        after.append(measure.uss(server.pid))
    assert after[0] - baseline <= 256 * KIB
    assert after[-1] - after[9] <= 64 * KIB
    assert not server.workers()


@pytest.mark.soak
@pytest.mark.measured
def test_500_rounds(server):
    baseline = settle(server)
    after, files = [], len(measure.open_files(server.pid))
    for _ in range(500):
        server.embed("tiny/a", TEXTS)
        server.unload("tiny/a")
        after.append(measure.uss(server.pid))
    assert after[0] - baseline <= 256 * KIB
    assert max(after[9:]) - after[9] <= 64 * KIB
    measure.wait_until(lambda: len(measure.open_files(server.pid)) <= files,
                       "the close of the last connection")


@pytest.mark.soak
@pytest.mark.measured
def test_an_hour_of_requests_in_a_minute(server):
    """60,000 requests over kept-alive connections: the server does not grow."""
    import http.client
    import json

    def ask(count):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        for i in range(count):
            connection.request("POST", "/v1/embeddings", json.dumps(
                {"model": "tiny/a", "input": TEXTS[i % 3], "encoding_format": "base64"}))
            reply = connection.getresponse()
            assert reply.status == 200, reply.read()
            reply.read()
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, [250] * 8))
        middle = measure.uss(server.pid)
        list(pool.map(ask, [7250] * 8))
    assert measure.uss(server.pid) - middle <= 256 * KIB
