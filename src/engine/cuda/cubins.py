#!/usr/bin/env python3
"""cubins.py OUT.c [CUBIN...] - the kernels that nvcc compiled, as they are. A file is
named sm_ARCHITECTURE-ELEMENT.cubin. Made a part of the object by the assembler: as
C arrays they would take the compiler longer than nvcc."""
import pathlib
import sys

HEAD = """#include "engine/cuda/kernels.h"
"""

ONE = """
__asm__(".pushsection .rodata\\n"
	".balign 64\\n"
	".hidden {name}\\n"
	".globl {name}\\n"
	"{name}: .incbin \\"{path}\\"\\n"
	".popsection\\n");
extern const char {name}[] __attribute__((visibility("hidden")));
"""


def main():
    out, *files = sys.argv[1:]
    text, rows = HEAD, []
    for file in map(pathlib.Path, files):
        architecture, element = file.stem.removeprefix("sm_").split("-")
        name = f"vac_cuda_cubin_{architecture}_{element}"
        path = str(file.resolve())
        if set(path) & set('"\\\n'):
            sys.exit(f"cubins.py: {path!r}: quotes and backslashes in a path are not served")
        text += ONE.format(name=name, path=path)
        rows.append(f"\t{{{architecture}, {element}, {name}}},\n")
    text += "\nconst struct vac_cuda_cubin vac_cuda_cubins[] = {\n"
    text += "".join(rows) + "\t{0, 0, 0},\n};\n"
    pathlib.Path(out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
