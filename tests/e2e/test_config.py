"""test_config.py - vacate.conf from outside: which source is the stronger, what
a mistake does, what a reload changes and what it leaves alone, and models by
alias and path.
"""
import json
import os
import re
import signal
import socket
import subprocess
import time

import harness
import measure
import openai
import pytest

from conftest import ROOT, backend_options
from test_cli_tables import program

TEXTS = ["The harbour is quiet.", "A lighthouse by the sea"]


def run(*words, **environment):
    env = {key: value for key, value in os.environ.items() if not key.startswith("VACATE_")}
    env.update(HF_HUB_CACHE="/nonexistent", VACATE_CONFIG="none", COLUMNS="200")
    env.update(environment)
    return subprocess.run([program(), *(str(word) for word in words)], capture_output=True,
                          text=True, timeout=60, env=env, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def conf(tmp_path):
    """conf(text) writes the file and returns its path."""
    path = tmp_path / "vacate.conf"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return path

    return write


def metric(server, name):
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", server.get("/metrics").body.decode(), re.M)
    return float(value)


def reload(server):
    """SIGHUP, and waits until the file was read; whether it was taken."""
    before = metric(server, "vacate_config_reloads_total")
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + measure.patience(60)
    while metric(server, "vacate_config_reloads_total") == before:
        assert time.monotonic() < deadline, "SIGHUP was not heard"
        time.sleep(0.01)
    return metric(server, "vacate_config_last_reload_successful") == 1


def ps(server):
    return {model["name"]: model for model in server.ok("GET", "/models/ps")["models"]}


def wait_gone(server, name):
    deadline = time.monotonic() + measure.patience(60)
    while name in ps(server):
        assert time.monotonic() < deadline, f"{name} stays"
        time.sleep(0.05)


# ---- check and show --------------------------------------------------------

def test_the_example_is_right():
    done = run("config", "check", ROOT / "examples" / "vacate.conf")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no errors; 3 models" in done.stdout


def test_check_tells_every_mistake(conf):
    path = conf("[server]\nport = 99999\nmax_queu = 3\n\n[model a]\npath = /nonexistent\n"
                "alias = b\n[model b]\nnonsense\n")
    done = run("config", "check", path)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:{n}" for n in (2, 3, 6, 7, 9)]
    assert "0 to 65535" in lines[0] and "max_queue meant" in lines[1]
    done = run("config", "check", "--json", path)
    assert done.returncode == 1
    reply = json.loads(done.stdout)
    assert (reply["file"], reply["valid"], reply["models"]) == (str(path), False, 2)
    assert [error["line"] for error in reply["errors"]] == [2, 3, 6, 7, 9]


def test_check_of_no_file(tmp_path):
    done = run("config", "check", tmp_path / "missing")
    assert done.returncode == 1 and "missing" in done.stderr and done.stderr.count("\n") == 1
    done = run("config", "check", tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    done = run("config", "check")
    assert done.returncode == 1 and "name one" in done.stderr


def test_usage():
    assert run("config").returncode == 2
    assert run("config", "chek").returncode == 2
    assert run("config", "check", "a", "b").returncode == 2
    assert run("config", "show", "--prot", "1").returncode == 2
    assert run("config", "show", "--port", "x").returncode == 2
    assert run("config", "show", "--port").returncode == 2
    assert run("serve", "--port", "x", "--max-queue", "0").stderr.count("\n") == 2


def test_the_users_own_file_is_found(tmp_path):
    place = tmp_path / "vacate"
    place.mkdir()
    (place / "vacate.conf").write_text("[server]\nport = 4711\n", encoding="utf-8")
    done = run("config", "show", "--json", VACATE_CONFIG="", XDG_CONFIG_HOME=str(tmp_path))
    reply = json.loads(done.stdout)
    assert reply["file"] == str(place / "vacate.conf")
    assert reply["server"]["port"]["value"] == "4711"
    assert run("config", "check", VACATE_CONFIG="", XDG_CONFIG_HOME=str(tmp_path)).returncode == 0


def test_show_says_where_values_are_from(conf, zoo):
    path = conf(f"[server]\nkeep_alive = 2m\nturn = 2s\nmax_queue = 2\nmodels = {zoo.path}\n"
                "[model tiny/a]\nprompt = \"a ; \\\"b\\\"\"\n".replace(" ; ", " \\; ") +
                "alias = one, two\n")
    done = run("config", "show", "--json", "--config", path, "--keep-alive", "4m",
               VACATE_KEEP_ALIVE="3m", VACATE_TURN="3s")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    server = shown["server"]
    assert server["keep_alive"] == {"value": "4m", "source": "flag", "origin": "--keep-alive"}
    assert server["turn"] == {"value": "3s", "source": "environment", "origin": "VACATE_TURN"}
    assert server["max_queue"] == {"value": "2", "source": "file", "origin": f"{path}:4"}
    assert server["port"] == {"value": "8321", "source": "default", "origin": "default"}
    assert server["journal"] is None
    model = shown["models"]["tiny/a"]
    assert [alias["value"] for alias in model["alias"]] == ["one", "two"]
    assert model["prompt"]["value"] == 'a ; "b"'
    # The text is a file that means the same.
    text = run("config", "show", "--config", path, "--pin", "x,y", VACATE_TURN="3s").stdout
    copy = path.with_name("copy.conf")
    copy.write_text(text, encoding="utf-8")
    done = run("config", "check", copy)
    assert done.returncode == 0, done.stderr
    again = json.loads(run("config", "show", "--json", "--config", copy).stdout)
    assert again["server"]["turn"]["value"] == "3s"
    assert again["server"]["keep_alive"]["value"] == "2m"
    assert again["server"]["pin"]["value"] == "x,y"
    assert again["models"]["tiny/a"]["prompt"]["value"] == 'a ; "b"'


# ---- the server's start ----------------------------------------------------

def test_flag_over_environment_over_file(start, conf):
    path = conf("[server]\nmax_inputs = 1\nmax_queue = 1\nmin_resident = 1\n")
    full = {"model": "tiny/a", "input": ["x"] * 4}
    server = start("--config", path)
    assert server.post("/v1/embeddings", full).status == 413
    assert server.post("/v1/embeddings", {**full, "input": "x"}).status == 200
    server = start(env={"VACATE_CONFIG": str(path), "VACATE_MAX_INPUTS": "3"})
    assert server.post("/v1/embeddings", full).status == 413
    assert server.post("/v1/embeddings", {**full, "input": ["x"] * 3}).status == 200
    server = start("--max-inputs", "4", env={"VACATE_CONFIG": str(path), "VACATE_MAX_INPUTS": "3"})
    assert server.post("/v1/embeddings", full).status == 200


def test_a_wrong_file_refuses_to_start(start, conf):
    path = conf("[server]\nmax_queue = 0\n\n[modell x]\n")
    with pytest.raises(harness.StartError) as failure:
        start("--config", path)
    assert failure.value.returncode == 2
    lines = failure.value.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"{path}:2", f"{path}:4"]
    with pytest.raises(harness.StartError) as failure:
        start("--config", path.with_name("missing.conf"))
    assert failure.value.returncode == 1 and "missing.conf" in failure.value.stderr


def test_two_servers_on_one_file(conf, zoo, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = conf(f"[server]\nport = {port}\nmodels = {zoo.path}\n")
    first = subprocess.Popen([program(), "serve", "--config", path, *backend_options()],
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        while "ready" not in (line := first.stderr.readline()):
            assert line, "the first did not start"
        second = run("serve", "--config", path)
        assert second.returncode == 1
        said = [line for line in second.stderr.splitlines() if "info:" not in line]
        assert len(said) == 1 and str(port) in said[0] and "in use" in said[0]
    finally:
        first.send_signal(signal.SIGTERM)
        first.stderr.read()
        assert first.wait(30) == 0
        first.stderr.close()


# ---- reload ----------------------------------------------------------------

def test_reload_leaves_residents_alone(start, conf):
    path = conf("[server]\nkeep_alive = 10m\n[model tiny/a]\nalias = one\n[model tiny/b]\n")
    server = start("--config", path)
    vectors = server.embed("tiny/a", TEXTS)
    server.load("tiny/b")
    before = {name: (model["worker_pid"], model["load_ms"], model["requests"])
              for name, model in ps(server).items()}
    workers = server.workers()
    conf("[server]\nkeep_alive = 20m\nmax_inputs = 7\nlog_level = debug\ntimeout = 3m\n"
         "[model tiny/a]\nalias = other\npriority = 3\n[model tiny/b]\nkeep_alive = 30m\npin = no\n")
    assert reload(server)
    after = ps(server)
    assert {name: (model["worker_pid"], model["load_ms"], model["requests"])
            for name, model in after.items()} == before
    assert server.workers() == workers
    assert 1190 < after["tiny/a"]["expires_ms"] / 1000 <= 1200
    assert 1790 < after["tiny/b"]["expires_ms"] / 1000 <= 1800
    assert server.embed("other", TEXTS) == vectors
    reply = server.post("/v1/embeddings", {"model": "one", "input": "x"})
    assert reply.status == 404
    loads = re.findall(r'^vacate_loads_total\{model="(.*)"\} (\d+)$',
                       server.get("/metrics").body.decode(), re.M)
    assert dict(loads) == {"tiny/a": "1", "tiny/b": "1"}
    # What cannot change is said, and stays.
    log = server.stderr()
    assert f"{path}:3: max-inputs needs a restart" in log and log.count("needs a restart") == 1
    assert len(server.embed("tiny/a", ["x"] * 8)) == 8


def test_reload_of_a_wrong_file_changes_nothing(start, conf):
    path = conf("[model tiny/a]\nalias = one\n")
    server = start("--config", path)
    server.embed("one", TEXTS)
    workers, started = server.workers(), metric(
        server, "vacate_config_last_reload_success_timestamp_seconds")
    assert metric(server, "vacate_config_last_reload_successful") == 1
    conf("[server]\nkeep_alive = 0\nport = x\n[model tiny/a]\nalias = two, tiny/b\n[model tiny/b]\n")
    assert not reload(server)
    assert server.get("/healthz").json == {"status": "ok"}
    log = server.stderr()
    for part in (f"{path}:3: port takes", f"{path}:5: alias", "is wrong in 2 places",
                 "stay as they were"):
        assert part in log
    assert server.workers() == workers and "tiny/a" in ps(server)
    assert len(server.embed("one", TEXTS)) == 2
    assert metric(server, "vacate_config_last_reload_success_timestamp_seconds") == started
    # Its absence is no reason to forget everything, either.
    path.unlink()
    assert not reload(server)
    assert len(server.embed("one", TEXTS)) == 2
    conf("[model tiny/a]\nalias = two\n")
    assert reload(server)
    assert metric(server, "vacate_config_last_reload_success_timestamp_seconds") > started
    assert len(server.embed("two", TEXTS)) == 2 and server.workers() == workers


def test_reload_changes_what_holds_for_models(start, conf):
    path = conf("[server]\nkeep_alive = 10m\n")
    server = start("--config", path)
    server.load("tiny/a")
    server.load("tiny/b")
    conf("[defaults]\nkeep_alive = 10m\n[model tiny/a]\nkeep_alive = 200ms\n")
    assert reload(server)
    wait_gone(server, "tiny/a")
    assert "tiny/b" in ps(server)
    # A worker of its own: only a load can give it that.
    conf("[model tiny/b]\nisolate = yes\n")
    assert reload(server)
    wait_gone(server, "tiny/b")
    (last,) = server.ok("GET", "/receipts?limit=1")["receipts"]
    assert last["model"] == "tiny/b" and last["reason"] == "settings"
    server.load("tiny/b")
    server.load("tiny/c")
    models = ps(server)
    assert models["tiny/b"]["worker_pid"] != models["tiny/c"]["worker_pid"]


def test_reload_changes_the_budget(start, conf):
    path = conf("[server]\nram = 64KiB\n")
    server = start("--config", path)
    assert server.post("/models/load", {"model": "tiny/a"}).status == 503
    conf("[server]\nram = 1GiB\n")
    assert reload(server)
    assert server.load("tiny/a")["state"] == "resident"


def test_reload_without_a_file(start):
    server = start()
    server.embed("tiny/a", TEXTS)
    workers = server.workers()
    assert reload(server)
    assert server.workers() == workers
    assert "SIGHUP" in server.stderr()


# ---- aliases and paths -----------------------------------------------------

@pytest.fixture
def aliased(start, conf, zoo, tmp_path):
    """tiny/a under two more names, and a model that lies elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(zoo.path / "tiny" / "b")
    path = conf("[model tiny/a]\nalias = text-embedding-3-small\nalias = org/alias\n"
                "[model far/away]\npath = elsewhere\nalias = tiny/c\n")
    return start("--config", path)


def test_alias_over_the_openai_client(aliased):
    client = openai.OpenAI(base_url=aliased.url + "/v1", api_key="none", max_retries=0)
    reply = client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    assert reply.model == "text-embedding-3-small"
    assert [item.embedding for item in reply.data] == aliased.embed("tiny/a", TEXTS)
    assert {model.id for model in client.models.list()} >= {
        "tiny/a", "text-embedding-3-small", "org/alias", "far/away"}
    one = client.models.retrieve("org/alias")
    assert one.id == "org/alias" and one.root == "tiny/a"
    client.close()
    # All of them are one model.
    assert set(ps(aliased)) == {"tiny/a"}
    assert ps(aliased)["tiny/a"]["aliases"] == ["text-embedding-3-small", "org/alias"]


def test_alias_over_curl_and_other_families(aliased):
    body = json.dumps({"model": "org/alias", "input": TEXTS})
    done = subprocess.run(["curl", "-sS", f"{aliased.url}/v1/embeddings", "-d", body],
                          capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["model"] == "org/alias"
    assert aliased.ok("POST", "/embed?model=org/alias", {"inputs": "x"})
    reply = aliased.ok("POST", "/api/embed", {"model": "org/alias:latest", "input": "x"})
    assert reply["model"] == "org/alias" and reply["embeddings"]
    tags = {tag["name"]: tag["digest"] for tag in aliased.ok("GET", "/api/tags")["models"]}
    assert tags["org/alias"] == tags["tiny/a"] != tags["far/away"]
    assert [model["name"] for model in aliased.ok("GET", "/api/ps")["models"]] == ["tiny/a"]
    assert aliased.ok("GET", "/models/plan?model=org/alias")["name"] == "tiny/a"
    assert aliased.ok("GET", "/info?model=org/alias")["model_id"] == "tiny/a"
    receipt = aliased.unload("text-embedding-3-small")
    assert receipt["model"] == "tiny/a"


def test_a_model_that_lies_elsewhere(aliased, zoo, tmp_path):
    listed = {model["name"]: model for model in aliased.ok("GET", "/models")["models"]}
    assert listed["far/away"]["path"] == str(tmp_path / "elsewhere")
    # The alias hides what is on disk under its name.
    assert "tiny/c" not in listed and listed["far/away"]["aliases"] == ["tiny/c"]
    assert aliased.embed("far/away", TEXTS) == aliased.embed("tiny/b", TEXTS)
    assert aliased.embed("tiny/c", TEXTS) == aliased.embed("tiny/b", TEXTS)
    assert set(ps(aliased)) == {"far/away", "tiny/b"}
    reply = aliased.post("/v1/embeddings", {"model": str(zoo.path / "tiny" / "c"), "input": "x"})
    assert reply.status == 400


def test_list_and_ps_show_aliases(aliased):
    aliased.load("tiny/a")
    for command in ("list", "ps"):
        lines = run(command, "--server", aliased.url).stdout.splitlines()
        assert lines[0].split()[-1] == "ALIASES"
        (line,) = [line for line in lines if line.startswith("tiny/a ")]
        assert line.endswith("text-embedding-3-small, org/alias")


def test_a_path_that_has_gone(start, conf, zoo, tmp_path):
    place = tmp_path / "moving"
    place.symlink_to(zoo.path / "tiny" / "b")
    server = start("--config", conf("[model far]\npath = moving\n"))
    server.embed("far", TEXTS)
    place.unlink()
    # It answers on, and cannot come back.
    assert len(server.embed("far", TEXTS)) == 2
    server.unload("far")
    reply = server.post("/v1/embeddings", {"model": "far", "input": "x"})
    assert reply.status == 404 and "model far" in reply.json["error"]["message"]


def test_a_path_that_changes(start, conf, zoo):
    path = conf(f"[model far]\npath = {zoo.path / 'tiny' / 'a'}\n")
    server = start("--config", path)
    first = server.embed("far", TEXTS)
    assert first == server.embed("tiny/a", TEXTS)
    conf(f"[model far]\npath = {zoo.path / 'tiny' / 'b'}\n")
    assert reload(server)
    second = server.embed("far", TEXTS)
    assert second == server.embed("tiny/b", TEXTS) != first
    # The one beside it was not touched.
    assert ps(server)["tiny/a"]["requests"] == 1
