"""Vectors through HTTP against those of sentence-transformers in float32
(tests/golden, made by make_embeddings.py): no component is off by more than
2e-6."""
import base64
import hashlib
import json

import numpy as np
import pytest

from conftest import GOLDEN

LARGEST_DIFFERENCE = 2e-6
LIMIT_TOKENS = 256    # the sample model's max_seq_length


@pytest.fixture(scope="session")
def texts():
    raw = (GOLDEN / "texts.json").read_bytes()
    about = json.loads((GOLDEN / "random.json").read_text(encoding="utf-8"))
    assert hashlib.sha256(raw).hexdigest() == about["texts_sha256"], "run make_embeddings.py again"
    return json.loads(raw)


@pytest.fixture(scope="session")
def truth(texts):
    data = b"".join((GOLDEN / f"embeddings-{half}.f32").read_bytes() for half in range(2))
    return np.frombuffer(data, "<f4").reshape(len(texts), 384)


def tei(server, model, inputs, normalize=True):
    """TEI's way: truncates what is too long, as sentence-transformers does."""
    return np.array(server.ok("POST", f"/embed?model={model}", {
        "inputs": inputs, "truncate": True, "normalize": normalize}), "<f4")


def worst(got, expected):
    """Largest difference of a component, and the row that it is in."""
    assert got.shape == expected.shape
    assert np.isfinite(got).all()
    off = np.abs(got.astype("f8") - expected).max(axis=1)
    return off.max(), int(off.argmax())


@pytest.fixture(scope="module")
def real(sample, tmp_path_factory):
    import harness
    from conftest import backend_options, check_end
    models, _ = sample
    server = harness.Server(models, tmp_path_factory.mktemp("real") / "log", *backend_options())
    yield server
    check_end(server)


def test_sample_model(real, sample, texts, truth):
    rows = []
    for at in range(0, len(texts), 50):
        rows.append(tei(real, sample[1], texts[at:at + 50]))
    off, row = worst(np.concatenate(rows), truth)
    assert off <= LARGEST_DIFFERENCE, f"{off:.3g} in text {row}: {texts[row][:80]!r}"


def test_sample_model_one_at_a_time_and_base64(real, sample, texts, truth):
    """Short and long batches and the other reply format agree with the truth."""
    checked = 0
    for index in range(0, len(texts), 10):
        reply = real.post("/v1/embeddings", {"model": sample[1], "input": texts[index],
                                             "encoding_format": "base64"})
        if reply.status == 400:    # longer than the model's limit; this API does not truncate
            assert str(LIMIT_TOKENS) in reply.json["error"]["message"]
            continue
        assert reply.status == 200, reply
        got = np.frombuffer(base64.b64decode(reply.json["data"][0]["embedding"]),
                            "<f4")
        off, _ = worst(got[None], truth[index][None])
        assert off <= LARGEST_DIFFERENCE, f"{off:.3g} in text {index}: {texts[index][:80]!r}"
        checked += 1
    assert checked >= 40


def test_neighbours_in_a_batch_do_not_matter(real, sample, texts, truth):
    order = np.random.RandomState(3).permutation(len(texts))[:64]
    rows = tei(real, sample[1], [texts[i] for i in order])
    off, row = worst(rows, truth[order])
    assert off <= LARGEST_DIFFERENCE, f"{off:.3g} in text {order[row]}"


def test_reference_backend(start, sample, texts, truth):
    """The plain-C backend, on some short texts: it is slow and it is the truth for kernels."""
    server = start("--backend", "reference", models=sample[0])
    chosen = [i for i in range(0, len(texts), 7) if len(texts[i]) < 60][:24]
    off, row = worst(tei(server, sample[1], [texts[i] for i in chosen]), truth[chosen])
    assert off <= LARGEST_DIFFERENCE, f"{off:.3g} in text {chosen[row]}"


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_random_models(start, zoo, texts, backend):
    """Poolings, Dense, float16 and bfloat16 files, shards, a missing
    modules.json, sizes that no vector width divides."""
    server = start("--backend", backend)
    assert zoo.random
    for name, about in zoo.random.items():
        expected = np.frombuffer((GOLDEN / f"random-{name}.f32").read_bytes(), "<f4")
        expected = expected.reshape(-1, about["dimensions"])
        got = tei(server, "random/" + name, [texts[i] for i in about["texts"]],
                  normalize=about["spec"]["normalize"])
        off, row = worst(got, expected)
        # Vectors that are not normalized have components of 3 and more.
        allowed = LARGEST_DIFFERENCE * max(1, np.abs(expected[row]).max())
        assert off <= allowed, f"{name}: {off:.3g} in text {about['texts'][row]}"
