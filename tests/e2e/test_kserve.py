"""Triton's own HTTP client, unchanged, against the Open Inference Protocol; and
what that client does not ask."""
import concurrent.futures
import http.client
import json
import struct
import time

import measure
import numpy
import pytest
import tritonclient.http as triton
from test_supervisor import fake  # noqa: F401
from tritonclient.utils import InferenceServerException

TEXTS = ["The harbour is quiet.", "Ein Leuchtturm am Meer \u2014 \U0001f4a1", ""]
TOLERANCE = 2e-6
PROBES = (("GET", "/v2"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready"),
          ("GET", "/v2/models/tiny/a"), ("GET", "/v2/models/tiny/a/ready"),
          ("POST", "/v2/repository/index"), ("GET", "/running"), ("GET", "/models"))


@pytest.fixture(scope="module")
def client(shared):
    with triton.InferenceServerClient(f"127.0.0.1:{shared.port}") as it:
        yield it


def text_input(texts, shape=None, binary=True):
    array = numpy.array(texts, dtype=object).reshape(shape or [len(texts)])
    tensor = triton.InferInput("text", list(array.shape), "BYTES")
    return [tensor.set_data_from_numpy(array, binary_data=binary)]


def expected(shared, texts, model="tiny/a"):
    return numpy.array(shared.embed(model, texts), dtype=numpy.float32)


def test_health_and_metadata(client, shared):
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert server["name"] == "vacate"
    assert server["version"] == shared.ok("GET", "/version")["version"]
    assert set(server["extensions"]) == {"model_repository", "binary_tensor_data"}
    for name, dimensions in (("tiny/a", 32), ("big/a", 384)):    # neither is loaded
        for version in ("", "1"):
            model = client.get_model_metadata(name, version)
            assert model["name"] == name and model["versions"] == ["1"]
            assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
            assert model["outputs"] == [{"name": "embedding", "datatype": "FP32",
                                         "shape": [-1, dimensions]}]
    assert shared.ok("GET", "/models/ps")["models"] == []


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_infer_texts(client, shared, binary_in, binary_out, shape):
    """The client's default is binary both ways (None: no output is named)."""
    outputs = None if binary_out is None else [
        triton.InferRequestedOutput("embedding", binary_data=binary_out)]
    result = client.infer("tiny/a", text_input(TEXTS, shape, binary_in), outputs=outputs,
                          request_id="request \"7\"")
    vectors = result.as_numpy("embedding")
    assert vectors.dtype == numpy.float32 and vectors.shape == (3, 32)
    assert numpy.abs(vectors - expected(shared, TEXTS)).max() <= TOLERANCE
    reply = result.get_response()
    assert reply["model_name"] == "tiny/a" and reply["model_version"] == "1"
    assert reply["id"] == "request \"7\""


@pytest.mark.parametrize("datatype", ["INT64", "INT32"])
@pytest.mark.parametrize("binary", [True, False])
def test_infer_token_ids(client, shared, datatype, binary):
    rows = [[2, 17, 40, 3], [2, 9, 9, 3]]
    array = numpy.array(rows, dtype=datatype.lower())
    tensor = triton.InferInput("input_ids", [2, 4], datatype)
    result = client.infer("tiny/a", [tensor.set_data_from_numpy(array, binary_data=binary)],
                          model_version="1")
    difference = result.as_numpy("embedding") - expected(shared, rows)
    assert numpy.abs(difference).max() <= TOLERANCE
    assert "id" not in result.get_response()


def test_concurrent_requests_of_the_client(shared):
    with triton.InferenceServerClient(f"127.0.0.1:{shared.port}", concurrency=8) as client:
        asked = [client.async_infer(f"tiny/{'abc'[i % 3]}", text_input(TEXTS * (i % 5 + 1)))
                 for i in range(40)]
        for i, result in enumerate(asked):
            vectors = result.get_result().as_numpy("embedding")
            wanted = expected(shared, TEXTS, f"tiny/{'abc'[i % 3]}")
            assert vectors.shape == (3 * (i % 5 + 1), 32)
            assert numpy.abs(vectors[-3:] - wanted).max() <= TOLERANCE


def test_parameters(client, shared):
    long = "sea " * 300
    with pytest.raises(InferenceServerException) as caught:
        client.infer("tiny/a", text_input([long]))
    assert caught.value.status() == "413" and "128" in caught.value.message()
    cut = client.infer("tiny/a", text_input([long]), parameters={"truncate": True})
    fits = expected(shared, ["sea " * 126])
    assert numpy.abs(cut.as_numpy("embedding") - fits).max() <= TOLERANCE
    few = client.infer("tiny/a", text_input(TEXTS[:1]), parameters={"dimensions": 8})
    assert few.as_numpy("embedding").shape == (1, 8)
    assert abs(numpy.linalg.norm(few.as_numpy("embedding")) - 1) < 1e-5
    raw = client.infer("tiny/a", text_input(TEXTS[:1]), parameters={"normalize": False})
    assert numpy.linalg.norm(raw.as_numpy("embedding")) > 1.5
    with pytest.raises(InferenceServerException) as caught:    # a microsecond
        client.infer("tiny/a", text_input(TEXTS * 600), timeout=1)
    assert caught.value.status() == "504"


def test_repository(start):
    server = start("--keep-alive", "-1")
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        states = {model["name"]: model for model in client.get_model_repository_index()}
        assert states["tiny/a"] == {"name": "tiny/a", "version": "1", "state": "UNAVAILABLE",
                                    "reason": "unloaded"}
        assert not client.is_model_ready("tiny/a")
        client.load_model("tiny/a")
        assert client.is_model_ready("tiny/a") and client.is_model_ready("tiny/a", "1")
        ready = server.ok("POST", "/v2/repository/index", {"ready": True})
        assert ready == [{"name": "tiny/a", "version": "1", "state": "READY", "reason": ""}]
        client.unload_model("tiny/a")
        assert not client.is_model_ready("tiny/a")
        client.unload_model("tiny/a")    # what is not loaded need not be unloaded
        with pytest.raises(InferenceServerException) as caught:
            client.load_model("tiny/a", config=json.dumps({"max_batch_size": 4}))
        assert caught.value.status() == "422" and "config" in caught.value.message()
        for ask in (client.load_model, client.unload_model, client.get_model_metadata):
            with pytest.raises(InferenceServerException) as caught:
                ask("tiny/none")
            assert caught.value.status() == "404" and "tiny/none" in caught.value.message()
        assert not client.is_model_ready("tiny/none")
    reply = server.ok("POST", "/v2/repository/models/tiny/b/load",
                      {"parameters": {"keep_alive": "200ms"}})
    assert reply == {"name": "tiny/b", "load": True}
    measure.wait_until(lambda: server.ok("GET", "/models/ps")["models"] == [], "idle unload")
    server.load("tiny/b")
    reply = server.ok("POST", "/v2/repository/models/tiny/b/unload")
    assert reply["unload"] is True and reply["receipts"][0]["model"] == "tiny/b"


def test_a_model_that_cannot_be_served_says_why(start, tmp_path):
    (tmp_path / "models" / "odd").mkdir(parents=True)
    (tmp_path / "models" / "odd" / "config.json").write_text('{"model_type":"gpt_bigcode"}')
    server = start(models=tmp_path / "models")
    reply = server.get("/v2/models/odd")
    assert reply.status == 422 and "gpt_bigcode" in reply.json["error"]
    reply = server.get("/v2/models/odd/ready")
    assert reply.status == 503 and reply.json["ready"] is False
    assert "gpt_bigcode" in reply.json["error"]
    (index,) = server.ok("POST", "/v2/repository/index", {})
    assert index["state"] == "UNAVAILABLE" and "gpt_bigcode" in index["reason"]


def test_slashes_plain_and_encoded(shared):
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}
    plain = shared.ok("POST", "/v2/models/tiny/a/infer", body)
    assert shared.ok("POST", "/v2/models/tiny%2Fa/infer", body) == plain
    assert shared.ok("POST", "/v2/models/tiny%2fa/versions/1/infer", body) == plain
    assert shared.ok("GET", "/v2/models/tiny%2Fa")["name"] == "tiny/a"
    reply = shared.get("/v2/models/tiny/a/versions/3")
    assert reply.status == 404 and "version 3" in reply.json["error"]


def test_binary_over_the_wire(shared):
    """As the extension says it, byte by byte, without a client's help."""
    head = json.dumps({"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES",
                                   "parameters": {"binary_data_size": 10}}],
                       "outputs": [{"name": "embedding",
                                    "parameters": {"binary_data": True}}]}).encode()
    body = head + struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b"
    headers = {"Inference-Header-Content-Length": str(len(head)),
               "Content-Type": "application/octet-stream"}
    reply = shared.post("/v2/models/tiny/a/infer", body, headers=headers)
    assert reply.status == 200 and reply.headers["content-type"] == "application/octet-stream"
    cut = int(reply.headers["inference-header-content-length"])
    (output,) = json.loads(reply.body[:cut])["outputs"]
    assert output["parameters"] == {"binary_data_size": 2 * 32 * 4} and "data" not in output
    vectors = numpy.frombuffer(reply.body[cut:], dtype="<f4").reshape(output["shape"])
    assert numpy.abs(vectors - expected(shared, ["a", "b"])).max() <= TOLERANCE
    reply = shared.post("/v2/models/tiny/a/infer", body[:-1], headers=headers)
    assert reply.status == 400 and "binary_data_size: is 10 where 9" in reply.json["error"]


def test_probes_neither_load_nor_keep_a_model(start):
    server = start("--keep-alive", "600ms")

    def probe():
        for method, path in PROBES:
            assert server.request(method, path).status in (200, 503), path
        return [model["name"] for model in server.ok("GET", "/models/ps")["models"]]

    assert probe() == []
    began = time.monotonic()
    server.embed("tiny/a", ["x"])
    while "tiny/a" in probe():
        assert time.monotonic() - began < measure.patience(60), "the probes kept the model"
    assert time.monotonic() - began >= 0.6


def test_readiness_ends_with_the_server(fake):  # noqa: F811
    """A kept connection still gets an answer while the server drains."""
    server = fake(words="held-task")
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    kept.request("GET", "/v2/health/ready")
    assert kept.getresponse().read() == b'{"ready":true}'
    server.load("a")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        busy = pool.submit(server.ask)
        measure.wait_until(lambda: server.events("task"), "the task")
        server.process.terminate()
        measure.wait_until(lambda: "no more connections" in server.stderr(), "the drain")
        kept.request("GET", "/v2/health/ready")
        reply = kept.getresponse()
        assert reply.status == 503 and "shutting down" in json.loads(reply.read())["error"]
        server.go()
        assert busy.result().status == 200
    assert server.process.wait(60) == 0


def test_aliases(start, tmp_path):
    """The answer carries the name that was asked for."""
    (tmp_path / "vacate.conf").write_text("[model tiny/a]\nalias = org/alias\n")
    server = start("--config", tmp_path / "vacate.conf")
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.get_model_metadata("org/alias")["name"] == "org/alias"
        client.load_model("org/alias")
        assert client.is_model_ready("org/alias") and client.is_model_ready("tiny/a")
        reply = client.infer("org/alias", text_input(TEXTS))
        assert reply.get_response()["model_name"] == "org/alias"
        difference = reply.as_numpy("embedding") - expected(server, TEXTS)
        assert numpy.abs(difference).max() <= TOLERANCE
        ready = server.ok("POST", "/v2/repository/index", {"ready": True})
        assert {model["name"] for model in ready} == {"tiny/a", "org/alias"}
        assert server.post("/api/models/unload/org/alias", None).body == b"OK"
        assert not client.is_model_ready("tiny/a")
