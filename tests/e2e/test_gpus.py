"""GPUs as the server sees them: found, measured, filled and given back. The GPUs and
the workers are fake_gpud.py and fake_worker.py; tests/gpu/run does the same with
real ones."""
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import fake_gpus
import harness
import measure
import pytest
from fake_gpus import eventually
from test_supervisor import Fake

GPUD = pathlib.Path(__file__).resolve().parent / "fake_gpud.py"
MIB = 1 << 20


class Gpus(Fake):
    """A server with fake workers and fake GPUs of so many (total, used) MiB."""

    def __init__(self, place, *options, gpus=((8000, 100),), words="device-100", error=None):
        self.folder = place / "gpus"
        self.folder.mkdir()
        self.says_gpus(*gpus)
        if error:
            (self.folder / "error").write_text(error)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VACATE_GPUD", str(GPUD))
            patch.setenv("FAKE_GPUS", str(self.folder))
            super().__init__(place, *options, words=words)

    def says_gpus(self, *gpus):
        (self.folder / "gpus.new").write_text("".join(f"{a} {b}\n" for a, b in gpus))
        os.rename(self.folder / "gpus.new", self.folder / "gpus")

    def gpud_events(self):
        path = self.folder / "events"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def gpud(self):
        """Its pid, the last one's."""
        return [int(line.split()[1]) for line in self.gpud_events() if line.startswith("start")][-1]

    def devices(self):
        return {m["name"]: m["device"] for m in self.ok("GET", "/models/ps")["models"]}


@pytest.fixture
def fake(tmp_path):
    servers = []

    def begin(*options, **keywords):
        place = tmp_path / str(len(servers))
        place.mkdir()
        servers.append(Gpus(place, *options, **keywords))
        return servers[-1]

    yield begin
    for server in servers:
        children = server.workers()
        try:
            status = server.stop() if server.process.poll() is None else 0
        finally:
            server.kill()
        assert status == 0, server.stderr()[-4000:]
        assert not [pid for pid in children if measure.alive(pid)]
        for word in ("AddressSanitizer", "LeakSanitizer", "runtime error:", "ThreadSanitizer"):
            assert word not in server.stderr()


def test_life_on_a_gpu(fake):
    server = fake()
    assert server.ask().status == 200
    ps = server.ok("GET", "/models/ps")
    (model,), (worker,), (gpu,) = ps["models"], ps["workers"], ps["gpus"]
    assert model["device"] == worker["device"] == gpu["device"] == "cuda:0"
    assert model["plan"]["device_bytes"] == 100 * MIB
    assert worker["vram_bytes"] == 600 * MIB
    assert gpu == {"device": "cuda:0", "name": "Fake GPU", "uuid": "GPU-0",
                   "total_bytes": 8000 * MIB, "used_bytes": 700 * MIB,
                   "planned_bytes": 100 * MIB, "limit_bytes": 7200 * MIB, "processes": 1}
    receipt = server.unload("a")
    assert receipt["device"] == "cuda:0" and receipt["worker"]["exited"]
    vram = receipt["vram"]
    assert vram == {
        "planned_bytes": 100 * MIB, "ledger_bytes": 100 * MIB, "returned_bytes": 600 * MIB,
        "before": {"used_bytes": 700 * MIB, "listed": True, "process_bytes": 600 * MIB},
        "after": {"used_bytes": 100 * MIB, "listed": False, "process_bytes": 0}}
    assert receipt["unaccounted_bytes"] == 0
    ps = server.ok("GET", "/models/ps")
    assert not ps["workers"] and ps["gpus"][0]["used_bytes"] == 100 * MIB


def test_as_many_as_ps_shows(fake):
    server = fake("--device", "cuda:127", gpus=[(8000, number) for number in range(128)])
    assert server.ask().status == 200
    ps = server.ok("GET", "/models/ps")
    assert [gpu["device"] for gpu in ps["gpus"]] == [f"cuda:{n}" for n in range(128)]
    assert [gpu["used_bytes"] for gpu in ps["gpus"]] == \
        [(n + 600 * (n == 127)) * MIB for n in range(128)]
    assert ps["models"][0]["device"] == "cuda:127"
    assert server.unload("a")["vram"]["returned_bytes"] == 600 * MIB


def test_one_of_two_leaves(fake):
    server = fake()
    server.ask("a"), server.ask("b")
    receipt = server.unload("a")
    assert not receipt["worker"]["exited"]
    assert receipt["vram"]["returned_bytes"] == receipt["vram"]["ledger_bytes"] == 100 * MIB
    assert receipt["vram"]["after"] == {"used_bytes": 700 * MIB, "listed": True,
                                        "process_bytes": 600 * MIB}
    assert server.ask("b").status == 200


def test_auto_takes_the_roomiest(fake):
    server = fake(gpus=[(8000, 5000), (8000, 100), (4000, 0)])
    server.ask("a")
    assert server.devices() == {"a": "cuda:1"}
    server.says_gpus((8000, 0), (8000, 7000), (4000, 0))
    time.sleep(1.1)      # a reading counts so long
    server.ok("GET", "/models/ps")
    server.ask("b")
    assert server.devices() == {"a": "cuda:1", "b": "cuda:0"}


def test_auto_looks_before_it_takes(fake):
    """What was read when the server began says nothing of now."""
    server = fake(gpus=[(8000, 100), (8000, 1000)])
    server.says_gpus((8000, 6000), (8000, 1000))
    server.ask("a")
    assert server.devices() == {"a": "cuda:1"}
    server.says_gpus((8000, 100), (8000, 6000))
    server.ask("b")
    assert server.devices() == {"a": "cuda:1", "b": "cuda:0"}


def test_cpu_asks_nobody(fake):
    server = fake("--device", "cpu")
    server.ask("a")
    assert server.devices() == {"a": "cpu"}
    ps = server.ok("GET", "/models/ps")
    assert ps["gpus"] == [] and ps["workers"][0]["vram_bytes"] is None
    assert server.unload("a")["vram"] is None
    assert server.gpud_events() == []


def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(harness.StartError) as failed:
        Gpus(tmp_path, "--device", "cuda:1")
    assert failed.value.returncode == 1
    assert "--device cuda:1: the driver shows 1 GPU" in failed.value.stderr


def test_no_driver(tmp_path, fake):
    why = "no NVIDIA driver was found"
    (tmp_path / "x").mkdir()
    with pytest.raises(harness.StartError) as failed:
        Gpus(tmp_path / "x", "--device", "cuda:0", error=why)
    assert f"--device cuda:0: {why}" in failed.value.stderr
    server = fake(error=why)      # auto goes without
    server.ask("a")
    assert server.devices() == {"a": "cpu"}
    assert why in server.stderr()


def test_wrong_names():
    for name in ("gpu", "cuda", "cuda:", "cuda:01", "cuda:128", "cuda:-1", "CPU", ""):
        done = subprocess.run([harness.find_vacate(), "serve", "--device", name],
                              capture_output=True, text=True,
                              env=dict(os.environ, VACATE_CONFIG="none"))
        assert done.returncode == 2, name
        assert "takes auto, cpu, or a GPU such as cuda:0" in done.stderr


def test_eviction_for_vram(fake):
    server = fake("--vram", "250MiB", "--headroom", "1MiB", "--turn", "0s")
    server.ask("a"), server.ask("b")
    # the context of 500 MiB is held beyond the plans
    receipts = server.receipts()
    assert [r["model"] for r in receipts] == ["a"] and receipts[0]["reason"] == "evicted"


def test_too_large_for_the_gpu(fake):
    server = fake(words="device-9000")
    reply = server.ask("a")
    assert reply.status == 503, reply
    assert "cuda:0" in reply.json["error"]["message"] or "--vram" in reply.json["error"]["message"]


def test_waits_for_what_others_hold(fake):
    server = fake(gpus=[(1000, 940)], words="device-300")
    replies = []
    thread = threading.Thread(target=lambda: replies.append(server.ask("a")))
    thread.start()
    eventually(lambda: server.states().get("a") in ("waiting", "loading"))
    time.sleep(0.3)
    assert server.states() == {"a": "waiting"}
    server.says_gpus((1000, 10))
    thread.join(60)
    assert [r.status for r in replies] == [200]


def test_a_load_that_ended_is_seen_before_the_next(fake):
    """Two wait for a GPU that others use, too, and one fits. When it is there the other one is
    not let in by the reading from before."""
    server = fake("--headroom", "1MiB", "--turn", "0s", gpus=[(3000, 100)], words="device-600,slow-load-300")
    replies = []
    server.ask("a"), server.ask("b"), server.unload("a"), server.unload("b")  # their plans are known
    server.says_gpus((3000, 1890))
    threads = [threading.Thread(target=lambda name=name: replies.append(server.ask(name))) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [r.status for r in replies] == [200, 200]
    # the context is 500 MiB more: the second one fits when the first has left
    reasons = [r["reason"] for r in server.receipts()]
    assert reasons.count("evicted") == 1, reasons


def test_another_process_was_quicker(fake):
    """There was room when the load was admitted, and none when it came: it rolls back,
    is looked at with a fresh reading, and waits."""
    server = fake(gpus=[(1000, 10)], words="device-300,lack-1,slow-load-1000")
    replies = []
    thread = threading.Thread(target=lambda: replies.append(server.ask("a")))
    thread.start()
    eventually(lambda: server.states().get("a") == "loading" and server.events("load"))
    server.says_gpus((1000, 940))
    eventually(lambda: server.states() == {"a": "waiting"})
    assert not replies
    server.says_gpus((1000, 10))
    thread.join(60)
    assert [r.status for r in replies] == [200]
    assert "cuda:0 had less room than it showed, and is looked at again" in server.stderr()
    assert len(server.events("load")) == 2


def test_room_that_is_never_there(fake):
    """The device shows room and gives none: not for ever."""
    server = fake(words="device-300,lack-99")
    reply = server.ask("a")
    assert reply.status == 503, reply
    assert reply.json["error"]["message"].startswith("tried 5 times: no 104857600 bytes")
    assert len(server.events("load")) == 5
    # a request of its own is met with as many tries
    assert server.ask("a").status == 503
    assert len(server.events("load")) == 10


def test_gpud_dies(fake):
    server = fake()
    server.ask("a")
    os.kill(server.gpud(), signal.SIGKILL)
    receipt = server.unload("a")     # another one measures
    assert receipt["vram"]["after"]["used_bytes"] == 100 * MIB
    assert len([e for e in server.gpud_events() if e.startswith("start")]) == 2


def test_gpud_says_no_hello(fake):
    """The server answers others meanwhile, and whoever waited for the reading when it is
    there."""
    server = fake("--hello-timeout", "10m")
    server.ask("a")
    os.kill(server.gpud(), signal.SIGKILL)
    (server.folder / "silent").touch()
    receipts = []
    thread = threading.Thread(target=lambda: receipts.append(server.unload("a")))
    thread.start()
    starts = lambda: [e for e in server.gpud_events() if e.startswith("start")]
    eventually(lambda: len(starts()) == 2)
    for path in ("/health", "/models", "/metrics"):   # /models/ps waits for a reading itself
        assert server.get(path).status == 200
    assert thread.is_alive() and measure.alive(server.gpud())
    (server.folder / "silent").unlink()
    thread.join(60)
    (receipt,) = receipts
    assert receipt["worker"]["exited"] and receipt["vram"]["after"]["used_bytes"] == 100 * MIB


def test_gpud_is_not_waited_for_for_ever(fake):
    timeout_s = round(measure.patience(1)) + 2    # enough for those that say it
    server = fake("--hello-timeout", f"{timeout_s}s")
    server.ask("a")
    (server.folder / "silent").touch()
    gpud = server.gpud()
    os.kill(gpud, signal.SIGKILL)
    eventually(lambda: not pathlib.Path(f"/proc/{gpud}").exists())    # the server has seen it
    receipt = server.unload("a")
    assert receipt["vram"]["before"] is None and receipt["vram"]["after"] is None
    # for the reading before and for that after
    assert server.stderr().count(f"for gpus said no hello within {timeout_s}.0 s, so it was "
                                 "killed") == 2
    assert not measure.alive(server.gpud())
    (server.folder / "silent").unlink()
    assert server.ask("a").status == 200


def test_gpud_ends_after_ten_seconds(fake):
    server = fake()
    server.ask("a")
    asked = time.monotonic()
    server.unload("a")
    pid = server.gpud()
    eventually(lambda: not measure.alive(pid))
    assert 10 <= time.monotonic() - asked < 60
    assert server.gpud_events()[-1] == "end"
    assert server.ask("a").status == 200      # and comes again
    assert server.gpud() != pid


def test_worker_dies_while_it_is_measured(fake):
    server = fake(words="device-100")
    server.ask("a")
    (worker,) = server.ok("GET", "/models/ps")["workers"]
    os.kill(server.gpud(), signal.SIGSTOP)
    receipts = []
    thread = threading.Thread(target=lambda: receipts.append(server.unload("a")))
    thread.start()
    # ps waits for a reading itself
    eventually(lambda: {m["name"]: m["state"] for m in server.ok("GET", "/models")["models"]}["a"]
               == "draining")
    os.kill(worker["pid"], signal.SIGKILL)
    eventually(lambda: server.metric("vacate_worker_deaths_total") == 1)
    os.kill(server.gpud(), signal.SIGCONT)
    thread.join(60)
    (receipt,) = receipts
    assert receipt["reason"] == "worker_died" and receipt["worker"]["exited"]
    assert receipt["vram"]["before"] is None
    assert receipt["vram"]["after"] == {"used_bytes": 100 * MIB, "listed": False,
                                        "process_bytes": 0}
    assert server.ask("a").status == 200


def test_a_worker_that_dies_is_measured(fake):
    """Nobody asked for an unload: the receipt waits for a reading, the model does not."""
    server = fake(words="device-100")
    server.ask("a")
    (worker,) = server.ok("GET", "/models/ps")["workers"]
    os.kill(server.gpud(), signal.SIGSTOP)
    os.kill(worker["pid"], signal.SIGKILL)
    eventually(lambda: server.metric("vacate_worker_deaths_total") == 1)
    assert not server.receipts()
    os.kill(server.gpud(), signal.SIGCONT)
    eventually(server.receipts)
    (receipt,) = server.receipts()
    assert receipt["reason"] == "worker_died" and receipt["unaccounted_bytes"] is None
    assert receipt["vram"] == {
        "planned_bytes": 100 * MIB, "ledger_bytes": 100 * MIB, "returned_bytes": 600 * MIB,
        "before": {"used_bytes": 700 * MIB, "listed": True, "process_bytes": 600 * MIB},
        "after": {"used_bytes": 100 * MIB, "listed": False, "process_bytes": 0}}


def test_a_dead_workers_receipt_at_the_end(fake, tmp_path):
    """gpud hangs: the receipt is written all the same, with what is known."""
    journal = tmp_path / "journal"
    server = fake("--journal", journal, words="device-100")
    server.ask("a")
    (worker,) = server.ok("GET", "/models/ps")["workers"]
    os.kill(server.gpud(), signal.SIGSTOP)
    os.kill(worker["pid"], signal.SIGKILL)
    eventually(lambda: server.metric("vacate_worker_deaths_total") == 1)
    assert server.stop() == 0
    (line,) = [json.loads(text) for text in journal.read_text().splitlines()]
    assert line["reason"] == "worker_died" and line["vram"]["after"] is None


def test_settings_of_one_model(tmp_path, fake):
    config = tmp_path / "vacate.conf"
    config.write_text("[server]\ndevice = cpu\n[model b]\ndevice = cuda:0\n"
                      "[model c]\ndevice = cuda:7\n")
    server = fake("--config", config)
    server.ask("a"), server.ask("b")
    assert server.devices() == {"a": "cpu", "b": "cuda:0"}
    reply = server.ask("c")
    assert reply.status == 422
    assert "'cuda:7'" in reply.json["error"]["message"]
    assert "cpu, cuda:0" in reply.json["error"]["message"]


def test_ends_with_models_on_the_gpu(fake):
    server = fake("--journal", "/dev/null")
    server.ask("a")
    assert server.stop() == 0
    assert server.gpud_events()[-1] == "end"


def test_a_gpu_that_falls_off(tmp_path):
    """NVML does not list the first of two any more: the second keeps its name, its numbers and its
    models. The driver and NVML are those of fake_driver, vacate-gpud is the true one."""
    gpus = fake_gpus.FakeGpus()
    lines = [f"{fake_gpus.UUIDS[i]} {total * MIB} {used * MIB} Fake GPU\n"
             for i, (total, used) in enumerate([(4000, 3000), (8000, 100)])]
    gpus.write("devices", "".join(lines))
    place = tmp_path / "server"
    place.mkdir()
    server = Fake(place, "--device", "auto", words="device-100",
                  env=gpus.environment() |
                  {"VACATE_GPUD": str(harness.build_dir() / "vacate-gpud")})
    try:
        assert server.ask("a").status == 200
        gpus.write("devices", lines[1])
        assert server.ask("b").status == 200
        ps = server.ok("GET", "/models/ps")
        assert [(g["device"], g["uuid"], g["total_bytes"] // MIB) for g in ps["gpus"]] == \
            [("cuda:1", fake_gpus.UUIDS[1], 8000)]
        assert {m["name"]: m["device"] for m in ps["models"]} == {"a": "cuda:1", "b": "cuda:1"}
        assert [w["device"] for w in ps["workers"]] == ["cuda:1"]
        assert server.stop() == 0
    finally:
        server.kill()
        gpus.close()


def test_slices(tmp_path):
    """MIG: what the driver shows as a device is measured by itself, and auto counts its room.
    The driver and NVML are those of fake_driver, vacate-gpud is the true one."""
    gpus = fake_gpus.FakeGpus()
    lines = [("GPU-00000000-0000-0000-0000-000000000000", 40000, 39000, "Fake A100"),
             ("MIG-11111111-0000-0000-0000-000000000000", 5000, 4000, "Fake A100 MIG 1g.5gb"),
             ("MIG-22222222-0000-0000-0000-000000000000", 20000, 100, "Fake A100 MIG 3g.20gb")]
    gpus.write("devices", "".join(f"{uuid} {total * MIB} {used * MIB} {name}\n"
                                  for uuid, total, used, name in lines))
    place = tmp_path / "server"
    place.mkdir()
    server = Fake(place, "--device", "auto", words="device-100",
                  env=gpus.environment() |
                  {"VACATE_GPUD": str(harness.build_dir() / "vacate-gpud")})
    try:
        shown = server.ok("GET", "/models/ps")["gpus"]
        assert [(g["device"], g["uuid"], g["total_bytes"] // MIB, g["used_bytes"] // MIB)
                for g in shown] == [(f"cuda:{i}", uuid, total, used)
                                    for i, (uuid, total, used, _) in enumerate(lines)]
        assert server.ask("a").status == 200
        assert {m["name"]: m["device"] for m in server.ok("GET", "/models/ps")["models"]} == \
            {"a": "cuda:2"}
        assert server.stop() == 0
    finally:
        server.kill()
        gpus.close()


def run_on_gpu(tmp_path, *words, device="cuda:0"):
    """`vacate run --json` with a fake worker and a fake gpud: (status, receipt, the rest)."""
    folder = tmp_path / "gpus"
    folder.mkdir(exist_ok=True)
    (folder / "gpus").write_text("8000 100\n")
    model = tmp_path / "models" / "a"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"\0" * 8192)
    done = subprocess.run(
        [str(harness.find_vacate()), "run", "--models", tmp_path / "models", "--device", device,
         "--json", "a", "text"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "VACATE_GPUD": str(GPUD), "FAKE_GPUS": str(folder),
             "VACATE_WORKER": str(GPUD.parent / "fake_worker.py"),
             "FAKE_WORKER": ",".join(("device-100", *words)),
             "FAKE_WORKER_LOG": str(tmp_path / "log")})
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 0 and json.loads(done.stdout)["index"] == 0, done
    return json.loads(lines[-1]), lines[:-1], (folder / "events").read_text().split("\n")[:-1]


@pytest.mark.parametrize("device", ["cuda:0", "cuda"])
def test_run_measures_vram(tmp_path, device):
    receipt, complaints, events = run_on_gpu(tmp_path, device=device)
    assert receipt["device"] == "cuda:0" and receipt["worker"]["exited"] and not complaints
    assert receipt["vram"] == {
        "planned_bytes": 100 * MIB, "ledger_bytes": 100 * MIB, "returned_bytes": 600 * MIB,
        "before": {"used_bytes": 700 * MIB, "listed": True, "process_bytes": 600 * MIB},
        "after": {"used_bytes": 100 * MIB, "listed": False, "process_bytes": 0}}
    assert events[-1] == "end" and len([e for e in events if e.startswith("start")]) == 1


def test_run_says_why_vram_is_not_measured(tmp_path):
    (tmp_path / "gpus").mkdir()
    (tmp_path / "gpus" / "error").write_text("NVML is not there")
    receipt, complaints, _ = run_on_gpu(tmp_path)
    assert receipt["vram"]["before"] is receipt["vram"]["after"] is None
    assert complaints == ["vacate run: VRAM is not measured: NVML is not there"]
