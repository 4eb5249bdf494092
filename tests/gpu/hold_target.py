#!/usr/bin/env python3
"""hold_target.py KIND [ARGUMENT]: a process that holds memory of GPU 0, to be parked
and resumed by tests/gpu/hold. Says "ready" when it does; then a line of standard input
is a command and a line of standard output its answer. "digest": of what it holds or
computes. "run": work from the same beginning, while it may be parked; "at N" lines say how
far it is; then "done DIGEST". The first run takes $VACATE_GPU_WORK_S (5) seconds, so that
a command has the time to start and to park in the middle of it; each later one takes as
many steps as the first did, however long.

  two MIB     so much on each of two GPUs, as plain
  plain MIB   memory of the driver's own, without torch: starts in less than a second;
              with a second number so many MiB of RAM beside it
  busy        a plain one with a kernel that runs for ARGUMENT seconds (needs torch)
  use MIB BUSY_S REST_S
              a plain one that computes for so long and rests for so long, all the time
  managed     a plain one with managed memory
  bert GIB    BERT-base and so many GiB of tensors
  generate    GPT-2 with random weights, 200 tokens at a time
  train       a training loop
  graphs      CUDA graphs, replayed
  pinned      copies from and to pinned memory
  threads     two threads that compute
"""
import ctypes
import hashlib
import os
import sys
import threading
import time

os.environ |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "HF_HUB_OFFLINE": "1",
               "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}


def say(*words):
    """A line in one write: two threads may say something at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Steps:
    """As many steps as there is time for, and from then on always as many."""

    def __init__(self):
        self.count = None

    def __iter__(self):
        end, step = time.monotonic() + float(os.environ.get("VACATE_GPU_WORK_S", "5")), 0
        while step < self.count if self.count is not None else time.monotonic() < end:
            yield step
            step += 1
        self.count = step


def sha(*parts):
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:32]


# --- the driver alone ----------------------------------------------------------

class Driver:
    """The few calls that a plain target needs."""

    def __init__(self, device=0):
        self.library = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        self.context = ctypes.c_void_p()
        self.call("cuCtxCreate_v2", ctypes.byref(self.context), 0, device)

    def use(self):
        self.call("cuCtxSetCurrent", self.context)

    def call(self, name, *arguments):
        result = getattr(self.library, name)(*arguments)
        if result:
            sys.exit(f"{name}: {result}")

    def allocate(self, size, managed=False):
        at = ctypes.c_uint64()
        if managed:
            self.call("cuMemAllocManaged", ctypes.byref(at), ctypes.c_size_t(size), 1)
        else:
            self.call("cuMemAlloc_v2", ctypes.byref(at), ctypes.c_size_t(size))
        return at.value

    def fill(self, at, size, word):
        self.call("cuMemsetD32_v2", ctypes.c_uint64(at), word, ctypes.c_size_t(size // 4))

    def read(self, at, size):
        data = ctypes.create_string_buffer(size)
        self.call("cuMemcpyDtoH_v2", data, ctypes.c_uint64(at), ctypes.c_size_t(size))
        return data.raw


class Plain:
    """Blocks of 256 MiB at most, each with words of its own; a digest reads 4 KiB of
    every 4 MiB."""

    def __init__(self, mib, ram_mib=0, managed=False, device=0):
        self.driver, self.blocks = Driver(device), []
        self.ram = bytes(1) * (int(ram_mib) << 20)      # of zeros, which Python writes
        left = int(mib) << 20
        while left > 0:
            size = min(left, 256 << 20)
            at = self.driver.allocate(size, managed)
            for part in range(0, size, 4 << 20):
                length = min(4 << 20, size - part)
                self.driver.fill(at + part, length, (at + part) * 2654435761 & 0xFFFFFFFF)
            self.blocks.append((at, size))
            left -= size

    def digest(self):
        return sha(*(self.driver.read(at + part, 4096) for at, size in self.blocks
                     for part in range(0, size - 4095, 4 << 20)))

    def run(self):
        return self.digest()


class Two:
    def __init__(self, mib):
        self.parts = [Plain(mib, device=device) for device in (0, 1)]

    def digest(self):
        whole = []
        for part in self.parts:
            part.driver.use()
            whole.append(part.digest())
        return sha(*(digest.encode() for digest in whole))

    def run(self):
        return self.digest()


class Managed(Plain):
    def __init__(self, mib=16):
        super().__init__(mib, managed=True)


SPIN = b""".version 7.0
.target sm_80
.address_size 64
.visible .entry spin(.param .u64 spin_out, .param .u32 spin_count)
{
	.reg .pred %p<2>;
	.reg .b32 %r<4>;
	.reg .b64 %d<3>;
	ld.param.u64 %d1, [spin_out];
	ld.param.u32 %r1, [spin_count];
	mov.u32 %r2, 1;
	mov.u32 %r3, 0;
AGAIN:
	mad.lo.u32 %r2, %r2, 1664525, 1013904223;
	add.u32 %r3, %r3, 1;
	setp.lt.u32 %p1, %r3, %r1;
	@%p1 bra AGAIN;
	cvta.to.global.u64 %d2, %d1;
	st.global.u32 [%d2], %r2;
	ret;
}
"""


class Use(Plain):
    """Kernels of some milliseconds, one after the other, on a block of their own."""

    def __init__(self, mib, busy_s=1, rest_s=0):
        super().__init__(mib)
        self.busy_s, self.rest_s = float(busy_s), float(rest_s)
        self.own, self.function = self.driver.allocate(1 << 20), ctypes.c_void_p()
        module = ctypes.c_void_p()
        self.driver.call("cuModuleLoadData", ctypes.byref(module), SPIN)
        self.driver.call("cuModuleGetFunction", ctypes.byref(self.function), module, b"spin")
        threading.Thread(target=self.compute, daemon=True).start()

    def compute(self):
        self.driver.call("cuCtxSetCurrent", self.driver.context)
        out, count = ctypes.c_uint64(self.own), ctypes.c_uint32(1 << 19)
        parameters = (ctypes.c_void_p * 2)(ctypes.addressof(out), ctypes.addressof(count))
        try:
            while True:
                end = time.monotonic() + self.busy_s
                while time.monotonic() < end:
                    self.driver.call("cuLaunchKernel", self.function, 132, 1, 1, 128, 1, 1, 0,
                                     None, parameters, None)
                    self.driver.call("cuCtxSynchronize")
                time.sleep(self.rest_s)
        except SystemExit as problem:       # which ends no more than this thread
            say(problem)
            os._exit(1)


# --- torch ---------------------------------------------------------------------

def torch_quiet():
    import torch
    torch.manual_seed(1)
    # warn_only: what is not deterministic shows itself as a difference, and ends nothing
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch


def bits(tensor):
    import torch
    return tensor.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes()


class Busy:
    def __init__(self, seconds=20):
        self.torch = torch_quiet()
        self.seconds = float(seconds)
        self.x = self.torch.ones(1 << 20, device="cuda")

    def digest(self):
        return sha(bits(self.x))

    def run(self):
        self.torch.cuda._sleep(int(self.seconds * 1.7e9))
        say("at", 1)
        self.torch.cuda.synchronize()
        return self.digest()


class Bert:
    def __init__(self, gib=4):
        torch = torch_quiet()
        from transformers import BertConfig, BertModel
        self.model = BertModel(BertConfig(), add_pooling_layer=False).eval().to("cuda")
        self.ids = torch.arange(1000, 1000 + 8 * 128, device="cuda").view(8, 128)
        count = int(float(gib) * (1 << 30)) // 8
        self.tensors = [torch.arange(i, i + (1 << 24), device="cuda")
                        for i in range(0, count, 1 << 24)]
        self.torch = torch

    def digest(self):
        with self.torch.no_grad():
            out = self.model(self.ids).last_hidden_state
        sums = [(t * 6364136223846793005 + 1442695040888963407).sum() for t in self.tensors]
        return sha(bits(out), bits(self.torch.stack(sums)))

    def run(self):
        return self.digest()


class Generate:
    def __init__(self):
        self.torch = torch_quiet()
        from transformers import GPT2Config, GPT2LMHeadModel
        self.model = GPT2LMHeadModel(GPT2Config()).eval().to("cuda")
        self.prompt = self.torch.tensor([[15496, 11, 995]], device="cuda")
        self.steps = Steps()

    def run(self):
        from transformers.generation.streamers import BaseStreamer

        class Count(BaseStreamer):
            seen = 0

            def put(self, value):
                self.seen += 1
                say("at", self.seen)

            def end(self):
                pass

        count, outs = Count(), []
        self.torch.manual_seed(5)
        with self.torch.no_grad():
            for _ in self.steps:
                outs.append(self.model.generate(self.prompt, do_sample=True, max_new_tokens=200,
                                                min_new_tokens=200, pad_token_id=50256,
                                                streamer=count))
        return sha(*map(bits, outs))

    digest = run


class Train:
    def __init__(self):
        self.steps = Steps()

    def run(self):
        torch = torch_quiet()
        layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)
        model = torch.nn.Sequential(torch.nn.Embedding(1000, 256), layer,
                                    torch.nn.Linear(256, 1000)).to("cuda").train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        data = torch.randint(0, 1000, (16, 128), generator=torch.Generator().manual_seed(3))
        data, losses = data.to("cuda"), []
        torch.cuda.manual_seed(4)
        for step in self.steps:
            optimizer.zero_grad(set_to_none=True)
            out = model(data[:, :-1])
            loss = torch.nn.functional.cross_entropy(out.reshape(-1, 1000),
                                                     data[:, 1:].reshape(-1))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach().clone())
            say("at", step)
        return sha(bits(torch.stack(losses)), *(bits(p) for p in model.parameters()))

    digest = run


class Graphs:
    """A hundred replays a step, of a product and of numbers that no replay leaves as they
    were and none can be left out of."""

    def __init__(self):
        self.torch = torch = torch_quiet()
        self.x = torch.randn(512, 512, device="cuda")
        self.w = torch.randn(512, 512, device="cuda") / 32
        self.y = torch.zeros_like(self.x)
        self.numbers = torch.arange(1 << 16, device="cuda")
        self.steps = Steps()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.work()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.work()

    def work(self):
        self.y.copy_(self.torch.tanh(self.x @ self.w) + self.y * 0.5)
        self.numbers.mul_(6364136223846793005).add_(1442695040888963407)

    def run(self):
        self.y.zero_()
        self.numbers.copy_(self.torch.arange(1 << 16, device="cuda"))
        for step in self.steps:
            for _ in range(100):
                self.graph.replay()
            self.torch.cuda.synchronize()
            say("at", step)
        return sha(bits(self.y), bits(self.numbers))

    digest = run


class Pinned:
    def __init__(self):
        self.torch = torch = torch_quiet()
        self.host = torch.arange(1 << 24, dtype=torch.float32).pin_memory()
        self.back = torch.zeros_like(self.host).pin_memory()
        self.device = torch.zeros(1 << 24, device="cuda")
        self.steps = Steps()

    def run(self):
        self.back.zero_()
        for i in self.steps:
            self.device.copy_(self.host, non_blocking=True)
            self.device.mul_(i + 1).add_(self.back.to("cuda", non_blocking=True) * 0.5)
            self.back.copy_(self.device, non_blocking=True)
            self.torch.cuda.synchronize()
            say("at", i)
        return sha(self.back.numpy().tobytes())

    digest = run


class Threads:
    def __init__(self):
        self.steps = [Steps(), Steps()]

    def one(self, number, out):
        torch = self.torch
        with torch.cuda.stream(torch.cuda.Stream()):
            generator = torch.Generator(device="cuda").manual_seed(number)
            x = torch.randn(384, 384, device="cuda", generator=generator)
            y = torch.eye(384, device="cuda")
            for step in self.steps[number]:
                for _ in range(20):
                    y = torch.tanh(x @ y)
                torch.cuda.current_stream().synchronize()
                say("at", step)
            out[number] = bits(y)

    def run(self):
        self.torch, out = torch_quiet(), {}
        threads = [threading.Thread(target=self.one, args=(n, out)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sha(out[0], out[1])

    digest = run


KINDS = {"plain": Plain, "two": Two, "busy": Busy, "managed": Managed, "use": Use, "bert": Bert,
         "generate": Generate,
         "train": Train, "graphs": Graphs, "pinned": Pinned, "threads": Threads}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    target = KINDS[sys.argv[1]](*sys.argv[2:])
    say("ready")
    for line in sys.stdin:
        if line.strip() == "digest":
            say("digest", target.digest())
        elif line.strip() == "run":
            say("done", target.run())


if __name__ == "__main__":
    main()
