"""common.py - what the benchmarks share: options, tables, percentiles."""
import argparse
import json
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import harness  # noqa: E402,F401
import measure  # noqa: E402


def options(description, **extra):
    """Parses --models, --model, --json and the extra (name=(default, help))."""
    cache = os.environ.get("VACATE_CACHE") or (os.environ.get("XDG_CACHE_HOME") or
                                               os.path.expanduser("~/.cache")) + "/vacate"
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--models", default=cache + "/models", help="directory of models")
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    for name, (default, text) in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default,
                            help=f"{text} (default {default})")
    return parser.parse_args()


def percentile(values, percent):
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]


def verdict(value, limit):
    return "reached" if value <= limit else "MISSED"


def scratch():
    return tempfile.TemporaryDirectory(prefix="vacate-bench-")


def finish(args, title, lines, result):
    """Prints the machine and the table, or everything as JSON."""
    if args.json:
        print(json.dumps({"bench": title, "machine": measure.machine(), **result}))
        return
    print(f"{title}\n{measure.machine()}\n")
    print("\n".join(lines))
