"""Many models and room for a few: who is admitted, who makes way, who waits and
for how long, and who is blamed when a worker dies. Sizes and faults come from
tests/e2e/fake_worker.py; alternation and memory from real workers."""
import concurrent.futures
import contextlib
import os
import pathlib
import signal
import socket
import time

import crowd
import measure
import pytest
from test_supervisor import fake, message, works  # noqa: F401  (fake is a fixture)


def state_of(server, name):
    return server.states().get(name)


# ---- budgets ----

def test_what_can_never_fit_is_refused_at_once(fake):  # noqa: F811
    server = fake("--ram", "9MiB", words="plan-10")
    reply = server.ask()
    text = message(reply, 503)      # and no 504, as of what waited
    assert "10.0 MiB" in text and "the budget is 9.0 MiB" in text and "--ram" in text
    assert "retry-after" not in reply.headers
    assert server.events("load") == []
    assert server.metric("vacate_refusals_total") == 1
    measure.wait_until(lambda: not server.workers(), "the end of the worker that planned")
    server.says("plan-9")
    (pathlib.Path(server.log).parent / "models/a/config.json").write_text("{ }")
    works(server)


def test_plan_is_asked_once_for_the_same_files(fake):  # noqa: F811
    server = fake(words="plan-1")
    for _ in range(3):
        works(server)
        server.unload("a")
    assert len(server.events("plan")) == 1 and len(server.events("load")) == 3
    assert server.ok("GET", "/models/plan?model=a")["plan"]["host_bytes"] == 1 << 20
    assert len(server.events("plan")) == 1


def test_least_recently_used_makes_way(fake):  # noqa: F811
    server = fake("--ram", "200MiB", words="plan-100")
    for name in ("a", "b", "a"):
        assert server.ask(name).status == 200
    assert server.states() == {"a": "resident", "b": "resident"}
    assert server.ask("c").status == 200
    assert server.states() == {"a": "resident", "c": "resident"}
    (receipt,) = server.receipts()
    assert receipt["model"] == "b" and receipt["reason"] == "evicted"
    assert not receipt["worker"]["exited"]
    assert server.metric("vacate_evictions_total") == 1
    assert server.ask("b").status == 200
    assert server.metric("vacate_quick_reloads_total") == 1
    assert len(server.events("hello")) == 1    # one worker through all of it


def test_one_that_answers_is_not_evicted(fake):  # noqa: F811
    server = fake("--ram", "100MiB", "--turn", "0", words="plan-100,slow-task-400")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.ask, "a")
        measure.wait_until(lambda: server.events("task"), "the task")
        second = pool.submit(server.ask, "b")
        assert first.result().status == 200 and second.result().status == 200
    kinds = [e.split()[0] for e in server.events() if e.split()[0] in ("task", "unload", "load")]
    assert kinds == ["load", "task", "unload", "load", "task"]


def test_pin(fake):  # noqa: F811
    server = fake("--ram", "100MiB", "--pin", "a", "--keep-alive", "100ms", words="plan-100")
    works(server)
    reply = server.ask("b")
    assert "what is pinned (a)" in message(reply, 503)
    time.sleep(0.3)
    assert server.states() == {"a": "resident"}
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)    # it comes back by itself
    measure.wait_until(lambda: len(server.events("load")) == 2, "the second load")
    measure.wait_until(lambda: state_of(server, "a") == "resident", "a")
    server.unload("a")
    assert server.ask("b").status == 200


def test_min_resident(fake):  # noqa: F811
    server = fake("--ram", "100MiB", "--min-resident", "1s", words="plan-100")
    started = time.monotonic()
    works(server)
    assert server.ask("b").status == 200
    assert 1 <= time.monotonic() - started < 60


def test_other_processes_count(fake):  # noqa: F811
    """No memory is left beyond the headroom: the load waits, is told why, and
    goes on as soon as there is."""
    host = harness_host()
    # Between what is free and what there is: others on this machine may come and go.
    headroom = (host["MemAvailable"] + host["MemTotal"] - (256 << 20)) // 2
    if headroom < host["MemAvailable"] + (64 << 20):
        pytest.skip("this machine is all but empty: nothing can be made scarce")
    server = fake("--headroom", str(headroom), "--ram", "100%", words="plan-200")
    assert server.ok("GET", "/models/plan?model=a")["plan"]["host_bytes"] == 200 << 20
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, headers={"X-Request-Timeout": "3"})
        measure.wait_until(lambda: state_of(server, "a") == "waiting", "the waiting")
        assert server.metric("vacate_models_waiting") == 1
        text = message(asked.result(), 504)
    assert "for room" in text and "200.0 MiB" in text
    # Nobody waits for it any more.
    measure.wait_until(lambda: server.states() == {}, "the end of the wait")
    assert server.events("load") == []


def harness_host():
    with open("/proc/meminfo", encoding="ascii") as file:
        return {k: int(v.split()[0]) << 10 for k, v in (line.split(":") for line in file)}


# ---- waiting ----

def test_request_timeout_in_the_queue(fake):  # noqa: F811
    server = fake("--timeout", "300ms", words="held-load")
    started = time.monotonic()
    assert "not resident" in message(server.ask(), 504)
    assert 0.3 <= time.monotonic() - started < 60
    server.go()
    measure.wait_until(lambda: server.states() == {"a": "resident"}, "the load, all the same")
    assert server.events("task") == []
    assert server.metric("vacate_request_timeouts_total") == 1


def test_request_timeout_while_it_runs(fake):  # noqa: F811
    server = fake(words="held-task")
    server.go()
    works(server)
    server.hold()
    for header, least in (("0.2", 0.2), ("250ms", 0.25)):
        started = time.monotonic()
        text = message(server.ask(headers={"X-Request-Timeout": header}), 504)
        assert "was not done within its 0.2" in text
        assert least <= time.monotonic() - started < 60
    server.go()
    measure.wait_until(lambda: len(server.events("cancel")) == 2, "CANCEL")
    works(server)    # default: five minutes


@pytest.mark.parametrize("header", ["0", "-1", "soon", "1 s", ""])
def test_request_timeout_that_is_none(fake, header):  # noqa: F811
    server = fake()
    reply = server.ask(headers={"X-Request-Timeout": header})
    assert "X-Request-Timeout" in message(reply, 400)
    assert server.events() == []


def test_client_that_leaves_the_line(fake):  # noqa: F811
    server = fake("--ram", "100MiB", "--min-resident", "1h", words="plan-100")
    works(server)
    assert state_of(server, "b") is None
    body = b'{"model":"b","input":"x"}'
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as client:
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                       % len(body) + body)
        measure.wait_until(lambda: state_of(server, "b") == "waiting", "the place in line")
    measure.wait_until(lambda: state_of(server, "b") is None, "the leaving")
    assert server.states() == {"a": "resident"}


# ---- supervision ----

@pytest.mark.parametrize("words", ["working", "silent"])
def test_a_model_that_kills_its_worker_is_set_aside(fake, words):  # noqa: F811
    """b kills its worker with every task; a answers on through all of it."""
    server = fake("--keep-alive", "1h", words=f"die-task-of-b,{words},slow-task-20")
    works(server)
    stop = []

    def others():
        replies = []
        while not stop:
            replies.append(server.ask("a"))
        return replies

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        # Of a worker that does not say what it is at, nobody else may be busy.
        loops = [pool.submit(others) for _ in range(3 if words == "working" else 0)]
        try:
            first = message(server.ask("b"), 503)
            second = server.ask("b")
        finally:
            stop.append(True)
        for loop in loops:
            assert {r.status for r in loop.result()} == {200}
    assert "two workers" in first
    assert "3 times in a row" in message(second, 503) and "retry-after" not in second.headers
    deaths = server.metric("vacate_worker_deaths_total")
    assert deaths == 3
    assert "set aside" in message(server.ask("b"), 503)
    assert server.metric("vacate_worker_deaths_total") == deaths    # it is not tried
    shown = {m["name"]: m for m in server.ok("GET", "/models/ps")["models"]}
    assert shown["b"]["state"] == "failed" and "set aside" in shown["b"]["reason"]
    works(server)
    if words == "working":
        assert server.stderr().count("was working for model b") == 3
    server.says("")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)    # idle: nobody's fault
    measure.wait_until(lambda: state_of(server, "a") is None, "the reaping")
    assert server.load("b")["state"] == "resident"
    assert server.ask("b").status == 200


def test_a_model_that_kills_its_worker_in_loads(fake):  # noqa: F811
    server = fake(words="die-load")
    assert "two workers" in message(server.ask(), 503)
    assert "set aside" in message(server.ask(), 503)
    assert len(server.events("load")) == 3
    reply = server.post("/models/load", {"model": "a"})    # tried again, twice at most
    assert reply.status == 503 and "set aside" not in reply.json["error"]["message"]
    assert len(server.events("load")) == 5
    server.says("")
    works(server)


def test_worker_goes_before_the_server(start):
    server = start()
    server.embed("tiny/a", ["x"])
    (worker,) = server.workers()
    score = {}
    for pid in (server.pid, worker):
        score[pid] = int(pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text())
    assert score[worker] == min(1000, score[server.pid] + 300)


@pytest.mark.measured
def test_real_worker_says_what_it_is_at(start):
    """Two models compute; SIGKILL; the log names one of them, both answer."""
    server = start()
    texts = ["the quiet garden in winter " * 10] * 1000
    for name in ("big/a", "tiny/b"):
        server.load(name)
    (worker,) = server.workers()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(server.embed, name, texts) for name in ("big/a", "tiny/b")]
        time.sleep(0.3)
        assert not asked[0].done()
        os.kill(worker, signal.SIGKILL)
        for answer in asked:
            assert len(answer.result()) == len(texts)
    assert server.stderr().count(f"worker {worker} was working for model ") == 1
    assert server.workers() != [worker]


# ---- alternation ----

def budget_for(server, *names):
    """Bytes that those models take together, while the last of them loads."""
    plans = [server.ok("GET", f"/models/plan?model={name}")["plan"] for name in names]
    own = sum(p["own_host_bytes"] for p in plans)
    return (own + max(p["host_bytes"] - p["own_host_bytes"] for p in plans)
            + max(p["load_bytes"] for p in plans))


@pytest.mark.threads
def test_two_models_with_room_for_one(start):
    """Eight clients each for some seconds: both answer, and what they answer is
    what they answer alone."""
    names = ("tiny/a", "tiny/b")
    plain = start()
    room = max(budget_for(plain, name) for name in names)
    golden = {name: plain.embed(name, ["a garden in winter"]) for name in names}
    assert golden["tiny/a"] != golden["tiny/b"]
    server = start("--ram", str(room), "--turn", "200ms")
    begin = time.monotonic()
    counts = {name: 0 for name in names}

    def enough():
        """Some seconds, and longer where everything is slow."""
        took = time.monotonic() - begin
        return took > 4 and (0.2 * max(counts.values()) > 10 or took > measure.patience(60))

    def client(name):
        while not enough():
            assert server.embed(name, ["a garden in winter"]) == golden[name]
            counts[name] += 1    # under the interpreter's lock, near enough

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(client, names * 8))
    assert min(counts.values()) > 0.2 * max(counts.values()) > 10, counts
    states = [m["state"] for m in server.ok("GET", "/models/ps")["models"]]
    assert states.count("resident") <= 1
    reasons = {r["reason"] for r in server.ok("GET", "/receipts")["receipts"]}
    assert reasons == {"evicted"}


# ---- crowds ----

def crowd_on(zoo_path, start, names, room, clients, seconds, beside=(), options=()):
    """Zipf's load on models with room for a few; (crowd, sampler, budget, metrics)."""
    plain = start(models=zoo_path)
    budget = crowd.budget_bytes(plain, names, room)
    golden = crowd.alone(plain, names)
    plain.stop()
    server = start("--ram", str(budget), *options, models=zoo_path)
    sampler = crowd.Sampler(server)
    threads = [sampler, *(make(server) for make in beside)]
    for thread in threads:
        thread.start()
    it = crowd.Crowd(server, golden, clients, seconds).run()
    for thread in threads:
        thread.finish()
    assert it.failed == [] and it.wrong == []
    assert all(it.answers.values()), it.answers
    assert sampler.peak <= 1.05 * budget, (sampler.peak, budget)
    numbers = crowd.metrics(server)
    assert numbers["vacate_evictions_total"] > 0 and numbers["vacate_set_aside_total"] == 0
    return it, sampler, threads[1:], numbers


def flat(uss):
    """The second half of a run takes no more than the first."""
    half = len(uss) // 2
    assert max(uss[half:]) - max(uss[:half]) <= 256 << 10, uss


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    path = tmp_path_factory.mktemp("few")
    return path, crowd.make_zoo(path, 8)


@pytest.mark.measured
def test_more_models_than_room(few, start):
    it, sampler, _, _ = crowd_on(few[0], start, few[1], 3, 16, 6)
    assert it.killed_twice == 0 and sampler.samples > 20


@pytest.mark.measured
def test_more_models_than_room_and_kills(few, start):
    _, _, (killer,), numbers = crowd_on(few[0], start, few[1], 3, 16, 6,
                                        [lambda server: crowd.Killer(server, 1.0)])
    assert 2 <= killer.kills == numbers["vacate_worker_deaths_total"]


SOAK_S = int(os.environ.get("VACATE_SOAK_SECONDS") or 600)


@pytest.fixture(scope="module")
def forty(tmp_path_factory, sample):
    path = tmp_path_factory.mktemp("forty")
    return path, crowd.make_zoo(path, 40, sample[0] / sample[1])


@pytest.mark.soak
@pytest.mark.measured
def test_forty_models_room_for_eight(forty, start):
    it, sampler, _, _ = crowd_on(forty[0], start, forty[1], 8, 64, SOAK_S)
    assert it.killed_twice == 0
    flat(sampler.uss)


@pytest.mark.soak
@pytest.mark.measured
def test_forty_models_kills_and_a_hog(forty, start):
    headroom = crowd.memory("MemAvailable") - int(0.3 * crowd.memory("MemTotal"))
    _, sampler, (killer, hog), _ = crowd_on(
        forty[0], start, forty[1], 8, 64, SOAK_S, [crowd.Killer, lambda _: crowd.Hog()],
        ["--headroom", str(headroom)])
    assert killer.kills > SOAK_S / 20 and hog.rounds > 0
    flat(sampler.uss)


@pytest.mark.soak
@pytest.mark.measured
def test_alternation_starves_nobody(few, start):
    """Neither of two busy models with room for one is silent for longer than a
    turn and a change, nor both for longer than a change."""
    names = few[1][:2]
    plain = start(models=few[0])
    budget = max(crowd.budget_bytes(plain, [name], 1) for name in names)
    golden = crowd.alone(plain, names)
    server = start("--ram", str(budget), models=few[0])
    it = crowd.Alternation(server, golden, 8, min(SOAK_S, 60)).run()
    assert it.failed == []
    assert it.longest_gap(*names) < 1
    assert max(it.longest_gap(name) for name in names) < 3
