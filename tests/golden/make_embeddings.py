#!/usr/bin/env python3
"""make_embeddings.py - the true vectors, by sentence-transformers in float32.

    make_embeddings.py SAMPLE_MODEL_DIR

Reads texts.json beside it and writes
  embeddings-0.f32, embeddings-1.f32  the sample model's vectors, one row a
                                      text, little-endian float32, halves
  random-NAME.f32                     the same for a few texts and each model
                                      of random.json, which is written too:
                                      how experiments/make_models.py makes the
                                      model, the sums of its files, the texts
Texts are embedded one at a time, so that no padding takes part. Needs torch,
transformers and sentence-transformers; made with the versions that
random.json names. Nothing of Vacate takes part.
"""
import dataclasses
import hashlib
import json
import pathlib
import sys
import tempfile

import numpy as np
import sentence_transformers
import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "experiments"))
import make_models  # noqa: E402

ROWS_A_FILE = 250
ST = {"sentence_transformers": True}
# Each model stands for something that the sample model does not show.
RANDOM = {
    # no modules.json: mean pooling, no normalize; names as BertFor... classes save them
    "plain": make_models.preset("tiny", seed=1, prefix="bert."),
    "cls-f16-sharded": make_models.preset("tiny", seed=2, pooling="cls", dtype="F16", shards=3,
                                          normalize=True, **ST),
    "max-bf16-short": make_models.preset("tiny", seed=3, pooling="max", dtype="BF16",
                                         max_seq_length=17, **ST),
    "sqrt-dense": make_models.preset("tiny", seed=4, pooling="mean_sqrt_len", dense=20,
                                     normalize=True, **ST),
    "mean-dense-relu": make_models.preset("tiny", seed=5, dense=40, dense_activation="relu", **ST),
    # sizes that no vector width divides; one layer, cased
    "odd-cased": make_models.preset("tiny", seed=6, hidden=36, heads=3, intermediate=70, layers=1,
                                    vocab=1003, lower_case=False, **ST),
    "deep": make_models.preset("tiny", seed=7, hidden=128, heads=2, intermediate=512, layers=12,
                               positions=512, normalize=True, **ST),
}


def embed(directory, texts):
    model = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    assert next(model.parameters()).dtype == torch.float32
    rows = [model.encode(text, batch_size=1, show_progress_bar=False) for text in texts]
    return np.stack(rows).astype("<f4")


def sums(directory):
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def main():
    raw = (HERE / "texts.json").read_bytes()
    texts = json.loads(raw)
    assert len(texts) == 2 * ROWS_A_FILE and all(isinstance(text, str) for text in texts)
    torch.set_grad_enabled(False)
    rows = embed(sys.argv[1], texts)
    for half in range(2):
        part = rows[half * ROWS_A_FILE:(half + 1) * ROWS_A_FILE]
        (HERE / f"embeddings-{half}.f32").write_bytes(part.tobytes())

    models = {}
    for name, spec in RANDOM.items():
        # Every class of texts and some lengths; fewer where rows are wide.
        chosen = list(range(0, len(texts), 9 if spec.hidden < 100 else 25))
        with tempfile.TemporaryDirectory() as scratch:
            directory = pathlib.Path(make_models.make(scratch + "/model", spec))
            rows = embed(directory, [texts[i] for i in chosen])
            models[name] = {"spec": dataclasses.asdict(spec), "sums": sums(directory),
                            "texts": chosen, "dimensions": rows.shape[1]}
        (HERE / f"random-{name}.f32").write_bytes(rows.tobytes())
    (HERE / "random.json").write_text(json.dumps({
        "made_with": {m.__name__: m.__version__ for m in
                      (torch, transformers, tokenizers, sentence_transformers)},
        "texts_sha256": hashlib.sha256(raw).hexdigest(), "models": models}, indent=1) + "\n")


if __name__ == "__main__":
    main()
