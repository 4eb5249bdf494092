#!/usr/bin/env python3
"""check_docs.py - what a reader of the repository would stumble over.

Relative links of the Markdown files lead to something; every command has a
manual page and every page is mentioned; no committed file is large. Prints
one line a finding and ends with 1 if there was one.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LARGEST_BYTES = 500_000
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def tracked():
    try:
        names = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], check=True,
                               capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):    # a tarball has no .git
        return [p for p in ROOT.rglob("*")
                if p.is_file() and not p.relative_to(ROOT).parts[0].startswith("build")]
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def links(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
            yield f"{path.relative_to(ROOT)}: link to {target}, which is not there"


def pages(files):
    """Pages of commands, man/vacate-NAME.1, against src/cli/cmd_NAME.c."""
    commands = {p.stem[4:] for p in files if p.match("src/cli/cmd_*.c")}
    written = {p.stem[7:] for p in files if p.match("man/vacate-*.1")}
    for name in sorted(commands - written - {"help", "version"}):
        yield f"man/vacate-{name}.1: the command vacate {name} has no manual page"


def main():
    files = tracked()
    found = [line for path in files if path.suffix == ".md" for line in links(path)]
    found += pages(files)
    found += [f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes, more than {LARGEST_BYTES}"
              for path in files if path.stat().st_size > LARGEST_BYTES]
    print("\n".join(found) or "documents: nothing found")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
