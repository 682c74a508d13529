# SPDX-License-Identifier: MIT
"""The certificate: weak duality, recomputed by the reference; a bound for anything, tight at the solution."""

import numpy as np
import pytest

import kspike
import laws
from conftest import draw, draw_image, draw_mask, tolerance
from kspike import reference
from kspike.certificate import certify
from kspike.norms import NORMS, magnitude

LAM = 0.05
SHAPES = [(1, 1), (1, 6), (7, 1), (5, 7), (12, 17)]
ROUNDING = 1e-12  # the sums have at most a few thousand terms of the size of the objective


def A_of(mask, dtype="complex128", backend=None):
    return kspike.MaskedFourier(mask, dtype=dtype, backend=backend)


def functional(x, y, mask, norm):
    """F(x), by the reference's A and D."""
    misfit = reference.fourier(x)[..., mask] - y
    return 0.5 * laws.norm(misfit) ** 2 + LAM * magnitude(reference.grad(x), norm).sum()


def dual(p, y, mask):
    """Re <A D*p, y> - 1/2 ||A D*p||^2."""
    q = reference.fourier(reference.grad_adjoint(p))[..., mask]
    return laws.inner(q, y) - 0.5 * laws.norm(q) ** 2


@pytest.fixture(params=[True, False], ids=["zero sampled", "zero not sampled"])
def zero(request):
    return request.param


def drawn(rng, shape, zero):
    """A mask, samples of a noisy boxy image, any image and any field."""
    mask = draw_mask(rng, shape, zero or shape == (1, 1))
    y = reference.Plan(mask).forward(draw_image(rng, 1, shape))[0] + 0.1 * draw(rng, int(mask.sum()))
    return mask, y, draw(rng, *shape), LAM * draw(rng, 2, *shape)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_dual_field_is_feasible_and_proves_the_gap(rng, shape, zero, norm):
    """|p| <= lam in the dual norm, (I - A*A) D*p = 0, and gap = F(x) - dual(p), all by the reference."""
    mask, y, x, p = drawn(rng, shape, zero)
    for projections in (0, 3):
        found = certify(A_of(mask), LAM, x, y, p, norm=norm, projections=projections)
        assert magnitude(found.p, norm).max() <= LAM * (1 + 1e-15)
        outside = np.where(mask, 0, reference.fourier(reference.grad_adjoint(found.p)))
        assert np.abs(outside).max() <= tolerance("transform", "complex128") * LAM
        F = functional(x, y, mask, norm)
        assert found.objective == pytest.approx(F, rel=ROUNDING)
        assert found.gap == pytest.approx(F - dual(found.p, y, mask), rel=ROUNDING, abs=ROUNDING * F)
        assert found.samples == pytest.approx(np.sqrt(2 * found.gap)) and found.gap >= 0


@pytest.mark.parametrize("norm", NORMS)
def test_weak_duality(rng, zero, norm):
    """dual(p) <= F(x) for every feasible p and every x: the formula, its sign and its factor."""
    shape = (5, 7)
    for _ in range(20):
        mask, y, _, p = drawn(rng, shape, zero)
        feasible = certify(A_of(mask), LAM, np.zeros(shape, complex), y, 10 * p, norm=norm, projections=2).p
        for x in (*draw(rng, 5, *shape), reference.Plan(mask).adjoint(y)):
            assert dual(feasible, y, mask) <= functional(x, y, mask, norm) * (1 + ROUNDING)


def test_the_gap_bounds_the_true_gap_and_the_distance_of_the_samples(rng, zero):
    """F(x) - F(x*) <= gap and ||A (x - x*)|| <= samples along a whole solve; at its end both are next to nothing."""
    mask, y, _, _ = drawn(rng, (12, 17), zero)
    tv = kspike.TVSolver(mask, LAM, dtype="complex128", rho=0.4)
    exact = tv.solve(y, 50000, 1e-13)
    least = functional(exact.x, y, mask, "separable")
    assert exact.certificate.gap <= 1e-10 * least
    for iterations in (1, 3, 10, 30, 100, 300):
        info = tv.solve(y, iterations, 0)
        proof = info.certificate
        assert functional(info.x, y, mask, "separable") - least <= proof.gap + ROUNDING * least
        assert laws.norm(tv.A(info.x - exact.x)) <= proof.samples + 1e-9
        assert proof.relative == proof.gap / proof.objective


def test_it_is_that_of_the_final_state_in_double(engine, rng):
    """info.certificate is certify of x and rho clip(w, t), recomputed from the numbers the solve returned."""
    mask = draw_mask(rng, (12, 17))
    y = engine.put(reference.Plan(mask).forward(draw_image(rng, 3, (12, 17))))
    tv = kspike.TVSolver(mask, LAM, dtype=engine.dtype, backend=engine.name)
    info = tv.solve(y, 40, 0)
    p = tv.rho * reference.clip(engine.get(info.state.field()).astype(complex), LAM / tv.rho)
    got = info.certificate
    for i in range(3):
        args = (engine.get(info.x[i]), engine.get(y[i]), p[i].astype(engine.dtype))
        expected = certify(A_of(mask, engine.dtype, "reference"), LAM, *args)
        close = tolerance("transform", engine.dtype)  # p passes through the engine's precision here
        assert float(got.gap[i]) == pytest.approx(expected.gap, rel=1e3 * close)
        assert float(got.objective[i]) == pytest.approx(expected.objective, rel=ROUNDING)


def test_projections_tighten_it(rng):
    mask, y, _, _ = drawn(rng, (12, 17), True)
    tv = kspike.TVSolver(mask, LAM, dtype="complex128", rho=0.4)
    info = tv.solve(y, 20, 0)
    p = tv.rho * reference.clip(info.state.field()[0], LAM / tv.rho)
    gaps = [certify(tv.A, LAM, info.x, y, p, projections=n).gap for n in (0, 20, 200)]
    assert gaps[2] <= gaps[1] <= gaps[0]


def test_limits(rng):
    """All frequencies sampled leave nothing to repair; without regularisation the gap is the misfit."""
    full = np.ones((5, 7), bool)
    x, y, p = draw(rng, 5, 7), draw(rng, 35), draw(rng, 2, 5, 7)
    kept = certify(A_of(full), 100.0, x, y, p)
    np.testing.assert_array_equal(kept.p, p)
    free = certify(A_of(full), 0.0, x, y, p)
    assert free.gap == pytest.approx(0.5 * laws.norm(A_of(full)(x) - y) ** 2) and not free.p.any()
    nothing = certify(A_of(full), LAM, 0 * x, 0 * y, 0 * p)
    assert nothing.gap == 0 and nothing.relative == 0


def test_batches(rng):
    mask = draw_mask(rng, (5, 7))
    x, y, p = draw(rng, 2, 3, 5, 7), draw(rng, 2, 3, int(mask.sum())), LAM * draw(rng, 2, 3, 2, 5, 7)
    together = certify(A_of(mask), LAM, x, y, p)
    assert together.gap.shape == (2, 3) and together.relative.shape == (2, 3) and together.p.shape == (2, 3, 2, 5, 7)
    alone = certify(A_of(mask), LAM, x[1, 2], y[1, 2], p[1, 2])
    assert isinstance(alone.gap, float) and alone.gap == pytest.approx(together.gap[1, 2], rel=ROUNDING)
    assert certify(A_of(mask), LAM, x[:0], y[:0], p[:0]).gap.shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "l2"}, "norm: expected one of separable, modulus, isotropic, got 'l2'"),
        ({"p": np.zeros((2, 7, 5), complex)}, r"p: expected shape \(\.\.\., 2, 5, 7\)"),
        ({"p": np.zeros((3, 2, 5, 7), complex)}, r"p: expected shape \(2, 5, 7\), got \(3, 2, 5, 7\)"),
        ({"lam": -1}, "lam: expected"),
        ({"projections": -1}, "projections: expected"),
    ],
)
def test_refused(change, message):
    mask = np.ones((5, 7), bool)
    given = {"lam": LAM, "x": np.zeros((5, 7), complex), "y": np.zeros(35, complex), "p": np.zeros((2, 5, 7), complex)}
    with pytest.raises(ValueError, match=message):
        certify(A_of(mask), **{**given, **change})
