# SPDX-License-Identifier: MIT
"""A and D inside SciPy, PyLops, SigPy, deepinv and MRpro: each library's own checker, and one of its solvers."""

import numpy as np
import pytest

import kspike
from conftest import tolerance

MASK = kspike.radial_mask((24, 20), 7)
OPERATORS = {
    "A": lambda dtype: kspike.MaskedFourier(MASK, dtype=dtype),
    "D": lambda dtype: kspike.Gradient(MASK.shape),
}
DTYPES = ["complex64", "complex128"]


def image(seed, dtype="complex128", shape=MASK.shape):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATORS)
def test_scipy(name, dtype):
    pytest.importorskip("scipy", reason="SciPy is not installed: pip install scipy")
    from scipy.sparse.linalg import lsqr

    from kspike.interop.scipy import linear_operator

    A = OPERATORS[name](dtype)
    op = linear_operator(A, dtype=dtype)
    x, columns = image(1, dtype), image(2, dtype, (MASK.size, 3))
    assert op.dtype == dtype
    assert np.array_equal(op @ x.ravel(), A(x).ravel())
    assert np.array_equal((op @ columns)[:, 1], op @ np.ascontiguousarray(columns[:, 1]))
    y = image(3, dtype, op.shape[0])
    left, right = np.vdot(y, op @ x.ravel()), np.vdot(op.H @ y, x.ravel())
    # A sum of n products against the product of the norms.
    assert abs(left - right) <= tolerance("inner", dtype) * np.linalg.norm(y) * np.linalg.norm(x)
    found = lsqr(op, op @ x.ravel(), atol=1e-12, btol=1e-12)[0]
    # The solution of smallest norm: A*A x for A, x without its mean for D, to what LSQR stops at in this precision.
    expected = A.adjoint(A(x)) if name == "A" else x - x.mean()
    limit = 1e-3 if dtype == "complex64" else 1e-9
    assert np.linalg.norm(found - expected.ravel()) <= limit * np.linalg.norm(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATORS)
def test_pylops(name, dtype):
    pytest.importorskip("pylops", reason="PyLops is not installed: pip install pylops")
    from pylops.utils import dottest

    from kspike.interop.pylops import linear_operator

    A = OPERATORS[name](dtype)
    op = linear_operator(A, dtype=dtype)
    rtol = 1e-4 if dtype == "complex64" else 1e-10
    assert dottest(op, *op.shape, complexflag=3, rtol=rtol, raiseerror=True)
    assert dottest(op.H * op, MASK.size, MASK.size, complexflag=3, rtol=rtol, raiseerror=True)
    x = image(4, dtype)
    assert np.array_equal(op @ x, A(x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPERATORS)
def test_sigpy(name, dtype):
    sigpy = pytest.importorskip("sigpy", reason="SigPy is not installed: pip install sigpy")
    from kspike.interop.sigpy import linop

    A = OPERATORS[name](dtype)
    op = linop(A)
    x, y = image(5, dtype), image(6, dtype, op.oshape)
    assert np.array_equal(op * x, A(x))
    # SigPy has no checker: its operators promise <A x, y> = <x, A.H y> and A.H.H = A.
    left, right = np.vdot(y, op * x), np.vdot(op.H * y, x)
    assert abs(left - right) <= tolerance("inner", dtype) * np.linalg.norm(y) * np.linalg.norm(x)
    assert np.array_equal(op.H.H * x, A(x))
    # Composed with SigPy's own operators, which pass arrays that are not contiguous.
    flipped = op * sigpy.linop.Transpose(op.ishape[::-1])
    assert np.array_equal(flipped * np.ascontiguousarray(x.T), A(x))


def test_deepinv():
    pytest.importorskip("deepinv", reason="deepinv is not installed: pip install deepinv")
    import torch

    from kspike.interop.deepinv import MaskedFourierPhysics

    physics = MaskedFourierPhysics(MASK)
    x = torch.randn(3, 2, *MASK.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # deepinv's checkers: relative error of the adjoint, and the largest singular value by power iteration.
    assert abs(physics.adjointness_test(x)) < 1e-12
    assert abs(physics.compute_sqnorm(x[:1], max_iter=100, tol=1e-9) - 1) < 1e-6
    y = physics.A(x)
    assert y.shape == x.shape
    assert not y[..., ~torch.from_numpy(MASK)].any()
    torch.testing.assert_close(physics.A(physics.A_dagger(y)), y, rtol=0, atol=1e-12)
    z = physics.prox_l2(x, y * 2, 0.7)
    slope = 0.7 * physics.A_adjoint(physics.A(z) - 2 * y) + z - x
    assert slope.abs().max() < 1e-12
    (g,) = torch.autograd.grad((physics.A(x.requires_grad_()) * y).sum(), x)
    torch.testing.assert_close(g, physics.A_adjoint(y), rtol=0, atol=1e-12)


def test_mrpro():
    pytest.importorskip("mrpro", reason="MRpro is not installed: pip install mrpro")
    import torch
    from mrpro.operators import FiniteDifferenceOp

    from kspike.interop.mrpro import GradientOp, MaskedFourierOp

    generator = torch.Generator().manual_seed(0)
    for op, data in ((MaskedFourierOp(MASK), (3, int(MASK.sum()))), (GradientOp(MASK.shape), (2, 3, *MASK.shape))):
        u = torch.randn(3, *MASK.shape, dtype=torch.complex64, generator=generator)
        v = torch.randn(*data, dtype=torch.complex64, generator=generator)
        # What MRpro's own test of an operator asks: <A u, v> = <u, A* v>, shapes, and A.H.H = A, to 1e-3.
        (forward,), (adjoint,) = op(u), op.adjoint(v)
        assert forward.shape == v.shape
        assert adjoint.shape == u.shape
        torch.testing.assert_close(
            torch.vdot(v.flatten(), forward.flatten()), torch.vdot(adjoint.flatten(), u.flatten()), rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(op.H.H(u)[0], forward)
        assert (op.gram(u)[0] - op.adjoint(forward)[0]).abs().max() < 1e-5
    (theirs,) = FiniteDifferenceOp(dim=(-2, -1), mode="forward", pad_mode="circular")(u)
    torch.testing.assert_close(theirs, forward)


def test_only_our_operators_convert():
    from kspike.interop.shapes import shapes

    with pytest.raises(TypeError, match=r"expected a kspike.MaskedFourier or kspike.Gradient, got ndarray"):
        shapes(np.eye(3))
