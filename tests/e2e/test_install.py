"""What `meson install` puts down works from where it lies, also when that is
not the prefix that it was built for."""
import json
import re
import subprocess

import harness
import measure
import numpy as np
import pytest

from conftest import GOLDEN, ROOT, check_end

pytestmark = pytest.mark.installed
TEXTS = ["The harbour is quiet.", "A lighthouse by the sea"]


def run(installed, *words, **keywords):
    return subprocess.run([str(word) for word in words], env=installed.environment(),
                          capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, **keywords)


def test_files(installed):
    expected = ["bin/vacate", "libexec/vacate/vacate-worker", "include/vacate.h",
                "share/man/man1/vacate.1", "share/man/man5/vacate.conf.5",
                "share/doc/vacate/examples/vacate.conf",
                "share/bash-completion/completions/vacate",
                "share/zsh/site-functions/_vacate"]
    expected += [f"share/man/man1/{page.name}" for page in (ROOT / "man").glob("vacate-*.1")]
    for name in expected:
        assert (installed.prefix / name).is_file(), name
    assert (installed.libdir / "libvacate.so.0").is_file()
    assert (installed.libdir / "vacate" / "libvacate-cpu.so").is_file()
    names = {path.name for path in installed.root.rglob("*") if path.is_file()}
    assert not [name for name in names if re.match(r"(test_|fuzz_)|.*\.a$", name)]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_run(installed, zoo, backend):
    done = run(installed, installed.vacate, "run", "--backend", backend, "--json",
               zoo.path / "tiny" / "a", *TEXTS)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(TEXTS)
    assert json.loads(done.stderr)["worker"]["exited"] is True


def test_serve(installed, zoo, tmp_path):
    """The worker is the installed one, not that of the build."""
    server = harness.Server(zoo.path, tmp_path / "log", program=installed.vacate,
                            env={"VACATE_WORKER": "", "VACATE_BACKEND_PATH": ""})
    try:
        assert len(server.embed("tiny/a", TEXTS)) == len(TEXTS)
        (worker,) = server.workers()
        with open(f"/proc/{worker}/maps", encoding="utf-8") as file:
            mapped = {line.split()[-1] for line in file if "vacate" in line}
        assert mapped and all(name.startswith(str(installed.root)) for name in mapped), mapped
        assert any(name.endswith("/vacate-worker") for name in mapped)
        assert any(name.endswith("/libvacate-cpu.so") for name in mapped)
        server.unload("tiny/a")
        assert not measure.alive(worker)
    finally:
        check_end(server)


def test_example(installed, sample, tmp_path):
    """examples/embed.c as its first comment says to build it."""
    models, name = sample
    program = installed.compile(ROOT / "examples" / "embed.c", tmp_path / "embed")
    texts = json.loads((GOLDEN / "texts.json").read_text(encoding="utf-8"))
    truth = np.frombuffer((GOLDEN / "embeddings-0.f32").read_bytes(), "<f4").reshape(-1, 384)
    row = next(i for i, text in enumerate(texts) if 10 < len(text) < 60 and text.isascii())
    done = run(installed, program, models / name, texts[row], "another one")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, receipt = done.stdout.splitlines()
    got = re.fullmatch(re.escape(texts[row]) +
                       r": 384 components, starting with (-?\d\.\d+) (-?\d\.\d+)", first)
    assert got, first
    assert abs(float(got[1]) - truth[row][0]) <= 3e-6    # %f rounds, too
    assert abs(float(got[2]) - truth[row][1]) <= 3e-6
    assert second.startswith("another one: 384 components")
    numbers = [int(number) for number in re.findall(r"-?\d+", receipt)]
    assert len(numbers) == 4 and numbers[0] == numbers[1] > 80 << 20
    assert numbers[3] <= 1 << 20


def test_example_refuses(installed, tmp_path):
    program = installed.compile(ROOT / "examples" / "embed.c", tmp_path / "embed")
    done = run(installed, program)
    assert done.returncode == 2 and done.stderr.startswith("usage:")
    done = run(installed, program, tmp_path / "nothing", "text")
    assert done.returncode == 1 and done.stdout == ""
    assert str(tmp_path / "nothing") in done.stderr


def test_library_exports_its_interface_and_nothing_else(installed):
    done = run(installed, "nm", "-D", "--defined-only", installed.libdir / "libvacate.so.0",
               check=True)
    symbols = [line.split()[-1].partition("@")[0] for line in done.stdout.splitlines()
               if line.split()[-2] != "A"]
    header = (installed.prefix / "include" / "vacate.h").read_text(encoding="utf-8")
    declared = re.findall(r"^VACATE_API [^;]*?\b(vacate_\w+)\(", header, re.M | re.S)
    assert len(declared) >= 9
    assert sorted(symbols) == sorted(declared)
    assert all(name.startswith("vacate_") for name in symbols)
