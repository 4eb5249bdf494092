"""stream.py - which GPU is meant where a machine has several.

With VACATE_GPU=0, 1, ... (NVML's number) everything that is started from here has that GPU
alone: CUDA_VISIBLE_DEVICES is its UUID, so that it is cuda:0 for programs and for torch, and
UUID says of whom readings from outside are. So parts run at once, on one GPU each. Without
it they are of the first one. To be imported before what starts CUDA.
"""
import ctypes
import os
import pathlib
import sys
import tempfile

NUMBER = os.environ.get("VACATE_GPU", "")
DRY = os.environ.get("VACATE_GPU_DRY") == "1"
# models, logs and what else a run leaves: one folder a GPU
WORK = pathlib.Path(os.environ.get("TMPDIR", tempfile.gettempdir())) / (
    "vacate-gpu" + (f"-{NUMBER}" if NUMBER.strip("0") else ""))


def uuid_of(number):
    """"": there is no NVML."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ""
    count, device, text = ctypes.c_uint(), ctypes.c_void_p(), ctypes.create_string_buffer(96)
    if nvml.nvmlInit_v2() != 0:
        return ""
    try:
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        if number >= count.value:
            print(f"skipped: VACATE_GPU={number}: GPUs here: {count.value}")
            sys.exit(77)
        if nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)) != 0 or \
                nvml.nvmlDeviceGetUUID(device, text, 96) != 0:
            sys.exit(f"VACATE_GPU={number}: NVML does not tell its UUID")
        return text.value.decode()
    finally:
        nvml.nvmlShutdown()


if NUMBER and not NUMBER.isdecimal():
    sys.exit(f"VACATE_GPU is the number of a GPU, not {NUMBER!r}")
UUID = uuid_of(int(NUMBER)) if NUMBER else ""
if UUID:
    # gpu_probe heeds the second one
    os.environ |= {"CUDA_VISIBLE_DEVICES": UUID, "VACATE_GPU_UUID": UUID}
ONLY = ["-i", UUID] if UUID else []     # for nvidia-smi
