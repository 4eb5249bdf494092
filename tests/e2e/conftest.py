"""conftest.py - models to serve, servers to ask, and what must hold when a
test is over: the server ended with 0, no process is left, no sanitizer spoke.

VACATE_BUILD          build directory whose programs are tested (build/)
VACATE_SAMPLE         directory of the sample model, in .../org/name; tests of
                      the real model are skipped without it
VACATE_TEST_BACKEND   backend for all servers: cpu or reference
"""
import dataclasses
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
for directory in (ROOT / "scripts", ROOT / "experiments", HERE):
    sys.path.insert(0, str(directory))

from fake_gpus import FakeGpus  # noqa: E402
import harness  # noqa: E402
import make_models  # noqa: E402
import measure  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
SANITIZER_WORDS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:",
                   "WARNING: ThreadSanitizer", "SUMMARY: UndefinedBehaviorSanitizer")


def pytest_configure(config):
    # Stand-ins begin with `env python3`: this one, and not what a manager of Pythons has
    # put in front of it, which takes 80 ms of each of some thousand starts.
    os.environ["PATH"] = os.pathsep.join([str(pathlib.Path(sys.executable).parent),
                                          os.environ.get("PATH", os.defpath)])
    # A shell starts what it does not wait for with SIGINT ignored, and programs that
    # find it ignored leave it so: tests that interrupt them would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "soak: takes minutes; ./test.sh soak")
    config.addinivalue_line("markers", "measured: compares memory or time; not under a sanitizer")
    config.addinivalue_line("markers", "installed: of what is installed; not under a sanitizer,"
                                       " which programs that use the library have not")
    config.addinivalue_line("markers", "threads: exercises what ThreadSanitizer should see")


@dataclasses.dataclass
class Zoo:
    """Directory of generated models. Names are as the server knows them."""
    path: pathlib.Path
    random: dict    # of tests/golden/random.json: name -> spec, sums, texts, dimensions


@pytest.fixture
def gpus():
    """gpus((total, used), ...) -> FakeGpus, with a driver of files; tidied up at the end."""
    made = []

    def make(*devices):
        made.append(FakeGpus(*devices))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """tiny/a, tiny/b, tiny/c (same sizes, other weights), big/a (worth
    measuring, 23 MB) and random/NAME for each model of the goldens."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:    # one zoo for all of them
        base = base.parent
    path, made = base / "zoo", base / "zoo-made"
    golden = {}
    if (GOLDEN / "random.json").is_file():
        golden = json.loads((GOLDEN / "random.json").read_text(encoding="utf-8"))["models"]
    with open(base / "zoo-lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make_zoo(path, golden)
            made.touch()
    return Zoo(path, golden)


def make_zoo(path, golden):
    for seed, name in enumerate("abc", 100):
        make_models.make(path / "tiny" / name, make_models.preset(
            "tiny", seed=seed, sentence_transformers=True, normalize=True))
    make_models.make(path / "big" / "a", make_models.preset(
        "minilm-l6", seed=200, layers=3, vocab=1000, sentence_transformers=True, normalize=True))
    for name, about in golden.items():
        make_models.make(path / "random" / name, make_models.Spec(**about["spec"]))


@pytest.fixture(scope="session")
def sample():
    """(models directory, name) of the real all-MiniLM-L6-v2."""
    place = os.environ.get("VACATE_SAMPLE")
    if not place:
        pytest.skip("VACATE_SAMPLE is not set")
    place = pathlib.Path(place)
    assert (place / "model.safetensors").is_file(), f"{place}: the sample model is not there"
    return place.parent.parent, f"{place.parent.name}/{place.name}"


@dataclasses.dataclass
class Installation:
    """What `meson install` put under a directory of its own, away from the
    prefix that it was built for."""
    root: pathlib.Path
    prefix: pathlib.Path
    libdir: pathlib.Path

    @property
    def vacate(self):
        return self.prefix / "bin" / "vacate"

    def environment(self):
        """Without what would lead programs and compilers elsewhere."""
        env = {key: value for key, value in os.environ.items()
               if not key.startswith(("VACATE_", "PKG_CONFIG", "HF_"))}
        env.update(PKG_CONFIG_SYSROOT_DIR=str(self.root), HF_HUB_CACHE="/nonexistent",
                   PKG_CONFIG_PATH=str(self.libdir / "pkgconfig"),
                   LD_LIBRARY_PATH=str(self.libdir))
        return env

    def compile(self, source, program):
        """Builds a program of one file with what pkg-config says of the library."""
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "vacate"], check=True,
                               env=self.environment(), capture_output=True, text=True).stdout
        subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", str(source),
                        "-o", str(program), *flags.split()], check=True)
        return program


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("installed")
    subprocess.run(["meson", "install", "-C", str(harness.build_dir()), "--no-rebuild",
                    "--destdir", str(root)], check=True, stdout=subprocess.DEVNULL)
    (package,) = root.rglob("vacate.pc")
    libdir = package.parent.parent
    variables = dict(line.split("=", 1) for line in package.read_text().splitlines()
                     if "=" in line)
    return Installation(root, root / variables["prefix"].lstrip("/"), libdir)


def backend_options():
    backend = os.environ.get("VACATE_TEST_BACKEND")
    return ["--backend", backend] if backend else []


def check_end(server, expected_status=0):
    """Stops a server and checks that nothing is left of it."""
    workers = server.workers()
    try:
        status = server.stop()
    finally:
        server.kill()
    log = server.stderr()
    assert status == expected_status, f"the server ended with {status}:\n{log[-4000:]}"
    left = [pid for pid in workers if measure.alive(pid)]
    assert not left, f"workers {left} outlived their server"
    for word in SANITIZER_WORDS:
        assert word not in log, log[max(0, log.index(word) - 200):][:6000]


@pytest.fixture
def start(zoo, tmp_path):
    """start(*options, models=None, ...) -> Server; checked at the end."""
    servers = []

    def begin(*options, models=None, **keywords):
        log = tmp_path / f"server-{len(servers)}.log"
        servers.append(harness.Server(models or zoo.path, log, *backend_options(), *options,
                                      **keywords))
        return servers[-1]

    yield begin
    for server in servers:
        if server.process.poll() is None:
            check_end(server)
        else:
            server.kill()


@pytest.fixture
def server(start):
    """A server of the test's own on the zoo."""
    return start()


@pytest.fixture(scope="module")
def shared(zoo, tmp_path_factory):
    """One server on the zoo for the tests of a file that leave it as it was."""
    it = harness.Server(zoo.path, tmp_path_factory.mktemp("shared") / "log", *backend_options())
    yield it
    check_end(it)
