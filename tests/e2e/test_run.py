"""`vacate run` when something goes wrong: what it took comes back all the same,
and the receipt says so."""
import json
import os
import pathlib
import signal
import subprocess

import conftest
import harness
import measure
import pytest

LINES = b"".join(b"line %d\n" % i for i in range(3000))


def run(zoo, *arguments, **keywords):
    command = [str(harness.find_vacate()), "run", "--models", str(zoo.path),
               *conftest.backend_options(), *arguments]
    keywords = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                "env": dict(os.environ, HF_HUB_CACHE="/nonexistent"), **keywords}
    return subprocess.Popen(command, **keywords)


def receipt_of(stderr):
    return json.loads([line for line in stderr.splitlines() if line.startswith(b'{"id":')][0])


@pytest.mark.parametrize("before", [0, 63, 64, 200])
def test_a_text_that_is_too_long(zoo, before):
    """Its error overtakes the answer of the task before, and crosses that of the next."""
    data = b"line\n" * before + b"word " * 2000 + b"\n" + LINES
    process = run(zoo, "--json", "--no-truncate", "tiny/a")
    out, err = process.communicate(data, timeout=60)
    assert process.returncode == 1
    assert b"tokens" in err.splitlines()[0], err
    assert out.count(b"\n") == before // 64 * 64    # all that was asked before it
    receipt = receipt_of(err)
    assert receipt["worker"]["exited"] and not measure.alive(receipt["worker"]["pid"])


def test_reader_that_leaves(zoo):
    read_fd, write_fd = os.pipe()
    process = run(zoo, "--json", "tiny/a", stdout=write_fd)
    os.close(write_fd)
    os.close(read_fd)
    _, err = process.communicate(LINES, timeout=60)
    assert process.returncode == 1
    assert err.count(b"Broken pipe") == 1, err
    assert receipt_of(err)["worker"]["exited"]


def test_full_disk(zoo):
    with pathlib.Path("/dev/full").open("wb") as full:
        process = run(zoo, "--json", "tiny/a", "text", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count(b"No space left on device") == 1 and b"Success" not in err, err
    assert receipt_of(err)["worker"]["exited"]


def test_first_signal_ends_in_order(zoo):
    process = run(zoo, "--json", "tiny/a")
    process.stdin.write(b"line\n")
    process.stdin.flush()
    assert process.stdout.readline().startswith(b'{"index":0')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT and out == b""
    assert receipt_of(err)["requests"] == 1


def test_second_signal_ends_at_once(zoo):
    """Whatever the worker is doing, or not doing."""
    process = run(zoo, "tiny/a")
    process.stdin.write(b"line\n")
    process.stdin.flush()
    process.stdout.readline()
    (worker,) = measure.children(process.pid)
    os.kill(worker, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    measure.wait_until(lambda: not caught(process.pid, signal.SIGINT), 5, "the first signal")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == -signal.SIGINT
    measure.wait_until(lambda: not measure.alive(worker), 5, "the worker's end")
    process.communicate()


def caught(pid, number):
    """The process has a handler for that signal."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
