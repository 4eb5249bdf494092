"""The sandbox of a worker on a GPU: its models are loaded, answer and leave within it, what
libraries try in vain does no harm, and what an attacker tries is refused.

The GPU is tests/e2e/fake_gpu, which computes on the processor; what NVIDIA's own
libraries need is shown by tests/gpu/run sandbox.
"""
import errno
import os
import pathlib
import re
import socket

import harness
import pytest
from conftest import check_end
from test_sandbox import Attack, sanitized

HERE = pathlib.Path(__file__).resolve().parent
FAKE_GPU = harness.build_dir() / "tests" / "e2e" / "fake_gpu"
LOCK = "vacate-GPU-00102030-4050-6070-8090-a0b0c0d0e0f0.lock"
TEXTS = ["a lighthouse", "the sea at night"]

pytestmark = [pytest.mark.skipif(not (FAKE_GPU / "libcuda.so.1").exists(),
                                 reason="the fake GPU is not built"),
              pytest.mark.skipif(sanitized(), reason="a sanitizer needs what the sandbox takes")]


@pytest.fixture
def gpu(start, zoo, tmp_path):
    """Servers of the zoo on the fake GPU, float32."""
    def begin(*options, sandbox=None, more=""):
        (tmp_path / "gpus").mkdir(exist_ok=True)
        (tmp_path / "gpus" / "gpus").write_text("8000 100\n")
        locks, cache = tmp_path / "locks", tmp_path / "cache"
        locks.mkdir(exist_ok=True)
        (locks / LOCK).touch(mode=0o444)
        config = tmp_path / "vacate.conf"
        config.write_text("".join(f"[model {name}]\ndtype = float32\n{more}"
                                  for name in ("tiny/a", "tiny/b")))
        env = {"LD_LIBRARY_PATH": str(FAKE_GPU), "VACATE_GPUD": str(HERE / "fake_gpud.py"),
               "FAKE_GPUS": str(tmp_path / "gpus"), "XDG_CACHE_HOME": str(cache),
               "VACATE_HOLD_DIR": str(locks), "VACATE_BACKEND_PATH": str(harness.build_dir())}
        if sandbox:
            env["VACATE_GPU_SANDBOX"] = sandbox
        return start("--device", "cuda:0", "--config", str(config), *options, env=env)
    return begin


def embed(server, model):
    reply = server.post("/v1/embeddings", {"model": model, "input": TEXTS})
    assert reply.status == 200, f"{reply} {server.stderr()[-3000:]}"
    return [row["embedding"] for row in reply.json["data"]]


def sandbox_of(server):
    (worker,) = server.ok("GET", "/models/ps")["workers"]
    return worker["sandbox"]


def live(server, start, what=None):
    """Two models are loaded, answer as on the processor, and leave."""
    said = set()
    plain = start("--device", "cpu")
    for name in ("tiny/a", "tiny/b"):
        ours, truth = embed(server, name), embed(plain, name)
        for mine, true in zip(ours, truth):
            assert max(abs(x - y) for x, y in zip(mine, true)) < 1e-5
        said.add(sandbox_of(server))
    (words,) = said
    server.unload("tiny/a")
    embed(server, "tiny/b")
    receipt = server.unload("tiny/b")
    assert receipt["worker"]["exited"]
    assert "stopped system call" not in server.stderr()
    return words


@pytest.mark.parametrize("options, sandbox, words", [
    ((), "off", "none (switched off by VACATE_GPU_SANDBOX)"),
    (("--sandbox", "off"), None, "none (switched off)")])
def test_switched_off(gpu, start, options, sandbox, words):
    server = gpu(*options, sandbox=sandbox)
    assert live(server, start) == words
    assert f"runs without a sandbox: {words}" in server.stderr()


def test_required_all_the_same(gpu):
    server = gpu("--sandbox", "require", sandbox="off")
    embed(server, "tiny/a")
    assert sandbox_of(server).startswith("seccomp, landlock ")


@pytest.mark.parametrize("how", [None, "on", "require"])
def test_within(gpu, start, tmp_path, how):
    server = gpu("--sandbox", "require") if how == "require" else gpu(sandbox=how)
    words = live(server, start)
    assert re.fullmatch(r"seccomp, landlock [1-9]\d*", words), words
    # what it keeps it could write, and the lock it could take
    kernels = list((tmp_path / "cache" / "vacate" / "kernels").iterdir())
    assert any("sm_86" in file.name for file in kernels), kernels
    assert not [file for file in kernels if re.search(r"\.\d+$", file.name)]
    assert "without the lock" not in server.stderr()


def test_a_lock_that_is_not_there(gpu, tmp_path):
    """Whose file nobody could make before: a line, and no harm."""
    server = gpu()
    (tmp_path / "locks" / LOCK).unlink()
    embed(server, "tiny/a")
    assert "is used without the lock" in server.stderr()
    assert not list((tmp_path / "locks").iterdir())


def test_trial(gpu, start):
    server = gpu(sandbox="trial")
    assert live(server, start) == "none (a trial)"
    lines = [line for line in server.stderr().splitlines() if "trial: would refuse" in line]
    assert "vacate-worker: trial: would refuse to open /etc/passwd (reading)" in lines
    assert any(re.search(r"would refuse system call \d+ \(connect\) \S+ \S+ "
                         rf"'/tmp/nvidia-mps/control': error {errno.EACCES}$", x)
               for x in lines), lines
    assert any(x.endswith(f"(symlink) 0 0 'nowhere' '/proc/self/fake-gpu': error {errno.EACCES}")
               for x in lines), lines
    # nothing else: what it needs is admitted, and each is said once (descriptors differ)
    others = [x for x in lines if "/etc/passwd" not in x and "(symlink)" not in x
              and "(connect)" not in x]
    assert not others and len(lines) == len(set(lines))
    assert "says nothing about one" not in server.stderr()


def test_let_through(gpu, start):
    """What a driver lacks is found by letting more through."""
    server = gpu(sandbox="on,connect,symlink,/etc/passwd")
    assert re.fullmatch(r"seccomp, landlock [1-9]\d*", live(server, start))
    assert re.fullmatch(r"no seccomp \(let through\), landlock [1-9]\d*",
                        live(gpu(sandbox="on,calls"), start))
    assert live(gpu(sandbox="on,files"), start) == "seccomp, no landlock (let through)"


def driver_socket(server):
    """A connection to what the driver listens on in the one worker."""
    (worker,) = server.ok("GET", "/models/ps")["workers"]
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(f"\0cuda-uvmfd-0-{worker['pid']}")
    return client


def test_who_connects_to_the_driver(gpu):
    """Is served by the driver's thread, as in any process that uses CUDA: an accept that
    failed would leave that thread no rest."""
    server = gpu()
    embed(server, "tiny/a")
    for _ in range(2):
        with driver_socket(server) as client:
            client.settimeout(60)
            client.send(b"who am I?")
            text, handed, _, _ = socket.recv_fds(client, 64, 1)
            assert text.decode() == f"{os.getpid()} {os.getuid()}"
            (descriptor,) = handed
            os.close(descriptor)
    embed(server, "tiny/a")


def test_another_error(gpu):
    """CALL=N: what a driver's thread does with it."""
    server = gpu(sandbox=f"on,accept={errno.EBADF},accept4={errno.EBADF}")
    embed(server, "tiny/a")
    with driver_socket(server) as client:
        client.send(b"who am I?")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(64)
    embed(server, "tiny/a")


@pytest.mark.parametrize("sandbox, message", [
    ("on,frobnicate", "VACATE_GPU_SANDBOX names a call that no rule is about"),
    ("on,accept=", "VACATE_GPU_SANDBOX takes CALL=N with an error's number"),
    ("on,accept=4096", "VACATE_GPU_SANDBOX takes CALL=N with an error's number"),
    ("yes", "VACATE_GPU_SANDBOX takes on, off or trial")])
def test_not_understood(gpu, sandbox, message):
    """No worker starts, rather than one that nothing confines."""
    server = gpu(sandbox=sandbox)
    reply = server.post("/v1/embeddings", {"model": "tiny/a", "input": TEXTS})
    assert reply.status == 503, reply
    assert message in server.stderr()


@pytest.fixture(scope="module")
def attacked(zoo, tmp_path_factory):
    place = tmp_path_factory.mktemp("attacked_gpu")

    def begin(*options, models, env):
        # the hostile module calls itself cuda, and needs no GPU
        wrapper = place / "worker"
        wrapper.write_text(f'#!/bin/sh\nexec {harness.build_dir() / "vacate-worker"} "$@" '
                           "--backend cuda\n")
        wrapper.chmod(0o755)
        return harness.Server(models, place / "log", *options,
                              env=env | {"VACATE_WORKER": str(wrapper),
                                         "XDG_CACHE_HOME": str(place / "cache"),
                                         "VACATE_HOLD_DIR": str(place)})

    it = Attack(begin, place)
    assert it.tries("nothing") == 7
    sandbox = it.worker()["sandbox"]
    if "seccomp, landlock" not in sandbox:
        check_end(it.server)
        pytest.skip(f"not both walls here: {sandbox}")
    yield it
    check_end(it.server)


@pytest.mark.parametrize("attempt, error", [
    ("read_a_file", errno.EACCES), ("list_a_directory", errno.EACCES),
    ("write_a_file", errno.EACCES), ("remove_a_file", errno.EACCES),
    ("read_a_file_by_openat2", errno.ENOSYS), ("open_the_server_s_memory", errno.EACCES),
    ("write_its_memory", errno.EACCES), ("connect_tcp", errno.EACCES),
    ("connect_unix", errno.EACCES), ("connect_abstract", errno.EACCES),
    ("connect_of_the_driver_s_kind", errno.EACCES), ("bind_a_path", errno.EACCES),
    ("take_a_connection", errno.EAGAIN),     # it may, and nobody has come
    ("send_the_server_a_descriptor", errno.EPERM),
    ("send_standard_error_a_descriptor", errno.EPERM),
    ("connect_the_worker_s_socket", errno.EACCES), ("send_to_an_address", errno.ENOSYS),
    ("run_a_program", errno.EACCES), ("fork_a_process", errno.EPERM),
    ("signal_the_server", errno.EPERM), ("read_the_server_s_memory", errno.EPERM),
    ("make_data_code", errno.EACCES), ("make_a_file_in_memory", errno.EACCES),
    ("read_standard_error", errno.EPERM), ("type_on_the_terminal", errno.ENOTTY),
    ("disarm_the_filter", errno.EPERM)])
def test_refused(attacked, attempt, error):
    assert attacked.tries(attempt) == -error
    assert attacked.secret.exists() and not (attacked.secret.parent / "written").exists()
    assert attacked.tries("nothing") == 7


@pytest.mark.parametrize("attempt, call", [
    ("trace_the_server", "ptrace"), ("signal_a_thread_of_the_server", "tgkill"),
    ("map_code", "mmap"), ("make_a_ring", "io_uring_setup"), ("load_a_bpf_program", "bpf"),
    ("mount_a_file_system", "mount"), ("take_a_namespace", "unshare"),
    ("ask_the_keyring", "keyctl"), ("catch_faults", "userfaultfd"),
    ("take_capabilities", "capset")])
def test_hostile(attacked, attempt, call):
    said = attacked.dies(attempt)
    number, name = re.search(r"was killed by its sandbox: system call (\d+) \((\w+)\)",
                             said).groups()
    assert len(name) >= 3 and call.startswith(name)
    assert attacked.tries("nothing") == 7


def test_what_is_left(attacked):
    assert attacked.tries("find_the_word") == 0
    assert attacked.tries("make_a_thread") == 1
    for listener in (attacked.tcp, attacked.unix, attacked.abstract):
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()
