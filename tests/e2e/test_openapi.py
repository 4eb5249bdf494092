"""The document at /openapi.json against a running server: schemathesis asks what
the document allows and what it does not, and holds every answer against it."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT = HERE.parent.parent / "docs" / "openapi.json"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"    # of the document's examples
KEY = "0123456789abcdef-a-key-for-tests"
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
SEED = "20260131"
STREAMS = ("/models/events", "/models/sse")
AUTOLOAD = {"$ref": "#/components/parameters/Autoload"}


@pytest.fixture
def models(zoo, tmp_path):
    """One small model under the name that the examples use."""
    place = tmp_path / "models" / MODEL
    place.parent.mkdir(parents=True)
    place.symlink_to(zoo.path / "tiny" / "a")
    return tmp_path / "models"


@pytest.fixture
def guarded(start, models, tmp_path):
    """A server that wants a key, so that 401 is tested, too."""
    (tmp_path / "keys").write_text(KEY + "\n")
    (tmp_path / "keys").chmod(0o600)
    return start("--keep-alive", "-1", "--api-key-file", tmp_path / "keys", models=models)


def close(schema):
    """Members of replies that the document does not name are findings here,
    though clients must not count on there being none."""
    if isinstance(schema, list):
        for item in schema:
            close(item)
    elif isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for item in schema.values():
            close(item)


def narrowed(server):
    """The served document with the limits of the one model that is there, and
    without what depends on the moment."""
    document = server.ok("GET", "/openapi.json", headers=WITH_KEY)
    model = server.ok("GET", f"/models/plan?model={MODEL}", headers=WITH_KEY)
    document["security"].remove({})    # this server wants one
    components = document["components"]
    schemas = components["schemas"]
    schemas["ModelName"] = {"type": "string", "enum": [MODEL]}
    schemas["TokenId"]["maximum"] = model["vocab_size"] - 1
    schemas["Dimensions"]["maximum"] = model["embedding_dimensions"]
    # The body's model goes before the query's, which is not looked at then.
    for path in ("/", "/embed"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        del body["schema"]["properties"]["model"]
    # They do not end: test_events.py reads them.
    for path in STREAMS:
        del document["paths"][path]
    # Without input nothing is computed and the model's width is not looked at.
    ollama = document["paths"]["/api/embed"]["post"]["requestBody"]["content"]["application/json"]
    del ollama["schema"]["properties"]["dimensions"]
    for name in ("Error", "OpenAIError", "TEIError", "PlainError", "Usage", "Plan", "Model",
                 "Receipt", "Receipts", "RouterModel", "OpenAIModel", "OllamaDetails",
                 "InferReply", "TensorMetadata"):
        close(schemas[name])
    for operations in document["paths"].values():
        for operation in operations.values():
            close(operation["responses"])
            # autoload=false is an error or not as the model happens to be absent
            # or not; test_llama_swap.py asks for both.
            if AUTOLOAD in operation["parameters"]:
                operation["parameters"].remove(AUTOLOAD)
    return document


def schemathesis(server, tmp_path, *options):
    (tmp_path / "openapi.json").write_text(json.dumps(narrowed(server)))
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color",
               "--config-file", str(HERE / "schemathesis.toml"), "run",
               str(tmp_path / "openapi.json"), "--url", server.url, "-H", f"Authorization: Bearer {KEY}", "--seed", SEED,
               "--generation-database", "none", *options]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, env=dict(os.environ, COLUMNS="100"))
    assert done.returncode == 0, done.stdout[-60000:]
    assert server.process.poll() is None
    return done.stdout


def test_the_server_answers_as_the_document_says(guarded, tmp_path):
    schemathesis(guarded, tmp_path, "--max-examples", "25")


@pytest.mark.soak
def test_the_server_answers_as_the_document_says_for_long(guarded, tmp_path):
    schemathesis(guarded, tmp_path, "--max-time", "600")


def test_the_served_document_is_the_one_in_docs(shared):
    served = shared.ok("GET", "/openapi.json")
    written = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    written["info"]["version"] = shared.ok("GET", "/version")["version"]
    assert served == written


def examples():
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    for path, operations in document["paths"].items():
        if path in STREAMS:
            continue
        for method, operation in operations.items():
            media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            bodies = [example["value"] for example in media.get("examples", {}).values()]
            bodies += [media["example"]] if "example" in media else []
            for body in bodies or [None]:
                yield method.upper(), path.replace("{model}", MODEL), body


def test_the_examples_work(start, models):
    served = start("--keep-alive", "-1", models=models)
    for method, path, body in examples():
        if path == "/models/plan":
            path += f"?model={MODEL}"
        if path.endswith("/ready") and "models" in path:
            served.load(MODEL)
        reply = served.request(method, path, body)
        # there is no GPU that a model could leave
        status = 409 if path in ("/models/park", "/models/resume") else 200
        assert reply.status == status, f"{method} {path}: {reply}"


def test_every_body_has_an_example():
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if "requestBody" in operation:
                media = operation["requestBody"]["content"]["application/json"]
                assert "example" in media or media["examples"], path
