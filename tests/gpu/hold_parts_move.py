"""hold_parts_move.py - a part of tests/gpu/hold: two GPUs."""
import time

from hold_shared import (MIB, Nvml, Target, expect, gone, moved, skip, table, vacate, why)
from stream import UUID

SIZE_MIB = 1024


def holds(gpus, target):
    """MiB of it on each GPU by NVML; None where it is not listed."""
    listed = [(gpu.listed() or {}).get(target.pid) for gpu in gpus]
    return [size if size is None else size // MIB for size in listed]


def shown(target):
    """GPUs and state of it in vacate ps, and the MiB of each."""
    status, err, said, _ = vacate("ps")
    if status != 0:
        raise RuntimeError(f"vacate ps: exit {status}: {err}")
    found = [process for process in said["processes"] if process["pid"] == target.pid]
    if len(found) != 1:
        return None, {}
    return found[0]["state"], {part["uuid"]: (part["vram_bytes"] or 0) // MIB
                               for part in found[0]["devices"]}


def on_both(gpus, empty):
    target = Target("two", SIZE_MIB)
    digest = target.digest()
    before = holds(gpus, target)
    expect(all(size and size >= SIZE_MIB for size in before), f"on both GPUs: {before} MiB of it")
    state, parts = shown(target)
    expect(state == "running" and set(parts) == {gpu.uuid() for gpu in gpus}
           and all(size >= SIZE_MIB for size in parts.values()), f"vacate ps: {state}, {parts}")
    for turn in range(3):
        parked = moved("park", target)
        for gpu, used in zip(gpus, empty):
            gone(gpu, target, used, f"on both GPUs, turn {turn}")
        expect(len(parked["devices"]) == 2, f"on both GPUs: the receipt has {parked['devices']}")
        state, parts = shown(target)
        expect(state == "parked" and not parts, f"vacate ps of one that is parked: {state}, {parts}")
        resumed = moved("resume", target)
        expect(target.digest() == digest, f"on both GPUs, turn {turn}: what it holds differs")
        expect(holds(gpus, target) == before, f"on both GPUs: {holds(gpus, target)} MiB of it, "
                                              f"{before} before")
        table(f"{SIZE_MIB} MiB on each of two GPUs",
              f"equal, {parked['wall_ms']:.0f} + {resumed['wall_ms']:.0f} ms")
    target.end()


def move(gpus, target, digest, start, to, name):
    """Parked and resumed on another GPU. What came of it is either that, or one sentence and
    the process back where it was. True: it moved."""
    moved("park", target)
    status, err, said, wall_ms = vacate("resume", target.pid, "--device", gpus[to].uuid())
    if status == 0:
        sizes = holds(gpus, target)
        same = target.digest() == digest
        table(name, f"moved in {wall_ms:.0f} ms, {'equal' if same else 'DIFFERS'}, {sizes} MiB")
        expect(same, f"{name}: what it holds differs")
        expect(sizes[to] and sizes[to] >= SIZE_MIB and sizes[start] is None,
               f"{name}: NVML lists {sizes} MiB of it")
        return True
    table(name, f"exit {status}: {why(err)}")
    expect(said and said["receipts"][0]["after"] == "parked" and gpus[to].uuid() in err,
           f"{name}: {err}: {said and said['receipts']}")
    status, err, said, _ = vacate("resume", target.pid)
    if expect(status == 0, f"{name}: it does not come back after the refusal: {err}"):
        same = expect(target.digest() == digest, f"{name}: what it holds differs")
        table("... resumed where it was", "equal" if same else "DIFFERS")
    return False


def moves(gpus, name, **environment):
    target = Target("plain", SIZE_MIB, **environment)
    digest = target.digest()
    sizes = holds(gpus, target)
    start = 0 if sizes[0] is not None else 1
    if move(gpus, target, digest, start, 1 - start, f"{name}: to the other"):
        move(gpus, target, digest, 1 - start, start, f"{name}: and back")
    target.end()


def part_two(nvml):
    if nvml.count() < 2:
        skip("one GPU here, two are needed")
    if UUID:
        skip("VACATE_GPU shows one GPU, two are needed")
    gpus = [nvml, Nvml(1)]
    empty = [gpu.memory().used for gpu in gpus]
    names = [gpu.text("nvmlDeviceGetName", gpu.device) for gpu in gpus]
    since = time.monotonic()
    print(f"{' and '.join(names)}, driver {nvml.text('nvmlSystemGetDriverVersion')}")
    for part in (lambda: on_both(gpus, empty),
                 lambda: moves(gpus, "sees one GPU", CUDA_VISIBLE_DEVICES=nvml.uuid()),
                 lambda: moves(gpus, "sees both")):
        try:
            part()
        except Exception as problem:      # the others are still worth knowing
            expect(False, f"two: {problem!r}")
        if time.monotonic() - since > 70:
            print("(time is up)")
            break
