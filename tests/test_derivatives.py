# SPDX-License-Identifier: MIT
"""The implicit derivative: the formula by dense matrices, the limit of the unrolled one, finite differences, words."""

import numpy as np
import pytest

import kspike
import laws
from conftest import draw, draw_image, draw_mask
from kspike import reference
from kspike.derivative import METHODS, Jacobian, _regions

LAM, RHO = 0.05, 0.4
SHAPES = [(1, 1), (1, 6), (7, 1), (2, 2), (5, 7), (6, 6)]


def in_double(mask, lam=LAM, **options):
    return kspike.TVSolver(mask, lam, dtype="complex128", **{"rho": RHO, **options})


@pytest.fixture
def solved(rng):
    """A solver, samples (m,) of a boxy image, and the solution at full accuracy."""
    mask = draw_mask(rng, (12, 17))
    y = reference.Plan(mask).forward(draw_image(rng, 1, (12, 17)))[0] + 0.01 * draw(rng, int(mask.sum()))
    tv = in_double(mask)
    return tv, y, tv.solve(y, 50000, 1e-13)


def boxes(rng, shape, t):
    """A field w whose support is the border of a few boxes: parts above and below the threshold."""
    d = reference.grad(draw_image(rng, 1, shape))[0]
    parts = np.where(np.abs(d.view(float)) > 0.2, 3 * t, 0.5 * t) * np.where(d.view(float) < 0, -1, 1)
    return np.ascontiguousarray(parts).view(complex)


# --- the formula -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_regions_are_the_connected_components(rng, shape):
    for share in (0, 0.3, 0.6, 0.9, 1):
        down, right = rng.random((2, *shape)) < share
        labels, expected = _regions(down, right), np.arange(np.prod(shape)).reshape(shape)
        while True:  # every pixel takes the smallest index of its joined neighbours, until none changes
            before = expected.copy()
            for r, c in np.ndindex(*shape):
                for joined, other in ((down, ((r + 1) % shape[0], c)), (right, (r, (c + 1) % shape[1]))):
                    if joined[r, c]:
                        expected[r, c] = expected[other] = min(expected[r, c], expected[other])
            if np.array_equal(before, expected):
                break
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("zero", [True, False], ids=["zero sampled", "zero not sampled"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_minimum_over_the_images_constant_on_regions(rng, shape, zero):
    """A J g = A N (N^T A^T A N)^+ N^T g with N a basis of the kernel of the unsupported rows of D, dense."""
    mask = draw_mask(rng, shape, zero or shape == (1, 1))
    tv = in_double(mask)
    w = boxes(rng, shape, tv._t)
    A, D = laws.dense_fourier(mask), laws.dense_grad(shape)
    off = np.abs(laws.stack(w)) <= tv._t
    _, s, vt = np.linalg.svd(np.vstack([D[off], np.zeros((1, D.shape[1]))]))
    N = vt[(s > 1e-12).sum() :].T
    values, _ = np.linalg.eigh(N.T @ A.T @ A @ N)
    if (values[2 * (not zero and shape != (1, 1)) :] < 1e-3).any():  # A is not injective on V: J is not defined there
        w = np.zeros_like(w)
        N = np.kron(np.eye(2), np.ones((mask.size, 1)) / np.sqrt(mask.size))
    J = Jacobian(tv, w[None], (), tol=1e-12)
    assert J.regions == N.shape[1]
    g = draw(rng, *shape)
    expected = A @ N @ np.linalg.pinv(N.T @ A.T @ A @ N, rcond=1e-10) @ N.T @ laws.stack(g)
    assert np.linalg.norm(laws.stack(J(g)) - expected) <= 1e-9 * np.linalg.norm(laws.stack(g))


def test_it_is_symmetric_and_linear(rng, solved):
    _, _, info = solved
    J = info.jacobian(tol=1e-13)
    g, h = draw(rng, 2, 12, 17)
    assert abs(laws.inner(J.image(g), h) - laws.inner(g, J.image(h))) <= 1e-10 * laws.norm(g) * laws.norm(h)
    laws.linearity(J.image, g, h, (2.0, -3.0), 1e-10)
    dy = draw(rng, info._y.size)
    laws.adjointness(J.tangent, J, dy, g, 1e-10)


# --- against other derivatives ---------------------------------------------------------------------------------------


def test_it_is_the_limit_of_the_unrolled_derivative(rng, solved):
    """Relative error 1e-6 against the exact reverse sweep of 30000 iterations in double precision."""
    tv, y, _ = solved
    g = draw(rng, 12, 17)
    _, pullback = tv.vjp(y, iterations=30000)
    expected = pullback(g)
    x, implicit = tv.vjp(y, derivative="implicit", tol=1e-9)
    assert laws.norm(implicit(g) - expected) <= 1e-6 * laws.norm(expected)
    assert implicit.residual <= 1e-9 and isinstance(implicit.residual, float)
    assert np.abs(x - tv.solve(y, 50000, 1e-12).x).max() <= 1e-4 * np.abs(x).max()


@pytest.mark.parametrize("method", METHODS)
def test_finite_differences_in_the_data_and_in_lam(rng, solved, method):
    """x* is smooth in y and lam away from kinks: a central difference of converged solves, to what it cancels."""
    tv, y, info = solved
    J = info.jacobian(tol=1e-10, method=method, max_pairs=100000)
    h, dy = 1e-6, draw(rng, y.size)
    plus, minus = (tv.solve(y + s * h * dy, 100000, 1e-14).x for s in (1, -1))
    assert laws.norm((plus - minus) / (2 * h) - J.tangent(dy)) <= 1e-5 * laws.norm(J.tangent(dy))
    plus, minus = (in_double(tv.A.mask, LAM + s * h).solve(y, 100000, 1e-14).x for s in (1, -1))
    assert laws.norm((plus - minus) / (2 * h) - J.lam()) <= 1e-5 * laws.norm(J.lam())


def test_fourteen_pairs_give_the_direction():
    """128 x 128, 20 lines, 2 %: cosine at least 0.99 with the exact derivative after 14 pairs, checks included."""
    mask = kspike.radial_mask((128, 128), 20)
    tv = kspike.TVSolver(mask, 2e-3 / 2**0.5, dtype="complex128")
    y = tv.A(kspike.ellipses((128, 128), seed=3).astype(complex))
    y += kspike.spike(tv.A, (56, 56), 0.02 * np.linalg.norm(y))
    info = tv.solve(y, 20000, 1e-8)
    g = np.zeros((128, 128), complex)
    g[52:61, 52:61] = info.x[52:61, 52:61]
    exact = info.jacobian(tol=1e-10)(g)
    J = info.jacobian(max_pairs=14)
    with pytest.warns(UserWarning, match="the implicit derivative reached") as caught:
        short = J(g)
    assert caught[0].filename == __file__
    assert J.pairs <= 14
    assert laws.inner(short, exact) >= 0.99 * laws.norm(short) * laws.norm(exact)


# --- precision, batches, warm starts, words --------------------------------------------------------------------------


def test_every_engine_finds_it(engine, rng, solved):
    """In complex64 the residual reaches 1e-6 and the gradient is that of double precision to 1e-5, on one support."""
    tv, _, info = solved
    single = kspike.TVSolver(tv.A.mask, LAM, rho=RHO, dtype=engine.dtype, backend=engine.name)
    g = draw(rng, 12, 17)
    J = Jacobian(single, engine.put(info.state.field()), (), tol=2e-6)
    assert laws.norm(engine.get(J(engine.put(g))) - info.jacobian(tol=1e-10)(g)) <= 1e-5 * laws.norm(g)


def test_a_batch_is_its_images(rng, solved):
    tv, y, _ = solved
    y = np.stack([y, 1.1 * y, y + 0.1 * draw(rng, y.size)])[None]
    info = tv.solve(y, 20000, 1e-10)
    J, g = info.jacobian(), draw(rng, 1, 3, 12, 17)
    together, lam = J(g), J.lam()
    assert J.regions.shape == J.residual.shape == J.pairs.shape == (1, 3)
    for i in range(3):
        alone = tv.solve(y[0, i], 20000, 1e-10).jacobian()
        np.testing.assert_array_equal(alone(g[0, i]), together[0, i])
        np.testing.assert_array_equal(alone.lam(), lam[0, i])
    assert info.jacobian()(0 * g).any() == np.False_
    assert tv.solve(y[:0]).jacobian()(g[:0]).shape == (0, 3, y.shape[-1])


@pytest.mark.parametrize("method", METHODS)
def test_a_warm_start_saves_pairs(rng, solved, method):
    """Nearly the same question, asked of the same Jacobian or of that of nearby data, costs less."""
    tv, y, info = solved
    g = draw(rng, 12, 17)
    first = info.jacobian(tol=1e-6, method=method, max_pairs=100000, warm=True)
    first(g)
    cold = first.pairs
    near = tv.solve(y * (1 + 1e-9), 50000, 1e-13, state=info.state).jacobian(
        tol=1e-6, method=method, max_pairs=100000, warm=first
    )
    near(g + 1e-6 * draw(rng, 12, 17))
    assert near.pairs < cold / 2
    first(g)
    assert first.pairs - cold < cold / 2


def test_a_flat_solution_moves_with_its_mean_alone():
    """No jump: one region in each part, whose value follows the zero frequency; nothing depends on lam."""
    mask = np.ones((4, 6), bool)
    tv = in_double(mask, lam=1e3, rho=1.0)
    info = tv.solve(np.arange(24) + 1j, 5000, 1e-12)
    J = info.jacobian()
    assert J.regions == 2
    g = np.zeros((4, 6), complex)
    g[0, 0] = 24
    np.testing.assert_allclose(J.image(g), np.ones((4, 6)), atol=1e-12)
    assert np.abs(J.lam()).max() <= 1e-12


def test_it_says_what_it_wants(solved):
    tv, y, info = solved
    g = np.zeros((12, 17), complex)
    for call, error, message in (
        (lambda: info.jacobian(method="newton"), ValueError, "method: expected one of cg, fixed-point, got 'newton'"),
        (lambda: info.jacobian(tol=0), ValueError, "tol: expected"),
        (lambda: info.jacobian(max_pairs=0), ValueError, "max_pairs: expected"),
        (lambda: info.jacobian()(g[:-1]), ValueError, "g: expected shape"),
        (lambda: info.jacobian().tangent(y[:-1]), ValueError, "y: expected shape"),
        (lambda: info.jacobian(warm=info.jacobian(method="fixed-point")), ValueError, "warm: expected a Jacobian"),
        (lambda: tv.vjp(y, derivative="exact"), ValueError, "derivative: expected one of unrolled, implicit"),
        (lambda: tv.vjp(y, derivative="implicit", iterations=3), TypeError, "iterations: expected none"),
    ):
        with pytest.raises(error, match=message):
            call()
