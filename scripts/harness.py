"""harness.py - starts `vacate serve` on a free loopback port and talks to it.

For the demo, the end-to-end tests and the benchmarks. Standard library only.
"""
import base64
import contextlib
import http.client
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import time

import measure

ROOT = pathlib.Path(__file__).resolve().parent.parent


def build_dir():
    """Where the programs are: VACATE_BUILD, else build/ of this checkout."""
    return pathlib.Path(os.environ.get("VACATE_BUILD") or ROOT / "build")


def find_vacate():
    """The vacate program of the build directory."""
    for place in ("vacate", "src/cli/vacate"):
        path = build_dir() / place
        if path.is_file():
            return path
    raise FileNotFoundError(f"{build_dir()}: there is no vacate program; build first")


class Reply:
    """Status, headers (names in lower case) and body of an HTTP answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class StartError(RuntimeError):
    """The server did not come up; carries its standard error."""

    def __init__(self, what, returncode, stderr):
        super().__init__(f"{what} (exit {returncode}): {stderr.strip()}")
        self.returncode, self.stderr = returncode, stderr


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Server:
    """One `vacate serve`. stderr_path receives what it logs. addresses: all that
    it listens on; url is the first, "http://HOST:PORT" or "unix:/PATH", and port
    its port, None for a Unix socket."""

    def __init__(self, models, stderr_path, *options, env=None, port=0, wrapper=(),
                 program=None):
        self.stderr_path = pathlib.Path(stderr_path)
        read_fd, write_fd = os.pipe()
        command = [*wrapper, str(program or find_vacate()), "serve", "--port", str(port),
                   "--ready-fd", str(write_fd)]
        for directory in [models] if isinstance(models, (str, os.PathLike)) else models:
            command += ["--models", str(directory)]
        command += [str(option) for option in options]
        full_env = dict(os.environ, HF_HUB_CACHE="/nonexistent", VACATE_CONFIG="none")
        full_env.update(env or {})
        with open(self.stderr_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, pass_fds=[write_fd], env=full_env)
        os.close(write_fd)
        self.pid = self.process.pid
        try:
            self.addresses = self._wait_ready(read_fd, 60).split()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            os.close(read_fd)
        self.url = self.addresses[0]
        self.port = None if self.url.startswith("unix:") else int(self.url.rsplit(":", 1)[1])

    def _wait_ready(self, fd, timeout_s):
        deadline, line = time.monotonic() + measure.patience(timeout_s), b""
        while b"\n" not in line:
            if not select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
                raise StartError("vacate serve was not ready in time", None, self.stderr())
            chunk = os.read(fd, 4096)
            if not chunk:
                code = self.process.wait(timeout=60)
                raise StartError("vacate serve did not start", code, self.stderr())
            line += chunk
        word, _, url = line.decode().strip().partition(" ")
        if word != "ready" or not url.startswith(("http://", "unix:")):
            raise StartError(f"vacate serve said {line!r} instead of ready", None, self.stderr())
        return url

    def stderr(self):
        return self.stderr_path.read_text(encoding="utf-8", errors="replace")

    def workers(self):
        """Pids of the server's child processes that have not ended."""
        return [pid for pid in measure.children(self.pid) if measure.alive(pid)]

    # ---- HTTP ----

    def request(self, method, path, body=None, headers=None, timeout_s=120):
        """One request on a connection of its own. body: bytes, or a JSON value."""
        if self.port is None:
            connection = UnixConnection(self.url.removeprefix("unix:"),
                                        measure.patience(timeout_s))
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                    timeout=measure.patience(timeout_s))
        with contextlib.closing(connection):
            headers = dict(headers or {})
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
                headers.setdefault("Content-Type", "application/json")
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())

    def get(self, path, **keywords):
        return self.request("GET", path, **keywords)

    def post(self, path, body, **keywords):
        return self.request("POST", path, body, **keywords)

    def ok(self, method, path, body=None, **keywords):
        """The JSON of a request that must succeed."""
        reply = self.request(method, path, body, **keywords)
        if reply.status != 200:
            raise RuntimeError(f"{method} {path}: {reply}")
        return reply.json

    def embed(self, model, inputs, **members):
        """Vectors (lists of floats, bit for bit) of texts or token lists."""
        body = {"model": model, "input": inputs, "encoding_format": "base64", **members}
        data = self.ok("POST", "/v1/embeddings", body)["data"]
        if [item["index"] for item in data] != list(range(len(data))):
            raise RuntimeError("the answers are not in the order of the inputs")
        return [floats(item["embedding"]) for item in data]

    def load(self, model, **members):
        """Loads and returns what /models/ps says of it."""
        return self.ok("POST", "/models/load", {"model": model, **members})["model"]

    def unload(self, model, **members):
        """Unloads and returns the receipt."""
        (receipt,) = self.ok("POST", "/models/unload", {"model": model, **members})["receipts"]
        return receipt

    # ---- the end ----

    def stop(self, timeout_s=60):
        """SIGTERM; the exit status. SIGKILL and TimeoutExpired when it hangs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=measure.patience(timeout_s))
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self):
        """Ends the server and its workers, whatever state they are in."""
        workers = self.workers()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def floats(text):
    """base64 of little-endian float32 -> list."""
    data = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))
