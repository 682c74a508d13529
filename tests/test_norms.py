# SPDX-License-Identifier: MIT
"""The norms whose parts shrink together: proximal laws, the iteration, its derivatives, optimality, invariances.

What holds for the separable norm is in the tests of the kernels and the plan; here are "modulus" and "isotropic".
"""

import itertools

import numpy as np
import pytest

import kspike
import laws
from conftest import BATCHES, SHAPES, assert_close, draw, draw_image, draw_mask, tolerance
from kspike import kernels, reference

T, RHO, RELAX = 0.0625, 0.5, 1.9
DOUBLE = 1e-12  # a few hundred additions of numbers around one, in double
JOINT = ("modulus", "isotropic")


@pytest.fixture(params=JOINT)
def norm(request):
    return request.param


def value(d, norm):
    """||d||_1 by the definition, pixel by pixel."""
    d0, d1 = d[..., 0, :, :], d[..., 1, :, :]
    if norm == "modulus":
        return (np.abs(d0) + np.abs(d1)).sum()
    return np.hypot(np.abs(d0), np.abs(d1)).sum()


def problem(rng, shape, batch=2):
    """Mask, data of boxy images, a start whose groups lie on both sides of the threshold."""
    mask = draw_mask(rng, shape)
    y = reference.Plan(mask).forward(draw_image(rng, batch, shape))
    y = (y + 0.01 * draw(rng, *y.shape)).astype(np.complex64).astype(complex)
    w = draw(rng, batch, 2, *shape) * rng.choice([0.03, 1.0], (batch, 1, *shape))
    return mask, y, w.astype(np.complex64).astype(complex)


def run(plan, y, w, iterations, tape=None):
    """The reference's x and final field."""
    state, x = plan.state(w), np.empty((len(y), *plan.mask.shape), complex)
    plan.iterate(state, y, x, T, RHO, RELAX, iterations, tape=tape)
    return x, state.field()


# --- proximal laws ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (17, 31)], ids=str)
def test_prox_laws(rng, norm, shape):
    v, w = draw(rng, 2, 3, 2, *shape)

    def shrink(v):
        return reference.shrink(v, 0.75, norm)

    def clip(v):
        return reference.clip(v, 0.75, norm)

    laws.moreau(shrink, clip, v, DOUBLE)
    laws.nonexpansiveness(shrink, v, w, DOUBLE)
    laws.nonexpansiveness(clip, v, w, DOUBLE)
    laws.inverse(clip, clip, clip(v), DOUBLE)
    p = shrink(v)
    others = [p + h * draw(rng, *v.shape) for h in (1e-3, 1e-2, 1e-1, 1) for _ in range(20)] + [v, 0 * v]
    laws.prox_optimality(shrink, lambda q: 0.75 * value(q, norm), v, others, DOUBLE)


def test_clip_and_shrink_by_hand():
    """A 3-4-5 triangle across real and imaginary part, and one across the two components."""
    v = np.array([[[3 + 4j]], [[0.3 - 0.4j]]])
    np.testing.assert_allclose(reference.shrink(v, 1, "modulus"), [[[2.4 + 3.2j]], [[0]]], atol=1e-15)
    v = np.array([[[3 + 0j]], [[4j]]])
    np.testing.assert_allclose(reference.clip(v, 1, "isotropic"), [[[0.6]], [[0.8j]]], atol=1e-15)
    np.testing.assert_allclose(reference.shrink(v, 5, "isotropic"), 0 * v)
    np.testing.assert_allclose(reference.shrink(v, 0, "isotropic"), v)
    np.testing.assert_array_equal(reference.clip(0 * v, 0, "modulus"), 0 * v)


@pytest.mark.parametrize("t", [0.0, 0.75])
def test_the_public_kernels_are_those_of_the_reference(rng, dtype, norm, t):
    v = draw(rng, 3, 2, 5, 7).astype(dtype)
    v[0] = 0
    for name in ("clip", "shrink"):
        mine = getattr(kernels, name)(v, t, norm=norm)
        assert mine.dtype == dtype
        assert_close(mine, getattr(reference, name)(v.astype(complex), t, norm), "stencil", dtype)
    with pytest.raises(ValueError, match="norm: expected one of separable, modulus, isotropic, got 'l2'"):
        kernels.clip(v, t, norm="l2")


def test_support_holds_the_derivative_of_shrink(rng, norm):
    """At points away from the sphere |v| = t, against central differences of step 1e-6: error about its square."""
    w, dw = draw(rng, 2, 1, 2, 4, 5) * 0.3
    s, h = reference.support(w, 0.5, norm), 1e-6
    length = reference._length(w, norm)
    assert np.abs(length - 0.5).min() > 10 * h and (length > 0.5).any() and (length < 0.5).any()
    expected = (reference.shrink(w + h * dw, 0.5, norm) - reference.shrink(w - h * dw, 0.5, norm)) / (2 * h)
    np.testing.assert_allclose(reference._slope(s, dw, norm), expected, atol=1e-8)
    g = draw(rng, *w.shape)
    tangent = reference._slope(s, dw, norm), reference._slope(s, g, norm)
    assert abs(laws.inner(g, tangent[0]) - laws.inner(tangent[1], dw)) <= DOUBLE * laws.norm(g) * laws.norm(dw)


# --- the iteration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relax", [1.0, 1.9])
@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (17, 31)], ids=str)
def test_one_field_is_the_textbook(rng, norm, shape, relax):
    mask, y, w = problem(rng, shape)
    plan, z, u = reference.Plan(mask, norm=norm), reference.shrink(w, T, norm), reference.clip(w, T, norm)
    x, z, u = reference.textbook_admm(y, mask, T * RHO, RHO, relax, 20, z, u, norm)
    state, mine = plan.state(w), np.empty_like(x)
    plan.iterate(state, y, mine, T, RHO, relax, 20)
    np.testing.assert_allclose(mine, x, atol=DOUBLE)
    np.testing.assert_allclose(state.field(), z + u, atol=DOUBLE)
    np.testing.assert_allclose(reference.shrink(state.field(), T, norm), z, atol=DOUBLE)


@pytest.mark.parametrize("t", [0.0, T])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_iterate_equals_reference(engine, rng, norm, shape, t):
    for batch in BATCHES:
        mask, y, w = problem(rng, shape, batch)
        exact, plan = reference.Plan(mask, norm=norm), engine.plan(mask, threads=2, norm=norm)
        for iterations in (1, 25):
            state, x = exact.state(w), np.empty((batch, *shape), complex)
            exact.iterate(state, y, x, t, RHO, RELAX, iterations)
            own = plan.state(w)
            mine, _, _ = plan.iterate(own, y, t, RHO, RELAX, iterations)
            assert_close(mine, x, "iterate", engine.dtype)
            scale = max(np.abs(w).max(initial=0), np.abs(x).max(initial=0))
            assert_close(plan.field(own), state.field(), "iterate", engine.dtype, scale=scale)


def test_the_norms_differ(rng):
    """Three functionals, three solutions."""
    mask, y, w = problem(rng, (8, 12))
    found = [run(reference.Plan(mask, norm=norm), y, w, 25)[0] for norm in reference.NORMS]
    for a, b in itertools.combinations(found, 2):
        assert np.abs(a - b).max() > 1e-3


def test_an_unknown_norm_is_refused(engine):
    if engine.name == "cpp":
        with pytest.raises(ValueError, match="norm: expected separable, modulus or isotropic, got l2"):
            engine.plan(np.ones((4, 4), bool), norm="l2")
    with pytest.raises(ValueError, match="norm: expected one of separable, modulus, isotropic, got 'l2'"):
        kspike.TVSolver(np.ones((4, 4), bool), 0.1, norm="l2", backend=engine.name)


# --- the derivatives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["complex128"], indirect=True)
def test_reverse_is_the_transposed_dense_jacobian(engine, rng, norm):
    """6 x 6, 12 iterations: J by central differences along every part of y and of the start.

    Their step of 1e-6 leaves about 1e-9: truncation h^2 and rounding eps / h.
    """
    mask, y, w = problem(rng, (6, 6), batch=1)
    exact, plan, h = reference.Plan(mask, norm=norm), engine.plan(mask, norm=norm), 1e-6
    g, tape = draw(rng, 1, 6, 6), plan.tape(1)
    plan.iterate(plan.state(w), y, T, RHO, RELAX, 12, tape=tape)
    gy, gw = plan.reverse(tape, g, RHO, RELAX)

    def column(y_step, w_step):
        ends = [run(exact, y + s * h * y_step, w + s * h * w_step, 12)[0] for s in (1, -1)]
        return laws.inner(g, ends[0] - ends[1]) / (2 * h)

    for cotangent, of_y in ((gy, True), (gw, False)):
        for place in np.ndindex(cotangent.shape):
            for unit in (1, 1j):
                step = np.zeros(cotangent.shape, complex)
                step[place] = unit
                slope = column(step, 0) if of_y else column(0, step)
                assert abs(slope - laws.inner(step, cotangent)) <= 1e-7


@pytest.mark.parametrize("dtype", ["complex128"], indirect=True)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_derivatives_equal_reference(engine, rng, norm, shape):
    """The scale is divided by T: S is smooth in w, and carries the rounding of w over |v|, which is above T."""
    mask, y, w = problem(rng, shape, 3)
    exact, plan = reference.Plan(mask, norm=norm), engine.plan(mask, norm=norm)
    g, start = draw(rng, 3, *shape), draw(rng, 3, 2, *shape)
    tapes = exact.tape(3), plan.tape(3)
    run(exact, y, w, 33, tapes[0])
    state = plan.state(w)
    for steps in (20, 13):  # a tape that grows
        plan.iterate(state, y, T, RHO, RELAX, steps, tape=tapes[1])
    gy, gw = np.empty_like(y), np.empty_like(w)
    exact.reverse(tapes[0], g, gy, gw, RHO, RELAX)
    for mine, expected in zip(plan.reverse(tapes[1], g, RHO, RELAX), (gy, gw), strict=True):
        assert_close(mine, expected, "derivative", engine.dtype, scale=np.abs(g).max() / T)
    for frozen in ((exact.freeze(exact.state(w), T), plan.freeze(plan.state(w), T)), tapes):
        state, own, dx = exact.state(start), plan.state(start), np.empty(g.shape, complex)
        exact.tangent(state, frozen[0], g, dx, RHO, RELAX, 9)
        assert_close(
            plan.tangent(own, frozen[1], g, RHO, RELAX, 9),
            dx,
            "derivative",
            engine.dtype,
            scale=np.abs(dx).max() / T,
        )
        scale = max(np.abs(start).max(), np.abs(dx).max()) / T
        assert_close(plan.field(own), state.field(), "derivative", engine.dtype, scale=scale)


@pytest.mark.parametrize("dtype", ["complex64"], indirect=True)
def test_derivatives_in_single_precision(engine, rng, norm):
    """On one support the tangent is linear, and agrees with double to the tolerance of derivatives."""
    mask, _, w = problem(rng, (17, 31), 3)
    exact, plan, g = reference.Plan(mask, norm=norm), engine.plan(mask, norm=norm), draw(rng, 3, 17, 31)
    w[np.abs(reference._length(w, norm) - T) < 1e-4 + 0 * np.abs(w)] *= 2  # the same side in both precisions
    state, dx = exact.state(w), np.empty(g.shape, complex)
    exact.tangent(state, exact.freeze(exact.state(w), T), g, dx, RHO, RELAX, 9)
    mine = plan.tangent(plan.state(w), plan.freeze(plan.state(w), T), g, RHO, RELAX, 9)
    assert_close(mine, dx, "derivative", engine.dtype)


@pytest.mark.parametrize("shape", [(5, 4), (6, 6)], ids=str)
def test_reverse_equals_torch_autograd_through_the_textbook_loop(rng, norm, shape):
    torch = pytest.importorskip("torch")
    mask, y, w = problem(rng, shape, batch=1)
    plan, g, iterations = reference.Plan(mask, norm=norm), draw(rng, 1, *shape), 15
    tape = plan.tape(1)
    x, _ = run(plan, y, w, iterations, tape)
    gy, gw = np.empty_like(y), np.empty_like(w)
    plan.reverse(tape, g, gy, gw, RHO, RELAX)

    axes = (-2, -1)
    diagonal, sampled = torch.from_numpy(1 / (mask + RHO * plan.symbol)), torch.from_numpy(mask)

    def fourier(x):
        return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, axes), norm="ortho"), axes)

    def fourier_adjoint(k):
        return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, axes), norm="ortho"), axes)

    def grad(x):
        return torch.stack([torch.roll(x, -1, -2) - x, torch.roll(x, -1, -1) - x], -3)

    def grad_adjoint(d):
        d0, d1 = d.unbind(-3)
        return torch.roll(d0, 1, -2) - d0 + torch.roll(d1, 1, -1) - d1

    def shrink(v):
        squared = torch.view_as_real(v).square().sum(-1)
        if norm == "isotropic":
            squared = squared.sum(-3, keepdim=True)
        return v * torch.relu(1 - T / squared.sqrt())

    leaf_y, leaf_w = torch.from_numpy(y).requires_grad_(), torch.from_numpy(w).requires_grad_()
    spectrum = torch.zeros((1, *shape), dtype=torch.complex128)
    spectrum[:, sampled] = leaf_y
    z = shrink(leaf_w)
    u = leaf_w - z
    for _ in range(iterations):
        image = fourier_adjoint(diagonal * (spectrum + RHO * fourier(grad_adjoint(z - u))))
        h = RELAX * grad(image) + (1 - RELAX) * z
        z = shrink(h + u)
        u = u + h - z
    image.backward(torch.from_numpy(g))

    np.testing.assert_allclose(x, image.detach().numpy(), atol=DOUBLE)
    np.testing.assert_allclose(gy, leaf_y.grad.numpy(), atol=DOUBLE)
    np.testing.assert_allclose(gw, leaf_w.grad.numpy(), atol=DOUBLE)


# --- the solver ------------------------------------------------------------------------------------------------------

LAM, SHAPE = 0.05, (12, 17)


def solved(y, mask, norm, backend=None, lam=LAM, **options):
    tv = kspike.TVSolver(mask, lam, rho=0.4, dtype="complex128", norm=norm, backend=backend, **options)
    return tv.solve(y, max_iterations=20000, tol=1e-10)


@pytest.mark.parametrize("dtype", ["complex128"], indirect=True)
def test_the_solution_satisfies_the_subgradient_inclusion(engine, rng, norm):
    """p = rho u lies in lam times the dual ball, <p, D x> = lam ||D x||_1 and D*p = A*(y - A x)."""
    mask, y, _ = problem(rng, SHAPE, 3)
    info = solved(engine.put(y), mask, norm, engine.name)
    x, w = engine.get(info.x), engine.get(info.state.field())
    exact, d = reference.Plan(mask), reference.grad(x)
    p = 0.4 * reference.clip(w, LAM / 0.4, norm)
    assert reference._length(p, norm).max() <= LAM * (1 + DOUBLE)
    size = np.abs(y).max()
    assert np.abs(reference.grad_adjoint(p) - exact.adjoint(y - exact.forward(x))).max() <= 1e-8 * size
    gap = LAM * value(d, norm) - laws.inner(p, d)
    assert abs(gap) <= 1e-8 * size * d.size * LAM
    for i in range(3):
        expected = reference.objective(x[i], y[i], mask, LAM, norm)
        assert float(info.objective[i]) == pytest.approx(expected, rel=tolerance("inner", "complex128"))
    assert (info.certificate.gap <= 1e-6 * info.objective).all()
    assert (info.residuals.primal <= 1e-6).all() and (info.residuals.dual <= 1e-8).all()


def test_no_neighbour_is_lower(rng, norm):
    mask, y, _ = problem(rng, SHAPE, 1)
    info = solved(y[0], mask, norm)
    for step in (1e-1, 1e-3):
        for other in step * draw(rng, 20, *SHAPE):
            least = info.objective * (1 - tolerance("inner", "complex128"))
            assert reference.objective(info.x + other, y[0], mask, LAM, norm) >= least


@pytest.mark.parametrize("phase", [1j, np.exp(0.7j)], ids=["quarter", "0.7"])
def test_a_global_phase_passes_through(rng, norm, phase):
    """rec(c y) = c rec(y) for |c| = 1: these norms know no real axis."""
    mask, y, _ = problem(rng, SHAPE, 1)
    one, other = (solved(data, mask, norm).x for data in (y, phase * y))
    assert np.abs(other - phase * one).max() <= 1e-7 * np.abs(one).max()  # two stopping errors


def test_the_separable_norm_knows_a_real_axis(rng):
    mask, y, _ = problem(rng, SHAPE, 1)
    one, other = (solved(data, mask, "separable").x for data in (y, np.exp(0.7j) * y))
    assert np.abs(other - np.exp(0.7j) * one).max() > 1e-2 * np.abs(one).max()


def test_modulus_is_separable_for_a_real_image_and_a_symmetric_mask(rng):
    """Where x stays real, |a + 0i| = |a|: real data image, mask(k) = mask(-k), so A*A maps real images to real ones.

    Odd sizes: at an even one the Nyquist frequency is its own mirror image, and symmetry is about the centre all the
    same. For another mask x is complex, and the two solutions differ.
    """
    mask = draw_mask(rng, (13, 17))
    symmetric, x = mask | mask[::-1, ::-1], draw_image(rng, 1, (13, 17)).real + 0j
    y = reference.Plan(symmetric).forward(x)
    one, other = (solved(y, symmetric, norm).x for norm in ("separable", "modulus"))
    assert np.abs(one.imag).max() <= 1e-9
    assert np.abs(one - other).max() <= 1e-7 * np.abs(one).max()
    y = reference.Plan(mask).forward(x)
    one, other = (solved(y, mask, norm).x for norm in ("separable", "modulus"))
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


def test_the_attack_s_two_derivatives_agree(rng, norm):
    """The unrolled vjp of a long solve and the fixed point of the tangent iteration at the solution: J is symmetric."""
    mask, y, _ = problem(rng, SHAPE, 1)
    tv, g = kspike.TVSolver(mask, LAM, rho=0.4, dtype="complex128", norm=norm), draw(rng, *SHAPE)
    _, pullback = tv.vjp(y[0], iterations=10000)
    _, other = tv.warm(y[0], forward=10000, backward=10000).vjp(y[0])
    expected = pullback(g)
    assert laws.norm(other(g) - expected) <= 1e-6 * laws.norm(expected)
    dy = 1e-6 * draw(rng, *y[0].shape)
    change = solved(y[0] + dy, mask, norm).x - solved(y[0] - dy, mask, norm).x
    assert abs(laws.inner(g, change) / 2 - laws.inner(expected, dy)) <= 1e-4 * laws.norm(g) * laws.norm(change)


def test_the_implicit_jacobian(rng, norm):
    """Against the reverse sweep of 30000 iterations to 1e-6, and finite differences of converged solves in y and lam.

    With the curvature of the jumps, lam (I - n n^T) / |D x|, without which it would be another matrix.
    """
    mask, y, _ = problem(rng, SHAPE, 1)
    tv, g = kspike.TVSolver(mask, LAM, rho=0.4, dtype="complex128", norm=norm), draw(rng, *SHAPE)
    info = tv.solve(y[0], 100000, 1e-13)
    J = info.jacobian(tol=1e-10)
    gradient = J(g)
    _, pullback = tv.vjp(y[0], iterations=30000)
    expected = pullback(g)
    assert laws.norm(gradient - expected) <= 1e-6 * laws.norm(expected)
    fixed = info.jacobian(tol=1e-5, method="fixed-point", max_pairs=100000)
    assert laws.norm(fixed(g) - expected) <= 1e-4 * laws.norm(expected)  # ten times its residual
    h, dy = 1e-6, draw(rng, y[0].size)
    laws.adjointness(J.tangent, J, dy, g, 1e-8)
    ends = [tv.solve(y[0] + s * h * dy, 100000, 1e-14, state=info).x for s in (1, -1)]
    assert laws.norm((ends[0] - ends[1]) / (2 * h) - J.tangent(dy)) <= 1e-5 * laws.norm(J.tangent(dy))
    ends = [
        kspike.TVSolver(mask, LAM + s * h, rho=0.4, dtype="complex128", norm=norm).solve(y[0], 100000, 1e-14).x
        for s in (1, -1)
    ]
    assert laws.norm((ends[0] - ends[1]) / (2 * h) - J.lam()) <= 1e-5 * laws.norm(J.lam())


def test_the_attack_runs(rng, norm):
    mask = kspike.radial_mask((32, 32), lines=9)
    tv = kspike.TVSolver(mask, 1e-2, norm=norm)
    y = tv.A(kspike.ellipses((32, 32), seed=1).astype("complex64"))
    found = kspike.attack(tv, y, noise=0.05, grid=(1, 2), radius=2, steps=5)
    assert found.amplification > 1 and found.artifact_max > found.image_perturbation_max
