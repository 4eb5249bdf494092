#!/usr/bin/env python3
"""bfloat16_costs.py - which roundings cost a BERT how much of its answers.

    tests/gpu/bfloat16_costs.py [DIRECTORY | bert-base | minilm]...

Without a GPU: BERT's forward pass in float32, rounded to bfloat16 (or float16) where the
kernels of engine/cuda round, or at some of these places only. Prints 1 - cosine of the mean
of the last layer, the worst and the median of the texts of tests/gpu/run correctness. Needs
torch, transformers, tokenizers and safetensors, and takes three minutes for BERT-base on one core.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import shared
from parts_basic import torch_vectors

# Where a GPU's answer is rounded: the weights, biases and norms, and tables of embeddings; the
# normalized rows as input of a product, and as what the next sum is taken of; that sum; q, k and
# v; the softmax; what attention gives; the perceptron's middle before and after GELU; and what
# is pooled, and the result.
WEIGHTS = "weights small tables".split()
RESIDUAL = "residual sum last result".split()
ATTENTION = "qk v softmax".split()
NOW = [*WEIGHTS, "input", *RESIDUAL, *ATTENTION, "context", "up", "gelu"]


def without(*places):
    return [p for p in NOW if p not in places]


ROWS = [
    ("all, as the kernels do", NOW),
    ("all, and products before the residual is added (torch)", [*NOW, "product"]),
    ("residual stream in float32", without(*RESIDUAL)),
    ("... but products rounded before it is added", [*without(*RESIDUAL), "product"]),
    ("..., the middle before GELU, q, k, v and softmax too", without(*RESIDUAL, "up", *ATTENTION)),
    ("residual stream, biases and norms in float32", without(*RESIDUAL, "small")),
    ("weights alone", WEIGHTS),
    ("weights and what products read alone", [*WEIGHTS, "input", *ATTENTION, "context", "gelu"]),
    *((f"only {place}", [place]) for place in NOW),
]


def product(a, b):
    """By numpy, since some builds of torch have no fast one."""
    return torch.from_numpy(a.numpy() @ b.numpy())


class Bert:
    def __init__(self, path):
        self.config = json.loads((path / "config.json").read_text())
        self.tensors = {k.removeprefix("bert."): v.float()
                        for k, v in load_file(path / "model.safetensors").items()}

    def rounded(self, name, places, dtype):
        value = self.tensors[name]
        place = "small" if value.dim() == 1 else \
            "tables" if name.startswith("embeddings.") else "weights"
        return value.to(dtype).float() if place in places else value

    def vectors(self, inputs, places, dtype=torch.bfloat16):
        """The mean of the last layer for each of inputs, lists of ids."""
        def at(place, x):
            return x.to(dtype).float() if place in places else x

        def tensor(name):
            return self.rounded(name, places, dtype)

        def norm(x, name):
            x = x - x.mean(1, keepdim=True)
            x = x * torch.rsqrt((x * x).mean(1, keepdim=True) + self.config["layer_norm_eps"])
            return x * tensor(name + ".weight") + tensor(name + ".bias")

        def linear(x, name):
            return product(x, tensor(name + ".weight").t()) + tensor(name + ".bias")

        starts = np.cumsum([0, *map(len, inputs)])
        ids = torch.tensor([i for one in inputs for i in one])
        positions = torch.tensor([i for one in inputs for i in range(len(one))])
        x = norm(tensor("embeddings.word_embeddings.weight")[ids] +
                 tensor("embeddings.token_type_embeddings.weight")[0] +
                 tensor("embeddings.position_embeddings.weight")[positions],
                 "embeddings.LayerNorm")
        for i in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{i}."
            rows = at("input", x)
            q, k, v = (at(place, linear(rows, f"{layer}attention.self.{n}"))
                       for place, n in (("qk", "query"), ("qk", "key"), ("v", "value")))
            context = at("context", self.attention(q, k, v, starts, at))
            y = at("product", linear(context, layer + "attention.output.dense"))
            x = norm(at("sum", at("residual", x) + y), layer + "attention.output.LayerNorm")
            middle = at("up", linear(at("input", x), layer + "intermediate.dense"))
            y = at("product", linear(at("gelu", torch.nn.functional.gelu(middle)),
                                     layer + "output.dense"))
            x = norm(at("sum", at("residual", x) + y), layer + "output.LayerNorm")
        x = at("last", x)
        return at("result", torch.stack([x[a:b].mean(0) for a, b in zip(starts, starts[1:])]))

    def attention(self, q, k, v, starts, at):
        heads = self.config["num_attention_heads"]
        size = q.shape[1] // heads
        out = torch.empty_like(q)
        for a, b in zip(starts, starts[1:]):
            query, key, value = (t[a:b].view(b - a, heads, size).transpose(0, 1)
                                 for t in (q, k, v))
            scores = product(query, key.transpose(1, 2)) / size ** 0.5
            # as the kernels do: not yet divided, and by the sum of what was rounded
            p = at("softmax", torch.exp(scores - scores.amax(2, keepdim=True)))
            out[a:b] = (product(p, value) / p.sum(2, keepdim=True)).transpose(0, 1).flatten(1)
        return out


def distances(a, b):
    a, b = a.double(), b.double()
    return (1 - (a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1)).sort().values


def measure(path):
    bert = Bert(path)
    inputs = shared.texts(64)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    sentence = path / "sentence_bert_config.json"
    tokenizer.no_padding()
    tokenizer.enable_truncation(json.loads(sentence.read_text())["max_seq_length"]
                                if sentence.exists() else 512)
    ids = [tokenizer.encode(x).ids for x in inputs]
    exact = bert.vectors(ids, [])
    far = distances(exact[::4], torch.from_numpy(torch_vectors(path, inputs[::4], False, "cpu",
                                                               torch.float32)))[-1]
    if far > 1e-9:
        sys.exit(f"{path}: with nothing rounded the answers are {far:.1e} from transformers'")
    # a checkpoint that is bfloat16 already has nothing to lose in its weights
    exact16 = bert.vectors(ids, WEIGHTS)
    lengths = sorted(map(len, ids))
    print(f"\n{path.name}, {len(ids)} texts of {lengths[0]} to {lengths[-1]} tokens\n"
          f"{'1 - cosine of':<58}{'a float32 checkpoint':>22}{'a bfloat16 one':>20}\n"
          f"{'':<58}{'worst':>12}{'median':>10}{'worst':>10}{'median':>10}")
    for what, places in ROWS:
        out = bert.vectors(ids, places)
        row = distances(out, exact)
        text = f"{what:<58}{row[-1]:>12.2e}{row.median():>10.2e}"
        if set(WEIGHTS) < set(places):
            row = distances(out, exact16)
            text += f"{row[-1]:>10.2e}{row.median():>10.2e}"
        print(text, flush=True)
    row = distances(bert.vectors(ids, NOW, torch.float16), exact)
    print(f"{'float16: all, as the kernels do':<58}{row[-1]:>12.2e}{row.median():>10.2e}")


def main():
    torch.set_grad_enabled(False)
    made = {"bert-base": shared.bert_base, "minilm": shared.minilm}
    for name in sys.argv[1:] or made:
        measure(made[name]() if name in made else pathlib.Path(name))


if __name__ == "__main__":
    main()
