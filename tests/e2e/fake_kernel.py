"""tests/gpu/hold_kernel.py without a GPU: the kernel stands in $FAKE_GPU_DIR as a process
that holds memory (fake_gpus.py)."""
import os
import pathlib

place = pathlib.Path(os.environ["FAKE_GPU_DIR"]) / "processes" / str(os.getpid())
fresh = place.with_name(f"fresh-{os.getpid()}")
fresh.write_text(f"running 0 0 0 {64 << 20}\n")
fresh.rename(place)


def look():
    return place.read_text().split()[0], place.read_text().split()[4]
