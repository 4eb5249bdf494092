#!/usr/bin/env python3
"""keeper.py - many models and room for a few.

  zipf   40 models, a budget for 8, 64 clients that ask by Zipf's law: nothing
         fails, no answer is wrong, memory stays within the budget
  kill   the same, with a worker killed every 5 s and a process that takes and
         gives back 40 % of the memory
  swap   two models with room for one, 8 clients each: both answer; what the
         changes cost

Answers are compared with what each model answered alone. Memory is
Pss_Anon + Pss_Shmem of server and workers, read from /proc every 100 ms."""
import os
import pathlib
import sys
import time

from common import ROOT, finish, harness, measure, options, percentile, scratch

sys.path.insert(0, str(ROOT / "experiments"))

import crowd  # noqa: E402

MIB = 1 << 20


def line(name, value, limit=None, good=None):
    text = f"{name:<52} {value:>12}"
    if limit is not None:
        text += f" {limit:>10} {'reached' if good else 'MISSED'}"
    return text


def setup(args, directory):
    """(directories, names, golden, budget) of the zoo."""
    sample = pathlib.Path(args.models) / args.model
    zoo = pathlib.Path(args.zoo or directory)
    names = crowd.make_zoo(zoo, args.count, sample if sample.is_dir() else None)
    server = harness.Server(zoo, pathlib.Path(directory) / "alone")
    try:
        budget = crowd.budget_bytes(server, names, args.room)
        golden = crowd.alone(server, names)
    finally:
        server.stop()
    return zoo, golden, budget


def zipf(args, directory, kill):
    zoo, golden, budget = setup(args, directory)
    extra = []
    if kill:
        # Without the hog there is room for every load, with it for none.
        extra = ["--headroom",
                 str(crowd.memory("MemAvailable") - int(0.3 * crowd.memory("MemTotal")))]
    server = harness.Server(zoo, pathlib.Path(directory) / "log", "--ram", str(budget), *extra)
    beside = [crowd.Sampler(server)]
    if kill:
        beside += [crowd.Killer(server), crowd.Hog()]
    try:
        for thread in beside:
            thread.start()
        it = crowd.Crowd(server, golden, args.clients, args.seconds).run()
        for thread in beside:
            thread.finish()
        numbers = crowd.metrics(server)
        status = server.stop()
    finally:
        server.kill()
    sampler = beside[0]
    answered = sum(it.answers.values())
    half = len(sampler.uss) // 2
    grown = (max(sampler.uss[half:]) - max(sampler.uss[:half])) / 1024 if half else 0
    over = sampler.peak / budget * 100 - 100
    lost = len(it.failed)
    lines = [
        line("requests answered", answered),
        line("requests that failed" + (", retry not killed" if kill else ""), lost, 0, lost == 0),
        line("answers that differ from the model's own by > 2e-6", len(it.wrong), 0,
             not it.wrong),
        line("most memory over the budget, %", f"{over:.1f}", "5.0", over <= 5),
        line("models that answered", sum(n > 0 for n in it.answers.values()), len(golden),
             all(it.answers.values())),
        line("server's exit status", status, 0, status == 0),
        "",
        line("budget, MiB", f"{budget / MIB:.0f}"),
        line("most memory, MiB", f"{sampler.peak / MIB:.0f}"),
        line("most file-backed memory beside it, MiB", f"{sampler.peak_file / MIB:.0f}"),
        line("memory samples", sampler.samples),
        line("requests a second", f"{answered / args.seconds:.0f}"),
        line("latency p50, ms", f"{percentile(it.latencies, 50) * 1e3:.0f}"),
        line("latency p99, ms", f"{percentile(it.latencies, 99) * 1e3:.0f}"),
        line("latency longest, ms", f"{max(it.latencies) * 1e3:.0f}"),
        line("evictions", int(numbers["vacate_evictions_total"])),
        line("reloads within 10 s of an eviction", int(numbers["vacate_quick_reloads_total"])),
        line("answers not equal to the last bit", it.inexact),
        line("server USS: growth of the second half, KiB", f"{grown:.0f}"),
    ]
    if kill:
        lines += [line("workers killed", beside[1].kills),
                  line("memory taken and given back", beside[2].rounds),
                  line("models set aside", int(numbers["vacate_set_aside_total"])),
                  line("requests lost whose retry was killed, too", it.killed_twice)]
    lines += it.failed[:5] + it.wrong[:5]
    return lines, {"answered": answered, "failed": it.failed, "wrong": it.wrong,
                   "killed_twice": it.killed_twice, "budget_bytes": budget,
                   "peak_bytes": sampler.peak, "server_uss_bytes": sampler.uss,
                   "metrics": numbers}


def swap(args, directory):
    sample = pathlib.Path(args.models) / args.model
    zoo = pathlib.Path(args.zoo or directory) / "swap"
    for name in ("zoo/a", "zoo/b"):
        if not (zoo / name).exists():
            crowd.copy(sample, zoo / name)
    server = harness.Server(zoo, pathlib.Path(directory) / "alone")
    try:
        golden = crowd.alone(server, ["zoo/a", "zoo/b"])
        budget = crowd.budget_bytes(server, list(golden), 1)
    finally:
        server.stop()
    server = harness.Server(zoo, pathlib.Path(directory) / "log", "--ram", str(budget))
    try:
        it = crowd.Alternation(server, golden, 8, args.seconds).run()
        numbers = crowd.metrics(server)
        server.stop()
    finally:
        server.kill()
    both = it.longest_gap(*golden)
    counts = {name: len(times) for name, times in it.times.items()}
    swaps = int(numbers["vacate_evictions_total"])
    # In a change neither answers: the sum of the gaps around the changes.
    times = sorted(t for ts in it.times.values() for t in ts)
    gaps = sorted((b - a for a, b in zip(times, times[1:])), reverse=True)[:swaps]
    lines = [
        line("failed or wrong answers", len(it.failed), 0, not it.failed),
        *[line(f"answers of {name}", count, 1, count > 0) for name, count in counts.items()],
        line("changes", swaps),
        line("one change, p50 ms (no answer from either)",
             f"{percentile(gaps, 50) * 1e3:.0f}" if gaps else "-"),
        line("longest without an answer from either, ms", f"{both * 1e3:.0f}"),
        line("time lost to changes, %", f"{sum(gaps) / it.seconds * 100:.1f}"),
        *[line(f"longest without an answer of {name}, ms",
               f"{it.longest_gap(name) * 1e3:.0f}") for name in golden],
        line("answers a second", f"{sum(counts.values()) / it.seconds:.0f}"),
    ]
    return lines + it.failed[:5], {"counts": counts, "changes": swaps, "gap_s": both,
                                   "lost_s": sum(gaps), "seconds": it.seconds}


def main():
    args = options(__doc__, part=("zipf", "zipf, kill or swap"), seconds=(600, "of load"),
                   count=(40, "models"), room=(8, "models that fit"), clients=(64, "clients"),
                   zoo=("", "keep the models there"))
    os.environ.setdefault("VACATE_BUILD", str(ROOT / "build"))
    with scratch() as directory:
        started = time.monotonic()
        if args.part == "swap":
            lines, result = swap(args, directory)
        elif args.part in ("zipf", "kill"):
            lines, result = zipf(args, directory, args.part == "kill")
        else:
            sys.exit(f"keeper.py: no part '{args.part}'; one of zipf, kill, swap")
        result["took_s"] = time.monotonic() - started
    finish(args, f"keeper: {args.part}, {args.seconds} s", lines, result)


if __name__ == "__main__":
    main()
