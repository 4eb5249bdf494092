"""tests/gpu/hold_target.py without a GPU: speaks as that does, and stands in
$FAKE_GPU_DIR as a process that holds memory (fake_gpus.py). For a dry run of
tests/gpu/hold; it computes nothing and knows so when it is parked."""
import fcntl
import os
import pathlib
import sys
import time

folder = pathlib.Path(os.environ["FAKE_GPU_DIR"])
place = folder / "processes" / str(os.getpid())
# the one that is shown
uuids = [line.split()[0] for line in (folder / "devices").read_text().splitlines()]
shown = os.environ.get("CUDA_VISIBLE_DEVICES")
device = uuids.index(shown) if shown in uuids else 0


def locked():
    file = open(folder / "lock", "r+")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def put(size, busy, gpus=(device,)):
    with locked():
        place.write_text(f"running {busy} 0 " + " ".join(f"{gpu} {size}" for gpu in gpus) + "\n")


def runs():
    with locked():
        return place.read_text().startswith("running ")


def parks():
    """How often it was parked. What it sees itself may be missed on a busy machine."""
    ends = f" cuCheckpointProcessCheckpoint {os.getpid()}"
    return sum(line.endswith(ends) for line in (folder / "log").read_text().splitlines())


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def compute(kind, size, first):
    if kind == "threads" and "FAKE_TARGET_GARBLED" in os.environ:
        say("at at 95")
    if kind == "busy":
        put(size, 1)
        say("at", 1)
        # until somebody has begun to wait for it, who gives it a second
        begun = f" cuCheckpointProcessGetState {os.getpid()}\n"
        deadline = time.monotonic() + 60
        while begun not in (folder / "log").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(4)
        put(size, 0)
    # the first time so many steps; then until it was parked twice, however slow that is
    step, before = 0, parks()
    while kind != "busy" and (step < 100 or (not first and parks() < before + 2)):
        while not runs():
            time.sleep(0.002)
        say("at", step)
        time.sleep(0.003)
        step += 1


def main():
    kind, size = sys.argv[1], 64 << 20
    if kind in ("plain", "two", "use"):
        size = int(sys.argv[2]) << 20
    if kind == "use":       # all the time, for a day to come
        now = int(time.time() * 1e6)
        (folder / "samples" / str(os.getpid())).write_text(
            f"{now - 3600 * 10**6} 0\n{now + 86400 * 10**6} 50\n")
    put(size, 0, (0, 1) if kind == "two" else (device,))
    say("ready")
    first = True
    for line in sys.stdin:
        while not runs():
            time.sleep(0.002)
        if line.strip() == "digest":
            say("digest", "of nothing")
        elif not first and "FAKE_TARGET_QUICK" in os.environ:
            # in one piece: however busy the machine is, it is done before it can be parked
            say("\n".join([*(f"at {step}" for step in range(100)), "done of nothing"]))
        else:
            compute(kind, size, first)
            first = False
            say("done", "of nothing")


if __name__ == "__main__":
    main()
