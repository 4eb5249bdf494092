#!/usr/bin/env python3
"""throughput.py - the engine against onnxruntime and the roofline, in one run.

    throughput.py --build BUILD_DIR --model DIR [--python PYTHON] [--threads 1,2]
                  [--shapes 1x16,1x128,32x128] [--rounds 6] [--seconds 0.5]

PYTHON (or $VACATE_TORCH_PYTHON) has torch, transformers, onnx and onnxruntime:
it exports the model (once, into --cache) and runs it there, after
onnxruntime.transformers.optimizer has fused it. The engine and onnxruntime
take turns of --seconds on each shape, so that what else runs on the machine
meets both; of all rounds the least median counts. The engine's figure includes
tokens to batch, pooling and normalizing; onnxruntime's is session.run alone.

Roofline of a shape: the larger of its floating-point operations over the
measured peak and the weights' bytes over the measured memory bandwidth.
"""
import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

EXPORT = r"""
import inspect, sys, torch, transformers
from onnxruntime.transformers import optimizer
model_dir, out = sys.argv[1:]
torch.set_num_threads(1)
model = transformers.BertModel.from_pretrained(model_dir, add_pooling_layer=False).eval()
ids = torch.ones(1, 8, dtype=torch.int64)
names = ["input_ids", "attention_mask", "token_type_ids"]
axes = {n: {0: "batch", 1: "length"} for n in names + ["last_hidden_state"]}
class Wrapped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = model
    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask,
                          token_type_ids=token_type_ids).last_hidden_state
# Newer exporters write graphs that the optimizer does not know.
how = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
torch.onnx.export(Wrapped(), (ids, ids, ids * 0), out + ".raw", input_names=names,
                  output_names=["last_hidden_state"], dynamic_axes=axes, opset_version=14, **how)
fused = optimizer.optimize_model(out + ".raw", model_type="bert",
                                 num_heads=model.config.num_attention_heads,
                                 hidden_size=model.config.hidden_size)
print(fused.get_fused_operator_statistics(), file=sys.stderr)
fused.save_model_to_file(out)
"""

RUN = r"""
import json, sys, time, numpy, onnxruntime
path, threads = sys.argv[1], int(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
print(onnxruntime.__version__, flush=True)
for line in sys.stdin:
    rows, tokens, seconds = line.split()
    ids = numpy.random.default_rng(1).integers(1000, 20000, (int(rows), int(tokens)))
    feed = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": ids * 0}
    session.run(None, feed)
    times, end = [], time.perf_counter() + float(seconds)
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    print(json.dumps({"median_us": sorted(times)[len(times) // 2] * 1e6,
                      "least_us": min(times) * 1e6}), flush=True)
"""


def roofline_us(config, rows, tokens, peak):
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    layers, all_tokens = config["num_hidden_layers"], rows * tokens
    weights = layers * (4 * hidden * hidden + 2 * hidden * wide)
    flops = 2 * weights * all_tokens + 4 * layers * hidden * tokens * all_tokens
    return max(flops / peak["gflops"], 4 * weights / peak["gbytes_per_second"]) * 1e-3


def cpu_name():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def start(command, **more):
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            bufsize=1, **more)


def ask(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit("throughput.py: a measured program ended early")
    return json.loads(answer.strip().rstrip(","))


def measure(args, threads, onnx):
    shapes = args.shapes.split(",") * args.rounds
    env = dict(os.environ, VACATE_BACKEND_PATH=args.build)
    ours = start([f"{args.build}/bench/engine_bench", args.model, "--threads", str(threads),
                  "--shapes", ",".join(shapes), "--seconds", str(args.seconds), "--lockstep"],
                 env=env, stderr=subprocess.DEVNULL)
    head = ours.stdout.readline()
    theirs = start([args.python, "-c", RUN, onnx, str(threads)])
    version = theirs.stdout.readline().strip()
    best = {}
    for shape in shapes:
        us = ask(ours, "go")
        ort = ask(theirs, shape.replace("x", " ") + f" {args.seconds}")
        entry = best.setdefault(shape, {"ours": [], "ort": []})
        entry["ours"].append(us["median_us"])
        entry["ort"].append(ort["median_us"])
    ours.stdin.close()
    theirs.stdin.close()
    ours.wait()
    theirs.wait()
    return json.loads(head.rstrip().removesuffix("[") + "[]}")["device"], version, best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--python", default=os.environ.get("VACATE_TORCH_PYTHON", sys.executable))
    parser.add_argument("--cache", default=os.path.expanduser("~/.cache/vacate-bench"))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--shapes", default="1x16,1x128,32x128")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--json", help="also write the figures here")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    config = json.loads(pathlib.Path(args.model, "config.json").read_text(encoding="utf-8"))
    pathlib.Path(args.cache).mkdir(parents=True, exist_ok=True)
    name = os.path.basename(os.path.dirname(os.path.abspath(args.model))) or "model"
    onnx = os.path.join(args.cache, f"{name}-{config['hidden_size']}"
                                    f"x{config['num_hidden_layers']}.onnx")
    if not os.path.exists(onnx):
        subprocess.run([args.python, "-c", EXPORT, args.model, onnx], check=True)
    print(f"machine: {cpu_name()}, {os.cpu_count()} CPUs; load "
          f"{pathlib.Path('/proc/loadavg').read_text(encoding='utf-8').split()[0]} at the start")
    figures = []
    for threads in map(int, args.threads.split(",")):
        peak = json.loads(subprocess.run([f"{args.build}/bench/machine_peak", str(threads)],
                                         check=True, capture_output=True, text=True).stdout)
        device, version, best = measure(args, threads, onnx)
        print(f"\n{threads} thread(s): peak {peak['gflops']} GFLOP/s, "
              f"{peak['gbytes_per_second']} GB/s; {device}; onnxruntime {version}")
        print(f"{'shape':>8} {'ours us':>10} {'ort us':>10} {'ratio':>6} {'roofline us':>12} "
              f"{'of it':>6} {'tokens/s':>9}")
        for shape, times in best.items():
            rows, tokens = map(int, shape.split("x"))
            ours, ort = min(times["ours"]), min(times["ort"])
            roof = roofline_us(config, rows, tokens, peak)
            print(f"{shape:>8} {ours:10.0f} {ort:10.0f} {ort / ours:6.2f} {roof:12.0f} "
                  f"{roof / ours:6.0%} {rows * tokens / ours * 1e6:9.0f}")
            figures.append({"threads": threads, "shape": shape, "ours_us": ours, "ort_us": ort,
                            "roofline_us": roof, **peak})
    print(f"load {pathlib.Path('/proc/loadavg').read_text(encoding='utf-8').split()[0]} "
          "at the end")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
