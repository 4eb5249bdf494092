"""Checkpoints that are broken, or change while they are used. Each is refused
in one sentence that names the place; nothing is left; the server answers on."""
import json
import os
import threading
import time

import checkpoints
import measure
import pytest

KIB = 1 << 10
TEXTS = ["The harbour is quiet.", "A lighthouse by the sea"]
QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture
def place(zoo, tmp_path):
    """place/bad is a copy of tiny/a to spoil, place/good one that stays."""
    path = tmp_path / "models"
    path.mkdir()
    checkpoints.copy(zoo.path / "tiny" / "a", path / "bad")
    checkpoints.copy(zoo.path / "tiny" / "b", path / "good")
    return path


def truncated(bad):
    path = bad / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    return "model.safetensors"


def empty(bad):
    (bad / "model.safetensors").write_bytes(b"")
    return "model.safetensors"


def seven_bytes(bad):
    (bad / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0")
    return "model.safetensors"


def huge_header(bad):
    path = bad / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes((2 ** 63 - 1).to_bytes(8, "little") + raw[8:])
    return "header"


def header_beyond_the_file(bad):
    path = bad / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes((90_000_000).to_bytes(8, "little") + raw[8:])
    return "header"


def overlap(bad):
    header, data = checkpoints.split(bad / "model.safetensors")
    start, end = header[QUERY]["data_offsets"]
    header[QUERY]["data_offsets"] = [start - 4, end - 4]
    checkpoints.join(bad / "model.safetensors", header, data)
    return "model.safetensors"


def hole(bad):
    header, data = checkpoints.split(bad / "model.safetensors")
    for value in header.values():
        if "data_offsets" in value:
            value["data_offsets"] = [at + 4 for at in value["data_offsets"]]
    checkpoints.join(bad / "model.safetensors", header, b"\0" * 4 + data)
    return "model.safetensors"


def bytes_after_the_last_tensor(bad):
    with open(bad / "model.safetensors", "ab") as file:
        file.write(b"more")
    return "model.safetensors"


def overflowing_shape(bad):
    header, data = checkpoints.split(bad / "model.safetensors")
    header[QUERY]["shape"] = [2 ** 33, 2 ** 33]
    checkpoints.join(bad / "model.safetensors", header, data)
    return QUERY


def duplicate_key(bad):
    header, data = checkpoints.split(bad / "model.safetensors")
    text = json.dumps(header)
    text = text[:-1] + f', "{QUERY}": {json.dumps(header[QUERY])}' + "}"
    checkpoints.join(bad / "model.safetensors", text, data)
    return QUERY


def header_not_utf8(bad):
    path = bad / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b"encoder.layer.0", b"encoder.layer.\xff", 1))
    return "model.safetensors"


def wrong_shape(bad):
    header, data = checkpoints.split(bad / "model.safetensors")
    header[QUERY]["shape"] = [16, 64]
    checkpoints.join(bad / "model.safetensors", header, data)
    return QUERY


def wrong_dtype(bad):
    header, data = checkpoints.split(bad / "model.safetensors")
    header[QUERY]["dtype"] = "I32"
    checkpoints.join(bad / "model.safetensors", header, data)
    return QUERY


def missing_tensor(bad):
    checkpoints.without(bad / "model.safetensors", QUERY)
    return QUERY


def no_weights(bad):
    (bad / "model.safetensors").unlink()
    return "model.safetensors"


def pickle_only(bad):
    (bad / "model.safetensors").rename(bad / "pytorch_model.bin")
    return "pytorch_model.bin"


def unknown_architecture(bad):
    checkpoints.edit_json(bad / "config.json", model_type="mamba2",
                          architectures=["Mamba2ForCausalLM"])
    return "mamba2"


def config_not_json(bad):
    (bad / "config.json").write_text("{model_type: bert}")
    return "config.json"


def config_wrong_type(bad):
    checkpoints.edit_json(bad / "config.json", hidden_size="32")
    return "hidden_size"


def config_negative(bad):
    checkpoints.edit_json(bad / "config.json", num_hidden_layers=-2)
    return "num_hidden_layers"


def config_more_layers_than_tensors(bad):
    checkpoints.edit_json(bad / "config.json", num_hidden_layers=3)
    return "encoder.layer.2"


def heads_do_not_divide(bad):
    checkpoints.edit_json(bad / "config.json", num_attention_heads=5)
    return "num_attention_heads"


def unknown_activation(bad):
    checkpoints.edit_json(bad / "config.json", hidden_act="swish9")
    return "swish9"


def tokenizer_cut(bad):
    path = bad / "tokenizer.json"
    os.truncate(path, path.stat().st_size // 2)
    return "tokenizer.json"


def tokenizer_missing(bad):
    (bad / "tokenizer.json").unlink()
    return "tokenizer.json"


def tokenizer_unknown_component(bad):
    checkpoints.edit_json(bad / "tokenizer.json", pre_tokenizer={"type": "Tarot"})
    return "Tarot"


def tokenizer_unknown_model(bad):
    checkpoints.edit_json(bad / "tokenizer.json", model={"type": "Unigram", "vocab": []})
    return "Unigram"


def pooling_of_two_kinds(bad):
    checkpoints.edit_json(bad / "1_Pooling" / "config.json", pooling_mode_cls_token=True)
    return "1_Pooling"


def unknown_module(bad):
    modules = json.loads((bad / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.models.WordWeights"
    (bad / "modules.json").write_text(json.dumps(modules))
    return "WordWeights"


def weights_are_a_fifo(bad):
    (bad / "model.safetensors").unlink()
    os.mkfifo(bad / "model.safetensors")
    return "model.safetensors"


SPOILED = [truncated, empty, seven_bytes, huge_header, header_beyond_the_file, overlap, hole,
           bytes_after_the_last_tensor, overflowing_shape, duplicate_key, header_not_utf8,
           wrong_shape, wrong_dtype, missing_tensor, no_weights, pickle_only,
           unknown_architecture, config_not_json, config_wrong_type, config_negative,
           config_more_layers_than_tensors, heads_do_not_divide, unknown_activation,
           tokenizer_cut, tokenizer_missing, tokenizer_unknown_component,
           tokenizer_unknown_model, pooling_of_two_kinds, unknown_module, weights_are_a_fifo]


def test_all_of_them(start, place, zoo):
    """One server meets every spoiled checkpoint in turn."""
    server = start(models=place)
    problems = []
    for spoil in SPOILED:
        checkpoints.shutil.rmtree(place / "bad")
        checkpoints.copy(zoo.path / "tiny" / "a", place / "bad")
        where = spoil(place / "bad")
        reply = server.post("/v1/embeddings", {"model": "bad", "input": TEXTS})
        if reply.status != 422:
            problems.append(f"{spoil.__name__}: {reply}")
            server.post("/models/unload", {"model": "bad"})
            continue
        message = reply.json["error"]["message"]
        if where not in message:
            problems.append(f"{spoil.__name__}: {where!r} is not named in {message!r}")
        # The listings live with it, too.
        for path in ("/models", "/models/plan?model=bad", "/models/ps", "/v1/models"):
            reply = server.get(path)
            if reply.status not in (200, 422):
                problems.append(f"{spoil.__name__}: {path}: {reply}")
        try:
            measure.wait_until(lambda: not server.workers(), "the worker's end")
        except TimeoutError as error:
            problems.append(f"{spoil.__name__}: {error}")
    assert not problems, "\n".join(problems)
    assert len(server.embed("good", TEXTS)) == 2


def test_pickle_says_how_to_convert(start, place):
    pickle_only(place / "bad")
    reply = start(models=place).post("/v1/embeddings", {"model": "bad", "input": "x"})
    assert reply.status == 422
    assert "safetensors" in reply.json["error"]["message"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("instead", [None, os.mkfifo, os.mkdir])
def test_file_that_is_missing_or_none(start, place, name, instead):
    """The checkpoint is at fault: neither the request nor the model's name is."""
    (place / "bad" / name).unlink()
    if instead:
        instead(place / "bad" / name)
    server = start(models=place)
    for reply in (server.post("/v1/embeddings", {"model": "bad", "input": "x"}),
                  server.get("/models/plan?model=bad")):
        assert reply.status == 422, reply
        assert name in reply.json["error"]["message"]


def test_plans_wait_for_one_another(start, place):
    """Listings, plans and directories that come and go: never a word of memory."""
    server = start(models=place)
    stop = time.monotonic() + 3
    replies = []

    def ask(path):
        while time.monotonic() < stop:
            replies.append(server.get(path))

    askers = [threading.Thread(target=ask, args=(path,)) for path in
              ("/models", "/models", "/models/plan?model=bad", "/models/plan?model=good")]
    for asker in askers:
        asker.start()
    while time.monotonic() < stop:
        os.rename(place / "bad", place / ".bad")
        time.sleep(0.002)
        os.rename(place / ".bad", place / "bad")
        os.utime(place / "good" / "config.json")
        time.sleep(0.002)
    for asker in askers:
        asker.join()
    assert {reply.status for reply in replies} <= {200, 404, 422}


def test_token_beyond_the_embeddings(start, place):
    """A tokenizer may know more than the weights have rows for: refused at the
    load, or for the text that has such a token, and never read past the end."""
    path = place / "bad" / "tokenizer.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    value["model"]["vocab"]["beyond"] = 1_000_000
    path.write_text(json.dumps(value), encoding="utf-8")
    server = start(models=place)
    reply = server.post("/v1/embeddings", {"model": "bad", "input": "light beyond"})
    assert reply.status in (400, 422), reply
    assert "1000000" in reply.json["error"]["message"]
    assert len(server.embed("good", TEXTS)) == 2


def test_repaired_checkpoint_loads_without_a_restart(start, place, zoo):
    server = start(models=place)
    missing_tensor(place / "bad")
    assert server.post("/v1/embeddings", {"model": "bad", "input": "x"}).status == 422
    checkpoints.shutil.copy(zoo.path / "tiny/a/model.safetensors", place / "bad")
    assert len(server.embed("bad", TEXTS)) == 2


@pytest.mark.measured
def test_refusals_leave_nothing(start, place):
    server = start(models=place)
    where = missing_tensor(place / "bad")
    before, files = None, len(measure.open_files(server.pid))
    for number in range(30):
        reply = server.post("/v1/embeddings", {"model": "bad", "input": "x"})
        assert reply.status == 422 and where in reply.body.decode()
        measure.wait_until(lambda: not measure.children(server.pid), "the worker's end")
        if number == 4:
            before = measure.uss(server.pid)
    assert measure.uss(server.pid) - before <= 128 * KIB
    measure.wait_until(lambda: len(measure.open_files(server.pid)) <= files,
                       "the close of the last connection")


def test_a_refused_load_does_not_touch_the_others(start, place):
    server = start(models=place)
    expected = server.embed("good", TEXTS)
    (worker,) = server.workers()
    truncated(place / "bad")
    assert server.post("/v1/embeddings", {"model": "bad", "input": "x"}).status == 422
    assert server.workers() == [worker]
    assert server.embed("good", TEXTS) == expected


# ---- changes after the load ----

def shrink(directory):
    os.truncate(directory / "model.safetensors", 1000)


def overwrite(directory):
    path = directory / "model.safetensors"
    with open(path, "r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def replace(directory):
    other = directory / "new"
    other.write_bytes(b"\0" * 5000)
    os.replace(other, directory / "model.safetensors")


def vanish(directory):
    checkpoints.shutil.rmtree(directory)


@pytest.mark.parametrize("change", [shrink, overwrite, replace, vanish])
def test_resident_model_does_not_change_with_its_files(start, place, change):
    server = start(models=place)
    expected = server.embed("good", TEXTS)
    change(place / "good")
    for _ in range(3):
        assert server.embed("good", TEXTS) == expected
    server.unload("good")
    status = server.post("/v1/embeddings", {"model": "good", "input": "x"}).status
    assert status == (404 if change is vanish else 422)


@pytest.mark.parametrize("change", [shrink, overwrite, replace, vanish])
def test_files_change_during_the_load(start, zoo, tmp_path, change):
    """Whatever moment it hits: a whole answer or a clear refusal, never a crash."""
    models = tmp_path / "models"
    models.mkdir()
    server = None
    for delay_ms in (0, 3, 6, 10, 15, 25):
        if (models / "victim").exists():
            checkpoints.shutil.rmtree(models / "victim")
        checkpoints.copy(zoo.path / "big" / "a", models / "victim")
        server = server or start(models=models)
        done = []
        asker = threading.Thread(target=lambda: done.append(
            server.post("/v1/embeddings", {"model": "victim", "input": TEXTS})))
        asker.start()
        time.sleep(delay_ms / 1e3)
        change(models / "victim")
        asker.join()
        assert done[0].status in (200, 404, 422), done[0]
        if done[0].status == 200:
            server.unload("victim")
        measure.wait_until(lambda: not server.workers(), "the worker's end")
    assert "signal" not in server.stderr()


def test_link_out_of_a_checkpoint(start, zoo, tmp_path):
    """It is the server that opens the files: it must not be led elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    checkpoints.shutil.copytree(zoo.path / "tiny" / "a", tmp_path / "models" / "m")
    checkpoints.shutil.move(tmp_path / "models" / "m" / "tokenizer.json", outside / "tokenizer.json")
    (tmp_path / "models" / "m" / "tokenizer.json").symlink_to(outside / "tokenizer.json")
    server = start(models=tmp_path / "models")
    reply = server.post("/v1/embeddings", {"model": "m", "input": "x"})
    assert reply.status == 422
    assert "tokenizer.json: is a link that leads out of the model's directory" in \
        reply.json["error"]["message"]
    # Who runs the server may say that it belongs there.
    server = start(models=[tmp_path / "models", outside])
    assert len(server.embed("m", ["x"])) == 1
