"""What clients may say in HTTP and what they may not, byte by byte; and who is behind a
browser's request."""
import json
import re
import socket

import pytest

BODY = b'{"model":"tiny/a","input":"hello","dimensions":4}'


def answered(got, replies):
    """Whether so many replies are whole in what came."""
    for _ in range(replies):
        head, end, rest = got.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100 "):
            head, end, rest = rest.partition(b"\r\n\r\n")
        length = int((re.search(rb"Content-Length: (\d+)", head) or (0, 0))[1])
        if not end or len(rest) < length:
            return False
        got = rest[length:]
    return True


def talk(port, request, replies=1):
    """What comes back: so many replies; replies=None: all until the server ends it."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request)
        got = b""
        while replies is None or not answered(got, replies):
            chunk = client.recv(65536)
            if not chunk:
                break
            got += chunk
        assert replies is None or answered(got, replies), got
        return got


def post(head, body=BODY, path=b"/v1/embeddings"):
    return b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n" + body


SMUGGLED = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKS = b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % (len(BODY) - 5) + BODY[5:] + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [
    post(LENGTH),
    post(LENGTH + b"Expect: 100-continue\r\n"),
    post(b"Transfer-Encoding: chunked\r\n", CHUNKS),
    post(b"transfer-encoding: Chunked\r\n", CHUNKS),
    post(LENGTH, path=b"http://localhost:8321/v1/embeddings"),
    post(LENGTH, path=b"/v1/embeddings?a=b"),
], ids=["length", "continue", "chunks", "CHUNKS", "whole-url", "query"])
def test_bodies(shared, request_bytes):
    got = talk(shared.port, request_bytes + SMUGGLED, replies=2)
    got = got.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    (head, body), (after, version) = (part.split(b"\r\n\r\n")
                                      for part in got.split(b"HTTP/1.1 ")[1:])
    assert head.startswith(b"200 ") and after.startswith(b"200 "), got
    assert len(json.loads(body)["data"][0]["embedding"]) == 4
    assert json.loads(version)["version"]


@pytest.mark.parametrize("request_bytes", [
    post(b"Content-Length: 5\r\nContent-Length: 44\r\n", b"hello" + SMUGGLED),
    post(b"Content-Length: 0\r\nContent-Length: 0\r\n", SMUGGLED),
    post(LENGTH + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKS + SMUGGLED),
    post(b"Transfer-Encoding: gzip\r\n", SMUGGLED),
    post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS + SMUGGLED),
], ids=["two-lengths", "equal-lengths", "both", "both-empty", "twice", "gzip", "gzip-chunked"])
def test_a_body_has_one_end(shared, request_bytes):
    """A proxy in front may take another end for the right one: nothing behind is a request."""
    got = talk(shared.port, request_bytes, replies=None)
    assert got.startswith(b"HTTP/1.1 400 "), got
    assert got.count(b"HTTP/1.1 ") == 1 and b'"version"' not in got, got
    assert b"\r\nConnection: close\r\n" in got
    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid"


def test_pipelining(shared):
    got = talk(shared.port, SMUGGLED + post(LENGTH) + SMUGGLED, replies=3)
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"200"] * 3
    assert got.index(b'"version"') < got.index(b'"embedding"') < got.rindex(b'"version"')


def test_a_zero_ends_no_name(shared):
    """%00 is no character of a name, and what stands before it is another name."""
    for path in ("/v1/models/tiny/a%00b", "/models/plan?model=tiny/a%00", "/version%00"):
        assert shared.get(path).status == 404, path
    assert shared.get("/v1/models/tiny%2Fa").status == 200
    assert shared.get("/models/plan?model=tiny%2Fa").status == 200


# ---- web pages ----

def status(port, method, path, *headers, body=b""):
    head = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{line}\r\n" for line in headers)
    got = talk(port, head.encode() + b"\r\n" + body)
    if got.startswith(b"HTTP/1.1 403 "):
        assert b"--api-key-file" in got and got.count(b'"error"') == 1, got
    return int(got.split()[1])


EVIL = ("Host: localhost", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")


def test_a_stranger_s_page_does_nothing(shared):
    """What a page that somebody opens may send without asking: simple requests."""
    port = shared.port
    shared.load("tiny/a")
    for headers in (EVIL, EVIL[:2], (EVIL[0], EVIL[2])):
        assert status(port, "POST", "/models/unload", *headers, body=b'{"all":true}') == 403
        assert status(port, "POST", "/v1/embeddings", *headers, body=BODY) == 403
        assert status(port, "POST", "/embed?model=tiny/a", *headers, body=b'{"inputs":"x"}') == 403
        assert status(port, "GET", "/unload", *headers) == 403
        assert status(port, "GET", "/healthz", *headers) == 200
    assert [m["name"] for m in shared.get("/models/ps").json["models"]] == ["tiny/a"]
    # A name of the stranger's that leads here: its pages would read the answers.
    for path in ("/v1/models", "/metrics", "/models/ps"):
        assert status(port, "GET", path, "Host: rebound.example:8321") == 403
    assert status(port, "POST", "/v1/embeddings", "Host: rebound.example", body=BODY) == 403
    assert status(port, "GET", "/healthz", "Host: rebound.example") == 200
    (line,) = [line for line in shared.get("/metrics").body.decode().splitlines()
               if line.startswith("vacate_foreign_page_refusals_total ")]
    assert float(line.split()[1]) >= 16


@pytest.mark.parametrize("headers", [
    ("Host: localhost:8321", "Origin: http://localhost:3000", "Sec-Fetch-Site: same-site"),
    ("Host: 127.0.0.1", "Origin: http://127.0.0.1"),
    ("Host: vacate",), (),
])
def test_pages_of_this_machine(shared, headers):
    assert status(shared.port, "POST", "/v1/embeddings", *headers, body=BODY) == 200


def test_keys_and_the_operator_s_word_are_enough(start, tmp_path):
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text("a-key-of-this-test\n")
    server = start("--api-key-file", keys)
    assert status(server.port, "POST", "/v1/embeddings", *EVIL, body=BODY) == 401
    key = "X-Api-Key: a-key-of-this-test"
    assert status(server.port, "POST", "/v1/embeddings", *EVIL[1:], "Host: models.example", key,
                  body=BODY) == 200
    server = start("--allow-no-key", "yes")
    assert status(server.port, "POST", "/v1/embeddings", "Host: models.example", body=BODY) == 200
