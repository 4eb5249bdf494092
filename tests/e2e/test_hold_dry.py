"""A dry run of tests/gpu/hold: its parts, on GPUs that are files and processes that
compute nothing. What it prints are no figures of anything."""
import fcntl
import os
import pathlib
import subprocess
import sys

import harness
import pytest
from fake_gpus import GIB, MIB

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FAKE_TARGET = pathlib.Path(__file__).resolve().parent / "fake_target.py"


def build(target):
    """On demand, as scripts/carry.sh does; one at a time, which ninja does not see to."""
    folder = harness.build_dir()
    with open(folder / "on-demand.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(["ninja", "-C", str(folder), target], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot be built here: {done.stdout[-300:]}")


def dry(gpus, *parts, **more):
    environment = gpus.environment(
        VACATE_BUILD=str(harness.build_dir()), VACATE_GPU_TARGET=str(FAKE_TARGET),
        VACATE_GPU_CYCLES="3", VACATE_GPU_SHARE_GIB="0.6", **more)
    return subprocess.run([sys.executable, str(ROOT / "tests/gpu/hold"), *parts],
                          env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=400)


def test_without_a_gpu(gpus):
    one = gpus()
    done = dry(one, "cycles", LD_LIBRARY_PATH="")
    if done.returncode != 77:
        pytest.skip("there is a GPU here")
    assert done.stdout.startswith("skipped: no NVML here")
    one.set_devices()
    done = dry(one, "cycles")
    assert done.returncode == 77 and done.stdout == "skipped: no GPU here\n"


@pytest.mark.measured
def test_cycles(gpus):
    done = dry(gpus((8 * GIB, 100 * MIB)), "cycles")
    # the files' driver is quick, and our own cost on a busy machine is not what is tested
    failed = [line for line in done.stdout.splitlines()
              if line.startswith("FAILED") and "cost is" not in line]
    assert not failed and "3 cycles" in done.stdout, done.stdout + done.stderr


def test_cost(gpus):
    done = dry(gpus((8 * GIB, 100 * MIB)), "cost")
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in ("cuInit,", "readings", "records", "the driver's calls", "gpud's end"):
        assert done.stdout.count(f"\n  {stage} ") == 2, done.stdout
    for choice in ("before", "early", "late", "never"):    # and by libvacate, if it can be loaded
        assert done.stdout.count(f"\n  {choice} ") in (1, 2), done.stdout
    assert "\n  bare driver " in done.stdout and "\n  nvmlInit_v2 " in done.stdout


def test_share(gpus):
    done = dry(gpus((1000 * MIB, 0)), "share")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 turns" in done.stdout


def test_share20(gpus, tmp_path):
    """Huge pages for its run, and what there was before in the end."""
    huge = tmp_path / "enabled"
    huge.write_text("always [madvise] never\n")
    done = dry(gpus((1000 * MIB, 0)), "share20", VACATE_GPU_HUGE_PAGES=str(huge))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 turns" in done.stdout and "always for this run, madvise before" in done.stdout
    assert huge.read_text() == "madvise"    # a file keeps what the kernel would read
    done = dry(gpus((1000 * MIB, 0)), "share20", VACATE_GPU_HUGE_PAGES="/proc/none",
               VACATE_GPU_PART_S="-90")
    assert done.returncode == 1 and "stay as they are" in done.stdout, done.stdout
    assert "time is up after 0 of 20 turns" in done.stdout


@pytest.mark.parametrize("pairs", ["1", "2"])
def test_two(gpus, pairs):
    """A driver that wants one GPU named, and one that wants both."""
    done = dry(gpus((8 * GIB, 100 * MIB), (8 * GIB, 50 * MIB)), "two", FAKE_GPU_PAIRS=pairs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("to the other") == done.stdout.count("and back") == 2
    assert done.stdout.count("on each of two GPUs") == 3


def test_two_that_refuse(gpus):
    """A driver that moves nothing: in words, and the process is back."""
    done = dry(gpus((8 * GIB, 100 * MIB), (8 * GIB, 50 * MIB)), "two", FAKE_GPU_PAIRS="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("... resumed where it was") == 2
    assert done.stdout.count("cannot be moved") == 2


def test_one_is_not_two(gpus):
    done = dry(gpus((8 * GIB, 0)), "two")
    assert done.returncode == 77 and "one GPU here" in done.stdout


def test_faults(gpus):
    build("tests/gpu/libpause_cuda.so")
    done = dry(gpus((7 * GIB, 0)), "faults")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed in") == 12 and done.stdout.count("Ctrl-C in") == 4


def test_kinds(gpus):
    done = dry(gpus((7 * GIB, 0)), "kinds")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("equal, parked 2 times") == 5


def test_a_line_that_is_none(gpus):
    """It fails that kind, in words, and no other."""
    done = dry(gpus((7 * GIB, 0)), "kinds", FAKE_TARGET_GARBLED="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "threads" in done.stdout and "said 'at at 95' where 'done' was due" in done.stdout
    assert "Traceback" not in done.stderr
    assert done.stdout.count("equal, parked 2 times") == 4


def test_a_kernel(gpus):
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    done = dry(gpus((7 * GIB, 0)), "kinds",
               VACATE_GPU_KERNEL=str(pathlib.Path(__file__).resolve().parent / "fake_kernel.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n  ipykernel                                      equal, " in done.stdout


def test_a_kind_that_is_done_too_soon(gpus):
    """Parked after its work it proves nothing, and that is said."""
    done = dry(gpus((7 * GIB, 0)), "kinds", FAKE_TARGET_QUICK="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("it was done before it was parked") >= 5
