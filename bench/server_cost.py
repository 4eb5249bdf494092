#!/usr/bin/env python3
"""server_cost.py - the server's own cost a request: one client on one
connection, its time minus the worker's compute time, base64 and float JSON."""
import json
import pathlib
import subprocess

from common import finish, harness, options, percentile, scratch, verdict


def client_program(directory):
    """Compiles the C client; a Python one would measure Python."""
    source = pathlib.Path(__file__).with_name("latency_client.c")
    program = pathlib.Path(directory) / "latency_client"
    subprocess.run(["cc", "-std=gnu17", "-O2", "-o", program, source], check=True)
    return program


def main():
    args = options(__doc__, requests=(5000, "requests a format"), warmup=(200, "before them"),
                   text=("The harbour is quiet in winter, and the lighthouse answers.", "input"))
    rows = {}
    with scratch() as directory:
        program = client_program(directory)
        server = harness.Server(args.models, pathlib.Path(directory) / "log")
        try:
            server.load(args.model)
            for encoding in ("base64", "float"):
                body = json.dumps({"model": args.model, "input": args.text,
                                   "encoding_format": encoding}).encode()
                done = subprocess.run(
                    [program, str(server.port), "/v1/embeddings", str(args.requests),
                     str(args.warmup)], input=body, stdout=subprocess.PIPE)
                if done.returncode != 0:
                    raise SystemExit("latency_client did not finish")
                pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
                rows[encoding] = {"total_ns": [t for t, _ in pairs],
                                  "compute_ns": [c for _, c in pairs],
                                  "cost_ns": [t - c for t, c in pairs]}
            server.stop()
        finally:
            server.kill()
    lines = [f"{'us a request':<8} {'':>8} {'p50':>9} {'p99':>9}"]
    figures = {}
    for encoding, columns in rows.items():
        for name, values in columns.items():
            p50, p99 = (percentile(values, p) / 1e3 for p in (50, 99))
            figures[f"{encoding}_{name[:-3]}"] = {"p50_us": p50, "p99_us": p99}
            lines.append(f"{encoding:<8} {name[:-3]:>8} {p50:9.1f} {p99:9.1f}")
    cost = figures["base64_cost"]["p50_us"]
    lines += ["", f"the server's own cost, base64, p50: {cost:.1f} us, limit 100: "
              + verdict(cost, 100)]
    finish(args, "server cost: " + args.model, lines, {"model": args.model, "figures": figures})


if __name__ == "__main__":
    main()
