"""tests/gpu on a machine with two GPUs: with VACATE_GPU=1 whatever is started and read is
of the second one, while others use the first; on GPUs that are files (fake_gpus.py)."""
import json
import os
import pathlib
import subprocess
import sys

import harness
import pytest
from fake_gpus import GIB, MIB, PATIENCE_S, UUIDS
from test_hold_dry import build, dry
from test_supervisor import Fake

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "gpu"
IN_SHARED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import shared
watch = shared.Watch()
print(json.dumps([[d["uuid"] for d in shared.devices()], shared.on_gpu(), watch.used(),
                  watch.pids(), str(shared.WORK)]))
watch.close()
"""


@pytest.fixture
def two(gpus):
    """The second one is smaller, and somebody is on each."""
    made = gpus((16 * GIB, 0), (8 * GIB, 100 * MIB))
    made.on_first = made.target({0: 15 * GIB})
    return made


def in_shared(gpus, **more):
    build("tests/gpu/gpu_probe")
    return subprocess.run([sys.executable, "-c", IN_SHARED, str(SCRIPTS)], capture_output=True,
                          text=True, timeout=PATIENCE_S,
                          env=gpus.environment(VACATE_BUILD=str(harness.build_dir()), TMPDIR="/tmp", **more))


def test_readings(two):
    target = two.target({1: GIB})
    for number, uuid, used, pid, work in (
            ("0", UUIDS[0], 15 * GIB, two.on_first.pid, "/tmp/vacate-gpu"),
            ("1", UUIDS[1], GIB + 100 * MIB, target.pid, "/tmp/vacate-gpu-1")):
        done = in_shared(two, VACATE_GPU=number)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [[uuid], [used, [pid]], used, [pid], work]
    uuids, (used, pids), *_ = json.loads(in_shared(two).stdout)
    assert (uuids, used, pids) == (UUIDS[:2], 15 * GIB, [two.on_first.pid])


def test_one_that_is_not_there(two):
    done = in_shared(two, VACATE_GPU="2")
    assert (done.returncode, done.stdout) == (77, "skipped: VACATE_GPU=2: GPUs here: 2\n")
    done = in_shared(two, VACATE_GPU="one")
    assert done.returncode == 1 and "not 'one'" in done.stderr


def test_hold(two):
    """Two of 0.6 GiB do not fit there, and nobody fits on the first one."""
    two.set_devices((16 * GIB, GIB), (1000 * MIB, 0))
    done = dry(two, "share", VACATE_GPU="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 turns" in done.stdout and "of 0.6 GiB on 1.0 GiB" in done.stdout


def test_see(two):
    done = subprocess.run([sys.executable, SCRIPTS / "see", "5"], capture_output=True, text=True,
                          timeout=400, env=two.environment(VACATE_BUILD=str(harness.build_dir()),
                                                           VACATE_GPU="1"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a process, context and 16 MiB        16 MiB" in done.stdout
    assert "unaccounted                         100 MiB" in done.stdout


def test_what_a_server_lists(two, tmp_path):
    environment = two.environment(CUDA_VISIBLE_DEVICES=UUIDS[1])
    server = Fake(tmp_path, "--device", "cuda:0", words="device-300", env={
        name: environment[name] for name in ("LD_LIBRARY_PATH", "FAKE_GPU_DIR", "VACATE_HOLD_DIR",
                                             "CUDA_VISIBLE_DEVICES")})
    try:
        (gpu,) = server.ok("GET", "/models/ps")["gpus"]
        assert (gpu["device"], gpu["uuid"], gpu["used_bytes"]) == ("cuda:0", UUIDS[1], 100 * MIB)
        assert server.stop() == 0
    finally:
        server.kill()
    environment = dict(os.environ, **environment)
    with pytest.raises(harness.StartError) as failed:
        Fake(tmp_path, "--device", "cuda:1", env=environment)
    assert "the driver shows 1 GPU (CUDA_VISIBLE_DEVICES is set)" in failed.value.stderr
