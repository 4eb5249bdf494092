"""GELU of the GPU's kernels in 16 bits: its factors, read from the source, against erfc."""
import pathlib
import subprocess
import sys

import numpy
import pytest

import fit_gelu


@pytest.fixture(scope="module")
def factors():
    return fit_gelu.factors_of_kernel()


def test_all_of_float16(factors):
    cost = fit_gelu.cost(factors)
    assert cost["numbers"] == 2 * 31 * 1024     # two signs, 31 exponents that are no infinity
    assert cost["rounded otherwise"] <= cost["numbers"] / 190
    assert cost["largest error, steps"] < 0.6   # never further than to a neighbour


def test_what_counts_is_seen(factors):
    """A factor that is a little off."""
    off = factors[:]
    off[-1] *= 1.001
    assert fit_gelu.cost(off)["rounded otherwise"] > 2000


def test_ends(factors):
    """Infinite, not a number, and what is large in bfloat16: as x Phi(x) has them."""
    x = numpy.array([3e38, 1e30, 100, 20, -20, -100, -1e30, -3e38, 0, numpy.inf])
    y = fit_gelu.gelu(factors, x)
    assert list(y[:4]) == [numpy.float32(v) for v in x[:4]]
    assert (numpy.abs(y[4:9]) == 0).all() and y[9] == numpy.inf
    assert numpy.isnan(fit_gelu.gelu(factors, numpy.array([numpy.nan]))).all()


def test_script():
    """What the script says to be in the file is what it fits, to a few parts in 1,000."""
    script = pathlib.Path(fit_gelu.__file__)
    said = [subprocess.run([sys.executable, script, *more], capture_output=True, text=True,
                           check=True).stdout.splitlines() for more in ([], ["--file"])]
    fitted, there = ([float(x.rstrip("f")) for x in lines[0].split(", ")] for lines in said)
    assert there == pytest.approx(fitted, rel=3e-3)
