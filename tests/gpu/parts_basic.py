"""parts_basic.py - parts of tests/gpu/run: answers, memory, loading, speed, the server."""
import json
import os
import subprocess
import time

from shared import (CYCLES, DEVICE, WORK, compare, cosine, devices, expect, find, from_pretrained,
                    learn, listed_by_smi, mib, middle, minilm, bert_base, models, on_gpu, our_vectors,
                    random_bert, run, said, server_tools, texts)

# --- correctness ----------------------------------------------------------------

def torch_vectors(path, inputs, unit, device, dtype):
    import torch
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    limit = 512
    sentence = path / "sentence_bert_config.json"
    if sentence.exists():
        limit = json.loads(sentence.read_text())["max_seq_length"]
    tokenizer.enable_truncation(limit)
    model = from_pretrained(path, dtype).to(device).eval()
    out = []
    with torch.inference_mode():
        for text in inputs:
            ids = torch.tensor([tokenizer.encode(text).ids], device=device)
            hidden = model(input_ids=ids).last_hidden_state[0].float().mean(0)
            out.append(hidden / hidden.norm() if unit else hidden)
    return torch.stack(out).double().cpu().numpy()


def checked(name, how, vectors, truth, times=1):
    """One row of the table, of texts that are asked for so many times; None when there are no
    vectors."""
    try:
        import numpy as np
        cosine, error = compare(vectors(), np.tile(truth, (times, 1)))
    except Exception as problem:        # named, and on to the next
        expect(False, f"{name}, {how}: {problem}")
        return None
    print(f"{name:<14}{how:<28}{1 - cosine:>12.2e}{error:>13.2e}", flush=True)
    return cosine, error


# Shapes of which some take the plain kernels: heads of 20 columns, rows of 1100.
ODD = [(60, 3, 132), (1100, 11, 300), (384, 4, 512), (256, 2, 512)]


def part_correctness():
    import torch
    inputs = texts(64)
    print(f"{'model':<14}{'how':<28}{'1 - cosine':>12}{'error/scale':>13}")
    for name, path, unit in models():
        truth = torch_vectors(path, inputs, unit, "cpu", torch.float32)
        checked(name, "vacate cpu float32", lambda: our_vectors(path, inputs, "cpu", None, 64),
                truth)
        for dtype, least, most in (("float32", 0.9999999, 1e-5), ("float16", 0.9999, None),
                                   ("bfloat16", 0.999, None)):
            theirs = checked(name, f"torch {dtype}",
                             lambda: torch_vectors(path, inputs, unit, "cuda",
                                                   getattr(torch, dtype)), truth)
            learn(path, dtype)
            for together in (1, 64, 256):
                how = f"vacate {dtype}, {together} at once"
                # 256 are more than 11,000 tokens, which other kernels may serve
                times = max(1, together // 64)
                ours = checked(name, how,
                               lambda: our_vectors(path, inputs * times, DEVICE, dtype, together),
                               truth, times)
                if ours is None:
                    continue
                expect(ours[0] >= least, f"{name}, {how}: cosine {ours[0]}")
                expect(most is None or ours[1] <= most, f"{name}, {how}: error {ours[1]} of scale")
                # no worse than torch's, rounding luck aside
                expect(theirs is None or 1 - ours[0] <= 1.25 * (1 - theirs[0]) + 2e-6,
                       f"{name}, {how}: cosine {ours[0]}, torch's is {theirs and theirs[0]}")
    for hidden, heads, wide in ODD:
        name = f"{hidden}/{heads} heads"
        path = random_bert(f"odd-{hidden}-{heads}", hidden_size=hidden, num_attention_heads=heads,
                           intermediate_size=wide, num_hidden_layers=2)
        truth = torch_vectors(path, inputs, False, "cpu", torch.float32)
        for dtype, least in (("float32", 0.9999999), ("float16", 0.9999)):
            how = f"vacate {dtype}, 64 at once"
            ours = checked(name, how, lambda: our_vectors(path, inputs, DEVICE, dtype, 64), truth)
            expect(ours is None or ours[0] >= least, f"{name}, {how}: cosine {ours and ours[0]}")


# --- memory ------------------------------------------------------------------

def cycles(path, count, *more):
    done = run([find("gpu_probe"), "cycles", path, str(count), "--device", DEVICE,
                *map(str, more)], text=True, timeout=300)
    expect(done.returncode == 0, f"cycles of {path.name}: {said(done)}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def drift(rows):
    """Of the process's private memory, from the third cycle on."""
    return rows[-1]["uss"] - rows[min(2, len(rows) - 1)]["uss"]


def memory_alone(name, path):
    before, took = devices()[0], time.time()
    rows = cycles(path, CYCLES)
    took = time.time() - took
    if len(rows) < 2:
        return
    idle, rows = rows[0], rows[1:]
    told = [c for c in rows if c["before"]]     # every second cycle asks for a receipt
    loaded = middle([c["before"] for c in told])
    after = sorted({c["used"] for c in rows})
    print(f"{name}, {len(rows)} cycles of load, answer, unload in {took:.0f} s, alone:")
    print(f"  VRAM by NVML, MiB: before {mib(before['used']):.1f}, driver open without a context "
          f"{mib(idle['used']):.1f}, loaded {mib(loaded):.1f}, after each unload "
          f"{', '.join(f'{mib(x):.1f}' for x in after)}")
    print(f"  plan {mib(rows[0]['planned']):.1f} MiB, ledger {mib(rows[0]['ledger']):.1f}; beyond "
          f"the plan (the context) {mib(loaded - idle['used'] - rows[0]['planned']):.1f} MiB")
    count = sum(c["listed"] for c in rows)
    print(f"  listed by NVML after the unload: {count} of {len(rows)} times; "
          f"nvidia-smi afterwards: {listed_by_smi()}")
    expect(count == 0, f"{name}: a process that unloaded is still listed by NVML")
    expect(after == [idle["used"]],
           f"{name}: VRAM after unloads {after}, {idle['used']} before")
    expect(all(c["ledger"] == c["planned"] for c in told), f"{name}: ledger and plan differ")
    expect(len({c["sum"] for c in rows}) == 1, f"{name}: answers differ between cycles")
    expect(drift(rows) < 4 << 20, f"{name}: private memory grew by {drift(rows)} bytes")
    for c in (rows[0], rows[1], rows[2], rows[len(rows) // 2], rows[-1]):
        print(f"  cycle {c['cycle']:>4}: rss {mib(c['rss']):7.1f}, private {mib(c['uss']):7.1f} MiB; "
              f"load {c['load_ms']:6.1f}, first answer {c['embed_ms']:6.2f}, unload "
              f"{c['unload_ms']:6.1f} ms")
    # without the receipt's own measuring
    plain = [c for c in rows[1:] if not c["before"]] or rows
    print(f"  median: load {middle([c['load_ms'] for c in plain]):.1f} ms, unload with the context "
          f"{middle([c['unload_ms'] for c in plain]):.1f} ms; private memory over the cycles "
          f"{drift(rows) / 1024:+.0f} KiB")


def memory_beside(name, path, other_name, other):
    rows = cycles(path, CYCLES, "--keep", other)
    if len(rows) < 4:
        return
    idle, rows, last = rows[0], rows[1:-1], rows[-1]
    told = [c for c in rows[1:] if c["before"]]
    used = sorted({c["used"] for c in rows[1:]})
    print(f"{name}, {len(rows)} cycles beside a resident {other_name}:")
    print(f"  VRAM after each from the second on: {', '.join(f'{mib(x):.1f}' for x in used)} MiB; "
          f"unload {middle([c['unload_ms'] for c in rows if not c['before']]):.2f} ms (median)")
    print(f"  fell by {sorted({c['before'] - c['after'] for c in told})} bytes, ledger "
          f"{sorted({c['ledger'] for c in told})}; private memory {drift(rows) / 1024:+.0f} KiB")
    print(f"  after the last one: listed {last['listed']}, {mib(last['used']):.1f} MiB")
    expect(len(used) == 1, f"{name} beside another: VRAM after unloads {used}")
    expect(all(c["before"] - c["after"] == c["ledger"] for c in told),
           f"{name} beside another: VRAM did not fall by the ledger's bytes")
    expect(not last["listed"] and last["used"] == idle["used"], "the last one left VRAM behind")
    expect(abs(drift(rows)) < 4 << 20, f"private memory drifted by {drift(rows)} bytes")


def part_memory():
    memory_alone("MiniLM-L6", minilm())
    memory_alone("BERT-base", bert_base())
    memory_beside("MiniLM-L6", minilm(), "BERT-base", bert_base())


# --- load --------------------------------------------------------------------

def part_load():
    print(f"{'model':<11}{'run':>4}{'open':>7}{'tokzr':>7}{'device':>8}{'map':>7}{'read':>7}"
          f"{'GB/s':>6}{'warm':>7}{'loaded':>8}{'first':>8}{'process':>9} ms")
    for name, path, _ in models():
        file = path / "model.safetensors"
        size = len(file.read_bytes())           # into the page cache
        for attempt in range(4):
            start = time.time()
            done = run([find("engine_bench"), path, "--device", DEVICE, "--embed"],
                       input=b"a lighthouse sea\0")
            wall = (time.time() - start) * 1e3
            lines = [x for x in done.stderr.decode().splitlines() if x.startswith("{")]
            expect(done.returncode == 0 and lines, f"{name}: {said(done)}")
            if not lines:
                continue
            data = json.loads(lines[-1])
            t = data["load_ms"]
            print(f"{name:<11}{attempt:>4}{t['open']:>7.1f}{t['tokenizer']:>7.1f}"
                  f"{t['device']:>8.1f}{t['map']:>7.1f}{t['read']:>7.1f}"
                  f"{size / t['read'] / 1e6:>6.1f}{t['warm']:>7.1f}{data['loaded_ms']:>8.1f}"
                  f"{data['first_answer_ms']:>8.1f}{wall:>9.1f}", flush=True)


# --- speed -------------------------------------------------------------------

SHAPES = "1x16,1x128,32x128,128x128,512x128,64x512"


def torch_times(path, shapes):
    import torch
    model = from_pretrained(path, torch.float16).cuda().eval()
    longest = model.config.max_position_embeddings
    out = {}
    with torch.inference_mode():
        for shape in shapes.split(","):
            count, tokens = map(int, shape.split("x"))
            ids = torch.randint(1000, 30000, (count, min(tokens, longest)), device="cuda")
            times = []
            end = time.time() + 2
            while len(times) < 5 or (time.time() < end and len(times) < 200):
                torch.cuda.synchronize()
                start = time.perf_counter()
                model(input_ids=ids).last_hidden_state.mean(1).float().cpu()
                times.append(time.perf_counter() - start)
            out[shape] = sorted(times)[len(times) // 2] * 1e3
    return out


def part_speed():
    print(f"{'model':<11}{'shape':<9}{'vacate ms':>10}{'torch ms':>10}{'times':>7}"
          f"{'vacate tokens/s':>17}{'torch tokens/s':>16}")
    for name, path, _ in models():
        shapes = SHAPES if name == "BERT-base" else SHAPES.replace(",64x512", ",128x256")
        for shape, columns in learn(path).items():
            print(f"# {shape}: tiles of {columns} columns" if columns else
                  f"# {shape}: cuBLASLt's product and GELU after it")
        done = run([find("engine_bench"), path, "--device", DEVICE, "--shapes", shapes,
                    "--seconds", "2"], text=True)
        expect(done.returncode == 0, f"{name}: {said(done)}")
        if done.returncode:
            continue
        theirs = torch_times(path, shapes)
        for row in json.loads(done.stdout)["shapes"]:
            ours, torchs = row["median_us"] / 1e3, theirs[row["shape"]]
            tokens = row["tokens_per_second"] * ours / torchs
            print(f"{name:<11}{row['shape']:<9}{ours:>10.3f}{torchs:>10.3f}{torchs / ours:>7.2f}"
                  f"{row['tokens_per_second']:>17,}{tokens:>16,.0f}", flush=True)


# --- server ------------------------------------------------------------------

def cycle(server, name, first):
    """From nothing to an answer and back; the row of the table."""
    start = time.time()
    (vector,) = server.embed(name, "a lighthouse by the sea")
    answer_ms = (time.time() - start) * 1e3
    (worker,) = server.ok("GET", "/models/ps")["workers"]
    (model,) = server.ok("GET", "/models/ps")["models"]
    loaded, _ = on_gpu()
    receipt = server.unload(name)
    used, pids = on_gpu()
    row = {"answer_ms": answer_ms, "load_ms": model["load_ms"], "loaded": loaded, "used": used,
           "pids": pids, "vector": vector, "worker_vram": worker["vram_bytes"],
           "unload_ms": receipt["unload_ms"], "receipt": receipt, "stages": model["stages_ms"],
           "plan": model["plan"]["device_bytes"]}
    vram = receipt["vram"]
    expect(receipt["worker"]["exited"] and not vram["after"]["listed"], f"{name}: still listed")
    expect(vram["after"]["used_bytes"] == first, f"{name}: {vram} with {first} bytes before")
    expect(receipt["unaccounted_bytes"] <= 1 << 20, f"{name}: {receipt['unaccounted_bytes']} "
           "bytes are unaccounted for")
    expect(used == first and not pids, f"{name}: {used} bytes used, processes {pids}")
    return row


def server_cycles(server, name, first, uss):
    rows = [cycle(server, name, first) for _ in range(max(3, CYCLES // 10))]
    last = rows[-1]
    vram = last["receipt"]["vram"]
    print(f"{name}, {len(rows)} times through the server from nothing to an answer and back:")
    print(f"  VRAM by NVML, MiB: before {mib(first):.1f}, loaded {mib(last['loaded']):.1f} (worker "
          f"{mib(last['worker_vram'] or 0):.1f}), after each {sorted({mib(r['used']) for r in rows})};"
          f" receipt: {mib(vram['before']['used_bytes']):.1f} -> "
          f"{mib(vram['after']['used_bytes']):.1f}, listed {vram['after']['listed']}, "
          f"plan {mib(last['plan']):.1f}, unaccounted {last['receipt']['unaccounted_bytes']} bytes")
    print(f"  ms: to the first answer {rows[0]['answer_ms']:.0f} (first), "
          f"{middle([r['answer_ms'] for r in rows]):.0f} (median); load "
          f"{middle([r['load_ms'] for r in rows]):.0f}; unload with exit and measuring "
          f"{middle([r['unload_ms'] for r in rows]):.0f}")
    print(f"  stages of the last load, ms: {last['stages']}")
    print(f"  server's private memory {mib(uss()):.2f} MiB")
    expect(all(r["vector"] == last["vector"] for r in rows), f"{name}: answers differ")


def part_server():
    harness, measure = server_tools()
    paths = {"bert-base": bert_base(), "minilm": minilm()}
    first, pids = on_gpu()
    expect(not pids, f"others use the GPU: {pids}")
    server = harness.Server(WORK, WORK / "server.log", "--device", DEVICE, "--log-level", "debug")
    try:
        def uss():
            return measure.uss(server.pid)
        # while vacate-gpud has the driver open, which the driver counts as used by nobody
        nothing, (first, pids) = first, on_gpu()
        print(f"server idle: {mib(uss()):.2f} MiB private; VRAM {mib(first):.1f} MiB with the "
              f"driver open, {mib(nothing):.1f} before; listed: {pids or 'none'}")
        expect(first - nothing <= 4 << 20 and not pids, "the idle server uses the GPU")
        time.sleep(12)
        used, pids = on_gpu()
        print(f"idle for 12 s: VRAM {mib(used):.1f} MiB, listed: {pids or 'none'}")
        expect(used == nothing and not pids, "the idle server uses the GPU after 12 s")
        for name in paths:
            server_cycles(server, name, first, uss)
        (truth,) = our_vectors(paths["minilm"], ["a lighthouse by the sea"], "cpu", None, 1)
        (vector,) = server.embed("minilm", "a lighthouse by the sea")
        print(f"minilm's answer against float32 on the CPU: 1 - cosine "
              f"{1 - cosine(vector, list(truth)):.1e}")
        expect(cosine(vector, list(truth)) > 0.9999, "the server's answer is another")
        server.embed("bert-base", "x")
        print(subprocess.run([find("vacate"), "ps", "--server", server.url], text=True,
                             capture_output=True).stdout.rstrip())
        time.sleep(0.5)     # the worker's pages are walked a moment after the load
        receipt = server.unload("bert-base")
        vram = receipt["vram"]
        print(f"one of two unloaded: {vram['returned_bytes']} bytes returned, ledger "
              f"{vram['ledger_bytes']}, in {receipt['unload_ms']} ms")
        print(next((line.partition("debug: ")[2] for line in reversed(server.stderr().splitlines())
                    if "unload of bert-base in ms" in line), "no line of the log has its stages"))
        expect(vram["returned_bytes"] == vram["ledger_bytes"],
               f"one of two: {vram['returned_bytes']} returned, {vram['ledger_bytes']} in the ledger")
        expect(server.embed("minilm", "a lighthouse by the sea") == [vector],
               "the other one answers otherwise")
        (worker,) = server.ok("GET", "/models/ps")["workers"]
        os.kill(worker["pid"], 9)
        time.sleep(1)
        used, pids = on_gpu()
        print(f"worker killed: VRAM {mib(used):.1f} MiB, listed: {pids or 'none'}")
        expect(used == first and not pids, f"after a killed worker: {used} bytes, {pids}")
        expect(server.embed("minilm", "a lighthouse by the sea") == [vector],
               "another answer after a death")
        expect(server.stop() == 0, "the server did not end in order")
    except Exception:
        print(server.stderr()[-3000:])
        raise
    finally:
        server.kill()
    used, pids = on_gpu()
    print(f"server ended: VRAM {mib(used):.1f} MiB, listed: {pids or 'none'}")
    expect(used == nothing and not pids, f"after the server: {used} bytes, {pids}")
