"""test_cli_tables.py - the commands against servers that say what a test
wants: widths of tables, exit codes, and what is said when things go wrong.

No real server and no model takes part; the replies are written by hand in the
shapes of docs and API, never copied from the server's own output.
"""
import contextlib
import http.server
import json
import os
import pathlib
import pty
import select
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OK, FAILED, USAGE, UNREACHABLE, NOT_FOUND, NO_ROOM = range(6)
MIB = 1 << 20


def program():
    build = pathlib.Path(os.environ.get("VACATE_BUILD") or ROOT / "build")
    for place in ("vacate", "src/cli/vacate"):
        if (build / place).is_file():
            return str(build / place)
    raise FileNotFoundError(f"{build}: there is no vacate program; build first")


def vacate(*words, server=None, columns=None, **environment):
    """Runs the program without a terminal."""
    env = {key: value for key, value in os.environ.items()
           if key not in ("VACATE_SERVER", "COLUMNS", "NO_COLOR")}
    if server:
        env["VACATE_SERVER"] = server
    if columns:
        env["COLUMNS"] = str(columns)
    env.update(environment)
    return subprocess.run([program(), *words], env=env, capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL)


# ---- servers ---------------------------------------------------------------

class Fake:
    """A server that answers (method, path) with what replies holds for it:
    (status, body), and remembers what it was asked."""

    def __init__(self):
        self.replies = {}
        self.asked = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                path = urllib.parse.urlsplit(self.path).path
                fake.asked.append((self.command, self.path,
                                   json.loads(body) if body else None))
                status, reply = fake.replies.get(
                    (self.command, path), (404, "<html>no such page</html>"))
                data = reply if isinstance(reply, (bytes, str)) else json.dumps(reply)
                data = data.encode() if isinstance(data, str) else data
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def fake():
    it = Fake()
    yield it
    it.close()


@contextlib.contextmanager
def raw_server(*pieces, pause_s=0.0, hold_s=0.0):
    """Answers one connection with bytes as they are given, piece by piece."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve():
        listener.settimeout(60)
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
                    if stop.wait(pause_s):
                        return
                stop.wait(hold_s)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.close()
        thread.join()


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# ---- what servers say ------------------------------------------------------

def usage(uss, rss=None):
    return {"rss_bytes": rss or uss + 20 * MIB, "pss_bytes": uss + 2 * MIB,
            "pss_anon_bytes": uss, "pss_file_bytes": 2 * MIB, "pss_shmem_bytes": 0,
            "uss_bytes": uss, "swap_bytes": 0}


def model(name, **changes):
    base = {
        "name": name, "path": f"/models/{name}", "aliases": [], "priority": 0,
        "pinned": False, "isolate": False, "state": "absent", "reason": None,
        "device": None, "worker_pid": None,
        "plan": {"host_bytes": 95420416, "device_bytes": 0, "own_host_bytes": 91226112,
                 "file_bytes": 90868376, "load_bytes": 1048576,
                 "items": [{"kind": "weights", "on_device": False, "bytes": 47382528},
                           {"kind": "packed", "on_device": False, "bytes": 42467328},
                           {"kind": "tokenizer", "on_device": False, "bytes": 1376256},
                           {"kind": "scratch", "on_device": False, "bytes": 4194304}]},
        "architecture": "bert", "dtype": "float32", "pooling": "mean", "normalize": True,
        "parameters": 22713216, "hidden_size": 384, "layers": 6, "heads": 12,
        "vocab_size": 30522, "embedding_dimensions": 384, "max_tokens": 256,
        "load": None, "load_ms": None, "stages_ms": None, "idle_ms": None,
        "expires_ms": None, "requests": 0, "queued": 0}
    return {**base, **changes}


MINILM = "sentence-transformers/all-MiniLM-L6-v2"
RESIDENT = model(MINILM, state="resident", device="cpu", worker_pid=4242, load_ms=143,
                 stages_ms={"start": 9, "open": 1, "tokenizer": 12, "map": 30, "read": 21,
                            "pack": 50, "warm": 20},
                 idle_ms=65000, expires_ms=235000, requests=1234567)
LOADING = model("intfloat/multilingual-e5-small", state="loading", device="cpu",
                worker_pid=4242, load={"done_bytes": 45 * MIB, "total_bytes": 100 * MIB})
UNKNOWN = model("someone/a-model-that-nobody-has-looked-at-yet", plan=None, architecture=None,
                dtype=None, pooling=None, parameters=None, embedding_dimensions=None,
                max_tokens=None)
PS = {"models": [RESIDENT, LOADING],
      "workers": [{"device": "cpu", "description": "oneDNN 2.6.3, 2 threads", "pid": 4242,
                   "models": 2, "usage": usage(113456128)}],
      "server": {"pid": 4200, "usage": usage(4087808)},
      "host": {"total_bytes": 25276448768, "available_bytes": 24163647488,
               "cgroup_limit_bytes": 8589934592, "cgroup_used_bytes": 2254857830}}


def receipt(**changes):
    base = {"id": 12, "model": MINILM, "device": "cpu", "reason": "request",
            "at": "2026-01-31T12:00:00.123Z", "resident_ms": 65000, "unload_ms": 12,
            "requests": 3, "planned_bytes": 95420416, "ledger_bytes": 95420416,
            "returned_bytes": 113456128, "unaccounted_bytes": 0,
            "worker": {"pid": 4242, "exited": True, "before": usage(113456128),
                       "after": dict.fromkeys(usage(0), 0)},
            "server": {"before": usage(4087808), "after": usage(4091904)},
            "page_cache_bytes": 90868376, "page_cache_dropped": False}
    return {**base, **changes}


@pytest.fixture
def talking(fake):
    fake.replies = {
        ("GET", "/models"): (200, {"models": [RESIDENT, LOADING, UNKNOWN]}),
        ("GET", "/models/plan"): (200, model(MINILM)),
        ("GET", "/models/ps"): (200, PS),
        ("POST", "/models/load"): (200, {"success": True, "model": RESIDENT}),
        ("POST", "/models/unload"): (200, {"success": True, "receipts": [receipt()]}),
        ("GET", "/receipts"): (200, {"receipts": [receipt(), receipt(
            id=11, reason="worker_died",
            worker={"pid": 17, "exited": True, "before": None, "after": None})]}),
    }
    return fake


COMMANDS = [["list"], ["plan", MINILM], ["load", MINILM], ["unload", MINILM], ["ps"],
            ["receipts"], ["receipts", "--short"]]


# ---- widths ----------------------------------------------------------------

@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(talking, words, columns):
    done = vacate(*words, server=talking.url, columns=columns)
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.strip()
    for line in done.stdout.splitlines():
        assert len(line) <= columns, line
        assert line == line.rstrip(), "blanks at the end"
    assert "\033" not in done.stdout


def test_list_columns_come_and_go(talking):
    at = {columns: vacate("list", server=talking.url, columns=columns).stdout.splitlines()
          for columns in (60, 80, 120)}
    assert at[120][0].split() == ["NAME", "STATE", "RAM", "PARAMS", "DIM", "TOKENS", "ARCH",
                                  "DTYPE"]
    assert at[120][1].split() == [MINILM, "resident", "91.0", "MiB", "22.7M", "384", "256",
                                  "bert", "float32"]
    # The name gives way in its middle and keeps both ends ...
    name = at[80][1].split()[0]
    assert name.startswith("sentence-") and name.endswith("L6-v2") and "..." in name
    assert 20 <= len(name) < len(MINILM)
    # ... then columns go; name, state and RAM stay.
    assert at[60][0].split()[:3] == ["NAME", "STATE", "RAM"]
    assert len(at[60][0].split()) < len(at[120][0].split())
    # What is not known is a dash, not a zero.
    assert at[120][3].split() == [UNKNOWN["name"], "absent", "-", "-", "-", "-", "-", "-"]


def test_nothing_is_cut_in_a_pipe(talking):
    """What comes of `vacate list | awk` is a name that other commands take."""
    whole = vacate("list", server=talking.url).stdout
    assert whole == vacate("list", server=talking.url, columns=999).stdout
    assert MINILM in whole and MINILM not in vacate("list", server=talking.url, columns=80).stdout
    assert vacate("list", server=talking.url, COLUMNS="none").stdout == whole


def test_wide_names_count_their_columns(fake):
    fake.replies[("GET", "/models")] = (200, {"models": [model("東北大学/" + "日本語" * 20)]})
    lines = vacate("list", server=fake.url, columns=60).stdout.splitlines()
    wide = sum(1 for c in lines[1] if ord(c) > 0x2e80)
    assert wide > 4 and len(lines[1]) + wide <= 60
    assert lines[1].startswith("東北大学/") and "..." in lines[1]


def test_names_cannot_steer_the_terminal(fake):
    fake.replies[("GET", "/models")] = (200, {"models": [model("a\033[2J\r\nb\x9b")]})
    fake.replies[("GET", "/models/plan")] = (
        404, {"error": {"code": "not_found", "message": "no model \033]0;x\007", "detail": ""}})
    done = vacate("list", server=fake.url)
    assert done.stdout.splitlines()[1].startswith("a?[2J??b?  absent")
    done = vacate("plan", "x", server=fake.url)
    assert done.stderr == "vacate plan: no model ?]0;x?\n"


# ---- what the commands print -----------------------------------------------

def test_ps(talking):
    lines = vacate("ps", server=talking.url, columns=120).stdout.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "DEVICE", "RAM", "WORKER", "REQUESTS", "IDLE",
                                "UNTIL"]
    assert lines[1].split() == [MINILM, "resident", "cpu", "91.0", "MiB", "4242", "1234567",
                                "1m", "05s", "3m", "55s"]
    assert lines[2].split() == ["intfloat/multilingual-e5-small", "loading", "45%", "cpu",
                                "91.0", "MiB", "4242", "0", "-", "-"]
    assert lines[3] == ""
    assert lines[4].split() == ["PROCESS", "PID", "DEVICE", "MODELS", "USS", "PSS", "RSS"]
    assert lines[5].split() == ["worker", "4242", "cpu", "2", "108", "MiB", "110", "MiB", "128",
                                "MiB"]
    assert lines[6].split() == ["server", "4200", "-", "-", "3.9", "MiB", "5.9", "MiB", "23.9",
                                "MiB"]
    assert lines[7] == "host: 22.5 GiB of 23.5 GiB available"
    assert lines[8] == "cgroup: 2.1 GiB of 8.0 GiB used"
    # What follows is about this machine's GPUs: test_ps.py.
    assert lines[9] == "" and len(lines) > 10


def test_ps_of_an_idle_server(talking):
    talking.replies[("GET", "/models/ps")] = (200, {
        "models": [], "workers": [], "server": {"pid": 4200, "usage": None},
        "host": {"total_bytes": 25276448768, "available_bytes": 24163647488,
                 "cgroup_limit_bytes": None, "cgroup_used_bytes": None}})
    lines = vacate("ps", server=talking.url).stdout.splitlines()
    assert lines[0] == "no model is loaded"
    assert lines[3].split() == ["server", "4200", "-", "-", "-", "-", "-"]
    assert lines[4].startswith("host: ") and lines[5] == ""


def test_ps_for_ever(talking):
    talking.replies[("GET", "/models/ps")] = (200, {
        **PS, "models": [{**RESIDENT, "expires_ms": None}, {**LOADING, "state": "draining"}]})
    lines = vacate("ps", server=talking.url, columns=120).stdout.splitlines()
    assert lines[1].split()[-1] == "forever"
    assert lines[2].split()[-1] == "-"


def test_ps_tells_settings(talking):
    """What is set, and nothing more: a server without settings has no such columns."""
    talking.replies[("GET", "/models/ps")] = (200, {**PS, "models": [
        {**RESIDENT, "expires_ms": None, "pinned": True, "isolate": True, "priority": -3},
        {**LOADING, "isolate": True, "worker_pid": None, "pinned": True}]})
    lines = vacate("ps", server=talking.url, columns=140).stdout.splitlines()
    assert lines[0].split()[-2:] == ["UNTIL", "PRIORITY"]
    assert lines[1].split()[5:] == ["4242", "own", "1234567", "1m", "05s", "pinned", "-3"]
    assert lines[2].split()[-3:] == ["-", "-", "0"]
    talking.replies[("GET", "/models/ps")] = (200, {**PS, "models": [
        {**RESIDENT, "priority": 5, "aliases": ["short"], "isolate": True}]})
    lines = vacate("ps", server=talking.url, columns=140).stdout.splitlines()
    assert lines[0].split()[-2:] == ["PRIORITY", "ALIASES"]
    assert lines[1].split()[-2:] == ["5", "short"]
    lines = vacate("ps", server=talking.url, columns=80).stdout.splitlines()
    assert max(map(len, lines)) <= 80 and "own" in lines[1]
    talking.replies[("GET", "/models/ps")] = (200, {**PS, "models": [
        {**RESIDENT, "aliases": ["short"]}]})
    lines = vacate("ps", server=talking.url, columns=140).stdout.splitlines()
    assert lines[0].split()[-2:] == ["UNTIL", "ALIASES"]
    assert lines[1].split()[-2:] == ["55s", "short"]


def test_plan(talking):
    done = vacate("plan", "org/näme with ?&#%", server=talking.url, columns=100)
    assert talking.asked == [
        ("GET", "/models/plan?model=org/n%C3%A4me%20with%20%3F%26%23%25", None)]
    lines = done.stdout.splitlines()
    assert lines[:6] == [
        f"Model         {MINILM}", f"Path          /models/{MINILM}", "State         absent",
        "Architecture  bert, float32",
        "Parameters    22.7M (6 layers, hidden size 384, 12 heads, vocabulary 30522)",
        "Embeddings    384 dimensions, at most 256 tokens, pooling mean, normalized"]
    rows = [line.split() for line in lines[7:]]
    assert rows == [
        ["REGION", "PLACE", "SIZE", "BYTES"],
        ["weights", "host", "45.2", "MiB", "47,382,528"],
        ["packed", "host", "40.5", "MiB", "42,467,328"],
        ["tokenizer", "host", "1.3", "MiB", "1,376,256"],
        ["scratch", "host", "4.0", "MiB", "4,194,304"],
        ["total", "host", "91.0", "MiB", "95,420,416"],
        ["without", "shared", "host", "87.0", "MiB", "91,226,112"],
        ["while", "loading", "host", "1.0", "MiB", "1,048,576"],
        ["read", "disk", "86.7", "MiB", "90,868,376"]]


def test_plan_unknown(talking):
    talking.replies[("GET", "/models/plan")] = (200, {**UNKNOWN, "reason": "pickle only"})
    done = vacate("plan", "x", server=talking.url)
    assert done.returncode == FAILED
    assert done.stderr == "vacate plan: no plan is known for this model: pickle only\n"


def test_load(talking):
    done = vacate("load", MINILM, "--keep-alive", "1h30m", server=talking.url, columns=80)
    assert talking.asked == [
        ("GET", f"/models/events?model={MINILM}", None),    # a server that has none does, too
        ("POST", "/models/load", {"model": MINILM, "keep_alive": "1h30m"})]
    assert done.stdout.splitlines() == [
        f"{MINILM}: resident on cpu", "  planned  91.0 MiB",
        "  loaded   in 143 ms",
        "           start 9 ms, open 1 ms, tokenizer 12 ms, map 30 ms, read 21 ms,",
        "           pack 50 ms, warm 20 ms"]
    vacate("load", MINILM, "--keep-alive=-1", server=talking.url)
    assert talking.asked[-1][2] == {"model": MINILM, "keep_alive": "-1"}
    vacate("load", "--", "-odd-name", server=talking.url)
    assert talking.asked[-1][2] == {"model": "-odd-name"}


def test_unload_prints_the_receipt(talking):
    done = vacate("unload", MINILM, server=talking.url)
    assert talking.asked == [("POST", "/models/unload", {"model": MINILM})]
    assert done.stdout.splitlines() == [
        f"Receipt 12: {MINILM} on cpu",
        "  unloaded        2026-01-31T12:00:00.123Z, in 12 ms (request)",
        "  was resident    1m 05s, 3 requests",
        "  planned          91.0 MiB",
        "  ledger           91.0 MiB",
        "  worker 4242       108 MiB -> exited (-108 MiB)",
        "  server            3.9 MiB -> 3.9 MiB (+4.0 KiB)",
        "  returned          108 MiB",
        "  unaccounted           0 B",
        "  page cache       86.7 MiB kept by the system: the next load is fast"]


def test_receipt_of_a_worker_that_stays(talking):
    talking.replies[("POST", "/models/unload")] = (200, {"success": True, "receipts": [receipt(
        requests=1, returned_bytes=-4096, unaccounted_bytes=95420416, page_cache_bytes=0,
        page_cache_dropped=True,
        worker={"pid": 4242, "exited": False, "before": usage(113456128),
                "after": usage(113460224)})]})
    lines = vacate("unload", "--all", "--drop-cache", server=talking.url).stdout.splitlines()
    assert talking.asked[-1][2] == {"all": True, "drop_cache": True}
    assert lines[2] == "  was resident    1m 05s, 1 request"
    assert lines[5] == "  worker 4242       108 MiB -> 108 MiB (+4.0 KiB)"
    assert lines[7] == "  returned         -4.0 KiB"
    assert lines[8] == "  unaccounted      91.0 MiB"
    assert lines[9] == "  page cache            0 B kept after it was dropped"


def test_receipt_without_measurement(talking):
    lines = vacate("receipts", server=talking.url).stdout.splitlines()
    at = lines.index("")
    assert lines[at + 1] == f"Receipt 11: {MINILM} on cpu"
    assert "  worker 17       not measured" in lines[at:]
    assert "  returned        unknown: the worker was not measured" in lines[at:]
    assert not any("unaccounted" in line for line in lines[at:])


def test_receipts(talking):
    done = vacate("receipts", "--limit", "7", "--short", server=talking.url, columns=140)
    assert talking.asked == [("GET", "/receipts?limit=7", None)]
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["ID", "AT", "MODEL", "REASON", "LEDGER", "RETURNED",
                                "UNACCOUNTED", "TOOK"]
    assert lines[1].split() == ["12", "2026-01-31T12:00:00.123Z", MINILM, "request", "91.0",
                                "MiB", "108", "MiB", "0", "B", "12", "ms"]
    assert lines[2].split()[6:8] == ["-", "-"]


def test_nothing_to_show(talking):
    talking.replies[("GET", "/models")] = (200, {"models": []})
    talking.replies[("GET", "/receipts")] = (200, {"receipts": []})
    talking.replies[("POST", "/models/unload")] = (200, {"success": True, "receipts": []})
    for words, said in ((["list"], "no models on disk"), (["receipts"], "no receipts"),
                        (["unload", "--all"], "no model was resident")):
        done = vacate(*words, server=talking.url)
        assert done.returncode == OK and done.stdout.startswith(said)


@pytest.mark.parametrize("words", COMMANDS[:-1], ids=" ".join)
def test_json_is_the_servers(talking, words):
    done = vacate(*words, "--json", server=talking.url)
    asked = talking.asked[0]
    body = talking.replies[(asked[0], urllib.parse.urlsplit(asked[1]).path)][1]
    assert (done.returncode, done.stderr) == (OK, "")
    if words == ["ps"]:     # with what is known of this machine (test_ps.py)
        document = json.loads(done.stdout)
        assert document == {**document, **body} and len(document) > len(body)
    else:
        assert done.stdout == json.dumps(body) + "\n"


def test_json_of_an_error(fake):
    body = {"error": {"code": "not_found", "message": "no model x", "detail": ""}}
    fake.replies[("POST", "/models/load")] = (404, body)
    done = vacate("load", "x", "--json", server=fake.url)
    assert done.returncode == NOT_FOUND
    assert json.loads(done.stdout) == body
    assert done.stderr == "vacate load: no model x\n"


# ---- errors ----------------------------------------------------------------

@pytest.mark.parametrize("status, code, expected", [
    (404, "not_found", NOT_FOUND), (503, "no_room", NO_ROOM), (429, "busy", NO_ROOM),
    (400, "invalid", FAILED), (422, "unsupported", FAILED), (504, "timeout", FAILED),
    (503, "gone", FAILED), (500, "internal", FAILED), (500, "a_new_one", FAILED)])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_refusals(talking, words, status, code, expected):
    for key in talking.replies:
        talking.replies[key] = (status, {"error": {"code": code, "message": "no: why",
                                                   "detail": "more"}})
    done = vacate(*words, server=talking.url)
    assert done.returncode == expected
    assert done.stdout == ""
    assert done.stderr == f"vacate {words[0]}: no: why (more)\n"


def test_connection_refused():
    url = f"http://127.0.0.1:{closed_port()}"
    for words in COMMANDS:
        done = vacate(*words, server=url)
        assert done.returncode == UNREACHABLE
        assert done.stderr == (f"vacate {words[0]}: no vacate server at {url}: connection "
                               "refused; start one with `vacate serve`\n")


def test_unknown_host():
    done = vacate("ps", "--server", "http://no-such-host.invalid:80")
    assert done.returncode == UNREACHABLE
    assert done.stderr.startswith("vacate ps: no vacate server at "
                                  "http://no-such-host.invalid:80: ")


@pytest.mark.parametrize("status, reason", [(404, "Not Found"), (502, "Bad Gateway")])
def test_another_kind_of_server(fake, status, reason):
    fake.replies[("GET", "/models")] = (status, "<html></html>")
    done = vacate("list", server=fake.url)
    assert done.returncode == FAILED
    assert done.stderr == (f"vacate list: {fake.url} answered GET /models with status {status} "
                           f"{reason}; is it a vacate server?\n")


@pytest.mark.parametrize("body, said", [
    ("", "something that is not JSON (line 1"),
    ("<html>", "something that is not JSON (line 1"),
    ('{"models":[}', "something that is not JSON (line 1, column 12"),
    ('{"models":[],"models":[]}', "something that is not JSON"),
    (b'{"models":"\xff"}', "something that is not JSON"),
    ("[]", "JSON that is not an object"),
    ("{}", 'no list "models"'),
    ('{"models":5}', 'no list "models"'),
    ("[" * 100000, "something that is not JSON")])
def test_replies_that_make_no_sense(fake, body, said):
    fake.replies[("GET", "/models")] = (200, body)
    fake.replies[("GET", "/models/ps")] = (200, body)
    for command in ("list", "ps"):
        done = vacate(command, server=fake.url)
        assert done.returncode == FAILED
        assert said in done.stderr and "is it a vacate server?" in done.stderr
        assert done.stderr.count("\n") == 1 and done.stdout == ""


def test_wrong_types_inside_are_dashes(fake):
    odd = {key: {"x": [1]} for key in RESIDENT}
    fake.replies[("GET", "/models")] = (200, {"models": [odd, 5, None, [], "x"]})
    lines = vacate("list", server=fake.url, columns=120).stdout.splitlines()
    assert len(lines) == 6
    for line in lines[1:]:
        assert line.split() == ["-"] * 8
    fake.replies[("GET", "/models/ps")] = (200, {
        "models": [odd, 5], "workers": 7, "server": [], "host": "?"})
    assert vacate("ps", server=fake.url).returncode == OK
    fake.replies[("POST", "/models/unload")] = (200, {"receipts": [
        5, {key: "x" for key in receipt()}, {key: -9e300 for key in receipt()},
        receipt(returned_bytes=-2**63, unaccounted_bytes=2**63 - 1)]})
    done = vacate("unload", "--all", server=fake.url)
    assert done.returncode == OK
    assert "  returned         -8.0 EiB" in done.stdout.splitlines()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = b'{"models":[]}'


@pytest.mark.parametrize("reply", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + GOOD,
    b"HTTP/1.1 200 OK\ncontent-length:   13  \n\n" + GOOD,
    b"HTTP/1.0 200 OK\r\n\r\n" + GOOD,
    b"HTTP/1.1 200\r\n\r\n" + GOOD,
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + GOOD,
    CHUNKED + b"1\r\n{\r\nC;ext=1\r\n" + GOOD[1:] + b"\r\n0\r\nTrailer: x\r\n\r\n",
    CHUNKED + b"d\r\n" + GOOD + b"\r\n0\r\n\r\n"])
def test_ways_to_send_a_body(reply):
    for pieces in ([reply], [reply[i:i + 1] for i in range(len(reply))]):
        with raw_server(*pieces, hold_s=0) as url:
            done = vacate("list", server=url)
        assert (done.returncode, done.stderr) == (OK, "")
        assert done.stdout.startswith("no models on disk")


@pytest.mark.parametrize("reply, code, said", [
    (b"", UNREACHABLE, "the connection was closed without a reply"),
    (b"220 mail.example ESMTP\r\n", FAILED,
     "the reply is not HTTP/1.1: it does not begin with a status line"),
    (b"\x16\x03\x01\x02\x00\r\n", FAILED, "it does not begin with a status line"),
    (b"HTTP/1.1 999 Odd\r\n\r\n", FAILED, "it does not begin with a status line"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + GOOD, UNREACHABLE,
     "closed in the middle of the reply"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", FAILED, "Content-Length is not a number"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", FAILED,
     "two different Content-Length headers"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", FAILED,
     "longer than the 67108864 bytes"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", FAILED,
     "its Transfer-Encoding is not chunked"),
    (CHUNKED + b"xyz\r\n", FAILED, "the size of a chunk is not a number"),
    (CHUNKED + b"fffffffff\r\n", FAILED, "the size of a chunk is not a number"),
    (CHUNKED + b"2\r\n{}x\r\n", FAILED, "a chunk is longer than its size"),
    (CHUNKED + b"2\r\n{}\r\n", UNREACHABLE, "closed in the middle of the reply"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000, FAILED, "header is longer than the 65536 bytes"),
    (b"HTTP/1.1 200 OK\r\nX\r\n\r\n", FAILED, "a header line has no name"),
    (b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", FAILED, "contains a zero byte")])
def test_broken_replies(reply, code, said):
    with raw_server(reply) as url:
        done = vacate("list", server=url)
    assert done.returncode == code
    assert done.stderr.startswith(f"vacate list: {url}: ") and said in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


def test_body_beyond_the_limit():
    chunk = b"1000000\r\n" + b" " * (1 << 24) + b"\r\n"
    with raw_server(CHUNKED, *[chunk] * 5) as url:
        done = vacate("list", server=url)
    assert done.returncode == FAILED
    assert "longer than the 67108864 bytes that are accepted" in done.stderr


def test_slow_server():
    pieces = [b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n"] * 1000
    for reply, pause in (([], 0), (pieces, 0.1)):  # silent, and never done
        started = time.monotonic()
        with raw_server(*reply, pause_s=pause, hold_s=100) as url:
            done = vacate("list", "--timeout", "0.5", server=url)
            took = time.monotonic() - started
        assert done.returncode == UNREACHABLE
        assert done.stderr == (f"vacate list: {url} did not answer in 0.5 s; --timeout gives it "
                               "longer\n")
        assert 0.5 <= took < 60    # and not until it is done


def test_server_that_is_slow_but_in_time():
    with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n", b"\r\n", GOOD,
                    pause_s=0.3) as url:
        done = vacate("list", server=url)
    assert done.returncode == OK


# ---- usage -----------------------------------------------------------------

@pytest.mark.parametrize("words, said", [
    (["nonsense"], "vacate: unknown command nonsense; see `vacate --help`"),
    (["--nonsense"], "vacate: unknown option --nonsense; see `vacate --help`"),
    (["list", "--nonsense"], "vacate list: unknown option --nonsense"),
    (["list", "-x"], "vacate list: unknown option -x"),
    (["list", "extra"], "vacate list: unexpected argument extra"),
    (["list", "--json=1"], "vacate list: option --json takes no value"),
    (["list", "--server"], "vacate list: option --server needs a value (URL)"),
    (["plan"], "vacate plan: an argument is missing: vacate plan MODEL [options]"),
    (["load"], "vacate load: an argument is missing"),
    (["load", "a", "b"], "vacate load: unexpected argument b"),
    (["unload"], "vacate unload: a MODEL or --all is missing"),
    (["unload", "a", "--all"], "vacate unload: --all and the name of a MODEL exclude each other"),
    (["receipts", "--limit", "many"], "vacate receipts: --limit many is not a number"),
    (["receipts", "--limit", "-1"], "vacate receipts: --limit -1 is not a number"),
    (["receipts", "--limit", ""], "vacate receipts: --limit  is not a number"),
    (["list", "--timeout", "soon"], "vacate list: --timeout soon is not a number of seconds"),
    (["list", "--timeout", "nan"], "vacate list: --timeout nan is not a number of seconds"),
    (["list", "--timeout", "-1"], "vacate list: --timeout -1 is not a number of seconds"),
    (["list", "--server", "https://x"], "--server https://x: only http:// is spoken"),
    (["list", "--server", "http://"], "--server http://: it names no host"),
    (["list", "--server", "x:99999"], "the port is not a number from 1 to 65535"),
    (["list", "--server", "x:"], "the port is not a number from 1 to 65535"),
    (["list", "--server", "http://x:+80"], "the port is not a number from 1 to 65535"),
    (["list", "--server", "http://[::1"], "the address has no closing bracket"),
    (["list", "--server", "http://me@x"], "that is no name of a host"),
    (["list", "--server", "http://x/a b"], "the path is too long or not a plain one"),
])
def test_wrong_usage(words, said):
    done = vacate(*words)
    assert done.returncode == USAGE
    assert said in done.stderr and "--help`" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


def test_help_and_version():
    done = vacate("--version")
    assert done.returncode == OK and done.stdout.startswith("vacate ")
    done = vacate("--help")
    assert (done.returncode, done.stderr) == (OK, "")
    for words in COMMANDS:
        assert f"\n  {words[0]} " in done.stdout
        text = vacate(words[0], "--help").stdout
        assert text.startswith(f"Usage: vacate {words[0]} ")
        assert "--server URL" in text and "--json" in text
        assert max(map(len, text.splitlines())) <= 90
    assert vacate().returncode == USAGE
    assert vacate().stderr == done.stdout


def test_server_option_wins(talking):
    nobody = f"http://127.0.0.1:{closed_port()}"
    done = vacate("list", "--server", talking.url + "/", server=nobody)
    assert done.returncode == OK
    done = vacate("list", "--server=" + talking.url.removeprefix("http://"), server=nobody)
    assert done.returncode == OK
    assert [asked[1] for asked in talking.asked] == ["/models", "/models"]
    vacate("list", "--server", talking.url + "/behind/proxy/")
    assert talking.asked[-1][1] == "/behind/proxy/models"


def test_full_disk(talking):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([program(), "list", "--server", talking.url], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == FAILED
    assert done.stderr == "vacate: cannot write the output: No space left on device\n"


# ---- a terminal ------------------------------------------------------------

def on_terminal(url, columns, **environment):
    """What `vacate list` writes to a terminal of that width."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen([program(), "list", "--server", url], stdout=theirs,
                               env={**env, "TERM": "xterm", "COLUMNS": "999", **environment})
    os.close(theirs)
    text = b""
    while select.select([ours], [], [], 10)[0]:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    assert process.wait(60) == 0
    return text.decode().replace("\r\n", "\n")


def test_terminal_width_and_colours(talking):
    text = on_terminal(talking.url, 64)
    assert "\033[32mresident\033[0m" in text and "\033[33mloading\033[0m" in text
    plain = on_terminal(talking.url, 64, NO_COLOR="1")
    assert "\033" not in plain
    assert all(len(line) <= 64 for line in plain.splitlines())
    assert any(len(line) > 50 for line in plain.splitlines())
    for code in ("\033[0m", "\033[1m", "\033[32m", "\033[33m"):
        text = text.replace(code, "")
    assert text == plain
    assert "\033" not in on_terminal(talking.url, 64, TERM="dumb")
