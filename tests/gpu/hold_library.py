#!/usr/bin/env python3
"""hold_library.py LIBVACATE: parks and resumes by vacate_park and vacate_resume, in one
process. Says "ready"; then a line of standard input is "park PID" or "resume PID", a line of standard output
the answer as JSON: "error" (null), "wall_ms" of the call, "driver_ms" of its receipt, "init_ms" that cuInit was
waited for in it and "beside_ms": all but the driver's four calls. hold_library.py driver: the same by the driver's
calls alone, after a cuInit which "init_ms" has and "wall_ms" has not. For tests/gpu/hold."""
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
                ("total_ns", ctypes.c_int64), ("swapped_bytes", ctypes.c_uint64)]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 512),
                ("detail", ctypes.c_char * 256)]


class Lock(ctypes.Structure):
    """CUcheckpointLockArgs."""
    _fields_ = [("timeout_ms", ctypes.c_uint), ("reserved", ctypes.c_uint),
                ("more", ctypes.c_uint64 * 7)]


class Vacate:
    def __init__(self, path):
        self.folder = tempfile.TemporaryDirectory(prefix="vacate-hold-library-")
        self.stages = pathlib.Path(self.folder.name) / "stages"
        os.environ["VACATE_STAGES"] = str(self.stages)
        self.library = ctypes.CDLL(path)

    def init_ns(self):
        """That cuInit was waited for since the last time that this was asked."""
        text = self.stages.read_text() if self.stages.exists() else ""
        if text:
            os.truncate(self.stages, 0)
        lines = [line.split() for line in text.splitlines()]
        return sum(int(line[3]) - int(line[2]) for line in lines if line[1] == "cuda-wait")

    def move(self, command, pid):
        receipt, err = Receipt(), Error()
        call = {"park": self.library.vacate_park, "resume": self.library.vacate_resume}[command]
        since = time.monotonic_ns()
        rc = call(ctypes.c_int64(pid), None, ctypes.byref(receipt), ctypes.byref(err))
        wall = time.monotonic_ns() - since
        init = self.init_ns()
        return {"error": err.message.decode() if rc else None, "wall_ms": wall / 1e6,
                "driver_ms": receipt.driver_ns / 1e6, "init_ms": init / 1e6,
                "beside_ms": (wall - receipt.driver_ns + init) / 1e6}


class Driver:
    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1")
        since = time.monotonic_ns()
        self.problem = self.get("cuInit", 2000, [ctypes.c_uint])(0)
        self.init_ms = (time.monotonic_ns() - since) / 1e6

    def get(self, name, version, types):
        found, status = ctypes.c_void_p(), ctypes.c_int()
        rc = self.library.cuGetProcAddress_v2(name.encode(), ctypes.byref(found), version,
                                              ctypes.c_uint64(0), ctypes.byref(status))
        if rc or not found.value:
            raise RuntimeError(f"no {name}")
        return ctypes.CFUNCTYPE(ctypes.c_int, *types)(found.value)

    def move(self, command, pid):
        types, lock = [ctypes.c_int, ctypes.c_void_p], Lock(10000)
        calls = {"park": [("Lock", ctypes.byref(lock)), ("Checkpoint", None)],
                 "resume": [("Restore", None), ("Unlock", None)]}[command]
        calls = [(name, self.get("cuCheckpointProcess" + name, 12080, types),
                  ctypes.cast(arguments, ctypes.c_void_p) if arguments else None)
                 for name, arguments in calls]
        since, problem = time.monotonic_ns(), self.problem and f"cuInit: {self.problem}"
        for name, call, arguments in [] if problem else calls:
            result = call(pid, arguments)
            if result:
                problem = f"{name}: {result}"
                break
        wall = time.monotonic_ns() - since
        return {"error": problem or None, "wall_ms": wall / 1e6, "driver_ms": wall / 1e6,
                "init_ms": self.init_ms, "beside_ms": 0}


def main():
    mover = Driver() if sys.argv[1] == "driver" else Vacate(sys.argv[1])
    print("ready", flush=True)
    for line in sys.stdin:
        command, pid = line.split()
        print(json.dumps(mover.move(command, int(pid))), flush=True)


if __name__ == "__main__":
    main()
