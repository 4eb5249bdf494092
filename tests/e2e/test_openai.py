"""The official OpenAI client, unchanged, against Vacate."""
import base64
import struct

import openai
import pytest

TEXTS = ["The harbour is quiet.", "A lighthouse by the sea", "memory"]


@pytest.fixture(scope="module")
def client(shared):
    return openai.OpenAI(base_url=shared.url + "/v1", api_key="none", max_retries=0)


def norm(vector):
    return sum(x * x for x in vector) ** 0.5


def test_embeddings(client, shared):
    """The client asks for base64 by default and decodes it."""
    answer = client.embeddings.create(model="tiny/a", input=TEXTS)
    assert answer.object == "list" and answer.model == "tiny/a"
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert all(item.object == "embedding" and len(item.embedding) == 32 for item in answer.data)
    assert all(abs(norm(item.embedding) - 1) < 1e-6 for item in answer.data)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 3 * 3
    assert answer.data[0].embedding != answer.data[1].embedding


def test_float_and_base64_are_the_same_bits(shared):
    body = {"model": "tiny/a", "input": TEXTS}
    as_float = shared.ok("POST", "/v1/embeddings", {**body, "encoding_format": "float"})
    default = shared.ok("POST", "/v1/embeddings", body)
    as_base64 = shared.ok("POST", "/v1/embeddings", {**body, "encoding_format": "base64"})
    for a, b, c in zip(as_float["data"], as_base64["data"], default["data"]):
        assert struct.pack("<32f", *a["embedding"]) == base64.b64decode(b["embedding"])
        assert c["embedding"] == a["embedding"]    # float is the API's default


def test_one_text_and_a_list_of_one(client):
    one = client.embeddings.create(model="tiny/a", input=TEXTS[0]).data
    listed = client.embeddings.create(model="tiny/a", input=[TEXTS[0]]).data
    assert len(one) == len(listed) == 1
    assert one[0].embedding == listed[0].embedding


def test_token_arrays(client, zoo):
    """Token ids are taken as they are: with [CLS] and [SEP] they are the text."""
    vocabulary = (zoo.path / "tiny/a/vocab.txt").read_text(encoding="utf-8").split("\n")
    ids = [vocabulary.index(t) for t in ("[CLS]", "light", "is", "sea", "[SEP]")]
    by_text = client.embeddings.create(model="tiny/a", input="light is sea")
    one = client.embeddings.create(model="tiny/a", input=ids)
    assert one.usage.prompt_tokens == by_text.usage.prompt_tokens == 5
    pairs = zip(one.data[0].embedding, by_text.data[0].embedding)
    assert max(abs(x - y) for x, y in pairs) <= 2e-6
    two = client.embeddings.create(model="tiny/a", input=[ids, ids[:3]])
    assert [item.index for item in two.data] == [0, 1]
    assert two.usage.prompt_tokens == 8


def test_dimensions(client):
    full = client.embeddings.create(model="tiny/a", input=TEXTS[0]).data[0].embedding
    cut = client.embeddings.create(model="tiny/a", input=TEXTS[0], dimensions=8).data[0].embedding
    assert len(cut) == 8
    length = norm(full[:8])
    assert max(abs(x / length - y) for x, y in zip(full, cut)) < 1e-6


def test_models(client):
    models = {model.id: model for model in client.models.list()}
    assert {"tiny/a", "tiny/b", "tiny/c"} <= set(models)
    assert models["tiny/a"].object == "model"
    assert models["tiny/a"].created > 1_600_000_000
    assert models["tiny/a"].owned_by


def test_names_need_no_plans(start):
    """Who asks what models are called waits for no worker that reads them all."""
    server = start()
    assert {"tiny/a", "big/a"} <= {model["id"] for model in server.get("/v1/models").json["data"]}
    assert server.get("/v1/models/tiny/a").json["id"] == "tiny/a"
    assert server.get("/v1/models/tiny/none").status == 404
    assert "worker" not in server.stderr()
    assert len(server.get("/models").json["models"]) > 3    # those with plans start one
    assert "started (no models)" in server.stderr()


@pytest.mark.parametrize("arguments, status, where", [
    (dict(model="tiny/none", input="x"), 404, "tiny/none"),
    (dict(model="../etc", input="x"), 400, ".."),
    (dict(model="tiny/a", input=[]), 400, "input"),
    (dict(model="tiny/a", input="x", dimensions=33), 400, "32"),
    (dict(model="tiny/a", input="x", dimensions=-1), 400, "dimensions"),
    (dict(model="tiny/a", input=[[1, 1000]]), 400, "1000"),
    (dict(model="tiny/a", input=[[1, -1]]), 400, "input[0][1]"),
    (dict(model="tiny/a", input="word " * 200), 400, "128"),
    (dict(model="tiny/a", input="x", encoding_format="int8"), 400, "encoding_format"),
])
def test_errors(client, arguments, status, where):
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(**arguments)
    assert caught.value.status_code == status
    error = caught.value.response.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert where in error["message"]


def test_async_and_many(shared):
    """Several requests at a time over kept-alive connections."""
    import asyncio

    async def ask():
        async with openai.AsyncOpenAI(base_url=shared.url + "/v1", api_key="x",
                                      max_retries=0) as client:
            return await asyncio.gather(*(
                client.embeddings.create(model=f"tiny/{'abc'[i % 3]}", input=[TEXTS[i % 3]] * i)
                for i in range(1, 40)))

    for i, answer in enumerate(asyncio.run(ask()), 1):
        assert answer.model == f"tiny/{'abc'[i % 3]}" and len(answer.data) == i
