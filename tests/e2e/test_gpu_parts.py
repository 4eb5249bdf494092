"""A dry run of the parts of tests/gpu/run that park: on GPUs that are files, with processes
that compute nothing and fake_worker.py. What they print are no figures of anything."""
import subprocess
import sys

import harness
import pytest
from fake_gpus import GIB, MIB
from test_gpu_streams import SCRIPTS
from test_hold_dry import FAKE_TARGET, build
from test_supervisor import FAKE


def part(gpus, tmp_path, name, **more):
    """On the second of two GPUs; somebody is on the first, and idle on both."""
    build("tests/gpu/gpu_probe")
    model = tmp_path / "vacate-gpu-1" / "bert-base"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"\0" * 8192)
    (model / "complete").touch()
    worker = tmp_path / "worker"
    worker.write_text(f"#!/bin/sh\nFAKE_WORKER=device-300 exec {FAKE} \"$@\"\n")
    worker.chmod(0o755)
    others = [gpus.target({0: GIB}), gpus.target({1: 100 * MIB})]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "run", name], capture_output=True, text=True, timeout=400,
        env=gpus.environment(VACATE_BUILD=str(harness.build_dir()), VACATE_GPU="1",
                             VACATE_GPU_TARGET=str(FAKE_TARGET), VACATE_WORKER=str(worker),
                             TMPDIR=str(tmp_path), **more))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [gpus.state(one.pid) for one in others] == ["running"] * 2
    return done.stdout


@pytest.fixture
def two(gpus):
    return gpus((8 * GIB, 0), (8 * GIB, 100 * MIB))


def test_hold_guard(two, tmp_path):
    text = part(two, tmp_path, "hold-guard", VACATE_GPU_IDLE_S="2")
    assert "journal: parked Gidle, resumed Gidle, parked Gidle\n" in text
    assert "parked 2.0 GiB by guard\n" in text and "2 samples, the oldest" in text


def test_hold_server(two, tmp_path):
    text = part(two, tmp_path, "hold-server")
    assert text.count(" by serve\n") == 2 and text.count(" was resumed\n") == 2


def test_top(two, tmp_path):
    text = part(two, tmp_path, "top")
    for word in ("park", "resume", "load", "unload"):
        assert f"\ntop: {word} " in text
