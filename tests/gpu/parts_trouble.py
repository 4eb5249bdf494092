"""parts_trouble.py - parts of tests/gpu/run: a GPU that refuses, several GPUs, races."""
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import time

from shared import (DEVICE, DRY, HERE, WORK, WORDS, Budget, Skip, Watch, bert_base, cosine,
                    devices, expect, mib, minilm, run, said, serving,
                    server_tools)
from stream import ONLY

TEXT = "a lighthouse by the sea"

# --- sticky ------------------------------------------------------------------


def true_cuda():
    """The driver's own libcuda, where the loader finds it for others than the shim."""
    if DRY:
        return ""
    done = run([sys.executable, "-c", "import ctypes; ctypes.CDLL('libcuda.so.1'); "
                "print(next(x.split()[-1] for x in open('/proc/self/maps') if 'libcuda.so' in x))"],
               text=True)
    if done.returncode != 0:
        raise Skip(f"libcuda.so.1 was not found: {said(done)}")
    return done.stdout.strip()


def part_sticky():
    """A kernel is given a bad pointer, by a library between worker and driver: the context
    is lost, the worker ends and says why, the request is answered by the next one."""
    shim = HERE / "shim"
    if not DRY and not (shim / "libcuda.so.1").exists():
        raise Skip(f"{shim}/libcuda.so.1 is not there; scripts/carry.sh builds it")
    bert_base(), minilm()
    watch = Watch()
    env = {"VACATE_CUDA_PATH": str(shim), "VACATE_CUDA_REAL": true_cuda()}
    with serving("sticky", "--journal", str(WORK / "sticky.jsonl"), env=env) as server:
        (truth,) = server.embed("minilm", TEXT)
        server.embed("bert-base", TEXT)
        loaded = watch.used()
        (worker,) = server.ok("GET", "/models/ps")["workers"]
        os.kill(worker["pid"], signal.SIGKILL if DRY else signal.SIGUSR2)
        start = time.time()
        (vector,) = server.embed("minilm", TEXT)
        print(f"answered {(time.time() - start) * 1e3:.0f} ms after the kernel's fault")
        expect(vector == truth, "sticky: another answer")
        (now,) = server.ok("GET", "/models/ps")["workers"]
        expect(now["pid"] != worker["pid"], "sticky: the worker lives on")
        expect(worker["pid"] not in watch.pids(), "sticky: NVML still lists the worker")
        lines = [line for line in server.stderr().splitlines() if "GPU ended" in line]
        print("log: " + (lines[0] if lines else "NOTHING"))
        expect(DRY or lines, "sticky: no line of the log names the fault")
        receipts = [r for r in server.ok("GET", "/receipts")["receipts"]
                    if r["reason"] == "worker_died"]
        for receipt in receipts:
            vram = receipt["vram"] or {}
            print(f"receipt: {receipt['model']}, {receipt['reason']}, "
                  f"{mib(vram.get('returned_bytes') or 0):.1f} MiB of VRAM returned, "
                  f"{receipt['unaccounted_bytes']} unaccounted, listed "
                  f"{(vram.get('after') or {}).get('listed')}")
        expect({r["model"] for r in receipts} == {"minilm", "bert-base"},
               f"sticky: receipts of {[r['model'] for r in receipts]}")
        server.embed("bert-base", TEXT)
        expect(DRY or abs(watch.used() - loaded) <= 4 << 20,
               f"sticky: {mib(watch.used()):.1f} MiB used, {mib(loaded):.1f} before")
        for name in ("minilm", "bert-base"):
            server.unload(name)
    used = watch.pids()
    watch.close()
    expect(not used, f"sticky: processes {used} are left on the GPU")


# --- sandbox -----------------------------------------------------------------


def confined(how):
    """Two models under VACATE_GPU_SANDBOX=how: loaded, asked, unloaded until the worker ends,
    twice. Answers by what was asked, what the worker says confines it, ms of the loads, lines
    of the log, the most of a second that its worker computes over who connects to it."""
    answers, loads, words, busy = {}, [], set(), None
    env = {"VACATE_GPU_SANDBOX": how}
    with serving(f"sandbox-{re.sub('[/=,]', '_', how)}", "--headroom", "1MiB", env=env) as server:
        for cycle in range(2):
            for name in ("bert-base", "minilm"):
                start = time.time()
                server.ok("POST", "/models/load", {"model": name})
                loads.append(round((time.time() - start) * 1e3))
                answers[cycle, name, "one text"] = server.embed(name, TEXT)
                answers[cycle, name, "many texts"] = server.embed(
                    name, [f"{word} {TEXT}" for word in WORDS])
            workers = server.ok("GET", "/models/ps")["workers"]
            words |= {w["sandbox"] for w in workers}
            if cycle == 1:
                busy = busy_with_peers(how, workers[0]["pid"])
            for name in ("minilm", "bert-base"):
                receipt = server.unload(name)
            expect(receipt["worker"]["exited"], f"{how}: the last unload left the worker")
            vram = (receipt["vram"] or {}).get("after") or {}
            expect(DRY or vram.get("listed") is False, f"{how}: {receipt['vram']}")
        lines = server.stderr().splitlines()
    return answers, words, loads, lines, busy


def seconds_of(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def driver_socket(pid):
    """The abstract one on which the driver listens in process pid, or None."""
    for line in open("/proc/net/unix"):
        name = line.split()[-1]
        if "cuda-uvmfd" in name and name.rstrip("@").endswith(f"-{pid}"):
            return name.replace("@", "\0")     # /proc shows a zero byte as @
    return None


def busy_with_peers(how, pid):
    """Somebody connects to the driver's socket in worker pid, says something, goes: the most
    of a second that the worker then computes. None: there is no such socket."""
    name = driver_socket(pid)
    if not name:
        print(f"{how or 'by default'}: no socket of the driver's")
        return None
    times = []

    def wait():
        time.sleep(0.2)
        before = seconds_of(pid)
        time.sleep(1)
        times.append(seconds_of(pid) - before)

    clients = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    try:
        for client in clients:
            client.settimeout(1)
            client.connect(name)
        wait()
        said = "nothing came"
        try:
            clients[0].send(bytes(64))
            said = f"{len(clients[0].recv(256))} bytes came"
        except OSError as problem:
            said = f"{problem}"
        wait()
    except OSError as problem:
        print(f"{how or 'by default'}: the driver's socket cannot be connected to: {problem}")
        return None
    finally:
        for client in clients:
            client.close()
    wait()
    print(f"{how or 'by default'}: who connects to the driver's socket costs {times[0]:.2f} s of a "
          f"second; sends 64 bytes ({said}): {times[1]:.2f}; is gone: {times[2]:.2f}", flush=True)
    return max(times)


def same_answers(how, answers, truth):
    """Each difference is named: which model, which life, how large."""
    different = []
    for key, vectors in answers.items():
        for other in (truth, answers):      # of the first life in the same server, too
            wanted = other[(0 if other is answers else key[0],) + key[1:]]
            if vectors != wanted:
                worst = max(1 - cosine(a, b) for a, b in zip(vectors, wanted))
                count = sum(a != b for a, b in zip(vectors, wanted))
                different.append(f"{' '.join(map(str, key))}: {count} of {len(vectors)} are not "
                                 f"those {'without it' if other is truth else 'of life 0'}, "
                                 f"1 - cosine up to {worst:.1e}")
    for line in different:
        print(f"  {line}")
    expect(not different, f"{how}: other answers")
    return not different


LADDER = ["on,files", "on,calls", "on,files,calls", "on,connect", "on,symlink",
          "on,connect,symlink,symlinkat,socket,setsockopt,getsockopt",
          "on,/proc", "on,/sys", "on,/etc", "on,/dev/shm", "on,/"]
# What the driver's thread may do with who connects, and how accept may fail: EBADF,
# ECONNABORTED, EINVAL, EAGAIN, ENOSYS, EOPNOTSUPP, EMFILE.
PEERS = ["on,getsockopt,setsockopt,sendmsg,recvmsg,sendto,recvfrom", "on,calls", "on,files,calls",
         *(f"on,accept={n},accept4={n}" for n in (9, 103, 22, 11, 38, 95, 24))]
BUSY = 0.1      # of a second


def climb(ladder, budget):
    for how in ladder:
        if not budget.has(25, f"VACATE_GPU_SANDBOX={how}"):
            continue
        try:
            _, words, loads, _, _ = confined(how)
            print(f"{how:<40} lives ({', '.join(words)}), loads {loads} ms", flush=True)
        except Exception as problem:
            print(f"{how:<40} {str(problem)[-200:]}", flush=True)


def part_sandbox():
    """What of the driver's needs the profile lacks (a trial says), whether models live under
    it, as they do by default, and whether anybody can keep a confined worker busy over the
    driver's socket. If they do not, which wall and which call it is that must let more
    through; if he can, which answer of accept's ends that."""
    budget = Budget(300)
    bert_base(), minilm()
    truth, _, plain, _, usual = confined("off")
    same_answers("off", truth, truth)
    answers, words, loads, lines, _ = confined("trial")
    refused = [line.partition("trial: ")[2] for line in lines if "trial: would refuse" in line]
    print(f"trial ({', '.join(words)}): {len(refused)} things would be refused")
    # numbers of threads and descriptors differ in each life
    print(*(f"  {line}" for line in dict.fromkeys(re.sub(r"/task/\d+/", "/task/N/", x)
                                                 for x in refused)), sep="\n")
    same_answers("trial", answers, truth)
    tried = words == {"none (a trial)"}
    if not budget.has(60, "the sandbox itself"):
        return
    try:
        answers, words, loads, lines, busy = confined("")
    except Exception as problem:
        expect(False, f"by default: {problem!r}: the models do not live under it")
        climb(LADDER, budget)
        return
    same_answers("by default", answers, truth)
    stopped = [line for line in lines if "sandbox stopped" in line or "without the lock" in line]
    expect(not stopped, f"by default: {stopped}")
    both = all(w.startswith("seccomp, landlock") for w in words)
    print(f"by default ({', '.join(words)}): loads {loads} ms, {plain} without")
    if busy is not None:
        expect(busy < BUSY, f"who connects keeps a confined worker busy for {busy:.2f} s of a "
               f"second ({usual or 0:.2f} without the sandbox)")
        if busy >= BUSY:
            climb(PEERS, budget)
    if not DRY and not (both and tried):
        raise Skip(f"the kernel here ({os.uname().release}) has not all of it: what it showed "
                   "counts, but not for both walls")


# --- devices -----------------------------------------------------------------


def placed(server):
    return {m["name"]: m["device"] for m in server.ok("GET", "/models/ps")["models"]}


def part_devices():
    """Two GPUs: a model on each, models of one by the name, auto, and what is visible."""
    found = devices()
    if len(found) < 2:
        raise Skip(f"{len(found)} GPU here, two are needed")
    watch = Watch()
    first = [d["used"] for d in watch.read()]

    def grown():
        return [mib(d["used"] - before) for d, before in zip(watch.read(), first)]

    bert_base(), minilm()
    print(f"used at first, MiB: {[round(mib(x), 1) for x in first]}")
    with serving("auto", device="auto") as server:
        (a,) = server.embed("bert-base", TEXT)
        one = placed(server)["bert-base"]
        (b,) = server.embed("minilm", TEXT)
        print(f"auto: {placed(server)}, grown by {[round(x, 1) for x in grown()]} MiB, listed "
              f"{[len(d['processes']) for d in watch.read()]}")
        expect(len(set(placed(server).values())) == 2, "auto put both on one GPU")
        receipt = server.unload("bert-base")
        expect(receipt["device"] == one and receipt["worker"]["exited"] and
               not receipt["vram"]["after"]["listed"], f"auto: {receipt['vram']}")
        expect(server.embed("minilm", TEXT) == [b], "auto: another answer beside an unload")
        server.unload("minilm")
        print(f"auto: after both unloads grown by {[round(x, 1) for x in grown()]} MiB")
    expect(all(abs(x) <= 4 for x in grown()), f"auto: VRAM is left: {grown()}")
    for number in (0, 1):
        with serving(f"cuda{number}", device=f"cuda:{number}") as server:
            expect(server.embed("bert-base", TEXT) == [a], f"cuda:{number}: another answer")
            where = [i for i, x in enumerate(grown()) if x > 100]
            (worker,) = server.ok("GET", "/models/ps")["workers"]
            print(f"cuda:{number}: {placed(server)}, NVML's device {where}, worker's VRAM "
                  f"{mib(worker['vram_bytes'] or 0):.1f} MiB")
            expect(len(where) == 1 and worker["vram_bytes"], f"cuda:{number}: {where}")
            server.unload("bert-base")
    uuids = [d["uuid"] for d in found]
    for visible, expected in (("1", 1), (uuids[1], 1), (uuids[0][:12], 0),
                              (f"{uuids[1]},{uuids[0]}", 1)):
        with serving("visible", device="cuda:0",
                     env={"CUDA_VISIBLE_DEVICES": visible}) as server:
            server.embed("minilm", TEXT)
            where = [i for i, x in enumerate(grown()) if x > 100]
            (gpu, *more) = server.ok("GET", "/models/ps")["gpus"]
            print(f"CUDA_VISIBLE_DEVICES={visible}: cuda:0 is NVML's device {where}, "
                  f"{1 + len(more)} known, uuid as NVML's {gpu['uuid'] == uuids[expected]}")
            # the numbers of driver and NVML need not be in the same order; UUIDs are
            expect(gpu["uuid"] == uuids[where[0]] if where else False,
                   f"visible {visible}: {gpu['uuid']} is not where the memory went")
            if "-" in visible:
                expect(where == [expected], f"visible {visible}: on device {where}")
            server.unload("minilm")
    try:
        with serving("none", device="cuda:0", env={"CUDA_VISIBLE_DEVICES": "7"}):
            expect(False, "none visible: the server for cuda:0 started")
    except server_tools()[0].StartError as problem:
        last = str(problem).strip().splitlines()[-1]
        print(f"CUDA_VISIBLE_DEVICES=7: {last}")
        expect("sees no GPU; look at CUDA_VISIBLE_DEVICES" in last, f"none visible: {last}")
    watch.close()


# --- racecheck ---------------------------------------------------------------

TOOLS = [("racecheck", ["--racecheck-report", "all"]), ("memcheck", ["--leak-check", "full"]),
         ("initcheck", [])]


def cuda_program(name):
    """Where one of the toolkit's is, or None."""
    return shutil.which(name) or shutil.which(
        name, path="/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer")


class Nvcc:
    """Compiles programs of our kernels for this GPU."""

    def __init__(self):
        self.nvcc = cuda_program("nvcc")
        if not self.nvcc or DRY:
            raise Skip("nvcc is not here, or no GPU")
        self.kernels = next(p for p in (HERE / "kernels",
                                        HERE.parent.parent / "src/engine/cuda/kernels")
                            if p.is_dir())
        capability = run(["nvidia-smi", *ONLY, "--query-gpu=compute_cap", "--format=csv,noheader"],
                         text=True).stdout.split()[0]
        self.has_wgmma = capability == "9.0"
        self.target = ["-gencode", "arch=compute_90a,code=sm_90a", "-DVAC_WGMMA"] \
            if self.has_wgmma else ["-arch=native"]
        WORK.mkdir(parents=True, exist_ok=True)

    def program(self, source, element, *more):
        """Its path, or None: it does not compile."""
        to = WORK / f"{source}-{element}"
        done = run([self.nvcc, "-O2", "-std=c++17", "-DVAC_IMPATIENT", *self.target, f"-DVAC_ELEMENT={element}", "-I",
                    self.kernels, "-o", to, HERE / f"{source}.cu", *more], text=True)
        expect(done.returncode == 0, f"{source}, {element}: does not compile: {said(done)}")
        return to if done.returncode == 0 else None


def part_racecheck():
    """kernels_check.cu: our kernels alone, since cuBLASLt's do not run under racecheck."""
    nvcc, tool = Nvcc(), cuda_program("compute-sanitizer")
    if not tool:
        raise Skip("compute-sanitizer is not here")
    for element, name in ((16, "float16"), (17, "bfloat16"), (32, "float32")):
        program = nvcc.program("kernels_check", element)
        if not program:
            continue
        done = run([program], text=True, timeout=60)
        expect(done.returncode == 0, f"{name}: {done.stdout[-600:]} {said(done)}")
        print(done.stdout, end="")
        for check, more in TOOLS:
            done = run([tool, "--tool", check, *more, "--error-exitcode", "9", program],
                       text=True, timeout=100)
            summary = [line.strip("= ") for line in done.stdout.splitlines() if "SUMMARY" in line]
            print(f"{check:<10}{name:<10}{summary[-1] if summary else 'nothing said'}", flush=True)
            expect(done.returncode == 0 and summary,
                   f"{check}, {name}: status {done.returncode}, {done.stdout[-500:]}")


def part_product():
    """product_wgmma.cu: right, and against cuBLASLt's product and our GELU after it."""
    nvcc = Nvcc()
    if not nvcc.has_wgmma:
        raise Skip("the kernel is for compute capability 9.0 alone")
    for element in (16, 17):
        check = nvcc.program("kernels_check", element)
        done = check and run([check], text=True, timeout=60)
        if done:
            print(*(line for line in done.stdout.splitlines() if "product" in line), sep="\n")
            expect(done.returncode == 0, f"kernels_check, {element}: {said(done)}")
        timed = nvcc.program("product_time", element, "-lcublasLt")
        done = timed and run([timed], text=True, timeout=60)
        if done:
            print(done.stdout, end="", flush=True)
            expect(done.returncode == 0, f"product_time, {element}: {said(done)}")
