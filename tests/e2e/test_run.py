"""`vacate run`: a worker of one's own. Whatever ends it, it says why, leaves
its receipt when there is a worker to measure, and no process."""
import json
import os
import pty
import select
import signal
import subprocess
import time

import harness
import measure
import pytest

from conftest import backend_options
from test_hold import caught

OK, FAILED, USAGE, UNREACHABLE, NOT_FOUND = range(5)
TEXTS = ["The harbour is quiet.", "A lighthouse by the sea", "memory comes back"]
LONG = "sea harbour light " * 40


@pytest.fixture
def begin(zoo):
    """begin(*words) -> Popen of `vacate run` on the zoo; nothing of it is left."""
    running = []

    def start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        command = [str(harness.find_vacate()), "run", "--models", str(zoo.path),
                   *backend_options(), *map(str, words)]
        env = {k: v for k, v in os.environ.items() if not k.startswith("VACATE_")}
        env["HF_HUB_CACHE"] = "/nonexistent"
        running.append(subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr,
                                        text=True, bufsize=1, env=env))
        return running[-1]

    yield start
    for process in running:
        left = process.poll() is None
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream and not stream.closed:
                stream.close()
        assert not left, "vacate run did not end"


@pytest.fixture
def run(begin):
    """run(*words, lines=None) -> (exit status, vectors, standard error)."""
    def whole(*words, lines=None):
        process = begin(*words, stdin=subprocess.DEVNULL if lines is None else subprocess.PIPE)
        out, err = process.communicate(lines, timeout=measure.patience(60))
        return process.returncode, vectors_of(out), err

    return whole


def vectors_of(out):
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["index"] for answer in answers] == list(range(len(answers)))
    assert all(set(answer) == {"index", "embedding"} for answer in answers)
    return [answer["embedding"] for answer in answers]


def near(a, b, allowed=2e-6):
    return len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b)) <= allowed


def receipt_of(err):
    """Standard error of --json that is a receipt and nothing else."""
    (line,) = err.splitlines()
    return json.loads(line)


def sentence(err):
    """The complaint, which comes first."""
    line = err.splitlines()[0]
    assert line.startswith("vacate run: ") and len(line) > 30, err
    return line


def worker_of(process):
    return measure.wait_until(
        lambda: [pid for pid in measure.children(process.pid) if measure.alive(pid)],
        "a worker")[0]


def read_line(process, timeout_s=60):
    """A line of standard output that has to come without further input."""
    assert select.select([process.stdout], [], [], measure.patience(timeout_s))[0], "no answer"
    return process.stdout.readline()


# ---- what it answers ----

def test_arguments(run, zoo, start):
    status, vectors, err = run("tiny/a", *TEXTS)
    assert status == OK and len(vectors) == 3
    for got, expected in zip(vectors, start().embed("tiny/a", TEXTS)):
        assert near(got, expected)
    assert err.startswith("Receipt 1: tiny/a on cpu\n") and "unaccounted" in err
    assert max(map(len, err.splitlines())) <= 80
    status, by_path, _ = run(zoo.path / "tiny" / "a", *TEXTS)
    assert status == OK and by_path == vectors


def test_receipt_as_json(run):
    status, _, err = run("big/a", "--json", *TEXTS)
    receipt = receipt_of(err)
    assert status == OK
    assert receipt["model"] == "big/a" and receipt["reason"] == "shutdown"
    assert receipt["planned_bytes"] == receipt["ledger_bytes"] > 20 << 20
    assert receipt["unaccounted_bytes"] <= 1 << 20
    assert receipt["worker"]["exited"] is True and not measure.alive(receipt["worker"]["pid"])
    assert receipt["worker"]["before"]["uss_bytes"] >= receipt["planned_bytes"]


def test_lines(run):
    """Of standard input: with CRLF, empty ones, the last without its end."""
    _, expected, _ = run("tiny/a", "one", "", "two words", "last")
    status, vectors, _ = run("tiny/a", lines="one\r\n\ntwo words\nlast")
    assert status == OK and len(vectors) == 4
    assert all(near(a, b) for a, b in zip(vectors, expected))


def test_many_lines_keep_their_order(run):
    lines = [f"line {i} " + "sea " * (i * 7 % 50) for i in range(700)]
    status, vectors, err = run("tiny/a", "--json", lines="\n".join(lines) + "\n")
    assert status == OK and len(vectors) == len(lines)
    assert receipt_of(err)["requests"] >= 700 // 64
    chosen = [0, 63, 64, 127, 128, 350, 699]
    _, expected, _ = run("tiny/a", *[lines[i] for i in chosen])
    assert all(near(vectors[i], b) for i, b in zip(chosen, expected))


def test_an_answer_comes_before_the_next_line_is_there(begin):
    process = begin("tiny/a", "--json")
    for number, text in enumerate(TEXTS):
        process.stdin.write(text + "\n")
        assert json.loads(read_line(process))["index"] == number
    out, err = process.communicate(timeout=measure.patience(60))
    assert (process.returncode, out) == (OK, "")
    assert receipt_of(err)["requests"] == 3


def test_empty_input(run):
    status, vectors, err = run("tiny/a", "--json", lines="")
    assert status == OK and vectors == []
    assert receipt_of(err)["requests"] == 0


def test_dimensions(run):
    _, whole, _ = run("tiny/a", *TEXTS)
    status, cut, _ = run("tiny/a", "--dimensions", "8", *TEXTS)
    assert status == OK
    for long, short in zip(whole, cut):
        length = sum(x * x for x in long[:8]) ** 0.5
        assert near(short, [x / length for x in long[:8]])


def test_text_like_an_option(run):
    status, vectors, _ = run("tiny/a", "--", "--json")
    assert status == OK and len(vectors) == 1


def test_progress_on_a_terminal(begin):
    """After half a second, and only there; it is gone when the receipt comes."""
    ours, theirs = pty.openpty()
    process = begin("tiny/a", stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    end = time.monotonic() + measure.patience(60)
    shown = b""
    try:
        while True:
            # It is given lines for as long as there is nothing to be seen.
            if not process.stdin.closed and b"embedding: " in shown:
                process.stdin.close()
            elif not process.stdin.closed:
                assert time.monotonic() < end, shown
                process.stdin.write((LONG + "\n") * 20)
            if process.stdin.closed or select.select([ours], [], [], 0.01)[0]:
                chunk = os.read(ours, 65536)
                shown += chunk
                if not chunk:
                    break
    except OSError:    # the terminal's way to say that nobody writes any more
        pass
    os.close(ours)
    assert process.wait(measure.patience(60)) == OK
    text = shown.decode()
    before, receipt = text.split("Receipt 1: tiny/a on cpu")
    assert "\r\033[Kembedding: " in before and before.count("\n") == 0
    assert before.rpartition("\r\033[K")[2].removeprefix("\033[1m") == ""
    assert "embedding" not in receipt


# ---- what it refuses ----

@pytest.mark.parametrize("words, status, says", [
    (["tiny/none", "x"], NOT_FOUND, '"tiny/none"'),
    (["/nonexistent/model", "x"], NOT_FOUND, '"/nonexistent/model"'),
    (["tiny/../tiny/a", "x"], FAILED, '".."'),
    (["tiny/a", "--dimensions", "33", "x"], FAILED, "33"),
    (["tiny/a", "--dimensions", "0", "x"], USAGE, "--dimensions"),
    (["tiny/a", "--dimensions", "8x", "x"], USAGE, "8x"),
    (["tiny/a", "--threads", "-1", "x"], USAGE, "--threads"),
    (["tiny/a", "--threads"], USAGE, "--threads"),
    (["tiny/a", "--bogus", "x"], USAGE, "--bogus"),
    ([], USAGE, "MODEL"),
])
def test_refusals(run, words, status, says):
    got, vectors, err = run(*words)
    assert (got, vectors) == (status, [])
    assert says in sentence(err)


def test_too_long_a_text(run):
    status, vectors, _ = run("tiny/a", LONG * 5)
    assert status == OK and len(vectors) == 1
    status, vectors, err = run("tiny/a", "--no-truncate", "short", LONG * 5)
    assert status == FAILED
    assert "input 1 has" in sentence(err) and "tokens" in sentence(err)
    assert "Receipt 1" in err


# The first texts of tasks: 4 texts, then twice as many each time, up to 64.
TASK_STARTS = [0, 4, 12, 28, 60, 124, 188, 252]


@pytest.mark.parametrize("before", [0, 3, 59, 60, 200])
def test_too_long_a_line(run, before):
    """Its error overtakes the answer of the task before, and crosses that of the next."""
    started = max(start for start in TASK_STARTS if start <= before)
    lines = ["line"] * before + ["word " * 2000] + [f"line {i}" for i in range(3000)]
    status, vectors, err = run("tiny/a", "--json", "--no-truncate", lines="\n".join(lines))
    assert status == FAILED
    assert len(vectors) == started    # all that was asked before it
    assert f"input {before - started} has" in sentence(err)
    receipt = receipt_of(err.splitlines()[1])
    assert receipt["worker"]["exited"] and not measure.alive(receipt["worker"]["pid"])


def test_broken_text_after_many(begin):
    """It is refused while the ones before it are computed: they are answered."""
    process = begin("tiny/a", stdin=subprocess.PIPE)
    process.stdin.buffer.write(b"a line\n" * 100 + b"bro\xffken\n" + b"a line\n" * 10)
    out, err = process.communicate(timeout=measure.patience(60))
    assert process.returncode == FAILED
    answered = len(vectors_of(out))
    assert answered <= 100
    line = sentence(err)
    assert "0xFF at position 3" in line and "Receipt 1" in err
    counted = int(line.split("after the first ")[1].split()[0]) if answered else 0
    number = int(line.split("input ")[1].split(":")[0])
    assert counted == answered and counted + number == 100


def test_broken_checkpoint(run, zoo, tmp_path):
    import checkpoints
    bad = checkpoints.copy(zoo.path / "tiny" / "a", tmp_path / "bad")
    os.truncate(bad / "model.safetensors", 1000)
    status, vectors, err = run(bad, "x")
    assert (status, vectors) == (FAILED, [])
    assert "model.safetensors" in sentence(err) and "Receipt" not in err


# ---- how it ends ----

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_waits_for_a_line(begin, number):
    process = begin("tiny/a", "--json")
    process.stdin.write("one\n")
    read_line(process)
    worker = worker_of(process)
    process.send_signal(number)
    assert process.wait(measure.patience(60)) == 128 + number
    assert receipt_of(process.stderr.read())["requests"] == 1
    assert not measure.alive(worker)


def test_interrupted_at_work(begin, tmp_path):
    """What was computed is printed, what was not is given up."""
    (tmp_path / "lines").write_text((LONG + "\n") * 2000)
    with open(tmp_path / "lines", encoding="ascii") as lines:
        process = begin("big/a", "--json", stdin=lines)
    read_line(process)
    worker = worker_of(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=measure.patience(60))
    assert process.returncode == 130
    assert len(out.splitlines()) < 2000
    assert receipt_of(err)["worker"]["pid"] == worker
    assert not measure.alive(worker)


def test_second_signal_ends_at_once(begin):
    """Whatever the worker is doing, or not doing."""
    process = begin("tiny/a")
    process.stdin.write("line\n")
    read_line(process)
    worker = worker_of(process)
    os.kill(worker, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    measure.wait_until(lambda: not caught(process.pid, signal.SIGINT), "the first signal")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(measure.patience(60)) == -signal.SIGINT
    measure.wait_until(lambda: not measure.alive(worker), "the worker's end")


@pytest.mark.parametrize("busy", [False, True])
def test_worker_is_killed(begin, busy):
    process = begin("big/a")
    process.stdin.write("one\n")
    read_line(process)
    worker = worker_of(process)
    if busy:
        process.stdin.write((LONG + "\n") * 64)
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate("two\n", timeout=60)
    assert process.returncode == UNREACHABLE
    assert f"worker (pid {worker}) was killed by signal 9" in sentence(err)
    assert "Receipt" not in err    # there was nothing left to measure
    assert not measure.alive(worker)


def test_killed_takes_its_worker_along(begin):
    process = begin("tiny/a")
    process.stdin.write("one\n")
    read_line(process)
    worker = worker_of(process)
    process.kill()
    process.wait()
    measure.wait_until(lambda: not measure.alive(worker), "the worker's end")


def test_reader_that_leaves(begin):
    """vacate run ... | head -1"""
    process = begin("tiny/a", "--json")
    process.stdin.write("one\n")
    read_line(process)
    worker = worker_of(process)
    process.stdout.close()
    try:
        process.stdin.write("line\n" * 1000)
        process.stdin.close()
    except BrokenPipeError:
        pass
    process.stdin = None
    assert process.wait(measure.patience(60)) == FAILED
    first, receipt = process.stderr.read().splitlines()
    assert first == "vacate run: standard output: Broken pipe"
    assert json.loads(receipt)["worker"]["exited"] is True
    assert not measure.alive(worker)


def test_full_disk(begin):
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = begin("tiny/a", "--json", stdout=full)
        _, err = process.communicate("line\n" * 1000, timeout=60)
    assert process.returncode == FAILED
    first, receipt = err.splitlines()
    assert first == "vacate run: standard output: No space left on device"
    assert json.loads(receipt)["planned_bytes"] > 0
