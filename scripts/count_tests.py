#!/usr/bin/env python3
"""count_tests.py - how many tests passed, failed and were skipped.

    count_tests.py testlog.json|junit.xml ...

Prints "PASSED FAILED SKIPPED" summed over the files. A cmocka program counts
each of its tests, any other program of meson's counts once; pytest's counts
are its own. A program that crashed, or that says less than it ended with,
counts at least one failure.
"""
import json
import re
import sys
import xml.etree.ElementTree

CMOCKA = {word: re.compile(rf"^\[  {word} +\] (\d+) test\(s\)", re.MULTILINE)
          for word in ("PASSED", "FAILED", "SKIPPED")}


def of_program(result, output):
    """One entry of meson's log -> passed, failed, skipped."""
    passed, failed, skipped = (sum(map(int, CMOCKA[word].findall(output)))
                               for word in ("PASSED", "FAILED", "SKIPPED"))
    if result == "SKIP":
        return passed, failed, max(1, skipped)
    if result not in ("OK", "EXPECTEDFAIL"):
        return passed, max(1, failed), skipped
    return (passed, failed, skipped) if passed + failed + skipped else (1, 0, 0)


def of_meson(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        runs = [json.loads(line) for line in file if line.strip()]
    if not runs:
        return 0, 1, 0
    counts = [of_program(run["result"], (run.get("stdout") or "") + (run.get("stderr") or ""))
              for run in runs]
    return tuple(map(sum, zip(*counts)))


def of_junit(path):
    total = failed = skipped = 0
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    return max(0, total - failed - skipped), failed, skipped


def main():
    sums = (0, 0, 0)
    for path in sys.argv[1:]:
        counts = of_junit(path) if path.endswith(".xml") else of_meson(path)
        sums = tuple(map(sum, zip(sums, counts)))
    print(*sums)


if __name__ == "__main__":
    main()
