"""Text Embeddings Inference's /embed."""
import pytest

TEXTS = ["The harbour is quiet.", "A lighthouse by the sea"]


def largest(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


def test_embed(shared):
    rows = shared.ok("POST", "/embed?model=tiny/a", {"inputs": TEXTS})
    expected = shared.embed("tiny/a", TEXTS)
    assert len(rows) == 2 and all(largest(a, b) <= 2e-6 for a, b in zip(rows, expected))


def test_one_text_is_still_a_list_of_rows(shared):
    rows = shared.ok("POST", "/embed", {"model": "tiny/a", "inputs": TEXTS[0]})
    assert len(rows) == 1 and len(rows[0]) == 32


def test_normalize_off(shared):
    raw = shared.ok("POST", "/embed?model=tiny/a", {"inputs": TEXTS, "normalize": False})
    unit = shared.ok("POST", "/embed?model=tiny/a", {"inputs": TEXTS, "normalize": True})
    for a, b in zip(raw, unit):
        length = sum(x * x for x in a) ** 0.5
        assert length > 1.5
        assert largest([x / length for x in a], b) < 1e-6


def test_truncate(shared):
    long = "sea " * 300    # 126 words and the two special tokens fit
    reply = shared.post("/embed?model=tiny/a", {"inputs": long})
    assert reply.status in (413, 422)
    assert set(reply.json) >= {"error", "error_type"}
    assert "128" in reply.json["error"] and "302" in reply.json["error"]
    cut = shared.ok("POST", "/embed?model=tiny/a", {"inputs": long, "truncate": True})
    fits = shared.ok("POST", "/embed?model=tiny/a", {"inputs": "sea " * 126})
    assert largest(cut[0], fits[0]) <= 2e-6


def test_truncation_direction(shared):
    text = "harbour " + "sea " * 300 + "lighthouse"
    left = shared.ok("POST", "/embed?model=tiny/a", {
        "inputs": text, "truncate": True, "truncation_direction": "Left"})[0]
    right = shared.ok("POST", "/embed?model=tiny/a", {
        "inputs": text, "truncate": True, "truncation_direction": "Right"})[0]
    assert largest(left, right) > 1e-4


def test_dimensions(shared):
    rows = shared.ok("POST", "/embed?model=tiny/a", {"inputs": TEXTS, "dimensions": 5})
    assert [len(row) for row in rows] == [5, 5]
    assert abs(sum(x * x for x in rows[0]) - 1) < 1e-5


@pytest.mark.parametrize("body, status", [
    ({"inputs": []}, (400, 422)), ({}, (400, 422)), ({"inputs": 5}, (400, 422)),
    ({"inputs": [1, "x"]}, (400, 422))])
def test_errors(shared, body, status):
    reply = shared.post("/embed?model=tiny/a", body)
    assert reply.status in status
    assert set(reply.json) >= {"error", "error_type"}
    assert "inputs" in reply.json["error"]


def test_which_model_must_be_said_when_there_are_several(shared):
    shared.embed("tiny/a", TEXTS)
    shared.embed("tiny/b", TEXTS)
    reply = shared.post("/embed", {"inputs": TEXTS})
    assert reply.status == 400 and "model" in reply.json["error"]


def test_the_only_model_need_not_be_named(start, zoo, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "only").symlink_to(zoo.path / "tiny" / "a")
    server = start(models=tmp_path / "models")
    assert len(server.ok("POST", "/embed", {"inputs": TEXTS})) == 2
