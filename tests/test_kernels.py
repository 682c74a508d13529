# SPDX-License-Identifier: MIT
"""The single kernels of every engine: equal to the reference in double, and obeying the laws."""

import sys

import numpy as np
import pytest

import laws
from conftest import ABSENCES, BATCHES, SHAPES, assert_close, draw, draw_field, tolerance
from kspike import _backends, reference

T, RELAX, RHO = 0.75, 1.9, 0.3

# kernel -> (what it takes, what it gives, kind of its rounding)
KERNELS = {
    "grad": ("x", "field", "stencil"),
    "grad_adjoint": ("w", "image", "stencil"),
    "clip": ("w t", "field", "exact"),
    "shrink": ("w t", "field", "stencil"),
    "support": ("w t", "bits", "exact"),
    "reflect": ("w t", "image", "stencil"),
    "reflect_tangent": ("w bits", "image", "stencil"),
    "shrink_update": ("w x t relax", "field", "stencil"),
    "shrink_update_tangent": ("w x bits relax", "field", "stencil"),
    "shrink_update_adjoint": ("w x bits relax rho", "field", "stencil"),
}


def inputs(rng, batch, shape):
    """One of everything a kernel may take."""
    return {
        "x": draw(rng, batch, *shape),
        "w": draw_field(rng, batch, shape, T),
        "bits": rng.integers(0, 16, (batch, *shape), np.uint8),
        "t": T,
        "relax": RELAX,
        "rho": RHO,
    }


def call(engine, name, *args):
    """The kernel on NumPy arrays, into an output of the right shape."""
    image = args[0].shape[:1] + args[0].shape[-2:]
    _, gives, _ = KERNELS[name]
    shape = {"field": (image[0], 2, *image[1:]), "image": image, "bits": image}[gives]
    return engine.kernel(name, *args, shape=shape, dtype=np.uint8 if gives == "bits" else None)


@pytest.mark.parametrize("name", ABSENCES)
def test_engine_is_here(name):
    if ABSENCES[name]:
        pytest.skip(f"nothing of {name} is tested: {ABSENCES[name]}")
    assert _backends.select(name).__name__.endswith(name)


def test_the_table_here_is_the_contract():
    assert set(KERNELS) == set(_backends.KERNELS)


@pytest.mark.parametrize("name", _backends.KERNELS)
def test_every_engine_has_every_kernel(engine, name):
    assert callable(getattr(engine.module, name))


@pytest.mark.parametrize("name", _backends.PLAN)
def test_every_plan_has_every_method(engine, name):
    assert callable(getattr(engine.plan(np.ones((2, 3), bool)).plan, name))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_equals_reference(engine, rng, name, shape):
    takes, _, kind = KERNELS[name]
    for batch in BATCHES:
        args = [inputs(rng, batch, shape)[key] for key in takes.split()]
        expected = getattr(reference, name)(*args)
        scale = max((np.abs(a).max() for a in args if isinstance(a, np.ndarray) and a.size), default=1)
        assert_close(call(engine, name, *args), expected, kind, engine.dtype, scale=scale)


@pytest.mark.parametrize("name", KERNELS)
def test_out_may_be_positional(engine, rng, name):
    takes, _, _ = KERNELS[name]
    args = [inputs(rng, 1, (5, 7))[key] for key in takes.split()]
    expected = call(engine, name, *args)
    out = engine.empty(expected.shape, expected.dtype)
    given = [engine.put(a) if isinstance(a, np.ndarray) else a for a in args]
    assert getattr(engine.module, name)(*given, out) is out
    np.testing.assert_array_equal(engine.get(out), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_grad_adjointness(engine, rng, shape):
    laws.adjointness(
        lambda x: call(engine, "grad", x),
        lambda d: call(engine, "grad_adjoint", d),
        draw(rng, 3, *shape),
        draw(rng, 3, 2, *shape),
        tolerance("inner", engine.dtype),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reflect_tangent_is_the_derivative_of_reflect(engine, rng, shape):
    w, dw = steps_that_cross_nothing(engine, rng, shape)
    bits = call(engine, "support", w, T)
    laws.derivative(
        lambda v: call(engine, "reflect", v, T),
        lambda v: call(engine, "reflect_tangent", v, bits),
        w,
        dw,
        tolerance("inner", engine.dtype),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shrink_update_tangent_is_the_derivative_of_shrink_update(engine, rng, shape):
    w, dw = steps_that_cross_nothing(engine, rng, shape)
    x, dx = draw(rng, 2, 3, *shape)
    bits = call(engine, "support", w, T)
    expected = call(engine, "shrink_update_tangent", dw, dx, bits, RELAX)
    change = call(engine, "shrink_update", w + dw, x + dx, T, RELAX) - call(engine, "shrink_update", w, x, T, RELAX)
    assert_close(change, expected, "inner", engine.dtype, scale=np.abs(w).max() + np.abs(x).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shrink_update_adjoint_is_the_adjoint_of_one_linearised_step(engine, rng, shape):
    """dw -> dw + relax (D dx - S dw), dx = rho D*(2 S - 1) dw: its adjoint is a step of the reverse sweep."""
    bits = rng.integers(0, 16, (3, *shape), np.uint8)

    def step(dw):
        dx = RHO * call(engine, "reflect_tangent", dw, bits)
        return call(engine, "shrink_update_tangent", dw, dx, bits, RELAX)

    def adjoint(g):
        r = RELAX * call(engine, "grad_adjoint", g)
        return call(engine, "shrink_update_adjoint", g, r, bits, RELAX, RHO)

    laws.adjointness(step, adjoint, draw(rng, 3, 2, *shape), draw(rng, 3, 2, *shape), tolerance("inner", engine.dtype))


def test_moreau(engine, rng):
    v = draw_field(rng, 3, (8, 12), T)
    laws.moreau(
        lambda v: call(engine, "shrink", v, T),
        lambda v: call(engine, "clip", v, T),
        v,
        tolerance("stencil", engine.dtype),
    )


@pytest.mark.parametrize("name", ["clip", "shrink"])
def test_nonexpansiveness(engine, rng, name):
    laws.nonexpansiveness(
        lambda v: call(engine, name, v, T), *draw(rng, 2, 3, 2, 8, 12), tolerance("inner", engine.dtype)
    )


def test_shrink_is_the_prox_of_the_separable_norm(engine, rng):
    v = draw(rng, 1, 2, 3, 3)
    p = call(engine, "shrink", v, T)
    others = [p + h * draw(rng, *v.shape) for h in (1e-3, 1e-2, 1e-1, 1) for _ in range(20)] + [v, 0 * v]
    laws.prox_optimality(
        lambda v: call(engine, "shrink", v, T),
        lambda q: T * (np.abs(q.real).sum() + np.abs(q.imag).sum()),
        v,
        others,
        tolerance("inner", engine.dtype),
    )


def test_support_is_one_bit_per_part(engine):
    """Bit 2 c + p: real, imaginary part of channel 0, then of channel 1; strictly above the threshold."""
    w = np.empty((1, 2, 1, 9), complex)
    w[0, 0, 0] = [2, 2j, 0, 0, -2, -2j, 0.75, 0.75 - 2j, 3 + 3j]
    w[0, 1, 0] = [0, 0, 2, 2j, 2, -2, -0.75, 0, -3 - 3j]
    np.testing.assert_array_equal(call(engine, "support", w, 0.75)[0, 0], [1, 2, 4, 8, 5, 6, 0, 2, 15])


@pytest.mark.parametrize("name", ["clip", "shrink"])
def test_clip_and_shrink_take_any_shape(engine, rng, name):
    v = draw(rng, 11)
    expected = getattr(reference, name)(v, T)
    assert_close(engine.kernel(name, v, T, shape=(11,)), expected, "stencil", engine.dtype)


def steps_that_cross_nothing(engine, rng, shape):
    """A field with no part near the threshold and a step that carries none over it."""
    w = draw(rng, 3, 2, *shape)
    parts = w.view(float)
    parts[np.abs(np.abs(parts) - T) < 0.1] *= 2
    dw = 0.01 * draw(rng, *w.shape)
    clear = (np.abs(np.abs(w.view(float)) - T) > np.abs(dw.view(float))).all()
    assert clear
    return w, dw.astype(np.complex64).astype(complex)


@pytest.mark.parametrize("name", ["clip", "shrink"])
def test_nan_stays_in_its_part(engine, name):
    """No threshold hides a NaN, and it does not spread."""
    v = np.array([complex(np.nan, 2), complex(-2, np.nan)])
    expected = {"clip": T, "shrink": 2 - T}[name]
    parts = engine.kernel(name, v, T, shape=(2,)).view(engine.dtype.type(0).real.dtype)
    np.testing.assert_array_equal(parts, [np.nan, expected, -expected, np.nan])


@pytest.mark.parametrize("missing", ["numba", "scipy"])
def test_an_engine_without_its_packages_is_absent(monkeypatch, missing):
    """And only then: any other failed import inside an engine is shown."""

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name == missing:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in ("kspike._backends.numba", missing):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(ImportError, match=r"'numba' is not installed: pip install 'kspike\[numba\]'"):
        _backends.select("numba")


def test_a_broken_engine_is_shown(monkeypatch):
    monkeypatch.delitem(sys.modules, "kspike._backends.numba", raising=False)
    monkeypatch.setitem(sys.modules, "concurrent.futures", None)
    with pytest.raises(ModuleNotFoundError, match="concurrent"):
        _backends.select("numba")
