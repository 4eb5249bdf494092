#!/usr/bin/env python3
"""limits.py - server and workers inside a control group of 1, 2, 4, 8 and 16 GiB,
with five models of the sizes that people compare (random weights) asked in turn.

The limit is the kernel's: children of the control group that --group names, of
version 1, or of version 2 with memory in its cgroup.subtree_control; as root, of a
group that is yours alone: no service's, no container's. Who goes over it is killed.
Nothing may be killed or fail, every answer must be the model's own, and a limit
that all five do not fit in shows evictions. Exits with 1 when a figure is missed,
and with 77 where no control group can be made."""
import contextlib
import os
import pathlib
import sys
import time

from common import ROOT, finish, harness, options, percentile, scratch

sys.path.insert(0, str(ROOT / "experiments"))

import crowd  # noqa: E402
import make_models  # noqa: E402

GIB, MIB = 1 << 30, 1 << 20
# As many parameters as the model of that name; all of BERT's structure.
MODELS = {
    "bert-base-uncased": make_models.preset("bert-base"),
    "gpt2": make_models.preset("bert-base", vocab=50257, positions=1024),
    "bert-base-japanese-v2": make_models.preset("bert-base", vocab=32768),
    "all-MiniLM-L6-v2": make_models.preset("minilm-l6"),
    "multilingual-e5-small": make_models.preset("minilm-l6", layers=12, vocab=250037),
}
TEXTS = ["The harbour is quiet in winter.", "A lighthouse by the sea answers all night."]


class Impossible(Exception):
    """No control group can be made here."""


class Group:
    """A control group with a limit of memory and no swap, below another one;
    removed at the end."""

    def __init__(self, parent, limit):
        self.path = pathlib.Path(parent) / f"vacate-limits-{os.getpid()}"
        try:
            self.path.mkdir()
            self.version = 1 if (self.path / "memory.limit_in_bytes").exists() else 2
            self._write("memory.limit_in_bytes" if self.version == 1 else "memory.max", limit)
            swap = "memory.swappiness" if self.version == 1 else "memory.swap.max"
            if (self.path / swap).exists():
                self._write(swap, 0)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            raise Impossible(str(error)) from None

    def _write(self, name, value):
        with open(self.path / name, "r+", encoding="ascii") as file:    # never a new file
            file.write(str(value))

    def _read(self, name, key):
        for line in (self.path / name).read_text().splitlines():
            if line.split()[0] == key:
                return int(line.split()[1])
        return 0

    def kills(self):
        if self.version == 1:
            return self._read("memory.oom_control", "oom_kill")
        return self._read("memory.events", "oom_kill")

    def used(self):
        name = "memory.usage_in_bytes" if self.version == 1 else "memory.current"
        return int((self.path / name).read_text())

    def remove(self):
        for _ in range(100):    # processes leave it a moment after their end
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.05)


def ask(server, name):
    return server.embed(name, TEXTS)


def equal(a, b):
    return all(abs(x - y) <= crowd.TOLERANCE for r, s in zip(a, b, strict=True)
               for x, y in zip(r, s, strict=True))


def run(parent, limit, models, golden, rounds, directory):
    """What happens within a limit; a dictionary of figures."""
    group = Group(parent, limit)
    wrapper = [sys.executable, "-c", "import os, sys; open(sys.argv[1], 'w').write(str("
               "os.getpid())); os.execv(sys.argv[2], sys.argv[2:])", group.path / "cgroup.procs"]
    try:
        server = harness.Server(models, pathlib.Path(directory) / f"log-{limit}", "--ram", "100%",
                                wrapper=wrapper)
        try:
            sampler = crowd.Sampler(server)
            sampler.start()
            wrong, times = [], []
            started = time.monotonic()
            for _ in range(rounds):
                for name in golden:
                    began = time.monotonic()
                    if not equal(ask(server, name), golden[name]):
                        wrong.append(name)
                    times.append(time.monotonic() - began)
            took = time.monotonic() - started
            used = group.used()
            sampler.finish()
            numbers = crowd.metrics(server)
            status = server.stop()
        finally:
            server.kill()
        return {"limit": limit, "peak": sampler.peak, "used": used, "kills": group.kills(),
                "wrong": wrong, "status": status, "took": took, "times": times,
                "evictions": int(numbers["vacate_evictions_total"]),
                "deaths": int(numbers["vacate_worker_deaths_total"])}
    finally:
        group.remove()


def zoo(place):
    for seed, (name, spec) in enumerate(MODELS.items(), 1):
        where = pathlib.Path(place) / name
        if not where.exists():
            spec.seed, spec.sentence_transformers, spec.normalize = seed, True, True
            make_models.make(where, spec)
    return pathlib.Path(place)


def main():
    args = options(__doc__, rounds=(5, "of asking each model"), zoo=("", "keep the models there"),
                   limits=("1,2,4,8,16", "GiB, those that the machine has"),
                   group=("", "directory of the control group to make others below"))
    if not args.group:
        print("limits.py: skipped: --group names no control group")
        sys.exit(77)
    os.environ.setdefault("VACATE_BUILD", str(ROOT / "build"))
    lines, missed, rows = [], False, []
    lines.append(f"{'limit':>6} {'most of ours':>12} {'at end, cached':>15} {'evictions':>9} "
                 f"{'answer p50 / longest, ms':>24}  nothing killed, all answers right")
    with scratch() as directory:
        try:
            Group(args.group, GIB).remove()
            models = zoo(args.zoo or directory)
            server = harness.Server(models, pathlib.Path(directory) / "alone")
            try:
                golden = {name: ask(server, name) for name in MODELS}
                server.stop()
            finally:
                server.kill()
            for gib in map(int, args.limits.split(",")):
                if gib * GIB > crowd.memory("MemTotal"):
                    lines.append(f"{gib:>2} GiB: left out, the machine has "
                                 f"{crowd.memory('MemTotal') / GIB:.0f}")
                    continue
                row = run(args.group, gib * GIB, models, golden, args.rounds, directory)
                good = (row["kills"] == row["deaths"] == row["status"] == 0 and not row["wrong"]
                        and row["peak"] <= row["limit"])
                missed = missed or not good
                rows.append(row)
                lines.append(
                    f"{gib:>2} GiB {row['peak'] / MIB:>8.0f} MiB {row['used'] / MIB:>11.0f} MiB "
                    f"{row['evictions']:>9} "
                    f"{percentile(row['times'], 50) * 1e3:>15.0f} / {max(row['times']) * 1e3:>6.0f}"
                    f"  {'reached' if good else 'MISSED'}")
        except Impossible as reason:
            print(f"limits.py: skipped: {reason}")
            sys.exit(77)
    finish(args, "limits: five models in turn", lines, {"rows": rows})
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
