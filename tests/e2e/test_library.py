"""libvacate in a process that lives on: models come and go in it, and its
memory, seen from outside, does not grow."""
import json
import pathlib
import subprocess

import measure
import numpy as np
import pytest

from conftest import GOLDEN

pytestmark = pytest.mark.installed
HERE = pathlib.Path(__file__).resolve().parent
KIB, MIB = 1 << 10, 1 << 20
ROUNDS = 30
LARGEST_DIFFERENCE = 2e-6


@pytest.fixture(scope="session")
def cycles(installed, tmp_path_factory):
    return installed.compile(HERE / "library_cycles.c",
                             tmp_path_factory.mktemp("library") / "library_cycles")


def chosen_texts(count):
    """Short golden texts that can be a C string, and their vectors."""
    texts = json.loads((GOLDEN / "texts.json").read_text(encoding="utf-8"))
    truth = np.frombuffer(b"".join((GOLDEN / f"embeddings-{half}.f32").read_bytes()
                                   for half in range(2)), "<f4").reshape(len(texts), 384)
    rows = [i for i in range(0, len(texts), 9) if "\0" not in texts[i] and len(texts[i]) < 300][:count]
    return [texts[i] for i in rows], truth[rows]


def go_round(program, installed, backend, model, rounds, vectors, texts):
    """[(round's receipt, resident bytes, bytes that only this process has, open
    files)] as an onlooker sees them. Of private memory only what was written:
    clean pages of a library turn private when another process that maps it ends."""
    command = [str(word) for word in (program, backend, model, rounds, vectors)] + texts
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=installed.environment())
    seen = []
    try:
        for _ in range(rounds):
            line = process.stdout.readline()
            if not line:
                break
            seen.append(([int(word) for word in line.split()], measure.rss(process.pid),
                         measure.smaps_rollup(process.pid)["Private_Dirty"], len(measure.open_files(process.pid))))
            process.stdin.write("\n")
            process.stdin.flush()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (0, "")
    assert len(seen) == rounds
    return seen


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_memory_stays_level(cycles, installed, sample, zoo, tmp_path, backend):
    """The real model on oneDNN; a small one on the slow backend."""
    texts, truth = chosen_texts(8)
    model = sample[0] / sample[1]
    if backend == "reference":
        texts, truth = texts[:4], None
        model = zoo.path / "big" / "a"
    seen = go_round(cycles, installed, backend, model, ROUNDS, tmp_path / "vectors", texts)

    for planned, receipt_planned, ledger, measured, unaccounted, returned in (s[0] for s in seen):
        assert planned == receipt_planned == ledger > 20 * MIB
        assert measured == 1
        assert unaccounted <= 1 * MIB
        assert returned >= ledger - 1 * MIB
    for what, values in (("rss", [s[1] for s in seen]), ("private", [s[2] for s in seen])):
        level = values[2:]
        assert max(level) - level[0] <= 256 * KIB, f"{what}: {values}"
    files = [s[3] for s in seen]
    assert max(files[2:]) == files[2], files

    vectors = np.fromfile(tmp_path / "vectors", "<f4").reshape(ROUNDS, len(texts), -1)
    if truth is not None:
        assert np.abs(vectors.astype("f8") - truth).max() <= LARGEST_DIFFERENCE
    assert np.abs(vectors - vectors[0]).max() <= LARGEST_DIFFERENCE


def test_failed_loads_leave_nothing(cycles, installed, zoo, tmp_path):
    """A model that cannot be loaded: the reason, and exit status 1."""
    done = subprocess.run([str(cycles), "reference", str(tmp_path), "1", str(tmp_path / "out"),
                           "text"], env=installed.environment(), capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 1
    assert done.stdout == "0 0 0 0 0 0\n"
    assert str(tmp_path) in done.stderr and done.stderr.count("\n") == 1
