"""What clients of llama-swap and of llama.cpp's router ask."""
import measure
import pytest

BODIES = (("/v1/embeddings", {"model": "tiny/a", "input": "x"}),
          ("/embed", {"model": "tiny/a", "inputs": "x"}),
          ("/api/embed", {"model": "tiny/a", "input": "x"}),
          ("/v2/models/tiny/a/infer", {"inputs": [{"name": "text", "shape": [1],
                                                   "datatype": "BYTES", "data": ["x"]}]}))


def running(server):
    return {model["model"]: model for model in server.ok("GET", "/running")["running"]}


def resident(server):
    return {model["name"] for model in server.ok("GET", "/models/ps")["models"]}


def router_states(server):
    return {model["id"]: model["status"]["value"] for model in server.ok("GET", "/models")["data"]}


def test_running(start):
    server = start("--keep-alive", "10m")
    assert server.ok("GET", "/running") == {"running": []}
    server.embed("tiny/a", ["x"])
    server.load("tiny/b", keep_alive=-1)
    models = running(server)
    assert set(models) == {"tiny/a", "tiny/b"}
    assert set(models["tiny/a"]) == {"model", "state", "cmd", "proxy", "ttl", "name",
                                     "description"}
    assert models["tiny/a"]["state"] == "ready" and models["tiny/a"]["name"] == "tiny/a"
    assert models["tiny/a"]["ttl"] in (599, 600, 601) and models["tiny/b"]["ttl"] == 0


@pytest.mark.parametrize("method, path, answer", [
    ("GET", "/unload", b"OK"), ("POST", "/api/models/unload", b'{"msg":"ok"}')])
def test_unload_all(start, method, path, answer):
    server = start("--keep-alive", "-1")
    assert server.request(method, path).body == answer    # nothing is loaded
    for name in "abc":
        server.load(f"tiny/{name}")
    assert server.request("HEAD", path).status == 405
    assert len(resident(server)) == 3
    assert server.request(method, path).body == answer
    assert resident(server) == set() and running(server) == {}
    measure.wait_until(lambda: not server.workers(), "the worker's end")
    assert len(server.ok("GET", "/receipts")["receipts"]) == 3


def test_unload_one(start):
    server = start("--keep-alive", "-1")
    server.load("tiny/a")
    server.load("tiny/b")
    for path in ("/api/models/unload/tiny/a", "/api/models/unload/tiny%2Fb"):
        reply = server.post(path, None)
        assert (reply.status, reply.body) == (200, b"OK")
        assert reply.headers["content-type"] == "text/plain"
    assert resident(server) == set()
    reply = server.post("/api/models/unload/tiny/none", None)
    assert reply.status == 404 and "tiny/none" in reply.json["error"]


def test_states_of_the_router(start):
    server = start("--keep-alive", "-1")
    assert set(router_states(server).values()) == {"unloaded"}
    assert server.ok("POST", "/models/load", {"model": "tiny/a"})["success"] is True
    states = router_states(server)
    assert states.pop("tiny/a") == "loaded" and set(states.values()) == {"unloaded"}
    assert server.ok("POST", "/models/unload", {"model": "tiny/a"})["success"] is True
    assert set(router_states(server).values()) == {"unloaded"}


@pytest.mark.parametrize("path, body", BODIES)
def test_autoload_false(start, path, body):
    server = start("--keep-alive", "-1")
    for value in ("false", "0"):
        reply = server.post(f"{path}?autoload={value}", body)
        assert reply.status == 400
        assert b"tiny/a is not loaded, and autoload is false" in reply.body
    assert resident(server) == set()
    server.load("tiny/a")
    assert server.post(f"{path}?autoload=false", body).status == 200
    server.unload("tiny/a")
    assert server.post(f"{path}?autoload=false", body).status == 400
    assert server.post(f"{path}?autoload=true", body).status == 200
    reply = server.post(f"{path}?autoload=perhaps", body)
    assert reply.status == 400 and b"autoload" in reply.body
