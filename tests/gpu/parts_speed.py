"""parts_speed.py - parts of tests/gpu/run: graphs of small batches, mixed lengths through
HTTP, torch.compile as a peer, and which kernels a batch's time goes to."""
import collections
import csv
import json
import os
import pathlib
import random
import re
import shutil
import time

from lengths import lengths
from shared import (DEVICE, DRY, WORDS, WORK, Budget, apart, bert_base, expect, find,
                    from_pretrained, learn, mib, middle, minilm, models, run, said, serving, texts,
                    Skip)

# --- graphs ------------------------------------------------------------------

SMALL = "1x8,1x16,1x64,1x128,1x256,1x512,2x128,4x16,8x32,16x16"
ASKED = {("BERT-base", "1x16"): 0.6, ("BERT-base", "1x128"): 0.6,
         ("MiniLM-L6", "1x16"): 0.4, ("MiniLM-L6", "1x128"): 0.4}


def bench(path, shapes, seconds, env, *more):
    done = run([find("engine_bench"), path, "--device", DEVICE, "--shapes", shapes, "--seconds",
                str(seconds), *more], text=True, env=os.environ | env, timeout=240)
    expect(done.returncode == 0, f"engine_bench {path.name} {shapes}: {said(done)}")
    if done.returncode:
        return {}
    for line in done.stderr.splitlines():
        if "graph" in line:
            print(line)
    return {row["shape"]: row for row in json.loads(done.stdout)["shapes"]}


def vectors(path, inputs, env):
    done = run([find("engine_bench"), path, "--device", DEVICE, "--embed"],
               input="\0".join(inputs).encode() + b"\0", env=os.environ | env, timeout=240)
    expect(done.returncode == 0, f"vectors of {path.name}: {said(done)}")
    return done.stdout


def classes(path):
    """Memory of the device as one class of small batches after the other is recorded."""
    done = run([find("gpu_probe"), "classes", path, "8", "--device", DEVICE], text=True,
               timeout=120)
    expect(done.returncode == 0, f"classes: {said(done)}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    loaded, gone = rows[0]["used"], rows[-1]["used"]
    print("VRAM beyond the loaded model as classes are recorded, MiB: " + ", ".join(
        f"{r['words']} words {mib(r['used'] - loaded):.1f}" for r in rows[1:-1:4]) +
        f"; after the unload {mib(gone - loaded):.1f} of the load, which began at "
        f"{mib(loaded):.1f}")
    expect(max(r["used"] for r in rows) - loaded <= 64 << 20, "graphs take more than 64 MiB")


def part_graphs():
    budget = Budget(400)
    on, off = {"VACATE_CUDA_GRAPHS": "on"}, {"VACATE_CUDA_GRAPHS": "off"}
    print(f"{'model':<11}{'shape':<8}{'launches ms':>12}{'graph ms':>10}{'times':>7}")
    for name, path, _ in models():
        shapes = SMALL if name == "BERT-base" else SMALL.replace(",1x512", "")
        plain = bench(path, shapes, 0.6, off)
        for shape, row in bench(path, shapes, 0.6, on).items():
            before, now = plain[shape]["median_us"] / 1e3, row["median_us"] / 1e3
            print(f"{name:<11}{shape:<8}{before:>12.3f}{now:>10.3f}{before / now:>7.2f}")
            asked = ASKED.get((name, shape))
            expect(DRY or not asked or now <= asked,
                   f"{name} {shape}: {now:.3f} ms, asked {asked}")
    inputs = texts(120, longest=240) * 6        # so that each class comes again
    for name, path, _ in models():
        if not budget.has(40, f"{name}: the same bits"):
            break
        a, b = vectors(path, inputs, off), vectors(path, inputs, on)
        differ = sum(a[i:i + 4] != b[i:i + 4] for i in range(0, len(a), 4)) if a != b else 0
        again = vectors(path, inputs, on)
        print(f"{name}: {len(inputs)} answers of {len(a)} bytes with graphs and without: "
              f"{differ} numbers differ; a second time with graphs: "
              f"{'the same' if again == b else 'OTHERS'}")
        # without graphs a batch has other rows, so that the products may round otherwise
        expect(again == b, f"{name}: graphs give other answers the second time")
        size = len(a) // len(inputs)
        one = len(inputs) // 6
        same = all(b[i * size:(i + 1) * size] == b[(i % one) * size:(i % one + 1) * size]
                   for i in range(len(inputs)))
        expect(same, f"{name}: an answer by a graph differs from the same by launches")
    if DRY:
        return
    classes(bert_base())
    done = run([find("gpu_probe"), "cycles", minilm(), "40", "--device", DEVICE, "--keep",
                bert_base()], text=True, env=os.environ | on, timeout=120)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    rows = [row for row in rows if row["cycle"] >= 1]
    print(f"40 cycles beside another with graphs: VRAM after each from the second on "
          f"{sorted({mib(r['used']) for r in rows})} MiB")
    expect(done.returncode == 0 and len({r["used"] for r in rows}) == 1,
           f"graphs: VRAM differs between cycles, {said(done)}")


# --- mixed -------------------------------------------------------------------

COUNT = 4096
CLIENTS = 64
SECONDS = 2 if DRY else 8


def mixed_inputs(longest):
    """Token counts, and texts of so many tokens: each word is one."""
    rng = random.Random(11)
    counts = lengths(COUNT, rng, longest)
    return counts, [" ".join(rng.choice(WORDS) for _ in range(n - 2)) for n in counts]


def through_http(server, model, inputs, together):
    """Tokens a second of 64 clients, and their latencies."""
    bodies = [json.dumps({"model": model, "encoding_format": "base64",
                          "input": inputs[i:i + together]})
              for i in range(0, len(inputs), together)]
    rows = []
    for seconds in (1, SECONDS):        # the first warms up
        done = run([find("load_client"), str(server.port), "/v1/embeddings", str(CLIENTS),
                    "1000000000", str(seconds)], input="\0".join(bodies), text=True,
                   timeout=seconds + 60)
        expect(done.returncode == 0, f"load_client: {said(done)}")
        rows.append(json.loads(done.stdout))
    return rows[-1]


def offline(path, inputs, counts):
    """torch in float16: tokens a second, (length-sorted, in arrival order), and the seconds
    that tokenizing took."""
    import torch
    from tokenizers import Tokenizer
    path = pathlib.Path(path)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    start = time.perf_counter()
    ids = [x.ids for x in tokenizer.encode_batch(inputs)]
    tokenizing = time.perf_counter() - start
    expect([len(x) for x in ids] == counts, "mixed: texts have other lengths than asked for")
    model = from_pretrained(path, torch.float16).cuda().eval()

    def batches(order, rows, tokens):
        batch, longest = [], 0
        for i in order:
            longest_then = max(longest, len(ids[i]))
            if batch and (len(batch) == rows or (len(batch) + 1) * longest_then > tokens):
                yield batch
                batch, longest_then = [], len(ids[i])
            batch.append(i)
            longest = longest_then
        yield batch

    def compute(order, rows, tokens):
        done = []
        for batch in batches(order, rows, tokens):
            longest = max(len(ids[i]) for i in batch)
            padded = torch.zeros(len(batch), longest, dtype=torch.long)
            mask = torch.zeros(len(batch), longest, dtype=torch.long)
            for row, i in enumerate(batch):
                padded[row, :len(ids[i])] = torch.tensor(ids[i])
                mask[row, :len(ids[i])] = 1
            padded, mask = padded.cuda(non_blocking=True), mask.cuda(non_blocking=True)
            hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state
            wide = mask.unsqueeze(-1).to(hidden.dtype)
            done.append(((hidden * wide).sum(1) / wide.sum(1)).float())
        return [x.cpu() for x in done]

    rates = []
    arrival = list(range(len(ids)))
    by_length = sorted(arrival, key=lambda i: -len(ids[i]))
    with torch.inference_mode():
        for order, rows, tokens in ((by_length, 10**9, 16384), (arrival, CLIENTS, 10**9)):
            compute(order, rows, tokens)
            times = []
            for _ in range(3):
                torch.cuda.synchronize()
                start = time.perf_counter()
                compute(order, rows, tokens)
                times.append(time.perf_counter() - start)
            rates.append(sum(counts) / min(times))
    return rates, tokenizing


def part_mixed():
    budget = Budget(420)
    print(f"lengths of Debian 12's package descriptions, {COUNT} texts of random words, "
          f"{CLIENTS} clients, float16, tokens a second")
    print(f"{'model':<11}{'HTTP, 1 text':>14}{'p50 ms':>8}{'p99':>7}{'16 texts':>13}"
          f"{'torch sorted':>14}{'arrival':>12}{'tokenizing':>12}")
    for name, path, _ in models():
        if not budget.has(100, name):
            break
        counts, inputs = mixed_inputs(512 if name == "BERT-base" and not DRY else 256)
        mean = sum(counts) / len(counts)
        with serving("mixed", "--keep-alive", "10m") as server:
            server.embed(path.name, "a lighthouse by the sea")
            one = through_http(server, path.name, inputs, 1)
            many = through_http(server, path.name, inputs, 16)
            server.unload(path.name)
        rate = one["replies"] / one["seconds"] * mean
        rate16 = many["replies"] / many["seconds"] * 16 * mean
        expect(one["failed"] == many["failed"] == 0, f"{name}: {one['failed']} and "
               f"{many['failed']} requests failed")
        result, problem = (None, "") if DRY else apart("parts_speed", "offline", str(path), inputs,
                                                       counts, timeout=150)
        if not result:
            expect(DRY, f"{name}: torch gave nothing: {problem}")
            result = [[0, 0], 0]
        (by_length, arrival), tokenizing = result
        print(f"{name:<11}{rate:>14,.0f}{one['p50_us'] / 1e3:>8.1f}{one['p99_us'] / 1e3:>7.1f}"
              f"{rate16:>13,.0f}{by_length:>14,.0f}{arrival:>12,.0f}{tokenizing * 1e3:>9.0f} ms",
              flush=True)
        best = max(rate, rate16)
        expect(DRY or best >= 1.1 * by_length,
               f"{name}: {best / (by_length or 1):.2f} of torch's length-sorted, asked 1.1")
        expect(DRY or best >= 2 * arrival,
               f"{name}: {best / (arrival or 1):.2f} of torch's arrival order, asked 2")


# --- compile -----------------------------------------------------------------

COMPILED = [("BERT-base", ["512x128", "64x512", "128x128", "1x128", "1x16"]),
            ("MiniLM-L6", ["512x128", "1x128", "1x16"])]


def time_torch(model, count, tokens, seconds=1.5):
    import torch
    ids = torch.randint(1000, 30000, (count, tokens), device="cuda")
    times = []
    end = time.time() + seconds
    while len(times) < 5 or (time.time() < end and len(times) < 300):
        torch.cuda.synchronize()
        start = time.perf_counter()
        model(input_ids=ids).last_hidden_state.mean(1).float().cpu()
        times.append(time.perf_counter() - start)
    return middle(times) * 1e3


# max-autotune takes more than 100 s a shape of BERT-base before it has an answer.
COMPILE_MODE = os.environ.get("VACATE_GPU_COMPILE", "default")


def compile_one(path, shape):
    """Eager and compiled ms of one shape."""
    import torch
    count, tokens = map(int, shape.split("x"))
    path = pathlib.Path(path)
    model = from_pretrained(path, torch.float16).cuda().eval()
    with torch.inference_mode():
        eager = time_torch(model, count, tokens)
        torch._dynamo.reset()
        fast = torch.compile(model, mode=COMPILE_MODE, dynamic=False)
        return eager, time_torch(fast, count, tokens)


def part_compile():
    """What was measured stays in a file, so that a second run goes on with the rest."""
    budget, kept = Budget(460), WORK / f"compile-{COMPILE_MODE}.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    paths = {name: path for name, path, _ in models()}
    print(f"torch.compile, mode {COMPILE_MODE}")
    print(f"{'model':<11}{'shape':<9}{'vacate ms':>10}{'eager':>9}{'compiled':>10}"
          f"{'of the best':>12}{'compiling s':>13}")
    for name, shapes in COMPILED:
        learn(paths[name])
        ours = bench(paths[name], ",".join(shapes), 1.5, {})
        for shape in shapes:
            key = f"{name} {shape}"
            start = time.time()
            if key not in known and budget.has(75, f"torch.compile of {key}"):
                value, problem = apart("parts_speed", "compile_one", str(paths[name]), shape,
                                       timeout=170)
                if value:
                    known[key] = value
                    kept.write_text(json.dumps(known))
                else:
                    print(f"{key}: torch.compile gave nothing: {problem}")
            if key not in known or shape not in ours:
                continue
            (eager, compiled), us = known[key], ours[shape]["median_us"] / 1e3
            print(f"{name:<11}{shape:<9}{us:>10.3f}{eager:>9.3f}{compiled:>10.3f}"
                  f"{min(eager, compiled) / us:>12.2f}{time.time() - start:>13.0f}", flush=True)
            if shape in ("512x128", "64x512", "128x128"):
                expect(min(eager, compiled) / us >= 1.15,
                       f"{key}: {min(eager, compiled) / us:.2f} of torch's best, asked 1.15")


# --- batches -----------------------------------------------------------------

# 132 multiprocessors take tiles of 128 rows in whole turns with 16,896 and 33,792.
BATCHES = [16384, 16896, 32768, 33792]


def part_batches():
    """Tokens of a batch at most, against each other: the default stays unless another is
    faster with every shape, since each takes scratch memory by its size."""
    shapes = "128x128,512x128,64x512"
    for name, path, longest in (("BERT-base", bert_base(), shapes),
                                ("MiniLM-L6", minilm(), "512x128,128x256")):
        print(f"{name}, ms: " + "".join(f"{x:>12}" for x in longest.split(",")))
        for _ in range(2):      # two runs of the same thing differ by up to 2 %
            for tokens in BATCHES:
                rows = bench(path, longest, 1, {}, "--batch-tokens", str(tokens))
                print(f"{tokens:>9,}    " + "".join(
                    f"{rows[x]['median_us'] / 1e3:>12.3f}" for x in longest.split(",")
                    if x in rows), flush=True)


# --- profile -----------------------------------------------------------------

LAUNCHES = 1500         # each takes ncu some 10 ms
PROFILED = [("BERT-base", "512x128"), ("BERT-base", "64x512"), ("BERT-base", "1x16"),
            ("MiniLM-L6", "512x128")]


def kernel_times(path, shape):
    """{kernel: [ns of each launch]}, by ncu, one launch after the other."""
    done = run(["ncu", "--csv", "--page", "raw", "--metrics", "gpu__time_duration.sum",
                "--clock-control", "none", "--launch-count", str(LAUNCHES),
                find("engine_bench"), path, "--device", DEVICE, "--shapes", shape,
                "--seconds", "0.01", "--batch-ms", "1000000"], text=True, timeout=60,
               env=os.environ | {"VACATE_CUDA_GRAPHS": "off"})
    lines = done.stdout.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if done.returncode or first is None:
        raise Skip(f"ncu cannot read this device: {said(done)}")
    head, units, *rows = csv.reader(line for line in lines[first:] if line.startswith('"'))
    name, value = head.index("Kernel Name"), head.index("gpu__time_duration.sum")
    scale = {"ns": 1, "nsecond": 1, "us": 1e3, "usecond": 1e3, "ms": 1e6}[units[value]]
    times = collections.defaultdict(list)
    pools = [i for i, row in enumerate(rows) if row[name].startswith("pool")]
    if len(pools) < 2:
        raise Skip(f"fewer than two batches in {LAUNCHES} launches")
    for row in rows[pools[0] + 1:pools[-1] + 1]:    # whole batches
        times[row[name]].append(float(row[value].replace(",", "")) * scale)
    return times


def part_profile():
    """Which kernels a batch's time goes to. Says nothing about launches and gaps between."""
    if not shutil.which("ncu"):
        raise Skip("ncu is not here")
    budget = Budget(400)
    paths = {name: path for name, path, _ in models()}
    for name, shape in PROFILED:
        if not budget.has(40, f"{name} {shape}"):
            break
        bench(paths[name], shape, 0.3, {})      # what it tries out once, it knows then
        times = kernel_times(paths[name], shape)
        runs = sum(len(x) for kernel, x in times.items() if kernel.startswith("pool"))
        total = sum(map(sum, times.values()))
        print(f"{name} {shape}: {runs} batches (of 16,384 tokens at most), "
              f"{total / runs / 1e6:.3f} ms in kernels each")
        for kernel, each in sorted(times.items(), key=lambda x: -sum(x[1]))[:14]:
            short = re.sub(r"\(.*|void |<unnamed>::", "", kernel)[:70]
            print(f"  {sum(each) / total:>6.1%}{len(each) / runs:>7.1f} a batch"
                  f"{middle(each) / 1e3:>9.1f} us  {short}")
