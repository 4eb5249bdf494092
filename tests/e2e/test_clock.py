"""The wall clock steps by hours while the server runs, forwards and backwards
(tests/fault/clock.c). Nothing expires, hangs or takes a negative time by it."""
import concurrent.futures
import datetime
import mmap
import struct
import time

import crowd
import injection
import measure
import pytest
from test_supervisor import fake, message, works    # noqa: F401

HOUR = 3600
STEPS = [10 * HOUR, -10 * HOUR, 400 * 24 * HOUR, 0, -5 * 24 * HOUR, 0]
TEXT = ["The harbour is quiet."]


class Clock:
    def __init__(self, path):
        path.write_bytes(bytes(8))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 8)
        self.environment = {"VACATE_CLOCK": str(path),
                            "LD_PRELOAD": str(injection.library("fault_clock"))}

    def step(self, offset_s):
        self.map[:] = struct.pack("<q", offset_s)

    def now(self):
        return time.time() + struct.unpack("<q", self.map[:])[0]


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


def numbers(value):
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def parsed(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_steps_between_requests(start, clock):
    server = start("--keep-alive", "1h", env=clock.environment)
    golden = server.embed("tiny/a", TEXT)
    (worker,) = server.workers()
    for offset in STEPS:
        clock.step(offset)
        time.sleep(0.05)    # what would be due by the wall clock is due now
        (shown,) = server.ok("GET", "/models/ps")["models"]
        assert shown["state"] == "resident" and server.workers() == [worker]
        assert all(n >= 0 for n in numbers(shown)), shown
        assert server.embed("tiny/a", TEXT) == golden
        for value in crowd.metrics(server).values():
            assert value >= 0
    clock.step(10 * HOUR)
    receipt = server.unload("tiny/a")
    assert abs(parsed(receipt["at"]) - clock.now()) < 60
    assert all(n >= 0 for n in numbers(receipt)), receipt
    assert receipt["unload_ms"] < 60_000 and receipt["resident_ms"] < 600_000, receipt


@pytest.mark.parametrize("offset", [10 * HOUR, -10 * HOUR])
def test_idle_models_leave_when_their_time_is_over(start, clock, offset):
    server = start("--keep-alive", "1200ms", env=clock.environment)
    before = time.monotonic()
    server.embed("tiny/a", TEXT)
    clock.step(offset)
    measure.wait_until(lambda: not server.workers(), "the end of the idle model")
    assert time.monotonic() - before >= 1.2


@pytest.mark.parametrize("offset", [10 * HOUR, -10 * HOUR])
def test_step_under_a_request(fake, clock, offset):    # noqa: F811
    """Heartbeats, deadlines and queues go on as they were."""
    server = fake("--heartbeat", "100ms", "--silence-timeout", "10s", "--timeout", "60s",
                  words="slow-load-300,slow-task-300", env=clock.environment)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(server.ask, name) for name in ("a", "b")]
        late = pool.submit(server.ask, headers={"X-Request-Timeout": "0.2"})
        time.sleep(0.1)
        clock.step(offset)
        assert [reply.result().status for reply in asked] == [200, 200]
        message(late.result(), 504)
    clock.step(0)
    works(server)
    assert server.metric("vacate_worker_deaths_total") == 0


def test_journal_across_steps(start, clock, tmp_path):
    journal = tmp_path / "journal"
    server = start("--journal", journal, env=clock.environment)
    times = []
    for offset in STEPS:
        clock.step(offset)
        server.embed("tiny/a", TEXT)
        server.unload("tiny/a")
        times.append(clock.now())
    receipts = server.ok("GET", "/receipts")["receipts"]
    assert [r["id"] for r in receipts] == list(range(len(STEPS), 0, -1))    # newest first
    for receipt, at in zip(reversed(receipts), times):
        assert abs(parsed(receipt["at"]) - at) < 60
