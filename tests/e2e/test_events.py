"""test_events.py - GET /models/events as clients see it, the journal, and the
commands that read both. Streams are read from plain sockets: what a proxy or a
browser would see, byte by byte."""
import concurrent.futures
import contextlib
import datetime
import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import measure
import pytest
from test_cli_tables import program
from test_supervisor import HERE, fake, works  # noqa: F401  (fake is a fixture)


class Stream:
    """A request on a socket of its own; events are read when they are asked for."""

    def __init__(self, server, path="/models/events", method="GET", receive_bytes=None):
        self.socket = socket.socket()
        if receive_bytes:    # before it is connected, so that the window is small
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect((HERE, server.port))
        self.socket.settimeout(60)
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.raw = b""         # not yet taken
        self.text = ""         # without chunks, not yet taken
        self.comments = 0
        self.ended = False     # with the last chunk
        head, self.raw = self.until(b"\r\n\r\n")
        self.status = int(head.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in
                        (line.partition(":") for line in head.decode().split("\r\n")[1:])}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def more(self):
        data = self.socket.recv(65536)
        assert data, "the connection was closed"
        self.raw += data

    def until(self, mark):
        while mark not in self.raw:
            self.more()
        head, _, rest = self.raw.partition(mark)
        return head, rest

    def chunk(self):
        size, rest = self.until(b"\r\n")
        size = int(size, 16)
        while len(self.raw) < len(self.raw) - len(rest) + size + 2:
            before = len(self.raw)
            self.more()
            rest += self.raw[before:]
        assert rest[size:size + 2] == b"\r\n"
        self.raw = rest[size + 2:]
        self.text += rest[:size].decode()
        self.ended = size == 0

    def next(self, deadline=None):
        """(name, data, id) of the next event; None at the end."""
        while True:
            while "\n\n" not in self.text:
                assert deadline is None or time.monotonic() < deadline, self.text
                if self.ended:
                    assert self.text == ""
                    return None
                self.chunk()
            block, _, self.text = self.text.partition("\n\n")
            fields = {}
            for line in block.split("\n"):
                name, _, value = line.partition(": ")
                assert name in ("", "id", "event", "data", "retry"), line
                self.comments += name == ""
                if name:
                    assert name not in fields
                    fields[name] = value
            if "data" in fields:
                return fields.get("event"), json.loads(fields["data"]), int(fields["id"])

    def upto(self, name, model=None, timeout_s=60):
        """All events up to the first of that name (of that model)."""
        got, deadline = [], time.monotonic() + timeout_s
        while True:
            assert time.monotonic() < deadline, f"no {name} came: {got}"
            event = self.next(deadline)
            assert event, f"the stream ended before {name}: {got}"
            got.append(event)
            if event[0] == name and model in (None, event[1].get("model")):
                return got

    def rest(self):
        return list(iter(self.next, None))


def names(events):
    return [event[0] for event in events]


# ---- what is told ----

LOADED = ["planned", "loading", "loading", "resident"]
UNLOADED = ["draining", "receipt", "absent"]


def test_a_load_and_an_unload(fake):
    server = fake()
    with Stream(server) as stream, Stream(server) as other:
        assert stream.status == 200 and stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        model = server.load("a")
        receipt = server.unload("a")
        events = stream.upto("absent")
        assert names(events) == LOADED + UNLOADED
        assert other.upto("absent") == events
        assert [e[2] for e in events] == list(range(1, 8))
        planned, first, second, resident, draining, told, absent = (e[1] for e in events)
        for name, data, _ in events:
            assert (data["event"], data["model"], data["device"]) == (name, "a", "cpu")
            when = datetime.datetime.fromisoformat(data["time"])
            assert abs(when.timestamp() - time.time()) < 30 and data["time"].endswith("Z")
            assert "state" not in data
        assert planned["bytes"] == 8192    # fake_worker.py's
        assert (first["done_bytes"], first["total_bytes"]) == (0, 0)
        assert (second["done_bytes"], second["total_bytes"]) == (100, 4096)
        assert resident["bytes"] == 8192 and resident["load_ms"] == model["load_ms"]
        assert draining["reason"] == absent["reason"] == "request"
        assert told["receipt"] == receipt
        assert server.metric("vacate_event_streams") == 2
        assert server.metric("vacate_events_total") == 7


def test_who_comes_late_knows_all(fake):
    server = fake(words="held-load")
    server.go()
    server.load("b")
    server.hold()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        load = pool.submit(server.load, "a")
        measure.wait_until(lambda: server.states().get("a") == "loading", "the load")
        with Stream(server) as stream:
            state = [stream.next(), stream.next()]
            assert names(state) == ["loading", "resident"]
            assert [e[1]["model"] for e in state] == ["a", "b"]
            assert all(e[1]["state"] for e in state)
            assert len({e[2] for e in state}) == 1    # as of the same event
            server.go()
            resident = stream.upto("resident")[-1]
            assert resident[1]["model"] == "a" and "state" not in resident[1]
            assert resident[2] > state[0][2]
        load.result()
    # Somebody who connects again is told how it is now.
    server.unload("b")
    with Stream(server) as again:
        assert [(e[0], e[1]["model"]) for e in [again.next()]] == [("resident", "a")]
    measure.wait_until(lambda: server.metric("vacate_event_streams") == 0, "the ends")


def test_one_model_only(fake):
    server = fake()
    server.load("c")
    with Stream(server, "/models/events?model=b") as stream:
        server.load("a")
        server.load("b")
        server.unload("a")
        server.unload("b")
        events = stream.upto("absent")
    assert names(events) == LOADED + UNLOADED
    assert {e[1]["model"] for e in events} == {"b"}
    server.unload("c")


def test_head_and_wrong_requests(fake):
    server = fake()
    for path in ("/models/events", "/models/sse"):
        reply = server.request("HEAD", path)
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["content-type"] == "text/event-stream"
        assert server.request("POST", path, {}).status == 405
    assert server.get("/models/events?model=").status == 400
    assert server.metric("vacate_event_streams") == 0


def test_llama_cpp_shape(fake):
    """As its router writes them: no names, the status in data.data."""
    server = fake()
    server.load("b")
    with Stream(server, "/models/sse") as stream:
        event, data, _ = stream.next()
        assert event is None and data == {"model": "b", "event": "model_status",
                                          "data": {"status": "loaded"}}
        server.load("a")
        server.unload("a")
        told = [stream.next()[1] for _ in range(5)]
    assert {d["model"] for d in told} == {"a"} and {d["event"] for d in told} == {"status_change"}
    assert [d["data"]["status"] for d in told] == ["loading", "loading", "loading", "loaded",
                                                   "unloaded"]
    assert told[2]["data"]["progress"] == {"stages": ["text_model"], "current": "text_model",
                                           "value": round(100 / 4096, 4)}
    server.unload("b")


def test_failures_are_told(fake, tmp_path):
    server = fake("--journal", tmp_path / "journal", words="fail-load")
    with Stream(server) as stream:
        assert server.post("/models/load", {"model": "a"}).status == 422
        failed = stream.upto("failed")[-1][1]
        assert failed["code"] == "unsupported" and "model_type 'fake'" in failed["reason"]
        measure.wait_until(lambda: not server.workers(), "the end of the worker")
        server.says("working,die-task-of-b")
        for _ in range(2):    # each is asked of two workers
            assert server.ask("b").status == 503
        aside = stream.upto("set_aside")[-1][1]
        assert aside["model"] == "b" and "3 times in a row" in aside["reason"]
    with Stream(server) as late:    # not active, but worth knowing
        event, data, _ = late.next()
        assert (event, data["model"], data["state"]) == ("set_aside", "b", True)
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert [line["model"] for line in lines if line["event"] == "set_aside"] == ["b"]
    assert {line["event"] for line in lines} <= {"set_aside", "receipt", "refused"}


def test_eviction_and_refusal(fake, tmp_path):
    """Room for one: who makes way for whom is told, and what can never fit."""
    journal = tmp_path / "journal"
    server = fake("--ram", "100MiB", "--headroom", "0", "--journal", journal, words="plan-60")
    with Stream(server) as stream:
        server.load("a")
        server.load("b")
        events = stream.upto("resident", "b")
        told = [(e[0], e[1]["model"]) for e in events]
        assert told.index(("waiting", "b")) < told.index(("evicted", "a")) < told.index(
            ("draining", "a")) < told.index(("absent", "a")) < told.index(("resident", "b"))
        waiting = next(e[1] for e in events if e[0] == "waiting")
        evicted = next(e[1] for e in events if e[0] == "evicted")
        assert waiting["missing_bytes"] >= 20 << 20 and "budget" in waiting["reason"]
        assert evicted["for"] == "b" and evicted["bytes"] == 60 << 20
        server.unload("b")
        server.says("plan-200")
        assert server.post("/models/load", {"model": "c"}).status == 503
        refused, failed = stream.upto("failed", "c")[-2:]
        assert refused[0] == "refused" and refused[1]["code"] == "no_room"
        assert refused[1]["reason"] == failed[1]["reason"] and "200.0" in failed[1]["reason"]
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [(line["event"], line["model"]) for line in lines] == [
        ("evicted", "a"), ("receipt", "a"), ("receipt", "b"), ("refused", "c")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
               for line in lines)


def test_a_flood_of_refusals_is_sampled(fake, tmp_path):
    journal = tmp_path / "journal"
    server = fake("--max-queue", "2", "--journal", journal, words="held-task")

    def flood(pool, count):
        """Two wait for their answers, all others are refused."""
        asked = [pool.submit(server.ask) for _ in range(count)]
        measure.wait_until(lambda: sum(one.done() for one in asked) == count - 2, "refusals")
        return asked

    def refused():
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        return [line["times"] for line in lines if line["event"] == "refused"]

    with concurrent.futures.ThreadPoolExecutor(16) as pool, Stream(server) as stream:
        server.load("a")
        began = time.monotonic()
        asked = flood(pool, 300)
        events = stream.upto("refused")
        assert events[-1][1]["code"] == "busy" and events[-1][1]["times"] == 1
        assert len(refused()) <= 1 + (time.monotonic() - began) // 5
        server.go()
        assert sorted(one.result().status for one in asked) == 2 * [200] + 298 * [429]
        server.hold()
        time.sleep(5.1)
        flood(pool, 16)
        told = refused()
        server.go()
        assert told[0] == 1 and sum(told) >= 298
        assert len(told) <= 1 + (time.monotonic() - began) // 5


# ---- clients of all kinds ----

@pytest.mark.measured
def test_clients_that_do_not_read_cost_nothing(fake):
    """Twenty of them; another is told everything, and requests are answered."""
    server = fake()
    server.load("b")    # keeps the worker
    with contextlib.ExitStack() as stack:
        quick = stack.enter_context(Stream(server))
        slow = [stack.enter_context(Stream(server, receive_bytes=4096)) for _ in range(20)]
        for _ in range(20):    # buffers of all kinds have their size
            server.load("a")
            server.unload("a")
            quick.upto("absent")
        before = measure.uss(server.pid)
        for _ in range(900):    # about 2 KB each
            server.load("a")
            server.unload("a")
            assert names(quick.upto("absent")) == LOADED + UNLOADED
        after = measure.uss(server.pid)
        assert after - before < 512 << 10, (before, after)
        works(server)
        # Whoever begins to read at last is told that it missed something, and
        # how things are; every event before and after is whole.
        slow[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        events = slow[0].upto("lost", timeout_s=60)
        lost = events[-1][1]
        assert lost["events"] > 500
        state = [slow[0].next(), slow[0].next()]
        assert [(e[0], e[1]["model"], e[1]["state"]) for e in state] == [
            ("resident", "a", True), ("resident", "b", True)]
        ids = [e[2] for e in events]
        assert ids == sorted(ids) and ids[-1] - lost["events"] == ids[-2]
        assert server.metric("vacate_event_streams_lost_total") >= 1
    measure.wait_until(lambda: server.metric("vacate_event_streams") == 0, "the ends")


def test_so_many_and_no_more(fake):
    server = fake("--max-connections", "12")
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            assert stack.enter_context(Stream(server)).status == 200
        reply = server.get("/models/events")
        assert reply.status == 429 and reply.headers["retry-after"] == "5"
        assert "6 clients listen" in reply.json["error"]["message"]
        works(server)
    measure.wait_until(lambda: server.metric("vacate_event_streams") == 0, "the ends")
    with Stream(server) as stream:
        assert stream.next()[0] == "resident"


def test_one_connection_is_not_for_streams(fake):
    """Who listened would keep everybody else out, himself included."""
    server = fake("--max-connections", "1")
    reply = server.get("/models/events")
    assert reply.status == 429 and "--max-connections" in reply.json["error"]["message"]
    done = subprocess.run([program(), "load", "a", "--server", server.url], timeout=60,
                          capture_output=True, text=True, check=True)
    assert done.stdout.startswith("a: resident")


def test_clients_that_leave(fake):
    """Resets, half-closed connections and clients that never read leave nothing
    behind, in whatever state they are."""
    server = fake()
    server.load("b")
    for i in range(30):
        stream = Stream(server, receive_bytes=4096 if i % 3 == 0 else None)
        if i % 3 == 0:
            for _ in range(4):
                server.load("a")
                server.unload("a")
        if i % 2:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if i % 5 == 0:
            stream.socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(AssertionError, OSError):
                stream.rest()
        stream.socket.close()
    measure.wait_until(lambda: server.metric("vacate_event_streams") == 0, "the ends")
    works(server)
    server.unload("b")


@pytest.mark.measured
def test_nobody_spins(fake):
    """Streams that are silent, and one that is not read, cost no time."""
    server = fake()
    server.load("b")
    with Stream(server), Stream(server, receive_bytes=4096):
        for _ in range(200):
            server.load("a")
            server.unload("a")

        def ticks():
            with open(f"/proc/{server.pid}/stat", encoding="ascii") as file:
                return sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))

        before = ticks()
        time.sleep(2)
        assert ticks() - before <= 4    # hundredths of a second


def test_a_long_load_keeps_clients_alive(fake, tmp_path):
    """Longer than the server keeps idle connections, and than 15 s of silence."""
    server = fake("--idle-timeout", "2s", "--timeout", "1s", words="slow-load-17000")
    loading = subprocess.Popen([program(), "load", "a", "--server", server.url],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with Stream(server) as stream:
        assert names(stream.upto("loading")) == ["planned", "loading"]
        assert stream.upto("resident", timeout_s=60)[-1][1]["model"] == "a"
        assert stream.comments >= 1
    out, err = loading.communicate(timeout=60)
    assert loading.returncode == 0 and out.startswith("a: resident on cpu\n")
    # Standard error is no terminal: a line every five seconds.
    lines = err.splitlines()
    assert len(lines) == 3 and set(lines) == {"a: loading, 100 B of 4.0 KiB"}
    assert "\033" not in err and "\r" not in err


def test_the_end_of_the_server(fake):
    """The last events are sent before a stream ends; who does not read holds up
    nobody."""
    server = fake("--drain-timeout", "20s", words="slow-task-500")
    with concurrent.futures.ThreadPoolExecutor(1) as pool, Stream(server) as stream, \
            Stream(server, receive_bytes=4096) as stuck:
        server.load("c")    # keeps the worker
        for _ in range(200):
            server.load("b")
            server.unload("b")
        server.unload("c")
        answer = pool.submit(server.ask)
        measure.wait_until(lambda: server.events("task"), "the task")
        before = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert answer.result().status == 200
        events = stream.rest()
        assert stream.ended
        last = [(e[0], e[1]["model"], e[1].get("reason")) for e in events[-3:]]
        assert last == [("draining", "a", "shutdown"), ("receipt", "a", None),
                        ("absent", "a", "shutdown")]
        assert server.process.wait(timeout=60) == 0
        assert time.monotonic() - before < 20
        assert stuck.status == 200


# ---- the commands ----

class Terminal:
    """A program on a pseudo-terminal; what it draws is kept as it was drawn."""

    def __init__(self, *command, columns=80):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.pop("VACATE_SERVER", None)
            os.execv(command[0], command)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.drawn = b""

    def read(self, until=None, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while until is None or until not in self.drawn:
            assert time.monotonic() < deadline, self.drawn
            if not select.select([self.fd], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(self.fd, 4096)
            except OSError as error:
                assert error.errno == errno.EIO
                break
            if not data:
                break
            self.drawn += data
        return self.drawn.decode()

    def end(self):
        self.read()
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return status

    def lines(self):
        """Each state of each line, without what steers the terminal."""
        text = re.sub(r"\033\[[0-9;]*[A-Za-z]", "", self.drawn.decode())
        return [line for line in re.split(r"[\r\n]+", text) if line]


def test_load_draws_a_bar(fake):
    server = fake(words="held-load")
    name = "a-model-with-quite-a-long-name-that-leaves-little-room-for-a-bar-on-80-columns"
    os.symlink("a", server.words.parent / "models" / name)
    for model in ("a", name):
        terminal = Terminal(program(), "load", model, "--server", server.url)
        terminal.read(b"100 B of 4.0 KiB")
        server.go()
        assert os.waitstatus_to_exitcode(terminal.end()) == 0
        server.hold()
        lines = terminal.lines()
        bars = [line for line in lines if "[" in line and "]" in line]
        assert bars and all("100 B of 4.0 KiB" in line for line in bars)
        assert all(re.search(r": \[#*\.{5,}\] 100 B", line) for line in bars)
        assert max(map(len, bars)) < 80 and max(map(len, lines)) <= 80
        # The bar is gone before the result comes.
        assert terminal.drawn.decode().rpartition("]")[2].count("\r\033[K") == 1
        assert any(line.endswith(": resident on cpu") for line in lines[-4:-2])


def test_load_says_what_it_waits_for(fake):
    server = fake("--ram", "100MiB", "--headroom", "0", "--min-resident", "60s", words="plan-60")
    server.load("a")
    terminal = Terminal(program(), "load", "b", "--server", server.url)
    terminal.read(b"other models hold the budget")
    for line in terminal.lines():
        assert re.match(r"b: waiting .* for 20\.\d MiB: other models hold the budget$", line) or (
            re.match(r"b: (waiting|planned)", line) and "budget" not in line)
    os.write(terminal.fd, b"\x03")    # Ctrl-C
    status = terminal.end()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT
    assert "\r\033[K" in terminal.drawn.decode().rpartition("budget")[2]
    # Nobody waits for it any more: it left the line.
    measure.wait_until(lambda: "b" not in server.states(), "the end of the wait")
    assert server.states() == {"a": "resident"}


def test_load_says_nothing_with_json(fake):
    server = fake(words="slow-load-700")
    terminal = Terminal(program(), "load", "a", "--server", server.url, "--json")
    assert os.waitstatus_to_exitcode(terminal.end()) == 0
    (line,) = terminal.lines()
    assert json.loads(line)["model"]["state"] == "resident"


def test_load_that_fails_after_a_bar(fake):
    server = fake(words="held-load,fail-load")
    terminal = Terminal(program(), "load", "a", "--server", server.url)
    terminal.read(b"100 B of 4.0 KiB")
    server.go()
    assert os.waitstatus_to_exitcode(terminal.end()) == 1
    assert terminal.lines()[-1].startswith("vacate load: config.json: model_type 'fake'")
    assert "\r\033[Kvacate load: config.json" in terminal.drawn.decode()


def test_vacate_events(fake):
    server = fake()
    commands = [subprocess.Popen([program(), "events", "--server", server.url, *more],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for more in ([], ["--json"], ["--model", "b"])]
    measure.wait_until(lambda: server.metric("vacate_event_streams") == 3, "the commands")
    server.load("a")
    server.unload("a")
    assert server.stop() == 0
    (text, *_), (lines, *_), (nothing, *_) = ends = [c.communicate(timeout=60) for c in commands]
    assert [c.returncode for c in commands] == [0, 0, 0] and not any(err for _, err in ends)
    assert nothing == ""
    told = [json.loads(line) for line in lines.splitlines()]
    assert [d["event"] for d in told] == LOADED + UNLOADED
    rows = [line.split(maxsplit=3) for line in text.splitlines()]
    assert [row[1:3] for row in rows] == [[name, "a"] for name in LOADED + UNLOADED]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", row[0]) for row in rows)
    assert rows[2][3] == "100 B of 4.0 KiB" and rows[3][3].startswith("8.0 KiB, in ")
    assert max(map(len, text.splitlines())) <= 80
    done = subprocess.run([program(), "events", "--server", server.url], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 3 and "no vacate server at" in done.stderr


def test_vacate_events_that_are_refused(fake):
    """In the server's words and with their code, as of every command."""
    server = fake("--max-connections", "1")
    command = [program(), "events", "--server", server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5 and done.stdout == ""
    assert done.stderr.startswith("vacate events: this server takes one connection")
    assert "{" not in done.stderr
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 5 and "one connection" in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "busy"


# ---- receipts and the journal ----

def receipts(*words, **keywords):
    return subprocess.run([program(), "receipts", *map(str, words)], capture_output=True,
                          text=True, timeout=60, **keywords)


def test_receipts_since(fake):
    server = fake()
    for _ in range(3):
        server.load("a")
        server.unload("a")
    time.sleep(2.1)
    began = time.monotonic()
    moment = datetime.datetime.now(datetime.timezone.utc)
    for _ in range(2):
        server.load("b")
        server.unload("b")

    def ids(query):
        return [r["id"] for r in server.ok("GET", f"/receipts{query}")["receipts"]]

    assert ids("?since=1h") == [5, 4, 3, 2, 1]
    # all of b's, and none of a's, which were two seconds before
    assert ids(f"?since={int((time.monotonic() - began) * 1000) + 1000}ms") == [5, 4]
    assert ids("?since=1h&limit=2") == [5, 4]
    iso = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert ids(f"?since={iso}") == [5, 4]
    assert ids("?since=2999-01-01T00:00:00Z".replace("2999", "2200")) == []
    for wrong in ("yesterday", "-1h", "2026-13-01T00:00:00Z", ""):
        reply = server.get(f"/receipts?since={wrong}")
        assert reply.status == 400 and "since: expected" in reply.json["error"]["message"]
    done = receipts("--since", iso, "--short", "--server", server.url)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3
    done = receipts("--since", "1h", "--json", "--server", server.url)
    assert [r["id"] for r in json.loads(done.stdout)["receipts"]] == [5, 4, 3, 2, 1]
    done = receipts("--since", "2200-01-01T00:00:00Z", "--server", server.url)
    assert (done.returncode, done.stdout) == (0, "no receipts since then\n")
    done = receipts("--since", "soon", "--server", server.url)
    assert done.returncode == 2 and "neither a duration" in done.stderr


def test_receipts_of_a_rotated_journal(fake, tmp_path):
    """Without a server: what is in the files, the newest first, each once."""
    journal = tmp_path / "journal"
    server = fake("--journal", journal, "--journal-max", "8KiB", "--journal-keep", "3")
    server.load("b")    # keeps the worker
    for _ in range(39):
        server.load("a")
        server.unload("a")
    server.unload("b")
    assert server.metric("vacate_journal_rotations_total") >= 4
    assert server.metric("vacate_journal_lines_total") == 40
    assert server.metric("vacate_journal_errors_total") == 0
    assert server.stop() == 0
    files = sorted(p.name for p in tmp_path.glob("journal*"))
    assert files == ["journal", "journal.1", "journal.2", "journal.3"]
    assert max(p.stat().st_size for p in tmp_path.glob("journal*")) <= 8 << 10
    there = [json.loads(line)["id"] for name in reversed(files)
             for line in (tmp_path / name).read_text().splitlines()]
    assert there == list(range(41 - len(there), 41)) and len(there) >= 18

    def ids(*words):
        done = receipts("--journal", journal, "--json", *words)
        assert (done.returncode, done.stderr) == (0, "")
        return [r["id"] for r in json.loads(done.stdout)["receipts"]]

    assert ids("--limit", 0) == there[::-1]
    assert ids() == there[::-1][:10]
    assert ids("--since", "1h") == there[::-1]
    assert ids("--limit", 7) == there[::-1][:7]
    # A second name of a file and an unused number, as a crash may leave them.
    os.link(tmp_path / "journal.3", tmp_path / "journal.5")
    assert ids("--limit", 0) == there[::-1]
    for words in ([], ["--short"]):
        done = receipts("--journal", journal, "--limit", 0, *words)
        assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    assert len(done.stdout.splitlines()) == len(there) + 1


def test_journals_of_all_ages(fake, tmp_path):
    """Lines of servers that wrote nothing but receipts, lines of other things,
    and lines that were cut off."""
    server = fake()
    server.load("a")
    old = server.unload("a")
    when = datetime.datetime.now(datetime.timezone.utc)
    journal = tmp_path / "journal"
    before = {**old, "id": 7, "at": (when - datetime.timedelta(days=2)).isoformat()}
    new = {"time": old["at"], "event": "receipt", **old, "id": 8}
    journal.write_text(json.dumps(before) + "\n" + '{"time":"2026-01-31T12:00:00.000Z",'
                       '"event":"evicted","model":"a","device":"cpu","for":"b","bytes":1}\n'
                       + '{"id":3,"mod\n' + json.dumps(new) + "\n" + "[1]\n\n")
    done = receipts("--journal", journal, "--json")
    assert [r["id"] for r in json.loads(done.stdout)["receipts"]] == [8, 7]
    assert done.returncode == 0 and "2 lines are no JSON and are left out" in done.stderr
    done = receipts("--journal", journal, "--since", "1d", "--json")
    assert [r["id"] for r in json.loads(done.stdout)["receipts"]] == [8]
    done = receipts("--journal", tmp_path / "missing")
    assert done.returncode == 1 and "missing: there is no such file" in done.stderr
    done = receipts("--journal", tmp_path)
    assert done.returncode == 1 and "is no regular file" in done.stderr


def test_journal_in_a_directory_without_room(fake, tmp_path):
    """Rotation fails: said once, counted, the journal goes on, and is rotated
    when it can be."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "journal.new").mkdir()    # where the new file would begin
    server = fake("--journal", place / "journal", "--journal-max", "4KiB")
    for _ in range(6):
        server.load("a")
        server.unload("a")
    assert server.metric("vacate_journal_rotation_errors_total") > 0
    assert server.stderr().count("cannot be rotated") <= 2
    (place / "journal.new").rmdir()
    for _ in range(2):
        server.load("a")
        server.unload("a")
    assert server.metric("vacate_journal_lines_total") == 8
    assert server.metric("vacate_journal_rotations_total") > 0
