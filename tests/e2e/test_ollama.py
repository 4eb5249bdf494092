"""Ollama's /api/embed, /api/ps and its ways with keep_alive."""
import datetime

import measure
import pytest

TEXTS = ["The harbour is quiet.", "A lighthouse by the sea"]


def resident(server):
    return [model["name"] for model in server.ok("GET", "/api/ps")["models"]]


def test_embed(shared):
    answer = shared.ok("POST", "/api/embed", {"model": "tiny/a", "input": TEXTS})
    assert answer["model"] == "tiny/a"
    expected = shared.embed("tiny/a", TEXTS)
    for a, b in zip(answer["embeddings"], expected, strict=True):
        assert max(abs(x - y) for x, y in zip(a, b, strict=True)) <= 2e-6
    usage = shared.ok("POST", "/v1/embeddings", {"model": "tiny/a", "input": TEXTS})["usage"]
    assert answer["prompt_eval_count"] == usage["prompt_tokens"]
    assert answer["total_duration"] > 0
    assert 0 <= answer["load_duration"] <= answer["total_duration"]


def test_too_long_is_cut_unless_told_otherwise(shared):
    long = "sea " * 300
    cut = shared.ok("POST", "/api/embed", {"model": "tiny/a", "input": long})
    assert cut["prompt_eval_count"] == 128
    reply = shared.post("/api/embed", {"model": "tiny/a", "input": long, "truncate": False})
    assert reply.status == 400 and "128" in reply.json["error"]


def test_ps(start):
    server = start("--keep-alive", "10m")
    assert server.ok("GET", "/api/ps") == {"models": []}
    server.embed("tiny/a", TEXTS)
    (model,) = server.ok("GET", "/api/ps")["models"]
    assert model["name"] == model["model"] == "tiny/a"
    assert model["size"] > 221_528    # its weights at least
    assert model["size_vram"] == 0
    assert model["context_length"] == 128
    assert model["details"]["family"] == "bert"
    left = (datetime.datetime.fromisoformat(model["expires_at"].replace("Z", "+00:00")) -
            datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    assert 590 < left < 601


@pytest.mark.parametrize("keep_alive", [0, "0", "0s"])
def test_keep_alive_zero_unloads_after_the_answer(start, keep_alive):
    server = start()
    answer = server.ok("POST", "/api/embed", {"model": "tiny/a", "input": TEXTS,
                                              "keep_alive": keep_alive})
    assert len(answer["embeddings"]) == 2
    measure.wait_until(lambda: not resident(server) and not server.workers(), "unload")


def test_a_requests_keep_alive_wins(start):
    server = start("--keep-alive", "300ms")
    server.ok("POST", "/api/embed", {"model": "tiny/a", "input": "x", "keep_alive": -1})
    server.ok("POST", "/api/embed", {"model": "tiny/b", "input": "x"})
    measure.wait_until(lambda: resident(server) == ["tiny/a"], "idle unload of tiny/b")
    server.ok("POST", "/api/embed", {"model": "tiny/a", "input": "x", "keep_alive": "100ms"})
    measure.wait_until(lambda: resident(server) == [], "idle unload of tiny/a")


def test_generate_with_no_prompt_loads_and_unloads(start):
    server = start()
    answer = server.ok("POST", "/api/generate", {"model": "tiny/a"})
    assert answer["done"] is True and resident(server) == ["tiny/a"]
    answer = server.ok("POST", "/api/generate", {"model": "tiny/a", "keep_alive": 0})
    assert answer["done_reason"] == "unload"
    measure.wait_until(lambda: not resident(server), "unload")


def test_errors(shared):
    reply = shared.post("/api/embed", {"model": "tiny/none", "input": "x"})
    assert reply.status == 404 and "tiny/none" in reply.json["error"]
    reply = shared.post("/api/embed", {"model": "tiny/a", "input": "x", "keep_alive": "soon"})
    assert reply.status == 400 and "keep_alive" in reply.json["error"]
