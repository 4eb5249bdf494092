"""test_manual.py - the manual and the completion against the program: every
command has its page, each page tells exactly the options that --help tells,
and completion offers what the program takes.
"""
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import pytest

from test_cli_tables import ROOT, program

MAN = ROOT / "man"


def help_of(*words):
    return subprocess.run([program(), *words, "--help"], capture_output=True, text=True,
                          timeout=60, check=True).stdout


def commands():
    """Names in the list of `vacate --help`."""
    block = help_of().split("\nCommands:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in block.splitlines()]


def plain(page):
    """A page's source without font changes and escapes."""
    text = re.sub(r"\\f[BIR]", "", page.read_text(encoding="utf-8"))
    return text.replace("\\-", "-")


def test_every_command_has_a_page():
    names = commands()
    assert {"list", "plan", "load", "unload", "ps", "receipts"} <= set(names)
    top = plain(MAN / "vacate.1")
    for name in names:
        assert (MAN / f"vacate-{name}.1").is_file(), f"man/vacate-{name}.1 is missing"
        assert f".BR vacate-{name} (1)" in top
    installed = (MAN / "meson.build").read_text(encoding="utf-8")
    for page in MAN.glob("*.1"):
        assert f"'{page.name}'" in installed


@pytest.mark.parametrize("name", commands())
def test_pages_and_help_tell_the_same_options(name):
    told = set(re.findall(r"^  (--[a-z-]+)", help_of(name), re.M))
    page = plain(MAN / f"vacate-{name}.1")
    explained = set(re.findall(r"^\.TP\n\.BI? (--[a-z-]+)", page, re.M))
    assert told and explained == told
    # With a value here means with a value there, of the same name.
    for option, value in re.findall(r"^  (--[a-z-]+) ([A-Z]+)", help_of(name), re.M):
        assert f'.BI {option} " {value}"' in page


@pytest.mark.parametrize("page", sorted(MAN.glob("*.1")), ids=lambda page: page.name)
def test_pages_are_sound(page):
    text = page.read_text(encoding="utf-8")
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
        assert f"\n.SH {section}\n" in text
    for other in re.findall(r"^\.BR (vacate\S*) \(1\)", plain(page), re.M):
        assert (MAN / f"{other}.1").is_file(), f"refers to {other}(1)"
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    done = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-z", str(page)],
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_of_the_file_tells_every_setting_of_models():
    page = plain(MAN / "vacate.conf.5")
    section = page.split(".SH [model NAME]\n")[1].split("\n.SH ")[0]
    told = re.findall(r"^\.TP\n\.BI (\w+) ", section, re.M)
    table = (ROOT / "src" / "cli" / "settings.c").read_text(encoding="utf-8").split(
        "vac_model_setting_table[] = {")[1].split("\n};")[0]
    rows = [name.replace("-", "_") for name in re.findall(r'^\t\{"([a-z-]+)"', table, re.M)]
    assert rows and sorted(told) == sorted([*rows, "path", "alias"])
    # What a reload changes is the same here and in the table.
    table = (ROOT / "src" / "cli" / "settings.c").read_text(encoding="utf-8").split(
        "vac_server_setting_table[] = {")[1].split("\n};")[0]
    reloads = {row.split('"')[1].replace("-", "_") for row in table.split("\n\t{")
               if ".reloads = true" in row}
    listed = page.split(".SH RELOADING\n")[1].split("and all sections of models")[0]
    assert set(re.findall(r"^\.BR? (\w+)", listed, re.M)) == reloads


# ---- completion ------------------------------------------------------------

@pytest.fixture
def server():
    """Knows three models, and two whose names a shell would act on."""
    body = json.dumps({"models": [{"name": name} for name in
                                  ("org/one", "org/two", "other/three",
                                   "org/$(touch completed)", "org/`touch completed`;x")]}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/models" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    it = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=it.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{it.server_address[1]}"
    it.shutdown()
    it.server_close()
    thread.join()


def complete(*words, server="http://127.0.0.1:1"):
    """What bash would offer for the last of the words, which it breaks at : and =."""
    words = [part for word in words for part in re.findall("[:=]|[^:=]+", word) or [""]]
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vacate; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    path = f"{pathlib.Path(program()).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", str(ROOT / "completion" / "vacate.bash"),
         "vacate", *words], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PATH": path, "VACATE_SERVER": server})
    assert done.stderr == ""
    return done.stdout.split()


def test_completes_commands_and_options():
    assert complete("") == commands() + ["--help", "--version"]
    assert complete("un") == ["unload"]
    assert complete("--v") == ["--version"]
    assert complete("unload", "--d") == ["--drop-cache"]
    assert set(complete("unload", "--")) == {"--all", "--drop-cache", "--server",
                                             "--api-key-file", "--timeout",
                                             "--json", "--help"}
    assert complete("nonsense", "--") == []


def test_completes_values_behind_a_sign():
    assert complete("serve", "--sandbox=") == ["auto", "require", "off"]
    assert complete("serve", "--log-level=w") == ["warn"]
    assert complete("config", "show", "--sandbox=r") == ["require"]


def test_completes_config():
    assert complete("config", "") == ["check", "show", "--help"]
    assert complete("config", "s") == ["show"]
    assert complete("config", "check", "--") == ["--json", "--help"]
    assert complete("config", "check", str(ROOT / "examples" / "vac")) == \
        [str(ROOT / "examples" / "vacate.conf")]
    assert set(complete("config", "show", "--min")) == {"--min-resident"}
    assert complete("config", "show", "--log-level", "w") == ["warn"]


def test_completes_models(server):
    for command in ("plan", "load", "unload"):
        assert complete(command, "", server=server) == ["org/one", "org/two", "other/three"]
        assert not pathlib.Path("completed").exists()
    assert complete("load", "org/t", server=server) == ["org/two"]
    assert complete("load", "--server", server, "oth") == ["other/three"]
    assert complete("load", "--keep-alive", "", server=server) == []
    assert complete("list", "", server=server) == []
    assert complete("load", "") == []  # nobody answers: nothing, and no complaint


@pytest.fixture
def gpu_users(tmp_path, monkeypatch):
    """Three processes that have CUDA open, as far as a `find` of the test's own says, of
    which the last has been parked and has a record; and a fourth that is none."""
    device, hold, tools = tmp_path / "nvidia-uvm", tmp_path / "hold", tmp_path / "tools"
    device.touch(), hold.mkdir(), tools.mkdir()
    (tools / "find").write_text("#!/bin/bash\nexec " + shutil.which("find") +
                                f' "${{@/#\\/dev\\/nvidia-uvm/{device}}}"\n')
    (tools / "find").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setenv("VACATE_HOLD_DIR", str(hold))
    with device.open() as opened:
        running = [subprocess.Popen(["sleep", "3600"], stdin=stdin)
                   for stdin in (opened, opened, opened, subprocess.DEVNULL)]
    pids = sorted(str(process.pid) for process in running[:3])
    (hold / f"4026531836.{pids[2]}").touch()
    (hold / f"4026531836.{pids[1]}.new").touch()
    (hold / f"4026531836.{2**22 + 5}").touch()       # has ended
    yield pids
    for process in running:
        process.kill(), process.wait()


def test_completes_processes_on_gpus(gpu_users):
    for command in ("park", "ps"):
        assert sorted(complete(command, "")) == gpu_users
    assert complete("park", "--tree", gpu_users[0]) == [gpu_users[0]]
    assert complete("resume", "") == gpu_users[2:]
    (pathlib.Path(os.environ["VACATE_HOLD_DIR"]) / f"4026531836.{gpu_users[2]}").unlink()
    assert sorted(complete("resume", "")) == gpu_users


ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; fpath=($COMPLETION $fpath); autoload -Uz compinit; compinit -u -D'
zpty -w shell 'LISTMAX=0; bindkey "^I" list-choices; print rea""dy'
all=; more=
wait_for() {
    repeat 600; do
        while zpty -r -t shell more; do all+=$more; done
        [[ $all == *$1* ]] && { all=; return 0 }
        sleep 0.1
    done
    print -r -- "no $1 in: $all"; exit 1
}
wait_for ready
while read -r line expected; do
    zpty -w -n shell "${line//_/ }"$'\t'
    wait_for "$expected"
    zpty -w -n shell $'\025'
done
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh_completes(server, gpu_users):
    """What stands before the tabulator (_ for blanks), and what zsh then shows."""
    lines = ["vacate_ Unloads a model", "vacate_serve_--sand --sandbox",
             "vacate_serve_--sandbox_ require", "vacate_config_ check",
             "vacate_config_show_--log-l error, warn", "vacate_load_oth other/three",
             "vacate_unload_-- --drop-cache", f"vacate_load_--server_{server}_org/ org/two",
             f"vacate_park_{gpu_users[0]} {gpu_users[0]}  -- sleep 3600",
             f"vacate_resume_ {gpu_users[2]}  -- sleep 3600"]
    path = f"{pathlib.Path(program()).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["zsh", "-f", "-c", ZSH], input="\n".join(lines) + "\n", text=True,
                          capture_output=True, timeout=240,
                          env={**os.environ, "PATH": path, "VACATE_SERVER": server, "TERM": "xterm",
                               "COMPLETION": str(ROOT / "completion")})
    assert done.returncode == 0, done.stdout + done.stderr
