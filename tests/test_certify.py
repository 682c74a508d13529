# SPDX-License-Identifier: MIT
"""The certified bound: no attack exceeds it, at any phase, however early its search ends; what it says of itself."""

import math

import numpy as np
import pytest

import kspike
import laws
from conftest import draw, draw_mask
from kspike import bound, reference

SHAPE, PLACE, NOISE = (32, 40), (12, 20), 0.05


@pytest.fixture(scope="module")
def problem():
    """recTV on a small ellipse image, and its converged attacks of both signs and of imaginary ones."""
    tv = kspike.TVSolver(kspike.radial_mask(SHAPE, 10), 4e-3, dtype="complex128")
    y = tv.A(kspike.ellipses(SHAPE, seed=3).astype(float))
    return tv, y, NOISE * float(np.linalg.norm(y))


def converged(tv, y, iterations=4000):
    return tv.solve(y, iterations, 0).x


@pytest.mark.parametrize("relaxation", ["R2", "R3"])
@pytest.mark.parametrize("phase", [1, -1, 1j, -1j, np.exp(0.7j)])
def test_no_attack_exceeds_it(problem, phase, relaxation):
    """Not the spike of that phase, not the ascent of the very quantity that is bounded; a third of it is reached."""
    tv, y, eta = problem
    certified = kspike.certify(tv, y, eta, PLACE, phase, relaxation=relaxation, pairs=1500)
    clean = certified.clean
    pattern = np.zeros(SHAPE, complex)
    pattern[PLACE] = 1e3 * phase  # so far away that nearing it is ascending Re(conj(phase) a)
    spike = phase * kspike.spike(tv.A, PLACE, eta)
    ascent = kspike.attack(
        tv, y, eta=eta, at=[PLACE], radius=0, steps=60, objective=kspike.Objective("target", pattern), start="random"
    )
    values = [(np.conj(phase) * (converged(tv, y + e) - clean)[PLACE]).real for e in (spike, ascent.perturbation)]
    assert max(values) <= certified.bound <= 3 * max(values)


@pytest.mark.parametrize("pairs", [1, 30, 100, 300])
def test_a_search_that_ends_early_is_as_honest(problem, pairs):
    """Every dual point is a bound: here while residuals are large; and the more pairs the lower."""
    tv, y, eta = problem
    early = kspike.certify(tv, y, eta, PLACE, 1, pairs=pairs, clean_pairs=50)
    late = kspike.certify(tv, y, eta, PLACE, 1, pairs=4 * pairs, clean_pairs=50)
    a = converged(tv, y + kspike.spike(tv.A, PLACE, eta)) - early.clean
    assert a[PLACE].real <= late.bound <= early.bound
    assert early.pairs >= pairs and early.residual >= late.residual > 0


def test_the_modulus_is_bounded_by_its_parts(problem):
    tv, y, eta = problem
    whole = kspike.certify(tv, y, eta, PLACE, pairs=300)
    phases = np.exp(0.25j * np.pi * np.arange(8))
    parts = [kspike.certify(tv, y, eta, PLACE, phase, pairs=300).bound for phase in phases]
    corners = [  # where two neighbouring lines Re(conj(phase) a) = part meet
        np.linalg.solve([[p.real, p.imag] for p in phases[[i - 1, i]]], [parts[i - 1], parts[i]]) for i in range(8)
    ]
    assert whole.bound == pytest.approx(np.linalg.norm(corners, axis=1).max(), rel=1e-12)
    assert whole.units == pytest.approx(whole.bound / eta * math.sqrt(tv.samples / 1280), rel=1e-12)
    found = kspike.attack(tv, y, eta=eta, at=[PLACE], radius=0, steps=60)
    assert np.abs(converged(tv, y + found.perturbation) - whole.clean)[PLACE] <= whole.bound


def test_the_second_relaxation_is_tighter(problem):
    tv, y, eta = problem
    loose, tight = (kspike.certify(tv, y, eta, PLACE, 1, relaxation=r, pairs=3000) for r in ("R2", "R3"))
    assert tight.bound < loose.bound


def test_a_cap_lowers_it_and_no_capped_attack_exceeds_it(problem):
    tv, y, eta = problem
    bounds = {cap: kspike.certify(tv, y, eta, PLACE, -1, cap=cap, pairs=3000) for cap in (None, 0.3, 0.1)}
    assert bounds[0.1].bound < 0.95 * bounds[0.3].bound < 0.95 * bounds[None].bound
    for cap in (0.3, 0.1):
        ball = kspike.Ball(cap=cap, rounds=15)
        e = kspike.attack(tv, y, eta=eta, at=[PLACE], radius=0, steps=60, ball=ball).perturbation
        reached = np.abs(tv.A.adjoint(e)).max() / (cap * eta * math.sqrt(tv.samples / math.prod(SHAPE)))
        a = (converged(tv, y + e / max(reached, 1)) - bounds[cap].clean)[PLACE]
        assert 0.5 * bounds[cap].bound <= -a.real <= bounds[cap].bound


@pytest.mark.parametrize("noise, lam", [(0.01, 1.4e-3), (0.08, 1.12e-2)])
@pytest.mark.parametrize("phase", [1, -1])
def test_the_attack_comes_close_on_the_paper_s_image(paper, noise, lam, phase):
    """0.85 to 1 of the bound at (112, 112): the attack is near the best there is."""
    tv = kspike.TVSolver(paper["radial40"].astype(bool), lam, dtype="complex128")
    y = tv.A(paper["images"][0].astype(complex))
    eta = noise * float(np.linalg.norm(y))
    certified = kspike.certify(tv, y, eta, (112, 112), phase)
    start = {1: "plus", -1: "minus"}[phase]
    found = kspike.attack(tv, y, eta=eta, at=[(112, 112)], preset="strong", start=start, final=400)
    a = (phase * found.artifact[112, 112]).real
    assert 0.85 * certified.bound <= a <= certified.bound


# --- the identities behind it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["minus", "random"])
def test_energy_of_artifact_and_dual(problem, start):
    """||A a||^2 + 2 Re<D a, q> + ||D*q||^2 = ||e||^2 to 1e-8, and |A*e - A*A a| <= 8 lam in each part."""
    tv, y, eta = problem
    e = kspike.attack(tv, y, eta=eta, at=[PLACE], start=start).perturbation
    solved = [tv.solve(v, 6000, 0) for v in (y, y + e)]
    duals = [tv.rho * reference.clip(s.state.field()[0], tv.lam / tv.rho) for s in solved]
    a, q = solved[1].x - solved[0].x, duals[1] - duals[0]
    g, Dq = tv.A(a), reference.grad_adjoint(q)
    energy = laws.norm(g) ** 2 + 2 * laws.inner(reference.grad(a), q) + laws.norm(Dq) ** 2
    assert energy == pytest.approx(laws.norm(e) ** 2, rel=1e-8)
    assert np.abs((tv.A.adjoint(e) - tv.A.adjoint(g)).view(float)).max() <= 8 * tv.lam


def test_a_right_hand_side_and_a_weight_of_the_data(rng):
    """argmin kappa/2 ||A x||^2 - Re<y, A x> - Re<image, x> + lam ||D x||_1 has D*p = A*(y - kappa A x) + image."""
    mask = draw_mask(rng, (8, 12))
    tv = kspike.TVSolver(mask, 0.05, dtype="complex128")
    problem = bound._Problem(tv, draw(rng, tv.samples), 1.0, 10)
    y, image, kappa = draw(rng, tv.samples), 0.01 * tv.A.adjoint(draw(rng, tv.samples)), 0.6
    state = problem.plan.state(np.zeros((1, 2, 8, 12), complex))
    x = problem.iterate(state, kappa, y, image, 20000)
    left = problem.D_adjoint(problem.dual(state))
    right = problem.A_adjoint(y - kappa * problem.A(x)) + image
    assert np.abs(left - right).max() <= 1e-4 * np.abs(right).max()  # noise converges slowly


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "relaxation": (dict(relaxation="R4"), "relaxation: expected 'R2' or 'R3', got 'R4'"),
    "phase": (dict(phase=2), "phase: expected a complex number of modulus 1, got 2"),
    "location": (dict(location=(32, 0)), r"location: expected \(row, col\) inside an image \(32, 40\)"),
    "eta": (dict(eta=0), r"eta: expected a number in \(0, inf\), got 0"),
    "cap": (dict(cap=0), r"cap: expected a number in \(0, inf\), got 0"),
    "cap of R2": (dict(cap=0.5, relaxation="R2"), "cap: expected relaxation 'R3', got 'R2'"),
    "pairs": (dict(pairs=0), "pairs: expected an integer of at least 1, got 0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(problem, what):
    tv, y, eta = problem
    changed, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        kspike.certify(tv, y, **({"eta": eta, "location": PLACE, "phase": 1} | changed))


def test_an_unsampled_mean_is_refused(rng):
    tv = kspike.TVSolver(draw_mask(rng, (8, 12), zero=False), 0.1, dtype="complex128")
    with pytest.raises(ValueError, match="expected the zero frequency to be sampled"):
        kspike.certify(tv, draw(rng, tv.samples), 1.0, (2, 2))
