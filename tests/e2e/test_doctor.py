"""`vacate doctor` on a machine with GPUs (of files) and on one without."""
import pathlib
import subprocess

import harness

HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def doctor(*arguments, env=None):
    return subprocess.run([str(harness.build_dir() / "vacate"), "doctor", *arguments], env=env,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def parking_line(text):
    lines = [line for line in text.splitlines() if line.startswith("  parking")]
    assert len(lines) <= 1, text
    return lines[0] if lines else None


def test_huge_pages(gpus):
    """How they are set here, where a driver can park."""
    one = gpus()
    line = parking_line(doctor(env=one.environment()).stdout)
    if not HUGE_PAGES.exists():
        assert line is None
        return
    word = HUGE_PAGES.read_text().partition("[")[2].partition("]")[0]
    assert f"transparent huge pages are set to '{word}'" in line
    assert ("fastest" in line) == (word == "always")
    assert ("with 'always' processes are parked in two thirds" in line) == (word != "always")
    # a driver that cannot park
    one.set_driver(12020, "535.1")
    assert parking_line(doctor(env=one.environment()).stdout) is None


def test_no_gpu(gpus):
    done = doctor(env=gpus().environment(LD_LIBRARY_PATH=""))
    assert done.returncode == 0 and done.stdout.startswith("cpu: ready")
    if "there is no NVIDIA driver here" in done.stdout:
        assert parking_line(done.stdout) is None
