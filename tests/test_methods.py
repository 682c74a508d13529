# SPDX-License-Identifier: MIT
"""PDHG and FISTA find what ADMM finds."""

import numpy as np
import pytest

import kspike
import laws
from conftest import draw
from kspike import reference
from kspike.methods import FISTA, PDHG
from kspike.sparse import SparseSolver, Wavelet

LAM = 0.02
CLOSE = 1e-6  # two stopping errors, both asked to be 1e-10 of the image
# With these norms of the gradient all methods crawl at the end, for the slope of shrinking is between 0 and 1: after
# 4000 iterations their images were within 3e-5 of each other, their objectives within 7e-7.
SLOW = {("gradient", "modulus"), ("gradient", "isotropic")}


@pytest.fixture
def problem(rng):
    """A function: 32 x 32, radial lines, 3 % noise, for a sparsifier -> mask, y (m,), the length of the noise."""
    pytest.importorskip("pywt")
    mask = kspike.radial_mask((32, 32), lines=14)

    def of(psi):
        c = draw(rng, 32, 32) * (rng.random((32, 32)) < 0.03)
        x = {"gradient": kspike.ellipses((32, 32), seed=0) * np.exp(0.5j), "identity": c}.get(psi)
        x = Wavelet((32, 32), psi).adjoint(c) if x is None else x
        y = reference.Plan(mask).forward(x)
        e = draw(rng, *y.shape)
        e *= 0.03 * laws.norm(y) / laws.norm(e)
        return mask, y + e, laws.norm(e)

    return of


CASES = [("gradient", norm) for norm in ("separable", "modulus", "isotropic")]
CASES += [(psi, norm) for psi in ("identity", "db2") for norm in ("separable", "modulus")]


def solve(method, mask, y, psi, norm, **options):
    most = 20000 if (psi, norm) not in SLOW else 1500 if method is FISTA else 4000
    return method(mask, psi, norm=norm, dtype="complex128", **options).solve(y, most, 1e-10)


def assert_same(info, expected, psi, norm):
    close = 1e-4 if (psi, norm) in SLOW else CLOSE
    assert np.abs(info.x - expected.x).max() <= close * np.abs(expected.x).max()
    assert info.objective == pytest.approx(expected.objective, rel=3e-6 if (psi, norm) in SLOW else CLOSE)
    assert info.residuals.primal <= close and info.residuals.dual <= close


@pytest.mark.parametrize("method", [PDHG, FISTA])
@pytest.mark.parametrize(("psi", "norm"), CASES)
def test_the_penalised_minimiser_is_that_of_admm(problem, method, psi, norm):
    mask, y, _ = problem(psi)
    expected = solve(SparseSolver, mask, y, psi, norm, lam=LAM)
    info = solve(method, mask, y, psi, norm, lam=LAM)
    assert_same(info, expected, psi, norm)
    if psi == "gradient":
        assert info.certificate.gap <= (1e-5 if (psi, norm) in SLOW else CLOSE) * info.objective


@pytest.mark.parametrize(("psi", "norm"), CASES)
def test_the_constrained_minimiser_is_that_of_admm(problem, psi, norm):
    mask, y, eta = problem(psi)
    expected = solve(SparseSolver, mask, y, psi, norm, eta=eta)
    assert_same(solve(PDHG, mask, y, psi, norm, eta=eta), expected, psi, norm)


def test_exact_recovery_by_pdhg(rng):
    x = np.zeros((1, 256), complex)
    x[0, rng.choice(256, 5, replace=False)] = draw(rng, 5)
    mask = np.zeros((1, 256), bool)
    mask[0, rng.choice(256, 100, replace=False)] = True
    rec = PDHG(mask, "identity", eta=0, norm="modulus", dtype="complex128")
    info = rec.solve(rec.A(x), 20000, 1e-9)
    assert info.converged and np.abs(info.x - x).max() <= CLOSE * np.abs(x).max()


def test_where_all_is_sampled_fista_is_one_proximal_map(rng):
    """A unitary: the first proximal step from anywhere is at the solution, up to the inner iterations."""
    mask, y = np.ones((12, 17), bool), draw(rng, 12 * 17)
    info = FISTA(mask, lam=LAM, inner=3000, dtype="complex128").solve(y, 1, 0)
    expected = kspike.TVSolver(mask, LAM, dtype="complex128").solve(y, 5000, 1e-11)
    assert np.abs(info.x - expected.x).max() <= CLOSE * np.abs(expected.x).max()


@pytest.mark.parametrize("method", [PDHG, FISTA])
def test_history_state_and_batches(problem, method):
    """The objective falls; 30 + 27 iterations are 57; a batch is its images."""
    mask, y, _ = problem("gradient")
    y = np.stack([y, 0.5 * y])
    rec = method(mask, lam=LAM, dtype="complex128")
    once = rec.solve(y, 57, 0, history=True)
    objective = once.history[0][:, 1]
    assert objective[-1] < objective[0] and objective[-1] == pytest.approx(once.objective[0])
    np.testing.assert_array_equal(once.history[0][:, 0], np.arange(1, 58))
    again = rec.solve(y, 27, 0, state=rec.solve(y, 30, 0).state)
    np.testing.assert_array_equal(again.x, once.x)
    np.testing.assert_array_equal(rec.solve(y[1], 57, 0).x, once.x[1])


def test_fista_needs_a_smooth_data_term():
    with pytest.raises(TypeError, match="eta"):
        FISTA(np.ones((4, 4), bool), eta=0.1)
