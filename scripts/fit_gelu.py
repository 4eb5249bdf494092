#!/usr/bin/env python3
"""fit_gelu.py - the numbers in GELU of src/engine/cuda/kernels/activation.cuh.

GELU is x Phi(x), Phi being the normal distribution's function, and Phi = 1 / (1 + 2^-u) with
u = log2(Phi(x) / Phi(-x)). u / x is even and smooth: a polynomial of x^2 is fitted to it so
that the largest error of GELU of all x in [-4.5, 4.5], counted in steps of float16, is as
small as can be (Lawson's algorithm: least squares, weighted anew until the largest errors
are equal). Beyond, its first factor alone makes Phi 0 or 1.

    fit_gelu.py         the factors, the highest power first, and what they cost
    fit_gelu.py --file  what those in activation.cuh cost
"""
import math
import pathlib
import re
import sys

import numpy

KERNEL = pathlib.Path(__file__).parent.parent / "src/engine/cuda/kernels/activation.cuh"
DEGREE, LONGEST = 6, 4.5


def phi(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def step(value):
    """Between a number and the next in float16."""
    exponent = numpy.floor(numpy.log2(numpy.maximum(numpy.abs(value), 1e-300)))
    return 2.0 ** (numpy.maximum(exponent, -14) - 10)


def fit():
    x = numpy.linspace(1e-3, LONGEST, 4000)
    above, below = numpy.vectorize(phi)(x), numpy.vectorize(phi)(-x)
    wanted = numpy.log2(above / below) / x
    # what an error of u / x is worth in GELU of x and of -x, the same for both before rounding
    weight = x * x * above * below * math.log(2) / step(x * below)
    basis = numpy.polynomial.chebyshev.chebvander(2 * (x / LONGEST) ** 2 - 1, DEGREE)
    share, best = numpy.full(len(x), 1 / len(x)), None
    for _ in range(3000):
        scale = numpy.sqrt(share) * weight
        chebyshev = numpy.linalg.lstsq(basis * scale[:, None], wanted * scale, rcond=None)[0]
        error = numpy.abs(basis @ chebyshev - wanted) * weight
        if best is None or error.max() < best[0]:
            best = error.max(), chebyshev
        share = share * error
        share /= share.sum()
    inner = numpy.polynomial.Polynomial([-1, 2 / LONGEST ** 2])
    outer = numpy.polynomial.Polynomial(numpy.polynomial.chebyshev.cheb2poly(best[1]))
    return [float(numpy.float32(-c)) for c in outer(inner).coef[::-1]]


def factors_of_kernel():
    text = re.search(r"factors\[\] = \{(.*?)\}", KERNEL.read_text(), re.S).group(1)
    return [float(x.strip().rstrip("f")) for x in text.split(",")]


def gelu(factors, x):
    """As the kernel computes it: each operation rounded to float32."""
    f = numpy.float32
    with numpy.errstate(all="ignore"):
        x = x.astype(f)
        t = x * x
        u = numpy.full_like(x, f(factors[0]))
        for factor in factors[1:]:      # fused: rounded once
            u = (u.astype(float) * t.astype(float) + float(f(factor))).astype(f)
        return x * (f(1) / (f(1) + numpy.exp2(x * u)))


def float16_numbers():
    every = numpy.arange(65536, dtype=numpy.uint16).view(numpy.float16)
    return every[numpy.isfinite(every)].astype(float)


def cost(factors):
    """{of all float16 numbers: how many GELUs are rounded to another number than the true
    one, and the largest difference to the true one before rounding, in its steps}."""
    x = float16_numbers()
    true = numpy.array([v * phi(v) for v in x])
    ours = gelu(factors, x)
    other = ours.astype(numpy.float16) != true.astype(numpy.float16)
    return {"numbers": len(x), "rounded otherwise": int(other.sum()),
            "largest error, steps": float((numpy.abs(ours - true) / step(true)).max())}


def main():
    factors = factors_of_kernel() if sys.argv[1:] == ["--file"] else fit()
    print(", ".join(f"{c:.8g}f" for c in factors))
    print(cost(factors))


if __name__ == "__main__":
    main()
