#!/usr/bin/env python3
"""check_layers.py - that the house is built as docs/architecture.md draws it.

  check_layers.py [PROGRAM LIBRARY ...]

Every #include of src/ goes to a folder that stands below. With PROGRAM: nothing that
one of the static LIBRARYs defines is in it (vacate carries no driver code). Prints one
line a finding and ends with 1 if there was one.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"((\w+)/[^"]+)"', re.M)

# Folder -> what its files may include besides their own. The longest name that fits a
# file holds: engine/cuda before engine.
BELOW = {
    "base": "",
    "memory": "base",
    "driver": "base",
    "hold": "base memory driver",
    "format": "base memory",
    "text": "base memory",
    "wire": "base memory",
    "engine": "base memory format text",
    "engine/cuda": "base memory format engine driver",
    "api": "base memory wire",
    "worker": "base memory format text engine wire",
    "gpud": "base memory driver hold wire",
    "server": "base memory hold wire api",
    "library": "base memory format text engine driver hold",
    "cli": "base memory hold wire api server",
}

# Single headers that a folder may include besides.
ALSO = {("engine/cuda", "hold/lock.h")}


def layer_of(path):
    folder = path.parent.relative_to(ROOT / "src")
    for name in (folder, *folder.parents):
        if str(name) in BELOW:
            return str(name)
    return None


def includes():
    files = sorted((ROOT / "src").rglob("*.[ch]"))
    if not files:
        yield "src: no files were found"
    for path in files:
        shown, layer = path.relative_to(ROOT), layer_of(path)
        if layer is None:
            yield f"{shown}: its folder is not in the table of {pathlib.Path(__file__).name}"
            continue
        allowed = {layer.split("/")[0], *BELOW[layer].split()}
        for header, other in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if (other not in allowed and (layer, header) not in ALSO
                    and (ROOT / "src" / other).is_dir()):
                yield f"{shown}: {layer} must not include {other}"


def defined(file, *options):
    """Names of functions and data that a file has, of ours."""
    lines = subprocess.run(["nm", "--defined-only", *options, file], check=True, text=True,
                           capture_output=True).stdout.splitlines()
    return {words[2] for words in map(str.split, lines)
            if len(words) == 3 and words[2].startswith("vac_")}


def symbols(program, libraries):
    there = defined(program)
    if not there:
        yield f"{program}: has no symbols to look at"
    for library in libraries:
        names = defined(library, "--extern-only")
        if not names:
            yield f"{library}: has no symbols to look for"
        for name in sorted(names & there):
            yield f"{program}: has {name} of {pathlib.Path(library).name}"


def main():
    found = list(includes())
    if len(sys.argv) > 1:
        found += symbols(sys.argv[1], sys.argv[2:])
    print("\n".join(found) or "layers: nothing found")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
