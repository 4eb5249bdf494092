"""The generated models: the goldens stand for these bytes and no others."""
import hashlib

import make_models
import pytest


def sums(directory):
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def test_generation_is_what_the_goldens_were_made_from(zoo):
    assert zoo.random, "tests/golden/random.json names no models"
    for name, about in zoo.random.items():
        assert sums(zoo.path / "random" / name) == about["sums"], name


def test_seeds_differ_and_repeat(tmp_path):
    spec = make_models.preset("tiny", seed=5)
    files = []
    for name, change in (("first", spec), ("again", spec),
                         ("other", make_models.preset("tiny", seed=6))):
        make_models.make(tmp_path / name, change)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_a_model_that_is_there_is_not_overwritten(tmp_path):
    make_models.make(tmp_path / "model", make_models.preset("tiny"))
    with pytest.raises(FileExistsError):
        make_models.make(tmp_path / "model", make_models.preset("tiny"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]
