#!/usr/bin/env python3
"""make_corpus_vacate_conf.py - writes tests/fuzz/corpus/vacate_conf/, small files
that reach each branch of the parser of vacate.conf."""
import pathlib

HERE = pathlib.Path(__file__).resolve().parent / "corpus" / "vacate_conf"
FILES = {
    "empty": b"",
    "server": b"[server]\nhost = ::1\nport=0\nkeep-alive: 5m ; idle\nram = 80%\nlog_level = debug\n",
    "lists": b"[server]\nmodels = /:/tmp\nmodels = /usr\npin = a, org/b\npin = \"c, d\"\n",
    "defaults": b"[defaults]\npriority = -3\nisolate = no\nkeep_alive = -1\nprompt = \"query: \"\n",
    "model": b"[model org/name]\nalias = x, org/y\nalias = z\npin = yes\nmax_batch_tokens = 4096\n"
             b"device = cpu\ndtype = float32\nmin_resident = 2s\n",
    "quotes": b"[model a]\nprompt = \"a \\\" b \\\\ c \\; d \\n \\t\"\n",
    "bad_quotes": b"[model a]\nprompt = \"a\\x\"\n[model b]\nprompt = \"a\n[model c]\nprompt = \"a\" b\n",
    "crlf_and_bom": b"\xef\xbb\xbf; comment\r\n[server]\r\nport = 1\r\n",
    "heads": b"[server\n[]\n[model]\n[ model  a ] ; x\n[server] y\n[servr]\n[server z]\n[model a]\n",
    "collisions": b"[model a]\nalias = b, b, a\n[model b]\nalias = b\n[model a]\n",
    "path": b"[model a]\npath = /nonexistent\npath = /\n[model b]\npath =\n",
    "limits": b"[server]\nmax_body = 33MiB\nmax_pending = 1\nmax_queue = 0\ntimeout = 0\n",
    "unknown": b"[server]\nprot = 1\nalias = x\nready_fd = 1\n[defaults]\nport = 1\npath = x\n",
    "twice": b"[server]\nport = 1\nport = 2\nkeep_alive = 1\n[defaults]\nkeep_alive = 2\n",
    "no_equals": b"[server]\nport\n= 1\nport ; = 1\n  port = 1\n",
    "bytes": b"[server]\nport\x00 = 1\nhost = \xff\nhost = \x01\n",
    "long": b"[model a]\nprompt = " + b"x" * 4100 + b"\nprompt = " + b"y" * 300 + b"\n",
    "no_section": b"port = 1\n",
}

HERE.mkdir(parents=True, exist_ok=True)
for name, content in FILES.items():
    (HERE / name).write_bytes(content)
