#!/usr/bin/env python3
"""peer_load.py FILE - how long safetensors takes to bring a file to the GPU with torch."""
import os
import sys
import time

import torch
from safetensors.torch import load_file

torch.zeros(1, device="cuda")
torch.cuda.synchronize()
size = os.path.getsize(sys.argv[1])
times = []
for _ in range(2):
    start = time.perf_counter()
    tensors = load_file(sys.argv[1], device="cuda")
    torch.cuda.synchronize()
    times.append(time.perf_counter() - start)
    del tensors
    torch.cuda.empty_cache()
print(f"safetensors {torch.__version__}: {size / min(times) / 1e9:.1f} GB/s to float32 on the GPU, "
      f"page cache warm ({', '.join(f'{t * 1e3:.0f}' for t in times)} ms)")
