"""GET /models of many models: what is planned, what is looked at again, who waits for
whom. The workers are fake_worker.py."""
import contextlib
import http.client
import select
import socket
import time

import pytest
from test_supervisor import Fake, fake  # noqa: F401

FILES = 12


def add_models(server, count):
    for number in range(count):
        place = server.words.parent / "models" / f"org{number % 10}" / f"m{number}"
        place.mkdir(parents=True)
        (place / "model.safetensors").write_bytes(b"\0" * 64)
        for name in ["config"] + [f"other{i}" for i in range(FILES)]:
            (place / f"{name}.json").write_text("{}")


def add_part(place):
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text("{}")


def ask_for_list(server):
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.sendall(b"GET /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return sock


def read_list(sock):
    with contextlib.closing(sock):
        reply = http.client.HTTPResponse(sock)
        reply.begin()
        return reply.status, reply.read()


def names(server):
    return [model["name"] for model in server.ok("GET", "/models")["models"]]


@pytest.fixture
def many(fake):  # noqa: F811
    server = fake()
    add_models(server, 400)
    assert len(names(server)) == 403      # plans each
    return server


def test_others_are_answered_meanwhile(many):
    for _ in range(100):
        sock = ask_for_list(many)
        time.sleep(0.002)
        assert many.get("/health").status == 200
        first = not select.select([sock], [], [], 0)[0]
        status, _ = read_list(sock)
        assert status == 200
        if first:
            return
    pytest.fail("a list was always answered before what came after it")


def test_lists_that_nobody_waits_for(many):
    for _ in range(10):
        left = [ask_for_list(many) for _ in range(4)]
        kept = ask_for_list(many)
        left[0].close()
        status, body = read_list(kept)
        assert status == 200 and body.count(b'"path":') == 403
        for sock in left[1:]:
            sock.close()
    assert len(names(many)) == 403


def test_lists_at_once(many):
    """They come one after the other, and each has the plans of all."""
    socks = [ask_for_list(many) for _ in range(5)]
    bodies = [read_list(sock)[1] for sock in socks]
    assert all(body == bodies[0] and body.count(b'"plan":{') == 403 for body in bodies)


def test_what_was_changed_is_looked_at_again(many):
    place = many.words.parent / "models" / "org7" / "m7"
    asked = many.events("plan")
    assert names(many) and many.events("plan") == asked
    for change in (lambda: (place / "other3.json").write_text("[]"),       # in place
                   lambda: (place / "other3.json").chmod(0o600),
                   lambda: (place / "more.safetensors").write_bytes(b"x"),
                   lambda: add_part(place),
                   lambda: (place / "1_Pooling" / "config.json").write_text("[]"),
                   lambda: (place / "other4.json").unlink()):
        before = len(many.events("plan"))
        change()
        names(many)
        assert [str(place) in line for line in many.events("plan")[before:]] == [True]
    before = len(many.events("plan"))
    (place / "README.md").write_text("no part of the model")
    names(many)
    assert len(many.events("plan")) == before


def wait_for(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_plans_that_nobody_waits_for(fake):  # noqa: F811
    """Who gives a list up takes along the plans that he alone wanted."""
    server = fake(words="slow-plan-200")
    add_models(server, 40)
    left = ask_for_list(server)
    wait_for(lambda: len(server.events("plan")) >= 2)
    left.close()
    wait_for(lambda: not server.workers())      # it was let go
    asked = len(server.events("plan"))
    assert asked < 20
    assert server.ask("a").status == 200
    # Somebody else waits: all of them are planned for him, also after the first has left.
    first, other = ask_for_list(server), ask_for_list(server)
    wait_for(lambda: len(server.events("plan")) > asked + 2)
    first.close()
    status, body = read_list(other)
    assert status == 200 and body.count(b'"plan":{') == 43
