#!/usr/bin/env python3
"""hold_library.py LIBVACATE: parks and resumes by vacate_park and vacate_resume, in one
process. Says "ready"; then a line of standard input is "park PID" or "resume PID", a line of standard output
the answer as JSON: "error" (null), "wall_ms" of the call, "driver_ms" of its receipt,
"init_ms" of cuInit in it and "beside_ms": all but the driver's calls, with that cuInit. For
tests/gpu/hold."""
import ctypes
import json
import os
import pathlib
import sys
import tempfile
import time


class Receipt(ctypes.Structure):
    """struct vacate_park_receipt of include/vacate.h."""
    _fields_ = [("processes", ctypes.c_uint32), ("before", ctypes.c_int), ("after", ctypes.c_int),
                ("device_measured", ctypes.c_int), ("device_before_bytes", ctypes.c_uint64),
                ("device_after_bytes", ctypes.c_uint64), ("measured", ctypes.c_int),
                ("rss_before_bytes", ctypes.c_uint64), ("rss_after_bytes", ctypes.c_uint64),
                ("pageout_bytes", ctypes.c_uint64), ("driver_ns", ctypes.c_int64),
                ("total_ns", ctypes.c_int64)]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 512),
                ("detail", ctypes.c_char * 256)]


def init_ns(path):
    """Of cuInit since the last time that this was asked, by the library's own stages."""
    text = path.read_text() if path.exists() else ""
    if text:
        os.truncate(path, 0)
    lines = [line.split() for line in text.splitlines()]
    return sum(int(line[3]) - int(line[2]) for line in lines if line[1] == "cuda-init")


def main():
    folder = tempfile.TemporaryDirectory(prefix="vacate-hold-library-")
    stages = pathlib.Path(folder.name) / "stages"
    os.environ["VACATE_STAGES"] = str(stages)
    library = ctypes.CDLL(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        command, pid = line.split()
        receipt, err = Receipt(), Error()
        call = {"park": library.vacate_park, "resume": library.vacate_resume}[command]
        since = time.monotonic_ns()
        rc = call(ctypes.c_int64(int(pid)), None, ctypes.byref(receipt), ctypes.byref(err))
        wall = time.monotonic_ns() - since
        init = init_ns(stages)
        print(json.dumps({"error": err.message.decode() if rc else None, "wall_ms": wall / 1e6,
                          "driver_ms": receipt.driver_ns / 1e6, "init_ms": init / 1e6,
                          "beside_ms": (wall - receipt.driver_ns + init) / 1e6}), flush=True)


if __name__ == "__main__":
    main()
