"""Batches under way on a GPU while others ask, hang up, load and unload: whoever is answered
has the vectors of the processor. The GPU is tests/e2e/fake_gpu, which says that a batch
is not ready as often as CUDA_FAKE_SLOW tells.
"""
import random
import threading
import time

import pytest
from test_gpu_sandbox import FAKE_GPU, gpu  # noqa: F401 (a fixture)
from test_sandbox import sanitized

MODELS = ["tiny/a", "tiny/b"]
TEXTS = ["a lighthouse", "the sea at night", "a", "who goes there, in the dark, so late?",
         "one " * 30, "ships " * 55]

pytestmark = [pytest.mark.skipif(not (FAKE_GPU / "libcuda.so.1").exists(),
                                 reason="the fake GPU is not built"),
              pytest.mark.skipif(sanitized(), reason="a sanitizer needs what the sandbox takes")]


def embed(server, model, texts):
    return server.post("/v1/embeddings", {"model": model, "input": texts})


def vectors(reply):
    return [row["embedding"] for row in reply.json["data"]]


def hang_up(server, model):
    """Asks for much and leaves."""
    with pytest.raises(OSError):
        server.request("POST", "/v1/embeddings", {"model": model, "input": TEXTS * 20},
                       timeout_s=0.01)
        raise TimeoutError    # it was quicker


@pytest.mark.parametrize("slow", ["0", "3", "200"])
def test_in_any_order(gpu, start, monkeypatch, slow):    # noqa: F811
    monkeypatch.setenv("CUDA_FAKE_SLOW", slow)
    server, plain = gpu(more="max-batch-tokens = 64\n"), start("--device", "cpu")
    truth = {name: dict(zip(TEXTS, vectors(embed(plain, name, TEXTS)))) for name in MODELS}
    wrong, answered = [], []
    end = threading.Event()

    def ask(seed):
        chance = random.Random(seed)
        for _ in range(12):
            name, texts = chance.choice(MODELS), chance.choices(TEXTS, k=chance.randint(1, 9))
            if chance.random() < 0.2:
                hang_up(server, name)
                continue
            reply = embed(server, name, texts)
            if reply.status != 200:
                wrong.append(str(reply))
                continue
            answered.append(name)
            for text, mine in zip(texts, vectors(reply), strict=True):
                if max(abs(x - y) for x, y in zip(mine, truth[name][text], strict=True)) > 1e-5:
                    wrong.append(f"{name}: {text}")

    def change():
        chance = random.Random(9)
        while not end.wait(0.05):
            server.post(f"/models/{chance.choice(['unload', 'load'])}",
                        {"model": chance.choice(MODELS)})

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    changer = threading.Thread(target=change)
    for thread in (*threads, changer):
        thread.start()
    for thread in threads:
        thread.join()
    end.set()
    changer.join()
    assert not wrong, wrong[:5]
    assert len(answered) > 10
    for name in MODELS:
        server.post("/models/unload", {"model": name})
    assert "vacate_worker_deaths_total 0" in server.get("/metrics").body.decode().splitlines()


def test_a_gpu_that_hangs(gpu, monkeypatch):    # noqa: F811
    """Nobody waits for it for ever: its worker, which looks at its socket meanwhile, is ended."""
    monkeypatch.setenv("CUDA_FAKE_SLOW", "hangs")
    server = gpu("--heartbeat", "100ms", "--silence-timeout", "2s")
    server.load("tiny/a")
    reply = embed(server, "tiny/a", TEXTS)
    assert reply.status >= 500, server.stderr()
    assert "said nothing" in server.stderr(), server.stderr()[-3000:]


def test_a_load_finds_the_gpu_lost(gpu, monkeypatch):    # noqa: F811
    """The other model's worker is ended for it, without being asked first, and the server goes on."""
    monkeypatch.setenv("CUDA_FAKE_LOST", "5")    # a context and three regions are the first model's
    server = gpu()
    server.load("tiny/a")
    (worker,) = server.ok("GET", "/models/ps")["workers"]
    reply = server.post("/models/load", {"model": "tiny/b"})
    assert reply.status >= 500 and "uncorrectable memory error (ECC)" in str(reply.json), reply
    end = time.monotonic() + 60
    while [w for w in server.ok("GET", "/models/ps")["workers"] if w["pid"] == worker["pid"]]:
        assert time.monotonic() < end, server.stderr()[-3000:]
        time.sleep(0.02)
    assert "(ECC)" in server.stderr()
    assert embed(server, "tiny/a", TEXTS).status == 200
    (receipt,) = server.ok("GET", "/receipts")["receipts"]
    assert (receipt["model"], receipt["reason"]) == ("tiny/a", "worker_died")
