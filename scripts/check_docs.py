#!/usr/bin/env python3
"""check_docs.py - what a reader of the repository would stumble over.

Relative links of the Markdown files lead to something; every command has a
manual page, installed and mentioned, and every page a command; no committed
file is large. Prints
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


def commands():
    """Names of the commands in the table of src/cli/main.c."""
    table = (ROOT / "src/cli/main.c").read_text(encoding="utf-8").partition("commands[] = {")[2]
    return re.findall(r"&vac_command_(\w+)", table.partition("};")[0])


def pages():
    """A page a command, man/vacate-NAME.1, installed and named in vacate.1;
    no page of a command that is not there."""
    names = set(commands())
    if not names:
        yield "src/cli/main.c: no table of commands was found"
    installed = (ROOT / "man/meson.build").read_text(encoding="utf-8")
    overview = (ROOT / "man/vacate.1").read_text(encoding="utf-8").replace("\\-", "-")
    written = {path.stem[7:] for path in (ROOT / "man").glob("vacate-*.1")}
    for name in sorted(names - written):
        yield f"man/vacate-{name}.1: the command vacate {name} has no manual page"
    for name in sorted(written - names):
        yield f"man/vacate-{name}.1: there is no command vacate {name}"
    for name in sorted(names & written):
        if f"'vacate-{name}.1'" not in installed:
            yield f"man/meson.build: vacate-{name}.1 is not installed"
        if f"vacate-{name} (1)" not in overview:
            yield f"man/vacate.1: does not name vacate-{name}(1)"


def main():
    files = tracked()
    found = [line for path in files if path.suffix == ".md" for line in links(path)]
    found += pages()
    found += [f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes, more than {LARGEST_BYTES}"
              for path in files if path.stat().st_size > LARGEST_BYTES]
    print("\n".join(found) or "documents: nothing found")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
