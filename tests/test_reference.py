# SPDX-License-Identifier: MIT
"""The specification itself: against numbers by hand, dense matrices, the textbook and automatic differentiation."""

import numpy as np
import pytest

import laws
from conftest import SHAPES, draw, draw_field, draw_image, draw_mask
from kspike import reference

T, RHO, RELAX = 0.0625, 0.5, 1.9
DOUBLE = 1e-12  # a few hundred additions of numbers around one, in double


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_grad_by_hand():
    """Forward, periodic; channel 0 along the rows."""
    x = np.array([[1, 2, 4], [8, 16, 32]]) * (1 - 2j)
    expected = np.array([[[7, 14, 28], [-7, -14, -28]], [[1, 2, -3], [8, 16, -24]]]) * (1 - 2j)
    np.testing.assert_array_equal(reference.grad(x), expected)


def test_grad_adjoint_by_hand():
    d = np.zeros((2, 3, 4), complex)
    d[0, 2, 1], d[1, 0, 3] = 1, 10j
    expected = np.zeros((3, 4), complex)
    expected[2, 1], expected[0, 1] = -1, 1
    expected[0, 3], expected[0, 0] = -10j, 10j
    np.testing.assert_array_equal(reference.grad_adjoint(d), expected)


def test_shrink_and_clip_by_hand():
    """Real and imaginary parts each on their own."""
    v = np.array([3 - 4j, -1 + 2j, 0.5, -2.5j])
    np.testing.assert_array_equal(reference.shrink(v, 2), [1 - 2j, 0, 0, -0.5j])
    np.testing.assert_array_equal(reference.clip(v, 2), [2 - 2j, -1 + 2j, 0.5, -2j])


def test_support_by_hand():
    """Bits 1, 2 for the real and imaginary part of channel 0; 4, 8 for those of channel 1; strictly above."""
    w = np.array([[[3, -3j, 0, 0, 2]], [[0, 0, -3, 3j, 3 + 2j]]])
    np.testing.assert_array_equal(reference.support(w, 2), [[1, 2, 4, 8, 4]])


def test_symbol_by_hand():
    np.testing.assert_allclose(reference.symbol((1, 4)), [[4, 2, 0, 2]], atol=1e-15)
    np.testing.assert_allclose(reference.symbol((3, 2)), [[7, 3], [4, 0], [7, 3]], atol=1e-14)


def test_objective_by_hand():
    """1/2 |A x - y|^2 + lam sum(|re| + |im|): one pixel of 3 + 4j on 2 x 2, all frequencies sampled, y = 0."""
    x = np.array([[3 + 4j, 0], [0, 0]])
    assert reference.objective(x, np.zeros(4), np.ones((2, 2), bool), 0.5) == pytest.approx(12.5 + 0.5 * 4 * 7)


# --- k-space ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 5), (5, 4), (1, 6), (7, 1), (1, 1), (6, 6), (3, 3)], ids=str)
def test_matrices_by_definition(rng, shape):
    """A with both origins at n // 2, for odd and even sizes, samples in C order; D entry by entry; their adjoints."""
    mask, x, d = draw_mask(rng, shape), draw(rng, *shape), draw(rng, 2, *shape)
    A, D, plan = laws.dense_fourier(mask), laws.dense_grad(shape), reference.Plan(mask)
    y = draw(rng, int(mask.sum()))
    np.testing.assert_allclose(laws.stack(plan.forward(x)), A @ laws.stack(x), atol=DOUBLE)
    np.testing.assert_allclose(laws.stack(plan.adjoint(y)), A.T @ laws.stack(y), atol=DOUBLE)
    np.testing.assert_allclose(laws.stack(reference.grad(x)), D @ laws.stack(x), atol=DOUBLE)
    np.testing.assert_allclose(laws.stack(reference.grad_adjoint(d)), D.T @ laws.stack(d), atol=DOUBLE)
    inverse = np.linalg.inv(A.T @ A + RHO * D.T @ D)
    np.testing.assert_allclose(laws.stack(plan.resolvent(x, RHO)), inverse @ laws.stack(x), atol=DOUBLE)


@pytest.mark.parametrize("shape", [(4, 5), (5, 4), (1, 6), (7, 7)], ids=str)
def test_an_impulse_at_the_origin_is_flat_and_a_constant_is_an_impulse(shape):
    origin = shape[0] // 2, shape[1] // 2
    impulse = np.zeros(shape)
    impulse[origin] = 1
    flat = np.full(shape, 1 / np.sqrt(impulse.size))
    np.testing.assert_allclose(reference.fourier(impulse), flat, atol=DOUBLE)
    np.testing.assert_allclose(reference.fourier(flat), impulse, atol=DOUBLE)
    np.testing.assert_allclose(reference.fourier_adjoint(flat), impulse, atol=DOUBLE)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fourier_laws(rng, shape):
    x, k = draw(rng, 3, *shape), draw(rng, 3, *shape)
    laws.isometry(reference.fourier, x, DOUBLE)
    laws.inverse(reference.fourier, reference.fourier_adjoint, x, DOUBLE)
    laws.adjointness(reference.fourier, reference.fourier_adjoint, x, k, DOUBLE)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_symbol_is_the_spectrum_of_the_laplacian(rng, shape):
    """F D*D x = K F x."""
    x = draw(rng, 3, *shape)
    left = reference.fourier(reference.grad_adjoint(reference.grad(x)))
    np.testing.assert_allclose(left, reference.symbol(shape) * reference.fourier(x), atol=DOUBLE)


def test_resolvent_has_no_component_where_nothing_is_known(rng):
    """Zero frequency not sampled: the pseudo-inverse of the dense normal matrix."""
    mask, x = draw_mask(rng, (4, 5), zero=False), draw(rng, 4, 5)
    A, D = laws.dense_fourier(mask), laws.dense_grad((4, 5))
    expected = np.linalg.pinv(A.T @ A + RHO * D.T @ D, rcond=1e-10) @ laws.stack(x)
    np.testing.assert_allclose(laws.stack(reference.Plan(mask).resolvent(x, RHO)), expected, atol=DOUBLE)


# --- image space -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_image_laws(rng, shape):
    w, v = draw(rng, 2, 3, 2, *shape)
    laws.adjointness(reference.grad, reference.grad_adjoint, draw(rng, 3, *shape), w, DOUBLE)
    laws.linearity(reference.grad, *draw(rng, 2, 3, *shape), (2 - 1j, 0.5j), DOUBLE)
    laws.moreau(lambda v: reference.shrink(v, 0.5), lambda v: reference.clip(v, 0.5), w, DOUBLE)
    laws.nonexpansiveness(lambda v: reference.shrink(v, 0.5), v, w, DOUBLE)
    laws.nonexpansiveness(lambda v: reference.clip(v, 0.5), v, w, DOUBLE)


def test_kernels_write_to_out(rng):
    x = draw(rng, 2, 3, 4)
    out = np.empty((2, 2, 3, 4), complex)
    assert reference.grad(x, out=out) is out
    np.testing.assert_array_equal(out, reference.grad(x))


# --- the iteration ---------------------------------------------------------------------------------------------------


def problem(rng, shape, batch=2):
    """Mask, data of boxy images, a start, a plan."""
    mask = draw_mask(rng, shape)
    plan = reference.Plan(mask)
    y = plan.forward(draw_image(rng, batch, shape))
    return mask, y + 0.01 * draw(rng, *y.shape), draw_field(rng, batch, shape, T), plan


@pytest.mark.parametrize("relax", [1.0, 1.9])
@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (6, 6), (17, 31)], ids=str)
def test_one_field_is_the_textbook(rng, shape, relax):
    """Three variables x, z, u and the one field w = z + u run the same iteration."""
    mask, y, w, plan = problem(rng, shape)
    z, u = reference.shrink(w, T), reference.clip(w, T)
    x, z, u = reference.textbook_admm(y, mask, T * RHO, RHO, relax, 20, z, u)
    state, mine = plan.state(w), np.empty_like(x)
    plan.iterate(state, y, mine, T, RHO, relax, 20)
    np.testing.assert_allclose(mine, x, atol=DOUBLE)
    np.testing.assert_allclose(state.field(), z + u, atol=DOUBLE)
    np.testing.assert_allclose(reference.shrink(state.field(), T), z, atol=DOUBLE)


@pytest.mark.parametrize("shape", [(1, 6), (4, 5), (6, 6)], ids=str)
def test_iterate_equals_dense_matrices(rng, shape):
    mask, y, w, plan = problem(rng, shape, batch=1)
    state, x = plan.state(w), np.empty((1, *shape), complex)
    plan.iterate(state, y, x, T, RHO, RELAX, 12)
    dense = laws.DenseADMM(mask, T, RHO, RELAX).run(y, w, 12)
    np.testing.assert_allclose(x[0], dense.x, atol=DOUBLE)
    np.testing.assert_allclose(state.field()[0], dense.w, atol=DOUBLE)


def converged(rng, shape, iterations):
    mask, y, w, plan = problem(rng, shape, batch=1)
    state, x = plan.state(w), np.empty((1, *shape), complex)
    plan.iterate(state, y, x, T, RHO, RELAX, iterations)
    return mask, y, plan, state, x


def test_the_limit_minimises_the_objective(rng):
    mask, y, _, _, x = converged(rng, (6, 6), 3000)
    least = reference.objective(x, y, mask, T * RHO)
    for size in (1e-4, 1e-2, 1):
        for _ in range(20):
            assert reference.objective(x + size * draw(rng, *x.shape), y, mask, T * RHO) > least * (1 - DOUBLE)


# --- the derivatives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 6), (4, 5), (6, 6)], ids=str)
def test_reverse_is_the_transposed_dense_jacobian(rng, shape):
    mask, y, w, plan = problem(rng, shape, batch=1)
    state, x, tape, g = plan.state(w), np.empty((1, *shape), complex), plan.tape(1), draw(rng, 1, *shape)
    plan.iterate(state, y, x, T, RHO, RELAX, 12, tape=tape)
    gy, gw = np.empty_like(y), np.empty_like(w)
    plan.reverse(tape, g, gy, gw, RHO, RELAX)
    cotangent = laws.DenseADMM(mask, T, RHO, RELAX).run(y, w, 12).Jx.T @ laws.stack(g)
    m = y.shape[-1]
    np.testing.assert_allclose(laws.stack(gy), cotangent[: 2 * m], atol=DOUBLE)
    np.testing.assert_allclose(laws.stack(gw), cotangent[2 * m :], atol=DOUBLE)


def test_tangent_converges_to_the_symmetric_jacobian(rng):
    """At the solution, J is A*A inverted on the images that are flat wherever D x vanishes: J = N (N*A*A N)^-1 N*."""
    mask, _, plan, state, _ = converged(rng, (6, 6), 3000)
    A, D = laws.dense_fourier(mask), laws.dense_grad((6, 6))
    flat = np.abs(laws.stack(state.field())) <= T
    assert 0 < flat.sum() < flat.size
    _, singular, Vt = np.linalg.svd(D[flat])
    N = Vt[(singular > 1e-9).sum() :].T
    J = N @ np.linalg.inv(N.T @ A.T @ A @ N) @ N.T
    g, dx = draw(rng, 1, 6, 6), np.empty((1, 6, 6), complex)
    start = plan.state(np.zeros((1, 2, 6, 6)))
    plan.tangent(start, plan.freeze(state, T), g, dx, RHO, RELAX, 3000)
    np.testing.assert_allclose(laws.stack(dx), J @ laws.stack(g), atol=1e-10)


@pytest.mark.parametrize("shape", [(5, 4), (6, 6), (17, 31)], ids=str)
def test_reverse_equals_torch_autograd_through_the_textbook_loop(rng, shape):
    torch = pytest.importorskip("torch")
    mask, y, w, plan = problem(rng, shape, batch=1)
    iterations, g = 15, draw(rng, 1, *shape)
    state, x, tape = plan.state(w), np.empty((1, *shape), complex), plan.tape(1)
    plan.iterate(state, y, x, T, RHO, RELAX, iterations, tape=tape)
    gy, gw = np.empty_like(y), np.empty_like(w)
    plan.reverse(tape, g, gy, gw, RHO, RELAX)

    axes = (-2, -1)
    diagonal = torch.from_numpy(1 / (mask + RHO * plan.symbol))
    mask = torch.from_numpy(mask)

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
        v = torch.view_as_real(v)
        return torch.view_as_complex(torch.sign(v) * torch.relu(torch.abs(v) - T))

    leaf_y, leaf_w = torch.from_numpy(y).requires_grad_(), torch.from_numpy(w).requires_grad_()
    spectrum = torch.zeros((1, *shape), dtype=torch.complex128)
    spectrum[:, mask] = leaf_y
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
