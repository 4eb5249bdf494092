"""Several processes parked and resumed by one command: a tree, and numbers."""
import os
import signal

from fake_gpus import MIB, children, eventually
from test_hold import comes_back, ok, refused, vacate


def family(gpus, sizes):
    """A shell, and its children that hold so much (None: no CUDA); their pids."""
    count = len(sizes)
    shell = gpus.target(None, command=(
        "sh", "-c", f"for i in $(seq {count}); do sleep 3600 & done; wait"))
    eventually(lambda: len(children(shell.pid)) == count)
    pids = sorted(children(shell.pid))
    for pid, size in zip(pids, sizes):
        if size is not None:
            gpus.put(pid, size)
    return shell, pids


def end_family(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_a_tree(gpus):
    gpus = gpus()
    shell, pids = family(gpus, [10 * MIB, None, 20 * MIB])
    ok(gpus, "park", shell.pid, "--tree")
    assert [gpus.state(pids[0]), gpus.state(pids[2])] == ["parked", "parked"]
    done = ok(gpus, "resume", shell.pid, "--tree")
    assert [gpus.state(pids[0]), gpus.state(pids[2])] == ["running", "running"]
    assert done.out.count("Resumed") == 2
    end_family(pids)


def test_a_tree_all_or_none(gpus):
    gpus = gpus()
    shell, pids = family(gpus, [10 * MIB, 20 * MIB, 30 * MIB])
    gpus.put(pids[2], 30 * MIB, busy=1)
    err = refused(gpus, 1, "park", shell.pid, "--tree", "--timeout", "300ms")
    assert str(pids[2]) in err
    assert [gpus.state(pid) for pid in pids] == ["running"] * 3
    end_family(pids)


def test_a_tree_without_cuda(gpus):
    gpus = gpus()
    shell, pids = family(gpus, [None])
    assert "none of these processes uses CUDA" in refused(gpus, 1, "park", shell.pid, "--tree")
    end_family(pids)


def test_a_child_that_ends_meanwhile(gpus):
    """It was in the tree, and has ended when the driver is asked: the others are moved."""
    gpus = gpus()
    shell, pids = family(gpus, [10 * MIB, None, 20 * MIB])
    gpus.on("cuCheckpointProcessGetState", f"kill {pids[1]} {int(signal.SIGKILL)}")
    done = ok(gpus, "park", shell.pid, "--tree")
    assert done.out.count("Parked") == 2
    assert [gpus.state(pids[0]), gpus.state(pids[2])] == ["parked", "parked"]
    end_family([pids[0], pids[2]])


def test_several_by_number(gpus):
    gpus = gpus()
    a, b = gpus.target(10 * MIB), gpus.target(20 * MIB)
    ok(gpus, "park", a.pid, b.pid, a.pid)
    assert gpus.state(a.pid) == gpus.state(b.pid) == "parked"
    b.kill()
    b.wait()
    assert vacate(gpus, "resume", a.pid, b.pid).returncode == 4
    comes_back(gpus, a)
