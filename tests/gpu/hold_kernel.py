"""hold_kernel.py: what the Jupyter kernel of tests/gpu/hold kinds runs. look() is of all that
it holds on the GPU."""
import torch

torch.manual_seed(1)
x = torch.arange(1 << 26, device="cuda") % 97
y = torch.randn(4096, 4096, device="cuda") @ torch.randn(4096, 4096, device="cuda")


def look():
    return (x * x).sum().item(), y.double().sum().item()
