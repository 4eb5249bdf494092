"""Who may ask, and where: API keys, addresses and Unix sockets, from outside."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time

import harness
import measure
import openai
import pytest

from conftest import backend_options, check_end

KEY, OTHER = "sk-0123456789abcdef", "another-key-for-the-test"
TEXTS = ["The harbour is quiet.", "A lighthouse by the sea"]
MIB = 1 << 20


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def write_keys(path, *keys, mode=0o600):
    """As a careful administrator does it: complete before it has its name."""
    new = path.with_name(path.name + ".new")
    new.touch(mode=0o600)
    new.write_text("# of the test\n\n" + "".join(f"{key}\n" for key in keys))
    new.chmod(mode)
    new.rename(path)
    return path


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path / "keys", KEY, OTHER)


def log_says(server, words, count=1):
    measure.wait_until(lambda: server.stderr().count(words) >= count, f"'{words}' in the log")


def refused_to_start(zoo, tmp_path, *options, env=None):
    """The last line that the server wrote when it did not start."""
    with pytest.raises(harness.StartError) as caught:
        harness.Server(zoo.path, tmp_path / "refused.log", *options, env=env)
    assert caught.value.returncode == 1, caught.value
    line = caught.value.stderr.strip().splitlines()[-1]
    assert line.startswith("vacate serve: ") and len(line) > 40
    return line


# ---- keys ----

@pytest.fixture
def guarded(start, keys):
    return start("--api-key-file", keys)


@pytest.mark.threads
@pytest.mark.parametrize("headers", [bearer(KEY), bearer(OTHER), {"authorization": f"bearer  {KEY}"},
                                     {"X-Api-Key": KEY}, {"x-api-key": OTHER, **bearer("wrong")}])
def test_right_key(guarded, headers):
    reply = guarded.post("/v1/embeddings", {"model": "tiny/a", "input": TEXTS}, headers=headers)
    assert reply.status == 200 and len(reply.json["data"]) == 2


@pytest.mark.parametrize("headers", [
    {}, bearer("wrong"), bearer(KEY[:-1]), bearer(KEY + "0"), bearer(KEY.upper()), bearer(""),
    {"Authorization": f"Basic {KEY}"}, {"Authorization": KEY}, {"X-Api-Key": ""},
    {"X-Api-Key": f"Bearer {KEY}"}])
def test_no_key_or_a_wrong_one(guarded, headers):
    reply = guarded.post("/v1/embeddings", {"model": "tiny/a", "input": TEXTS}, headers=headers)
    assert reply.status == 401, reply
    challenge = reply.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="vacate"')
    assert ("invalid_token" in challenge) == bool(headers)
    assert KEY not in str(reply.body)
    assert not guarded.workers()    # nothing was loaded for it


@pytest.mark.parametrize("method, path, members", [
    ("POST", "/v1/embeddings", {"error": {"message", "type", "param", "code"}}),
    ("GET", "/v1/nowhere", {"error": {"message", "type", "param", "code"}}),
    ("POST", "/embed", {"error": str, "error_type": str}),
    ("GET", "/", {"error": str, "error_type": str}),
    ("GET", "/api/tags", {"error": str}),
    ("GET", "/models", {"error": {"code", "message", "detail"}}),
    ("GET", "/nowhere", {"error": {"code", "message", "detail"}}),
    ("DELETE", "/metrics", {"error": {"code", "message", "detail"}}),
    ("POST", "/healthz", {"error": {"code", "message", "detail"}})])
def test_refusals_have_the_family_s_shape(guarded, method, path, members):
    reply = guarded.request(method, path, b"{}" if method == "POST" else None)
    assert reply.status == 401, reply
    body = reply.json
    assert set(body) == set(members)
    for name, inner in members.items():
        assert isinstance(body[name], str) if inner is str else set(body[name]) == inner
    message = body["error"] if isinstance(body["error"], str) else body["error"]["message"]
    assert "API key" in message and "Authorization: Bearer" in message
    if path.startswith("/v1/"):
        assert body["error"]["code"] == "invalid_api_key"
    elif isinstance(body["error"], dict):
        assert body["error"]["code"] == "unauthorized"


def test_what_is_open(guarded):
    for path in ("/healthz", "/health", "/v2/health/live", "/v2/health/ready"):
        for method in ("GET", "HEAD"):
            # Those of KServe may not be there, but that is another answer.
            assert guarded.request(method, path).status in (200, 404)
    assert guarded.get("/healthz").json == {"status": "ok"}
    for path in ("/", "/info", "/version", "/metrics", "/models", "/models/ps", "/receipts",
                 "/v1/models", "/api/ps", "/api/version", "/nowhere", "/healthz/", "/v2/health/x"):
        assert guarded.get(path).status == 401, path
        assert guarded.request("HEAD", path).status == 401, path
        assert guarded.get(path, headers=bearer(KEY)).status != 401, path


def test_metrics_may_be_open(start, keys):
    server = start("--api-key-file", keys, "--metrics-open", "yes")
    for _ in range(3):
        server.get("/models")
    server.get("/models", headers=bearer("x" * 20))
    server.get("/models", headers=bearer(KEY))
    text = server.get("/metrics").body.decode()
    assert 'vacate_key_refusals_total{reason="missing"} 3\n' in text
    assert 'vacate_key_refusals_total{reason="wrong"} 1\n' in text
    assert 'vacate_http_replies_total{code="401"} 4\n' in text
    assert "vacate_keys 2\n" in text
    assert server.post("/metrics", b"{}").status == 401


def test_without_keys_nothing_is_asked(shared):
    assert shared.get("/models/ps", headers=bearer("whatever")).status == 200
    assert "vacate_key" not in shared.get("/metrics").body.decode()


def test_one_connection_with_and_without(guarded):
    """A refusal with a body does not break the connection."""
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=60) as client:
        file = client.makefile("rb")
        for key, status in ((None, 401), (KEY, 200), ("wrong", 401), (OTHER, 200)):
            body = json.dumps({"model": "tiny/a", "input": TEXTS}).encode()
            line = f"Authorization: Bearer {key}\r\n" if key else ""
            client.sendall(f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n{line}"
                           f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert file.readline().split()[1] == str(status).encode()
            length = 0
            while (header := file.readline().strip()):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            assert len(file.read(length)) == length > 0


def test_a_refused_body_is_not_kept(guarded):
    """Many at once, each as large as is allowed: none is held in memory."""
    guarded.get("/healthz")
    before, clients = measure.rss(guarded.pid), []
    for _ in range(8):
        client = socket.create_connection(("127.0.0.1", guarded.port), timeout=60)
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n")
        client.sendall(b"x" * 15_000_000)
        clients.append(client)
    text = guarded.get("/metrics", headers=bearer(KEY)).body.decode()
    assert re.search(r"^vacate_http_held_bytes 0$", text, re.M)
    assert measure.rss(guarded.pid) - before < 8 * MIB
    for client in clients:
        client.sendall(b"x" * 1_000_000)
        assert client.recv(4096).startswith(b"HTTP/1.1 401")
        client.close()
    # Who asks first whether to send is told at once.
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=60) as client:
        client.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n"
                       b"Expect: 100-continue\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 401")


@pytest.mark.threads
def test_reload(start, keys, tmp_path):
    server = start("--api-key-file", keys)
    new = "a-new-key-for-the-test"

    def status(key):
        return server.get("/models/ps", headers=bearer(key)).status

    assert (status(KEY), status(new)) == (200, 401)
    write_keys(keys, new)
    server.process.send_signal(signal.SIGHUP)
    log_says(server, "1 API keys read")
    assert (status(KEY), status(OTHER), status(new)) == (401, 401, 200)
    problems = [("short", "line 3: the key has 5 characters", 0o600),
                (f"{KEY} {OTHER}", "line 3, column 20: there is a space", 0o600),
                (KEY, "mode 0644", 0o644)]
    for count, (content, words, mode) in enumerate(problems, 1):
        write_keys(keys, content, mode=mode)
        server.process.send_signal(signal.SIGHUP)
        log_says(server, "the API keys stay as they were", count)
        assert words in server.stderr()
        assert (status(KEY), status(new)) == (401, 200)
    keys.unlink()
    server.process.send_signal(signal.SIGHUP)
    log_says(server, "the API keys stay as they were", len(problems) + 1)
    assert (status(KEY), status(new)) == (401, 200)
    text = server.get("/metrics", headers=bearer(new)).body.decode()
    assert f"vacate_key_reload_errors_total {len(problems) + 1}\n" in text
    write_keys(keys, OTHER)
    server.process.send_signal(signal.SIGHUP)
    log_says(server, "1 API keys read", 2)
    assert (status(new), status(OTHER)) == (401, 200)
    assert KEY not in server.stderr() and new not in server.stderr()


def events_of(server, key):
    """A connection on which events come, behind the first of them."""
    client = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    client.sendall(f"GET /models/events HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\n\r\n".encode())
    got = b""
    while b"retry:" not in got:
        got += client.recv(4096)
    assert got.startswith(b"HTTP/1.1 200")
    return client


@pytest.mark.threads
def test_a_key_that_is_taken_back_ends_its_streams(start, keys):
    server = start("--api-key-file", keys)
    with events_of(server, OTHER) as stays, events_of(server, KEY) as goes:
        write_keys(keys, OTHER)
        server.process.send_signal(signal.SIGHUP)
        log_says(server, "its API key was taken back")
        assert goes.recv(4096) == b""    # no end of the last chunk, either
        server.post("/models/load", {"model": "tiny/a"}, headers=bearer(OTHER))
        got = b""
        while b"resident" not in got:
            got += stays.recv(4096)
        write_keys(keys, "short")    # of no use: the old ones hold
        server.process.send_signal(signal.SIGHUP)
        log_says(server, "the API keys stay as they were")
        server.post("/models/unload", {"model": "tiny/a"}, headers=bearer(OTHER))
        while b"absent" not in got:
            got += stays.recv(4096)
    assert server.stderr().count("its API key was taken back") == 1


@pytest.mark.parametrize("content, mode, words", [
    (f"{KEY}\n", 0o644, "mode 0644"), (f"{KEY}\n", 0o660, "mode 0660"),
    ("", 0o600, "no key"), ("# none\n", 0o600, "no key"),
    (f"{KEY}\nshort\n", 0o600, "line 2"), (None, 0, "No such file")])
def test_start_with_a_file_of_no_use(zoo, tmp_path, content, mode, words):
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    line = refused_to_start(zoo, tmp_path, "--api-key-file", path)
    assert words in line and str(path) in line and "--api-key-file" in line
    assert KEY not in line


def test_openai_client(guarded):
    url = guarded.url + "/v1"
    client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
    answer = client.embeddings.create(model="tiny/a", input=TEXTS)
    assert len(answer.data) == 2
    assert {"tiny/a", "tiny/b"} <= {model.id for model in client.models.list()}
    with pytest.raises(openai.AuthenticationError) as caught:
        openai.OpenAI(base_url=url, api_key="none", max_retries=0).models.list()
    assert caught.value.code == "invalid_api_key" and "API key" in str(caught.value)


# ---- the command line ----

def vacate(*words, **env):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VACATE_")}
    return subprocess.run([str(harness.find_vacate()), *map(str, words)], capture_output=True,
                          text=True, timeout=60, env={**clean, **{k: str(v) for k, v in env.items()}})


def test_commands_send_a_key(guarded, keys, tmp_path):
    second = write_keys(tmp_path / "second", OTHER)
    wrong = write_keys(tmp_path / "wrong", "w" * 20)
    url = ("--server", guarded.url)
    assert vacate("load", "tiny/a", *url, VACATE_API_KEY=KEY).returncode == 0
    assert "tiny/a" in vacate("ps", *url, "--api-key-file", keys).stdout
    assert "tiny/a" in vacate("ps", *url, VACATE_API_KEY_FILE=second).stdout
    # The option wins over the key, and the key over the file.
    assert vacate("list", *url, "--api-key-file", second, VACATE_API_KEY="wrong").returncode == 0
    assert vacate("list", *url, VACATE_API_KEY=KEY, VACATE_API_KEY_FILE=wrong).returncode == 0
    for words, env in (((), {}), ((), {"VACATE_API_KEY": "wrong"}),
                       (("--api-key-file", wrong), {"VACATE_API_KEY": KEY})):
        done = vacate("unload", "tiny/a", *url, *words, **env)
        assert done.returncode == 1 and "API key" in done.stderr, done
    for env, words in (({"VACATE_API_KEY": "a b"}, "VACATE_API_KEY"),
                       ({"VACATE_API_KEY": "a\r\nX-Evil: 1"}, "VACATE_API_KEY"),
                       ({"VACATE_API_KEY_FILE": "/nonexistent/keys"}, "/nonexistent/keys")):
        done = vacate("ps", *url, **env)
        assert done.returncode == 2 and words in done.stderr
    keys.chmod(0o644)
    done = vacate("ps", *url, "--api-key-file", keys)
    assert done.returncode == 2 and "mode 0644" in done.stderr
    assert "tiny/a" in vacate("unload", "tiny/a", *url, VACATE_API_KEY=KEY).stdout


# ---- other machines ----

@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "127.0.0.1,::"])
def test_other_machines_need_a_key(start, zoo, tmp_path, keys, host):
    line = refused_to_start(zoo, tmp_path, "--host", host)
    assert "can be reached from other machines" in line
    assert "--api-key-file" in line and "--allow-no-key" in line
    with_keys = start("--host", host, "--api-key-file", keys)
    assert with_keys.get("/models/ps").status == 401
    assert with_keys.get("/models/ps", headers=bearer(KEY)).status == 200
    without = start("--host", host, "--allow-no-key", "yes")
    assert without.get("/models/ps").status == 200


@pytest.mark.parametrize("value", ["", "maybe", "YES "])
def test_allow_no_key_takes_yes_or_no(value):
    done = vacate("serve", "--allow-no-key", value)
    assert done.returncode == 2 and "takes yes or no" in done.stderr


def own_addresses():
    """This machine's addresses that are not loopback ones."""
    found = set()
    for text in subprocess.run(["hostname", "-I"], capture_output=True,
                               text=True).stdout.split():
        if not text.startswith(("127.", "::1", "fe80")):
            found.add(text)
    return sorted(found)


def test_an_interface_s_address_needs_a_key(start, zoo, tmp_path, keys):
    addresses = own_addresses()
    if not addresses:
        pytest.skip("this machine has loopback addresses only")
    line = refused_to_start(zoo, tmp_path, "--host", addresses[0])
    assert f"--host {addresses[0]} can be reached" in line
    server = start("--host", f"127.0.0.1,{addresses[0]}", "--api-key-file", keys)
    with socket.create_connection((addresses[0], server.port), timeout=60) as client:
        client.sendall(b"GET /models HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 401")


def test_ipv6(start):
    server = start("--host", "::1,127.0.0.1")
    assert server.url == f"http://[::1]:{server.port}"
    assert server.addresses[1] == f"http://127.0.0.1:{server.port}"
    with socket.create_connection(("::1", server.port), timeout=60) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert server.get("/healthz").status == 200    # the other one
    assert vacate("ps", "--server", server.url).returncode == 0


# ---- Unix sockets ----

def unix(tmp_path, name="socket"):
    path = tmp_path / name
    if len(str(path)) > 107:
        pytest.skip("the directory of the tests has too long a path for sockets")
    return path


@pytest.mark.threads
def test_unix_socket_alone(start, tmp_path):
    path = unix(tmp_path)
    server = start("--host", f"unix:{path}")
    assert server.addresses == [f"unix:{path}"]
    about = path.lstat()
    assert stat.S_ISSOCK(about.st_mode) and stat.S_IMODE(about.st_mode) == 0o660
    assert len(server.embed("tiny/a", TEXTS)) == 2
    assert "tiny/a" in vacate("ps", "--server", f"unix:{path}").stdout
    assert "tiny/a" in vacate("unload", "tiny/a", VACATE_SERVER=f"unix:{path}").stdout
    # Nothing listens on a port.
    inodes = {os.stat(f"/proc/{server.pid}/fd/{fd}").st_ino for fd in
              measure.open_files(server.pid)}
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            assert int(line.split()[9]) not in inodes
    check_end(server)
    assert not path.exists()


def test_curl(start, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    path = unix(tmp_path)
    start("--host", f"unix:{path}")
    done = subprocess.run(["curl", "-sS", "--unix-socket", str(path), "http://localhost/v1/embeddings",
                           "-d", json.dumps({"model": "tiny/a", "input": TEXTS})],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(json.loads(done.stdout)["data"]) == 2


def test_unix_socket_beside_tcp(start, tmp_path, keys):
    """Keys hold for both."""
    path = unix(tmp_path)
    server = start("--host", f"127.0.0.1,unix:{path}", "--api-key-file", keys)
    assert server.addresses == [server.url, f"unix:{path}"] and server.port
    for address in server.addresses:
        assert vacate("ps", "--server", address).returncode == 1
        assert vacate("ps", "--server", address, VACATE_API_KEY=KEY).returncode == 0


def test_many_at_once(start, tmp_path):
    path = unix(tmp_path)
    server = start("--host", f"127.0.0.1,unix:{path}", "--max-connections", "6")
    expected = server.embed("tiny/a", TEXTS)
    problems = []

    def ask(address):
        one = harness.Server.__new__(harness.Server)
        one.url, one.port = address, None if address.startswith("unix:") else server.port
        try:
            for _ in range(20):
                assert one.embed("tiny/a", TEXTS) == expected
        except BaseException as problem:    # noqa: BLE001 - told below
            problems.append(problem)

    threads = [threading.Thread(target=ask, args=(address,)) for address in server.addresses * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems, problems[0]


def test_sockets_of_the_dead_and_of_the_living(start, zoo, tmp_path):
    path = unix(tmp_path)
    first = start("--host", f"unix:{path}")
    line = refused_to_start(zoo, tmp_path, "--host", f"unix:{path}")
    assert "another server listens there" in line and str(path) in line
    assert first.get("/healthz").status == 200    # it still has its socket
    first.kill()
    assert path.is_socket()
    second = start("--host", f"unix:{path}")
    assert second.get("/healthz").status == 200
    # What is no socket stays what it is.
    other = tmp_path / "precious"
    other.write_text("precious")
    assert "no socket" in refused_to_start(zoo, tmp_path, "--host", f"unix:{other}")
    assert other.read_text() == "precious"


def test_servers_that_start_together(zoo, tmp_path):
    """One of them gets the place of a dead server, the others are refused."""
    path = unix(tmp_path)
    for attempt in range(3):
        dead = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        dead.bind(str(path))
        dead.close()
        started = []

        def begin(number):
            try:
                started.append(harness.Server(zoo.path, tmp_path / f"{attempt}-{number}.log",
                                              *backend_options(), "--host", f"unix:{path}"))
            except harness.StartError as error:
                assert "another server listens there" in error.stderr

        threads = [threading.Thread(target=begin, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(started) == 1
        assert started[0].get("/healthz").status == 200
        check_end(started[0])
        assert not path.exists()


def test_paths_of_sockets(zoo, tmp_path):
    for host, words in ((f"unix:/tmp/{'x' * 200}", "at most 107"), ("unix:relative", "unix:/PATH"),
                        ("unix:/nonexistent/socket", "/nonexistent/socket"),
                        ("127.0.0.1,", "between the commas"),
                        ("not-a-host.invalid", "not-a-host.invalid")):
        assert words in refused_to_start(zoo, tmp_path, "--host", host)
    for server, words in (("unix:relative", "whole path"), ("unix:/" + "x" * 200, "107 bytes")):
        done = vacate("ps", "--server", server)
        assert done.returncode == 2 and words in done.stderr
    done = vacate("ps", "--server", f"unix:{tmp_path}/nobody")
    assert done.returncode == 3 and "there is no socket" in done.stderr


def test_sockets_from_systemd(zoo, tmp_path):
    """LISTEN_FDS: they take the place of --host, and workers hear nothing of it."""
    path = unix(tmp_path)
    with socket.socket(socket.AF_UNIX) as one, socket.create_server(("127.0.0.1", 0)) as two:
        one.bind(str(path))
        one.listen(8)
        ready, said = os.pipe()
        low = [os.dup2(fd, number) for fd, number in ((one.fileno(), 60), (two.fileno(), 61),
                                                      (said, 62))]
        process = subprocess.Popen(
            ["bash", "-c", 'exec 3<&60 4<&61; LISTEN_PID=$$ LISTEN_FDS=2 exec "$@"', "bash",
             str(harness.find_vacate()), "serve", *backend_options(), "--host", "192.0.2.1",
             "--models", str(zoo.path), "--ready-fd", "62"],
            pass_fds=low, stderr=subprocess.PIPE, env={**os.environ, "HF_HUB_CACHE": "/nonexistent"})
        for fd in (*low, said):
            os.close(fd)
        try:
            line = os.read(ready, 4096).decode()
            port = two.getsockname()[1]
            assert line == f"ready unix:{path} http://127.0.0.1:{port}\n", process.stderr.read()
            server = harness.Server.__new__(harness.Server)
            for server.url, server.port in ((f"unix:{path}", None), ("", port)):
                assert len(server.embed("tiny/a", TEXTS)) == 2
            (worker,) = measure.children(process.pid)
            assert b"LISTEN_" not in pathlib.Path(f"/proc/{worker}/environ").read_bytes()
        finally:
            process.terminate()
            assert process.wait(60) == 0
            process.stderr.close()
            os.close(ready)
        assert path.exists()    # it is systemd's


# ---- replies that must arrive ----

@pytest.mark.parametrize("request_bytes, status", [
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", b"431"),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", b"431"),
    (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
    (b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 500_000, b"413"),
], ids=["header", "headers", "uri", "body"])
def test_refusals_reach_a_client_that_still_sends(shared, request_bytes, status):
    """Who looks for a reply only when all is sent gets it, and no reset."""
    before = len(measure.open_files(shared.pid))
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", shared.port), timeout=60) as client:
            for at in range(0, len(request_bytes), 4000):
                client.sendall(request_bytes[at:at + 4000])
                if at < 40_000:
                    time.sleep(0.002)    # the refusal is on its way while we go on
            reply = b""
            while chunk := client.recv(65536):
                reply += chunk
            assert reply.split()[1] == status, reply[:100]
    measure.wait_until(lambda: len(measure.open_files(shared.pid)) <= before, "the closing")


def test_clients_that_never_stop_sending_are_cut_off(start):
    """The patience for what nobody wants has an end, in time and in bytes."""
    server = start("--client-timeout", "1h", "--idle-timeout", "1h")
    files = len(measure.open_files(server.pid))
    clients = []
    for _ in range(40):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 30_000)
        clients.append(client)
    measure.wait_until(lambda: len(measure.open_files(server.pid)) <= files + 1, "the end")
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        with pytest.raises((ConnectionError, TimeoutError)):
            for _ in range(2000):
                client.sendall(b"a" * 16_000)
    for client in clients:
        client.close()
    assert server.get("/healthz").status == 200
