#!/usr/bin/env python3
"""embed.py OUT.c SOURCE... - the kernels' sources as C strings, for NVRTC."""
import pathlib
import sys


def literal(line):
    escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'\t"{escaped}\\n"'


def main():
    out, *sources = sys.argv[1:]
    lines = ['#include "engine/cuda/kernels.h"', "",
             "const struct vac_cuda_source vac_cuda_sources[] = {"]
    for source in map(pathlib.Path, sources):
        lines.append(f'{{"{source.name}",')
        lines += map(literal, source.read_text(encoding="ascii").splitlines())
        lines.append("},")
    lines += ["};", f"const unsigned vac_cuda_source_count = {len(sources)};"]
    pathlib.Path(out).write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
