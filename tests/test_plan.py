# SPDX-License-Identifier: MIT
"""The plan of every engine: transforms, the iteration, its stopping rule, its state and its three derivatives."""

import numpy as np
import pytest

import laws
from conftest import BATCHES, SHAPES, assert_close, draw, draw_field, draw_image, draw_mask, tolerance
from kspike import reference

T, RHO, RELAX = 0.0625, 0.5, 1.9
LARGE = [(64, 128), (97, 61), (256, 96), (24, 368), (1, 1000), (211, 2)]
SEVERAL = [shape for shape in SHAPES if shape != (1, 1)]


class Problem:
    """A reconstruction to run: mask, noisy data of a boxy image, a start, and the reference's plan in double."""

    def __init__(self, rng, shape, batch=3, zero=True, ties=True, low=False):
        self.mask = draw_mask(rng, shape, zero)
        if low:
            self.mask[tuple(slice(n // 2 - n // 16, n // 2 + n // 16 + 1) for n in shape)] = True
        self.exact = reference.Plan(self.mask)
        y = self.exact.forward(draw_image(rng, batch, shape))
        self.y = (y + 0.01 * draw(rng, *y.shape)).astype(np.complex64).astype(complex)
        self.w = draw_field(rng, batch, shape, T) if ties else draw(rng, batch, 2, *shape)

    def reference(self, iterations, t=T, rho=RHO, relax=RELAX, stop=None, tape=None, rhs=None):
        """The reference's x, state, count, change."""
        state, x = self.exact.state(self.w), np.empty((len(self.y), *self.mask.shape), complex)
        count, change = self.exact.iterate(state, self.y, x, t, rho, relax, iterations, stop=stop, tape=tape, rhs=rhs)
        return x, state, count, change


def clear_problem(rng, shape, iterations, t=T):
    """A problem of one image whose parts stay clear of the threshold: its supports are the same in every precision."""
    for _ in range(100):
        problem = Problem(rng, shape, batch=1, ties=False)
        dense = laws.DenseADMM(problem.mask, t, RHO, RELAX).run(problem.y, problem.w, iterations)
        if dense.margin > 5e-5:
            return problem, dense
    raise AssertionError("no clear problem among a hundred")


# --- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transforms_equal_reference(engine, rng, shape):
    for batch in BATCHES:
        problem = Problem(rng, shape, batch)
        plan, x = engine.plan(problem.mask), draw(rng, batch, *shape)
        assert_close(plan.forward(x), problem.exact.forward(x), "transform", engine.dtype)
        assert_close(plan.adjoint(problem.y), problem.exact.adjoint(problem.y), "transform", engine.dtype)
        expected = problem.exact.resolvent(x, RHO)
        assert_close(plan.resolvent(x, RHO), expected, "resolvent", engine.dtype)


def test_a_small_symbol_keeps_its_digits(engine):
    """One slow wave, of which nothing is sampled: x = b / (rho 4 sin(pi / n)^2). As 2 - 2 cos it has 1e-13 of error."""
    n = 250
    mask = np.zeros((n, 1), bool)
    mask[n // 2] = True
    b = np.cos(2 * np.pi * np.arange(n) / n).astype(complex).reshape(1, n, 1)
    exact = b / (RHO * 4 * np.sin(np.pi / n) ** 2)
    error = np.abs(engine.plan(mask).resolvent(b, RHO) - exact).max() / np.abs(exact).max()
    assert error <= 16 * np.finfo(engine.dtype).eps


@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_sizes_equal_reference(engine, rng, shape):
    """Lengths that take other paths through a transform: many stages, several factors, a large prime, one row.

    Their low frequencies are sampled, as in any real mask: rho K alone would lift rounding by n^2 there.
    """
    problem = Problem(rng, shape, batch=1, low=True)
    plan, x = engine.plan(problem.mask), draw(rng, 1, *shape)
    assert_close(plan.forward(x), problem.exact.forward(x), "transform", engine.dtype)
    assert_close(plan.adjoint(problem.y), problem.exact.adjoint(problem.y), "transform", engine.dtype)
    expected, exact, _, _ = problem.reference(5)
    state = plan.state(problem.w)
    mine, _, _ = plan.iterate(state, problem.y, T, RHO, RELAX, 5)
    assert_close(mine, expected, "iterate", engine.dtype)
    assert_close(plan.field(state), exact.field(), "iterate", engine.dtype, scale=np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_adjointness(engine, rng, shape):
    problem = Problem(rng, shape)
    plan, tol = engine.plan(problem.mask), tolerance("inner", engine.dtype)
    laws.adjointness(plan.forward, plan.adjoint, draw(rng, 3, *shape), problem.y, tol)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_adjoint_is_an_isometry_and_forward_its_inverse(engine, rng, shape):
    """The rows of A are orthonormal: A A* = I."""
    problem = Problem(rng, shape)
    plan, tol = engine.plan(problem.mask), tolerance("transform", engine.dtype)
    laws.isometry(plan.adjoint, problem.y, tol)
    laws.inverse(plan.adjoint, plan.forward, problem.y, tol)


@pytest.mark.parametrize("zero", [True, False], ids=["zero sampled", "zero not sampled"])
@pytest.mark.parametrize("shape", SEVERAL, ids=str)
def test_resolvent_inverts_the_normal_operator(engine, rng, shape, zero):
    """(A*A + rho D*D)^-1 (A*A x + rho D*D x) is x, or x without its mean where the zero frequency is not sampled."""
    problem = Problem(rng, shape, zero=zero)
    plan, x = engine.plan(problem.mask), draw(rng, 3, *shape)
    expected = x if zero else x - x.mean((-2, -1), keepdims=True)
    normal = plan.adjoint(plan.forward(x)) + RHO * reference.grad_adjoint(reference.grad(x))
    assert_close(plan.resolvent(normal, RHO), expected, "resolvent", engine.dtype)


def test_resolvent_follows_rho(engine, rng):
    """A plan that keeps the diagonal of the last rho must notice the next one."""
    problem = Problem(rng, (5, 7))
    plan, x = engine.plan(problem.mask), draw(rng, 1, 5, 7)
    for rho in (0.5, 2.0, 0.5):
        assert_close(plan.resolvent(x, rho), problem.exact.resolvent(x, rho), "resolvent", engine.dtype)


# --- the iteration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, T])
@pytest.mark.parametrize("relax", [1.0, 1.9])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_iterate_equals_reference(engine, rng, shape, relax, t):
    for batch in BATCHES:
        problem = Problem(rng, shape, batch)
        plan = engine.plan(problem.mask)
        for iterations in (1, 2, 25):
            x, exact, _, _ = problem.reference(iterations, t=t, relax=relax)
            state = plan.state(problem.w)
            mine, count, change = plan.iterate(state, problem.y, t, RHO, relax, iterations)
            assert_close(mine, x, "iterate", engine.dtype)
            scale = max(np.abs(problem.w).max(), np.abs(x).max()) if batch else 1
            assert_close(plan.field(state), exact.field(), "iterate", engine.dtype, scale=scale)
            np.testing.assert_array_equal(count, [iterations] * batch)
            np.testing.assert_array_equal(change, [np.inf] * batch)


@pytest.mark.parametrize("zero", [True, False], ids=["zero sampled", "zero not sampled"])
@pytest.mark.parametrize("shape", SEVERAL, ids=str)
def test_a_right_hand_side_in_image_space(engine, rng, shape, zero):
    """It adds to A*y: that of A*y' is the data y', and any other equals the reference's."""
    problem = Problem(rng, shape, zero=zero)
    plan, image = engine.plan(problem.mask), 0.1 * draw(rng, 3, *shape)
    expected, exact, _, _ = problem.reference(12, rhs=image)
    state = plan.state(problem.w)
    mine, _, _ = plan.iterate(state, problem.y, T, RHO, RELAX, 12, rhs=image)
    assert_close(mine, expected, "iterate", engine.dtype)
    scale = max(np.abs(problem.w).max(), np.abs(expected).max())
    assert_close(plan.field(state), exact.field(), "iterate", engine.dtype, scale=scale)
    expected, _, _, _ = problem.reference(12)
    half = problem.exact.adjoint(problem.y / 2)
    mine, _, _ = plan.iterate(plan.state(problem.w), problem.y / 2, T, RHO, RELAX, 12, rhs=half)
    assert_close(mine, expected, "iterate", engine.dtype)


def test_iterate_without_the_zero_frequency(engine, rng):
    problem = Problem(rng, (8, 12), zero=False)
    plan = engine.plan(problem.mask)
    x, _, _, _ = problem.reference(25)
    mine, _, _ = plan.iterate(plan.state(problem.w), problem.y, T, RHO, RELAX, 25)
    assert_close(mine, x, "iterate", engine.dtype)
    assert_close(mine.mean((-2, -1)), np.zeros(3), "iterate", engine.dtype, scale=np.abs(x).max())


def test_a_hundred_iterations_on_the_paper_s_problem(engine, paper):
    """256 x 256, 40 radial lines, from zero: the contract's tolerance at the size and the parameters that matter."""
    mask = paper["radial40"].astype(bool)
    exact, lam, rho = reference.Plan(mask), 5e-3, 0.25
    y = exact.forward(paper["images"][:1].astype(complex))
    start, x = np.zeros((1, 2, *mask.shape), complex), np.empty((1, *mask.shape), complex)
    exact.iterate(exact.state(start), y, x, lam / rho, rho, RELAX, 100)
    plan = engine.plan(mask)
    mine, _, _ = plan.iterate(plan.state(start), y, lam / rho, rho, RELAX, 100)
    assert_close(mine, x, "iterate", engine.dtype)


def test_no_iterations_leave_everything_as_it_was(engine, rng):
    problem = Problem(rng, (5, 7))
    plan = engine.plan(problem.mask)
    state = plan.state(problem.w)
    x, count, _ = plan.iterate(state, problem.y, T, RHO, RELAX, 0)
    assert np.isnan(x).all()
    np.testing.assert_array_equal(count, 0)
    np.testing.assert_array_equal(plan.field(state), problem.w.astype(engine.dtype))


def test_a_call_goes_by_its_own_threshold(engine, rng):
    problem = Problem(rng, (5, 7))
    plan = engine.plan(problem.mask)
    state, exact, expected = plan.state(problem.w), problem.exact.state(problem.w), np.empty((3, 5, 7), complex)
    for t in (T, 3 * T, T):
        x, _, _ = plan.iterate(state, problem.y, t, RHO, RELAX, 3)
        problem.exact.iterate(exact, problem.y, expected, t, RHO, RELAX, 3)
        assert_close(x, expected, "iterate", engine.dtype)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_threads_change_nothing(engine, rng, batch, threads):
    problem = Problem(rng, (30, 23), batch)
    results = []
    for count in (1, threads):
        plan = engine.plan(problem.mask, threads=count)
        state, tape = plan.state(problem.w), plan.tape(batch)
        x, _, _ = plan.iterate(state, problem.y, T, RHO, RELAX, 12, tape=tape)
        dx = plan.tangent(plan.state(problem.w), tape, problem.exact.adjoint(problem.y), RHO, RELAX, 5)
        cotangents = plan.reverse(tape, x, RHO, RELAX)
        plain = plan.forward(x), plan.adjoint(problem.y), plan.resolvent(x, RHO)
        results.append((x, plan.field(state), dx, *cotangents, *plain))
    for one, many in zip(*results, strict=True):
        assert_close(many, one, "transform", engine.dtype)


# --- the stopping rule -----------------------------------------------------------------------------------------------


def test_stop_counts_equal_reference(engine, rng):
    problem = Problem(rng, (16, 16), batch=5)
    stop = np.array([0.0, 2e-2, 1e-1, 5e-3, 1e-3])
    x, exact, count, change = problem.reference(85, stop=stop)
    assert len(set(count)) == 5, "the thresholds should end the five images at different looks"
    plan = engine.plan(problem.mask)
    state = plan.state(problem.w)
    mine, mine_count, mine_change = plan.iterate(state, problem.y, T, RHO, RELAX, 85, stop=stop)
    np.testing.assert_array_equal(mine_count, count)
    scale = np.abs(x).max()
    assert_close(mine_change, change, "iterate", engine.dtype, scale=scale)
    assert_close(mine, x, "iterate", engine.dtype)
    assert_close(plan.field(state), exact.field(), "iterate", engine.dtype, scale=scale)


def test_change_is_the_last_difference_of_two_looks(engine, rng):
    """After 25 iterations: between the 10th and the 20th x, the larger of the real and the imaginary parts' changes."""
    problem = Problem(rng, (5, 7))
    plan = engine.plan(problem.mask)
    looks = [problem.reference(n)[0] for n in (10, 20)]
    expected = np.abs((looks[1] - looks[0]).view(float)).max((-2, -1))
    _, count, change = plan.iterate(plan.state(problem.w), problem.y, T, RHO, RELAX, 25, stop=np.zeros(3))
    np.testing.assert_array_equal(count, 25)
    assert_close(change, expected, "iterate", engine.dtype, scale=np.abs(looks).max())


@pytest.mark.parametrize("iterations", [9, 10, 19])
def test_one_look_measures_nothing(engine, rng, iterations):
    problem = Problem(rng, (5, 7))
    plan = engine.plan(problem.mask)
    _, count, change = plan.iterate(plan.state(problem.w), problem.y, T, RHO, RELAX, iterations, stop=np.full(3, 1e9))
    np.testing.assert_array_equal(count, iterations)
    np.testing.assert_array_equal(change, np.inf)


def test_a_nan_never_stops(engine, rng):
    """A comparison with NaN is false: the image runs on, and its change says why."""
    problem = Problem(rng, (5, 7))
    plan = engine.plan(problem.mask)
    problem.y[1, 0] = np.nan
    _, count, change = plan.iterate(plan.state(problem.w), problem.y, T, RHO, RELAX, 40, stop=np.full(3, 1e3))
    np.testing.assert_array_equal(count, [20, 40, 20])
    np.testing.assert_array_equal(np.isnan(change), [False, True, False])


# --- the state -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_state_keeps_the_field_it_was_given(engine, rng, shape):
    for batch in BATCHES:
        problem = Problem(rng, shape, batch)
        plan = engine.plan(problem.mask)
        state = plan.state(problem.w)
        assert state.batch == batch
        np.testing.assert_array_equal(plan.field(state), problem.w.astype(engine.dtype))


@pytest.mark.parametrize("norm", ["separable", "modulus", "isotropic"])
def test_rescale_keeps_jumps_and_the_dual(engine, rng, norm):
    problem = Problem(rng, (5, 7))
    plan = engine.plan(problem.mask, norm=norm)
    state, to = plan.state(problem.w), 3 * T
    plan.plan.rescale(state, T, to)
    w, u = plan.field(state), reference.clip(problem.w, T, norm)
    assert_close(w, problem.w - u + 3 * u, "transform", engine.dtype)
    assert_close(reference.clip(w.astype(complex), to, norm), 3 * u, "transform", engine.dtype)
    plan.iterate(state, problem.y, to, RHO, RELAX, 3)
    plan.plan.rescale(state, to, T)
    other = plan.state(problem.w - u + 3 * u)
    plan.iterate(other, problem.y, to, RHO, RELAX, 3)
    plan.plan.rescale(other, to, T)
    assert_close(plan.field(state), plan.field(other), "transform", engine.dtype)


def test_state_shares_nothing(engine, rng):
    problem = Problem(rng, (5, 7))
    plan = engine.plan(problem.mask)
    w = engine.xp.asarray(problem.w.astype(engine.dtype))
    state = plan.plan.state(w)
    w[...] = 0
    state.field()[...] = 0
    other = state.copy()
    plan.iterate(other, problem.y, T, RHO, RELAX, 3)
    start = problem.w.astype(engine.dtype)
    np.testing.assert_array_equal(plan.field(state), start)
    assert np.abs(plan.field(other) - start).max() > 0.01
    assert other.batch == 3


@pytest.mark.parametrize("shape", [(5, 7), (16, 16)], ids=str)
def test_two_runs_are_one(engine, rng, shape):
    problem = Problem(rng, shape)
    plan = engine.plan(problem.mask)
    once, twice = plan.state(problem.w), plan.state(problem.w)
    tapes = plan.tape(3), plan.tape(3)
    x, _, _ = plan.iterate(once, problem.y, T, RHO, RELAX, 12, tape=tapes[0])
    plan.iterate(twice, problem.y, T, RHO, RELAX, 5, tape=tapes[1])
    again, _, _ = plan.iterate(twice, problem.y, T, RHO, RELAX, 7, tape=tapes[1])
    assert_close(again, x, "transform", engine.dtype)
    assert_close(plan.field(twice), plan.field(once), "transform", engine.dtype)
    for one, two in zip(*(plan.reverse(tape, x, RHO, RELAX) for tape in tapes), strict=True):
        assert_close(two, one, "derivative", engine.dtype)


# --- the derivatives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (2, 2), (5, 4), (6, 6)], ids=str)
def test_reverse_equals_the_dense_jacobian(engine, rng, shape):
    """The dense derivative of 12 iterations, by the chain rule on three variables, transposed."""
    problem, dense = clear_problem(rng, shape, 12)
    plan, g = engine.plan(problem.mask), draw(rng, 1, *shape)
    tape = plan.tape(1)
    x, _, _ = plan.iterate(plan.state(problem.w), problem.y, T, RHO, RELAX, 12, tape=tape)
    assert_close(x[0], dense.x, "iterate", engine.dtype)
    y, w = plan.reverse(tape, g, RHO, RELAX)
    m = problem.y.shape[-1]
    cotangent = dense.Jx.T @ laws.stack(g)
    scale = np.abs(g).max()
    assert_close(y[0], laws.unstack(cotangent[: 2 * m], m), "derivative", engine.dtype, scale=scale)
    assert_close(w[0], laws.unstack(cotangent[2 * m :], (2, *shape)), "derivative", engine.dtype, scale=scale)


@pytest.mark.parametrize("dtype", ["complex128"], indirect=True)
@pytest.mark.parametrize("shape", [(5, 7), (8, 12), (17, 31)], ids=str)
def test_reverse_equals_reference(engine, rng, shape):
    """In double only: in single precision a few bits of a long tape flip, and it is another tape."""
    problem = Problem(rng, shape)
    plan, g = engine.plan(problem.mask), draw(rng, 3, *shape)
    tapes, stop = (plan.tape(3), problem.exact.tape(3)), [0, 5e-2, 2e-2]
    _, count, _ = plan.iterate(plan.state(problem.w), problem.y, T, RHO, RELAX, 33, stop=stop, tape=tapes[0])
    _, _, expected, _ = problem.reference(33, stop=stop, tape=tapes[1])
    np.testing.assert_array_equal(count, expected)
    y, w = np.empty_like(problem.y), np.empty_like(problem.w)
    problem.exact.reverse(tapes[1], g, y, w, RHO, RELAX)
    for mine, exact in zip(plan.reverse(tapes[0], g, RHO, RELAX), (y, w), strict=True):
        assert_close(mine, exact, "derivative", engine.dtype, scale=np.abs(g).max())


@pytest.mark.parametrize("dtype", ["complex128"], indirect=True)
@pytest.mark.parametrize("shape", [(5, 7), (16, 16)], ids=str)
def test_reverse_dot_product(engine, rng, shape):
    """Re <g, dx> = Re <g_y, dy> + Re <g_w, dw> for a step (dy, dw) that moves no part over the threshold.

    In double only: a step that small drowns in the rounding of complex64.
    """
    problem = Problem(rng, shape, batch=1, ties=False)
    plan, g = engine.plan(problem.mask), draw(rng, 1, *shape)
    dy, dw = 1e-6 * draw(rng, *problem.y.shape), 1e-6 * draw(rng, *problem.w.shape)
    tape = plan.tape(1)
    x, _, _ = plan.iterate(plan.state(problem.w), problem.y, T, RHO, RELAX, 10, tape=tape)
    moved, _, _ = plan.iterate(plan.state(problem.w + dw), problem.y + dy, T, RHO, RELAX, 10)
    y, w = plan.reverse(tape, g, RHO, RELAX)
    left, right = laws.inner(g, moved - x), laws.inner(y, dy) + laws.inner(w, dw)
    assert abs(left - right) <= 1e-7 * laws.norm(g) * laws.norm(moved - x)


def test_an_empty_tape_gives_zero(engine, rng):
    problem = Problem(rng, (5, 7))
    plan = engine.plan(problem.mask)
    for cotangent in plan.reverse(plan.tape(3), draw(rng, 3, 5, 7), RHO, RELAX):
        np.testing.assert_array_equal(cotangent, 0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tangent_equals_reference(engine, rng, shape):
    for batch in BATCHES:
        problem = Problem(rng, shape, batch)
        plan, g = engine.plan(problem.mask), draw(rng, batch, *shape)
        start = draw(rng, batch, 2, *shape)
        exact, dx = problem.exact.state(start), np.empty(g.shape, complex)
        problem.exact.tangent(exact, problem.exact.freeze(problem.exact.state(problem.w), T), g, dx, RHO, RELAX, 9)
        state, frozen = plan.state(start), plan.freeze(plan.state(problem.w), T)
        assert_close(plan.tangent(state, frozen, g, RHO, RELAX, 9), dx, "derivative", engine.dtype)
        scale = max(np.abs(start).max(), np.abs(dx).max()) if batch else 1
        assert_close(plan.field(state), exact.field(), "derivative", engine.dtype, scale=scale)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_tangent_takes_the_last_step_of_a_tape(engine, rng, iterations):
    """A tape of several steps stands for its last support, the one before the last iteration."""
    problem, _ = clear_problem(rng, (6, 6), 3)
    plan, g = engine.plan(problem.mask), draw(rng, 1, 6, 6)
    _, before, _, _ = problem.reference(iterations - 1)
    tape = plan.tape(1)
    plan.iterate(plan.state(problem.w), problem.y, T, RHO, RELAX, iterations, tape=tape)
    start, dx = draw(rng, 1, 2, 6, 6), np.empty(g.shape, complex)
    problem.exact.tangent(problem.exact.state(start), problem.exact.freeze(before, T), g, dx, RHO, RELAX, 4)
    assert_close(plan.tangent(plan.state(start), tape, g, RHO, RELAX, 4), dx, "derivative", engine.dtype)
