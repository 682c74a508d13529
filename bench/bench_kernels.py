# SPDX-License-Identifier: MIT
"""Each kernel of the contract and each transform, by every engine and by NumPy or SciPy: complex64, one thread."""

import functools

import numpy as np
import pytest

import kspike
from baselines import missing, relative
from kspike import _backends, kernels, reference

T, RELAX, RHO = 0.5, 1.9, 0.3
TAKES = {
    "grad": "x",
    "grad_adjoint": "w",
    "clip": "w t",
    "shrink": "w t",
    "support": "w t",
    "reflect": "w t",
    "reflect_tangent": "w bits",
    "shrink_update": "w x t relax",
    "shrink_update_tangent": "w x bits relax",
    "shrink_update_adjoint": "w x bits relax rho",
}
ENGINES = ("cpp", "numba")
NEEDS = {"cpp": "kspike._core", "numba": "numba", "numpy": "numpy", "scipy": "scipy"}


@pytest.fixture
def by(request):
    """The name of who computes; skipped, with the reason, where that is not installed."""
    why = missing(NEEDS[request.param])
    if why:
        pytest.skip(f"{request.param}: {why}")
    return request.param


@functools.cache
def inputs(n):
    """One of everything a kernel may take."""
    rng = np.random.default_rng(n)

    def draw(*shape):
        return (rng.standard_normal((*shape, 2)) @ (1, 1j)).astype("complex64")

    bits = rng.integers(0, 16, (n, n), np.uint8)
    return {"x": draw(n, n), "w": draw(2, n, n), "bits": bits, "t": T, "relax": RELAX, "rho": RHO}


def doubled(argument):
    """A complex array in double precision."""
    return argument.astype(complex) if getattr(argument, "dtype", None) == np.complex64 else argument


@pytest.mark.parametrize("by", [*ENGINES, "numpy"], indirect=True)
@pytest.mark.parametrize("name", TAKES)
def bench_kernel(benchmark, name, n, by):
    """A kernel into a given output; NumPy is the specification itself, in single precision."""
    benchmark.group = f"{name} {n}"
    arguments = [inputs(n)[key] for key in TAKES[name].split()]
    if by == "numpy":
        function = getattr(reference, name)
    else:
        function = functools.partial(getattr(kernels, name), backend=by)
    expected = getattr(reference, name)(*map(doubled, arguments))
    out = np.empty(expected.shape, "uint8" if expected.dtype == np.uint8 else "complex64")
    benchmark(function, *arguments, out=out)
    assert relative(out.astype(expected.dtype), expected) < 1e-5


def test_every_kernel_has_its_bench():
    """The table here is the contract."""
    assert tuple(TAKES) == _backends.KERNELS


def scipy_transforms(mask, rho):
    """A, A* and the resolvent in SciPy; only the resolvent needs no shift."""
    from scipy import fft

    options = {"norm": "ortho", "workers": 1}
    inverse = np.fft.ifftshift(1 / (mask + rho * reference.symbol(mask.shape))).astype("float32")

    def forward(x, out):
        out[...] = np.fft.fftshift(fft.fft2(np.fft.ifftshift(x), **options))[mask]

    def adjoint(y, out):
        k = np.zeros(mask.shape, y.dtype)
        k[mask] = y
        out[...] = np.fft.fftshift(fft.ifft2(np.fft.ifftshift(k), overwrite_x=True, **options))

    def resolvent(b, out):
        out[...] = fft.ifft2(fft.fft2(b, **options) * inverse, overwrite_x=True, **options)

    return forward, adjoint, resolvent


@pytest.mark.parametrize("by", [*ENGINES, "scipy"], indirect=True)
@pytest.mark.parametrize("name", ["forward", "adjoint", "resolvent"])
def bench_transform(benchmark, name, n, by):
    """A, A* and (A*A + rho D*D)^-1 with their plan made before, into a given output."""
    benchmark.group = f"{name} {n}"
    mask = kspike.radial_mask((n, n), lines=min(40, n // 2))
    exact = reference.Plan(mask)
    x = inputs(n)["x"]
    given = exact.forward(x).astype("complex64") if name == "adjoint" else x
    extra = (RHO,) if name == "resolvent" else ()
    expected = getattr(exact, name)(given.astype(complex), *extra)
    out = np.empty(expected.shape, "complex64")
    if by == "scipy":
        function = scipy_transforms(mask, RHO)[("forward", "adjoint", "resolvent").index(name)]
        benchmark(function, given, out)
    else:
        plan = _backends.select(by).Plan(mask, "complex64", 1)
        benchmark(getattr(plan, name), given[None], *extra, out=out[None])
    assert relative(out, expected) < 1e-5
