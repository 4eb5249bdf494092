"""parts_memory.py - parts of tests/gpu/run: memory over many cycles, large checkpoints."""
import json
import os
import subprocess
import time

from shared import (DEVICE, DRY, HERE, WORK, Budget, Skip, Watch, bert_base, expect, find,
                    make_tokenizer, mib, middle, minilm, run, said, server_tools, serving)

# --- cycles ------------------------------------------------------------------

BESIDE = int(os.environ.get("VACATE_GPU_BESIDE", "1000"))
ALONE = int(os.environ.get("VACATE_GPU_ALONE", "200"))


def probe_cycles(path, count, *more, timeout):
    done = run([find("gpu_probe"), "cycles", path, str(count), "--device", DEVICE,
                *map(str, more)], text=True, timeout=timeout)
    expect(done.returncode == 0, f"cycles of {path.name}: {said(done)}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def private_by_mapping(path):
    """Private bytes of each mapping's name in a copy of /proc/PID/smaps."""
    found, name = {}, ""
    for line in path.read_text(errors="replace").splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):
            name = " ".join(fields[5:]) or "[anonymous]"
        elif fields[0] in ("Private_Clean:", "Private_Dirty:"):
            found[name] = found.get(name, 0) + int(fields[1]) * 1024
    return found


def server_life(budget):
    """BERT-base from nothing to an answer and back, again and again."""
    _, measure = server_tools()
    watch, rows = Watch(), []
    bert_base()
    with serving("cycles") as server:
        server.embed("bert-base", "a lighthouse by the sea")
        server.unload("bert-base")
        first = watch.used()
        start = time.time()
        for i in range(ALONE):
            if not budget.has(2, f"server cycles from {i} on"):
                break
            began = time.time()
            (vector,) = server.embed("bert-base", "a lighthouse by the sea")
            answer_ms = (time.time() - began) * 1e3
            receipt = server.unload("bert-base")
            rows.append({"answer_ms": answer_ms, "unload_ms": receipt["unload_ms"],
                         "used": watch.used(), "pids": watch.pids(), "vector": vector,
                         "unaccounted": receipt["unaccounted_bytes"],
                         "uss": measure.uss(server.pid)})
        took = time.time() - start
    watch.close()
    uss = [row["uss"] for row in rows]
    half = uss[len(uss) // 2:]
    print(f"server, {len(rows)} cycles of BERT-base in {took:.0f} s: VRAM by NVML after each "
          f"{sorted({mib(r['used']) for r in rows})} MiB ({mib(first):.1f} before), listed after "
          f"{sum(bool(r['pids']) for r in rows)}, unaccounted {max(r['unaccounted'] for r in rows)}")
    print(f"  first answer {middle([r['answer_ms'] for r in rows]):.0f} ms, unload "
          f"{middle([r['unload_ms'] for r in rows]):.0f} ms (medians); server's private memory "
          f"{mib(uss[0]):.2f} -> {mib(uss[-1]):.2f} MiB, spread over the last half "
          f"{(max(half) - min(half)) / 1024:.0f} KiB (asked 64)")
    expect(all(r["used"] == first and not r["pids"] for r in rows), "server cycles left VRAM")
    expect(len({str(r["vector"]) for r in rows}) == 1, "server cycles: answers differ")
    expect(max(half) - min(half) <= 64 << 10, "server cycles: private memory is not flat")


def beside(budget):
    left = max(60, int(budget.end - time.monotonic()) - 5)
    start = time.time()
    rows = probe_cycles(minilm(), BESIDE, "--keep", bert_base(), "--smaps", WORK / "beside",
                        timeout=left)
    took = time.time() - start
    if len(rows) < 5:
        return
    rows = [row for row in rows if row["cycle"] >= 0]
    used = sorted({row["used"] for row in rows[1:]})
    told = [row for row in rows[1:] if row["before"]]
    half = [row["uss"] for row in rows[len(rows) // 2:]]
    print(f"library, {len(rows)} cycles of MiniLM-L6 beside BERT-base, which answers in each, in "
          f"{took:.0f} s: VRAM after each from the second on {[mib(x) for x in used]} MiB")
    print(f"  fell by {sorted({r['before'] - r['after'] for r in told})}, ledger "
          f"{sorted({r['ledger'] for r in told})} bytes; unload "
          f"{middle([r['unload_ms'] for r in rows if not r['before']]):.2f} ms (median); private "
          f"memory {(rows[-1]['uss'] - rows[2]['uss']) / 1024:+.0f} KiB since the third, spread "
          f"over the last half {(max(half) - min(half)) / 1024:.0f} KiB")
    # one peak or a drift: where the largest and the least are, and what is around the largest
    uss = [row["uss"] for row in rows]
    peak = max(range(len(rows) // 2, len(rows)), key=lambda i: uss[i])
    least = min(range(len(rows) // 2, len(rows)), key=lambda i: uss[i])
    print(f"  KiB against the third, at every 50th: {[(x - uss[2]) // 1024 for x in uss[2::50]]}")
    print(f"  of the last half the most at {peak}, the least at {least}; around the most: "
          f"{[(x - uss[2]) // 1024 for x in uss[max(0, peak - 4):peak + 5]]}, around the least: "
          f"{[(x - uss[2]) // 1024 for x in uss[max(0, least - 4):least + 5]]}; cycles more than "
          f"256 KiB off the middle one of the half: "
          f"{sum(abs(x - middle(half)) > 256 << 10 for x in half)} of {len(half)}")
    expect(len(used) == 1, f"beside another: VRAM after unloads {used}")
    expect(all(r["before"] - r["after"] == r["ledger"] for r in told),
           "beside another: VRAM did not fall by the ledger's bytes")
    expect(max(half) - min(half) <= 256 << 10, "beside another: private memory is not flat")


def alone(budget):
    """What of the process's private memory grows, by mapping."""
    left = max(60, int(budget.end - time.monotonic()) - 5)
    rows = probe_cycles(bert_base(), ALONE, "--smaps", WORK / "alone", timeout=left)
    rows = [row for row in rows if row["cycle"] >= 0]
    if len(rows) < 4:
        return
    print(f"library, {len(rows)} cycles of BERT-base alone: private memory "
          f"{(rows[-1]['uss'] - rows[2]['uss']) / 1024:+.0f} KiB since the third; at every 20th: "
          f"{[round(mib(r['uss']), 2) for r in rows[2::20]]} MiB")
    before = private_by_mapping(WORK / "alone.2")
    after = private_by_mapping(WORK / "alone.last")
    grown = sorted(((after.get(name, 0) - before.get(name, 0), name)
                    for name in after.keys() | before.keys()), key=lambda row: -abs(row[0]))
    for count, name in grown[:8]:
        if count:
            print(f"  {count / 1024:+8.0f} KiB  {name}")
    expect(len({r["used"] for r in rows}) == 1, "alone: VRAM differs between cycles")


CONTEXTS = 51
LISTS = ["", "blas", "module", "region", "pinned", "stream", "stream,region,pinned,module,blas"]


def part_growth():
    """Whose the growth of a process is that has made many contexts: the driver's alone, or
    with what of that a backend does in one."""
    budget = Budget(100)
    print(f"{'in each context':<36}{'KiB a cycle':>12}  private memory from the 11th on, KiB")
    for what in LISTS:
        if not budget.has(14, what or "nothing"):
            continue
        start = time.monotonic()
        done = run([find("gpu_probe"), "contexts", str(CONTEXTS), what], text=True,
                   timeout=60) if not DRY else None
        rows = [json.loads(line) for line in done.stdout.splitlines()] if done else []
        expect(DRY or done.returncode == 0, f"contexts with {what or 'nothing'}: {said(done)}"
               if done else "")
        rows = [row for row in rows if row["cycle"] >= 10]
        if len(rows) < 2:
            continue
        first, last = rows[0], rows[-1]
        rate = (last["uss"] - first["uss"]) / 1024 / (last["cycle"] - first["cycle"])
        print(f"{what or 'nothing':<36}{rate:>12.2f}  "
              f"{[(row['uss'] - first['uss']) // 1024 for row in rows]} "
              f"({time.monotonic() - start:.0f} s)", flush=True)


def part_cycles():
    budget = Budget(465)
    server_life(budget)
    if budget.has(60, "1,000 cycles beside another"):
        beside(budget)
    if budget.has(60, "private memory by mapping"):
        alone(budget)


# --- large -------------------------------------------------------------------

LARGE = {"hidden_size": 4096, "num_hidden_layers": 7, "num_attention_heads": 64,
         "intermediate_size": 18432, "max_position_embeddings": 512, "type_vocab_size": 2,
         "vocab_size": 30522}
if DRY:
    LARGE |= {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048}


def tensors_of(sizes):
    """Name and shape of a BERT's tensors, as transformers writes them."""
    hidden, wide = sizes["hidden_size"], sizes["intermediate_size"]
    yield "embeddings.word_embeddings.weight", (sizes["vocab_size"], hidden)
    yield "embeddings.position_embeddings.weight", (sizes["max_position_embeddings"], hidden)
    yield "embeddings.token_type_embeddings.weight", (sizes["type_vocab_size"], hidden)
    for kind in ("weight", "bias"):
        yield f"embeddings.LayerNorm.{kind}", (hidden,)
    for layer in range(sizes["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"
        for name, out, into in (("attention.self.query", hidden, hidden),
                                ("attention.self.key", hidden, hidden),
                                ("attention.self.value", hidden, hidden),
                                ("attention.output.dense", hidden, hidden),
                                ("intermediate.dense", wide, hidden),
                                ("output.dense", hidden, wide)):
            yield f"{prefix}.{name}.weight", (out, into)
            yield f"{prefix}.{name}.bias", (out,)
        for name in ("attention.output", "output"):
            for kind in ("weight", "bias"):
                yield f"{prefix}.{name}.LayerNorm.{kind}", (hidden,)


def large_model():
    """A float32 checkpoint of 6.6 GB: random numbers, which repeat."""
    import numpy as np
    path = WORK / "large"
    if (path / "complete").exists():
        return path
    path.mkdir(parents=True, exist_ok=True)
    header, at = {"__metadata__": {"format": "pt"}}, 0
    tensors = list(tensors_of(LARGE))
    for name, shape in tensors:
        count = int(np.prod(shape)) * 4
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + count]}
        at += count
    space = os.statvfs(path)
    if space.f_bavail * space.f_frsize < at + (4 << 30):
        raise Skip(f"{path}: no room for a checkpoint of {at / 1e9:.1f} GB")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = (np.random.default_rng(5).standard_normal((16 << 20) // 4, dtype=np.float32) *
             np.float32(0.02)).tobytes()
    with open(path / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, at, len(block)):
            file.write(block[:at - start])
    (path / "config.json").write_text(json.dumps(LARGE | {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "position_embedding_type": "absolute"}))
    make_tokenizer(path, 512)
    (path / "complete").touch()
    return path


def load_once(path, dtype):
    """Stages of one load in ms, and the answer's bytes."""
    done = run([find("engine_bench"), path, "--device", DEVICE, "--dtype", dtype, "--embed"],
               input=b"a lighthouse sea\0", timeout=200)
    lines = [x for x in done.stderr.decode().splitlines() if x.startswith("{")]
    for line in done.stderr.decode().splitlines():
        if line.startswith("engine_bench: warning"):
            print(line)
    expect(done.returncode == 0 and lines, f"load of {path.name}: {said(done)}")
    return (json.loads(lines[-1]), done.stdout) if lines else (None, b"")


def drop(path):
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def load_rows(name, path, asked):
    size = (path / "model.safetensors").stat().st_size
    answers, rates = set(), []
    for dtype in ["float16"] * 5 + ["float32"] * 3 if not DRY else ["float32"]:
        data, answer = load_once(path, dtype)
        if not data:
            continue
        answers.add((dtype, answer))
        t = data["load_ms"]
        rates.append(size / t["read"] / 1e6)
        print(f"{name:<11}{dtype:<9}{t['device']:>8.1f}{t['map']:>8.1f}"
              f"{t['read']:>9.1f}{rates[-1]:>7.1f}{t['warm']:>8.1f}{data['loaded_ms']:>9.1f}",
              flush=True)
        expect(DRY or t["warm"] <= 300,
               f"{name} {dtype}: {t['warm']:.0f} ms of trying products out, 300 asked")
    rate = round(middle(rates), 1) if rates else 0
    print(f"{name}: {rate} GB/s of the file (median, asked {asked})")
    expect(DRY or rate >= asked, f"{name}: {rate} GB/s, asked {asked}")
    expect(len(answers) == len({dtype for dtype, _ in answers}), f"{name}: loads answer otherwise")


def part_large():
    budget = Budget(450)
    print(f"{'file':<11}{'dtype':<9}{'device':>8}{'map':>8}{'read':>9}{'GB/s':>7}"
          f"{'warm':>8}{'loaded':>9} ms; page cache warm")
    base = bert_base() if not DRY else minilm()
    (base / "model.safetensors").read_bytes()
    load_rows("BERT-base", base, 30)
    start = time.time()
    path = large_model()
    file = path / "model.safetensors"
    print(f"{file.stat().st_size / 1e9:.1f} GB written in {time.time() - start:.0f} s")
    with open(file, "rb", buffering=0) as data:     # into the page cache
        while data.read(16 << 20):
            pass
    load_rows("large", path, 42)
    if budget.has(60, "from the disk") and not DRY:
        for name, folder in (("BERT-base", base), ("large", path)):
            drop(folder / "model.safetensors")
            data, _ = load_once(folder, "float16")
            if data:
                size = (folder / "model.safetensors").stat().st_size
                print(f"{name} from the disk: read {data['load_ms']['read']:.0f} ms, "
                      f"{size / data['load_ms']['read'] / 1e6:.1f} GB/s; loaded "
                      f"{data['loaded_ms']:.0f} ms after the program's start")
    if budget.has(60, "safetensors' own loader") and not DRY:
        done = run(["python3", str(HERE / "peer_load.py"), str(file)], text=True, timeout=120)
        print(done.stdout.strip() or said(done))
    (path / "model.safetensors").unlink()
    (path / "complete").unlink()
