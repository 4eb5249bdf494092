"""crowd.py - many clients, many models, room for a few: the load that the tests
and the benchmark of evictions share. Answers are compared with what each model
answered alone; memory is read from /proc by an onlooker.
"""
import base64
import bisect
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

import harness
import make_models
import measure

TEXTS = ("A quiet harbour.", "the red train stops at the station in winter",
         "bread, cheese and an apple", "", "Wer kennt den Weg zum Leuchtturm?",
         "galaxy comet planet ocean desert forest castle bridge engine bicycle orange apple")
# Batches of other sizes may sum in another order: bench/ and docs/ state the
# same bound against transformers.
TOLERANCE = 2e-6


# ---- models ----

def make_zoo(path, count, sample=None, small=False):
    """count models below path: random ones of three sizes and, when the sample's
    directory is given, every tenth a copy of that. Returns their names."""
    names = []
    for i in range(count):
        name = f"zoo/m{i:02d}"
        names.append(name)
        where = pathlib.Path(path) / name
        if where.exists():
            continue
        where.parent.mkdir(parents=True, exist_ok=True)
        if sample and i % 10 == 4:
            copy(pathlib.Path(sample), where)
        elif small or i % 5 == 3:
            make_models.make(where, make_models.preset(
                "tiny", seed=1000 + i, hidden=64 if i % 2 else 96, sentence_transformers=True,
                normalize=True))
        else:
            make_models.make(where, make_models.preset(
                "minilm-l6", seed=1000 + i, layers=2 + i % 3, vocab=2000,
                sentence_transformers=True, normalize=True))
    return names


def copy(source, target):
    """A directory of the same files, without their bytes a second time where the file
    system allows it. No symbolic links: a model's may not lead out of where models lie."""
    for path in source.rglob("*"):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                to.hardlink_to(path.resolve())
            except OSError:
                shutil.copyfile(path, to)


def budget_bytes(server, names, room):
    """What room models of the mean size take, one of them being loaded."""
    plans = [server.ok("GET", f"/models/plan?model={name}")["plan"] for name in names]
    own = sum(p["own_host_bytes"] for p in plans) / len(plans)
    return int(room * own + max(p["host_bytes"] - p["own_host_bytes"] for p in plans)
               + max(p["load_bytes"] for p in plans))


def alone(server, names):
    """Each model's answers to TEXTS, no other model beside it: the golden."""
    golden = {}
    for name in names:
        golden[name] = server.embed(name, list(TEXTS))
        server.unload(name)
    return golden


# ---- what happens beside ----

class Background(threading.Thread):
    """step() again and again until the end."""

    def __init__(self, every_s):
        super().__init__(daemon=True)
        self.every_s, self.ended, self.error = every_s, threading.Event(), None

    def run(self):
        try:
            while not self.ended.wait(self.every_s):
                self.step()
        except Exception as error:    # told by finish()
            self.error = error

    def finish(self):
        self.ended.set()
        self.join()
        if self.error:
            raise self.error


class Sampler(Background):
    """The most memory of server and workers together, and the server's USS over time."""

    def __init__(self, server, every_s=0.1):
        super().__init__(every_s)
        self.server, self.peak, self.peak_file, self.samples, self.uss = server, 0, 0, 0, []

    def step(self):
        total = files = 0
        for pid in [self.server.pid, *self.server.workers()]:
            with contextlib.suppress(measure.Gone, PermissionError):
                fields = measure.smaps_rollup(pid)
                total += fields["Pss_Anon"] + fields["Pss_Shmem"]
                files += fields["Pss_File"]
        self.peak, self.peak_file = max(self.peak, total), max(self.peak_file, files)
        self.samples += 1
        if self.samples % 10 == 1:
            self.uss.append(measure.uss(self.server.pid))


class Killer(Background):
    """SIGKILL to a worker, again and again."""

    def __init__(self, server, every_s=5.0):
        super().__init__(every_s)
        self.server, self.kills = server, 0

    def step(self):
        for pid in self.server.workers()[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1


class Hog(Background):
    """A process that takes share of the machine's memory and gives it back."""

    def __init__(self, share=0.4, hold_s=3.0, free_s=5.0):
        super().__init__(free_s)
        self.bytes, self.hold_s, self.rounds = int(share * memory("MemTotal")), hold_s, 0

    def step(self):
        program = harness.ROOT / "scripts" / "hog.py"
        with subprocess.Popen([sys.executable, str(program), str(self.bytes)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                if process.stdout.readline() != b"held\n":
                    raise RuntimeError("the hog could not take its memory")
                self.rounds += 1
                self.ended.wait(self.hold_s)
            finally:
                process.kill()


def memory(key):
    """A value of /proc/meminfo, bytes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) << 10
    raise KeyError(key)


# ---- clients ----

class Crowd:
    """clients threads that ask models by Zipf's law until the time is over."""

    def __init__(self, server, golden, clients, seconds, exponent=1.0, seed=1):
        self.server, self.golden, self.names = server, golden, list(golden)
        self.seed, self.end = seed, time.monotonic() + seconds
        weights = [1 / (rank + 1) ** exponent for rank in range(len(self.names))]
        self.cumulative = list(itertools.accumulate(weights))
        self.lock = threading.Lock()
        self.answers = dict.fromkeys(self.names, 0)
        self.wrong, self.failed, self.killed_twice = [], [], 0
        self.latencies, self.inexact = [], 0
        self.threads = [threading.Thread(target=self._client, args=(i,), daemon=True)
                        for i in range(clients)]

    def run(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        return self

    def pick(self, dice):
        at = bisect.bisect(self.cumulative, dice.random() * self.cumulative[-1])
        return self.names[min(at, len(self.names) - 1)]

    def _client(self, number):
        dice = random.Random(self.seed * 1000 + number)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        with contextlib.closing(connection):
            while time.monotonic() < self.end:
                name = self.pick(dice)
                which = dice.sample(range(len(TEXTS)), dice.randint(1, 3))
                started = time.monotonic()
                try:
                    connection.request("POST", "/v1/embeddings", json.dumps(
                        {"model": name, "input": [TEXTS[i] for i in which],
                         "encoding_format": "base64"}))
                    reply = connection.getresponse()
                    status, body = reply.status, reply.read()
                except OSError as error:
                    status, body = 0, repr(error).encode()
                    connection.close()
                self._judge(name, which, status, body, time.monotonic() - started)

    def _judge(self, name, which, status, body, seconds):
        if status != 200:
            with self.lock:
                if status == 503 and b"workers and is given up" in body or \
                        b"(tried on two workers)" in body:
                    self.killed_twice += 1
                else:
                    self.failed.append(f"{name}: {status} {body[:300]!r}")
            return
        exact, right = True, True
        for i, item in zip(which, json.loads(body)["data"]):
            vector = harness.floats(item["embedding"])
            if vector != self.golden[name][i]:
                exact = False
                right = right and len(vector) == len(self.golden[name][i]) and max(
                    abs(a - b) for a, b in zip(vector, self.golden[name][i])) <= TOLERANCE
        with self.lock:
            self.answers[name] += 1
            self.latencies.append(seconds)
            self.inexact += not exact
            if not right:
                self.wrong.append(f"{name}: texts {which}")


class Alternation:
    """clients threads for each of two models of which one fits."""

    def __init__(self, server, golden, clients, seconds):
        self.server, self.golden, self.end = server, golden, time.monotonic() + seconds
        self.clients, self.lock = clients, threading.Lock()
        self.times = {name: [] for name in golden}
        self.failed = []

    def run(self):
        threads = [threading.Thread(target=self._client, args=(name,), daemon=True)
                   for name in self.golden for _ in range(self.clients)]
        self.began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds = time.monotonic() - self.began
        return self

    def _client(self, name):
        want = struct.pack(f"<{len(self.golden[name][0])}f", *self.golden[name][0])
        body = json.dumps({"model": name, "input": TEXTS[0], "encoding_format": "base64"})
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        with contextlib.closing(connection):
            while time.monotonic() < self.end:
                connection.request("POST", "/v1/embeddings", body)
                reply = connection.getresponse()
                text = reply.read()
                right = reply.status == 200 and base64.b64decode(
                    json.loads(text)["data"][0]["embedding"]) == want
                with self.lock:
                    self.times[name].append(time.monotonic())
                    if not right:
                        self.failed.append(f"{name}: {reply.status} {text[:200]!r}")

    def longest_gap(self, *names):
        """Seconds in which none of those models answered."""
        times = sorted(t for name in names for t in self.times[name])
        return max((b - a for a, b in zip([self.began, *times], times)), default=self.seconds)


def metrics(server):
    """name{labels} -> value, and name -> the sum over its labels."""
    out = {}
    for line in server.get("/metrics").body.decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            for key in {name, name.partition("{")[0]}:
                out[key] = out.get(key, 0) + float(value)
    return out
