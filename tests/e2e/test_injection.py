"""Every call to the system that a load, an answer and an unload make fails,
one after the other: in the server, in the worker, in a worker that has another
model to answer for, and while a server starts and ends.

After each: success, or one error with a sentence; the server lives; the next
request is answered right; descriptors, processes, memory and ledger are where
they were. A call fails with each of the errors that it can plausibly give
(tests/fault/preload.c)."""
import collections

import harness
import injection
import measure
import pytest
from injection import ALLOCATIONS, CALLS, SERVER, WORKER

KIB, MIB = 1 << 10, 1 << 20
TEXT = ["The harbour is quiet."]
# So that what is waited for ends soon.
OPTIONS = ("--heartbeat", "200ms", "--silence-timeout", "2s", "--hello-timeout", "3s",
           "--client-timeout", "3s", "--timeout", "15s")
CLASSES = pytest.mark.parametrize("classes", [CALLS, ALLOCATIONS], ids=["calls", "allocations"])
MANY = 5000


@pytest.fixture
def faulty(start, tmp_path):
    """faulty(*options) -> (server, control), the server with the library before
    its C library."""
    def begin(*options):
        control = injection.Control(tmp_path / "control")
        return start(*OPTIONS, *options, env=control.environment), control

    return begin


def sanitized():
    return b"__asan" in harness.find_vacate().read_bytes()


def skip_allocations(classes):
    if classes == ALLOCATIONS and sanitized():
        pytest.skip("a sanitizer brings its own allocator")


def variants():
    """Everything is slower there, and the second error runs most of the same code."""
    return range(1 if sanitized() else injection.MAX_VARIANTS)


def vectors(reply):
    return [harness.floats(item["embedding"]) for item in reply.json["data"]]


def check_replies(replies, hit, role):
    for reply in replies:
        if reply is None:
            # Nothing can be said to a client whose own connection failed, nor
            # where there is no memory for its reply.
            assert role == SERVER and (hit.of_a_client or hit.error_is_memory), f"{hit}: no reply"
        elif reply.status != 200:
            # 422: what the worker was told of the model's files.
            assert reply.status in (422, 429, 500, 503), f"{hit}: {reply}"
            injection.sentence(reply)


class Sweep:
    """One call after the other fails; after each, what must hold is checked."""

    def __init__(self, server, control, role, classes):
        self.server, self.control, self.role, self.classes = server, control, role, classes
        self.golden = [self.server.embed("tiny/a", TEXT)]
        self.files, self.held = {}, collections.defaultdict(list)
        self.faults, self.errors, self.ledger = [], 0, None

    def ask(self):
        """The replies to what is tried: those of models first, then the unload's."""
        replies = [injection.embed(self.server, "tiny/a", TEXT)]
        replies.append(injection.ask(self.server, "/models/unload", {"model": "tiny/a"}))
        return replies

    def processes(self):
        """Those that must have no more than before."""
        return [self.server.pid]

    def rest(self):
        injection.quiet(self.server)

    def try_one(self, at, variant):
        self.control.arm(self.role, self.classes, at, variant)
        try:
            replies = self.ask()
        finally:
            hit = self.control.disarm()
        assert self.server.process.poll() is None, f"{hit}: {self.server.stderr()[-2000:]}"
        check_replies(replies, hit, self.role)
        for reply, golden in zip(replies, self.golden):
            assert reply is None or reply.status != 200 or vectors(reply) == golden, hit
        # A client whose connection failed could not ask for it.
        if replies[-1] is None or replies[-1].status != 200:
            self.server.ok("POST", "/models/unload", {"model": "tiny/a"})
        if hit.failed:
            self.faults.append(hit)
            self.errors += any(r is None or r.status != 200 for r in replies)
        return hit

    def check(self):
        """A round that must succeed, and what is left after it."""
        replies = self.ask()
        assert [reply and reply.status for reply in replies] == [200] * len(replies), replies
        assert [vectors(reply) for reply in replies[:-1]] == self.golden
        (receipt,) = replies[-1].json["receipts"]
        assert receipt["unaccounted_bytes"] <= MIB, receipt
        # As of the first unload: what the plan says, less what others share.
        self.ledger = self.ledger or receipt["ledger_bytes"]
        assert receipt["ledger_bytes"] == self.ledger <= receipt["planned_bytes"], receipt
        self.rest()
        for pid in self.processes():
            most = self.files.setdefault(pid, len(injection.files(pid, 0)))
            files = injection.files(pid, most)
            assert len(files) <= most, files
            self.held[pid].append(measure.pss_anon(pid))

    def run(self):
        """With each variant: every call, until one is not reached any more."""
        self.server.unload("tiny/a")
        self.check()
        for variant in variants():
            before = len(self.faults)
            for at in range(1, MANY):
                hit = self.try_one(at, variant)
                try:
                    if hit.failed:
                        self.check()
                except Exception as error:
                    raise AssertionError(f"after call {at}, {hit}: {error}\n"
                                         f"{self.server.stderr()[-3000:]}") from error
                if not hit.reached:
                    break
            assert not hit.reached, "this does not come to an end"
            if len(self.faults) == before:
                break
        return self


class BesideSweep(Sweep):
    """The worker holds tiny/b, too, which must answer through all of it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.golden.append(self.server.embed("tiny/b", TEXT))

    def ask(self):
        first, last = super().ask()
        return [first, injection.embed(self.server, "tiny/b", TEXT), last]

    def processes(self):
        """A worker that a fault killed has a successor, with files of its own."""
        return [self.server.pid, *self.server.workers()]

    def rest(self):
        states = {m["name"]: m["state"] for m in self.server.ok("GET", "/models/ps")["models"]}
        assert states == {"tiny/b": "resident"}
        assert len(measure.children(self.server.pid)) == 1


def check_memory(sweep):
    """The second half of the faults took no more than the first. A sanitizer
    keeps what is freed. Pages of files are not looked at: a library's become
    private to a process when the last other one that maps it ends."""
    if sanitized():
        return
    for pid, held in sweep.held.items():
        half = len(held) // 2
        if half > 8:
            assert max(held[half:]) - max(held[:half]) <= 256 * KIB, (pid, held)


@CLASSES
@pytest.mark.parametrize("role", [SERVER, WORKER], ids=["server", "worker"])
def test_every_call(faulty, role, classes, tmp_path):
    skip_allocations(classes)
    sweep = Sweep(*faulty("--journal", tmp_path / "journal"), role, classes).run()
    assert len(sweep.faults) > 50 and 20 < sweep.errors <= len(sweep.faults)
    check_memory(sweep)


@CLASSES
def test_every_call_beside_another_model(faulty, classes):
    skip_allocations(classes)
    sweep = BesideSweep(*faulty("--keep-alive", "-1"), WORKER, classes).run()
    assert len(sweep.faults) > 50 and 20 < sweep.errors <= len(sweep.faults)
    check_memory(sweep)


@CLASSES
def test_every_call_of_a_start(zoo, classes, tmp_path):
    """It serves, or it says in a sentence why it does not; and it ends."""
    skip_allocations(classes)
    control = injection.Control(tmp_path / "control")
    refused = 0
    for variant in variants():
        failed = 0
        for at in range(1, MANY):
            log = tmp_path / "log"
            log.unlink(missing_ok=True)
            control.arm(SERVER, classes, at, variant)
            try:
                server = harness.Server(zoo.path, log, env=control.environment)
            except harness.StartError as error:
                hit = control.disarm()
                refused += 1
                assert error.returncode in (1, 2), f"{hit}: {error}"
                text = (error.stderr.strip().splitlines() or [""])[-1]
                assert text.startswith("vacate") and len(text) > 34, f"{hit}: {error}"
            else:
                try:
                    answer = injection.ask(server, "/healthz", None)
                    status = server.stop()
                finally:
                    server.kill()
                hit = control.disarm()
                assert answer is None and (hit.of_a_client or hit.error_is_memory) \
                    or answer.status in (200, 503), f"{hit}: {answer}"
                assert status == 0, f"{hit}: {log.read_text()}"
            failed += hit.failed
            if not hit.reached:
                break
        if not failed:
            break
    assert refused > 2
