"""Models of the server that are parked and resumed by name: their worker leaves its GPU and
comes back. vacate-gpud is the real one, on GPUs that are files (fake_gpus.py); the workers
are fake_worker.py."""
import contextlib
import http.client
import json
import subprocess
import threading
import time

import harness
import measure
import pytest
from fake_gpus import MIB, PATIENCE_S, eventually
from test_hold import PARK_CALLS, RESUME_CALLS
from test_parking import MODEL, Parking, world  # noqa: F401 - a fixture

ONE, TWO = 800 * MIB, 1100 * MIB      # a worker with one model, with two


class Later:
    """A call in a thread."""

    def __init__(self, call):
        self.replies = []
        self.thread = threading.Thread(target=self.run, args=[call])
        self.thread.start()

    def run(self, call):
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.replies.append(call())

    def __call__(self):
        self.thread.join(PATIENCE_S)
        return self.replies[0]


@pytest.fixture
def begin(world):  # noqa: F811
    return lambda *options, **keywords: world[1](*options, **{"park": None, **keywords})


@pytest.fixture
def gpus(world):  # noqa: F811
    return world[0]


def park(server, model="a", **more):
    return server.post("/models/park", {"model": model, **more})


def resume(server, model="a"):
    return server.post("/models/resume", {"model": model})


def parked(server, model="a"):
    reply = park(server, model)
    assert reply.status == 200, reply
    (receipt,) = reply.json["receipts"]
    return receipt


def vector(server, model="a"):
    reply = server.ask(model)
    assert reply.status == 200, reply
    return reply.json["data"][0]["embedding"]


def pid_of(server, model="a"):
    (pid,) = [m["worker_pid"] for m in server.ok("GET", "/models/ps")["models"]
              if m["name"] == model]
    return pid


def refused(reply, status):
    assert reply.status == status, reply
    return reply.json["error"]["message"]


def test_parked_and_resumed(gpus, begin):
    server = begin()
    before = vector(server)
    pid = pid_of(server)
    reply = park(server)
    assert reply.status == 200, reply
    body = reply.json
    assert (body["success"], body["operation"], body["error"]) == (True, "park", None)
    (receipt,) = body["receipts"]
    assert (receipt["models"], receipt["pid"]) == (["a"], pid)
    assert (receipt["before"], receipt["after"]) == ("running", "parked")
    (device,) = receipt["devices"]
    assert (device["before"]["process_bytes"], device["after"]["process_bytes"]) == (ONE, 0)
    assert device["before"]["listed"] and not device["after"]["listed"]
    assert gpus.state(pid) == "parked" and measure.alive(pid)
    assert server.states() == {"a": "parked"} and pid_of(server) == pid
    assert server.metric('vacate_models{state="parked"}') == 1
    assert server.metric("vacate_model_parked") == 1
    # once more: there is nothing to do
    (receipt,) = park(server).json["receipts"]
    assert (receipt["before"], receipt["after"], receipt["devices"]) == ("parked", "parked", [])
    # a request brings it back
    assert vector(server) == before
    assert gpus.state(pid) == "running" and pid_of(server) == pid
    assert server.states() == {"a": "resident"} and server.metric("vacate_loads_total") == 1
    # and so does a word
    parked(server)
    reply = resume(server)
    assert reply.status == 200, reply
    (receipt,) = reply.json["receipts"]
    assert reply.json["operation"] == "resume" and receipt["models"] == ["a"]
    assert (receipt["before"], receipt["after"]) == ("parked", "running")
    assert receipt["devices"][0]["after"]["process_bytes"] == ONE
    (receipt,) = resume(server).json["receipts"]
    assert (receipt["before"], receipt["after"]) == ("running", "running")
    assert vector(server) == before
    assert server.receipts() == []
