"""parts_park.py - a part of tests/gpu/run: a model of the server that is parked by name."""
import time

from shared import DEVICE, DRY, bert_base, devices, expect, mib, serving

TEXT = "a lighthouse by the sea"
TURNS = 3


def ours(pid):
    """(used, listed) of all devices as a process of its own reads them."""
    found = devices()
    return (sum(device["used"] for device in found),
            pid in [process["pid"] for device in found for process in device["processes"]])


def timed(call):
    start = time.time()
    return call(), (time.time() - start) * 1e3


def state_of(server, name):
    return {m["name"]: m["state"] for m in server.ok("GET", "/models/ps")["models"]}.get(name)


def park(server, name):
    reply, ms = timed(lambda: server.post("/models/park", {"model": name}))
    if reply.status != 200:
        expect(False, f"park: {reply.status} {reply.body[:400]!r}")
        return None, ms
    (receipt,) = reply.json["receipts"]
    return receipt, ms


def turns(server, name, vector, pid, before, loaded):
    """Parked and asked again; what each took."""
    for turn in range(TURNS):
        receipt, park_ms = park(server, name)
        if not receipt:
            return False
        used, listed = ours(pid)
        expect(not listed, f"turn {turn}: NVML lists worker {pid} while it is parked")
        expect(state_of(server, name) == "parked", f"turn {turn}: {state_of(server, name)}")
        expect(receipt["models"] == [name] and receipt["pid"] == pid, f"receipt {receipt}")
        if turn == TURNS - 1:       # by name, too
            reply, back_ms = timed(lambda: server.post("/models/resume", {"model": name}))
            expect(reply.status == 200, f"resume: {reply.status} {reply.body[:400]!r}")
            how = "resumed by name"
        else:
            how = "resumed by a request"
            reply, back_ms = timed(lambda: server.embed(name, TEXT))
            expect(reply == [vector], f"turn {turn}: another answer")
        back, listed = ours(pid)
        expect(server.embed(name, TEXT) == [vector], f"turn {turn}: another answer afterwards")
        print(f"turn {turn}: parked in {park_ms:.0f} ms (driver {receipt['driver_ms']:.0f}), VRAM "
              f"{mib(loaded):.1f} -> {mib(used):.1f} MiB ({mib(before):.1f} before the load); "
              f"{how} in {back_ms:.0f} ms, {mib(back):.1f} MiB")
        expect(abs(used - before) <= 4 << 20, f"turn {turn}: {mib(used - before):.1f} MiB are left")
        expect(listed or DRY, f"turn {turn}: worker {pid} is not listed after it came back")
    return True


def park_model(sandbox):
    name, _ = bert_base().name, ours(0)
    with serving(f"park-{sandbox}", "--sandbox", sandbox) as server:
        server.ok("GET", "/models/ps")      # vacate-gpud has the driver open
        before, _ = ours(0)
        (vector,), load_ms = timed(lambda: server.embed(name, TEXT))
        (worker,) = server.ok("GET", "/models/ps")["workers"]
        loaded, _ = ours(worker["pid"])
        print(f"sandbox {sandbox} ({worker['sandbox']}): loaded and answered in {load_ms:.0f} ms, "
              f"VRAM {mib(loaded - before):.1f} MiB")
        expect(DRY or sandbox == "off" or worker["sandbox"].startswith("seccomp, landlock"),
               f"{sandbox}: the worker is not confined: {worker['sandbox']}")
        if DRY:
            reply = server.post("/models/park", {"model": name})
            expect(reply.status == 409 and b"holds no VRAM" in reply.body, f"on the CPU: {reply}")
            return True
        if not turns(server, name, vector, worker["pid"], before, loaded):
            print(server.stderr()[-3000:])
            return False
        receipt, _ = park(server, name)
        receipt, ms = timed(lambda: server.unload(name))
        used, listed = ours(worker["pid"])
        print(f"unloaded while it was parked: {ms:.0f} ms, {mib(receipt['returned_bytes'] or 0):.1f} "
              f"MiB of RAM came back, unaccounted {receipt['unaccounted_bytes']} bytes, VRAM "
              f"{mib(used):.1f} MiB")
        expect(receipt["worker"]["exited"] and receipt["reason"] == "request", f"{receipt}")
        expect(receipt["unaccounted_bytes"] <= 1 << 20,
               f"{receipt['unaccounted_bytes']} bytes are unaccounted for")
        expect(used == before and not listed, f"unloaded: {mib(used - before):.1f} MiB are left")
        return True


def part_park_model():
    """BERT-base on the GPU, in a worker that is confined, parked by its name, back with the
    next request."""
    print(f"device {DEVICE}")
    if not park_model("auto"):
        park_model("off")       # is it the sandbox?
