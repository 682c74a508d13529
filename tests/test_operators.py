# SPDX-License-Identifier: MIT
"""A and D as users meet them: conventions against the definition, laws, real images, and what is refused."""

import numpy as np
import pytest

import kspike
import laws
from conftest import SHAPES, assert_close, draw, draw_mask, tolerance


def operators(engine, mask):
    A = kspike.MaskedFourier(mask, dtype=engine.dtype, backend=engine.name)
    return A, kspike.Gradient(mask.shape, backend=engine.name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fourier_is_the_centred_orthonormal_transform(engine, rng, shape):
    mask = draw_mask(rng, shape)
    A, _ = operators(engine, mask)
    x = draw(rng, *shape)
    expected = laws.unstack(laws.dense_fourier(mask) @ laws.stack(x), (A.samples,))
    assert_close(engine.get(A(engine.put(x))), expected, "inner", engine.dtype, scale=laws.norm(x))


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no long double beyond double here")
def test_the_centring_is_exact(engine):
    """The samples of a pixel of 4 x 4 are 1, i, -1 or -i over 4, nearer than a double can say of half a turn by pi."""
    pixel = np.zeros((4, 4), engine.dtype)
    pixel[1, 2] = 1
    A, _ = operators(engine, np.ones((4, 4), bool))
    signal = kspike.MaskedFourier(np.ones(4, bool), dtype=engine.dtype)
    for found in (engine.get(A(engine.put(pixel))), signal(pixel[1])):
        assert np.abs(found.real * found.imag).max() < 1e-19


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_forward_and_periodic(engine, rng, shape):
    _, D = operators(engine, np.ones(shape, bool))
    x = draw(rng, *shape)
    expected = laws.unstack(laws.dense_grad(shape) @ laws.stack(x), (2, *shape))
    assert_close(engine.get(D(engine.put(x))), expected, "stencil", engine.dtype)


@pytest.mark.parametrize("lead", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_adjointness(engine, rng, shape, lead):
    A, D = operators(engine, draw_mask(rng, shape))
    x, tol = draw(rng, *lead, *shape), tolerance("inner", engine.dtype)

    def of(f):
        return lambda a: engine.get(f(engine.put(a)))

    laws.adjointness(of(A), of(A.adjoint), x, draw(rng, *lead, A.samples), tol)
    laws.adjointness(of(D), of(D.adjoint), x, draw(rng, *lead, 2, *shape), tol)


def test_zero_filling_is_an_isometry_and_the_pseudo_inverse(engine, rng):
    A, _ = operators(engine, draw_mask(rng, (17, 31)))
    y, tol = draw(rng, 3, A.samples), tolerance("transform", engine.dtype)
    laws.isometry(lambda v: engine.get(A.adjoint(engine.put(v))), y, tol)
    laws.inverse(lambda v: engine.get(A.adjoint(engine.put(v))), lambda v: engine.get(A(engine.put(v))), y, tol)


def test_gradient_of_a_constant_is_zero(engine):
    _, D = operators(engine, np.ones((7, 5), bool))
    assert not engine.get(D(engine.put(np.full((7, 5), 3 - 2j)))).any()


def test_gradient_at_the_border_wraps_around():
    """On the last row and column the neighbour is the first one."""
    x = np.zeros((3, 4), "complex64")
    x[0, 0] = 1
    d = kspike.Gradient((3, 4), backend="reference")(x)
    assert d[0, -1, 0] == 1 and d[1, 0, -1] == 1 and d[0, 0, 0] == d[1, 0, 0] == -1
    assert np.abs(d).sum() == 4


def test_the_samples_of_a_spike_have_equal_moduli(engine):
    """|A delta| = 1 / sqrt(rows cols) at every frequency, real positive where the spike is at the origin."""
    mask = np.ones((6, 9), bool)
    A, _ = operators(engine, mask)
    delta = np.zeros((6, 9), complex)
    delta[3, 4] = 1
    assert_close(engine.get(A(engine.put(delta))), np.full(54, 54**-0.5 + 0j), "transform", engine.dtype)


def test_a_real_image_of_the_same_precision_is_embedded(engine, rng):
    A, D = operators(engine, draw_mask(rng, (8, 12)))
    x = engine.put(draw(rng, 8, 12))
    real, embedded = x.real.copy(), x.real.astype(engine.dtype)
    np.testing.assert_array_equal(engine.get(A(real)), engine.get(A(embedded)))
    np.testing.assert_array_equal(engine.get(D(real)), engine.get(D(embedded)))


def test_out_is_written_and_returned(engine, rng):
    A, D = operators(engine, draw_mask(rng, (8, 12)))
    x, y, d = (engine.put(draw(rng, *s)) for s in ((3, 8, 12), (3, A.samples), (3, 2, 8, 12)))
    for f, given, shape in ((A, x, y.shape), (A.adjoint, y, x.shape), (D, x, d.shape), (D.adjoint, d, x.shape)):
        out = engine.empty(shape)
        assert f(given, out=out) is out
        np.testing.assert_array_equal(engine.get(out), engine.get(f(given)))


def test_the_plan_keeps_its_own_mask(rng):
    mask, x = draw_mask(rng, (8, 12)), draw(rng, 8, 12).astype("complex64")
    A = kspike.MaskedFourier(mask, backend="reference")
    before = A(x)
    mask[:] = True
    np.testing.assert_array_equal(A(x), before)


def test_repr_says_what_it_is():
    A = kspike.MaskedFourier(np.ones((4, 6), bool), backend="reference")
    assert repr(A) == "MaskedFourier((4, 6), samples=24, dtype=complex64, backend=reference)"
    assert repr(kspike.Gradient((4, 6), backend="reference")) == "Gradient((4, 6), backend=reference)"


MASK = np.ones((4, 6), bool)
A64 = kspike.MaskedFourier(MASK, backend="reference")
D = kspike.Gradient((4, 6), backend="reference")

REFUSED = {
    "double for single": (lambda: A64(np.zeros((4, 6))), TypeError, r"expected complex64, got float64: type x.astype"),
    "complex128": (lambda: A64(np.zeros((4, 6), complex)), TypeError, r"got complex128: type x.astype\('complex64'\)"),
    "another image": (
        lambda: A64(np.zeros((6, 4), "f4")),
        ValueError,
        r"expected shape \(\.\.\., 4, 6\), got \(6, 4\)",
    ),
    "real samples": (lambda: A64.adjoint(np.zeros(24, "f4")), TypeError, r"y: expected complex64, got float32"),
    "too few samples": (lambda: A64.adjoint(np.zeros(23, "c8")), ValueError, r"y: expected shape \(\.\.\., 24\)"),
    "strided": (lambda: A64(np.zeros((4, 12), "c8")[:, ::2]), ValueError, "np.ascontiguousarray"),
    "another gradient": (
        lambda: D(np.zeros((4, 5), "c8")),
        ValueError,
        r"expected shape \(\.\.\., 4, 6\), got \(4, 5\)",
    ),
    "another field": (lambda: D.adjoint(np.zeros((4, 6), "c8")), ValueError, r"expected shape \(\.\.\., 2, 4, 6\)"),
    "a shape of three": (lambda: kspike.Gradient((4, 4, 4)), ValueError, r"shape: expected \(rows, cols\)"),
    "a shape of none": (lambda: kspike.Gradient(4), ValueError, r"shape: expected \(rows, cols\)"),
    "half precision": (lambda: kspike.MaskedFourier(MASK, dtype="f2"), ValueError, "dtype: expected 'complex64' or"),
    "no precision": (lambda: kspike.MaskedFourier(MASK, dtype="single!"), ValueError, "dtype: expected 'complex64' or"),
    "no threads": (
        lambda: kspike.MaskedFourier(MASK, threads=0),
        ValueError,
        "threads: expected an integer of at least 1",
    ),
    "a mask of three": (
        lambda: kspike.MaskedFourier(MASK[None]),
        ValueError,
        r"mask: expected shape \(rows, cols\) or \(n,\), got \(1, 4, 6\)",
    ),
    "a list": (lambda: kspike.MaskedFourier([[True]]), TypeError, "mask: expected a NumPy bool array, got list"),
    "empty": (lambda: kspike.MaskedFourier(~MASK), ValueError, "mask: expected at least one sample"),
    "unknown": (lambda: kspike.MaskedFourier(MASK, backend="fftw"), ValueError, "unknown backend 'fftw'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(what):
    call, error, message = REFUSED[what]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 8, 30])
def test_a_signal_is_an_image_of_one_row(rng, dtype, n):
    """(n,) by NumPy against (1, n) by the reference; the laws, batches, real signals and `out`."""
    mask = draw_mask(rng, (1, n))
    A, D = kspike.MaskedFourier(mask[0], dtype=dtype), kspike.Gradient((n,))
    row = kspike.MaskedFourier(mask, dtype="complex128", backend="reference")
    x, y = draw(rng, 2, 3, n).astype(dtype), draw(rng, 2, 3, A.samples).astype(dtype)
    assert A.shape == D.shape == (n,) and A.backend == D.backend == "numpy" and A(x).dtype == dtype
    assert_close(A(x), row(x[..., None, :].astype(complex)), "transform", dtype)
    assert_close(A.adjoint(y), row.adjoint(y.astype(complex))[..., 0, :], "transform", dtype)
    laws.adjointness(A, A.adjoint, x, y, tolerance("inner", dtype))
    laws.adjointness(D, D.adjoint, x, x[::-1].copy(), tolerance("inner", dtype))
    assert_close(D(x), np.roll(x, -1, -1) - x, "stencil", dtype)
    out = np.empty_like(y)
    assert A(x.real.copy(), out=out) is out and D(x, out=np.empty_like(x)).shape == x.shape
    for f in (D, D.adjoint):
        with pytest.raises(ValueError, match="out: expected memory of its own"):
            f(x, out=x)


def test_a_spike_in_a_signal(rng):
    """e = eta A delta / ||A delta||, and alpha = ||delta|| / ||A* e|| is n / m: section 5 of the paper."""
    A = kspike.MaskedFourier(draw_mask(rng, (1, 64))[0], dtype="complex128")
    e = kspike.spike(A, (5,), 2.0)
    delta = (np.arange(64) == 5).astype(complex)
    np.testing.assert_allclose(e, 2 * A(delta) / laws.norm(A(delta)))
    assert np.abs(A.adjoint(A(delta))).max() == pytest.approx(A.samples / 64)
    box = kspike.rectangle(A, (60,), (4,), 1.0)
    np.testing.assert_allclose(box, A(np.repeat([0, 1.0], [60, 4])) / laws.norm(A(np.repeat([0, 1.0], [60, 4]))))
    for call in (lambda: kspike.spike(A, (64,), 1.0), lambda: kspike.spike(A, (1, 1), 1.0)):
        with pytest.raises(ValueError, match=r"location: expected \(index,\) inside a signal \(64,\)"):
            call()
    with pytest.raises(ValueError, match="size: expected a rectangle inside"):
        kspike.rectangle(A, (60,), (5,), 1.0)


def test_a_signal_where_an_image_is_expected():
    with pytest.raises(ValueError, match=r"mask: expected shape \(rows, cols\), got \(6,\)"):
        kspike.TVSolver(np.ones(6, bool), 0.1)
