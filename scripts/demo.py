#!/usr/bin/env python3
"""demo.py - the main job on a real model: it moves in, answers, moves out,
and the receipt proves it. Started by demo.sh, which installs and builds.

    demo.py MODELS_DIR MODEL_NAME

Every byte in the table is read from /proc by this script.
"""
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import harness
import measure

SENTENCES = [
    "A cat sleeps on the warm windowsill.",
    "The kitten is napping in the sun.",
    "Interest rates rose by half a percent.",
]
ROUNDS = 20


def headline(text):
    print(f"\n== {text}", flush=True)


def vacate(server, *arguments):
    """Shows a command and what it prints."""
    print(f"$ vacate {' '.join(arguments)}", flush=True)
    done = subprocess.run([str(harness.find_vacate()), *arguments],
                          env=dict(os.environ, VACATE_SERVER=server.url), timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"vacate {arguments[0]} ended with {done.returncode}")


def cosine(a, b):
    return (sum(x * y for x, y in zip(a, b)) /
            math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))


def similarities(vectors):
    for index, sentence in enumerate(SENTENCES, 1):
        print(f"  {index}. {sentence}")
    print("       " + "".join(f"{i:>8}" for i in range(1, len(vectors) + 1)))
    for i, a in enumerate(vectors, 1):
        print(f"  {i:>5}" + "".join(f"{cosine(a, b):8.3f}" for b in vectors))


def milliseconds(since):
    return (time.perf_counter() - since) * 1e3


def rounds(server, model):
    """Loads, answers, unloads; returns the server's private bytes after each
    round and the answers that were not the same as the first."""
    print("round   load ms   answer ms   RAM loaded MiB   RAM after MiB")
    after, first, changed = [], None, 0
    for number in range(1, ROUNDS + 1):
        started = time.perf_counter()
        server.load(model)
        load_ms, started = milliseconds(started), time.perf_counter()
        vectors = server.embed(model, SENTENCES)
        answer_ms = milliseconds(started)
        loaded = sum(measure.uss(pid) for pid in [server.pid, *server.workers()])
        server.unload(model)
        left = sum(measure.uss(pid) for pid in server.workers())
        after.append(measure.uss(server.pid))
        first = first or vectors
        changed += vectors != first
        print(f"{number:>5} {load_ms:9.1f} {answer_ms:11.1f} {loaded / 2**20:16.1f} "
              f"{(left + after[-1]) / 2**20:15.2f}", flush=True)
    return after, changed


def show(server, model):
    headline("On disk, and what each would take")
    vacate(server, "list")

    headline("The first request brings the model in")
    started = time.perf_counter()
    vectors = server.embed(model, SENTENCES)
    print(f"  {len(vectors)} sentences, {len(vectors[0])} dimensions, "
          f"{milliseconds(started):.0f} ms, the load included; cosine similarities:")
    similarities(vectors)
    print()
    vacate(server, "ps")

    headline("It moves out; the receipt says what came back")
    vacate(server, "unload", model)

    headline(f"{ROUNDS} times in and out (private memory of server and worker)")
    after, changed = rounds(server, model)
    if changed:
        raise RuntimeError(f"{changed} rounds answered otherwise than the first")
    return after[-1] - after[0]


def main():
    models, model = sys.argv[1:]
    # A signal must not leave the server behind: let it pass through finally.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="vacate-demo-") as scratch:
        server = harness.Server(models, pathlib.Path(scratch) / "log", "--keep-alive", "5m")
        workers = []
        try:
            print(f"vacate serve: process {server.pid} on {server.url}, "
                  f"{measure.uss(server.pid) / 2**20:.1f} MiB private")
            lost = show(server, model)
            workers = server.workers()
            status = server.stop()
        except BaseException:
            server.kill()
            print(server.stderr()[-2000:], file=sys.stderr)
            raise
    if status != 0 or workers or any(measure.alive(pid) for pid in workers):
        sys.exit(f"the server ended with {status}; workers left: {workers}")
    print(f"\nbytes that never came back: {lost}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:    # one sentence, not a traceback, for whoever tries it out
        sys.exit(f"demo: {error}")
