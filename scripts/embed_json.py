#!/usr/bin/env python3
"""embed_json.py IN.json OUT.c NAME VERSION - a JSON document as C data.

Without the spaces that are for readers, and with info.version set to VERSION.
Run by meson; standard library only.
"""
import json
import pathlib
import sys

LINE_CHARS = 88


def main():
    source, target, name, version = sys.argv[1:]
    document = json.loads(pathlib.Path(source).read_text(encoding="utf-8"))
    document["info"]["version"] = version
    text = json.dumps(document, separators=(",", ":"))    # ASCII
    # Escapes are not cut in two: lines are cut first.
    lines = [text[at:at + LINE_CHARS] for at in range(0, len(text), LINE_CHARS)]
    quoted = "\n".join('\t"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"'
                       for line in lines)
    pathlib.Path(target).write_text(
        f"/* Made from {pathlib.Path(source).name}; not to be edited. */\n"
        f'#include "api/document.h"\n\nconst char {name}[] =\n{quoted};\n'
        f"const size_t {name}_bytes = sizeof({name}) - 1;\n", encoding="utf-8")


if __name__ == "__main__":
    main()
