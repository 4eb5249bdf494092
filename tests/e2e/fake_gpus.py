"""fake_gpus.py - GPUs that are files, seen by real programs through the libcuda.so.1
and libnvidia-ml.so.1 of tests/e2e/fake_driver (state.h there says what the files mean)."""
import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import harness
import measure
import pytest
from measure import PATIENCE_S

GIB, MIB = 1 << 30, 1 << 20
UUIDS = [f"GPU-{i:08}-0000-0000-0000-{i:012}" for i in range(20)]


def library_dir():
    return harness.build_dir() / "tests" / "e2e" / "fake_driver"


class FakeGpus:
    """A folder of its own; devices: (total, used by nobody who is listed) in bytes."""

    def __init__(self, *devices):
        if not (library_dir() / "libcuda.so.1").is_file():
            pytest.skip("the driver of tests was not built")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fake-gpus-"))
        for folder in (self.folder, self.folder / "processes", self.folder / "on",
                       self.folder / "samples", self.folder / "hold"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        (self.folder / "hold").chmod(0o700)
        self.write("log", "")
        (self.folder / "log").chmod(0o666)
        self.write("lock", "")
        (self.folder / "lock").chmod(0o666)
        self.set_devices(*(devices or [(8 * GIB, 0)]))
        self.targets = []

    def write(self, name, text):
        fresh = self.folder / (name + ".fresh")
        fresh.write_text(text)
        os.rename(fresh, self.folder / name)

    @contextlib.contextmanager
    def locked(self):
        with open(self.folder / "lock", "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def set_devices(self, *devices):
        with self.locked() if (self.folder / "lock").exists() else contextlib.nullcontext():
            self.write("devices", "".join(f"{uuid} {total} {used} Fake GPU\n" for uuid, (total, used)
                                          in zip(UUIDS, devices)))

    def set_driver(self, cuda, version, mig=0):
        self.write("driver", f"{cuda} {version} {mig}\n")

    def environment(self, **more):
        paths = [str(library_dir()), os.environ.get("LD_LIBRARY_PATH", "")]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, paths)),
                "FAKE_GPU_DIR": str(self.folder), "VACATE_HOLD_DIR": str(self.folder / "hold"),
                "VACATE_CONFIG": "none", **more}

    # ---- processes ----

    def put(self, pid, sizes, state="running", busy=0, broken=0):
        """Process pid has so many bytes on each device."""
        if isinstance(sizes, int):
            sizes = {0: sizes}
        pairs = "".join(f" {device} {size}" for device, size in sizes.items())
        with self.locked():
            self.write(f"processes/{pid}", f"{state} {busy} {broken}{pairs}\n")

    def remove(self, pid):
        with self.locked():
            (self.folder / "processes" / str(pid)).unlink()

    def words(self, pid):
        with self.locked():
            return (self.folder / "processes" / str(pid)).read_text().split()

    def state(self, pid):
        return self.words(pid)[0]

    def broken(self, pid):
        return self.words(pid)[2] == "1"

    def target(self, sizes=500 * MIB, command=("sleep", "3600"), **keywords):
        """A process that sleeps, and holds that much."""
        process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, **keywords)
        self.targets.append(process)
        if sizes is not None:
            self.put(process.pid, sizes)
        return process

    # ---- what happens inside of calls ----

    def on(self, symbol, *steps):
        self.write(f"on/{symbol}", "".join(step + "\n" for step in steps))

    def touch(self, name):
        (self.folder / name).touch()

    def wait(self, name):
        eventually(lambda: (self.folder / name).exists())

    def calls(self):
        """(caller, symbol, pid) of each call so far."""
        lines = (self.folder / "log").read_text().splitlines()
        return [(int(a), b, int(c)) for a, b, c in map(str.split, lines)]

    def called(self, symbol):
        return sum(call[1] == symbol for call in self.calls())

    def close(self):
        for process in self.targets:
            if process.poll() is None:
                process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def eventually(what, timeout_s=PATIENCE_S):
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def children(pid):
    return [child for child in measure.children(pid) if measure.alive(child)]
