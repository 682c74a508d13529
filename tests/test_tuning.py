# SPDX-License-Identifier: MIT
"""Choosing lam: what each criterion is, that SURE estimates what it should, and the best lam of the study."""

import warnings

import numpy as np
import pytest

import kspike
import laws
from conftest import draw, draw_image, draw_mask
from kspike import reference
from kspike.tuning import CRITERIA, _degrees, path, tune

SHAPE = (16, 16)
# Least relative error over lam, for 256 x 256 ellipses, on a grid of other points: relative noise -> lam.
BEST = {0.01: 6.4e-4, 0.02: 2.0e-3, 0.04: 5.6e-3, 0.08: 1.1e-2}


@pytest.fixture
def problem(rng):
    """A mask, two boxy images and their samples with 5 % white noise."""
    mask, x = draw_mask(rng, SHAPE), draw_image(rng, 2, SHAPE)
    y = reference.Plan(mask).forward(x)
    e = draw(rng, *y.shape)
    e *= 0.05 * np.linalg.norm(y, axis=1, keepdims=True) / np.linalg.norm(e, axis=1, keepdims=True)
    return mask, x, y + e


def test_the_path_is_a_grid_of_factor_sqrt_two():
    lams = path(0.1, below=2, above=3)
    assert lams.shape == (6,) and lams[3] == 0.1 and lams[-1] == pytest.approx(0.05)
    np.testing.assert_allclose(lams[:-1] / lams[1:], 2**0.5)


@pytest.mark.filterwarnings("ignore:the best lam")
def test_each_criterion_is_its_formula(problem):
    mask, x, y = problem
    lams = [0.02, 0.08, 0.04]
    for criterion in CRITERIA:
        found = tune(y, mask, criterion=criterion, truth=x, noise=0.05, lams=lams, tol=1e-8)
        np.testing.assert_array_equal(found.lams, [0.08, 0.04, 0.02])
        np.testing.assert_allclose(found.curve, found.values.mean(0))
        assert found.lam == found.lams[found.curve.argmin()] and found.criterion == criterion and found.pairs > 0
        for i in range(2):
            tv = kspike.TVSolver(mask, 0.04, dtype="complex128")
            info = tv.solve(y[i], 20000, 1e-9)
            misfit, size = laws.norm(tv.A(info.x) - y[i]), laws.norm(y[i])
            value = {
                "truth": laws.norm(info.x - x[i]) / laws.norm(x[i]),
                "discrepancy": abs(np.log(misfit / (0.05 * size))),
                "sure": (misfit / size) ** 2 - 0.05**2 + 0.05**2 / y.shape[1] * info.jacobian().regions,
            }[criterion]
            assert found.values[i, 1] == pytest.approx(value, rel=1e-5, abs=1e-7)


def test_the_regions_are_the_divergence(rng, problem):
    """tr A J A* = the dimension of V: Monte Carlo with 400 probes of +-1 and +-i, to four standard deviations."""
    mask, _, y = problem
    info = kspike.TVSolver(mask, 0.08, dtype="complex128").solve(y[0], 20000, 1e-10)
    J = info.jacobian()
    probes = np.sign(rng.standard_normal((400, y.shape[1]))) + 1j * np.sign(rng.standard_normal((400, y.shape[1])))
    traces = [laws.inner(b, info._solver.A(J.tangent(b))) for b in probes]
    assert abs(np.mean(traces) - J.regions) <= 4 * np.std(traces) / 20


@pytest.mark.filterwarnings("ignore:the best lam")
@pytest.mark.parametrize("norm", ["separable", "modulus", "isotropic"])
def test_sure_estimates_the_error_in_the_samples(rng, norm):
    """The mean over 40 draws of the noise, to four standard deviations of that mean."""
    mask, x = draw_mask(rng, SHAPE), draw_image(rng, 1, SHAPE)
    clean = reference.Plan(mask).forward(x)
    e = draw(rng, 40, clean.shape[1])
    eta = 0.1 * laws.norm(clean)
    e *= eta / np.sqrt(2 * clean.shape[1])
    y = clean + e
    found = tune(y, mask, criterion="sure", noise=0.1, lams=[0.1], tol=1e-4, norm=norm)
    info = kspike.TVSolver(mask, 0.1, dtype="complex128", norm=norm).solve(y, 2000, 1e-4)
    # the formula takes noise ||y|| for the size of the noise; here that is eta for ||y|| = eta / 0.1
    sizes = np.linalg.norm(y, axis=1)
    share = _degrees(info) / clean.shape[1]
    sure = found.values[:, 0] * sizes**2 + (0.1 * sizes) ** 2 * (1 - share) + eta**2 * (share - 1)
    error = np.linalg.norm(info._solver.A(info.x) - clean, axis=1) ** 2
    assert abs((sure - error).mean()) <= 4 * (sure - error).std() / np.sqrt(40)


def test_one_image_and_single_precision(problem):
    mask, x, y = problem
    y = y.astype("complex64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = tune(y[0], mask, truth=x[0], noise=0.05)
    assert found.values.shape == (1, 10) and found.lam in found.lams


@pytest.mark.filterwarnings("ignore:.* did not converge")
def test_it_says_when_the_best_is_at_an_end(problem):
    mask, x, y = problem
    with pytest.warns(UserWarning, match="at an end of the path"):
        tune(y, mask, truth=x, lams=[1e-4, 1e-3])


def test_refused(problem):
    mask, x, y = problem
    for given, error, message in (
        ({"criterion": "gcv"}, ValueError, "criterion: expected one of truth, discrepancy, sure, got 'gcv'"),
        ({}, TypeError, "truth: expected the images"),
        ({"criterion": "sure"}, TypeError, "noise: expected"),
        ({"truth": x}, TypeError, "noise: expected"),
        ({"truth": x[:, :-1], "noise": 0.1}, ValueError, r"truth: expected shape \(2, 16, 16\)"),
        ({"truth": x, "lams": []}, ValueError, "lams: expected at least one"),
        ({"truth": x, "lams": [0.1, -1]}, ValueError, "lams: expected a number"),
    ):
        with pytest.raises(error, match=message):
            tune(y, mask, **given)


@pytest.mark.slow
@pytest.mark.parametrize("noise", BEST)
def test_the_best_lam_of_the_study_within_one_step(paper, noise):
    """Two images; the grid has the study's value on it, and 10 solves cost a thousandth of 25 x 25 x 1000 pairs."""
    mask, x = paper["radial40"], paper["images"][:2]
    y = kspike.MaskedFourier(mask)(x)
    e = draw(np.random.default_rng(1), *y.shape).astype(y.dtype)
    y += e * (noise * np.linalg.norm(y, axis=1) / np.linalg.norm(e, axis=1))[:, None].astype("float32")
    found = tune(y, mask, truth=x, lams=path(BEST[noise]))
    assert abs(np.log2(found.lam / BEST[noise])) <= 0.5 + 1e-9
    assert found.pairs / len(x) <= 25 * 25 * 1000 / 25 / 10
