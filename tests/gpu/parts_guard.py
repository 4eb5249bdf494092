"""parts_guard.py - parts of tests/gpu/run: idle processes that `vacate guard` and a server
with --guard-park take off the GPU, and that come back."""
import contextlib
import json
import os
import shutil
import signal
import time

from held import MIB, OTHERS, Guard, Samples, alive, children_of, session, wait_for
from shared import Watch, bert_base, expect, mib, serving

TEXT = "a lighthouse by the sea"
IDLE_S = float(os.environ.get("VACATE_GPU_IDLE_S", "10"))
INTERVAL_S = IDLE_S / 3         # it looks at least three times (vacate-guard(1))


# --- hold-guard -----------------------------------------------------------------------


def look_at_samples(held, samples):
    """One that does nothing, and then one that begins to use the GPU: how far back samples
    reach before and after."""
    kept = held.target("Gkept", "plain", 256)
    print(f"samples beside an idle process: {samples.line({kept.pid: 'idle'})}")
    busy, since = held.target("Gbusy", "use", 64, 1, 0), time.monotonic()
    names = {kept.pid: "idle", busy.pid: "busy"}
    for after in [s for s in (0, 1, 2, 4, 7) if s < IDLE_S]:
        time.sleep(max(0, since + after - time.monotonic()))
        print(f"  {after} s after another began to compute: {samples.line(names)}", flush=True)
    return kept, busy


def dry_run(held, watch, idle, others):
    guard = Guard(held, "--idle", f"{IDLE_S:g}s", "--dry-run", exclude=f"Gkept *,{OTHERS}")
    line, at = guard.wait("would_park", idle.pid)
    expect(line["idle_ms"] >= IDLE_S * 1000, f"--dry-run: idle for {line['idle_ms']} ms")
    expect(guard.stop() == 0, f"--dry-run: {guard.said()}")
    expect({pid for _, pid in guard.events()} == {idle.pid},
           f"--dry-run: {guard.events()}: {guard.said()}")
    expect({idle.pid, *others} <= set(watch.pids()), "--dry-run parked somebody")
    print(f"--dry-run: named after {at:.1f} s, nobody parked")


def parked_once(guard, watch, idle, base, held):
    """It is parked in time, and all say so."""
    line, at = guard.wait("parked", idle.pid)
    took_s = line["took_ms"] / 1000
    used = watch.used()
    print(f"parked {at - took_s:.1f} s after the guard's start (idle {line['idle_ms'] / 1000:.1f} s, "
          f"in {took_s:.2f} s): VRAM {mib(used):.0f} MiB, {mib(base):.0f} before it came")
    expect("FAKE_GPU_DIR" in os.environ or at - took_s <= IDLE_S + 2 * INTERVAL_S + 1,
           f"parked only after {at - took_s:.1f} s")
    expect(line["idle_ms"] >= IDLE_S * 1000, f"parked after {line['idle_ms']} ms of idleness")
    expect(line["resume"] == f"vacate resume {idle.pid}" and line["name"] == idle.name,
           f"the journal says {line}")
    expect(idle.pid not in watch.pids(), "NVML lists it while it is parked")
    expect(used <= base + 8 * MIB, f"{mib(used - base):.1f} MiB are left")
    row, process = held.shown(idle.pid)
    print(f"vacate ps: {row}")
    expect(row and "parked" in row and row.endswith("by guard"), f"vacate ps shows {row}")
    expect(process and process["state"] == "parked" and process["parked_by"] == "guard",
           f"vacate ps --json shows {process}")


def as_the_unit_runs_it(held, idle, digest):
    """With CAP_SYS_PTRACE alone, as vacate-guard.service: for information."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        print("with one capability: not tried (setpriv and root are needed)")
        return
    guard = Guard(held, "--idle", "3s", exclude=f"Gkept *,Gbusy *,Gpulse *,{OTHERS}", wrapper=[
        "setpriv", "--no-new-privs", "--bounding-set=-all,+sys_ptrace",
        "--inh-caps=-all,+sys_ptrace"])
    with contextlib.suppress(RuntimeError):
        wait_for(lambda: guard.lines() or guard.process.poll() is not None, "", 20)
    guard.stop()
    outcome = [line.get("reason") or line["event"] for line in guard.lines()]
    print(f"with CAP_SYS_PTRACE alone: {', '.join(outcome) or guard.said().strip() or 'nothing'}")
    held.comes_back(idle, digest, "with one capability")


def part_hold_guard():
    """Beside a process that computes and one that does from time to time, an idle one is parked
    and comes back; one that is excluded is not."""
    with session("hold-guard") as held:
        watch, samples = Watch(), Samples()
        kept, busy = look_at_samples(held, samples)
        pulse = held.target("Gpulse", "use", 64, 0.3, 4)
        time.sleep(1)       # its first kernel takes memory, too
        base, others = watch.used(), {kept.pid, busy.pid, pulse.pid}
        digests = {one: one.digest() for one in (kept, busy)}
        idle = held.target("Gidle", "plain", 2048)
        digest = idle.digest()
        dry_run(held, watch, idle, others)

        guard = Guard(held, "--idle", f"{IDLE_S:g}s", exclude=f"Gkept *,{OTHERS}")
        parked_once(guard, watch, idle, base, held)
        back = time.monotonic()
        held.comes_back(idle, digest, "parked by the guard")
        guard.wait("resumed", idle.pid)
        line, _ = guard.wait("parked", idle.pid, count=2)
        again = time.monotonic() - back - line["took_ms"] / 1000
        print(f"parked again {again:.1f} s after it was resumed")
        # both were seen some hundredths late
        expect(again >= IDLE_S - 0.1, f"parked again {again:.1f} s after it was resumed")

        gpuds = children_of(guard.pid)
        status = guard.stop(signal.SIGINT)
        expect(status == 0, f"Ctrl-C: exit {status}: {guard.said()}")
        wait_for(lambda: not any(map(alive, gpuds)), f"vacate-gpud {gpuds} is still there")
        names = {one.pid: one.name for one in (kept, busy, pulse, idle)}
        events = [(event, names.get(pid, pid)) for event, pid in guard.events()]
        print(f"journal: {', '.join(f'{event} {name}' for event, name in events)}")
        expect(events == [("parked", "Gidle"), ("resumed", "Gidle"), ("parked", "Gidle")],
               f"the journal says {events}: {guard.said()}")
        expect(others <= set(watch.pids()), "one that is busy or excluded is not listed")
        print(f"samples at the end: {samples.line(names)}")
        held.comes_back(idle, digest, "after the guard's end")
        as_the_unit_runs_it(held, idle, digest)
        for one, before in digests.items():
            expect(one.digest() == before, f"{one.name}: what it holds differs")
        samples.close()
        watch.close()


# --- hold-server ------------------------------------------------------------------------

LEFT_MIB = 300      # free beside who holds the GPU: less than a worker's context and model
WAY_MIB = 2048      # to be parked, about


def free_mib(watch):
    device = watch.read()[0]
    return (device["total"] - device["used"]) // MIB


def fill(held, watch, name):
    """One holds almost all of it, whom no pattern names; the one that is to be parked the
    rest, all but LEFT_MIB. Both have a context of the same size."""
    before = free_mib(watch)
    size = max(64, before - WAY_MIB - 2 * 700 - LEFT_MIB)
    held.target("Gballast", "plain", size)
    context = before - free_mib(watch) - size
    target = held.target(name, "plain", (free_mib(watch) - context - LEFT_MIB) // 2 * 2)
    print(f"a ballast of {size} MiB, {name} (process {target.pid}), contexts of {context} MiB: "
          f"{free_mib(watch)} MiB are free")
    return target


def made_way(server, watch, target, vector, held):
    """A request's model has the room of the process."""
    start = time.time()
    (answer,) = server.embed(bert_base().name, TEXT)
    print(f"answered after {time.time() - start:.1f} s, {free_mib(watch)} MiB are free")
    expect(answer == vector, "another answer than with an empty GPU")
    expect(target.pid not in watch.pids(), "NVML lists the process that made way")
    row, process = held.shown(target.pid)
    print(f"vacate ps: {row}")
    expect(process and process["state"] == "parked" and
           (process["parked_by"] or "").startswith("serve"), f"vacate ps --json shows {process}")


def resumed(watch, target, digest, what):
    wait_for(lambda: target.pid in watch.pids(), f"{what}: it is not resumed")
    expect(target.digest() == digest, f"{what}: what it holds differs")


def said_of(server, target):
    return [line for line in server.stderr().splitlines() if f"process {target.pid} " in line]


def part_hold_server():
    """A model that has no room: an idle process of the same user makes way and comes back, when
    the model leaves and when the server ends."""
    way, name = f"Gway{os.getpid()}", bert_base().name
    with session("hold-server") as held:
        watch, journal = Watch(), held.folder / "journal"
        with serving("hold-server", "--guard-park", f"{way} *", "--guard-idle", "3s", "--vram",
                     "100%", "--headroom", "1MiB", "--journal", journal, env=held.env) as server:
            (vector,) = server.embed(name, TEXT)
            server.unload(name)
            target = fill(held, watch, way)
            digest, used = target.digest(), watch.used()
            made_way(server, watch, target, vector, held)
            since = time.time()
            server.unload(name)
            resumed(watch, target, digest, "the model has left")
            print(f"resumed {time.time() - since:.1f} s after the model was asked to leave; VRAM "
                  f"{mib(watch.used() - used):+.1f} MiB")
            expect(abs(watch.used() - used) <= 8 * MIB, "VRAM is not as it was")
            made_way(server, watch, target, vector, held)
            since = time.time()
            expect(server.stop() == 0, "SIGTERM: the server did not end in order")
            print(f"SIGTERM: ended after {time.time() - since:.1f} s")
            resumed(watch, target, digest, "the server has ended")
            lines = said_of(server, target)
            print(*(f"log: {line}" for line in lines), sep="\n")
            for word in ("parked process", "was resumed"):
                expect(sum(word in line for line in lines) == 2, f"the log has not twice {word!r}")
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        events = [line["event"] for line in lines if line.get("pid") == target.pid]
        expect(events == ["parked", "resumed"] * 2, f"the journal says {events} of it")
        expect(watch.used() <= used + 8 * MIB, f"{mib(watch.used() - used):.1f} MiB are left")
        watch.close()
