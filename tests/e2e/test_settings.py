"""What vacate.conf says of single models, seen from outside: who goes first, who
has a worker of its own, what the worker is told, and what a SIGHUP changes. The
workers are tests/e2e/fake_worker.py where it says so, else real ones."""
import concurrent.futures
import os
import signal
import time

import measure
import pytest
from test_supervisor import fake, message, works  # noqa: F401  (fake is a fixture)


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(4) as it:
        yield it


def conf(place, text):
    path = place / "vacate.conf"
    path.write_text(text)
    return path


def models(server):
    return {m["name"]: m for m in server.ok("GET", "/models/ps")["models"]}


def again(server, path, text):
    """Another vacate.conf, and the server knows of it."""
    path.write_text(text)
    before = server.metric("vacate_config_reloads_total")
    server.process.send_signal(signal.SIGHUP)
    measure.wait_until(lambda: server.metric("vacate_config_reloads_total") > before, "SIGHUP")
    assert server.metric("vacate_config_last_reload_successful") == 1


def events(server, *kinds):
    return [e.split()[0] + " " + e.split()[1].rsplit("/", 1)[-1] if len(e.split()) > 1 else e
            for e in server.events() if e.split()[0] in kinds]


def idle(server):
    """A client may have its reply before the server knows that it has left, and a
    model that answers does not make way."""
    measure.wait_until(lambda: not any(m["queued"] for m in
                                       server.ok("GET", "/models/ps")["models"]), "idle")


def test_settings_are_shown(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, "[model a]\npriority = -4\npin = yes\n[model b]\nisolate = yes\n")
    server = fake("--config", path, "--pin", "c")

    def told():
        return {m["name"]: (m["priority"], m["pinned"], m["isolate"])
                for m in server.ok("GET", "/models")["models"]}

    for name in ("a", "b", "c"):
        assert server.ask(name).status == 200
    expected = {"a": (-4, True, False), "b": (0, False, True), "c": (0, True, False)}
    assert told().items() >= expected.items()
    assert {n: (m["priority"], m["pinned"], m["isolate"])
            for n, m in models(server).items()} == expected
    # No idle time ends what is pinned.
    assert {n: m["expires_ms"] is None for n, m in models(server).items()} == {
        "a": True, "b": False, "c": True}
    again(server, path, "[model a]\npriority = 6\n")
    assert told()["a"] == (6, False, False)


# ---- who goes, who waits ----

def test_lower_priority_makes_way_first(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, "[model a]\npriority = 1\n[model b]\npriority = -1\n")
    server = fake("--config", path, "--ram", "200MiB", "--turn", "0", words="plan-100")
    for name in ("a", "b", "c"):
        assert server.ask(name).status == 200
        idle(server)
        time.sleep(0.3)     # it lingers, and its turn is that of some loads: both may leave then
    # a was used least recently, b is worth less.
    assert server.states() == {"a": "resident", "c": "resident"}
    again(server, path, "[model a]\npriority = -2\n")
    assert server.ask("b").status == 200
    assert server.states() == {"b": "resident", "c": "resident"}


def test_higher_priority_is_loaded_first(fake, pool, tmp_path):  # noqa: F811
    path = conf(tmp_path, "[model a]\nmin-resident = 1h\n[model c]\npriority = 3\n")
    server = fake("--config", path, "--ram", "100MiB", words="plan-100")
    works(server)
    waiting = []
    for name in ("b", "c"):
        waiting.append(pool.submit(server.ask, name))
        measure.wait_until(lambda n=name: server.states().get(n) == "waiting", "the line")
    assert server.metric("vacate_models_waiting") == 2
    assert 0 < server.metric("vacate_longest_wait_seconds") < 60
    assert server.states() == {"a": "resident", "b": "waiting", "c": "waiting"}
    again(server, path, "[model c]\npriority = 3\n")
    for one in waiting:
        assert one.result().status == 200
    assert events(server, "load") == ["load a", "load c", "load b"]


def test_min_resident_of_one(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, "[model a]\nmin-resident = 1s\n")
    server = fake("--config", path, "--ram", "100MiB", "--turn", "0", words="plan-100")
    started = time.monotonic()
    works(server)
    assert server.ask("b").status == 200
    assert 1 <= time.monotonic() - started < 60
    again(server, path, "[model a]\nmin-resident = 1h\n")
    assert server.ask("c").status == 200    # b has no such right


# ---- a worker of its own ----

def test_isolated_model_dies_alone(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, "[model b]\nisolate = yes\n")
    server = fake("--config", path, "--keep-alive", "1h", words="die-task-of-b")
    works(server)
    assert server.ask("c").status == 200
    shared = models(server)["a"]["worker_pid"]
    assert models(server)["c"]["worker_pid"] == shared
    assert "two workers" in message(server.ask("b"), 503)
    after = models(server)
    assert after["a"]["worker_pid"] == after["c"]["worker_pid"] == shared
    assert after["a"]["requests"] == 1 and after["a"]["state"] == "resident"
    assert [r["model"] for r in server.receipts()] == ["b", "b"]
    assert server.workers() == [shared]
    works(server)


def test_isolated_worker_ends_with_its_model(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, "[model b]\nisolate = yes\n[model c]\nisolate = yes\n")
    server = fake("--config", path, "--keep-alive", "1h")
    for name in ("a", "b", "c"):
        assert server.ask(name).status == 200
    pids = {name: model["worker_pid"] for name, model in models(server).items()}
    assert len(set(pids.values())) == 3 and set(pids.values()) == set(server.workers())
    receipt = server.unload("b")
    assert receipt["worker"] | {"exited": True, "pid": pids["b"]} == receipt["worker"]
    assert set(server.workers()) == {pids["a"], pids["c"]}
    receipt = server.unload("a")    # the shared one has none left
    assert receipt["worker"]["exited"]
    assert server.workers() == [pids["c"]]
    os.kill(pids["c"], signal.SIGKILL)
    measure.wait_until(lambda: not server.workers(), "the reaping")
    assert server.states() == {}


def test_innocent_models_come_back(fake, pool, tmp_path):  # noqa: F811
    """Of three on one worker: who is pinned comes back by himself, who is waited
    for answers, who is idle stays away."""
    path = conf(tmp_path, "[model c]\npin = yes\n")
    server = fake("--config", path, "--keep-alive", "1h", words="held-task,working")
    for name in ("a", "b", "c"):
        server.load(name)
    (worker,) = server.workers()
    asked = pool.submit(server.ask, "a")
    measure.wait_until(lambda: server.events("task"), "the task")
    server.says("working")
    os.kill(worker, signal.SIGKILL)
    assert asked.result().status == 200
    measure.wait_until(lambda: server.states().get("c") == "resident", "the pinned one")
    assert server.states() == {"a": "resident", "c": "resident"}
    assert len(server.events("load")) == 5


# ---- what the worker is told ----

def test_batches_and_dtype_are_planned_and_loaded(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, "[defaults]\ndtype = float32\n[model a]\nmax-batch-tokens = 64\n")
    server = fake("--config", path)
    works(server)
    assert server.ask("b").status == 200
    told = {kind: [e.split("/")[-1] for e in server.events(kind)] for kind in ("plan", "load")}
    assert told["plan"] == told["load"] == ["a tokens=64 dtype=float32", "b dtype=float32"]
    # Remembered by them, too: the same files, another size of batches.
    server.unload("a")
    again(server, path, "[defaults]\ndtype = float32\n[model a]\nmax-batch-tokens = 128\n")
    works(server)
    assert server.events("plan")[-1].endswith("a tokens=128 dtype=float32")
    server.unload("a")
    again(server, path, "[defaults]\ndtype = float32\n[model a]\nmax-batch-tokens = 64\n")
    works(server)
    assert len(server.events("plan")) == 3 and len(server.events("load")) == 4


def test_smaller_batches_take_less(start, tmp_path):
    path = conf(tmp_path, "[model tiny/a]\nmax-batch-tokens = 64\ndtype = float32\n")
    server = start("--config", path)
    plans = {name: server.ok("GET", f"/models/plan?model={name}")["plan"]
             for name in ("tiny/a", "tiny/b")}
    scratch = {name: p["host_bytes"] - p["own_host_bytes"] for name, p in plans.items()}
    assert plans["tiny/a"]["own_host_bytes"] == plans["tiny/b"]["own_host_bytes"]
    assert scratch["tiny/a"] < scratch["tiny/b"]
    texts = ["the quiet garden in winter"] * 300
    assert len(server.embed("tiny/a", texts)) == 300
    receipt = server.unload("tiny/a")
    assert receipt["planned_bytes"] == receipt["ledger_bytes"] == plans["tiny/a"]["host_bytes"]


def test_prompt(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, '[model a]\nprompt = "query: "\n')
    server = fake("--config", path, "--max-body", "64KiB", "--max-pending", "64KiB")
    extra = sum(b"query: ")

    def first(text):
        return server.ask(text=text).json["data"][0]["embedding"][0]

    assert first("abc") == 294 + extra
    assert first([1, 2, 3]) == 6    # token ids are left alone
    assert server.ask("b").json["data"][0]["embedding"][0] == 294
    # It counts as what the request holds.
    texts = ["x"] * 2000
    assert server.ask("b", text=texts).status == 200
    again(server, path, "[model a]\nprompt = " + "y" * 100 + "\n")
    assert "--max-pending" in message(server.ask("a", text=texts), 429)
    assert server.ask("a", text=texts[:20]).status == 200
    assert server.metric("vacate_http_held_bytes") == 0


# ---- SIGHUP ----

def test_reload_touches_only_what_changed(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, "[model c]\npin = yes\n")
    server = fake("--config", path, "--keep-alive", "1h")
    for name in ("a", "b", "c"):
        assert server.ask(name).status == 200
    worker = server.workers()
    again(server, path, "[model c]\npin = yes\n")    # nothing
    time.sleep(0.1)
    assert server.receipts() == [] and len(server.states()) == 3
    again(server, path, "[model a]\nprompt = x\n[model b]\nkeep-alive = 2h\n"
          "[model c]\npin = yes\nprompt = x\n")
    measure.wait_until(lambda: len(server.receipts()) == 2, "two unloads")
    assert {(r["model"], r["reason"]) for r in server.receipts()} == {
        ("a", "settings"), ("c", "settings")}
    measure.wait_until(lambda: server.states() == {"b": "resident", "c": "resident"},
                       "the pinned one to come back")
    assert models(server)["b"]["expires_ms"] > 3600_000
    assert server.workers() == worker
    assert server.ask().json["data"][0]["embedding"][0] == 294 + ord("x")


def test_reload_moves_a_model_into_a_worker_of_its_own(fake, pool, tmp_path):  # noqa: F811
    path = conf(tmp_path, "")
    server = fake("--config", path, "--keep-alive", "1h", words="held-task")
    server.go()
    works(server)
    assert server.ask("b").status == 200
    (shared,) = server.workers()
    server.hold()
    asked = pool.submit(server.ask, "a")
    measure.wait_until(lambda: models(server)["a"]["queued"] == 1, "the request")
    again(server, path, "[model a]\nisolate = yes\n")
    waits = pool.submit(server.ask, "a")
    measure.wait_until(lambda: models(server)["a"]["queued"] == 2, "another one")
    server.go()
    assert asked.result().status == 200 and waits.result().status == 200
    after = models(server)
    assert after["b"]["worker_pid"] == shared != after["a"]["worker_pid"]
    assert [r["reason"] for r in server.receipts()] == ["settings"]


def test_reload_with_another_path(fake, tmp_path):  # noqa: F811
    path = conf(tmp_path, "")
    server = fake("--config", path, "--keep-alive", "1h")
    works(server)
    place = server.log.parent / "models"
    again(server, path, f"[model a]\npath = {place}/a\n")    # where it is already
    time.sleep(0.1)
    assert server.receipts() == [] and server.states() == {"a": "resident"}
    again(server, path, f"[model a]\npath = {place}/b\n")
    measure.wait_until(lambda: server.receipts(), "the unload")
    assert server.receipts()[0]["reason"] == "settings"
    works(server)
    assert events(server, "load") == ["load a", "load b"]
    shown = {m["name"]: m["path"] for m in server.ok("GET", "/models")["models"]}
    assert shown["a"].endswith("/b")


def test_reload_takes_a_path_away(fake, pool, tmp_path):  # noqa: F811
    """A model that is only where its path said: it leaves, who is in work is
    answered, whoever comes later hears that there is no such model."""
    path = conf(tmp_path, "")
    server = fake("--config", path, "--keep-alive", "1h", words="held-task")
    place = server.log.parent / "models"
    again(server, path, f"[model far]\npath = {place}/a\npin = yes\n")
    server.go()
    assert server.ask("far").status == 200
    server.hold()
    asked = pool.submit(server.ask, "far")
    measure.wait_until(lambda: models(server)["far"]["queued"] == 1, "the request")
    again(server, path, "")
    assert server.states() == {"far": "draining"}
    assert "far" in message(server.ask("far"), 404)
    server.go()
    assert asked.result().status == 200
    measure.wait_until(lambda: server.receipts(), "the unload")
    assert [(r["model"], r["reason"]) for r in server.receipts()] == [("far", "settings")]
    assert "far" in message(server.ask("far"), 404)
    assert server.states() == {}
    again(server, path, f"[model far]\npath = {place}/b\n")
    assert server.ask("far").status == 200
    assert events(server, "load") == ["load a", "load b"]


def test_reload_takes_a_path_away_from_who_is_found_by_name(fake, pool, tmp_path):  # noqa: F811
    path = conf(tmp_path, "")
    server = fake("--config", path, "--keep-alive", "1h", words="held-task")
    place = server.log.parent / "models"
    server.go()
    path.write_text(f"[model a]\npath = {place}/b\n")
    again(server, path, f"[model a]\npath = {place}/b\n[model c]\npath = {place}/c\n")
    works(server)
    assert server.ask("c").status == 200
    server.hold()
    asked = pool.submit(server.ask, "a")
    measure.wait_until(lambda: models(server)["a"]["queued"] == 1, "the request")
    again(server, path, "")
    waits = pool.submit(server.ask, "a")
    measure.wait_until(lambda: models(server)["a"]["queued"] == 2, "another one")
    again(server, path, "[server]\n")    # what was to come stays to come
    server.go()
    assert asked.result().status == 200 and waits.result().status == 200
    # c lies where its path said.
    assert [(r["model"], r["reason"]) for r in server.receipts()] == [("a", "settings")]
    assert events(server, "load") == ["load b", "load c", "load a"]
    assert models(server)["a"]["path"] == f"{place}/a"


def test_reload_takes_a_path_away_from_who_waits(fake, pool, tmp_path):  # noqa: F811
    path = conf(tmp_path, "")
    server = fake("--config", path, "--keep-alive", "1h", "--ram", "100MiB",
                  words="plan-100")
    place = server.log.parent / "models"
    far = f"[model far]\npath = {place}/b\n"
    again(server, path, "[model a]\nmin-resident = 1h\n" + far)
    works(server)
    waits = pool.submit(server.ask, "far")
    measure.wait_until(lambda: server.states().get("far") == "waiting", "the line")
    again(server, path, "[model a]\nmin-resident = 1h\n")
    assert "far" in message(waits.result(), 404)
    assert server.states() == {"a": "resident"}
    assert server.receipts() == []
