"""`vacate top` in a terminal (terminal.py), on GPUs that are files (fake_gpus.py)."""
import contextlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import harness
import measure
import pytest
from fake_gpus import GIB, MIB, PATIENCE_S, children, eventually
from terminal import Terminal

SANITIZERS = (b"AddressSanitizer", b"LeakSanitizer", b"runtime error:", b"ThreadSanitizer")
NOBODY = "http://127.0.0.1:1"
BLOCKS = "▁▂▃▄▅▆▇█"


@pytest.fixture
def top(tmp_path):
    """top(environment, *options, size, term) -> Terminal; its standard error is a file
    unless errors is "shown"."""
    made = []
    errors = tmp_path / "errors"

    def start(environment, *options, server=NOBODY, interval="100ms", **keywords):
        environment = {key: value for key, value in environment.items() if key not in
                       ("NO_COLOR", "VACATE_SERVER")} | keywords.pop("more", {})
        if keywords.pop("errors", "kept") == "kept":
            keywords["stderr"] = errors.open("ab")
        made.append(Terminal([harness.find_vacate(), "top", "-d", interval, "--server", server,
                              *options], environment, **keywords))
        return made[-1]

    yield start
    for one in made:
        one.close()
        for said in (one.raw, errors.read_bytes() if errors.exists() else b""):
            for word in SANITIZERS:
                assert word not in said, bytes(said).decode(errors="replace")


def sample(gpus, pid, *samples):
    """(seconds ago, per cent)"""
    now = time.time()
    gpus.write(f"samples/{pid}", "".join(f"{int((now - ago) * 1e6)} {use}\n"
                                         for ago, use in samples))


def scripted(gpus, tmp_path, sizes, name="train.py"):
    script = tmp_path / name
    script.write_text("import time\ntime.sleep(3600)\n")
    return gpus.target(sizes, command=(sys.executable, "-u", str(script)))


def shown(screen):
    """The numbers of processes, from above."""
    return [int(found[1]) for found in
            (re.match(r" *(\d+) .*(running|parked|locked|failed|unlisted)", line)
             for line in screen.lines()) if found]


def bare():
    """This machine, without the driver of tests."""
    return {key: value for key, value in os.environ.items() if key != "FAKE_GPU_DIR"}


def quit_with(screen, key="q"):
    screen.keys(key)
    assert screen.end() == 0
    assert screen.restored()


# ---- what is shown -----------------------------------------------------------

def test_what_is_shown(gpus, top, tmp_path):
    gpus = gpus((80 * GIB, 600 * MIB), (40 * GIB, 0))
    busy = scripted(gpus, tmp_path, {0: 5 * GIB, 1: 2 * GIB})
    idle = gpus.target(3 * GIB)
    sample(gpus, busy.pid, (6, 0), (1, 37))
    sample(gpus, idle.pid, (300, 50), (5, 0))
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    screen = top(gpus.environment())

    def check():
        lines = screen.lines()
        assert lines[0].startswith("vacate top  by VRAM  every 100 ms  RAM ")
        assert lines[1] == f"no vacate server answers at {NOBODY}"
        assert lines[2].split() == ["GPU", "NAME", "TOTAL", "USED", "FREE", "UNACCOUNTED", "USE",
                                    "VRAM", "USE"]
        words = lines[3].split()
        assert words[:11] == ["gpu:0", "Fake", "GPU", "80.0", "GiB", "8.6", "GiB", "71.4", "GiB",
                              "600", "MiB"]
        assert lines[5].split() == ["PID", "USER", "NAME", "VRAM", "RAM", "GPU", "IDLE", "STATE",
                                    "VRAM", "GPU"]
        words = lines[6].split()
        assert words[:5] == [str(busy.pid), user[:8], "train.py", "7.0", "GiB"]
        assert words[7:10] == ["37%", "busy", "running"]
        words = lines[7].split()
        assert words[:5] == [str(idle.pid), user[:8], "sleep", "3.0", "GiB"] and words[7] == "0%"
        assert words[8] == "5m"
        assert "?help q:quit" in lines[-1]

    screen.until(check)
    screen.wait(lambda: screen.chosen() == screen.lines()[6])
    quit_with(screen)
    # What NVML does for it, it does in a process that lives as long; no driver is started.
    assert gpus.called("nvmlInit_v2") == 1
    assert not [symbol for _, symbol, _ in gpus.calls() if symbol.startswith("cu")]


def test_columns_of_a_wide_terminal(gpus, top):
    gpus = gpus((80 * GIB, 0), (40 * GIB, 0))
    target = gpus.target({0: 5 * GIB, 1: 2 * GIB})
    screen = top(gpus.environment(), size=(30, 200))
    screen.wait(rf"{target.pid} .* gpu:0,1 .*running")
    screen.wait(lambda: "driver 580.159" in screen.lines()[0])


def test_the_terminal_knows_its_size_best(gpus, top):
    screen = top(gpus().environment(), size=(12, 60), more={"LINES": "50", "COLUMNS": "200"})
    screen.wait(lambda: screen.lines()[11].startswith("?help"))


@pytest.mark.parametrize("size", [(8, 40), (10, 60), (24, 80), (60, 300)])
def test_sizes(gpus, top, size):
    gpus = gpus((80 * GIB, 600 * MIB), (40 * GIB, 0))
    target = gpus.target(GIB)
    screen = top(gpus.environment(), size=size)
    screen.wait(rf"{target.pid} .*1\.0 GiB.* running")
    assert len(screen.lines()) == size[0] and str(target.pid) in screen.chosen()


def test_resized(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    screen.resize(7, 80)
    screen.wait(r"^too small \(80x7\): 40x8 are needed")
    screen.resize(24, 39)
    screen.wait(r"^too small \(39x24\): 40x8 are needed")
    screen.resize(30, 120)
    screen.wait(rf"{target.pid} .*gpu:0 .*running")
    screen.wait(lambda: screen.lines()[29].startswith("?help"))
    quit_with(screen)


def test_more_than_there_is_room_for(gpus, top):
    gpus = gpus((80 * GIB, 0))
    targets = [gpus.target((i + 1) * MIB) for i in range(40)]
    by_size = [target.pid for target in reversed(targets)]
    screen = top(gpus.environment())

    def room():
        """Lines between the header of the table and the history of who is chosen."""
        lines = screen.lines()
        (header,) = [y for y, line in enumerate(lines) if line.split()[:2] == ["PID", "USER"]]
        (history,) = [y for y, line in enumerate(lines)
                      if line.split()[:2] == [str(by_size[0]), "VRAM"]]
        assert 10 < history - header - 1 < 40
        assert shown(screen) == by_size[:history - header - 1]
        return history - header - 1

    fit = screen.until(room)
    screen.keys("\033OF")    # End
    screen.wait(lambda: shown(screen) == by_size[-fit:])
    screen.wait(lambda: str(by_size[-1]) in screen.chosen())
    screen.keys("k" * fit)
    screen.wait(lambda: shown(screen) == by_size[-fit - 1:-1])
    screen.keys("\033OH")
    screen.wait(lambda: shown(screen) == by_size[:fit])


# ---- order and history -------------------------------------------------------

def test_order(gpus, top, tmp_path):
    gpus = gpus((80 * GIB, 0))
    small = scripted(gpus, tmp_path, GIB, "zebra.py")         # Python has more RAM than sleep
    large = gpus.target(3 * GIB)
    middle = gpus.target(2 * GIB, command=("cat", "/dev/zero"), stdout=subprocess.PIPE)
    sample(gpus, small.pid, (300, 50), (5, 0))
    sample(gpus, large.pid, (60, 50), (5, 0))
    sample(gpus, middle.pid, (5, 0), (1, 20))
    a, b, c = small.pid, large.pid, middle.pid
    screen = top(gpus.environment())
    for keys, name, order in (("", "VRAM", [b, c, a]), ("v", "VRAM (reversed)", [a, c, b]),
                              ("v", "VRAM", [b, c, a]), ("i", "IDLE", [a, b, c]),
                              ("i", "IDLE (reversed)", [c, b, a]), ("n", "NAME", [c, b, a]),
                              ("n", "NAME (reversed)", [a, b, c]), ("g", "GPU", [c, *sorted([a, b])]),
                              ("m", "RAM", None)):
        screen.keys(keys)
        screen.wait(rf"^vacate top  by {re.escape(name)}  every")
        if order:
            screen.wait(lambda: shown(screen) == order)
        else:
            screen.wait(lambda: shown(screen)[:1] == [a])
    # What is chosen stays chosen when it moves.
    screen.keys("v")
    screen.wait(lambda: shown(screen) == [b, c, a])
    screen.keys("\033OB")    # down
    chosen = screen.wait(lambda: str(c) in screen.chosen() and c)
    screen.keys("n")
    screen.wait(lambda: shown(screen) == [c, b, a])
    screen.wait(lambda: str(chosen) in screen.chosen())


def test_history(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(40 * GIB)
    sample(gpus, target.pid, (1, 100))
    screen = top(gpus.environment(), size=(24, 160), interval="500ms")

    def curves(pattern):
        return re.findall(f"[{BLOCKS}]+", screen.row(pattern) or "")

    def newest(pattern):
        return [curve[-1] for curve in curves(pattern)]

    # Half of the GPU; all of what the process had; it uses the GPU all the time.
    screen.wait(lambda: newest("^gpu:0") == ["▅", "▁"])
    screen.wait(lambda: newest(f"{target.pid} .*running") == ["█", "█"])
    gpus.put(target.pid, 10 * GIB)
    sample(gpus, target.pid, (1, 0))
    screen.wait(lambda: newest("^gpu:0") == ["▂", "▁"])
    # What was is still to be seen.
    screen.wait(rf"^{target.pid} VRAM +█[{BLOCKS}]*▃$")
    screen.wait(rf"^{target.pid} GPU +█[{BLOCKS}]*▁$")


def test_idle_is_watched(gpus, top):
    """NVML's samples reach back seconds; who watches longer knows more."""
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(GIB)
    sample(gpus, target.pid, (2, 0))
    screen = top(gpus.environment())
    screen.wait(rf"{target.pid} .* >\d+\.\d s running")
    deadline = time.monotonic() + PATIENCE_S
    while not screen.row(r">([5-9]|\d\d|\d+m).* running"):
        sample(gpus, target.pid, (2, 0))      # NVML: never more than two seconds
        assert time.monotonic() < deadline, screen.text()
        time.sleep(0.1)
    sample(gpus, target.pid, (0, 30))
    screen.wait(rf"{target.pid} .* busy +running")
    sample(gpus, target.pid, (2, 0))
    screen.wait(rf"{target.pid} .* \d\S* (ms|s) running")     # since it was seen: known


# ---- actions -----------------------------------------------------------------

def test_park_and_resume(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(5 * GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    screen.keys("p")
    screen.wait(rf"^park {target.pid} \(sleep, 5\.0 GiB\)\? To come back(.|\n)*\[y/n\]")
    screen.keys("n")
    screen.wait(r"^\?help")
    screen.wait(lambda: "park" not in screen.lines()[-2])
    assert gpus.state(target.pid) == "running"
    assert not [symbol for _, symbol, _ in gpus.calls() if symbol.startswith("cu")]
    screen.keys("py")
    screen.wait(rf"^park {target.pid}: done in ")
    screen.wait(rf"{target.pid} .* 0 B .* parked")
    assert gpus.state(target.pid) == "parked"
    screen.keys("r")
    screen.wait(rf"^resume {target.pid} \(sleep\)\? \[y/n\]$")
    screen.keys("y")
    screen.wait(rf"^resume {target.pid}: done in ")
    screen.wait(rf"{target.pid} .*5\.0 GiB.* running")
    assert gpus.state(target.pid) == "running"
    quit_with(screen)


def test_what_is_refused_is_said(gpus, top):
    gpus = gpus((8 * GIB, 0))
    target = gpus.target(5 * GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    screen.keys("py")
    screen.wait("parked")
    other = gpus.target(6 * GIB)
    screen.wait(str(other.pid))
    screen.keys("ry")
    screen.wait(lambda: re.search(rf"resume {target.pid}: process {target.pid} needs .* process "
                                  rf"{other.pid} \(sleep\) holds 6\.0 GiB",
                                  " ".join(screen.lines())))
    assert gpus.state(target.pid) == "parked"


def test_the_screen_goes_on_while_it_parks(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(5 * GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    gpus.on("cuCheckpointProcessCheckpoint", "touch here", "wait go")
    screen.keys("py")
    gpus.wait("here")
    other = gpus.target(GIB)
    screen.wait(f"{other.pid} .*running")
    screen.keys("p")
    screen.wait(rf"^park {target.pid} is not done yet")
    screen.keys("q")
    screen.wait(rf"^park {target.pid} is not done yet, and goes on without this view\. Quit\?")
    screen.keys("n")
    screen.wait(r"^\?help")
    assert screen.process.poll() is None
    # Quit after all: what was begun is brought to its end.
    screen.keys("qy")
    assert screen.end() == 0 and screen.restored()
    gpus.touch("go")
    eventually(lambda: gpus.state(target.pid) == "parked")


def test_interrupted_while_it_parks(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(5 * GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    gpus.on("cuCheckpointProcessCheckpoint", "touch here", "wait go")
    screen.keys("py")
    gpus.wait("here")
    screen.keys("\x03")
    assert screen.end() == -signal.SIGINT and screen.restored()
    gpus.touch("go")
    eventually(lambda: gpus.state(target.pid) == "parked")


def test_who_has_ended_is_not_parked(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(5 * GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    screen.keys("p")
    screen.wait(r"\[y/n\]")
    target.kill()
    target.wait()
    screen.wait("^no process is on a GPU")
    screen.keys("y")
    screen.wait(f"^process {target.pid} has ended")
    screen.keys("p")
    screen.wait("^no process is chosen")


def test_details_and_help(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(5 * GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    screen.keys("d")
    screen.wait(rf"^Process +{target.pid}, sleep$")
    screen.wait(r"^VRAM +5\.0 GiB on gpu:0")
    first = screen.lines()[3]
    screen.keys("j")
    screen.wait(lambda: screen.lines()[3] != first)
    screen.keys("k")
    screen.wait(lambda: screen.lines()[3] == first)
    screen.keys("x")
    screen.wait("running +█")
    screen.keys("?")
    screen.wait(r"^  p   park: the process, or the model with its worker, leaves its GPU")
    screen.keys("    ")
    screen.wait(r"^  VRAM of a model is its plan")
    screen.keys("q")
    screen.wait("running +█")
    assert screen.process.poll() is None


# ---- with a server -----------------------------------------------------------

@pytest.mark.threads
def test_models(gpus, top, start):
    gpus = gpus((80 * GIB, 0))
    server = start()
    screen = top(gpus.environment(), server=server.url)
    screen.wait(f"^{server.url}: 0 models, server ")
    screen.wait("^no model is loaded")
    screen.keys("ltiny/x\x7fa\r")
    screen.wait(r"^load tiny/a\? \[y/n\]")
    screen.keys("y")
    screen.wait(r"^load tiny/a: done in ")
    screen.wait(r"^tiny/a +resident +cpu ")
    (worker,) = server.workers()
    gpus.put(worker, GIB)
    screen.wait(rf"{worker} .* tiny/a .*running")
    screen.wait(f"^{server.url}: 1 model, 1 worker of ")
    server.load("big/a")
    screen.wait(r"^big/a +resident")
    screen.keys("m")                 # the larger first
    screen.wait(r"^big/a .*\n(.*\n)*tiny/a ")
    screen.keys("\033OH\033OB")     # Home, down: from the first to the second
    screen.wait(lambda: screen.chosen().startswith("tiny/a"))
    screen.keys("u")
    screen.wait(r"^unload tiny/a\? \[y/n\]")
    screen.keys("y")
    screen.wait(r"^unload tiny/a: done in ")
    screen.wait(lambda: not screen.row("^tiny/a"))
    assert [model["name"] for model in server.ok("GET", "/models/ps")["models"]] == ["big/a"]
    screen.keys("lnothing/here\ry")
    screen.wait(r"^load nothing/here: .*nothing/here")
    screen.keys("l")
    screen.wait(r"^model to load")
    screen.keys("\033")
    screen.wait(r"^\?help")
    quit_with(screen)


@pytest.mark.threads
def test_a_server_that_hangs(gpus, top, start):
    gpus = gpus((80 * GIB, 0))
    server = start()
    server.load("tiny/a")
    screen = top(gpus.environment(), "--timeout", "300ms", server=server.url)
    screen.wait(r"^tiny/a +resident")
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        screen.wait(f"^the server at {server.url} does not answer for ")
        screen.wait(r"^tiny/a +resident")           # what was known is still there
        target = gpus.target(2 * GIB)
        screen.wait(f"{target.pid} .*running")      # and the rest goes on
        screen.keys("?")
        screen.wait("^What is shown|^Keys")
        screen.keys("x")
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    screen.wait(f"^{server.url}: 1 model")
    quit_with(screen)


def test_a_server_that_never_answers(gpus, top):
    """Nobody takes the connection: quitting does not wait for it."""
    import socket
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        gpus = gpus((80 * GIB, 0))
        target = gpus.target(GIB)
        screen = top(gpus.environment(), "--timeout", "1h", server=url)
        screen.wait(f"{target.pid} .*running")
        screen.wait(f"^asking the server at {url}")
        quit_with(screen)


@contextlib.contextmanager
def scripted_server(models, address="127.0.0.1", **settings):
    """Answers /models/ps; counts what comes."""
    counts = {"connections": 0, "requests": 0}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = settings.get("protocol", "HTTP/1.1")

        def setup(self):
            counts["connections"] += 1
            super().setup()

        def do_GET(self):
            counts["requests"] += 1
            body = json.dumps({"models": models, "workers": [], "server": None}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{address}:{server.server_address[1]}", counts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_one_connection_is_kept(gpus, top):
    with scripted_server([{"name": "a/b", "state": "resident"}]) as (url, counts):
        screen = top(gpus().environment(), server=url)
        screen.wait("^a/b +resident")
        eventually(lambda: counts["requests"] >= 5)
        assert counts["connections"] == 1
        quit_with(screen)


def test_a_server_that_closes_connections(gpus, top):
    with scripted_server([{"name": "a/b", "state": "resident"}], protocol="HTTP/1.0") as (url, counts):
        screen = top(gpus().environment(), server=url)
        screen.wait("^a/b +resident")
        eventually(lambda: counts["requests"] >= 5)
        # each brings one request, a moment after it was made
        eventually(lambda: counts["connections"] == counts["requests"])
        screen.wait("^a/b +resident")
        quit_with(screen)


def test_of_another_machine_the_models_only(gpus, top):
    """An address that is not the loopback's may be anybody's."""
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
    addresses = [word for word in found.stdout.split() if "." in word]
    if not addresses:
        pytest.skip("this machine has the loopback only")
    gpus = gpus((80 * GIB, 0))
    gpus.target(GIB)
    with scripted_server([{"name": "a/b", "state": "resident", "worker_pid": 1}],
                         addresses[0]) as (url, counts):
        screen = top(gpus.environment(), server=url)
        screen.wait("^a/b +resident")
        eventually(lambda: counts["requests"] >= 3)
        assert "running" not in screen.text() and "GPU" not in screen.text()
        assert screen.chosen().startswith("a/b")
        screen.keys("d")
        screen.wait("no process is chosen")
        quit_with(screen)
    assert gpus.calls() == []


# ---- what is missing, and what dies ------------------------------------------

def test_no_gpu(top, start):
    import ctypes.util
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("NVML is here")
    server = start()
    server.load("tiny/a")
    screen = top(bare(), server=server.url)
    screen.wait(r"^no GPU: NVML \(libnvidia-ml\.so\.1\) is not here$")
    screen.wait(r"^tiny/a +resident +cpu +\d+(\.\d)? [KM]iB")
    screen.keys("p")
    screen.wait(r"^park tiny/a, and what else its worker \d+ has\?")
    screen.keys("y")
    screen.wait("^park tiny/a: model tiny/a is on cpu and holds no VRAM")
    quit_with(screen)


def test_gpud_dies(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    (gpud,) = children(screen.process.pid)
    os.kill(gpud, signal.SIGKILL)
    # Another one is started with the next refresh.
    eventually(lambda: [pid for pid in children(screen.process.pid) if pid != gpud])
    screen.wait(f"{target.pid} .*running")
    eventually(lambda: gpus.called("nvmlInit_v2") == 2)
    quit_with(screen)


def test_a_gpud_that_always_dies(gpus, top, tmp_path):
    program = tmp_path / "gpud"
    program.write_text("#!/bin/sh\necho 'something of gpud' >&2\nexit 7\n")
    program.chmod(0o755)
    screen = top(gpus().environment(), more={"VACATE_GPUD": str(program)}, errors="shown")
    screen.wait(r"^no GPU: .*exited with status 7$")
    # title, server, this, keys
    screen.wait(lambda: len([line for line in screen.lines() if line]) == 4)
    assert b"something of gpud" not in screen.raw
    quit_with(screen)
    # It did not write into the screen, and is not lost.
    after = bytes(screen.raw).rpartition(b"\033[?1049l")[2]
    assert b"something of gpud" in after


@pytest.mark.threads
def test_nvml_hangs(gpus, top):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    gpus.on("nvmlDeviceGetComputeRunningProcesses_v3", "always", "wait go")
    screen.wait(r"no answer of NVML for ")
    screen.keys("?")
    screen.wait("^Keys")
    screen.keys("x")
    gpus.write("on/nvmlDeviceGetComputeRunningProcesses_v3", "")
    gpus.touch("go")
    screen.wait(lambda: "no answer" not in screen.lines()[0])
    screen.wait(f"{target.pid} .*running")
    quit_with(screen)


@pytest.mark.parametrize("how", ["q", signal.SIGTERM])
def test_left_while_nvml_hangs(gpus, top, how):
    gpus = gpus((80 * GIB, 0))
    gpus.target(GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    (gpud,) = children(screen.process.pid)
    gpus.on("nvmlDeviceGetComputeRunningProcesses_v3", "always", "wait never")
    screen.wait(r"no answer of NVML for ")
    if how == "q":
        quit_with(screen)
    else:
        screen.signal(how)
        assert screen.end() == -how and screen.restored()
    eventually(lambda: not measure.alive(gpud))


# ---- the terminal ------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_restore_the_terminal(gpus, top, number):
    gpus = gpus((80 * GIB, 0))
    gpus.target(GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    assert not screen.restored()
    screen.signal(number)
    assert screen.end() == -number
    assert screen.restored()
    assert b"\033[?1049l" in screen.raw and b"\033[?25h" in screen.raw.rpartition(b"\033[?25l")[2]
    assert children(screen.process.pid) == []


def test_the_terminal_goes_away(gpus, top):
    gpus = gpus((80 * GIB, 0))
    gpus.target(GIB)
    screen = top(gpus.environment())
    screen.wait("running")
    (gpud,) = children(screen.process.pid)
    os.close(screen.theirs)
    os.close(screen.ours)
    screen.ours = os.open("/dev/null", os.O_RDWR)
    screen.theirs = os.open("/dev/null", os.O_RDWR)
    assert screen.process.wait(PATIENCE_S) == -signal.SIGHUP
    eventually(lambda: not measure.alive(gpud))


def test_stopped_and_continued(gpus):
    """As people do it: Ctrl-Z, something else, fg; in a shell."""
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(GIB)
    screen = Terminal(["bash", "--norc", "--noediting", "-i"],
                      {**gpus.environment(), "PS1": "prompt> "})
    def settings():
        return re.findall(rb"is:([0-9a-f:]{20,})\r", bytes(screen.raw))

    try:
        screen.wait("^prompt>")
        screen.keys("stty -g | sed s/^/is:/\n")
        screen.wait(lambda: len(settings()) == 1)
        screen.keys(f"{harness.find_vacate()} top -d 100ms --server {NOBODY}\n")
        screen.wait(f"{target.pid} .*running")
        screen.keys("\x1a")
        screen.wait("Stopped")
        screen.keys("stty -g | sed s/^/is:/\n")
        screen.wait(lambda: len(settings()) == 2)
        screen.keys("fg\n")
        screen.wait(f"{target.pid} .*running")
        screen.wait(r"^\?help q:quit")
        screen.keys("?")
        screen.wait("^Keys")
        screen.keys("xq")
        screen.wait(r"^(.*\n)*.*prompt>\s*$")
        screen.keys("echo it was $?; stty -g | sed s/^/is:/\n")
        screen.wait("^it was 0$")
        screen.wait(lambda: len(settings()) == 3)
        assert len(set(settings())) == 1
        screen.keys("exit\n")
        screen.end()
    finally:
        screen.close()


def attributes_of(screen):
    return set(re.findall(rb"\033\[(?:\d+;)*(3[0-79]|4[0-79]|38|48)(?:;\d+)*m", bytes(screen.raw)))


@pytest.mark.parametrize("term", ["xterm", "xterm-256color", "screen", "tmux-256color", "linux",
                                  "vt100"])
def test_terminals(gpus, top, term):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(GIB)
    if subprocess.run(["infocmp", term], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"terminfo does not know {term}")
    screen = top(gpus.environment(), term=term)
    screen.wait(rf"{target.pid} .*1\.0 GiB.*running +[#█]")
    screen.chosen()        # all that has a colour was drawn
    assert bool(attributes_of(screen)) == (term != "vt100")
    if term in ("linux", "vt100"):
        assert all(byte < 0x80 for byte in screen.raw)
    screen.keys("\033[B")
    quit_with(screen)


def test_no_color(gpus, top):
    gpus = gpus((80 * GIB, 0))
    gpus.target(GIB)
    screen = top(gpus.environment(), more={"NO_COLOR": "1"})
    screen.wait("running")
    assert not attributes_of(screen) and screen.chosen()
    quit_with(screen)


def test_a_locale_without_blocks(gpus, top):
    gpus = gpus((80 * GIB, 0))
    gpus.target(GIB)
    screen = top(gpus.environment(), more={"LC_ALL": "C"})
    screen.wait("running +#")
    quit_with(screen)
    assert all(byte < 0x80 for byte in screen.raw)


@pytest.mark.parametrize("term", ["dumb", "", "no-such-terminal"])
def test_terminals_that_will_not_do(gpus, top, term):
    screen = top(gpus().environment(), term=term, errors="shown")
    assert screen.end() == 2
    text = screen.text().replace("\n", "").replace(" ", "")
    assert text.startswith("vacatetop:") and text.endswith("`vacateps`showsthesameonce")
    assert screen.restored() and b"\033" not in screen.raw


def test_no_terminal(gpus):
    gpus = gpus()
    for stdin in (subprocess.DEVNULL, subprocess.PIPE):
        done = subprocess.run([harness.find_vacate(), "top"], env=gpus.environment(), stdin=stdin,
                              capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "vacate top: needs a terminal; `vacate ps` shows the same once\n"
    assert gpus.calls() == []


@pytest.mark.parametrize("options, said", [
    (("-d", "soon"), "--interval takes a duration from 100ms to 1h, not 'soon'"),
    (("-d", "10ms"), "--interval takes a duration from 100ms to 1h, not '10ms'"),
    (("--interval", "2h"), "--interval takes a duration from 100ms to 1h, not '2h'"),
    (("--interval",), "option --interval needs a value"),
    (("--timeout", "x"), "--timeout takes a duration"),
    (("42",), "unexpected argument 42"),
])
def test_wrong_usage(options, said):
    done = subprocess.run([harness.find_vacate(), "top", *options], capture_output=True, text=True,
                          check=False, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


# ---- hostile text ------------------------------------------------------------

EVIL = "\033]0;owned\007\033[2J\x9b31m\x0eü\u202etxt\r\b"


def test_names_of_processes_do_not_steer_the_terminal(gpus, top, tmp_path):
    gpus = gpus((80 * GIB, 0))
    target = gpus.target(GIB, command=("bash", "-c", 'exec -a "$0" sleep 3600', EVIL))
    screen = top(gpus.environment())
    # bash, which it is at first, has a name without strange characters
    row = screen.wait(lambda: screen.row(rf"{target.pid} .*\?.*running"))
    screen.keys("p")
    screen.wait(r"\[y/n\]")
    screen.keys("n")
    screen.keys("d")
    screen.wait("^Allocator")
    screen.keys("x")
    quit_with(screen)
    assert "?" in row
    for piece in (b"\033]0;owned", b"\007", b"\x9b31m", b"\xc2\x9b", "ü".encode(), b"\x0e",
                  "\u202e".encode()):
        assert piece not in screen.raw, piece


def test_names_of_models_do_not_steer_the_terminal(gpus, top):
    model = {"name": EVIL, "state": EVIL, "device": EVIL, "worker_pid": 1 << 40,
             "plan": {"host_bytes": -5, "device_bytes": 1.5e300}, "requests": "x", "idle_ms": -1}
    with scripted_server([model, None, 5, {"name": None}]) as (url, _):
        screen = top(gpus().environment(), server=url)
        screen.wait(r"1 model$")
        screen.wait(r"^\?\]0;own")
        screen.keys("\033OHu")
        screen.wait(r"^unload \?\]0;owned(.|\n)*\[y/n\]")
        screen.keys("n")
        quit_with(screen)
    for piece in (b"\033]0;owned", b"\007", b"\xc2\x9b", "ü".encode(), b"\x0e", "\u202e".encode()):
        assert piece not in screen.raw, piece
