#!/usr/bin/env python3
"""lifecycle.py - what comes and goes with a model: the server's private
memory idle and over rounds of load, answer and unload; the time from a request
for an absent model to its answer, with its stages; the time of an unload to
the worker reaped. Memory is read from /proc, times are the client's."""
import pathlib
import time

from common import finish, harness, measure, options, percentile, scratch, verdict

KIB, MIB = 1 << 10, 1 << 20
STAGES = ("start", "open", "tokenizer", "map", "read", "pack", "warm")


def ms(started):
    return (time.perf_counter() - started) * 1e3


def one_round(server, model):
    """Cold request, stages, unload to the worker reaped: all in ms."""
    started = time.perf_counter()
    server.embed(model, ["The harbour is quiet."])
    cold_ms = ms(started)
    (about,) = server.ok("GET", "/models/ps")["models"]
    (worker,) = server.workers()
    loaded = measure.uss(worker)
    started = time.perf_counter()
    receipt = server.unload(model)
    unload_ms = ms(started)
    if measure.alive(worker):
        raise RuntimeError(f"worker {worker} is still there after the unload")
    return {"cold_ms": cold_ms, "unload_ms": unload_ms, "stage_ms": about["stages_ms"],
            "worker_uss_bytes": loaded, "unaccounted_bytes": receipt["unaccounted_bytes"],
            "plan_minus_ledger_bytes": receipt["planned_bytes"] - receipt["ledger_bytes"],
            "server_uss_bytes": measure.uss(server.pid)}


def main():
    args = options(__doc__, rounds=(500, "rounds of load, answer, unload"))
    with scratch() as directory:
        server = harness.Server(args.models, pathlib.Path(directory) / "log")
        try:
            time.sleep(0.2)
            idle = measure.uss(server.pid)
            server.get("/healthz")
            before = measure.uss(server.pid)
            rounds = [one_round(server, args.model) for _ in range(args.rounds)]
            status = server.stop()
        finally:
            server.kill()
    if status != 0:
        raise SystemExit(f"the server ended with {status}")
    after = [r["server_uss_bytes"] for r in rounds]
    # The first round may read the disk; the figure is with the page cache warm.
    warm = rounds[1:] or rounds
    cold, unload = ([r[key] for r in warm] for key in ("cold_ms", "unload_ms"))
    tenth = after[min(9, len(after) - 1)]
    figures = [
        ("server idle, never loaded: USS, MiB", idle / MIB, 6),
        ("USS after round 1 against before, KiB", (after[0] - before) / KIB, 256),
        (f"USS growth from round 10 to {len(after)}, KiB", (max(after) - tenth) / KIB
         if len(after) < 10 else (max(after[9:]) - tenth) / KIB, 64),
        ("cold request, warm page cache, p50 ms", percentile(cold, 50), 250),
        ("unload of the only model to reaped, p50 ms", percentile(unload, 50), 30),
        ("plan minus ledger, largest, bytes",
         max(abs(r["plan_minus_ledger_bytes"]) for r in rounds), 0),
        ("unaccounted, largest, MiB", max(r["unaccounted_bytes"] for r in rounds) / MIB, 1),
    ]
    lines = [f"{'figure':<46} {'measured':>10} {'limit':>6}"]
    lines += [f"{name:<46} {value:>10.1f} {limit:>6} {verdict(value, limit)}"
              for name, value, limit in figures]
    lines += ["", f"p99: cold request {percentile(cold, 99):.1f} ms, "
              f"unload {percentile(unload, 99):.1f} ms; worker with the model "
              f"{rounds[-1]['worker_uss_bytes'] / MIB:.1f} MiB private", "",
              "stages of the cold request, p50 ms: " + ", ".join(
                  f"{name} {percentile([r['stage_ms'][name] for r in warm], 50):.1f}"
                  for name in STAGES)]
    finish(args, "lifecycle: " + args.model, lines, {
        "model": args.model, "figures": [
            {"name": n, "value": v, "limit": m} for n, v, m in figures],
        "server_uss_bytes": after, "cold_ms": cold, "unload_ms": unload,
        "stage_ms": [r["stage_ms"] for r in warm]})


if __name__ == "__main__":
    main()
