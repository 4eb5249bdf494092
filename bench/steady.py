#!/usr/bin/env python3
"""steady.py - what a long life costs, and what the server costs a request.

  requests  a million requests over 2,000 kept-alive connections: the memory of
            server and worker does not grow
  cycles    10,000 loads and unloads of a model while another one answers: the
            worker's memory does not grow, every receipt is exact
  share     requests a second through the server, worker on one core, server and
            clients on another, against the same batches in the engine alone on
            one core
  slow      10,000 clients that send a byte a second, while others are served

Exits with 1 when a figure is missed."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from common import ROOT, finish, harness, measure, options, percentile, scratch

sys.path.insert(0, str(ROOT / "experiments"))

import crowd  # noqa: E402
import make_models  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
FLAT = 256 * KIB
TEXT = "The harbour is quiet in winter, and the lighthouse answers."


class Table:
    """Lines of figures, and whether one was missed."""

    def __init__(self):
        self.lines, self.missed = [], False

    def add(self, name, value, limit=None, good=None):
        text = f"{name:<58} {value:>12}"
        if limit is not None:
            text += f" {limit:>10} {'reached' if good else 'MISSED'}"
            self.missed = self.missed or not good
        self.lines.append(text)

    def flat(self, name, samples):
        """The last half, all of it, stays within 256 KiB."""
        half = samples[len(samples) // 2:]
        spread = max(half) - min(half)
        self.add(f"{name}: spread over the last half, KiB", spread // KIB, FLAT // KIB,
                 spread <= FLAT)
        self.add(f"{name}: median of each quarter, MiB", " ".join(
            f"{percentile(samples[len(samples) * q // 4:len(samples) * (q + 1) // 4], 50) / MIB:.2f}"
            for q in range(4)))


def program(directory, name):
    """Compiles a C client; a Python one would measure Python."""
    path = pathlib.Path(directory) / name
    subprocess.run(["cc", "-std=gnu17", "-O2", "-D_GNU_SOURCE", "-o", path,
                    pathlib.Path(__file__).with_name(name + ".c")], check=True)
    return path


def load(directory, server, model, connections, requests, seconds=0, new=False, cores=None):
    """Runs load_client; returns a Popen whose output is one JSON object."""
    path = pathlib.Path(directory) / "load_client"
    if not path.exists():
        program(directory, "load_client")
    body = {"model": model, "input": TEXT, "encoding_format": "base64"}
    process = subprocess.Popen(
        [path, str(server.port), "/v1/embeddings", str(connections), str(requests), str(seconds),
         *(["new"] if new else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None)
    process.stdin.write(json.dumps(body).encode())
    process.stdin.close()
    process.stdin = None
    return process


def result(process):
    out = process.communicate()[0]
    if process.returncode != 0:
        raise SystemExit("load_client failed")
    return json.loads(out)


def at_rest(server, process):
    """(USS of the server, of its worker) while the clients of a process are held
    and nothing is in flight: what that holds comes and goes. A worker gives back
    what a crowd took when it had no work for 50 ms."""
    process.send_signal(signal.SIGSTOP)
    try:
        measure.wait_until(
            lambda: crowd.metrics(server)["vacate_http_requests_in_flight"] == 1, "rest")
        time.sleep(0.15)
        return measure.uss(server.pid), measure.uss(server.workers()[0])
    finally:
        process.send_signal(signal.SIGCONT)


def tiny(directory, *names):
    """A directory of random models, 0.4 MB each."""
    for seed, name in enumerate(names):
        make_models.make(pathlib.Path(directory) / "models" / name, make_models.preset(
            "tiny", seed=seed, sentence_transformers=True, normalize=True))
    return pathlib.Path(directory) / "models"


def requests(args, directory, table):
    server = harness.Server(tiny(directory, "tiny/a"), pathlib.Path(directory) / "log",
                            "--keep-alive", "-1", "--max-queue", "4096")
    try:
        server.load("tiny/a")
        process = load(directory, server, "tiny/a", args.connections, args.requests)
        time.sleep(1)    # connections are made
        samples = []
        while process.poll() is None:
            samples.append(at_rest(server, process))
            time.sleep(0.5)
        told = result(process)
        numbers = crowd.metrics(server)
        status = server.stop()
    finally:
        server.kill()
    table.add("requests answered", told["replies"])
    table.add("failed", told["failed"], 0, told["failed"] == 0)
    table.add("connections closed by the server", told["reconnects"], 0, told["reconnects"] == 0)
    if len(samples) < 10:
        raise SystemExit(f"steady.py: {args.requests} requests are over too soon to see what "
                         "happens to memory; ask for more")
    # The last ones may have seen the connections close.
    own, worker = zip(*samples[:-2])
    table.flat("server's USS", own)
    table.flat("worker's USS", worker)
    table.add("requests a second, held for measuring included",
              f"{told['replies'] / told['seconds']:.0f}")
    table.add("latency p50 / p99 / longest, ms", " / ".join(
        f"{told[k] / 1e3:.1f}" for k in ("p50_us", "p99_us", "longest_us")))
    table.add("server's exit status", status, 0, status == 0)
    return {**told, "server_uss": own, "worker_uss": worker, "metrics": numbers}


def cycles(args, directory, table):
    server = harness.Server(tiny(directory, "tiny/a", "tiny/b"), pathlib.Path(directory) / "log",
                            "--keep-alive", "-1")
    unaccounted, unequal, uss, own, times = 0, 0, [], [], []
    try:
        golden = server.embed("tiny/a", [TEXT])
        server.load("tiny/b")
        (worker,) = server.workers()
        # Answers all the while; ended by the end of the server's use.
        beside = load(directory, server, "tiny/b", 2, 10 ** 12)
        started = time.monotonic()
        for i in range(args.cycles):
            began = time.monotonic()
            if server.embed("tiny/a", [TEXT]) != golden:
                raise SystemExit(f"cycle {i}: another answer")
            receipt = server.unload("tiny/a")
            times.append(time.monotonic() - began)
            unaccounted = max(unaccounted, receipt["unaccounted_bytes"])
            unequal += receipt["worker"]["pid"] != worker
            if i % max(1, args.cycles // 500) == 0:
                uss.append(measure.uss(worker))
                own.append(measure.uss(server.pid))
        took = time.monotonic() - started
        beside.terminate()
        beside.communicate()
        answered = server.ok("GET", "/models/ps")["models"]
        numbers = crowd.metrics(server)
        status = server.stop()
    finally:
        server.kill()
    table.add("cycles of load, answer, unload", args.cycles)
    table.add("receipts of another worker", unequal, 0, unequal == 0)
    table.add("largest unaccounted, KiB", unaccounted // KIB, 1024, unaccounted <= MIB)
    table.flat("worker's USS", uss)
    table.flat("server's USS", own)
    table.add("a cycle, p50 / p99, ms", " / ".join(
        f"{percentile(times, p) * 1e3:.1f}" for p in (50, 99)))
    table.add("answers of the other model beside it, a second", f"{answered[0]['requests'] / took:.0f}"
              if answered else "-")
    table.add("server's exit status", status, 0, status == 0)
    return {"uss": uss, "server_uss": own, "unaccounted": unaccounted, "metrics": numbers}


def slow(args, directory, table):
    server = harness.Server(tiny(directory, "tiny/a"), pathlib.Path(directory) / "log",
                            "--keep-alive", "-1")
    clients = program(directory, "slow_client")
    rows = {}
    try:
        server.load("tiny/a")

        def serve(name):
            for kind, new in (("kept", False), ("new", True)):
                rows[name, kind] = result(load(directory, server, "tiny/a", 4, 10 ** 12,
                                               args.seconds, new))

        serve("without")
        idle = measure.uss(server.pid)
        with subprocess.Popen([clients, str(server.port), str(args.slow),
                               str(2 * args.seconds + 3)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            serve("with")
            memory = measure.uss(server.pid)
            told = json.loads(process.stdout.read())
        status = server.stop()
    finally:
        server.kill()
    table.add("slow clients", args.slow)
    table.add("their connections made / closed for others", f"{told['made']} / {told['closed']}")
    for kind in ("kept", "new"):
        before, during = rows["without", kind], rows["with", kind]
        for name, row in (("without", before), ("with them", during)):
            table.add(f"others, {kind} connections, {name}: p50 / p99 / longest, ms", " / ".join(
                f"{row[k] / 1e3:.1f}" for k in ("p50_us", "p99_us", "longest_us")))
        table.add(f"others, {kind} connections: failed", during["failed"], 0,
                  during["failed"] == 0)
        limit = max(5 * before["p99_us"], 50_000)
        table.add(f"others, {kind} connections: p99 with them, ms", f"{during['p99_us'] / 1e3:.1f}",
                  f"{limit / 1e3:.0f}", during["p99_us"] <= limit)
    table.add("server's USS before and with them, MiB", f"{idle / MIB:.1f} / {memory / MIB:.1f}")
    table.add("server's exit status", status, 0, status == 0)
    return {"rows": {" ".join(key): row for key, row in rows.items()}, "slow": told}


def share(args, directory, table):
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("steady.py: part share needs two cores")
    first, second = {cores[0]}, {cores[1]}
    models = {"tiny": (tiny(directory, "tiny/a"), "tiny/a")}
    if (pathlib.Path(args.models) / args.model / "config.json").is_file():
        models = {args.model: (args.models, args.model), **models}
    bench = harness.build_dir() / "bench" / "engine_bench"
    subprocess.run(["ninja", "-C", harness.build_dir(), "bench/engine_bench"], check=True,
                   stdout=subprocess.DEVNULL)
    values = {}
    for name, (place, model) in models.items():
        os.sched_setaffinity(0, second)    # the server inherits it
        server = harness.Server(place, pathlib.Path(directory) / "log", "--keep-alive", "-1",
                                "--threads", "1")
        try:
            server.load(model)
            (worker,) = server.workers()
            os.sched_setaffinity(worker, first)
            rows = []
            # In turn, so that both see the same machine.
            for _ in range(args.rounds):
                alone = subprocess.run(
                    [bench, pathlib.Path(place) / model, "--threads", "1", "--in-flight",
                     str(args.clients), "--seconds", str(args.seconds)], input=TEXT.encode(),
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                    env={**os.environ, "VACATE_BACKEND_PATH": str(harness.build_dir())},
                    preexec_fn=lambda: os.sched_setaffinity(0, first))
                alone = json.loads(alone.stdout)
                through = result(load(directory, server, model, args.clients, 10 ** 12,
                                      args.seconds))
                if through["failed"]:
                    raise SystemExit(f"{through['failed']} requests failed")
                rows.append((alone["answered"] / alone["seconds"],
                             through["replies"] / through["seconds"], through))
            server.stop()
        finally:
            server.kill()
            os.sched_setaffinity(0, cores)
        alone, through = (sorted(row[i] for row in rows)[len(rows) // 2] for i in (0, 1))
        ratio = through / alone * 100
        table.add(f"{name}: engine alone, one core, requests a second", f"{alone:.0f}")
        table.add(f"{name}: through the server", f"{through:.0f}")
        # The figure is of a model like all-MiniLM-L6-v2; a tiny one is told beside it.
        limit = ("90", ratio >= 90) if name != "tiny" or len(models) == 1 else ()
        table.add(f"{name}: share, %", f"{ratio:.1f}", *limit)
        values[name] = [{"alone": a, "through": t, **row} for a, t, row in rows]
    return values


def main():
    args = options(__doc__, part=("requests", "requests, cycles, share or slow"),
                   requests=(1_000_000, "of part requests"), connections=(2000, "of it"),
                   cycles=(10_000, "of part cycles"), slow=(10_000, "clients of part slow"),
                   clients=(64, "of part share"), rounds=(3, "of part share"),
                   seconds=(10, "of a measurement of parts share and slow"))
    os.environ.setdefault("VACATE_BUILD", str(ROOT / "build"))
    parts = {"requests": requests, "cycles": cycles, "share": share, "slow": slow}
    if args.part not in parts:
        sys.exit(f"steady.py: no part '{args.part}'; one of {', '.join(parts)}")
    table = Table()
    with scratch() as directory:
        values = parts[args.part](args, directory, table)
    finish(args, f"steady: {args.part}", table.lines, values)
    sys.exit(1 if table.missed else 0)


if __name__ == "__main__":
    main()
