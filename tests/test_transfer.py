# SPDX-License-Identifier: MIT
"""The matrix of artifacts: what it holds for linear reconstructions, for TV, and what it refuses."""

import numpy as np
import pytest

import kspike
from conftest import draw

SHAPE = (32, 40)


@pytest.fixture
def tv():
    return kspike.TVSolver(kspike.radial_mask(SHAPE, 10), 4e-3, dtype="complex128")


class Linear:
    """rec = c A*, by vjp alone."""

    def __init__(self, A, c):
        self._A, self._c = A, c

    def vjp(self, y):
        return self._c * self._A.adjoint(y), None


def test_linear_reconstructions_give_their_factors(tv, rng):
    """c A* amplifies every e by c, in the maximum and in l2, as A* is an isometry."""
    es = [draw(rng, tv.samples) for _ in range(3)]
    found = kspike.transfer([Linear(tv.A, c) for c in (1, 2.5)], es, draw(rng, tv.samples), A=tv.A)
    expected = np.repeat([[1.0], [2.5]], 3, axis=1)
    np.testing.assert_allclose(found.amplifications, expected, rtol=1e-12)
    np.testing.assert_allclose(found.lipschitz, expected, rtol=1e-12)
    assert found.artifacts.shape == (2, 3, *SHAPE)


def test_an_attack_on_tv_harms_tv_alone(tv):
    """Zero-filling shows the image perturbation and no more; another lam shows the artifact as well."""
    y = tv.A(kspike.ellipses(SHAPE, seed=3).astype(float))
    found = kspike.attack(tv, y, noise=0.04, grid=(1, 2))
    other = kspike.TVSolver(tv.A.mask, 6e-3, dtype="complex128")
    spike = kspike.spike(tv.A, found.location, found.eta)
    matrix = kspike.transfer([tv, other, tv.A.adjoint], [found, spike], y)
    assert matrix.artifact_maxima[0, 0] == pytest.approx(found.artifact_max, rel=0.05)
    assert (matrix.amplifications[:2, 0] > 2).all()
    np.testing.assert_allclose(matrix.amplifications[2], 1, rtol=1e-12)


def test_refused_in_one_line(tv, rng):
    y = draw(rng, tv.samples)
    with pytest.raises(ValueError, match=r"perturbations\[1\]: expected shape"):
        kspike.transfer([tv], [y, y[1:]], y)
    with pytest.raises(ValueError, match=r"perturbations\[0\]: expected one that is not zero"):
        kspike.transfer([tv], [0 * y], y)
    with pytest.raises(ValueError, match="expected recs and perturbations, got 0 and 1"):
        kspike.transfer([], [y], y)
    with pytest.raises(TypeError, match="give the measurement operator"):
        kspike.transfer([np.abs], [y], y)
