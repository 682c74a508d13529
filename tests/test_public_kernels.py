# SPDX-License-Identifier: MIT
"""`kspike.kernels`: every kernel, batched over any leading dimensions, and what is refused at the door."""

import numpy as np
import pytest

import kspike
from conftest import assert_close, draw, draw_field, draw_mask
from kspike import _backends, kernels, reference

SHAPE, T, RELAX, RHO = (5, 7), 0.75, 1.9, 0.3
LEADS = [(), (0,), (3,), (2, 3)]

# kernel -> (what it takes, kind of its rounding)
TAKES = {
    "grad": ("x", "stencil"),
    "grad_adjoint": ("w", "stencil"),
    "clip": ("w t", "exact"),
    "shrink": ("w t", "stencil"),
    "support": ("w t", "exact"),
    "reflect": ("w t", "stencil"),
    "reflect_tangent": ("w bits", "stencil"),
    "shrink_update": ("w x t relax", "stencil"),
    "shrink_update_tangent": ("w x bits relax", "stencil"),
    "shrink_update_adjoint": ("w x bits relax rho", "stencil"),
}
TRANSFORMS = ("masked_fourier", "masked_fourier_adjoint", "resolvent")


def arguments(rng, lead, name):
    """What the kernel takes, in double, with the leading dimensions given."""
    count = int(np.prod(lead))
    given = {
        "x": draw(rng, *lead, *SHAPE),
        "w": draw_field(rng, count, SHAPE, T).reshape(*lead, 2, *SHAPE),
        "bits": rng.integers(0, 16, (*lead, *SHAPE), np.uint8),
        "t": T,
        "relax": RELAX,
        "rho": RHO,
    }
    return [given[key] for key in TAKES[name][0].split()]


def put(engine, args):
    return [engine.put(a) if isinstance(a, np.ndarray) else a for a in args]


def test_every_kernel_of_the_contract_is_public():
    assert set(kernels.__all__) == set(_backends.KERNELS) | set(TRANSFORMS)
    assert set(TAKES) == set(_backends.KERNELS)


@pytest.mark.parametrize("lead", LEADS, ids=str)
@pytest.mark.parametrize("name", TAKES)
def test_equals_reference_for_any_leading_dimensions(engine, rng, name, lead):
    args = arguments(rng, lead, name)
    expected = getattr(reference, name)(*args)
    scale = max((np.abs(a).max() for a in args if isinstance(a, np.ndarray) and a.size), default=1)
    kernel = getattr(kernels, name)
    result = kernel(*put(engine, args), backend=engine.name)
    assert result.dtype == (np.uint8 if name == "support" else engine.dtype)
    assert_close(engine.get(result), expected, TAKES[name][1], engine.dtype, scale=scale)
    out = engine.empty(expected.shape, result.dtype)
    assert kernel(*put(engine, args), out=out, backend=engine.name) is out
    np.testing.assert_array_equal(engine.get(out), engine.get(result))


@pytest.mark.parametrize("lead", LEADS, ids=str)
def test_transforms_equal_reference(engine, rng, lead):
    mask = draw_mask(rng, SHAPE)
    plan = reference.Plan(mask)
    x, y = draw(rng, *lead, *SHAPE), draw(rng, *lead, int(mask.sum()))
    for kernel, given, expected, kind in (
        (kernels.masked_fourier, (x, mask), plan.forward(x), "transform"),
        (kernels.masked_fourier_adjoint, (y, mask), plan.adjoint(y), "transform"),
        (kernels.resolvent, (x, mask, RHO), plan.resolvent(x, RHO), "resolvent"),
    ):
        array, *rest = given
        result = kernel(engine.put(array), *rest, backend=engine.name)
        assert_close(engine.get(result), expected, kind, engine.dtype)
        out = engine.empty(expected.shape)
        assert kernel(engine.put(array), *rest, out=out, backend=engine.name) is out
        np.testing.assert_array_equal(engine.get(out), engine.get(result))


def test_a_changed_mask_is_another_mask(rng):
    """The plans kept for the transforms belong to the contents of the mask, not to the array."""
    mask, x = draw_mask(rng, SHAPE), draw(rng, *SHAPE)
    before = kernels.masked_fourier(x, mask, backend="reference")
    mask[:] = True
    after = kernels.masked_fourier(x, mask, backend="reference")
    assert_close(after, reference.Plan(mask).forward(x), "transform", "complex128")
    assert after.shape != before.shape


def test_the_engine_follows_the_environment(monkeypatch, rng):
    monkeypatch.setenv("KSPIKE_BACKEND", "reference")
    assert kspike.MaskedFourier(np.ones(SHAPE, bool)).backend == "reference"
    x = draw(rng, *SHAPE)
    np.testing.assert_array_equal(kernels.grad(x), reference.grad(x))


X = np.zeros((4, 6), "complex64")
W = np.zeros((2, 4, 6), "complex64")
BITS = np.zeros((4, 6), np.uint8)
MASK = np.ones((4, 6), bool)


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


REFUSED = {
    "a list": (lambda: kernels.grad([[1]]), TypeError, "expected a NumPy or CuPy array, got list"),
    "float32": (lambda: kernels.grad(X.real.copy()), TypeError, r"got float32: type x.astype\('complex64'\)"),
    "float64": (lambda: kernels.grad(X.real.astype(float)), TypeError, r"got float64: type x.astype\('complex128'\)"),
    "integers": (
        lambda: kernels.grad(np.zeros((4, 6), int)),
        TypeError,
        "expected complex64 or complex128, got int64$",
    ),
    "one dimension": (lambda: kernels.grad(X[0]), ValueError, r"expected shape \(\.\.\., rows, cols\), got \(6,\)"),
    "no pixels": (lambda: kernels.grad(X[:0]), ValueError, r"got \(0, 6\)"),
    "an image for a field": (lambda: kernels.clip(X, 1.0), ValueError, r"expected shape \(\.\.\., 2, rows, cols\)"),
    "strided": (lambda: kernels.grad(X[:, ::2]), ValueError, r"C-contiguous.*np.ascontiguousarray\(x\)"),
    "transposed": (lambda: kernels.grad(X.T), ValueError, "C-contiguous"),
    "two dtypes": (lambda: kernels.shrink_update(W, X.astype(complex), 1.0, 1.0), TypeError, "x: expected complex64"),
    "two sizes": (lambda: kernels.shrink_update(W, X[:2], 1.0, 1.0), ValueError, r"x: expected shape \(4, 6\)"),
    "two batches": (lambda: kernels.shrink_update(W[None], X, 1.0, 1.0), ValueError, r"expected shape \(1, 4, 6\)"),
    "bits of another type": (lambda: kernels.reflect_tangent(W, BITS.astype(int)), TypeError, "bits: expected uint8"),
    "out of another dtype": (lambda: kernels.grad(X, W.astype(complex)), TypeError, "out: expected complex64"),
    "out of another shape": (lambda: kernels.grad(X, X), ValueError, r"out: expected shape \(2, 4, 6\), got \(4, 6\)"),
    "out strided": (
        lambda: kernels.clip(W, 1.0, np.zeros((2, 4, 12), "complex64")[..., ::2]),
        ValueError,
        "contiguous",
    ),
    "out read-only": (lambda: kernels.grad(X, read_only(W)), ValueError, "writeable"),
    "out overlapping": (lambda: kernels.clip(W, 1.0, W), ValueError, "overlaps"),
    "t negative": (lambda: kernels.clip(W, -1.0), ValueError, r"t: expected a number in \[0, inf\), got -1.0"),
    "t NaN": (lambda: kernels.clip(W, float("nan")), ValueError, "t: expected"),
    "rho zero": (lambda: kernels.resolvent(X, MASK, 0), ValueError, r"rho: expected a number in \(0, inf\), got 0"),
    "mask of numbers": (
        lambda: kernels.masked_fourier(X, MASK.astype(int)),
        TypeError,
        "mask: .*bool array, got int64",
    ),
    "mask empty": (lambda: kernels.masked_fourier(X, ~MASK), ValueError, "at least one sample"),
    "mask of another size": (
        lambda: kernels.masked_fourier(X, MASK[1:]),
        ValueError,
        r"x: expected shape \(\.\.\., 3, 6\)",
    ),
    "samples of another size": (
        lambda: kernels.masked_fourier_adjoint(X[0], MASK),
        ValueError,
        r"expected .*\.\.\., 24\)",
    ),
    "an unknown engine": (lambda: kernels.grad(X, backend="mkl"), ValueError, "unknown backend 'mkl': expected one of"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(what):
    call, error, message = REFUSED[what]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
