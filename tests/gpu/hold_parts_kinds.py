"""hold_parts_kinds.py - a part of tests/gpu/hold: what a process may be at when it is parked."""
import importlib
import subprocess
import sys
import time
import zipfile

from hold_shared import (HERE, KERNEL, Target, expect, last_line, moved, table, targets, wait_for,
                         work)


def kind(name):
    since = time.monotonic()
    target = Target(name)
    target.send("run")
    alone = target.wait("done")              # undisturbed; as many steps from now on
    steps, target.at, times = target.at, 0, []
    target.send("run")
    for part in (steps // 10, steps * 45 // 100):
        wait_for(lambda: target.at > part or target.unasked(), 120)
        if target.unasked() not in ("", "done"):
            break                            # wait("done") says what it was
        parked = moved("park", target)
        if not expect(not target.unasked(), f"{name}: it was done before it was parked"):
            moved("resume", target)
            break
        at = target.at
        time.sleep(0.3)
        expect(target.at - at <= 1, f"{name}: it went on while it was parked")
        resumed = moved("resume", target)
        times.append((parked["wall_ms"], resumed["wall_ms"]))
    done = target.wait("done")
    same = expect(done == alone, f"{name}: the result differs from an undisturbed run")
    table(name, f"{'equal' if same else 'DIFFERS'}, parked {len(times)} times: " + ", ".join(
        f"{park:.0f} + {resume:.0f} ms" for park, resume in times)
        + f" ({time.monotonic() - since:.0f} s)")
    target.end()


def find_jupyter():
    """Makes ipykernel and jupyter_client importable, the system's or those of carried
    wheels. False: there are none."""
    try:
        import ipykernel  # noqa: F401
        import jupyter_client  # noqa: F401
        return True
    except ImportError:
        pass
    wheels = list((HERE.parent.parent / "wheels").glob("*.whl"))
    if not any(wheel.name.startswith("ipykernel-") for wheel in wheels):
        return False
    site = work / "site"
    for wheel in wheels:         # as pip would unpack it; not every environment has one
        zipfile.ZipFile(wheel).extractall(site)
    sys.path.append(str(site))
    importlib.invalidate_caches()
    return True


def in_kernel(client, code):
    """What the code printed."""
    text = []

    def output(message):
        if message["msg_type"] == "stream":
            text.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=120, output_hook=output)
    if reply["content"]["status"] != "ok":
        raise RuntimeError("\n".join(reply["content"].get("traceback", ["the kernel refused"])))
    return "".join(text).strip()


class Kernel:
    """A Jupyter kernel, started as a notebook server does but for the choice of a Python."""

    def __init__(self):
        from jupyter_client import BlockingKernelClient
        from jupyter_client.connect import write_connection_file
        path = write_connection_file(str(work / "kernel.json"))[0]
        self.log = open(work / "kernel.log", "w+")
        # what was carried comes behind what is there: torch goes on with its own
        code = (f"import sys; sys.path.append({str(work / 'site')!r}); "
                "import ipykernel.kernelapp; ipykernel.kernelapp.launch_new_instance()")
        self.process = subprocess.Popen([sys.executable, "-c", code, "-f", path],
                                        stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        targets.append(self)
        self.pid = self.process.pid
        self.client = BlockingKernelClient(connection_file=path)
        self.client.load_connection_file()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=60)
        except Exception as problem:
            self.log.seek(0)
            raise RuntimeError(f"the kernel does not answer ({problem}): "
                               f"{last_line(self.log.read())}") from None

    def end(self):
        if self.process.poll() is None:
            self.client.stop_channels()
            self.process.kill()
        self.process.wait()


def part_kernel():
    since = time.monotonic()
    if not find_jupyter():
        table("ipykernel", "skipped: not here, and no wheels were carried "
                           "(VACATE_CARRY_WHEELS=3.12 scripts/carry.sh)")
        return
    kernel = Kernel()
    in_kernel(kernel.client, f"exec(open({KERNEL!r}).read())")
    before = in_kernel(kernel.client, "print(look())")
    parked = moved("park", kernel)
    said = in_kernel(kernel.client, "print(1 + 1)")
    expect(said == "2", f"ipykernel: 1 + 1 is {said!r} while it is parked")
    resumed = moved("resume", kernel)
    after = in_kernel(kernel.client, "print(look())")
    expect(before == after, f"ipykernel: {after} where {before} was")
    table("ipykernel", f"{'equal' if before == after else 'DIFFERS'}, "
                       f"{parked['wall_ms']:.0f} + {resumed['wall_ms']:.0f} ms "
                       f"({time.monotonic() - since:.0f} s)")
    kernel.end()


def part_kinds(nvml):
    print("kind                                               result")
    for name in ("generate", "train", "graphs", "pinned", "threads"):
        try:
            kind(name)
        except Exception as problem:      # the others are still worth knowing
            expect(False, f"{name}: {problem!r}")
        for target in targets:
            target.end()
    try:
        part_kernel()
    except Exception as problem:
        expect(False, f"ipykernel: {problem!r}")
