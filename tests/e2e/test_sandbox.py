"""The sandbox of workers, attacked from within.

The backend tests/e2e/hostile/hostile.c is loaded into workers in place of the real
one; the first token id of a request says what it tries, and the first component of
the answer is what came of it.
"""
import errno
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import harness
import make_models
import measure
import pytest
from conftest import check_end

HERE = pathlib.Path(__file__).resolve().parent
HOSTILE = harness.build_dir() / "tests" / "e2e" / "hostile"
WORD = "correct-horse-battery-staple"
OTHER_CALLS = "landlock_create_ruleset", "seccomp"

def sanitized():
    program = (harness.build_dir() / "vacate-worker").read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


pytestmark = [pytest.mark.skipif(not (HOSTILE / "libvacate-cpu.so").is_file(),
                                 reason="the hostile backend is not built"),
              pytest.mark.skipif(sanitized(), reason="a sanitizer needs what the sandbox takes")]


def status(pid, field):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return re.search(rf"^{field}:\s*(\S+)", text, re.M).group(1)


class Attack:
    """A server whose workers' backend is the hostile one, and its targets."""

    def __init__(self, start, place, *options, lacking=(), **keywords):
        self.place = place
        self.models = place / "models"
        make_models.make(self.models / "m", make_models.preset("tiny", seed=7))
        self.secret = place / "home" / ".ssh" / "id_ed25519"
        self.secret.parent.mkdir(parents=True)
        self.secret.write_text("secret")
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(place / "socket"))
        self.unix.listen()
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0vacate-{os.getpid()}-{place.name}")
        self.abstract.listen()
        env = {"VACATE_BACKEND_PATH": str(HOSTILE), "HOSTILE_FILE": str(self.secret),
               "HOSTILE_DIR": str(self.secret.parent), "HOSTILE_SOCKET": str(place / "socket"),
               "HOSTILE_ABSTRACT": self.abstract.getsockname()[1:].decode(),
               "HOSTILE_PORT": str(self.tcp.getsockname()[1]), "HOSTILE_WORD": WORD,
               "HOSTILE_LIST": str(place / "list")}
        if lacking:
            wrapper = place / "worker"
            wrapper.write_text(f"#!/bin/sh\nexec {sys.executable} {HERE / 'outer_filter.py'} "
                               f"{','.join(lacking)} {harness.build_dir() / 'vacate-worker'} "
                               '"$@"\n')
            wrapper.chmod(0o755)
            env["VACATE_WORKER"] = str(wrapper)
        self.server = start("--backend", "cpu", "--threads", "2", *options, models=self.models,
                            env=env, **keywords)

    def ask(self, attempt):
        # The first load of the module writes the list.
        names = (self.place / "list").read_text().split() \
            if (self.place / "list").exists() else ["nothing"]
        return self.server.post("/v1/embeddings",
                                {"model": "m", "input": [names.index(attempt), 10, 11]})

    def tries(self, attempt):
        """What came of it."""
        reply = self.ask(attempt)
        assert reply.status == 200, f"{attempt}: {reply}"
        return reply.json["data"][0]["embedding"][0]

    def dies(self, attempt):
        """Why the worker ended over it; the model can be had again afterwards."""
        reply = self.ask(attempt)
        assert reply.status == 503, f"{attempt}: {reply}"
        self.server.ok("POST", "/models/load", {"model": "m"})
        return reply.json["error"]["message"]

    def worker(self):
        (worker,) = self.server.ok("GET", "/models/ps")["workers"]
        return worker


@pytest.fixture
def attack(start, tmp_path):
    def begin(*options, **keywords):
        return Attack(start, tmp_path, *options, **keywords)
    return begin


@pytest.fixture(scope="module")
def attacked(zoo, tmp_path_factory):
    """One under attack by all: the sandbox that this kernel gives."""
    place = tmp_path_factory.mktemp("attacked")

    def begin(*options, models, env):
        return harness.Server(models, place / "log", *options, env=env)

    it = Attack(begin, place)
    assert it.tries("nothing") == 7
    sandbox = it.worker()["sandbox"]
    if not sandbox.startswith("seccomp"):
        check_end(it.server)
        pytest.skip(f"no filter here: {sandbox}")
    yield it
    check_end(it.server)


def test_what_the_kernel_says(attacked):
    worker = attacked.worker()
    assert re.fullmatch(r"seccomp, (landlock [1-9]\d*|no landlock \(.+\))", worker["sandbox"])
    for pid in [worker["pid"], *os.listdir(f"/proc/{worker['pid']}/task")]:
        assert status(pid, "NoNewPrivs") == "1"
        assert status(pid, "Seccomp") == "2"
        assert int(status(pid, "CapEff"), 16) == int(status(pid, "CapPrm"), 16) == 0
    assert len(os.listdir(f"/proc/{worker['pid']}/task")) >= 1
    limits = pathlib.Path(f"/proc/{worker['pid']}/limits").read_text()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.M)
    assert int(re.search(r"^Max open files\s+(\d+)", limits, re.M).group(1)) <= 4096
    metrics = attacked.server.get("/metrics").body.decode()
    assert "\nvacate_workers_without_sandbox 0\n" in metrics


# Calls that a C library may try by itself: they fail, and the worker goes on.
@pytest.mark.parametrize("attempt, error", [
    ("read_a_file", errno.EACCES), ("look_at_a_file", errno.EACCES),
    ("list_a_directory", errno.EACCES), ("open_the_server_s_memory", errno.EACCES),
    ("read_a_file_by_openat2", errno.ENOSYS), ("send_to_an_address", errno.ENOSYS),
    ("make_a_file_in_memory", errno.ENOSYS), ("read_standard_error", errno.ENOSYS),
    ("write_standard_output", errno.ENOSYS), ("disarm_the_filter", errno.EPERM)])
def test_refused(attacked, attempt, error):
    assert attacked.tries(attempt) == -error
    deaths = attacked.server.stderr().count("the sandbox stopped")
    assert attacked.tries("nothing") == 7
    assert attacked.server.stderr().count("the sandbox stopped") == deaths


# Calls that only an attacker makes.
@pytest.mark.parametrize("attempt, call", [
    ("write_a_file", "openat"), ("remove_a_file", "unlinkat"),
    ("connect_tcp", "socket"), ("connect_unix", "socket"), ("connect_abstract", "socket"),
    ("connect_the_worker_s_socket", "connect"), ("run_a_program", "execve"),
    ("fork_a_process", "clone"), ("trace_the_server", "ptrace"),
    ("signal_the_server", "kill"), ("signal_a_thread_of_the_server", "tgkill"),
    ("read_the_server_s_memory", "process_vm_readv"), ("map_code", "mmap"),
    ("make_data_code", "mprotect"), ("make_a_ring", "io_uring_setup"),
    ("load_a_bpf_program", "bpf"), ("mount_a_file_system", "mount"),
    ("take_a_namespace", "unshare"), ("ask_the_keyring", "keyctl"),
    ("catch_faults", "userfaultfd"), ("take_capabilities", "capset")])
def test_hostile(attacked, attempt, call):
    said = attacked.dies(attempt)
    number, name = re.search(r"was killed by its sandbox: system call (\d+) \((\w+)\)",
                             said).groups()
    assert len(name) >= 3 and call.startswith(name)    # as much as a process's name holds
    assert f"the sandbox stopped system call {number} ({call})" in attacked.server.stderr()
    assert attacked.tries("nothing") == 7
    assert not (attacked.secret.parent / "written").exists() and attacked.secret.exists()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls of x86's other tables")
@pytest.mark.parametrize("attempt", ["call_as_x32", "call_as_i386"])
def test_other_tables_of_calls(attacked, attempt):
    """The same number means something else there. No name is left: the kernel
    kills on the spot. A kernel without i386 faults."""
    said = attacked.dies(attempt)
    assert "was killed by its sandbox (signal 31" in said or \
        (attempt == "call_as_i386" and "signal 11" in said), said


def test_what_is_left(attacked):
    assert attacked.tries("find_the_word") == 0
    assert attacked.tries("count_descriptors") == 4    # 0, 1, 2 and the socket
    assert attacked.tries("make_a_thread") == 1
    assert "was killed by signal 6" in attacked.dies("abort_itself")


def test_nobody_was_reached(attacked):
    """After all of the above."""
    for listener in (attacked.tcp, attacked.unix, attacked.abstract):
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_the_word_is_found_without_a_sandbox(attack):
    """The attempts do work where nothing stops them."""
    it = attack("--sandbox", "off")
    assert it.tries("nothing") == 7
    assert it.worker()["sandbox"] == "none (switched off)"
    assert it.tries("find_the_word") == -errno.EEXIST
    assert it.tries("read_a_file") > 3
    assert it.tries("connect_tcp") == it.tries("connect_unix") == it.tries("connect_abstract") == 0
    assert it.tries("fork_a_process") > 0
    assert it.tries("map_code") == it.tries("make_data_code") == 0
    assert it.tries("signal_the_server") == 0
    assert it.tries("write_a_file") > 3 and (it.secret.parent / "written").exists()
    assert "\nvacate_workers_without_sandbox 1\n" in it.server.get("/metrics").body.decode()
    assert "runs without a sandbox: none (switched off)" in it.server.stderr()
    shown = subprocess.run([harness.find_vacate(), "ps", "--server", it.server.url], check=True,
                           capture_output=True, text=True).stdout
    assert f"worker {it.worker()['pid']} runs without a sandbox: none (switched off)" in shown


def landlock_version():
    """Asked by a process of its own: ctypes keeps what it loads."""
    ask = "import ctypes, sys; sys.exit(max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)))"
    return subprocess.run([sys.executable, "-c", ask]).returncode


def test_landlock_alone(attack):
    """A kernel without seccomp: the other wall stands by itself."""
    version = landlock_version()
    if version < 6:
        pytest.skip(f"Landlock {version} here; 6 has all that is tried")
    it = attack(lacking=["seccomp"])
    assert it.tries("nothing") == 7
    assert it.worker()["sandbox"] == f"no seccomp (not in this kernel), landlock {version}"
    for attempt, error in [("read_a_file", errno.EACCES), ("list_a_directory", errno.EACCES),
                           ("write_a_file", errno.EACCES), ("remove_a_file", errno.EACCES),
                           ("connect_tcp", errno.EACCES), ("connect_abstract", errno.EPERM),
                           ("run_a_program", errno.EACCES), ("signal_the_server", errno.EPERM),
                           ("open_the_server_s_memory", errno.EACCES),
                           ("trace_the_server", errno.EPERM)]:
        assert it.tries(attempt) == -error, attempt
    assert it.secret.exists() and not (it.secret.parent / "written").exists()


def test_seccomp_alone(attack):
    """Containers often have no Landlock: nothing more can be reached."""
    it = attack("--sandbox", "require", lacking=["landlock_create_ruleset"])
    assert it.tries("nothing") == 7
    assert it.worker()["sandbox"] == "seccomp, no landlock (not in this kernel)"
    assert it.tries("read_a_file") == -errno.EACCES
    assert "system call" in it.dies("connect_tcp")


def test_no_wall_at_all(attack):
    it = attack(lacking=OTHER_CALLS)
    assert it.tries("nothing") == 7
    assert it.worker()["sandbox"] == "none (not in this kernel)"
    assert "runs without a sandbox: none (not in this kernel)" in it.server.stderr()


@pytest.mark.parametrize("lacking", [["seccomp"], OTHER_CALLS])
def test_require_refuses(attack, lacking):
    it = attack("--sandbox", "require", lacking=lacking)
    reply = it.ask("nothing")
    assert reply.status == 503
    assert "before it said hello; the server's log has its reason" in reply.json["error"]["message"]
    assert "the sandbox that --sandbox require asks for cannot be had" in it.server.stderr()
    assert "not in this kernel" in it.server.stderr()
    assert not it.server.workers()


def test_run(attack, tmp_path):
    """`vacate run` has a worker, too."""
    it = attack()
    env = dict(os.environ, VACATE_BACKEND_PATH=str(HOSTILE), HOSTILE_FILE=str(it.secret),
               HF_HUB_CACHE="/nonexistent")
    shown = subprocess.run([harness.find_vacate(), "run", "--sandbox", "require",
                            str(it.models / "m"), "text"], env=env, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    env["VACATE_SANDBOX"] = "perhaps"
    shown = subprocess.run([harness.find_vacate(), "run", str(it.models / "m"), "text"],
                           env=env, capture_output=True, text=True)
    assert shown.returncode == 2 and "'perhaps'" in shown.stderr


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_both_backends_work_in_it(start, backend):
    server = start("--backend", backend, "--sandbox", "require")
    for _ in range(3):
        for name in "abc":
            server.embed(f"tiny/{name}", ["a text", "another one"])
        (worker,) = server.ok("GET", "/models/ps")["workers"]
        assert worker["sandbox"].startswith("seccomp")
        for name in "abc":
            server.unload(f"tiny/{name}")
    assert not server.workers()
    assert server.ok("GET", "/models/plan?model=big/a")["plan"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_measured_by_an_ordinary_user(zoo, tmp_path):
    """A worker stays readable for who started it: receipts are measured from outside."""
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all",
            "--inh-caps=-all"]
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv here")
    programs = tmp_path / "programs"    # the build may lie where others cannot look
    programs.mkdir(mode=0o755)
    for name in ("vacate", "vacate-worker", "libvacate-cpu.so"):
        shutil.copy(harness.build_dir() / name, programs / name)
    shutil.copytree(zoo.path / "tiny", programs / "models")
    for path in [programs, *programs.parents]:
        if path.stat().st_mode & 0o777 == 0o700:
            path.chmod(0o755)
    server = harness.Server(programs / "models", tmp_path / "log", "--sandbox", "require",
                            wrapper=drop, program=programs / "vacate",
                            env={"VACATE_BACKEND_PATH": ""})
    try:
        server.embed("a", ["x"])
        worker = server.ok("GET", "/models/ps")["workers"][0]
        assert status(worker["pid"], "Uid") == "65534"
        assert worker["usage"]["uss_bytes"] > 0
        receipt = server.unload("a")
        assert receipt["worker"]["exited"]
    finally:
        check_end(server)


@pytest.mark.measured
def test_what_it_costs(start):
    """Start to HELLO with and without, the best of some starts."""
    best = {}
    for mode in ("off", "require") * 5:
        server = start("--sandbox", mode)
        server.embed("tiny/a", ["x"])
        stages = server.ok("GET", "/models/ps")["models"][0]["stages_ms"]
        best[mode] = min(best.get(mode, 1e9), stages["start"])
        (worker,) = server.workers()
        best[mode, "uss"] = min(best.get((mode, "uss"), 1 << 40), measure.uss(worker))
        check_end(server)
    assert best["require"] - best["off"] < 1.0, best
    assert best["require", "uss"] - best["off", "uss"] < 64 << 10, best
