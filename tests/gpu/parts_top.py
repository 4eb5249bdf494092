"""parts_top.py - a part of tests/gpu/run: `vacate top` in a terminal of 80 columns, by its
keys. The screen is read by tests/e2e/terminal.py, which scripts/carry.sh brings with pyte."""
import contextlib
import os
import re
import sys

from held import MIB, PATIENCE_S, session
from shared import HERE, Skip, Watch, bert_base, expect, find, mib, server_tools, serving

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def terminal_class():
    server_tools()
    sys.path += [str(HERE / "site"), str(HERE.parent / "e2e")]
    try:
        from terminal import Terminal
    except ImportError as missing:
        raise Skip(f"{missing}; scripts/carry.sh brings it") from None
    return Terminal


def environment(held):
    """What is known of a terminal comes along, too, if the system has nothing."""
    carried = HERE / "site" / "terminfo"
    return {**os.environ, **held.env, **({"TERMINFO": str(carried)} if carried.is_dir() else {})}


def bytes_of(row, name):
    """The VRAM that stands behind its name."""
    number, unit = re.search(rf"{name} +(\d+(?:\.\d+)?) (\w+)", row).groups()
    return float(number) * UNITS[unit]


def choose(screen, pattern):
    """Marks the row: from the first one down. What the key is for then is asked by name, so
    that another's row does no harm."""
    def is_chosen():
        marked = screen.marked()[:-1]       # none while it is drawn
        return marked and re.search(pattern, marked[0])

    for key in (["\033OH"] + ["j"] * 40) * 2:
        if is_chosen():
            return
        screen.keys(key)
        with contextlib.suppress(AssertionError):
            screen.wait(is_chosen, 0.3)
    raise RuntimeError(f"{pattern} cannot be chosen:\n{screen.text()}")


def answered(screen, key, question):
    """It asks first, and does nothing without a y."""
    screen.keys(key)
    screen.wait(rf"^{question}(.|\n)*\[y/n\]")
    screen.keys("n")
    screen.wait(r"^\?help")
    screen.keys(key)
    screen.wait(rf"^{question}(.|\n)*\[y/n\]")
    screen.keys("y")


def park_and_resume(screen, watch, target):
    pid, digest = target.pid, target.digest()
    row = screen.wait(lambda: screen.row(rf"^ *{pid} .* running"))
    told = {p["pid"]: p["bytes"] for d in watch.read() for p in d["processes"]}
    print(f"top: {row}")
    expect(abs(bytes_of(row, target.name) - told.get(pid, 0)) <= 0.06 * told.get(pid, 0),
           f"top shows {row}, NVML {mib(told.get(pid, 0)):.0f} MiB")
    choose(screen, rf"^ *{pid} ")
    answered(screen, "p", rf"park {pid} \({target.name}, ")
    print(f"top: {screen.wait(lambda: screen.row(rf'^park {pid}: done in '))}")
    row = screen.wait(lambda: screen.row(rf"^ *{pid} .* 0 B .* parked"))
    print(f"top: {row}")
    expect(pid not in watch.pids(), "parked by its key, and NVML lists it")
    choose(screen, rf"^ *{pid} ")
    answered(screen, "r", rf"resume {pid} \({target.name}\)\?")
    print(f"top: {screen.wait(lambda: screen.row(rf'^resume {pid}: done in '))}")
    screen.wait(rf"^ *{pid} .* running")
    expect(pid in watch.pids(), "resumed by its key, and NVML does not list it")
    expect(target.digest() == digest, "resumed by its key: what it holds differs")


def load_and_unload(screen, watch, name, device):
    before = watch.used()
    screen.keys(f"l{name}\r")
    screen.wait(rf"^load {name}\? \[y/n\]")
    screen.keys("y")
    print(f"top: {screen.wait(lambda: screen.row(rf'^load {name}: done in '))}")
    print(f"top: {screen.wait(lambda: screen.row(rf'^{name} +resident +{device} '))}")
    loaded = watch.used()
    # the worker of tests/e2e/test_gpu_parts.py takes none
    expect("FAKE_GPU_DIR" in os.environ or loaded >= before + 16 * MIB,
           f"{mib(loaded - before):.0f} MiB more with the model")
    choose(screen, rf"^{name} ")
    answered(screen, "u", rf"unload {name}\?")
    print(f"top: {screen.wait(lambda: screen.row(rf'^unload {name}: done in '))}")
    screen.wait(lambda: not screen.row(rf"^{name} +resident"))
    left = watch.used() - before
    print(f"VRAM {mib(before):.0f} -> {mib(loaded):.0f} MiB, {mib(left):+.1f} afterwards")
    expect(abs(left) <= 4 * MIB, f"{mib(left):.1f} MiB are left of the model")


def part_top():
    """Keys of a person on a real GPU: park, resume, load, unload, and what the screen says."""
    terminal, name = terminal_class(), bert_base().name
    with session("top") as held, serving("top", env=held.env) as server:
        watch, target = Watch(), held.target("Gtop", "plain", 1024)
        screen = terminal([find("vacate"), "top", "-d", "500ms", "--server", server.url],
                          environment(held), patience_s=PATIENCE_S)
        try:
            screen.wait(r"^\?help")
            screen.keys("n")        # by name: it stays in sight, however many others there are
            screen.wait(rf"^ *{target.pid} .* running")
            park_and_resume(screen, watch, target)
            screen.wait(f"^{server.url}: ")
            # vacate-gpud has the driver open from here on
            (gpu,) = server.ok("GET", "/models/ps")["gpus"]
            load_and_unload(screen, watch, name, gpu["device"])
            print(screen.text().rstrip())
            screen.keys("q")
            status = screen.end()
            expect(status == 0 and screen.restored(), f"q: exit {status}")
        finally:
            screen.close()
            watch.close()
