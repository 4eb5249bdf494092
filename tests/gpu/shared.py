"""shared.py - what the parts of tests/gpu/run share: programs, models, checks, and
what is read of the device and of processes."""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

from stream import DRY, ONLY, UUID, WORK

HERE = pathlib.Path(__file__).resolve().parent
failures = []
os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1",
               "HF_HUB_OFFLINE": "1"}


def find(name):
    roots = [os.environ.get("VACATE_BUILD"), HERE.parent.parent, HERE.parent.parent / "build"]
    for root in filter(None, roots):
        for folder in ("", "bench", "tests/gpu"):
            path = pathlib.Path(root) / folder / name
            if path.is_file() and os.access(path, os.X_OK):
                return path
    sys.exit(f"{name} was not found; scripts/carry.sh builds it")


def expect(good, what):
    if not good:
        failures.append(what)
        print(f"FAILED: {what}", flush=True)
    return good


def run(command, timeout=120, **options):
    """What a program said; one that hangs is ended."""
    try:
        return subprocess.run(command, capture_output=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired as late:
        late.returncode = -1
        for name in ("stdout", "stderr"):
            text = getattr(late, name) or b""
            text = text.decode(errors="replace") if options.get("text") and \
                isinstance(text, bytes) else text
            setattr(late, name, text)
        expect(False, f"{command[0].name if hasattr(command[0], 'name') else command[0]}: "
                      f"not done after {timeout} s")
        return late


def said(done):
    """The last lines of its standard error."""
    text = done.stderr if isinstance(done.stderr, str) else done.stderr.decode(errors="replace")
    return " / ".join(text.strip().splitlines()[-3:]) or f"exit status {done.returncode}"


class Skip(Exception):
    """There is not here what a part needs."""


def devices():
    """Those that are meant (stream.py)."""
    if DRY:
        return [{"name": "none", "uuid": "", "driver": "", "total": 0, "used": 0, "processes": []}]
    done = run([find("gpu_probe"), "devices"], text=True)
    if done.returncode != 0:
        raise Skip(done.stderr.strip())
    return [json.loads(line) for line in done.stdout.splitlines()]


class Budget:
    """A part ends by itself: what there was no time for is said."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def has(self, seconds, what):
        if time.monotonic() + seconds <= self.end:
            return True
        print(f"not run, for want of time: {what}", flush=True)
        return False


def apart(module, function, *arguments, timeout):
    """function(*arguments) of a module here, in a process of its own: torch gives its context
    back in no other way. Arguments and value by JSON; (None, why) if there is no value."""
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", "import importlib, json, os, sys\n"
         "sys.path.insert(0, sys.argv[1])\n"
         "value = getattr(importlib.import_module(sys.argv[2]), sys.argv[3])("
         "*json.load(sys.stdin))\n"
         "with os.fdopen(int(sys.argv[4]), 'w') as file:\n"
         "    json.dump(value, file)",
         str(HERE), module, function, str(write)],
        pass_fds=[write], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    os.close(write)
    try:
        _, problem = child.communicate(json.dumps(arguments).encode(), timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        _, problem = child.communicate()
    with os.fdopen(read) as file:
        text = file.read()
    return json.loads(text) if text else None, problem.decode(errors="replace").strip()[-300:]


# --- models ------------------------------------------------------------------

DEVICE = os.environ.get("VACATE_GPU_DEVICE", "cuda:0")
# Without a GPU the parts run on the CPU, so that their scripts can be tried.
if DRY:
    DEVICE = "cpu"
CYCLES = int(os.environ.get("VACATE_GPU_CYCLES", "100"))
WORDS = ("harbour quiet lighthouse sea someone reads long book history tides the a of and "
         "river mountain engine memory returns measured gives back every byte winter light "
         "small boats wait morning wind turns slowly over grey water").split()


VOCABULARY = 30522
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


def make_tokenizer(path, longest):
    """A WordPiece tokenizer as BERT has it, over letters and the words above."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,"
    pieces = [*letters, *("##" + x for x in letters), *sorted(set(WORDS))]
    pieces += [f"unused{i}" for i in range(VOCABULARY)]
    pieces = list(dict.fromkeys(pieces))
    vocabulary = dict(SPECIAL)
    free = (i for i in range(VOCABULARY) if i not in SPECIAL.values())
    for piece, number in zip(pieces, free):
        vocabulary[piece] = number
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 101), ("[SEP]", 102)])
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": longest,
        "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]",
        "unk_token": "[UNK]", "mask_token": "[MASK]"}))


def random_bert(name, unit=False, **sizes):
    """A BERT of that shape with random weights, as a float32 checkpoint; unit: its
    vectors are normalized, as sentence-transformers writes it down."""
    path = WORK / name
    if (path / "complete").exists():
        return path
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel
    path.mkdir(parents=True, exist_ok=True)
    config = BertConfig(vocab_size=VOCABULARY, **sizes)
    torch.manual_seed(len(name))
    model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():       # as spread as trained ones are, so that inputs differ
        for key, value in model.named_parameters():
            if value.dim() == 2 or not key.endswith("LayerNorm.weight"):
                value.normal_(0, 0.05)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()
               if "position_ids" not in k}, path / "model.safetensors", metadata={"format": "pt"})
    kept = {k: v for k, v in config.to_dict().items()
            if isinstance(v, (int, float, str, bool)) and v is not None}
    kept |= {"model_type": "bert", "architectures": ["BertModel"],
             "position_embedding_type": "absolute"}
    (path / "config.json").write_text(json.dumps(kept, indent=1))
    make_tokenizer(path, config.max_position_embeddings)
    if unit:
        (path / "modules.json").write_text(json.dumps([
            {"idx": i, "name": str(i), "path": folder,
             "type": f"sentence_transformers.models.{kind}"}
            for i, (folder, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"),
                                                ("2_Normalize", "Normalize")])]))
        (path / "1_Pooling").mkdir(exist_ok=True)
        (path / "2_Normalize").mkdir(exist_ok=True)
        (path / "1_Pooling/config.json").write_text(json.dumps({
            "word_embedding_dimension": config.hidden_size,
            "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}))
        (path / "sentence_bert_config.json").write_text(json.dumps(
            {"max_seq_length": 256, "do_lower_case": False}))
    (path / "complete").touch()
    return path


def bert_base():
    return random_bert("bert-base")


def minilm():
    return random_bert("minilm", unit=True, hidden_size=384, num_hidden_layers=6,
                       num_attention_heads=12, intermediate_size=1536)


def models():
    """Name, path, whether a result has length 1."""
    return [("BERT-base", bert_base(), False), ("MiniLM-L6", minilm(), True)]


def texts(count, longest=480):
    import random
    rng = random.Random(7)
    lengths = [1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200, 300, longest]
    lengths += [rng.randint(1, 60) for _ in range(count - len(lengths))]
    return [" ".join(rng.choice(WORDS) for _ in range(n)) for n in lengths[:count]]


# --- answers ------------------------------------------------------------------

def from_pretrained(path, dtype):
    from transformers import AutoModel
    try:
        return AutoModel.from_pretrained(path, dtype=dtype)
    except TypeError:           # the name that it had before
        return AutoModel.from_pretrained(path, torch_dtype=dtype)


def our_vectors(path, inputs, device, dtype, together):
    import numpy as np
    command = [find("engine_bench"), path, "--device", device, "--embed", "--together",
               str(together)]
    if dtype:
        command += ["--dtype", dtype]
    done = run(command, input="\0".join(inputs).encode() + b"\0")
    if done.returncode != 0:
        raise RuntimeError(said(done))
    return np.frombuffer(done.stdout, dtype="<f4").reshape(len(inputs), -1).astype("f8")


def learn(path, dtype=None):
    """Loads a model until what is tried out once on a machine is known: the first load has not
    the time for all of it. Returns what is known of products with their GELU as one kernel:
    {"in x out, rows": columns of a tile, 0: cuBLASLt's is faster}."""
    for _ in range(3):
        our_vectors(path, ["a lighthouse by the sea"], DEVICE, dtype, 1)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    known, columns = {}, {0: 0, 1: 128, 2: 192}
    for file in sorted(pathlib.Path(base).glob("vacate/kernels/product-*-fused*")):
        shape = re.search(r"-(\d+)x(\d+)-(\d+)-fused", file.name)
        if shape:
            known["{} x {}, {}".format(*shape.groups())] = columns.get(
                int.from_bytes(file.read_bytes()[-4:], "little"), "?")
    return known


def compare(a, b):
    import numpy as np
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(cosine.min()), float(np.abs(a - b).max() / np.abs(b).max())


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


# --- what is on the device -----------------------------------------------------

def mib(count):
    return count / 2**20


def middle(values):
    return sorted(values)[len(values) // 2]


def listed_by_smi():
    """What nvidia-smi lists as compute processes; None: it is not there."""
    try:
        done = run(["nvidia-smi", *ONLY, "--query-compute-apps=pid,used_memory",
                    "--format=csv,noheader"], text=True)
    except OSError:
        return None
    return done.stdout.strip() or "none" if done.returncode == 0 else None


def on_gpu():
    """(used bytes, pids) as a process of its own reads them."""
    device = devices()[0]
    return device["used"], [process["pid"] for process in device["processes"]]


class Watch:
    """What NVML says, from one process that stays: a reading takes a millisecond."""

    def __init__(self):
        self.process = None if DRY else subprocess.Popen(
            [find("gpu_probe"), "watch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self):
        """The devices, as devices() has them."""
        if not self.process:
            return devices()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("gpu_probe watch ended")
        return json.loads(line)

    def used(self):
        return self.read()[0]["used"]

    def pids(self):
        return [process["pid"] for device in self.read() for process in device["processes"]]

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait(timeout=30)


# --- servers -------------------------------------------------------------------

def server_tools():
    """harness and measure of scripts/."""
    sys.path[:0] = [str(HERE), str(HERE.parent.parent / "scripts")]
    import harness
    import measure
    os.environ.setdefault("VACATE_BUILD", str(find("vacate").parent))
    return harness, measure


@contextlib.contextmanager
def serving(name, *options, env=None, device=DEVICE):
    """`vacate serve` over the models made here. What it logged is shown if the part ends early."""
    harness, _ = server_tools()
    log = WORK / f"{name}.log"
    log.unlink(missing_ok=True)
    server = harness.Server(WORK, log, "--device", device, *options, env=env)
    try:
        yield server
        if UUID and device != "cpu" and "CUDA_VISIBLE_DEVICES" not in (env or {}) and \
                server.process.poll() is None:
            listed = [gpu["uuid"] for gpu in server.ok("GET", "/models/ps")["gpus"]]
            expect(listed == [UUID], f"{name}: the server lists {listed}, shown was {UUID}")
        expect(server.stop() == 0, f"{name}: the server did not end in order")
    except Exception:
        print(server.stderr()[-3000:])
        raise
    finally:
        server.kill()
