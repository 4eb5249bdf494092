"""injection.py - a server and workers in which one call to the system fails.

The other side is tests/fault/preload.c: which calls count, with which errors
each can fail. Control arms it from here and reads what was hit.
"""
import dataclasses
import errno
import http.client
import mmap
import socket
import struct
import time

import harness
import measure

SERVER, WORKER = 1, 2
CALLS, ALLOCATIONS = 1, 2
MAX_VARIANTS = 8
_HEAD = struct.Struct("<9Ii32s")    # struct control of preload.c


@dataclasses.dataclass
class Hit:
    """What became of an armed fault."""
    count: int       # calls that were made meanwhile
    reached: bool    # the one that was to fail came
    failed: bool     # and has such an error
    variants: int    # errors that it has
    family: int      # of its socket
    error: int
    name: str

    def __str__(self):
        return f"{self.name} -> {self.error or 'short'}" if self.failed else "no fault"

    @property
    def error_is_memory(self):
        return self.error == errno.ENOMEM

    @property
    def of_a_client(self):
        return self.family in (socket.AF_INET, socket.AF_INET6)


class Control:
    def __init__(self, path):
        path.write_bytes(bytes(_HEAD.size))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), _HEAD.size)
        self.environment = {"VACATE_FAULT": str(path),
                            "LD_PRELOAD": str(library("fault_preload"))}

    def arm(self, role, classes, at, variant=0):
        self.map[:_HEAD.size] = _HEAD.pack(0, classes, at, variant, 0, 0, 0, 0, 0, 0, b"")
        self.map[:4] = struct.pack("<I", role)    # from here on it counts

    def disarm(self):
        self.map[:4] = bytes(4)
        (_, _, _, _, count, reached, failed, variants, family, error,
         name) = _HEAD.unpack_from(self.map)
        return Hit(count, bool(reached), bool(failed), variants, family, error,
                   name.rstrip(b"\0").decode())


def library(name):
    path = harness.build_dir() / "tests" / "fault" / f"{name}.so"
    assert path.is_file(), f"{path} is not built"
    return path


def ask(server, path, body, timeout_s=60):
    """A Reply, or None when the server closed the connection without one."""
    try:
        return server.request("POST" if body else "GET", path, body, timeout_s=timeout_s)
    except TimeoutError:
        raise AssertionError(f"{path}: no answer within {timeout_s} s") from None
    except (http.client.HTTPException, ConnectionError):
        return None


def embed(server, model, texts):
    return ask(server, "/v1/embeddings", {"model": model, "input": texts,
                                          "encoding_format": "base64"})


def sentence(reply):
    """The message of an error: one sentence that a person can read."""
    try:
        error = reply.json["error"]
    except (ValueError, KeyError):
        raise AssertionError(f"{reply} is no error in JSON") from None
    text = error["message"] if isinstance(error, dict) else error
    assert len(text) > 20 and "\n" not in text and "(null)" not in text, text
    return text


def quiet(server):
    """Waits until nothing is loaded and no worker is left, not even a zombie."""
    measure.wait_until(lambda: not measure.children(server.pid),
                       "the end of the last worker")


def files(pid, most):
    """Open descriptors, once connections had time to close."""
    end = time.monotonic() + measure.patience(60)
    while True:
        found = measure.open_files(pid)
        if most == 0 or len(found) <= most or time.monotonic() > end:
            return found
        time.sleep(0.005)
