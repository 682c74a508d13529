# SPDX-License-Identifier: MIT
"""The attack: its budget, its optimum where that is known, its strength, its independence of batches, its refusals."""

import math

import numpy as np
import pytest

import kspike
import laws
from conftest import draw_mask, tolerance
from kspike import metrics, reference
from kspike.attack import STARTS
from kspike.objectives import regions

SHAPE, GRID = (32, 40), (2, 3)


@pytest.fixture
def problem():
    """A reconstruction and the samples of an ellipse image, small but with something to attack."""
    mask = kspike.radial_mask(SHAPE, lines=10)
    tv = kspike.TVSolver(mask, 4e-3, dtype="complex128")
    return tv, tv.A(kspike.ellipses(SHAPE, seed=3).astype(float))


class Plain:
    """A user's reconstruction: vjp, and nothing else."""

    def __init__(self, function):
        self._function, self.calls = function, 0

    def vjp(self, y):
        self.calls += 1
        return self._function(y)


def zero_filling(mask, dtype="complex128"):
    """rec = A*: linear, with pullback A."""
    A = kspike.MaskedFourier(mask, dtype=dtype)
    return Plain(lambda y: (A.adjoint(y), A)), A


# --- the spike -------------------------------------------------------------------------------------------------------


def test_a_spike_has_the_budget_and_its_phase(engine, rng):
    A = kspike.MaskedFourier(draw_mask(rng, (5, 7)), dtype=engine.dtype, backend=engine.name)
    e = engine.get(kspike.spike(A, (4, 0), 3.0))
    assert np.linalg.norm(e) == pytest.approx(3, rel=tolerance("inner", engine.dtype))
    x = reference.Plan(A.mask).adjoint(e)
    assert metrics.argmax_location(x) == (4, 0)
    assert x[4, 0] == pytest.approx(3 * math.sqrt(A.samples / 35), rel=tolerance("inner", engine.dtype))


# --- what an attack returns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [*STARTS, ("minus", "plus"), ("random", "random")])
def test_the_arrays_and_measures_belong_together(problem, start):
    tv, y = problem
    found = kspike.attack(tv, y, noise=0.04, grid=GRID, radius=2, start=start)
    eps = tolerance("inner", "complex128")
    assert found.eta == pytest.approx(0.04 * np.linalg.norm(y), rel=eps)
    assert np.linalg.norm(found.perturbation) == pytest.approx(found.eta, rel=eps)
    np.testing.assert_array_equal(found.artifact, found.reconstruction - found.clean)
    np.testing.assert_array_equal(found.image_perturbation, tv.A.adjoint(found.perturbation))
    assert found.artifact_max == metrics.max_modulus(found.artifact) == found.artifact_maxima.max()
    assert found.image_perturbation_max == metrics.max_modulus(found.image_perturbation)
    assert found.amplification == found.artifact_max / found.image_perturbation_max
    best = np.unravel_index(found.artifact_maxima.argmax(), GRID)  # the paper's rule
    assert found.location == tuple(found.locations[best])
    assert found.amplification == found.amplifications[best]
    assert found.amplifications.shape == found.artifact_maxima.shape == found.pairs.shape == GRID
    np.testing.assert_array_equal(found.perturbations[best], found.perturbation)
    assert found.units == pytest.approx(found.artifact_max / found.eta * math.sqrt(tv.samples / tv.A.mask.size))
    assert all(isinstance(n, int) for n in found.location) and isinstance(found.artifact_max, float)
    assert "amplification=" in repr(found) and len(repr(found)) < 200


def test_the_grid_lies_at_the_centres_of_equal_boxes():
    """(i + 1/2) n / grid, the paper's, rounded down."""
    rec, A = zero_filling(np.ones((256, 24), bool))
    found = kspike.attack(rec, np.ones(A.samples, complex), eta=1.0, grid=(8, 5), steps=0, A=A)
    assert found.locations[:, 0, 0].tolist() == [16, 48, 80, 112, 144, 176, 208, 240]
    assert found.locations[0, :, 1].tolist() == [2, 7, 12, 16, 21]


def test_the_artifact_is_that_of_the_textbook_iteration(problem):
    """rec(y + e) - rec(y) by 3000 iterations of Boyd et al. in double, from nothing, is the artifact found, to 1 %."""
    tv, y = problem
    found = kspike.attack(tv, y, noise=0.04, grid=GRID, radius=2, final=1000)
    zero = np.zeros((2, *SHAPE), complex)
    dirty, clean = (
        reference.textbook_admm(v, tv.A.mask, tv.lam, tv.rho, 1.9, 3000, zero, zero)[0]
        for v in (y + found.perturbation, y)
    )
    assert np.abs(dirty - clean - found.artifact).max() <= 0.01 * found.artifact_max


# --- how strong it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
def test_against_zero_filling_the_spike_is_the_optimum(start):
    """|<delta, A* e>| <= ||A delta|| ||e||, with equality for the spike alone: the attack ends there from anywhere."""
    rec, A = zero_filling(kspike.radial_mask(SHAPE, lines=10))
    y = A(kspike.ellipses(SHAPE, seed=3).astype(float))
    found = kspike.attack(rec, y, eta=2.0, grid=GRID, radius=0, start=start, A=A, steps=100)
    spike = kspike.spike(A, found.location, 2.0)
    # the part beside the spike shrinks by 1 - s at each step: the product of 1 - 0.6 (1 - k / 100) is 5e-17
    assert abs(np.vdot(spike, found.perturbation)) == pytest.approx(4, rel=1e-10)
    np.testing.assert_allclose(found.artifact_maxima, 2 * math.sqrt(A.samples / A.mask.size), rtol=1e-10)
    np.testing.assert_allclose(found.amplifications, 1, rtol=1e-10)


def test_against_zero_filling_a_disk_is_the_leading_eigenvector():
    """max ||phi A* e|| over ||e|| <= eta is eta times the root of the largest eigenvalue of A phi A*."""
    mask, radius = kspike.radial_mask(SHAPE, lines=10), 2
    rec, A = zero_filling(mask)
    y = A(kspike.ellipses(SHAPE, seed=3).astype(float))
    found = kspike.attack(rec, y, eta=1.0, grid=(1, 1), radius=radius, start="random", A=A, steps=400)
    n, m = mask.size, A.samples
    columns = laws.dense_fourier(mask)[:, :n]  # A on real images, as stacked parts
    a = columns[:m] + 1j * columns[m:]
    row, col = found.location
    disk = np.hypot(np.arange(SHAPE[0])[:, None] - row, np.arange(SHAPE[1]) - col).ravel() <= radius
    largest = np.linalg.eigvalsh(a[:, disk].conj().T @ a[:, disk])[-1]
    assert metrics.local_l2(found.artifact, found.location, radius) == pytest.approx(math.sqrt(largest), rel=1e-6)


@pytest.mark.parametrize("radius", [0, 5])
@pytest.mark.parametrize("noise, lam", [(0.005, 3.2e-4), (0.04, 5.6e-3)])
def test_it_is_stronger_than_the_plain_spike(paper, noise, lam, radius):
    """At every location tried; the spike has as many iterations to converge in."""
    tv = kspike.TVSolver(paper["radial40"], lam)
    for image in paper["images"][:2]:
        y = tv.A(image.astype("float32"))
        found = kspike.attack(tv, y, noise=noise, grid=(2, 2), radius=radius)
        for start in ("minus", "plus"):
            plain = kspike.attack(tv, y, noise=noise, grid=(2, 2), steps=0, start=start, final=200)
            assert (found.artifact_maxima > plain.artifact_maxima).all()
        assert found.pairs.max() <= 150


def test_the_built_in_image_at_four_per_cent():
    """256 x 256, 40 lines: alpha of the best location is above that of the paper's attack, 6.88 (its Table 1)."""
    tv = kspike.TVSolver(kspike.radial_mask((256, 256), lines=40), 5.6e-3)
    found = kspike.attack(tv, tv.A(kspike.ellipses((256, 256), seed=0)), noise=0.04, grid=(2, 2))
    assert found.amplification >= 6.9


def test_a_tall_spike_of_a_larger_image():
    """512 x 512, where the spike is 11 times the image: alpha above 1.05 n^2 / m in the 150 pairs of the default."""
    tv = kspike.TVSolver(kspike.radial_mask((512, 512), lines=40), 7.9e-3)
    y = tv.A(kspike.ellipses((512, 512), seed=0))
    found = kspike.attack(tv, y, noise=0.04, at=[(224, 224)])
    assert found.amplification >= 1.05 * 512**2 / tv.samples and found.pairs.max() <= 150
    many = tv.warm(y).repeat(1)
    many.lift(found.perturbation[None], [found.location])
    x = many(y + found.perturbation[None], max_iterations=500, tol=0)[0]
    assert np.abs(x - found.clean).max() == pytest.approx(found.artifact_max, rel=0.02)


# --- what may not matter ---------------------------------------------------------------------------------------------


def test_engines_and_precisions_find_the_same_artifact(engine):
    """To 2 %: perturbations part early, as supports differ in single bits, but what they cause does not."""
    mask, x = kspike.radial_mask((128, 128), lines=30), kspike.ellipses((128, 128), seed=0)
    maxima = []
    for dtype, backend in ((engine.dtype, engine.name), ("complex128", None)):
        tv = kspike.TVSolver(mask, 5.6e-3, dtype=dtype, backend=backend)
        y = tv.A(x.astype(dtype))
        maxima.append(kspike.attack(tv, y, noise=0.04, grid=(2, 2)).artifact_maxima)
    np.testing.assert_allclose(*maxima, rtol=0.02)


@pytest.mark.parametrize("start", STARTS)
def test_batches_and_threads_change_nothing(problem, start):
    tv, y = problem
    threaded = kspike.TVSolver(tv.A.mask, tv.lam, dtype="complex128", threads=2)
    one = kspike.attack(tv, y, noise=0.02, grid=GRID, start=start)
    others = [kspike.attack(tv, y, noise=0.02, grid=GRID, start=start, batch=n) for n in (1, 4, 100)]
    for other in (*others, kspike.attack(threaded, y, noise=0.02, grid=GRID, start=start)):
        for name in ("perturbation", "artifact", "artifact_maxima", "amplifications", "pairs", "location"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name))


def test_the_seed_is_that_of_the_random_start(problem):
    tv, y = problem
    a, b, c = (kspike.attack(tv, y, noise=0.02, grid=GRID, start="random", seed=s, steps=1) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.perturbation, b.perturbation)
    assert (a.perturbation != c.perturbation).any()


def test_noise_is_eta_in_units_of_the_data(problem):
    tv, y = problem
    a = kspike.attack(tv, y, noise=0.02, grid=(1, 1))
    b = kspike.attack(tv, y, eta=0.02 * float(np.linalg.norm(y)), grid=(1, 1))
    np.testing.assert_array_equal(a.perturbation, b.perturbation)


def test_a_reconstruction_needs_only_vjp(problem):
    """One vjp for the clean image, one per step and one to evaluate; stronger than the spike it started from."""
    tv, y = problem
    rec = Plain(lambda v: tv.vjp(v, iterations=400))
    found = kspike.attack(rec, y, noise=0.04, grid=(1, 2), radius=1, A=tv.A, steps=12)
    assert rec.calls == 1 + 2 * (12 + 1) and found.pairs is None
    spike = kspike.attack(rec, y, noise=0.04, grid=(1, 2), radius=1, A=tv.A, steps=0)
    assert (found.artifact_maxima > spike.artifact_maxima).all()


def test_progress_is_told_after_each_batch(problem):
    tv, y = problem
    told = []
    kspike.attack(tv, y, noise=0.02, grid=GRID, batch=4, steps=1, progress=lambda *seen: told.append(seen))
    assert told == [(4, 6), (6, 6)]


# --- what it can be asked ---------------------------------------------------------------------------------------------


def gradient_error(objective, x, reference, region, rng):
    """The objective's gradient against a central difference in a random direction, relative."""
    dx, h = rng.standard_normal((*x.shape, 2)) @ (1, 1j), 1e-6
    _, g = objective.gradient(x, reference, region)
    up, down = (objective.gradient(x + s * h * dx, reference, region)[0] for s in (1, -1))
    return abs((up - down) / (2 * h) - laws.inner(g, dx)) / (laws.norm(g) * laws.norm(dx))


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("kind", ["artifact", "moduli", "l2", "target"])
@pytest.mark.parametrize("where", ["disk", "everywhere", "phi"])
def test_gradients_of_the_objectives(rng, kind, squared, where):
    x, r, pattern = (rng.standard_normal((*SHAPE, 2)) @ (1, 1j) for _ in range(3))
    phi = rng.random(SHAPE) * (rng.random(SHAPE) < 0.1)
    given = {"disk": ([(3, 4)], 3.5, None), "everywhere": ([(3, 4)], math.inf, None), "phi": (None, 5, phi)}[where]
    _, [region] = regions(SHAPE, (1, 1), *given)
    objective = kspike.Objective(kind, pattern=pattern if kind == "target" else None, squared=squared)
    assert gradient_error(objective, x, r, region, rng) <= 1e-8  # h^2 of the difference, and its rounding eps / h


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "real"])
def test_balls_project_and_touch(rng, norm):
    """project finds the nearest point of the ball, extreme the one with the largest inner product."""
    A, ball, eta = kspike.MaskedFourier(draw_mask(rng, (8, 12)), dtype="complex128"), kspike.Ball(norm), 1.3
    e, d, *others = (rng.standard_normal((4, A.samples, 2)) @ (1, 1j) for _ in range(5))
    p, top = ball.project(A, e, eta), ball.extreme(A, d, eta)
    assert (ball.size(p) <= eta * (1 + 1e-12)).all() and (ball.size(top) <= eta * (1 + 1e-12)).all()
    np.testing.assert_allclose(ball.project(A, p, eta), p, atol=1e-12)
    for q in (ball.project(A, 2 * other, eta) for other in others):
        for i in range(4):
            assert laws.inner(e[i] - p[i], q[i] - p[i]) <= 1e-12  # the obtuse angle that makes p nearest
            assert laws.inner(d[i], q[i]) <= laws.inner(d[i], top[i]) + 1e-12


def test_real_perturbations_are_those_of_real_images(rng):
    A = kspike.MaskedFourier(draw_mask(rng, (8, 12)), dtype="complex128")
    ball, e = kspike.Ball("real"), rng.standard_normal((1, A.samples, 2)) @ (1, 1j)
    dense = laws.dense_fourier(A.mask)[:, :96]  # A on real images, as stacked parts
    nearest = laws.unstack(dense @ np.linalg.lstsq(dense, laws.stack(e), rcond=None)[0], e.shape)
    np.testing.assert_allclose(ball.project(A, e, 100.0), nearest, atol=1e-12)


@pytest.mark.parametrize("optimiser", [kspike.Power(), kspike.Adam(lr=0.05), kspike.PGD(), kspike.PGD(0.2, False)])
@pytest.mark.parametrize("ball", ["l2", "linf", "l1", "real"])
def test_every_optimiser_climbs_in_every_ball(problem, ball, optimiser):
    """From a random start, the objective grows; the perturbation stays in its ball."""
    tv, y = problem
    ball = kspike.Ball(ball)
    asked = dict(noise=0.04, grid=(1, 2), start="random", ball=ball, optimiser=optimiser, final=200)
    start, found = (kspike.attack(tv, y, steps=k, **asked) for k in (0, 20))
    assert (ball.size(found.perturbations.reshape(2, -1)) <= found.eta * (1 + 1e-12)).all()
    assert (found.artifact_maxima > start.artifact_maxima).all()


def test_objectives_get_what_they_ask_for(problem):
    """Each of two objectives is larger under the attack that maximises it; a target comes nearer."""
    tv, y = problem
    asked = dict(noise=0.04, at=[(12, 20)], final=400, steps=30)
    local, whole = (kspike.attack(tv, y, objective=kind, **asked) for kind in ("artifact", "l2"))
    assert np.linalg.norm(whole.artifact) > np.linalg.norm(local.artifact)
    assert metrics.local_l2(local.artifact, (12, 20), 5) > metrics.local_l2(whole.artifact, (12, 20), 5)
    pattern = np.zeros(SHAPE, complex)
    pattern[10:13, 18:22] = 0.2
    aimed = kspike.attack(tv, y, objective=kspike.Objective("target", pattern), radius=math.inf, **asked)
    spike = kspike.attack(tv, y, **{**asked, "steps": 0})
    assert np.linalg.norm(aimed.artifact - pattern) < np.linalg.norm(spike.artifact - pattern)


def test_a_disk_and_its_indicator_are_the_same(problem):
    tv, y = problem
    phi = (np.hypot(np.arange(32)[:, None] - 12, np.arange(40) - 20) <= 2).astype(float)
    disk = kspike.attack(tv, y, noise=0.02, at=[(12, 20)], radius=2, start="random")
    weighted = kspike.attack(tv, y, noise=0.02, phi=phi, start="random")
    np.testing.assert_array_equal(weighted.perturbation, disk.perturbation)
    assert weighted.amplifications.shape == disk.amplifications.shape == (1,)


def test_the_code_s_rule_selects_by_the_error(problem):
    """And both rules leave the perturbations alone."""
    tv, y = problem
    truth = kspike.ellipses(SHAPE, seed=3).astype(complex)
    asked = dict(noise=0.04, grid=GRID, truth=truth, steps=3)
    a, b = (kspike.attack(tv, y, select=rule, **asked) for rule in ("artifact", "error"))
    np.testing.assert_array_equal(a.perturbations, b.perturbations)
    errors = [np.abs(tv(y + e) - truth).max() for e in b.perturbations.reshape(6, -1)]
    assert np.abs(b.reconstruction - truth).max() >= 0.99 * max(errors)  # each solved to its own accuracy


def test_restarts_keep_the_best(problem):
    tv, y = problem
    asked = dict(noise=0.04, grid=GRID)
    both, minus, plus = (kspike.attack(tv, y, start=s, **asked) for s in (("minus", "plus"), "minus", "plus"))
    np.testing.assert_array_equal(both.artifact_maxima, np.maximum(minus.artifact_maxima, plus.artifact_maxima))
    np.testing.assert_array_equal(both.pairs, minus.pairs + plus.pairs)


def test_a_found_is_a_start(problem):
    """Continuation: no steps keep its perturbations up to their size, and steps go on from there."""
    tv, y = problem
    small = kspike.attack(tv, y, noise=0.02, grid=GRID, radius=0)
    same = kspike.attack(tv, y, noise=0.04, grid=GRID, start=small, steps=0)
    np.testing.assert_allclose(same.perturbations, 2 * small.perturbations, rtol=1e-12)
    more = kspike.attack(tv, y, noise=0.04, grid=GRID, start=same, steps=1)
    assert (more.perturbations != same.perturbations).any(-1).all()
    with pytest.raises(ValueError, match="start: expected a Found of the same locations"):
        kspike.attack(tv, y, noise=0.04, grid=(1, 1), start=small)


@pytest.mark.parametrize("budget", [20, 77, 150])
def test_the_budget_is_kept(problem, budget):
    """Whatever the steps, restarts, cap and evaluation ask for."""
    tv, y = problem
    for more in ({}, {"start": ("minus", "plus"), "final": 5}, {"cap": 0.5}):
        found = kspike.attack(tv, y, noise=0.02, grid=(1, 2), budget=budget, steps=1000, **more)
        assert (found.pairs <= budget).all() and (found.pairs > budget / 2).all()


@pytest.mark.parametrize("cap", [0.2, 0.4])
def test_a_cap_thins_the_image_perturbation(cap):
    """||A* e||_inf within 1.6 of the cap, in the ball, for a larger alpha and a lower artifact than without."""
    tv = kspike.TVSolver(kspike.radial_mask((128, 128), lines=30), 5.6e-3)
    y = tv.A(kspike.ellipses((128, 128), seed=0))
    free = kspike.attack(tv, y, noise=0.04, at=[(40, 50)], radius=0)
    capped = kspike.attack(tv, y, noise=0.04, at=[(40, 50)], radius=0, ball=kspike.Ball(cap=cap, rounds=15))
    top = cap * capped.eta * math.sqrt(tv.samples / tv.A.mask.size)
    assert capped.image_perturbation_max <= 1.6 * top
    assert np.linalg.norm(capped.perturbation) <= capped.eta * (1 + 1e-6)
    assert capped.amplification > free.amplification and capped.artifact_max < free.artifact_max


def test_the_callback_sees_each_step_and_may_end(problem):
    tv, y = problem
    seen = []

    def callback(step, locations, e, values):
        seen.append((step, locations.tolist(), e.shape, len(values)))
        return step == 2

    found = kspike.attack(tv, y, noise=0.02, at=[(3, 4), (5, 6)], batch=2, callback=callback)
    assert seen == [(k, [[3, 4], [5, 6]], (2, tv.samples), 2) for k in range(3)]
    assert (found.pairs < 150).all()


@pytest.mark.parametrize("baseline", ["spike", "rectangle", "random"])
def test_baselines_have_the_budget(problem, baseline):
    A = problem[0].A
    e = {
        "spike": lambda: kspike.spike(A, (3, 4), 2.0),
        "rectangle": lambda: kspike.rectangle(A, (3, 4), (5, 2), 2.0),
        "random": lambda: kspike.random_noise(A, 2.0, seed=1),
    }[baseline]()
    assert np.linalg.norm(e) == pytest.approx(2, rel=1e-12)


def test_a_rectangle_is_one(rng):
    """With every frequency sampled, A* e is the rectangle itself."""
    A = kspike.MaskedFourier(np.ones((8, 12), bool), dtype="complex128")
    x = A.adjoint(kspike.rectangle(A, (2, 3), (4, 5), math.sqrt(20)))
    expected = np.zeros((8, 12))
    expected[2:6, 3:8] = 1
    np.testing.assert_allclose(x, expected, atol=1e-12)


# --- what is refused -------------------------------------------------------------------------------------------------

MASK = np.ones((4, 6), bool)
TV = kspike.TVSolver(MASK, 0.1, backend="reference")
Y = np.ones(24, "complex64")
NAN = np.where(np.arange(24) == 7, np.nan, Y).astype("complex64")
BROKEN = Plain(lambda y: (np.full((4, 6), np.nan + 0j), None))


def attack(rec=TV, y=Y, **options):
    return kspike.attack(rec, y, **{"noise": 0.1, "grid": (1, 1), **options})


REFUSED = {
    "no vjp": (
        lambda: attack(rec=np.fft.fft2),
        TypeError,
        r"rec: expected an object with vjp\(y\).*got function|got _",
    ),
    "no operator": (
        lambda: attack(rec=Plain(None)),
        TypeError,
        "A: rec has no attribute A, give the measurement operator",
    ),
    "neither": (lambda: attack(noise=None), TypeError, "noise, eta: expected exactly one of the two, got noise=None"),
    "both": (lambda: attack(eta=1.0), TypeError, "noise, eta: expected exactly one of the two, got noise=0.1, eta=1.0"),
    "noise zero": (lambda: attack(noise=0), ValueError, r"noise: expected a number in \(0, inf\), got 0"),
    "eta negative": (lambda: attack(noise=None, eta=-1), ValueError, r"eta: expected a number in \(0, inf\), got -1"),
    "y zero": (lambda: attack(y=0 * Y), ValueError, "y is zero"),
    "y a batch": (lambda: attack(y=Y[None]), ValueError, r"samples of one image, shape \(m,\), got \(1, 24\)"),
    "y NaN": (lambda: attack(y=NAN), ValueError, "y: expected finite values"),
    "y real": (lambda: attack(y=Y.real.copy()), TypeError, "y: expected complex64 or complex128, got float32"),
    "y in double": (lambda: attack(y=Y.astype(complex)), TypeError, "y: expected complex64, got complex128"),
    "grid too fine": (
        lambda: attack(grid=(5, 1)),
        ValueError,
        r"grid: expected no more .*pixels, \(4, 6\), got \(5, 1\)",
    ),
    "grid of nothing": (lambda: attack(grid=(0, 1)), ValueError, r"grid: expected \(rows, cols\) of positive integers"),
    "grid a number": (lambda: attack(grid=8), ValueError, r"grid: expected \(rows, cols\) .* got 8"),
    "radius": (lambda: attack(radius=-1), ValueError, "radius: expected a number"),
    "steps": (lambda: attack(steps=-1), ValueError, "steps: expected an integer of at least 0"),
    "step": (lambda: kspike.Power(1.5), ValueError, r"step: expected a number in \(0, 1\], got 1.5"),
    "start": (lambda: attack(start="zero"), ValueError, "start: expected one of minus, plus, .* got 'zero'"),
    "preset": (lambda: attack(preset="best"), ValueError, "preset: expected one of default, paper, strong, got 'best'"),
    "objective": (lambda: attack(objective="max"), ValueError, "objective: expected one of artifact, .* got 'max'"),
    "no pattern": (lambda: attack(objective="target"), ValueError, "pattern: expected an image for objective 'target'"),
    "pattern of another shape": (
        lambda: attack(objective=kspike.Objective("target", np.zeros((6, 4)))),
        ValueError,
        r"pattern: expected an image \(4, 6\), got \(6, 4\)",
    ),
    "against": (lambda: kspike.Objective(against="y"), ValueError, "against: expected 'clean' or 'truth', got 'y'"),
    "no truth": (lambda: attack(select="error"), TypeError, "truth: expected the image"),
    "select": (lambda: attack(select="best"), ValueError, "select: expected 'artifact' or 'error', got 'best'"),
    "ball": (lambda: attack(ball="l3"), ValueError, "ball: expected one of l2, linf, l1, real, got 'l3'"),
    "cap": (lambda: attack(cap=-1), ValueError, "cap: expected a number in"),
    "cap of a flat ball": (lambda: attack(ball="l1", cap=1), ValueError, "cap: expected the ball 'l2' or 'real'"),
    "optimiser": (lambda: attack(optimiser="adam"), TypeError, r"optimiser: expected Power\(\), .* got 'adam'"),
    "budget": (lambda: attack(budget=1), ValueError, "budget: expected an integer of at least 2"),
    "budget for nothing": (lambda: attack(budget=2, start=("plus",) * 3), ValueError, "budget: expected room"),
    "at": (
        lambda: attack(at=[(4, 0)]),
        ValueError,
        r"at: expected \(row, col\) inside an image \(4, 6\), got \(4, 0\)",
    ),
    "at nowhere": (lambda: attack(at=[]), ValueError, "at: expected at least one location"),
    "phi": (lambda: attack(phi=np.ones((6, 4))), ValueError, r"phi: expected weights \(4, 6\).* got \(6, 4\)"),
    "phi zero": (lambda: attack(phi=np.zeros((4, 6))), ValueError, "phi: expected weights that are not all zero"),
    "rectangle outside": (
        lambda: kspike.rectangle(TV.A, (2, 2), (3, 1), 1.0),
        ValueError,
        "size: expected a rectangle inside",
    ),
    "batch": (lambda: attack(batch=0), ValueError, "batch: expected an integer of at least 1"),
    "final": (lambda: attack(final=0), ValueError, "final: expected an integer of at least 1"),
    "seed": (lambda: attack(seed=-1), ValueError, "seed: expected an integer of at least 0, got -1"),
    "another A": (
        lambda: attack(A=kspike.MaskedFourier(MASK[:3])),
        ValueError,
        r"rec: expected .* \(3, 6\).*got \(4, 6\)",
    ),
    "broken": (lambda: attack(rec=BROKEN, A=TV.A), ValueError, "rec: expected a finite reconstruction of y, got NaN"),
    "spike outside": (lambda: kspike.spike(TV.A, (4, 0), 1.0), ValueError, r"inside an image \(4, 6\), got \(4, 0\)"),
    "spike negative": (lambda: kspike.spike(TV.A, (-1, 0), 1.0), ValueError, r"location: expected \(row, col\) inside"),
    "spike nowhere": (lambda: kspike.spike(TV.A, 3, 1.0), ValueError, r"location: expected \(row, col\) inside"),
    "spike of nothing": (lambda: kspike.spike(TV.A, (0, 0), 0), ValueError, r"eta: expected a number in \(0, inf\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(what):
    call, error, message = REFUSED[what]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
